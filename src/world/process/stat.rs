//! What `/proc` says of a process (Linux: proc(5)).

use std::fs::File;
use std::io::{self, Read};
use std::sync::OnceLock;

use crate::world::clock;

/// A process as `/proc/PID/stat` shows it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ProcessStat {
    /// The state's letter: `R` running, `S` sleeping, `T` stopped by a signal, `Z` zombie.
    pub state: u8,
    /// When it started, in seconds since the epoch ([`clock::boot_time`]).
    pub started: f64,
    /// When it started, in clock ticks since boot: with the ID it identifies a process.
    pub start_ticks: u64,
}

/// Reads `/proc/PID/stat`; `None` when there is no such process to be seen.
///
/// # Errors
/// When `/proc` cannot be read or understood.
pub fn read(pid: u32) -> io::Result<Option<ProcessStat>> {
    let text = match read_at_once(pid, "stat") {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let (state, start_ticks) = parse(&text).ok_or_else(|| io::Error::other("its format is unknown"))?;
    let started = clock::boot_time().as_secs_f64() + start_ticks as f64 / ticks_per_second();
    Ok(Some(ProcessStat { state, started, start_ticks }))
}

/// One of the files in `/proc/PID` that are shorter than 4 KiB, by one read: the kernel makes all of
/// it for each, and a job may stand still until it is read.
///
/// # Errors
/// When it cannot be read.
pub fn read_at_once(pid: u32, name: &str) -> io::Result<Vec<u8>> {
    let mut text = vec![0; 4096];
    let length = File::open(format!("/proc/{pid}/{name}"))?.read(&mut text)?;
    text.truncate(length);
    Ok(text)
}

/// The users that a process acts for: real, effective, saved and file system's
/// (`/proc/PID/status`). The owner of `/proc/PID` is no proof: it is root for every
/// process that may not be dumped.
///
/// # Errors
/// When it has ended, or `/proc` cannot be read or understood.
pub fn users(pid: u32) -> io::Result<[u32; 4]> {
    let text = status(pid)?;
    let users = field(&text, "Uid:").ok_or_else(unknown)?.split_ascii_whitespace();
    let users: Vec<u32> = users.map_while(|user| user.parse().ok()).collect();
    users.try_into().map_err(|_| unknown())
}

/// Whether a SIGSTOP is on its way to the process or its first thread (Linux: proc(5),
/// `/proc/PID/status`, `SigPnd` and `ShdPnd`).
///
/// # Errors
/// When it has ended, or `/proc` cannot be read or understood.
pub fn is_stop_pending(pid: u32) -> io::Result<bool> {
    let text = status(pid)?;
    let pending = |name| {
        let set = field(&text, name).and_then(|set| u64::from_str_radix(set.trim(), 16).ok());
        set.ok_or_else(unknown)
    };
    let stop = 1 << (rustix::process::Signal::STOP.as_raw() - 1);
    Ok((pending("SigPnd:")? | pending("ShdPnd:")?) & stop != 0)
}

fn status(pid: u32) -> io::Result<Vec<u8>> {
    std::fs::read(format!("/proc/{pid}/status"))
}

fn field<'a>(status: &'a [u8], name: &str) -> Option<&'a str> {
    let line = status.split(|b| *b == b'\n').find_map(|line| line.strip_prefix(name.as_bytes()))?;
    std::str::from_utf8(line).ok()
}

fn unknown() -> io::Error {
    io::Error::other("its format is unknown")
}

/// State and start time; the command name in parentheses may hold anything.
pub fn parse(text: &[u8]) -> Option<(u8, u64)> {
    let end_of_name = text.iter().rposition(|b| *b == b')')?;
    let rest = std::str::from_utf8(&text[end_of_name + 1..]).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    let state = *fields.next()?.as_bytes().first()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

fn ticks_per_second() -> f64 {
    static TICKS: OnceLock<f64> = OnceLock::new();
    *TICKS.get_or_init(|| rustix::param::clock_ticks_per_second() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_confuse() {
        let text = b"42 (a) b) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20";
        assert_eq!(parse(text), Some((b'S', 4711)));
        assert_eq!(parse(b"42 (sh"), None);
    }

    #[test]
    fn we_act_for_ourselves() {
        assert_eq!(users(std::process::id()).unwrap(), [rustix::process::getuid().as_raw(); 4]);
        assert!(users(u32::MAX).is_err());
    }

    #[test]
    fn our_own_start_is_in_the_past() {
        let stat = read(std::process::id()).unwrap().unwrap();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
        assert!(stat.started <= now + 0.1 && stat.started > now - 3600.0, "{stat:?} {now}");
        assert_eq!(read(u32::MAX).unwrap(), None);
    }
}
