//! `ganeti-hookd record`

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crossbeam_channel::{Receiver, Sender, unbounded};
use signal_hook::consts::{SIGINT, SIGTERM};

use super::{Failure, failed, say};
use crate::engine::settings::{Paths, Settings};
use crate::ganeti::job::{self, JobId};
use crate::ganeti::recording::Line;
use crate::ganeti::secrets::blanked;
use crate::world::clock::now;
use crate::world::panics;
use crate::world::process::exits::Exits;
use crate::world::process::{Presence, find, livelock};
use crate::world::queue::read::JOB_SIZE_LIMIT;
use crate::world::queue::scan;
use crate::world::queue::watch::{Hint, watch};
use crate::world::regular_file;
use crate::world::signals::handle;

/// Record the live queue, to replay it elsewhere
///
/// Writes every version of every job file, of config.data and of the ssconf files, moves
/// to the archive and the ends of job processes, as JSON Lines, until interrupted.
/// The values of private and secret OS parameters and of passwords are left empty, their keys
/// are kept. Everything else that jobs and configuration hold is in a recording.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The file to write; it must not exist yet
    #[arg(long, value_name = "FILE")]
    out: PathBuf,

    /// Record the values of private and secret OS parameters and of passwords, too
    #[arg(long)]
    with_secrets: bool,
}

/// What the recorder is told.
enum Message {
    Changed(PathBuf),
    Overflow,
    Lost(PathBuf),
    Exited(u32),
    Stop,
}

impl Args {
    pub(super) fn run(&self, settings: &Settings) -> Result<(), Failure> {
        let paths = &settings.paths;
        let (sender, inbox) = unbounded();
        let mut dirs = vec![paths.queue_dir.clone()];
        if paths.data_dir != paths.queue_dir {
            dirs.push(paths.data_dir.clone());
        }
        let _watch = watch(&dirs, tell(sender.clone())).map_err(failed)?;
        stop_on_signals(sender.clone())?;
        // When all is well but this: a recording that did not begin leaves nothing.
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let out =
            options.open(&self.out).map_err(|error| failed(format!("{}: {error}", self.out.display())))?;
        let mut recorder = Recorder {
            paths,
            path: &self.out,
            with_secrets: self.with_secrets,
            out,
            exits: exits(sender)?,
            known: BTreeMap::new(),
            processes: BTreeMap::new(),
            lines: 0,
        };
        recorder.look_at_all(true)?;
        if io::stderr().is_terminal() {
            eprintln!("recording {} to {}; Ctrl-C ends it", paths.queue_dir.display(), self.out.display());
        }
        let result = recorder.record(&inbox);
        recorder.out.sync_all()?;
        if io::stderr().is_terminal() {
            eprintln!("{} lines", recorder.lines);
        }
        result
    }
}

fn tell(inbox: Sender<Message>) -> impl FnMut(Hint<'_>) + Send + 'static {
    move |hint| {
        let message = match hint {
            Hint::Changed(dir, name) if is_recorded(name) => Message::Changed(dir.join(name)),
            Hint::Changed(..) => return,
            Hint::Overflow => Message::Overflow,
            Hint::Lost(dir) => Message::Lost(dir.to_owned()),
        };
        let _ = inbox.send(message);
    }
}

fn is_recorded(name: &OsStr) -> bool {
    JobId::from_file_name(name.as_bytes()).is_some()
        || name == "config.data"
        || name.as_bytes().starts_with(b"ssconf_") && !name.as_bytes().contains(&b'.')
}

fn stop_on_signals(inbox: Sender<Message>) -> Result<(), Failure> {
    let mut signals = handle(&[SIGINT, SIGTERM])?;
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for _ in signals.forever() {
            panics::insist(|| drop(inbox.send(Message::Stop)));
        }
    })?;
    Ok(())
}

fn exits(inbox: Sender<Message>) -> io::Result<Exits> {
    Exits::new(move |pid| {
        let _ = inbox.send(Message::Exited(u32::try_from(pid).unwrap_or(0)));
    })
}

struct Recorder<'a> {
    paths: &'a Paths,
    path: &'a Path,
    with_secrets: bool,
    out: File,
    exits: Exits,
    /// The content of each file as it was recorded last.
    known: BTreeMap<PathBuf, Vec<u8>>,
    /// The job processes that are watched, and the files of their jobs.
    processes: BTreeMap<u32, (OwnedFd, PathBuf)>,
    lines: u64,
}

