//! As much of an HTTP client as the tests need.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::harness::PATIENCE;

/// An answer whose content is still to come.
pub struct Coming {
    pub status: u16,
    head: String,
    rest: BufReader<UnixStream>,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

/// Asks, and reads the head of the answer.
pub fn ask(socket: &Path, method: &str, target: &str) -> Coming {
    ask_with(socket, method, target, "Host: localhost")
}

/// The same, with these headers.
pub fn ask_with(socket: &Path, method: &str, target: &str, headers: &str) -> Coming {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60) + PATIENCE)).unwrap();
    stream.write_all(format!("{method} {target} HTTP/1.1\r\n{headers}\r\n\r\n").as_bytes()).unwrap();
    let mut rest = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(rest.read_line(&mut head).unwrap() > 0, "{head}");
    }
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Coming { status, head, rest }
}

/// Asks, and reads the whole answer.
pub fn get(socket: &Path, target: &str) -> Answer {
    ask(socket, "GET", target).whole()
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

impl Coming {
    /// The whole answer.
    pub fn whole(mut self) -> Answer {
        let mut body = String::new();
        self.rest.read_to_string(&mut body).unwrap();
        if let Some(length) = header(&self.head, "Content-Length") {
            assert_eq!(length.parse::<usize>().unwrap(), body.len(), "{}", self.head);
        }
        Answer { status: self.status, head: self.head, body }
    }

    /// The next line; `None` at the end.
    pub fn line(&mut self) -> Option<Value> {
        let mut line = String::new();
        self.rest.read_line(&mut line).unwrap();
        (!line.is_empty()).then(|| serde_json::from_str(&line).unwrap())
    }

    /// Where it begins.
    pub fn cursor(&self) -> String {
        header(&self.head, "Ganeti-Hookd-Cursor")
            .unwrap_or_else(|| panic!("no cursor: {}", self.head))
            .to_owned()
    }
}

impl Answer {
    /// Where to go on.
    pub fn cursor(&self) -> String {
        header(&self.head, "Ganeti-Hookd-Cursor").unwrap_or_else(|| panic!("no cursor: {self:?}")).to_owned()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    pub fn lines(&self) -> Vec<Value> {
        self.body.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}
