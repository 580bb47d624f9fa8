//! The manual is a contract.

use std::fmt::Write as _;

use crate::fixture::Sandbox;

const COMMANDS: [&str; 29] = [
    "runs",
    "show",
    "tree",
    "log",
    "checkpoints",
    "diff",
    "cat",
    "fork",
    "rewind",
    "pin",
    "unpin",
    "tag",
    "untag",
    "annotate",
    "delete",
    "undelete",
    "export",
    "export-metrics",
    "export-html",
    "import",
    "verify",
    "repair",
    "gc",
    "reindex",
    "seal",
    "stats",
    "serve",
    "project",
    "version",
];

#[test]
fn the_manual_lists_every_command() {
    let help = Sandbox::new().run(&["--help"]).ok();
    for command in COMMANDS {
        assert!(help.contains(&format!("\n  {command} ")), "{command}");
    }
    insta::assert_snapshot!(help);
}

#[test]
fn every_command_has_a_manual_of_its_own() {
    let sandbox = Sandbox::new();
    let mut manual = String::new();
    for command in COMMANDS {
        let help = sandbox.run(&[command, "--help"]).ok();
        let (own, global) = help.split_once("Global options:").unwrap();
        assert!(global.contains("--json"), "{command}");
        let own = own.trim_end();
        writeln!(manual, "$ runtree {command} --help\n{own}\n").unwrap();
    }
    insta::assert_snapshot!(manual);
}

#[test]
fn help_and_version_need_no_store_and_write_none() {
    let sandbox = Sandbox::vacant();
    assert_eq!(
        sandbox.run(&["version"]).ok(),
        format!("runtree {}\n", env!("CARGO_PKG_VERSION"))
    );
    sandbox.run(&["--version"]).ok();
    assert_eq!(sandbox.files("").len(), 0);
}

#[test]
fn a_wrong_command_line_ends_with_2_and_a_wrong_ref_says_how_refs_are_written() {
    let sandbox = Sandbox::new();
    assert!(sandbox.run(&["frobnicate"]).fails(2).contains("frobnicate"));
    assert!(sandbox.run(&["tag", "DIG-1"]).fails(2).contains("<TAG>"));
    let mut text = String::new();
    for reference in ["DIG-1@", "@500", "DIG-1@best:", "#x", "x~0"] {
        let ran = sandbox.run(&["show", reference]);
        write!(
            text,
            "$ runtree show {reference:?}   # {}\n{}",
            ran.code, ran.stderr
        )
        .unwrap();
    }
    insta::assert_snapshot!(text);
}
