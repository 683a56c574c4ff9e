//! One JSON object a line (RFC 8259). A member that is not known is absent.

use super::Record;
use super::out::{Escaping, Out, bytes_max, is_control};
use super::time::Clock;

const TEXT: Escaping = Escaping { escape, space: b' ' };

pub(super) fn write(out: &mut Out<'_>, record: &Record<'_>, clock: &Clock, worker: u32) {
    out.raw(r#"{"time":""#);
    clock.write(out);
    out.raw(r#"","session_id":""#);
    out.raw(record.session_id.as_bytes());
    out.raw(r#"","request_id":""#);
    out.raw(record.request_id.as_bytes());
    out.raw("\"");
    if !(record.client.port() == 0 && record.client.ip().is_unspecified()) {
        out.raw(r#","client":""#);
        out.address(record.client);
        out.raw("\"");
    }
    if let Some(address) = record.client_peer {
        out.raw(r#","client_peer":""#);
        out.address(address);
        out.raw("\"");
    }
    if let Some(address) = record.listener {
        out.raw(r#","listener":""#);
        out.address(address);
        out.raw("\"");
    }
    text(out, r#","protocol":""#, record.protocol.as_bytes(), bytes_max::SHORT);
    if let Some(http) = &record.http {
        text(out, r#","method":""#, http.method, bytes_max::METHOD);
        text(out, r#","host":""#, http.host, bytes_max::HOST);
        text(out, r#","path":""#, http.path, bytes_max::PATH);
        if let Some(status) = http.status {
            number(out, r#","status":"#, status.into());
        }
    }
    text(out, r#","cluster":""#, record.cluster.as_bytes(), bytes_max::NAME);
    text(out, r#","backend":""#, record.backend.as_bytes(), bytes_max::NAME);
    if let Some(address) = record.backend_address {
        out.raw(r#","backend_address":""#);
        out.address(address);
        out.raw("\"");
    }
    number(out, r#","bytes_in":"#, record.bytes_in);
    number(out, r#","bytes_out":"#, record.bytes_out);
    time(out, r#","request_time_us":"#, Some(record.request_time));
    time(out, r#","queue_time_us":"#, record.queue_time);
    time(out, r#","connect_time_us":"#, record.connect_time);
    time(out, r#","service_time_us":"#, record.service_time);
    time(out, r#","response_time_us":"#, record.response_time);
    if let Some(tls) = &record.tls {
        text(out, r#","tls_version":""#, tls.version.as_bytes(), bytes_max::SHORT);
        text(out, r#","tls_cipher":""#, tls.cipher.as_bytes(), bytes_max::SHORT);
        text(out, r#","sni":""#, tls.sni.as_bytes(), bytes_max::SNI);
        text(out, r#","alpn":""#, tls.alpn.as_bytes(), bytes_max::SHORT);
    }
    if let Some(http) = &record.http {
        text(out, r#","user_agent":""#, http.user_agent, bytes_max::USER_AGENT);
        text(out, r#","x_request_id":""#, http.x_request_id, bytes_max::X_REQUEST_ID);
        text(out, r#","x_forwarded_for":""#, http.x_forwarded_for, bytes_max::X_FORWARDED_FOR);
        if let Some(trace) = http.trace {
            out.raw(r#","trace_id":""#);
            out.trace_id(trace.trace_id);
            out.raw(r#"","span_id":""#);
            out.span_id(trace.span_id);
            out.raw("\"");
        }
    }
    if let Some(tags) = record.tags.filter(|tags| !tags.is_empty()) {
        out.raw(r#","tags":{"#);
        let start = out.len();
        for (key, value) in tags {
            let left = bytes_max::TAGS.saturating_sub(out.len() - start);
            if left < key.len() + 16 {
                break;
            }
            out.raw(if out.len() > start { ",\"" } else { "\"" });
            out.text(key.as_bytes(), left / 2, &TEXT);
            out.raw("\":\"");
            out.text(value.as_bytes(), left / 2, &TEXT);
            out.raw("\"");
        }
        out.raw("}");
    }
    text(out, r#","message":""#, record.message.as_bytes(), bytes_max::MESSAGE);
    number(out, r#","retries":"#, record.retries.into());
    number(out, r#","revision":"#, record.revision);
    number(out, r#","worker":"#, worker.into());
    out.raw("}\n");
}

/// A member and its closing quote, unless there is no text.
fn text(out: &mut Out<'_>, member: &str, text: &[u8], bytes_max: usize) {
    if text.is_empty() {
        return;
    }
    out.raw(member);
    out.text(text, bytes_max, &TEXT);
    out.raw("\"");
}

fn number(out: &mut Out<'_>, member: &str, number: u64) {
    out.raw(member);
    out.number(number);
}

fn time(out: &mut Out<'_>, member: &str, micros: Option<u64>) {
    if let Some(micros) = micros {
        number(out, member, micros);
    }
}

fn escape(out: &mut Out<'_>, character: char) -> bool {
    match character {
        '"' => out.raw("\\\""),
        '\\' => out.raw("\\\\"),
        // None of them needs more than four digits.
        control if is_control(control) => {
            out.raw("\\u");
            for shift in [12, 8, 4, 0] {
                let digit = (control as u32 >> shift) & 0xF;
                out.raw([b"0123456789abcdef".get(digit as usize).copied().unwrap_or(b'0')]);
            }
        }
        _ => return false,
    }
    true
}
