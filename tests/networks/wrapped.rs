//! Networks in the files of training programs: below prefixes, beside other tensors, several in one
//! file. The network is the same, and notes name what is left out.

use crate::dialects::seeded_weights;
use crate::support;
use atrous::ErrorKind;
use atrous::engine::models::Config;
use atrous::engine::weights::dialects::{
    Dialect, Loaded, ReadOptions, StoredWeights, find, load, store,
};
use atrous::engine::weights::{CheckpointDict, FloatDType, WeightFile, write_pth};
use std::path::Path;
use std::time::{Duration, Instant};

type Named = (String, Vec<usize>, Vec<f32>);

fn smp() -> &'static dyn Dialect {
    find("smp").unwrap()
}

fn config() -> Config {
    crate::dialects::smp_with_its_own_encoder()
}

/// Returns the tensors of the network with a seed, in SMP's names below `prefix`.
fn network(prefix: &str, seed: usize) -> Vec<Named> {
    let config = config();
    let stored = store(&config, &seeded_weights(&config, seed), smp()).unwrap();
    let named = stored.tensors.into_iter();
    named.map(|(name, dims, data)| (format!("{prefix}{name}"), dims, data)).collect()
}

/// Returns tensors without a meaning for a network.
fn others(names: &[&str]) -> Vec<Named> {
    names.iter().map(|name| (name.to_string(), vec![2], vec![1.0, 2.0])).collect()
}

fn source(tensors: impl IntoIterator<Item = Vec<Named>>) -> StoredWeights {
    let tensors = tensors.into_iter().flatten().collect();
    StoredWeights { tensors, ..StoredWeights::default() }
}

#[track_caller]
fn assert_network(loaded: &Loaded, seed: usize) {
    let want = seeded_weights(&config(), seed);
    assert_eq!((loaded.dialect.name(), &loaded.config), ("smp", &config()));
    assert_eq!(loaded.weights.len(), want.len());
    for (name, param) in &want {
        assert!(loaded.weights[name].tensor() == param.tensor(), "{name} of seed {seed}");
    }
}

/// Loads a source with and without its dialect given; both must have the network of seed 1.
#[track_caller]
fn notes(source: &StoredWeights, prefix: &str) -> Vec<String> {
    let given = ReadOptions { dialect: Some(smp()), ..ReadOptions::default() };
    let [detected, given] = [ReadOptions::default(), given].map(|options| {
        let loaded = load(source, options).unwrap_or_else(|e| panic!("{prefix}: {e}"));
        assert_network(&loaded, 1);
        assert_eq!(loaded.prefix, prefix);
        // State dicts do not state stride and rates.
        let is_assumed = |note: &String| note.starts_with("assuming trained output stride");
        assert_eq!(loaded.notes.iter().filter(|note| is_assumed(note)).count(), 1);
        loaded.notes.into_iter().filter(|note| !is_assumed(note)).collect::<Vec<_>>()
    });
    assert_eq!(detected, given);
    detected
}

#[track_caller]
fn refusal(source: &StoredWeights, options: ReadOptions) -> String {
    load(source, options).unwrap_err().to_string()
}

#[test]
fn a_prefix_of_all_names_is_removed_without_a_note() {
    for prefix in ["", "module.", "model.", "net.", "_orig_mod.", "_orig_mod.module.", "a.b.c.d."] {
        let none: [String; 0] = [];
        assert_eq!(notes(&source([network(prefix, 1)]), prefix), none, "{prefix}");
    }
}

#[test]
fn tensors_beside_the_network_are_named_in_a_note() {
    let beside = others(&["mean", "std", "loss_fn.weight", "iou.confmat", "iou.total"]);
    let notes = notes(&source([network("model.", 1), beside]), "model.");
    assert_eq!(
        notes,
        ["left out 5 tensors beside the network at `model`: `iou.*` (2), `loss_fn.*` (1), \
          `mean`, `std`"]
    );
}

