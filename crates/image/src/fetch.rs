//! From an image to a volume.

use std::fs::File;
use std::io;

use bytes::{Bytes, BytesMut};
use model::block::Device;
use model::job::Claim;
use tokio::io::{AsyncSeekExt, AsyncWriteExt};

use crate::convert::refused;
use crate::glance::{Download, Token};
use crate::inspect::{self, HEAD, Refusal};
use crate::{Converter, DiskFormat, Error, Glance, Image, Result};

/// Bytes that are written to the volume at once.
const PIECE: usize = 1 << 20;

/// What is to be fetched, and where to.
#[derive(Debug)]
pub struct Fetch<'a> {
    pub glance: &'a Glance,
    pub token: &'a Token,
    pub converter: &'a Converter,
    /// The image's record as it is now.
    pub image: &'a Image,
    /// Open for writing; whatever it holds is overwritten.
    pub device: &'a Device,
}

/// Makes the volume hold what the image holds, and zeros after that; flushed. Returns how many bytes the image holds. May be repeated;
/// after a failure the volume holds anything.
///
/// # Errors
/// The image is refused, does not fit, is damaged or cannot be had; the volume or the conversion failed; the claim ended.
pub async fn fetch(wanted: Fetch<'_>, claim: &Claim) -> Result<u64> {
    let image = wanted.image;
    let format = format_of(image)?;
    let room = wanted.device.size();
    let size = image.size.unwrap_or(0);
    if format.is_verbatim() && size > room {
        return Err(Error::TooBig { id: image.id.clone(), needed: size, room });
    }
    let holds = if format.is_verbatim() {
        retried(&wanted, claim, async || copy(&wanted, format, claim).await).await?
    } else {
        if wanted.converter.is_disabled() {
            return Err(Error::Unacceptable {
                id: image.id.clone(),
                reason: format!("image conversion is disabled, and the image is {format}"),
            });
        }
        let _turn = wanted.converter.turn().await;
        let file = retried(&wanted, claim, async || store(&wanted, claim).await).await?;
        wanted.converter.unpack(&image.id, file, format, wanted.device, claim).await?
    };
    claim.check()?;
    let device = |source| Error::Device { action: "write", source };
    if holds < room {
        wanted.device.write_zeroes(holds, room - holds).await.map_err(device)?;
    }
    wanted.device.flush().await.map_err(device)?;
    Ok(holds)
}

fn format_of(image: &Image) -> Result<DiskFormat> {
    let unacceptable = |reason: String| Error::Unacceptable { id: image.id.clone(), reason };
    if image.status != "active" {
        return Err(unacceptable(format!("its status is {}", image.status)));
    }
    if image.container_format.as_deref().is_some_and(|format| format != "bare") {
        let format = image.container_format.as_deref().unwrap_or_default();
        return Err(unacceptable(format!("its container_format {format} is not supported")));
    }
    let name = image.disk_format.as_deref().unwrap_or_default();
    name.parse().map_err(|()| unacceptable(format!("its disk_format {name:?} is not supported")))
}

async fn retried<T>(wanted: &Fetch<'_>, claim: &Claim, work: impl AsyncFn() -> Result<T>) -> Result<T> {
    let mut left = wanted.glance.retries();
    loop {
        match work().await {
            Err(error) if error.is_transient() && left > 0 => {
                claim.check()?;
                tracing::warn!(image = wanted.image.id, %error, "an image's data did not come through; once more");
                left -= 1;
            }
            done => return done,
        }
    }
}

/// Bytes as they are, straight to the volume.
async fn copy(wanted: &Fetch<'_>, format: DiskFormat, claim: &Claim) -> Result<u64> {
    let mut data = wanted.glance.download(wanted.image, wanted.token).await?;
    claim.set_total(wanted.image.size.unwrap_or(0));
    claim.set_done(0);
    let head = head(&mut data).await?;
    inspect::check_signatures(&head, format).map_err(|refusal| refusal_of(wanted, refusal))?;
    let mut at = 0;
    let mut held = BytesMut::from(head.as_slice());
    loop {
        while held.len() < PIECE {
            match data.next().await? {
                Some(piece) => held.extend_from_slice(&piece),
                None => {
                    let rest = held.split();
                    write(wanted.device, at, &rest, claim).await?;
                    return Ok(at + rest.len() as u64);
                }
            }
        }
        while held.len() >= PIECE {
            let piece = held.split_to(PIECE);
            write(wanted.device, at, &piece, claim).await?;
            at += PIECE as u64;
        }
    }
}

fn refusal_of(wanted: &Fetch<'_>, refusal: Refusal) -> Error {
    refused(&wanted.image.id, refusal, wanted.device.size())
}

/// At least the first [`HEAD`] bytes, or all there are.
async fn head(data: &mut Download) -> Result<Vec<u8>> {
    let mut head = Vec::new();
    while head.len() < HEAD {
        match data.next().await? {
            Some(piece) => head.extend_from_slice(&piece),
            None => break,
        }
    }
    Ok(head)
}

async fn write(device: &Device, at: u64, data: &[u8], claim: &Claim) -> Result<()> {
    claim.check()?;
    let done = if data.is_empty() {
        Ok(())
    } else if data.iter().all(|byte| *byte == 0) {
        // Holes stay holes; what an earlier run wrote there is gone.
        device.write_zeroes(at, data.len() as u64).await
    } else {
        device.write(at, data).await
    };
    done.map_err(|source| Error::Device { action: "write", source })?;
    claim.add_done(data.len() as u64);
    Ok(())
}

/// The image as it is, in a file without a name.
async fn store(wanted: &Fetch<'_>, claim: &Claim) -> Result<File> {
    let mut file = tokio::fs::File::from_std(wanted.converter.scratch().await?);
    let mut data = wanted.glance.download(wanted.image, wanted.token).await?;
    claim.set_total(wanted.image.size.unwrap_or(0));
    claim.set_done(0);
    while let Some(piece) = data.next().await? {
        claim.check()?;
        append(&mut file, &piece).await.map_err(Error::Scratch)?;
        claim.add_done(piece.len() as u64);
    }
    file.flush().await.map_err(Error::Scratch)?;
    file.rewind().await.map_err(Error::Scratch)?;
    Ok(file.into_std().await)
}

async fn append(file: &mut tokio::fs::File, piece: &Bytes) -> io::Result<()> {
    file.write_all(piece).await
}
