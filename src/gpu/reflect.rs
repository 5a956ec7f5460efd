//! Reflection of shaders with naga: bindings by name, members of the uniform block, workgroup size.
//! This is the only source of binding numbers and offsets.

use crate::error::{Result, error};
use crate::ops::kernel::{Dispatch, Operand, Scalar};
use naga::{AddressSpace, StorageAccess, TypeInner};

/// A storage buffer of a shader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// Name of the variable.
    pub name: String,
    /// Binding number in group 0.
    pub binding: u32,
    /// Whether the shader writes it.
    pub writes: bool,
}

/// A validated shader with its bindings and sizes.
#[derive(Debug)]
pub struct Reflection {
    /// The parsed module, for translation into other languages.
    pub module: naga::Module,
    /// The validator's results, also for translation.
    pub info: naga::valid::ModuleInfo,
    /// Storage buffers.
    pub bindings: Vec<Binding>,
    /// The uniform block, if there is one.
    pub params: Option<Params>,
    /// Threads in a workgroup.
    pub group_size: u32,
    /// Bytes of workgroup memory.
    pub workgroup_memory: u32,
}

/// The uniform block of a shader.
#[derive(Debug, Clone)]
pub struct Params {
    /// Binding number in group 0.
    pub binding: u32,
    /// Size in bytes.
    pub size: u32,
    /// Path, byte offset and type of each scalar: `pixels`, `x.pitch`.
    members: Vec<(String, u32, naga::Scalar)>,
}

impl Params {
    /// Lists the scalars of a struct's members, and of the structs and vectors among them.
    fn collect(
        &mut self,
        module: &naga::Module,
        members: &[naga::StructMember],
        path: &str,
        start: u32,
    ) -> Result<()> {
        for member in members {
            let path = format!("{path}{}", member.name.as_deref().unwrap_or("?"));
            let offset = start + member.offset;
            match &module.types[member.ty].inner {
                TypeInner::Scalar(scalar) => self.members.push((path, offset, *scalar)),
                TypeInner::Vector { size, scalar } => {
                    for (i, component) in (0..*size as u32).zip(["x", "y", "z", "w"]) {
                        let offset = offset + i * u32::from(scalar.width);
                        self.members.push((format!("{path}.{component}"), offset, *scalar));
                    }
                }
                TypeInner::Struct { members, .. } => {
                    self.collect(module, members, &format!("{path}."), offset)?;
                }
                _ => {
                    return Err(error!(
                        Shader,
                        "`params.{path}` is not a scalar, a vector or a struct of them"
                    ));
                }
            }
        }
        Ok(())
    }
}

/// Refuses functions that take a struct of built-ins. For Direct3D, naga replaces `num_workgroups`
/// where the entry point reads it from its argument, and nowhere else: a function that is passed
/// the whole struct would read another number.
fn check_built_ins(module: &naga::Module) -> Result<()> {
    let is_built_in = |argument: &naga::FunctionArgument| {
        matches!(&module.types[argument.ty].inner, TypeInner::Struct { members, .. }
            if members.iter().any(|m| m.binding.is_some()))
    };
    for (_, function) in module.functions.iter() {
        if let Some(argument) = function.arguments.iter().find(|a| is_built_in(a)) {
            let name = |name: &Option<String>| name.clone().unwrap_or_default();
            return Err(error!(
                Shader,
                "function `{}` takes a struct of built-ins as `{}`",
                name(&function.name),
                name(&argument.name)
            )
            .advice("pass its members"));
        }
    }
    Ok(())
}

