//! Many peers at once.
