//! Records in every form, and what becomes of those that find no room.

use std::collections::BTreeMap;
use std::os::unix::net::UnixDatagram;

use kakehi_command::order::ListenerKey;
use kakehi_command::proto::ProtobufAccessLog;
use kakehi_command::proto::protobuf_endpoint::Inner;
use prost::Message;

use super::*;
use crate::session::random;

fn settings(format: Format) -> Settings {
    Settings {
        format,
        buffer_bytes: 1 << 16,
        sampling_ppm: 1_000_000,
        keeps_errors: false,
        redaction: Redaction::default(),
        tag: "WRK-03".to_owned(),
        worker: 3,
    }
}

fn tags() -> BTreeMap<String, String> {
    [("owner".to_owned(), "a team".to_owned()), ("tier".to_owned(), "x=\"y\"".to_owned())].into()
}

fn record(tags: &BTreeMap<String, String>) -> Record<'_> {
    Record {
        session_id: RequestId::from_bits(7 << 80 | 1),
        request_id: RequestId::from_bits(7 << 80 | 2),
        client: SocketAddr::from(([192, 0, 2, 77], 1234)),
        client_peer: Some(SocketAddr::from(([10, 0, 0, 9], 4321))),
        listener: Some(SocketAddr::from(([127, 0, 0, 1], 443))),
        protocol: "HTTPS",
        http: Some(Http {
            method: b"GET",
            host: b"example.org",
            path: b"/a?secret=1",
            status: Some(200),
            user_agent: b"curl/8 (x)",
            x_request_id: b"abc",
            x_forwarded_for: b"198.51.100.9, 203.0.113.4",
            trace: Some(Trace { trace_id: 0x5EED, span_id: 0xDEF }),
        }),
        cluster: "app",
        backend: "app-0",
        backend_address: Some("[2001:db8::1]:80".parse().unwrap()),
        bytes_in: 100,
        bytes_out: 5_000,
        request_time: 12_345,
        queue_time: None,
        connect_time: Some(300),
        service_time: Some(9_999),
        response_time: Some(11_000_000),
        tls: Some(Tls {
            version: "TLSv1.3",
            cipher: "TLS13_AES_128_GCM_SHA256",
            sni: "example.org",
            alpn: "http/1.1",
        }),
        tags: Some(tags),
        message: "H1::Complete",
        failed: false,
        retries: 1,
        revision: 42,
    }
}

/// What is written of a record.
fn written(settings: Settings, record: &Record<'_>) -> Vec<u8> {
    #[expect(clippy::disallowed_methods, reason = "any instant serves as the first")]
    let now = Instant::now();
    let (ours, theirs) = UnixDatagram::pair().unwrap();
    let mut log = AccessLog::off(1);
    log.configure(settings);
    log.set_sink(LogSink::Datagrams(ours.into()));
    log.set_time(1_740_787_200_000_001_000);
    assert_eq!(log.take(record, now), Kept::Taken);
    log.flush(now);
    theirs.set_nonblocking(true).unwrap();
    let mut bytes = [0; RECORD_BYTES_MAX];
    assert!(theirs.recv(&mut bytes).is_err(), "it waits for company");
    log.flush(now + BATCH_TIME);
    let count = theirs.recv(&mut bytes).unwrap();
    bytes[..count].to_vec()
}

#[test]
fn lines_are_as_sozu_s() {
    let tags = tags();
    let line = written(settings(Format::Text { colored: false }), &record(&tags));
    let line = String::from_utf8(line).unwrap();
    let pid = std::process::id();
    assert_eq!(
        line,
        format!(
            "2025-03-01T00:00:00.000001Z 1740787200000001000 {pid} INFO-ACCESS WRK-03\t\
             [{} {} app app-0] 192.0.2.77:1234 [2001:db8::1]:80 12ms/9999µs/11s/-/- 100 5000 \
             [owner=a_team, tier=x=\"y\", user-agent=curl/8_(x)] \
             00000000000000000000000000005eed-0000000000000def HTTPS example.org GET /a?secret=1 200 | \
             H1::Complete\n",
            RequestId::from_bits(7 << 80 | 1),
            RequestId::from_bits(7 << 80 | 2),
        )
    );
}

