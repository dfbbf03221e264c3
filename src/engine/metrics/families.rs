//! Every metric there is: its name, kind, labels, meaning, and where its values come from.

use super::Metrics;
use super::figures::Results;
use super::text::Samples;
use crate::ganeti::event::PostStatus;
use crate::ganeti::job::Timestamp;

/// What the names of all metrics begin with.
pub const PREFIX: &str = "ganeti_hookd_";

/// What kind of metric it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It goes up and down.
    Gauge,
    /// It goes up only, from 0 at the daemon's start.
    Counter,
    /// How often something took how long, since the daemon's start.
    Histogram,
}

impl Kind {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gauge => "gauge",
            Self::Counter => "counter",
            Self::Histogram => "histogram",
        }
    }
}

/// One metric.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// Its name, without [`PREFIX`].
    pub name: &'static str,
    /// Its kind.
    pub kind: Kind,
    /// Its labels.
    pub labels: &'static [&'static str],
    /// What it tells, with its unit.
    pub help: &'static str,
    samples: fn(&Metrics, &mut Samples<'_>),
}

impl Family {
    /// Adds what it tells now.
    pub fn write(&self, metrics: &Metrics, text: &mut String) {
        let name = format!("{PREFIX}{}", self.name);
        *text += &format!("# HELP {name} {}\n# TYPE {name} {}\n", self.help, self.kind.as_str());
        (self.samples)(metrics, &mut Samples::of(text, &name));
    }
}

const fn family(
    name: &'static str,
    kind: Kind,
    labels: &'static [&'static str],
    help: &'static str,
    samples: fn(&Metrics, &mut Samples<'_>),
) -> Family {
    Family { name, kind, labels, help, samples }
}

