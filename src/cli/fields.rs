//! What tables of events show: the fields, and how they are chosen.

use std::io;

use super::Failure;
use super::table::{Cell, Column, Layout, Look, Narrow, Table};
use super::terminal::Terminal;
use super::times::{Zone, duration};
use crate::engine::change::EventState;
use crate::engine::directories;
use crate::ganeti::event::PostStatus;
use crate::ganeti::job::Timestamp;
use crate::world::journal::{HistoryEvent, RunRecord};

/// Which fields of events are shown, and how.
#[derive(Clone, Debug, clap::Args)]
pub struct TableArgs {
    /// Fields to show, separated by commas; +FIELD adds to the usual ones
    #[arg(long, short, value_name = "FIELDS")]
    output: Option<String>,

    #[command(flatten)]
    layout: Layout,

    /// Show durations for people (h: 30ms, 1.5s, 4m10s) or in seconds (s); default: h, with
    /// --separator s
    #[arg(long, value_name = "UNIT", hide_possible_values = true)]
    units: Option<Units>,

    #[command(flatten)]
    pub zone: Zone,
}

/// How durations are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Units {
    /// For people.
    H,
    /// In seconds.
    S,
}

/// A field: its name, its column, and what it shows.
struct Field {
    name: &'static str,
    column: Column,
    cell: fn(&HistoryEvent, Style) -> Cell,
}

/// How what people read is written.
#[derive(Clone, Copy)]
struct Style {
    zone: Zone,
    units: Units,
}

const fn field(name: &'static str, title: &'static str, cell: fn(&HistoryEvent, Style) -> Cell) -> Field {
    Field { name, column: Column { title, is_number: false, narrow: Narrow::Stays, usual: (0, 0) }, cell }
}

const fn number(name: &'static str, title: &'static str, cell: fn(&HistoryEvent, Style) -> Cell) -> Field {
    Field { name, column: Column { title, is_number: true, narrow: Narrow::Stays, usual: (0, 0) }, cell }
}

impl Field {
    /// It gives way so, and is usually that wide, also in short.
    const fn narrow(self, narrow: Narrow, usual: usize, short: usize) -> Self {
        let Self { name, column, cell } = self;
        Self { name, column: Column { narrow, usual: (usual, short), ..column }, cell }
    }
}

const FIELDS: [Field; 28] = [
    number("seq", "Seq", |e, _| e.seq.to_string().into()).narrow(Narrow::Gone(1), 5, 5),
    field("id", "ID", |e, _| e.event.id().into()),
    field("time", "Time", |e, style| style.time(Some(e.event.time))).narrow(Narrow::Short(3), 19, 14),
    field("event", "Event", |e, _| e.event.key.to_string().into()).narrow(Narrow::Stays, 10, 10),
    number("job", "Job", |e, _| e.event.key.job.to_string().into()),
    number("op", "Op", |e, _| e.event.key.op.to_string().into()),
    number("op_count", "OpCount", |e, _| e.event.op_count.to_string().into()),
    field("op_code", "OpCode", op_code).narrow(Narrow::Cut(3, 20), 23, 20),
    field("object", "Object", object).narrow(Narrow::Cut(2, 10), 26, 16),
    field("phase", "Phase", |e, _| e.event.key.phase.to_string().into()),
    field("status", "Status", status).narrow(Narrow::Short(1), 11, 11),
    field("executed", "Executed", |e, _| yes_no(e.event.executed)),
    field("late", "Late", |e, _| yes_no(e.event.late).in_look(yellow_if(e.event.late))).narrow(
        Narrow::Gone(1),
        4,
        4,
    ),
    field("state", "State", |e, _| Cell::from(e.state.clone()).in_look(yellow_if(is_pending(e)))).narrow(
        Narrow::Gone(1),
        7,
        7,
    ),
    field("runs", "Runs", runs).narrow(Narrow::Cut(2, 12), 20, 12),
    number("failed", "Failed", |e, _| {
        e.runs.iter().filter(|run| run.has_failed()).count().to_string().into()
    }),
    field("output", "Output", output),
    field("received", "Received", |e, style| style.time(Some(e.event.received))),
    field("started", "Started", |e, style| style.time(e.event.about.started)),
    field("executed_at", "ExecutedAt", |e, style| style.time(e.event.about.executed)),
    field("ended", "Ended", |e, style| style.time(e.event.about.ended)),
    number("start_delay", "StartDelay", |e, style| {
        style.duration(e.event.about.start_delay(e.event.key, e.event.received))
    }),
    number("lock_wait", "LockWait", |e, style| style.duration(e.event.about.lock_wait())),
    number("held", "Held", |e, style| style.duration(e.held.map(|held| held.as_secs_f64()))),
    number("execution", "Execution", |e, style| style.duration(e.event.about.execution())),
    field("reason", "Reason", |e, _| or_none(e.event.about.reason.in_short().map(str::to_owned))),
    field("parent", "Parent", |e, _| {
        or_none(
            e.event.about.reason.parent(e.event.key).map(|parent| format!("{}.{}", parent.job, parent.op)),
        )
    }),
    field("error", "Error", |e, _| or_none(e.event.about.error.clone())),
];

