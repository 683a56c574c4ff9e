//! Where a TLS connection goes: by the server name that it asks for, then by the protocol that it would speak.
//!
//! A name in full comes before a wildcard, which stands for one label as everywhere. Which of a name's entries is taken
//! the client says, by the first of its protocols that there is an entry for; where it names none of them, or none at all, the
//! entry without protocols is taken. A name in full that has no entry for a client is not looked up as a wildcard: its
//! protocols are its own.

use kakehi_command::order::HostPattern;

use super::host::Host;
use super::host_map::HostMap;
use super::text::Text;

/// Why there is no way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unmatched {
    /// Nothing is known of this name.
    Name,
    /// None of the protocols has an entry, and no entry is for the others.
    Protocol,
}

/// The entries of one address.
#[derive(Debug)]
pub struct ServerNames<V> {
    exact: HostMap<Vec<Entry<V>>>,
    /// By what follows the star.
    wildcards: HostMap<Vec<Entry<V>>>,
    /// For every name, and for none.
    any: Vec<Entry<V>>,
}

#[derive(Debug)]
struct Entry<V> {
    /// None: those that no other entry of this name is for.
    protocols: Box<[Box<str>]>,
    value: V,
}

impl<V> Default for ServerNames<V> {
    fn default() -> Self {
        Self { exact: HostMap::default(), wildcards: HostMap::default(), any: Vec::new() }
    }
}

impl<V> ServerNames<V> {
    /// Adds an entry: for a pattern, or without one for everybody. No two of a pattern have a protocol in common.
    ///
    /// Patterns of other forms than a name and a wildcard match nothing.
    pub fn insert(&mut self, pattern: Option<&HostPattern>, protocols: &[Box<str>], value: V) {
        let entry = Entry { protocols: protocols.into(), value };
        let (map, host) = match pattern {
            None => return self.any.push(entry),
            Some(HostPattern::Exact(host)) => (&mut self.exact, host),
            Some(HostPattern::Wildcard(suffix)) => (&mut self.wildcards, suffix),
            Some(HostPattern::Regex(_) | HostPattern::Any) => return,
        };
        match map.get_mut(Host::lower(host.as_bytes())) {
            Some(entries) => entries.push(entry),
            None => map.insert(Text(host.clone()), vec![entry]),
        }
    }

    /// Takes an entry out, and gives what it led to.
    pub fn remove(&mut self, pattern: Option<&HostPattern>, protocols: &[Box<str>]) -> Option<V> {
        let (map, host) = match pattern {
            None => return take(&mut self.any, protocols),
            Some(HostPattern::Exact(host)) => (&mut self.exact, host),
            Some(HostPattern::Wildcard(suffix)) => (&mut self.wildcards, suffix),
            Some(HostPattern::Regex(_) | HostPattern::Any) => return None,
        };
        let host = Host::lower(host.as_bytes());
        let entries = map.get_mut(host)?;
        let value = take(entries, protocols);
        if entries.is_empty() {
            map.remove(host);
        }
        value
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.any.is_empty() && !self.has_names()
    }

    /// Whether any entry is for a name.
    pub fn has_names(&self) -> bool {
        !self.exact.is_empty() || !self.wildcards.is_empty()
    }

    /// The entry for everybody, whatever is asked for.
    pub fn any(&self) -> Option<&V> {
        self.any.first().map(|entry| &entry.value)
    }

    /// The entry for a name, in any case, and protocols, those that the client prefers first.
    ///
    /// # Errors
    /// There is none.
    pub fn route<'p>(&self, name: &str, protocols: impl Iterator<Item = &'p [u8]>) -> Result<&V, Unmatched> {
        let found = Host::with_lower(name.as_bytes(), |host| {
            self.exact.get(host).or_else(|| self.wildcards.get(host.parent()?))
        });
        choose(found.ok_or(Unmatched::Name)?, protocols).ok_or(Unmatched::Protocol)
    }

    /// Every count agrees with what it counts.
    pub fn check_invariants(&self) {
        for map in [&self.exact, &self.wildcards] {
            map.check_invariants();
            assert!(map.values().all(|entries| !entries.is_empty()), "what nobody uses is forgotten");
        }
    }
}

