//! Tables as the `gnt-*` tools print them.

use std::io::{self, Write};

use crate::ganeti::text::plain;

/// How a table is printed.
#[derive(Clone, Debug, clap::Args)]
pub struct Layout {
    /// Print no line of column titles
    #[arg(long)]
    pub no_headers: bool,

    /// Separate columns by this text instead of lining them up
    #[arg(long, value_name = "TEXT")]
    pub separator: Option<String>,
}

/// Prints rows as they come, or lined up under titles when they are complete.
#[derive(Debug)]
pub struct Table<'a> {
    layout: &'a Layout,
    rows: Vec<Vec<String>>,
}

impl<'a> Table<'a> {
    /// A table with these titles.
    pub fn new(layout: &'a Layout, titles: &[&str]) -> Self {
        let titles = titles.iter().map(|title| (*title).to_owned()).collect();
        Self { layout, rows: if layout.no_headers { vec![] } else { vec![titles] } }
    }

    /// Adds a row; what would say something to a terminal is escaped.
    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells.iter().map(|cell| plain(cell, usize::MAX)).collect());
    }

    /// Prints what has been added since the last time.
    ///
    /// # Errors
    /// When the output fails.
    pub fn print(&mut self, mut out: impl Write) -> io::Result<()> {
        let rows = std::mem::take(&mut self.rows);
        let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max()
        };
        let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
        for row in &rows {
            let line = match &self.layout.separator {
                Some(separator) => row.join(separator),
                None => line_up(row, &widths),
            };
            writeln!(out, "{line}")?;
        }
        out.flush()
    }
}

fn line_up(row: &[String], widths: &[usize]) -> String {
    let cells: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
    cells.join(" ").trim_end().to_owned()
}
