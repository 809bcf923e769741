//! Cinder's compressions: names, packing in independent pieces, and unpacking within bounds.
//!
//! | field in the metadata | format |
//! |---|---|
//! | `none` (options: `none`, `off`, `no`) | as is |
//! | `zlib`, `gzip` | zlib container (RFC 1950); `gzip` too |
//! | `bz2`, `bzip2` | bzip2, one or more streams |
//! | `zstd` | one Zstandard frame that states its content's size, which Cinder's library needs |
//!
//! `none` also stands for an object that compression would not make smaller. Whether it would is tried, except that long
//! objects for zlib and bzip2 are judged by samples first.
//!
//! zlib and bzip2 objects are packed in pieces on all cores: deflate blocks that end on byte boundaries under one zlib
//! header and checksum, bzip2 streams one after the other. Every reader of these formats takes them.

use std::fmt;
use std::io::{self, Write};
use std::str::FromStr;
use std::sync::OnceLock;

use bytes::Bytes;
use flate2::{Compress, Decompress, FlushCompress, FlushDecompress, Status};
use zstd::stream::raw::{CParameter, DParameter, InBuffer, Operation, OutBuffer};

use crate::error::{Error, Result};
use crate::store::ZEROES;

/// A compression format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Codec {
    None,
    Zlib,
    Bzip2,
    Zstd,
}

impl Codec {
    /// The plainest of its names.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Zlib => "zlib",
            Self::Bzip2 => "bz2",
            Self::Zstd => "zstd",
        }
    }
}

/// A compression as configured: a format, and the alias under which the metadata file will name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compression {
    codec: Codec,
    name: &'static str,
}

/// Every name that `backup_compression_algorithm` and a metadata file may hold, and what it is written as.
const NAMES: &[(&str, &str, Codec)] = &[
    ("none", "none", Codec::None),
    ("off", "none", Codec::None),
    ("no", "none", Codec::None),
    ("zlib", "zlib", Codec::Zlib),
    ("gzip", "gzip", Codec::Zlib),
    ("bz2", "bz2", Codec::Bzip2),
    ("bzip2", "bzip2", Codec::Bzip2),
    ("zstd", "zstd", Codec::Zstd),
];

impl Compression {
    /// The format.
    pub const fn codec(self) -> Codec {
        self.codec
    }

    /// The name that the metadata file gives it.
    pub const fn name(self) -> &'static str {
        self.name
    }
}

impl Default for Compression {
    /// Cinder's: zlib.
    fn default() -> Self {
        Self { codec: Codec::Zlib, name: "zlib" }
    }
}

impl FromStr for Compression {
    type Err = UnknownCompression;

    fn from_str(text: &str) -> Result<Self, UnknownCompression> {
        let found = NAMES.iter().find(|(name, ..)| name.eq_ignore_ascii_case(text.trim()));
        found.map(|&(_, name, codec)| Self { codec, name }).ok_or(UnknownCompression)
    }
}

/// A name that is no compression's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownCompression;

impl fmt::Display for UnknownCompression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "unsupported compression algorithm: known are none, off, no, zlib, gzip, bz2, bzip2 and zstd",
        )
    }
}

impl std::error::Error for UnknownCompression {}

/// A packed piece of an object.
#[derive(Debug, Clone)]
pub(crate) struct Packed {
    pub bytes: Bytes,
    /// The Adler-32 of the unpacked piece, where the format needs it.
    adler: u32,
    /// Bytes unpacked.
    length: u64,
}

/// What precedes, joins and follows the independently packed pieces of one object.
#[derive(Debug)]
pub(crate) struct Joiner {
    codec: Codec,
    adler: u32,
}

impl Joiner {
    /// A joiner for zlib and bzip2 objects.
    pub fn new(codec: Codec) -> Self {
        Self { codec, adler: 1 }
    }

    /// What an object starts with.
    pub fn head(&self) -> Bytes {
        match self.codec {
            Codec::Zlib => Bytes::from_static(&[0x78, 0x9c]), // 32 KiB window, default level
            _ => Bytes::new(),
        }
    }

    /// Takes account of the next piece.
    pub fn join(&mut self, piece: &Packed) {
        self.adler = adler_join(self.adler, piece.adler, piece.length);
    }

    /// What an object ends with.
    pub fn tail(&self) -> Bytes {
        match self.codec {
            Codec::Zlib => {
                let mut tail = vec![0x03, 0x00]; // an empty last block
                tail.extend_from_slice(&self.adler.to_be_bytes());
                tail.into()
            }
            _ => Bytes::new(),
        }
    }
}

