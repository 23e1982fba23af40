//! Sans-IO state machines. Time and datagrams are inputs; datagrams, deadlines and events are
//! outputs. Nothing here sleeps, reads a clock, draws from the operating system's randomness or
//! touches a socket.

pub mod beacon;
pub mod directory;
pub mod endpoint;
pub mod messenger;
pub mod nat;
pub mod path;
pub mod pmtud;
pub mod punch;
pub mod stream;
pub mod subscriber;
pub mod tunnel;
