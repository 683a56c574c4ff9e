//! Who a client's certificate is for, as the value of a header.
//!
//! The subject as a string (RFC 4514): attributes the last first, `CN=name,O=organisation`. What is more than
//! visible ASCII is escaped as `\xx`, byte by byte of its UTF-8 (RFC 4514 §2.4 allows that for any character),
//! so that the value can be nothing but one field value, and read back to what it was.

use std::fmt::Write;

use thiserror::Error;
use x509_parser::asn1_rs::Tag;
use x509_parser::prelude::{AttributeTypeAndValue, FromDer, X509Certificate};

/// The longest subject that is passed on, in bytes: far above any real one, far below what a backend takes as
/// a header.
pub const SUBJECT_BYTES_MAX: usize = 1024;

/// Why there is no subject to pass on. A subject is never cut short: it might read as somebody else's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SubjectError {
    /// It is no certificate.
    #[error("the certificate cannot be read")]
    Certificate,
    /// The string is longer than [`SUBJECT_BYTES_MAX`].
    #[error("the subject is longer than {SUBJECT_BYTES_MAX} bytes")]
    TooLong,
}

/// The subject of a certificate in DER; empty if it has none.
pub fn subject(certificate: &[u8]) -> Result<String, SubjectError> {
    let (_, certificate) = X509Certificate::from_der(certificate).map_err(|_| SubjectError::Certificate)?;
    let mut out = String::new();
    let names: Vec<_> = certificate.subject().iter_rdn().collect();
    for (index, name) in names.iter().rev().enumerate() {
        for (part, attribute) in name.iter().enumerate() {
            match (index, part) {
                (0, 0) => {}
                (_, 0) => out.push(','),
                _ => out.push('+'),
            }
            write_attribute(&mut out, attribute);
            if out.len() > SUBJECT_BYTES_MAX {
                return Err(SubjectError::TooLong);
            }
        }
    }
    Ok(out)
}

fn write_attribute(out: &mut String, attribute: &AttributeTypeAndValue<'_>) {
    let oid = attribute.attr_type().to_id_string();
    let value = attribute.attr_value();
    match keyword(&oid) {
        Some(keyword) => out.push_str(keyword),
        None => out.push_str(&oid),
    }
    out.push('=');
    let is_text =
        [Tag::Utf8String, Tag::PrintableString, Tag::Ia5String, Tag::NumericString].contains(&value.tag());
    // An attribute without a keyword, or of which it is not known how it would be text, is written as what it
    // is encoded to (RFC 4514 §2.4).
    if is_text && keyword(&oid).is_some() {
        write_escaped(out, value.data);
    } else {
        write_encoded(out, value.tag(), value.data);
    }
}

/// What an attribute is called (RFC 4514 §3).
fn keyword(oid: &str) -> Option<&'static str> {
    Some(match oid {
        "2.5.4.3" => "CN",
        "2.5.4.7" => "L",
        "2.5.4.8" => "ST",
        "2.5.4.10" => "O",
        "2.5.4.11" => "OU",
        "2.5.4.6" => "C",
        "2.5.4.9" => "STREET",
        "0.9.2342.19200300.100.1.25" => "DC",
        "0.9.2342.19200300.100.1.1" => "UID",
        _ => return None,
    })
}

fn write_escaped(out: &mut String, value: &[u8]) {
    let last = value.len().saturating_sub(1);
    for (index, &byte) in value.iter().enumerate() {
        let is_edge = index == 0 || index == last;
        match byte {
            b'"' | b'+' | b',' | b';' | b'<' | b'>' | b'\\' | b'=' => {
                out.push('\\');
                out.push(char::from(byte));
            }
            b'#' if index == 0 => out.push_str("\\#"),
            b' ' if !is_edge => out.push(' '),
            0x21..=0x7e => out.push(char::from(byte)),
            // Written in hexadecimal even at an edge, where `\ ` would do: a trailing space may be lost on the
            // way.
            _ => write_hex(out, b"\\", byte),
        }
    }
}

