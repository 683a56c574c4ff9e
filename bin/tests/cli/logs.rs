//! `kakehi logs` as it is typed: files, standard input, bad lines, and a file that grows.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::support::run;

const LOG: &str = concat!(
    "{\"time\":\"t1\",\"status\":200,\"host\":\"a.test\",\"path\":\"/\",\"cluster\":\"x\"}\n",
    "{\"time\":\"t2\",\"status\":503,\"host\":\"a.test\",\"path\":\"/b\",\"cluster\":\"x\"}\n",
    "\n",
    "not a record\n",
    "{\"time\":\"t3\",\"status\":500,\"host\":\"b.test\",\"path\":\"/c\",\"cluster\":\"y\",\"tags\":{\"owner\":\"ada\"}}",
);

/// Nothing here takes long; a test that hangs should fail instead.
const WAIT_MAX: Duration = Duration::from_secs(30);

const FAILED: &str = "$[?@.status >= 500 && @.cluster == \"x\"]";

fn logs(directory: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    fs::write(directory.join("access.log"), LOG).unwrap();
    let Output { status, stdout, stderr } = run("kakehi", directory, [&["logs"], arguments].concat());
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

#[test]
fn records_are_chosen_and_bad_lines_counted() {
    let directory = tempfile::tempdir().unwrap();
    let (code, out, told) = logs(directory.path(), &[FAILED, "access.log", "--fields", "time,host,path"]);
    assert_eq!((code, out.as_str()), (Some(0), "t2\ta.test\t/b\n"), "{told}");
    assert!(told.starts_with("1 line was left out, of 5; the first is line 4: "), "{told}");
    let (_, out, _) =
        logs(directory.path(), &[FAILED, "access.log", "--fields", "time,tags.owner", "--json"]);
    assert_eq!(out, "{\"time\":\"t2\"}\n");
    let (_, out, _) = logs(directory.path(), &["access.log"]);
    assert_eq!(out.lines().count(), 3, "without a query all records are shown: {out}");
    assert_eq!(out.lines().last(), LOG.lines().last(), "as they came");
    let (_, out, _) = logs(directory.path(), &["$[?@.tags.owner].path", "access.log"]);
    assert_eq!(out, "\"/c\"\n");
    let (_, out, told) = logs(directory.path(), &["$", "access.log", "--max-line", "80"]);
    assert_eq!(out.lines().count(), 2, "{out}");
    assert!(told.starts_with("2 lines were left out"), "{told}");
}

#[test]
fn what_cannot_be_done_is_said() {
    let directory = tempfile::tempdir().unwrap();
    for (arguments, code, text) in [
        (&["$[?@.status >", "access.log"][..], 1, "RFC 9535"),
        (&["status", "access.log"], 1, "it begins with `$`"),
        (&["$", "missing.log"], 1, "missing.log"),
        (&["--follow"], 1, "needs a FILE"),
        (&["--new", "access.log"], 2, "--follow"),
    ] {
        let (actual, out, told) = logs(directory.path(), arguments);
        assert_eq!((actual, out.as_str()), (Some(code), ""), "{arguments:?}: {told}");
        assert!(told.contains(text), "{arguments:?}: {told}");
    }
}

fn spawn(directory: &Path, arguments: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_kakehi"))
        .arg("logs")
        .args(arguments)
        .current_dir(directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the binary under test runs")
}

/// The lines that it prints, one a call.
fn lines_of(child: &mut Child) -> impl Fn() -> String + use<> {
    let (sender, lines) = mpsc::channel();
    let stdout = BufReader::new(child.stdout.take().unwrap());
    thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
    move || lines.recv_timeout(WAIT_MAX).expect("a line comes")
}

#[test]
fn standard_input_is_shown_as_it_comes() {
    let directory = tempfile::tempdir().unwrap();
    for arguments in [&[FAILED][..], &[FAILED, "-"]] {
        let mut child = spawn(directory.path(), &[arguments, &["-F", "time"]].concat());
        let mut input = child.stdin.take().unwrap();
        let next = lines_of(&mut child);
        for _ in 0..3 {
            // The second line is answered before the source has ended.
            input.write_all(LOG.as_bytes()).unwrap();
            input.write_all(b"\n").unwrap();
            assert_eq!(next(), "t2");
        }
        drop(input);
        assert!(child.wait().unwrap().success());
    }
}

#[test]
fn a_file_is_followed_through_rotation_and_truncation() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("access.log");
    let record = |n: u32| format!("{{\"status\":{n}}}\n");
    fs::write(&path, record(1)).unwrap();
    let mut child = spawn(directory.path(), &["$[?@.status]", "access.log", "--follow", "-F", "status"]);
    let next = lines_of(&mut child);
    assert_eq!(next(), "1");
    let append = |text: &str| {
        File::options().append(true).create(true).open(&path).unwrap().write_all(text.as_bytes()).unwrap();
    };
    append(&record(2));
    assert_eq!(next(), "2");
    // Half a line is shown when its other half has come.
    append("{\"sta");
    append("tus\":3}\n");
    assert_eq!(next(), "3");
    fs::rename(&path, directory.path().join("access.log.1")).unwrap();
    append(&record(4));
    assert_eq!(next(), "4");
    append(&record(5));
    assert_eq!(next(), "5");
    // Shorter than what was read: that is how it is noticed.
    fs::write(&path, record(6)).unwrap();
    assert_eq!(next(), "6");
    child.kill().unwrap();
    child.wait().unwrap();
}
