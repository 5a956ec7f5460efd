//! Networks, and the graphs that compute results at an image's own size from their outputs.

use super::{Cache, Pipeline};
use crate::error::{ErrorKind, Result};
use crate::exec::{Device, Input, Producer, Runner, Value};
use crate::graph::Graph;
use crate::tensor::{Shape, Tensor};
use crate::tune::Tuning;
use std::sync::Arc;
use std::time::Duration;
use web_time::Instant;

/// Prepared networks by key `N` and finishers by key `F`, on one device.
///
/// If memory runs out, what is cached for other keys is freed, then the finishers for a network,
/// or the networks for a finisher: a network is done when its finisher runs.
pub(crate) struct Inference<N, F> {
    pipeline: Pipeline,
    networks: Cache<N, Network>,
    finishers: Cache<F, Arc<Runner>>,
}

/// A network for each scale of the image.
type Network = Arc<[Producer]>;

impl<N: PartialEq + Copy, F: PartialEq> Inference<N, F> {
    /// Creates an inference that keeps the graphs of `capacity` keys of each kind.
    pub(crate) fn new(device: &Device, tuning: &Tuning, capacity: usize) -> Self {
        let pipeline = Pipeline::new(device, tuning);
        Self { pipeline, networks: Cache::new(capacity), finishers: Cache::new(capacity) }
    }

    /// Returns what prepares the graphs.
    pub(crate) fn pipeline(&self) -> &Pipeline {
        &self.pipeline
    }

    /// Prepares networks, unless they are cached.
    ///
    /// # Errors
    /// Returns the errors of `graphs` and of the preparation.
    pub(crate) fn network(
        &self,
        key: N,
        graphs: impl Fn() -> Result<Vec<Graph>>,
    ) -> Result<Network> {
        let prepare = || graphs()?.into_iter().map(|graph| self.pipeline.producer(graph)).collect();
        match self.networks.get(key, prepare) {
            Err(e) if e.kind() == ErrorKind::OutOfMemory => {
                self.finishers.clear();
                self.networks.get(key, prepare)
            }
            result => result,
        }
    }

    /// Runs networks on an image. Natively the first poll blocks until they are done.
    ///
    /// # Errors
    /// Returns an error if the image has another type, or if the device fails.
    pub(crate) async fn compute(
        &self,
        network: Network,
        image: &Tensor,
    ) -> Result<Computed<'_, N, F>> {
        let started = Instant::now();
        let mut values = Vec::new();
        for producer in &*network {
            values.extend(producer.run_async(&[("image", Input::Tensor(image))]).await?);
        }
        let time = started.elapsed();
        Ok(Computed { inference: self, network: Some(network), values, time })
    }

    /// Returns the cache of the finishers.
    #[cfg(test)]
    pub(crate) fn finishers(&self) -> &Cache<F, Arc<Runner>> {
        &self.finishers
    }
}

/// The outputs of networks, where they were computed.
pub(crate) struct Computed<'i, N, F> {
    inference: &'i Inference<N, F>,
    /// Kept while there is memory for it.
    network: Option<Network>,
    values: Vec<Value>,
    time: Duration,
}

