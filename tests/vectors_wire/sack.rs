use pilot_agent::wire::sack::{MAX_BLOCKS, looks_like_sack};
use pilot_agent::wire::{SackBlock, SackBlocks, Seq};

use super::{bytes, number, text, vectors};

#[test]
fn selective_acknowledgements_read_and_write_like_the_reference() {
    for vector in vectors("sack") {
        let payload = bytes(&vector, "payload_hex");
        let blocks: Vec<_> = vector["blocks"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|b| SackBlock { left: Seq(number(b, "left")), right: Seq(number(b, "right")) })
            .collect();
        match text(&vector, "op") {
            "encode" => {
                let mut sack = SackBlocks::default();
                for (i, block) in blocks.iter().enumerate() {
                    assert_eq!(sack.push(*block), i < MAX_BLOCKS);
                }
                let mut out = Vec::new();
                sack.encode(&mut out);
                assert_eq!(out, payload);
                assert_eq!(SackBlocks::parse(&payload), Some(sack));
            }
            "decode" => {
                let parsed = SackBlocks::parse(&payload);
                let is_sack = vector["is_sack"] == true;
                assert_eq!(looks_like_sack(&payload), is_sack, "{vector}");
                let found = parsed.as_ref().map_or(&[][..], SackBlocks::as_slice);
                assert_eq!(found, blocks, "{vector}");
            }
            other => panic!("unknown op {other}"),
        }
    }
}
