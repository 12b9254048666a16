//! Packages for Debian and its relatives, made by `dpkg-deb` out of what is built and what lies in `bootstrap/dist`.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::ValueEnum;

use crate::run::{Outcome, cargo, output_of, root, run, target};
use crate::{setup, site};

/// Versions of the packages are the workspace's.
const VERSION: &str = env!("CARGO_PKG_VERSION");
const MAINTAINER: &str = "The Offhook contributors <offhook@users.noreply.github.com>";
const PROGRAM: &str = "offhook-directory";

/// What is packed.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Package {
    /// `offhook-directory`: the program, its service, its settings and the operator's handbook
    Directory,
}

/// How it is packed.
#[derive(Clone, Debug)]
pub struct Plan {
    /// A program that is built already; otherwise it is built as people run it, with the site in it.
    pub program: Option<PathBuf>,
    /// Where the package is put.
    pub out: PathBuf,
    /// Pack quickly rather than small: for tests.
    pub quick: bool,
}

/// Makes the package and prints where it is.
pub fn package(Package::Directory: Package, plan: &Plan) -> Outcome {
    setup::for_packaging()?;
    let program = match &plan.program {
        Some(program) => program.clone(),
        None => build()?,
    };
    let arch = output_of("dpkg", &["--print-architecture"]).ok_or("dpkg does not name the architecture")?;
    let file = plan.out.join(format!("{PROGRAM}_{VERSION}_{}.deb", arch.trim()));
    let staging = Staging::new(&plan.out)?;
    staging.fill(&program, arch.trim())?;
    let mut pack = Command::new("dpkg-deb");
    pack.args(if plan.quick { ["-Zgzip", "-z1"] } else { ["-Zxz", "-z6"] });
    pack.args(["--root-owner-group", "--build"]).arg(&staging.0).arg(&file);
    // The same commit makes the same package.
    pack.env("SOURCE_DATE_EPOCH", committed("%ct")).stdout(Stdio::null());
    run(&mut pack)?;
    println!("{}", file.display());
    Ok(())
}

/// The program as people run it, with its site.
fn build() -> Result<PathBuf, String> {
    site::build()?;
    run(&mut cargo(&["build", "--locked", "--release", "-p", "offhook-bootstrap", "--bin", PROGRAM]))?;
    Ok(target().join("release").join(PROGRAM))
}

/// Of the commit that is checked out; where there is none, the beginning of time.
fn committed(format: &str) -> String {
    let folder = root().display().to_string();
    let said = output_of("git", &["-C", &folder, "log", "-1", &format!("--format={format}")]);
    let epoch = if format == "%ct" { "0" } else { "Thu, 01 Jan 1970 00:00:00 +0000" };
    said.map(|said| said.trim().to_owned())
        .filter(|said| !said.is_empty())
        .unwrap_or_else(|| epoch.to_owned())
}

/// The folder whose contents become the package; removed afterwards.
struct Staging(PathBuf);

