//! Random bytes, random opcodes and random edits: no panics, and memory bounded by the file's size.

use super::{archives, build, headers, load, memory};
use proptest::prelude::*;

/// Loads bytes as a file, and checks the memory used and the error.
fn check_load(bytes: &[u8]) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    let (result, peak) = memory::peak_of(|| load(file.path()));
    assert!(peak <= 64 * bytes.len() + (2 << 20), "{peak} bytes for a file of {}", bytes.len());
    if let Err(error) = result {
        assert!(error.to_string().contains(file.path().to_str().unwrap()), "{error}");
    }
}

/// Generates pickles of fragments that often fit together.
fn program() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => prop::sample::select(b"()]}NtRbae sudl012\x85\x86\x87\x88\x89\x81\x93\x94Q".to_vec()).prop_map(|b| vec![b]),
        1 => (0u8..4).prop_map(|i| vec![b'q', i]),
        1 => (0u8..4).prop_map(|i| vec![b'h', i]),
        1 => any::<i64>().prop_map(build::int),
        2 => (-2i64..9).prop_map(build::int),
        2 => prop::sample::select(vec!["w", "state_dict", "0", "storage", "module."]).prop_map(build::text),
        1 => prop::sample::select(vec![
            ("collections", "OrderedDict"), ("torch", "FloatStorage"), ("torch", "Size"), ("os", "system"),
            ("torch._utils", "_rebuild_tensor_v2"), ("torch._utils", "_rebuild_parameter"),
            ("torch._utils", "_rebuild_tensor_v3"), ("torch._tensor", "_rebuild_from_type_v2"),
        ]).prop_map(|(module, name)| build::global(module, name)),
        2 => Just(build::storage("FloatStorage", "0", 8)),
        2 => prop::collection::vec(-1i64..5, 0..4).prop_map(|n| build::numbers(&n)),
        3 => (-1i64..5, prop::collection::vec(-1i64..5, 0..4), prop::collection::vec(-1i64..5, 0..4))
            .prop_map(|(o, d, s)| build::tensor(&build::storage("FloatStorage", "0", 8), o, &d, &s)),
        2 => Just(build::good_tensor()),
    ];
    prop::collection::vec(piece, 0..30).prop_map(|pieces| pieces.concat())
}

/// Overwrites, removes or duplicates parts of a file.
fn edited(mut bytes: Vec<u8>, edits: &[(prop::sample::Index, u8, u8)]) -> Vec<u8> {
    for (position, kind, value) in edits {
        if bytes.is_empty() {
            break;
        }
        let at = position.index(bytes.len());
        let end = (at + 1 + usize::from(*value) % 9).min(bytes.len());
        match kind % 5 {
            0 => bytes[at] = *value,
            1 => bytes[at] ^= 1 << (value % 8),
            2 => drop(bytes.drain(at..end)),
            3 => {
                let part = bytes[at..end].to_vec();
                bytes.splice(at..at, part);
            }
            _ => bytes[at..end].fill(*value | 0x80),
        }
    }
    bytes
}

fn valid() -> impl Strategy<Value = Vec<u8>> {
    let files = super::valid().into_iter().map(|(_, bytes)| bytes).collect::<Vec<_>>();
    prop::sample::select(files)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_under_every_signature(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        check_load(&bytes);
        check_load(&build::safetensors(&[b"{", &bytes[..]].concat(), &[]));
        check_load(&[b"PK\x03\x04", &bytes[..]].concat());
        check_load(&[&archives::valid_legacy()[..15], &bytes].concat());
        check_load(&build::pth(&bytes));
    }

    #[test]
    fn arbitrary_json_headers(header in "[\\[\\]{}:,\"a-c0-9F \\-]{0,80}") {
        check_load(&build::safetensors(format!("{{{header}").as_bytes(), &build::DATA));
    }

    #[test]
    fn arbitrary_programs(program in program(), wrap in any::<bool>()) {
        let body = if wrap { build::dict(&[("state_dict", &program)]) } else { program };
        check_load(&build::pth(&build::pickle(&[&body])));
    }

    #[test]
    fn edited_files(file in valid(), edits in prop::collection::vec(any::<(prop::sample::Index, u8, u8)>(), 1..6)) {
        check_load(&edited(file, &edits));
    }

    #[test]
    fn edited_headers_of_the_right_length(edits in prop::collection::vec(any::<(prop::sample::Index, u8, u8)>(), 1..4)) {
        let file = headers::valid();
        let header = edited(file[8..file.len() - 32].to_vec(), &edits);
        check_load(&build::safetensors(&header, &build::DATA));
    }

    #[test]
    fn edited_pickles_in_sound_archives(edits in prop::collection::vec(any::<(prop::sample::Index, u8, u8)>(), 1..6)) {
        let weights = build::dict(&[("w", &build::good_tensor()), ("v", &build::good_tensor())]);
        let pickle = build::pickle(&[&build::dict(&[("state_dict", &weights)])]);
        check_load(&build::pth(&edited(pickle, &edits)));
    }

    #[test]
    fn files_cut_anywhere(file in valid(), cut in any::<prop::sample::Index>()) {
        check_load(&file[..cut.index(file.len())]);
    }
}
