//! Group commit: one flush of a device at a time, shared by everybody who asked for it before it began.
//!
//! A request that arrives while a flush runs is not covered by it (its writes may have come too late), so it joins the
//! next one. However many wait, the device sees one flush after the other.

use std::io;
use std::sync::{Arc, Mutex};

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use model::block::Device;

type Flush = Shared<BoxFuture<'static, Result<(), Arc<io::Error>>>>;

#[derive(Debug, Default)]
struct Rounds {
    running: Option<Flush>,
    next: Option<Flush>,
}

/// The flushes of one device.
#[derive(Debug)]
pub struct FlushGroup {
    device: Device,
    rounds: Arc<Mutex<Rounds>>,
}

impl FlushGroup {
    /// The flushes of `device`.
    pub fn new(device: Device) -> Self {
        Self { device, rounds: Arc::default() }
    }

    /// Makes durable every write that completed before this was called.
    ///
    /// # Errors
    /// The device's, shared by all who joined the same flush.
    pub async fn flush(&self) -> Result<(), Arc<io::Error>> {
        self.join().await
    }

    fn join(&self) -> Flush {
        let mut rounds = self.rounds.lock().expect("no code panics while it holds this lock");
        if let Some(next) = &rounds.next {
            return next.clone();
        }
        let device = self.device.clone();
        match rounds.running.clone() {
            Some(running) if running.peek().is_none() => {
                let shared = self.rounds.clone();
                let next = async move {
                    // The outcome of the flush before is not ours.
                    let _ = running.await;
                    {
                        let mut rounds = shared.lock().expect("no code panics while it holds this lock");
                        rounds.running = rounds.next.take();
                    }
                    device.flush().await.map_err(Arc::new)
                };
                let next = next.boxed().shared();
                rounds.next = Some(next.clone());
                next
            }
            _ => {
                let now = async move { device.flush().await.map_err(Arc::new) }.boxed().shared();
                rounds.running = Some(now.clone());
                now
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use async_trait::async_trait;
    use model::{BlockDevice, Extent, ExtentKind};
    use tokio::sync::Semaphore;

    use super::*;

    /// A device whose flushes wait for a permit.
    #[derive(Debug)]
    struct Gated {
        gate: Semaphore,
        flushes: AtomicUsize,
    }

    #[async_trait]
    impl BlockDevice for Gated {
        fn size(&self) -> u64 {
            0
        }
        async fn read(&self, _: u64, _: &mut [u8]) -> io::Result<()> {
            Ok(())
        }
        async fn write(&self, _: u64, _: &[u8]) -> io::Result<()> {
            Ok(())
        }
        async fn flush(&self) -> io::Result<()> {
            self.gate.acquire().await.expect("the gate stays open").forget();
            self.flushes.fetch_add(1, Ordering::SeqCst);
            Ok(())
        }
        async fn discard(&self, _: u64, _: u64) -> io::Result<()> {
            Ok(())
        }
        async fn write_zeroes(&self, _: u64, _: u64) -> io::Result<()> {
            Ok(())
        }
        async fn block_status(&self, _: u64, length: u64) -> io::Result<Extent> {
            Ok(Extent { length, kind: ExtentKind::Data })
        }
    }

    /// I7: a flush that was asked for while another ran is a flush of its own, but one for all who asked.
    #[tokio::test]
    async fn late_requests_share_the_next_flush() {
        let device = Arc::new(Gated { gate: Semaphore::new(0), flushes: AtomicUsize::new(0) });
        let group = Arc::new(FlushGroup::new(device.clone()));
        let mut first = Box::pin(group.flush());
        assert!(first.as_mut().now_or_never().is_none());
        let mut late: Vec<_> = (0..50).map(|_| Box::pin(group.flush())).collect();
        for one in &mut late {
            assert!(one.as_mut().now_or_never().is_none());
        }
        device.gate.add_permits(1);
        first.await.unwrap();
        assert_eq!(device.flushes.load(Ordering::SeqCst), 1);
        device.gate.add_permits(1);
        for one in late {
            one.await.unwrap();
        }
        assert_eq!(device.flushes.load(Ordering::SeqCst), 2);
        device.gate.add_permits(1);
        group.flush().await.unwrap();
        assert_eq!(device.flushes.load(Ordering::SeqCst), 3);
    }

    /// A command that is cut off while it waits must not stop those that share its flush.
    #[tokio::test]
    async fn a_waiter_that_leaves_stops_nobody() {
        let device = Arc::new(Gated { gate: Semaphore::new(0), flushes: AtomicUsize::new(0) });
        let group = Arc::new(FlushGroup::new(device.clone()));
        let mut first = Box::pin(group.flush());
        assert!(first.as_mut().now_or_never().is_none());
        let second = group.flush();
        drop(first);
        device.gate.add_permits(2);
        second.await.unwrap();
    }
}
