//! What a project sees of its work: user messages, jobs.

use control::request::ListJobs;
use drivers::ErrorKind;
use model::job::JobState;
use model::list::ListQuery;
use model::{JobId, MessageId};

use crate::lab::{Lab, admin, member, new_snapshot, reader, text};

#[tokio::test]
async fn messages_are_the_projects_own() {
    let lab = Lab::start().await;
    let (me, other) = (member("p"), member("q"));
    let volume = lab.volume(&me, 1).await;
    lab.driver.fail("create_snapshot", ErrorKind::Backend);
    let snapshot = lab.cloud.snapshot_create(&me, new_snapshot(volume.id)).await.unwrap();
    lab.rest(snapshot.id).await;
    let listed = lab.cloud.message_list(&me, &ListQuery::all(Some("p".into()))).await.unwrap();
    let message = listed.items.into_iter().next().expect("there is one");
    assert_eq!(message.resource_type.as_deref(), Some("VOLUME_SNAPSHOT"));
    assert_eq!(message.resource_uuid, Some(snapshot.id.to_string()));
    assert_eq!((message.level.as_str(), message.request_id.as_deref()), ("ERROR", Some("req-p")));
    assert!(message.expires_at > message.created_at);
    assert_eq!(lab.cloud.message_show(&reader("p"), message.id).await.unwrap(), message);
    let missing = format!("Message {} could not be found.", message.id);
    assert_eq!(text(lab.cloud.message_show(&other, message.id).await), missing);
    assert_eq!(text(lab.cloud.message_delete(&other, message.id).await), missing);
    assert_eq!(
        text(lab.cloud.message_delete(&reader("p"), message.id).await),
        "Policy doesn't allow message:delete to be performed."
    );
    lab.cloud.message_delete(&me, message.id).await.unwrap();
    assert_eq!(text(lab.cloud.message_show(&me, message.id).await), missing);
    let never = MessageId::new();
    assert_eq!(
        text(lab.cloud.message_delete(&me, never).await),
        format!("Message {never} could not be found.")
    );
    lab.close().await;
}

fn all(every_project: bool) -> ListJobs {
    ListJobs { every_project, resource_id: None, active: false, limit: 100 }
}

#[tokio::test]
async fn jobs_are_the_projects_own() {
    let lab = Lab::start().await;
    let (me, other) = (member("p"), member("q"));
    let volume = lab.volume(&me, 1).await;
    lab.volume(&other, 1).await;
    let mine = lab.cloud.job_list(&me, &all(false)).await.unwrap();
    assert_eq!(mine.iter().map(|job| job.operation.as_str()).collect::<Vec<_>>(), ["volume.create"]);
    assert_eq!(mine[0].resource.id, volume.id.to_string());
    // Only administrators see beyond their project, even if others ask for it.
    assert_eq!(lab.cloud.job_list(&me, &all(true)).await.unwrap().len(), 1);
    assert_eq!(lab.cloud.job_list(&admin(), &all(true)).await.unwrap().len(), 2);
    assert_eq!(lab.cloud.job_list(&admin(), &all(false)).await.unwrap().len(), 0);
    let job = lab.cloud.job_show(&reader("p"), mine[0].id).await.unwrap();
    assert_eq!(job.state, JobState::Done);
    assert_eq!(text(lab.cloud.job_show(&other, job.id).await), format!("Job {} could not be found.", job.id));
    assert_eq!(lab.cloud.job_show(&admin(), job.id).await.unwrap().id, job.id);
    let nobody = control::Context { roles: Vec::new(), ..member("p") };
    assert!(matches!(lab.cloud.job_list(&nobody, &all(false)).await, Err(control::Error::Forbidden(_))));
    assert!(matches!(lab.cloud.job_cancel(&reader("p"), job.id).await, Err(control::Error::Forbidden(_))));
    let never = JobId::new();
    assert_eq!(text(lab.cloud.job_show(&me, never).await), format!("Job {never} could not be found."));
    lab.close().await;
}

/// What a backend said of a failure is for those who run the service.
#[tokio::test]
async fn an_owner_reads_no_internals() {
    let lab = Lab::start().await;
    let me = member("p");
    let volume = lab.volume(&me, 1).await;
    lab.driver.fail("create_snapshot", ErrorKind::NoSpace);
    let snapshot = lab.cloud.snapshot_create(&me, new_snapshot(volume.id)).await.unwrap();
    lab.rest(snapshot.id).await;
    let job = |context| {
        let (lab, id) = (&lab, snapshot.id);
        async move {
            let wanted = ListJobs { resource_id: Some(id.to_string()), ..all(true) };
            lab.cloud.job_list(&context, &wanted).await.unwrap().remove(0).job
        }
    };
    let (mine, whole) = (job(me.clone()).await, job(admin()).await);
    assert_eq!(mine.state, JobState::Failed);
    assert_eq!(mine.error.as_deref(), Some("The backend has run out of space."));
    assert_eq!((mine.queue.as_str(), mine.owner), ("", None));
    assert_eq!(whole.error.as_deref(), Some("create_snapshot was told to fail"));
    assert_eq!(whole.queue, "cinder-volume.node@local");
    lab.close().await;
}

#[tokio::test]
async fn messages_and_ended_jobs_are_kept_for_a_time_and_no_longer() {
    let lab = Lab::start().await;
    let me = member("p");
    let volume = lab.volume(&me, 1).await;
    lab.driver.fail("create_snapshot", ErrorKind::Backend);
    let snapshot = lab.cloud.snapshot_create(&me, new_snapshot(volume.id)).await.unwrap();
    lab.rest(snapshot.id).await;
    let kept = async || {
        let jobs = lab.cloud.job_list(&me, &all(false)).await.unwrap().len();
        (jobs, lab.told(&me).await.len())
    };
    lab.cloud.purge().await.unwrap();
    assert_eq!(kept().await, (2, 1), "nothing is too old");
    let mut tx = lab.cloud.db.begin().await.unwrap();
    let ended = "UPDATE jobs SET finished_at = 1 WHERE resource_kind = 'snapshot'";
    tx.exec(db::sql::sql(ended)).await.unwrap();
    tx.exec(db::sql::sql("UPDATE messages SET expires_at = created_at")).await.unwrap();
    lab.cloud.commit(tx).await.unwrap();
    lab.cloud.purge().await.unwrap();
    assert_eq!(kept().await, (1, 0));
    lab.close().await;
}
