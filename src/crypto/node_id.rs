//! Node ids that belong to a key.
//!
//! ```text
//! id = first 32 bits (big-endian) of SHA-256("pilot-agent node id v1" ‖ public key ‖ counter u32)
//! ```
//!
//! The counter starts at 0 and steps over ids that are reserved or taken. So anybody who has a
//! node's public key can check that the id belongs to it, and a registry that lost its database
//! gives every node the id it had. 32 bits are no proof of identity: peers compare keys. A
//! foreign registry may assign any other id.

use sha2::{Digest, Sha256};

use crate::wire::NodeId;

/// How many counters are tried: with a million nodes a key exhausts them once in 2^750.
pub const MAX_COUNTER: u32 = 64;

const DOMAIN: &[u8] = b"pilot-agent node id v1";

/// The id of `public_key` at `counter`; `None` if that id is reserved.
#[must_use]
pub fn derive(public_key: &[u8; 32], counter: u32) -> Option<NodeId> {
    let digest = Sha256::new()
        .chain_update(DOMAIN)
        .chain_update(public_key)
        .chain_update(counter.to_be_bytes())
        .finalize();
    let (prefix, _) = digest.split_first_chunk::<4>()?;
    let id = NodeId(u32::from_be_bytes(*prefix));
    (!is_reserved(id)).then_some(id)
}

/// The ids that a registry may give to `public_key`, in the order in which it tries them.
pub fn candidates(public_key: &[u8; 32]) -> impl Iterator<Item = NodeId> {
    (0..MAX_COUNTER).filter_map(|counter| derive(public_key, counter))
}

/// The counter at which `node` is derived from `public_key`, if it is.
#[must_use]
pub fn belongs(node: NodeId, public_key: &[u8; 32]) -> Option<u32> {
    (0..MAX_COUNTER).find(|&counter| derive(public_key, counter) == Some(node))
}

/// Whether `id` is never derived: 0 is nobody, the last is broadcast, and the first 65,535 are
/// left to well-known nodes and to registries that count from 1.
#[must_use]
pub fn is_reserved(id: NodeId) -> bool {
    id.0 <= 0xffff || id == NodeId::BROADCAST
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 32] = [0x42; 32];

    #[test]
    fn an_id_is_a_function_of_the_key_and_the_counter() {
        // SHA-256 of the 22 + 32 + 4 bytes, computed with another implementation.
        assert_eq!(derive(&KEY, 0), Some(NodeId(0x786e_966e)));
        assert_eq!(derive(&KEY, 1), Some(NodeId(0x1ccf_6af5)));
        assert_ne!(derive(&[0x43; 32], 0), derive(&KEY, 0));
    }

    #[test]
    fn an_id_belongs_to_its_key_only() {
        for (counter, id) in candidates(&KEY).enumerate() {
            assert_eq!(belongs(id, &KEY).map(|c| c as usize), Some(counter));
            assert_eq!(belongs(id, &[0x43; 32]), None);
        }
        assert_eq!(belongs(NodeId(1), &KEY), None);
    }

    #[test]
    fn reserved_ids_are_stepped_over() {
        assert!([0, 1, 0xffff, u32::MAX].iter().all(|&id| is_reserved(NodeId(id))));
        assert!([0x1_0000, u32::MAX - 1].iter().all(|&id| !is_reserved(NodeId(id))));
        // A key whose first id is reserved, found by search (1 in 65,536).
        let key = (0..2_000_000_u32)
            .map(|n| {
                let mut key = [0; 32];
                key[..4].copy_from_slice(&n.to_be_bytes());
                key
            })
            .find(|key| derive(key, 0).is_none());
        let key = key.expect("one in 65,536 keys begins with a reserved id");
        let first = candidates(&key).next().unwrap();
        assert_eq!(belongs(first, &key), Some(1));
    }
}
