//! Data exchange (port 1001): typed frames, each answered on the same connection.
//!
//! | file | what |
//! |---|---|
//! | `link` | frames over a stream, every wait bounded |
//! | `server` | sessions: frames into the inbox, answers back |
//! | `transfer` | a file that comes in pieces |
//! | `client` | messages to Go nodes |
//! | `upload` | files to anybody |

mod client;
mod link;
mod server;
mod transfer;
mod upload;

use std::time::Duration;

pub(in crate::node) use client::send;
pub(super) use server::serve;
pub(in crate::node) use upload::send_file;

/// A sender or receiver that takes longer for one step has gone away; release 1.18 waits as long.
const STEP: Duration = Duration::from_secs(60);
