//! What weight files cannot state: precedence of the caller, the file's metadata, `config.json` and
//! the code base's defaults, and what is noted or refused.

use crate::support::models::random_weights;
use atrous::engine::models::mobilenet_v2::MobileNetV2;
use atrous::engine::models::{
    Backbone, Config, ConvKind, Decoder, OutputActivation, PaddingRule, PlusDecoder,
};
use atrous::engine::weights::dialects::{
    KernelLayout, Loaded, ReadOptions, StoredWeights, Tensors, expected, find, load, store,
};
use atrous::engine::weights::statements::{
    ConfigFiles, Normalization, Property, StatedBy, Statements,
};
use serde_json::{Value, json};

/// Returns a small network of a dialect with four outputs, without metadata.
fn network(dialect: &str) -> StoredWeights {
    let narrow = MobileNetV2::with_width(0.25, 8);
    let last = Some(64).filter(|_| dialect == "smp");
    let net = MobileNetV2 { last, last_is_features: last.is_some(), ..narrow };
    let mut config = Config::deeplab_v3plus(Backbone::MobileNetV2(net), 4);
    let head = config.head.as_mut().unwrap();
    head.aspp.channels = 16;
    head.aspp.separable_after = dialect == "smp";
    let kind = if dialect == "smp" { ConvKind::Separable } else { ConvKind::Plain };
    let dropouts = if dialect == "jfzhang95" { vec![0.5, 0.1] } else { vec![0.0] };
    head.decoder =
        Decoder::Plus(PlusDecoder { kind, dropouts, channels: 16, ..PlusDecoder::default() });
    match dialect {
        "huggingface" => {
            head.aspp.rates.clear();
            head.decoder = Decoder::None;
        }
        "imagenet" => config.head = None,
        _ => {}
    }
    let dialect = find(dialect).unwrap();
    let listed = expected(dialect, &config, KernelLayout::Oihw).unwrap();
    let tensors = listed.into_iter().map(|e| (e.name, e.dims, Vec::new())).collect();
    let names = StoredWeights { tensors, ..StoredWeights::default() };
    let config = dialect.infer(&Tensors::of(&names)).unwrap();
    let mut stored = store(&config, &random_weights(&config, 5), dialect).unwrap();
    stored.metadata.clear();
    stored
}

/// The `config.json` of [`network`] in SMP, with other values of some fields.
fn smp(changes: &Value) -> String {
    let mut config = json!({
        "_model_class": "DeepLabV3Plus", "activation": null, "aux_params": null, "classes": 4,
        "decoder_aspp_dropout": 0.5, "decoder_aspp_separable": false, "decoder_channels": 16,
        "decoder_atrous_rates": [12, 24, 36], "encoder_depth": 5, "encoder_name": "mobilenet_v2",
        "encoder_output_stride": 8, "encoder_weights": null, "in_channels": 3, "upsampling": 4,
    });
    for (key, value) in changes.as_object().unwrap() {
        config[key] = value.clone();
    }
    config.to_string()
}

/// The `config.json` of [`network`] in Hugging Face.
fn hugging_face(changes: &Value) -> String {
    let mut config = json!({
        "architectures": ["MobileNetV2ForSemanticSegmentation"], "model_type": "mobilenet_v2",
        "depth_multiplier": 0.25, "hidden_act": "relu6", "layer_norm_eps": 0.001,
        "num_channels": 3, "output_stride": 8, "tf_padding": true,
        "id2label": { "0": "LABEL_0", "1": "LABEL_1", "2": "LABEL_2", "3": "LABEL_3" },
    });
    for (key, value) in changes.as_object().unwrap() {
        config[key] = value.clone();
    }
    config.to_string()
}

fn options(config: Option<String>, statements: Statements) -> ReadOptions {
    let config_files = Some(ConfigFiles::new(config, None));
    ReadOptions { statements, config_files, ..ReadOptions::default() }
}

fn load_with(stored: &StoredWeights, config: Option<String>, statements: Statements) -> Loaded {
    load(stored, options(config, statements)).unwrap()
}

fn refusal(stored: &StoredWeights, config: Option<String>, statements: Statements) -> String {
    load(stored, options(config, statements)).unwrap_err().to_string()
}

