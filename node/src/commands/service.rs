//! `offhook service`: a user's systemd unit.

use crate::config::Context;
use crate::exit::{Failure, Outcome};
use crate::output::Printer;
use serde_json::json;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};

/// The unit as it is packaged; its program is replaced by this one.
const UNIT: &str = include_str!("../../dist/offhook.service");
const PACKAGED: &str = "ExecStart=/usr/bin/offhook run --json";

/// Prints the unit or writes it to its place.
pub fn execute(context: &Context, printer: Printer, install: bool) -> Outcome {
    let program = env::current_exe()
        .map_err(|error| Failure::system(format!("Where this program lies can't be found out: {error}.")))?;
    let unit = unit(&program, context.home.dir(), context.account.as_deref())?;
    if !install {
        match printer.json() {
            true => printer.value(&json!({ "reply": "service", "unit": unit })),
            false => printer.line(unit.trim_end()),
        }
        return Ok(());
    }
    let dir = systemd_dir()?;
    let path = dir.join("offhook.service");
    fs::create_dir_all(&dir)
        .and_then(|()| fs::write(&path, unit))
        .map_err(|error| Failure::system(format!("{} can't be written: {error}.", path.display())))?;
    if printer.json() {
        printer.value(&json!({ "reply": "service", "path": path }));
        return Ok(());
    }
    printer.line(&format!(
        "Written to {}. Start it now and at every log-in with\n\n  \
         systemctl --user daemon-reload\n  systemctl --user enable --now offhook",
        path.display()
    ));
    Ok(())
}

fn unit(program: &Path, home: &Path, account: Option<&str>) -> Result<String, Failure> {
    let home = std::path::absolute(home)
        .map_err(|error| Failure::system(format!("{} has no absolute path: {error}.", home.display())))?;
    let mut words = vec![quoted(program)?, "--home".into(), quoted(&home)?];
    if let Some(account) = account {
        words.extend(["--account".into(), quoted(Path::new(account))?]);
    }
    let start = format!("ExecStart={} run --json", words.join(" "));
    Ok(UNIT.replacen(PACKAGED, &start, 1))
}

/// A word of a unit file: quoted, with systemd's specifiers and variables switched off
/// (systemd.service(5), section Command lines).
fn quoted(path: &Path) -> Result<String, Failure> {
    match path.to_str() {
        Some(text) if !text.chars().any(char::is_control) => {
            let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%").replace('$', "$$");
            Ok(format!("\"{text}\""))
        }
        Some(_) | None => Err(Failure::system(format!("A service can't use the path {}.", path.display()))),
    }
}

fn systemd_dir() -> Result<PathBuf, Failure> {
    let config = env::var_os("XDG_CONFIG_HOME").filter(|dir| !dir.is_empty()).map(PathBuf::from);
    let home = || env::var_os("HOME").map(|home| PathBuf::from(home).join(".config"));
    config
        .or_else(home)
        .map(|config| config.join("systemd/user"))
        .ok_or_else(|| Failure::bad_input("Where is your home directory? Set HOME."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_starts_this_program_with_this_home() {
        let unit = unit(Path::new("/opt/my phone/offhook"), Path::new("/home/a%b"), Some("ada")).unwrap();
        let start = r#"ExecStart="/opt/my phone/offhook" --home "/home/a%%b" --account "ada" run --json"#;
        assert!(unit.contains(start), "{unit}");
        assert!(!unit.contains("/usr/bin/offhook"));
        assert_eq!(unit.matches("ExecStart=").count(), 1);
    }

    #[test]
    fn a_path_can_not_add_lines_to_the_unit() {
        assert!(unit(Path::new("/a\nExecStartPre=/bin/evil"), Path::new("/h"), None).is_err());
        assert_eq!(quoted(Path::new("a\"b$c")).unwrap(), "\"a\\\"b$$c\"");
    }
}
