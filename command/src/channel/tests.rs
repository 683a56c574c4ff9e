//! Channels over socket pairs: queues, descriptors, and what a hostile peer can do.

use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use prost::Message;

use super::*;
use crate::proto::Response;

type Peer = Channel<Response, Response>;

const FRAME_BYTES_MAX: usize = 10_000;

fn pair() -> (Peer, Peer) {
    let (a, b) = UnixStream::pair().expect("a socket pair");
    (Channel::with_fds(a, FRAME_BYTES_MAX), Channel::with_fds(b, FRAME_BYTES_MAX))
}

fn message(text: impl Into<String>) -> Response {
    Response { status: 0, message: text.into(), content: None }
}

/// `count` descriptors, and the other ends that tell which is which.
fn pipes(count: usize) -> (Vec<OwnedFd>, Vec<UnixStream>) {
    let pairs = (0..count).map(|_| UnixStream::pair().expect("a socket pair"));
    pairs.map(|(near, far)| (OwnedFd::from(near), far)).unzip()
}

/// That each received descriptor is the one expected, in order.
fn assert_same(received: Vec<OwnedFd>, far: &[UnixStream]) {
    assert_eq!(received.len(), far.len());
    for (index, (near, mut far)) in received.into_iter().zip(far).enumerate() {
        let flags = FdFlag::from_bits_retain(fcntl(&near, FcntlArg::F_GETFD).expect("an open descriptor"));
        assert!(flags.contains(FdFlag::FD_CLOEXEC), "descriptor {index} would be inherited");
        let tag = u32::try_from(index).expect("small").to_le_bytes();
        UnixStream::from(near).write_all(&tag).expect("written");
        let mut read = [0; 4];
        far.read_exact(&mut read).expect("the other end");
        assert_eq!(read, tag);
    }
}

fn receive_all(channel: &mut Peer) -> Vec<Response> {
    let mut messages = Vec::new();
    loop {
        let received = channel.receive().expect("readable");
        while let Some(message) = channel.next() {
            messages.push(message.expect("a message"));
        }
        if received != Received::More {
            return messages;
        }
    }
}

#[test]
fn messages_arrive_in_order() {
    let (mut a, mut b) = pair();
    for text in ["one", "", "three"] {
        a.queue(&message(text)).expect("queued");
    }
    assert!(a.wants_write());
    assert_eq!(a.flush().expect("sent"), Flushed::Done);
    assert!(!a.wants_write());
    assert_eq!(receive_all(&mut b), [message("one"), message(""), message("three")]);
    assert_eq!(b.receive().expect("readable"), Received::Open);
    drop(a);
    assert_eq!(b.receive().expect("readable"), Received::Closed);
}

#[test]
fn a_message_carries_as_many_descriptors_as_the_kernel_allows() {
    let (mut a, mut b) = pair();
    let (near, far) = pipes(FDS_PER_MESSAGE_MAX);
    a.queue_with_fds(&message("all"), near).expect("queued");
    assert_eq!(a.flush().expect("sent"), Flushed::Done);
    assert_eq!(receive_all(&mut b), [message("all")]);
    assert!(b.take_fds(FDS_PER_MESSAGE_MAX + 1).is_none(), "there are fewer");
    assert_same(b.take_fds(FDS_PER_MESSAGE_MAX).expect("all came"), &far);
    assert_eq!(b.take_fds(0).map(|fds| fds.len()), Some(0));

    let (near, _far) = pipes(FDS_PER_MESSAGE_MAX + 1);
    let error = a.queue_with_fds(&message("one more"), near).expect_err("refused");
    assert!(matches!(error, ChannelError::TooManyFds { count: 254 }), "{error}");
    assert_eq!(a.queued_bytes(), 0);
}

#[test]
fn descriptors_stay_with_their_frames() {
    let (mut a, mut b) = pair();
    // Frames with and without descriptors, queued together, some of them larger than one read.
    let counts = [0, 2, 0, 0, 1, 253, 3, 0, 90];
    let mut far_ends = Vec::new();
    for (index, count) in counts.into_iter().enumerate() {
        let (near, far) = pipes(count);
        a.queue_with_fds(&message("x".repeat(index * 200)), near).expect("queued");
        far_ends.push(far);
    }
    assert_eq!(a.flush().expect("sent"), Flushed::Done);
    let mut frames = 0;
    loop {
        let received = b.receive().expect("readable");
        while let Some(frame) = b.next() {
            assert_eq!(frame.expect("a message"), message("x".repeat(frames * 200)));
            let fds = b.take_fds(counts[frames]).expect("a frame's descriptors come no later than it");
            assert_same(fds, &far_ends[frames]);
            frames += 1;
        }
        if received == Received::Open {
            break;
        }
    }
    assert_eq!(frames, counts.len());
    assert_eq!(b.take_fds(1).map(|fds| fds.len()), None, "none is left over");
}

