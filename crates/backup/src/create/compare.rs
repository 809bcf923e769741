//! Finding what changed since the parent: block hashes compared by position (reference: backup.md 2).

use std::ops::Range;

use tokio::sync::mpsc;

use super::object::{Hashed, Span};
use super::{CreateBackup, ParentRef};
use crate::config::PipelineConfig;
use crate::error::{Error, ErrorKind, Result};
use crate::format::hashes::{self, Hash, HashStream, HashWriter};
use crate::format::metadata::MAX_OBJECTS;
use crate::run::Run;

/// Checks that `parent` can be built on: its hash file is whole, of this volume's blocks, and not for less.
pub(super) async fn check_parent(request: &CreateBackup, parent: &ParentRef) -> Result<()> {
    let mismatch = |why: String| Error::ParentMismatch(format!("{why} Do a full backup."));
    let store = request.store.as_ref();
    let summary = match hashes::summarize(store, &parent.container, &parent.prefix).await {
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::Corrupt) => {
            return Err(mismatch(format!("The parent backup {} cannot be used: {e}.", parent.backup)));
        }
        other => other?,
    };
    let (new, old) = (request.config.block_size, summary.block_size);
    if old != new {
        return Err(mismatch(format!(
            "Hash block size has changed since the last backup. New hash block size: {new}. Old hash block size: {old}."
        )));
    }
    if summary.count < request.size.div_ceil(new) {
        return Err(mismatch("Volume size increased since the last backup.".into()));
    }
    if summary.backup_id != parent.backup.to_string() {
        return Err(mismatch(format!(
            "The parent backup {} cannot be used: its hash file is that of backup {}.",
            parent.backup, summary.backup_id
        )));
    }
    Ok(())
}

/// Turns hashes into spans of changed blocks.
pub(super) struct Comparison<'a> {
    run: &'a Run,
    block_size: u64,
    chunk_size: u64,
    old: HashStream,
    spans: mpsc::Sender<Span>,
    /// The number of the next span.
    number: u64,
    /// Changed blocks in a row, and their new hashes.
    changed: Option<(Range<u64>, Vec<Hash>)>,
}

impl<'a> Comparison<'a> {
    pub fn new(run: &'a Run, config: &PipelineConfig, old: HashStream, spans: mpsc::Sender<Span>) -> Self {
        let (block_size, chunk_size) = (config.block_size, config.chunk_size);
        Self { run, block_size, chunk_size, old, spans, number: 1, changed: None }
    }

    /// Compares new hashes, which come in order, with the parent's; false when the parent's end early.
    pub async fn compare(mut self, mut hashed: mpsc::Receiver<Hashed>, file: &mut HashWriter) -> bool {
        while let Some(Hashed { stretch, hashes }) = hashed.recv().await {
            if let Err(error) = file.push(hashes.iter().copied()).await {
                self.run.fail(error);
                return true;
            }
            let mut start = stretch.start;
            for hash in hashes {
                let end = (start + self.block_size).min(stretch.end);
                let Some(old) = self.old.next().await else { return false };
                if !self.block(start..end, hash, old).await {
                    return true;
                }
                start = end;
            }
        }
        self.flush().await;
        true
    }

    /// Takes the next block in; false when nobody wants more spans.
    async fn block(&mut self, block: Range<u64>, new: Hash, old: Hash) -> bool {
        // An object never spans chunks.
        if block.start.is_multiple_of(self.chunk_size) && !self.flush().await {
            return false;
        }
        if new == old {
            return self.flush().await;
        }
        match &mut self.changed {
            Some((stretch, hashes)) => {
                stretch.end = block.end;
                hashes.push(new);
            }
            None => self.changed = Some((block, vec![new])),
        }
        true
    }

    /// Sends the changed blocks on; false when nobody wants them.
    async fn flush(&mut self) -> bool {
        let Some((stretch, hashes)) = self.changed.take() else { return true };
        if self.number > MAX_OBJECTS {
            self.run
                .fail(Error::Invalid(format!("more than {MAX_OBJECTS} changed places. Do a full backup.")));
            return false;
        }
        let span = Span { number: self.number, stretch, hashes: Some(hashes) };
        self.number += 1;
        self.spans.send(span).await.is_ok()
    }
}
