//! `ganeti-hookd replay`

mod live;
mod printer;

use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::fields::TableArgs;
use super::terminal::Terminal;
use super::{Failure, failed, say};
use crate::daemon::read_settings;
use crate::engine::directories::{self, HooksPath};
use crate::engine::environment::{self, Environment};
use crate::engine::outcome::Outcome;
use crate::engine::replay::Replay;
use crate::engine::settings::{DEFAULT_PATH, Nodes, Settings};
use crate::ganeti::event::Event;
use crate::ganeti::opcodes::View;
use crate::ganeti::recording::{Line, parse_line};
use crate::world::hook::run::{Judged, Limits, Starter, run};
use crate::world::hook::scripts::{Hooks, Script};
use live::Live;
use printer::{Played, Printer, Run};

/// Play a recording and print the events it holds
///
/// Prints the table of `events` on a terminal, and one JSON object a line where no terminal is
/// or with --json. Needs no root, no Ganeti and no configuration. PATH is a recording (JSON
/// Lines, from `ganeti-hookd record`), or a directory that holds one named events.jsonl.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The recording
    path: PathBuf,

    /// Print JSON Lines, also on a terminal
    #[arg(long, conflicts_with_all = ["output", "no_headers", "separator", "units"])]
    json: bool,

    /// Add the hooks' environment (`env`) and nodes (`nodes`, master first) to each event;
    /// prints JSON Lines
    #[arg(long, conflicts_with_all = ["output", "no_headers", "separator", "units"])]
    env: bool,

    /// Run the hook scripts in the directories below DIR (default: the configured hooks-dir), as
    /// the daemon would on the master, and add what became of them (`runs`) to each event
    #[arg(long, value_name = "DIR", num_args = 0..=1, require_equals = true)]
    hooks: Option<Option<PathBuf>>,

    /// Play as fast as it happened (1), twice as fast (2), ...; default: as fast as it goes
    #[arg(long, value_name = "FACTOR", value_parser = speed)]
    speed: Option<f64>,

    /// Play the files into this directory, for a daemon whose queue-dir, data-dir and
    /// ganeti-run-dir it is, with a process for each job process; at speed 1 unless told otherwise
    #[arg(long, value_name = "DIR")]
    live: Option<PathBuf>,

    #[command(flatten)]
    table: TableArgs,
}

fn speed(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|speed: &f64| speed.is_finite() && *speed > 0.0)
        .ok_or_else(|| "must be a number above 0".to_owned())
}

/// The file of a recording's folder that holds the recording.
const EVENTS_FILE: &str = "events.jsonl";

impl Args {
    /// The directory of the hooks directories, if scripts are to run.
    fn hooks_dir(&self, settings: &Settings) -> Result<Option<PathBuf>, Failure> {
        match &self.hooks {
            None => Ok(None),
            Some(None) => Ok(Some(settings.paths.hooks_dir.clone())),
            // Scripts do not run in our working directory.
            Some(Some(dir)) => match dir.canonicalize() {
                Ok(dir) => Ok(Some(dir)),
                Err(error) => Err(failed(format!("--hooks={}: {error}", dir.display()))),
            },
        }
    }

    pub(super) fn run(&self, config: &Path) -> Result<(), Failure> {
        // A recording is played the same on every machine, unless a configuration is named.
        let settings = match config == Path::new(DEFAULT_PATH) && !matches!(self.hooks, Some(None)) {
            true => Settings::default(),
            false => read_settings(config)?,
        };
        let path = if self.path.is_dir() { self.path.join(EVENTS_FILE) } else { self.path.clone() };
        let file = File::open(&path)
            .map_err(|error| failed(format!("{}: {error}; PATH is a recording", path.display())))?;
        let progress = Progress::new(file.metadata()?.len());
        let mut player = Player {
            hooks: self.hooks_dir(&settings)?.map(RealHooks::new).transpose()?,
            env: self.env,
            settings,
            replay: Replay::default(),
            live: self.live.as_deref().map(live).transpose()?,
            printer: self.printer()?,
            progress,
        };
        let clock = Clock::new(self.speed.or(self.live.as_ref().map(|_| 1.0)));
        let bad = player.play_all(&path, file, clock)?;
        player.printer.end()?;
        match bad {
            0 => Ok(()),
            1 => Err(failed(format!("{}: 1 line could not be used", path.display()))),
            n => Err(failed(format!("{}: {n} lines could not be used", path.display()))),
        }
    }

    fn printer(&self) -> Result<Printer<'_>, Failure> {
        let is_table = Terminal::of_output().is_there() || self.table.is_asked_for();
        if self.json || self.env || !is_table {
            return Ok(Printer::Json);
        }
        // At the speed of then it is shown as it comes.
        Printer::table(&self.table, self.speed.is_some() || self.live.is_some())
    }
}

fn live(dir: &Path) -> Result<Live, Failure> {
    Live::new(dir).map_err(|error| failed(format!("--live={}: {error}", dir.display())))
}

/// Plays lines and prints what they bring.
struct Player<'a> {
    settings: Settings,
    replay: Replay,
    hooks: Option<RealHooks>,
    env: bool,
    live: Option<Live>,
    printer: Printer<'a>,
    progress: Progress,
}

/// The scripts that are run for each event.
struct RealHooks {
    scripts: Hooks,
    starter: Starter,
}

impl RealHooks {
    fn new(dir: PathBuf) -> Result<Self, Failure> {
        Ok(Self { scripts: Hooks::new(&dir), starter: Starter::new().map_err(failed)? })
    }

