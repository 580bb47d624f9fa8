use proptest::prelude::*;
use runtree_core::Timestamp;
use runtree_core::filter::{Comparison, Field, Filter, Relation, Summary, Value, When};

fn parse(text: &str) -> Filter {
    text.parse()
        .unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn refused(text: &str) -> String {
    match text.parse::<Filter>() {
        Ok(filter) => panic!("{text} is {filter:?}"),
        Err(error) => error.message().to_owned(),
    }
}

fn compare(field: Field, comparison: Comparison, value: Value) -> Filter {
    Filter::Compare {
        field,
        comparison,
        value,
    }
}

fn number(text: &str) -> Value {
    Value::Number(text.parse().unwrap(), text.to_owned())
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

#[test]
fn everything_that_the_grammar_has_is_read() {
    assert_eq!(
        parse("status = failed config.lr < 1e-4 and min(val/loss) <= 0.5 or descendants(MMP-42)"),
        Filter::Any(vec![
            Filter::All(vec![
                compare(Field::Status, Comparison::Equal, text("failed")),
                compare(
                    Field::Config("lr".to_owned()),
                    Comparison::Less,
                    number("1e-4")
                ),
                compare(
                    Field::Metric("val/loss".to_owned(), Summary::Min),
                    Comparison::LessOrEqual,
                    number("0.5")
                ),
            ]),
            Filter::Relative(Relation::Descendants, "MMP-42".to_owned()),
        ])
    );
    assert_eq!(
        parse("not (tag in (a, \"b c\"))"),
        Filter::Not(Box::new(Filter::Any(vec![
            compare(Field::Tag, Comparison::Equal, text("a")),
            compare(Field::Tag, Comparison::Equal, text("b c")),
        ])))
    );
    assert_eq!(
        parse("\"val loss\" >= 3"),
        parse("last(val loss) >= 3"),
        "a quoted name is a metric's"
    );
    assert_eq!(
        parse("config.\"a b\" != x"),
        compare(
            Field::Config("a b".to_owned()),
            Comparison::NotEqual,
            text("x")
        )
    );
    assert_eq!(parse("name!~x"), parse("name !~ \"x\""));
    for empty in [
        "\"\" < 1",
        "root:\"\"",
        "config.\"\" = 1",
        "last(\"\" a) < 1",
        "name = \"\"",
    ] {
        let filter = parse(empty);
        assert_eq!(parse(&filter.to_string()), filter, "{empty}");
    }
}

#[test]
fn colons_are_short_for_equals() {
    assert_eq!(
        parse("status:running tag:\"a b\" root:MMP-3 -tag:x val:3 deleted:true"),
        parse(
            "status = running and tag = \"a b\" and root(MMP-3) \"-tag:x\" \"val:3\" deleted = true"
        )
    );
    assert!(parse("not deleted:true").mentions(&Field::Deleted));
    assert!(refused("tag: x").contains("a value after : was expected"));
    assert!(refused("deleted:maybe").contains("= true or = false"));
    assert!(refused("status in (failed, broken)").contains("broken"));
}

#[test]
fn words_are_searched_for() {
    assert_eq!(
        parse("warm-up \"two words\" AND not cold"),
        Filter::All(vec![
            Filter::Word("warm-up".to_owned()),
            Filter::Word("two words".to_owned()),
            Filter::Not(Box::new(Filter::Word("cold".to_owned()))),
        ])
    );
    assert_eq!(parse("  "), Filter::everything());
    assert_eq!(parse("status"), Filter::Word("status".to_owned()));
    assert_eq!(parse("\"and\""), Filter::Word("and".to_owned()));
}

#[test]
fn times_are_moments_or_ages() {
    let at = |text: &str| match parse(&format!("created > {text}")) {
        Filter::Compare {
            value: Value::Time(when),
            ..
        } => when,
        other => panic!("{other:?}"),
    };
    assert_eq!(at("1970-01-02"), When::At(Timestamp(86_400_000_000)));
    assert_eq!(at("1970-01-01T01:00"), When::At(Timestamp(3_600_000_000)));
    assert_eq!(at("1970-01-01T00:00:01.5Z"), When::At(Timestamp(1_500_000)));
    assert_eq!(at("-2h"), When::Ago(7_200_000_000));
    assert_eq!(
        at("-2h").from(Timestamp(7_200_000_005)),
        Timestamp(5),
        "so long before now"
    );
    for wrong in ["yesterday", "-2y", "--2d", "2026-13-01", "12"] {
        assert!(refused(&format!("active < {wrong}")).contains("is not a time"));
    }
}

#[test]
fn what_can_not_be_meant_is_refused_with_its_place() {
    for (filter, why) in [
        ("status =", "a value was expected at the end"),
        ("(a or b", ") was expected at the end"),
        ("a or", "a condition was expected at the end"),
        ("a )", "at character 3"),
        ("ä \"b", "quote at character 3"),
        ("loss = low", "is a number"),
        ("step ~ 5", "is a number"),
        ("name < 5", "is text"),
        ("created ~ 2026-11-29", "is a time"),
        ("status = broken", "broken"),
        ("min(loss)", "a comparison was expected"),
        ("median(loss) < 5", "last(…), min(…)"),
        ("tag in ()", "a value was expected"),
        ("forks()", "a run was expected"),
        ("= 5", "a condition was expected at character 1"),
    ] {
        let message = refused(filter);
        assert!(message.contains(why), "{filter}: {message}");
    }
    assert!(refused(&"(".repeat(5_000)).contains("nested"));
    assert!(refused(&"not ".repeat(4_000)).contains("nested"));
    assert!(refused(&"a ".repeat(20_000)).contains("bytes"));
}

fn names() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z]{1,5}(/[a-z]{1,5})?", "\\PC{1,8}"]
}

