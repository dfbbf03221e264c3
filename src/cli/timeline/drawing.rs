//! Jobs as lines of characters.

use std::collections::BTreeMap;
use std::env;
use std::io::{self, Write};

use super::course::{Opcode, Stage};
use crate::cli::fields::{describe, look};
use crate::cli::table::{Look, painted};
use crate::cli::terminal::Terminal;
use crate::cli::times::{Zone, duration};
use crate::ganeti::event::PostStatus;
use crate::ganeti::job::{JobId, Timestamp};
use crate::ganeti::text::plain;
use crate::world::journal::{HistoryEvent, RunRecord};

/// How wide the names before the bars are.
const NAME_WIDTH: usize = 26;

/// How wide what stands behind the bars usually is.
const TOLD_WIDTH: usize = 24;

/// The least that is left for the bars.
const BAR_MIN: usize = 16;

/// Bytes of a text that are shown.
const TEXT_MAX: usize = 200;

/// Hooks are looked for so many seconds behind their opcode; what ran later stands at the edge.
const HOOKS_WITHIN: f64 = 10.0;

/// The characters that bars are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signs {
    queued: char,
    locks: char,
    held: char,
    executing: char,
    failed: char,
    disappeared: char,
    hook: char,
    /// It has no end yet, or that is out of sight.
    further: char,
    tick: char,
}

/// Where UTF-8 is known.
const BLOCKS: Signs = Signs {
    queued: '·',
    locks: '░',
    held: '▒',
    executing: '█',
    failed: '✗',
    disappeared: '†',
    hook: '▬',
    further: '►',
    tick: '╵',
};

/// Everywhere.
const ASCII: Signs = Signs {
    queued: '.',
    locks: ':',
    held: '+',
    executing: '=',
    failed: '!',
    disappeared: 'X',
    hook: '-',
    further: '>',
    tick: '|',
};

impl Signs {
    /// Those that survive where the output goes.
    pub fn of(terminal: Terminal) -> Self {
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
            .into_iter()
            .find_map(|name| env::var(name).ok().filter(|value| !value.is_empty()));
        let locale = locale.unwrap_or_default().to_ascii_lowercase().replace('-', "");
        if terminal.is_there() && locale.contains("utf8") { BLOCKS } else { ASCII }
    }
}

/// How jobs are drawn.
pub struct Drawing {
    /// The characters of bars.
    pub signs: Signs,
    /// Characters of a line.
    pub width: usize,
    /// Whether there are colours.
    pub has_colours: bool,
    /// In which times are shown.
    pub zone: Zone,
    /// What has not ended is drawn up to here, in seconds since the epoch.
    pub now: f64,
}

/// The time that a job's bars stand for, in seconds since the epoch, and their characters.
#[derive(Clone, Copy)]
struct Axis {
    from: f64,
    to: f64,
    width: usize,
}

impl Axis {
    /// The axis of a job.
    fn of(opcodes: &BTreeMap<u32, Opcode>, now: f64, width: usize) -> Self {
        let from = opcodes.values().filter_map(Opcode::begin).fold(f64::INFINITY, f64::min);
        let to = opcodes.values().map(|opcode| opcode.end(now)).fold(from, f64::max);
        let near = to + HOOKS_WITHIN.max(to - from);
        let runs = opcodes.values().flat_map(Opcode::runs).map(|(event, run)| run_end(event, run, now));
        let to = runs.filter(|end| *end <= near).fold(to, f64::max);
        Self { from, to: to.max(from + 0.001), width }
    }

    /// Which characters stand for a time: from the first to before the second, one at least.
    fn place(self, from: f64, to: f64) -> (usize, usize) {
        let place = |time: f64| {
            let part = ((time - self.from) / (self.to - self.from)).clamp(0.0, 1.0);
            (part * self.width as f64).round() as usize
        };
        let first = place(from).min(self.width - 1);
        (first, place(to).clamp(first + 1, self.width))
    }
}

/// When a run was over; of one that was cut short nobody knows.
fn run_end(event: &HistoryEvent, run: &RunRecord, now: f64) -> f64 {
    match run.seconds {
        Some(seconds) => run.started + seconds,
        None if run.ended || event.was_cut_short(run) => run.started,
        None => now.max(run.started),
    }
}

impl Drawing {
    /// Draws a job.
    ///
    /// # Errors
    /// When the output fails.
    pub fn job(
        &self,
        out: &mut impl Write,
        id: JobId,
        received: Timestamp,
        opcodes: &BTreeMap<u32, Opcode>,
    ) -> io::Result<()> {
        let reason = opcodes.values().find_map(|opcode| opcode.last()?.event.about.reason.in_short());
        let reason = reason.map(|text| format!("  ({})", plain(text, TEXT_MAX))).unwrap_or_default();
        writeln!(out, "job {id}  {}{reason}", self.zone.show(received))?;
        let width = self.width.saturating_sub(NAME_WIDTH + TOLD_WIDTH + 4).max(BAR_MIN);
        let axis = Axis::of(opcodes, self.now, width);
        for (op, opcode) in opcodes {
            self.opcode(out, *op, opcode, axis)?;
        }
        writeln!(out, "{}\n", self.scale(axis).trim_end())
    }

