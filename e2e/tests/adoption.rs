//! `kill -9` of the main process: the workers serve on, and a main process that is started again takes them over.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::process::Child;
use std::time::Duration;

use kakehi_command::proto::ResponseStatus;
use kakehi_command::proto::request::RequestType;
use kakehi_command::proto::supervision::{FromWorker, Orphan, from_worker};
use kakehi_e2e::address::free_address;
use kakehi_e2e::deadline::{await_true, await_value};
use kakehi_e2e::http::{Backend, Client, get};
use kakehi_e2e::load::{Connections, Load, Target};
use kakehi_e2e::tls::Authority;
use kakehi_e2e::{CommandClient, Proxy, ProxyBuilder, await_replaced, process, requests, send_signal};
use nix::sys::signal::Signal;
use prost::Message;

/// A boot, or a drain, on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Main processes that are killed one after another.
const ROUNDS: usize = 10;

fn builder(backend: &Backend) -> ProxyBuilder {
    Proxy::builder().cluster("c", "h.test", &[backend.address()])
}

fn patient(proxy: &Proxy) -> CommandClient {
    let mut client = proxy.command();
    client.set_patience(PATIENCE);
    client
}

fn sorted(mut pids: Vec<u32>) -> Vec<u32> {
    pids.sort_unstable();
    pids
}

/// Starts another main process and waits until it has so many workers.
fn restart(proxy: &mut Proxy, workers: usize) {
    proxy.restart();
    proxy.await_running(workers);
}

/// Starts another main process, which is to fail; gives what it prints.
fn refused(proxy: &mut Proxy) -> String {
    let before = proxy.output().len();
    proxy.restart();
    let status = proxy.await_exit();
    assert_eq!(status.code(), Some(1), "{}", proxy.output());
    proxy.output().chars().skip(before.saturating_sub(40)).collect()
}

fn clusters(proxy: &Proxy) -> usize {
    proxy.command().main_hashes().len()
}

/// All of them have the same state.
fn assert_agreed(proxy: &Proxy) {
    let hashes = proxy.command().cluster_hashes();
    let main = &hashes["main"];
    for (who, theirs) in &hashes {
        assert_eq!(theirs, main, "{who}");
    }
}

#[test]
fn nobody_notices_and_the_next_main_process_has_everything() {
    let backend = Backend::named("hello");
    let mut proxy = builder(&backend).start();
    let target = Target { address: proxy.address(), host: "h.test".into(), path: "/".into() };
    let keep_alive = Load::start(&target, Connections::KeepAlive, 2);
    let new = Load::start(&target, Connections::New, 2);
    let mut idle = Client::connect(proxy.address());
    assert_eq!(idle.get("h.test", "/").text(), "hello");
    proxy.command().ok(requests::add_cluster("at-run-time"));
    let (revision, hashes) = (proxy.command().revision(), proxy.command().main_hashes());
    let workers = proxy.workers();
    let pids = proxy.kill_main();
    assert_eq!(process::executable(proxy.main_pid()), None);
    keep_alive.await_more(200);
    new.await_more(200);
    restart(&mut proxy, 2);
    keep_alive.await_more(200);
    new.await_more(200);
    assert_eq!(proxy.worker_pids(), pids, "the same processes");
    let ids =
        |workers: &[kakehi_command::proto::WorkerInfo]| workers.iter().map(|it| it.id).collect::<Vec<_>>();
    assert_eq!(ids(&proxy.workers()), ids(&workers), "by the same numbers");
    assert!(process::children(proxy.main_pid()).is_empty(), "nobody was started");
    assert_eq!(proxy.command().revision(), revision);
    assert_eq!(proxy.command().main_hashes(), hashes);
    assert_agreed(&proxy);
    // It is their main process as the one before was.
    proxy.command().ok(requests::add_cluster("after"));
    assert_eq!(proxy.command().revision(), revision + 1);
    assert_agreed(&proxy);
    let listener = free_address();
    proxy.command().ok(requests::add_listener(listener));
    proxy.command().ok(requests::activate_listener(listener));
    proxy.command().ok(requests::add_frontend("c", listener, "h.test"));
    assert_eq!(get(listener, "h.test", "/").text(), "hello");
    // A worker that is replaced would wait for it to say something.
    assert_eq!(idle.get("h.test", "/").text(), "hello");
    drop(idle);
    let upgraded = patient(&proxy).request(RequestType::UpgradeWorker(proxy.workers()[0].id));
    assert_eq!(upgraded.status(), ResponseStatus::Ok, "{}", upgraded.message);
    assert!(!process::is_alive(pids[0]));
    let (keep_alive, new) = (keep_alive.stop(), new.stop());
    keep_alive.assert_flawless("connections that are kept");
    new.assert_flawless("new connections");
    send_signal(pids[1], Signal::SIGKILL);
    await_replaced(&proxy, pids[1], 2);
    assert_eq!(get(proxy.address(), "h.test", "/").text(), "hello");
    proxy.stop();
}

