//! The kernel stops job processes inside the rename (design, section 5), tried on the
//! kernel that runs this test. `tests/kernels/run` boots Debian's kernels with this program
//! as their only one.
//!
//! Needs root. Where BPF is not to be had, the tests fail: they skip nothing.
//! `cargo test --release --test kernel_stop -- figures` measures. The processes that rename
//! are this program, too, and rename in their first thread as a job process does, so that it
//! has no test harness but its own.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod kernel_stop {
    mod figures;
    mod only_the_meant;
    pub mod renamer;
    mod stopped;

    use std::path::Path;
    use std::process::ExitCode;
    use std::time::{Duration, Instant};

    use ganeti_hookd::world::process::kernel_stop::{Attachment, KernelStop};

    /// The attachments that must work, by the words of [`short`]: `tests/kernels/run` knows
    /// them for each kernel. Without, one of them must.
    const EXPECTED: &str = "KERNEL_STOP_EXPECTED";

    /// How long to wait for what must happen: emulated machines are slow.
    const PATIENCE: Duration = Duration::from_secs(10);

    /// A test, and what it shows.
    type Test = (&'static str, fn());

    const TESTS: &[Test] = &[
        ("each_is_stopped_before_the_rename_returns", stopped::each_is_stopped_before_the_rename_returns),
        ("one_that_stands_can_be_armed_again", stopped::one_that_stands_can_be_armed_again),
        ("both_forms_of_the_queues_path_are_known", stopped::both_forms_of_the_queues_path_are_known),
        ("who_is_not_meant_goes_on", only_the_meant::who_is_not_meant_goes_on),
        (
            "nothing_is_attached_while_nobody_is_armed",
            only_the_meant::nothing_is_attached_while_nobody_is_armed,
        ),
        ("too_many_are_refused", only_the_meant::too_many_are_refused),
        ("a_queue_that_is_not_there_is_a_reason", only_the_meant::a_queue_that_is_not_there_is_a_reason),
    ];

    /// What is run only if it is named.
    const FIGURES: Test = ("figures", figures::figures);

    /// Runs the tests, all or those whose names contain an argument, one after the other.
    pub fn main() -> ExitCode {
        if renamer::is_this() {
            renamer::rename_as_told();
            return ExitCode::SUCCESS;
        }
        // The first process of a machine makes the machine first, and ends it.
        let is_machine = std::process::id() == 1 && !Path::new("/proc/self").exists();
        if is_machine {
            mount_what_is_needed();
        }
        let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
        let named = |name: &str| words.iter().any(|word| name.contains(word.as_str()));
        let chosen = TESTS.iter().filter(|(name, _)| words.is_empty() || named(name));
        let chosen: Vec<&Test> = chosen.chain(named(FIGURES.0).then_some(&FIGURES)).collect();
        let failed = chosen.iter().filter(|(name, test)| {
            let is_ok = std::panic::catch_unwind(test).is_ok();
            println!("test {name} ... {}", if is_ok { "ok" } else { "FAILED" });
            !is_ok
        });
        let failed = failed.count();
        println!("kernel_stop: {} passed, {failed} failed", chosen.len() - failed);
        if is_machine {
            rustix::system::reboot(rustix::system::RebootCommand::Restart).unwrap();
        }
        if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    fn mount_what_is_needed() {
        let mounts = [("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev"), ("tmpfs", "/tmp")];
        for (kind, place) in mounts {
            std::fs::create_dir_all(place).unwrap();
            rustix::mount::mount(kind, place, kind, rustix::mount::MountFlags::empty(), None).unwrap();
        }
    }

    /// Each attachment that works here. One that is expected and does not is a failure.
    pub fn all_that_work(queue: &Path) -> Vec<(Attachment, KernelStop)> {
        let expected = std::env::var(EXPECTED).unwrap_or_default();
        let expected: Vec<&str> = expected.split(',').filter(|word| !word.is_empty()).collect();
        let mut working = vec![];
        let mut reasons = vec![];
        for attachment in Attachment::ALL {
            match KernelStop::with(queue, &[attachment]) {
                Ok(kernel) => working.push((attachment, kernel)),
                Err(reason) => {
                    assert!(!expected.contains(&short(attachment)), "{reason}");
                    reasons.push(reason.to_string());
                }
            }
        }
        assert!(!working.is_empty(), "no exact hold here: {reasons:#?}");
        reasons.iter().for_each(|reason| println!("not here: {reason}"));
        working
    }

    fn short(attachment: Attachment) -> &'static str {
        match attachment {
            Attachment::Fentry => "fentry",
            Attachment::Kprobe => "kprobe",
            Attachment::RawTracepoint => "raw",
        }
    }

    /// Waits until something is so; whether it ever was.
    pub fn comes(is_so: impl Fn() -> bool) -> bool {
        let deadline = Instant::now() + PATIENCE;
        while !is_so() {
            if Instant::now() > deadline {
                return false;
            }
            std::thread::yield_now();
        }
        true
    }
}

fn main() -> std::process::ExitCode {
    kernel_stop::main()
}
