//! The cluster's configuration as it is at this moment: wconfd has it, and `config.data`
//! is what it wrote last.
//!
//! Promises: an answer comes within seconds, whatever wconfd does; a wconfd that gave
//! none is left alone for a while; and a configuration that has not changed is not read
//! twice, it is known by its serial number.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::Value;

use super::luxi;
use crate::engine::settings::Paths;
use crate::ganeti::config::ClusterConfig;
use crate::world::regular_file;

/// How long a wconfd that gave no answer is not asked again.
const REST: Duration = Duration::from_secs(30);

/// The file that wconfd writes, below Ganeti's data directory (Ganeti: `pathutils.py`,
/// `CLUSTER_CONF_FILE`).
pub(super) const FILE: &str = "config.data";

/// The largest configuration that is read, in bytes.
pub(super) const SIZE_LIMIT: u64 = luxi::ANSWER_LIMIT;

/// Where a configuration came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// From wconfd: as it is now.
    Wconfd,
    /// From `config.data`: as wconfd wrote it last.
    File,
    /// There is none.
    Nowhere,
}

/// The configuration, as far as it is to be had.
#[derive(Clone, Debug)]
pub struct Found {
    /// The configuration.
    pub config: Option<Arc<ClusterConfig>>,
    /// Where it came from.
    pub source: Source,
    /// What an operator must see to.
    pub problem: Option<String>,
}

/// Reads the configuration, and keeps the one that was read last.
#[derive(Debug)]
pub struct Configuration {
    socket: PathBuf,
    file: PathBuf,
    /// The last one, known by its serial number and its length in bytes.
    known: Option<((u64, usize), Arc<ClusterConfig>)>,
    /// Why wconfd is left alone, and until when.
    resting: Option<(Instant, String)>,
}

impl Configuration {
    /// The configuration of the cluster with these paths; nothing is read yet.
    pub fn new(paths: &Paths) -> Self {
        let socket = paths.ganeti_run_dir.join(luxi::WCONFD);
        Self { socket, file: paths.data_dir.join(FILE), known: None, resting: None }
    }

    /// wconfd's socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The configuration as it is now.
    pub fn read(&mut self) -> Found {
        match self.ask() {
            Ok(Some(config)) => Found { config: Some(config), source: Source::Wconfd, problem: None },
            Ok(None) => self.read_file(None),
            Err(problem) => self.read_file(Some(problem)),
        }
    }

    /// Asks wconfd; `None` when it does not run.
    fn ask(&mut self) -> Result<Option<Arc<ClusterConfig>>, String> {
        if let Some((_, problem)) = self.resting.as_ref().filter(|(until, _)| Instant::now() < *until) {
            return Err(problem.clone());
        }
        self.resting = None;
        let answer =
            match luxi::call(&self.socket, "readConfig", &Value::Array(Vec::new()), luxi::ANSWER_LIMIT) {
                Ok(None) => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => return Ok(None),
                Ok(Some(answer)) => {
                    luxi::result(&answer).and_then(|config| self.parse(config.get().as_bytes()).map(Some))
                }
                Err(error) => Err(error.to_string()),
            };
        answer.map_err(|error| {
            let socket = self.socket.display();
            let problem = format!("wconfd at {socket} does not tell the configuration ({error}); {HINT}");
            self.resting = Some((Instant::now() + REST, problem.clone()));
            problem
        })
    }

    fn read_file(&mut self, problem: Option<String>) -> Found {
        let config = match regular_file::read(&self.file, luxi::ANSWER_LIMIT) {
            Ok(Some(text)) => self.parse(&text),
            Ok(None) => Err("does not exist".to_owned()),
            Err(error) => Err(error.to_string()),
        };
        match config {
            Ok(config) => Found { config: Some(config), source: Source::File, problem },
            Err(error) => {
                let problem =
                    problem.unwrap_or_else(|| format!("{} {error}; {UNKNOWN}", self.file.display()));
                Found { config: None, source: Source::Nowhere, problem: Some(problem) }
            }
        }
    }

    /// The configuration in a text, or the last one if it is that.
    fn parse(&mut self, text: &[u8]) -> Result<Arc<ClusterConfig>, String> {
        #[derive(Deserialize)]
        struct Numbered {
            serial_no: Option<u64>,
        }
        let numbered: Numbered = serde_json::from_slice(text).map_err(|error| luxi::quoted(&error))?;
        let version = (numbered.serial_no.unwrap_or_default(), text.len());
        if let Some((known, config)) = self.known.as_ref().filter(|_| numbered.serial_no.is_some())
            && *known == version
        {
            return Ok(Arc::clone(config));
        }
        let config = Arc::new(ClusterConfig::parse(text).map_err(|error| error.to_string())?);
        self.known = Some((version, Arc::clone(&config)));
        Ok(config)
    }
}

