//! TCP listeners and frontends as operators work on them: command line, configuration file, state file.

use std::fs;
use std::net::SocketAddr;

use kakehi_command::proto::request::RequestType;
use kakehi_command::proto::{TcpListenerConfig, UpdateTcpListenerConfig};
use kakehi_e2e::address::free_address;
use kakehi_e2e::http::{Backend, Client, get};
use kakehi_e2e::tcp::{TcpBackend, TcpClient, tcp_listener};
use kakehi_e2e::tls::{Authority, Issued};
use kakehi_e2e::{Proxy, requests};

fn is_reached(address: SocketAddr, name: &str) -> bool {
    let Ok(mut client) = TcpClient::try_connect(address) else { return false };
    client.hears(name);
    true
}

/// Writes a certificate and its key into the proxy's directory, where paths start.
fn write_pem(proxy: &Proxy, name: &str, issued: &Issued) {
    for (suffix, text) in [("pem", &issued.certificate), ("key", &issued.key)] {
        fs::write(proxy.directory().join(format!("{name}.{suffix}")), text).expect("a directory of ours");
    }
}

#[test]
fn life_by_the_command_line() {
    let backend = TcpBackend::echo("echo");
    let proxy = Proxy::builder().start();
    let address = free_address();
    let (at, to) = (address.to_string(), backend.address().to_string());
    let cli = proxy.cli();
    cli.ok(&["listener", "tcp", "add", "-a", &at, "--front-timeout", "7", "--sni-preread-max-bytes", "512"]);
    assert!(TcpClient::try_connect(address).is_err(), "a new listener is not active");
    cli.ok(&["cluster", "add", "-i", "mail", "--load-balancing-policy", "round_robin"]);
    cli.ok(&["backend", "add", "-i", "mail", "--backend-id", "b", "-a", &to]);
    cli.ok(&["frontend", "tcp", "add", "-i", "mail", "-a", &at, "--tags", "owner=ada"]);
    cli.ok(&["listener", "tcp", "activate", "-a", &at]);
    assert!(is_reached(address, "echo"));

    let listed = cli.ok(&["listener", "list"]);
    assert!(listed.contains("TCP LISTENERS") && listed.contains(&at), "{listed}");
    let listed = cli.ok(&["frontend", "list", "--tcp"]);
    assert!(listed.contains("TCP frontends") && listed.contains("owner=ada"), "{listed}");
    let listed = cli.ok(&["cluster", "list", "-i", "mail"]);
    assert!(listed.contains(&at) && listed.contains(&to), "{listed}");

    // One socket speaks one protocol, and an address is for one cluster or for names.
    let reason = cli.refused(&["listener", "http", "add", "-a", &at]);
    assert!(reason.contains("the listener that is there speaks tcp"), "{reason}");
    let reason = cli.refused(&["frontend", "tcp", "add", "-i", "mail", "-a", &at, "--sni", "a.test"]);
    assert!(reason.contains("either one frontend for all connections or frontends with an sni"), "{reason}");
    let reason = cli.refused(&["listener", "tcp", "update", "-a", &at, "--handshake-timeout", "3"]);
    assert!(reason.contains("the listener passes TLS on as it is"), "{reason}");

    cli.ok(&["listener", "tcp", "update", "-a", &at, "--back-timeout", "9", "--expect-proxy"]);
    let listed = cli.json(&["listener", "list"]).to_string();
    assert!(listed.contains("\"back_timeout\":9") && listed.contains("\"expect_proxy\":true"), "{listed}");
    cli.ok(&["listener", "tcp", "deactivate", "-a", &at]);
    assert!(TcpClient::try_connect(address).is_err(), "nobody listens");
    cli.ok(&["frontend", "tcp", "remove", "-i", "mail", "-a", &at]);
    cli.ok(&["listener", "tcp", "remove", "-a", &at]);
    assert!(!cli.ok(&["listener", "list"]).contains(&at));
}

#[test]
fn what_cannot_work_is_refused_by_name() {
    let proxy = Proxy::builder().start();
    let authority = Authority::new("tests");
    write_pem(&proxy, "a", &authority.issue(&["a.test"]));
    write_pem(&proxy, "b", &authority.issue(&["b.test"]));
    let cli = proxy.cli();
    let at = free_address().to_string();
    let file = |name: &str| proxy.directory().join(name).display().to_string();
    let (certificate, other) = (file("a.pem"), file("b.key"));
    let add = ["listener", "tcp", "add", "-a", &at, "--tls"];
    let reason = cli.refused(&[&add[..], &["--certificate", &certificate, "--key", &other]].concat());
    assert!(reason.contains("the key does not match the certificate"), "{reason}");
    let versions = ["--tls-versions", "TLS_V12", "--tls-cipher-list", "TLS13_AES_128_GCM_SHA256"];
    let reason = cli.refused(&[&add[..], &versions].concat());
    assert!(reason.contains("cipher_list leaves no cipher suite"), "{reason}");
    let reason = cli.refused(&["frontend", "tcp", "add", "-i", "a", "-a", &at, "--sni", "/a/.test"]);
    assert!(reason.contains("sni `/a/.test` has an expression"), "{reason}");
    assert!(!cli.ok(&["listener", "list"]).contains(&at), "nothing has changed");
}

