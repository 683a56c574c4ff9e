//! `connection-limit` and `subnet-connection-limit`: how many connections one source may have to one cluster.

use kakehi_command::order::ConnectionLimit as Limit;
use kakehi_command::proto::request::RequestType;
use kakehi_command::proto::{
    MaxConnectionsPerSubnetLimit, QueryMaxConnectionsPerIp, QueryMaxConnectionsPerSubnet,
};

use super::CliError;
use super::client::Proxy;

/// Verbs of both.
#[derive(clap::Subcommand, Debug)]
pub(super) enum ConnectionLimit {
    /// Change the limit, at once and in all workers; who is served stays
    Set {
        /// The most connections at a time, by all workers together; 0: as many as come
        limit: u64,
    },
    /// Take the limit away
    Remove,
    /// Show the limit
    Show,
}

impl ConnectionLimit {
    pub(super) fn run(self, limit: Limit, proxy: &mut Proxy) -> Result<(), CliError> {
        let set = |value| match limit {
            Limit::PerSource => RequestType::SetMaxConnectionsPerIp(value),
            Limit::PerSubnet => RequestType::SetMaxConnectionsPerSubnet(value),
        };
        proxy.tell(match (self, limit) {
            (Self::Set { limit }, _) => set(limit),
            (Self::Remove, _) => set(0),
            (Self::Show, Limit::PerSource) => {
                RequestType::QueryMaxConnectionsPerIp(QueryMaxConnectionsPerIp {})
            }
            (Self::Show, Limit::PerSubnet) => {
                RequestType::QueryMaxConnectionsPerSubnet(QueryMaxConnectionsPerSubnet {})
            }
        })
    }
}

/// The limit of one address, in words.
pub(super) fn render_of_source(limit: u64) -> String {
    format!("connections of one address to one cluster: {}\n", in_words(limit))
}

/// The limit of one network, in words.
pub(super) fn render_of_subnet(limit: &MaxConnectionsPerSubnetLimit) -> String {
    let MaxConnectionsPerSubnetLimit { limit, ipv4_prefix, ipv6_prefix } = *limit;
    format!(
        "connections of one network (IPv4: {ipv4_prefix} bits, IPv6: {ipv6_prefix} bits) to one cluster: {}\n",
        in_words(limit)
    )
}

fn in_words(limit: u64) -> String {
    match limit {
        0 => "no limit".to_owned(),
        limit => limit.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_told_in_words() {
        assert_eq!(render_of_source(0), "connections of one address to one cluster: no limit\n");
        let limit = MaxConnectionsPerSubnetLimit { limit: 9, ipv4_prefix: 24, ipv6_prefix: 64 };
        assert_eq!(
            render_of_subnet(&limit),
            "connections of one network (IPv4: 24 bits, IPv6: 64 bits) to one cluster: 9\n"
        );
    }
}
