//! A job: what it loads, the run that it saves into, and its launches.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use runtree_core::event::RunStatus;
use runtree_core::manifest::CheckpointName;
use runtree_core::reference::Reference;
use runtree_core::{CheckpointId, Error, ErrorKind, Result};
use runtree_engine::job::{Ending, Placed, Placing, Taker, Wanted, Watch, WatchOptions};
use runtree_engine::layouts::Folder;
use runtree_engine::{
    Engine, ForkChoice, LaunchKey, OpenMode, Purpose, ResumePolicy, RunSpec, RunWriter,
};
use serde_json::Value;

use super::Variables;
use super::naming::{absolute, made_key, project_of, resolve, shown, store_of};
use super::signals::Signals;
use super::supervise;
use super::variables::{Told, ToldRun, variables};
use crate::context::Context;
use crate::human;
use crate::look::clean;

/// What to load, and for how many.
pub(super) struct Loading {
    pub(super) wanted: Vec<Wanted>,
    pub(super) into: Option<PathBuf>,
    pub(super) nodes: usize,
}

/// What the run is.
pub(super) struct Identity {
    pub(super) key: Option<String>,
    pub(super) name: Option<String>,
    pub(super) config: Option<Value>,
    pub(super) fork: bool,
}

/// A job, between launches.
pub(super) struct Job {
    /// The store that is loaded from.
    source: Arc<Engine>,
    loaded: Vec<CheckpointName>,
    root: Root,
    nodes: usize,
    run: Option<JobRun>,
}

/// Where it is loaded to.
enum Root {
    Named(PathBuf),
    /// Goes away with the job.
    Own(Folder),
    /// There is nothing to load.
    None,
}

/// The run of a job.
struct JobRun {
    engine: Arc<Engine>,
    spec: RunSpec,
    key: String,
    /// Where each node writes.
    directories: Vec<PathBuf>,
}

/// A launch of a job, until its command has ended.
pub(super) struct Launch {
    pub(super) variables: Vec<Variables>,
    pub(super) writer: Option<Arc<RunWriter>>,
}

impl Job {
    /// A job that only loads.
    pub(super) fn without_run(context: &mut Context, loading: Loading) -> Result<Self> {
        if loading.wanted.is_empty() {
            let engine = context.open(OpenMode::Create, &[])?.engine;
            return Ok(Self {
                source: engine,
                loaded: Vec::new(),
                root: Root::None,
                nodes: loading.nodes,
                run: None,
            });
        }
        let source = match store_of(&loading.wanted)? {
            Some(place) => context.open_at(place, OpenMode::ReadOnly)?.engine,
            None => context.open(OpenMode::ReadOnly, &[])?.engine,
        };
        let loaded = resolve(&source, &loading.wanted, context.project())?;
        let root = Root::of(&source, loading.into)?;
        Ok(Self {
            source,
            loaded,
            root,
            nodes: loading.nodes,
            run: None,
        })
    }

    /// A job that is a run.
    pub(super) fn with_run(
        context: &mut Context,
        loading: Loading,
        identity: Identity,
        checkpoints: Option<PathBuf>,
    ) -> Result<Self> {
        let engine = context.open(OpenMode::Create, &[])?.engine;
        let source = match store_of(&loading.wanted)? {
            Some(place) if !context.is_at_hand(place)? => {
                context.open_at(place, OpenMode::ReadOnly)?.engine
            }
            _ => Arc::clone(&engine),
        };
        let loaded = resolve(&source, &loading.wanted, context.project())?;
        let project = project_of(context, &source, &loaded)?;
        let key = identity.key.unwrap_or_else(made_key);
        let mut spec = RunSpec::new(project.parse()?);
        spec.key = Some(key.clone());
        spec.resume = ResumePolicy::Allow;
        spec.name = identity.name;
        spec.config = identity.config;
        let start = match loaded.as_slice() {
            [only] if Arc::ptr_eq(&source, &engine) => Some(
                format!("{}@{}", only.run, CheckpointId::of(only.run, only.key))
                    .parse::<Reference>()?,
            ),
            _ => None,
        };
        match (start, identity.fork) {
            (Some(start), true) => spec.fork = ForkChoice::Reference(start),
            (start, false) => spec.base = start,
            (None, true) => {
                return Err(
                    Error::invalid("a fork starts from one checkpoint of the same store")
                        .with_hint("name one with --load; of another store after runtree pull"),
                );
            }
        }
        let directories = match checkpoints {
            None => Vec::new(),
            Some(directory) if loading.nodes == 1 => vec![directory],
            Some(directory) => (0..loading.nodes)
                .map(|node| directory.join(format!("rank-{node}")))
                .collect(),
        };
        let root = match loading.into {
            // A launch that goes on from its own checkpoint needs a place, too.
            None if loaded.is_empty() && directories.is_empty() => Root::None,
            into => Root::of(&engine, into)?,
        };
        let run = JobRun {
            engine,
            spec,
            key,
            directories,
        };
        Ok(Self {
            source,
            loaded,
            root,
            nodes: loading.nodes,
            run: Some(run),
        })
    }

