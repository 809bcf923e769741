//! A process stopped past its lease and resumed changes nothing that another has taken over (I4), shown for restore, which overwrites
//! in place: by the checksum of what the other has made of it.

use std::time::{Duration, Instant};

use model::job::JobState;
use rustix::process::{Signal, kill_process};
use serde_json::json;

use crate::site::Site;

const LEASE: u64 = 2;

#[tokio::test(flavor = "multi_thread")]
async fn i4_a_restore_stopped_past_its_lease_changes_nothing_when_it_goes_on() {
    let mut site = Site::new();
    site.start(None, None).await;
    let volume = site.volume(json!({ "size": 1 })).await;
    site.stop().await;
    site.fill_all(&volume, 7).await;
    site.start(None, None).await;
    let backup = site.backup(&volume, false).await;
    site.stop().await;
    site.fill_all(&volume, 99).await;
    site.start_with_lease(LEASE).await;
    let path = format!("/v3/backups/{backup}/restore");
    site.call("POST", &path, Some(json!({ "restore": { "volume_id": volume } }))).await;
    let db = site.database().await;
    let wanted = db::job::Wanted { active: true, limit: 1, ..db::job::Wanted::default() };
    let until = Instant::now() + Duration::from_secs(20);
    let running = loop {
        let jobs = db::job::list(&mut db.read(), &wanted).await.expect("reads");
        match jobs.into_iter().next() {
            Some(job) if job.state == JobState::Running => break job,
            other => assert!(Instant::now() < until, "the restore does not begin: {other:?}"),
        }
    };
    kill_process(site.pid(), Signal::STOP).expect("stops");
    let _helper = site.helper(LEASE);
    // Another claim, while the first process holds the volume: it can only wait.
    let until = Instant::now() + Duration::from_secs(30);
    let taken = loop {
        let job = db::job::get(&mut db.read(), running.id).await.expect("reads").expect("is there");
        if job.epoch > running.epoch {
            break job;
        }
        assert!(Instant::now() < until, "nobody takes the job over: {job:?}");
        tokio::time::sleep(Duration::from_millis(20)).await; // another process's work: nothing rings here
    };
    assert_eq!(taken.steps_done, 0, "the volume is the stopped process's; nothing can be restored to it");
    kill_process(site.pid(), Signal::CONT).expect("goes on");
    site.settle().await;
    let ended = db::job::get(&mut db.read(), running.id).await.expect("reads").expect("is there");
    assert_eq!(ended.state, JobState::Done, "{ended:?}");
    assert!(ended.epoch > running.epoch, "the stopped claim cannot have ended it");
    db.close().await;
    site.until(&format!("/v3/volumes/{volume}"), "volume", &["available"]).await;
    site.stop().await;
    site.check(&volume, 7).await;
}