/// Packs one piece by itself.
pub(crate) fn pack(codec: Codec, data: &[u8]) -> Result<Packed> {
    let failed = |why: String| Error::Invalid(format!("cannot compress: {why}"));
    let length = data.len() as u64;
    match codec {
        Codec::Zlib => {
            let bytes = deflate(data).map_err(|e| failed(e.to_string()))?;
            Ok(Packed { bytes: bytes.into(), adler: adler32(data), length })
        }
        Codec::Bzip2 => {
            let mut stream = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::best());
            let bytes = stream.write_all(data).and_then(|()| stream.finish());
            Ok(Packed { bytes: bytes.map_err(|e| failed(e.to_string()))?.into(), adler: 1, length })
        }
        Codec::None | Codec::Zstd => Err(failed(format!("{} has no pieces", codec.name()))),
    }
}

/// Whether a sample of data would not shrink: it is packed or encrypted already. Fast, and on the side of trying.
pub(crate) fn is_packed(sample: &[u8]) -> bool {
    // Level 1 uses fixed codes, which do not show that some bytes are rarer than others.
    let mut stream = Compress::new(flate2::Compression::new(2), false);
    let mut out = vec![0; sample.len() - sample.len() / 64];
    // It fits into a little less room than it has, or it does not.
    !matches!(stream.compress(sample, &mut out, FlushCompress::Finish), Ok(Status::StreamEnd))
}

/// Packs a piece of zeros as long as [`ZEROES`], once for all.
pub(crate) fn pack_zeroes(codec: Codec) -> Result<Packed> {
    static ZLIB: OnceLock<Packed> = OnceLock::new();
    static BZIP2: OnceLock<Packed> = OnceLock::new();
    let cell = if codec == Codec::Zlib { &ZLIB } else { &BZIP2 };
    if let Some(packed) = cell.get() {
        return Ok(packed.clone());
    }
    let packed = pack(codec, &ZEROES)?;
    Ok(cell.get_or_init(|| packed).clone())
}

/// Raw deflate blocks that end on a byte boundary and are not the last.
fn deflate(data: &[u8]) -> Result<Vec<u8>, flate2::CompressError> {
    let mut stream = Compress::new(flate2::Compression::default(), false);
    let mut out = Vec::with_capacity(data.len() / 2 + 1024);
    loop {
        let taken = stream.total_in() as usize;
        stream.compress_vec(&data[taken..], &mut out, FlushCompress::Sync)?;
        // Room left over means that the flush is complete.
        if stream.total_in() as usize == data.len() && out.len() < out.capacity() {
            return Ok(out);
        }
        out.reserve(out.capacity().max(1024));
    }
}

const ADLER_BASE: u32 = 65_521;

/// RFC 1950's checksum.
fn adler32(data: &[u8]) -> u32 {
    let (mut a, mut b) = (1_u32, 0_u32);
    for run in data.chunks(5552) {
        // As many bytes as cannot overflow before the remainder is taken.
        for byte in run {
            a += u32::from(*byte);
            b += a;
        }
        a %= ADLER_BASE;
        b %= ADLER_BASE;
    }
    b << 16 | a
}

/// The checksum of two stretches in a row, the second of `length` bytes.
fn adler_join(first: u32, second: u32, length: u64) -> u32 {
    let base = u64::from(ADLER_BASE);
    let (a1, b1) = (u64::from(first & 0xffff), u64::from(first >> 16));
    let (a2, b2) = (u64::from(second & 0xffff), u64::from(second >> 16));
    let a = (a1 + a2 + base - 1) % base;
    let b = (b1 + b2 + length % base * (a1 + base - 1)) % base;
    (b << 16 | a) as u32
}

