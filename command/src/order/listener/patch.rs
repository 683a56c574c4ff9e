//! Partial changes of HTTP and HTTPS listeners. All values are checked before any is written, so that a
//! refused patch changes nothing.

use std::net::SocketAddr;

use super::{
    ForwardedHeaders, HttpListener, HttpListenerPatch, ListenerKind, ListenerLimits, TraceContext,
    TrustedProxies, check_name, check_positive, limits::said_limits, listen_address, public_address,
    request_line, tls,
};
use crate::{
    order::{
        OrderError,
        answer::{self, Answers},
    },
    proto,
};

/// Names each optional setting that patch and listener share under one name, once.
macro_rules! shared_optional_settings {
    ($apply:ident) => {
        $apply!(
            h2_max_rst_stream_per_window,
            h2_max_ping_per_window,
            h2_max_settings_per_window,
            h2_max_empty_data_per_window,
            h2_max_continuation_frames,
            h2_max_glitch_count,
            h2_initial_connection_window,
            h2_max_concurrent_streams,
            h2_stream_shrink_ratio,
            h2_max_rst_stream_lifetime,
            h2_max_rst_stream_abusive_lifetime,
            h2_max_rst_stream_emitted_lifetime,
            h2_max_header_list_size,
            h2_max_header_table_size,
            h2_stream_idle_timeout_seconds,
            h2_graceful_shutdown_deadline_seconds,
            h2_max_window_update_stream0_per_window,
            h2_max_header_fields,
            h2_stream_refusal_percent,
            public_address,
            sozu_id_header,
            elide_x_real_ip,
            send_x_real_ip,
            forwarded_headers,
            tunnel_timeout,
            max_request_line,
            max_body_bytes,
            min_transfer_rate,
            trace_context,
            rate_limits,
            max_connections,
            max_connections_per_source,
            max_accept_rate,
            over_limit
        )
    };
}
pub(super) use shared_optional_settings;

/// Likewise for the limits of HTTP/2 of which none makes sense as 0.
macro_rules! h2_limits {
    ($apply:ident) => {
        $apply!(
            h2_max_rst_stream_per_window,
            h2_max_ping_per_window,
            h2_max_settings_per_window,
            h2_max_empty_data_per_window,
            h2_max_continuation_frames,
            h2_max_glitch_count,
            h2_initial_connection_window,
            h2_max_concurrent_streams,
            h2_max_rst_stream_lifetime,
            h2_max_rst_stream_abusive_lifetime,
            h2_max_rst_stream_emitted_lifetime,
            h2_max_header_list_size,
            h2_max_header_table_size,
            h2_stream_idle_timeout_seconds,
            h2_max_window_update_stream0_per_window,
            h2_max_header_fields
        )
    };
}

/// Likewise for those that a listener always has.
macro_rules! shared_required_settings {
    ($apply:ident) => {
        $apply!(expect_proxy, sticky_name, front_timeout, back_timeout, connect_timeout, request_timeout)
    };
}
pub(super) use shared_required_settings;

/// Likewise for the bodies of the older form of custom answers.
macro_rules! answer_bodies {
    ($apply:ident) => {
        $apply!(
            answer_301, answer_400, answer_401, answer_404, answer_408, answer_413, answer_421, answer_429,
            answer_502, answer_503, answer_504, answer_507
        )
    };
}

impl HttpListenerPatch {
    /// Checks a patch that came from outside.
    ///
    /// # Errors
    /// As for a listener.
    pub fn from_wire(wire: proto::UpdateHttpListenerConfig) -> Result<Self, OrderError> {
        let address = listen_address(&wire.address)?;
        wire.public_address.as_ref().map(public_address).transpose()?;
        ForwardedHeaders::from_wire(wire.forwarded_headers)?;
        check_name("sozu_id_header", wire.sozu_id_header.as_deref())?;
        check_name("sticky_name", wire.sticky_name.as_deref())?;
        for (field, seconds) in [
            ("front_timeout", wire.front_timeout),
            ("back_timeout", wire.back_timeout),
            ("connect_timeout", wire.connect_timeout),
            ("request_timeout", wire.request_timeout),
            ("tunnel_timeout", wire.tunnel_timeout),
        ] {
            check_positive(field, seconds.map(u64::from))?;
        }
        request_line(wire.max_request_line)?;
        TraceContext::from_wire(wire.trace_context)?;
        ListenerLimits::of_http(&said_limits!(wire))?;
        if let Some(trusted) = &wire.trusted_proxies {
            TrustedProxies::parse("trusted_proxies", &trusted.values)?;
        }
        if let Some(sources) = &wire.expect_proxy_from {
            TrustedProxies::parse(super::EXPECT_PROXY_FROM, &sources.values)?;
        }
        Answers::from_wire(&wire.answers, answer::older(wire.http_answers.as_ref()))?;
        check_h2_limits(&wire)?;
        Ok(Self { address, wire, tls: None })
    }

