//! The counterpart of `seeded.py`: parameters and inputs generated from names. See the definition
//! in this directory's README.md.

use atrous::engine::Tensor;
use atrous::engine::weights::dialects::Source;

use atrous::Result;
use safetensors::SafeTensors;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

/// Returns the 64-bit FNV-1a hash.
pub fn fnv1a64(data: &[u8]) -> u64 {
    data.iter().fold(0xCBF2_9CE4_8422_2325, |state, &byte| {
        (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
    })
}

/// Returns `count` numbers in [0, 1), multiples of 2^-24.
pub fn uniform(name: &str, count: usize) -> impl Iterator<Item = f32> {
    let start = fnv1a64(name.as_bytes());
    (0..count as u64).map(move |i| {
        let mut z = start.wrapping_add(i.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        (z >> 40) as f32 * 2f32.powi(-24)
    })
}

/// Returns the values of a parameter, in the layout of its dialect.
pub fn parameter(name: &str, dims: &[usize], exponent: i8) -> Vec<f32> {
    let count = dims.iter().product();
    let scale = 2f32.powi(exponent.into());
    let last = name.rsplit(['/', '.']).next().unwrap_or(name);
    let values: Vec<f32> = match (dims.len(), last) {
        (2.., _) => {
            let fan_in: usize = dims[1..].iter().product();
            let a = (6.0 / fan_in as f64).sqrt() as f32;
            uniform(name, count).map(|u| (2.0 * u - 1.0) * a).collect()
        }
        (_, "weight" | "gamma" | "running_var" | "moving_variance") => {
            uniform(name, count).map(|u| 0.75 + 0.5 * u).collect()
        }
        (
            _,
            "running_mean" | "moving_mean" | "bias" | "beta" | "biases" | "Conv2D_bias"
            | "depthwise_bias",
        ) => uniform(name, count).map(|u| 0.25 * u - 0.125).collect(),
        _ => panic!("no rule for parameter {name} {dims:?}"),
    };
    values.into_iter().map(|v| v * scale).collect()
}

/// Returns the input of shape [N, C, H, W]: constant blocks of 16 x 16 pixels, plus noise.
pub fn image([n, c, h, w]: [usize; 4]) -> Tensor {
    let (rows, columns) = (h.div_ceil(16), w.div_ceil(16));
    let blocks: Vec<f32> = uniform("input.blocks", n * c * rows * columns).collect();
    let mut data = Vec::with_capacity(n * c * h * w);
    for (i, u) in uniform("input", n * c * h * w).enumerate() {
        let (plane, y, x) = (i / (h * w), i / w % h, i % w);
        let b = blocks[(plane * rows + y / 16) * columns + x / 16];
        data.push(2.0 * (2.0 * b - 1.0) + (u - 0.5));
    }
    Tensor::from_nchw(n, c, h, w, &data).unwrap()
}

/// Values of a tensor in a golden file.
#[derive(Debug, Clone)]
pub struct Values {
    pub dims: Vec<usize>,
    pub data: Vec<f32>,
}

/// A golden file.
pub struct Golden {
    pub case: String,
    pub config: serde_json::Value,
    pub input_shape: [usize; 4],
    pub stages: Vec<String>,
    pub tensors: HashMap<String, Values>,
    pub metadata: HashMap<String, String>,
}

/// Returns the directory of golden files.
pub fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/networks")
}

/// Returns the cases with this prefix, sorted.
pub fn cases(prefix: &str) -> Vec<String> {
    let names = std::fs::read_dir(directory())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut cases: Vec<String> = names
        .filter_map(|name| Some(name.strip_suffix(".safetensors")?.to_owned()))
        .filter(|case| case.starts_with(prefix))
        .collect();
    cases.sort();
    cases
}

/// Reads the metadata and the tensors of a golden file. All element types are converted to f32.
pub fn read(path: &Path) -> (HashMap<String, String>, HashMap<String, Values>) {
    let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let metadata = header.metadata().clone().unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensors = file.tensors().into_iter().map(|(name, view)| {
        let data = match view.dtype() {
            safetensors::Dtype::F32 => view
                .data()
                .chunks_exact(4)
                .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
                .collect(),
            safetensors::Dtype::I32 => view
                .data()
                .chunks_exact(4)
                .map(|b| i32::from_le_bytes(b.try_into().unwrap()) as f32)
                .collect(),
            safetensors::Dtype::U8 => view.data().iter().map(|&b| f32::from(b)).collect(),
            safetensors::Dtype::I8 => view.data().iter().map(|&b| f32::from(b as i8)).collect(),
            other => panic!("{name}: {other:?}"),
        };
        (name, Values { dims: view.shape().to_vec(), data })
    });
    (metadata, tensors.collect())
}

impl Golden {
    /// Reads a case.
    pub fn open(case: &str) -> Self {
        Self::read(&directory().join(format!("{case}.safetensors")))
    }

    /// Reads the file of a case.
    pub fn read(path: &Path) -> Self {
        let (metadata, tensors) = read(path);
        Self {
            case: path.file_stem().unwrap().to_str().unwrap().to_owned(),
            config: serde_json::from_str(&metadata["config"]).unwrap(),
            input_shape: serde_json::from_str(&metadata["input_shape"]).unwrap(),
            stages: serde_json::from_str(&metadata["stages"]).unwrap(),
            tensors,
            metadata,
        }
    }

    /// Returns a string of the config.
    pub fn text(&self, key: &str) -> &str {
        self.config[key].as_str().unwrap_or_default()
    }

    /// Returns a number of the config.
    pub fn number(&self, key: &str) -> usize {
        self.config[key].as_u64().unwrap_or_default() as usize
    }

    /// Returns the number of trained values, without running statistics.
    pub fn parameters(&self) -> usize {
        self.metadata["parameters"].parse().unwrap()
    }

    /// Returns the seeded weights for these names and dimensions, or an error if they differ from
    /// those of PyTorch.
    pub fn weights(
        &self,
        mut tensors: Vec<(String, Vec<usize>)>,
    ) -> std::result::Result<Seeded<'_>, String> {
        tensors.sort();
        let mut lines = String::new();
        for (name, dims) in &tensors {
            let dims: Vec<String> = dims.iter().map(usize::to_string).collect();
            lines += &format!("{name} {}\n", dims.join("x"));
        }
        let (count, fnv) = (&self.metadata["tensors"], &self.metadata["names_fnv"]);
        if *count != tensors.len().to_string()
            || *fnv != format!("{:016x}", fnv1a64(lines.as_bytes()))
        {
            return Err(format!(
                "names or dimensions differ from PyTorch's {count} tensors; got {}:\n{lines}",
                tensors.len()
            ));
        }
        let exponents = self.tensors["exponents"].data.iter().map(|&e| e as i8);
        let tensors =
            tensors.into_iter().zip(exponents).map(|((name, dims), e)| (name, (dims, e))).collect();
        Ok(Seeded { golden: self, tensors })
    }
}

/// Seeded weights as a source of tensors.
pub struct Seeded<'a> {
    golden: &'a Golden,
    tensors: BTreeMap<String, (Vec<usize>, i8)>,
}

impl Source for Seeded<'_> {
    fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        self.tensors.iter().map(|(name, (dims, _))| (name.clone(), dims.clone())).collect()
    }

    fn metadata(&self) -> BTreeMap<String, String> {
        BTreeMap::new()
    }

    fn read(&self, name: &str) -> Result<Vec<f32>> {
        if let Some(stored) = self.golden.tensors.get(&format!("parameter.{name}")) {
            return Ok(stored.data.clone());
        }
        let (dims, exponent) = &self.tensors[name];
        Ok(parameter(name, dims, *exponent))
    }

    fn label(&self) -> String {
        self.golden.case.clone()
    }
}
