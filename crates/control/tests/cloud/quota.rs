//! Quota sets and classes.

use model::quota::QuotaLine;

use crate::lab::{Lab, admin, member, reader, text};

fn line<'a>(lines: &'a [QuotaLine], resource: &str) -> &'a QuotaLine {
    lines.iter().find(|line| line.resource == resource).expect("is there")
}

#[tokio::test]
async fn limits_come_from_the_project_then_its_class_then_the_configuration() {
    let lab = Lab::configured("per_volume_size_limit = 7").await;
    let me = member("p");
    let shown = lab.cloud.quota_show(&me, "p").await.unwrap();
    let names: Vec<&str> = shown.iter().map(|line| line.resource.as_str()).collect();
    assert_eq!(
        names,
        [
            "volumes",
            "per_volume_gigabytes",
            "snapshots",
            "gigabytes",
            "backups",
            "backup_gigabytes",
            "volumes___DEFAULT__",
            "gigabytes___DEFAULT__",
            "snapshots___DEFAULT__",
            "groups"
        ]
    );
    assert_eq!((line(&shown, "volumes").limit, line(&shown, "volumes___DEFAULT__").limit), (10, -1));
    lab.cloud.quota_class_update(&admin(), "default", vec![("volumes".into(), 11)]).await.unwrap();
    assert_eq!(line(&lab.cloud.quota_show(&me, "p").await.unwrap(), "volumes").limit, 11);
    let changed = lab.cloud.quota_update(&admin(), "p", vec![("volumes".into(), 3)]).await.unwrap();
    assert_eq!(line(&changed, "volumes").limit, 3);
    assert_eq!(line(&lab.cloud.quota_defaults(&me, "p").await.unwrap(), "volumes").limit, 11);
    assert_eq!(line(&lab.cloud.quota_show(&admin(), "q").await.unwrap(), "volumes").limit, 11);
    lab.cloud.quota_delete(&admin(), "p").await.unwrap();
    assert_eq!(line(&lab.cloud.quota_show(&me, "p").await.unwrap(), "volumes").limit, 11);
    let other = lab.cloud.quota_class_update(&admin(), "other", vec![("volumes".into(), 9)]).await.unwrap();
    assert_eq!((line(&other, "volumes").limit, line(&other, "snapshots").limit), (9, 10));
    assert_eq!(line(&lab.cloud.quota_class_show(&admin(), "default").await.unwrap(), "volumes").limit, 11);
    lab.close().await;
}

#[tokio::test]
async fn use_is_shown_and_cannot_be_undercut() {
    let lab = Lab::start().await;
    let me = member("p");
    let volume = lab.volume(&me, 2).await;
    lab.snapshot(&me, volume.id).await;
    let shown = lab.cloud.quota_show(&me, "p").await.unwrap();
    assert_eq!((line(&shown, "volumes").in_use, line(&shown, "gigabytes").in_use), (1, 4));
    assert_eq!(line(&shown, "gigabytes___DEFAULT__").in_use, 4);
    let change = vec![("volumes".to_owned(), 20), ("gigabytes".to_owned(), 3)];
    assert_eq!(
        text(lab.cloud.quota_update(&admin(), "p", change).await),
        "Quota gigabytes limit must be equal or greater than existing resources. Current usage is 4 and the requested \
         limit is 3."
    );
    // All or nothing.
    assert_eq!(line(&lab.cloud.quota_show(&me, "p").await.unwrap(), "volumes").limit, 10);
    let unlimited = vec![("gigabytes".to_owned(), -1), ("per_volume_gigabytes".to_owned(), 0)];
    lab.cloud.quota_update(&admin(), "p", unlimited).await.unwrap();
    lab.close().await;
}

#[tokio::test]
async fn quotas_are_the_projects_to_see_and_the_administrators_to_change() {
    let lab = Lab::start().await;
    lab.cloud.quota_show(&reader("p"), "p").await.unwrap();
    assert_eq!(
        text(lab.cloud.quota_show(&member("p"), "q").await),
        "Policy doesn't allow volume_extension:quotas:show to be performed."
    );
    assert_eq!(
        text(lab.cloud.quota_update(&member("p"), "p", vec![("volumes".into(), 99)]).await),
        "Policy doesn't allow volume_extension:quotas:update to be performed."
    );
    assert_eq!(
        text(lab.cloud.quota_delete(&member("p"), "p").await),
        "Policy doesn't allow volume_extension:quotas:delete to be performed."
    );
    assert_eq!(
        text(lab.cloud.quota_class_show(&member("p"), "default").await),
        "Policy doesn't allow volume_extension:quota_classes:get to be performed."
    );
    lab.close().await;
}
