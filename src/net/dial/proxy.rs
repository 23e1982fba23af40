//! Which proxy is in the way, and its credentials.
//!
//! | variable | what |
//! |---|---|
//! | `PILOT_PROXY` | the proxy for everything but loopback; `off`: none at all |
//! | `HTTPS_PROXY`, `https_proxy`, `ALL_PROXY`, `all_proxy` | tried where the direct way fails |
//! | `NO_PROXY`, `no_proxy` | hosts (`.domain`, `host`, `host:port`, `*`) without a proxy |
//! | `PILOT_PROXY_COMMAND` | prints the proxy's URL, or `user:password` for it |

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use super::command::{self, CommandError};
use super::{authority, split_authority};

/// What the command printed is used for this long.
const FRESH: Duration = Duration::from_secs(60);

/// Why a proxy is of no use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProxyError {
    /// Not a proxy of a kind that is supported.
    #[error("proxy {0:?} is not understood; give http://[user:password@]host:port, or https://")]
    Url(String),
    /// There is no connection to it.
    #[error("the proxy {proxy} is unreachable: {reason}; check PILOT_PROXY or HTTPS_PROXY")]
    Unreachable {
        /// Which.
        proxy: String,
        /// Why not.
        reason: String,
    },
    /// It wants credentials, or others.
    #[error("the proxy {proxy} refuses the credentials (407): {advice}")]
    Credentials {
        /// Which.
        proxy: String,
        /// What to do.
        advice: &'static str,
    },
    /// It does not let us through.
    #[error(
        "the proxy {proxy} refuses a tunnel to {target}: {answer}; ask its operator to allow \
         CONNECT to that port, or run the rendezvous on port 443 (--tls-listen)"
    )]
    Refused {
        /// Which.
        proxy: String,
        /// Whither.
        target: String,
        /// What it answered.
        answer: String,
    },
    /// It is no proxy.
    #[error("the proxy {proxy} answers nonsense: {reason}; is it an HTTP proxy?")]
    Nonsense {
        /// Which.
        proxy: String,
        /// What was wrong.
        reason: String,
    },
    /// The command for credentials.
    #[error(transparent)]
    Command(#[from] CommandError),
}

/// A proxy.
#[derive(Clone, PartialEq, Eq)]
pub struct ProxyUrl {
    /// TLS to the proxy itself.
    pub is_tls: bool,
    /// Name or IP address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// `user:password`, decoded.
    pub credentials: Option<String>,
}

impl fmt::Display for ProxyUrl {
    /// Without the credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_tls { "https" } else { "http" };
        write!(f, "{scheme}://{}", authority(&self.host, self.port))
    }
}

impl fmt::Debug for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ProxyUrl {
    type Err = ProxyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // Only what is before the last @ can be secret.
        let shown = || text.rsplit_once('@').map_or(text, |(_, rest)| rest).to_owned();
        let invalid = || ProxyError::Url(shown());
        let (is_tls, rest) = match text.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (false, rest),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (true, rest),
            Some(_) => return Err(invalid()),
            None => (false, text),
        };
        let (userinfo, rest) = match rest.rsplit_once('@') {
            Some((userinfo, rest)) => (Some(userinfo), rest),
            None => (None, rest),
        };
        let rest = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let default = if is_tls { 443 } else { 80 };
        let has_port = rest.rsplit_once(':').is_some_and(|(_, port)| !port.contains(']'));
        let with_port = if has_port { rest.to_owned() } else { format!("{rest}:{default}") };
        let (host, port) = split_authority(&with_port).ok_or_else(invalid)?;
        if host.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
            return Err(invalid());
        }
        let credentials = userinfo.map(|text| percent_decoded(text).ok_or_else(invalid));
        Ok(Self { is_tls, host, port, credentials: credentials.transpose()? })
    }
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let pair = [bytes.next()?, bytes.next()?];
                u8::from_str_radix(std::str::from_utf8(&pair).ok()?, 16).ok()?
            }
            other => other,
        });
    }
    String::from_utf8(decoded).ok()
}

/// The proxies of this process's environment.
#[derive(Debug, Default)]
pub struct Proxies {
    proxy: Option<ProxyUrl>,
    /// Everything must go through it.
    is_forced: bool,
    no_proxy: Vec<String>,
    command: Option<String>,
    /// What the command printed, and when.
    printed: Mutex<Option<(Instant, String)>>,
}

