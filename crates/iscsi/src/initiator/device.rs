//! A remote LUN as a block device.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::{self, StreamExt, TryStreamExt};
use model::block::check_range;
use model::{BlockDevice, Extent, ExtentKind};
use tokio::sync::{mpsc, oneshot};

use super::engine::Engine;
use super::link::{Command, Reply};
use super::{InitiatorConfig, InitiatorError, scsi};
use crate::scsi::sense::{Sense, key, status};

/// The most bytes of one command.
const TRANSFER_MAX: u32 = 1 << 20;
/// Commands of one request in flight.
const PARALLEL: usize = 8;
/// How often a command is repeated because of unit attentions.
const ATTENTIONS_MAX: usize = 16;
/// How often, and after which pause, a command is repeated because the target is busy.
const BUSY_MAX: u32 = 50;
const BUSY_PAUSE: Duration = Duration::from_millis(100);
/// Blocks of one WRITE SAME where the target sets no limit.
const WRITE_SAME_DEFAULT: u64 = 1 << 16;

/// What the target told of the unit when it was opened.
#[derive(Debug, Clone)]
struct Facts {
    block_size: u32,
    physical: u32,
    /// Bytes of one transfer.
    transfer: u32,
    /// UNMAP works, gives zeros, and takes so many blocks at a time.
    unmap: Option<u32>,
    /// WRITE SAME takes so many blocks at a time, and may give them back.
    write_same: u64,
    write_same_unmaps: bool,
    /// What is not provisioned reads as zeros.
    reads_zeros: bool,
    protected: bool,
}

/// A LUN on a target, opened. When it is dropped its session is logged out.
pub struct RemoteLun {
    requests: mpsc::Sender<Command>,
    facts: Facts,
    name: String,
    read_only: bool,
    size: AtomicU64,
    /// Writes that were answered, and how many of them a flush has covered.
    written: AtomicU64,
    flushed: AtomicU64,
    /// The target has lost its cache with writes in it.
    lost: AtomicBool,
    /// WRITE SAME or GET LBA STATUS turned out not to exist.
    no_write_same: AtomicBool,
    no_lba_status: AtomicBool,
    /// Writes that do not fill blocks, one at a time.
    partial: tokio::sync::Mutex<()>,
    /// Ends with the engine.
    ended: tokio::sync::Mutex<Option<oneshot::Receiver<()>>>,
}

impl fmt::Debug for RemoteLun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteLun")
            .field("name", &self.name)
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
enum CommandError {
    #[error("{0}")]
    Sense(Sense),
    #[error("SCSI status {0:#04x}")]
    Status(u8),
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl From<CommandError> for io::Error {
    fn from(error: CommandError) -> Self {
        let kind = match &error {
            CommandError::Sense(sense) => match (sense.key, sense.asc, sense.ascq) {
                (key::ILLEGAL_REQUEST, 0x21, _) => io::ErrorKind::InvalidInput,
                (key::ILLEGAL_REQUEST, 0x20, _) => io::ErrorKind::Unsupported,
                (key::ILLEGAL_REQUEST, 0x25, _) => io::ErrorKind::NotFound,
                (key::DATA_PROTECT, 0x27, 0x07) => io::ErrorKind::StorageFull,
                (key::DATA_PROTECT, ..) => io::ErrorKind::ReadOnlyFilesystem,
                _ => io::ErrorKind::Other,
            },
            CommandError::Status(status::RESERVATION_CONFLICT) => io::ErrorKind::PermissionDenied,
            CommandError::Status(_) => io::ErrorKind::ResourceBusy,
            CommandError::Io(source) => source.kind(),
        };
        match error {
            CommandError::Io(source) => source,
            other => Self::new(kind, other),
        }
    }
}

impl RemoteLun {
    /// Logs in and opens the LUN. The first connection is tried once at each portal.
    ///
    /// # Errors
    /// The target cannot be reached or refuses us, or the LUN is not a disk.
    pub async fn connect(config: InitiatorConfig) -> Result<Arc<Self>, InitiatorError> {
        let isid = match config.isid {
            Some(isid) => isid,
            None => random_isid().map_err(InitiatorError::Lost)?,
        };
        let (requests, queue) = mpsc::channel(config.limits.queue_depth.max(1));
        let name = format!("{}/{}", config.target, config.lun);
        let (lun, read_only) = (config.lun, config.read_only);
        let engine = Engine::new(config, isid, queue);
        let link = engine.connect().await?;
        let (over, ended) = oneshot::channel();
        tokio::spawn(async move {
            engine.run(link).await;
            // The one who closes may not wait.
            let _ = over.send(());
        });
        let mut device = Self {
            requests,
            facts: Facts {
                block_size: 512,
                physical: 512,
                transfer: TRANSFER_MAX,
                unmap: None,
                write_same: WRITE_SAME_DEFAULT,
                write_same_unmaps: false,
                reads_zeros: false,
                protected: false,
            },
            name,
            read_only,
            size: AtomicU64::new(0),
            written: AtomicU64::new(0),
            flushed: AtomicU64::new(0),
            lost: AtomicBool::new(false),
            no_write_same: AtomicBool::new(false),
            no_lba_status: AtomicBool::new(false),
            partial: tokio::sync::Mutex::new(()),
            ended: tokio::sync::Mutex::new(Some(ended)),
        };
        device.examine().await.map_err(|e| InitiatorError::BadLun { lun, why: e.to_string() })?;
        Ok(Arc::new(device))
    }

