//! The processes of a command: one for each node, each with what it starts.

use std::ffi::OsString;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, ExitStatus, Stdio};

use runtree_core::{Error, Result};
use rustix::process::{Pid, Signal, kill_process, kill_process_group, test_kill_process_group};

use super::Variables;
use super::processes::{self, Process};
use super::signals::{Came, name_of};

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// With a code.
    Code(u8),
    /// By a signal.
    Signal(i32),
}

impl Ended {
    fn of(status: ExitStatus) -> Self {
        match (status.code(), status.signal()) {
            (Some(code), _) => Self::Code(code as u8),
            (None, signal) => Self::Signal(signal.unwrap_or(0)),
        }
    }

    /// What a shell makes of it.
    pub(super) fn code(self) -> u8 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128_u8.saturating_add(signal as u8),
        }
    }

    pub(super) fn is_well(self) -> bool {
        self == Self::Code(0)
    }
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Code(code) => write!(f, "ended with {code}"),
            Self::Signal(signal) => write!(f, "was ended by {}", name_of(*signal)),
        }
    }
}

/// Whose group the processes are in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Group {
    /// That of this process: they can read from the terminal, which sends Ctrl-C to all.
    Foreground,
    /// Each in its own: all that it starts is signalled with it.
    Own,
}

/// Running processes.
pub(super) struct Nodes {
    children: Vec<(Child, Option<Ended>)>,
    group: Group,
    /// What a child in the foreground had started when it was signalled: it shares its group with others.
    descendants: Vec<Process>,
}

impl Nodes {
    /// Starts a command for each set of variables.
    ///
    /// # Errors
    /// `NotFound` if there is no such command, `Denied` if it may not be run.
    pub(super) fn start(
        command: &[OsString],
        variables: &[Variables],
        group: Group,
        has_terminal: bool,
    ) -> Result<Self> {
        let mut nodes = Self {
            children: Vec::new(),
            group,
            descendants: Vec::new(),
        };
        for own in variables {
            let mut process = Command::new(&command[0]);
            process.args(&command[1..]).envs(own);
            if group == Group::Own {
                process.process_group(0);
                // Who is not in the foreground is stopped when it reads from a terminal.
                if has_terminal {
                    process.stdin(Stdio::null());
                }
            }
            match process.spawn() {
                Ok(child) => nodes.children.push((child, None)),
                Err(error) => {
                    nodes.kill();
                    return Err(can_not_start(&command[0], error));
                }
            }
        }
        Ok(nodes)
    }

    /// How the command ended, once all of its processes have: as the first that failed did.
    pub(super) fn poll(&mut self) -> Result<Option<Ended>> {
        let failed = |error| Error::unavailable("can not wait for the command").with_source(error);
        for (child, ended) in &mut self.children {
            if ended.is_none() {
                *ended = child.try_wait().map_err(failed)?.map(Ended::of);
            }
        }
        if self.children.iter().any(|(_, ended)| ended.is_none()) {
            return Ok(None);
        }
        let all = self.children.iter().filter_map(|(_, ended)| *ended);
        // What was ended because another failed was ended by a signal from here.
        let worst = all.min_by_key(|ended| match ended {
            Ended::Code(0) => 2,
            Ended::Code(_) => 0,
            Ended::Signal(_) => 1,
        });
        Ok(Some(worst.unwrap_or(Ended::Code(0))))
    }

    /// Whether one of several failed, so that the others wait for it in vain.
    pub(super) fn has_failed(&self) -> bool {
        self.children
            .iter()
            .any(|(_, ended)| ended.is_some_and(|ended| !ended.is_well()))
    }

    /// Whether what a process started goes on after it: a shell that a signal ended leaves behind what it ran.
    pub(super) fn has_left(&self) -> bool {
        match self.group {
            Group::Own => {
                let is_alive =
                    |child: &Child| test_kill_process_group(Pid::from_child(child)).is_ok();
                self.children.iter().any(|(child, _)| is_alive(child))
            }
            Group::Foreground => self.descendants.iter().any(Process::is_alive),
        }
    }

    /// Passes a signal on to those that run.
    pub(super) fn pass_on(&mut self, came: Came) {
        // The terminal has sent it to the foreground already.
        if self.group == Group::Foreground {
            let running = self.children.iter().filter(|(_, ended)| ended.is_none());
            let found = running.flat_map(|(child, _)| processes::below(child.id()));
            self.descendants.extend(found);
            if came.by_terminal {
                return;
            }
        }
        if let Some(signal) = Signal::from_named_raw(came.signal) {
            self.signal(signal);
        }
    }

    /// Asks those that run to end.
    pub(super) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Ends those that run, and what they started.
    pub(super) fn kill(&self) {
        self.signal(Signal::KILL);
    }

    /// Ends what processes that ended left running: it would write where the next ones do.
    pub(super) fn sweep(&self) {
        if self.group == Group::Own {
            for (child, _) in &self.children {
                // Nothing is left, usually.
                let _ = kill_process_group(Pid::from_child(child), Signal::KILL);
            }
        }
    }

    fn signal(&self, signal: Signal) {
        for process in &self.descendants {
            process.signal(signal);
        }
        for (child, ended) in &self.children {
            let pid = Pid::from_child(child);
            // One that ends at this moment can not be signalled, and need not be.
            let _ = match (ended, self.group) {
                (Some(_), _) => Ok(()),
                (None, Group::Own) => kill_process_group(pid, signal),
                (None, Group::Foreground) => kill_process(pid, signal),
            };
        }
    }
}

fn can_not_start(command: &OsString, error: std::io::Error) -> Error {
    let name = command.display();
    match error.kind() {
        std::io::ErrorKind::NotFound => Error::not_found(format!("there is no command {name}"))
            .with_hint("check its name, and PATH"),
        std::io::ErrorKind::PermissionDenied => Error::denied(format!("{name} may not be run"))
            .with_hint(format!(
                "chmod +x {name}, or name its interpreter before it"
            )),
        _ => Error::unavailable(format!("can not start {name}")),
    }
    .with_source(error)
}
