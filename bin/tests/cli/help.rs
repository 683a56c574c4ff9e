//! The help of every verb, as golden files: one for each noun, found by following the help itself.

use std::fmt::Write;
use std::path::Path;

use crate::support::{check_golden, check_no_stale_golden, run};

#[test]
fn the_help_of_every_verb_is_reviewed() {
    check_golden("help/kakehi.txt", &help(&[]));
    let mut files = vec!["kakehi.txt".to_owned()];
    for noun in subverbs(&help(&[])) {
        let mut text = String::new();
        visit(&[&noun], &mut text);
        check_golden(&format!("help/{noun}.txt"), &text);
        files.push(format!("{noun}.txt"));
    }
    check_no_stale_golden("help", &files);
}

#[test]
fn the_program_goes_by_the_name_it_is_called() {
    let output = run("/usr/bin/sozu", Path::new("."), ["status", "--help"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("Usage: sozu status [OPTIONS]"), "{text}");
    let text = String::from_utf8(run("sozu", Path::new("."), ["--help"]).stdout).unwrap();
    assert!(text.contains("`sozu start`") && !text.contains("kakehi"), "{text}");
}

#[test]
fn as_sozu_it_says_what_scripts_for_sozu_look_for() {
    let output = run("sozu", tempfile::tempdir().unwrap().path(), ["status"]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.starts_with("could not create channel to Sōzu. Are you sure the proxy is up?: "), "{text}");
    assert!(text.contains("`sozu start`"), "{text}");
}

#[test]
fn the_version_is_one_line() {
    let output = run("kakehi", Path::new("."), ["-V"]);
    assert_eq!(output.stdout, format!("kakehi {}\n", env!("CARGO_PKG_VERSION")).as_bytes());
}

#[test]
fn the_long_version_tells_what_is_built_in() {
    for name in ["kakehi", "sozu"] {
        let output = run(name, Path::new("."), ["--version"]);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.starts_with(&format!("{name} {}\n", env!("CARGO_PKG_VERSION"))), "{text}");
        assert!(text.contains("-http2"), "{text}");
    }
}

/// Every verb, with the nouns before it.
pub(crate) fn verbs() -> Vec<String> {
    fn below(verb: &[&str], text: &str, out: &mut Vec<String>) {
        let names = if text.contains("<DESTINATION>") { Vec::new() } else { subverbs(text) };
        if names.is_empty() && !verb.is_empty() {
            out.push(verb.join(" "));
        }
        for name in names {
            let verb = [verb, &[&name]].concat();
            below(&verb, &help(&verb), out);
        }
    }
    let mut out = Vec::new();
    below(&[], &help(&[]), &mut out);
    out
}

/// Writes the help of a verb, then of the verbs below it.
fn visit(verb: &[&str], out: &mut String) {
    let text = help(verb);
    writeln!(out, "$ kakehi {} --help\n{text}", verb.join(" ")).unwrap();
    // What follows a frontend's flags is its destination, not a verb of its own.
    if !text.contains("<DESTINATION>") {
        for name in subverbs(&text) {
            visit(&[verb, &[&name]].concat(), out);
        }
    }
}

pub(crate) fn help(verb: &[&str]) -> String {
    let output = run("kakehi", Path::new("."), verb.iter().chain(&["--help"]));
    assert_eq!(output.status.code(), Some(0), "{verb:?}: {output:?}");
    assert!(output.stderr.is_empty(), "{verb:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The verbs that a help text lists.
fn subverbs(help: &str) -> Vec<String> {
    let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let listed = commands.take_while(|line| !line.is_empty());
    // Further lines of a description are indented deeper.
    let names = listed.filter_map(|line| line.strip_prefix("  ").filter(|rest| !rest.starts_with(' ')));
    let names = names.filter_map(|line| line.split_whitespace().next());
    names.filter(|name| *name != "help").map(str::to_owned).collect()
}
