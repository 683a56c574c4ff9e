//! Clients over real sockets, without a loop: the tests say who is ready.

use kakehi_command::proto::request::RequestType;
use kakehi_command::proto::{ListWorkers, QueryRevision};
use mio::Poll;

use super::super::mutations::ok;
use super::super::supervisor::read_clock;
use super::*;

const FRAME_BYTES_MAX: usize = 4096;

/// A command socket, its clients as main sees them, and the time.
struct Scene {
    _folder: tempfile::TempDir,
    _poll: Poll,
    path: std::path::PathBuf,
    listener: UnixListener,
    clients: Clients,
    now: Instant,
}

type Peer = Channel<Request, Response>;

impl Scene {
    fn new(clients_max: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("k.sock");
        let listener = UnixListener::bind(&path).unwrap();
        listener.set_nonblocking(true).unwrap();
        let poll = Poll::new().unwrap();
        let limits = ClientLimits { clients_max, frame_bytes_max: FRAME_BYTES_MAX };
        let clients = Clients::new(limits, poll.registry().try_clone().unwrap(), Token(16));
        Self { _folder: folder, _poll: poll, path, listener, clients, now: read_clock() }
    }

    fn connect(&mut self) -> Peer {
        let stream = UnixStream::connect(&self.path).unwrap();
        self.clients.accept(&self.listener, self.now, |_| false);
        Channel::new(stream, FRAME_BYTES_MAX)
    }

    /// What the clients that are ready ask for, each as far as it may.
    fn turns(&mut self) -> Vec<(ClientId, Turn)> {
        let mut turns = Vec::new();
        for id in self.clients.take_ready() {
            loop {
                match self.clients.next(id) {
                    Turn::Nothing => break,
                    turn @ Turn::Request(_) => {
                        self.clients.set_busy(id);
                        turns.push((id, turn));
                    }
                    turn @ Turn::Garbage(_) => turns.push((id, turn)),
                }
            }
        }
        turns
    }

    /// The one request there is.
    fn request(&mut self) -> (ClientId, RequestType) {
        let mut turns = self.turns();
        assert_eq!(turns.len(), 1, "{turns:?}");
        match turns.remove(0) {
            (id, Turn::Request(request)) => (id, request.request_type.unwrap()),
            other => panic!("a request, not {other:?}"),
        }
    }

    fn wake(&mut self, id: ClientId) {
        self.clients.woken(id, true, true, self.now);
    }
}

fn send(peer: &mut Peer, request_type: RequestType) {
    peer.queue(&Request { request_type: Some(request_type) }).unwrap();
    let _flushed = peer.flush().unwrap();
}

fn messages(peer: &mut Peer) -> Vec<String> {
    let _open = peer.receive().unwrap();
    std::iter::from_fn(|| peer.next()).map(|response| response.unwrap().message).collect()
}

fn is_closed(peer: &mut Peer) -> bool {
    matches!(peer.receive().unwrap(), Received::Closed)
}

#[test]
fn pipelined_requests_are_taken_up_one_by_one() {
    let mut scene = Scene::new(8);
    let mut peer = scene.connect();
    send(&mut peer, RequestType::ListWorkers(ListWorkers {}));
    send(&mut peer, RequestType::QueryRevision(QueryRevision {}));
    let (id, first) = scene.request();
    assert!(matches!(first, RequestType::ListWorkers(_)));
    scene.wake(id);
    assert!(scene.turns().is_empty(), "the second waits for the first one's answer");
    scene.clients.answer(id, &ok("one", None), scene.now);
    let (_, second) = scene.request();
    assert!(matches!(second, RequestType::QueryRevision(_)));
    scene.clients.answer(id, &ok("two", None), scene.now);
    assert_eq!(messages(&mut peer), ["one", "two"]);
}

#[test]
fn what_was_asked_before_a_close_is_still_answered() {
    let mut scene = Scene::new(8);
    let mut peer = scene.connect();
    send(&mut peer, RequestType::ListWorkers(ListWorkers {}));
    peer.stream().shutdown(std::net::Shutdown::Write).unwrap();
    let (id, _) = scene.request();
    scene.wake(id);
    scene.clients.tidy(scene.now);
    scene.clients.answer(id, &ok("one", None), scene.now);
    assert!(scene.turns().is_empty());
    scene.clients.tidy(scene.now);
    assert_eq!(messages(&mut peer), ["one"]);
    assert!(is_closed(&mut peer));
    assert!(scene.clients.peer(id).is_none());
}

