//! What a node offers by itself, as its peers see it: data exchange with its inbox, and trust.
//! Real nodes over loopback with an in-process rendezvous; hostile frames are written by hand.

mod data;
mod files;
mod network;
mod trust;
