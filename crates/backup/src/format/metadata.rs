//! The metadata file (`<prefix>_metadata`): what a backup consists of. It is written last and makes the backup whole.
//!
//! ```text
//! { "backup_description", "backup_id", "backup_name", "created_at",
//!   "objects": [ { "<prefix>-00001": { "compression", "length", "md5", "offset" } }, ... ],
//!   "parent_id", "version", "volume_id", "volume_meta" }
//! ```
//!
//! `offset` and `length` are bytes of the volume; `length` and `md5` describe uncompressed data. Cinder writes objects in
//! ascending, disjoint order, numbered from 1 without gaps; a full backup's leave no gap in the volume either. A
//! file that breaks one of these rules is refused: it could not have been written by a chunked driver, and the rules are
//! what makes it checkable as a stream.

use std::cell::Cell;
use std::fmt;
use std::io::Read;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use tokio::sync::mpsc;

use super::hashes::{from_hex, push_hex};
use super::name::{self, Kind};
use super::stream::{Budget, Reading, seed};
use super::{About, Document, python};
use crate::DRIVER_VERSION;
use crate::compression::{Codec, Compression};
use crate::error::{Error, Result};
use crate::store::{Store, Upload};

/// The most data objects that one backup may have: `object_count` is a 32-bit column.
pub const MAX_OBJECTS: u64 = i32::MAX as u64;

/// One data object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectEntry {
    /// From 1.
    pub number: u64,
    /// Where its data belongs in the volume, in bytes.
    pub offset: u64,
    /// Bytes of uncompressed data.
    pub length: u64,
    pub codec: Codec,
    /// Of the uncompressed data.
    pub md5: [u8; 16],
}

/// A metadata file being written.
#[derive(Debug)]
pub(crate) struct MetadataWriter {
    document: Document,
    about: About,
    prefix: String,
    compression: Compression,
    count: u64,
}

impl MetadataWriter {
    /// `compression` gives compressed objects' field its text.
    pub fn new(upload: Box<dyn Upload>, about: About, prefix: &str, compression: Compression) -> Self {
        let mut document = Document::new(upload);
        let text = &mut document.text;
        text.push_str("{\n  \"backup_description\": ");
        python::push_opt(text, about.description.as_deref());
        text.push_str(",\n  \"backup_id\": ");
        python::push_str(text, &about.backup_id);
        text.push_str(",\n  \"backup_name\": ");
        python::push_opt(text, about.name.as_deref());
        text.push_str(",\n  \"created_at\": ");
        python::push_str(text, &about.created_at);
        text.push_str(",\n  \"objects\": [");
        Self { document, about, prefix: prefix.to_owned(), compression, count: 0 }
    }

    /// Appends an object.
    pub async fn push(&mut self, entry: &ObjectEntry) -> Result<()> {
        let text = &mut self.document.text;
        text.push_str(if self.count == 0 { "\n    {\n      " } else { ",\n    {\n      " });
        python::push_str(text, &name::data(&self.prefix, entry.number));
        let compression = match entry.codec {
            Codec::None => Codec::None.name(),
            _ => self.compression.name(),
        };
        text.push_str(&format!(
            ": {{\n        \"compression\": \"{compression}\",\n        \"length\": {},\n        \"md5\": \"",
            entry.length
        ));
        push_hex(text, &entry.md5);
        text.push_str(&format!("\",\n        \"offset\": {}\n      }}\n    }}", entry.offset));
        self.count += 1;
        self.document.flow().await
    }

    /// Completes the text and publishes the file, right after `last_check` has passed.
    pub async fn finish(
        mut self,
        parent_id: Option<&str>,
        volume_meta: Option<&str>,
        last_check: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let text = &mut self.document.text;
        text.push_str(if self.count == 0 { "]" } else { "\n  ]" });
        text.push_str(",\n  \"parent_id\": ");
        python::push_opt(text, parent_id);
        text.push_str(&format!(",\n  \"version\": \"{DRIVER_VERSION}\",\n  \"volume_id\": "));
        python::push_str(text, &self.about.volume_id);
        text.push_str(",\n  \"volume_meta\": ");
        python::push_opt(text, volume_meta);
        text.push_str("\n}");
        last_check()?;
        self.document.finish().await
    }

    /// Gives the file up.
    pub async fn abort(self) -> Result<()> {
        self.document.abort().await
    }
}

