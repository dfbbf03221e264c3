//! What really happened to a job, kept by the world as it happens and known to the judge alone.

use ganeti_hookd::ganeti::event::PostStatus;
use ganeti_hookd::ganeti::job::{Job, Status};

/// What really happened to one opcode.
#[derive(Clone, Debug, Default)]
pub struct OpTruth {
    /// When it began to execute.
    pub pre: Option<u64>,
    /// How it first came to an end, and when.
    pub post: Option<(PostStatus, u64)>,
    /// It ended and gets no post.
    silent: bool,
    /// Its success stands in no file any more: who did not see it takes it for disappeared.
    pub success_lost: bool,
}

/// What really happened to a job.
#[derive(Clone, Debug, Default)]
pub struct Truth {
    pub ops: Vec<OpTruth>,
    /// The journal has it as told to its end.
    pub told_to_end: bool,
    /// Its file went before its end was told; if it does not come back, nobody can know.
    pub removed: bool,
    /// The history was lost or forgotten while the file was gone.
    pub is_forgotten: bool,
    /// Since when the file is there again after that.
    pub back_since: Option<u64>,
    /// Its file can never be read.
    pub unreadable: bool,
    /// It had ended before anybody looked.
    pub history: bool,
    /// When it was first written.
    pub since: Option<u64>,
    /// When the daemon first read it.
    pub first_read: Option<u64>,
    /// Since when the journal has known of it.
    pub known_since: Option<u64>,
}

impl Truth {
    pub fn new(ops: usize, readable: bool) -> Self {
        Self { ops: vec![OpTruth::default(); ops], unreadable: !readable, ..Self::default() }
    }

    /// Whether there has been any version of it.
    pub fn was_written(&self) -> bool {
        self.since.is_some()
    }

    /// A version appears.
    pub fn written(&mut self, job: &Job<'_>, now: u64) {
        self.since.get_or_insert(now);
        self.removed = false;
        if std::mem::take(&mut self.is_forgotten) {
            self.back_since = Some(now);
        }
        for (op, truth) in job.ops.iter().zip(&mut self.ops) {
            if op.executed.is_some() {
                truth.pre.get_or_insert(now);
            }
            if truth.silent || truth.post.is_some() {
                continue;
            }
            let status = match op.status {
                Status::Success => PostStatus::Succeeded,
                Status::Error if op.started.is_some() && op.death_detected => PostStatus::Disappeared,
                Status::Error if op.started.is_some() => PostStatus::Failed,
                Status::Canceled if op.executed.is_some() => PostStatus::Failed,
                Status::Error | Status::Canceled => {
                    truth.silent = true;
                    continue;
                }
                _ => continue,
            };
            truth.post = Some((status, now));
        }
    }

    /// The job process died, and this is the file that it left.
    pub fn died(&mut self, job: &Job<'_>, now: u64) {
        if let Some(last) = job.last_started()
            && !job.ops[last].status.is_final()
        {
            self.ops[last].post.get_or_insert((PostStatus::Disappeared, now));
        }
    }

    /// Luxid is about to write over this.
    pub fn rewritten(&mut self, job: &Job<'_>) {
        if let Some(last) = job.last_started()
            && job.ops[last].status.is_final()
        {
            self.ops[last].success_lost = true;
        }
    }

    /// The history was lost, or forgotten so far.
    pub fn history_is_lost(&mut self) {
        self.is_forgotten |= self.removed;
    }

    /// The file was removed for good.
    pub fn removed(&mut self) {
        // What was told of it is written anew now and then.
        self.removed |= !self.told_to_end;
    }
}
