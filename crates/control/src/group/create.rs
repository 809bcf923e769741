//! Create: `POST /groups`: an empty group, and the backend that all its volumes will be on.

use std::collections::BTreeMap;

use db::Tx;
use db::transition::Outcome;
use model::group::{CONSISTENCY_TYPE, CONSISTENT_SNAPSHOTS};
use model::job::ResourceRef;
use model::transition::GroupOp;
use model::{Group, GroupId, GroupType, GroupTypeId, JobId, PoolRef, TypeId};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{BY_CG_APIS, Door, by, id_of, missing};
use crate::cloud::Cloud;
use crate::context::Context;
use crate::engine::{Act, At, Failure, Operation, Output, Step, Work};
use crate::error::{Error, Result};
use crate::message::{self, Detail};
use crate::policy::{Action, Target};
use crate::{locks, placing, quota, scheduler};

/// The operation's table.
pub const OPERATION: Operation = Operation {
    name: "group.create",
    // The place is part of the row, which goes with the group: nothing is promised yet that would have to be taken back.
    steps: &[Step {
        name: "place",
        at: At::Scheduler,
        act: Act::Record(|work, tx| Box::pin(place(work, tx))),
        undo: None,
    }],
    finish: |work, tx| Box::pin(finish(work, tx)),
    fail: |work, tx, failure| Box::pin(fail(work, tx, failure)),
};

/// A new group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewGroup {
    pub name: Option<String>,
    pub description: Option<String>,
    /// Name or id; `None`: that of legacy consistency groups.
    pub group_type: Option<String>,
    /// Names or ids.
    pub volume_types: Vec<String>,
    pub availability_zone: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Request {
    zone: String,
}

impl Cloud {
    /// `POST /groups`: a group that is `creating`, and the job that places it.
    ///
    /// # Errors
    /// An unknown type or zone, over quota, forbidden.
    pub async fn group_create(&self, context: &Context, wanted: NewGroup) -> Result<Group> {
        self.policy.require(Action::GroupCreate, context, &Target::own(context))?;
        let kind = self.group_type_of(&wanted).await?;
        let mut volume_types: Vec<TypeId> = Vec::new();
        for text in &wanted.volume_types {
            let id = self.type_by_name_or_id(context, text).await?.id;
            if !volume_types.contains(&id) {
                volume_types.push(id);
            }
        }
        let zone = self.group_zone(wanted.availability_zone).await?;
        let limits = self.limits(&context.project_id).await?;
        let (id, job) = (GroupId::new(), JobId::new());
        let mut tx = self.db.begin().await?;
        quota::take(&mut tx, &context.project_id, &quota::of_group(1), &limits).await?;
        let row = db::volume_group::NewGroup {
            id,
            user_id: context.user_id.clone(),
            project_id: context.project_id.clone(),
            name: wanted.name,
            description: wanted.description,
            availability_zone: Some(zone.clone()),
            host: None,
            type_id: kind.id,
            volume_types,
            group_snapshot_id: None,
            source_group_id: None,
        };
        db::volume_group::insert(&mut tx, &row).await?;
        db::event::created(
            &mut tx,
            "group",
            &id.to_string(),
            by(context, Some(&context.project_id), Some(job)),
        )
        .await?;
        let new = db::job::NewJob {
            id: job,
            operation: OPERATION.name,
            resource: ResourceRef { kind: "group".into(), id: id.to_string() },
            project_id: Some(context.project_id.clone()),
            user_id: Some(context.user_id.clone()),
            request_id: Some(context.request_id.clone()),
            queue: crate::cloud::SCHEDULER.into(),
            request: serde_json::to_value(Request { zone }).unwrap_or_default(),
            locks: vec![locks::change_group(id)],
        };
        db::job::insert(&mut tx, new).await?;
        let recorded = db::volume_group::get(&mut tx, id).await?;
        self.commit(tx).await?;
        recorded.ok_or_else(|| missing(id))
    }

