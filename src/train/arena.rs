//! Layout of tensors in the flat vectors that updates run on.
//!
//! Parameters, their gradients and momenta share one layout: the gradient of the parameter at an
//! offset is at the same offset of the gradient vector. A vector is cut into segments that a device
//! can bind; no tensor straddles two segments.

use crate::error::{Result, error};
use crate::graph::{Resident, Role, pack_f32, unpack_f32};
use crate::ops::kernel::TensorLayout;
use crate::ops::{Packing, flat};
use crate::tensor::{Shape, Tensor, TensorType};
use std::collections::BTreeMap;

/// Location of a tensor in the arena.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Name of the parameter, or of the norm that a statistic belongs to.
    pub name: String,
    /// Role of the parameter; for a norm, that of its scale.
    pub role: Role,
    /// Its shape on the host.
    pub shape: Shape,
    /// Packing on devices.
    pub packing: Packing,
    segment: usize,
    first: usize,
}

impl Entry {
    /// Number of `f32` elements in the packed form.
    fn elements(&self) -> usize {
        (TensorLayout::bytes(TensorType::f32(self.shape), self.packing) / 4) as usize
    }
}

/// Locations of a list of tensors, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParameterArena {
    entries: Vec<Entry>,
    /// Elements of each segment, a multiple of [`flat::BLOCK`].
    segments: Vec<usize>,
}

impl ParameterArena {
    /// Lays tensors out one after the other, in segments of at most `limit` bytes.
    ///
    /// # Errors
    /// Returns an error if a single tensor is larger than `limit`.
    pub fn new(
        tensors: impl IntoIterator<Item = (String, Role, Shape, Packing)>,
        limit: u64,
    ) -> Result<Self> {
        let limit = usize::try_from(limit / 4).unwrap_or(usize::MAX) / flat::BLOCK * flat::BLOCK;
        let mut arena = ParameterArena { entries: Vec::new(), segments: Vec::new() };
        for (name, role, shape, packing) in tensors {
            let mut entry = Entry { name, role, shape, packing, segment: 0, first: 0 };
            let elements = entry.elements().next_multiple_of(flat::BLOCK);
            if elements > limit {
                return Err(error!(OutOfMemory, "{shape} exceeds the device's binding limit")
                    .at(format!("parameter `{}`", entry.name)));
            }
            if arena.segments.last().is_none_or(|&used| used + elements > limit) {
                arena.segments.push(0);
            }
            entry.segment = arena.segments.len() - 1;
            let used = &mut arena.segments[entry.segment];
            entry.first = std::mem::replace(used, *used + elements);
            arena.entries.push(entry);
        }
        Ok(arena)
    }

    /// The tensors, in order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Name and element count of each segment's buffer, for the vector called `vector`.
    pub fn buffers(&self, vector: &str) -> impl Iterator<Item = (String, usize)> {
        self.segments
            .iter()
            .enumerate()
            .map(move |(i, &elements)| (format!("{vector}.{i}"), elements))
    }

    /// Location of a tensor in the vector called `vector`.
    pub fn location(&self, vector: &str, entry: &Entry) -> Resident {
        Resident {
            buffer: format!("{vector}.{}", entry.segment),
            first: entry.first,
            packing: entry.packing,
        }
    }

    /// Group number of each block, for each segment. `group` returns the group of a tensor. The
    /// padding after a tensor belongs to the tensor's group.
    pub fn groups(&self, group: impl Fn(usize, &Entry) -> u32) -> Vec<Vec<u32>> {
        let mut groups: Vec<Vec<u32>> =
            self.segments.iter().map(|elements| vec![0; elements / flat::BLOCK]).collect();
        for (i, entry) in self.entries.iter().enumerate() {
            let blocks =
                entry.first / flat::BLOCK..(entry.first + entry.elements()).div_ceil(flat::BLOCK);
            groups[entry.segment][blocks].fill(group(i, entry));
        }
        groups
    }

    /// Packs the tensors that `tensor` returns into segments. Missing tensors become zeros.
    ///
    /// # Errors
    /// Returns an error if a tensor has a different shape, or the copy cannot be allocated.
    pub fn pack<'t>(&self, tensor: impl Fn(&str) -> Option<&'t Tensor>) -> Result<Vec<Vec<f32>>> {
        let mut segments: Vec<Vec<f32>> =
            self.segments.iter().map(|&elements| vec![0.0; elements]).collect();
        for entry in &self.entries {
            let Some(tensor) = tensor(&entry.name) else { continue };
            if tensor.ty() != TensorType::f32(entry.shape) {
                return Err(error!(Weights, "expected {}, got {}", entry.shape, tensor.shape())
                    .at(format!("tensor `{}`", entry.name)));
            }
            let packed = pack_f32(tensor.f32(), entry.shape, entry.packing)?;
            segments[entry.segment][entry.first..][..packed.len()].copy_from_slice(&packed);
        }
        Ok(segments)
    }

    /// Unpacks the tensors from the segments.
    pub fn unpack(&self, segments: &[Vec<f32>]) -> BTreeMap<String, Tensor> {
        let tensor = |e: &Entry| {
            unpack_f32(
                &segments[e.segment][e.first..][..e.elements()],
                e.shape,
                e.packing,
                Vec::new(),
            )
        };
        self.entries.iter().map(|e| (e.name.clone(), tensor(e))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arena(limit: u64) -> Result<ParameterArena> {
        let tensors = [
            ("a", Shape::new(3, 3, 3, 5), Packing::Matrix),
            ("b", Shape::vector(5), Packing::Channels),
            ("c", Shape::vector(130), Packing::Channels),
        ];
        ParameterArena::new(
            tensors
                .map(|(name, shape, packing)| (name.to_owned(), Role::default(), shape, packing)),
            limit,
        )
    }

    #[test]
    fn tensors_come_back_from_every_segment() {
        // `a` takes 3 * 3 * 4 * 8 = 288 elements, so 320 with padding; `b` 64; `c` 192.
        for (limit, segments) in
            [(1 << 20, vec![576]), (384 * 4, vec![384, 192]), (320 * 4, vec![320, 256])]
        {
            let arena = arena(limit).unwrap();
            assert_eq!(arena.segments, segments);
            let tensors: BTreeMap<String, Tensor> = arena
                .entries()
                .iter()
                .map(|e| {
                    (
                        e.name.clone(),
                        Tensor::from_fn(e.shape, |n, h, w, c| {
                            (n + 10 * h + 100 * w) as f32 + c as f32 / 8.0
                        }),
                    )
                })
                .collect();
            let packed = arena.pack(|name| tensors.get(name)).unwrap();
            assert_eq!(arena.unpack(&packed), tensors);
            let groups = arena.groups(|i, _| i as u32 + 1).concat();
            assert_eq!([1, 2, 3].map(|g| groups.iter().filter(|&&x| x == g).count()), [5, 1, 3]);
        }
        assert!(arena(256 * 4).is_err());
    }

    #[test]
    fn tensors_of_another_shape_are_refused() {
        let other = Tensor::zeros(TensorType::f32(Shape::vector(6)));
        let error = arena(1 << 20)
            .unwrap()
            .pack(|name| (name == "b").then_some(&other))
            .unwrap_err()
            .to_string();
        assert!(error.contains("`b`") && error.contains("[1, 1, 1, 5]"), "{error}");
    }
}
