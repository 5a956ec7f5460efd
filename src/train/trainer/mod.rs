//! A network in training on a device. Parameters, momenta and running statistics stay on the device
//! from step to step.

mod batch_source;
mod state;
mod updates;

pub(crate) use batch_source::BatchSource;

use super::arena::ParameterArena;
use super::memory_estimate::MemoryEstimate;
use super::options::TrainOptions;
use super::param_groups::ParamGroup;
use super::step::StepInputs;
use super::step_layout::{FROZEN, STATISTICS, StepLayout, distinct_groups};
use super::update::AVERAGES;
use crate::error::{Error, Result, error};
use crate::exec::{Device, NodeTime, Runner, first_not_finite};
use crate::graph::{InputId, OutputId, Weights};
use crate::models::Config;
use crate::ops::{Cost, Moments};
use crate::pipeline::Pipeline;
use crate::tensor::{Data, Shape, Tensor};
use crate::tune::TuningMode;
use batch_source::SliceSource;
use std::collections::HashSet;
use std::ops::Range;
use updates::{AccumulationRunner, AverageRunner, StatisticsRunner, UpdateRunner, named, vector};

/// Maximum number of images that an error lists.
const MAX_NAMES: usize = 32;

/// A batch of images with their labels.
#[derive(Debug, Clone, Copy)]
pub struct BatchRef<'a> {
    /// Normalized images, f32 `[N, H, W, C]`.
    pub images: &'a Tensor,
    /// Labels, u32 `[N, H, W, 1]`.
    pub labels: &'a Tensor,
    /// Names of the images, for errors; may be empty.
    pub names: &'a [String],
}

/// Result of a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepOutcome {
    /// Mean loss of the batches.
    pub loss: f64,
    /// Norm of all gradients together, before clipping.
    pub gradient_norm: f64,
    /// Learning rate of parameters whose factor is 1.
    pub learning_rate: f64,
}

/// A network in training on a device.
pub struct Trainer {
    config: Config,
    options: TrainOptions,
    pipeline: Pipeline,
    parameters: ParameterArena,
    /// Parameters that are not trained.
    frozen: ParameterArena,
    norms: ParameterArena,
    /// Weights that no step uses (an auxiliary head without a loss).
    others: Weights,
    single_value_norms: Vec<String>,
    groups: Vec<ParamGroup>,
    forward: Runner,
    inputs: StepInputs,
    loss: OutputId,
    statistics: Option<StatisticsRunner>,
    accumulate: Option<AccumulationRunner>,
    average: Option<AverageRunner>,
    update: UpdateRunner,
    class_weights: Option<Tensor>,
    /// Learning rate in place of the schedule's.
    learning_rate: Option<f64>,
    step: u64,
}

impl Trainer {
    /// Prepares a network for training on a device.
    ///
    /// # Errors
    /// Returns an error if the options contradict each other or the network, tensors are missing or
    /// of a different shape, or the device runs out of memory.
    pub fn new(
        device: &Device,
        config: &Config,
        weights: &Weights,
        options: TrainOptions,
    ) -> Result<Self> {
        options.validate(config)?;
        let limit = device.max_buffer_bytes().unwrap_or(u64::MAX);
        let layout = StepLayout::new(config, &options, limit)?;
        let pipeline = new_pipeline(device, &layout, &options)?;
        let (groups, group) = distinct_groups(&layout.parameters, &options.groups);
        let update =
            UpdateRunner::new(&pipeline, &layout.parameters, &options, &group, groups.len())?;
        let accumulate = (options.accumulate > 1)
            .then(|| AccumulationRunner::new(&pipeline, &layout.parameters))
            .transpose()?;
        let statistics = (!layout.counts.is_empty())
            .then(|| StatisticsRunner::new(&pipeline, &layout, &options))
            .transpose()?;
        let average =
            (options.ema).map(|decay| AverageRunner::new(&pipeline, &layout, decay)).transpose()?;
        let StepLayout {
            graph, inputs, loss, parameters, frozen, norms, single_value_norms, ..
        } = layout;
        let statistic_names =
            norms.entries().iter().flat_map(|e| STATISTICS.iter().map(|s| s.parameter(&e.name)));
        let parameter_names = [&parameters, &frozen].into_iter().flat_map(|a| a.entries());
        let used: HashSet<String> =
            parameter_names.map(|e| e.name.clone()).chain(statistic_names).collect();
        let others = weights
            .iter()
            .filter(|(name, _)| !used.contains(*name))
            .map(|(name, param)| (name.clone(), param.clone()))
            .collect();
        let trainer = Self {
            config: config.clone(),
            class_weights: options.class_weights.clone().map(vector),
            options,
            forward: pipeline.runner(graph)?,
            pipeline,
            parameters,
            frozen,
            norms,
            others,
            single_value_norms,
            groups,
            inputs,
            loss,
            statistics,
            accumulate,
            average,
            update,
            learning_rate: None,
            step: 0,
        };
        trainer.set_weights(weights)?;
        Ok(trainer)
    }

