//! The built-in answers.
//!
//! Whatever is echoed, an answer is one that we would take from a backend, its body is as long as it says,
//! and the JSON in it is JSON, inside of HTML that it cannot end, and gives back what was echoed.

#![no_main]

use kakehi_command::order::Hsts;
use kakehi_command::proto::HstsConfig;
use kakehi_fuzz::{ID_HEADER, LIMITS};
use kakehi_lib::protocol::h1::head::{Asked, FieldStorage, Parsed, parse_response};
use kakehi_lib::protocol::http::answer::{ANSWER_BYTES_MIN, Answer, write_answer};
use kakehi_lib::protocol::http::{Framing, RequestMethod};
use libfuzzer_sys::fuzz_target;

const ID: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";

fn check_echo(json: &serde_json::Value, name: &str, sent: &str) {
    let echoed = json[name].as_str().unwrap_or_else(|| panic!("{name} of {json}"));
    match echoed.strip_suffix("...") {
        Some(start) if !sent.ends_with("...") || sent != echoed => assert!(sent.starts_with(start)),
        _ => assert_eq!(echoed, sent, "{name}"),
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((&[status, flags, space], text)) = input.split_first_chunk::<3>() else { return };
    let text = String::from_utf8_lossy(text);
    let mut texts = text.split('\0');
    let mut next = || texts.next().unwrap_or_default();
    let (route, message, location, cluster) = (next(), next(), next(), next());
    let status = [301, 400, 401, 404, 408, 413, 414, 429, 431, 502, 503, 504][usize::from(status) % 12];
    let wire = HstsConfig { enabled: Some(true), ..HstsConfig::default() };
    let policy = Hsts::from_wire(wire).expect("the defaults are a policy");
    let answer = Answer {
        status,
        route,
        request_id: ID,
        cluster_id: (flags & 1 != 0).then_some(cluster),
        backend_id: (flags & 2 != 0).then_some(cluster),
        message,
        location: (flags & 4 != 0 && location.len() <= 256).then_some(location),
        challenge: (flags & 8 != 0 && location.len() <= 256).then_some(location),
        hsts: (flags & 64 != 0).then_some(&policy),
        close: flags & 16 != 0,
        retry_after: (flags & 64 != 0).then_some(u32::MAX),
        head_only: flags & 32 != 0,
    };
    let mut out = vec![0; usize::from(space) * 64];
    let length = write_answer(&mut out, &answer, ID_HEADER);
    if length == 0 {
        assert!(out.len() < ANSWER_BYTES_MIN, "there is room for something");
        return;
    }

    let method = if answer.head_only { RequestMethod::Head } else { RequestMethod::Other };
    let mut storage = FieldStorage::new();
    let asked = Asked { method, upgrade: None };
    let Ok(Parsed::Complete { head, bytes }) = parse_response(&out[..length], &mut storage, &LIMITS, asked)
    else {
        panic!("we do not accept what we write: {:?}", String::from_utf8_lossy(&out[..length]));
    };
    let body = std::str::from_utf8(&out[bytes..length]).expect("text");
    assert_eq!((head.status, head.keep_alive), (status, !answer.close));
    assert_eq!(head.field(ID_HEADER), Some(ID.as_bytes()));
    let told = head.field("Strict-Transport-Security").map(<[u8]>::to_vec);
    assert_eq!(told, answer.hsts.map(|policy| policy.to_string().into_bytes()));
    assert!(head.fields.len() <= 8);
    if answer.head_only {
        assert!(body.is_empty() && head.content_length_of_absent_body.is_some());
        return;
    }
    assert_eq!(head.framing, Framing::Length(body.len() as u64));
    assert_eq!(body.matches("</pre>").count(), usize::from(!body.is_empty()));
    let Some((_, json)) = body.split_once("<pre>\n") else { return };
    let (json, _) = json.split_once("</pre>").expect("the end of the block");
    assert!(!json.contains(['<', '>', '&', '\'']));
    let json: serde_json::Value = serde_json::from_str(json).expect("JSON");
    assert_eq!(json["status_code"], status);
    if json.get("route").is_some() {
        check_echo(&json, "route", route);
        check_echo(&json, "request_id", ID);
        if !message.is_empty() {
            check_echo(&json, "message", message);
        }
    }
});
