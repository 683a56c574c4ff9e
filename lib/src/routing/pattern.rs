//! Regular expressions of rules: in labels of hosts, and as whole paths.

use std::cmp::Reverse;

use kakehi_command::order::{HostPattern, HostSegment, REGEX_COMPILED_BYTES_MAX};
use regex::bytes::{Regex, RegexBuilder};

use super::RouteError;
use super::host::Host;

/// Most bytes a compiled expression may take here. `order` has applied its own limit to the source as it
/// is; anchored and without regard to case it takes a few times as much (`k` is four bytes in three
/// spellings), and what was accepted there must not be refused here.
const COMPILED_BYTES_MAX: usize = 16 * REGEX_COMPILED_BYTES_MAX;

/// Deepest nesting of groups: the engine's default, which `order` applies, and room for our own.
const NESTING_MAX: u32 = 250 + 6;

/// Most bytes of states that an expression keeps from one match to the next. The engine's default, 2 MiB,
/// would let ten thousand expressions take 20 GB.
const CACHE_BYTES_MAX: usize = 128 * 1024;

/// Compiles an expression that has to match the whole of what it is applied to.
///
/// `order` has compiled the same source, without the anchors: it gets here only if it is well-formed by
/// itself, so the anchors cannot be escaped from.
pub(crate) fn compile(source: &str, case: Case) -> Result<Regex, RouteError> {
    // The line break ends a comment, which the source may end with in verbose mode (`(?x)a #`). It is
    // not matched there, and the group keeps the mode from what follows.
    let anchored = |end| format!(r"\A(?:{source}{end})\z");
    let build = |pattern: String| {
        RegexBuilder::new(&pattern)
            .case_insensitive(matches!(case, Case::Ignored))
            .size_limit(COMPILED_BYTES_MAX)
            .nest_limit(NESTING_MAX)
            .dfa_size_limit(CACHE_BYTES_MAX)
            .build()
    };
    build(anchored(""))
        .or_else(|_| build(anchored("\n")))
        .map_err(|_| RouteError::Expression { expression: source.to_owned() })
}

/// Whether case counts.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Case {
    /// As in paths.
    Counts,
    /// As in hosts.
    Ignored,
}

/// A host pattern of labels and expressions, compiled. It matches hosts of as many labels only.
#[derive(Debug)]
pub(super) struct HostExpression {
    segments: Vec<Segment>,
}

#[derive(Debug)]
enum Segment {
    Literal(Box<[u8]>),
    Expression(Regex),
}

impl HostExpression {
    pub(super) fn compile(pattern: &HostPattern) -> Result<Self, RouteError> {
        let segment = |segment| match segment {
            HostSegment::Literal(label) => Ok(Segment::Literal(label.as_bytes().into())),
            HostSegment::Regex(source) => compile(source, Case::Ignored).map(Segment::Expression),
        };
        Ok(Self { segments: pattern.segments().map(segment).collect::<Result<_, _>>()? })
    }

    pub(super) fn matches(&self, host: Host<'_>) -> bool {
        let mut labels = host.labels();
        let fits = self.segments.iter().all(|segment| {
            labels.next().is_some_and(|label| match segment {
                Segment::Literal(literal) => **literal == *label,
                // No host has an empty label; `.*` is not asked what it thinks of one.
                Segment::Expression(regex) => !label.is_empty() && regex.is_match(label),
            })
        });
        fits && labels.next().is_none()
    }
}

/// The literal labels at the end of a pattern: what the end of a host has to be for it to match.
pub(super) fn literal_suffix(pattern: &HostPattern) -> String {
    let mut suffix: Vec<&str> = Vec::new();
    for segment in pattern.segments() {
        match segment {
            HostSegment::Literal(label) => suffix.push(label),
            HostSegment::Regex(_) => suffix.clear(),
        }
    }
    suffix.join(".")
}

/// Where a pattern stands among those that match the same host: least first.
///
/// From right to left, a literal label is more specific than an expression. After that the longer text
/// goes first, and at last the alphabet decides, so that the order of insertion does not.
pub(super) fn specificity(pattern: &HostPattern, text: &str) -> (u128, Reverse<usize>, Box<str>) {
    // A host of 253 bytes has at most 127 labels: one bit each, the rightmost label's on top.
    let expressions = pattern.segments().fold(0u128, |bits, segment| {
        (bits >> 1) | (u128::from(matches!(segment, HostSegment::Regex(_))) << 127)
    });
    (expressions, Reverse(text.len()), text.into())
}

