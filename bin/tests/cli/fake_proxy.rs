//! [`FakeProxy`]: a command socket that answers one request by what it was told to.

use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use kakehi_command::channel::{BlockingChannel, ChannelError};
use kakehi_command::proto::{Request, Response};

/// Nothing here takes long; a test that hangs should fail instead.
const WAIT_MAX: Duration = Duration::from_secs(30);

const FRAME_BYTES_MAX: usize = 2_000_000;

/// What happens after the responses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// The connection stays open until the client closes it.
    Wait,
    /// The connection is closed.
    Close,
}

/// Serves one client on a thread of its own.
pub(crate) struct FakeProxy {
    socket: PathBuf,
    thread: JoinHandle<Option<Request>>,
}

impl FakeProxy {
    /// Listens at `socket`.
    pub(crate) fn start(socket: &Path, responses: Vec<Response>, then: Then) -> Self {
        let listener = UnixListener::bind(socket).expect("a fresh directory");
        let thread = thread::spawn(move || {
            let (stream, _) = listener.accept().expect("a client, or the test itself");
            serve(stream, &responses, then)
        });
        Self { socket: socket.to_owned(), thread }
    }

    /// The request that came, if any. Call it when the client has ended.
    pub(crate) fn finish(self) -> Option<Request> {
        // Wakes the thread if no client ever connected; refused if one did and the thread has ended.
        drop(UnixStream::connect(&self.socket));
        self.thread.join().expect("the fake proxy does not panic")
    }
}

fn serve(stream: UnixStream, responses: &[Response], then: Then) -> Option<Request> {
    let mut channel = BlockingChannel::<Response, Request>::new(stream, FRAME_BYTES_MAX).expect("a socket");
    let request = match channel.receive_deadline(Some(WAIT_MAX)) {
        Ok(request) => request,
        Err(ChannelError::Closed) => return None,
        Err(error) => panic!("no request came: {error}"),
    };
    for response in responses {
        channel.send_deadline(response, Some(WAIT_MAX)).expect("a client that reads");
    }
    if then == Then::Wait {
        let end = channel.receive_deadline(Some(WAIT_MAX));
        assert!(matches!(end, Err(ChannelError::Closed)), "after one request the client ends: {end:?}");
    }
    Some(request)
}