    /// Estimates the memory of a training on a device, without allocating any.
    ///
    /// # Errors
    /// As [`Trainer::new`].
    pub fn estimate_memory(
        device: &Device,
        config: &Config,
        options: &TrainOptions,
    ) -> Result<MemoryEstimate> {
        options.validate(config)?;
        let layout = StepLayout::new(config, options, u64::MAX)?;
        MemoryEstimate::new(device, &layout, options)
    }

    /// Configuration of the network.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Options of the steps.
    pub fn options(&self) -> &TrainOptions {
        &self.options
    }

    /// Device of the training.
    pub fn device(&self) -> Device {
        self.pipeline.device()
    }

    /// Norms that use running statistics because a batch has a single value per channel.
    pub fn single_value_norms(&self) -> &[String] {
        &self.single_value_norms
    }

    /// Sets the learning rate of the next steps, in place of the schedule.
    pub(super) fn set_learning_rate(&mut self, learning_rate: f64) {
        self.learning_rate = Some(learning_rate);
    }

    /// Number of completed steps.
    pub fn steps_done(&self) -> u64 {
        self.step
    }

    /// Trains one step on [`TrainOptions::accumulate`] batches.
    ///
    /// # Errors
    /// Returns an error if a batch has a different shape, the device fails, or (of kind `Training`)
    /// the loss or a gradient is not finite. In that case no parameter is updated, though running
    /// statistics may have moved, and the error names the first node with a non-finite result.
    #[expect(clippy::missing_panics_doc, reason = "what is expected is an invariant")]
    pub fn step(&mut self, batches: &[BatchRef]) -> Result<StepOutcome> {
        if batches.len() != self.options.accumulate as usize {
            return Err(error!(
                Usage,
                "a step needs {} batches, got {}",
                self.options.accumulate,
                batches.len()
            ));
        }
        let outcome = self.step_from(&mut SliceSource::new(batches))?;
        Ok(outcome.expect("invariant: there are as many batches as the step needs"))
    }

    /// Trains one step on the batches of a source. Returns `None` if the source abandons the step;
    /// nothing has changed then.
    ///
    /// # Errors
    /// As [`Trainer::step`], and the errors of the source.
    pub(crate) fn step_from(
        &mut self,
        source: &mut dyn BatchSource,
    ) -> Result<Option<StepOutcome>> {
        let count = self.options.accumulate as usize;
        // Gradients are not used before the last batch, but each batch moves the running
        // statistics. Restore them if the step is abandoned, so that a checkpoint written then
        // resumes bit-identically.
        let before = if count > 1 { self.running_statistics()? } else { Vec::new() };
        let mut losses = 0.0;
        for i in 0..count {
            match self.gradient(i, source) {
                Ok(Some(loss)) => losses += loss,
                Ok(None) => return self.set_running_statistics(&before).map(|()| None),
                Err(e) => {
                    // Report the original error.
                    let _ = self.set_running_statistics(&before);
                    return Err(e);
                }
            }
        }
        let scheduled = || self.options.schedule.learning_rate(self.schedule_step());
        let learning_rate = self.learning_rate.unwrap_or_else(scheduled);
        let table = self.table(learning_rate)?;
        let scale = self.update.run(&table)?;
        let &[norm, _, finite, _] = scale.f32() else {
            unreachable!("invariant: the scale has four elements")
        };
        if finite == 0.0 {
            return Err(self.not_finite_error("a gradient", source, 0..count));
        }
        self.step += 1;
        if let Some(average) = &self.average {
            average.run(self.step)?;
        }
        let (loss, gradient_norm) = (losses / count as f64, norm.into());
        Ok(Some(StepOutcome { loss, gradient_norm, learning_rate }))
    }

    /// Computes the gradient of the step's batch `i` and adds it to those before. Returns the loss,
    /// or `None` if there is no batch.
    fn gradient(&self, i: usize, source: &mut dyn BatchSource) -> Result<Option<f64>> {
        let step_inputs = self.step_inputs(i)?;
        let Some(batch) = source.next()? else { return Ok(None) };
        let outputs = self.forward.run(&self.inputs(&batch, &step_inputs))?;
        let loss = f64::from(outputs[self.loss.index()].f32()[0]);
        if !loss.is_finite() {
            return Err(self.not_finite_error("the loss", source, i..i + 1));
        }
        if let Some(statistics) = &self.statistics {
            statistics.run()?;
        }
        if let Some(accumulate) = &self.accumulate {
            accumulate.run(i == 0)?;
        }
        Ok(Some(loss))
    }

    /// Times the nodes of the forward and the backward pass over `rounds` runs (see
    /// [`Runner::time_nodes`]). Does not update the parameters.
    ///
    /// # Errors
    /// Returns an error if the batch has a different shape, or the device fails.
    pub fn time_nodes(&self, batch: &BatchRef, rounds: usize) -> Result<Vec<NodeTime>> {
        self.forward.time_nodes(&self.inputs(batch, &self.step_inputs(0)?), rounds)
    }

