//! Every event of the protocol is sent when it happens, and `events` shows it: in words, and as JSON.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use kakehi_command::proto::filtered_metrics::Inner;
use kakehi_command::proto::request::RequestType;
use kakehi_command::proto::{EventKind, MetricDetail, QueryMetricsOptions, SetMetricDetail};
use kakehi_e2e::address::free_address;
use kakehi_e2e::deadline::await_true;
use kakehi_e2e::http::{After, Backend, get};
use kakehi_e2e::tls::Authority;
use kakehi_e2e::{Proxy, await_replaced, kakehi_binary, send_signal};
use nix::sys::signal::Signal;
use tempfile::NamedTempFile;

/// The kinds that Sōzu declares.
const KINDS: std::ops::RangeInclusive<i32> = 0..=30;

/// What is counted, of the changes that are made here.
const CHANGES: [&str; 20] = [
    "certificate_added",
    "certificate_removed",
    "certificate_replaced",
    "cluster_added",
    "cluster_removed",
    "configuration_reloaded",
    "events_subscribed",
    "http_frontend_added",
    "http_frontend_removed",
    "http_listener_added",
    "http_listener_updated",
    "https_listener_added",
    "listener_activated",
    "listener_deactivated",
    "listener_removed",
    "logging_level_changed",
    "main_upgraded",
    "metric_detail_changed",
    "metrics_configured",
    "worker_upgraded",
];

/// A check that turns with every probe, once a second.
const CHECK: &str = "health_check = { uri = \"/up\", interval = 1, timeout = 1, healthy_threshold = 1, \
                     unhealthy_threshold = 1, jitter_percent = 0 }";

/// `events`, for as long as the proxy runs.
struct Shown {
    child: Child,
    output: NamedTempFile,
}

impl Shown {
    fn start(proxy: &Proxy, flags: &[&str]) -> Self {
        let output = NamedTempFile::new().expect("a file for the output");
        let to = output.reopen().expect("the same file");
        let mut command = proxy.cli().command();
        let child = command.args(flags).arg("events").stdout(to).stderr(Stdio::null()).spawn();
        let shown = Self { child: child.expect("the program runs"), output };
        // The first event is the subscription itself: `EVENTS_SUBSCRIBED`, or its number.
        await_true("it has subscribed", || !shown.text().is_empty());
        shown
    }

    fn text(&self) -> String {
        fs::read_to_string(self.output.path()).expect("our own file")
    }

    fn await_kind(&self, kind: EventKind) {
        await_true(kind.as_str_name(), || self.tells(kind));
    }

