//! Text of rules as a key that bytes of requests are compared with.

use std::borrow::Borrow;
use std::sync::Arc;

/// A host or a path of a rule, shared with the rule it is from: a table of a million of them holds no
/// second copy. Compares and sorts as its bytes do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Text(pub(super) Arc<str>);

impl Text {
    pub(super) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl Borrow<[u8]> for Text {
    fn borrow(&self) -> &[u8] {
        self.as_bytes()
    }
}
