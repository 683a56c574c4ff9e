//! What we make of messages that parsers read differently, and what nginx and HAProxy make of them: each in
//! turn stands between a client and a backend that note every byte. The answer is `doc/framing.md`, which
//! this test compares, or writes anew if `KAKEHI_REGENERATE` is set.
//!
//! Of ours is asserted besides, whatever the document says: what must be refused never reaches the other
//! side, one message never becomes two, and what passes has one form.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use kakehi_e2e::Proxy;
use kakehi_e2e::framing::{
    Answer, Body, Must, Peer, Reply, Request, Stage, Vector, ours_alone, read_answers, render, requests,
    responses, versions,
};

const SENTINEL: &[u8] = b"GET /sentinel HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n";
/// Goes through the proxy when a vector is done: what the proxy had still to do for that one is done then.
const BARRIER: &[u8] = b"GET /barrier HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n";

const INTRODUCTION: &str = include_str!("../vectors/introduction.md");

/// Vectors that HAProxy refuses or passes on as its events fall: it looks at trailers late.
const VARYING: [&str; 1] = ["trailer-space-before-colon"];

/// What became of one vector.
struct Outcome {
    /// What of it reached the backend, sentinel and barrier left out.
    requests: Vec<Request>,
    /// The sentinel reached the backend.
    went_on: bool,
    /// What the client got, the sentinel's answer left out.
    answers: Vec<Answer>,
    /// What the client got behind that, and is no answer.
    rest: Vec<u8>,
    /// The proxy neither answered nor ended the connection.
    hung: bool,
}

/// A 200 that names what was asked for; without its body for HEAD.
fn well(request: &Request) -> Reply {
    let body = match request.target.as_str() {
        "/sentinel" => "sentinel",
        "/second" => "second",
        _ => "hello",
    };
    // A 200 to CONNECT would begin a tunnel.
    let status = if request.method == "CONNECT" { "405 Method Not Allowed" } else { "200 OK" };
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", body.len());
    Reply { bytes: if request.method == "HEAD" { head } else { head + body }.into_bytes(), end: false }
}

/// Sends `input` through a proxy and sees what happens.
fn run(
    stage: &mut Stage,
    proxy: SocketAddr,
    input: &[u8],
    method: &str,
    reply: &dyn Fn(&Request) -> Reply,
) -> Outcome {
    let played = stage.play(proxy, input, reply);
    let hung = played.is_none();
    let mut requests = played.as_ref().map(|played| played.requests.clone()).unwrap_or_default();
    if let Some(barrier) = stage.play(proxy, BARRIER, &well) {
        requests.extend(barrier.requests);
    }
    stage.sweep(&mut requests);
    let went_on = requests.iter().any(|request| request.is("/sentinel") || request.is("/second"));
    requests.retain(|request| !["/sentinel", "/second", "/barrier"].iter().any(|target| request.is(target)));
    let mut methods: Vec<&str> = requests.iter().map(|request| request.method.as_str()).collect();
    methods.push(if requests.is_empty() { method } else { "GET" });
    let received = played.map(|played| played.received).unwrap_or_default();
    let (mut answers, rest) = read_answers(&received, &methods);
    answers.retain(|answer| answer.body_bytes() != b"sentinel");
    Outcome { requests, went_on, answers, rest, hung }
}

fn run_request(stage: &mut Stage, proxy: SocketAddr, vector: &Vector) -> Outcome {
    run(stage, proxy, &[&vector.bytes, SENTINEL].concat(), "GET", &well)
}

fn run_response(stage: &mut Stage, proxy: SocketAddr, vector: &Vector) -> Outcome {
    let asked = vector.asked.expect("of a response");
    let (method, upgrade) = match asked.split_once('+') {
        Some((method, protocol)) => (method, format!("Connection: upgrade\r\nUpgrade: {protocol}\r\n")),
        None => (asked, String::new()),
    };
    let input = format!(
        "{method} / HTTP/1.1\r\nHost: a.test\r\n{upgrade}\r\n\
         GET /second HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n"
    );
    run(stage, proxy, input.as_bytes(), method, &|request| match request.target.as_str() {
        "/" => Reply { bytes: vector.bytes.clone(), end: vector.end },
        _ => well(request),
    })
}

