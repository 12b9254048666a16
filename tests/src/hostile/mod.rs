//! A hostile node, for the tests in `tests/tests/hostile`: record sets that are wrong in one way each, and a libp2p node
//! that can send any bytes at all.
//!
//! It speaks the protocols as `docs/protocol.md` describes them, with encoders of its own where the library's would not
//! let it lie. What the tests show:
//!
//! | module | test | claim |
//! |---|---|---|
//! | `records` | `bad_records_are_refused_where_they_arrive` | forged, replayed, expired, future, oversized and incumbent-violating records, put or stored: refused, never served |
//! | | `bad_records_are_ignored_where_they_are_read` | the same, served to a caller: it finds the right one and turns to nobody else |
//! | | `old_records_at_five_of_twenty_holders_do_not_stop_a_call` | 20 DHT servers, 5 of which replay an older record: it rings |
//! | `flood` | `garbage_and_half_messages_leave_memory_bounded` | garbage, half messages, endless streams at terminal and directory: memory stays bounded, calls still get through |
//! | | `a_flood_of_invites_leaves_room_for_a_proper_call` | a million invites by many identities, or as many as go in 30 s: likewise, and a contact's call rings among them |
//! | `cost` | `a_message_without_end_costs_little` | as many unfinished messages as a connection lets through, over QUIC and TCP: a few hundred kB each |
//! | | `an_answer_that_nobody_takes_costs_little` | questions without end whose answers are not read: likewise |
//! | | `silence_costs_little` | connections that say nothing: less than that |
//! | | `an_unfinished_handshake_costs_little` | handshakes that stop after the first packet: few kB each |
//! | | `handshakes_that_are_never_finished_keep_nobody_out` | as many as go, all the time: a terminal of another network comes on line |
//! | | `idle_strangers_keep_nobody_out` | more idle connections than there are places: terminals come on line, stay so, and call |
//! | `privacy` | `a_crawler_never_sees_a_terminals_address` | reads the whole DHT of eight nodes as a client, identifies every node and terminal it meets |
//! | | `a_crawler_sees_an_address_that_its_owner_publishes` | the one above would notice |
//! | | `a_declined_stranger_never_sees_a_terminals_address` | nor does a stranger whose call rings and is declined |
//! | | `nothing_passes_between_a_caller_and_a_terminal_that_declines` | the same with the real program as the stranger |
//! | | `nodes_that_lie_in_wait_at_a_number_never_see_its_terminals` | DHT servers made to be closest to two numbers: nor do they, while these publish, are looked up and call each other |
//! | | `nobody_rings_under_a_number_of_somebody_elses_directory` | chosen numbers of a made-up directory are refused |
//! | `publishing` | `a_call_waits_for_no_publication` | nobody answers what is published: calls ring all the same |
//! | | `a_directory_that_swallows_what_it_should_deliver_stops_no_call` | the callee's directory says it has delivered what it throws away: it rings, by another |
//! | `media` | `spoofed_packets_move_no_call` | forged UDP in anybody's name, checks with overheard user names among it, changes no path and is never answered |
//! | `crash` | `acknowledged_records_survive_kill_9` | a directory killed at any moment still serves what it acknowledged |

#![allow(
    clippy::wildcard_enum_match_arm,
    clippy::type_complexity,
    reason = "the enums are those of libp2p and minicbor, of which a hostile node needs little"
)]

mod driver;
mod evidence;
mod flaws;
pub mod invites;
mod node;
mod stream;
pub mod wire;

pub use evidence::{Evidence, Identified, Packet, Seen, in_bytes};
pub use flaws::{Flaw, Wrong, flaws};
pub use node::{Flood, Gang, HostileError, Manner, Node, Protocol, Tally, crawl, seed_near};
pub use stream::Outgoing;
