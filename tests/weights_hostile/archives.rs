//! Damaged zip archives, and damaged files in the format before PyTorch 1.6.

use super::build::*;
use std::io::{Cursor, Write};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

const CENTRAL: &[u8] = b"PK\x01\x02";
const END: &[u8] = b"PK\x05\x06";

fn good_pickle() -> Vec<u8> {
    pickle(&[&dict(&[("w", &good_tensor())])])
}

fn stored() -> Vec<u8> {
    pth(&good_pickle())
}

fn deflated() -> Vec<u8> {
    archive(&[("data.pkl", &good_pickle()), ("data/0", &DATA)], CompressionMethod::Deflated)
}

/// Returns the position of the `n`-th occurrence of a signature.
fn find(bytes: &[u8], signature: &[u8], n: usize) -> usize {
    bytes
        .windows(signature.len())
        .enumerate()
        .filter(|(_, w)| *w == signature)
        .map(|(at, _)| at)
        .nth(n)
        .unwrap()
}

/// Overwrites a field of the storage's entry in the central directory (the second entry).
fn patched(mut bytes: Vec<u8>, field: usize, value: &[u8]) -> Vec<u8> {
    let at = find(&bytes, CENTRAL, 1) + field;
    bytes[at..at + value.len()].copy_from_slice(value);
    bytes
}

fn patched_end(mut bytes: Vec<u8>, field: usize, value: &[u8]) -> Vec<u8> {
    let at = find(&bytes, END, 0) + field;
    bytes[at..at + value.len()].copy_from_slice(value);
    bytes
}

/// Creates an archive whose entry `name` consists of `zeros` deflated zero bytes.
fn bomb(name: &str, zeros: usize, pickle: &[u8]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default();
    for (entry, content) in [("data.pkl", pickle), ("data/0", &DATA)] {
        zip.start_file(format!("archive/{entry}"), options).unwrap();
        if entry == name {
            let zero = vec![0; 1 << 20];
            for _ in 0..zeros >> 20 {
                zip.write_all(&zero).unwrap();
            }
        } else {
            zip.write_all(content).unwrap();
        }
    }
    zip.finish().unwrap().into_inner()
}

