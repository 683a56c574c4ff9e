//! The command socket from any language: many clients, any bytes, never silence.

use std::time::Duration;

use kakehi_command::proto::request::RequestType;
use kakehi_command::proto::response_content::ContentType;
use kakehi_command::proto::{ResponseStatus, SubscribeEvents};
use kakehi_e2e::http::{Backend, get};
use kakehi_e2e::{CommandClient, Proxy, ReceiveError, requests};

fn proxy() -> Proxy {
    Proxy::builder().workers(2).start()
}

fn clusters(client: &mut CommandClient) -> Vec<String> {
    client.main_hashes().into_keys().collect()
}

#[test]
fn pipelined_requests_are_all_answered_in_order() {
    let proxy = proxy();
    let mut client = proxy.command();
    let mut bytes = Vec::new();
    for n in 0..200 {
        bytes.extend(CommandClient::frame(requests::add_cluster(&format!("c{n}"))));
        // Every other is refused: no such cluster.
        bytes.extend(CommandClient::frame(requests::remove_cluster(&format!("missing{n}"))));
    }
    client.send_bytes(&bytes).expect("taken");
    for n in 0..200 {
        let ok = client.receive_final().expect("an answer");
        assert_eq!(ok.status(), ResponseStatus::Ok, "{n}: {}", ok.message);
        let refused = client.receive_final().expect("an answer");
        assert_eq!(refused.status(), ResponseStatus::Failure, "{n}: {}", refused.message);
    }
    assert_eq!(clusters(&mut client).len(), 200);
}

#[test]
fn clients_do_not_wait_for_each_other() {
    let proxy = proxy();
    // Half a frame, and then nothing.
    let mut silent = proxy.command();
    silent.send_bytes(&CommandClient::frame(requests::status())[..5]).expect("taken");
    // Many requests, and no reading of answers.
    let mut deaf = proxy.command();
    deaf.set_patience(Duration::from_millis(300));
    for _ in 0..20_000 {
        if deaf.send_bytes(&CommandClient::frame(requests::status())).is_err() {
            break;
        }
    }
    let mut others: Vec<CommandClient> = (0..20).map(|_| proxy.command()).collect();
    for (n, client) in others.iter_mut().enumerate() {
        client.set_patience(Duration::from_secs(5));
        client.ok(requests::add_cluster(&format!("c{n}")));
    }
    assert_eq!(clusters(&mut others[0]).len(), 20);
}

#[test]
fn frame_in_single_bytes_is_understood() {
    let proxy = proxy();
    let mut client = proxy.command();
    for byte in CommandClient::frame(requests::add_cluster("a")) {
        client.send_bytes(&[byte]).expect("taken");
    }
    assert_eq!(client.receive_final().expect("an answer").status(), ResponseStatus::Ok);
}

#[test]
fn what_is_not_a_request_is_refused_not_ignored() {
    let proxy = proxy();
    let cases: &[(&str, Vec<u8>)] = &[
        ("empty payload", CommandClient::raw_frame(&[])),
        // Field 999, a length-delimited member no version knows.
        ("unknown verb", CommandClient::raw_frame(&[0xba, 0x3e, 0x00])),
        ("garbage", CommandClient::raw_frame(b"\xff\xff\xff\xff this is not protobuf")),
        ("cut message", CommandClient::raw_frame(&[0x6a, 0x7f, 0x0a])),
        ("a worker's verb", CommandClient::frame(RequestType::ReturnListenSockets(Default::default()))),
        ("not served: launch", CommandClient::frame(RequestType::LaunchWorker("x".into()))),
    ];
    for (name, frame) in cases {
        let mut client = proxy.command();
        client.send_bytes(frame).expect("taken");
        let answer = client.receive_final().unwrap_or_else(|error| panic!("{name}: {error:?}"));
        assert_eq!(answer.status(), ResponseStatus::Failure, "{name}: {}", answer.message);
        assert!(!answer.message.is_empty(), "{name}: no reason given");
        // The connection is still good.
        client.ok(requests::status());
    }
}