/// What a request vector's cell says.
fn request_cell(outcome: &Outcome) -> String {
    let statuses: Vec<String> = outcome.answers.iter().map(|answer| answer.status.to_string()).collect();
    let refusals: Vec<&String> =
        statuses.iter().filter(|status| *status != "200" && *status != "100").collect();
    let seen: Vec<String> = outcome.requests.iter().map(Request::summary).collect();
    let mut cell = seen.join(" + ");
    match (seen.is_empty(), refusals.last()) {
        (true, Some(status)) => cell.push_str(status),
        (true, None) if !statuses.is_empty() => cell.push_str("200, nothing passed on"),
        (true, None) => cell.push_str("closed"),
        (false, Some(status)) => cell.push_str(&format!("; {status}")),
        (false, None) => {}
    }
    if outcome.hung {
        cell.push_str("; hangs");
    }
    cell
}

/// The answers to the first question, and those behind it that are not what the second one was answered.
fn split_answers(outcome: &Outcome) -> (&[Answer], Vec<&Answer>) {
    let last = outcome
        .answers
        .iter()
        .position(|answer| !(100..200).contains(&answer.status) || answer.status == 101);
    let (first, others) = outcome.answers.split_at(last.map_or(outcome.answers.len(), |last| last + 1));
    (first, others.iter().filter(|answer| answer.body_bytes() != b"second").collect())
}

/// What a response vector's cell says.
fn response_cell(outcome: &Outcome) -> String {
    let (first, others) = split_answers(outcome);
    let mut seen: Vec<String> = first.iter().map(Answer::summary).collect();
    if seen.len() > 4 {
        seen = vec![format!("{} × {}", seen.len() - 1, seen[0]), seen[seen.len() - 1].clone()];
    }
    let mut cell = if seen.is_empty() { "closed".to_owned() } else { seen.join(" + ") };
    for other in others {
        cell.push_str(&format!("; then {}", other.summary()));
    }
    if !outcome.rest.is_empty() {
        cell.push_str("; then what is no answer");
    }
    if outcome.hung {
        cell.push_str("; hangs");
    }
    cell
}

/// What has to hold of ours, for a request.
fn check_request(vector: &Vector, outcome: &Outcome) {
    let name = vector.name;
    let cell = request_cell(outcome);
    assert!(!outcome.hung && outcome.rest.is_empty(), "{name}: {cell}");
    for request in &outcome.requests {
        assert!(request.faults.is_empty(), "{name}: passed on ambiguously: {:?}", request.faults);
    }
    for answer in &outcome.answers {
        assert!(answer.faults.is_empty() && answer.body != Body::Cut, "{name}: {answer:?}");
    }
    let refused = outcome.answers.last().is_some_and(|answer| (400..600).contains(&answer.status));
    let (count, refusal) = match vector.must {
        Must::Refuse => (0, true),
        Must::Forward { count, then_refuse } => (count, then_refuse),
        Must::Cut => unreachable!("{name}: requests are not cut"),
    };
    assert_eq!(outcome.requests.len(), count, "{name}: {cell}");
    assert_eq!(refused, refusal, "{name}: {cell}");
    assert!(!(refused && outcome.went_on), "{name}: what comes behind a refusal was taken for a request");
    assert!(outcome.requests.iter().all(|request| request.body != Body::Cut), "{name}: {cell}");
}

/// What has to hold of ours, for a response.
fn check_response(vector: &Vector, outcome: &Outcome) {
    let name = vector.name;
    let cell = response_cell(outcome);
    let (first, others) = split_answers(outcome);
    assert!(!outcome.hung && outcome.rest.is_empty(), "{name}: {cell}");
    assert!(others.iter().all(|answer| answer.status >= 500), "{name}: poisoned: {cell}");
    let answer = first.last().expect(name);
    assert!(first.iter().all(|answer| answer.faults.is_empty()), "{name}: {cell}");
    match vector.must {
        Must::Refuse => assert!(answer.status == 502, "{name}: {cell}"),
        Must::Cut => assert_eq!(answer.body, Body::Cut, "{name}"),
        Must::Forward { .. } => {
            assert!(answer.status < 500 && answer.body != Body::Cut, "{name}: {cell}");
        }
    }
}