impl Drop for Staging {
    fn drop(&mut self) {
        // What cannot be removed is in the way of nobody.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Staging {
    fn new(out: &Path) -> Result<Self, String> {
        let folder = out.join(format!(".{PROGRAM}-{}", std::process::id()));
        let staging = Self(folder);
        staging.folder("DEBIAN")?;
        Ok(staging)
    }

    /// Everything that is in the package, and what is said of it.
    fn fill(&self, program: &Path, arch: &str) -> Outcome {
        let dist = root().join("bootstrap/dist");
        let bytes = |path: PathBuf| std::fs::read(&path).map_err(|error| on(&path, &error));
        let binary = format!("usr/bin/{PROGRAM}");
        self.file(&binary, 0o755, &bytes(program.to_owned())?)?;
        run(Command::new("strip")
            .args(["--strip-unneeded", "--remove-section=.comment"])
            .arg(self.0.join(&binary)))?;
        let unit = format!("{PROGRAM}.service");
        self.file(&format!("lib/systemd/system/{unit}"), 0o644, &bytes(dist.join(&unit))?)?;
        let users = bytes(dist.join(format!("{PROGRAM}.sysusers")))?;
        self.file(&format!("usr/lib/sysusers.d/{PROGRAM}.conf"), 0o644, &users)?;
        self.file("etc/offhook/directory.toml", 0o644, &settings(&bytes(dist.join("directory.toml"))?))?;
        let hook = bytes(dist.join("certbot-deploy"))?;
        self.file(&format!("usr/share/{PROGRAM}/certbot-deploy"), 0o755, &hook)?;
        let manual = compressed(&bytes(dist.join(format!("{PROGRAM}.8")))?)?;
        self.file(&format!("usr/share/man/man8/{PROGRAM}.8.gz"), 0o644, &manual)?;
        let doc = |name: &str| format!("usr/share/doc/{PROGRAM}/{name}");
        self.file(&doc("directory.md"), 0o644, &bytes(root().join("docs/directory.md"))?)?;
        self.file(&doc("copyright"), 0o644, copyright()?.as_bytes())?;
        self.file(&doc("changelog.gz"), 0o644, &compressed(changelog().as_bytes())?)?;
        self.file(&doc("NEWS.gz"), 0o644, &compressed(&bytes(root().join("CHANGELOG.md"))?)?)?;
        self.file("DEBIAN/conffiles", 0o644, b"/etc/offhook/directory.toml\n")?;
        for script in ["postinst", "prerm", "postrm"] {
            self.file(&format!("DEBIAN/{script}"), 0o755, &bytes(dist.join("debian").join(script))?)?;
        }
        let (control, sums) = (self.control(&binary, arch)?, self.sums()?);
        self.file("DEBIAN/control", 0o644, control.as_bytes())?;
        self.file("DEBIAN/md5sums", 0o644, sums.as_bytes())
    }

    fn control(&self, binary: &str, arch: &str) -> Result<String, String> {
        let kib = size(&self.0)?.div_ceil(1_024);
        let libraries = self.libraries(binary)?;
        Ok(format!(
            "Package: {PROGRAM}\n\
             Version: {VERSION}\n\
             Architecture: {arch}\n\
             Maintainer: {MAINTAINER}\n\
             Installed-Size: {kib}\n\
             Depends: {libraries}, init-system-helpers (>= 1.60), passwd, systemd | systemd-standalone-sysusers | systemd-sysusers\n\
             Recommends: ca-certificates\n\
             Suggests: certbot, postgresql\n\
             Section: comm\n\
             Priority: optional\n\
             Homepage: {}\n\
             Description: directory of the Offhook telephone network\n \
             A directory is a first contact for Offhook's terminals, keeps the records\n \
             that say where numbers are, and relays call set-up and, where there is no\n \
             other way, media. On its site people sign up with ID and password and get a\n \
             number. It owns nobody: it can neither take a number nor read a password.\n",
            env!("CARGO_PKG_REPOSITORY")
        ))
    }

    /// The packages of the libraries that the program is linked with, by Debian's own tool.
    fn libraries(&self, binary: &str) -> Result<String, String> {
        self.file(
            "debian/control",
            0o644,
            format!("Source: {PROGRAM}\n\nPackage: {PROGRAM}\nArchitecture: any\n").as_bytes(),
        )?;
        let mut command = Command::new("dpkg-shlibdeps");
        command.args(["-O", &format!("-e{binary}")]).current_dir(&self.0).stderr(Stdio::inherit());
        let output = command.output().map_err(|error| format!("dpkg-shlibdeps: {error}"))?;
        std::fs::remove_dir_all(self.0.join("debian")).map_err(|error| on(&self.0, &error))?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let libraries = said.trim().strip_prefix("shlibs:Depends=").filter(|_| output.status.success());
        libraries.map(str::to_owned).ok_or_else(|| "dpkg-shlibdeps names no libraries".to_owned())
    }

    /// What `dpkg --verify` compares with.
    fn sums(&self) -> Result<String, String> {
        let list = "find etc lib usr -type f -print0 | LC_ALL=C sort -z | xargs -0 md5sum";
        let output = Command::new("sh").args(["-c", list]).current_dir(&self.0).output();
        let output = output.map_err(|error| format!("md5sum: {error}"))?;
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        } else {
            Err("md5sum failed".to_owned())
        }
    }

