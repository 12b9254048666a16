//! Numbers that a directory has issued, between built programs.

use std::path::Path;

use offhook::clock::wall_clock;
use offhook::storage::{Home, NewNumber, Password};
use offhook_proto::identity::DirectoryKey;
use offhook_proto::number::ChosenNumber;
use offhook_proto::proof::SignedChosenCert;
use offhook_tests::call::{STEP, hang_up};
use offhook_tests::phone::{Account, Directory, DirectoryPlan, PASSWORD, Terminal, TerminalPlan};
use offhook_tests::program::Event;

use crate::{Outcome, exit};

const NAME: &str = "directory.example";
const ADA: &str = "ada@directory.example";

/// Certifies a number with the directory's own key, and keeps it in the account's file.
fn issue(directory: &Directory, account: &Account) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let seed: [u8; 32] =
        std::fs::read(directory.data().join("signing.key"))?.try_into().map_err(|_| "no key")?;
    runtime.block_on(keep(&DirectoryKey::from_seed(seed), account.home(), &account.id))
}

async fn keep(directory: &DirectoryKey, home: &Path, id: &str) -> Outcome {
    let (home, id) = (Home::open(home)?, id.parse()?);
    let key = home.unlock(&id, &Password::new(PASSWORD)?).await?;
    let number = ChosenNumber::new("ada", Some(NAME))?;
    let cert = SignedChosenCert::certify(directory, &number, key.public(), wall_clock())?;
    let store = home.open_account(&id).await?;
    store.put_chosen(&key, NewNumber { cert, transfers: Vec::new() }).await?;
    store.close().await;
    Ok(())
}

/// Dials until it rings at the other end: what is shown there.
fn ring(caller: &mut Terminal, callee: &Terminal, typed: &str) -> Result<Event, Box<dyn std::error::Error>> {
    caller.process.send(&format!("dial {typed}"))?;
    let looked = caller.process.wait("searching", STEP)?;
    assert_eq!(looked.text("number"), ADA, "the full form is shown before it rings");
    let incoming = callee.process.wait("incoming", STEP)?;
    caller.process.wait("ringing", STEP)?;
    Ok(incoming)
}

#[test]
fn p1_a_chosen_number_is_dialled_by_its_directorys_site_and_later_without_the_directory() -> Outcome {
    let network = Directory::start(None, DirectoryPlan::default())?;
    let entry = network.addresses.clone();
    let extra = ["--name", NAME].map(str::to_owned).to_vec();
    let plan = DirectoryPlan { entry: entry.clone(), site: true, extra, ..DirectoryPlan::default() };
    let mut directory = Directory::start(None, plan)?;
    let site = format!("{NAME}=http://{}", directory.site().ok_or("no site")?);
    let [ada, bob, carol] = Account::create_all(["ada", "bob", "carol"])?;
    issue(&directory, &ada)?;
    let extra = vec!["--directory-site".to_owned(), site.clone()];
    let plan = TerminalPlan { entry: entry.clone(), extra, ..TerminalPlan::default() };
    let mut ada = Terminal::online(ada, None, plan.clone())?;
    let mut bob = Terminal::online(bob, None, plan)?;

    // Published a moment after the plain number.
    let end = std::time::Instant::now() + STEP;
    loop {
        let (code, said) = exit(&bob.account.offhook(None, &["lookup", ADA])?);
        if code == 0 {
            break;
        }
        assert!(std::time::Instant::now() < end, "{code} {said}");
    }
    ring(&mut bob, &ada, "Ada@Directory.Example")?;
    bob.process.send("hangup")?;
    ada.process.wait("ended", STEP)?;
    bob.process.wait("ended", STEP)?;
    let (code, listed) = exit(&bob.account.offhook(None, &["directory", "list"])?);
    assert!(code == 0 && listed.contains(NAME), "{listed}");

    directory.process.kill();
    ring(&mut bob, &ada, ADA)?;
    ada.process.send("answer")?;
    bob.process.wait("accepted", STEP)?;
    hang_up(&mut bob, &mut ada)?;

    // Who has not met the directory is told that it cannot be reached; and that there is no such directory.
    let dial = |typed: &str, site: &str| {
        let mut arguments =
            vec!["dial", "--no-mdns", "--allow-private", "--mic", "none", "--speaker", "none"];
        arguments.extend(["--directory-site", site, "--entry", &entry[0], typed]);
        carol.offhook(None, &arguments).map(|output| exit(&output))
    };
    let (code, said) = dial(ADA, &site)?;
    assert!(code == 7 && said.contains("cannot be reached"), "{code} {said}");
    let (code, said) = dial("ada", &site)?;
    assert!(code == 2 && said.contains("directory"), "{code} {said}");
    Ok(())
}
