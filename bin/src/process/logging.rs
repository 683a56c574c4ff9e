//! The logger behind the `log` façade: one line per record, to standard output or to a file.
//!
//! Line: `<RFC 3339, microseconds>Z <unix nanoseconds> <pid> <LEVEL> <TAG>\t<message>`. The tag is
//! `MAIN`, `WRK-NN` or `CTL`. Filters are `level` and `module::path=level` directives separated by
//! commas, the longest path that fits a record wins; the environment's `RUST_LOG` goes before the
//! configured filter. Lines are written whole, by one write each, so that processes that append to
//! the same file do not mix them.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::{OnceLock, RwLock};
use std::time::{SystemTime, UNIX_EPOCH};

use log::{LevelFilter, Log, Metadata, Record};

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

/// Where lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// Standard output.
    Stdout,
    /// A file, appended to.
    File(PathBuf),
}

impl Target {
    /// Reads `stdout` or `file://PATH`. Other forms give the text to warn with.
    pub(crate) fn parse(target: &str) -> Result<Self, String> {
        if target == "stdout" {
            return Ok(Self::Stdout);
        }
        match target.strip_prefix("file://") {
            Some("") => Err("log_target: file:// needs a path".to_owned()),
            Some(path) => Ok(Self::File(PathBuf::from(path))),
            None => Err(format!(
                "log_target = {target:?} is not served yet by this version (stdout and file://PATH are): \
                 logs go to standard output"
            )),
        }
    }
}

struct Logger {
    pid: u32,
    filter: RwLock<Filter>,
    tag: String,
    file: Option<File>,
}

static LOGGER: OnceLock<Logger> = OnceLock::new();

/// Installs the logger of this process. A second call changes nothing but the filter.
pub(crate) fn install(filter: Filter, target: &Target, tag: &str) -> io::Result<()> {
    let file = match target {
        Target::Stdout => None,
        Target::File(path) => Some(OpenOptions::new().append(true).create(true).open(path)?),
    };
    let logger = LOGGER.get_or_init(|| Logger {
        pid: std::process::id(),
        filter: RwLock::new(filter.clone()),
        tag: tag.to_owned(),
        file,
    });
    // Fails only if a logger is installed already, which then is this one.
    let _already = log::set_logger(logger);
    set_filter(filter);
    Ok(())
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
        #[expect(clippy::disallowed_methods, reason = "a log line carries the time it was written")]
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut line = String::with_capacity(160);
        write_line(&mut line, since_epoch.as_nanos(), self.pid, &self.tag, record);
        // There is no one left to tell when the log itself cannot be written.
        let _unwritable = match &self.file {
            Some(file) => (&mut &*file).write_all(line.as_bytes()),
            None => io::stdout().lock().write_all(line.as_bytes()),
        };
    }

    fn flush(&self) {}
}

fn write_line(line: &mut String, nanos: u128, pid: u32, tag: &str, record: &Record<'_>) {
    let message = record.args();
    // Writing to a String cannot fail.
    let _infallible = writeln!(line, "{} {nanos} {pid} {} {tag}\t{message}", Rfc3339(nanos), record.level());
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
    fn targets() {
        assert_eq!(Target::parse("stdout"), Ok(Target::Stdout));
        assert_eq!(Target::parse("file:///var/log/k.log"), Ok(Target::File("/var/log/k.log".into())));
        assert!(Target::parse("file://").is_err());
        assert!(Target::parse("udp://127.0.0.1:514").unwrap_err().contains("not served yet"));
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
        let mut line = String::new();
        let record =
            Record::builder().args(format_args!("hello")).level(log::Level::Info).target("kakehi").build();
        write_line(&mut line, 1_000_000_000, 42, "MAIN", &record);
        assert_eq!(line, "1970-01-01T00:00:01.000000Z 1000000000 42 INFO MAIN\thello\n");
    }
}
