//! Each way of choosing backends on the running program: by weight, by load, by source, in shards, with backups, and slowly
//! at first. What is exact about them is tested beside their code.

#![expect(clippy::disallowed_types, reason = "backends serve their connections in threads")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use kakehi_e2e::deadline::{await_true, run_for};
use kakehi_e2e::http::{After, Backend, Client};
use kakehi_e2e::{Proxy, requests};

const HOST: &str = "app.test";

/// A cluster with these settings, and backends with settings of their own.
fn start(workers: usize, settings: &str, backends: &[(SocketAddr, &str)]) -> Proxy {
    let builder = Proxy::builder().workers(workers);
    let backends = backends.iter().enumerate().map(|(number, (address, settings))| {
        format!("    {{ address = \"{address}\", backend_id = \"b{number}\"{settings} }},\n")
    });
    let tables = format!(
        "[clusters.app]\nprotocol = \"http\"\n{settings}\nfrontends = [{{ address = \"{}\", hostname = \"{HOST}\" }}]\n\
         backends = [\n{}]\n",
        builder.address(),
        backends.collect::<String>()
    );
    builder.tables(&tables).start()
}

fn source(number: usize) -> Ipv4Addr {
    let byte = |number: usize| u8::try_from(number % 250 + 1).expect("small");
    Ipv4Addr::new(127, 2, byte(number / 250), byte(number))
}

/// Who answers to this source.
fn home(proxy: &Proxy, number: usize) -> String {
    Client::connect_from(source(number), proxy.address()).get(HOST, "/").text()
}

fn count(answers: impl IntoIterator<Item = String>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    answers.into_iter().for_each(|name| *counts.entry(name).or_default() += 1);
    counts
}

/// Of 400, a backend with three times the weight of the only other one has some 300.
fn assert_three_quarters(counts: &BTreeMap<String, usize>, what: &str) {
    let heavy = counts.get("heavy").copied().unwrap_or_default();
    assert_eq!(counts.values().sum::<usize>(), 400, "{what}");
    assert!((250..=350).contains(&heavy), "{what}: {counts:?}");
}

#[test]
fn turns_and_draws_go_by_weight() {
    let (light, heavy) = (Backend::named("light"), Backend::named("heavy"));
    for algorithm in ["ROUND_ROBIN", "RANDOM"] {
        let settings = format!("load_balancing = \"{algorithm}\"");
        let proxy =
            start(1, &settings, &[(light.address(), ", weight = 50"), (heavy.address(), ", weight = 150")]);
        let mut client = Client::connect(proxy.address());
        let counts = count((0..400).map(|_| client.get(HOST, "/").text()));
        assert_three_quarters(&counts, algorithm);
        proxy.stop();
    }
}

/// Answers after a while, so that requests are under way side by side.
fn busy(name: &'static str) -> Backend {
    Backend::start(move |exchange| {
        run_for(Duration::from_millis(20));
        exchange.answer(name)?;
        Ok(After::KeepAlive)
    })
}

#[test]
fn loads_go_by_weight() {
    let (light, heavy) = (busy("light"), busy("heavy"));
    for algorithm in ["LEAST_LOADED", "POWER_OF_TWO"] {
        let settings = format!("load_balancing = \"{algorithm}\"\nload_metric = \"REQUESTS\"");
        let proxy =
            start(1, &settings, &[(light.address(), ", weight = 50"), (heavy.address(), ", weight = 150")]);
        let address = proxy.address();
        let clients: Vec<_> = (0..16)
            .map(|_| {
                std::thread::spawn(move || {
                    let mut client = Client::connect(address);
                    (0..25).map(|_| client.get(HOST, "/").text()).collect::<Vec<_>>()
                })
            })
            .collect();
        let answers = clients.into_iter().flat_map(|client| client.join().expect("served"));
        assert_three_quarters(&count(answers), algorithm);
        proxy.stop();
    }
}

#[test]
fn sources_go_by_weight_and_stay() {
    let (light, heavy) = (Backend::named("light"), Backend::named("heavy"));
    for algorithm in ["HRW", "MAGLEV"] {
        let settings = format!("load_balancing = \"{algorithm}\"");
        let proxy =
            start(2, &settings, &[(light.address(), ", weight = 50"), (heavy.address(), ", weight = 150")]);
        let first: Vec<String> = (0..400).map(|number| home(&proxy, number)).collect();
        assert_three_quarters(&count(first.clone()), algorithm);
        for (number, home_of_it) in first.iter().enumerate().step_by(9) {
            assert_eq!(home(&proxy, number), *home_of_it, "{algorithm}: source {number}, of whatever worker");
        }
        proxy.stop();
    }
}

#[test]
fn only_who_was_at_a_backend_moves_when_it_goes() {
    let backends = ["0", "1", "2", "3"].map(Backend::named);
    let members = backends.each_ref().map(|backend| (backend.address(), ""));
    for (algorithm, most) in [("HRW", 0), ("MAGLEV", 20)] {
        let proxy = start(1, &format!("load_balancing = \"{algorithm}\""), &members);
        let before: Vec<String> = (0..120).map(|number| home(&proxy, number)).collect();
        proxy.command().ok(requests::remove_backend("app", "b2", backends[2].address()));
        let after: Vec<String> = (0..120).map(|number| home(&proxy, number)).collect();
        assert!(!after.contains(&"2".to_owned()), "{algorithm}");
        let moved =
            before.iter().zip(&after).filter(|(before, after)| *before != "2" && before != after).count();
        assert!(moved <= most, "{algorithm}: {moved} of 120 moved without need");
        proxy.command().ok(requests::add_backend("app", "b2", backends[2].address()));
        let again: Vec<String> = (0..120).map(|number| home(&proxy, number)).collect();
        assert_eq!(again, before, "{algorithm}: all are where they were");
        proxy.stop();
    }
}