#[cfg(test)]
mod tests {
    use kakehi_command::order::PathRule;
    use kakehi_command::proto::{self, PathRuleKind};
    use proptest::prelude::*;

    use super::*;

    fn pattern(text: &str) -> HostPattern {
        HostPattern::parse(text).expect("a pattern")
    }

    #[test]
    fn each_expression_matches_one_whole_label() {
        let check = |text: &str, host: &str, expected: bool| {
            let expression = HostExpression::compile(&pattern(text)).expect("it compiles");
            Host::with_lower(host.as_bytes(), |lower| {
                assert_eq!(expression.matches(lower), expected, "{text} and {host}");
            });
        };
        check("/a+/.test", "AAA.Test", true);
        check("/A+/.test", "aaa.test", true);
        check("/a+/.test", "aab.test", false);
        check("/a+/.test", "baa.test", false);
        check("/a|b/.test", "b.test", true);
        check("/a|b/.test", "bc.test", false);
        check("/.*/.test", "a.b.test", false);
        check("/.*/.test", ".test", false);
        check("/.*/", "", false);
        check("/.*/.test", "test", false);
        check("x./[0-9]+/.test", "x.7.test", true);
        check("x./[0-9]+/.test", "y.7.test", false);
        check("/a/", "a", true);
        check("/a/", "a.", false);
        check("/(?x)a # comment/.test", "a.test", true);
        check("/(?x)a # comment/.test", "ab.test", false);
    }

    #[test]
    fn paths_keep_their_case() {
        let regex = compile("/a.*", Case::Counts).expect("it compiles");
        assert!(regex.is_match(b"/abc") && !regex.is_match(b"/ABC") && !regex.is_match(b"x/abc"));
        assert!(!regex.is_match(b"/abc\n/"), "a line break ends nothing");
    }

    #[test]
    fn broken_expressions_are_told() {
        let expected = Err(RouteError::Expression { expression: "(".to_owned() });
        assert_eq!(compile("(", Case::Counts).map(|_| ()), expected);
    }

    #[test]
    fn suffixes_are_the_labels_after_the_last_expression() {
        let check = |text: &str, suffix: &str| assert_eq!(literal_suffix(&pattern(text)), suffix, "{text}");
        check("/a/.b.c", "b.c");
        check("a./b/.c./d/.e", "e");
        check("a./b/", "");
    }

    #[test]
    fn the_most_specific_pattern_is_the_least() {
        let check = |first: &str, second: &str| {
            assert!(
                specificity(&pattern(first), first) < specificity(&pattern(second), second),
                "{first} {second}"
            );
        };
        check("/a/.b.c", "/a/./b/.c");
        check("/a/.b.c", "a./b/.c");
        check("a./b/.c", "/a/./b/.c");
        check("/aa/.c", "/b/.c");
        check("/a/.c", "/b/.c");
    }

    fn is_accepted(source: &str) -> bool {
        PathRule::from_wire(&proto::PathRule { kind: PathRuleKind::Regex.into(), value: source.into() })
            .is_ok()
    }

    #[test]
    fn what_an_order_may_carry_compiles_at_the_limits() {
        let check = |accepted: &dyn Fn(usize) -> String| {
            let (mut fits, mut too_much) = (1, 1 << 13);
            while too_much - fits > 1 {
                let middle = usize::midpoint(fits, too_much);
                if is_accepted(&accepted(middle)) { fits = middle } else { too_much = middle }
            }
            for case in [Case::Counts, Case::Ignored] {
                assert!(compile(&accepted(fits), case).is_ok(), "{fits} {case:?}");
            }
        };
        check(&|n| format!("k{{{n}}}"));
        check(&|n| format!(r"\w{{{n}}}"));
        check(&|n| format!("{}a{}", "(".repeat(n), ")".repeat(n)));
    }

    proptest! {
        /// A worker that refused what the main process accepted would be replaced, over and over.
        #[test]
        fn what_an_order_accepts_compiles(source in r"([ab#|*+?.\n ^$-]|\(|\)|\[|\]|\{2\}|\(\?[xism]+[:)]|\\[a-zA-Z]){0,10}") {
            if is_accepted(&source) {
                prop_assert!(compile(&source, Case::Counts).is_ok());
                prop_assert!(compile(&source, Case::Ignored).is_ok());
            }
        }
    }
}
