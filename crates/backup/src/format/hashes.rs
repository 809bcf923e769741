//! The hash file (`<prefix>_sha256file`): the SHA-256 of every block of the whole volume, in order.
//!
//! ```text
//! { "backup_description", "backup_id", "backup_name", "chunk_size": bytes under one hash, "created_at",
//!   "sha256s": [ hex, ... ], "version", "volume_id" }
//! ```
//!
//! A volume of 1 TiB has 32 million of them: the file is written as the hashes come and read as a stream.

use std::cell::Cell;
use std::fmt;
use std::io::Read;

use serde::de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use tokio::sync::mpsc;

use super::stream::{Budget, Reading, seed};
use super::{About, Document, name, python};
use crate::DRIVER_VERSION;
use crate::error::{Error, Result};
use crate::store::{Store, Upload};

/// One SHA-256.
pub type Hash = [u8; 32];

/// Hashes handed over at a time.
const BATCH: usize = 4096;

/// A hash file being written.
#[derive(Debug)]
pub(crate) struct HashWriter {
    document: Document,
    about: About,
    count: u64,
}

impl HashWriter {
    pub fn new(upload: Box<dyn Upload>, about: About, block_size: u64) -> Self {
        let mut document = Document::new(upload);
        let text = &mut document.text;
        text.push_str("{\n  \"backup_description\": ");
        python::push_opt(text, about.description.as_deref());
        text.push_str(",\n  \"backup_id\": ");
        python::push_str(text, &about.backup_id);
        text.push_str(",\n  \"backup_name\": ");
        python::push_opt(text, about.name.as_deref());
        text.push_str(&format!(",\n  \"chunk_size\": {block_size},\n  \"created_at\": "));
        python::push_str(text, &about.created_at);
        text.push_str(",\n  \"sha256s\": [");
        Self { document, about, count: 0 }
    }

    /// Appends hashes.
    pub async fn push(&mut self, hashes: impl IntoIterator<Item = Hash>) -> Result<()> {
        for hash in hashes {
            let text = &mut self.document.text;
            text.push_str(if self.count == 0 { "\n    \"" } else { ",\n    \"" });
            push_hex(text, &hash);
            text.push('"');
            self.count += 1;
            self.document.flow().await?;
        }
        Ok(())
    }

    /// Publishes the file.
    pub async fn finish(mut self) -> Result<()> {
        let text = &mut self.document.text;
        text.push_str(if self.count == 0 { "]" } else { "\n  ]" });
        text.push_str(",\n  \"version\": \"");
        text.push_str(DRIVER_VERSION);
        text.push_str("\",\n  \"volume_id\": ");
        python::push_str(text, &self.about.volume_id);
        text.push_str("\n}");
        self.document.finish().await
    }

    /// Gives the file up.
    pub async fn abort(self) -> Result<()> {
        self.document.abort().await
    }
}

/// What a hash file says, apart from the hashes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HashSummary {
    pub backup_id: String,
    pub volume_id: String,
    /// Bytes under one hash.
    pub block_size: u64,
    /// How many hashes there are.
    pub count: u64,
}

/// Reads a whole hash file, checks its form and counts the hashes.
pub(crate) async fn summarize(store: &dyn Store, container: &str, prefix: &str) -> Result<HashSummary> {
    super::parse(store, container, &name::hashes(prefix), HashReading { batches: None }).await
}

/// Reads a hash file and sends its hashes, in order, in batches. Ends early without an error when nobody receives.
pub(crate) async fn send(
    store: &dyn Store,
    container: &str,
    prefix: &str,
    batches: mpsc::Sender<Vec<Hash>>,
) -> Result<()> {
    let closed = batches.clone();
    match super::parse(store, container, &name::hashes(prefix), HashReading { batches: Some(batches) }).await
    {
        Err(_) if closed.is_closed() => Ok(()),
        other => other.map(drop),
    }
}

struct HashReading {
    batches: Option<mpsc::Sender<Vec<Hash>>>,
}

impl Reading for HashReading {
    type Output = HashSummary;

    fn read<R: Read>(
        self,
        json: &mut serde_json::Deserializer<serde_json::de::IoRead<R>>,
        budget: Budget,
    ) -> Result<HashSummary> {
        seed(HashFile { batches: self.batches, budget }, json, &Cell::new(None))
    }
}

struct HashFile {
    batches: Option<mpsc::Sender<Vec<Hash>>>,
    budget: Budget,
}

impl<'de> DeserializeSeed<'de> for HashFile {
    type Value = HashSummary;

