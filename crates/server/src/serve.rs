//! Listening, answering, stopping.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use runtree_core::{Error, Result};
use runtree_engine::Engine;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::guard::Access;
use crate::options::ServeOptions;
use crate::router::router;
use crate::state::AppState;
use crate::updates;

/// How long requests in flight may take after the server was told to stop.
const GRACE: Duration = Duration::from_secs(3);

/// Most engine calls and downloads at once; more wait.
const MAX_BLOCKING_THREADS: usize = 64;

/// A server that listens and does not answer yet.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    engine: Arc<Engine>,
    options: ServeOptions,
}

impl Server {
    /// Listens.
    ///
    /// # Errors
    /// `Denied` if strangers could come in ([`ServeOptions::check`]); `Unavailable` if the address can not be had.
    pub async fn bind(engine: Arc<Engine>, options: ServeOptions) -> Result<Self> {
        options.check()?;
        let unavailable = |error: std::io::Error| {
            Error::unavailable(format!("can not listen on {}", options.address))
                .with_source(error)
                .with_hint("pass --port 0 to take any free port")
        };
        let listener = TcpListener::bind(options.address)
            .await
            .map_err(unavailable)?;
        let address = listener.local_addr().map_err(unavailable)?;
        Ok(Self {
            listener,
            address,
            engine,
            options,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What to open in a browser, with the token if there is one.
    pub fn url(&self) -> String {
        let host = match self.address.ip() {
            ip if ip.is_loopback() => "localhost".to_owned(),
            std::net::IpAddr::V6(ip) => format!("[{ip}]"),
            std::net::IpAddr::V4(ip) => ip.to_string(),
        };
        let token = self
            .options
            .token
            .as_ref()
            .map_or_else(String::new, |token| format!("?token={}", token.reveal()));
        format!("http://{host}:{}/{token}", self.address.port())
    }

    /// Answers until `stop` is done; requests in flight get a short grace, streams end at once.
    ///
    /// # Errors
    /// `Unavailable` if the listener breaks.
    pub async fn run(self, stop: impl Future<Output = ()> + Send + 'static) -> Result<()> {
        let (stopping_sender, stopping) = watch::channel(false);
        let state = AppState::new(self.engine, stopping.clone());
        let access = Access {
            loopback: self.address.ip().is_loopback(),
            token: self.options.token,
            cookie: format!("runtree_{}", self.address.port()),
        };
        let poller = tokio::spawn(updates::poll(state.clone()));
        let mut stopped = stopping.clone();
        let signal = async move {
            stop.await;
            stopping_sender.send_replace(true);
        };
        let server = axum::serve(self.listener, router(state, access, self.options.log))
            .with_graceful_shutdown(signal);
        let overdue = async move {
            // An error means the sender is gone, which only happens once it has told us.
            let _ = stopped.wait_for(|stopping| *stopping).await;
            tokio::time::sleep(GRACE).await;
        };
        let result = tokio::select! {
            result = server => result,
            () = overdue => Ok(()),
        };
        poller.abort();
        result
            .map_err(|error| Error::unavailable("the server stopped answering").with_source(error))
    }
}

/// Serves until Ctrl-C or SIGTERM; `ready` is told once the server listens. Blocks.
///
/// # Errors
/// As [`Server::bind`] and [`Server::run`], and what `ready` returns.
pub fn serve(
    engine: Arc<Engine>,
    options: ServeOptions,
    ready: impl FnOnce(&Server) -> Result<()>,
) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(MAX_BLOCKING_THREADS)
        .thread_name("runtree-server")
        .enable_all()
        .build()
        .map_err(|error| Error::unavailable("can not start threads").with_source(error))?;
    let result = runtime.block_on(async {
        let stop = stop_signal()?;
        let server = Server::bind(engine, options).await?;
        ready(&server)?;
        server.run(stop).await
    });
    // A download that a client never drains must not hold the process.
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

/// Done at the first Ctrl-C or SIGTERM after this returned.
fn stop_signal() -> Result<impl Future<Output = ()> + Send + 'static> {
    use tokio::signal::unix::{SignalKind, signal};
    let unavailable =
        |error: std::io::Error| Error::unavailable("can not wait for signals").with_source(error);
    let mut interrupt = signal(SignalKind::interrupt()).map_err(unavailable)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(unavailable)?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}
