//! Requests that are not SCSI commands: NOP, text, task management, logout.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::abort::{Scope, Then};
use super::task::{Done, Slot, What};
use super::{Connection, Phase};
use crate::login::TEXT_MAX;
use crate::login::params::Reply;
use crate::pdu::{Bhs, NO_TAG, flag, op, reject, sn_before, text};
use crate::scsi::attention::Attention;
use crate::scsi::capacity::lun_number;
use crate::scsi::unit::{LogicalUnit, Nexus};

/// A text exchange in progress.
#[derive(Debug, Default)]
pub struct TextState {
    /// Requests with C set, so far.
    partial: Vec<u8>,
    /// What is left of a long answer, and the tag under which it is asked for.
    rest: Vec<u8>,
    ttt: u32,
}

/// A request that is answered when commands have been aborted.
#[derive(Debug)]
pub struct Managed {
    number: u32,
    answer: Bhs,
    /// This connection's commands are gone.
    own: bool,
    /// Those of the others are.
    others: bool,
    follows: Follows,
}

/// What belongs to the answer.
#[derive(Debug, Clone, Copy, Default)]
struct Follows {
    /// It waits for other connections too.
    others: bool,
    /// The connection closes after it.
    closes: bool,
    /// Every session of the target ends after it.
    cold: bool,
}

/// Responses to task management functions.
const DONE: u8 = 0;
const NO_SUCH_TASK: u8 = 1;
const NO_SUCH_LUN: u8 = 2;
const NO_REASSIGNMENT: u8 = 4;
const NOT_SUPPORTED: u8 = 5;
const REJECTED: u8 = 255;

/// At most so many task management functions wait at a time.
const MANAGED_MAX: usize = 16;

impl Connection {
    /// Handles a request.
    pub(super) fn request(&mut self, bhs: &Bhs, data: &[u8]) {
        if !self.take_turn(bhs) {
            return;
        }
        match bhs.opcode() {
            op::NOP_OUT => self.nop(bhs, data),
            op::TEXT => self.text(bhs, data),
            op::TASK_MANAGEMENT if self.session.is_some() => self.manage(bhs),
            op::LOGOUT => self.logout(bhs),
            _ => self.reject(bhs, reject::PROTOCOL),
        }
    }

    /// Asks the peer whether it is there.
    pub(super) fn ping(&mut self) {
        let mut bhs = Bhs::new(op::NOP_IN);
        bhs.set_itt(NO_TAG);
        // Answers are recognised by their coming at all; the tag only has to be valid.
        bhs.set_ttt(1);
        self.stamp(&mut bhs, false);
        self.send(bhs, &[]);
    }

    fn nop(&mut self, bhs: &Bhs, data: &[u8]) {
        if bhs.itt() == NO_TAG {
            return;
        }
        let mut answer = Bhs::new(op::NOP_IN);
        answer.set_lun(bhs.lun());
        answer.set_itt(bhs.itt());
        answer.set_ttt(NO_TAG);
        self.stamp(&mut answer, true);
        let len = data.len().min(self.params.peer_segment as usize);
        self.send(answer, &data[..len]);
    }

    fn text(&mut self, bhs: &Bhs, data: &[u8]) {
        if bhs.ttt() != NO_TAG && bhs.ttt() == self.text.ttt && !self.text.rest.is_empty() && data.is_empty()
        {
            self.answer_text(bhs);
            return;
        }
        if self.text.partial.len() + data.len() > TEXT_MAX
            || (bhs.has(flag::FINAL) && bhs.has(flag::CONTINUE))
        {
            self.text = TextState::default();
            self.reject(bhs, reject::PROTOCOL);
            return;
        }
        self.text.partial.extend_from_slice(data);
        self.text.rest.clear();
        if bhs.has(flag::CONTINUE) {
            self.answer_text(bhs);
            return;
        }
        let bytes = std::mem::take(&mut self.text.partial);
        match text::parse(&bytes).ok().and_then(|pairs| self.answer_pairs(&pairs)) {
            Some(answer) => {
                self.text.rest = answer;
                self.answer_text(bhs);
            }
            None => self.reject(bhs, reject::PROTOCOL),
        }
    }

