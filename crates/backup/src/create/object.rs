//! One data object: read, hash, compress, put.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use model::block::ExtentKind;
use tokio::sync::{Mutex, mpsc};

use super::CreateBackup;
use crate::compression::{self, Codec, Joiner, Packed, ZstdPacker, pack, pack_zeroes};
use crate::error::{Error, Result};
use crate::format::hashes::Hash;
use crate::format::metadata::ObjectEntry;
use crate::format::name;
use crate::run::{HashStage, Md5Stage, Pending, Piece, Run, core_count, extent, is_hole, zero_hash};
use crate::store::{Upload, ZEROES};

/// Bytes gathered before the store gets them; an object that stays below is put in one go.
const GATHER: usize = 1 << 20;
/// Objects of nothing but zeros that are at least this long are packed once for all of their length.
const SHARED_ZEROES: u64 = 8 << 20;
/// Lengths of such objects that are remembered: chunks, and the last one.
const SHARED_LENGTHS: usize = 4;
/// Objects that are at least this long are sampled before they are packed.
const SAMPLED_LENGTH: u64 = 8 << 20;
/// Samples of an object, evenly spread: what would shrink by a tenth escapes notice once in thirty objects.
const SAMPLES: u64 = 32;
/// Bytes of a sample.
const SAMPLE_SIZE: usize = 16 << 10;

/// A stretch of the volume that becomes one object.
#[derive(Debug)]
pub(super) struct Span {
    /// The object's number, from 1.
    pub number: u64,
    pub stretch: Range<u64>,
    /// What its blocks hashed to when they were compared.
    pub hashes: Option<Vec<Hash>>,
}

impl Span {
    fn length(&self) -> u64 {
        self.stretch.end - self.stretch.start
    }
}

/// An object in the store.
#[derive(Debug)]
pub(super) struct Stored {
    pub entry: ObjectEntry,
    pub hashes: Vec<Hash>,
    /// Bytes that it takes.
    pub stored_bytes: u64,
}

/// A stretch of the volume and the hashes of its blocks.
#[derive(Debug)]
pub(super) struct Hashed {
    pub stretch: Range<u64>,
    pub hashes: Vec<Hash>,
}

/// What was found out about an object's data on its way.
#[derive(Debug, Clone)]
struct Digests {
    md5: [u8; 16],
    hashes: Vec<Hash>,
}

/// An object of zeros, ready to be put.
#[derive(Debug)]
struct ZeroObject {
    digests: Digests,
    packed: Bytes,
}

/// Where and how a run puts its objects.
#[derive(Debug)]
pub(super) struct Objects<'a> {
    pub run: &'a Run,
    pub request: &'a CreateBackup,
    container: &'a str,
    prefix: &'a str,
    /// The run's name in unfinished objects.
    tag: &'a str,
    /// The hash of a block of zeros.
    zero: Hash,
    zeroes: Mutex<HashMap<u64, Arc<ZeroObject>>>,
}

impl<'a> Objects<'a> {
    pub fn new(
        run: &'a Run,
        request: &'a CreateBackup,
        container: &'a str,
        prefix: &'a str,
        tag: &'a str,
    ) -> Self {
        let zero = zero_hash(request.config.block_size);
        Self { run, request, container, prefix, tag, zero, zeroes: Mutex::default() }
    }

    /// Hashes the blocks of `stretch`, which counts as progress.
    pub async fn hash(&self, stretch: Range<u64>) -> Result<Hashed> {
        let (pieces, mut take) = mpsc::channel(1);
        let reading = self.run.read_pieces(&self.request.source, stretch.clone(), pieces);
        let hashing = async {
            let mut stage = HashStage::new(self.request.config.block_size, self.zero);
            while let Some(piece) = take.recv().await {
                let length = piece.len();
                stage.update(self.run, piece).await;
                self.run.claim.add_done(length);
            }
            stage.finish()
        };
        let (read, hashes) = tokio::join!(reading, hashing);
        read.map(|()| Hashed { stretch, hashes })
    }

