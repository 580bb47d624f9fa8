//! Commands that change something.

use std::fs;

use runtree_testkit::place::files_below;

use crate::fixture::{Sandbox, two_runs};

#[test]
fn fork_prints_only_the_new_display_id_and_takes_what_was_set() {
    let sandbox = two_runs();
    let ran = sandbox.run(&[
        "fork",
        "DIG-1@50",
        "--name",
        "cooler",
        "--set",
        "lr=1e-6",
        "--set",
        "model.depth=4",
        "--tag",
        "cold",
        "--run-id",
        "k1",
    ]);
    assert_eq!(ran.stdout, "DIG-3\n");
    ran.ok();
    let detail = sandbox.run(&["show", "cooler", "--json"]).json();
    let summary = &detail["summary"];
    assert_eq!(
        summary["config"],
        serde_json::json!({"lr": 1e-6, "model": {"width": 64, "depth": 4}})
    );
    assert_eq!(summary["tags"], serde_json::json!(["cold"]));
    assert_eq!(summary["fork_step"], 50);
    assert_eq!(summary["status"], "created");
    // The key makes it idempotent.
    assert_eq!(
        sandbox.run(&["fork", "DIG-1@50", "--run-id", "k1"]).ok(),
        "DIG-3\n"
    );
    let bare = sandbox
        .run(&["fork", "DIG-1", "--no-inherit-config", "--json"])
        .json();
    assert_eq!(bare["config"], serde_json::json!({}));
    assert_eq!(bare["fork_step"], 100);
    let stderr = sandbox.run(&["fork", "DIG-1@51"]).fails(3);
    assert!(stderr.contains("<=51"), "{stderr}");
    sandbox.run(&["fork", "DIG-1@50", "--set", "lr"]).fails(5);
}

#[test]
fn an_ambiguous_name_is_refused_for_writing_and_lists_the_candidates() {
    let sandbox = two_runs();
    sandbox.run(&["fork", "DIG-1@50", "--name", "digits"]).ok();
    let stderr = sandbox.run(&["delete", "digits"]);
    assert_ne!(stderr.code, 0);
    assert!(
        stderr.stderr.contains("DIG-1") && stderr.stderr.contains("DIG-3"),
        "{}",
        stderr.stderr
    );
    sandbox.run(&["show", "digits"]).ok();
}

#[test]
fn a_deleted_run_is_named_by_its_run_id_and_comes_back() {
    let sandbox = two_runs();
    let id = sandbox.run(&["show", "DIG-2", "--json"]).json()["summary"]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let text = sandbox.run(&["delete", "DIG-2"]).ok();
    assert!(text.contains(&id), "{text}");
    assert_eq!(sandbox.run(&["runs", "--json"]).json()["total"], 1);
    assert_eq!(
        sandbox.run(&["runs", "deleted:true", "--json"]).json()["total"],
        1
    );
    sandbox.run(&["undelete", &id]).ok();
    assert_eq!(sandbox.run(&["runs", "--json"]).json()["total"], 2);
}

#[test]
fn a_deleted_checkpoint_waits_in_the_trash() {
    let sandbox = two_runs();
    let info = sandbox
        .run(&["delete", "DIG-1@100", "--reason", "too large", "--json"])
        .json();
    assert_eq!(info["state"], "deleted");
    sandbox.run(&["export", "DIG-1@100", "out"]).fails(3);
    let all = sandbox
        .run(&["checkpoints", "DIG-1", "--deleted", "--json"])
        .json();
    assert_eq!(all.as_array().unwrap().len(), 2);
    sandbox
        .run(&["undelete", info["id"].as_str().unwrap()])
        .ok();
    sandbox.run(&["export", "DIG-1@100", "out"]).ok();
    let said = sandbox.run(&["delete", "DIG-1@100"]).ok();
    assert!(said.starts_with("DIG-1@100 ck_"), "{said}");
    let back = sandbox.run(&["undelete", "DIG-1@100", "--json"]).json();
    assert_eq!(back["id"], info["id"]);
    assert_eq!(back["state"], "complete");
    sandbox.run(&["undelete", "DIG-1@51"]).fails(3);
}

