//! Policies written twice, as an operator can: in the config file, and on the command line of a proxy that
//! runs. Whatever holds for one has to hold for the other.

use std::net::SocketAddr;

use crate::proxy::Proxy;

/// A frontend of the one cluster.
pub struct Rule {
    /// Keys of the config file: `hostname = "a.test", path = "/"`.
    pub keys: &'static str,
    /// Flags of `frontend http add`: `--hostname a.test --path-prefix /`.
    pub flags: &'static [&'static str],
}

/// A listener, a cluster `c` and its frontends.
#[derive(Default)]
pub struct Rules<'a> {
    /// Lines of the listener's table.
    pub listener_keys: &'a str,
    /// Flags of `listener http update` to the same end.
    pub listener_flags: &'a [&'a str],
    /// Lines of the cluster's table.
    pub cluster_keys: &'a str,
    /// Flags of `cluster add` to the same end.
    pub cluster_flags: &'a [&'a str],
    /// Its frontends.
    pub frontends: &'a [Rule],
}

impl Rules<'_> {
    /// Checks a proxy that read them from its file, then one that was told while it ran.
    pub fn check(&self, backend: SocketAddr, check: impl Fn(&Proxy)) {
        println!("-- by the config file");
        check(&self.by_file(backend));
        println!("-- by the command line");
        check(&self.by_command_line(backend));
    }

    /// A proxy that read them from its file.
    pub fn by_file(&self, backend: SocketAddr) -> Proxy {
        let frontends: Vec<&str> = self.frontends.iter().map(|rule| rule.keys).collect();
        Proxy::builder()
            .workers(1)
            .listener_setting(self.listener_keys)
            .cluster_with("c", self.cluster_keys, &frontends, &[backend])
            .start()
    }

    /// A proxy that was told while it ran.
    pub fn by_command_line(&self, backend: SocketAddr) -> Proxy {
        let proxy = Proxy::builder().workers(1).start();
        let cli = proxy.cli();
        let listener = proxy.address().to_string();
        if !self.listener_flags.is_empty() {
            cli.ok(&[&["listener", "http", "update", "--address", &listener], self.listener_flags].concat());
        }
        cli.ok(&[&["cluster", "add", "--id", "c"], self.cluster_flags].concat());
        let backend = backend.to_string();
        cli.ok(&["backend", "add", "--id", "c", "--backend-id", "b", "--address", &backend]);
        for rule in self.frontends {
            let add: &[&str] = &["frontend", "http", "add", "--address", &listener];
            cli.ok(&[add, rule.flags, &["id", "c"]].concat());
        }
        proxy
    }
}
