//! PEM (RFC 7468): sections of base64 between two lines. What is outside of them is a comment.
//!
//! Of our own so that nothing of a private key stays behind: each buffer is wiped.

use base64::{Engine, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

const BEGIN: &str = "-----BEGIN ";
const END: &str = "-----END ";
const DASHES: &str = "-----";

/// One section.
pub(super) struct Section<'t> {
    /// What it says it is: "CERTIFICATE".
    pub(super) label: &'t str,
    pub(super) der: Zeroizing<Vec<u8>>,
}

/// All sections of a text; none is not an error.
///
/// # Errors
/// Which section is damaged, and how, as a predicate.
pub(super) fn sections(text: &str) -> Result<Vec<Section<'_>>, String> {
    let mut sections = Vec::new();
    let mut lines = text.lines().zip(1..);
    while let Some((line, number)) = lines.next() {
        let Some(label) = marker(line, BEGIN) else { continue };
        let section = || format!("its section {label} at line {number}");
        // As long as it can get: a buffer that grows leaves copies behind.
        let mut body = Zeroizing::new(Vec::with_capacity(text.len()));
        loop {
            let (line, _) = lines.next().ok_or_else(|| format!("has no end of {}", section()))?;
            if marker(line, END) == Some(label) {
                break;
            }
            if line.contains(':') {
                return Err(format!("has headers in {}: an encrypted key cannot be read", section()));
            }
            body.extend(line.bytes().filter(|byte| !byte.is_ascii_whitespace()));
        }
        let mut der = Zeroizing::new(vec![0; base64::decoded_len_estimate(body.len())]);
        let length = STANDARD
            .decode_slice(&*body, &mut der)
            .map_err(|_| format!("has something else than base64 in {}", section()))?;
        der.truncate(length);
        sections.push(Section { label, der });
    }
    Ok(sections)
}

fn marker<'t>(line: &'t str, start: &str) -> Option<&'t str> {
    line.trim().strip_prefix(start)?.strip_suffix(DASHES)
}

/// One section as text, in lines of 64 characters.
pub(super) fn encode(label: &str, der: &[u8]) -> String {
    const ALPHABET: [u8; 64] = *b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(der.len().div_ceil(48) * 65 + 2 * (label.len() + 17));
    text.extend([BEGIN, label, DASHES, "\n"]);
    for line in der.chunks(48) {
        for three in line.chunks(3) {
            let at = |place: usize| u32::from(three.get(place).copied().unwrap_or(0));
            let bits = at(0) << 16 | at(1) << 8 | at(2);
            for place in 0..4 {
                let sextet = (bits >> (18 - 6 * place)) & 63;
                let known = place <= three.len();
                text.push(if known { char::from(ALPHABET[sextet as usize]) } else { '=' });
            }
        }
        text.push('\n');
    }
    text.extend([END, label, DASHES, "\n"]);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_damaged(text: &str, expected: &str) {
        let error = sections(text).err().expect("refused");
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn sections_are_found_among_comments() {
        let text = "subject=x\r\n-----BEGIN A-----\r\nAAEC\r\nAw==\r\n-----END A-----\n\
                    bag: y\n -----BEGIN B C-----  \nBAUG\n-----END B C-----";
        let found = sections(text).expect("readable");
        let shown: Vec<_> = found.iter().map(|it| (it.label, it.der.to_vec())).collect();
        assert_eq!(shown, [("A", vec![0, 1, 2, 3]), ("B C", vec![4, 5, 6])]);
        assert!(sections("garbage").expect("readable").is_empty());
    }

    #[test]
    fn damage_is_named_with_its_place() {
        check_damaged("\n-----BEGIN A-----\nAAEC", "has no end of its section A at line 2");
        check_damaged("-----BEGIN A-----\nAAEC\n-----END B-----\n", "has no end of its section A at line 1");
        check_damaged("-----BEGIN A-----\nAAE\n-----END A-----", "something else than base64");
        check_damaged("-----BEGIN A-----\nA€A=\n-----END A-----", "something else than base64");
        check_damaged("-----BEGIN A-----\nProc-Type: 4,ENCRYPTED\n\nAAE=\n-----END A-----", "encrypted key");
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_is_read(der: Vec<u8>) {
            let text = encode("A KEY", &der);
            proptest::prop_assert!(text.lines().all(|line| line.len() <= 64));
            let found = sections(&text).expect("readable");
            proptest::prop_assert_eq!(found.len(), 1);
            proptest::prop_assert_eq!((found[0].label, &*found[0].der), ("A KEY", &der));
        }

        #[test]
        fn nothing_makes_it_panic(text in "(-----(BEGIN|END) [AB]-----\n|[A-Za-z0-9+/=]{0,5}\n|\\PC{0,5}){0,12}") {
            let _: Result<_, _> = sections(&text);
        }
    }
}
