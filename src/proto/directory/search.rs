//! Finding public nodes by words: an inverted index, ranked by BM25 over weighted fields.
//!
//! Lexical only: lower-case words, with the plural's s taken off. Equal scores are ordered by node
//! id, so equal directories give equal answers.

use std::collections::{BTreeMap, HashMap};

use super::NodeRecord;
use crate::wire::NodeId;

/// How much a word counts in each field.
const CAPABILITY_WEIGHT: f64 = 3.0;
const TAG_WEIGHT: f64 = 2.0;
const HOSTNAME_WEIGHT: f64 = 1.5;
/// BM25's term saturation and length normalisation; documents here are a few words long.
const K1: f64 = 1.2;
const B: f64 = 0.4;
/// Words of a query that are looked at.
const MAX_QUERY_WORDS: usize = 16;

#[derive(Debug, Default)]
pub(super) struct Index {
    /// For each word, how much it weighs in each node that has it.
    postings: HashMap<String, BTreeMap<NodeId, f64>>,
    documents: HashMap<NodeId, Document>,
    total_weight: f64,
}

#[derive(Debug)]
struct Document {
    words: Vec<String>,
    weight: f64,
}

impl Index {
    pub(super) fn insert(&mut self, record: &NodeRecord) {
        let mut weights: BTreeMap<String, f64> = BTreeMap::new();
        let fields = record
            .capabilities
            .iter()
            .map(|text| (text, CAPABILITY_WEIGHT))
            .chain(record.tags.iter().map(|text| (text, TAG_WEIGHT)))
            .chain([(&record.hostname, HOSTNAME_WEIGHT)]);
        for (text, weight) in fields {
            for word in words(text) {
                *weights.entry(word).or_default() += weight;
            }
        }
        let weight = weights.values().sum();
        for (word, weight) in &weights {
            self.postings.entry(word.clone()).or_default().insert(record.id, *weight);
        }
        self.total_weight += weight;
        let words = weights.into_keys().collect();
        self.documents.insert(record.id, Document { words, weight });
    }

    pub(super) fn remove(&mut self, id: NodeId) {
        let Some(document) = self.documents.remove(&id) else { return };
        self.total_weight -= document.weight;
        for word in document.words {
            if let Some(nodes) = self.postings.get_mut(&word) {
                nodes.remove(&id);
                if nodes.is_empty() {
                    self.postings.remove(&word);
                }
            }
        }
    }

    /// The best `limit` nodes that `is_wanted`, with their scores.
    pub(super) fn search(
        &self,
        query: &str,
        limit: usize,
        is_wanted: impl Fn(NodeId) -> bool,
    ) -> Vec<(NodeId, f64)> {
        let mut query: Vec<String> = words(query).take(MAX_QUERY_WORDS).collect();
        query.sort_unstable();
        query.dedup();
        let count = self.documents.len() as f64;
        let mean_weight = (self.total_weight / count.max(1.0)).max(1.0);
        let mut scores: BTreeMap<NodeId, f64> = BTreeMap::new();
        for word in &query {
            let Some(nodes) = self.postings.get(word) else { continue };
            let frequency = nodes.len() as f64;
            let idf = (1.0 + (count - frequency + 0.5) / (frequency + 0.5)).ln();
            for (&id, &weight) in nodes {
                let length = self.documents.get(&id).map_or(0.0, |document| document.weight);
                let norm = K1 * (1.0 - B + B * length / mean_weight);
                *scores.entry(id).or_default() += idf * weight * (K1 + 1.0) / (weight + norm);
            }
        }
        let mut ranked: Vec<_> = scores.into_iter().filter(|(id, _)| is_wanted(*id)).collect();
        ranked.sort_by(|(a, x), (b, y)| y.total_cmp(x).then(a.cmp(b)));
        ranked.truncate(limit);
        ranked
    }
}

fn words(text: &str) -> impl Iterator<Item = String> {
    text.split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(|word| singular(word.to_lowercase()))
}

/// `rates` and `rate`, `queries` and `query` are one word; `class` stays.
fn singular(mut word: String) -> String {
    if word.len() > 4 && word.ends_with("ies") {
        word.truncate(word.len() - 3);
        word.push('y');
    } else if word.len() > 3 && word.ends_with('s') && !word.ends_with("ss") {
        word.pop();
    }
    word
}