    fn deserialize<D: serde::Deserializer<'de>>(self, json: D) -> Result<HashSummary, D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for HashFile {
    type Value = HashSummary;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a hash file")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<HashSummary, A::Error> {
        let (mut backup_id, mut volume_id, mut block_size, mut count) = (None, None, None, None);
        let mut version: Option<String> = None;
        while let Some(key) = map.next_key::<String>()? {
            let twice = match key.as_str() {
                "backup_id" => backup_id.replace(map.next_value()?).is_some(),
                "volume_id" => volume_id.replace(map.next_value()?).is_some(),
                "chunk_size" => block_size.replace(map.next_value()?).is_some(),
                "version" => version.replace(map.next_value()?).is_some(),
                "sha256s" => {
                    let list = HashList { batches: self.batches.as_ref(), budget: &self.budget };
                    count.replace(map.next_value_seed(list)?).is_some()
                }
                _ => map.next_value::<IgnoredAny>().map(|_| false)?,
            };
            if twice {
                return Err(A::Error::custom(format!("{key} stands there twice")));
            }
            self.budget.refill();
        }
        if version.as_deref() != Some(DRIVER_VERSION) {
            return Err(A::Error::custom(format!("unknown version {version:?}")));
        }
        Ok(HashSummary {
            backup_id: backup_id.ok_or_else(|| A::Error::missing_field("backup_id"))?,
            volume_id: volume_id.ok_or_else(|| A::Error::missing_field("volume_id"))?,
            block_size: block_size
                .filter(|size| *size > 0)
                .ok_or_else(|| A::Error::missing_field("chunk_size"))?,
            count: count.ok_or_else(|| A::Error::missing_field("sha256s"))?,
        })
    }
}

struct HashList<'a> {
    batches: Option<&'a mpsc::Sender<Vec<Hash>>>,
    budget: &'a Budget,
}

impl<'de> DeserializeSeed<'de> for HashList<'_> {
    type Value = u64;

    fn deserialize<D: serde::Deserializer<'de>>(self, json: D) -> Result<u64, D::Error> {
        json.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for HashList<'_> {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of hashes")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<u64, A::Error> {
        let mut count = 0;
        let mut batch = Vec::new();
        while let Some(hash) = items.next_element_seed(Hex::<32>)? {
            self.budget.refill();
            count += 1;
            let Some(batches) = self.batches else { continue };
            batch.push(hash);
            if batch.len() == BATCH {
                batches
                    .blocking_send(std::mem::take(&mut batch))
                    .map_err(|_| A::Error::custom("nobody reads"))?;
            }
        }
        if let Some(batches) = self.batches.filter(|_| !batch.is_empty()) {
            batches.blocking_send(batch).map_err(|_| A::Error::custom("nobody reads"))?;
        }
        Ok(count)
    }
}

/// `N` bytes as hexadecimal text.
pub(super) struct Hex<const N: usize>;

impl<'de, const N: usize> DeserializeSeed<'de> for Hex<N> {
    type Value = [u8; N];

    fn deserialize<D: serde::Deserializer<'de>>(self, json: D) -> Result<[u8; N], D::Error> {
        json.deserialize_str(self)
    }
}

impl<const N: usize> Visitor<'_> for Hex<N> {
    type Value = [u8; N];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} hexadecimal digits", 2 * N)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<[u8; N], E> {
        from_hex(text).ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(clip(text)), &self))
    }
}

/// The start of a text that may be long.
fn clip(text: &str) -> &str {
    text.char_indices().nth(80).map_or(text, |(end, _)| &text[..end])
}

/// Reads exactly `N` bytes of hexadecimal text.
pub(crate) fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let mut out = [0; N];
    for (byte, pair) in out.iter_mut().zip(digits.chunks_exact(2)) {
        let high = (pair[0] as char).to_digit(16)?;
        let low = (pair[1] as char).to_digit(16)?;
        *byte = (high << 4 | low) as u8;
    }
    Some(out)
}

/// Appends `bytes` as lower-case hexadecimal text.
pub(crate) fn push_hex(out: &mut String, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        out.push(DIGITS[usize::from(byte >> 4)] as char);
        out.push(DIGITS[usize::from(byte & 15)] as char);
    }
}

/// The hashes of a file, one after the other, as they arrive from [`send`].
#[derive(Debug)]
pub(crate) struct HashStream {
    batches: mpsc::Receiver<Vec<Hash>>,
    batch: std::vec::IntoIter<Hash>,
}

impl HashStream {
    pub fn new(batches: mpsc::Receiver<Vec<Hash>>) -> Self {
        Self { batches, batch: Vec::new().into_iter() }
    }

    /// The next hash; `None` at the end of the file or when reading it has failed.
    pub async fn next(&mut self) -> Option<Hash> {
        loop {
            if let Some(hash) = self.batch.next() {
                return Some(hash);
            }
            self.batch = self.batches.recv().await?.into_iter();
        }
    }

    /// Passes over `count` hashes; false when there are not so many.
    pub async fn skip(&mut self, mut count: u64) -> bool {
        loop {
            let here = count.min(self.batch.len() as u64);
            if here > 0 {
                self.batch.nth(here as usize - 1);
                count -= here;
            }
            if count == 0 {
                return true;
            }
            match self.batches.recv().await {
                Some(batch) => self.batch = batch.into_iter(),
                None => return false,
            }
        }
    }
}

/// A mismatch between a hash file and what is expected of it, as the text of an error.
pub(crate) fn missing_hashes(prefix: &str) -> Error {
    Error::Corrupt(format!("{} ends early", name::hashes(prefix)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_reads_back_and_junk_does_not() {
        let mut text = String::new();
        push_hex(&mut text, &[0, 0x1f, 0xff]);
        assert_eq!(text, "001fff");
        assert_eq!(from_hex::<3>(&text), Some([0, 0x1f, 0xff]));
        for junk in ["", "001ff", "001fffa", "00 fff", "+01fff", "é1fff"] {
            assert_eq!(from_hex::<3>(junk), None, "{junk}");
        }
    }
}
