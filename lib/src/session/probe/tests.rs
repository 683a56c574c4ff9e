//! Probes of a whole worker, over a network of which the test says how each backend behaves, in virtual time.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant};

use kakehi_command::order::BackendTarget;
use kakehi_command::proto::request::RequestType;
use kakehi_command::proto::supervision::{Subject, Verdict};
use kakehi_command::proto::{self, Request};

use super::super::backends::{Ask, Tried};
use crate::metrics::Metric;
use crate::net::{Network, Ready, Stream, Token};
use crate::server::Worker;
use crate::server::worker::Configuration;
use crate::session::{Settings, random};

/// How a backend behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Door {
    /// It answers so.
    Answers(&'static str),
    /// It takes connections and says nothing.
    Hangs,
    /// It closes them.
    Closes,
    /// Nobody is there.
    Refuses,
}

const UP: Door = Door::Answers("HTTP/1.1 204 No Content\r\n\r\n");
const DOWN: Door = Door::Answers("HTTP/1.1 500 No\r\n\r\n");

#[derive(Default)]
struct World {
    doors: BTreeMap<SocketAddr, Door>,
    /// Connections whose readiness has not been told.
    fresh: Vec<(Token, Door)>,
    connects: usize,
}

struct Net(Rc<RefCell<World>>);

struct Line {
    door: Door,
    asked: bool,
    given: bool,
}

impl Stream for Line {
    type Pipe = ();

    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self.door {
            Door::Answers(text) if self.asked && !self.given => {
                self.given = true;
                into[..text.len()].copy_from_slice(text.as_bytes());
                Ok(text.len())
            }
            Door::Closes => Ok(0),
            _ => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        assert!(bytes.starts_with(b"GET /up HTTP/1.1\r\n"), "{}", bytes.escape_ascii());
        self.asked = true;
        Ok(bytes.len())
    }

    fn write_pair(&mut self, first: &[u8], _second: &[u8]) -> io::Result<usize> {
        self.write(first)
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn peek(&mut self, _into: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn is_quiet(&mut self) -> bool {
        true
    }

    fn abort(&mut self) {}

    fn fill(&mut self, (): &mut (), _max: usize) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn drain(&mut self, (): &mut (), max: usize) -> io::Result<usize> {
        Ok(max)
    }

    fn unacknowledged(&mut self) -> Option<u64> {
        None
    }
}

impl Network for Net {
    type Stream = Line;
    type Listener = ();

    fn connect(&mut self, to: &BackendTarget, token: Token) -> io::Result<Line> {
        let BackendTarget::Tcp(to) = to else { return Err(io::ErrorKind::NotFound.into()) };
        let mut world = self.0.borrow_mut();
        world.connects += 1;
        let door = world.doors.get(to).copied().unwrap_or(Door::Refuses);
        world.fresh.push((token, door));
        Ok(Line { door, asked: false, given: false })
    }

    fn watch(&mut self, _stream: &mut Line, _token: Token) -> io::Result<()> {
        Ok(())
    }

    fn watch_listener(&mut self, (): &mut (), _token: Token) -> io::Result<()> {
        Ok(())
    }

    fn unwatch_listener(&mut self, (): &mut ()) {}

    fn pipe(&mut self, _bytes: usize) -> io::Result<()> {
        Ok(())
    }

    fn accept(&mut self, (): &mut ()) -> io::Result<(Line, SocketAddr)> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn elapsed(&self, _since: Instant) -> Duration {
        Duration::ZERO
    }
}

fn address(n: u32) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::from(0x0a00_0000 + n), 80))
}

struct Stage {
    worker: Worker<Net>,
    world: Rc<RefCell<World>>,
    now: Instant,
    revision: u64,
}

impl Stage {
    fn new(probes_max: usize) -> Self {
        #[expect(clippy::disallowed_methods, reason = "any instant serves as the first")]
        let now = Instant::now();
        let settings = Settings {
            connections_max: 16,
            evicts_idle: false,
            header_fields_max: 16,
            idle_back_connections_max: 4,
            back_idle_timeout: Duration::from_secs(30),
            connection_attempts_max: 3,
            splice_pipe_bytes: 65536,
            splice_pipes_max: 4,
            record_buffers_max: 4,
            handshakes_max: 4,
            probes_max,
            metric_series_max: 64,
            metric_series_off: false,
            basic_auth_bytes_max: 4096,
        };
        let configuration = Configuration {
            settings,
            buffers_min: 0,
            buffers_max: 8,
            buffer_bytes: 2048,
            seed: 7,
            worker_id: 0,
        };
        let world = Rc::new(RefCell::new(World::default()));
        let mut worker = Worker::new(Net(Rc::clone(&world)), configuration, now);
        worker.set_probers(&[0]);
        Self { worker, world, now, revision: 0 }
    }

    fn order(&mut self, requests: impl IntoIterator<Item = RequestType>) {
        let requests: Vec<Request> =
            requests.into_iter().map(|request| Request { request_type: Some(request) }).collect();
        self.revision += 1;
        self.worker.apply(self.revision, &requests).expect("the orders are good");
    }