    /// Begins to watch for checkpoints. What an earlier launch of the run left there, whole and not taken in, is taken in.
    pub(super) fn watch(
        &self,
        settle: std::time::Duration,
        context: &mut Context,
    ) -> Result<Option<Watch>> {
        let Some(run) = self.run.as_ref().filter(|run| !run.directories.is_empty()) else {
            return Ok(None);
        };
        let mut watch = Watch::begin(WatchOptions {
            directories: run.directories.clone(),
            settle,
        })?;
        let reference = Reference {
            store: None,
            project: Some(run.spec.project.clone()),
            run: run.key.clone(),
            nth: None,
            selector: None,
        };
        let earlier = match run
            .engine
            .resolve_run(&reference.to_string(), None, Purpose::Read)
        {
            Ok(id) => Some(id),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let Some(id) = earlier else {
            let there = watch.found_at_start().count() as u64;
            if there > 0 {
                context.out.remark(&format!(
                    "{} in {} were there before, and are not of this run.",
                    human::plural(there, "checkpoint"),
                    run.directories[0].display()
                ));
            }
            return Ok(Some(watch));
        };
        watch.adopt(&run.engine, id)?;
        let looked = watch.look(std::time::Instant::now(), Some(Ending::Badly))?;
        for ready in looked.ready {
            let info = match Taker::take_left(&run.engine, id, &ready) {
                Ok(info) => info,
                Err(error) => {
                    watch.postponed(&ready, std::time::Instant::now());
                    let text =
                        format!("warning: {} is not taken in: {}", ready.name, error.chain());
                    context.out.complain(&clean(&text));
                    continue;
                }
            };
            watch.taken(&ready);
            context.out.remark(&clean(&format!(
                "{} was left by an earlier launch, and is {} now.",
                ready.name, info.reference
            )));
        }
        supervise::set_aside(&mut watch, context)?;
        Ok(Some(watch))
    }

    /// Starts the next launch: its run goes on, and what it needs is on disk.
    pub(super) fn launch(
        &mut self,
        command: &[OsString],
        restarts: u32,
        signals: &Signals,
        context: &mut Context,
    ) -> Result<Launch> {
        signals.starting(None);
        let Some(run) = &mut self.run else {
            let placed = self.place(None, context)?;
            return Ok(Launch {
                variables: self.variables(None, &placed, restarts),
                writer: None,
            });
        };
        let launch = format!("exec-{:032x}", rand::random::<u128>());
        run.spec.launch_key = LaunchKey::Named(launch.clone());
        run.spec.process = [
            ("command".to_owned(), shown(command)),
            ("pid".to_owned(), std::process::id().to_string()),
        ]
        .into();
        let writer = run.engine.start_run(run.spec.clone())?;
        signals.starting(Some(&writer));
        for warning in writer.take_warnings() {
            context.out.remark(&clean(&warning.message));
        }
        let started = self.place(Some(&writer), context);
        match started {
            Ok(placed) => Ok(Launch {
                variables: self.variables(Some((&writer, &launch)), &placed, restarts),
                writer: Some(writer),
            }),
            Err(error) => {
                let _ = writer.finish(
                    Some(RunStatus::Failed),
                    Some(error.message().to_owned()),
                    None,
                );
                Err(error)
            }
        }
    }

    /// Puts on disk what is loaded. A run that has a checkpoint of its own goes on from that.
    fn place(&self, writer: Option<&Arc<RunWriter>>, context: &mut Context) -> Result<Vec<Placed>> {
        let Some(root) = self.root.path() else {
            return Ok(Vec::new());
        };
        let own = writer.and_then(|writer| {
            let from = writer.resumed_from()?;
            // What a new run is based on is loaded as it was asked for.
            (from.run == writer.run() || self.loaded.is_empty()).then_some((writer, from))
        });
        let started = std::time::Instant::now();
        let put = |engine: &Engine, checkpoints: &[CheckpointName], first| {
            engine.place(&Placing {
                root,
                nodes: self.nodes,
                checkpoints,
                first,
            })
        };
        let placed = match own {
            None if self.loaded.is_empty() => return Ok(Vec::new()),
            None => context
                .out
                .busy("loading", || put(&self.source, &self.loaded, None))?,
            Some((writer, from)) => {
                let engine = writer.engine();
                let is_same = Arc::ptr_eq(engine, &self.source);
                let (placed, fallback) = context.out.busy("loading", || {
                    engine.load_or_fall_back(writer.run(), from, 1, |manifest| {
                        let mut all = vec![manifest.name];
                        all.extend(self.loaded.iter().copied().filter(|_| is_same));
                        put(engine, &all, Some(manifest.name))
                    })
                })?;
                if let Some(fallback) = fallback {
                    writer.note_damaged(fallback.wanted, &fallback.message)?;
                    writer.note_loaded(fallback.used)?;
                    context.out.complain(&clean(&fallback.message));
                }
                placed
            }
        };
        let (files, bytes) = placed.iter().fold((0, 0), |(files, bytes), one| {
            (files + one.files, bytes + one.bytes)
        });
        let names: Vec<&str> = placed.iter().map(|one| one.reference.as_str()).collect();
        context.out.remark(&clean(&format!(
            "loaded {} ({}, {}) into {} in {:.1} s.",
            names.join(", "),
            human::plural(files, "file"),
            human::bytes(bytes),
            root.display(),
            started.elapsed().as_secs_f64()
        )));
        Ok(placed)
    }

    fn variables(
        &self,
        run: Option<(&RunWriter, &str)>,
        placed: &[Placed],
        restarts: u32,
    ) -> Vec<Variables> {
        let location = self
            .run
            .as_ref()
            .map(|run| absolute(run.engine.location()))
            .unwrap_or_default();
        let own = self.run.as_ref().zip(run);
        let told_run = own.map(|(job, (writer, launch))| ToldRun {
            store: &location,
            project: job.spec.project.as_str(),
            key: &job.key,
            name: &writer.record().name,
            launch,
        });
        let directories = self
            .run
            .iter()
            .flat_map(|run| run.directories.iter().map(PathBuf::as_path));
        variables(&Told {
            run: told_run,
            loaded: self.root.path().filter(|_| !placed.is_empty()),
            loaded_ids: placed.iter().map(|one| one.id.clone()).collect(),
            checkpoints: directories.collect(),
            nodes: self.nodes,
            restarts,
        })
    }

    /// How many processes a launch has.
    pub(super) fn nodes(&self) -> usize {
        self.nodes
    }
}

impl Root {
    fn of(engine: &Engine, into: Option<PathBuf>) -> Result<Self> {
        into.map_or_else(
            || engine.folder_for_job().map(Self::Own),
            |into| Ok(Self::Named(into)),
        )
    }

    fn path(&self) -> Option<&Path> {
        match self {
            Self::Named(path) => Some(path),
            Self::Own(folder) => Some(folder.path()),
            Self::None => None,
        }
    }
}