#[test]
fn garbage_is_answered_and_the_next_request_is_heard() {
    use std::io::Write;
    let mut scene = Scene::new(8);
    let mut peer = scene.connect();
    peer.stream().write_all(&[10, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff]).unwrap();
    send(&mut peer, RequestType::ListWorkers(ListWorkers {}));
    let mut turns = scene.turns();
    assert_eq!(turns.len(), 2);
    let (id, Turn::Garbage(error)) = turns.remove(0) else { panic!("garbage comes first") };
    assert!(!error.is_fatal());
    scene.clients.answer_garbage(id, &error, scene.now);
    assert!(messages(&mut peer)[0].contains("no valid message"));
}

#[test]
fn a_frame_over_the_limit_is_answered_then_closed() {
    use std::io::Write;
    let mut scene = Scene::new(8);
    let mut peer = scene.connect();
    peer.stream().write_all(&100_000_u64.to_le_bytes()).unwrap();
    let (id, Turn::Garbage(error)) = scene.turns().remove(0) else { panic!("garbage") };
    scene.clients.answer_garbage(id, &error, scene.now);
    assert!(scene.turns().is_empty());
    scene.clients.tidy(scene.now);
    assert!(messages(&mut peer)[0].contains("limit of 4096 bytes"));
    assert!(is_closed(&mut peer));
}

#[test]
fn an_answer_over_the_limit_is_a_failure() {
    let mut scene = Scene::new(8);
    let mut peer = scene.connect();
    for bytes in [FRAME_BYTES_MAX, 3 * FRAME_BYTES_MAX] {
        send(&mut peer, RequestType::ListWorkers(ListWorkers {}));
        let id = ClientId(Token(16));
        scene.wake(id);
        scene.request();
        scene.clients.answer(id, &ok("x".repeat(bytes), None), scene.now);
        assert!(messages(&mut peer)[0].contains("too large"), "{bytes}");
    }
}

#[test]
fn one_client_too_many_is_told_so() {
    let mut scene = Scene::new(1);
    let mut first = scene.connect();
    let mut second = scene.connect();
    assert!(messages(&mut second)[0].contains("too many clients"));
    assert!(is_closed(&mut second));
    send(&mut first, RequestType::ListWorkers(ListWorkers {}));
    scene.wake(ClientId(Token(16)));
    scene.request();
}

#[test]
fn a_subscriber_that_does_not_read_is_dropped_at_a_bound() {
    let mut scene = Scene::new(8);
    let _idle = scene.connect();
    let mut reader = scene.connect();
    let (idle_id, reader_id) = (ClientId(Token(16)), ClientId(Token(16 + TOKEN_STEP)));
    scene.clients.subscribe(idle_id);
    scene.clients.subscribe(reader_id);
    let event = ok("x".repeat(1000), None);
    let mut published = 0;
    while scene.clients.peer(idle_id).is_some() {
        assert!(published < 10_000, "the kernel's buffer and ours are finite");
        published += 1;
        scene.clients.publish(&event, scene.now);
        assert_eq!(messages(&mut reader).len(), 1);
    }
    assert!(scene.clients.peer(reader_id).is_some(), "who reads stays");
}

#[test]
fn a_client_that_stalls_is_dropped_in_time() {
    let mut scene = Scene::new(8);
    let _peer = scene.connect();
    let id = ClientId(Token(16));
    scene.clients.subscribe(id);
    let event = ok("x".repeat(1000), None);
    while !scene.clients.owe_answers() {
        scene.clients.publish(&event, scene.now);
    }
    assert_eq!(scene.clients.next_deadline(), Some(scene.now + STALL_MAX));
    scene.clients.tidy(scene.now + STALL_MAX - Duration::from_millis(1));
    assert!(scene.clients.peer(id).is_some());
    scene.clients.tidy(scene.now + STALL_MAX);
    assert!(scene.clients.peer(id).is_none());
    assert_eq!(scene.clients.next_deadline(), None);
}

#[test]
fn a_client_that_went_away_is_forgotten() {
    let mut scene = Scene::new(8);
    let peer = scene.connect();
    let id = ClientId(Token(16));
    drop(peer);
    scene.wake(id);
    assert!(scene.turns().is_empty());
    scene.clients.tidy(scene.now);
    assert!(scene.clients.peer(id).is_none());
}
