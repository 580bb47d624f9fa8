//! `--json`: every command prints data that parses to stdout, and nothing else there.

use std::fs;

use serde_json::Value;

use crate::fixture::two_runs;

/// What is done to the two runs, in an order in which each is possible. `serve` goes on until it is stopped: `streams` looks at it.
const COMMANDS: &[&[&str]] = &[
    &["version"],
    &["project", "digits"],
    &["runs"],
    &["show", "DIG-2"],
    &["show", "DIG-1@50"],
    &["tree"],
    &["tree", "DIG-1"],
    &["log", "DIG-2"],
    &["checkpoints", "DIG-1"],
    &["diff", "DIG-1", "DIG-2"],
    &["diff", "DIG-1@50", "DIG-1@100"],
    &["cat", "DIG-1@50"],
    &["cat", "DIG-1@50", "weight"],
    &["cat", "DIG-1@50", "weight[0:2, ::3]"],
    &["fork", "DIG-1@50", "--name", "third"],
    &["sweep", "DIG-1@50"],
    &["head", "DIG-2", "--set"],
    &["rewind", "DIG-2@60"],
    &["pin", "DIG-1@50"],
    &["unpin", "DIG-1@50"],
    &["tag", "DIG-1", "good"],
    &["untag", "DIG-1", "good"],
    &["annotate", "DIG-1", "note=fine"],
    &["encode"],
    &["retention", "--keep-last", "5"],
    &["prune", "DIG-1", "--keep-last", "1", "--dry-run"],
    &["prune", "--all"],
    &["delete", "third"],
    &["undelete", "third"],
    &["push", "--to", "other"],
    &["push", "--to", "other", "--dry-run"],
    &["pull", "--from", "other"],
    &["clone", "other", "third"],
    &["export", "DIG-1@50", "out"],
    &["import", "files", "--run", "DIG-1", "--step", "101"],
    &["seal"],
    &["export-metrics", "DIG-1", "-o", "points.parquet"],
    &["export-html", "DIG-1", "-o", "run.html"],
    &["stats"],
    &["verify"],
    &["verify", "--sample", "1"],
    &["repair"],
    &["gc", "--dry-run"],
    &["gc", "--grace", "0"],
    &["reindex"],
];

#[test]
fn every_command_prints_json_to_stdout_and_its_remarks_elsewhere() {
    let sandbox = two_runs();
    fs::create_dir(sandbox.path().join("files")).unwrap();
    fs::write(sandbox.path().join("files/readme"), "hello").unwrap();
    for command in COMMANDS {
        let args: Vec<&str> = command.iter().copied().chain(["--json"]).collect();
        let ran = sandbox.run(&args);
        let stderr = ran.stderr.clone();
        let stdout = ran.ok();
        let parsed = serde_json::from_str::<Value>(&stdout);
        assert!(
            parsed.is_ok(),
            "{command:?} printed {stdout:?} ({stderr:?})"
        );
    }
}

#[test]
fn a_failure_prints_nothing_to_stdout() {
    let sandbox = two_runs();
    for command in [
        &["show", "DIG-9"][..],
        &["cat", "DIG-1@50", "bias"],
        &["export", "DIG-1@51", "out"],
        &["sweep", "DIG-1@51"],
    ] {
        let args: Vec<&str> = command.iter().copied().chain(["--json"]).collect();
        let ran = sandbox.run(&args);
        assert_ne!(ran.code, 0, "{command:?}");
        assert_eq!(ran.stdout, "", "{command:?}");
        assert!(ran.stderr.starts_with("error: "), "{}", ran.stderr);
    }
}

#[test]
fn no_command_is_forgotten() {
    let sandbox = two_runs();
    let help = sandbox.run(&["--help"]).ok();
    let commands = help.split_once("Commands:\n").unwrap().1;
    let commands = commands.split_once("\n\n").unwrap().0;
    let names = commands.lines().filter_map(|line| {
        let rest = line.strip_prefix("  ")?;
        rest.starts_with(|c: char| c.is_ascii_lowercase())
            .then(|| rest.split_whitespace().next())?
    });
    // What these print is their commands'.
    let others = ["help", "serve", "exec", "train", "watch"];
    for name in names.filter(|name| !others.contains(name)) {
        assert!(
            COMMANDS.iter().any(|command| command[0] == name),
            "--json of {name} is not looked at"
        );
    }
}
