//! Attachments when things go wrong or come at once: failing and busy backends, repeated and withdrawn requests, a target that
//! is away, many clients at one volume.

mod support;

use control::Cloud;
use control::error::Error;
use drivers::{Driver as _, ErrorKind, OpenMode, Openable};
use model::job::Job;
use model::list::ListQuery;
use model::{AttachStatus, Attachment, AttachmentId, Connector, VolumeId, VolumeStatus};
use support::{PATIENCE, Part, SERVER, Site, admin, attach, connector, initiator, member, reserve};
use tokio::task::JoinHandle;
use tokio::time::Instant;

type Asking = JoinHandle<control::Result<Attachment>>;

/// Asks for a connector in the background.
fn ask(cloud: &Cloud, id: AttachmentId, connector: Connector) -> Asking {
    let cloud = cloud.clone();
    tokio::spawn(async move { cloud.attachment_update(&member(), id, connector).await })
}

/// Looks until something is so; work in other tasks and processes gives no other sign.
async fn until<F: Future<Output = bool>>(what: &str, mut so: impl FnMut() -> F) {
    let end = Instant::now() + PATIENCE;
    while !so().await {
        assert!(Instant::now() < end, "it never comes to this: {what}");
        tokio::task::yield_now().await;
    }
}

async fn active(cloud: &Cloud) -> Vec<Job> {
    let wanted = db::job::Wanted { active: true, limit: 100, ..db::job::Wanted::default() };
    db::job::list(&mut cloud.db.read(), &wanted).await.expect("jobs")
}

async fn messages(cloud: &Cloud, about: VolumeId) -> usize {
    let query = ListQuery::all(Some("project".into()));
    let told = cloud.message_list(&member(), &query).await.expect("messages").items;
    told.iter().filter(|one| one.resource_uuid.as_deref() == Some(&about.to_string())).count()
}

#[tokio::test]
async fn a_create_that_cannot_connect_leaves_nothing_but_a_message() {
    let site = Site::new();
    let process = site.start().await;
    let id = process.volume(false).await.id;
    process.driver.fail("open", ErrorKind::Backend);
    let refused = process.cloud.attachment_create(&member(), attach(id, "h1", None)).await;
    assert_eq!(refused.expect_err("fails").to_string(), "Unable to create attachment for volume.");
    let volume = process.see(id).await;
    assert_eq!(volume.status, VolumeStatus::Available);
    assert!(volume.attachments.is_empty() && process.exports(id).await.is_empty());
    assert_eq!(messages(&process.cloud, id).await, 1);
    process.stop().await;
}

#[tokio::test]
async fn an_update_that_fails_keeps_the_reservation_and_may_be_repeated() {
    let site = Site::new();
    let process = site.start().await;
    let cloud = &process.cloud;
    let id = process.volume(false).await.id;
    let one = cloud.attachment_create(&member(), reserve(id, SERVER)).await.expect("reserves");
    process.driver.fail("open", ErrorKind::Backend);
    let refused = cloud.attachment_update(&member(), one.id, connector("h1")).await;
    assert_eq!(refused.expect_err("fails").to_string(), "Unable to update the attachment.");
    let volume = process.see(id).await;
    assert_eq!(volume.status, VolumeStatus::Reserved);
    assert_eq!(volume.attachments[0].status, AttachStatus::Reserved);
    assert!(process.exports(id).await.is_empty());
    let connected = cloud.attachment_update(&member(), one.id, connector("h1")).await.expect("connects");
    assert_eq!(connected.status, AttachStatus::Attaching);
    process.stop().await;
}

#[tokio::test]
async fn an_attach_waits_for_a_volume_that_another_process_has_open() {
    let site = Site::new();
    let volumes = site.start_parts(&[Part::Volume]).await;
    let target = site.start_parts(&[Part::Target]).await;
    let volume = volumes.volume(false).await;
    let reference = control::volume::reference(&volume);
    let held = volumes.driver.open(Openable::Volume(&reference), OpenMode::Write).await.expect("opens");
    let one = volumes.cloud.attachment_create(&member(), reserve(volume.id, SERVER)).await.expect("reserves");
    let asking = ask(&volumes.cloud, one.id, connector("h1"));
    until("a try met the other owner", async || {
        active(&volumes.cloud).await.iter().any(|job| job.error.is_some())
    })
    .await;
    drop(held);
    asking.await.expect("runs").expect("connects");
    volumes.stop().await;
    target.leave().await;
}

