//! The command line as an operator uses it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::binary::kakehi_binary;
use crate::deadline::try_await_value;

/// No verb may take longer, whatever the proxy does.
const VERB_MAX: Duration = Duration::from_secs(30);

/// Runs verbs with the config file of one proxy.
#[derive(Clone, Debug)]
pub struct Cli {
    config: Option<PathBuf>,
    directory: PathBuf,
    /// None: the binary under test.
    program: Option<PathBuf>,
}

/// What one run left behind.
#[derive(Debug)]
pub struct CliOutput {
    /// Exit status; `None` if killed by a signal.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Cli {
    /// With `-c config`, in `directory`, which is the user's runtime directory, too.
    pub fn new(config: Option<&Path>, directory: &Path) -> Self {
        Cli { config: config.map(Path::to_owned), directory: directory.to_owned(), program: None }
    }

    /// The same by another program, such as a link to ours under another name.
    pub fn by(self, program: &Path) -> Self {
        Cli { program: Some(program.to_owned()), ..self }
    }

    /// The command without arguments, for a verb that does not end by itself.
    pub fn command(&self) -> Command {
        let mut command = Command::new(self.program.as_deref().unwrap_or_else(|| kakehi_binary()));
        if let Some(config) = &self.config {
            command.arg("-c").arg(config);
        }
        command
            .current_dir(&self.directory)
            .env_remove("RUST_LOG")
            .env("XDG_RUNTIME_DIR", &self.directory)
            .stdin(Stdio::null());
        command
    }

    /// Runs `kakehi [-c CONFIG] ARGUMENTS`.
    ///
    /// # Panics
    /// If it does not end within 30 s.
    pub fn run(&self, arguments: &[&str]) -> CliOutput {
        let output = tempfile::tempdir().expect("a directory for the output");
        let file = |name: &str| std::fs::File::create(output.path().join(name)).expect("a fresh file");
        let mut child = self
            .command()
            .args(arguments)
            .stdout(file("stdout"))
            .stderr(file("stderr"))
            .spawn()
            .expect("the binary under test runs");
        let status = try_await_value(VERB_MAX, || child.try_wait().expect("our own child"));
        if status.is_none() {
            child.kill().expect("our own child");
            child.wait().expect("our own child");
        }
        let read = |name: &str| {
            String::from_utf8_lossy(&std::fs::read(output.path().join(name)).expect("just written"))
                .into_owned()
        };
        let (stdout, stderr) = (read("stdout"), read("stderr"));
        let Some(status) = status else {
            panic!("kakehi {} did not end within {VERB_MAX:?}\n{stdout}\n{stderr}", arguments.join(" "))
        };
        CliOutput { code: status.code(), stdout, stderr }
    }

    /// Runs a verb that must succeed; gives its standard output.
    ///
    /// # Panics
    /// If it fails.
    pub fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(output.code, Some(0), "kakehi {}: {output:#?}", arguments.join(" "));
        output.stdout
    }

    /// Runs a verb that must fail by exit status 1; gives its standard error.
    ///
    /// # Panics
    /// If it succeeds, or fails otherwise.
    pub fn refused(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(output.code, Some(1), "kakehi {}: {output:#?}", arguments.join(" "));
        output.stderr
    }

    /// Runs a verb with `--json` that must succeed; gives the value it printed.
    ///
    /// # Panics
    /// If it fails, or prints anything but one JSON value.
    pub fn json(&self, arguments: &[&str]) -> serde_json::Value {
        let stdout = self.ok(&[&["--json"], arguments].concat());
        serde_json::from_str(&stdout)
            .unwrap_or_else(|error| panic!("kakehi --json {}: {error}:\n{stdout}", arguments.join(" ")))
    }
}
