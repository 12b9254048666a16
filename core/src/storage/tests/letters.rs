use super::*;
use offhook_proto::identity::{DirectoryId, MailboxKey};
use offhook_proto::mailbox::BlobId;
use offhook_proto::mailbox::letter::{Content, Format, Mark, MessageId, PIECE_BYTES, Voicemail};
use offhook_proto::signalling::Introduction;
use sha2::{Digest as _, Sha256};

async fn ada() -> (TempDir, Home, AccountStore) {
    let (dir, home) = home_with_ada().await;
    let store = home.open_account(&id("ada")).await.unwrap();
    (dir, home, store)
}

fn letter(n: u8) -> MessageId {
    MessageId::from_bytes([n; 16])
}

fn text(body: &str) -> Content {
    Content::Text { body: body.to_owned() }
}

fn from<'a>(number: &'a Number, n: u8, written: u64) -> Sender<'a> {
    Sender { identity: someone(9), number, id: letter(n), written: UnixMillis(written) }
}

#[tokio::test]
async fn p12_letters_are_in_order_and_are_as_they_were_after_a_restart() {
    let (_dir, home, store) = ada().await;
    let (bob, eve) = (number(1), number(2));
    let first = store.letter_put(letter(1), &bob, &text("one"), UnixMillis(1_000)).await.unwrap();
    assert_eq!((first.after, first.written), (None, UnixMillis(1_000)));
    let mark = Content::Mark { mark: Mark::Read, of: vec![letter(7), letter(8)] };
    let marked = store.letter_put(letter(2), &bob, &mark, UnixMillis(900)).await.unwrap();
    assert_eq!((marked.after, marked.written), (None, UnixMillis(1_001)), "later than the one before");
    let second = store.letter_put(letter(3), &bob, &text("two"), UnixMillis(500)).await.unwrap();
    assert_eq!((second.after, second.written), (Some(letter(1)), UnixMillis(1_002)), "a mark is not missed");
    let other = store.letter_put(letter(4), &eve, &text("x"), UnixMillis(500)).await.unwrap();
    assert_eq!((other.after, other.written), (None, UnixMillis(500)));
    let again = store.letter_put(letter(1), &bob, &text("another"), UnixMillis(9_000)).await.unwrap();
    assert_eq!(again, first, "one of the same id stays");

    let mailbox = MailboxKey::from_seed([4; 32]).public();
    let intro = Introduction {
        number: store.number().clone(),
        proof: store.proof().clone(),
        identity: store.identity(),
        cert: store.cert(),
        routes: Vec::new(),
        chosen: None,
    };
    let sealed = SealedFor { identity: someone(9), mailbox, from: intro };
    store.letter_piece(&letter(1), "node", 5).await.unwrap();
    store.letter_sealed(&letter(1), &sealed).await.unwrap();
    assert!(store.letter_pieces(&letter(1), "node").await.unwrap().is_empty(), "they were sealed otherwise");
    store.letter_piece(&letter(1), "node", 0).await.unwrap();
    store.close().await;
    drop(store);

    let store = home.open_account(&id("ada")).await.unwrap();
    let waiting = store.letters_waiting().await.unwrap();
    assert_eq!(waiting.iter().map(|(id, ..)| *id).collect::<Vec<_>>(), [1, 2, 3, 4].map(letter));
    let kept = store.letter(&letter(1)).await.unwrap().unwrap();
    assert_eq!(kept, OutLetter { sealed: Some(sealed), ..first.clone() });
    assert_eq!(kept.piece_seed(0, &mailbox), first.piece_seed(0, &mailbox), "so the blob is the same");
    assert_ne!(kept.piece_seed(0, &mailbox), kept.piece_seed(1, &mailbox));
    assert_eq!(store.letter_pieces(&letter(1), "node").await.unwrap(), [0]);
    assert_eq!(store.letter(&letter(2)).await.unwrap().unwrap().content, mark);
    store.letter_done(&letter(1), None).await.unwrap();
    assert_eq!(store.letter(&letter(1)).await.unwrap(), None);
}

#[tokio::test]
async fn p12_a_text_is_taken_once_whichever_way_it_comes() {
    let (_dir, _home, store) = ada().await;
    let bob = number(1);
    assert!(store.take_text(from(&bob, 1, 100), "hello").await.unwrap());
    assert!(!store.take_text(from(&bob, 1, 100), "hello").await.unwrap(), "from another directory");
    let straight = MessageEntry {
        id: letter(2).to_string(),
        number: bob.clone(),
        body: "straight".into(),
        sent: UnixMillis(200),
        state: MessageState::Received,
    };
    assert!(store.message_add(&straight).await.unwrap());
    assert!(!store.take_text(from(&bob, 2, 200), "straight").await.unwrap());
    assert_eq!(store.messages(Some(&bob), 10).await.unwrap().len(), 2);
    let blob = BlobId::of(b"a");
    assert!(!store.mail_had(&blob).await.unwrap());
    store.mail_has(&blob, wall_clock()).await.unwrap();
    assert!(store.mail_had(&blob).await.unwrap());
}

