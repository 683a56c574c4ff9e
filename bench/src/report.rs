//! The report: ratios against their targets, absolute figures, system calls, and room for words.
//! Pure: it renders what it is given.

use std::fmt::Write;

use crate::failure::Failure;
use crate::peers::Peer;
use crate::stats::{Ratio, median, ratio};

/// Text below this line is somebody's, and kept when the report is written again.
pub(crate) const WORDS: &str = "## What is left";
/// Beyond this the machine was not quiet, and the figures are only roughly right.
const DISTURBANCE_MAX: f64 = 0.05;
const WORDS_EMPTY: &str = "(Not written yet: what dominates what is left.)";

/// Who has a column in the table of absolute figures; the others share one.
const COLUMNS: [Peer; 3] = [Peer::Kakehi, Peer::Haproxy, Peer::Nginx];

/// One line of the table of targets.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub title: String,
    /// Of the absolute figures.
    pub unit: &'static str,
    /// A value for each pair, in the order of pairs.
    pub values: Vec<(Peer, Vec<f64>)>,
    /// Us against whom, at most.
    pub targets: Vec<(Peer, f64)>,
    /// What our own figure may be at most, where it is a ratio to something else of ours: to what.
    pub bound: Option<(&'static str, f64)>,
    /// Requests per second and the like, for information.
    pub notes: Vec<String>,
    /// System calls per request.
    pub calls: Vec<Calls>,
    /// Others' processor time on the proxy's core, as a part of the proxy's: the most in any measurement.
    pub disturbance: f64,
    /// Why there is no figure.
    pub void: Option<String>,
}

/// What one peer asked of the kernel for each request, most frequent first.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Calls {
    pub peer: Peer,
    pub each: Vec<(String, f64)>,
}

impl Row {
    pub(crate) fn new(title: &str, unit: &'static str, targets: &[(Peer, f64)]) -> Row {
        Row {
            title: title.to_owned(),
            unit,
            values: Vec::new(),
            targets: targets.to_vec(),
            bound: None,
            notes: Vec::new(),
            calls: Vec::new(),
            disturbance: 0.0,
            void: None,
        }
    }

    /// Adds one value of a peer.
    pub(crate) fn add(&mut self, peer: Peer, value: f64) {
        match self.values.iter_mut().find(|(known, _)| *known == peer) {
            Some((_, values)) => values.push(value),
            None => self.values.push((peer, vec![value])),
        }
    }

    /// Says why there is no figure.
    pub(crate) fn make_void(&mut self, failure: &Failure) {
        eprintln!("  void: {failure}");
        self.void = Some(failure.to_string());
    }

    fn of(&self, peer: Peer) -> &[f64] {
        self.values.iter().find(|(known, _)| *known == peer).map_or(&[], |(_, values)| values)
    }

    fn against(&self, peer: Peer) -> Option<Ratio> {
        ratio(self.of(Peer::Kakehi), self.of(peer))
    }
}

/// The whole report, in Markdown. `words` is what stands at its end.
pub(crate) fn render(machine: &[(&str, String)], rows: &[Row], words: Option<&str>) -> String {
    let mut text = String::from(
        "# What a request costs\n\n\
         Written by `cargo run --release -p kakehi-bench`; how to read it: [doc/benchmarks.md](../doc/benchmarks.md).\n\n",
    );
    // Writing into a string cannot fail.
    let _ = render_into(&mut text, machine, rows);
    let _ = write!(text, "{WORDS}\n\n{}\n", words.map_or(WORDS_EMPTY, str::trim));
    text
}

/// What stands below [`WORDS`] in a report that is there already.
pub(crate) fn words_of(report: &str) -> Option<&str> {
    let (_, words) = report.split_once(WORDS)?;
    Some(words.trim()).filter(|words| !words.is_empty())
}

fn render_into(text: &mut String, machine: &[(&str, String)], rows: &[Row]) -> std::fmt::Result {
    writeln!(text, "| | |\n|---|---|")?;
    for (name, value) in machine {
        writeln!(text, "| {name} | {value} |")?;
    }
    writeln!(
        text,
        "\n## Ratios\n\nKakehi's figure divided by the other's, pair by pair: the median, and all pairs' span.\n"
    )?;
    writeln!(
        text,
        "| scenario | against | at most | measured | pairs from..to | met |\n|---|---|---|---|---|---|"
    )?;
    for row in rows {
        if let Some((to, most)) = row.bound {
            let found = median(row.of(Peer::Kakehi)).map(|median| Ratio {
                median,
                min: row.of(Peer::Kakehi).iter().copied().fold(f64::INFINITY, f64::min),
                max: row.of(Peer::Kakehi).iter().copied().fold(0.0, f64::max),
                pairs: row.of(Peer::Kakehi).len(),
            });
            writeln!(text, "{}", ratio_line(row, to, found, most))?;
        }
        for (peer, target) in &row.targets {
            writeln!(text, "{}", ratio_line(row, peer.name(), row.against(*peer), *target))?;
        }
    }
    for row in rows.iter().filter(|row| row.disturbance > DISTURBANCE_MAX) {
        let percent = row.disturbance * 100.0;
        writeln!(
            text,
            "\n**Disturbed**: {}: other programs took up to {percent:.0} % of the proxy's time on its core beside.",
            row.title
        )?;
    }
    writeln!(text, "\n## Absolute figures\n\nMedians, for information: they are this machine's.\n")?;
    writeln!(text, "| scenario | unit | Kakehi | HAProxy | nginx | others |\n|---|---|---|---|---|---|")?;
    for row in rows.iter().filter(|row| row.void.is_none()) {
        let of = |peer| median(row.of(peer)).map_or_else(|| "-".into(), figure);
        let others: Vec<String> = row
            .values
            .iter()
            .filter(|(peer, _)| !COLUMNS.contains(peer))
            .map(|(peer, _)| format!("{}: {}", peer.name(), of(*peer)))
            .collect();
        let columns = COLUMNS.map(of).join(" | ");
        writeln!(text, "| {} | {} | {columns} | {} |", row.title, row.unit, others.join("; "))?;
    }
    text.push('\n');
    for row in rows {
        for note in &row.notes {
            writeln!(text, "- {}: {note}", row.title)?;
        }
    }
    if rows.iter().any(|row| !row.calls.is_empty()) {
        writeln!(text, "\n## System calls per request\n")?;
        writeln!(text, "| scenario | proxy | in all | which |\n|---|---|---|---|")?;
        for row in rows {
            for calls in &row.calls {
                writeln!(text, "{}", calls_line(&row.title, calls))?;
            }
        }
    }
    text.push('\n');
    Ok(())
}

