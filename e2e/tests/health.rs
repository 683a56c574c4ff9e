//! Health of backends: each is probed by one worker, what it finds is known to all and outlives it, and no request
//! goes to a backend that is known to be dead.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::time::Duration;

use kakehi_command::proto::request::RequestType;
use kakehi_command::proto::response_content::ContentType;
use kakehi_command::proto::{Event, EventKind, SubscribeEvents};
use kakehi_e2e::address::free_address;
use kakehi_e2e::deadline::{await_true, run_for};
use kakehi_e2e::http::{After, Backend, Client, get};
use kakehi_e2e::tls::{Authority, TlsBackend};
use kakehi_e2e::{CommandClient, Proxy, ProxyBuilder, await_replaced, requests, send_signal};
use nix::sys::signal::Signal;

/// A check that turns with every probe, once a second.
const FAST: &str = "{ uri = \"/up\", interval = 1, timeout = 1, healthy_threshold = 1, unhealthy_threshold = 1, jitter_percent = 0 }";

/// A backend whose health is what the test says, and whatever it is asked for but that, it answers by its name.
struct Moody {
    backend: Backend,
    mood: Arc<Mood>,
}

struct Mood {
    status: AtomicU16,
    probes: AtomicUsize,
    asked: AtomicUsize,
    keys: AtomicUsize,
}

