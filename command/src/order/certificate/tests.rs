//! Certificates: what is made of their PEM texts.

use std::net::SocketAddr;

use rcgen::{SanType, string::Ia5String};

use super::{testing::*, *};

fn parse(certificate: proto::CertificateAndKey) -> Result<Certificate, OrderError> {
    let address = SocketAddr::from(([127, 0, 0, 1], 443)).into();
    Certificate::from_wire(&proto::AddCertificate { address, certificate, expired_at: None })
}

fn check_refused(made: &Made, edit: impl FnOnce(&mut proto::CertificateAndKey), expected: &str) {
    let mut wire = made.wire();
    edit(&mut wire);
    let error = parse(wire).expect_err("refused").to_string();
    assert!(error.contains(expected) && error.len() < 1000, "{error}");
}

fn names(certificate: &Certificate) -> Vec<&str> {
    certificate.names().iter().map(|name| &**name).collect()
}

#[test]
fn a_certificate_goes_back_to_the_wire_as_it_came() {
    let mut full = leaf(&["a.test"]).wire();
    full.names = vec!["b.test".into(), "*.c.test".into()];
    full.versions = vec![proto::TlsVersion::TlsV13.into()];
    full.ocsp_response = Some(vec![1, 2, 3]);
    for wire in [leaf(&["a.test"]).wire(), full] {
        let certificate = parse(wire.clone()).expect("accepted");
        assert_eq!(certificate.wire(), wire);
        assert_eq!(parse(certificate.wire()), Ok(certificate.clone()));
        let mut public = certificate.public_wire();
        assert!(public.key.is_empty());
        public.key = wire.key.clone();
        assert_eq!(public, wire);
        assert_eq!(certificate.ocsp_response().map(|response| response.to_vec()), wire.ocsp_response);
    }
}

#[test]
fn names_are_given_or_those_of_the_certificate() {
    let of = |wire| parse(wire).expect("accepted");
    let made = leaf(&["B.test", "*.A.test", "b.test", "192.0.2.1", "2001:db8::1", "xn--bcher-kva.test"]);
    let expected = ["b.test", "*.a.test", "192.0.2.1", "2001:db8::1", "xn--bcher-kva.test"];
    assert_eq!(names(&of(made.wire())), expected);
    let mut given = made.wire();
    given.names = vec!["C.test".into()];
    assert_eq!(names(&of(given)), ["c.test"]);
    assert_eq!(names(&of(old("Common.test").wire())), ["common.test"]);
    check_refused(&old("My Server"), |_| {}, "names are not given, and the certificate has none");
}

#[test]
fn names_that_nobody_could_ask_for_are_refused() {
    let made = leaf(&["a.test"]);
    let check = |name: &str, expected: &str| {
        check_refused(&made, |wire| wire.names = vec!["ok.test".into(), name.to_owned()], expected);
    };
    check("a\u{0}.test", "names `a\\0.test` has a character that no host name has");
    check("b\u{fc}cher.test", "xn--");
    check("a..test", "has an empty label");
    check("a.*.test", "has a wildcard that is not its first label");
    check("*", "has a wildcard that is not its first label");
    check(&"a.".repeat(200), "is longer than 253 bytes");
    let odd = leaf_with(|params| {
        let name = Ia5String::try_from("a\u{1}b.test").expect("ASCII");
        params.subject_alt_names = vec![SanType::DnsName(name)];
    });
    check_refused(&odd, |_| {}, "names `a\\u{1}b.test` has a character that no host name has");
    let many: Vec<_> = (0..5000).map(|nth| format!("{nth}.test")).collect();
    check_refused(&made, |wire| wire.names = many.clone(), "names are more than 2048");
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    check_refused(&leaf(&many), |_| {}, "names are more than 2048");
}

/// Chains are compared with that of a plain one.
fn check_chain(edit: impl FnOnce(&Made, &mut proto::CertificateAndKey)) {
    let made = leaf(&["a.test"]);
    let expected = parse(made.wire()).expect("accepted");
    let mut wire = made.wire();
    edit(&made, &mut wire);
    assert_eq!(parse(wire), Ok(expected));
}

#[test]
fn chains_are_put_in_order() {
    let (root, between) = (authority().pem, intermediate().pem);
    check_chain(|_, wire| wire.certificate_chain.push(root.clone()));
    check_chain(|_, wire| wire.certificate_chain = vec![root.clone(), between.clone()]);
    check_chain(|made, wire| {
        wire.certificate_chain = vec![made.pem.clone(), between.clone(), between.clone()];
    });
    check_chain(|made, wire| {
        wire.certificate = [made.pem.as_str(), &between].concat();
        wire.certificate_chain.clear();
    });
    check_chain(|made, wire| {
        wire.certificate = [&root, &between, &made.pem].map(String::as_str).concat();
        wire.certificate_chain.clear();
    });
    check_chain(|made, wire| {
        wire.certificate = ["CN=a.test\n", &made.key, &made.pem].concat();
        wire.key = ["-----BEGIN EC PARAMETERS-----\nAA==\n-----END EC PARAMETERS-----\n", &made.key].concat();
        wire.certificate_chain = vec![[&between, &root].map(String::as_str).concat()];
    });
    let alone = self_signed(&["a.test"]);
    assert_eq!(parse(alone.wire()).expect("accepted").chain().len(), 1);
    assert_eq!(parse(leaf(&["a.test"]).wire()).expect("accepted").chain().len(), 2);
}

