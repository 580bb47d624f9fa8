//! Every route answers with its type, and every mistake with the one envelope.

use runtree_core::wire;
use serde_json::{Value, json};

use crate::fixture::Served;

fn parse<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

#[test]
fn lists_and_one_run_have_the_types_of_the_document() {
    let served = Served::start();
    let store: wire::StoreInfo = parse(served.get("/store").json());
    assert!(store.writable);
    let projects: Vec<wire::ProjectInfo> = parse(served.get("/projects").json());
    assert_eq!((projects[0].name.as_str(), projects[0].runs), ("digits", 2));

    let page: wire::RunPage = parse(served.get("/runs?sort=display_id&order=asc").json());
    assert_eq!(page.total, 2);
    let ids: Vec<&str> = page
        .runs
        .iter()
        .map(|run| run.display_id.as_str())
        .collect();
    assert_eq!(ids, ["DIG-1", "DIG-2"]);
    let hot = &page.runs[1];
    assert_eq!(hot.first_nonfinite.as_ref().unwrap().step.0, 72);
    assert!(hot.metrics["loss"].value.0.is_nan());

    // By display id and by RunId: the same.
    let detail: wire::RunDetail = parse(served.get("/runs/DIG-2").json());
    let again: wire::RunDetail = parse(served.get(&format!("/runs/{}", hot.id)).json());
    assert_eq!(detail.summary.id, again.summary.id);
    assert_eq!(detail.summary.owner.unwrap().display_id, "DIG-1");

    let tree: wire::LineageTree = parse(served.get("/runs/DIG-2/lineage").json());
    assert_eq!(tree.runs.len(), 2);
    let console: wire::ConsolePage = parse(served.get("/runs/DIG-1/console?limit=1").json());
    assert_eq!(console.lines[0].text, "epoch 1");
    let next = console.next_cursor.unwrap();
    let console: wire::ConsolePage = parse(
        served
            .get(&format!("/runs/DIG-1/console?cursor={next}"))
            .json(),
    );
    assert_eq!(console.lines[0].text, "epoch 2");
}

#[test]
fn views_are_kept_and_a_head_is_chosen() {
    let served = Served::start();
    let put = |path: &str, body: Value| served.send("PUT", path, &body);
    let view = json!({"query": "q=loss%20%3C%201&x=relative"});
    let kept = put("/projects/digits/views/my%2Fview", view.clone());
    let kept: Vec<wire::SavedView> = parse(kept.json());
    assert_eq!(kept[0].name, "my/view");
    assert_eq!(json!(kept[0].query), view["query"]);
    let refused = put("/projects/other/views/a", view);
    assert_eq!(refused.error(404).0, "not_found");
    let gone = served.send("DELETE", "/projects/digits/views/my%2Fview", &Value::Null);
    assert_eq!(gone.json(), json!([]));
    let again = served.send("DELETE", "/projects/digits/views/my%2Fview", &Value::Null);
    assert_eq!(again.error(404).0, "not_found");

    assert_eq!(put("/runs/DIG-1/head", Value::Null).status, 204);
    let tree: wire::LineageTree = parse(served.get("/runs/DIG-2/lineage").json());
    assert!(tree.head_is_set);
    assert_eq!(tree.head.unwrap().display_id, "DIG-1");
    assert_eq!(
        served
            .send("DELETE", "/runs/DIG-2/head", &Value::Null)
            .status,
        204
    );
    let tree: wire::LineageTree = parse(served.get("/runs/DIG-2/lineage").json());
    assert!(!tree.head_is_set);

    let forked = tree.runs[1].summary.fork_step.unwrap();
    let sweep: wire::SweepTable = parse(served.get(&format!("/sweep?ref=DIG-1@{forked}")).json());
    assert_eq!(sweep.runs[0].display_id, "DIG-2");
    assert_eq!(sweep.parent.display_id, "DIG-1");
}

