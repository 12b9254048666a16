use proptest::prelude::*;

use super::*;
use crate::identity::{Fingerprint, IdentityId, IdentityKey};
use crate::wire;

const PLAIN: &str = "482109375567";

fn parse(text: &str) -> Result<String, NumberError> {
    text.parse::<Number>().map(|number| number.canonical())
}

#[track_caller]
fn reads(text: &str, canonical: &str) {
    assert_eq!(parse(text), Ok(canonical.to_owned()), "{text:?}");
}

#[track_caller]
fn refused(text: &str, error: impl Into<NumberError>) {
    assert_eq!(parse(text), Err(error.into()), "{text:?}");
}

#[test]
fn plain_numbers_parse_from_what_people_type() {
    for text in [
        "482109375567",
        "4821 0937 5567",
        "  4821-0937-5567\n",
        "4821.0937.5567",
        "(4821) 0937 5567",
        "4821\u{a0}0937\u{202f}5567",
        "4821–0937—5567",
        "4821\u{2011}0937\u{2212}5567",
        "４８２１ ０９３７ ５५६７",
        "４８２１－０９３７－５५६７",
        "（4821）0937・5567",
        "٤٨٢١ ٠٩٣٧ ٥٥٦٧",
        "४८२१०९३७५५६७",
        "𝟒𝟖𝟐𝟏 𝟎𝟗𝟑𝟕 𝟓𝟓𝟔𝟕",
        "\u{202a}4821 0937 5567\u{202c}",
        "4\u{200b}82109375567\u{feff}",
        "offhook:482109375567",
        "OFFHOOK:4821-0937-5567",
        "offhook://482109375567/",
        "offhook:4821%200937%205567?key=72asyextvngonlc5w2nmguxzay",
        "tel:4821-0937-5567",
        "TEL:(4821)0937.5567;phone-context=offhook;ext=3",
    ] {
        reads(text, PLAIN);
    }
}

#[test]
fn plain_numbers_print_in_groups() {
    let number: Number = PLAIN.parse().unwrap();
    assert_eq!(number.to_string(), "4821 0937 5567");
    assert_eq!(number.to_string().parse(), Ok(number));
}

#[test]
fn mistyped_numbers_are_told_apart() {
    refused("", NumberError::Empty);
    refused(" \u{a0}\u{200e} ", NumberError::Empty);
    refused("()-.", NumberError::Empty);
    refused("offhook:", NumberError::Empty);
    refused("tel:", NumberError::Empty);
    refused("4821 0937 5562", NumberError::CheckDigit);
    refused("4821 0937 556", NumberError::Length { digits: 11 });
    refused("4821 0937 5567 0", NumberError::Length { digits: 13 });
    refused("123456789", NumberError::Length { digits: 9 });
    refused("+48 210 937 5567", Refusal::CountryCode);
    refused("tel:+482109375567", Refusal::CountryCode);
    refused("＋482109375567", Refusal::CountryCode);
    refused("482109375567@directory.example", Refusal::PlainAtDirectory);
    refused("offhook:48%2", Refusal::Link);
    refused("offhook:%ff%fe", Refusal::Link);
    refused(&"a".repeat(MAX_TYPED_BYTES + 1), NumberError::TooLong);
    refused(&"1 ".repeat(MAX_TYPED_BYTES), NumberError::TooLong);
}

#[test]
fn errors_speak_to_ordinary_people() {
    assert_eq!(
        NumberError::CheckDigit.to_string(),
        "That number has a typing mistake (the check digit does not fit)."
    );
    assert_eq!(NumberError::Length { digits: 11 }.to_string(), "A number has 12 digits; this one has 11.");
    assert_eq!(
        NumberError::from(Refusal::Blank).to_string(),
        "A number that is a word cannot contain blanks."
    );
}

#[test]
fn every_slip_of_a_digit_is_found() {
    let number = PlainNumber::from_index(48_210_937_556);
    assert_eq!(number.as_str(), PLAIN);
    let digits = number.digits();
    for i in 0..12 {
        for wrong in (0..10).filter(|wrong| *wrong != digits[i]) {
            let mut slip = digits;
            slip[i] = wrong;
            assert_eq!(PlainNumber::from_digits(&slip), Err(NumberError::CheckDigit));
        }
        let mut swapped = digits;
        swapped.swap(i, (i + 1) % 12);
        if i < 11 && swapped != digits {
            assert_eq!(PlainNumber::from_digits(&swapped), Err(NumberError::CheckDigit));
        }
    }
}