/// Creates zip64 records that claim `entries` entries, after the number of bytes that their headers
/// would need.
fn claiming(entries: u64) -> Vec<u8> {
    let mut file = [b"PK\x03\x04", &vec![0; 46 * entries as usize][..]].concat();
    let at = file.len() as u64;
    file.extend(b"PK\x06\x06");
    file.extend(44u64.to_le_bytes());
    file.extend([45, 0, 45, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    file.extend([entries, entries, 46 * entries, 0].iter().flat_map(|n| n.to_le_bytes()));
    file.extend(b"PK\x06\x07\0\0\0\0");
    file.extend(at.to_le_bytes());
    file.extend(1u32.to_le_bytes());
    file.extend([END, &[0; 4], &[0xff; 12], &[0; 2]].concat());
    file
}

pub fn cases() -> Vec<Case> {
    let floats = (64 << 20) / 4;
    let large = tensor(&storage("FloatStorage", "0", floats), 0, &[floats], &[1]);
    let large = pickle(&[&dict(&[("w", &large)])]);
    let mut same = archive(
        &[("data.pkl", &good_pickle()), ("data/0", &DATA), ("data/1", &DATA)],
        CompressionMethod::Stored,
    );
    let second = find(&same, b"data/1", 1);
    same[second + 5] = b'0';
    let with_byteorder = |order: &[u8]| {
        archive(
            &[("byteorder", order), ("data.pkl", &good_pickle()), ("data/0", &DATA)],
            CompressionMethod::Stored,
        )
    };
    let many: Vec<String> = (0..70_000).map(|i| format!("{i}")).collect();
    let many: Vec<(&str, &[u8])> = many.iter().map(|name| (name.as_str(), &b""[..])).collect();
    let u32_max = u32::MAX.to_le_bytes();
    let damaged = Fails("zip archive is damaged");
    vec![
        case(
            "bomb in the pickle, 256 MiB",
            bomb("data.pkl", 256 << 20, b""),
            Fails("data.pkl: the entry has 256 MiB"),
        ),
        case(
            "bomb in the pickle, 48 MiB",
            bomb("data.pkl", 48 << 20, b""),
            Fails("data.pkl: the entry would inflate to 48 MiB"),
        ),
        case(
            "bomb in a storage, 64 MiB",
            bomb("data/0", 64 << 20, &large),
            Fails("data/0: the entry would inflate to 64 MiB"),
        ),
        case("deflated, valid", deflated(), Loads),
        case(
            "deflated, claims more",
            patched(deflated(), 24, &64u32.to_le_bytes()),
            Fails("has 64 bytes, the pickle specifies 32"),
        ),
        case(
            "deflated, claims 4 GiB",
            patched(deflated(), 24, &(u32::MAX - 1).to_le_bytes()),
            Fails("would inflate to"),
        ),
        case(
            "stored, claims more",
            patched(stored(), 24, &64u32.to_le_bytes()),
            Fails("two different lengths"),
        ),
        case(
            "stored, longer than the file",
            patched(patched(stored(), 20, &[0xff; 3]), 24, &[0xff; 3]),
            Fails("truncated"),
        ),
        case("encrypted", patched(stored(), 8, &[1]), Fails("the entry is encrypted")),
        case("another compression method", patched(stored(), 10, &[99]), Fails("`w`")),
        case(
            "unknown compression method",
            patched(stored(), 10, &[77]),
            Fails("unsupported compression method"),
        ),
        case("stored, marked as deflated", patched(stored(), 10, &[8]), Fails("is damaged")),
        case(
            "entry past the end",
            patched(stored(), 42, &(u32::MAX - 1).to_le_bytes()),
            Fails("the header of the entry is damaged"),
        ),
        case(
            "entry at another offset",
            patched(stored(), 42, &5u32.to_le_bytes()),
            Fails("the header of the entry is damaged"),
        ),
        case("65,535 entries", patched_end(stored(), 8, &[0xff; 4]), damaged),
        case(
            "directory past the end",
            patched_end(stored(), 16, &(u32::MAX - 1).to_le_bytes()),
            damaged,
        ),
        // The length is not used: the directory ends with its last entry.
        case("directory of 4 GiB", patched_end(stored(), 12, &u32_max), Loads),
        case("directory at zero", patched_end(stored(), 16, &[0; 4]), damaged),
        case(
            "70,000 entries",
            archive(&many, CompressionMethod::Stored),
            Fails("claims 70000 entries"),
        ),
        case("70,000 missing entries", claiming(70_000), Fails("claims 70000 entries")),
        case("two entries of one name", same, Fails("duplicate names")),
        case(
            "no pickle",
            archive(&[("data/0", &DATA)], CompressionMethod::Stored),
            Fails("without `data.pkl`"),
        ),
        case("an empty pickle", pth(b""), Fails("pickle has no end")),
        case("half a pickle", pth(&good_pickle()[..40]), Fails("pickle has no end")),
        case("big-endian", with_byteorder(b"big"), Fails("big-endian")),
        case(
            "an overlong byte order",
            with_byteorder(&[b'l'; 100]),
            Fails("byteorder: the entry has 100 bytes"),
        ),
        case(
            "a program before the archive",
            [&b"MZ"[..], &stored()].concat(),
            Fails("not a supported weight file"),
        ),
    ]
}

pub fn valid_legacy() -> Vec<u8> {
    let half = tensor(&legacy_storage("HalfStorage", "b", 16, b"N"), 1, &[3, 4], &[1, 3]);
    let object =
        dict(&[("model_state", &dict(&[("module.w", &legacy_tensor(b"N")), ("module.b", &half)]))]);
    legacy(1001, &little(b"\x88"), &object, &keys(&["a", "b"]), &[(8, &DATA), (16, &DATA)])
}

fn legacy_tensor(view: &[u8]) -> Vec<u8> {
    tensor(&legacy_storage("FloatStorage", "a", 8, view), 0, &[2, 2], &[2, 1])
}

fn little(value: &[u8]) -> Vec<u8> {
    dict(&[("protocol_version", &int(1001)), ("little_endian", value)])
}

fn keys(keys: &[&str]) -> Vec<u8> {
    [b"](", &keys.iter().flat_map(|key| text(key)).collect::<Vec<_>>()[..], b"e"].concat()
}

pub fn legacy_cases() -> Vec<Case> {
    let object = dict(&[("w", &legacy_tensor(b"N"))]);
    let viewed = |offset, len| {
        dict(&[("w", &legacy_tensor(&tuple(&[&text("v"), &int(offset), &int(len)])))])
    };
    let file = |object: &[u8], keys: &[u8], storages: &[(i64, &[u8])]| {
        legacy(1001, &little(b"\x88"), object, keys, storages)
    };
    let two_descriptions = dict(&[
        ("w", &tensor(&legacy_storage("FloatStorage", "a", 8, b"N"), 0, &[2], &[1])),
        ("v", &tensor(&legacy_storage("DoubleStorage", "a", 8, b"N"), 0, &[2], &[1])),
    ]);
    let endless = [&valid_legacy()[..15], b"\x80\x02", &b"N0".repeat(700_000)].concat();
    let long_string =
        [&valid_legacy()[..15], b"\x80\x02X\xff\xff\xff\x7f", &vec![b'a'; 3 << 20]].concat();
    let a = keys(&["a"]);
    let data: &[(i64, &[u8])] = &[(8, &DATA)];
    vec![
        case("legacy, the magic number alone", &valid_legacy()[..15], Fails("pickle has no end")),
        case(
            "legacy, version 7",
            legacy(7, &little(b"\x88"), &object, &a, data),
            Fails("expected 1001"),
        ),
        case(
            "legacy, big-endian",
            legacy(1001, &little(b"\x89"), &object, &a, data),
            Fails("big-endian"),
        ),
        case(
            "legacy, os.system",
            file(&call("os", "system", &[&text("false")]), &keys(&[]), &[]),
            Fails("no dict of tensors"),
        ),
        case(
            "legacy, more storages than tensors",
            file(&object, &keys(&["a", "z"]), data),
            Fails("no tensor uses"),
        ),
        case(
            "legacy, a storage not listed",
            file(&object, &keys(&[]), data),
            Fails("storage a is not in the file"),
        ),
        case(
            "legacy, storages listed by a number",
            file(&object, &int(1), data),
            Fails("expected a list of storages, got an int"),
        ),
        case(
            "legacy, storages listed by numbers",
            file(&object, &numbers(&[1, 2]), data),
            Fails("no tensor uses"),
        ),
        case(
            "legacy, count of 2^40",
            file(&object, &a, &[(1 << 40, &DATA)]),
            Fails("has 1099511627776 elements"),
        ),
        case(
            "legacy, count negative",
            file(&object, &a, &[(-1, &DATA)]),
            Fails("elements, the pickle specifies 8"),
        ),
        case(
            "legacy, a storage twice",
            file(&object, &keys(&["a", "a"]), data),
            Fails("past the end of the file"),
        ),
        case("legacy, no data", file(&object, &a, &[]), Fails("40 bytes past the end of the file")),
        case(
            "legacy, one storage described twice",
            file(&two_descriptions, &a, data),
            Fails("storage a"),
        ),
        case("legacy, a view", file(&viewed(4, 4), &a, data), Loads),
        case("legacy, a view past the end", file(&viewed(5, 4), &a, data), Fails("byte 36")),
        case("legacy, a view of 2^63", file(&viewed(i64::MAX, 4), &a, data), Fails("`w`")),
        case("legacy, endless", endless, Fails("opcodes")),
        case("legacy, a string past the end", long_string, Fails("pickle has no end")),
    ]
}
