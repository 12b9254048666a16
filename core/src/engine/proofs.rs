//! Strangers' slow proofs: who waits for one, and whose turn it is.
//!
//! A stranger's first packet is looked at when the proof of its number has been run, which costs a core some milliseconds.
//! One runs at a time; look-ups of this terminal's own, whose proofs go to the same workers (`net::store`), never wait
//! behind it. Nodes that packets come through take turns, and an account has one place whatever it claims, so that
//! neither a flood through one node nor one by one account delays anybody else's call.

use crate::fair::FairQueue;
use offhook_proto::identity::{IdentityId, TerminalId};
use offhook_proto::proof::ProofTask;
use offhook_proto::signalling::Opened;
use std::collections::{BTreeMap, BTreeSet};

/// Proofs that wait, and those of packets that came through one node. Beyond, the node with most gives way; what is
/// dropped is repeated by its sender.
const MAX_WAITING: usize = 64;
const MAX_PER_NODE: usize = 16;

/// Packets that wait for one proof: an invite, and what comes along with it. More are dropped, and repeated.
const MAX_PACKETS: usize = 4;

/// A packet of a dialog that is not known, whose number has not been proven.
#[derive(Debug)]
pub(super) struct Unproven {
    pub opened: Opened,
    /// The connected node that it came through.
    pub via: TerminalId,
    /// A stranger's that is screened already, and may ring.
    pub welcome: bool,
}

/// A proof to be run.
struct Claim {
    identity: IdentityId,
    packets: Vec<Unproven>,
}

/// Everything that waits.
pub(super) struct Proofs {
    turns: FairQueue<TerminalId, ProofTask>,
    claims: BTreeMap<ProofTask, Claim>,
    /// Accounts that have a claim.
    claimants: BTreeSet<IdentityId>,
    running: bool,
}

impl Default for Proofs {
    fn default() -> Self {
        Self {
            turns: FairQueue::new(MAX_WAITING, MAX_PER_NODE),
            claims: BTreeMap::new(),
            claimants: BTreeSet::new(),
            running: false,
        }
    }
}

impl Proofs {
    /// Whether a claim of this account that comes through `via` would be taken.
    pub fn has_room(&self, via: &TerminalId, identity: &IdentityId) -> bool {
        !self.claimants.contains(identity) && self.turns.has_room(via)
    }

    /// Whether this account has a claim.
    pub fn has_claim(&self, identity: &IdentityId) -> bool {
        self.claimants.contains(identity)
    }

    /// Has a packet wait for `task`, the proof of what `identity` claims. False if it is dropped.
    pub fn add(&mut self, task: &ProofTask, identity: IdentityId, packet: Unproven) -> bool {
        if let Some(claim) = self.claims.get_mut(task) {
            let room = claim.packets.len() < MAX_PACKETS;
            if room {
                claim.packets.push(packet);
            }
            return room;
        }
        if self.claimants.contains(&identity) {
            return false;
        }
        match self.turns.push(packet.via, task.clone()) {
            Some(out) if out == *task => return false,
            Some(out) => drop(self.take(&out)),
            None => {}
        }
        self.claimants.insert(identity);
        self.claims.insert(task.clone(), Claim { identity, packets: vec![packet] });
        true
    }

    /// The proof to run next, unless one is running. [`Proofs::done`] must follow.
    pub fn next(&mut self) -> Option<ProofTask> {
        let task = if self.running { None } else { self.turns.pop() };
        self.running |= task.is_some();
        task
    }

    /// A proof has been run: the packets that waited for it, in the order in which they came.
    pub fn done(&mut self, task: &ProofTask) -> Vec<Unproven> {
        self.running = false;
        self.take(task)
    }