#[tokio::test]
async fn a_repeated_update_joins_the_one_under_way() {
    let site = Site::new();
    let process = site.start().await;
    let cloud = &process.cloud;
    let id = process.volume(false).await.id;
    let one = cloud.attachment_create(&member(), reserve(id, SERVER)).await.expect("reserves");
    let gate = process.driver.hold("open", 1);
    let first = ask(cloud, one.id, connector("h1"));
    gate.reached().await;
    let second = ask(&site.cloud().await, one.id, connector("h1"));
    let same = cloud.clone();
    let third = tokio::spawn(async move { same.attachment_update(&member(), one.id, connector("h1")).await });
    assert_eq!(active(cloud).await.len(), 1, "one job");
    gate.open();
    let secrets = [first.await, second.await, third.await].map(|answer| {
        let attachment = answer.expect("runs").expect("connects");
        attachment.connection_info.expect("connection info").data["auth_password"].clone()
    });
    assert!(secrets.iter().all(|secret| *secret == secrets[0]));
    process.stop().await;
}

#[tokio::test]
async fn another_connector_takes_the_place_of_one_under_way() {
    for site in Site::on_every_database() {
        another_connector_takes_the_place_of_one_under_way_on(site).await;
    }
}

async fn another_connector_takes_the_place_of_one_under_way_on(site: Site) {
    let process = site.start().await;
    let cloud = &process.cloud;
    let id = process.volume(false).await.id;
    let one = cloud.attachment_create(&member(), reserve(id, SERVER)).await.expect("reserves");
    let gate = process.driver.hold("open", 1);
    let first = ask(cloud, one.id, connector("h1"));
    gate.reached().await;
    let second = ask(cloud, one.id, connector("h2"));
    until("the first is told to stop", async || active(cloud).await.iter().all(|job| job.cancel_requested))
        .await;
    gate.open();
    assert!(first.await.expect("runs").is_err());
    let connected = second.await.expect("runs").expect("connects");
    assert_eq!(connected.attached_host.as_deref(), Some("h2"));
    let exports = process.exports(id).await;
    assert_eq!(exports.len(), 1);
    assert_eq!(exports[0].initiator, "iqn.2026-01.test:h2");
    process.stop().await;
}

#[tokio::test]
async fn a_withdrawn_repetition_does_not_cut_what_was_there() {
    let site = Site::new();
    let process = site.start().await;
    let id = process.volume(false).await.id;
    let one = process.cloud.attachment_create(&member(), attach(id, "h1", None)).await.expect("attaches");
    let lun = iscsi::RemoteLun::connect(initiator(&one)).await.expect("logs in");
    process.stop().await;
    // Without the target the repetition waits; it is cancelled before the target is back.
    let volumes = site.start_parts(&[Part::Volume]).await;
    let asking = ask(&volumes.cloud, one.id, connector("h1"));
    until("it waits for the target", async || {
        active(&volumes.cloud).await.iter().any(|job| job.queue == Cloud::target_queue(support::HOST))
    })
    .await;
    let mut tx = volumes.cloud.db.begin().await.expect("a transaction");
    for job in active(&volumes.cloud).await {
        db::job::cancel(&mut tx, job.id).await.expect("cancels");
    }
    volumes.cloud.commit(tx).await.expect("commits");
    let target = site.start_parts(&[Part::Target]).await;
    assert!(asking.await.expect("runs").is_err());
    let exports = volumes.exports(id).await;
    assert!(exports.len() == 1 && !exports[0].ending, "{exports:?}");
    let mut block = vec![0; 4096];
    model::BlockDevice::read(&*lun, 0, &mut block).await.expect("the host reads on");
    volumes.stop().await;
    target.leave().await;
}

#[tokio::test]
async fn i3_a_detach_ends_although_its_volume_is_gone() {
    let site = Site::new();
    let process = site.start().await;
    let id = process.volume(false).await.id;
    let one = process.cloud.attachment_create(&member(), attach(id, "h1", None)).await.expect("attaches");
    process.stop().await;
    let volumes = site.start_parts(&[Part::Volume]).await;
    let cloud = volumes.cloud.clone();
    let deleting = tokio::spawn(async move { cloud.attachment_delete(&member(), one.id).await });
    until("it waits for the target", async || !active(&volumes.cloud).await.is_empty()).await;
    // Another program removes the volume's row.
    let mut tx = volumes.cloud.db.begin().await.expect("a transaction");
    let (op, outcome) = (model::transition::VolumeOp::Delete, db::transition::Outcome::Done);
    db::transition::finish_volume(&mut tx, id, op, outcome, db::event::By::default()).await.expect("removes");
    volumes.cloud.commit(tx).await.expect("commits");
    let target = site.start_parts(&[Part::Target]).await;
    volumes.settled().await;
    drop(deleting.await.expect("runs"));
    until("the export is gone", async || volumes.exports(id).await.is_empty()).await;
    assert!(target.target().volumes().is_empty());
    volumes.leave().await;
    target.leave().await;
}

