//! `offhook-directory numbers` and `quotas`.

use clap::Subcommand;
use offhook::clock::wall_clock;
use offhook::storage::AccountId;
use offhook_proto::number::ChosenNumber;
use offhook_proto::wire::UnixMillis;
use serde_json::{Value, json};

use super::{Desk, date, deed, failed, hex, wrong};
use crate::cli::Failure;
use crate::store::{Fact, HeldNumber, MAX_NUMBERS, MAX_PAGE, Quota, ReservedWord};

#[derive(Subcommand, Debug)]
pub(crate) enum NumbersCommand {
    /// Print all chosen numbers in the order of their words: the word, until when it is certified, for whom
    List,
    /// Print what there is of a chosen number
    Show {
        /// The number, with or without the directory's name
        number: String,
    },
    /// Keep words back: nobody gets them, nor what looks like them. Who has one already keeps it
    Reserve {
        /// The words
        #[arg(required = true)]
        words: Vec<String>,
    },
    /// Give words free again that were kept back by `reserve`
    Unreserve {
        /// The words
        #[arg(required = true)]
        words: Vec<String>,
    },
    /// Print the words that are kept back by `reserve`
    Reserved,
}

#[derive(Subcommand, Debug)]
pub(crate) enum QuotasCommand {
    /// Print how many chosen numbers an account may have, and how much in its mailbox
    Show {
        /// The user's ID
        id: AccountId,
    },
    /// Let an account have more or fewer chosen numbers than others, or another mailbox; what it has it keeps
    #[command(group = clap::ArgGroup::new("what").required(true).multiple(true))]
    Set {
        /// The user's ID
        id: AccountId,
        /// How many chosen numbers
        #[arg(long, value_name = "N", group = "what")]
        numbers: Option<u64>,
        /// How many megabytes in its mailbox
        #[arg(long, value_name = "MB", group = "what")]
        mailbox_mb: Option<u64>,
    },
    /// Let it have as many as others
    Reset {
        /// The user's ID
        id: AccountId,
    },
}

/// Does what was typed.
pub(crate) async fn numbers(desk: &Desk, command: NumbersCommand) -> Result<(), Failure> {
    match command {
        NumbersCommand::List => list(desk).await,
        NumbersCommand::Show { number } => show(desk, &number).await,
        NumbersCommand::Reserve { words } => {
            // All are looked at first: a typing error leaves nothing half-done.
            for word in words.iter().map(|word| chosen(word)).collect::<Result<Vec<_>, _>>()? {
                reserve(desk, &word).await?;
            }
            Ok(())
        }
        NumbersCommand::Unreserve { words } => {
            for word in words.iter().map(|word| chosen(word)).collect::<Result<Vec<_>, _>>()? {
                unreserve(desk, &word).await?;
            }
            Ok(())
        }
        NumbersCommand::Reserved => reserved(desk).await,
    }
}

fn chosen(word: &str) -> Result<ChosenNumber, Failure> {
    ChosenNumber::new(word, None).map_err(|error| wrong(format!("\"{word}\" is no chosen number: {error}")))
}

async fn list(desk: &Desk) -> Result<(), Failure> {
    let mut last = String::new();
    loop {
        let page = desk.store.numbers(&last, MAX_PAGE).await.map_err(|error| failed(&error))?;
        for held in &page {
            let line = format!("{}  {}  {}", held.name, state(held, wall_clock()), hex(&held.identity));
            desk.say(&line, &object(held))?;
        }
        match page.last() {
            Some(held) => last.clone_from(&held.name),
            None => return Ok(()),
        }
    }
}

fn state(held: &HeldNumber, now: UnixMillis) -> String {
    match &held.certificate {
        Some(_) if held.expires > now => format!("until {}", date(held.expires)),
        Some(_) => format!("expired {}, kept until {}", date(held.expires), date(held.held_until)),
        None => format!("released, kept until {}", date(held.held_until)),
    }
}

fn object(held: &HeldNumber) -> Value {
    json!({
        "number": held.name, "identity": hex(&held.identity), "released": held.certificate.is_none(),
        "issued": held.issued.0, "expires": held.expires.0, "held_until": held.held_until.0,
    })
}

async fn show(desk: &Desk, typed: &str) -> Result<(), Failure> {
    let name = desk.store.fact(Fact::Name).await.map_err(|error| failed(&error))?;
    let name = name.and_then(|name| String::from_utf8(name).ok());
    let word = match typed.split_once('@') {
        Some((word, directory)) if name.as_deref() == Some(directory) => word,
        Some(_) => return Err(wrong(format!("\"{typed}\" is a number of another directory"))),
        None => typed,
    };
    let number = chosen(word)?;
    let held = desk.store.number(number.name()).await.map_err(|error| failed(&error))?;
    let held = held.ok_or_else(|| wrong(format!("nobody has \"{}\"", number.name())))?;
    let account = desk.store.account(&held.identity).await.map_err(|error| failed(&error))?;
    let id = account.as_ref().map(|account| account.id.as_str());
    let mut json = object(&held);
    json["id"] = json!(id);
    let text = format!(
        "number    {}\nstate     {}\nissued    {}\nidentity  {}\nID        {}",
        held.name,
        state(&held, wall_clock()),
        date(held.issued),
        hex(&held.identity),
        id.unwrap_or("none: the account was deleted"),
    );
    desk.say(&text, &json)
}

