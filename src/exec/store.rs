//! Storage that outlives runs: named buffers on a device that contain values of several graphs
//! (parameters, gradients, momenta).
//!
//! Tensors are in device layout on the CPU too, so that a buffer can be used as one flat vector
//! there as well: an optimizer updates all parameters in one dispatch.

use super::backend::Backend;
use super::cpu::Host;
use super::device::Device;
use super::selector::KernelSelector;
use crate::error::{Result, error};
use crate::gpu::Gpu;
use crate::graph::{Graph, Resident, ValueId};
use crate::ops::kernel::TensorLayout;
use crate::tensor::{DType, TensorType};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Alignment of tensors, in elements: devices bind ranges at multiples of 256 bytes.
pub(crate) const ALIGNMENT: usize = 64;

/// Named f32 buffers on one device. They store u32 values too, as bits.
pub struct Store(pub(super) AnyBuffers);

/// The buffers of a store, by the device that they are on.
pub(super) enum AnyBuffers {
    Cpu(Buffers<Host>),
    Gpu(Buffers<Arc<Gpu>>),
}

/// Evaluates an expression with the buffers of a store, whichever they are.
macro_rules! with_buffers {
    ($store:expr, $buffers:ident => $value:expr) => {
        match $store {
            Store(AnyBuffers::Cpu($buffers)) => $value,
            Store(AnyBuffers::Gpu($buffers)) => $value,
        }
    };
}

impl Store {
    /// Creates an empty store.
    pub fn new(device: &Device) -> Self {
        Self(match device {
            Device::Cpu => AnyBuffers::Cpu(Buffers::new(Host)),
            Device::Gpu(gpu) => AnyBuffers::Gpu(Buffers::new(gpu.clone())),
        })
    }

    /// Returns the device.
    pub fn device(&self) -> Device {
        match &self.0 {
            AnyBuffers::Cpu(_) => Device::Cpu,
            AnyBuffers::Gpu(buffers) => Device::Gpu(buffers.backend.clone()),
        }
    }

    /// Adds a buffer of zeros.
    ///
    /// # Errors
    /// Returns an error if the device has not enough memory, or cannot bind a buffer of this size.
    pub fn add(&mut self, name: &str, elements: usize) -> Result<()> {
        with_buffers!(self, buffers => buffers.add(name, elements))
    }

    /// Returns the names of the buffers.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let names: Box<dyn Iterator<Item = &String>> =
            with_buffers!(self, buffers => Box::new(buffers.by_name.keys()));
        names.map(String::as_str)
    }

    /// Returns the bytes of all buffers.
    pub fn bytes(&self) -> u64 {
        with_buffers!(self, buffers => buffers.bytes())
    }

    /// Reads all elements of a buffer.
    ///
    /// # Errors
    /// Returns an error if there is no such buffer, or if the device fails.
    pub fn read(&self, name: &str) -> Result<Vec<f32>> {
        with_buffers!(self, buffers => buffers.read(name))
    }

    /// Writes all elements of a buffer.
    ///
    /// # Errors
    /// Returns an error if there is no such buffer, or if it has another length.
    pub fn write(&self, name: &str, elements: &[f32]) -> Result<()> {
        with_buffers!(self, buffers => buffers.write(name, elements))
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
    pub fn write_u32(&self, name: &str, elements: &[u32]) -> Result<()> {
        self.write(name, bytemuck::cast_slice(elements))
    }
}

/// The named buffers of a store on one backend.
pub(super) struct Buffers<B: Backend> {
    backend: B,
    by_name: BTreeMap<String, Entry<B::Buffer>>,
}

struct Entry<T> {
    elements: usize,
    buffer: T,
}

impl<B: Backend> Buffers<B> {
    pub(super) fn new(backend: B) -> Self {
        Self { backend, by_name: BTreeMap::new() }
    }

    pub(super) fn add(&mut self, name: &str, elements: usize) -> Result<()> {
        let buffer = self.backend.alloc(name, elements)?;
        self.by_name.insert(name.to_owned(), Entry { elements, buffer });
        Ok(())
    }

    fn bytes(&self) -> u64 {
        self.by_name.values().map(|entry| 4 * entry.elements as u64).sum()
    }

