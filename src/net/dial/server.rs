//! A rendezvous as its clients see it: by which ways it may be reached.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};

use super::{Proxies, Way, authority, split_authority};
use crate::net::tls::{Fingerprint, Trust};
use crate::wire::compat::PATH;

/// The port that is open where others are not.
const HTTPS: u16 = 443;

/// Where a beacon takes WebSocket connections: `wss://host[:port][/path]`, or `ws://`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CompatUrl {
    host: String,
    port: u16,
    path: String,
    is_tls: bool,
}

impl fmt::Display for CompatUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_tls { "wss" } else { "ws" };
        write!(f, "{scheme}://{}{}", authority(&self.host, self.port), self.path)
    }
}

impl FromStr for CompatUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let invalid = || format!("{text:?} is not understood; give wss://host:port{PATH}");
        let (is_tls, rest) = match text.split_once("://") {
            Some(("wss", rest)) => (true, rest),
            Some(("ws", rest)) => (false, rest),
            _ => return Err(invalid()),
        };
        let (host, path) = rest.find('/').map_or((rest, PATH), |slash| rest.split_at(slash));
        let path = if path == "/" { PATH } else { path };
        let is_sane = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
        let default = if is_tls { HTTPS } else { 80 };
        let (host, port) = split_authority(host)
            .or_else(|| split_authority(&format!("{host}:{default}")))
            .filter(|(_, port)| *port != 0)
            .ok_or_else(invalid)?;
        if !is_sane(&host) || !is_sane(path) {
            return Err(invalid());
        }
        Ok(Self { host, port, path: path.to_owned(), is_tls })
    }
}

/// See the [module](self).
#[derive(Debug)]
pub struct Server {
    name: String,
    registry: Option<(String, u16)>,
    compat: Option<CompatUrl>,
    pin: Option<Fingerprint>,
    /// What the registry said of its certificate.
    learned: Mutex<Option<Fingerprint>>,
    proxies: Proxies,
    /// One way only.
    is_plain: bool,
}

impl Server {
    /// The registry at `host:port`, by plain TCP and nothing else.
    #[must_use]
    pub fn plain(addr: impl Into<String>) -> Self {
        let mut server = Self::new(addr, None, None, Proxies::default());
        server.is_plain = true;
        server
    }

    /// The registry at `host:port`, its WebSocket elsewhere if `compat` says so. With a `pin` all
    /// is TLS, and no other certificate is believed.
    #[must_use]
    pub fn new(
        registry: impl Into<String>,
        compat: Option<CompatUrl>,
        pin: Option<Fingerprint>,
        proxies: Proxies,
    ) -> Self {
        let name = registry.into();
        let registry = split_authority(&name);
        Self { name, registry, compat, pin, learned: Mutex::new(None), proxies, is_plain: false }
    }

    /// `host:port` of the registry.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The proxies in between.
    #[must_use]
    pub fn proxies(&self) -> &Proxies {
        &self.proxies
    }

    /// Whether there is a proxy, which may know names that we do not.
    #[must_use]
    pub fn is_proxied(&self) -> bool {
        self.compat_ways().iter().any(|way| way.proxied)
    }

    /// The path of the WebSocket.
    #[must_use]
    pub fn compat_path(&self) -> &str {
        self.compat.as_ref().map_or(PATH, |compat| &compat.path)
    }

    /// Whether there is anything but plain TCP and UDP.
    #[must_use]
    pub fn has_compat(&self) -> bool {
        !self.is_plain
    }

    /// The registry has said by which fingerprint its certificate is known, if it says so. A pin
    /// that the user gave stands above it.
    pub fn learn(&self, fingerprint: &str) {
        let Ok(fingerprint) = fingerprint.parse() else { return };
        *self.learned.lock().unwrap_or_else(PoisonError::into_inner) = Some(fingerprint);
    }

    /// The ways to the registry, best first.
    #[must_use]
    pub fn registry_ways(&self) -> Vec<Way> {
        let Some((host, port)) = &self.registry else { return self.unparsed() };
        let first = self.pin.is_some().then(|| self.trust());
        let mut ways = self.direct_and_proxied(host, *port, first);
        if self.is_plain {
            ways.truncate(1);
            return ways;
        }
        match &self.compat {
            Some(compat) if compat.is_tls => {
                ways.extend(self.direct_and_proxied(&compat.host, compat.port, Some(self.trust())));
            }
            _ => ways.extend(self.guesses(host, *port)),
        }
        ways
    }

    /// The ways to the WebSocket, best first.
    #[must_use]
    pub fn compat_ways(&self) -> Vec<Way> {
        if let Some(compat) = &self.compat {
            let trust = compat.is_tls.then(|| self.trust());
            return self.direct_and_proxied(&compat.host, compat.port, trust);
        }
        let Some((host, port)) = &self.registry else { return self.unparsed() };
        let mut ways = self.direct_and_proxied(host, *port, Some(self.trust()));
        ways.extend(self.guesses(host, *port));
        ways
    }