#[test]
fn what_there_is_to_ask_for_is_told_by_name() {
    let served = Served::start();
    let keys: wire::ProjectKeys = parse(served.get("/projects/digits/keys").json());
    assert!(keys.metrics.contains(&"loss".to_owned()), "{keys:?}");
    assert_eq!(
        served.get("/projects/other/keys").json()["metrics"],
        json!([])
    );
    let outlines: Vec<wire::RunOutline> = parse(served.get("/outlines?runs=DIG-2,DIG-1").json());
    assert_eq!(outlines.len(), 2);
    assert!(outlines[0].metrics.contains(&"loss".to_owned()));
    assert_eq!(served.get("/outlines?runs=DIG-9").status, 404);
    let many = vec!["DIG-1"; 201].join(",");
    assert_eq!(served.get(&format!("/outlines?runs={many}")).status, 400);
    let infos: Vec<wire::MetricInfo> = parse(
        served
            .get("/runs/DIG-2/metrics?names=loss,no%252Csuch")
            .json(),
    );
    assert_eq!(infos.len(), 1);
    let detail: wire::RunDetail = parse(served.get("/runs/DIG-2").json());
    let whole = detail.metrics.iter().find(|info| info.name == "loss");
    // NaN is no equal of itself: as text.
    assert_eq!(json!(infos.first()), json!(whole));
    // A number is a cursor.
    let second = served
        .get("/runs?sort=display_id&order=asc&limit=1&cursor=1")
        .json();
    assert_eq!(second["runs"][0]["display_id"], "DIG-2");
}

#[test]
fn runs_are_filtered_sorted_and_paged() {
    let served = Served::start();
    let total = |query: &str| served.get(&format!("/runs?{query}")).json()["total"].clone();
    assert_eq!(total("project=digits"), 2);
    assert_eq!(total("project=other"), 0);
    assert_eq!(total("search=hot"), 1);
    let id = served.get("/runs/DIG-2").json()["summary"]["id"].clone();
    let id = id.as_str().unwrap();
    assert_eq!(total(&format!("ids={id}")), 1);
    assert_eq!(total(&format!("ids={id}&search=nothing")), 0);
    let wrong = served.get("/runs?ids=DIG-2");
    assert_eq!(wrong.status, 400);
    assert_eq!(total("status=failed"), 1);
    assert_eq!(total("status=failed,completed"), 2);
    assert_eq!(total("tag=experiment"), 1);
    assert_eq!(total("filter=status:completed%20digits"), 1);
    assert_eq!(total("filter=root:DIG-2"), 2);
    let first = served.get("/runs?limit=1&sort=name&order=asc").json();
    assert_eq!(first["runs"][0]["name"], "digits");
    let cursor = first["next_cursor"].as_str().unwrap();
    let second = served
        .get(&format!(
            "/runs?limit=1&sort=name&order=asc&cursor={cursor}"
        ))
        .json();
    assert_eq!(second["runs"][0]["name"], "hot");
    assert_eq!(second["next_cursor"], Value::Null);
    let only = served.get("/runs?metrics=accuracy").json();
    assert_eq!(only["runs"][0]["metrics"], json!({}));
}

#[test]
fn a_chart_is_stitched_along_the_lineage() {
    let served = Served::start();
    let mut request = json!({
        "series": [{"run": "DIG-2", "metric": "loss", "attempt": null}],
        "x": "step", "from": null, "to": null, "pixels": 1000, "inherited": true
    });
    let answer: wire::SeriesResponse = parse(served.send("POST", "/series", &request).json());
    let series = &answer.series[0];
    assert_eq!(series.points, 81);
    assert_eq!(series.segments.len(), 2);
    assert!(series.segments[0].inherited && !series.segments[1].inherited);
    request["inherited"] = json!(false);
    let answer: wire::SeriesResponse = parse(served.send("POST", "/series", &request).json());
    assert_eq!(answer.series[0].points, 30);
}

#[test]
fn checkpoints_are_listed_opened_and_compared() {
    let served = Served::start();
    let inherited: Vec<wire::CheckpointInfo> = parse(served.get("/runs/DIG-2/checkpoints").json());
    assert_eq!(inherited.len(), 1);
    assert!(inherited[0].inherited);
    let own = served.get("/runs/DIG-2/checkpoints?inherited=false").json();
    assert_eq!(own, json!([]));

    let id = &inherited[0].id;
    let info: wire::CheckpointInfo = parse(served.get(&format!("/checkpoints/{id}")).json());
    assert_eq!((info.step.0, info.inherited), (50, false));
    let by_ref: wire::CheckpointInfo = parse(served.get("/checkpoints/DIG-1@50").json());
    assert_eq!(by_ref.id, *id);
    let tensors: Vec<wire::TensorInfo> =
        parse(served.get(&format!("/checkpoints/{id}/tensors")).json());
    assert_eq!(tensors[0].shape, [256, 256]);

    let diff: wire::DiffReport = parse(served.get("/diff?a=DIG-1&b=DIG-2").json());
    assert_eq!(diff.config[0].key, "lr");
    let diff: wire::DiffReport = parse(served.get("/diff?a=DIG-1@50&b=DIG-1@100").json());
    assert_eq!(diff.tensors[0].changed_elements, Some(1 << 16));
}

