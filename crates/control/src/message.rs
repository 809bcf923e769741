//! User messages: what a user is told when something that was accepted fails later.

use db::Tx;
use model::job::Job;
use model::list::{ListQuery, Listed};
use model::{Message, MessageId};

use crate::cloud::Cloud;
use crate::context::Context;
use crate::engine::{Failure, FailureKind};
use crate::error::{Error, Resource, Result};
use crate::policy::{self, Target};
use crate::volume::visible;

/// What was being done, with Cinder's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Schedule,
    Attach,
    UpdateAttachment,
    Unmanage,
    Extend,
    CreateFromBackend,
    SnapshotCreate,
    SnapshotDelete,
    BackupCreate,
    BackupDelete,
    BackupRestore,
}

/// What went wrong, with Cinder's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    Unknown,
    NoBackend,
    UnmanageEncrypted,
    NotEnoughSpace,
    ExtendFailed,
    CreateFailed,
    SnapshotCreateFailed,
    SnapshotBusy,
    SnapshotDeleteFailed,
    BackupServiceDown,
    BackupCreateFailed,
    BackupUnscheduled,
    BackupDeleteFailed,
    BackupRestoreFailed,
}

const ACTIONS: &[(Action, &str, &str)] = &[
    (Action::Schedule, "001", "schedule allocate volume"),
    (Action::Attach, "002", "attach volume"),
    (Action::UpdateAttachment, "004", "update attachment"),
    (Action::Unmanage, "006", "unmanage volume"),
    (Action::Extend, "007", "extend volume"),
    (Action::CreateFromBackend, "008", "create volume from backend storage"),
    (Action::SnapshotCreate, "009", "create snapshot"),
    (Action::SnapshotDelete, "010", "delete snapshot"),
    (Action::BackupCreate, "013", "create backup"),
    (Action::BackupDelete, "014", "delete backup"),
    (Action::BackupRestore, "015", "restore backup"),
];

const DETAILS: &[(Detail, &str, &str)] = &[
    (Detail::Unknown, "001", "An unknown error occurred."),
    (Detail::NoBackend, "003", "Could not find any available weighted backend."),
    (Detail::UnmanageEncrypted, "008", "Unmanaging encrypted volumes is not supported."),
    (Detail::NotEnoughSpace, "101", "The backend has run out of space."),
    (Detail::ExtendFailed, "010", "Volume Driver failed to extend volume."),
    (Detail::CreateFailed, "012", "Driver failed to create the volume."),
    (Detail::SnapshotCreateFailed, "013", "Snapshot failed to create."),
    (Detail::SnapshotBusy, "015", "Snapshot is busy."),
    (Detail::SnapshotDeleteFailed, "016", "Snapshot failed to delete."),
    (Detail::BackupServiceDown, "018", "Backup service is down."),
    (Detail::BackupCreateFailed, "020", "Backup driver failed to create backup."),
    (Detail::BackupUnscheduled, "024", "Backup failed to schedule. Service not found for creating backup."),
    (Detail::BackupDeleteFailed, "025", "Backup driver failed to delete backup."),
    (Detail::BackupRestoreFailed, "026", "Backup driver failed to restore backup."),
];

impl Action {
    /// Its three digits.
    pub fn id(self) -> &'static str {
        ACTIONS.iter().find(|(action, ..)| *action == self).map_or("000", |(_, id, _)| id)
    }
}

impl Detail {
    /// Its three digits.
    pub fn id(self) -> &'static str {
        DETAILS.iter().find(|(detail, ..)| *detail == self).map_or("001", |(_, id, _)| id)
    }

    /// The detail with these digits.
    pub fn named(id: &str) -> Self {
        DETAILS.iter().find(|(_, known, _)| *known == id).map_or(Self::Unknown, |(detail, ..)| *detail)
    }

    /// This one, unless it says nothing: then `other`.
    pub fn or(self, other: Self) -> Self {
        if self == Self::Unknown { other } else { self }
    }
}

