//! The cluster's configuration, and the other nodes' daemons.

use std::path::Path;
use std::thread;

use super::{Finding, fail, note, ok};
use crate::daemon::{
    node_name,
    threads::planner::{daemon_address, noded_port},
};
use crate::engine::settings::{Nodes, Settings};
use crate::ganeti::config::ClusterConfig;
use crate::world::cluster::{Cluster, Configuration, Found, Source};
use crate::world::failpoints;
use crate::world::noded::NodeDaemons;
use crate::world::panics::caught;

/// Node daemons that are asked at the same time.
const AT_A_TIME: usize = 32;

/// Checks where specialised variables come from, and the nodes that hooks may run on.
pub fn check(settings: &Settings) -> Vec<Finding> {
    let this = node_name(settings);
    let Some(master) = Cluster::new(&settings.paths.data_dir).master().unwrap_or_default() else {
        return vec![];
    };
    let mut configuration = Configuration::new(&settings.paths);
    let found = configuration.read();
    let mut findings = vec![check_source(&found, configuration.socket(), master == this)];
    if let Some(config) = found.config.filter(|_| settings.hooks.nodes == Nodes::Targets) {
        let others = config.node_names().filter(|name| *name != this).map(str::to_owned);
        let mut others: Vec<String> = others.collect();
        others.sort();
        findings.extend(check_nodes(settings, &config, &others));
    }
    findings
}

fn check_source(found: &Found, socket: &Path, is_master: bool) -> Finding {
    let socket = socket.display();
    match (found.source, &found.problem) {
        (Source::Nowhere, _) if !is_master => {
            note("wconfd", "runs on the master only; a master candidate has config.data, this node has not")
        }
        (_, Some(problem)) => fail("wconfd", problem),
        (Source::Wconfd, None) => ok("wconfd", format!("{socket} answers")),
        (_, None) if is_master => note(
            "wconfd",
            format!(
                "nobody answers at {socket}; config.data is used. Do Ganeti's daemons run? If so, paths.ganeti-run-dir is wrong"
            ),
        ),
        (_, None) => ok("wconfd", "runs on the master only; config.data can be read here"),
    }
}

/// Asks nodes side by side: one that is down costs its time limits, many no more.
fn check_nodes(settings: &Settings, config: &ClusterConfig, nodes: &[String]) -> Vec<Finding> {
    let daemons = NodeDaemons::new(&settings.paths.data_dir);
    let mut findings = Vec::new();
    for some in nodes.chunks(AT_A_TIME) {
        thread::scope(|scope| {
            let check = |node| caught(|| check_node(&daemons, config, node));
            let asked = some.iter().map(|node| (node, scope.spawn(move || check(node))));
            for (node, asked) in asked.collect::<Vec<_>>() {
                let checked = asked.join().unwrap_or_else(|_| Err("it was not asked".to_owned()));
                findings.push(checked.unwrap_or_else(|what| fail("node", format!("{node}: {what}"))));
            }
        });
    }
    findings
}

fn check_node(daemons: &NodeDaemons, config: &ClusterConfig, node: &str) -> Finding {
    failpoints::defect("check");
    if config.is_offline(node) {
        return note("node", format!("{node} is marked offline; no hook runs there"));
    }
    let Some(address) = daemon_address(config, node, noded_port()) else {
        return fail("node", format!("{node} has no address in the configuration; run `gnt-cluster verify`"));
    };
    match daemons.version(address) {
        Ok(version) => ok("node", format!("{node} runs hooks (node daemon, protocol {version})")),
        Err(error) => fail("node", format!("{node}: {error}")),
    }
}
