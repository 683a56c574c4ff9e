//! The router against its rules said plainly, and cases worth naming.

use std::cell::RefCell;
use std::collections::HashMap;

use kakehi_command::order::{HeaderMatch, HeaderPredicate, HostPattern, HttpFrontend, PathRule};
use kakehi_command::proto::{self, PathRuleKind, RequestHttpFrontend};
use proptest::prelude::*;
use regex::Regex;

use super::*;

/// A rule in short: `[pre|post] [METHOD] host path [+ predicate ..]`, the path `=/equals`, `~/expression`,
/// `/prefix` or `^` for the empty prefix, a predicate `name`, `name=value` or `name~expression`.
fn rule(text: &str) -> HttpFrontend {
    let (text, predicates) = text.split_once(" + ").unwrap_or((text, ""));
    let mut words: Vec<&str> = text.split(' ').collect();
    let position = match words[0] {
        "pre" => proto::RulePosition::Pre,
        "post" => proto::RulePosition::Post,
        _ => proto::RulePosition::Tree,
    };
    if position != proto::RulePosition::Tree {
        words.remove(0);
    }
    let method = (words.len() == 3).then(|| words.remove(0).to_owned());
    let (kind, path) = match words[1].split_at(1) {
        ("=", path) => (PathRuleKind::Equals, path),
        ("~", path) => (PathRuleKind::Regex, path),
        ("^", path) => (PathRuleKind::Prefix, path),
        _ => (PathRuleKind::Prefix, words[1]),
    };
    HttpFrontend::from_wire(RequestHttpFrontend {
        cluster_id: Some("app".into()),
        address: std::net::SocketAddr::from(([127, 0, 0, 1], 80)).into(),
        hostname: words[0].into(),
        path: proto::PathRule { kind: kind.into(), value: path.into() },
        method,
        position: position.into(),
        header_predicates: predicates.split_whitespace().map(predicate).collect(),
        ..Default::default()
    })
    .unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn predicate(text: &str) -> proto::HeaderPredicate {
    let (name, kind, value) = match text.split_once(['=', '~']) {
        None => (text, proto::HeaderMatchKind::Present, None),
        Some((name, value)) if text.contains('=') => (name, proto::HeaderMatchKind::Exact, Some(value)),
        Some((name, value)) => (name, proto::HeaderMatchKind::Regex, Some(value)),
    };
    proto::HeaderPredicate { name: name.into(), kind: kind.into(), value: value.map(str::to_owned) }
}

/// The field lines of a request, each `Name:value`.
struct Lines<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Lines<'a> {
    fn of(text: &'a str) -> Self {
        Self(text.split_whitespace().filter_map(|line| line.split_once(':')).collect())
    }
}

impl Fields for Lines<'_> {
    fn first(&self, name: &str) -> Option<&[u8]> {
        assert_eq!(name, name.to_lowercase());
        let line = self.0.iter().find(|line| line.0.eq_ignore_ascii_case(name))?;
        Some(line.1.as_bytes())
    }
}

/// Routes a request, `METHOD host path [+ Name:value ..]`, through these rules: the answer must be as expected, and, of
/// rules in the tree, the same in whatever order they were inserted.
fn check(rules: &[&str], request: &str, expected: Option<&str>) {
    let (line, lines) = request.split_once(" + ").unwrap_or((request, ""));
    let words: Vec<&str> = line.split(' ').collect();
    let fields = Lines::of(lines);
    let answer = |rules: &mut dyn Iterator<Item = &&str>| {
        let mut router = Router::default();
        for text in rules {
            router.insert(&rule(text), (*text).to_owned()).expect("it is new");
        }
        router.check_invariants();
        router.route(words[1].as_bytes(), words[2].as_bytes(), words[0].as_bytes(), &fields).cloned()
    };
    assert_eq!(answer(&mut rules.iter()).as_deref(), expected, "{request}");
    if !rules.iter().any(|rule| rule.starts_with('p')) {
        assert_eq!(answer(&mut rules.iter().rev()).as_deref(), expected, "{request}, reversed");
    }
}

