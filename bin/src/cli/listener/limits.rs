//! Limits of listeners of any kind, as flags of `add` and `update`.

use kakehi_command::proto::{self, RateLimit, RateLimits};

use super::super::values;

/// What a listener takes in, and from whom.
#[derive(clap::Args, Debug)]
pub(super) struct Limits {
    /// Requests a second of one source, for one host, or with one value of a header (header:NAME), by all workers
    /// together; BURST of them may come at once [default: RATE]. On tcp: connections, of source only. May be repeated
    #[arg(long, value_name = "KEY=RATE[/BURST]", value_parser = values::rate_limit)]
    rate_limit: Vec<RateLimit>,
    /// Client connections at a time, by all workers together; 0: as many as come
    #[arg(long, value_name = "N")]
    max_connections: Option<u64>,
    /// Client connections of one address, likewise
    #[arg(long, value_name = "N")]
    max_connections_per_source: Option<u64>,
    /// Connections accepted in a second, by all workers together; more wait in the kernel; 0: as many as come
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(..=1_000_000))]
    max_accept_rate: Option<u32>,
    /// What becomes of connections that are too many: 503, an alert, or closed where there are no words; or just
    /// closed [default: answer]
    #[arg(long, value_name = "WHAT", value_enum)]
    over_limit: Option<OverLimit>,
}

/// As the configuration file spells it.
#[derive(clap::ValueEnum, Clone, Copy, Debug)]
enum OverLimit {
    Answer,
    Close,
}

/// The limits as fields of a message.
pub(super) struct Fields {
    pub(super) rate_limits: Option<RateLimits>,
    pub(super) max_connections: Option<u64>,
    pub(super) max_connections_per_source: Option<u64>,
    pub(super) max_accept_rate: Option<u32>,
    pub(super) over_limit: Option<i32>,
}

impl Limits {
    /// Those that were given; with `empties`, no rate limit where none was given.
    pub(super) fn fields(self, empties: bool) -> Fields {
        let over = self.over_limit.map(|over| match over {
            OverLimit::Answer => proto::OverLimit::Answer,
            OverLimit::Close => proto::OverLimit::Close,
        });
        Fields {
            rate_limits: (empties || !self.rate_limit.is_empty())
                .then_some(RateLimits { values: self.rate_limit }),
            max_connections: self.max_connections,
            max_connections_per_source: self.max_connections_per_source,
            max_accept_rate: self.max_accept_rate,
            over_limit: over.map(i32::from),
        }
    }
}
