//! `reload`: what the file says is what is served, or nothing has changed.

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use kakehi_command::proto::request::RequestType;
use kakehi_e2e::address::{free_address, taken_address};
use kakehi_e2e::http::{Backend, Client, get};
use kakehi_e2e::tls::{Authority, Issued};
use kakehi_e2e::{Proxy, ProxyBuilder};

fn reload(proxy: &Proxy) -> RequestType {
    RequestType::ReloadConfiguration(proxy.directory().join("next.toml").display().to_string())
}

fn write(proxy: &Proxy, text: &str) {
    fs::write(proxy.directory().join("next.toml"), text).expect("our own directory");
}

/// A config file's text with a listener at `address` and clusters by id and backend; each serves `ID.test`.
fn text(address: SocketAddr, clusters: &[(&str, &Backend)], more: &str) -> String {
    let mut text = format!(
        "command_socket = \"command.sock\"\n[[listeners]]\nprotocol = \"http\"\naddress = \"{address}\"\n{more}\n"
    );
    for (id, backend) in clusters {
        text.push_str(&format!(
            "[clusters.{id}]\nprotocol = \"http\"\n\
             frontends = [{{ address = \"{address}\", hostname = \"{id}.test\", path = \"/\" }}]\n\
             backends = [{{ address = \"{}\" }}]\n",
            backend.address()
        ));
    }
    text
}

