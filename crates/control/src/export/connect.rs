//! Connect: gives a host a way to a volume. The back half of attachments with a connector and of `os-initialize_connection`.
//!
//! ```text
//!   export: the row of volume and initiator, with a fresh secret   (volume service; the database only)
//!   serve:  the target opens the volume and admits the initiator   (target)
//!   finish: the attachment has its connection info                 (without the secret)
//! ```
//! An attachment that is deleted meanwhile, and a volume that is being deleted, win: their export is ending or gone, which
//! every step looks for in the transaction in which it would matter.

use db::Tx;
use db::export::{Export, Needed, Of};
use drivers::Transport;
use model::job::{Job, ResourceRef};
use model::{
    AttachMode, AttachStatus, AttachmentId, ConnectionInfo, Connector, JobId, Secret, Volume, VolumeId,
    VolumeStatus,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::cloud::Cloud;
use crate::context::Context;
use crate::engine::{Act, At, Failure, FailureKind, Operation, Output, Step, Work};
use crate::error::{Error, Resource, Result};
use crate::message::{self, Detail};
use crate::seal::random_text;
use crate::volume::create::pool_of;
use crate::volume::reference;

/// The operation's table.
pub const OPERATION: Operation = Operation {
    name: "volume.connect",
    steps: &[
        Step {
            name: "export",
            at: At::Volume,
            act: Act::Record(|work, tx| Box::pin(export(work, tx))),
            undo: None,
        },
        Step {
            name: "serve",
            at: At::Owner,
            act: Act::Do(|work| Box::pin(serve(work))),
            undo: Some(|work| Box::pin(withdraw(work))),
        },
    ],
    finish: |work, tx| Box::pin(finish(work, tx)),
    fail: |work, tx, failure| Box::pin(fail(work, tx, failure)),
};

/// Characters of a CHAP user and secret, as Cinder makes them.
const USER_LENGTH: usize = 20;
const SECRET_LENGTH: usize = 16;

/// Statuses of a volume in which a host may be given a way to it.
pub(crate) const CONNECTABLE: &[VolumeStatus] = {
    use VolumeStatus::*;
    &[
        Available,
        Reserved,
        Attaching,
        InUse,
        Detaching,
        BackingUp,
        Extending,
        Retyping,
        Uploading,
        Downloading,
    ]
};

/// Statuses of an attachment that may be given a connector: every live one.
const OPEN: &[AttachStatus] = {
    use AttachStatus::*;
    &[Reserved, Attaching, Attached, ErrorAttaching, ErrorDetaching]
};

/// What is to be connected.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Request {
    pub volume_id: VolumeId,
    /// `None`: an old-style connection.
    pub attachment_id: Option<AttachmentId>,
    pub connector: Connector,
    pub mode: AttachMode,
    /// The same request made the attachment: it goes when connecting fails.
    pub fresh: bool,
}

impl Request {
    /// The id of the job's resource.
    pub fn resource(&self) -> String {
        self.attachment_id.map_or_else(|| self.volume_id.to_string(), |id| id.to_string())
    }

    /// Whether the connection asked for is the same.
    fn same_as(&self, other: &Self) -> bool {
        self.connector == other.connector && self.mode == other.mode
    }
}

/// What a request to connect meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Begun {
    /// This job connects: the new one, or one that already does exactly this.
    Job(JobId),
    /// This one does something else for the same attachment; it has been told to stop, and is to be waited for.
    After(JobId),
}

impl Cloud {
    /// Records the job that connects, unless there is one. The caller commits and waits.
    pub(crate) async fn begin_connect(
        &self,
        tx: &mut Tx,
        context: &Context,
        volume: &Volume,
        request: &Request,
    ) -> Result<Begun> {
        for job in super::active(tx, OPERATION.name, &request.resource()).await? {
            let other: Option<Request> = serde_json::from_value(job.request).ok();
            if other.is_some_and(|other| other.same_as(request)) && !job.cancel_requested {
                return Ok(Begun::Job(job.id));
            }
            if request.attachment_id.is_some() {
                db::job::cancel(tx, job.id).await?;
                return Ok(Begun::After(job.id));
            }
        }
        crate::volume::migrate::interrupt(tx, volume.id).await?;
        let place = volume
            .host
            .as_ref()
            .ok_or_else(|| Error::InvalidVolume(format!("Volume {} is not on any backend.", volume.id)))?;
        let id = JobId::new();
        let kind = if request.attachment_id.is_some() { "attachment" } else { "volume" };
        let new = db::job::NewJob {
            id,
            operation: OPERATION.name,
            resource: ResourceRef { kind: kind.into(), id: request.resource() },
            project_id: volume.project_id.clone(),
            user_id: Some(context.user_id.clone()),
            request_id: Some(context.request_id.clone()),
            queue: Self::volume_queue(&place.service_host()),
            request: serde_json::to_value(request).unwrap_or_default(),
            locks: Vec::new(),
        };
        db::job::insert(tx, new).await?;
        Ok(Begun::Job(id))
    }

