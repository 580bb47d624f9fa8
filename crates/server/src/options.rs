//! What the edge that starts a server decides: where it listens and who may talk to it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use runtree_core::{Error, Result};
use subtle::ConstantTimeEq as _;

/// The port of a server that names none.
pub const DEFAULT_PORT: u16 = 6780;

/// How to serve.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    /// Where to listen; port 0 takes any free one.
    pub address: SocketAddr,
    /// What every request must carry. Required unless `address` is loopback.
    pub token: Option<Token>,
    /// Hears of every request once its answer begins; nobody by default.
    pub log: Option<fn(&Answered<'_>)>,
}

/// A request that was answered, or refused. Without its query, which may carry the token.
#[derive(Clone, Copy, Debug)]
pub struct Answered<'a> {
    /// `GET`, `POST`, ….
    pub method: &'a str,
    /// Percent-encoded, as it was asked for.
    pub path: &'a str,
    /// HTTP status.
    pub status: u16,
    /// Until the answer began: a stream goes on.
    pub duration: Duration,
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self {
            address: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), DEFAULT_PORT),
            token: None,
            log: None,
        }
    }
}

impl ServeOptions {
    /// Refuses what would let strangers in.
    ///
    /// # Errors
    /// `Denied` if the address is not loopback and there is no token.
    pub fn check(&self) -> Result<()> {
        if self.address.ip().is_loopback() || self.token.is_some() {
            return Ok(());
        }
        Err(Error::denied(format!(
            "{} can be reached by others, and the server has no token",
            self.address
        ))
        .with_hint(
            "pass --token to make one, or listen on 127.0.0.1 and use ssh -L from elsewhere",
        ))
    }
}

/// A secret that requests carry. Debug does not print it.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    /// Fewest characters of a token.
    pub const MIN_LENGTH: usize = 16;

    /// Takes a token.
    ///
    /// # Errors
    /// `Invalid` if it is shorter than [`Token::MIN_LENGTH`] or has characters that do not survive URLs and cookies unchanged.
    pub fn new(text: impl Into<String>) -> Result<Self> {
        let text = text.into();
        let clean = text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
        if text.len() < Self::MIN_LENGTH || !clean {
            return Err(Error::invalid(format!(
                "a token has at least {} characters of A-Z a-z 0-9 - _ .",
                Self::MIN_LENGTH
            ))
            .with_hint("pass --token without a value to have one made"));
        }
        Ok(Self(text))
    }

    /// Whether `candidate` is the token, in time that does not depend on where they differ.
    pub(crate) fn matches(&self, candidate: &str) -> bool {
        self.0.as_bytes().ct_eq(candidate.as_bytes()).into()
    }

    /// The secret itself, for the address that is shown to who started the server.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}
