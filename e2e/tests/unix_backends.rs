//! Backends on Unix sockets, at paths and with abstract names, by workers in their sandbox.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;

use kakehi_command::proto::request::RequestType;
use kakehi_command::proto::{BackendTls, Cluster};
use kakehi_e2e::address::free_address;
use kakehi_e2e::content::{Hasher, SeededContent};
use kakehi_e2e::deadline::await_true;
use kakehi_e2e::http::{After, Backend, Client, get};
use kakehi_e2e::load::{Connections, Load, Target};
use kakehi_e2e::nginx::Nginx;
use kakehi_e2e::tcp::{TcpBackend, TcpClient, activate_tcp_listener, tcp_frontend, tcp_listener};
use kakehi_e2e::tls::{Authority, TlsBackend};
use kakehi_e2e::unix::{add_unix_backend, address, bridge, listen};
use kakehi_e2e::{Proxy, ProxyBuilder, requests, skipped};
use tempfile::TempDir;

/// A directory for sockets.
fn directory() -> TempDir {
    tempfile::tempdir().expect("a directory")
}

fn path_in(directory: &TempDir, name: &str) -> String {
    directory.path().join(name).to_str().expect("plain text").to_owned()
}

/// A cluster "a" for a.test in the configuration file, with these backends: their keys.
fn configured(backends: &str) -> ProxyBuilder {
    let proxy = Proxy::builder();
    let frontend = format!("{{ address = \"{}\", hostname = \"a.test\", path = \"/\" }}", proxy.address());
    proxy.tables(&format!(
        "\n[clusters.a]\nprotocol = \"http\"\nfrontends = [{frontend}]\nbackends = [{backends}]\n"
    ))
}

/// A proxy of one worker with a cluster "a" for a.test that has this backend.
fn proxy_for(path: &str) -> Proxy {
    configured(&format!("{{ address = \"192.0.2.1:1\", unix_path = \"{path}\" }}")).workers(1).start()
}

#[test]
fn curl_through_two_workers_to_nginx() {
    let directory = directory();
    let path = path_in(&directory, "nginx.sock");
    let Some(_nginx) = Nginx::start_on_unix("nginx on a socket", &path) else { return };
    let proxy = configured(&format!("{{ address = \"192.0.2.1:1\", unix_path = \"{path}\" }}")).start();
    assert_eq!(proxy.stdout().matches("sandbox: no new privileges").count(), 2, "{}", proxy.output());
    for _ in 0..8 {
        let output = Command::new("curl")
            .args(["--silent", "--show-error", "--fail-with-body", "--max-time", "60", "-H", "Host: a.test"])
            .arg(format!("http://{}/", proxy.address()))
            .env_remove("http_proxy")
            .output();
        let Ok(output) = output else { return skipped("curl is not installed; .ci/run installs it") };
        assert_eq!(String::from_utf8_lossy(&output.stdout), "nginx on a socket", "{output:?}");
    }
    proxy.stop();
}

#[test]
fn an_abstract_name_is_reached_from_the_sandbox() {
    let name = format!("@kakehi-e2e-{}", std::process::id());
    let backend = Backend::named_on_unix(&name, "abstract");
    let proxy = configured(&format!("{{ address = \"192.0.2.1:1\", unix_path = \"{name}\" }}")).start();
    for _ in 0..8 {
        assert_eq!(get(proxy.address(), "a.test", "/").text(), "abstract");
    }
    assert_eq!(backend.served(), 8);
    proxy.stop();
}

#[test]
fn connections_are_pooled_whatever_the_client_sends() {
    let directory = directory();
    let path = path_in(&directory, "s");
    let backend = Backend::named_on_unix(&path, "pooled");
    let proxy = proxy_for(&path);
    let mut client = Client::connect(proxy.address());
    for round in 0..10 {
        client.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4\r\n\r\nbody");
        assert_eq!(client.response("POST").text(), "pooled", "{round}");
        assert_eq!(get(proxy.address(), "a.test", "/").text(), "pooled", "{round}");
    }
    assert_eq!((backend.accepted(), backend.served()), (1, 20));
    assert_eq!(proxy.command().metric("backend.pool.hit"), 19);
    proxy.stop();
}