#[tokio::test]
async fn a_service_that_is_away_is_told_to_the_client_and_the_work_is_done_later() {
    let site = Site::impatient();
    let process = site.start().await;
    let id = process.volume(false).await.id;
    let one = process.cloud.attachment_create(&member(), attach(id, "h1", None)).await.expect("attaches");
    process.stop().await;
    let volumes = site.start_parts(&[Part::Volume]).await;
    let late = volumes.cloud.attachment_delete(&member(), one.id).await;
    assert!(matches!(late, Err(Error::Unavailable(_))), "{late:?}");
    assert_eq!(volumes.see(id).await.attachments.len(), 1, "I8: its session may still live");
    let target = site.start_parts(&[Part::Target]).await;
    volumes.settled().await;
    assert!(volumes.see(id).await.attachments.is_empty());
    volumes.stop().await;
    target.leave().await;
}

#[tokio::test]
async fn i8_what_ends_has_ended_although_the_volume_cannot_be_served() {
    let site = Site::new();
    let process = site.start().await;
    let id = process.volume(true).await.id;
    let mut attachments = Vec::new();
    for host in ["h1", "h2"] {
        let one = process.cloud.attachment_create(&member(), attach(id, host, None)).await.expect("attaches");
        process.cloud.attachment_complete(&member(), one.id).await.expect("completes");
        attachments.push(one);
    }
    process.stop().await;
    let both = [Part::Volume, Part::Target];
    let broken =
        |driver: &support::TestDriver| (0..1000).for_each(|_| driver.fail("open", ErrorKind::Backend));
    let process = site.start_scripted(&both, broken).await;
    assert!(process.target().volumes().is_empty(), "it cannot be opened");
    process.cloud.attachment_delete(&member(), attachments[0].id).await.expect("deletes");
    let exports = process.exports(id).await;
    assert!(exports.len() == 1 && exports[0].initiator == "iqn.2026-01.test:h2", "{exports:?}");
    process.stop().await;

    let once = |driver: &support::TestDriver| driver.fail("open", ErrorKind::Busy);
    let process = site.start_scripted(&both, once).await;
    until("the target tries again", async || process.target().volumes() == [id]).await;
    let lun = iscsi::RemoteLun::connect(initiator(&attachments[1])).await.expect("logs in");
    lun.close().await.expect("logs out");
    process.stop().await;
}

/// A client that attaches, uses and detaches, and meets every refusal with patience.
async fn client(cloud: Cloud, volume: VolumeId, host: String, rounds: usize) {
    for round in 0..rounds {
        let one = loop {
            match cloud.attachment_create(&member(), attach(volume, &host, None)).await {
                Ok(one) => break one,
                Err(Error::InvalidVolume(_)) => tokio::task::yield_now().await,
                Err(other) => panic!("{host} in round {round}: {other}"),
            }
        };
        cloud.attachment_complete(&member(), one.id).await.expect("completes");
        let lun = iscsi::RemoteLun::connect(initiator(&one)).await.expect("logs in");
        let block = vec![round as u8; 4096];
        model::BlockDevice::write(&*lun, 0, &block).await.expect("writes");
        lun.close().await.expect("logs out");
        cloud.attachment_delete(&member(), one.id).await.expect("deletes");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i5_many_clients_at_one_volume_leave_it_as_it_was() {
    for site in Site::on_every_database() {
        i5_many_clients_at_one_volume_leave_it_as_it_was_on(site).await;
    }
}

async fn i5_many_clients_at_one_volume_leave_it_as_it_was_on(site: Site) {
    let process = site.start().await;
    let id = process.volume(true).await.id;
    let mut clients = Vec::new();
    for n in 0..4 {
        // Two clients on each of two hosts, each through an API process of its own.
        let cloud = site.cloud().await;
        clients.push(tokio::spawn(client(cloud, id, format!("h{}", n % 2), 5)));
    }
    for one in clients {
        one.await.expect("ends well");
    }
    assert!(process.exports(id).await.is_empty());
    assert!(process.target().volumes().is_empty());
    let volume = process.cloud.volume_show(&admin(), id).await.expect("shows");
    assert_eq!(volume.status, VolumeStatus::Available);
    process.stop().await;
}
