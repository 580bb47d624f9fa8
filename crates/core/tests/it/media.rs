//! Events that are no points: what a journal says of media, and how loud a console's lines are.

use runtree_core::console::{ConsoleLevel, level_of, levels_of};
use runtree_core::event::Event;
use runtree_core::media::{MAX_CAPTION_BYTES, MAX_ITEMS, MediaItem, check_items};

fn item() -> MediaItem {
    MediaItem {
        content_type: "text/plain".to_owned(),
        bytes: 2,
        caption: None,
        file_name: None,
        size: None,
        inline: Some("hi".to_owned()),
        chunks: Vec::new(),
    }
}

#[test]
fn an_event_of_a_newer_runtree_is_passed_over_and_never_written() {
    let read: Event = serde_json::from_str(
        r#"{"event":"hologram","at":1,"cubes":[{"event":"alive"}],"name":"x"}"#,
    )
    .unwrap();
    assert_eq!(read, Event::Unknown);
    assert!(serde_json::to_string(&read).is_err());
    assert_eq!(read.chunks().count(), 0);
    for not_an_event in ["{}", r#"{"event":1}"#, "[]", r#"{"event":"alive"}"#] {
        assert!(
            serde_json::from_str::<Event>(not_an_event).is_err(),
            "{not_an_event}"
        );
    }
}

#[test]
fn fields_that_are_not_there_are_not_written_and_new_ones_are_ignored() {
    let text = r#"{"event":"media","name":"a/b","step":3,"at":1,"kind":"text","items":[{"content_type":"text/plain","bytes":2,"inline":"hi"}]}"#;
    let event: Event = serde_json::from_str(text).unwrap();
    assert_eq!(serde_json::to_string(&event).unwrap(), text);
    let newer = text.replace(r#""bytes":2"#, r#""bytes":2,"loudness":7"#);
    assert_eq!(serde_json::from_str::<Event>(&newer).unwrap(), event);
}

#[test]
fn every_chunk_that_an_event_names_is_listed() {
    let chunk = |digit: char| {
        let hash = digit.to_string().repeat(64);
        format!(r#"{{"hash":"{hash}","bytes":1,"crc64":"0123456789abcdef","object":"o"}}"#)
    };
    let (a, b, c) = (chunk('a'), chunk('b'), chunk('c'));
    let media = format!(
        r#"{{"event":"media","name":"n","step":0,"at":1,"kind":"image","items":[
            {{"content_type":"image/png","bytes":1,"chunks":[{a}]}},
            {{"content_type":"text/plain","bytes":0}},
            {{"content_type":"image/png","bytes":2,"chunks":[{b},{c}]}}]}}"#
    );
    let file = format!(r#"{{"event":"file","name":"f","bytes":1,"chunks":[{a}],"at":1}}"#);
    for (text, first_digits) in [(media, "abc"), (file, "a")] {
        let event: Event = serde_json::from_str(&text).unwrap();
        let found: String = event
            .chunks()
            .map(|chunk| chunk.hash.to_string().remove(0))
            .collect();
        assert_eq!(found, first_digits);
    }
}

#[test]
fn what_no_writer_writes_is_refused() {
    assert!(check_items("x", &[item()]).is_ok());
    assert!(check_items("x", &[]).is_err());
    assert!(check_items("x", &vec![item(); MAX_ITEMS]).is_ok());
    assert!(check_items("x", &vec![item(); MAX_ITEMS + 1]).is_err());
    let long = MediaItem {
        caption: Some("c".repeat(MAX_CAPTION_BYTES + 1)),
        ..item()
    };
    assert!(check_items("x", &[item(), long]).is_err());
    let large = MediaItem {
        bytes: (64 << 20) + 1,
        ..item()
    };
    let error = check_items("x", &[large]).unwrap_err();
    assert!(error.hint().unwrap().contains("log_file"), "{error}");
}

#[test]
fn a_line_is_as_loud_as_it_says() {
    use ConsoleLevel::{Debug, Error, Info, Warning};
    for (line, level) in [
        ("INFO:root:started", Some(Info)),
        ("WARNING:py.warnings:deprecated", Some(Warning)),
        (
            "2026-01-02 03:04:05,678 - trainer - ERROR - out of memory",
            Some(Error),
        ),
        (
            "2026-01-02 03:04:05.678 | DEBUG    | __main__:f:3 - x",
            Some(Debug),
        ),
        (
            "[2026-01-02 03:04:05,678] [INFO] [logging.py:96:log_dist] [Rank 0] hi",
            Some(Info),
        ),
        (
            "[rank0]:[E102 03:04:05.678 ProcessGroupNCCL.cpp:629] [Rank 0] Watchdog",
            None,
        ),
        ("E0102 03:04:05.678 12 file.cc:12] gone", Some(Error)),
        ("W0102 03:04:05.678 12 file.cc:12] odd", Some(Warning)),
        ("level=warn msg=\"slow\"", Some(Warning)),
        ("{\"level\": \"error\", \"msg\": \"x\"}", Some(Error)),
        ("[error] no space", Some(Error)),
        ("(trainer pid=12) CRITICAL stop", Some(Error)),
        ("Traceback (most recent call last):", Some(Error)),
        ("ValueError: bad", Some(Error)),
        ("torch.OutOfMemoryError: CUDA out of memory", Some(Error)),
        ("KeyboardInterrupt: ", Some(Error)),
        // Words that only look like it.
        ("no error so far", None),
        ("the info is in the file", None),
        ("ERROR_RATE=0.3", None),
        ("loss 0.3 INFO_LOSS 0.2", None),
        ("/data/ERROR/file", None),
        ("step 3 loss 0.5", None),
        ("Note: an Error: is not one", None),
        ("", None),
        ("äöü WARNING ü", Some(Warning)),
    ] {
        assert_eq!(level_of(line), level, "{line:?}");
    }
    let far = format!("{} ERROR", "x ".repeat(60));
    assert_eq!(level_of(&far), None, "a level stands at the beginning");
    for end in 90..100 {
        // Cut inside of a character, were it not looked at.
        let _ = level_of(&format!("{}ü ERROR", "a".repeat(end)));
    }
}

#[test]
fn the_lines_of_a_record_are_as_loud_as_its_first() {
    use ConsoleLevel::{Error, Info};
    let lines = [
        "INFO:x:config is",
        "  lr: 0.1",
        "plain",
        "  indented under plain",
        "Traceback (most recent call last):",
        "  File \"a.py\", line 1, in <module>",
        "    f()",
        "",
        "CustomProblem: something",
        "plain again",
    ];
    let expected = [
        Some(Info),
        Some(Info),
        None,
        None,
        Some(Error),
        Some(Error),
        Some(Error),
        Some(Error),
        Some(Error),
        None,
    ];
    assert_eq!(levels_of(lines), expected);
}
