//! `doc/cli.md`: one row for each verb, held against the help of the program.

use std::collections::BTreeSet;
use std::path::Path;

use crate::help::verbs;

#[test]
fn the_reference_has_a_row_for_each_verb_and_no_other() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../doc/cli.md");
    let text = std::fs::read_to_string(path).expect("doc/cli.md");
    let rows: Vec<String> = text
        .lines()
        .filter_map(|line| line.strip_prefix("| `kakehi "))
        .map(|row| row.split('`').next().unwrap_or_default().to_owned())
        .map(|row| row.split(" -").next().unwrap_or_default().split([' ']).take_while(is_verb).collect::<Vec<_>>().join(" "))
        .collect();
    let documented: BTreeSet<_> = rows.iter().cloned().collect();
    assert_eq!(documented.len(), rows.len(), "a verb has one row: {rows:?}");
    let defined: BTreeSet<_> = verbs().into_iter().collect();
    let missing: Vec<_> = defined.difference(&documented).collect();
    let stale: Vec<_> = documented.difference(&defined).collect();
    assert!(missing.is_empty() && stale.is_empty(), "doc/cli.md: missing {missing:?}, stale {stale:?}");
}

/// Arguments in rows are in capitals or brackets.
fn is_verb(word: &&str) -> bool {
    word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}