#[test]
fn hosts_compare_without_case() {
    check(&["Example.com /"], "GET eXample.COM /", Some("Example.com /"));
    check(&["example.com /"], "GET example.com. /", None);
    check(&["example.com /"], "GET www.example.com /", None);
    check(&["*.Example.com /"], "GET A.EXAMPLE.com /", Some("*.Example.com /"));
    check(&["/A+/.test /"], "GET aa.test /", Some("/A+/.test /"));
    check(&["[2001:DB8::1] /"], "GET [2001:db8::1] /", Some("[2001:DB8::1] /"));
}

#[test]
fn a_wildcard_stands_for_one_label() {
    let rules = ["*.example.com /"];
    check(&rules, "GET a.example.com /", Some(rules[0]));
    check(&rules, "GET a.b.example.com /", None);
    check(&rules, "GET example.com /", None);
    check(&rules, "GET .example.com /", None);
}

#[test]
fn a_star_stands_for_every_host() {
    for host in ["localhost", "a.b.c", "[::1]", "", "a..b"] {
        check(&["* /"], &format!("GET {host} /"), Some("* /"));
    }
    check(&["* /", "/.*/ /x"], &format!("GET {} /x", "a".repeat(254)), Some("* /"));
}

#[test]
fn the_most_specific_host_wins() {
    let rules = ["* /", "/[a-z]+/.w.test /", "x./[a-z]/.test /", "*.w.test /", "x.w.test /"];
    check(&rules, "GET x.w.test /", Some("x.w.test /"));
    check(&rules[..4], "GET x.w.test /", Some("*.w.test /"));
    check(&rules[..3], "GET x.w.test /", Some("/[a-z]+/.w.test /"));
    check(&["* /", "x./[a-z]/.test /"], "GET x.w.test /", Some("x./[a-z]/.test /"));
    check(&rules, "GET other /", Some("* /"));
}

#[test]
fn a_host_without_a_fitting_rule_is_passed_over() {
    let rules = ["x.w.test /deep", "*.w.test /wild", "/x/.w.test /regex", "POST x.w.test /", "* /"];
    check(&rules, "GET x.w.test /deeper", Some("x.w.test /deep"));
    check(&rules, "GET x.w.test /wild", Some("*.w.test /wild"));
    check(&rules, "GET x.w.test /regex", Some("/x/.w.test /regex"));
    check(&rules, "GET x.w.test /", Some("* /"));
    check(&rules, "POST x.w.test /wild", Some("POST x.w.test /"));
}

#[test]
fn the_most_specific_path_wins() {
    let rules = ["a.test /", "a.test /api", "a.test /api/v1", "a.test =/api/v1/x", "a.test ~/[0-9]+"];
    check(&rules, "GET a.test /", Some("a.test /"));
    check(&rules, "GET a.test /ap", Some("a.test /"));
    check(&rules, "GET a.test /apix", Some("a.test /api"));
    check(&rules, "GET a.test /api/v10", Some("a.test /api/v1"));
    check(&rules, "GET a.test /api/v1/x", Some("a.test =/api/v1/x"));
    check(&rules, "GET a.test /api/v1/x?q=1", Some("a.test /api/v1"));
    check(&rules[1..], "GET a.test /12", Some("a.test ~/[0-9]+"));
    check(&rules[1..], "GET a.test /12a", None);
    check(&["a.test ~/a.*", "a.test ~/abcdef|/abc"], "GET a.test /abc", Some("a.test ~/abcdef|/abc"));
    check(&["a.test ^", "a.test /"], "GET a.test *", Some("a.test ^"));
}

#[test]
fn a_method_decides_between_equal_paths_only() {
    let rules = ["a.test /", "GET a.test /", "GET a.test /api", "POST a.test =/api", "a.test =/api/x"];
    check(&rules, "GET a.test /", Some("GET a.test /"));
    check(&rules, "PUT a.test /", Some("a.test /"));
    check(&rules, "get a.test /", Some("a.test /"));
    check(&rules, "GET a.test /api", Some("GET a.test /api"));
    check(&rules, "POST a.test /api", Some("POST a.test =/api"));
    check(&rules, "PUT a.test /api", Some("a.test /"));
    check(&rules, "GET a.test /api/x", Some("a.test =/api/x"));
}

#[test]
fn pre_and_post_stand_around_the_tree() {
    let rules = ["post * /", "a.test /tree", "pre * /pre"];
    check(&rules, "GET a.test /pre", Some("pre * /pre"));
    check(&rules, "GET a.test /tree", Some("a.test /tree"));
    check(&rules, "GET a.test /", Some("post * /"));
}

