//! Redis and PostgreSQL behind TCP listeners, with their own clients: real protocols, of which nothing is understood.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use kakehi_command::proto::TcpListenerConfig;
use kakehi_command::proto::request::RequestType;
use kakehi_e2e::address::free_address;
use kakehi_e2e::deadline::{await_true, run_for};
use kakehi_e2e::postgres::Postgres;
use kakehi_e2e::redis::{Redis, RedisClient, redis_benchmark};
use kakehi_e2e::tcp::{activate_tcp_listener, tcp_frontend, tcp_listener};
use kakehi_e2e::tls::Authority;
use kakehi_e2e::{CommandClient, Proxy, requests};

/// A proxy with a TCP listener that leads to a cluster "a" with this backend, "b".
struct Site {
    proxy: Proxy,
    command: CommandClient,
    address: SocketAddr,
}

fn site_with(backend: SocketAddr, change: impl FnOnce(&mut TcpListenerConfig)) -> Site {
    let proxy = Proxy::builder().workers(1).without_listener().start();
    let mut command = proxy.command();
    let address = free_address();
    let mut listener = tcp_listener(address);
    change(&mut listener);
    command.ok(RequestType::AddTcpListener(listener));
    command.ok(requests::add_cluster("a"));
    command.ok(RequestType::AddTcpFrontend(tcp_frontend("a", address)));
    command.ok(requests::add_backend("a", "b", backend));
    command.ok(activate_tcp_listener(address));
    Site { proxy, command, address }
}

fn site(backend: SocketAddr) -> Site {
    site_with(backend, |_| {})
}

impl Site {
    fn redis(&self) -> RedisClient {
        RedisClient::connect(self.address)
    }

    fn await_metric(&mut self, name: &str, value: i64) {
        let command = &mut self.command;
        await_true(&format!("{name} is {value}"), || command.metric(name) == value);
    }

    /// Nothing is left of any connection.
    fn end(mut self) {
        for name in ["protocol.tcp", "backend.connections", "buffer.in_use", "splice.pipes"] {
            self.await_metric(name, 0);
        }
        self.proxy.stop();
    }
}

fn text_of(output: &Output) -> String {
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {error}", output.status);
    String::from_utf8(output.stdout.clone()).expect("text")
}

#[test]
fn redis_under_its_own_benchmark() {
    let Some(redis) = Redis::start() else { return };
    let mut site = site(redis.address());
    // One request after the other on each of many connections; many at once; long values, which are spliced.
    for (tests, requests, more) in [
        ("incr,lpush", 5_000, ["-c", "50", "-P", "1", "-d", "3"]),
        ("incr,set,get", 20_000, ["-c", "20", "-P", "64", "-d", "100"]),
        ("set,get", 200, ["-c", "4", "-P", "4", "-d", "1000000"]),
    ] {
        let output = redis_benchmark(site.address, tests, requests, &more);
        let told = text_of(&output);
        let results = told.matches("requests per second").count();
        assert_eq!(results, tests.split(',').count(), "{more:?}: {told}");
    }
    // Each of them arrived once. Its client stops at the number asked for, or with the last pipeline.
    let mut client = site.redis();
    client.send(&["GET counter:__rand_int__"]);
    assert!(client.line().starts_with('$'));
    let counted: u32 = client.line().parse().expect("a number");
    assert!((25_000..25_000 + 20 * 64).contains(&counted), "{counted} were counted");
    let mut direct = RedisClient::connect(redis.address());
    direct.says("GET counter:__rand_int__", &["$5", &counted.to_string()]);
    direct.says("STRLEN key:__rand_int__", &[":1000000"]);
    assert!(site.command.metric("bytes_spliced") > 0, "long values went through the kernel");
    drop(client);
    site.end();
}

