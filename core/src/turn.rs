//! A TURN server of the user's own, as settings name it.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use data_encoding::HEXLOWER_PERMISSIVE;
use offhook_proto::relay::{MAX_CREDENTIAL, MAX_RELAY_SERVERS, RelayServer, RelayTransport};
use thiserror::Error;

/// Default port of TURN over UDP and TCP, and of TURN over TLS (RFC 8656 section 3).
const PORT: u16 = 3478;
const TLS_PORT: u16 = 5349;
/// Longest text of a TURN server, bytes.
const MAX_TEXT: usize = 1_024;

/// A TURN server (RFC 8656) that somebody else runs, with long-term credentials: `turn:USER:PASSWORD@HOST`, as in
/// RFC 7065 but with the credentials in front; `turns:` is over TLS. A `:PORT` and `?transport=udp` or `tcp` may follow.
/// Without `transport`, UDP is tried first and TCP next. `?pin=` and the SHA-256 of the server's certificate (of its DER
/// encoding, 64 hex digits) makes `turns:` accept no other. Without it any will do: what passes is encrypted between the terminals, and the
/// password is never sent, so TLS is here to get through networks and not to keep a secret (`docs/network.md`).
///
/// ```
/// let server: offhook::TurnServer = "turn:ada:secret@turn.example.org:3478?transport=udp".parse()?;
/// assert_eq!(server.host(), "turn.example.org");
/// # Ok::<(), offhook::TurnServerError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct TurnServer {
    host: String,
    port: u16,
    transports: Vec<RelayTransport>,
    pin: Option<[u8; 32]>,
    username: String,
    password: String,
}

/// Why a text names no TURN server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a TURN server looks like turn:USER:PASSWORD@HOST:PORT?transport=udp, or turns:… over TLS")]
pub struct TurnServerError;

impl TurnServer {
    /// Its host name or address.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// User name and password.
    pub(crate) fn credentials(&self) -> (String, String) {
        (self.username.clone(), self.password.clone())
    }

    /// Looks its name up: where it listens, at most as many as a leg takes.
    ///
    /// # Errors
    /// What the resolver says.
    pub(crate) async fn resolve(&self) -> std::io::Result<Vec<RelayServer>> {
        let host = self.host.trim_start_matches('[').trim_end_matches(']');
        let found: Vec<SocketAddr> = tokio::net::lookup_host((host, self.port)).await?.collect();
        let each =
            |transport| found.iter().map(move |addr| RelayServer { transport, addr: *addr, pin: self.pin });
        Ok(self.transports.iter().copied().flat_map(each).take(MAX_RELAY_SERVERS).collect())
    }
}

impl FromStr for TurnServer {
    type Err = TurnServerError;

    fn from_str(text: &str) -> Result<Self, TurnServerError> {
        if text.len() > MAX_TEXT {
            return Err(TurnServerError);
        }
        let (scheme, rest) = text.split_once(':').ok_or(TurnServerError)?;
        let tls = match scheme {
            "turn" => false,
            "turns" => true,
            _ => return Err(TurnServerError),
        };
        // The password may contain anything but this.
        let (credentials, server) = rest.rsplit_once('@').ok_or(TurnServerError)?;
        let (username, password) = credentials.split_once(':').ok_or(TurnServerError)?;
        let (server, query) = server.split_once('?').map_or((server, None), |(s, q)| (s, Some(q)));
        let Options { transport, pin } = options(query)?;
        let transports = match (tls, transport) {
            (false, None) => vec![RelayTransport::Udp, RelayTransport::Tcp],
            (false, Some("udp")) => vec![RelayTransport::Udp],
            (false, Some("tcp")) => vec![RelayTransport::Tcp],
            (true, None | Some("tcp")) => vec![RelayTransport::Tls],
            (_, Some(_)) => return Err(TurnServerError),
        };
        if pin.is_some() && !tls {
            return Err(TurnServerError);
        }
        let (host, port) = host_and_port(server, if tls { TLS_PORT } else { PORT })?;
        let credential = |text: &str| !text.is_empty() && text.len() <= MAX_CREDENTIAL;
        if !credential(username) || !credential(password) {
            return Err(TurnServerError);
        }
        Ok(Self { host, port, transports, pin, username: username.to_owned(), password: password.to_owned() })
    }
}