#[test]
fn json_is_one_object_a_line() {
    let tags = tags();
    let line = String::from_utf8(written(settings(Format::Json), &record(&tags))).unwrap();
    assert_eq!(
        line,
        format!(
            "{{\"time\":\"2025-03-01T00:00:00.000001Z\",\"session_id\":\"{}\",\"request_id\":\"{}\",\
             \"client\":\"192.0.2.77:1234\",\"client_peer\":\"10.0.0.9:4321\",\"listener\":\"127.0.0.1:443\",\"protocol\":\"HTTPS\",\"method\":\"GET\",\
             \"host\":\"example.org\",\"path\":\"/a?secret=1\",\"status\":200,\"cluster\":\"app\",\"backend\":\"app-0\",\
             \"backend_address\":\"[2001:db8::1]:80\",\"bytes_in\":100,\"bytes_out\":5000,\"request_time_us\":12345,\
             \"connect_time_us\":300,\"service_time_us\":9999,\"response_time_us\":11000000,\
             \"tls_version\":\"TLSv1.3\",\"tls_cipher\":\"TLS13_AES_128_GCM_SHA256\",\"sni\":\"example.org\",\
             \"alpn\":\"http/1.1\",\"user_agent\":\"curl/8 (x)\",\"x_request_id\":\"abc\",\
             \"x_forwarded_for\":\"198.51.100.9, 203.0.113.4\",\
             \"trace_id\":\"00000000000000000000000000005eed\",\"span_id\":\"0000000000000def\",\
             \"tags\":{{\"owner\":\"a team\",\"tier\":\"x=\\\"y\\\"\"}},\"message\":\"H1::Complete\",\"retries\":1,\
             \"revision\":42,\"worker\":3}}\n",
            RequestId::from_bits(7 << 80 | 1),
            RequestId::from_bits(7 << 80 | 2),
        )
    );
}

#[test]
fn protobuf_is_sozu_s_message() {
    let tags = tags();
    let frame = written(settings(Format::Protobuf), &record(&tags));
    let body = frame.strip_suffix(&[0, 0]).unwrap();
    let message = ProtobufAccessLog::decode_length_delimited(body).unwrap();
    assert_eq!(message.message.as_deref(), Some("H1::Complete"));
    assert_eq!((message.request_id.low, message.request_id.high), (2, 7 << 16));
    assert_eq!(message.cluster_id.as_deref(), Some("app"));
    assert_eq!(message.protocol, "HTTPS");
    assert_eq!(message.tags.get("owner").map(String::as_str), Some("a team"));
    assert_eq!((message.bytes_in, message.bytes_out, message.service_time), (100, 5_000, 9_999));
    assert_eq!((message.request_time, message.response_time), (Some(12_345), Some(11_000_000)));
    assert_eq!(message.time.low, 1_740_787_200_000_001_000);
    assert_eq!(message.tls_sni.as_deref(), Some("example.org"));
    assert_eq!(message.tag, "WRK-03");
    let Some(Inner::Http(http)) = message.endpoint.inner else { panic!("an HTTP endpoint") };
    assert_eq!((http.authority.as_deref(), http.status), (Some("example.org"), Some(200)));
    let key = |wire| ListenerKey::from_wire(&wire, None).unwrap().address;
    assert_eq!(key(message.session_address.unwrap()), SocketAddr::from(([192, 0, 2, 77], 1234)));
    assert_eq!(key(message.backend_address.unwrap()), "[2001:db8::1]:80".parse().unwrap());
    let plain = written(settings(Format::Protobuf), &Record { http: None, ..record(&tags) });
    let message = ProtobufAccessLog::decode_length_delimited(&plain[..plain.len() - 2]).unwrap();
    assert!(matches!(message.endpoint.inner, Some(Inner::Tcp(_))));
}