#[test]
fn the_first_and_the_last_plain_number() {
    assert_eq!(PlainNumber::from_index(0).as_str(), "000000000000");
    assert_eq!(PlainNumber::from_index(PlainNumber::COUNT), PlainNumber::from_index(0));
    assert_eq!(&PlainNumber::from_index(PlainNumber::COUNT - 1).as_str()[..11], "99999999999");
    assert_eq!(PlainNumber::from_digits(&[10; 12]), Err(NumberError::CheckDigit));
}

#[test]
fn chosen_numbers_have_one_normal_form() {
    reads("ada", "ada");
    reads(" ADA ", "ada");
    reads("ａｄａ", "ada");
    reads("홍길동", "홍길동");
    reads("\u{1112}\u{1169}\u{11bc}\u{1100}\u{1175}\u{11af}\u{1103}\u{1169}\u{11bc}", "홍길동");
    reads("Straße", "strasse");
    reads("ΟΔΥΣΣΕΥΣ", "οδυσσευσ");
    reads("Οδυσσεύς", "οδυσσεύσ");
    reads("e\u{301}va", "éva");
    reads("ﬁx", "fix");
    reads("İstanbul", "i\u{307}stanbul");
    reads("1004", "1004");
    reads("10-04", "1004");
    reads("१००४", "1004");
    reads("١٠٠٤@directory.example", "1004@directory.example");
    reads("☎7", "☎7");
    reads("☎\u{fe0f}7", "☎7");
    reads("☎७", "☎7");
    reads("🤖", "🤖");
    reads("*7#", "*7#");
    reads("ada-lovelace", "ada-lovelace");
    reads("שלום", "שלום");
    reads("مرحبا", "مرحبا");
    reads("נ7", "נ7");
    reads("ไทย", "ไทย");
    reads("𞤀𞤣𞤤𞤢𞤥", "𞤢𞤣𞤤𞤢𞤥");
    reads("క\u{c4d}\u{200c}ష", "క\u{c4d}\u{200c}ష");
}

#[test]
fn chosen_numbers_parse_in_full() {
    reads("Ada@Directory.Example", "ada@directory.example");
    reads("ada＠directory．example．", "ada@directory.example");
    reads("ada @ directory.example", "ada@directory.example");
    reads("offhook:%ED%99%8D%EA%B8%B8%EB%8F%99@directory.example", "홍길동@directory.example");
    reads("ada@xn--bcher-kva.example", "ada@xn--bcher-kva.example");
    for directory in ["", "a b", "-a.example", "a-.example", "a..b", "bücher.example", "a@b", "x_y", "a/b"] {
        refused(&format!("ada@{directory}"), Refusal::Directory);
    }
    refused(&format!("ada@{}.example", "x".repeat(64)), Refusal::Directory);
    refused(&format!("ada@{}x", "x.".repeat(127)), Refusal::Directory);
    refused("@directory.example", NumberError::Empty);
}

#[test]
fn what_cannot_be_a_number_is_refused() {
    refused("ada lovelace", Refusal::Blank);
    refused("ada\u{3000}lovelace", Refusal::Blank);
    refused("ada\u{b4}", Refusal::Blank); // the accent stands on a blank of its own
    refused("a\u{202e}da", Refusal::Invisible);
    refused("a\u{2066}d\u{2069}a", Refusal::Invisible);
    refused("a\u{200b}da", Refusal::Invisible);
    refused("a\u{7}da", Refusal::Invisible);
    refused("a\u{200d}da", Refusal::Invisible); // a joiner where it joins nothing
    refused("\u{301}ada", Refusal::LeadingMark);
    refused("ada?", Refusal::Character('?'));
    refused("sip:ada", Refusal::Character(':'));
    refused("a/b", Refusal::Character('/'));
    refused("℀da", Refusal::Character('/'));
    refused("ada\u{e000}", Refusal::Character('\u{e000}'));
    refused("ada\u{378}", Refusal::Character('\u{378}')); // not assigned
    refused("ada\u{3164}", Refusal::Character('\u{1160}')); // a filler that shows as nothing
    refused("adaשלום", Refusal::Direction);
    refused(&"ä".repeat(33), NumberError::TooLong);
    refused(&"🤖".repeat(25), NumberError::TooLong);
}

