//! Saving the running state and loading it into a fresh proxy: nothing is lost, nothing is leaked.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use kakehi_command::proto::request::RequestType;
use kakehi_e2e::http::{Backend, get};
use kakehi_e2e::{Proxy, requests};

/// Records of a state file: JSON texts, each followed by a line feed and a NUL.
fn records(path: &Path) -> Vec<serde_json::Value> {
    let text = fs::read_to_string(path).expect("the file was written");
    let records: Vec<&str> = text.split_terminator("\n\0").collect();
    assert!(text.is_empty() || text.ends_with("\n\0"), "the last record is not ended");
    records.iter().map(|record| serde_json::from_str(record).expect("each record is one JSON text")).collect()
}

fn save(proxy: &Proxy, path: &Path) {
    proxy.command().ok(RequestType::SaveState(path.display().to_string()));
}

fn load(path: &Path) -> RequestType {
    RequestType::LoadState(path.display().to_string())
}

/// A state with a little of everything.
fn busy_proxy(backend: &Backend) -> Proxy {
    let proxy = Proxy::builder()
        .listener_setting("front_timeout = 42")
        .cluster("a", "a.test", &[backend.address()])
        .cluster("b", "*.b.test", &[backend.address()])
        .start();
    let mut command = proxy.command();
    let mut frontend = requests::frontend("a", proxy.address(), "a.test", "/api/[0-9]+");
    frontend.path.kind = kakehi_command::proto::PathRuleKind::Regex.into();
    frontend.method = Some("POST".into());
    frontend.tags.insert("owner".into(), "te\"am\u{e9}".into());
    command.ok(RequestType::AddHttpFrontend(frontend));
    let passive = kakehi_e2e::address::free_address();
    command.ok(requests::add_listener(passive));
    proxy
}

#[test]
fn saved_state_makes_the_same_proxy_elsewhere() {
    let backend = Backend::named("hello");
    let first = busy_proxy(&backend);
    let address = first.address();
    let directory = tempfile::tempdir().expect("a directory");
    let (file, again) = (directory.path().join("state"), directory.path().join("again"));
    save(&first, &file);
    let hashes = first.command().main_hashes();
    first.stop();

    let second = Proxy::builder().without_listener().start();
    second.command().ok(load(&file));
    assert_eq!(second.command().main_hashes(), hashes);
    assert_eq!(get(address, "a.test", "/").text(), "hello");
    assert_eq!(get(address, "x.b.test", "/").text(), "hello");
    save(&second, &again);
    assert_eq!(records(&file), records(&again));
}

#[test]
fn file_is_in_the_compatible_form() {
    let backend = Backend::named("hello");
    let proxy = busy_proxy(&backend);
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("state");
    save(&proxy, &file);
    let records = records(&file);
    let verbs: Vec<&str> = records
        .iter()
        .map(|record| {
            assert!(record["id"].as_str().is_some_and(|id| id.starts_with("SAVE-")), "{record}");
            let verb = record["content"]["request_type"].as_object().expect("one verb");
            assert_eq!(verb.len(), 1, "{record}");
            verb.keys().next().map(String::as_str).expect("one verb")
        })
        .collect();
    let rank = |verb: &str| {
        ["ADD_HTTP_LISTENER", "ACTIVATE_LISTENER", "ADD_CLUSTER", "ADD_HTTP_FRONTEND", "ADD_BACKEND"]
            .iter()
            .position(|known| *known == verb)
            .unwrap_or_else(|| panic!("{verb}"))
            .max(1)
    };
    assert!(verbs.windows(2).all(|pair| rank(pair[0]) <= rank(pair[1])), "{verbs:?}");
    assert_eq!(verbs.iter().filter(|verb| **verb == "ADD_CLUSTER").count(), 2);
    let cluster =
        records.iter().find(|record| record.to_string().contains("ADD_CLUSTER")).expect("a cluster");
    let cluster = &cluster["content"]["request_type"]["ADD_CLUSTER"];
    assert!(cluster["load_balancing"].is_number(), "enums are numbers: {cluster}");
    assert!(cluster["answer_503"].is_null(), "unset is null: {cluster}");
}

