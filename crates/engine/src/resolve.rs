//! From what people type to what is meant: runs by display id, key, name or prefix; checkpoints by selector.
//!
//! Each question comes twice. The one that edges ask folds first what is new in the store. Whoever asks several to do one thing folds once
//! and asks those that end in `_folded`: a scan of a large store for each of them would be most of what a fork costs.

use std::fmt::Write as _;

use runtree_core::manifest::CheckpointName;
use runtree_core::reference::{Direction, Reference, Selector, is_loss_like};
use runtree_core::{DisplayId, Error, ErrorKind, ProjectName, Result, RunId, Step};
use runtree_index::{CheckpointRow, RunLookup, Snapshot};

use crate::engine::Engine;
use crate::queries::Quarantine;
use crate::series::timeline_of;
use crate::ship::evicted_to;

mod clash;

/// How many steps or candidates an error lists.
const LISTED: usize = 12;

/// What a resolved REF is for. Reading takes the newest run of a name; writing refuses two candidates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Look.
    Read,
    /// Fork, delete, pin, annotate.
    Write,
}

/// What a REF names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The run.
    pub run: RunId,
    /// The step its selector names, if any.
    pub step: Option<Step>,
    /// The checkpoint its selector names, if any.
    pub checkpoint: Option<CheckpointName>,
}

/// Where a run is looked for.
#[derive(Clone, Copy)]
enum Scope<'a> {
    /// In the project that the REF names, nowhere else.
    Only(&'a ProjectName),
    /// A bare word means a run of the project at hand; only if that has none, one of another project.
    First(&'a ProjectName),
    /// There is no project at hand.
    Everywhere,
}

impl<'a> Scope<'a> {
    fn first(at_hand: Option<&'a ProjectName>) -> Self {
        at_hand.map_or(Self::Everywhere, Self::First)
    }

    fn project(self) -> Option<&'a ProjectName> {
        match self {
            Self::Only(project) | Self::First(project) => Some(project),
            Self::Everywhere => None,
        }
    }
}

/// What there is to say of a checkpoint that eviction took. It exists, so nobody may go on as if there were none: `load(default=)` begins anew only where nothing is found.
fn is_elsewhere(row: &CheckpointRow, place: &str) -> Error {
    Error::unavailable(format!(
        "the checkpoint at step {} is in {place}, not here",
        row.name.key.step
    ))
    .with_hint(format!(
        "runtree pull {}@{} --from {place} --restore",
        row.name.run, row.id
    ))
}

