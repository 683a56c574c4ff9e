//! The binary under test: `KAKEHI_BIN`, or ours, built once with the tests' own profile.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Path of the binary under test.
///
/// `KAKEHI_BIN` names another one (a release, a reference implementation); a relative path starts at
/// the workspace's root. Otherwise cargo is asked once per test process; when everything is fresh that
/// costs a fraction of a second.
///
/// # Panics
/// If the binary cannot be built.
pub fn kakehi_binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| match std::env::var_os("KAKEHI_BIN") {
        Some(path) => workspace().join(path),
        None => build(),
    })
}

fn build() -> PathBuf {
    // <target>/<profile>/deps/<test>-<hash>
    let test = std::env::current_exe().expect("a test knows its own path");
    let profile_directory = test.ancestors().nth(2).expect("tests live in <target>/<profile>/deps");
    let target_directory = profile_directory.parent().expect("tests live in <target>/<profile>/deps");
    let profile = match profile_directory.file_name().and_then(|name| name.to_str()) {
        Some("debug") => "dev",
        Some(name) => name,
        None => panic!("no profile in {}", test.display()),
    };
    let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["build", "--quiet", "--package", "kakehi", "--bin", "kakehi", "--profile", profile])
        .arg("--target-dir")
        .arg(target_directory)
        .current_dir(workspace())
        .output()
        .expect("cargo runs");
    assert!(
        output.status.success(),
        "the binary under test does not build:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    profile_directory.join("kakehi")
}

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("e2e lies in the workspace")
}