    /// The answer to key text in full feature phase; `None` when it has no place there.
    fn answer_pairs(&mut self, pairs: &[(String, String)]) -> Option<Vec<u8>> {
        let mut answer = Vec::new();
        for (key, value) in pairs {
            match key.as_str() {
                "SendTargets" => self.list_targets(value, &mut answer)?,
                "MaxRecvDataSegmentLength" if self.params.offer(key, value) == Reply::Nothing => {}
                // What belongs to login is known by being understood there.
                _ if self.params.clone().offer(key, value) != Reply::NotOurs => return None,
                _ => text::push(&mut answer, key, "NotUnderstood"),
            }
        }
        Some(answer)
    }

    fn list_targets(&self, wanted: &str, answer: &mut Vec<u8>) -> Option<()> {
        let visible = self.registry.visible(&self.initiator);
        let own = self.session.as_ref().map(|session| session.export.iqn.clone());
        let names: Vec<String> = match (wanted, own) {
            ("All", None) => visible,
            ("", Some(own)) => vec![own],
            // Only a discovery session may ask for all.
            ("All" | "", _) => return None,
            (name, own) => {
                let name = name.to_lowercase();
                let mine = own.is_none_or(|own| own == name);
                visible.into_iter().filter(|visible| mine && *visible == name).collect()
            }
        };
        let local = self.stream.local_addr().ok()?;
        let addresses = self.registry.addresses(local);
        for name in names {
            text::push(answer, "TargetName", &name);
            for address in &addresses {
                let portal = format!("{address},{}", self.registry.portal_group());
                text::push(answer, "TargetAddress", &portal);
            }
        }
        Some(())
    }

    /// Sends as much of the answer as one PDU holds.
    fn answer_text(&mut self, bhs: &Bhs) {
        let len = self.text.rest.len().min(self.params.peer_segment as usize);
        let piece: Vec<u8> = self.text.rest.drain(..len).collect();
        let more = !self.text.rest.is_empty();
        let mut answer = Bhs::new(op::TEXT_RESPONSE);
        answer.set_lun(bhs.lun());
        answer.set_itt(bhs.itt());
        answer.set_ttt(NO_TAG);
        if more {
            self.next_ttt = self.next_ttt.wrapping_add(1) & 0x7fff_ffff;
            self.text.ttt = self.next_ttt;
            answer.set_ttt(self.text.ttt);
            answer.0[1] = flag::CONTINUE;
        } else if bhs.has(flag::CONTINUE) {
            answer.0[1] = 0;
        }
        self.stamp(&mut answer, true);
        self.send(answer, &piece);
    }

    fn logout(&mut self, bhs: &Bhs) {
        let mut answer = Bhs::new(op::LOGOUT_RESPONSE);
        answer.set_itt(bhs.itt());
        let reason = bhs.flags() & 0x7f;
        let own = self.session.as_ref().is_none_or(|session| session.cid == bhs.u16_at(20));
        let refusal = match reason {
            0 => None,
            1 if own => None,
            1 => Some(1),
            _ => Some(2),
        };
        if let Some(code) = refusal {
            answer.0[2] = code;
            self.stamp(&mut answer, true);
            self.send(answer, &[]);
            return;
        }
        self.abort(Scope::All);
        self.answer_later(Scope::All, answer, Follows { closes: true, ..Follows::default() });
    }

    fn manage(&mut self, bhs: &Bhs) {
        if self.managed.len() >= MANAGED_MAX {
            self.reject(bhs, reject::OUT_OF_RESOURCES);
            return;
        }
        let lun = lun_number(bhs.lun());
        let nexus = lun.and_then(|lun| self.nexus(lun));
        let answer = management_answer(bhs, DONE);
        match (bhs.flags() & 0x7f, lun, nexus) {
            (1, ..) if self.tasks.find(bhs.ttt()).is_some() => {
                let scope = Scope::Task(bhs.ttt());
                self.abort(scope);
                self.answer_later(scope, answer, Follows::default());
            }
            (1, ..) => {
                let code = if self.skip_unseen(bhs) { DONE } else { NO_SUCH_TASK };
                self.answer_now(bhs, code);
            }
            (2, Some(lun), Some(_)) => {
                self.abort(Scope::Unit(lun));
                self.answer_later(Scope::Unit(lun), answer, Follows::default());
            }
            (4, Some(lun), Some(nexus)) => {
                nexus.unit.raise(Attention::COMMANDS_CLEARED, Some(&nexus));
                self.clear_everywhere(Scope::Unit(lun), vec![nexus], answer, false);
            }
            (5, Some(lun), Some(nexus)) => {
                reset(&nexus.unit);
                self.clear_everywhere(Scope::Unit(lun), vec![nexus], answer, false);
            }
            (2 | 4 | 5, ..) => self.answer_now(bhs, NO_SUCH_LUN),
            (function @ (6 | 7), ..) => {
                for nexus in &self.nexuses {
                    reset(&nexus.unit);
                }
                self.clear_everywhere(Scope::All, self.nexuses.clone(), answer, function == 7);
            }
            (3, ..) => self.answer_now(bhs, NOT_SUPPORTED),
            (8, ..) => self.answer_now(bhs, NO_REASSIGNMENT),
            _ => self.answer_now(bhs, REJECTED),
        }
    }

