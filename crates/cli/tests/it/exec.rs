//! Jobs, with real processes: what they find, what is taken in of what they write, how they end and are started again.
//!
//! The trainers are shell scripts. `save N` writes a checkpoint as Hugging Face's trainer does: weights, optimizer, and `trainer_state.json` last.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::fixture::{Ran, Sandbox};

const SAVE: &str = r#"
step=0
latest() { for each in "$1"/checkpoint-*; do [ -e "$each" ] && basename "$each"; done | sed s/checkpoint-// | sort -n | tail -1; }
if [ -n "$BT_LOAD_CHECKPOINT_DIR" ]; then
  step=$(latest "$BT_LOAD_CHECKPOINT_DIR")
  [ "$(cat "$BT_LOAD_CHECKPOINT_DIR/checkpoint-$step/model.bin")" = "weights $step" ] || exit 99
fi
save() {
  dir=$BT_CHECKPOINT_DIR/checkpoint-$1
  mkdir -p "$dir"
  printf 'weights %s' "$1" > "$dir/model.bin"
  printf '{"model_type": "llama"}' > "$dir/config.json"
  printf 'moments %s' "$1" > "$dir/optimizer.pt"
  printf '{"global_step": %s, "log_history": [{"step": %s, "eval_loss": 0.%s}]}' "$1" "$1" "$1" > "$dir/trainer_state.json"
}
"#;

fn script(body: &str) -> String {
    format!("{SAVE}\n{body}")
}

fn exec(sandbox: &Sandbox, options: &[&str], body: &str) -> Ran {
    command(sandbox, options, body).output().unwrap().into()
}

fn command(sandbox: &Sandbox, options: &[&str], body: &str) -> Command {
    let script = script(body);
    let settle: &[&str] = if options.contains(&"--settle") {
        &[]
    } else {
        &["--settle", "0.2"]
    };
    let args = [
        &["exec", "--project", "p"],
        settle,
        options,
        &["--", "sh", "-c", &script],
    ]
    .concat();
    let mut command = sandbox.command(&args);
    command.env("PATH", "/usr/bin:/bin");
    command
}

/// Steps of the checkpoints of a run.
fn steps(sandbox: &Sandbox, run: &str) -> Vec<i64> {
    let all = sandbox.run(&["checkpoints", run, "--json"]).json();
    all.as_array()
        .unwrap()
        .iter()
        .map(|info| info["step"].as_i64().unwrap())
        .collect()
}

/// A file of a checkpoint, as it comes out.
fn exported(sandbox: &Sandbox, reference: &str, file: &str) -> String {
    let to = format!("out-{}", reference.replace(['/', '@'], "-"));
    sandbox.run(&["export", reference, &to]).ok();
    let text = fs::read_to_string(sandbox.path().join(&to).join(file)).unwrap();
    fs::remove_dir_all(sandbox.path().join(to)).unwrap();
    text
}

/// What `env` printed.
fn variables(text: &str) -> BTreeMap<&str, &str> {
    text.lines()
        .filter_map(|line| line.split_once('='))
        .filter(|(name, _)| name.starts_with("BT_") || name.starts_with("RUNTREE_"))
        .collect()
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        nap();
    }
}

#[expect(clippy::disallowed_methods, reason = "another process is waited for")]
fn nap() {
    std::thread::sleep(Duration::from_millis(20));
}

