//! `atrous export`: what it says about the code base that the file is for.

use crate::support::models::write_network;
use crate::{atrous, directory};
use atrous::engine::models::{Backbone, Config};
use atrous::engine::weights::WeightFile;
use atrous::engine::weights::dialects::{find, like};
use predicates::prelude::*;
use predicates::str::contains;

/// torchvision builds its networks at one output stride, and has no flag for another one.
#[test]
fn a_stride_that_the_code_base_does_not_have_by_default_is_noted() {
    let dir = directory();
    let dialect = find("torchvision").unwrap();
    let backbone = Backbone::named("resnet18").unwrap();
    let config = like(dialect, &backbone, false, false, 3).unwrap();
    let export = |config: &Config| {
        write_network(&dir.path().join("a.safetensors"), config, 5);
        let args = ["export", "a.safetensors", "b.pth", "--dialect", "torchvision"];
        atrous(dir.path()).args(args).assert().success()
    };
    export(&config).stderr(contains("note:").not());
    export(&config.clone().with_output_stride(16).unwrap()).stderr(contains(
        "note: torchvision builds it with output stride 8 and atrous rates 12, 24, 36; \
         this network needs output stride 16 and atrous rates 6, 12, 18",
    ));
    let file = WeightFile::open(dir.path().join("b.pth")).unwrap();
    assert_eq!(file.dims("backbone.bn1.num_batches_tracked"), Some(&[][..]));
}