impl Proxies {
    /// Reads the environment; see the [module](super).
    ///
    /// # Errors
    /// `PILOT_PROXY` is not understood. Other variables that are not are ignored, as they are not
    /// meant for us alone.
    pub fn from_env() -> Result<Self, ProxyError> {
        Self::from_vars(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
    }

    /// The same from variables given by `get`.
    ///
    /// # Errors
    /// As [`from_env`](Self::from_env).
    pub fn from_vars(get: impl Fn(&str) -> Option<String>) -> Result<Self, ProxyError> {
        let first = |names: &[&str]| names.iter().find_map(|name| get(name));
        let off = ["off", "none", "no", "false", "direct"];
        let (proxy, is_forced) = match get("PILOT_PROXY").as_deref() {
            Some("auto") | None => {
                let names = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
                (first(&names).and_then(|url| url.parse().ok()), false)
            }
            Some(text) if off.contains(&text) => return Ok(Self::default()),
            Some(url) => (Some(url.parse()?), true),
        };
        let no_proxy = first(&["NO_PROXY", "no_proxy"]).unwrap_or_default();
        Ok(Self {
            proxy,
            is_forced,
            no_proxy: no_proxy.split(',').map(|one| one.trim().to_lowercase()).collect(),
            command: first(&["PILOT_PROXY_COMMAND", "PILOT_PROXY_CMD"]),
            printed: Mutex::new(None),
        })
    }

    /// Whether nothing but loopback may be reached without the proxy.
    #[must_use]
    pub fn is_forced(&self) -> bool {
        self.is_forced
    }

    /// Whether connections to this host go through a proxy.
    #[must_use]
    pub fn applies_to(&self, host: &str, port: u16) -> bool {
        let host = host.trim_end_matches('.').to_lowercase();
        let is_loopback = host == "localhost"
            || host.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback());
        let is_excepted = self.no_proxy.iter().any(|pattern| {
            let (pattern, of_port) = match split_authority(pattern) {
                Some((name, port)) => (name, Some(port)),
                None => (pattern.clone(), None),
            };
            let domain = pattern.trim_start_matches('*').trim_start_matches('.');
            let matches = pattern == "*"
                || !domain.is_empty()
                    && (host == domain
                        || host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.')));
            matches && of_port.is_none_or(|of_port| of_port == port)
        });
        (self.proxy.is_some() || self.command.is_some()) && !is_loopback && !is_excepted
    }

    /// The proxy with credentials as fresh as can be had; `again` if the last ones were refused.
    /// `None` if there is none.
    pub(super) async fn current(&self, again: bool) -> Result<Option<ProxyUrl>, ProxyError> {
        let Some(command) = &self.command else { return Ok(self.proxy.clone()) };
        let mut printed = self.printed.lock().await;
        let line = match &*printed {
            Some((when, line)) if !again && when.elapsed() < FRESH => line.clone(),
            _ => {
                let line = command::run(command.clone()).await?;
                *printed = Some((Instant::now(), line.clone()));
                line
            }
        };
        if line.contains("://") {
            return line.parse().map(Some);
        }
        let mut proxy = self.proxy.clone().ok_or_else(|| {
            ProxyError::Url("without PILOT_PROXY or HTTPS_PROXY the command must print it".into())
        })?;
        proxy.credentials = Some(line);
        Ok(Some(proxy))
    }

    /// What to do when the proxy refuses the credentials.
    pub(super) fn advice(&self, proxy: &ProxyUrl) -> &'static str {
        match (&self.command, &proxy.credentials) {
            (Some(_), _) => "PILOT_PROXY_COMMAND printed others than it accepts, twice",
            (None, Some(_)) => {
                "correct user and password in PILOT_PROXY, or set PILOT_PROXY_COMMAND to a command \
                 that prints fresh ones"
            }
            (None, None) => {
                "set PILOT_PROXY=http://user:password@host:port, or PILOT_PROXY_COMMAND to a \
                 command that prints user:password"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn proxies(vars: &[(&str, &str)]) -> Result<Proxies, ProxyError> {
        Proxies::from_vars(|name| {
            vars.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn urls_are_understood_or_explained_without_their_secret() {
        let url: ProxyUrl = "http://us%40er:p%3aw@proxy.example:3128/".parse().unwrap();
        assert_eq!((url.host.as_str(), url.port, url.is_tls), ("proxy.example", 3128, false));
        assert_eq!(url.credentials.as_deref(), Some("us@er:p:w"));
        assert_eq!(format!("{url} {url:?}").matches('@').count(), 0);
        let ports = ["proxy", "https://proxy", "[::1]", "http://[::1]:8080"]
            .map(|text| text.parse::<ProxyUrl>().unwrap().port);
        assert_eq!(ports, [80, 443, 80, 8080]);
        for bad in ["socks5://u:secret@h:1", "", "http://", "http://u:secret@h:x", "h\r\n:1"] {
            let error = bad.parse::<ProxyUrl>().unwrap_err().to_string();
            assert!(error.contains("http://[user") && !error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn the_environment_decides() {
        let own = proxies(&[("PILOT_PROXY", "http://a:1"), ("HTTPS_PROXY", "http://b:2")]).unwrap();
        assert!(own.is_forced() && own.proxy.as_ref().unwrap().host == "a");
        let common = proxies(&[("https_proxy", "http://b:2"), ("NO_PROXY", "x.org, .in.y,z:80")]);
        let common = common.unwrap();
        assert!(!common.is_forced());
        for (host, port, expected) in [
            ("h", 443, true),
            ("x.org", 443, false),
            ("a.x.org", 443, false),
            ("ax.org", 443, true),
            ("deep.in.y", 443, false),
            ("z", 80, false),
            ("z", 443, true),
            ("localhost", 443, false),
            ("127.0.0.2", 443, false),
            ("::1", 443, false),
        ] {
            assert_eq!(common.applies_to(host, port), expected, "{host}:{port}");
        }
        let off = proxies(&[("PILOT_PROXY", "off"), ("HTTPS_PROXY", "http://b:2")]).unwrap();
        assert!(!off.applies_to("h", 443));
        assert!(!proxies(&[("ALL_PROXY", "socks5://b:2")]).unwrap().applies_to("h", 443));
        assert!(proxies(&[("PILOT_PROXY", "socks5://b:2")]).is_err());
        assert!(!proxies(&[]).unwrap().applies_to("h", 443));
    }

    proptest! {
        #[test]
        fn any_text_is_a_proxy_or_not(text in ".*") {
            if let Ok(url) = text.parse::<ProxyUrl>() {
                prop_assert!(!url.host.contains(['\r', '\n', ' ']));
            }
        }
    }
}
