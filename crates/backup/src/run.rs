//! What the parts of one run share: the claim, the first failure, the cores, and bounded work in order.
//!
//! A run is a handful of futures joined in one task and linked by bounded channels. When one part fails it leaves the
//! failure here; every other part sees it at its next check and ends, and the run answers with that first failure after
//! all of them have ended, so that nothing of it still moves when the caller hears of it.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesOrdered;
use md5::{Digest, Md5};
use model::block::{Device, ExtentKind};
use model::job::{Claim, Stop};
use sha2::Sha256;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::error::{Error, Result};
use crate::format::hashes::Hash;
use crate::store::ZEROES;

/// The size in which volumes are read and written, in bytes.
pub(crate) const PIECE: u64 = 1 << 20;
/// The most zeros that are handed on as one piece: a stop is noticed in between.
const ZERO_PIECE: u64 = 64 << 20;
/// Holes shorter than this are read like data: asking about them costs more.
const SMALL_HOLE: u64 = 64 << 10;

/// One run of a backup, restore or check.
#[derive(Debug)]
pub(crate) struct Run {
    pub claim: Claim,
    cores: Arc<Semaphore>,
    failed: AtomicBool,
    failure: Mutex<Option<Error>>,
}

impl Run {
    pub fn new(claim: &Claim) -> Self {
        Self {
            claim: claim.clone(),
            cores: Arc::new(Semaphore::new(core_count())),
            failed: AtomicBool::new(false),
            failure: Mutex::new(None),
        }
    }

    /// Whether this run may go on.
    pub fn check(&self) -> Result<()> {
        if self.failed.load(Ordering::Relaxed) {
            return Err(Stop::Cancelled.into()); // `fail` has the true reason already
        }
        Ok(self.claim.check()?)
    }

    /// Ends the run; the first reason given is the one that counts.
    pub fn fail(&self, error: Error) {
        let mut failure = self.failure.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        failure.get_or_insert(error);
        self.failed.store(true, Ordering::Relaxed);
    }

    /// Why the run ended early, if it did.
    pub fn outcome(&self) -> Result<()> {
        let mut failure = self.failure.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        failure.take().map_or(Ok(()), Err)
    }

    /// A core to compute on. Whoever waits for one must be polled until it has spawned its work.
    pub async fn core(&self) -> OwnedSemaphorePermit {
        Arc::clone(&self.cores).acquire_owned().await.expect("nobody closes it")
    }

    /// Computes off the event loop, on one of the cores.
    pub async fn compute<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let core = self.core().await;
        joined(tokio::task::spawn_blocking(move || {
            let _core = core;
            work()
        }))
        .await
    }

    /// Works on `jobs` as they come, at most `limit` at once, and sends the results on in the jobs' order. On a failure
    /// takes no more jobs and ends when all that have begun have ended.
    pub async fn in_order<J, T, F: Future<Output = Result<T>>>(
        &self,
        mut jobs: mpsc::Receiver<J>,
        limit: usize,
        work: impl Fn(J) -> F,
        results: mpsc::Sender<T>,
    ) {
        let mut active = FuturesOrdered::new();
        let mut ready = VecDeque::new();
        let mut open = true;
        loop {
            // What has begun is polled all the time, also while nobody takes results: it may have been given a core
            // that others wait for.
            tokio::select! {
                job = jobs.recv(), if open && active.len() + ready.len() < limit => match job {
                    Some(job) if !self.failed.load(Ordering::Relaxed) => {
                        let work = work(job);
                        active.push_back(async move { work.await.map_err(|e| self.fail(e)).ok() });
                    }
                    _ => {
                        open = false;
                        jobs.close();
                    }
                },
                Some(result) = active.next(), if !active.is_empty() => match result {
                    Some(result) => ready.push_back(result),
                    None => {
                        open = false;
                        jobs.close();
                    }
                },
                place = results.reserve(), if !ready.is_empty() => match (place, ready.pop_front()) {
                    (Ok(place), Some(result)) => place.send(result),
                    _ => {
                        open = false;
                        jobs.close();
                        ready.clear();
                    }
                },
                else => return,
            }
        }
    }

    /// Reads a stretch of a volume in pieces. Ends early without an error when nobody receives.
    pub async fn read_pieces(
        &self,
        device: &Device,
        stretch: std::ops::Range<u64>,
        pieces: mpsc::Sender<Piece>,
    ) -> Result<()> {
        let mut scan = Scan { device, at: stretch.start, end: stretch.end, known: None };
        while scan.at < scan.end {
            self.check()?;
            let piece = scan.next().await?;
            if pieces.send(piece).await.is_err() {
                break;
            }
        }
        Ok(())
    }
}

