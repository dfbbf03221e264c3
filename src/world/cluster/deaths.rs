//! Telling Ganeti that a job process has died: wconfd is to give back its locks, luxid to look at
//! the job. Both do by themselves what they are asked for here, after some five minutes.
//!
//! Promise: never for a job whose process lives. Whether it is still the job of the dead process,
//! and nobody holds that process's livelock, is looked at just before either is asked; and both look
//! at the livelock themselves before they do anything (Ganeti: `src/Ganeti/WConfd/DeathDetection.hs`,
//! `src/Ganeti/JQueue.hs`, `cancelJob`).

use std::path::Path;

use serde::de::IgnoredAny;
use serde_json::json;

use super::luxi;
use crate::engine::effect::Death;
use crate::engine::settings::Paths;
use crate::ganeti::job;
use crate::world::process::livelock::{self, Holder};
use crate::world::queue::read::{JOB_SIZE_LIMIT, JobReader};

/// The largest answer, in bytes: the locks that were given back, or a sentence.
const ANSWER_LIMIT: u64 = 256 * 1024;

/// Tells Ganeti. Returns whether it did not know yet.
///
/// # Errors
/// Why it was not told, in words.
pub fn tell(paths: &Paths, death: &Death) -> Result<bool, String> {
    if !is_dead(paths, death)? {
        return Ok(false);
    }
    let socket = |name| paths.ganeti_run_dir.join(name);
    let _: IgnoredAny = luxi::ask(&socket(luxi::WCONFD), "cleanupLocks", &json!([]), ANSWER_LIMIT)?;
    if !is_dead(paths, death)? {
        return Ok(false);
    }
    let kill = json!([death.job.get(), true]);
    let said: (bool, String) = luxi::ask(&socket(luxi::LUXID), "CancelJob", &kill, ANSWER_LIMIT)?;
    match said {
        (true, said) if said.ends_with("has been already dead") => Ok(true),
        // It has looked in this very moment.
        (false, said) if said.ends_with("not found in queue") => Ok(false),
        (_, said) => Err(format!("luxid says: {}", luxi::quoted(&said))),
    }
}

