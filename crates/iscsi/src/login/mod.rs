//! The login phase as the target sees it (RFC 7143 sections 6 and 13): a state machine without I/O.
//!
//! ```text
//!   first PDU --> SecurityNegotiation --> LoginOperationalNegotiation --> FullFeature
//!                  | AuthMethod, CHAP      | parameters
//!                  `-- may be skipped when no proof is wanted
//! ```
//!
//! The caller feeds complete login requests to [`Login::step`] and does what the [`Step`] says. Nothing is retained
//! beyond one login; text is bounded; a wrong request ends the login with the status that names the fault.

pub mod auth;
pub mod params;

use std::net::SocketAddr;
use std::sync::Arc;

use crate::chap::Chap;
use crate::pdu::text;
use crate::pdu::{Bhs, NO_TAG, flag, op};
use crate::target::export::{Admission, ExportState};
use crate::target::registry::Registry;
use auth::Auth;
use params::{Params, Reply, SEGMENT_MAX};

/// The most key text of a whole login, in bytes.
pub const TEXT_MAX: usize = 8192;
/// The most requests of a login.
const REQUESTS_MAX: u32 = 64;

/// Login status: class and detail (RFC 7143 11.13.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status(pub u8, pub u8);

impl Status {
    pub const INITIATOR_ERROR: Self = Self(0x02, 0x00);
    pub const AUTHENTICATION: Self = Self(0x02, 0x01);
    pub const NOT_AUTHORISED: Self = Self(0x02, 0x02);
    pub const NOT_FOUND: Self = Self(0x02, 0x03);
    pub const VERSION: Self = Self(0x02, 0x05);
    pub const TOO_MANY_CONNECTIONS: Self = Self(0x02, 0x06);
    pub const PARAMETER_MISSING: Self = Self(0x02, 0x07);
    pub const SESSION_TYPE: Self = Self(0x02, 0x09);
    pub const NO_SUCH_SESSION: Self = Self(0x02, 0x0a);
    pub const OUT_OF_RESOURCES: Self = Self(0x03, 0x02);
}

const SECURITY: u8 = 0;
const OPERATIONAL: u8 = 1;
const FULL_FEATURE: u8 = 3;

/// A PDU to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pdu {
    pub bhs: Bhs,
    pub data: Vec<u8>,
}

/// What to do next.
#[derive(Debug)]
pub enum Step {
    /// Send this and read on.
    Answer(Pdu),
    /// All is agreed. Enter the session, put its TSIH into the answer, send it, and go to full feature.
    Granted(Box<Granted>),
    /// Send this and close.
    Refuse(Pdu),
}

/// What a session is for.
#[derive(Debug, Clone)]
pub enum Purpose {
    Discovery,
    Normal {
        export: Arc<ExportState>,
        /// This initiator may not write.
        read_only: bool,
        /// What was proved; the right to stay is judged by it.
        proof: Option<Chap>,
    },
}

/// A login that succeeded.
#[derive(Debug)]
pub struct Granted {
    pub initiator: String,
    pub isid: [u8; 6],
    /// What the initiator asked for: zero for a new session.
    pub tsih: u16,
    pub cid: u16,
    pub purpose: Purpose,
    pub params: Params,
    /// The next StatSN after the answer.
    pub stat_sn: u32,
    /// The first command's CmdSN.
    pub cmd_sn: u32,
    pub answer: Pdu,
}

/// What must stay the same through a login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Fixed {
    isid: [u8; 6],
    tsih: u16,
    itt: u32,
    cid: u16,
}

/// Who wants what: known after the first complete text.
#[derive(Debug)]
struct Intent {
    initiator: String,
    purpose: Purpose,
}

/// A login in progress.
#[derive(Debug)]
pub struct Login<'a> {
    registry: &'a Registry,
    peer: SocketAddr,
    fixed: Option<Fixed>,
    stage: u8,
    stat_sn: u32,
    requests: u32,
    text_bytes: usize,
    /// Text of requests with C set, so far.
    partial: Vec<u8>,
    intent: Option<Intent>,
    auth: Auth,
    params: Params,
    /// Operational keys that were negotiated.
    seen: Vec<String>,
    declared: bool,
}

impl<'a> Login<'a> {
    /// A login that begins.
    pub fn new(registry: &'a Registry, peer: SocketAddr) -> Self {
        Self {
            registry,
            peer,
            fixed: None,
            stage: SECURITY,
            stat_sn: 0,
            requests: 0,
            text_bytes: 0,
            partial: Vec::new(),
            intent: None,
            auth: Auth::default(),
            params: Params::default(),
            seen: Vec::new(),
            declared: false,
        }
    }