fn start(mut command: Command) -> Child {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
fn exec_ends_as_the_command_does() {
    let sandbox = Sandbox::new();
    assert_eq!(exec(&sandbox, &[], "echo hello; exit 0").ok(), "hello\n");
    assert_eq!(exec(&sandbox, &[], "exit 9").fails(9), "");
    exec(&sandbox, &[], "kill -TERM $$").fails(143);
    exec(&sandbox, &["--checkpoints", "c"], "kill -KILL $$").fails(137);
    let missing = sandbox.run(&["exec", "--", "no-such-command"]);
    assert!(
        missing
            .fails(3)
            .contains("there is no command no-such-command")
    );
}

#[test]
fn only_what_is_on_is_told_and_users_can_not_clobber_it() {
    let sandbox = Sandbox::new();
    let plain = exec(&sandbox, &[], "env").ok();
    assert_eq!(
        variables(&plain)
            .keys()
            .filter(|name| name.starts_with("BT_"))
            .collect::<Vec<_>>(),
        [&"BT_RETRY_COUNT"]
    );
    let mut clobbered = command(
        &sandbox,
        &["--checkpoints", "c", "--run-id", "a1", "--name", "mine"],
        "env",
    );
    clobbered
        .env("BT_CHECKPOINT_DIR", "/nowhere")
        .env("BT_TRAINING_JOB_ID", "x");
    let told = Ran::from(clobbered.output().unwrap()).ok();
    let told = variables(&told);
    assert_eq!(
        told["BT_CHECKPOINT_DIR"],
        sandbox.path().join("c").to_str().unwrap()
    );
    assert_eq!(told["BT_TRAINING_JOB_ID"], "a1");
    assert_eq!(told["BT_TRAINING_JOB_NAME"], "mine");
    assert_eq!(told["BT_TRAINING_PROJECT_NAME"], "p");
    assert_eq!(told["RUNTREE_RUN_ID"], "a1");
    assert!(!told.contains_key("BT_LOAD_CHECKPOINT_DIR") && !told.contains_key("BT_NODE_RANK"));
    // A job is named by its key.
    for key in ["a@b", "a/b", "a,b", "a~2"] {
        let refused = exec(&sandbox, &["--run-id", key], "true").fails(5);
        assert!(
            refused.contains("means something else in a REF"),
            "{refused}"
        );
    }
    // Nothing of it is another job's: without --checkpoints there is none.
    exec(&sandbox, &["--set", "lr=1"], "true").fails(5);
}

#[test]
fn what_is_whole_is_taken_in_while_the_command_goes_on() {
    let sandbox = Sandbox::new();
    // The command waits until its first checkpoint is in the run, and then deletes it.
    let body = r#"
save 10
tries=0
until "$RUNTREE" checkpoints p/a1 --json | grep -q '"step": 10'; do tries=$((tries + 1)); [ $tries -lt 300 ] || exit 3; sleep 0.1; done
rm -r "$BT_CHECKPOINT_DIR/checkpoint-10"
save 20
"#;
    let mut command = command(&sandbox, &["--checkpoints", "c", "--run-id", "a1"], body);
    command.env("RUNTREE", env!("CARGO_BIN_EXE_runtree"));
    Ran::from(command.output().unwrap()).ok();
    assert_eq!(steps(&sandbox, "p/a1"), [10, 20]);
    assert_eq!(exported(&sandbox, "p/a1@10", "model.bin"), "weights 10");
    let all = sandbox.run(&["checkpoints", "p/a1", "--json"]).json();
    assert_eq!(all[1]["name"], "checkpoint-20");
    assert_eq!(all[1]["metrics"]["eval_loss"], 0.2);
    assert_eq!(all[1]["checkpoint_type"], "full");
    assert_eq!(all[1]["base_model"], "llama");
    // Nothing of the snapshots is left.
    let left: Vec<_> = fs::read_dir(sandbox.path().join("c"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left, ["checkpoint-20"]);
}

#[test]
fn a_torn_directory_is_never_taken_in() {
    let sandbox = Sandbox::new();
    // Stopped between its files for longer than it takes to be quiet; then it crashes.
    let body = r#"
save 10
save 20; rm "$BT_CHECKPOINT_DIR/checkpoint-20/trainer_state.json"
mkdir "$BT_CHECKPOINT_DIR/checkpoint-25"; printf x > "$BT_CHECKPOINT_DIR/checkpoint-25/weights"
sleep 1.5
exit 1
"#;
    let ran = exec(&sandbox, &["--checkpoints", "c", "--run-id", "a1"], body);
    assert!(
        ran.stderr
            .contains("checkpoint-20 is not in the run: no trainer_state.json"),
        "{}",
        ran.stderr
    );
    ran.fails(1);
    assert_eq!(steps(&sandbox, "p/a1"), [10]);
    // Nor does a launch that ends well vouch for what the one before it left.
    let again = "[ \"$step\" = 10 ] && save 30";
    exec(&sandbox, &["--checkpoints", "c", "--run-id", "a1"], again).ok();
    assert_eq!(steps(&sandbox, "p/a1"), [10, 30]);
    assert!(
        sandbox
            .path()
            .join("c/.torn-checkpoint-25/weights")
            .exists()
    );
    // The same, once it ends well: what is unknown is taken for whole, what lacks its end is not.
    let again = r#"mkdir -p "$BT_CHECKPOINT_DIR/checkpoint-30"; printf x > "$BT_CHECKPOINT_DIR/checkpoint-30/weights"; save 40; rm "$BT_CHECKPOINT_DIR/checkpoint-40/trainer_state.json""#;
    exec(&sandbox, &["--checkpoints", "d", "--run-id", "a2"], again).ok();
    assert_eq!(steps(&sandbox, "p/a2"), [30]);
}

#[test]
fn a_checkpoint_that_is_being_written_anew_is_not_the_old_one() {
    let sandbox = Sandbox::new();
    let options = ["--checkpoints", "c", "--run-id", "a1"];
    exec(&sandbox, &options, "save 10; save 20").ok();
    // New weights in it, an old state; a later one follows; then it is killed.
    let body = r#"
printf 'weights 11' > "$BT_CHECKPOINT_DIR/checkpoint-10/model.bin"; touch -d '10 seconds ago' "$BT_CHECKPOINT_DIR/checkpoint-10/trainer_state.json"
sleep 0.4; save 30; sleep 1; kill -KILL $$
"#;
    exec(&sandbox, &options, body).fails(137);
    assert_eq!(steps(&sandbox, "p/a1"), [10, 20, 30]);
    exec(&sandbox, &options, "true").ok();
    assert_eq!(exported(&sandbox, "p/a1@10", "model.bin"), "weights 10");
    let aside = fs::read_to_string(sandbox.path().join("c/.torn-checkpoint-10/model.bin")).unwrap();
    assert_eq!(aside, "weights 11");
}

#[test]
fn nothing_that_is_done_between_launches_makes_a_torn_directory_whole() {
    let sandbox = Sandbox::new();
    let options = ["--checkpoints", "c", "--run-id", "a1"];
    let body = r#"save 10; mkdir "$BT_CHECKPOINT_DIR/checkpoint-20"; printf x > "$BT_CHECKPOINT_DIR/checkpoint-20/weights"; kill -KILL $$"#;
    exec(&sandbox, &options, body).fails(137);
    let directory = sandbox.path().join("c/checkpoint-20");
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o775)).unwrap();
    // A run of its own does not take it for its own when something is added to it, either.
    let body = r#"printf y > "$BT_CHECKPOINT_DIR/checkpoint-20/README""#;
    exec(&sandbox, &["--checkpoints", "c", "--run-id", "b1"], body).ok();
    assert_eq!(steps(&sandbox, "p/b1"), [0_i64; 0]);
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).unwrap();
    exec(&sandbox, &options, "[ \"$step\" = 10 ]").ok();
    assert_eq!(steps(&sandbox, "p/a1"), [10]);
}

