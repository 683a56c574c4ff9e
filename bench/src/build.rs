//! The binary that is measured: ours, built as it is released.

use std::path::PathBuf;
use std::process::Command;

use crate::failure::{Context, Failure};

/// Builds Kakehi's release binary beside this one and gives its path.
///
/// # Errors
/// If it does not build.
pub(crate) fn release() -> Result<PathBuf, Failure> {
    let target = target_directory()?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    eprintln!("building kakehi");
    let status = Command::new(cargo)
        .args(["build", "--quiet", "--release", "--package", "kakehi", "--bin", "kakehi", "--target-dir"])
        .arg(&target)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .context("cargo")?;
    if !status.success() {
        return Err(Failure::new("kakehi does not build; --kakehi takes a binary that is built already"));
    }
    Ok(target.join("release").join("kakehi"))
}

/// Where cargo puts what it builds.
///
/// # Errors
/// If the benchmark was moved out of it.
pub(crate) fn target_directory() -> Result<PathBuf, Failure> {
    let own = std::env::current_exe().context("the benchmark's own path")?;
    // <target>/<profile>/kakehi-bench
    let target = own.ancestors().nth(2).context("the benchmark does not lie in a target directory")?;
    Ok(target.to_owned())
}
