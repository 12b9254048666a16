//! What terminals and directories say to one another about mailboxes, and entries as any terminal can sign them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use offhook_proto::identity::{DirectoryId, TerminalKey};
use offhook_proto::knock::Network;
use offhook_proto::mailbox::MailboxId;
use offhook_proto::mailbox::contacts::DepositRules;
use offhook_proto::mailbox::protocol::{
    Admission, EntryKey, MAX_ENTRY_BYTES, MAX_MESSAGE, Request, Response, SignedEntry,
};
use offhook_proto::puzzle::{Purpose, PuzzleKey, Subject};
use offhook_proto::wire::{self, UnixMillis, domain};

const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

/// Nobody gets in by bytes that he has made up.
fn enters(entry: &SignedEntry) {
    let key = EntryKey::from_seed([99; 32]);
    let peer = TerminalKey::from_seed([1; 32]).public();
    let directory = DirectoryId::from_bytes([77; 32]);
    assert!(entry.verify(&directory, &key, &peer, |_| Vec::new(), NOW).is_err());
}

fn admitted(mailbox: &MailboxId, admission: &Admission) {
    match admission {
        Admission::Token(token) => assert!(DepositRules::default().admit(token, NOW).is_err()),
        Admission::Work(solution) => {
            let subject = Subject::deposit(mailbox, &Network::V4([203, 0, 113]));
            let purpose = Purpose::deposit(mailbox, &offhook_proto::mailbox::BlobId::of(b""));
            let key = PuzzleKey::from_seed([98; 32]);
            assert!(key.check(&subject, solution, &purpose, 0, NOW).is_err());
        }
    }
}

fuzz_target!(|data: &[u8]| {
    if let Ok(request) = Request::from_bytes(data) {
        let again = request.to_bytes();
        assert!(again.len() <= MAX_MESSAGE && Request::from_bytes(&again).as_ref() == Ok(&request));
        let _ = (format!("{request:?}"), request.needs_entry());
        if let Request::Enter { entry } = &request {
            enters(entry);
        }
        if let Request::Deposit { mailbox, admission, .. } = &request {
            admitted(mailbox, admission);
        }
    }
    if let Ok(response) = Response::from_bytes(data) {
        let again = response.to_bytes();
        assert!(Response::from_bytes(&again).as_ref() == Ok(&response));
        let _ = format!("{response:?}");
    }
    let signed = TerminalKey::from_seed([1; 32]).sign(domain::MAILBOX_ENTRY, data);
    if let Ok(entry) = wire::decode::<SignedEntry>(&wire::encode(&signed), MAX_ENTRY_BYTES) {
        enters(&entry);
    }
});