    /// Takes one login request with its data segment.
    pub fn step(&mut self, request: &Bhs, data: &[u8]) -> Step {
        match self.advance(request, data) {
            Ok(step) => step,
            Err(status) => {
                tracing::info!(peer = %self.peer, status = ?status, initiator = self.initiator_for_log(), "login refused");
                Step::Refuse(self.refusal(request, status))
            }
        }
    }

    fn initiator_for_log(&self) -> String {
        self.intent.as_ref().map_or_else(String::new, |intent| text::for_log(&intent.initiator))
    }

    fn advance(&mut self, request: &Bhs, data: &[u8]) -> Result<Step, Status> {
        self.check_header(request)?;
        self.text_bytes += data.len();
        if self.text_bytes > TEXT_MAX {
            return Err(Status::INITIATOR_ERROR);
        }
        self.partial.extend_from_slice(data);
        let (current, next) = (request.flags() >> 2 & 3, request.flags() & 3);
        if request.has(flag::CONTINUE) {
            return Ok(Step::Answer(self.answer(request, current, None, Vec::new())));
        }
        let bytes = std::mem::take(&mut self.partial);
        let pairs = text::parse(&bytes).map_err(|_| Status::INITIATOR_ERROR)?;
        let mut reply = Vec::new();
        if self.intent.is_none() {
            self.identify(&pairs, &mut reply)?;
        }
        if current == OPERATIONAL && !self.auth.satisfied() {
            return Err(Status::AUTHENTICATION);
        }
        self.negotiate(current, &pairs, &mut reply)?;
        let wants = request.has(flag::TRANSIT).then_some(next);
        let moves = match wants {
            Some(_) if current == SECURITY && !self.auth.satisfied() => {
                if !self.auth.in_progress() {
                    return Err(Status::AUTHENTICATION);
                }
                None
            }
            other => other,
        };
        if moves == Some(FULL_FEATURE) {
            return Ok(Step::Granted(Box::new(self.grant(request, current, reply)?)));
        }
        if let Some(next) = moves {
            self.stage = next;
        }
        Ok(Step::Answer(self.answer(request, current, moves, reply)))
    }

    fn check_header(&mut self, request: &Bhs) -> Result<(), Status> {
        self.requests += 1;
        // Byte 3 is the lowest version that the initiator speaks; there is only version 0.
        if request.0[3] != 0 {
            return Err(Status::VERSION);
        }
        let (current, next) = (request.flags() >> 2 & 3, request.flags() & 3);
        let transit = request.has(flag::TRANSIT);
        let mut isid = [0; 6];
        isid.copy_from_slice(&request.0[8..14]);
        let fixed = Fixed { isid, tsih: request.u16_at(14), itt: request.itt(), cid: request.u16_at(20) };
        match self.fixed {
            None => {
                self.fixed = Some(fixed);
                self.stage = current;
                self.stat_sn = request.exp_sn();
            }
            Some(first) if first != fixed => return Err(Status::INITIATOR_ERROR),
            Some(_) => {}
        }
        let legal = current == self.stage
            && matches!(current, SECURITY | OPERATIONAL)
            && !(transit && request.has(flag::CONTINUE))
            && !(transit && (next <= current || next == 2))
            && request.ahs_len() == 0
            && self.requests <= REQUESTS_MAX
            && request.itt() != NO_TAG;
        if legal { Ok(()) } else { Err(Status::INITIATOR_ERROR) }
    }

    /// Reads who it is and what it wants, and looks up what it may.
    fn identify(&mut self, pairs: &[(String, String)], reply: &mut Vec<u8>) -> Result<(), Status> {
        let initiator = text::value(pairs, "InitiatorName").ok_or(Status::PARAMETER_MISSING)?;
        let initiator = proper_name(initiator).ok_or(Status::INITIATOR_ERROR)?;
        let tsih = self.fixed.map_or(0, |fixed| fixed.tsih);
        let purpose = match text::value(pairs, "SessionType").unwrap_or("Normal") {
            "Discovery" => {
                self.auth.require(self.registry.discovery_credential());
                Purpose::Discovery
            }
            "Normal" => {
                let name = text::value(pairs, "TargetName").ok_or(Status::PARAMETER_MISSING)?;
                let name = proper_name(name).ok_or(Status::INITIATOR_ERROR)?;
                let export = self.registry.export(&name).ok_or(Status::NOT_FOUND)?;
                match export.admit(&initiator) {
                    Admission::Refused => return Err(Status::NOT_AUTHORISED),
                    Admission::Allowed(credentials) => self.auth.require(credentials),
                }
                let group = self.registry.portal_group().to_string();
                text::push(reply, "TargetPortalGroupTag", &group);
                Purpose::Normal { export, read_only: false, proof: None }
            }
            _ => return Err(Status::SESSION_TYPE),
        };
        if tsih != 0 && !self.registry.has_session(tsih, &initiator) {
            return Err(Status::NO_SUCH_SESSION);
        }
        self.intent = Some(Intent { initiator, purpose });
        Ok(())
    }

