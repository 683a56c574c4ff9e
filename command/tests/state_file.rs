//! State files to the byte, and files that are damaged or older.

use kakehi_command::{
    order::Order,
    proto::{self, request::RequestType},
    state::{ConfigState, StateFileError, read_state, write_state},
};

/// One of each record, as Sōzu writes them.
const GOLDEN: &[&str] = &[
    concat!(
        r#"{"id":"SAVE-0","content":{"request_type":{"ADD_HTTP_LISTENER":{"#,
        r#""address":{"ip":{"inner":{"V4":2130706433}},"port":8080},"public_address":null,"#,
        r#""expect_proxy":false,"sticky_name":"SOZUBALANCEID","front_timeout":60,"back_timeout":30,"#,
        r#""connect_timeout":3,"request_timeout":10,"active":true,"http_answers":null,"#,
        r#""h2_max_rst_stream_per_window":null,"h2_max_ping_per_window":null,"#,
        r#""h2_max_settings_per_window":null,"h2_max_empty_data_per_window":null,"#,
        r#""h2_max_continuation_frames":null,"h2_max_glitch_count":null,"#,
        r#""h2_initial_connection_window":null,"h2_max_concurrent_streams":100,"#,
        r#""h2_stream_shrink_ratio":null,"h2_max_rst_stream_lifetime":null,"#,
        r#""h2_max_rst_stream_abusive_lifetime":null,"h2_max_rst_stream_emitted_lifetime":null,"#,
        r#""h2_max_header_list_size":null,"h2_stream_idle_timeout_seconds":null,"#,
        r#""h2_max_header_table_size":null,"h2_graceful_shutdown_deadline_seconds":null,"#,
        r#""h2_max_window_update_stream0_per_window":null,"sozu_id_header":null,"#,
        r#""answers":{"503":"HTTP/1.1 503 Busy\r\n\r\n"},"elide_x_real_ip":null,"send_x_real_ip":true,"#,
        r#""h2_max_header_fields":null,"interface":null,"forwarded_headers":2,"#,
        r#""h2_stream_refusal_percent":null}}}}"#
    ),
    concat!(
        r#"{"id":"SAVE-1","content":{"request_type":{"ACTIVATE_LISTENER":{"#,
        r#""address":{"ip":{"inner":{"V4":2130706433}},"port":8080},"#,
        r#""proxy":0,"from_scm":false,"interface":null}}}}"#
    ),
    concat!(
        r#"{"id":"SAVE-2","content":{"request_type":{"ADD_CLUSTER":{"cluster_id":"app","#,
        r#""sticky_session":false,"https_redirect":false,"proxy_protocol":null,"load_balancing":0,"#,
        r#""answer_503":null,"load_metric":null,"http2":null,"answers":{},"https_redirect_port":null,"#,
        r#""authorized_hashes":[],"www_authenticate":null,"max_connections_per_ip":null,"#,
        r#""retry_after":null,"health_check":null,"udp":null,"max_connections_per_subnet":null,"#,
        r#""affinity_header":null,"affinity_cookie":null,"shard_percent":null,"#,
        r#""shard_min_backends":null,"shard_mode":null,"max_connection_attempts":null}}}}"#
    ),
    concat!(
        r#"{"id":"SAVE-3","content":{"request_type":{"ADD_HTTP_FRONTEND":{"cluster_id":"app","#,
        r#""address":{"ip":{"inner":{"V4":2130706433}},"port":8080},"hostname":"example.com","#,
        r#""path":{"kind":0,"value":"/"},"method":null,"position":2,"tags":{"owner":"us"},"#,
        r#""redirect":null,"required_auth":null,"redirect_scheme":null,"redirect_template":null,"#,
        r#""rewrite_host":null,"rewrite_path":null,"rewrite_port":null,"headers":[],"hsts":null,"#,
        r#""header_predicates":[]}}}}"#
    ),
    concat!(
        r#"{"id":"SAVE-4","content":{"request_type":{"ADD_BACKEND":{"cluster_id":"app","#,
        r#""backend_id":"app-0","address":{"ip":{"inner":{"V6":{"low":1,"high":0}}},"port":1026},"#,
        r#""sticky_id":null,"load_balancing_parameters":{"weight":100},"backup":null,"unix_path":null}}}}"#
    ),
];

fn golden() -> Vec<u8> {
    GOLDEN.iter().flat_map(|record| [record.as_bytes(), b"\n\0"].concat()).collect()
}

