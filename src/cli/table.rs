//! Tables as the `gnt-*` tools print them, and on a terminal such that they fit.

use std::io::{self, Write};

use super::terminal::Terminal;
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

/// A column, and what becomes of it on a narrow terminal.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// Its title.
    pub title: &'static str,
    /// Lined up on the right.
    pub is_number: bool,
    /// Where it gives way.
    pub narrow: Narrow,
    /// How wide it usually is, and its short cells are.
    pub usual: (usize, usize),
}

/// What a column does when there is too little room. There are [`STEPS`], one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Narrow {
    /// It stays as it is.
    Stays,
    /// It is left out from this step on.
    Gone(u8),
    /// Its cells are short from this step on.
    Short(u8),
    /// Its cells are short from this step on, and cut after the last: first to this length, and then
    /// to [`CELL_MIN`].
    Cut(u8, usize),
}

/// How often a table gives way before cells are cut.
const STEPS: u8 = 3;

/// The least that is left of a cell that is cut.
const CELL_MIN: usize = 8;

/// What stands for the end of a cell that is cut.
const CUT: char = '…';

impl Column {
    /// A column that stays as it is.
    pub fn whole(title: &'static str) -> Self {
        Self { title, is_number: false, narrow: Narrow::Stays, usual: (title.len(), title.len()) }
    }

    fn is_there(self, step: u8) -> bool {
        !matches!(self.narrow, Narrow::Gone(from) if step >= from)
    }

    fn is_short(self, step: u8) -> bool {
        matches!(self.narrow, Narrow::Short(from) | Narrow::Cut(from, _) if step >= from)
    }

    /// The least that is left of its cells; `None` where they are not cut.
    fn least(self) -> Option<usize> {
        if let Narrow::Cut(_, least) = self.narrow { Some(least) } else { None }
    }

    fn usual(self, step: u8) -> usize {
        if self.is_short(step) { self.usual.1 } else { self.usual.0 }
    }
}

/// A cell: a text, the same in short, and how it looks where there are colours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cell {
    text: String,
    /// From the longest to the shortest.
    shorter: Vec<String>,
    look: Look,
}

/// How a cell looks, from the usual to the worst.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Look {
    /// As everything.
    #[default]
    Usual,
    /// Not over, or late.
    Yellow,
    /// Failed.
    Red,
    /// Worse.
    BoldRed,
}

impl From<String> for Cell {
    /// What would say something to a terminal is escaped.
    fn from(text: String) -> Self {
        Self { text: plain(&text, usize::MAX), ..Self::default() }
    }
}

impl Cell {
    /// With this where there is too little room for what it had so far.
    pub fn or_short(mut self, short: &str) -> Self {
        self.shorter.push(plain(short, usize::MAX));
        self
    }

    /// With this look.
    pub fn in_look(self, look: Look) -> Self {
        Self { look, ..self }
    }

    /// Its texts, from the longest that is wanted to the shortest.
    fn texts(&self, is_short: bool) -> impl Iterator<Item = &str> {
        let first = Some(self.text.as_str()).filter(|_| !is_short || self.shorter.is_empty());
        first.into_iter().chain(self.shorter.iter().map(String::as_str))
    }

    /// Its text where there is room.
    #[cfg(test)]
    pub fn text(&self) -> &str {
        &self.text
    }

    fn longest(&self, is_short: bool) -> &str {
        self.texts(is_short).next().unwrap_or_default()
    }
}

/// How wide the columns that are left are.
#[derive(Clone, Debug, Default)]
struct Fit {
    step: u8,
    widths: Vec<usize>,
}

/// Prints rows lined up under titles, all at once or as they come.
#[derive(Debug)]
pub struct Table<'a> {
    layout: &'a Layout,
    columns: Vec<Column>,
    titles: Vec<Cell>,
    rows: Vec<Vec<Cell>>,
    /// The terminal, whose width and colours are used.
    terminal: Terminal,
    /// Rows come one by one: on a terminal the columns' widths are chosen before.
    is_live: bool,
    /// What the rows so far were fitted into.
    fit: Option<Fit>,
}