#[test]
fn the_file_says_what_runs_and_a_reload_changes_the_protocol_of_an_address() {
    let (echo, web) = (TcpBackend::echo("echo"), Backend::named("web"));
    let builder = Proxy::builder().without_listener();
    let address = builder.address();
    let listener = |keys: &str| format!("[[listeners]]\naddress = \"{address}\"\n{keys}\n");
    let cluster = |protocol: &str, hostname: &str, backend: SocketAddr| {
        format!(
            "[clusters.a]\nprotocol = \"{protocol}\"\nfrontends = [{{ address = \"{address}\"{hostname} }}]\n\
             backends = [{{ address = \"{backend}\" }}]\n"
        )
    };
    let passed_on = listener("protocol = \"tcp\"") + &cluster("tcp", "", echo.address());
    let settings = builder.config_text();
    let proxy = builder.tables(&passed_on).start();
    assert!(is_reached(address, "echo"));
    assert!(proxy.stdout().contains(&format!("tcp://{address}")), "{}", proxy.stdout());

    let reload = |text: &str| {
        fs::write(proxy.directory().join("config.toml"), settings.clone() + text).expect("our directory");
        proxy.cli().ok(&["reload"])
    };
    // The same address speaks HTTP, then has TLS end in front of the same backend, then is as it was.
    reload(&(listener("protocol = \"http\"") + &cluster("http", ", hostname = \"*\"", web.address())));
    assert_eq!(get(address, "a.test", "/").text(), "web");
    let authority = Authority::new("tests");
    write_pem(&proxy, "a", &authority.issue(&["a.test"]));
    let ended = "protocol = \"tcp\"\ntls = true\ncertificate = \"a.pem\"\nkey = \"a.key\"";
    reload(&(listener(ended) + &cluster("tcp", "", web.address())));
    let mut client = authority.client().connect(address, "a.test").expect("a handshake");
    assert_eq!(client.get("a.test", "/").expect("an answer").text(), "web");
    reload(&passed_on);
    assert!(is_reached(address, "echo"));
    assert!(Client::try_connect(address).is_ok());
    let text = proxy.cli().ok(&["reload"]);
    assert!(text.contains("nothing changes"), "{text}");
}

#[test]
fn a_saved_state_has_it_all() {
    let echo = TcpBackend::echo("echo");
    let start = || Proxy::builder().without_listener().start();
    let (first, second) = (start(), start());
    let address = free_address();
    let (at, to) = (address.to_string(), echo.address().to_string());
    let cli = first.cli();
    cli.ok(&["listener", "tcp", "add", "-a", &at, "--tls", "--alpn-protocols", "mqtt"]);
    cli.ok(&["cluster", "add", "-i", "iot", "--load-balancing-policy", "round_robin"]);
    cli.ok(&["backend", "add", "-i", "iot", "--backend-id", "b", "-a", &to]);
    cli.ok(&["frontend", "tcp", "add", "-i", "iot", "-a", &at, "--sni", "*.test", "--alpn", "mqtt"]);
    let file = first.directory().join("state").display().to_string();
    cli.ok(&["state", "save", "-f", &file]);
    second.cli().ok(&["state", "load", "-f", &file]);
    for noun in ["frontend", "listener"] {
        let (one, other) = (cli.ok(&[noun, "list"]), second.cli().ok(&[noun, "list"]));
        assert!(one.contains(&at), "{one}");
        assert_eq!(one, other);
    }
    second.cli().ok(&["listener", "tcp", "activate", "-a", &at]);
    assert!(TcpClient::try_connect(address).is_ok());
}

#[test]
fn what_is_waited_for_fits_a_buffer_whatever_way_it_is_asked_for() {
    let preread =
        |bytes: u32| TcpListenerConfig { sni_preread_max_bytes: Some(bytes), ..tcp_listener(free_address()) };
    let large = Proxy::builder().workers(1).without_listener().setting("buffer_size = 32768").start();
    let kept = preread(20_000);
    large.command().ok(RequestType::AddTcpListener(kept.clone()));
    let file = large.directory().join("state.json").display().to_string();
    large.command().ok(RequestType::SaveState(file.clone()));

    let proxy = Proxy::builder().workers(1).start();
    let mut command = proxy.command();
    let words = "sni_preread_max_bytes: 20000 does not fit in a buffer: buffer_size is 16393";
    let refusal = command.refused(RequestType::AddTcpListener(kept.clone()));
    assert!(refusal.contains(words), "{refusal}");
    let all = vec![requests::add_cluster("c"), RequestType::AddTcpListener(kept)];
    let refusal = command.refused(requests::transaction(all, None));
    assert!(refusal.contains(words) && refusal.contains("nothing has changed"), "{refusal}");
    // What was there stays as it was.
    let fits = preread(16_393);
    command.ok(RequestType::AddTcpListener(fits.clone()));
    let update = UpdateTcpListenerConfig {
        address: fits.address,
        sni_preread_max_bytes: Some(20_000),
        ..Default::default()
    };
    let refusal = command.refused(RequestType::UpdateTcpListener(update));
    assert!(refusal.contains(words), "{refusal}");
    // Left out, as all that does not fit into a state, and told in the log.
    command.request(RequestType::LoadState(file.clone()));
    assert!(proxy.output().contains(words), "{}", proxy.output());
    let started = Proxy::builder().workers(1).setting(&format!("saved_state = \"{file}\"")).start();
    assert!(started.output().contains(words), "{}", started.output());
    // The default is as much as a buffer holds.
    let small = Proxy::builder().workers(1).setting("buffer_size = 8192").start();
    small.command().ok(RequestType::AddTcpListener(tcp_listener(free_address())));
}