#[test]
fn frame_too_short_or_too_long_is_refused_or_closed() {
    let proxy = proxy();
    for length in [0, 7, 1 << 40, u64::MAX] {
        let mut client = proxy.command();
        client.send_bytes(&u64::to_le_bytes(length)).expect("taken");
        match client.receive_final() {
            Ok(answer) => {
                assert_eq!(answer.status(), ResponseStatus::Failure, "{length}: {}", answer.message);
            }
            Err(ReceiveError::Closed) => {}
            Err(error) => panic!("{length}: {error:?}"),
        }
    }
    proxy.command().ok(requests::status());
}

#[test]
fn frame_over_the_limit_is_answered_or_closed_and_within_it_served() {
    let proxy = Proxy::builder()
        .workers(1)
        .setting("command_buffer_size = 4096")
        .setting("max_command_buffer_size = 65536")
        .start();
    let mut client = proxy.command();
    client.ok(requests::add_cluster(&"c".repeat(200)));
    let long = RequestType::LoadState("x".repeat(70_000));
    // It may be closed while we are still writing.
    let _cut = client.send_bytes(&CommandClient::frame(long));
    match client.receive_final() {
        Ok(answer) => assert_eq!(answer.status(), ResponseStatus::Failure, "{}", answer.message),
        Err(error) => assert_eq!(error, ReceiveError::Closed),
    }
    assert_eq!(clusters(&mut proxy.command()).len(), 1);
    assert_eq!(proxy.command().metric("command.frames_refused"), 1);
}

#[test]
fn answer_that_would_be_too_large_is_a_failure_not_a_loop() {
    let proxy = Proxy::builder()
        .workers(1)
        .setting("command_buffer_size = 4096")
        .setting("max_command_buffer_size = 16384")
        .start();
    let mut client = proxy.command();
    for n in 0..1_000 {
        client.ok(requests::add_cluster(&format!("cluster-with-a-rather-long-name-{n}")));
    }
    let answer = client.request(requests::cluster_hashes());
    assert_eq!(answer.status(), ResponseStatus::Failure, "{}", answer.message);
    client.ok(requests::status());
    assert_eq!(proxy.workers().len(), 1);
}

#[test]
fn transaction_is_all_or_nothing() {
    let backend = Backend::named("hello");
    let proxy = proxy();
    let mut client = proxy.command();
    let before = client.revision();
    let good = |id: &str, host: &str| {
        vec![
            requests::add_cluster(id),
            requests::add_backend(id, "b", backend.address()),
            requests::add_frontend(id, proxy.address(), host),
        ]
    };
    client.ok(requests::transaction(good("a", "a.test"), None));
    assert_eq!(get(proxy.address(), "a.test", "/").text(), "hello");
    assert_eq!(client.revision(), before + 1, "a batch is one revision");

    let mut bad = good("b", "b.test");
    bad.push(requests::remove_cluster("missing-one"));
    bad.push(requests::add_backend("missing-two", "b", backend.address()));
    let reason = client.refused(requests::transaction(bad, None));
    assert!(reason.contains("missing-one") || reason.contains('3'), "the culprit is not named: {reason}");
    assert_eq!(clusters(&mut client), ["a"]);
    assert_eq!(get(proxy.address(), "b.test", "/").status(), 404);
    assert_eq!(client.revision(), before + 1);
}

#[test]
fn transaction_at_another_revision_is_refused() {
    let proxy = proxy();
    let mut client = proxy.command();
    let current = client.revision();
    client.refused(requests::transaction(vec![requests::add_cluster("a")], Some(current + 1)));
    assert_eq!(clusters(&mut client), [] as [&str; 0]);
    client.ok(requests::transaction(vec![requests::add_cluster("a")], Some(current)));
    client.refused(requests::transaction(vec![requests::add_cluster("b")], Some(current)));
    assert_eq!(clusters(&mut client), ["a"]);
}

#[test]
fn query_within_a_transaction_is_refused() {
    let proxy = proxy();
    let mut client = proxy.command();
    client.refused(requests::transaction(vec![requests::add_cluster("a"), requests::status()], None));
    let nested = requests::transaction(vec![requests::add_cluster("a")], None);
    client.refused(requests::transaction(vec![nested], None));
    assert_eq!(clusters(&mut client), [] as [&str; 0]);
}