    /// A folder and those above it, which everybody may look into.
    fn folder(&self, name: &str) -> Outcome {
        let mut path = self.0.clone();
        std::fs::create_dir_all(path.join(name)).map_err(|error| on(&path, &error))?;
        for part in std::iter::once("").chain(name.split('/')) {
            path.push(part);
            allow(&path, 0o755)?;
        }
        Ok(())
    }

    fn file(&self, name: &str, mode: u32, bytes: &[u8]) -> Outcome {
        if let Some((folder, _)) = name.rsplit_once('/') {
            self.folder(folder)?;
        }
        let path = self.0.join(name);
        std::fs::write(&path, bytes).map_err(|error| on(&path, &error))?;
        allow(&path, mode)
    }
}

fn allow(path: &Path, mode: u32) -> Outcome {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(|error| on(path, &error))
}

fn on(path: &Path, error: &std::io::Error) -> String {
    format!("{}: {error}", path.display())
}

/// Bytes of all files below a folder.
fn size(folder: &Path) -> Result<u64, String> {
    let entries = std::fs::read_dir(folder).map_err(|error| on(folder, &error))?;
    entries.flatten().try_fold(0, |sum, entry| {
        let path = entry.path();
        let kind = entry.metadata().map_err(|error| on(&path, &error))?;
        Ok(sum + if kind.is_dir() { size(&path)? } else { kind.len() })
    })
}

