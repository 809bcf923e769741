//! Writing and reading the control files as streams: their size grows with the volume's, memory must not.

use std::cell::Cell;
use std::io::{self, BufReader, Read};
use std::rc::Rc;

use bytes::{Buf, Bytes};
use serde::de::DeserializeSeed;
use tokio::sync::mpsc;

use crate::error::{Error, Result};
use crate::store::{Store, Upload};

/// The most bytes of text that one value between two list items may take: the volume's metadata is the largest.
pub(crate) const MAX_VALUE: u64 = 16 << 20;
/// Text gathered before it is given to the store, in bytes.
const BUFFER: usize = 256 << 10;

/// A control file being written.
#[derive(Debug)]
pub(crate) struct Document {
    upload: Box<dyn Upload>,
    /// Text not yet given to the store. Append to it, then call [`flow`](Self::flow).
    pub text: String,
}

impl Document {
    pub fn new(upload: Box<dyn Upload>) -> Self {
        Self { upload, text: String::with_capacity(BUFFER + 4096) }
    }

    /// Gives the text to the store if there is enough of it.
    pub async fn flow(&mut self) -> Result<()> {
        match self.text.len() >= BUFFER {
            true => self.drain().await,
            false => Ok(()),
        }
    }

    /// Publishes the file.
    pub async fn finish(mut self) -> Result<()> {
        self.drain().await?;
        self.upload.finish().await
    }

    /// Gives the file up.
    pub async fn abort(self) -> Result<()> {
        self.upload.abort().await
    }

    async fn drain(&mut self) -> Result<()> {
        let text = std::mem::replace(&mut self.text, String::with_capacity(BUFFER + 4096));
        self.upload.write(Bytes::from(text)).await
    }
}

/// Bytes that one value may still take; list visitors refill it at each item.
#[derive(Debug, Clone)]
pub(crate) struct Budget(Rc<Cell<u64>>);

impl Budget {
    pub fn refill(&self) {
        self.0.set(MAX_VALUE);
    }
}

/// A visitor of a JSON file: makes the seed that takes the file's one value in.
pub(crate) trait Reading: Send + 'static {
    /// What the file amounts to.
    type Output: Send + 'static;

    /// Reads the value. The seed's own findings are returned as errors of this crate.
    fn read<R: Read>(
        self,
        json: &mut serde_json::Deserializer<serde_json::de::IoRead<R>>,
        budget: Budget,
    ) -> Result<Self::Output>;
}

/// Reads the JSON file `name` as a stream through `reading`, which runs off the event loop.
pub(crate) async fn parse<T: Reading>(
    store: &dyn Store,
    container: &str,
    name: &str,
    reading: T,
) -> Result<T::Output> {
    let mut download = store.open(container, name).await?;
    let (pieces, receive) = mpsc::channel(2);
    let parsing = tokio::task::spawn_blocking(move || {
        let budget = Budget(Rc::new(Cell::new(MAX_VALUE)));
        let source = Limited { pieces: receive, piece: Bytes::new(), budget: budget.clone() };
        let mut json = serde_json::Deserializer::from_reader(BufReader::new(source));
        let output = reading.read(&mut json, budget)?;
        json.end().map(|()| output).map_err(|e| Error::Corrupt(e.to_string()))
    });
    let mut failure = None;
    loop {
        match download.next().await {
            Ok(Some(piece)) => {
                if pieces.send(piece).await.is_err() {
                    break; // the parser has stopped and says why
                }
            }
            Ok(None) => break,
            Err(e) => {
                failure = Some(e);
                break;
            }
        }
    }
    drop(pieces);
    match (failure, crate::run::joined(parsing).await) {
        (Some(e), _) => Err(e),
        (None, Err(Error::Corrupt(why))) => Err(Error::Corrupt(format!("{name} is unusable: {why}"))),
        (None, output) => output,
    }
}

/// Runs a seed whose visitor may leave an error of this crate in `found`.
pub(crate) fn seed<'de, S, D>(seed: S, json: D, found: &Cell<Option<Error>>) -> Result<S::Value>
where
    S: DeserializeSeed<'de>,
    D: serde::Deserializer<'de>,
{
    seed.deserialize(json).map_err(|e| found.take().unwrap_or_else(|| Error::Corrupt(e.to_string())))
}

/// The pieces of a download as a blocking reader, within a budget.
struct Limited {
    pieces: mpsc::Receiver<Bytes>,
    piece: Bytes,
    budget: Budget,
}

impl Read for Limited {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.piece.is_empty() {
            match self.pieces.blocking_recv() {
                Some(piece) => self.piece = piece,
                None => return Ok(0),
            }
        }
        let length = out.len().min(self.piece.len());
        let left = self.budget.0.get().checked_sub(length as u64);
        let Some(left) = left else {
            return Err(io::Error::other(format!("a value of more than {MAX_VALUE} bytes")));
        };
        self.budget.0.set(left);
        self.piece.copy_to_slice(&mut out[..length]);
        Ok(length)
    }
}
