//! Hooks on other nodes, run by their unmodified node daemons (ganeti-noded).
//!
//! Promises: a node that does not answer costs its time limits and an error that says
//! what to do, never more; nothing is said to a server that does not show the cluster's
//! certificate.

pub mod answer;
mod tls;

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use answer::{QUOTE_MAX, Told};
use rustls::{AlertDescription, ClientConnection, Stream};

use crate::engine::directories::HooksPath;
use crate::engine::environment::Environment;
use crate::ganeti::event::Phase;
use crate::ganeti::text::plain;
use crate::world::deadline::Timed;
use crate::world::http;
use crate::world::shortage::is_shortage;

/// The port of node daemons (Ganeti: `constants.DEFAULT_NODED_PORT`).
pub const PORT: u16 = 1811;

/// How long a connection may take (Ganeti: `constants.RPC_CONNECT_TIMEOUT`).
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);

/// How long the TLS handshake may take. A node daemon that serves as many as it can at a
/// time accepts others and lets them wait.
const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(10);

/// How long the answer to a question that needs no script may take.
const QUESTION_PATIENCE: Duration = Duration::from_secs(10);

/// The largest answer, in bytes: the outputs of a node's scripts for one event, escaped.
const ANSWER_LIMIT: usize = 4 * 1024 * 1024;

/// Why a node daemon did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum NodedError {
    /// Our certificates are not in order.
    #[error(transparent)]
    Certificates(#[from] tls::BadFile),
    /// Nobody is there.
    #[error(
        "{0} cannot be reached: {1}; does ganeti-noded run there? (gnt-node modify --offline=yes NODE if the node is down)"
    )]
    Unreachable(SocketAddr, #[source] io::Error),
    /// It accepts connections, and that is all.
    #[error("{0} accepts connections and does not answer; restart ganeti-noded there")]
    Silent(SocketAddr),
    /// It is not one of the cluster's.
    #[error(
        "{0} does not show the cluster's certificate ({1}); if the node is the cluster's, `gnt-cluster redist-conf` and a restart of ganeti-noded there put that right"
    )]
    Stranger(SocketAddr, PathBuf),
    /// It does not take us for a master candidate.
    #[error(
        "{0} refuses this node's certificate ({1}); is this node a master candidate? `gnt-cluster renew-crypto --new-node-certificates` puts certificates in order"
    )]
    Refused(SocketAddr, PathBuf),
    /// It was asked, and did not answer in time.
    #[error("{0} did not answer within {limit}; what it was asked may still be under way there", limit = humantime::format_duration(*.1))]
    TimeUp(SocketAddr, Duration),
    /// The connection failed.
    #[error("{0}: {1}")]
    Broken(SocketAddr, #[source] io::Error),
    /// It says no, or says something else.
    #[error("{0}: {1}")]
    Answer(SocketAddr, String),
}

impl NodedError {
    /// Whether something was short here that may come back: nobody has been asked yet.
    pub fn is_shortage(&self) -> bool {
        match self {
            Self::Certificates(file) => file.is_shortage,
            Self::Unreachable(_, error) => is_shortage(error),
            _ => false,
        }
    }
}

/// The node daemons of the cluster with this data directory.
#[derive(Clone, Debug)]
pub struct NodeDaemons {
    data_dir: PathBuf,
}

/// What a node is asked to do.
#[derive(Clone, Debug)]
pub struct Request {
    /// The node daemon's address.
    pub address: SocketAddr,
    /// The hooks path whose directory is run.
    pub path: HooksPath,
    /// The hooks' phase.
    pub phase: Phase,
    /// Their environment.
    pub env: Environment,
    /// How long all of them together may take.
    pub timeout: Duration,
    /// Bytes of output that are kept of each.
    pub output: usize,
}

impl NodeDaemons {
    /// Nothing is read yet: certificates may be renewed at any time.
    pub fn new(data_dir: &Path) -> Self {
        Self { data_dir: data_dir.to_owned() }
    }

