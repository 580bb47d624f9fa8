//! Files that others wrote: safetensors, zips, chains of them. What is found must lie in the file, in order, apart, and be as large as it says.

use runtree_core::foreign::{MAX_PAYLOADS, ReadAt, payloads};

/// A file with a hole: tensors are a MiB at least, and what is fuzzed is what stands around them.
struct Holed<'a> {
    head: &'a [u8],
    hole_bytes: u64,
    tail: &'a [u8],
}

impl ReadAt for Holed<'_> {
    fn bytes(&self) -> u64 {
        self.head.len() as u64 + self.hole_bytes + self.tail.len() as u64
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> Option<()> {
        let end = offset.checked_add(into.len() as u64)?;
        if end > self.bytes() {
            return None;
        }
        let behind = self.head.len() as u64 + self.hole_bytes;
        into.fill(0);
        if let Some(head) = self.head.get(offset as usize..) {
            let count = head.len().min(into.len());
            into[..count].copy_from_slice(&head[..count]);
        }
        if end > behind {
            let from = offset.max(behind);
            let tail = &self.tail[(from - behind) as usize..(end - behind) as usize];
            into[(from - offset) as usize..].copy_from_slice(tail);
        }
        Some(())
    }
}

/// Files that others wrote: a hole of some size (4 bytes), where it is (2 bytes), then what stands around it.
pub fn foreign(bytes: &[u8]) {
    let Some((hole_bytes, rest)) = bytes.split_first_chunk() else {
        return;
    };
    let Some((head_bytes, around)) = rest.split_first_chunk() else {
        return;
    };
    let hole_bytes = u64::from(u32::from_le_bytes(*hole_bytes)) % (1 << 22);
    let head_bytes = usize::from(u16::from_le_bytes(*head_bytes));
    let (head, tail) = around.split_at(head_bytes.min(around.len()));
    let file = Holed {
        head,
        hole_bytes,
        tail,
    };
    let found = payloads(&file);
    assert!(found.len() <= MAX_PAYLOADS);
    let mut at = 0;
    for payload in &found {
        let end = payload
            .offset
            .checked_add(payload.bytes)
            .expect("a payload ends");
        assert!(payload.offset >= at, "payloads are in order and apart");
        assert!(end <= file.bytes(), "payloads lie inside");
        if let Some(tensor) = &payload.tensor {
            let elements: u64 = tensor.shape.iter().product();
            assert_eq!(elements * tensor.dtype.item_bytes(), payload.bytes);
        }
        at = end;
    }
}
