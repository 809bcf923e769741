//! Restoring a backup: its base, then every incremental up to it.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use model::BackupId;
use model::block::Device;
use model::job::Claim;
use tokio::sync::mpsc;

use crate::compression::Unpacker;
use crate::error::{Error, Result};
use crate::format::metadata::{self, MetadataSummary, ObjectEntry};
use crate::format::name;
use crate::run::{Md5Stage, PIECE, Piece, Run, is_zero, joined};
use crate::store::{SharedStore, Store, check_container, check_object};

/// Objects in work at once.
const CONCURRENCY: usize = 4;
/// Objects up to this many bytes are checked before any of them is written; longer ones while they are.
const CHECKED_FIRST: u64 = 4 << 20;
/// Bytes written before the volume is flushed: bounds what a crash of the machine makes to be done again, and memory.
const FLUSH_AFTER: u64 = 64 << 20;
/// The granularity at which zeros are told from data, in bytes.
const GRAIN: usize = 64 << 10;
/// The longest chain that is followed.
pub const MAX_CHAIN: usize = 4096;

/// One backup of a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Level {
    pub backup: BackupId,
    pub container: String,
    /// Its `service_metadata`.
    pub prefix: String,
}

/// What the volume holds before the restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetState {
    /// Zeros, everywhere: it was made for this.
    New,
    /// Anything.
    Used,
}

/// A restore to do.
#[derive(Debug, Clone)]
pub struct Restore {
    pub store: SharedStore,
    /// The full backup first, then the incrementals in order; the last is the one to restore.
    pub chain: Vec<Level>,
    pub target: Device,
    pub state: TargetState,
}

/// A restore that was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// The volume's metadata of every level, base first: JSON text
    /// ([`VolumeMeta`](crate::format::volume_meta::VolumeMeta)), to be applied in this order.
    pub volume_meta: Vec<Option<String>>,
    /// Bytes of backups applied.
    pub bytes: u64,
}

/// Restores a backup; on return the volume is flushed. Progress counts bytes of all levels.
///
/// The metadata of the whole chain, and that the store holds exactly the objects it names, is checked before the first
/// byte is written; every object's length and MD5 are checked before it is written, or while for long ones. May be
/// repeated after a crash: it starts over.
///
/// # Errors
/// `NotFound` and `Corrupt` for a chain that cannot be restored, also one that reaches beyond the volume; `NoSpace`;
/// `Stopped`; `Device`; `Store`. [`Error::Partial`] around any of them says that the volume has been written to.
pub async fn restore(request: Restore, claim: &Claim) -> Result<Restored> {
    claim.set_done(0);
    claim.check()?;
    let summaries = check_chain(&request).await?;
    let total = summaries.iter().map(|summary| summary.bytes).sum();
    claim.set_total(total);
    let run = Run::new(claim);
    let written = AtomicU64::new(0);
    for (index, level) in request.chain.iter().enumerate() {
        let unwritten = index == 0 && request.state == TargetState::New;
        let writer = Writer {
            run: &run,
            store: request.store.as_ref(),
            level,
            target: &request.target,
            unwritten,
            written: &written,
            dirty: AtomicU64::new(0),
        };
        if let Err(cause) = writer.apply().await {
            let written = written.load(Ordering::Relaxed);
            return Err(match written {
                0 => cause,
                _ => Error::Partial { written, total, cause: Box::new(cause) },
            });
        }
    }
    Ok(Restored { volume_meta: summaries.into_iter().map(|s| s.volume_meta).collect(), bytes: total })
}