    /// Puts one object: compressed if that makes it smaller, else as it is.
    pub async fn put(&self, span: Span) -> Result<Stored> {
        self.run.check()?;
        let mut wanted = self.request.config.compression.codec();
        if self.is_packed(&span, wanted).await? {
            wanted = Codec::None;
        }
        let compressible = wanted != Codec::None;
        if compressible
            && span.length() >= SHARED_ZEROES
            && is_hole(&self.request.source, span.stretch.clone()).await?
        {
            return self.put_zeroes(span, wanted).await;
        }
        let mut progress = Progress { counts: span.hashes.is_none(), reported: 0 };
        let mut output = self.output(&span, if compressible { span.length() } else { u64::MAX });
        let mut codec = wanted;
        let mut digests = self.stream(&span, codec, &mut output, &mut progress).await?;
        if digests.is_none() {
            output.abort().await?;
            codec = Codec::None;
            output = self.output(&span, u64::MAX);
            digests = self.stream(&span, codec, &mut output, &mut progress).await?;
        }
        let Some(digests) = digests else {
            return Err(Error::Invalid(format!("object {} has outgrown its limit", span.number)));
        };
        let stored_bytes = output.finish().await?;
        self.stored(span, digests, codec, stored_bytes)
    }

    /// Whether samples say that a long object would not shrink, as with an encrypted volume: packing all of it, only to
    /// read it again and put it as it is, takes ten times as long.
    async fn is_packed(&self, span: &Span, codec: Codec) -> Result<bool> {
        // Zstandard notices by itself, quickly.
        if !matches!(codec, Codec::Zlib | Codec::Bzip2) || span.length() < SAMPLED_LENGTH {
            return Ok(false);
        }
        let device = &self.request.source;
        let mut data_end = 0;
        for index in 0..SAMPLES {
            let at = span.stretch.start + span.length() / SAMPLES * index;
            if at >= data_end {
                match extent(device, at, span.stretch.end - at).await? {
                    (ExtentKind::Data, end) => data_end = end,
                    _ => return Ok(false), // zeros shrink
                }
            }
            let mut sample = vec![0; SAMPLE_SIZE];
            device.read(at, &mut sample).await.map_err(|e| Error::device("read", at, e))?;
            if !self.run.compute(move || compression::is_packed(&sample)).await {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Puts an object of zeros that was packed before, or packs it.
    async fn put_zeroes(&self, span: Span, codec: Codec) -> Result<Stored> {
        let length = span.length();
        let object = {
            let mut known = self.zeroes.lock().await;
            if known.len() >= SHARED_LENGTHS {
                known.clear();
            }
            match known.get(&length) {
                Some(object) => Arc::clone(object),
                None => {
                    let object = Arc::new(self.pack_zeroes(&span, codec).await?);
                    known.insert(length, Arc::clone(&object));
                    object
                }
            }
        };
        if span.hashes.is_none() {
            self.run.claim.add_done(length);
        }
        let mut output = self.output(&span, u64::MAX);
        output.write(object.packed.clone()).await?;
        let stored_bytes = output.finish().await?;
        self.stored(span, object.digests.clone(), codec, stored_bytes)
    }

    async fn pack_zeroes(&self, span: &Span, codec: Codec) -> Result<ZeroObject> {
        let (pieces, take) = mpsc::channel(1);
        let feeding = async {
            let mut left = span.length();
            while left > 0 && self.run.check().is_ok() {
                let piece = left.min(64 << 20);
                left -= piece;
                if pieces.send(Piece::Zeroes(piece)).await.is_err() {
                    break;
                }
            }
            drop(pieces);
            left
        };
        let mut output = Output { gather: usize::MAX, ..self.output(span, u64::MAX) };
        let (left, digests) = tokio::join!(feeding, self.process(take, span.length(), codec, &mut output));
        self.run.check()?;
        match digests? {
            Some(digests) if left == 0 => Ok(ZeroObject { digests, packed: output.buffer.into() }),
            _ => Err(Error::Invalid(format!("object {} was not packed to its end", span.number))),
        }
    }

    /// What is known of an object that was put; checks that it is what was compared.
    fn stored(&self, span: Span, digests: Digests, codec: Codec, stored_bytes: u64) -> Result<Stored> {
        if span.hashes.is_some_and(|hashes| hashes != digests.hashes) {
            let text = "the volume changed while it was backed up";
            return Err(Error::device("trust", span.stretch.start, std::io::Error::other(text)));
        }
        let entry = ObjectEntry {
            number: span.number,
            offset: span.stretch.start,
            length: span.stretch.end - span.stretch.start,
            codec,
            md5: digests.md5,
        };
        Ok(Stored { entry, hashes: digests.hashes, stored_bytes })
    }

    fn output(&self, span: &Span, limit: u64) -> Output<'_> {
        let name = name::data(self.prefix, span.number);
        Output { objects: self, name, limit, length: 0, gather: GATHER, buffer: Vec::new(), upload: None }
    }

    /// Reads, hashes, packs and writes a span; `None` when the output outgrew its limit.
    async fn stream(
        &self,
        span: &Span,
        codec: Codec,
        output: &mut Output<'_>,
        progress: &mut Progress,
    ) -> Result<Option<Digests>> {
        let (pieces, mut take) = mpsc::channel::<Piece>(1);
        let (counted, take_counted) = mpsc::channel(1);
        let reading = self.run.read_pieces(&self.request.source, span.stretch.clone(), pieces);
        let counting = async {
            let mut read = 0;
            while let Some(piece) = take.recv().await {
                read += piece.len();
                progress.reach(self.run, read);
                if counted.send(piece).await.is_err() {
                    break;
                }
            }
            drop((take, counted));
        };
        let processing = self.process(take_counted, span.length(), codec, output);
        let (read, (), digests) = tokio::join!(reading, counting, processing);
        let digests = digests?;
        read.map(|()| digests)
    }

    /// Hashes and packs what comes, and writes it.
    async fn process(
        &self,
        mut pieces: mpsc::Receiver<Piece>,
        length: u64,
        codec: Codec,
        output: &mut Output<'_>,
    ) -> Result<Option<Digests>> {
        let mut md5 = Md5Stage::new();
        let mut hashes = HashStage::new(self.request.config.block_size, self.zero);
        let mut packer = Packer::new(codec, length)?;
        packer.begin(output).await?;
        while let Some(piece) = pieces.recv().await {
            let packing = packer.push(self.run, piece.clone(), output);
            let (packed, (), ()) = tokio::join!(
                packing,
                md5.update(self.run, piece.clone()),
                hashes.update(self.run, piece.clone())
            );
            packed?;
            if output.is_over() {
                return Ok(None);
            }
        }
        packer.finish(output).await?;
        let digests = Digests { md5: md5.finish(), hashes: hashes.finish() };
        Ok((!output.is_over()).then_some(digests))
    }
}

/// Reports a span's bytes once, also when it is read twice.
#[derive(Debug)]
struct Progress {
    counts: bool,
    reported: u64,
}

impl Progress {
    fn reach(&mut self, run: &Run, read: u64) {
        if self.counts && read > self.reported {
            run.claim.add_done(read - self.reported);
            self.reported = read;
        }
    }
}

/// Turns pieces into what is stored.
enum Packer {
    Plain,
    /// Pieces packed independently, several at once.
    Pieces {
        codec: Codec,
        joiner: Joiner,
        pending: Pending<Result<Packed>>,
    },
    /// One frame; `None` only after a panic, which is passed on.
    Frame(Option<ZstdPacker>),
}

impl Packer {
    fn new(codec: Codec, length: u64) -> Result<Self> {
        Ok(match codec {
            Codec::None => Self::Plain,
            Codec::Zlib | Codec::Bzip2 => {
                Self::Pieces { codec, joiner: Joiner::new(codec), pending: Pending::new() }
            }
            Codec::Zstd => Self::Frame(Some(ZstdPacker::new(length)?)),
        })
    }

    async fn begin(&mut self, output: &mut Output<'_>) -> Result<()> {
        match self {
            Self::Pieces { joiner, .. } => output.write(joiner.head()).await,
            Self::Plain | Self::Frame(_) => Ok(()),
        }
    }

    async fn push(&mut self, run: &Run, piece: Piece, output: &mut Output<'_>) -> Result<()> {
        match (self, piece) {
            (Self::Plain, Piece::Data(data)) => output.write(data).await,
            (Self::Plain, Piece::Zeroes(length)) => output.write_zeroes(length).await,
            (Self::Pieces { codec, joiner, pending }, piece) => {
                let codec = *codec;
                for data in piece.runs() {
                    match piece {
                        Piece::Zeroes(_) if data.len() == ZEROES.len() => {
                            pending.ready(run.compute(move || pack_zeroes(codec)).await);
                        }
                        _ => pending.begin(run, move || pack(codec, &data)).await,
                    }
                    while pending.len() > core_count() {
                        emit(joiner, pending, output).await?;
                    }
                }
                Ok(())
            }
            (Self::Frame(frame), piece) => {
                let Some(mut packer) = frame.take() else { return Ok(()) };
                let work = move || {
                    let mut packed = Vec::new();
                    for data in piece.runs() {
                        packed.extend(packer.push(&data)?);
                    }
                    Ok::<_, Error>((packer, packed))
                };
                let (packer, packed) = run.compute(work).await?;
                *frame = Some(packer);
                output.write(packed.into()).await
            }
        }
    }

    async fn finish(self, output: &mut Output<'_>) -> Result<()> {
        match self {
            Self::Plain | Self::Frame(None) => Ok(()),
            Self::Pieces { mut joiner, mut pending, .. } => {
                while pending.len() > 0 {
                    emit(&mut joiner, &mut pending, output).await?;
                }
                output.write(joiner.tail()).await
            }
            Self::Frame(Some(packer)) => output.write(packer.finish()?.into()).await,
        }
    }
}

/// Writes the oldest of the pieces being packed.
async fn emit(
    joiner: &mut Joiner,
    pending: &mut Pending<Result<Packed>>,
    output: &mut Output<'_>,
) -> Result<()> {
    if let Some(packed) = pending.next().await {
        let packed = packed?;
        joiner.join(&packed);
        output.write(packed.bytes).await?;
    }
    Ok(())
}

/// An object on its way into the store; small ones are put only when they are complete.
struct Output<'a> {
    objects: &'a Objects<'a>,
    name: String,
    /// An output that reaches this length is over: it stores no more, because it will be given up.
    limit: u64,
    length: u64,
    /// Bytes to gather in `buffer`.
    gather: usize,
    buffer: Vec<u8>,
    upload: Option<Box<dyn Upload>>,
}

impl Output<'_> {
    fn is_over(&self) -> bool {
        self.length >= self.limit
    }

