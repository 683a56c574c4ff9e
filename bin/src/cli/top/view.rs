//! The screen, as lines.

use std::collections::VecDeque;

use serde_json::{Value, json};

use super::super::table::visible;
use super::Detail;
use super::numbers::{Now, Row};

/// Columns and lines of a terminal.
pub(super) type Size = (usize, usize);

/// A name has so many columns at least.
const NAME_MIN: usize = 12;

/// Of backends below their cluster.
const INDENT: usize = 2;

/// And at most, where nothing else decides.
const NAME_MAX: usize = 60;

/// All of the screen. Without a size, all of it, however long.
pub(super) fn lines(now: &Now, detail: Detail, events: &VecDeque<String>, size: Option<Size>) -> Vec<String> {
    let mut lines = head(now);
    if detail >= Detail::Frontend {
        lines.push(String::new());
        lines.extend(now.listeners.iter().map(|listener| {
            let state = if listener.active { "accepts" } else { "inactive" };
            format!("{:<5} {:<24} {state}", listener.protocol, listener.address)
        }));
    }
    let mut foot: Vec<String> = events.iter().map(|event| format!("event  {}", visible(event))).collect();
    if size.is_some() {
        foot.push("q: quit   s: sort by something else".to_owned());
    }
    if detail >= Detail::Cluster {
        lines.push(String::new());
        // What is in the way of the foot is left out, and told.
        let room = size.map(|(_, height)| height.saturating_sub(lines.len() + foot.len() + 3).max(1));
        lines.extend(table(now, detail, size.map(|(width, _)| width), room));
    }
    if !foot.is_empty() {
        lines.push(String::new());
        lines.extend(foot);
    }
    if let Some((width, height)) = size {
        lines.truncate(height);
        lines.iter_mut().for_each(|line| cut(line, width));
    }
    lines.into_iter().map(|line| line.trim_end().to_owned()).collect()
}

/// The same, for programs.
pub(super) fn json(now: &Now, detail: Detail) -> Value {
    let mut value = json!(now);
    if let Some(members) = value.as_object_mut() {
        if detail < Detail::Frontend {
            members.remove("listeners");
        }
        if detail < Detail::Cluster {
            members.remove("clusters");
        }
    }
    value
}

fn head(now: &Now) -> Vec<String> {
    let revision = now.revision.map(|revision| format!("   revision {revision}")).unwrap_or_default();
    let whole = &now.whole;
    let [two, three, four, five] = whole.classes.map(rate);
    vec![
        format!(
            "up {}{revision}   workers {} of {} run",
            duration(now.uptime_seconds),
            now.workers_running,
            now.workers
        ),
        format!(
            "connections {} of {}   accepted {}/s   refused {}/s   buffers {} of {}",
            now.connections,
            now.connections_max,
            rate(now.accepted),
            rate(now.refused),
            now.buffers,
            now.buffers_max
        ),
        format!(
            "requests {}/s   2xx {two}   3xx {three}   4xx {four}   5xx {five}   in {}B/s   out {}B/s",
            rate(whole.requests),
            rate(now.bytes_in),
            rate(whole.bytes_out)
        ),
        format!("request time since the start: p50 {} ms   p99 {} ms", ms(whole.p50_ms), ms(whole.p99_ms)),
    ]
}

fn table(now: &Now, detail: Detail, width: Option<usize>, room: Option<usize>) -> Vec<String> {
    // Columns of what stands behind the name.
    const NUMBERS: usize = 76;
    let all = now.clusters.iter().flat_map(|cluster| {
        let backends = cluster.rows.iter().filter(|_| detail >= Detail::Backend);
        [(0, cluster)].into_iter().chain(backends.map(|backend| (INDENT, backend)))
    });
    let all: Vec<_> = all.collect();
    let longest = all.iter().map(|(indent, row)| indent + row.name.chars().count()).max().unwrap_or(0);
    let most = width.map_or(NAME_MAX, |width| width.saturating_sub(NUMBERS));
    let name = longest.clamp(NAME_MIN, most.max(NAME_MIN));
    let sorted = now.order.words();
    let title = format!("CLUSTER (by {sorted})");
    let mut lines = vec![format!(
        "{title:<name$} {:>9} {:>7} {:>7} {:>7} {:>7} {:>8} {:>7} {:>7} {:>7}",
        "requests", "2xx", "3xx", "4xx", "5xx", "B/s out", "p50 ms", "p99 ms", "up"
    )];
    let shown = room.map_or(all.len(), |room| if all.len() > room { room - 1 } else { room });
    lines.extend(all.iter().take(shown).map(|(indent, row)| line(*indent, row, name)));
    if all.len() > shown {
        lines.push(format!("and {} more", all.len() - shown));
    }
    lines
}

