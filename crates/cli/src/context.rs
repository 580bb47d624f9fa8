//! Resolved arguments: what a command works with instead of strings and variables.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use runtree_core::manifest::CheckpointName;
use runtree_core::reference::Reference;
use runtree_core::{CheckpointId, Clock as _, Error, Result, RunId, Timestamp, wire};
use runtree_engine::{
    Engine, EngineOptions, OpenMode, Purpose, Store, SystemClock, discover_store,
};

use crate::args::{ColorChoice, Globals};
use crate::environment::Environment;
use crate::look::Look;
use crate::output::Output;

/// What every command has.
pub(crate) struct Context {
    globals: Globals,
    pub(crate) environment: Environment,
    pub(crate) out: Output,
}

/// What a user named: a REF, or a checkpoint by its id alone.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    Id(CheckpointId),
    Reference(Reference),
}

impl std::str::FromStr for Target {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.parse() {
            Ok(id) => Ok(Self::Id(id)),
            Err(_) => text.parse().map(Self::Reference),
        }
    }
}

impl Target {
    /// Whether a checkpoint is named rather than a run.
    pub(crate) fn names_checkpoint(&self) -> bool {
        match self {
            Self::Id(_) => true,
            Self::Reference(reference) => reference.selector.is_some(),
        }
    }

    /// The store that it names.
    pub(crate) fn store(&self) -> Option<&str> {
        match self {
            Self::Id(_) => None,
            Self::Reference(reference) => reference.store.as_deref(),
        }
    }
}

/// The time.
pub(crate) fn now() -> Timestamp {
    SystemClock.now()
}

/// An open store and the project that names are looked up in.
pub(crate) struct Session {
    pub(crate) engine: Arc<Engine>,
    project: Option<String>,
}

impl Context {
    pub(crate) fn new(globals: Globals, environment: Environment) -> Self {
        let colored = |terminal: bool| match globals.color {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => terminal && !environment.no_color,
        };
        let look = |terminal: bool| Look {
            color: colored(terminal),
            unicode: environment.unicode,
            width: environment.width,
        };
        let out = Output::new(
            look(environment.stdout_is_terminal),
            look(environment.stderr_is_terminal),
            globals.json,
            globals.quiet,
            environment.stderr_is_terminal,
        );
        Self {
            globals,
            environment,
            out,
        }
    }

    /// The project of `--project` or `RUNTREE_PROJECT`.
    pub(crate) fn project(&self) -> Option<&str> {
        self.globals
            .project
            .as_deref()
            .or(self.environment.project.as_deref())
    }

    /// Opens the store that `targets` name before `#`, else that of `--store`, else the nearest.
    pub(crate) fn open(&self, mode: OpenMode, targets: &[&Target]) -> Result<Session> {
        let mut named = targets.iter().filter_map(|target| target.store());
        let first = named.next();
        if let Some(other) = named.find(|&other| Some(other) != first) {
            return Err(Error::unsupported(format!(
                "{other:?} and {:?} are two stores, and one command works on one",
                first.unwrap_or_default()
            ))
            .with_hint("export from one store and import into the other"));
        }
        let location = self.location(first)?;
        let options = EngineOptions::new(location, self.environment.cache_dir()?)
            .with_mode(mode)
            .with_settings(self.environment.settings.clone());
        Ok(Session {
            engine: Engine::open(options)?,
            project: self.project().map(str::to_owned),
        })
    }

    /// The store at a place that is named, as a session.
    pub(crate) fn open_at(&self, place: &str, mode: OpenMode) -> Result<Session> {
        let options = EngineOptions::new(place, self.environment.cache_dir()?)
            .with_mode(mode)
            .with_settings(self.environment.settings.clone());
        Ok(Session {
            engine: Engine::open(options)?,
            project: self.project().map(str::to_owned),
        })
    }

    /// The store at a place that is named, without an index.
    pub(crate) fn open_other(&self, place: &str, mode: OpenMode) -> Result<Store> {
        let settings = &self.environment.settings;
        runtree_engine::open_store(std::path::Path::new(place), settings, mode, now())
    }

    /// The other store of a command: as `option` says, else `RUNTREE_REMOTE`.
    pub(crate) fn remote(&self, given: Option<&str>, option: &str) -> Result<String> {
        let place = given.or(self.environment.remote.as_deref());
        place.map(str::to_owned).ok_or_else(|| {
            Error::invalid("no other store is named").with_hint(format!(
                "give {option} s3://bucket/prefix, or set RUNTREE_REMOTE"
            ))
        })
    }

    /// Whether a place that a REF names is the store at hand.
    pub(crate) fn is_at_hand(&self, place: &str) -> Result<bool> {
        let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        Ok(absolute(&self.location(Some(place))?) == absolute(&self.location(None)?))
    }

    pub(crate) fn location(&self, named: Option<&str>) -> Result<PathBuf> {
        let explicit = named
            .or(self.globals.store.as_deref())
            .or(self.environment.store.as_deref());
        Ok(discover_store(self.environment.directory()?, explicit))
    }
}

impl Session {
    pub(crate) fn project(&self) -> Option<&str> {
        self.project.as_deref()
    }

    /// The run that `target` names, whatever its selector.
    pub(crate) fn run(&self, target: &Target, purpose: Purpose) -> Result<RunId> {
        match target {
            Target::Id(id) => Ok(self.engine.find_checkpoint(*id)?.run),
            Target::Reference(reference) => {
                let run = Reference {
                    selector: None,
                    ..reference.clone()
                };
                Ok(self.engine.resolve(&run, self.project(), purpose)?.run)
            }
        }
    }

    /// The checkpoint that `target` names; the newest of a bare run.
    pub(crate) fn checkpoint(&self, target: &Target, purpose: Purpose) -> Result<CheckpointName> {
        match target {
            Target::Id(id) => self.engine.find_checkpoint(*id),
            Target::Reference(reference) => {
                self.engine
                    .resolve_checkpoint(reference, self.project(), purpose)
            }
        }
    }

    /// The REF that `target` means, with a checkpoint's id spelled out.
    pub(crate) fn reference(&self, target: &Target) -> Result<Reference> {
        match target {
            Target::Reference(reference) => Ok(reference.clone()),
            Target::Id(id) => {
                let info = self.checkpoint_info(self.engine.find_checkpoint(*id)?)?;
                format!("{}@{id}", info.run.id).parse()
            }
        }
    }

    pub(crate) fn checkpoint_info(&self, name: CheckpointName) -> Result<wire::CheckpointInfo> {
        self.engine.checkpoint_info(name)
    }
}
