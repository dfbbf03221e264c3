//! Playing a recording through the tracker, as the daemon would have seen it live.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::engine::environment::ClusterFacts;
use crate::engine::tracker::{Lateness, Tracked, Tracker};
use crate::engine::transitions::{self, Progress};
use crate::engine::views::{self, Views};
use crate::ganeti::config::{self, ClusterConfig};
use crate::ganeti::event::Event;
use crate::ganeti::job::{self, InputReading, JobId, Liveness, OpInput, ParseError, Timestamp};
use crate::ganeti::opcodes::View;
use crate::ganeti::recording::{Change, Line};
use crate::ganeti::ssconf::{self, NO_MASTER};

/// Where Ganeti keeps its data on the nodes that recordings are made on.
const DATA_DIR: &str = "/var/lib/ganeti";

/// A recording being played.
#[derive(Debug)]
pub struct Replay {
    tracker: Tracker,
    /// The last version of each job's file.
    files: BTreeMap<JobId, String>,
    cluster: ClusterFacts,
    /// The last version of `config.data` if it has not been read yet, and the one read.
    config: (String, Option<Arc<ClusterConfig>>),
    /// The cluster's UUID and name, once they are known.
    cluster_id: Option<(Arc<str>, String)>,
    views: Views,
    seq: i64,
    /// What could not be read, and has not been taken.
    warnings: Vec<String>,
    /// Opcodes of which that was said.
    warned: BTreeSet<(JobId, u32)>,
}

impl Default for Replay {
    fn default() -> Self {
        let cluster = ClusterFacts { data_dir: DATA_DIR.to_owned(), ..ClusterFacts::default() };
        Self {
            tracker: Tracker::default(),
            files: BTreeMap::new(),
            cluster,
            config: Default::default(),
            cluster_id: None,
            views: Views::default(),
            seq: 0,
            warnings: Vec::new(),
            warned: BTreeSet::new(),
        }
    }
}

impl Replay {
    /// Plays one line and returns the events it brings, numbered.
    ///
    /// # Errors
    /// When the line holds a job file that is none; nothing changes then.
    pub fn line(&mut self, line: &Line) -> Result<Vec<(i64, Event)>, ParseError> {
        let now = Timestamp::from_secs_f64(line.t);
        match line.change() {
            Change::Content(path, content) => match JobId::from_file_name(path.as_bytes()) {
                Some(id) => self.version(id, content, line.initial, now),
                None => {
                    self.cluster_file(path, content);
                    Ok(Vec::new())
                }
            },
            Change::Exit(pid) => self.exit(pid, now),
            Change::Removed(path) | Change::Moved(path, _) => {
                if let Some(id) = JobId::from_file_name(path.as_bytes()) {
                    self.tracker.forget(id);
                    self.files.remove(&id);
                }
                Ok(Vec::new())
            }
            Change::Other => Ok(Vec::new()),
        }
    }

    /// What the recorded cluster says of itself by now.
    pub fn cluster(&mut self) -> ClusterFacts {
        let mut facts = self.cluster.clone();
        if let Some(config) = self.config() {
            let name = Some(config.cluster_name()).filter(|name| ssconf::is_name(name));
            facts.name = facts.name.or_else(|| name.map(str::to_owned));
            facts.master = facts.master.or_else(|| config.master_name().map(str::to_owned));
        }
        facts
    }

    /// What the event's scripts get beside the variables that all get, and where they run,
    /// the master first. To be asked of each event once, in order, before the next line.
    pub fn view(&mut self, event: &Event) -> View {
        let input = self.input(event);
        let config = self.config();
        let mut view = self.views.view(event, input, config, || None);
        views::limit(&mut view);
        if view.nodes.is_empty() {
            view.nodes.extend(self.cluster.master.clone());
        }
        view
    }

    /// What could not be read since the last time.
    pub fn take_warnings(&mut self) -> Vec<String> {
        std::mem::take(&mut self.warnings)
    }

    /// The opcode's input in the last version of its job's file, as far as it can be read.
    fn input(&mut self, event: &Event) -> Option<OpInput> {
        let file = self.files.get(&event.key.job)?;
        let InputReading { input, bad_fields } =
            job::op_input(file.as_bytes(), event.key.op as usize).ok()??;
        if !bad_fields.is_empty() && self.warned.insert((event.key.job, event.key.op)) {
            self.warnings.push(views::about_bad_fields(event.key, &bad_fields));
        }
        Some(input)
    }