    fn add(&mut self, backends: u32, threshold: u32) {
        let check = proto::HealthCheckConfig {
            uri: "/up".into(),
            timeout: 2,
            healthy_threshold: threshold,
            unhealthy_threshold: threshold,
            ..Default::default()
        };
        let cluster =
            proto::Cluster { cluster_id: "app".into(), health_check: Some(check), ..Default::default() };
        let backends: Vec<_> = (0..backends).map(add_backend).collect();
        self.order(std::iter::once(RequestType::AddCluster(cluster)).chain(backends));
    }

    /// A turn of the loop, so much later.
    fn turn(&mut self, later: Duration) {
        self.now += later;
        self.worker.tick(self.now, self.now, 0);
        self.worker.handle_timers();
        let fresh = std::mem::take(&mut self.world.borrow_mut().fresh);
        for (token, door) in fresh {
            let ready = match door {
                Door::Refuses => Ready { readable: true, writable: true, read_closed: true, gone: true },
                Door::Closes => Ready { readable: true, writable: true, read_closed: true, gone: false },
                _ => Ready { readable: true, writable: true, ..Ready::default() },
            };
            self.worker.handle_ready(token, ready);
        }
        self.worker.handle_leftovers();
    }

    fn run(&mut self, time: Duration) {
        let until = self.now + time;
        while self.now < until {
            self.turn(Duration::from_millis(20));
        }
        self.worker.check_invariants();
    }

    fn set(&mut self, n: u32, door: Door) {
        self.world.borrow_mut().doors.insert(address(n), door);
    }

    fn told(&mut self) -> Vec<(String, bool, Option<String>)> {
        let verdicts = self.worker.take_verdicts();
        let probes = verdicts.into_iter().filter(|verdict| verdict.subject() == Subject::Probes);
        probes.map(|verdict| (verdict.backend_id, verdict.good, verdict.reason)).collect()
    }
}

fn add_backend(n: u32) -> RequestType {
    RequestType::AddBackend(proto::AddBackend {
        cluster_id: "app".into(),
        backend_id: format!("b{n}"),
        address: address(n).into(),
        ..Default::default()
    })
}

#[test]
fn each_failure_is_told_once_and_by_name() {
    let mut stage = Stage::new(8);
    let doors = [UP, DOWN, Door::Hangs, Door::Closes, Door::Refuses, Door::Answers("220 mail\r\n")];
    for (n, door) in (0..).zip(doors) {
        stage.set(n, door);
    }
    stage.add(6, 2);
    stage.run(Duration::from_secs(60));
    let mut told = stage.told();
    told.sort();
    let reasons: Vec<_> = told.iter().map(|(id, good, why)| (id.as_str(), *good, why.as_deref())).collect();
    assert_eq!(
        reasons,
        [
            ("b1", false, Some("answered by 500")),
            ("b2", false, Some("no answer in time")),
            ("b3", false, Some("the connection was closed without an answer")),
            ("b4", false, Some("cannot connect")),
            ("b5", false, Some("what came is no HTTP answer")),
        ]
    );
    for n in 1..6 {
        stage.set(n, UP);
    }
    stage.run(Duration::from_secs(60));
    let told = stage.told();
    assert_eq!(told.len(), 5, "{told:?}");
    assert!(told.iter().all(|(_, good, why)| *good && why.is_none()));
}

#[test]
fn no_more_probes_are_under_way_than_may_be() {
    let mut stage = Stage::new(3);
    for n in 0..20 {
        stage.set(n, Door::Hangs);
    }
    stage.add(20, 1);
    stage.run(Duration::from_secs(30));
    let metrics = stage.worker.metrics();
    assert!(metrics.get(Metric::HealthCheckDelayed) > 0);
    assert!(metrics.get(Metric::HealthCheckInFlight) <= 3);
    // Each takes two seconds, three at a time: in thirty seconds some forty.
    assert!((36..=48).contains(&stage.world.borrow().connects), "{}", stage.world.borrow().connects);
}

#[test]
fn whoever_is_removed_or_not_ours_is_not_probed() {
    let mut stage = Stage::new(8);
    for n in 0..12 {
        stage.set(n, Door::Hangs);
    }
    stage.add(12, 1);
    stage.run(Duration::from_secs(9));
    let removed = proto::RemoveBackend {
        cluster_id: "app".into(),
        backend_id: "b0".into(),
        address: address(0).into(),
    };
    stage.order([RequestType::RemoveBackend(removed)]);
    stage.worker.check_invariants();
    stage.order([RequestType::RemoveHealthCheck("app".into())]);
    stage.worker.check_invariants();
    let before = stage.world.borrow().connects;
    stage.run(Duration::from_secs(30));
    assert_eq!(stage.world.borrow().connects, before, "nobody asks for probes");
    stage.add(12, 1);
    stage.worker.set_probers(&[1, 2]);
    stage.run(Duration::from_secs(30));
    assert_eq!(stage.world.borrow().connects, before, "others probe");
    stage.worker.set_probers(&[]);
    stage.worker.set_probers(&[0, 1]);
    stage.run(Duration::from_secs(30));
    assert!(stage.world.borrow().connects > before);
}