fn values() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<f64>()
            .prop_filter("NaN is not equal to itself", |number| !number.is_nan())
            .prop_map(|number| Value::Number(number, number.to_string())),
        names().prop_map(Value::Text),
    ]
}

fn comparisons() -> impl Strategy<Value = Filter> {
    use Comparison::{Contains, ContainsNot, Equal, Greater, Less, LessOrEqual, NotEqual};
    prop_oneof![
        (names(), values(), 0..8_usize).prop_map(|(key, value, at)| compare(
            Field::Config(key),
            [
                Equal,
                NotEqual,
                Less,
                LessOrEqual,
                Greater,
                Contains,
                ContainsNot,
                Equal
            ][at],
            value
        )),
        (names(), any::<i32>(), 0..3_usize).prop_map(|(metric, value, at)| compare(
            Field::Metric(metric, [Summary::Last, Summary::Min, Summary::Max][at]),
            Greater,
            number(&value.to_string())
        )),
        (names(), 0..3_usize).prop_map(|(name, at)| compare(
            [Field::Name, Field::Tag, Field::Notes][at].clone(),
            Contains,
            Value::Text(name)
        )),
        (0..4_000_000_000_000_000_i64).prop_map(|at| compare(
            Field::Created,
            LessOrEqual,
            Value::Time(When::At(Timestamp(at)))
        )),
        (0..1_000_000_i64).prop_map(|seconds| compare(
            Field::Active,
            Less,
            Value::Time(When::Ago(seconds * 1_000_000))
        )),
        names().prop_map(Filter::Word),
        names().prop_map(|run| Filter::Relative(Relation::Ancestors, run)),
    ]
}

fn filters() -> impl Strategy<Value = Filter> {
    comparisons().prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 2..4).prop_map(Filter::All),
            proptest::collection::vec(inner.clone(), 2..4).prop_map(Filter::Any),
            inner.prop_map(|filter| Filter::Not(Box::new(filter))),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_shown_reads_as_the_same(filter in filters()) {
        let shown = filter.to_string();
        prop_assert_eq!(shown.parse::<Filter>().map_err(|error| error.to_string()), Ok(filter), "{}", shown);
    }

    #[test]
    fn nothing_makes_it_panic(text in "\\PC{0,60}") {
        let _ = text.parse::<Filter>();
    }

    #[test]
    fn signs_and_words_in_any_order_do_not_either(words in proptest::collection::vec(
        prop_oneof![Just("("), Just(")"), Just("and"), Just("or"), Just("not"), Just("in"), Just("="), Just("!~"), Just("\""), Just("min("), Just("config."),
            Just("a"), Just("5"), Just(","), Just("created"), Just("-7d"), Just("\\")], 0..12)) {
        let text = words.join(" ");
        if let Ok(filter) = text.parse::<Filter>() {
            prop_assert_eq!(filter.to_string().parse::<Filter>().ok(), Some(filter));
        }
        let _ = words.concat().parse::<Filter>();
    }
}