#[test]
fn ten_main_processes_leave_nothing_over() {
    let backend = Backend::named("hello");
    let mut proxy = builder(&backend).start();
    let target = Target { address: proxy.address(), host: "h.test".into(), path: "/".into() };
    let keep_alive = Load::start(&target, Connections::KeepAlive, 1);
    let new = Load::start(&target, Connections::New, 1);
    let pids = proxy.worker_pids();
    let look = |proxy: &Proxy| {
        let fds = |pid: &u32| process::fd_targets(*pid).iter().filter(|it| !is_of_traffic(it)).count();
        let workers: Vec<usize> = pids.iter().map(fds).collect();
        let memory: Vec<u64> = pids.iter().filter_map(|pid| process::private_bytes(*pid)).collect();
        (fds(&proxy.main_pid()), workers, memory)
    };
    let mut settled = None;
    for round in 0..ROUNDS {
        assert_eq!(proxy.kill_main(), pids);
        keep_alive.await_more(20);
        new.await_more(20);
        restart(&mut proxy, 2);
        proxy.command().ok(requests::add_cluster("twice"));
        proxy.command().ok(requests::remove_cluster("twice"));
        assert_eq!(proxy.worker_pids(), pids);
        assert!(process::children(proxy.main_pid()).is_empty());
        assert_eq!(fs::read_dir(proxy.workers_folder()).expect("there").count(), 2);
        if round == 3 && process::may_look_inside() {
            settled = Some(look(&proxy));
        }
    }
    keep_alive.stop().assert_flawless("connections that are kept");
    new.stop().assert_flawless("new connections");
    assert_agreed(&proxy);
    if let Some((main, workers, memory)) = settled {
        await_true("no descriptor is left over", || {
            let (now_main, now_workers, _) = look(&proxy);
            now_main <= main && now_workers.iter().zip(&workers).all(|(now, then)| now <= then)
        });
        for (now, then) in look(&proxy).2.into_iter().zip(memory) {
            assert!(now < then + then / 4 + (1 << 20), "{then} bytes became {now}");
        }
    }
    proxy.stop();
}

/// Sockets come and go with the load.
fn is_of_traffic(target: &str) -> bool {
    target.starts_with("socket:") || target.starts_with("pipe:")
}

#[test]
fn a_change_that_was_acknowledged_is_there() {
    let backend = Backend::named("hello");
    let mut proxy = builder(&backend).start();
    for round in 0..5 {
        let cluster = format!("last-{round}");
        proxy.command().ok(requests::add_cluster(&cluster));
        let revision = proxy.command().revision();
        let count = clusters(&proxy);
        proxy.kill_main();
        restart(&mut proxy, 2);
        assert_eq!((proxy.command().revision(), clusters(&proxy)), (revision, count));
        assert!(proxy.command().main_hashes().contains_key(&cluster));
    }
    proxy.stop();
}