/// Reads and checks all metadata of the chain, and that the levels belong together.
async fn check_chain(request: &Restore) -> Result<Vec<MetadataSummary>> {
    if request.chain.is_empty() || request.chain.len() > MAX_CHAIN {
        return Err(Error::Invalid(format!("a chain of {} backups", request.chain.len())));
    }
    let (store, size) = (request.store.as_ref(), request.target.size());
    let mut summaries: Vec<MetadataSummary> = Vec::with_capacity(request.chain.len());
    for (index, level) in request.chain.iter().enumerate() {
        let corrupt = |why: String| Err(Error::Corrupt(format!("backup {}: {why}", level.backup)));
        check_container(&level.container)?;
        check_object(&level.prefix)?;
        let summary = metadata::summarize(store, &level.container, &level.prefix, size).await?;
        if summary.backup_id != level.backup.to_string() {
            return corrupt(format!("its metadata is that of backup {}", summary.backup_id));
        }
        let parent = index.checked_sub(1).map(|before| request.chain[before].backup.to_string());
        if summary.parent_id != parent {
            let (told, found) = (parent.as_deref().unwrap_or("none"), summary.parent_id.as_deref());
            return corrupt(format!("its parent is {}, not {told}", found.unwrap_or("none")));
        }
        if index == 0 && !(summary.gapless && summary.objects > 0) {
            return corrupt("a full backup with gaps".into());
        }
        metadata::check_listing(store, &level.container, &level.prefix, summary.objects).await?;
        summaries.push(summary);
    }
    Ok(summaries)
}

/// Applies one level.
struct Writer<'a> {
    run: &'a Run,
    store: &'a dyn Store,
    level: &'a Level,
    target: &'a Device,
    /// Where nothing was written yet, zeros need not be.
    unwritten: bool,
    /// Bytes written or zeroed in this restore.
    written: &'a AtomicU64,
    /// Bytes written since the last flush.
    dirty: AtomicU64,
}

impl Writer<'_> {
    async fn apply(&self) -> Result<()> {
        let (objects, take_objects) = mpsc::channel(4);
        let (results, mut take_results) = mpsc::channel(1);
        let Level { container, prefix, .. } = self.level;
        let reading = async {
            let sent = metadata::send(self.store, container, prefix, self.target.size(), objects).await;
            sent.unwrap_or_else(|e| self.run.fail(e));
        };
        let writing = self.run.in_order(take_objects, CONCURRENCY, |object| self.object(object), results);
        let finishing = async { while take_results.recv().await.is_some() {} };
        tokio::join!(reading, writing, finishing);
        self.run.outcome()?;
        self.flush(0).await
    }

    async fn object(&self, entry: ObjectEntry) -> Result<()> {
        self.run.check()?;
        let Level { container, prefix, .. } = self.level;
        let source = Source { run: self.run, store: self.store, container, prefix };
        let (pieces, take) = mpsc::channel(2);
        let (unpacked, written) = tokio::join!(source.unpack(&entry, pieces), self.write(&entry, take));
        unpacked?;
        match written? == entry.md5 {
            true => Ok(()),
            false => Err(damaged(prefix, &entry, "its MD5 is not the one in the metadata")),
        }
    }

    /// Writes an object's data as it comes; answers its MD5. A short object is written only if that is right.
    async fn write(&self, entry: &ObjectEntry, mut pieces: mpsc::Receiver<Bytes>) -> Result<[u8; 16]> {
        let (mut md5, mut at) = (Md5Stage::new(), entry.offset);
        let mut held = Vec::new();
        while let Some(piece) = pieces.recv().await {
            let hashing = md5.update(self.run, Piece::Data(piece.clone()));
            if entry.length <= CHECKED_FIRST {
                hashing.await;
                held.push(piece);
                continue;
            }
            let ((), written) = tokio::join!(hashing, self.piece(at, &piece));
            written?;
            at += piece.len() as u64;
        }
        let md5 = md5.finish();
        let length: u64 = held.iter().map(|piece| piece.len() as u64).sum();
        if md5 == entry.md5 && length == entry.length {
            for piece in held {
                self.piece(at, &piece).await?;
                at += piece.len() as u64;
            }
        }
        Ok(md5)
    }

    /// Writes `data` at `at`, zeros as zeros.
    async fn piece(&self, mut at: u64, data: &[u8]) -> Result<()> {
        for run in cut_at_zeros(data) {
            // The last moment before the volume changes: a stopped process must not go on from here (I4).
            self.run.check()?;
            let length = run.len() as u64;
            if is_zero(run) {
                if !self.unwritten {
                    let zeroed = self.target.write_zeroes(at, length).await;
                    zeroed.map_err(|e| Error::device("zero", at, e))?;
                    self.written.fetch_add(length, Ordering::Relaxed);
                }
            } else {
                self.target.write(at, run).await.map_err(|e| Error::device("write", at, e))?;
                self.written.fetch_add(length, Ordering::Relaxed);
                self.dirty.fetch_add(length, Ordering::Relaxed);
            }
            at += length;
        }
        self.run.claim.add_done(data.len() as u64);
        self.flush(FLUSH_AFTER).await
    }

    /// Flushes the volume if `threshold` bytes or more were written since the last time.
    async fn flush(&self, threshold: u64) -> Result<()> {
        let dirty = self.dirty.load(Ordering::Relaxed);
        if dirty < threshold {
            return Ok(());
        }
        self.dirty.store(0, Ordering::Relaxed);
        self.target.flush().await.map_err(|e| Error::device("flush", 0, e))
    }
}

