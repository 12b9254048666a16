//! Several processes of one directory, on one PostgreSQL database.

use std::time::{Duration, Instant};

use offhook_tests::call::{STEP, hang_up};
use offhook_tests::phone::{Account, Directory, DirectoryPlan, Terminal, TerminalPlan};
use offhook_tests::postgres::Postgres;

use crate::{Outcome, exit};

const NAME: &str = "directory.example";
/// The longest that it may take until it rings when a process has just been killed.
const RINGS_WITHIN: Duration = Duration::from_secs(5);

#[test]
fn q15_a_call_rings_through_the_process_that_is_left_when_the_callees_is_killed() -> Outcome {
    let postgres = Postgres::start()?;
    let (database, blobs) = (postgres.database()?, tempfile::tempdir()?);
    let blobs_at = blobs.path().display().to_string();
    let extra = ["--name", NAME, "--database", &database, "--blobs", &blobs_at].map(str::to_owned).to_vec();
    let plan = DirectoryPlan { site: true, extra, ..DirectoryPlan::default() };
    let first = Directory::start(None, plan.clone())?;
    let like = Some(first.data().to_owned());
    let mut second = Directory::start(None, DirectoryPlan { entry: vec![first.address()], like, ..plan })?;

    // The caller knows the first process, the callee the second and the directory's name.
    let [ada, bob] = Account::create_all(["ada", "bob"])?;
    let number = ada.number.clone();
    let (code, said) = exit(&ada.offhook(None, &["directory", "home", NAME])?);
    assert_eq!(code, 0, "{said}");
    let site = format!("{NAME}=http://{}", second.site().ok_or("no site")?);
    let entry = |directory: &Directory| vec![directory.address()];
    let plan = TerminalPlan { entry: entry(&first), ..TerminalPlan::default() };
    let mut bob = Terminal::online(bob, None, plan)?;
    let extra = vec!["--directory-site".to_owned(), site];
    let plan = TerminalPlan { entry: entry(&second), extra, ..TerminalPlan::default() };
    let mut ada = Terminal::online(ada, None, plan)?;
    let end = Instant::now() + STEP;
    while first.health(None)?["registered"].as_u64() != Some(2) {
        assert!(Instant::now() < end, "the callee is not at home with both: {}", first.health(None)?);
        std::thread::sleep(Duration::from_millis(50));
    }

    second.process.kill();
    bob.process.send(&format!("dial {number}"))?;
    ada.process.wait("incoming", RINGS_WITHIN)?;
    ada.process.send("answer")?;
    bob.process.wait("accepted", STEP)?;
    hang_up(&mut bob, &mut ada)?;
    Ok(())
}
