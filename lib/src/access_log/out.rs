//! Where a record is put together.
//!
//! In memory of fixed size, which each record uses anew. Most texts are plain, and are looked at and copied eight bytes at a
//! time; only what is not is taken character by character.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// Bytes of each field in a record at most; together with what is written around them they are less than
/// [`super::RECORD_BYTES_MAX`].
pub(super) mod bytes_max {
    pub(in super::super) const PATH: usize = 1024;
    pub(in super::super) const METHOD: usize = 32;
    pub(in super::super) const HOST: usize = 260;
    pub(in super::super) const USER_AGENT: usize = 300;
    pub(in super::super) const X_REQUEST_ID: usize = 130;
    pub(in super::super) const MESSAGE: usize = 200;
    pub(in super::super) const TAGS: usize = 380;
    pub(in super::super) const SNI: usize = 260;
    pub(in super::super) const NAME: usize = 128;
    pub(in super::super) const X_FORWARDED_FOR: usize = 130;
    pub(in super::super) const SHORT: usize = 40;
}

/// What stands where something was cut off.
pub(super) const CUT: &str = "…";

/// Digits of the greatest `u64`.
const DIGITS_MAX: usize = 20;

/// Two digits for each number below a hundred.
static PAIRS: [[u8; 2]; 100] = pairs();

const fn pairs() -> [[u8; 2]; 100] {
    let mut pairs = [[b'0'; 2]; 100];
    let (mut tens, mut index) = (b'0', 0);
    while index < 100 {
        let mut ones = b'0';
        while ones <= b'9' {
            pairs[index] = [tens, ones];
            (ones, index) = (ones + 1, index + 1);
        }
        tens += 1;
    }
    pairs
}

/// Each byte in decimal with a point behind it, and how many bytes that is.
static OCTETS: [([u8; 4], u8); 256] = octets();

const fn octets() -> [([u8; 4], u8); 256] {
    let mut octets = [([b'.'; 4], 2); 256];
    let mut index = 0;
    while index < 256 {
        let (hundreds, [tens, ones]) = (PAIRS[index / 100][1], PAIRS[index % 100]);
        octets[index] = match index {
            0..10 => ([ones, b'.', 0, 0], 2),
            10..100 => ([tens, ones, b'.', 0], 3),
            _ => ([hundreds, tens, ones, b'.'], 4),
        };
        index += 1;
    }
    octets
}

/// Four digits.
#[inline(always)]
fn four(number: u64) -> [u8; 4] {
    let ([a, b], [c, d]) = (PAIRS[(number / 100 % 100) as usize], PAIRS[(number % 100) as usize]);
    [a, b, c, d]
}

/// How characters are written that mean something in a form.
#[derive(Debug, Clone, Copy)]
pub(super) struct Escaping {
    /// Writes what stands for a character; false if it stands for itself.
    pub(super) escape: fn(&mut Out<'_>, char) -> bool,
    /// What stands for a space.
    pub(super) space: u8,
}

/// See the module.
pub(super) struct Out<'a> {
    bytes: &'a mut [u8],
    len: usize,
}

impl<'a> Out<'a> {
    /// Writes there.
    pub(super) fn new(bytes: &'a mut [u8]) -> Self {
        Self { bytes, len: 0 }
    }

    /// Bytes written.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// What was written from there on.
    pub(super) fn written_mut(&mut self, from: usize) -> &mut [u8] {
        self.bytes.get_mut(from..self.len).unwrap_or_default()
    }

    /// As it is. What there is no room for is left out: fields are cut so that this does not happen.
    #[inline(always)]
    pub(super) fn raw(&mut self, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        let end = self.len + bytes.len();
        if let Some(place) = self.bytes.get_mut(self.len..end) {
            place.copy_from_slice(bytes);
            self.len = end;
        } else {
            debug_assert!(false, "fields are cut so that they fit together");
        }
    }

    /// The first so many of these bytes. Writes all of them, and what comes next over the others.
    #[inline(always)]
    fn first<const N: usize>(&mut self, bytes: [u8; N], count: usize) {
        match self.bytes.get_mut(self.len..).and_then(|room| room.first_chunk_mut::<N>()) {
            Some(room) => {
                *room = bytes;
                self.len += count;
            }
            None => self.raw(bytes.get(..count).unwrap_or_default()),
        }
    }

    /// In decimal.
    pub(super) fn number(&mut self, number: u64) {
        match number {
            0..10_000 => self.short_number(number),
            10_000..100_000_000 => {
                self.short_number(number / 10_000);
                self.raw(four(number % 10_000));
            }
            _ => {
                let count = number.checked_ilog10().map_or(1, |log| log as usize + 1);
                self.digits(number, count);
            }
        }
    }

