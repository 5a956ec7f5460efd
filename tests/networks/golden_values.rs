//! Every network and dialect compared with PyTorch: stage by stage, then logits and labels. See
//! `tests/golden/README.md`.

use crate::seeded::{self, Golden, Values};
use crate::{conventions, support};
use atrous::engine::exec::{Device, Runner};
use atrous::engine::models::{
    Config, DilationRule, NetworkGraph, Outputs, build_network, parameters,
};
use atrous::engine::passes::optimize;
use atrous::engine::weights::WeightFile;
use atrous::engine::weights::dialects::{Loaded, ReadOptions, load};
use atrous::engine::{Shape, Tensor};

/// Absolute tolerance of stages and logits. The values have a standard deviation of about 1 (logits
/// of 2), and PyTorch's own rounding error is about 1e-5.
const TOLERANCE: f32 = 1e-3;
/// Networks of more parameters times pixels run on software adapters only with all cases: there each
/// takes seconds, and what it computes is checked on the CPU executor.
const LARGE: usize = 100_000_000_000;
const SAMPLE_STEP: usize = 1_000_003;

/// Compares a tensor with PyTorch's, completely or at the sampled elements.
fn compare(name: &str, got: &Tensor, want: &Values, sampled: bool) -> Result<(), String> {
    let got = got.to_nchw();
    let index = |k: usize| if sampled { k * SAMPLE_STEP % got.len() } else { k };
    if !sampled && got.len() != want.data.len() {
        return Err(format!("{name}: {} elements, PyTorch has {:?}", got.len(), want.dims));
    }
    let (mut largest, mut worst) = (0f32, 0);
    for (k, &w) in want.data.iter().enumerate() {
        let difference = (got[index(k)] - w).abs();
        if difference > largest || difference.is_nan() {
            (largest, worst) = (difference, k);
        }
    }
    if largest <= TOLERANCE {
        return Ok(());
    }
    Err(format!(
        "{name}: differs by {largest} at element {} (got {}, PyTorch {})",
        index(worst),
        got[index(worst)],
        want.data[worst]
    ))
}

fn nchw(shape: Shape) -> [usize; 4] {
    [shape.n, shape.c, shape.h, shape.w]
}

/// Compares the stages in execution order. The error names the first that differs.
fn compare_stages(
    golden: &Golden,
    network: &NetworkGraph,
    results: &[(String, Tensor)],
) -> Result<(), String> {
    for stage in &golden.stages {
        if !network.stages.iter().any(|(name, _)| name == stage) {
            return Err(format!("stage `{stage}` is missing"));
        }
        let got = &results.iter().find(|(name, _)| name == stage).unwrap().1;
        let dims: Vec<f32> = nchw(got.shape()).iter().map(|&d| d as f32).collect();
        let want = &golden.tensors[&format!("stage.{stage}.shape")].data;
        if dims != *want {
            return Err(format!("stage `{stage}`: shape {dims:?}, PyTorch has {want:?}"));
        }
        compare(
            &format!("stage `{stage}`"),
            got,
            &golden.tensors[&format!("stage.{stage}.samples")],
            true,
        )?;
    }
    Ok(())
}

/// Compares the outputs with PyTorch's: logits within the tolerance, labels equal for 99.9 % of the
/// pixels.
fn compare_outputs(golden: &Golden, results: &[(String, Tensor)]) -> Result<(), String> {
    let find = |name: &str| results.iter().find(|(n, _)| n == name).map(|(_, t)| t);
    // Large outputs are sampled.
    let get = |name: &str| {
        let complete = golden.tensors.get(name).map(|values| (values, false));
        complete.or(golden.tensors.get(&format!("{name}.samples")).map(|values| (values, true)))
    };
    let (Some((want, sampled)), Some(logits)) = (get("logits"), find("logits")) else {
        return Ok(());
    };
    compare("logits", logits, want, sampled)?;
    if let Some(full) = find("logits_full") {
        compare("logits_full", full, &golden.tensors["logits_full.samples"], true)?;
    }
    let labels = find("labels").expect("the graph has the output `labels`").u32();
    let (want, sampled) = get("argmax").expect("every network with logits has labels");
    assert!(sampled || labels.len() == want.data.len());
    let index = |k: usize| if sampled { k * SAMPLE_STEP % labels.len() } else { k };
    let is_wrong = |&(k, want): &(usize, &f32)| labels[index(k)] as f32 != *want;
    let wrong = want.data.iter().enumerate().filter(is_wrong).count();
    if wrong * 1000 <= want.data.len() {
        Ok(())
    } else {
        Err(format!("labels: {wrong} of {} differ", want.data.len()))
    }
}