    /// Asks the target for the size now. Growth is also noticed with the next request after the target announces it.
    ///
    /// # Errors
    /// The command's.
    pub async fn refresh_size(&self) -> io::Result<u64> {
        self.execute(scsi::test_unit_ready(), Vec::new(), 0).await?;
        self.read_capacity().await?;
        Ok(self.size())
    }

    /// Flushes, logs out, and waits for both. Requests after this fail.
    ///
    /// # Errors
    /// The flush's.
    pub async fn close(self: Arc<Self>) -> io::Result<()> {
        let flushed = if self.read_only() { Ok(()) } else { self.flush().await };
        let ended = self.ended.lock().await.take();
        drop(self);
        if let Some(ended) = ended {
            // When others still hold the device it stays open, and that is theirs to end.
            let _ = tokio::time::timeout(Duration::from_secs(5), ended).await;
        }
        flushed
    }

    /// Learns what the unit is and can.
    async fn examine(&mut self) -> io::Result<()> {
        let inquiry = self.execute(scsi::inquiry(), Vec::new(), 96).await?;
        if inquiry.first() != Some(&0) {
            return Err(io::Error::new(io::ErrorKind::NotFound, "it is not a disk"));
        }
        let capacity = self.read_capacity().await?;
        self.facts.block_size = capacity.block_size;
        self.facts.physical = capacity.block_size << capacity.exponent.min(8);
        self.facts.reads_zeros = capacity.reads_zeros;
        self.facts.transfer = TRANSFER_MAX - TRANSFER_MAX % capacity.block_size;
        let pages = self.execute(scsi::vital(0), Vec::new(), scsi::VPD_LEN).await.unwrap_or_default();
        let mut unmap_blocks = 0;
        if pages.get(4..).is_some_and(|pages| pages.contains(&0xb0)) {
            let limits = self.execute(scsi::vital(0xb0), Vec::new(), scsi::VPD_LEN).await?;
            unmap_blocks = self.read_limits(&limits);
        }
        if pages.get(4..).is_some_and(|pages| pages.contains(&0xb2)) {
            let thin = self.execute(scsi::vital(0xb2), Vec::new(), scsi::VPD_LEN).await?;
            let flags = thin.get(5).copied().unwrap_or(0);
            let usable = flags & 0x80 != 0 && capacity.reads_zeros && unmap_blocks > 0;
            self.facts.unmap = usable.then_some(unmap_blocks);
            self.facts.write_same_unmaps = flags & 0x40 != 0 && capacity.reads_zeros;
        }
        // Some units have no mode pages; then nothing says that they are protected.
        let mode = self.execute(scsi::mode_sense(), Vec::new(), 255).await.unwrap_or_default();
        self.facts.protected = mode.get(2).is_some_and(|flags| flags & 0x80 != 0);
        Ok(())
    }

