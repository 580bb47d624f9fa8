//! The OpenAPI document is a contract: `web/openapi.json` is what the TypeScript client is made from.

use std::collections::BTreeSet;
use std::path::Path;

fn snapshot() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../web/openapi.json")
}

#[test]
fn the_document_is_the_one_the_web_client_was_made_from() {
    let document = runtree_server::openapi_json();
    if std::env::var_os("UPDATE_OPENAPI").is_some() {
        std::fs::write(snapshot(), &document).unwrap();
    }
    let known = std::fs::read_to_string(snapshot()).unwrap_or_default();
    assert!(
        known == document,
        "the API changed and web/openapi.json did not. Look at the difference, then:\n  \
         make api"
    );
}

#[test]
fn every_route_of_the_design_is_in_the_document_with_its_method() {
    let document: serde_json::Value =
        serde_json::from_str(&runtree_server::openapi_json()).unwrap();
    let mut names = BTreeSet::new();
    for (method, path) in [
        ("get", "/health"),
        ("get", "/store"),
        ("get", "/projects"),
        ("get", "/events"),
        ("get", "/runs"),
        ("get", "/runs/{run}"),
        ("patch", "/runs/{run}"),
        ("delete", "/runs/{run}"),
        ("post", "/runs/{run}/restore"),
        ("get", "/runs/{run}/lineage"),
        ("get", "/runs/{run}/checkpoints"),
        ("get", "/runs/{run}/console"),
        ("get", "/runs/{run}/files/{name}"),
        ("get", "/runs/{run}/media"),
        ("get", "/runs/{run}/media/entries"),
        ("get", "/runs/{run}/media/content"),
        ("post", "/series"),
        ("get", "/diff"),
        ("get", "/checkpoints/{id}"),
        ("delete", "/checkpoints/{id}"),
        ("get", "/checkpoints/{id}/tensors"),
        ("get", "/checkpoints/{id}/statistics"),
        ("get", "/checkpoints/{id}/download"),
        ("post", "/checkpoints/{id}/pin"),
        ("post", "/checkpoints/{id}/unpin"),
        ("post", "/checkpoints/{id}/restore"),
        ("post", "/forks"),
    ] {
        let operation = &document["paths"][path][method];
        assert!(operation.is_object(), "{method} {path} is missing");
        let name = operation["operationId"].as_str().unwrap();
        assert!(names.insert(name), "two operations are called {name}");
    }
    assert_eq!(document["openapi"], "3.1.0");
}

/// A `$ref` that leads nowhere makes a client generator fail far from the cause.
#[test]
fn every_reference_in_the_document_leads_to_a_type() {
    fn references<'a>(value: &'a serde_json::Value, found: &mut Vec<&'a str>) {
        match value {
            serde_json::Value::Object(map) => {
                for (key, value) in map {
                    match value.as_str() {
                        Some(target) if key == "$ref" => found.push(target),
                        _ => references(value, found),
                    }
                }
            }
            serde_json::Value::Array(items) => {
                for item in items {
                    references(item, found);
                }
            }
            _ => {}
        }
    }
    let document: serde_json::Value =
        serde_json::from_str(&runtree_server::openapi_json()).unwrap();
    let mut found = Vec::new();
    references(&document, &mut found);
    assert!(found.len() > 50, "only {} references", found.len());
    for target in found {
        let pointer = target.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{target} is missing");
    }
}

#[test]
fn every_answer_is_described_as_the_standard_demands() {
    let document: serde_json::Value =
        serde_json::from_str(&runtree_server::openapi_json()).unwrap();
    let mut answers = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let Some(responses) = operation["responses"].as_object() else {
                continue;
            };
            for (status, response) in responses {
                let text = response["description"].as_str().unwrap_or_default();
                assert!(!text.is_empty(), "{method} {path} {status}");
                answers += 1;
            }
        }
    }
    assert!(answers > 40, "only {answers} answers");
}