async fn reserve(desk: &Desk, word: &ChosenNumber) -> Result<(), Failure> {
    let (name, skeleton) = (word.name().to_owned(), word.skeleton());
    let held = desk.store.numbers_like(&name, &skeleton).await.map_err(|error| failed(&error))?;
    let done = deed("reserve word", &name, "");
    let kept = ReservedWord { word: name.clone(), skeleton, at: wall_clock() };
    let is_new = desk.store.reserve(kept, done).await.map_err(|error| failed(&error))?;
    let mut text = format!("{name}  {}", if is_new { "kept back" } else { "was kept back already" });
    let others = held.iter().filter(|held| held.certificate.is_some()).map(|held| held.name.as_str());
    let others: Vec<&str> = others.collect();
    if !others.is_empty() {
        text += &format!("; somebody has {} and keeps it", others.join(", "));
    }
    desk.say(&text, &json!({ "word": name, "new": is_new, "held": others }))
}

async fn unreserve(desk: &Desk, word: &ChosenNumber) -> Result<(), Failure> {
    let was = desk.store.unreserve(word.name(), deed("unreserve word", word.name(), "")).await;
    if !was.map_err(|error| failed(&error))? {
        return Err(wrong(format!("\"{}\" is not kept back by `reserve`", word.name())));
    }
    desk.say(&format!("{}  free", word.name()), &json!({ "word": word.name(), "free": true }))
}

async fn reserved(desk: &Desk) -> Result<(), Failure> {
    let mut last = String::new();
    loop {
        let page = desk.store.reserved(&last, MAX_PAGE).await.map_err(|error| failed(&error))?;
        for kept in &page {
            let line = format!("{}  {}", kept.word, date(kept.at));
            desk.say(&line, &json!({ "word": kept.word, "since": kept.at.0 }))?;
        }
        match page.last() {
            Some(kept) => last.clone_from(&kept.word),
            None => return Ok(()),
        }
    }
}

/// Does what was typed.
pub(crate) async fn quotas(desk: &Desk, command: QuotasCommand) -> Result<(), Failure> {
    let (id, changes) = match command {
        QuotasCommand::Show { id } => return show_quota(desk, &id).await,
        QuotasCommand::Set { id, numbers, mailbox_mb } => {
            let numbers = numbers.map(|value| (Quota::Numbers, Some(value)));
            let mailbox = mailbox_mb.map(|value| (Quota::MailboxMegabytes, Some(value)));
            (id, numbers.into_iter().chain(mailbox).collect())
        }
        QuotasCommand::Reset { id } => (id, vec![(Quota::Numbers, None), (Quota::MailboxMegabytes, None)]),
    };
    let account = desk.account(&id).await?;
    for (quota, value) in changes {
        let what = match quota {
            Quota::Numbers => "numbers",
            Quota::MailboxMegabytes => "mailbox megabytes",
        };
        let details = value.map_or_else(|| format!("{what} as others"), |n| format!("{what} {n}"));
        let done = Some(deed("set quota", id.as_str(), &details));
        let change = desk.store.set_quota(&account.identity, quota, value, done);
        change.await.map_err(|error| failed(&error))?;
    }
    show_quota(desk, &id).await
}

async fn show_quota(desk: &Desk, id: &AccountId) -> Result<(), Failure> {
    let account = desk.account(id).await?;
    let granted =
        desk.store.quota(&account.identity, Quota::Numbers).await.map_err(|error| failed(&error))?;
    let held = desk.store.numbers_of(&account.identity).await.map_err(|error| failed(&error))?.len();
    let most = granted.unwrap_or(MAX_NUMBERS);
    let like = if granted.is_some() { "" } else { ", as others" };
    let mailbox = desk.store.mailbox_use(&account.identity).await.map_err(|error| failed(&error))?;
    let megabytes = desk.store.quota(&account.identity, Quota::MailboxMegabytes).await;
    let megabytes = megabytes.map_err(|error| failed(&error))?;
    let json = json!({
        "id": id.as_str(), "numbers": most, "granted": granted.is_some(), "held": held,
        "mailbox": mailbox.map(|held| json!({ "bytes": held.bytes, "blobs": held.count })),
        "mailbox_mb": megabytes,
    });
    let mut text = format!("{}  {held} of {most} chosen numbers{like}", id.as_str());
    if mailbox.is_some() || megabytes.is_some() {
        let held = mailbox.unwrap_or_default();
        let room = megabytes.map_or_else(|| "as much as others have".to_owned(), |mb| format!("{mb} MB"));
        let line = format!("{}  {} bytes in {} pieces in the mailbox", id.as_str(), held.bytes, held.count);
        text = format!("{text}\n{line}, room for {room}");
    }
    desk.say(&text, &json)
}
