//! The server's half of the NBD protocol over one connected socket: how a converter in its sandbox reaches a volume, and nothing
//! else, without any name (github.com/NetworkBlockDevice/nbd, doc/proto.md).
//!
//! Fixed newstyle negotiation, simple replies, one request at a time. The other end is another program that has read a hostile
//! image: it is not trusted either. Everything it can ask for is bounded.

use std::io;

use model::block::{Device, check_range};
use model::job::Claim;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

use crate::{Error, Result};

const MAGIC: u64 = u64::from_be_bytes(*b"NBDMAGIC");
const OPTION_MAGIC: u64 = u64::from_be_bytes(*b"IHAVEOPT");
const REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
const REQUEST_MAGIC: u32 = 0x2560_9513;
const SIMPLE_REPLY_MAGIC: u32 = 0x6744_6698;

/// Handshake flags: fixed newstyle, no zeroes after the export's flags.
const HANDSHAKE: u16 = 0b11;
const OPT_EXPORT_NAME: u32 = 1;
const OPT_ABORT: u32 = 2;
const OPT_INFO: u32 = 6;
const OPT_GO: u32 = 7;
const REP_ACK: u32 = 1;
const REP_INFO: u32 = 3;
const REP_ERR_UNSUP: u32 = 1 << 31 | 1;
const INFO_EXPORT: u16 = 0;
const INFO_BLOCK_SIZE: u16 = 3;

/// Transmission flags.
const HAS_FLAGS: u16 = 1;
const READ_ONLY: u16 = 1 << 1;
const SEND_FLUSH: u16 = 1 << 2;
const SEND_FUA: u16 = 1 << 3;
const SEND_TRIM: u16 = 1 << 5;
const SEND_WRITE_ZEROES: u16 = 1 << 6;

const CMD_READ: u16 = 0;
const CMD_WRITE: u16 = 1;
const CMD_DISCONNECT: u16 = 2;
const CMD_FLUSH: u16 = 3;
const CMD_TRIM: u16 = 4;
const CMD_WRITE_ZEROES: u16 = 6;
const FLAG_FUA: u16 = 1;

const EPERM: u32 = 1;
const EIO: u32 = 5;
const EINVAL: u32 = 22;
const ENOSPC: u32 = 28;

/// The largest read or write.
const LARGEST: u32 = 4 << 20;
/// The longest option; a name has at most 4096 bytes.
const LONGEST_OPTION: u32 = 8192;
/// Options before the volume is opened; QEMU sends four.
const MOST_OPTIONS: usize = 32;

/// What the connection may do with the volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    Read,
    Write,
}

/// One connection's service.
pub struct Served<'a> {
    pub device: &'a Device,
    /// As many bytes of the device are shown.
    pub size: u64,
    pub access: Access,
    pub claim: &'a Claim,
}

struct Request {
    flags: u16,
    command: u16,
    handle: u64,
    offset: u64,
    length: u32,
}