#[test]
fn what_is_in_tensors_is_answered_for_those_that_are_asked_for() {
    let served = Served::start();
    let tensors: Vec<wire::TensorInfo> = parse(served.get("/checkpoints/DIG-1@50/tensors").json());
    let encoding = tensors[0].encoding.as_ref().unwrap();
    assert_eq!(
        (encoding.kind, encoding.depth, encoding.stored_bytes),
        (wire::EncodingKind::Raw, 0, 1 << 18)
    );
    let answer: Vec<wire::TensorStatistics> = parse(
        served
            .get("/checkpoints/DIG-1@50/statistics?tensors=0")
            .json(),
    );
    let [statistics] = answer.as_slice() else {
        panic!("{answer:?}")
    };
    assert_eq!(
        (
            statistics.tensor,
            statistics.elements,
            statistics.nonfinite()
        ),
        (0, 1 << 16, 0)
    );
    // 50, 51, …, 50 + 2^16 - 1.
    let finite = statistics.finite.as_ref().unwrap();
    assert_eq!(finite.min.as_f64(), Some(50.0));
    assert_eq!(finite.max.as_f64(), Some(65_585.0));
    assert!((finite.mean.0 - 32_817.5).abs() < 1e-6);
    for (query, kind) in [
        ("?tensors=1", "invalid"),
        ("?tensors=x", "invalid"),
        ("", "invalid"),
    ] {
        let path = format!("/checkpoints/DIG-1@50/statistics{query}");
        assert_eq!(served.get(&path).error(400).0, kind, "{query}");
    }
}

#[test]
fn a_download_is_a_tar_whose_tensors_are_there() {
    let served = Served::start();
    let answer = served.get("/checkpoints/DIG-1@50/download");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("application/x-tar"));
    assert_eq!(
        answer.header("content-disposition"),
        Some("attachment; filename=\"DIG-1-50.tar\"")
    );
    let mut archive = tar::Archive::new(answer.body.as_slice());
    let mut found = false;
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().into_owned();
        assert!(path.starts_with("DIG-1-50"), "{}", path.display());
        if path
            .extension()
            .is_some_and(|extension| extension == "safetensors")
        {
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(&mut entry, &mut bytes).unwrap();
            let expected = 50_f32.to_le_bytes();
            found |= bytes.windows(4).any(|window| window == expected);
        }
    }
    assert!(found);
}

#[test]
fn an_attached_page_is_no_page_of_ours() {
    let served = Served::start();
    let answer = served.get("/runs/DIG-1/files/reports%2Fpage.html");
    assert_eq!(answer.text(), "<script>alert(1)</script>");
    assert_eq!(
        answer.header("content-security-policy"),
        Some("sandbox; default-src 'none'")
    );
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    served
        .get("/runs/DIG-1/files/..%2F..%2Fruntree.json")
        .error(404);
}

#[test]
fn a_fork_is_created_and_waits() {
    let served = Served::start();
    let request = json!({
        "reference": "DIG-1@50", "name": "cooler", "config": {"lr": 1e-6}, "tags": ["cold"]
    });
    let answer = served.send("POST", "/forks", &request);
    assert_eq!(answer.status, 201);
    let run: wire::RunSummary = parse(answer.json());
    assert_eq!(
        (run.display_id.as_str(), run.name.as_str()),
        ("DIG-3", "cooler")
    );
    assert_eq!(run.config, json!({"lr": 1e-6}));
    assert_eq!(run.fork_step.unwrap().0, 50);
    let missing = json!({"reference": "DIG-1@51", "tags": []});
    let (kind, message) = served.send("POST", "/forks", &missing).error(404);
    assert_eq!(kind, "not_found");
    assert!(message.contains("51"), "{message}");
    let (kind, _) = served
        .send("POST", "/forks", &json!({"reference": "@", "tags": []}))
        .error(400);
    assert_eq!(kind, "invalid");
}