/// What follows the question mark.
#[derive(Default)]
struct Options<'a> {
    transport: Option<&'a str>,
    pin: Option<[u8; 32]>,
}

/// `transport=…` and `pin=…`, each at most once, with `&` between them.
fn options(query: Option<&str>) -> Result<Options<'_>, TurnServerError> {
    let mut options = Options::default();
    for option in query.into_iter().flat_map(|query| query.split('&')) {
        match option.split_once('=') {
            Some(("transport", value)) if options.transport.is_none() => options.transport = Some(value),
            Some(("pin", value)) if options.pin.is_none() => {
                let hash = HEXLOWER_PERMISSIVE.decode(value.as_bytes()).map_err(|_| TurnServerError)?;
                options.pin = Some(hash.try_into().map_err(|_| TurnServerError)?);
            }
            Some(_) | None => return Err(TurnServerError),
        }
    }
    Ok(options)
}

/// `HOST`, `HOST:PORT`, `[IPV6]` or `[IPV6]:PORT`.
fn host_and_port(text: &str, default: u16) -> Result<(String, u16), TurnServerError> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().map_err(|_| TurnServerError)?),
        Some(_) | None => (text, default),
    };
    let literal = host.starts_with('[') && host.ends_with(']') && host.len() > 2;
    let name = !host.is_empty()
        && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
    if (literal || name) && port != 0 { Ok((host.to_owned(), port)) } else { Err(TurnServerError) }
}

impl fmt::Debug for TurnServer {
    /// Without credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TurnServer")
            .field("host", &self.host)
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_settings_say_is_understood() {
        let read = |text: &str| text.parse::<TurnServer>().unwrap();
        let servers = read("turn:ada:a:b@c@127.0.0.1").resolve().await.unwrap();
        let seen: Vec<_> = servers.iter().map(|s| (s.transport, s.addr.to_string(), s.pin)).collect();
        let at = |port| format!("127.0.0.1:{port}");
        assert_eq!(seen, [(RelayTransport::Udp, at(3478), None), (RelayTransport::Tcp, at(3478), None)]);
        assert_eq!(read("turn:ada:a:b@c@127.0.0.1").credentials(), ("ada".to_owned(), "a:b@c".to_owned()));
        let tls = read("turns:u:p@[::1]:443").resolve().await.unwrap();
        assert_eq!(
            (tls[0].transport, tls[0].addr.to_string()),
            (RelayTransport::Tls, "[::1]:443".to_owned())
        );
        assert_eq!(read("turns:u:p@[::1]").resolve().await.unwrap()[0].addr.port(), 5349);
        let pin = "0F".repeat(32);
        let pinned = read(&format!("turns:u:p@[::1]?transport=tcp&pin={pin}")).resolve().await.unwrap();
        assert_eq!((pinned[0].transport, pinned[0].pin), (RelayTransport::Tls, Some([15; 32])));
        assert_eq!(tls[0].pin, None);
        let tcp = read("turn:u:p@127.0.0.1:99?transport=tcp").resolve().await.unwrap();
        assert_eq!((tcp.len(), tcp[0].transport), (1, RelayTransport::Tcp));
    }

    #[test]
    fn mistakes_are_told_and_passwords_are_not() {
        for bad in [
            "",
            "turn:host",
            "turn:user@host",
            "turn::p@host",
            "turn:u:@host",
            "stun:u:p@host",
            "turn:u:p@",
            "turn:u:p@host:0",
            "turn:u:p@host:x",
            "turn:u:p@ho st",
            "turn:u:p@host?transport=sctp",
            "turns:u:p@host?transport=udp",
            "turns:u:p@host?pin=0f0f",
            "turns:u:p@host?pin=",
            "turns:u:p@host?transport=tcp&transport=tcp",
            "turn:u:p@host?pin=0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f",
        ] {
            assert_eq!(bad.parse::<TurnServer>(), Err(TurnServerError), "{bad}");
        }
        let shown = format!("{:?}", "turn:ada:geheim@host".parse::<TurnServer>().unwrap());
        assert!(!shown.contains("geheim") && !shown.contains("ada"));
    }
}
