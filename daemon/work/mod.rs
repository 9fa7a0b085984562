//! The job side.

pub mod encrypt;
pub mod open;
pub mod query;
