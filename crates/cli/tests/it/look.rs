//! Commands that look.

use crate::fixture::{save_values, spec, two_runs};

/// Ids and ages differ from run to run of the test; what stays is the shape.
fn settled(text: &str) -> String {
    let mut settled = String::new();
    for word in text.split_inclusive([' ', '\n']) {
        let (body, end) = word.split_at(word.trim_end().len());
        let bare = body.trim_matches(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let is_time = body.len() == 9 && body.ends_with('Z') && body.as_bytes()[2] == b':';
        let is_date = body.len() == 10 && body.as_bytes()[4] == b'-' && body.starts_with("20");
        let is_age = bare.ends_with('s')
            && bare.len() > 1
            && bare[..bare.len() - 1].bytes().all(|b| b.is_ascii_digit());
        let replacement = if bare.starts_with("ck_") && bare.len() == 16 {
            body.replace(bare, "<checkpoint>")
        } else if bare.parse::<runtree_core::RunId>().is_ok() {
            body.replace(bare, "<run>")
        } else if is_date {
            "<date>".to_owned()
        } else if is_time {
            "<time>".to_owned()
        } else if is_age {
            body.replace(bare, "<age>")
        } else {
            body.to_owned()
        };
        settled.push_str(&replacement);
        settled.push_str(end);
    }
    settled
}

#[test]
fn runs_are_a_table_with_what_tells_them_apart() {
    let sandbox = two_runs();
    insta::assert_snapshot!(settled(&sandbox.run(&["runs"]).ok()));
    let failed = sandbox
        .run(&[
            "runs",
            "status:failed",
            "--columns",
            "id,config.lr,metric:loss",
        ])
        .ok();
    insta::assert_snapshot!(failed);
    let page = sandbox.run(&["runs", "-n", "1", "--asc", "--json"]).json();
    assert_eq!(page["total"], 2);
    assert_eq!(page["runs"][0]["display_id"], "DIG-1");
    let cursor = page["next_cursor"].as_str().unwrap();
    let page = sandbox
        .run(&["runs", "-n", "1", "--asc", "--json", "--after", cursor])
        .json();
    assert_eq!(page["runs"][0]["display_id"], "DIG-2");
    sandbox.run(&["runs", "--sort", "size"]).fails(5);
    sandbox.run(&["runs", "status:sleeping"]).fails(5);
}

#[test]
fn show_says_when_a_run_turned_nan_and_where_to_start_again() {
    let sandbox = two_runs();
    let text = sandbox.run(&["show", "DIG-2"]).ok();
    assert!(
        text.contains("loss is NaN from step 72; last good checkpoint 70: runtree fork DIG-2@70"),
        "{text}"
    );
    assert!(text.contains("ValueError: loss is NaN"), "{text}");
    insta::assert_snapshot!(settled(&text));
    // The advice works as it stands.
    assert_eq!(sandbox.run(&["fork", "DIG-2@70"]).ok(), "DIG-3\n");
}

#[test]
fn show_of_a_checkpoint_tells_what_is_in_it() {
    let sandbox = two_runs();
    let text = sandbox.run(&["show", "DIG-1@50"]).ok();
    insta::assert_snapshot!(settled(&text));
    let id = sandbox.run(&["show", "DIG-1@50", "--json"]).json()["id"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(sandbox.run(&["show", &id]).ok(), text);
    // What is not finite is told by kind, and asked for or not asked for as one likes.
    let short = sandbox.run(&["show", "DIG-1@50", "--no-stats"]).ok();
    assert!(
        short.contains("raw") && !short.contains("NOT FINITE"),
        "{short}"
    );
    let none = sandbox.run(&["show", "DIG-1@50", "--keys", "bias*"]).ok();
    assert!(!none.contains("TENSOR"), "{none}");
    let json = sandbox.run(&["show", "DIG-1@50", "--json"]).json();
    let tensor = &json["tensor_list"][0];
    assert_eq!(tensor["encoding"]["kind"], "raw");
    assert_eq!(tensor["statistics"]["finite"]["min"], 50.0);
    assert_eq!(tensor["statistics"]["nan"], 0);
    assert_eq!(json["tensors"], 1);
}

#[test]
fn show_counts_what_is_not_finite_and_lists_no_more_than_asked() {
    let sandbox = two_runs();
    let engine = sandbox.engine();
    let writer = engine.start_run(spec("bad")).unwrap();
    save_values(
        &writer,
        1,
        &[
            ("model.bias", &[0.5, f32::NAN, -2.0, f32::NEG_INFINITY]),
            ("model.weight", &[1.0, 2.0, 3.0, 4.0]),
        ],
    );
    writer.finish(None, None, None).unwrap();
    let text = sandbox.run(&["show", "bad@1"]).ok();
    insta::assert_snapshot!(settled(&text));
    let ran = sandbox.run(&["show", "bad@1", "-n", "1"]);
    assert!(ran.stderr.contains("1 more"), "{}", ran.stderr);
    assert!(!ran.ok().contains("model.weight"));
}

#[test]
fn show_of_a_damaged_checkpoint_says_what_it_can() {
    let sandbox = two_runs();
    for chunk in sandbox.files("chunks") {
        sandbox.damage(chunk, |bytes| bytes[17] ^= 4);
    }
    let ran = sandbox.run(&["show", "DIG-1@50"]);
    assert!(
        ran.stderr.contains("Statistics are left out: "),
        "{}",
        ran.stderr
    );
    assert!(ran.ok().contains("weight"));
    sandbox.run(&["show", "DIG-1@50", "--stats"]).fails(8);
}

#[test]
fn tree_draws_the_family_and_says_what_is_wrong_in_it() {
    let sandbox = two_runs();
    let text = sandbox.run(&["tree", "DIG-2"]).ok();
    insta::assert_snapshot!(text);
    assert_eq!(sandbox.run(&["tree"]).ok(), text);
    let tree = sandbox.run(&["tree", "hot", "--json"]).json();
    assert_eq!(tree["runs"].as_array().unwrap().len(), 2);
}

#[test]
fn log_tells_births_checkpoints_forks_and_the_end() {
    let sandbox = two_runs();
    insta::assert_snapshot!(settled(&sandbox.run(&["log", "DIG-2", "--reverse"]).ok()));
    let kinds = |args: &[&str]| -> Vec<String> {
        let entries = sandbox.run(args).json();
        let entries = entries.as_array().unwrap();
        entries
            .iter()
            .map(|entry| entry["kind"].as_str().unwrap().to_owned())
            .collect()
    };
    let newest_first = kinds(&["log", "DIG-1", "--json"]);
    assert!(
        newest_first.contains(&"fork".to_owned()),
        "{newest_first:?}"
    );
    assert_eq!(newest_first.last().map(String::as_str), Some("born"));
    assert_eq!(
        kinds(&["log", "DIG-1", "--json", "-n", "2"]),
        newest_first[..2]
    );
}

#[test]
fn checkpoints_of_a_fork_include_the_inherited_ones() {
    let sandbox = two_runs();
    insta::assert_snapshot!(settled(&sandbox.run(&["checkpoints", "DIG-2"]).ok()));
    let own = sandbox
        .run(&["checkpoints", "DIG-2", "--own", "--json"])
        .json();
    assert_eq!(own.as_array().unwrap().len(), 2);
}

#[test]
fn diff_compares_runs_and_with_a_selector_tensors() {
    let sandbox = two_runs();
    let text = sandbox.run(&["diff", "DIG-1", "DIG-2"]).ok();
    assert!(text.contains("lr 0.001 → 0.1"), "{text}");
    let text = sandbox.run(&["diff", "DIG-1@50", "DIG-1@100"]).ok();
    assert!(text.contains("weight"), "{text}");
    let report = sandbox
        .run(&["diff", "DIG-1@50", "DIG-1@100", "--json"])
        .json();
    assert_eq!(report["tensors"][0]["change"], "changed");
    assert_eq!(report["tensors"][0]["changed_elements"], 256);
}

#[test]
fn cat_prints_values_and_lists_what_there_is() {
    let sandbox = two_runs();
    let text = sandbox
        .run(&["cat", "DIG-1@50", "weight", "--limit", "3"])
        .ok();
    assert_eq!(text, "weight f32 [16, 16] 1.0 KiB\n50.0\n51.0\n52.0\n");
    let list = sandbox.run(&["cat", "DIG-1@50"]).ok();
    assert!(
        list.contains("weight") && list.contains("[16, 16]"),
        "{list}"
    );
    let stderr = sandbox.run(&["cat", "DIG-1@50", "bias"]).fails(3);
    assert!(stderr.contains("\"bias\""), "{stderr}");
}

#[test]
fn cat_prints_what_an_index_selects() {
    let sandbox = two_runs();
    let cat = |name: &str| sandbox.run(&["cat", "DIG-1@50", name]);
    // Values are 50 and the place: 16 a row.
    assert_eq!(
        cat("weight[0:4, 7]").ok(),
        "weight[0:4, 7] f32 [4] 16 B\n57.0\n73.0\n89.0\n105.0\n"
    );
    assert_eq!(
        cat("weight[-1, ::8]").ok(),
        "weight[-1, ::8] f32 [2] 8 B\n290.0\n298.0\n"
    );
    assert_eq!(
        cat("weight[::15, ..., 1:3]").ok(),
        "weight[::15, ..., 1:3] f32 [2, 2] 16 B\n51.0\t52.0\n291.0\t292.0\n"
    );
    assert_eq!(cat("weight[3, 3]").ok(), "weight[3, 3] f32 [] 4 B\n101.0\n");
    assert_eq!(cat("weight[5:5]").ok(), "weight[5:5] f32 [0, 16] 0 B\n");
    let ran = sandbox.run(&["cat", "DIG-1@50", "weight[:2, :2]", "-n", "3"]);
    assert!(ran.stderr.contains("1 more"), "{}", ran.stderr);
    assert!(ran.ok().ends_with("50.0\t51.0\n66.0\n"));
    let json = sandbox
        .run(&["cat", "DIG-1@50", "weight[0, :2]", "--json"])
        .json();
    assert_eq!(json["values"], serde_json::json!([50.0, 51.0]));
    assert_eq!(json["slice"]["shape"], serde_json::json!([2]));
    assert_eq!(json["shape"], serde_json::json!([16, 16]));
    assert!(cat("weight[16]").fails(5).contains("dimension 0"));
    assert!(cat("weight[0, 0, 0]").fails(5).contains("3 dimensions"));
    assert!(cat("weight[::-1]").fails(5).contains("positive step"));
    assert!(cat("bias[0]").fails(3).contains("\"bias\""));
}

#[test]
fn reindexing_changes_no_answer() {
    let sandbox = two_runs();
    let look = || ["runs", "tree", "stats"].map(|command| sandbox.run(&[command, "--json"]).ok());
    let before = look();
    let report = sandbox.run(&["reindex", "--json"]).json();
    assert_eq!(report["runs"], 2);
    assert_eq!(look(), before);
    std::fs::remove_dir_all(sandbox.path().join("cache")).unwrap();
    assert_eq!(look(), before);
}

#[test]
fn a_flipped_bit_is_found_by_verify_and_named() {
    let sandbox = two_runs();
    assert!(sandbox.run(&["verify"]).ok().contains("4 checkpoints good"));
    sandbox.damage(&sandbox.files("chunks")[0], |bytes| bytes[17] ^= 4);
    let ran = sandbox.run(&["verify"]);
    assert!(!ran.stdout.is_empty());
    assert!(ran.fails(8).contains("hint: "));
}
