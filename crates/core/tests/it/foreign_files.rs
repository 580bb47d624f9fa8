//! Files as torch and safetensors write them, byte for byte, so that tests need neither. Held against the real ones by python/tests/test_split.py.

/// What a file should show: where, how much, and the name if there is one.
pub(crate) type Expected = (u64, u64, Option<String>);

/// Bytes whose `Debug` a person can read, for what a failed property prints.
#[derive(Clone)]
pub(crate) struct Blob(pub(crate) Vec<u8>);

impl std::fmt::Debug for Blob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let head = &self.0[..self.0.len().min(16)];
        write!(f, "{} bytes, {head:?}…", self.0.len())
    }
}

/// An entry of a zip.
#[derive(Clone, Debug)]
pub(crate) struct ZipEntry {
    pub(crate) name: String,
    pub(crate) content: Blob,
    /// Any method but 0 is bytes that only look compressed.
    pub(crate) method: u16,
}

impl ZipEntry {
    pub(crate) fn stored(name: &str, content: Vec<u8>) -> Self {
        Self {
            name: name.to_owned(),
            content: Blob(content),
            method: 0,
        }
    }
}

/// Appends what `torch.save` writes: padded STORED entries, their sizes behind them, zip64 records always. Returns what was large enough to be seen.
pub(crate) fn append_zip(file: &mut Vec<u8>, entries: &[ZipEntry], least: u64) -> Vec<Expected> {
    let start = file.len();
    let mut directory = Vec::new();
    let mut expected = Vec::new();
    for entry in entries {
        let at = (file.len() - start) as u64;
        let bytes = entry.content.0.len() as u64;
        let mut header = b"PK\x03\x04\0\0\x08\x08".to_vec();
        header.extend(entry.method.to_le_bytes());
        header.extend([0; 16]);
        let padding = 64 - (at as usize + 30 + entry.name.len() + 4) % 64;
        header.extend((entry.name.len() as u16).to_le_bytes());
        header.extend((padding as u16 + 4).to_le_bytes());
        header.extend(entry.name.as_bytes());
        header.extend(b"FB");
        header.extend((padding as u16).to_le_bytes());
        header.extend(vec![b'Z'; padding]);
        file.extend(header);
        if bytes >= least && entry.method == 0 {
            expected.push((file.len() as u64, bytes, None));
        }
        file.extend(&entry.content.0);
        file.extend(b"PK\x07\x08\x01\x02\x03\x04");
        file.extend((bytes as u32).to_le_bytes());
        file.extend((bytes as u32).to_le_bytes());

        directory.extend(b"PK\x01\x02\0\0\0\0\x08\x08");
        directory.extend(entry.method.to_le_bytes());
        directory.extend([0, 0, 0, 0, 1, 2, 3, 4]);
        directory.extend((bytes as u32).to_le_bytes());
        directory.extend((bytes as u32).to_le_bytes());
        directory.extend((entry.name.len() as u16).to_le_bytes());
        directory.extend([0; 12]);
        directory.extend((at as u32).to_le_bytes());
        directory.extend(entry.name.as_bytes());
    }
    let offset = (file.len() - start) as u64;
    let (bytes, count) = (directory.len() as u64, entries.len() as u64);
    file.extend(&directory);
    file.extend(b"PK\x06\x06");
    file.extend(44_u64.to_le_bytes());
    file.extend([0x1e, 3, 0x2d, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    for number in [count, count, bytes, offset] {
        file.extend(number.to_le_bytes());
    }
    file.extend(b"PK\x06\x07\0\0\0\0");
    file.extend((offset + bytes).to_le_bytes());
    file.extend(1_u32.to_le_bytes());
    file.extend(b"PK\x05\x06\0\0\0\0");
    file.extend((count as u16).to_le_bytes());
    file.extend((count as u16).to_le_bytes());
    file.extend((bytes as u32).to_le_bytes());
    file.extend((offset as u32).to_le_bytes());
    file.extend([0, 0]);
    expected
}

/// Appends a safetensors file of `U8` tensors.
pub(crate) fn append_safetensors(file: &mut Vec<u8>, tensors: &[(String, Blob)]) -> Vec<Expected> {
    let mut entries = vec![r#""__metadata__":{"format":"pt"}"#.to_owned()];
    let mut at = 0;
    for (name, Blob(content)) in tensors {
        let (bytes, end) = (content.len(), at + content.len());
        entries.push(format!(
            r#""{name}":{{"dtype":"U8","shape":[{bytes}],"data_offsets":[{at},{end}]}}"#
        ));
        at = end;
    }
    let mut header = format!("{{{}}}", entries.join(","));
    while !header.len().is_multiple_of(8) {
        header.push(' ');
    }
    file.extend((header.len() as u64).to_le_bytes());
    file.extend(header.as_bytes());
    tensors
        .iter()
        .map(|(name, Blob(content))| {
            let at = file.len() as u64;
            file.extend(content);
            (at, content.len() as u64, Some(name.clone()))
        })
        .collect()
}
