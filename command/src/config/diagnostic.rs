//! What a configuration file gets told, with the place it is about.

use std::fmt;
use std::sync::Arc;

/// One remark on a configuration: an error or a warning, depending on the list it is in.
///
/// Displays as `config.toml:12: listeners[0].address: text`; the parts that are not known are left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// The file as the operator named it.
    pub file: Arc<str>,
    /// Line, from 1; `None` when it is about the file as a whole.
    pub line: Option<usize>,
    /// Path of the key, such as `clusters.app.backends[2].weight`; empty for the file as a whole.
    pub key: String,
    /// What is wrong, and what would be right.
    pub text: String,
}

/// Why a configuration cannot be loaded.
pub type ConfigError = Diagnostic;

/// Something that an operator should know about a configuration that can be loaded.
pub type ConfigWarning = Diagnostic;

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        f.write_str(": ")?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.text)
    }
}

/// Why a configuration cannot be loaded: everything that is to be said of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors {
    /// Every error, in the order of the file; never empty.
    pub errors: Vec<ConfigError>,
    /// The warnings that were found on the way, in the order of the file.
    pub warnings: Vec<ConfigWarning>,
}

impl fmt::Display for ConfigErrors {
    /// The errors, one line each.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.errors.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// Where in the file something stands: a byte offset, turned into a line when it is reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place(pub(super) usize);

/// Gathers errors and warnings, so that one run tells them all.
#[derive(Debug)]
pub(super) struct Diagnostics {
    file: Arc<str>,
    /// Offset of the first byte of each line.
    lines: Vec<usize>,
    errors: Vec<(Place, Diagnostic)>,
    warnings: Vec<(Place, Diagnostic)>,
}

impl Diagnostics {
    pub(super) fn new(file: &str, text: &str) -> Self {
        let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        let lines = std::iter::once(0).chain(breaks).collect();
        Self { file: file.into(), lines, errors: Vec::new(), warnings: Vec::new() }
    }

    pub(super) fn error(&mut self, place: Place, key: impl Into<String>, text: impl Into<String>) {
        let diagnostic = self.diagnostic(place, key.into(), text.into());
        self.errors.push((place, diagnostic));
    }

    pub(super) fn warning(&mut self, place: Place, key: impl Into<String>, text: impl Into<String>) {
        let diagnostic = self.diagnostic(place, key.into(), text.into());
        self.warnings.push((place, diagnostic));
    }

    /// The line a place is on, from 1.
    pub(super) fn line(&self, place: Place) -> usize {
        self.lines.partition_point(|start| *start <= place.0)
    }

    pub(super) fn has_errors(&self) -> bool {
        !self.errors.is_empty()
    }

    /// The warnings, or all errors, each in the order of the file.
    pub(super) fn finish(self) -> Result<Vec<ConfigWarning>, ConfigErrors> {
        if self.errors.is_empty() { Ok(in_order(self.warnings)) } else { Err(self.errors()) }
    }

    /// The errors so far, in the order of the file.
    pub(super) fn errors(self) -> ConfigErrors {
        ConfigErrors { errors: in_order(self.errors), warnings: in_order(self.warnings) }
    }

    pub(super) fn diagnostic(&self, place: Place, key: String, text: String) -> Diagnostic {
        Diagnostic { file: Arc::clone(&self.file), line: Some(self.line(place)), key, text }
    }
}

fn in_order(mut remarks: Vec<(Place, Diagnostic)>) -> Vec<Diagnostic> {
    remarks.sort_by_key(|(place, _)| *place);
    remarks.into_iter().map(|(_, diagnostic)| diagnostic).collect()
}