#[test]
fn an_answer_that_ends_with_its_connection_is_whole() {
    // Closing ends both directions of a Unix socket at once: that must not cost what was sent before.
    let directory = directory();
    let path = path_in(&directory, "s");
    let body = "x".repeat(50_000);
    let answer = format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{body}");
    let _backend = Backend::start_on_unix(&path, move |exchange| {
        exchange.write(&answer)?;
        Ok(After::Close)
    });
    let proxy = proxy_for(&path);
    for _ in 0..20 {
        assert_eq!(get(proxy.address(), "a.test", "/").text().len(), body.len());
    }
    proxy.stop();
}

#[test]
fn long_bodies_pass_through_the_kernel_both_ways() {
    const BYTES: u64 = 8 << 20;
    let directory = directory();
    let path = path_in(&directory, "s");
    let _backend = Backend::start_on_unix(&path, |exchange| {
        let (length, digest) = exchange.body_digest()?;
        exchange.write(format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {BYTES}\r\nX-Length: {length}\r\nX-Digest: {digest}\r\n\r\n"
        ))?;
        let (mut content, mut piece) = (SeededContent::new(2), vec![0; 1 << 16]);
        for _ in 0..BYTES >> 16 {
            content.fill(&mut piece);
            exchange.write(&piece)?;
        }
        Ok(After::KeepAlive)
    });
    let proxy = proxy_for(&path);
    let mut client = Client::connect(proxy.address());
    client.send(format!("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: {BYTES}\r\n\r\n"));
    let (mut content, mut piece, mut sent) = (SeededContent::new(1), vec![0; 1 << 16], Hasher::default());
    for _ in 0..BYTES >> 16 {
        content.fill(&mut piece);
        sent.update(&piece);
        client.send(&piece);
    }
    let (head, framing) = client.try_head("POST").expect("an answer");
    assert_eq!(head.fields.get("X-Digest"), Some(sent.finish().as_str()));
    let (mut content, mut expected, mut came) = (SeededContent::new(2), Hasher::default(), Hasher::default());
    for _ in 0..BYTES >> 16 {
        content.fill(&mut piece);
        expected.update(&piece);
    }
    client.stream_body(framing, |piece| came.update(piece)).expect("all of it");
    assert_eq!(came.finish(), expected.finish());
    let spliced = proxy.command().metric("bytes_spliced");
    assert!(spliced > i64::try_from(BYTES).expect("fits"), "{spliced} bytes of {} were spliced", 2 * BYTES);
    proxy.stop();
}

#[test]
fn a_socket_that_vanishes_comes_back() {
    let directory = directory();
    let path = path_in(&directory, "s");
    let first = Backend::start_on_unix(&path, |exchange| {
        exchange.body_digest()?;
        exchange.answer("first")?;
        Ok(if exchange.head.target == "/last" { After::Close } else { After::KeepAlive })
    });
    let proxy = proxy_for(&path);
    assert_eq!(get(proxy.address(), "a.test", "/").text(), "first");
    // The idle connection stands; the name is gone.
    fs::remove_file(&path).expect("it is there");
    assert_eq!(get(proxy.address(), "a.test", "/last").text(), "first");
    assert_eq!(first.accepted(), 1);
    let mut command = proxy.command();
    await_true("nobody is there", || get(proxy.address(), "a.test", "/").status() == 503);
    assert!(command.metric("backend.connections.error") > 0);
    let second = Backend::named_on_unix(&path, "second");
    await_true("it is tried again", || {
        let answer = get(proxy.address(), "a.test", "/");
        answer.status() == 200 && answer.text() == "second"
    });
    drop(second);
    proxy.stop();
}

