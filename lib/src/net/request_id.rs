//! Request ids: ULIDs, which sort by time and need no agreement between workers.
//!
//! A ULID is 128 bits, 48 of Unix time in milliseconds and 80 of randomness, written as 26 characters of
//! Crockford's base 32 (<https://github.com/ulid/spec>). Ids of one generator only ever rise, also within
//! a millisecond and when the clock is set back. They are names, not secrets: the generator is not a
//! cryptographic one, and a neighbour of a known id can be guessed.
//!
//! Read [`RequestIds`] first.

use std::fmt;

/// Crockford's alphabet: no I, L, O, U.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// Characters of an id.
pub const REQUEST_ID_BYTES: usize = 26;

/// Random bits below the time.
const RANDOM_BITS: u32 = 80;

/// Milliseconds that fit into an id: until the year 10889.
const UNIX_MS_MAX: u64 = (1 << 48) - 1;

/// Bits one character carries.
const CHARACTER_BITS: u32 = 5;

/// Characters of the time.
const TIME_CHARACTERS: usize = 10;

/// Characters of a half of what is random, and its bits.
const HALF_CHARACTERS: usize = 8;
const HALF_BITS: u32 = 40;

/// What each character of the alphabet stands for.
static DIGITS: [u8; 256] = digits();

const fn digits() -> [u8; 256] {
    let mut digits = [0; 256];
    let (mut index, mut digit) = (0, 0);
    while index < ALPHABET.len() {
        digits[ALPHABET[index] as usize] = digit;
        (index, digit) = (index + 1, digit + 1);
    }
    digits
}

/// Makes request ids. One per worker, seeded from the kernel's randomness.
#[derive(Debug)]
pub struct RequestIds {
    random: Pcg,
    /// The latest id, time on top.
    last: u128,
    /// The same as text.
    text: RequestId,
}

impl RequestIds {
    /// A generator; equal seeds give equal ids, so each worker needs its own.
    pub fn new(seed: u128) -> Self {
        Self { random: Pcg::new(seed), last: 0, text: RequestId::NONE }
    }

    /// The next id, greater than all before it. `unix_ms` is wall time, cut to 48 bits' worth.
    ///
    /// The first id of a millisecond is random, the following ones count on from it: that is cheaper
    /// than new randomness and is what makes them rise. A clock set back is ignored in the same way.
    pub fn next(&mut self, unix_ms: u64) -> RequestId {
        let unix_ms = unix_ms.min(UNIX_MS_MAX);
        if u128::from(unix_ms) > self.last >> RANDOM_BITS {
            self.last = (u128::from(unix_ms) << RANDOM_BITS) | self.random.next_bits(RANDOM_BITS);
            self.text = RequestId::from_bits(self.last);
            return self.text;
        }
        // A full random part carries into the time, which keeps the order. All ones in both is out of reach:
        // it would take 2^80 ids after the year 10889.
        self.last = self.last.wrapping_add(1);
        // Of 32 ids that follow each other all but one differ in the last character alone.
        let digit = (self.last & 0x1F) as usize;
        if digit == 0 {
            self.text = RequestId::from_bits(self.last);
        } else {
            self.text.0[REQUEST_ID_BYTES - 1] = ALPHABET[digit];
        }
        self.text
    }
}

/// The name of one request: 26 characters, digits and capitals.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId([u8; REQUEST_ID_BYTES]);

impl RequestId {
    /// The name of no request.
    pub const NONE: RequestId = RequestId([b'0'; REQUEST_ID_BYTES]);

