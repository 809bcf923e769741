//! Secrets in rows are sealed with a key of the installation (I8): who reads the database alone learns none.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chacha20poly1305::aead::Aead as _;
use chacha20poly1305::{ChaCha20Poly1305, KeyInit as _, Nonce};
use model::Secret;

/// Seals and opens texts.
pub struct Sealer(ChaCha20Poly1305);

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sealer")
    }
}

/// The sealed text is of another key, or damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a stored secret cannot be opened with this installation's key")]
pub struct CannotOpen;

/// Bytes of a key.
pub const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 12;

impl Sealer {
    /// With this key.
    pub fn new(key: &Secret<[u8; KEY_BYTES]>) -> Self {
        Self(ChaCha20Poly1305::new(key.expose().into()))
    }

    /// A fresh key.
    ///
    /// # Errors
    /// The system has no randomness to give.
    pub fn fresh_key() -> std::io::Result<Secret<[u8; KEY_BYTES]>> {
        let mut key = [0; KEY_BYTES];
        getrandom::fill(&mut key).map_err(std::io::Error::from)?;
        Ok(Secret::new(key))
    }

    /// Seals a text.
    ///
    /// # Errors
    /// The system has no randomness to give.
    pub fn seal(&self, secret: &Secret<String>) -> std::io::Result<String> {
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce).map_err(std::io::Error::from)?;
        let sealed = self
            .0
            .encrypt(Nonce::from_slice(&nonce), secret.expose().as_bytes())
            .map_err(|_| std::io::Error::other("sealing a secret"))?;
        Ok(STANDARD.encode([&nonce[..], &sealed].concat()))
    }

    /// Opens a sealed text.
    ///
    /// # Errors
    /// [`CannotOpen`].
    pub fn open(&self, sealed: &str) -> Result<Secret<String>, CannotOpen> {
        let bytes = STANDARD.decode(sealed).map_err(|_| CannotOpen)?;
        let (nonce, text) = bytes.split_at_checked(NONCE_BYTES).ok_or(CannotOpen)?;
        let open = self.0.decrypt(Nonce::from_slice(nonce), text).map_err(|_| CannotOpen)?;
        String::from_utf8(open).map(Secret::new).map_err(|_| CannotOpen)
    }
}

/// A random text of letters and digits, `length` long: a CHAP name or secret.
///
/// # Errors
/// The system has no randomness to give.
pub fn random_text(length: usize) -> std::io::Result<String> {
    // 55 symbols without look-alikes. The modulo favours some of them by 5 to 4: 16 characters still have 90 bits.
    const SYMBOLS: &[u8] = b"ABCDEFGHJKLMNPQRSTUVWXYZabcdefghjkmnpqrstuvwxyz23456789";
    let mut bytes = vec![0; length];
    getrandom::fill(&mut bytes).map_err(std::io::Error::from)?;
    Ok(bytes.iter().map(|byte| char::from(SYMBOLS[usize::from(*byte) % SYMBOLS.len()])).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_only_with_its_key() {
        let sealer = Sealer::new(&Sealer::fresh_key().expect("a key"));
        let sealed = sealer.seal(&Secret::new("chap secret".into())).expect("seals");
        assert!(!sealed.contains("chap"));
        assert_eq!(sealer.open(&sealed).expect("opens").expose(), "chap secret");
        let other = Sealer::new(&Sealer::fresh_key().expect("a key"));
        assert_eq!(other.open(&sealed), Err(CannotOpen));
        for bad in ["", "x", "AAAA", &sealed[..20]] {
            assert_eq!(sealer.open(bad), Err(CannotOpen));
        }
    }
}
