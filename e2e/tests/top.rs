//! `top`: what the proxy does now, on a screen or as snapshots.

use std::io::{Read, Write};
use std::process::{Command, Stdio};

use kakehi_command::proto::QueryMetricsOptions;
use kakehi_command::proto::filtered_metrics::Inner;
use kakehi_e2e::deadline::await_true;
use kakehi_e2e::http::Backend;
use kakehi_e2e::load::{Connections, Load, Target};
use kakehi_e2e::{Proxy, skipped};

fn busy() -> (Proxy, Backend, Load) {
    let backend = Backend::named("hello");
    let proxy = Proxy::builder().cluster("app", "h.test", &[backend.address()]).start();
    let target = Target { address: proxy.address(), host: "h.test".into(), path: "/".into() };
    let load = Load::start(&target, Connections::KeepAlive, 1);
    load.await_more(10);
    (proxy, backend, load)
}

fn leases(proxy: &Proxy) -> Option<Inner> {
    let metrics = proxy.command().metrics(QueryMetricsOptions::default());
    metrics.main.get("metrics.detail_leases").and_then(|metric| metric.inner.clone())
}

#[test]
fn snapshots_show_what_happens_between_them() {
    let (proxy, _backend, load) = busy();
    let text = proxy.cli().ok(&["top", "--snapshot", "2", "--refresh-ms", "200", "--detail", "backend"]);
    let row = |name: &str| {
        let rows = text.lines().filter(|line| line.trim_start().starts_with(name));
        rows.map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()).collect::<Vec<_>>()
    };
    let clusters = row("app ");
    assert_eq!(clusters.len(), 2, "{text}");
    for cluster in &clusters {
        assert!(cluster[1] != "0" && cluster[2] != "0", "{text}");
        assert_eq!(cluster[3..6], ["0", "0", "0"], "{text}");
        assert_eq!(cluster.last().map(String::as_str), Some("1/1"), "{text}");
    }
    assert_eq!(row("app-").len(), 2, "the backend, too\n{text}");
    assert!(text.contains("workers 2 of 2 run"), "{text}");
    assert_eq!(leases(&proxy), Some(Inner::Gauge(0)), "nothing is asked for any more");

    let json = proxy.cli().ok(&["top", "--tick-once", "--refresh-ms", "200", "--json"]);
    let value: serde_json::Value = serde_json::from_str(&json).expect("one object");
    assert!(value["whole"]["requests"].as_f64().is_some_and(|rate| rate > 0.0), "{value}");
    assert_eq!(value["clusters"][0]["name"], "app");
    assert_eq!(value["listeners"][0]["protocol"], "HTTP");
    load.stop().assert_flawless("requests meanwhile");
    proxy.stop();
}

#[test]
fn a_terminal_is_given_back() {
    let (proxy, _backend, load) = busy();
    let refused = proxy.cli().run(&["top"]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("--snapshot"), "{}", refused.stderr);
    // Of util-linux: runs it on a terminal of its own.
    let top = proxy.cli().command();
    let words: Vec<String> = [top.get_program()]
        .into_iter()
        .chain(top.get_args())
        .map(|word| format!("'{}'", word.to_string_lossy()))
        .collect();
    let command = format!("stty rows 24 cols 80; {} top --detail backend; stty -a", words.join(" "));
    let child = Command::new("script")
        .args(["-qec", &command, "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let Ok(mut child) = child else { return skipped("script is missing: top is not tried on a terminal") };
    await_true("it asks for more while it runs", || leases(&proxy) == Some(Inner::Gauge(1)));
    let mut keys = child.stdin.take().expect("piped");
    keys.write_all(b"s").expect("it reads");
    let (mut screen, mut output) = (String::new(), child.stdout.take().expect("piped"));
    let mut bytes = [0; 4096];
    while !screen.contains("CLUSTER (by 5xx)") {
        let count = output.read(&mut bytes).expect("it writes");
        assert!(count > 0, "{screen}");
        screen.push_str(&String::from_utf8_lossy(&bytes[..count]));
    }
    keys.write_all(b"q").expect("it reads");
    output.read_to_string(&mut screen).expect("text");
    assert!(child.wait().expect("our own child").success(), "{screen}");
    assert!(screen.contains("\u{1b}[?1049h") && screen.contains("\u{1b}[?1049l"), "{screen}");
    let after = screen.rsplit("1049l").next().unwrap_or_default();
    let settings: Vec<&str> = after.split([' ', ';', '\r', '\n']).collect();
    for flag in ["icanon", "echo", "isig"] {
        assert!(settings.contains(&flag), "{flag} is not as it was\n{after}");
    }
    await_true("it does not ask any more", || leases(&proxy) == Some(Inner::Gauge(0)));
    load.stop().assert_flawless("requests meanwhile");
    proxy.stop();
}
