//! Classes of bytes, and how many bytes at the start of a text belong to one: sixteen are asked at once.
//!
//! Most of what reading a head costs is this question. NUL is in no class: it stands for what is behind
//! the end of a text.

use wide::u8x16;

const BLOCK_BYTES: usize = 16;

/// Letters, digits and the hyphen: all that common field names have of `tchar` (RFC 9110 §5.6.2).
#[inline(always)]
pub(super) fn plain_name_bytes(text: &[u8]) -> usize {
    span(text, |block| !(alphanumeric(block) | equal(block, b'-')))
}

/// What a field value may hold (RFC 9110 §5.5): no control character but the tab; obs-text is included.
#[inline(always)]
pub(super) fn value_bytes(text: &[u8]) -> usize {
    span(text, |block| {
        let visible = !between(block, 0, 0x1f) | equal(block, b'\t');
        !visible | equal(block, 0x7f)
    })
}

/// Printable ASCII but for the space and `#`: what a request target may hold.
#[inline(always)]
pub(super) fn target_bytes(text: &[u8]) -> usize {
    span(text, |block| !between(block, b'!', b'~') | equal(block, b'#'))
}

/// Letters, digits, the hyphen and the dot: all that common host names have of `reg-name` (RFC 3986 §3.2.2).
#[inline(always)]
pub(super) fn plain_host_bytes(text: &[u8]) -> usize {
    // The dot follows the hyphen.
    span(text, |block| !(alphanumeric(block) | between(block, b'-', b'.')))
}

/// Bytes before the first one for which `outside` has ones.
#[inline(always)]
fn span(text: &[u8], outside: impl Fn(u8x16) -> u8x16) -> usize {
    let mut at = 0;
    let mut rest = text;
    loop {
        let stops = outside(load(rest)).to_bitmask();
        if stops != 0 {
            return at + stops.trailing_zeros() as usize;
        }
        at += BLOCK_BYTES;
        rest = rest.get(BLOCK_BYTES..).unwrap_or_default();
    }
}

#[inline(always)]
fn equal(block: u8x16, byte: u8) -> u8x16 {
    block.simd_eq(u8x16::splat(byte))
}

/// Both ends included. What the smaller one of two bytes equals is not the greater one.
#[inline(always)]
fn between(block: u8x16, first: u8, last: u8) -> u8x16 {
    let offset = block - u8x16::splat(first);
    offset.min(u8x16::splat(last - first)).simd_eq(offset)
}

#[inline(always)]
fn alphanumeric(block: u8x16) -> u8x16 {
    between(block | u8x16::splat(0x20), b'a', b'z') | between(block, b'0', b'9')
}

/// The first bytes of a text, NUL where it has no more.
#[inline(always)]
fn load(text: &[u8]) -> u8x16 {
    match text.first_chunk::<BLOCK_BYTES>() {
        Some(chunk) => u8x16::new(*chunk),
        None => u8x16::new(short(text).to_le_bytes()),
    }
}

/// Reads the first and the last bytes, which overlap unless there are just as many.
fn short(text: &[u8]) -> u128 {
    if let (Some(first), Some(last)) = (text.first_chunk(), text.last_chunk()) {
        let (first, last) = (u64::from_le_bytes(*first), u64::from_le_bytes(*last));
        return u128::from(first) | u128::from(last) << (8 * (text.len() - 8));
    }
    if let (Some(first), Some(last)) = (text.first_chunk(), text.last_chunk()) {
        let (first, last) = (u32::from_le_bytes(*first), u32::from_le_bytes(*last));
        return u128::from(u64::from(first) | u64::from(last) << (8 * (text.len() - 4)));
    }
    text.iter().rev().fold(0, |word, &byte| word << 8 | u128::from(byte))
}

/// `tchar` (RFC 9110 §5.6.2).
#[inline(always)]
pub(super) fn is_token_byte(byte: u8) -> bool {
    const TOKEN: [bool; 256] = {
        let mut table = [false; 256];
        let mut byte = 0;
        while byte < 128u8 {
            table[byte as usize] = byte.is_ascii_alphanumeric();
            byte += 1;
        }
        let others = b"!#$%&'*+-.^_`|~";
        let mut at = 0;
        while at < others.len() {
            table[others[at] as usize] = true;
            at += 1;
        }
        table
    };
    TOKEN[usize::from(byte)]
}

/// A byte that a field value may hold (RFC 9110 §5.5), obs-text included.
pub(super) fn is_value_byte(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_told_at_every_place() {
        let check = |span: fn(&[u8]) -> usize, inside: &dyn Fn(u8) -> bool| {
            for (byte, place) in
                (0..=255).flat_map(|byte| (0..2 * BLOCK_BYTES).map(move |place| (byte, place)))
            {
                for behind in [0, 1, 20] {
                    let mut text = vec![b'a'; place + 1 + behind];
                    text[place] = byte;
                    let expected = if inside(byte) { text.len() } else { place };
                    assert_eq!(span(&text), expected, "{byte:#x} at {place}, {behind} bytes behind it");
                }
            }
        };
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        check(plain_name_bytes, &plain);
        check(plain_host_bytes, &|byte| plain(byte) || byte == b'.');
        check(target_bytes, &|byte| byte.is_ascii_graphic() && byte != b'#');
        check(value_bytes, &is_value_byte);
    }

    #[test]
    fn token_bytes_are_those_of_the_rfc() {
        let token: String = (0..=127u8).filter(|&byte| is_token_byte(byte)).map(char::from).collect();
        let expected = "!#$%&'*+-.0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ^_`abcdefghijklmnopqrstuvwxyz|~";
        assert_eq!(token, expected);
        assert!((128..=255u8).all(|byte| !is_token_byte(byte)));
    }
}
