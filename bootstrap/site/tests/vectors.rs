//! Writes the parts `mined` to `records` of `vectors.json` from the code of `core/proto`. In a crate of its own with
//! `offhook-proto = { path = … }`, `hex` and `serde_json`: `cargo run > vectors.json`. The parts `requests`, `backup` and
//! `list_head` are the seeds of the fuzz targets (`fuzz/seeds/request/*`, `backup/*`, `list/head`) in hexadecimal.
use std::time::Duration;

use offhook_proto::identity::{DirectoryKey, IdentityKey, SealKey, TerminalId};
use offhook_proto::number::Number;
use offhook_proto::proof::{ChosenCert, Miner, NumberProof, PlainProof, SignedChosenCert, SignedTransfer};
use offhook_proto::record::{AccountRecord, BackupAt};
use offhook_proto::wire::{UnixMillis, encode};

const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

fn record(number: &str, proof: NumberProof, revoked: Vec<TerminalId>, transfers: Vec<SignedTransfer>) -> AccountRecord {
    AccountRecord {
        number: number.parse::<Number>().unwrap(),
        proof,
        identity: IdentityKey::from_seed([7; 32]).public(),
        mailbox: SealKey::from_seed([9; 32]).public(),
        mailboxes: vec!["/dns4/mailbox.example/tcp/443".parse().unwrap()],
        revoked,
        seq: NOW,
        expires: NOW.plus(Duration::from_secs(400 * 86_400)),
        transfers,
        backups: vec![BackupAt::new(&IdentityKey::from_seed([7; 32]), &DirectoryKey::from_seed([77; 32]).public(), 3)],
    }
}

fn main() {
    let identity = IdentityKey::from_seed([7; 32]);
    let mined: Vec<_> = [(7u8, 0u64), (8, 0), (7, 79)]
        .into_iter()
        .map(|(seed, from)| {
            let key = IdentityKey::from_seed([seed; 32]);
            let (proof, number) = Miner::new().mine(&key.public(), from..from + 5000).unwrap();
            serde_json::json!({
                "seed": hex::encode([seed; 32]), "identity": key.public().to_string(), "from": from,
                "nonce": proof.nonce, "number": number.as_str(), "display": number.to_string(),
                "proof": hex::encode(encode(&NumberProof::Plain(proof))),
            })
        })
        .collect();
    let directory = DirectoryKey::from_seed([77; 32]);
    let cert = ChosenCert {
        number: "홍길동@directory.example".parse().unwrap(),
        identity: identity.public(),
        directory: directory.public(),
        issued: NOW,
        expires: NOW.plus(Duration::from_secs(180 * 86_400)),
    };
    let signed = SignedChosenCert::issue(&directory, &cert);
    let plain = NumberProof::Plain(PlainProof { nonce: 78 });
    let chosen = NumberProof::Chosen(signed.clone(), PlainProof { nonce: 78 });
    let number = cert.number.record_key(Some(&cert.directory)).unwrap();
    let transfer = SignedTransfer::sign(&IdentityKey::from_seed([8; 32]), number, identity.public(), NOW);
    let terminal = TerminalId::from_bytes(*identity.public().as_bytes());
    let envelope = identity.sign("offhook/account-record/1", b"payload");
    let out = serde_json::json!({
        "mined": mined,
        "envelope": {"seed": hex::encode([7; 32]), "domain": "offhook/account-record/1", "payload": hex::encode(b"payload"), "bytes": hex::encode(encode(&envelope))},
        "mailbox": {"seed": hex::encode([9; 32]), "public": SealKey::from_seed([9; 32]).public().to_string()},
        "peer_id": {"terminal": terminal.to_string(), "text": terminal.to_peer_id()},
        "certificate": {
            "bytes": hex::encode(encode(&signed)), "directory": directory.public().to_string(), "number": cert.number.canonical(),
            "identity": identity.public().to_string(), "issued": cert.issued.0, "expires": cert.expires.0,
        },
        "transfer": hex::encode(encode(&transfer)),
        "records": [
            {"number": "387245519274", "proof": hex::encode(encode(&plain)), "now": NOW.0, "bytes": hex::encode(encode(&record("387245519274", plain.clone(), vec![], vec![]).sign(&identity)))},
            {"number": "387245519274", "proof": hex::encode(encode(&plain)), "now": NOW.0, "revoked": [terminal.to_string()], "bytes": hex::encode(encode(&record("387245519274", plain, vec![terminal], vec![]).sign(&identity)))},
            {"number": cert.number.canonical(), "proof": hex::encode(encode(&chosen)), "now": NOW.0, "bytes": hex::encode(encode(&record(&cert.number.canonical(), chosen, vec![], vec![transfer.clone()]).sign(&identity)))},
        ],
    });
    println!("{}", serde_json::to_string_pretty(&out).unwrap());
}
