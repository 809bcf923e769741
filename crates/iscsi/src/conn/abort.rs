//! Aborting commands: on this connection's own orders and on those of others.
//!
//! A command that waits for the initiator is gone at once; one that the device has is marked and gone when the device is
//! done. A task management function is answered when the last command that it concerns is gone, here and on every other
//! connection.

use std::collections::VecDeque;

use tokio::sync::oneshot;

use super::Connection;
use super::receive::Place;
use super::task::{Slot, Stage};
use crate::scsi::capacity::lun_number;
use crate::scsi::unit::Order;

/// So many tags of aborted commands are remembered: their data may still be on its way.
const REMEMBERED: usize = 64;

/// What follows when the last command of an abort is gone.
#[derive(Debug)]
pub enum Then {
    /// Another connection is told.
    Tell(oneshot::Sender<()>),
    /// A task management function is answered; it is kept until then by its number.
    Answer,
}

/// Aborts in progress.
#[derive(Debug, Default)]
pub struct Aborts {
    next: u32,
    pending: Vec<(u32, Then)>,
    recent: VecDeque<u32>,
}

impl Aborts {
    /// Whether a command with this tag was aborted a short while ago.
    pub fn recently(&self, itt: u32) -> bool {
        self.recent.contains(&itt)
    }

    /// Notes that data of a command may still be on its way.
    pub fn remember(&mut self, itt: u32) {
        if self.recent.len() == REMEMBERED {
            self.recent.pop_front();
        }
        self.recent.push_back(itt);
    }
}

impl Connection {
    /// Begins an abort and returns its number.
    pub(super) fn begin_abort(&mut self) -> u32 {
        self.aborts.next = self.aborts.next.wrapping_add(1);
        self.aborts.next
    }

    /// Aborts one command.
    pub(super) fn abort_task(&mut self, slot: Slot, abort: u32) {
        let Some(task) = self.tasks.get_mut(slot) else { return };
        let itt = task.itt;
        task.aborted = Some(abort);
        let with_device = match &mut task.stage {
            Stage::Answered(_) | Stage::Ready(_) => false,
            Stage::Working => true,
            // A read waits only for room in the outbox; else the device has it.
            Stage::Reading(_) => !self.waiting.contains(&slot),
            // The buffer is with the device when a full stage has none.
            Stage::Receiving(inbound) => {
                inbound.buf.is_empty() && inbound.have >= inbound.base + inbound.size
            }
        };
        self.aborts.remember(itt);
        if !with_device {
            self.waiting.retain(|waiting| *waiting != slot);
            self.drop_aborted(slot);
        }
    }

    /// Aborts every command on a LUN, or on all.
    pub(super) fn abort_tasks(&mut self, lun: Option<u16>, abort: u32) {
        let slots: Vec<Slot> = self
            .tasks
            .iter()
            .filter(|(_, task)| {
                task.aborted.is_none() && lun.is_none_or(|lun| lun_number(task.lun) == Some(lun))
            })
            .map(|(slot, _)| slot)
            .collect();
        for slot in slots {
            self.abort_task(slot, abort);
        }
    }

    /// Removes an aborted command that nothing uses any more.
    pub(super) fn drop_aborted(&mut self, slot: Slot) {
        let Some(task) = self.tasks.remove(slot) else { return };
        if let Some(incoming) = &mut self.incoming
            && matches!(incoming.place, Place::Command(s) | Place::DataOut(s, _) if s == slot)
        {
            incoming.place = Place::Ignore;
        }
        let abort = task.aborted;
        if let Stage::Receiving(inbound) = task.stage {
            self.pool.put(inbound.buf);
        }
        drop(task.guard);
        if let Some(abort) = abort {
            self.settle_abort(abort);
        }
    }

    /// Sees whether an abort has nothing left to wait for here.
    pub(super) fn settle_abort(&mut self, abort: u32) {
        if self.tasks.iter().any(|(_, task)| task.aborted == Some(abort)) {
            return;
        }
        let Some(at) = self.aborts.pending.iter().position(|(number, _)| *number == abort) else { return };
        match self.aborts.pending.swap_remove(at).1 {
            // The one who asked may have gone.
            Then::Tell(done) => drop(done.send(())),
            Then::Answer => self.answer_management(abort),
        }
    }

    /// Says what follows when an abort is through; it may be so already.
    pub(super) fn after_abort(&mut self, abort: u32, then: Then) {
        self.aborts.pending.push((abort, then));
        self.settle_abort(abort);
    }

    /// Does what another connection, a command of this one, or the target's owner asks for.
    pub(super) fn obey(&mut self, order: Order) {
        match order {
            Order::Abort { lun, done } => {
                let abort = self.begin_abort();
                self.abort_tasks(Some(lun), abort);
                self.after_abort(abort, Then::Tell(done));
            }
            Order::MeetUnits { done } => {
                self.meet_units();
                // The one who asked may have gone.
                let _ = done.send(());
            }
        }
    }
}
