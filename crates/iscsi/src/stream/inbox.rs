//! What has arrived on a connection and is not consumed yet.

use std::io::{self, IoSliceMut};

use tokio::io::Interest;
use tokio::net::TcpStream;

use crate::pdu::{BHS_LEN, Bhs, padding};

/// The receive buffer of a connection.
#[derive(Debug)]
pub struct Inbox {
    buf: Vec<u8>,
    start: usize,
    end: usize,
}

impl Inbox {
    /// A buffer of `size` bytes.
    pub fn new(size: usize) -> Self {
        Self { buf: vec![0; size], start: 0, end: 0 }
    }

    /// Makes the buffer larger.
    pub fn grow(&mut self, size: usize) {
        if size > self.buf.len() {
            self.buf.resize(size, 0);
        }
    }

    /// What is there.
    pub fn bytes(&self) -> &[u8] {
        &self.buf[self.start..self.end]
    }

    /// Drops the first `count` bytes.
    pub fn consume(&mut self, count: usize) {
        debug_assert!(count <= self.end - self.start, "only what is there can be consumed");
        self.start += count;
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        }
    }

    /// Moves up to `to.len()` bytes out; returns how many.
    pub fn take(&mut self, to: &mut [u8]) -> usize {
        let count = to.len().min(self.end - self.start);
        to[..count].copy_from_slice(&self.bytes()[..count]);
        self.consume(count);
        count
    }

    /// Waits for one PDU of the login phase, which has no digests, with at most `most` bytes of text.
    ///
    /// # Errors
    /// The connection is gone; `InvalidData` when there is more text.
    pub async fn login_pdu(&mut self, stream: &TcpStream, most: usize) -> io::Result<(Bhs, Vec<u8>)> {
        loop {
            if let Some(header) = self.bytes().first_chunk::<BHS_LEN>() {
                let bhs = Bhs(*header);
                let (start, len) = (BHS_LEN + bhs.ahs_len(), bhs.data_len());
                if len > most {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "too much login text"));
                }
                let whole = start + len + padding(len);
                if self.bytes().len() >= whole {
                    let data = self.bytes()[start..start + len].to_vec();
                    self.consume(whole);
                    return Ok((bhs, data));
                }
            }
            stream.readable().await?;
            self.receive(stream, &mut [])?;
        }
    }

    /// Receives what the socket has: first into `direct`, the final place of a data segment, then into the buffer.
    /// Returns how many bytes went where; `None` when there was nothing.
    ///
    /// # Errors
    /// The connection is gone; `UnexpectedEof` when the peer closed it.
    pub fn receive(&mut self, stream: &TcpStream, direct: &mut [u8]) -> io::Result<Option<usize>> {
        if self.start > 0 {
            self.buf.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        let direct_len = direct.len();
        let wanted = direct_len + self.buf.len() - self.end;
        let mut received = 0;
        let tail = &mut self.buf[self.end..];
        let outcome = stream.try_io(Interest::READABLE, || {
            let mut slices = [IoSliceMut::new(direct), IoSliceMut::new(tail)];
            let from = usize::from(direct_len == 0);
            received = rustix::io::readv(stream, &mut slices[from..])?;
            // A short read means that the socket is empty: say so, and the runtime waits for more.
            if received > 0 && received < wanted { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
        });
        match outcome {
            Ok(()) if received == 0 && wanted > 0 => Err(io::ErrorKind::UnexpectedEof.into()),
            Err(e) if e.kind() != io::ErrorKind::WouldBlock && e.kind() != io::ErrorKind::Interrupted => {
                Err(e)
            }
            _ if received == 0 => Ok(None),
            _ => {
                let placed = received.min(direct_len);
                self.end += received - placed;
                Ok(Some(placed))
            }
        }
    }
}
