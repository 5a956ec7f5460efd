//! Storage that outlives runs: named buffers on a device that contain values of several graphs
//! (parameters, gradients, momenta).
//!
//! Tensors are in device layout on the CPU too, so that a buffer can be used as one flat vector
//! there as well: an optimizer updates all parameters in one dispatch.

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

/// Alignment of tensors, in elements: devices bind ranges at multiples of 256 bytes.
pub(crate) const ALIGNMENT: usize = 64;

/// Named f32 buffers on one device. They store u32 values too, as bits.
pub struct Store {
    device: Device,
    buffers: BTreeMap<String, Buffer>,
}

struct Buffer {
    numbers: usize,
    memory: Memory,
}

enum Memory {
    /// A flat vector. Runs share it, so that a value that covers the whole buffer need not be
    /// copied.
    Host(Mutex<Arc<Tensor>>),
    Device(wgpu::Buffer),
}

impl Store {
    /// Creates an empty store.
    pub fn new(device: &Device) -> Self {
        Self { device: device.clone(), buffers: BTreeMap::new() }
    }

    /// Returns the device.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Adds a buffer of zeros.
    ///
    /// # Errors
    /// Returns an error if the device has not enough memory, or cannot bind a buffer of this size.
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

    /// Returns the names of the buffers.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.buffers.keys().map(String::as_str)
    }

    /// Returns the bytes of all buffers.
    pub fn bytes(&self) -> u64 {
        self.buffers.values().map(|b| 4 * b.numbers as u64).sum()
    }

    /// Reads all elements of a buffer.
    ///
    /// # Errors
    /// Returns an error if there is no such buffer, or if the device fails.
    pub fn read(&self, name: &str) -> Result<Vec<f32>> {
        let buffer = self.buffer(name)?;
        match (&buffer.memory, &self.device) {
            (Memory::Host(host), _) => memory::copy(lock(host).f32()),
            (Memory::Device(raw), Device::Gpu(gpu)) => {
                Ok(bytemuck::pod_collect_to_vec(&gpu.read(raw, 0, 4 * buffer.numbers as u64)?))
            }
            (Memory::Device(_), Device::Cpu) => {
                unreachable!("invariant: buffers are made on the store's device")
            }
        }
    }

    /// Writes all elements of a buffer.
    ///
    /// # Errors
    /// Returns an error if there is no such buffer, or if it has another length.
    pub fn write(&self, name: &str, numbers: &[f32]) -> Result<()> {
        let buffer = self.buffer(name)?;
        if buffer.numbers != numbers.len() {
            return Err(error!(
                Graph,
                "expected {} elements, got {}",
                buffer.numbers,
                numbers.len()
            )
            .at(format!("buffer `{name}`")));
        }
        match (&buffer.memory, &self.device) {
            (Memory::Host(host), _) => {
                Arc::make_mut(&mut lock(host)).f32_mut().copy_from_slice(numbers)
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

    /// Like [`Store::read`], for a buffer of u32.
    ///
    /// # Errors
    /// Returns the same errors as [`Store::read`].
    pub fn read_u32(&self, name: &str) -> Result<Vec<u32>> {
        Ok(bytemuck::cast_vec(self.read(name)?))
    }

    /// Like [`Store::write`], for a buffer of u32.
    ///
    /// # Errors
    /// Returns the same errors as [`Store::write`].
    pub fn write_u32(&self, name: &str, numbers: &[u32]) -> Result<()> {
        self.write(name, bytemuck::cast_slice(numbers))
    }

    /// Returns a buffer on the device, for programs that draw its contents; it can be bound for
    /// reading and copied from. `None` on the CPU, and if there is no such buffer.
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

    /// Checks that the store contains all resident values of a graph, and that devices can write
    /// them.
    pub(super) fn check(&self, graph: &Graph) -> Result<()> {
        for (v, resident) in residents(graph) {
            let at = || format!("value `{}`", graph.value_name(v));
            let (ty, buffer) =
                (graph.ty(v), self.buffer(&resident.buffer).map_err(|e| e.at(at()))?);
            if resident.first % ALIGNMENT != 0
                || resident.first + elements(ty, resident) > buffer.numbers
            {
                return Err(error!(
                    Graph,
                    "{} does not fit into buffer `{}` at {}",
                    ty.shape,
                    resident.buffer,
                    resident.first
                )
                .at(at()));
            }
            let readers = graph
                .nodes()
                .iter()
                .flat_map(|n| n.inputs.iter().enumerate().map(move |(i, &read)| (n, i, read)));
            let differs = |packing| {
                TensorLayout::bytes(ty, packing) != TensorLayout::bytes(ty, resident.packing)
            };
            if let Some((node, _, _)) = readers
                .filter(|&(_, _, read)| read == v)
                .find(|(node, i, _)| differs(node.op.packing(*i)))
            {
                return Err(error!(
                    Graph,
                    "{} is stored with packing {:?}, which node `{}` cannot read",
                    ty.shape,
                    resident.packing,
                    node.name
                )
                .at(at()));
            }
            // Devices write arbitrary values into channel padding, and buffers are read as a whole.
            let unpadded = ty.dtype == DType::U32 || ty.shape.c.is_multiple_of(4);
            if ty.dtype == DType::U8 || (graph.producer(v).is_some() && !unpadded) {
                return Err(error!(
                    Graph,
                    "{:?} {} cannot be stored: align its channels", ty.dtype, ty.shape
                )
                .at(at()));
            }
        }
        Ok(())
    }

    /// Returns the buffer range of a value on a device.
    pub(super) fn bound(&self, graph: &Graph, v: ValueId) -> Result<Bound> {
        let resident = resident(graph, v);
        match &self.buffer(&resident.buffer)?.memory {
            Memory::Device(buffer) => Ok(Bound {
                buffer: buffer.clone(),
                offset: 4 * resident.first as u64,
                bytes: NonZeroU64::new(TensorLayout::bytes(graph.ty(v), resident.packing)),
            }),
            Memory::Host(_) => unreachable!("invariant: the graph runs on the store's device"),
        }
    }

    /// Returns a value from the store, on the CPU. A copy uses the allocation that `memory`
    /// returns.
    pub(super) fn load(
        &self,
        graph: &Graph,
        v: ValueId,
        memory: impl FnOnce() -> Result<Vec<f32>>,
    ) -> Result<Arc<Tensor>> {
        let (resident, ty) = (resident(graph, v), graph.ty(v));
        let Memory::Host(host) = &self.buffer(&resident.buffer)?.memory else {
            unreachable!("invariant: this is the CPU")
        };
        let buffer = lock(host);
        if buffer.ty() == ty {
            return Ok(Arc::clone(&buffer));
        }
        let packed = &buffer.f32()[resident.first..][..elements(ty, resident)];
        let tensor = match ty.dtype {
            DType::U32 => {
                Tensor::from_data(ty.shape, Data::U32(bytemuck::cast_slice(packed).to_vec()))?
            }
            _ => unpack_f32(packed, ty.shape, resident.packing, memory()?),
        };
        Ok(Arc::new(tensor))
    }

    /// Stores an output of a node if it is resident, on the CPU.
    pub(super) fn save(&self, graph: &Graph, v: ValueId, tensor: &Arc<Tensor>) -> Result<()> {
        let Some(resident) = &graph.value(v).resident else { return Ok(()) };
        let Memory::Host(host) = &self.buffer(&resident.buffer)?.memory else {
            unreachable!("invariant: this is the CPU")
        };
        let mut buffer = lock(host);
        if buffer.ty() == tensor.ty() {
            *buffer = Arc::clone(tensor);
            return Ok(());
        }
        let packed = match tensor.data() {
            Elements::U32(numbers) => Cow::Borrowed(bytemuck::cast_slice(numbers)),
            _ => pack_f32(tensor.f32(), tensor.shape(), resident.packing)?,
        };
        Arc::make_mut(&mut buffer).f32_mut()[resident.first..][..packed.len()]
            .copy_from_slice(&packed);
        Ok(())
    }
}

/// Returns the number of elements of a value in a store, including padding.
fn elements(ty: TensorType, resident: &Resident) -> usize {
    (TensorLayout::bytes(ty, resident.packing) / 4) as usize
}

fn residents(graph: &Graph) -> impl Iterator<Item = (ValueId, &Resident)> {
    graph.value_ids().filter_map(|v| Some((v, graph.value(v).resident.as_ref()?)))
}

fn resident(graph: &Graph, v: ValueId) -> &Resident {
    graph.value(v).resident.as_ref().expect("invariant: the value is resident")
}

fn lock(numbers: &Mutex<Arc<Tensor>>) -> MutexGuard<'_, Arc<Tensor>> {
    numbers.lock().unwrap_or_else(PoisonError::into_inner)
}
