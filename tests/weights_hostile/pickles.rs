//! Malicious pickles in otherwise valid archives.

use super::build::*;

/// File that the command in a pickle would create if it were executed.
pub const TRACE: &str = "atrous-pickle-was-run";

fn command() -> Vec<u8> {
    text(&format!("touch {TRACE} ; touch /tmp/{TRACE}"))
}

pub fn valid() -> Vec<u8> {
    let half = tensor(&storage("HalfStorage", "1", 16), 1, &[3, 4], &[1, 3]);
    let weights = dict(&[("conv.weight", &good_tensor()), ("conv.bias", &half)]);
    let file = dict(&[("epoch", &int(3)), ("name", &text("net")), ("state_dict", &weights)]);
    archive(
        &[("data.pkl", &pickle(&[&file])), ("data/0", &DATA), ("data/1", &DATA)],
        zip::CompressionMethod::Stored,
    )
}

pub fn cases() -> Vec<Case> {
    let mut cases = commands();
    cases.extend(machines());
    cases.extend(tensors());
    cases
}

fn named(list: impl IntoIterator<Item = (&'static str, Vec<u8>, Outcome)>) -> Vec<Case> {
    list.into_iter()
        .map(|(name, body, outcome)| case(name, pth(&pickle(&[&body])), outcome))
        .collect()
}

/// Calls of harmful functions.
fn commands() -> Vec<Case> {
    let system = |module: &str| call(module, "system", &[&command()]);
    let class =
        [&tuple(&[&text("storage"), &system("os"), &text("0"), &text("cpu"), &int(8)])[..], b"Q"]
            .concat();
    let built = [&good_tensor()[..], &system("nt"), b"b"].concat();
    let keyed =
        [b"}", &system("posix")[..], &good_tensor(), b"s", &text("w"), &good_tensor(), b"s"]
            .concat();
    let stacked =
        [text("os"), text("system"), b"\x93".to_vec(), tuple(&[&command()]), b"R".to_vec()]
            .concat();
    let object = [global("subprocess", "Popen"), tuple(&[&command()]), b"\x81".to_vec()].concat();
    let nothing = Fails("no dict of tensors");
    named([
        ("os.system", system("os"), nothing),
        ("posix.system by the stack", stacked, nothing),
        ("an object of Popen", object, nothing),
        ("eval", call("builtins", "eval", &[&text("1")]), nothing),
        ("os.system for the state dict", dict(&[("state_dict", &system("posix"))]), nothing),
        (
            "os.system next to tensors",
            dict(&[("w", &good_tensor()), ("x", &system("posix"))]),
            Loads,
        ),
        ("os.system in a tensor's state", dict(&[("w", &built)]), Loads),
        ("os.system for a name", keyed, Loads),
        (
            "os.system for a storage's class",
            dict(&[("w", &tensor(&class, 0, &[8], &[1]))]),
            Fails("`w`: the reference to its storage"),
        ),
        (
            "os.system for a dimension",
            dict(&[("w", &tensor(&system("os"), 0, &[8], &[1]))]),
            Fails("`w`: the reference to its storage"),
        ),
    ])
}

/// Programs that abuse the stack machine.
fn machines() -> Vec<Case> {
    let nested =
        |open: &[u8], close: &[u8], depth| [open.repeat(depth), close.repeat(depth - 1)].concat();
    let dicts = nested(&[b"}", &text("a")[..]].concat(), b"s", 100_000);
    // The innermost key has no value: add one.
    let dicts = [&dicts[..6 * 100_000 + 100_000], b"N", &b"s".repeat(100_000)].concat();
    let doubling = [&b"]"[..], &b"2\x86".repeat(100)].concat();
    let pairs = [&b"]("[..], &tuple(&[&text("k"), b"N"]).repeat(2000), b"eq\x00"].concat();
    let copies = [
        &pairs[..],
        &[&global("collections", "OrderedDict")[..], b"h\x00\x85R0"].concat().repeat(5000),
    ]
    .concat();
    let damaged = Fails("pickle is damaged at byte");
    let nothing = Fails("no dict of tensors");
    let no_end = Fails("pickle has no end");
    named([
        ("lists 500,000 deep", nested(b"]", b"a", 500_000), nothing),
        ("tuples 900,000 deep", [&b")"[..], &b"\x85".repeat(900_000)].concat(), nothing),
        ("dicts 100,000 deep", dicts, nothing),
        ("marks 900,000 deep", b"(".repeat(900_000), damaged),
        ("a list in itself", b"]q\x00h\x00a".to_vec(), nothing),
        (
            "a state dict in itself",
            [b"}q\x00", &text("state_dict")[..], b"h\x00s"].concat(),
            nothing,
        ),
        ("2^100 leaves", doubling, nothing),
        ("endless copies", b"N2".repeat(600_000), Fails("more than 1048576 opcodes")),
        ("one list in many dicts", copies, Fails("too many dict entries")),
        ("memo of 2^32", b"]r\xff\xff\xff\xff".to_vec(), damaged),
        ("memo never set", b"h\x09".to_vec(), damaged),
        ("string of 2^63", [&b"\x8d"[..], &(1u64 << 63).to_le_bytes()].concat(), no_end),
        ("string of 4 GiB", b"X\xff\xff\xff\xffab".to_vec(), no_end),
        ("bytes of 4 GiB", b"B\xff\xff\xff\xffab".to_vec(), no_end),
        ("number of 2 GiB", b"\x8b\xff\xff\xff\x7fab".to_vec(), no_end),
        ("frame past the end", b"\x95\xff\xff\xff\xff\xff\xff\xff\xffN".to_vec(), nothing),
        ("name without an end", [&b"c"[..], &[b'a'; 5000]].concat(), damaged),
        ("unknown opcode", b"\xff".to_vec(), Fails("opcode 0xff")),
        ("persistent id as text", b"P0\n".to_vec(), Fails("opcode 0x50")),
        ("protocol 9", b"\x80\x09N".to_vec(), Fails("protocol 9")),
        ("call on an empty stack", b"R".to_vec(), damaged),
        ("call below a mark", b"NN(R".to_vec(), damaged),
        ("end of an empty stack", b"N0".to_vec(), damaged),
        ("tuple without a mark", b"Nt".to_vec(), damaged),
        ("key without a value", b"}(Nu".to_vec(), damaged),
        ("keys set on a number", b"K\x01(NNu".to_vec(), damaged),
        ("append to a string", [&text("a")[..], b"Na"].concat(), damaged),
        ("class named by numbers", b"K\x01K\x02\x93".to_vec(), damaged),
        (
            "ordered dict of a number",
            [&global("collections", "OrderedDict")[..], b"K\x01\x85R"].concat(),
            damaged,
        ),
    ])
}

/// Invalid descriptions of tensors and storages.
fn tensors() -> Vec<Case> {
    let floats = storage("FloatStorage", "0", 8);
    let w = |t: Vec<u8>| dict(&[("w", &t)]);
    let shaped = |offset, dims: &[i64], strides: &[i64]| w(tensor(&floats, offset, dims, strides));
    let mut parameter = good_tensor();
    for _ in 0..50 {
        parameter = call("torch._utils", "_rebuild_parameter", &[&parameter, b"\x89", b"N"]);
    }
    let megabyte = [&text("k")[..], b"q\x01", &text(&"m".repeat(1 << 20)), b"q\x02"].concat();
    let repeated: Vec<u8> =
        (0..2000).flat_map(|i| [text(&format!("k{i}")), b"h\x02".to_vec()].concat()).collect();
    let repeated =
        [b"}q\x00(", &megabyte[..], &repeated, &text("state_dict"), &w(good_tensor()), b"u"]
            .concat();
    let complex = tensor(&storage("ComplexFloatStorage", "0", 4), 0, &[4], &[1]);
    let sparse = call("torch._utils", "_rebuild_sparse_tensor", &[b"N", b"N"]);
    let complex = dict(&[("a", &complex), ("b", &complex), ("c", &sparse)]);
    let (bytes, hooks) = (storage("ByteStorage", "0", 32), call("collections", "OrderedDict", &[]));
    let dtype = global("torch", "float8_e4m3fn");
    let f8 = [
        &bytes[..],
        &int(0),
        &super::build::numbers(&[32]),
        &super::build::numbers(&[1]),
        b"\x89",
        &hooks,
        &dtype,
    ];
    let f8 = w(call("torch._utils", "_rebuild_tensor_v3", &f8));
    let twice = dict(&[("w", b"N"), ("w", &good_tensor())]);
    let shared: Vec<u8> = (0..40)
        .flat_map(|i| [text(&format!("w{i}")), tensor(&floats, 0, &[1 << 18], &[0])].concat())
        .collect();
    let numbers = Fails("`w`: its offset, size or stride");
    let bad_reference = Fails("`w`: the reference to its storage is invalid");
    let list_id = [&b"]("[..], &text("storage"), b"eQ"].concat();
    named([
        (
            "dimension of 2^40",
            shaped(0, &[1 << 40], &[1]),
            Fails("`w`: [1099511627776] of F32 ends at byte"),
        ),
        ("dimensions overflow", shaped(0, &[1 << 62, 4], &[4, 1]), Fails("`w`: dimensions")),
        (
            "dimensions overflow to zero",
            shaped(0, &[1 << 32, 1 << 32], &[0, 0]),
            Fails("`w`: dimensions"),
        ),
        ("dimension negative", shaped(0, &[-1], &[1]), numbers),
        ("stride negative", shaped(7, &[8], &[-1]), numbers),
        ("stride of 2^62", shaped(0, &[2], &[1 << 62]), Fails("`w`: dimensions")),
        ("stride past the end", shaped(0, &[2, 4], &[5, 1]), Fails("of a storage of 32 bytes")),
        ("offset past the end", shaped(1, &[2, 4], &[4, 1]), Fails("of a storage of 32 bytes")),
        ("offset of 2^62", shaped(1 << 62, &[1], &[1]), Fails("`w`")),
        ("offset negative", shaped(-1, &[1], &[1]), numbers),
        (
            "one number 2^33 times",
            shaped(0, &[1 << 33], &[0]),
            Fails("the tensors would require 32 GiB"),
        ),
        (
            "one number in 40 large tensors",
            [b"}(", &shared[..], b"u"].concat(),
            Fails("the tensors would require 40 MiB"),
        ),
        ("axes without strides", shaped(0, &[2, 4], &[1]), Fails("2 axes but 1 strides")),
        ("twenty axes", shaped(0, &[1; 20], &[1; 20]), Fails("20 axes")),
        (
            "storage of 2^40",
            w(tensor(&storage("FloatStorage", "0", 1 << 40), 0, &[8], &[1])),
            Fails("the pickle specifies 4 TiB"),
        ),
        (
            "storage negative",
            w(tensor(&storage("FloatStorage", "0", -8), 0, &[8], &[1])),
            bad_reference,
        ),
        (
            "storage missing",
            w(tensor(&storage("FloatStorage", "9", 8), 0, &[8], &[1])),
            Fails("the archive has no entry data/9"),
        ),
        (
            "storage of doubles",
            w(tensor(&storage("DoubleStorage", "0", 8), 0, &[8], &[1])),
            Fails("the pickle specifies 64 bytes"),
        ),
        (
            "storage of longs",
            w(tensor(&storage("LongStorage", "0", 4), 0, &[4], &[1])),
            Fails("expected a floating-point tensor"),
        ),
        ("storage is a number", w(tensor(&int(0), 0, &[8], &[1])), bad_reference),
        ("storage named by a list", w(tensor(&list_id, 0, &[8], &[1])), bad_reference),
        (
            "tensor of a number",
            w([&global("torch._utils", "_rebuild_tensor_v2")[..], b"K\x01R"].concat()),
            Fails("not a tuple"),
        ),
        ("parameters in parameters", w(parameter), Fails("nested too deeply")),
        (
            "name of a mebibyte",
            dict(&[(&"n".repeat(1 << 20), &good_tensor())]),
            Fails("name has 1 MiB"),
        ),
        ("a mebibyte under 2000 keys", repeated, Loads),
        ("a name twice", twice, Loads),
        (
            "complex tensors alone",
            complex,
            Fails(
                "no tensors of a supported type, only 2 tensors of type complex64, 1 sparse tensor",
            ),
        ),
        (
            "f8 tensors alone",
            f8,
            Fails("no tensors of a supported type, only 1 tensor of type float8_e4m3fn"),
        ),
    ])
}