impl Moody {
    fn start(name: &'static str) -> Self {
        let mood = Arc::new(Mood {
            status: AtomicU16::new(200),
            probes: AtomicUsize::new(0),
            asked: AtomicUsize::new(0),
            keys: AtomicUsize::new(0),
        });
        let shared = Arc::clone(&mood);
        let backend = Backend::start(move |exchange| {
            exchange.body_digest()?;
            if exchange.head.target != "/up" {
                shared.asked.fetch_add(1, Ordering::SeqCst);
                let status = if exchange.head.target == "/fail" { 500 } else { 200 };
                exchange
                    .write(format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{name}", name.len()))?;
                return Ok(After::KeepAlive);
            }
            if exchange.head.fields.get("X-Key") == Some("hush") {
                shared.keys.fetch_add(1, Ordering::SeqCst);
            }
            shared.probes.fetch_add(1, Ordering::SeqCst);
            let status = shared.status.load(Ordering::SeqCst);
            exchange.write(format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n"))?;
            Ok(After::Close)
        });
        Self { backend, mood }
    }

    fn address(&self) -> SocketAddr {
        self.backend.address()
    }

    fn set(&self, status: u16) {
        self.mood.status.store(status, Ordering::SeqCst);
    }

    fn probes(&self) -> usize {
        self.mood.probes.load(Ordering::SeqCst)
    }

    fn asked(&self) -> usize {
        self.mood.asked.load(Ordering::SeqCst)
    }
}

fn builder(settings: &str, backends: &[SocketAddr]) -> ProxyBuilder {
    Proxy::builder().cluster_with("app", settings, &["hostname = \"a.test\""], backends)
}

fn checked(settings: &str) -> String {
    format!("health_check = {FAST}\n{settings}")
}

struct Events(CommandClient);

impl Events {
    fn of(proxy: &Proxy) -> Self {
        let mut client = proxy.command();
        client.send(RequestType::SubscribeEvents(SubscribeEvents {}));
        Self(client)
    }

    /// Waits for the next event of this kind; what comes before it is of no interest.
    fn next(&mut self, kind: EventKind) -> Event {
        loop {
            let response = self.0.receive().expect("an event in time");
            let Some(ContentType::Event(event)) = response.content.and_then(|it| it.content_type) else {
                continue;
            };
            if event.kind() == kind {
                return event;
            }
        }
    }
}

/// Main has told the workers before it tells a subscriber; a question comes behind that.
fn settle(proxy: &Proxy) {
    proxy.command().cluster_hashes();
}

/// Asks on a connection each, so that every worker is among those asked; gives the bodies.
fn ask(proxy: &Proxy, times: usize) -> Vec<String> {
    (0..times).map(|_| get(proxy.address(), "a.test", "/").text()).collect()
}

#[test]
fn what_one_worker_finds_is_known_to_all_and_outlives_it() {
    let (good, bad) = (Moody::start("good"), Moody::start("bad"));
    let proxy = builder(&checked(""), &[good.address(), bad.address()]).workers(4).start();
    let mut events = Events::of(&proxy);
    bad.set(500);
    let event = events.next(EventKind::HealthCheckUnhealthy);
    assert_eq!(event.cluster_id.as_deref(), Some("app"));
    assert_eq!(event.backend_id, Some(format!("app-1-{}", bad.address())));
    assert_eq!(event.address, Some(requests::wire_address(bad.address())));
    settle(&proxy);
    let before = bad.asked();
    assert!(ask(&proxy, 100).iter().all(|text| text == "good"));
    assert_eq!(bad.asked(), before, "a request went to a backend that is known to be dead");
    for round in 0..2 {
        let victim = proxy.worker_pids()[round];
        send_signal(victim, Signal::SIGKILL);
        // Served at once by the rest and, once it is there, by the successor: none of them knows less.
        await_replaced(&proxy, victim, 4);
        assert!(ask(&proxy, 100).iter().all(|text| text == "good"));
        assert_eq!(bad.asked(), before, "a successor did not know");
        run_for(Duration::from_millis(1_200));
    }
    let list = proxy.cli().ok(&["cluster", "health-check", "list"]);
    assert!(list.contains("unhealthy: answered by 500"), "{list}");
    bad.set(200);
    events.next(EventKind::HealthCheckHealthy);
    settle(&proxy);
    assert!(ask(&proxy, 40).iter().any(|text| text == "bad"), "it serves again");
    proxy.stop();
}

#[test]
fn each_backend_is_probed_by_one_worker() {
    let backends: Vec<Moody> = (0..4).map(|_| Moody::start("b")).collect();
    let addresses: Vec<_> = backends.iter().map(Moody::address).collect();
    let proxy = builder(&checked(""), &addresses).workers(4).start();
    await_true("all are probed", || backends.iter().all(|backend| backend.probes() > 0));
    let before: Vec<usize> = backends.iter().map(Moody::probes).collect();
    run_for(Duration::from_secs(5));
    for (backend, before) in backends.iter().zip(before) {
        let probes = backend.probes() - before;
        // One a second; from each of four workers it would be twenty.
        assert!((2..=8).contains(&probes), "{probes} probes in five seconds");
    }
    // Two of them go: their share is probed by the others.
    let before: Vec<usize> = backends.iter().map(Moody::probes).collect();
    send_signal(proxy.worker_pids()[0], Signal::SIGKILL);
    send_signal(proxy.worker_pids()[1], Signal::SIGKILL);
    await_true("all are probed again", || {
        backends.iter().zip(&before).all(|(backend, before)| backend.probes() > before + 1)
    });
    proxy.stop();
}

#[test]
fn backends_that_hang_refuse_or_talk_nonsense_are_out() {
    let good = Moody::start("good");
    let hanging = Backend::hanging();
    let garbage = Backend::raw("SSH-2.0-x\r\n", After::Close);
    let silent = Backend::start(|_| Ok(After::Close));
    let refusing = free_address();
    let addresses = [good.address(), hanging.address(), garbage.address(), silent.address(), refusing];
    let proxy = builder(&checked("panic_threshold = 0"), &addresses).start();
    let mut reasons = String::new();
    await_true("four of them are out", || {
        reasons = proxy.cli().ok(&["cluster", "health-check", "list", "-i", "app"]);
        reasons.matches("unhealthy:").count() == 4
    });
    for reason in [
        "no answer in time",
        "what came is no HTTP answer",
        "the connection was closed without an answer",
        "cannot connect",
    ] {
        assert!(reasons.contains(reason), "{reason} is not in\n{reasons}");
    }
    assert!(ask(&proxy, 50).iter().all(|text| text == "good"));
    proxy.stop();
}

#[test]
fn with_all_of_them_out_requests_go_to_all_or_are_refused() {
    for (settings, refused) in [("", false), ("panic_threshold = 0", true)] {
        let moody: Vec<Moody> = ["a", "b"].map(Moody::start).into();
        let addresses: Vec<_> = moody.iter().map(Moody::address).collect();
        let proxy = builder(&checked(settings), &addresses).start();
        let mut events = Events::of(&proxy);
        moody.iter().for_each(|backend| backend.set(503));
        let event = events.next(EventKind::NoAvailableBackends);
        assert_eq!(event.cluster_id.as_deref(), Some("app"));
        settle(&proxy);
        for _ in 0..20 {
            let status = get(proxy.address(), "a.test", "/").status();
            assert_eq!(status, if refused { 503 } else { 200 }, "{settings:?}");
        }
        let open = proxy.command().metric("backends.fail_open");
        assert_eq!(open > 0, !refused, "backends.fail_open is {open}");
        moody[0].set(200);
        assert_eq!(events.next(EventKind::ClusterRecovered).cluster_id.as_deref(), Some("app"));
        settle(&proxy);
        assert!(ask(&proxy, 20).iter().all(|text| text == "a"), "{settings:?}");
        proxy.stop();
    }
}

#[test]
fn backends_whose_requests_fail_are_out_for_a_while() {
    let (good, bad) =
        (Moody::start("good"), Backend::raw("HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n", After::KeepAlive));
    let settings = "passive_health = { consecutive_failures = 3, base_ejection = 1, max_ejection = 2, \
                    max_ejected_percent = 50 }";
    let proxy = builder(settings, &[good.address(), bad.address()]).start();
    let mut events = Events::of(&proxy);
    let mut client = Client::connect(proxy.address());
    let failed = (0..6).filter(|_| client.get("a.test", "/").status() == 500).count();
    assert_eq!(failed, 3, "turns are taken");
    let event = events.next(EventKind::BackendDown);
    assert_eq!(event.address, Some(requests::wire_address(bad.address())));
    settle(&proxy);
    assert!(ask(&proxy, 30).iter().all(|text| text == "good"), "every worker knows");
    let event = events.next(EventKind::BackendUp);
    assert_eq!(event.address, Some(requests::wire_address(bad.address())));
    settle(&proxy);
    let answers: Vec<u16> = (0..8).map(|_| get(proxy.address(), "a.test", "/").status()).collect();
    assert!(answers.contains(&500), "it is given another chance: {answers:?}");
    proxy.stop();
}

#[test]
fn checks_come_and_go_while_it_runs() {
    let (good, bad) = (Moody::start("good"), Moody::start("bad"));
    bad.set(500);
    let proxy = builder("", &[good.address(), bad.address()]).start();
    let cli = proxy.cli();
    assert!(cli.ok(&["cluster", "health-check", "list"]).contains("no health check"));
    let set = [
        "cluster",
        "health-check",
        "set",
        "-i",
        "app",
        "-u",
        "/up",
        "--interval",
        "1",
        "--unhealthy-threshold",
        "1",
        "--healthy-threshold",
        "1",
        "--accepted-statuses",
        "200-299,404",
    ];
    for _ in 0..2 {
        let mut events = Events::of(&proxy);
        cli.ok(&set);
        events.next(EventKind::HealthCheckUnhealthy);
        settle(&proxy);
        assert!(ask(&proxy, 20).iter().all(|text| text == "good"));
        let list = cli.ok(&["cluster", "health-check", "list"]);
        assert!(list.contains("/up") && list.contains("200-299,404") && list.contains("500"), "{list}");
        cli.ok(&["cluster", "health-check", "remove", "-i", "app"]);
        assert!(ask(&proxy, 20).iter().any(|text| text == "bad"), "nobody says anything against it");
    }
    let refused = cli.refused(&["cluster", "health-check", "set", "-i", "app", "-u", "up"]);
    assert!(refused.contains("does not begin with /"), "{refused}");
    let refused = cli.refused(&["cluster", "health-check", "set", "-i", "nobody"]);
    assert!(refused.contains("nobody"), "{refused}");
    // A connect is all that is asked of it.
    cli.ok(&["cluster", "health-check", "set", "-i", "app", "--mode", "tcp", "--interval", "1"]);
    await_true("probes connect", || proxy.command().metric("health_check.success") > 3);
    assert!(ask(&proxy, 20).iter().any(|text| text == "bad"));
    proxy.stop();
}

#[test]
fn over_tls_backends_prove_who_they_are() {
    let authority = Authority::new("Backends");
    let (right, wrong) = (authority.issue(&["b.test"]), Authority::new("Others").issue(&["b.test"]));
    let (good, bad) = (TlsBackend::start("good", &right, None), TlsBackend::start("bad", &wrong, None));
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("authority.pem");
    std::fs::write(&file, &authority.pem).expect("written");
    let tls = format!(
        "tls = {{ server_name = \"b.test\", ca_certificates = [\"{}\"] }}\npanic_threshold = 0",
        file.display()
    );
    let proxy = builder(&checked(&tls), &[good.address(), bad.address()]).start();
    await_true("one is out", || {
        let list = proxy.cli().ok(&["cluster", "health-check", "list"]);
        list.contains("unhealthy: TLS failed")
    });
    await_true("the other one is not", || proxy.command().metric("health_check.success") > 1);
    assert!(ask(&proxy, 20).iter().all(|text| text.contains("good")));
    proxy.stop();
}

#[test]
fn values_of_headers_are_sent_and_told_to_nobody() {
    let backend = Moody::start("b");
    let proxy = builder("", &[backend.address()]).start();
    let file = proxy.directory().join("key");
    std::fs::write(&file, "hush\n").expect("written");
    let cli = proxy.cli();
    let header = format!("X-Key={}", file.display());
    cli.ok(&[
        "cluster",
        "health-check",
        "set",
        "-i",
        "app",
        "-u",
        "/up",
        "--interval",
        "1",
        "--header-file",
        &header,
    ]);
    let keys = || backend.mood.keys.load(Ordering::SeqCst);
    await_true("the value comes", || keys() > 1);
    for victim in proxy.worker_pids() {
        send_signal(victim, Signal::SIGKILL);
        await_replaced(&proxy, victim, 2);
        run_for(Duration::from_millis(1_200));
    }
    let before = keys();
    await_true("new workers have the value", || keys() > before + 1);
    assert_eq!(keys(), backend.probes(), "no probe went without it");
    let folder = tempfile::tempdir().expect("a folder");
    let state = folder.path().join("state.json");
    cli.ok(&["state", "save", "-f", state.to_str().expect("text")]);
    let saved = std::fs::read_to_string(&state).expect("saved");
    assert!(saved.contains("X-Key") && saved.contains("sozu-hc-hmac-sha256:v1:"), "{saved}");
    let shown = cli.ok(&["cluster", "health-check", "list", "-i", "app"]);
    for text in [&saved, &shown, &proxy.output()] {
        assert!(!text.contains("hush"), "the value is told:\n{text}");
    }
    proxy.stop();
    // From the state alone nobody can probe: it is said, and nothing is sent.
    std::fs::write(&state, saved).expect("written");
    let setting = format!("saved_state = \"{}\"", state.display());
    let restored = Proxy::builder().setting(&setting).without_listener().start();
    await_true("it is told that values are missing", || {
        restored.command().metric("health_check.missing_secret") > 0
    });
    let list = restored.cli().ok(&["cluster", "health-check", "list"]);
    assert!(list.contains("values of headers are missing"), "{list}");
    assert_eq!(keys(), backend.probes(), "a probe went without its value");
    restored.stop();
}

#[test]
fn values_of_headers_come_from_files_and_change_with_a_reload() {
    let backend = Moody::start("b");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("key");
    std::fs::write(&file, "other").expect("written");
    let check = format!(
        "health_check = {{ uri = \"/up\", interval = 1, headers = [{{ name = \"X-Key\", value_file = \"{}\" }}] }}",
        file.display()
    );
    let proxy = builder(&check, &[backend.address()]).start();
    await_true("it is probed", || backend.probes() > 0);
    let keys = || backend.mood.keys.load(Ordering::SeqCst);
    assert_eq!(keys(), 0);
    let revision = proxy.command().revision();
    proxy.cli().ok(&["reload"]);
    assert_eq!(proxy.command().revision(), revision, "the same value is no change");
    std::fs::write(&file, "hush").expect("written");
    proxy.cli().ok(&["reload"]);
    await_true("the new value comes", || keys() > 0);
    proxy.stop();
}

#[test]
fn no_more_probes_are_under_way_than_may_be() {
    let hanging = Backend::hanging();
    let address = hanging.address();
    let mut tables = String::from(
        "\n[clusters.many]\nprotocol = \"http\"\nfrontends = []\n\
         health_check = { interval = 1, timeout = 5 }\nbackends = [\n",
    );
    for n in 0..40 {
        tables.push_str(&format!("    {{ address = \"{address}\", backend_id = \"b{n}\" }},\n"));
    }
    tables.push_str("]\n");
    let proxy = Proxy::builder().workers(1).setting("max_probes = 3").tables(&tables).start();
    await_true("probes wait for their turn", || proxy.command().metric("health_check.delayed") > 0);
    assert!(proxy.command().metric("health_check.in_flight") <= 3);
    assert!(hanging.open() <= 3, "{} connections", hanging.open());
    proxy.stop();
}

/// One request may try all of its backends, and another: together no more often than the cluster's budget has it.
#[test]
fn further_attempts_have_a_budget() {
    let nobody: Vec<SocketAddr> = (0..40).map(|_| free_address()).collect();
    let ask_once = |settings: &str| {
        let proxy = builder(settings, &nobody).workers(1).setting("max_connection_attempts = 40").start();
        assert_eq!(get(proxy.address(), "a.test", "/").status(), 503);
        let mut command = proxy.command();
        let numbers =
            ["backend.connections.error", "backend.retry.budget_exhausted"].map(|it| command.metric(it));
        proxy.stop();
        numbers
    };
    assert_eq!(ask_once(""), [40, 0]);
    // The first is free, and ten a second are in any case.
    assert_eq!(ask_once("retry_budget_percent = 20"), [11, 1]);
}
