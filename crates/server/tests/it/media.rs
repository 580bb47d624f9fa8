//! Media and consoles over HTTP: found by name and step, and never a page of this server.

use bytes::Bytes;
use runtree_core::media::{AlertLevel, MediaKind};
use runtree_core::{Step, wire};
use runtree_engine::{ForkChoice, MediaContent, MediaEntry, MediaSource, RunSpec};
use serde_json::Value;

use crate::fixture::Served;

fn parse<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn entry(name: &str, kind: MediaKind, content_type: &str, bytes: &[u8]) -> MediaEntry {
    MediaEntry {
        name: name.to_owned(),
        kind,
        items: vec![MediaSource {
            content: MediaContent::Bytes(Bytes::copy_from_slice(bytes)),
            content_type: content_type.to_owned(),
            caption: Some("a caption".to_owned()),
            file_name: None,
            size: None,
        }],
    }
}

/// A run and a fork of it, in a project of their own: `MED-1`, `MED-2`.
fn with_media() -> Served {
    let served = Served::start();
    let engine = served.trainer();
    let spec = RunSpec::new("media".parse().unwrap());
    let run = engine.start_run(spec.clone()).unwrap();
    for step in 0..4 {
        let media = vec![
            entry(
                "a/pic",
                MediaKind::Image,
                "image/png",
                &[0x89, step as u8, 0xff],
            ),
            entry(
                "say",
                MediaKind::Text,
                "text/plain",
                format!("<b>{step}</b>").as_bytes(),
            ),
            entry(
                "bad",
                MediaKind::File,
                "image/svg+xml",
                b"<svg onload=alert(1) \xff>",
            ),
            entry(
                "page",
                MediaKind::File,
                "text/html; charset=utf-8",
                b"<script>\xff</script>",
            ),
        ];
        run.log_media(Some(Step(step)), None, &[("loss", 1.0)], media, true)
            .unwrap();
    }
    run.alert("look", "closer", AlertLevel::Error).unwrap();
    run.console(
        "stderr",
        vec!["INFO: fine".to_owned(), "ERROR: not".to_owned()],
    )
    .unwrap();
    run.finish(None, None, None).unwrap();
    let fork = RunSpec {
        fork: ForkChoice::RunAndStep {
            run: run.run().to_string(),
            step: Step(2),
        },
        ..spec
    };
    let child = engine.start_run(fork).unwrap();
    let say = entry("say", MediaKind::Text, "text/plain", b"child");
    child
        .log_media(Some(Step(3)), None, &[("loss", 1.0)], vec![say], true)
        .unwrap();
    child.finish(None, None, None).unwrap();
    served
}

#[test]
fn media_are_listed_paged_and_found_at_a_step() {
    let served = with_media();
    let list: wire::MediaList = parse(served.get("/runs/MED-2/media").json());
    let keys: Vec<_> = list
        .keys
        .iter()
        .map(|key| (key.name.as_str(), key.entries))
        .collect();
    assert_eq!(keys, [("a/pic", 3), ("bad", 3), ("page", 3), ("say", 4)]);
    assert_eq!(list.steps, [0, 1, 2, 3].map(Step));
    let own: wire::MediaList = parse(served.get("/runs/MED-2/media?inherited=false").json());
    assert_eq!(own.keys.len(), 1);
    let page: wire::MediaPage = parse(
        served
            .get("/runs/MED-2/media/entries?name=a/pic&limit=2")
            .json(),
    );
    assert_eq!((page.entries.len(), page.next_step), (2, Some(Step(2))));
    assert_eq!(
        page.entries[0].items[0].caption.as_deref(),
        Some("a caption")
    );
    let page: wire::MediaPage = parse(
        served
            .get("/runs/MED-2/media/entries?name=a%2Fpic&from=2")
            .json(),
    );
    assert_eq!((page.entries.len(), page.next_step), (1, None));
    let at: wire::MediaPage = parse(served.get("/runs/MED-2/media/entries?at=3").json());
    let at: Vec<_> = at
        .entries
        .iter()
        .map(|entry| (entry.name.as_str(), entry.step.0, entry.inherited))
        .collect();
    assert_eq!(
        at,
        [
            ("a/pic", 2, true),
            ("bad", 2, true),
            ("page", 2, true),
            ("say", 3, false)
        ]
    );
    served
        .get("/runs/MED-2/media/entries?name=nothing")
        .error(404);
    served.get("/runs/MED-2/media?attempt=9").error(404);
    served
        .get("/runs/MED-2/media/entries?name=say&colour=red")
        .error(400);
}

#[test]
fn bytes_have_their_type_and_can_not_run_here() {
    let served = with_media();
    let content = |query: &str| served.get(&format!("/runs/MED-2/media/content?{query}"));
    let picture = content("name=a/pic&step=1");
    assert_eq!(picture.header("content-type"), Some("image/png"));
    let text = content("name=say&step=0");
    assert_eq!(text.text(), "<b>0</b>");
    assert_eq!(
        text.header("content-type"),
        Some("text/plain; charset=utf-8")
    );
    for name in ["bad", "page"] {
        let answer = content(&format!("name={name}&step=0"));
        assert_eq!(
            answer.header("content-type"),
            Some("application/octet-stream"),
            "{name}"
        );
        assert_eq!(
            answer.header("content-disposition"),
            Some("attachment"),
            "{name}"
        );
    }
    for answer in [picture, text] {
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(
            answer.header("content-security-policy"),
            Some("sandbox; default-src 'none'")
        );
        assert_eq!(answer.header("content-disposition"), None);
    }
    assert_eq!(content("name=say&step=3").text(), "child");
    assert_eq!(
        served
            .get("/runs/MED-1/media/content?name=say&step=3")
            .text(),
        "<b>3</b>"
    );
    content("name=say&step=9").error(404);
    content("name=say&step=0&item=1").error(404);
    content("name=../../runtree.json&step=0").error(404);
    content("step=0").error(400);
}

#[test]
fn alerts_processes_and_levels_are_told() {
    let served = with_media();
    let detail: wire::RunDetail = parse(served.get("/runs/MED-1").json());
    assert_eq!(
        (detail.alerts[0].title.as_str(), detail.alerts[0].step),
        ("look", Some(Step(3)))
    );
    assert_eq!(detail.processes.len(), 1);
    let page: wire::RunPage = parse(
        served
            .get("/runs?project=media&sort=display_id&order=asc")
            .json(),
    );
    let alerts: Vec<_> = page
        .runs
        .iter()
        .map(|run| run.alerts.as_ref().map(|alerts| alerts.count))
        .collect();
    assert_eq!(alerts, [Some(1), None]);
    let lines = |query: &str| -> Vec<String> {
        let page: wire::ConsolePage =
            parse(served.get(&format!("/runs/MED-1/console?{query}")).json());
        page.lines.into_iter().map(|line| line.text).collect()
    };
    assert_eq!(lines("level=warning"), ["ERROR: not"]);
    assert_eq!(lines("search=FINE&rank=0&attempt=1"), ["INFO: fine"]);
    assert_eq!(lines("rank=7"), [""; 0]);
    served.get("/runs/MED-1/console?level=loud").error(400);
}
