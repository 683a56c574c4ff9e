//! What the protocol looks like to the byte: other programs speak it.

use std::net::SocketAddr;

use kakehi_command::{
    channel::encode_frame,
    proto::{self, request::RequestType},
};
use prost::Message;

/// Bytes written as in a dump, with words for text: `0a 03 "app"`.
fn bytes(dump: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for word in dump.split_whitespace() {
        match word.strip_prefix('"').and_then(|word| word.strip_suffix('"')) {
            Some(text) => bytes.extend_from_slice(text.as_bytes()),
            None => bytes.push(u8::from_str_radix(word, 16).expect("a byte in hex")),
        }
    }
    bytes
}

fn check<M: Message + Default + PartialEq + std::fmt::Debug>(message: &M, dump: &str) {
    assert_eq!(message.encode_to_vec(), bytes(dump));
    assert_eq!(&M::decode(&*bytes(dump)).expect("decodes"), message);
}

fn add_cluster() -> proto::Request {
    RequestType::AddCluster(proto::Cluster { cluster_id: "app".into(), ..Default::default() }).into()
}

#[test]
fn an_ipv4_address_is_a_number_with_the_most_significant_octet_first() {
    let address: SocketAddr = "127.0.0.1:8080".parse().expect("an address");
    check(&proto::SocketAddress::from(address), "0a 05 0d 01 00 00 7f 10 90 3f");
}

#[test]
fn an_ipv6_address_is_two_halves() {
    let address: SocketAddr = "[::1]:80".parse().expect("an address");
    check(&proto::SocketAddress::from(address), "0a 06 12 04 08 01 10 00 10 50");
}

#[test]
fn required_fields_are_sent_even_when_they_are_the_default() {
    check(&add_cluster(), r#"6a 0b 0a 03 "app" 10 00 18 00 28 00"#);
}

#[test]
fn a_missing_required_field_takes_its_default() {
    let request = proto::Request::decode(&*bytes(r#"6a 05 0a 03 "app""#)).expect("decodes");
    assert_eq!(request, add_cluster());
    let frontend = proto::RequestHttpFrontend::decode(&[][..]).expect("decodes");
    assert_eq!(frontend.position(), proto::RulePosition::Tree);
}

#[test]
fn a_request_of_another_protocol_version_has_no_type() {
    // Tag 3 is unused.
    let request = proto::Request::decode(&*bytes("1a 00")).expect("decodes");
    assert_eq!(request.request_type, None);
}

#[test]
fn extensions_live_at_1000() {
    let transaction = proto::Transaction { requests: vec![add_cluster()], if_revision: Some(7) };
    check(
        &proto::Request::from(RequestType::Transaction(transaction)),
        r#"c2 3e 11 0a 0d 6a 0b 0a 03 "app" 10 00 18 00 28 00 10 07"#,
    );
    check(&proto::Request::from(RequestType::QueryRevision(proto::QueryRevision {})), "ca 3e 00");
}

#[test]
fn settings_of_ours_live_at_1000() {
    let trusted = proto::TrustedProxies { values: vec!["::1".into()] };
    let patch = proto::UpdateHttpListenerConfig {
        address: SocketAddr::from(([127, 0, 0, 1], 80)).into(),
        trusted_proxies: Some(trusted),
        tunnel_timeout: Some(1),
        trace_context: Some(proto::TraceContext::Make.into()),
        ..Default::default()
    };
    check(&patch, r#"0a 09 0a 05 0d 01 00 00 7f 10 50 c2 3e 05 0a 03 "::1" c8 3e 01 e8 3e 01"#);
}

#[test]
fn a_frame_is_its_own_length_in_eight_bytes_and_the_message() {
    let mut frame = Vec::new();
    encode_frame(&add_cluster(), &mut frame).expect("encodes");
    assert_eq!(frame, bytes(r#"15 00 00 00 00 00 00 00 6a 0b 0a 03 "app" 10 00 18 00 28 00"#));
}

#[test]
fn a_response_always_carries_its_status() {
    let response =
        proto::Response { status: proto::ResponseStatus::Ok.into(), message: "done".into(), content: None };
    check(&response, r#"08 00 12 04 "done""#);
}