    /// What the caller is told when a connection was not made: what became of the volume meanwhile is no fault of the backend.
    pub(crate) async fn not_connected(&self, volume: VolumeId, otherwise: &str) -> Error {
        match db::volume::get(&mut self.db.read(), volume).await {
            Ok(None) => Error::NotFound(Resource::Volume, volume.to_string()),
            Ok(Some(now)) if !CONNECTABLE.contains(&now.status) => refused(now.status),
            Ok(Some(_)) => Error::Failed(otherwise.to_owned()),
            Err(error) => error.into(),
        }
    }

    /// How a job that has connected says its host reaches the volume, with the secret.
    ///
    /// # Errors
    /// It has been withdrawn already.
    pub(crate) async fn connection_of(&self, job: &Job) -> Result<ConnectionInfo> {
        let request: Request = serde_json::from_value(job.request.clone()).map_err(db::Error::from)?;
        let read = &mut self.db.read();
        let gone = || Error::InvalidVolume("The volume was taken away while it was connected.".into());
        let volume = db::volume::get(read, request.volume_id).await?.ok_or_else(gone)?;
        let served = &job.data["serve"];
        let mut info = described(read, served, &request, &volume).await?.ok_or_else(gone)?;
        if let Some(initiator) = super::initiator(&request.connector)
            && let Some(export) = db::export::find(read, volume.id, &initiator).await?
            && served["own"].is_null()
        {
            self.reveal(&mut info, &export)?;
        }
        info.data.insert("enforce_multipath".into(), request.connector.enforce_multipath().into());
        Ok(info)
    }
}

/// What is said of a volume whose status forbids connections.
pub(crate) fn refused(status: VolumeStatus) -> Error {
    Error::InvalidVolume(format!(
        "The connection of a volume whose status is {status} cannot be initialized."
    ))
}

/// Writes the row of this volume and initiator, and counts the holder.
async fn export(work: &Work, tx: &mut Tx) -> Output {
    let request: Request = work.request()?;
    let volume = held(tx, &request).await?;
    let pool = pool_of(&volume)?;
    if work.node.driver(&pool)?.capabilities().transport == Transport::Own {
        return Ok(Value::Null);
    }
    let initiator = super::initiator(&request.connector)
        .ok_or_else(|| Failure::permanent("the connector has no proper initiator name"))?;
    // All exports of a volume are one target.
    let beside = db::export::of_volume(tx, volume.id).await?;
    let iqn = beside.first().map_or_else(
        || format!("{}{}", work.cloud.settings.target_prefix, volume.backend_name()).to_lowercase(),
        |export| export.iqn.clone(),
    );
    let random = |length| random_text(length).map_err(|error| Failure::again(error.to_string()));
    let secret = Secret::new(random(SECRET_LENGTH)?);
    let wanted = Export {
        id: JobId::new().to_string(),
        volume_id: volume.id,
        initiator: initiator.clone(),
        node: pool.host,
        backend: pool.backend.unwrap_or_default(),
        mode: request.mode,
        chap_user: Some(random(USER_LENGTH)?),
        chap_secret: Some(
            work.cloud.sealer.seal(&secret).map_err(|error| Failure::again(error.to_string()))?,
        ),
        iqn,
        lun: 0,
        ending: false,
    };
    let holder = super::holder(request.attachment_id);
    match db::export::need(tx, &wanted, &holder).await? {
        Needed::Yes { export, newly } => {
            if request.attachment_id.is_some() {
                // An attachment is one connection: with a new connector the old one goes.
                db::export::release(tx, volume.id, &holder, Of::AllBut(&initiator)).await?;
            }
            Ok(json!({ "export": export.id, "newly": newly }))
        }
        Needed::Ending => Err(Failure::again("an earlier export to this initiator is still being cut")),
        Needed::OtherMode(mode) => Err(Failure::permanent(format!(
            "{initiator} has volume {} already, as {mode}: one initiator cannot have it in two modes",
            volume.id
        ))),
    }
}

/// The volume, if it and the attachment are still to be connected; both held until the transaction ends.
async fn held(tx: &mut Tx, request: &Request) -> Result<Volume, Failure> {
    if !db::volume::hold(tx, request.volume_id, CONNECTABLE).await? {
        return Err(Failure::permanent("the volume is not in a state to be connected"));
    }
    if let Some(id) = request.attachment_id
        && db::attachment::hold(tx, id).await?.is_none()
    {
        return Err(Failure::permanent("the attachment is gone"));
    }
    let volume = db::volume::get(tx, request.volume_id).await?;
    volume.ok_or_else(|| Failure::permanent("the volume is gone"))
}