#[test]
fn the_first_of_a_list_wins_however_specific_others_are() {
    let rules = ["pre * /a", "pre *.t.test /", "pre /x/.t.test =/r", "pre x.t.test /", "pre x.t.test /a/b"];
    check(&rules, "GET x.t.test /a/b", Some(rules[0]));
    check(&rules, "GET x.t.test /r", Some(rules[1]));
    check(&rules[2..], "GET x.t.test /r", Some(rules[2]));
    check(&rules[3..], "GET x.t.test /a/b", Some(rules[3]));
    check(&["pre POST a.test /", "pre a.test /"], "GET a.test /", Some("pre a.test /"));
}

#[test]
fn the_same_rule_twice_is_refused_and_changes_nothing() {
    for text in
        ["a.test /", "GET a.test =/", "/a/.test ~/x", "*.test /", "* /", "pre a.test /", "post /a/ ~/"]
    {
        let mut router = Router::default();
        router.insert(&rule(text), 1).expect("it is new");
        assert_eq!(router.insert(&rule(text), 2), Err(RouteError::Duplicate), "{text}");
        router.check_invariants();
        assert_eq!(router.len(), 1);
        assert_eq!(router.remove(&rule(text)), Some(1));
        assert_eq!(router.remove(&rule(text)), None);
        assert!(router.is_empty());
        router.check_invariants();
    }
}

#[test]
fn rules_with_predicates_that_hold_outrank_those_without() {
    let rules = ["a.test =/api/x", "a.test /api", "a.test / + x-beta", "GET a.test /api"];
    check(&rules, "GET a.test /api/x", Some("a.test =/api/x"));
    check(&rules, "GET a.test /api/x + X-Beta:1", Some("a.test / + x-beta"));
    check(&rules, "GET a.test /api/y + y:1", Some("GET a.test /api"));
    // Within a host: the host itself comes first.
    check(&["*.test / + x", "a.test /"], "GET a.test / + x:1", Some("a.test /"));
    check(&["*.test / + x", "a.test /a"], "GET a.test / + x:1", Some("*.test / + x"));
    check(&["* / + x"], "GET a.test / + x:1", Some("* / + x"));
    check(&["* / + x"], "GET a.test /", None);
    check(&["/a+/.test / + x", "/a+/.test /"], "GET aa.test / + x:1", Some("/a+/.test / + x"));
}

#[test]
fn among_rules_with_predicates_the_most_specific_wins() {
    let rules = [
        "a.test / + x=1 y",
        "a.test / + x=1",
        "a.test / + y",
        "PUT a.test / + x",
        "a.test /a + x",
        "a.test ~/b + x",
    ];
    check(&rules, "GET a.test / + x:1", Some("a.test / + x=1"));
    check(&rules, "GET a.test / + x:1 y:1", Some("a.test / + x=1 y"));
    check(&rules, "GET a.test / + x:2 y:1", Some("a.test / + y"));
    check(&rules, "PUT a.test / + x:1 y:1", Some("PUT a.test / + x"));
    check(&rules, "PUT a.test /ab + x:1 y:1", Some("a.test /a + x"));
    check(&rules, "GET a.test /b + x:2", Some("a.test ~/b + x"));
    check(&rules, "GET a.test /b + x:1", Some("a.test / + x=1"));
    check(&["a.test / + x", "a.test / + y"], "GET a.test / + x:1 y:1", Some("a.test / + x"));
    check(&["a.test / + x=1", "a.test / + x~.*"], "GET a.test / + x:1", Some("a.test / + x=1"));
}

