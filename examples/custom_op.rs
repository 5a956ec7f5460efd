//! A custom operation with its own shader, added to a network of this crate: it shows where the
//! network is uncertain.
//!
//! `cargo run --release --example custom_op -- photo.jpg deeplab.safetensors unsure.png` writes an
//! image that is white where all classes are equally likely and black where the network is certain.

use atrous::engine::exec::{Device, Runner};
use atrous::engine::models::Outputs;
use atrous::engine::ops::kernel::{Dispatch, Kernel, KernelContext};
use atrous::engine::ops::{Op, Signature};
use atrous::engine::{Data, Shape, Tensor, TensorType, passes};
use atrous::image::{Image, decode};

use atrous::{DeviceChoice, Error, ErrorKind, Model, Result};

/// Computes the entropy of the softmax of logits `[N, H, W, classes]` as `[N, H, W, 1]`, divided by
/// `ln(classes)`.
#[derive(Debug)]
struct Entropy;

impl Op for Entropy {
    fn signature(&self) -> Signature {
        Signature::new("entropy").f32("logits")
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        let logits = inputs[0].shape;
        if logits.c < 2 {
            return Err(Error::new(ErrorKind::Graph, "expected logits of at least two classes"));
        }
        Ok(vec![TensorType::f32(logits.with_c(1))])
    }

    /// The reference for the shader, also used without a GPU.
    fn cpu(&self, inputs: &[&Tensor], outputs: &mut [Tensor]) -> Result<()> {
        let classes = inputs[0].shape().c;
        for (scores, y) in inputs[0].f32().chunks_exact(classes).zip(outputs[0].f32_mut()) {
            let top = scores.iter().copied().fold(f32::MIN, f32::max);
            let sum: f32 = scores.iter().map(|x| (x - top).exp()).sum();
            let weighted: f32 = scores.iter().map(|x| (x - top).exp() * (x - top)).sum();
            *y = ((sum.ln() - weighted / sum) / (classes as f32).ln()).clamp(0.0, 1.0);
        }
        Ok(())
    }

    fn kernels(&self, cx: &KernelContext) -> Vec<Kernel> {
        let (x, y) = (cx.inputs[0], cx.outputs[0]);
        let dispatch = Dispatch::custom("entropy", include_str!("custom_op.wesl"))
            .read("x", 0)
            .write("y", 0)
            .param("pixels", x.ty.shape.positions())
            .param("channels", x.ty.shape.c)
            .layout("x", x)
            .layout("y", y)
            .threads(x.ty.shape.positions());
        vec![Kernel::single("plain", dispatch)]
    }
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [photo, weights, output] = arguments.as_slice() else {
        eprintln!("usage: custom_op PHOTO WEIGHTS OUTPUT.png");
        std::process::exit(2);
    };
    let (model, image) = (Model::open(weights)?, decode(photo)?);

    let size = image.size();

    // The network up to its scores at the image's size, plus one node.
    let outputs = Outputs { logits_full: true, image: Some(size), ..Outputs::default() };
    let network = model.network(Shape::images(1, size, 3), &outputs)?;
    let scores = network.logits_full.expect("`logits_full` was requested");
    let mut graph = network.graph;
    let (_, scores) = graph.output_at(scores);
    let entropy = graph.root().op("entropy", Entropy, &[scores])?;
    graph.clear_outputs();
    graph.output("entropy", entropy);

    let device = Device::open(&DeviceChoice::Auto)?;
    let runner = Runner::new(&device, passes::optimize(graph)?)?;
    let input = Tensor::from_data(Shape::images(1, size, 3), Data::U8(image.rgb))?;
    let uncertainty = runner.run(&[("image", &input)])?.swap_remove(0);
    println!(
        "on {device}: mean uncertainty {:.1} %",
        100.0 * uncertainty.f32().iter().sum::<f32>() / size.pixels() as f32
    );
    let gray = uncertainty.f32().iter().flat_map(|&v| [(255.0 * v).round() as u8; 3]).collect();
    Image::new(size, gray)?.save(output)
}

#[cfg(test)]
mod tests {
    use super::*;
    use atrous::engine::graph::Graph;

    /// Known entropies on the CPU and, if available, a GPU, with channels that do not fill the last
    /// `vec4`.
    #[test]
    fn entropies_are_right_on_both_executors() {
        let (shape, certain, tie) = (Shape::new(1, 1, 3, 5), [90.0, 0.0, 0.0, 0.0, 0.0], [-7.0; 5]);
        // Two classes equally likely, three impossible: ln 2 of ln 5.
        let half = [50.0, -50.0, 50.0, -50.0, -50.0];
        let scores = Tensor::from_data(shape, Data::F32([certain, tie, half].concat())).unwrap();
        let gpu = Device::open(&DeviceChoice::Gpu)
            .inspect_err(|e| println!("skipped: no GPU adapter ({e})"));
        assert!(gpu.is_ok() || std::env::var("ATROUS_REQUIRE_GPU").is_err(), "no GPU adapter");
        for device in [Device::Cpu].into_iter().chain(gpu) {
            let mut graph = Graph::new();
            let x = graph.input("x", TensorType::f32(shape));
            let y = graph.root().op("entropy", Entropy, &[x]).unwrap();
            graph.output("y", y);
            let y =
                Runner::new(&device, graph).unwrap().run(&[("x", &scores)]).unwrap().swap_remove(0);
            for (got, expected) in y.f32().iter().zip([0.0, 1.0, 2f32.ln() / 5f32.ln()]) {
                assert!((got - expected).abs() < 1e-5, "{got} instead of {expected} on {device}");
            }
        }
    }
}