    /// One of four digits at most.
    #[inline(always)]
    fn short_number(&mut self, number: u64) {
        let zeros = u32::from(number < 1_000) + u32::from(number < 100) + u32::from(number < 10);
        let digits = u32::from_le_bytes(four(number)) >> (8 * zeros);
        self.first(digits.to_le_bytes(), 4 - zeros as usize);
    }

    /// The last so many decimal digits.
    #[inline(always)]
    pub(super) fn digits(&mut self, mut number: u64, count: usize) {
        debug_assert!(count <= DIGITS_MAX);
        let end = self.len + count;
        let Some(place) = self.bytes.get_mut(self.len..end) else { return };
        self.len = end;
        let mut pairs = place.rchunks_exact_mut(2);
        for pair in &mut pairs {
            pair.copy_from_slice(&PAIRS[(number % 100) as usize]);
            number /= 100;
        }
        if let [first] = pairs.into_remainder() {
            *first = PAIRS[(number % 10) as usize][1];
        }
    }

    /// An address with its port.
    pub(super) fn address(&mut self, address: SocketAddr) {
        match address.ip() {
            IpAddr::V4(v4) => {
                for octet in v4.octets() {
                    let (digits, count) = OCTETS[usize::from(octet)];
                    self.first(digits, count.into());
                }
                // A point is there already.
                self.len -= 1;
            }
            IpAddr::V6(v6) => {
                self.raw(b"[");
                self.ipv6(v6);
                self.raw(b"]");
            }
        }
        self.raw(b":");
        self.number(address.port().into());
    }

    /// As RFC 5952 §4 has it.
    fn ipv6(&mut self, address: Ipv6Addr) {
        if address.to_ipv4_mapped().is_some() {
            // Seldom seen: dotted at its end (§5).
            let _ = fmt::Write::write_fmt(self, format_args!("{address}"));
            return;
        }
        let segments = address.segments();
        let (gap, gap_end) = longest_gap(&segments);
        for (nth, &segment) in segments.iter().enumerate() {
            if (gap..gap_end).contains(&nth) {
                if nth == gap {
                    self.raw(b"::");
                }
                continue;
            }
            if nth > 0 && nth != gap_end {
                self.raw(b":");
            }
            self.hexadecimal(segment);
        }
    }

    fn hexadecimal(&mut self, number: u16) {
        self.nibbles(number.into(), (u16::BITS - (number | 1).leading_zeros()).div_ceil(4));
    }

    /// The last so many hexadecimal digits.
    fn nibbles(&mut self, number: u128, count: u32) {
        for nth in (0..count).rev() {
            let digit = (number >> (4 * nth)) & 0xF;
            self.raw([b"0123456789abcdef".get(digit as usize).copied().unwrap_or(b'0')]);
        }
    }

    /// The name of a trace (W3C Trace Context §3.2.2).
    pub(super) fn trace_id(&mut self, id: u128) {
        self.nibbles(id, 32);
    }

    /// The name of a span.
    pub(super) fn span_id(&mut self, id: u64) {
        self.nibbles(id.into(), 16);
    }

    /// A text of somebody else's: characters that the form does not escape are written as they are, what is not
    /// UTF-8 as U+FFFD, and never more than `bytes_max` bytes in all.
    pub(super) fn text(&mut self, text: &[u8], bytes_max: usize, escaping: &Escaping) {
        let start = self.len;
        let uncut = bytes_max.saturating_sub(CUT.len());
        // One that fits as it is may use all of its room; where something is to be cut, there has to be room to tell so.
        let limit = start + if text.len() <= bytes_max { bytes_max } else { uncut };
        let mut rest = text;
        loop {
            while let Some((eight, behind)) = rest.split_first_chunk::<8>()
                && self.len + 8 <= limit
                && let Some(eight) = plain(*eight, escaping.space)
            {
                self.first(eight, 8);
                rest = behind;
            }
            if self.len + rest.len() <= limit
                && let Some(few) = padded(rest)
                && let Some(few) = plain(few, escaping.space)
            {
                return self.first(few, rest.len());
            }
            let Some((&byte, behind)) = rest.split_first() else { return };
            if is_plain(byte) && self.len < limit {
                self.raw([if byte == b' ' { escaping.space } else { byte }]);
                rest = behind;
                continue;
            }
            let (character, length) = first_character(rest);
            let before = self.len;
            if !(escaping.escape)(self, character) {
                self.raw(character.encode_utf8(&mut [0; 4]).as_bytes());
            }
            if self.len - start > uncut {
                // Beyond that bound there are plain bytes alone, each a character.
                self.len = before.min(start + uncut);
                self.raw(CUT);
                return;
            }
            rest = rest.get(length..).unwrap_or_default();
        }
    }
}

