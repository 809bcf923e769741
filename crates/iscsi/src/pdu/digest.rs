//! Header and data digests: CRC32C (RFC 7143 section 13.1), sent least significant byte first.

use crc_fast::{CrcAlgorithm, Digest, checksum};

/// Length of a digest in bytes.
pub const DIGEST_LEN: usize = 4;

/// The digest of `bytes` as it goes on the wire. Data digests cover the padding: pass it too.
pub fn crc32c(bytes: &[u8]) -> [u8; DIGEST_LEN] {
    (checksum(CrcAlgorithm::Crc32Iscsi, bytes) as u32).to_le_bytes()
}

/// The digest of several pieces sent one after the other.
pub fn crc32c_of(pieces: &[&[u8]]) -> [u8; DIGEST_LEN] {
    let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
    for piece in pieces {
        digest.update(piece);
    }
    (digest.finalize() as u32).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of RFC 7143 appendix B.4.
    #[test]
    fn agrees_with_the_standard() {
        assert_eq!(crc32c(&[0; 32]), [0xaa, 0x36, 0x91, 0x8a]);
        assert_eq!(crc32c(&[0xff; 32]), [0x43, 0xab, 0xa8, 0x62]);
        let up: Vec<u8> = (0..32).collect();
        assert_eq!(crc32c(&up), [0x4e, 0x79, 0xdd, 0x46]);
        let down: Vec<u8> = (0..32).rev().collect();
        assert_eq!(crc32c(&down), [0x5c, 0xdb, 0x3f, 0x11]);
        assert_eq!(crc32c_of(&[&up[..5], &up[5..]]), crc32c(&up));
    }
}
