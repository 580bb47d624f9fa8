//! A fork at a checkpoint of another store.

use runtree_core::ErrorKind;
use runtree_core::reference::Reference;
use runtree_engine::{Engine, ForkChoice, ForkSpec, sync};

use crate::support::{Bench, error_of};

fn reference(text: &str) -> Reference {
    text.parse().unwrap()
}

fn bring(from: &Engine, to: &Engine, text: &str) -> runtree_core::Result<sync::Brought> {
    sync::bring(from, to, &reference(text), None, &|_| {})
}

#[test]
fn the_newest_at_or_before_a_step_is_brought_and_nothing_else_of_the_run() {
    let (there, here) = (Bench::new(), Bench::new());
    let run = there.trained("a", 0..=40, &[10, 20, 30, 40]);
    let brought = bring(&there.engine, &here.engine, "a@<=35").unwrap();
    assert_eq!(brought.checkpoint.key.step.0, 30);
    assert_eq!((brought.report.checkpoints, brought.report.chunks), (1, 1));
    let fork = here
        .engine
        .fork(ForkSpec::new(ForkChoice::Reference(brought.reference)))
        .unwrap();
    let summary = here.engine.summary(fork).unwrap();
    assert_eq!(summary.fork_step.map(|step| step.0), Some(30));
    assert_eq!(summary.parent.unwrap().id, run.to_string());
    assert_eq!(here.steps(fork), (0..=30).collect::<Vec<_>>());
    assert!(here.engine.verify(None).unwrap().problems.is_empty());
    let again = bring(&there.engine, &here.engine, "a@<=30").unwrap();
    assert_eq!((again.report.chunks, again.report.bytes), (0, 0));
}

#[test]
fn a_run_of_the_same_name_here_is_another_one() {
    let (there, here) = (Bench::new(), Bench::new());
    let wanted = there.trained("a", 0..=10, &[5]);
    let lookalike = here.trained("a", 0..=20, &[12]);
    let brought = bring(&there.engine, &here.engine, "a").unwrap();
    assert_eq!(brought.checkpoint.run, wanted);
    assert_eq!(brought.checkpoint.key.step.0, 5);
    assert_ne!(brought.checkpoint.run, lookalike);
}

#[test]
fn what_a_fork_inherits_is_brought_from_its_owner() {
    let (there, here) = (Bench::new(), Bench::new());
    let root = there.trained("a", 0..=20, &[10, 20]);
    let child = there.forked(root, 20, 30, &[30]);
    let brought = bring(&there.engine, &here.engine, &format!("{child}@<=25")).unwrap();
    assert_eq!(brought.checkpoint.run, root);
    let fork = here
        .engine
        .fork(ForkSpec::new(ForkChoice::Reference(brought.reference)))
        .unwrap();
    let summary = here.engine.summary(fork).unwrap();
    assert_eq!(summary.parent.unwrap().id, child.to_string());
    assert_eq!(summary.owner.unwrap().id, root.to_string());
}

#[test]
fn what_is_not_there_is_not_found_there_and_what_is_deleted_here_is_not_forked() {
    let (there, here) = (Bench::new(), Bench::new());
    there.trained("a", 0..=20, &[10, 20]);
    let error = error_of(bring(&there.engine, &here.engine, "a@15"));
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.chain().contains("10, 20"), "{error:?}");
    let brought = bring(&there.engine, &here.engine, "a@10").unwrap();
    here.engine
        .delete_checkpoint(brought.checkpoint, "by hand")
        .unwrap();
    let error = error_of(bring(&there.engine, &here.engine, "a@10"));
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.hint().unwrap().contains("undelete"), "{error:?}");
}