/// What a metadata file says, apart from the objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetadataSummary {
    pub backup_id: String,
    pub volume_id: String,
    pub parent_id: Option<String>,
    /// The JSON text of the volume's own metadata.
    pub volume_meta: Option<String>,
    /// How many data objects there are.
    pub objects: u64,
    /// Bytes of uncompressed data in them.
    pub bytes: u64,
    /// The first byte of the volume behind the last object.
    pub end: u64,
    /// Whether the objects cover the volume from its start to `end`.
    pub gapless: bool,
}

/// Reads a whole metadata file and checks it; no object may reach beyond `limit` bytes.
pub(crate) async fn summarize(
    store: &dyn Store,
    container: &str,
    prefix: &str,
    limit: u64,
) -> Result<MetadataSummary> {
    let reading = MetadataReading { prefix: prefix.to_owned(), limit, batches: None };
    super::parse(store, container, &name::metadata(prefix), reading).await
}

/// Reads a metadata file, checks it again and sends its objects in order. Ends early without an error when nobody
/// receives.
pub(crate) async fn send(
    store: &dyn Store,
    container: &str,
    prefix: &str,
    limit: u64,
    objects: mpsc::Sender<ObjectEntry>,
) -> Result<()> {
    let closed = objects.clone();
    let reading = MetadataReading { prefix: prefix.to_owned(), limit, batches: Some(objects) };
    match super::parse(store, container, &name::metadata(prefix), reading).await {
        Err(_) if closed.is_closed() => Ok(()),
        other => other.map(drop),
    }
}

/// Compares what the store lists under `prefix` with the `objects` that the metadata file names.
///
/// # Errors
/// `Corrupt` with Cinder's text when they differ.
pub(crate) async fn check_listing(
    store: &dyn Store,
    container: &str,
    prefix: &str,
    objects: u64,
) -> Result<()> {
    let differs = |what: String| {
        Error::Corrupt(format!(
            "restore_backup aborted, actual object list does not match object list stored in metadata. ({what})"
        ))
    };
    let mut seen = vec![0_u64; objects.div_ceil(64) as usize]; // a bit each
    let mut count = 0;
    let mut listing = store.list(container, prefix).await?;
    while let Some(names) = listing.next().await? {
        for listed in names {
            match name::kind(prefix, &listed) {
                Kind::Metadata | Kind::Hashes => {}
                Kind::Data(number) if number <= objects => {
                    let word = &mut seen[((number - 1) / 64) as usize];
                    let bit = 1 << ((number - 1) % 64);
                    count += u64::from(*word & bit == 0);
                    *word |= bit;
                }
                Kind::Data(_) | Kind::Other => {
                    return Err(differs(format!("{listed} does not belong there")));
                }
            }
        }
    }
    if count != objects {
        return Err(differs(format!("{} of {objects} objects are missing", objects - count)));
    }
    Ok(())
}

struct MetadataReading {
    prefix: String,
    limit: u64,
    batches: Option<mpsc::Sender<ObjectEntry>>,
}

impl Reading for MetadataReading {
    type Output = MetadataSummary;

    fn read<R: Read>(
        self,
        json: &mut serde_json::Deserializer<serde_json::de::IoRead<R>>,
        budget: Budget,
    ) -> Result<MetadataSummary> {
        let found = Cell::new(None);
        let ledger =
            Ledger { prefix: &self.prefix, limit: self.limit, objects: 0, bytes: 0, end: 0, gapless: true };
        seed(MetadataFile { ledger, send: self.batches.as_ref(), budget, found: &found }, json, &found)
    }
}

/// Takes objects in, one after the other, and refuses the first that breaks a rule.
struct Ledger<'a> {
    prefix: &'a str,
    limit: u64,
    objects: u64,
    bytes: u64,
    end: u64,
    gapless: bool,
}

/// An object's fields as they stand in the file.
#[derive(Deserialize)]
struct RawEntry {
    compression: String,
    length: u64,
    md5: String,
    offset: u64,
}