    fn opcode(&self, out: &mut impl Write, op: u32, opcode: &Opcode, axis: Axis) -> io::Result<()> {
        let Some(last) = opcode.last() else { return Ok(()) };
        let code = last.event.op_code.strip_prefix("OP_").unwrap_or(&last.event.op_code);
        let status = opcode.status();
        let word = status.map_or("under way", PostStatus::as_str);
        let told = painted_if(self.has_colours, word, status.map_or(Look::Yellow, look));
        self.line(out, &format!("{op} {}", plain(code, TEXT_MAX)), &self.bar(opcode, axis), &told)?;
        if let Some(object) = &last.event.about.object {
            writeln!(out, "    {}", plain(&object.to_string(), TEXT_MAX))?;
        }
        let stages: Vec<String> = opcode.stages(self.now).into_iter().filter_map(in_words).collect();
        writeln!(out, "    {}", stages.join(", "))?;
        if let Some(error) = &last.event.about.error {
            writeln!(out, "    {}", plain(error, TEXT_MAX))?;
        }
        for (event, run) in opcode.runs() {
            let look = if run.has_failed() { Look::Red } else { Look::Usual };
            let words = describe(event, run).unwrap_or_default();
            let (name, result) = words.rsplit_once('=').unwrap_or((&words, ""));
            let took = run.seconds.map(|seconds| format!("  {}", duration(seconds))).unwrap_or_default();
            let told = painted_if(self.has_colours, &plain(result, TEXT_MAX), look) + &took;
            let name = format!("  {} {}", event.event.key.phase, plain(name, TEXT_MAX));
            self.line(out, &name, &self.run(event, run, axis), &told)?;
        }
        Ok(())
    }

    /// A name, a bar, and what is told behind it.
    fn line(&self, out: &mut impl Write, name: &str, bar: &str, told: &str) -> io::Result<()> {
        let name: String = match name.chars().count() > NAME_WIDTH {
            true => name.chars().take(NAME_WIDTH - 2).chain("..".chars()).collect(),
            false => name.to_owned(),
        };
        writeln!(out, "  {name:NAME_WIDTH$} {bar} {told}")
    }

    /// The bar of an opcode.
    fn bar(&self, opcode: &Opcode, axis: Axis) -> String {
        let mut bar = vec![' '; axis.width];
        for (stage, from, to) in opcode.stages(self.now) {
            if from < to || stage == Stage::Executing {
                let (first, end) = axis.place(from, to);
                bar[first..end].fill(self.sign(stage));
            }
        }
        let (_, end) = axis.place(opcode.end(self.now), opcode.end(self.now));
        let last = match opcode.status() {
            Some(PostStatus::Succeeded) => None,
            Some(PostStatus::Failed) => Some(self.signs.failed),
            Some(PostStatus::Disappeared) => Some(self.signs.disappeared),
            None => Some(self.signs.further),
        };
        if let Some(last) = last {
            bar[end - 1] = last;
        }
        bar.into_iter().collect()
    }

    fn sign(&self, stage: Stage) -> char {
        match stage {
            Stage::Queued => self.signs.queued,
            Stage::Locks => self.signs.locks,
            Stage::Held => self.signs.held,
            Stage::Executing => self.signs.executing,
        }
    }

    /// The bar of a run.
    fn run(&self, event: &HistoryEvent, run: &RunRecord, axis: Axis) -> String {
        let mut bar = vec![' '; axis.width];
        let (first, end) = axis.place(run.started, run_end(event, run, self.now));
        let sign = if run.has_failed() { self.signs.failed } else { self.signs.hook };
        bar[first..end].fill(if run.started > axis.to { self.signs.further } else { sign });
        bar.into_iter().collect()
    }

    /// The axis in words: how long after its beginning.
    fn scale(&self, axis: Axis) -> String {
        let label = |quarter: usize| {
            let seconds = (axis.to - axis.from) * quarter as f64 / 4.0;
            let text = if quarter == 0 { "0".to_owned() } else { duration(seconds) };
            format!("{}{text}", self.signs.tick)
        };
        let has_room = (0..4).all(|quarter| label(quarter).chars().count() + 1 < axis.width / 4);
        let mut scale = vec![' '; axis.width + TOLD_WIDTH];
        for quarter in (0..=4).step_by(if has_room { 1 } else { 2 }) {
            let at = (axis.width * quarter / 4).min(axis.width - 1);
            let label = label(quarter);
            let end = at + label.chars().count();
            scale.resize(scale.len().max(end), ' ');
            scale.splice(at..end, label.chars());
        }
        format!("  {:NAME_WIDTH$} {}", "", scale.into_iter().collect::<String>())
    }

    /// What the characters mean.
    ///
    /// # Errors
    /// When the output fails.
    pub fn legend(&self, out: &mut impl Write) -> io::Result<()> {
        let Signs { queued, locks, held, executing, failed, disappeared, hook, further, .. } = self.signs;
        let meanings = [
            (queued, "queued"),
            (locks, "waits for locks"),
            (held, "held"),
            (executing, "executes"),
            (failed, "failed"),
            (disappeared, "process died"),
            (further, "under way, or later"),
            (hook, "hook"),
        ];
        let mut line = String::new();
        for meaning in meanings.map(|(sign, meaning)| format!("{sign} {meaning}")) {
            if !line.is_empty() && line.chars().count() + meaning.chars().count() + 2 > self.width {
                writeln!(out, "{}", line.trim_end())?;
                line.clear();
            }
            line += &format!("{meaning}  ");
        }
        writeln!(out, "{}", line.trim_end())
    }
}

fn painted_if(has_colours: bool, text: &str, look: Look) -> String {
    if has_colours { painted(text, look) } else { text.to_owned() }
}

/// How long a stage was; none that was not, or so short that it would be shown as nothing.
fn in_words((stage, from, to): (Stage, f64, f64)) -> Option<String> {
    let word = match stage {
        Stage::Queued => "queued",
        Stage::Locks => "locks",
        Stage::Held => "held",
        Stage::Executing => "executed",
    };
    (to - from >= 0.0005).then(|| format!("{word} {}", duration(to - from)))
}
