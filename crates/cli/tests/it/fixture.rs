//! A real store with real runs, and the built binary to look at it.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

use runtree_core::event::RunStatus;
use runtree_core::state::{DictKind, Dtype, Framework, StateKey, StateNode, TensorLeaf};
use runtree_core::{ComponentName, Step};
use runtree_engine::{
    Engine, EntrySource, ForkChoice, IfBusy, RunSpec, RunWriter, SaveRequest, TensorSource,
};
use runtree_testkit::place::{self, Place};

/// A folder of its own, with a store in it or in the bucket: cache, nothing of the user's environment.
pub(crate) struct Sandbox {
    place: Place,
}

impl Deref for Sandbox {
    type Target = Place;

    fn deref(&self) -> &Place {
        &self.place
    }
}

/// What a command left behind.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// Stdout of a command that did what it should.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, 0, "{}{}", self.stdout, self.stderr);
        self.stdout
    }

    /// Stdout as JSON.
    #[track_caller]
    pub(crate) fn json(self) -> serde_json::Value {
        serde_json::from_str(&self.ok()).unwrap()
    }

    /// Stderr of a command that ended with `code`.
    #[track_caller]
    pub(crate) fn fails(self, code: i32) -> String {
        assert_eq!(self.code, code, "{}{}", self.stdout, self.stderr);
        self.stderr
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Sandbox {
    pub(crate) fn new() -> Self {
        Self::at(Place::in_bucket())
    }

    fn at(bucket: Option<Place>) -> Self {
        Self {
            place: bucket.unwrap_or_else(|| Place::directory_called(".runtree")),
        }
    }

    /// Where no store is, and nothing.
    pub(crate) fn vacant() -> Self {
        Self::at(Place::vacant_in_bucket())
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn engine(&self) -> Arc<Engine> {
        Engine::open(self.options("cache/runtree")).unwrap()
    }

    /// The command, not started.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_runtree"));
        command
            .args(args)
            .current_dir(self.path())
            .env_clear()
            .env("XDG_CACHE_HOME", self.path().join("cache"))
            .env("COLUMNS", "100");
        if self.is_bucket() {
            command
                .envs(place::settings())
                .env("RUNTREE_STORE", self.location());
        }
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        self.command(args).output().unwrap().into()
    }
}

/// Logs `loss` for `steps` and saves at `saves`.
pub(crate) fn train(
    writer: &Arc<RunWriter>,
    steps: std::ops::RangeInclusive<i64>,
    saves: &[i64],
    loss: impl Fn(i64) -> f64,
) {
    for step in steps {
        writer
            .log(
                Some(Step(step)),
                None,
                &[("loss", loss(step)), ("accuracy", step as f64 / 1000.0)],
                true,
            )
            .unwrap();
        if saves.contains(&step) {
            save(writer, step);
        }
    }
}

/// Saves a state of one tensor whose first value is the step.
pub(crate) fn save(writer: &Arc<RunWriter>, step: i64) {
    let values: Vec<f32> = (0..256).map(|index| step as f32 + index as f32).collect();
    save_shaped(writer, step, &[("weight", &values, vec![16, 16])]);
}

/// Saves a state of tensors of one dimension.
pub(crate) fn save_values(writer: &Arc<RunWriter>, step: i64, tensors: &[(&str, &[f32])]) {
    let shaped: Vec<_> = tensors
        .iter()
        .map(|(name, values)| (*name, *values, vec![values.len() as u64]))
        .collect();
    save_shaped(writer, step, &shaped);
}

fn save_shaped(writer: &Arc<RunWriter>, step: i64, tensors: &[(&str, &[f32], Vec<u64>)]) {
    let bytes: Vec<Vec<u8>> = tensors
        .iter()
        .map(|(_, values, _)| {
            values
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect()
        })
        .collect();
    let leaf = |tensor| {
        StateNode::Tensor(TensorLeaf {
            tensor,
            framework: Framework::Numpy,
            view: None,
            parameter: false,
            requires_grad: false,
            device: None,
        })
    };
    let tree = StateNode::Dict {
        kind: DictKind::default(),
        k: tensors
            .iter()
            .map(|(name, ..)| StateKey::Str((*name).to_owned()))
            .collect(),
        v: (0..tensors.len() as u32).map(leaf).collect(),
    };
    let sources = tensors.iter().zip(&bytes);
    let request = SaveRequest {
        step: Some(Step(step)),
        name: None,
        metrics: BTreeMap::new(),
        component: ComponentName::trainer(),
        rank: 0,
        world_size: 1,
        parts: None,
        sharded: false,
        pin: false,
        if_busy: IfBusy::Wait,
        ready: None,
        entries: vec![EntrySource::State {
            path: "state".to_owned(),
            tree,
            tensors: sources
                .map(|((name, _, shape), data)| TensorSource {
                    name: (*name).to_owned(),
                    dtype: Dtype::F32,
                    shape: shape.clone(),
                    global_shape: None,
                    global_offset: None,
                    data: data.as_slice().into(),
                })
                .collect(),
            blobs: Vec::new(),
        }],
    };
    writer.save(request).unwrap().result(None).unwrap();
}

pub(crate) fn spec(name: &str) -> RunSpec {
    RunSpec {
        name: Some(name.to_owned()),
        config: Some(serde_json::json!({"lr": 0.001, "model": {"width": 64}})),
        ..RunSpec::new("digits".parse().unwrap())
    }
}

/// `DIG-1 digits` went well, `DIG-2 hot` is a fork of it at 50 whose loss is NaN from step 72.
pub(crate) fn two_runs() -> Sandbox {
    let sandbox = Sandbox::new();
    let engine = sandbox.engine();
    let root = engine.start_run(spec("digits")).unwrap();
    train(&root, 0..=100, &[50, 100], |step| 1.0 / (1.0 + step as f64));
    root.finish(Some(RunStatus::Completed), None, None).unwrap();
    let hot = engine
        .start_run(RunSpec {
            fork: ForkChoice::Reference("DIG-1@50".parse().unwrap()),
            config: Some(serde_json::json!({"lr": 0.1})),
            tags: vec!["experiment".to_owned()],
            ..spec("hot")
        })
        .unwrap();
    train(&hot, 51..=80, &[60, 70], |step| {
        // Healthy until then: a loss that jumped at the fork would be a spike, and `last-good` the fork itself.
        if step < 72 {
            1.0 / (1.0 + step as f64)
        } else {
            f64::NAN
        }
    });
    hot.finish(
        Some(RunStatus::Failed),
        Some("ValueError: loss is NaN".to_owned()),
        None,
    )
    .unwrap();
    sandbox
}
