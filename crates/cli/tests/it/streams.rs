//! Which stream, which exit code, who is left alone.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::fixture::{Sandbox, two_runs};

#[test]
fn looking_where_there_is_no_store_is_not_found_and_makes_none() {
    let sandbox = Sandbox::vacant();
    for command in ["runs", "tree", "stats", "verify"] {
        let stderr = sandbox.run(&[command]).fails(3);
        assert!(stderr.starts_with("error: "), "{command}: {stderr}");
        assert!(stderr.contains("hint: "), "{command}: {stderr}");
    }
    assert_eq!(sandbox.files("").len(), 0);
}

#[test]
fn an_unknown_run_is_not_found_and_says_what_to_do() {
    let sandbox = two_runs();
    let stderr = sandbox.run(&["show", "DIG-9"]).fails(3);
    assert!(stderr.contains("DIG-9"), "{stderr}");
    assert!(stderr.contains("hint: "), "{stderr}");
    let stderr = sandbox.run(&["export", "DIG-1@51", "out"]).fails(3);
    assert!(
        stderr.contains("50") && stderr.contains("100"),
        "no steps in: {stderr}"
    );
    assert!(!sandbox.path().join("out").exists());
    assert!(stderr.contains("'DIG-1@<=51'"), "not for a shell: {stderr}");
    let stderr = sandbox.run(&["show", "DIG-1@last-god"]).fails(3);
    assert!(stderr.contains("runtree checkpoints DIG-1"), "{stderr}");
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let sandbox = two_runs();
    let mut child = sandbox
        .command(&["log", "DIG-1"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut stderr = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut stderr)
        .unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0), "{stderr}");
    assert_eq!(stderr, "");
}

#[test]
fn colours_come_when_asked_for_and_never_into_a_pipe() {
    let sandbox = two_runs();
    assert!(!sandbox.run(&["runs"]).ok().contains('\x1b'));
    assert!(
        sandbox
            .run(&["runs", "--color", "always"])
            .ok()
            .contains('\x1b')
    );
    assert!(
        !sandbox
            .run(&["tree", "--color", "never"])
            .ok()
            .contains('\x1b')
    );
}

#[test]
fn an_ascii_locale_gets_ascii() {
    let sandbox = two_runs();
    let output = sandbox
        .command(&["tree"])
        .env("LC_ALL", "C")
        .output()
        .unwrap();
    assert!(
        output.stdout.is_ascii(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
}

#[test]
fn quiet_leaves_only_data() {
    let sandbox = two_runs();
    let ran = sandbox.run(&["fork", "DIG-1@50", "--quiet"]);
    assert_eq!(ran.stderr, "");
    assert_eq!(ran.ok(), "DIG-3\n");
}

#[test]
fn every_looking_command_speaks_json() {
    let sandbox = two_runs();
    for args in [
        &["runs"][..],
        &["show", "DIG-2"],
        &["show", "DIG-1@50"],
        &["tree", "DIG-1"],
        &["tree"],
        &["log", "DIG-2"],
        &["log", "DIG-2", "--console"],
        &["checkpoints", "DIG-2"],
        &["diff", "DIG-1", "DIG-2"],
        &["diff", "DIG-1@50", "DIG-1@100"],
        &["cat", "DIG-1@50"],
        &["cat", "DIG-1@50", "weight"],
        &["verify"],
        &["stats"],
        &["reindex"],
        &["project", "digits"],
        &["version"],
    ] {
        let mut args = args.to_vec();
        args.push("--json");
        let value = sandbox.run(&args).json();
        assert!(value.is_object() || value.is_array(), "{args:?}");
    }
}

#[test]
fn the_environment_names_store_and_project() {
    let sandbox = two_runs();
    let elsewhere = tempfile::tempdir().unwrap();
    let output = sandbox
        .command(&["show", "1", "--json"])
        .current_dir(elsewhere.path())
        .env("RUNTREE_STORE", sandbox.location())
        .env("RUNTREE_PROJECT", "digits")
        .output()
        .unwrap();
    let detail: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(detail["summary"]["display_id"], "DIG-1");
    assert_eq!(std::fs::read_dir(elsewhere.path()).unwrap().count(), 0);
}

#[test]
fn another_address_is_refused_without_a_token() {
    let sandbox = Sandbox::vacant();
    let stderr = sandbox
        .run(&["serve", "--host", "0.0.0.0", "--port", "0"])
        .fails(6);
    assert!(stderr.contains("--token"), "{stderr}");
    sandbox
        .run(&[
            "serve", "--host", "0.0.0.0", "--port", "0", "--token", "short",
        ])
        .fails(5);
    assert_eq!(sandbox.files("").len(), 0);
}

#[test]
fn serve_prints_its_address_answers_and_ends_well_when_told() {
    let sandbox = two_runs();
    let mut child = sandbox
        .command(&["serve", "--port", "0", "--log-requests"])
        .env("SSH_CONNECTION", "10.0.0.9 51234 10.0.0.5 22")
        .env("USER", "eva")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let port = line
        .trim()
        .strip_prefix("http://localhost:")
        .and_then(|rest| rest.strip_suffix('/'))
        .unwrap()
        .to_owned();
    let mut stream = TcpStream::connect(format!("127.0.0.1:{port}")).unwrap();
    write!(
        stream,
        "GET /api/v1/runs HTTP/1.1\r\nHost: localhost:{port}\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("DIG-2"), "{answer}");

    let told = Instant::now();
    let pid = i32::try_from(child.id()).unwrap();
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let mut stderr = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut stderr)
        .unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0), "{stderr}");
    assert!(told.elapsed() < Duration::from_secs(5));
    assert!(stderr.contains("GET /api/v1/runs 200 "), "{stderr}");
    assert!(
        stderr.contains(&format!("ssh -N -L {port}:localhost:{port} eva@10.0.0.5")),
        "{stderr}"
    );
}
