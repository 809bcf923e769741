//! A store that fails, dies or pauses at a chosen operation.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use async_trait::async_trait;
use backup::store::{Download, Listing, SharedStore, Store, Upload, Wanted};
use backup::{Error, Result};
use bytes::Bytes;
use tokio::sync::Semaphore;

/// What happens at the chosen operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The process dies before it has an effect: neither it nor any later one has.
    DieBefore,
    /// The process dies after it has had its effect.
    DieAfter,
    /// It fails for want of space, if it is one that writes; later ones work.
    Full,
    /// It waits to be let go on.
    Pause,
}

/// What the operations of one faulty store share.
#[derive(Debug)]
pub struct Plan {
    fault: Fault,
    at: u64,
    count: AtomicU64,
    dead: AtomicBool,
    /// Gets a permit when the chosen operation has been reached.
    pub reached: Semaphore,
    /// Gives the pause's end.
    pub proceed: Semaphore,
}

impl Plan {
    /// Whether the chosen operation has been reached.
    pub fn struck(&self) -> bool {
        self.count.load(Ordering::SeqCst) > self.at
    }

    async fn before(&self, writes: bool) -> Result<bool> {
        if self.dead.load(Ordering::SeqCst) {
            return Err(dead());
        }
        if self.fault == Fault::Full && !writes {
            return Ok(false);
        }
        if self.count.fetch_add(1, Ordering::SeqCst) != self.at {
            return Ok(false);
        }
        match self.fault {
            Fault::DieBefore => {
                self.dead.store(true, Ordering::SeqCst);
                Err(dead())
            }
            Fault::DieAfter => {
                self.dead.store(true, Ordering::SeqCst);
                Ok(true)
            }
            Fault::Full => Err(Error::NoSpace("injected".into())),
            Fault::Pause => {
                self.reached.add_permits(1);
                self.proceed.acquire().await.unwrap().forget();
                Ok(false)
            }
        }
    }
}

fn dead() -> Error {
    Error::Store { action: "reach", name: "anything".into(), source: "the process is dead".into() }
}

/// A store with a fault at operation `at`.
#[derive(Debug)]
pub struct FaultyStore {
    inner: SharedStore,
    plan: Arc<Plan>,
}

impl FaultyStore {
    pub fn around(inner: SharedStore, fault: Fault, at: u64) -> (SharedStore, Arc<Plan>) {
        let plan = Arc::new(Plan {
            fault,
            at,
            count: AtomicU64::new(0),
            dead: AtomicBool::new(false),
            reached: Semaphore::new(0),
            proceed: Semaphore::new(0),
        });
        (Arc::new(Self { inner, plan: Arc::clone(&plan) }), plan)
    }
}

/// Runs one operation under the plan.
macro_rules! step {
    ($plan:expr, $writes:expr, $work:expr) => {{
        let last = $plan.before($writes).await?;
        let result = $work.await;
        if last { Err(dead()) } else { result }
    }};
}

#[async_trait]
impl Store for FaultyStore {
    async fn start(&self) -> Result<()> {
        step!(self.plan, false, self.inner.start())
    }

    async fn prepare(&self, container: &str) -> Result<()> {
        step!(self.plan, true, self.inner.prepare(container))
    }

    async fn create(&self, container: &str, name: &str, run: &str) -> Result<Box<dyn Upload>> {
        let made: Result<Box<dyn Upload>> = step!(self.plan, true, async {
            self.inner.create(container, name, run).await.map(std::mem::ManuallyDrop::new)
        })
        .map(std::mem::ManuallyDrop::into_inner);
        Ok(Box::new(FaultyUpload { inner: Some(made?), plan: Arc::clone(&self.plan) }))
    }

    async fn open(&self, container: &str, name: &str) -> Result<Box<dyn Download>> {
        step!(self.plan, false, self.inner.open(container, name))
    }

    async fn list(&self, container: &str, prefix: &str) -> Result<Box<dyn Listing>> {
        step!(self.plan, false, self.inner.list(container, prefix))
    }

    async fn delete(&self, container: &str, name: &str) -> Result<()> {
        step!(self.plan, false, self.inner.delete(container, name))
    }

    async fn drop_unfinished(&self, container: &str, wanted: &Wanted<'_>) -> Result<()> {
        step!(self.plan, false, self.inner.drop_unfinished(container, wanted))
    }

    async fn settle(&self, container: &str) -> Result<()> {
        step!(self.plan, true, self.inner.settle(container))
    }

    async fn tidy(&self, container: &str) -> Result<()> {
        step!(self.plan, false, self.inner.tidy(container))
    }
}

#[derive(Debug)]
struct FaultyUpload {
    inner: Option<Box<dyn Upload>>,
    plan: Arc<Plan>,
}

#[async_trait]
impl Upload for FaultyUpload {
    async fn write(&mut self, data: Bytes) -> Result<()> {
        let inner = self.inner.as_mut().unwrap();
        step!(self.plan, true, inner.write(data))
    }

    async fn write_zeroes(&mut self, length: u64) -> Result<()> {
        let inner = self.inner.as_mut().unwrap();
        step!(self.plan, true, inner.write_zeroes(length))
    }

    async fn finish(mut self: Box<Self>) -> Result<()> {
        let last = self.plan.before(true).await?;
        let result = self.inner.take().unwrap().finish().await;
        if last { Err(dead()) } else { result }
    }

    async fn abort(mut self: Box<Self>) -> Result<()> {
        let last = self.plan.before(false).await?;
        let result = self.inner.take().unwrap().abort().await;
        if last { Err(dead()) } else { result }
    }
}

impl Drop for FaultyUpload {
    fn drop(&mut self) {
        // A dead process tidies nothing up.
        if self.plan.dead.load(Ordering::SeqCst) {
            std::mem::forget(self.inner.take());
        }
    }
}
