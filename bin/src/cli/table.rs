//! [`Table`]: rows and columns in box-drawing characters, no wider than the terminal.
//!
//! Column widths are those of the widest cell. When that is too wide, the widest columns give way and
//! their cells continue on further lines; where that does not do, each row becomes a table of its own, of titles and
//! values. No text is ever cut off. Cells come from the proxy, and some
//! of them first came from whoever could reach its command socket: control characters are shown, not
//! sent to the terminal.

use std::fmt::Write;

/// Columns that are this narrow, in characters, can still be read well: others give way first.
const COLUMN_CHARS_GOOD: usize = 8;

/// No column gets narrower than this, in characters: past it, rows are shown one by one, and past that, lines run over
/// the terminal's edge.
const COLUMN_CHARS_MIN: usize = 4;

/// Of each column beside its text, in characters: a bar and a blank before it, and a blank after it.
const FRAME_CHARS: usize = 3;

/// A table under construction.
#[derive(Debug, Default)]
pub(super) struct Table {
    head: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these column titles.
    pub(super) fn new<T: Into<String>>(head: impl IntoIterator<Item = T>) -> Self {
        Self { head: head.into_iter().map(Into::into).collect(), rows: Vec::new() }
    }

    /// A table of names and values, without titles.
    pub(super) fn untitled() -> Self {
        Self::default()
    }