impl Served<'_> {
    /// Serves `stream` until its other end leaves.
    ///
    /// # Errors
    /// The first failure of the device, or the end of the claim. What the other end does wrong only ends the connection: its own
    /// ending tells more.
    pub async fn run(&self, stream: UnixStream) -> Result<()> {
        let mut stream = BufReader::with_capacity(64 << 10, stream);
        match self.negotiate(&mut stream).await {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            Err(error) => {
                tracing::debug!(%error, "the converter's connection ended while it was set up");
                return Ok(());
            }
        }
        let mut buf = Vec::new();
        loop {
            let request = match next(&mut stream).await {
                Ok(Some(request)) => request,
                Ok(None) => return Ok(()),
                Err(error) => {
                    tracing::debug!(%error, "the converter's connection broke");
                    return Ok(());
                }
            };
            self.claim.check()?;
            let done = self.answer(&mut stream, &request, &mut buf).await;
            let reply = match &done {
                Ok(Ok(())) => 0,
                Ok(Err(error)) => number(error),
                Err(_) => return Ok(()),
            };
            let data: &[u8] = if request.command == CMD_READ && reply == 0 { &buf } else { &[] };
            if send(&mut stream, reply, request.handle, data).await.is_err() {
                return Ok(());
            }
            if let Ok(Err(source)) = done
                && source.kind() != io::ErrorKind::InvalidInput
            {
                let action = if request.command == CMD_READ { "read" } else { "write" };
                return Err(Error::Device { action, source });
            }
        }
    }

    fn flags(&self) -> u16 {
        let flags = HAS_FLAGS | SEND_FLUSH | SEND_FUA | SEND_TRIM | SEND_WRITE_ZEROES;
        if self.access == Access::Read { flags | READ_ONLY } else { flags }
    }

    /// Whether the transmission phase was reached.
    async fn negotiate(&self, stream: &mut BufReader<UnixStream>) -> io::Result<bool> {
        let mut hello = Vec::with_capacity(18);
        hello.extend(MAGIC.to_be_bytes());
        hello.extend(OPTION_MAGIC.to_be_bytes());
        hello.extend(HANDSHAKE.to_be_bytes());
        stream.write_all(&hello).await?;
        stream.read_u32().await?;
        for _ in 0..MOST_OPTIONS {
            if stream.read_u64().await? != OPTION_MAGIC {
                return Err(io::ErrorKind::InvalidData.into());
            }
            let (option, length) = (stream.read_u32().await?, stream.read_u32().await?);
            if length > LONGEST_OPTION {
                return Err(io::ErrorKind::InvalidData.into());
            }
            let mut data = vec![0; length as usize];
            stream.read_exact(&mut data).await?;
            match option {
                OPT_EXPORT_NAME => {
                    let mut export = self.size.to_be_bytes().to_vec();
                    export.extend(self.flags().to_be_bytes());
                    stream.write_all(&export).await?;
                    return Ok(true);
                }
                OPT_INFO | OPT_GO => {
                    self.describe(stream, option).await?;
                    if option == OPT_GO {
                        return Ok(true);
                    }
                }
                OPT_ABORT => {
                    reply(stream, option, REP_ACK, &[]).await?;
                    return Ok(false);
                }
                _ => reply(stream, option, REP_ERR_UNSUP, &[]).await?,
            }
        }
        Err(io::ErrorKind::InvalidData.into())
    }

    async fn describe(&self, stream: &mut BufReader<UnixStream>, option: u32) -> io::Result<()> {
        let mut export = INFO_EXPORT.to_be_bytes().to_vec();
        export.extend(self.size.to_be_bytes());
        export.extend(self.flags().to_be_bytes());
        reply(stream, option, REP_INFO, &export).await?;
        let mut sizes = INFO_BLOCK_SIZE.to_be_bytes().to_vec();
        for size in [1, 4096, LARGEST] {
            sizes.extend(size.to_be_bytes());
        }
        reply(stream, option, REP_INFO, &sizes).await?;
        reply(stream, option, REP_ACK, &[]).await
    }

    /// Does what is asked; data for a read is left in `buf`. The outer failure is the connection's.
    async fn answer(
        &self,
        stream: &mut BufReader<UnixStream>,
        request: &Request,
        buf: &mut Vec<u8>,
    ) -> io::Result<io::Result<()>> {
        let writes = matches!(request.command, CMD_WRITE | CMD_TRIM | CMD_WRITE_ZEROES);
        let carries = matches!(request.command, CMD_READ | CMD_WRITE);
        if carries && request.length > LARGEST {
            return Err(io::ErrorKind::InvalidData.into());
        }
        if carries {
            buf.resize(request.length as usize, 0);
        }
        if request.command == CMD_WRITE {
            stream.read_exact(buf).await?;
        }
        if let Err(error) = check_range(request.offset, u64::from(request.length), self.size) {
            return Ok(Err(error));
        }
        if writes && self.access == Access::Read {
            return Ok(Err(io::Error::new(io::ErrorKind::InvalidInput, "the volume is open for reading")));
        }
        let (offset, length) = (request.offset, u64::from(request.length));
        let mut done = match request.command {
            CMD_READ => self.device.read(offset, buf).await,
            CMD_WRITE => self.device.write(offset, buf).await,
            CMD_FLUSH => self.device.flush().await,
            CMD_TRIM if length > 0 => self.device.discard(offset, length).await,
            CMD_WRITE_ZEROES if length > 0 => self.device.write_zeroes(offset, length).await,
            CMD_TRIM | CMD_WRITE_ZEROES => Ok(()),
            _ => Err(io::ErrorKind::InvalidInput.into()),
        };
        if writes && done.is_ok() {
            if request.flags & FLAG_FUA != 0 {
                done = self.device.flush().await;
            }
            self.claim.add_done(length);
        } else if request.command == CMD_READ && self.access == Access::Read {
            self.claim.add_done(length);
        }
        Ok(done)
    }
}

/// The next request; `None` when the other end is done.
async fn next(stream: &mut BufReader<UnixStream>) -> io::Result<Option<Request>> {
    let magic = match stream.read_u32().await {
        Ok(magic) => magic,
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    };
    if magic != REQUEST_MAGIC {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let request = Request {
        flags: stream.read_u16().await?,
        command: stream.read_u16().await?,
        handle: stream.read_u64().await?,
        offset: stream.read_u64().await?,
        length: stream.read_u32().await?,
    };
    Ok((request.command != CMD_DISCONNECT).then_some(request))
}

async fn reply(stream: &mut BufReader<UnixStream>, option: u32, kind: u32, data: &[u8]) -> io::Result<()> {
    let mut bytes = REPLY_MAGIC.to_be_bytes().to_vec();
    bytes.extend(option.to_be_bytes());
    bytes.extend(kind.to_be_bytes());
    bytes.extend((data.len() as u32).to_be_bytes());
    bytes.extend(data);
    stream.write_all(&bytes).await
}

async fn send(stream: &mut BufReader<UnixStream>, error: u32, handle: u64, data: &[u8]) -> io::Result<()> {
    let mut bytes = SIMPLE_REPLY_MAGIC.to_be_bytes().to_vec();
    bytes.extend(error.to_be_bytes());
    bytes.extend(handle.to_be_bytes());
    stream.write_all(&bytes).await?;
    stream.write_all(data).await
}

fn number(error: &io::Error) -> u32 {
    match error.kind() {
        io::ErrorKind::InvalidInput => EINVAL,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ENOSPC,
        io::ErrorKind::ReadOnlyFilesystem => EPERM,
        _ => EIO,
    }
}
