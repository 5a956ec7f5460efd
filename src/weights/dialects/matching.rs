//! Matching the tensors of a file to the parameters of a network.

use super::{Dialect, ExpectedTensor, KernelLayout, ReadOptions, Tensors, expected, resolve};
use crate::error::{Result, error};
use crate::models::Config;
use crate::text::{excerpt, tensor_mismatches};
use crate::weights::statements::{Resolved, Setting};
use std::collections::HashSet;

/// The tensors of a network, matched to its parameters.
#[derive(Debug, Clone)]
pub(super) struct MatchedTensors {
    pub dialect: &'static dyn Dialect,
    pub config: Config,
    /// Properties that files cannot state, and where they come from.
    pub settings: Vec<Setting>,
    /// What was stated.
    pub notes: Vec<String>,
    pub layout: KernelLayout,
    pub parameters: Vec<ExpectedTensor>,
}

impl MatchedTensors {
    /// Detects the dialect of the tensors of a network and matches them by name, without checking
    /// that they exist.
    ///
    /// # Errors
    /// As for [`identify`](super::identify).
    pub fn new(tensors: &Tensors, options: &ReadOptions) -> Result<Self> {
        let (dialect, resolved) = resolve(tensors, options)?;
        let Resolved { config, settings, notes } = resolved;
        let layout = dialect.layout(tensors);
        let mut parameters = expected(dialect, &config, layout)?;
        for parameter in &mut parameters {
            parameter.name = dialect.stored_name(tensors, std::mem::take(&mut parameter.name));
        }
        Ok(Self { dialect, config, settings, notes, layout, parameters })
    }

    /// Returns the names of the tensors that are neither parameters nor ignored on purpose.
    pub fn unexpected<'t>(&self, tensors: &'t Tensors) -> Vec<&'t str> {
        let known: HashSet<&str> = self.parameters.iter().map(|p| p.name.as_str()).collect();
        let names = tensors.iter().map(|(name, _)| name);
        names
            .filter(|&name| !known.contains(name) && !self.dialect.ignores(tensors, name))
            .collect()
    }

    /// Checks the tensors, and reports all that are missing, misshapen or unexpected.
    ///
    /// # Errors
    /// Returns an error if there are any.
    pub fn check(&self, tensors: &Tensors) -> Result<()> {
        let parameters = &self.parameters;
        let missing: Vec<String> =
            parameters.iter().filter(|p| !tensors.has(&p.name)).map(|p| p.name.clone()).collect();
        let misshapen: Vec<String> = parameters
            .iter()
            .filter_map(|p| match tensors.dims(&p.name) {
                Some(dims) if dims != p.dims => {
                    Some(format!("{} (expected {:?}, got {:?})", excerpt(&p.name), p.dims, dims))
                }
                _ => None,
            })
            .collect();
        let unexpected: Vec<String> = self.unexpected(tensors).into_iter().map(excerpt).collect();
        match tensor_mismatches(&missing, &misshapen, &unexpected) {
            None => Ok(()),
            Some(report) => Err(error!(
                Weights,
                "the tensors do not match the `{}` network: {report}",
                self.dialect.name()
            )),
        }
    }
}
