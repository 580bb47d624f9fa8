//! The file: several processes and threads, deletion, damage, other schemas.

use std::io::{BufRead as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use runtree_core::ErrorKind;
use runtree_index::{FoldItem, Index, SqliteIndex};

use crate::builder::{Journal, attempt_id, fold, own_points, pairs, run, run_id, show};

const FRAMES: i64 = 60;

fn journal(n: u64) -> Journal {
    (0..FRAMES).fold(Journal::opened(n, 1, n, 0), |journal, step| {
        journal.points(&[("loss", step, step as f64), ("acc", step, -1.0)])
    })
}

/// Folds the journals of four runs frame by frame, as a process that finds others at the same work.
fn fold_all(folder: &Path, reverse: bool) {
    let index = SqliteIndex::open(folder).unwrap();
    let mut journals: Vec<_> = (1..=4).map(journal).collect();
    if reverse {
        journals.reverse();
    }
    for journal in &journals {
        fold(&index, run(journal.run, None));
        loop {
            let at = index.cursor(run_id(journal.run), journal.writer).unwrap();
            let from = at.ordinal as usize;
            if from == journal.frames.len() {
                break;
            }
            match index.apply(&[journal.range(from, from + 1)]) {
                Ok(()) => {}
                Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict, "{}", error.chain()),
            }
            if from.is_multiple_of(20) {
                drop(index.snapshot().unwrap());
            }
        }
    }
}

fn assert_all_folded(index: &dyn Index) {
    let expected: Vec<_> = (0..FRAMES).map(|step| (step, step as f64)).collect();
    for n in 1..=4 {
        assert_eq!(
            show(index, n).metrics["loss"].last.value,
            (FRAMES - 1) as f64
        );
        let snapshot = index.snapshot().unwrap();
        let points = own_points(snapshot.as_ref(), attempt_id(n, 1), "loss");
        assert_eq!(pairs(&points), expected);
    }
}

#[test]
fn threads_that_fold_the_same_journals_lose_and_repeat_nothing() {
    let fixture = crate::sqlite();
    let folder = fixture.folder.path();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            scope.spawn(move || fold_all(folder, thread % 2 == 1));
        }
    });
    assert_all_folded(fixture.index.as_ref());
}

#[test]
fn one_handle_serves_many_threads() {
    let fixture = crate::sqlite();
    let index = fixture.index.as_ref();
    std::thread::scope(|scope| {
        for n in 1..=4 {
            scope.spawn(move || {
                fold(index, run(n, None));
                let journal = journal(n);
                for frame in 0..journal.frames.len() {
                    fold(index, [journal.range(frame, frame + 1)]);
                    assert!(
                        index
                            .snapshot()
                            .unwrap()
                            .checkpoints(run_id(n))
                            .unwrap()
                            .is_empty()
                    );
                }
            });
        }
    });
    assert_all_folded(index);
}

#[test]
fn processes_that_open_and_fold_at_once_lose_and_repeat_nothing() {
    // The file does not exist yet: they also race to make it.
    let folder = tempfile::tempdir().unwrap();
    let mut children: Vec<_> = (0..3)
        .map(|_| {
            Command::new(std::env::current_exe().unwrap())
                .args([
                    "--exact",
                    "files::a_process_folds_where_stdin_says",
                    "--ignored",
                ])
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .spawn()
                .unwrap()
        })
        .collect();
    for child in &mut children {
        let mut stdin = child.stdin.take().unwrap();
        writeln!(stdin, "{}", folder.path().display()).unwrap();
    }
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    assert_all_folded(&SqliteIndex::open(folder.path()).unwrap());
}

#[test]
#[ignore = "one of the processes that another test starts"]
fn a_process_folds_where_stdin_says() {
    let mut folder = String::new();
    std::io::stdin().lock().read_line(&mut folder).unwrap();
    fold_all(
        Path::new(folder.trim()),
        std::process::id().is_multiple_of(2),
    );
}

#[test]
fn a_snapshot_does_not_see_later_folds_and_holds_none_up() {
    let fixture = crate::sqlite();
    let index = fixture.index.as_ref();
    fold(index, run(1, None));
    let journal = journal(1);
    fold(index, [journal.range(0, 2)]);
    let before = index.snapshot().unwrap();
    let started = Instant::now();
    fold(index, [journal.range(2, 10)]);
    assert!(
        started.elapsed().as_secs() < 5,
        "a fold waited for a reader"
    );
    let points = own_points(before.as_ref(), attempt_id(1, 1), "loss");
    assert_eq!(points.len(), 1);
    drop(before);
    let after = index.snapshot().unwrap();
    assert_eq!(
        own_points(after.as_ref(), attempt_id(1, 1), "loss").len(),
        9
    );
}

fn folded(index: &dyn Index) -> Result<u64, runtree_core::Error> {
    Ok(index.cursor(run_id(1), journal(1).writer)?.ordinal)
}

