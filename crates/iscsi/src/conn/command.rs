//! SCSI commands: how they begin, read, and are answered.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::receive::Place;
use super::task::{Chunk, Done, Goal, Inbound, Outbound, Slot, Stage, Task, What};
use super::{Connection, OUTBOX_HIGH, Work};
use crate::pdu::digest::DIGEST_LEN;
use crate::pdu::{Bhs, NO_TAG, flag, op, reject};
use crate::scsi::capacity::lun_number;
use crate::scsi::sense::{Sense, status};
use crate::scsi::unit::Nexus;
use crate::scsi::{self, Answer, Blocks, Job, Plan, Request};
use crate::stream::layout::{finish_data, wire_length, write_header};

/// How much is read from the device at a time, in bytes. A multiple of every block length.
const CHUNK: u32 = 256 << 10;
/// How much written data is gathered before it goes to the device, in bytes. A multiple of every block length.
pub const STAGE: u32 = 1 << 20;

/// A command that may begin.
struct Begin {
    nexus: Option<Arc<Nexus>>,
    plan: Plan,
}

impl Connection {
    /// Takes the header of a SCSI command: decides what it will do, and makes room for its data.
    pub(super) fn place_command(&mut self, bhs: &Bhs) -> Place {
        if !self.take_turn(bhs) {
            return Place::Ignore;
        }
        if self.session.is_none() {
            return Place::Fatal(reject::PROTOCOL);
        }
        if bhs.itt() == NO_TAG || self.tasks.find(bhs.itt()).is_some() {
            return Place::Reject(reject::PROTOCOL);
        }
        if bhs.immediate() && self.tasks.immediate_full() {
            return Place::Reject(reject::TOO_MANY_IMMEDIATE);
        }
        let writes = bhs.has(flag::WRITE);
        if bhs.data_len() > 0 && !writes {
            return Place::Reject(reject::INVALID_FIELD);
        }
        self.count(1, 0, 0);
        let begin = self.decide(bhs);
        let mut task = Box::new(Task::new(bhs, Stage::Working));
        task.nexus = begin.nexus;
        task.stage = match self.check_unsolicited(bhs) {
            Some(sense) => Stage::Answered(sense.into()),
            None => self.prepare(&mut task, begin.plan, bhs),
        };
        Place::Command(self.tasks.insert(task))
    }

    /// Counts CmdSN on when it is this request's turn; false when it is to be dropped.
    pub(super) fn take_turn(&mut self, bhs: &Bhs) -> bool {
        if bhs.immediate() {
            return true;
        }
        // One connection delivers in order: a number that is not the next one is old, or from a confused initiator.
        if bhs.sn() != self.exp_cmd_sn || !self.in_window(bhs.sn()) {
            return false;
        }
        self.exp_cmd_sn = self.exp_cmd_sn.wrapping_add(1);
        self.skip();
        true
    }

    /// Counts CmdSN on over numbers that were aborted before they came.
    pub(super) fn skip(&mut self) {
        while let Some(at) = self.skipped.iter().position(|sn| *sn == self.exp_cmd_sn) {
            self.skipped.swap_remove(at);
            self.exp_cmd_sn = self.exp_cmd_sn.wrapping_add(1);
        }
    }

    /// Immediate and unsolicited data must stay within what was agreed and announced.
    fn check_unsolicited(&self, bhs: &Bhs) -> Option<Sense> {
        let immediate = bhs.data_len() as u64;
        let more_follows = bhs.has(flag::WRITE) && !bhs.has(flag::FINAL);
        let wrong = (immediate > 0 && !self.params.immediate_data)
            || immediate > u64::from(self.params.first_burst.min(bhs.ttt()))
            || (more_follows && self.params.initial_r2t);
        wrong.then(Sense::unsolicited_amount)
    }

    fn decide(&mut self, bhs: &Bhs) -> Begin {
        let cdb = bhs.cdb();
        let nexus = lun_number(bhs.lun()).and_then(|lun| self.nexus(lun));
        let Some(nexus) = nexus else {
            return Begin { nexus: None, plan: Plan::Answer(scsi::plan_absent(&cdb, &self.luns)) };
        };
        let data_out = if bhs.has(flag::WRITE) { bhs.ttt() } else { 0 };
        let request = Request { nexus: &nexus, cdb: &cdb, data_out, luns: &self.luns };
        let plan = scsi::plan(&request);
        Begin { nexus: Some(nexus), plan }
    }