#[test]
fn predicates_look_at_the_first_field_line() {
    let holds = |predicates: &str, lines: &str, expected: bool| {
        let rule = format!("a.test / + {predicates}");
        check(&[&rule], &format!("GET a.test / + {lines}"), expected.then_some(&*rule));
    };
    holds("X-Tenant=Blue", "x-tenant:Blue", true);
    holds("x-tenant=Blue", "X-TENANT:Blue", true);
    holds("x-tenant=Blue", "x-tenant:blue", false);
    holds("x-tenant=Blue", "x-tenant:Blue,", false);
    holds("x=1", "X:1 x:2", true);
    holds("x=2", "x:1 x:2", false);
    holds("x~[0-9]+", "x:12", true);
    holds("x~[0-9]+", "x:12a", false);
    holds("x~a|b", "x:ab", false);
    holds("x~a", "x:A", false);
    holds("x~(?i)a", "x:A", true);
    holds("x~.*", "x:", true);
    holds("x", "x:", true);
    holds("x=", "x:", true);
    holds("x=", "y:", false);
    holds("x y=1 z~b", "z:b y:1 x:0", true);
    holds("x y=1 z~b", "z:b y:2 x:0", false);
    holds("x y~1 z~b", "z:1 y:b x:0", false);
}

#[test]
fn lists_take_rules_with_predicates_first() {
    let rules = ["pre a.test /", "pre * /a + x", "pre a.test / + x", "post * / + y", "* / + y"];
    check(&rules, "GET a.test /a + x:1", Some("pre * /a + x"));
    check(&rules, "GET a.test / + x:1", Some("pre a.test / + x"));
    check(&rules, "GET a.test / + y:1", Some("pre a.test /"));
    check(&rules, "GET b.test / + y:1", Some("* / + y"));
    check(&["post a.test /", "post * / + y"], "GET a.test / + y:1", Some("post * / + y"));
    check(&["post a.test /", "post * / + y"], "GET a.test /", Some("post a.test /"));
}

#[test]
fn predicates_tell_rules_apart() {
    for (position, host) in [("", "a.test"), ("pre ", "a.test"), ("", "*"), ("post ", "/a/.test")] {
        let texts = ["", " + x", " + x=1", " + x~1", " + x y", " + y"];
        let rules = texts.map(|predicates| rule(&format!("{position}{host} /{predicates}")));
        let mut router = Router::default();
        for (number, rule) in rules.iter().enumerate() {
            router.insert(rule, number).expect("it is new");
            assert_eq!(router.insert(rule, number), Err(RouteError::Duplicate));
        }
        let spelt_otherwise = rule(&format!("{position}{host} / + Y X y"));
        assert_eq!(router.insert(&spelt_otherwise, 9), Err(RouteError::Duplicate));
        router.check_invariants();
        for (number, rule) in rules.iter().enumerate() {
            assert_eq!(router.remove(rule), Some(number));
            router.check_invariants();
        }
        assert!(router.is_empty());
    }
}

#[test]
fn fields_are_asked_for_only_by_rules_that_would_match() {
    struct Unasked;
    impl Fields for Unasked {
        fn first(&self, name: &str) -> Option<&[u8]> {
            panic!("asked for {name}");
        }
    }
    let mut router = Router::default();
    for text in [
        "a.test /a + x",
        "POST a.test / + x",
        "pre b.test / + x",
        "/a/.c.test / + x",
        "a.test /",
        "post c.test /x + x",
    ] {
        router.insert(&rule(text), text).expect("it is new");
    }
    assert_eq!(router.route(b"a.test", b"/b", b"GET", &Unasked), Some(&"a.test /"));
    assert_eq!(router.route(b"c.test", b"/", b"GET", &Unasked), None);
}

#[test]
fn only_the_very_same_rule_is_removed() {
    let mut router = Router::default();
    router.insert(&rule("GET a.test /a"), ()).expect("it is new");
    for other in [
        "a.test /a",
        "GET a.test =/a",
        "GET a.test /",
        "GET *.a.test /a",
        "pre GET a.test /a",
        "GET a.test /a + x",
    ] {
        assert_eq!(router.remove(&rule(other)), None, "{other}");
    }
    assert_eq!(router.remove(&rule("GET a.test /a")), Some(()));
}

#[test]
fn a_host_may_have_very_many_paths() {
    let mut router = Router::default();
    for i in 0..2_000 {
        router.insert(&rule(&format!("a.test /{i:b}")), i).expect("it is new");
    }
    assert_eq!(router.route(b"a.test", b"/10000000000000000/x", b"GET", &NoFields), Some(&1024));
    assert_eq!(router.route(b"a.test", b"/0123", b"GET", &NoFields), Some(&0));
    assert_eq!(router.route(b"a.test", b"/2", b"GET", &NoFields), None);
}

/// The rules of this room said once more, plainly: every rule is looked at.
struct Model(Vec<(HttpFrontend, usize)>);

