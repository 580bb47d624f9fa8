//! What a process has started, where its group is not its own: proc(5) says who whose child is.

use std::collections::BTreeMap;
use std::fs;

use rustix::process::{Pid, Signal, kill_process};

/// A process, told apart from a later one of the same number by when it was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Process {
    number: i32,
    started: u64,
}

impl Process {
    /// Whether it runs; one that has ended and is not waited for does not.
    pub(super) fn is_alive(&self) -> bool {
        stat(self.number).is_some_and(|stat| stat.started == self.started && stat.state != 'Z')
    }

    /// Signals it, if it is still the same.
    pub(super) fn signal(&self, signal: Signal) {
        if self.is_alive()
            && let Some(pid) = Pid::from_raw(self.number)
        {
            // It may end at this moment.
            let _ = kill_process(pid, signal);
        }
    }
}

struct Stat {
    state: char,
    parent: i32,
    started: u64,
}

fn stat(number: i32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{number}/stat")).ok()?;
    // Its name stands in parentheses, and may have any in it.
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?.chars().next()?;
    let parent = fields.next()?.parse().ok()?;
    // The 22nd of all, the 18th after the parent.
    let started = fields.nth(17)?.parse().ok()?;
    Some(Stat {
        state,
        parent,
        started,
    })
}

/// Everything that a process has started, and what that has: not itself. Nothing where there is no proc.
pub(super) fn below(process: u32) -> Vec<Process> {
    let mut children: BTreeMap<i32, Vec<Process>> = BTreeMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let number = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok());
        if let Some((number, stat)) = number.and_then(|number| Some((number, stat(number)?))) {
            let started = stat.started;
            children
                .entry(stat.parent)
                .or_default()
                .push(Process { number, started });
        }
    }
    let mut found = children.remove(&(process as i32)).unwrap_or_default();
    let mut at = 0;
    while at < found.len() {
        found.extend(children.remove(&found[at].number).unwrap_or_default());
        at += 1;
    }
    found
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn what_a_process_started_is_found_and_told_apart() {
        let mut shell = Command::new("sh")
            .args(["-c", "sleep 60 & wait"])
            .spawn()
            .unwrap();
        let child = loop {
            if let [child] = below(shell.id()).as_slice() {
                break *child;
            }
        };
        assert!(below(std::process::id()).contains(&child));
        assert!(child.is_alive());
        assert!(
            !Process {
                started: child.started + 1,
                ..child
            }
            .is_alive()
        );
        child.signal(Signal::KILL);
        shell.wait().unwrap();
        assert!(!child.is_alive());
    }
}
