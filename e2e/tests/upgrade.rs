//! Workers and the main process are replaced while they serve: nobody connected notices, and nothing is lost.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use kakehi_command::proto::request::RequestType;
use kakehi_command::proto::{ResponseStatus, SubscribeEvents, UpgradeMain, WaitDrained, WorkerInfo};
use kakehi_e2e::deadline::await_value;
use kakehi_e2e::http::{Backend, Client, get};
use kakehi_e2e::load::{Connections, Load, Target};
use kakehi_e2e::tcp::{TcpBackend, TcpClient};
use kakehi_e2e::{CommandClient, Proxy, kakehi_binary, process, requests};

/// A boot and a drain under load, on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Upgrades of the main process and of all workers, of which there are two.
const ROUNDS: usize = 17;

/// A copy of the program, to be replaced.
fn program(folder: &Path) -> PathBuf {
    let path = folder.join("kakehi");
    fs::copy(kakehi_binary(), &path).expect("copied");
    path
}

/// Puts another file in the place of the program: beside and renamed, as packages do.
fn put(program: &Path, contents: &[u8]) {
    let beside = program.with_extension("new");
    fs::write(&beside, contents).expect("written");
    fs::set_permissions(&beside, fs::Permissions::from_mode(0o755)).expect("executable");
    fs::rename(&beside, program).expect("renamed");
}

fn patient(proxy: &Proxy) -> CommandClient {
    let mut client = proxy.command();
    client.set_patience(PATIENCE);
    client
}

fn upgrade_main() -> RequestType {
    RequestType::UpgradeMain(UpgradeMain {})
}

fn id(worker: &WorkerInfo) -> u32 {
    worker.id
}

/// Asks for the replacement of a worker, and waits until another one serves; the answer comes when it has ended.
fn replace(proxy: &Proxy, worker: u32) -> CommandClient {
    let before = proxy.workers().len();
    let mut client = patient(proxy);
    client.send(RequestType::UpgradeWorker(worker));
    await_value("a successor serves", || {
        let workers = proxy.workers();
        (workers.len() == before && workers.iter().all(|it| it.id != worker)).then_some(())
    });
    client
}

fn answered(client: &mut CommandClient) -> String {
    let response = client.receive_final().expect("an answer");
    assert_eq!(response.status(), ResponseStatus::Ok, "{}", response.message);
    response.message
}

#[test]
fn a_worker_is_replaced_and_its_idle_connections_wait_for_their_clients() {
    let backend = Backend::named("hello");
    let proxy = Proxy::builder().workers(1).cluster("c", "h.test", &[backend.address()]).start();
    let mut idle = Client::connect(proxy.address());
    assert_eq!(idle.get("h.test", "/").text(), "hello");
    let old = proxy.workers()[0];
    let mut upgrade = replace(&proxy, old.id);
    assert_ne!(proxy.workers()[0].pid, old.pid);
    assert_eq!(get(proxy.address(), "h.test", "/").text(), "hello");
    // Changes reach who retires as well.
    proxy.command().ok(requests::add_cluster("d"));
    let last = idle.get("h.test", "/");
    assert_eq!((last.status(), last.text().as_str()), (200, "hello"));
    assert!(last.head.closes(), "its last one");
    idle.expect_close();
    let text = answered(&mut upgrade);
    assert!(text.contains(&format!("in the place of worker {}", old.id)), "{text}");
    assert!(!process::is_alive(u32::try_from(old.pid).expect("a pid")));
    assert!(process::zombies(proxy.main_pid()).is_empty());
    let refused = patient(&proxy).refused(RequestType::UpgradeWorker(old.id));
    assert!(refused.contains(&format!("no worker {} serves", old.id)), "{refused}");
    proxy.stop();
}

#[test]
fn who_does_not_finish_in_time_is_ended() {
    let (backend, echo) = (Backend::hanging(), TcpBackend::echo("echo"));
    let builder = Proxy::builder().workers(1).setting("worker_drain_timeout = 1\nworker_timeout = 2");
    let listener = kakehi_e2e::address::free_address();
    let tables = format!(
        "[[listeners]]\nprotocol = \"tcp\"\naddress = \"{listener}\"\n[clusters.t]\nprotocol = \"tcp\"\n\
         frontends = [{{ address = \"{listener}\" }}]\nbackends = [{{ address = \"{}\" }}]\n",
        echo.address()
    );
    let proxy = builder.cluster("c", "h.test", &[backend.address()]).tables(&tables).start();
    let mut hangs = Client::connect(proxy.address());
    hangs.send("GET / HTTP/1.1\r\nhost: h.test\r\n\r\n");
    backend.next_request();
    let mut tunnel = TcpClient::connect(listener);
    tunnel.hears("echo");
    let worker = proxy.workers()[0].id;
    let mut upgrade = replace(&proxy, worker);
    // It lives on until the deadline.
    tunnel.send("two");
    tunnel.hears("two");
    answered(&mut upgrade);
    hangs.expect_close();
    let output = proxy.stdout();
    assert!(output.contains("it had not finished in time (worker_drain_timeout)"), "{output}");
    proxy.stop();
}

