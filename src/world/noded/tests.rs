//! Against a TLS server that answers as a node daemon does, or does not.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::sync::mpsc;
use std::thread;

use rustix::event::{EventfdFlags, eventfd};
use rustls::{ServerConfig, ServerConnection, StreamOwned, SupportedProtocolVersion};

use super::*;
use crate::world::deadline::is_stopped;

const CERTIFICATES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/certificates");

/// What the server does with a connection.
#[derive(Clone, Copy)]
struct Server {
    certificate: &'static str,
    versions: &'static [&'static SupportedProtocolVersion],
    /// The certificate that it takes for a master candidate's.
    candidate: &'static str,
    /// What it answers; nothing: it reads the request and is silent.
    answer: Option<&'static str>,
}

const GOOD: Server = Server {
    certificate: tls::SERVER,
    versions: rustls::ALL_VERSIONS,
    candidate: tls::CLIENT,
    answer: Some(r#"[true, [["global-post.d/10-log", 2, "hello\\nworld"], ["global-post.d/20-no", 1, ""]]]"#),
};

const VERSIONS: [&[&SupportedProtocolVersion]; 2] = [&[&rustls::version::TLS12], &[&rustls::version::TLS13]];

impl Server {
    /// Serves one connection; what was asked comes out of the channel.
    fn start(self) -> (SocketAddr, mpsc::Receiver<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (asked, questions) = mpsc::channel();
        thread::spawn(move || {
            let tls = ServerConnection::new(Arc::new(self.config())).unwrap();
            let mut stream = StreamOwned::new(tls, listener.accept().unwrap().0);
            let mut request = Vec::new();
            let mut chunk = [0; 1024];
            while !request.ends_with(b"]") {
                match stream.read(&mut chunk) {
                    Ok(length) if length > 0 => request.extend_from_slice(&chunk[..length]),
                    _ => return,
                }
            }
            asked.send(String::from_utf8(request).unwrap()).unwrap();
            let Some(answer) = self.answer else { return drop(stream.sock.read(&mut chunk)) };
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{answer}", answer.len()).unwrap();
        });
        (address, questions)
    }

    fn config(self) -> ServerConfig {
        let provider = rustls::crypto::ring::default_provider();
        let identity = tls::tests::identity(&Path::new(CERTIFICATES).join(self.certificate));
        ServerConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(self.versions)
            .unwrap()
            .with_client_cert_verifier(tls::tests::pin(&Path::new(CERTIFICATES).join(self.candidate)))
            .with_cert_resolver(identity)
    }
}

fn request(address: SocketAddr) -> Request {
    let env = [("GANETI_JOB_ID".to_owned(), "7".to_owned())].into();
    Request {
        address,
        path: HooksPath::Global,
        phase: Phase::Post,
        env,
        timeout: Duration::from_millis(300),
        output: 5,
    }
}

fn daemons() -> NodeDaemons {
    NodeDaemons::new(Path::new(CERTIFICATES))
}

#[test]
fn hooks_run_on_a_good_node() {
    for versions in VERSIONS {
        let (address, questions) = Server { versions, ..GOOD }.start();
        let scripts = daemons().run_hooks(&request(address), None).unwrap().scripts;
        let asked = questions.recv().unwrap();
        assert!(asked.starts_with("POST /hooks_runner HTTP/1.1\r\n"), "{asked}");
        assert!(asked.ends_with(r#"["global","post",{"GANETI_JOB_ID":"7"}]"#), "{asked}");
        let ran: Vec<_> =
            scripts.iter().map(|(name, outcome)| (name.as_str(), outcome.succeeded())).collect();
        assert_eq!(ran, [("10-log", true), ("20-no", false)]);
        assert_eq!((scripts[0].1.output.as_str(), scripts[0].1.dropped), ("hello", 6));
    }
}

#[test]
fn nothing_is_said_to_a_stranger() {
    for versions in VERSIONS {
        let (address, questions) = Server { certificate: "other.pem", versions, ..GOOD }.start();
        let error = daemons().run_hooks(&request(address), None).unwrap_err();
        assert!(matches!(error, NodedError::Stranger(..)), "{error}");
        assert!(questions.recv().is_err());
    }
}

#[test]
fn a_node_that_does_not_know_us_is_told_apart() {
    let (address, _questions) = Server { candidate: "other.pem", ..GOOD }.start();
    let error = daemons().run_hooks(&request(address), None).unwrap_err();
    assert!(matches!(error, NodedError::Refused(..)), "{error}");
}

#[test]
fn before_ganeti_2_11_the_clusters_certificate_is_our_own() {
    let dir = tempfile::tempdir().unwrap();
    fs::copy(Path::new(CERTIFICATES).join(tls::SERVER), dir.path().join(tls::SERVER)).unwrap();
    let (address, _questions) = Server { candidate: tls::SERVER, ..GOOD }.start();
    assert_eq!(NodeDaemons::new(dir.path()).run_hooks(&request(address), None).unwrap().scripts.len(), 2);
    fs::write(dir.path().join(tls::CLIENT), "nothing").unwrap();
    let error = NodeDaemons::new(dir.path()).run_hooks(&request(address), None).unwrap_err();
    assert!(error.to_string().contains("client.pem holds no private key"), "{error}");
}

#[test]
fn silence_costs_the_time_limit() {
    let (address, questions) = Server { answer: None, ..GOOD }.start();
    let error = daemons().run_hooks(&request(address), None).unwrap_err();
    assert!(matches!(error, NodedError::TimeUp(..)), "{error}");
    assert!(error.to_string().contains("did not answer within 300ms"), "{error}");
    questions.recv().unwrap();
}

#[test]
fn a_daemon_that_only_accepts_costs_the_handshakes_limit() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let start = Instant::now();
    let error = daemons().run_hooks(&request(listener.local_addr().unwrap()), None).unwrap_err();
    assert!(matches!(error, NodedError::Silent(..)), "{error}");
    assert!((HANDSHAKE_PATIENCE..HANDSHAKE_PATIENCE + Duration::from_secs(2)).contains(&start.elapsed()));
}

#[test]
fn a_stop_is_not_waited_out() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let stop = eventfd(1, EventfdFlags::CLOEXEC).unwrap();
    let start = Instant::now();
    let error =
        daemons().run_hooks(&request(listener.local_addr().unwrap()), Some(stop.as_fd())).unwrap_err();
    assert!(is_stopped(Some(stop.as_fd())) && start.elapsed() < Duration::from_secs(5), "{error}");
}

#[test]
fn a_refused_connection_says_so() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = daemons().run_hooks(&request(address), None).unwrap_err();
    assert!(matches!(error, NodedError::Unreachable(..)), "{error}");
}

#[test]
fn other_answers_are_told() {
    for (answer, says) in
        [("[false, \"Unknown hooks phase\"]", "it says: Unknown hooks phase"), ("[]", "cannot be read")]
    {
        let (address, _questions) = Server { answer: Some(answer), ..GOOD }.start();
        let error = daemons().run_hooks(&request(address), None).unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
    }
    let (address, questions) = Server { answer: Some("[true, 38]"), ..GOOD }.start();
    assert_eq!(daemons().version(address).unwrap(), "38");
    assert!(questions.recv().unwrap().starts_with("POST /version HTTP/1.1\r\n"));
}

#[test]
fn more_than_an_answer_may_be_is_none() {
    let huge = format!(r#"[true, [["global-post.d/10-log", 2, "{}"]]]"#, "x".repeat(ANSWER_LIMIT));
    let (address, _questions) = Server { answer: Some(huge.leak()), ..GOOD }.start();
    let request = Request { timeout: Duration::from_secs(20), ..request(address) };
    let error = daemons().run_hooks(&request, None).unwrap_err().to_string();
    assert!(error.contains("the HTTP answer is longer than 4194304 bytes"), "{error}");
}
