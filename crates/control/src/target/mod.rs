//! The target role: the data plane of a node. It serves the exports whose rows name its node, and nothing else (I5).
//!
//! Rows are the demand. [`TargetRole::sync`] makes one volume what its rows say: opens it (which makes this process its block
//! owner) and admits its initiators, or cuts their sessions and closes it; rows that were ending are gone afterwards. Steps of
//! jobs call it for their volume; [`TargetRole::run`] compares everything, on a ring and periodically. So what a job
//! asked for and what a restart finds are served by the same code, and repeating it changes nothing.
//!
//! Nothing but the database and the job queue is shared with the volume service: the role may be a process of its own.

mod reservations;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use db::export::Export;
use drivers::{OpenMode, Openable, SharedDriver};
use futures::StreamExt as _;
use iscsi::{Access, Chap, Grant, Lun, Target, TargetConfig};
use model::block::Device;
use model::{AttachMode, GiB, VolumeId};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use crate::cloud::Cloud;
use crate::engine::Failure;
use crate::volume;
use reservations::Stored;

/// How often everything is compared without a ring.
const PERIOD: Duration = Duration::from_secs(10);
/// The same while a volume could not be served: its owner may just be ending.
const RETRY: Duration = Duration::from_secs(1);
/// Volumes brought up to date at the same time.
const AT_ONCE: usize = 16;

/// How a target listens.
#[derive(Debug, Clone)]
pub struct TargetSettings {
    /// Addresses to listen on; port 0 picks a free one.
    pub portals: Vec<SocketAddr>,
    /// Addresses that initiators are told, where they differ from `portals`.
    pub advertised: Vec<SocketAddr>,
}

/// A volume that is served.
#[derive(Debug)]
struct Served {
    device: Device,
    iqn: String,
    lun: u16,
    /// The rows that it was last served by.
    rows: Vec<Export>,
}

