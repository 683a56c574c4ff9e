//! State files.
//!
//! - However a file is read, it holds the same records and the same fault.
//! - A refused order changes nothing, and all changes can be taken back.
//! - The state that a file leads to can be saved and loaded, and a diff leads to it.

#![no_main]

use std::io::BufReader;

use kakehi_command::order::Order;
use kakehi_command::proto::Request;
use kakehi_command::state::{ConfigState, STATE_RECORD_BYTES_MIN, StateFileFault, read_state, write_state};
use kakehi_fuzz::Cut;
use libfuzzer_sys::fuzz_target;

/// Longest record of these files, bytes.
const RECORD_BYTES_MAX: usize = 2048;

/// Requests as their JSON, which can be compared whatever numbers are in them, and faults.
fn records(file: impl Iterator<Item = Result<Request, String>>) -> Vec<Result<String, String>> {
    file.map(|record| record.map(|request| serde_json::to_string(&request).expect("JSON"))).collect()
}

fn requests(input: &[u8], capacity: usize) -> impl Iterator<Item = Result<Request, String>> {
    let reader = BufReader::with_capacity(capacity, input);
    read_state(reader, RECORD_BYTES_MAX).map(|record| {
        record.map_err(|error| {
            assert!(!matches!(error.fault, StateFileFault::Read(_)), "bytes can be read");
            error.to_string()
        })
    })
}

fn loaded(state: &ConfigState) -> ConfigState {
    let mut saved = Vec::new();
    let count = write_state(state, &mut saved).expect("a vector takes all");
    let mut loaded = ConfigState::default();
    let mut orders = 0;
    for request in read_state(&saved[..], STATE_RECORD_BYTES_MIN) {
        let order = Order::from_request(&request.expect("a request")).expect("an order");
        loaded.apply(&order).expect("it fits");
        orders += 1;
    }
    assert_eq!(orders, count);
    loaded
}

fuzz_target!(|input: &[u8]| {
    let Some((cut, input)) = Cut::take(input) else { return };
    let whole = records(requests(input, input.len().max(1)));
    assert_eq!(records(requests(input, cut.sizes().next().unwrap_or(1))), whole);

    let empty = ConfigState::default();
    let mut state = empty.clone();
    let mut changes = Vec::new();
    for request in requests(input, 4096).flatten() {
        let Ok(order) = Order::from_request(&request) else { continue };
        let before = state.clone();
        match state.apply(&order) {
            Ok(change) => {
                assert_eq!(change.is_empty(), state == before);
                changes.push(change);
            }
            Err(_) => assert_eq!(state, before, "a refused order changes nothing"),
        }
        state.check_invariants();
    }
    assert_eq!(loaded(&state), state, "a state file keeps it");
    let mut other = empty.clone();
    other.transact(&empty.diff(&state)).expect("a diff fits");
    assert_eq!(other, state, "a diff leads to it");
    other.transact(&state.diff(&empty)).expect("a diff fits");
    assert_eq!(other, empty, "and back");
    for change in changes.into_iter().rev() {
        state.undo(change);
    }
    assert_eq!(state, empty, "undone");
});