#[test]
fn who_was_told_to_stop_may_have_stopped_in_the_middle() {
    let sandbox = Sandbox::new();
    let body = r#"trap 'exit 0' TERM; mkdir "$BT_CHECKPOINT_DIR/checkpoint-5"; printf x > "$BT_CHECKPOINT_DIR/checkpoint-5/weights"; : > ready; while :; do sleep 0.05; done"#;
    let child = start(command(
        &sandbox,
        &["--checkpoints", "c", "--run-id", "a1"],
        body,
    ));
    wait_until("it starts", || sandbox.path().join("ready").exists());
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    Ran::from(child.wait_with_output().unwrap()).ok();
    assert_eq!(steps(&sandbox, "p/a1"), [0_i64; 0]);
}

#[test]
fn what_comes_late_to_a_whole_checkpoint_is_taken_with_it() {
    let sandbox = Sandbox::new();
    let body = r#"save 10; sleep 1; printf late > "$BT_CHECKPOINT_DIR/checkpoint-10/extra"; sleep 1; kill -KILL $$"#;
    exec(&sandbox, &["--checkpoints", "c", "--run-id", "a1"], body).fails(137);
    assert_eq!(exported(&sandbox, "p/a1@10", "extra"), "late");
}

#[test]
fn what_one_checkpoint_has_keeps_no_other() {
    let sandbox = Sandbox::new();
    // A loss that was NaN, as Python writes it; a text of 2 MB; a pipe; a link that leads out.
    let body = r#"
d=$BT_CHECKPOINT_DIR
save 10; printf '{"log_history": [{"step": 10, "loss": NaN, "grad_norm": Infinity, "lr": 0.5}]}' > "$d/checkpoint-10/trainer_state.json"
save 20; { printf '{"labels": "'; head -c 2000000 /dev/zero | tr '\0' x; printf '"}'; } > "$d/checkpoint-20/config.json"; touch "$d/checkpoint-20/trainer_state.json"
save 30; mkfifo "$d/checkpoint-30/config"
save 40; ln -s ../checkpoint-10/model.bin "$d/checkpoint-40/base"
save 50
"#;
    let ran = exec(&sandbox, &["--checkpoints", "c", "--run-id", "a1"], body);
    for (name, why) in [
        ("checkpoint-30", "config is no file"),
        ("checkpoint-40", "base is a link that leads nowhere, or out"),
    ] {
        assert!(
            ran.stderr.contains(name) && ran.stderr.contains(why),
            "{}",
            ran.stderr
        );
    }
    // Something that may be whole is not in the run.
    ran.fails(7);
    assert_eq!(steps(&sandbox, "p/a1"), [10, 20, 50]);
    let all = sandbox.run(&["checkpoints", "p/a1", "--json"]).json();
    assert_eq!(all[0]["metrics"]["lr"], 0.5);
    assert_eq!(all[0]["metrics"]["loss"], "NaN");
}

