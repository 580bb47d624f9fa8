//! What runs are called.

use runtree_core::{Error, ProjectName, Result};
use runtree_index::RunLookup;

use super::fork::ForkPlan;
use crate::engine::Engine;

/// Longest name and key, in bytes.
const MAX_BYTES: usize = 256;

const ADJECTIVES: [&str; 64] = [
    "amber", "ancient", "autumn", "bold", "brave", "bright", "brisk", "bronze", "calm", "careful",
    "cheerful", "clear", "clever", "cobalt", "cool", "copper", "coral", "crimson", "curious",
    "deep", "dusty", "eager", "early", "fair", "fast", "fleet", "gentle", "glad", "golden",
    "green", "happy", "hidden", "honest", "icy", "jolly", "keen", "kind", "late", "light",
    "lively", "lucky", "mellow", "merry", "mild", "misty", "neat", "noble", "patient", "plain",
    "proud", "quick", "quiet", "rapid", "rare", "royal", "scarlet", "sharp", "silent", "silver",
    "smooth", "steady", "sunny", "swift", "wise",
];
const NOUNS: [&str; 64] = [
    "acorn", "alder", "aspen", "badger", "bay", "beech", "birch", "bough", "branch", "brook",
    "canopy", "cedar", "cherry", "clover", "cone", "cypress", "dale", "elm", "falcon", "fern",
    "finch", "fir", "forest", "fox", "glade", "grove", "hazel", "heron", "hill", "holly", "ivy",
    "juniper", "lake", "larch", "lark", "laurel", "leaf", "linden", "maple", "meadow", "moss",
    "oak", "olive", "orchard", "otter", "owl", "palm", "pine", "plum", "poplar", "raven", "reed",
    "ridge", "river", "root", "rowan", "seed", "spruce", "stone", "thicket", "valley", "walnut",
    "willow", "yew",
];

/// `amber-falcon-417`, from randomness.
pub(super) fn generate(bits: u128) -> String {
    let adjective = ADJECTIVES[(bits & 63) as usize];
    let noun = NOUNS[(bits >> 6 & 63) as usize];
    let number = (bits >> 12) % 1000;
    format!("{adjective}-{noun}-{number}")
}

/// Refuses what can not be a run's name.
pub(crate) fn check_name(name: &str) -> Result<()> {
    check(name, "run name")
}

/// Refuses what can not be a run's key.
pub(super) fn check_key(key: &str) -> Result<()> {
    check(key, "run key")
}

fn check(text: &str, what: &str) -> Result<()> {
    if text.is_empty() || text.len() > MAX_BYTES {
        return Err(Error::invalid(format!(
            "a {what} has 1 to {MAX_BYTES} bytes, {text:?} has {}",
            text.len()
        )));
    }
    if let Some(odd) = text.chars().find(|c| c.is_control()) {
        return Err(Error::invalid(format!(
            "a {what} can not contain {odd:?}: {text:?}"
        )));
    }
    Ok(())
}

impl Engine {
    /// `<parent>-f<k>`, the first k from the number of forks on that no run of the project has.
    pub(super) fn fork_name(&self, project: &ProjectName, plan: &ForkPlan) -> Result<String> {
        let snapshot = self.snapshot()?;
        let mut k = snapshot.children(plan.origin.declared)?.len() + 1;
        loop {
            let name = format!("{}-f{k}", plan.declared_name);
            let taken = snapshot.find_runs(Some(project), &RunLookup::Name(name.clone()))?;
            if taken.is_empty() {
                return Ok(name);
            }
            k += 1;
        }
    }
}
