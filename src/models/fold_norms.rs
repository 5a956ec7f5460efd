//! Folding batch norms into the preceding convolutions, for weight files of trained networks.

use super::config::Config;
use super::conventions::Norm;
use super::layer::parameter_name;
use super::parameters;
use crate::error::{Result, error};
use crate::graph::{ParamRef, Part, Place, Weights};
use crate::ops::BatchNorm;

/// Folds every batch norm into the convolution before it, which gets a bias and computes the same:
/// smaller and slightly faster to load, but no longer trainable. Does nothing if the norms are
/// already folded.
///
/// # Errors
/// Returns an error if a parameter is missing.
pub fn fold_norms(config: &mut Config, weights: &mut Weights) -> Result<()> {
    if config.norm == Norm::Folded {
        return Ok(());
    }
    for (info, _) in parameters(config)? {
        if info.role.part != Part::Gamma {
            continue;
        }
        let mut take = |part: Part| {
            let name = parameter_name(&info.layer, part);
            weights.remove(&name).ok_or_else(|| error!(Weights, "`{name}` is missing"))
        };
        let kernel = take(Part::Kernel)?;
        let [gamma, beta, mean, var] = Part::NORM.map(take);
        let norm = [gamma?, beta?, mean?, var?];
        let in_backbone = info.role.place == Place::Backbone;
        let eps = if in_backbone { config.eps.backbone } else { config.eps.head };
        let norm = norm.each_ref().map(|p| p.tensor().f32());
        let folded = [
            (Part::Kernel, BatchNorm { eps }.fold_kernel(kernel.tensor(), norm)),
            (Part::Bias, BatchNorm { eps }.fold_bias(None, norm)),
        ];
        weights
            .extend(folded.map(|(part, t)| (parameter_name(&info.layer, part), ParamRef::new(t))));
    }
    config.norm = Norm::Folded;
    // The remaining weights must be those of the folded network.
    match parameters(config)?
        .into_iter()
        .find(|(info, shape)| weights.get(&info.name).is_none_or(|p| p.shape() != *shape))
    {
        Some((info, shape)) => {
            Err(error!(Weights, "`{}` of shape {shape} is missing after folding", info.name))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::{Device, Runner};
    use crate::models::{Backbone, build, random_weights};
    use crate::tensor::{Shape, Tensor};

    #[test]
    fn a_folded_network_computes_what_it_did() {
        for (name, separable) in
            [("mobilenet_v2_0.25", true), ("resnet18", false), ("xception41", true)]
        {
            let mut config = Config::deeplab_v3plus(Backbone::named(name).unwrap(), 3);
            if separable {
                config.head.as_mut().unwrap().aspp.kind = crate::models::ConvKind::SeparableNorm;
            }
            let mut weights = random_weights(&config, 5).unwrap();
            // Statistics that differ from those of a new norm.
            for (name, param) in &mut weights {
                if name.ends_with(".running_var") || name.ends_with(".running_mean") {
                    let phase = name.len() as f32;
                    let offset = if name.ends_with("var") { 1.5 } else { 0.0 };
                    *param = ParamRef::new(Tensor::from_fn(param.shape(), |_, _, _, c| {
                        offset + 0.2 * ((c as f32 + phase) * 0.37).sin()
                    }));
                }
            }
            let input = Tensor::from_fn(Shape::new(1, 33, 49, 3), |_, y, x, c| {
                ((y * 7 + x * 3 + c) as f32 * 0.1).sin()
            });
            let run = |config: &Config, weights: &Weights| {
                let mut graph = build(config, input.shape()).unwrap();
                graph.bind(weights).unwrap();
                Runner::new(&Device::Cpu, graph)
                    .unwrap()
                    .run(&[("input", &input)])
                    .unwrap()
                    .swap_remove(0)
            };
            let want = run(&config, &weights);
            fold_norms(&mut config, &mut weights).unwrap();
            let got = run(&config, &weights);
            let largest = want.f32().iter().fold(0.0f32, |m, v| m.max(v.abs()));
            let error =
                want.f32().iter().zip(got.f32()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(largest > 0.0 && error < 1e-4 * largest, "{name}: {error} of {largest}");
            let count = weights.len();
            fold_norms(&mut config, &mut weights).unwrap();
            assert_eq!(weights.len(), count);
        }
    }
}
