//! A cluster's health check, probes and passive, out of the file; and the values of secret headers, which are
//! read from files of their own.
//!
//! Values never get into orders, and so neither into the state nor its file: an order names a value by its
//! fingerprint, an HMAC (RFC 2104) under a key that this process makes once and keeps to itself. The same
//! value has the same fingerprint for as long as the process lives, so that a reload knows whether it has
//! changed; to anybody else it tells nothing.

use std::io::{self, Read};
use std::path::Path;
use std::sync::OnceLock;

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::diagnostic::Diagnostics;
use super::file::Section;
use crate::order::{PROBE_HEADER_BYTES_MAX, check_header_values, fingerprint_text, status_range};
use crate::proto::{self, supervision::ProbeSecret};

/// How values of headers are read.
pub(super) type ReadSecret<'a> = &'a dyn Fn(&Path) -> io::Result<Zeroizing<Vec<u8>>>;

/// Bytes of a block of SHA-256.
const BLOCK_BYTES: usize = 64;

/// The name of the key, and the key.
type FingerprintKey = ([u8; 16], [u8; 32]);

/// The health check of a section; `None` where there is none, or what is wrong with it is reported. The values of its
/// headers are added to `secrets`.
pub(super) fn health_check(
    cluster_id: &str,
    section: &Section<'_>,
    read: Option<ReadSecret<'_>>,
    secrets: &mut Vec<ProbeSecret>,
    diagnostics: &mut Diagnostics,
) -> Option<proto::HealthCheckConfig> {
    let number = |name: &str| u32::try_from(section.integer_or_default(name)).unwrap_or(u32::MAX);
    let mode = match section.choice("mode") {
        Some("TCP") => proto::HealthCheckMode::Tcp,
        _ => proto::HealthCheckMode::Http,
    };
    let mut accepted_statuses = Vec::new();
    for text in section.texts("accepted_statuses") {
        match status_range(&text) {
            Some(range) => accepted_statuses.push(range),
            None => {
                let complaint = format!(
                    "\"{}\" is none of 200, 200-399, 2xx and any, for 100 to 599",
                    text.escape_debug()
                );
                let name = "accepted_statuses";
                diagnostics.error(section.place_of(name), section.key_path(name), complaint);
            }
        }
    }
    Some(proto::HealthCheckConfig {
        uri: section.text("uri").unwrap_or("/").to_owned(),
        interval: number("interval"),
        timeout: number("timeout"),
        healthy_threshold: number("healthy_threshold"),
        unhealthy_threshold: number("unhealthy_threshold"),
        expected_status: number("expected_status"),
        mode: mode.into(),
        accepted_statuses,
        port: section.integer("port").and_then(|port| u32::try_from(port).ok()),
        headers: headers(cluster_id, section, read, secrets, diagnostics)?,
        host: section.text("host").map(str::to_owned),
        jitter_percent: section.has("jitter_percent").then(|| number("jitter_percent")),
    })
}

/// When backends are taken out because of requests that failed.
pub(super) fn passive_health(section: &Section<'_>) -> proto::PassiveHealth {
    let number = |name: &str| u32::try_from(section.integer_or_default(name)).unwrap_or(u32::MAX);
    proto::PassiveHealth {
        consecutive_failures: number("consecutive_failures"),
        base_ejection: number("base_ejection"),
        max_ejection: number("max_ejection"),
        max_ejected_percent: number("max_ejected_percent"),
        count_server_errors: section.flag("count_server_errors").unwrap_or(true),
    }
}