const HINT: &str = "config.data is used instead; restart Ganeti's daemons if this lasts";
const UNKNOWN: &str = "hooks get no specialised variables and run on the master alone";

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::{BufRead, BufReader, Write};
    use std::os::unix::net::UnixListener;
    use std::thread;

    use super::*;

    const CONFIG: &str = r#"{"serial_no":SERIAL,"cluster":{"cluster_name":"NAME"}}"#;

    fn config(serial: u64, name: &str) -> String {
        CONFIG.replace("SERIAL", &serial.to_string()).replace("NAME", name)
    }

    /// A cluster whose `config.data` names it `file`, and whose wconfd gives `answers`,
    /// one a connection, and after that accepts and is silent.
    fn cluster(answers: Vec<Vec<u8>>) -> (tempfile::TempDir, Configuration) {
        let dir = tempfile::tempdir().unwrap();
        let mut paths = crate::engine::settings::Settings::default().paths;
        (paths.data_dir, paths.ganeti_run_dir) = (dir.path().to_owned(), dir.path().to_owned());
        fs::create_dir(dir.path().join("socket")).unwrap();
        fs::write(dir.path().join(FILE), config(1, "file")).unwrap();
        let listener = UnixListener::bind(dir.path().join(luxi::WCONFD)).unwrap();
        thread::spawn(move || {
            let mut silent = Vec::new();
            let mut answers = answers.into_iter();
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut request = Vec::new();
                BufReader::new(&stream).read_until(END, &mut request).unwrap();
                assert_eq!(request, b"{\"method\":\"readConfig\",\"args\":[]}\x03");
                match answers.next() {
                    Some(answer) => stream.write_all(&answer).unwrap(),
                    None => silent.push(stream),
                }
            }
        });
        (dir, Configuration::new(&paths))
    }

    const END: u8 = 3;

    fn answer(config: &str) -> Vec<u8> {
        format!("{{\"success\":true,\"result\":{config}}}\x03").into_bytes()
    }

    fn name(found: &Found) -> &str {
        found.config.as_ref().map_or("", |config| config.cluster_name())
    }

    fn huge(begin: &str, end: &str) -> Vec<u8> {
        format!("{begin}{}{end}", "x".repeat(1_000_000)).into_bytes()
    }

    #[test]
    fn wconfd_knows_better_than_the_file() {
        let (_dir, mut configuration) =
            cluster(vec![answer(&config(2, "now")), answer(&config(2, "now")), answer(&config(3, "then"))]);
        let [first, second, third] = [(); 3].map(|()| configuration.read());
        assert_eq!((name(&first), first.source), ("now", Source::Wconfd));
        let (Some(first), Some(second)) = (&first.config, &second.config) else { panic!() };
        assert!(Arc::ptr_eq(first, second), "of one serial number, parsed once");
        assert_eq!((name(&third), third.problem.as_deref()), ("then", None));
    }

    #[test]
    fn garbage_and_refusals_cost_a_rest() {
        for (bad, says) in [
            (&b"hello\x03"[..], "its answer is none"),
            (b"hello", "the answer has no end"),
            (b"{\"success\":false,\"result\":[\"GenericError\",[\"no\"]]}\x03", "it says: [\"GenericError\""),
            (b"{\"success\":true,\"result\":{}}\x03", "missing field `cluster`"),
            (&huge("{\"success\":false,\"result\":\"x", "\"}\x03"), "it says: \"xxxx"),
            (&huge("{\"success\":\"x", "\",\"result\":{}}\x03"), "its answer is none"),
            (&huge("{\"success\":true,\"result\":{\"serial_no\":\"x", "\"}}\x03"), "invalid type: string"),
            (&huge("{\"success\":true,\"result\":{\"cluster\":\"x", "\"}}\x03"), "invalid type: string"),
        ] {
            let (_dir, mut configuration) = cluster(vec![bad.to_vec(), answer(&config(2, "now"))]);
            for _ in 0..2 {
                let found = configuration.read();
                assert_eq!((name(&found), found.source), ("file", Source::File));
                let problem = found.problem.unwrap();
                assert!(problem.contains(says) && problem.len() < 700, "{problem}");
            }
            configuration.resting = None;
            assert_eq!(name(&configuration.read()), "now");
        }
    }

    #[test]
    fn a_silent_wconfd_is_waited_for_once() {
        let (_dir, mut configuration) = cluster(vec![]);
        let start = Instant::now();
        for _ in 0..5 {
            let found = configuration.read();
            assert_eq!(name(&found), "file");
            assert!(found.problem.unwrap().contains("timed out"));
        }
        assert!(start.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn without_wconfd_there_is_the_file_and_without_that_nothing() {
        let (dir, mut configuration) = cluster(vec![]);
        fs::remove_file(dir.path().join(luxi::WCONFD)).unwrap();
        let found = configuration.read();
        assert_eq!((name(&found), found.source, &found.problem), ("file", Source::File, &None));
        fs::remove_file(dir.path().join(FILE)).unwrap();
        let found = configuration.read();
        assert_eq!((found.source, found.config.is_none()), (Source::Nowhere, true));
        assert!(found.problem.unwrap().contains("config.data does not exist"));
    }
}
