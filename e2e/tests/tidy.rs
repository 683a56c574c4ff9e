//! What neither compiler nor clippy sees: the repository's own habits, as a test.

use std::fs;
use std::path::{Path, PathBuf};

/// Near this many lines of code, two rooms share a file.
const CODE_LINES_MAX: usize = 600;

/// Flat by nature: generated code, which says so by where it stands.
const GENERATED: [&str; 3] =
    ["command/src/proto/command.rs", "command/src/proto/supervision.rs", "command/src/proto/hand_over.rs"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("e2e lies in the workspace")
}

/// Every file that belongs to the repository, with its path from the root and its text.
fn files(extensions: &[&str]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut left = vec![root().to_owned()];
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(&directory).expect("a readable directory").flatten() {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            if path.is_dir() {
                if !matches!(name.as_str(), "target" | ".git" | "out" | "corpus") {
                    left.push(path);
                }
            } else if extensions.iter().any(|extension| name.ends_with(extension)) {
                let text = fs::read_to_string(&path).expect("source is UTF-8");
                found.push((relative(&path), text));
            }
        }
    }
    assert!(!found.is_empty(), "no files found: the test looks at the wrong place");
    found.sort();
    found
}

fn relative(path: &Path) -> String {
    path.strip_prefix(root()).expect("found below the root").display().to_string()
}

fn sources() -> impl Iterator<Item = (String, String)> {
    files(&[".rs"]).into_iter().filter(|(path, _)| !GENERATED.contains(&path.as_str()))
}

fn complain(offences: &[String]) {
    assert!(offences.is_empty(), "\n{}", offences.join("\n"));
}

#[test]
fn every_module_says_what_it_is_for() {
    let offences: Vec<String> = sources()
        .filter(|(_, text)| !text.starts_with("//!"))
        .map(|(path, _)| format!("{path}: no //! on top"))
        .collect();
    complain(&offences);
}

#[test]
fn no_file_holds_two_rooms() {
    let code_lines = |text: &str| {
        text.lines()
            .take_while(|line| !line.starts_with("#[cfg(test)]"))
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with("//"))
            .count()
    };
    let offences: Vec<String> = sources()
        .map(|(path, text)| (path, code_lines(&text)))
        .filter(|(_, lines)| *lines > CODE_LINES_MAX)
        .map(|(path, lines)| format!("{path}: {lines} lines of code, {CODE_LINES_MAX} are too many"))
        .collect();
    complain(&offences);
}

#[test]
fn no_stray_markers() {
    // Put together, so that this file is not its own offence.
    let markers = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("XX", "X"),
        concat!("HA", "CK"),
        concat!("todo", "!("),
        concat!("unimplemented", "!("),
        concat!("db", "g!("),
        concat!("<<<<", "<<<"),
        concat!(">>>>", ">>>"),
        concat!("#[ig", "nore]"),
    ];
    let mut offences = Vec::new();
    for (path, text) in files(&[".rs", ".md", ".toml", ".proto", "justfile", ".ci/run", ".ci/smoke"]) {
        for (index, line) in text.lines().enumerate() {
            for marker in markers.iter().filter(|marker| contains_word(line, marker)) {
                offences.push(format!("{path}:{}: {marker}", index + 1));
            }
            if line.ends_with([' ', '\t']) && !path.ends_with(".md") {
                offences.push(format!("{path}:{}: white space at the end", index + 1));
            }
        }
    }
    complain(&offences);
}

/// Whether `line` holds `marker` as a word of its own, not within a longer one.
fn contains_word(line: &str, marker: &str) -> bool {
    line.match_indices(marker).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + marker.len()..].chars().next();
        let inside =
            |character: Option<char>| character.is_some_and(|character| character.is_ascii_alphanumeric());
        marker.ends_with('(') || !(inside(before) || inside(after))
    })
}

#[test]
fn no_path_of_the_machine_it_was_written_on() {
    let here = root().display().to_string();
    // A checkout in the file system's root has no path worth looking for.
    let offences: Vec<String> = files(&[".rs", ".md", ".toml", ".proto", "justfile"])
        .into_iter()
        .filter(|(_, text)| here.len() > 1 && text.contains(&here))
        .map(|(path, _)| format!("{path}: names {here}"))
        .collect();
    complain(&offences);
}

