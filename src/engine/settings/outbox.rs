//! `[[outbox]]`: where events are pushed to.

use core::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use http::Uri;
use toml::{Table, Value};

use super::{Finding, duration, list, matches, opcodes, path, string};
use crate::ganeti::event::PostStatus;

/// The word for the events of opcodes that begin, in `status`.
const STARTED: &str = "started";

const ENDS: [PostStatus; 3] = [PostStatus::Succeeded, PostStatus::Failed, PostStatus::Disappeared];

/// The longest name, in bytes.
const NAME_MAX: usize = 32;

/// Every key of an `[[outbox]]`; the first three must be there.
pub const OUTBOX_KEYS: [&str; 10] =
    ["name", "url", "secret-file", "op-codes", "status", "ca-file", "proxy", "timeout", "give-up", "output"];

/// One `[[outbox]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outbox {
    /// What it is called: letters, digits, `_` and `-`. Its place in the history goes by that.
    pub name: String,
    /// Where events are sent to: https, or http to this machine itself.
    pub url: String,
    /// The file of the secrets that sign.
    pub secret_file: PathBuf,
    /// The opcodes whose events are sent: names in which `*` stands for anything.
    pub op_codes: Vec<String>,
    /// The events that are sent: by how the opcode ended; `None` for one that begins.
    pub status: Vec<Option<PostStatus>>,
    /// The authorities that the receiver's certificate may be of; the system's where there is none.
    pub ca_file: Option<PathBuf>,
    /// By way of which proxy, `http://HOST:PORT`.
    pub proxy: Option<String>,
    /// The longest that a request may take with its answer, 1 s to 5 min.
    pub timeout: Duration,
    /// An event that could not be sent for so long is given up, 1 min to 90 days.
    pub give_up: Duration,
    /// With what scripts printed, and what went wrong with them.
    pub output: bool,
}

impl Outbox {
    /// Whether events of this opcode that ended so, or begins (`None`), are sent.
    pub fn wants(&self, op_code: &str, status: Option<PostStatus>) -> bool {
        self.status.contains(&status) && self.op_codes.iter().any(|pattern| matches(pattern, op_code))
    }

    /// All of `outbox`, or everything that is wrong with them.
    pub(super) fn all(value: &Value, findings: &mut Vec<Finding>) -> Vec<Self> {
        let tables =
            value.as_array().and_then(|all| all.iter().map(Value::as_table).collect::<Option<Vec<_>>>());
        let Some(tables) = tables else {
            let what = "is a list; write [[outbox]] on a line of its own for each, and its keys below";
            findings.push(Finding { key: "outbox".to_owned(), what: what.to_owned() });
            return Vec::new();
        };
        let mut all: Vec<Self> = Vec::new();
        for (number, table) in (1..).zip(tables) {
            let (outbox, wrong) = Self::of(table);
            let label = if outbox.name.is_empty() { number.to_string() } else { outbox.name.clone() };
            let wrong =
                wrong.into_iter().map(|(key, what)| Finding { key: format!("outbox.{label}.{key}"), what });
            findings.extend(wrong);
            if !outbox.name.is_empty() && all.iter().any(|other| other.name == outbox.name) {
                let what = "is the name of two; each [[outbox]] has its own".to_owned();
                findings.push(Finding { key: format!("outbox.{label}.name"), what });
            }
            all.push(outbox);
        }
        all
    }

    /// One of them, and what is wrong with it, by key.
    fn of(table: &Table) -> (Self, Vec<(String, String)>) {
        let mut outbox = Self {
            name: String::new(),
            url: String::new(),
            secret_file: PathBuf::new(),
            op_codes: vec!["*".to_owned()],
            status: ENDS.map(Some).to_vec(),
            ca_file: None,
            proxy: None,
            timeout: Duration::from_secs(15),
            give_up: Duration::from_secs(3 * 24 * 60 * 60),
            output: false,
        };
        let missing = OUTBOX_KEYS[..3].iter().filter(|key| !table.contains_key(**key));
        let mut wrong: Vec<(String, String)> = missing
            .map(|key| ((*key).to_owned(), "is missing; each [[outbox]] must have it".to_owned()))
            .collect();
        for (key, value) in table {
            if let Err(what) = outbox.set(key, value) {
                wrong.push((key.clone(), what));
            }
        }
        (outbox, wrong)
    }

