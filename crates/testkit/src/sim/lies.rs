//! A store that lies to one actor: how the real code of the product comes to leave out a rule.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use runtree_core::Timestamp;
use runtree_core::manifest::{Record as _, RoundRecord};
use runtree_store::ObjectPath as Path;
use runtree_store::layout;
use runtree_store::object_store::memory::InMemory;
use runtree_store::object_store::{
    Extensions, ListResult, ObjectMeta, ObjectStore as _, ObjectStoreExt as _, PutMode, PutOptions,
    PutPayload, PutResult, Result,
};

use super::Fault;

/// What one actor is told, and what becomes of what it says.
#[derive(Clone, Debug)]
pub(super) struct Lies {
    fault: Fault,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// Rounds of the actor that nobody else sees.
    hidden: BTreeMap<Path, Bytes>,
    /// Its highest round that is open.
    own: Option<u64>,
    /// The store as it was when the actor began to plan.
    planned: Option<Arc<InMemory>>,
    /// Whether it is shown that instead of its roots.
    is_frozen: bool,
    /// The runs that there were when its round began.
    runs: Option<Vec<Path>>,
    /// Listings of pins.
    pins: u64,
    /// What the actor is told that is in `gc/`.
    rounds: Option<Vec<ObjectMeta>>,
    /// Whether open rounds look as if they named nothing.
    names_nothing: bool,
}