    /// Multi-Adds and bytes of the forward and the backward pass of one batch.
    pub fn cost(&self) -> Cost {
        self.forward.cost()
    }

    /// Number of a batch, counted from the start of the run. Dropout depends on it.
    fn batch_number(&self, i: usize) -> u32 {
        (self.step * u64::from(self.options.accumulate) + i as u64) as u32
    }

    /// Inputs of the step besides the batch.
    fn step_inputs(&self, i: usize) -> Result<Vec<(InputId, Tensor)>> {
        let number = Tensor::from_data(Shape::vector(1), Data::U32(vec![self.batch_number(i)]))?;
        let mining = self.options.mining.map(|mining| mining.input(self.schedule_step()));
        let step = self.inputs.step.map(|id| (id, number));
        Ok(step.into_iter().chain(self.inputs.mining.zip(mining)).collect())
    }

    /// Step number as schedules count, saturated to 32 bits.
    fn schedule_step(&self) -> u32 {
        u32::try_from(self.step).unwrap_or(u32::MAX)
    }

    fn inputs<'t>(
        &'t self,
        batch: &BatchRef<'t>,
        step_inputs: &'t [(InputId, Tensor)],
    ) -> Vec<(&'t str, &'t Tensor)> {
        let StepInputs { images, labels, class_weights, .. } = self.inputs;
        let batch = [(images, batch.images), (labels, batch.labels)];
        let weights = class_weights.zip(self.class_weights.as_ref());
        let others = step_inputs.iter().map(|(id, tensor)| (*id, tensor)).chain(weights);
        named(self.forward.graph(), batch.into_iter().chain(others))
    }

    /// Rows `[learning rate, weight decay, bias corrections]` for each group.
    fn table(&self, learning_rate: f64) -> Result<Tensor> {
        let Moments { first: c1, second: c2 } = self.options.optimizer.corrections(self.step + 1);
        let row = |group: &ParamGroup| {
            [(learning_rate * group.factor) as f32, group.weight_decay as f32, c1, c2]
        };
        Tensor::new(
            Shape::new(1, 1, self.groups.len(), 4),
            self.groups.iter().flat_map(row).collect(),
        )
    }

    /// The error for a non-finite value. Repeats the batches `range` of the step on the CPU, to
    /// find the first node whose result is not finite.
    fn not_finite_error(
        &self,
        quantity: &str,
        source: &mut dyn BatchSource,
        range: Range<usize>,
    ) -> Error {
        let mut names: Vec<String> = Vec::new();
        let search = || {
            for i in range {
                let batch = source.replay(i)?;
                let node = self.first_not_finite(&batch, i);
                if !matches!(node, Ok(None)) {
                    names.clear();
                }
                names.extend_from_slice(batch.names);
                if let Some(node) = node? {
                    return Ok(Some(node));
                }
            }
            Ok(None)
        };
        let location = match search() {
            Ok(Some(node)) => format!("; the first non-finite result is that of node `{node}`"),
            Ok(None) => "; the CPU computes finite values for the same batch".to_owned(),
            Err::<_, Error>(e) => format!("; could not search for the first such node ({e})"),
        };
        let error = error!(Training, "{quantity} is not finite in step {}{location}", self.step + 1)
            .advice("lower the learning rate, lengthen the warm-up, clip the gradients, or check the images of this batch");
        match names.len() {
            0 => error,
            n if n > MAX_NAMES => error.at(format!(
                "images {} and {} more",
                names[..MAX_NAMES].join(", "),
                n - MAX_NAMES
            )),
            _ => error.at(format!("images {}", names.join(", "))),
        }
    }

    fn first_not_finite(&self, batch: &BatchRef, i: usize) -> Result<Option<String>> {
        let step_inputs = self.step_inputs(i)?;
        first_not_finite(
            self.forward.graph(),
            self.pipeline.store(),
            &self.inputs(batch, &step_inputs),
        )
    }
}

/// Creates the pipeline of a training with its vectors, zeroed. Its kernels are those expected to be
/// fastest.
fn new_pipeline(device: &Device, layout: &StepLayout, options: &TrainOptions) -> Result<Pipeline> {
    let mut pipeline = Pipeline::new(device, &TuningMode::Off.into());
    let mut vectors = vec!["parameters", "gradients"];
    vectors.extend(options.optimizer.states());
    if options.accumulate > 1 {
        vectors.push("sums");
    }
    let mut of_norms: Vec<&str> = STATISTICS.iter().flat_map(|s| [s.running, s.batch]).collect();
    if options.ema.is_some() {
        let [(parameters, _), (mean, _), (variance, _)] = AVERAGES;
        vectors.push(parameters);
        of_norms.extend([mean, variance]);
    }
    let buffers = (vectors.into_iter().flat_map(|v| layout.parameters.buffers(v)))
        .chain(layout.frozen.buffers(FROZEN))
        .chain(of_norms.into_iter().flat_map(|v| layout.norms.buffers(v)));
    for (name, elements) in buffers {
        pipeline.add(&name, elements)?;
    }
    Ok(pipeline)
}
