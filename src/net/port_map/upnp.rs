//! As much of UPnP-IGD as a port mapping takes: finding the router by SSDP, and three calls.
//!
//! What routers send is looked through for the few texts that matter, not parsed as XML, and only
//! the gateway itself is listened to: nobody else in the network can have us call addresses of his
//! choice.
//!
//! # Why not a crate
//! The maintained one brings an HTTP client and fifty more crates for these three calls.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{timeout, timeout_at};

/// Where devices listen for searches.
const SSDP: (Ipv4Addr, u16) = (Ipv4Addr::new(239, 255, 255, 250), 1900);
/// A router answers a search after a random time of up to the second that it is given.
const SEARCH: Duration = Duration::from_millis(1_500);
/// For one call.
const CALL: Duration = Duration::from_secs(2);
/// Longest answer that is read.
const MAX_ANSWER: u64 = 256 << 10;
/// Services that map ports, of both versions and both kinds of uplink.
const SERVICES: [&str; 3] = [
    "urn:schemas-upnp-org:service:WANIPConnection:1",
    "urn:schemas-upnp-org:service:WANIPConnection:2",
    "urn:schemas-upnp-org:service:WANPPPConnection:1",
];
/// Error of routers that know only mappings for ever.
const ONLY_PERMANENT: &str = "<errorCode>725</errorCode>";

/// A router's service that maps ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Igd {
    addr: SocketAddr,
    path: String,
    service: &'static str,
}

impl Igd {
    /// Looks for it at `gateway`.
    ///
    /// # Errors
    /// It does not answer, or maps no ports.
    pub(super) async fn find(gateway: Ipv4Addr) -> io::Result<Self> {
        let location = search(gateway, SSDP.1).await?;
        Self::described_at(&location, gateway).await
    }

    async fn described_at(location: &str, gateway: Ipv4Addr) -> io::Result<Self> {
        let (addr, path) =
            url(location).filter(|(addr, _)| addr.ip() == gateway).ok_or_else(odd)?;
        let description =
            http(addr, &format!("GET {path} HTTP/1.0\r\nHost: {addr}\r\n\r\n")).await?;
        let found = SERVICES.iter().find_map(|service| {
            let (_, rest) = description.split_once(&format!("<serviceType>{service}<"))?;
            let rest = rest.split_once("</service>").map_or(rest, |(own, _)| own);
            Some((*service, element(rest, "controlURL")?.trim().to_owned()))
        });
        let (service, control) = found.ok_or_else(odd)?;
        let (addr, path) = match url(&control) {
            Some(absolute) => absolute,
            None => (addr, format!("/{}", control.trim_start_matches('/'))),
        };
        if addr.ip() != gateway {
            return Err(odd());
        }
        Ok(Self { addr, path, service })
    }

    /// Has it forward the same port to `own`.
    ///
    /// # Errors
    /// It refuses.
    pub(super) async fn add(&self, own: SocketAddr, seconds: u32) -> io::Result<()> {
        let (ip, port) = (own.ip(), own.port());
        let arguments = |seconds| {
            format!(
                "<NewRemoteHost></NewRemoteHost><NewExternalPort>{port}</NewExternalPort>\
                 <NewProtocol>UDP</NewProtocol><NewInternalPort>{port}</NewInternalPort>\
                 <NewInternalClient>{ip}</NewInternalClient><NewEnabled>1</NewEnabled>\
                 <NewPortMappingDescription>pilot-agent</NewPortMappingDescription>\
                 <NewLeaseDuration>{seconds}</NewLeaseDuration>"
            )
        };
        let answer = self.call("AddPortMapping", &arguments(seconds)).await?;
        let answer = match answer.contains(ONLY_PERMANENT) {
            true => self.call("AddPortMapping", &arguments(0)).await?,
            false => answer,
        };
        answer.contains("AddPortMappingResponse").then_some(()).ok_or_else(odd)
    }

    /// Its outside address.
    ///
    /// # Errors
    /// It does not tell.
    pub(super) async fn external_ip(&self) -> io::Result<IpAddr> {
        let answer = self.call("GetExternalIPAddress", "").await?;
        let ip = element(&answer, "NewExternalIPAddress").and_then(|ip| ip.trim().parse().ok());
        ip.ok_or_else(odd)
    }