    fn negotiate(
        &mut self,
        stage: u8,
        pairs: &[(String, String)],
        reply: &mut Vec<u8>,
    ) -> Result<(), Status> {
        if stage == SECURITY {
            self.auth.step(pairs, reply)?;
        }
        for (key, offered) in pairs {
            match key.as_str() {
                "InitiatorName" | "InitiatorAlias" | "TargetName" | "TargetAlias" | "SessionType" => {}
                "AuthMethod" | "CHAP_A" | "CHAP_I" | "CHAP_C" | "CHAP_N" | "CHAP_R" if stage == SECURITY => {}
                // Answers to what we declared.
                "TargetPortalGroupTag" | "TargetAddress" => {}
                _ => self.offer(key, offered, reply)?,
            }
        }
        if stage == OPERATIONAL && !self.declared {
            self.declared = true;
            text::push(reply, "MaxRecvDataSegmentLength", &SEGMENT_MAX.to_string());
        }
        Ok(())
    }

    fn offer(&mut self, key: &str, offered: &str, reply: &mut Vec<u8>) -> Result<(), Status> {
        // What we are told of our own answer ends the exchange.
        if matches!(offered, "NotUnderstood" | "Reject" | "Irrelevant") {
            return Ok(());
        }
        match self.params.offer(key, offered) {
            Reply::Wrong => return Err(Status::INITIATOR_ERROR),
            Reply::NotOurs => text::push(reply, key, "NotUnderstood"),
            answer => {
                if self.seen.iter().any(|seen| seen == key) {
                    return Err(Status::INITIATOR_ERROR);
                }
                self.seen.push(key.to_owned());
                if let Reply::Value(value) = answer {
                    text::push(reply, key, &value);
                }
            }
        }
        Ok(())
    }

    fn grant(&mut self, request: &Bhs, current: u8, reply: Vec<u8>) -> Result<Granted, Status> {
        let answer = self.answer(request, current, Some(FULL_FEATURE), reply);
        self.params.settle();
        let fixed = self.fixed.ok_or(Status::INITIATOR_ERROR)?;
        let mut intent = self.intent.take().ok_or(Status::INITIATOR_ERROR)?;
        let proved = self.auth.proof();
        if let Purpose::Normal { export, read_only, proof } = &mut intent.purpose {
            let right = export.right(&intent.initiator, proved).ok_or(Status::NOT_AUTHORISED)?;
            *read_only = right.read_only;
            *proof = proved.cloned();
        }
        Ok(Granted {
            initiator: intent.initiator,
            isid: fixed.isid,
            tsih: fixed.tsih,
            cid: fixed.cid,
            purpose: intent.purpose,
            params: self.params.clone(),
            stat_sn: self.stat_sn,
            cmd_sn: request.sn(),
            answer,
        })
    }

    /// A login response; counts StatSN on.
    fn answer(&mut self, request: &Bhs, current: u8, moves: Option<u8>, data: Vec<u8>) -> Pdu {
        let mut bhs = response(request, self.stat_sn);
        self.stat_sn = self.stat_sn.wrapping_add(1);
        bhs.0[1] = current << 2 | moves.map_or(0, |next| flag::TRANSIT | next);
        bhs.set_data_len(data.len());
        Pdu { bhs, data }
    }

    fn refusal(&mut self, request: &Bhs, status: Status) -> Pdu {
        refusal(request, self.stat_sn, status)
    }
}

/// A login response without stages and status.
fn response(request: &Bhs, stat_sn: u32) -> Bhs {
    let mut bhs = Bhs::new(op::LOGIN_RESPONSE);
    bhs.0[1] = 0;
    bhs.0[8..16].copy_from_slice(&request.0[8..16]);
    bhs.set_itt(request.itt());
    bhs.set_sn(stat_sn);
    bhs.set_window(request.sn(), request.sn());
    bhs
}

/// A login response that ends a login in failure.
pub fn refusal(request: &Bhs, stat_sn: u32, status: Status) -> Pdu {
    let mut bhs = response(request, stat_sn);
    bhs.0[1] = request.flags() & 0x0c;
    bhs.0[36] = status.0;
    bhs.0[37] = status.1;
    Pdu { bhs, data: Vec::new() }
}

/// An iSCSI name in its canonical form; `None` when it cannot be one.
pub fn proper_name(name: &str) -> Option<String> {
    let proper = !name.is_empty()
        && name.len() <= text::NAME_MAX
        && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '-' | '.' | ':' | '_'));
    proper.then(|| name.to_lowercase())
}
