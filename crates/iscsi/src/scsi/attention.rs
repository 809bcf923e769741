//! Unit attentions: what an initiator must be told before its next command on a unit (SAM-5 section 5.14).

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use super::sense::{Sense, key};

/// At most so many wait for one nexus and unit; older ones give way.
const QUEUE_MAX: usize = 8;

/// Something that happened to a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attention(u8, u8);

impl Attention {
    pub const POWER_ON: Self = Self(0x29, 0x00);
    pub const RESET: Self = Self(0x29, 0x03);
    pub const NEXUS_LOSS: Self = Self(0x29, 0x07);
    pub const MODE_CHANGED: Self = Self(0x2a, 0x01);
    pub const RESERVATIONS_PREEMPTED: Self = Self(0x2a, 0x03);
    pub const RESERVATIONS_RELEASED: Self = Self(0x2a, 0x04);
    pub const REGISTRATIONS_PREEMPTED: Self = Self(0x2a, 0x05);
    pub const CAPACITY_CHANGED: Self = Self(0x2a, 0x09);
    pub const COMMANDS_CLEARED: Self = Self(0x2f, 0x00);
    pub const MEDIUM_MAY_HAVE_CHANGED: Self = Self(0x28, 0x00);
    pub const LUNS_CHANGED: Self = Self(0x3f, 0x0e);

    /// As sense data.
    pub const fn sense(self) -> Sense {
        Sense::new(key::UNIT_ATTENTION, self.0, self.1)
    }

    /// Whether it tells of a reset: what was pending before no longer matters.
    const fn is_reset(self) -> bool {
        self.0 == 0x29
    }
}

/// The attentions that wait for one nexus and unit, oldest first. Looking whether there is one takes no lock.
#[derive(Debug, Default)]
pub struct Attentions {
    any: AtomicBool,
    queue: Mutex<VecDeque<Attention>>,
}

impl Attentions {
    /// Adds one, unless it is waiting already.
    pub fn raise(&self, attention: Attention) {
        let mut queue = self.queue.lock().expect("no code panics while it holds this lock");
        if queue.contains(&attention) {
            return;
        }
        if attention.is_reset() {
            queue.clear();
        }
        if queue.len() == QUEUE_MAX {
            queue.pop_front();
        }
        queue.push_back(attention);
        self.any.store(true, Ordering::Release);
    }

    /// Takes the oldest one.
    pub fn take(&self) -> Option<Attention> {
        if !self.any.load(Ordering::Acquire) {
            return None;
        }
        let mut queue = self.queue.lock().expect("no code panics while it holds this lock");
        let attention = queue.pop_front();
        self.any.store(!queue.is_empty(), Ordering::Release);
        attention
    }

    /// Drops one kind: it has been told in another way.
    pub fn forget(&self, attention: Attention) {
        let mut queue = self.queue.lock().expect("no code panics while it holds this lock");
        queue.retain(|waiting| *waiting != attention);
        self.any.store(!queue.is_empty(), Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attentions_come_once_oldest_first() {
        let waiting = Attentions::default();
        assert_eq!(waiting.take(), None);
        waiting.raise(Attention::POWER_ON);
        waiting.raise(Attention::CAPACITY_CHANGED);
        waiting.raise(Attention::CAPACITY_CHANGED);
        assert_eq!(waiting.take(), Some(Attention::POWER_ON));
        assert_eq!(waiting.take(), Some(Attention::CAPACITY_CHANGED));
        assert_eq!(waiting.take(), None);
    }

    #[test]
    fn a_reset_outdates_what_waits() {
        let waiting = Attentions::default();
        waiting.raise(Attention::MODE_CHANGED);
        waiting.raise(Attention::RESET);
        assert_eq!(waiting.take(), Some(Attention::RESET));
        assert_eq!(waiting.take(), None);
    }

    #[test]
    fn the_queue_is_bounded() {
        let waiting = Attentions::default();
        for n in 0..100 {
            waiting.raise(Attention(0x2a, n));
        }
        assert_eq!(std::iter::from_fn(|| waiting.take()).count(), QUEUE_MAX);
    }
}