impl Engine {
    /// Resolves a run by display id, key, name (`name~2`), RunId prefix, or number in `project`.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` if several are meant and the purpose is writing; both list candidates.
    pub fn resolve_run(
        &self,
        text: &str,
        project: Option<&str>,
        purpose: Purpose,
    ) -> Result<RunId> {
        self.refresh()?;
        match self.resolve_run_folded(text, project, purpose) {
            // Born since the last scan of a large store, perhaps: nobody is told that a run is not there because of a throttle.
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.refresh_now()?;
                self.resolve_run_folded(text, project, purpose)
            }
            found => found,
        }
    }

    /// [`Engine::resolve_run`] among what is folded.
    pub(crate) fn resolve_run_folded(
        &self,
        text: &str,
        project: Option<&str>,
        purpose: Purpose,
    ) -> Result<RunId> {
        if let Ok(run) = text.parse::<RunId>() {
            // A whole RunId needs no list: exactly what the UI and other processes pass.
            let snapshot = self.snapshot()?;
            if !snapshot
                .find_runs(None, &RunLookup::Prefix(text.to_owned()))?
                .is_empty()
            {
                return Ok(run);
            }
        }
        let at_hand: Option<ProjectName> = project.map(str::parse).transpose()?;
        match text.parse::<Reference>() {
            Ok(reference) if reference.selector.is_none() && reference.store.is_none() => {
                let scope = match &reference.project {
                    Some(named) => Scope::Only(named),
                    None => Scope::first(at_hand.as_ref()),
                };
                self.find_run(&reference.run, scope, reference.nth, purpose)
            }
            _ => self.find_run(text, Scope::first(at_hand.as_ref()), None, purpose),
        }
    }

    fn find_run(
        &self,
        text: &str,
        scope: Scope<'_>,
        nth: Option<u32>,
        purpose: Purpose,
    ) -> Result<RunId> {
        let snapshot = self.snapshot()?;
        let project = scope.project();
        let mut lookups = Vec::new();
        if nth.is_none() {
            if let (Ok(number), Some(project)) = (text.parse::<u64>(), project)
                && let Some(run) = self.store.find_number(project, number)?
            {
                return Ok(run);
            }
            if let Ok(id) = text.to_ascii_uppercase().parse::<DisplayId>() {
                lookups.push(RunLookup::DisplayId(id));
            }
            lookups.push(RunLookup::Key(text.to_owned()));
        }
        lookups.push(RunLookup::Name(text.to_owned()));
        if nth.is_none() && text.len() >= RunId::MIN_PREFIX {
            lookups.push(RunLookup::Prefix(text.to_ascii_lowercase()));
        }
        let scopes: &[Option<&ProjectName>] = match scope {
            Scope::Only(project) => &[Some(project)],
            Scope::First(project) => &[Some(project), None],
            Scope::Everywhere => &[None],
        };
        for &scope in scopes {
            if nth.is_none()
                && let Some(run) = self.find_by_store(&*snapshot, text, scope)?
            {
                return Ok(run);
            }
            for lookup in &lookups {
                let found = snapshot.find_runs(scope, lookup)?;
                if let Some(run) = self.choose(&*snapshot, text, lookup, &found, nth, purpose)? {
                    return Ok(run);
                }
            }
        }
        self.check_not_damaged(text, project)?;
        Err(self.no_such_run(&*snapshot, text, project))
    }

    /// Tells a run whose birth can not be read from one that is not there.
    fn check_not_damaged(&self, text: &str, project: Option<&ProjectName>) -> Result<()> {
        for (run, damage) in self.damaged_runs() {
            let number = text.to_ascii_uppercase().parse::<DisplayId>();
            let number = number.map(|id| id.number()).or(text.parse::<u64>());
            let mut is_named = run.to_string().starts_with(text) && text.len() >= RunId::MIN_PREFIX;
            if let Some(project) = project {
                is_named |= self.store.find_key(project, text)? == Some(run);
                if let Ok(number) = number {
                    is_named |= self.store.find_number(project, number)? == Some(run);
                }
            }
            if is_named {
                return Err(Error::corrupt(damage)
                    .with_hint("runtree verify lists everything that is damaged"));
            }
        }
        Ok(())
    }

    fn choose(
        &self,
        snapshot: &dyn Snapshot,
        text: &str,
        lookup: &RunLookup,
        found: &[RunId],
        nth: Option<u32>,
        purpose: Purpose,
    ) -> Result<Option<RunId>> {
        if let Some(nth) = nth {
            if found.is_empty() {
                return Ok(None);
            }
            return match found.get(nth as usize - 1) {
                Some(run) => Ok(Some(*run)),
                None => Err(Error::not_found(format!(
                    "{text:?} names {} runs, not {nth}",
                    found.len()
                ))),
            };
        }
        // Deleted runs give way to those that are not.
        let mut alive = Vec::new();
        for run in found {
            let row = snapshot.run(*run, &runtree_index::MetricChoice::None, self.liveness())?;
            if row.is_some_and(|row| !row.deleted) {
                alive.push(*run);
            }
        }
        let candidates = if alive.is_empty() { found } else { &alive };
        match candidates {
            [] => Ok(None),
            [only] => Ok(Some(*only)),
            [newest, ..] => {
                let by_name = matches!(lookup, RunLookup::Name(_) | RunLookup::Key(_));
                if let Some(owner) = self.owner(lookup, candidates)? {
                    return Ok(Some(owner));
                }
                if by_name && purpose == Purpose::Read {
                    return Ok(Some(*newest));
                }
                let error = Error::invalid(format!(
                    "{text:?} may mean {}",
                    self.list_runs_for_people(snapshot, candidates)
                ));
                Err(match lookup {
                    RunLookup::DisplayId(id) => {
                        let addresses = candidates.iter().take(LISTED);
                        let addresses = addresses.map(|run| self.address_of(id.clone(), *run));
                        error.with_hint(format!(
                            "of which store: {}; or of which project: project/{id}",
                            addresses.collect::<Vec<_>>().join(", ")
                        ))
                    }
                    _ => error.with_hint(
                        "name the run by its display id, or take name~2 for the next older one",
                    ),
                })
            }
        }
    }

    fn list_runs_for_people(&self, snapshot: &dyn Snapshot, runs: &[RunId]) -> String {
        let shown = runs.iter().take(LISTED).map(|run| {
            snapshot
                .run(*run, &runtree_index::MetricChoice::None, self.liveness())
                .ok()
                .flatten()
                .map_or_else(
                    || run.to_string(),
                    |row| format!("{} ({})", row.record.display_id, row.name),
                )
        });
        let mut text = shown.collect::<Vec<_>>().join(", ");
        if runs.len() > LISTED {
            let _ = write!(text, " and {} more", runs.len() - LISTED);
        }
        text
    }

    fn no_such_run(
        &self,
        snapshot: &dyn Snapshot,
        text: &str,
        project: Option<&ProjectName>,
    ) -> Error {
        let mut query = runtree_index::RunQuery::new(self.liveness());
        query.project = project.cloned();
        query.limit = 5;
        query.show_metrics = runtree_index::MetricChoice::None;
        let newest: Vec<RunId> = snapshot
            .runs(&query)
            .map(|slice| slice.runs.iter().map(|row| row.record.run).collect())
            .unwrap_or_default();
        let place = match project {
            Some(project) => format!("project {:?} of {}", project.as_str(), self.location()),
            None => self.location(),
        };
        let error = Error::not_found(format!("{text:?} is no run in {place}"));
        if newest.is_empty() && project.is_some() {
            return error
                .with_hint("that project has no runs; runtree runs lists those of all projects (one whose key holds / is named by its display id)");
        }
        if newest.is_empty() {
            return error.with_hint(
                "the store has no runs yet; is it the right one? RUNTREE_STORE names another",
            );
        }
        error.with_hint(format!(
            "the newest runs are {}; runtree runs lists all",
            self.list_runs_for_people(snapshot, &newest)
        ))
    }

    /// Resolves a REF. A bare step need not have a checkpoint; every other selector must.
    ///
    /// # Errors
    /// As [`Engine::resolve_run`] and [`Engine::resolve_checkpoint`].
    pub fn resolve(
        &self,
        reference: &Reference,
        project: Option<&str>,
        purpose: Purpose,
    ) -> Result<Resolved> {
        self.refresh()?;
        let run = self.run_of(reference, project, purpose)?;
        match &reference.selector {
            None => Ok(Resolved {
                run,
                step: None,
                checkpoint: None,
            }),
            Some(Selector::Step(step)) => {
                let (rows, quarantine) = self.candidates(run)?;
                let checkpoint = rows.iter().rfind(|row| row.name.key.step == *step);
                let checkpoint = checkpoint.map(|row| row.name);
                checkpoint.map_or(Ok(()), |name| quarantine.refuse_unreadable(name))?;
                Ok(Resolved {
                    run,
                    step: Some(*step),
                    checkpoint,
                })
            }
            Some(selector) => {
                let name = self.select(run, selector)?;
                Ok(Resolved {
                    run,
                    step: Some(name.key.step),
                    checkpoint: Some(name),
                })
            }
        }
    }

    /// Resolves a REF where a checkpoint is meant; without a selector that is the newest.
    ///
    /// # Errors
    /// `NotFound` that lists the steps there are.
    pub fn resolve_checkpoint(
        &self,
        reference: &Reference,
        project: Option<&str>,
        purpose: Purpose,
    ) -> Result<CheckpointName> {
        self.refresh()?;
        self.resolve_checkpoint_folded(reference, project, purpose)
    }

    /// [`Engine::resolve_checkpoint`] among what is folded.
    pub(crate) fn resolve_checkpoint_folded(
        &self,
        reference: &Reference,
        project: Option<&str>,
        purpose: Purpose,
    ) -> Result<CheckpointName> {
        let run = self.run_of(reference, project, purpose)?;
        let latest = Selector::Latest;
        self.select(run, reference.selector.as_ref().unwrap_or(&latest))
    }

    /// The run of a REF, without its selector, among what is folded.
    pub(crate) fn run_of(
        &self,
        reference: &Reference,
        project: Option<&str>,
        purpose: Purpose,
    ) -> Result<RunId> {
        let run = Reference {
            selector: None,
            store: None,
            ..reference.clone()
        };
        self.resolve_run_folded(&run.to_string(), project, purpose)
    }

    /// Checkpoints on a run's effective timeline, in order of precedence within ascending steps. Those that can not be read are among
    /// them: who asked for the newest must not get an older one in silence.
    fn candidates(&self, run: RunId) -> Result<(Vec<CheckpointRow>, Quarantine)> {
        self.refresh_known(run)?;
        self.check_lineage(run)?;
        let snapshot = self.snapshot()?;
        let timeline = timeline_of(&*snapshot, run)?;
        let quarantine = self.quarantine(&*snapshot, run, &timeline)?;
        let rows = quarantine.effective_or_elsewhere(&*snapshot, &timeline)?;
        Ok((rows, quarantine))
    }

    fn select(&self, run: RunId, selector: &Selector) -> Result<CheckpointName> {
        let (rows, quarantine) = self.candidates(run)?;
        let found = match selector {
            // Eviction leaves the newest: a resume asks no server.
            Selector::Latest => rows.iter().rfind(|row| !row.deleted),
            Selector::Step(step) => rows.iter().rfind(|row| row.name.key.step == *step),
            Selector::AtMost(step) => rows.iter().rfind(|row| row.name.key.step <= *step),
            Selector::Name(label) => {
                let named = |row: &&CheckpointRow| row.label.as_ref() == Some(label);
                rows.iter().rfind(named)
            }
            Selector::Id(id) => {
                // An id names one checkpoint, wherever it lies: a ghost tail's, an older save of the same step.
                let snapshot = self.snapshot()?;
                let name = snapshot.find_checkpoint(*id)?;
                return name.ok_or_else(|| {
                    Error::not_found(format!("checkpoint {id} is not in {}", self.location()))
                });
            }
            Selector::Best(metric, direction) => {
                let best = self.best_of(run, &rows, metric, *direction)?;
                rows.iter().find(|row| Some(row.name) == best)
            }
            Selector::LastGood(metric) => {
                let bad = self.last_good(run, metric.as_deref())?.bad;
                rows.iter().rfind(|row| {
                    bad.as_ref()
                        .is_none_or(|(_, step)| row.name.key.step < *step)
                })
            }
        };
        let row = found.ok_or_else(|| self.no_such_checkpoint(run, selector, &rows))?;
        if let Some(place) = evicted_to(row) {
            return Err(is_elsewhere(row, place));
        }
        let name = row.name;
        quarantine.refuse_unreadable(name)?;
        Ok(name)
    }

    fn no_such_checkpoint(&self, run: RunId, selector: &Selector, rows: &[CheckpointRow]) -> Error {
        let id = self
            .store
            .read_run(run)
            .map_or_else(|_| run.to_string(), |record| record.display_id.to_string());
        let mut steps: Vec<i64> = rows.iter().map(|row| row.name.key.step.0).collect();
        steps.dedup();
        if steps.is_empty() {
            return Error::not_found(format!("run {id} has no checkpoint"))
                .with_hint("a checkpoint appears when run.save(...).result() returns");
        }
        let shown: Vec<String> = steps
            .iter()
            .rev()
            .take(LISTED)
            .rev()
            .map(i64::to_string)
            .collect();
        let more = if steps.len() > LISTED { "…, " } else { "" };
        let error = Error::not_found(format!(
            "run {id} has no checkpoint @{selector}; there are some at {more}{}",
            shown.join(", ")
        ));
        match selector {
            Selector::Step(step) => {
                let older = steps.iter().any(|at| *at <= step.0);
                // Quoted: an unquoted `<` in a command is the shell's.
                let offer = if older {
                    format!("'{id}@<={step}'")
                } else {
                    format!("{id}@{}", steps[0])
                };
                error.with_hint(format!("the nearest is {offer}"))
            }
            _ => error.with_hint(format!("`runtree checkpoints {id}` lists them")),
        }
    }

    fn best_of(
        &self,
        run: RunId,
        rows: &[CheckpointRow],
        metric: &str,
        direction: Option<Direction>,
    ) -> Result<Option<CheckpointName>> {
        let smaller = match direction {
            Some(direction) => direction == Direction::Min,
            None => is_loss_like(metric),
        };
        let steps: Vec<Step> = rows.iter().map(|row| row.name.key.step).collect();
        let effective = self.values_at(run, metric, &steps)?;
        let ranked = rows.iter().zip(effective).filter_map(|(row, effective)| {
            let value = row.metrics.get(metric).copied().or(effective)?;
            value.is_finite().then_some((row.name, value))
        });
        // Ties: the later one.
        let best = ranked.fold(
            None,
            |best: Option<(CheckpointName, f64)>, (name, value)| match best {
                Some((_, than)) if (smaller && value > than) || (!smaller && value < than) => best,
                _ => Some((name, value)),
            },
        );
        if best.is_none() {
            return Err(Error::not_found(format!(
                "no checkpoint of the run has a finite value of {metric:?}"
            ))
            .with_hint("give it with save(metrics=...) or log it at the step that is saved"));
        }
        Ok(best.map(|(name, _)| name))
    }
}
