//! The disk of the database without a free block: requests are refused with a clear answer, what was accepted before is not lost, and
//! the service goes on by itself once there is room (I1).

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::site::Site;
use crate::small::Small;

const ENVIRONMENT: &[(&str, &str)] = &[
    ("OS_DEFAULT__CINDERBLOCK_LEASE", "2"),
    ("OS_DEFAULT__QUOTA_VOLUMES", "-1"),
    ("OS_DEFAULT__QUOTA_GIGABYTES", "-1"),
];

async fn create(site: &Site) -> (u16, Value) {
    let body = json!({ "volume": { "size": 1 } });
    site.try_call("POST", "/v3/volumes", Some(body)).await.expect("the service is alive")
}

#[tokio::test(flavor = "multi_thread")]
async fn i1_a_full_database_refuses_loses_nothing_and_goes_on() {
    let mut site = Site::new();
    // The database, its log and the service's own log are on one disk; volumes are elsewhere.
    let small = Small::at(site.path().join("small"), 32);
    std::os::unix::fs::symlink("small/cinderblock.db", site.path().join("cinderblock.db")).expect("a link");
    std::os::unix::fs::symlink("small/log", site.path().join("log")).expect("a link");
    site.start_with(ENVIRONMENT).await;
    let first = site.volume(json!({ "size": 1 })).await;
    small.fill();

    let mut accepted = vec![first];
    let refused = loop {
        let (status, body) = create(&site).await;
        if status == 202 {
            accepted.push(body["volume"]["id"].as_str().expect("an id").to_owned());
            assert!(accepted.len() < 3000, "it never fills");
            continue;
        }
        break (status, body);
    };
    assert_eq!(refused.0, 503, "{}", refused.1);
    let fault = &refused.1["serviceUnavailable"];
    assert_eq!(fault["code"], 503);
    assert!(fault["message"].as_str().is_some_and(|text| text.contains("out of space")), "{fault}");
    // Whoever only looks is served.
    let shown = site.call("GET", &format!("/v3/volumes/{}", accepted[0]), None).await;
    assert_eq!(shown["volume"]["status"], "available");
    assert_eq!(site.try_call("GET", "/healthcheck", None).await.expect("alive").0, 200);
    let (status, body) = create(&site).await;
    assert_eq!(status, 503, "still alive, still refusing: {body}\n{}", site.log());

    small.free();
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        let (status, body) = create(&site).await;
        if status == 202 {
            accepted.push(body["volume"]["id"].as_str().expect("an id").to_owned());
            break;
        }
        assert!(Instant::now() < until, "it does not go on: {body}\n{}", site.log());
        tokio::time::sleep(Duration::from_millis(50)).await; // as a client tries again
    }
    site.settle().await;
    let listed = site.call("GET", "/v3/volumes/detail?limit=1000", None).await;
    let mut there: Vec<String> = Vec::new();
    for volume in listed["volumes"].as_array().expect("a list") {
        assert_eq!(volume["status"], "available", "{volume}");
        there.push(volume["id"].as_str().expect("an id").to_owned());
    }
    there.sort_unstable();
    accepted.sort_unstable();
    assert_eq!(there, accepted, "what was accepted, and nothing else");
    site.call("DELETE", &format!("/v3/volumes/{}", accepted[0]), None).await;
    site.settle().await;
    site.stop().await;
    let report = site.report().await;
    assert!(report.findings.is_empty(), "{:#?}", report.findings);
    drop(small);
}