#[test]
fn the_counter_of_an_averaged_model_needs_no_note() {
    let none: [String; 0] = [];
    let averaged = source([network("module.", 1), others(&["n_averaged"])]);
    assert_eq!(notes(&averaged, "module."), none);
}

#[test]
fn of_two_networks_the_averaged_one_is_read_and_the_other_is_named() {
    for (plain, average, counter) in [
        ("model.", "ema.", ""),
        ("state_dict.", "state_dict_ema.", ""),
        ("model.module.", "model_ema.module.", ""),
        ("model.", "ema_model.module.", "ema_model.n_averaged"),
        ("model.", "weights.module.", "weights.n_averaged"),
        ("model.", "swa_model.module.", "swa_model.n_averaged"),
        // OpenMMLab swaps the two when it saves them.
        ("ema_state_dict.module.", "state_dict.", "ema_state_dict.steps"),
    ] {
        let mut tensors = vec![network(plain, 2), network(average, 1)];
        if !counter.is_empty() {
            tensors.push(others(&[counter]));
        }
        let notes = notes(&source(tensors), average);
        let (plain, average) = (plain.trim_end_matches('.'), average.trim_end_matches('.'));
        let expected = format!(
            "read the averaged network at `{average}`; the file also has `{plain}`, which \
             `--prefix` chooses"
        );
        assert_eq!(notes, [expected]);
    }
}

#[test]
fn an_average_inside_the_networks_own_names_is_found() {
    let counter = others(&["ema_model.n_averaged"]);
    let inlined = source([network("", 2), network("ema_model.module.", 1), counter]);
    let notes = notes(&inlined, "ema_model.module.");
    assert!(notes[0].contains("the file also has the top level, which"), "{notes:?}");
}

#[test]
fn two_networks_that_are_not_averages_are_refused_with_the_prefixes_that_choose() {
    let two = source([network("student.", 2), network("teacher.", 1)]);
    let text = refusal(&two, ReadOptions::default());
    assert!(text.contains("2 networks: `student`, `teacher`"), "{text}");
    assert!(text.contains("--prefix teacher"), "{text}");
    for (prefix, seed) in [("student", 2), ("teacher.", 1)] {
        let options = ReadOptions { prefix: Some(prefix.to_owned()), ..ReadOptions::default() };
        let loaded = load(&two, options).unwrap();
        assert_network(&loaded, seed);
    }
    let options = ReadOptions { prefix: Some("pupil".to_owned()), ..ReadOptions::default() };
    let text = refusal(&two, options);
    assert!(text.contains("no tensor is below the prefix `pupil.`"), "{text}");
    assert!(text.contains("`student`, `teacher`"), "{text}");
}

#[test]
fn a_chosen_prefix_overrides_the_average() {
    let both = source([network("model.module.", 2), network("model_ema.module.", 1)]);
    let options = ReadOptions { prefix: Some("model".to_owned()), ..ReadOptions::default() };
    let loaded = load(&both, options).unwrap();
    assert_network(&loaded, 2);
    assert_eq!(loaded.prefix, "model.module.");
}

#[test]
fn a_network_under_two_names_is_no_choice() {
    let alias = source([network("model.", 1), network("net.", 1)]);
    let notes = notes(&alias, "model.");
    assert!(notes[0].starts_with("read the network at `model`"), "{notes:?}");
}

#[test]
fn an_incomplete_average_is_not_read() {
    // Programs that average `parameters()` leave out the statistics.
    let mut average = network("ema.", 2);
    average.retain(|(name, ..)| !name.contains(".running_"));
    let notes = notes(&source([network("model.", 1), average]), "model.");
    assert!(notes[0].contains("`ema` (incomplete)"), "{notes:?}");
}

