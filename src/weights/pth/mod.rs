//! PyTorch's `.pth` and `.pt` files, read without Python and without executing their code.
//!
//! Such a file contains a pickle: a program for a stack machine that can import and call any Python
//! function. Here the program only builds plain data. A call becomes a description of the call, and
//! only the few calls that a state dict consists of (`collections.OrderedDict`,
//! `torch._utils._rebuild_tensor_v2` and its variants) are interpreted. Every other call is an
//! opaque value: harmless next to the state dict, and listed as ignored inside it.
//!
//! All state dicts of a file are read, wherever they are in its dicts and lists, and so are pickled
//! modules (`torch.save(model)`): a module is the dict of its attributes, among them its tensors. If
//! there are several, names begin with the keys that lead to them. A prefix `module.` of all names
//! is removed.

mod archive;
mod legacy;
mod modules;
mod pickle;
mod state_dict;
mod tensor;
mod value;
mod write;

pub use write::{CheckpointDict, write_pth};

pub(super) use archive::{inflate, open as open_zip};
pub(super) use legacy::{is_legacy, open as open_legacy};

use super::raw::{Contents, Ignored, RawTensor};
use crate::error::{Error, Result, error};
use pickle::Fault;
use tensor::{Rebuilt, StorageRef};
use value::Values;

/// Maximum length of a pickle in bytes. The largest supported networks need 0.5 MiB.
const MAX_PICKLE: u64 = 64 << 20;

/// Returns the contents of the state dict in a pickle. `locate` returns the index of a storage and
/// its length in bytes.
fn contents<'a>(
    values: &Values<'a>,
    mut locate: impl FnMut(&StorageRef<'a>) -> Result<(usize, u64)>,
) -> Result<Contents> {
    let Some(state_dict) = state_dict::find(values)? else {
        return Err(error!(
            Weights,
            "no dict of tensors and no module in the file, the top-level object is {}",
            values.describe(values.root)
        )
        .advice("save the model's state_dict() instead of the model"));
    };
    let mut contents = Contents {
        metadata: state_dict.metadata,
        layers: state_dict.layers.into_iter().collect(),
        ..Contents::default()
    };
    for (name, id) in state_dict.entries {
        let at = |e: Error| e.at(format!("tensor `{}`", truncated(&name)));
        match tensor::rebuild(values, id) {
            Rebuilt::Tensor(t) => {
                let (storage, available) = locate(&t.storage).map_err(at)?;
                let offset = t.offset.saturating_mul(t.dtype.size() as u64);
                let location = (storage, offset, available);
                contents.tensors.push(RawTensor::new(
                    name,
                    t.dtype,
                    t.dims,
                    Some(t.strides),
                    location,
                )?);
            }
            Rebuilt::Other(kind) => {
                contents.ignored.push(Ignored { name: truncated(&name).into(), kind })
            }
            Rebuilt::Invalid(message) => return Err(at(error!(Weights, "{message}"))),
        }
    }
    Ok(contents)
}

/// Truncates an absurdly long name for messages.
fn truncated(name: &str) -> &str {
    &name[..name.floor_char_boundary(200)]
}

/// Converts a fault of the pickle machine to an error.
fn pickle_error(fault: Fault) -> Error {
    match fault {
        Fault::End => error!(Weights, "the pickle has no end: the file is truncated"),
        Fault::Invalid { at, message } => {
            error!(Weights, "the pickle is damaged at byte {at}: {message}")
        }
    }
}

/// Returns the length of a storage in bytes, according to the pickle. Saturates, so that an absurd
/// length compares as too large.
fn bytes(storage: &StorageRef<'_>) -> u64 {
    storage.len.saturating_mul(storage.element_size as u64)
}