    fn take(&mut self, task: &ProofTask) -> Vec<Unproven> {
        let Some(claim) = self.claims.remove(task) else { return Vec::new() };
        self.claimants.remove(&claim.identity);
        claim.packets
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use offhook_proto::number::{Number, PlainNumber};
    use offhook_proto::proof::{NumberProof, PlainProof};
    use offhook_proto::signalling::{CallId, Packet};
    use offhook_proto::wire::UnixMillis;

    const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

    fn node(n: u8) -> TerminalId {
        TerminalId::from_bytes([n; 32])
    }

    fn account(n: u32) -> IdentityId {
        let mut bytes = [0xaa; 32];
        bytes[..4].copy_from_slice(&n.to_be_bytes());
        IdentityId::from_bytes(bytes)
    }

    fn packet(via: u8) -> Unproven {
        let (from, to) = (node(200), node(201));
        let call = CallId::from_bytes([via; 16]);
        let packet = Packet { call, from, to, seq: 1, ack: 0, time: NOW, intro: None, message: None };
        let opened = Opened { packet, payload_hash: [0; 32], intro: None };
        Unproven { opened, via: node(via), welcome: false }
    }

    /// What `account` claims with its nonce number `nonce`.
    fn task(account: IdentityId, nonce: u64) -> ProofTask {
        let number = Number::Plain(PlainNumber::from_index(7));
        NumberProof::Plain(PlainProof { nonce }).check(&number, &account, NOW).expect("of one kind").1
    }

    fn claim(proofs: &mut Proofs, via: u8, who: u32, nonce: u64) -> bool {
        let identity = account(who);
        proofs.add(&task(identity, nonce), identity, packet(via))
    }

    /// The accounts in the order in which their proofs run.
    fn order(proofs: &mut Proofs, of: &[u32]) -> Vec<u32> {
        let name = |task: &ProofTask| {
            of.iter().copied().find(|who| (0..3).any(|nonce| self::task(account(*who), nonce) == *task))
        };
        std::iter::from_fn(|| {
            let task = proofs.next()?;
            proofs.done(&task);
            Some(name(&task).expect("one of them"))
        })
        .collect()
    }

    #[test]
    fn a_flood_through_one_node_delays_nobody_else() {
        let mut proofs = Proofs::default();
        let taken = (0..1000).filter(|who| claim(&mut proofs, 1, *who, 0)).count();
        assert_eq!(taken, MAX_PER_NODE);
        assert!(claim(&mut proofs, 2, 5000, 0));
        let all: Vec<u32> = (0..16).chain([5000]).collect();
        assert_eq!(order(&mut proofs, &all)[..3], [0, 5000, 1]);
    }

    #[test]
    fn floods_through_many_nodes_leave_room_for_one_more() {
        let mut proofs = Proofs::default();
        for via in 0..8 {
            let taken = (0..100).filter(|n| claim(&mut proofs, via, u32::from(via) * 100 + n, 0)).count();
            assert!(taken >= MAX_WAITING / 8, "{taken}");
        }
        assert_eq!(proofs.claims.len(), MAX_WAITING);
        assert!(claim(&mut proofs, 9, 5000, 0));
        assert_eq!((proofs.claims.len(), proofs.claimants.len()), (MAX_WAITING, MAX_WAITING), "one gave way");
    }

    #[test]
    fn an_account_has_one_place_whatever_it_claims() {
        let mut proofs = Proofs::default();
        let taken = (0..100).filter(|nonce| claim(&mut proofs, 1, 1, *nonce)).count();
        assert_eq!(taken, 1);
        assert!(claim(&mut proofs, 1, 2, 0));
        assert_eq!(order(&mut proofs, &[1, 2]), [1, 2]);
        assert!(claim(&mut proofs, 1, 1, 50), "the place is free again");
    }

    #[test]
    fn packets_that_need_the_same_proof_wait_for_it_together() {
        let mut proofs = Proofs::default();
        let taken = (0..10).filter(|_| claim(&mut proofs, 1, 1, 0)).count();
        assert_eq!(taken, MAX_PACKETS);
        let task = proofs.next().expect("one proof");
        assert!(proofs.next().is_none(), "one at a time");
        assert!(!claim(&mut proofs, 1, 1, 0), "while it runs too");
        assert_eq!(proofs.done(&task).len(), MAX_PACKETS);
        assert!(proofs.next().is_none() && proofs.claims.is_empty() && proofs.claimants.is_empty());
    }
}