/// Each field of Sōzu's message is there, but for what is not measured. Whoever adds a field to the message is asked here.
#[test]
fn protobuf_has_every_field() {
    let tags = tags();
    let frame = written(settings(Format::Protobuf), &record(&tags));
    let ProtobufAccessLog {
        message,
        request_id: _,
        cluster_id,
        backend_id,
        session_address,
        backend_address,
        protocol: _,
        endpoint,
        client_rtt,
        server_rtt,
        service_time: _,
        bytes_in: _,
        bytes_out: _,
        user_agent,
        tags,
        tag: _,
        time,
        request_time,
        response_time,
        otel,
        session_id,
        x_request_id,
        tls_version,
        tls_cipher,
        tls_sni,
        tls_alpn,
        xff_chain,
        start_time,
    } = ProtobufAccessLog::decode_length_delimited(&frame[..frame.len() - 2]).unwrap();
    let texts = [
        message,
        cluster_id,
        backend_id,
        user_agent,
        x_request_id,
        tls_version,
        tls_cipher,
        tls_sni,
        tls_alpn,
    ];
    assert!(texts.iter().all(Option::is_some), "{texts:?}");
    assert!(session_address.is_some() && backend_address.is_some() && session_id.is_some());
    assert_eq!(xff_chain.as_deref(), Some("198.51.100.9, 203.0.113.4"));
    assert_eq!((tags.len(), request_time, response_time), (2, Some(12_345), Some(11_000_000)));
    let otel = otel.unwrap();
    assert_eq!(otel.trace_id, "00000000000000000000000000005eed");
    assert_eq!((otel.span_id.as_str(), otel.parent_span_id), ("0000000000000def", None));
    assert_eq!(start_time.unwrap().low, time.low - 12_345_000);
    let Some(Inner::Http(http)) = endpoint.inner else { panic!("an HTTP endpoint") };
    assert_eq!((http.method.as_deref(), http.path.as_deref()), (Some("GET"), Some("/a?secret=1")));
    assert_eq!((http.authority.as_deref(), http.reason.as_deref()), (Some("example.org"), Some("OK")));
    assert_eq!((client_rtt, server_rtt), (None, None), "a system call each");
}

/// Whatever a client sends: one line, no control character, and less than the bound.
#[test]
fn nobody_writes_lines_of_their_own() {
    let evil = "\n2025 INFO\x1b[31m\r\u{2028}\"\\ \u{85}é\0".repeat(200);
    let bad = [evil.as_bytes(), &[0xFF; 3000]].concat();
    let tags: BTreeMap<_, _> =
        (0..50).map(|n| (format!("{n}{}", &evil[..40]), evil[..1000].to_owned())).collect();
    let http = Http {
        method: &bad,
        host: &bad,
        path: &bad,
        status: Some(65535),
        user_agent: &bad[2000..],
        x_request_id: &bad,
        x_forwarded_for: &bad,
        trace: Some(Trace { trace_id: u128::MAX, span_id: u64::MAX }),
    };
    let tls = Tls { version: "TLSv1.3", cipher: &evil, sni: &evil, alpn: &evil };
    let long = Record {
        http: Some(http),
        tls: Some(tls),
        cluster: &evil,
        backend: &evil,
        message: &evil,
        client: "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535".parse().unwrap(),
        client_peer: Some("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535".parse().unwrap()),
        listener: Some("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535".parse().unwrap()),
        backend_address: Some("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535".parse().unwrap()),
        request_time: u64::MAX,
        queue_time: Some(u64::MAX),
        connect_time: Some(u64::MAX),
        service_time: Some(u64::MAX),
        response_time: Some(u64::MAX),
        bytes_in: u64::MAX,
        bytes_out: u64::MAX,
        retries: u32::MAX,
        revision: u64::MAX,
        ..record(&tags)
    };
    for format in [Format::Text { colored: true }, Format::Json] {
        let bytes = written(settings(format), &long);
        assert!(bytes.len() < RECORD_BYTES_MAX, "{format:?}: {} bytes", bytes.len());
        let text = String::from_utf8(bytes).unwrap();
        let line = text.strip_suffix('\n').unwrap();
        let colours = if format == Format::Json { 0 } else { 2 };
        let controls = line.chars().filter(|&it| it.is_control() && it != '\t').count();
        assert_eq!(controls, colours, "{line:?}");
        assert!(!line.contains('\u{2028}') && line.contains('…'));
    }
    let frame = written(settings(Format::Protobuf), &long);
    assert!(frame.len() < RECORD_BYTES_MAX, "{} bytes", frame.len());
    ProtobufAccessLog::decode_length_delimited(&frame[..frame.len() - 2]).unwrap();
}

