//! Damaged safetensors, and files in other formats.

use super::build::*;

const A: &str = r#""a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}"#;
const B: &str = r#""b":{"dtype":"F16","shape":[4],"data_offsets":[24,32]}"#;

pub fn valid() -> Vec<u8> {
    safetensors(format!(r#"{{"__metadata__":{{"k":"v"}},{A},{B}}}"#).as_bytes(), &DATA)
}

pub fn cases() -> Vec<Case> {
    let mut cases = lengths();
    // Descriptions that replace that of tensor `a`, followed by the valid tensor `b`.
    let with_a = [
        (
            "offset past the end",
            r#"{"dtype":"F32","shape":[2,3],"data_offsets":[8,1032]}"#,
            "1000 bytes past the end of the file",
        ),
        (
            "offset of 2^63",
            r#"{"dtype":"F32","shape":[2,3],"data_offsets":[0,9223372036854775808]}"#,
            "truncated",
        ),
        (
            "offset of 1e30",
            r#"{"dtype":"F32","shape":[2,3],"data_offsets":[0,1e30]}"#,
            "tensor `a`",
        ),
        (
            "offset negative",
            r#"{"dtype":"F32","shape":[2,3],"data_offsets":[-8,24]}"#,
            "tensor `a`",
        ),
        ("offset text", r#"{"dtype":"F32","shape":[2,3],"data_offsets":["0",24]}"#, "tensor `a`"),
        (
            "offset of three",
            r#"{"dtype":"F32","shape":[2,3],"data_offsets":[0,24,24]}"#,
            "tensor `a`",
        ),
        (
            "offsets reversed",
            r#"{"dtype":"F32","shape":[2,3],"data_offsets":[24,0]}"#,
            "before its start",
        ),
        ("overlap", r#"{"dtype":"F32","shape":[2,4],"data_offsets":[0,32]}"#, "overlaps `a`"),
        (
            "gap",
            r#"{"dtype":"F32","shape":[2,2],"data_offsets":[8,24]}"#,
            "gap of 8 bytes before tensor `a`",
        ),
        (
            "shape huge",
            r#"{"dtype":"F32","shape":[1099511627776,3],"data_offsets":[0,24]}"#,
            "requires 12 TiB",
        ),
        (
            "shape overflows",
            r#"{"dtype":"F32","shape":[9223372036854775807,9],"data_offsets":[0,24]}"#,
            "address space",
        ),
        (
            "shape overflows to fit",
            r#"{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,24]}"#,
            "address space",
        ),
        ("shape negative", r#"{"dtype":"F32","shape":[-2,3],"data_offsets":[0,24]}"#, "tensor `a`"),
        (
            "shape of zero",
            r#"{"dtype":"F32","shape":[0,3],"data_offsets":[0,24]}"#,
            "requires 0 bytes",
        ),
        ("shape a number", r#"{"dtype":"F32","shape":6,"data_offsets":[0,24]}"#, "tensor `a`"),
        (
            "dtype too wide",
            r#"{"dtype":"F64","shape":[2,3],"data_offsets":[0,24]}"#,
            "requires 48 bytes",
        ),
        (
            "dtype too narrow",
            r#"{"dtype":"F16","shape":[2,3],"data_offsets":[0,24]}"#,
            "requires 12 bytes",
        ),
        (
            "dtype integer",
            r#"{"dtype":"I32","shape":[2,3],"data_offsets":[0,24]}"#,
            "expected a floating-point tensor",
        ),
        (
            "dtype of eight bits",
            r#"{"dtype":"F8_E4M3","shape":[24],"data_offsets":[0,24]}"#,
            "unsupported element type F8_E4M3",
        ),
        (
            "dtype unknown",
            r#"{"dtype":"F99","shape":[2,3],"data_offsets":[0,24]}"#,
            "unknown variant `F99`",
        ),
        ("dtype a number", r#"{"dtype":32,"shape":[2,3],"data_offsets":[0,24]}"#, "tensor `a`"),
        ("no shape", r#"{"dtype":"F32","data_offsets":[0,24]}"#, "missing field `shape`"),
        ("no dtype", r#"{"shape":[2,3],"data_offsets":[0,24]}"#, "missing field `dtype`"),
        ("no offsets", r#"{"dtype":"F32","shape":[2,3]}"#, "missing field `data_offsets`"),
        ("tensor null", "null", "tensor `a`"),
    ];
    for (name, a, error) in with_a {
        cases.push(case(
            name,
            safetensors(format!(r#"{{"a":{a},{B}}}"#).as_bytes(), &DATA),
            Fails(error),
        ));
    }
    let ones = format!(
        r#"{{"a":{{"dtype":"F32","shape":[6{}],"data_offsets":[0,24]}},{B}}}"#,
        ",1".repeat(500_000)
    );
    let long = format!(
        r#"{{"{}":{{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}},{B}}}"#,
        "n".repeat(1 << 20)
    );
    let many: String = (0..20_000)
        .map(|i| format!(r#""t{i}":{{"dtype":"I8","shape":[0],"data_offsets":[0,0]}},"#))
        .collect();
    let headers = [
        (
            "same name twice",
            format!("{{{A},{}}}", B.replace("\"b\"", "\"a\"")),
            Fails("duplicate tensor name `a`"),
        ),
        ("nested without end", format!(r#"{{"a":{}"#, "[".repeat(200_000)), Fails("header")),
        (
            "metadata of numbers",
            format!(r#"{{"__metadata__":{{"k":1}},{A},{B}}}"#),
            Fails("header"),
        ),
        ("metadata a list", format!(r#"{{"__metadata__":[],{A},{B}}}"#), Fails("header")),
        ("half a million axes", ones, Fails("500001 axes")),
        ("a name of a mebibyte", long, Fails("name has 1 MiB")),
        ("comma at the end", format!("{{{A},{B},}}"), Fails("header")),
        (
            "integers only among many empty ones",
            format!("{{{many}{A},{B}}}"),
            Fails("expected a floating-point tensor"),
        ),
    ];
    cases.extend(
        headers.into_iter().map(|(name, header, outcome)| {
            case(name, safetensors(header.as_bytes(), &DATA), outcome)
        }),
    );
    cases.push(case("name not UTF-8", safetensors(b"{\"\xff\xfe\":null}", &DATA), Fails("header")));
    cases.push(case("no tensors", safetensors(b"{}", &[]), Fails("no tensors")));
    cases.push(case(
        "data after the last",
        [valid(), vec![0; 9]].concat(),
        Fails("9 bytes of unused data after the last"),
    ));
    for (name, bits, error) in [
        ("NaN", f32::NAN, "contains NaN (first at [0, 1])"),
        ("infinity", f32::INFINITY, "contains infinity"),
    ] {
        let data = [&DATA[..4], &bits.to_le_bytes(), &DATA[8..]].concat();
        cases.push(case(name, safetensors(format!("{{{A},{B}}}").as_bytes(), &data), Fails(error)));
    }
    cases
}

/// Files with a wrong header length in the first eight bytes.
fn lengths() -> Vec<Case> {
    let valid = valid();
    let header = u64::from_le_bytes(valid[..8].try_into().unwrap());
    let lengths = [
        ("length of 12 GiB", 12 << 30, "should have 12 GiB but the file has"),
        ("length of 2^64 - 1", u64::MAX, "should have 16 EiB but the file has"),
        ("length of 2^63", 1 << 63, "truncated"),
        ("length of zero", 0, "header"),
        ("length one short", header - 1, "header"),
        ("length eight over", header + 8, "header"),
        ("length up to the end", valid.len() as u64 - 8, "header"),
        ("length past the end by one", valid.len() as u64 - 7, "truncated"),
    ];
    let mut cases: Vec<Case> = lengths
        .map(|(name, length, error)| {
            case(name, [&length.to_le_bytes(), &valid[8..]].concat(), Fails(error))
        })
        .into();
    let spaces = [b"{".to_vec(), vec![b' '; 17 << 20], b"}".to_vec()].concat();
    cases.push(case(
        "header of 17 MiB",
        safetensors(&spaces, &[]),
        Fails("at most 16 MiB are supported"),
    ));
    cases
}

/// Files in other formats.
pub fn other_formats() -> Vec<Case> {
    let unknown = Fails("not a supported weight file");
    vec![
        case("empty", [], Fails("is empty")),
        case("one byte", *b"{", unknown),
        case("only a length", 8u64.to_le_bytes(), unknown),
        case("zeros", vec![0; 4096], unknown),
        case("0xff", vec![0xff; 4096], unknown),
        case("half a zip signature", *b"PK", unknown),
        case("a zip signature", *b"PK\x03\x04", Fails("zip archive is damaged")),
        case("a list for a header", safetensors(b"[1,2,3]", &DATA), unknown),
        case("a web page", *b"<!DOCTYPE html><html>404</html>", Fails("web page")),
        case(
            "an LFS pointer",
            *b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
            Fails("git lfs pull"),
        ),
        case("HDF5", *b"\x89HDF\r\n\x1a\n\0\0\0\0", Fails("HDF5")),
        case("PNG", *b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", unknown),
        case("a plain pickle", pickle(&[&dict(&[("w", &int(1))])]), Fails("plain pickle")),
    ]
}