#[test]
fn a_full_backlog_is_the_backends_trouble() {
    let directory = directory();
    let path = path_in(&directory, "full");
    let listener = listen(&path);
    // Nobody accepts: after so many, the kernel takes no more (EAGAIN), and a blocking connect would hang.
    let mut waiting = Vec::new();
    let full = loop {
        let socket = nix::sys::socket::socket(
            nix::sys::socket::AddressFamily::Unix,
            nix::sys::socket::SockType::Stream,
            nix::sys::socket::SockFlag::SOCK_NONBLOCK,
            None,
        )
        .expect("a socket");
        let address = nix::sys::socket::UnixAddr::new(Path::new(&path)).expect("an address");
        match nix::sys::socket::connect(std::os::fd::AsRawFd::as_raw_fd(&socket), &address) {
            Ok(()) => waiting.push(socket),
            Err(error) => break error,
        }
        assert!(waiting.len() < 20_000, "a backlog has an end");
    };
    assert_eq!(full, nix::errno::Errno::EAGAIN);
    let other = Backend::named("other");
    let proxy = configured(&format!(
        "{{ address = \"192.0.2.1:1\", unix_path = \"{path}\" }}, {{ address = \"{}\" }}",
        other.address()
    ))
    .workers(1)
    .start();
    for _ in 0..10 {
        assert_eq!(get(proxy.address(), "a.test", "/").text(), "other");
    }
    let mut command = proxy.command();
    assert!(command.metric("backend.connections.error") > 0);
    drop(listener);
    drop(waiting);
    let _again = Backend::named_on_unix(&path, "again");
    await_true("it is tried again", || get(proxy.address(), "a.test", "/").text() == "again");
    proxy.stop();
}

#[test]
fn a_backend_moves_to_a_socket_and_back_under_load() {
    let directory = directory();
    let path = path_in(&directory, "s");
    let (over_tcp, over_unix) = (Backend::named("tcp"), Backend::named_on_unix(&path, "unix"));
    let proxy = Proxy::builder().cluster("a", "a.test", &[]).start();
    let mut command = proxy.command();
    let add = requests::add_backend("a", "b", over_tcp.address());
    let mut moved = add.clone();
    if let RequestType::AddBackend(backend) = &mut moved {
        // The plain verb says it, too.
        backend.unix_path = Some(path);
    }
    command.ok(add.clone());
    let target = Target { address: proxy.address(), host: "a.test".into(), path: "/".into() };
    let load = [Load::start(&target, Connections::KeepAlive, 2), Load::start(&target, Connections::New, 2)];
    let mut observer = Client::connect(proxy.address());
    for round in 0..20 {
        load.iter().for_each(|load| load.await_more(5));
        let (order, expected) = if round % 2 == 0 { (&moved, "unix") } else { (&add, "tcp") };
        command.ok(order.clone());
        assert_eq!(observer.get("a.test", "/").text(), expected, "round {round}");
        assert_eq!(get(proxy.address(), "a.test", "/").text(), expected, "round {round}");
    }
    for load in load {
        load.stop().assert_flawless("load");
    }
    await_true("what was idle there is closed", || over_unix.open() == 0);
    drop(observer);
    proxy.stop();
}

#[test]
fn tls_is_spoken_over_a_socket() {
    let directory = directory();
    let path = path_in(&directory, "s");
    let authority = Authority::default();
    let backend = TlsBackend::start("b", &authority.issue(&["backend.test"]), None);
    bridge(&path, backend.address());
    let proxy = Proxy::builder().workers(1).start();
    let mut command = proxy.command();
    let mut tls = BackendTls::default();
    tls.enabled = true;
    tls.ca_certificates = vec![authority.pem.clone()];
    tls.server_name = Some("backend.test".into());
    command.ok(RequestType::AddCluster(Cluster {
        cluster_id: "a".into(),
        tls: Some(tls),
        ..Default::default()
    }));
    command.ok(requests::add_frontend("a", proxy.address(), "a.test"));
    command.ok(add_unix_backend("a", "b", 1, &path));
    for _ in 0..3 {
        assert_eq!(get(proxy.address(), "a.test", "/").text(), "b, asked for backend.test");
    }
    assert_eq!(backend.accepted(), 1, "pooled");
    proxy.stop();
}