#[test]
fn what_is_redacted_is_not_there() {
    let tags = tags();
    let check = |keys: &[&str], gone: &[&str], there: &[&str]| {
        let mut redaction = Redaction::default();
        assert!(keys.iter().all(|key| redaction.add(key)));
        for format in [Format::Text { colored: false }, Format::Json] {
            let bytes = written(Settings { redaction, ..settings(format) }, &record(&tags));
            let line = String::from_utf8(bytes).unwrap();
            assert!(gone.iter().all(|text| !line.contains(text)), "{keys:?}: {line}");
            assert!(there.iter().all(|text| line.contains(text)), "{keys:?}: {line}");
        }
    };
    check(&["path.query"], &["secret"], &["/a", "192.0.2.77"]);
    check(&["path", "host", "sni"], &["/a", "example.org"], &["GET"]);
    check(&["client"], &["192.0.2", "10.0.0", "198.51"], &["/a?secret=1"]);
    check(&["client.host"], &["192.0.2.77", "10.0.0", "198.51"], &["192.0.2.0:0"]);
    check(&["user_agent", "x_request_id", "tags"], &["curl", "abc", "owner"], &["/a?secret=1"]);
    check(&Redaction::KEYS, &["192", "secret", "owner", "example"], &["200"]);
    assert!(!Redaction::default().add("everything"));
}

#[test]
fn a_sample_is_as_large_as_asked_for() {
    let (ours, _theirs) = UnixDatagram::pair().unwrap();
    let mut log = AccessLog::off(1);
    assert!(!log.wants(Some(500), 0), "it is off");
    log.configure(Settings { sampling_ppm: 100_000, keeps_errors: true, ..settings(Format::Json) });
    log.set_sink(LogSink::Datagrams(ours.into()));
    let mut seed = 1;
    let wanted = (0..10_000).filter(|_| log.wants(Some(200), random(&mut seed))).count();
    assert!((800..1_200).contains(&wanted), "{wanted}");
    assert!((0..100).all(|_| log.wants(Some(502), random(&mut seed))));
}

#[test]
fn a_reader_that_does_not_read_costs_records_and_nothing_else() {
    #[expect(clippy::disallowed_methods, reason = "any instant serves as the first")]
    let now = Instant::now();
    let (_reader, writer) = std::io::pipe().unwrap();
    let mut log = AccessLog::off(1);
    log.configure(settings(Format::Json));
    let file = std::fs::File::from(std::os::fd::OwnedFd::from(writer));
    log.set_sink(LogSink::Pipe { file, shared: true });
    let tags = tags();
    let (mut taken, mut dropped) = (0, 0);
    for _ in 0..1_000 {
        match log.take(&record(&tags), now) {
            Kept::Taken => taken += 1,
            Kept::Dropped => dropped += 1,
            Kept::LeftOut => panic!("it is on"),
        }
        log.flush(now + BATCH_TIME);
    }
    // 64 KiB each in the pipe and in the ring.
    assert!((100..400).contains(&taken), "{taken}");
    assert_eq!(taken + dropped, 1_000);
}

#[test]
fn sessions_have_ids_of_their_own() {
    let mut log = AccessLog::off(1);
    let other = AccessLog::off(2);
    let (first, second) = (log.next_session(1_469_918_176_385), log.next_session(1_469_918_176_385));
    assert_ne!(log.session_id(first), log.session_id(second));
    assert_ne!(log.session_id(first), other.session_id(first));
    assert_eq!(log.session_id(first), log.session_id(first));
    assert!(log.session_id(first).as_str().starts_with("01ARYZ6S41"));
}
