//! The security stage: which method, and CHAP.

use std::io;

use model::Secret;

use super::Status;
use crate::chap::{Algorithm, BINARY_MAX, Challenge, Chap};
use crate::pdu::text;

/// Who may prove what.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    /// Any of these will do.
    pub any_of: Vec<Chap>,
    /// Or none at all.
    pub optional: bool,
}

impl Credentials {
    /// Nothing has to be proved.
    pub const fn none() -> Self {
        Self { any_of: Vec::new(), optional: true }
    }
}

#[derive(Debug, Default)]
enum State {
    /// The initiator has not offered methods yet.
    #[default]
    Start,
    /// CHAP was agreed; its algorithms come next.
    Algorithm,
    /// A challenge is out.
    Challenged(Challenge),
    /// Done, by CHAP with this, or without.
    Done(Option<Chap>),
}

/// The security negotiation of one login.
#[derive(Debug, Default)]
pub struct Auth {
    wanted: Credentials,
    state: State,
}

impl Auth {
    /// Sets what has to be proved, once that is known.
    pub fn require(&mut self, wanted: Credentials) {
        self.wanted = wanted;
    }

    /// Whether nothing more has to be proved.
    pub fn satisfied(&self) -> bool {
        match self.state {
            State::Done(_) => true,
            State::Start => self.wanted.optional,
            State::Algorithm | State::Challenged(_) => false,
        }
    }

    /// Whether the exchange has begun and is not over.
    pub const fn in_progress(&self) -> bool {
        matches!(self.state, State::Algorithm | State::Challenged(_))
    }

    /// What was proved.
    pub const fn proof(&self) -> Option<&Chap> {
        match &self.state {
            State::Done(proof) => proof.as_ref(),
            _ => None,
        }
    }

    /// Takes the security keys of one request and answers them.
    pub fn step(&mut self, pairs: &[(String, String)], reply: &mut Vec<u8>) -> Result<(), Status> {
        let methods = text::value(pairs, "AuthMethod");
        match &self.state {
            State::Start => match methods {
                Some(methods) => self.choose(methods, reply),
                None => Ok(()),
            },
            State::Algorithm => match text::value(pairs, "CHAP_A") {
                Some(algorithms) => self.challenge(algorithms, reply),
                None => Err(Status::AUTHENTICATION),
            },
            State::Challenged(challenge) => {
                let challenge = challenge.clone();
                let proof = self.check(&challenge, pairs, reply)?;
                self.state = State::Done(Some(proof));
                Ok(())
            }
            State::Done(_) if methods.is_some() => Err(Status::INITIATOR_ERROR),
            State::Done(_) => Ok(()),
        }
    }

    fn choose(&mut self, methods: &str, reply: &mut Vec<u8>) -> Result<(), Status> {
        let offers = |method| methods.split(',').take(16).any(|one| one.trim() == method);
        if !self.wanted.any_of.is_empty() && offers("CHAP") {
            text::push(reply, "AuthMethod", "CHAP");
            self.state = State::Algorithm;
            Ok(())
        } else if self.wanted.optional && offers("None") {
            text::push(reply, "AuthMethod", "None");
            self.state = State::Done(None);
            Ok(())
        } else {
            Err(Status::AUTHENTICATION)
        }
    }

    fn challenge(&mut self, algorithms: &str, reply: &mut Vec<u8>) -> Result<(), Status> {
        let algorithm = Algorithm::pick(algorithms).ok_or(Status::AUTHENTICATION)?;
        let challenge = Challenge::fresh(algorithm).map_err(|_: io::Error| Status::OUT_OF_RESOURCES)?;
        text::push(reply, "CHAP_A", &algorithm.number().to_string());
        text::push(reply, "CHAP_I", &challenge.identifier.to_string());
        // Hexadecimal: some initiators read nothing else.
        text::push(reply, "CHAP_C", &text::hex(&challenge.bytes));
        self.state = State::Challenged(challenge);
        Ok(())
    }

    /// Checks the response, and answers the initiator's own challenge when there is one.
    fn check(
        &self,
        challenge: &Challenge,
        pairs: &[(String, String)],
        reply: &mut Vec<u8>,
    ) -> Result<Chap, Status> {
        let denied = Status::AUTHENTICATION;
        let name = text::value(pairs, "CHAP_N").ok_or(denied)?;
        let response =
            text::value(pairs, "CHAP_R").and_then(|r| text::binary(r, BINARY_MAX)).ok_or(denied)?;
        // An unknown user costs the same time as a wrong secret.
        let nobody = Secret::new("no such user".to_owned());
        let known = self.wanted.any_of.iter().find(|chap| chap.user == name);
        let right = challenge.verify(known.map_or(&nobody, |chap| &chap.secret), &response);
        let chap = known.filter(|_| right).ok_or(denied)?;
        match (text::value(pairs, "CHAP_I"), text::value(pairs, "CHAP_C")) {
            (None, None) => {}
            (Some(identifier), Some(theirs)) => {
                let identifier = text::number(identifier).and_then(|n| u8::try_from(n).ok()).ok_or(denied)?;
                let theirs = text::binary(theirs, BINARY_MAX).ok_or(denied)?;
                let ours = chap.mutual.as_ref().ok_or(denied)?;
                // Our own challenge sent back, or one secret for both directions, would prove nothing.
                if theirs.is_empty() || theirs == challenge.bytes || ours.secret == chap.secret {
                    return Err(denied);
                }
                let proof = challenge.algorithm.respond(identifier, &ours.secret, &theirs);
                text::push(reply, "CHAP_N", &ours.user);
                text::push(reply, "CHAP_R", &text::hex(&proof));
            }
            _ => return Err(denied),
        }
        Ok(chap.clone())
    }
}
