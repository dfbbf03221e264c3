//! The command line: one file a command.

mod check;
mod complete;
mod env;
mod events;
mod fields;
mod filter;
mod locks;
mod metrics;
mod new_file;
mod outbox;
mod record;
mod release;
mod replay;
mod report;
mod rerun;
mod run;
mod stand_in;
mod status;
mod table;
mod terminal;
mod timeline;
pub mod times;
mod wait;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::daemon::{StartError, read_settings};
use crate::engine::settings::{DEFAULT_PATH, Settings};
use crate::ganeti::text::plain_lines;
use crate::world::journal::{History, JournalError};
use crate::world::panics;
use crate::world::process::{guard, inherited};

/// Global hooks for an unmodified Ganeti: scripts before and after every opcode, also
/// when the job process dies
#[derive(Debug, Parser)]
#[command(name = "ganeti-hookd", version, max_term_width = 100, arg_required_else_help = true)]
pub struct Args {
    /// The configuration file
    #[arg(long, global = true, value_name = "FILE", default_value = DEFAULT_PATH)]
    config: PathBuf,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    // What a command does is said where its arguments are, and not again here: it would
    // hide the longer text that --help shows.
    Run(run::Args),
    Replay(replay::Args),
    Record(record::Args),
    Status(status::Args),
    Metrics(metrics::Args),
    Events(events::Args),
    Report(report::Args),
    Timeline(timeline::Args),
    Env(env::Args),
    Rerun(rerun::Args),
    Wait(wait::Args),
    Locks(locks::Args),
    Outbox(outbox::Args),
    Check(check::Args),
    Release(release::Args),
    /// Print words of the history (the shells' completions ask for them)
    #[command(hide = true)]
    Complete(complete::Args),
    /// Let held processes go on when the daemon is gone (the daemon starts it)
    #[command(hide = true)]
    Guard,
    /// Hold a livelock, as a job process does (`replay --live` uses it)
    #[command(hide = true)]
    StandIn(stand_in::Args),
}

/// Bytes of one line of a complaint that are shown.
const LINE_MAX: usize = 4096;

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub enum Failure {
    /// The configuration is bad: exit code 78 (sysexits.h, `EX_CONFIG`).
    Config(String),
    /// It was called wrongly: exit code 2, as for a wrong option.
    Usage(String),
    /// It failed: exit code 1.
    Failed(String),
    /// It failed, and has said so already.
    Silent,
    /// It has said what is to be said; this is the exit code.
    Code(u8),
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Unreadable { .. } | StartError::Settings { .. } => Self::Config(error.to_string()),
            _ => Self::Failed(error.to_string()),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        // Whoever read our output has seen enough.
        if error.kind() == io::ErrorKind::BrokenPipe { Self::Silent } else { Self::Failed(error.to_string()) }
    }
}

impl From<JournalError> for Failure {
    fn from(error: JournalError) -> Self {
        Self::Failed(error.to_string())
    }
}

/// A failure with its words.
pub fn failed(what: impl ToString) -> Failure {
    Failure::Failed(what.to_string())
}

/// Runs the command that the program was called with.
pub fn main() -> ExitCode {
    let args = Args::parse();
    panics::tell(|line| {
        let _ = complain(&format!("a defect: {line}"), 1);
    });
    // Without /proc there is nothing to be done about it, and hooks can still run.
    let _ = inherited::keep_from_children();
    let result = match args.command {
        Command::Run(command) => command.run(&args.config),
        Command::Replay(command) => command.run(&args.config),
        Command::Record(command) => settings(&args.config).and_then(|s| command.run(&s)),
        Command::Status(command) => command.run(&args.config),
        Command::Metrics(command) => settings(&args.config).and_then(|s| command.run(&s)),
        Command::Events(command) => settings(&args.config).and_then(|s| command.run(&s)),
        Command::Report(command) => settings(&args.config).and_then(|s| command.run(&s)),
        Command::Timeline(command) => settings(&args.config).and_then(|s| command.run(&s)),
        Command::Env(command) => settings(&args.config).and_then(|s| command.run(&s)),
        Command::Rerun(command) => settings(&args.config).and_then(|s| command.run(&s)),
        Command::Wait(command) => settings(&args.config).and_then(|s| command.run(&s)),
        Command::Locks(command) => settings(&args.config).and_then(|s| command.run(&s)),
        Command::Outbox(command) => settings(&args.config).and_then(|s| command.run(&s)),
        Command::Check(command) => command.run(&args.config),
        Command::Release(command) => command.run(&args.config),
        Command::Complete(command) => command.run(&args.config),
        Command::Guard => guard::run().map_err(Failure::from),
        Command::StandIn(command) => command.run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Silent) => ExitCode::FAILURE,
        Err(Failure::Code(code)) => ExitCode::from(code),
        Err(Failure::Failed(what)) => complain(&what, 1),
        Err(Failure::Usage(what)) => complain(&what, 2),
        Err(Failure::Config(what)) => complain(&what, 78),
    }
}

fn complain(what: &str, code: u8) -> ExitCode {
    say(what);
    ExitCode::from(code)
}

/// Says something on standard error; what in it is not ours says nothing to a terminal.
pub fn say(what: &str) {
    let _ = writeln!(io::stderr(), "ganeti-hookd: {}", plain_lines(what, LINE_MAX));
}

fn settings(config: &Path) -> Result<Settings, Failure> {
    Ok(read_settings(config)?)
}

/// The history, for a command that cannot do without.
fn open_history(settings: &Settings) -> Result<History, Failure> {
    let dir = &settings.paths.state_dir;
    History::open(dir)?.ok_or_else(|| {
        failed(format!(
            "there is no history in {}; has `ganeti-hookd run` been started with this configuration?",
            dir.display()
        ))
    })
}
