//! Saying that a test cannot run here.

use std::io::Write;

/// Says so on standard error, past the capturing of test output: a skipped test is never silent.
/// `.ci/run` looks for these lines and lets none pass.
pub fn skipped(why: &str) {
    // Without a standard error there is nobody to tell.
    let _unheard = writeln!(std::io::stderr(), "\nSKIPPED: {why}");
}
