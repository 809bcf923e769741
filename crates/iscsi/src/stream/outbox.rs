//! What waits to be sent on a connection. PDUs are appended as complete bytes, headers and all, and leave in batches: one
//! `writev` for everything that is there.

use std::collections::VecDeque;
use std::io::{self, IoSlice};

use tokio::io::Interest;
use tokio::net::TcpStream;

use super::buffer::Pool;

/// At most so many pieces go into one system call.
const PIECES_MAX: usize = 64;

/// A buffer that several small PDUs share.
const SMALL: usize = 4096;

#[derive(Debug)]
struct Piece {
    buf: Vec<u8>,
    start: usize,
    end: usize,
    /// Small PDUs may be appended.
    open: bool,
}

/// The queue.
#[derive(Debug, Default)]
pub struct Outbox {
    pieces: VecDeque<Piece>,
    bytes: usize,
}

impl Outbox {
    /// Bytes that wait.
    pub const fn len(&self) -> usize {
        self.bytes
    }

    /// Whether nothing waits.
    pub const fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Appends the first `len` bytes of a buffer.
    pub fn push(&mut self, buf: Vec<u8>, len: usize) {
        if let Some(last) = self.pieces.back_mut() {
            last.open = false;
        }
        self.bytes += len;
        self.pieces.push_back(Piece { buf, start: 0, end: len, open: false });
    }

    /// Room for a small PDU of `len` bytes at the end; the caller fills all of it.
    pub fn append(&mut self, len: usize, pool: &mut Pool) -> &mut [u8] {
        let fits = self.pieces.back().is_some_and(|last| last.open && last.buf.len() - last.end >= len);
        if !fits {
            let buf = pool.take(len.max(SMALL));
            self.pieces.push_back(Piece { buf, start: 0, end: 0, open: true });
        }
        self.bytes += len;
        let last = self.pieces.back_mut().expect("a piece was pushed just now when there was none");
        let at = last.end;
        last.end += len;
        &mut last.buf[at..at + len]
    }

    /// Sends what the socket takes now; buffers that are done go back to the pool.
    ///
    /// # Errors
    /// The connection is gone. A socket that takes no more is no error.
    pub fn send(&mut self, stream: &TcpStream, pool: &mut Pool) -> io::Result<usize> {
        let mut total = 0;
        while self.bytes > 0 {
            let mut slices = [IoSlice::new(&[]); PIECES_MAX];
            let mut wanted = 0;
            let mut count = 0;
            for (slice, piece) in slices.iter_mut().zip(&self.pieces) {
                *slice = IoSlice::new(&piece.buf[piece.start..piece.end]);
                wanted += piece.end - piece.start;
                count += 1;
            }
            let mut sent = 0;
            let outcome = stream.try_io(Interest::WRITABLE, || {
                sent = rustix::io::writev(stream, &slices[..count])?;
                // A short write means that the socket is full: say so, and the runtime waits for room.
                if sent < wanted { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
            });
            self.sent(sent, pool);
            total += sent;
            match outcome {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(total),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(total)
    }

    fn sent(&mut self, mut count: usize, pool: &mut Pool) {
        self.bytes -= count;
        while count > 0 {
            let Some(front) = self.pieces.front_mut() else { return };
            let here = count.min(front.end - front.start);
            front.start += here;
            count -= here;
            if front.start == front.end
                && let Some(piece) = self.pieces.pop_front()
            {
                pool.put(piece.buf);
            }
        }
    }
}