#[test]
fn a_websocket_is_a_tunnel_over_a_socket() {
    let directory = directory();
    let path = path_in(&directory, "s");
    let backend = Backend::start_on_unix(&path, |exchange| {
        exchange
            .write("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")?;
        loop {
            let bytes = exchange.read_some()?;
            if bytes.is_empty() {
                exchange.write("over")?;
                return Ok(After::Close);
            }
            exchange.write(bytes)?;
        }
    });
    let proxy = proxy_for(&path);
    let mut client = Client::connect(proxy.address());
    client.send(
        "GET / HTTP/1.1\r\nHost: a.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
    );
    assert_eq!(client.try_head("GET").expect("an answer").0.status, 101);
    for text in ["hello", "there"] {
        client.send(text);
        assert_eq!(client.read_raw(text.len()), text.as_bytes());
    }
    client.finish_sending();
    assert_eq!(client.read_raw(4), b"over", "each direction ends by itself");
    await_true("the backend is told", || backend.open() == 0);
    proxy.stop();
}

#[test]
fn tcp_listeners_lead_to_sockets() {
    let directory = directory();
    let (echo, greeting) = (path_in(&directory, "echo"), path_in(&directory, "greeting"));
    let echoing = TcpBackend::echo("hi ");
    bridge(&echo, echoing.address());
    // One that has the first word, and the last, before anybody has said anything.
    let greeter = listen(&greeting);
    std::thread::spawn(move || {
        for mut stream in greeter.incoming().map_while(Result::ok) {
            let _seen_by_the_client = std::io::Write::write_all(&mut stream, b"go away");
        }
    });
    let proxy = Proxy::builder().workers(1).without_listener().start();
    let mut command = proxy.command();
    let mut listen_for = |cluster: &str, path: &str| {
        let address = free_address();
        command.ok(RequestType::AddTcpListener(tcp_listener(address)));
        command.ok(requests::add_cluster(cluster));
        command.ok(RequestType::AddTcpFrontend(tcp_frontend(cluster, address)));
        command.ok(add_unix_backend(cluster, "b", 1, path));
        command.ok(activate_tcp_listener(address));
        address
    };
    let (to_echo, to_greeter) = (listen_for("echo", &echo), listen_for("greeting", &greeting));
    let mut client = TcpClient::connect(to_echo);
    client.hears("hi ");
    client.says("hello");
    client.finish();
    assert_eq!(client.rest_text(), "over");
    for _ in 0..20 {
        assert_eq!(TcpClient::connect(to_greeter).rest_text(), "go away");
    }
    fs::remove_file(&echo).expect("it is there");
    assert_eq!(TcpClient::connect(to_echo).rest_text(), "", "closed, since nobody can be reached");
    proxy.stop();
}

#[test]
fn state_files_and_the_command_line_know_them() {
    let directory = directory();
    let (path, file) = (path_in(&directory, "s"), path_in(&directory, "state"));
    let _backend = Backend::named_on_unix(&path, "kept");
    let proxy = Proxy::builder().cluster("a", "a.test", &[]).start();
    let cli = proxy.cli();
    cli.ok(&[
        "backend",
        "add",
        "--id",
        "a",
        "--backend-id",
        "b",
        "--address",
        "192.0.2.1:1",
        "--unix-path",
        &path,
    ]);
    assert!(cli.ok(&["cluster", "list", "--id", "a"]).contains(&path));
    assert_eq!(get(proxy.address(), "a.test", "/").text(), "kept");
    cli.ok(&["state", "save", "--file", &file]);
    let saved = fs::read_to_string(&file).expect("it was saved");
    assert!(saved.contains("ADD_UNIX_BACKEND"), "{saved}");
    cli.ok(&["backend", "remove", "--id", "a", "--backend-id", "b", "--address", "192.0.2.1:1"]);
    assert_eq!(get(proxy.address(), "a.test", "/").status(), 503);
    proxy.command().ok(RequestType::LoadState(file));
    assert_eq!(get(proxy.address(), "a.test", "/").text(), "kept");
    proxy.stop();
}