#[test]
fn a_trainer_that_goes_on_vouches_for_what_it_wrote_only_if_nothing_is_missing() {
    let sandbox = Sandbox::new();
    let body = r#"
own() { mkdir -p "$1"; printf x > "$1/weights_$2"; printf x > "$1/config"; }
d=$BT_CHECKPOINT_DIR
mkdir -p "$d/step_1"; printf x > "$d/step_1/weights_1"; sleep 0.5
own "$d/step_2" 2; sleep 0.5; own "$d/step_3" 3; sleep 1.2
kill -KILL $$
"#;
    exec(&sandbox, &["--checkpoints", "c", "--run-id", "a1"], body).fails(137);
    assert_eq!(steps(&sandbox, "p/a1"), [2]);
}

#[test]
fn a_format_of_ones_own_is_whole_when_it_is_renamed_marked_or_followed_by_another() {
    let sandbox = Sandbox::new();
    let body = r#"
own() { mkdir -p "$1"; printf 'own %s' "$2" > "$1/weights"; }
d=$BT_CHECKPOINT_DIR
own "$d/tmp" 1; sleep 0.1; mv "$d/tmp" "$d/step_1"
own "$d/other/step_2" 2; : > "$d/other/step_2/STABLE"
own "$d/a/0003" 3; sleep 0.6; own "$d/a/0004" 4
sleep 1.5
kill -KILL $$
"#;
    exec(&sandbox, &["--checkpoints", "c", "--run-id", "a1"], body).fails(137);
    // The last one is followed by nothing, and its writer was killed.
    assert_eq!(steps(&sandbox, "p/a1"), [1, 2, 3]);
    assert_eq!(exported(&sandbox, "p/a1@3", "weights"), "own 3");
}

