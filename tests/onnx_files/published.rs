//! A file as its author published it, compared with the same weights in safetensors.

use crate::support::{Rng, data};
use crate::{difference, scores};
use atrous::Model;
use atrous::engine::Shape;
use atrous::engine::exec::{Device, Runner};
use atrous::engine::models::Outputs;
use atrous::engine::passes::optimize;

#[test]
#[cfg_attr(not(has_data), ignore = "no weights: set ATROUS_DATA")]
fn a_published_file_has_the_logits_of_its_safetensors() {
    let weights = data().join("weights");
    let foreign = Model::open(weights.join("foreign/portrait2_nchw.onnx")).unwrap();
    assert_eq!(foreign.default_size().to_string(), "513x513");
    let own = Model::open(weights.join("deeplabv3_mnv2_dm05_portrait2.safetensors")).unwrap();
    let own = own.with_output_stride(8).unwrap();
    let image = Rng(7).tensor(Shape::new(1, 513, 513, 3));
    let logits = |model: &Model| {
        let network = model.network(image.shape(), &Outputs::default()).unwrap();
        let runner = Runner::new(&Device::Cpu, optimize(network.graph).unwrap()).unwrap();
        runner.run(&[("input", &image)]).unwrap()[0].to_nchw()
    };
    let largest = difference(&logits(&foreign), &logits(&own));
    assert!(largest <= 1e-3, "{largest}");
    // The file enlarges its scores by another rule, which is kept.
    assert!(difference(&scores(&foreign, &image).1, &scores(&own, &image).1) > 0.1);
}