    /// Adds a row; columns it lacks stay empty.
    pub(super) fn row<T: Into<String>>(&mut self, cells: impl IntoIterator<Item = T>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The table as text that ends with a line feed. `width` is the terminal's, in characters; without
    /// one (a pipe, a file) each row stays on one line.
    pub(super) fn render(&self, width: Option<usize>) -> String {
        let head: Vec<String> = self.head.iter().map(|cell| visible(cell)).collect();
        let rows: Vec<Vec<String>> =
            self.rows.iter().map(|row| row.iter().map(|cell| visible(cell)).collect()).collect();
        let columns = rows.iter().map(Vec::len).max().unwrap_or(0).max(head.len());
        let mut widths = vec![0; columns];
        for row in rows.iter().chain([&head]) {
            for (cell, width) in row.iter().zip(&mut widths) {
                let longest = cell.lines().map(|line| line.chars().count()).max().unwrap_or(0);
                *width = longest.max(*width);
            }
        }
        if let Some(width) = width {
            shrink(&mut widths, width, COLUMN_CHARS_GOOD);
            shrink(&mut widths, width, COLUMN_CHARS_MIN);
            if !head.is_empty() && columns > 2 && total(&widths) > width {
                return self.render_one_by_one(width);
            }
        }
        draw(&head, &rows, &widths)
    }

    /// Each row as a table of the titles and values of its cells, but for empty ones.
    fn render_one_by_one(&self, width: usize) -> String {
        let row_table = |row: &Vec<String>| {
            let mut table = Self::untitled();
            let cells = self.head.iter().zip(row).filter(|(_, cell)| !cell.is_empty());
            cells.for_each(|(title, cell)| table.row([title.clone(), cell.clone()]));
            table.render(Some(width))
        };
        self.rows.iter().map(row_table).collect()
    }
}

/// Width of a table with these columns, frame included.
fn total(widths: &[usize]) -> usize {
    // One bar ends the line.
    widths.iter().sum::<usize>() + widths.len() * FRAME_CHARS + 1
}

/// Takes from the widest columns until the table, frame included, fits into `terminal` characters, or all of them are
/// as narrow as `min`.
fn shrink(widths: &mut [usize], terminal: usize, min: usize) {
    let mut excess = total(widths).saturating_sub(terminal);
    while excess > 0 {
        match widths.iter_mut().filter(|width| **width > min).max() {
            Some(widest) => *widest -= 1,
            None => return,
        }
        excess -= 1;
    }
}

fn draw(head: &[String], rows: &[Vec<String>], widths: &[usize]) -> String {
    let mut out = String::new();
    rule(&mut out, widths, ['┌', '┬', '┐']);
    if !head.is_empty() {
        draw_row(&mut out, head, widths);
        rule(&mut out, widths, ['├', '┼', '┤']);
    }
    for row in rows {
        draw_row(&mut out, row, widths);
    }
    rule(&mut out, widths, ['└', '┴', '┘']);
    out
}

fn rule(out: &mut String, widths: &[usize], [left, between, right]: [char; 3]) {
    for (index, width) in widths.iter().enumerate() {
        out.push(if index == 0 { left } else { between });
        out.extend(std::iter::repeat_n('─', width + 2));
    }
    out.push(right);
    out.push('\n');
}

fn draw_row(out: &mut String, row: &[String], widths: &[usize]) {
    let empty = String::new();
    let cells: Vec<Vec<String>> = widths
        .iter()
        .enumerate()
        .map(|(index, width)| wrap(row.get(index).unwrap_or(&empty), *width))
        .collect();
    let height = cells.iter().map(Vec::len).max().unwrap_or(0).max(1);
    for line in 0..height {
        for (cell, width) in cells.iter().zip(widths) {
            let text = cell.get(line).map_or("", String::as_str);
            write!(out, "│ {text:<width$} ").expect("writing into a string");
        }
        out.push_str("│\n");
    }
}

/// Breaks a cell into lines of at most `width` characters, after a separator where there is one in the
/// second half of the line.
fn wrap(cell: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for line in cell.lines() {
        let mut rest: Vec<char> = line.chars().collect();
        while rest.len() > width {
            let (first, _) = rest.split_at(width);
            let separator =
                first.iter().rposition(|c| matches!(c, ' ' | ',' | ';' | ':' | '/' | '.' | '-' | '_'));
            let end = separator.map_or(width, |at| at + 1);
            let end = if end * 2 > width { end } else { width };
            lines.push(rest.drain(..end).collect::<String>().trim_end().to_owned());
        }
        lines.push(rest.into_iter().collect());
    }
    lines
}

/// The text with control characters, line feeds excepted, written as escapes.
pub(super) fn visible(text: &str) -> String {
    if !text.contains(|c: char| c.is_control() && c != '\n') {
        return text.to_owned();
    }
    let escape =
        |c: char| if c.is_control() && c != '\n' { c.escape_default().to_string() } else { c.into() };
    text.chars().map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(head: &[&str], rows: &[&[&str]], width: Option<usize>, expected: &str) {
        let mut table = Table::new(head.iter().copied());
        rows.iter().for_each(|row| table.row(row.iter().copied()));
        assert_eq!(table.render(width), expected.trim_start());
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        check(
            &["worker id", "pid"],
            &[&["0", "12345"], &["1"]],
            None,
            "
┌───────────┬───────┐
│ worker id │ pid   │
├───────────┼───────┤
│ 0         │ 12345 │
│ 1         │       │
└───────────┴───────┘
",
        );
    }

    #[test]
    fn a_table_without_titles_has_no_rule_inside() {
        check(&[], &[&["key", "värde"]], None, "\n┌─────┬───────┐\n│ key │ värde │\n└─────┴───────┘\n");
    }

    #[test]
    fn the_widest_column_gives_way_to_the_terminal() {
        check(
            &["id", "tags"],
            &[&["a", "one=1, two=2, three=3"]],
            Some(19),
            "
┌────┬────────────┐
│ id │ tags       │
├────┼────────────┤
│ a  │ one=1,     │
│    │ two=2,     │
│    │ three=3    │
└────┴────────────┘
",
        );
    }

    #[test]
    fn a_terminal_too_narrow_for_anything_still_shows_everything() {
        let mut table = Table::new(["one", "two"]);
        table.row(["abcdefghijkl", "x"]);
        let narrow = table.render(Some(1));
        assert!(narrow.contains("abcd") && narrow.contains("efgh") && narrow.contains("ijkl"), "{narrow}");
    }

    #[test]
    fn rows_with_too_many_cells_are_shown_one_by_one() {
        check(
            &["name", "sum", "count", "last"],
            &[&["requests", "1", "2", ""], &["errors", "", "3", "4"]],
            Some(26),
            "
┌───────┬──────────┐
│ name  │ requests │
│ sum   │ 1        │
│ count │ 2        │
└───────┴──────────┘
┌───────┬────────┐
│ name  │ errors │
│ count │ 3      │
│ last  │ 4      │
└───────┴────────┘
",
        );
    }

    #[test]
    fn tables_fit_the_terminal() {
        for columns in 1..20 {
            for width in 20..120 {
                let mut table = Table::new((0..columns).map(|n| format!("column number {n}")));
                table.row((0..columns).map(|n| "x".repeat(n * 3)));
                let text = table.render(Some(width));
                let widest = text.lines().map(|line| line.chars().count()).max().unwrap_or(0);
                assert!(widest <= width, "{columns} columns in {width}:\n{text}");
                let shown = text.chars().filter(|c| *c == 'x').count();
                assert_eq!(shown, (0..columns).map(|n| n * 3).sum::<usize>(), "{text}");
            }
        }
    }

    #[test]
    fn control_characters_are_shown() {
        assert_eq!(visible("a\u{1b}[31mb\r\nc"), "a\\u{1b}[31mb\\r\nc");
    }
}
