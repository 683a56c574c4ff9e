//! Content that is large, reproducible from a seed, and never held in memory at once.

use sha2::{Digest, Sha256};

/// A stream of pseudo-random bytes, the same for the same seed (xorshift64*).
#[derive(Clone, Debug)]
pub struct SeededContent {
    state: u64,
}

impl SeededContent {
    /// The stream of `seed`.
    pub fn new(seed: u64) -> Self {
        SeededContent { state: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1 }
    }

    /// Fills `out` with the stream's next bytes. A stream is read in pieces of whole words, so that
    /// the pieces' sizes do not matter: `out` must be a multiple of eight bytes long.
    pub fn fill(&mut self, out: &mut [u8]) {
        assert_eq!(out.len() % 8, 0, "seeded content comes in words");
        for word in out.chunks_exact_mut(8) {
            self.state ^= self.state >> 12;
            self.state ^= self.state << 25;
            self.state ^= self.state >> 27;
            word.copy_from_slice(&self.state.wrapping_mul(0x2545_F491_4F6C_DD1D).to_le_bytes());
        }
    }

    /// The stream's first `len` bytes (a multiple of eight), as a vector: for small contents.
    pub fn bytes(seed: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        SeededContent::new(seed).fill(&mut bytes);
        bytes
    }

    /// SHA-256 of the stream's first `len` bytes (a multiple of eight).
    pub fn digest(seed: u64, len: u64) -> String {
        let mut stream = SeededContent::new(seed);
        let mut hasher = Hasher::default();
        let mut piece = vec![0; 64 * 1024];
        let mut left = len;
        while left > 0 {
            let count = left.min(64 * 1024);
            let slice = &mut piece[..usize::try_from(count).expect("at most 64 KiB")];
            stream.fill(slice);
            hasher.update(slice);
            left -= count;
        }
        hasher.finish()
    }
}

/// SHA-256 of what flows by, with its length.
#[derive(Clone, Default, Debug)]
pub struct Hasher {
    sha256: Sha256,
    length: u64,
}

impl Hasher {
    /// Takes the next bytes in.
    pub fn update(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        self.length += bytes.len() as u64;
    }

    /// Bytes taken in so far.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Lower-case hex of everything taken in.
    pub fn finish(self) -> String {
        self.sha256.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_any_size_give_the_same_stream() {
        let whole = SeededContent::bytes(7, 4096);
        let mut stream = SeededContent::new(7);
        let mut pieces = vec![0; 4096];
        let (first, second) = pieces.split_at_mut(1000);
        stream.fill(first);
        stream.fill(second);
        assert_eq!(whole, pieces);
        assert_ne!(whole, SeededContent::bytes(8, 4096));
    }

    #[test]
    fn digest_is_that_of_the_bytes() {
        let mut hasher = Hasher::default();
        hasher.update(&SeededContent::bytes(3, 100_000));
        assert_eq!(hasher.length(), 100_000);
        assert_eq!(hasher.finish(), SeededContent::digest(3, 100_000));
    }
}
