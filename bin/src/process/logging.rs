//! The logger behind the `log` façade: one line per record.
//!
//! Line: `<RFC 3339, microseconds>Z <unix nanoseconds> <pid> <LEVEL> <TAG>\t<message>`. The tag is
//! `MAIN`, `WRK-NN` or `CTL`. Filters are `level` and `module::path=level` directives separated by
//! commas, the longest path that fits a record wins; the environment's `RUST_LOG` goes before the
//! configured filter. Lines are written whole, by one write each, so that processes that append to
//! the same file do not mix them.

use std::fmt::{Arguments, Write as _};
#[cfg(test)]
use std::io;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{OnceLock, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kakehi_lib::net::log_sink::{LogSink, Written};
use log::{Level, LevelFilter, Log, Metadata, Record};

use super::log_target::LogTarget;

/// What decides which records are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Filter {
    /// Module paths and their levels, longest path first; the empty path is the default.
    directives: Vec<(String, LevelFilter)>,
}

/// A filter that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "log filter {filter:?}: {directive:?} is not a level (off, error, warn, info, debug, trace) \
     nor module::path=level"
)]
pub(crate) struct FilterError {
    filter: String,
    directive: String,
}

impl Filter {
    /// Reads directives separated by commas: `info`, `info,kakehi_lib::session=debug`. A directive
    /// without a path is the level of everything else; a path alone lets all of its records through.
    pub(crate) fn parse(filter: &str) -> Result<Self, FilterError> {
        let refused =
            |directive: &str| FilterError { filter: filter.to_owned(), directive: directive.to_owned() };
        let mut directives = Vec::new();
        for directive in filter.split(',').map(str::trim).filter(|directive| !directive.is_empty()) {
            let (path, level) = match directive.split_once('=') {
                Some((path, level)) => (path.trim(), level.trim().parse().map_err(|_| refused(directive))?),
                None => match directive.parse() {
                    Ok(level) => ("", level),
                    Err(_) if directive.contains("::") => (directive, LevelFilter::Trace),
                    Err(_) => return Err(refused(directive)),
                },
            };
            // The last word on a path counts, as it does for every other setting.
            directives.retain(|(known, _)| known != path);
            directives.push((path.to_owned(), level));
        }
        if directives.is_empty() {
            return Err(refused(filter));
        }
        directives.sort_by_key(|(path, _)| std::cmp::Reverse(path.len()));
        Ok(Self { directives })
    }

    /// The level for records of `module`.
    fn level(&self, module: &str) -> LevelFilter {
        self.directives
            .iter()
            .find(|(path, _)| covers(path, module))
            .map_or(LevelFilter::Off, |(_, level)| *level)
    }

    /// The most verbose level of all directives.
    fn max(&self) -> LevelFilter {
        self.directives.iter().map(|(_, level)| *level).max().unwrap_or(LevelFilter::Off)
    }
}

impl std::fmt::Display for Filter {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (nth, (path, level)) in self.directives.iter().enumerate() {
            let comma = if nth == 0 { "" } else { "," };
            let level = level.as_str().to_ascii_lowercase();
            match path.as_str() {
                "" => write!(formatter, "{comma}{level}")?,
                path => write!(formatter, "{comma}{path}={level}")?,
            }
        }
        Ok(())
    }
}

/// True if `path` is `module` or one of the modules around it.
fn covers(path: &str, module: &str) -> bool {
    module.strip_prefix(path).is_some_and(|rest| path.is_empty() || rest.is_empty() || rest.starts_with("::"))
}

/// A line has less bytes than that, so that a pipe takes it in one piece (POSIX's PIPE_BUF).
const LINE_BYTES_MAX: usize = 4096;

/// Lines of one process in a second at most, until the configuration says otherwise: the rest is counted, and told.
const RATE_DEFAULT: u32 = 5_000;

struct Logger {
    pid: u32,
    filter: RwLock<Filter>,
    tag: String,
    colored: bool,
    /// Lines in a second at most (`max_log_rate`).
    rate: AtomicU32,
    /// Lines lost since the process began.
    lost: AtomicU64,
    writer: RwLock<Writer>,
}

