//! OCSP responses that are stapled to handshakes (RFC 6960, RFC 8446 §4.4.2.1).
//!
//! Given by the operator, not fetched. Clients take a broken staple for an attack, and some refuse one that is out
//! of date: so it is held against its certificate when it comes, and is left out once its time is over. Whether its
//! signature is good is for the client to judge, who knows the responder.

use thiserror::Error;
use x509_parser::asn1_rs::{Any, Class, FromDer, GeneralizedTime, Tag};
use x509_parser::prelude::X509Certificate;

/// id-pkix-ocsp-basic, 1.3.6.1.5.5.7.48.1.1.
const BASIC: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 0x30, 1, 1];

/// Why a response cannot be stapled to a certificate. All of it is the operator's.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum OcspError {
    /// It is no DER OCSPResponse (RFC 6960 §4.2.1).
    #[error("cannot be read: {0}")]
    Malformed(&'static str),
    /// The responder had no answer; its status says why.
    #[error("has status {0}, not 0 (successful)")]
    Status(u8),
    /// It is about other certificates.
    #[error("is not about this certificate: none of its serial numbers is {0}")]
    OtherCertificate(String),
    /// The certificate must not be used.
    #[error("says that the certificate is revoked")]
    Revoked,
    /// The responder does not know the certificate.
    #[error("says that the responder does not know the certificate")]
    Unknown,
}

/// What a response says of a certificate that is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Staple {
    /// From when on there is a newer one (`nextUpdate`), in seconds since 1970; none: any time.
    pub next_update: Option<i64>,
}

impl Staple {
    /// Holds a response against the certificate that it comes with.
    ///
    /// ```text
    /// OCSPResponse      ::= SEQUENCE { responseStatus ENUMERATED, responseBytes [0] EXPLICIT ResponseBytes OPTIONAL }
    /// ResponseBytes     ::= SEQUENCE { responseType OBJECT IDENTIFIER, response OCTET STRING }
    /// BasicOCSPResponse ::= SEQUENCE { tbsResponseData ResponseData, .. }
    /// ResponseData      ::= SEQUENCE { version [0] OPTIONAL, responderID CHOICE { [1], [2] }, producedAt GeneralizedTime,
    ///                                  responses SEQUENCE OF SingleResponse, .. }
    /// ```
    ///
    /// # Errors
    /// It is none, is about another certificate, or is not good.
    pub fn read(response: &[u8], certificate: &X509Certificate<'_>) -> Result<Self, OcspError> {
        let malformed = OcspError::Malformed;
        let mut outer = Fields(response);
        let mut fields = outer.inside(Tag::Sequence).ok_or(malformed("it is no DER sequence"))?;
        if !outer.0.is_empty() {
            return Err(malformed("more follows it"));
        }
        match fields.value(Tag::Enumerated).ok_or(malformed("it has no status"))? {
            [0] => {}
            [status] => return Err(OcspError::Status(*status)),
            _ => return Err(malformed("its status is not one byte")),
        }
        let silent = malformed("it is successful and says nothing");
        let mut bytes = fields.context(0).and_then(|mut it| it.inside(Tag::Sequence)).ok_or(silent)?;
        if bytes.value(Tag::Oid) != Some(BASIC) {
            return Err(malformed("its type is not id-pkix-ocsp-basic"));
        }
        let mut responses = bytes
            .value(Tag::OctetString)
            .and_then(responses)
            .ok_or(malformed("its data is not well-formed"))?;
        while !responses.0.is_empty() {
            let single = responses.inside(Tag::Sequence).and_then(Single::read);
            let single = single.ok_or(malformed("one of its responses is not well-formed"))?;
            if single.serial == certificate.raw_serial() {
                return single.judge();
            }
        }
        Err(OcspError::OtherCertificate(certificate.raw_serial_as_string()))
    }

    /// Whether it can be stapled at this time, in seconds since 1970.
    pub fn is_current(&self, now: i64) -> bool {
        self.next_update.is_none_or(|end| now <= end)
    }
}

