//! HTTP Strict Transport Security (RFC 6797): what clients are told to remember.

use std::fmt;

use super::OrderError;
use crate::proto;

/// How long clients remember, in seconds, unless the policy says otherwise: a year.
pub const HSTS_MAX_AGE_DEFAULT: u32 = 31_536_000;
/// Less than this, in seconds, hardly protects: a day.
const SHORT: u32 = 86_400;

/// A policy, checked. One that is not enabled shadows that of the listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hsts {
    enabled: bool,
    /// As it came, so that it reads back the same.
    wire: proto::HstsConfig,
}

impl Hsts {
    /// Checks a policy that came from outside.
    ///
    /// # Errors
    /// It does not say whether it is enabled.
    pub fn from_wire(wire: proto::HstsConfig) -> Result<Self, OrderError> {
        match wire.enabled {
            Some(enabled) => Ok(Self { enabled, wire }),
            None => Err(OrderError::plain("hsts", "does not say whether it is enabled")),
        }
    }

    /// Whether responses have the header.
    #[must_use]
    pub fn enabled(&self) -> bool {
        self.enabled
    }

    /// The value of `Strict-Transport-Security`; none: the policy is off.
    #[must_use]
    pub fn header_value(&self) -> Option<String> {
        self.enabled.then(|| self.to_string())
    }

    /// Whether a backend's own header gives way.
    #[must_use]
    pub fn forces(&self) -> bool {
        self.wire.force_replace_backend == Some(true)
    }

    /// The policy as a message.
    #[must_use]
    pub fn wire(&self) -> proto::HstsConfig {
        self.wire
    }

    /// Seconds; 0 makes clients forget.
    fn max_age(&self) -> Option<u32> {
        self.enabled.then(|| self.wire.max_age.unwrap_or(HSTS_MAX_AGE_DEFAULT))
    }

    pub(super) fn notes(&self, notes: &mut Vec<String>) {
        let Some(max_age) = self.max_age() else { return };
        if (1..SHORT).contains(&max_age) {
            notes.push(format!("hsts.max_age {max_age} is less than a day"));
        }
        let lists = max_age >= HSTS_MAX_AGE_DEFAULT && self.wire.include_subdomains == Some(true);
        if self.wire.preload == Some(true) && !lists {
            notes.push(
                "hsts.preload has no effect: preload lists want max_age >= 31536000 and include_subdomains"
                    .into(),
            );
        }
    }
}

/// The value of `Strict-Transport-Security`; of a policy that is off, one that makes clients forget.
impl fmt::Display for Hsts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "max-age={}", self.max_age().unwrap_or(0))?;
        if self.wire.include_subdomains == Some(true) {
            f.write_str("; includeSubDomains")?;
        }
        if self.wire.preload == Some(true) {
            f.write_str("; preload")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(wire: proto::HstsConfig, value: Option<&str>, noted: &[&str]) {
        let hsts = Hsts::from_wire(wire).expect("accepted");
        let mut notes = Vec::new();
        hsts.notes(&mut notes);
        assert_eq!((hsts.header_value().as_deref(), hsts.wire()), (value, wire));
        assert!(notes.len() == noted.len() && notes.iter().zip(noted).all(|(note, it)| note.contains(it)));
    }

    #[test]
    fn a_policy_is_one_header() {
        let on = proto::HstsConfig { enabled: Some(true), ..Default::default() };
        check(on, Some("max-age=31536000"), &[]);
        check(proto::HstsConfig { max_age: Some(0), ..on }, Some("max-age=0"), &[]);
        check(proto::HstsConfig { max_age: Some(60), ..on }, Some("max-age=60"), &["less than a day"]);
        let full = proto::HstsConfig { include_subdomains: Some(true), preload: Some(true), ..on };
        check(full, Some("max-age=31536000; includeSubDomains; preload"), &[]);
        let alone = proto::HstsConfig { include_subdomains: None, ..full };
        check(alone, Some("max-age=31536000; preload"), &["preload has no effect"]);
        check(proto::HstsConfig { enabled: Some(false), ..full }, None, &[]);
        assert!(Hsts::from_wire(proto::HstsConfig { enabled: None, ..full }).is_err());
    }
}
