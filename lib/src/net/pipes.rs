//! The stock of pipes, for bytes that pass from socket to socket without being copied to us.
//!
//! A pipe costs two descriptors and, while bytes wait in it, kernel memory up to its size. Both are bounded:
//! there are at most so many pipes, made when they are first wanted and used again when they are empty.
//! Without a pipe bytes pass through a buffer, as they otherwise do.

use std::io;

/// Below this a pipe costs more than it saves, as far as system calls tell.
const SPLICED_BYTES_MIN: usize = 32 * 1024;

/// What goes through a pipe at a time at least, once the reader has been seen to be slow.
const WINDOW_BYTES_MIN: usize = 64 * 1024;

/// A bounded stock of empty pipes.
#[derive(Debug)]
pub struct Pipes<P> {
    free: Vec<P>,
    /// Pipes that are out, in use by a session.
    in_use: usize,
    max: usize,
    bytes: usize,
}

impl<P> Pipes<P> {
    /// At most `max` pipes of about `bytes` each.
    pub fn new(max: usize, bytes: usize) -> Self {
        Self { free: Vec::new(), in_use: 0, max, bytes }
    }

    /// An empty pipe, if there may be one more. `make` makes one of a given size.
    pub fn take(&mut self, make: impl FnOnce(usize) -> io::Result<P>) -> Option<P> {
        if self.in_use >= self.max {
            return None;
        }
        let pipe = match self.free.pop() {
            Some(pipe) => pipe,
            // Out of descriptors, most likely: a buffer serves as well.
            None => make(self.bytes).inspect_err(|error| log::debug!("pipe: {error}")).ok()?,
        };
        self.in_use += 1;
        Some(pipe)
    }

    /// Takes a pipe back; nothing may be left in it.
    pub fn give_back(&mut self, pipe: P) {
        debug_assert!(self.in_use > 0, "only what was taken comes back");
        self.in_use = self.in_use.saturating_sub(1);
        self.free.push(pipe);
    }

    /// A pipe was thrown away with what was left in it.
    pub fn lost(&mut self) {
        debug_assert!(self.in_use > 0, "only what was taken is lost");
        self.in_use = self.in_use.saturating_sub(1);
    }

    /// Closes those that nobody uses, for their descriptors. False if there is none.
    pub fn close_free(&mut self) -> bool {
        !std::mem::take(&mut self.free).is_empty()
    }

    /// Pipes in use.
    pub fn in_use(&self) -> usize {
        self.in_use
    }

    /// Bytes that a pipe may hold.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// How much goes through a pipe at a time at least.
    pub fn window_bytes_min(&self) -> usize {
        self.bytes.min(WINDOW_BYTES_MIN)
    }

    /// What is shorter than this is cheaper to copy.
    pub fn worth_bytes(&self) -> usize {
        self.bytes.min(SPLICED_BYTES_MIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_never_more_than_allowed() {
        let mut made = 0;
        let mut pipes = Pipes::new(2, 7);
        let mut take = |pipes: &mut Pipes<usize>| {
            pipes.take(|bytes| {
                made += 1;
                Ok(bytes * 10 + made)
            })
        };
        assert_eq!(take(&mut pipes), Some(71));
        assert_eq!(take(&mut pipes), Some(72));
        assert_eq!(take(&mut pipes), None);
        pipes.give_back(71);
        assert_eq!(take(&mut pipes), Some(71), "used again");
        pipes.lost();
        assert_eq!(take(&mut pipes), Some(73), "made anew");
        pipes.give_back(73);
        assert!(pipes.close_free() && !pipes.close_free());
        assert_eq!(pipes.in_use(), 1);
        assert_eq!(pipes.take(|_| Err(io::ErrorKind::Other.into())), None);
        assert_eq!(pipes.in_use(), 1);
    }
}