fn choose<'v, 'p, V>(
    entries: &'v [Entry<V>],
    mut protocols: impl Iterator<Item = &'p [u8]>,
) -> Option<&'v V> {
    let named = protocols.find_map(|protocol| {
        let speaks = |entry: &&Entry<V>| entry.protocols.iter().any(|known| known.as_bytes() == protocol);
        entries.iter().find(speaks)
    });
    let entry = named.or_else(|| entries.iter().find(|entry| entry.protocols.is_empty()))?;
    Some(&entry.value)
}

fn take<V>(entries: &mut Vec<Entry<V>>, protocols: &[Box<str>]) -> Option<V> {
    let at = entries.iter().position(|entry| *entry.protocols == *protocols)?;
    Some(entries.remove(at).value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> HostPattern {
        HostPattern::parse(text).expect("a pattern")
    }

    fn protocols(names: &[&str]) -> Vec<Box<str>> {
        names.iter().map(|&name| name.into()).collect()
    }

    /// Entries lead to their own place in this list.
    fn table(entries: &[(&str, &[&str])]) -> ServerNames<usize> {
        let mut table = ServerNames::default();
        for (index, (host, names)) in entries.iter().enumerate() {
            table.insert(Some(&pattern(host)), &protocols(names), index);
        }
        table.check_invariants();
        table
    }

    fn route(table: &ServerNames<usize>, name: &str, offered: &[&str]) -> Result<usize, Unmatched> {
        table.route(name, offered.iter().map(|name| name.as_bytes())).copied()
    }

    #[test]
    fn a_name_comes_before_a_wildcard_of_one_label() {
        let table = table(&[("*.example.com", &[]), ("a.example.com", &[]), ("*.b.example.com", &[])]);
        let check = |name, expected| assert_eq!(route(&table, name, &[]), expected, "{name}");
        check("a.example.com", Ok(1));
        check("C.example.COM", Ok(0));
        check("c.b.example.com", Ok(2));
        check("example.com", Err(Unmatched::Name));
        check("x.c.example.com", Err(Unmatched::Name));
        check("other.org", Err(Unmatched::Name));
        check("", Err(Unmatched::Name));
    }

    #[test]
    fn the_client_s_first_protocol_with_an_entry_decides() {
        let table = table(&[
            ("a.org", &["h2", "x"]),
            ("a.org", &["http/1.1"]),
            ("a.org", &[]),
            ("b.org", &["h2"]),
            ("*.org", &[]),
        ]);
        let check = |name, offered: &[&str], expected| {
            assert_eq!(route(&table, name, offered), expected, "{name} {offered:?}");
        };
        check("a.org", &["h2", "http/1.1"], Ok(0));
        check("a.org", &["http/1.1", "h2"], Ok(1));
        check("a.org", &["spdy", "x", "http/1.1"], Ok(0));
        check("a.org", &["spdy"], Ok(2));
        check("a.org", &[], Ok(2));
        check("a.org", &["H2"], Ok(2));
        check("b.org", &["h2"], Ok(3));
        check("b.org", &["http/1.1"], Err(Unmatched::Protocol));
        check("b.org", &[], Err(Unmatched::Protocol));
    }

    #[test]
    fn what_is_removed_is_forgotten() {
        let mut table = table(&[("a.org", &["h2"]), ("a.org", &[]), ("*.org", &[])]);
        assert_eq!(table.remove(Some(&pattern("a.org")), &protocols(&["x"])), None);
        assert_eq!(table.remove(Some(&pattern("b.org")), &[]), None);
        assert_eq!(table.remove(Some(&pattern("a.org")), &[]), Some(1));
        assert_eq!(route(&table, "a.org", &[]), Err(Unmatched::Protocol));
        assert_eq!(table.remove(Some(&pattern("a.org")), &protocols(&["h2"])), Some(0));
        assert_eq!(route(&table, "a.org", &[]), Ok(2), "the wildcard's now");
        assert_eq!(table.remove(Some(&pattern("*.org")), &[]), Some(2));
        assert!(table.is_empty());
        table.check_invariants();
    }

    #[test]
    fn one_for_everybody_asks_for_no_name() {
        let mut table = ServerNames::default();
        table.insert(None, &[], 7);
        assert_eq!((table.any(), table.has_names(), table.is_empty()), (Some(&7), false, false));
        assert_eq!(table.remove(None, &[]), Some(7));
        assert!(table.is_empty());
    }
}
