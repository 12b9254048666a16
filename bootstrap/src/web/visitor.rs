//! Who asks: by the cookie of a page, or by the token of a program.
//!
//! A browser sends the cookie whoever made it ask. So a request that changes something has to repeat a word that only a page of
//! ours can have read, and that follows from the token; another site's page gets neither. A program's token is sent by
//! nobody but the program, and needs no such word.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderMap, HeaderValue, Method, header};
use data_encoding::BASE64URL_NOPAD;
use offhook::net::Ends;
use sha2::{Digest as _, Sha256};

use super::App;
use super::error::ApiError;
use super::limits::Network;
use super::serve::Peer;
use crate::store::{Session, TokenHash};

/// The session's cookie. Over TLS its name has the prefix (RFC 6265bis) by which browsers let no other host of the domain, and nobody
/// without TLS, set it.
const fn cookie_name(is_https: bool) -> &'static str {
    if is_https { "__Host-offhook_session" } else { "offhook_session" }
}

/// What repeats the word that shows that a page of ours asks.
const CSRF: &str = "x-offhook-csrf";

/// How long a session lasts: a working day.
pub(super) const SESSION_TIME: Duration = Duration::from_secs(12 * 3_600);
/// What cannot be undone takes a password that was typed within this time.
pub(super) const RECENT: Duration = Duration::from_secs(300);

/// In which a reverse proxy tells who is behind it.
pub(super) const FORWARDED: &str = "x-forwarded-for";

/// Bytes of a token.
const TOKEN: usize = 32;

/// A session's secret.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Token([u8; TOKEN]);

impl Token {
    pub(super) fn new() -> Self {
        Self(rand::random())
    }

    pub(super) fn hash(&self) -> TokenHash {
        TokenHash::of(&self.0)
    }

    pub(super) fn text(&self) -> String {
        BASE64URL_NOPAD.encode(&self.0)
    }

    /// The word that goes with it.
    pub(super) fn csrf(&self) -> String {
        let word = Sha256::new().chain_update(b"offhook/csrf/1\0").chain_update(self.0).finalize();
        BASE64URL_NOPAD.encode(&word)
    }

    fn parse(text: &str) -> Option<Self> {
        BASE64URL_NOPAD.decode(text.as_bytes()).ok()?.try_into().ok().map(Self)
    }

    /// The header that gives it to a browser.
    pub(super) fn cookie(&self, is_https: bool) -> HeaderValue {
        set_cookie(&self.text(), "", is_https)
    }

    /// The header that takes it from a browser.
    pub(super) fn no_cookie(is_https: bool) -> HeaderValue {
        set_cookie("", "; Max-Age=0", is_https)
    }
}

fn set_cookie(value: &str, more: &str, is_https: bool) -> HeaderValue {
    let (name, secure) = (cookie_name(is_https), if is_https { "; Secure" } else { "" });
    let text = format!("{name}={value}; Path=/; HttpOnly; SameSite=Strict{secure}{more}");
    HeaderValue::try_from(text).expect("base64 and names of attributes are printable")
}

/// The token that came with a request, and whether a program sent it.
fn token(headers: &HeaderMap, is_https: bool) -> Option<(Token, bool)> {
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        let token = value.to_str().ok()?.strip_prefix("Bearer ")?;
        return Some((Token::parse(token.trim())?, true));
    }
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = cookies.flat_map(|cookies| cookies.split(';')).filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.find(|(name, _)| name.trim() == cookie_name(is_https))?;
    Some((Token::parse(value.trim())?, false))
}

/// The token of the browser's session, whether it is good or not.
pub(super) fn browsers_token(headers: &HeaderMap, is_https: bool) -> Option<Token> {
    token(headers, is_https).filter(|(_, is_program)| !is_program).map(|(token, _)| token)
}

/// Whose session came with a request, if one that is good did. It need not repeat the page's word: nothing is changed by it.
pub(super) async fn session_of(app: &App, headers: &HeaderMap) -> Result<Option<Session>, ApiError> {
    let Some((token, _)) = token(headers, app.0.config.is_https) else { return Ok(None) };
    Ok(app.0.store.session(&token.hash(), app.now()).await?)
}

/// Somebody who is logged in.
pub(super) struct Visitor {
    pub(super) token: Token,
    pub(super) session: Session,
    /// Whether it is a program, with no cookie.
    pub(super) is_program: bool,
}

