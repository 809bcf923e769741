//! Replication of groups: what is asked before, and what becomes of it. No driver here replicates a group, so that what passes the
//! checks ends in `error`, as it does in Cinder with such a driver.

use model::volume_type::is_true;
use model::{Group, GroupId, GroupStatus, Volume, VolumeStatus};

use super::{Door, by, invalid, missing};
use crate::cloud::Cloud;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::policy::Action;

/// The specs that make a group type a replicated one.
const SPECS: [&str; 2] = ["group_replication_enabled", "consistent_group_replication_enabled"];

/// What is done to a group's replication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Enable,
    Disable,
    FailOver { attached: bool },
}

impl Change {
    const fn action(self) -> Action {
        match self {
            Self::Enable => Action::GroupEnableReplication,
            Self::Disable => Action::GroupDisableReplication,
            Self::FailOver { .. } => Action::GroupFailover,
        }
    }

    const fn words(self) -> &'static str {
        match self {
            Self::Enable => "enable",
            Self::Disable => "disable",
            Self::FailOver { .. } => "failover",
        }
    }

    /// Statuses that the group may have.
    const fn statuses(self) -> &'static [GroupStatus] {
        match self {
            Self::Disable => &[GroupStatus::Available, GroupStatus::Error],
            Self::Enable | Self::FailOver { .. } => &[GroupStatus::Available],
        }
    }

    /// How its replication, and that of its volumes, may stand.
    const fn replication(self) -> &'static [&'static str] {
        match self {
            Self::Enable => &["disabled", "enabled"],
            Self::Disable => &["enabled", "error"],
            Self::FailOver { .. } => &["enabled", "failed-over"],
        }
    }
}

impl Cloud {
    /// `enable_replication`.
    ///
    /// # Errors
    /// Not there, forbidden, not of a replicated type, in a state that forbids it.
    pub async fn group_enable_replication(&self, context: &Context, id: GroupId) -> Result<()> {
        self.change_replication(context, id, Change::Enable).await
    }

    /// `disable_replication`.
    ///
    /// # Errors
    /// Not there, forbidden, not of a replicated type, in a state that forbids it.
    pub async fn group_disable_replication(&self, context: &Context, id: GroupId) -> Result<()> {
        self.change_replication(context, id, Change::Disable).await
    }

    /// `failover_replication`; `attached`: also while volumes are in use.
    ///
    /// # Errors
    /// Not there, forbidden, not of a replicated type, in a state that forbids it.
    pub async fn group_fail_over(&self, context: &Context, id: GroupId, attached: bool) -> Result<()> {
        self.change_replication(context, id, Change::FailOver { attached }).await
    }

    /// `list_replication_targets`: no backend here has any.
    ///
    /// # Errors
    /// Not there, forbidden, not of a replicated type.
    pub async fn group_replication_targets(&self, context: &Context, id: GroupId) -> Result<Vec<String>> {
        let action = Action::GroupListReplicationTargets;
        let group = self.group_for(context, id, Door::Legacy, action).await?;
        self.check_replicated(&group).await?;
        Ok(Vec::new())
    }

    async fn change_replication(&self, context: &Context, id: GroupId, change: Change) -> Result<()> {
        let seen = self.group_for(context, id, Door::Legacy, change.action()).await?;
        self.check_replicated(&seen).await?;
        let mut tx = self.db.begin().await?;
        db::volume_group::hold(&mut tx, id, GroupStatus::ALL).await?;
        let group = db::volume_group::get(&mut tx, id).await?.ok_or_else(|| missing(id))?;
        check_group(&group, change)?;
        for volume in db::volume_group::volumes(&mut tx, id).await? {
            check_volume(&volume, change)?;
        }
        db::volume_group::set_replication(&mut tx, id, "error").await?;
        let (name, at) = (id.to_string(), Some(group.status.as_str()));
        let detail = format!("the backend cannot {} replication of groups", change.words());
        let by = by(context, seen.project_id.as_deref(), None);
        let change =
            db::event::Change { kind: "group", id: &name, from: at, to: at, by, detail: Some(&detail) };
        db::event::append(&mut tx, change).await?;
        Ok(self.commit(tx).await?)
    }

    async fn check_replicated(&self, group: &Group) -> Result<()> {
        let kind = self.group_type_by_id(group.type_id).await?;
        if !SPECS.iter().any(|spec| kind.says_yes(spec)) {
            return Err(Error::Invalid(format!(
                "Invalid group type: Group {} is not a replication group type.",
                group.id
            )));
        }
        for id in &group.volume_types {
            let kind = self.type_by_id(*id).await?;
            if !kind.extra_specs.get("replication_enabled").is_some_and(|value| is_true(value)) {
                return Err(Error::InvalidVolumeType(format!(
                    "Volume type {id} does not have 'replication_enabled' spec key set to '<is> True'."
                )));
            }
        }
        Ok(())
    }
}

/// Texts as Python shows a list of them.
fn list<T: AsRef<str>>(texts: &[T]) -> String {
    let quoted: Vec<String> = texts.iter().map(|text| format!("'{}'", text.as_ref())).collect();
    format!("[{}]", quoted.join(", "))
}

fn check_group(group: &Group, change: Change) -> Result<()> {
    let refuse = |what: &str, valid: String, current: &str| {
        Err(invalid(format!(
            "Group {} {what} must be {valid}, but current status is: {current}. Cannot {} replication.",
            group.id,
            change.words()
        )))
    };
    let statuses = change.statuses();
    if !statuses.contains(&group.status) {
        let valid: Vec<&str> = statuses.iter().map(|status| status.as_str()).collect();
        return refuse("status", list(&valid), group.status.as_str());
    }
    let current = group.replication_status.as_deref().unwrap_or("None");
    if !change.replication().contains(&current) {
        return refuse("replication status", list(change.replication()), current);
    }
    Ok(())
}

fn check_volume(volume: &Volume, change: Change) -> Result<()> {
    let id = volume.id;
    let refuse = |what: &str, valid: String, current: &str| {
        Err(Error::InvalidVolume(format!(
            "Volume {id} {what} must be {valid}, but current status is: {current}. Cannot {} replication.",
            change.words()
        )))
    };
    let valid = [VolumeStatus::Available, VolumeStatus::InUse];
    if change != Change::Disable && !valid.contains(&volume.status) {
        return refuse("status", list(&["available", "in-use"]), volume.status.as_str());
    }
    if change == (Change::FailOver { attached: false }) && volume.status == VolumeStatus::InUse {
        return Err(Error::InvalidVolume(format!(
            "Volume {id} is attached but allow_attached_volume flag is False. Cannot failover replication."
        )));
    }
    let current = volume.replication_status.as_deref().unwrap_or("None");
    if !change.replication().contains(&current) {
        return refuse("replication status", list(change.replication()), current);
    }
    Ok(())
}