#[test]
fn file_is_private_and_replaced_whole() {
    let backend = Backend::named("hello");
    let proxy = busy_proxy(&backend);
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("state");
    fs::write(&file, "x".repeat(1_000_000)).expect("a fresh directory");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("our own file");
    save(&proxy, &file);
    assert_eq!(fs::metadata(&file).expect("written").permissions().mode() & 0o777, 0o600);
    assert!(!records(&file).is_empty());
    let left: Vec<_> = fs::read_dir(directory.path()).expect("ours").flatten().collect();
    assert_eq!(left.len(), 1, "a temporary file was left: {left:?}");
}

#[test]
fn state_that_cannot_be_written_is_a_failure() {
    let proxy = Proxy::builder().workers(1).start();
    let directory = tempfile::tempdir().expect("a directory");
    for path in [directory.path().join("missing/state"), directory.path().to_owned()] {
        let reason = proxy.command().refused(RequestType::SaveState(path.display().to_string()));
        assert!(reason.contains(&*path.display().to_string()), "{reason}");
    }
}

#[test]
fn state_that_cannot_be_read_is_a_failure_and_changes_nothing() {
    let backend = Backend::named("hello");
    let proxy = busy_proxy(&backend);
    let before = proxy.command().main_hashes();
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("state");
    proxy.command().refused(load(&file));
    for text in [
        "garbage\n\0",
        "{\"id\":\"SAVE-0\"}\n\0",
        "{\"id\":\"SAVE-0\",\"content\":{\"request_type\":{\"NO_SUCH_VERB\":\"x\"}}}\n\0",
        "{\"id\":\"SAVE-0\",\"content\":{\"request_type\":{\"REMOVE_CLUSTER\":\"a\"}}}\n\0{\"id\":",
    ] {
        fs::write(&file, text).expect("a fresh directory");
        let reason = proxy.command().refused(load(&file));
        assert!(!reason.is_empty());
    }
    assert_eq!(proxy.command().main_hashes(), before, "a broken file was applied in part");
    assert_eq!(get(proxy.address(), "a.test", "/").text(), "hello");
}

#[test]
fn loading_what_is_there_already_changes_nothing() {
    let backend = Backend::named("hello");
    let proxy = busy_proxy(&backend);
    let directory = tempfile::tempdir().expect("a directory");
    let (file, again) = (directory.path().join("state"), directory.path().join("again"));
    save(&proxy, &file);
    let answer = proxy.command().request(load(&file));
    println!("loading twice: {}", answer.message);
    save(&proxy, &again);
    assert_eq!(records(&file), records(&again));
    assert_eq!(get(proxy.address(), "a.test", "/").text(), "hello");
}

#[test]
fn saved_state_of_the_config_is_loaded_at_start() {
    let backend = Backend::named("hello");
    let first = busy_proxy(&backend);
    let address = first.address();
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("state");
    save(&first, &file);
    first.stop();
    let setting = format!("saved_state = \"{}\"", file.display());
    let second = Proxy::builder().without_listener().setting(&setting).start();
    assert_eq!(get(address, "a.test", "/").text(), "hello");
    second.stop();
}

#[test]
fn large_state_goes_to_disk_and_back() {
    const CLUSTERS: usize = 5_000;
    let backend = Backend::named("hello");
    let first = Proxy::builder().workers(1).start();
    let address = first.address();
    let mut command = first.command();
    for batch in 0..CLUSTERS / 500 {
        let orders = (0..500).flat_map(|n| {
            let (id, host) = (format!("c{}", batch * 500 + n), format!("h{}.test", batch * 500 + n));
            [
                requests::add_cluster(&id),
                requests::add_backend(&id, "b", backend.address()),
                requests::add_frontend(&id, address, &host),
            ]
        });
        command.ok(requests::transaction(orders.collect(), None));
    }
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("state");
    save(&first, &file);
    first.stop();
    let second = Proxy::builder().workers(1).without_listener().start();
    let mut command = second.command();
    command.set_patience(std::time::Duration::from_secs(60));
    command.ok(load(&file));
    for n in [0, 1, CLUSTERS / 2, CLUSTERS - 1] {
        assert_eq!(get(address, &format!("h{n}.test"), "/").text(), "hello");
    }
}
