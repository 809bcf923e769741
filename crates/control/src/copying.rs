//! The generic copy through block access: every byte of one device onto another, and the proof that it arrived.
//!
//! Zeros are not written, and holes not even read. The proof is a hash over what was read of the source, compared with one over what
//! is read back from the copy after its flush; both leave zeros out in the same way, so that a hole equals written zeros.

use std::io;

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use model::block::{Device, Extent, ExtentKind};
use model::job::Claim;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::engine::Failure;
use crate::message::Detail;

/// Bytes moved at a time.
const CHUNK: u64 = 1 << 20;
/// Chunks under way together; bounds the memory of a copy.
const AHEAD: usize = 4;

/// What a copy amounted to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copied {
    /// The size of both devices.
    pub bytes: u64,
    /// What of it was not zeros.
    pub written: u64,
    /// Over the contents of either side, in hexadecimal.
    pub sha256: String,
}

/// Copies all of `from` onto `to`, which may hold anything, makes it durable and verifies it. Progress counts both passes. May be
/// repeated after it was cut off.
///
/// # Errors
/// Devices of different sizes, I/O errors, a copy that differs, or the claim is over.
pub async fn copy(from: &Device, to: &Device, claim: &Claim) -> Result<Copied, Failure> {
    let size = from.size();
    if size != to.size() {
        return Err(Failure::permanent(format!(
            "{size} bytes do not fit a copy of {} bytes exactly",
            to.size()
        )));
    }
    claim.set_done(0);
    claim.set_total(size * 2);
    let (source, written) = digest(from, claim, Some(to)).await?;
    to.flush().await.map_err(failed)?;
    let (copy, _) = digest(to, claim, None).await?;
    if source != copy {
        return Err(Failure::permanent("the copy differs from what was read: it is not used"));
    }
    Ok(Copied { bytes: size, written, sha256: source })
}

/// The hash of a device and how much of it is not zeros; each chunk goes to `onto` on the way.
async fn digest(of: &Device, claim: &Claim, onto: Option<&Device>) -> Result<(String, u64), Failure> {
    let size = of.size();
    let offsets = (0..size.div_ceil(CHUNK)).map(|n| n * CHUNK);
    let mut chunks = stream::iter(offsets)
        .map(|offset| async move {
            claim.check()?;
            let length = CHUNK.min(size - offset);
            let data = read(of, offset, length).await.map_err(failed)?;
            if let Some(onto) = onto {
                write(onto, offset, length, data.as_deref()).await.map_err(failed)?;
            }
            claim.add_done(length);
            let hash = data.map(|data| (Sha256::digest(&data), data.len() as u64));
            Ok::<_, Failure>((offset, hash))
        })
        .buffered(AHEAD);
    let (mut all, mut filled) = (Sha256::new(), 0);
    while let Some((offset, hash)) = chunks.try_next().await? {
        if let Some((hash, length)) = hash {
            all.update(offset.to_le_bytes());
            all.update(hash);
            filled += length;
        }
    }
    let text = all.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok((text, filled))
}

/// A stretch of a device; `None` when it is zeros.
async fn read(of: &Device, offset: u64, length: u64) -> io::Result<Option<Vec<u8>>> {
    if is_zeros(of.block_status(offset, length).await?, length) {
        return Ok(None);
    }
    let mut data = vec![0; length as usize];
    of.read(offset, &mut data).await?;
    Ok(data.iter().any(|byte| *byte != 0).then_some(data))
}

async fn write(onto: &Device, offset: u64, length: u64, data: Option<&[u8]>) -> io::Result<()> {
    match data {
        Some(data) => onto.write(offset, data).await,
        None if is_zeros(onto.block_status(offset, length).await?, length) => Ok(()),
        None => onto.write_zeroes(offset, length).await,
    }
}

fn is_zeros(extent: Extent, length: u64) -> bool {
    extent.length >= length && extent.kind != ExtentKind::Data
}

fn failed(error: io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::StorageFull => Failure::permanent(error.to_string()).telling(Detail::NotEnoughSpace),
        io::ErrorKind::InvalidInput => Failure::permanent(error.to_string()),
        _ => Failure::again(error.to_string()),
    }
}
