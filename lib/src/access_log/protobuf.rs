//! Sōzu's `ProtobufAccessLog`, written by hand: the generated type would allocate each of its texts.
//!
//! Framing: the length of the message as a varint, the message, two zero bytes.

use std::net::SocketAddr;

use super::Record;
use super::out::{Escaping, Out, bytes_max};
use crate::protocol::http::reason_phrase;

/// Whatever it is.
const ANY: Escaping = Escaping { escape: |_, _| false, space: b' ' };

pub(super) fn write(out: &mut Out<'_>, record: &Record<'_>, unix_ns: u64, tag: &str) {
    // Less than RECORD_BYTES_MAX: two bytes of varint, put in front once it is known.
    out.raw([0, 0]);
    let start = out.len();
    text(out, 1, record.message.as_bytes(), bytes_max::MESSAGE);
    uint128(out, 2, record.request_id.to_bits());
    text(out, 3, record.cluster.as_bytes(), bytes_max::NAME);
    text(out, 4, record.backend.as_bytes(), bytes_max::NAME);
    if !(record.client.port() == 0 && record.client.ip().is_unspecified()) {
        address(out, 5, record.client);
    }
    if let Some(backend) = record.backend_address {
        address(out, 6, backend);
    }
    always(out, 7, record.protocol.as_bytes());
    match &record.http {
        Some(http) => nested(out, 8, |out| {
            nested(out, 1, |out| {
                text(out, 1, http.method, bytes_max::METHOD);
                text(out, 2, http.host, bytes_max::HOST);
                text(out, 3, http.path, bytes_max::PATH);
                if let Some(status) = http.status {
                    number(out, 4, status.into());
                    text(out, 5, reason_phrase(status).as_bytes(), bytes_max::SHORT);
                }
            });
        }),
        None => nested(out, 8, |out| nested(out, 2, |_| {})),
    }
    // 9 and 10, the round trips of both connections: a system call each.
    number(out, 13, record.service_time.unwrap_or_default());
    number(out, 14, record.bytes_in);
    number(out, 15, record.bytes_out);
    let http = record.http.unwrap_or_default();
    text(out, 16, http.user_agent, bytes_max::USER_AGENT);
    let tags_at = out.len();
    for (key, value) in record.tags.into_iter().flatten() {
        let left = bytes_max::TAGS.saturating_sub(out.len() - tags_at);
        if left < key.len() + 16 {
            break;
        }
        nested(out, 17, |out| {
            text(out, 1, key.as_bytes(), left / 2);
            text(out, 2, value.as_bytes(), left / 2);
        });
    }
    always(out, 18, tag.as_bytes());
    uint128(out, 19, unix_ns.into());
    number(out, 20, record.request_time);
    if let Some(time) = record.response_time {
        number(out, 21, time);
    }
    if let Some(trace) = http.trace {
        nested(out, 22, |out| {
            nested(out, 1, |out| out.trace_id(trace.trace_id));
            nested(out, 2, |out| out.span_id(trace.span_id));
        });
    }
    uint128(out, 23, record.session_id.to_bits());
    text(out, 24, http.x_request_id, bytes_max::X_REQUEST_ID);
    if let Some(tls) = &record.tls {
        text(out, 25, tls.version.as_bytes(), bytes_max::SHORT);
        text(out, 26, tls.cipher.as_bytes(), bytes_max::SHORT);
        text(out, 27, tls.sni.as_bytes(), bytes_max::SNI);
        text(out, 28, tls.alpn.as_bytes(), bytes_max::SHORT);
    }
    text(out, 29, http.x_forwarded_for, bytes_max::X_FORWARDED_FOR);
    uint128(out, 30, unix_ns.saturating_sub(record.request_time.saturating_mul(1_000)).into());
    put_length(out, start);
    out.raw([0, 0]);
}

fn varint(out: &mut Out<'_>, mut number: u64) {
    while number >= 0x80 {
        out.raw([low_bits(number) | 0x80]);
        number >>= 7;
    }
    out.raw([low_bits(number)]);
}

/// The last seven.
fn low_bits(number: u64) -> u8 {
    u8::try_from(number & 0x7F).unwrap_or_default()
}

/// Wire types: 0 is a varint, 2 has a length, 5 is four bytes.
fn key(out: &mut Out<'_>, field: u64, wire_type: u64) {
    varint(out, field << 3 | wire_type);
}

fn number(out: &mut Out<'_>, field: u64, number: u64) {
    key(out, field, 0);
    varint(out, number);
}

fn always(out: &mut Out<'_>, field: u64, bytes: &[u8]) {
    key(out, field, 2);
    varint(out, bytes.len() as u64);
    out.raw(bytes);
}

/// Two bytes of varint, whatever the length: not the shortest form, which nobody asks for.
fn put_length(out: &mut Out<'_>, start: usize) {
    let length = (out.len() - start) as u64;
    if let Some(place) = out.written_mut(start - 2).first_chunk_mut::<2>() {
        *place = [low_bits(length) | 0x80, low_bits(length >> 7)];
    }
}

fn nested(out: &mut Out<'_>, field: u64, write: impl FnOnce(&mut Out<'_>)) {
    key(out, field, 2);
    out.raw([0, 0]);
    let start = out.len();
    write(out);
    put_length(out, start);
}

fn text(out: &mut Out<'_>, field: u64, text: &[u8], bytes_max: usize) {
    if !text.is_empty() {
        nested(out, field, |out| out.text(text, bytes_max, &ANY));
    }
}

fn uint128(out: &mut Out<'_>, field: u64, value: u128) {
    nested(out, field, |out| {
        let half = |value: u128| u64::try_from(value & u128::from(u64::MAX)).unwrap_or_default();
        number(out, 1, half(value));
        number(out, 2, half(value >> 64));
    });
}

fn address(out: &mut Out<'_>, field: u64, address: SocketAddr) {
    nested(out, field, |out| {
        nested(out, 1, |out| match address {
            SocketAddr::V4(v4) => {
                key(out, 1, 5);
                out.raw(u32::from(*v4.ip()).to_le_bytes());
            }
            SocketAddr::V6(v6) => uint128(out, 2, u128::from(*v6.ip())),
        });
        number(out, 2, address.port().into());
    });
}
