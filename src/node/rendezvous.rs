//! Which rendezvous a node uses, and hosting the embedded one.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use tracing::info;

use super::error::NodeError;
use crate::net::dial::{CompatUrl, Proxies, Server};
use crate::net::tls::{Fingerprint, TlsError};
use crate::server::{Rendezvous, RendezvousConfig, ServerError};

/// Port of the embedded rendezvous, TCP and UDP, on loopback.
pub const EMBEDDED_PORT: u16 = 7_470;

/// Which rendezvous a node uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RendezvousSpec {
    /// One on this machine's loopback that its nodes host themselves: whoever finds none.
    Embedded {
        /// TCP and UDP port.
        port: u16,
    },
    /// A server.
    Remote {
        /// `host:port` of the registry (TCP).
        registry: String,
        /// `host:port` of the beacon (UDP).
        beacon: String,
        /// Where its WebSocket is, if not on the registry's port.
        compat: Option<CompatUrl>,
        /// Its certificate. With it, the registry is spoken to over TLS, too.
        pin: Option<Fingerprint>,
    },
}

impl RendezvousSpec {
    /// `host:port` of the registry.
    #[must_use]
    pub fn registry(&self) -> String {
        match self {
            Self::Embedded { port } => SocketAddr::from((Ipv4Addr::LOCALHOST, *port)).to_string(),
            Self::Remote { registry, .. } => registry.clone(),
        }
    }

    /// `host:port` of the beacon.
    #[must_use]
    pub fn beacon(&self) -> String {
        match self {
            Self::Embedded { .. } => self.registry(),
            Self::Remote { beacon, .. } => beacon.clone(),
        }
    }
}

impl RendezvousSpec {
    /// The same with all ways to it.
    pub(super) fn server(&self) -> Result<Server, NodeError> {
        match self {
            Self::Embedded { .. } => Ok(Server::plain(self.registry())),
            Self::Remote { registry, compat, pin, .. } => {
                let proxies =
                    Proxies::from_env().map_err(|error| NodeError::Invalid(error.to_string()))?;
                Ok(Server::new(registry, compat.clone(), *pin, proxies))
            }
        }
    }
}

impl fmt::Display for RendezvousSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embedded { port } => write!(f, "embedded:{port}"),
            Self::Remote { registry, beacon, compat, pin } => {
                match registry == beacon {
                    true => f.write_str(registry)?,
                    false => write!(f, "registry={registry},beacon={beacon}")?,
                }
                if let Some(compat) = compat {
                    write!(f, ",compat={compat}")?;
                }
                pin.map_or(Ok(()), |pin| write!(f, ",pin={pin}"))
            }
        }
    }
}

impl FromStr for RendezvousSpec {
    type Err = NodeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || {
            NodeError::Invalid(format!(
                "rendezvous {text:?} is not understood; give host:port, embedded, embedded:port, \
                 or registry=host:port,beacon=host:port, each perhaps with \
                 ,compat=wss://host:port/v1/compat and ,pin=sha256:<hex>"
            ))
        };
        if text == "embedded" {
            return Ok(Self::Embedded { port: EMBEDDED_PORT });
        }
        if let Some(port) = text.strip_prefix("embedded:") {
            return Ok(Self::Embedded { port: port.parse().map_err(|_| invalid())? });
        }
        let is_endpoint = |text: &str| {
            text.rsplit_once(':').is_some_and(|(host, port)| {
                !host.is_empty()
                    && !host.contains('=')
                    && port.parse::<u16>().is_ok_and(|port| port != 0)
            })
        };
        let (mut registry, mut beacon, mut compat, mut pin) = (None, None, None, None);
        let explained = |reason: &dyn fmt::Display| {
            NodeError::Invalid(format!("rendezvous {text:?} is not understood: {reason}"))
        };
        for part in text.split(',').map(str::trim) {
            match part.split_once('=') {
                None if registry.is_none() && beacon.is_none() => {
                    (registry, beacon) = (Some(part), Some(part));
                }
                None => return Err(invalid()),
                Some(("registry", value)) => registry = Some(value),
                Some(("beacon", value)) => beacon = Some(value),
                Some(("compat", value)) => {
                    compat = Some(value.parse().map_err(|reason: String| explained(&reason))?);
                }
                Some(("pin", value)) => {
                    pin = Some(value.parse().map_err(|error: TlsError| explained(&error))?);
                }
                Some(_) => return Err(invalid()),
            }
        }
        match (registry, beacon) {
            (Some(registry), Some(beacon)) if is_endpoint(registry) && is_endpoint(beacon) => {
                let (registry, beacon) = (registry.to_owned(), beacon.to_owned());
                Ok(Self::Remote { registry, beacon, compat, pin })
            }
            _ => Err(invalid()),
        }
    }
}

