//! The directory node: a first contact, a keeper of records, a relay for signalling and media, a STUN server.
//!
//! The binary `offhook-directory` is thin over [`Directory`], which a program or a test can run as well:
//!
//! ```no_run
//! # async fn example() -> Result<(), offhook_bootstrap::DirectoryError> {
//! use offhook_bootstrap::{Directory, Settings};
//!
//! let directory = Directory::bind(&Settings::default()).await?;
//! println!("{:?}", directory.addresses());
//! directory.shutdown().await;
//! # Ok(())
//! # }
//! ```

mod announce;
mod cli;
mod directory;
mod front;
mod key;
mod operate;
mod post;
mod processes;
mod run;
mod settings;
mod site;
pub mod store;
pub mod web;

pub use cli::main;
pub use directory::{Directory, DirectoryError};
pub use front::FrontError;
pub use key::KeyError;
pub use settings::{AddrOrNone, LogFormat, PortRange, PortRangeError, Settings, SettingsError};
