//! CHAP (RFC 1994, RFC 7143 section 12.1): challenges and responses, for both ends.
//!
//! A response is `H(identifier || secret || challenge)`. Secrets stay in [`Secret`]; comparison takes the same time
//! wherever the texts differ.

use md5::Md5;
use model::Secret;
use sha1::Sha1;
use sha2::{Digest, Sha256};
use sha3::Sha3_256;

/// The longest challenge or response accepted, in bytes (RFC 7143 12.1.3).
pub const BINARY_MAX: usize = 1024;

/// A name with its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// `CHAP_N`.
    pub user: String,
    /// What both ends know.
    pub secret: Secret<String>,
}

/// What an initiator has to prove, and what the target proves to it when asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chap {
    /// The initiator's `CHAP_N`.
    pub user: String,
    /// What the initiator proves that it knows.
    pub secret: Secret<String>,
    /// The target's own; must not be the same secret.
    pub mutual: Option<Credential>,
}

/// Digest algorithms by their registered numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    Md5 = 5,
    Sha1 = 6,
    Sha256 = 7,
    Sha3_256 = 8,
}

impl Algorithm {
    /// Every algorithm, strongest first: the order in which our initiator offers them.
    pub const ALL: [Self; 4] = [Self::Sha3_256, Self::Sha256, Self::Sha1, Self::Md5];

    /// The first of a `CHAP_A` list that we have: the list is in its sender's order of preference.
    pub fn pick(list: &str) -> Option<Self> {
        list.split(',').take(16).find_map(|number| {
            Self::ALL.into_iter().find(|algorithm| algorithm.number().to_string() == number.trim())
        })
    }

    /// The number in `CHAP_A`.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The length of a response, and of the challenges that we send, in bytes.
    pub const fn length(self) -> usize {
        match self {
            Self::Md5 => 16,
            Self::Sha1 => 20,
            Self::Sha256 | Self::Sha3_256 => 32,
        }
    }

    /// The response to a challenge.
    pub fn respond(self, identifier: u8, secret: &Secret<String>, challenge: &[u8]) -> Vec<u8> {
        fn hash<D: Digest>(identifier: u8, secret: &Secret<String>, challenge: &[u8]) -> Vec<u8> {
            let mut digest = D::new();
            digest.update([identifier]);
            digest.update(secret.expose().as_bytes());
            digest.update(challenge);
            digest.finalize().to_vec()
        }
        match self {
            Self::Md5 => hash::<Md5>(identifier, secret, challenge),
            Self::Sha1 => hash::<Sha1>(identifier, secret, challenge),
            Self::Sha256 => hash::<Sha256>(identifier, secret, challenge),
            Self::Sha3_256 => hash::<Sha3_256>(identifier, secret, challenge),
        }
    }
}

/// A challenge that was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    pub algorithm: Algorithm,
    pub identifier: u8,
    pub bytes: Vec<u8>,
}

impl Challenge {
    /// A fresh random one.
    ///
    /// # Errors
    /// The system gave no random bytes.
    pub fn fresh(algorithm: Algorithm) -> std::io::Result<Self> {
        let mut bytes = vec![0; algorithm.length() + 1];
        getrandom::fill(&mut bytes).map_err(|e| std::io::Error::other(e.to_string()))?;
        let identifier = bytes.pop().unwrap_or_default();
        Ok(Self { algorithm, identifier, bytes })
    }

    /// Whether `response` proves knowledge of `secret`.
    pub fn verify(&self, secret: &Secret<String>, response: &[u8]) -> bool {
        same(&self.algorithm.respond(self.identifier, secret, &self.bytes), response)
    }
}

/// Compares without telling by its duration where the difference is.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && std::hint::black_box(a.iter().zip(b).fold(0, |all, (x, y)| all | (x ^ y))) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_known_algorithm_of_the_list_wins() {
        assert_eq!(Algorithm::pick("8,7,6,5"), Some(Algorithm::Sha3_256));
        assert_eq!(Algorithm::pick("99,5,7"), Some(Algorithm::Md5));
        assert_eq!(Algorithm::pick("1,2"), None);
        assert_eq!(Algorithm::pick(""), None);
    }

    /// `printf '\x01secret'; head -c 3 /dev/zero` through md5sum, sha1sum and sha256sum.
    #[test]
    fn responses_agree_with_other_tools() {
        let secret = Secret::new("secret".to_owned());
        let hex = |algorithm: Algorithm| crate::pdu::text::hex(&algorithm.respond(1, &secret, &[0; 3]));
        assert_eq!(hex(Algorithm::Md5), "0x0c41464f41d3cb494fc01d612e2e6a83");
        assert_eq!(hex(Algorithm::Sha1), "0x1241748d7e71f0fe5df378b5aae3e5cd08c892e7");
        assert_eq!(
            hex(Algorithm::Sha256),
            "0xfdd9814aef660c4d912bdf97bb594e4685aa2b0defd15c36a9f13e804eaec14e"
        );
        assert_eq!(
            hex(Algorithm::Sha3_256),
            "0x773118d13b8626a049ca01e8da6db2f50771848cefa17587dbc446fdd31603c1"
        );
    }

    #[test]
    fn only_the_right_secret_verifies() {
        let right = Secret::new("a secret of 20 chars".to_owned());
        let wrong = Secret::new("a secret of 20 charz".to_owned());
        for algorithm in Algorithm::ALL {
            let challenge = Challenge::fresh(algorithm).unwrap();
            assert_eq!(challenge.bytes.len(), algorithm.length());
            let answer = algorithm.respond(challenge.identifier, &right, &challenge.bytes);
            assert!(challenge.verify(&right, &answer));
            assert!(!challenge.verify(&wrong, &answer));
            assert!(!challenge.verify(&right, &answer[1..]));
            assert!(!challenge.verify(&right, &[]));
        }
    }

    #[test]
    fn challenges_do_not_repeat() {
        let one = Challenge::fresh(Algorithm::Md5).unwrap();
        assert_ne!(one, Challenge::fresh(Algorithm::Md5).unwrap());
    }
}
