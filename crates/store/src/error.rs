//! From what a store's backend says to what its caller must do.

use object_store::Error as ObjectError;
use runtree_core::{Error, ErrorKind};

use crate::local::LocalError;

/// Maps an error of the backend met while doing `what` (`read runs/…/run`).
pub(crate) fn from_object(error: ObjectError, what: &str) -> Error {
    let local = local_error(&error);
    let hint = local.and_then(LocalError::hint);
    let kind = match (&error, local) {
        (_, Some(local)) => local.kind(),
        (ObjectError::NotFound { .. }, _) => ErrorKind::NotFound,
        (ObjectError::AlreadyExists { .. } | ObjectError::Precondition { .. }, _) => {
            ErrorKind::Conflict
        }
        (ObjectError::PermissionDenied { .. } | ObjectError::Unauthenticated { .. }, _) => {
            ErrorKind::Denied
        }
        (ObjectError::NotSupported { .. } | ObjectError::NotImplemented { .. }, _) => {
            ErrorKind::Unsupported
        }
        (ObjectError::InvalidPath { .. }, _) => ErrorKind::Invalid,
        _ if is_denied(&error) => ErrorKind::Denied,
        _ => ErrorKind::Unavailable,
    };
    let message = match kind {
        ErrorKind::NotFound => format!("can not {what}: it is not in the store"),
        _ => format!("can not {what}"),
    };
    let mapped = Error::new(kind, message).with_source(error);
    match hint {
        Some(hint) => mapped.with_hint(hint),
        None => mapped,
    }
}

/// Whether the operation certainly had no effect, or certainly had none that counts: nothing needs to be read back.
pub(crate) fn is_definite(error: &ObjectError) -> bool {
    let known = matches!(
        error,
        ObjectError::NotSupported { .. }
            | ObjectError::NotImplemented { .. }
            | ObjectError::InvalidPath { .. }
            | ObjectError::PermissionDenied { .. }
            | ObjectError::Unauthenticated { .. }
    );
    // A local disk answers for itself: after a failed fsync, finding the file equal would prove nothing.
    known || local_error(error).is_some()
}

/// Whether a server refused for want of rights. Of a listing or a deletion `object_store` says no more than that it failed; the server's words are in its causes.
pub(crate) fn is_denied(error: &ObjectError) -> bool {
    if matches!(
        error,
        ObjectError::PermissionDenied { .. } | ObjectError::Unauthenticated { .. }
    ) {
        return true;
    }
    let text = text_of(error);
    ["AccessDenied", "403 Forbidden", "401 Unauthorized"]
        .iter()
        .any(|word| text.contains(word))
}

/// What an error and its causes say.
pub(crate) fn text_of(error: &ObjectError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// Whether a local disk said so.
pub(crate) fn is_local(error: &ObjectError) -> bool {
    local_error(error).is_some()
}

fn local_error(error: &ObjectError) -> Option<&LocalError> {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(local) = cause.downcast_ref() {
            return Some(local);
        }
        source = cause.source();
    }
    None
}
