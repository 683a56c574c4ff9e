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
    // Not a doc comment: rustdoc takes the brackets for a link.
    #[arg(
        value_name = "QUERY",
        help = "JSONPath (RFC 9535) of what is shown, such as '$[?@.status >= 500]' [default: everything]"
    )]
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
        let mut reading = Reading::new(selection, self.max_line as usize, self.follow);
        match file {
            None if self.follow => Err(CliError::Unusable(
                "--follow needs a FILE; standard input is followed as it is".to_owned(),
            )),
            None => reading.read(&mut io::stdin().lock(), Path::new("standard input"))?.end(),
            Some(path) if self.follow => {
                let unusable = |error| CliError::File { path: path.clone(), error };
                let mut source = Followed::open(&path, self.new).map_err(unusable)?;
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
    tally: Tally,
}

/// How many lines there were, and how many of them bad.
#[derive(Default)]
struct Tally {
    /// Empty ones included.
    lines: u64,
    bad: u64,
    /// The first bad one, with what is wrong with it.
    first: Option<(u64, BadLine)>,
    /// There may be no end at which to tell of bad lines.
    tells_at_once: bool,
}

impl Reading {
    fn new(selection: Selection, line_bytes_max: usize, tells_at_once: bool) -> Self {
        Self {
            selection,
            lines: Lines::new(line_bytes_max),
            line_bytes_max,
            out: BufWriter::with_capacity(OUTPUT_BYTES, io::stdout().lock()),
            tally: Tally { tells_at_once, ..Tally::default() },
        }
    }

    /// Reads all there is, up to the last line feed.
    fn read(&mut self, source: &mut impl Read, name: &Path) -> Result<&mut Self, CliError> {
        loop {
            while let Some(line) = self.lines.next() {
                self.tally.add(write_chosen(&self.selection, &line, self.line_bytes_max, &mut self.out)?);
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
            self.tally.add(write_chosen(&self.selection, &line, self.line_bytes_max, &mut self.out)?);
        }
        self.out.flush().map_err(CliError::Print)
    }

    /// All was read.
    fn end(&mut self) -> Result<(), CliError> {
        self.rest()?;
        self.tally.tell();
        Ok(())
    }
}

impl Tally {
    fn add(&mut self, bad: Option<BadLine>) {
        self.lines += 1;
        let Some(why) = bad else { return };
        self.bad += 1;
        // Ever more seldom: a log that is no log would fill the screen.
        if self.tells_at_once && self.bad.is_power_of_two() {
            tell(&format!("line {} is left out, the {}. of such: {why}", self.lines, self.bad));
        }
        self.first.get_or_insert((self.lines, why));
    }

    fn tell(&self) {
        let Some((number, why)) = &self.first else { return };
        let were = if self.bad == 1 { "line was" } else { "lines were" };
        tell(&format!("{} {were} left out, of {}; the first is line {number}: {why}", self.bad, self.lines));
    }
}

/// Writes what is chosen of a line; blank ones are nothing. Gives what is wrong with it, if anything is.
fn write_chosen(
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

fn tell(text: &str) {
    // With standard error gone there is nobody left to tell.
    let _unprinted = writeln!(io::stderr(), "{text}");
}
