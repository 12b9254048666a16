//! The slow hash that makes plain numbers dear, and the proofs of both kinds of numbers.
//!
//! A plain number follows from an identity key and a nonce by Argon2id (RFC 9106). Only one nonce in 256
//! gives a number, so that making one costs about 256 hashes and checking one costs a single hash. The cost
//! doesn't *protect* a number from a patient attacker, incumbency and pinning do; it keeps the network from
//! being flooded with numbers.

mod chosen;
mod transfer;

pub use chosen::{
    CHOSEN_LIFETIME, CHOSEN_MAX_LIFETIME, ChosenCert, MAX_CHOSEN_CERT_BYTES, MAX_CHOSEN_NUMBERS,
    SignedChosenCert,
};
pub use transfer::{
    MAX_TRANSFER_BYTES, MAX_TRANSFERS, SignedTransfer, TRANSFER_LIFETIME, Transfer, TransferError, lengthen,
    supersedes, verify_chain,
};

use std::ops::Range;

use argon2::{Algorithm, Argon2, Block, Params, Version};
use minicbor::{Decode, Encode};
use thiserror::Error;

use crate::identity::IdentityId;
use crate::number::{Number, PlainNumber, RecordKey};
use crate::wire::UnixMillis;

/// Memory of one hash in KiB. 8 MiB keep it out of the caches of graphics processors and cost an ordinary
/// machine some milliseconds.
pub const MEMORY_KIB: u32 = 8 * 1024;
/// Passes over the memory.
pub const PASSES: u32 = 1;
/// Lanes; one, so that verifying doesn't need several cores.
pub const LANES: u32 = 1;
/// Memory that is asked for at a time, in KiB; only [`MEMORY_KIB`] of it is ever touched. Allocators take blocks of
/// some megabytes from a heap in which smaller things then settle between two hashes: under a flood of proofs
/// a terminal's heap grew to 1 GiB. Blocks beyond glibc's `DEFAULT_MMAP_THRESHOLD_MAX` (32 MiB) are mappings of their own
/// that go back to the system.
const ASKED_KIB: usize = 33 * 1024;
/// Salt and version of the hash. Everybody's the same: the identity key makes the input unique.
const SALT: &[u8; 16] = b"offhook/number/1";
/// Bytes of output: the first must be zero, the next eight make the digits, the rest is unused.
const OUTPUT: usize = 32;

/// Which nonce gives an identity its plain number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(map)]
pub struct PlainProof {
    /// The nonce.
    #[n(0)]
    pub nonce: u64,
}

/// Tries nonces with memory that is allocated once. One per thread.
pub struct Miner {
    argon2: Argon2<'static>,
    blocks: Vec<Block>,
}

impl Miner {
    /// Allocates [`MEMORY_KIB`].
    #[must_use]
    pub fn new() -> Self {
        let params = Params::new(MEMORY_KIB, PASSES, LANES, Some(OUTPUT))
            .expect("the constants lie within the limits of RFC 9106 section 3.1");
        let mut blocks = Vec::with_capacity(ASKED_KIB.max(params.block_count()));
        blocks.resize(params.block_count(), Block::new());
        Self { argon2: Argon2::new(Algorithm::Argon2id, Version::V0x13, params), blocks }
    }

    /// The number of `identity` and `nonce`, if that nonce gives one: one slow hash.
    #[must_use]
    pub fn try_nonce(&mut self, identity: &IdentityId, nonce: u64) -> Option<PlainNumber> {
        let output = self.hash(identity.as_bytes(), nonce, SALT);
        let mut digits = [0; 8];
        digits.copy_from_slice(&output[1..9]);
        // 2^64 is 1.8 * 10^8 times as large as the number of numbers: the bias of the modulus is nothing.
        (output[0] == 0).then(|| PlainNumber::from_index(u64::from_be_bytes(digits)))
    }

    /// The slow hash of a subject and a nonce, with a salt that says what it is for.
    pub(crate) fn hash(&mut self, subject: &[u8; 32], nonce: u64, salt: &[u8; 16]) -> [u8; OUTPUT] {
        let mut input = [0; 40];
        input[..32].copy_from_slice(subject);
        input[32..].copy_from_slice(&nonce.to_be_bytes());
        let mut output = [0; OUTPUT];
        self.argon2
            .hash_password_into_with_memory(&input, salt, &mut output, &mut self.blocks)
            .expect("lengths of input, salt, output and memory are constants that fit the parameters");
        output
    }

    /// The first nonce in `nonces` that gives a number. Short ranges let the caller stop, show progress, or
    /// share the work among threads; the chance of a range of 256 is 63 %.
    #[must_use]
    pub fn mine(&mut self, identity: &IdentityId, nonces: Range<u64>) -> Option<(PlainProof, PlainNumber)> {
        for nonce in nonces {
            if let Some(number) = self.try_nonce(identity, nonce) {
                return Some((PlainProof { nonce }, number));
            }
        }
        None
    }
}

