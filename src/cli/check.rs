//! `ganeti-hookd check`

mod doors;
mod hooks;
mod nodes;
mod outboxes;

use std::io::{self, Write};
use std::path::Path;

use rustix::process::{PidfdFlags, getpid, pidfd_open};
use serde::Serialize;

use super::status::ask;
use super::{Failure, failed};
use crate::daemon::{distrusted, node_name, read_settings};
use crate::engine::settings::{Paths, PreMode, Settings};
use crate::engine::status::Status;
use crate::ganeti::text::plain;
use crate::world::cluster::{Cluster, own_name};
use crate::world::own_files;
use crate::world::process::kernel_stop::KernelStop;
use crate::world::process::livelock;
use crate::world::queue::{scan, watch};

/// Check configuration, permissions and system; say what to do about each finding
///
/// The exit code is 0 when nothing has to be done, 78 when the configuration is bad, 1
/// otherwise.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print JSON Lines
    #[arg(long)]
    json: bool,
}

/// How a finding is to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Ok,
    /// Worth knowing; nothing fails.
    Note,
    /// Something does not work.
    Fail,
}

/// One thing that was checked.
#[derive(Debug, Serialize)]
struct Finding {
    check: String,
    verdict: Verdict,
    what: String,
}

fn ok(check: impl Into<String>, what: impl ToString) -> Finding {
    Finding { check: check.into(), verdict: Verdict::Ok, what: what.to_string() }
}

fn note(check: impl Into<String>, what: impl ToString) -> Finding {
    Finding { check: check.into(), verdict: Verdict::Note, what: what.to_string() }
}

fn fail(check: impl Into<String>, what: impl ToString) -> Finding {
    Finding { check: check.into(), verdict: Verdict::Fail, what: what.to_string() }
}

impl Args {
    pub(super) fn run(&self, config: &Path) -> Result<(), Failure> {
        let settings = read_settings(config)?;
        let mut findings = vec![configuration(config)];
        findings.extend([
            queue(&settings),
            inotify(&settings),
            data(&settings),
            livelocks(&settings),
            state(&settings),
        ]);
        findings.extend(own(&settings));
        findings.extend(hooks::check(&settings));
        findings.extend([kernel(), proc_hidden()]);
        findings.extend(hold(&settings));
        findings.extend(nodes::check(&settings));
        findings.extend(doors::check(&settings));
        findings.extend(outboxes::check(&settings));
        findings.extend(daemon(&settings));
        let mut out = io::stdout().lock();
        for finding in &findings {
            if self.json {
                writeln!(out, "{}", serde_json::to_string(finding).map_err(failed)?)?;
            } else {
                let verdict = match finding.verdict {
                    Verdict::Ok => "ok",
                    Verdict::Note => "note",
                    Verdict::Fail => "FAIL",
                };
                let [check, what] = [&finding.check, &finding.what].map(|text| plain(text, usize::MAX));
                writeln!(out, "{verdict:<5} {check:<14} {what}")?;
            }
        }
        match findings.iter().any(|finding| finding.verdict == Verdict::Fail) {
            true => Err(Failure::Silent),
            false => Ok(()),
        }
    }
}

fn configuration(config: &Path) -> Finding {
    match config.exists() {
        true => match distrusted(config) {
            None => ok("configuration", config.display()),
            Some(refusal) => fail("configuration", refusal),
        },
        false => note("configuration", format!("{} does not exist; the defaults apply", config.display())),
    }
}

fn queue(settings: &Settings) -> Finding {
    let dir = settings.paths.queue_dir.display();
    match scan::jobs(&settings.paths.queue_dir) {
        Ok(jobs) => ok("queue", format!("{dir}: {} jobs", jobs.len())),
        Err(error) => fail("queue", format!("{error}; is paths.queue-dir right, and does this run as root?")),
    }
}

fn inotify(settings: &Settings) -> Finding {
    match watch::watch(std::slice::from_ref(&settings.paths.queue_dir), |_| {}) {
        Ok(_) => ok("inotify", "the queue can be watched"),
        Err(error) => fail("inotify", error),
    }
}

fn data(settings: &Settings) -> Finding {
    let node = node_name(settings);
    let file = settings.paths.data_dir.join(crate::world::cluster::MASTER_NODE);
    match Cluster::new(&settings.paths.data_dir).master() {
        Ok(Some(master)) if master == node => ok("master", format!("this node, {node}")),
        Ok(Some(master)) => standby(settings, &node, &master),
        Ok(None) => note(
            "master",
            format!(
                "{} does not exist: this node is in no cluster yet, or paths.data-dir is wrong",
                file.display()
            ),
        ),
        Err(error) => fail("master", error),
    }
}

