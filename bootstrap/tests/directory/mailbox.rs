//! Mailboxes of a directory as a process: what is left there, by whom, and who gets it.

use offhook::net::{Net, NetEvent};
use offhook_proto::identity::{DirectoryId, DirectoryKey, TerminalId};
use offhook_proto::mailbox::contacts::{DepositRules, TokenSecret};
use offhook_proto::mailbox::protocol::{Admission, Entry, Notice, Refusal, Request, Response, SignedEntry};
use offhook_proto::mailbox::{BlobId, MailboxId};
use offhook_proto::number::NodeAddr;
use offhook_proto::proof::Miner;
use offhook_proto::puzzle::Purpose;
use tokio::sync::mpsc;

use crate::fixture::{Party, now};
use crate::{PATIENCE, Process, get, registered, terminal};

const QUIC: &str = "/ip4/127.0.0.1/udp/0/quic-v1";

/// A terminal that asks a directory.
struct Asker {
    party: Party,
    net: Net,
    events: mpsc::Receiver<NetEvent>,
    node: NodeAddr,
}

impl Asker {
    async fn start(party: Party, node: &NodeAddr) -> Self {
        let (net, events) = terminal(&party, node).await;
        registered(&net).await;
        Self { party, net, events, node: node.clone() }
    }

    async fn ask(&self, request: Request) -> Response {
        self.net.mail(std::slice::from_ref(&self.node), request).await.unwrap()
    }

    async fn refused(&self, request: Request) -> Refusal {
        let answer = self.ask(request).await;
        let Response::Refused { reason } = answer else { panic!("{answer:?}") };
        reason
    }

    fn mailbox(&self) -> MailboxId {
        MailboxId::of(&self.party.identity.public())
    }

    /// The directory, and what it answers to whoever wants to enter the mailbox of `whose`.
    async fn enter_as(&self, whose: &Party) -> (DirectoryId, Response) {
        let Response::Challenge { challenge, node } = self.ask(Request::Challenge).await else {
            panic!("no challenge")
        };
        let peer = TerminalId::from_peer_id(self.node.peer_id().unwrap()).unwrap();
        let directory = node.verify(&peer).unwrap();
        let entry = Entry { directory, challenge, cert: whose.cert(now()), open: true };
        let entry = SignedEntry::sign(&self.party.terminal, &entry);
        (directory, self.ask(Request::Enter { entry }).await)
    }

    async fn enter(&self) -> (DirectoryId, u64) {
        match self.enter_as(&self.party).await {
            (directory, Response::Entered { newest }) => (directory, newest),
            (_, other) => panic!("{other:?}"),
        }
    }

    async fn listed(&self) -> Vec<(BlobId, bool)> {
        let answer = self.ask(Request::List { after: 0, max: 10 }).await;
        let Response::Listed { items, more: false } = answer else { panic!("{answer:?}") };
        items.iter().map(|item| (item.id, item.contact)).collect()
    }

    async fn notice(&mut self) -> Notice {
        let next = async {
            loop {
                if let NetEvent::Mail { notice, .. } = self.events.recv().await.expect("a network that runs")
                {
                    return notice;
                }
            }
        };
        tokio::time::timeout(PATIENCE, next).await.expect("a notice")
    }

    /// Deposits as a stranger does: asks the price and works.
    async fn pay(&self, mailbox: MailboxId, blob: Vec<u8>) -> Response {
        let Response::Price { challenge } = self.ask(Request::Price { mailbox }).await else {
            panic!("no price")
        };
        let purpose = Purpose::deposit(&mailbox, &BlobId::of(&blob));
        let solution = challenge.solve(&purpose, 0..u64::MAX, &mut Miner::new()).unwrap();
        let admission = Admission::Work(solution);
        self.ask(Request::Deposit { mailbox, days: 30, admission, blob }).await
    }
}

