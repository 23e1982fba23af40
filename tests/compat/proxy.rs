//! HTTP proxies: tunnels, credentials that rotate, and what is said when they refuse.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pilot_agent::net::compat_client;
use pilot_agent::net::dial::{Proxies, Server};
use pilot_agent::net::registry_client::{RegistryClient, RegistryTimeouts};
use pilot_agent::wire::registry::Request;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufStream, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use super::support::{Agent, discover, receive, rendezvous, send};

/// What a proxy wants, and what it saw.
#[derive(Default)]
struct Book {
    /// `user:password`, if any.
    accepted: Option<String>,
    /// Its answer to everything, instead of a tunnel.
    refusal: Option<&'static str>,
    targets: Vec<String>,
    refused: usize,
}

struct Proxy {
    addr: SocketAddr,
    book: Arc<Mutex<Book>>,
}

impl Proxy {
    /// A proxy that leads to `to`, whatever name it is asked for.
    async fn start(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (addr, book) = (listener.local_addr().unwrap(), Arc::<Mutex<Book>>::default());
        let shared = book.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, to, shared.clone()));
            }
        });
        Self { addr, book }
    }

    /// Proxies for `PILOT_PROXY=http://<user>@<this>`, and a command.
    fn used_with(&self, user: &str, command: Option<&str>) -> Proxies {
        let url = format!("http://{user}{}", self.addr);
        Proxies::from_vars(|name| match name {
            "PILOT_PROXY" => Some(url.clone()),
            "PILOT_PROXY_COMMAND" => command.map(str::to_owned),
            _ => None,
        })
        .unwrap()
    }
}

async fn serve(stream: TcpStream, to: SocketAddr, book: Arc<Mutex<Book>>) {
    let mut stream = BufStream::new(stream);
    let (mut target, mut credentials) = (String::new(), None);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
            return;
        }
        let line = line.trim_end();
        if let Some(rest) = line.strip_prefix("CONNECT ") {
            target = rest.trim_end_matches(" HTTP/1.1").to_owned();
        }
        if let Some(basic) = line.strip_prefix("Proxy-Authorization: Basic ") {
            credentials = Some(String::from_utf8(STANDARD.decode(basic).unwrap()).unwrap());
        }
        if line.is_empty() {
            break;
        }
    }
    let answer = {
        let mut book = book.lock().unwrap();
        book.targets.push(target);
        if let Some(refusal) = book.refusal {
            refusal
        } else if book.accepted.is_some() && book.accepted != credentials {
            book.refused += 1;
            "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n\r\n"
        } else {
            "HTTP/1.1 200 OK\r\n\r\n"
        }
    };
    stream.write_all(answer.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    if answer.starts_with("HTTP/1.1 200")
        && let Ok(mut onward) = TcpStream::connect(to).await
    {
        let _ = copy_bidirectional(&mut stream, &mut onward).await;
    }
}

/// A name that only the proxy can look up.
const NAME: &str = "rendezvous.test:7470";

fn server(proxies: Proxies, pin: Option<pilot_agent::net::tls::Fingerprint>) -> Arc<Server> {
    Arc::new(Server::new(NAME, Some("wss://rendezvous.test".parse().unwrap()), pin, proxies))
}

#[tokio::test]
async fn registry_and_websocket_go_through_a_proxy_by_name() {
    let rendezvous = rendezvous().await;
    let proxy = Proxy::start(rendezvous.local_addr()).await;
    proxy.book.lock().unwrap().accepted = Some("me:p@ss".into());
    let server = server(proxy.used_with("me:p%40ss@", None), rendezvous.fingerprint());
    let agent = Agent::join_by(server, 1, "0.0.0.0:0").await;
    let mut socket = agent.connect().await.unwrap();
    send(&mut socket, discover(&agent)).await;
    assert_eq!(receive(&mut socket).await[0], 0x02);
    let targets = proxy.book.lock().unwrap().targets.clone();
    assert!(targets.iter().all(|target| target.starts_with("rendezvous.test:")), "{targets:?}");
    assert!(targets.contains(&"rendezvous.test:443".to_owned()), "{targets:?}");
    rendezvous.shutdown().await;
}