/// The embedded rendezvous, while this process hosts it.
#[derive(Debug)]
pub(super) struct EmbeddedHost {
    listen: SocketAddr,
    store: PathBuf,
    running: Option<Rendezvous>,
}

impl EmbeddedHost {
    pub(super) fn new(port: u16, home: &Path) -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            store: home.join("rendezvous").join(format!("{port}.redb")),
            running: None,
        }
    }

    pub(super) fn is_hosting(&self) -> bool {
        self.running.is_some()
    }

    /// Hosts it, unless another process on this machine does.
    pub(super) async fn try_host(&mut self) -> Result<(), NodeError> {
        if self.running.is_some() {
            return Ok(());
        }
        let bind = |store| {
            // A guest in this process takes no more than one of its threads.
            let config =
                RendezvousConfig { store, workers: 1, ..RendezvousConfig::new(self.listen) };
            Rendezvous::bind(config)
        };
        let bound = match bind(Some(self.store.clone())).await {
            // Another process may still be closing the database, or the disk may be full: a
            // rendezvous without memory is better than none, as nodes register again by themselves.
            Err(ServerError::Store(_)) => bind(None).await,
            other => other,
        };
        match bound {
            Ok(rendezvous) => {
                info!(addr = %self.listen, "hosting the embedded rendezvous");
                self.running = Some(rendezvous);
                Ok(())
            }
            Err(error) if error.is_addr_in_use() => Ok(()),
            Err(error) => Err(NodeError::Rendezvous {
                rendezvous: self.listen.to_string(),
                reason: error.to_string(),
            }),
        }
    }

    pub(super) async fn shutdown(&mut self) {
        if let Some(rendezvous) = self.running.take() {
            rendezvous.shutdown().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_understood_or_explained() {
        let embedded = |port| RendezvousSpec::Embedded { port };
        assert_eq!("embedded".parse(), Ok(embedded(EMBEDDED_PORT)));
        assert_eq!("embedded:9".parse(), Ok(embedded(9)));
        let one: RendezvousSpec = "rendezvous.example:7470".parse().unwrap();
        assert_eq!((one.registry(), one.beacon()), (one.to_string(), one.to_string()));
        let two: RendezvousSpec = "registry=[::1]:1,beacon=b:2".parse().unwrap();
        assert_eq!((two.registry().as_str(), two.beacon().as_str()), ("[::1]:1", "b:2"));
        let pin = format!("pin=sha256:{}", "ab".repeat(32));
        for text in [
            format!("h:1,compat=wss://c:443/v1/compat,{pin}"),
            format!("registry=a:1,beacon=b:2,{pin}"),
        ] {
            assert_eq!(text.parse::<RendezvousSpec>().unwrap().to_string(), text);
        }
        for bad in ["h:1,compat=https://c", "h:1,pin=sha256:ab"] {
            let error = bad.parse::<RendezvousSpec>().unwrap_err();
            assert!(error.to_string().contains("is not understood: "), "{bad}: {error}");
        }
        for bad in ["", "host", "host:", ":1", "host:0", "host:65536", "registry=a:1", "a:1,b:2"] {
            let error = bad.parse::<RendezvousSpec>().unwrap_err();
            assert!(error.to_string().contains("host:port"), "{bad}: {error}");
        }
    }
}