#[test]
fn refused_orders_change_nothing() {
    let backend = Backend::named("hello");
    let proxy = Proxy::builder().cluster("a", "a.test", &[backend.address()]).start();
    let mut client = proxy.command();
    let before = client.revision();
    let listener = proxy.address();
    for request in [
        requests::remove_cluster("missing"),
        requests::add_backend("missing", "b", backend.address()),
        requests::remove_backend("a", "missing", backend.address()),
        requests::add_frontend("a", listener, "a.test"),
        requests::remove_frontend("b", listener, "a.test"),
        requests::add_frontend("a", listener, ""),
        requests::add_frontend("a", listener, "spaces are refused.test"),
        requests::add_frontend("a", listener, "/(unclosed/.test"),
        requests::add_listener(listener),
        requests::remove_listener(kakehi_e2e::address::free_address()),
        requests::activate_listener(kakehi_e2e::address::free_address()),
    ] {
        let shown = format!("{request:?}");
        let reason = client.refused(request);
        assert!(!reason.is_empty(), "{shown:.100}");
    }
    assert_eq!(client.revision(), before);
    assert_eq!(get(listener, "a.test", "/").text(), "hello");
}

#[test]
fn activation_on_a_taken_port_is_refused_and_leaves_nothing() {
    let (address, taken) = kakehi_e2e::address::taken_address();
    let proxy = proxy();
    let mut client = proxy.command();
    client.ok(requests::add_listener(address));
    let reason = client.refused(requests::activate_listener(address));
    assert!(reason.contains(&address.to_string()), "{reason}");
    drop(taken);
    client.ok(requests::activate_listener(address));
    assert_eq!(get(address, "any.test", "/").status(), 404);
}

#[test]
fn later_protocols_are_refused_by_name() {
    let proxy = proxy();
    let mut client = proxy.command();
    let address = kakehi_e2e::address::free_address();
    for request in [
        RequestType::AddUdpListener(kakehi_command::proto::UdpListenerConfig {
            address: requests::wire_address(address),
            ..Default::default()
        }),
        RequestType::AddCluster(kakehi_command::proto::Cluster {
            cluster_id: "a".into(),
            http2: Some(true),
            ..Default::default()
        }),
    ] {
        let reason = client.refused(request);
        assert!(reason.contains("not served yet"), "{reason}");
    }
}

#[test]
fn subscribers_hear_of_changes() {
    let proxy = proxy();
    let mut subscriber = proxy.command();
    subscriber.send(RequestType::SubscribeEvents(SubscribeEvents {}));
    // The first event is one's own subscription: from here on nothing is missed.
    let first = subscriber.receive().expect("the subscription");
    assert_eq!(first.status(), ResponseStatus::Processing);
    proxy.command().ok(requests::add_cluster("watched"));
    let heard = (0..10).any(|_| {
        let response = subscriber.receive().expect("an event");
        assert_eq!(response.status(), ResponseStatus::Processing);
        matches!(response.content.and_then(|content| content.content_type),
            Some(ContentType::Event(event)) if event.cluster_id.as_deref() == Some("watched"))
    });
    assert!(heard);
}

#[test]
fn subscriber_that_does_not_read_holds_nobody_up() {
    let proxy = proxy();
    let mut subscriber = proxy.command();
    subscriber.send(RequestType::SubscribeEvents(SubscribeEvents {}));
    let mut client = proxy.command();
    for round in 0..5_000 {
        let id = format!("cluster-{round}-{}", "x".repeat(200));
        client.ok(requests::add_cluster(&id));
        client.ok(requests::remove_cluster(&id));
    }
    client.ok(requests::status());
}

#[test]
fn socket_is_the_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let proxy = proxy();
    let mode = std::fs::metadata(proxy.socket()).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let open = Proxy::builder().workers(1).setting("command_socket_mode = \"0660\"").start();
    let mode = std::fs::metadata(open.socket()).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
}

#[test]
fn only_allowed_users_may_speak() {
    let own = nix::unistd::geteuid().as_raw();
    let config = |uid: u32| Proxy::builder().workers(1).setting(&format!("command_allowed_uids = [{uid}]"));
    let proxy = config(own).start();
    proxy.command().ok(requests::status());
    drop(proxy);
    let proxy = config(own + 1).spawn();
    let mut client = kakehi_e2e::deadline::await_value("the socket is there", || {
        CommandClient::connect(proxy.socket()).ok()
    });
    let reason = client.refused(requests::status());
    assert!(reason.contains("command_allowed_uids"), "{reason}");
}
