//! Names of Unix sockets: paths of the file system, and names of the abstract namespace (unix(7)).
//!
//! Nothing here looks for the socket: who listens may come later than the name.

use std::{fmt, sync::Arc};

use super::OrderError;

/// Longest name, in bytes: what `sun_path` holds beside its NUL, which closes a path and begins an abstract name.
pub const UNIX_PATH_BYTES_MAX: usize = 107;

/// The name of a Unix socket: an absolute path, or `@` and the name in the abstract namespace. 2 to
/// [`UNIX_PATH_BYTES_MAX`] bytes, no control characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixPath(Arc<str>);

impl UnixPath {
    /// Checks a name that came from outside.
    ///
    /// # Errors
    /// It is neither an absolute path nor `@NAME`, or is too long, or has a control character.
    pub fn parse(text: &str) -> Result<Self, OrderError> {
        let refused = |reason: &'static str| Err(OrderError::invalid("unix_path", text, reason));
        if !text.starts_with(['/', '@']) {
            return refused("is neither an absolute path nor @NAME");
        }
        if text.len() == 1 {
            return refused("has no name");
        }
        if text.len() > UNIX_PATH_BYTES_MAX {
            return refused("is longer than 107 bytes");
        }
        // NUL would end a path early; the others would act on the terminal of whoever reads a list or a log.
        if text.contains(char::is_control) {
            return refused("contains a control character");
        }
        Ok(Self(text.into()))
    }

    /// As it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name in the abstract namespace, without its `@`; none for a path.
    #[must_use]
    pub fn abstract_name(&self) -> Option<&str> {
        self.0.strip_prefix('@')
    }
}

impl fmt::Display for UnixPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_abstract_names() {
        let path = UnixPath::parse("/run/app.sock").expect("a path");
        assert_eq!((path.as_str(), path.abstract_name()), ("/run/app.sock", None));
        let name = UnixPath::parse("@app/1").expect("a name");
        assert_eq!((name.as_str(), name.abstract_name()), ("@app/1", Some("app/1")));
        let longest = format!("/{}", "a".repeat(UNIX_PATH_BYTES_MAX - 1));
        assert!(UnixPath::parse(&longest).is_ok());
    }

    #[test]
    fn what_names_no_socket_is_refused() {
        let check = |text: &str, expected: &str| {
            let error = UnixPath::parse(text).expect_err("refused").to_string();
            assert!(error.starts_with("unix_path `") && error.contains(expected), "{error}");
        };
        check("", "neither an absolute path nor @NAME");
        check("run/app.sock", "neither an absolute path nor @NAME");
        check("unix:/run/app.sock", "neither an absolute path nor @NAME");
        check("/", "has no name");
        check("@", "has no name");
        check(&format!("@{}", "a".repeat(UNIX_PATH_BYTES_MAX)), "longer than 107 bytes");
        check("/run/a\0b", "control character");
        check("/run/a\nb", "control character");
    }
}
