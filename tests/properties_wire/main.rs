//! Properties of the codecs: what is encoded decodes to the same value, arbitrary bytes never make a
//! decoder panic, and sequence numbers keep the rules of RFC 1982.

mod codecs;
mod frames;
mod seq;
#[expect(unreachable_pub, reason = "the library of the fuzz crate")]
#[path = "../../fuzz/src/lib.rs"]
mod targets;

use pilot_agent::wire::{Addr, NodeId};
use proptest::prelude::*;

fn node() -> impl Strategy<Value = NodeId> {
    prop_oneof![Just(NodeId::UNSPECIFIED), Just(NodeId::BROADCAST), any::<u32>().prop_map(NodeId)]
}

fn addr() -> impl Strategy<Value = Addr> {
    (any::<u16>(), node()).prop_map(|(network, node)| Addr { network, node })
}

fn content() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..200)
}

proptest! {
    /// The targets check more than the absence of panics: see `fuzz/src/lib.rs`.
    #[test]
    fn no_decoder_panics_on_arbitrary_bytes(
        bytes in content(),
        // What the layouts begin with, so that more than the first check is reached.
        start in prop::sample::select(vec![
            &b""[..], b"PILS", b"PILA", b"PILK", b"SACK\x02", b"PAO1", b"\x05", b"\x07", b"\x0a",
            b"0:0000.", b"\0\0\0\x04\0\0\0\x20", b"\0\0\0\x0a\0\0\0\x20\0\x10", b"\xa7\x02", b"\xa7\x01",
            b"\0\0\0\x07\0\0\0\x20\x01", b"\0\x01*\0\0\0", b"{\"type\":\"",
        ]),
    ) {
        let data = [start, &bytes].concat();
        for (_, target) in targets::TARGETS {
            target(&data);
        }
    }
}
