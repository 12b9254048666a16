//! The network: a libp2p swarm that carries the directory of numbers (DHT) and signalling.
//!
//! ```text
//!   Net (handle) --Command--> Driver: owns the swarm, one task, dumb loop
//!     |                         |-- each behaviour's events in its own module (dht, identify, relay, mdns, service)
//!     |                         |-- links: entry points and kept directories, with back-off; probe: are they alive
//!     |                         |-- gate, budget: how many connections and streams strangers may have
//!     |                         '-- store: the DHT's records, validated, bounded, persistent
//!     '-- lookup, publish, signal: tasks that ask the driver for single steps (request, query, connect)
//! ```
//!
//! No libp2p type crosses out of this module. Nothing here is global: many `Net`s live in one process.

mod addr;
mod behaviour;
mod budget;
mod candidates;
mod client;
mod codec;
mod command;
mod config;
mod credentials;
mod delegate;
mod descriptors;
mod dht;
mod driver;
mod event;
mod finds;
#[cfg(test)]
#[path = "../../tests/net/fixture.rs"]
mod fixture;
mod front;
#[doc(hidden)]
pub mod fuzz;
mod gate;
mod handle;
mod homes;
mod identify;
mod kept;
mod knocks;
mod known;
mod limit;
mod linger;
mod links;
mod lookup;
mod mailbox;
mod mdns;
mod metrics;
mod others;
mod peers;
mod places;
mod private;
mod probe;
mod publish;
mod relay;
mod renew;
mod requests;
mod seek;
mod service;
mod serving;
mod signal;
mod status;
mod store;
pub(crate) mod stun;
mod tickets;
mod transport;
mod warm;
mod ways;

pub use addr::AddrError;
pub(crate) use addr::{Host, Source};
pub use client::RequestError;
pub use config::{Limits, NetConfig, Role, StandIns};
pub use credentials::RelayError;
pub use event::NetEvent;
pub use front::{Ends, Front, FrontConfig, FrontIdentity, FrontIo, FrontService, FrontStream, IdentityError};
pub use handle::{Net, NetError};
pub(crate) use limit::Limiter;
pub use lookup::{Lookup, LookupEvent, Origin};
pub use mailbox::{MailReply, MailRequest};
pub use metrics::MailGauges;
pub use offhook_proto::knock::{Reason, Times};
pub use publish::{PublishError, Published};
pub use serving::Serving;
pub use signal::{Reach, SignalError, SignalTarget};
pub use status::{LinkStatus, NetStatus};
pub use tickets::RelayNotice;
pub use transport::{Entrance, WS_PATH};