    /// What it is for: an HTTP or an HTTPS listener.
    #[must_use]
    pub fn kind(&self) -> ListenerKind {
        if self.tls.is_some() { ListenerKind::Https } else { ListenerKind::Http }
    }

    pub(in crate::order) fn notes(&self, notes: &mut Vec<String>) {
        let wire = &self.wire;
        answer::note_unused(&wire.answers, notes);
        macro_rules! is_set {
            ($($field:ident),*) => {
                $(wire.$field.is_some())||*
            };
        }
        if h2_limits!(is_set) || wire.h2_stream_shrink_ratio.is_some() {
            notes.push("h2_* settings are kept but not served yet by this version".into());
        }
        if let Some(tls) = &self.tls {
            tls::patch::notes(tls, notes);
        }
    }

    /// Whether all of it holds at `now`, in seconds since 1970.
    pub(in crate::order) fn check_validity(&self, now: i64) -> Result<(), OrderError> {
        self.tls.as_ref().map_or(Ok(()), |wire| tls::patch::check_validity(wire, now))
    }

    /// The listener it is for.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Writes what is set. Answers merge by their code, and an empty body is ignored.
    pub(super) fn apply(&self, listener: &mut proto::HttpListenerConfig) {
        let patch = &self.wire;
        macro_rules! set_optional {
            ($($field:ident),*) => {
                $(if patch.$field.is_some() {
                    listener.$field = patch.$field.clone();
                })*
            };
        }
        macro_rules! set_required {
            ($($field:ident),*) => {
                $(if let Some(value) = patch.$field.clone() {
                    listener.$field = value;
                })*
            };
        }
        shared_optional_settings!(set_optional);
        shared_required_settings!(set_required);
        if let Some(trusted) = &patch.trusted_proxies {
            listener.trusted_proxies = trusted.values.clone();
        }
        if let Some(sources) = &patch.expect_proxy_from {
            listener.expect_proxy_from = sources.values.clone();
        }
        for (code, body) in patch.answers.iter().filter(|(_, body)| !body.is_empty()) {
            listener.answers.insert(code.clone(), body.clone());
        }
        if let Some(answers) = &patch.http_answers {
            merge_answers(listener.http_answers.get_or_insert_default(), answers);
        }
    }

    /// A patch of all in which `to` differs, as far as a patch can say it.
    pub(super) fn between(before: &HttpListener, after: &HttpListener) -> Self {
        let (address, from, to) = (before.address(), &before.wire, &after.wire);
        let mut wire = proto::UpdateHttpListenerConfig { address: address.into(), ..Default::default() };
        macro_rules! take_optional {
            ($($field:ident),*) => {
                $(if from.$field != to.$field {
                    wire.$field = to.$field.clone();
                })*
            };
        }
        macro_rules! take_required {
            ($($field:ident),*) => {
                $(if from.$field != to.$field {
                    wire.$field = Some(to.$field.clone());
                })*
            };
        }
        shared_optional_settings!(take_optional);
        shared_required_settings!(take_required);
        wire.answers = to
            .answers
            .iter()
            .filter(|(code, body)| from.answers.get(*code) != Some(body))
            .map(|(code, body)| (code.clone(), body.clone()))
            .collect();
        if from.trusted_proxies != to.trusted_proxies {
            wire.trusted_proxies = Some(proto::TrustedProxies { values: to.trusted_proxies.clone() });
        }
        if from.expect_proxy_from != to.expect_proxy_from {
            wire.expect_proxy_from = Some(proto::TrustedProxies { values: to.expect_proxy_from.clone() });
        }
        if from.http_answers != to.http_answers {
            wire.http_answers = to.http_answers.clone();
        }
        let tls = before.tls().zip(after.tls()).map(|(from, to)| Box::new(from.patch_to(to)));
        Self { address, wire, tls }
    }
}

fn check_h2_limits(wire: &proto::UpdateHttpListenerConfig) -> Result<(), OrderError> {
    macro_rules! check {
        ($($field:ident),*) => {
            $(check_positive(stringify!($field), wire.$field.map(u64::from))?;)*
        };
    }
    h2_limits!(check);
    match wire.h2_stream_shrink_ratio {
        Some(ratio @ 0..2) => {
            Err(OrderError::invalid("h2_stream_shrink_ratio", &ratio.to_string(), "must be >= 2"))
        }
        _ => Ok(()),
    }
}

fn merge_answers(answers: &mut proto::CustomHttpAnswers, patch: &proto::CustomHttpAnswers) {
    macro_rules! merge {
        ($($field:ident),*) => {
            $(if patch.$field.as_ref().is_some_and(|body| !body.is_empty()) {
                answers.$field = patch.$field.clone();
            })*
        };
    }
    answer_bodies!(merge);
}

impl From<&HttpListenerPatch> for proto::UpdateHttpListenerConfig {
    fn from(patch: &HttpListenerPatch) -> Self {
        patch.wire.clone()
    }
}
