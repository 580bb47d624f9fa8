//! Whether the files of a `step_<N>` of prime-rl are a whole checkpoint.
//!
//! The trainer's part is written by torch.distributed.checkpoint: every rank its `__<rank>_<i>.distcp`, then the coordinator `.metadata`, last. The
//! orchestrator writes its `progress.pt` when a batch is shipped, *before* the trainer has trained on it, and once more when it ends, after a crash, too. So a step with
//! an orchestrator alone is what a crash leaves, while one without it is a run of SFT, or one whose trainer saves elsewhere (`ckpt.output_dir`).

use std::path::Path;

use runtree_core::Result;

use super::Sizes;
use super::adapter::torn_zip;
use super::place::read_small;

const METADATA: &str = "trainer/.metadata";
const PROGRESS: &str = "orchestrator/progress.pt";
/// Of a model of thousands of tensors on thousands of ranks it has some hundred megabytes.
const LONGEST_METADATA: u64 = 1 << 30;

pub(crate) fn find_gap(sizes: &Sizes) -> Option<String> {
    let has = |start: &str| sizes.keys().any(|name| name.starts_with(start));
    if sizes.is_empty() {
        return Some("empty".to_owned());
    }
    if !has("trainer/") {
        let alone = has("orchestrator/");
        return Some(format!(
            "no trainer/{}",
            if alone {
                ", only the orchestrator's part"
            } else {
                ""
            }
        ));
    }
    if sizes.get(METADATA).is_none_or(|&bytes| bytes == 0) {
        return Some(format!("no {METADATA}, which is written last"));
    }
    if !sizes.keys().any(|name| is_shard(name)) {
        return Some("no trainer/*.distcp".to_owned());
    }
    let begun = has("orchestrator/") && sizes.get(PROGRESS).is_none_or(|&bytes| bytes == 0);
    begun.then(|| format!("no {PROGRESS}"))
}

pub(crate) fn find_damage(directory: &Path, sizes: &Sizes) -> Result<Option<String>> {
    let metadata = read_small(&directory.join(METADATA), LONGEST_METADATA)?;
    // A copy that was broken off has the metadata, which a listing has first, and not all that it speaks of.
    for name in shards_named(&metadata) {
        if sizes
            .get(&format!("trainer/{name}"))
            .is_none_or(|&bytes| bytes == 0)
        {
            return Ok(Some(format!(
                "trainer/{name} is missing, which .metadata names"
            )));
        }
    }
    if sizes.contains_key(PROGRESS) {
        let torn = torn_zip(&directory.join(PROGRESS))?;
        return Ok(torn.map(|problem| format!("{PROGRESS} {problem}")));
    }
    Ok(None)
}

fn is_shard(path: &str) -> bool {
    path.strip_prefix("trainer/")
        .is_some_and(|name| !name.contains('/') && name.ends_with(".distcp"))
}

/// Names of files in a pickle that is not run: `__<rank>_<i>.distcp` stand in it as they are. What is not found is not asked for.
pub(crate) fn shards_named(pickle: &[u8]) -> Vec<String> {
    const END: &[u8] = b".distcp";
    let mut found = Vec::new();
    let mut rest = 0;
    while let Some(at) = find(&pickle[rest..], END) {
        let end = rest + at;
        let digits = |upto: usize| -> usize {
            let start = &pickle[..upto];
            upto - start
                .iter()
                .rev()
                .take_while(|byte| byte.is_ascii_digit())
                .count()
        };
        let second = digits(end);
        if second < end && pickle[..second].ends_with(b"_") {
            let first = digits(second - 1);
            if first < second - 1 && pickle[..first].ends_with(b"__") {
                let name = String::from_utf8_lossy(&pickle[first - 2..end + END.len()]);
                found.push(name.into_owned());
            }
        }
        rest = end + END.len();
    }
    found.sort();
    found.dedup();
    found
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes
        .windows(wanted.len())
        .position(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_shards_are_found_in_a_pickle_and_nothing_else_is() {
        let pickle = b"\x80\x02}q\x00X\x0d\x00\x00\x00__0_0.distcpq\x01X\x0e\x00\x00\x00__11_3.distcp__11_3.distcp x.distcp _1.distcp 3_4.distcp .distcp";
        assert_eq!(shards_named(pickle), ["__0_0.distcp", "__11_3.distcp"]);
        assert_eq!(shards_named(b""), [""; 0]);
    }
}