impl<N: PartialEq + Copy, F: PartialEq + Clone> Computed<'_, N, F> {
    /// Returns the time from the upload of the image to the outputs.
    pub(crate) fn time(&self) -> Duration {
        self.time
    }

    /// Returns the shapes of the outputs.
    pub(crate) fn shapes(&self) -> Vec<Shape> {
        self.values.iter().map(|value| value.ty().shape).collect()
    }

    /// Prepares a graph that reads the outputs, unless it is cached; without a key it is not.
    ///
    /// # Errors
    /// Returns the errors of `graph` and of the preparation.
    pub(crate) fn finisher(
        &mut self,
        key: Option<F>,
        graph: impl Fn() -> Result<Graph>,
    ) -> Result<Arc<Runner>> {
        let inference = self.inference;
        let prepare = || inference.pipeline.finisher(graph()?).map(Arc::new);
        let get = || match &key {
            Some(key) => inference.finishers.get(key.clone(), prepare),
            None => prepare(),
        };
        match get() {
            Err(e) if e.kind() == ErrorKind::OutOfMemory => {
                self.network = None;
                inference.networks.clear();
                get()
            }
            result => result,
        }
    }

    /// Runs a finisher. `names` are its inputs for the outputs, in order, and `others` the rest.
    ///
    /// # Errors
    /// Returns an error if the inputs do not match the graph, or if the device fails.
    pub(crate) async fn finish(
        &mut self,
        finisher: &Runner,
        names: &[&str],
        others: &[(&str, &Tensor)],
    ) -> Result<Vec<Tensor>> {
        if finisher.is_on_cpu() {
            // Once, however many finishers follow.
            for value in &mut self.values {
                value.move_to_host().await?;
            }
        }
        let values = names.iter().zip(&self.values);
        let mut inputs: Vec<(&str, Input)> =
            values.map(|(name, value)| (*name, Input::Value(value))).collect();
        inputs.extend(others.iter().map(|&(name, tensor)| (name, Input::Tensor(tensor))));
        finisher.run_values(&inputs).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Activation;
    use crate::tensor::TensorType;
    use crate::thread::block_on;
    use crate::tune::TuningMode;

    const SHAPE: Shape = Shape { n: 1, h: 3, w: 5, c: 7 };

    fn graph(input: &str) -> Result<Graph> {
        let mut graph = Graph::new();
        let x = graph.input(input, TensorType::f32(SHAPE));
        let y = graph.root().activate("y", Activation::Relu, x)?;
        let z = graph.root().add("z", x, y)?;
        graph.output("z", z);
        Ok(graph)
    }

    fn image(sign: f32) -> Tensor {
        Tensor::from_fn(SHAPE, |_, y, x, c| sign * (y * 35 + x * 7 + c) as f32 - 50.0)
    }

    /// The graph applied twice.
    fn twice(image: &Tensor) -> Vec<f32> {
        let once = |x: &f32| x + x.max(0.0);
        image.f32().iter().map(once).collect::<Vec<_>>().iter().map(once).collect()
    }

    fn inference(device: &Device) -> Inference<(), bool> {
        Inference::new(device, &TuningMode::Off.into(), 1)
    }

    fn devices() -> Vec<Device> {
        let gpu = Device::open(&crate::DeviceChoice::Gpu).ok();
        assert!(gpu.is_some() || std::env::var("ATROUS_REQUIRE_GPU").is_err(), "no GPU adapter");
        [Some(Device::Cpu), gpu].into_iter().flatten().collect()
    }

    #[test]
    fn outputs_of_a_network_are_inputs_of_finishers_on_every_device() {
        for device in devices() {
            let inference = inference(&device);
            let network = inference.network((), || Ok(vec![graph("image")?])).unwrap();
            // Runs of one network that overlap have outputs of their own.
            let images = [image(1.0), image(-1.0)];
            let computed = images
                .each_ref()
                .map(|image| block_on(inference.compute(network.clone(), image)).unwrap());
            for (mut computed, image) in computed.into_iter().zip(&images) {
                assert_eq!(computed.shapes(), [SHAPE]);
                let finisher = computed.finisher(Some(true), || graph("logits")).unwrap();
                assert_eq!(finisher.is_on_cpu(), device.is_cpu());
                let on_cpu = Arc::new(Runner::new(&Device::Cpu, graph("logits").unwrap()).unwrap());
                for finisher in [finisher.clone(), on_cpu, finisher] {
                    let finished = computed.finish(&finisher, &["logits"], &[]);
                    assert_eq!(block_on(finished).unwrap()[0].f32(), twice(image));
                }
            }
        }
    }

    #[test]
    fn a_value_of_another_device_is_read_back() {
        let devices = [(); 2].map(|()| devices().pop().unwrap());
        let [first, second] = devices.each_ref().map(inference);
        let network = first.network((), || Ok(vec![graph("image")?])).unwrap();
        let mut computed = block_on(first.compute(network, &image(1.0))).unwrap();
        let finisher = second.pipeline().finisher(graph("logits").unwrap()).unwrap();
        let finished = block_on(computed.finish(&finisher, &["logits"], &[])).unwrap();
        assert_eq!(finished[0].f32(), twice(&image(1.0)));
    }

    #[test]
    fn a_finisher_that_lacks_memory_frees_the_network() {
        let inference = inference(&Device::Cpu);
        let network = inference.network((), || Ok(vec![graph("image")?])).unwrap();
        let weak = Arc::downgrade(&network);
        let mut computed = block_on(inference.compute(network, &image(1.0))).unwrap();
        let needs_memory = || match weak.upgrade() {
            Some(_) => Err(crate::error::error!(OutOfMemory, "full")),
            None => graph("logits"),
        };
        let finisher = computed.finisher(None, needs_memory).unwrap();
        let finished = block_on(computed.finish(&finisher, &["logits"], &[])).unwrap();
        assert_eq!(finished[0].f32(), twice(&image(1.0)));
    }
}
