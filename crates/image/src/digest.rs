//! The digests that Glance keeps of an image's data.

use md5::Md5;
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha384, Sha512};

/// A digest under way.
#[derive(Debug)]
pub enum Hasher {
    Md5(Box<Md5>),
    Sha1(Box<Sha1>),
    Sha256(Box<Sha256>),
    Sha384(Box<Sha384>),
    Sha512(Box<Sha512>),
}

impl Hasher {
    /// By Glance's (hashlib's) name; `None` when it is not known here.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "md5" => Self::Md5(Box::default()),
            "sha1" => Self::Sha1(Box::default()),
            "sha256" => Self::Sha256(Box::default()),
            "sha384" => Self::Sha384(Box::default()),
            "sha512" => Self::Sha512(Box::default()),
            _ => return None,
        })
    }

    /// More data.
    pub fn update(&mut self, data: &[u8]) {
        match self {
            Self::Md5(hasher) => hasher.update(data),
            Self::Sha1(hasher) => hasher.update(data),
            Self::Sha256(hasher) => hasher.update(data),
            Self::Sha384(hasher) => hasher.update(data),
            Self::Sha512(hasher) => hasher.update(data),
        }
    }

    /// The digest, in lower-case hexadecimal.
    pub fn finish(self) -> String {
        let bytes: Vec<u8> = match self {
            Self::Md5(hasher) => hasher.finalize().to_vec(),
            Self::Sha1(hasher) => hasher.finalize().to_vec(),
            Self::Sha256(hasher) => hasher.finalize().to_vec(),
            Self::Sha384(hasher) => hasher.finalize().to_vec(),
            Self::Sha512(hasher) => hasher.finalize().to_vec(),
        };
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::Hasher;

    #[test]
    fn digests_are_those_of_their_standards() {
        let of = |name: &str| {
            let mut hasher = Hasher::named(name).unwrap();
            hasher.update(b"ab");
            hasher.update(b"c");
            hasher.finish()
        };
        assert_eq!(of("md5"), "900150983cd24fb0d6963f7d28e17f72");
        assert_eq!(of("sha1"), "a9993e364706816aba3e25717850c26c9cd0d89d");
        assert_eq!(of("sha256"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert!(of("sha384").starts_with("cb00753f45a35e8b"));
        assert!(of("sha512").starts_with("ddaf35a193617aba"));
        assert!(Hasher::named("blake2b").is_none());
    }
}
