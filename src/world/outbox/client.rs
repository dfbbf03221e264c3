//! One request, and its answer.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::RootCertStore;
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use ureq::http::HeaderMap;
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, Proxy};

use crate::engine::outbox::answer::Answer;
use crate::engine::outbox::message::{CONTENT_TYPE, Message};
use crate::engine::outbox::signature::Secrets;
use crate::engine::settings::Outbox;
use crate::world::clock;

/// Where Debian has the authorities that the system trusts.
const SYSTEM_AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// What is read of an answer's content, in bytes.
const ANSWER_LIMIT: u64 = 4 * 1024;

/// What is read of an answer's headers, in bytes.
const HEAD_LIMIT: usize = 16 * 1024;

/// How long a connection is kept for the next request.
const IDLE: Duration = Duration::from_secs(5);

/// What sends for an outbox.
#[derive(Debug)]
pub struct Client {
    agent: Agent,
    url: String,
    secrets: Secrets,
}

impl Client {
    /// What sends for this outbox, with its files as they are now.
    ///
    /// # Errors
    /// Which file is no good.
    pub fn new(outbox: &Outbox) -> Result<Self, String> {
        let secrets = super::secrets(&outbox.secret_file)?;
        let certificates = authorities(outbox)?.into_iter().map(|der| Certificate::from_der(&der).to_owned());
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::Specific(Arc::new(certificates.collect())))
            .unversioned_rustls_crypto_provider(Arc::new(ring::default_provider()))
            .build();
        let proxy = outbox.proxy.as_deref().map(Proxy::new).transpose();
        let proxy = proxy.map_err(|error| format!("proxy: {error}"))?;
        let agent = Agent::config_builder()
            .tls_config(tls)
            .proxy(proxy)
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_global(Some(outbox.timeout))
            .max_response_header_size(HEAD_LIMIT)
            .max_idle_connections(1)
            .max_idle_age(IDLE)
            .user_agent(concat!("ganeti-hookd/", env!("CARGO_PKG_VERSION")))
            .build()
            .new_agent();
        Ok(Self { agent, url: outbox.url.clone(), secrets })
    }

    /// Sends a message, signed as of now.
    pub fn send(&self, message: &Message) -> Answer {
        let timestamp = clock::now().as_micros().div_euclid(1_000_000);
        let signature = self.secrets.sign(&message.id, timestamp, message.body.as_bytes());
        let request = self
            .agent
            .post(&self.url)
            .header("content-type", CONTENT_TYPE)
            .header("webhook-id", &message.id)
            .header("webhook-timestamp", timestamp.to_string())
            .header("webhook-signature", signature);
        match request.send(message.body.as_bytes()) {
            Ok(response) => {
                let (head, body) = response.into_parts();
                let mut text = Vec::new();
                // What has come of it by then is what there is to show.
                let _ = body.into_with_config().limit(ANSWER_LIMIT).reader().read_to_end(&mut text);
                Answer::Status {
                    code: head.status.as_u16(),
                    retry_after: retry_after(&head.headers),
                    text: String::from_utf8_lossy(&text).into_owned(),
                }
            }
            Err(error) => Answer::Nothing(explained(&error)),
        }
    }
}

/// Why there is no answer, for whoever looks after the receiver.
fn explained(error: &ureq::Error) -> String {
    match error {
        ureq::Error::Timeout(what) => format!("no whole answer within timeout ({what})"),
        ureq::Error::HostNotFound => "the receiver's name is not known".to_owned(),
        ureq::Error::TooManyRedirects | ureq::Error::RedirectFailed => {
            "the receiver answers with a redirect; redirects are not followed, set url".to_owned()
        }
        other => other.to_string(),
    }
}

/// How long the receiver wants to be left alone: in seconds, or until a time.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("retry-after")?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let until = jiff::fmt::rfc2822::parse(text).ok()?.timestamp().as_microsecond();
    let left = until.saturating_sub(clock::now().as_micros());
    Some(Duration::from_micros(u64::try_from(left).unwrap_or(0)))
}

/// The authorities that the receiver's certificate may be of. One that speaks to this machine in
/// the clear needs none.
fn authorities(outbox: &Outbox) -> Result<Vec<CertificateDer<'static>>, String> {
    match &outbox.ca_file {
        None if outbox.url.starts_with("http:") => Ok(Vec::new()),
        None => read_authorities(Path::new(SYSTEM_AUTHORITIES))
            .map_err(|error| format!("{error}; install ca-certificates, or set ca-file")),
        Some(path) => read_authorities(path),
    }
}

fn read_authorities(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let shown = path.display();
    let found = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match found {
        Err(error) => Err(format!("{shown} cannot be read: {error}")),
        Ok(found) if found.is_empty() => Err(format!("{shown} holds no certificate")),
        Ok(found) => Ok(found),
    }
}

/// The same for whoever makes the connection itself.
pub(super) fn roots(outbox: &Outbox) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(authorities(outbox)?);
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_time() {
        let asked = |text: &str| {
            let headers = [(ureq::http::header::RETRY_AFTER, text.parse().unwrap())].into_iter().collect();
            retry_after(&headers)
        };
        assert_eq!(asked(" 120 "), Some(Duration::from_secs(120)));
        assert_eq!(asked("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::ZERO));
        let far = asked("Tue, 31 Dec 2999 23:59:59 GMT").unwrap();
        assert!(far > Duration::from_secs(900 * 365 * 86_400));
        for nonsense in ["", "soon", "-1", "1e9", "99999999999999999999999"] {
            assert_eq!(asked(nonsense), None, "{nonsense}");
        }
    }
}