/// The title of a field's column.
pub fn title(name: &str) -> Option<&'static str> {
    Some(FIELDS.iter().find(|field| field.name == name)?.column.title)
}

const USUAL_FIELDS: &str = "seq,time,event,op_code,object,status,late,state,runs";

impl Style {
    fn time(self, time: Option<Timestamp>) -> Cell {
        let Some(time) = time else { return or_none(None) };
        Cell::from(self.zone.show(time)).or_short(&self.zone.show_short(time))
    }

    fn duration(self, seconds: Option<f64>) -> Cell {
        or_none(seconds.map(|seconds| match self.units {
            Units::H => duration(seconds),
            Units::S => seconds.to_string(),
        }))
    }
}

/// Absent is a dash, as in the tables of Ganeti.
fn or_none(text: Option<String>) -> Cell {
    text.unwrap_or_else(|| "-".to_owned()).into()
}

fn yes_no(value: bool) -> Cell {
    if value { "yes" } else { "no" }.to_owned().into()
}

fn yellow_if(is_so: bool) -> Look {
    if is_so { Look::Yellow } else { Look::Usual }
}

fn is_pending(event: &HistoryEvent) -> bool {
    event.state == EventState::Pending.as_str()
}

fn op_code(event: &HistoryEvent, _: Style) -> Cell {
    let code = &event.event.op_code;
    Cell::from(code.clone()).or_short(code.strip_prefix("OP_").unwrap_or(code))
}

/// In short the name, and its first label.
fn object(event: &HistoryEvent, _: Style) -> Cell {
    let Some(object) = &event.event.about.object else { return or_none(None) };
    let cell = Cell::from(object.to_string());
    let Some(name) = &object.name else { return cell };
    let label = name.split('.').next().filter(|label| !label.is_empty()).unwrap_or(name);
    cell.or_short(name).or_short(label)
}

/// How an opcode that ended so looks.
pub fn look(status: PostStatus) -> Look {
    match status {
        PostStatus::Succeeded => Look::Usual,
        PostStatus::Failed => Look::Red,
        PostStatus::Disappeared => Look::BoldRed,
    }
}

/// How the opcode ended; in short with what the columns say that are left out then.
fn status(event: &HistoryEvent, _: Style) -> Cell {
    let status = event.event.status;
    let of_event = yellow_if(event.event.late || is_pending(event));
    let of_status = status.map_or(Look::Usual, look);
    let mut words: Vec<&str> = status.map(PostStatus::as_str).into_iter().collect();
    if event.event.late {
        words.push("late");
    }
    if event.state != EventState::Done.as_str() {
        words.push(&event.state);
    }
    let short = if words.is_empty() { "-".to_owned() } else { words.join(" ") };
    or_none(status.map(|status| status.as_str().to_owned())).or_short(&short).in_look(of_status.max(of_event))
}

fn output(event: &HistoryEvent, _: Style) -> Cell {
    let all: String = event.runs.iter().filter_map(|run| run.output.as_deref()).collect();
    all.escape_debug().to_string().into()
}

