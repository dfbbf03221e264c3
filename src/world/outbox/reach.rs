//! Whether a receiver can be reached, without sending it anything: for `check`.

use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Uri;
use rustls::crypto::ring;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

use super::client::roots;
use crate::engine::settings::Outbox;
use crate::world::deadline::Timed;

/// How long it is tried, at most.
const PATIENCE: Duration = Duration::from_secs(10);

/// Resolves the receiver's name, connects, and shakes hands; by way of a proxy only as far as that.
/// Returns what answers.
///
/// # Errors
/// How far it came, and why no further.
pub fn reach(outbox: &Outbox) -> Result<String, String> {
    let target = outbox.proxy.as_deref().unwrap_or(&outbox.url);
    let uri: Uri = target.parse().map_err(|error| format!("{target}: {error}"))?;
    let host = uri.host().unwrap_or_default();
    let is_tls = uri.scheme_str() == Some("https");
    let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
    let deadline = Instant::now() + outbox.timeout.min(PATIENCE);
    let (stream, address) = connect(host, port, deadline)?;
    if outbox.proxy.is_some() {
        return Ok(format!("the proxy {address} answers; what is beyond it is not tried"));
    }
    if !is_tls {
        return Ok(format!("{address} answers"));
    }
    let version = shake_hands(outbox, host, stream, deadline)
        .map_err(|error| format!("{host} at {address}: TLS: {error}; is ca-file right?"))?;
    Ok(format!("{host} at {address}, {version}"))
}

/// The first address of several that answers.
fn connect(host: &str, port: u16, deadline: Instant) -> Result<(TcpStream, SocketAddr), String> {
    let name = host.trim_matches(['[', ']']);
    let addresses =
        (name, port).to_socket_addrs().map_err(|error| format!("{name} has no address: {error}"))?;
    let mut why = format!("{name} has no address");
    for address in addresses {
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        match TcpStream::connect_timeout(&address, left) {
            Ok(stream) => return Ok((stream, address)),
            Err(error) => why = format!("{name} at {address}: {error}"),
        }
    }
    Err(why)
}

fn shake_hands(outbox: &Outbox, host: &str, stream: TcpStream, deadline: Instant) -> Result<String, String> {
    let name =
        ServerName::try_from(host.trim_matches(['[', ']']).to_owned()).map_err(|error| error.to_string())?;
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots(outbox)?)
        .with_no_client_auth();
    let mut connection = ClientConnection::new(Arc::new(config), name).map_err(|error| error.to_string())?;
    let words = |error: io::Error| error.to_string();
    let mut stream = Timed::new(stream, deadline, None).map_err(words)?;
    while connection.is_handshaking() {
        connection.complete_io(&mut stream).map_err(words)?;
    }
    Ok(connection.protocol_version().map_or_else(|| "TLS".to_owned(), |version| format!("{version:?}")))
}