fn stated_by(loaded: &Loaded, property: Property) -> StatedBy {
    let setting = loaded.settings.iter().find(|setting| setting.property == property);
    setting.unwrap_or_else(|| panic!("no setting of {property}")).stated_by
}

fn stride_and_rates(config: &Config) -> (usize, &[usize]) {
    (config.output_stride, &config.head.as_ref().unwrap().aspp.rates)
}

fn stride(trained_stride: usize) -> Statements {
    Statements { trained_stride: Some(trained_stride), ..Statements::default() }
}

fn rates(rates: &[usize]) -> Statements {
    Statements { rates: Some(rates.to_vec()), ..Statements::default() }
}

#[test]
fn what_nothing_states_is_assumed_and_noted_in_one_line() {
    let loaded = load_with(&network("smp"), None, Statements::default());
    assert_eq!(stride_and_rates(&loaded.config), (16, &[12, 24, 36][..]));
    assert_eq!(
        loaded.notes,
        [
            "assuming trained output stride 16 and atrous rates 12,24,36, as smp by default: nothing states them; use --trained-stride and --rates if the network was trained with others"
        ]
    );
    assert!(loaded.settings.iter().all(|s| s.stated_by == StatedBy::Assumed));
    let backbone = load_with(&network("imagenet"), None, Statements::default());
    assert!(backbone.notes.is_empty(), "{:?}", backbone.notes);
}

#[test]
fn the_trained_stride_scales_rates_as_the_code_base_does() {
    for (dialect, trained, expected) in [
        ("smp", 8, [12, 24, 36]),
        ("vainf", 8, [12, 24, 36]),
        ("vainf", 32, [3, 6, 9]),
        ("jfzhang95", 8, [12, 24, 36]),
        ("jfzhang95", 16, [6, 12, 18]),
    ] {
        let loaded = load_with(&network(dialect), None, stride(trained));
        assert_eq!(stride_and_rates(&loaded.config), (trained, &expected[..]), "{dialect}");
        let [note] = &loaded.notes[..] else { panic!("{:?}", loaded.notes) };
        assert!(note.starts_with("assuming atrous rates ") && note.contains("use --rates if"));
    }
    let both = Statements { rates: Some(vec![3, 6, 9]), ..stride(8) };
    let loaded = load_with(&network("vainf"), None, both);
    assert_eq!(stride_and_rates(&loaded.config), (8, &[3, 6, 9][..]));
    assert!(loaded.notes.is_empty());
    // As before, `--output-stride` scales from the trained stride.
    let halved = loaded.config.with_output_stride(8).unwrap();
    assert_eq!(stride_and_rates(&halved), (8, &[3, 6, 9][..]));
}

#[test]
fn a_config_file_states_what_the_tensors_do_not() {
    let changes = json!({ "decoder_atrous_rates": [3, 6, 9], "activation": "sigmoid" });
    let loaded = load_with(&network("smp"), Some(smp(&changes)), Statements::default());
    assert_eq!(stride_and_rates(&loaded.config), (8, &[3, 6, 9][..]));
    let head = loaded.config.head.as_ref().unwrap();
    assert_eq!((head.activation, head.classes), (OutputActivation::Sigmoid, 5));
    assert_eq!(
        loaded.notes,
        [
            "config.json of segmentation_models_pytorch states trained output stride 8; atrous rates 3,6,9; activation sigmoid"
        ]
    );
    assert_eq!(stated_by(&loaded, Property::Rates), StatedBy::ConfigFile);
    assert_eq!(stated_by(&loaded, Property::AlignCorners), StatedBy::Assumed);
    // What the file leaves out is the library's default, which is then known.
    let text = r#"{"encoder_name": "mobilenet_v2"}"#.to_owned();
    let loaded = load_with(&network("smp"), Some(text), Statements::default());
    assert_eq!(stride_and_rates(&loaded.config), (16, &[12, 24, 36][..]));
    assert_eq!(loaded.notes.len(), 1, "{:?}", loaded.notes);
}