fn line(indent: usize, row: &Row, width: usize) -> String {
    let mut name = format!("{:indent$}{}", "", visible(&row.name));
    cut(&mut name, width);
    let [two, three, four, five] = row.classes.map(rate);
    let up = row.backends.map(|(up, all)| format!("{up}/{all}")).unwrap_or_default();
    format!(
        "{name:<width$} {:>9} {two:>7} {three:>7} {four:>7} {five:>7} {:>8} {:>7} {:>7} {up:>7}",
        rate(row.requests),
        rate(row.bytes_out),
        ms(row.p50_ms),
        ms(row.p99_ms)
    )
}

/// Three digits, and what they are to be multiplied by.
fn rate(rate: Option<f64>) -> String {
    let Some(mut rate) = rate else { return "-".to_owned() };
    for unit in ["", "k", "M", "G"] {
        if rate < 999.5 {
            let digits = if rate == 0.0 || rate >= 99.95 { 0 } else { 1 };
            return format!("{rate:.digits$}{unit}");
        }
        rate /= 1_000.0;
    }
    format!("{rate:.0}T")
}

fn ms(ms: Option<u64>) -> String {
    ms.map_or_else(|| "-".to_owned(), |ms| ms.to_string())
}

fn duration(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, _, _) => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

/// Shortens a line to so many characters.
fn cut(line: &mut String, width: usize) {
    if let Some((end, _)) = line.char_indices().nth(width) {
        line.truncate(end);
    }
}

#[cfg(test)]
mod tests {
    use super::super::numbers::Order;
    use super::super::numbers::tests::samples;
    use super::*;

    fn screen(detail: Detail, size: Option<Size>) -> Vec<String> {
        let (before, now) = samples();
        let events = ["main, CLUSTER_ADDED, cluster=a\u{1b}".to_owned()].into();
        lines(&Now::between(&before, &now, Order::Requests), detail, &events, size)
    }

    #[test]
    fn all_of_it() {
        let expected = "\
up 1 h 1 min   workers 0 of 0 run
connections 12 of 0   accepted 0/s   refused 0/s   buffers 0 of 0
requests 1.0k/s   2xx 0   3xx 0   4xx 0   5xx 0   in 0B/s   out 0B/s
request time since the start: p50 - ms   p99 - ms


CLUSTER (by requests)  requests     2xx     3xx     4xx     5xx  B/s out  p50 ms  p99 ms      up
busy              1.0k       0       0       0     100        0       3      30     2/3
  b-1              500       0       0       0    50.0        0       -       -
idle                 0       0       0       0       0        0       -       -

event  main, CLUSTER_ADDED, cluster=a\\u{1b}";
        assert_eq!(screen(Detail::Backend, None).join("\n"), expected);
    }

    #[test]
    fn a_small_terminal_shows_what_fits() {
        for (width, height) in [(80, 24), (40, 12), (20, 5), (1, 1)] {
            let lines = screen(Detail::Backend, Some((width, height)));
            assert!(lines.len() <= height, "{lines:?}");
            assert!(lines.iter().all(|line| line.chars().count() <= width), "{lines:?}");
        }
        let lines = screen(Detail::Backend, Some((100, 13)));
        assert!(lines.contains(&"and 2 more".to_owned()), "{lines:#?}");
        assert!(lines.last().is_some_and(|line| line.starts_with("q: quit")), "{lines:#?}");
    }

    #[test]
    fn less_is_shown_if_less_is_asked_for() {
        assert!(!screen(Detail::Process, None).join("\n").contains("busy"));
        assert!(!screen(Detail::Cluster, None).join("\n").contains("b-1"));
        let (before, now) = samples();
        let now = Now::between(&before, &now, Order::Requests);
        assert!(json(&now, Detail::Frontend).get("clusters").is_none());
        assert_eq!(json(&now, Detail::Cluster)["clusters"][0]["name"], "busy");
    }

    #[test]
    fn numbers_have_three_digits() {
        let shown = [0.0, 0.25, 12.34, 999.4, 1_234.0, 999_600.0, 5e9, 7e13].map(|value| rate(Some(value)));
        assert_eq!(shown, ["0", "0.2", "12.3", "999", "1.2k", "1.0M", "5.0G", "70T"]);
        assert_eq!([59, 61, 3_700, 90_000].map(duration), ["59 s", "1 min 1 s", "1 h 1 min", "1 d 1 h"]);
    }
}