#[test]
fn many_chunks_of_descriptors_arrive_in_order() {
    let (mut a, mut b) = pair();
    for round in 0..8 {
        let (near, far) = pipes(100);
        a.queue_with_fds(&message(round.to_string()), near).expect("queued");
        assert_eq!(a.flush().expect("sent"), Flushed::Done);
        assert_eq!(receive_all(&mut b), [message(round.to_string())]);
        assert_same(b.take_fds(100).expect("all came"), &far);
    }
}

#[test]
fn descriptors_from_those_who_should_send_none_are_closed() {
    let (a, b) = UnixStream::pair().expect("a socket pair");
    let (mut a, mut b) = (Peer::new(a, FRAME_BYTES_MAX), Peer::new(b, FRAME_BYTES_MAX));
    let (near, mut far) = pipes(5);
    a.queue_with_fds(&message("here"), near).expect("queued");
    assert_eq!(a.flush().expect("sent"), Flushed::Done);
    assert_eq!(receive_all(&mut b), [message("here")]);
    for far in &mut far {
        assert_eq!(far.read(&mut [0; 1]).expect("readable"), 0, "no end is open any more");
    }
}

#[test]
fn descriptors_that_no_frame_claims_are_an_error() {
    let (mut a, mut b) = pair();
    let failure = (0..10).find_map(|_| {
        let (near, _far) = pipes(FDS_PER_MESSAGE_MAX);
        a.queue_with_fds(&message(""), near).expect("queued");
        assert_eq!(a.flush().expect("sent"), Flushed::Done);
        let received = b.receive();
        while b.next().is_some() {}
        received.err()
    });
    let error = failure.expect("refused within ten messages");
    assert!(matches!(error, ChannelError::UnclaimedFds { waiting } if waiting <= 4 * 253), "{error}");
}

#[test]
fn a_peer_that_does_not_read_is_bounded_and_visible() {
    let (mut a, mut b) = pair();
    let large = message("x".repeat(FRAME_BYTES_MAX - 100));
    let mut sent = 0;
    let error = loop {
        match a.queue(&large) {
            Ok(()) => sent += 1,
            Err(error) => break error,
        }
        let _ = a.flush().expect("no error, only blocked");
        assert!(a.queued_bytes() <= 2 * FRAME_BYTES_MAX);
        assert!(sent < 10_000, "the kernel's buffer is finite");
    };
    assert!(
        matches!(error, ChannelError::QueueFull { queued, max } if queued > 0 && max == 2 * FRAME_BYTES_MAX)
    );
    assert_eq!(a.flush().expect("no error"), Flushed::Blocked);

    // The refused message left nothing behind: what was queued arrives whole, once it is read.
    let mut messages = Vec::new();
    loop {
        messages.extend(receive_all(&mut b));
        if a.flush().expect("sent") == Flushed::Done {
            messages.extend(receive_all(&mut b));
            break;
        }
    }
    assert_eq!(messages.len(), sent);
    assert!(messages.iter().all(|message| *message == large));
    assert_eq!(a.queued_bytes(), 0);
}

#[test]
fn a_message_too_large_is_refused_before_it_is_sent() {
    let (mut a, mut b) = pair();
    a.queue(&message("before")).expect("queued");
    // Also when it exceeds what may wait: it would never fit, however much the peer reads.
    for bytes in [FRAME_BYTES_MAX, 3 * FRAME_BYTES_MAX] {
        let error = a.queue(&message("x".repeat(bytes))).expect_err("refused");
        assert!(matches!(error, ChannelError::Frame(FrameError::TooLarge { .. })), "{error}");
    }
    a.queue(&message("after")).expect("queued");
    assert_eq!(a.flush().expect("sent"), Flushed::Done);
    assert_eq!(receive_all(&mut b), [message("before"), message("after")]);
}

#[test]
fn reading_stops_at_one_frame_of_the_largest_size() {
    let (mut a, mut b) = pair();
    let messages: Vec<_> =
        (0..4).map(|index| message(index.to_string().repeat(FRAME_BYTES_MAX / 3))).collect();
    for pair in messages.chunks(2) {
        pair.iter().for_each(|message| a.queue(message).expect("queued"));
        assert_eq!(a.flush().expect("sent"), Flushed::Done);
    }
    assert_eq!(b.receive().expect("readable"), Received::More);
    assert_eq!(b.receive().expect("readable"), Received::More, "nothing was taken out");
    assert_eq!(receive_all(&mut b), messages);
}