    /// The id that these 128 bits are.
    pub fn from_bits(bits: u128) -> Self {
        let mut text = [0; REQUEST_ID_BYTES];
        // Words of 64 bits are several times as fast as those of 128: the time, and both halves of what is random.
        let (time, random) = text.split_at_mut(TIME_CHARACTERS);
        let (upper, lower) = random.split_at_mut(HALF_CHARACTERS);
        for (place, shift) in [(time, RANDOM_BITS), (upper, HALF_BITS), (lower, 0)] {
            let mut rest = u64::try_from((bits >> shift) & u128::from(UNIX_MS_MAX)).unwrap_or_default();
            for character in place.iter_mut().rev() {
                *character = ALPHABET[(rest & 0x1F) as usize];
                rest >>= CHARACTER_BITS;
            }
        }
        Self(text)
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        // Never the default: every byte is from ALPHABET.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The 128 bits that the text stands for.
    pub fn to_bits(&self) -> u128 {
        let (time, random) = self.0.split_at(TIME_CHARACTERS);
        let (upper, lower) = random.split_at(HALF_CHARACTERS);
        let word = |text: &[u8]| {
            let bits = text.iter().fold(0_u64, |bits, &character| {
                (bits << CHARACTER_BITS) | u64::from(DIGITS[usize::from(character)])
            });
            u128::from(bits)
        };
        word(time) << RANDOM_BITS | word(upper) << HALF_BITS | word(lower)
    }

    /// The id as ASCII bytes.
    pub fn as_bytes(&self) -> &[u8; REQUEST_ID_BYTES] {
        &self.0
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// PCG XSL RR 128/64 (O'Neill 2014): a 128-bit state, so that workers seeded at random do not meet.
#[derive(Debug)]
struct Pcg(u128);

impl Pcg {
    const MULTIPLIER: u128 = 0x2360_ED05_1FC6_5DA4_4385_DF64_9FCC_F645;
    const INCREMENT: u128 = 0x5851_F42D_4C95_7F2D_1405_7B7E_F767_814F;

    fn new(seed: u128) -> Self {
        let mut generator = Self(seed.wrapping_add(Self::INCREMENT));
        generator.next_u64();
        generator
    }

    fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(Self::MULTIPLIER).wrapping_add(Self::INCREMENT);
        let high = self.0 >> 64;
        let folded = (high ^ self.0) & u128::from(u64::MAX);
        // Both fit: `folded` was masked to 64 bits, the rotation is the state's top six bits.
        u64::try_from(folded)
            .unwrap_or_default()
            .rotate_right(u32::try_from(self.0 >> 122).unwrap_or_default())
    }

    /// The given number of random bits, at most 128.
    fn next_bits(&mut self, bits: u32) -> u128 {
        let random = (u128::from(self.next_u64()) << 64) | u128::from(self.next_u64());
        random >> (128 - bits)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn text_is_crockford_base_32() {
        let check = |bits: u128, text: &str| assert_eq!(RequestId::from_bits(bits).as_str(), text);
        check(0, "00000000000000000000000000");
        check(1, "00000000000000000000000001");
        check(31, "0000000000000000000000000Z");
        check(32, "00000000000000000000000010");
        assert_eq!(RequestId::from_bits(1 << 127 | 77).to_bits(), 1 << 127 | 77);
        check(u128::MAX, "7ZZZZZZZZZZZZZZZZZZZZZZZZZ");
        // The specification's example time, with the random part at zero.
        check(1_469_918_176_385 << RANDOM_BITS, "01ARYZ6S410000000000000000");
    }

    #[test]
    fn time_comes_first_and_is_cut_to_its_bits() {
        let mut ids = RequestIds::new(7);
        assert!(ids.next(1_469_918_176_385).as_str().starts_with("01ARYZ6S41"));
        assert!(ids.next(u64::MAX).as_str().starts_with("7ZZZZZZZZZ"));
    }

    #[test]
    fn seeds_tell_workers_apart() {
        let first = |seed| RequestIds::new(seed).next(1_000);
        assert_ne!(first(1), first(2));
        assert_ne!(first(1), first(1 << 64));
        assert_eq!(first(3), first(3));
    }

    #[test]
    fn a_full_random_part_carries_into_the_time() {
        let mut ids = RequestIds::new(0);
        let before = ids.next(5);
        ids.last = (6 << RANDOM_BITS) - 1;
        ids.text = RequestId::from_bits(ids.last);
        let after = ids.next(5);
        assert!(after > before);
        assert_eq!(after.to_bits(), 6 << RANDOM_BITS);
        assert!(ids.next(6) > after);
    }

    proptest! {
        #[test]
        fn text_reads_back(bits: u128) {
            let id = RequestId::from_bits(bits);
            prop_assert_eq!(id.to_bits(), bits);
            let mut rest = bits;
            for &character in id.as_bytes().iter().rev() {
                prop_assert_eq!(character, ALPHABET[(rest & 0x1F) as usize]);
                rest >>= CHARACTER_BITS;
            }
        }

        /// Ids rise whatever the clock does, as numbers and as text, and show the highest time seen.
        #[test]
        fn ids_only_rise(seed: u128, times in proptest::collection::vec(1u64..2_000, 1..200)) {
            let mut ids = RequestIds::new(seed);
            let mut last: Option<RequestId> = None;
            let mut latest_ms = 0;
            for unix_ms in times {
                let id = ids.next(unix_ms);
                latest_ms = latest_ms.max(unix_ms);
                if let Some(last) = last {
                    prop_assert!(id.as_str() > last.as_str());
                    prop_assert!(id.to_bits() > last.to_bits());
                }
                prop_assert_eq!(id.to_bits() >> RANDOM_BITS, u128::from(latest_ms));
                last = Some(id);
            }
        }
    }
}
