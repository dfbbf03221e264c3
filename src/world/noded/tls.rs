//! TLS as node daemons speak it: both sides show certificates of X.509 version 1 that
//! nobody but the cluster signed.
//!
//! There is no name and no authority to check. Instead the server's certificate must be
//! the very one in `server.pem`, byte for byte, which all nodes of a cluster share
//! (Ganeti: `http/__init__.py`, `HttpBase._CreateSocket`; `rpc/node.py`,
//! `_ConfigRpcCurl`). The handshake proves that the server has the key that belongs to it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::ResolvesClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring, verify_tls13_signature_with_raw_key};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, PeerMisbehaved, SignatureScheme};
use x509_cert::Certificate;
use x509_cert::der::{Decode, Encode};

use crate::world::regular_file::{self, ReadError};
use crate::world::shortage::is_shortage;

/// The cluster's certificate and key, below the data directory (Ganeti: `pathutils.py`,
/// `NODED_CERT_FILE`).
pub const SERVER: &str = "server.pem";

/// This node's own, since Ganeti 2.11 (Ganeti: `pathutils.py`, `NODED_CLIENT_CERT_FILE`).
pub const CLIENT: &str = "client.pem";

/// The largest certificate file, in bytes.
const LIMIT: u64 = 1024 * 1024;

/// A certificate file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{path} {what}; `gnt-cluster renew-crypto` makes it anew")]
pub struct BadFile {
    path: PathBuf,
    what: String,
    /// Whether it was not the file's fault.
    pub is_shortage: bool,
}

/// The client's side: trusts the cluster's certificate alone, and shows this node's.
///
/// # Errors
/// When a file cannot be read, or does not hold what it should.
pub fn client(data_dir: &Path) -> Result<ClientConfig, BadFile> {
    let server = data_dir.join(SERVER);
    let pem = read(&server)?;
    let bad = |path: &Path, what: &dyn ToString| BadFile {
        path: path.to_owned(),
        what: what.to_string(),
        is_shortage: false,
    };
    let pinned = certificate(&pem).map_err(|what| bad(&server, &what))?;
    let provider = ring::default_provider();
    let pin = Pin::new(pinned, &provider).map_err(|what| bad(&server, &what))?;
    // Before Ganeti 2.11 there was no certificate of a node's own; its own client falls
    // back like this still (Ganeti: `rpc/node.py`, `_ConfigRpcCurl`).
    let own = data_dir.join(CLIENT);
    let (own, pem) = if own.exists() { (own.clone(), read(&own)?) } else { (server, pem) };
    let identity = identity(&pem, &provider).map_err(|what| bad(&own, &what))?;
    let config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| bad(&own, &error))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(pin))
        .with_client_cert_resolver(Arc::new(identity));
    Ok(config)
}

fn read(path: &Path) -> Result<Vec<u8>, BadFile> {
    let bad = |what: String, is_shortage| BadFile { path: path.to_owned(), what, is_shortage };
    match regular_file::read(path, LIMIT) {
        Ok(Some(pem)) => Ok(pem),
        Ok(None) => Err(bad("does not exist".to_owned(), false)),
        Err(ReadError::Io(error)) if is_shortage(&error) => Err(bad(error.to_string(), true)),
        Err(error) => Err(bad(error.to_string(), false)),
    }
}

fn certificate(pem: &[u8]) -> Result<CertificateDer<'static>, String> {
    CertificateDer::from_pem_slice(pem).map_err(|error| format!("holds no certificate: {error}"))
}

/// The certificate and key in a file. Made from its parts: rustls would take neither the
/// version nor the missing names of the certificate.
fn identity(pem: &[u8], provider: &CryptoProvider) -> Result<Identity, String> {
    let key = PrivateKeyDer::from_pem_slice(pem).map_err(|error| format!("holds no private key: {error}"))?;
    let key = provider
        .key_provider
        .load_private_key(key)
        .map_err(|error| format!("holds a private key that cannot be used: {error}"))?;
    Ok(Identity(Arc::new(CertifiedKey::new(vec![certificate(pem)?], key))))
}

/// What this node shows of itself, whatever the server asks for.
#[derive(Debug)]
struct Identity(Arc<CertifiedKey>);

impl ResolvesClientCert for Identity {
    fn resolve(&self, _issuers: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// The one certificate that is trusted.
#[derive(Debug)]
struct Pin {
    certificate: CertificateDer<'static>,
    /// Its key with the key's algorithm, and the bare key.
    key: SubjectPublicKeyInfoDer<'static>,
    bare_key: Vec<u8>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Pin {
    fn new(certificate: CertificateDer<'static>, provider: &CryptoProvider) -> Result<Self, String> {
        let unusable = |error| format!("holds a certificate that cannot be used: {error}");
        let parsed = Certificate::from_der(&certificate).map_err(unusable)?;
        let key = parsed.tbs_certificate().subject_public_key_info();
        let bare_key = key.subject_public_key.raw_bytes().to_owned();
        let key = SubjectPublicKeyInfoDer::from(key.to_der().map_err(unusable)?);
        let algorithms = provider.signature_verification_algorithms;
        Ok(Self { certificate, key, bare_key, algorithms })
    }
}

impl ServerCertVerifier for Pin {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match *end_entity == self.certificate {
            true => Ok(ServerCertVerified::assertion()),
            false => Err(CertificateError::ApplicationVerificationFailure.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        _certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let mut known = self.algorithms.mapping.iter();
        let Some((_, algorithms)) = known.find(|(scheme, _)| *scheme == signed.scheme) else {
            return Err(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme.into());
        };
        let verify = algorithms.iter().find(|algorithm| {
            algorithm.verify_signature(&self.bare_key, message, signed.signature()).is_ok()
        });
        verify
            .map(|_| HandshakeSignatureValid::assertion())
            .ok_or_else(|| CertificateError::BadSignature.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        _certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature_with_raw_key(message, &self.key, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
pub mod tests {
    //! The server's side, with the same certificates.

    use rustls::DistinguishedName;
    use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
    use rustls::server::{ClientHello, ResolvesServerCert};

    use super::*;

    pub fn identity(path: &Path) -> Arc<dyn ResolvesServerCert> {
        Arc::new(super::identity(&read(path).unwrap(), &ring::default_provider()).unwrap())
    }

    pub fn pin(path: &Path) -> Arc<dyn ClientCertVerifier> {
        Arc::new(Pin::new(certificate(&read(path).unwrap()).unwrap(), &ring::default_provider()).unwrap())
    }

    impl ResolvesServerCert for Identity {
        fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
            Some(Arc::clone(&self.0))
        }
    }

    impl ClientCertVerifier for Pin {
        fn root_hint_subjects(&self) -> &[DistinguishedName] {
            &[]
        }

        fn verify_client_cert(
            &self,
            end_entity: &CertificateDer<'_>,
            _intermediates: &[CertificateDer<'_>],
            _now: UnixTime,
        ) -> Result<ClientCertVerified, Error> {
            match *end_entity == self.certificate {
                true => Ok(ClientCertVerified::assertion()),
                false => Err(CertificateError::UnknownIssuer.into()),
            }
        }

        fn verify_tls12_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            ServerCertVerifier::verify_tls12_signature(self, message, certificate, signed)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            ServerCertVerifier::verify_tls13_signature(self, message, certificate, signed)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.algorithms.supported_schemes()
        }
    }
}