fn load(file: &[u8]) -> ConfigState {
    let mut state = ConfigState::default();
    for request in read_state(file, 200_000) {
        let order = Order::from_request(&request.expect("a record")).expect("an order");
        state.apply(&order).expect("accepted");
    }
    state
}

/// What one request becomes in a state file.
fn record(request: &proto::Request) -> String {
    let mut state = ConfigState::default();
    state.apply(&Order::from_request(request).expect("an order")).expect("accepted");
    let mut written = Vec::new();
    write_state(&state, &mut written).expect("memory takes it");
    String::from_utf8(written).expect("JSON")
}

fn outcomes(file: &[u8], record_bytes_max: usize) -> Vec<Result<proto::Request, StateFileError>> {
    read_state(file, record_bytes_max).collect()
}

fn remove(id: &str) -> String {
    format!("{{\"id\":\"1\",\"content\":{{\"request_type\":{{\"REMOVE_CLUSTER\":\"{id}\"}}}}}}\n\0")
}

#[test]
fn what_is_read_is_written_again_to_the_byte() {
    let state = load(&golden());
    let mut written = Vec::new();
    let records = write_state(&state, &mut written).expect("memory takes it");
    assert_eq!(records, GOLDEN.len());
    assert_eq!(String::from_utf8(written), String::from_utf8(golden()));
}

#[test]
fn members_of_later_versions_may_be_missing_and_unknown_ones_may_be_there() {
    let old = concat!(
        r#"{"id":"0","content":{"request_type":{"ADD_CLUSTER":{"cluster_id":"app","sticky_session":false,"#,
        r#""https_redirect":false,"load_balancing":0,"from_the_future":[1]}}}}"#,
        "\n\0"
    );
    assert_eq!(load(old.as_bytes()).counts().clusters, 1);
}