#[test]
fn tags_notes_names_and_pins_are_kept() {
    let sandbox = two_runs();
    sandbox.run(&["tag", "DIG-1", "baseline", "paper"]).ok();
    sandbox.run(&["untag", "DIG-1", "paper"]).ok();
    sandbox
        .run(&[
            "annotate",
            "DIG-1",
            "seed=3",
            "--notes",
            "the first",
            "--name",
            "first",
        ])
        .ok();
    let detail = sandbox.run(&["show", "DIG-1", "--json"]).json();
    assert_eq!(detail["summary"]["tags"], serde_json::json!(["baseline"]));
    assert_eq!(detail["summary"]["config"]["seed"], 3);
    assert_eq!(detail["summary"]["name"], "first");
    assert_eq!(detail["notes"], "the first");

    sandbox
        .run(&["pin", "DIG-1@50", "--reason", "the paper"])
        .ok();
    sandbox.run(&["tag", "DIG-1@50", "best"]).ok();
    sandbox
        .run(&["annotate", "DIG-1@50", "eval/mmlu=0.61"])
        .ok();
    let info = sandbox.run(&["show", "DIG-1@50", "--json"]).json();
    assert_eq!(info["pinned"], true);
    assert_eq!(info["tags"], serde_json::json!(["best"]));
    assert_eq!(info["metrics"]["eval/mmlu"], 0.61);
    sandbox.run(&["unpin", "DIG-1@50"]).ok();
    assert_eq!(
        sandbox.run(&["show", "DIG-1@50", "--json"]).json()["pinned"],
        false
    );

    sandbox.run(&["annotate", "DIG-1"]).fails(5);
    sandbox.run(&["annotate", "DIG-1@50", "eval=high"]).fails(5);
    sandbox
        .run(&["annotate", "DIG-1@50", "--notes", "x"])
        .fails(5);
}

#[test]
fn rewind_starts_a_new_attempt_at_the_step() {
    let sandbox = two_runs();
    let text = sandbox.run(&["rewind", "DIG-1@50"]).ok();
    assert!(text.contains("attempt 2"), "{text}");
    let detail = sandbox.run(&["show", "DIG-1", "--json"]).json();
    assert_eq!(detail["attempts"].as_array().unwrap().len(), 2);
    assert_eq!(detail["summary"]["last_step"], 50);
    assert_eq!(detail["summary"]["status"], "stopped");
    let tree = sandbox.run(&["tree", "DIG-1"]).ok();
    assert!(tree.contains("51..100 given up"), "{tree}");
    let stderr = sandbox.run(&["rewind", "DIG-1"]).fails(5);
    assert!(
        stderr.contains("DIG-1@") || stderr.contains("MMP-42@500"),
        "{stderr}"
    );
}

#[test]
fn an_imported_directory_comes_back_byte_for_byte() {
    let sandbox = Sandbox::new();
    let from = sandbox.path().join("model");
    fs::create_dir_all(from.join("tokenizer")).unwrap();
    fs::write(from.join("config.json"), b"{\"layers\": 2}").unwrap();
    fs::write(from.join("weights.bin"), vec![7_u8; 3 << 20]).unwrap();
    fs::write(from.join("tokenizer/vocab.txt"), b"a\nb\n").unwrap();

    let stderr = sandbox
        .run(&["import", "model", "--run", "sft", "--step", "500"])
        .fails(3);
    assert!(stderr.contains("--project"), "{stderr}");
    let reference = sandbox
        .run(&["import", "model", "--run", "llm/sft", "--step", "500"])
        .ok();
    assert_eq!(reference, "LLM-1@500\n");
    sandbox.run(&["export", "LLM-1@500", "back"]).ok();
    for file in ["config.json", "weights.bin", "tokenizer/vocab.txt"] {
        let back = fs::read(sandbox.path().join("back").join(file)).unwrap();
        assert_eq!(back, fs::read(from.join(file)).unwrap(), "{file}");
    }
    assert_eq!(
        sandbox
            .run(&["cat", "LLM-1@500", "tokenizer/vocab.txt"])
            .ok(),
        "a\nb\n"
    );
    let list = sandbox.run(&["cat", "LLM-1@500"]).ok();
    assert!(
        list.contains("weights.bin  ") && list.contains("3.0 MiB"),
        "{list}"
    );
    // A second export into the same place overwrites nothing that somebody changed.
    fs::write(sandbox.path().join("back/config.json"), b"mine").unwrap();
    let again = sandbox.run(&["export", "LLM-1@500", "back"]);
    assert_ne!(again.code, 0);
    assert_eq!(
        fs::read(sandbox.path().join("back/config.json")).unwrap(),
        b"mine"
    );
    // The same run takes the next checkpoint.
    let reference = sandbox
        .run(&["import", "model", "--run", "LLM-1", "--step", "600"])
        .ok();
    assert_eq!(reference, "LLM-1@600\n");
    sandbox
        .run(&["import", "nowhere", "--run", "llm/sft", "--step", "1"])
        .fails(3);
    sandbox
        .run(&[
            "import",
            "model",
            "--run",
            "LLM-7",
            "--step",
            "1",
            "--project",
            "llm",
        ])
        .fails(3);
}