/// The runs in a few words each; in short those that failed, or how many there are.
fn runs(event: &HistoryEvent, _: Style) -> Cell {
    let told: Vec<(&RunRecord, String)> =
        event.runs.iter().filter_map(|run| Some((run, describe(event, run)?))).collect();
    let in_words = |wanted: fn(&RunRecord) -> bool| {
        let wanted = told.iter().filter(|(run, _)| wanted(run));
        wanted.map(|(_, words)| words.as_str()).collect::<Vec<_>>().join(",")
    };
    let is_news = |run: &RunRecord| !run.ended || run.has_failed();
    let short = match told.iter().filter(|(run, _)| is_news(run)).count() {
        0 if told.is_empty() => String::new(),
        0 => format!("{} ok", told.len()),
        _ => in_words(is_news),
    };
    let look = if event.has_failed() { Look::Red } else { Look::Usual };
    Cell::from(in_words(|_| true)).or_short(&short).in_look(look)
}

/// A run in a few words: `10-mail=0`, `20-log=signal 9`, on another node `node2:10-mail=0`.
/// None of one that is not worth a word ([`RunRecord::is_told`]).
pub fn describe(event: &HistoryEvent, run: &RunRecord) -> Option<String> {
    if !run.is_told() {
        return None;
    }
    let result = match (run.ended, &run.error, run.code, run.signal) {
        (false, ..) if event.was_cut_short(run) => "interrupted".to_owned(),
        (false, ..) => "running".to_owned(),
        (true, Some(_), ..) => "failed".to_owned(),
        (true, None, Some(code), _) => code.to_string(),
        (true, None, None, signal) => format!("signal {}", signal.unwrap_or(0)),
    };
    let was_asked = event.runs.iter().any(|other| other.node == run.node && other.is_request());
    let node = run.node.split('.').next().filter(|_| was_asked);
    let place = node.map(|node| format!("{node}:")).unwrap_or_default();
    Some(format!("{place}{}={result}", directories::label(&run.directory, &run.script)))
}

impl TableArgs {
    /// Whether somebody asks for a table, be there a terminal or not.
    pub fn is_asked_for(&self) -> bool {
        let Layout { no_headers, separator } = &self.layout;
        self.output.is_some() || *no_headers || separator.is_some() || self.units.is_some()
    }

    /// Whether lines are wanted that are not of the table.
    pub fn is_for_people(&self) -> bool {
        !self.layout.no_headers && self.layout.separator.is_none()
    }

    /// The table; its rows may come one by one.
    ///
    /// # Errors
    /// When there is no such field.
    pub fn table(&self, is_live: bool) -> Result<EventTable<'_>, Failure> {
        let fields = self.fields()?;
        let separated = self.layout.separator.is_some();
        let mut terminal = Terminal::of_output();
        // What was asked for by name is shown whole, what goes into a program unpainted.
        terminal.width = terminal.width.filter(|_| self.adds_to_usual());
        terminal.has_colours &= !separated;
        let units = self.units.unwrap_or(if separated { Units::S } else { Units::H });
        Ok(EventTable {
            table: Table::new(
                &self.layout,
                fields.iter().map(|field| field.column).collect(),
                terminal,
                is_live,
            ),
            fields,
            style: Style { zone: self.zone, units },
        })
    }

    fn adds_to_usual(&self) -> bool {
        self.output.as_ref().is_none_or(|fields| fields.starts_with('+'))
    }

    fn fields(&self) -> Result<Vec<&'static Field>, Failure> {
        let wanted = match self.output.as_deref() {
            None => USUAL_FIELDS.to_owned(),
            Some(more) if more.starts_with('+') => format!("{USUAL_FIELDS},{}", &more[1..]),
            Some(fields) => fields.to_owned(),
        };
        let find = |name: &str| {
            FIELDS.iter().find(|field| field.name == name).ok_or_else(|| {
                let names: Vec<&str> = FIELDS.iter().map(|field| field.name).collect();
                Failure::Usage(format!("there is no field \"{name}\"; fields are {}", names.join(", ")))
            })
        };
        wanted.split(',').map(|name| find(name.trim())).collect()
    }
}

/// A table of events.
pub struct EventTable<'a> {
    table: Table<'a>,
    fields: Vec<&'static Field>,
    style: Style,
}

impl EventTable<'_> {
    /// Adds an event.
    pub fn event(&mut self, event: &HistoryEvent) {
        self.table.row(self.fields.iter().map(|field| (field.cell)(event, self.style)).collect());
    }

    /// Prints what has been added since the last time.
    ///
    /// # Errors
    /// When the output fails.
    pub fn print(&mut self) -> io::Result<()> {
        self.table.print(io::stdout().lock())
    }
}
