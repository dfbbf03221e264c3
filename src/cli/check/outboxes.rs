//! Where events are pushed to: secrets, names, connections, TLS. Nothing is sent.

use std::thread;

use super::{Finding, fail, ok};
use crate::engine::settings::{Outbox, Settings};
use crate::world::outbox::{reach, secrets};
use crate::world::panics::caught;

/// Checks all outboxes side by side: one that is down costs its time limit, many no more.
pub fn check(settings: &Settings) -> Vec<Finding> {
    thread::scope(|scope| {
        let checks =
            settings.outboxes.iter().map(|outbox| (outbox, scope.spawn(|| caught(|| check_one(outbox)))));
        let findings = checks.collect::<Vec<_>>().into_iter().flat_map(|(outbox, check)| {
            let checked = check.join().unwrap_or_else(|_| Err("it was not checked".to_owned()));
            checked.unwrap_or_else(|what| vec![fail("outbox", format!("{}: {what}", outbox.name))])
        });
        findings.collect()
    })
}

fn check_one(outbox: &Outbox) -> Vec<Finding> {
    let name = &outbox.name;
    let secret = match secrets(&outbox.secret_file) {
        Ok(_) => ok("outbox", format!("{name}: {} is root's alone", outbox.secret_file.display())),
        Err(error) => fail("outbox", format!("{name}: {error}")),
    };
    let receiver = match reach(outbox) {
        Ok(what) => ok("outbox", format!("{name}: {what}; `ganeti-hookd outbox test {name}` sends to it")),
        Err(error) => fail("outbox", format!("{name}: {error}")),
    };
    vec![secret, receiver]
}
