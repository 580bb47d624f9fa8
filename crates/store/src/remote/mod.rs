//! Stores in buckets: from an address to objects.
//!
//! ```text
//! s3://bucket/prefix     gs://bucket/prefix     az://container/prefix
//! ```
//!
//! An address and settings (the variables `AWS_…`, `GOOGLE_…`, `AZURE_…`, and `HOME`, where profiles lie, all read by the edges and passed in) become an
//! `object_store` client over one connection pool and one small runtime of this process; requests run there, callers block. Around the client: the prefix,
//! a second request where an answer is late ([`Hedge`]), no more at once than the server bears ([`Limit`]), and tries that are repeated ([`Retry`]). A store is never made by looking for it, a bucket never at all.
//!
//! Errors tell apart what a bucket answers alike: that it does not exist, that it may not be looked into, that it is there and empty.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use object_store::client::SpawnedReqwestConnector;
use object_store::prefix::PrefixStore;
use object_store::{ClientOptions, ObjectStore, RetryConfig};
use runtree_core::{Error, Result};
use tokio::runtime::{Builder, Handle, Runtime};

use crate::wrappers::{Hedge, Limit, Pause, Retry, RetryPolicy};

mod address;
mod error;
mod plain;
mod profile;
mod s3;

pub use address::{RemoteAddress, Scheme};
pub(crate) use error::explain;
pub use plain::{fetch_object, list_objects};

/// Named values that a client is configured by: what the environment says.
pub type Settings = std::collections::BTreeMap<String, String>;

/// Longest silence of a server before a request is given up and tried again.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A request of 64 MiB at 1 MiB/s.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(120);

/// Threads that requests of a process run on: they wait, and copy bytes.
const WORKERS: usize = 2;

/// The objects at an address. Asks nothing yet.
///
/// # Errors
/// `Invalid` if a setting can not be meant; `Unavailable` if no client can be made.
pub fn connect(address: &RemoteAddress, settings: &Settings) -> Result<Arc<dyn ObjectStore>> {
    let runtime = runtime()?;
    let client = match address.scheme {
        Scheme::S3 => s3::client(address, settings, runtime.clone())?,
        Scheme::Gcs => gcs(address, settings, runtime.clone())?,
        Scheme::Azure => azure(address, settings, runtime.clone())?,
    };
    let prefixed: Arc<dyn ObjectStore> = if address.prefix.as_ref().is_empty() {
        client
    } else {
        Arc::new(PrefixStore::new(client, address.prefix.clone()))
    };
    let pause = Arc::new(
        move |wait: Duration| -> futures::future::BoxFuture<'static, ()> {
            let mut slept = Sleeping(runtime.spawn(async move { tokio::time::sleep(wait).await }));
            Box::pin(async move {
                // It fails only as the process ends: then nothing waits any more.
                let _ = (&mut slept.0).await;
            })
        },
    );
    let hedged = Hedge::new(prefixed, Arc::clone(&pause) as Pause);
    Ok(Retry::new(
        Limit::new(hedged),
        RetryPolicy::default(),
        pause,
    ))
}

/// A timer that ends with whoever waits for it.
struct Sleeping(tokio::task::JoinHandle<()>);

impl Drop for Sleeping {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The client itself tries nothing again: [`Retry`] does, in one place, with one budget, and knows which creates may not be repeated unseen.
fn retries() -> RetryConfig {
    RetryConfig {
        max_retries: 0,
        ..RetryConfig::default()
    }
}

fn client_options() -> ClientOptions {
    ClientOptions::new()
        .with_connect_timeout(CONNECT_TIMEOUT)
        .with_read_timeout(READ_TIMEOUT)
        .with_timeout(REQUEST_TIMEOUT)
        .with_user_agent(http_agent())
}

fn http_agent() -> object_store::HeaderValue {
    object_store::HeaderValue::from_static(concat!("runtree/", env!("CARGO_PKG_VERSION")))
}

fn gcs(
    address: &RemoteAddress,
    settings: &Settings,
    runtime: Handle,
) -> Result<Arc<dyn ObjectStore>> {
    use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
    let mut builder = GoogleCloudStorageBuilder::new()
        .with_bucket_name(&address.bucket)
        .with_retry(retries())
        .with_client_options(client_options())
        .with_http_connector(SpawnedReqwestConnector::new(runtime));
    for (key, value) in named(settings, "GOOGLE_") {
        if let Ok(key) = key.parse::<GoogleConfigKey>() {
            builder = builder.with_config(key, value);
        }
    }
    Ok(Arc::new(
        builder.build().map_err(|error| unusable(address, error))?,
    ))
}

fn azure(
    address: &RemoteAddress,
    settings: &Settings,
    runtime: Handle,
) -> Result<Arc<dyn ObjectStore>> {
    use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
    let mut builder = MicrosoftAzureBuilder::new()
        .with_container_name(&address.bucket)
        .with_retry(retries())
        .with_client_options(client_options())
        .with_http_connector(SpawnedReqwestConnector::new(runtime));
    for (key, value) in named(settings, "AZURE_") {
        if let Ok(key) = key.parse::<AzureConfigKey>() {
            builder = builder.with_config(key, value);
        }
    }
    Ok(Arc::new(
        builder.build().map_err(|error| unusable(address, error))?,
    ))
}

/// Settings of one kind, in the spelling that `object_store` parses.
fn named<'s>(settings: &'s Settings, start: &str) -> impl Iterator<Item = (String, &'s str)> {
    settings
        .iter()
        .filter(move |(key, _)| key.starts_with(start))
        .map(|(key, value)| (key.to_ascii_lowercase(), value.as_str()))
}

fn unusable(address: &RemoteAddress, error: object_store::Error) -> Error {
    Error::invalid(format!(
        "{address} can not be used with the settings there are"
    ))
    .with_source(error)
}

/// The runtime of this process's requests. After a `fork` its threads are the parent's: whoever forks opens its stores anew, as it does everything else.
fn runtime() -> Result<Handle> {
    static RUNTIME: OnceLock<(u32, Runtime)> = OnceLock::new();
    let make = || {
        // Rustls asks for a provider; a process that has installed one keeps it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Builder::new_multi_thread()
            .worker_threads(WORKERS)
            .thread_name("runtree-http")
            .enable_all()
            .build()
            .map_err(|error| {
                Error::unavailable("can not start the threads that talk to buckets")
                    .with_source(error)
            })
    };
    if RUNTIME.get().is_none() {
        // Two threads at once: the one that comes second drops its runtime.
        let _ = RUNTIME.set((std::process::id(), make()?));
    }
    let (process, runtime) = RUNTIME
        .get()
        .ok_or_else(|| Error::internal("no runtime after it was made"))?;
    if *process != std::process::id() {
        return Err(Error::unsupported(
            "this process was forked from one that was talking to a bucket",
        )
        .with_hint("start workers with spawn, not fork, or open the store in the worker first"));
    }
    Ok(runtime.handle().clone())
}
