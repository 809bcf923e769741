//! The login phase as the initiator sees it.

use std::io;
use std::time::Duration;

use tokio::net::TcpStream;

use super::InitiatorError;
use crate::chap::{Algorithm, BINARY_MAX, Challenge, Chap};
use crate::login::params::SEGMENT_MAX;
use crate::pdu::{Bhs, flag, op, text};
use crate::stream::buffer::Pool;
use crate::stream::inbox::Inbox;
use crate::stream::layout::{Digests, lay_out, wire_length};
use crate::stream::outbox::Outbox;

/// The longest burst that we send or take, in bytes.
pub const BURST: u32 = 1 << 20;
/// Size of the receive buffer, in bytes.
const INBOX: usize = 128 << 10;
/// The most requests of one login.
const REQUESTS_MAX: usize = 32;
/// The most text of one answer, in bytes.
const TEXT_MAX: usize = 64 << 10;
/// The most redirections that are followed.
const REDIRECTS_MAX: usize = 4;

const SECURITY: u8 = 0;
const OPERATIONAL: u8 = 1;
const FULL_FEATURE: u8 = 3;

/// Who logs in where.
#[derive(Debug)]
pub struct Wish<'a> {
    pub initiator: &'a str,
    pub isid: [u8; 6],
    /// `None` for discovery.
    pub target: Option<&'a str>,
    pub chap: Option<&'a Chap>,
    pub digests: bool,
}

/// What a login came to.
#[derive(Debug)]
pub struct Agreed {
    pub stream: TcpStream,
    pub inbox: Inbox,
    pub digests: Digests,
    /// The longest data segment that the target takes.
    pub segment: u32,
    pub max_burst: u32,
    pub first_burst: u32,
    pub immediate_data: bool,
    pub cmd_sn: u32,
    pub max_cmd_sn: u32,
    pub exp_stat_sn: u32,
}

/// Connects to a portal and logs in, following redirections.
///
/// # Errors
/// The portal cannot be reached, or does not let us in.
pub async fn login(portal: &str, wish: &Wish<'_>, time: Duration) -> Result<Agreed, InitiatorError> {
    let mut portal = portal.to_owned();
    for _ in 0..=REDIRECTS_MAX {
        let attempt = tokio::time::timeout(time, login_once(&portal, wish)).await;
        let late =
            || InitiatorError::Connect { portal: portal.clone(), source: io::ErrorKind::TimedOut.into() };
        match attempt.map_err(|_| late())?? {
            Outcome::In(agreed) => return Ok(*agreed),
            Outcome::Elsewhere(address) => portal = address,
        }
    }
    Err(InitiatorError::Protocol("too many redirections"))
}

enum Outcome {
    In(Box<Agreed>),
    Elsewhere(String),
}

async fn login_once(portal: &str, wish: &Wish<'_>) -> Result<Outcome, InitiatorError> {
    let failed = |source| InitiatorError::Connect { portal: portal.to_owned(), source };
    let stream = TcpStream::connect(portal).await.map_err(failed)?;
    stream.set_nodelay(true).map_err(failed)?;
    let mut talk = Talk::new(stream, wish);
    match talk.run(wish).await? {
        Some(address) => Ok(Outcome::Elsewhere(address)),
        None => Ok(Outcome::In(Box::new(talk.agreed))),
    }
}

/// A login in progress.
struct Talk {
    agreed: Agreed,
    isid: [u8; 6],
    requests: usize,
    stage: u8,
    /// Text of the answer to come, where it takes several PDUs.
    partial: Vec<u8>,
}

type Pairs = Vec<(String, String)>;

/// An answer: its pairs and whether the stage is over; or another address.
enum Answer {
    Pairs(Pairs, bool),
    Elsewhere(String),
}

impl Talk {
    fn new(stream: TcpStream, wish: &Wish<'_>) -> Self {
        let agreed = Agreed {
            stream,
            inbox: Inbox::new(INBOX),
            digests: Digests::default(),
            segment: 8192,
            max_burst: 262_144,
            first_burst: 65_536,
            immediate_data: true,
            cmd_sn: 1,
            max_cmd_sn: 1,
            exp_stat_sn: 0,
        };
        Self { agreed, isid: wish.isid, requests: 0, stage: SECURITY, partial: Vec::new() }
    }

