//! Attachments and old-style connections: states, answers, and what is exported for them.

mod support;

use control::error::Error;
use control::request::{AttachVolume, DeleteVolume, DetachVolume, ForceDetachVolume, NewAttachment};
use model::{AttachMode, AttachStatus, Attachment, AttachmentId, Connector, VolumeId, VolumeStatus};
use support::{Part, Process, SERVER, Site, admin, attach, connector, member, reserve, stranger};

const OTHER_SERVER: &str = "99999999-2222-3333-4444-555555555555";

fn text<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    result.expect_err("refused").to_string()
}

/// What a volume, its attachments and its exports look like in one line.
async fn state(process: &Process, id: VolumeId) -> String {
    let volume = process.see(id).await;
    let attachments: Vec<&str> = volume.attachments.iter().map(|one| one.status.as_str()).collect();
    let exports = process.exports(id).await.len();
    let attach = volume.attach_status.map_or("-", |status| status.as_str());
    format!("{}/{attach} {attachments:?} {exports}", volume.status)
}

fn datum<'a>(attachment: &'a Attachment, key: &str) -> &'a serde_json::Value {
    &attachment.connection_info.as_ref().expect("connection info").data[key]
}

#[tokio::test]
async fn new_style_from_reserve_to_delete() {
    for site in Site::on_every_database() {
        new_style_from_reserve_to_delete_on(site).await;
    }
}

async fn new_style_from_reserve_to_delete_on(site: Site) {
    let process = site.start().await;
    let cloud = &process.cloud;
    let id = process.volume(false).await.id;

    let reserved = cloud.attachment_create(&member(), reserve(id, SERVER)).await.expect("reserves");
    assert_eq!(reserved.status, AttachStatus::Reserved);
    assert_eq!(reserved.mode, Some(AttachMode::Unset));
    assert!(reserved.connection_info.is_none());
    assert_eq!(state(&process, id).await, "reserved/detached [\"reserved\"] 0");

    let connected = cloud.attachment_update(&member(), reserved.id, connector("h1")).await.expect("connects");
    assert_eq!(connected.status, AttachStatus::Attaching);
    assert_eq!(connected.mode, Some(AttachMode::ReadWrite));
    assert_eq!(connected.attached_host.as_deref(), Some("h1"));
    assert_eq!(connected.mountpoint.as_deref(), Some("/dev/vdb"));
    assert!(connected.attach_time.is_some());
    assert_eq!(state(&process, id).await, "attaching/attaching [\"attaching\"] 1");
    let info = connected.connection_info.as_ref().expect("connection info");
    assert_eq!(info.driver_volume_type, "iscsi");
    assert_eq!(info.data["target_discovered"], false);
    assert_eq!(info.data["target_portal"], process.target().portals()[0].to_string());
    assert_eq!(info.data["target_iqn"], format!("iqn.2010-10.org.openstack:volume-{id}"));
    assert_eq!(info.data["target_lun"], 0);
    assert_eq!(info.data["volume_id"], id.to_string());
    assert_eq!(info.data["auth_method"], "CHAP");
    assert_eq!(info.data["auth_username"].as_str().map(str::len), Some(20));
    assert_eq!(info.data["auth_password"].as_str().map(str::len), Some(16));
    assert_eq!(info.data["access_mode"], "rw");
    assert_eq!(info.data["encrypted"], false);
    assert_eq!(info.data["cacheable"], false);
    assert!(info.data["qos_specs"].is_null());
    assert!(!info.data.contains_key("target_portals"), "one portal, no multipath");

    let again = cloud.attachment_update(&member(), reserved.id, connector("h1")).await.expect("again");
    assert_eq!(datum(&again, "auth_password"), &info.data["auth_password"], "the same export");

    cloud.attachment_complete(&member(), reserved.id).await.expect("completes");
    assert_eq!(state(&process, id).await, "in-use/attached [\"attached\"] 1");
    let shown = cloud.attachment_show(&member(), reserved.id).await.expect("shows");
    assert_eq!(datum(&shown, "auth_password"), &info.data["auth_password"]);

    let left = cloud.attachment_delete(&member(), reserved.id).await.expect("deletes");
    assert!(left.is_empty());
    assert_eq!(state(&process, id).await, "available/detached [] 0");
    assert!(process.target().volumes().is_empty(), "the volume is closed");
    assert_eq!(
        text(cloud.attachment_delete(&member(), reserved.id).await),
        format!("Volume attachment could not be found with filter: attachment_id = {}.", reserved.id)
    );
    process.stop().await;
}