    /// Turns a plan into the command's first stage.
    fn prepare(&mut self, task: &mut Task, plan: Plan, bhs: &Bhs) -> Stage {
        if let Plan::Answer(answer) = plan {
            return Stage::Answered(answer);
        }
        if self.registry.memory_short() {
            return Stage::Answered(Answer::status(status::TASK_SET_FULL));
        }
        task.guard = task.nexus.as_ref().and_then(|nexus| nexus.unit.enter());
        let Some(nexus) = task.nexus.as_ref().filter(|_| task.guard.is_some()) else {
            // The unit is being replaced at this moment: another try will meet the new one, or none.
            return Stage::Answered(Answer::status(status::BUSY));
        };
        let bytes = |blocks: Blocks| u64::from(blocks.count) * u64::from(nexus.unit.block_size);
        match plan {
            Plan::Answer(answer) => Stage::Answered(answer),
            Plan::Run(job) => Stage::Ready(job),
            Plan::Read(blocks) => {
                task.length = bytes(blocks);
                let total = if task.reads { min_length(task.length, task.expected) } else { 0 };
                Stage::Reading(Outbound { blocks, total, sent: 0 })
            }
            Plan::Write(blocks, sink) => {
                task.length = bytes(blocks);
                let total = if task.writes { min_length(task.length, task.expected) } else { 0 };
                Stage::Receiving(self.expect(Goal::Sink(blocks, sink), total, bhs))
            }
            Plan::Collect { length, job } => {
                task.length = u64::from(length);
                Stage::Receiving(self.expect(Goal::Collect(job), length, bhs))
            }
        }
    }

    /// Prepares for the data of a command, the unsolicited part first.
    fn expect(&mut self, goal: Goal, total: u32, bhs: &Bhs) -> Inbound {
        let more_follows = !bhs.has(flag::FINAL);
        let unsolicited =
            if more_follows { self.params.first_burst.min(bhs.ttt()) } else { bhs.data_len() as u32 };
        // When memory is short only what the initiator sends anyway gets a buffer now.
        let short = self.pool.in_use() > self.registry.limits().connection_memory / 2;
        let wanted = if short && unsolicited > 0 { unsolicited.next_multiple_of(4096) } else { STAGE };
        let size = if matches!(goal, Goal::Collect(_)) { total } else { total.min(wanted) };
        let buf = if unsolicited > 0 { self.pool.take(size.max(unsolicited) as usize) } else { Vec::new() };
        Inbound {
            goal,
            total,
            base: 0,
            size,
            buf,
            have: 0,
            open: more_follows,
            burst_end: unsolicited,
            ttt: NO_TAG,
            next_data_sn: 0,
        }
    }

    /// Begins a command whose header and immediate data are here.
    pub(super) fn command(&mut self, slot: Slot, bhs: &Bhs) {
        let Some(task) = self.tasks.get_mut(slot) else { return };
        match std::mem::replace(&mut task.stage, Stage::Working) {
            Stage::Answered(answer) => self.answer(slot, answer),
            Stage::Ready(job) => self.run(slot, job, Vec::new(), 0),
            Stage::Reading(outbound) => {
                task.stage = Stage::Reading(outbound);
                self.read_on(slot);
            }
            Stage::Receiving(mut inbound) => {
                inbound.have = bhs.data_len() as u32;
                let waits = inbound.open;
                task.stage = Stage::Receiving(inbound);
                self.count(0, 0, bhs.data_len() as u64);
                if !waits {
                    self.receive_on(slot);
                }
            }
            Stage::Working => {}
        }
    }

    /// Runs a job over data that was gathered.
    pub(super) fn run(&mut self, slot: Slot, job: Job, buf: Vec<u8>, len: usize) {
        let Some(nexus) = self.tasks.get_mut(slot).and_then(|task| task.nexus.clone()) else { return };
        self.submit(Box::pin(async move {
            let answer = scsi::run(&nexus, job, &buf[..len]).await;
            Done { slot, what: What::Ran { buf, answer } }
        }));
    }