/// Cuts data where zeros and other bytes meet, at multiples of [`GRAIN`].
fn cut_at_zeros(mut data: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let mut grains = data.chunks(GRAIN);
        let first = grains.next()?;
        let zero = is_zero(first);
        let more: usize = grains.take_while(|grain| is_zero(grain) == zero).map(<[u8]>::len).sum();
        let (run, rest) = data.split_at(first.len() + more);
        data = rest;
        Some(run)
    })
}

/// Where objects are read from.
pub(crate) struct Source<'a> {
    pub run: &'a Run,
    pub store: &'a dyn Store,
    pub container: &'a str,
    pub prefix: &'a str,
}

impl Source<'_> {
    /// Sends an object's uncompressed data in pieces: exactly as much as its entry says, or an error. Ends early without
    /// an error when nobody receives.
    pub async fn unpack(&self, entry: &ObjectEntry, pieces: mpsc::Sender<Bytes>) -> Result<()> {
        let name = name::data(self.prefix, entry.number);
        let mut download = self.store.open(self.container, &name).await?;
        let (packed, take) = mpsc::channel(2);
        let (codec, length) = (entry.codec, entry.length);
        let work = tokio::task::spawn_blocking(move || unpack(Unpacker::new(codec)?, take, &pieces, length));
        let mut failure = None;
        loop {
            let next = match self.run.check() {
                Ok(()) => download.next().await,
                Err(e) => Err(e),
            };
            match next {
                Ok(Some(data)) => {
                    if packed.send(data).await.is_err() {
                        break; // the unpacker has stopped and says why
                    }
                }
                Ok(None) => break,
                Err(e) => {
                    failure = Some(e);
                    break;
                }
            }
        }
        drop(packed);
        let unpacked = joined(work).await;
        match (failure, unpacked) {
            (Some(e), _) => Err(e),
            (None, Err(Error::Corrupt(why))) => Err(damaged(self.prefix, entry, &why)),
            (None, other) => other,
        }
    }
}

/// An object that cannot be used.
pub(crate) fn damaged(prefix: &str, entry: &ObjectEntry, why: &str) -> Error {
    Error::Corrupt(format!("{} is damaged: {why}", name::data(prefix, entry.number)))
}

/// Unpacks what comes into pieces of [`PIECE`] bytes, `length` bytes in all.
fn unpack(
    mut unpacker: Unpacker,
    mut packed: mpsc::Receiver<Bytes>,
    pieces: &mpsc::Sender<Bytes>,
    length: u64,
) -> Result<()> {
    let mut left = length;
    let mut room = new_room(left);
    let mut filled = 0;
    while let Some(data) = packed.blocking_recv() {
        let mut input = &data[..];
        loop {
            let (taken, made) = unpacker.step(input, &mut room[filled..])?;
            (input, filled) = (&input[taken..], filled + made);
            if filled as u64 > left {
                return Err(Error::Corrupt(format!("it holds more than {length} bytes")));
            }
            if filled as u64 == PIECE {
                left -= PIECE;
                let piece = std::mem::replace(&mut room, new_room(left));
                filled = 0;
                if pieces.blocking_send(piece.into()).is_err() {
                    return Ok(());
                }
            } else if (taken, made) == (0, 0) {
                break;
            }
        }
    }
    if filled as u64 != left || !unpacker.is_complete() {
        return Err(Error::Corrupt(format!("it holds less than {length} bytes")));
    }
    room.truncate(filled);
    if filled > 0 {
        let _ = pieces.blocking_send(room.into()); // who does not receive does not need it
    }
    Ok(())
}

/// Room for the next piece, and one byte more than there should be, so that too much is noticed.
fn new_room(left: u64) -> Vec<u8> {
    vec![0; PIECE.min(left + 1) as usize]
}