impl<'a> Table<'a> {
    /// A table with these columns, for this terminal.
    pub fn new(layout: &'a Layout, columns: Vec<Column>, terminal: Terminal, is_live: bool) -> Self {
        let titles = columns.iter().map(|column| Cell::from(column.title.to_owned())).collect();
        let is_live = is_live && terminal.is_there();
        Self { layout, columns, titles, rows: vec![], terminal, is_live, fit: None }
    }

    /// Adds a row.
    pub fn row<C: Into<Cell>>(&mut self, cells: Vec<C>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }

    /// Prints what has been added since the last time; the titles above it the first time.
    ///
    /// # Errors
    /// When the output fails.
    pub fn print(&mut self, mut out: impl Write) -> io::Result<()> {
        let rows = std::mem::take(&mut self.rows);
        let fit = self.fitted(&rows);
        let titles = self.titles().filter(|_| self.fit.is_none());
        for row in titles.into_iter().chain(&rows) {
            match &self.layout.separator {
                Some(separator) => {
                    let cells: Vec<&str> = row.iter().map(|cell| cell.longest(false)).collect();
                    writeln!(out, "{}", cells.join(separator))?;
                }
                None => writeln!(out, "{}", self.line(row, &fit))?,
            }
        }
        self.fit = Some(fit);
        out.flush()
    }

    fn titles(&self) -> Option<&Vec<Cell>> {
        Some(&self.titles).filter(|_| !self.layout.no_headers)
    }

    /// How these rows fit under those before them. A cell that is much longer than usual makes no
    /// column give way.
    fn fitted(&self, rows: &[Vec<Cell>]) -> Fit {
        let room = self.terminal.width.unwrap_or(usize::MAX);
        let chosen = self.fit.as_ref().map(|fit| fit.step);
        let mut fit = self.wanted(rows, chosen.unwrap_or(0));
        let usual = |column: Column, step| column.usual(step);
        while !self.squeeze(&mut fit, room, usual) && chosen.is_none() && fit.step < STEPS {
            fit = self.wanted(rows, fit.step + 1);
        }
        let _ = self.squeeze(&mut fit, room, |column, _| column.least().unwrap_or(0))
            || self.squeeze(&mut fit, room, |_, _| CELL_MIN);
        let left = room.saturating_sub(total(&fit.widths));
        if self.is_live
            && let Some(last) = fit.widths.last_mut()
        {
            *last += left;
        }
        fit
    }

    /// The widths that these rows need at a step, and those before them had. Where rows are still to
    /// come, columns whose cells can be cut are as wide as usual.
    fn wanted(&self, rows: &[Vec<Cell>], step: u8) -> Fit {
        let mut widths = Vec::new();
        for (number, column) in self.shown(step) {
            let had = self.fit.as_ref().and_then(|fit| fit.widths.get(widths.len()).copied()).unwrap_or(0);
            let cells = rows.iter().chain(self.titles()).filter_map(|row| row.get(number));
            let widest = cells.map(|cell| length(cell.longest(column.is_short(step)))).max().unwrap_or(0);
            widths.push(match (self.is_live, column.least()) {
                (false, _) => widest.max(had),
                (true, None) => widest.max(had).max(column.usual(step)),
                (true, Some(_)) => column.usual(step),
            });
        }
        Fit { step, widths }
    }

    /// Takes from the widest of the columns whose cells may be cut, down to a least width, until
    /// they fit; whether they do.
    fn squeeze(&self, fit: &mut Fit, room: usize, least: impl Fn(Column, u8) -> usize) -> bool {
        let step = fit.step;
        let least: Vec<usize> = self
            .shown(step)
            .map(|(_, column)| column.least().map_or(usize::MAX, |_| least(column, step)))
            .collect();
        while total(&fit.widths) > room {
            let wider = fit.widths.iter_mut().zip(&least).filter(|(width, least)| **width > **least);
            let Some(widest) = wider.map(|(width, _)| width).max() else { return false };
            *widest -= 1;
        }
        true
    }