#[tokio::test]
async fn p12_what_is_left_is_told_fetched_and_erased_and_outlives_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let mut process = Process::start(folder.path(), QUIC, false);
    let http = process.line("metrics http://").replace("/metrics", "");
    let node = process.addr();
    let mut callee = Asker::start(Party::new(0), &node).await;
    let caller = Asker::start(Party::new(1), &node).await;
    let mailbox = callee.mailbox();

    assert_eq!(caller.refused(Request::Price { mailbox }).await, Refusal::NoMailbox);
    assert_eq!(callee.refused(Request::List { after: 0, max: 1 }).await, Refusal::NotEntered);
    let (directory, newest) = callee.enter().await;
    assert_eq!(newest, 0);
    let seed = std::fs::read(folder.path().join("signing.key")).unwrap().try_into().unwrap();
    assert_eq!(directory, DirectoryKey::from_seed(seed).public());

    // A contact, by its token.
    let secret = TokenSecret::from_seed([5; 32]);
    let keys = vec![secret.deposit_key(&directory)];
    let rules = DepositRules { keys, revoked: Vec::new(), strangers: true };
    assert_eq!(callee.ask(Request::Rules { rules }).await, Response::Done);
    let token = secret.grant(&directory, &caller.party.identity.public(), 0, now()).token;
    let (first, long) = (vec![1; 1_024], vec![2; 128 << 10]);
    for blob in [&first, &long] {
        let admission = Admission::Token(token);
        let deposit = Request::Deposit { mailbox, days: 30, admission, blob: blob.clone() };
        assert_eq!(caller.ask(deposit).await, Response::Kept);
    }
    assert_eq!(callee.notice().await.mailbox, mailbox);
    // A stranger, by work; and one who has not worked.
    let stranger = Asker::start(Party::new(2), &node).await;
    assert_eq!(stranger.pay(mailbox, vec![3; 1_024]).await, Response::Kept);
    let Response::Price { challenge } = stranger.ask(Request::Price { mailbox }).await else {
        panic!("no price")
    };
    let solution = offhook_proto::puzzle::Solution { challenge, nonce: 7 };
    let admission = Admission::Work(solution);
    let lazy = Request::Deposit { mailbox, days: 30, admission, blob: vec![4; 1_024] };
    assert_eq!(stranger.refused(lazy).await, Refusal::Work);

    let all = [(BlobId::of(&first), true), (BlobId::of(&long), true), (BlobId::of(&[3; 1_024]), false)];
    assert_eq!(callee.listed().await, all);
    assert_eq!(callee.ask(Request::Get { id: all[1].0 }).await, Response::Blob { blob: long });
    // Somebody else's mailbox is not got at.
    assert_eq!(stranger.enter_as(&callee.party).await.1, Response::Refused { reason: Refusal::NotEntered });
    stranger.enter().await;
    assert_eq!(stranger.listed().await, []);
    assert_eq!(stranger.refused(Request::Get { id: all[0].0 }).await, Refusal::NoBlob);
    assert_eq!(stranger.ask(Request::Erase { ids: vec![all[0].0] }).await, Response::Done);

    assert_eq!(callee.ask(Request::Acknowledge { ids: vec![all[1].0] }).await, Response::Done);
    assert_eq!(callee.listed().await, [all[0], all[2]]);
    let metrics = get(&http, "/metrics");
    for needed in [
        "offhook_mail_requests_total{request=\"deposit\",result=\"ok\"} 3",
        "offhook_mail_requests_total{request=\"deposit\",result=\"refused\"} 1",
    ] {
        assert!(metrics.contains(needed), "{needed} is missing in {metrics}");
    }
    // What was acknowledged stays gone and the rest stays, however it ends.
    process.signal("-KILL");
    process.end();
    let mut process = Process::start(folder.path(), QUIC, false);
    let node = process.addr();
    let callee = Asker::start(Party::new(0), &node).await;
    assert_eq!(callee.enter().await.1, 3);
    assert_eq!(callee.listed().await, [all[0], all[2]]);
    let Response::Quota(report) = callee.ask(Request::Quota).await else { panic!("no report") };
    assert_eq!((report.contacts.count, report.strangers.count, report.terminals), (1, 1, 1));
    assert_eq!(callee.ask(Request::Close).await, Response::Done);
    assert_eq!(callee.refused(Request::List { after: 0, max: 1 }).await, Refusal::NotEntered);
}

#[tokio::test]
async fn q5_a_copy_of_a_revoked_terminals_files_gets_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut process = Process::start(folder.path(), QUIC, false);
    let node = process.addr();
    let lost = Asker::start(Party::new(0), &node).await;
    lost.enter().await;
    assert_eq!(lost.listed().await, []);
    // The other terminal of the account publishes that the first one is revoked.
    let kept = Asker::start(Party::with_terminal(0, 77), &node).await;
    let mut record = kept.party.account_record(now());
    record.revoked = vec![lost.party.terminal.public()];
    let terminals = vec![kept.party.record(now(), &kept.net.addresses())];
    let set =
        offhook_proto::record::RecordSet { account: Some(record.sign(&kept.party.identity)), terminals };
    kept.net.publish(kept.party.key(), set).await.unwrap();
    assert_eq!(lost.refused(Request::List { after: 0, max: 1 }).await, Refusal::NotEntered, "at once");
    let entered = lost.enter_as(&lost.party).await.1;
    assert_eq!(entered, Response::Refused { reason: Refusal::NotEntered });
    kept.enter().await;
    let Response::Quota(report) = kept.ask(Request::Quota).await else { panic!("no report") };
    assert_eq!(report.terminals, 1, "nobody waits for the lost one");
}

#[tokio::test]
async fn a_directory_without_mailboxes_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Process::command(folder.path(), QUIC);
    command.arg("--mailbox=false");
    let mut process = Process::run(command);
    let node = process.addr();
    let asker = Asker::start(Party::new(0), &node).await;
    assert_eq!(asker.refused(Request::Challenge).await, Refusal::NoMailbox);
}