#[test]
fn words_cannot_pose_as_plain_numbers() {
    let posing = |name: &str| ChosenNumber::new(name, None).err();
    assert_eq!(posing("482109375567"), Some(Refusal::LooksPlain.into()));
    assert_eq!(posing("4821 0937 5567"), Some(Refusal::LooksPlain.into()));
    assert_eq!(posing("４８２１٠٩٣٧५५६७"), Some(Refusal::LooksPlain.into()));
    refused("4821O9375567", Refusal::LooksPlain);
    refused("482lo9375567", Refusal::LooksPlain);
    refused("4821.0937.556б.o", Refusal::LooksPlain);
}

#[test]
fn names_that_look_alike_have_one_skeleton() {
    let skeleton = |name: &str| ChosenNumber::new(name, None).unwrap().skeleton();
    for (one, other) in [("paypal", "pаypаl"), ("lol", "1o1"), ("adam", "adarn"), ("b0b", "bob"), ("ο", "o")]
    {
        assert_ne!(ChosenNumber::new(one, None), ChosenNumber::new(other, None));
        assert_eq!(skeleton(one), skeleton(other), "{one} {other}");
    }
    assert_ne!(skeleton("ada"), skeleton("eva"));
}

#[test]
fn record_keys_have_vectors() {
    // Computed a second time with Python's hashlib.
    let alice = Number::from_canonical("387245519274").unwrap();
    let key = alice.record_key(None).unwrap();
    let hex = data_encoding::HEXLOWER.encode(key.as_bytes());
    assert_eq!(hex, "7391e472bdbf6231904fdec17f1252574f674419eb3769d46400234d06f04af9");
    let directory = DirectoryId::from_bytes([5; 32]);
    assert_eq!(alice.record_key(Some(&directory)), Some(key), "a plain number needs no directory");
    let chosen: Number = "홍길동@directory.example".parse().unwrap();
    let key = chosen.record_key(Some(&directory)).unwrap();
    let hex = data_encoding::HEXLOWER.encode(key.as_bytes());
    assert_eq!(hex, "d295e7af90186bfd94fedc74549dc9c909c012fd4fc509ce060d996c0f033245");
    assert_eq!(chosen.record_key(None), None);
    assert_eq!("홍길동".parse::<Number>().unwrap().record_key(Some(&directory)), Some(key));
    assert_ne!(chosen.record_key(Some(&DirectoryId::from_bytes([6; 32]))), Some(key));
}

#[test]
fn only_the_canonical_form_is_decoded() {
    let bytes = |text: &str| minicbor::to_vec(text).unwrap();
    assert_eq!(
        wire::decode::<Number>(&bytes(PLAIN), 64).map(|number| number.canonical()),
        Ok(PLAIN.to_owned())
    );
    for text in ["4821 0937 5567", "Ada", "offhook:ada", "", "☎\u{fe0f}7", "482109375562"] {
        assert_eq!(wire::decode::<Number>(&bytes(text), 64), Err(wire::WireError::Malformed), "{text}");
    }
    assert_eq!(Number::from_canonical("Ada"), Err(NumberError::NotCanonical));
}

fn example_link() -> (Invitation, String) {
    let key = IdentityKey::from_seed([7; 32]).public().fingerprint();
    let via = [
        "/ip4/192.0.2.1/udp/4001/quic-v1/p2p/12D3KooWRawPbxPtP1eZaJpumGnyWX2DcUyd3RQnydr3eAto4Az7",
        "/dnsaddr/directory.example",
    ];
    let invitation = Invitation {
        number: PLAIN.parse().unwrap(),
        key: Some(key),
        via: via.iter().map(|via| via.parse().unwrap()).collect(),
    };
    (invitation, format!("offhook:{PLAIN}?key={key}&via={}&via={}", via[0], via[1]))
}

#[test]
fn invitation_links_say_whom_to_dial_and_where_to_enter() {
    let (invitation, link) = example_link();
    assert_eq!(invitation.to_string(), link);
    assert_eq!(link.parse(), Ok(invitation.clone()));
    let encoded = link.replace('/', "%2F").replace("offhook:", "OFFHOOK://");
    assert_eq!(encoded.parse(), Ok(invitation.clone()), "as other programs pass it on");
    assert_eq!(format!("{link}&later=1#part").parse(), Ok(invitation));
}

