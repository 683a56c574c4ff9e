//! Custom answers: texts of the file, or of files that it names.
//!
//! As in Sōzu, a relative path starts at the current directory of whoever reads the configuration, not at
//! the configuration's own.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::Path;

use super::diagnostic::Diagnostics;
use super::file::Section;
use crate::order::ANSWER_BYTES_MAX;
use crate::proto;

/// How an answer's file becomes text.
pub(super) type ReadAnswer<'a> = &'a dyn Fn(&Path) -> io::Result<String>;

/// Reads the answers of a section.
#[derive(Clone, Copy)]
pub(super) struct Answers<'a> {
    pub(super) read: ReadAnswer<'a>,
}

impl Answers<'_> {
    /// `answers`: a text, or `file://PATH`, for each status.
    pub(super) fn newer(
        self,
        section: &Section<'_>,
        diagnostics: &mut Diagnostics,
    ) -> BTreeMap<String, String> {
        let mut answers = BTreeMap::new();
        for (code, value) in section.text_map("answers").filter(|(_, value)| !value.is_empty()) {
            let text = match value.strip_prefix("file://") {
                None => value.to_owned(),
                Some(path) => match (self.read)(Path::new(path)) {
                    Ok(text) => text,
                    Err(error) => {
                        let key = format!("{}.{code}", section.key_path("answers"));
                        diagnostics.error(section.place_of("answers"), key, unreadable(path, &error));
                        continue;
                    }
                },
            };
            answers.insert(code.to_owned(), text);
        }
        answers
    }

    /// `answer_NNN` of a listener: files.
    pub(super) fn older(
        self,
        section: &Section<'_>,
        diagnostics: &mut Diagnostics,
    ) -> Option<proto::CustomHttpAnswers> {
        let mut read = |name: &str| {
            let path = section.text(name).filter(|path| !path.is_empty())?;
            let text = (self.read)(Path::new(path));
            text.map_err(|error| {
                diagnostics.error(section.place_of(name), section.key_path(name), unreadable(path, &error));
            })
            .ok()
        };
        let answers = proto::CustomHttpAnswers {
            answer_301: read("answer_301"),
            answer_400: read("answer_400"),
            answer_401: read("answer_401"),
            answer_404: read("answer_404"),
            answer_408: read("answer_408"),
            answer_413: read("answer_413"),
            answer_421: read("answer_421"),
            answer_429: read("answer_429"),
            answer_502: read("answer_502"),
            answer_503: read("answer_503"),
            answer_504: read("answer_504"),
            answer_507: read("answer_507"),
        };
        (answers != proto::CustomHttpAnswers::default()).then_some(answers)
    }

    /// `answer_503` of a cluster. Sōzu goes on without it if it cannot be read; so do we, and say so.
    pub(super) fn of_cluster(self, section: &Section<'_>, diagnostics: &mut Diagnostics) -> Option<String> {
        let name = "answer_503";
        let path = section.text(name).filter(|path| !path.is_empty())?;
        match (self.read)(Path::new(path)) {
            Ok(text) => Some(text),
            Err(error) => {
                let text = format!("{}: the listener's answer is sent", unreadable(path, &error));
                diagnostics.warning(section.place_of(name), section.key_path(name), text);
                None
            }
        }
    }
}

pub(super) fn unreadable(path: &str, error: &io::Error) -> String {
    format!("\"{}\" cannot be read: {error}", path.escape_debug())
}

/// Reads a file, as far as an answer may be long. Never waits, as a pipe could make one.
pub(super) fn read_file(path: &Path) -> io::Result<String> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut text = String::new();
    // One byte more tells "too long" from "as long as allowed"; the order's own checks say which.
    let limit = ANSWER_BYTES_MAX as u64 + 1;
    let file = std::fs::File::open(path)?;
    match file.take(limit).read_to_string(&mut text) {
        Ok(_) => Ok(text),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            Err(io::Error::other("it is not UTF-8 text"))
        }
        Err(error) => Err(error),
    }
}