#[test]
fn a_worker_that_missed_the_last_change_is_told() {
    let backend = Backend::named("hello");
    // All hashes of that many clusters come in one answer.
    let mut proxy = builder(&backend).setting("max_command_buffer_size = 16000000").start();
    let (pids, revision) = (proxy.worker_pids(), proxy.command().revision());
    send_signal(pids[1], Signal::SIGSTOP);
    // More than its channel holds while it reads nothing.
    let before = process::private_bytes(pids[0]).expect("it runs");
    let orders = (0..12_000).map(|number| requests::add_cluster(&format!("cluster-{number:0100}")));
    let mut client = patient(&proxy);
    client.send(requests::transaction(orders.collect(), None));
    let folder = proxy.workers_folder();
    let mut looks = (0, 0);
    await_true("the other one has applied it, and rests", || {
        let bytes = process::private_bytes(pids[0]).expect("it runs");
        looks = if bytes == looks.0 { (bytes, looks.1 + 1) } else { (bytes, 0) };
        bytes > before + (4 << 20) && looks.1 > 50
    });
    proxy.signal(Signal::SIGKILL);
    proxy.await_exit();
    send_signal(pids[1], Signal::SIGCONT);
    assert_eq!(fs::read_dir(folder).expect("there").count(), 2);
    restart(&mut proxy, 2);
    assert_eq!(sorted(proxy.worker_pids()), sorted(pids));
    await_true("all have it", || proxy.command().revision() == revision + 1);
    await_true("all agree", || {
        let hashes = proxy.command().cluster_hashes();
        hashes.len() == 3 && hashes.values().all(|theirs| theirs.len() == 12_001)
    });
    assert_agreed(&proxy);
    assert!(proxy.stdout().contains("orders behind"), "{}", proxy.stdout());
    assert_eq!(get(proxy.address(), "h.test", "/").text(), "hello");
    proxy.stop();
}

#[test]
fn a_worker_that_hangs_is_replaced() {
    let backend = Backend::named("hello");
    let mut proxy = builder(&backend).setting("worker_timeout = 1").start();
    let pids = proxy.kill_main();
    send_signal(pids[0], Signal::SIGSTOP);
    restart(&mut proxy, 2);
    let now = proxy.worker_pids();
    assert!(now.contains(&pids[1]) && !now.contains(&pids[0]), "{pids:?} {now:?}");
    assert!(!process::is_alive(pids[0]));
    let output = proxy.stdout();
    assert!(output.contains(&format!("(pid {}) serves without a main process", pids[0])), "{output}");
    for _ in 0..20 {
        assert_eq!(get(proxy.address(), "h.test", "/").text(), "hello");
    }
    assert_agreed(&proxy);
    proxy.stop();
}

#[test]
fn if_all_hang_nothing_is_touched() {
    let backend = Backend::named("hello");
    let mut proxy = builder(&backend).setting("worker_timeout = 1").start();
    proxy.command().ok(requests::add_cluster("at-run-time"));
    let pids = proxy.kill_main();
    pids.iter().for_each(|pid| send_signal(*pid, Signal::SIGSTOP));
    let text = refused(&mut proxy);
    assert!(text.contains("none of them answers within 1s"), "{text}");
    assert!(text.contains(&format!("kill {} {}", pids[0], pids[1])), "{text}");
    pids.iter().for_each(|pid| send_signal(*pid, Signal::SIGCONT));
    restart(&mut proxy, 2);
    assert_eq!(proxy.worker_pids(), pids);
    assert!(proxy.command().main_hashes().contains_key("at-run-time"));
    proxy.stop();
}

#[test]
fn a_worker_that_died_meanwhile_is_replaced() {
    let backend = Backend::named("hello");
    let mut proxy = builder(&backend).start();
    proxy.command().ok(requests::add_cluster("at-run-time"));
    let pids = proxy.kill_main();
    send_signal(pids[0], Signal::SIGKILL);
    await_true("it is gone", || !process::is_alive(pids[0]));
    // The others go on.
    for _ in 0..20 {
        assert_eq!(get(proxy.address(), "h.test", "/").text(), "hello");
    }
    restart(&mut proxy, 2);
    assert!(proxy.worker_pids().contains(&pids[1]));
    assert!(proxy.command().main_hashes().contains_key("at-run-time"));
    assert_agreed(&proxy);
    for _ in 0..20 {
        assert_eq!(get(proxy.address(), "h.test", "/").text(), "hello");
    }
    proxy.stop();
}