impl fmt::Write for Out<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.raw(text);
        Ok(())
    }
}

/// The first of the longest rows of zeros, of two at least (RFC 5952 §4.2): where it begins and ends.
fn longest_gap(segments: &[u16; 8]) -> (usize, usize) {
    let (mut best, mut begin) = ((0, 0), None);
    for nth in 0..=segments.len() {
        match (segments.get(nth), begin) {
            (Some(0), None) => begin = Some(nth),
            (Some(0), Some(_)) | (_, None) => {}
            (_, Some(from)) => {
                if nth - from > (best.1 - best.0).max(1) {
                    best = (from, nth);
                }
                begin = None;
            }
        }
    }
    if best == (0, 0) { (usize::MAX, usize::MAX) } else { best }
}

/// Whether a byte is a character that means nothing in any of the forms; a space may, and has something that stands for it.
fn is_plain(byte: u8) -> bool {
    matches!(byte, b' ' | b'!' | b'#'..=b'[' | b']'..=b'~')
}

/// The same of eight bytes at once: as they are to be written, if all are plain. May also say none where the first that is
/// not plain is followed by something else.
#[inline(always)]
fn plain(eight: [u8; 8], space: u8) -> Option<[u8; 8]> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x80 * ONES;
    let word = u64::from_le_bytes(eight);
    // The high bit of each byte that is zero, and of some above one that is.
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word;
    let of = |byte: u8| word ^ (u64::from(byte) * ONES);
    let below = word.wrapping_sub(0x20 * ONES);
    let odd = word | below | zeros(of(b'"')) | zeros(of(b'\\')) | zeros(of(0x7F));
    if odd & HIGH != 0 {
        return None;
    }
    if space == b' ' {
        return Some(eight);
    }
    // Bytes below 0x80 without carries between them: 0x80 where there is a space.
    let spaces = !(of(b' ') + 0x7F * ONES) & HIGH;
    let change = (spaces >> 7) * u64::from(b' ' ^ space);
    Some((word ^ change).to_le_bytes())
}

/// Less than eight bytes, with others behind them that are plain.
#[inline(always)]
fn padded(text: &[u8]) -> Option<[u8; 8]> {
    const PAD: u64 = u64::from_le_bytes([b'a'; 8]);
    let word = match (text.first_chunk::<4>(), text.last_chunk::<4>(), text) {
        (_, _, [_, _, _, _, _, _, _, _, ..]) => return None,
        // The same bytes come to lie on each other.
        (Some(first), Some(last), _) => {
            let last = u64::from(u32::from_le_bytes(*last));
            u64::from(u32::from_le_bytes(*first)) | last << (8 * (text.len() - 4))
        }
        (_, _, [a, b, c]) => u64::from_le_bytes([*a, *b, *c, 0, 0, 0, 0, 0]),
        (_, _, [a, b]) => u64::from_le_bytes([*a, *b, 0, 0, 0, 0, 0, 0]),
        (_, _, [a]) => u64::from(*a),
        _ => 0,
    };
    Some((word | PAD << (8 * text.len())).to_le_bytes())
}

/// The first character, and how many bytes it takes; U+FFFD for what is none.
fn first_character(text: &[u8]) -> (char, usize) {
    let window = text.get(..8).unwrap_or(text);
    let Some(chunk) = window.utf8_chunks().next() else { return (char::REPLACEMENT_CHARACTER, 1) };
    match chunk.valid().chars().next() {
        Some(character) => (character, character.len_utf8()),
        None => (char::REPLACEMENT_CHARACTER, chunk.invalid().len().max(1)),
    }
}