    /// The whole exchange. Returns another address when the target sends us there.
    async fn run(&mut self, wish: &Wish<'_>) -> Result<Option<String>, InitiatorError> {
        let mut keys = Vec::new();
        text::push(&mut keys, "InitiatorName", wish.initiator);
        match wish.target {
            Some(target) => {
                text::push(&mut keys, "SessionType", "Normal");
                text::push(&mut keys, "TargetName", target);
            }
            None => text::push(&mut keys, "SessionType", "Discovery"),
        }
        // With a secret, nothing but CHAP will do: a target that wants no proof of us is not the one we know.
        text::push(&mut keys, "AuthMethod", if wish.chap.is_some() { "CHAP" } else { "None" });
        let next = wish.chap.is_none().then_some(OPERATIONAL);
        match (self.ask(keys, next).await?, wish.chap) {
            (Answer::Elsewhere(address), _) => return Ok(Some(address)),
            (Answer::Pairs(pairs, _), Some(chap)) => {
                if text::value(&pairs, "AuthMethod") != Some("CHAP") {
                    return Err(InitiatorError::Protocol("it does not want CHAP"));
                }
                if let Some(address) = self.prove(chap).await? {
                    return Ok(Some(address));
                }
            }
            (Answer::Pairs(_, true), None) => {}
            (Answer::Pairs(_, false), None) => return Err(InitiatorError::Protocol("it stays in security")),
        }
        self.stage = OPERATIONAL;
        self.operate(wish).await
    }

    /// CHAP, in one direction or both.
    async fn prove(&mut self, chap: &Chap) -> Result<Option<String>, InitiatorError> {
        let offered: Vec<String> = Algorithm::ALL.iter().map(|one| one.number().to_string()).collect();
        let mut keys = Vec::new();
        text::push(&mut keys, "CHAP_A", &offered.join(","));
        let pairs = match self.ask(keys, None).await? {
            Answer::Elsewhere(address) => return Ok(Some(address)),
            Answer::Pairs(pairs, _) => pairs,
        };
        let bad = InitiatorError::Protocol("its CHAP challenge is not proper");
        let algorithm = text::value(&pairs, "CHAP_A").and_then(Algorithm::pick);
        let identifier =
            text::value(&pairs, "CHAP_I").and_then(text::number).and_then(|n| u8::try_from(n).ok());
        let challenge = text::value(&pairs, "CHAP_C").and_then(|c| text::binary(c, BINARY_MAX));
        let (Some(algorithm), Some(identifier), Some(challenge)) = (algorithm, identifier, challenge) else {
            return Err(bad);
        };
        let mut keys = Vec::new();
        text::push(&mut keys, "CHAP_N", &chap.user);
        text::push(&mut keys, "CHAP_R", &text::hex(&algorithm.respond(identifier, &chap.secret, &challenge)));
        let ours = match &chap.mutual {
            Some(_) => Some(Challenge::fresh(algorithm).map_err(InitiatorError::Lost)?),
            None => None,
        };
        if let Some(ours) = &ours {
            text::push(&mut keys, "CHAP_I", &ours.identifier.to_string());
            text::push(&mut keys, "CHAP_C", &text::hex(&ours.bytes));
        }
        let (pairs, over) = match self.ask(keys, Some(OPERATIONAL)).await? {
            Answer::Elsewhere(address) => return Ok(Some(address)),
            Answer::Pairs(pairs, over) => (pairs, over),
        };
        if let (Some(ours), Some(theirs)) = (&ours, &chap.mutual) {
            let response = text::value(&pairs, "CHAP_R").and_then(|r| text::binary(r, BINARY_MAX));
            let named = text::value(&pairs, "CHAP_N") == Some(theirs.user.as_str());
            if !named || !response.is_some_and(|response| ours.verify(&theirs.secret, &response)) {
                return Err(InitiatorError::TargetNotProved);
            }
        }
        if over { Ok(None) } else { Err(InitiatorError::Protocol("it stays in security")) }
    }

    /// Operational parameters, until full feature phase.
    async fn operate(&mut self, wish: &Wish<'_>) -> Result<Option<String>, InitiatorError> {
        let digest = if wish.digests { "CRC32C,None" } else { "None" };
        let mut keys = Vec::new();
        let segment = SEGMENT_MAX.to_string();
        let burst = BURST.to_string();
        let common = [
            ("HeaderDigest", digest),
            ("DataDigest", digest),
            ("MaxRecvDataSegmentLength", segment.as_str()),
            ("DefaultTime2Wait", "2"),
            ("DefaultTime2Retain", "0"),
            ("ErrorRecoveryLevel", "0"),
        ];
        let normal = [
            ("InitialR2T", "No"),
            ("ImmediateData", "Yes"),
            ("MaxBurstLength", burst.as_str()),
            ("FirstBurstLength", segment.as_str()),
            ("MaxConnections", "1"),
            ("MaxOutstandingR2T", "1"),
            ("DataPDUInOrder", "Yes"),
            ("DataSequenceInOrder", "Yes"),
        ];
        let wanted: &[_] = if wish.target.is_some() { &normal } else { &[] };
        for (key, value) in common.iter().chain(wanted) {
            text::push(&mut keys, key, value);
        }
        loop {
            match self.ask(std::mem::take(&mut keys), Some(FULL_FEATURE)).await? {
                Answer::Elsewhere(address) => return Ok(Some(address)),
                Answer::Pairs(pairs, over) => {
                    self.agree(&pairs)?;
                    if over {
                        return Ok(None);
                    }
                }
            }
        }
    }

