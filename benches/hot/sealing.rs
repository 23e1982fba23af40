//! AES-256-GCM as frames use it, with the backend that this build has chosen.

use std::hint::black_box;

use pilot_agent::crypto::aead::{OpeningKey, SealingKey};
use pilot_agent::crypto::suite::Suite;
use pilot_agent::wire::NodeId;
use pilot_agent::wire::tunnel::SealedHeader;

use super::Case;

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for size in [64, 1_200, 8_192, 60_000] {
        cases.push(Case::new(format!("seal-{size}"), size, move |count| {
            let key = SealingKey::new(Suite::V118, &[1; 32]);
            let mut packet = vec![7; size];
            for i in 0..count {
                black_box(key.seal(&header(i as u64), black_box(&mut packet)));
            }
        }));
        cases.push(Case::new(format!("open-{size}"), size, move |count| {
            let mut frame = vec![7; size];
            let tag = SealingKey::new(Suite::V118, &[1; 32]).seal(&header(0), &mut frame);
            frame.extend_from_slice(&tag);
            let key = OpeningKey::new(Suite::V118, &[1; 32]);
            let mut copy = frame.clone();
            for _ in 0..count {
                copy.copy_from_slice(&frame);
                black_box(key.open(&header(0), black_box(&mut copy)).expect("authentic"));
            }
        }));
    }
    cases
}

fn header(counter: u64) -> SealedHeader {
    SealedHeader { sender: NodeId(7), nonce_prefix: [1, 2, 3, 4], counter }
}