#[test]
fn a_number_alone_is_an_invitation() {
    for text in ["4821 0937 5567", "offhook:482109375567", "tel:4821-0937-5567", "offhook:482109375567?"] {
        let expected = Invitation { number: PLAIN.parse().unwrap(), key: None, via: Vec::new() };
        assert_eq!(text.parse(), Ok(expected), "{text}");
    }
    let chosen: Invitation = "☎7@directory.example".parse().unwrap();
    assert_eq!(chosen.to_string(), "offhook:%E2%98%8E7@directory.example");
}

#[test]
fn damaged_links_are_refused() {
    let error = |link: &str| link.parse::<Invitation>().err();
    let key = "72asyextvngonlc5w2nmguxzay";
    assert_eq!(error("offhook:482109375562"), Some(NumberError::CheckDigit.into()));
    assert_eq!(error("offhook:ada?key="), Some(InvitationError::Key(crate::identity::IdError::Fingerprint)));
    assert_eq!(error("offhook:ada?key=x"), Some(InvitationError::Key(crate::identity::IdError::Fingerprint)));
    assert_eq!(error(&format!("offhook:ada?key={key}&key={key}")), Some(InvitationError::TooMany));
    assert_eq!(error("offhook:ada?via=nonsense"), Some(InvitationError::Via(NodeAddrError::Syntax)));
    assert_eq!(error("offhook:ada?via=%2"), Some(NumberError::from(Refusal::Link).into()));
    let vias = "&via=/dns4/a/udp/1".repeat(MAX_VIA);
    assert_eq!(error(&format!("offhook:ada?x=1{vias}")), None);
    assert_eq!(error(&format!("offhook:ada?via=/dns4/b/udp/1{vias}")), Some(InvitationError::TooMany));
    assert_eq!(error(&format!("offhook:ada?{}", "x".repeat(MAX_LINK_BYTES))), Some(InvitationError::TooLong));
}

#[test]
fn the_longest_link_can_be_read() {
    let label = "d".repeat(63);
    let directory = [&label[..], &label, &label, &label[..61]].join(".");
    let via = format!("/dns4/{}", "%".repeat(MAX_NODE_ADDR_BYTES - "/dns4/".len()));
    let invitation = Invitation {
        number: format!("{}@{directory}", "홍".repeat(32)).parse().unwrap(),
        key: Some(IdentityId::from_bytes([255; 32]).fingerprint()),
        via: vec![via.parse().unwrap(); MAX_VIA],
    };
    assert_eq!(invitation.to_string().parse(), Ok(invitation));
}

#[test]
fn node_addresses_are_checked_superficially() {
    let peer = "12D3KooWRawPbxPtP1eZaJpumGnyWX2DcUyd3RQnydr3eAto4Az7";
    let direct: NodeAddr = format!("/ip4/192.0.2.1/udp/4001/quic-v1/p2p/{peer}").parse().unwrap();
    assert_eq!(direct.ip(), Some("192.0.2.1".parse().unwrap()));
    assert_eq!((direct.peer_id(), direct.is_relayed()), (Some(peer), false));
    let relayed: NodeAddr =
        format!("/dns/d.example/tcp/443/p2p/12D3KooW/p2p-circuit/p2p/{peer}").parse().unwrap();
    assert_eq!((relayed.peer_id(), relayed.is_relayed(), relayed.ip()), (Some(peer), true, None));
    let relay = "/dns/d.example/tcp/443/p2p/12D3KooW".parse().unwrap();
    assert_eq!((relayed.relay(), direct.relay()), (Some(relay), None));
    let named: NodeAddr = format!("/dns/p2p-circuit/tcp/1/p2p/{peer}").parse().unwrap();
    assert!(!named.is_relayed(), "a host may have the name of a protocol");
    let v6: NodeAddr = "/ip6/2001:db8::1/udp/1/quic-v1".parse().unwrap();
    assert_eq!((v6.ip(), v6.peer_id()), (Some("2001:db8::1".parse().unwrap()), None));
    let error = |text: &str| text.parse::<NodeAddr>().err();
    for text in
        ["", "/", "ip4/1.2.3.4", "/ip4", "/ip4//tcp/1", "/http/x", "/ip4/1.2.3.4/udp", "/dns4/a b", "/dns4/ü"]
    {
        assert_eq!(error(text), Some(NodeAddrError::Syntax), "{text}");
    }
    for text in ["/ip4/1.2.3/udp/1", "/ip6/1.2.3.4/udp/1", "/ip4/1.2.3.4/udp/65536", "/dns4/a/tcp/x"] {
        assert_eq!(error(text), Some(NodeAddrError::Value), "{text}");
    }
    assert_eq!(error(&format!("/dns4/{}", "a".repeat(256))), Some(NodeAddrError::TooLong));
}

