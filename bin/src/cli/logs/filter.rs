//! [`Filter`]: what of a JSONPath filter can be decided by looking at a few members.
//!
//! `$[?@.status >= 500 && @.cluster == "x"]` is asked of each line; the library that knows all of RFC 9535 wants the
//! whole line as a tree for that, which costs a few times what reading it costs. So comparisons of members, and
//! their `&&`, `||` and `!`, are decided here, from the text of these members; so are `match` and `search`, whose
//! expressions the library compiles anew each time. Whatever else stands in a filter (other functions, indices,
//! wildcards) is [`Expression::Unknown`] here: where it matters, the library decides. The library has parsed the query
//! before, so that nothing here has to find errors. That both decide alike is a property test; but for `<=` of what is
//! missing, and `>` and `>=` of booleans, nulls and structures, where the library (0.7.2) is not RFC 9535's.

use regex::Regex;

use super::record::{Names, member};
use super::scalar::{Comparison, Scalar};

/// A filter, as far as it is understood here.
#[derive(Debug)]
pub(super) struct Filter {
    expression: Expression,
    /// Whether the query is this filter and nothing else: what passes is the record.
    pub(super) is_whole: bool,
}

#[derive(Debug)]
enum Expression {
    Or(Vec<Expression>),
    And(Vec<Expression>),
    Not(Box<Expression>),
    Exists(Path),
    Compare(Operand, Comparison, Operand),
    Matches(Operand, Regex),
    Unknown,
}

#[derive(Debug)]
enum Operand {
    Path(Path),
    Literal(Scalar<'static>),
}

/// A member, or a member of a member.
#[derive(Debug)]
struct Path {
    place: usize,
    rest: Vec<String>,
}

impl Filter {
    /// Reads a query that the library has accepted; the members it looks at get their places in `names`. None: it is not a
    /// filter of records, such as `$..host`.
    pub(super) fn of(query: &str, names: &mut Names) -> Option<Self> {
        let mut parser = Parser { rest: query, names };
        parser.word("$").then_some(())?;
        parser.word("[").then_some(())?;
        parser.word("?").then_some(())?;
        let expression = parser.or();
        parser.word("]").then_some(())?;
        Some(Self { expression, is_whole: parser.rest.is_empty() })
    }

    /// Whether a record with these members passes; none if the library has to tell.
    pub(super) fn passes(&self, values: &[Option<&serde_json::value::RawValue>]) -> Option<bool> {
        self.expression.holds(values)
    }
}

type Raw<'a, 'l> = &'a [Option<&'l serde_json::value::RawValue>];

impl Expression {
    fn holds(&self, values: Raw<'_, '_>) -> Option<bool> {
        match self {
            Self::Unknown => None,
            Self::Not(inner) => inner.holds(values).map(|holds| !holds),
            Self::Or(parts) => first(parts, values, true),
            Self::And(parts) => first(parts, values, false),
            Self::Exists(path) => Some(path.find(values).is_some()),
            Self::Compare(left, comparison, right) => {
                left.scalar(values).compare(*comparison, &right.scalar(values))
            }
            Self::Matches(operand, expression) => match operand.scalar(values) {
                Scalar::Text(text) => Some(expression.is_match(&text)),
                Scalar::Unknown => None,
                _ => Some(false),
            },
        }
    }
}

/// The `decisive` value if some part has it, else the other one; none if that depends on what is unknown.
fn first(parts: &[Expression], values: Raw<'_, '_>, decisive: bool) -> Option<bool> {
    let mut all_known = true;
    for part in parts {
        match part.holds(values) {
            Some(holds) if holds == decisive => return Some(decisive),
            Some(_) => {}
            None => all_known = false,
        }
    }
    all_known.then_some(!decisive)
}

impl Operand {
    fn scalar<'l>(&'l self, values: Raw<'_, 'l>) -> Scalar<'l> {
        match self {
            Self::Literal(scalar) => scalar.borrowed(),
            Self::Path(path) => path.find(values).map_or(Scalar::Nothing, Scalar::of),
        }
    }
}

impl Path {
    fn find<'l>(&self, values: Raw<'_, 'l>) -> Option<&'l str> {
        let mut text = (*values.get(self.place)?)?.get();
        for name in &self.rest {
            text = member(text, name)?.get();
        }
        Some(text)
    }
}

