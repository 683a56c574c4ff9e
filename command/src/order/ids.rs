//! Names that operators choose: checked once, then shared.

use std::{borrow::Borrow, fmt, ops::Deref, sync::Arc};

use super::OrderError;

/// Longest cluster or backend id, in bytes. Ids stand in metrics' names, log lines and answers; the
/// bound is ours (the protocol has none), and that of a file's or a DNS name.
pub const ID_BYTES_MAX: usize = 255;

fn check_id(field: &'static str, id: &str) -> Result<(), OrderError> {
    if id.is_empty() {
        return Err(OrderError::invalid(field, id, "is empty"));
    }
    if id.len() > ID_BYTES_MAX {
        return Err(OrderError::invalid(field, id, "is longer than 255 bytes"));
    }
    if id.chars().any(char::is_control) {
        return Err(OrderError::invalid(field, id, "contains a control character"));
    }
    Ok(())
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $field:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks a name that came from outside.
            ///
            /// # Errors
            /// It is empty, longer than [`ID_BYTES_MAX`], or has control characters.
            pub fn parse(id: &str) -> Result<Self, OrderError> {
                check_id($field, id)?;
                Ok(Self(id.into()))
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        /// For names known to be good; those from outside go through `parse`.
        impl From<&str> for $name {
            fn from(id: &str) -> Self {
                Self(id.into())
            }
        }

        impl Deref for $name {
            type Target = str;

            fn deref(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    };
}

id! {
    /// The name of a cluster, unique in the state.
    ClusterId, "cluster_id"
}
id! {
    /// The name of a backend. A cluster may use it for several addresses.
    BackendId, "backend_id"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(id: &str, reason: Option<&str>) {
        let error = ClusterId::parse(id).err().map(|error| error.to_string());
        match reason {
            None => assert_eq!(error, None),
            Some(reason) => {
                let error = error.expect("refused");
                assert!(error.ends_with(reason), "{error}");
                assert!(error.len() < 300, "{} bytes", error.len());
            }
        }
    }

    #[test]
    fn ids_are_bounded_printable_text() {
        check("app_0c4a-1", None);
        check("Straße 7", None);
        check(&"x".repeat(ID_BYTES_MAX), None);
        check("", Some("is empty"));
        check("a\u{0}", Some("contains a control character"));
        check("a\u{9b}31m", Some("contains a control character"));
        check(&"x".repeat(1_000_000), Some("is longer than 255 bytes"));
    }
}