#[cfg(unix)]
#[tokio::test]
async fn credentials_that_rotate_are_fetched_again_when_they_are_refused() {
    let rendezvous = rendezvous().await;
    let proxy = Proxy::start(rendezvous.local_addr()).await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("credentials");
    let command = format!("cat '{}'", file.display());
    let server = server(proxy.used_with("", Some(&command)), rendezvous.fingerprint());
    let set = |credentials: &str| {
        std::fs::write(&file, credentials).unwrap();
        proxy.book.lock().unwrap().accepted = Some(credentials.to_owned());
    };
    set("me:first");
    let agent = Agent::join_by(server, 1, "0.0.0.0:0").await;
    drop(agent.connect().await.unwrap());
    assert_eq!(proxy.book.lock().unwrap().refused, 0);
    set("me:second");
    drop(agent.connect().await.unwrap());
    assert_eq!(proxy.book.lock().unwrap().refused, 1);
    // The command may print the whole URL, too.
    std::fs::write(&file, format!("http://me:third@{}\n", proxy.addr)).unwrap();
    proxy.book.lock().unwrap().accepted = Some("me:third".into());
    drop(agent.connect().await.unwrap());
    // What it prints is refused: it is not asked for ever.
    proxy.book.lock().unwrap().accepted = Some("me:fourth".into());
    let error = agent.connect().await.unwrap_err().to_string();
    assert!(error.contains("407") && error.contains("PILOT_PROXY_COMMAND"), "{error}");
    assert!(!error.contains("third"), "{error}");
    rendezvous.shutdown().await;
}

#[tokio::test]
async fn what_a_proxy_refuses_is_said_with_advice() {
    let rendezvous = rendezvous().await;
    let proxy = Proxy::start(rendezvous.local_addr()).await;
    let identity = pilot_agent::crypto::Identity::from_seed(&[1; 32]);
    let node = pilot_agent::wire::NodeId(70_000);
    let said = async |proxies: Proxies| {
        let server = server(proxies, rendezvous.fingerprint());
        compat_client::connect(&server, node, &identity).await.unwrap_err().to_string()
    };
    proxy.book.lock().unwrap().accepted = Some("me:secret".into());
    let without = said(proxy.used_with("", None)).await;
    assert!(without.contains("set PILOT_PROXY=http://user:password@host:port"), "{without}");
    let wrong = said(proxy.used_with("me:wrong@", None)).await;
    assert!(wrong.contains("correct user and password") && !wrong.contains("wrong@"), "{wrong}");
    proxy.book.lock().unwrap().refusal = Some("HTTP/1.1 403 Forbidden by policy\r\n\r\n");
    let forbidden = said(proxy.used_with("", None)).await;
    assert!(forbidden.contains("403 Forbidden by policy"), "{forbidden}");
    assert!(forbidden.contains("--tls-listen"), "{forbidden}");
    proxy.book.lock().unwrap().refusal = Some("220 mail.example ESMTP\r\n\r\n");
    let mail = said(proxy.used_with("", None)).await;
    assert!(mail.contains("is it an HTTP proxy?"), "{mail}");
    let dead = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let unreachable = said(Proxy { addr: dead, book: Arc::default() }.used_with("", None)).await;
    assert!(unreachable.contains("check PILOT_PROXY"), "{unreachable}");
    rendezvous.shutdown().await;
}

#[tokio::test]
async fn a_web_server_on_the_https_port_is_no_registry() {
    // Port 443 is a guess, so it is looked at before it is taken.
    let web = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = web.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = web.accept().await {
            let _ = stream.read(&mut [0; 64]).await;
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    let proxy = Proxy::start(addr).await;
    let server = Server::new(NAME, None, None, proxy.used_with("", None));
    let client = RegistryClient::of(Arc::new(server), RegistryTimeouts::default());
    let error = client.call(Request::BeaconList {}).await.unwrap_err().to_string();
    assert!(error.contains("rendezvous.test:7470"), "{error}");
}
