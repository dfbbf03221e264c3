//! Who stands still, why, and for how long (design, section 5).

use std::rc::Rc;
use std::time::Duration;

use ganeti_hookd::engine::directories::HooksPath;
use ganeti_hookd::engine::effect::{PlanRequest, Token};
use ganeti_hookd::engine::input::Landing;
use ganeti_hookd::engine::settings::{Nodes, PreMode};
use ganeti_hookd::ganeti::event::Phase;
use ganeti_hookd::ganeti::job::{Job, JobId, ProcessRef, Status};
use ganeti_hookd::ganeti::opcodes;

use super::{Broken, Judge};
use crate::world::World;
use crate::world::arming::Arming;
use crate::world::ganeti::SimJob;

/// Longer than this nobody stands still who got further than where it published `running`, nor
/// without a script of it having begun: 3 s.
const PATIENCE: u64 = 3_000_000;

/// How long the scripts that a job stands still for may take to begin.
const AT_ONCE: u64 = 100_000;

/// What is short is tried again after a second.
const RETRY: u64 = 1_200_000;

/// What a turn of the engine may take.
const SLACK: u64 = 150_000;

impl Judge {
    /// A name is given to a process.
    pub(super) fn finds(&mut self, world: &World, token: Token, process: &ProcessRef) -> Result<(), Broken> {
        let of_it = |p: &crate::world::kernel::Process| p.livelock == process.livelock;
        let Some(at) = world.kernel.processes.iter().position(of_it) else { return Ok(()) };
        if self.tokens.insert(token, at).is_some_and(|before| before != at) {
            let what = format!("token {} has been that of another process", token.0);
            return Err(self.broken("a token stands for one process", None, &what));
        }
        Ok(())
    }

    /// A process is to be stopped.
    pub(super) fn stops(
        &mut self,
        world: &World,
        token: Token,
        id: JobId,
        limit: Duration,
    ) -> Result<(), Broken> {
        let bad = |what: &str| Broken {
            promise: "nobody is stopped but a job process at running",
            job: Some(id.get()),
            what: what.to_owned(),
        };
        if self.settings.hooks.pre != PreMode::Hold || limit > self.settings.hooks.hold_limit {
            return Err(bad("the settings do not allow it"));
        }
        if !self.is_master || self.stopping.is_some() {
            // What was found dead just now told the engine so; nobody has this token any more, and
            // no signal is sent.
            let is_nobody = world.kernel.watched(token).is_none();
            return if is_nobody { Ok(()) } else { Err(bad("in standby, or while it stops")) };
        }
        let Some(at) = self.tokens.get(&token) else { return Err(bad("nobody has this token")) };
        let process = &world.kernel.processes[*at];
        let job = &world.ganeti.jobs[process.job];
        let Some(version) = self.versions.get(&id) else { return Err(bad("its file was never read")) };
        if job.id != id.get() || job.job.received != version.received {
            return Err(bad("the process is another job's"));
        }
        let Some(op) = version.last_started() else { return Err(bad("no opcode has started")) };
        if version.ops[op].status != Status::Running {
            return Err(bad("the version that was read is not running"));
        }
        let code = &version.ops[op].code;
        let has = |path: &HooksPath| world.pre_hooks().contains(path);
        let here = has(&HooksPath::Global) || HooksPath::of_opcode(code).as_ref().is_some_and(has);
        let targets = self.settings.hooks.nodes == Nodes::Targets && world.online_nodes() > 1;
        let elsewhere = targets && opcodes::hook_path(code).is_some();
        if !here && !elsewhere {
            return Err(bad("its opcode has no pre hook"));
        }
        if self.stopped.contains(&(*at, op)) {
            return Err(bad("it has been stopped before this opcode already"));
        }
        self.to_stop.insert(token, (*at, op));
        Ok(())
    }

    /// A process is to be armed.
    pub(super) fn arms(&self, world: &World, token: Token, id: JobId) -> Result<(), Broken> {
        let bad = |what: &str| {
            Err(Broken {
                promise: "nobody is stopped but a job process at running",
                job: Some(id.get()),
                what: format!("it is armed: {what}"),
            })
        };
        if self.settings.hooks.pre != PreMode::Hold || !self.is_master || self.stopping.is_some() {
            return bad("not in hold mode, in standby, or while it stops");
        }
        match self.tokens.get(&token) {
            Some(at) if world.ganeti.jobs[world.kernel.processes[*at].job].id == id.get() => Ok(()),
            _ => bad("the process is another job's"),
        }
    }