    /// Has a node run its hooks of a path and a phase, and returns what it tells of them. Should `stop` become
    /// readable, the node goes on and nobody listens.
    ///
    /// # Errors
    /// When it is not known that they ran.
    pub fn run_hooks(&self, request: &Request, stop: Option<BorrowedFd<'_>>) -> Result<Told, NodedError> {
        let Request { address, path, phase, env, timeout, output } = request;
        let body = serde_json::json!([path.name(), phase.as_str(), env]).to_string();
        let answer = self.call(*address, "/hooks_runner", &body, *timeout, stop)?;
        answer::result(&answer)
            .and_then(|result| answer::scripts(result, *output))
            .map_err(|what| NodedError::Answer(*address, what))
    }

    /// Asks a node daemon for the version of its protocol.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn version(&self, address: SocketAddr) -> Result<String, NodedError> {
        let answer = self.call(address, "/version", "[]", QUESTION_PATIENCE, None)?;
        let result = answer::result(&answer).map_err(|what| NodedError::Answer(address, what))?;
        Ok(plain(result.get(), QUOTE_MAX))
    }

    /// Calls a function of a node daemon and returns its answer.
    fn call(
        &self,
        address: SocketAddr,
        target: &str,
        body: &str,
        patience: Duration,
        stop: Option<BorrowedFd<'_>>,
    ) -> Result<Vec<u8>, NodedError> {
        let broken = |error| NodedError::Broken(address, error);
        let config = Arc::new(tls::client(&self.data_dir)?);
        let mut tls = ClientConnection::new(config, address.ip().into())
            .map_err(|error| broken(io::Error::other(error)))?;
        let socket = TcpStream::connect_timeout(&address, CONNECT_PATIENCE)
            .map_err(|error| NodedError::Unreachable(address, error))?;
        let mut socket = Timed::new(socket, Instant::now() + HANDSHAKE_PATIENCE, stop).map_err(broken)?;
        while tls.is_handshaking() {
            tls.complete_io(&mut socket).map_err(|error| self.explain(address, error, None))?;
        }
        socket.set_deadline(Instant::now() + patience);
        let host = address.to_string();
        let stream = Stream::new(&mut tls, &mut socket);
        let answer = http::exchange(stream, "POST", &host, target, body.as_bytes(), ANSWER_LIMIT)
            .map_err(|error| self.explain(address, error, Some(patience)))?;
        match answer.status {
            200 => Ok(answer.body),
            status => {
                let body = String::from_utf8_lossy(&answer.body);
                let what = format!("HTTP status {status}: {}", plain(&body, QUOTE_MAX));
                Err(NodedError::Answer(address, what))
            }
        }
    }

    /// What an error means, in the handshake or, with `patience`, after it.
    fn explain(&self, address: SocketAddr, error: io::Error, patience: Option<Duration>) -> NodedError {
        use rustls::Error::{AlertReceived, InvalidCertificate};
        if error.kind() == io::ErrorKind::TimedOut {
            return match patience {
                Some(patience) => NodedError::TimeUp(address, patience),
                None => NodedError::Silent(address),
            };
        }
        match error.get_ref().and_then(|inner| inner.downcast_ref()) {
            Some(InvalidCertificate(_)) => NodedError::Stranger(address, self.data_dir.join(tls::SERVER)),
            // In TLS 1.3 the server looks at our certificate after the handshake.
            Some(AlertReceived(alert)) if is_about_certificate(*alert) => {
                NodedError::Refused(address, self.data_dir.join(tls::CLIENT))
            }
            _ => NodedError::Broken(address, error),
        }
    }
}

fn is_about_certificate(alert: AlertDescription) -> bool {
    use AlertDescription as Alert;
    matches!(
        alert,
        Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::AccessDenied
            | Alert::CertificateRequired
    )
}

#[cfg(test)]
mod tests;
