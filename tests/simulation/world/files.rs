//! The queue directory, the archive and the serial file; inotify and what a reader gets.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use ganeti_hookd::engine::input::{Input, Stamp, Version};
use ganeti_hookd::ganeti::job::{Job, JobId};

use super::people::Deed;
use super::{Happening, Message, World};
use crate::recipe::Fault;

/// A version younger than this cannot be told from the next: the file system's clock is coarse.
const COARSE: u64 = 20_000;

/// The largest job file that is read at all.
const TOO_LARGE: u64 = 256 * 1024 * 1024;

/// What a file holds.
#[derive(Clone, Debug)]
pub enum Content {
    Job(Rc<Job<'static>>),
    Bad(&'static str),
}

/// One version of a file.
#[derive(Clone, Debug)]
pub struct File {
    pub content: Content,
    pub size: u64,
    inode: u64,
    changed: i64,
    written: u64,
}

/// The directories.
#[derive(Debug, Default)]
pub struct Files {
    pub queue: BTreeMap<i64, File>,
    pub archive: BTreeMap<i64, File>,
    /// The last number that was given out.
    pub serial: Option<i64>,
    inode: u64,
    /// Files that cannot be read, and until when.
    failing: BTreeMap<i64, u64>,
    watch: Watch,
    /// When there first is a queue.
    made_at: u64,
    /// How many files have been read that nobody hinted at, as the judge counts.
    pub reads: u64,
    /// How many that were when a hint came, by job.
    hinted_at: BTreeMap<i64, u64>,
}

impl Files {
    /// How many other files had been read when the hint came that is taken now.
    pub fn hinted_at(&mut self, id: i64) -> Option<u64> {
        self.hinted_at.remove(&id)
    }

    /// Looks at the same files from the other node.
    pub(super) fn turn(&mut self, far: &mut Self) {
        std::mem::swap(self, far);
        std::mem::swap(&mut self.queue, &mut far.queue);
        std::mem::swap(&mut self.archive, &mut far.archive);
        std::mem::swap(&mut self.serial, &mut far.serial);
        std::mem::swap(&mut self.inode, &mut far.inode);
        std::mem::swap(&mut self.made_at, &mut far.made_at);
    }

    /// Since when every change has been told of, if any is.
    pub fn listens_since(&self) -> u64 {
        self.watch.since
    }

    /// What tells this version of a file from others; 0 for none.
    pub fn version_of(&self, id: i64) -> u64 {
        self.queue.get(&id).map_or(0, |file| file.inode)
    }
}

/// inotify.
#[derive(Debug, Default)]
struct Watch {
    number: u64,
    on: bool,
    /// Nothing has been lost since then.
    since: u64,
    overflowing: bool,
    /// Hints on their way; another of the same file adds nothing.
    pending: BTreeSet<i64>,
    refused_until: u64,
}

/// What a reader finds.
#[derive(Clone, Debug)]
pub enum Read {
    Queued(Rc<Job<'static>>, Option<Stamp>),
    Archived(Rc<Job<'static>>),
    Gone,
    Large(u64),
    Bad(String, Option<Stamp>),
    Failed(String),
}

impl Read {
    /// The same, as the engine is told.
    pub fn version(&self) -> Version<'_> {
        match self {
            Self::Queued(job, stamp) => Version::Queued(Rc::as_ref(job), *stamp),
            Self::Archived(job) => Version::Archived(Rc::as_ref(job)),
            Self::Gone => Version::Gone,
            Self::Large(size) => Version::Large(*size),
            Self::Bad(why, stamp) => Version::Bad(why.clone(), *stamp),
            Self::Failed(why) => Version::Failed(why.clone()),
        }
    }
}

/// A job's number.
pub fn job_id(id: i64) -> JobId {
    // Every number in this world is 1 or more.
    JobId::try_from(id).expect("a job number")
}

impl World {
    /// A new version of a file appears in the queue, by rename.
    pub fn put(&mut self, id: i64, content: Content, size: u64) {
        self.files.inode += 1;
        let file = File {
            content,
            size,
            inode: self.files.inode,
            changed: self.time().as_micros() * 1000,
            written: self.now,
        };
        self.files.queue.insert(id, file);
        self.everywhere(|world| world.changed(id));
    }

    /// A file leaves the queue.
    pub fn take_out(&mut self, id: i64) -> Option<File> {
        let file = self.files.queue.remove(&id)?;
        self.everywhere(|world| world.changed(id));
        Some(file)
    }

    /// inotify sees that a file came, changed or went.
    fn changed(&mut self, id: i64) {
        if !self.files.watch.on || self.files.watch.overflowing {
            return;
        }
        if self.fails(Fault::Overflow, 40) {
            self.story.say(|| "** inotify's queue is full".to_owned());
            self.files.watch.overflowing = true;
            self.files.watch.pending.clear();
            let delay = self.of(Fault::Overflow).spread(100, 1_000_000);
            let number = self.files.watch.number;
            self.later(delay, Happening::OverflowTold(number));
            return;
        }
        if self.files.watch.pending.insert(id) {
            let delay = self.dice.spread(20, 400);
            let number = self.files.watch.number;
            self.later(delay, Happening::Hint(number, id));
        }
    }

    /// The cluster's files changed.
    pub fn cluster_changed(&mut self) {
        if self.files.watch.on && !self.files.watch.overflowing && self.up {
            self.inbox.push_back(Message::Plain(Input::ClusterChanged));
        }
    }

    pub(super) fn hinted(&mut self, watch: u64, id: i64) {
        let current = &mut self.files.watch;
        if watch == current.number && current.on && current.pending.remove(&id) {
            self.story.say(|| format!("inotify tells of job {id}"));
            let reads = self.files.reads;
            self.files.hinted_at.entry(id).or_insert(reads);
            self.inbox.push_back(Message::Plain(Input::Hint(job_id(id))));
        }
    }

    pub(super) fn overflow_told(&mut self, watch: u64) {
        if watch == self.files.watch.number && self.files.watch.overflowing {
            self.files.watch.overflowing = false;
            self.files.watch.since = self.now;
            if self.files.watch.on {
                self.inbox.push_back(Message::Plain(Input::Overflow));
            }
        }
    }

    /// The queue directory was replaced: the old watch tells nothing more.
    pub(super) fn lose_watch(&mut self) {
        if !self.files.watch.on {
            return;
        }
        self.story.say(|| "** the watch is lost".to_owned());
        self.story.reach(Fault::WatchLost.name());
        self.files.watch.on = false;
        self.files.watch.pending.clear();
        let delay = self.of(Fault::WatchLost).spread(10, 1_000_000);
        self.tell_later(delay, Input::WatchLost);
    }

    /// The daemon that watched is gone.
    pub(super) fn unwatch_all(&mut self) {
        let Watch { number, since, .. } = self.files.watch;
        self.files.watch = Watch { number, since, ..Watch::default() };
        self.files.hinted_at.clear();
    }

    /// `Effect::Watch`.
    pub fn watch(&mut self) -> Result<(), String> {
        if self.fails(Fault::WatchRefused, 4) {
            self.files.watch.refused_until = self.now + self.of(Fault::WatchRefused).spread(1, 5_000_000);
        }
        if self.now < self.files.watch.refused_until || self.is_without_queue() {
            return Err("the queue: no such file or directory".to_owned());
        }
        let number = self.files.watch.number + 1;
        self.files.watch = Watch { number, on: true, since: self.now, ..Watch::default() };
        Ok(())
    }

    /// The queue is made only then.
    pub(super) fn make_queue_at(&mut self, at: u64) {
        self.files.made_at = at;
        self.files.serial = None;
        self.later(at, Happening::People(Deed::MakeQueue));
    }

    /// Whether there is no queue yet.
    pub fn is_without_queue(&self) -> bool {
        self.now < self.files.made_at
    }

    /// How long it is until there is a queue.
    pub(super) fn until_queue(&self) -> u64 {
        self.files.made_at.saturating_sub(self.now)
    }

    /// `Effect::Read`.
    pub fn read(&mut self, id: i64, limit: u64, archive: bool) -> Read {
        if self.fails(Fault::ReadFails, 60) {
            let until = self.now + self.of(Fault::ReadFails).spread(1, 4_000_000);
            self.files.failing.insert(id, until);
        }
        if self.files.failing.get(&id).is_some_and(|until| self.now < *until) {
            return Read::Failed("Input/output error (os error 5)".to_owned());
        }
        let Some(file) = self.files.queue.get(&id) else {
            let archived = self.files.archive.get(&id).filter(|_| archive);
            if let Some(file) = archived.filter(|file| file.size > limit && file.size <= TOO_LARGE) {
                return Read::Large(file.size);
            }
            return match archived.map(|file| &file.content) {
                Some(Content::Job(job)) => Read::Archived(Rc::clone(job)),
                Some(Content::Bad(why)) => Read::Bad((*why).to_owned(), None),
                None => Read::Gone,
            };
        };
        if file.size > limit {
            return Read::Large(file.size);
        }
        let stamp = self.stamp(file);
        match &file.content {
            Content::Job(job) => Read::Queued(Rc::clone(job), stamp),
            Content::Bad(why) => Read::Bad((*why).to_owned(), stamp),
        }
    }

    fn stamp(&self, file: &File) -> Option<Stamp> {
        let Stamp { inode, size, changed } =
            Stamp { inode: file.inode, size: file.size, changed: file.changed };
        (self.now >= file.written + COARSE).then_some(Stamp { inode, size, changed })
    }

    /// `Effect::Scan`: a directory is listed piece by piece while it changes. What is there
    /// all the while is listed once.
    pub fn scan(&mut self, scan: u64) {
        let pieces = 1 + self.files.queue.len() as u64 / 500 + self.dice.below(3);
        let delay = self.dice.spread(50, 5_000);
        self.later(delay, Happening::ScanPiece(self.life, scan, 0, pieces));
    }

    pub(super) fn scan_piece(&mut self, life: u64, scan: u64, piece: u64, pieces: u64) {
        if life != self.life || !self.up {
            return;
        }
        let fails = self.fails(Fault::ScanFails, 4);
        if piece == pieces || fails {
            let result = match fails {
                true => Err("the queue cannot be read: Input/output error".to_owned()),
                // A serial that is there and cannot be read makes a scan fail.
                false => match (self.serial(), self.files.serial) {
                    (None, Some(_)) => Err("the queue's serial file: Input/output error".to_owned()),
                    (serial, _) => Ok(serial),
                },
            };
            return self.inbox.push_back(Message::Plain(Input::ScanEnded { scan, result }));
        }
        let here = |id: &i64| (*id as u64).wrapping_mul(0x9e37_79b9) % pieces == piece;
        let files: Vec<_> = self.files.queue.iter().filter(|(id, _)| here(id)).collect();
        let files = files.into_iter().map(|(id, file)| (job_id(*id), self.stamp(file))).collect();
        self.inbox.push_back(Message::Plain(Input::Listed { scan, files }));
        let delay = self.dice.spread(50, 5_000);
        self.later(delay, Happening::ScanPiece(life, scan, piece + 1, pieces));
    }

    /// `Effect::ReadSerial`.
    pub fn serial(&mut self) -> Option<i64> {
        if self.fails(Fault::SerialUnknown, 4) { None } else { self.files.serial }
    }

    /// `Effect::ReadLarge`.
    pub fn read_large(&mut self, reading: u64, id: i64) {
        let delay = self.dice.spread(500, 3_000_000);
        self.later(delay / 2, Happening::LargeRead(self.life, reading, id));
    }

    pub(super) fn large_read(&mut self, life: u64, reading: u64, id: i64) {
        if life == self.life && self.up {
            let read = self.read(id, TOO_LARGE, true);
            let delay = self.dice.spread(10, 1_000_000);
            self.later(delay, Happening::LargeTold(life, reading, id, read));
        }
    }
}
