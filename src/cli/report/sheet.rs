//! Rows of a report, as people read them, as CSV (RFC 4180), or as JSON Lines.

use std::io::{self, Write};

use serde_json::{Map, Value as Json, json};

use crate::cli::fields;
use crate::cli::table::{Cell, Column, Layout, Narrow, Table};
use crate::cli::terminal::Terminal;
use crate::cli::times::{Zone, duration};
use crate::ganeti::event::PostStatus;
use crate::ganeti::job::Timestamp;
use crate::ganeti::text::plain;
use crate::world::journal::HistoryEvent;

/// How rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Columns that are lined up.
    Text,
    /// Comma-separated values.
    Csv,
    /// An object a line.
    Json,
}

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Texts.
    Text,
    /// Numbers.
    Number,
}

/// What stands in a row.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Any text, from anywhere.
    Text(String),
    /// A number of something.
    Count(u64),
    /// Yes or no.
    Flag(bool),
    /// Seconds.
    Duration(Option<f64>),
    /// A moment.
    Time(Option<Timestamp>),
}

impl Value {
    /// For people; absent is a dash, as in the tables of Ganeti.
    fn cell(&self, zone: Zone) -> Cell {
        let text = match self {
            Self::Duration(seconds) => seconds.map(duration),
            Self::Time(time) => time.map(|time| zone.show(time)),
            other => Some(other.text(zone)).filter(|text| !text.is_empty()),
        };
        text.unwrap_or_else(|| "-".to_owned()).into()
    }

    /// For programs; absent is empty. A text is one line of plain characters.
    fn text(&self, zone: Zone) -> String {
        match self {
            Self::Text(text) => plain(text, usize::MAX),
            Self::Count(count) => count.to_string(),
            Self::Flag(is_so) => if *is_so { "yes" } else { "no" }.to_owned(),
            Self::Duration(seconds) => seconds.map(|seconds| format!("{seconds:.3}")).unwrap_or_default(),
            Self::Time(time) => time.map(|time| zone.show_exact(time)).unwrap_or_default(),
        }
    }

    /// As it is.
    fn json(&self, zone: Zone) -> Json {
        match self {
            Self::Text(text) => json!(text),
            Self::Count(count) => json!(count),
            Self::Flag(is_so) => json!(is_so),
            Self::Duration(seconds) => json!(seconds),
            Self::Time(time) => json!(time.map(|time| zone.show_exact(time))),
        }
    }

    /// A field of CSV. A text that a spreadsheet would take for a formula is none with a `'` before
    /// it (OWASP, CSV injection).
    fn field(&self, zone: Zone) -> String {
        let text = self.text(zone);
        let is_formula = matches!(self, Self::Text(_)) && text.starts_with(|c| "=+-@＝＋－＠".contains(c));
        if is_formula { format!("'{text}") } else { text }
    }
}

/// A report that is being written.
pub struct Sheet<'a, W: Write> {
    form: Form<'a, W>,
    names: Vec<&'static str>,
    zone: Zone,
}

enum Form<'a, W: Write> {
    Text(Table<'a>, W),
    Csv(Box<csv::Writer<W>>),
    Json(W),
}

