//! Which blocks are being written: so that COMPARE AND WRITE and ORWRITE are atomic against every other write.
//!
//! Plain writes share; they exclude nobody but the exclusive ones whose blocks they touch. Requests are served in
//! order of arrival where they conflict, so that a stream of writes cannot starve an exclusive request.

use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

/// How a range is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// Beside other writes.
    Shared,
    /// Alone.
    Exclusive,
}

#[derive(Debug)]
struct Claim {
    id: u64,
    blocks: Range<u64>,
    hold: Hold,
    /// Set while it waits.
    waiter: Option<Waker>,
    granted: bool,
}

#[derive(Debug, Default)]
struct Claims {
    next_id: u64,
    /// In order of arrival. Bounded by the commands in flight.
    list: Vec<Claim>,
}

impl Claims {
    fn conflicts(&self, before: usize, blocks: &Range<u64>, hold: Hold) -> bool {
        self.list[..before].iter().any(|other| {
            (hold == Hold::Exclusive || other.hold == Hold::Exclusive)
                && other.blocks.start < blocks.end
                && blocks.start < other.blocks.end
        })
    }

    /// Grants what can be granted now and wakes it.
    fn settle(&mut self) {
        for at in 0..self.list.len() {
            if !self.list[at].granted {
                let (blocks, hold) = (self.list[at].blocks.clone(), self.list[at].hold);
                if !self.conflicts(at, &blocks, hold) {
                    self.list[at].granted = true;
                    if let Some(waker) = self.list[at].waiter.take() {
                        waker.wake();
                    }
                }
            }
        }
    }
}

/// The ranges of one unit.
#[derive(Debug, Clone, Default)]
pub struct Ranges(Arc<Mutex<Claims>>);

impl Ranges {
    /// Waits until `blocks` may be written this way; they are given back when the guard is dropped.
    pub fn hold(&self, blocks: Range<u64>, hold: Hold) -> Holding {
        let mut claims = self.0.lock().expect("no code panics while it holds this lock");
        let id = claims.next_id;
        claims.next_id += 1;
        let granted = !claims.conflicts(claims.list.len(), &blocks, hold);
        claims.list.push(Claim { id, blocks, hold, waiter: None, granted });
        Holding { guard: Some(RangeGuard { ranges: self.clone(), id }) }
    }
}

/// A held range.
#[derive(Debug)]
pub struct RangeGuard {
    ranges: Ranges,
    id: u64,
}

impl Drop for RangeGuard {
    fn drop(&mut self) {
        let mut claims = self.ranges.0.lock().expect("no code panics while it holds this lock");
        let Some(at) = claims.list.iter().position(|claim| claim.id == self.id) else { return };
        let claim = claims.list.remove(at);
        // Shared claims block nobody unless somebody waits.
        if claim.hold == Hold::Exclusive || claims.list.iter().any(|other| !other.granted) {
            claims.settle();
        }
    }
}

/// Waits for a range.
#[derive(Debug)]
pub struct Holding {
    guard: Option<RangeGuard>,
}

impl Future for Holding {
    type Output = RangeGuard;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<RangeGuard> {
        let guard = self.guard.take().expect("a future is not polled after it is ready");
        let granted = {
            let mut claims = guard.ranges.0.lock().expect("no code panics while it holds this lock");
            let claim = claims.list.iter_mut().find(|claim| claim.id == guard.id);
            let claim = claim.expect("a claim stays listed until its guard is dropped");
            if !claim.granted {
                claim.waiter = Some(cx.waker().clone());
            }
            claim.granted
        };
        if granted {
            return Poll::Ready(guard);
        }
        self.guard = Some(guard);
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn shared_ranges_overlap_and_exclusive_ones_wait() {
        let ranges = Ranges::default();
        let first = ranges.hold(0..8, Hold::Shared).now_or_never().expect("nothing is held");
        let _second = ranges.hold(4..12, Hold::Shared).now_or_never().expect("shared beside shared");
        let _apart = ranges.hold(12..13, Hold::Exclusive).now_or_never().expect("no overlap");
        let mut waiting = Box::pin(ranges.hold(0..1, Hold::Exclusive));
        assert!(waiting.as_mut().now_or_never().is_none());
        let mut behind = Box::pin(ranges.hold(0..1, Hold::Shared));
        assert!(behind.as_mut().now_or_never().is_none(), "later writes must not overtake");
        drop(first);
        let exclusive = waiting.as_mut().now_or_never().expect("alone now");
        assert!(behind.as_mut().now_or_never().is_none());
        drop(exclusive);
        assert!(behind.as_mut().now_or_never().is_some());
    }

    #[test]
    fn giving_up_waiting_lets_the_next_one_through() {
        let ranges = Ranges::default();
        let _first = ranges.hold(0..8, Hold::Shared).now_or_never().expect("nothing is held");
        let gives_up = ranges.hold(0..8, Hold::Exclusive);
        let mut behind = Box::pin(ranges.hold(0..8, Hold::Shared));
        assert!(behind.as_mut().now_or_never().is_none());
        drop(gives_up);
        assert!(behind.as_mut().now_or_never().is_some());
    }
}
