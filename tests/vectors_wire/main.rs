//! The golden vectors of the wire formats: every vector is decoded, compared and encoded again.
//! One module for each kind of frame; `tests/vectors/README.md` says where the vectors come from.

mod addresses;
mod beacon;
mod captures;
mod dataexchange;
mod eventstream;
mod handshake;
mod packets;
mod sack;
mod tunnel;

use serde_json::Value;

/// The file `tests/vectors/<name>.json`.
fn file(name: &str) -> Value {
    let path = format!("{}/tests/vectors/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
    serde_json::from_str(&text).unwrap()
}

/// Its vectors; an empty list would be a test that tests nothing.
fn vectors(name: &str) -> Vec<Value> {
    let list = file(name)["vectors"].as_array().unwrap().clone();
    assert!(!list.is_empty());
    list
}

fn text<'a>(vector: &'a Value, field: &str) -> &'a str {
    vector[field].as_str().unwrap_or_else(|| panic!("{field} in {vector}"))
}

fn bytes(vector: &Value, field: &str) -> Vec<u8> {
    hex::decode(text(vector, field)).unwrap_or_else(|e| panic!("{field} in {vector}: {e}"))
}

fn array<const N: usize>(vector: &Value, field: &str) -> [u8; N] {
    bytes(vector, field).try_into().unwrap()
}

fn number<T: TryFrom<u64>>(vector: &Value, field: &str) -> T {
    let value = vector[field].as_u64().unwrap_or_else(|| panic!("{field} in {vector}"));
    T::try_from(value).unwrap_or_else(|_| panic!("{field} in {vector}"))
}
