//! From a volume to an image.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::stream;
use model::block::Device;
use model::job::Claim;
use reqwest::Body;

use crate::glance::Token;
use crate::{Converter, DiskFormat, Error, Glance, Result};

/// Bytes that are read at once.
const PIECE: u64 = 1 << 20;
/// How often the claim and the progress are looked at; neither has an event.
const LOOK: Duration = Duration::from_millis(250);
/// How many times its time limit the service may be silent: it may copy all of an image after the last byte.
const PATIENCE: u32 = 10;

/// What is uploaded, and as what.
#[derive(Debug)]
pub struct Put<'a> {
    pub glance: &'a Glance,
    pub token: &'a Token,
    pub converter: &'a Converter,
    /// The image's id; it is `queued`.
    pub image: &'a str,
    pub format: DiskFormat,
    /// Open for reading.
    pub device: &'a Device,
}

/// Sends the volume's content to the image, which is `active` afterwards.
///
/// # Errors
/// The image service, the volume or the conversion failed, or the claim ended.
pub async fn put(wanted: Put<'_>, claim: &Claim) -> Result<()> {
    if wanted.format.is_verbatim() {
        let size = wanted.device.size();
        claim.set_total(size);
        claim.set_done(0);
        return send(&wanted, Source::Device(Arc::clone(wanted.device)), size, claim).await;
    }
    if wanted.converter.is_disabled() {
        return Err(Error::NoConverter("image_conversion_disable is set".into()));
    }
    let _turn = wanted.converter.turn().await;
    let file = wanted.converter.scratch().await?;
    wanted.converter.pack(wanted.device, wanted.format, &file, claim).await?;
    let size = file.metadata().map_err(Error::Scratch)?.len();
    claim.set_total(size);
    claim.set_done(0);
    send(&wanted, Source::File(Arc::new(file)), size, claim).await
}

#[derive(Clone)]
enum Source {
    Device(Device),
    File(Arc<File>),
}

impl Source {
    async fn read(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut piece = vec![0; length];
        match self {
            Self::Device(device) => device.read(offset, &mut piece).await.map(|()| piece),
            Self::File(file) => {
                let file = Arc::clone(file);
                let read = move || file.read_exact_at(&mut piece, offset).map(|()| piece);
                tokio::task::spawn_blocking(read).await.map_err(io::Error::other)?
            }
        }
    }
}

async fn send(wanted: &Put<'_>, source: Source, size: u64, claim: &Claim) -> Result<()> {
    let failure = Arc::new(std::sync::Mutex::new(None));
    let (keep, watched, claim) = (Arc::clone(&failure), claim.clone(), claim.clone());
    let pieces = stream::try_unfold(0, move |at| {
        let (source, keep, claim) = (source.clone(), Arc::clone(&keep), claim.clone());
        async move {
            if at == size {
                return Ok(None);
            }
            let length = PIECE.min(size - at);
            let read = match claim.check() {
                Ok(()) => source
                    .read(at, length as usize)
                    .await
                    .map_err(|source| Error::Device { action: "read", source }),
                Err(stop) => Err(stop.into()),
            };
            match read {
                Ok(piece) => {
                    claim.add_done(length);
                    Ok(Some((Bytes::from(piece), at + length)))
                }
                Err(error) => {
                    let text = error.to_string();
                    *keep.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(error);
                    // Breaks the request off: the service never takes half an image for a whole one.
                    Err(io::Error::other(text))
                }
            }
        }
    });
    let sent = tokio::select! {
        sent = wanted.glance.upload(wanted.image, size, Body::wrap_stream(pieces), wanted.token) => sent,
        stuck = stuck(&watched, wanted.glance.timeout()) => Err(stuck),
    };
    let ours = failure.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
    match ours {
        Some(error) => Err(error),
        None => sent,
    }
}

/// Ends when the claim does, or when nothing has moved for too long: a service that stops reading asks for no more pieces.
async fn stuck(claim: &Claim, timeout: Duration) -> Error {
    let mut seen = claim.progress().0;
    let mut since = Instant::now();
    loop {
        tokio::time::sleep(LOOK).await;
        if let Err(stop) = claim.check() {
            return stop.into();
        }
        let now = claim.progress().0;
        if now != seen {
            (seen, since) = (now, Instant::now());
        } else if since.elapsed() > timeout * PATIENCE {
            return Error::Away {
                action: "take an image's data",
                text: "nothing has moved for too long".into(),
            };
        }
    }
}
