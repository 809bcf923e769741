//! Attachments as hosts meet them: logging in with what the connection info says, reading, writing, being cut off.

mod support;

use std::io;
use std::sync::Arc;

use db::export::Of;
use iscsi::{InitiatorConfig, InitiatorError, RemoteLun};
use model::block::BlockDevice as _;
use model::job::Claim;
use model::{AttachMode, Attachment, GiB, Secret, VolumeId};
use support::{BACKEND, Process, Site, attach, connector, initiator, member};

const BLOCK: usize = 4096;

async fn login(attachment: &Attachment) -> Arc<RemoteLun> {
    RemoteLun::connect(initiator(attachment)).await.expect("logs in")
}

async fn refused(config: InitiatorConfig) {
    match RemoteLun::connect(config).await {
        Err(InitiatorError::Refused { class: 2, .. }) => {}
        other => panic!("not refused: {other:?}"),
    }
}

async fn attached(process: &Process, id: VolumeId, host: &str, mode: Option<AttachMode>) -> Attachment {
    let one = process.cloud.attachment_create(&member(), attach(id, host, mode)).await.expect("attaches");
    process.cloud.attachment_complete(&member(), one.id).await.expect("completes");
    one
}

async fn read(lun: &RemoteLun, at: u64) -> Vec<u8> {
    let mut found = vec![0; BLOCK];
    lun.read(at, &mut found).await.expect("reads");
    found
}

#[tokio::test]
async fn hosts_that_share_a_volume_see_each_others_writes() {
    let site = Site::new();
    let process = site.start().await;
    let id = process.volume(true).await.id;
    let writer = login(&attached(&process, id, "h1", None).await).await;
    let reader = login(&attached(&process, id, "h2", None).await).await;
    assert_eq!(writer.size(), 1 << 30);
    assert_eq!(process.target().sessions().len(), 2);
    writer.write(8 << 20, &[7; BLOCK]).await.expect("writes");
    assert_eq!(read(&reader, 8 << 20).await, vec![7; BLOCK]);
    assert_eq!(read(&reader, 9 << 20).await, vec![0; BLOCK], "I7: nothing but zeros where nobody wrote");
    process.stop().await;
}

#[tokio::test]
async fn i8_a_read_only_attachment_cannot_write() {
    let site = Site::new();
    let process = site.start().await;
    let id = process.volume(true).await.id;
    let writer = login(&attached(&process, id, "h1", None).await).await;
    let reader = login(&attached(&process, id, "h2", Some(AttachMode::ReadOnly)).await).await;
    writer.write(0, &[1; BLOCK]).await.expect("writes");
    let error = reader.write(0, &[2; BLOCK]).await.expect_err("is refused");
    assert_eq!(error.kind(), io::ErrorKind::ReadOnlyFilesystem, "{error}");
    assert_eq!(read(&reader, 0).await, vec![1; BLOCK]);
    process.stop().await;
}

#[tokio::test]
async fn i8_only_the_attached_initiator_with_its_own_secret_is_admitted() {
    let site = Site::new();
    let process = site.start().await;
    let id = process.volume(true).await.id;
    let one = attached(&process, id, "h1", None).await;
    let two = attached(&process, id, "h2", None).await;
    let mut stranger = initiator(&one);
    stranger.initiator = "iqn.2026-01.test:h3".into();
    refused(stranger).await;
    let mut guessing = initiator(&one);
    let chap = guessing.chap.as_mut().expect("credentials");
    chap.secret = Secret::new("not the secret 1".into());
    refused(guessing).await;
    let mut borrowed = initiator(&one);
    borrowed.chap = initiator(&two).chap;
    refused(borrowed).await;
    let mut silent = initiator(&one);
    silent.chap = None;
    assert!(RemoteLun::connect(silent).await.is_err());
    process.stop().await;
}

#[tokio::test]
async fn i8_deleting_an_attachment_cuts_its_session_in_the_middle_of_writes() {
    let site = Site::new();
    let process = site.start().await;
    let id = process.volume(true).await.id;
    let one = attached(&process, id, "h1", None).await;
    let other = login(&attached(&process, id, "h2", None).await).await;
    let mut config = initiator(&one);
    config.limits.reconnect = std::time::Duration::from_secs(1);
    let lun = RemoteLun::connect(config).await.expect("logs in");
    let writing = tokio::spawn(async move {
        let mut last = 0u8;
        loop {
            let next = last.wrapping_add(1);
            match lun.write(0, &[next; BLOCK]).await {
                Ok(()) => last = next,
                Err(error) => return (last, error),
            }
        }
    });
    while process.target().sessions().iter().all(|session| session.commands < 50) {
        tokio::task::yield_now().await;
    }
    process.cloud.attachment_delete(&member(), one.id).await.expect("deletes");
    // From here on nothing of the first host's changes the volume.
    let sessions = process.target().sessions();
    assert_eq!(sessions.len(), 1);
    assert_eq!(sessions[0].initiator, "iqn.2026-01.test:h2");
    let after = read(&other, 0).await;
    refused(initiator(&one)).await;
    let (acknowledged, _) = writing.await.expect("ends");
    assert!(
        after[0] == acknowledged || after[0] == acknowledged.wrapping_add(1),
        "no acknowledged write is lost"
    );
    assert_eq!(read(&other, 0).await, after, "no write arrives afterwards");
    process.stop().await;
}

