//! A driver that does what the `file` driver does, unless a test has told it to fail or to wait at a call.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use drivers::file::FileDriver;
use drivers::{
    BackendStats, Capabilities, Driver, DriverError, ErrorKind, Found, Manageable, OpenMode, Openable,
    Provider, Result, SnapshotRef, Source, VolumeRef,
};
use model::GiB;
use model::block::Device;
use model::job::Claim;
use tokio::sync::Semaphore;

/// What happens at a call instead of, or before, the real thing.
#[derive(Debug, Clone)]
pub enum Act {
    Fail(ErrorKind),
    Panic,
    /// Says that it is there and waits to be let on; then the real thing happens, if the claim still holds.
    Wait(Arc<Gate>),
    /// Says that it is there and works on until its claim tells it to stop.
    Labour(Arc<Gate>),
}

/// Where a call waits. Works across runtimes.
#[derive(Debug)]
pub struct Gate {
    reached: Semaphore,
    open: Semaphore,
}

impl Gate {
    fn new() -> Arc<Self> {
        Arc::new(Self { reached: Semaphore::new(0), open: Semaphore::new(0) })
    }

    /// Waits until a call is here that has not been waited for.
    pub async fn reached(&self) {
        self.reached.acquire().await.expect("never closed").forget();
    }

    /// Lets all calls on, those to come too.
    pub fn open(&self) {
        self.open.add_permits(Semaphore::MAX_PERMITS >> 1);
    }

    async fn pass(&self) {
        self.reached.add_permits(1);
        self.open.acquire().await.expect("never closed").forget();
    }
}

/// The driver.
#[derive(Debug)]
pub struct TestDriver {
    inner: FileDriver,
    /// What is still to happen, by call, first first; each happens once.
    script: Mutex<HashMap<&'static str, Vec<Act>>>,
    /// How often each call came through to the real driver.
    calls: Mutex<HashMap<&'static str, usize>>,
    stats: Mutex<Option<BackendStats>>,
}

impl TestDriver {
    pub fn over(inner: FileDriver) -> Self {
        Self { inner, script: Mutex::default(), calls: Mutex::default(), stats: Mutex::default() }
    }

    /// The next call of `name` fails.
    pub fn fail(&self, name: &'static str, kind: ErrorKind) {
        self.then(name, Act::Fail(kind));
    }

    /// The next call of `name` panics.
    pub fn panic(&self, name: &'static str) {
        self.then(name, Act::Panic);
    }

    /// The next `times` calls of `name` wait at one gate.
    pub fn hold(&self, name: &'static str, times: usize) -> Arc<Gate> {
        let gate = Gate::new();
        for _ in 0..times {
            self.then(name, Act::Wait(gate.clone()));
        }
        gate
    }

    /// The next call of `name` does not end by itself.
    pub fn labour(&self, name: &'static str) -> Arc<Gate> {
        let gate = Gate::new();
        self.then(name, Act::Labour(gate.clone()));
        gate
    }

    fn then(&self, name: &'static str, act: Act) {
        self.script.lock().expect("nobody panicked").entry(name).or_default().push(act);
    }

    /// What the backend reports from now on.
    pub fn report(&self, stats: BackendStats) {
        *self.stats.lock().expect("nobody panicked") = Some(stats);
    }

    /// How often `name` came through.
    pub fn calls(&self, name: &str) -> usize {
        self.calls.lock().expect("nobody panicked").get(name).copied().unwrap_or(0)
    }

    async fn before(&self, name: &'static str, claim: &Claim) -> Result<()> {
        let act = {
            let mut script = self.script.lock().expect("nobody panicked");
            script.get_mut(name).filter(|acts| !acts.is_empty()).map(|acts| acts.remove(0))
        };
        match act {
            Some(Act::Fail(kind)) => return Err(DriverError::new(kind, format!("{name} was told to fail"))),
            Some(Act::Panic) => panic!("{name} was told to panic"),
            Some(Act::Wait(gate)) => gate.pass().await,
            Some(Act::Labour(gate)) => {
                gate.reached.add_permits(1);
                loop {
                    claim.check()?;
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
            None => {}
        }
        claim.check()?;
        *self.calls.lock().expect("nobody panicked").entry(name).or_default() += 1;
        Ok(())
    }
}

#[async_trait]
impl Driver for TestDriver {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn start(&self) -> Result<()> {
        self.inner.start().await
    }

    async fn stats(&self) -> Result<BackendStats> {
        let told = self.stats.lock().expect("nobody panicked").clone();
        match told {
            Some(stats) => Ok(stats),
            None => self.inner.stats().await,
        }
    }

    async fn create_volume(&self, volume: &VolumeRef, source: Source<'_>, claim: &Claim) -> Result<Provider> {
        self.before("create_volume", claim).await?;
        self.inner.create_volume(volume, source, claim).await
    }

    async fn extend_volume(&self, volume: &VolumeRef, size: GiB, claim: &Claim) -> Result<()> {
        self.before("extend_volume", claim).await?;
        self.inner.extend_volume(volume, size, claim).await
    }

    async fn delete_volume(&self, volume: &VolumeRef, claim: &Claim) -> Result<()> {
        self.before("delete_volume", claim).await?;
        self.inner.delete_volume(volume, claim).await
    }

    async fn create_snapshot(&self, snapshot: &SnapshotRef, claim: &Claim) -> Result<Provider> {
        self.before("create_snapshot", claim).await?;
        self.inner.create_snapshot(snapshot, claim).await
    }

    async fn create_snapshots(&self, snapshots: &[SnapshotRef], claim: &Claim) -> Result<Vec<Provider>> {
        self.before("create_snapshots", claim).await?;
        self.inner.create_snapshots(snapshots, claim).await
    }

    async fn delete_snapshot(&self, snapshot: &SnapshotRef, claim: &Claim) -> Result<()> {
        self.before("delete_snapshot", claim).await?;
        self.inner.delete_snapshot(snapshot, claim).await
    }

    async fn open(&self, what: Openable<'_>, mode: OpenMode) -> Result<Device> {
        self.before("open", &Claim::unbounded()).await?;
        self.inner.open(what, mode).await
    }

    fn is_open(&self, volume: &VolumeRef) -> bool {
        self.inner.is_open(volume)
    }

    async fn manageable(&self) -> Result<Vec<Manageable>> {
        self.before("manageable", &Claim::unbounded()).await?;
        self.inner.manageable().await
    }

    async fn candidate(&self, what: Openable<'_>, source: &str) -> Result<Manageable> {
        self.before("candidate", &Claim::unbounded()).await?;
        self.inner.candidate(what, source).await
    }

    async fn adopt(&self, what: Openable<'_>, source: &str, claim: &Claim) -> Result<Provider> {
        self.before("adopt", claim).await?;
        self.inner.adopt(what, source, claim).await
    }

    async fn release(&self, what: Openable<'_>, to: Option<&str>, claim: &Claim) -> Result<()> {
        self.before("release", claim).await?;
        self.inner.release(what, to, claim).await
    }

    async fn list(&self) -> Result<Vec<Found>> {
        self.inner.list().await
    }

    async fn discard_intermediate(&self, name: &str) -> Result<()> {
        self.inner.discard_intermediate(name).await
    }
}
