//! A network in training on a device: parameters, momenta and running statistics stay there from
//! step to step.

mod feed;
mod state;

pub(crate) use feed::Feed;

use super::arena::ParameterArena;
use super::groups::Group;
use super::memory::Need;
use super::options::TrainOptions;
use super::parts::{Parts, distinct_groups, group_inputs, norm_tables};
use super::update;
use crate::error::{Error, Result, error};
use crate::exec::{Device, FirstKernel, NodeTime, Runner, Store};
use crate::graph::{Graph, Weights};
use crate::models::{Config, is_trained};
use crate::ops::{Cost, GradientScale};
use crate::tensor::{Data, Shape, Tensor};
use feed::Held;
use std::ops::Range;
use std::sync::Arc;

/// The most images that an error names.
const NAMED: usize = 32;

/// Images with their labels, as a step takes them.
#[derive(Debug, Clone, Copy)]
pub struct Images<'a> {
    /// Normalized images, f32 `[N, H, W, C]`.
    pub images: &'a Tensor,
    /// Their labels, u32 `[N, H, W, 1]`.
    pub labels: &'a Tensor,
    /// What the images are called, for errors; none where they have no names.
    pub names: &'a [String],
}

/// What became of a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepOutcome {
    /// Mean of the batches' losses.
    pub loss: f64,
    /// Norm of all the gradients together, before clipping.
    pub gradient_norm: f64,
    /// Learning rate of parameters whose factor is 1.
    pub rate: f64,
}

/// A network in training.
pub struct Trainer {
    config: Config,
    options: TrainOptions,
    store: Arc<Store>,
    parameters: ParameterArena,
    norms: ParameterArena,
    /// Weights that the steps do not touch (an auxiliary head without a part in the loss).
    others: Weights,
    too_small: Vec<String>,
    groups: Vec<Group>,
    forward: Runner,
    statistics: Option<Runner>,
    accumulate: Option<Runner>,
    update: Runner,
    /// Inputs that never change, by runner.
    constants: Constants,
    step: u64,
}

struct Constants {
    class_weights: Option<Tensor>,
    parameter_groups: Vec<(String, Tensor)>,
    norm_groups: Vec<(String, Tensor)>,
    norm_tables: [Tensor; 2],
}

impl Trainer {
    /// Makes a network ready for training on a device.
    ///
    /// # Errors
    /// Where the options contradict themselves or the network, tensors are missing or of another
    /// shape, or the device has no room.
    pub fn new(
        device: &Device,
        config: &Config,
        weights: &Weights,
        options: TrainOptions,
    ) -> Result<Self> {
        options.validate(config)?;
        let limit = match device {
            Device::Cpu => u64::MAX,
            Device::Gpu(gpu) => gpu.caps().max_binding.min(gpu.caps().max_buffer),
        };
        let Parts { graph, parameters, norms, counts, too_small, depthwise } =
            Parts::new(config, &options, limit)?;

        let mut store = Store::new(device);
        let mut vectors = vec!["parameters", "gradients"];
        vectors.extend(options.optimizer.states());
        if options.accumulate > 1 {
            vectors.push("sums");
        }
        for vector in vectors {
            parameters.buffers(vector).try_for_each(|(name, numbers)| store.add(&name, numbers))?;
        }
        for vector in ["running_mean", "running_variance", "batch_mean", "batch_variance"] {
            norms.buffers(vector).try_for_each(|(name, numbers)| store.add(&name, numbers))?;
        }
        let store = Arc::new(store);

        let (groups, of_entry) = distinct_groups(&parameters, &options.groups, &depthwise);
        let scale = GradientScale {
            scale: 1.0 / options.accumulate as f32,
            max_norm: options.max_norm.map(|max| max as f32),
        };
        let gradients = if options.accumulate > 1 { "sums" } else { "gradients" };
        let ready = |graph: Graph| Runner::with_store(&store, graph, &mut FirstKernel);
        let forward = ready(graph)?;
        let update = ready(update::update(
            &parameters,
            &options.optimizer,
            scale,
            gradients,
            groups.len(),
        )?)?;
        let accumulate = (options.accumulate > 1)
            .then(|| ready(update::accumulate(&parameters)?))
            .transpose()?;
        let count = norms.entries().len();
        let statistics =
            (!counts.is_empty()).then(|| ready(update::statistics(&norms, count)?)).transpose()?;
        let constants = Constants {
            class_weights: options.class_weights.as_ref().map(|w| vector(w.clone())),
            parameter_groups: group_inputs(&parameters, |i| of_entry[i]),
            norm_groups: group_inputs(&norms, |i| i as u32),
            norm_tables: norm_tables(&norms, &counts, &options),
        };
        let config = config.clone();
        let known =
            |name: &str| parameters.entries().iter().any(|e| e.name == name) || !is_trained(name);
        let others = weights
            .iter()
            .filter(|(name, _)| !known(name))
            .map(|(n, p)| (n.clone(), p.clone()))
            .collect();
        let trainer = Self {
            config,
            options,
            store,
            parameters,
            norms,
            others,
            too_small,
            groups,
            forward,
            statistics,
            accumulate,
            update,
            constants,
            step: 0,
        };
        trainer.set_weights(weights)?;
        Ok(trainer)
    }

