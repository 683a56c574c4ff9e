//! What a frontend does with the requests that are its, beyond sending them to a cluster. Nearly all
//! frontends have nothing here.

use super::{Redirect, Rewrite};
use crate::order::{
    AnswerTemplate, HostPattern, Hsts, OrderError, PathRule, error::Excerpt, is_field_value, is_token,
    wire_enum,
};
use crate::proto;

/// Most header edits of one frontend.
pub const HEADER_EDITS_MAX: usize = 64;
/// Bytes of all names and values of a frontend's header edits: half of a default buffer, so that an
/// edited head fits.
pub const HEADER_EDITS_BYTES_MAX: usize = 8192;

const EDITS: &str = "headers";

/// What happens to a request, and to its response, on the way.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FrontendPolicy {
    redirect_scheme: RedirectScheme,
    redirect_template: Option<AnswerTemplate>,
    rewrite_host: Option<Rewrite>,
    rewrite_path: Option<Rewrite>,
    rewrite_port: Option<u16>,
    required_auth: bool,
    header_edits: Box<[HeaderEdit]>,
    hsts: Option<Hsts>,
}

/// The scheme of a redirect's location.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum RedirectScheme {
    /// That of the request.
    #[default]
    UseSame,
    /// `http`.
    UseHttp,
    /// `https`.
    UseHttps,
}

/// A change of one header field. Fields of one name can be set by an edit that deletes them and one that
/// appends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderEdit {
    /// In requests, on their way to the backend.
    pub request: bool,
    /// In responses, on their way to the client.
    pub response: bool,
    /// The field's name, as it is written.
    pub name: Box<str>,
    /// What is appended; empty: all fields of this name are deleted.
    pub value: Box<str>,
}

impl FrontendPolicy {
    /// Checks the policy of a frontend with this host and path.
    pub(super) fn from_wire(
        wire: &proto::RequestHttpFrontend,
        hostname: &HostPattern,
        path: &PathRule,
    ) -> Result<Self, OrderError> {
        let template = wire.redirect_template.as_deref().filter(|text| !text.is_empty());
        let template = template.map(|text| AnswerTemplate::parse(text, None)).transpose();
        let rewrite_host = wire.rewrite_host.as_deref();
        let rewrite_path = wire.rewrite_path.as_deref();
        Ok(Self {
            redirect_scheme: RedirectScheme::from_wire(wire.redirect_scheme)?,
            redirect_template: template.map_err(|reason| OrderError::Invalid {
                field: "redirect_template",
                value: Excerpt::NONE,
                reason: reason.into(),
            })?,
            rewrite_host: rewrite_host.map(|text| Rewrite::host(text, hostname, path)).transpose()?,
            rewrite_path: rewrite_path.map(|text| Rewrite::path(text, hostname, path)).transpose()?,
            rewrite_port: wire.rewrite_port.map(check_port).transpose()?,
            required_auth: wire.required_auth == Some(true),
            header_edits: edits(&wire.headers)?,
            hsts: wire.hsts.map(Hsts::from_wire).transpose()?,
        })
    }

    /// Puts it into a message.
    pub(super) fn put_into(&self, wire: &mut proto::RequestHttpFrontend) {
        wire.redirect_scheme = match self.redirect_scheme {
            RedirectScheme::UseSame => None,
            RedirectScheme::UseHttp => Some(proto::RedirectScheme::UseHttp.into()),
            RedirectScheme::UseHttps => Some(proto::RedirectScheme::UseHttps.into()),
        };
        wire.redirect_template = self.redirect_template.as_ref().map(|template| template.text().to_owned());
        wire.rewrite_host = self.rewrite_host.as_ref().map(ToString::to_string);
        wire.rewrite_path = self.rewrite_path.as_ref().map(ToString::to_string);
        wire.rewrite_port = self.rewrite_port.map(u32::from);
        wire.required_auth = self.required_auth.then_some(true);
        wire.headers = self.header_edits.iter().map(proto::Header::from).collect();
        wire.hsts = self.hsts.map(|hsts| hsts.wire());
    }

    /// What of it has no effect beside this redirect.
    pub(super) fn notes(&self, redirect: Redirect, notes: &mut Vec<String>) {
        let redirects = redirect.status().is_some();
        if self.redirect_template.is_some() && !redirects {
            notes.push("redirect_template has no effect without a redirect".into());
        }
        if self.redirect_scheme != RedirectScheme::UseSame && !redirects {
            notes.push("redirect_scheme has no effect without a redirect".into());
        }
        if let Some(hsts) = &self.hsts {
            hsts.notes(notes);
        }
    }

