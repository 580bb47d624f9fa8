//! Amazon S3, and what speaks like it: MinIO, R2, Ceph, SeaweedFS.

use std::sync::Arc;

use object_store::ObjectStore;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, Checksum, S3ConditionalPut};
use object_store::client::SpawnedReqwestConnector;
use runtree_core::{Error, Result};
use tokio::runtime::Handle;

use super::{RemoteAddress, Settings, client_options, named, profile, retries, unusable};

/// Settings that stand for the same key of `object_store`; the first one that is set counts.
const ENDPOINTS: [&str; 2] = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"];

pub(super) fn client(
    address: &RemoteAddress,
    settings: &Settings,
    runtime: Handle,
) -> Result<Arc<dyn ObjectStore>> {
    let settings = &profile::complete(settings)?;
    let set = |names: &[&str]| {
        let mut found = names.iter().filter_map(|name| settings.get(*name));
        found.find(|value| !value.is_empty()).cloned()
    };
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(&address.bucket)
        // A commit is a create that must not replace. A server that ignores the header is found out when a store is made.
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        // Every PUT carries the SHA-256 of its bytes: the server refuses what was damaged on its way.
        .with_checksum_algorithm(Checksum::SHA256)
        .with_retry(retries())
        .with_client_options(client_options())
        .with_http_connector(SpawnedReqwestConnector::new(runtime));
    for (key, value) in named(settings, "AWS_") {
        if let Ok(key) = key.parse::<AmazonS3ConfigKey>()
            && !value.is_empty()
        {
            builder = builder.with_config(key, value);
        }
    }
    if let Some(region) = set(&["AWS_REGION", "AWS_DEFAULT_REGION"]) {
        builder = builder.with_region(region);
    }
    if let Some(endpoint) = set(&ENDPOINTS) {
        let plain = endpoint.starts_with("http://");
        if !plain && !endpoint.starts_with("https://") {
            return Err(
                Error::invalid(format!("the endpoint {endpoint:?} is no address"))
                    .with_hint("AWS_ENDPOINT_URL=http://127.0.0.1:9000"),
            );
        }
        builder = builder.with_endpoint(endpoint).with_allow_http(plain);
        // Names of buckets are part of the host at Amazon alone, unless somebody says so.
        if set(&["AWS_VIRTUAL_HOSTED_STYLE_REQUEST"]).is_none() {
            builder = builder.with_virtual_hosted_style_request(false);
        }
    }
    Ok(Arc::new(
        builder.build().map_err(|error| unusable(address, error))?,
    ))
}
