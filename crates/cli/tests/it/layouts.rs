//! What ART and prime-rl wrote, in and out: directories as their releases lay them out, and what a crash leaves of them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use runtree_core::Step;
use runtree_core::event::RunStatus;
use runtree_engine::{ResumePolicy, RunSpec};
use runtree_testkit::place::{Place, files_below};
use serde_json::{Value, json};

use crate::fixture::{Sandbox, save, spec};

/// Files and their bytes, by path.
type Tree = BTreeMap<String, Vec<u8>>;

fn tree(root: &Path) -> Tree {
    let name = |path: &PathBuf| {
        let below = path.strip_prefix(root).unwrap();
        below.to_str().unwrap().to_owned()
    };
    let files = files_below(root);
    files
        .iter()
        .map(|path| (name(path), fs::read(path).unwrap()))
        .collect()
}

fn write(root: &Path, files: &Tree) {
    for (name, bytes) in files {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

/// A file of one tensor.
fn safetensors(value: u8) -> Vec<u8> {
    let header = br#"{"__metadata__":{"format":"pt"},"lora_A":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}"#;
    let length = (header.len() as u64).to_le_bytes();
    [&length[..], header, &[value; 16]].concat()
}

fn adapter(value: u8) -> Tree {
    Tree::from([
        (
            "adapter_config.json".to_owned(),
            br#"{"r": 8, "base_model_name_or_path": "base"}"#.to_vec(),
        ),
        ("adapter_model.safetensors".to_owned(), safetensors(value)),
        ("README.md".to_owned(), format!("{value}\n").into_bytes()),
    ])
}

/// A zip without files, as `torch.save` ends one.
fn zip(text: &str) -> Vec<u8> {
    [b"PK\x03\x04", text.as_bytes(), b"PK\x05\x06", &[0; 18]].concat()
}

fn step_of_prime_rl(value: u8) -> Tree {
    let pickle = b"\x80\x02}X\x0c\x00\x00\x00__0_0.distcpX\x0c\x00\x00\x00__1_0.distcp.";
    Tree::from([
        ("trainer/.metadata".to_owned(), pickle.to_vec()),
        ("trainer/__0_0.distcp".to_owned(), vec![value; 5000]),
        ("trainer/__1_0.distcp".to_owned(), vec![value + 1; 5000]),
        (
            "orchestrator/progress.pt".to_owned(),
            zip(&value.to_string()),
        ),
    ])
}

fn below(prefix: &str, files: Tree) -> Tree {
    files
        .into_iter()
        .map(|(name, bytes)| (format!("{prefix}/{name}"), bytes))
        .collect()
}

/// A model as ART leaves it after a crash: two whole checkpoints, and much that is none.
fn art_model(root: &Path) {
    for (name, value) in [("0000", 1), ("0010", 2), ("10000", 3)] {
        write(&root.join("checkpoints").join(name), &adapter(value));
    }
    let mut torn = adapter(4);
    let weights = torn.get_mut("adapter_model.safetensors").unwrap();
    weights.truncate(weights.len() - 3);
    write(&root.join("checkpoints/10001"), &torn);
    let mut without = adapter(5);
    without.remove("adapter_config.json");
    write(&root.join("checkpoints/0003"), &without);
    fs::create_dir(root.join("checkpoints/10002")).unwrap();
    write(&root.join("checkpoints/7"), &adapter(6));
    fs::write(root.join("checkpoints/0099"), "").unwrap();
    fs::write(
        root.join("model.json"),
        r#"{"base_model": "Qwen/Qwen3-14B"}"#,
    )
    .unwrap();
    let history = r#"{"step": 0, "val/reward": 0.25, "recorded_at": "2026-01-02T03:04:05", "training_step": 0}
{"step": 10, "val/reward": 0.5}
{"step": 10, "val/reward": 1.0, "train/loss": NaN}
{"step": 10000, "val/rew"#;
    fs::write(root.join("history.jsonl"), history).unwrap();
}

#[test]
fn a_model_of_art_is_taken_in_whole_with_its_history_and_comes_back_byte_for_byte() {
    let sandbox = Sandbox::new();
    let model = sandbox.path().join("models/agent");
    art_model(&model);
    let import = [
        "import",
        "models/agent",
        "--layout",
        "art",
        "--run",
        "rl/agent",
    ];

    let ran = sandbox.run(&import);
    let said = ran.stderr.clone();
    assert_eq!(ran.ok(), "RL-1@0\nRL-1@10\nRL-1@10000\n");
    for line in [
        "skipped 0003: no adapter_config.json",
        "skipped 0099: a file",
        "skipped 10001: adapter_model.safetensors is torn: it has",
        "skipped 10002: empty",
        "skipped 7: not called as ART calls a step, 0007",
        "3 checkpoints, ",
        "metrics of 2 steps; 1 line of history.jsonl can not be read.",
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }
    let detail = sandbox.run(&["show", "rl/agent", "--json"]).json();
    let summary = &detail["summary"];
    assert_eq!(summary["config"], json!({"base_model": "Qwen/Qwen3-14B"}));
    assert_eq!(summary["tags"], json!(["art"]));
    assert_eq!(summary["key"], "agent");
    assert_eq!(summary["status"], "completed");
    assert_eq!(summary["metrics"]["val/reward"]["value"], 0.75);
    let checkpoints = sandbox.run(&["checkpoints", "rl/agent", "--json"]).json();
    assert_eq!(checkpoints[1]["metrics"]["val/reward"], 0.75);

    // Again, from the folder itself: nothing happens.
    let before = sandbox.files("");
    let again = [
        "import",
        "models/agent/checkpoints",
        "--layout",
        "art",
        "--run",
        "rl/agent",
        "--json",
    ];
    let report = sandbox.run(&again).json();
    assert_eq!(report["present"], json!([0, 10, 10000]));
    assert_eq!(report["imported"], json!([]));
    assert_eq!(report["logged_steps"], 0);
    assert_eq!(sandbox.files(""), before);

    sandbox
        .run(&["export", "rl/agent", "back", "--layout", "art"])
        .ok();
    let mut expected = Tree::new();
    for (name, value) in [("0000", 1), ("0010", 2), ("10000", 3)] {
        expected.append(&mut below(&format!("checkpoints/{name}"), adapter(value)));
    }
    assert_eq!(tree(&sandbox.path().join("back")), expected);
}

#[test]
fn what_was_trained_since_is_all_that_a_second_import_takes() {
    let sandbox = Sandbox::new();
    let model = sandbox.path().join("agent");
    art_model(&model);
    let import = [
        "import", "agent", "--layout", "art", "--run", "rl/agent", "--json",
    ];
    let only = [&import[..], &["--step", "10", "--name", "ten"]].concat();
    let report = sandbox.run(&only).json();
    assert_eq!(report["imported"][0]["reference"], "RL-1@10");
    assert_eq!(report["imported"].as_array().unwrap().len(), 1);
    assert_eq!(report["skipped"], json!([]));

    let history = fs::read_to_string(model.join("history.jsonl")).unwrap();
    fs::write(
        model.join("history.jsonl"),
        format!("{history}\n{{\"step\": 20, \"val/reward\": 0.125}}\n"),
    )
    .unwrap();
    let report = sandbox.run(&import).json();
    let steps = report["imported"].as_array().unwrap().iter();
    let steps: Vec<&Value> = steps.map(|checkpoint| &checkpoint["step"]).collect();
    // An earlier step comes later, and the run does not go back to it.
    assert_eq!(steps, [0, 10000]);
    assert_eq!(report["present"], json!([10]));
    let skipped = report["skipped"].as_array().unwrap();
    assert!(
        skipped.contains(&json!({"name": "10002", "reason": "empty"})),
        "{skipped:?}"
    );
    let detail = sandbox.run(&["show", "RL-1", "--json"]).json();
    assert_eq!(detail["summary"]["attempt"], 1);
    assert_eq!(detail["summary"]["metrics"]["val/reward"]["value"], 0.125);

    // What is deleted here stays deleted, unless it is asked for.
    sandbox.run(&["delete", "RL-1@10000"]).ok();
    let report = sandbox.run(&import).json();
    assert_eq!(report["imported"], json!([]));
    let skipped = report["skipped"].as_array().unwrap();
    let why = "deleted here; --step 10000 takes it in all the same";
    assert!(
        skipped.contains(&json!({"name": "10000", "reason": why})),
        "{skipped:?}"
    );
    let again = [&import[..], &["--step", "10000"]].concat();
    assert_eq!(sandbox.run(&again).json()["imported"][0]["step"], 10000);
}

#[test]
fn another_checkpoint_of_the_same_step_is_refused_before_anything_is_written() {
    let sandbox = Sandbox::new();
    let model = sandbox.path().join("agent");
    write(&model.join("checkpoints/0010"), &adapter(1));
    let import = ["import", "agent", "--layout", "art", "--run", "rl/agent"];
    sandbox.run(&import).ok();
    write(&model.join("checkpoints/0010"), &adapter(2));
    write(&model.join("checkpoints/0005"), &adapter(3));
    let before = sandbox.files("");
    let stderr = sandbox.run(&import).fails(4);
    for part in [
        "RL-1@10",
        "0010",
        "differs",
        "--run PROJECT/NAME",
        "runtree delete RL-1@10",
    ] {
        assert!(stderr.contains(part), "{part}: {stderr}");
    }
    assert_eq!(sandbox.files(""), before);
    // As it says.
    sandbox.run(&["delete", "RL-1@10"]).ok();
    sandbox.run(&[&import[..], &["--step", "10"]].concat()).ok();
    sandbox
        .run(&["export", "RL-1@10", "out", "--layout", "art"])
        .ok();
    let expected = below("checkpoints/0010", adapter(2));
    assert_eq!(tree(&sandbox.path().join("out")), expected);
}

#[test]
fn an_output_dir_of_prime_rl_is_taken_in_without_what_a_crash_left() {
    let sandbox = Sandbox::new();
    let output = sandbox.path().join("outputs/math");
    let steps = output.join("checkpoints");
    write(&steps.join("step_5"), &step_of_prime_rl(1));
    write(&steps.join("step_10"), &step_of_prime_rl(2));
    // A run of SFT has no orchestrator.
    let mut sft = step_of_prime_rl(3);
    sft.remove("orchestrator/progress.pt");
    write(&steps.join("step_15"), &sft);
    let without = |names: &[&str]| {
        let mut files = step_of_prime_rl(9);
        files.retain(|name, _| !names.contains(&name.as_str()));
        files
    };
    let orchestrator = without(&[
        "trainer/.metadata",
        "trainer/__0_0.distcp",
        "trainer/__1_0.distcp",
    ]);
    write(&steps.join("step_20"), &orchestrator);
    write(&steps.join("step_21"), &without(&["trainer/.metadata"]));
    write(&steps.join("step_22"), &without(&["trainer/__1_0.distcp"]));
    let mut torn = step_of_prime_rl(9);
    torn.get_mut("orchestrator/progress.pt")
        .unwrap()
        .truncate(6);
    write(&steps.join("step_23"), &torn);
    write(&steps.join("step_007"), &step_of_prime_rl(9));
    write(&steps.join("step_7.tmp"), &step_of_prime_rl(9));

    let stderr = sandbox
        .run(&[
            "import", "outputs", "--layout", "prime-rl", "--run", "rl/math",
        ])
        .fails(3);
    assert!(stderr.contains("name one of those in it: math"), "{stderr}");
    let import = [
        "import",
        "outputs/math",
        "--layout",
        "prime-rl",
        "--run",
        "rl/math",
        "--json",
    ];
    let report = sandbox.run(&import).json();
    let imported = report["imported"].as_array().unwrap();
    let references: Vec<&str> = imported
        .iter()
        .map(|each| each["reference"].as_str().unwrap())
        .collect();
    assert_eq!(references, ["RL-1@5", "RL-1@10", "RL-1@15"]);
    let skipped: BTreeMap<&str, &str> = report["skipped"]
        .as_array()
        .unwrap()
        .iter()
        .map(|each| {
            (
                each["name"].as_str().unwrap(),
                each["reason"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        skipped,
        BTreeMap::from([
            ("step_007", "not called as prime-rl calls a step, step_7"),
            ("step_20", "no trainer/, only the orchestrator's part"),
            ("step_21", "no trainer/.metadata, which is written last"),
            (
                "step_22",
                "trainer/__1_0.distcp is missing, which .metadata names"
            ),
            (
                "step_23",
                "orchestrator/progress.pt is torn: the end of the zip is missing"
            ),
            ("step_7.tmp", "not called as prime-rl calls a step"),
        ])
    );
    assert_eq!(sandbox.run(&import).json()["present"], json!([5, 10, 15]));

    sandbox
        .run(&["export", "rl/math", "back", "--layout", "prime-rl"])
        .ok();
    let mut expected = below("checkpoints/step_5", step_of_prime_rl(1));
    expected.append(&mut below("checkpoints/step_10", step_of_prime_rl(2)));
    expected.append(&mut below("checkpoints/step_15", sft));
    assert_eq!(tree(&sandbox.path().join("back")), expected);
}

#[test]
fn an_export_has_what_is_inherited_and_overwrites_nothing() {
    let sandbox = Sandbox::new();
    for (step, value) in [(10, 1), (20, 2)] {
        write(
            &sandbox.path().join(format!("agent/checkpoints/{step:04}")),
            &adapter(value),
        );
    }
    sandbox
        .run(&["import", "agent", "--layout", "art", "--run", "rl/agent"])
        .ok();
    sandbox.run(&["fork", "RL-1@10", "--name", "child"]).ok();
    write(&sandbox.path().join("child/checkpoints/0010"), &adapter(1));
    write(&sandbox.path().join("child/checkpoints/0015"), &adapter(3));
    // What is inherited is there already.
    let report = sandbox
        .run(&[
            "import", "child", "--layout", "art", "--run", "child", "--json",
        ])
        .json();
    assert_eq!(
        (&report["present"], &report["imported"][0]["step"]),
        (&json!([10]), &json!(15))
    );

    let export = ["export", "child", "out", "--layout", "art", "--json"];
    let out = sandbox.path().join("out");
    write(&out.join("checkpoints/0015"), &adapter(9));
    let stderr = sandbox.run(&export).fails(4);
    assert!(
        stderr.contains("0015") && stderr.contains("differs"),
        "{stderr}"
    );
    assert!(!out.join("checkpoints/0010").exists());
    fs::remove_dir_all(&out).unwrap();
    assert_eq!(
        sandbox.run(&export).json()["written"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    let mut expected = below("checkpoints/0010", adapter(1));
    expected.append(&mut below("checkpoints/0015", adapter(3)));
    assert_eq!(tree(&out), expected);
    // Again, there is nothing to write.
    let report = sandbox.run(&export).json();
    assert_eq!(
        (&report["present"], &report["written"]),
        (&json!([10, 15]), &json!([]))
    );

    let stderr = sandbox
        .run(&["export", "child", "s3://bucket/out", "--layout", "art"])
        .fails(9);
    assert!(
        stderr.contains("directories of this machine alone"),
        "{stderr}"
    );
    sandbox
        .run(&["export", "child", "x", "--layout", "art", "--keys", "*"])
        .fails(5);
}

#[test]
fn a_state_tree_is_no_checkpoint_of_another_trainer() {
    let sandbox = Sandbox::new();
    let writer = sandbox.engine().start_run(spec("digits")).unwrap();
    save(&writer, 5);
    writer
        .finish(Some(RunStatus::Completed), None, None)
        .unwrap();
    let stderr = sandbox
        .run(&["export", "DIG-1", "out", "--layout", "art"])
        .fails(9);
    assert!(
        stderr.contains("no adapter_config.json") && stderr.contains("runtree export DIG-1@5"),
        "{stderr}"
    );
    assert!(!sandbox.path().join("out").exists());
}

#[test]
fn a_run_that_was_trained_on_finds_an_older_checkpoint_that_is_imported_later() {
    let sandbox = Sandbox::new();
    write(&sandbox.path().join("agent/checkpoints/0010"), &adapter(1));
    write(&sandbox.path().join("agent/checkpoints/0030"), &adapter(3));
    fs::write(
        sandbox.path().join("agent/history.jsonl"),
        "{\"step\": 10, \"a\": 1}\n",
    )
    .unwrap();
    let import = ["import", "agent", "--layout", "art", "--run", "rl/agent"];
    sandbox.run(&import).ok();
    let writer = sandbox
        .engine()
        .start_run(RunSpec {
            key: Some("agent".to_owned()),
            resume: ResumePolicy::Allow,
            ..RunSpec::new("rl".parse().unwrap())
        })
        .unwrap();
    writer
        .log(Some(Step(31)), None, &[("a", 2.0)], true)
        .unwrap();
    save(&writer, 40);
    writer
        .finish(Some(RunStatus::Completed), None, None)
        .unwrap();

    write(&sandbox.path().join("agent/checkpoints/0020"), &adapter(2));
    fs::write(
        sandbox.path().join("agent/history.jsonl"),
        "{\"step\": 10, \"a\": 1}\n{\"step\": 50, \"a\": 7}\n",
    )
    .unwrap();
    let ran = sandbox.run(&import);
    assert!(
        ran.stderr
            .contains("skipped history.jsonl: RL-1 has metrics of its own"),
        "{}",
        ran.stderr
    );
    assert_eq!(ran.ok(), "RL-1@20\n");
    assert_eq!(sandbox.run(&import).ok(), "");
    let detail = sandbox.run(&["show", "RL-1", "--json"]).json();
    assert_eq!(detail["summary"]["attempt"], 2);
    assert_eq!(detail["summary"]["metrics"]["a"]["value"], 2.0);
}

#[test]
fn what_is_not_laid_out_like_that_is_refused_and_starts_no_run() {
    let sandbox = Sandbox::new();
    let at = |name: &str| sandbox.path().join(name);
    write(
        &at("empty"),
        &Tree::from([("notes.txt".to_owned(), Vec::new())]),
    );
    write(
        &at("torn/checkpoints/0001"),
        &Tree::from([("adapter_config.json".to_owned(), b"{}".to_vec())]),
    );
    for (directory, layout, code, part) in [
        ("empty", "art", 3, "it has no checkpoints/, and no 0042"),
        ("empty", "prime-rl", 3, "no step_42"),
        (
            "torn",
            "art",
            3,
            "passed over: 0001 (no weights (adapter_model.safetensors))",
        ),
        ("nowhere", "art", 3, "is not a directory"),
        (
            "empty",
            "hf",
            5,
            "config.json, adapter_config.json or *.safetensors",
        ),
        ("empty", "dcp", 5, ".metadata, which is written last"),
        ("ftp://x/y", "art", 5, "no kind of bucket"),
    ] {
        let args = ["import", directory, "--layout", layout, "--run", "rl/x"];
        let args = match layout {
            "hf" | "dcp" => [&args[..], &["--step", "1"]].concat(),
            _ => args.to_vec(),
        };
        let stderr = sandbox.run(&args).fails(code);
        assert!(stderr.contains(part), "{directory} {layout}: {stderr}");
    }
    let stderr = sandbox.run(&["import", "empty", "--run", "rl/x"]).fails(5);
    assert!(stderr.contains("--step"), "{stderr}");
    assert_eq!(sandbox.run(&["runs", "--json"]).json()["runs"], json!([]));

    write(&at("agent/checkpoints/0001"), &adapter(1));
    let absent = [
        "import", "agent", "--layout", "art", "--run", "rl/x", "--step", "2",
    ];
    let stderr = sandbox.run(&absent).fails(3);
    assert!(
        stderr.contains("of step 2") && stderr.contains("steps there: 1"),
        "{stderr}"
    );
    let named = [
        "import", "agent", "--layout", "art", "--run", "rl/x", "--name", "n",
    ];
    sandbox.run(&named).fails(5);
}

#[test]
fn directories_of_hf_and_dcp_are_taken_in_as_they_are() {
    let sandbox = Sandbox::new();
    write(&sandbox.path().join("hf"), &adapter(1));
    let dcp: Tree = step_of_prime_rl(2)
        .into_iter()
        .filter_map(|(name, bytes)| Some((name.strip_prefix("trainer/")?.to_owned(), bytes)))
        .collect();
    write(&sandbox.path().join("dcp"), &dcp);
    for (layout, step, files) in [("hf", "1", adapter(1)), ("dcp", "2", dcp)] {
        let reference = sandbox
            .run(&[
                "import", layout, "--layout", layout, "--run", "llm/sft", "--step", step,
            ])
            .ok();
        let out = format!("out-{layout}");
        sandbox.run(&["export", reference.trim(), &out]).ok();
        assert_eq!(tree(&sandbox.path().join(out)), files);
    }
}

#[test]
fn what_lies_in_a_bucket_is_taken_in_one_checkpoint_at_a_time() {
    let sandbox = Sandbox::new();
    let Some(bucket) = Place::vacant_in_bucket() else {
        return;
    };
    let local = sandbox.path().join("local");
    art_model(&local.join("rl/models/agent"));
    write(&local.join("math/checkpoints/step_5"), &step_of_prime_rl(1));
    let orchestrator = Tree::from([("orchestrator/progress.pt".to_owned(), zip("x"))]);
    write(&local.join("math/checkpoints/step_6"), &orchestrator);
    for (name, bytes) in tree(&local) {
        bucket.write(name, bytes);
    }
    let address = bucket.location().to_str().unwrap();

    for model in ["rl/models/agent", "rl/models/agent/checkpoints"] {
        let from = format!("{address}/{model}");
        let ran = sandbox.run(&["import", &from, "--layout", "art", "--run", "rl/agent"]);
        assert!(ran.stderr.contains("skipped 10001: "), "{}", ran.stderr);
        let expected = if model.ends_with('s') {
            ""
        } else {
            "RL-1@0\nRL-1@10\nRL-1@10000\n"
        };
        assert_eq!(ran.ok(), expected);
    }
    let detail = sandbox.run(&["show", "RL-1", "--json"]).json();
    assert_eq!(detail["summary"]["metrics"]["val/reward"]["value"], 0.75);
    // A directory of the same files has nothing new.
    let again = [
        "import",
        "local/rl/models/agent",
        "--layout",
        "art",
        "--run",
        "rl/agent",
    ];
    assert_eq!(sandbox.run(&again).ok(), "");

    let from = format!("{address}/math");
    let report = sandbox
        .run(&[
            "import", &from, "--layout", "prime-rl", "--run", "rl/math", "--json",
        ])
        .json();
    assert_eq!(report["imported"][0]["step"], 5);
    assert_eq!(report["skipped"][0]["name"], "step_6");
    let from = format!("{address}/math/checkpoints/step_5/trainer");
    sandbox
        .run(&[
            "import", &from, "--layout", "dcp", "--run", "rl/dcp", "--step", "5",
        ])
        .ok();
    sandbox.run(&["export", "rl/dcp", "back"]).ok();
    let trainer = tree(&local.join("math/checkpoints/step_5/trainer"));
    assert_eq!(tree(&sandbox.path().join("back")), trainer);
    // Nothing of what was fetched stays.
    let fetched = sandbox.path().join("cache/runtree/fetched");
    assert_eq!(fs::read_dir(fetched).unwrap().count(), 0);

    bucket.write(
        "math/checkpoints/step_5/trainer/__0_0.distcp",
        vec![7; 5000],
    );
    let from = format!("{address}/math");
    let stderr = sandbox
        .run(&["import", &from, "--layout", "prime-rl", "--run", "rl/math"])
        .fails(4);
    assert!(stderr.contains("trainer/__0_0.distcp differs"), "{stderr}");
    let from = format!("{address}/nothing");
    sandbox
        .run(&["import", &from, "--layout", "art", "--run", "rl/none"])
        .fails(3);
}

#[test]
fn what_can_not_be_taken_in_holds_up_nothing_that_comes_after_it() {
    let sandbox = Sandbox::new();
    let root = sandbox.path().join("odd");
    art_model(&root);
    let steps = root.join("checkpoints");
    for (step, target) in [("0005", "../../elsewhere"), ("0006", "adapter_config.json")] {
        write(&steps.join(step), &adapter(5));
        std::os::unix::fs::symlink(target, steps.join(step).join("link")).unwrap();
    }
    write(&steps.join("0008"), &adapter(8));
    let names = format!(
        "{{\"step\": 8, \"\": 1, \"{}\": 2, \"fine\": 3}}\n",
        "n".repeat(1025)
    );
    let history = root.join("history.jsonl");
    let mut text = std::fs::read_to_string(&history).unwrap();
    text.push_str(&names);
    std::fs::write(&history, text).unwrap();
    let ran = sandbox.run(&["import", "odd", "--layout", "art", "--run", "p/odd"]);
    assert!(
        ran.stderr
            .contains("skipped 0005: link is a link that leads nowhere, or out"),
        "{}",
        ran.stderr
    );
    ran.ok();
    let there = sandbox.run(&["checkpoints", "p/odd", "--json"]).ok();
    assert!(
        there.contains("\"step\":8") || there.contains("\"step\": 8"),
        "{there}"
    );
    assert!(
        there.contains("\"step\":6") || there.contains("\"step\": 6"),
        "{there}"
    );
}
