use proptest::prelude::*;
use runtree_core::reference::{Direction, Reference, Selector};
use runtree_core::{CheckpointId, ErrorKind, ProjectName, Step};

fn parse(text: &str) -> Reference {
    text.parse().unwrap()
}

/// Names with what people put into names; not what separates the parts of a REF.
fn any_name() -> impl Strategy<Value = String> {
    prop_oneof![
        "[A-Z]{1,4}-[1-9][0-9]{0,3}",
        "[a-z0-9][a-z0-9 ._:<=>~+-]{0,20}[a-z]",
        "[数学ßøé🦀]{1,6}( v[0-9])?",
    ]
}

fn any_metric() -> impl Strategy<Value = String> {
    "[a-z][a-z0-9/_@# .-]{0,16}[a-z]"
}

fn any_selector() -> impl Strategy<Value = Selector> {
    let direction = prop::option::of(prop::sample::select(vec![Direction::Min, Direction::Max]));
    prop_oneof![
        any::<i64>().prop_map(|step| Selector::Step(Step(step))),
        Just(Selector::Latest),
        any::<i64>().prop_map(|step| Selector::AtMost(Step(step))),
        (any_metric(), direction).prop_map(|(metric, direction)| Selector::Best(metric, direction)),
        prop::option::of(any_metric()).prop_map(Selector::LastGood),
        any::<u64>().prop_map(|bits| Selector::Id(CheckpointId::from_bits(bits))),
        "(epoch|before|数) ?[a-z@.-]{1,8}".prop_map(Selector::Name),
    ]
}

fn any_reference() -> impl Strategy<Value = Reference> {
    let store = prop::sample::select(vec![
        "s3://bucket/prefix",
        "/data/a#b",
        "team",
        "u@host:/x y",
    ]);
    (
        prop::option::of(store),
        prop::option::of("[a-zé数][a-z é数.~-]{0,12}"),
        any_name(),
        prop::option::of(1_u32..),
        prop::option::of(any_selector()),
    )
        .prop_map(|(store, project, run, nth, selector)| Reference {
            store: store.map(str::to_owned),
            project: project.map(|name| name.parse::<ProjectName>().unwrap()),
            run,
            nth,
            selector,
        })
}

proptest! {
    #[test]
    fn what_a_reference_prints_parses_to_itself(reference in any_reference()) {
        let text = reference.to_string();
        prop_assert_eq!(text.parse::<Reference>().unwrap(), reference, "{}", text);
    }

    #[test]
    fn any_text_is_a_reference_that_prints_itself_or_an_error_with_a_message(text in any::<String>()) {
        match text.parse::<Reference>() {
            Ok(reference) => {
                let printed = reference.to_string();
                prop_assert_eq!(printed.parse::<Reference>().unwrap(), reference, "{}", printed);
            }
            Err(error) => {
                prop_assert_eq!(error.kind(), ErrorKind::Invalid);
                prop_assert!(!error.message().is_empty());
            }
        }
    }

    #[test]
    fn what_a_selector_prints_parses_to_itself(selector in any_selector()) {
        prop_assert_eq!(selector.to_string().parse::<Selector>().unwrap(), selector);
    }
}

#[test]
fn every_part_of_the_grammar_is_found() {
    let whole = parse("s3://bucket/prefix#my-project/MMP-42@best:val/reward:max");
    assert_eq!(whole.store.as_deref(), Some("s3://bucket/prefix"));
    assert_eq!(whole.project.unwrap().as_str(), "my-project");
    assert_eq!(whole.run, "MMP-42");
    assert_eq!(
        whole.selector,
        Some(Selector::Best(
            "val/reward".to_owned(),
            Some(Direction::Max)
        ))
    );
    let nth = parse("baseline lr 1e-4~2@<=500");
    assert_eq!((nth.run.as_str(), nth.nth), ("baseline lr 1e-4", Some(2)));
    assert_eq!(nth.selector, Some(Selector::AtMost(Step(500))));
    for (text, selector) in [
        ("r@500", Selector::Step(Step(500))),
        ("r@-1", Selector::Step(Step(-1))),
        ("r@latest", Selector::Latest),
        ("r@<= 500", Selector::AtMost(Step(500))),
        ("r@best:loss", Selector::Best("loss".to_owned(), None)),
        (
            "r@best:a:b:min",
            Selector::Best("a:b".to_owned(), Some(Direction::Min)),
        ),
        ("r@last-good", Selector::LastGood(None)),
        (
            "r@last-good:train/loss",
            Selector::LastGood(Some("train/loss".to_owned())),
        ),
        ("r@before-crash", Selector::Name("before-crash".to_owned())),
        ("r@1e3", Selector::Name("1e3".to_owned())),
        (
            "r@ck_0000000000001",
            Selector::Id(CheckpointId::from_bits(1)),
        ),
    ] {
        assert_eq!(parse(text).selector, Some(selector), "{text}");
    }
}

#[test]
fn separators_mean_nothing_inside_the_parts_after_them() {
    // The metric has `#` and `@`, the store has both too, the name has `~` and `/`.
    let metric = parse("r@best:loss#1@eval:min");
    assert_eq!(metric.store, None);
    assert_eq!(
        metric.selector,
        Some(Selector::Best(
            "loss#1@eval".to_owned(),
            Some(Direction::Min)
        ))
    );
    let store = parse("u@host:/a#b#p/r@3");
    assert_eq!(store.store.as_deref(), Some("u@host:/a#b"));
    assert_eq!(store.selector, Some(Selector::Step(Step(3))));
    let name = parse("p/a~b/c");
    assert_eq!((name.run.as_str(), name.nth), ("a~b/c", None));
    let counted = parse("a~b~3");
    assert_eq!((counted.run.as_str(), counted.nth), ("a~b", Some(3)));
}

#[test]
fn what_is_no_reference_says_why_and_what_one_is() {
    let error = |text: &str| {
        let error = text.parse::<Reference>().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        error.message().to_owned()
    };
    insta::assert_snapshot!(error(""), @r#""" is not a REF: no run"#);
    insta::assert_snapshot!(error("@5"), @r#""@5" is not a REF: no run"#);
    insta::assert_snapshot!(error("#MMP-1"), @r##""#MMP-1" is not a REF: nothing before #"##);
    insta::assert_snapshot!(error("exp~0"), @r#""exp~0" is not a REF: after ~ stands a number from 1"#);
    insta::assert_snapshot!(error("exp~"), @r#""exp~" is not a REF: after ~ stands a number from 1"#);
    insta::assert_snapshot!(error("exp~99999999999"), @r#""exp~99999999999" is not a REF: after ~ stands a number from 1"#);
    insta::assert_snapshot!(error("/run"), @r#""/run": a project name has 1 to 128 bytes, "" has 0"#);
    insta::assert_snapshot!(error("run@"), @r#""run@": "" is not a selector: nothing after @"#);
    insta::assert_snapshot!(error("run@<=soon"), @r#""run@<=soon": "<=soon" is not a selector: after <= stands a step"#);
    insta::assert_snapshot!(error("run@best:"), @r#""run@best:": "best:" is not a selector: no metric"#);
    insta::assert_snapshot!(error("run@best::max"), @r#""run@best::max": "best::max" is not a selector: no metric"#);
    insta::assert_snapshot!(error("run@last-good:"), @r#""run@last-good:": "last-good:" is not a selector: no metric"#);
    let hint = "".parse::<Reference>().unwrap_err();
    insta::assert_snapshot!(hint.hint().unwrap(), @"a REF is [STORE#][project/]run[@selector], like MMP-42@500; a run whose key or name holds / # @ is named by its display id");
}
