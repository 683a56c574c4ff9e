//! Variables of answer templates: which there are, and which an answer of which status has.

/// What a template can have filled in, written `%NAME`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Variable {
    /// Host and path of the request.
    Route,
    /// The request's id.
    RequestId,
    /// The cluster that was to serve it.
    ClusterId,
    /// The backend that was to serve it.
    BackendId,
    /// What went wrong, in words. In bodies only.
    Message,
    /// Where in a message the parser was.
    Phase,
    /// What the parser had accepted. In bodies only.
    SuccessfullyParsed,
    /// What it was at. In bodies only.
    PartiallyParsed,
    /// What it refused. In bodies only.
    Invalid,
    /// How long was waited.
    Duration,
    /// The bytes that there is room for.
    Capacity,
    /// Where a redirect leads. Once, unless in a redirect's own template.
    RedirectLocation,
    /// The cluster's challenge. Once, in a field, which is left out when there is none.
    WwwAuthenticate,
    /// Seconds to wait. Once, in a field, which is left out when there is nothing to say.
    RetryAfter,
    /// The name under which the template is configured.
    TemplateName,
}

use Variable::{
    BackendId, Capacity, ClusterId, Duration, Invalid, Message, PartiallyParsed, Phase, RedirectLocation,
    RequestId, RetryAfter, Route, SuccessfullyParsed, TemplateName, WwwAuthenticate,
};

/// Where in a template a variable can stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    Anywhere,
    /// It may hold bytes of a peer, many or odd ones, which have no place in a field.
    BodyOnly,
    /// The field exists for it.
    FieldOnly,
}

impl Variable {
    /// The name after the percent sign.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Route => "ROUTE",
            RequestId => "REQUEST_ID",
            ClusterId => "CLUSTER_ID",
            BackendId => "BACKEND_ID",
            Message => "MESSAGE",
            Phase => "PHASE",
            SuccessfullyParsed => "SUCCESSFULLY_PARSED",
            PartiallyParsed => "PARTIALLY_PARSED",
            Invalid => "INVALID",
            Duration => "DURATION",
            Capacity => "CAPACITY",
            RedirectLocation => "REDIRECT_LOCATION",
            WwwAuthenticate => "WWW_AUTHENTICATE",
            RetryAfter => "RETRY_AFTER",
            TemplateName => "TEMPLATE_NAME",
        }
    }

    pub(super) fn room(self) -> Room {
        match self {
            Message | SuccessfullyParsed | PartiallyParsed | Invalid => Room::BodyOnly,
            WwwAuthenticate | RetryAfter => Room::FieldOnly,
            _ => Room::Anywhere,
        }
    }

    /// Whether it may stand once only in an answer that is configured for `status`.
    pub(super) fn is_unique(self, status: Option<u16>) -> bool {
        match self {
            WwwAuthenticate | RetryAfter => true,
            RedirectLocation => matches!(status, Some(301 | 302 | 308)),
            _ => false,
        }
    }
}

/// The variables of an answer configured for `status`; `None`: one with another name. No name is the
/// beginning of another.
pub(super) fn variables(status: Option<u16>) -> &'static [Variable] {
    match status {
        Some(301 | 302 | 308) => &[Route, RequestId, RedirectLocation],
        Some(400) => &[Route, RequestId, Message, Phase, SuccessfullyParsed, PartiallyParsed, Invalid],
        Some(401) => &[Route, RequestId, WwwAuthenticate],
        Some(404 | 421) => &[Route, RequestId],
        Some(408) => &[Route, RequestId, Duration],
        Some(413) => &[Route, RequestId, Capacity, Message, Phase],
        Some(429) => &[Route, RequestId, ClusterId, RetryAfter],
        Some(502) => &[
            Route,
            RequestId,
            ClusterId,
            BackendId,
            Message,
            Phase,
            SuccessfullyParsed,
            PartiallyParsed,
            Invalid,
        ],
        Some(503) => &[Route, RequestId, ClusterId, BackendId, Message],
        Some(504) => &[Route, RequestId, ClusterId, BackendId, Duration],
        Some(507) => &[Route, RequestId, ClusterId, BackendId, Capacity, Message, Phase],
        _ => &[Route, RequestId, ClusterId, RedirectLocation, TemplateName],
    }
}