impl Reflection {
    /// Reads a validated module.
    ///
    /// # Errors
    /// Returns an error unless the module has one entry point, its uniform block consists of
    /// scalars, vectors and structs, and its built-ins stay in the entry point.
    pub fn new(module: naga::Module, info: naga::valid::ModuleInfo) -> Result<Self> {
        let [entry] = module.entry_points.as_slice() else {
            return Err(error!(
                Shader,
                "expected one entry point, got {}",
                module.entry_points.len()
            ));
        };
        check_built_ins(&module)?;
        let group_size = entry.workgroup_size.iter().product();
        let entry_info = info.get_entry_point(0);
        let (mut bindings, mut params, mut workgroup_memory) = (Vec::new(), None, 0);
        for (handle, var) in module.global_variables.iter() {
            if entry_info[handle].is_empty() {
                continue;
            }
            let name = var.name.clone().unwrap_or_default();
            let inner = &module.types[var.ty].inner;
            match (var.space, &var.binding) {
                (AddressSpace::WorkGroup, _) => workgroup_memory += inner.size(module.to_ctx()),
                (AddressSpace::Storage { access }, Some(at)) => {
                    bindings.push(Binding {
                        name,
                        binding: at.binding,
                        writes: access.contains(StorageAccess::STORE),
                    });
                }
                (AddressSpace::Uniform, Some(at)) => {
                    let TypeInner::Struct { members, span } = inner else {
                        return Err(error!(Shader, "uniform `{name}` is not a struct"));
                    };
                    // Uniform blocks are bound in multiples of 16 bytes.
                    let size = span.next_multiple_of(16);
                    let mut block = Params { binding: at.binding, size, members: Vec::new() };
                    block.collect(&module, members, "", 0)?;
                    params = Some(block);
                }
                _ => {}
            }
        }
        Ok(Self { module, info, bindings, params, group_size, workgroup_memory })
    }

    /// Returns the operand of each storage binding of the shader.
    ///
    /// # Errors
    /// Returns an error that names a binding if it is missing from the dispatch, unknown to the
    /// shader, or an input that the shader writes.
    pub fn operands(&self, dispatch: &Dispatch) -> Result<Vec<(u32, Operand)>> {
        let address = || format!("dispatch of {}", dispatch.variant);
        if let Some((name, _)) =
            dispatch.bindings.iter().find(|(n, _)| !self.bindings.iter().any(|b| b.name == *n))
        {
            return Err(error!(
                Shader,
                "binds `{name}`, which the shader does not have or does not use"
            )
            .at(address()));
        }
        self.bindings
            .iter()
            .map(|b| {
                let (_, operand) =
                    dispatch.bindings.iter().find(|(n, _)| *n == b.name).ok_or_else(|| {
                        error!(Shader, "does not bind `{}`", b.name).at(address())
                    })?;
                if b.writes && matches!(operand, Operand::Input(_)) {
                    return Err(error!(
                        Shader,
                        "the shader writes `{}`, which is bound to an input", b.name
                    )
                    .at(address()));
                }
                Ok((b.binding, *operand))
            })
            .collect()
    }

    /// Returns the bytes of the uniform block for a dispatch.
    ///
    /// # Errors
    /// Returns an error that names a member if it is missing, unknown, or of the wrong type.
    pub fn params_bytes(&self, dispatch: &Dispatch) -> Result<Vec<u8>> {
        let address = || format!("dispatch of {}", dispatch.variant);
        let Some(params) = &self.params else {
            return match dispatch.params.first() {
                None => Ok(Vec::new()),
                Some((name, _)) => {
                    Err(error!(Shader, "sets `{name}`, but the shader has no params").at(address()))
                }
            };
        };
        if let Some((name, _)) =
            dispatch.params.iter().find(|(n, _)| !params.members.iter().any(|(m, ..)| m == n))
        {
            return Err(
                error!(Shader, "sets `{name}`, which is not a member of params").at(address())
            );
        }
        let mut bytes = vec![0; params.size as usize];
        for (name, offset, scalar) in &params.members {
            let value = dispatch.params.iter().find(|(n, _)| n == name).map(|(_, v)| *v);
            let word = match (value, scalar.kind) {
                (Some(Scalar::U32(v)), naga::ScalarKind::Uint) => v.to_le_bytes(),
                (Some(Scalar::I32(v)), naga::ScalarKind::Sint) => v.to_le_bytes(),
                (Some(Scalar::F32(v)), naga::ScalarKind::Float) => v.to_le_bytes(),
                (None, _) => return Err(error!(Shader, "does not set `{name}`").at(address())),
                (Some(v), kind) => {
                    return Err(
                        error!(Shader, "sets `{name}` to {v:?}, not a {kind:?}").at(address())
                    );
                }
            };
            bytes[*offset as usize..*offset as usize + 4].copy_from_slice(&word);
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests;
