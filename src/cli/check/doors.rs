//! Who else may ask the daemon, as the configuration says: the members of a group, and for metrics
//! whoever reaches an address.

use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use super::{Finding, fail, note, ok};
use crate::engine::settings::Settings;
use crate::world::api::{SOCKET, access};
use crate::world::http;

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// The most bytes of metrics that are read.
const ANSWER_MAX: usize = 16 * 1024 * 1024;

/// What is to be said of both, where they are wanted.
pub fn check(settings: &Settings) -> Vec<Finding> {
    let group = Some(settings.api.group.as_str()).filter(|group| !group.is_empty());
    let group = group.map(|group| of_group(settings, group));
    let metrics = settings.api.metrics_listen.map(of_metrics);
    group.into_iter().chain(metrics.into_iter().flatten()).collect()
}

fn of_group(settings: &Settings, group: &str) -> Finding {
    let check = "api.group";
    let gid = match access::gid_of(group) {
        Ok(Some(gid)) => gid,
        Ok(None) => return fail(check, format!("there is no group {group}; make it, or mend hookd.toml")),
        Err(error) => return fail(check, format!("{group}: {error}")),
    };
    let socket = settings.paths.run_dir.join(SOCKET);
    match socket.metadata() {
        Ok(metadata) if metadata.gid() == gid && metadata.mode() & 0o777 == 0o660 => {
            ok(check, format!("members of {group} may read all that the daemon tells, and change nothing"))
        }
        Ok(_) => {
            fail(check, format!("{} is not {group}'s yet: systemctl reload ganeti-hookd", socket.display()))
        }
        Err(error) => note(check, format!("{}: {error}", socket.display())),
    }
}

fn of_metrics(address: SocketAddr) -> Vec<Finding> {
    let check = "metrics-listen";
    let asked = TcpStream::connect_timeout(&address, PATIENCE).and_then(|stream| {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        http::exchange(stream, "GET", &address.to_string(), "/metrics", b"", ANSWER_MAX)
    });
    let mut findings = vec![match asked {
        Ok(answer) if answer.status == 200 => ok(check, format!("metrics are told at {address}")),
        Ok(answer) => {
            fail(check, format!("{address} answers with status {}: who listens there?", answer.status))
        }
        Err(error) => {
            fail(check, format!("{address}: {error}; systemctl reload ganeti-hookd, and see its log"))
        }
    }];
    if !address.ip().is_loopback() {
        let who = "whoever reaches it may read metrics: names of the cluster, its nodes and scripts";
        findings.push(note(check, format!("{address} is not this machine's alone: {who}")));
    }
    findings
}
