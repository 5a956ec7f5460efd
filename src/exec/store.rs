//! Numbers that outlive runs: named buffers on a device, in which values of several graphs lie
//! (parameters, gradients, momenta).
//!
//! Tensors lie in device layout on the processor too, so that a buffer can be taken as one long
//! vector there as well: an optimizer updates all the parameters in one dispatch.

use super::Device;
use super::record::Bound;
use crate::error::{Result, error};
use crate::gpu::{pack_f32, unpack_f32};
use crate::graph::{Graph, Resident, ValueId};
use crate::memory;
use crate::ops::kernel::TensorLayout;
use crate::tensor::{DType, Data, Elements, Shape, Tensor, TensorType};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Tensors begin at multiples of so many numbers: devices bind ranges at multiples of 256 bytes.
pub(crate) const ALIGNMENT: usize = 64;

/// Named buffers of f32 on one device. Values of u32 lie in them too, by their bits.
pub struct Store {
    device: Device,
    buffers: BTreeMap<String, Buffer>,
}

struct Buffer {
    numbers: usize,
    memory: Memory,
}

enum Memory {
    /// A flat vector. Runs share it, so that a value that is all of it need not be copied.
    Host(Mutex<Arc<Tensor>>),
    Device(wgpu::Buffer),
}

impl Store {
    /// An empty store.
    pub fn new(device: &Device) -> Self {
        Self { device: device.clone(), buffers: BTreeMap::new() }
    }

    /// Its device.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Adds a buffer of zeros.
    ///
    /// # Errors
    /// Where the device has no room, or cannot bind so large a buffer.
    pub fn add(&mut self, name: &str, numbers: usize) -> Result<()> {
        let memory = match &self.device {
            Device::Cpu => {
                let at = |e: crate::error::Error| e.at(format!("buffer `{name}`"));
                memory::check((numbers as u64).saturating_mul(4), "it").map_err(at)?;
                let zeros =
                    Tensor::try_zeros(TensorType::f32(Shape::vector(numbers))).map_err(at)?;
                Memory::Host(Mutex::new(Arc::new(zeros)))
            }
            Device::Gpu(gpu) => {
                let usage = wgpu::BufferUsages::STORAGE
                    | wgpu::BufferUsages::COPY_DST
                    | wgpu::BufferUsages::COPY_SRC;
                // wgpu clears new buffers.
                Memory::Device(gpu.buffer(name, 4 * numbers as u64, usage)?)
            }
        };
        self.buffers.insert(name.to_owned(), Buffer { numbers, memory });
        Ok(())
    }