/// Backends change their minds at random, orders come and go, main contradicts: while one that is healthy is left,
/// nobody else is chosen.
#[test]
fn nobody_who_is_known_to_be_unhealthy_is_chosen_while_others_are_not() {
    const BACKENDS: u32 = 5;
    for seed in 1..=20_u64 {
        let mut seed_of_run = seed * 7919;
        let mut next = |below: u32| u32::try_from(random(&mut seed_of_run) >> 32).unwrap_or(0) % below;
        let mut stage = Stage::new(4);
        for n in 0..BACKENDS {
            stage.set(n, UP);
        }
        stage.add(BACKENDS, 2);
        let mut chosen_unhealthy = 0;
        let mut present = [true; BACKENDS as usize];
        for _ in 0..1_500 {
            let n = next(BACKENDS);
            match next(200) {
                0..=9 => stage.set(n, [UP, DOWN, Door::Hangs, Door::Refuses, Door::Closes][next(5) as usize]),
                10 => {
                    let verdict = Verdict {
                        cluster_id: "app".into(),
                        backend_id: format!("b{n}"),
                        address: address(n).into(),
                        subject: if next(2) == 0 { Subject::Probes } else { Subject::Requests }.into(),
                        good: next(2) == 0,
                        reason: None,
                    };
                    stage.worker.apply_verdicts(&[verdict]);
                }
                11 if std::mem::replace(&mut present[n as usize], false) => {
                    stage.order([RequestType::RemoveBackend(proto::RemoveBackend {
                        cluster_id: "app".into(),
                        backend_id: format!("b{n}"),
                        address: address(n).into(),
                    })]);
                }
                12..=15 => {
                    present[n as usize] = true;
                    stage.order([add_backend(n)]);
                }
                _ => stage.turn(Duration::from_millis(200)),
            }
            let now = stage.now;
            let backends = &mut stage.worker.shared.backends;
            let cluster = backends.hold(&kakehi_command::order::ClusterId::parse("app").expect("an id"));
            backends.release(cluster);
            let source = IpAddr::from([127, 0, 0, 1]);
            let ask = Ask { source, affinity: None, sticky: None, tried: Tried::default(), random: 1 };
            let healthy =
                backends.members(cluster).iter().filter(|key| backends.is_marked_healthy(**key)).count();
            if let Ok(key) = backends.choose(cluster, &ask, now)
                && !backends.is_marked_healthy(key)
            {
                chosen_unhealthy += 1;
                // One that requests had taken out may be all that is left besides.
                let fit = backends.members(cluster).iter().any(|key| backends.is_fit(*key));
                assert!(!fit, "seed {seed}: {healthy} healthy ones are left, and another was chosen");
            }
            stage.worker.check_invariants();
        }
        println!("seed {seed}: {chosen_unhealthy} choices with none that was fit");
    }
}

/// What a hundred thousand backends, each probed every ten seconds, cost the loop. The bound is for a debug build on a
/// busy machine; the figure is printed.
#[test]
#[expect(clippy::disallowed_methods, reason = "measures how long a turn takes")]
fn a_hundred_thousand_backends_do_not_stall_the_loop() {
    const BACKENDS: u32 = 100_000;
    let mut stage = Stage::new(256);
    {
        let mut world = stage.world.borrow_mut();
        world.doors.extend((0..BACKENDS).map(|n| (address(n), UP)));
    }
    // Many clusters, as many proxies have: the table of one is searched from end to end.
    let check = proto::HealthCheckConfig { uri: "/up".into(), ..Default::default() };
    for first in (0..BACKENDS).step_by(1000) {
        let id = format!("c{first}");
        let cluster = proto::Cluster {
            cluster_id: id.clone(),
            health_check: Some(check.clone()),
            ..Default::default()
        };
        let backends = (first..first + 1000).map(|n| {
            RequestType::AddBackend(proto::AddBackend {
                cluster_id: id.clone(),
                backend_id: format!("b{n}"),
                address: address(n).into(),
                ..Default::default()
            })
        });
        stage.order(std::iter::once(RequestType::AddCluster(cluster)).chain(backends));
    }
    let begun = Instant::now();
    stage.worker.set_probers(&[0, 1]);
    stage.worker.set_probers(&[0]);
    let shared_out = begun.elapsed();
    let (mut worst, mut turns) = (Duration::ZERO, 0_u32);
    let begun = Instant::now();
    let until = stage.now + Duration::from_secs(20);
    while stage.now < until {
        let turn = Instant::now();
        stage.turn(Duration::from_millis(1));
        worst = worst.max(turn.elapsed());
        turns += 1;
    }
    let probes = stage.world.borrow().connects;
    println!(
        "{BACKENDS} backends: {probes} probes in {turns} turns of {:?} on average, the longest {worst:?}; \
         sharing them out anew twice: {shared_out:?}",
        begun.elapsed() / turns
    );
    assert!(probes > 150_000, "{probes} probes in twenty seconds");
    assert!(worst < Duration::from_millis(500), "a turn took {worst:?}");
}
