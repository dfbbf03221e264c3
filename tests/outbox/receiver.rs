//! A receiver over TLS that does what a test wants, good or bad.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::Value;

/// How it behaves.
#[derive(Clone, Debug)]
pub enum Mood {
    /// It takes everything.
    Takes,
    /// It hangs up.
    HangsUp,
    /// It answers with this status and these headers.
    Answers(u16, &'static str),
    /// It sends a byte a second of an answer that takes for ever.
    Dribbles,
    /// It takes everything, and its answer has no end.
    Endless,
    /// Its answer's head has no end.
    EndlessHead,
    /// It does not speak TLS.
    Nonsense,
    /// It says nothing at all.
    Silent,
    /// It refuses the events of this job.
    Refuses(i64),
}

/// What it was sent.
#[derive(Clone, Debug)]
pub struct Received {
    pub headers: BTreeMap<String, String>,
    pub body: String,
    /// It has taken it.
    pub taken: bool,
}

impl Received {
    pub fn event(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// A receiver that runs until the test ends.
#[derive(Clone)]
pub struct Receiver {
    pub port: u16,
    mood: Arc<Mutex<Mood>>,
    received: Arc<Mutex<Vec<Received>>>,
    asked: Arc<Mutex<u32>>,
}

pub fn certificate(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/certificates").join(name)
}

impl Receiver {
    pub fn start(mood: Mood) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let this = Self {
            port: listener.local_addr().unwrap().port(),
            mood: Arc::new(Mutex::new(mood)),
            received: Arc::default(),
            asked: Arc::default(),
        };
        let (receiver, config) = (this.clone(), config());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (receiver, config) = (receiver.clone(), Arc::clone(&config));
                thread::spawn(move || {
                    let _ = receiver.serve(stream, config);
                });
            }
        });
        this
    }

    pub fn be(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    /// How often somebody connected.
    pub fn asked(&self) -> u32 {
        *self.asked.lock().unwrap()
    }

    /// What it has been sent.
    pub fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }

    /// What it has taken: `JOB.OP.PHASE` or the type of what is no event, in order.
    pub fn taken(&self) -> Vec<String> {
        let name = |one: &Received| {
            let event = one.event();
            event["data"]["event"].as_str().or(event["type"].as_str()).unwrap().to_owned()
        };
        self.received().iter().filter(|one| one.taken).map(name).collect()
    }

    fn serve(&self, mut tcp: TcpStream, config: Arc<ServerConfig>) -> io::Result<()> {
        *self.asked.lock().unwrap() += 1;
        tcp.set_read_timeout(Some(Duration::from_secs(60)))?;
        match *self.mood.lock().unwrap() {
            Mood::HangsUp => return Ok(()),
            Mood::Nonsense => return tcp.write_all(b"SSH-2.0-nonsense\r\n"),
            _ => {}
        }
        if matches!(*self.mood.lock().unwrap(), Mood::Silent) {
            return tcp.read(&mut [0; 1_000_000]).and_then(|_| tcp.read(&mut [0; 1_000_000])).map(drop);
        }
        let connection = ServerConnection::new(config).map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(connection, tcp);
        while let Some((headers, body)) = read(&mut stream)? {
            let mood = self.mood.lock().unwrap().clone();
            let refuses = matches!(mood, Mood::Refuses(job) if body.contains(&format!("\"job\":{job},")));
            let taken =
                matches!(mood, Mood::Takes | Mood::Endless) || matches!(mood, Mood::Refuses(_)) && !refuses;
            self.received.lock().unwrap().push(Received { headers, body, taken });
            match mood {
                Mood::HangsUp | Mood::Nonsense | Mood::Silent => return Ok(()),
                Mood::Refuses(_) if refuses => {
                    stream.write_all(b"HTTP/1.1 422 No\r\nContent-Length: 2\r\n\r\nno")?
                }
                Mood::Answers(status, headers) => {
                    let head = format!("HTTP/1.1 {status} X\r\n{headers}Content-Length: 5\r\n\r\nhello");
                    stream.write_all(head.as_bytes())?;
                }
                Mood::Dribbles => {
                    for byte in
                        b"HTTP/1.1 200 OK\r\nX: 1234567890123456789012345678901234567890".iter().cycle()
                    {
                        stream.write_all(&[*byte])?;
                        stream.flush()?;
                        thread::sleep(Duration::from_secs(1));
                    }
                }
                Mood::Endless => {
                    stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
                    loop {
                        stream.write_all(b"5\r\nhello\r\n")?;
                    }
                }
                Mood::EndlessHead => {
                    stream.write_all(b"HTTP/1.1 200 OK\r\n")?;
                    loop {
                        stream.write_all(b"X-More: more\r\n")?;
                    }
                }
                _ => stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n")?,
            }
            stream.flush()?;
        }
        Ok(())
    }
}

/// A request's headers and content; `None` when the other side has gone.
fn read(stream: &mut impl Read) -> io::Result<Option<(BTreeMap<String, String>, String)>> {
    let (mut text, mut buffer) = (Vec::new(), [0; 65_536]);
    loop {
        let end = text.windows(4).position(|four| four == b"\r\n\r\n");
        if let Some(end) = end {
            let head = String::from_utf8_lossy(&text[..end]).into_owned();
            let headers: BTreeMap<String, String> = head
                .lines()
                .skip(1)
                .filter_map(|line| line.split_once(": "))
                .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
                .collect();
            let length: usize = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
            if text.len() >= end + 4 + length {
                let body = String::from_utf8(text[end + 4..end + 4 + length].to_vec()).unwrap();
                return Ok(Some((headers, body)));
            }
        }
        match stream.read(&mut buffer)? {
            0 => return Ok(None),
            n => text.extend_from_slice(&buffer[..n]),
        }
    }
}

fn config() -> Arc<ServerConfig> {
    let file = certificate("receiver.pem");
    let chain = CertificateDer::pem_file_iter(&file).unwrap().collect::<Result<Vec<_>, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_file(&file).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    Arc::new(config)
}
