//! Where passwords come from.

use crate::exit::Failure;
use offhook::storage::{MAX_PASSWORD_BYTES, Password};
use std::io::{BufRead, IsTerminal as _, Write as _};
use zeroize::Zeroizing;

/// A source of passwords for one command.
#[derive(Debug, Clone, Copy)]
pub enum Source {
    /// Lines of standard input, for scripts.
    Stdin,
    /// Questions on the terminal, without echo.
    Terminal,
}

/// Shorter passwords are taken, with a remark.
const SHORT: usize = 8;

impl Source {
    /// Standard input if the user said so, else the terminal.
    pub fn new(password_stdin: bool) -> Self {
        if password_stdin { Self::Stdin } else { Self::Terminal }
    }

    /// An existing password.
    pub fn current(self, question: &str) -> Result<Password, Failure> {
        Ok(Password::new(&self.read(question)?)?)
    }

    /// A password to be: asked twice on a terminal.
    pub fn new_password(self) -> Result<Password, Failure> {
        let first = self.read("New password: ")?;
        let password = Password::new(&first)?;
        if let Self::Terminal = self {
            if first.chars().count() < SHORT {
                eprintln!("This password is short: whoever gets hold of the account's file can guess it.");
            }
            if *self.read("Once more: ")? != *first {
                return Err(Failure::bad_input("The two passwords are not the same."));
            }
        }
        Ok(password)
    }

    /// An account's recovery words: as secret as a password, but typed from a sheet of paper, so they are shown.
    pub fn words(self, question: &str) -> Result<Zeroizing<String>, Failure> {
        if let Self::Terminal = self
            && std::io::stdin().is_terminal()
        {
            eprint!("{question}");
            // A question that cannot be shown is not answered.
            let _ = std::io::stderr().flush();
            return line(&mut std::io::stdin().lock());
        }
        self.read(question)
    }

    fn read(self, question: &str) -> Result<Zeroizing<String>, Failure> {
        match self {
            Self::Stdin => line(&mut std::io::stdin().lock()),
            Self::Terminal if !std::io::stdin().is_terminal() => Err(Failure::bad_input(
                "There is no terminal to ask for the password on. Scripts use --password-stdin.",
            )),
            Self::Terminal => rpassword::prompt_password(question)
                .map(Zeroizing::new)
                .map_err(|error| Failure::system(format!("The password can't be read: {error}."))),
        }
    }
}

/// One line without its end, no longer than a password can be.
fn line(input: &mut impl BufRead) -> Result<Zeroizing<String>, Failure> {
    let mut line = Zeroizing::new(String::new());
    let mut bounded = std::io::Read::take(input, MAX_PASSWORD_BYTES as u64 + 2);
    bounded.read_line(&mut line).map_err(|error| {
        Failure::bad_input(format!("The password can't be read from standard input: {error}."))
    })?;
    while line.ends_with(['\n', '\r']) {
        line.pop();
    }
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_a_line_without_its_end() {
        let mut input = &b"first one\r\nsecond\n"[..];
        assert_eq!(*line(&mut input).unwrap(), "first one");
        assert_eq!(*line(&mut input).unwrap(), "second");
        assert_eq!(*line(&mut input).unwrap(), "");
        assert!(line(&mut &b"\xff\xff\n"[..]).is_err());
    }

    #[test]
    fn endless_input_is_not_read_to_its_end() {
        let mut input = std::io::BufReader::new(std::io::repeat(b'x'));
        let line = line(&mut input).unwrap();
        assert!(Password::new(&line).is_err(), "too long to be one");
    }
}