#[tokio::test]
async fn create_with_a_connector_attaches_in_one_call() {
    let site = Site::new();
    let process = site.start().await;
    let cloud = &process.cloud;
    let id = process.volume(false).await.id;
    let mut wanted = attach(id, "h1", None);
    let many = wanted.connector.as_mut().expect("a connector");
    many.0.insert("multipath".into(), true.into());
    many.0.remove("mountpoint");
    let one = cloud.attachment_create(&member(), wanted).await.expect("attaches");
    assert_eq!(one.status, AttachStatus::Attaching);
    assert_eq!(one.mountpoint.as_deref(), Some("na"));
    assert_eq!(datum(&one, "target_portals").as_array().map(Vec::len), Some(1), "multipath was asked for");
    assert_eq!(datum(&one, "target_luns"), &serde_json::json!([0]));
    let listed = cloud.attachment_list(&member(), &model::list::ListQuery::all(Some("project".into()))).await;
    let listed = listed.expect("lists").items;
    assert_eq!(listed.len(), 1);
    assert_eq!(datum(&listed[0], "auth_password"), datum(&one, "auth_password"));
    let theirs = cloud.attachment_list(&stranger(), &model::list::ListQuery::all(Some("other".into()))).await;
    assert!(theirs.expect("lists").items.is_empty());
    assert!(matches!(cloud.attachment_show(&stranger(), one.id).await, Err(Error::NotFound(..))));
    assert!(matches!(cloud.attachment_delete(&stranger(), one.id).await, Err(Error::NotFound(..))));
    process.stop().await;
}

#[tokio::test]
async fn i8_secrets_are_in_no_debug_output_and_no_column() {
    let site = Site::new();
    let process = site.start().await;
    let id = process.volume(false).await.id;
    let one = process.cloud.attachment_create(&member(), attach(id, "h1", None)).await.expect("attaches");
    let secret = datum(&one, "auth_password").as_str().expect("a secret").to_owned();
    assert!(!format!("{one:?}").contains(&secret));
    assert!(!format!("{:?}", process.target()).contains(&secret));
    assert!(!format!("{:?}", process.exports(id).await).contains(&secret));
    let stored =
        db::attachment::get(&mut process.cloud.db.read(), one.id).await.expect("reads").expect("there");
    let stored = stored.connection_info.expect("connection info").data;
    assert!(!stored.contains_key("auth_password") && !stored.contains_key("auth_username"));
    process.stop().await;
    for entry in std::fs::read_dir(site.dir()).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_file() {
            let bytes = std::fs::read(&path).expect("readable");
            let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!found, "the secret stands in {}", path.display());
        }
    }
}

#[tokio::test]
async fn wrong_states_are_refused_in_cinders_words() {
    let site = Site::new();
    let process = site.start().await;
    let cloud = &process.cloud;
    let id = process.volume(false).await.id;
    cloud.attachment_create(&member(), reserve(id, SERVER)).await.expect("reserves");
    assert_eq!(
        text(cloud.attachment_create(&member(), reserve(id, OTHER_SERVER)).await),
        format!(
            "Invalid volume: Volume {id} status must be available or downloading to reserve, but the current status is \
             reserved."
        )
    );
    // The same server may hold it twice: it is moving.
    let second = cloud.attachment_create(&member(), reserve(id, SERVER)).await.expect("reserves again");
    assert_eq!(state(&process, id).await, "reserved/detached [\"reserved\", \"reserved\"] 0");
    cloud.attachment_delete(&member(), second.id).await.expect("deletes");
    assert_eq!(
        text(cloud.volume_reserve(&member(), id).await),
        "Invalid volume: Volume status must be available to reserve, but the status is reserved."
    );
    assert_eq!(
        text(cloud.volume_begin_detaching(&member(), id).await),
        "Invalid volume: Unable to detach volume. Volume status must be 'in-use' and attach_status must be 'attached' to \
         detach."
    );
    let mut no_name = attach(process.volume(false).await.id, "h1", None);
    no_name.connector.as_mut().expect("a connector").0.remove("initiator");
    assert_eq!(
        text(cloud.attachment_create(&member(), no_name.clone()).await),
        "Invalid input received: Connector doesn't have required information: initiator"
    );
    assert_eq!(state(&process, no_name.volume_id).await, "available/detached [] 0", "nothing was reserved");
    let broken = process.volume(false).await.id;
    set_status(&process, broken, "error_extending").await;
    assert_eq!(
        text(cloud.attachment_create(&member(), reserve(broken, SERVER)).await),
        format!(
            "Invalid volume: Volume attachments can not be created if the volume is in an error state. The Volume \
             {broken} currently has a status of: error_extending "
        )
    );
    process.stop().await;
}

