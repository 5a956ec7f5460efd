//! The tuner on a device: correctness before speed, and the cache.

mod support;

use atrous::engine::exec::{Device, Runner};
use atrous::engine::gpu::Gpu;
use atrous::engine::graph::{Graph, ParamRef};
use atrous::engine::ops::kernel::{Extent, Kernel, KernelContext};
use atrous::engine::ops::{Activate, Activation, Conv2d, Op, Padding, Signature};
use atrous::engine::tune::{Tuning, TuningMode, multiply_add_rate};
use atrous::engine::{Shape, Tensor, TensorType};

use atrous::{Error, Result};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use support::Rng;

/// ReLU with kernels of the test's choice; counts the calls of the reference.
#[derive(Debug, Clone)]
struct Tampered {
    kernels: fn(Kernel) -> Vec<Kernel>,
    references: Arc<AtomicUsize>,
}

impl Tampered {
    fn new(kernels: fn(Kernel) -> Vec<Kernel>) -> Self {
        Self { kernels, references: Arc::default() }
    }
}

const RELU: Activate = Activate(Activation::Relu);

impl Op for Tampered {
    fn signature(&self) -> Signature {
        Signature::new("tampered").f32("x")
    }
    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        RELU.infer(inputs)
    }
    fn cpu(&self, inputs: &[&Tensor], outputs: &mut [Tensor]) -> Result<()> {
        self.references.fetch_add(1, Ordering::Relaxed);
        RELU.cpu(inputs, outputs)
    }
    fn kernels(&self, context: &KernelContext) -> Vec<Kernel> {
        (self.kernels)(RELU.kernels(context).swap_remove(0))
    }
}

fn named(kernel: &Kernel, label: &str) -> Kernel {
    Kernel { label: label.to_owned(), ..kernel.clone() }
}

fn two(kernel: Kernel) -> Vec<Kernel> {
    vec![named(&kernel, "one"), named(&kernel, "two")]
}

/// Two wrong kernels, the first with less work (if there are several workgroups); one that does not
/// compile; the correct one; one that repeats the work many times.
fn mostly_wrong(kernel: Kernel) -> Vec<Kernel> {
    let mut halved = named(&kernel, "half of it");
    halved.dispatches[0].extent = match kernel.dispatches[0].extent {
        Extent::Threads(n) => Extent::Threads(n / 2),
        Extent::Groups(n) => Extent::Groups(n / 2),
    };
    let mut other = named(&kernel, "another function");
    other.dispatches[0].variant.features = vec![Activation::HardSwish.feature()];
    let mut missing = named(&kernel, "no such shader");
    missing.dispatches[0].variant.shader = "missing";
    let mut slow = named(&kernel, "slow");
    slow.dispatches = vec![kernel.dispatches[0].clone(); 40];
    vec![halved, other, missing, named(&kernel, "right"), slow]
}

fn gpu() -> Option<(Device, Arc<Gpu>)> {
    match support::gpu()? {
        Device::Gpu(gpu) => Some((Device::Gpu(gpu.clone()), gpu)),
        Device::Cpu => None,
    }
}

fn graph(op: impl Op, shape: Shape) -> Graph {
    support::graph_of(Arc::new(op), &[Tensor::zeros(TensorType::f32(shape))])
        .expect("the operation supports any shape")
}

fn chosen(device: &Device, tuning: &Tuning, graph: Graph) -> Result<String> {
    Ok(tuning.runner(device, graph)?.kernels().swap_remove(0).1)
}

fn choices(table: &Path) -> serde_json::Map<String, serde_json::Value> {
    let text = std::fs::read(table).expect("a table was written");
    let table: serde_json::Value = serde_json::from_slice(&text).expect("the table is JSON");
    table["choices"].as_object().expect("it has choices").clone()
}

#[test]
#[cfg_attr(not(has_gpu), ignore = "needs a GPU adapter")]
fn a_kernel_with_wrong_numbers_is_never_chosen_however_fast() {
    let Some((device, _)) = gpu() else { panic!("no GPU adapter was found") };
    let tuning = Tuning::new(TuningMode::On).with_table(None);
    let shape = Shape::new(1, 64, 64, 64);
    assert_eq!(
        chosen(&device, &tuning, graph(Tampered::new(mostly_wrong), shape)).unwrap(),
        "right"
    );

    let all_wrong = |kernel: Kernel| mostly_wrong(kernel).drain(..3).collect();
    let error =
        chosen(&device, &tuning, graph(Tampered::new(all_wrong), shape)).unwrap_err().to_string();
    assert!(error.contains("node `op`") && error.contains("computes correct results"), "{error}");
}

