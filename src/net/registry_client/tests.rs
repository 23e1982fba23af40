use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;
use crate::wire::NodeId;

/// Short enough to wait for, long enough for a busy machine.
fn timeouts() -> RegistryTimeouts {
    RegistryTimeouts {
        reply: Duration::from_millis(300),
        call: Duration::from_secs(20),
        min_backoff: Duration::from_millis(1),
        ..RegistryTimeouts::default()
    }
}

/// A server that runs `serve` for each connection, and the client for it.
async fn client_of<F, Fut>(serve: F) -> (RegistryClient, JoinHandle<()>)
where
    F: Fn(TcpStream, usize) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let server = tokio::spawn(async move {
        for n in 0.. {
            let Ok((stream, _)) = listener.accept().await else { return };
            tokio::spawn(serve(stream, n));
        }
    });
    (RegistryClient::new(addr, timeouts()), server)
}

async fn read_request(stream: &mut TcpStream) -> Option<Request> {
    let len = stream.read_u32().await.ok()?;
    let mut body = vec![0; len as usize];
    stream.read_exact(&mut body).await.ok()?;
    Request::parse(&body).ok()
}

async fn write_response(stream: &mut TcpStream, response: &Response) {
    let mut frame = Vec::new();
    response.encode(&mut frame).unwrap();
    let _ = stream.write_all(&frame).await;
}

/// A registry that answers a heartbeat of node n with time n, and refuses the rest.
async fn well_behaved(mut stream: TcpStream) {
    while let Some(request) = read_request(&mut stream).await {
        let response = match request {
            Request::Heartbeat { node_id, .. } => {
                Response::HeartbeatOk { time: node_id.0.into(), key_expiry_warning: false }
            }
            _ => Response::error(ErrorCode::Unsupported, "no"),
        };
        write_response(&mut stream, &response).await;
    }
}

fn heartbeat(node: u32) -> Request {
    Request::Heartbeat { node_id: NodeId(node), signature: None }
}

fn answer(time: u64) -> Result<Response, RegistryError> {
    Ok(Response::HeartbeatOk { time, key_expiry_warning: false })
}

#[tokio::test]
async fn concurrent_calls_get_their_own_answers() {
    let (client, server) = client_of(|stream, _| well_behaved(stream)).await;
    let calls: Vec<_> = (1..=200)
        .map(|node| {
            let client = client.clone();
            tokio::spawn(async move { (node, client.call(heartbeat(node)).await) })
        })
        .collect();
    for call in calls {
        let (node, result) = call.await.unwrap();
        assert_eq!(result, answer(node.into()));
    }
    server.abort();
}

#[tokio::test]
async fn a_refusal_carries_the_registrys_words() {
    let (client, server) = client_of(|stream, _| well_behaved(stream)).await;
    let error = client.call(Request::ListNetworks {}).await.unwrap_err();
    assert_eq!(error.to_string(), "registry refused `list_networks`: no");
    server.abort();
}

#[tokio::test]
async fn nobody_listening_is_unreachable_and_says_where() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    drop(listener);
    let client = RegistryClient::new(addr.clone(), timeouts());
    let error = client.call(heartbeat(1)).await.unwrap_err();
    assert!(matches!(error, RegistryError::Unreachable { .. }), "{error:?}");
    assert!(error.to_string().contains(&addr), "{error}");
}

#[tokio::test]
async fn a_registry_that_hangs_costs_one_reply_timeout() {
    let (client, server) = client_of(|mut stream, n| async move {
        if n > 0 {
            return well_behaved(stream).await;
        }
        let _ = read_request(&mut stream).await;
        std::future::pending::<()>().await;
    })
    .await;
    let error = client.call(heartbeat(1)).await.unwrap_err();
    assert!(matches!(error, RegistryError::Hung { request: "heartbeat", .. }), "{error:?}");
    assert_eq!(client.call(heartbeat(2)).await, answer(2), "the next call gets a new connection");
    server.abort();
}

