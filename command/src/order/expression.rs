//! Regular expressions of hosts and paths: compiled in one way by whoever checks and whoever matches,
//! so that what main accepts no worker has to refuse.

use regex::bytes::{Regex, RegexBuilder};

/// Most bytes that one compiled expression of a host or a path may take.
///
/// A worker holds every expression compiled, and building one must not stall its loop.
pub const REGEX_COMPILED_BYTES_MAX: usize = 256 * 1024;

/// Whether case counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    /// As in paths.
    Counts,
    /// As in hosts.
    Ignored,
}

/// Compiles an expression that has to match the whole of what it is applied to.
///
/// # Errors
/// Why it cannot be used, as a predicate: "has an expression that does not compile: ...".
pub fn compile_expression(source: &str, case: Case) -> Result<Regex, String> {
    // By itself first: `a)|(b` is well-formed only between the parentheses of the anchored form.
    build(source, case)?;
    // The line break ends a comment, with which the source may end in verbose mode (`(?x)a #`); nothing
    // else needs it, and outside that mode it would be matched.
    build(&format!(r"\A(?:{source})\z"), case).or_else(|_| build(&format!("\\A(?:{source}\n)\\z"), case))
}

fn build(pattern: &str, case: Case) -> Result<Regex, String> {
    let mut builder = RegexBuilder::new(pattern);
    builder.case_insensitive(case == Case::Ignored).size_limit(REGEX_COMPILED_BYTES_MAX);
    builder.build().map_err(|error| match error {
        regex::Error::CompiledTooBig(max) => {
            format!("has an expression that does not compile: it takes more than {max} bytes")
        }
        // The parser's text repeats the expression and draws below it; its last line is the reason.
        error => {
            let text = error.to_string();
            let reason = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
            format!("has an expression that does not compile: {reason}")
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(source: &str, case: Case, matched: &[&str], passed_over: &[&str]) {
        let expression = compile_expression(source, case).expect("compiles");
        for text in matched {
            assert!(expression.is_match(text.as_bytes()), "{source} matches {text}");
        }
        for text in passed_over {
            assert!(!expression.is_match(text.as_bytes()), "{source} does not match {text}");
        }
    }

    fn check_refused(source: &str, reason: &str) {
        let error = compile_expression(source, Case::Ignored).expect_err("refused");
        assert!(error.contains(reason) && error.len() < 200, "{error}");
    }

    #[test]
    fn the_whole_text_has_to_match() {
        check("/a|/b", Case::Counts, &["/a", "/b"], &["/ab", "x/a", "/b\n", "/A"]);
        check("app[0-9]+", Case::Ignored, &["app1", "APP23"], &["app", "xapp1"]);
        check("(?x) a # comment", Case::Counts, &["a"], &["a\n", "a # comment"]);
    }

    #[test]
    fn what_would_break_out_or_take_too_much_is_refused() {
        check_refused("a)|(b", "unopened group");
        check_refused("(", "unclosed group");
        check_refused(r"\pL{1000}", "takes more than");
        check_refused(&"(".repeat(8000), "does not compile");
    }
}