    /// A process is to go on: its pre hooks have ended, or there is a reason.
    pub(super) fn lets_go(&mut self, world: &World, token: Token) -> Result<(), Broken> {
        let is_it = |p: &&crate::world::kernel::Process| {
            p.held.as_ref().is_some_and(|held| held.life == world.life && held.token == token)
        };
        let Some(process) = world.kernel.processes.iter().find(is_it) else { return Ok(()) };
        let (Some(held), Some((_, op))) = (&process.held, self.to_stop.get(&token)) else { return Ok(()) };
        let job = &world.ganeti.jobs[process.job];
        let name = (job.job.id, job.job.received.as_micros());
        let Some(told) = self.told.get(&(name, *op as u32, Phase::Pre)) else { return Ok(()) };
        // The last version that was read tells that the opcode is over: it was stopped too late.
        let running = |job: &Rc<Job<'_>>| job.ops.get(*op).is_some_and(|op| op.status == Status::Running);
        let over = !self.versions.get(&job.job.id).is_some_and(running)
            || world.now + SLACK >= held.until
            || world.now + SLACK >= held.since + PATIENCE;
        let reason = over
            || self.stopping.is_some()
            || self.stalled
            || !self.is_master
            || !world.files.queue.contains_key(&job.id)
            || !world.kernel.guard
            || self.settings_of_life.len() > 1;
        let asked = |(life, seq, _): &(u64, i64, i64)| *life == world.life && *seq == told.seq;
        let runs = world.hooks.running.keys().any(asked);
        let left = self.to_run.get(&told.seq).is_some_and(|left| !left.is_empty());
        if !reason && (runs || left) {
            let what = format!("{}.{op}.pre has not ended, and the job goes on", job.id);
            return Err(self.broken("pre hooks end before the opcode executes", Some(job.id), &what));
        }
        Ok(())
    }

    /// Looks at everybody who stands still.
    pub fn look(&mut self, world: &World) -> Result<(), Broken> {
        if !world.up {
            return Ok(());
        }
        for process in &world.kernel.processes {
            let armed = process.arming.stands_since().filter(|_| process.armed_by == world.life);
            if armed.is_some_and(|since| world.now > since + PATIENCE + SLACK) {
                let job = Some(world.ganeti.jobs[process.job].id);
                let what = "the kernel has stopped it, and nobody looks";
                return Err(self.broken("nobody stands still too long", job, what));
            }
            let Some(held) = process.held.as_ref().filter(|held| held.life == world.life) else { continue };
            let late = held.landing == Landing::Late && world.now > held.since + PATIENCE + SLACK;
            let idle = !held.begun && world.now > held.since + PATIENCE + SLACK;
            let over = world.now > held.until + SLACK;
            let job = &world.ganeti.jobs[process.job];
            let op = self.to_stop.get(&held.token).map_or(0, |(_, op)| *op);
            if held.begun || self.may_wait(world, job, op) {
                self.waited_at.insert(held.token, world.now);
            }
            let waited = self.waited_at.get(&held.token).map_or(held.since, |at| held.since.max(*at));
            let waited = waited.max(self.eased_at);
            let what = match () {
                () if over => "longer than it may",
                () if late => "longer than 3 s, and it had got further when it was stopped",
                () if idle => "longer than 3 s, and no script of it has begun",
                () if world.now > waited + AT_ONCE => "and its scripts wait for nothing",
                () => continue,
            };
            let job = Some(job.id);
            let seconds = (world.now - held.since) as f64 / 1e6;
            let what = format!("it has stood still for {seconds} s: {what}");
            return Err(self.broken("nobody stands still too long", job, &what));
        }
        Ok(())
    }

    /// Whether a job that stands still waits for something that its scripts may have to wait for.
    fn may_wait(&self, world: &World, job: &SimJob, op: usize) -> bool {
        let name = (job.job.id, job.job.received.as_micros());
        let short = self.short_at.is_some_and(|at| world.now < at + RETRY);
        let Some(told) = self.told.get(&(name, op as u32, Phase::Pre)) else { return self.stalled };
        let waits = self.pending.range(..told.seq).any(|(_, of)| *of == job.job.id);
        self.stalled || short || waits || self.plans.contains(&told.seq)
    }

    /// A plan that a job stands still for is made before others.
    pub(super) fn hurries(&self, world: &World, request: &PlanRequest) -> Result<(), Broken> {
        let key = request.event.key;
        let stands = key.phase == Phase::Pre && world.stands_for(key.job, request.event.received).is_some();
        if stands && !request.urgent {
            let what = format!("the plan of {key} is not urgent, and its job stands still");
            return Err(self.broken("live before old", Some(key.job.get()), &what));
        }
        Ok(())
    }

    pub(super) fn nobody_stands(&self, world: &World, why: &str) -> Result<(), Broken> {
        let standing = world.kernel.processes.iter().find(|p| {
            p.arming != Arming::Not && p.armed_by == world.life
                || p.held.as_ref().is_some_and(|h| h.life == world.life)
        });
        match standing {
            Some(process) => {
                let job = Some(world.ganeti.jobs[process.job].id);
                Err(self.broken("nobody stands still too long", job, why))
            }
            None => Ok(()),
        }
    }
}
