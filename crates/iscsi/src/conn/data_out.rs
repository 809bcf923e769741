//! Data-Out and R2T: how a command gets its data.

use super::Connection;
use super::command::STAGE;
use super::receive::Place;
use super::task::{Done, Goal, Slot, Stage, What};
use crate::pdu::{Bhs, NO_TAG, flag, op, reject};
use crate::scsi::sense::Sense;
use crate::scsi::{self, Answer};

impl Connection {
    /// Takes the header of a Data-Out. One out of sequence fails its command; one that lies about tags or places is a
    /// protocol error, after which nothing that this initiator says about its data can be believed: the connection ends.
    pub(super) fn place_data_out(&mut self, bhs: &Bhs) -> Place {
        let Some(slot) = self.tasks.find(bhs.itt()) else {
            // The command may have been answered or aborted while this was on its way.
            let known = bhs.ttt() == NO_TAG || self.aborts.recently(bhs.itt());
            return if known { Place::Ignore } else { Place::Reject(reject::PROTOCOL) };
        };
        let Some(task) = self.tasks.get_mut(slot) else { return Place::Ignore };
        if task.aborted {
            return Place::Ignore;
        }
        let Stage::Receiving(inbound) = &task.stage else { return Place::Fatal(reject::PROTOCOL) };
        let Some(end) = bhs.offset().checked_add(bhs.data_len() as u32) else {
            return Place::Fatal(reject::PROTOCOL);
        };
        let solicited = inbound.ttt != NO_TAG;
        if !inbound.open || bhs.ttt() != inbound.ttt || bhs.offset() < inbound.base || end > inbound.burst_end
        {
            return Place::Fatal(reject::PROTOCOL);
        }
        let (complete, last) = (end == inbound.burst_end, bhs.has(flag::FINAL));
        let in_sequence = bhs.data_sn() == inbound.next_data_sn
            && bhs.offset() == inbound.have
            // The burst ends with F, not before and not after; an unsolicited one may be shorter.
            && (last == complete || (last && !solicited));
        if in_sequence {
            return Place::DataOut(slot, (inbound.have - inbound.base) as usize);
        }
        self.aborts.remember(bhs.itt());
        self.answer(slot, Sense::data_phase_error().into());
        Place::Ignore
    }

    /// A Data-Out is complete.
    pub(super) fn data_out(&mut self, slot: Slot, bhs: &Bhs) {
        let Some(task) = self.tasks.get_mut(slot) else { return };
        let Stage::Receiving(inbound) = &mut task.stage else { return };
        inbound.have += bhs.data_len() as u32;
        inbound.next_data_sn = inbound.next_data_sn.wrapping_add(1);
        self.count(0, 0, bhs.data_len() as u64);
        if bhs.has(flag::FINAL)
            && let Some(Stage::Receiving(inbound)) = self.tasks.get_mut(slot).map(|task| &mut task.stage)
        {
            inbound.open = false;
            self.receive_on(slot);
        }
    }

    /// Between bursts: asks for more, or hands the stage over when it is full.
    pub(super) fn receive_on(&mut self, slot: Slot) {
        let room = self.has_room();
        let Some(task) = self.tasks.get_mut(slot) else { return };
        let Stage::Receiving(inbound) = &mut task.stage else { return };
        if inbound.have >= inbound.base + inbound.size {
            self.hand_over(slot);
            return;
        }
        if inbound.buf.is_empty() {
            if !room {
                self.waiting.push_back(slot);
                return;
            }
            inbound.buf = self.pool.take(inbound.size as usize);
        }
        self.next_ttt = self.next_ttt.wrapping_add(1);
        if self.next_ttt == NO_TAG {
            self.next_ttt = 0;
        }
        let left = inbound.base + inbound.size - inbound.have;
        let length = left.min(self.params.max_burst);
        inbound.ttt = self.next_ttt;
        inbound.burst_end = inbound.have + length;
        inbound.next_data_sn = 0;
        inbound.open = true;
        let mut bhs = Bhs::new(op::R2T);
        bhs.set_lun(task.lun);
        bhs.set_itt(task.itt);
        bhs.set_ttt(inbound.ttt);
        bhs.set_u32(36, task.data_sn);
        bhs.set_u32(40, inbound.have);
        bhs.set_u32(44, length);
        task.data_sn = task.data_sn.wrapping_add(1);
        self.stamp(&mut bhs, false);
        self.send(bhs, &[]);
    }

    /// Gives a full stage to the device, or gathered data to its job.
    fn hand_over(&mut self, slot: Slot) {
        let Some(task) = self.tasks.get_mut(slot) else { return };
        let (Stage::Receiving(inbound), Some(nexus)) = (&mut task.stage, &task.nexus) else { return };
        let buf = std::mem::take(&mut inbound.buf);
        let size = inbound.size as usize;
        match &mut inbound.goal {
            Goal::Sink(..) if size == 0 => {
                self.pool.put(buf);
                self.answer(slot, Answer::good());
            }
            Goal::Sink(blocks, sink) => {
                let (how, unit) = (*sink, nexus.unit.clone());
                // A transfer that ends inside a block: that block is left alone.
                let block = unit.block_size as usize;
                let at = blocks.lba + u64::from(inbound.base / unit.block_size);
                let len = size - size % block;
                self.submit(Box::pin(async move {
                    let outcome = match len {
                        0 => Ok(()),
                        _ => scsi::sink(&unit, how, at, &buf[..len]).await,
                    };
                    Done { slot, what: What::Sunk { buf, outcome } }
                }));
            }
            Goal::Collect(job) => {
                let job = std::mem::replace(job, scsi::Job::Flush);
                task.stage = Stage::Working;
                self.run(slot, job, buf, size);
            }
        }
    }

    /// A stage is on the medium: goes on to the next one, makes it durable, or ends the command.
    pub(super) fn stage_done(&mut self, slot: Slot) {
        let Some(task) = self.tasks.get_mut(slot) else { return };
        let Stage::Receiving(inbound) = &mut task.stage else { return };
        inbound.base += inbound.size;
        inbound.size = STAGE.min(inbound.total - inbound.base);
        if inbound.size > 0 {
            self.receive_on(slot);
            return;
        }
        let durable = matches!(&inbound.goal, Goal::Sink(_, sink) if sink.durable());
        if durable {
            task.stage = Stage::Working;
            self.run(slot, scsi::Job::Flush, Vec::new(), 0);
        } else {
            self.answer(slot, Answer::good());
        }
    }

    /// Goes on with commands that waited for room.
    pub(super) fn resume(&mut self) {
        for _ in 0..self.waiting.len() {
            let Some(slot) = self.waiting.pop_front() else { return };
            match self.tasks.get_mut(slot).map(|task| &task.stage) {
                Some(Stage::Reading(_)) => self.read_on(slot),
                Some(Stage::Receiving(_)) => self.receive_on(slot),
                _ => {}
            }
        }
    }
}
