//! Addresses of buckets.

use std::fmt;
use std::str::FromStr;

use runtree_core::{Error, Result};

use crate::layout::ObjectPath;

/// What kind of bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// Amazon S3, and what speaks like it.
    S3,
    /// Google Cloud Storage.
    Gcs,
    /// Azure Blob Storage.
    Azure,
}

/// A bucket, and where in it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RemoteAddress {
    /// Its kind.
    pub scheme: Scheme,
    /// Its name.
    pub bucket: String,
    /// Everything of the store lies below it; empty for the whole bucket.
    pub prefix: ObjectPath,
}

impl RemoteAddress {
    /// Whether a text names a bucket rather than a directory.
    pub fn is_one(text: &str) -> bool {
        text.contains("://")
    }
}

impl FromStr for RemoteAddress {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let invalid = |why: &str| {
            Error::invalid(format!("{text:?} is no store: {why}"))
                .with_hint("a store is a directory, or s3://bucket/prefix, gs://bucket/prefix, az://container/prefix")
        };
        let (scheme, rest) = text.split_once("://").ok_or_else(|| invalid("no scheme"))?;
        let scheme = match scheme {
            "s3" | "s3a" => Scheme::S3,
            "gs" => Scheme::Gcs,
            "az" | "azure" => Scheme::Azure,
            _ => return Err(invalid("it is no kind of bucket that runtree knows")),
        };
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.is_empty() {
            return Err(invalid("it names no bucket"));
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        if !bucket.chars().all(allowed) {
            return Err(invalid(
                "a bucket's name has letters, digits, '-', '.' and '_'",
            ));
        }
        let prefix = prefix.trim_matches('/');
        let prefix = ObjectPath::parse(prefix)
            .map_err(|error| invalid("its prefix is no path").with_source(error))?;
        Ok(Self {
            scheme,
            bucket: bucket.to_owned(),
            prefix,
        })
    }
}

impl fmt::Display for RemoteAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.scheme {
            Scheme::S3 => "s3",
            Scheme::Gcs => "gs",
            Scheme::Azure => "az",
        };
        write!(f, "{scheme}://{}", self.bucket)?;
        if self.prefix.as_ref().is_empty() {
            return Ok(());
        }
        write!(f, "/{}", self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_print_as_they_are_parsed() {
        for (text, printed) in [
            ("s3://bucket", "s3://bucket"),
            ("s3://bucket/", "s3://bucket"),
            ("s3://bucket/a/b/", "s3://bucket/a/b"),
            ("gs://bucket.x/a", "gs://bucket.x/a"),
            ("az://container/a", "az://container/a"),
        ] {
            let address: RemoteAddress = text.parse().unwrap();
            assert_eq!(address.to_string(), printed);
            assert_eq!(printed.parse::<RemoteAddress>().unwrap(), address);
        }
    }

    #[test]
    fn what_is_none_says_what_would_be_one() {
        for text in [
            "ftp://x/y",
            "s3://",
            "s3:///a",
            "s3://a b",
            "s3://b/../c",
            "s3://b/a//c",
            "nowhere",
        ] {
            let error = text.parse::<RemoteAddress>().unwrap_err();
            assert!(
                error.hint().unwrap().contains("s3://bucket/prefix"),
                "{text}"
            );
        }
    }
}