/// What a detail says.
pub fn detail_text(detail: Detail) -> &'static str {
    DETAILS
        .iter()
        .find(|(known, ..)| *known == detail)
        .map_or("An unknown error occurred.", |(.., text)| text)
}

/// The message's text, from its stored numbers.
pub fn text(action: Option<&str>, detail: Option<&str>) -> String {
    let find = |table: &[(&'static str, &'static str)], id: Option<&str>, fallback: &'static str| {
        table.iter().find(|(known, _)| Some(*known) == id).map_or(fallback, |(_, text)| text)
    };
    let actions: Vec<_> = ACTIONS.iter().map(|(_, id, text)| (*id, *text)).collect();
    let details: Vec<_> = DETAILS.iter().map(|(_, id, text)| (*id, *text)).collect();
    format!(
        "{}:{}",
        find(&actions, action, "unknown action"),
        find(&details, detail, "An unknown error occurred.")
    )
}

/// Leaves the message of a failed job, in the transaction that ends it.
///
/// # Errors
/// The database is away.
pub async fn leave(
    tx: &mut Tx,
    job: &Job,
    resource_type: &str,
    action: Action,
    failure: &Failure,
    otherwise: Detail,
    ttl: i64,
) -> db::Result<()> {
    leave_about(tx, job, (resource_type, &job.resource.id), action, failure, otherwise, ttl).await
}

/// The same about another resource than the job's own.
///
/// # Errors
/// The database is away.
pub async fn leave_about(
    tx: &mut Tx,
    job: &Job,
    (resource_type, resource_uuid): (&str, &str),
    action: Action,
    failure: &Failure,
    otherwise: Detail,
    ttl: i64,
) -> db::Result<()> {
    if failure.kind == FailureKind::Cancelled {
        // Who asked for it knows.
        return Ok(());
    }
    let Some(project_id) = job.project_id.as_deref() else { return Ok(()) };
    let new = db::message::NewMessage {
        project_id,
        request_id: job.request_id.as_deref(),
        resource_type,
        resource_uuid,
        action_id: action.id(),
        detail_id: failure.detail.or(otherwise).id(),
        ttl,
    };
    db::message::insert(tx, &new).await
}

/// The message as its owner reads it.
fn told(stored: db::message::Stored) -> Message {
    let user_message = text(stored.action_id.as_deref(), stored.detail_id.as_deref());
    Message { user_message, ..stored.message }
}

impl Cloud {
    /// `GET /messages`.
    ///
    /// # Errors
    /// Forbidden, an unknown marker, a bad sort key.
    pub async fn message_list(&self, context: &Context, query: &ListQuery) -> Result<Listed<Message>> {
        self.policy.require(policy::Action::MessageList, context, &Target::own(context))?;
        let listed = db::message::list(&mut self.db.read(), query).await;
        let listed = listed.map_err(|error| Error::of_list(error, Resource::Message))?;
        Ok(Listed { items: listed.items.into_iter().map(told).collect(), count: listed.count })
    }

    async fn message_for(&self, context: &Context, id: MessageId, action: policy::Action) -> Result<Message> {
        let message = db::message::get(&mut self.db.read(), id).await?.map(told);
        let message = message
            .filter(|message| visible(context, message.project_id.as_deref()))
            .ok_or_else(|| Error::NotFound(Resource::Message, id.to_string()))?;
        let target = Target { project_id: message.project_id.as_deref(), ..Target::default() };
        self.policy.require(action, context, &target)?;
        Ok(message)
    }

    /// `GET /messages/{id}`.
    ///
    /// # Errors
    /// Not there, or forbidden.
    pub async fn message_show(&self, context: &Context, id: MessageId) -> Result<Message> {
        self.message_for(context, id, policy::Action::MessageShow).await
    }

    /// `DELETE /messages/{id}`.
    ///
    /// # Errors
    /// Not there, or forbidden.
    pub async fn message_delete(&self, context: &Context, id: MessageId) -> Result<()> {
        self.message_for(context, id, policy::Action::MessageDelete).await?;
        let mut tx = self.db.begin().await?;
        db::message::delete(&mut tx, id).await?;
        Ok(self.commit(tx).await?)
    }
}