async fn set_status(process: &Process, id: VolumeId, status: &str) {
    let mut tx = process.cloud.db.begin().await.expect("a transaction");
    let what = db::transition::Resettable::Volume;
    let columns = [("status", Some(status))];
    db::transition::reset(&mut tx, what, &id.to_string(), &columns, db::event::By::default())
        .await
        .expect("resets");
    process.cloud.commit(tx).await.expect("commits");
}

#[tokio::test]
async fn an_update_is_refused_for_an_error_and_for_a_second_connection_from_one_host() {
    let site = Site::new();
    let process = site.start().await;
    let cloud = &process.cloud;
    let id = process.volume(false).await.id;
    let first = cloud.attachment_create(&member(), reserve(id, SERVER)).await.expect("reserves");
    let second = cloud.attachment_create(&member(), reserve(id, SERVER)).await.expect("reserves");
    set_status(&process, id, "error").await;
    assert_eq!(
        text(cloud.attachment_update(&member(), first.id, connector("h1")).await),
        format!(
            "Resource conflict: Volume attachments can not be updated if the volume is in an error state. The Volume {id} \
             currently has a status of: error "
        )
    );
    set_status(&process, id, "reserved").await;
    cloud.attachment_update(&member(), first.id, connector("h1")).await.expect("connects");
    assert_eq!(
        text(cloud.attachment_update(&member(), second.id, connector("h1")).await),
        format!("Resource conflict: duplicate connectors detected on volume {id}")
    );
    // A server that moves has the volume on two hosts for a while.
    let moved = cloud.attachment_update(&member(), second.id, connector("h2")).await.expect("connects");
    let first = cloud.attachment_show(&member(), first.id).await.expect("shows");
    assert_ne!(datum(&moved, "auth_password"), datum(&first, "auth_password"), "I8: a secret each");
    assert_eq!(process.exports(id).await.len(), 2);
    let left = cloud.attachment_delete(&member(), first.id).await.expect("deletes");
    assert_eq!(left.len(), 1);
    assert_eq!(state(&process, id).await, "attaching/attaching [\"attaching\"] 1");
    process.stop().await;
}

#[tokio::test]
async fn a_shared_volume_has_two_initiators_each_with_its_own_secret() {
    let site = Site::new();
    let process = site.start().await;
    let cloud = &process.cloud;
    let id = process.volume(true).await.id;
    let first = cloud.attachment_create(&member(), attach(id, "h1", None)).await.expect("attaches");
    assert_eq!(
        text(cloud.attachment_create(&member(), reserve(id, OTHER_SERVER)).await),
        format!(
            "Invalid volume: Volume {id} status must be available or in-use or downloading to reserve, but the current \
             status is attaching."
        ),
        "one at a time"
    );
    cloud.attachment_complete(&member(), first.id).await.expect("completes");
    let second = cloud.attachment_create(&member(), attach(id, "h2", None)).await.expect("attaches");
    assert_eq!(state(&process, id).await, "attaching/attaching [\"attached\", \"attaching\"] 2");
    cloud.attachment_complete(&member(), second.id).await.expect("completes");
    assert_ne!(datum(&first, "auth_password"), datum(&second, "auth_password"));
    assert_eq!(datum(&first, "target_iqn"), datum(&second, "target_iqn"), "one target");
    // Two attachments of one host share its export.
    let third = cloud.attachment_create(&member(), attach(id, "h2", None)).await.expect("attaches");
    assert_eq!(datum(&third, "auth_password"), datum(&second, "auth_password"));
    assert_eq!(process.exports(id).await.len(), 2);
    cloud.attachment_delete(&member(), second.id).await.expect("deletes");
    assert_eq!(process.exports(id).await.len(), 2, "the third needs it still");
    cloud.attachment_delete(&member(), third.id).await.expect("deletes");
    assert_eq!(process.exports(id).await.len(), 1);
    assert_eq!(state(&process, id).await, "in-use/attached [\"attached\"] 1");
    cloud.attachment_delete(&member(), first.id).await.expect("deletes");
    assert_eq!(state(&process, id).await, "available/detached [] 0");
    process.stop().await;
}