#[test]
fn what_names_no_socket_or_two_backends_is_refused() {
    let proxy = Proxy::builder().workers(1).cluster("a", "a.test", &[]).start();
    let mut command = proxy.command();
    let mut check = |request: RequestType, expected: &str| {
        let reason = command.refused(request);
        assert!(reason.contains(expected), "{reason}");
    };
    check(add_unix_backend("a", "b", 1, "run/s"), "unix_path `run/s` is neither an absolute path nor @NAME");
    check(add_unix_backend("a", "b", 1, &format!("/{}", "x".repeat(107))), "longer than 107 bytes");
    let RequestType::AddUnixBackend(mut nameless) = add_unix_backend("a", "b", 1, "/s") else {
        unreachable!()
    };
    nameless.unix_path = None;
    check(RequestType::AddUnixBackend(nameless), "unix_path is missing");
    let mut command = proxy.command();
    command.ok(add_unix_backend("a", "b", 1, "/s"));
    let reason = command.refused(add_unix_backend("a", "c", 1, "/t"));
    assert!(reason.contains("cannot be beside backend `b`, which has the same address"), "{reason}");
    proxy.stop();
}

#[test]
fn sockets_can_be_closed_to_workers() {
    let directory = directory();
    let (path, file) = (path_in(&directory, "s"), path_in(&directory, "state"));
    let _backend = Backend::named_on_unix(&path, "by its path");
    // Saved by one that may, for one that may not.
    let generous = Proxy::builder().workers(1).cluster("a", "a.test", &[]).start();
    let mut command = generous.command();
    command.ok(add_unix_backend("a", "b", 1, &path));
    command.ok(RequestType::SaveState(file.clone()));
    generous.stop();

    let paths = Proxy::builder()
        .workers(1)
        .setting("worker_unix_sockets = \"paths\"")
        .cluster("a", "a.test", &[])
        .start();
    let mut command = paths.command();
    let reason = command.refused(add_unix_backend("a", "b", 1, "@name"));
    assert!(reason.contains("unix_path `@name` is not for worker_unix_sockets = \"paths\""), "{reason}");
    command.ok(add_unix_backend("a", "b", 1, &path));
    assert_eq!(get(paths.address(), "a.test", "/").text(), "by its path");
    paths.stop();

    let none = Proxy::builder()
        .workers(1)
        .setting("worker_unix_sockets = \"none\"")
        .cluster("a", "a.test", &[])
        .start();
    let mut command = none.command();
    let reason = command.refused(add_unix_backend("a", "b", 1, &path));
    assert!(reason.contains("is not for worker_unix_sockets = \"none\""), "{reason}");
    command.request(RequestType::LoadState(file));
    assert!(none.stdout().contains("is left out: unix_path"), "{}", none.output());
    assert_eq!(get(none.address(), "a.test", "/").status(), 503);
    none.stop();

    let mut misfit = configured("{ address = \"192.0.2.1:1\", unix_path = \"/s\" }")
        .setting("worker_unix_sockets = \"none\"")
        .spawn();
    assert!(!misfit.await_exit().success());
    assert!(misfit.output().contains("unix_path `/s` is not for worker_unix_sockets"), "{}", misfit.output());
}

#[test]
fn the_command_socket_is_no_backend() {
    let proxy = Proxy::builder().workers(1).cluster("a", "a.test", &[]).start();
    let socket = proxy.socket().to_str().expect("plain text").to_owned();
    let mut command = proxy.command();
    command.ok(add_unix_backend("a", "b", 1, &socket));
    // What the worker sends there may mean anything: nobody listens to it.
    assert!(matches!(get(proxy.address(), "a.test", "/").status(), 502 | 503));
    await_true("the log says so", || proxy.stdout().contains("is a worker of this proxy"));
    assert!(UnixStream::connect_addr(&address(&socket)).is_ok(), "others are heard");
    command.ok(RequestType::RemoveBackend(kakehi_command::proto::RemoveBackend {
        cluster_id: "a".into(),
        backend_id: "b".into(),
        address: requests::wire_address(([192, 0, 2, 1], 1).into()),
    }));
    proxy.stop();
}
