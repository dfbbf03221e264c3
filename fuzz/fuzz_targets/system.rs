//! What the system and its administrator tell, in formats of their own: nothing panics, and what is
//! understood is what a naive reader finds.
#![no_main]

use ganeti_hookd::world::hook::acl::{self, Who};
use ganeti_hookd::world::process::held_file::still_held;
use ganeti_hookd::world::process::kernel_stop::btf::Btf;
use ganeti_hookd::world::process::stat;
use ganeti_hookd::world::services::port_in;
use libfuzzer_sys::fuzz_target;

const SERVICE: &str = "ganeti-noded";

fuzz_target!(|data: &[u8]| {
    let Some((which, data)) = data.split_first() else { return };
    match which % 5 {
        0 => access_control_list(data),
        1 => types(data),
        2 => process(data),
        3 => services(&String::from_utf8_lossy(data)),
        _ => held(&String::from_utf8_lossy(data)),
    }
});

fn access_control_list(data: &[u8]) {
    let Some(writers) = acl::parse(data) else { return };
    let entries: Vec<[u8; 8]> =
        data[4..].chunks(8).map(|entry| entry.try_into().expect("whole ones")).collect();
    let may_write = |entry: &&[u8; 8]| entry[2] & 2 != 0;
    // The last mask counts.
    let masked = entries.iter().rfind(|entry| entry[0] == 0x10).is_some_and(|mask| !may_write(&mask));
    let of =
        |tag: u8| entries.iter().filter(may_write).filter(move |entry| entry[0] == tag && !masked).count();
    let users = writers.iter().filter(|who| matches!(who, Who::User(_))).count();
    let groups = writers.iter().filter(|who| matches!(who, Who::Group(_))).count();
    assert_eq!((users, groups, writers.len() - users - groups), (of(2), of(8), of(4)), "{data:?}");
}

fn types(data: &[u8]) {
    let Ok(btf) = Btf::new(data) else { return };
    if let Ok(Some(id)) = btf.function("rename") {
        assert!(id > 0 && data.windows(7).any(|window| window == b"rename\0"), "{id}");
    }
}

fn process(data: &[u8]) {
    let Some((state, ticks)) = stat::parse(data) else { return };
    let text = String::from_utf8_lossy(data);
    let rest: Vec<&str> = text.rsplit(')').next().expect("a rest").split_ascii_whitespace().collect();
    assert_eq!((rest[0].as_bytes()[0], rest[19].parse()), (state, Ok(ticks)), "{text}");
}

fn services(text: &str) {
    if let Some(port) = port_in(text, SERVICE) {
        let names = |line: &&str| {
            line.split_whitespace().any(|word| word == SERVICE || word.starts_with("ganeti-noded#"))
        };
        let mut lines = text.lines().filter(names);
        assert!(lines.any(|line| line.contains(&format!("{port}/tcp"))), "{port} in {text:?}");
    }
}

fn held(text: &str) {
    let held = still_held(text);
    for (process, is_armed) in &held {
        let line = |sign: &str| format!("{sign} {} {}", process.pid, process.start_ticks);
        let wanted = line(if *is_armed { "~" } else { "+" });
        assert!(
            text.contains(&wanted) || text.contains("+0") || text.contains(" 0") || text.contains(" +"),
            "{wanted:?} in {text:?}"
        );
    }
    let mut pids: Vec<u32> = held.iter().map(|(process, _)| process.pid).collect();
    pids.dedup();
    assert_eq!(pids.len(), held.len(), "{text:?}");
}