/// Has the target serve the volume; or asks the backend that serves it itself.
async fn serve(work: &Work) -> Output {
    let request: Request = work.request()?;
    let read = &mut work.cloud.db.read();
    if work.output("export").is_null() {
        let volume = db::volume::get(read, request.volume_id).await?;
        let volume = volume.ok_or_else(|| Failure::permanent("the volume is gone"))?;
        let driver = work.node.driver(&pool_of(&volume)?)?;
        let own = driver.connection_info(&reference(&volume), &request.connector).await?;
        return Ok(json!({ "own": own }));
    }
    let target = work.node.target.as_ref();
    let target = target.ok_or_else(|| Failure::again("this process does not serve volumes"))?;
    target.sync(request.volume_id).await?;
    let initiator = super::initiator(&request.connector).unwrap_or_default();
    let holder = super::holder(request.attachment_id);
    if !db::export::is_held(read, request.volume_id, &initiator, &holder).await? {
        return Err(Failure::permanent("the export was withdrawn meanwhile"));
    }
    let portals: Vec<String> = target.portals().iter().map(ToString::to_string).collect();
    Ok(json!({ "portals": portals }))
}

/// Gives up what the job has come to hold and has it cut. What was held before it stays.
async fn withdraw(work: &Work) -> Result<(), Failure> {
    let request: Request = work.request()?;
    if work.output("export")["newly"] != true {
        return Ok(());
    }
    let holder = super::holder(request.attachment_id);
    let initiator = super::initiator(&request.connector).unwrap_or_default();
    let mut tx = work.cloud.db.begin().await?;
    db::job::fence(&mut tx, &work.job).await?;
    db::export::release(&mut tx, request.volume_id, &holder, Of::Initiator(&initiator)).await?;
    work.cloud.commit(tx).await?;
    super::disconnect::cut(work, request.volume_id).await
}

/// How the host reaches the volume, without the secret; `None` when it has been withdrawn.
async fn described(
    from: &mut impl db::Read,
    served: &Value,
    request: &Request,
    volume: &Volume,
) -> db::Result<Option<ConnectionInfo>> {
    let mut info = match &served["own"] {
        Value::Null => {
            let initiator = super::initiator(&request.connector).unwrap_or_default();
            let holder = super::holder(request.attachment_id);
            if !db::export::is_held(from, volume.id, &initiator, &holder).await? {
                return Ok(None);
            }
            let Some(export) = db::export::find(from, volume.id, &initiator).await? else { return Ok(None) };
            let portals: Vec<String> = serde_json::from_value(served["portals"].clone())?;
            super::info::iscsi(volume, &export, &portals, &request.connector)
        }
        own => serde_json::from_value(own.clone())?,
    };
    let kind = db::volume_type::get(from, volume.type_id).await?;
    let qos = match kind.as_ref().and_then(|kind| kind.qos_specs_id) {
        Some(id) => db::qos::get(from, id).await?,
        None => None,
    };
    super::info::complete(&mut info, volume, kind.as_ref(), qos.as_ref(), request.mode);
    Ok(Some(info))
}

async fn finish(work: &Work, tx: &mut Tx) -> db::Result<()> {
    let request: Request = serde_json::from_value(work.job.request.clone())?;
    let Some(id) = request.attachment_id else { return Ok(()) };
    if !db::volume::hold(tx, request.volume_id, CONNECTABLE).await? {
        return Ok(());
    }
    let Some(volume) = db::volume::get(tx, request.volume_id).await? else { return Ok(()) };
    let Some(info) = described(tx, work.output("serve"), &request, &volume).await? else { return Ok(()) };
    if db::transition::move_attachment(tx, id, OPEN, AttachStatus::Attaching, work.by()).await? {
        db::attachment::connected(tx, id, &request.connector, &info, request.mode).await
    } else {
        // Gone since the last step: nobody would give the export up.
        db::export::release(tx, volume.id, &id.to_string(), Of::Any).await.map(drop)
    }
}

async fn fail(work: &Work, tx: &mut Tx, failure: &Failure) -> db::Result<()> {
    let request: Request = serde_json::from_value(work.job.request.clone())?;
    let Some(id) = request.attachment_id else { return Ok(()) };
    db::volume::hold(tx, request.volume_id, VolumeStatus::ALL).await?;
    if db::attachment::hold(tx, id).await?.is_none() {
        return Ok(());
    }
    if request.fresh {
        // Its maker is told of the failure instead of its id: nobody could remove it.
        db::transition::move_attachment(tx, id, OPEN, AttachStatus::Detached, work.by()).await?;
    }
    if failure.kind == FailureKind::Cancelled {
        return Ok(());
    }
    let volume = request.volume_id.to_string();
    let about = ("VOLUME", volume.as_str());
    let ttl = work.cloud.settings.message_ttl;
    let action = message::Action::UpdateAttachment;
    message::leave_about(tx, &work.job, about, action, failure, Detail::Unknown, ttl).await
}