#[test]
fn a_cookie_of_the_application_says_who_belongs_together() {
    let backends = ["0", "1", "2"].map(Backend::named);
    let members = backends.each_ref().map(|backend| (backend.address(), ""));
    let proxy = start(2, "load_balancing = \"HRW\"\naffinity_cookie = \"user\"", &members);
    let ask = |user: usize, from: usize| {
        let mut client = Client::connect_from(source(from), proxy.address());
        client.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nCookie: a=b; user={user}\r\n\r\n"));
        client.response("GET").text()
    };
    let mut used = BTreeSet::new();
    for user in 0..15 {
        let homes: BTreeSet<String> = (0..6).map(|from| ask(user, from)).collect();
        assert_eq!(homes.len(), 1, "user {user}");
        used.extend(homes);
    }
    assert_eq!(used.len(), 3);
    proxy.stop();
}

#[test]
fn backups_serve_while_no_primary_can() {
    let (primary, backup) = (Backend::named("primary"), Backend::named("backup"));
    let proxy = start(1, "", &[(primary.address(), ""), (backup.address(), ", backup = true")]);
    let mut client = Client::connect(proxy.address());
    let mut who = || count((0..10).map(|_| client.get(HOST, "/").text())).into_keys().collect::<Vec<_>>();
    assert_eq!(who(), ["primary"]);
    proxy.command().ok(requests::remove_backend("app", "b0", primary.address()));
    assert_eq!(who(), ["backup"]);
    proxy.command().ok(requests::add_backend("app", "b0", primary.address()));
    assert_eq!(who(), ["primary"]);
    proxy.stop();
}

#[test]
fn each_client_meets_its_shard_only() {
    let names = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];
    let backends = names.map(Backend::named);
    let members = backends.each_ref().map(|backend| (backend.address(), ""));
    let proxy = start(2, "load_balancing = \"RANDOM\"\nshard_percent = 20", &members);
    let mut met = BTreeSet::new();
    for number in 0..20 {
        let shard: BTreeSet<String> = (0..15).map(|_| home(&proxy, number)).collect();
        assert_eq!(shard.len(), 2, "source {number}: {shard:?}");
        met.extend(shard);
    }
    assert!(met.len() > 5, "{met:?}");
    proxy.stop();
}

#[test]
fn a_backend_that_comes_is_given_little_at_first() {
    let (old, new) = (Backend::named("old"), Backend::named("new"));
    let proxy = start(1, "load_balancing = \"RANDOM\"\nslow_start = 3", &[(old.address(), "")]);
    let mut client = Client::connect(proxy.address());
    // Who is there from the start is as new to the proxy, and has its whole share after that time, too.
    run_for(Duration::from_millis(3_200));
    proxy.command().ok(requests::add_backend("app", "b1", new.address()));
    let mut share = |of: usize| {
        let counts = count((0..of).map(|_| client.get(HOST, "/").text()));
        counts.get("new").copied().unwrap_or_default() * 100 / of
    };
    let first = share(100);
    assert!(first <= 40, "{first} % at once");
    await_true("it has its half", || (40..=60).contains(&share(200)));
    proxy.stop();
}

/// Requests for `/hold` are answered once this is opened.
#[derive(Default)]
struct Gate(Mutex<bool>, Condvar);

fn with_gate(name: &'static str, gate: &Arc<Gate>) -> Backend {
    let gate = Arc::clone(gate);
    Backend::start(move |exchange| {
        if exchange.head.target == "/hold" {
            let mut open = gate.0.lock().expect("not poisoned");
            while !*open {
                open = gate.1.wait(open).expect("not poisoned");
            }
        }
        exchange.answer(name)?;
        Ok(After::KeepAlive)
    })
}

#[test]
fn who_has_less_to_do_is_chosen_whatever_load_is() {
    for metric in ["CONNECTIONS", "REQUESTS", "CONNECTION_TIME"] {
        let gate = Arc::new(Gate::default());
        let (busy, free) = (with_gate("busy", &gate), with_gate("free", &gate));
        let settings = format!("load_balancing = \"LEAST_LOADED\"\nload_metric = \"{metric}\"");
        let proxy = start(1, &settings, &[(busy.address(), "")]);
        let mut held: Vec<Client> = (0..4)
            .map(|_| {
                let mut client = Client::connect(proxy.address());
                client.send(format!("GET /hold HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
                client
            })
            .collect();
        await_true("all are under way", || busy.open() == 4);
        proxy.command().ok(requests::add_backend("app", "b1", free.address()));
        let mut client = Client::connect(proxy.address());
        for _ in 0..20 {
            assert_eq!(client.get(HOST, "/").text(), "free", "{metric}");
        }
        *gate.0.lock().expect("not poisoned") = true;
        gate.1.notify_all();
        assert!(held.iter_mut().all(|client| client.response("GET").text() == "busy"));
        proxy.stop();
    }
}