fn headers(
    cluster_id: &str,
    section: &Section<'_>,
    read: Option<ReadSecret<'_>>,
    secrets: &mut Vec<ProbeSecret>,
    diagnostics: &mut Diagnostics,
) -> Option<Vec<proto::HealthCheckHeader>> {
    let Some(read) = read else { return Some(Vec::new()) };
    let (mut headers, mut values) = (Vec::new(), Vec::new());
    for header in section.tables("headers") {
        let name = header.required("name", diagnostics).and_then(|()| header.text("name"));
        let file = header.required("value_file", diagnostics).and_then(|()| header.text("value_file"));
        let (name, file) = (name?, file?);
        let fingerprinted =
            read(Path::new(file)).and_then(|value| Ok((fingerprint(cluster_id, name, &value)?, value)));
        match fingerprinted {
            Ok((fingerprint, value)) => {
                headers.push(proto::HealthCheckHeader { name: name.to_owned(), fingerprint });
                values.push(value);
            }
            Err(error) => {
                let text = format!("{file}: {error}");
                diagnostics.error(header.place_of("value_file"), header.key_path("value_file"), text);
                return None;
            }
        }
    }
    let names = headers.iter().map(|header| header.name.as_str());
    let named = names.clone().zip(values.iter().map(|value| value.as_slice())).collect::<Vec<_>>();
    if let Err(error) = check_header_values(names, named.into_iter()) {
        diagnostics.error(section.place_of("headers"), section.key_path("headers"), error.to_string());
        return None;
    }
    secrets.extend(headers.iter().zip(values).map(|(header, mut value)| ProbeSecret {
        fingerprint: header.fingerprint.clone(),
        value: std::mem::take(&mut *value),
    }));
    Some(headers)
}

/// The value in a file, without the line's end.
pub(super) fn read_file(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut value = Zeroizing::new(Vec::new());
    let limit = PROBE_HEADER_BYTES_MAX as u64 + 2;
    std::fs::File::open(path)?.take(limit).read_to_end(&mut value)?;
    let line = value.strip_suffix(b"\n").map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    if let Some(length) = line.map(<[u8]>::len) {
        value.truncate(length);
    }
    Ok(value)
}

/// What stands for the value of a cluster's secret header in orders and answers, in this process.
///
/// # Errors
/// The kernel gives no randomness for a key.
pub fn fingerprint(cluster_id: &str, name: &str, value: &[u8]) -> io::Result<String> {
    static KEY: OnceLock<FingerprintKey> = OnceLock::new();
    let (id, key) = match KEY.get() {
        Some(key) => key,
        None => {
            let fresh = fresh_key()?;
            KEY.get_or_init(|| fresh)
        }
    };
    // Lengths first: no two of them run together to the same bytes.
    let mut message = Zeroizing::new(Vec::new());
    for part in [cluster_id.as_bytes(), name.to_ascii_lowercase().as_bytes(), value] {
        message.extend_from_slice(&(part.len() as u64).to_be_bytes());
        message.extend_from_slice(part);
    }
    Ok(fingerprint_text(id, &hmac(key, &message)))
}

fn fresh_key() -> io::Result<FingerprintKey> {
    let (mut id, mut key) = ([0; 16], [0; 32]);
    let mut random = std::fs::File::open("/dev/urandom")?;
    random.read_exact(&mut id)?;
    random.read_exact(&mut key)?;
    Ok((id, key))
}

/// RFC 2104, with SHA-256, for keys that are no longer than a block.
fn hmac(key: &[u8; 32], message: &[u8]) -> [u8; 32] {
    let pad = |byte: u8| {
        let mut block = Zeroizing::new([byte; BLOCK_BYTES]);
        block.iter_mut().zip(key).for_each(|(byte, key)| *byte ^= key);
        block
    };
    let inner = Sha256::new().chain_update(pad(0x36).as_slice()).chain_update(message).finalize();
    Sha256::new().chain_update(pad(0x5c).as_slice()).chain_update(inner).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_is_that_of_the_standard() {
        // RFC 4231 §4.2; its key of 20 bytes is filled up with zeros in any case.
        let mut key = [0; 32];
        key[..20].fill(0x0b);
        let hex: String = hmac(&key, b"Hi There").iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
    }

    #[test]
    fn a_fingerprint_is_of_one_value_of_one_header_of_one_cluster() {
        let of = |cluster, name, value| fingerprint(cluster, name, value).expect("randomness");
        let first = of("app", "X-Key", b"secret");
        assert_eq!(first, of("app", "x-key", b"secret"));
        for other in
            [of("app", "X-Key", b"other"), of("app", "X-Ke", b"ysecret"), of("web", "X-Key", b"secret")]
        {
            assert_ne!(first, other);
        }
        assert!(!first.contains("secret"));
    }

    #[test]
    fn a_line_end_is_no_part_of_a_value() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("value");
        for (text, expected) in [("a\n", "a"), ("a\r\n", "a"), ("a", "a"), ("a\n\n", "a\n"), ("", "")] {
            std::fs::write(&path, text).expect("written");
            assert_eq!(read_file(&path).expect("read").as_slice(), expected.as_bytes());
        }
    }
}
