//! A receiver of an outbox on this machine, in the clear, that takes everything.

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::Value;

use crate::harness::Tree;

/// What it was sent.
#[derive(Clone, Default)]
pub struct Receiver(Arc<Mutex<Vec<Value>>>);

impl Receiver {
    /// Starts one, and has the daemon of this tree send to it.
    pub fn of(tree: &Tree) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        fs::write(tree.path("key"), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n").unwrap();
        fs::set_permissions(tree.path("key"), Permissions::from_mode(0o600)).unwrap();
        let outbox = format!(
            "[[outbox]]\nname = \"a\"\nurl = \"http://127.0.0.1:{port}/\"\nsecret-file = {:?}\n\
             status = [\"started\", \"succeeded\", \"failed\", \"disappeared\"]\n",
            tree.path("key")
        );
        fs::write(tree.config(), fs::read_to_string(tree.config()).unwrap() + &outbox).unwrap();
        let this = Self::default();
        let receiver = this.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let receiver = receiver.clone();
                thread::spawn(move || while receiver.take(&stream).is_some() {});
            }
        });
        this
    }

    /// Takes the next event; `None` when the other side has gone.
    fn take(&self, stream: &TcpStream) -> Option<()> {
        let mut reader = BufReader::new(stream);
        let (mut line, mut length) = (String::new(), 0);
        while reader.read_line(&mut line).ok()? > 2 {
            let lower = line.to_lowercase();
            if let Some(value) = lower.strip_prefix("content-length:") {
                length = value.trim().parse().ok()?;
            }
            line.clear();
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        self.0.lock().unwrap().push(serde_json::from_slice(&body).ok()?);
        (&mut &*stream).write_all(b"HTTP/1.1 204 No Content\r\n\r\n").ok()
    }

    /// The keys of the events that it has, in order, each once.
    pub fn has(&self) -> Vec<String> {
        let mut keys: Vec<String> = Vec::new();
        for event in self.0.lock().unwrap().iter() {
            let key = event["data"]["event"].as_str().unwrap_or_default().to_owned();
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        keys
    }
}