/// Where lines go. None waits: what cannot be written at once is lost, and the next line that can be says so.
struct Writer {
    sink: LogSink,
    /// Of a line of which a connection took a part.
    rest: Vec<u8>,
    /// Lines lost since the last one that was written.
    lost: u64,
    /// The second that is counted.
    second: u64,
    /// Lines in it.
    lines: u32,
}

impl Writer {
    fn new(sink: LogSink) -> Self {
        Self { sink, rest: Vec::new(), lost: 0, second: 0, lines: 0 }
    }

    /// Writes a line, or counts it as lost. `told` makes the line that tells of lost ones. True if none was lost.
    fn write(&mut self, line: &str, (second, rate): (u64, u32), told: impl FnOnce(u64) -> String) -> bool {
        if second != self.second {
            (self.second, self.lines) = (second, 0);
        }
        self.lines = self.lines.saturating_add(1);
        let written =
            self.lines <= rate && self.put_rest() && self.tell_lost(told) && self.put(line.as_bytes());
        self.lost += u64::from(!written);
        written
    }

    /// Says how many lines were lost, if any were. False if not even that was taken.
    fn tell_lost(&mut self, told: impl FnOnce(u64) -> String) -> bool {
        let taken = self.lost == 0 || self.put(told(self.lost).as_bytes());
        if taken {
            self.lost = 0;
        }
        taken
    }

    fn put_rest(&mut self) -> bool {
        let rest = std::mem::take(&mut self.rest);
        rest.is_empty() || self.put(&rest)
    }

    /// True if all of it was taken, or what is left will be.
    fn put(&mut self, bytes: &[u8]) -> bool {
        match self.sink.write(bytes) {
            Written::Bytes(count) => {
                if let Some(left) = bytes.get(count..).filter(|left| !left.is_empty()) {
                    self.rest = left.to_vec();
                }
                true
            }
            Written::Nothing | Written::Refused | Written::Broken => false,
        }
    }
}

static LOGGER: OnceLock<Logger> = OnceLock::new();

/// Installs the logger of this process. A second call changes nothing but the filter. Colours are for a standard output.
pub(crate) fn install(filter: Filter, target: &LogTarget, colored: bool, tag: &str) -> Result<(), String> {
    let sink = target.open()?.into_sink();
    let logger = LOGGER.get_or_init(|| Logger {
        pid: std::process::id(),
        filter: RwLock::new(filter.clone()),
        tag: tag.to_owned(),
        colored: colored && *target == LogTarget::Stdout,
        rate: AtomicU32::new(RATE_DEFAULT),
        lost: AtomicU64::new(0),
        writer: RwLock::new(Writer::new(sink)),
    });
    // Fails only if a logger is installed already, which then is this one.
    let _already = log::set_logger(logger);
    set_filter(filter);
    Ok(())
}

/// Writes there from now on.
pub(crate) fn set_sink(sink: LogSink) {
    let Some(logger) = LOGGER.get() else { return };
    let mut writer = match logger.writer.write() {
        Ok(writer) => writer,
        Err(poisoned) => poisoned.into_inner(),
    };
    let lost = writer.lost;
    *writer = Writer { lost, ..Writer::new(sink) };
}

/// Writes no more than so many lines in a second from now on.
pub(crate) fn set_rate(rate: u32) {
    if let Some(logger) = LOGGER.get() {
        logger.rate.store(rate, Ordering::Relaxed);
    }
}

/// Lines that were lost since the process began.
pub(crate) fn lost() -> u64 {
    LOGGER.get().map_or(0, |logger| logger.lost.load(Ordering::Relaxed))
}

/// Changes what is logged from now on.
pub(crate) fn set_filter(filter: Filter) {
    let Some(logger) = LOGGER.get() else { return };
    log::set_max_level(filter.max());
    match logger.filter.write() {
        Ok(mut current) => *current = filter,
        Err(poisoned) => *poisoned.into_inner() = filter,
    }
}

