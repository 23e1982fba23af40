//! TLS of the client side: whom to believe, and errors that say what to do.

use std::fmt;
use std::io;
use std::str::FromStr;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// The SHA-256 of a certificate in DER form, by which it can be pinned.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    /// That of `certificate`.
    #[must_use]
    pub fn of(certificate: &CertificateDer<'_>) -> Self {
        Self(Sha256::digest(certificate).into())
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Fingerprint {
    type Err = TlsError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || TlsError::Fingerprint(text.to_owned());
        let digits = text.strip_prefix("sha256:").ok_or_else(invalid)?;
        let digits: Vec<u8> = digits.bytes().filter(|byte| *byte != b':').collect();
        let mut bytes = [0; 32];
        if digits.len() != 64 {
            return Err(invalid());
        }
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| invalid())?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| invalid())?;
        }
        Ok(Self(bytes))
    }
}

/// Whose certificate is believed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Trust {
    /// This one, whatever name stands in it.
    pub pin: Option<Fingerprint>,
    /// Only the pinned one. Otherwise also those that the system's authorities vouch for.
    pub pin_only: bool,
}

/// Why there is no TLS.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// Not a fingerprint.
    #[error("certificate pin {0:?} is not understood; give sha256: and 64 hex digits")]
    Fingerprint(String),
    /// Built without a cryptographic provider.
    #[error("this build has no TLS; build it with the cargo feature `aws-lc` or `ring`")]
    Unavailable,
    /// Neither the system nor `SSL_CERT_FILE` has a certificate authority.
    #[error(
        "no certificate authorities are known: {0}; install the system's CA certificates, set \
         SSL_CERT_FILE, or pin the server's certificate"
    )]
    NoRoots(String),
    /// No such name.
    #[error("{0:?} is no host name")]
    Name(String),
    /// The certificate is not believed.
    #[error(
        "the certificate of {host} is not trusted: {reason}; if it is your own, name it in \
         SSL_CERT_FILE or add pin=sha256:<fingerprint> to the rendezvous"
    )]
    Untrusted {
        /// Whose.
        host: String,
        /// Why not.
        reason: String,
    },
    /// The handshake failed otherwise.
    #[error("TLS with {host} failed: {reason}")]
    Failed {
        /// With whom.
        host: String,
        /// How.
        reason: String,
    },
}

/// The cryptography that TLS uses, if this build has any.
///
/// # Errors
/// [`TlsError::Unavailable`].
pub fn provider() -> Result<Arc<CryptoProvider>, TlsError> {
    #[cfg(feature = "aws-lc")]
    let provider = Ok(Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    #[cfg(all(feature = "ring", not(feature = "aws-lc")))]
    let provider = Ok(Arc::new(rustls::crypto::ring::default_provider()));
    #[cfg(not(any(feature = "ring", feature = "aws-lc")))]
    let provider = Err(TlsError::Unavailable);
    provider
}

/// Does the handshake with `host` over `stream`.
///
/// # Errors
/// Every [`TlsError`].
pub async fn connect<S>(trust: Trust, host: &str, stream: S) -> Result<TlsStream<S>, TlsError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let name = ServerName::try_from(host.to_owned()).map_err(|_| TlsError::Name(host.into()))?;
    let connector = TlsConnector::from(Arc::new(client_config(trust)?));
    connector.connect(name, stream).await.map_err(|error| explain(host, &error))
}

fn client_config(trust: Trust) -> Result<ClientConfig, TlsError> {
    let provider = provider()?;
    let public = match (trust.pin, system_roots()) {
        (Some(_), _) if trust.pin_only => None,
        (Some(_), Err(_)) => None,
        (_, roots) => Some(
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots?), provider.clone())
                .build()
                .map_err(|error| TlsError::NoRoots(error.to_string()))?,
        ),
    };
    let verifier = Verifier { pin: trust.pin, public, provider: provider.clone() };
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|_| TlsError::Unavailable)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    Ok(config)
}

/// The authorities of the system, or of `SSL_CERT_FILE` and `SSL_CERT_DIR`.
fn system_roots() -> Result<RootCertStore, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (usable, _) = roots.add_parsable_certificates(found.certs);
    if usable == 0 {
        let reason = found.errors.first().map_or("there are none".into(), ToString::to_string);
        return Err(TlsError::NoRoots(reason));
    }
    Ok(roots)
}

fn explain(host: &str, error: &io::Error) -> TlsError {
    let host = host.to_owned();
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::InvalidCertificate(reason)) => {
            TlsError::Untrusted { host, reason: reason.to_string() }
        }
        Some(rustls::Error::General(reason)) => {
            TlsError::Untrusted { host, reason: reason.clone() }
        }
        _ => TlsError::Failed { host, reason: error.to_string() },
    }
}

/// Believes the pinned certificate, and what `public` believes.
#[derive(Debug)]
struct Verifier {
    pin: Option<Fingerprint>,
    public: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let presented = Fingerprint::of(end_entity);
        if self.pin == Some(presented) {
            return Ok(ServerCertVerified::assertion());
        }
        match &self.public {
            Some(public) => public.verify_server_cert(
                end_entity,
                intermediates,
                server_name,
                ocsp_response,
                now,
            ),
            None => Err(rustls::Error::General(format!("it is {presented}, not the pinned one"))),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_read_as_it_is_written_and_as_openssl_writes_it() {
        let pin = Fingerprint([0xab; 32]);
        assert_eq!(pin.to_string().parse(), Ok(pin));
        assert_eq!(format!("sha256:{}", ["AB"; 32].join(":")).parse(), Ok(pin));
        for bad in ["", "sha256:", "sha256:ab", "ab", &format!("sha256:{}", "é".repeat(32))] {
            assert!(bad.parse::<Fingerprint>().is_err(), "{bad}");
        }
    }
}