#[tokio::test]
async fn sharing_has_its_policies() {
    let site = Site::ruled("\"volume:multiattach_bootable_volume\": \"role:admin\"\n");
    let process = site.start().await;
    let cloud = &process.cloud;
    let id = process.volume(true).await.id;
    let reader = control::Context { roles: vec!["reader".into()], ..member() };
    assert_eq!(
        text(cloud.attachment_create(&reader, attach(id, "h1", None)).await),
        "Policy doesn't allow volume:attachment_create to be performed."
    );
    let first = cloud.attachment_create(&member(), attach(id, "h1", None)).await.expect("attaches");
    cloud.attachment_complete(&member(), first.id).await.expect("completes");
    let second =
        cloud.attachment_create(&member(), attach(id, "h2", None)).await.expect("it is not bootable");
    cloud.attachment_complete(&member(), second.id).await.expect("completes");
    cloud.volume_set_bootable(&member(), id, true).await.expect("bootable");
    assert_eq!(
        text(cloud.attachment_create(&member(), attach(id, "h3", None)).await),
        "Policy doesn't allow volume:multiattach_bootable_volume to be performed."
    );
    cloud.attachment_create(&admin(), attach(id, "h3", None)).await.expect("an administrator may");
    process.stop().await;
}

#[tokio::test]
async fn i8_one_initiator_has_a_volume_in_one_mode() {
    let site = Site::new();
    let process = site.start().await;
    let cloud = &process.cloud;
    let id = process.volume(true).await.id;
    let read_only = Some(AttachMode::ReadOnly);
    let first = cloud.attachment_create(&member(), attach(id, "h1", read_only)).await.expect("attaches");
    assert_eq!(first.mode, read_only);
    assert_eq!(datum(&first, "access_mode"), "ro");
    cloud.attachment_complete(&member(), first.id).await.expect("completes");
    let refused = cloud.attachment_create(&member(), attach(id, "h1", None)).await;
    assert_eq!(text(refused), "Unable to create attachment for volume.");
    assert_eq!(state(&process, id).await, "in-use/attached [\"attached\"] 1", "and nothing is left of it");
    let other =
        cloud.attachment_create(&member(), attach(id, "h2", None)).await.expect("another host may write");
    assert_eq!(datum(&other, "access_mode"), "rw");
    process.stop().await;
}

#[tokio::test]
async fn the_mode_is_the_volumes_then_the_requests_then_the_connectors() {
    let site = Site::new();
    let process = site.start().await;
    let cloud = &process.cloud;
    let id = process.volume(true).await.id;
    let with = |host: &str, said: Option<&str>, mode| {
        let mut wanted = attach(id, host, mode);
        if let (Some(said), Some(connector)) = (said, wanted.connector.as_mut()) {
            connector.0.insert("mode".into(), said.into());
        }
        wanted
    };
    let cases = [
        ("h1", Some("ro"), None, AttachMode::ReadOnly),
        ("h2", Some("ro"), Some(AttachMode::ReadWrite), AttachMode::ReadWrite),
        ("h3", Some("rw"), Some(AttachMode::ReadOnly), AttachMode::ReadOnly),
    ];
    for (host, said, mode, expected) in cases {
        let one = cloud.attachment_create(&member(), with(host, said, mode)).await.expect("attaches");
        assert_eq!(one.mode, Some(expected), "{host}");
        cloud.attachment_complete(&member(), one.id).await.expect("completes");
    }
    let locked = process.volume(false).await.id;
    cloud.volume_set_readonly(&member(), locked, true).await.expect("read-only");
    let write = Some(AttachMode::ReadWrite);
    let one = cloud.attachment_create(&member(), attach(locked, "h1", write)).await.expect("attaches");
    assert_eq!(one.mode, Some(AttachMode::ReadOnly));
    process.stop().await;
}