#[test]
fn runs_and_checkpoints_are_annotated_deleted_and_brought_back() {
    let served = Served::start();
    let patch = json!({"name": "first", "add_tags": ["paper"], "config": {"seed": 3}});
    let run: wire::RunSummary = parse(served.send("PATCH", "/runs/DIG-1", &patch).json());
    assert_eq!(
        (run.name.as_str(), run.tags.as_slice()),
        ("first", &["paper".to_owned()][..])
    );
    assert_eq!(run.config["seed"], 3);
    served
        .send("PATCH", "/runs/DIG-1", &json!({"nmae": "x"}))
        .error(400);

    let info = |answer: Value| -> wire::CheckpointInfo { parse(answer) };
    let reason = json!({"reason": "for the paper"});
    assert!(
        info(
            served
                .send("POST", "/checkpoints/DIG-1@50/pin", &reason)
                .json()
        )
        .pinned
    );
    assert!(
        !info(
            served
                .send("POST", "/checkpoints/DIG-1@50/unpin", &Value::Null)
                .json()
        )
        .pinned
    );
    assert!(
        info(
            served
                .send("POST", "/checkpoints/DIG-1@50/pin", &Value::Null)
                .json()
        )
        .pinned
    );

    let gone = info(
        served
            .send("DELETE", "/checkpoints/DIG-1@100", &Value::Null)
            .json(),
    );
    assert_eq!(gone.state, wire::CheckpointState::Deleted);
    served.get("/checkpoints/DIG-1@100/download").error(404);
    let back = served.send(
        "POST",
        &format!("/checkpoints/{}/restore", gone.id),
        &Value::Null,
    );
    assert_eq!(info(back.json()).state, wire::CheckpointState::Complete);

    let run: wire::RunSummary = parse(served.send("DELETE", "/runs/DIG-2", &Value::Null).json());
    assert!(run.deleted);
    assert_eq!(served.get("/runs").json()["total"], 1);
    served
        .send("POST", &format!("/runs/{}/restore", run.id), &Value::Null)
        .json();
    assert_eq!(served.get("/runs").json()["total"], 2);
}

#[test]
fn every_mistake_has_the_one_envelope() {
    let served = Served::start();
    for (method, path, body, status, kind) in [
        ("GET", "/nothing", "", 404, "not_found"),
        ("GET", "/runs/DIG-9", "", 404, "not_found"),
        ("GET", "/checkpoints/ck_0000000000000", "", 404, "not_found"),
        ("PUT", "/runs", "", 405, "invalid"),
        ("DELETE", "/series", "", 405, "invalid"),
        ("GET", "/runs?limit=many", "", 400, "invalid"),
        ("GET", "/runs?sorted=name", "", 400, "invalid"),
        ("GET", "/runs?sort=size", "", 400, "invalid"),
        ("GET", "/runs?status=sleeping", "", 400, "invalid"),
        ("GET", "/diff?a=DIG-1", "", 400, "invalid"),
        ("POST", "/series", "{", 400, "invalid"),
        ("POST", "/series", "{}", 400, "invalid"),
        ("GET", "/runs/%ff", "", 400, "invalid"),
    ] {
        let headers = [("Content-Type", "application/json")];
        let answer = served.request(method, path, &headers, body.as_bytes());
        let (found, message) = answer.error(status);
        assert_eq!(found, kind, "{method} {path}: {message}");
        assert_eq!(
            answer.header("content-type"),
            Some("application/json"),
            "{method} {path}"
        );
    }
}

#[test]
fn a_body_that_is_too_large_is_refused() {
    let served = Served::start();
    let body = json!({"reference": "DIG-1@50", "tags": [], "notes": "x".repeat(5 << 20)});
    let (kind, _) = served.send("POST", "/forks", &body).error(413);
    assert_eq!(kind, "invalid");
}

#[test]
fn answers_of_the_moment_are_not_kept_and_large_ones_are_compressed() {
    let served = Served::start();
    let answer = served.request("GET", "/openapi.json", &[("Accept-Encoding", "gzip")], b"");
    assert_eq!(answer.header("content-encoding"), Some("gzip"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(answer.body[..2], [0x1f, 0x8b]);
}