#[tokio::test]
async fn p12_a_message_is_marked_by_its_receiver_alone_and_never_back() {
    let (_dir, _home, store) = ada().await;
    let (bob, eve) = (number(1), number(2));
    let entry = MessageEntry {
        id: letter(1).to_string(),
        number: bob.clone(),
        body: "x".into(),
        sent: UnixMillis(1),
        state: MessageState::Sending,
    };
    store.message_add(&entry).await.unwrap();
    store.letter_put(letter(1), &bob, &text("x"), UnixMillis(1)).await.unwrap();
    assert_eq!(store.give_up_unsent().await.unwrap(), 0, "it still waits");
    store.letter_done(&letter(1), Some(MessageState::Left)).await.unwrap();
    let state = async || store.messages(None, 1).await.unwrap()[0].state;
    assert_eq!(state().await, MessageState::Left);
    let of = [letter(1)];
    assert!(store.take_mark(from(&eve, 50, 1), Mark::Read, &of).await.unwrap().is_empty());
    assert_eq!(state().await, MessageState::Left, "somebody else says so");
    assert_eq!(store.take_mark(from(&bob, 51, 1), Mark::Read, &of).await.unwrap(), of);
    assert!(store.take_mark(from(&bob, 52, 1), Mark::Delivered, &of).await.unwrap().is_empty());
    assert!(store.take_mark(from(&bob, 53, 1), Mark::Other(9), &of).await.unwrap().is_empty());
    assert_eq!(state().await, MessageState::Read);
    store.letter_done(&letter(1), Some(MessageState::Failed)).await.unwrap();
    assert_eq!(state().await, MessageState::Read, "what is there is not lost by what comes late");
}

#[tokio::test]
async fn p14_a_voice_message_is_whole_when_all_its_pieces_are_there_in_any_order_and_unaltered() {
    let (_dir, _home, store) = ada().await;
    let bob = number(1);
    let audio: Vec<u8> = (0..PIECE_BYTES + 500).map(|n| (n % 251) as u8).collect();
    let part = |piece: u16, data: &[u8]| VoicePart {
        piece,
        duration_ms: 40_000,
        total: audio.len() as u32,
        digest: Sha256::digest(&audio).into(),
        data: data.to_vec(),
    };
    let (begin, end) = audio.split_at(PIECE_BYTES);
    assert_eq!(store.take_voice(from(&bob, 1, 100), part(1, end)).await.unwrap(), None);
    assert_eq!(store.take_voice(from(&bob, 1, 100), part(1, end)).await.unwrap(), None, "repeated");
    let altered = vec![0; PIECE_BYTES];
    assert_eq!(store.take_voice(from(&bob, 1, 100), part(0, &altered)).await.unwrap(), None);
    let whole = store.take_voice(from(&bob, 1, 100), part(0, begin)).await.unwrap().unwrap();
    assert_eq!((whole.bytes, whole.duration_ms, whole.heard), (audio.len() as u64, 40_000, false));
    assert_eq!(store.take_voice(from(&bob, 1, 100), part(0, begin)).await.unwrap(), None, "taken once");
    assert_eq!(store.voicemails(10).await.unwrap(), std::slice::from_ref(&whole));
    assert_eq!(store.voicemail_audio(whole.row).await.unwrap(), Some(audio.clone()));
    assert!(store.voicemails(10).await.unwrap()[0].heard);
    assert!(store.voicemail_delete(whole.row).await.unwrap());
    assert!(!store.voicemail_delete(whole.row).await.unwrap());
    let voicemail = Voicemail { duration_ms: 5, format: Format::OggOpus, audio };
    let content = Content::Voicemail(voicemail);
    let put = store.letter_put(letter(3), &bob, &content, UnixMillis(1)).await.unwrap();
    assert_eq!(put.content, content);
}

#[tokio::test]
async fn tokens_are_kept_for_each_directory_and_go_when_they_are_no_good() {
    let (_dir, _home, store) = ada().await;
    let secret = store.token_secret();
    let at = [DirectoryId::from_bytes([1; 32]), DirectoryId::from_bytes([2; 32])];
    let grants = at.map(|at| secret.grant(&at, &someone(9), 0, wall_clock()));
    store.keep_grants(&someone(9), &grants).await.unwrap();
    assert_eq!(store.token(&someone(9), &at[1]).await.unwrap(), Some(grants[1].token));
    store.forget_token(&someone(9), &at[1]).await.unwrap();
    assert_eq!(store.token(&someone(9), &at[1]).await.unwrap(), None);
    assert_eq!(store.token(&someone(9), &at[0]).await.unwrap(), Some(grants[0].token));
    store.set_mailbox_directories(&at).await.unwrap();
    assert_eq!(store.mailbox_directories().await.unwrap(), at);
}

#[tokio::test]
async fn an_account_record_names_the_mailboxes_when_it_is_signed_anew() {
    let (_dir, home, store) = ada().await;
    let node: offhook_proto::number::NodeAddr =
        "/ip4/192.0.2.1/udp/1/quic-v1/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN"
            .parse()
            .unwrap();
    store.set_mailboxes(std::slice::from_ref(&node)).await.unwrap();
    assert!(store.of_record().await.unwrap().1.is_empty(), "nothing is signed without the key");
    let key = home.unlock(&id("ada"), &password("pw one")).await.unwrap();
    assert!(store.update_record(&key, &[]).await.unwrap());
    assert!(!store.update_record(&key, &[]).await.unwrap());
    assert_eq!(store.of_record().await.unwrap().1, [node]);
}
