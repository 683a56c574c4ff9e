//! Which Unix sockets workers may connect to: `worker_unix_sockets`.

use std::{fmt, str::FromStr};

use crate::order::{Order, UnixPath};

/// What `worker_unix_sockets` says. It is read at start: workers give up the others, for good.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum UnixSockets {
    /// Those at paths, and those with abstract names.
    #[default]
    Any,
    /// Those at paths.
    Paths,
    /// None.
    None,
}

impl UnixSockets {
    /// Whether an order asks for no more than that.
    ///
    /// # Errors
    /// A backend is on a Unix socket that no worker could connect to.
    pub fn allow(self, order: &Order) -> Result<(), String> {
        match order {
            Order::AddBackend(backend) => backend.unix_path().map_or(Ok(()), |path| self.allow_path(path)),
            _ => Ok(()),
        }
    }

    pub(super) fn allow_path(self, path: &UnixPath) -> Result<(), String> {
        let allowed = match self {
            Self::Any => true,
            Self::Paths => path.abstract_name().is_none(),
            Self::None => false,
        };
        if allowed {
            Ok(())
        } else {
            Err(format!("unix_path `{path}` is not for worker_unix_sockets = \"{self}\""))
        }
    }
}

impl FromStr for UnixSockets {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        [Self::Any, Self::Paths, Self::None].into_iter().find(|it| it.to_string() == text).ok_or(())
    }
}

impl fmt::Display for UnixSockets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Any => "any",
            Self::Paths => "paths",
            Self::None => "none",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_allows_less_than_the_one_before() {
        let allowed = |sockets: &str| {
            let sockets: UnixSockets = sockets.parse().expect("one of them");
            ["/run/a", "@a"].map(|path| sockets.allow_path(&UnixPath::parse(path).expect("a name")).is_ok())
        };
        assert_eq!(allowed("any"), [true, true]);
        assert_eq!(allowed("paths"), [true, false]);
        assert_eq!(allowed("none"), [false, false]);
        assert_eq!("some".parse::<UnixSockets>(), Err(()));
    }
}