impl Recorder<'_> {
    fn record(&mut self, inbox: &Receiver<Message>) -> Result<(), Failure> {
        for message in inbox {
            match message {
                Message::Changed(path) => self.look(&path, false)?,
                Message::Overflow => {
                    say("the kernel's queue overflowed; versions of files may be missing");
                    self.look_at_all(false)?;
                }
                Message::Lost(dir) => {
                    return Err(failed(format!("{} was removed; the recording ends here", dir.display())));
                }
                Message::Exited(pid) => self.exited(pid)?,
                Message::Stop => break,
            }
        }
        Ok(())
    }

    /// The process writes its last version and then ends: that version comes first.
    fn exited(&mut self, pid: u32) -> Result<(), Failure> {
        if let Some((_, path)) = self.processes.remove(&pid) {
            self.look(&path, false)?;
            self.line(Line { pid: Some(pid), event: Some("exit".to_owned()), ..empty_line() })?;
        }
        Ok(())
    }

    fn look_at_all(&mut self, initial: bool) -> Result<(), Failure> {
        let mut paths: HashSet<PathBuf> = self.known.keys().cloned().collect();
        let jobs = scan::jobs(&self.paths.queue_dir).map_err(failed)?;
        paths.extend(jobs.iter().map(|id| self.paths.queue_dir.join(id.file_name())));
        let data_dir = &self.paths.data_dir;
        let entries = std::fs::read_dir(data_dir)
            .map_err(|error| failed(format!("{}: {error}", data_dir.display())))?;
        for entry in entries {
            let name = entry?.file_name();
            if is_recorded(&name) {
                paths.insert(self.paths.data_dir.join(name));
            }
        }
        let mut paths: Vec<PathBuf> = paths.into_iter().collect();
        paths.sort();
        paths.iter().try_for_each(|path| self.look(path, initial))
    }

    /// Records the file if it is not as it was.
    fn look(&mut self, path: &Path, initial: bool) -> Result<(), Failure> {
        let name = Some(path.file_name().unwrap_or_default().to_string_lossy().into_owned());
        let content = match regular_file::read(path, JOB_SIZE_LIMIT) {
            Ok(Some(content)) => content,
            Ok(None) => return self.gone(path, name),
            Err(error) => {
                say(&format!("{} {error}; it is not recorded", path.display()));
                return Ok(());
            }
        };
        if self.known.get(path) == Some(&content) {
            return Ok(());
        }
        self.watch_process(path, &content);
        let text = String::from_utf8_lossy(&content);
        let text = if self.with_secrets { text.into_owned() } else { blanked(&text).into_owned() };
        self.known.insert(path.to_owned(), content);
        self.line(Line { path: name, content: Some(text), initial, ..empty_line() })
    }

    fn gone(&mut self, path: &Path, name: Option<String>) -> Result<(), Failure> {
        if self.known.remove(path).is_none() {
            return Ok(());
        }
        let id = JobId::from_file_name(path.file_name().unwrap_or_default().as_bytes());
        let archived = id.map(JobId::archive_path).filter(|to| self.paths.queue_dir.join(to).exists());
        let moved_to = archived.map(|to| to.display().to_string());
        self.line(Line { path: name, removed: moved_to.is_none(), moved_to, ..empty_line() })
    }

    /// Waits for the end of the process that the job names.
    fn watch_process(&mut self, path: &Path, content: &[u8]) {
        let id = JobId::from_file_name(path.file_name().unwrap_or_default().as_bytes());
        let Some(job) = id.and_then(|id| job::parse(id, content).ok()).filter(|job| !job.is_final()) else {
            return;
        };
        let Some(process) = job.process().filter(|process| !self.processes.contains_key(&process.pid)) else {
            return;
        };
        let livelocks = self.paths.ganeti_run_dir.join(livelock::DIRECTORY);
        if let Presence::Alive(pidfd) = find(&process, &livelocks)
            && self.exits.add(std::os::fd::AsFd::as_fd(&pidfd), process.pid.into()).is_ok()
        {
            self.processes.insert(process.pid, (pidfd, path.to_owned()));
        }
    }

    fn line(&mut self, line: Line) -> Result<(), Failure> {
        let mut text = serde_json::to_string(&line).map_err(failed)?;
        text.push('\n');
        self.lines += 1;
        self.out
            .write_all(text.as_bytes())
            .map_err(|error| failed(format!("{}: {error}", self.path.display())))
    }
}

/// A line about nothing, at this time.
fn empty_line() -> Line {
    Line {
        t: now().as_secs_f64(),
        path: None,
        content: None,
        initial: false,
        moved_to: None,
        removed: false,
        pid: None,
        event: None,
    }
}
