//! DeepLabv3+ on MobileNetV2 and ResNet-50 at 512 x 512, 21 classes, random weights: image to
//! classes, on the CPU executor and on a device.
//!
//! `cargo bench --bench network [-- FILTER]`. `atrous bench` measures one network with more detail.

mod support;

use atrous::engine::models::{Backbone, Config, Outputs, PaperHead, build_network, random_weights};
use atrous::engine::tune::{Tuning, TuningMode};
use atrous::engine::{Shape, Tensor, passes};
use criterion::Throughput;
use std::time::{Duration, Instant};
use support::Shares;

fn main() {
    let side = if support::is_rehearsal() { 33 } else { 512 };
    let mut criterion = support::criterion();
    let input = Tensor::from_fn(Shape::new(1, side, side, 3), |_, y, x, c| {
        ((13 * y + 29 * x + 5 * c) % 64) as f32 / 16.0 - 2.0
    });
    for device in support::devices() {
        let mut shares = Shares::new(&device);
        for (name, head) in
            [("mobilenet_v2", PaperHead::Separable), ("resnet50", PaperHead::Decoder)]
        {
            let config = Config::paper(Backbone::named(name).expect("a known name"), head, 21)
                .expect("they fit");
            let outputs = Outputs { labels: true, ..Outputs::default() };
            let mut graph =
                build_network(&config, input.shape(), &outputs).expect("the size fits").graph;
            graph
                .bind(&random_weights(&config, 1).expect("the config is sound"))
                .expect("made for it");
            let labels =
                graph.outputs().iter().find(|(name, _)| name == "labels").expect("asked for").1;
            graph.clear_outputs();
            graph.output("labels", labels);
            let graph = passes::optimize(graph).expect("passes support every network");
            let runner = Tuning::new(TuningMode::Cached)
                .runner(&device, graph)
                .expect("the device has enough memory");
            let mut fastest = Duration::MAX;
            let mut group = criterion.benchmark_group("network");
            group.throughput(Throughput::Elements(1));
            let place = if device.is_cpu() { "cpu" } else { "gpu" };
            group.bench_function(format!("{place}/{name}"), |bencher| {
                bencher.iter_custom(|runs| {
                    let start = Instant::now();
                    (0..runs).for_each(|_| {
                        drop(runner.run(&[("input", &input)]).expect("the device works"))
                    });
                    fastest = fastest.min(start.elapsed().div_f64(runs as f64));
                    start.elapsed()
                });
            });
            group.finish();
            shares.add(name.to_owned(), runner.cost().multi_adds, fastest);
        }
        shares.print(&device);
    }
    criterion.final_summary();
}