    /// The columns that are left at a step, with their places in a row.
    fn shown(&self, step: u8) -> impl Iterator<Item = (usize, Column)> {
        self.columns.iter().copied().enumerate().filter(move |(_, column)| column.is_there(step))
    }

    fn line(&self, row: &[Cell], fit: &Fit) -> String {
        let mut line = String::new();
        let mut gap = 0;
        for ((number, column), width) in self.shown(fit.step).zip(&fit.widths) {
            let Some(cell) = row.get(number) else { break };
            let text = in_column(cell, column, fit.step, *width);
            let room = width.saturating_sub(length(&text));
            let (left, right) = if column.is_number { (room, 0) } else { (0, room) };
            gap += left;
            if !text.is_empty() {
                // Nothing is printed behind the last text of a line.
                line.extend(std::iter::repeat_n(' ', gap));
                line += &self.painted(&text, cell.look);
                gap = 0;
            }
            gap += right + 1;
        }
        line
    }

    fn painted(&self, text: &str, look: Look) -> String {
        if self.terminal.has_colours { painted(text, look) } else { text.to_owned() }
    }
}

/// A text in the colours of a terminal.
pub fn painted(text: &str, look: Look) -> String {
    let code = match look {
        Look::Usual => return text.to_owned(),
        Look::Yellow => "33",
        Look::Red => "31",
        Look::BoldRed => "1;31",
    };
    format!("\x1b[{code}m{text}\x1b[0m")
}

fn length(text: &str) -> usize {
    text.chars().count()
}

/// How long a line of these columns is.
fn total(widths: &[usize]) -> usize {
    widths.iter().sum::<usize>() + widths.len().saturating_sub(1)
}

