//! `doc/metrics.md` holds the declared tables, and this test holds it to them.

use std::fmt::Write;
use std::path::Path;

use kakehi_lib::metrics::{Kind, Metric, Scope, Unit};

use super::own;

const BEGIN: &str = "<!-- tables: KAKEHI_REGENERATE=1 cargo test -p kakehi --bin kakehi document -->\n";
const END: &str = "<!-- end of tables -->\n";

fn tables() -> String {
    let mut text = String::from("Of the workers:\n\n| name | | in | also of | |\n|---|---|---|---|---|\n");
    for metric in Metric::ALL {
        let mut of: Vec<&str> = Vec::new();
        if !metric.is_of_proxy() {
            of.push("only");
        }
        of.extend(metric.is_of(Scope::Cluster).then_some("clusters"));
        of.extend(metric.is_of(Scope::Backend).then_some("backends"));
        let (name, help) = (metric.name(), metric.help());
        let _ = writeln!(
            text,
            "| `{name}` | {} | {} | {} | {help} |",
            kind(metric.kind()),
            unit(metric.unit()),
            of.join(" ")
        );
    }
    text.push_str("\nOf the main process:\n\n| name | | |\n|---|---|---|\n");
    for own in own::ALL {
        let _ = writeln!(text, "| `{}` | {} | {} |", own.name, kind(own.kind), own.help);
    }
    text
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Count => "count",
        Kind::Gauge => "level",
        Kind::Time => "time",
    }
}

fn unit(unit: Unit) -> &'static str {
    match unit {
        Unit::Connections => "connections",
        Unit::Requests => "requests",
        Unit::Bytes => "bytes",
        Unit::Buffers => "buffers",
        Unit::Events => "times",
        Unit::Items => "items",
        Unit::Milliseconds => "ms",
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a variable asks for the document to be written anew")]
fn the_document_holds_the_tables() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../doc/metrics.md");
    let text = std::fs::read_to_string(&path).expect("the document");
    let (before, rest) = text.split_once(BEGIN).expect("the begin of the tables is marked");
    let (_, after) = rest.split_once(END).expect("so is their end");
    let expected = format!("{before}{BEGIN}\n{}\n{END}{after}", tables());
    if std::env::var("KAKEHI_REGENERATE").is_ok() {
        std::fs::write(&path, &expected).expect("it can be written");
    } else {
        assert!(text == expected, "doc/metrics.md is out of date: KAKEHI_REGENERATE=1 writes its tables");
    }
}

/// Numbers of main that are told are declared, and of the kind that they are declared to be.
#[test]
fn every_name_of_main_is_declared_once() {
    let mut names: Vec<&str> = own::ALL.iter().map(|own| own.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), own::ALL.len());
    assert!(own::ALL.iter().all(|own| own.help.ends_with('.')));
}