/// How many cores there are to compute on.
pub(crate) fn core_count() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Waits for blocking work and passes its panic on.
pub(crate) async fn joined<T>(work: tokio::task::JoinHandle<T>) -> T {
    match work.await.map_err(tokio::task::JoinError::try_into_panic) {
        Ok(value) => value,
        Err(Ok(panic)) => std::panic::resume_unwind(panic),
        Err(Err(_)) => std::future::pending().await, // the runtime is going down, and with it whoever waits here
    }
}

/// Bytes of a volume.
#[derive(Debug, Clone)]
pub(crate) enum Piece {
    Data(Bytes),
    Zeroes(u64),
}

impl Piece {
    pub fn len(&self) -> u64 {
        match self {
            Self::Data(data) => data.len() as u64,
            Self::Zeroes(length) => *length,
        }
    }

    /// The bytes, in runs of bounded size.
    pub fn runs(&self) -> impl Iterator<Item = Bytes> {
        let (data, mut zeroes) = match self {
            Self::Data(data) => (Some(data.clone()), 0),
            Self::Zeroes(length) => (None, *length),
        };
        data.into_iter().chain(std::iter::from_fn(move || {
            let run = zeroes.min(ZEROES.len() as u64);
            zeroes -= run;
            (run > 0).then(|| ZEROES.slice(..run as usize))
        }))
    }
}

/// Whether all of `data` is zero.
pub(crate) fn is_zero(data: &[u8]) -> bool {
    data.chunks(ZEROES.len()).all(|run| run == &ZEROES[..run.len()])
}

/// A volume being read in pieces.
struct Scan<'a> {
    device: &'a Device,
    at: u64,
    end: u64,
    /// The extent last asked about, and its end. Asked once for each extent: some file systems look through all of
    /// it to answer.
    known: Option<(ExtentKind, u64)>,
}

impl Scan<'_> {
    /// The next bytes: a piece of data, or a longer piece of zeros.
    async fn next(&mut self) -> Result<Piece> {
        let (at, left) = (self.at, self.end - self.at);
        let (kind, end) = match self.known {
            Some((kind, end)) if end > at => (kind, end),
            _ => extent(self.device, at, left).await?,
        };
        self.known = Some((kind, end));
        let length = (end - at).min(left);
        if kind != ExtentKind::Data && (length == left || length >= SMALL_HOLE) {
            let length = length.min(ZERO_PIECE);
            self.at += length;
            return Ok(Piece::Zeroes(length));
        }
        let length = length.clamp(SMALL_HOLE, PIECE).min(left);
        let mut buffer = vec![0; length as usize];
        self.device.read(at, &mut buffer).await.map_err(|e| Error::device("read", at, e))?;
        self.at += length;
        Ok(match is_zero(&buffer) {
            true => Piece::Zeroes(length),
            false => Piece::Data(buffer.into()),
        })
    }
}

/// What the device holds from `at`, and up to where.
pub(crate) async fn extent(device: &Device, at: u64, length: u64) -> Result<(ExtentKind, u64)> {
    let extent = device.block_status(at, length).await.map_err(|e| Error::device("map", at, e))?;
    match extent.length {
        0 => Err(Error::device("map", at, std::io::Error::other("the device reports an empty extent"))),
        length => Ok((extent.kind, at.saturating_add(length))),
    }
}

/// Whether a stretch is known to read as zeros without reading it.
pub(crate) async fn is_hole(device: &Device, mut stretch: std::ops::Range<u64>) -> Result<bool> {
    while stretch.start < stretch.end {
        match extent(device, stretch.start, stretch.end - stretch.start).await? {
            (ExtentKind::Data, _) => return Ok(false),
            (_, end) => stretch.start = end,
        }
    }
    Ok(true)
}

/// The MD5 of data that comes in pieces.
#[derive(Debug)]
pub(crate) struct Md5Stage(Option<Md5>);

impl Md5Stage {
    pub fn new() -> Self {
        Self(Some(Md5::new()))
    }

    pub async fn update(&mut self, run: &Run, piece: Piece) {
        let mut state = self.0.take().unwrap_or_default();
        let work = move || {
            piece.runs().for_each(|run| state.update(&run));
            state
        };
        self.0 = Some(run.compute(work).await);
    }

    pub fn finish(self) -> [u8; 16] {
        self.0.unwrap_or_default().finalize().into()
    }
}

/// The SHA-256 of every block of data that comes in pieces.
#[derive(Debug)]
pub(crate) struct HashStage(Option<BlockHasher>);