    /// Reads the block limits page; returns how many blocks one UNMAP takes.
    fn read_limits(&mut self, page: &[u8]) -> u32 {
        let word = |at: usize| {
            page.get(at..at + 4)
                .map_or(0, |bytes| u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
        };
        let longest = u64::from(word(8)) * u64::from(self.facts.block_size);
        if longest > 0 {
            self.facts.transfer = u32::try_from(longest).unwrap_or(u32::MAX).min(self.facts.transfer);
        }
        let write_same = u64::from(word(36)) << 32 | u64::from(word(40));
        if write_same > 0 {
            self.facts.write_same = write_same.min(u64::from(u32::MAX));
        }
        if word(24) > 0 { word(20) } else { 0 }
    }

    /// Asks for the capacity and notes the size.
    async fn read_capacity(&self) -> Result<Capacity, CommandError> {
        let cdb = scsi::read_capacity();
        let reply = Box::pin(self.command(cdb, Vec::new(), scsi::CAPACITY_LEN)).await?;
        let capacity = Capacity::read(&reply.data)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the capacity is not proper"))?;
        self.size.store(capacity.blocks.saturating_mul(u64::from(capacity.block_size)), Ordering::SeqCst);
        Ok(capacity)
    }

    /// Sends a command once.
    async fn send(&self, cdb: [u8; 16], data_out: Vec<u8>, expected: u32) -> io::Result<Reply> {
        let (reply, answer) = oneshot::channel();
        let command = Command { cdb, data_out, expected, reply, losses: 0 };
        let gone = || io::Error::new(io::ErrorKind::NotConnected, "the iSCSI session has ended");
        self.requests.send(command).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    /// Sends a command until it is answered with something other than a unit attention or "busy".
    async fn command(&self, cdb: [u8; 16], data_out: Vec<u8>, expected: u32) -> Result<Reply, CommandError> {
        let (mut attentions, mut busy) = (0, 0);
        loop {
            let reply = self.send(cdb, data_out.clone(), expected).await?;
            match (reply.status, reply.sense) {
                (status::GOOD | status::CONDITION_MET, _) => return Ok(reply),
                (status::CHECK_CONDITION, Some(sense))
                    if sense.is_unit_attention() && attentions < ATTENTIONS_MAX =>
                {
                    attentions += 1;
                    self.note(sense);
                    if (sense.asc, sense.ascq) == (0x2a, 0x09) && cdb != scsi::read_capacity() {
                        Box::pin(self.read_capacity()).await?;
                    }
                }
                (status::CHECK_CONDITION, Some(sense)) => return Err(CommandError::Sense(sense)),
                (status::BUSY | status::TASK_SET_FULL, _) if busy < BUSY_MAX => {
                    busy += 1;
                    tokio::time::sleep(BUSY_PAUSE).await;
                }
                (other, _) => return Err(CommandError::Status(other)),
            }
        }
    }

    /// Takes note of what a unit attention tells.
    fn note(&self, sense: Sense) {
        // Power on: what was written and not flushed may be gone. A lost nexus or a reset leaves the cache alone.
        let power_lost = sense.asc == 0x29 && matches!(sense.ascq, 0x00 | 0x01);
        if power_lost && self.written.load(Ordering::SeqCst) > self.flushed.load(Ordering::SeqCst) {
            self.lost.store(true, Ordering::SeqCst);
        }
        tracing::debug!(lun = %self.name, %sense, "unit attention");
    }

    /// [`Self::command`], for its data alone.
    async fn execute(
        &self,
        cdb: [u8; 16],
        data_out: Vec<u8>,
        expected: u32,
    ) -> Result<Vec<u8>, CommandError> {
        self.command(cdb, data_out, expected).await.map(|reply| reply.data)
    }

    fn block(&self) -> u64 {
        u64::from(self.facts.block_size)
    }

    async fn read_blocks(&self, lba: u64, buf: &mut [u8]) -> io::Result<()> {
        let count = (buf.len() as u64 / self.block()) as u32;
        let data = self.execute(scsi::read(lba, count), Vec::new(), buf.len() as u32).await?;
        if data.len() != buf.len() {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the target sent too little data"));
        }
        buf.copy_from_slice(&data);
        Ok(())
    }

    async fn write_blocks(&self, lba: u64, data: &[u8]) -> io::Result<()> {
        let count = (data.len() as u64 / self.block()) as u32;
        self.execute(scsi::write(lba, count), data.to_vec(), 0).await?;
        self.written.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    /// Writes whole blocks, in parallel pieces.
    async fn write_aligned(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let block = self.block();
        if data.len() <= self.facts.transfer as usize {
            return self.write_blocks(offset / block, data).await;
        }
        let step = u64::from(self.facts.transfer);
        let mut pieces: Vec<BoxFuture<'_, io::Result<()>>> = Vec::new();
        for (n, piece) in data.chunks(step as usize).enumerate() {
            pieces.push(self.write_blocks((offset + n as u64 * step) / block, piece).boxed());
        }
        stream::iter(pieces).buffer_unordered(PARALLEL).try_collect().await
    }

    /// Reads whole blocks, in parallel pieces.
    async fn read_aligned(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let block = self.block();
        if buf.len() <= self.facts.transfer as usize {
            return self.read_blocks(offset / block, buf).await;
        }
        let step = u64::from(self.facts.transfer);
        let mut pieces: Vec<BoxFuture<'_, io::Result<()>>> = Vec::new();
        for (n, piece) in buf.chunks_mut(step as usize).enumerate() {
            pieces.push(self.read_blocks((offset + n as u64 * step) / block, piece).boxed());
        }
        stream::iter(pieces).buffer_unordered(PARALLEL).try_collect().await
    }

    /// The whole blocks inside a stretch: their first byte and the one behind their last; empty when there are none.
    fn whole(&self, offset: u64, length: u64) -> (u64, u64) {
        let start = offset.next_multiple_of(self.block());
        let end = (offset + length) / self.block() * self.block();
        (start, end.max(start))
    }

    fn check_write(&self, offset: u64, length: u64) -> io::Result<()> {
        if self.read_only() {
            return Err(io::Error::new(io::ErrorKind::ReadOnlyFilesystem, "the LUN is write protected"));
        }
        check_range(offset, length, self.size())
    }

    /// Writes zeros where a stretch does not fill blocks; `whole` is what does.
    async fn zero_edges(&self, offset: u64, length: u64, whole: (u64, u64)) -> io::Result<()> {
        let end = offset + length;
        if whole.0 >= end {
            return self.write(offset, &vec![0; length as usize]).await;
        }
        if offset < whole.0 {
            self.write(offset, &vec![0; (whole.0 - offset) as usize]).await?;
        }
        if whole.1 < end {
            self.write(whole.1, &vec![0; (end - whole.1) as usize]).await?;
        }
        Ok(())
    }

    /// Zeros whole blocks by WRITE SAME, or by writing them where there is none.
    async fn zero_blocks(&self, start: u64, end: u64) -> io::Result<()> {
        let block = self.block();
        let mut at = start;
        while at < end {
            if self.no_write_same.load(Ordering::Relaxed) {
                let piece = vec![0; (end - at).min(u64::from(self.facts.transfer)) as usize];
                self.write_aligned(at, &piece).await?;
                at += piece.len() as u64;
                continue;
            }
            let count = ((end - at) / block).min(self.facts.write_same) as u32;
            let cdb = scsi::write_same(at / block, count, self.facts.write_same_unmaps);
            match self.execute(cdb, vec![0; block as usize], 0).await {
                Ok(_) => {
                    self.written.fetch_add(1, Ordering::SeqCst);
                    at += u64::from(count) * block;
                }
                Err(CommandError::Sense(sense)) if sense.key == key::ILLEGAL_REQUEST && sense.asc != 0x21 => {
                    self.no_write_same.store(true, Ordering::Relaxed);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// What READ CAPACITY (16) says.
#[derive(Debug, Clone, Copy)]
struct Capacity {
    blocks: u64,
    block_size: u32,
    exponent: u8,
    reads_zeros: bool,
}

impl Capacity {
    fn read(data: &[u8]) -> Option<Self> {
        let last = u64::from_be_bytes(data.get(..8)?.try_into().ok()?);
        let block_size = u32::from_be_bytes(data.get(8..12)?.try_into().ok()?);
        if !block_size.is_power_of_two() || !(512..=65536).contains(&block_size) {
            return None;
        }
        let (exponent, thin) = (data.get(13)? & 0x0f, data.get(14)?);
        Some(Self { blocks: last.checked_add(1)?, block_size, exponent, reads_zeros: thin & 0xc0 == 0xc0 })
    }
}

/// A random session identifier (RFC 7143 11.12.5: type "random").
fn random_isid() -> io::Result<[u8; 6]> {
    let mut isid = [0; 6];
    getrandom::fill(&mut isid).map_err(|e| io::Error::other(e.to_string()))?;
    isid[0] = 0x80;
    Ok(isid)
}

#[async_trait]
impl BlockDevice for RemoteLun {
    fn size(&self) -> u64 {
        self.size.load(Ordering::SeqCst)
    }

    fn block_size(&self) -> u32 {
        self.facts.physical.clamp(512, 4096)
    }

    fn read_only(&self) -> bool {
        self.read_only || self.facts.protected
    }

    async fn read(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let block = self.block();
        let length = buf.len() as u64;
        check_range(offset, length, self.size())?;
        if length == 0 {
            return Ok(());
        }
        if offset.is_multiple_of(block) && length.is_multiple_of(block) {
            return self.read_aligned(offset, buf).await;
        }
        let start = offset / block * block;
        let end = (offset + length).next_multiple_of(block);
        let mut whole = vec![0; (end - start) as usize];
        self.read_aligned(start, &mut whole).await?;
        let from = (offset - start) as usize;
        buf.copy_from_slice(&whole[from..from + buf.len()]);
        Ok(())
    }

    async fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let block = self.block();
        let length = data.len() as u64;
        self.check_write(offset, length)?;
        if length == 0 {
            return Ok(());
        }
        if offset.is_multiple_of(block) && length.is_multiple_of(block) {
            return self.write_aligned(offset, data).await;
        }
        // Read, change, write: two of these at a time could undo each other.
        let _one_at_a_time = self.partial.lock().await;
        let start = offset / block * block;
        let end = (offset + length).next_multiple_of(block);
        let mut whole = vec![0; (end - start) as usize];
        self.read_aligned(start, &mut whole).await?;
        let from = (offset - start) as usize;
        whole[from..from + data.len()].copy_from_slice(data);
        self.write_aligned(start, &whole).await
    }

    async fn flush(&self) -> io::Result<()> {
        let covered = self.written.load(Ordering::SeqCst);
        self.execute(scsi::synchronize_cache(), Vec::new(), 0).await?;
        if self.lost.swap(false, Ordering::SeqCst) {
            return Err(io::Error::other(
                "the target was restarted: writes since the last flush may be lost",
            ));
        }
        self.flushed.fetch_max(covered, Ordering::SeqCst);
        Ok(())
    }

    async fn discard(&self, offset: u64, length: u64) -> io::Result<()> {
        self.check_write(offset, length)?;
        let Some(most) = self.facts.unmap else { return self.write_zeroes(offset, length).await };
        if length == 0 {
            return Ok(());
        }
        let whole = self.whole(offset, length);
        self.zero_edges(offset, length, whole).await?;
        let block = self.block();
        let mut at = whole.0;
        while at < whole.1 {
            let count = ((whole.1 - at) / block).min(u64::from(most)) as u32;
            let list = scsi::unmap_list(&[(at / block, count)]);
            self.execute(scsi::unmap(list.len() as u16), list, 0).await?;
            self.written.fetch_add(1, Ordering::SeqCst);
            at += u64::from(count) * block;
        }
        Ok(())
    }

    async fn write_zeroes(&self, offset: u64, length: u64) -> io::Result<()> {
        self.check_write(offset, length)?;
        if length == 0 {
            return Ok(());
        }
        let whole = self.whole(offset, length);
        self.zero_edges(offset, length, whole).await?;
        self.zero_blocks(whole.0, whole.1).await
    }

    async fn block_status(&self, offset: u64, length: u64) -> io::Result<Extent> {
        check_range(offset, length, self.size())?;
        let unknown = Extent { length: length.max(1), kind: ExtentKind::Data };
        if length == 0 || self.no_lba_status.load(Ordering::Relaxed) || !self.facts.reads_zeros {
            return Ok(unknown);
        }
        let lba = offset / self.block();
        let data = match self.execute(scsi::lba_status(lba, 24), Vec::new(), 24).await {
            Ok(data) => data,
            Err(CommandError::Sense(sense)) if sense.key == key::ILLEGAL_REQUEST && sense.asc != 0x21 => {
                self.no_lba_status.store(true, Ordering::Relaxed);
                return Ok(unknown);
            }
            Err(error) => return Err(error.into()),
        };
        let Some(descriptor) = data.get(8..24) else { return Ok(unknown) };
        let first = u64::from_be_bytes(descriptor[..8].try_into().map_err(io::Error::other)?);
        let count = u32::from_be_bytes(descriptor[8..12].try_into().map_err(io::Error::other)?);
        let end = first.saturating_add(u64::from(count)).saturating_mul(self.block());
        if first > lba || end <= offset {
            return Ok(unknown);
        }
        let kind = match descriptor[12] & 0x0f {
            1 => ExtentKind::Hole,
            2 => ExtentKind::Zero,
            _ => ExtentKind::Data,
        };
        Ok(Extent { length: (end - offset).min(length), kind })
    }
}
