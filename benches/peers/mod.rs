//! Programs that others use to run something when a file comes, where they are installed.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::master::Result;

/// A program that runs the stamp for each file that is renamed into the
/// directory of its name.
pub struct Peer {
    pub name: &'static str,
    _process: Group,
}

/// A process with those it started; all are killed at the end.
struct Group(Child);

impl Group {
    fn start(command: &mut Command) -> Result<Self> {
        Ok(Self(command.process_group(0).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = kill_process_group(Pid::from_child(&self.0), Signal::KILL);
        let _ = self.0.wait();
    }
}

/// Those that are installed, running.
pub fn start(dir: &Path, stamp: &Path) -> Result<Vec<Peer>> {
    let mut peers = Vec::new();
    for (name, start) in PEERS {
        let (own, state) = (dir.join(name), dir.join(format!("{name}-state")));
        fs::create_dir_all(&own)?;
        fs::create_dir_all(&state)?;
        let process = match start(&own, &state, stamp) {
            Err(error) if error.downcast_ref::<std::io::Error>().is_some_and(is_missing) => {
                println!("{name} is not installed");
                continue;
            }
            process => process?,
        };
        peers.push(Peer { name, _process: process });
    }
    Ok(peers)
}

fn is_missing(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::NotFound
}

type Start = fn(&Path, &Path, &Path) -> Result<Group>;

const PEERS: [(&str, Start); 3] = [("inotifywait", inotifywait), ("direvent", direvent), ("incron", incron)];

/// As in many a script: `inotifywait -m | while read`.
fn inotifywait(dir: &Path, _: &Path, stamp: &Path) -> Result<Group> {
    Command::new("inotifywait").arg("--help").output()?;
    let (dir, stamp) = (dir.display(), stamp.display());
    let script = format!("inotifywait -q -m -e moved_to {dir} | while read -r line; do {stamp}; done");
    Group::start(Command::new("bash").arg("-c").arg(script))
}

fn direvent(dir: &Path, state: &Path, stamp: &Path) -> Result<Group> {
    let config = state.join("direvent.conf");
    let (dir, stamp) = (dir.display(), stamp.display());
    fs::write(&config, format!("watcher {{\n  path {dir};\n  event create;\n  command \"{stamp}\";\n}}\n"))?;
    Group::start(Command::new("direvent").arg("--foreground").arg(config))
}

fn incron(dir: &Path, state: &Path, stamp: &Path) -> Result<Group> {
    let of = |name: &str| state.join(name).display().to_string();
    for sub in ["tables", "users"] {
        fs::create_dir_all(of(sub))?;
    }
    fs::write(of("tables/bench"), format!("{} IN_MOVED_TO {}\n", dir.display(), stamp.display()))?;
    let settings = [
        ("system_table_dir", of("tables")),
        ("user_table_dir", of("users")),
        ("lockfile_dir", of("")),
        ("lockfile_name", "lock".to_owned()),
    ];
    let text: String = settings.iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
    fs::write(of("incron.conf"), text)?;
    Group::start(Command::new("incrond").arg("-n").arg("-f").arg(of("incron.conf")))
}
