//! Where a redirect leads: the value of `Location` (RFC 9110 §10.2.2).

use std::fmt::{self, Write};

use kakehi_command::order::RedirectScheme;

/// Where a redirect leads.
#[derive(Debug, Clone, Copy)]
pub struct Location<'a> {
    /// `https` rather than `http`; see [`is_https`].
    pub https: bool,
    /// Name or address, rewritten or the request's, without a port.
    pub host: &'a str,
    /// The port, if one was configured; left out where it is the scheme's default.
    pub port: Option<u16>,
    /// Path and query, rewritten or the request's. What does not begin with a slash (the `*` of `OPTIONS`)
    /// leads to `/`.
    pub path: &'a str,
}

/// Whether a redirect of this scheme leads to https, for a request that came over it or not.
pub fn is_https(scheme: RedirectScheme, came_over_https: bool) -> bool {
    match scheme {
        RedirectScheme::UseSame => came_over_https,
        RedirectScheme::UseHttp => false,
        RedirectScheme::UseHttps => true,
    }
}

/// Appends the location. What no URI has is percent-encoded, whatever the request held.
pub fn write_location(out: &mut Vec<u8>, location: &Location<'_>) {
    out.extend_from_slice(location.to_string().as_bytes());
}

impl fmt::Display for Location<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, default_port) = if self.https { ("https", 443) } else { ("http", 80) };
        write!(out, "{scheme}://{}", UriText(self.host))?;
        if let Some(port) = self.port.filter(|&port| port != default_port) {
            write!(out, ":{port}")?;
        }
        let path = if self.path.starts_with('/') { self.path } else { "/" };
        write!(out, "{}", UriText(path))
    }
}

/// Text as a part of a URI: what no URI has (RFC 3986 §2), is percent-encoded; `#` too, for it would begin
/// another part. What is encoded already stays as it is.
pub(super) struct UriText<'a>(pub(super) &'a str);

impl fmt::Display for UriText<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_foreign = |byte: &u8| !byte.is_ascii_graphic() || b"\"#<>\\^`{|}".contains(byte);
        if !self.0.bytes().any(|byte| is_foreign(&byte)) {
            return out.write_str(self.0);
        }
        for byte in self.0.bytes() {
            if is_foreign(&byte) {
                write!(out, "%{byte:02X}")?;
            } else {
                out.write_char(char::from(byte))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn location(https: bool, host: &str, port: Option<u16>, path: &str) -> String {
        let mut out = b"Location: ".to_vec();
        write_location(&mut out, &Location { https, host, port, path });
        String::from_utf8(out).expect("text").strip_prefix("Location: ").expect("it appends").to_owned()
    }

    #[test]
    fn default_ports_are_left_out() {
        assert_eq!(location(false, "a.test", None, "/x?y=1"), "http://a.test/x?y=1");
        assert_eq!(location(false, "a.test", Some(80), "/"), "http://a.test/");
        assert_eq!(location(false, "a.test", Some(443), "/"), "http://a.test:443/");
        assert_eq!(location(true, "[::1]", Some(443), "/"), "https://[::1]/");
        assert_eq!(location(true, "a.test", Some(8443), "/"), "https://a.test:8443/");
    }

    #[test]
    fn only_paths_lead_somewhere() {
        for path in ["*", "", "evil.test", "@evil.test/", ":80/"] {
            assert_eq!(location(false, "a.test", None, path), "http://a.test/", "{path}");
        }
        assert_eq!(location(false, "a.test", None, "//evil.test/"), "http://a.test//evil.test/");
    }

    #[test]
    fn what_no_uri_has_is_encoded() {
        assert_eq!(
            location(false, "a", None, "/%41\"<a b>\r\nX: y#é"),
            "http://a/%41%22%3Ca%20b%3E%0D%0AX:%20y%23%C3%A9"
        );
    }

    #[test]
    fn schemes() {
        for came_over_https in [false, true] {
            assert_eq!(is_https(RedirectScheme::UseSame, came_over_https), came_over_https);
            assert!(!is_https(RedirectScheme::UseHttp, came_over_https));
            assert!(is_https(RedirectScheme::UseHttps, came_over_https));
        }
    }

    proptest! {
        #[test]
        fn a_path_stays_a_path(path: String) {
            let location = location(true, "a.test", Some(1), &path);
            prop_assert!(location.starts_with("https://a.test:1/"), "{location}");
            prop_assert!(location.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"<>#".contains(&byte)), "{location}");
        }
    }
}