    /// What a training would need on a device, of which it takes nothing: each part in bytes.
    ///
    /// # Errors
    /// As [`Trainer::new`].
    pub fn need(device: &Device, config: &Config, options: &TrainOptions) -> Result<Need> {
        options.validate(config)?;
        let parts = Parts::new(config, options, u64::MAX)?;
        Need::new(device, &parts.graph, &parts.parameters, &parts.norms, options)
    }

    /// The network.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// How it is trained.
    pub fn options(&self) -> &TrainOptions {
        &self.options
    }

    /// Where it is trained.
    pub fn device(&self) -> &Device {
        self.store.device()
    }

    /// Norms that were to take the batch's statistics, but see one value for each channel and take
    /// the running ones.
    pub fn too_small(&self) -> &[String] {
        &self.too_small
    }

    /// Steps that are done.
    pub fn steps_done(&self) -> u64 {
        self.step
    }

    /// Makes one step, of as many batches as gradients are to be added up of.
    ///
    /// # Errors
    /// Where a batch has another shape, the device fails, or (of kind `Training`) something is not
    /// finite any more: no parameter is updated then, though running statistics may have moved, and
    /// the error names the first node whose result is not finite.
    pub fn step(&mut self, batches: &[Images]) -> Result<StepOutcome> {
        if batches.len() != self.options.accumulate as usize {
            return Err(error!(
                Usage,
                "a step takes {} batches, got {}",
                self.options.accumulate,
                batches.len()
            ));
        }
        let outcome = self.step_from(&mut Held::new(batches))?;
        Ok(outcome.expect("invariant: there are as many batches as the step asks for"))
    }

    /// Makes one step of batches that are asked for one by one. `None` where the feed gives the
    /// step up: everything is as it was before then.
    ///
    /// # Errors
    /// As [`Trainer::step`]; what the feed returns.
    pub(crate) fn step_from(&mut self, feed: &mut dyn Feed) -> Result<Option<StepOutcome>> {
        let count = self.options.accumulate as usize;
        // Gradients are not used before the last batch, but each batch moves the running
        // statistics. Without this, a checkpoint that is written after a step was given up would go
        // on to other bits.
        let before = if count > 1 { self.running_statistics()? } else { Vec::new() };
        let mut losses = 0.0;
        for i in 0..count {
            match self.gradient(i, feed) {
                Ok(Some(loss)) => losses += loss,
                Ok(None) => return self.set_running_statistics(&before).map(|()| None),
                Err(e) => {
                    // What went wrong first is what is reported.
                    let _ = self.set_running_statistics(&before);
                    return Err(e);
                }
            }
        }
        let rate = self.options.schedule.rate(self.small_step());
        let table = self.table(rate)?;
        let scale =
            self.update.run(&inputs(&self.constants.parameter_groups, &[("table", &table)]))?;
        let &[norm, _, finite, _] = scale[0].f32() else {
            unreachable!("invariant: the scale has four elements")
        };
        if finite == 0.0 {
            return Err(self.not_finite("a gradient", feed, 0..count));
        }
        self.step += 1;
        Ok(Some(StepOutcome { loss: losses / count as f64, gradient_norm: norm.into(), rate }))
    }

    /// The loss of the step's batch `i`, whose gradient is on the device then, added to those
    /// before it. `None` where there is no batch.
    fn gradient(&self, i: usize, feed: &mut dyn Feed) -> Result<Option<f64>> {
        let own = self.own_inputs(i)?;
        let Some(batch) = feed.next()? else { return Ok(None) };
        let loss = f64::from(self.forward.run(&self.inputs(&batch, &own))?[0].f32()[0]);
        if !loss.is_finite() {
            return Err(self.not_finite("the loss", feed, i..i + 1));
        }
        if let Some(statistics) = &self.statistics {
            let [means, variances] = &self.constants.norm_tables;
            statistics.run(&inputs(
                &self.constants.norm_groups,
                &[("table", means), ("table_variance", variances)],
            ))?;
        }
        if let Some(accumulate) = &self.accumulate {
            let keep = vector(vec![if i == 0 { 0.0 } else { 1.0 }, 0.0, 0.0, 0.0]);
            accumulate.run(&[("keep", &keep)])?;
        }
        Ok(Some(loss))
    }

