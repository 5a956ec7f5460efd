//! What an operation reads: number and element types of its inputs.

use crate::error::{Result, error};
use crate::tensor::{DType, TensorType};

/// Name of an operation, and the inputs that it expects. The graph checks them before it asks the
/// operation for the types of its outputs.
///
/// ```
/// use atrous::engine::ops::Signature;
/// use atrous::engine::{Shape, TensorType};
///
/// let signature = Signature::new("scale_rows").f32("x").f32_if(false, "factors").u32("rows");
/// let x = TensorType::f32(Shape::vector(3));
/// let error = signature.check(&[x]).unwrap_err();
/// assert_eq!(error.to_string(), "expected 2 inputs (x, rows), got 1");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    name: &'static str,
    inputs: Vec<(&'static str, DType)>,
    repeated: bool,
}

impl Signature {
    /// Creates the signature of an operation without inputs. `name` is the same for all instances
    /// of the operation: `conv2d`.
    pub fn new(name: &'static str) -> Self {
        Self { name, inputs: Vec::new(), repeated: false }
    }

    fn input(mut self, name: &'static str, dtype: DType) -> Self {
        self.inputs.push((name, dtype));
        self
    }

    /// Adds an f32 input; `name` describes it in messages.
    #[must_use]
    pub fn f32(self, name: &'static str) -> Self {
        self.input(name, DType::F32)
    }

    /// Adds an f32 input that the operation has only with some attributes.
    #[must_use]
    pub fn f32_if(self, present: bool, name: &'static str) -> Self {
        if present { self.f32(name) } else { self }
    }

    /// Adds a u32 input.
    #[must_use]
    pub fn u32(self, name: &'static str) -> Self {
        self.input(name, DType::U32)
    }

    /// Adds a u8 input.
    #[must_use]
    pub fn u8(self, name: &'static str) -> Self {
        self.input(name, DType::U8)
    }

    /// Allows any number of inputs like the last one, at least one.
    #[must_use]
    pub fn repeated(mut self) -> Self {
        self.repeated = true;
        self
    }

    /// Returns the name of the operation.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Checks number and element types of inputs.
    ///
    /// # Errors
    /// Returns an error that states the expected inputs if there are too many or too few, and one
    /// that names the first input of another type.
    pub fn check(&self, inputs: &[TensorType]) -> Result<()> {
        let (expected, got) = (self.inputs.len(), inputs.len());
        if got < expected || (got > expected && !self.repeated) {
            let names: Vec<&str> = self.inputs.iter().map(|(name, _)| *name).collect();
            let count = match (self.repeated, expected) {
                (true, 1) => "at least one input".to_owned(),
                (true, n) => format!("at least {n} inputs"),
                (false, 1) => "1 input".to_owned(),
                (false, n) => format!("{n} inputs"),
            };
            return Err(error!(Graph, "expected {count} ({}), got {got}", names.join(", ")));
        }
        for (i, input) in inputs.iter().enumerate() {
            let (name, dtype) = self.inputs[i.min(expected - 1)];
            if input.dtype != dtype {
                let expected = match dtype {
                    DType::F32 => "f32",
                    DType::U32 => "u32",
                    DType::U8 => "u8",
                };
                return Err(error!(
                    Graph,
                    "input {i} ({name}) must be {expected}, got {:?} {}", input.dtype, input.shape
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::Shape;

    #[test]
    fn inputs_that_do_not_fit_are_refused_with_what_is_expected() {
        let shape = Shape::vector(3);
        let (x, labels) = (TensorType::f32(shape), TensorType::u32(shape));
        let loss = Signature::new("loss").f32("scores").u32("labels").f32_if(false, "weights");
        let list = Signature::new("list").f32("part").repeated();
        assert!(loss.check(&[x, labels]).is_ok());
        assert!(list.check(&[x, x, x]).is_ok());
        for (signature, inputs, expected) in [
            (&loss, &[x][..], "expected 2 inputs (scores, labels), got 1"),
            (&loss, &[x, labels, x], "expected 2 inputs (scores, labels), got 3"),
            (&loss, &[x, x], "input 1 (labels) must be u32, got F32 [1, 1, 1, 3]"),
            (&list, &[], "expected at least one input (part), got 0"),
            (&list, &[x, labels], "input 1 (part) must be f32, got U32 [1, 1, 1, 3]"),
            (&Signature::new("none"), &[x], "expected 0 inputs (), got 1"),
        ] {
            assert_eq!(signature.check(inputs).unwrap_err().to_string(), expected);
        }
    }
}
