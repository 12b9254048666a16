//! Where an account is: `ada@example.org`.

use super::DirectoryError;
use crate::sites::{host_of, is_loopback, is_of_this_host};
use crate::storage::{AccountId, StorageError};
use offhook_proto::number::ChosenNumber;
use std::str::FromStr;

/// Longest name or address of a directory, bytes: a DNS name, or an address with a port.
const MAX_LEN: usize = 256;

/// Where a directory is: `example.org`, `example.org:8443`, or the address of its site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectoryAddress {
    name: String,
    url: String,
    /// Only its name is known: it says itself where its site is.
    is_name: bool,
}

impl DirectoryAddress {
    /// What it is called here: its DNS name, or host and port.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The site's address, without a slash at the end.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Whether only the name was told, under which its descriptor lies.
    pub(super) fn is_name(&self) -> bool {
        self.is_name
    }

    /// The site that a directory names. Without TLS only this host is spoken to: nobody else is to hear it.
    pub(super) fn is_safe(url: &str) -> bool {
        match url.split_once("://") {
            Some(("https", rest)) => is_authority(rest),
            Some(("http", rest)) => is_authority(rest) && is_loopback(rest),
            Some(_) | None => false,
        }
    }

    /// The same directory at the site that it names itself. That is none of this host: who is here at all knows, and types it.
    ///
    /// # Errors
    /// [`DirectoryError::Answer`].
    pub(super) fn at_site(&self, site: Option<&str>) -> Result<Self, DirectoryError> {
        let url = site.unwrap_or(&self.url);
        if is_of_this_host(url) || !Self::is_safe(url) {
            let what = "the site that it names is none that may be asked";
            return Err(DirectoryError::Answer { name: self.name.clone(), what });
        }
        Self::kept(&self.name, url)
    }

    /// Whether a directory at this address may say that it has this DNS name: the connection proves it, or leads to this host.
    pub(super) fn speaks_for(&self, name: &str) -> bool {
        match self.url.split_once("://") {
            Some(("https", authority)) => host_of(authority) == name,
            Some(("http", authority)) => is_loopback(authority),
            Some(_) | None => false,
        }
    }

    /// One that was kept.
    pub(super) fn kept(name: &str, url: &str) -> Result<Self, DirectoryError> {
        if !Self::is_safe(url) {
            return Err(DirectoryError::Address(url.to_owned()));
        }
        Ok(Self { name: name.to_owned(), url: url.to_owned(), is_name: false })
    }
}

impl FromStr for DirectoryAddress {
    type Err = DirectoryError;

    fn from_str(typed: &str) -> Result<Self, DirectoryError> {
        let bad = || DirectoryError::Address(typed.chars().take(MAX_LEN).collect());
        let trimmed = typed.trim().trim_end_matches('/');
        if trimmed.len() > MAX_LEN {
            return Err(bad());
        }
        // Schemes and hosts are the same in any case (RFC 3986, sections 3.1 and 3.2.2), and there is nothing else in it.
        let trimmed = trimmed.to_ascii_lowercase();
        if let Some((_, authority)) = trimmed.split_once("://") {
            if !Self::is_safe(&trimmed) {
                return Err(bad());
            }
            return Ok(Self { name: authority.to_owned(), url: trimmed, is_name: false });
        }
        let (host, port) = match trimmed.rsplit_once(':') {
            Some((host, port)) => (host, Some(port.parse::<u16>().map_err(|_| bad())?)),
            None => (trimmed.as_str(), None),
        };
        // The names that numbers have behind their @.
        let number = ChosenNumber::new("a", Some(host)).map_err(|_| bad())?;
        let host = number.directory().ok_or_else(bad)?;
        let name = port.map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        Ok(Self { url: format!("https://{name}"), name, is_name: port.is_none() })
    }
}

fn is_authority(text: &str) -> bool {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':' | b'[' | b']');
    !text.is_empty() && text.len() <= MAX_LEN && text.bytes().all(is_plain)
}

/// An account at a directory: `ada@example.org`. An ID may have an `@` in it; the last one counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountAddress {
    /// The account's ID there.
    pub id: AccountId,
    /// The directory.
    pub directory: DirectoryAddress,
}

impl FromStr for AccountAddress {
    type Err = DirectoryError;

    fn from_str(typed: &str) -> Result<Self, DirectoryError> {
        let (id, directory) = typed
            .rsplit_once('@')
            .ok_or_else(|| DirectoryError::Address(typed.chars().take(MAX_LEN).collect()))?;
        let id = id.parse().map_err(|error: StorageError| DirectoryError::Storage(error))?;
        Ok(Self { id, directory: directory.parse()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_an_id_and_a_directory() {
        let address = |typed: &str| {
            let address: AccountAddress = typed.parse().unwrap();
            (address.id.to_string(), address.directory.name, address.directory.url)
        };
        let told = |id: &str, name: &str, url: &str| (id.to_owned(), name.to_owned(), url.to_owned());
        assert_eq!(address("Ada@Example.ORG"), told("ada", "example.org", "https://example.org"));
        assert_eq!(
            address("a@b@example.org:8443"),
            told("a@b", "example.org:8443", "https://example.org:8443")
        );
        let local = told("ada", "127.0.0.1:8080", "http://127.0.0.1:8080");
        assert_eq!(address("ada@http://127.0.0.1:8080/"), local);
        assert_eq!(address("ada@http://[::1]:80").2, "http://[::1]:80");
    }

    #[test]
    fn q3_no_site_says_that_it_is_a_name_for_which_its_connection_does_not_speak() {
        let speaks = |typed: &str, name| typed.parse::<DirectoryAddress>().unwrap().speaks_for(name);
        assert!(speaks("https://example.org:8443", "example.org"));
        assert!(speaks("HTTPS://Example.ORG", "example.org"), "in any case");
        assert!(speaks("http://127.0.0.1:8080", "example.org"), "this host, as the user has typed");
        assert!(!speaks("https://eve.example", "example.org"));
        assert!(!speaks("https://example.org.eve.example:8443", "example.org"));
    }

    #[test]
    fn q3_a_directory_sends_nobody_to_a_service_of_his_own_host() {
        let named: DirectoryAddress = "example.org".parse().unwrap();
        let at = |site| named.at_site(site).map(|address| address.url).ok();
        assert_eq!(at(None).as_deref(), Some("https://example.org"));
        assert_eq!(
            at(Some("https://site.example.org:8443")).as_deref(),
            Some("https://site.example.org:8443")
        );
        for bad in
            ["http://127.0.0.1:8080", "https://localhost", "https://[::1]:443", "http://site.example.org"]
        {
            assert_eq!(at(Some(bad)), None, "{bad}");
        }
    }

    #[test]
    fn without_tls_only_this_host_is_spoken_to() {
        for bad in [
            "ada",
            "ada@",
            "@example.org",
            "ada@http://example.org",
            "ada@http://192.168.1.1",
            "ada@http://127.0.0.1.example.org",
            "ada@http://localhost.example.org",
            "ada@ftp://example.org",
            "ada@https://example.org/path",
            "ada@https://user@example.org?x",
            "ada@exa mple.org",
            "ada@example.org:http",
        ] {
            assert!(bad.parse::<AccountAddress>().is_err(), "{bad}");
        }
    }
}