#[test]
fn the_main_process_goes_on_as_another_program() {
    let folder = tempfile::tempdir().expect("a folder");
    let program = program(folder.path());
    let (backend, hanging) = (Backend::named("hello"), Backend::hanging());
    let builder = Proxy::builder().program(&program).setting("pid_file_path = \"kakehi.pid\"");
    let builder = builder.cluster("c", "h.test", &[backend.address()]);
    let slow = format!(
        "[clusters.slow]\nprotocol = \"http\"\nfrontends = [{{ address = \"{}\", hostname = \"slow.test\" }}]\n\
         backends = [{{ address = \"{}\", backend_id = \"slow-0\" }}]\n",
        builder.address(),
        hanging.address()
    );
    let proxy = builder.tables(&slow).start();
    let mut keep = Client::connect(proxy.address());
    assert_eq!(keep.get("h.test", "/").text(), "hello");
    let mut slow = Client::connect(proxy.address());
    slow.send("GET / HTTP/1.1\r\nhost: slow.test\r\n\r\n");
    hanging.next_request();
    proxy.command().ok(requests::add_cluster("at-run-time"));
    proxy.command().ok(requests::remove_backend("slow", "slow-0", hanging.address()));
    // Who listens for events, and who waits for something that takes long.
    let mut events = patient(&proxy);
    events.send(RequestType::SubscribeEvents(SubscribeEvents {}));
    events.receive().expect("subscribed");
    let mut waits = patient(&proxy);
    waits.send(RequestType::WaitDrained(WaitDrained {
        cluster_id: Some("slow".into()),
        backend_id: Some("slow-0".into()),
        address: Some(requests::wire_address(hanging.address())),
        ..Default::default()
    }));
    waits.receive().expect("it waits");
    let (pid, workers) = (proxy.main_pid(), proxy.worker_pids());
    let (revision, hashes) = (proxy.command().revision(), proxy.command().cluster_hashes());
    let before = process::executable(pid).expect("it runs");
    put(&program, &fs::read(kakehi_binary()).expect("read"));

    // Behind it in the same connection: answered by the program that takes over.
    let mut client = patient(&proxy);
    client.send(upgrade_main());
    client.send(requests::query_revision());
    let text = answered(&mut client);
    assert!(text.contains("has taken over"), "{text}");
    answered(&mut client);

    let after = process::executable(pid).expect("it runs");
    assert!(before != after || !after.to_string_lossy().contains("deleted"), "{before:?} {after:?}");
    assert_eq!(proxy.worker_pids(), workers, "workers go on");
    assert_eq!(proxy.command().revision(), revision);
    assert_eq!(proxy.command().cluster_hashes(), hashes);
    assert_eq!(keep.get("h.test", "/").text(), "hello", "the same connection");
    let pid_file = fs::read_to_string(proxy.directory().join("kakehi.pid")).expect("it is there");
    assert_eq!(pid_file.trim(), pid.to_string());
    // What was under way ends as it would have, and the old clients hear of it.
    drop(slow);
    assert!(answered(&mut waits).contains("has drained"));
    let event = events.receive().expect("an event");
    assert_eq!(event.status(), ResponseStatus::Processing);
    // It owns its workers as before.
    proxy.command().ok(requests::add_cluster("after"));
    kakehi_e2e::send_signal(workers[0], nix::sys::signal::Signal::SIGKILL);
    kakehi_e2e::await_replaced(&proxy, workers[0], 2);
    assert_eq!(get(proxy.address(), "h.test", "/").text(), "hello");
    assert!(process::zombies(pid).is_empty());
    proxy.stop();
}

#[test]
fn a_start_is_waited_for() {
    let backend = Backend::named("hello");
    let mut proxy = Proxy::builder().cluster("c", "h.test", &[backend.address()]).spawn();
    let mut client = await_value("the socket is there", || CommandClient::connect(proxy.socket()).ok());
    client.set_patience(PATIENCE);
    // Others are served meanwhile.
    client.send(upgrade_main());
    proxy.command().ok(requests::add_cluster("while-it-starts"));
    let text = answered(&mut client);
    assert!(text.contains("has taken over"), "{text}");
    proxy.await_running(2);
    assert_eq!(get(proxy.address(), "h.test", "/").text(), "hello");
    proxy.stop();
}

