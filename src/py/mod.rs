//! PyO3 classes; see the layer table in lib.rs.