#[test]
fn a_crash_is_gone_on_from_where_the_newest_whole_checkpoint_is() {
    let sandbox = Sandbox::new();
    let body = r#"
echo "start $step retry $BT_RETRY_COUNT"
while [ $step -lt 5 ]; do
  step=$((step + 1))
  if [ $step = 3 ] && [ "$BT_RETRY_COUNT" = 0 ]; then mkdir -p "$BT_CHECKPOINT_DIR/checkpoint-3"; printf half > "$BT_CHECKPOINT_DIR/checkpoint-3/model.bin"; printf x > "$BT_CHECKPOINT_DIR/checkpoint-3/optimizer.pt"; exit 7; fi
  save $step
done
"#;
    let ran = exec(
        &sandbox,
        &["--checkpoints", "c", "--run-id", "a1", "--restarts", "2"],
        body,
    );
    assert!(
        ran.stderr
            .contains("checkpoint-3 is not whole (no trainer_state.json"),
        "{}",
        ran.stderr
    );
    assert!(
        ran.stderr.contains("ended with 7; start 1 of 2 again"),
        "{}",
        ran.stderr
    );
    assert_eq!(ran.ok(), "start 0 retry 0\nstart 2 retry 1\n");
    assert_eq!(steps(&sandbox, "p/a1"), [1, 2, 3, 4, 5]);
    assert_eq!(exported(&sandbox, "p/a1@3", "model.bin"), "weights 3");
    let run = sandbox.run(&["show", "p/a1", "--json"]).json();
    assert_eq!(run["summary"]["status"], "completed");
    assert_eq!(run["attempts"].as_array().unwrap().len(), 2, "{run}");
    // What was torn is set aside, not deleted.
    assert_eq!(
        fs::read_to_string(sandbox.path().join("c/.torn-checkpoint-3/model.bin")).unwrap(),
        "half"
    );
    // Restarts have an end.
    let ran = exec(
        &sandbox,
        &["--checkpoints", "e", "--run-id", "a9", "--restarts", "1"],
        "exit 4",
    );
    assert!(ran.fails(4).contains("started 2 times"));
}

#[test]
fn three_jobs_in_a_row_each_go_on_where_the_last_ended() {
    let sandbox = Sandbox::new();
    let body = r#"echo "from $step"; for _ in 1 2; do step=$((step + 10)); save $step; done"#;
    let mut said = exec(&sandbox, &["--checkpoints", "c1", "--run-id", "j1"], body).ok();
    // A job without a checkpoint is passed over.
    exec(&sandbox, &["--checkpoints", "c0", "--run-id", "j0"], "true").ok();
    said += &exec(
        &sandbox,
        &["--load", "p/", "--checkpoints", "c2", "--run-id", "j2"],
        body,
    )
    .ok();
    said += &exec(
        &sandbox,
        &["--load", "j2", "--checkpoints", "c3", "--run-id", "j3"],
        body,
    )
    .ok();
    said += &exec(
        &sandbox,
        &[
            "--load",
            "p/j1@checkpoint-10",
            "--checkpoints",
            "c4",
            "--run-id",
            "j4",
        ],
        body,
    )
    .ok();
    assert_eq!(said, "from 0\nfrom 20\nfrom 40\nfrom 10\n");
    assert_eq!(steps(&sandbox, "p/j3"), [50, 60]);
    let run = sandbox.run(&["show", "p/j3", "--json"]).json();
    assert!(run.to_string().contains("\"base\""), "{run}");
}