    fn set(&mut self, key: &str, value: &Value) -> Result<(), String> {
        match key {
            "name" => self.name = name(value)?,
            "url" => self.url = url(value)?,
            "secret-file" => self.secret_file = path(value)?,
            "op-codes" => self.op_codes = opcodes(value)?,
            "status" => self.status = status(value)?,
            "ca-file" => self.ca_file = unless_empty(value)?.map(|_| path(value)).transpose()?,
            "proxy" => self.proxy = unless_empty(value)?.map(|_| proxy(value)).transpose()?,
            "timeout" => self.timeout = duration(value, "1s", "5m")?,
            "give-up" => self.give_up = duration(value, "1m", "90days")?,
            "output" => {
                self.output = value.as_bool().ok_or_else(|| format!("must be true or false, not {value}"))?;
            }
            _ => return Err(format!("unknown key; keys of [[outbox]] are {}", OUTBOX_KEYS.join(", "))),
        }
        Ok(())
    }
}

fn unless_empty(value: &Value) -> Result<Option<&str>, String> {
    Ok(Some(string(value)?).filter(|text| !text.is_empty()))
}

fn name(value: &Value) -> Result<String, String> {
    let may_be_in = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let is_good = |name: &&str| !name.is_empty() && name.len() <= NAME_MAX && name.chars().all(may_be_in);
    let name = value.as_str().filter(is_good).map(str::to_owned);
    name.ok_or_else(|| format!("must be 1 to {NAME_MAX} letters, digits, _ and - in quotes, not {value}"))
}

fn status(value: &Value) -> Result<Vec<Option<PostStatus>>, String> {
    let end = |word: &str| ENDS.into_iter().find(|status| status.as_str() == word);
    let meaning = |word: &str| if word == STARTED { Some(None) } else { end(word).map(Some) };
    list(value, meaning).filter(|all| !all.is_empty()).ok_or_else(|| {
        let ends = ENDS.map(|status| format!("\"{}\"", status.as_str())).join(", ");
        format!("must be a list of some of \"{STARTED}\", {ends}, not {value}")
    })
}

/// An address that has a host, and nobody's password.
fn address(value: &Value) -> Option<Uri> {
    let uri: Uri = value.as_str()?.parse().ok()?;
    let authority = uri.authority()?;
    (!authority.host().is_empty() && !authority.as_str().contains('@')).then_some(uri)
}

/// In the clear events go to this machine itself only.
fn url(value: &Value) -> Result<String, String> {
    let is_good = |uri: &Uri| match uri.scheme_str() {
        Some("https") => true,
        Some("http") => uri.host().is_some_and(is_this_machine),
        _ => false,
    };
    match address(value).filter(is_good) {
        Some(_) => Ok(string(value)?.to_owned()),
        None => Err(format!(
            "must be https://HOST[:PORT]/PATH without a user or password (http:// only to 127.0.0.1, [::1] or localhost){}",
            shown(value)
        )),
    }
}

fn proxy(value: &Value) -> Result<String, String> {
    match address(value).filter(|uri| uri.scheme_str() == Some("http")) {
        Some(_) => Ok(string(value)?.to_owned()),
        None => Err(format!("must be http://HOST:PORT without a user or password, or empty{}", shown(value))),
    }
}

/// What was found, unless there may be a password in it.
fn shown(value: &Value) -> String {
    let text = value.to_string();
    if text.contains('@') { String::new() } else { format!(", not {text}") }
}