#[test]
#[cfg_attr(not(has_gpu), ignore = "needs a GPU adapter")]
fn what_was_measured_is_remembered_across_tuners() {
    let Some((device, _)) = gpu() else { panic!("no GPU adapter was found") };
    let directory = tempfile::tempdir().unwrap();
    let table = directory.path().join("deep/er/tune.json");
    let tuning = |mode| Tuning::new(mode).with_table(Some(table.clone()));
    let shape = Shape::new(1, 16, 16, 16);
    let op = Tampered::new(mostly_wrong);
    let count = op.references.clone();
    assert_eq!(
        chosen(&device, &tuning(TuningMode::On), graph(op.clone(), shape)).unwrap(),
        "right"
    );
    assert_eq!(count.load(Ordering::Relaxed), 1, "one reference serves all kernels");
    for mode in [TuningMode::On, TuningMode::Cached] {
        assert_eq!(chosen(&device, &tuning(mode), graph(op.clone(), shape)).unwrap(), "right");
    }
    assert_eq!(count.load(Ordering::Relaxed), 1, "nothing is measured twice");
    let remembered = choices(&table);
    let (key, choice) = remembered.iter().next().expect("one choice");
    assert!(key.starts_with("tampered") && key.contains("[1, 16, 16, 16]"), "{key}");
    assert!(
        choice["kernel"] == "right" && choice["microseconds"].as_f64().unwrap() > 0.0,
        "{choice}"
    );

    // Another shape is measured separately, and so is a call whose cached label no longer exists.
    assert_eq!(
        chosen(&device, &tuning(TuningMode::Cached), graph(op.clone(), Shape::new(1, 16, 16, 32)))
            .unwrap(),
        "half of it"
    );
    let renamed = |kernel: Kernel| vec![named(&kernel, "new one"), named(&kernel, "new two")];
    assert!(
        chosen(&device, &tuning(TuningMode::On), graph(Tampered::new(renamed), shape))
            .unwrap()
            .starts_with("new")
    );
    assert!(choices(&table)[key]["kernel"].as_str().unwrap().starts_with("new"));
}

#[test]
#[cfg_attr(not(has_gpu), ignore = "needs a GPU adapter")]
fn damaged_and_foreign_tables_are_survived_and_replaced() {
    let Some((device, _)) = gpu() else { panic!("no GPU adapter was found") };
    let directory = tempfile::tempdir().unwrap();
    let table = directory.path().join("tune.json");
    let tuning = |mode| Tuning::new(mode).with_table(Some(table.clone()));
    let of = |c| graph(Tampered::new(two), Shape::new(1, 4, 4, c));
    chosen(&device, &tuning(TuningMode::On), of(4)).unwrap();
    let good = std::fs::read_to_string(&table).unwrap();
    let foreign = good.replace("\"adapter\": \"", "\"adapter\": \"another ");
    assert_ne!(good, foreign);
    for bad in [&good[..good.len() / 2], "", "[1, 2]", "\u{0}", foreign.as_str()] {
        std::fs::write(&table, bad).unwrap();
        assert_eq!(chosen(&device, &tuning(TuningMode::Cached), of(4)).unwrap(), "one", "{bad:?}");
        chosen(&device, &tuning(TuningMode::On), of(8)).unwrap();
        assert_eq!(choices(&table).len(), 1, "{bad:?}");
    }
    // If a table cannot be written, only the caching is lost.
    let nowhere = Tuning::new(TuningMode::On).with_table(Some(table.join("below a file.json")));
    chosen(&device, &nowhere, of(4)).unwrap();
}