/// Packs an object into one Zstandard frame, which cannot be made of independent pieces.
pub(crate) struct ZstdPacker(zstd::stream::raw::Encoder<'static>);

impl ZstdPacker {
    /// A packer of exactly `length` bytes.
    pub fn new(length: u64) -> Result<Self> {
        let make = || {
            let mut encoder = zstd::stream::raw::Encoder::new(zstd::DEFAULT_COMPRESSION_LEVEL)?;
            encoder.set_parameter(CParameter::ContentSizeFlag(true))?;
            encoder.set_pledged_src_size(Some(length))?;
            io::Result::Ok(encoder)
        };
        make().map(Self).map_err(zstd_failed)
    }

    /// Packs more bytes; what comes out may lag behind.
    pub fn push(&mut self, data: &[u8]) -> Result<Vec<u8>> {
        let (mut input, mut all) = (InBuffer::around(data), Vec::new());
        while input.pos() < data.len() {
            step(&mut all, |out| self.0.run(&mut input, out))?;
        }
        Ok(all)
    }

    /// The end of the frame.
    pub fn finish(mut self) -> Result<Vec<u8>> {
        let mut all = Vec::new();
        while step(&mut all, |out| self.0.finish(out, true))? > 0 {}
        Ok(all)
    }
}

fn zstd_failed(error: io::Error) -> Error {
    Error::Invalid(format!("cannot compress: {error}"))
}

/// Runs one step of an encoder and appends what it makes; answers the encoder's hint.
fn step(all: &mut Vec<u8>, run: impl FnOnce(&mut OutBuffer<'_, [u8]>) -> io::Result<usize>) -> Result<usize> {
    let mut room = [0; 32 << 10];
    let mut out = OutBuffer::around(&mut room[..]);
    let hint = run(&mut out).map_err(zstd_failed)?;
    let made = out.pos();
    all.extend_from_slice(&room[..made]);
    Ok(hint)
}

/// The largest Zstandard window that is unpacked, as a power of two: 32 MiB. Cinder's default level takes 2 MiB.
const ZSTD_WINDOW_LOG: u32 = 25;

/// Unpacks an object step by step, in bounded memory.
pub(crate) struct Unpacker(State);

enum State {
    None,
    Zlib {
        stream: Decompress,
        ended: bool,
    },
    /// `between`: no stream has begun, or the last one has ended.
    Bzip2 {
        stream: bzip2::Decompress,
        between: bool,
    },
    Zstd {
        stream: zstd::stream::raw::Decoder<'static>,
        between: bool,
    },
}

impl Unpacker {
    pub fn new(codec: Codec) -> Result<Self> {
        let state = match codec {
            Codec::None => State::None,
            Codec::Zlib => State::Zlib { stream: Decompress::new(true), ended: false },
            Codec::Bzip2 => State::Bzip2 { stream: bzip2::Decompress::new(false), between: true },
            Codec::Zstd => {
                let mut stream = zstd::stream::raw::Decoder::new().map_err(damaged)?;
                stream.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG)).map_err(damaged)?;
                State::Zstd { stream, between: true }
            }
        };
        Ok(Self(state))
    }

    /// Unpacks some of `input` into `out`; answers how much was taken and made. Neither means that more input, or
    /// more room, is needed.
    pub fn step(&mut self, input: &[u8], out: &mut [u8]) -> Result<(usize, usize)> {
        match &mut self.0 {
            State::None => {
                let length = input.len().min(out.len());
                out[..length].copy_from_slice(&input[..length]);
                Ok((length, length))
            }
            State::Zlib { ended: true, .. } if input.is_empty() => Ok((0, 0)),
            State::Zlib { ended: true, .. } => Err(damaged("there is something behind the end")),
            State::Zlib { stream, ended } => {
                let (taken, made) = (stream.total_in(), stream.total_out());
                let status = stream.decompress(input, out, FlushDecompress::None).map_err(damaged)?;
                *ended = status == Status::StreamEnd;
                Ok(((stream.total_in() - taken) as usize, (stream.total_out() - made) as usize))
            }
            State::Bzip2 { stream, between } => {
                if *between {
                    if input.is_empty() {
                        return Ok((0, 0));
                    }
                    *stream = bzip2::Decompress::new(false);
                    *between = false;
                }
                let (taken, made) = (stream.total_in(), stream.total_out());
                let status = stream.decompress(input, out).map_err(damaged)?;
                *between = status == bzip2::Status::StreamEnd;
                Ok(((stream.total_in() - taken) as usize, (stream.total_out() - made) as usize))
            }
            State::Zstd { between: true, .. } if input.is_empty() => Ok((0, 0)),
            State::Zstd { stream, between } => {
                let (mut from, mut to) = (InBuffer::around(input), OutBuffer::around(out));
                let hint = stream.run(&mut from, &mut to).map_err(damaged)?;
                *between = hint == 0;
                Ok((from.pos(), to.pos()))
            }
        }
    }

    /// Whether the input may end here.
    pub fn is_complete(&self) -> bool {
        match self.0 {
            State::None => true,
            State::Zlib { ended, .. } => ended,
            State::Bzip2 { between, .. } | State::Zstd { between, .. } => between,
        }
    }
}