impl Ledger<'_> {
    fn take(&mut self, name: &str, raw: &RawEntry) -> Result<ObjectEntry> {
        let number = self.objects + 1;
        let corrupt = |why: &str| Err(Error::Corrupt(format!("object {number}: {why}")));
        if number > MAX_OBJECTS {
            return corrupt("there are too many");
        }
        if name::kind(self.prefix, name) != Kind::Data(number) {
            return corrupt(&format!("is named {:?}", name.chars().take(200).collect::<String>()));
        }
        let Ok(compression) = raw.compression.parse::<Compression>() else {
            return corrupt("its compression is unknown");
        };
        let Some(md5) = from_hex(&raw.md5) else {
            return corrupt("its md5 is not one");
        };
        let end = raw.offset.checked_add(raw.length).filter(|end| *end <= self.limit);
        let Some(end) = end else {
            let text =
                format!("{} bytes at {} reach beyond the volume's {}", raw.length, raw.offset, self.limit);
            return corrupt(&text);
        };
        if raw.length == 0 || raw.offset < self.end {
            return corrupt("is empty or overlaps the one before");
        }
        self.gapless &= raw.offset == self.end;
        (self.objects, self.end, self.bytes) = (number, end, self.bytes + raw.length);
        let codec = compression.codec();
        Ok(ObjectEntry { number, offset: raw.offset, length: raw.length, codec, md5 })
    }
}

struct MetadataFile<'a> {
    ledger: Ledger<'a>,
    send: Option<&'a mpsc::Sender<ObjectEntry>>,
    budget: Budget,
    /// What the ledger refused: an error of this crate has no way through serde's.
    found: &'a Cell<Option<Error>>,
}

impl<'de> DeserializeSeed<'de> for MetadataFile<'_> {
    type Value = MetadataSummary;

    fn deserialize<D: serde::Deserializer<'de>>(self, json: D) -> Result<MetadataSummary, D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for MetadataFile<'_> {
    type Value = MetadataSummary;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a metadata file")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<MetadataSummary, A::Error> {
        let (mut backup_id, mut volume_id, mut objects) = (None, None, None);
        let (mut parent_id, mut volume_meta) = (None::<Option<String>>, None::<Option<String>>);
        let mut version: Option<String> = None;
        while let Some(key) = map.next_key::<String>()? {
            let twice = match key.as_str() {
                "backup_id" => backup_id.replace(map.next_value()?).is_some(),
                "volume_id" => volume_id.replace(map.next_value()?).is_some(),
                "parent_id" => parent_id.replace(map.next_value()?).is_some(),
                "volume_meta" => volume_meta.replace(map.next_value()?).is_some(),
                "version" => version.replace(map.next_value()?).is_some(),
                "objects" => objects.replace(map.next_value_seed(ObjectList(&mut self))?).is_some(),
                _ => map.next_value::<IgnoredAny>().map(|_| false)?,
            };
            if twice {
                return Err(A::Error::custom(format!("{key} stands there twice")));
            }
            self.budget.refill();
        }
        if version.as_deref() != Some(DRIVER_VERSION) {
            let version = version.unwrap_or_default();
            return Err(A::Error::custom(format!("No support to restore backup version {version}")));
        }
        objects.ok_or_else(|| A::Error::missing_field("objects"))?;
        Ok(MetadataSummary {
            backup_id: backup_id.ok_or_else(|| A::Error::missing_field("backup_id"))?,
            volume_id: volume_id.ok_or_else(|| A::Error::missing_field("volume_id"))?,
            parent_id: parent_id.ok_or_else(|| A::Error::missing_field("parent_id"))?,
            volume_meta: volume_meta.flatten(),
            objects: self.ledger.objects,
            bytes: self.ledger.bytes,
            end: self.ledger.end,
            gapless: self.ledger.gapless,
        })
    }
}

struct ObjectList<'a, 'b>(&'a mut MetadataFile<'b>);

impl<'de> DeserializeSeed<'de> for ObjectList<'_, '_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for ObjectList<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of objects")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let file = self.0;
        while let Some((name, raw)) = items.next_element_seed(OneObject)? {
            file.budget.refill();
            let entry = file.ledger.take(&name, &raw).map_err(|e| {
                file.found.set(Some(e));
                A::Error::custom("refused")
            })?;
            if let Some(send) = file.send {
                send.blocking_send(entry).map_err(|_| A::Error::custom("nobody reads"))?;
            }
        }
        Ok(())
    }
}

/// `{ name: fields }`, with exactly one name.
struct OneObject;

impl<'de> DeserializeSeed<'de> for OneObject {
    type Value = (String, RawEntry);

    fn deserialize<D: serde::Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for OneObject {
    type Value = (String, RawEntry);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with one name")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let one = map.next_entry()?.ok_or_else(|| A::Error::custom("an object without a name"))?;
        match map.next_key::<String>()? {
            None => Ok(one),
            Some(_) => Err(A::Error::custom("an object with two names")),
        }
    }
}