    /// The type that a new group names; the legacy one is not to be named.
    async fn group_type_of(&self, wanted: &NewGroup) -> Result<GroupType> {
        let Some(text) = &wanted.group_type else {
            let found = db::group_type::by_name(&mut self.db.read(), CONSISTENCY_TYPE).await?;
            return found.ok_or_else(|| {
                Error::Invalid(format!(
                    "Group type {CONSISTENCY_TYPE} not found. Rerun migration script to create the default cgsnapshot type."
                ))
            });
        };
        let kind = match text.parse::<GroupTypeId>() {
            Ok(id) => self.group_type_by_id(id).await?,
            Err(_) => {
                let found = db::group_type::by_name(&mut self.db.read(), text).await?;
                let missing = || Error::Missing(format!("Group type with name {text} could not be found."));
                found.ok_or_else(missing)?
            }
        };
        Door::Generic.check(kind.name == CONSISTENCY_TYPE, Some(kind.id), BY_CG_APIS)?;
        Ok(kind)
    }

    async fn group_zone(&self, asked: Option<String>) -> Result<String> {
        let settings = &self.settings;
        let usual = || settings.default_zone.clone().unwrap_or_else(|| settings.zone.clone());
        let zone = asked.unwrap_or_else(usual);
        let known = self.availability_zones().await?;
        if zone == settings.zone || known.iter().any(|known| known.name == zone) {
            return Ok(zone);
        }
        if settings.zone_fallback {
            return Ok(usual());
        }
        Err(Error::InvalidInput(format!("Availability zone '{zone}' is invalid.")))
    }
}

/// Chooses a backend on which volumes of every one of the group's types may be.
async fn place(work: &Work, tx: &mut Tx) -> Output {
    let request: Request = work.request()?;
    let id = id_of(work)?;
    let group = db::volume_group::get(tx, id).await?;
    let group = group.ok_or_else(|| Failure::permanent("the group is gone"))?;
    let kind = db::group_type::get(tx, group.type_id).await?;
    let (pools, _) = placing::pools(&work.cloud, tx).await?;
    let mut wants: Vec<BTreeMap<String, String>> = Vec::new();
    for kind in &group.volume_types {
        let kind = db::volume_type::get(tx, *kind).await?;
        wants.push(kind.ok_or_else(|| Failure::permanent("a volume type is gone"))?.extra_specs);
    }
    if kind.is_some_and(|kind| kind.says_yes(CONSISTENT_SNAPSHOTS)) {
        let capability = format!("capabilities:{CONSISTENT_SNAPSHOTS}");
        wants.push(BTreeMap::from([(capability, "<is> True".to_owned())]));
    }
    let mut rankings: Vec<Vec<PoolRef>> = Vec::new();
    for extra_specs in wants {
        let request = scheduler::Request {
            extra_specs,
            availability_zones: vec![request.zone.clone()],
            resource_id: id.to_string(),
            attempt: 1,
            seed: id.0.as_u64_pair().0,
            ..scheduler::Request::default()
        };
        let decision = scheduler::pick(&pools, &request, &work.cloud.scheduler);
        let ranked = decision.ranked().filter_map(|name| name.parse::<PoolRef>().ok());
        rankings.push(ranked.collect());
    }
    let nowhere = || {
        Failure::permanent("No valid backend was found. No backend takes every type of the group.")
            .telling(Detail::NoBackend)
    };
    let (first, others) = rankings.split_first().ok_or_else(nowhere)?;
    let everywhere = |pool: &&PoolRef| {
        let host = pool.service_host();
        others.iter().all(|ranking| ranking.iter().any(|other| other.service_host() == host))
    };
    let chosen = first.iter().find(everywhere).ok_or_else(nowhere)?;
    db::volume_group::place(tx, id, chosen).await?;
    Ok(json!({ "pool": chosen.to_string() }))
}

async fn finish(work: &Work, tx: &mut Tx) -> db::Result<()> {
    let Ok(id) = id_of(work) else { return Ok(()) };
    db::transition::finish_group(tx, id, GroupOp::Create, Outcome::Done, work.by()).await
}

async fn fail(work: &Work, tx: &mut Tx, failure: &Failure) -> db::Result<()> {
    let Ok(id) = id_of(work) else { return Ok(()) };
    if db::volume_group::get(tx, id).await?.is_none() {
        return Ok(());
    }
    let ttl = work.cloud.settings.message_ttl;
    message::leave(tx, &work.job, "GROUP", message::Action::Schedule, failure, Detail::NoBackend, ttl)
        .await?;
    db::transition::finish_group(tx, id, GroupOp::Create, Outcome::Failed, work.by()).await
}
