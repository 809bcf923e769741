//! An image's data as it comes: of the promised length, with the promised digests, and not slower than the limit between two pieces.

use std::time::Duration;

use bytes::Bytes;
use reqwest::Response;

use super::{Image, away};
use crate::digest::Hasher;
use crate::{Error, Result};

const ACTION: &str = "send an image's data";

/// Data under way. Its end is its proof: until [`next`](Self::next) has answered `None`, the bytes may be anything.
#[derive(Debug)]
pub struct Download {
    response: Response,
    id: String,
    /// Bytes in all.
    length: u64,
    received: u64,
    digests: Vec<(String, Hasher, String)>,
    timeout: Duration,
}

impl Download {
    pub(super) fn new(response: Response, record: &Image, timeout: Duration) -> Result<Self> {
        let damaged = |what: &str| Error::Damaged { id: record.id.clone(), what: what.to_owned() };
        let length = record.size.ok_or_else(|| damaged("its record has no size"))?;
        let mut digests = Vec::new();
        if let (Some(name), Some(wanted)) = (&record.os_hash_algo, &record.os_hash_value) {
            match Hasher::named(name) {
                Some(hasher) => digests.push((name.clone(), hasher, wanted.to_ascii_lowercase())),
                None => {
                    tracing::warn!(
                        image = record.id,
                        algorithm = name,
                        "an image's digest is not known here"
                    );
                }
            }
        }
        // An image whose multihash is not known, or older than there were any.
        if let (true, Some(wanted)) = (digests.is_empty(), &record.checksum) {
            let hasher = Hasher::named("md5").expect("it is in the table");
            digests.push(("md5".into(), hasher, wanted.to_ascii_lowercase()));
        }
        Ok(Self { response, id: record.id.clone(), length, received: 0, digests, timeout })
    }

    /// The next piece; `None` when all of it came and is what was uploaded.
    ///
    /// # Errors
    /// [`Error::Away`] when the stream breaks or stalls, [`Error::Damaged`] when it is not the image.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        let piece = match tokio::time::timeout(self.timeout, self.response.chunk()).await {
            Ok(piece) => piece.map_err(|error| away(ACTION, &error))?,
            Err(_) => return Err(Error::Away { action: ACTION, text: "the stream has stalled".into() }),
        };
        let Some(piece) = piece else {
            self.prove()?;
            return Ok(None);
        };
        self.received += piece.len() as u64;
        if self.received > self.length {
            return Err(self.damaged(format!("there are more than its {} bytes", self.length)));
        }
        for (_, hasher, _) in &mut self.digests {
            hasher.update(&piece);
        }
        Ok(Some(piece))
    }

    fn prove(&mut self) -> Result<()> {
        if self.received < self.length {
            // A server that breaks off does not always say so.
            let text = format!("{} of {} bytes came", self.received, self.length);
            return Err(Error::Away { action: ACTION, text });
        }
        for (name, hasher, wanted) in self.digests.drain(..) {
            if hasher.finish() != wanted {
                return Err(Error::Damaged { id: self.id.clone(), what: format!("its {name} differs") });
            }
        }
        Ok(())
    }

    fn damaged(&self, what: String) -> Error {
        Error::Damaged { id: self.id.clone(), what }
    }
}