    pub(super) fn read(&self, name: &str) -> Result<Vec<f32>> {
        let entry = self.entry(name)?;
        self.backend.read(&entry.buffer, entry.elements)
    }

    pub(super) fn write(&self, name: &str, elements: &[f32]) -> Result<()> {
        let entry = self.entry(name)?;
        if entry.elements != elements.len() {
            let (want, got) = (entry.elements, elements.len());
            return Err(
                error!(Graph, "expected {want} elements, got {got}").at(format!("buffer `{name}`"))
            );
        }
        self.backend.write(&entry.buffer, elements);
        Ok(())
    }

    /// Returns the buffer of that name, if there is one.
    pub(super) fn get(&self, name: &str) -> Option<&B::Buffer> {
        self.by_name.get(name).map(|entry| &entry.buffer)
    }

    fn entry(&self, name: &str) -> Result<&Entry<B::Buffer>> {
        self.by_name
            .get(name)
            .ok_or_else(|| error!(Graph, "is not in the store").at(format!("buffer `{name}`")))
    }

    /// Prepares a verified graph whose resident values are in these buffers.
    ///
    /// # Errors
    /// Returns an error if the buffers do not match the graph, and those of [`Backend::prepare`].
    pub(super) fn prepare(
        &self,
        graph: &Arc<Graph>,
        selector: &mut dyn KernelSelector,
    ) -> Result<B::Program> {
        self.backend.prepare(graph, self.residents(graph)?, selector)
    }

    fn residents(&self, graph: &Graph) -> Result<Residents<B::Buffer>> {
        let locate = |v: ValueId| {
            let Some(resident) = &graph.value(v).resident else { return Ok(None) };
            let at = || format!("value `{}`", graph.value_name(v));
            let entry = self.entry(&resident.buffer).map_err(|e| e.at(at()))?;
            check(graph, v, resident, entry.elements).map_err(|e| e.at(at()))?;
            Ok(Some(entry.buffer.clone()))
        };
        Ok(Residents(graph.value_ids().map(locate).collect::<Result<_>>()?))
    }
}

/// The buffers of a graph's resident values.
pub(super) struct Residents<T>(Vec<Option<T>>);

impl<T> Residents<T> {
    /// Returns the buffer of a value with its location there; `None` if the value is not resident.
    pub(super) fn get<'r>(&'r self, graph: &'r Graph, v: ValueId) -> Option<(&'r T, &'r Resident)> {
        self.0[v.index()].as_ref().zip(graph.value(v).resident.as_ref())
    }
}

/// Checks that a resident value fits into its buffer of `elements` elements, and that devices can
/// read and write it there.
fn check(graph: &Graph, v: ValueId, resident: &Resident, elements: usize) -> Result<()> {
    let ty = graph.ty(v);
    if !resident.first.is_multiple_of(ALIGNMENT)
        || resident.first + self::elements(ty, resident) > elements
    {
        let (buffer, first) = (&resident.buffer, resident.first);
        return Err(error!(Graph, "{} does not fit into buffer `{buffer}` at {first}", ty.shape));
    }
    let bytes = |packing| TensorLayout::bytes(ty, packing);
    let misreads = |node: &crate::graph::Node| {
        let mut reads = node.inputs.iter().enumerate().filter(|&(_, &read)| read == v);
        reads.any(|(i, _)| bytes(node.op.packing(i)) != bytes(resident.packing))
    };
    if let Some(node) = graph.nodes().iter().find(|node| misreads(node)) {
        return Err(error!(
            Graph,
            "{} is stored with packing {:?}, which node `{}` cannot read",
            ty.shape,
            resident.packing,
            node.name
        ));
    }
    // Devices write arbitrary values into channel padding, and buffers are read as a whole.
    let unpadded = ty.dtype == DType::U32 || ty.shape.c.is_multiple_of(4);
    if ty.dtype == DType::U8 || (graph.producer(v).is_some() && !unpadded) {
        return Err(error!(
            Graph,
            "{:?} {} cannot be stored: align its channels", ty.dtype, ty.shape
        ));
    }
    Ok(())
}

/// Returns the number of elements of a value in a store, including padding.
pub(super) fn elements(ty: TensorType, resident: &Resident) -> usize {
    (TensorLayout::bytes(ty, resident.packing) / 4) as usize
}