#[tokio::test]
async fn i2_of_two_racing_attaches_one_wins() {
    for site in Site::on_every_database() {
        i2_of_two_racing_attaches_one_wins_on(site).await;
    }
}

async fn i2_of_two_racing_attaches_one_wins_on(site: Site) {
    let process = site.start().await;
    let other = site.cloud().await;
    for _ in 0..5 {
        let id = process.volume(false).await.id;
        let (ours, theirs) = (member(), member());
        let (a, b) = tokio::join!(
            process.cloud.attachment_create(&ours, attach(id, "h1", None)),
            other.attachment_create(&theirs, attach(id, "h2", None)),
        );
        assert_eq!([&a, &b].iter().filter(|one| one.is_ok()).count(), 1, "{a:?} {b:?}");
        assert!([a, b].into_iter().filter_map(Result::err).all(|e| matches!(e, Error::InvalidVolume(_))));
        assert_eq!(state(&process, id).await, "attaching/attaching [\"attaching\"] 1");
    }
    process.stop().await;
}

#[tokio::test]
async fn the_old_style_from_reserve_to_detach() {
    for site in Site::on_every_database() {
        the_old_style_from_reserve_to_detach_on(site).await;
    }
}

async fn the_old_style_from_reserve_to_detach_on(site: Site) {
    let process = site.start().await;
    let cloud = &process.cloud;
    let id = process.volume(false).await.id;
    cloud.volume_reserve(&member(), id).await.expect("reserves");
    assert_eq!(state(&process, id).await, "attaching/detached [] 0");
    cloud.volume_unreserve(&member(), id).await.expect("unreserves");
    cloud.volume_unreserve(&member(), id).await.expect("nothing to do");
    assert_eq!(state(&process, id).await, "available/detached [] 0");
    cloud.volume_reserve(&member(), id).await.expect("reserves");

    let info = cloud.volume_initialize_connection(&member(), id, connector("h1")).await.expect("connects");
    assert_eq!(info.driver_volume_type, "iscsi");
    assert_eq!(info.data["access_mode"], "rw");
    assert_eq!(info.data["enforce_multipath"], false);
    let again = cloud.volume_initialize_connection(&member(), id, connector("h1")).await.expect("connects");
    assert_eq!(info, again);
    assert!(!format!("{info:?}").contains(info.data["auth_password"].as_str().expect("a secret")));
    assert_eq!(state(&process, id).await, "attaching/detached [] 1");

    let wanted = AttachVolume {
        instance_uuid: Some(SERVER.into()),
        host_name: None,
        mountpoint: "/dev/vdb".into(),
        mode: AttachMode::ReadWrite,
    };
    cloud.volume_attach(&member(), id, wanted.clone()).await.expect("attaches");
    cloud.volume_attach(&member(), id, wanted.clone()).await.expect("attaches again");
    assert_eq!(state(&process, id).await, "in-use/attached [\"attached\"] 1");
    assert_eq!(process.see(id).await.admin_metadata["attached_mode"], "rw");
    let other = AttachVolume { instance_uuid: Some(OTHER_SERVER.into()), ..wanted };
    assert_eq!(
        text(cloud.volume_attach(&member(), id, other).await),
        "Error attaching volume - InvalidVolume: Invalid volume: volume is already attached and multiple attachments are \
         not enabled"
    );

    cloud.volume_begin_detaching(&member(), id).await.expect("begins");
    cloud.volume_roll_detaching(&member(), id).await.expect("rolls back");
    cloud.volume_begin_detaching(&member(), id).await.expect("begins");
    assert_eq!(state(&process, id).await, "detaching/attached [\"attached\"] 1");
    cloud.volume_terminate_connection(&member(), id, Some(connector("h1"))).await.expect("terminates");
    assert_eq!(state(&process, id).await, "detaching/attached [\"attached\"] 0");
    assert!(process.target().volumes().is_empty());
    cloud.volume_detach(&member(), id, DetachVolume::default()).await.expect("detaches");
    assert_eq!(state(&process, id).await, "available/detached [] 0");
    assert!(!process.see(id).await.admin_metadata.contains_key("attached_mode"));
    cloud.volume_detach(&member(), id, DetachVolume::default()).await.expect("nothing to do");
    cloud.volume_terminate_connection(&member(), id, None).await.expect("nothing to do");
    process.stop().await;
}