    fn agree(&mut self, pairs: &Pairs) -> Result<(), InitiatorError> {
        let length = |value: &str| {
            text::number(value)
                .and_then(|n| u32::try_from(n).ok())
                .filter(|n| (512..1 << 24).contains(n))
                .ok_or(InitiatorError::Protocol("a length is out of range"))
        };
        for (key, value) in pairs {
            match key.as_str() {
                "HeaderDigest" => self.agreed.digests.header = value == "CRC32C",
                "DataDigest" => self.agreed.digests.data = value == "CRC32C",
                "MaxRecvDataSegmentLength" => self.agreed.segment = length(value)?,
                "MaxBurstLength" => self.agreed.max_burst = length(value)?.min(BURST),
                "FirstBurstLength" => self.agreed.first_burst = length(value)?,
                "ImmediateData" => self.agreed.immediate_data = value == "Yes",
                _ => {}
            }
        }
        Ok(())
    }

    /// Sends a request and gathers its answer.
    async fn ask(&mut self, keys: Vec<u8>, next: Option<u8>) -> Result<Answer, InitiatorError> {
        self.send(&keys, next).await?;
        loop {
            let (bhs, data) = self
                .agreed
                .inbox
                .login_pdu(&self.agreed.stream, TEXT_MAX)
                .await
                .map_err(InitiatorError::Lost)?;
            if bhs.opcode() != op::LOGIN_RESPONSE {
                return Err(InitiatorError::Protocol("not a login response"));
            }
            self.agreed.exp_stat_sn = bhs.sn().wrapping_add(1);
            self.agreed.max_cmd_sn = bhs.u32_at(32);
            self.partial.extend_from_slice(&data);
            if self.partial.len() > TEXT_MAX {
                return Err(InitiatorError::Protocol("too much login text"));
            }
            if bhs.has(flag::CONTINUE) {
                self.send(&[], None).await?;
                continue;
            }
            let bytes = std::mem::take(&mut self.partial);
            let pairs =
                text::parse(&bytes).map_err(|_| InitiatorError::Protocol("its login text is not proper"))?;
            return match (bhs.0[36], text::value(&pairs, "TargetAddress")) {
                (0, _) => {
                    let moved = bhs.has(flag::TRANSIT) && Some(bhs.flags() & 3) == next;
                    Ok(Answer::Pairs(pairs, moved))
                }
                (1, Some(address)) => {
                    let address = address.rsplit_once(',').map_or(address, |(address, _group)| address);
                    Ok(Answer::Elsewhere(address.to_owned()))
                }
                (class, _) => {
                    let detail = bhs.0[37];
                    Err(InitiatorError::Refused { class, detail, reason: reason(class, detail) })
                }
            };
        }
    }

    async fn send(&mut self, keys: &[u8], next: Option<u8>) -> Result<(), InitiatorError> {
        self.requests += 1;
        if self.requests > REQUESTS_MAX {
            return Err(InitiatorError::Protocol("the login does not end"));
        }
        let mut bhs = Bhs::new(op::LOGIN);
        bhs.set_immediate();
        bhs.0[1] = self.stage << 2 | next.map_or(0, |next| flag::TRANSIT | next);
        bhs.set_data_len(keys.len());
        bhs.0[8..14].copy_from_slice(&self.isid);
        bhs.set_itt(0);
        bhs.set_sn(self.agreed.cmd_sn);
        bhs.set_exp_sn(self.agreed.exp_stat_sn);
        let (mut pool, mut outbox, none) = (Pool::default(), Outbox::default(), Digests::default());
        lay_out(none, outbox.append(wire_length(none, keys.len()), &mut pool), &bhs, keys);
        while !outbox.is_empty() {
            self.agreed.stream.writable().await.map_err(InitiatorError::Lost)?;
            outbox.send(&self.agreed.stream, &mut pool).map_err(InitiatorError::Lost)?;
        }
        Ok(())
    }
}

fn reason(class: u8, detail: u8) -> &'static str {
    match (class, detail) {
        (2, 1) => "authentication failed",
        (2, 2) => "this initiator is not allowed here",
        (2, 3) => "there is no such target",
        (2, 4) => "the target was removed",
        (2, 6) => "too many connections",
        (2, _) => "the target does not accept our request",
        (3, 1) => "the target is not available",
        (3, 2) => "the target is out of resources",
        (3, _) => "the target has failed",
        _ => "unknown status",
    }
}
