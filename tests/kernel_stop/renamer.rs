//! A process that renames files and shows at once that it has gone on.

use std::fs;
use std::io::{BufRead, BufReader, Write, stdin};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use rustix::fs::{CWD, RenameFlags};
use rustix::process::{Pid, Signal};

/// Says to this program that it is such a process.
const IS_RENAMER: &str = "KERNEL_STOP_IS_RENAMER";

/// The system calls by which it may rename.
pub const CALLS: [&str; 3] = ["rename", "renameat", "renameat2"];

/// The process, seen from outside.
pub struct Renamer {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Renamer {
    pub fn start() -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .env(IS_RENAMER, "yes")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut renamer = Self { child, input, output };
        renamer.wait_for("ready");
        renamer
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Tells it to rename a file and then to make another, the marker.
    pub fn rename(&mut self, call: &str, from: &Path, to: &Path, marker: &Path) {
        let [from, to, marker] = [from, to, marker].map(|path| path.to_str().unwrap());
        writeln!(self.input, "{call} {from} {to} {marker}").unwrap();
    }

    /// Waits until it has renamed and made the marker.
    pub fn wait_done(&mut self) {
        self.wait_for("done");
    }

    pub fn go_on(&self) {
        rustix::process::kill_process(Pid::from_child(&self.child), Signal::CONT).unwrap();
    }

    fn wait_for(&mut self, word: &str) {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        assert_eq!(line.trim_end(), word);
    }
}

impl Drop for Renamer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether this process is such a one.
pub fn is_this() -> bool {
    std::env::var_os(IS_RENAMER).is_some()
}

/// The process, seen from inside. Its input is lines `CALL FROM TO MARKER`.
pub fn rename_as_told() {
    println!("ready");
    for line in stdin().lines() {
        let line = line.unwrap();
        let [call, from, to, marker] = line.split(' ').collect::<Vec<_>>().try_into().unwrap();
        match call {
            "rename" => fs::rename(from, to).unwrap(),
            "renameat" => rustix::fs::renameat(CWD, from, CWD, to).unwrap(),
            _ => rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE).unwrap(),
        }
        fs::write(marker, "").unwrap();
        println!("done");
    }
}