/// What one proxy does with all vectors: cells of requests, and of responses.
struct Seen {
    requests: Vec<String>,
    responses: Vec<String>,
}

fn see(stage: &mut Stage, proxy: SocketAddr, check: bool) -> Seen {
    let requests = requests();
    let requests = requests.iter().map(|vector| {
        let outcome = run_request(stage, proxy, vector);
        if check {
            check_request(vector, &outcome);
        }
        request_cell(&outcome)
    });
    let requests = requests.collect();
    let responses = responses();
    let responses = responses.iter().map(|vector| {
        let outcome = run_response(stage, proxy, vector);
        if check {
            check_response(vector, &outcome);
        }
        response_cell(&outcome)
    });
    Seen { requests, responses: responses.collect() }
}

fn see_ours() -> Seen {
    let mut stage = Stage::new();
    let proxy = Proxy::builder().workers(1).cluster("a", "a.test", &[stage.address()]).start();
    see(&mut stage, proxy.address(), true)
}

fn see_peer(start: impl Fn(SocketAddr) -> Option<Peer>) -> Option<(String, Seen)> {
    let mut stage = Stage::new();
    let peer = start(stage.address())?;
    Some((peer.version().to_owned(), see(&mut stage, peer.address(), false)))
}

fn document(ours: Seen, nginx: (String, Seen), mut haproxy: (String, Seen)) -> String {
    let (requests, responses) = (requests(), responses());
    for (vector, cell) in requests.iter().zip(&mut haproxy.1.requests) {
        if VARYING.contains(&vector.name) {
            "varies".clone_into(cell);
        }
    }
    let count = requests.len() + responses.len();
    assert!(count >= 300, "{count} vectors");
    let columns = |ours, nginx, haproxy| [("Kakehi", ours), ("nginx", nginx), ("HAProxy", haproxy)];
    format!(
        "{INTRODUCTION}\nSeen with {} and {}: {} requests, {} responses.\n\n## Requests\n{}\n## Responses\n{}",
        nginx.0,
        haproxy.0,
        requests.len(),
        responses.len(),
        render(&requests, &columns(ours.requests, nginx.1.requests, haproxy.1.requests)),
        render(&responses, &columns(ours.responses, nginx.1.responses, haproxy.1.responses)),
    )
}

#[test]
fn the_table_is_what_happens() {
    let (ours, nginx, haproxy) = std::thread::scope(|scope| {
        let nginx = scope.spawn(|| see_peer(Peer::nginx));
        let haproxy = scope.spawn(|| see_peer(Peer::haproxy));
        let ours = see_ours();
        (ours, nginx.join().expect("nginx was seen"), haproxy.join().expect("haproxy was seen"))
    });
    let (Some(nginx), Some(haproxy)) = (nginx, haproxy) else { return };
    let seen = document(ours, nginx, haproxy);
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../doc/framing.md");
    if std::env::var_os("KAKEHI_REGENERATE").is_some() {
        fs::write(&file, seen).expect("doc/ can be written");
        return;
    }
    let known = fs::read_to_string(&file).expect("doc/framing.md is there");
    if versions(&known) == versions(&seen) {
        let lines = |text: &str| -> Vec<String> { text.lines().map(str::to_owned).collect() };
        assert_same(&lines(&known), &lines(&seen));
    } else {
        println!("{}; here: {}. Ours alone is compared.", versions(&known), versions(&seen));
        assert_same(&ours_alone(&known), &ours_alone(&seen));
    }
}

fn assert_same(known: &[String], seen: &[String]) {
    let differing: Vec<String> = known
        .iter()
        .zip(seen)
        .filter(|(known, seen)| known != seen)
        .map(|(known, seen)| format!("- {known}\n+ {seen}"))
        .collect();
    assert!(
        differing.is_empty() && known.len() == seen.len(),
        "doc/framing.md is stale: KAKEHI_REGENERATE=1 cargo test -p kakehi-e2e --test framing\n{}",
        differing.join("\n")
    );
}