#[test]
fn fifty_upgrades_under_load_cost_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let program = program(folder.path());
    let backend = Backend::named("hello");
    let proxy = Proxy::builder().program(&program).cluster("c", "h.test", &[backend.address()]).start();
    let target = Target { address: proxy.address(), host: "h.test".into(), path: "/".into() };
    let keep_alive = Load::start(&target, Connections::KeepAlive, 2);
    let new = Load::start(&target, Connections::New, 2);
    let pid = proxy.main_pid();
    let hashes = proxy.command().cluster_hashes();
    let revision = proxy.command().revision();
    let mut settled = None;
    for round in 0..ROUNDS {
        keep_alive.await_more(50);
        new.await_more(50);
        put(&program, &fs::read(kakehi_binary()).expect("read"));
        patient(&proxy).ok(upgrade_main());
        let old: Vec<u32> = proxy.workers().iter().map(id).collect();
        let upgrades = old.iter().map(|worker| replace(&proxy, *worker));
        for mut upgrade in upgrades.collect::<Vec<_>>() {
            answered(&mut upgrade);
        }
        if round == 4 {
            let memory = process::private_bytes(pid).expect("it runs");
            settled = Some((process::open_fds(pid).expect("it runs"), memory));
        }
    }
    keep_alive.await_more(50);
    new.await_more(50);
    let (keep_alive, new) = (keep_alive.stop(), new.stop());
    println!(
        "{} upgrades: {} requests on connections that are kept, {} on new ones",
        ROUNDS * 3,
        keep_alive.ok,
        new.ok
    );
    keep_alive.assert_flawless("connections that are kept");
    new.assert_flawless("new connections");
    assert_eq!(proxy.command().revision(), revision);
    let after = proxy.command().cluster_hashes();
    assert_eq!(after["main"], hashes["main"]);
    let (fds, memory) = settled.expect("more rounds than five");
    await_value("no descriptor is left over", || {
        process::open_fds(pid).is_some_and(|open| open <= fds).then_some(())
    });
    let memory_after = process::private_bytes(pid).expect("it runs");
    assert!(memory_after < memory + memory / 4, "{memory} bytes became {memory_after}");
    assert_eq!(process::children(pid).len(), 2, "no process is left over");
    proxy.stop();
}

#[test]
fn a_program_that_cannot_take_over_is_refused_and_nothing_changes() {
    let folder = tempfile::tempdir().expect("a folder");
    let program = program(folder.path());
    let backend = Backend::named("hello");
    let proxy = Proxy::builder().program(&program).cluster("c", "h.test", &[backend.address()]).start();
    let workers = proxy.worker_pids();
    let check = |words: &str| {
        let refused = patient(&proxy).refused(upgrade_main());
        assert!(refused.contains("nothing was upgraded") && refused.contains(words), "{refused}");
        assert_eq!(proxy.worker_pids(), workers);
        proxy.command().ok(requests::add_cluster("still-changing"));
        assert_eq!(get(proxy.address(), "h.test", "/").text(), "hello");
        assert!(process::zombies(proxy.main_pid()).is_empty());
    };
    put(&program, b"#!/bin/sh\necho it has another protocol >&2\nexit 1\n");
    check("it has another protocol");
    put(&program, b"neither script nor program");
    check("cannot start");
    fs::remove_file(&program).expect("removed");
    check("cannot start");
    // It says that it could, and can't be executed then.
    put(&program, format!("#!/bin/sh\nrm {}\n", program.display()).as_bytes());
    check("cannot execute");
    // It never says.
    put(&program, b"#!/bin/sh\nexec sleep 1000\n");
    let mut client = patient(&proxy);
    client.send(upgrade_main());
    let probe = await_value("it is asked", || {
        process::children(proxy.main_pid()).into_iter().find(|pid| process::is_called(*pid, "sleep"))
    });
    kakehi_e2e::send_signal(probe, nix::sys::signal::Signal::SIGKILL);
    let refused = client.receive_final().expect("an answer");
    assert_eq!(refused.status(), ResponseStatus::Failure, "{}", refused.message);
    put(&program, &fs::read(kakehi_binary()).expect("read"));
    patient(&proxy).ok(upgrade_main());
    proxy.stop();
}

#[test]
fn a_program_that_fails_on_the_way_gives_back_what_it_took() {
    let folder = tempfile::tempdir().expect("a folder");
    let program = program(folder.path());
    let backend = Backend::named("hello");
    let builder = Proxy::builder().program(&program);
    let mut tables = String::new();
    for _ in 0..12 {
        let address = kakehi_e2e::address::free_address();
        tables.push_str(&format!("[[listeners]]\nprotocol = \"http\"\naddress = \"{address}\"\n"));
    }
    let proxy = builder.cluster("c", "h.test", &[backend.address()]).tables(&tables).start();
    let (pid, workers) = (proxy.main_pid(), proxy.worker_pids());
    // Enough to write down what there is, and too few to take it over.
    let limit = process::open_fds(pid).expect("it runs") + 12;
    let mut prlimit = Command::new("prlimit");
    prlimit.args(["--pid", &pid.to_string(), &format!("--nofile={limit}:{limit}")]);
    let limited = prlimit.status().expect("prlimit(1) of util-linux");
    assert!(limited.success());
    let refused = patient(&proxy).refused(upgrade_main());
    assert!(refused.contains("the new program could not take over"), "{refused}");
    assert_eq!(proxy.worker_pids(), workers);
    proxy.command().ok(requests::add_cluster("still-changing"));
    assert_eq!(get(proxy.address(), "h.test", "/").text(), "hello");
    proxy.stop();
}