/// RFC 9535 §2.3.5.1, of what is known to be right.
struct Parser<'q, 'n> {
    rest: &'q str,
    names: &'n mut Names,
}

impl Parser<'_, '_> {
    fn blanks(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\n', '\r']);
    }

    /// Takes `word`, and blanks before it, if it comes next.
    fn word(&mut self, word: &str) -> bool {
        self.blanks();
        match self.rest.strip_prefix(word) {
            Some(rest) => self.rest = rest,
            None => return false,
        }
        true
    }

    fn or(&mut self) -> Expression {
        let mut parts = vec![self.and()];
        while self.word("||") {
            parts.push(self.and());
        }
        if parts.len() == 1 { parts.swap_remove(0) } else { Expression::Or(parts) }
    }

    fn and(&mut self) -> Expression {
        let mut parts = vec![self.basic()];
        while self.word("&&") {
            parts.push(self.basic());
        }
        if parts.len() == 1 { parts.swap_remove(0) } else { Expression::And(parts) }
    }

    fn basic(&mut self) -> Expression {
        if self.word("!") {
            return Expression::Not(Box::new(self.basic()));
        }
        if self.word("(") {
            let inner = self.or();
            self.word(")");
            return inner;
        }
        self.blanks();
        let before = self.rest;
        match self.test() {
            Some(test) if self.is_at_an_end() => test,
            _ => {
                self.rest = before;
                self.skip();
                Expression::Unknown
            }
        }
    }

    fn is_at_an_end(&mut self) -> bool {
        self.blanks();
        ["&&", "||", ")", "]"].iter().any(|end| self.rest.starts_with(end))
    }

    /// Takes what is not understood, up to where another test or the end of the filter follows.
    fn skip(&mut self) {
        let (mut depth, mut quote) = (0_usize, None);
        let mut characters = self.rest.char_indices();
        while let Some((at, character)) = characters.next() {
            match (character, quote) {
                ('\\', Some(_)) => {
                    characters.next();
                }
                (_, Some(open)) => quote = quote.filter(|_| character != open),
                ('\'' | '"', None) => quote = Some(character),
                ('(' | '[', None) => depth += 1,
                (')' | ']', None) if depth > 0 => depth -= 1,
                (')' | ']' | '&' | '|' | ',', None) if depth == 0 => {
                    self.rest = &self.rest[at..];
                    return;
                }
                _ => {}
            }
        }
        self.rest = "";
    }

    fn test(&mut self) -> Option<Expression> {
        for (function, is_whole) in [("match(", true), ("search(", false)] {
            if self.word(function) {
                return self.matches(is_whole);
            }
        }
        let left = self.operand()?;
        let comparison = [
            ("==", Comparison::Equal),
            ("!=", Comparison::NotEqual),
            ("<=", Comparison::AtMost),
            (">=", Comparison::AtLeast),
            ("<", Comparison::Less),
            (">", Comparison::Greater),
        ];
        match comparison.into_iter().find(|(sign, _)| self.word(sign)) {
            Some((_, comparison)) => Some(Expression::Compare(left, comparison, self.operand()?)),
            None => match left {
                Operand::Path(path) => Some(Expression::Exists(path)),
                Operand::Literal(_) => None,
            },
        }
    }

    /// RFC 9535 §2.4.6 and 2.4.7; the expressions of RFC 9485 mean the same to `regex`, with carriage returns counted
    /// as ends of lines. What is none is left to the library.
    fn matches(&mut self, is_whole: bool) -> Option<Expression> {
        let operand = self.operand()?;
        self.word(",").then_some(())?;
        self.blanks();
        let pattern = self.quoted()?;
        self.word(")").then_some(())?;
        let pattern = if is_whole { format!("(?R)^({pattern})$") } else { format!("(?R)({pattern})") };
        Regex::new(&pattern).ok().map(|expression| Expression::Matches(operand, expression))
    }

