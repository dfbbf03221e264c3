//! `ganeti-hookd wait`

use std::io::{self, Write};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::Failure;
use super::status::explained;
use crate::engine::settings::Settings;
use crate::ganeti::job::JobId;
use crate::ganeti::text::plain;
use crate::world::api;

/// How long the daemon is asked to wait in one go.
const WAIT: Duration = Duration::from_secs(30);

/// How long nobody need answer: a daemon that is restarted is back by then.
const ABSENCE: Duration = Duration::from_secs(60);

/// How soon a daemon that does not answer is asked again.
const RETRY: Duration = Duration::from_secs(1);

/// What the exit code says where nobody knows how the job has ended.
const NOT_KNOWN: u8 = 4;

/// Bytes of what is said of the job.
const WORD_MAX: usize = 1024;

/// Wait for a job to end
///
/// Also for one that is canceled, that disappears, or that has been archived. Prints how it has
/// ended. The exit code is 0 if it succeeded, 1 if it failed or was canceled, 3 if its process died,
/// and 4 if that is not known: there is no such job, or it has not ended in time.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The job
    job: JobId,

    /// Wait this long at most: 90s, 5m, 1h
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    timeout: Option<Duration>,
}

/// What the daemon says of a job.
#[derive(Debug, Deserialize)]
struct Answer {
    /// None where nobody knows how a job that has left the queue has ended.
    status: Option<String>,
    ended: bool,
}

/// What came of a question.
enum Heard {
    /// So the job is.
    Job(Answer),
    /// There is no such job.
    Unknown,
    /// Nobody answers, and why.
    Nothing(String),
}

impl Args {
    pub(super) fn run(&self, settings: &Settings) -> Result<(), Failure> {
        let (word, code) = self.outcome(&settings.paths.run_dir);
        writeln!(io::stdout(), "job {}: {}", self.job, plain(&word, WORD_MAX))?;
        match code {
            0 => Ok(()),
            code => Err(Failure::Code(code)),
        }
    }

    /// How the job has ended, in a word, and the exit code that says so.
    fn outcome(&self, run_dir: &Path) -> (String, u8) {
        let begin = Instant::now();
        let (mut last, mut answered) = (unknown(), begin);
        loop {
            let left = self.timeout.map_or(WAIT, |timeout| timeout.saturating_sub(begin.elapsed()));
            match self.ask(run_dir, left.min(WAIT)) {
                Heard::Job(Answer { status, ended: true }) => return ended(status),
                Heard::Job(Answer { status, .. }) => {
                    (last, answered) = (status.unwrap_or_else(unknown), Instant::now());
                }
                Heard::Unknown => return (unknown(), NOT_KNOWN),
                Heard::Nothing(why) if answered.elapsed() > ABSENCE => return (why, NOT_KNOWN),
                Heard::Nothing(_) => thread::sleep(RETRY.min(left)),
            }
            if self.timeout.is_some_and(|timeout| begin.elapsed() >= timeout) {
                return (format!("{last}, it has not ended in time"), NOT_KNOWN);
            }
        }
    }

    fn ask(&self, run_dir: &Path, wait: Duration) -> Heard {
        // Whole seconds, and no fewer than are left.
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        match api::request(run_dir, "GET", &format!("/v1/jobs/{}?wait={seconds}", self.job)) {
            Ok(answer) if answer.status == 404 => Heard::Unknown,
            Ok(answer) if answer.status == 200 => match serde_json::from_slice(&answer.body) {
                Ok(job) => Heard::Job(job),
                Err(error) => Heard::Nothing(format!("the daemon's answer cannot be read: {error}")),
            },
            Ok(answer) => Heard::Nothing(format!("the daemon answers {}", answer.status)),
            Err(error) => Heard::Nothing(explained(run_dir, &error)),
        }
    }
}

fn unknown() -> String {
    "not known".to_owned()
}

fn ended(status: Option<String>) -> (String, u8) {
    let status = status.unwrap_or_else(unknown);
    match status.as_str() {
        "success" => ("succeeded".to_owned(), 0),
        "error" => ("failed".to_owned(), 1),
        "canceled" => (status, 1),
        "disappeared" => (status, 3),
        _ => (status, NOT_KNOWN),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixListener;
    use std::thread::JoinHandle;

    use super::*;
    use crate::world::http::{Answer, read_request};

    /// A daemon that gives these answers, one a connection, and returns what it was asked; with
    /// status 0 it dies instead.
    fn daemon(run_dir: &Path, answers: &'static [(u16, &'static str)]) -> JoinHandle<Vec<String>> {
        let listener = UnixListener::bind(run_dir.join(api::SOCKET)).unwrap();
        thread::spawn(move || {
            let answer = |(status, body): &(u16, &str)| {
                let (mut stream, _) = listener.accept().unwrap();
                let asked = read_request(&stream).unwrap().target;
                if *status > 0 {
                    Answer::new(*status, "application/json", *body).write(&stream).unwrap();
                    let _ = stream.read(&mut [0]);
                }
                asked
            };
            answers.iter().map(answer).collect()
        })
    }

    fn outcome(timeout: Option<Duration>, answers: &'static [(u16, &'static str)]) -> (String, u8) {
        let dir = tempfile::tempdir().unwrap();
        let daemon = daemon(dir.path(), answers);
        let outcome = Args { job: 42.try_into().unwrap(), timeout }.outcome(dir.path());
        let asked = daemon.join().unwrap();
        assert!(asked.iter().all(|target| target.starts_with("/v1/jobs/42?wait=")), "{asked:?}");
        outcome
    }

    const RUNNING: (u16, &str) = (200, r#"{"job":42,"status":"running","ended":false,"ops":[]}"#);

    #[test]
    fn the_exit_code_says_how_the_job_has_ended() {
        let told = |answers| {
            let (word, code) = outcome(None, answers);
            format!("{word} {code}")
        };
        assert_eq!(told(&[(200, r#"{"job":42,"status":"success","ended":true,"ops":[]}"#)]), "succeeded 0");
        assert_eq!(told(&[RUNNING, (200, r#"{"status":"error","ended":true}"#)]), "failed 1");
        assert_eq!(told(&[(200, r#"{"status":"canceled","ended":true}"#)]), "canceled 1");
        assert_eq!(told(&[RUNNING, (200, r#"{"status":"disappeared","ended":true}"#)]), "disappeared 3");
        assert_eq!(told(&[(200, r#"{"status":null,"ended":true}"#)]), "not known 4");
        assert_eq!(told(&[(404, "{}")]), "not known 4");
    }

    #[test]
    fn a_daemon_that_ends_meanwhile_is_asked_again() {
        let answers = &[RUNNING, (0, ""), (503, "{}"), (200, r#"{"status":"success","ended":true}"#)];
        assert_eq!(outcome(None, answers), ("succeeded".to_owned(), 0));
    }

    #[test]
    fn what_has_not_ended_in_time_is_not_known() {
        let (word, code) = outcome(Some(Duration::ZERO), &[RUNNING]);
        assert_eq!((word.as_str(), code), ("running, it has not ended in time", 4));
        let dir = tempfile::tempdir().unwrap();
        let nobody = Args { job: 42.try_into().unwrap(), timeout: Some(Duration::ZERO) };
        assert_eq!(nobody.outcome(dir.path()).1, 4);
    }
}