/// The `responses` of a BasicOCSPResponse.
fn responses(basic: &[u8]) -> Option<Fields<'_>> {
    let mut data = Fields(basic).inside(Tag::Sequence)?.inside(Tag::Sequence)?;
    // The version, if it is not the first, and who says it.
    data.context(0);
    data.context(1).or_else(|| data.context(2))?;
    data.value(Tag::GeneralizedTime)?;
    data.inside(Tag::Sequence)
}

/// ```text
/// SingleResponse ::= SEQUENCE { certID CertID, certStatus CHOICE { good [0], revoked [1], unknown [2] },
///                               thisUpdate GeneralizedTime, nextUpdate [0] EXPLICIT GeneralizedTime OPTIONAL, .. }
/// CertID ::= SEQUENCE { hashAlgorithm SEQUENCE {..}, issuerNameHash OCTET STRING, issuerKeyHash OCTET STRING,
///                       serialNumber INTEGER }
/// ```
struct Single<'a> {
    serial: &'a [u8],
    status: u32,
    next_update: Option<i64>,
}

impl<'a> Single<'a> {
    fn read(mut fields: Fields<'a>) -> Option<Self> {
        let mut id = fields.inside(Tag::Sequence)?;
        id.value(Tag::Sequence)?;
        id.value(Tag::OctetString)?;
        id.value(Tag::OctetString)?;
        let serial = id.value(Tag::Integer)?;
        let status = fields.any().filter(|status| status.class() == Class::ContextSpecific)?.tag().0;
        fields.value(Tag::GeneralizedTime)?;
        let next_update = match fields.context(0) {
            None => None,
            Some(mut next) => Some(time(next.value(Tag::GeneralizedTime)?)?),
        };
        Some(Self { serial, status, next_update })
    }

    fn judge(self) -> Result<Staple, OcspError> {
        match self.status {
            0 => Ok(Staple { next_update: self.next_update }),
            1 => Err(OcspError::Revoked),
            2 => Err(OcspError::Unknown),
            _ => Err(OcspError::Malformed("its status of the certificate is none")),
        }
    }
}

fn time(text: &[u8]) -> Option<i64> {
    let time = GeneralizedTime::from_bytes(text).ok()?.utc_datetime().ok()?;
    Some(time.unix_timestamp())
}

