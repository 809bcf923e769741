//! Keys of transfers: shown once to whoever offers a volume, kept as a salted hash of Cinder's making, so that an offer that Cinder
//! recorded can be taken here.

use db::transfer::Lock;
use hmac::{Hmac, KeyInit as _, Mac as _};
use model::Secret;
use sha1::Sha1;

/// Digits of a salt and of a key (`volume_transfer_salt_length` and `volume_transfer_key_length`).
#[derive(Debug, Clone, Copy)]
pub struct Lengths {
    pub salt: usize,
    pub key: usize,
}

impl Default for Lengths {
    fn default() -> Self {
        Self { salt: 8, key: 16 }
    }
}

/// A fresh key and what it is checked against.
///
/// # Errors
/// The system has no randomness to give.
pub fn fresh(lengths: Lengths) -> std::io::Result<(Secret<String>, Lock)> {
    let (salt, key) = (random_digits(lengths.salt)?, random_digits(lengths.key)?);
    let hash = hex(&mac(&salt, &key).finalize().into_bytes());
    Ok((Secret::new(key), Lock { salt, hash }))
}

/// Whether a key opens a lock. The time that it takes tells nothing of the right one.
pub fn opens(lock: &Lock, key: &Secret<String>) -> bool {
    let Some(hash) = unhex(&lock.hash) else { return false };
    mac(&lock.salt, key.expose()).verify_slice(&hash).is_ok()
}

fn mac(salt: &str, key: &str) -> Hmac<Sha1> {
    let mut mac = Hmac::<Sha1>::new_from_slice(salt.as_bytes()).expect("HMAC takes keys of any length");
    mac.update(key.as_bytes());
    mac
}

fn random_digits(length: usize) -> std::io::Result<String> {
    let mut bytes = vec![0; length.div_ceil(2)];
    getrandom::fill(&mut bytes).map_err(std::io::Error::from)?;
    let mut digits = hex(&bytes);
    digits.truncate(length);
    Ok(digits)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| Some(digit(*pair.first()?)? << 4 | digit(*pair.get(1)?)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_key_opens_the_lock() {
        let (key, lock) = fresh(Lengths::default()).expect("randomness");
        assert_eq!((lock.salt.len(), key.expose().len(), lock.hash.len()), (8, 16, 40));
        assert!(opens(&lock, &key));
        for wrong in ["", "nope", &lock.hash] {
            assert!(!opens(&lock, &Secret::new(wrong.into())), "{wrong}");
        }
        assert!(!opens(&Lock { salt: String::new(), ..lock }, &key));
        assert!(!opens(&Lock { salt: String::new(), hash: String::new() }, &Secret::new(String::new())));
    }

    #[test]
    fn the_hash_is_the_one_that_cinder_stores() {
        // RFC 2202, HMAC-SHA-1, test case 2.
        let lock = Lock { salt: "Jefe".into(), hash: "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79".into() };
        assert!(opens(&lock, &Secret::new("what do ya want for nothing?".into())));
    }
}