#[tokio::test]
async fn a_registry_that_dribbles_is_bounded_by_the_call_timeout() {
    let (client, server) = client_of(|mut stream, _| async move {
        let _ = read_request(&mut stream).await;
        let mut frame = Vec::new();
        Response::DeregisterOk {}.encode(&mut frame).unwrap();
        for byte in frame {
            if stream.write_all(&[byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
    let error = client.call(heartbeat(1)).await.unwrap_err();
    assert!(matches!(error, RegistryError::Hung { .. }), "{error:?}");
    server.abort();
}

#[tokio::test]
async fn nonsense_is_named_nonsense() {
    let lookup = br#"{"type":"lookup_ok","node_id":1}"#;
    let mut wrong_kind = u32::try_from(lookup.len()).unwrap().to_be_bytes().to_vec();
    wrong_kind.extend_from_slice(lookup);
    let answers: [&[u8]; 6] = [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\xff\xff\xff\xff",
        b"\0\0\0\x02{}",
        b"\0\0\0\x04null",
        b"\0\0\0\x05\xff\xfe\x00\x01\x02",
        &wrong_kind,
    ];
    for bytes in answers {
        let bytes = bytes.to_vec();
        let shown = String::from_utf8_lossy(&bytes).into_owned();
        let (client, server) = client_of(move |mut stream, _| {
            let bytes = bytes.clone();
            async move {
                let _ = read_request(&mut stream).await;
                let _ = stream.write_all(&bytes).await;
                let _ = stream.read(&mut [0; 16]).await;
            }
        })
        .await;
        let error = client.call(heartbeat(1)).await.unwrap_err();
        assert!(matches!(error, RegistryError::Nonsense { .. }), "{shown:?}: {error:?}");
        server.abort();
    }
}

#[tokio::test]
async fn a_call_cut_off_is_repeated_once_on_a_new_connection() {
    let (client, server) = client_of(|mut stream, n| async move {
        match n {
            0 => drop(read_request(&mut stream).await),
            _ => well_behaved(stream).await,
        }
    })
    .await;
    assert_eq!(client.call(heartbeat(5)).await, answer(5));
    server.abort();
}

#[tokio::test]
async fn a_registry_that_always_hangs_up_is_an_error_not_a_loop() {
    let (client, server) = client_of(|mut stream, _| async move {
        let _ = read_request(&mut stream).await;
    })
    .await;
    let error = client.call(heartbeat(1)).await.unwrap_err();
    assert!(matches!(error, RegistryError::Disconnected { .. }), "{error:?}");
    server.abort();
}

#[tokio::test]
async fn a_cancelled_call_does_not_shift_the_answers() {
    let (client, server) = client_of(|stream, _| well_behaved(stream)).await;
    for node in 0..20 {
        let call = client.call(heartbeat(1000));
        let _ = timeout(Duration::from_micros(node * 20), call).await;
        let node = u32::try_from(node).unwrap();
        assert_eq!(client.call(heartbeat(node)).await, answer(node.into()));
    }
    server.abort();
}

#[tokio::test]
async fn losing_the_connection_shows_at_once() {
    let (client, server) = client_of(|mut stream, _| async move {
        let _ = read_request(&mut stream).await;
        let time = Response::HeartbeatOk { time: 1, key_expiry_warning: false };
        write_response(&mut stream, &time).await;
    })
    .await;
    let mut link = client.link();
    assert_eq!(*link.borrow_and_update(), None);
    assert_eq!(client.call(heartbeat(1)).await, answer(1));
    let gone = link.wait_for(Option::is_none);
    timeout(Duration::from_secs(5), gone).await.unwrap().unwrap();
    server.abort();
}

#[tokio::test]
async fn a_request_over_the_limit_is_refused_before_it_is_sent() {
    let (client, server) = client_of(|stream, _| well_behaved(stream)).await;
    let query = "x".repeat(2 << 20);
    let error = client.call(Request::Find { query, limit: 1 }).await.unwrap_err();
    assert!(matches!(error, RegistryError::TooLong { request: "find", .. }), "{error:?}");
    assert_eq!(client.call(heartbeat(1)).await, answer(1));
    server.abort();
}

#[tokio::test]
async fn a_connection_prepared_ahead_serves_the_first_call() {
    let (client, server) = client_of(|stream, n| async move {
        assert_eq!(n, 0);
        well_behaved(stream).await;
    })
    .await;
    client.prepare();
    let up = client.link().wait_for(Option::is_some).await.map(|up| *up);
    let before = up.unwrap();
    assert_eq!(client.call(heartbeat(5)).await, answer(5));
    assert_eq!(*client.link().borrow(), before);
    server.abort();
}

#[tokio::test]
async fn a_call_is_repeated_at_once_when_the_network_has_changed() {
    // The first connection is dead, as one is whose address the machine has lost.
    let (client, server) = client_of(|mut stream, n| async move {
        if n == 0 {
            let _ = read_request(&mut stream).await;
            std::future::pending::<()>().await;
        }
        well_behaved(stream).await;
    })
    .await;
    let calling = client.clone();
    let call = tokio::spawn(async move { calling.call(heartbeat(6)).await });
    client.link().wait_for(Option::is_some).await.unwrap();
    tokio::task::yield_now().await;
    client.reconnect();
    assert_eq!(call.await.unwrap(), answer(6));
    server.abort();
}
