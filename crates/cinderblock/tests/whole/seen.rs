//! What whoever runs the service sees of it: its log and its measures.

use model::block::BlockDevice as _;
use serde_json::{Map, Value, json};

use crate::site::{BLOCK, Site};

const JSON: &[(&str, &str)] = &[("OS_DEFAULT__USE_JSON", "true"), ("CINDERBLOCK_LOG", "info")];

fn lines(site: &Site) -> Vec<Map<String, Value>> {
    let text = std::fs::read_to_string(site.path().join("log")).expect("a log");
    let parsed =
        text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}")));
    parsed.collect()
}

/// A request's id, as its caller is told.
async fn ask(site: &Site, method: reqwest::Method, path: &str, body: Value) -> String {
    let request = site.http.request(method, format!("http://127.0.0.1:{}{path}", site.port));
    let request = request.header("OpenStack-API-Version", "volume latest").json(&body);
    let answer = request.send().await.expect("an answer");
    assert!(answer.status().is_success(), "{path}: {}", answer.status());
    let id = answer.headers().get("x-openstack-request-id").expect("an id");
    id.to_str().expect("a text").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_done_for_a_request_is_found_by_its_id() {
    let mut site = Site::new();
    site.start_with(JSON).await;
    let body = json!({ "volume": { "size": 1, "name": "seen" } });
    let request = ask(&site, reqwest::Method::POST, "/v3/volumes", body).await;
    site.settle().await;
    let ours: Vec<_> =
        lines(&site).into_iter().filter(|line| line.get("request_id") == Some(&json!(request))).collect();
    let answered: Vec<_> = ours.iter().filter(|line| line["message"] == "answered").collect();
    assert_eq!(answered.len(), 1, "one line a request: {ours:#?}");
    let line = answered[0];
    assert_eq!(
        (&line["method"], &line["path"], &line["status"]),
        (&json!("POST"), &json!("/v3/volumes"), &json!(202))
    );
    assert!(
        line["duration_ms"].is_number() && line["user_id"].is_string() && line["level"] == "INFO",
        "{line:?}"
    );
    let ended = ours.iter().find(|line| line["message"] == "job ended");
    let ended = ended.unwrap_or_else(|| panic!("the job's lines have the id too: {ours:#?}"));
    assert_eq!((&ended["operation"], &ended["outcome"]), (&json!("volume.create"), &json!("done")));
    assert!(ended["job_id"].is_string() && ended["project_id"].is_string(), "{ended:?}");

    // Whoever watches leaves no lines.
    let before = lines(&site).len();
    for path in ["/healthcheck", "/metrics"] {
        site.call("GET", path, None).await;
    }
    assert_eq!(lines(&site).len(), before);
    site.stop().await;
}

/// The value of a measure.
fn measure(text: &str, name: &str, labels: &[&str]) -> f64 {
    let line = text.lines().find(|line| {
        let rest = line.strip_prefix(name).unwrap_or_default();
        (rest.starts_with('{') || rest.starts_with(' ')) && labels.iter().all(|label| line.contains(label))
    });
    let line = line.unwrap_or_else(|| panic!("no {name} with {labels:?} in\n{text}"));
    line.rsplit(' ').next().and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("{line}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn measures_count_what_happens() {
    let mut site = Site::new();
    site.start(None, None).await;
    let volume = site.volume(json!({ "size": 1 })).await;
    let (attachment, lun) = site.login(&volume).await;
    lun.write(0, &[1; BLOCK]).await.expect("writes");
    lun.read(0, &mut [0; BLOCK]).await.expect("reads");
    let text = site.call("GET", "/metrics", None).await;
    let text = text.as_str().expect("a text");
    let of = |name: &str, labels: &[&str]| measure(text, name, labels);
    assert!(
        of(
            "cinderblock_api_request_seconds_count",
            &["method=\"POST\"", "route=\"/volumes\"", "status=\"202\""]
        ) >= 1.0
    );
    assert_eq!(
        of("cinderblock_job_seconds_count", &["operation=\"volume.create\"", "outcome=\"done\""]),
        1.0
    );
    assert_eq!(
        of("cinderblock_job_step_seconds_count", &["operation=\"volume.connect\"", "step=\"serve\""]),
        1.0
    );
    assert_eq!(of("cinderblock_job_wait_seconds_count", &["operation=\"volume.create\""]), 1.0);
    assert_eq!(of("cinderblock_jobs", &["operation=\"backup.create\"", "state=\"queued\""]), 0.0);
    assert_eq!(of("cinderblock_jobs_waiting_for_locks", &[]), 0.0);
    assert_eq!(of("cinderblock_locks_held", &[]), 0.0);
    let gib = f64::from(1 << 30);
    assert_eq!(of("cinderblock_pool_bytes", &["@local#local", "kind=\"allocated\""]), gib);
    assert!(
        of("cinderblock_pool_bytes", &["kind=\"total\""]) >= of("cinderblock_pool_bytes", &["kind=\"free\""])
    );
    assert_eq!(of("cinderblock_service_up", &["binary=\"cinder-volume\""]), 1.0);
    assert_eq!(of("cinderblock_target_sessions", &[]), 1.0);
    assert_eq!(of("cinderblock_target_volumes", &[]), 1.0);
    assert!(of("cinderblock_target_commands_total", &[]) >= 2.0);
    assert!(of("cinderblock_target_written_bytes_total", &[]) >= BLOCK as f64);
    assert!(of("cinderblock_target_read_bytes_total", &[]) >= BLOCK as f64);
    assert!(text.contains("# HELP cinderblock_job_seconds "), "measures say what they are");

    // Counters do not go back when sessions end.
    lun.close().await.expect("logs out");
    site.call("DELETE", &format!("/v3/attachments/{attachment}"), None).await;
    let text = site.call("GET", "/metrics", None).await;
    let text = text.as_str().expect("a text");
    assert_eq!(measure(text, "cinderblock_target_sessions", &[]), 0.0);
    assert!(measure(text, "cinderblock_target_written_bytes_total", &[]) >= BLOCK as f64);
    site.stop().await;
}
