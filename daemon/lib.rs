//! dropzone: an SFTP drop zone that lets in nothing but properly encrypted files, runs the job, delivers the result, and
//! can prove who did what. The map of the crate:
//!
//! ```text
//! policy   what is allowed            pure: no I/O, no clock, no async
//! config   YAML -> checked values     knows policy
//! host     how the machine does it    knows policy; the only std::fs and wall clock
//! serve    the network side           knows host, policy, config; never work
//! work     the job side               knows host, policy, config; never serve
//! cli      one file per subcommand    knows all
//! ```

pub mod cli;
pub mod config;
pub mod host;
pub mod policy;
pub mod serve;
pub mod work;
