//! Packet header, SACK blocks, and the head of a message.

use std::hint::black_box;

use bytes::Bytes;
use pilot_agent::wire::frames::message::{
    Headers, MessageDecoder, MessageFrame, MessageKind, PayloadKind,
};
use pilot_agent::wire::packet::HEADER_LEN;
use pilot_agent::wire::sack::{SackBlock, SackBlocks};
use pilot_agent::wire::{Addr, Flags, Header, NodeId, Packet, Protocol, Seq};

use super::Case;

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for size in [64, 1_402, 60_000] {
        cases.push(Case::new(format!("packet-encode-{size}"), size, move |count| {
            let mut packet = packet(size);
            for i in 0..count {
                let header = Header { seq: Seq(i as u32), ..header() };
                header.encode(black_box(&mut packet)).expect("it fits");
            }
        }));
        cases.push(Case::new(format!("packet-parse-{size}"), size, move |count| {
            let mut packet = packet(size);
            header().encode(&mut packet).expect("it fits");
            for _ in 0..count {
                black_box(Packet::parse(black_box(&packet)).expect("a packet"));
            }
        }));
    }
    cases.push(Case::new("sack-encode-parse", 0, |count| {
        let mut blocks = SackBlocks::default();
        for left in [10_000, 20_000, 30_000, 40_000] {
            blocks.push(SackBlock { left: Seq(left), right: Seq(left + 5_000) });
        }
        let mut out = Vec::new();
        for _ in 0..count {
            out.clear();
            black_box(&blocks).encode(&mut out);
            black_box(SackBlocks::parse(&out));
        }
    }));
    cases.push(Case::new("message-encode-parse-64", 0, |count| {
        let headers = Headers::from_pairs([("traceparent", "00-0af7651916cd43dd8448eb211c80319c")])
            .expect("short");
        let mut reader = MessageDecoder::new(1 << 20);
        let payload = Bytes::from_static(&[7; 64]);
        for id in 0..count as u64 {
            let frame = MessageFrame::user(
                MessageKind::Request,
                id,
                PayloadKind::Bytes,
                headers.clone(),
                payload.clone(),
            );
            let mut out = Vec::with_capacity(256);
            black_box(frame).encode(&mut out).expect("small");
            reader.feed(out.into());
            black_box(reader.next_frame().expect("a frame"));
        }
    }));
    cases
}

fn header() -> Header {
    Header {
        flags: Flags::ACK,
        protocol: Protocol::Stream,
        src: Addr::global(NodeId(1)),
        dst: Addr::global(NodeId(2)),
        src_port: 50_000,
        dst_port: 1_100,
        seq: Seq(1),
        ack: Seq(1),
        window: 512,
    }
}

fn packet(payload: usize) -> Vec<u8> {
    vec![7; HEADER_LEN + payload]
}