#[test]
fn what_is_no_chain_is_refused() {
    let made = leaf(&["a.test"]);
    let check = |edit: &dyn Fn(&mut proto::CertificateAndKey), expected| check_refused(&made, edit, expected);
    check(&|wire| wire.certificate = "garbage".into(), "certificate has no certificate in PEM");
    check(&|wire| wire.certificate = wire.certificate.replace('A', "\u{e9}"), "something else than base64");
    check(
        &|wire| wire.certificate.truncate(200),
        "certificate has no end of its section CERTIFICATE at line 1",
    );
    let empty = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    check(&|wire| wire.certificate = empty.into(), "has a section that is no X.509 certificate");
    check(&|wire| wire.certificate_chain = vec![String::new()], "certificate_chain has no certificate");
    let stranger = self_signed(&["b.test"]).pem;
    check(
        &|wire| wire.certificate_chain.push(stranger.clone()),
        "certificate_chain has `CN=self`, which issued none of the others",
    );
    let long = "x".repeat(10 << 20);
    check(
        &|wire| wire.certificate_chain = vec![long.clone()],
        "is longer than 1048576 bytes: it has 10485760",
    );
    check(&|wire| wire.certificate = long.clone(), "certificate is longer than 1048576 bytes");
    let repeated = vec![intermediate().pem; 16];
    check(&|wire| wire.certificate_chain = repeated.clone(), "is longer than 16 certificates: it has 17");
}

#[test]
fn what_is_no_key_is_refused() {
    let made = leaf(&["a.test"]);
    let check = |edit: &dyn Fn(&mut proto::CertificateAndKey), expected| check_refused(&made, edit, expected);
    check(&|wire| wire.key.clear(), "key has no private key in PEM");
    check(&|wire| wire.key = wire.certificate.clone(), "key has no private key in PEM");
    check(&|wire| wire.key = wire.key.repeat(2), "key has several private keys");
    let label = |label: &str| made.key.replace("PRIVATE KEY", label);
    check(&|wire| wire.key = label("ENCRYPTED PRIVATE KEY"), "key is encrypted");
    check(&|wire| wire.key = "x".repeat(2 << 20), "key is longer than 1048576 bytes");
    check(&|wire| wire.ocsp_response = Some(vec![0; 20_000]), "ocsp_response is longer than 16384");
    check(&|wire| wire.versions = vec![9], "versions `9` is not known");
    for (text, form) in [(label("RSA PRIVATE KEY"), "Pkcs1"), (label("EC PRIVATE KEY"), "Sec1")] {
        let mut wire = made.wire();
        wire.key = text.clone();
        let certificate = parse(wire).expect("accepted");
        assert!(format!("{:?}", certificate.key().der()).contains(form), "{form}");
        assert_eq!(certificate.key().to_pem(), text);
    }
}

#[test]
fn nothing_shows_the_key() {
    let made = leaf(&["a.test", "b.test"]);
    let certificate = parse(made.wire()).expect("accepted");
    let shown = format!("{certificate:?} {:?} {:?}", certificate.certified(), made.wire());
    let secret: String = made.key.lines().skip(1).take(1).collect();
    assert!(!shown.contains(&secret), "{shown}");
    assert!(shown.contains("`a.test` and 1 more"), "{shown}");
}

#[test]
fn a_certificate_is_judged_by_its_time() {
    let certificate = parse(old("a.test").wire()).expect("accepted");
    assert_eq!((certificate.not_before(), certificate.not_after()), (946_684_800, 1_262_304_000));
    let check = |now: i64| {
        let mut notes = Vec::new();
        (certificate.check_validity(now, &mut notes).map_err(|error| error.to_string()), notes)
    };
    assert_eq!(check(1_262_304_000), (Ok(()), Vec::new()));
    let (early, notes) = check(0);
    assert!(early.is_ok() && notes[0].starts_with("certificate `a.test` is not valid before"), "{notes:?}");
    let late = check(1_262_304_001).0.expect_err("refused");
    assert!(late.starts_with("certificate `a.test` expired on Jan  1"), "{late}");
}

#[test]
fn a_certificate_is_small() {
    let beside_its_bytes = size_of::<Certificate>();
    assert!(beside_its_bytes <= 192, "{beside_its_bytes}");
}