impl HashStage {
    pub fn new(block_size: u64, zero: Hash) -> Self {
        Self(Some(BlockHasher { block_size, zero, filled: 0, state: Sha256::new(), hashes: Vec::new() }))
    }

    pub async fn update(&mut self, run: &Run, piece: Piece) {
        let Some(mut hasher) = self.0.take() else { return }; // only after a panic, which is passed on
        self.0 = Some(
            run.compute(move || {
                hasher.update(&piece);
                hasher
            })
            .await,
        );
    }

    /// The hashes; a last short block is hashed as it is.
    pub fn finish(self) -> Vec<Hash> {
        self.0.map_or_else(Vec::new, BlockHasher::finish)
    }
}

#[derive(Debug)]
struct BlockHasher {
    block_size: u64,
    /// The hash of a block of zeros.
    zero: Hash,
    /// Bytes of the current block in `state`.
    filled: u64,
    state: Sha256,
    hashes: Vec<Hash>,
}

impl BlockHasher {
    fn update(&mut self, piece: &Piece) {
        match piece {
            Piece::Data(data) => self.data(data),
            Piece::Zeroes(length) => {
                let head = if self.filled == 0 { 0 } else { (self.block_size - self.filled).min(*length) };
                Piece::Zeroes(head).runs().for_each(|run| self.data(&run));
                let whole = (length - head) / self.block_size;
                self.hashes.extend(std::iter::repeat_n(self.zero, whole as usize));
                let tail = length - head - whole * self.block_size;
                Piece::Zeroes(tail).runs().for_each(|run| self.data(&run));
            }
        }
    }

    fn data(&mut self, mut data: &[u8]) {
        while !data.is_empty() {
            let room = (self.block_size - self.filled).min(data.len() as u64);
            let (now, later) = data.split_at(room as usize);
            data = later;
            if room == self.block_size && is_zero(now) {
                self.hashes.push(self.zero);
                continue;
            }
            self.state.update(now);
            self.filled += room;
            if self.filled == self.block_size {
                self.hashes.push(self.state.finalize_reset().into());
                self.filled = 0;
            }
        }
    }

    fn finish(mut self) -> Vec<Hash> {
        if self.filled > 0 {
            self.hashes.push(self.state.finalize().into());
        }
        self.hashes
    }
}

/// The hash of a block of `block_size` zeros.
pub(crate) fn zero_hash(block_size: u64) -> Hash {
    let mut state = Sha256::new();
    Piece::Zeroes(block_size).runs().for_each(|run| state.update(&run));
    state.finalize().into()
}

/// Work that was begun in order and is taken out in order.
#[derive(Debug)]
pub(crate) struct Pending<T>(VecDeque<Slot<T>>);

#[derive(Debug)]
enum Slot<T> {
    Running(tokio::task::JoinHandle<T>),
    Ready(T),
}

impl<T: Send + 'static> Pending<T> {
    pub fn new() -> Self {
        Self(VecDeque::new())
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Begins `work` as soon as a core is free.
    pub async fn begin(&mut self, run: &Run, work: impl FnOnce() -> T + Send + 'static) {
        let core = run.core().await;
        self.0.push_back(Slot::Running(tokio::task::spawn_blocking(move || {
            let _core = core;
            work()
        })));
    }

    /// Appends a result that is known already.
    pub fn ready(&mut self, value: T) {
        self.0.push_back(Slot::Ready(value));
    }

    /// The oldest result.
    pub async fn next(&mut self) -> Option<T> {
        match self.0.pop_front()? {
            Slot::Running(work) => Some(joined(work).await),
            Slot::Ready(value) => Some(value),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn hashes_do_not_depend_on_how_data_is_cut(
            data in proptest::collection::vec((0_u8..2, 1_usize..40), 0..30), block_size in 1_u64..64, cut in 1_usize..70,
        ) {
            let data: Vec<u8> = data.into_iter().flat_map(|(byte, length)| vec![byte; length]).collect();
            let expected: Vec<Hash> = data.chunks(block_size as usize).map(|b| Sha256::digest(b).into()).collect();
            let zero = zero_hash(block_size);
            let mut hasher = BlockHasher { block_size, zero, filled: 0, state: Sha256::new(), hashes: Vec::new() };
            for part in data.chunks(cut) {
                hasher.update(&match is_zero(part) {
                    true => Piece::Zeroes(part.len() as u64),
                    false => Piece::Data(part.to_vec().into()),
                });
            }
            prop_assert_eq!(hasher.finish(), expected);
        }
    }
}
