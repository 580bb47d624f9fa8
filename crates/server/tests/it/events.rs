//! Live updates.

use std::io::BufRead;
use std::time::{Duration, Instant};

use crate::fixture::{Served, log, spec};
use crate::http;

#[test]
fn a_browser_hears_which_run_changed_when_another_process_logs() {
    let served = Served::start();
    let mut stream = http::open(served.address, "GET", "/api/v1/events", &[], b"");
    let (status, headers) = http::head(&mut stream);
    assert_eq!(status, 200);
    assert!(headers.contains(&("content-type".to_owned(), "text/event-stream".to_owned())));

    let writer = served.trainer().start_run(spec("live")).unwrap();
    log(&writer, 0, 1.0);
    writer.flush().unwrap();
    let run = writer.run().to_string();
    hear_of(&mut stream, &run);
    writer.finish(None, None, None).unwrap();
}

#[test]
fn a_browser_hears_that_a_run_fell_silent_though_nobody_writes_it_down() {
    let served = Served::start();
    let trainer = served.trainer();
    let dies = trainer.start_run(spec("dies")).unwrap();
    log(&dies, 0, 1.0);
    dies.flush().unwrap();
    let run = dies.run().to_string();
    // Without a goodbye, as when the process is killed.
    drop(dies);
    let status = || served.get(&format!("/runs/{run}")).json()["summary"]["status"].clone();
    assert_eq!(status(), "running");
    let mut stream = http::open(served.address, "GET", "/api/v1/events", &[], b"");
    assert_eq!(http::head(&mut stream).0, 200);
    // Once this is heard, the poller has seen the other run running.
    let other = trainer.start_run(spec("other")).unwrap();
    log(&other, 0, 1.0);
    other.flush().unwrap();
    hear_of(&mut stream, &other.run().to_string());
    other.finish(None, None, None).unwrap();
    served.clock.advance(61);
    hear_of(&mut stream, &run);
    assert_eq!(status(), "lost");
}

/// Reads events until one names a run.
fn hear_of(stream: &mut impl BufRead, run: &str) {
    let waiting = Instant::now();
    let mut named = false;
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).unwrap();
        named |= line.trim_end() == "event: change";
        if let Some(data) = line.strip_prefix("data: ") {
            let event: runtree_server::ChangeEvent = serde_json::from_str(data).unwrap();
            if event.runs.iter().any(|changed| changed == run) {
                break;
            }
        }
        assert!(waiting.elapsed() < Duration::from_secs(20));
    }
    assert!(named);
}

#[test]
fn a_server_with_open_streams_stops_at_once() {
    let mut served = Served::start();
    let mut stream = http::open(served.address, "GET", "/api/v1/events", &[], b"");
    assert_eq!(http::head(&mut stream).0, 200);
    let told = Instant::now();
    served.stop();
    assert!(
        told.elapsed() < Duration::from_secs(2),
        "{:?}",
        told.elapsed()
    );
}
