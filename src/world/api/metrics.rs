//! Metrics alone over TCP, for who asks from elsewhere (`api.metrics-listen`).
//!
//! Nothing else is told there and nothing can be changed. A connection has a few seconds for all of it,
//! and there are a few at a time: who is slow or many costs others their scrape at most.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, Shutdown, SocketFlags, SocketType, shutdown, socket_with, sockopt};

use super::problem::Problem;
use super::{Backend, PEER_TIMEOUT, Places, Question, ask, count_pending, too_many};
use crate::world::deadline::Timed;
use crate::world::failpoints;
use crate::world::flood::Flow;
use crate::world::http::{Answer, Request, read_request};
use crate::world::panics::caught;
use crate::world::shortage::explain;

/// Connections served at the same time.
const CONNECTIONS_MAX: usize = 8;

/// Connections that may wait until they are served.
const BACKLOG: i32 = 128;

/// What metrics are: Prometheus' text format.
const TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Whom metrics are asked of, and where the history is that outboxes have still to send.
struct Source<B>(B, PathBuf);

/// Where it is listened for scrapes; nowhere any more when dropped.
#[derive(Debug)]
pub struct Metrics {
    address: SocketAddr,
    listener: Arc<TcpListener>,
    is_over: Arc<AtomicBool>,
}

impl Metrics {
    /// Listens at this address, on a thread of its own.
    ///
    /// # Errors
    /// When that cannot be.
    pub fn listen(address: SocketAddr, owner: impl Backend, state_dir: &Path) -> io::Result<Self> {
        let listener = Arc::new(bind(address)?);
        let (address, is_over) = (listener.local_addr()?, Arc::new(AtomicBool::new(false)));
        let (listens, ends) = (Arc::clone(&listener), Arc::clone(&is_over));
        let source = Arc::new(Source(owner, state_dir.to_owned()));
        thread::Builder::new().name("metrics".to_owned()).spawn(move || accept(&listens, &ends, &source))?;
        Ok(Self { address, listener, is_over })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Metrics {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        // Whoever waits for a connection hears of it.
        let _ = shutdown(&*self.listener, Shutdown::Both);
    }
}

/// Listens at this address, also where it comes to this node later: a cluster's own address is the master's, whose
/// Ganeti takes it after we have started (ip(7), `IP_FREEBIND`).
fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    // What is left of connections of the daemon before keeps nobody from it.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    match address.is_ipv4() {
        true => sockopt::set_ip_freebind(&socket, true)?,
        false => sockopt::set_ipv6_freebind(&socket, true)?,
    }
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket.into())
}

fn accept<B: Backend>(listener: &TcpListener, is_over: &AtomicBool, source: &Arc<Source<B>>) {
    let connections = Places::default();
    while !is_over.load(Ordering::SeqCst) {
        let accepted = caught(|| accept_one(listener, source, &connections));
        if let Err(error) = accepted.and_then(|accepted| accepted.map_err(|error| explain(&error)))
            && !is_over.load(Ordering::SeqCst)
        {
            static FLOW: Flow = Flow::new();
            FLOW.warn(format_args!("cannot accept a connection for metrics: {error}"));
            thread::sleep(Duration::from_millis(200));
        }
    }
}

fn accept_one<B: Backend>(
    listener: &TcpListener,
    source: &Arc<Source<B>>,
    connections: &Places,
) -> io::Result<()> {
    let (stream, _) = listener.accept()?;
    failpoints::defect("metrics");
    let deadline = Instant::now() + PEER_TIMEOUT;
    let Some(place) = connections.take(CONNECTIONS_MAX) else {
        stream.set_nonblocking(true)?;
        let _ = too_many("connections").answer().write(&stream);
        return Ok(());
    };
    let source = Arc::clone(source);
    thread::Builder::new().name("metrics-request".to_owned()).spawn(move || {
        let _place = place;
        let served = caught(|| serve(&stream, deadline, &source))
            .unwrap_or_else(|what| Problem::new(500, what).answer().write(&stream));
        if let Err(error) = served {
            log::debug!("metrics: {error}");
        }
    })?;
    Ok(())
}

fn serve(stream: &TcpStream, deadline: Instant, source: &Source<impl Backend>) -> io::Result<()> {
    let mut stream = Timed::new(stream, deadline, None)?;
    let answer = match read_request(&mut stream) {
        Ok(request) => {
            failpoints::defect("metrics-request");
            answer(&request, source)
        }
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(Problem::new(400, error)),
        Err(error) => return Err(error),
    };
    answer.unwrap_or_else(|problem| problem.answer()).write(&mut stream)
}

fn answer(request: &Request, source: &Source<impl Backend>) -> Result<Answer, Problem> {
    match (request.method.as_str(), request.path()) {
        ("GET", "/metrics") => metrics(&source.0, &source.1),
        (_, "/metrics") => Err(Problem::only("GET")),
        _ => Err(Problem::new(404, "there is /metrics, and nothing else over TCP")),
    }
}

/// The metrics. They are worded here and not by the owner, who has other things to do.
pub(super) fn metrics(owner: &(impl Backend + ?Sized), state_dir: &Path) -> Result<Answer, Problem> {
    let mut metrics = ask(owner, Question::Metrics)?.recv_timeout(PEER_TIMEOUT).map_err(io::Error::other)?;
    count_pending(state_dir, &mut metrics.status);
    Ok(Answer::new(200, TYPE, metrics.text()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nobody who asks.
    struct Nobody;

    impl Backend for Nobody {
        fn ask(&self, _question: Question) -> bool {
            false
        }
    }

    #[test]
    fn an_address_may_come_to_this_node_later() {
        // Documentation's own (RFC 5737, RFC 3849): they are nobody's.
        for address in ["192.0.2.7:0", "[2001:db8::7]:0"] {
            let address: SocketAddr = address.parse().unwrap();
            assert_eq!(
                Metrics::listen(address, Nobody, Path::new("/")).unwrap().address().ip(),
                address.ip()
            );
        }
    }
}