#[test]
fn tensors_inside_the_networks_group_are_never_left_out() {
    for (name, problem) in [
        ("model.segmentation_head2.0.weight", "1 unexpected: segmentation_head2.0.weight"),
        ("model.decoder.attention.weight", "1 unexpected: decoder.attention.weight"),
        (
            "model.encoder.features.3.conv.4.weight",
            "1 unexpected: encoder.features.3.conv.4.weight",
        ),
    ] {
        let text =
            refusal(&source([network("model.", 1), others(&[name])]), ReadOptions::default());
        assert!(text.contains(problem), "{text}");
        assert!(text.contains("network at `model`"), "{text}");
    }
    let mut missing = network("model.", 1);
    missing.retain(|(name, ..)| name != "model.decoder.block1.1.running_var");
    let text = refusal(&source([missing]), ReadOptions::default());
    assert!(text.contains("1 missing: decoder.block1.1.running_var"), "{text}");
    // A second encoder belongs to another architecture.
    let mut second = network("", 1);
    second.retain(|(name, ..)| name.starts_with("encoder."));
    for (name, ..) in &mut second {
        *name = name.replacen("encoder.", "encoder2.", 1);
    }
    let text = refusal(&source([network("", 1), second]), ReadOptions::default());
    assert!(text.contains("unexpected: encoder2."), "{text}");
}

#[test]
fn a_backbone_whose_head_is_unknown_is_refused_and_can_be_read_alone() {
    let mut backbone = network("", 1);
    backbone.retain(|(name, ..)| name.starts_with("encoder."));
    for (name, ..) in &mut backbone {
        *name = name.replacen("encoder.", "model.backbone.", 1);
    }
    let head = vec![("model.head.3.weight".to_owned(), vec![5, 1, 1, 1], vec![0.0; 5])];
    let file = source([backbone, head]);
    let text = refusal(&file, ReadOptions::default());
    assert!(
        text.contains("head of the network is of no known dialect: `model.head.*` (1)"),
        "{text}"
    );
    let imagenet = find("imagenet").unwrap();
    let options = ReadOptions { dialect: Some(imagenet), ..ReadOptions::default() };
    let loaded = load(&file, options).unwrap();
    assert!(loaded.config.head.is_none());
    assert!(loaded.notes[0].contains("left out 1 tensor"), "{:?}", loaded.notes);
}

#[test]
fn checkpoints_with_several_state_dicts_are_read_from_files() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model.pth");
    let metadata = [("epoch".to_owned(), "3".to_owned())].into();
    for key in ["state_dict", "model", "anything"] {
        let wrap = CheckpointDict { key, metadata: &metadata };
        let beside = others(&["mean", "criterion.weight"]);
        let tensors = network("model.", 1).into_iter().chain(beside);
        write_pth(&path, tensors, Some(wrap), FloatDType::F32).unwrap();
        let file = WeightFile::open(&path).unwrap();
        let loaded = load(&file, ReadOptions::default()).unwrap();
        assert_network(&loaded, 1);
        assert!(loaded.notes[0].contains("`criterion.*` (1), `mean`"), "{:?}", loaded.notes);
        assert_eq!(file.metadata()["epoch"], "3");
    }
}

#[test]
#[cfg_attr(not(has_data), ignore = "needs the data directory (ATROUS_DATA)")]
fn real_networks_are_the_same_in_a_wrapper() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["binary_smp_mnv2_f16", "smp_plus_mnv2_os8_f16"] {
        let bare = support::data().join(format!("cases/weights/{name}.safetensors"));
        let bare = WeightFile::open(&bare).unwrap();
        let want = load(&bare, ReadOptions::default()).unwrap();
        let path = directory.path().join("wrapped.pth");
        wrap(&bare, "state_dict.model._orig_mod.", &path);
        let got = load(&WeightFile::open(&path).unwrap(), ReadOptions::default()).unwrap();
        assert_eq!(got.config, want.config, "{name}");
        assert!(got.weights.iter().all(|(n, p)| p.tensor() == want.weights[n].tensor()), "{name}");
    }
}

