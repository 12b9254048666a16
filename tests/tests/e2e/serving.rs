//! Terminals that serve the network because strangers are proved to reach them, and those that do not.

use std::time::Instant;

use offhook_tests::call::{Call, hang_up};
use offhook_tests::lab::{Host, Impairment, Lab, LabError, Nat};
use offhook_tests::phone::{Account, Directory, DirectoryPlan, READY, Terminal, TerminalPlan};
use offhook_tests::program::ProgramError;

use crate::{NOTICED, Outcome};

/// Three directories at three places, which know each other.
fn directories(lab: &Lab, access: &Impairment) -> Result<Vec<(Host, Directory)>, Box<dyn std::error::Error>> {
    let mut all: Vec<(Host, Directory)> = Vec::new();
    for name in ["d1", "d2", "d3"] {
        let host = lab.host(name, access.clone())?;
        let entry = all.first().map(|(_, first)| first.address()).into_iter().collect();
        let directory = Directory::start(Some(&host), DirectoryPlan { entry, ..DirectoryPlan::default() })?;
        all.push((host, directory));
    }
    Ok(all)
}

/// How a terminal says that it stands, once that is `wanted`.
fn until(terminal: &mut Terminal, wanted: &str) -> Result<(), ProgramError> {
    let end = Instant::now() + 2 * READY;
    loop {
        let status = terminal.status()?;
        let field = |name: &str| status.value["serving"][name].as_str().unwrap_or_default().to_owned();
        let (state, reason) = (field("state"), field("reason"));
        if state == wanted || reason == wanted {
            return Ok(());
        }
        if Instant::now() > end {
            let program = terminal.process.name().to_owned();
            let message = format!("stands like this, not {wanted}: {}", status.value);
            return Err(ProgramError::Failed { program, message });
        }
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
}

/// What lets strangers in, and what does not. A NAT that lets in whom its terminal has sent something, from any port, is what
/// dialling back from another port of the same address takes for public.
#[test]
fn terminals_serve_if_strangers_get_in_and_only_then() -> Outcome {
    let lab = Lab::new("serving")?;
    let access = Impairment::delay_ms(10);
    let directories = directories(&lab, &access)?;
    let plan = |extra: &[&str]| TerminalPlan {
        entry: directories[0].1.addresses.clone(),
        extra: extra.iter().map(|flag| (*flag).to_owned()).collect(),
        ..TerminalPlan::default()
    };
    let behind = |name: &str, nat: Nat| -> Result<Host, LabError> {
        lab.router(name, nat, access.clone())?.host(&format!("{name}-h"))
    };
    let places = [
        ("public", lab.host("public", access.clone())?, "proved"),
        ("cone", behind("cone", Nat::FullCone)?, "proved"),
        ("address", behind("address", Nat::AddressRestricted)?, "unreachable"),
        ("port", behind("port", Nat::PortRestricted)?, "unreachable"),
        ("symmetric", behind("symm", Nat::Symmetric)?, "unreachable"),
        ("firewall", behind("wall", Nat::Firewall)?, "unreachable"),
    ];
    let accounts = Account::create_all(["public", "cone", "address", "port", "symmetric", "firewall"])?;
    let mut terminals = Vec::new();
    for (account, (_, host, _)) in accounts.into_iter().zip(&places) {
        terminals.push(Terminal::online(account, Some(host), plan(&["--serve", "auto"]))?);
    }
    for (terminal, (name, _, wanted)) in terminals.iter_mut().zip(&places) {
        until(terminal, wanted).map_err(|error| format!("{name}: {error}"))?;
    }
    // Nor does one serve whose user does not want it, as nobody does who says nothing, or hides its address.
    drop(terminals);
    for (n, flags) in
        [&[][..], &["--serve", "off"], &["--serve", "auto", "--relay-only"]].into_iter().enumerate()
    {
        let host = lab.host(&format!("off{n}"), access.clone())?;
        let mut terminal = Terminal::online(Account::create("off")?, Some(&host), plan(flags))?;
        until(&mut terminal, "off")?;
    }
    Ok(())
}

/// The directories prove one terminal, and are gone: two behind NATs find each other by number, and call.
#[test]
fn proved_terminals_carry_a_network_without_directories() -> Outcome {
    let lab = Lab::new("carry")?;
    let access = Impairment::delay_ms(10);
    let mut directories = directories(&lab, &access)?;
    let entry = directories[0].1.addresses.clone();
    let extra = ["--serve", "auto"].map(str::to_owned).to_vec();
    let plan = TerminalPlan { entry, extra, ..TerminalPlan::default() };
    let [ada, bob, cy] = Account::create_all(["ada", "bob", "cy"])?;
    let public = lab.host("cy", access.clone())?;
    let mut cy = Terminal::online(cy, Some(&public), plan.clone())?;
    let proved = cy.process.wait("serving", READY)?;
    assert_eq!(proved.text("state"), "proved", "{}", proved.value);
    // The directories have met it, and tell others of it.
    let end = Instant::now() + READY;
    while cy.status()?.number("peers") < 3 {
        assert!(Instant::now() < end, "{}", cy.status()?.value);
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    let home_a = lab.router("nata", Nat::PortRestricted, access.clone())?.host("a")?;
    let home_b = lab.router("natb", Nat::PortRestricted, access)?.host("b")?;
    let mut ada = Terminal::online(ada, Some(&home_a), plan.clone())?;
    let mut bob = Terminal::online(bob, Some(&home_b), plan)?;
    for (_, directory) in &mut directories {
        directory.process.kill();
    }
    for terminal in [&ada, &bob] {
        terminal.process.wait("offline", NOTICED)?;
        terminal.process.wait("online", READY)?;
    }
    let call = Call::place(&mut ada, &mut bob)?;
    assert_eq!(call.path, "direct");
    hang_up(&mut ada, &mut bob)?;
    Ok(())
}