    /// The scheme of a redirect's location.
    #[must_use]
    pub fn redirect_scheme(&self) -> RedirectScheme {
        self.redirect_scheme
    }

    /// The answer that redirects; none: the listener's or the cluster's, or the built-in one.
    #[must_use]
    pub fn redirect_template(&self) -> Option<&AnswerTemplate> {
        self.redirect_template.as_ref()
    }

    /// The host to ask for instead.
    #[must_use]
    pub fn rewrite_host(&self) -> Option<&Rewrite> {
        self.rewrite_host.as_ref()
    }

    /// The path to ask for instead.
    #[must_use]
    pub fn rewrite_path(&self) -> Option<&Rewrite> {
        self.rewrite_path.as_ref()
    }

    /// The port of a redirect's location.
    #[must_use]
    pub fn rewrite_port(&self) -> Option<u16> {
        self.rewrite_port
    }

    /// Whether a request needs one of the cluster's credentials.
    #[must_use]
    pub fn required_auth(&self) -> bool {
        self.required_auth
    }

    /// What clients are told to remember, whatever the listener tells them.
    #[must_use]
    pub fn hsts(&self) -> Option<&Hsts> {
        self.hsts.as_ref()
    }

    /// Changes of header fields, in the order in which they are made.
    #[must_use]
    pub fn header_edits(&self) -> &[HeaderEdit] {
        &self.header_edits
    }
}

impl RedirectScheme {
    fn from_wire(wire: Option<i32>) -> Result<Self, OrderError> {
        Ok(match wire.map(|wire| wire_enum("redirect_scheme", wire)).transpose()? {
            None | Some(proto::RedirectScheme::UseSame) => Self::UseSame,
            Some(proto::RedirectScheme::UseHttp) => Self::UseHttp,
            Some(proto::RedirectScheme::UseHttps) => Self::UseHttps,
        })
    }
}

impl From<&HeaderEdit> for proto::Header {
    fn from(edit: &HeaderEdit) -> Self {
        let position = match (edit.request, edit.response) {
            (true, true) => proto::HeaderPosition::Both,
            (true, false) => proto::HeaderPosition::Request,
            (false, _) => proto::HeaderPosition::Response,
        };
        Self { position: position.into(), key: edit.name.to_string(), val: edit.value.to_string() }
    }
}

fn check_port(port: u32) -> Result<u16, OrderError> {
    match u16::try_from(port) {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(OrderError::invalid("rewrite_port", &port.to_string(), "is not a port")),
    }
}

fn edits(wire: &[proto::Header]) -> Result<Box<[HeaderEdit]>, OrderError> {
    let refuse = |reason: &'static str| {
        Err(OrderError::Invalid { field: EDITS, value: Excerpt::NONE, reason: reason.into() })
    };
    if wire.len() > HEADER_EDITS_MAX {
        return refuse("are more than 64");
    }
    if wire.iter().map(|edit| edit.key.len() + edit.val.len()).sum::<usize>() > HEADER_EDITS_BYTES_MAX {
        return refuse("have more than 8192 bytes in all");
    }
    wire.iter().map(edit).collect()
}

fn edit(wire: &proto::Header) -> Result<HeaderEdit, OrderError> {
    let name = &wire.key;
    let refuse = |reason| Err(OrderError::invalid(EDITS, name, reason));
    if !is_token(name) {
        return refuse("is not a token");
    }
    if is_framing(name) {
        return refuse("cannot be edited: it frames the message, or is for one hop only");
    }
    if !is_field_value(&wire.val) {
        return refuse("has a value with a control character");
    }
    let (request, response) = match wire_enum("headers.position", wire.position)? {
        proto::HeaderPosition::Unspecified => {
            return refuse("has no position: request, response or both");
        }
        proto::HeaderPosition::Request => (true, false),
        proto::HeaderPosition::Response => (false, true),
        proto::HeaderPosition::Both => (true, true),
    };
    Ok(HeaderEdit { request, response, name: name.as_str().into(), value: wire.val.as_str().into() })
}

/// Fields that say where a message ends or for whom it is, and those between two neighbours (RFC 9110
/// §7.6.1). Many a backend takes an underscore for a dash.
fn is_framing(name: &str) -> bool {
    const FRAMING: [&str; 10] = [
        "connection",
        "content-length",
        "host",
        "http2-settings",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    FRAMING.contains(&name.to_ascii_lowercase().replace('_', "-").as_str())
}
