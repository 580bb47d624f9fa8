use std::io::{BufRead as _, BufReader, ErrorKind, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use runtree_shm::{Room, sweep, tidy};

const SHELF: &str = "store";
const LONG_AGO: SystemTime = SystemTime::UNIX_EPOCH;
const BASE: &str = "RUNTREE_TEST_BASE";
const BYTES: usize = 3 << 20;

fn home(base: &Path) -> PathBuf {
    base.join(format!("runtree-{}", rustix::process::getuid().as_raw()))
}

fn rooms_left(base: &Path) -> usize {
    std::fs::read_dir(home(base).join(SHELF))
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().path().is_dir())
        .count()
}

/// A process that lives in a room, with memory and a note in it, until it is killed or its input ends.
fn inhabitant(base: &Path, act: &str) -> Child {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "rooms::child", "--ignored", "--nocapture"])
        .env(BASE, base)
        .env("RUNTREE_TEST_ACT", act)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("ready")));
    child
}

#[test]
#[ignore = "the child process of the other tests"]
fn child() {
    let base = PathBuf::from(std::env::var_os(BASE).unwrap());
    let room = Room::create(&base, SHELF).unwrap();
    let mut memory = room.memory(BYTES).unwrap();
    memory[0] = 1;
    memory[BYTES - 1] = 2;
    if std::env::var_os("RUNTREE_TEST_ACT").unwrap() == "note" {
        let names = [memory.name().to_owned()];
        room.write_note("save", &names, names[0].as_bytes())
            .unwrap();
        std::mem::forget(room.memory(4096).unwrap());
    }
    let mut out = std::io::stdout();
    writeln!(out, "ready").unwrap();
    out.flush().unwrap();
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    runtree_shm::leave_all();
    std::process::exit(0);
}

#[test]
fn what_a_killed_process_left_is_found_whole_and_once() {
    let base = tempfile::tempdir_in("/dev/shm").unwrap();
    let mut child = inhabitant(base.path(), "note");
    assert!(
        sweep(base.path(), SHELF).unwrap().rooms.is_empty(),
        "its process lives"
    );
    child.kill().unwrap();
    child.wait().unwrap();

    let mut found = sweep(base.path(), SHELF).unwrap();
    let room = found.rooms.pop().unwrap();
    assert_eq!(room.notes().unwrap(), ["save"]);
    assert!(room.written("save").unwrap().elapsed().unwrap() < Duration::from_secs(60));
    let name = String::from_utf8(room.read_note("save").unwrap()).unwrap();
    let memory = room.memory(&name).unwrap();
    assert_eq!(memory.as_ref().len(), BYTES);
    assert_eq!((memory.as_ref()[0], memory.as_ref()[BYTES - 1]), (1, 2));
    assert!(room.memory("../m0").is_err() && room.memory("owner").is_err());
    room.tidy(LONG_AGO).unwrap();
    drop((room, found));
    let path = home(base.path())
        .join(SHELF)
        .join(format!("{}-0", child.id()));
    let left = std::fs::read_dir(path).unwrap().count();
    assert_eq!(
        left, 3,
        "lock, note and what it is about; other memory is gone"
    );
    let far_future = LONG_AGO + Duration::from_secs(1 << 33);
    tidy(base.path(), far_future).unwrap();
    assert_eq!(memory.as_ref()[0], 1, "mapped memory stays");
    assert!(sweep(base.path(), SHELF).unwrap().rooms.is_empty());
    assert_eq!(rooms_left(base.path()), 0);
}

#[test]
fn who_leaves_takes_everything_along_but_notes() {
    let base = tempfile::tempdir_in("/dev/shm").unwrap();
    for (act, left) in [("none", 0), ("note", 1)] {
        let mut child = inhabitant(base.path(), act);
        assert_eq!(rooms_left(base.path()), 1);
        drop(child.stdin.take());
        child.wait().unwrap();
        assert_eq!(rooms_left(base.path()), left);
    }
}

#[test]
fn a_process_does_not_sweep_its_own_rooms_and_drops_their_names() {
    let base = tempfile::tempdir_in("/dev/shm").unwrap();
    let room = Room::create(base.path(), SHELF).unwrap();
    let other = Room::create(base.path(), SHELF).unwrap();
    let memory = room.memory(4096).unwrap();
    room.write_note("save", &[], b"1").unwrap();
    assert!(sweep(base.path(), SHELF).unwrap().rooms.is_empty());
    drop((memory, other));
    room.remove_note("save").unwrap();
    room.remove_note("save").unwrap();
    drop(room);
    assert_eq!(rooms_left(base.path()), 0);
}