    /// Names of the buffers.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.buffers.keys().map(String::as_str)
    }

    /// Bytes of all the buffers.
    pub fn bytes(&self) -> u64 {
        self.buffers.values().map(|b| 4 * b.numbers as u64).sum()
    }

    /// All the numbers of a buffer.
    ///
    /// # Errors
    /// Where there is no such buffer, or the device fails.
    pub fn read(&self, name: &str) -> Result<Vec<f32>> {
        let buffer = self.buffer(name)?;
        match (&buffer.memory, &self.device) {
            (Memory::Host(own), _) => memory::copy(lock(own).f32()),
            (Memory::Device(raw), Device::Gpu(gpu)) => {
                Ok(bytemuck::pod_collect_to_vec(&gpu.read(raw, 0, 4 * buffer.numbers as u64)?))
            }
            (Memory::Device(_), Device::Cpu) => {
                unreachable!("invariant: buffers are made on the store's device")
            }
        }
    }

    /// Writes all the numbers of a buffer.
    ///
    /// # Errors
    /// Where there is no such buffer, or it holds another number of them.
    pub fn write(&self, name: &str, numbers: &[f32]) -> Result<()> {
        let buffer = self.buffer(name)?;
        if buffer.numbers != numbers.len() {
            return Err(error!(Graph, "holds {} numbers, not {}", buffer.numbers, numbers.len())
                .at(format!("buffer `{name}`")));
        }
        match (&buffer.memory, &self.device) {
            (Memory::Host(own), _) => {
                Arc::make_mut(&mut lock(own)).f32_mut().copy_from_slice(numbers)
            }
            (Memory::Device(raw), Device::Gpu(gpu)) => {
                gpu.queue.write_buffer(raw, 0, bytemuck::cast_slice(numbers))
            }
            (Memory::Device(_), Device::Cpu) => {
                unreachable!("invariant: buffers are made on the store's device")
            }
        }
        Ok(())
    }

    /// As [`Store::read`], for a buffer of u32.
    ///
    /// # Errors
    /// As there.
    pub fn read_u32(&self, name: &str) -> Result<Vec<u32>> {
        Ok(bytemuck::cast_vec(self.read(name)?))
    }

    /// As [`Store::write`], for a buffer of u32.
    ///
    /// # Errors
    /// As there.
    pub fn write_u32(&self, name: &str, numbers: &[u32]) -> Result<()> {
        self.write(name, bytemuck::cast_slice(numbers))
    }

    /// A buffer on the device, for programs that draw what lies in it; it can be bound for reading
    /// and copied from. `None` on the processor, and where there is no such buffer.
    pub fn device_buffer(&self, name: &str) -> Option<&wgpu::Buffer> {
        match &self.buffers.get(name)?.memory {
            Memory::Device(buffer) => Some(buffer),
            Memory::Host(_) => None,
        }
    }

    fn buffer(&self, name: &str) -> Result<&Buffer> {
        self.buffers
            .get(name)
            .ok_or_else(|| error!(Graph, "is not in the store").at(format!("buffer `{name}`")))
    }

    /// Checks that all that a graph expects here is here, and that devices can write it.
    pub(super) fn check(&self, graph: &Graph) -> Result<()> {
        for (v, place) in residents(graph) {
            let at = || format!("value `{}`", graph.value_name(v));
            let (ty, buffer) = (graph.ty(v), self.buffer(&place.buffer).map_err(|e| e.at(at()))?);
            if place.first % ALIGNMENT != 0 || place.first + numbers(ty, place) > buffer.numbers {
                return Err(error!(
                    Graph,
                    "{} does not fit into `{}` at {}", ty.shape, place.buffer, place.first
                )
                .at(at()));
            }
            let readers = graph
                .nodes()
                .iter()
                .flat_map(|n| n.inputs.iter().enumerate().map(move |(i, &read)| (n, i, read)));
            let other = |packing| {
                TensorLayout::bytes(ty, packing) != TensorLayout::bytes(ty, place.packing)
            };
            if let Some((node, _, _)) = readers
                .filter(|&(_, _, read)| read == v)
                .find(|(node, i, _)| other(node.op.packing(*i)))
            {
                return Err(error!(
                    Graph,
                    "{} lies as {:?}, which node `{}` cannot read",
                    ty.shape,
                    place.packing,
                    node.name
                )
                .at(at()));
            }
            // What a device writes into the padding of channels means nothing, and buffers are read
            // as a whole.
            let whole = ty.dtype == DType::U32 || ty.shape.c.is_multiple_of(4);
            if ty.dtype == DType::U8 || (graph.producer(v).is_some() && !whole) {
                return Err(error!(
                    Graph,
                    "{:?} {} cannot be kept: align its channels", ty.dtype, ty.shape
                )
                .at(at()));
            }
        }
        Ok(())
    }

    /// The range of a device's buffer that a value lies in.
    pub(super) fn bound(&self, graph: &Graph, v: ValueId) -> Result<Bound> {
        let place = resident(graph, v);
        match &self.buffer(&place.buffer)?.memory {
            Memory::Device(buffer) => Ok(Bound {
                buffer: buffer.clone(),
                offset: 4 * place.first as u64,
                bytes: NonZeroU64::new(TensorLayout::bytes(graph.ty(v), place.packing)),
            }),
            Memory::Host(_) => unreachable!("invariant: devices run graphs whose store is theirs"),
        }
    }

    /// A value that lies here, on the processor. What must be copied takes the memory that `memory`
    /// gives.
    pub(super) fn load(
        &self,
        graph: &Graph,
        v: ValueId,
        memory: impl FnOnce() -> Result<Vec<f32>>,
    ) -> Result<Arc<Tensor>> {
        let (place, ty) = (resident(graph, v), graph.ty(v));
        let Memory::Host(own) = &self.buffer(&place.buffer)?.memory else {
            unreachable!("invariant: this is the processor")
        };
        let own = lock(own);
        if own.ty() == ty {
            return Ok(Arc::clone(&own));
        }
        let packed = &own.f32()[place.first..][..numbers(ty, place)];
        let tensor = match ty.dtype {
            DType::U32 => {
                Tensor::from_data(ty.shape, Data::U32(bytemuck::cast_slice(packed).to_vec()))?
            }
            _ => unpack_f32(packed, ty.shape, place.packing, memory()?),
        };
        Ok(Arc::new(tensor))
    }

    /// Keeps what a node computed, where it is to lie here; on the processor.
    pub(super) fn keep(&self, graph: &Graph, v: ValueId, tensor: &Arc<Tensor>) -> Result<()> {
        let Some(place) = &graph.value(v).resident else { return Ok(()) };
        let Memory::Host(own) = &self.buffer(&place.buffer)?.memory else {
            unreachable!("invariant: this is the processor")
        };
        let mut own = lock(own);
        if own.ty() == tensor.ty() {
            *own = Arc::clone(tensor);
            return Ok(());
        }
        let packed = match tensor.data() {
            Elements::U32(numbers) => Cow::Borrowed(bytemuck::cast_slice(numbers)),
            _ => pack_f32(tensor.f32(), tensor.shape(), place.packing)?,
        };
        Arc::make_mut(&mut own).f32_mut()[place.first..][..packed.len()].copy_from_slice(&packed);
        Ok(())
    }
}

/// Numbers that a value takes in a store.
fn numbers(ty: TensorType, place: &Resident) -> usize {
    (TensorLayout::bytes(ty, place.packing) / 4) as usize
}

fn residents(graph: &Graph) -> impl Iterator<Item = (ValueId, &Resident)> {
    graph.value_ids().filter_map(|v| Some((v, graph.value(v).resident.as_ref()?)))
}

fn resident(graph: &Graph, v: ValueId) -> &Resident {
    graph.value(v).resident.as_ref().expect("invariant: asked only of values that lie in a store")
}

fn lock(numbers: &Mutex<Arc<Tensor>>) -> MutexGuard<'_, Arc<Tensor>> {
    numbers.lock().unwrap_or_else(PoisonError::into_inner)
}