    /// Has it forget the port.
    ///
    /// # Errors
    /// It does not answer.
    pub(super) async fn delete(&self, port: u16) -> io::Result<()> {
        let arguments = format!(
            "<NewRemoteHost></NewRemoteHost><NewExternalPort>{port}</NewExternalPort>\
             <NewProtocol>UDP</NewProtocol>"
        );
        self.call("DeletePortMapping", &arguments).await.map(drop)
    }

    async fn call(&self, action: &str, arguments: &str) -> io::Result<String> {
        let Self { addr, path, service } = self;
        let body = format!(
            "<?xml version=\"1.0\"?>\r\n<s:Envelope \
             xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\" \
             s:encodingStyle=\"http://schemas.xmlsoap.org/soap/encoding/\"><s:Body>\
             <u:{action} xmlns:u=\"{service}\">{arguments}</u:{action}></s:Body></s:Envelope>"
        );
        let head = format!(
            "POST {path} HTTP/1.0\r\nHost: {addr}\r\nContent-Type: text/xml; charset=\"utf-8\"\r\n\
             SOAPAction: \"{service}#{action}\"\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        http(*addr, &(head + &body)).await
    }
}

/// Asks who maps ports, and returns where the gateway says that it describes itself.
async fn search(gateway: Ipv4Addr, port: u16) -> io::Result<String> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
    for to in [(gateway, port), SSDP] {
        for target in ["urn:schemas-upnp-org:device:InternetGatewayDevice:1", SERVICES[0]] {
            let question = format!(
                "M-SEARCH * HTTP/1.1\r\nHost: 239.255.255.250:1900\r\n\
                 Man: \"ssdp:discover\"\r\nMX: 1\r\nST: {target}\r\n\r\n"
            );
            // There may be no way for a multicast, or nobody at the port.
            let _ = socket.send_to(question.as_bytes(), to).await;
        }
    }
    let mut buffer = [0; 2_048];
    let deadline = tokio::time::Instant::now() + SEARCH;
    loop {
        let (len, from) = match timeout_at(deadline, socket.recv_from(&mut buffer)).await {
            Ok(Ok(received)) => received,
            // The echo of a question that nobody listened for.
            Ok(Err(_)) => continue,
            Err(_) => return Err(io::ErrorKind::TimedOut.into()),
        };
        let answer = String::from_utf8_lossy(buffer.get(..len).unwrap_or_default()).into_owned();
        let location = answer.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("location").then(|| value.trim().to_owned())
        });
        if let Some(location) = location
            && from.ip() == gateway
        {
            return Ok(location);
        }
    }
}