#[test]
fn frontends_are_written_by_the_variant_of_their_verb() {
    let frontend = |redirect, header_predicates| {
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], 80)).into();
        let hostname = "a.test".into();
        RequestType::AddHttpFrontend(proto::RequestHttpFrontend {
            address,
            hostname,
            redirect,
            header_predicates,
            ..Default::default()
        })
        .into()
    };
    let predicate = proto::HeaderPredicate { name: "X-A".into(), kind: 0, value: Some("1".into()) };
    let predicated = record(&frontend(None, vec![predicate]));
    assert!(predicated.contains(r#"{"ADD_HTTP_FRONTEND_WITH_HEADER_PREDICATES":{"#), "{predicated}");
    assert!(
        predicated.contains(r#""header_predicates":[{"name":"x-a","kind":0,"value":"1"}]"#),
        "{predicated}"
    );
    let silent = record(&frontend(Some(5), Vec::new()));
    assert!(silent.contains(r#"{"ADD_HTTP_FRONTEND_WITH_SILENT_CLOSE":{"#), "{silent}");
    for text in [predicated, silent] {
        assert_eq!(load(text.as_bytes()).counts().http_frontends, 1);
    }
}

#[test]
fn settings_of_ours_are_written_only_where_they_are_set() {
    let listener = proto::HttpListenerConfig {
        address: std::net::SocketAddr::from(([127, 0, 0, 1], 80)).into(),
        front_timeout: 60,
        back_timeout: 30,
        connect_timeout: 3,
        request_timeout: 10,
        trusted_proxies: vec!["10.0.0.0/8".into()],
        max_body_bytes: Some(0),
        ..Default::default()
    };
    let text = record(&RequestType::AddHttpListener(listener).into());
    let ours = r#""h2_stream_refusal_percent":null,"trusted_proxies":["10.0.0.0/8"],"max_body_bytes":0}"#;
    assert!(text.contains(ours), "{text}");
    let state = load(text.as_bytes());
    let listener = state.http_listeners().next().expect("loaded");
    assert!(listener.trusted_proxies().contains([10, 0, 0, 1].into()));
}

#[test]
fn a_damaged_record_is_named_and_the_next_is_read() {
    let file = [remove("a"), "{\"id\":3}\n\0".into(), remove("b")].concat();
    let outcomes = outcomes(file.as_bytes(), 200_000);
    let expected = proto::Request::from(RequestType::RemoveCluster("b".into()));
    assert_eq!(outcomes.len(), 3);
    assert_eq!(outcomes[2].as_ref().expect("readable"), &expected);
    let error = outcomes[1].as_ref().expect_err("damaged").to_string();
    let start = format!("record 1 at byte {}: not a request: ", remove("a").len());
    assert!(error.starts_with(&start), "{error}");
}

#[test]
fn a_file_that_was_cut_says_so() {
    let whole = [remove("a"), remove("b")].concat();
    for cut in [1, 2, 10] {
        let outcomes = outcomes(&whole.as_bytes()[..whole.len() - cut], 200_000);
        assert_eq!(outcomes.len(), 2);
        let error = outcomes[1].as_ref().expect_err("cut").to_string();
        assert!(error.ends_with("the file ends in the middle of it"), "{error}");
    }
    assert!(outcomes(b"", 200_000).is_empty());
    assert!(outcomes(b"\n", 200_000).is_empty());
}

#[test]
fn a_record_over_the_limit_ends_the_reading_before_it_is_held() {
    let limit = remove("a").len() - 2;
    let file = [remove("a"), remove(&"x".repeat(1000)), remove("b")].concat();
    let at_limit = outcomes(file.as_bytes(), limit);
    assert_eq!(at_limit.len(), 2);
    assert!(at_limit[0].is_ok());
    let error = at_limit[1].as_ref().expect_err("too long").to_string();
    assert!(error.contains(&format!("longer than {limit} bytes")), "{error}");
}

/// What HTTPS adds, as Sōzu writes it; CERTIFICATE and KEY stand for PEM texts.
const HTTPS: &[&str] = &[
    concat!(
        r#"{"id":"SAVE-0","content":{"request_type":{"ADD_HTTPS_LISTENER":{"#,
        r#""address":{"ip":{"inner":{"V4":2130706433}},"port":8443},"public_address":null,"#,
        r#""expect_proxy":false,"sticky_name":"SOZUBALANCEID","front_timeout":60,"back_timeout":30,"#,
        r#""connect_timeout":3,"request_timeout":10,"active":true,"versions":[4,5],"#,
        r#""cipher_list":["TLS13_AES_256_GCM_SHA384"],"cipher_suites":["TLS13_AES_256_GCM_SHA384"],"#,
        r#""signature_algorithms":["ECDSA+SHA256"],"groups_list":["x25519"],"certificate":"CERTIFICATE","#,
        r#""certificate_chain":[],"key":"KEY","send_tls13_tickets":4,"http_answers":null,"#,
        r#""alpn_protocols":["h2","http/1.1"],"h2_max_rst_stream_per_window":null,"#,
        r#""h2_max_ping_per_window":null,"h2_max_settings_per_window":null,"#,
        r#""h2_max_empty_data_per_window":null,"h2_max_continuation_frames":null,"#,
        r#""h2_max_glitch_count":null,"h2_initial_connection_window":null,"#,
        r#""h2_max_concurrent_streams":null,"h2_stream_shrink_ratio":null,"#,
        r#""h2_max_rst_stream_lifetime":null,"h2_max_rst_stream_abusive_lifetime":null,"#,
        r#""h2_max_rst_stream_emitted_lifetime":null,"h2_max_header_list_size":null,"#,
        r#""strict_sni_binding":true,"disable_http11":null,"h2_stream_idle_timeout_seconds":null,"#,
        r#""h2_max_header_table_size":null,"h2_graceful_shutdown_deadline_seconds":null,"#,
        r#""h2_max_window_update_stream0_per_window":null,"sozu_id_header":null,"answers":{},"#,
        r#""elide_x_real_ip":null,"send_x_real_ip":null,"hsts":null,"h2_max_header_fields":null,"#,
        r#""interface":null,"forwarded_headers":null,"h2_stream_refusal_percent":null,"#,
        r#""client_auth":null,"client_ca_certificates":[],"client_ca_crls":[]}}}}"#
    ),
    concat!(
        r#"{"id":"SAVE-1","content":{"request_type":{"ACTIVATE_LISTENER":{"#,
        r#""address":{"ip":{"inner":{"V4":2130706433}},"port":8443},"#,
        r#""proxy":1,"from_scm":false,"interface":null}}}}"#
    ),
    concat!(
        r#"{"id":"SAVE-2","content":{"request_type":{"ADD_CERTIFICATE":{"#,
        r#""address":{"ip":{"inner":{"V4":2130706433}},"port":8443},"#,
        r#""certificate":{"certificate":"CERTIFICATE","certificate_chain":[],"key":"KEY","versions":[5],"#,
        r#""names":["a.test"]},"expired_at":1234}}}}"#
    ),
    concat!(
        r#"{"id":"SAVE-3","content":{"request_type":{"ADD_HTTPS_FRONTEND":{"cluster_id":null,"#,
        r#""address":{"ip":{"inner":{"V4":2130706433}},"port":8443},"hostname":"a.test","#,
        r#""path":{"kind":0,"value":""},"method":null,"position":2,"tags":{},"#,
        r#""redirect":null,"required_auth":null,"redirect_scheme":null,"redirect_template":null,"#,
        r#""rewrite_host":null,"rewrite_path":null,"rewrite_port":null,"headers":[],"#,
        r#""hsts":{"enabled":true,"max_age":60,"include_subdomains":null,"preload":null,"#,
        r#""force_replace_backend":null},"header_predicates":[]}}}}"#
    ),
];

#[test]
fn https_is_written_again_to_the_byte_certificates_before_frontends() {
    let certificate = include_str!("data/certificate.pem").replace('\n', "\\n");
    let key = include_str!("data/key.pem").replace('\n', "\\n");
    let with_pem = |record: &&str| {
        let record = record.replace(r#":"CERTIFICATE""#, &format!(r#":"{certificate}""#));
        record.replace(r#":"KEY""#, &format!(r#":"{key}""#)) + "\n\0"
    };
    let file: String = HTTPS.iter().map(with_pem).collect();
    let state = load(file.as_bytes());
    let mut written = Vec::new();
    write_state(&state, &mut written).expect("memory takes it");
    assert_eq!(String::from_utf8(written), Ok(file));
}

/// What TCP adds, as Sōzu writes it.
const TCP: &[&str] = &[
    concat!(
        r#"{"id":"SAVE-0","content":{"request_type":{"ADD_TCP_LISTENER":{"#,
        r#""address":{"ip":{"inner":{"V4":2130706433}},"port":465},"public_address":null,"#,
        r#""expect_proxy":false,"front_timeout":60,"back_timeout":30,"connect_timeout":3,"active":true,"#,
        r#""sni_preread_timeout":5,"sni_preread_max_bytes":16384,"interface":null}}}}"#
    ),
    concat!(
        r#"{"id":"SAVE-1","content":{"request_type":{"ACTIVATE_LISTENER":{"#,
        r#""address":{"ip":{"inner":{"V4":2130706433}},"port":465},"#,
        r#""proxy":2,"from_scm":false,"interface":null}}}}"#
    ),
    concat!(
        r#"{"id":"SAVE-2","content":{"request_type":{"ADD_TCP_FRONTEND":{"cluster_id":"mail","#,
        r#""address":{"ip":{"inner":{"V4":2130706433}},"port":465},"tags":{"owner":"us"},"#,
        r#""sni":"*.mail.test","alpn":["imap","smtp"]}}}}"#
    ),
];

#[test]
fn tcp_is_written_again_to_the_byte() {
    let file: String = TCP.iter().map(|record| format!("{record}\n\0")).collect();
    let state = load(file.as_bytes());
    let mut written = Vec::new();
    write_state(&state, &mut written).expect("memory takes it");
    assert_eq!(String::from_utf8(written), Ok(file));
}

#[test]
fn a_tcp_frontend_of_an_older_file_has_no_protocols() {
    let old = concat!(
        r#"{"id":"0","content":{"request_type":{"ADD_TCP_FRONTEND":{"cluster_id":"mail","#,
        r#""address":{"ip":{"inner":{"V4":2130706433}},"port":465},"tags":{}}}}}"#,
        "\n\0"
    );
    let state = load(old.as_bytes());
    let frontend = state.tcp_frontends().next().expect("loaded");
    assert_eq!((frontend.sni(), frontend.alpn().len()), (None, 0));
}

#[test]
fn tls_that_ends_at_a_tcp_listener_is_written_and_read() {
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], 465)).into();
    let tls = proto::HttpsListenerConfig {
        alpn_protocols: vec!["mqtt".into()],
        certificate: Some(include_str!("data/certificate.pem").into()),
        key: Some(include_str!("data/key.pem").into()),
        ..Default::default()
    };
    let listener = proto::TcpListenerConfig { address, tls: Some(tls), ..Default::default() };
    let text = record(&RequestType::AddTcpListener(listener).into());
    let state = load(text.as_bytes());
    let tls = state.tcp_listeners().next().and_then(|it| it.tls()).expect("TLS ends there");
    assert_eq!(tls.alpn_names(), ["mqtt"]);
    assert!(tls.default_certificate().is_some());
    let again = write_state(&state, &mut Vec::new()).expect("memory takes it");
    assert_eq!(again, 1);
}
