//! Files with answers of the operator's own, as flags of `listener http update`.

use std::path::PathBuf;

use kakehi_command::proto::CustomHttpAnswers;

use super::super::{CliError, values};

/// Declares the flags, all optional, under the names of the wire's fields.
macro_rules! answers {
    ($($name:ident: $flag:literal, $help:literal;)*) => {
        /// One flag for each status.
        #[derive(clap::Args, Debug, Default)]
        pub(super) struct Answers {
            $(
                #[doc = $help]
                #[arg(long = $flag, value_name = "FILE")]
                pub(super) $name: Option<PathBuf>,
            )*
        }

        impl Answers {
            /// The files' contents; `None` if no file was given.
            pub(super) fn read(self) -> Result<Option<CustomHttpAnswers>, CliError> {
                let read = |path: Option<PathBuf>| path.as_deref().map(values::file_text).transpose();
                let answers = CustomHttpAnswers { $($name: read(self.$name)?,)* ..Default::default() };
                Ok((answers != CustomHttpAnswers::default()).then_some(answers))
            }
        }
    };
}

answers! {
    answer_301: "answer-301", "A file with the answer 301";
    answer_401: "answer-401", "A file with the answer 401";
    answer_404: "answer-404", "A file with the answer 404";
    answer_408: "answer-408", "A file with the answer 408";
    answer_413: "answer-413", "A file with the answer 413";
    answer_421: "answer-421", "A file with the answer 421";
    answer_429: "answer-429", "A file with the answer 429";
    answer_502: "answer-502", "A file with the answer 502";
    answer_503: "answer-503", "A file with the answer 503";
    answer_504: "answer-504", "A file with the answer 504";
    answer_507: "answer-507", "A file with the answer 507";
}
