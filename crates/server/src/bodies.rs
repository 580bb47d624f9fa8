//! Bodies that only the HTTP API has; everything else is `runtree_core::wire`.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// Whether the server answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// Always `ok`; a server that is not does not answer.
    pub status: String,
    /// Version of the runtree that serves.
    pub version: String,
}

/// Changes to a run; what is absent stays.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RunPatch {
    /// A new name.
    pub name: Option<String>,
    /// New notes; empty removes them.
    pub notes: Option<String>,
    /// Tags to add.
    pub add_tags: Vec<String>,
    /// Tags to remove.
    pub remove_tags: Vec<String>,
    /// Config keys to set, deep-merged.
    pub config: Option<Value>,
}

/// A view to save.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ViewRequest {
    /// The query part of the page's address, without the question mark.
    pub query: String,
}

/// Why a checkpoint is pinned.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PinRequest {
    /// In words.
    pub reason: Option<String>,
}

/// Data of the event `change`: runs of which something is new.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ChangeEvent {
    /// RunIds.
    pub runs: Vec<String>,
}
