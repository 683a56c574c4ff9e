//! What `start` prints once every worker serves.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::main_process::Ready;

/// What the banner says beside what the main process tells.
#[derive(Debug)]
pub(super) struct Banner {
    /// How to call this program from the present directory.
    pub(super) program: String,
    /// The configuration file, if one was given.
    pub(super) config: Option<PathBuf>,
    /// What a new user can try.
    pub(super) trial: Option<Trial>,
}

/// The demo: a cluster with one backend, and another one that waits.
#[derive(Debug, Clone)]
pub(super) struct Trial {
    pub(super) cluster: String,
    /// Id and address of the backend in the configuration.
    pub(super) first: (String, SocketAddr),
    /// Id and address of the one to add.
    pub(super) second: (String, SocketAddr),
}

impl Banner {
    /// Prints it on standard output.
    pub(super) fn print(&self, ready: &Ready) {
        let mut stdout = io::stdout().lock();
        // The proxy serves, whether anybody reads this or not.
        let _unread = stdout.write_all(self.text(ready).as_bytes()).and_then(|()| stdout.flush());
    }

    fn text(&self, ready: &Ready) -> String {
        let mut out = String::new();
        self.write(ready, &mut out).expect("writing into a string");
        out
    }

    fn write(&self, ready: &Ready, out: &mut String) -> std::fmt::Result {
        let workers = match ready.worker_pids.len() {
            1 => "1 worker".to_owned(),
            count => format!("{count} workers"),
        };
        writeln!(out, "Kakehi is running with {workers}.\n")?;
        for (kind, listener) in &ready.listeners {
            writeln!(out, "  listening on    {kind}://{listener}")?;
        }
        writeln!(out, "  command socket  {}", ready.command_socket.display())?;
        match (&self.trial, ready.listeners.first()) {
            (Some(trial), Some((_, listener))) => self.write_trial(trial, *listener, out)?,
            _ => self.write_hint(out)?,
        }
        writeln!(out, "\nCtrl-C finishes the open connections and stops.")
    }

    fn write_trial(&self, trial: &Trial, listener: SocketAddr, out: &mut String) -> std::fmt::Result {
        let Trial { cluster, first: (first, first_address), second: (second, second_address) } = trial;
        let program = &self.program;
        let is_relative = program.contains('/') && !program.starts_with(['/', '\'']);
        let place = if is_relative { " in this directory" } else { "" };
        write!(
            out,
            "\nTry it, from another terminal{place}:\n\
             \n  curl http://{listener}/\n\
             \nThen change it while it runs, and curl again after each:\n\
             \n  # A second backend takes its share of the requests.\
             \n  {program} backend add --id {cluster} --backend-id {second} --address {second_address}\n\
             \n  # The first one leaves; nobody notices.\
             \n  {program} backend remove --id {cluster} --backend-id {first} --address {first_address}\n\
             \n  # One path is denied: curl -i http://{listener}/private\
             \n  {program} frontend http add --address {listener} --hostname {host} --path-prefix /private deny\n",
            host = listener.ip(),
        )
    }

    fn write_hint(&self, out: &mut String) -> std::fmt::Result {
        let config = self.config.as_deref().map(|path| format!(" --config {}", shell_word(path)));
        writeln!(out, "\nAsk and change it by, for instance:\n")?;
        writeln!(out, "  {} status{}", self.program, config.unwrap_or_default())
    }
}

/// How to call this program from the present directory: by its name if the shell found it so, else by
/// the shortest path.
pub(super) fn program() -> String {
    let called = std::env::args_os().next().map(PathBuf::from);
    if let Some(name) = called.as_deref().filter(|called| called.parent() == Some(Path::new(""))) {
        return shell_word(name);
    }
    match (std::env::current_exe(), std::env::current_dir()) {
        (Ok(executable), Ok(directory)) => shell_word(&shortest(&executable, &directory)),
        _ => called.as_deref().map_or_else(|| "kakehi".to_owned(), shell_word),
    }
}

fn shortest(executable: &Path, directory: &Path) -> PathBuf {
    match executable.strip_prefix(directory) {
        // The shell looks a bare name up elsewhere.
        Ok(name) if name.components().count() == 1 => Path::new(".").join(name),
        Ok(relative) => relative.to_owned(),
        Err(_) => executable.to_owned(),
    }
}

/// A path as one word of a shell's command line.
fn shell_word(path: &Path) -> String {
    let text = path.display().to_string();
    let plain =
        |c: char| c.is_alphanumeric() || matches!(c, '/' | '.' | '-' | '_' | '+' | ',' | ':' | '@' | '%');
    if !text.is_empty() && text.chars().all(plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use kakehi_command::order::ListenerKind;

    use super::*;

    fn ready() -> Ready {
        Ready {
            listeners: vec![(ListenerKind::Http, "127.0.0.1:8080".parse().unwrap())],
            command_socket: "/run/user/1000/kakehi/kakehi.sock".into(),
            worker_pids: vec![11, 12],
        }
    }

    #[test]
    fn a_new_user_is_told_what_to_try() {
        let trial = Trial {
            cluster: "hello".to_owned(),
            first: ("demo".to_owned(), "127.0.0.1:40001".parse().unwrap()),
            second: ("second".to_owned(), "127.0.0.1:40002".parse().unwrap()),
        };
        let banner = Banner { program: "target/release/kakehi".to_owned(), config: None, trial: Some(trial) };
        assert_eq!(banner.text(&ready()), include_str!("banner_demo.txt"));
    }

    #[test]
    fn with_a_file_of_their_own_users_are_told_how_to_reach_it() {
        let banner =
            Banner { program: "kakehi".to_owned(), config: Some("my proxy.toml".into()), trial: None };
        let mut ready = ready();
        ready.listeners.push((ListenerKind::Https, "127.0.0.1:8443".parse().unwrap()));
        let text = banner.text(&ready);
        assert!(text.contains("\n  listening on    https://127.0.0.1:8443\n"), "{text}");
        assert!(text.contains("\n  kakehi status --config 'my proxy.toml'\n"), "{text}");
    }

    #[test]
    fn the_program_is_named_as_the_shell_finds_it() {
        let check = |executable: &str, expected: &str| {
            assert_eq!(shortest(Path::new(executable), Path::new("/src/kakehi")), Path::new(expected));
        };
        check("/src/kakehi/target/release/kakehi", "target/release/kakehi");
        check("/src/kakehi/kakehi", "./kakehi");
        check("/usr/local/bin/kakehi", "/usr/local/bin/kakehi");
        assert_eq!(shell_word(Path::new("/it's here/kakehi")), "'/it'\\''s here/kakehi'");
    }
}
