//! Aborting commands: on this connection's own orders and on those of others.
//!
//! A command that waits for the initiator is gone at once; one that the device has is marked and gone when the device is
//! done. A task management function is answered when the last command that it concerns is gone, here and on every other
//! connection.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::Connection;
use super::receive::Place;
use super::task::{Slot, Stage, Task};
use crate::scsi::capacity::lun_number;
use crate::scsi::sense::Sense;
use crate::scsi::unit::Order;

/// So many tags of aborted commands are remembered: their data may still be on its way.
const REMEMBERED: usize = 64;

/// Which commands an abort is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    Task(u32),
    Unit(u16),
    All,
}

impl Scope {
    fn covers(self, task: &Task) -> bool {
        match self {
            Self::Task(itt) => task.itt == itt,
            Self::Unit(lun) => lun_number(task.lun) == Some(lun),
            Self::All => true,
        }
    }
}

/// What follows when the last command of an abort is gone.
#[derive(Debug)]
pub enum Then {
    /// Another connection is told.
    Tell(oneshot::Sender<()>),
    /// The task management function with this number is answered.
    Answer(u32),
}

/// Aborts in progress.
#[derive(Debug, Default)]
pub struct Aborts {
    /// Waits for aborted commands of its scope, whoever aborted them.
    pending: Vec<(Scope, Then)>,
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
    /// Aborts one command.
    fn abort_task(&mut self, slot: Slot) {
        let Some(task) = self.tasks.get_mut(slot) else { return };
        let itt = task.itt;
        task.aborted = true;
        let with_device = self.with_device(slot);
        self.aborts.remember(itt);
        if !with_device {
            self.drop_aborted(slot);
        }
    }

    /// Whether a command is with the device now; if not, it waits for the initiator or for room.
    fn with_device(&mut self, slot: Slot) -> bool {
        match self.tasks.get_mut(slot).map(|task| &task.stage) {
            None | Some(Stage::Answered(_) | Stage::Ready(_)) => false,
            Some(Stage::Working) => true,
            // A read that is not waiting for room in the outbox is being read.
            Some(Stage::Reading(_)) => !self.waiting.contains(&slot),
            // The device has the buffer when a full stage has none.
            Some(Stage::Receiving(inbound)) => {
                inbound.buf.is_empty() && inbound.have >= inbound.base + inbound.size
            }
        }
    }

    /// Aborts the commands of a scope.
    pub(super) fn abort(&mut self, scope: Scope) {
        let covered = self.tasks.iter().filter(|(_, task)| !task.aborted && scope.covers(task));
        let slots: Vec<Slot> = covered.map(|(slot, _)| slot).collect();
        for slot in slots {
            self.abort_task(slot);
        }
    }

    /// Removes an aborted command that nothing uses any more.
    pub(super) fn drop_aborted(&mut self, slot: Slot) {
        self.waiting.retain(|waiting| *waiting != slot);
        self.forget_incoming(slot);
        let Some(task) = self.tasks.remove(slot) else { return };
        if let Stage::Receiving(inbound) = task.stage {
            self.pool.put(inbound.buf);
        }
        drop(task.guard);
        self.settle_aborts();
    }

    /// What is just coming in for a command goes nowhere.
    fn forget_incoming(&mut self, slot: Slot) {
        if let Some(incoming) = &mut self.incoming
            && matches!(incoming.place, Place::Command(s) | Place::DataOut(s, _) if s == slot)
        {
            incoming.place = Place::Ignore;
        }
    }

    /// Goes on with what waited for aborted commands that are gone now.
    fn settle_aborts(&mut self) {
        let tasks = &self.tasks;
        let through = |scope: Scope| !tasks.iter().any(|(_, task)| task.aborted && scope.covers(task));
        let (done, pending): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.aborts.pending).into_iter().partition(|(scope, _)| through(*scope));
        self.aborts.pending = pending;
        for (_, then) in done {
            match then {
                // The one who asked may have gone.
                Then::Tell(done) => drop(done.send(())),
                Then::Answer(number) => self.own_done(number),
            }
        }
    }

    /// Says what follows when every aborted command of a scope is gone; it may be so already.
    pub(super) fn after_abort(&mut self, scope: Scope, then: Then) {
        self.aborts.pending.push((scope, then));
        self.settle_aborts();
    }

    /// Does what another connection, a command of this one, or the target's owner asks for.
    pub(super) fn obey(&mut self, order: Order) {
        match order {
            Order::Abort { lun, done } => {
                self.abort(Scope::Unit(lun));
                self.after_abort(Scope::Unit(lun), Then::Tell(done));
            }
            Order::MeetUnits { done } => {
                self.meet_units();
                self.refuse_departed();
                // The one who asked may have gone.
                let _ = done.send(());
            }
        }
    }

    /// Answers commands whose unit is gone and which the device does not have: nobody shall wait for their data.
    fn refuse_departed(&mut self) {
        let departed = |task: &Task| {
            task.nexus.as_ref().is_some_and(|nexus| !self.nexuses.iter().any(|kept| Arc::ptr_eq(kept, nexus)))
        };
        let slots: Vec<Slot> =
            self.tasks.iter().filter(|(_, task)| departed(task)).map(|(slot, _)| slot).collect();
        for slot in slots {
            if !self.with_device(slot) {
                self.waiting.retain(|waiting| *waiting != slot);
                self.forget_incoming(slot);
                if let Some(itt) = self.tasks.get_mut(slot).map(|task| task.itt) {
                    self.aborts.remember(itt);
                }
                self.answer(slot, Sense::no_such_lun().into());
            }
        }
    }
}
