//! The main process is killed at any moment, whatever it is at: what was acknowledged is there, what was not is there as a
//! whole or not at all, nobody's request fails, and nothing is left over.
//!
//! `KAKEHI_SEED` plays a run again, as far as the moments come again; `KAKEHI_ROUNDS` makes it longer.

use std::collections::BTreeSet;
use std::time::Duration;

use kakehi_command::proto::request::RequestType;
use kakehi_command::proto::{ResponseStatus, WorkerInfo};
use kakehi_e2e::content::SeededContent;
use kakehi_e2e::deadline::{await_true, run_for};
use kakehi_e2e::http::{Backend, get};
use kakehi_e2e::load::{Connections, Load, Target};
use kakehi_e2e::{CommandClient, Proxy, requests};

/// An upgrade, or a start on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Kills, unless the environment says otherwise.
const ROUNDS: u64 = 12;

/// The longest that a main process lives, in milliseconds.
const LIFE_MAX: u64 = 400;

/// Clusters in one transaction.
const TOGETHER: usize = 20;

/// Names of those that are added at run time begin so.
const OURS: &str = "run-time-";

struct Random(SeededContent);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        let mut word = [0; 8];
        self.0.fill(&mut word);
        u64::from_le_bytes(word) % bound
    }

    fn index(&mut self, count: usize) -> usize {
        usize::try_from(self.below(count.max(1) as u64)).expect("below a usize")
    }
}

/// The clusters that there have to be, beside those of the configuration.
type Clusters = BTreeSet<String>;

/// A request, and what there is once it has been done.
struct Change {
    request: RequestType,
    then: Clusters,
}

/// The next change, of those that an operator and a deployment make.
fn any_change(
    random: &mut Random,
    now: &Clusters,
    serial: &mut usize,
    (proxy, workers): (&Proxy, &[WorkerInfo]),
) -> Change {
    let mut then = now.clone();
    let mut name = || {
        *serial += 1;
        format!("{OURS}{serial:06}")
    };
    let some = now.iter().nth(random.index(now.len())).cloned();
    let request = match (random.below(100), some) {
        (0..20, Some(cluster)) => {
            then.remove(&cluster);
            requests::remove_cluster(&cluster)
        }
        (20..40, some) => {
            let added: Vec<String> = (0..TOGETHER).map(|_| name()).collect();
            let mut orders: Vec<RequestType> = added.iter().map(|id| requests::add_cluster(id)).collect();
            if let Some(cluster) = &some {
                orders.push(requests::remove_cluster(cluster));
                then.remove(cluster);
            }
            then.extend(added);
            requests::transaction(orders, None)
        }
        (40..50, _) => {
            then.clear();
            RequestType::ReloadConfiguration(proxy.directory().join("config.toml").display().to_string())
        }
        (50..58, _) => RequestType::UpgradeWorker(workers[random.index(workers.len())].id),
        (58..62, _) => RequestType::UpgradeMain(Default::default()),
        (62..70, _) => requests::status(),
        _ => {
            let cluster = name();
            then.insert(cluster.clone());
            requests::add_cluster(&cluster)
        }
    };
    Change { request, then }
}

/// Makes changes until the main process is gone. Gives what there is for certain, and what may be there instead.
fn change_until_it_dies(
    mut client: CommandClient,
    mut random: Random,
    mut now: Clusters,
    serial: &mut usize,
    proxy: (&Proxy, &[WorkerInfo]),
) -> (Clusters, Option<Clusters>) {
    loop {
        let change = any_change(&mut random, &now, serial, proxy);
        if client.send_bytes(&CommandClient::frame(change.request)).is_err() {
            return (now, Some(change.then));
        }
        match client.receive_final() {
            Ok(answer) if answer.status() == ResponseStatus::Ok => now = change.then,
            // An upgrade of a worker that is not there, say: nothing has changed.
            Ok(_) => {}
            Err(_) => return (now, Some(change.then)),
        }
    }
}

fn ours(client: &mut CommandClient) -> Clusters {
    client.main_hashes().into_keys().filter(|id| id.starts_with(OURS)).collect()
}

#[expect(
    clippy::disallowed_methods,
    reason = "a run is played again, or made longer, by whoever looks for a race"
)]
fn from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

#[test]
fn killed_at_any_moment() {
    let seed = from_environment("KAKEHI_SEED", u64::from(std::process::id()));
    println!("KAKEHI_SEED={seed}");
    let backend = Backend::named("hello");
    let mut proxy = Proxy::builder()
        .setting("worker_drain_timeout = 2")
        .cluster("c", "h.test", &[backend.address()])
        .start();
    let target = Target { address: proxy.address(), host: "h.test".into(), path: "/".into() };
    let keep_alive = Load::start(&target, Connections::KeepAlive, 1);
    let new = Load::start(&target, Connections::New, 1);
    let mut random = Random(SeededContent::new(seed));
    let (mut clusters, mut serial) = (Clusters::new(), 0);
    for round in 0..from_environment("KAKEHI_ROUNDS", ROUNDS) {
        let life = Duration::from_millis(random.below(LIFE_MAX));
        let theirs = Random(SeededContent::new(seed.wrapping_mul(1_000).wrapping_add(round)));
        let mut client = proxy.command();
        client.set_patience(PATIENCE);
        let (revision, workers) = (client.revision(), proxy.workers());
        let (certain, instead) = std::thread::scope(|scope| {
            let (proxy, clusters, serial) = ((&proxy, &workers[..]), clusters.clone(), &mut serial);
            let changes = scope.spawn(move || change_until_it_dies(client, theirs, clusters, serial, proxy));
            run_for(life);
            proxy.0.kill_main_unasked();
            changes.join().expect("changes")
        });
        proxy.await_exit();
        keep_alive.await_more(10);
        new.await_more(10);
        proxy.restart();
        proxy.await_running(2);
        let mut client = proxy.command();
        client.set_patience(PATIENCE);
        let found = ours(&mut client);
        assert!(
            found == certain || Some(&found) == instead.as_ref(),
            "round {round} of seed {seed}: missing {:?}, too many {:?}, and it is not what was under way either",
            certain.difference(&found).collect::<Vec<_>>(),
            found.difference(&certain).collect::<Vec<_>>()
        );
        assert!(client.revision() >= revision, "round {round} of seed {seed}: revisions never go back");
        let hashes = client.cluster_hashes();
        for (who, theirs) in &hashes {
            assert_eq!(theirs, &hashes["main"], "round {round} of seed {seed}: {who}");
        }
        assert_eq!(get(proxy.address(), "h.test", "/").text(), "hello");
        clusters = found;
    }
    keep_alive.stop().assert_flawless("connections that are kept");
    new.stop().assert_flawless("new connections");
    // Those that were replaced, or died as they were born, end; and no other one is there.
    await_true("there are main and two workers", || proxy.processes().len() == 3);
    let folder = proxy.workers_folder();
    await_true("their places alone are there", || {
        std::fs::read_dir(&folder).expect("it is there").count() == 2
    });
    proxy.stop();
}
