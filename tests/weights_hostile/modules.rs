//! Malicious pickles of modules.

use super::build::*;

/// Creates a module of parameters and child modules.
fn module(parameters: &[(&str, &[u8])], children: &[(&str, &[u8])]) -> Vec<u8> {
    let attributes = dict(&[
        ("training", b"\x89"),
        ("_parameters", &dict(parameters)),
        ("_buffers", &dict(&[])),
        ("_modules", &dict(children)),
    ]);
    [global("torch.nn", "Module"), b")\x81".to_vec(), attributes, b"b".to_vec()].concat()
}

/// Creates a module that is remembered as memo entry `index` before its children are read.
fn remembered(index: u8, children: &[(&str, &[u8])]) -> Vec<u8> {
    let attributes = dict(&[("_parameters", &dict(&[])), ("_modules", &dict(children))]);
    [global("torch.nn", "Module"), vec![b')', 0x81, b'q', index], attributes, b"b".to_vec()]
        .concat()
}

/// Creates modules of which each is the only child of the previous one.
fn chain(depth: usize, name: &str) -> Vec<u8> {
    let open = [
        &global("torch.nn", "Module")[..],
        b")\x81}(",
        &text("_parameters"),
        b"}",
        &text("_modules"),
        b"}(",
        &text(name),
    ]
    .concat();
    [open.repeat(depth), module(&[("w", &good_tensor())], &[]), b"uub".repeat(depth)].concat()
}

/// Creates modules of which each has the next one twice: 2^levels paths lead to the last.
fn doubling(levels: u8) -> Vec<u8> {
    (0..levels).fold(module(&[("w", &good_tensor())], &[]), |inner, level| {
        // The dict of the children: the first is remembered, the second recalled.
        let first = [&inner[..], &[b'q', level]].concat();
        module(&[], &[("a", &first), ("b", &[b'h', level])])
    })
}

pub fn cases() -> Vec<Case> {
    let cycle = remembered(0, &[("a", &remembered(1, &[("b", b"h\x00")]))]);
    let many = (0..10_000).map(|i| (i.to_string(), b"h\x00".to_vec())).collect::<Vec<_>>();
    let many: Vec<(&str, &[u8])> = many.iter().map(|(n, v)| (n.as_str(), &v[..])).collect();
    let wide = module(&[("w", &good_tensor())], &[]);
    let shared = [&wide[..], b"q\x000", &module(&[], &many)].concat();
    let long = chain(60, &"x".repeat(2000));
    let dots = chain(1, &"x.".repeat(400));
    let names: Vec<(String, Vec<u8>)> =
        (0..3000).map(|i| (format!("{}{i}", "n".repeat(8000)), good_tensor())).collect();
    let names: Vec<(&str, &[u8])> = names.iter().map(|(n, v)| (n.as_str(), &v[..])).collect();
    let parameters_of_itself = {
        let attributes =
            [&b"}("[..], &text("_parameters"), b"h\x00", &text("_modules"), b"h\x00u"].concat();
        [global("torch.nn", "Module"), b")\x81q\x00".to_vec(), attributes, b"b".to_vec()].concat()
    };
    [
        ("a module in itself", remembered(0, &[("a", b"h\x00")]), Fails("`a` contains itself")),
        ("a module in its child", cycle, Fails("module `a.b` contains itself")),
        ("modules 60 deep", chain(60, "a"), Loads),
        ("modules 100 deep", chain(100, "a"), Fails("nested deeper than 64")),
        ("modules 20,000 deep", chain(20_000, "a"), Fails("nested deeper than 64")),
        ("2^6 paths to a module", doubling(6), Loads),
        ("2^60 paths to a module", doubling(60), Fails("too many tensors")),
        ("a module of 10,000 names", shared, Loads),
        ("names of modules of 120 KB", long, Fails("a tensor name has")),
        ("a name of 400 dots", dots, Loads),
        ("tensor names of 24 MB", module(&names, &[]), Fails("too many tensors")),
        ("a module as its own dict", parameters_of_itself, Fails("no dict of tensors")),
        ("a module of numbers", module(&[("w", b"K\x01")], &[]), Fails("no tensors of")),
        (
            "a call for the modules",
            [
                global("torch.nn", "Module"),
                b")\x81".to_vec(),
                dict(&[("_parameters", b"}"), ("_modules", &call("os", "system", &[&text("ls")]))]),
                b"b".to_vec(),
            ]
            .concat(),
            Fails("no dict of tensors"),
        ),
    ]
    .into_iter()
    .map(|(name, body, outcome)| case(name, pth(&pickle(&[&body])), outcome))
    .collect()
}