fn run(
    device: &Device,
    network: &NetworkGraph,
    x: &Tensor,
) -> atrous::Result<Vec<(String, Tensor)>> {
    let runner = Runner::new(device, network.graph.clone())?;
    let results = runner.run(&[("input", x)])?;
    Ok(network.graph.outputs().iter().map(|(name, _)| name.clone()).zip(results).collect())
}

/// Loads the weights of a case in its dialect, and sets the options that files do not contain.
fn load_case(golden: &Golden) -> Result<Loaded, String> {
    let text = |e: atrous::Error| e.to_string();
    let expected = conventions::config(golden);
    let dialect = conventions::dialect(golden);
    let mut loaded = match golden.text("weights") {
        "" => conventions::load_seeded(golden)?,
        file => load(
            &WeightFile::open(support::data().join("weights").join(file)).map_err(text)?,
            ReadOptions::default(),
        )
        .map_err(text)?,
    };
    if loaded.dialect.name() != dialect {
        return Err(format!("detected as `{}`", loaded.dialect));
    }
    conventions::set_options(&mut loaded.config, &expected);
    if loaded.config != expected {
        return Err(format!("inferred config\n{:?}\nexpected\n{expected:?}", loaded.config));
    }
    Ok(loaded)
}

fn check(case: &str) -> Result<(), String> {
    let golden = Golden::open(case);
    let text = |e: atrous::Error| e.to_string();
    let Loaded { config, weights, .. } = load_case(&golden)?;
    let trained: usize = parameters(&config)
        .map_err(text)?
        .iter()
        .filter(|(info, _)| info.role.part.is_trained())
        .map(|(_, s)| s.len())
        .sum();
    let unused: usize =
        conventions::unused(&golden).iter().map(|(_, dims)| dims.iter().product::<usize>()).sum();
    if trained + unused != golden.parameters() {
        return Err(format!("{trained} parameters, PyTorch has {}", golden.parameters() - unused));
    }
    let x = seeded::image(golden.input_shape);
    let has_head = config.head.is_some();
    let outputs = Outputs { labels: has_head, logits_full: has_head, ..Outputs::default() };
    let mut network = build_network(&config, x.shape(), &outputs).map_err(text)?;
    network.graph.bind(&weights).map_err(text)?;
    // The passes must not change the outputs.
    let graph = optimize(network.graph.clone()).map_err(text)?;
    let optimized = NetworkGraph { graph, stages: Vec::new(), ..network.clone() };
    network.keep_stages();
    let results = run(&Device::Cpu, &network, &x).map_err(text)?;
    compare_stages(&golden, &network, &results)?;
    compare_outputs(&golden, &results)?;
    for device in support::devices() {
        let work = golden.parameters() * x.shape().size().pixels();
        if work > LARGE && !support::runs_all_cases(&device) {
            continue;
        }
        let results = run(&device, &optimized, &x).map_err(text)?;
        compare_outputs(&golden, &results)
            .map_err(|e| format!("after the passes, on {device}: {e}"))?;
    }
    Ok(())
}

/// Runs every case with this prefix, and reports all failures.
fn check_all(prefix: &str) {
    let only = std::env::var("ATROUS_GOLDEN").unwrap_or_default();
    let cases = seeded::cases(prefix);
    assert!(!cases.is_empty(), "no golden files {prefix}*");
    let failures: Vec<String> = cases
        .iter()
        .filter(|case| case.contains(&only))
        .filter_map(|case| Some(format!("{case}: {}", check(case).err()?)))
        .collect();
    assert!(
        failures.is_empty(),
        "{} of {} cases fail:\n{}",
        failures.len(),
        cases.len(),
        failures.join("\n")
    );
}

#[test]
fn smp_agrees_with_pytorch() {
    check_all("smp_");
}