/// A cell's text in its column: the longest that fits; what may be cut is not longer than that.
fn in_column(cell: &Cell, column: Column, step: u8, width: usize) -> String {
    let is_short = column.is_short(step);
    if column.least().is_none() {
        return cell.longest(is_short).to_owned();
    }
    let fits = |text: &&str| length(text) <= width;
    match cell.texts(is_short).find(fits) {
        Some(text) => text.to_owned(),
        None => {
            let shortest = cell.texts(is_short).last().unwrap_or_default();
            shortest.chars().take(width.saturating_sub(1)).chain([CUT]).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAYOUT: Layout = Layout { no_headers: false, separator: None };

    fn columns(object: (usize, usize), runs: usize) -> Vec<Column> {
        let column = |title, narrow, usual| Column { title, is_number: title == "Seq", narrow, usual };
        vec![
            column("Seq", Narrow::Gone(1), (4, 4)),
            column("Event", Narrow::Stays, (9, 9)),
            column("Object", Narrow::Cut(2, 12), object),
            column("Runs", Narrow::Cut(3, 8), (runs, runs)),
        ]
    }

    fn row(seq: &str, event: &str, object: &str, runs: &str) -> Vec<Cell> {
        let short = object.rsplit('/').next().unwrap();
        vec![
            Cell::from(seq.to_owned()),
            event.to_owned().into(),
            Cell::from(object.to_owned()).or_short(short),
            Cell::from(runs.to_owned()).in_look(Look::Red),
        ]
    }

    /// With columns that are usually so wide.
    fn table(width: Option<usize>, usual: (usize, usize, usize), is_live: bool) -> Table<'static> {
        let terminal = Terminal { width, has_colours: false };
        Table::new(&LAYOUT, columns((usual.0, usual.1), usual.2), terminal, is_live)
    }

    fn printed(table: &mut Table<'_>) -> Vec<String> {
        let mut out = Vec::new();
        table.print(&mut out).unwrap();
        String::from_utf8(out).unwrap().lines().map(str::to_owned).collect()
    }

    fn at(width: Option<usize>) -> Vec<String> {
        let mut table = table(width, (25, 16, 18), false);
        table.row(row("9", "42.0.pre", "instance/web1.example.com", ""));
        table.row(row("10", "42.0.post", "cluster", "10-mail=0,20-log=1"));
        printed(&mut table)
    }

    #[test]
    fn a_table_gives_way_step_by_step() {
        let wide = [
            "Seq Event     Object                    Runs",
            "  9 42.0.pre  instance/web1.example.com",
            " 10 42.0.post cluster                   10-mail=0,20-log=1",
        ];
        assert_eq!(at(None), wide);
        assert_eq!(at(Some(58)), wide);
        assert_eq!(
            at(Some(57)),
            [
                "Event     Object                    Runs",
                "42.0.pre  instance/web1.example.com",
                "42.0.post cluster                   10-mail=0,20-log=1",
            ]
        );
        assert_eq!(
            at(Some(53))[1..],
            ["42.0.pre  web1.example.com", "42.0.post cluster          10-mail=0,20-log=1"]
        );
        assert_eq!(
            at(Some(40))[1..],
            ["42.0.pre  web1.example.c…", "42.0.post cluster         10-mail=0,20-…"]
        );
        assert!(at(Some(40)).iter().all(|line| line.chars().count() <= 40));
        assert_eq!(at(Some(10))[1], "42.0.pre  web1.ex…", "less is of no use");
    }

    #[test]
    fn a_cell_that_is_longer_than_usual_gives_way_alone() {
        let mut table = table(Some(57), (16, 10, 18), false);
        table.row(row("9", "42.0.pre", "instance/web1.example.com", ""));
        table.row(row("10", "42.0.post", "node/node1", "10-mail=0,20-log=1"));
        assert_eq!(
            printed(&mut table)[1..],
            ["  9 42.0.pre  web1.example.com", " 10 42.0.post node/node1               10-mail=0,20-log=1"]
        );
    }

    #[test]
    fn columns_stay_where_they_are_when_rows_come_one_by_one() {
        let mut table = table(Some(40), (16, 10, 10), true);
        table.row(row("9", "42.0.post", "instance/web1", "10-mail=0"));
        assert_eq!(
            printed(&mut table),
            ["Event     Object           Runs", "42.0.post instance/web1    10-mail=0",]
        );
        table.row(row("10", "142.0.post", "instance/web10.example.com", "10-mail=0,20-log=1,30-send=0"));
        assert_eq!(printed(&mut table), ["142.0.post web10.example.c… 10-mail=0,2…"]);
        table.row(row("11", "42.0.pre", "instance/web1234567", ""));
        assert_eq!(printed(&mut table), ["42.0.pre   web1234567"]);
    }

    #[test]
    fn nothing_is_cut_where_no_terminal_is() {
        let mut table = table(None, (16, 10, 10), true);
        table.row(row("9", "42.0.post", "instance/web1", "10-mail=0"));
        assert_eq!(printed(&mut table)[1], "  9 42.0.post instance/web1 10-mail=0");
        let long = "10-mail=0,20-log=1,30-send=0".repeat(9);
        table.row(row("10", "42.0.pre", "instance/web10", &long));
        assert_eq!(printed(&mut table), [format!(" 10 42.0.pre  instance/web10 {long}")]);
    }

    #[test]
    fn colours_are_not_in_the_way() {
        let mut table = table(Some(80), (16, 10, 10), false);
        table.terminal.has_colours = true;
        table.row(row("1", "42.0.post", "cluster\u{1b}[2J", "10-mail=1"));
        assert_eq!(printed(&mut table)[1], "  1 42.0.post cluster\\u{1b}[2J \u{1b}[31m10-mail=1\u{1b}[0m");
    }
}