#[test]
fn redis_answers_a_pipeline_whose_client_has_ended() {
    const COMMANDS: usize = 5_000;
    let Some(redis) = Redis::start() else { return };
    let site = site(redis.address());
    let mut client = site.redis();
    client.says("SET text hello", &["+OK"]);
    client.send(&vec!["INCR number"; COMMANDS]);
    let mut stream = client.into_stream();
    stream.get_ref().shutdown(Shutdown::Write).expect("the connection stands");
    let mut answers = String::new();
    stream.read_to_string(&mut answers).expect("answers, and an orderly end");
    let expected: String = (1..=COMMANDS).map(|number| format!(":{number}\r\n")).collect();
    assert!(answers == expected, "{} bytes instead of {}", answers.len(), expected.len());
    site.end();
}

#[test]
fn redis_subscribers_may_be_silent_until_the_longer_timeout() {
    const SUBSCRIBERS: usize = 40;
    let Some(redis) = Redis::start() else { return };
    let mut site = site_with(redis.address(), |listener| {
        (listener.front_timeout, listener.back_timeout) = (6, 1);
    });
    let mut subscribers: Vec<RedisClient> = (0..SUBSCRIBERS).map(|_| site.redis()).collect();
    for subscriber in &mut subscribers {
        subscriber.says("SUBSCRIBE news", &["*3", "$9", "subscribe", "$4", "news", ":1"]);
    }
    // Longer than the shorter timeout: nobody is to blame for having nothing to say. Meanwhile they hold nothing.
    site.await_metric("buffer.in_use", 0);
    run_for(Duration::from_millis(2_500));
    assert_eq!(site.command.metric("protocol.tcp"), i64::try_from(SUBSCRIBERS).expect("few"));
    let mut publisher = RedisClient::connect(redis.address());
    publisher.says("PUBLISH news extra", &[&format!(":{SUBSCRIBERS}")]);
    for subscriber in &mut subscribers {
        subscriber.hears(&["*3", "$7", "message", "$4", "news", "$5", "extra"]);
    }
    assert_eq!(site.command.metric("tcp.idle_timeouts"), 0);
    // Silence of both ends it, in good order.
    for subscriber in subscribers {
        let mut rest = String::new();
        subscriber.into_stream().read_to_string(&mut rest).expect("an orderly end");
        assert_eq!(rest, "");
    }
    site.await_metric("tcp.idle_timeouts", i64::try_from(SUBSCRIBERS).expect("few"));
    let nobody = || {
        publisher.send(&["PUBLISH news late"]);
        publisher.line() == ":0"
    };
    await_true("redis has seen them go", nobody);
    site.end();
}

#[test]
fn redis_sessions_go_on_when_their_backend_is_removed() {
    let (Some(first), Some(second)) = (Redis::start(), Redis::start()) else { return };
    let mut site = site(first.address());
    let mut transaction = site.redis();
    transaction.says("SET name first", &["+OK"]);
    transaction.says("MULTI", &["+OK"]);
    transaction.says("APPEND name -and-more", &["+QUEUED"]);
    let mut blocked = site.redis();
    blocked.send(&["BLPOP list 0"]);
    site.await_metric("backend.connections", 2);

    site.command.ok(requests::remove_backend("a", "b", first.address()));
    site.command.ok(requests::add_backend("a", "c", second.address()));
    site.redis().says("GET name", &["$-1"]);
    transaction.says("GET name", &["+QUEUED"]);
    transaction.says("EXEC", &["*2", ":14", "$14", "first-and-more"]);
    transaction.says("RPUSH list item", &[":1"]);
    blocked.hears(&["*2", "$4", "list", "$4", "item"]);
    drop((transaction, blocked));
    site.end();
}

/// Rows of some 72 bytes, so that a copy is of several MB.
const ROWS: u32 = 60_000;
const COPIED_MIN: usize = 4_000_000;
const FILL: &str = "CREATE TABLE one AS SELECT n AS id, md5(n::text) || md5((-n)::text) AS text \
                    FROM generate_series(1, 60000) AS n; CREATE TABLE two (id int, text text)";