#[test]
fn every_configuration_key_is_documented() {
    // The table of keys, read as text: this crate is a black box's.
    let table = fs::read_to_string(root().join("command/src/config/keys.rs")).expect("the table of keys");
    let documented = fs::read_to_string(root().join("config.toml")).expect("the commented configuration");
    let keys: Vec<&str> =
        table.lines().filter_map(|line| line.trim().strip_prefix("key(\"")?.split('"').next()).collect();
    assert!(keys.len() > 100, "only {} keys found in the table", keys.len());
    let offences: Vec<String> = keys
        .into_iter()
        .filter(|key| !contains_key(&documented, key))
        .map(|key| format!("config.toml does not mention {key}"))
        .collect();
    complain(&offences);
}

fn contains_key(text: &str, key: &str) -> bool {
    let part_of_a_name = |character: char| character.is_ascii_alphanumeric() || character == '_';
    text.match_indices(key).any(|(at, _)| {
        !text[..at].ends_with(part_of_a_name) && !text[at + key.len()..].starts_with(part_of_a_name)
    })
}

/// Keys whose names say "limit" or "time", and which are neither.
const NO_LIMITS: [&str; 3] = ["max_age", "max_ejection", "ctl_command_timeout"];

#[test]
fn every_limit_has_a_default_a_metric_and_a_test() {
    let read = |path: &str| fs::read_to_string(root().join(path)).expect("it is there");
    let (document, metrics) = (read("doc/limits.md"), read("doc/metrics.md"));
    let table = document.split("## Every limit").nth(1).and_then(|rest| rest.split("\n## ").next());
    let rows: Vec<Vec<&str>> = table
        .expect("a table")
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| key"))
        .map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect())
        .collect();
    assert!(rows.len() > 40, "{} rows", rows.len());
    let mut offences = Vec::new();
    for row in &rows {
        let &[key, default, _, _, numbers, tests] = &row[..] else {
            offences.push(format!("{} columns: {row:?}", row.len()));
            continue;
        };
        if default.is_empty() || tests.is_empty() {
            offences.push(format!("{key}: no default, or no test"));
        }
        for name in numbers.split('`').skip(1).step_by(2) {
            if !metrics.contains(&format!("| `{name}` |")) {
                offences.push(format!("{key}: there is no metric {name}"));
            }
        }
        for test in tests.split(", ") {
            let (file, function) = test.split_once("::").unwrap_or((test, ""));
            let text = fs::read_to_string(root().join(format!("e2e/tests/{file}.rs"))).unwrap_or_default();
            if !text.contains(&format!("\nfn {function}() {{")) {
                offences.push(format!("{key}: there is no test {test}"));
            }
        }
    }
    let keys = read("command/src/config/keys.rs");
    for line in keys.lines().filter(|line| line.contains(", Yes)") || line.contains("HTTPS)")) {
        let Some(key) = line.trim().strip_prefix("key(\"").and_then(|rest| rest.split('"').next()) else {
            continue;
        };
        let is_limit = key.starts_with("max_") || key.ends_with("_timeout");
        if is_limit && !NO_LIMITS.contains(&key) && !rows.iter().any(|row| contains_key(row[0], key)) {
            offences.push(format!("{key} is in no row"));
        }
    }
    complain(&offences);
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut offences = Vec::new();
    for (path, text) in files(&[".md"]) {
        let directory = root().join(&path).parent().map(PathBuf::from).expect("a file has a directory");
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = target.split('#').next().unwrap_or_default();
            let elsewhere = target.contains("://") || file.is_empty();
            if !elsewhere && !directory.join(file).exists() {
                offences.push(format!("{path}: {target} is not there"));
            }
        }
    }
    complain(&offences);
}

#[test]
fn shell_scripts_stop_at_the_first_error() {
    for script in [".ci/run", ".ci/smoke", "e2e/autobahn/run", "e2e/conformance/run"] {
        let text = fs::read_to_string(root().join(script)).expect("the script");
        assert!(text.contains("set -euo pipefail"), "{script}");
    }
}

#[test]
fn expected_documents_are_there() {
    for document in [
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "LICENSE",
        "config.toml",
        "doc/glossary.md",
        "doc/deviations.md",
    ] {
        let text = fs::read_to_string(root().join(document)).unwrap_or_default();
        assert!(text.len() > 500, "{document} is missing or hardly begun");
    }
}