/// Whether the queue says of the job that the dead process runs it, and nobody does; an error when
/// somebody does.
fn is_dead(paths: &Paths, death: &Death) -> Result<bool, String> {
    let mut reader = JobReader::new(&paths.queue_dir);
    let file = reader.queued(death.job, JOB_SIZE_LIMIT).map_err(|error| format!("its file {error}"))?;
    let Some(bytes) = file else { return Ok(false) };
    let job = job::parse(death.job, bytes).map_err(|error| format!("its file: {error}"))?;
    if job.received != death.received {
        return Err("another job has its number".to_owned());
    }
    if job.is_final() {
        return Ok(false);
    }
    if job.process().as_ref() != Some(&death.process) {
        return Err("another process runs it now".to_owned());
    }
    match livelock::holder(
        Path::new(&death.process.livelock),
        &paths.ganeti_run_dir.join(livelock::DIRECTORY),
    ) {
        Holder::Nobody | Holder::NoFile => Ok(true),
        Holder::Process(pid) => Err(format!("its livelock is held by process {pid}")),
        Holder::Unknown(why) | Holder::Shortage(why) => Err(why),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::mpsc::Receiver;

    use super::*;
    use crate::engine::settings::Settings;
    use crate::world::cluster::luxi::testing::serve;

    const DEAD: &str = r#"{"success":true,"result":[true,"Job 7 has been already dead"]}"#;
    const CLEANED: &str = r#"{"success":true,"result":[]}"#;

    struct Bench {
        dir: tempfile::TempDir,
        paths: Paths,
        death: Death,
    }

    impl Bench {
        /// A job whose process has died.
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let mut paths = Settings::default().paths;
            (paths.queue_dir, paths.ganeti_run_dir) = (dir.path().join("queue"), dir.path().to_owned());
            fs::create_dir(&paths.queue_dir).unwrap();
            fs::create_dir(dir.path().join(livelock::DIRECTORY)).unwrap();
            let text = text(dir.path(), 5, 40, "running");
            fs::write(paths.queue_dir.join("job-7"), &text).unwrap();
            let job = job::parse(7.try_into().unwrap(), text.as_bytes()).unwrap();
            let (received, process) = (job.received, job.process().unwrap());
            fs::write(&process.livelock, "").unwrap();
            Self { death: Death { seq: None, job: job.id, received, process }, dir, paths }
        }

        fn write(&self, text: &str) {
            fs::write(self.paths.queue_dir.join("job-7"), text).unwrap();
        }

        /// What wconfd and luxid are asked, one answer each.
        fn serve(&self, wconfd: &str, luxid: &str) -> [Receiver<String>; 2] {
            [(luxi::WCONFD, wconfd), (luxi::LUXID, luxid)]
                .map(|(socket, answer)| serve(self.dir.path(), socket, vec![answer.to_owned()]))
        }

        fn tell(&self) -> Result<bool, String> {
            tell(&self.paths, &self.death)
        }
    }

    /// The file of a job that was received then and is run by a process of this ID.
    fn text(run_dir: &Path, received: i64, pid: u32, status: &str) -> String {
        let livelock = run_dir.join(livelock::DIRECTORY).join(format!("job_7_{pid}"));
        format!(
            r#"{{"id":7,"received_timestamp":[{received},0],"start_timestamp":[6,0],"livelock":{livelock:?},
                "process_id":{pid},"ops":[{{"status":"{status}","input":{{"OP_ID":"OP_TEST_DELAY"}},
                "start_timestamp":[6,0],"exec_timestamp":[6,0],"end_timestamp":null,"log":[],"result":null}}]}}"#
        )
    }

    #[test]
    fn wconfd_and_luxid_are_asked_for_what_they_do_by_themselves() {
        let bench = Bench::new();
        let [wconfd, luxid] = bench.serve(CLEANED, DEAD);
        assert_eq!(bench.tell(), Ok(true));
        assert_eq!(wconfd.recv().unwrap(), r#"{"method":"cleanupLocks","args":[]}"#);
        assert_eq!(luxid.recv().unwrap(), r#"{"method":"CancelJob","args":[7,true]}"#);
    }

    #[test]
    fn nobody_is_asked_of_a_job_that_another_process_runs_or_that_is_another() {
        let bench = Bench::new();
        let [wconfd, luxid] = bench.serve(CLEANED, DEAD);
        bench.write(&text(bench.dir.path(), 5, 41, "running"));
        assert_eq!(bench.tell(), Err("another process runs it now".to_owned()));
        bench.write(&text(bench.dir.path(), 6, 40, "running"));
        assert_eq!(bench.tell(), Err("another job has its number".to_owned()));
        bench.write(&text(bench.dir.path(), 5, 40, "error"));
        assert_eq!(bench.tell(), Ok(false), "luxid has noticed");
        fs::remove_file(bench.paths.queue_dir.join("job-7")).unwrap();
        assert_eq!(bench.tell(), Ok(false), "it has left the queue");
        bench.write("{");
        assert!(bench.tell().unwrap_err().starts_with("its file: "));
        assert!(wconfd.try_recv().is_err() && luxid.try_recv().is_err());
    }

    #[test]
    fn nobody_is_asked_while_somebody_holds_its_livelock() {
        let bench = Bench::new();
        let [wconfd, luxid] = bench.serve(CLEANED, DEAD);
        let program = std::env::current_exe().unwrap();
        let mut holder = std::process::Command::new(program)
            .args(["world::cluster::deaths::tests::holds_a_livelock", "--exact", "--nocapture"])
            .env("LIVELOCK", &bench.death.process.livelock)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let lines = std::io::BufRead::lines(std::io::BufReader::new(holder.stdout.take().unwrap()));
        assert!(lines.map_while(Result::ok).any(|line| line.ends_with("held")));
        let error = bench.tell().unwrap_err();
        assert_eq!(error, format!("its livelock is held by process {}", holder.id()));
        assert!(wconfd.try_recv().is_err() && luxid.try_recv().is_err());
        holder.kill().unwrap();
        holder.wait().unwrap();
        assert_eq!(bench.tell(), Ok(true));
    }

    /// Not a test by itself: the process that holds a livelock for one.
    #[test]
    fn holds_a_livelock() {
        let Some(path) = std::env::var_os("LIVELOCK") else { return };
        let file = fs::File::options().write(true).open(path).unwrap();
        rustix::fs::fcntl_lock(&file, rustix::fs::FlockOperation::LockExclusive).unwrap();
        println!("held");
        let _ = std::io::stdin().read_line(&mut String::new());
    }

    #[test]
    fn an_answer_that_is_larger_than_any_is_none() {
        let bench = Bench::new();
        let large = format!(r#"{{"success":true,"result":["{}"]}}"#, "x".repeat(1024 * 1024));
        let [_wconfd, luxid] = bench.serve(&large, DEAD);
        let error = bench.tell().unwrap_err();
        assert!(error.ends_with("the answer has more than 262144 bytes"), "{error}");
        assert!(luxid.try_recv().is_err(), "nobody is asked after that");
    }

    #[test]
    fn an_answer_that_is_not_expected_is_told() {
        for (wconfd, luxid, says) in [
            (r#"{"success":false,"result":"no"}"#, DEAD, r#"it says: "no""#),
            (
                CLEANED,
                r#"{"success":true,"result":[true,"Job 7 canceled\u001b"]}"#,
                r"luxid says: Job 7 canceled\u{1b}",
            ),
            (CLEANED, r#"{"success":true,"result":7}"#, "its answer is none"),
        ] {
            let bench = Bench::new();
            let _asked = bench.serve(wconfd, luxid);
            let error = bench.tell().unwrap_err();
            assert!(error.contains(says), "{error}");
        }
        let error = Bench::new().tell().unwrap_err();
        assert!(error.ends_with("does not exist; it is there on the master alone"), "{error}");
        let bench = Bench::new();
        let gone = r#"{"success":true,"result":[false,"Job 7 not found in queue"]}"#;
        let _asked = bench.serve(CLEANED, gone);
        assert_eq!(bench.tell(), Ok(false));
    }
}