#[test]
fn two_who_sweep_take_turns_and_others_go_on() {
    let base = tempfile::tempdir_in("/dev/shm").unwrap();
    let first = sweep(base.path(), SHELF).unwrap();
    let waiting = AtomicBool::new(true);
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            drop(sweep(base.path(), SHELF).unwrap());
            waiting.load(Ordering::SeqCst)
        });
        // Neither a room nor another shelf has to wait for it, and a tidy passes it over.
        drop(Room::create(base.path(), SHELF).unwrap());
        drop(sweep(base.path(), "another").unwrap());
        tidy(base.path(), LONG_AGO).unwrap();
        // Another process waits, too: it is killed while it does.
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "rooms::sweeping_child",
                "--ignored",
                "--nocapture",
            ])
            .env(BASE, base.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains("sweeping")));
        assert!(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
        waiting.store(false, Ordering::SeqCst);
        drop(first);
        assert!(!thread.join().unwrap(), "it had to wait");
    });
    drop(sweep(base.path(), SHELF).unwrap());
}

#[test]
#[ignore = "the child process of another test"]
fn sweeping_child() {
    let base = PathBuf::from(std::env::var_os(BASE).unwrap());
    writeln!(std::io::stdout(), "sweeping").unwrap();
    drop(sweep(&base, SHELF).unwrap());
}

#[test]
fn a_room_by_another_name_is_the_same_room() {
    let base = tempfile::tempdir_in("/dev/shm").unwrap();
    let links = tempfile::tempdir().unwrap();
    let link = links.path().join("link");
    std::os::unix::fs::symlink(base.path(), &link).unwrap();
    let room = Room::create(base.path(), SHELF).unwrap();
    assert!(
        sweep(&link, SHELF).unwrap().rooms.is_empty(),
        "it is its own"
    );
    drop(room);
}

#[test]
fn a_dead_process_of_the_same_number_is_another() {
    let base = tempfile::tempdir_in("/dev/shm").unwrap();
    let mut child = inhabitant(base.path(), "note");
    child.kill().unwrap();
    child.wait().unwrap();
    let shelf = home(base.path()).join(SHELF);
    let left = shelf.join(format!("{}-0", std::process::id()));
    std::fs::rename(shelf.join(format!("{}-0", child.id())), &left).unwrap();
    let room = Room::create(base.path(), SHELF).unwrap();
    let found = sweep(base.path(), SHELF).unwrap();
    assert_eq!(found.rooms.len(), 1);
    assert_eq!(found.rooms[0].notes().unwrap(), ["save"]);
    drop(room);
    assert!(left.exists());
}

#[test]
fn rooms_come_and_go_while_others_sweep() {
    let base = tempfile::tempdir_in("/dev/shm").unwrap();
    let mut children: Vec<Child> = (0..3)
        .map(|_| {
            Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "rooms::coming_and_going_child", "--ignored"])
                .env(BASE, base.path())
                .stdout(Stdio::null())
                .spawn()
                .unwrap()
        })
        .collect();
    let is_running = |child: &mut Child| child.try_wait().unwrap().is_none();
    while children.iter_mut().any(is_running) {
        drop(sweep(base.path(), SHELF).unwrap());
        tidy(base.path(), LONG_AGO).unwrap();
    }
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
}

#[test]
#[ignore = "the child process of another test"]
fn coming_and_going_child() {
    let base = PathBuf::from(std::env::var_os(BASE).unwrap());
    for _ in 0..300 {
        let room = Room::create(&base, SHELF).unwrap();
        room.write_note("save", &[], b"").unwrap();
        room.remove_note("save").unwrap();
    }
}

#[test]
fn a_directory_that_others_may_enter_is_not_used() {
    let base = tempfile::tempdir_in("/dev/shm").unwrap();
    std::fs::create_dir(home(base.path())).unwrap();
    std::fs::set_permissions(home(base.path()), PermissionsExt::from_mode(0o770)).unwrap();
    let refused = Room::create(base.path(), SHELF).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::PermissionDenied);
    std::fs::remove_dir(home(base.path())).unwrap();
    std::os::unix::fs::symlink("/tmp", home(base.path())).unwrap();
    assert!(Room::create(base.path(), SHELF).is_err());
}

#[test]
fn a_disk_is_not_used() {
    let base = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let refused = Room::create(base.path(), SHELF).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unsupported);
    assert_eq!(std::fs::read_dir(base.path()).unwrap().count(), 0);
}

#[test]
fn half_of_the_file_system_is_left_to_others() {
    let base = tempfile::tempdir_in("/dev/shm").unwrap();
    let room = Room::create(base.path(), SHELF).unwrap();
    let system = rustix::fs::statvfs(base.path()).unwrap();
    let half = system.f_blocks * system.f_frsize / 2;
    let refused = room.memory(half as usize + (1 << 20)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::StorageFull);
    assert!(room.memory(1 << 20).is_ok());
    drop(room);
    assert_eq!(rooms_left(base.path()), 0);
}