fn is_this_machine(host: &str) -> bool {
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::settings::Settings;

    /// The one outbox of this text.
    fn one(more: &str) -> Outbox {
        let text = format!(
            "[[outbox]]\nname = \"cmdb\"\nurl = \"https://cmdb.example.com/ganeti\"\nsecret-file = \"/etc/key\"\n{more}"
        );
        Settings::parse(&text).unwrap_or_else(|error| panic!("{error}")).outboxes.remove(0)
    }

    #[test]
    fn the_documented_defaults_are_the_defaults() {
        let all = "op-codes = [\"*\"]\nstatus = [\"succeeded\", \"failed\", \"disappeared\"]\nca-file = \"\"\nproxy = \"\"\n\
            timeout = \"15s\"\ngive-up = \"3d\"\noutput = false\n";
        assert_eq!(one(all), one(""));
        OUTBOX_KEYS[3..].iter().for_each(|key| assert!(all.contains(&format!("{key} = ")), "{key}"));
    }

    #[test]
    fn what_is_wanted_is_told_by_opcode_and_status() {
        let outbox = one("op-codes = [\"OP_INSTANCE_*\"]\nstatus = [\"started\", \"failed\"]\n");
        assert!(outbox.wants("OP_INSTANCE_CREATE", None));
        assert!(outbox.wants("OP_INSTANCE_CREATE", Some(PostStatus::Failed)));
        assert!(!outbox.wants("OP_INSTANCE_CREATE", Some(PostStatus::Succeeded)));
        assert!(!outbox.wants("OP_NODE_ADD", None));
        assert!(!one("").wants("OP_NODE_ADD", None));
    }

    #[test]
    fn findings_name_the_outbox_and_the_key() {
        let text = r#"
            [[outbox]]
            name = "a b"
            url = "http://cmdb.example.com/"
            status = []
            [[outbox]]
            name = "cmdb"
            url = "https://user:secret@cmdb.example.com/"
            secret-file = "key"
            timeout = "1ms"
            output = 1
            proxy = "https://proxy"
            sink = 1
            [[outbox]]
            name = "cmdb"
            url = "http://[::1]:80/x"
            secret-file = "/key"
        "#;
        insta::assert_snapshot!(Settings::parse(text).unwrap_err().to_string(), @r#"
        outbox.1.secret-file: is missing; each [[outbox]] must have it
        outbox.1.name: must be 1 to 32 letters, digits, _ and - in quotes, not "a b"
        outbox.1.status: must be a list of some of "started", "succeeded", "failed", "disappeared", not []
        outbox.1.url: must be https://HOST[:PORT]/PATH without a user or password (http:// only to 127.0.0.1, [::1] or localhost), not "http://cmdb.example.com/"
        outbox.cmdb.output: must be true or false, not 1
        outbox.cmdb.proxy: must be http://HOST:PORT without a user or password, or empty, not "https://proxy"
        outbox.cmdb.secret-file: must be an absolute path, not "key"
        outbox.cmdb.sink: unknown key; keys of [[outbox]] are name, url, secret-file, op-codes, status, ca-file, proxy, timeout, give-up, output
        outbox.cmdb.timeout: must be a duration such as "90s", "5m" or "2h" from 1s to 5m, not "1ms"
        outbox.cmdb.url: must be https://HOST[:PORT]/PATH without a user or password (http:// only to 127.0.0.1, [::1] or localhost)
        outbox.cmdb.name: is the name of two; each [[outbox]] has its own
        "#);
        let table = Settings::parse("[outbox]\nname = \"a\"\n").unwrap_err().to_string();
        insta::assert_snapshot!(table, @"outbox: is a list; write [[outbox]] on a line of its own for each, and its keys below");
    }

    #[test]
    fn in_the_clear_events_go_to_this_machine_only() {
        let url = |text: &str| url(&Value::from(text)).is_ok();
        for good in ["https://a", "https://a.b:8443/x?y=1", "http://127.0.0.1:9000/", "http://localhost/x"] {
            assert!(url(good), "{good}");
        }
        for bad in ["", "a", "/x", "ftp://a/", "http://a/", "http://127.0.0.1.a/", "https://", "https://a b/"]
        {
            assert!(!url(bad), "{bad}");
        }
    }
}