    /// Starts device work. What is done at once is handled at once; the rest is polled by the connection's loop.
    pub(super) fn submit(&mut self, mut work: Work) {
        match work.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(done) => self.done(done),
            Poll::Pending => self.working.push(work),
        }
    }

    /// Takes device work that is done.
    pub(super) fn done(&mut self, done: Done) {
        let slot = done.slot;
        let aborted = self.tasks.get_mut(slot).is_none_or(|task| task.aborted);
        match done.what {
            What::Others { number } => self.others_done(number),
            What::Read { buf, .. } | What::Sunk { buf, .. } | What::Ran { buf, .. } if aborted => {
                self.pool.put(buf);
                self.drop_aborted(slot);
            }
            What::Read { buf, chunk, outcome: Ok(()) } => self.send_chunk(slot, buf, chunk),
            What::Read { buf, outcome: Err(error), .. } => {
                self.pool.put(buf);
                self.answer(slot, scsi::read_failure(&error));
            }
            What::Sunk { buf, outcome } => {
                self.pool.put(buf);
                match outcome {
                    Ok(()) => self.stage_done(slot),
                    Err(answer) => self.answer(slot, answer),
                }
            }
            What::Ran { buf, answer } => {
                self.pool.put(buf);
                self.answer(slot, answer);
            }
        }
    }

    /// Reads the next chunk of a command, if there is room for it in the outbox.
    pub(super) fn read_on(&mut self, slot: Slot) {
        if self.outbox.len() > OUTBOX_HIGH || !self.has_room() {
            self.waiting.push_back(slot);
            return;
        }
        let Some(task) = self.tasks.get_mut(slot) else { return };
        let (Stage::Reading(outbound), Some(nexus)) = (&mut task.stage, &task.nexus) else { return };
        if outbound.total == 0 {
            self.answer(slot, Answer::good());
            return;
        }
        let unit = nexus.unit.clone();
        let block = unit.block_size;
        let offset = outbound.sent;
        let len = CHUNK.min(outbound.total - offset);
        outbound.sent += len;
        let medium = outbound.blocks.lba * u64::from(block) + u64::from(offset);
        // The device reads whole blocks; a chunk that ends inside one is cut when it is sent.
        let whole = len.next_multiple_of(block) as usize;
        let at = self.chunk_start(offset, len);
        let mut buf = self.pool.take(at + whole.max(len as usize + 3 + DIGEST_LEN));
        let chunk = Chunk { offset, len, at };
        self.submit(Box::pin(async move {
            let outcome = unit.device.read(medium, &mut buf[at..at + whole]).await;
            Done { slot, what: What::Read { buf, chunk, outcome } }
        }));
    }

    /// The length of the data segment that begins at `offset`, `left` bytes before the end of the chunk.
    fn segment(&self, offset: u32, left: u32) -> u32 {
        let in_burst = self.params.max_burst - offset % self.params.max_burst;
        left.min(self.params.peer_segment).min(in_burst)
    }

    /// Where in its buffer a chunk is read to: so far behind that headers, padding and digests of all its PDUs fit before
    /// the last one's data. With one PDU, the usual case, the data is then in its final place.
    fn chunk_start(&self, offset: u32, len: u32) -> usize {
        let mut at = 0;
        let mut done = 0;
        loop {
            let segment = self.segment(offset + done, len - done);
            done += segment;
            if done >= len {
                return at + wire_length(self.params.digests, 0);
            }
            at += wire_length(self.params.digests, segment as usize) - segment as usize;
        }
    }

    /// Makes Data-In PDUs of a chunk, in place, and sends them. The last one of a command carries its status.
    fn send_chunk(&mut self, slot: Slot, mut buf: Vec<u8>, chunk: Chunk) {
        let Some(task) = self.tasks.get_mut(slot) else { return self.pool.put(buf) };
        let Stage::Reading(outbound) = &task.stage else { return self.pool.put(buf) };
        let (itt, expected, length) = (task.itt, task.expected, task.length);
        let last_chunk = outbound.sent == outbound.total;
        let mut data_sn = task.data_sn;
        let (mut source, mut end) = (chunk.at, 0);
        let mut done = 0;
        if last_chunk {
            // Freed first: the status tells of the window with this command's place free again.
            self.tasks.remove(slot);
        }
        while done < chunk.len {
            let offset = chunk.offset + done;
            let segment = self.segment(offset, chunk.len - done);
            done += segment;
            let last = last_chunk && done == chunk.len;
            let mut bhs = Bhs::new(op::DATA_IN);
            let ends_burst = (offset + segment).is_multiple_of(self.params.max_burst);
            bhs.0[1] = if last || ends_burst { flag::FINAL } else { 0 };
            bhs.set_data_len(segment as usize);
            bhs.set_itt(itt);
            bhs.set_ttt(NO_TAG);
            bhs.set_window(self.exp_cmd_sn, self.max_cmd_sn());
            bhs.set_u32(36, data_sn);
            bhs.set_u32(40, offset);
            if last {
                bhs.0[1] |= flag::STATUS;
                self.stamp(&mut bhs, true);
                bhs.set_residual(expected, length);
            }
            data_sn += 1;
            let start = end + wire_length(self.params.digests, 0);
            let segment = segment as usize;
            if start != source {
                buf.copy_within(source..source + segment, start);
            }
            write_header(self.params.digests, &mut buf[end..], &bhs);
            end = start + finish_data(self.params.digests, &mut buf[start..], segment);
            source += segment;
        }
        self.outbox.push(buf, end);
        self.count(0, u64::from(chunk.len), 0);
        if !last_chunk {
            if let Some(task) = self.tasks.get_mut(slot) {
                task.data_sn = data_sn;
            }
            self.read_on(slot);
        }
    }

    /// Ends a command.
    pub(super) fn answer(&mut self, slot: Slot, answer: Answer) {
        let Some(task) = self.tasks.remove(slot) else { return };
        if let Stage::Receiving(inbound) = task.stage {
            self.pool.put(inbound.buf);
        }
        if task.aborted {
            return;
        }
        if answer.status == status::GOOD && !answer.data.is_empty() && task.reads && task.expected > 0 {
            self.send_data(task.itt, task.expected, &answer.data);
            return;
        }
        let mut bhs = Bhs::new(op::SCSI_RESPONSE);
        bhs.0[3] = answer.status;
        bhs.set_itt(task.itt);
        self.stamp(&mut bhs, true);
        bhs.set_u32(36, task.data_sn);
        let moved = match answer.status {
            status::GOOD | status::CONDITION_MET => task.length.max(answer.data.len() as u64),
            _ => 0,
        };
        bhs.set_residual(task.expected, moved);
        match answer.sense {
            Some(sense) => {
                let descriptor = task.nexus.is_some_and(|nexus| {
                    nexus.unit.descriptor_sense.load(std::sync::atomic::Ordering::Relaxed)
                });
                let sense = sense.encode(descriptor);
                let mut data = (sense.len() as u16).to_be_bytes().to_vec();
                data.extend_from_slice(&sense);
                self.send(bhs, &data);
            }
            None => self.send(bhs, &[]),
        }
    }

    /// Sends a short answer as Data-In with status.
    fn send_data(&mut self, itt: u32, expected: u32, data: &[u8]) {
        let moved = data.len().min(expected as usize);
        let mut offset = 0;
        let mut data_sn = 0;
        while offset < moved {
            let segment = self.segment(offset as u32, (moved - offset) as u32) as usize;
            let piece = &data[offset..offset + segment];
            let last = offset + segment == moved;
            let mut bhs = Bhs::new(op::DATA_IN);
            let ends_burst = (offset + segment).is_multiple_of(self.params.max_burst as usize);
            bhs.0[1] = if last || ends_burst { flag::FINAL } else { 0 };
            bhs.set_itt(itt);
            bhs.set_ttt(NO_TAG);
            bhs.set_window(self.exp_cmd_sn, self.max_cmd_sn());
            bhs.set_u32(36, data_sn);
            bhs.set_u32(40, offset as u32);
            if last {
                bhs.0[1] |= flag::STATUS;
                self.stamp(&mut bhs, true);
                bhs.set_residual(expected, data.len() as u64);
            }
            self.send(bhs, piece);
            offset += segment;
            data_sn += 1;
        }
        self.count(0, moved as u64, 0);
    }
}

fn min_length(length: u64, expected: u32) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX).min(expected)
}