#[tokio::test]
async fn i5_a_detach_ends_the_connection_that_nobody_terminated() {
    let site = Site::new();
    let process = site.start().await;
    let cloud = &process.cloud;
    let id = process.volume(false).await.id;
    cloud.volume_initialize_connection(&member(), id, connector("h1")).await.expect("connects");
    let wanted = AttachVolume {
        instance_uuid: None,
        host_name: Some("H_1".into()),
        mountpoint: "/dev/vdb".into(),
        mode: AttachMode::ReadWrite,
    };
    cloud.volume_attach(&member(), id, wanted).await.expect("attaches");
    assert_eq!(process.see(id).await.attachments[0].attached_host.as_deref(), Some("h-1"));
    cloud.volume_detach(&member(), id, DetachVolume::default()).await.expect("detaches");
    assert_eq!(state(&process, id).await, "available/detached [] 0");
    process.stop().await;
}

#[tokio::test]
async fn what_cannot_be_told_apart_is_not_detached() {
    let site = Site::new();
    let process = site.start().await;
    let cloud = &process.cloud;
    let id = process.volume(true).await.id;
    for host in ["h1", "h2"] {
        let one = cloud.attachment_create(&member(), attach(id, host, None)).await.expect("attaches");
        cloud.attachment_complete(&member(), one.id).await.expect("completes");
    }
    let conflict = "ConflictNovaUsingAttachment: Detach volume from instance  using the Compute API";
    assert_eq!(text(cloud.volume_detach(&member(), id, DetachVolume::default()).await), conflict);
    assert_eq!(text(cloud.volume_terminate_connection(&member(), id, Some(connector("h1"))).await), conflict);
    let unknown = DetachVolume { attachment_id: Some(AttachmentId::new()) };
    assert_eq!(text(cloud.volume_detach(&member(), id, unknown).await), conflict);
    let service = control::Context { service_roles: vec!["service".into()], ..member() };
    assert_eq!(
        text(cloud.volume_detach(&service, id, DetachVolume::default()).await),
        "Error detaching volume - InvalidVolume: Invalid volume: Detach volume failed: More than one attachment, but no \
         attachment_id provided."
    );
    let other = process.volume(false).await.id;
    let named = process.see(id).await.attachments[0].id;
    assert_eq!(
        text(cloud.volume_detach(&member(), other, DetachVolume { attachment_id: Some(named) }).await),
        "Invalid input received: Mismatched volume and attachment"
    );
    let forced = ForceDetachVolume { attachment_id: Some("no id at all".into()), connector: None };
    assert_eq!(text(cloud.volume_force_detach(&admin(), other, forced).await), conflict);
    cloud.volume_detach(&member(), id, DetachVolume { attachment_id: Some(named) }).await.expect("detaches");
    assert_eq!(state(&process, id).await, "in-use/attached [\"attached\"] 1");
    process.stop().await;
}

#[tokio::test]
async fn i5_i8_deleting_a_volume_ends_what_still_reaches_it() {
    for site in Site::on_every_database() {
        i5_i8_deleting_a_volume_ends_what_still_reaches_it_on(site).await;
    }
}

