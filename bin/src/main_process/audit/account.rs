//! Names of user accounts, from `/etc/passwd` alone: asking a directory service could take any time, and main has none.

use std::collections::BTreeMap;
use std::fs;

/// Accounts that are remembered.
const ACCOUNTS_MAX: usize = 256;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Accounts {
    names: BTreeMap<u32, String>,
}

impl Accounts {
    /// The name of a user; `-` if the file has none.
    pub(super) fn name(&mut self, uid: u32) -> String {
        if let Some(name) = self.names.get(&uid) {
            return name.clone();
        }
        let passwd = fs::read("/etc/passwd").unwrap_or_default();
        let name = find(&String::from_utf8_lossy(&passwd), uid).unwrap_or("-").to_owned();
        if self.names.len() >= ACCOUNTS_MAX {
            self.names.clear();
        }
        self.names.insert(uid, name.clone());
        name
    }
}

/// passwd(5): `name:password:uid:...`.
fn find(passwd: &str, uid: u32) -> Option<&str> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse::<u32>().ok()? == uid).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_by_number() {
        let passwd = "root:x:0:0::/root:/bin/sh\nbroken\nann:x:1000:100::/home/ann:/bin/sh\n";
        assert_eq!(find(passwd, 1000), Some("ann"));
        assert_eq!(find(passwd, 0), Some("root"));
        assert_eq!(find(passwd, 100), None);
    }

    #[test]
    fn whoever_is_not_there_has_no_name() {
        let mut accounts = Accounts::default();
        assert_eq!(accounts.name(0), "root");
        assert_eq!(accounts.name(4_294_000_000), "-");
        assert_eq!(accounts.name(4_294_000_000), "-");
    }
}