#[test]
fn torchvision_agrees_with_pytorch() {
    check_all("torchvision_v3_");
}

#[test]
fn torchvision_imagenet_agrees_with_pytorch() {
    check_all("torchvision_imagenet_");
}

#[test]
fn vainf_agrees_with_pytorch() {
    check_all("vainf_");
}

#[test]
fn mmseg_agrees_with_pytorch() {
    check_all("mmseg_");
}

#[test]
fn tensorflow_mobile_agrees_with_pytorch() {
    check_all("tf_mobile_");
}

#[test]
fn tensorflow_v3plus_agrees_with_pytorch() {
    check_all("tf_v3plus_");
}

#[test]
fn jfzhang95_agrees_with_pytorch() {
    check_all("jfzhang95_");
}

#[test]
fn timm_agrees_with_pytorch() {
    check_all("timm_");
}

#[test]
fn hugging_face_agrees_with_pytorch() {
    check_all("hf_");
}

#[test]
#[cfg_attr(not(has_data), ignore = "needs the data directory (ATROUS_DATA)")]
fn trained_weights_agree_with_pytorch() {
    check_all("trained_");
}

#[test]
fn a_wrong_dilation_is_found_at_its_stage() {
    let golden = Golden::open("smp_v3plus_resnet18_os16_n2x80x48");
    let mut loaded = load_case(&golden).unwrap();
    loaded.config.dilation = DilationRule::AfterStride;
    let x = seeded::image(golden.input_shape);
    let mut network = build_network(&loaded.config, x.shape(), &Outputs::default()).unwrap();
    network.graph.bind(&loaded.weights).unwrap();
    network.keep_stages();
    let results = run(&Device::Cpu, &network, &x).unwrap();
    let error = compare_stages(&golden, &network, &results).unwrap_err();
    assert!(error.starts_with("stage `layer4`: differs by"), "{error}");
}

#[test]
fn every_golden_file_has_a_test() {
    const TESTED: [&str; 11] = [
        "smp_",
        "torchvision_v3_",
        "torchvision_imagenet_",
        "vainf_",
        "mmseg_",
        "tf_mobile_",
        "tf_v3plus_",
        "jfzhang95_",
        "timm_",
        "hf_",
        "trained_",
    ];
    for case in seeded::cases("") {
        assert!(TESTED.iter().any(|prefix| case.starts_with(prefix)), "no test runs {case}");
    }
}

#[test]
fn the_generator_gives_the_values_of_the_readme() {
    let name = "conv1.weight";
    assert_eq!(seeded::fnv1a64(b""), 0xCBF2_9CE4_8422_2325);
    assert_eq!(seeded::fnv1a64(name.as_bytes()), 0x69A2_9A2C_EE47_D254);
    let u: Vec<u32> = seeded::uniform(name, 1001).map(|u| (u * 2f32.powi(24)) as u32).collect();
    assert_eq!([u[0], u[1], u[1000]], [5_343_962, 9_144_840, 265_680]);
    let p = seeded::parameter(name, &[64, 3, 7, 7], 0);
    assert_eq!([p[0], p[1], p[1000]].map(f32::to_bits), [0xBD96_2C76, 0x3C95_337C, 0xBE48_53BA]);
    let x = seeded::image([1, 3, 20, 20]).to_nchw();
    let bits = [0, 1, 16, 399, 1199].map(|i: usize| x[i].to_bits());
    assert_eq!(bits, [0xBE20_D970, 0xBD90_69C8, 0xBF10_B645, 0x3F39_3AF5, 0xBF80_91B4]);
}

#[test]
fn parameter_counts_are_the_published_ones() {
    for (backbone, count) in
        [("resnet50", 42_004_074), ("resnet101", 60_996_202), ("mobilenet_v3_large", 11_029_328)]
    {
        let config: Config = conventions::torchvision(backbone, 21, &[12, 24, 36]);
        let parameters = parameters(&config).unwrap();
        let trained: usize = parameters
            .iter()
            .filter(|(info, _)| info.role.part.is_trained())
            .map(|(_, shape)| shape.len())
            .sum();
        assert_eq!(trained, count, "{backbone}");
    }
}
