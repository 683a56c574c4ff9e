//! Frames of the command socket and what they hold.
//!
//! - Any split gives the same frames, and memory stays below the limit.
//! - A payload that is a request, a response or a worker's one is written as a frame that holds the same.
//! - An order made of a request says itself again as a request that gives the same order.

#![no_main]

use kakehi_command::channel::codec::{FrameError, FrameReader, encode_frame_within};
use kakehi_command::order::Order;
use kakehi_command::proto::{Request, Response, WorkerRequest, WorkerResponse};
use kakehi_fuzz::Cut;
use libfuzzer_sys::fuzz_target;
use prost::Message;

type Frames = Vec<Result<Vec<u8>, FrameError>>;

fn read<'p>(pieces: impl Iterator<Item = &'p [u8]>, frame_bytes_max: usize) -> Frames {
    let mut reader = FrameReader::new(frame_bytes_max);
    let mut frames = Vec::new();
    for mut piece in pieces {
        while !piece.is_empty() && !reader.has_failed() {
            piece = &piece[reader.feed(piece)..];
            assert!(reader.capacity_bytes() <= reader.frame_bytes_max());
            while let Some(payload) = reader.next_payload() {
                frames.push(payload.map(<[u8]>::to_vec));
            }
            assert!(!reader.has_frame());
        }
    }
    frames
}

/// Checks that a message survives the channel; gives it if the payload is one.
fn check_message<M: Message + Default + PartialEq>(payload: &[u8]) -> Option<M> {
    let message = M::decode(payload).ok()?;
    let mut out = Vec::new();
    encode_frame_within(&message, usize::MAX, &mut out).expect("it fits");
    let frames = read(std::iter::once(&out[..]), out.len());
    let [Ok(payload)] = &frames[..] else { panic!("one frame: {frames:?}") };
    // A number that is none is not equal to itself, but written the same.
    let again = M::decode(&payload[..]).expect("a message");
    assert_eq!(again.encode_to_vec(), message.encode_to_vec());
    Some(message)
}

fn check_request(request: &Request) {
    let Ok(order) = Order::from_request(request) else { return };
    let _ = order.notes();
    let again = Order::from_request(&order.to_request());
    assert_eq!(again.as_ref(), Ok(&order), "an order can be said");
}

fuzz_target!(|input: &[u8]| {
    let Some((cut, input)) = Cut::take(input) else { return };
    for frame_bytes_max in [64, 10_000] {
        let whole = read(std::iter::once(input), frame_bytes_max);
        assert_eq!(read(cut.pieces(input), frame_bytes_max), whole);
        for (index, frame) in whole.iter().enumerate() {
            match frame {
                Ok(payload) => assert!(payload.len() + 8 <= frame_bytes_max),
                Err(error) => assert!(!error.is_fatal() || index + 1 == whole.len()),
            }
        }
    }
    if let Some(request) = check_message::<Request>(input) {
        check_request(&request);
    }
    if let Some(request) = check_message::<WorkerRequest>(input) {
        check_request(&request.content);
    }
    check_message::<Response>(input);
    check_message::<WorkerResponse>(input);
});
