use proptest::prelude::*;

use super::*;
use crate::wire;

const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

fn secret() -> TokenSecret {
    TokenSecret::from_seed([5; 32])
}

fn directory(n: u8) -> DirectoryId {
    DirectoryId::from_bytes([n; 32])
}

fn contact(n: u8) -> IdentityId {
    IdentityId::from_bytes([n; 32])
}

fn rules(secrets: &[TokenSecret]) -> DepositRules {
    let keys = secrets.iter().map(|secret| secret.deposit_key(&directory(1))).collect();
    DepositRules { keys, revoked: Vec::new(), strangers: true }
}

#[test]
fn a_directory_knows_a_contact_again_without_knowing_any() {
    let rules = rules(&[secret()]);
    let serial = |n| rules.admit(&secret().grant(&directory(1), &contact(n), 0, NOW).token, NOW);
    assert!(serial(7).is_ok());
    assert_eq!(serial(7), serial(7));
    assert_ne!(serial(7), serial(8));
    let later = secret().grant(&directory(1), &contact(7), 0, NOW.plus(days(90)));
    assert_eq!(rules.admit(&later.token, NOW), serial(7), "and next year, too");
}

#[test]
fn tokens_for_one_directory_mean_nothing_to_another() {
    let here = secret().grant(&directory(1), &contact(7), 0, NOW);
    let there = secret().grant(&directory(2), &contact(7), 0, NOW);
    assert_ne!(here.token.serial, there.token.serial, "two directories cannot compare");
    assert_eq!(rules(&[secret()]).admit(&there.token, NOW), Err(TokenError::Unknown));
}

#[test]
fn a_token_is_good_for_a_year_and_looks_like_others_of_its_month() {
    let rules = rules(&[secret()]);
    let token = secret().grant(&directory(1), &contact(7), 0, NOW).token;
    assert!(rules.admit(&token, NOW.plus(Duration::from_secs(365 * 86_400))).is_ok());
    assert!(rules.admit(&token, token.until).is_ok());
    assert_eq!(rules.admit(&token, UnixMillis(token.until.0 + 1)), Err(TokenError::Expired));
    assert!(token.until <= NOW.plus(TOKEN_LIFETIME));
    let other = secret().grant(&directory(1), &contact(8), 0, NOW.plus(Duration::from_secs(3_600))).token;
    assert_eq!(token.until, other.until);
    assert!(secret().grant(&directory(1), &contact(7), 0, UnixMillis(u64::MAX)).token.until > NOW);
}

#[test]
fn who_is_no_contact_any_more_is_shut_out_until_granted_anew() {
    let mut rules = rules(&[secret()]);
    let token = secret().grant(&directory(1), &contact(7), 0, NOW).token;
    rules.revoked.push(secret().serial(&directory(1), &contact(7), 0));
    assert_eq!(rules.admit(&token, NOW), Err(TokenError::Revoked));
    let other = secret().grant(&directory(1), &contact(8), 0, NOW).token;
    assert!(rules.admit(&other, NOW).is_ok());
    let again = secret().grant(&directory(1), &contact(7), 1, NOW).token;
    assert!(rules.admit(&again, NOW).is_ok());
}

#[test]
fn a_new_secret_shuts_everybody_out_once_the_old_one_is_dropped() {
    let new = TokenSecret::from_seed([6; 32]);
    let token = secret().grant(&directory(1), &contact(7), 0, NOW).token;
    assert!(rules(&[new.clone(), secret()]).admit(&token, NOW).is_ok());
    assert_eq!(rules(&[new]).admit(&token, NOW), Err(TokenError::Unknown));
    assert_eq!(rules(&[]).admit(&token, NOW), Err(TokenError::Unknown));
}

#[test]
fn lists_of_rules_are_bounded_and_their_bytes_fit_a_message() {
    let mut rules = rules(&[secret(), secret()]);
    rules.revoked = vec![Serial([0xff; 16]); MAX_REVOKED_SERIALS];
    assert!(rules.is_sound() && wire::encode(&rules).len() < 8 * 1024);
    rules.revoked.push(Serial([0; 16]));
    assert!(!rules.is_sound());
    rules.revoked.clear();
    rules.keys.push(secret().deposit_key(&directory(1)));
    assert!(!rules.is_sound());
}

#[test]
fn debug_shows_nothing_that_lets_anybody_in() {
    let grant = secret().grant(&directory(1), &contact(7), 0, NOW);
    let shown = format!("{:?} {:?} {:?} {:?}", secret(), rules(&[secret()]).keys, grant.token, grant);
    assert_eq!(shown, "TokenSecret(..) [DepositKey(..)] Token(..) Grant(DirectoryId(01010101…))");
}

proptest! {
    /// Nobody makes a token of another one, or one for another mailbox.
    #[test]
    fn damaged_tokens_are_refused(at in 0_usize..512, bit in 0_u8..8) {
        let token = secret().grant(&directory(1), &contact(7), 0, NOW).token;
        let mut bytes = wire::encode(&token);
        let len = bytes.len();
        bytes[at % len] ^= 1 << bit;
        if let Ok(other) = wire::decode::<Token>(&bytes, 512) {
            let verdict = rules(&[secret()]).admit(&other, NOW);
            prop_assert!(other == token || verdict == Err(TokenError::Unknown));
        }
    }

    #[test]
    fn nobody_guesses_a_token(serial in any::<[u8; 16]>(), until in any::<u64>(), mac in any::<[u8; 16]>(), seed in any::<[u8; 32]>()) {
        let token = Token { serial: Serial(serial), until: UnixMillis(until), mac };
        prop_assert_eq!(rules(&[secret()]).admit(&token, NOW), Err(TokenError::Unknown));
        prop_assume!(seed != *secret().seed());
        let forged = TokenSecret::from_seed(seed).grant(&directory(1), &contact(7), 0, NOW);
        prop_assert_eq!(rules(&[secret()]).admit(&forged.token, NOW), Err(TokenError::Unknown));
    }
}