impl Visitor {
    /// Whether the password was entered just now.
    pub(super) fn check_recent(&self, app: &App) -> Result<(), ApiError> {
        let is_recent = app.now().since(self.session.logged_in) <= RECENT;
        if is_recent { Ok(()) } else { Err(ApiError::LoginAgain) }
    }
}

impl FromRequestParts<App> for Visitor {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let found = token(&parts.headers, app.0.config.is_https);
        let (token, is_program) = found.ok_or(ApiError::NoSession)?;
        let session = app.0.store.session(&token.hash(), app.now()).await?;
        let session = session.ok_or(ApiError::NoSession)?;
        let is_harmless = matches!(parts.method, Method::GET | Method::HEAD);
        if !is_program && !is_harmless {
            let said = parts.headers.get(CSRF).map(HeaderValue::as_bytes).unwrap_or_default();
            // Hashes are compared, so that the time tells nothing about the word.
            if TokenHash::of(said) != TokenHash::of(token.csrf().as_bytes()) {
                return Err(ApiError::Csrf);
            }
        }
        Ok(Self { token, session, is_program })
    }
}

/// From where somebody asks.
pub(super) struct From(pub(super) Network);

impl FromRequestParts<App> for From {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let address = behind(&app.0.config.proxies, peer(&parts.extensions), &parts.headers);
        Ok(Self(Network::of(address)))
    }
}

/// Who has connected, to the site or at the front.
pub(super) fn peer(extensions: &Extensions) -> IpAddr {
    let at_front = extensions.get::<Ends>().map(|ends| ends.remote);
    let peer = extensions.get::<Peer>().map(|peer| peer.0).or(at_front);
    peer.map_or(IpAddr::from([0, 0, 0, 0]), |peer| peer.ip())
}

pub(super) fn is_proxy(proxies: &[IpAddr], peer: IpAddr) -> bool {
    proxies.iter().any(|proxy| proxy.to_canonical() == peer.to_canonical())
}

/// The address of the client, if a proxy that is trusted tells it: the last one that it has written down.
pub(super) fn behind(proxies: &[IpAddr], peer: IpAddr, headers: &HeaderMap) -> IpAddr {
    if !is_proxy(proxies, peer) {
        return peer;
    }
    let told = headers.get_all(FORWARDED).iter().next_back();
    let last = told.and_then(|told| address(told.to_str().ok()?.rsplit(',').next()?.trim()));
    last.unwrap_or(peer)
}

/// An address, to which some proxies add the port.
fn address(text: &str) -> Option<IpAddr> {
    let with_port = || text.parse().ok().map(|addr: SocketAddr| addr.ip());
    text.parse().ok().or_else(with_port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_proxy_that_is_trusted_tells_who_is_behind_it() {
        let mut headers = HeaderMap::new();
        headers.append("x-forwarded-for", HeaderValue::from_static("192.0.2.66, 192.0.2.1"));
        headers.append("x-forwarded-for", HeaderValue::from_static("192.0.2.2 , 192.0.2.3"));
        let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
        let proxies = [ip("127.0.0.1")];
        assert_eq!(behind(&proxies, ip("127.0.0.1"), &headers), ip("192.0.2.3"));
        assert_eq!(behind(&proxies, ip("::ffff:127.0.0.1"), &headers), ip("192.0.2.3"));
        assert_eq!(behind(&proxies, ip("192.0.2.9"), &headers), ip("192.0.2.9"));
        assert_eq!(behind(&[], ip("127.0.0.1"), &headers), ip("127.0.0.1"));
        for (told, behind_it) in [("192.0.2.4:4711", "192.0.2.4"), ("[2001:db8::1]:1", "2001:db8::1")] {
            headers.insert("x-forwarded-for", HeaderValue::from_static(told));
            assert_eq!(behind(&proxies, ip("127.0.0.1"), &headers), ip(behind_it));
        }
        assert_eq!(behind(&[ip("::ffff:127.0.0.1")], ip("127.0.0.1"), &headers), ip("2001:db8::1"));
        headers.insert("x-forwarded-for", HeaderValue::from_static("nonsense"));
        assert_eq!(behind(&proxies, ip("127.0.0.1"), &headers), ip("127.0.0.1"));
    }
}