/// What a terminal or a reader by lines could take for more than a character: C0, DEL, C1, and the separators and
/// directions of Unicode.
pub(super) fn is_control(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{2028}' | '\u{2029}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

/// `\u{1b}` and the like.
pub(super) fn escape_control(out: &mut Out<'_>, character: char) -> bool {
    if is_control(character) || character == '\\' {
        for escaped in character.escape_default() {
            out.raw(escaped.encode_utf8(&mut [0; 4]));
        }
        return true;
    }
    false
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LINE: Escaping = Escaping { escape: escape_control, space: b' ' };
    const WORD: Escaping = Escaping { escape: escape_control, space: b'_' };

    fn written(write: impl FnOnce(&mut Out<'_>)) -> String {
        let mut room = [0; 8192];
        let mut out = Out::new(&mut room);
        write(&mut out);
        String::from_utf8(out.written_mut(0).to_vec()).unwrap()
    }

    /// The same, one character after the other.
    fn slowly(text: &[u8], bytes_max: usize, escaping: &Escaping) -> String {
        let mut all = String::new();
        let mut pieces = Vec::new();
        for character in String::from_utf8_lossy(text).chars() {
            pieces.push(written(|out| {
                let character = if character == ' ' { char::from(escaping.space) } else { character };
                if !escape_control(out, character) {
                    out.raw(character.encode_utf8(&mut [0; 4]).as_bytes());
                }
            }));
        }
        let uncut = bytes_max - CUT.len();
        let odd_end = pieces.iter().scan(0, |end, piece| {
            *end += piece.len();
            Some(if matches!(piece.as_bytes(), [byte] if is_plain(*byte)) { 0 } else { *end })
        });
        if pieces.concat().len() <= bytes_max && odd_end.max().unwrap_or(0) <= uncut {
            return pieces.concat();
        }
        for piece in pieces {
            if all.len() + piece.len() > uncut {
                return all + CUT;
            }
            all.push_str(&piece);
        }
        all
    }

    #[test]
    fn ends_of_what_is_plain() {
        for byte in 0..=u8::MAX {
            for place in 0..8 {
                let mut eight = *b"abcdefgh";
                eight[place] = byte;
                let expected = eight.map(|it| if it == b' ' { b'_' } else { it });
                assert_eq!(plain(eight, b'_'), is_plain(byte).then_some(expected), "{byte:#x} at {place}");
                assert_eq!(plain(eight, b' '), is_plain(byte).then_some(eight), "{byte:#x} at {place}");
            }
        }
        assert_eq!(plain(*b"  a    b", b'_'), Some(*b"__a____b"));
        for count in 0..8 {
            let text = b"1234567".get(..count).unwrap();
            assert_eq!(padded(text), Some([text, &b"aaaaaaaa"[count..]].concat().try_into().unwrap()));
        }
        assert_eq!(padded(b"12345678"), None);
    }

    proptest! {
        #[test]
        fn numbers_are_decimal(number: u64, shift in 0u32..64) {
            let number = number >> shift;
            prop_assert_eq!(written(|out| out.number(number)), number.to_string());
        }

        #[test]
        fn addresses_are_as_everybody_writes_them(v6: bool, bits: u128, mask: u8, port: u16) {
            let address: IpAddr = if v6 {
                let keep = |nth: usize| mask >> nth & 1 == 1;
                let segments = Ipv6Addr::from(bits).segments();
                let segment = |nth: usize| if keep(nth) { segments[nth] >> (nth % 3 * 5) } else { 0 };
                IpAddr::V6(std::array::from_fn::<u16, 8, _>(segment).into())
            } else {
                IpAddr::V4(u32::try_from(bits & 0xFFFF_FFFF).unwrap().into())
            };
            let address = SocketAddr::new(address, port);
            prop_assert_eq!(written(|out| out.address(address)), address.to_string());
        }

        /// Eight at a time or one by one, the same is written, but for where it is cut: never beyond the bound, and
        /// nothing is lost before it.
        #[test]
        fn texts_are_what_they_are_one_by_one(
            pieces in proptest::collection::vec(
                prop_oneof![
                    "[ -~]{0,40}", "[a-z /?=&]{0,60}", "\\PC{0,5}", "[\u{0}-\u{20}\"\\\\é…\u{2028}]{0,4}",
                ], 0..6),
            noise in proptest::collection::vec(any::<u8>(), 0..4),
            bytes_max in 8usize..200,
            word: bool,
        ) {
            let escaping = if word { WORD } else { LINE };
            let text = [pieces.concat().as_bytes(), &noise, b"end"].concat();
            let fast = written(|out| { out.raw(b"x"); out.text(&text, bytes_max, &escaping) });
            let fast = fast.strip_prefix('x').unwrap();
            let slow = slowly(&text, bytes_max, &escaping);
            prop_assert!(fast.len() <= bytes_max);
            prop_assert_eq!(fast, slow);
        }
    }

    #[test]
    fn what_is_not_utf_8_is_told() {
        assert_eq!(written(|out| out.text(b"a\xFFb\xE2\x82", 40, &LINE)), "a\u{FFFD}b\u{FFFD}");
        assert_eq!(written(|out| out.text("12345678é90".as_bytes(), 40, &LINE)), "12345678é90");
        assert_eq!(written(|out| out.address("[::ffff:1.2.3.4]:5".parse().unwrap())), "[::ffff:1.2.3.4]:5");
    }
}
