//! What a bucket's answer means for whoever asked.

use object_store::Error as ObjectError;
use runtree_core::Error;

use crate::error::{is_denied, text_of};

/// The reason that a server gives, in the words of S3's error codes, looked for in all causes of an error. `object_store` maps a bucket and an object that do not exist to one error.
const NO_BUCKET: [&str; 4] = [
    "NoSuchBucket",
    "ContainerNotFound",
    "The specified bucket does not exist",
    "InvalidBucketName",
];
const WRONG_PLACE: [&str; 3] = [
    "PermanentRedirect",
    "AuthorizationHeaderMalformed",
    "IllegalLocationConstraintException",
];
const NO_CREDENTIALS: [&str; 3] = [
    "169.254.169.254",
    "No credentials",
    "failed to get credentials",
];

/// Says what stands behind an error of the store at `at`, where that is more than "not found" or "denied".
pub(crate) fn explain(error: &ObjectError, at: &dyn std::fmt::Display) -> Option<Error> {
    let text = text_of(error);
    let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if has(&NO_BUCKET) {
        return Some(
            Error::not_found(format!("the bucket of {at} does not exist"))
                .with_hint("runtree never makes a bucket: make it, or check its name and the endpoint (AWS_ENDPOINT_URL)"),
        );
    }
    if has(&NO_CREDENTIALS) {
        return Some(
            Error::denied(format!("there are no credentials for {at}"))
                .with_hint("set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or AWS_PROFILE; of gs:// GOOGLE_APPLICATION_CREDENTIALS; of az:// AZURE_STORAGE_ACCOUNT_NAME and its key"),
        );
    }
    if has(&WRONG_PLACE) {
        return Some(
            Error::invalid(format!(
                "{at} is in another region than the one that was asked"
            ))
            .with_hint("set AWS_REGION"),
        );
    }
    is_denied(error).then(|| {
        Error::denied(format!("{at} may not be accessed with these credentials"))
            .with_hint("reading needs GetObject and ListBucket; without ListBucket even what is absent looks denied. Writing needs PutObject and DeleteObject, too")
    })
}
