//! `logs`: access logs in JSON, one record a line, chosen by JSONPath. Needs no running proxy.
//!
//! [`lines`] reads in constant memory, [`record`] looks at the members that are asked for, [`filter`] decides what can
//! be decided by them, [`select`] has the library decide the rest and writes; [`follow`] goes on at the end of a file.

mod filter;
mod follow;
mod lines;
mod record;
mod scalar;
mod select;

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufWriter, Read, StdoutLock, Write};
use std::path::{Path, PathBuf};

use super::{CliError, Globals};

use follow::{Followed, News};
use lines::{Line, Lines};
use select::{BadLine, Outcome, Selection};

/// Bytes of output that are written at a time.
const OUTPUT_BYTES: usize = 64 * 1024;

/// Longest line, in bytes, unless set. An access log record has a few hundred.
const LINE_BYTES_DEFAULT: u32 = 1 << 20;

/// Arguments of `logs`.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Each line is an object: `time`, `status`, `host`, `path`, `cluster`, `backend`, `request_time_us` and so \
                  on. The query is asked of an array that holds the record; what it leads to is printed, records as \
                  they came. Lines that are no JSON objects are counted and told on standard error.\n\n\
                  Examples:\n  \
                  kakehi logs '$[?@.status >= 500 && @.cluster == \"x\"]' access.log --fields time,host,path\n  \
                  kakehi logs '$[?search(@.path, \"^/admin\")]' --follow access.log\n  \
                  zcat access.log.1.gz | kakehi logs '$[?@.tags.owner == \"ada\"].request_id'"
)]
pub(super) struct Logs {
    /// JSONPath (RFC 9535) of what is shown, such as '$[?@.status >= 500]' [default: everything]
    #[arg(value_name = "QUERY")]
    query: Option<OsString>,
    /// The log; `-` is standard input [default: -]
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// Show these members alone, separated by tabs, or with --json as an object; `tags.owner` is one of `tags`
    #[arg(short = 'F', long, value_name = "A,B", value_delimiter = ',')]
    fields: Vec<String>,
    /// Go on at the end of the file as it grows, also when it is rotated or truncated
    #[arg(short, long)]
    follow: bool,
    /// Leave out what is in the file already
    #[arg(short, long, requires = "follow")]
    new: bool,
    /// Longest line, in bytes; a longer one is counted as bad
    #[arg(long, value_name = "BYTES", default_value_t = LINE_BYTES_DEFAULT, value_parser = clap::value_parser!(u32).range(1..=1 << 30))]
    max_line: u32,
}

impl Logs {
    /// Reads, chooses and prints, until the end of the file if there is one.
    pub(super) fn run(self, globals: &Globals) -> Result<(), CliError> {
        let (query, file) = self.query_and_file()?;
        let selection = Selection::new(query.as_deref(), &self.fields, globals.json)?;
        let mut reading = Reading::new(selection, self.max_line as usize);
        match file {
            None if self.follow => Err(CliError::Unusable(
                "--follow needs a FILE; standard input is followed as it is".to_owned(),
            )),
            None => reading.read(&mut io::stdin().lock(), Path::new("standard input"))?.end(),
            Some(path) if self.follow => {
                let unusable = |error| CliError::File { path: path.clone(), error };
                let mut source = Followed::open(&path, self.new).map_err(unusable)?;
                reading.tells_at_once = true;
                loop {
                    reading.read(&mut source, &path)?;
                    match source.wait().map_err(unusable)? {
                        News::Grown => {}
                        News::Truncated => {
                            reading.lines = Lines::new(self.max_line as usize);
                            tell(&format!("{} was truncated: it is read from its beginning", path.display()));
                        }
                        News::Rotated => reading.rest()?,
                    }
                }
            }
            Some(path) => {
                let mut source =
                    File::open(&path).map_err(|error| CliError::File { path: path.clone(), error })?;
                reading.read(&mut source, &path)?.end()
            }
        }
    }