const fn gauge(name: &'static str, help: &'static str, samples: fn(&Metrics, &mut Samples<'_>)) -> Family {
    family(name, Kind::Gauge, &[], help, samples)
}

const fn counter(name: &'static str, help: &'static str, samples: fn(&Metrics, &mut Samples<'_>)) -> Family {
    family(name, Kind::Counter, &[], help, samples)
}

const fn times(
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
    samples: fn(&Metrics, &mut Samples<'_>),
) -> Family {
    family(name, Kind::Histogram, labels, help, samples)
}

/// Every metric, in the order it is shown.
pub const FAMILIES: &[Family] = &[
    gauge("up", "1 while the daemon answers", |_, s| s.value(&[], 1.0)),
    family("build_info", Kind::Gauge, &["version"], "the program's version; always 1", |m, s| {
        s.value(&[("version", &m.status.version)], 1.0);
    }),
    family(
        "cluster_info",
        Kind::Gauge,
        &["cluster"],
        "the cluster's name, once it is known; always 1",
        |m, s| {
            m.cluster.iter().for_each(|cluster| s.value(&[("cluster", cluster)], 1.0));
        },
    ),
    gauge("start_time_seconds", "when the daemon started and counters were 0, since the epoch", |m, s| {
        s.value(&[], m.status.started);
    }),
    gauge("is_master", "1 on the master, 0 in standby", |m, s| is(s, m.status.role == "master")),
    gauge("problems", "conditions that an operator must see to", |m, s| size(s, m.status.problems.len())),
    gauge("jobs_tracked", "jobs in the queue", |m, s| size(s, m.status.jobs_tracked)),
    gauge("jobs_open", "jobs that may still bring events", |m, s| size(s, m.status.jobs_open)),
    family("jobs", Kind::Gauge, &["state"], "jobs in the queue by how far they are", |m, s| {
        let jobs = &m.jobs;
        for (state, count) in [
            ("queued", jobs.queued),
            ("waiting", jobs.waiting),
            ("running", jobs.running),
            ("ended", jobs.ended),
        ] {
            s.value(&[("state", state)], count as f64);
        }
    }),
    gauge("processes_watched", "job processes that are watched", |m, s| size(s, m.status.processes_watched)),
    gauge("events_undelivered", "events whose scripts have not all ended", |m, s| {
        size(s, m.status.undelivered)
    }),
    gauge("lag_seconds", "age of the oldest undelivered event", |m, s| s.value(&[], m.status.lag_seconds)),
    gauge("oldest_undelivered_timestamp_seconds", "when the oldest undelivered event was noticed", |m, s| {
        time(s, m.oldest_undelivered);
    }),
    gauge(
        "oldest_waiting_timestamp_seconds",
        "since when the opcode waits for locks that has waited longest",
        |m, s| {
            time(s, m.jobs.oldest_waiting);
        },
    ),
    gauge(
        "oldest_held_timestamp_seconds",
        "since when the job is held that has been held longest",
        |m, s| {
            time(s, m.oldest_held);
        },
    ),
    family(
        "outbox_pending",
        Kind::Gauge,
        &["name"],
        "events that an outbox has still to send, or that are not done yet",
        |m, s| {
            for outbox in &m.status.outboxes {
                s.maybe(&[("name", &outbox.name)], outbox.pending.map(|pending| pending as f64));
            }
        },
    ),
    family(
        "outbox_last_success_timestamp_seconds",
        Kind::Gauge,
        &["name"],
        "when an outbox's receiver took something last",
        |m, s| {
            for outbox in &m.status.outboxes {
                s.maybe(&[("name", &outbox.name)], outbox.last_success);
            }
        },
    ),
    gauge("last_event_timestamp_seconds", "when something happened last that the daemon noticed", |m, s| {
        time(s, m.figures.last_event);
    }),
    family(
        "last_success_timestamp_seconds",
        Kind::Gauge,
        &["op_code"],
        "when an opcode of this type ended well last, also before the daemon's start",
        |m, s| {
            for (op_code, known) in m.figures.op_codes.iter() {
                s.maybe(&[("op_code", op_code)], known.last_success.map(Timestamp::as_secs_f64));
            }
        },
    ),
    gauge("jobs_held", "jobs held for their pre hooks", |m, s| size(s, m.status.held.len())),
    gauge("jobs_armed", "job processes that the kernel is to stop", |m, s| size(s, m.status.armed.len())),
    gauge(
        "hold_exact",
        "1 where the kernel stops jobs in the rename, 0 where they are stopped after it",
        |m, s| {
            is(s, m.status.hold_exact);
        },
    ),
    gauge("hooks_running", "scripts that run now", |m, s| size(s, m.status.running.len())),
    gauge("bad_files", "job files that cannot be used now", |m, s| size(s, m.status.bad_files.len())),
    counter("versions_read_total", "versions of job files read", |m, s| {
        count(s, m.status.counters.versions_read)
    }),
    counter("events_total", "events noticed", |m, s| count(s, m.status.counters.events)),
    counter("events_late_total", "events noticed after their moment", |m, s| {
        count(s, m.status.counters.events_late)
    }),
    family(
        "opcodes_total",
        Kind::Counter,
        &["op_code", "status"],
        "opcodes that ended, where their hooks run; of a type that has been met all three are told",
        |m, s| {
            for (op_code, known) in m.figures.op_codes.iter() {
                for (status, ended) in PostStatus::ALL.iter().zip(known.ended) {
                    s.value(&[("op_code", op_code), ("status", status.as_str())], ended as f64);
                }
            }
        },
    ),
    times(
        "opcode_start_delay_seconds",
        &[],
        "from a job's submission, or the end of the opcode before, to an opcode's start",
        |m, s| {
            s.histogram(&[], &m.figures.start_delay);
        },
    ),
    times(
        "opcode_lock_wait_seconds",
        &["op_code"],
        "from an opcode's start to its execution: its wait for locks",
        |m, s| {
            m.figures
                .op_codes
                .iter()
                .for_each(|(op_code, known)| s.histogram(&[("op_code", op_code)], &known.lock_wait));
        },
    ),
    times("opcode_execution_seconds", &["op_code"], "from an opcode's execution to its end", |m, s| {
        m.figures
            .op_codes
            .iter()
            .for_each(|(op_code, known)| s.histogram(&[("op_code", op_code)], &known.execution));
    }),
    counter("runs_total", "script runs ended", |m, s| count(s, m.status.counters.runs)),
    counter("runs_failed_total", "script runs failed", |m, s| count(s, m.status.counters.runs_failed)),
    family(
        "hook_runs_total",
        Kind::Counter,
        &["phase", "script", "result"],
        "runs of hook scripts that ended, those of other nodes, too",
        |m, s| {
            for (phase, scripts) in m.figures.scripts.each() {
                for (script, known) in scripts.iter() {
                    results(s, &[("phase", phase), ("script", script)], known.runs);
                }
            }
        },
    ),
    times("hook_seconds", &["phase", "script"], "how long hook scripts ran on the master", |m, s| {
        for (phase, scripts) in m.figures.scripts.each() {
            for (script, known) in scripts.iter() {
                s.histogram(&[("phase", phase), ("script", script)], &known.seconds);
            }
        }
    }),
    times(
        "hook_delay_seconds",
        &["phase"],
        "from an opcode's beginning or end to the start of its first script on the master",
        |m, s| {
            m.figures
                .hook_delay
                .each()
                .into_iter()
                .for_each(|(phase, delay)| s.histogram(&[("phase", phase)], delay));
        },
    ),
    family(
        "node_requests_total",
        Kind::Counter,
        &["node", "result"],
        "requests to other nodes to run their scripts",
        |m, s| {
            m.figures.nodes.iter().for_each(|(node, known)| results(s, &[("node", node)], *known));
        },
    ),
    counter("scans_total", "comparisons of the whole queue", |m, s| count(s, m.status.counters.scans)),
    counter("overflows_total", "losses of inotify events", |m, s| count(s, m.status.counters.overflows)),
    counter("bad_files_total", "unusable versions of job files", |m, s| {
        count(s, m.status.counters.bad_files)
    }),
    counter("holds_total", "jobs stopped for their pre hooks", |m, s| count(s, m.status.counters.holds)),
    counter("holds_exact_total", "jobs stopped by the kernel in the rename", |m, s| {
        count(s, m.status.counters.holds_exact);
    }),
    counter("holds_late_total", "jobs stopped after they had got further", |m, s| {
        count(s, m.status.counters.holds_late);
    }),
    counter("holds_missed_total", "jobs that could not be stopped", |m, s| {
        count(s, m.status.counters.holds_missed);
    }),
    counter("holds_timed_out_total", "holds ended by hold-limit", |m, s| {
        count(s, m.status.counters.holds_timed_out);
    }),
    counter("deaths_told_total", "deaths of job processes that Ganeti was told of", |m, s| {
        count(s, m.status.counters.deaths_told);
    }),
    counter("deaths_not_told_total", "deaths that Ganeti was to be told of and was not", |m, s| {
        count(s, m.status.counters.deaths_not_told);
    }),
    times("hold_seconds", &["how"], "how long jobs were held", |m, s| {
        let held = &m.figures.held;
        for (how, held) in [("exact", &held.exact), ("best-effort", &held.best_effort), ("late", &held.late)]
        {
            s.histogram(&[("how", how)], held);
        }
    }),
    times(
        "death_notice_seconds",
        &[],
        "from the end of a job process that died to the event that tells of it",
        |m, s| {
            s.histogram(&[], &m.figures.death_notice);
        },
    ),
    counter("takeovers_total", "times that this node took over from another master", |m, s| {
        count(s, m.figures.takeovers);
    }),
    counter("journal_errors_total", "failed commits", |m, s| count(s, m.status.counters.journal_errors)),
    counter("panics_total", "panics, each a defect of ganeti-hookd", |m, s| {
        count(s, m.status.counters.panics)
    }),
];

fn is(samples: &mut Samples<'_>, is: bool) {
    samples.value(&[], f64::from(u8::from(is)));
}

fn size(samples: &mut Samples<'_>, size: usize) {
    samples.value(&[], size as f64);
}

fn count(samples: &mut Samples<'_>, count: u64) {
    samples.value(&[], count as f64);
}

/// A moment, in seconds since the epoch; nothing where there is none.
fn time(samples: &mut Samples<'_>, time: Option<Timestamp>) {
    samples.maybe(&[], time.map(Timestamp::as_secs_f64));
}

fn results(samples: &mut Samples<'_>, labels: &[(&str, &str)], results: Results) {
    for (result, count) in [("succeeded", results.succeeded), ("failed", results.failed)] {
        samples.value(&[labels, &[("result", result)]].concat(), count as f64);
    }
}
