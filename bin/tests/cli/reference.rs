//! `doc/cli.md`: one row for each verb, held against the help of the program.

use std::collections::BTreeSet;
use std::path::Path;

use crate::help::{help, verbs};

#[test]
fn the_reference_has_a_row_for_each_verb_and_no_other() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../doc/cli.md");
    let text = std::fs::read_to_string(path).expect("doc/cli.md");
    let rows: Vec<String> = text
        .lines()
        .filter_map(|line| line.strip_prefix("| `kakehi "))
        .map(|row| row.split('`').next().unwrap_or_default())
        .map(|row| row.split(' ').take_while(is_verb).collect::<Vec<_>>().join(" "))
        .collect();
    let documented: BTreeSet<_> = rows.iter().cloned().collect();
    assert_eq!(documented.len(), rows.len(), "a verb has one row: {rows:?}");
    let defined: BTreeSet<_> = verbs().into_iter().collect();
    let missing: Vec<_> = defined.difference(&documented).collect();
    let stale: Vec<_> = documented.difference(&defined).collect();
    assert!(missing.is_empty() && stale.is_empty(), "doc/cli.md: missing {missing:?}, stale {stale:?}");
}

#[test]
fn flags_that_the_reference_names_are_there() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../doc/cli.md");
    let text = std::fs::read_to_string(path).expect("doc/cli.md");
    for row in text.lines().filter_map(|line| line.strip_prefix("| `kakehi ")) {
        let (verb, told) = row.split_once('`').expect("a verb");
        let verb: Vec<_> = verb.split(' ').take_while(is_verb).collect();
        let help = help(&verb);
        let is_part = |c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        let flags = told.split(is_part).filter(|word| word.starts_with("--") && !word.ends_with('-'));
        for flag in flags {
            assert!(help.contains(flag), "{verb:?} has no {flag}");
        }
    }
}

/// Arguments in rows are in capitals or brackets.
fn is_verb(word: &&str) -> bool {
    word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}
