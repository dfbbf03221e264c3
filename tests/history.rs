//! The history as people read it: filters, tables on a terminal, following. No daemon is needed:
//! the journal is written here.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "history/fixture.rs"]
mod fixture;
#[path = "history/follow.rs"]
mod follow;
#[expect(dead_code, unused_imports, reason = "other tests use the rest of it")]
mod harness;
#[path = "history/report.rs"]
mod report;
#[path = "history/terminal.rs"]
mod terminal;

use fixture::Written;

/// What `events` shows with these filters.
fn keys(written: &Written, filters: &[&str]) -> Vec<String> {
    let fixed = ["events", "--no-headers", "-o", "event"];
    let said = written.cli(&[&fixed[..], filters].concat());
    assert!(said.code == Some(0) && said.err.is_empty(), "{filters:?}: {said:?}");
    said.out.lines().map(str::to_owned).collect()
}

#[test]
fn each_filter_chooses() {
    let written = Written::new();
    for (filters, chosen) in [
        (&[][..], &["41.0.post", "42.0.pre", "42.0.post", "43.0.post", "44.1.pre", "45.0.post"][..]),
        (&["--job", "42"], &["42.0.pre", "42.0.post"]),
        (&["--object", "web1"], &["41.0.post", "43.0.post"]),
        (&["--object", "web1.example.com"], &["41.0.post", "43.0.post"]),
        (&["--object", "instance/web1"], &["41.0.post"]),
        (&["--object", "NODE/web1"], &["43.0.post"]),
        (&["--object", "node/"], &["43.0.post"]),
        (&["--object", "web"], &[]),
        (&["--op-code", "OP_INSTANCE_MIGRATE"], &["41.0.post"]),
        (&["--op-code", "instance_*"], &["41.0.post", "42.0.pre", "42.0.post"]),
        (&["--op-code", "*-Migrate"], &["41.0.post", "43.0.post"]),
        (&["--status", "failed"], &["41.0.post"]),
        (&["--status", "disappeared"], &["43.0.post"]),
        (&["--status", "succeeded"], &["42.0.post", "45.0.post"]),
        (&["--reason", "KERNEL up"], &["41.0.post"]),
        (&["--reason", "gnt:user"], &[]),
        (&["--failed"], &["42.0.post"]),
        (&["--since", "2h"], &["45.0.post"]),
        // The tests' time zone is an hour before UTC.
        (&["--since", "2026-11-28 11:02", "--until", "2026-11-28 11:04"], &["42.0.pre", "42.0.post"]),
        (
            &["--utc", "--since", "2026-11-28 10:02", "--until", "2026-11-28 10:04"],
            &["42.0.pre", "42.0.post"],
        ),
        (&["--until", "2026-11-28T10:02:00Z"], &["41.0.post"]),
        (&["--object", "web1", "--op-code", "*migrate", "--status", "failed"], &["41.0.post"]),
    ] {
        assert_eq!(keys(&written, filters), chosen, "{filters:?}");
    }
}

#[test]
fn a_filter_that_means_nothing_says_what_is_allowed() {
    let written = Written::new();
    for (filter, allowed) in [
        (["--job", "x"], "job numbers are whole numbers from 1"),
        (["--object", "disk/web1"], "KIND is instance, node, cluster, group or network"),
        (["--op-code", "OP_[A]"], "an opcode is for example OP_INSTANCE_MIGRATE"),
        (["--status", "done"], "possible values: succeeded, failed, disappeared"),
        (["--since", "yesterday"], "a time is how long ago (30m, 2h, 3d)"),
        (["--until", "25:00"], "a time is how long ago (30m, 2h, 3d)"),
        (["--units", "m"], "possible values: h, s"),
    ] {
        let said = written.cli(&["events", filter[0], filter[1]]);
        assert_eq!(said.code, Some(2), "{said:?}");
        assert!(said.err.contains(filter[0]) && said.err.contains(allowed), "{filter:?}: {}", said.err);
    }
    let said = written.cli(&["events", "--since", "1h", "--until", "2h"]);
    assert!(said.code == Some(2) && said.err.contains("--since must be before --until"), "{said:?}");
}

#[test]
fn fields_tell_what_the_job_file_told() {
    let written = Written::new();
    let shown = |more: &[&str]| {
        let fields = "event,object,received,started,executed_at,ended,start_delay,lock_wait,held,execution,\
            parent,reason,error";
        let said = written.cli(&[&["events", "--job", "41", "--no-headers", "-o", fields], more].concat());
        assert_eq!((said.code, said.err.as_str()), (Some(0), ""));
        said.out
    };
    assert_eq!(
        shown(&["--separator", "|"]),
        "41.0.post|instance/web1.example.com|2026-11-28 10:59:50|2026-11-28 10:59:51|2026-11-28 10:59:51|\
         2026-11-28 11:00:00|1.25|0.04|0.5|8.71|40.1|kernel update|Node 'x\\n' is offline\n"
    );
    let for_people = shown(&["--separator", "|", "--units", "h", "--utc"]);
    assert!(for_people.contains("|2026-11-28 09:59:50Z|"), "{for_people}");
    assert!(for_people.contains("|1.2s|40ms|0.5s|8.7s|"), "{for_people}");
    let lined_up = shown(&[]);
    assert!(lined_up.contains(" 1.2s 40ms 0.5s 8.7s 40.1 kernel update "), "{lined_up}");
    let said = written.cli(&[
        "events",
        "--job",
        "44",
        "--no-headers",
        "-o",
        "object,ended,held,reason,parent,error",
    ]);
    assert_eq!(said.out, "- - - - - -\n");
    let said = written.cli(&["events", "--job", "41", "--no-headers", "-o", "id"]);
    assert_eq!(said.out, "11111111-2222-3333-4444-555555555555/1795859990000000/41.0.post\n");
}
