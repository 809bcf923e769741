//! Buffers of a connection, used over and over.
//!
//! A buffer keeps its size class's length and, when it is used again, its old content: whoever takes one overwrites
//! every byte that it later sends.

/// Room for headers, padding and digests beside a power of two of data.
const SLACK: usize = 512;

/// Data bytes of each size class, and how many spare buffers of it are kept.
const CLASSES: [(usize, usize); 5] =
    [(4 << 10, 128), (16 << 10, 32), (64 << 10, 16), (256 << 10, 8), (1 << 20, 4)];

/// The spare buffers of a connection, and how much it has in use.
#[derive(Debug, Default)]
pub struct Pool {
    spare: [Vec<Vec<u8>>; CLASSES.len()],
    in_use: usize,
}

impl Pool {
    fn class_for(len: usize) -> Option<usize> {
        CLASSES.iter().position(|(size, _)| len <= size + SLACK)
    }

    /// A buffer of at least `len` bytes; what is in it is arbitrary.
    pub fn take(&mut self, len: usize) -> Vec<u8> {
        let buf = match Self::class_for(len) {
            Some(class) => self.spare[class].pop().unwrap_or_else(|| vec![0; CLASSES[class].0 + SLACK]),
            None => vec![0; len],
        };
        self.in_use += buf.len();
        buf
    }

    /// Gives a buffer back.
    pub fn put(&mut self, buf: Vec<u8>) {
        self.in_use = self.in_use.saturating_sub(buf.len());
        if let Some(class) = Self::class_for(buf.len())
            && buf.len() == CLASSES[class].0 + SLACK
            && self.spare[class].len() < CLASSES[class].1
        {
            self.spare[class].push(buf);
        }
    }

    /// Bytes of the buffers that are out.
    pub const fn in_use(&self) -> usize {
        self.in_use
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_used_again_and_counted() {
        let mut pool = Pool::default();
        let first = pool.take(4096 + 60);
        let place = first.as_ptr();
        assert_eq!(pool.in_use(), first.len());
        pool.put(first);
        assert_eq!(pool.in_use(), 0);
        let again = pool.take(100);
        assert_eq!(again.as_ptr(), place);
        let huge = pool.take(9 << 20);
        assert!(huge.len() >= 9 << 20);
        pool.put(huge);
    }
}
