//! Names from users and from listings: REFs, ids, filters, tensor indices, object names, escaped names. What parses prints what was parsed.

use runtree_core::filter::Filter;
use runtree_core::id::{DisplayId, RunId, SaveKey};
use runtree_core::reference::Reference;
use runtree_core::state::index::TensorIndex;
use runtree_store::{ObjectName, SegmentName, layout};

/// Names from users and from listings: REFs, ids, filters, tensor indices, object names, escaped names. What parses prints what was parsed.
pub fn names(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Ok(reference) = text.parse::<Reference>() {
        let again: Reference = reference.to_string().parse().expect("a printed REF parses");
        assert_eq!(again, reference);
    }
    if let Ok(index) = text.parse::<TensorIndex>() {
        let again: TensorIndex = index.to_string().parse().expect("a printed index parses");
        assert_eq!(again, index);
        for shape in [&[][..], &[3], &[0, 7], &[2, 3, 4]] {
            if let Ok(selection) = index.select(shape) {
                let selected = selection.boxes(4).map(|each| selection.count_in(&each));
                assert_eq!(selected.sum::<u64>(), selection.elements());
            }
        }
    }
    if let Ok(filter) = text.parse::<Filter>() {
        let shown = filter.to_string();
        let again: Filter = shown.parse().expect("a printed filter parses");
        // By text: a filter that holds NaN is not equal to itself.
        assert_eq!(again.to_string(), shown);
    }
    macro_rules! prints_what_it_parsed {
        ($($id:ty),*) => { $(if let Ok(id) = text.parse::<$id>() { assert_eq!(id.to_string(), text); })* };
    }
    prints_what_it_parsed!(RunId, SaveKey, DisplayId, ObjectName, SegmentName);
    let escaped = layout::escape(text);
    assert!(
        !escaped.contains(['/', '\\', '\0']) && !escaped.starts_with('.'),
        "{escaped:?} could leave its directory"
    );
    if let Some(name) = layout::unescape(&escaped) {
        assert_eq!(name, text);
    }
}
