//! TLS on the command line: versions, and files in PEM.

use std::io::{self, Read};
use std::path::Path;

use kakehi_command::order::{CERTIFICATE_BYTES_MAX, OCSP_RESPONSE_BYTES_MAX};
use kakehi_command::proto::TlsVersion;

use super::CliError;

/// Parser of a version of TLS, in the spellings in use: `TLS_V12`, `TLSv1.2`, `TLS_V1_2`.
pub(super) fn version(text: &str) -> Result<TlsVersion, String> {
    let plain: String = text.chars().filter(char::is_ascii_alphanumeric).collect();
    Ok(match plain.to_ascii_uppercase().as_str() {
        "SSLV2" => TlsVersion::SslV2,
        "SSLV3" => TlsVersion::SslV3,
        "TLSV1" | "TLSV10" => TlsVersion::TlsV10,
        "TLSV11" => TlsVersion::TlsV11,
        "TLSV12" => TlsVersion::TlsV12,
        "TLSV13" => TlsVersion::TlsV13,
        _ => return Err(format!("`{text}` is not one of TLS_V12, TLS_V13")),
    })
}

/// Numbers of the wire.
pub(super) fn versions(versions: &[TlsVersion]) -> Vec<i32> {
    versions.iter().map(|version| i32::from(*version)).collect()
}

/// A PEM file's text.
pub(super) fn pem(path: &Path) -> Result<String, CliError> {
    let text = String::from_utf8(bytes(path, CERTIFICATE_BYTES_MAX)?);
    text.map_err(|_| unusable(path, io::Error::other("it is not text: PEM is wanted, not DER")))
}

/// The texts of several PEM files.
pub(super) fn pems(paths: &[std::path::PathBuf]) -> Result<Vec<String>, CliError> {
    paths.iter().map(|path| pem(path)).collect()
}

/// A file with an OCSP response in DER.
pub(super) fn ocsp_response(path: &Path) -> Result<Vec<u8>, CliError> {
    bytes(path, OCSP_RESPONSE_BYTES_MAX)
}

/// What is too long for any request is told here: the proxy would close the connection instead.
fn bytes(path: &Path, max: usize) -> Result<Vec<u8>, CliError> {
    let read = || {
        let mut bytes = Vec::new();
        std::fs::File::open(path)?.take(max as u64 + 1).read_to_end(&mut bytes)?;
        match bytes.len() > max {
            true => Err(io::Error::other(format!("it is longer than {max} bytes"))),
            false => Ok(bytes),
        }
    };
    read().map_err(|error| unusable(path, error))
}

fn unusable(path: &Path, error: io::Error) -> CliError {
    CliError::File { path: path.to_owned(), error }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_have_many_spellings() {
        for text in ["TLS_V12", "TLSv1.2", "tls_v1_2", "TLSv12"] {
            assert_eq!(version(text), Ok(TlsVersion::TlsV12), "{text}");
        }
        assert_eq!(version("TLSv1"), Ok(TlsVersion::TlsV10));
        assert!(version("TLS_V14").is_err());
    }
}