    /// Queries begin with a `$`: one that does not is the file.
    fn query_and_file(&self) -> Result<(Option<String>, Option<PathBuf>), CliError> {
        let is_query = |text: &OsString| text.to_str().is_some_and(|text| text.trim_start().starts_with('$'));
        let (query, file) = match (&self.query, &self.file) {
            (Some(only), None) if !is_query(only) => (None, Some(PathBuf::from(only))),
            (Some(query), file) if is_query(query) => (query.to_str().map(str::to_owned), file.clone()),
            (None, file) => (None, file.clone()),
            (Some(query), _) => {
                return Err(CliError::Unusable(format!(
                    "`{}` is not a JSONPath: it begins with `$`, as in $[?@.status >= 500]",
                    query.display()
                )));
            }
        };
        Ok((query, file.filter(|file| file != Path::new("-"))))
    }
}

/// A run over one source, or one after the other.
struct Reading {
    selection: Selection,
    lines: Lines,
    line_bytes_max: usize,
    out: BufWriter<StdoutLock<'static>>,
    /// Lines so far, empty ones included.
    count: u64,
    bad: u64,
    /// The first of them, with what is wrong with it.
    first_bad: Option<(u64, BadLine)>,
    /// There may be no end at which to tell of bad lines.
    tells_at_once: bool,
}

impl Reading {
    fn new(selection: Selection, line_bytes_max: usize) -> Self {
        Self {
            selection,
            lines: Lines::new(line_bytes_max),
            line_bytes_max,
            out: BufWriter::with_capacity(OUTPUT_BYTES, io::stdout().lock()),
            count: 0,
            bad: 0,
            first_bad: None,
            tells_at_once: false,
        }
    }

    /// Reads all there is, up to the last line feed.
    fn read(&mut self, source: &mut impl Read, name: &Path) -> Result<&mut Self, CliError> {
        loop {
            while let Some(line) = self.lines.next() {
                let told = tell_of(&self.selection, &line, self.line_bytes_max, &mut self.out)?;
                count(told, &mut self.count, &mut self.bad, &mut self.first_bad, self.tells_at_once);
            }
            // Nobody waits for what has been found, however long the next read takes.
            self.out.flush().map_err(CliError::Print)?;
            let filled = self.lines.fill(source);
            if filled.map_err(|error| CliError::File { path: name.to_owned(), error })? == 0 {
                return Ok(self);
            }
        }
    }

    /// The last line of a source that has ended without a line feed.
    fn rest(&mut self) -> Result<(), CliError> {
        if let Some(line) = self.lines.rest() {
            let told = tell_of(&self.selection, &line, self.line_bytes_max, &mut self.out)?;
            count(told, &mut self.count, &mut self.bad, &mut self.first_bad, self.tells_at_once);
        }
        self.out.flush().map_err(CliError::Print)
    }

    /// All was read.
    fn end(&mut self) -> Result<(), CliError> {
        self.rest()?;
        if let Some((number, why)) = &self.first_bad {
            let (bad, count) = (self.bad, self.count);
            let were = if bad == 1 { "line was" } else { "lines were" };
            tell(&format!("{bad} {were} left out, of {count}; the first is line {number}: {why}"));
        }
        Ok(())
    }
}

/// Writes what is chosen of a line; blank ones are nothing.
fn tell_of(
    selection: &Selection,
    line: &Line<'_>,
    line_bytes_max: usize,
    out: &mut impl Write,
) -> Result<Option<BadLine>, CliError> {
    Ok(match line {
        Line::TooLong => Some(BadLine::TooLong(line_bytes_max)),
        Line::Whole(line) if line.trim_ascii().is_empty() => None,
        Line::Whole(line) => match selection.write(line, out).map_err(CliError::Print)? {
            Outcome::Bad(why) => Some(why),
            Outcome::Chosen | Outcome::Left => None,
        },
    })
}

fn count(
    bad: Option<BadLine>,
    count: &mut u64,
    bad_count: &mut u64,
    first: &mut Option<(u64, BadLine)>,
    tells_at_once: bool,
) {
    *count += 1;
    let Some(why) = bad else { return };
    *bad_count += 1;
    // Ever more seldom: a log that is no log would fill the screen.
    if tells_at_once && bad_count.is_power_of_two() {
        tell(&format!("line {count} is left out, the {bad_count}. of such: {why}"));
    }
    first.get_or_insert((*count, why));
}

fn tell(text: &str) {
    // With standard error gone there is nobody left to tell.
    let _unprinted = writeln!(io::stderr(), "{text}");
}
