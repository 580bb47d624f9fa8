//! A real store with two runs, served on a free port.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::thread::JoinHandle;

use runtree_core::event::RunStatus;
use runtree_core::state::{DictKind, Dtype, Framework, StateKey, StateNode, TensorLeaf};
use runtree_core::{Clock, ComponentName, Step, Timestamp};
use runtree_engine::{
    Engine, EngineOptions, EntrySource, ForkChoice, IfBusy, OpenMode, RunSpec, RunWriter,
    SaveRequest, SystemClock, TensorSource,
};
use runtree_server::{Answered, ServeOptions, Server, Token};
use tempfile::TempDir;

use crate::http::{self, Answer};

/// The machine's clock, moved on by what a test says.
#[derive(Debug, Default)]
pub(crate) struct ShiftedClock(AtomicI64);

impl ShiftedClock {
    pub(crate) fn advance(&self, seconds: i64) {
        self.0.fetch_add(seconds * 1_000_000, Ordering::SeqCst);
    }
}

impl Clock for ShiftedClock {
    fn now(&self) -> Timestamp {
        Timestamp(SystemClock.now().0 + self.0.load(Ordering::SeqCst))
    }
}

/// A server in a thread; stops when dropped.
pub(crate) struct Served {
    pub(crate) address: SocketAddr,
    pub(crate) url: String,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    directory: TempDir,
    /// The server's.
    pub(crate) clock: Arc<ShiftedClock>,
}

/// The store only, with nothing in it.
pub(crate) fn open(directory: &Path, mode: OpenMode) -> Arc<Engine> {
    let options = EngineOptions::new(directory.join("store"), directory.join("cache"));
    Engine::open(options.with_mode(mode)).unwrap()
}

impl Served {
    /// Two runs, no token.
    pub(crate) fn start() -> Self {
        Self::with(None, OpenMode::ReadWrite)
    }

    pub(crate) fn with(token: Option<&str>, mode: OpenMode) -> Self {
        Self::logging(token, mode, None)
    }

    pub(crate) fn logging(
        token: Option<&str>,
        mode: OpenMode,
        log: Option<fn(&Answered<'_>)>,
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        two_runs(&open(directory.path(), OpenMode::Create));
        let clock = Arc::new(ShiftedClock::default());
        let paths = (
            directory.path().join("store"),
            directory.path().join("cache"),
        );
        let mut engine_options = EngineOptions::new(paths.0, paths.1).with_mode(mode);
        engine_options.clock = Arc::clone(&clock) as Arc<dyn Clock>;
        let engine = Engine::open(engine_options).unwrap();
        let options = ServeOptions {
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            token: token.map(|token| Token::new(token).unwrap()),
            log,
        };
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let (ready, listens) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let server = Server::bind(engine, options).await.unwrap();
                ready.send((server.address(), server.url())).unwrap();
                server
                    .run(async {
                        let _ = stopped.await;
                    })
                    .await
                    .unwrap();
            });
        });
        let (address, url) = listens.recv().unwrap();
        Self {
            address,
            url,
            stop: Some(stop),
            thread: Some(thread),
            directory,
            clock,
        }
    }

    /// Another handle on the store, as a trainer would have.
    pub(crate) fn trainer(&self) -> Arc<Engine> {
        open(self.directory.path(), OpenMode::ReadWrite)
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.request("GET", path, &[], b"")
    }

    pub(crate) fn send(&self, method: &str, path: &str, body: &serde_json::Value) -> Answer {
        let headers = [("Content-Type", "application/json")];
        let body = if body.is_null() {
            Vec::new()
        } else {
            body.to_string().into_bytes()
        };
        self.request(method, path, &headers, &body)
    }

    pub(crate) fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        http::request(
            self.address,
            method,
            &format!("/api/v1{path}"),
            headers,
            body,
        )
    }

    /// Tells the server to stop and waits for it.
    pub(crate) fn stop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop();
    }
}

/// `DIG-1 digits` logged 0..=100 and saved at 50 and 100; `DIG-2 hot` is a fork at 50 whose loss is NaN from 72.
fn two_runs(engine: &Arc<Engine>) {
    let root = engine.start_run(spec("digits")).unwrap();
    for step in 0..=100 {
        log(&root, step, 1.0 / (1.0 + step as f64));
        if step == 50 || step == 100 {
            save(&root, step);
        }
    }
    root.console("stdout", vec!["epoch 1".to_owned(), "epoch 2".to_owned()])
        .unwrap();
    let notes = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(notes.path(), b"<script>alert(1)</script>").unwrap();
    root.log_file(notes.path(), Some("reports/page.html"))
        .unwrap();
    root.finish(Some(RunStatus::Completed), None, None).unwrap();
    let hot = engine
        .start_run(RunSpec {
            fork: ForkChoice::Reference("DIG-1@50".parse().unwrap()),
            config: Some(serde_json::json!({"lr": 0.1})),
            tags: vec!["experiment".to_owned()],
            ..spec("hot")
        })
        .unwrap();
    for step in 51..=80 {
        log(&hot, step, if step < 72 { 0.5 } else { f64::NAN });
    }
    hot.finish(Some(RunStatus::Failed), Some("diverged".to_owned()), None)
        .unwrap();
}

pub(crate) fn log(writer: &RunWriter, step: i64, loss: f64) {
    writer
        .log(Some(Step(step)), None, &[("loss", loss)], true)
        .unwrap();
}

pub(crate) fn spec(name: &str) -> RunSpec {
    RunSpec {
        name: Some(name.to_owned()),
        config: Some(serde_json::json!({"lr": 0.001})),
        ..RunSpec::new("digits".parse().unwrap())
    }
}

fn save(writer: &Arc<RunWriter>, step: i64) {
    let values: Vec<u8> = (0..1 << 16)
        .flat_map(|index| (step as f32 + index as f32).to_le_bytes())
        .collect();
    let leaf = TensorLeaf {
        tensor: 0,
        framework: Framework::Numpy,
        view: None,
        parameter: false,
        requires_grad: false,
        device: None,
    };
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
            tree: StateNode::Dict {
                kind: DictKind::default(),
                k: vec![StateKey::Str("weight".to_owned())],
                v: vec![StateNode::Tensor(leaf)],
            },
            tensors: vec![TensorSource {
                name: "weight".to_owned(),
                dtype: Dtype::F32,
                shape: vec![256, 256],
                global_shape: None,
                global_offset: None,
                data: values.as_slice().into(),
            }],
            blobs: Vec::new(),
        }],
    };
    writer.save(request).unwrap().result(None).unwrap();
}
