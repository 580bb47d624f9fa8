//! One directory that is one checkpoint, with or without a layout that is asked for.

use runtree_core::{Error, Result};

use super::Sizes;
use super::fetched::Incoming;
use super::place::{Files, Place};
use crate::engine::Engine;

/// What a directory that is imported must be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DirectoryLayout {
    /// Anything.
    #[default]
    Any,
    /// What `from_pretrained` loads: a model or an adapter.
    Hf,
    /// What torch.distributed.checkpoint wrote.
    Dcp,
}

pub(super) fn incoming(
    engine: &Engine,
    place: &Place,
    layout: DirectoryLayout,
) -> Result<Incoming> {
    let files = Files::open(engine, place)?;
    // What a directory of this machine holds is looked at as it is saved; a bucket's objects are listed to be fetched.
    let sizes = match (place, layout) {
        (Place::Directory(_), DirectoryLayout::Any) => Sizes::new(),
        _ => files.sizes("")?,
    };
    check(place, layout, &sizes)?;
    files.check_out("", &sizes)
}

fn check(place: &Place, layout: DirectoryLayout, sizes: &Sizes) -> Result<()> {
    let has = |name: &str| sizes.get(name).is_some_and(|&bytes| bytes > 0);
    let (is_one, what, needed) = match layout {
        DirectoryLayout::Any => return Ok(()),
        DirectoryLayout::Hf => (
            has("config.json")
                || has("adapter_config.json")
                || sizes
                    .keys()
                    .any(|name| !name.contains('/') && name.ends_with(".safetensors")),
            "no model or adapter of Hugging Face's",
            "config.json, adapter_config.json or *.safetensors",
        ),
        DirectoryLayout::Dcp => (
            has(".metadata"),
            "no whole checkpoint of torch.distributed.checkpoint",
            ".metadata, which is written last",
        ),
    };
    if is_one {
        return Ok(());
    }
    Err(
        Error::invalid(format!("{place} is {what}: it has no {needed}")).with_hint(
            "name the directory that has it, or leave out --layout to save any directory as it is",
        ),
    )
}
