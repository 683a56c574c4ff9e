//! Values on the command line and in answers: texts to wire values and back.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use kakehi_command::proto::{RateLimit, SocketAddress};

use super::CliError;

/// An address of an answer, as `IP:PORT`.
pub(super) fn address_text(wire: &SocketAddress) -> String {
    match SocketAddr::try_from(wire) {
        Ok(address) => address.to_string(),
        Err(error) => format!("(an address that {error})"),
    }
}

/// The path from the root, as text. The file need not exist.
pub(super) fn absolute(path: &Path) -> Result<String, CliError> {
    let unusable = |error| CliError::File { path: path.to_owned(), error };
    let absolute = std::path::absolute(path).map_err(unusable)?;
    let not_text = || std::io::Error::other("the command protocol carries paths in UTF-8 only");
    absolute.into_os_string().into_string().map_err(|_| unusable(not_text()))
}

/// The content of a text file.
pub(super) fn file_text(path: &Path) -> Result<String, CliError> {
    std::fs::read_to_string(path).map_err(|error| CliError::File { path: path.to_owned(), error })
}

/// Answers by status code; `file://PATH` stands for the file's content.
pub(super) fn answers(answers: Vec<(String, String)>) -> Result<BTreeMap<String, String>, CliError> {
    let read = |(code, body): (String, String)| match body.strip_prefix("file://") {
        Some(path) => Ok((code, file_text(path.as_ref())?)),
        None => Ok((code, body)),
    };
    answers.into_iter().map(read).collect()
}

/// Parser of `key=value, key=value`.
pub(super) fn tags(text: &str) -> Result<BTreeMap<String, String>, String> {
    let pair = |pair: &str| {
        let (key, value) = pair.split_once('=').ok_or_else(|| format!("`{pair}` is not KEY=VALUE"))?;
        Ok((key.trim().to_owned(), value.trim().to_owned()))
    };
    text.split(',').map(str::trim).filter(|text| !text.is_empty()).map(pair).collect()
}

/// Tags of an answer, as [`tags`] reads them.
pub(super) fn tags_text(tags: &BTreeMap<String, String>) -> String {
    tags.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(", ")
}

/// Parser of `KEY=RATE[/BURST]`.
pub(super) fn rate_limit(text: &str) -> Result<RateLimit, String> {
    let number = |number: &str| number.parse().map_err(|_| format!("`{number}` is not a number"));
    let (key, rate) = split_pair(text)?;
    let (rate, burst) = match rate.split_once('/') {
        Some((rate, burst)) => (number(rate)?, Some(number(burst)?)),
        None => (number(&rate)?, None),
    };
    Ok(RateLimit { key, rate, burst })
}

/// A rate limit of an answer, as [`rate_limit`] reads it.
pub(super) fn rate_limit_text(limit: &RateLimit) -> String {
    let burst = limit.burst.map(|burst| format!("/{burst}"));
    format!("{}={}{}", limit.key, limit.rate, burst.unwrap_or_default())
}

/// Parser of `NAME=VALUE`; the value may contain more of the signs.
pub(super) fn split_pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| format!("`{text}` is not NAME=VALUE"))?;
    Ok((key.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[(&str, &str)]) {
        let expected = expected.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        assert_eq!(tags(text), Ok(expected));
    }

    #[test]
    fn rate_limits_are_read() {
        let limit = |key: &str, rate, burst| Ok(RateLimit { key: key.to_owned(), rate, burst });
        assert_eq!(rate_limit("source=100"), limit("source", 100, None));
        assert_eq!(rate_limit("header:X-Key=1/20"), limit("header:X-Key", 1, Some(20)));
        for text in ["source", "source=", "source=a", "source=1/", "source=-1"] {
            assert!(rate_limit(text).is_err(), "{text}");
        }
    }

    #[test]
    fn tags_are_pairs() {
        check("owner=me", &[("owner", "me")]);
        check("owner=me, id = 7,", &[("owner", "me"), ("id", "7")]);
        check("query=a=b", &[("query", "a=b")]);
        check("", &[]);
        assert!(tags("owner").is_err());
    }

    #[test]
    fn an_address_that_is_none_says_so() {
        assert_eq!(address_text(&SocketAddress::default()), "(an address that has no IP address)");
        let address: SocketAddr = "[::1]:80".parse().unwrap();
        assert_eq!(address_text(&address.into()), "[::1]:80");
    }
}