    /// An ABORT TASK that overtook its command: when that comes it is dropped.
    fn skip_unseen(&mut self, bhs: &Bhs) -> bool {
        let referred = bhs.u32_at(32);
        let unseen = self.in_window(referred) && sn_before(referred, bhs.sn());
        if unseen && !self.skipped.contains(&referred) {
            self.skipped.push(referred);
            self.skip();
        }
        unseen
    }

    /// Aborts all commands on these units, whosever they are.
    fn clear_everywhere(&mut self, scope: Scope, nexuses: Vec<Arc<Nexus>>, answer: Bhs, cold: bool) {
        self.abort(scope);
        let number = self.answer_later(scope, answer, Follows { cold, others: true, closes: cold });
        self.submit(Box::pin(async move {
            for nexus in nexuses {
                let others = nexus.unit.nexuses().into_iter().filter(|other| !Arc::ptr_eq(other, &nexus));
                nexus.unit.abort(others).await;
            }
            Done { slot: Slot::MAX, what: What::Others { number } }
        }));
    }

    fn answer_now(&mut self, bhs: &Bhs, code: u8) {
        let mut answer = management_answer(bhs, code);
        self.stamp(&mut answer, true);
        self.send(answer, &[]);
    }

    /// Answers when the commands of a scope are gone, here and where `follows` says. Returns its number.
    fn answer_later(&mut self, scope: Scope, answer: Bhs, follows: Follows) -> u32 {
        self.managed_count = self.managed_count.wrapping_add(1);
        let number = self.managed_count;
        self.managed.push(Managed { number, answer, own: false, others: !follows.others, follows });
        self.after_abort(scope, Then::Answer(number));
        number
    }

    /// The own commands of a task management function are gone.
    pub(super) fn own_done(&mut self, number: u32) {
        if let Some(managed) = self.managed.iter_mut().find(|managed| managed.number == number) {
            managed.own = true;
        }
        self.answer_if_through(number);
    }

    /// The other connections are through with one.
    pub(super) fn others_done(&mut self, number: u32) {
        if let Some(managed) = self.managed.iter_mut().find(|managed| managed.number == number) {
            managed.others = true;
        }
        self.answer_if_through(number);
    }

    fn answer_if_through(&mut self, number: u32) {
        let through = |managed: &Managed| managed.number == number && managed.own && managed.others;
        let Some(at) = self.managed.iter().position(through) else { return };
        let mut managed = self.managed.swap_remove(at);
        self.stamp(&mut managed.answer, true);
        self.send(managed.answer, &[]);
        if managed.follows.closes {
            self.phase = Phase::Closing;
        }
        if let Some(session) = self.session.as_ref().filter(|_| managed.follows.cold) {
            for other in self.registry.sessions_of(&session.export) {
                if other.tsih != session.tsih {
                    other.cut.cancel();
                }
            }
        }
    }
}

fn management_answer(bhs: &Bhs, code: u8) -> Bhs {
    let mut answer = Bhs::new(op::TASK_MANAGEMENT_RESPONSE);
    answer.0[2] = code;
    answer.set_itt(bhs.itt());
    answer
}

/// What a reset does to a unit beside its commands.
fn reset(unit: &LogicalUnit) {
    unit.reservations.reset();
    unit.descriptor_sense.store(false, Ordering::Relaxed);
    unit.software_protect.store(false, Ordering::Relaxed);
    for nexus in unit.nexuses() {
        nexus.prevents_removal.store(false, Ordering::Relaxed);
    }
    unit.raise(Attention::RESET, None);
}