    fn tells(&self, kind: EventKind) -> bool {
        self.text().lines().any(|line| kind_in(line) == Some(kind.as_str_name()))
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        // It ends with the proxy, or here.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// The kind in a line of words: `<worker or main>, <kind>, …`.
fn kind_in(line: &str) -> Option<&str> {
    line.split(", ").nth(1)
}

#[test]
fn each_is_sent_when_it_happens_and_shown() {
    let status = Arc::new(AtomicU16::new(200));
    let mood = Arc::clone(&status);
    let backend = Backend::start(move |exchange| {
        exchange.body_digest()?;
        let status = mood.load(Ordering::SeqCst);
        exchange.write(format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n"))?;
        Ok(After::Close)
    });
    let folder = tempfile::tempdir().expect("a folder");
    let program = folder.path().join("kakehi");
    fs::copy(kakehi_binary(), &program).expect("copied");
    let builder = Proxy::builder().workers(1).program(&program);
    let builder = builder.cluster_with("app", CHECK, &["hostname = \"a.test\""], &[backend.address()]);
    let failing = Backend::raw("HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n", After::KeepAlive);
    let ejecting = "passive_health = { consecutive_failures = 1, base_ejection = 1, max_ejection = 1, \
                    max_ejected_percent = 50 }";
    let both = [backend.address(), failing.address()];
    let mut proxy = builder.cluster_with("fails", ejecting, &["hostname = \"fails.test\""], &both).start();
    let words = Shown::start(&proxy, &[]);
    let json = Shown::start(&proxy, &["--json"]);

    status.store(500, Ordering::SeqCst);
    words.await_kind(EventKind::NoAvailableBackends);
    status.store(200, Ordering::SeqCst);
    words.await_kind(EventKind::ClusterRecovered);

    // Both are asked, and the one that fails is out for a second.
    for _ in 0..2 {
        get(proxy.address(), "fails.test", "/");
    }
    words.await_kind(EventKind::BackendUp);

    let (authority, at, https) = (Authority::default(), free_address(), free_address());
    let (old, new) = (authority.issue(&["tls.test"]), authority.issue(&["tls.test"]));
    for (name, text) in [("old", &old), ("new", &new)] {
        let write = |suffix: &str, text: &str| {
            fs::write(proxy.directory().join(format!("{name}.{suffix}")), text).expect("our directory");
        };
        write("pem", &text.certificate);
        write("key", &text.key);
    }
    let to = backend.address();
    for verb in [
        "cluster add --id more",
        &format!("listener http add -a {at}"),
        &format!("listener http update -a {at} --front-timeout 9"),
        &format!("listener http activate -a {at}"),
        &format!("frontend http add -a {at} --hostname more.test id more"),
        &format!("backend add --id more --backend-id b -a {to}"),
        &format!("backend remove --id more --backend-id b -a {to}"),
        &format!("frontend http remove -a {at} --hostname more.test id more"),
        &format!("listener http deactivate -a {at}"),
        &format!("listener http remove -a {at}"),
        &format!("listener https add -a {https}"),
        &format!("certificate add -a {https} --certificate old.pem --key old.key"),
        &format!(
            "certificate replace -a {https} --new-certificate new.pem --new-key new.key --old-certificate old.pem"
        ),
        &format!("certificate remove -a {https} --certificate new.pem"),
        "cluster remove --id more",
        "state save --file saved",
        "cluster remove --id app",
        "state load --file saved",
        "cluster add --id another",
        "reload",
        "logging debug",
        "metrics clear",
    ] {
        proxy.cli().ok(&verb.split_whitespace().collect::<Vec<_>>());
    }
    proxy.command().ok(RequestType::SetMetricDetail(SetMetricDetail {
        client_id: "test".into(),
        detail: Some(MetricDetail::DetailBackend.into()),
        ..Default::default()
    }));
    let victim = proxy.worker_pids()[0];
    send_signal(victim, Signal::SIGKILL);
    await_replaced(&proxy, victim, 1);
    words.await_kind(EventKind::RemovedBackendHasNoConnections);
    // The old program's subscribers are the new one's.
    let upgraded = proxy.cli().ok(&["upgrade"]);
    let numbers = proxy.command().metrics(QueryMetricsOptions::default());
    for name in CHANGES {
        let count = numbers.main.get(&format!("config.{name}")).and_then(|number| number.inner.clone());
        assert!(matches!(count, Some(Inner::Count(1..))), "{name}: {count:?}");
    }
    assert!(upgraded.contains("Success: upgraded the main process and 1 worker\n"), "{upgraded}");
    assert!(upgraded.contains("worker 1: Replacing worker 1...\n"), "no progress: {upgraded}");
    let successor = proxy.workers()[0].id;
    proxy.cli().ok(&["shutdown"]);
    assert!(proxy.await_exit().success());

    let words = words.text();
    assert!(words.contains(&format!("{successor}, WORKER_UPGRADED\n")), "{words}");
    let shown: BTreeSet<&str> = words.lines().filter_map(kind_in).collect();
    let values = json.text();
    let values = values.lines().filter(|line| line.starts_with('{'));
    let values: BTreeSet<i64> = values
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("an object a line"))
        .filter_map(|value| value["EVENT"]["kind"].as_i64())
        .collect();
    for kind in KINDS.map(|kind| EventKind::try_from(kind).expect("declared")) {
        assert!(shown.contains(kind.as_str_name()), "{} is missing in\n{words}", kind.as_str_name());
        assert!(
            values.contains(&i64::from(i32::from(kind))),
            "{} is missing in {values:?}",
            kind.as_str_name()
        );
    }
}