impl Lies {
    pub(super) fn new(fault: Fault) -> Self {
        let lies = Self {
            fault,
            state: Arc::default(),
        };
        lies.state().names_nothing = fault == Fault::CondemnedCounts;
        lies
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says from now on that open rounds name nothing, or the truth.
    pub(super) fn rounds_name_nothing(&self, lies: bool) {
        self.state().names_nothing = lies;
    }

    /// Shows from now on the rounds that there are now.
    pub(super) fn freeze_rounds(&self, objects: &InMemory) {
        let listed =
            futures::executor::block_on(objects.list_with_delimiter(Some(&layout::rounds())));
        self.state().rounds = listed.ok().map(|listed| listed.objects);
    }

    /// Shows the rounds as they are.
    pub(super) fn thaw_rounds(&self) {
        self.state().rounds = None;
    }

    fn hides_rounds(&self) -> bool {
        matches!(self.fault, Fault::NoRound | Fault::ListBeforeRound)
    }

    /// An answer instead of a put, or another kind of put.
    pub(super) async fn put(
        &self,
        objects: &Arc<InMemory>,
        location: &Path,
        payload: &PutPayload,
        options: &mut PutOptions,
    ) -> Result<Option<PutResult>> {
        let is_commit = location.as_ref().contains("/commits/");
        if self.fault == Fault::UnconditionalCommit && is_commit {
            options.mode = PutMode::Overwrite;
        }
        let Some((number, is_closing)) = round_of(location) else {
            return Ok(None);
        };
        if !is_closing {
            let mut state = self.state();
            state.own = Some(number);
            state.is_frozen = self.fault == Fault::RootsBeforeRound;
        }
        if !self.hides_rounds() {
            return Ok(None);
        }
        if is_closing && self.fault == Fault::ListBeforeRound {
            self.show(objects).await?;
            return Ok(None);
        }
        let bytes = Bytes::from(payload.clone());
        self.state().hidden.insert(location.clone(), bytes);
        Ok(Some(PutResult {
            e_tag: None,
            version: None,
            extensions: Extensions::default(),
        }))
    }

    pub(super) async fn after_put(&self, objects: &InMemory, location: &Path) -> Result<()> {
        let Some((number, is_closing)) = round_of(location) else {
            return Ok(());
        };
        let closing = layout::round_closed(number);
        if !is_closing && self.fault == Fault::CloseFirst {
            objects.put(&closing, Bytes::new().into()).await?;
        }
        if is_closing {
            self.forget_plan();
            if self.fault == Fault::ForgottenRound {
                objects.delete(&layout::round(number)).await?;
                objects.delete(&closing).await?;
            }
        }
        Ok(())
    }

    fn forget_plan(&self) {
        let mut state = self.state();
        state.own = None;
        state.planned = None;
        state.runs = None;
        state.is_frozen = false;
    }

    /// The faulty order: the round comes when the decision is made.
    pub(super) async fn before_delete(&self, objects: &InMemory, location: &Path) -> Result<()> {
        if self.fault == Fault::ListBeforeRound && location.as_ref().starts_with("chunks/") {
            self.show(objects).await?;
        }
        Ok(())
    }

    async fn show(&self, objects: &InMemory) -> Result<()> {
        let hidden = std::mem::take(&mut self.state().hidden);
        for (path, bytes) in hidden {
            objects.put(&path, bytes.into()).await?;
        }
        Ok(())
    }

    /// What a read or a listing is answered from.
    pub(super) fn source(&self, objects: &Arc<InMemory>, location: &Path) -> Arc<InMemory> {
        let mut state = self.state();
        let text = location.as_ref();
        let is_root = text == "pins" || text.starts_with("pins/") || text.starts_with("runs");
        if self.fault != Fault::RootsBeforeRound || !is_root {
            return Arc::clone(objects);
        }
        if text == "pins" && state.planned.is_none() {
            state.planned = Some(Arc::new(objects.fork()));
        }
        match &state.planned {
            Some(planned) if state.is_frozen => Arc::clone(planned),
            _ => Arc::clone(objects),
        }
    }

    /// What a read is answered with.
    pub(super) fn get(&self, location: &Path) -> Option<Bytes> {
        let state = self.state();
        if let Some(hidden) = state.hidden.get(location) {
            return Some(hidden.clone());
        }
        let (_, is_closing) = round_of(location)?;
        let empty = RoundRecord {
            objects: Vec::new(),
            created: Timestamp(0),
        };
        (state.names_nothing && !is_closing).then(|| empty.to_bytes().into())
    }

    /// What is left out of a listing, or added to it.
    pub(super) fn list(&self, directory: &str, listed: &mut ListResult) {
        let mut state = self.state();
        let name = |object: &ObjectMeta| object.location.filename().unwrap_or_default().to_owned();
        if directory == "gc" {
            if let Some(rounds) = &state.rounds {
                listed.objects.clone_from(rounds);
            }
            for path in state.hidden.keys() {
                listed.objects.push(meta_of(path));
            }
            if let (Fault::NoGivingWay, Some(own)) = (self.fault, state.own) {
                listed.objects.retain(|object| {
                    layout::parse_round(&name(object)).is_none_or(|(number, _)| number <= own)
                });
            }
        }
        if directory == "runs" && self.fault == Fault::RunsListedOnce && state.own.is_some() {
            let first = state
                .runs
                .get_or_insert_with(|| listed.common_prefixes.clone());
            listed.common_prefixes.clone_from(first);
        }
        if directory == "pins" {
            state.pins += 1;
            if self.fault == Fault::IntentsLate && !state.pins.is_multiple_of(2) {
                listed.objects.clear();
            }
        }
        if self.fault == Fault::PendingIsGarbage && directory.ends_with("/parts") {
            listed.common_prefixes.clear();
        }
        if self.fault == Fault::BasesAreGarbage && directory.starts_with("chunks/") {
            listed
                .objects
                .retain(|object| !name(object).contains(".d~"));
        }
    }
}

fn round_of(location: &Path) -> Option<(u64, bool)> {
    layout::parse_round(location.as_ref().strip_prefix("gc/")?)
}

fn meta_of(path: &Path) -> ObjectMeta {
    ObjectMeta {
        location: path.clone(),
        last_modified: chrono::DateTime::default(),
        size: 0,
        e_tag: None,
        version: None,
    }
}