#[test]
fn another_version_is_refused_and_nothing_is_touched() {
    let backend = Backend::named("hello");
    let mut proxy = builder(&backend).start();
    let pids = proxy.kill_main();
    // A worker of another version waits among them.
    let other = UnixListener::bind(proxy.workers_folder().join(format!("9-{}-0", std::process::id())));
    let other = other.expect("bound");
    let answers = std::thread::spawn(move || {
        let (mut stream, _) = other.accept().expect("somebody comes");
        let orphan = Orphan { protocol: 99, version: "9.9.9".into(), worker_id: 9, ..Default::default() };
        let frame = FromWorker { message: Some(from_worker::Message::Orphan(orphan)) }.encode_to_vec();
        stream.write_all(&(frame.len() as u64 + 8).to_le_bytes()).expect("written");
        stream.write_all(&frame).expect("written");
        let _until_the_end = stream.read_to_end(&mut Vec::new());
    });
    let text = refused(&mut proxy);
    answers.join().expect("it has answered");
    let words = format!(
        "it is of version 9.9.9, which hands over by protocol 99, and this is version {}, which speaks 1: start that \
         version, or end them: kill",
        env!("CARGO_PKG_VERSION")
    );
    assert!(text.contains(&words), "{text}");
    assert!(pids.iter().all(|pid| text.contains(&pid.to_string())), "{text}");
    assert!(!proxy.socket().exists(), "it leaves nothing");
    assert!(pids.iter().all(|pid| process::is_alive(*pid)));
    assert_eq!(get(proxy.address(), "h.test", "/").text(), "hello");
    fs::remove_file(proxy.workers_folder().join(format!("9-{}-0", std::process::id()))).expect("there");
    restart(&mut proxy, 2);
    assert_eq!(proxy.worker_pids(), pids);
    proxy.stop();
}

#[test]
fn certificates_and_tickets_survive() {
    let backend = Backend::named("hello");
    let mut proxy = Proxy::builder().without_listener().start();
    let (address, authority) = (free_address(), Authority::default());
    let issued = authority.issue(&["a.test"]);
    let mut command = proxy.command();
    command.ok(RequestType::AddHttpsListener(requests::https_listener(address)));
    command.ok(requests::activate_https_listener(address));
    command.ok(requests::add_cluster("a"));
    command.ok(requests::add_https_frontend("a", address, "a.test"));
    command.ok(requests::add_backend("a", "b", backend.address()));
    command.ok(issued.add(address));
    let options = authority.client();
    let config = options.config();
    let connect = || kakehi_e2e::tls::TlsClient::connect(&config, address, "a.test").expect("served");
    let mut kept = connect();
    assert_eq!(kept.get("a.test", "/").expect("an answer").text(), "hello");
    let pids = proxy.kill_main();
    assert_eq!(kept.get("a.test", "/").expect("an answer").text(), "hello");
    let mut alone = connect();
    assert_eq!(alone.served(), &issued.der[..]);
    assert_eq!(alone.get("a.test", "/").expect("an answer").text(), "hello");
    restart(&mut proxy, 2);
    assert_eq!(kept.get("a.test", "/").expect("an answer").text(), "hello");
    drop((kept, alone));
    // By workers that start anew, too: with the keys of tickets that were there before.
    for worker in proxy.workers() {
        let upgraded = patient(&proxy).request(RequestType::UpgradeWorker(worker.id));
        assert_eq!(upgraded.status(), ResponseStatus::Ok, "{}", upgraded.message);
    }
    assert!(proxy.worker_pids().iter().all(|pid| !pids.contains(pid)));
    let mut after = connect();
    assert_eq!(after.served(), &issued.der[..]);
    assert_eq!(after.get("a.test", "/").expect("an answer").text(), "hello");
    assert!(after.is_resumed(), "a ticket of before");
    proxy.stop();
}

#[test]
fn a_signal_ends_who_is_alone() {
    let backend = Backend::named("hello");
    let mut proxy = builder(&backend).start();
    // While there is a main process it decides.
    let pid = proxy.worker_pids()[0];
    send_signal(pid, Signal::SIGTERM);
    for _ in 0..20 {
        assert_eq!(get(proxy.address(), "h.test", "/").text(), "hello");
    }
    let pids = proxy.kill_main();
    assert!(pids.contains(&pid));
    let mut busy = Client::connect(proxy.address());
    assert_eq!(busy.get("h.test", "/").text(), "hello");
    for pid in &pids {
        send_signal(*pid, Signal::SIGTERM);
    }
    busy.expect_close();
    await_true("they end", || pids.iter().all(|pid| !process::is_alive(*pid)));
    // What they leave is in nobody's way.
    restart(&mut proxy, 2);
    assert_eq!(get(proxy.address(), "h.test", "/").text(), "hello");
    assert!(!proxy.stdout().contains("took over"), "{}", proxy.stdout());
    proxy.stop();
}