#[test]
fn what_is_loaded_lies_where_loaders_look() {
    let sandbox = Sandbox::new();
    let two =
        r#"save 10; save 20; printf vocab > "$BT_CHECKPOINT_DIR/checkpoint-20/tokenizer.json""#;
    exec(&sandbox, &["--checkpoints", "c", "--run-id", "j1"], two).ok();
    exec(
        &sandbox,
        &["--checkpoints", "d", "--run-id", "j2"],
        "save 10",
    )
    .ok();
    let list = r#"cd "$BT_LOAD_CHECKPOINT_DIR"; find . | sort; cat rank-0/checkpoint-20/model.bin"#;
    let found = exec(&sandbox, &["--load", "p/j1", "--into", "l"], list).ok();
    assert_eq!(
        found,
        "./.runtree-loaded\n.\n./checkpoint-20\n./config.json\n./j1\n./j1/rank-0\n./j1/rank-0/checkpoint-20\n./j1/rank-0/checkpoint-20/config.json\n\
         ./j1/rank-0/checkpoint-20/model.bin\n./j1/rank-0/checkpoint-20/optimizer.pt\n./j1/rank-0/checkpoint-20/tokenizer.json\n\
         ./j1/rank-0/checkpoint-20/trainer_state.json\n./rank-0\n./tokenizer.json\n./trainer_state.json\nweights 20"
            .replace("./.runtree-loaded\n.\n", ".\n./.runtree-loaded\n")
    );
    let file = sandbox.path().join("l/j1/rank-0/checkpoint-20/model.bin");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o222, 0);
    assert_eq!(
        fs::read_link(sandbox.path().join("l/rank-0")).unwrap(),
        Path::new("j1/rank-0")
    );
    // Several: the name that two have leads to neither; the job's own folder always does.
    exec(
        &sandbox,
        &["--load", "p/j1@10,p/j2@10,p/j1@20", "--into", "l"],
        "true",
    )
    .ok();
    let names: Vec<String> = fs::read_dir(sandbox.path().join("l"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(
        names.contains(&"j2".to_owned()) && names.contains(&"checkpoint-20".to_owned()),
        "{names:?}"
    );
    assert!(
        !names.contains(&"checkpoint-10".to_owned())
            && !names.contains(&"rank-0".to_owned())
            && !names.contains(&"tokenizer.json".to_owned()),
        "{names:?}"
    );
    // What somebody else put there stays.
    fs::create_dir(sandbox.path().join("mine")).unwrap();
    fs::write(sandbox.path().join("mine/notes"), "x").unwrap();
    let refused = exec(&sandbox, &["--load", "p/j1", "--into", "mine"], "true").fails(4);
    assert!(
        refused.contains("holds something else already: notes"),
        "{refused}"
    );
    assert_eq!(
        fs::read_to_string(sandbox.path().join("mine/notes")).unwrap(),
        "x"
    );
    // Without --into it is gone afterwards.
    let place = exec(
        &sandbox,
        &["--load", "p/j1"],
        "echo $BT_LOAD_CHECKPOINT_DIR",
    )
    .ok();
    assert!(!Path::new(place.trim()).exists());
    let nothing = exec(&sandbox, &["--load", "empty/"], "true").fails(3);
    assert!(nothing.contains("project empty has no runs"), "{nothing}");
}

/// A pickle with a name in it, as `.metadata` of torch.distributed.checkpoint has the names of its shards.
const METADATA: &str = r"printf 'pickle X\014__0_0.distcpq X\014__1_0.distcpq' > ";

#[test]
fn nodes_have_directories_of_their_own_and_shards_of_several_load_on_any_number() {
    let sandbox = Sandbox::new();
    let body = format!(
        r#"
[ "$BT_GROUP_SIZE" = 2 ] && [ "$BT_LEADER_ADDR" = 127.0.0.1 ] || exit 5
d=$BT_CHECKPOINT_DIR/checkpoint-5; mkdir -p "$d"
printf "shard $BT_NODE_RANK" > "$d/__${{BT_NODE_RANK}}_0.distcp"
printf "rng $BT_NODE_RANK" > "$d/rng"
if [ "$BT_NODE_RANK" = 0 ]; then
  until [ -s "$BT_CHECKPOINT_DIR/../rank-1/checkpoint-5/rng" ]; do sleep 0.05; done
  {METADATA}"$d/.metadata"
fi
"#
    );
    exec(
        &sandbox,
        &["--checkpoints", "c", "--run-id", "j1", "--nodes", "2"],
        &body,
    )
    .ok();
    assert_eq!(steps(&sandbox, "p/j1"), [5]);
    assert_eq!(
        sandbox.run(&["checkpoints", "p/j1", "--json"]).json()[0]["checkpoint_type"],
        "sharded"
    );
    let show = r#"cd "$BT_LOAD_CHECKPOINT_DIR/rank-${BT_NODE_RANK:-0}/checkpoint-5" && echo "${BT_NODE_RANK:-0} $(cat __0_0.distcp __1_0.distcp rng)""#;
    let look = |nodes: &str| {
        let all = [
            "exec", "--load", "p/j1", "--nodes", nodes, "--", "sh", "-c", show,
        ];
        let mut command = sandbox.command(&all);
        command.env("PATH", "/usr/bin:/bin");
        let said = Ran::from(command.output().unwrap()).ok();
        let mut lines: Vec<String> = said.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(look("1"), ["0 shard 0shard 1rng 0"]);
    assert_eq!(
        look("2"),
        ["0 shard 0shard 1rng 0", "1 shard 0shard 1rng 1"]
    );
    assert_eq!(
        look("3"),
        [
            "0 shard 0shard 1rng 0",
            "1 shard 0shard 1rng 1",
            "2 shard 0shard 1rng 0"
        ]
    );
    // One that fails ends the others, and its code is the command's.
    let body = r#"if [ "$BT_NODE_RANK" = 1 ]; then exit 6; else sleep 60; fi"#;
    let begun = Instant::now();
    exec(&sandbox, &["--nodes", "2"], body).fails(6);
    assert!(begun.elapsed() < Duration::from_secs(30));
}

#[test]
fn sigterm_leaves_time_to_save_and_ctrl_c_ends_it() {
    let sandbox = Sandbox::new();
    let body = r"trap 'save 7; exit 0' TERM; : > ready; while :; do sleep 0.05; done";
    let child = start(command(
        &sandbox,
        &["--checkpoints", "c", "--run-id", "a1", "--restarts", "3"],
        body,
    ));
    wait_until("it starts", || sandbox.path().join("ready").exists());
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let begun = Instant::now();
    Ran::from(child.wait_with_output().unwrap()).ok();
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert_eq!(steps(&sandbox, "p/a1"), [7]);

    // A shell that the signal ends leaves behind what it ran, which still saves.
    fs::remove_file(sandbox.path().join("ready")).unwrap();
    let inner = format!(
        "{SAVE} trap 'sleep 0.5; save 8; exit 0' TERM; : > ready; while :; do sleep 0.05; done"
    );
    fs::write(sandbox.path().join("inner.sh"), inner).unwrap();
    let child = start(command(
        &sandbox,
        &["--checkpoints", "c2", "--run-id", "a2"],
        "sh inner.sh; true",
    ));
    wait_until("it starts", || sandbox.path().join("ready").exists());
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    Ran::from(child.wait_with_output().unwrap()).fails(143);
    assert_eq!(steps(&sandbox, "p/a2"), [8]);

    // Who does not listen is killed after its time.
    fs::remove_file(sandbox.path().join("ready")).unwrap();
    let deaf = "trap '' TERM; : > ready; while :; do sleep 0.05; done";
    let child = start(command(
        &sandbox,
        &["--checkpoints", "c3", "--run-id", "a3", "--grace", "0.5"],
        deaf,
    ));
    wait_until("it starts", || sandbox.path().join("ready").exists());
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    Ran::from(child.wait_with_output().unwrap()).fails(137);
    assert_eq!(
        sandbox.run(&["show", "p/a3", "--json"]).json()["summary"]["status"],
        "stopped"
    );

    // Ctrl-C, which reaches the command by way of exec when there is no terminal: no restart.
    fs::remove_file(sandbox.path().join("ready")).unwrap();
    let child = start(command(
        &sandbox,
        &["--run-id", "a4", "--restarts", "5"],
        ": > ready; sleep 60; true",
    ));
    wait_until("it starts", || sandbox.path().join("ready").exists());
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let ran = Ran::from(child.wait_with_output().unwrap());
    assert!(!ran.stderr.contains("again"), "{}", ran.stderr);
    ran.fails(130);
}

#[test]
fn what_a_killed_exec_left_is_taken_in_by_the_next() {
    let sandbox = Sandbox::new();
    // It outlives exec, which was killed.
    let body = "save 1; echo $$ > pid; mv pid saved; exec sleep 60 > /dev/null 2>&1";
    let child = start(command(
        &sandbox,
        &["--checkpoints", "c", "--run-id", "a1", "--settle", "60"],
        body,
    ));
    wait_until("it saves", || sandbox.path().join("saved").exists());
    kill_process(Pid::from_child(&child), Signal::KILL).unwrap();
    let _ = child.wait_with_output().unwrap();
    // What it started still writes there.
    let refused = exec(&sandbox, &["--checkpoints", "c", "--run-id", "a1"], "true").fails(4);
    assert!(refused.contains("what one started still runs"), "{refused}");
    let pid = fs::read_to_string(sandbox.path().join("saved")).unwrap();
    let left = Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
    kill_process(left, Signal::KILL).unwrap();
    let ran = exec(
        &sandbox,
        &["--checkpoints", "c", "--run-id", "a1"],
        "echo from $step",
    );
    assert!(
        ran.stderr
            .contains("checkpoint-1 was left by an earlier launch"),
        "{}",
        ran.stderr
    );
    assert_eq!(ran.ok(), "from 1\n");
    // Once more: it is there already.
    let ran = exec(
        &sandbox,
        &["--checkpoints", "c", "--run-id", "a1"],
        "echo from $step",
    );
    assert!(!ran.stderr.contains("was left"), "{}", ran.stderr);
    assert_eq!(steps(&sandbox, "p/a1"), [1]);
    // What lies there and is of another run is left alone.
    let ran = exec(&sandbox, &["--checkpoints", "c", "--run-id", "b1"], "true");
    assert!(ran.stderr.contains("1 checkpoint in"), "{}", ran.stderr);
    assert_eq!(steps(&sandbox, "p/b1"), [0_i64; 0]);
    assert!(
        sandbox
            .path()
            .join("c/checkpoint-1/model.bin")
            .metadata()
            .unwrap()
            .nlink()
            == 1
    );
}

#[test]
fn watch_runs_a_command_for_each_checkpoint_and_keeps_what_it_measured() {
    let sandbox = Sandbox::new();
    exec(
        &sandbox,
        &["--checkpoints", "c", "--run-id", "a1"],
        "save 1; save 2; save 3",
    )
    .ok();
    let eval = r#"[ "$(cat "$1/model.bin")" = "weights $2" ] || exit 1; [ "$2" != 2 ] || exit 4; echo "{\"eval\": {\"acc\": 0.$2}}"; echo done"#;
    let args = [
        "watch", "p/a1", "--all", "--", "/bin/sh", "-c", eval, "sh", "{path}", "{step}",
    ];
    let mut command = sandbox.command(&args);
    command.env("PATH", "/usr/bin:/bin");
    let ran = Ran::from(command.output().unwrap());
    assert!(
        ran.stderr.contains("the command ended with 4 for"),
        "{}",
        ran.stderr
    );
    ran.fails(4);
    let all: Value = sandbox.run(&["checkpoints", "p/a1", "--json"]).json();
    assert_eq!(all[0]["metrics"]["eval/acc"], 0.1);
    assert_eq!(all[1]["metrics"].get("eval/acc"), None);
    assert_eq!(all[2]["metrics"]["eval/acc"], 0.3);
    let best = sandbox
        .run(&["show", "p/a1@best:eval/acc:max", "--json"])
        .json();
    assert!(best.to_string().contains("checkpoint-3"), "{best}");
    // Without --all only what comes from now on: nothing, the run has ended.
    let mut quiet = sandbox.command(&["watch", "p/a1", "--", "/bin/false"]);
    Ran::from(quiet.output().unwrap()).ok();
}