impl Model {
    fn route(&self, host: &str, path: &str, method: &str, fields: &Lines<'_>) -> Option<usize> {
        let fits = |rule: &HttpFrontend| {
            fits_host(rule.hostname(), host)
                && fits_path(rule.path(), path)
                && rule.method().is_none_or(|wanted| wanted == method)
                && rule.header_predicates().iter().all(|predicate| holds(predicate, fields))
        };
        let is_plain = |entry: &&(HttpFrontend, usize)| entry.0.header_predicates().is_empty();
        let at = |position| {
            let fits = move |entry: &&(HttpFrontend, usize)| entry.0.position() == position && fits(&entry.0);
            self.0.iter().filter(fits)
        };
        // The first of the least: plain ones are the greater.
        at(RulePosition::Pre)
            .min_by_key(is_plain)
            .or_else(|| at(RulePosition::Tree).min_by_key(|entry| rank(&entry.0)))
            .or_else(|| at(RulePosition::Post).min_by_key(is_plain))
            .map(|entry| entry.1)
    }
}

fn matches_all_of(text: &str, source: &str, case_insensitive: bool) -> bool {
    thread_local! {
        /// The few expressions of these tests; compiling them for each request would take most of the time.
        static COMPILED: RefCell<HashMap<String, Regex>> = RefCell::default();
    }
    let flags = if case_insensitive { "(?i)" } else { "" };
    let pattern = format!("^{flags}(?:{source})$");
    COMPILED.with_borrow_mut(|compiled| {
        let new = |pattern: &String| Regex::new(pattern).expect("it compiles");
        compiled.entry(pattern).or_insert_with_key(new).is_match(text)
    })
}

fn fits_host(pattern: &HostPattern, host: &str) -> bool {
    let host = host.to_lowercase();
    match pattern {
        HostPattern::Exact(exact) => **exact == *host,
        HostPattern::Wildcard(suffix) => {
            host.split_once('.').is_some_and(|(label, rest)| !label.is_empty() && rest == &**suffix)
        }
        HostPattern::Regex(text) => {
            let (segments, labels) = (text.split('.'), host.split('.'));
            segments.clone().count() == labels.clone().count()
                && segments.zip(labels).all(|(segment, label)| match segment.strip_prefix('/') {
                    Some(source) => {
                        !label.is_empty() && matches_all_of(label, source.trim_end_matches('/'), true)
                    }
                    None => segment == label,
                })
        }
        HostPattern::Any => true,
    }
}

fn fits_path(rule: &PathRule, path: &str) -> bool {
    match rule {
        PathRule::Equals(text) => **text == *path,
        PathRule::Prefix(text) => path.starts_with(&**text),
        PathRule::Regex(source) => matches_all_of(path, source, false),
    }
}

fn holds(predicate: &HeaderPredicate, fields: &Lines<'_>) -> bool {
    let line = fields.0.iter().find(|(name, _)| name.to_lowercase() == predicate.name());
    match (line, predicate.matcher()) {
        (None, _) => false,
        (Some(_), HeaderMatch::Present) => true,
        (Some((_, value)), HeaderMatch::Exact(expected)) => *value == &**expected,
        (Some((_, value)), HeaderMatch::Regex(source)) => matches_all_of(value, source, false),
    }
}

/// The least is the most specific. Alphabets come last: they only make the order total.
fn rank(rule: &HttpFrontend) -> impl Ord + use<> {
    let host = rule.hostname().to_string();
    let host_kind = match rule.hostname() {
        HostPattern::Exact(_) => 0,
        HostPattern::Wildcard(_) => 1,
        HostPattern::Regex(_) => 2,
        HostPattern::Any => 3,
    };
    let expressions: Vec<bool> = host.split('.').rev().map(|segment| segment.starts_with('/')).collect();
    let path = rule.path().value().to_owned();
    let path_kind = match rule.path() {
        PathRule::Equals(_) => 0,
        PathRule::Prefix(_) => 1,
        PathRule::Regex(_) => 2,
    };
    let longest = |text: &str| usize::MAX - text.len();
    (
        (host_kind, expressions, longest(&host), host),
        rule.header_predicates().is_empty(),
        (path_kind, longest(&path), path),
        rule.method().is_none(),
        (usize::MAX - rule.header_predicates().len(), rule.header_predicates().to_vec()),
    )
}