#[test]
fn who_is_alone_for_too_long_ends() {
    let backend = Backend::named("hello");
    let mut proxy = builder(&backend).setting("worker_orphan_timeout = 1").start();
    let pids = proxy.kill_main();
    assert!(pids.iter().all(|pid| process::is_alive(*pid)));
    await_true("they end", || pids.iter().all(|pid| !process::is_alive(*pid)));
}

#[test]
fn a_main_process_that_took_over_can_be_upgraded_and_killed() {
    let backend = Backend::named("hello");
    let mut proxy = builder(&backend).start();
    let pids = proxy.kill_main();
    restart(&mut proxy, 2);
    let main = proxy.main_pid();
    let upgraded = patient(&proxy).request(RequestType::UpgradeMain(Default::default()));
    assert_eq!(upgraded.status(), ResponseStatus::Ok, "{}", upgraded.message);
    assert_eq!(proxy.worker_pids(), pids);
    assert!(process::is_alive(main));
    proxy.command().ok(requests::add_cluster("by-the-upgraded"));
    proxy.kill_main();
    restart(&mut proxy, 2);
    assert_eq!(proxy.worker_pids(), pids);
    assert!(proxy.command().main_hashes().contains_key("by-the-upgraded"));
    let upgraded = patient(&proxy).request(RequestType::UpgradeMain(Default::default()));
    assert_eq!(upgraded.status(), ResponseStatus::Ok, "{}", upgraded.message);
    // It hears of the end of processes that are not its children.
    send_signal(pids[0], Signal::SIGKILL);
    await_replaced(&proxy, pids[0], 2);
    send_signal(pids[1], Signal::SIGKILL);
    await_replaced(&proxy, pids[1], 2);
    assert_agreed(&proxy);
    proxy.stop();
}

#[test]
fn killed_while_a_worker_is_replaced() {
    let backend = Backend::named("hello");
    let mut proxy = builder(&backend).workers(1).start();
    let mut idle = Client::connect(proxy.address());
    assert_eq!(idle.get("h.test", "/").text(), "hello");
    let old = proxy.worker_pids()[0];
    patient(&proxy).send(RequestType::UpgradeWorker(proxy.workers()[0].id));
    await_true("a successor serves", || {
        let pids = proxy.worker_pids();
        pids.len() == 1 && pids[0] != old
    });
    let new = proxy.kill_main()[0];
    assert!(process::is_alive(old), "it keeps who has said nothing yet");
    restart(&mut proxy, 1);
    assert_eq!(proxy.worker_pids(), [new]);
    assert!(process::is_alive(old));
    assert_eq!(idle.get("h.test", "/").text(), "hello");
    idle.expect_close();
    await_true("it has finished", || !process::is_alive(old));
    assert_eq!(get(proxy.address(), "h.test", "/").text(), "hello");
    proxy.stop();
}

#[test]
fn of_two_main_processes_one_has_the_workers() {
    let backend = Backend::named("hello");
    let mut proxy = builder(&backend).start();
    let pids = proxy.kill_main();
    let mut others: Vec<Child> = (0..3).map(|_| proxy.spawn_another()).collect();
    let lost = await_value("all but one give up", || {
        let ended = others.iter_mut().filter_map(|child| child.try_wait().expect("our own child"));
        let codes: Vec<_> = ended.map(|status| status.code()).collect();
        (codes.len() == 2).then_some(codes)
    });
    assert_eq!(lost, [Some(1), Some(1)]);
    await_true("one serves", || {
        CommandClient::connect(proxy.socket()).is_ok_and(|mut client| {
            client.set_patience(PATIENCE);
            client.revision() == 1
        })
    });
    assert_eq!(proxy.worker_pids(), pids);
    // Also for who does not find its command socket.
    fs::rename(proxy.socket(), proxy.directory().join("elsewhere")).expect("there");
    let text = refused(&mut proxy);
    assert!(text.contains("another main process has the workers of this command socket"), "{text}");
    fs::rename(proxy.directory().join("elsewhere"), proxy.socket()).expect("there");
    assert_eq!(proxy.worker_pids(), pids);
    proxy.command().ok(RequestType::SoftStop(Default::default()));
    for mut child in others {
        child.wait().expect("our own child");
    }
    proxy.assert_nothing_left(&pids);
}