#[test]
fn options_override_a_config_file_with_a_note() {
    let statements =
        Statements { activation: Some(OutputActivation::Sigmoid), ..rates(&[1, 2, 3]) };
    let loaded = load_with(&network("smp"), Some(smp(&json!({}))), statements);
    assert_eq!(stride_and_rates(&loaded.config), (8, &[1, 2, 3][..]));
    assert!(
        loaded.notes.contains(&"--rates 1,2,3 overrides 12,24,36 of config.json".to_owned()),
        "{:?}",
        loaded.notes
    );
    assert_eq!(stated_by(&loaded, Property::Rates), StatedBy::Option);
    assert_eq!(stated_by(&loaded, Property::TrainedStride), StatedBy::ConfigFile);
    let same = load_with(&network("smp"), Some(smp(&json!({}))), rates(&[12, 24, 36]));
    assert!(!same.notes.iter().any(|note| note.contains("overrides")), "{:?}", same.notes);
}

#[test]
fn every_option_reaches_the_config() {
    let statements = Statements {
        trained_stride: Some(8),
        rates: Some(vec![2, 4, 6]),
        align_corners: Some(false),
        padding: Some(PaddingRule::TfSame),
        preprocess: Some("0.1,0.2,0.3/0.5".parse().unwrap()),
        activation: Some(OutputActivation::Sigmoid),
        ..Statements::default()
    };
    let Loaded { config, settings, notes, .. } = load_with(&network("smp"), None, statements);
    let head = config.head.as_ref().unwrap();
    assert_eq!(stride_and_rates(&config), (8, &[2, 4, 6][..]));
    assert_eq!((head.align_corners, head.activation), (false, OutputActivation::Sigmoid));
    assert_eq!(config.padding, PaddingRule::TfSame);
    let normalization = Normalization { mean: [0.1, 0.2, 0.3], std: [0.5; 3] };
    assert_eq!(Normalization::of(&config.preprocess), normalization);
    assert!(settings.len() == 6 && settings.iter().all(|s| s.stated_by == StatedBy::Option));
    assert!(notes.is_empty(), "{notes:?}");
}

/// Checkpoints of TensorFlow that were trained with a multi-grid ran without it.
#[test]
fn a_stated_multi_grid_is_that_of_a_tensorflow_checkpoint_and_is_stored() {
    let tensorflow = find("tensorflow").unwrap();
    let backbone = Backbone::named("resnet50_beta").unwrap();
    let like = atrous::engine::weights::dialects::like;
    let assumed = like(tensorflow, &backbone, false, false, 4).unwrap();
    assert!(assumed.multi_grid.is_empty());
    let mut stored = store(&assumed, &random_weights(&assumed, 5), tensorflow).unwrap();
    stored.metadata.clear();
    let grid = |factors: &[usize]| Statements {
        multi_grid: Some(factors.to_vec()),
        ..Statements::default()
    };
    let loaded = load_with(&stored, None, grid(&[1, 2, 4]));
    assert_eq!(loaded.config, Config { multi_grid: vec![1, 2, 4], ..assumed.clone() });
    assert_eq!(stated_by(&loaded, Property::MultiGrid), StatedBy::Option);
    let native = find("atrous").unwrap();
    let imported = store(&loaded.config, &loaded.weights, native).unwrap();
    let again = load_with(&imported, None, Statements::default());
    assert_eq!(again.config.multi_grid, [1, 2, 4]);
    assert_eq!(stated_by(&again, Property::MultiGrid), StatedBy::WeightFile);
    let ones = load_with(&imported, None, grid(&[1, 1, 1]));
    assert_eq!(ones.config, assumed);
    assert!(ones.notes[0].contains("--multi-grid 1,1,1 overrides 1,2,4"), "{:?}", ones.notes);
    assert!(refusal(&stored, None, grid(&[1, 2])).contains("a multi-grid of 3 factors, got 2"));
    assert!(refusal(&network("smp"), None, grid(&[1, 2, 4])).contains("has no multi-grid"));
}

