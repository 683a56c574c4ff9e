//! A configuration tool in Python, without dependencies, that was written from our documents: `doc/kakehi_config.py`.

use std::path::Path;
use std::process::{Command, Output};

use kakehi_e2e::http::{Backend, get};
use kakehi_e2e::{Proxy, requests, skipped};

fn tool(proxy: &Proxy, arguments: &[&str]) -> Option<Output> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../doc/kakehi_config.py");
    let mut command = Command::new("python3");
    command.arg(script).arg(proxy.socket()).args(arguments).current_dir(proxy.directory());
    command.output().ok()
}

fn ok(proxy: &Proxy, arguments: &[&str]) -> String {
    let output = tool(proxy, arguments).expect("python3 runs");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {error}");
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn what_a_file_says_is_what_runs_after_one_transaction() {
    let (one, two) = (Backend::named("one"), Backend::named("two"));
    let proxy = Proxy::builder().cluster("old", "old.test", &[one.address()]).start();
    if tool(&proxy, &["show"]).is_none() {
        return skipped("python3 is missing: the configuration tool is not tried");
    }
    let listener = proxy.address();
    let desired = |backend: &Backend, weight: u32| {
        serde_json::json!({
            "web": {
                "load_balancing": 2,
                "backends": { "web-1": { "address": backend.address().to_string(), "weight": weight } },
                "frontends": [{ "listener": listener.to_string(), "hostname": "web.test", "path": "/" }],
            },
            "empty": { "backends": {}, "frontends": [] },
        })
    };
    let write = |value: &serde_json::Value| {
        std::fs::write(proxy.directory().join("wanted.json"), value.to_string()).expect("written");
    };
    let running = || -> serde_json::Value { serde_json::from_str(&ok(&proxy, &["show"])).expect("JSON") };
    assert_eq!(running()["old"]["frontends"][0]["hostname"], "old.test");

    write(&desired(&one, 100));
    let revision = proxy.command().revision();
    let difference = ok(&proxy, &["diff", "wanted.json"]);
    assert!(difference.contains("- cluster old") && difference.contains("+ cluster web"), "{difference}");
    assert_eq!(proxy.command().revision(), revision, "that was all");
    let applied = ok(&proxy, &["apply", "wanted.json"]);
    assert!(applied.contains("5 changes applied"), "{applied}");
    assert_eq!(proxy.command().revision(), revision + 1, "one transaction");
    assert_eq!(get(listener, "web.test", "/").text(), "one");
    assert_eq!(get(listener, "old.test", "/").status(), 404);
    assert_eq!(running()["web"], {
        let mut web = desired(&one, 100)["web"].take();
        web["backends"]["web-1"]["weight"] = 100.into();
        web
    });
    assert_eq!(ok(&proxy, &["apply", "wanted.json"]), "", "it is so already");

    // A backend that moves goes and comes; one that weighs more stays.
    write(&desired(&two, 7));
    ok(&proxy, &["apply", "wanted.json"]);
    assert_eq!(get(listener, "web.test", "/").text(), "two");
    assert_eq!(running()["web"]["backends"]["web-1"]["weight"], 7);

    // What cannot be is refused with its reason, whole.
    let mut wrong = desired(&two, 7);
    wrong["also"] = serde_json::json!({ "backends": {}, "frontends": [
        { "listener": listener.to_string(), "hostname": "web.test", "path": "/" },
    ] });
    write(&wrong);
    let revision = proxy.command().revision();
    let output = tool(&proxy, &["apply", "wanted.json"]).expect("python3 runs");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && error.contains("nothing has changed"), "{error}");
    assert_eq!(proxy.command().revision(), revision);
    proxy.stop();
}

/// More clusters than requests are sent ahead.
#[test]
fn many_clusters_are_read_and_compared() {
    let proxy = Proxy::builder().workers(1).start();
    if tool(&proxy, &["show"]).is_none() {
        return skipped("python3 is missing: the configuration tool is not tried");
    }
    let orders = (0..500).map(|n| requests::add_cluster(&format!("c{n}"))).collect();
    proxy.command().ok(requests::transaction(orders, None));
    let shown = ok(&proxy, &["show"]);
    std::fs::write(proxy.directory().join("wanted.json"), &shown).expect("written");
    assert_eq!(ok(&proxy, &["diff", "wanted.json"]), "");
    std::fs::write(proxy.directory().join("wanted.json"), "{}").expect("written");
    assert!(ok(&proxy, &["apply", "wanted.json"]).contains("500 changes applied"));
    assert_eq!(ok(&proxy, &["show"]).trim(), "{}");
    proxy.stop();
}