impl<'a, W: Write> Sheet<'a, W> {
    /// Begins one with these columns.
    ///
    /// # Errors
    /// When the output fails.
    pub fn new(
        format: Format,
        columns: Vec<(&'static str, Kind)>,
        layout: &'a Layout,
        zone: Zone,
        terminal: Terminal,
        out: W,
    ) -> io::Result<Self> {
        let names: Vec<&'static str> = columns.iter().map(|(name, _)| *name).collect();
        let form = match format {
            Format::Text => Form::Text(table(&columns, layout, terminal), out),
            Format::Json => Form::Json(out),
            Format::Csv => {
                let mut csv = csv::Writer::from_writer(out);
                if !layout.no_headers {
                    csv.write_record(&names)?;
                }
                Form::Csv(Box::new(csv))
            }
        };
        Ok(Self { form, names, zone })
    }

    /// Adds a row.
    ///
    /// # Errors
    /// When the output fails.
    pub fn row(&mut self, values: Vec<Value>) -> io::Result<()> {
        let zone = self.zone;
        match &mut self.form {
            Form::Text(table, _) => table.row(values.iter().map(|value| value.cell(zone)).collect()),
            Form::Csv(csv) => csv.write_record(values.iter().map(|value| value.field(zone)))?,
            Form::Json(out) => {
                let named = self.names.iter().zip(&values);
                let object: Map<String, Json> =
                    named.map(|(name, value)| ((*name).to_owned(), value.json(zone))).collect();
                writeln!(out, "{}", Json::Object(object))?;
            }
        }
        Ok(())
    }

    /// Writes out what has been added.
    ///
    /// # Errors
    /// When the output fails.
    pub fn flush(&mut self) -> io::Result<()> {
        match &mut self.form {
            Form::Text(table, out) => table.print(out),
            Form::Csv(csv) => csv.flush(),
            Form::Json(out) => out.flush(),
        }
    }
}

/// A table for people. On a narrow terminal texts are cut.
fn table<'a>(columns: &[(&'static str, Kind)], layout: &'a Layout, terminal: Terminal) -> Table<'a> {
    let columns = columns.iter().map(|(name, kind)| {
        let is_number = *kind == Kind::Number;
        let narrow = if is_number { Narrow::Stays } else { Narrow::Cut(1, 12) };
        Column { title: title(name), is_number, narrow, usual: (name.len(), name.len()) }
    });
    Table::new(layout, columns.collect(), terminal, false)
}

/// A column's name above it, in few letters.
fn title(name: &'static str) -> &'static str {
    match name {
        "day" => "Day",
        "opcodes" => "Opcodes",
        "succeeded" => "OK",
        "failed" => "Failed",
        "disappeared" => "Died",
        "lock_wait_p50" => "Locks p50",
        "lock_wait_p95" => "p95",
        "execution_p50" => "Ran p50",
        "execution_p95" => "p95",
        "runs" => "Hooks",
        "runs_failed" => "Failed",
        "failing_hooks" => "Failing hooks",
        "object_type" => "Type",
        other => fields::title(other).unwrap_or(other),
    }
}

/// The columns of [`event_row`].
pub fn event_columns() -> Vec<(&'static str, Kind)> {
    use Kind::{Number, Text};
    vec![
        ("id", Text),
        ("event", Text),
        ("time", Text),
        ("op_code", Text),
        ("object_type", Text),
        ("object", Text),
        ("status", Text),
        ("executed", Text),
        ("late", Text),
        ("received", Text),
        ("started", Text),
        ("executed_at", Text),
        ("ended", Text),
        ("start_delay", Number),
        ("lock_wait", Number),
        ("held", Number),
        ("execution", Number),
        ("reason", Text),
        ("parent", Text),
        ("error", Text),
        ("runs", Number),
        ("runs_failed", Number),
    ]
}

/// An event as a row.
pub fn event_row(event: &HistoryEvent) -> Vec<Value> {
    let (told, about) = (&event.event, &*event.event.about);
    let text = |text: Option<&str>| Value::Text(text.unwrap_or_default().to_owned());
    let parent = about.reason.parent(told.key).map(|parent| format!("{}.{}", parent.job, parent.op));
    let object = about.object.as_ref();
    let count = |count: usize| Value::Count(count as u64);
    vec![
        Value::Text(told.id()),
        Value::Text(told.key.to_string()),
        Value::Time(Some(told.time)),
        Value::Text(told.op_code.clone()),
        text(object.map(|object| object.kind.as_str())),
        text(object.and_then(|object| object.name.as_deref())),
        text(told.status.map(PostStatus::as_str)),
        Value::Flag(told.executed),
        Value::Flag(told.late),
        Value::Time(Some(told.received)),
        Value::Time(about.started),
        Value::Time(about.executed),
        Value::Time(about.ended),
        Value::Duration(about.start_delay(told.key, told.received)),
        Value::Duration(about.lock_wait()),
        Value::Duration(event.held.map(|held| held.as_secs_f64())),
        Value::Duration(about.execution()),
        text(about.reason.in_short()),
        text(parent.as_deref()),
        text(about.error.as_deref()),
        count(event.runs.iter().filter(|run| run.counts()).count()),
        count(event.runs.iter().filter(|run| run.has_failed()).count()),
    ]
}