#[test]
fn the_config_in_the_weight_file_is_contradicted_by_options_alone_and_aloud() {
    let mut stored = network("smp");
    let own = load_with(&stored, Some(smp(&json!({}))), Statements::default()).config;
    stored.metadata.insert("atrous.config".to_owned(), own.to_json());
    let quiet = load_with(&stored, Some(smp(&json!({}))), Statements::default());
    assert_eq!((&quiet.config, &quiet.notes[..]), (&own, &[][..]));
    assert_eq!(stated_by(&quiet, Property::Rates), StatedBy::WeightFile);

    let other = smp(&json!({ "encoder_output_stride": 16 }));
    let loaded = load_with(&stored, Some(other), Statements::default());
    assert_eq!(loaded.config, own);
    assert_eq!(
        loaded.notes,
        [
            "config.json was not used: the weight file states its own config, with trained output stride 8, not 16"
        ]
    );
    let loaded = load_with(&stored, None, stride(16));
    assert_eq!(stride_and_rates(&loaded.config), (16, &[12, 24, 36][..]));
    assert_eq!(loaded.notes, ["--trained-stride 16 overrides 8 of the weight file"]);
}

#[test]
fn a_config_file_of_another_network_is_not_used_and_the_contradiction_named() {
    let cases = [
        (json!({ "encoder_name": "resnet34" }), "`encoder_name` is resnet34, the weights have Mob"),
        (json!({ "classes": 21 }), "`classes` is 21, the weights have 4"),
        (json!({ "in_channels": 1 }), "`in_channels` is 1, the weights have 3"),
        (json!({ "decoder_channels": 256 }), "`decoder_channels` is 256, the weights have 16"),
        (json!({ "decoder_aspp_separable": true }), "`decoder_aspp_separable` is true"),
        (json!({ "_model_class": "Unet" }), "`_model_class` is Unet, the weights have DeepLabV3P"),
        (json!({ "decoder_atrous_rates": [6, 12] }), "number of atrous rates is 2"),
        (json!({ "encoder_output_stride": 7 }), "`encoder_output_stride` is 7, not 8 or 16"),
        (json!({ "encoder_output_stride": "8" }), "`encoder_output_stride` is not a positive int"),
        (json!({ "decoder_atrous_rates": [0, 1, 2] }), "`decoder_atrous_rates` is not a list of"),
        (json!({ "classes": -4 }), "`classes` is not a positive integer: -4"),
        (json!({ "encoder_name": ["\u{1b}[2J"] }), "`encoder_name` is not a string"),
        (json!({ "decoder_atrous_rates": [1, 2, 70000] }), "ASPP rates must be 1 to 65536"),
        (json!({ "decoder_aspp_dropout": 1.5 }), "ASPP dropout must be at least 0 and below 1"),
    ];
    for (changes, reason) in cases {
        let loaded = load_with(&network("smp"), Some(smp(&changes)), Statements::default());
        assert_eq!(stride_and_rates(&loaded.config), (16, &[12, 24, 36][..]), "{changes}");
        let [note, assumption] = &loaded.notes[..] else { panic!("{:?}", loaded.notes) };
        assert!(note.starts_with("config.json was not used: "), "{note}");
        assert!(note.contains(reason), "{note}");
        assert!(!note.contains('\u{1b}'), "{note}");
        assert!(assumption.starts_with("assuming "), "{assumption}");
    }
}

