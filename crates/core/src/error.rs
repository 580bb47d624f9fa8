//! The one public error of runtree.
//!
//! [`ErrorKind`] says what the caller must do; the message says what went wrong, with which object and which values; the
//! hint says the exact next step. Crates may use private error enums inside, but what crosses a crate's edge is [`Error`].
//! Edges (CLI, Python, HTTP) map kinds to exit codes, exception classes and status codes through [`ErrorKind`]'s one table.

use std::fmt;

/// What the caller has to do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ErrorKind {
    /// The named thing does not exist.
    NotFound,
    /// Somebody else won, or the request contradicts what is stored: reload and decide.
    Conflict,
    /// The call is wrong: fix it.
    Invalid,
    /// Not allowed.
    Denied,
    /// The disk, the network or a server does not answer: retry later.
    Unavailable,
    /// Stored bytes are damaged: they need repair.
    Corrupt,
    /// Written by a newer runtree, or not supported by this store.
    Unsupported,
    /// Something that was accepted is not durable.
    LostData,
    /// A bug in runtree.
    Internal,
}

impl ErrorKind {
    /// The kind's name in snake case, as it stands in JSON.
    pub fn as_str(self) -> &'static str {
        self.row().0
    }

    /// The process exit code of the command line (sysexits-like, never 0, 1 or 2, which clap and panics use).
    pub fn exit_code(self) -> u8 {
        self.row().1
    }

    /// The HTTP status of the server.
    pub fn http_status(self) -> u16 {
        self.row().2
    }

    /// The Python exception class in `runtree.errors`.
    pub fn python_class(self) -> &'static str {
        self.row().3
    }

    fn row(self) -> (&'static str, u8, u16, &'static str) {
        match self {
            Self::NotFound => ("not_found", 3, 404, "NotFound"),
            Self::Conflict => ("conflict", 4, 409, "Conflict"),
            Self::Invalid => ("invalid", 5, 400, "Invalid"),
            Self::Denied => ("denied", 6, 403, "Denied"),
            Self::Unavailable => ("unavailable", 7, 503, "Unavailable"),
            Self::Corrupt => ("corrupt", 8, 500, "Corrupt"),
            Self::Unsupported => ("unsupported", 9, 501, "Unsupported"),
            Self::LostData => ("lost_data", 10, 500, "LostData"),
            Self::Internal => ("internal", 70, 500, "Internal"),
        }
    }
}

/// An error with a kind, a message, an optional hint and an optional source.
///
/// `Display` prints the message alone: the edge that shows it prints the source chain once, with [`Error::chain`].
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    hint: Option<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// A result with runtree's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Makes an error of a kind. Messages are lowercase, without a full stop: what, which, values.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            hint: None,
            source: None,
        }
    }

    /// The named thing does not exist.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::NotFound, message)
    }

    /// The request contradicts what is stored.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Conflict, message)
    }

    /// The call is wrong.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, message)
    }

    /// Not allowed.
    pub fn denied(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Denied, message)
    }

    /// The disk, network or server does not answer.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unavailable, message)
    }

    /// Stored bytes are damaged.
    pub fn corrupt(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Corrupt, message)
    }

    /// Newer format, or not supported here.
    pub fn unsupported(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unsupported, message)
    }

    /// Something accepted is not durable.
    pub fn lost_data(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::LostData, message)
    }

    /// A bug in runtree.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, message)
    }

    /// Adds the exact next step for the user.
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds the cause.
    pub fn with_source(
        mut self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Puts `context: ` before the message and keeps kind, hint and source.
    pub fn in_context(mut self, context: impl fmt::Display) -> Self {
        self.message = format!("{context}: {}", self.message);
        self
    }

    /// What the caller has to do.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The message alone, without hint or sources.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The exact next step, if there is one.
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// The message followed by every source, joined by `: `. For edges: printed once.
    pub fn chain(&self) -> String {
        let mut text = self.message.clone();
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            source = cause.source();
        }
        text
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