fn damaged(why: impl fmt::Display) -> Error {
    Error::Corrupt(format!("its compressed data is damaged: {why}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pack_all(codec: Codec, pieces: &[&[u8]]) -> Vec<u8> {
        if codec == Codec::Zstd {
            let mut packer = ZstdPacker::new(pieces.iter().map(|p| p.len() as u64).sum()).unwrap();
            let mut out: Vec<u8> = pieces.iter().flat_map(|p| packer.push(p).unwrap()).collect();
            out.extend(packer.finish().unwrap());
            return out;
        }
        let mut joiner = Joiner::new(codec);
        let mut out = joiner.head().to_vec();
        for piece in pieces {
            let packed = pack(codec, piece).unwrap();
            joiner.join(&packed);
            out.extend_from_slice(&packed.bytes);
        }
        out.extend_from_slice(&joiner.tail());
        out
    }

    fn unpack_all(codec: Codec, mut input: &[u8], bite: usize, room: usize) -> Result<Vec<u8>> {
        let (mut unpacker, mut all) = (Unpacker::new(codec)?, Vec::new());
        loop {
            let mut out = vec![0; room];
            let (taken, made) = unpacker.step(&input[..bite.min(input.len())], &mut out)?;
            all.extend_from_slice(&out[..made]);
            input = &input[taken..];
            if (taken, made) == (0, 0) {
                return match unpacker.is_complete() && input.is_empty() {
                    true => Ok(all),
                    false => Err(damaged("short")),
                };
            }
        }
    }

    #[test]
    fn every_alias_is_read_and_the_configured_one_written() {
        for (text, name, codec) in [
            ("none", "none", Codec::None),
            ("off", "none", Codec::None),
            ("NO", "none", Codec::None),
            ("gzip", "gzip", Codec::Zlib),
            ("ZLIB", "zlib", Codec::Zlib),
            ("bzip2", "bzip2", Codec::Bzip2),
            ("bz2", "bz2", Codec::Bzip2),
            ("zstd", "zstd", Codec::Zstd),
        ] {
            let compression: Compression = text.parse().unwrap();
            assert_eq!((compression.name(), compression.codec()), (name, codec));
        }
        assert!("lz4".parse::<Compression>().is_err());
    }

    #[test]
    fn joined_pieces_are_one_zlib_stream() {
        let text = pack_all(Codec::Zlib, &[b"hello ", b"", b"world", &[0; 70_000]]);
        let mut plain = b"hello world".to_vec();
        plain.resize(11 + 70_000, 0);
        let mut read = Vec::new();
        io::copy(&mut flate2::read::ZlibDecoder::new(&text[..]), &mut read).unwrap();
        assert_eq!(read, plain); // the decoder checks the Adler-32
    }

    #[test]
    fn samples_tell_packed_data_from_other() {
        let mut state = 1_u64;
        let mut noise = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        };
        let packed: Vec<u8> = (0..16_384).map(|_| noise()).collect();
        assert!(is_packed(&packed));
        let seven_bits: Vec<u8> = packed.iter().map(|byte| byte & 0x7f).collect();
        assert!(!is_packed(&seven_bits) && !is_packed(&[0; 4096]));
    }

    #[test]
    fn a_huge_window_is_refused() {
        let mut encoder = zstd::stream::raw::Encoder::new(1).unwrap();
        encoder.set_parameter(CParameter::WindowLog(27)).unwrap();
        let mut frame = Vec::new();
        let mut input = InBuffer::around(b"x".as_slice());
        step(&mut frame, |out| encoder.run(&mut input, out)).unwrap();
        step(&mut frame, |out| encoder.finish(out, true)).unwrap();
        assert!(unpack_all(Codec::Zstd, &frame, 100, 100).is_err());
    }

    proptest! {
        #[test]
        fn what_is_packed_unpacks_in_any_steps(
            pieces in proptest::collection::vec(proptest::collection::vec(0_u8..4, 0..3000), 0..5),
            bite in 1_usize..5000, room in 1_usize..5000,
        ) {
            let plain = pieces.concat();
            let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
            for codec in [Codec::Zlib, Codec::Bzip2, Codec::Zstd] {
                let packed = pack_all(codec, &pieces);
                prop_assert_eq!(&unpack_all(codec, &packed, bite, room).unwrap(), &plain);
                if !packed.is_empty() {
                    prop_assert!(unpack_all(codec, &packed[..packed.len() - 1], bite, room).is_err());
                }
            }
        }

        #[test]
        fn damaged_data_never_panics(mut junk in proptest::collection::vec(any::<u8>(), 0..500), at in any::<usize>()) {
            for codec in [Codec::Zlib, Codec::Bzip2, Codec::Zstd] {
                let _ = unpack_all(codec, &junk, 64, 4096);
                let mut packed = pack_all(codec, &[&junk]);
                let at = at % packed.len();
                packed[at] ^= 0x10;
                let _ = unpack_all(codec, &packed, 64, 4096);
            }
            junk.clear();
        }
    }
}
