//! Configuration files.
//!
//! - A text is refused with errors that have their place in it, the same each time, or gives settings.
//! - Its orders are ones that the command socket would take as they are, and build one state, which a state
//!   file keeps.

#![no_main]

use std::path::PathBuf;

use kakehi_command::config::{Diagnostic, Origin, parse_alone};
use kakehi_command::order::Order;
use kakehi_command::state::{ConfigState, STATE_RECORD_BYTES_MIN, read_state, write_state};
use libfuzzer_sys::fuzz_target;

fn check_diagnostics(text: &str, diagnostics: &[Diagnostic]) {
    let lines = text.split('\n').count();
    for diagnostic in diagnostics {
        assert!(diagnostic.line.is_none_or(|line| (1..=lines).contains(&line)), "{diagnostic}");
        assert!(!diagnostic.text.is_empty());
    }
}

fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let origin = Origin::File(PathBuf::from("/etc/kakehi/config.toml"));
    let config = match parse_alone(text, &origin) {
        Ok(config) => config,
        Err(errors) => {
            assert!(!errors.errors.is_empty());
            check_diagnostics(text, &errors.errors);
            check_diagnostics(text, &errors.warnings);
            assert_eq!(parse_alone(text, &origin).err(), Some(errors));
            return;
        }
    };
    check_diagnostics(text, &config.warnings);
    assert!(config.server_config().max_connections > 0 && config.worker_count > 0);
    let _ = config.limits();
    assert!(config.command_socket.is_absolute());
    for order in &config.orders {
        assert_eq!(Order::from_request(&order.to_request()).as_ref(), Ok(order), "an order can be said");
    }
    let mut state = ConfigState::default();
    state.transact(&config.orders).expect("the orders of a file fit each other");
    state.check_invariants();
    let mut saved = Vec::new();
    write_state(&state, &mut saved).expect("a vector takes all");
    let mut loaded = ConfigState::default();
    for request in read_state(&saved[..], STATE_RECORD_BYTES_MIN * 10) {
        let order = Order::from_request(&request.expect("a request")).expect("an order");
        loaded.apply(&order).expect("it fits");
    }
    assert_eq!(loaded, state, "a state file keeps it");
});