/// The filter asked for by the environment's `RUST_LOG`, which goes before the configured one.
pub(crate) fn filter_from_environment() -> Option<Result<Filter, FilterError>> {
    #[expect(clippy::disallowed_methods, reason = "RUST_LOG belongs to the process that logs")]
    let filter = std::env::var("RUST_LOG").ok()?;
    (!filter.trim().is_empty()).then(|| Filter::parse(&filter))
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let level = match self.filter.read() {
            Ok(filter) => filter.level(metadata.target()),
            Err(poisoned) => poisoned.into_inner().level(metadata.target()),
        };
        metadata.level() <= level
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let since_epoch = wall_clock();
        let nanos = since_epoch.as_nanos();
        let mut line = String::with_capacity(160);
        write_line(&mut line, (nanos, self.pid, &self.tag), self.colored, record.level(), record.args());
        let told = |lost: u64| {
            let mut line = String::new();
            let message =
                format_args!("{lost} lines were lost: too many in a second, or the log did not take them");
            write_line(&mut line, (nanos, self.pid, &self.tag), self.colored, Level::Warn, &message);
            line
        };
        let mut writer = match self.writer.write() {
            Ok(writer) => writer,
            Err(poisoned) => poisoned.into_inner(),
        };
        if !writer.write(&line, (since_epoch.as_secs(), self.rate.load(Ordering::Relaxed)), told) {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn flush(&self) {}
}

/// What somebody else has said may be in a message: no control character gets out, and it has its bound.
fn write_line(
    line: &mut String,
    (nanos, pid, tag): (u128, u32, &str),
    colored: bool,
    level: Level,
    message: &Arguments<'_>,
) {
    let (before, after) = match level {
        _ if !colored => ("", ""),
        Level::Error => ("\x1b[31m", "\x1b[0m"),
        Level::Warn => ("\x1b[33m", "\x1b[0m"),
        Level::Info => ("\x1b[32m", "\x1b[0m"),
        Level::Debug | Level::Trace => ("\x1b[34m", "\x1b[0m"),
    };
    // Writing to a String cannot fail.
    let _infallible = write!(line, "{} {nanos} {pid} {before}{level}{after} {tag}\t", Rfc3339(nanos));
    let _infallible = write!(Escaped(line), "{message}");
    line.push('\n');
}

/// Escapes control characters, and cuts what is too long.
struct Escaped<'a>(&'a mut String);

impl std::fmt::Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        for character in text.chars() {
            if self.0.len() > LINE_BYTES_MAX - 16 {
                self.0.push('…');
                return Err(std::fmt::Error);
            }
            if character.is_control() && character != '\t' {
                self.0.extend(character.escape_default());
            } else {
                self.0.push(character);
            }
        }
        Ok(())
    }
}

/// The time since the epoch.
#[expect(clippy::disallowed_methods, reason = "a line of a log carries the time it was written")]
pub(crate) fn wall_clock() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// A time since the epoch, as `2026-01-31T23:59:59.123456Z` (RFC 3339).
pub(crate) fn rfc3339(since_epoch: Duration) -> String {
    Rfc3339(since_epoch.as_nanos()).to_string()
}

/// Nanoseconds since the epoch, shown as `2026-01-31T23:59:59.123456Z`.
pub(crate) struct Rfc3339(pub(crate) u128);

impl std::fmt::Display for Rfc3339 {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let micros = self.0 / 1_000;
        let seconds = micros / 1_000_000;
        let (days, second) = (seconds / 86_400, seconds % 86_400);
        let (year, month, day) = civil_from_days(days);
        let (hour, minute) = (second / 3_600, second / 60 % 60);
        let (second, micros) = (second % 60, micros % 1_000_000);
        write!(formatter, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
    }
}

