//! Certificates and keys: files that the configuration names.
//!
//! As for answers, and as in Sōzu, a relative path starts at the current directory of whoever reads the
//! configuration, not at the configuration's own.

use std::io::{self, Read};
use std::path::Path;

use super::answers::unreadable;
use super::diagnostic::Diagnostics;
use super::file::Section;
use crate::order::CERTIFICATE_BYTES_MAX;
use crate::proto;

/// How a file becomes PEM text.
pub(super) type ReadPem<'a> = &'a dyn Fn(&Path) -> io::Result<String>;

/// Reads the PEM files of a section.
#[derive(Clone, Copy)]
pub(super) struct PemFiles<'a> {
    /// None: nothing outside of the configuration is looked at, and what needs a file is left out.
    pub(super) read: Option<ReadPem<'a>>,
}

/// What comes of a file that cannot be read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// The configuration is refused.
    Refused,
    /// As in Sōzu, what it was for is absent; the operator is told.
    Absent,
}

impl PemFiles<'_> {
    /// The certificate, chain and key of a listener or frontend; none if it has none, if they cannot be
    /// read, or if one lacks the other, which is reported.
    pub(super) fn certificate(
        self,
        section: &Section<'_>,
        unreadable: Unreadable,
        diagnostics: &mut Diagnostics,
    ) -> Option<proto::CertificateAndKey> {
        let given = |name: &str| section.text(name).is_some_and(|path| !path.is_empty());
        for (name, other) in
            [("certificate", "key"), ("key", "certificate"), ("certificate_chain", "certificate")]
        {
            if given(name) && !given(other) {
                let text = format!("needs `{other}` beside it");
                diagnostics.error(section.place_of(name), section.key_path(name), text);
            }
        }
        if !given("certificate") || !given("key") || self.read.is_none() {
            return None;
        }
        // All that cannot be read is told at once.
        let certificate = self.text(section, "certificate", unreadable, diagnostics);
        let key = self.text(section, "key", unreadable, diagnostics);
        let chain = match given("certificate_chain") {
            true => self.text(section, "certificate_chain", unreadable, diagnostics).map(|text| vec![text]),
            false => Some(Vec::new()),
        };
        Some(proto::CertificateAndKey {
            certificate: certificate?,
            certificate_chain: chain?,
            key: key?,
            versions: Vec::new(),
            names: Vec::new(),
            ocsp_response: None,
        })
    }

    /// The text of the file that a key names; none if it names none, or that is reported.
    pub(super) fn text(
        self,
        section: &Section<'_>,
        name: &str,
        unreadable: Unreadable,
        diagnostics: &mut Diagnostics,
    ) -> Option<String> {
        let path = section.text(name).filter(|path| !path.is_empty())?;
        self.read(section, name, path, unreadable, diagnostics)
    }

    /// The texts of all files that a key names; none if one of them is reported.
    pub(super) fn texts(
        self,
        section: &Section<'_>,
        name: &str,
        diagnostics: &mut Diagnostics,
    ) -> Option<Vec<String>> {
        let paths = section.texts(name);
        let texts = paths.iter().map(|path| self.read(section, name, path, Unreadable::Refused, diagnostics));
        // All that cannot be read is told at once.
        texts.collect::<Vec<_>>().into_iter().collect()
    }

    fn read(
        self,
        section: &Section<'_>,
        name: &str,
        path: &str,
        unreadable_is: Unreadable,
        diagnostics: &mut Diagnostics,
    ) -> Option<String> {
        let error = match self.read?(Path::new(path)) {
            Ok(text) => return Some(text),
            Err(error) => error,
        };
        let (place, key, text) = (section.place_of(name), section.key_path(name), unreadable(path, &error));
        match unreadable_is {
            Unreadable::Refused => diagnostics.error(place, key, text),
            Unreadable::Absent => {
                diagnostics.warning(place, key, format!("{text}: there is no certificate of its own"));
            }
        }
        None
    }
}

/// Reads a file, as far as a PEM text may be long. Never waits, as a pipe could make one.
pub(super) fn read_file(path: &Path) -> io::Result<String> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut text = String::new();
    // One byte more tells "too long" from "as long as allowed"; the order's own checks say which.
    let limit = CERTIFICATE_BYTES_MAX as u64 + 1;
    match std::fs::File::open(path)?.take(limit).read_to_string(&mut text) {
        Ok(_) => Ok(text),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            Err(io::Error::other("it is not text: PEM is wanted, not DER"))
        }
        Err(error) => Err(error),
    }
}