    fn operand(&mut self) -> Option<Operand> {
        if self.word("@") {
            return self.path().map(Operand::Path);
        }
        let literal = match self.rest.chars().next()? {
            '"' | '\'' => self.quoted().map(|text| Scalar::Text(text.into()))?,
            '-' | '0'..='9' => {
                let is_part = |c: char| c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E' | '+' | '-');
                let end = self.rest.find(|c| !is_part(c)).unwrap_or(self.rest.len());
                let (number, rest) = self.rest.split_at(end);
                self.rest = rest;
                Scalar::number(number)?
            }
            _ => {
                let constants =
                    [("null", Scalar::Null), ("true", Scalar::Bool(true)), ("false", Scalar::Bool(false))];
                constants.into_iter().find(|(word, _)| self.word(word))?.1
            }
        };
        Some(Operand::Literal(literal))
    }

    /// What follows `@`: at least one name.
    fn path(&mut self) -> Option<Path> {
        let mut names = Vec::new();
        loop {
            let before = self.rest;
            if self.word(".") {
                let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || !c.is_ascii();
                let end = self.rest.find(|c| !is_part(c)).unwrap_or(self.rest.len());
                // Not a name: `..` or a wildcard.
                let (name, rest) = self.rest.split_at_checked(end).filter(|(name, _)| !name.is_empty())?;
                names.push(name.to_owned());
                self.rest = rest;
            } else if self.word("[") {
                self.blanks();
                names.push(self.quoted()?);
                self.word("]").then_some(())?;
            } else {
                self.rest = before;
                break;
            }
        }
        let mut names = names.into_iter();
        let place = self.names.place(&names.next()?);
        Some(Path { place, rest: names.collect() })
    }

