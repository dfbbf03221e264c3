//! Scans: the files of the queue are listed by a thread of their own, a piece at a time, so
//! that whatever happens meanwhile comes before what has long been there, and a daemon that is
//! told to stop need not wait for the end of the list.

use std::io;
use std::path::Path;
use std::thread;

use crossbeam_channel::{Receiver, Sender, unbounded};

use crate::daemon::message::Message;
use crate::engine::input::{Input, Stamp};
use crate::ganeti::job::JobId;
use crate::world::failpoints;
use crate::world::flood::Flow;
use crate::world::panics::caught;
use crate::world::queue::scan;
use crate::world::regular_file::ReadError;
use crate::world::shortage::explain;

/// Files in one message at most.
const PIECE: usize = 1024;

/// The way to the thread.
#[derive(Debug)]
pub struct Scanner {
    requests: Sender<u64>,
}

impl Scanner {
    /// Starts the thread; what it finds goes to `owner`.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn start(queue_dir: &Path, owner: Sender<Message>) -> io::Result<Self> {
        let (requests, inbox) = unbounded();
        let queue_dir = queue_dir.to_owned();
        thread::Builder::new().name("scanner".to_owned()).spawn(move || work(&queue_dir, &inbox, &owner))?;
        Ok(Self { requests })
    }

    /// Asks for a scan: [`Input::Listed`] for each piece, and then [`Message::ScanEnded`].
    pub fn scan(&self, scan: u64) {
        // The thread ends with the daemon, not before.
        let _ = self.requests.send(scan);
    }
}

fn work(queue_dir: &Path, inbox: &Receiver<u64>, owner: &Sender<Message>) {
    for scan in inbox {
        let tell = |files| owner.send(Message::Input(Input::Listed { scan, files })).is_ok();
        let result = caught(|| list(queue_dir, tell)).flatten();
        if owner.send(Message::ScanEnded { scan, result }).is_err() {
            return;
        }
    }
}

/// Lists the queue; then tells the last number that was given out.
fn list(
    queue_dir: &Path,
    mut tell: impl FnMut(Vec<(JobId, Option<Stamp>)>) -> bool,
) -> Result<Option<i64>, String> {
    failpoints::defect("scanner");
    let mut files = scan::files(queue_dir);
    loop {
        let piece = files.by_ref().take(PIECE).collect::<Result<Vec<_>, _>>();
        let piece = piece.map_err(|error| format!("the queue cannot be read: {error}"))?;
        if piece.is_empty() || !tell(piece) {
            return serial(queue_dir);
        }
    }
}

/// The last job number that was given out, if the queue says one.
///
/// # Errors
/// When that cannot be read now.
pub fn serial(queue_dir: &Path) -> Result<Option<i64>, String> {
    match scan::serial(queue_dir) {
        Ok(serial) => Ok(serial),
        Err(ReadError::Io(error)) => Err(format!("the queue's serial file: {}", explain(&error))),
        Err(error) => {
            static FLOW: Flow = Flow::new();
            FLOW.warn(format_args!("the queue's serial file {error}"));
            Ok(None)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn answers(dir: &Path) -> (Vec<Vec<i64>>, Result<Option<i64>, String>) {
        let (owner, answers) = unbounded();
        Scanner::start(dir, owner).unwrap().scan(7);
        let mut pieces = Vec::new();
        for answer in answers {
            match answer {
                Message::Input(Input::Listed { scan: 7, files }) => {
                    pieces.push(files.into_iter().map(|(id, _)| id.get()).collect());
                }
                Message::ScanEnded { scan: 7, result } => return (pieces, result),
                other => panic!("{other:?}"),
            }
        }
        panic!("no end")
    }

    #[test]
    fn a_queue_is_listed_in_pieces() {
        let dir = tempfile::tempdir().unwrap();
        let last = i64::try_from(2 * PIECE + 1).unwrap();
        for id in 1..=last {
            fs::write(dir.path().join(format!("job-{id}")), "").unwrap();
        }
        fs::write(dir.path().join("serial"), "5000\n").unwrap();
        fs::write(dir.path().join("job-x"), "").unwrap();
        fs::create_dir_all(dir.path().join("archive/0")).unwrap();
        fs::write(dir.path().join("archive/0/job-9999"), "").unwrap();
        let (pieces, result) = answers(dir.path());
        assert_eq!(pieces.iter().map(Vec::len).collect::<Vec<_>>(), [PIECE, PIECE, 1]);
        let mut all = pieces.concat();
        all.sort_unstable();
        assert_eq!((all, result), ((1..=last).collect(), Ok(Some(5000))));
    }

    #[test]
    fn a_nonsense_serial_is_none_and_a_queue_that_is_not_there_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("serial")).unwrap();
        assert_eq!(answers(dir.path()), (vec![], Ok(None)));
        let (pieces, result) = answers(&dir.path().join("nowhere"));
        assert!(pieces.is_empty() && result.unwrap_err().starts_with("the queue cannot be read: "));
    }
}