    /// Runs those of a directory, one after the other.
    fn run(&mut self, directory: &str, env: &Environment, limits: Limits) -> Result<Vec<Run>, Failure> {
        let scripts = self.scripts.list(directory).map_err(failed)?;
        let run = |script: Script| {
            let Outcome { code, signal, seconds, output, error, .. } = match &script.refusal {
                Some(refusal) => Outcome::not_run(format!("refused: {refusal}")),
                None => run(&self.starter, Judged::new(&script.path, None), env, limits, None),
            };
            let directory = directory.to_owned();
            Run { directory, script: script.name, code, signal, seconds, output, error }
        };
        Ok(scripts.into_iter().map(run).collect())
    }
}

impl Player<'_> {
    /// Plays a file to its end; returns how many of its lines could not be used.
    fn play_all(&mut self, path: &Path, file: File, mut clock: Clock) -> Result<u64, Failure> {
        let mut reader = BufReader::with_capacity(256 * 1024, file);
        let mut text = Vec::new();
        let mut bad = 0;
        for number in 1.. {
            text.clear();
            let length = reader
                .read_until(b'\n', &mut text)
                .map_err(|error| failed(format!("{}: {error}", path.display())))?;
            if length == 0 {
                break;
            }
            self.progress.advance(length as u64);
            match self.play(number, &text, &mut clock) {
                Ok(events) => self.print(events)?,
                Err(error) => {
                    bad += 1;
                    self.progress.say(&format!("{}: {error}; passed over", path.display()));
                }
            }
        }
        self.progress.clear();
        Ok(bad)
    }

    fn play(&mut self, number: usize, text: &[u8], clock: &mut Clock) -> Result<Vec<(i64, Event)>, String> {
        let Some(line) = parse_line(number, text).map_err(|error| error.to_string())? else {
            return Ok(vec![]);
        };
        clock.wait_for(line.t);
        self.play_line(&line).map_err(|error| format!("line {number}: {error}"))
    }

    fn play_line(&mut self, line: &Line) -> Result<Vec<(i64, Event)>, String> {
        if let Some(live) = &mut self.live {
            live.play(line).map_err(|error| error.to_string())?;
        }
        self.replay.line(line).map_err(|error| error.to_string())
    }

    fn print(&mut self, events: Vec<(i64, Event)>) -> Result<(), Failure> {
        for (seq, event) in events {
            let (common, view) = match self.env || self.hooks.is_some() {
                true => self.common(seq, &event),
                false => Default::default(),
            };
            let runs = self.run_hooks(&event, &common, &view)?;
            for warning in self.replay.take_warnings() {
                self.progress.say(&warning);
            }
            self.progress.clear();
            let env = self.env.then(|| environment::for_run(&common, &HooksPath::Global, true, 1));
            let nodes = self.env.then_some(view.nodes);
            self.printer.event(Played { seq, event, env, nodes, runs })?;
        }
        Ok(())
    }

    /// What all scripts of an event get, and what is special about it.
    fn common(&mut self, seq: i64, event: &Event) -> (Environment, View) {
        let mut view = self.replay.view(event);
        if self.settings.hooks.nodes == Nodes::Master {
            view.nodes.truncate(1);
        }
        let (facts, words) = (self.replay.cluster(), self.settings.hooks.status_words);
        (environment::common(seq, event, &view.variables, &facts, words), view)
    }

    /// Runs the scripts of an event, where that is wanted.
    fn run_hooks(
        &mut self,
        event: &Event,
        common: &Environment,
        view: &View,
    ) -> Result<Option<Vec<Run>>, Failure> {
        let Some(hooks) = &mut self.hooks else { return Ok(None) };
        let settings = &self.settings.hooks;
        if settings.skips(&event.op_code) {
            return Ok(Some(vec![]));
        }
        let limits = Limits { timeout: settings.timeout, output: settings.output_limit };
        let mut runs = Vec::new();
        for path in directories::here(event, Some(view), settings) {
            let env = environment::for_run(common, &path, true, 1);
            runs.extend(hooks.run(&path.directory(event.key.phase), &env, limits)?);
        }
        Ok(Some(runs))
    }
}

/// Recorded time against real time.
struct Clock {
    speed: Option<f64>,
    begin: Option<(f64, Instant)>,
}

impl Clock {
    fn new(speed: Option<f64>) -> Self {
        Self { speed, begin: None }
    }

    /// Waits until it is time for what happened at `t`.
    fn wait_for(&mut self, t: f64) {
        let Some(speed) = self.speed else { return };
        let (first, begin) = *self.begin.get_or_insert_with(|| (t, Instant::now()));
        let due = Duration::try_from_secs_f64((t - first) / speed).unwrap_or_default();
        std::thread::sleep(due.saturating_sub(begin.elapsed()));
    }
}

/// How far the recording has been played, on a terminal.
struct Progress {
    shown: bool,
    is_terminal: bool,
    done: u64,
    size: u64,
    next: Instant,
}

impl Progress {
    const INTERVAL: Duration = Duration::from_millis(200);

    fn new(size: u64) -> Self {
        let is_terminal = io::stderr().is_terminal();
        Self { shown: false, is_terminal, done: 0, size, next: Instant::now() + Self::INTERVAL }
    }

    fn advance(&mut self, bytes: u64) {
        self.done += bytes;
        if self.is_terminal && Instant::now() >= self.next {
            self.next = Instant::now() + Self::INTERVAL;
            self.shown = true;
            let percent = self.done * 100 / self.size.max(1);
            let _ = write!(io::stderr(), "\r\x1b[Kreplay: {percent}%");
        }
    }

    fn clear(&mut self) {
        if std::mem::take(&mut self.shown) {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }

    fn say(&mut self, text: &str) {
        self.clear();
        say(text);
    }
}