/// One exchange over HTTP; the answer with its head. Version 1.0 has it whole and ends with it.
async fn http(addr: SocketAddr, request: &str) -> io::Result<String> {
    let exchange = async {
        let mut stream = TcpStream::connect(addr).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.take(MAX_ANSWER).read_to_end(&mut answer).await?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    timeout(CALL, exchange).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Address and path of `http://address:port/path`. Names are not looked up: routers give numbers.
fn url(text: &str) -> Option<(SocketAddr, String)> {
    let rest = text.trim().strip_prefix("http://")?;
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let addr = host.parse().ok().or_else(|| Some(SocketAddr::new(host.parse().ok()?, 80)))?;
    let is_plain = path.chars().all(|c| c.is_ascii_graphic());
    is_plain.then(|| (addr, format!("/{path}")))
}

/// The text of the first element of this name.
fn element<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    rest.split_once("</").map(|(value, _)| value)
}

fn odd() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the router's answer is not as expected")
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;
    use tokio::sync::mpsc;

    use super::*;

    const DESCRIPTION: &str = "<root><service>\
        <serviceType>urn:schemas-upnp-org:service:Layer3Forwarding:1</serviceType>\
        <controlURL>/not/this</controlURL></service><service>\
        <serviceType>urn:schemas-upnp-org:service:WANIPConnection:1</serviceType>\
        <SCPDURL>/WANIPCn.xml</SCPDURL><controlURL>/ctl/IPConn</controlURL></service></root>";

    /// A router at `at`: tells what it was called.
    async fn router(at: Ipv4Addr) -> (SocketAddr, mpsc::Receiver<String>) {
        let listener = TcpListener::bind((at, 0)).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (told, calls) = mpsc::channel(16);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = vec![0; 4_096];
                let mut len = 0;
                loop {
                    len += stream.read(&mut request[len..]).await.unwrap();
                    let text = String::from_utf8_lossy(&request[..len]);
                    if text.starts_with("GET") || text.contains("</s:Envelope>") {
                        break;
                    }
                }
                let text = String::from_utf8_lossy(&request[..len]).into_owned();
                let body = if text.starts_with("GET /desc.xml ") {
                    DESCRIPTION.to_owned()
                } else if text.contains("#GetExternalIPAddress\"") {
                    "<NewExternalIPAddress>203.0.113.9</NewExternalIPAddress>".to_owned()
                } else if text.contains("<NewLeaseDuration>7200<") {
                    "<errorCode>725</errorCode>".to_owned()
                } else {
                    "<u:AddPortMappingResponse/>".to_owned()
                };
                let _ = told.send(text).await;
                let answer = format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{body}");
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        (addr, calls)
    }

    #[tokio::test]
    async fn a_port_is_mapped_for_ever_where_nothing_else_goes() {
        let gateway = Ipv4Addr::new(127, 53, 51, 9);
        let (addr, mut calls) = router(gateway).await;
        let igd = Igd::described_at(&format!("http://{addr}/desc.xml"), gateway).await.unwrap();
        assert_eq!((igd.addr, igd.path.as_str()), (addr, "/ctl/IPConn"));
        assert!(calls.recv().await.unwrap().starts_with("GET /desc.xml HTTP/1.0\r\n"));
        igd.add("192.168.1.5:4000".parse().unwrap(), 7_200).await.unwrap();
        let refused = calls.recv().await.unwrap();
        assert!(refused.starts_with("POST /ctl/IPConn ") && refused.contains(">7200<"));
        let granted = calls.recv().await.unwrap();
        assert!(granted.contains("<NewInternalClient>192.168.1.5</NewInternalClient>"));
        assert!(granted.contains("<NewLeaseDuration>0<"));
        assert_eq!(igd.external_ip().await.unwrap(), IpAddr::from([203, 0, 113, 9]));
        igd.delete(4000).await.unwrap();
    }

    #[tokio::test]
    async fn the_gateway_is_found_and_nobody_else_believed() {
        let gateway = Ipv4Addr::new(127, 53, 51, 10);
        let ssdp = UdpSocket::bind((gateway, 0)).await.unwrap();
        let port = ssdp.local_addr().unwrap().port();
        tokio::spawn(async move {
            let stranger = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            let mut buffer = [0; 1_024];
            let (_, from) = ssdp.recv_from(&mut buffer).await.unwrap();
            let say =
                |host| format!("HTTP/1.1 200 OK\r\nLOCATION: http://{host}:5000/desc.xml\r\n\r\n");
            stranger.send_to(say("127.0.0.1").as_bytes(), from).await.unwrap();
            ssdp.send_to(say("127.53.51.10").as_bytes(), from).await.unwrap();
        });
        assert_eq!(search(gateway, port).await.unwrap(), "http://127.53.51.10:5000/desc.xml");
        let elsewhere = Igd::described_at("http://192.0.2.1:5000/desc.xml", gateway).await;
        assert_eq!(elsewhere.unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn urls_of_routers_are_read() {
        let expected = ("192.168.1.1:5000".parse().unwrap(), "/a/b.xml".to_owned());
        assert_eq!(url("http://192.168.1.1:5000/a/b.xml"), Some(expected));
        let expected = ("192.168.1.1:80".parse().unwrap(), "/".to_owned());
        assert_eq!(url(" http://192.168.1.1"), Some(expected));
        for bad in ["", "https://192.168.1.1/", "http://router/", "http://1.2.3.4/a b\r\nX: y"] {
            assert_eq!(url(bad), None, "{bad}");
        }
    }
}
