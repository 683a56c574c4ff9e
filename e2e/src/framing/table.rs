//! The table of what was seen, as a document.

use std::fmt::Write;

use super::vectors::Vector;

/// The table of one direction: a chapter for each of the vectors', a line for each vector, a cell for each
/// of `columns`.
pub fn render(vectors: &[Vector], columns: &[(&str, Vec<String>)]) -> String {
    let mut out = String::new();
    let mut chapter = "";
    let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
    for (index, vector) in vectors.iter().enumerate() {
        if vector.chapter != chapter {
            chapter = vector.chapter;
            let rule = "---|".repeat(names.len() + 4);
            let names = names.join(" | ");
            writeln!(out, "\n### {chapter}\n\n| vector | RFC | must | message | {names} |\n|{rule}")
                .expect("writing into a string");
        }
        let asked = vector.asked.map(|asked| format!("{asked}: ")).unwrap_or_default();
        let cells: Vec<String> = columns.iter().map(|(_, cells)| escaped(&cells[index])).collect();
        let (name, section, must, message) =
            (vector.name, vector.section, vector.must_text, message(vector.text));
        writeln!(out, "| {name} | {section} | {must} | {asked}`{message}` | {} |", cells.join(" | "))
            .expect("writing into a string");
    }
    out
}

/// A document without all columns but that of ours, which is the first one.
pub fn ours_alone(document: &str) -> Vec<String> {
    let rows = document.lines().filter(|line| line.starts_with("| "));
    rows.map(|row| row.split(" | ").take(5).collect::<Vec<&str>>().join(" | ")).collect()
}

/// The line that says with which peers a document was made.
pub fn versions(document: &str) -> &str {
    document.lines().find(|line| line.starts_with("Seen with ")).unwrap_or_default()
}

/// A message within back quotes, in a cell.
fn message(text: &str) -> String {
    text.replace('|', "\\|").replace('`', "\\x60")
}

fn escaped(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;").replace('*', "\\*").replace('_', "\\_")
}