async fn i5_i8_deleting_a_volume_ends_what_still_reaches_it_on(site: Site) {
    let process = site.start().await;
    let cloud = &process.cloud;
    let id = process.volume(false).await.id;
    cloud.volume_initialize_connection(&member(), id, connector("h1")).await.expect("connects");
    cloud.attachment_create(&member(), reserve(id, SERVER)).await.expect("reserves");
    set_status(&process, id, "error").await;
    cloud.volume_delete(&member(), id, DeleteVolume::default()).await.expect("accepted");
    process.settled().await;
    assert!(matches!(cloud.volume_show(&admin(), id).await, Err(Error::NotFound(..))));
    assert!(process.exports(id).await.is_empty());
    assert!(process.target().volumes().is_empty());
    let all = model::list::ListQuery::all(None);
    assert!(cloud.attachment_list(&admin(), &all).await.expect("lists").items.is_empty());
    process.stop().await;
}

#[tokio::test]
async fn i5_orphans_are_cut_and_rows_without_need_go() {
    let site = Site::new();
    let process = site.start().await;
    let cloud = &process.cloud;
    let id = process.volume(false).await.id;
    let one = cloud.attachment_create(&member(), attach(id, "h1", None)).await.expect("attaches");
    // Another program removes the attachment's row.
    let mut tx = cloud.db.begin().await.expect("a transaction");
    let by = db::event::By::default();
    db::transition::remove_attachments(&mut tx, id, by).await.expect("removes");
    cloud.commit(tx).await.expect("commits");
    assert!(matches!(cloud.attachment_show(&member(), one.id).await, Err(Error::NotFound(..))));
    assert_eq!(process.exports(id).await.len(), 1);
    cloud.reconcile(&process.node, control::reconcile::How::Repair).await.expect("reconciles");
    let until = tokio::time::Instant::now() + support::PATIENCE;
    while !process.exports(id).await.is_empty() || !process.target().volumes().is_empty() {
        assert!(tokio::time::Instant::now() < until, "the target was rung and does nothing");
        tokio::task::yield_now().await;
    }
    process.stop().await;
}

#[tokio::test]
async fn a_target_of_its_own_needs_nothing_but_database_and_queue() {
    let site = Site::new();
    let volumes = site.start_parts(&[Part::Volume]).await;
    let target = site.start_parts(&[Part::Target]).await;
    let cloud = &volumes.cloud;
    let id = volumes.volume(true).await.id;
    let one = cloud.attachment_create(&member(), attach(id, "h1", None)).await.expect("attaches");
    assert_eq!(datum(&one, "target_portal"), &target.target().portals()[0].to_string());
    assert_eq!(target.target().volumes(), [id]);
    // The volume service cannot open it now: its work on the volume goes where it is open.
    let source = control::request::NewVolume { source_volid: Some(id), ..Default::default() };
    cloud.attachment_complete(&member(), one.id).await.expect("completes");
    let clone = cloud.volume_create(&member(), source).await.expect("accepted").id;
    volumes.settled().await;
    assert_eq!(volumes.see(clone).await.status, VolumeStatus::Available);
    cloud.attachment_delete(&member(), one.id).await.expect("deletes");
    assert!(target.target().volumes().is_empty());
    cloud.volume_delete(&member(), id, DeleteVolume::default()).await.expect("accepted");
    volumes.settled().await;
    volumes.stop().await;
    target.stop().await;
}

#[tokio::test]
async fn i5_a_restarted_target_serves_what_rows_demand_and_no_more() {
    let site = Site::new();
    let process = site.start().await;
    let id = process.volume(false).await.id;
    let gone = process.volume(false).await.id;
    let kept = process.cloud.attachment_create(&member(), attach(id, "h1", None)).await.expect("attaches");
    let dropped =
        process.cloud.attachment_create(&member(), attach(gone, "h1", None)).await.expect("attaches");
    process.stop().await;
    // While it is down the second attachment's export ends.
    let cloud = site.cloud().await;
    let mut tx = cloud.db.begin().await.expect("a transaction");
    let holder = dropped.id.to_string();
    db::export::release(&mut tx, gone, &holder, db::export::Of::Any).await.expect("releases");
    cloud.commit(tx).await.expect("commits");
    cloud.db.close().await;

    let process = site.start().await;
    assert_eq!(process.target().volumes(), [id], "served before anybody asked");
    assert!(process.exports(gone).await.is_empty());
    let shown = process.cloud.attachment_show(&member(), kept.id).await.expect("shows");
    assert_eq!(datum(&shown, "auth_password"), datum(&kept, "auth_password"), "with the same secret");
    process.cloud.attachment_delete(&member(), kept.id).await.expect("deletes");
    process.stop().await;
}

