//! List of the operations of this crate.

use super::*;
use std::any::{Any, TypeId};

/// Returns whether an operation belongs to this crate. Its kernels then dispatch this crate's
/// shaders with valid sizes and need no runtime checks; neither is known of an operation from
/// outside.
///
/// Compares the type itself, because another crate's operation could return the same values from
/// all methods of [`Op`].
pub(crate) fn is_built_in(op: &dyn Op) -> bool {
    let any: &dyn Any = op;
    BUILT_IN.iter().any(|known| known() == any.type_id())
}

/// All operations of this crate. A missing one would work, but slower than necessary; the test
/// below detects it.
static BUILT_IN: &[fn() -> TypeId] = &[
    TypeId::of::<Accumulate>,
    TypeId::of::<Activate>,
    TypeId::of::<ActivationGrad>,
    TypeId::of::<AdamW>,
    TypeId::of::<Add>,
    TypeId::of::<Align>,
    TypeId::of::<Argmax>,
    TypeId::of::<AvgPool>,
    TypeId::of::<AvgPoolGrad>,
    TypeId::of::<BatchNorm>,
    TypeId::of::<BatchNormGrad>,
    TypeId::of::<BatchNormTrain>,
    TypeId::of::<ChannelSum>,
    TypeId::of::<ClassCounts>,
    TypeId::of::<Concat>,
    TypeId::of::<Conv2d>,
    TypeId::of::<Conv2dInputGrad>,
    TypeId::of::<Conv2dWeightGrad>,
    TypeId::of::<Dropout>,
    TypeId::of::<DropoutTrain>,
    TypeId::of::<Flip>,
    TypeId::of::<PreprocessFrame>,
    TypeId::of::<GlobalAvgPool>,
    TypeId::of::<GradientScale>,
    TypeId::of::<MaxPool>,
    TypeId::of::<MaxPoolGrad>,
    TypeId::of::<Mul>,
    TypeId::of::<Paint>,
    TypeId::of::<Prepend>,
    TypeId::of::<Preprocess>,
    TypeId::of::<Resize>,
    TypeId::of::<ResizeGrad>,
    TypeId::of::<RunningStatistics>,
    TypeId::of::<SegmentationLoss>,
    TypeId::of::<Sgd>,
    TypeId::of::<Slice>,
    TypeId::of::<Softmax>,
    TypeId::of::<TemporalMean>,
    TypeId::of::<UpsampleArgmax>,
    TypeId::of::<UpsampleProbabilities>,
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::kernel::{Kernel, KernelContext};
    use crate::tensor::{Tensor, TensorType};
    use std::path::Path;

    /// An operation from outside that imitates `Flip`.
    #[derive(Debug)]
    struct Disguised(Flip);

    impl Op for Disguised {
        fn signature(&self) -> Signature {
            self.0.signature()
        }

        fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
            self.0.infer(inputs)
        }

        fn cpu(&self, inputs: &[&Tensor], outputs: &mut [Tensor]) -> Result<()> {
            self.0.cpu(inputs, outputs)
        }

        fn kernels(&self, context: &KernelContext) -> Vec<Kernel> {
            self.0.kernels(context)
        }
    }

    #[test]
    fn operations_from_outside_are_compiled_with_runtime_checks() {
        use crate::gpu::Checks;
        assert_eq!(Checks::of(&Flip), Checks::Off);
        assert_eq!(Checks::of(&Disguised(Flip)), Checks::On);
    }

    #[test]
    fn every_operation_of_this_crate_is_listed() {
        fn count(directory: &Path) -> usize {
            let entries = std::fs::read_dir(directory).unwrap().map(|e| e.unwrap().path());
            let in_file = |path: &Path| {
                std::fs::read_to_string(path)
                    .unwrap()
                    .lines()
                    .filter(|l| l.starts_with("impl Op for "))
                    .count()
            };
            entries.map(|path| if path.is_dir() { count(&path) } else { in_file(&path) }).sum()
        }
        assert_eq!(BUILT_IN.len(), count(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/ops")));
    }
}
