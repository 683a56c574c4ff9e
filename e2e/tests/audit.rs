//! The audit trail: each change has its lines, and no secret is in them.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use kakehi_command::proto::request::RequestType;
use kakehi_e2e::deadline::await_true;
use kakehi_e2e::{CommandClient, Proxy, requests};
use serde_json::Value;

fn lines(proxy: &Proxy) -> Vec<Value> {
    let text = fs::read_to_string(proxy.directory().join("audit.json")).expect("it was made at the start");
    text.lines().map(|line| serde_json::from_str(line).expect("each line is one object")).collect()
}

fn audited() -> Proxy {
    Proxy::builder()
        .workers(1)
        .setting("audit_logs_target = \"audit.log\"")
        .setting("audit_logs_json_target = \"audit.json\"")
        .start()
}

#[test]
fn each_change_is_accounted_for() {
    let proxy = audited();
    let mut client = proxy.command();
    client.ok(requests::status());
    assert!(lines(&proxy).is_empty(), "questions are not");
    let revision = client.revision();
    client.refused(requests::add_cluster("a\nresult=forged \u{1b}[2J\""));
    client.ok(requests::add_cluster("a"));
    client.refused(requests::remove_cluster("missing"));
    client.ok(requests::transaction(vec![requests::add_cluster("b"), requests::remove_cluster("b")], None));
    client.ok(RequestType::Logging("info".into()));
    client.ok(RequestType::SaveState(proxy.directory().join("state").display().to_string()));
    let lines = lines(&proxy);
    let told: Vec<(&str, &str)> = lines
        .iter()
        .map(|line| (line["verb"].as_str().expect("a verb"), line["result"].as_str().expect("a result")))
        .collect();
    assert_eq!(
        told,
        [
            ("add_cluster", "refused"),
            ("add_cluster", "accepted"),
            ("add_cluster", "finished"),
            ("remove_cluster", "refused"),
            ("transaction", "accepted"),
            ("transaction", "finished"),
            ("logging", "finished"),
            ("save_state", "finished"),
        ],
        "{lines:?}"
    );
    let own = i64::from(std::process::id());
    for line in &lines {
        assert_eq!(line["actor_pid"], own);
        assert_eq!(line["actor_uid"], nix::unistd::geteuid().as_raw());
        assert!(line["actor_comm"].as_str().is_some_and(|comm| !comm.is_empty()), "{line}");
    }
    assert_eq!(lines[1]["revision"], revision + 1);
    assert_eq!(lines[2]["revision"], revision + 1);
    assert!(lines[3]["reason"].as_str().is_some_and(|reason| reason.contains("missing")), "{}", lines[3]);
    assert_eq!(lines[4]["orders"], 2);
    let text = fs::read_to_string(proxy.directory().join("audit.log")).expect("it was made at the start");
    assert_eq!(text.lines().count(), lines.len(), "a line feed of a client ends no line\n{text}");
    assert!(!text.contains('\u{1b}'));
    for name in ["audit.log", "audit.json"] {
        let mode = fs::metadata(proxy.directory().join(name)).expect("there").permissions().mode();
        assert_eq!(mode & 0o777 & !0o640, 0, "{name}");
    }
}

#[test]
fn who_does_not_wait_is_accounted_for_too() {
    let proxy = audited();
    proxy.command().send(requests::add_cluster("a"));
    await_true("both lines", || lines(&proxy).len() == 2);
    assert_eq!(lines(&proxy)[1]["result"], "finished");
}

#[test]
fn no_secret_is_in_it() {
    let proxy = audited();
    let mut client = proxy.command();
    let issued = kakehi_e2e::tls::Authority::new("root").issue(&["a.test"]);
    let address = kakehi_e2e::address::free_address();
    client.ok(RequestType::AddHttpsListener(requests::https_listener(address)));
    client.ok(issued.add(address));
    let mut broken = issued.wire();
    broken.key = broken.key.replace("-----END", "SECRETSECRET-----END");
    client.refused(RequestType::AddCertificate(kakehi_command::proto::AddCertificate {
        address: requests::wire_address(address),
        certificate: broken,
        expired_at: None,
    }));
    let key = issued.wire().key.clone();
    let body = key.lines().nth(1).expect("a PEM text").to_owned();
    let text = fs::read_to_string(proxy.directory().join("audit.log")).expect("it was made at the start");
    assert!(text.contains("verb=add_certificate") && text.contains(&issued.fingerprint()), "{text}");
    assert!(!text.contains(&body) && !text.contains("SECRET"), "{text}");
}

#[test]
fn a_stranger_who_is_turned_away_is_accounted_for() {
    let own = nix::unistd::geteuid().as_raw();
    let proxy = Proxy::builder()
        .workers(1)
        .setting("audit_logs_json_target = \"audit.json\"")
        .setting(&format!("command_allowed_uids = [{}]", own + 1))
        .spawn();
    let mut client = kakehi_e2e::deadline::await_value("the socket is there", || {
        CommandClient::connect(proxy.socket()).ok()
    });
    client.refused(requests::add_cluster("a"));
    let lines = lines(&proxy);
    assert_eq!((&lines[0]["result"], &lines[0]["actor_uid"]), (&"refused".into(), &own.into()));
}

#[test]
fn a_file_that_cannot_be_opened_is_an_error_at_start() {
    let mut proxy = Proxy::builder().workers(1).setting("audit_logs_target = \"missing/audit.log\"").spawn();
    assert!(!proxy.await_exit().success());
    assert!(proxy.output().contains("audit_logs_target: cannot open"), "{}", proxy.output());
}