/// Year, month and day of a count of days since 1970-01-01. The year is taken to begin in March, so
/// that the leap day is its last (Hinnant, "chrono-compatible low-level date algorithms").
fn civil_from_days(days: u128) -> (u128, u128, u128) {
    const DAYS_PER_ERA: u128 = 146_097; // 400 years
    let shifted = days + 719_468; // days since 0000-03-01
    let era = shifted / DAYS_PER_ERA;
    let day_of_era = shifted % DAYS_PER_ERA;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = year_of_era + era * 400 + u128::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_level(filter: &str, module: &str, expected: LevelFilter) {
        assert_eq!(Filter::parse(filter).unwrap().level(module), expected, "{filter} for {module}");
    }

    #[test]
    fn the_longest_path_decides() {
        check_level("info", "kakehi::main_process", LevelFilter::Info);
        check_level("info,kakehi_lib::session=debug", "kakehi_lib::session::http", LevelFilter::Debug);
        check_level("info,kakehi_lib::session=debug", "kakehi_lib::sessions", LevelFilter::Info);
        check_level("kakehi_lib=warn,kakehi_lib::net=trace", "kakehi_lib::net", LevelFilter::Trace);
        check_level("kakehi_lib=warn", "kakehi::cli", LevelFilter::Off);
        check_level("info,kakehi_lib::net", "kakehi_lib::net", LevelFilter::Trace);
        check_level("info, warn", "kakehi", LevelFilter::Warn);
        check_level("OFF", "kakehi", LevelFilter::Off);
    }

    #[test]
    fn a_filter_reads_back_as_it_is_shown() {
        for text in ["info", "warn,kakehi_lib::net=trace,kakehi=off"] {
            let filter = Filter::parse(text).unwrap();
            assert_eq!(Filter::parse(&filter.to_string()).unwrap(), filter);
        }
    }

    #[test]
    fn what_is_not_a_filter_is_refused() {
        for filter in ["", "loud", "info,kakehi=loud", ","] {
            assert!(Filter::parse(filter).is_err(), "{filter:?}");
        }
    }

    #[test]
    fn times_are_rfc_3339() {
        let check = |nanos: u128, expected: &str| assert_eq!(Rfc3339(nanos).to_string(), expected);
        check(0, "1970-01-01T00:00:00.000000Z");
        check(951_782_400_000_000_000, "2000-02-29T00:00:00.000000Z");
        check(1_735_689_599_999_999_999, "2024-12-31T23:59:59.999999Z");
        check(1_740_787_200_000_001_000, "2025-03-01T00:00:00.000001Z");
    }

    #[test]
    fn a_line_has_its_six_parts() {
        let line = |colored, message: &Arguments<'_>| {
            let mut line = String::new();
            write_line(&mut line, (1_000_000_000, 42, "MAIN"), colored, Level::Info, message);
            line
        };
        assert_eq!(
            line(false, &format_args!("hello")),
            "1970-01-01T00:00:01.000000Z 1000000000 42 INFO MAIN\thello\n"
        );
        assert!(line(true, &format_args!("hello")).contains(" \x1b[32mINFO\x1b[0m MAIN"));
        assert!(line(false, &format_args!("a\nb\x1b[0m")).ends_with("MAIN\ta\\nb\\u{1b}[0m\n"));
        let long = "é".repeat(5_000);
        let cut = line(false, &format_args!("{long}"));
        assert!(cut.len() < LINE_BYTES_MAX && cut.ends_with("é…\n"), "{}", cut.len());
    }

    #[test]
    fn a_full_pipe_loses_lines_and_tells_of_them() {
        let (mut reader, pipe) = io::pipe().unwrap();
        let file = std::fs::File::from(std::os::fd::OwnedFd::from(pipe));
        let mut writer = Writer::new(LogSink::Pipe { file, shared: true });
        let line = format!("{}\n", "x".repeat(1_023));
        for _ in 0..100 {
            writer.write(&line, (1, RATE_DEFAULT), |lost| format!("lost {lost}\n"));
            if writer.lost == 10 {
                break;
            }
        }
        assert_eq!(writer.lost, 10, "the pipe holds 64 lines");
        io::Read::read_exact(&mut reader, &mut vec![0; 32 * 1024]).unwrap();
        writer.write(&line, (1, RATE_DEFAULT), |lost| format!("lost {lost}\n"));
        assert_eq!(writer.lost, 0);
        writer.lines = 0;
        let written = (0..100).filter(|_| writer.write("", (1, 70), |_| String::new())).count();
        assert_eq!((written, writer.lost), (70, 30), "so many in a second are too many");
        assert!(writer.write("", (2, 70), |_| String::new()));
        assert_eq!(writer.lost, 0);
    }
}
