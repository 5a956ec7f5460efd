//! States what the tests can use on this machine, so that a test that lacks it is reported as
//! ignored, with the reason: `has_data`, `has_gpu`, `has_ffmpeg`, `has_script` and `is_package`. The
//! library does not depend on them.

use std::env;
use std::path::{Path, PathBuf};

fn main() {
    for variable in ["ATROUS_DATA", "ATROUS_DEVICE", "ATROUS_REQUIRE_GPU", "PATH"] {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    // Cargo adds this file to packages, which contain neither weights nor images.
    state("is_package", Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml.orig").exists());
    state("has_data", data());
    state("has_gpu", gpu());
    state("has_ffmpeg", has_program("ffmpeg"));
    // The `script` of util-linux, for a terminal; that of other systems has other options.
    state("has_script", cfg!(target_os = "linux") && has_program("script"));
}

fn state(name: &str, holds: bool) {
    println!("cargo::rustc-check-cfg=cfg({name})");
    if holds {
        println!("cargo::rustc-cfg={name}");
    }
}

/// Whether the directory with images and weights exists, as `tests/support` looks for it.
fn data() -> bool {
    let fallback = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared");
    let directory = env::var_os("ATROUS_DATA").map_or(fallback, PathBuf::from);
    let weights = directory.join("weights");
    if weights.is_dir() {
        println!("cargo::rerun-if-changed={}", weights.display());
    }
    weights.is_dir()
}

/// Whether a GPU adapter is expected, possibly one in software. On Linux that takes a Vulkan driver;
/// other systems have one of their own. Whether it works is for the tests to find out.
fn gpu() -> bool {
    if env::var_os("ATROUS_DEVICE").is_some_and(|device| device == "cpu") {
        return false;
    }
    if env::var_os("ATROUS_REQUIRE_GPU").is_some_and(|required| required == "1") {
        return true;
    }
    if !cfg!(target_os = "linux") {
        return true;
    }
    if ["VK_DRIVER_FILES", "VK_ICD_FILENAMES"].iter().any(|name| env::var_os(name).is_some()) {
        return true;
    }
    ["/usr/share/vulkan/icd.d", "/usr/local/share/vulkan/icd.d", "/etc/vulkan/icd.d"]
        .iter()
        .filter_map(|directory| Path::new(directory).read_dir().ok())
        .any(|mut entries| entries.next().is_some())
}

fn has_program(name: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|directory| {
        [name, &format!("{name}.exe")].iter().any(|name| directory.join(name).is_file())
    })
}