#[test]
fn an_open_index_goes_on_when_its_file_is_deleted() {
    let fixture = crate::sqlite();
    let index = fixture.index.as_ref();
    fold(index, run(1, None));
    fold(index, [journal(1).whole()]);
    drop(index.snapshot().unwrap());
    for entry in std::fs::read_dir(fixture.folder.path()).unwrap() {
        std::fs::remove_file(entry.unwrap().path()).unwrap();
    }
    assert_eq!(folded(index).unwrap(), 0, "begun anew");
    fold(index, run(1, None));
    fold(index, [journal(1).whole()]);
    assert_eq!(
        folded(&SqliteIndex::open(fixture.folder.path()).unwrap()).unwrap(),
        61
    );
    assert_eq!(show(index, 1).metrics["loss"].last.value, 59.0);
}

#[test]
fn a_folder_that_is_removed_comes_back() {
    let fixture = crate::sqlite();
    let index = fixture.index.as_ref();
    fold(index, run(1, None));
    std::fs::remove_dir_all(fixture.folder.path()).unwrap();
    fold(index, run(1, None));
    assert_eq!(show(index, 1).name, "run-1");
}

fn overwrite(folder: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let path = folder.join("index-v4.db");
    let mut bytes = std::fs::read(&path).unwrap();
    change(&mut bytes);
    std::fs::write(&path, bytes).unwrap();
}

#[test]
fn a_file_that_is_no_database_is_begun_anew() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join("index-v4.db"),
        b"hello, I am a diary, not a database",
    )
    .unwrap();
    let index = SqliteIndex::open(folder.path()).unwrap();
    fold(&index, run(1, None));
    assert_eq!(show(&index, 1).name, "run-1");
    assert!(
        folder.path().join("index-v4.db.damaged").exists(),
        "the diary was kept"
    );
}

#[test]
fn a_file_of_another_schema_is_begun_anew() {
    let folder = tempfile::tempdir().unwrap();
    drop(SqliteIndex::open(folder.path()).unwrap());
    // `PRAGMA user_version` is the big-endian number at byte 60.
    overwrite(folder.path(), |bytes| {
        bytes[60..64].copy_from_slice(&9_u32.to_be_bytes());
    });
    let index = SqliteIndex::open(folder.path()).unwrap();
    fold(&index, run(1, None));
    assert_eq!(show(&index, 1).name, "run-1");
}

#[test]
fn damage_met_in_use_says_fold_again_and_then_works() {
    let folder = tempfile::tempdir().unwrap();
    {
        let index = SqliteIndex::open(folder.path()).unwrap();
        for n in 1..=50 {
            fold(&index, run(n, None));
        }
        drop(index.snapshot().unwrap());
    }
    let path = folder.path().join("index-v4.db");
    let page: i64 = rusqlite::Connection::open(path)
        .unwrap()
        .query_row(
            "SELECT rootpage FROM sqlite_schema WHERE name = 'run'",
            [],
            |row| row.get(0),
        )
        .unwrap();
    let page = page as usize;
    // Of the table alone: damage of the schema is noticed when the file is opened.
    overwrite(folder.path(), |bytes| {
        bytes[8192 * (page - 1)..8192 * page].fill(0xa5);
    });
    let index = SqliteIndex::open(folder.path()).unwrap();
    let error = index.apply(&run(1, None)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{}", error.chain());
    assert!(error.hint().unwrap().contains("reindex"));
    fold(&index, run(1, None));
    assert_eq!(show(&index, 1).name, "run-1");
}

#[test]
fn clear_heals_a_damaged_file() {
    let folder = tempfile::tempdir().unwrap();
    {
        let index = SqliteIndex::open(folder.path()).unwrap();
        fold(&index, run(1, None));
    }
    overwrite(folder.path(), |bytes| bytes[8192..].fill(0xa5));
    let index = SqliteIndex::open(folder.path()).unwrap();
    index.clear().unwrap();
    fold(&index, run(1, None));
    assert_eq!(show(&index, 1).name, "run-1");
}

#[test]
fn clear_forgets_everything() {
    let fixture = crate::sqlite();
    let index = fixture.index.as_ref();
    fold(index, run(1, None));
    let stamp = FoldItem::Stamp {
        key: "k".to_owned(),
        value: b"v".to_vec(),
    };
    fold(index, [journal(1).whole(), stamp]);
    index.clear().unwrap();
    assert_eq!(folded(index).unwrap(), 0);
    assert_eq!(index.stamp("k").unwrap(), None);
    assert!(
        index
            .snapshot()
            .unwrap()
            .attempts(run_id(1))
            .unwrap()
            .is_empty()
    );
}

#[test]
fn what_a_reader_remembers_ends_with_the_fold_of_another_process() {
    let fixture = crate::sqlite();
    let other = SqliteIndex::open(fixture.folder.path()).unwrap();
    fold(fixture.index.as_ref(), run(1, None));
    let journal = journal(1);
    for frames in 0..FRAMES as usize {
        fold(&other, [journal.range(frames, frames + 1)]);
        let snapshot = fixture.index.snapshot().unwrap();
        let points = own_points(snapshot.as_ref(), attempt_id(1, 1), "loss");
        assert_eq!(points.len(), frames);
    }
}
