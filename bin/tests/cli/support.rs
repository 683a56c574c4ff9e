//! Golden files, and the binary run as an operator runs it.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Set to write the golden files anew: review them in the diff.
const REGENERATE: &str = "KAKEHI_REGENERATE";

/// Compares `actual` with the golden file `name`.
///
/// # Panics
/// If they differ.
pub(crate) fn check_golden(name: &str, actual: &str) {
    let path = golden_directory().join(name);
    if std::env::var_os(REGENERATE).is_some() {
        fs::create_dir_all(path.parent().expect("a golden file is in a directory"))
            .expect("writable sources");
        fs::write(&path, actual).expect("writable sources");
        return;
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        expected == actual,
        "{} differs ({REGENERATE}=1 writes it anew)\n--- expected\n{expected}\n--- actual\n{actual}",
        path.display()
    );
}

/// Checks that the golden directory `name` holds nothing but `files`: a file without a test proves nothing.
///
/// # Panics
/// If it holds another one.
pub(crate) fn check_no_stale_golden(name: &str, files: &[String]) {
    for entry in fs::read_dir(golden_directory().join(name)).expect("a golden directory") {
        let file = entry.expect("a readable directory").file_name().into_string().expect("UTF-8");
        assert!(files.contains(&file), "{name}/{file} belongs to no test");
    }
}

/// Runs the binary under the name `called`, in `directory`, away from the terminal and its settings.
///
/// # Panics
/// If it cannot be run.
pub(crate) fn run(
    called: &str,
    directory: &Path,
    arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
) -> Output {
    Command::new(env!("CARGO_BIN_EXE_kakehi"))
        .arg0(called)
        .args(arguments)
        .current_dir(directory)
        .env_remove("COLUMNS")
        .env_remove("RUST_LOG")
        .env("XDG_RUNTIME_DIR", directory)
        .stdin(Stdio::null())
        .output()
        .expect("the binary under test runs")
}

fn golden_directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli/golden")
}
