//! PyTorch's `.pth` and `.pt` files, read without Python and without running what they say.
//!
//! Such a file holds a pickle: a program for a stack machine whose instructions include importing
//! any Python function and calling it. Here the program builds plain data. A call stays the
//! description of a call, and only the few that make up a state dict (`collections.OrderedDict`,
//! `torch._utils._rebuild_tensor_v2` and its relatives) are understood, by what they mean. Every
//! other one is an opaque value, which does no harm beside the tensors and is listed as ignored
//! among them.
//!
//! The state dict is looked for at the top, then under the names that training scripts use
//! (`state_dict`, `model_state`, ...); where none of them is there, the dict with the most tensors
//! is taken. A `module.` in front of every name is dropped.

mod archive;
mod legacy;
mod pickle;
mod state_dict;
mod tensor;
mod value;
mod write;

pub use write::{Wrap, write_pth};

pub(super) use archive::{inflate, open as open_zip};
pub(super) use legacy::{is_legacy, open as open_legacy};

use super::raw::{Contents, Ignored, RawTensor};
use crate::error::{Error, Result, error};
use pickle::Fault;
use tensor::{Rebuilt, StorageRef};
use value::Values;

/// Longest pickle that is read. The largest networks here need 0.5 MiB.
const MAX_PICKLE: u64 = 64 << 20;

/// The state dict in a pickle. `locate` gives a storage's number and its length in bytes.
fn contents<'a>(
    values: &Values<'a>,
    mut locate: impl FnMut(&StorageRef<'a>) -> Result<(usize, u64)>,
) -> Result<Contents> {
    let Some(found) = state_dict::find(values) else {
        return Err(error!(
            Weights,
            "there is no dict of tensors in the file, it holds {}",
            values.describe(values.root)
        )
        .advice("save the model's state_dict(), not the model"));
    };
    let mut contents = Contents { metadata: found.metadata, ..Contents::default() };
    for (name, id) in found.entries {
        let at = |e: Error| e.at(format!("tensor `{}`", shortened(name)));
        match tensor::rebuild(values, id) {
            Rebuilt::Tensor(t) => {
                let (storage, available) = locate(&t.storage).map_err(at)?;
                let offset = t.offset.saturating_mul(t.dtype.size() as u64);
                let place = (storage, offset, available);
                contents.tensors.push(RawTensor::new(
                    name.into(),
                    t.dtype,
                    t.dims,
                    Some(t.strides),
                    place,
                )?);
            }
            Rebuilt::Other(what) => {
                contents.ignored.push(Ignored { name: shortened(name).into(), what })
            }
            Rebuilt::Broken(what) => return Err(at(error!(Weights, "{what}"))),
        }
    }
    Ok(contents)
}

/// A name for error texts, cut where it is absurdly long.
fn shortened(name: &str) -> &str {
    &name[..name.floor_char_boundary(200)]
}

/// What a fault of the pickle machine means to the reader of a file.
fn fault(fault: Fault) -> Error {
    match fault {
        Fault::End => error!(Weights, "the pickle has no end: the file was cut short"),
        Fault::Bad { at, what } => error!(Weights, "the pickle is damaged at byte {at}: {what}"),
    }
}

/// A storage's length in bytes by its description. Saturates, so that an absurd one compares as too
/// large.
fn bytes(storage: &StorageRef<'_>) -> u64 {
    storage.len.saturating_mul(storage.element as u64)
}