/// DER values, one after another.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn any(&mut self) -> Option<Any<'a>> {
        let (rest, any) = Any::from_der(self.0).ok()?;
        self.0 = rest;
        Some(any)
    }

    /// The next value, if it is of this kind; otherwise it stays the next one.
    fn next(&mut self, class: Class, tag: Tag) -> Option<&'a [u8]> {
        let before = self.0;
        match self.any() {
            Some(any) if any.class() == class && any.tag() == tag => Some(any.data),
            _ => {
                self.0 = before;
                None
            }
        }
    }

    fn value(&mut self, tag: Tag) -> Option<&'a [u8]> {
        self.next(Class::Universal, tag)
    }

    fn inside(&mut self, tag: Tag) -> Option<Self> {
        self.value(tag).map(Self)
    }

    fn context(&mut self, tag: u32) -> Option<Self> {
        self.next(Class::ContextSpecific, Tag(tag)).map(Self)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::testing::{self, Kind};
    use super::*;

    fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
        let value = parts.concat();
        let mut bytes = vec![tag];
        match value.len() {
            short @ 0..0x80 => bytes.push(u8::try_from(short).unwrap()),
            long => bytes.extend([&[0x82][..], &u16::try_from(long).unwrap().to_be_bytes()].concat()),
        }
        bytes.extend(value);
        bytes
    }

    fn single(serial: &[u8], status: u8, next_update: Option<&str>) -> Vec<u8> {
        let hash = tlv(4, &[&[7; 20]]);
        let id = tlv(0x30, &[&tlv(0x30, &[&[6, 1, 42]]), &hash, &hash, &tlv(2, &[serial])]);
        let next = next_update.map(|time| tlv(0xa0, &[&tlv(0x18, &[time.as_bytes()])])).unwrap_or_default();
        tlv(0x30, &[&id, &tlv(status, &[]), &tlv(0x18, &[b"20260102030405Z"]), &next])
    }

    fn wrapped(kind: &[u8], singles: &[&[u8]]) -> Vec<u8> {
        let responder = tlv(0xa2, &[&tlv(4, &[&[9; 20]])]);
        let data = tlv(0x30, &[&responder, &tlv(0x18, &[b"20260102030405Z"]), &tlv(0x30, singles)]);
        let basic = tlv(0x30, &[&data, &tlv(0x30, &[&[6, 1, 42]]), &tlv(3, &[&[0; 65]])]);
        let bytes = tlv(0x30, &[&tlv(6, &[kind]), &tlv(4, &[&basic])]);
        tlv(0x30, &[&[10, 1, 0], &tlv(0xa0, &[&bytes])])
    }

    /// A response, signed by nobody, that says of this certificate that it is good.
    pub(in super::super) fn good(certificate: &[u8], next_update: Option<&str>) -> Vec<u8> {
        let (_, parsed) = X509Certificate::from_der(certificate).unwrap();
        wrapped(BASIC, &[&single(parsed.raw_serial(), 0x80, next_update)])
    }

    #[test]
    fn a_response_is_about_its_certificate_and_good() {
        let made = testing::certificate(Kind::P256, &["a.test"]);
        let (_, certificate) = X509Certificate::from_der(&made.der).unwrap();
        let serial = certificate.raw_serial();
        let read = |response: &[u8]| Staple::read(response, &certificate);
        let about = |status, next: Option<&str>| {
            read(&wrapped(BASIC, &[&single(&[1, 2], 0x80, None), &single(serial, status, next)]))
        };
        assert_eq!(about(0x80, None), Ok(Staple { next_update: None }));
        let until = about(0x80, Some("20260102030405Z")).unwrap();
        assert_eq!(until, Staple { next_update: Some(1_767_323_045) });
        assert!(until.is_current(1_767_323_045) && !until.is_current(1_767_323_046));
        assert_eq!(about(0xa1, None), Err(OcspError::Revoked));
        assert_eq!(about(0x82, None), Err(OcspError::Unknown));
        assert_eq!(about(0x83, None), Err(OcspError::Malformed("its status of the certificate is none")));
        let error = read(&wrapped(BASIC, &[&single(&[1, 2], 0x80, None)])).unwrap_err();
        assert!(error.to_string().starts_with("is not about this certificate"), "{error}");
        let ill = OcspError::Malformed("one of its responses is not well-formed");
        assert_eq!(about(0x80, Some("20261302030405Z")), Err(ill));
        let other = read(&wrapped(&[0x2a, 3], &[]));
        assert_eq!(other, Err(OcspError::Malformed("its type is not id-pkix-ocsp-basic")));
    }

    #[test]
    fn what_is_no_response_is_named() {
        let made = testing::certificate(Kind::P256, &["a.test"]);
        let (_, certificate) = X509Certificate::from_der(&made.der).unwrap();
        let check =
            |response: &[u8], expected| assert_eq!(Staple::read(response, &certificate), Err(expected));
        let silent = OcspError::Malformed("it is successful and says nothing");
        check(&[0x30, 3, 10, 1, 6], OcspError::Status(6));
        check(&[0x30, 3, 10, 1, 0], silent.clone());
        check(&[0x30, 7, 10, 1, 0, 0xa0, 2, 0x30, 1], silent);
        check(&[0x30, 5, 10, 1, 0, 5, 0, 0], OcspError::Malformed("more follows it"));
        check(&[0x30, 4, 10, 2, 0, 0], OcspError::Malformed("its status is not one byte"));
        check(&[0x30, 0], OcspError::Malformed("it has no status"));
        for garbage in [&b""[..], b"0", b"-----BEGIN", &[0x30, 0x80], &[0x30, 5, 1]] {
            check(garbage, OcspError::Malformed("it is no DER sequence"));
        }
        let whole = good(&made.der, Some("20260102030405Z"));
        assert!(Staple::read(&whole, &certificate).is_ok());
        for end in 0..whole.len() {
            assert!(Staple::read(&whole[..end], &certificate).is_err(), "{end}");
        }
    }
}
