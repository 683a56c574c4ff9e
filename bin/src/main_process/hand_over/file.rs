//! The file in memory: a mark, the [`HandOver`], and the state as requests, each behind its length.
//!
//! Pure but for the file itself. Whoever reads it may be another version of this program, or something else entirely.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt;

use kakehi_command::order::Order;
use kakehi_command::proto::Request;
use kakehi_command::proto::hand_over::HandOver;
use kakehi_command::state::ConfigState;
use nix::sys::memfd::{MFdFlags, memfd_create};
use prost::Message;
use zeroize::Zeroizing;

use super::PROTOCOL;

/// What the file begins with.
const MARK: &[u8] = b"kakehi hand-over\n";

/// Larger ones are not read. A state of a million clusters is a quarter of it.
const BYTES_MAX: u64 = 4 << 30;

/// What was read, and makes sense.
#[derive(Debug)]
pub(super) struct Told {
    /// All but the state.
    pub(super) told: HandOver,
    /// The state.
    pub(super) state: ConfigState,
}

/// Writes it down.
pub(super) fn write(told: &HandOver, orders: impl Iterator<Item = Order>) -> io::Result<File> {
    let file = File::from(memfd_create(c"kakehi hand-over", MFdFlags::MFD_CLOEXEC)?);
    let mut writer = BufWriter::with_capacity(1 << 20, &file);
    writer.write_all(MARK)?;
    let mut bytes = Zeroizing::new(Vec::new());
    told.encode_length_delimited(&mut *bytes)?;
    writer.write_all(&bytes)?;
    for order in orders {
        bytes.clear();
        order.to_request().encode_length_delimited(&mut *bytes)?;
        writer.write_all(&bytes)?;
    }
    writer.flush()?;
    drop(writer);
    Ok(file)
}

/// Reads all but the state, of a file that is not otherwise understood.
pub(super) fn head(file: &File) -> Option<HandOver> {
    let length = file.metadata().ok()?.len().min(BYTES_MAX);
    let mut bytes = Zeroizing::new(vec![0; usize::try_from(length).ok()?]);
    file.read_exact_at(&mut bytes, 0).ok()?;
    HandOver::decode_length_delimited(bytes.strip_prefix(MARK)?).ok()
}

/// Reads it, wherever the file's own position is.
///
/// # Errors
/// In words: what it is not.
pub(super) fn read(file: &File) -> Result<Told, String> {
    let length = file.metadata().map_err(|error| format!("the file of the hand-over: {error}"))?.len();
    if length > BYTES_MAX {
        return Err(format!("the file of the hand-over has {length} bytes, at most {BYTES_MAX} are read"));
    }
    let mut bytes = Zeroizing::new(vec![0; usize::try_from(length).unwrap_or(usize::MAX)]);
    file.read_exact_at(&mut bytes, 0).map_err(|error| format!("the file of the hand-over: {error}"))?;
    let mut rest = bytes.strip_prefix(MARK).ok_or("this is no file of a hand-over")?;
    let wrong = |error: prost::DecodeError| format!("the file of the hand-over is damaged: {error}");
    let told = HandOver::decode_length_delimited(&mut rest).map_err(wrong)?;
    if told.protocol != PROTOCOL {
        return Err(format!(
            "version {} hands over by protocol {}, and version {} speaks {PROTOCOL}",
            told.version,
            told.protocol,
            env!("CARGO_PKG_VERSION")
        ));
    }
    let mut state = ConfigState::default();
    let mut count = 0;
    while !rest.is_empty() {
        let request = Request::decode_length_delimited(&mut rest).map_err(wrong)?;
        let order =
            Order::from_request(&request).map_err(|error| format!("order {count} of the state: {error}"))?;
        state.apply(&order).map_err(|error| format!("order {count} of the state: {error}"))?;
        count += 1;
    }
    if count != told.requests {
        return Err(format!("the state has {count} orders of {}", told.requests));
    }
    Ok(Told { told, state })
}

#[cfg(test)]
mod tests {
    use kakehi_command::proto::Cluster;
    use kakehi_command::proto::request::RequestType;

    use super::*;

    fn order(id: &str) -> Order {
        let cluster = Cluster { cluster_id: id.to_owned(), ..Default::default() };
        Order::from_request(&Request { request_type: Some(RequestType::AddCluster(cluster)) })
            .expect("an order")
    }

    fn told(requests: u64) -> HandOver {
        HandOver { protocol: PROTOCOL, version: "1.2.3".to_owned(), requests, ..Default::default() }
    }

    #[test]
    fn what_was_written_is_read() {
        let file = write(&told(2), [order("a"), order("b")].into_iter()).expect("written");
        let read = read(&file).expect("read");
        assert_eq!(read.told, told(2));
        assert_eq!(read.state.counts().clusters, 2);
    }

    #[test]
    fn what_cannot_be_gone_on_from_is_refused_by_what_is_wrong() {
        let check = |file: &File, words: &str| {
            let error = read(file).expect_err("refused");
            assert!(error.contains(words), "{error}");
        };
        let newer = HandOver { protocol: PROTOCOL + 1, ..told(0) };
        check(&write(&newer, std::iter::empty()).expect("written"), "version 1.2.3 hands over by protocol 2");
        check(&write(&told(3), [order("a")].into_iter()).expect("written"), "1 orders of 3");
        let cut = write(&told(1), [order("a")].into_iter()).expect("written");
        cut.set_len(cut.metadata().expect("a file").len() - 1).expect("cut");
        check(&cut, "damaged");
        let other = tempfile::tempfile().expect("a file");
        (&other).write_all(b"#!/bin/sh\n").expect("written");
        check(&other, "no file of a hand-over");
    }
}