/// The target of a node.
#[derive(Debug)]
pub struct TargetRole {
    cloud: Cloud,
    /// The host part of service names: whose rows are ours.
    host: String,
    backends: BTreeMap<String, SharedDriver>,
    target: Target,
    portals: Vec<SocketAddr>,
    served: Mutex<HashMap<VolumeId, Served>>,
    /// One change of a volume at a time.
    gates: Mutex<HashMap<VolumeId, Arc<tokio::sync::Mutex<()>>>>,
    /// Changes run to their end whatever becomes of who asked for them.
    changes: TaskTracker,
    stopping: CancellationToken,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl TargetRole {
    /// Takes the portals, serves what the rows of this node demand, and only then begins to listen. A volume that cannot be
    /// opened yet is left for [`run`](Self::run).
    ///
    /// # Errors
    /// A portal cannot be listened on, or initiators cannot be told where it is.
    pub async fn start(
        cloud: Cloud,
        host: &str,
        backends: BTreeMap<String, SharedDriver>,
        settings: TargetSettings,
    ) -> io::Result<Arc<Self>> {
        let config = TargetConfig {
            advertised: settings.advertised.clone(),
            ..TargetConfig::new(settings.portals.clone())
        };
        let target = Target::bind(config).await?;
        let portals = if settings.advertised.is_empty() { target.portals() } else { settings.advertised };
        if let Some(portal) = portals.iter().find(|portal| portal.ip().is_unspecified()) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!(
                    "initiators cannot be sent to {portal}: set target_ip_address to an address of this host"
                ),
            ));
        }
        let role = Arc::new(Self {
            cloud,
            host: host.to_owned(),
            backends,
            target,
            portals,
            served: Mutex::default(),
            gates: Mutex::default(),
            changes: TaskTracker::new(),
            stopping: CancellationToken::new(),
        });
        role.compare().await;
        role.target.start();
        Ok(role)
    }

    /// The addresses that initiators are told.
    pub fn portals(&self) -> &[SocketAddr] {
        &self.portals
    }

    /// The sessions there are.
    pub fn sessions(&self) -> Vec<iscsi::SessionReport> {
        self.target.sessions()
    }

    /// What all sessions have done since this role began.
    pub fn totals(&self) -> iscsi::Totals {
        self.target.totals()
    }

    /// The volumes that are served now.
    pub fn volumes(&self) -> Vec<VolumeId> {
        lock(&self.served).keys().copied().collect()
    }

    /// Compares rows and exports on a ring and periodically, until stopped; then ends all sessions and closes the volumes.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let topic = db::export::topic(&self.host);
        let mut bell = self.cloud.bus.listen();
        let mut failures = 0u32;
        loop {
            let pause =
                if failures == 0 { PERIOD } else { (RETRY * 2u32.pow((failures - 1).min(8))).min(PERIOD) };
            tokio::select! {
                () = stop.cancelled() => break,
                () = bell.heard(|rung| rung == topic) => {}
                () = tokio::time::sleep(pause) => {}
            }
            failures = if self.compare().await { 0 } else { failures + 1 };
        }
        self.shutdown().await;
    }

    /// Ends every session, waits for their commands, flushes and closes every volume. What rows demand is served again
    /// at the next start.
    pub async fn shutdown(&self) {
        self.stopping.cancel();
        self.changes.close();
        self.changes.wait().await;
        self.target.shutdown().await;
        let open: Vec<(VolumeId, Served)> = lock(&self.served).drain().collect();
        for (volume, served) in open {
            flush(volume, &served.device).await;
            self.target.remove(&served.iqn).await;
        }
    }

    /// Tells the initiators of a volume that it has grown. Nothing when it is not served here.
    ///
    /// # Errors
    /// The target does not serve what it should: worth repeating.
    pub fn capacity_changed(&self, volume: VolumeId, size: GiB) -> Result<(), Failure> {
        let served = lock(&self.served);
        let Some(one) = served.get(&volume) else { return Ok(()) };
        self.target
            .capacity_changed(&one.iqn, one.lun)
            .map_err(|error| Failure::again(format!("telling initiators of a new size: {error}")))?;
        tracing::info!(volume.id = %volume, size_gib = size.0, "told initiators of the new size");
        Ok(())
    }

    /// Makes a volume what its rows say. When this returns `Ok`, initiators of its rows are admitted, nobody else is, and rows
    /// that were ending are gone. Runs to its end even when the caller goes away.
    ///
    /// # Errors
    /// The volume cannot be opened or served, or the database is away: worth repeating unless it says otherwise.
    pub async fn sync(self: &Arc<Self>, volume: VolumeId) -> Result<(), Failure> {
        let this = self.clone();
        let change = async move {
            let gate = lock(&this.gates).entry(volume).or_default().clone();
            let result = {
                let _alone = gate.lock().await;
                if this.stopping.is_cancelled() {
                    Err(Failure::again("the target is stopping"))
                } else {
                    this.apply(volume).await
                }
            };
            drop(gate);
            let mut gates = lock(&this.gates);
            if gates.get(&volume).is_some_and(|gate| Arc::strong_count(gate) == 1) {
                gates.remove(&volume);
            }
            drop(gates);
            result
        };
        // What it logs belongs to whoever asked.
        let change = self.changes.spawn(change.in_current_span());
        change.await.unwrap_or_else(|error| Err(Failure::again(format!("serving volume {volume}: {error}"))))
    }

    /// Brings every volume up to date whose rows differ from what is served; whether all are now. Without the database nothing
    /// changes.
    async fn compare(self: &Arc<Self>) -> bool {
        let rows = match db::export::of_node(&mut self.cloud.db.read(), &self.host).await {
            Ok(rows) => rows,
            Err(error) => {
                tracing::warn!(%error, "reading the exports of this node");
                return false;
            }
        };
        let mut wanted: HashMap<VolumeId, Vec<Export>> = HashMap::new();
        for row in rows {
            wanted.entry(row.volume_id).or_default().push(row);
        }
        let mut stale: Vec<VolumeId> = Vec::new();
        {
            let served = lock(&self.served);
            stale.extend(served.keys().filter(|volume| !wanted.contains_key(volume)));
            stale.extend(wanted.iter().filter_map(|(volume, rows)| {
                let same = served.get(volume).is_some_and(|served| served.rows == *rows);
                (!same).then_some(*volume)
            }));
        }
        futures::stream::iter(stale)
            .map(async |volume| {
                let result = self.sync(volume).await;
                if let Err(failure) = &result {
                    tracing::warn!(volume.id = %volume, error = failure.message, "serving a volume");
                }
                result.is_ok()
            })
            .buffer_unordered(AT_ONCE)
            .fold(true, async |all, served| all && served)
            .await
    }

    async fn apply(&self, volume: VolumeId) -> Result<(), Failure> {
        let rows = db::export::of_volume(&mut self.cloud.db.read(), volume).await?;
        let (ending, wanted): (Vec<Export>, Vec<Export>) =
            rows.into_iter().filter(|row| row.node == self.host).partition(|row| row.ending);
        let result = if wanted.is_empty() {
            self.close(volume).await;
            Ok(())
        } else {
            self.serve(volume, wanted).await
        };
        // A volume that could not be opened reaches nobody: what ends has ended, whatever becomes of the others.
        let cut = result.is_ok() || !lock(&self.served).contains_key(&volume);
        if cut {
            self.forget(volume, ending).await?;
        }
        result
    }

    /// Removes rows that have been cut.
    async fn forget(&self, volume: VolumeId, ending: Vec<Export>) -> Result<(), Failure> {
        if ending.is_empty() {
            return Ok(());
        }
        let ids: Vec<String> = ending.into_iter().map(|row| row.id).collect();
        let mut tx = self.cloud.db.begin().await?;
        db::export::remove_ended(&mut tx, &ids).await?;
        if db::export::of_volume(&mut tx, volume).await?.is_empty() {
            // Reservations are among those who share a volume; the next to attach it must not meet them.
            db::export::store_reservations(&mut tx, &volume.to_string(), None).await?;
        }
        self.cloud.commit(tx).await?;
        Ok(())
    }

    async fn serve(&self, volume: VolumeId, rows: Vec<Export>) -> Result<(), Failure> {
        let first = &rows[0];
        let (iqn, lun) = (first.iqn.clone(), first.lun);
        let open = lock(&self.served).get(&volume).map(|served| served.device.clone());
        let device = match open {
            Some(device) => device,
            None => self.open(volume).await?,
        };
        let grants = rows.iter().map(|row| self.grant(row)).collect::<Result<_, _>>()?;
        let unit = Lun {
            reservations: Some(Arc::new(Stored::new(self.cloud.clone(), volume))),
            ..Lun::new(lun, device.clone(), volume.0)
        };
        let export = iscsi::Export { iqn: iqn.clone(), luns: vec![unit], access: Access::List(grants) };
        self.target
            .put(export)
            .await
            .map_err(|error| Failure::permanent(crate::engine::with_causes(&error)))?;
        lock(&self.served).insert(volume, Served { device, iqn, lun, rows });
        Ok(())
    }

    async fn open(&self, id: VolumeId) -> Result<Device, Failure> {
        let row = db::volume::get(&mut self.cloud.db.read(), id).await?;
        let row = row.ok_or_else(|| Failure::permanent(format!("volume {id} is gone")))?;
        let pool = volume::create::pool_of(&row)?;
        let driver = self.backends.get(&pool.service_host()).ok_or_else(|| {
            Failure::permanent(format!("this node does not have the backend {}", pool.service_host()))
        })?;
        // Always for writing, also when every initiator only reads: the block owner is who may write.
        Ok(driver.open(Openable::Volume(&volume::reference(&row)), OpenMode::Write).await?)
    }

    fn grant(&self, row: &Export) -> Result<Grant, Failure> {
        let chap = match (&row.chap_user, &row.chap_secret) {
            (Some(user), Some(sealed)) => {
                let secret = self.cloud.sealer.open(sealed).map_err(|e| Failure::permanent(e.to_string()))?;
                Some(Chap { user: user.clone(), secret, mutual: None })
            }
            // Never without a secret: a row of another program is not served.
            _ => return Err(Failure::permanent(format!("export {} has no secret", row.id))),
        };
        Ok(Grant { initiator: row.initiator.clone(), chap, read_only: row.mode == AttachMode::ReadOnly })
    }

    async fn close(&self, volume: VolumeId) {
        let Some(served) = lock(&self.served).remove(&volume) else { return };
        self.target.remove(&served.iqn).await;
        flush(volume, &served.device).await;
    }
}

/// What initiators have flushed is safe already; this is for what they have not.
async fn flush(volume: VolumeId, device: &Device) {
    if let Err(error) = device.flush().await {
        tracing::error!(volume.id = %volume, %error, "flushing a volume before it is closed");
    }
}
