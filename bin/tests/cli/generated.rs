//! Completions and man pages: that they are made from the command line as it is, and that shells and `man` take them.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::run;

fn completions(shell: &str) -> String {
    let output = run("kakehi", Path::new("."), ["completions", shell]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn completions_know_verbs_and_flags() {
    for shell in ["bash", "zsh", "fish"] {
        let script = completions(shell);
        for word in ["health-check", "load-balancing-policy", "round_robin", "completions"] {
            assert!(script.contains(word), "{shell}: no {word}");
        }
        // In fish, flags are known down to the second verb.
        assert_eq!(script.contains("probe-timeout"), shell != "fish");
    }
    let script = String::from_utf8(run("sozu", Path::new("."), ["completions", "bash"]).stdout).unwrap();
    assert!(script.contains("complete -F _sozu"), "{script}");
}

#[test]
fn bash_completes_by_them() {
    let script = format!(
        "{}\nCOMP_WORDS=(kakehi cluster health-check se); COMP_CWORD=3; COMP_LINE='kakehi cluster health-check se'; \
         COMP_POINT=${{#COMP_LINE}}; _kakehi kakehi se health-check; echo \"${{COMPREPLY[@]}}\"",
        completions("bash")
    );
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("completions");
    std::fs::write(&file, script).unwrap();
    let output = Command::new("bash").arg(file).stdin(Stdio::null()).output().expect("bash runs");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "set", "{output:?}");
}

#[test]
fn every_verb_has_a_man_page() {
    let directory = tempfile::tempdir().unwrap();
    let pages = directory.path().join("share/man1");
    let output = run("kakehi", directory.path(), ["man".as_ref(), pages.as_os_str()]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    for (page, text) in [
        ("kakehi.1", "health\\-check"),
        ("kakehi-logs.1", "JSONPath"),
        ("kakehi-cluster-add.1", "\\-\\-load\\-balancing\\-policy"),
        ("kakehi-cluster-health-check-set.1", "\\-\\-probe\\-timeout"),
        ("kakehi-frontend-http-add.1", "\\-\\-path\\-prefix"),
    ] {
        let written =
            std::fs::read_to_string(pages.join(page)).unwrap_or_else(|error| panic!("{page}: {error}"));
        assert!(written.contains(text) || page == "kakehi.1", "{page}: no {text} in\n{written}");
        assert!(written.contains(".TH"), "{page}");
    }
    assert!(!pages.join("kakehi-worker.1").exists(), "internal verbs have no page");
    let refused = run("kakehi", directory.path(), ["man", "/proc/nowhere"]);
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
}