    async fn write(&mut self, data: Bytes) -> Result<()> {
        self.length += data.len() as u64;
        if self.is_over() {
            return Ok(());
        }
        if self.buffer.len().saturating_add(data.len()) < self.gather {
            self.buffer.extend_from_slice(&data);
            return Ok(());
        }
        self.drain().await?;
        self.upload().await?.write(data).await
    }

    async fn write_zeroes(&mut self, length: u64) -> Result<()> {
        if length < self.gather as u64 {
            return self.write(ZEROES.slice(..length as usize)).await;
        }
        self.drain().await?;
        self.length += length;
        self.upload().await?.write_zeroes(length).await
    }

    /// Gives the store what was gathered.
    async fn drain(&mut self) -> Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let data = std::mem::take(&mut self.buffer);
        self.upload().await?.write(data.into()).await
    }

    async fn upload(&mut self) -> Result<&mut Box<dyn Upload>> {
        if self.upload.is_none() {
            let Objects { request, container, tag, .. } = self.objects;
            self.upload = Some(request.store.create(container, &self.name, tag).await?);
        }
        Ok(self.upload.as_mut().expect("it was just made"))
    }

    /// Publishes the object; answers its length.
    async fn finish(mut self) -> Result<u64> {
        self.upload().await?;
        self.drain().await?;
        // The last moment before it becomes visible. An owner that is stopped right here and replaced finds its
        // unfinished object gone.
        self.objects.run.check()?;
        if let Some(upload) = self.upload.take() {
            upload.finish().await?;
        }
        Ok(self.length)
    }

    async fn abort(mut self) -> Result<()> {
        match self.upload.take() {
            Some(upload) => upload.abort().await,
            None => Ok(()),
        }
    }
}