    /// A string without escapes.
    fn quoted(&mut self) -> Option<String> {
        let quote = self.rest.chars().next().filter(|c| matches!(c, '"' | '\''))?;
        let (text, rest) = self.rest[1..].split_once(quote)?;
        if text.contains('\\') {
            return None;
        }
        self.rest = rest;
        Some(text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;
    use serde_json_path::JsonPath;

    use super::*;

    fn decided(query: &str, record: &str) -> Option<Option<bool>> {
        let mut names = Names::default();
        let filter = Filter::of(query, &mut names)?;
        Some(filter.passes(&names.of(record).expect("a record")))
    }

    /// What the library says of the same record.
    fn expected(query: &str, record: &str) -> bool {
        let path = JsonPath::parse(query).unwrap_or_else(|error| panic!("{query}: {error}"));
        let record: Value = serde_json::from_str(record).expect("JSON");
        !path.query(&Value::Array(vec![record])).is_empty()
    }

    const RECORD: &str =
        r#"{"status":503,"cluster":"x","host":"a\u002eb","tags":{"team":"t"},"none":null,"n":1e2}"#;

    #[test]
    fn comparisons_are_decided_here() {
        for query in [
            r#"$[?@.status >= 500 && @.cluster == "x"]"#,
            "$[?@.status>=500&&@.cluster=='y']",
            "$[? ( @['status'] < 500 ) || !( @.cluster != 'x' ) ]",
            "$[?@.host == 'a.b']",
            "$[?@.tags.team == 't' && !@.missing]",
            "$[?@.tags['team']]",
            "$[?@.none == null]",
            "$[?@.n == 100.0]",
            "$[?@.missing == @.absent]",
            "$[?@.status > @.n]",
            "$[?@.status == '503']",
            "$[?@.status.team]",
            "$[?search(@.host, '[.]b')]",
            "$[?match(@.host, 'b') || !match(@.host, \"a.b\")]",
            "$[?search(@.status, '5') || search(@.missing, '')]",
            "$[?search('xay', 'a|b')]",
        ] {
            assert_eq!(decided(query, RECORD), Some(Some(expected(query, RECORD))), "{query}");
        }
    }

    #[test]
    fn the_rest_is_for_the_library_unless_it_does_not_matter() {
        let check = |query: &str, decision: Option<bool>| {
            assert_eq!(decided(query, RECORD), Some(decision), "{query}");
            // It is a query.
            expected(query, RECORD);
        };
        check("$[?search(value(@.host), 'a&&b]')]", None);
        check("$[?@.status < 500 && search(value(@.host), '[)|]')]", Some(false));
        check("$[?search(@.host, '(')]", None);
        check("$[?length(@.host) > 3 || @.status == 503]", Some(true));
        check("$[?length(@.host) > 3 || @.status == 500]", None);
        check("$[?@..team]", None);
        check("$[?@.tags.*]", None);
        check("$[?@.cluster == 'x\\u0078']", None);
        check("$[?@.tags == @.tags]", None);
        check("$[?$[0].status == 503]", None);
        assert!(decided("$..host", RECORD).is_none() && decided("$[0]", RECORD).is_none());
        assert!(decided("$[?@.status, ?@.host]", RECORD).is_none());
        let mut names = Names::default();
        assert!(!Filter::of("$[?@.status].host", &mut names).expect("a filter").is_whole);
    }

    fn literal() -> impl Strategy<Value = String> {
        prop_oneof![
            Just("null".to_owned()),
            any::<bool>().prop_map(|b| b.to_string()),
            (-20_i64..20).prop_map(|n| n.to_string()),
            (-20_i32..20).prop_map(|n| format!("{}.5", n)),
            Just("1e1".to_owned()),
            "[a-cé ]{0,2}".prop_map(|text| format!("\"{text}\"")),
            "[a-c&|)]{0,2}".prop_map(|text| format!("'{text}'")),
        ]
    }

    fn name() -> impl Strategy<Value = String> {
        prop_oneof![
            Just("@.a".to_owned()),
            Just("@.b".to_owned()),
            Just("@['c']".to_owned()),
            Just("@.c.a".to_owned()),
            Just("@[\"é\"]".to_owned()),
        ]
    }

    /// What has an order; of the rest the library thinks otherwise than RFC 9535.
    fn ordered() -> impl Strategy<Value = String> {
        literal().prop_filter("has an order", |text| !matches!(text.as_str(), "null" | "true" | "false"))
    }

    fn test() -> impl Strategy<Value = String> {
        let sign = prop::sample::select(vec!["==", "!=", "<", "<=", ">", ">="]);
        let equal = prop::sample::select(vec!["==", "!="]);
        let operand = prop_oneof![name(), literal()];
        prop_oneof![
            4 => (name(), sign.clone(), ordered()).prop_map(|(a, sign, b)| format!("{a} {sign} {b}")),
            2 => (ordered(), sign, operand.clone()).prop_map(|(a, sign, b)| format!("{a}{sign}{b}")),
            2 => (name(), equal, operand).prop_map(|(a, sign, b)| format!("{a}{sign} {b}")),
            1 => name(),
            1 => name().prop_map(|name| format!("!{name}")),
            1 => Just("length(@.a) == 1".to_owned()),
            1 => Just("match(@.b, 'a|b')".to_owned()),
            1 => Just("search( @.c.a , 'b' )".to_owned()),
        ]
    }

    fn expression() -> impl Strategy<Value = String> {
        test().prop_recursive(3, 12, 3, |inner| {
            prop_oneof![
                (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{a} && {b}")),
                (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{a}||{b}")),
                inner.clone().prop_map(|a| format!("({a})")),
                inner.prop_map(|a| format!("!( {a} )")),
            ]
        })
    }

    fn value() -> impl Strategy<Value = String> {
        let plain = prop_oneof![
            Just("null".to_owned()),
            any::<bool>().prop_map(|b| b.to_string()),
            (-20_i64..20).prop_map(|n| n.to_string()),
            (-20_i32..20).prop_map(|n| format!("{}.5", n)),
            Just("1.0e1".to_owned()),
            "[a-cé ]{0,2}".prop_map(|text| format!("\"{text}\"")),
            Just("\"\\u0061\\n\"".to_owned()),
        ];
        plain.prop_recursive(2, 8, 3, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3)
                    .prop_map(|values| format!("[{}]", values.join(", "))),
                inner.prop_map(|value| format!("{{\"a\": {value}}}")),
            ]
        })
    }

    fn record() -> impl Strategy<Value = String> {
        let name = prop::sample::select(vec!["a", "b", "c", "é", "\\u0061", "d"]);
        prop::collection::vec((name, value()), 0..6).prop_map(|members| {
            let members: Vec<_> = members.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
            format!("{{{}}}", members.join(" , "))
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn what_is_decided_here_is_what_the_library_says(filter in expression(), record in record()) {
            let query = format!("$[?{filter}]");
            let known = decided(&query, &record).expect("a filter of records");
            if let Some(passes) = known {
                prop_assert_eq!(passes, expected(&query, &record), "{} of {}", query, record);
            }
        }
    }
}