#[test]
fn debug_tells_neither_numbers_nor_addresses() {
    let (invitation, _) = example_link();
    let chosen: Number = "홍길동@directory.example".parse().unwrap();
    let shown = format!("{invitation:?} {chosen:?} {:?}", invitation.number.record_key(None));
    for secret in ["4821", "0937", "5567", "192.0.2", "4001", "12D3", "홍", "directory", "72asye"] {
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
    assert!(shown.contains("/ip4/…/udp/…/quic-v1/p2p/…"), "{shown}");
    assert!(shown.contains("Plain(…67)"), "{shown}");
}

fn any_number() -> impl Strategy<Value = Number> {
    let plain = any::<u64>().prop_map(|index| Number::Plain(PlainNumber::from_index(index)));
    let chosen = ("[\\PC&&[^@]]{1,12}", proptest::option::of("[a-z0-9]{1,9}(\\.[a-z]{2,5})?"))
        .prop_filter_map("no number", |(name, directory)| ChosenNumber::new(&name, directory.as_deref()).ok())
        .prop_map(Number::Chosen);
    prop_oneof![plain, chosen]
}

proptest! {
    #[test]
    fn canonical_and_shown_forms_lead_back(number in any_number()) {
        prop_assert_eq!(Number::from_canonical(&number.canonical()), Ok(number.clone()));
        prop_assert_eq!(number.to_string().parse(), Ok(number.clone()));
        let json = serde_json::to_string(&number).unwrap();
        prop_assert_eq!(&serde_json::from_str::<Number>(&json).unwrap(), &number);
        let bytes = wire::encode(&number);
        let decoded: Number = wire::decode(&bytes, 1024).unwrap();
        prop_assert_eq!(wire::encode(&decoded), bytes);
        prop_assert_eq!(&decoded, &number);
        let invitation = Invitation { number, key: None, via: Vec::new() };
        prop_assert_eq!(invitation.to_string().parse(), Ok(invitation));
    }

    #[test]
    fn whatever_parses_is_in_its_normal_form(text in any::<String>()) {
        if let Ok(number) = text.parse::<Number>() {
            let canonical = number.canonical();
            prop_assert_eq!(Number::from_canonical(&canonical), Ok(number));
        }
        let _ = text.parse::<Invitation>();
        let _ = text.parse::<NodeAddr>();
        let _ = text.parse::<Fingerprint>();
    }

    #[test]
    fn links_never_panic(text in "offhook:(//)?[0-9a-z%@ ]{0,20}(\\?(key|via)=[/a-z0-9%.&=]{0,40})?") {
        if let Ok(invitation) = text.parse::<Invitation>() {
            prop_assert_eq!(invitation.to_string().parse(), Ok(invitation));
        }
    }

    #[test]
    fn node_addresses_survive_encoding(text in "/(ip4/192\\.0\\.2\\.[1-9]|dns4/[a-z.]{1,20})/(udp|tcp)/[1-9][0-9]{0,3}(/[!-.0-~]{1,9}){0,4}") {
        let Ok(addr) = text.parse::<NodeAddr>() else { return Ok(()) };
        prop_assert_eq!(addr.to_string(), text);
        let bytes = wire::encode(&addr);
        prop_assert_eq!(wire::decode::<NodeAddr>(&bytes, 300), Ok(addr));
    }

    #[test]
    fn decoding_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
        let _ = wire::decode::<Number>(&bytes, 4096);
        let _ = wire::decode::<NodeAddr>(&bytes, 4096);
        let _ = wire::decode::<RecordKey>(&bytes, 4096);
    }
}

#[test]
fn q3_a_word_that_only_looks_latin_says_so() {
    let chosen = |word: &str| ChosenNumber::new(word, Some("example.org")).unwrap();
    assert!(chosen("\u{430}d\u{430}").looks_latin(), "Cyrillic letters");
    for honest in ["ada", "1004", "홍길동", "ren\u{e9}", "ада\u{436}"] {
        assert!(!chosen(honest).looks_latin(), "{honest}");
    }
}
