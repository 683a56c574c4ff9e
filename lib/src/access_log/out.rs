//! Where a record is put together.

/// Bytes of each field in a record at most; together with what is written around them they are less than
/// [`super::RECORD_BYTES_MAX`].
pub(super) mod bytes_max {
    pub(in super::super) const PATH: usize = 1024;
    pub(in super::super) const METHOD: usize = 32;
    pub(in super::super) const HOST: usize = 260;
    pub(in super::super) const USER_AGENT: usize = 320;
    pub(in super::super) const X_REQUEST_ID: usize = 130;
    pub(in super::super) const MESSAGE: usize = 260;
    pub(in super::super) const TAGS: usize = 500;
    pub(in super::super) const SNI: usize = 260;
    pub(in super::super) const NAME: usize = 160;
    pub(in super::super) const SHORT: usize = 40;
}

/// What stands where something was cut off.
pub(super) const CUT: &str = "…";

/// See the module.
pub(super) struct Out<'a>(pub(super) &'a mut Vec<u8>);

impl Out<'_> {
    /// As it is.
    pub(super) fn raw(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.extend_from_slice(bytes.as_ref());
    }

    /// In decimal.
    pub(super) fn number(&mut self, mut number: u64) {
        let mut digits = [0; 20];
        let mut first = digits.len();
        loop {
            first -= 1;
            if let Some(digit) = digits.get_mut(first) {
                *digit = b'0' + u8::try_from(number % 10).unwrap_or_default();
            }
            number /= 10;
            if number == 0 {
                break;
            }
        }
        self.raw(digits.get(first..).unwrap_or_default());
    }

    /// An address with its port.
    pub(super) fn address(&mut self, address: std::net::SocketAddr) {
        match address {
            std::net::SocketAddr::V4(v4) => {
                for (nth, octet) in v4.ip().octets().into_iter().enumerate() {
                    if nth > 0 {
                        self.raw(".");
                    }
                    self.number(octet.into());
                }
            }
            std::net::SocketAddr::V6(v6) => {
                use std::io::Write as _;
                // Writing to a vector does not fail.
                let _ = write!(self.0, "[{}]", v6.ip());
            }
        }
        self.raw(":");
        self.number(address.port().into());
    }

    /// A text of somebody else's: characters that `escape` does not write are written as they are, what is not
    /// UTF-8 as U+FFFD, and never more than `bytes_max` bytes in all.
    pub(super) fn text(&mut self, text: &[u8], bytes_max: usize, escape: fn(&mut Self, char) -> bool) {
        let start = self.0.len();
        let plain = |byte: &u8| matches!(byte, b'!' | b'#'..=b'[' | b']'..=b'~');
        if text.len() <= bytes_max && text.iter().all(plain) {
            // Nothing in it means anything in any of the forms, but for what separates tags.
            return self.raw(text);
        }
        let put = |out: &mut Self, character: char| {
            let before = out.0.len();
            if !escape(out, character) {
                out.raw(character.encode_utf8(&mut [0; 4]).as_bytes());
            }
            if out.0.len() - start + CUT.len() > bytes_max {
                out.0.truncate(before);
                out.raw(CUT);
                return false;
            }
            true
        };
        for chunk in text.utf8_chunks() {
            for character in chunk.valid().chars() {
                if !put(self, character) {
                    return;
                }
            }
            if !chunk.invalid().is_empty() && !put(self, char::REPLACEMENT_CHARACTER) {
                return;
            }
        }
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