/// Another node is master, or it cannot be told whether this one is.
fn standby(settings: &Settings, node: &str, master: &str) -> Finding {
    let is_asked = settings.master.name.is_empty();
    match own_name::doubt(&settings.paths.data_dir, node, master).filter(|_| is_asked) {
        Some(doubt) => fail("master", format!("{master}; {doubt}")),
        None => note(
            "master",
            format!("{master}; this node, {node}, is in standby. If they are one, set master.name"),
        ),
    }
}

fn livelocks(settings: &Settings) -> Finding {
    let dir = settings.paths.ganeti_run_dir.join(livelock::DIRECTORY);
    match std::fs::read_dir(&dir) {
        Ok(_) => ok("livelocks", dir.display()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => note(
            "livelocks",
            format!(
                "{} does not exist; Ganeti makes it when it starts. If it has, paths.ganeti-run-dir is wrong",
                dir.display()
            ),
        ),
        Err(error) => fail("livelocks", format!("{}: {error}", dir.display())),
    }
}

fn state(settings: &Settings) -> Finding {
    let dir = &settings.paths.state_dir;
    match rustix::fs::access(dir, rustix::fs::Access::WRITE_OK) {
        Ok(()) => ok("state", dir.display()),
        Err(rustix::io::Errno::NOENT) => {
            note("state", format!("{} does not exist; the daemon makes it", dir.display()))
        }
        Err(errno) => fail("state", format!("{}: {errno}; the daemon's user must own it", dir.display())),
    }
}

/// What others may do with the daemon's own files.
fn own(settings: &Settings) -> Vec<Finding> {
    let Paths { state_dir, run_dir, .. } = &settings.paths;
    let open = own_files::too_open(&[state_dir, run_dir]);
    if open.is_empty() {
        return vec![ok("permissions", "the daemon's own files are root's alone")];
    }
    open.into_iter().map(|what| fail("permissions", what)).collect()
}

fn kernel() -> Finding {
    match pidfd_open(getpid(), PidfdFlags::empty()) {
        Ok(_) => ok("pidfd", "the kernel has pidfds"),
        Err(errno) => fail(
            "pidfd",
            format!("{errno}; Linux 5.3 or newer is needed, and a sandbox that allows pidfd_open"),
        ),
    }
}

/// Whether the kernel can stop job processes in the rename that publishes their opcode: tried, as
/// the daemon does it when it starts.
fn hold(settings: &Settings) -> Option<Finding> {
    let held = settings.hooks.pre == PreMode::Hold;
    held.then(|| match KernelStop::new(&settings.paths.queue_dir) {
        Ok(kernel) => {
            ok("hold", format!("exact: the kernel stops jobs in the rename ({})", kernel.attachment()))
        }
        Err(reason) => note(
            "hold",
            format!(
                "best effort: jobs are stopped a moment after they have begun, and may be late ({reason})"
            ),
        ),
    })
}

/// What the daemon says of that, where it is not what was found here.
fn daemon_holds(settings: &Settings, status: &Status) -> Option<Finding> {
    let is_known = settings.hooks.pre == PreMode::Hold && !status.hold_means.is_empty();
    (is_known && !status.hold_exact).then(|| {
        note("daemon", format!("it holds jobs as well as can be, not exactly: {}", status.hold_means))
    })
}

/// A `/proc` that hides other users' processes makes them look dead.
fn proc_hidden() -> Finding {
    match std::fs::read("/proc/1/stat") {
        Ok(_) => ok("proc", "/proc shows other users' processes"),
        Err(error) => note(
            "proc",
            format!(
                "/proc/1/stat: {error}; /proc hides other users' processes (hidepid=, ProtectProc=): run as root"
            ),
        ),
    }
}

/// Whether the daemon answers, and what it complains of.
fn daemon(settings: &Settings) -> Vec<Finding> {
    let status = ask(&settings.paths.run_dir, "/v1/status").and_then(|answer| {
        serde_json::from_slice::<Status>(&answer).map_err(|error| format!("it answers nonsense: {error}"))
    });
    match status {
        Ok(status) => {
            let mut findings = match status.problems.is_empty() {
                true => vec![ok("daemon", "it runs and has no problem")],
                false => status.problems.iter().map(|problem| fail("daemon", problem)).collect(),
            };
            findings.extend(daemon_holds(settings, &status));
            findings
        }
        Err(error) => vec![fail("daemon", error)],
    }
}
