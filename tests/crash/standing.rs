//! How long a job stands still when the daemon dies in the middle of a hold, at every fault point
//! on its way, again and again.
//!
//! `HOOKD_CRASH_KILLS=100` makes it the longer form, with so many kills at each point.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::points::{BEST_EFFORT, POINTS, arm, has_died, hooked_tree};
use super::supervised::Supervised;
use crate::harness::job_process;
use crate::harness::{Job, Tree};

/// How often the daemon is killed at each point in the normal form.
const KILLS: i64 = 2;

/// How long a job may stand still.
const LONGEST: Duration = Duration::from_secs(1);

/// How often it is looked at.
const LOOK: Duration = Duration::from_micros(100);

/// Points on the way of a version that is no beginning.
const ARMS_AGAIN: [&str; 3] = ["hold.judged", "hold.before-arm", "hold.armed"];

/// Looks at a process all the time.
struct Standing {
    is_over: Arc<AtomicBool>,
    looks: JoinHandle<Duration>,
}

impl Standing {
    fn watch(pid: u32) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&is_over);
        let looks = std::thread::spawn(move || {
            let (mut since, mut longest) = (None, Duration::ZERO);
            while !ends.load(Ordering::Relaxed) {
                match job_process::state(pid) {
                    Some('T') => longest = longest.max(since.get_or_insert_with(Instant::now).elapsed()),
                    _ => since = None,
                }
                std::thread::sleep(LOOK);
            }
            longest
        });
        Self { is_over, looks }
    }

    /// For how long it has stood still at a time.
    fn longest(self) -> Duration {
        self.is_over.store(true, Ordering::Relaxed);
        self.looks.join().unwrap()
    }
}

/// The daemon dies at a point on the way of a job; the next one goes on. Returns for how long the job
/// stood still.
fn stands_still(tree: &Tree, point: &str, id: i64) -> Duration {
    if BEST_EFFORT.contains(&point) {
        tree.refuse_kernel_stop();
    }
    let mut daemon = Supervised::start(tree);
    daemon.revive().wait_ready();
    let mut job = Job::delay(id);
    tree.put_serial(id);
    let process = tree.process_of(&mut job);
    tree.put(job.waits(0));
    daemon.wait_armed(&process);
    let standing = Standing::watch(process.pid());
    arm(tree, point, 1);
    tree.put(if ARMS_AGAIN.contains(&point) { job.logs(0, "waits") } else { job.runs(0) });
    daemon.wait(&format!("its death at {point}"), |tree| has_died(tree, point).then_some(()));
    tree.put(job.runs(0));
    daemon.wait_done(&[&format!("{id}.0.pre")]);
    tree.put(job.succeeds(0));
    daemon.wait_done(&[&format!("{id}.0.post")]);
    let longest = standing.longest();
    process.exit();
    daemon.stop();
    longest
}

fn kills_at(point: &str, kills: i64) {
    let tree = hooked_tree();
    let mut times: Vec<Duration> = (1..=kills).map(|id| stands_still(&tree, point, id)).collect();
    times.sort_unstable();
    let (median, longest) = (times[times.len() / 2], times[times.len() - 1]);
    println!("{point}: {kills} kills, a job stood still for {median:.0?} (median), {longest:.0?} at most");
    assert!(longest < LONGEST, "{point}: {longest:?}");
}

#[test]
fn wherever_the_daemon_dies_in_a_hold_no_job_stands_still_for_long() {
    let kills = std::env::var("HOOKD_CRASH_KILLS").map_or(KILLS, |kills| kills.parse().unwrap());
    let points: Vec<&str> =
        POINTS.iter().map(|(point, _)| *point).filter(|point| point.starts_with("hold.")).collect();
    // Two at a time: each waits for processes most of the time.
    let (left, right) = points.split_at(points.len() / 2);
    std::thread::scope(|scope| {
        for points in [left, right] {
            scope.spawn(move || points.iter().for_each(|point| kills_at(point, kills)));
        }
    });
}
