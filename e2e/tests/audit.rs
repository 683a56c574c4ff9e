//! Who has changed what is told: one line for each change, and for each that was refused.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use kakehi_command::proto::request::RequestType;
use kakehi_command::proto::{Cluster, UpgradeMain};
use kakehi_e2e::deadline::await_value;
use kakehi_e2e::{Proxy, requests};

/// The lines so far, at least so many.
fn lines(path: &Path, count: usize) -> Vec<serde_json::Value> {
    await_value("lines of the audit log", || {
        let text = fs::read_to_string(path).ok()?;
        let lines: Vec<_> =
            text.lines().map(|line| serde_json::from_str(line).expect("one object a line")).collect();
        (lines.len() >= count).then_some(lines)
    })
}

#[test]
fn each_change_leaves_a_line_with_who_what_when_and_the_revision() {
    let settings = "audit_logs_target = \"audit.log\"\naudit_logs_json_target = \"audit.json\"";
    let proxy = Proxy::builder().workers(1).setting(settings).start();
    let json = proxy.directory().join("audit.json");
    let revision = proxy.command().revision();
    proxy.command().ok(requests::add_cluster("web"));
    proxy.command().ok(requests::status());
    proxy.command().refused(requests::remove_cluster("none"));
    let hash = "user:2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";
    let secret =
        Cluster { cluster_id: "guarded".into(), authorized_hashes: vec![hash.into()], ..Default::default() };
    let orders = vec![RequestType::AddCluster(secret), requests::add_cluster("other")];
    proxy.command().ok(requests::transaction(orders, None));
    proxy.command().ok(RequestType::UpgradeMain(UpgradeMain {}));
    proxy.command().ok(requests::add_cluster("after"));
    proxy.command().refused(requests::add_cluster("odd\u{1b}[2J"));

    let lines = lines(&json, 6);
    let told: Vec<_> = lines.iter().map(|line| (line["verb"].as_str(), line["result"].as_str())).collect();
    assert_eq!(
        told,
        [
            (Some("add_cluster"), Some("ok")),
            (Some("remove_cluster"), Some("failure")),
            (Some("transaction"), Some("ok")),
            (Some("upgrade_main"), Some("ok")),
            (Some("add_cluster"), Some("ok")),
            (Some("add_cluster"), Some("failure")),
        ]
    );
    let first = &lines[0];
    assert_eq!(first["target"], "cluster web");
    assert_eq!(first["actor_pid"], std::process::id());
    assert_eq!(first["actor_uid"], nix::unistd::getuid().as_raw());
    assert_eq!(first["revision"], revision + 1);
    assert!(first["ts"].as_str().is_some_and(|ts| ts.ends_with('Z') && ts.contains('T')), "{first}");
    assert!(!first["actor_comm"].as_str().expect("a name").is_empty());
    assert!(lines[1]["reason"].as_str().is_some_and(|reason| reason.contains("none")), "{}", lines[1]);
    assert!(lines[1]["revision"].is_null(), "it changed nothing");
    assert_eq!(lines[2]["target"], "2 orders: add_cluster cluster guarded; add_cluster cluster other");
    assert_eq!(lines[4]["revision"], revision + 3);

    let text = fs::read_to_string(proxy.directory().join("audit.log")).expect("it is there");
    assert_eq!(text.lines().count(), 6);
    assert!(text.lines().all(|line| line.starts_with("AUDIT Command(ts=")), "{text}");
    assert!(!text.contains(hash) && !text.contains('\u{1b}'), "{text}");
    for file in ["audit.log", "audit.json"] {
        let mode = fs::metadata(proxy.directory().join(file)).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o640, "{file}");
    }
    let log = proxy.stdout();
    assert!(log.contains("AUDIT Command(ts=") && log.contains("target=\"cluster web\""), "{log}");
    proxy.stop();
}

#[test]
fn who_may_not_is_told_as_well() {
    let settings = "audit_logs_json_target = \"audit.json\"\ncommand_allowed_uids = [4294900000]";
    let proxy = Proxy::builder().workers(1).setting(settings).spawn();
    let json = proxy.directory().join("audit.json");
    let mut client =
        await_value("the command socket", || kakehi_e2e::CommandClient::connect(proxy.socket()).ok());
    client.refused(requests::add_cluster("web"));
    let line = lines(&json, 1).remove(0);
    assert_eq!((line["verb"].as_str(), line["result"].as_str()), (Some("add_cluster"), Some("failure")));
    assert!(line["reason"].as_str().is_some_and(|reason| reason.contains("unauthorized")), "{line}");
}