/// Requests for `host`, one after another, until it is dropped; counts what is not answered as it should be.
struct Load {
    stop: Arc<AtomicBool>,
    served: Arc<AtomicU64>,
    failed: Arc<AtomicU64>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Load {
    fn start(address: SocketAddr, host: &'static str, expected: &'static str) -> Self {
        let (stop, served, failed) =
            (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let thread = thread::spawn({
            let (stop, served, failed) = (Arc::clone(&stop), Arc::clone(&served), Arc::clone(&failed));
            move || {
                while !stop.load(Ordering::Relaxed) {
                    let right = get(address, host, "/").text() == expected;
                    (if right { &served } else { &failed }).fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        Self { stop, served, failed, thread: Some(thread) }
    }

    fn end(mut self) -> (u64, u64) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().expect("once").join().expect("no request hung");
        (self.served.load(Ordering::Relaxed), self.failed.load(Ordering::Relaxed))
    }
}

fn builder(backend: &Backend) -> ProxyBuilder {
    Proxy::builder().cluster("kept", "kept.test", &[backend.address()]).cluster(
        "old",
        "old.test",
        &[backend.address()],
    )
}

#[test]
fn it_adds_changes_and_removes_under_load_and_says_what() {
    let (one, two) = (Backend::named("one"), Backend::named("two"));
    let proxy = builder(&one).start();
    let address = proxy.address();
    let load = Load::start(address, "kept.test", "one");
    for round in 0..20 {
        let clusters: &[(&str, &Backend)] =
            if round % 2 == 0 { &[("kept", &one), ("new", &two)] } else { &[("kept", &one), ("old", &one)] };
        write(&proxy, &text(address, clusters, ""));
        let answer = proxy.command().request(reload(&proxy));
        let (come, gone) = if round % 2 == 0 { ("new", "old") } else { ("old", "new") };
        for part in [format!("1 cluster added ({come})"), format!("1 cluster removed ({gone})")] {
            assert!(answer.message.contains(&part), "{}", answer.message);
        }
        assert!(!answer.message.contains("kept"), "what stays is no difference: {}", answer.message);
        assert_eq!(get(address, &format!("{gone}.test"), "/").status(), 404);
    }
    let (served, failed) = load.end();
    assert_eq!(failed, 0, "of {served}");
    assert!(served > 0);
    // A listener's setting, too.
    write(&proxy, &text(address, &[("kept", &one), ("old", &one)], "front_timeout = 7"));
    let answer = proxy.command().request(reload(&proxy));
    assert!(answer.message.contains(&format!("1 listener changed ({address})")), "{}", answer.message);
    let revision = proxy.command().revision();
    let answer = proxy.command().request(reload(&proxy));
    assert!(answer.message.contains("nothing changes"), "{}", answer.message);
    assert_eq!(proxy.command().revision(), revision);
}

#[test]
fn a_listener_that_is_not_in_the_file_any_more_is_gone() {
    let one = Backend::named("one");
    let proxy = builder(&one).start();
    let (before, after) = (proxy.address(), free_address());
    write(&proxy, &text(after, &[("kept", &one)], ""));
    let answer = proxy.command().request(reload(&proxy));
    assert!(answer.message.contains(&format!("1 listener added ({after})")), "{}", answer.message);
    assert!(answer.message.contains(&format!("1 listener removed ({before})")), "{}", answer.message);
    assert_eq!(get(after, "kept.test", "/").text(), "one");
    assert!(Client::try_connect(before).is_err(), "nobody listens there");
}

#[test]
fn what_is_wrong_changes_nothing() {
    let one = Backend::named("one");
    let proxy = builder(&one).start();
    let address = proxy.address();
    let mut command = proxy.command();
    let (revision, hashes) = (command.revision(), command.main_hashes());
    let (taken, _held) = taken_address();
    let good = text(address, &[("kept", &one), ("new", &one)], "");
    let mut wrong = vec![
        ("no such file", None, "No such file"),
        ("no TOML", Some("this is = = not TOML".to_owned()), "next.toml:1"),
        ("a wrong type", Some(format!("worker_count = \"x\"\n{good}")), "worker_count"),
        ("a wrong name", Some(good.replace("new.test", "a..b")), "hostname"),
        ("a taken port", Some(text(taken, &[("kept", &one)], "")), "cannot"),
        ("half a file", Some(good[..good.len() - 20].to_owned()), "next.toml"),
    ];
    wrong.push((
        "a taken port beside a good one",
        Some({
            let more = format!("[[listeners]]\nprotocol = \"http\"\naddress = \"{taken}\"\n");
            text(free_address(), &[("new", &one)], "") + &more
        }),
        "cannot",
    ));
    for (what, text, reason) in wrong {
        match text {
            Some(text) => write(&proxy, &text),
            // It was never written.
            None => assert!(!proxy.directory().join("next.toml").exists()),
        }
        let told = command.refused(reload(&proxy));
        assert!(told.contains(reason), "{what}: {told}");
        assert_eq!((command.revision(), command.main_hashes()), (revision, hashes.clone()), "{what}");
        assert_eq!(get(address, "old.test", "/").text(), "one", "{what}");
        assert_eq!(get(address, "new.test", "/").status(), 404, "{what}");
    }
    write(&proxy, &good);
    command.ok(reload(&proxy));
    assert_eq!(get(address, "new.test", "/").text(), "one");
}

#[test]
fn a_changed_certificate_is_shown_and_a_broken_one_is_not_taken() {
    let backend = Backend::named("hello");
    let root = Authority::new("root");
    let (first, second) = (root.issue(&["a.test"]), root.issue(&["a.test"]));
    let address = free_address();
    let directory = tempfile::tempdir().expect("a directory");
    let keep = |issued: &Issued| {
        fs::write(directory.path().join("a.pem"), &issued.wire().certificate).expect("ours");
        fs::write(directory.path().join("a.key"), &issued.wire().key).expect("ours");
    };
    keep(&first);
    let folder = directory.path().display();
    let tables = format!(
        "[[listeners]]\nprotocol = \"https\"\naddress = \"{address}\"\n[clusters.a]\nprotocol = \"http\"\n\
         frontends = [{{ address = \"{address}\", hostname = \"a.test\", certificate = \"{folder}/a.pem\", \
         key = \"{folder}/a.key\" }}]\nbackends = [{{ address = \"{}\" }}]\n",
        backend.address()
    );
    let proxy = Proxy::builder().without_listener().tables(&tables).start();
    write(&proxy, &format!("command_socket = \"command.sock\"\n{tables}"));
    let mut command = proxy.command();
    let held = |command: &mut kakehi_e2e::CommandClient| {
        format!("{:?}", command.ok(RequestType::QueryCertificatesFromTheState(Default::default())))
    };
    assert!(held(&mut command).contains(&first.fingerprint()));
    keep(&second);
    let answer = command.request(reload(&proxy));
    assert!(
        answer.message.contains("1 certificate added") && answer.message.contains("1 certificate removed"),
        "{}",
        answer.message
    );
    assert!(held(&mut command).contains(&second.fingerprint()));
    assert!(!held(&mut command).contains(&first.fingerprint()));
    let mut client = root.client().connect(address, "a.test").expect("a handshake");
    let response = client.get("a.test", "/").expect("an answer");
    assert_eq!(response.text(), "hello");
    // The key of another certificate.
    fs::write(directory.path().join("a.key"), &first.wire().key).expect("ours");
    command.refused(reload(&proxy));
    fs::remove_file(directory.path().join("a.pem")).expect("ours");
    command.refused(reload(&proxy));
    assert!(held(&mut command).contains(&second.fingerprint()));
    root.client().connect(address, "a.test").expect("a handshake");
}

#[test]
fn the_command_line_says_what_it_says() {
    let one = Backend::named("one");
    let proxy = builder(&one).start();
    write(&proxy, &text(proxy.address(), &[("kept", &one)], ""));
    let done = proxy.cli().run(&["reload", "--file", "next.toml"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(done.stdout.contains("1 cluster removed (old)"), "{done:?}");
    let back = proxy.cli().run(&["reload"]);
    assert!(back.stdout.contains("1 cluster added (old)"), "{back:?}");
}