const SUMS: &str = "SELECT count(*), sum(id), md5(string_agg(text, ',' ORDER BY id)) FROM";

/// Runs psql with these bytes as its input.
fn with_input(mut command: Command, input: Vec<u8>) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("psql runs");
    let mut stdin = child.stdin.take().expect("a pipe");
    let writing = std::thread::spawn(move || stdin.write_all(&input).expect("psql reads all of it"));
    let output = child.wait_with_output().expect("our own child");
    writing.join().expect("written");
    output
}

/// Copies a table out and into another one, both through `address`.
fn copy(postgres: &Postgres, address: SocketAddr, settings: &str) {
    let run = |sql: &str| {
        text_of(&postgres.psql(address, settings).args(["-c", sql]).output().expect("psql is installed"))
    };
    run(FILL);
    let copied = run("COPY one TO STDOUT");
    assert!(copied.len() > COPIED_MIN, "{} bytes", copied.len());
    assert_eq!(copied.lines().count(), usize::try_from(ROWS).expect("few"));
    let mut command = postgres.psql(address, settings);
    command.args(["-c", "COPY two FROM STDIN"]);
    text_of(&with_input(command, copied.into_bytes()));
    let sums = run(&format!("{SUMS} one"));
    assert!(sums.starts_with("60000|1800030000|"), "{sums}");
    assert_eq!(run(&format!("{SUMS} two")), sums);
    run("DROP TABLE one, two");
}

#[test]
fn postgres_copies_megabytes_out_and_in() {
    let authority = Authority::default();
    let Some(postgres) = Postgres::start(&authority) else { return };
    let mut site = site(postgres.address());
    copy(&postgres, site.address, "sslmode=disable");
    assert!(site.command.metric("bytes_out") > i64::try_from(COPIED_MIN).expect("a few MB"));
    assert!(site.command.metric("bytes_in") > i64::try_from(COPIED_MIN).expect("a few MB"));

    // Through TLS of its own, which is not ended here: the client knows the server's certificate, and both know that
    // there is no other TLS between them (channel binding, RFC 5929 §4).
    let strict = "sslmode=verify-full channel_binding=require";
    let sql = "SELECT ssl, version FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    let output = postgres.psql(site.address, strict).args(["-c", sql]).output().expect("psql is installed");
    assert_eq!(text_of(&output), "t|TLSv1.3\n");
    copy(&postgres, site.address, strict);
    site.end();
}

#[test]
fn postgres_sessions_go_on_when_their_backend_is_removed() {
    let authority = Authority::default();
    let Some(postgres) = Postgres::start(&authority) else { return };
    let mut site = site(postgres.address());
    let mut child = postgres
        .psql(site.address, "sslmode=require")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("psql is installed");
    let mut input = child.stdin.take().expect("a pipe");
    let mut output = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut says = |sql: &str, expected: &str| {
        writeln!(input, "{sql}").expect("psql reads");
        let mut line = String::new();
        output.read_line(&mut line).expect("psql answers");
        assert_eq!(line.trim_end(), expected, "{sql}");
    };
    says("BEGIN; CREATE TEMPORARY TABLE t AS SELECT 41 AS n; SELECT n FROM t;", "41");
    site.command.ok(requests::remove_backend("a", "b", postgres.address()));
    let refused =
        postgres.psql(site.address, "sslmode=disable").args(["-c", "SELECT 1"]).output().expect("psql runs");
    assert!(!refused.status.success(), "there is no backend for new connections");
    says("UPDATE t SET n = n + 1; SELECT n FROM t;", "42");
    says("COMMIT; SELECT sum(length(repeat('x', n))) FROM generate_series(1, 1000) AS n;", "500500");
    drop(input);
    assert!(child.wait().expect("our own child").success());
    site.end();
}
