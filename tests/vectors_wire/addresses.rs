use pilot_agent::wire::{Addr, NodeId, SocketAddr};

use super::{array, number, text, vectors};

#[test]
fn addresses_read_and_write_like_the_reference() {
    for vector in vectors("addresses") {
        let input = text(&vector, "text");
        match text(&vector, "op") {
            "format" => {
                let addr = Addr {
                    network: number(&vector, "network"),
                    node: NodeId(number(&vector, "node")),
                };
                assert_eq!(addr.to_string(), input);
                assert_eq!(input.parse(), Ok(addr));
                assert_eq!(addr.to_bytes(), array(&vector, "binary_hex"));
                assert_eq!(Addr::from_bytes(array(&vector, "binary_hex")), addr);
                assert_eq!(vector["is_zero"], addr.is_unspecified());
                assert_eq!(vector["is_broadcast"], addr.is_broadcast());
            }
            "parse" if vector["ok"] == true => {
                let addr: Addr = input.parse().unwrap_or_else(|e| panic!("{input:?}: {e}"));
                assert_eq!(addr.to_bytes(), array(&vector, "binary_hex"), "{input:?}");
                assert_eq!(addr.to_string(), text(&vector, "canonical"));
            }
            "parse" => assert!(input.parse::<Addr>().is_err(), "{input:?}"),
            "parse_socket" if vector["ok"] == true => {
                let socket: SocketAddr = input.parse().unwrap_or_else(|e| panic!("{input:?}: {e}"));
                assert_eq!(socket.port, number::<u16>(&vector, "port"), "{input:?}");
                assert_eq!(socket.addr.network, number::<u16>(&vector, "network"));
                assert_eq!(socket.addr.node.0, number::<u32>(&vector, "node"));
                assert_eq!(socket.to_string(), text(&vector, "canonical"));
            }
            "parse_socket" => assert!(input.parse::<SocketAddr>().is_err(), "{input:?}"),
            other => panic!("unknown op {other}"),
        }
    }
}