fn ratio_line(row: &Row, name: &str, found: Option<Ratio>, target: f64) -> String {
    let title = &row.title;
    match (&row.void, found) {
        (Some(reason), _) => format!("| {title} | {name} | {target:.2} | void | {reason} | no |"),
        (None, None) => format!("| {title} | {name} | {target:.2} | not measured | - | no |"),
        (None, Some(found)) => {
            let met = if found.median <= target { "yes" } else { "**no**" };
            format!(
                "| {title} | {name} | {target:.2} | {:.3} | {:.3}..{:.3} of {} | {met} |",
                found.median, found.min, found.max, found.pairs
            )
        }
    }
}

fn calls_line(title: &str, calls: &Calls) -> String {
    let sum: f64 = calls.each.iter().map(|(_, count)| count).sum();
    let which: Vec<String> = calls
        .each
        .iter()
        .filter(|(_, count)| *count >= 0.005)
        .map(|(name, count)| format!("{name} {count:.2}"))
        .collect();
    format!("| {title} | {} | {sum:.2} | {} |", calls.peer.name(), which.join(", "))
}

/// Three digits that count.
fn figure(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> Row {
        let mut row = Row::new("a GET", "us", &[(Peer::Haproxy, 0.72), (Peer::Nginx, 0.5)]);
        for (ours, haproxy, nginx) in [(7.0, 10.0, 12.0), (8.0, 10.0, 12.0), (7.1, 10.0, 12.0)] {
            row.add(Peer::Kakehi, ours);
            row.add(Peer::Haproxy, haproxy);
            row.add(Peer::Nginx, nginx);
        }
        row.calls.push(Calls {
            peer: Peer::Kakehi,
            each: vec![("recvfrom".into(), 2.0), ("close".into(), 0.001)],
        });
        row
    }

    fn check_contains(text: &str, line: &str) {
        assert!(text.contains(line), "no {line:?} in\n{text}");
    }

    #[test]
    fn targets_are_met_or_not() {
        let text = render(&[("kernel", "Linux 6".into())], &[row()], None);
        check_contains(&text, "| kernel | Linux 6 |");
        check_contains(&text, "| a GET | HAProxy | 0.72 | 0.710 | 0.700..0.800 of 3 | yes |");
        check_contains(&text, "| a GET | nginx | 0.50 | 0.592 | 0.583..0.667 of 3 | **no** |");
        check_contains(&text, "| a GET | us | 7.10 | 10.0 | 12.0 |  |");
        check_contains(&text, "| a GET | Kakehi | 2.00 | recvfrom 2.00 |");
    }

    #[test]
    fn a_figure_may_be_held_against_our_own() {
        let mut row = Row { bound: Some(("Kakehi at rest", 2.0)), ..row() };
        check_contains(
            &render(&[], &[row.clone()], None),
            "| a GET | Kakehi at rest | 2.00 | 7.100 | 7.000..8.000 of 3 | **no** |",
        );
        row.bound = Some(("Kakehi at rest", 7.1));
        check_contains(
            &render(&[], &[row], None),
            "| a GET | Kakehi at rest | 7.10 | 7.100 | 7.000..8.000 of 3 | yes |",
        );
    }

    #[test]
    fn void_figures_are_not_shown() {
        let mut row = row();
        row.void = Some("an answer was wrong".into());
        let text = render(&[], &[row], None);
        check_contains(&text, "| a GET | HAProxy | 0.72 | void | an answer was wrong | no |");
        assert!(!text.contains("0.710") && !text.contains("7.10"), "{text}");
    }

    #[test]
    fn a_machine_that_was_not_quiet_is_told() {
        let mut row = row();
        row.disturbance = 0.04;
        assert!(!render(&[], &[row.clone()], None).contains("Disturbed"));
        row.disturbance = 0.5;
        check_contains(&render(&[], &[row], None), "**Disturbed**: a GET: other programs took up to 50 %");
    }

    #[test]
    fn words_survive() {
        let first = render(&[], &[], None);
        assert_eq!(words_of(&first), Some(WORDS_EMPTY));
        let edited = first.replace(WORDS_EMPTY, "The kernel.\n\nMostly.");
        let again = render(&[], &[row()], words_of(&edited));
        assert_eq!(words_of(&again), Some("The kernel.\n\nMostly."));
        assert_eq!(words_of("nothing"), None);
    }
}
