//! What a command is told of its job: Baseten's names, and runtree's beside them. Each is set only where there is something to tell, and then whatever the user's
//! environment says.

use std::path::Path;

use super::Variables;

/// What there is to tell.
pub(super) struct Told<'a> {
    /// The run, if the job has one.
    pub(super) run: Option<ToldRun<'a>>,
    /// Where loaded checkpoints are, if any were.
    pub(super) loaded: Option<&'a Path>,
    /// Their ids.
    pub(super) loaded_ids: Vec<String>,
    /// Where checkpoints are watched for, of each node.
    pub(super) checkpoints: Vec<&'a Path>,
    /// How many nodes.
    pub(super) nodes: usize,
    /// How often the command was started before.
    pub(super) restarts: u32,
}

/// The run of a job.
pub(super) struct ToldRun<'a> {
    pub(super) store: &'a str,
    pub(super) project: &'a str,
    pub(super) key: &'a str,
    pub(super) name: &'a str,
    pub(super) launch: &'a str,
}

/// The variables of each node.
pub(super) fn variables(told: &Told<'_>) -> Vec<Variables> {
    (0..told.nodes).map(|node| of_node(told, node)).collect()
}

fn of_node(told: &Told<'_>, node: usize) -> Variables {
    let mut all = Variables::new();
    let mut set = |names: &[&str], value: String| {
        all.extend(names.iter().map(|&name| (name.to_owned(), value.clone())));
    };
    let text = |path: &Path| path.display().to_string();
    set(
        &["BT_RETRY_COUNT", "RUNTREE_RESTARTS"],
        told.restarts.to_string(),
    );
    if let Some(run) = &told.run {
        set(
            &["BT_TRAINING_JOB_ID", "RUNTREE_RUN_ID"],
            run.key.to_owned(),
        );
        set(&["BT_TRAINING_JOB_NAME"], run.name.to_owned());
        set(
            &[
                "BT_TRAINING_PROJECT_ID",
                "BT_TRAINING_PROJECT_NAME",
                "RUNTREE_PROJECT",
            ],
            run.project.to_owned(),
        );
        set(&["RUNTREE_STORE"], run.store.to_owned());
        // Processes that know both are of this launch: `runtree.init()` joins it.
        set(&["RUNTREE_ATTEMPT"], run.launch.to_owned());
        set(&["RUNTREE_RESUME"], "allow".to_owned());
    }
    if let Some(loaded) = told.loaded {
        set(
            &["BT_LOAD_CHECKPOINT_DIR", "RUNTREE_LOAD_DIR"],
            text(loaded),
        );
        set(&["RUNTREE_LOADED"], told.loaded_ids.join(","));
    }
    if let Some(directory) = told.checkpoints.get(node) {
        set(
            &["BT_CHECKPOINT_DIR", "RUNTREE_CHECKPOINT_DIR"],
            text(directory),
        );
    }
    if told.nodes > 1 {
        set(&["BT_GROUP_SIZE", "RUNTREE_NODES"], told.nodes.to_string());
        set(&["BT_NODE_RANK", "RUNTREE_NODE_RANK"], node.to_string());
        set(&["BT_LEADER_ADDR"], "127.0.0.1".to_owned());
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told<'a>(nodes: usize) -> Told<'a> {
        Told {
            run: None,
            loaded: None,
            loaded_ids: Vec::new(),
            checkpoints: Vec::new(),
            nodes,
            restarts: 0,
        }
    }

    #[test]
    fn what_is_off_is_not_set() {
        let plain = variables(&told(1));
        let names: Vec<&str> = plain[0].keys().map(String::as_str).collect();
        assert_eq!(names, ["BT_RETRY_COUNT", "RUNTREE_RESTARTS"]);
    }

    #[test]
    fn each_node_is_told_which_it_is_and_where_it_saves() {
        let (first, second) = (Path::new("/c/rank-0"), Path::new("/c/rank-1"));
        let all = variables(&Told {
            checkpoints: vec![first, second],
            loaded: Some(Path::new("/l")),
            ..told(2)
        });
        assert_eq!(all[0]["BT_NODE_RANK"], "0");
        assert_eq!(all[1]["BT_NODE_RANK"], "1");
        assert_eq!(all[1]["BT_GROUP_SIZE"], "2");
        assert_eq!(all[1]["BT_CHECKPOINT_DIR"], "/c/rank-1");
        assert_eq!(all[1]["BT_LOAD_CHECKPOINT_DIR"], all[0]["RUNTREE_LOAD_DIR"]);
    }
}