#[test]
#[cfg_attr(not(has_gpu), ignore = "needs a GPU adapter")]
fn off_and_cached_never_measure() {
    let Some((device, _)) = gpu() else { panic!("no GPU adapter was found") };
    let directory = tempfile::tempdir().unwrap();
    let table = directory.path().join("tune.json");
    for mode in [TuningMode::Off, TuningMode::Cached] {
        let op = Tampered::new(two);
        let count = op.references.clone();
        let reports = Arc::new(AtomicUsize::new(0));
        let seen = reports.clone();
        let tuning = Tuning::new(mode).with_table(Some(table.clone())).reporting(move |_| {
            seen.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(chosen(&device, &tuning, graph(op, Shape::new(1, 4, 4, 4))).unwrap(), "one");
        assert_eq!(
            (count.load(Ordering::Relaxed), reports.load(Ordering::Relaxed)),
            (0, 0),
            "{mode:?}"
        );
        assert!(!table.exists(), "{mode:?} writes nothing");
    }
    // `Off` ignores cached measurements.
    let swapped = |kernel: Kernel| two(kernel).into_iter().rev().collect();
    let tuning = |mode| Tuning::new(mode).with_table(Some(table.clone()));
    let shape = Shape::new(1, 4, 4, 4);
    let best = chosen(&device, &tuning(TuningMode::On), graph(Tampered::new(two), shape)).unwrap();
    let other: fn(Kernel) -> Vec<Kernel> = if best == "one" { swapped } else { two };
    assert_ne!(
        chosen(&device, &tuning(TuningMode::Off), graph(Tampered::new(other), shape)).unwrap(),
        best
    );
    assert_eq!(
        chosen(&device, &tuning(TuningMode::Cached), graph(Tampered::new(other), shape)).unwrap(),
        best
    );
}

/// Not a test itself: the child processes of the next test run it.
#[test]
#[ignore = "run by another test, in child processes"]
fn child_process_measures() {
    let Some(table) = std::env::var_os("ATROUS_TEST_TABLE").map(PathBuf::from) else { return };
    let Some((device, _)) = gpu() else { panic!("no GPU adapter was found") };
    let width: usize = std::env::var("ATROUS_TEST_WIDTH")
        .ok()
        .and_then(|w| w.parse().ok())
        .expect("set with the table");
    let tuning = Tuning::new(TuningMode::On).with_table(Some(table));
    for h in 1..=12 {
        chosen(&device, &tuning, graph(Tampered::new(two), Shape::new(1, h, width, 4))).unwrap();
    }
}

#[test]
#[cfg_attr(not(has_gpu), ignore = "needs a GPU adapter")]
fn processes_that_write_one_table_lose_no_entry() {
    let directory = tempfile::tempdir().unwrap();
    let table = directory.path().join("tune.json");
    let start = |width: usize| {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_process_measures", "--include-ignored"])
            .env("ATROUS_TEST_TABLE", &table)
            .env("ATROUS_TEST_WIDTH", width.to_string())
            .output()
    };
    std::thread::scope(|scope| {
        let children: Vec<_> = (1..=3).map(|width| scope.spawn(move || start(width))).collect();
        for child in children {
            let output = child.join().unwrap().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        }
    });
    assert_eq!(choices(&table).len(), 3 * 12);
    let files: Vec<_> =
        std::fs::read_dir(directory.path()).unwrap().map(|f| f.unwrap().file_name()).collect();
    assert_eq!(files.len(), 2, "the table and its lock, nothing temporary: {files:?}");
}

/// Two convolutions of different shapes.
fn network(rng: &mut Rng) -> Graph {
    let mut graph = Graph::new();
    let mut x = graph.input("x", TensorType::f32(Shape::new(1, 17, 13, 12)));
    for (i, (side, c)) in [(3, 20), (1, 8)].into_iter().enumerate() {
        let conv = Conv2d {
            padding: Padding::same(side, 1),
            activation: Activation::Relu,
            ..Conv2d::default()
        };
        let shape = Shape::new(side, side, graph.shape(x).c, c);
        let w =
            graph.param_with_data(&format!("w{i}"), shape, Some(ParamRef::new(rng.tensor(shape))));
        x = graph.push(&format!("conv{i}"), Arc::new(conv), &[x, w]).unwrap()[0];
    }
    graph.output("y", x);
    graph
}

#[test]
#[cfg_attr(not(has_gpu), ignore = "needs a GPU adapter")]
fn a_tuned_network_gives_the_same_bits_again_and_right_ones() {
    let Some((device, _)) = gpu() else { panic!("no GPU adapter was found") };
    let directory = tempfile::tempdir().unwrap();
    let table = directory.path().join("tune.json");
    let mut rng = Rng(5);
    let graph = network(&mut rng);
    let x = rng.tensor(Shape::new(1, 17, 13, 12));
    let run = |runner: &Runner| runner.run(&[("x", &x)]).unwrap().swap_remove(0);

    let seen = Arc::new(Mutex::new(Vec::new()));
    let reports = seen.clone();
    let tuning = Tuning::new(TuningMode::On).with_table(Some(table.clone()));
    let reporting = tuning.clone().reporting(move |p| {
        reports.lock().unwrap().push((p.done, p.total, p.measuring.map(str::to_owned)));
    });
    let first = reporting.runner(&device, graph.clone()).unwrap();
    let reports = seen.lock().unwrap().clone();
    let [(0, 2, Some(one)), (1, 2, Some(other)), (2, 2, None)] = reports.as_slice() else {
        panic!("{reports:?}")
    };
    assert!(
        one.starts_with("conv2d s1 d1 p1 relu") && other.starts_with("conv2d s1 d1 p0 relu"),
        "{reports:?}"
    );

    let again = Tuning::new(TuningMode::Cached)
        .with_table(Some(table))
        .runner(&device, graph.clone())
        .unwrap();
    assert_eq!(first.kernels(), again.kernels());
    let tuned = run(&first);
    assert_eq!(tuned, run(&again));
    assert_eq!(tuned, run(&first));
    let want: Vec<f64> = run(&Runner::new(&Device::Cpu, graph).unwrap())
        .f32()
        .iter()
        .map(|&v| f64::from(v))
        .collect();
    support::allclose("tuned", &tuned, &want, 1e-4, 1e-4).unwrap();
}

#[test]
fn tuning_the_cpu_executor_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let table = directory.path().join("tune.json");
    let tuning = Tuning::new(TuningMode::On).with_table(Some(table.clone()));
    let runner = tuning.runner(&Device::Cpu, network(&mut Rng(5))).unwrap();
    assert!(runner.kernels().is_empty() && !table.exists());
}

#[test]
fn every_device_multiplies_and_adds_at_some_rate() -> Result<(), Error> {
    for device in support::devices() {
        let rate = multiply_add_rate(&device)?;
        assert!((1e7..1e16).contains(&rate), "{device}: {rate:.3e} a second");
    }
    Ok(())
}
