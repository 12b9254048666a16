//! The operator's handbook, `docs/directory.md`, followed literally: what it says to type is typed, on hosts on which nothing is installed.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use offhook_tests::bare::{self, BareHost, Depot};
use offhook_tests::phone::PASSWORD;
use offhook_tests::program::binary;

use crate::Outcome;

/// The name in the handbook, and where it leads to on these hosts.
const NAME: &str = "example.org";
const ADDRESS: &str = "11.0.0.2";

/// Where something of the package could be left. Not where dpkg, apt and the journal write down what was done.
const LEFT: &str = "find /etc /usr /var /opt /run -xdev -name '*offhook*' -not -path '/var/lib/dpkg/*' -not -path '/var/log/*' -not -path '/run/stand-in/*' | sort";

/// Commands of the handbook.
struct Block {
    /// Under which heading they are.
    heading: String,
    /// Whether they are for another host than the others.
    other: bool,
    commands: String,
}

fn blocks() -> Result<Vec<Block>, std::io::Error> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/directory.md");
    let (mut blocks, mut heading, mut within) = (Vec::<Block>::new(), String::new(), None);
    for line in std::fs::read_to_string(path)?.lines() {
        match (&mut within, line) {
            (Some(_), "```") => blocks.extend(within.take()),
            (Some(block), line) => block.commands.push_str(&format!("{line}\n")),
            (None, line) if line.starts_with("```sh handbook") => {
                let other = line.ends_with(" other");
                within = Some(Block { heading: heading.clone(), other, commands: String::new() });
            }
            (None, line) => {
                heading = line.strip_prefix("## ").map_or(heading, str::to_owned);
            }
        }
    }
    Ok(blocks)
}

/// The host of an operator, with the package in his home folder.
fn host(depot: &Depot) -> Result<BareHost, Box<dyn std::error::Error>> {
    let mut host = depot.host(NAME, ADDRESS)?;
    host.type_in("cp /mnt/*.deb .\n")?;
    Ok(host)
}

/// Runs `offhook` on a host, with this home folder.
fn terminal(host: &mut BareHost, home: &str, arguments: &str) -> Result<String, Box<dyn std::error::Error>> {
    let program = binary("offhook")?.canonicalize()?;
    let program = program.display();
    Ok(host.type_in(&format!("echo '{PASSWORD}' | '{program}' --home /tmp/{home} {arguments} 2>&1\n"))?)
}

/// The twelve digits of a number in a line that speaks of one.
fn number_in(said: &str) -> Option<String> {
    let digits = |line: &str| line.chars().filter(char::is_ascii_digit).collect::<String>();
    said.lines().filter(|line| line.contains("umber")).map(digits).find(|digits| digits.len() == 12)
}

/// Of the certificate that the front shows.
fn fingerprint(host: &mut BareHost) -> Result<String, Box<dyn std::error::Error>> {
    let ask =
        format!("openssl s_client -connect {NAME}:443 -servername {NAME} -verify_return_error 2>/dev/null");
    Ok(host.type_in(&format!("{ask} | openssl x509 -noout -fingerprint -sha256\n"))?)
}

/// The directory's process on a host; empty if it does not run.
fn process(host: &mut BareHost) -> Result<String, Box<dyn std::error::Error>> {
    Ok(host.type_in("pgrep --exact --full '/usr/bin/offhook-directory .*' || true\n")?)
}

#[test]
fn the_operators_handbook_is_followed_literally_on_a_bare_host() -> Outcome {
    if !bare::is_possible() {
        eprintln!("not here: a package needs other users than root, and this user namespace has none");
        return Ok(());
    }
    let depot = Depot::new()?;
    let mut pack = Command::new(binary("xtask")?);
    pack.args(["package", "directory", "--quick", "--program"]).arg(binary("offhook-directory")?);
    let packed = pack.arg("--out").arg(depot.input()).output()?;
    assert!(packed.status.success(), "{}", String::from_utf8_lossy(&packed.stderr));

    let blocks = blocks()?;
    let headings: BTreeSet<&str> = blocks.iter().map(|block| block.heading.as_str()).collect();
    for needed in
        ["Install it", "Start it", "The first account", "Copies, and putting them back", "Removing it"]
    {
        assert!(headings.contains(needed), "{needed} is missing in {headings:?}");
    }
    let mut first = host(&depot)?;
    let before = first.type_in(LEFT)?;
    let mut number = None;
    for block in blocks.iter().filter(|block| !block.other) {
        match block.heading.as_str() {
            "The first account" => {
                let said =
                    terminal(&mut first, "ada", &format!("account signup ada@{NAME} --password-stdin"))?;
                number = number_in(&said);
                assert!(number.is_some(), "{said}");
                terminal(&mut first, "ada", "number claim ada")?;
                renewed(&mut first)?;
            }
            "Removing it" => {
                let number = number.as_deref().ok_or("nobody has signed up")?;
                put_back(&depot, blocks.iter().filter(|block| block.other), number)?;
            }
            _ => {}
        }
        let running = process(&mut first)?;
        let said = first.type_in(&block.commands)?;
        match block.heading.as_str() {
            "The first account" => assert!(said.contains("chosen numbers  ada\n"), "{said}"),
            "Upgrades" => {
                let after = process(&mut first)?;
                assert!(after != running && !after.is_empty(), "it is restarted: {running} {after}");
            }
            "Users, numbers, quotas, audit" if block.commands.contains("--url") => {
                assert_eq!(said.matches("1 entries, 1 numbers, 0 problems").count(), 2, "{said}");
            }
            _ => {}
        }
    }
    assert_eq!(first.type_in(LEFT)?, before, "the package has left nothing");
    let gone = "! pgrep --full '^/usr/bin/offhook-directory' && ! getent passwd offhook-directory && ! getent group offhook-directory";
    first.type_in(&format!("if {gone}; then echo gone; fi\n")).map(|said| assert_eq!(said, "gone\n"))?;
    Ok(())
}

/// A renewed certificate is shown by the same process.
fn renewed(host: &mut BareHost) -> Outcome {
    let (shown, running) = (fingerprint(host)?, process(host)?);
    assert!(shown.contains("Fingerprint="), "{shown}");
    host.type_in("certbot renew\n")?;
    host.type_in(
        "until journalctl -u offhook-directory | grep -q 'shows the certificate'; do sleep 0.1; done\n",
    )?;
    assert_ne!(fingerprint(host)?, shown);
    assert_eq!(process(host)?, running);
    Ok(())
}

/// On another host the account is there again.
fn put_back<'a>(depot: &Depot, blocks: impl Iterator<Item = &'a Block>, number: &str) -> Outcome {
    let mut other = host(depot)?;
    for block in blocks {
        other.type_in(&block.commands)?;
    }
    let said = terminal(&mut other, "again", &format!("account login ada@{NAME} --password-stdin"))?;
    assert_eq!(number_in(&said).as_deref(), Some(number), "{said}");
    assert!(terminal(&mut other, "again", "number list")?.contains("ada@example.org"));
    Ok(())
}