#[tokio::test]
async fn i5_a_restart_serves_a_host_on_as_if_nothing_had_been() {
    let site = Site::new();
    let process = site.start().await;
    let id = process.volume(false).await.id;
    let lun = login(&attached(&process, id, "h1", None).await).await;
    lun.write(0, &[3; BLOCK]).await.expect("writes");
    lun.flush().await.expect("flushes");
    process.stop().await;
    let process = site.start().await;
    assert_eq!(
        read(&lun, 0).await,
        vec![3; BLOCK],
        "the same session, with the same secret, at the same portal"
    );
    lun.write(BLOCK as u64, &[4; BLOCK]).await.expect("writes");
    lun.flush().await.expect("flushes");
    process.stop().await;
}

#[tokio::test]
async fn a_host_learns_that_its_volume_has_grown() {
    let site = Site::new();
    let process = site.start().await;
    let volume = process.volume(false).await;
    let lun = login(&attached(&process, volume.id, "h1", None).await).await;
    let driver = &process.node.backends[BACKEND];
    let reference = control::volume::reference(&volume);
    driver.extend_volume(&reference, GiB(2), &Claim::unbounded()).await.expect("grows");
    process.node.capacity_changed(volume.id, GiB(2)).await.expect("tells");
    read(&lun, 0).await;
    assert_eq!(lun.refresh_size().await.expect("asks"), 2 << 30);
    assert_eq!(read(&lun, (2 << 30) - BLOCK as u64).await, vec![0; BLOCK]);
    process.node.capacity_changed(VolumeId::new(), GiB(2)).await.expect("of no concern here");
    process.stop().await;
}

#[tokio::test]
async fn old_style_and_new_style_of_one_host_share_an_export() {
    let site = Site::new();
    let process = site.start().await;
    let cloud = &process.cloud;
    let id = process.volume(true).await.id;
    let one = attached(&process, id, "h1", None).await;
    let lun = login(&one).await;
    cloud.volume_initialize_connection(&member(), id, connector("h1")).await.expect("connects");
    assert_eq!(process.exports(id).await.len(), 1);
    cloud.volume_terminate_connection(&member(), id, Some(connector("h1"))).await.expect("terminates");
    assert_eq!(read(&lun, 0).await, vec![0; BLOCK], "the attachment needs it still");
    cloud.attachment_delete(&member(), one.id).await.expect("deletes");
    assert!(process.target().sessions().is_empty());
    process.stop().await;
}

#[tokio::test]
async fn persistent_reservations_end_with_the_last_export() {
    let site = Site::new();
    let process = site.start().await;
    let cloud = &process.cloud;
    let id = process.volume(true).await.id;
    let one = attached(&process, id, "h1", None).await;
    let two = attached(&process, id, "h2", None).await;
    let state = serde_json::to_string(&iscsi::ReservationState::default()).expect("JSON");
    let mut tx = cloud.db.begin().await.expect("a transaction");
    db::export::store_reservations(&mut tx, &id.to_string(), Some(&state)).await.expect("stores");
    cloud.commit(tx).await.expect("commits");
    let stored = async || {
        let read = db::export::reservations(&mut cloud.db.read(), &id.to_string()).await;
        read.expect("reads").is_some()
    };
    cloud.attachment_delete(&member(), one.id).await.expect("deletes");
    assert!(stored().await);
    cloud.attachment_delete(&member(), two.id).await.expect("deletes");
    assert!(!stored().await, "the next host must not meet them");
    process.stop().await;
}

#[tokio::test]
async fn a_new_export_of_a_host_has_a_new_secret() {
    let site = Site::new();
    let process = site.start().await;
    let id = process.volume(false).await.id;
    let first = attached(&process, id, "h1", None).await;
    process.cloud.attachment_delete(&member(), first.id).await.expect("deletes");
    let second = attached(&process, id, "h1", None).await;
    refused(initiator(&first)).await;
    login(&second).await;
    // An export that is ending admits nobody, also when its row is met by a restart.
    let mut tx = process.cloud.db.begin().await.expect("a transaction");
    db::export::release(&mut tx, id, &second.id.to_string(), Of::Any).await.expect("releases");
    process.cloud.commit(tx).await.expect("commits");
    process.stop().await;
    let process = site.start().await;
    refused(initiator(&second)).await;
    process.stop().await;
}