/// `#` and the hexadecimal of the value in DER.
fn write_encoded(out: &mut String, tag: Tag, value: &[u8]) {
    out.push('#');
    write_hex(out, b"", u8::try_from(tag.0).unwrap_or_default());
    match u8::try_from(value.len()) {
        Ok(len @ ..0x80) => write_hex(out, b"", len),
        _ => {
            let len = value.len().to_be_bytes();
            let len: Vec<u8> = len.into_iter().skip_while(|&byte| byte == 0).collect();
            write_hex(out, b"", 0x80 | u8::try_from(len.len()).unwrap_or_default());
            len.into_iter().for_each(|byte| write_hex(out, b"", byte));
        }
    }
    value.iter().for_each(|&byte| write_hex(out, b"", byte));
}

fn write_hex(out: &mut String, prefix: &[u8], byte: u8) {
    out.extend(prefix.iter().map(|&byte| char::from(byte)));
    // Writing to a String cannot fail.
    let _ = write!(out, "{byte:02x}");
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, CustomExtension, DistinguishedName, DnType, DnValue, KeyPair};

    use super::*;

    fn certificate(attributes: &[(DnType, DnValue)]) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        for (kind, value) in attributes {
            params.distinguished_name.push(kind.clone(), value.clone());
        }
        // One that nobody knows must not be in the way.
        params.custom_extensions =
            vec![CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99999, 1], vec![5, 0])];
        let key_pair = KeyPair::generate().expect("keys can be made");
        params.self_signed(&key_pair).expect("it can be signed").der().to_vec()
    }

    fn text(value: &str) -> DnValue {
        DnValue::Utf8String(value.to_owned())
    }

    fn check(attributes: &[(DnType, DnValue)], expected: &str) {
        assert_eq!(subject(&certificate(attributes)).as_deref(), Ok(expected));
    }

    #[test]
    fn the_last_attribute_comes_first() {
        check(&[], "");
        check(&[(DnType::CommonName, text("a"))], "CN=a");
        check(
            &[
                (DnType::CountryName, text("DE")),
                (DnType::OrganizationName, text("Acme Inc.")),
                (DnType::CommonName, text("client-1.example.com")),
            ],
            "CN=client-1.example.com,O=Acme Inc.,C=DE",
        );
    }

    #[test]
    fn what_has_a_meaning_or_cannot_be_seen_is_escaped() {
        let check = |value: &str, expected: &str| {
            check(&[(DnType::CommonName, text(value))], &format!("CN={expected}"));
        };
        check("a,CN=root", "a\\,CN\\=root");
        check("\"<a;b>\"\\+", "\\\"\\<a\\;b\\>\\\"\\\\\\+");
        check("#1", "\\#1");
        check("a#1", "a#1");
        check(" a b ", "\\20a b\\20");
        check(" ", "\\20");
        check("a\r\nX-Admin: 1", "a\\0d\\0aX-Admin: 1");
        check("a\0\u{7f}\t", "a\\00\\7f\\09");
        check("Zoë", "Zo\\c3\\ab");
    }

    #[test]
    fn what_is_no_text_is_written_as_it_is_encoded() {
        let street = DnType::CustomDnType(vec![2, 5, 4, 9]);
        check(&[(street, text("Main Street"))], "STREET=Main Street");
        let email = DnType::CustomDnType(vec![1, 2, 840, 113_549, 1, 9, 1]);
        check(&[(email, text("a@b"))], "1.2.840.113549.1.9.1=#0c03614062");
        let bmp = rcgen::string::BmpString::try_from("ab").expect("two characters");
        check(&[(DnType::CommonName, DnValue::BmpString(bmp))], "CN=#1e0400610062");
        let serial = DnType::CustomDnType(vec![2, 5, 4, 5]);
        let long = "x".repeat(200);
        let expected = format!("2.5.4.5=#0c81c8{}", "78".repeat(200));
        check(&[(serial, text(&long))], &expected);
    }

    #[test]
    fn a_subject_is_whole_or_not_there() {
        let of = |bytes: usize| subject(&certificate(&[(DnType::CommonName, text(&"x".repeat(bytes)))]));
        assert_eq!(of(SUBJECT_BYTES_MAX - 3).map(|subject| subject.len()), Ok(SUBJECT_BYTES_MAX));
        assert_eq!(of(SUBJECT_BYTES_MAX - 2), Err(SubjectError::TooLong));
        assert_eq!(subject(b"garbage"), Err(SubjectError::Certificate));
    }
}