#[test]
fn a_damaged_or_unknown_config_file_is_noted() {
    let deep = "[".repeat(100_000);
    let long = format!("{{\"encoder_name\": \"{}\"}}", "x".repeat(1 << 20));
    for (text, reason) in [
        ("", "it is not valid JSON: EOF"),
        ("{\"encoder_name\": ", "it is not valid JSON"),
        ("[1, 2]", "it is not a JSON object"),
        (deep.as_str(), "it is not valid JSON: recursion limit"),
        (long.as_str(), "it is larger than 1048576 bytes"),
        (r#"{"name": "mine"}"#, "it is not of segmentation_models_pytorch, Hugging Face or timm"),
        (r#"{"model_type": "segformer"}"#, "it is of Hugging Face, the weights have the names of"),
        (r#"{"architecture": "resnetblur50"}"#, "it is of timm, the weights have the names of"),
    ] {
        let loaded = load_with(&network("smp"), Some(text.to_owned()), Statements::default());
        let expected = format!("config.json was not used: {reason}");
        assert!(loaded.notes[0].starts_with(&expected), "{:?}", loaded.notes);
        assert_eq!(loaded.notes.len(), 2, "{:?}", loaded.notes);
    }
}

#[test]
fn a_network_that_computes_something_else_is_refused_with_the_reason() {
    let cases = [
        (
            json!({ "encoder_name": "tu-resnetblur50" }),
            "`tu-resnetblur50` is not supported: it blurs",
        ),
        (
            json!({ "encoder_name": "efficientnet-b0" }),
            "`efficientnet-b0` is not supported; resnet",
        ),
        (json!({ "encoder_depth": 4 }), "cut off after 4 of its 5 stages"),
        (json!({ "upsampling": 2 }), "2/4 of the image's size"),
        (json!({ "activation": "tanh" }), "`tanh` is not supported; state what it is with --act"),
    ];
    for (changes, reason) in cases {
        let error = refusal(&network("smp"), Some(smp(&changes)), Statements::default());
        assert!(error.contains("config.json: ") && error.contains(reason), "{error}");
        assert!(error.contains("move it away"), "{error}");
    }
    let tanh = smp(&json!({ "activation": "tanh" }));
    let softmax = OutputActivation::Softmax;
    let statements = Statements { activation: Some(softmax), ..Statements::default() };
    let loaded = load_with(&network("smp"), Some(tanh), statements);
    assert_eq!(loaded.config.head.unwrap().activation, softmax);
}

#[test]
fn statements_that_do_not_fit_the_network_are_refused() {
    for (dialect, statements, reason) in [
        ("smp", rates(&[6, 12]), "has 3 dilated branches, got 2 atrous rates: 6,12"),
        ("huggingface", rates(&[6, 12, 18]), "has 0 dilated branches"),
        ("smp", rates(&[6, 12, 1 << 20]), "ASPP rates must be 1 to 65536"),
        ("smp", stride(4), "the output stride must be 8, 16 or 32, got 4"),
        ("imagenet", rates(&[6, 12, 18]), "a bare backbone, which has no atrous rates"),
        ("vainf", stride(0), "the output stride must be"),
    ] {
        let error = refusal(&network(dialect), None, statements);
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn hugging_faces_config_names_the_classes() {
    let stored = network("huggingface");
    let loaded = load_with(&stored, Some(hugging_face(&json!({}))), Statements::default());
    assert_eq!((loaded.config.output_stride, loaded.notes.len()), (8, 1), "{:?}", loaded.notes);
    assert!(loaded.config.head.unwrap().class_names.is_empty(), "LABEL_0 is no name");

    let names = json!({ "id2label": { "0": "sky", "1": "road", "2": "tree", "3": "car" } });
    let loaded = load_with(&stored, Some(hugging_face(&names)), Statements::default());
    assert_eq!(loaded.config.head.as_ref().unwrap().class_names, ["sky", "road", "tree", "car"]);
    assert!(loaded.notes[0].contains("names of 4 classes"), "{:?}", loaded.notes);
    // With a sigmoid, class 0 is none of the outputs.
    let activation = Some(OutputActivation::Sigmoid);
    let statements = Statements { activation, ..Statements::default() };
    let loaded = load_with(&stored, Some(hugging_face(&names)), statements);
    assert_eq!(loaded.config.head.unwrap().class_names[..2], ["background", "sky"]);

    for (changes, reason) in [
        (json!({ "id2label": { "0": "sky" } }), "number of classes (`id2label`) is 1"),
        (json!({ "id2label": { "0": "a", "1": "b", "2": "c", "9": "d" } }), "has no class 3"),
        (json!({ "depth_multiplier": 1.0 }), "`depth_multiplier` is 1, the weights have"),
        (json!({ "model_type": "segformer" }), "`model_type` is segformer"),
        (json!({ "layer_norm_eps": -1.0 }), "its `layer_norm_eps` is -1"),
    ] {
        let loaded = load_with(&stored, Some(hugging_face(&changes)), Statements::default());
        assert_eq!(loaded.config.output_stride, 16);
        assert!(loaded.notes[0].starts_with("config.json was not used: "), "{:?}", loaded.notes);
        assert!(loaded.notes[0].contains(reason), "{:?}", loaded.notes);
    }
    let error =
        refusal(&stored, Some(hugging_face(&json!({ "output_stride": 4 }))), Statements::default());
    assert!(error.contains("the output stride 4 is not supported"), "{error}");
}

#[test]
fn the_preprocessing_of_hugging_face_is_applied() {
    let processor = json!({
        "do_normalize": true, "do_rescale": true, "do_resize": true, "do_center_crop": true,
        "image_mean": [0.25, 0.5, 0.75], "image_std": [0.5, 0.5, 0.5], "rescale_factor": 1.0 / 255.0,
        "size": { "shortest_edge": 300 },
    });
    let read = |dialect: &str, config: Option<String>, processor: &Value| {
        let config_files = Some(ConfigFiles::new(config, Some(processor.to_string())));
        load(&network(dialect), ReadOptions { config_files, ..ReadOptions::default() }).unwrap()
    };
    let loaded = read("huggingface", Some(hugging_face(&json!({}))), &processor);
    assert_eq!(loaded.config.preprocess.mean, [0.25, 0.5, 0.75]);
    assert_eq!(
        (loaded.config.preprocess.short_side, loaded.config.preprocess.size),
        (Some(300), None)
    );
    assert_eq!(stated_by(&loaded, Property::Preprocess), StatedBy::PreprocessorFile);
    assert!(loaded.notes.iter().any(|note| note.contains("short side 300")), "{:?}", loaded.notes);
    assert!(loaded.notes.iter().any(|note| note.contains("crops images")), "{:?}", loaded.notes);

    // Bytes times 1 / 127.5 minus 1 are pixels from 0 to 1, times 2, minus 1.
    let mut tensorflow = processor.clone();
    tensorflow["rescale_factor"] = json!(1.0 / 127.5);
    tensorflow["image_mean"] = json!([1.0, 1.0, 1.0]);
    tensorflow["image_std"] = json!([1.0, 1.0, 1.0]);
    let loaded = read("huggingface", None, &tensorflow);
    assert_eq!(Normalization::of(&loaded.config.preprocess).to_string(), "tensorflow");

    let reads = [
        ("smp", None, "it is of Hugging Face, the weights have the names of `smp`"),
        ("huggingface", Some("{}".to_owned()), "neither was config.json"),
    ];
    for (dialect, config, reason) in reads {
        let loaded = read(dialect, config, &processor);
        let note = format!("preprocessor_config.json was not used: {reason}");
        assert!(loaded.notes.contains(&note), "{:?}", loaded.notes);
    }
    let mut damaged = processor;
    damaged["image_std"] = json!([0.5, 0.0, 0.5]);
    let loaded = read("huggingface", None, &damaged);
    assert!(loaded.notes[0].contains("are not valid"), "{:?}", loaded.notes);
}

#[test]
fn another_backbone_of_timm_is_not_used_and_other_arguments_are_refused() {
    let stored = network("imagenet");
    for (text, reason) in [
        (json!({ "architecture": "resnet50" }), "`architecture` is resnet50, the weights have Mob"),
        (json!({ "architecture": "mobilenetv2_100" }), "`architecture` is mobilenetv2_100"),
    ] {
        let loaded = load_with(&stored, Some(text.to_string()), Statements::default());
        assert!(loaded.notes[0].contains(reason), "{:?}", loaded.notes);
    }
    for (text, reason) in [
        (json!({ "architecture": "efficientnet_b0" }), "`efficientnet_b0` is not supported; res"),
        (
            json!({ "architecture": "resnet50", "model_args": { "aa_layer": "blur" } }),
            "built with `aa_layer` \"blur\"",
        ),
    ] {
        let error = refusal(&stored, Some(text.to_string()), Statements::default());
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn settings_are_printed_as_options_take_them() {
    let loaded = load_with(&network("smp"), Some(smp(&json!({}))), stride(16));
    let mut statements = Statements::default();
    for setting in &loaded.settings {
        statements.set(setting.property, &setting.value).unwrap();
    }
    let again = load_with(&network("smp"), None, statements);
    assert_eq!(again.config, loaded.config);
    for (property, text, message) in [
        (Property::TrainedStride, "eight", "invalid value `eight` of trained output stride"),
        (Property::Rates, "6,,18", "expected integers such as 12,24,36"),
        (Property::AlignCorners, "yes", "expected true or false"),
        (Property::Padding, "valid", "expected symmetric or same"),
        (Property::Preprocess, "caffe", "expected a name, or MEAN/STD"),
        (Property::Activation, "tanh", "expected softmax or sigmoid"),
    ] {
        let error = Statements::default().set(property, text).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
}
