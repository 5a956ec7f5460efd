//! Attributes of a node.

use super::super::proto::{AttributeProto, NodeProto};
use crate::error::{Result, error};
use crate::text::excerpt;

impl NodeProto {
    fn attribute(&self, name: &str) -> Option<&AttributeProto> {
        self.attribute.iter().find(|attribute| attribute.name == name)
    }

    /// Returns an integer.
    pub(super) fn int(&self, name: &str) -> Option<i64> {
        self.attribute(name).map(|attribute| attribute.i)
    }

    /// Returns whether an integer is given and not zero.
    pub(super) fn flag(&self, name: &str) -> bool {
        self.int(name).is_some_and(|i| i != 0)
    }

    /// Returns a number.
    pub(super) fn float(&self, name: &str) -> Option<f32> {
        self.attribute(name).map(|attribute| attribute.f)
    }

    /// Returns a list of integers.
    pub(super) fn ints(&self, name: &str) -> Option<&[i64]> {
        self.attribute(name).map(|attribute| &attribute.ints[..])
    }

    /// Returns a list of numbers.
    pub(super) fn floats(&self, name: &str) -> Option<&[f32]> {
        self.attribute(name).map(|attribute| &attribute.floats[..])
    }

    /// Returns a text.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        self.attribute(name).map(|attribute| String::from_utf8_lossy(&attribute.s).into_owned())
    }

    /// Returns a list of non-negative integers, `N` of them, or the default.
    ///
    /// # Errors
    /// Returns an error for another number of them, or a negative one.
    pub(super) fn sizes<const N: usize>(&self, name: &str, default: usize) -> Result<[usize; N]> {
        let Some(ints) = self.ints(name) else { return Ok([default; N]) };
        let sizes: Vec<usize> = ints.iter().filter_map(|&i| usize::try_from(i).ok()).collect();
        sizes
            .try_into()
            .map_err(|_| error!(Weights, "expected {N} values of `{name}`, got {ints:?}"))
    }

    /// Refuses the values of an attribute other than one.
    ///
    /// # Errors
    /// Returns an error that names the value.
    pub(super) fn only_text(&self, name: &str, supported: &[&str]) -> Result<String> {
        let value = self.text(name).unwrap_or_else(|| supported[0].to_owned());
        if supported.contains(&value.as_str()) {
            return Ok(value);
        }
        Err(error!(Weights, "{name} `{}` is not supported", excerpt(&value)))
    }
}

/// Resolves an axis, which may count from the end.
///
/// # Errors
/// Returns an error if there is no such axis.
pub(super) fn axis(axis: i64, rank: usize) -> Result<usize> {
    let resolved = if axis < 0 { axis.saturating_add(rank as i64) } else { axis };
    usize::try_from(resolved)
        .ok()
        .filter(|&axis| axis < rank)
        .ok_or_else(|| error!(Weights, "axis {axis} of a value with {rank} axes"))
}