    /// The last recorded configuration; a damaged one is none.
    fn config(&mut self) -> Option<Arc<ClusterConfig>> {
        let (text, config) = &mut self.config;
        if !text.is_empty() {
            let parsed = ClusterConfig::parse(std::mem::take(text).as_bytes());
            self.warnings.extend(parsed.as_ref().err().map(ToString::to_string));
            *config = parsed.ok().map(Arc::new);
        }
        config.clone()
    }

    fn cluster_file(&mut self, path: &str, content: &str) {
        match path {
            "ssconf_master_node" | "ssconf_cluster_name" => match ssconf::name(content) {
                // A cluster that is being destroyed has had one: its hooks are told that one.
                Ok(Some(NO_MASTER)) => {}
                Ok(name) if path == "ssconf_master_node" => self.cluster.master = name.map(str::to_owned),
                Ok(name) => self.cluster.name = name.map(str::to_owned),
                Err(error) => self.warnings.push(format!("{path} {error}")),
            },
            "config.data" => {
                let id = config::cluster_id(content.as_bytes());
                self.cluster_id = id.map(|(uuid, name)| (uuid.into(), name)).or(self.cluster_id.take());
                self.config = (content.to_owned(), None);
            }
            _ => {}
        }
    }

    fn version(
        &mut self,
        id: JobId,
        content: &str,
        initial: bool,
        now: Timestamp,
    ) -> Result<Vec<(i64, Event)>, ParseError> {
        let events = self.look(id, content, Liveness::Unknown, initial, now)?;
        self.files.insert(id, content.to_owned());
        Ok(events)
    }

    /// A process has ended, and with it the jobs that name it and are not over: the one
    /// that it ran, and those of dead processes that had its number before.
    fn exit(&mut self, pid: u32, now: Timestamp) -> Result<Vec<(i64, Event)>, ParseError> {
        let runs = |tracked: &Tracked| tracked.process.as_ref().is_some_and(|process| process.pid == pid);
        let open = self.tracker.iter().filter(|(_, tracked)| tracked.is_open() && runs(tracked));
        let died: Vec<JobId> = open.map(|(id, _)| id).collect();
        let mut events = Vec::new();
        for id in died {
            if let Some(content) = self.files.get(&id).cloned() {
                events.extend(self.look(id, &content, Liveness::Dead, false, now)?);
            }
        }
        Ok(events)
    }

    fn look(
        &mut self,
        id: JobId,
        content: &str,
        liveness: Liveness,
        initial: bool,
        now: Timestamp,
    ) -> Result<Vec<(i64, Event)>, ParseError> {
        let job = job::parse(id, content.as_bytes())?;
        let start = if initial { transitions::adopt(&job) } else { Progress::default() };
        let lateness = if initial { Lateness::Everything } else { Lateness::PassedPres };
        let look = self.tracker.look(&job, liveness, start, lateness, now);
        self.tracker.keep(id, look.tracked);
        Ok(look
            .events
            .into_iter()
            .map(|mut event| {
                if let Some((uuid, name)) = &self.cluster_id {
                    Arc::make_mut(&mut event.about).place_in(uuid, name);
                }
                self.seq += 1;
                (self.seq, event)
            })
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(path: &str, content: &str) -> Line {
        let (path, content) = (Some(path.to_owned()), Some(content.to_owned()));
        Line { t: 1.0, path, content, initial: false, moved_to: None, removed: false, pid: None, event: None }
    }

    #[test]
    fn a_cluster_is_what_its_files_say() {
        let config = r#"{"serial_no":1,"cluster":{"cluster_name":"c.example.com","master_node":"m"},
            "nodes":{"m":{"name":"node1"}},"instances":{}}"#;
        let mut replay = Replay::default();
        let mut says = |path: &str, content: &str| {
            assert_eq!(replay.line(&line(path, content)).unwrap(), []);
            let ClusterFacts { data_dir, name, master } = replay.cluster();
            assert_eq!(data_dir, DATA_DIR);
            (name.unwrap_or_default(), master.unwrap_or_default())
        };
        let names = |cluster: &str, master: &str| (cluster.to_owned(), master.to_owned());
        assert_eq!(says("config.data", config), names("c.example.com", "node1"));
        assert_eq!(says("ssconf_master_node", "node2\n"), names("c.example.com", "node2"));
        assert_eq!(says("ssconf_cluster_name", "d.example.com\n"), names("d.example.com", "node2"));
        assert_eq!(says("ssconf_master_node", NO_MASTER), names("d.example.com", "node2"), "it had one");
        assert_eq!(says("ssconf_hvparams_kvm", "x"), names("d.example.com", "node2"));
    }
}
