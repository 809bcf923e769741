//! Jobs over HTTP, where nobody carries them out: each stays as the test has put it.

mod common;

use common::{PROJECT, Service};
use db::job::{Claimed, Next};
use model::JobId;
use serde_json::{Value, json};

const LEASE_US: i64 = 60_000_000;

/// The jobs of a volume as its owner sees them.
async fn job_of(service: &Service, volume: &str) -> Value {
    let reply =
        service.call(71, "GET", &format!("/cinderblock/v1/jobs?resource_id={volume}"), Value::Null).await;
    reply.json()["jobs"][0].clone()
}

async fn create(service: &Service, body: Value) -> String {
    let made = service.call(71, "POST", "/v3/volumes", json!({ "volume": body })).await;
    made.json()["volume"]["id"].as_str().unwrap_or_else(|| panic!("{}", made.text)).to_owned()
}

async fn claim(service: &Service, job: &Value) -> model::job::Job {
    let id: JobId = job["id"].as_str().and_then(|id| id.parse().ok()).expect("an id");
    match db::job::claim(&service.cloud.db, id, "test", LEASE_US).await.expect("answers") {
        Claimed::Yes(job) => *job,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_job_says_what_it_waits_for() {
    let service = Service::start(api::Auth::Open).await;
    let volume = create(&service, json!({ "size": 1 })).await;
    let queued = job_of(&service, &volume).await;
    assert_eq!(queued["waits"]["for"], "turn", "no scheduler has registered, none is down: {queued}");
    assert_eq!((&queued["step"], &queued["steps"]), (&json!("place"), &json!(["place", "build"])));
    assert_eq!((&queued["attempts"], &queued["can_be_cancelled"]), (&json!(0), &json!(true)));

    let mut running = claim(&service, &queued).await;
    let shown = job_of(&service, &volume).await;
    assert_eq!(
        (&shown["state"], &shown["waits"], &shown["attempts"]),
        (&json!("running"), &Value::Null, &json!(1))
    );

    // What another has locked is waited for, and it says who has it.
    let lock = model::job::Lock::shared(format!("{volume}-delete_volume"));
    let second = JobId::new();
    let mut tx = service.cloud.db.begin().await.expect("begins");
    let resource = model::job::ResourceRef { kind: "snapshot".into(), id: JobId::new().to_string() };
    let new = db::job::NewJob {
        id: second,
        operation: "snapshot.create",
        resource,
        project_id: Some(PROJECT.into()),
        user_id: None,
        request_id: None,
        queue: "cinder-volume.node@local".into(),
        request: json!({}),
        locks: vec![lock],
    };
    db::job::insert(&mut tx, new).await.expect("inserts");
    service.cloud.commit(tx).await.expect("commits");
    let path = format!("/cinderblock/v1/jobs/{second}");
    let waits = service.call(71, "GET", &path, Value::Null).await.json()["job"]["waits"].clone();
    assert_eq!((&waits["for"], &waits["job"]), (&json!("lock"), &queued["id"]), "{waits}");
    assert!(waits["message"].as_str().is_some_and(|text| text.contains("volume.create")), "{waits}");

    // A try that met something that may pass says what, and when the next one is.
    if let Some(data) = running.data.as_object_mut() {
        data.insert("waits".into(), json!({ "busy": "volume-x is open elsewhere" }));
    }
    let mut tx = service.cloud.db.begin().await.expect("begins");
    let next = Next::Later { delay_us: LEASE_US, error: "file driver: volume-x is open elsewhere".into() };
    db::job::advance(&mut tx, &running, next).await.expect("advances");
    service.cloud.commit(tx).await.expect("commits");
    let shown = job_of(&service, &volume).await;
    assert_eq!((&shown["state"], &shown["waits"]["for"]), (&json!("queued"), &json!("retry")), "{shown}");
    assert!(shown["waits"]["until"].is_string(), "{shown}");
    assert!(
        shown["waits"]["message"].as_str().is_some_and(|text| text.contains("open elsewhere")),
        "{shown}"
    );

    // Asked to stop, it does not wait any longer.
    let cancel = format!("/cinderblock/v1/jobs/{}/cancel", running.id);
    let answer = service.call(71, "POST", &cancel, Value::Null).await.json();
    assert_eq!(answer["job"]["cancel_requested"], true, "{answer}");
    assert_eq!(answer["job"]["can_be_cancelled"], false, "it was");
    assert_eq!(answer["job"]["waits"]["for"], "turn", "{answer}");
}

#[tokio::test]
async fn a_job_that_was_cancelled_before_it_began_needs_no_locks() {
    let service = Service::start(api::Auth::Open).await;
    let volume = create(&service, json!({ "size": 1 })).await;
    let first = job_of(&service, &volume).await;
    let held = claim(&service, &first).await;
    let second = JobId::new();
    let mut tx = service.cloud.db.begin().await.expect("begins");
    let new = db::job::NewJob {
        id: second,
        operation: "snapshot.create",
        resource: model::job::ResourceRef { kind: "snapshot".into(), id: second.to_string() },
        project_id: Some(PROJECT.into()),
        user_id: None,
        request_id: None,
        queue: "q".into(),
        request: json!({}),
        locks: held.locks.clone(),
    };
    db::job::insert(&mut tx, new).await.expect("inserts");
    service.cloud.commit(tx).await.expect("commits");
    let queues = ["q".to_owned()];
    let claimable =
        async || db::job::claimable(&service.cloud.db, &queues, 10, LEASE_US).await.expect("answers");
    assert!(claimable().await.is_empty(), "its lock is held");
    let cancel = format!("/cinderblock/v1/jobs/{second}/cancel");
    assert!(service.call(71, "POST", &cancel, Value::Null).await.status.is_success());
    assert_eq!(claimable().await, [second]);
    let claimed = db::job::claim(&service.cloud.db, second, "test", LEASE_US).await.expect("answers");
    assert!(matches!(claimed, Claimed::Yes(job) if job.cancel_requested && job.locks.is_empty()));
    let kept = db::job::held(&mut service.cloud.db.read()).await.expect("answers");
    assert!(kept.iter().all(|lock| lock.job == held.id), "{kept:?}");
}