#[tokio::test]
async fn an_attachment_that_is_deleted_while_it_connects_leaves_nothing() {
    let site = Site::new();
    // No target runs: the job waits for it.
    let volumes = site.start_parts(&[Part::Volume]).await;
    let cloud = volumes.cloud.clone();
    let id = volumes.volume(false).await.id;
    let one = cloud.attachment_create(&member(), reserve(id, SERVER)).await.expect("reserves");
    let asking = tokio::spawn({
        let cloud = cloud.clone();
        async move { cloud.attachment_update(&member(), one.id, connector("h1")).await }
    });
    let until = tokio::time::Instant::now() + support::PATIENCE;
    while volumes.exports(id).await.is_empty() {
        assert!(tokio::time::Instant::now() < until, "the first step does not run");
        tokio::task::yield_now().await;
    }
    let deleting = tokio::spawn({
        let cloud = cloud.clone();
        async move { cloud.attachment_delete(&member(), one.id).await }
    });
    while !volumes.exports(id).await.iter().all(|export| export.ending) {
        assert!(tokio::time::Instant::now() < until, "the deletion does not begin");
        tokio::task::yield_now().await;
    }
    let target = site.start_parts(&[Part::Target]).await;
    deleting.await.expect("runs").expect("deletes");
    assert_eq!(text(asking.await.expect("runs")), "Unable to update the attachment.");
    volumes.settled().await;
    assert_eq!(state(&volumes, id).await, "available/detached [] 0");
    assert!(target.target().volumes().is_empty());
    volumes.stop().await;
    target.stop().await;
}

#[tokio::test]
async fn a_new_connector_replaces_the_old_one() {
    let site = Site::new();
    let process = site.start().await;
    let cloud = &process.cloud;
    let id = process.volume(false).await.id;
    let one = cloud.attachment_create(&member(), attach(id, "h1", None)).await.expect("attaches");
    let moved = cloud.attachment_update(&member(), one.id, connector("h2")).await.expect("connects");
    let exports = process.exports(id).await;
    assert_eq!(exports.len(), 1, "I8: the first host is out");
    assert_eq!(exports[0].initiator, "iqn.2026-01.test:h2");
    assert_ne!(datum(&moved, "auth_password"), datum(&one, "auth_password"));
    process.stop().await;
}

#[tokio::test]
async fn a_detach_leaves_a_status_that_a_job_owns() {
    let site = Site::new();
    let process = site.start().await;
    let cloud = &process.cloud;
    let id = process.volume(false).await.id;
    let one = cloud.attachment_create(&member(), attach(id, "h1", None)).await.expect("attaches");
    cloud.attachment_complete(&member(), one.id).await.expect("completes");
    set_status(&process, id, "backing-up").await;
    cloud.attachment_delete(&member(), one.id).await.expect("deletes");
    let volume = process.see(id).await;
    assert_eq!(volume.status, VolumeStatus::BackingUp, "I3: the backup ends it");
    assert_eq!(volume.previous_status.as_deref(), Some("available"));
    process.leave().await;
}

#[tokio::test]
async fn malformed_names_are_refused_before_anything_is_reserved() {
    let site = Site::new();
    let process = site.start().await;
    let id = process.volume(false).await.id;
    for bad in ["", "iqn with spaces", "iqn.\u{0}", &"x".repeat(300)] {
        let mut wanted: NewAttachment = attach(id, "h1", None);
        let connector: &mut Connector = wanted.connector.as_mut().expect("a connector");
        connector.0.insert("initiator".into(), bad.into());
        let result = process.cloud.attachment_create(&member(), wanted).await;
        assert!(matches!(result, Err(Error::InvalidInput(_))), "{bad:?}");
    }
    assert_eq!(state(&process, id).await, "available/detached [] 0");
    process.stop().await;
}
