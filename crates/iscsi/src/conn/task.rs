//! The commands of a connection.

use std::io;
use std::sync::Arc;

use crate::pdu::{Bhs, NO_TAG};
use crate::scsi::unit::{InFlight, Nexus};
use crate::scsi::{Answer, Blocks, Job, Sink};

/// Where a command is kept.
pub type Slot = u16;

/// At most so many commands for immediate delivery beside the window.
const IMMEDIATE_MAX: u32 = 16;

/// A command.
#[derive(Debug)]
pub struct Task {
    pub itt: u32,
    pub lun: [u8; 8],
    pub immediate: bool,
    /// The initiator takes data.
    pub reads: bool,
    /// The initiator sends data.
    pub writes: bool,
    /// How many bytes the initiator expects to move.
    pub expected: u32,
    /// How many the command moves by itself.
    pub length: u64,
    /// Data-In or R2T PDUs sent so far.
    pub data_sn: u32,
    pub nexus: Option<Arc<Nexus>>,
    pub guard: Option<InFlight>,
    pub stage: Stage,
    /// No answer any more.
    pub aborted: bool,
}

/// What a command is about.
#[derive(Debug)]
pub enum Stage {
    /// Its answer is known; its immediate data is still coming in and goes nowhere.
    Answered(Answer),
    /// It needs nothing from the initiator any more and has not begun.
    Ready(Job),
    Reading(Outbound),
    Receiving(Inbound),
    /// The device has it.
    Working,
}

/// Data on its way to the initiator.
#[derive(Debug, Clone, Copy)]
pub struct Outbound {
    pub blocks: Blocks,
    /// Bytes to send in all.
    pub total: u32,
    /// Bytes sent, or being read.
    pub sent: u32,
}

/// What becomes of received data.
#[derive(Debug)]
pub enum Goal {
    Sink(Blocks, Sink),
    Collect(Job),
}

/// Data on its way from the initiator. It is received in stages, each a buffer full.
#[derive(Debug)]
pub struct Inbound {
    pub goal: Goal,
    /// Bytes that count in all; what comes beyond them is dropped.
    pub total: u32,
    /// Where the stage begins, and how many of its bytes count.
    pub base: u32,
    pub size: u32,
    /// Empty until it is needed.
    pub buf: Vec<u8>,
    /// Everything before this offset has come.
    pub have: u32,
    /// A burst is open: it ends here, carries this tag, and this DataSN is next.
    pub open: bool,
    pub burst_end: u32,
    pub ttt: u32,
    pub next_data_sn: u32,
}

/// Device work that is done.
#[derive(Debug)]
pub struct Done {
    pub slot: Slot,
    pub what: What,
}

/// What was done, with the buffer that it used.
#[derive(Debug)]
pub enum What {
    Read {
        buf: Vec<u8>,
        chunk: Chunk,
        outcome: io::Result<()>,
    },
    Sunk {
        buf: Vec<u8>,
        outcome: Result<(), Answer>,
    },
    Ran {
        buf: Vec<u8>,
        answer: Answer,
    },
    /// The other connections are through with this task management function. The slot means nothing.
    Others {
        number: u32,
    },
}

/// A piece of a read.
#[derive(Debug, Clone, Copy)]
pub struct Chunk {
    /// Offset in the transfer.
    pub offset: u32,
    /// Bytes that are sent.
    pub len: u32,
    /// Where in the buffer the device put them.
    pub at: usize,
}

/// The commands in flight.
#[derive(Debug)]
pub struct Tasks {
    slots: Vec<Option<Box<Task>>>,
    /// The tag in each slot, for a fast search; [`NO_TAG`] where there is none.
    tags: Vec<u32>,
    /// Slots to use again.
    spare: Vec<Slot>,
    /// Ordinary commands that there is room for.
    limit: u32,
    ordered: u32,
    immediate: u32,
}

impl Tasks {
    /// Room for `limit` commands besides those for immediate delivery.
    pub fn new(limit: u32) -> Self {
        Self { slots: Vec::new(), tags: Vec::new(), spare: Vec::new(), limit, ordered: 0, immediate: 0 }
    }

    /// How many more ordinary commands there is room for.
    pub const fn free(&self) -> u32 {
        self.limit.saturating_sub(self.ordered)
    }

    /// Whether a further command for immediate delivery is too many.
    pub const fn immediate_full(&self) -> bool {
        self.immediate >= IMMEDIATE_MAX
    }

    /// Enters a command.
    pub fn insert(&mut self, task: Box<Task>) -> Slot {
        *self.counter(task.immediate) += 1;
        let itt = task.itt;
        match self.spare.pop() {
            Some(slot) => {
                self.tags[usize::from(slot)] = itt;
                self.slots[usize::from(slot)] = Some(task);
                slot
            }
            None => {
                self.slots.push(Some(task));
                self.tags.push(itt);
                (self.slots.len() - 1) as Slot
            }
        }
    }

    const fn counter(&mut self, immediate: bool) -> &mut u32 {
        if immediate { &mut self.immediate } else { &mut self.ordered }
    }

    /// Takes a command out.
    pub fn remove(&mut self, slot: Slot) -> Option<Box<Task>> {
        let task = self.slots.get_mut(usize::from(slot))?.take()?;
        self.tags[usize::from(slot)] = NO_TAG;
        self.spare.push(slot);
        *self.counter(task.immediate) -= 1;
        Some(task)
    }

    /// The command in a slot.
    pub fn get_mut(&mut self, slot: Slot) -> Option<&mut Task> {
        self.slots.get_mut(usize::from(slot))?.as_deref_mut()
    }

    /// The command with a tag.
    pub fn find(&self, itt: u32) -> Option<Slot> {
        self.tags.iter().position(|tag| *tag == itt && itt != NO_TAG).map(|at| at as Slot)
    }

    /// The commands, with their slots.
    pub fn iter(&self) -> impl Iterator<Item = (Slot, &Task)> {
        self.slots.iter().enumerate().filter_map(|(at, task)| Some((at as Slot, task.as_deref()?)))
    }

    /// Whether a command waits for data from the initiator.
    pub fn any_receiving(&self) -> bool {
        self.iter().any(|(_, task)| matches!(&task.stage, Stage::Receiving(inbound) if inbound.open))
    }

    /// Drops all of them.
    pub fn clear(&mut self) {
        self.slots.clear();
        self.tags.clear();
        self.spare.clear();
        (self.ordered, self.immediate) = (0, 0);
    }
}

impl Task {
    /// A command as its header tells it.
    pub fn new(bhs: &Bhs, stage: Stage) -> Self {
        let (reads, writes) = (bhs.has(crate::pdu::flag::READ), bhs.has(crate::pdu::flag::WRITE));
        Self {
            itt: bhs.itt(),
            lun: bhs.lun(),
            immediate: bhs.immediate(),
            reads,
            writes,
            expected: if reads || writes { bhs.ttt() } else { 0 },
            length: 0,
            data_sn: 0,
            nexus: None,
            guard: None,
            stage,
            aborted: false,
        }
    }
}