impl Default for Miner {
    fn default() -> Self {
        Self::new()
    }
}

/// The number of `identity` and `nonce`, if that nonce gives one. Allocates; many tries are for [`Miner`].
#[must_use]
pub fn try_nonce(identity: &IdentityId, nonce: u64) -> Option<PlainNumber> {
    Miner::new().try_nonce(identity, nonce)
}

/// Whether `proof` gives `identity` the number `number`: one slow hash.
#[must_use]
pub fn verify_plain(identity: &IdentityId, proof: &PlainProof, number: &PlainNumber) -> bool {
    try_nonce(identity, proof.nonce).as_ref() == Some(number)
}

/// What shows that an identity may use a number.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(map)]
pub enum NumberProof {
    /// For a plain number.
    #[n(0)]
    Plain(#[n(0)] PlainProof),
    /// For a chosen number: the directory's certificate, and a nonce that gives the identity some plain
    /// number. The second makes it dear to flood the network with chosen numbers of directories made up for
    /// it.
    #[n(1)]
    Chosen(#[n(0)] SignedChosenCert, #[n(1)] PlainProof),
}

/// Why a proof is refused before its slow part is even looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ProofError {
    /// A plain number with the proof of a chosen one, or the other way round.
    #[error("proof of another kind of number")]
    Kind,
    /// The directory's certificate is too long, malformed, or its lifetime is not permitted.
    #[error("malformed certificate of a chosen number")]
    Malformed,
    /// The certificate is not signed by the directory that it names.
    #[error("certificate of a chosen number with a bad signature")]
    BadSignature,
    /// The certificate is for another number or identity.
    #[error("certificate of another chosen number")]
    Mismatch,
    /// The certificate was not valid at that time.
    #[error("certificate of a chosen number outside its time")]
    Untimely,
}

impl NumberProof {
    /// Checks all but the slow hash: that the proof is of the number's kind and that the directory's
    /// certificate is good for this number and identity at the time `at`. Returns the record key of the
    /// number and what is left to do.
    ///
    /// # Errors
    /// A [`ProofError`].
    pub fn check(
        &self,
        number: &Number,
        identity: &IdentityId,
        at: UnixMillis,
    ) -> Result<(RecordKey, ProofTask), ProofError> {
        self.check_by(number, identity, |cert| cert.verify(at))
    }

    /// The same for somebody who introduces herself by the number `now`: she holds it for as long as her account record
    /// does, which outlives the certificate.
    ///
    /// # Errors
    /// A [`ProofError`].
    pub fn check_held(
        &self,
        number: &Number,
        identity: &IdentityId,
        now: UnixMillis,
    ) -> Result<(RecordKey, ProofTask), ProofError> {
        self.check_by(number, identity, |cert| cert.verify_held(now))
    }

    fn check_by(
        &self,
        number: &Number,
        identity: &IdentityId,
        verify: impl FnOnce(&SignedChosenCert) -> Result<ChosenCert, ProofError>,
    ) -> Result<(RecordKey, ProofTask), ProofError> {
        match (self, number) {
            (Self::Plain(proof), Number::Plain(plain)) => {
                Ok((plain.key(), ProofTask { identity: *identity, nonce: proof.nonce, number: Some(*plain) }))
            }
            (Self::Chosen(cert, proof), Number::Chosen(chosen)) => {
                let cert = verify(cert)?;
                if cert.number != *number || cert.identity != *identity {
                    return Err(ProofError::Mismatch);
                }
                let task = ProofTask { identity: *identity, nonce: proof.nonce, number: None };
                Ok((chosen.key(&cert.directory), task))
            }
            (Self::Plain(_), Number::Chosen(_)) | (Self::Chosen(..), Number::Plain(_)) => {
                Err(ProofError::Kind)
            }
        }
    }
}

/// The slow part of checking a proof, to be run off the threads that serve others. Equal tasks have equal
/// results for ever, so results can be cached under the task.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProofTask {
    identity: IdentityId,
    nonce: u64,
    /// `None`: any number will do.
    number: Option<PlainNumber>,
}

impl ProofTask {
    /// Does the work: one slow hash, some milliseconds and [`MEMORY_KIB`].
    #[must_use]
    pub fn run(&self) -> bool {
        self.run_with(&mut Miner::new())
    }

    /// Does the work with memory that the caller keeps.
    #[must_use]
    pub fn run_with(&self, miner: &mut Miner) -> bool {
        match miner.try_nonce(&self.identity, self.nonce) {
            Some(found) => self.number.is_none_or(|number| number == found),
            None => false,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