/// Writes the floating-point tensors of a file below a prefix, beside others.
fn wrap(bare: &WeightFile, prefix: &str, path: &Path) {
    let floats = bare.tensors().iter().filter(|t| t.dtype().is_float());
    let tensors = floats.map(|t| {
        let (dims, data) = bare.read_f32(t.name()).unwrap();
        (format!("{prefix}{}", t.name()), dims, data)
    });
    let tensors = tensors.chain(others(&["state_dict.mean", "state_dict.std"]));
    write_pth(path, tensors, None, FloatDType::F32).unwrap();
}

#[test]
fn unsupported_encoders_are_named() {
    let smp_head = ["segmentation_head.0.weight", "decoder.aspp.0.project.0.weight"];
    let blocks = |prefix: &str, stages: &[usize]| -> Vec<String> {
        let block = |(i, n): (usize, &usize)| -> Vec<String> {
            (0..*n).map(|j| format!("{prefix}blocks.{i}.{j}.conv_dw.weight")).collect()
        };
        stages.iter().enumerate().flat_map(block).collect()
    };
    let named = |prefix: &str, names: &[&str]| -> Vec<String> {
        names.iter().map(|name| format!("{prefix}{name}")).collect()
    };
    let efficientnet = (0..16)
        .map(|i| format!("encoder._blocks.{i}._depthwise_conv.weight"))
        .chain(["encoder._blocks.15._project_conv.weight".to_owned()]);
    let vgg = (0..8).map(|i| format!("encoder.features.{}.weight", 3 * i));
    for (names, found) in [
        (efficientnet.collect(), "efficientnet-b0"),
        (blocks("encoder.model.", &[1, 2, 2, 3, 3, 4, 1]), "another mobile network of timm"),
        (vgg.collect(), "vgg11"),
        (named("encoder.", &["features.denseblock1.denselayer1.conv1.weight"]), "a DenseNet"),
        (named("encoder.", &["layer0.conv3.weight", "layer1.0.conv1.weight"]), "senet154"),
        (named("encoder.", &["layer1.0.convs.0.weight", "layer1.0.conv1.weight"]), "Res2Net"),
        (named("encoder.model.", &["layers_0.blocks.0.attn.relative_position_bias_table"]), "Swin"),
        (named("encoder.", &["patch_embed1.proj.weight"]), "a Mix Transformer"),
    ] {
        let names = names.into_iter().chain(smp_head.map(str::to_owned));
        let tensors = names
            .map(|name| {
                let channels = if name.ends_with("_project_conv.weight") { 320 } else { 64 };
                (name, vec![channels, 3, 1, 1], vec![0.0; 3 * channels])
            })
            .collect();
        let file = StoredWeights { tensors, ..StoredWeights::default() };
        let text = refusal(&file, ReadOptions::default());
        assert!(text.contains(&format!("looks like {found}")), "{text}");
        assert!(text.contains("supported are ResNet-18"), "{text}");
    }
}

/// Checks that the search for a network in crafted names ends within seconds.
#[track_caller]
fn assert_bounded(names: impl Iterator<Item = String>) {
    let tensors = names.map(|name| (name, vec![1], vec![0.0])).collect();
    let source = StoredWeights { tensors, ..StoredWeights::default() };
    let start = Instant::now();
    let error = load(&source, ReadOptions::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Weights, "{error}");
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
}

#[test]
fn crafted_names_end_in_an_error_within_seconds() {
    assert_bounded((0..2000).map(|i| format!("{}{i}", "a.".repeat(500))));
    assert_bounded(
        (0..60_000).map(|i| format!("p{}.q{}.r{}.s.t.u.v.w{i}", i % 10, i % 100, i % 1000)),
    );
    assert_bounded((0..60_000).map(|i| format!("p{}.w{i}", i / 16)));
    // Each of a thousand groups looks like a network.
    assert_bounded((0..1000).flat_map(|i| {
        let names = ["encoder.layer1.0.conv1.weight", "decoder.aspp.0.x", "segmentation_head.0.w"];
        let more = (0..16).map(move |k| format!("p{i}.encoder.x{k}"));
        names.into_iter().map(move |name| format!("p{i}.{name}")).chain(more)
    }));
}
