//! The terminal: a screen of its own, keys one by one, and all as it was at the end.

use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};

use super::super::CliError;
use super::view::Size;

/// Another screen, without a cursor.
const ENTER: &str = "\u{1b}[?1049h\u{1b}[?25l";
/// The cursor, and the screen of before.
const LEAVE: &str = "\u{1b}[?25h\u{1b}[?1049l";
/// To the first column of the first line.
const HOME: &str = "\u{1b}[H";
/// Clears the rest of the line, or of the screen.
const CLEAR_LINE: &str = "\u{1b}[K";
const CLEAR_BELOW: &str = "\u{1b}[J";

/// If the terminal does not tell.
const SIZE_DEFAULT: Size = (80, 24);

/// What somebody wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    Quit,
    NextOrder,
    Other,
}

/// See the module.
pub(super) struct Terminal {
    /// How it was.
    before: Termios,
}

impl Terminal {
    /// Takes the terminal.
    pub(super) fn open() -> Result<Self, CliError> {
        if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
            return Err(CliError::NoTerminal);
        }
        let before = tcgetattr(io::stdin()).map_err(|error| CliError::Print(error.into()))?;
        let mut raw = before.clone();
        // Signals stay: Ctrl-C is taken as a key, so that the terminal is given back.
        raw.local_flags.remove(LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG);
        tcsetattr(io::stdin(), SetArg::TCSANOW, &raw).map_err(|error| CliError::Print(error.into()))?;
        let terminal = Self { before };
        write(ENTER)?;
        Ok(terminal)
    }

    /// Draws the lines that are made for its size.
    pub(super) fn draw(&mut self, lines: impl FnOnce(Size) -> Vec<String>) -> Result<(), CliError> {
        let size = terminal_size::terminal_size_of(io::stdout());
        let size = size.map_or(SIZE_DEFAULT, |(width, height)| (width.0.into(), height.0.into()));
        let lines: Vec<String> = lines(size).into_iter().map(|line| line + CLEAR_LINE).collect();
        write(&format!("{HOME}{}{CLEAR_BELOW}", lines.join("\r\n")))
    }

    /// Waits for a key for so long.
    pub(super) fn wait(&mut self, time: Duration) -> Result<Option<Key>, CliError> {
        let stdin = io::stdin();
        let timeout = PollTimeout::try_from(time).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)], timeout) {
            // A signal that is none of ours, or the size has changed.
            Ok(0) | Err(nix::errno::Errno::EINTR) => return Ok(None),
            Ok(_) => {}
            Err(error) => return Err(CliError::Print(error.into())),
        }
        // Not by the standard library, which would take all keys at once: the poll has to see those that are left.
        let mut byte = [0];
        let read = nix::unistd::read(&stdin, &mut byte).map_err(|error| CliError::Print(error.into()))?;
        Ok(Some(if read == 0 { Key::Quit } else { key(byte[0]) }))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // If it is gone there is nothing to be given back.
        let _left = write(LEAVE);
        let _restored = tcsetattr(io::stdin(), SetArg::TCSANOW, &self.before);
    }
}

fn key(byte: u8) -> Key {
    /// Ctrl-C and Ctrl-D.
    const END: [u8; 2] = [3, 4];
    match byte {
        b'q' | b'Q' => Key::Quit,
        b's' => Key::NextOrder,
        byte if END.contains(&byte) => Key::Quit,
        _ => Key::Other,
    }
}

fn write(text: &str) -> Result<(), CliError> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(CliError::Print)
}

#[expect(clippy::disallowed_methods, reason = "rates are of time")]
pub(super) fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "screens are drawn by the clock")]
pub(super) fn pause(time: Duration) {
    std::thread::sleep(time);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys() {
        let keys = [b'q', 3, 4, b's', b'x'].map(key);
        assert_eq!(keys, [Key::Quit, Key::Quit, Key::Quit, Key::NextOrder, Key::Other]);
    }
}
