//! The host of a request, ready to be compared.

use kakehi_command::order::HOST_BYTES_MAX;

/// A host in lower case (RFC 9110 §4.2.3), on the stack.
pub(super) struct Host {
    bytes: [u8; HOST_BYTES_MAX],
    len: usize,
}

impl Host {
    /// A host as it came. One longer than any name becomes empty, which no pattern but `*` matches.
    pub(super) fn new(host: &[u8]) -> Self {
        let mut bytes = [0; HOST_BYTES_MAX];
        let len = match bytes.get_mut(..host.len()) {
            Some(lower) => {
                lower.copy_from_slice(host);
                lower.make_ascii_lowercase();
                host.len()
            }
            None => 0,
        };
        Self { bytes, len }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// What is left without the first label, if that is a label at all: what a wildcard stands before.
    pub(super) fn parent(&self) -> Option<&[u8]> {
        let host = self.as_bytes();
        let dot = memchr::memchr(b'.', host).filter(|&dot| dot > 0)?;
        host.get(dot + 1..)
    }

    /// Every suffix that begins after a dot, the longest first, and at last the empty one.
    pub(super) fn suffixes(&self) -> impl Iterator<Item = &[u8]> {
        let host = self.as_bytes();
        memchr::memchr_iter(b'.', host).filter_map(|dot| host.get(dot + 1..)).chain([&b""[..]])
    }

    /// The labels, left to right.
    pub(super) fn labels(&self) -> impl Iterator<Item = &[u8]> {
        self.as_bytes().split(|&byte| byte == b'.')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_and_suffixes() {
        let check = |host: &str, parent: Option<&str>, suffixes: &[&str]| {
            let host = Host::new(host.as_bytes());
            assert_eq!(host.parent(), parent.map(str::as_bytes));
            assert!(host.suffixes().eq(suffixes.iter().map(|suffix| suffix.as_bytes())));
        };
        check("A.Example.COM", Some("example.com"), &["example.com", "com", ""]);
        check("localhost", None, &[""]);
        check(".com", None, &["com", ""]);
        check("com.", Some(""), &["", ""]);
        check("", None, &[""]);
        check(&"a".repeat(254), None, &[""]);
    }

    #[test]
    fn the_longest_name_fits() {
        assert_eq!(Host::new(&[b'A'; 253]).as_bytes(), [b'a'; 253]);
        assert_eq!(Host::new(&[b'A'; 254]).as_bytes(), b"");
    }
}