#[test]
fn garbage_is_an_error_in_its_place() {
    let (a, b) = UnixStream::pair().expect("a socket pair");
    let mut b = Peer::new(b, FRAME_BYTES_MAX);
    let mut bytes = Vec::new();
    encode_frame(&message("one"), &mut bytes).expect("encoded");
    bytes.extend(7_u64.to_le_bytes());
    bytes.extend(12_u64.to_le_bytes());
    bytes.extend([0xff; 4]);
    encode_frame(&message("two"), &mut bytes).expect("encoded");
    bytes.extend(u64::MAX.to_le_bytes());
    encode_frame(&message("never"), &mut bytes).expect("encoded");
    (&a).write_all(&bytes).expect("written");

    assert_eq!(b.receive().expect("readable"), Received::Open);
    assert_eq!(b.next(), Some(Ok(message("one"))));
    assert_eq!(b.next(), Some(Err(FrameError::TooShort { length: 7 })));
    assert!(matches!(b.next(), Some(Err(error @ FrameError::Undecodable(_))) if !error.is_fatal()));
    assert_eq!(b.next(), Some(Ok(message("two"))));
    let error = FrameError::TooLarge { length: u64::MAX, max: FRAME_BYTES_MAX };
    assert!(error.is_fatal());
    assert_eq!(b.next(), Some(Err(error)));
    assert_eq!(b.next(), None);
    assert_eq!(b.receive().expect("no read at all"), Received::Closed);
}

#[test]
fn a_peer_that_breaks_off_is_noticed() {
    let (a, b) = UnixStream::pair().expect("a socket pair");
    let mut b = Peer::new(b, FRAME_BYTES_MAX);
    (&a).write_all(&[100, 0, 0, 0, 0, 0, 0, 0, 1]).expect("written");
    drop(a);
    assert_eq!(b.receive().expect("readable"), Received::Closed);
    assert_eq!(b.next(), None);
    assert!(b.is_mid_frame());

    let (mut a, b) = pair();
    drop(b);
    a.queue(&message("to nobody")).expect("queued");
    let error = a.flush().expect_err("no signal, an error");
    assert!(matches!(&error, ChannelError::Io(io) if io.kind() == std::io::ErrorKind::BrokenPipe), "{error}");
}

#[test]
fn a_blocking_client_asks_and_is_answered() {
    let (a, b) = UnixStream::pair().expect("a socket pair");
    let mut client = BlockingChannel::<Response, Response>::new(a, FRAME_BYTES_MAX).expect("blocking");
    let server = std::thread::spawn(move || {
        let mut server = BlockingChannel::<Response, Response>::new(b, FRAME_BYTES_MAX).expect("blocking");
        let question = server.receive_deadline(None).expect("a question");
        server.send(&question).expect("sent");
        server.send(&message("and more")).expect("sent");
    });
    client.send(&message("question")).expect("sent");
    let limit = Some(Duration::from_secs(10));
    assert_eq!(client.receive_deadline(limit).expect("an answer"), message("question"));
    assert_eq!(client.receive_deadline(limit).expect("an answer"), message("and more"));
    server.join().expect("no panic");
    assert!(matches!(client.receive_deadline(limit), Err(ChannelError::Closed)));
}

#[test]
fn a_blocking_client_gives_up_at_its_deadline() {
    let (a, b) = UnixStream::pair().expect("a socket pair");
    let mut client = BlockingChannel::<Response, Response>::new(a, 10_000_000).expect("blocking");
    for limit in [Duration::ZERO, Duration::from_nanos(1), Duration::from_millis(5)] {
        assert!(matches!(client.receive_deadline(Some(limit)), Err(ChannelError::TimedOut)));
    }
    // The channel is as it was: a late answer is still an answer.
    let mut bytes = Vec::new();
    encode_frame(&message("late"), &mut bytes).expect("encoded");
    (&b).write_all(&bytes).expect("written");
    assert_eq!(client.receive_deadline(Some(Duration::from_secs(10))).expect("an answer"), message("late"));

    let huge = message("x".repeat(9_000_000));
    let error = client.send_deadline(&huge, Some(Duration::from_millis(5))).expect_err("nobody reads");
    assert!(matches!(error, ChannelError::TimedOut), "{error}");
}

#[test]
fn a_send_needs_a_byte_for_its_descriptors_to_travel_with() {
    let (a, _b) = UnixStream::pair().expect("a socket pair");
    let (near, _far) = pipes(1);
    let error = scm::send(a.as_fd(), &[], &near, scm::Wait::Never).expect_err("refused");
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
}

#[test]
fn the_wire_form_is_fixed() {
    let mut bytes = Vec::new();
    encode_frame(&message("hi"), &mut bytes).expect("encoded");
    // Length 14, counting itself; then field 1 = 0 (OK), field 2 = "hi".
    assert_eq!(bytes, [14, 0, 0, 0, 0, 0, 0, 0, 0x08, 0, 0x12, 2, b'h', b'i']);
    assert_eq!(message("hi").encoded_len() + LENGTH_BYTES, bytes.len());
}