#[test]
fn a_project_gets_the_letters_it_was_given() {
    let sandbox = Sandbox::new();
    fs::create_dir(sandbox.path().join("model")).unwrap();
    fs::write(sandbox.path().join("model/a"), b"a").unwrap();
    sandbox
        .run(&["project", "my project", "--prefix", "MMP"])
        .ok();
    let reference = sandbox
        .run(&["import", "model", "--run", "my project/x", "--step", "1"])
        .ok();
    assert_eq!(reference, "MMP-1@1\n");
    sandbox
        .run(&["project", "my project", "--prefix", "mmp"])
        .fails(5);
    let stderr = sandbox.run(&["project", "other"]).fails(3);
    assert!(stderr.contains("my project"), "{stderr}");
}

#[test]
fn a_store_in_the_reference_wins() {
    let sandbox = two_runs();
    let elsewhere = Sandbox::new();
    let reference = format!("{}#DIG-1", sandbox.location().display());
    let detail = elsewhere.run(&["show", &reference, "--json"]).json();
    assert_eq!(detail["summary"]["name"], "digits");
    let other = format!("{}#DIG-1", elsewhere.location().display());
    elsewhere.run(&["diff", &reference, &other]).fails(9);
}

#[test]
fn a_fork_of_another_store_is_born_in_the_one_at_hand() {
    let (far, here) = (two_runs(), Sandbox::new());
    let place = far.location().display();
    let target = format!("{place}#digits/DIG-1@<=70");
    let ran = here.run(&["fork", &target, "--name", "cooler"]);
    assert!(ran.stderr.contains("copied from"), "{}", ran.stderr);
    let id = ran.ok();
    let detail = here.run(&["show", "cooler", "--json"]).json();
    assert_eq!(detail["summary"]["fork_step"], 50);
    assert_eq!(
        detail["summary"]["display_id"].as_str(),
        Some(id.trim_end())
    );
    // One checkpoint is here, with the history that leads to it.
    let own = here.run(&["checkpoints", "cooler", "--json"]).json();
    assert_eq!(own.as_array().map(Vec::len), Some(1));
    assert_eq!(own[0]["step"], 50);
    // Nothing was done there.
    let runs = far.run(&["runs", "--json"]).json();
    assert!(!runs.to_string().contains("cooler"));
    let again = here.run(&["fork", &target, "--name", "another"]);
    assert!(!again.stderr.contains("copied"), "{}", again.stderr);
    let stderr = here.run(&["fork", &format!("{place}#DIG-1@51")]).fails(3);
    assert!(stderr.contains("<=51"), "{stderr}");
    // The store at hand by its whole path is the store at hand.
    let same = format!("{place}#DIG-1@50");
    assert!(!far.run(&["fork", &same]).ok().is_empty());
}

#[test]
fn runs_are_copied_by_their_keys_and_what_is_lost_here_comes_back_from_there() {
    let sandbox = two_runs();
    sandbox
        .run(&["fork", "DIG-1@50", "--run-id", "sft/one"])
        .ok();
    sandbox.run(&["fork", "DIG-2", "--run-id", "rl/one"]).ok();
    let said = sandbox.run(&["push", "--to", "other", "--dry-run"]).ok();
    assert!(said.contains("missing in other"), "{said}");
    assert!(!sandbox.path().join("other").exists());
    let none = sandbox
        .run(&["push", "--to", "other", "--keys", "dpo/*"])
        .fails(3);
    assert!(none.contains("dpo/*"), "{none}");
    sandbox
        .run(&["push", "--to", "other", "--keys", "sft/*"])
        .ok();
    let there = sandbox.run(&["--store", "other", "runs", "--json"]).json();
    // With what it was forked from.
    assert_eq!(there["total"], 2, "{there}");
    let there = there.to_string();
    assert!(there.contains("sft/one") && !there.contains("rl/one"));

    // A chunk that both have: under names of their own, which begin with its hash.
    let hash =
        |path: &std::path::Path| path.file_stem().unwrap().to_str().unwrap()[..64].to_owned();
    let there: Vec<_> = files_below(&sandbox.path().join("other/chunks"));
    let there: Vec<_> = there.iter().map(|path| hash(path)).collect();
    let here = sandbox.files("chunks");
    let lost = here.iter().find(|path| there.contains(&hash(path)));
    sandbox.remove(lost.unwrap());
    let alone = sandbox.run(&["repair"]);
    assert_ne!(alone.code, 0);
    assert!(alone.stderr.contains("repair --from"), "{}", alone.stderr);
    let said = sandbox.run(&["repair", "--from", "other"]).ok();
    assert!(said.contains("1 chunk and 0 records fetched"), "{said}");
    sandbox.run(&["verify", "--all"]).ok();
}
