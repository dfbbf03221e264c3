//! `ganeti-hookd outbox`

use std::io::{self, Write};

use clap::Subcommand;

use super::status::{ask, explained};
use super::table::{Column, Layout, Table};
use super::terminal::Terminal;
use super::times::Zone;
use super::{Failure, failed};
use crate::engine::outbox::answer::{Answer, Verdict};
use crate::engine::outbox::message::of_ping;
use crate::engine::settings::{Outbox, Settings};
use crate::engine::status::{OutboxStatus, Status};
use crate::ganeti::event_name::EventName;
use crate::ganeti::job::Timestamp;
use crate::ganeti::text::plain;
use crate::world::api;
use crate::world::api::outbox::{Done, Wanted, Wish};
use crate::world::clock;
use crate::world::cluster::Cluster;
use crate::world::outbox::Client;

/// Lines and bytes of an answer that are shown.
const LINES_MAX: usize = 20;
const LINE_MAX: usize = 400;

/// Show, try out and set going where events are pushed to ([[outbox]] in hookd.toml)
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    List(List),
    Test(Test),
    Resend(Resend),
    Enable(Enable),
}

/// List the outboxes and how they are, as the daemon says
///
/// State is ok, failing (it is tried again), ended (the receiver has answered 410), or standby
/// (another node is master, and sends). Pending are events that are still to be sent or whose
/// scripts have not ended; refused are those that the receiver does not take. The exit code is 1 if
/// one is failing or ended.
#[derive(Debug, clap::Args)]
struct List {
    /// Print JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    zone: Zone,

    #[command(flatten)]
    layout: Layout,
}

/// Send a signed event of the type org.ganeti.hookd.ping, and print what comes back
///
/// It is sent from here, with the files as they are now; the daemon need not run. The exit code is
/// 0 if the receiver takes it.
#[derive(Debug, clap::Args)]
struct Test {
    /// The outbox
    name: String,
}

/// Have events sent again, and the receiver tried at once
#[derive(Debug, clap::Args)]
struct Resend {
    /// The outbox
    name: String,

    /// This event (42.0.post, or the id that `events --json` shows), whether it was sent or not;
    /// otherwise all that the receiver has refused
    // An id begins with a dash where the cluster was not known.
    #[arg(allow_hyphen_values = true)]
    event: Option<EventName>,
}

/// Have an outbox send again whose receiver has answered 410
#[derive(Debug, clap::Args)]
struct Enable {
    /// The outbox
    name: String,
}

impl Args {
    pub(super) fn run(self, settings: &Settings) -> Result<(), Failure> {
        match self.command {
            Command::List(list) => list.run(settings),
            Command::Test(Test { name }) => test(settings, &name),
            Command::Resend(Resend { name, event }) => {
                let done = wish(settings, Wanted { outbox: name, wish: Wish::Resend(event) })?;
                let events = if done.events == 1 { "event is" } else { "events are" };
                Ok(writeln!(io::stdout(), "{}: {} {events} sent again", done.outbox, done.events)?)
            }
            Command::Enable(Enable { name }) => {
                let done = wish(settings, Wanted { outbox: name, wish: Wish::Enable })?;
                let what = if done.was_ended { "sends again" } else { "was not ended; it is tried at once" };
                Ok(writeln!(io::stdout(), "{}: {what}", done.outbox)?)
            }
        }
    }
}

impl List {
    fn run(&self, settings: &Settings) -> Result<(), Failure> {
        let answer = ask(&settings.paths.run_dir, "/v1/status").map_err(failed)?;
        let Status { outboxes, .. } = serde_json::from_slice(&answer).map_err(failed)?;
        if self.json {
            writeln!(io::stdout(), "{}", serde_json::to_string(&outboxes).map_err(failed)?)?;
        } else {
            let titles = ["Name", "State", "Pending", "Refused", "Last success", "Trouble"];
            let columns = titles.into_iter().map(Column::whole).collect();
            let mut table = Table::new(&self.layout, columns, Terminal::of_output(), true);
            outboxes.iter().for_each(|outbox| table.row(self.row(outbox)));
            table.print(io::stdout().lock())?;
        }
        let is_well = |outbox: &OutboxStatus| !["failing", "ended"].contains(&outbox.state.as_str());
        if outboxes.iter().all(is_well) { Ok(()) } else { Err(Failure::Silent) }
    }

    fn row(&self, outbox: &OutboxStatus) -> Vec<String> {
        let OutboxStatus { name, state, pending, refused, last_success, trouble, .. } = outbox;
        let dash = || "-".to_owned();
        let time = last_success.map(|time| self.zone.show(Timestamp::from_micros((time * 1e6) as i64)));
        vec![
            name.clone(),
            state.clone(),
            pending.map_or_else(dash, |pending| pending.to_string()),
            refused.to_string(),
            time.unwrap_or_else(dash),
            trouble.clone().unwrap_or_else(dash),
        ]
    }
}

/// The outbox of this name.
fn outbox<'s>(settings: &'s Settings, name: &str) -> Result<&'s Outbox, Failure> {
    let found = settings.outboxes.iter().find(|outbox| outbox.name == name);
    found.ok_or_else(|| {
        let names: Vec<&str> = settings.outboxes.iter().map(|outbox| outbox.name.as_str()).collect();
        let there_is = if names.is_empty() { "there is none".to_owned() } else { names.join(", ") };
        failed(format!("no outbox of the name {} in the configuration; {there_is}", plain(name, LINE_MAX)))
    })
}

fn test(settings: &Settings, name: &str) -> Result<(), Failure> {
    let outbox = outbox(settings, name)?;
    let client = Client::new(outbox).map_err(failed)?;
    let cluster = Cluster::new(&settings.paths.data_dir).id();
    let ping = of_ping(name, cluster.as_ref().map(|id| &*id.uuid), clock::now(), clock::rfc3339);
    let answer = client.send(&ping);
    let mut out = io::stdout().lock();
    writeln!(out, "{}: {}", outbox.url, plain(&answer.to_string(), LINE_MAX))?;
    if let Answer::Status { text, .. } = &answer {
        for line in text.lines().take(LINES_MAX) {
            writeln!(out, "  {}", plain(line, LINE_MAX))?;
        }
    }
    if answer.verdict() == Verdict::Taken { Ok(()) } else { Err(Failure::Silent) }
}

/// Has the daemon do it.
fn wish(settings: &Settings, wanted: Wanted) -> Result<Done, Failure> {
    let run_dir = &settings.paths.run_dir;
    let answer = api::request(run_dir, "POST", &wanted.target())
        .map_err(|error| failed(explained(run_dir, &error)))?;
    match answer.status {
        200 => serde_json::from_slice(&answer.body).map_err(failed),
        _ => Err(failed(format!("{}: {}", plain(&wanted.outbox, LINE_MAX), api::detail(&answer.body)))),
    }
}
