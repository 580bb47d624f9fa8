//! What trainers call the directories of checkpoints.
//!
//! ```text
//! checkpoint-500  checkpoint-500-2     Hugging Face (step, then epoch or part)     checkpoint_3  Accelerate (it counts saves)
//! step_500  step-500  global_step500   prime-rl, DeepSpeed                         0500          ART
//! ```

use runtree_core::Step;

/// ART pads to four digits; fewer are anybody's directory.
const LEAST_DIGITS: usize = 4;

/// The step that a directory's name has in it; none if it is no checkpoint's.
pub(super) fn step_in(name: &str) -> Option<Step> {
    let number = |digits: &str| {
        let all = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        all.then(|| digits.parse().ok().map(Step)).flatten()
    };
    for start in [
        "checkpoint-",
        "checkpoint_",
        "step_",
        "step-",
        "global_step",
    ] {
        if let Some(rest) = name.strip_prefix(start) {
            return match rest.split_once('-') {
                Some((step, part)) if start == "checkpoint-" => number(part).and(number(step)),
                _ => number(rest),
            };
        }
    }
    (name.len() >= LEAST_DIGITS).then(|| number(name)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_is_known_by_its_name() {
        for (name, step) in [
            ("checkpoint-500", Some(500)),
            ("checkpoint-500-2", Some(500)),
            ("checkpoint_3", Some(3)),
            ("step_7", Some(7)),
            ("step-7", Some(7)),
            ("global_step12", Some(12)),
            ("0042", Some(42)),
            ("100000", Some(100_000)),
            ("42", None),
            ("checkpoint-", None),
            ("checkpoint-final", None),
            ("checkpoint-5-", None),
            ("checkpoint-5-x", None),
            ("checkpoint-5.tmp", None),
            ("tmp-checkpoint-5", None),
            ("step_7.tmp", None),
            ("ckpt-3", None),
            ("²²²²", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(step_in(name), step.map(Step), "{name}");
        }
    }
}
