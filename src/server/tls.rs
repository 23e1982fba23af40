//! The certificate of a rendezvous: the operator's, or one of its own that it keeps.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use crate::net::tls::{Fingerprint, TlsError, provider};

/// A certificate and its key, in PEM form. Both may be in one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate, and those between it and an authority, in this order.
    pub certificate: PathBuf,
    /// Its private key: PKCS #8, PKCS #1 or SEC 1.
    pub key: PathBuf,
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// A file cannot be used.
    #[error("cannot use {what} {}: {reason}", path.display())]
    File {
        /// `the certificate` or `the key`.
        what: &'static str,
        /// Which.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// The two do not fit, or are of a kind that is not supported.
    #[error("the certificate and its key cannot be used: {0}")]
    Pair(String),
    /// There is no TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// What a rendezvous shows to who speaks TLS.
#[derive(Clone)]
pub(super) struct Certificate {
    pub(super) acceptor: TlsAcceptor,
    pub(super) fingerprint: Fingerprint,
}

impl Certificate {
    /// The operator's.
    pub(super) fn load(files: &CertificateFiles) -> Result<Self, CertificateError> {
        let file = |what, path: &Path| {
            let path = path.to_owned();
            move |error: rustls::pki_types::pem::Error| {
                let reason = match error {
                    rustls::pki_types::pem::Error::NoItemsFound => "there is none in it".into(),
                    other => other.to_string(),
                };
                CertificateError::File { what, path, reason }
            }
        };
        let chain: Vec<_> = CertificateDer::pem_file_iter(&files.certificate)
            .and_then(Iterator::collect)
            .map_err(file("the certificate", &files.certificate))?;
        let key = PrivateKeyDer::from_pem_file(&files.key).map_err(file("the key", &files.key))?;
        Self::new(chain, key)
    }

    /// One of its own, kept in `path`; without a path it is another one each time. `None` if this
    /// build has no TLS.
    pub(super) fn own(path: Option<&Path>) -> Result<Option<Self>, CertificateError> {
        if provider().is_err() {
            return Ok(None);
        }
        if let Some(path) = path.filter(|path| path.exists()) {
            let files = CertificateFiles { certificate: path.into(), key: path.into() };
            return Self::load(&files).map(Some);
        }
        let (pem, made) = make()?;
        if let Some(path) = path {
            keep(path, &pem)?;
        }
        Ok(Some(made))
    }

    fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, CertificateError> {
        let Some(leaf) = chain.first() else {
            return Err(CertificateError::Pair("there is no certificate".into()));
        };
        let fingerprint = Fingerprint::of(leaf);
        let pair = |error: rustls::Error| CertificateError::Pair(error.to_string());
        let config = ServerConfig::builder_with_provider(provider()?)
            .with_safe_default_protocol_versions()
            .map_err(pair)?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(pair)?;
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(config)), fingerprint })
    }
}

/// Peers pin it by its fingerprint, so what stands in it matters little: names of this machine by
/// which somebody on it may check it, and no end.
#[cfg(any(feature = "aws-lc", feature = "ring"))]
fn make() -> Result<(String, Certificate), CertificateError> {
    let failed = |error: rcgen::Error| CertificateError::Pair(error.to_string());
    let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
    let key = rcgen::KeyPair::generate().map_err(failed)?;
    let mut params = rcgen::CertificateParams::new(names).map_err(failed)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, "pilot rendezvous");
    let certificate = params.self_signed(&key).map_err(failed)?;
    let pem = format!("{}{}", key.serialize_pem(), certificate.pem());
    let key = PrivateKeyDer::try_from(key.serialize_der())
        .map_err(|reason| CertificateError::Pair(reason.to_owned()))?;
    Ok((pem, Certificate::new(vec![certificate.der().clone()], key)?))
}

#[cfg(not(any(feature = "aws-lc", feature = "ring")))]
fn make() -> Result<(String, Certificate), CertificateError> {
    Err(TlsError::Unavailable.into())
}

/// Writes it for its owner only, unless another process did in this moment.
fn keep(path: &Path, pem: &str) -> Result<(), CertificateError> {
    use crate::crypto::private_file;
    let write = || {
        if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
            private_file::create_dir(dir)?;
        }
        private_file::write_atomic(path, pem.as_bytes())
    };
    write().map_err(|error| CertificateError::File {
        what: "the certificate",
        path: path.to_owned(),
        reason: error.source.to_string(),
    })
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificate")
            .field("fingerprint", &self.fingerprint)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_own_certificate_is_kept_for_its_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new").join("tls.pem");
        let first = Certificate::own(Some(&path)).unwrap().unwrap();
        let again = Certificate::own(Some(&path)).unwrap().unwrap();
        assert_eq!(first.fingerprint, again.fingerprint);
        let passing = Certificate::own(None).unwrap().unwrap();
        assert_ne!(first.fingerprint, passing.fingerprint);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = std::fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }

    #[test]
    fn files_that_cannot_be_used_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let (missing, empty) = (dir.path().join("missing.pem"), dir.path().join("empty.pem"));
        std::fs::write(&empty, "").unwrap();
        for path in [missing, empty] {
            let files = CertificateFiles { certificate: path.clone(), key: path.clone() };
            let error = Certificate::load(&files).unwrap_err().to_string();
            assert!(error.contains(&path.display().to_string()), "{error}");
        }
    }
}