/// As the policy wants it, and without a date in it.
fn compressed(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let failed = |error: std::io::Error| format!("gzip: {error}");
    let mut gzip = Command::new("gzip");
    gzip.args(["-9", "-n", "-c"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = gzip.spawn().map_err(failed)?;
    let stdin = child.stdin.take();
    std::thread::scope(|scope| {
        let writer = scope.spawn(move || stdin.map_or(Ok(()), |mut stdin| stdin.write_all(bytes)));
        let output = child.wait_with_output().map_err(failed)?;
        let written = writer.join().map_err(|_| "gzip: a panic".to_owned())?;
        written.map_err(failed)?;
        if output.status.success() { Ok(output.stdout) } else { Err("gzip failed".to_owned()) }
    })
}

/// The sample, with the one setting that a package knows: its commands find the service's data by the same file.
fn settings(sample: &[u8]) -> Vec<u8> {
    let data =
        format!("# Where keys, records, accounts and their backups are.\ndata = \"/var/lib/{PROGRAM}\"\n\n");
    let sample = String::from_utf8_lossy(sample);
    match sample.split_once("\n\n") {
        Some((head, rest)) => format!("{head}\n\n{data}{rest}").into_bytes(),
        None => (data + &sample).into_bytes(),
    }
}

fn changelog() -> String {
    let date = committed("%cD");
    format!(
        "{PROGRAM} ({VERSION}) unstable; urgency=medium\n\n  * What has changed is in NEWS.gz beside this file.\n\n -- {MAINTAINER}  {date}\n"
    )
}

/// In the machine-readable format (<https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/>).
fn copyright() -> Result<String, String> {
    let path = root().join("LICENSE-MIT");
    let text = std::fs::read_to_string(&path).map_err(|error| on(&path, &error))?;
    let holder = text
        .lines()
        .find_map(|line| line.strip_prefix("Copyright (c) "))
        .unwrap_or("The Offhook contributors");
    let terms: String = text
        .lines()
        .skip_while(|line| !line.starts_with("Permission"))
        .map(|line| if line.is_empty() { " .\n".to_owned() } else { format!(" {line}\n") })
        .collect();
    Ok(format!(
        "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\
         Upstream-Name: Offhook\n\
         Source: {}\n\n\
         Files: *\n\
         Copyright: {holder}\n\
         License: Expat or Apache-2.0\n\n\
         License: Expat\n{terms}\n\
         License: Apache-2.0\n On Debian systems its full text is in /usr/share/common-licenses/Apache-2.0.\n",
        env!("CARGO_PKG_REPOSITORY")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_package_says_whose_it_is_and_where_its_data_are() {
        let text = copyright().unwrap();
        for needed in
            ["License: Expat or Apache-2.0\n", "\n Permission is hereby granted", "\n .\n", "Copyright: 20"]
        {
            assert!(text.contains(needed), "{needed} is missing in {text}");
        }
        let sample = std::fs::read(root().join("bootstrap/dist/directory.toml")).unwrap();
        let own = String::from_utf8(settings(&sample)).unwrap();
        let on: Vec<&str> = own.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
        assert_eq!(on, ["data = \"/var/lib/offhook-directory\""]);
        assert!(changelog().starts_with("offhook-directory (") && changelog().contains("\n -- "));
    }

    #[test]
    fn the_service_finds_what_the_package_brings() {
        let dist = root().join("bootstrap/dist");
        let unit = std::fs::read_to_string(dist.join("offhook-directory.service")).unwrap();
        for line in [
            "ExecStart=/usr/bin/offhook-directory --config /etc/offhook/directory.toml run",
            "ExecReload=/bin/kill -HUP $MAINPID",
            "User=offhook-directory",
            "StateDirectory=offhook-directory",
        ] {
            assert!(unit.lines().any(|found| found == line), "{line} is not in the unit");
        }
        let users = std::fs::read_to_string(dist.join("offhook-directory.sysusers")).unwrap();
        assert!(users.contains("\nu offhook-directory "), "{users}");
    }

    /// No image is built here, for which an engine and a base are needed; but each of its lines has to fit what the package brings.
    #[test]
    fn the_image_finds_what_the_package_brings() {
        let dist = root().join("bootstrap/dist");
        let read = |name: &str| std::fs::read_to_string(dist.join(name)).unwrap();
        // A line that goes on is one with the next.
        let image = read("Containerfile").replace("\\\n", " ");
        let words = |instruction: &str| -> Vec<&str> {
            let line = image.lines().find_map(|line| line.strip_prefix(instruction)?.strip_prefix(' '));
            line.unwrap_or_default().split_whitespace().collect()
        };
        let sample = settings(read("directory.toml").as_bytes());
        let data = String::from_utf8(sample).unwrap();
        let data = data.lines().find_map(|line| line.strip_prefix("data = ")).unwrap().trim_matches('"');
        let told = format!("STATE_DIRECTORY={data}");
        assert_eq!(words("ENV"), ["OFFHOOK_DIRECTORY_CONFIG=/etc/offhook/directory.toml", told.as_str()]);
        assert_eq!((words("VOLUME"), words("WORKDIR")), (vec![data], vec![data]));
        let user = words("USER")[0];
        assert!(read("offhook-directory.sysusers").contains(&format!("\nu {user} ")), "{user}");
        // The package as it is called, copied to where it is installed from, by commands that a shell understands.
        let [package, folder] = words("COPY")[..] else { panic!("a package and a folder") };
        assert_eq!(package, format!("{PROGRAM}_*.deb"));
        let run = words("RUN").join(" ");
        assert_eq!(run.matches(&format!("{folder}{package}")).count(), 2, "installed and removed: {run}");
        assert!(Command::new("sh").args(["-n", "-c", &run]).status().unwrap().success(), "{run}");
        // Who makes the user when there is no systemd.
        assert!(read("debian/postinst").contains("systemd-sysusers") && run.contains("standalone-sysusers"));
        let handbook = std::fs::read_to_string(root().join("docs/directory.md")).unwrap();
        for port in words("EXPOSE") {
            let (number, protocol) = port.split_once('/').unwrap();
            let listed = handbook.lines().filter(|line| line.starts_with("| ")).any(|line| {
                let first = line.split('|').nth(1).unwrap_or_default();
                first.contains(number) && first.contains(protocol)
            });
            assert!(listed, "{port} is no port of the handbook's");
        }
    }
}