    /// Times the nodes of the forward and the backward pass, `rounds` times (see
    /// [`Runner::time_nodes`]). Nothing is updated.
    ///
    /// # Errors
    /// Where the batch has another shape, or the device fails.
    pub fn time_nodes(&self, batch: &Images, rounds: usize) -> Result<Vec<NodeTime>> {
        self.forward.time_nodes(&self.inputs(batch, &self.own_inputs(0)?), rounds)
    }

    /// Multi-Adds and bytes of the forward and the backward pass of one batch.
    pub fn cost(&self) -> Cost {
        self.forward.cost()
    }

    /// Counts batches from the start of the run: what is dropped depends on it.
    fn batch_number(&self, i: usize) -> u32 {
        (self.step * u64::from(self.options.accumulate) + i as u64) as u32
    }

    /// What the step takes beside images and labels.
    fn own_inputs(&self, i: usize) -> Result<Vec<(&'static str, Tensor)>> {
        let number = Tensor::from_data(Shape::vector(1), Data::U32(vec![self.batch_number(i)]))?;
        let mining = self.options.mining.map(|mining| ("mining", mining.input(self.small_step())));
        Ok(std::iter::once(("step", number)).chain(mining).collect())
    }

    /// The step's number as schedules count.
    fn small_step(&self) -> u32 {
        u32::try_from(self.step).unwrap_or(u32::MAX)
    }

    fn inputs<'t>(
        &'t self,
        batch: &Images<'t>,
        own: &'t [(&'static str, Tensor)],
    ) -> Vec<(&'t str, &'t Tensor)> {
        let mut inputs = vec![("input", batch.images), ("labels", batch.labels)];
        inputs.extend(own.iter().map(|(name, tensor)| (*name, tensor)));
        inputs.extend(self.constants.class_weights.as_ref().map(|w| ("class_weights", w)));
        inputs
    }

    /// Rate, decay and corrections of each group.
    fn table(&self, rate: f64) -> Result<Tensor> {
        let (c1, c2) = self.options.optimizer.corrections(self.step + 1);
        let row = |g: &Group| [(rate * g.rate) as f32, g.decay as f32, c1, c2];
        Tensor::new(
            Shape::new(1, 1, self.groups.len(), 4),
            self.groups.iter().flat_map(row).collect(),
        )
    }

    /// Looks for the first node whose result is not finite, on the processor: in the batches
    /// `among` those of the step.
    fn not_finite(&self, what: &str, feed: &mut dyn Feed, among: Range<usize>) -> Error {
        let mut names: Vec<String> = Vec::new();
        let search = || {
            for i in among {
                let batch = feed.again(i)?;
                let found = self.first_not_finite(&batch, i);
                if !matches!(found, Ok(None)) {
                    names.clear();
                }
                names.extend_from_slice(batch.names);
                if let Some(node) = found? {
                    return Ok(Some(node));
                }
            }
            Ok(None)
        };
        let place = match search() {
            Ok(Some(node)) => format!("; the first is what node `{node}` computes"),
            Ok(None) => "; on the processor the same batch gives finite numbers".to_owned(),
            Err::<_, Error>(e) => format!("; looking for the first such node failed ({e})"),
        };
        let error = error!(Training, "{what} is not finite in step {}{place}", self.step + 1)
            .advice("lower the learning rate, warm up longer, clip the gradients, or look at the images of this batch");
        match names.len() {
            0 => error,
            n if n > NAMED => {
                error.at(format!("images {} and {} more", names[..NAMED].join(", "), n - NAMED))
            }
            _ => error.at(format!("images {}", names.join(", "))),
        }
    }

    fn first_not_finite(&self, batch: &Images, i: usize) -> Result<Option<String>> {
        let mut store = Store::new(&Device::Cpu);
        for name in self.store.names() {
            let numbers = self.store.read(name)?;
            store.add(name, numbers.len())?;
            store.write(name, &numbers)?;
        }
        let runner =
            Runner::with_store(&Arc::new(store), self.forward.graph().clone(), &mut FirstKernel)?;
        runner.first_not_finite(&self.inputs(batch, &self.own_inputs(i)?))
    }
}

/// The inputs of a graph on flat vectors.
fn inputs<'t>(
    groups: &'t [(String, Tensor)],
    others: &[(&'t str, &'t Tensor)],
) -> Vec<(&'t str, &'t Tensor)> {
    groups
        .iter()
        .map(|(name, tensor)| (name.as_str(), tensor))
        .chain(others.iter().copied())
        .collect()
}

fn vector(numbers: Vec<f32>) -> Tensor {
    Tensor::new(Shape::vector(numbers.len()), numbers)
        .expect("invariant: as many numbers as the shape has")
}
