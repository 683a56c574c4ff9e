//! HTTP Strict Transport Security, as flags of https frontends and listeners.

use kakehi_command::order::HSTS_MAX_AGE_DEFAULT;
use kakehi_command::proto::HstsConfig;

/// Any but the last enables it.
#[derive(clap::Args, Debug)]
pub(super) struct Hsts {
    /// HSTS: how long clients remember to come over https, in seconds [default with another flag of HSTS:
    /// a year]; of https alone, as the flags that follow
    #[arg(long, value_name = "SECONDS")]
    hsts_max_age: Option<u32>,
    /// HSTS: for all hosts below this one, too
    #[arg(long)]
    hsts_include_subdomains: bool,
    /// HSTS: may be built into browsers
    #[arg(long)]
    hsts_preload: bool,
    /// HSTS: also where the backend sends a header of its own
    #[arg(long)]
    hsts_force_replace_backend: bool,
    /// HSTS: none, whatever the listener has
    #[arg(
        long,
        conflicts_with_all = ["hsts_max_age", "hsts_include_subdomains", "hsts_preload", "hsts_force_replace_backend"]
    )]
    hsts_disabled: bool,
}

impl Hsts {
    /// `None` if no flag was given.
    pub(super) fn config(&self) -> Option<HstsConfig> {
        if self.hsts_disabled {
            return Some(HstsConfig { enabled: Some(false), ..HstsConfig::default() });
        }
        let flags = self.hsts_include_subdomains || self.hsts_preload || self.hsts_force_replace_backend;
        (flags || self.hsts_max_age.is_some()).then(|| HstsConfig {
            enabled: Some(true),
            max_age: Some(self.hsts_max_age.unwrap_or(HSTS_MAX_AGE_DEFAULT)),
            include_subdomains: self.hsts_include_subdomains.then_some(true),
            preload: self.hsts_preload.then_some(true),
            force_replace_backend: self.hsts_force_replace_backend.then_some(true),
        })
    }
}