    fn trust(&self) -> Trust {
        let learned = *self.learned.lock().unwrap_or_else(PoisonError::into_inner);
        Trust { pin: self.pin.or(learned), pin_only: self.pin.is_some() }
    }

    /// Straight, and through the proxy if there is one; only that if it is for everything.
    fn direct_and_proxied(&self, host: &str, port: u16, tls: Option<Trust>) -> Vec<Way> {
        let has_proxy = self.proxies.applies_to(host, port);
        let way = |proxied| Way { host: host.to_owned(), port, tls, proxied, is_guess: false };
        match (has_proxy, self.proxies.is_forced()) {
            (false, _) => vec![way(false)],
            (true, true) => vec![way(true)],
            (true, false) => {
                // What is not encrypted is often not let through.
                let tls = Some(tls.unwrap_or_else(|| self.trust()));
                vec![way(false), Way { tls, ..way(true) }]
            }
        }
    }

    /// The HTTPS port of the same host. Nobody has one on a loopback by chance.
    fn guesses(&self, host: &str, port: u16) -> Vec<Way> {
        let is_loopback = host == "localhost"
            || host.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback());
        if is_loopback || port == HTTPS {
            return Vec::new();
        }
        let mut ways = self.direct_and_proxied(host, HTTPS, Some(self.trust()));
        ways.iter_mut().for_each(|way| way.is_guess = true);
        ways
    }

    /// A name that is no `host:port` fails as the operating system says.
    fn unparsed(&self) -> Vec<Way> {
        vec![Way { host: self.name.clone(), port: 0, tls: None, proxied: false, is_guess: false }]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(vars: &[(&str, &str)]) -> Proxies {
        Proxies::from_vars(|name| {
            vars.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
        .unwrap()
    }

    fn texts(ways: &[Way]) -> Vec<String> {
        ways.iter()
            .map(|way| format!("{way}{}", if way.proxied { " by proxy" } else { "" }))
            .collect()
    }

    #[test]
    fn the_plain_way_comes_first_and_https_last() {
        let server = Server::new("h:7470", None, None, Proxies::default());
        assert_eq!(texts(&server.registry_ways()), ["h:7470", "h:443 (TLS)"]);
        assert_eq!(texts(&server.compat_ways()), ["h:7470 (TLS)", "h:443 (TLS)"]);
        let local = Server::new("127.0.0.1:7470", None, None, Proxies::default());
        assert_eq!(texts(&local.registry_ways()), ["127.0.0.1:7470"]);
        assert_eq!(texts(&Server::plain("h:1").registry_ways()), ["h:1"]);
    }

    #[test]
    fn a_proxy_of_the_environment_is_a_second_way_and_one_of_ours_the_only_one() {
        let common = proxies(&[("HTTPS_PROXY", "http://p:1")]);
        let server = Server::new("h:443", None, None, common);
        assert_eq!(texts(&server.registry_ways()), ["h:443", "h:443 (TLS) by proxy"]);
        let own = proxies(&[("PILOT_PROXY", "http://p:1")]);
        let compat = "wss://c".parse().unwrap();
        let server = Server::new("h:1", Some(compat), None, own);
        assert_eq!(texts(&server.registry_ways()), ["h:1 by proxy", "c:443 (TLS) by proxy"]);
        assert_eq!(texts(&server.compat_ways()), ["c:443 (TLS) by proxy"]);
    }

    #[test]
    fn a_pin_means_tls_and_stands_above_what_is_learned() {
        let [pin, other] = [Fingerprint([1; 32]), Fingerprint([2; 32])];
        let pinned = Server::new("h:443", None, Some(pin), Proxies::default());
        pinned.learn(&other.to_string());
        let trust = Trust { pin: Some(pin), pin_only: true };
        assert!(pinned.registry_ways().iter().all(|way| way.tls == Some(trust)));
        let learning = Server::new("h:443", None, None, Proxies::default());
        learning.learn(&other.to_string());
        let trust = Trust { pin: Some(other), pin_only: false };
        assert_eq!(learning.compat_ways()[0].tls, Some(trust));
    }

    #[test]
    fn compat_urls_are_understood_or_explained() {
        for (text, full) in [
            ("wss://h", "wss://h:443/v1/compat"),
            ("wss://h:1/", "wss://h:1/v1/compat"),
            ("ws://[::1]:80/other", "ws://[::1]:80/other"),
        ] {
            assert_eq!(text.parse::<CompatUrl>().unwrap().to_string(), full);
        }
        for bad in ["", "h", "https://h", "wss://", "wss://h:0", "wss://h/a b", "wss://h\r\nx"] {
            assert!(bad.parse::<CompatUrl>().unwrap_err().contains("wss://"), "{bad}");
        }
    }
}