const POSITIONS: &[&str] = &["", "", "", "pre ", "post "];
const METHODS: &[&str] = &["", "", "GET ", "PUT "];
const HOSTS: &[&str] = &[
    "a.b.c",
    "b.c",
    "x.b.c",
    "*.b.c",
    "*.c",
    "*",
    "/a|x/.b.c",
    "/[ax]/.b.c",
    "a./b/.c",
    "/\\w/.b.c",
    "/a/./b/.c",
    "/a/./b/./c/",
    "/[a-c]/",
    "c",
];
const PATHS: &[&str] = &["^", "/", "/a", "/a/", "/a/b", "/ab", "=/a", "=/a/b", "~/a.*", "~/a/?b", "~.*"];

const PREDICATES: &[&str] = &["", "", "", " + x", " + x=1", " + x~[12]", " + x=1 y", " + y=2", " + y~.* x"];
const FIELDS: &[&str] = &["", "x:1", "X:2", "y:2", "x:1 y:2", "x:3 x:1 Y:1"];

fn a_rule() -> impl Strategy<Value = String> {
    use proptest::sample::select;
    (select(POSITIONS), select(METHODS), select(HOSTS), select(PATHS), select(PREDICATES)).prop_map(
        |(position, method, host, path, predicates)| format!("{position}{method}{host} {path}{predicates}"),
    )
}

proptest! {
    /// Whatever was inserted and removed, every request is routed as the rules say.
    #[test]
    fn the_router_is_its_rules(steps in proptest::collection::vec((a_rule(), 0..4u8), 1..60)) {
        let mut router = Router::default();
        let mut model = Model(Vec::new());
        for (number, (text, step)) in steps.into_iter().enumerate() {
            let rule = rule(&text);
            let same = |entry: &(HttpFrontend, usize)| {
                entry.0.identity() == rule.identity() && entry.0.position() == rule.position()
            };
            let known = model.0.iter().position(same);
            if step == 0 {
                let removed = known.map(|index| model.0.remove(index).1);
                prop_assert_eq!(router.remove(&rule), removed);
            } else {
                prop_assert_eq!(router.insert(&rule, number).is_ok(), known.is_none());
                if known.is_none() {
                    model.0.push((rule, number));
                }
            }
            prop_assert_eq!(router.len(), model.0.len());
        }
        router.check_invariants();
        for host in ["a.b.c", "A.B.C", "x.b.c", "y.b.c", "b.c", "c", "d.e.f", ".c", ""] {
            for path in ["/", "/a", "/a/b", "/a/bc", "/abc", "/b", "*"] {
                for method in ["GET", "PUT", "POST"] {
                    for fields in FIELDS {
                        let lines = Lines::of(fields);
                        let routed = router.route(host.as_bytes(), path.as_bytes(), method.as_bytes(), &lines);
                        let expected = model.route(host, path, method, &lines);
                        prop_assert_eq!(routed.copied(), expected, "{} {} {} {}", method, host, path, fields);
                    }
                }
            }
        }
    }

    /// Bytes of any kind are looked up without harm.
    #[test]
    fn no_request_is_too_strange(host: Vec<u8>, path: Vec<u8>, method: Vec<u8>) {
        let mut router = Router::default();
        for text in ["a.b /", "*.b /", "/./.b ~/.*", "pre /.*/ =/", "post a /"] {
            router.insert(&rule(text), ()).expect("it is new");
        }
        router.route(&host, &path, &method, &NoFields);
    }

    /// The longest prefix is found among texts that are prefixes of one another.
    #[test]
    fn the_longest_prefix_is_found(
        prefixes in proptest::collection::btree_set("[ab]{0,6}", 0..20),
        path in "[ab]{0,8}",
    ) {
        let mut router = Router::default();
        for prefix in &prefixes {
            router.insert(&rule(&format!("h /{prefix}")), prefix.clone()).expect("it is new");
        }
        let longest = prefixes.iter().filter(|prefix| path.starts_with(&***prefix)).max_by_key(|prefix| prefix.len());
        prop_assert_eq!(router.route(b"h", format!("/{path}").as_bytes(), b"GET", &NoFields), longest);
    }
}
