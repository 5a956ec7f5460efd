//! Compiles HLSL compute shaders (shader model 6.0, entry point `main`) by Microsoft's
//! DirectXShaderCompiler, and tells which are refused. For machines that have the compiler as a
//! library alone, `libdxcompiler.so`; where there is the program `dxc`, that does the same.
//!
//!     dxc-check LIBRARY FILE...
//!
//! Interfaces are those of `dxcapi.h`. Off Windows, COM is played by C++ classes with a virtual
//! destructor, which takes two places in the table of methods after `IUnknown`'s three; the crates
//! for DXC know the later layout without them.

use libloading::{Library, Symbol};
use std::ffi::{OsString, c_void};
use std::process::ExitCode;
use std::{fs, ptr, slice};

#[repr(C)]
struct Guid(u32, u16, u16, [u8; 8]);

const CLASS_LIBRARY: Guid = Guid(0x6245d6af, 0x66e0, 0x48fd, [0x80, 0xb4, 0x4d, 0x27, 0x17, 0x96, 0x74, 0x8c]);
const LIBRARY: Guid = Guid(0xe5204dc7, 0xd18c, 0x4c3c, [0xbd, 0xfb, 0x85, 0x16, 0x73, 0x98, 0x0f, 0xe7]);
const CLASS_COMPILER: Guid = Guid(0x73e22d93, 0xe6ce, 0x47f3, [0xb5, 0xbf, 0xf0, 0x66, 0x4f, 0x39, 0xc1, 0xb0]);
const COMPILER: Guid = Guid(0x8c210bf3, 0x011f, 0x4422, [0x8d, 0x70, 0x6f, 0x9a, 0xcb, 0x8d, 0xb6, 0x17]);

// Places in the tables of methods.
const RELEASE: usize = 2;
const CREATE_BLOB_ON_HEAP: usize = 9;
const COMPILE: usize = 5;
const STATUS: usize = 5;
const RESULT: usize = 6;
const ERRORS: usize = 7;
const BLOB_START: usize = 5;
const BLOB_SIZE: usize = 6;
const UTF8: u32 = 65001;

type Status = i32;
type CreateInstance = unsafe extern "C" fn(&Guid, &Guid, *mut *mut c_void) -> Status;
type CreateBlob = unsafe extern "C" fn(*mut c_void, *const u8, u32, u32, *mut *mut c_void) -> Status;
type Get<T> = unsafe extern "C" fn(*mut c_void, *mut T) -> Status;
type Wide = *const u32;
#[rustfmt::skip]
type Compile = unsafe extern "C" fn(
    *mut c_void, *mut c_void, Wide, Wide, Wide, *const Wide, u32, *const c_void, u32, *mut c_void, *mut *mut c_void,
) -> Status;

/// An object of the library, held once.
struct Object(*mut c_void);

impl Object {
    fn made(make: impl FnOnce(*mut *mut c_void) -> Status) -> Result<Self, String> {
        let mut object = ptr::null_mut();
        match make(&mut object) {
            0 if !object.is_null() => Ok(Self(object)),
            status => Err(format!("status {status:#x}")),
        }
    }

    /// SAFETY: `F` is the type of the method at `place` in this object's table.
    unsafe fn method<F: Copy>(&self, place: usize) -> F {
        unsafe {
            let table = *self.0.cast::<*const *const c_void>();
            *table.add(place).cast::<F>()
        }
    }

    /// The bytes of a blob.
    fn bytes(&self) -> &[u8] {
        // SAFETY: only called on blobs; their bytes live as long as they do.
        unsafe {
            let start = self.method::<unsafe extern "C" fn(*mut c_void) -> *const u8>(BLOB_START)(self.0);
            let size = self.method::<unsafe extern "C" fn(*mut c_void) -> usize>(BLOB_SIZE)(self.0);
            if start.is_null() { &[] } else { slice::from_raw_parts(start, size) }
        }
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        // SAFETY: every object has IUnknown's methods, and this one is held once.
        unsafe { self.method::<unsafe extern "C" fn(*mut c_void) -> u32>(RELEASE)(self.0) };
    }
}

fn wide(text: &str) -> Vec<u32> {
    text.chars().map(u32::from).chain([0]).collect()
}

fn compile(library: &Object, compiler: &Object, text: &str) -> Result<(), String> {
    let (entry, profile) = (wide("main"), wide("cs_6_0"));
    // SAFETY: places and types of the methods are those of dxcapi.h; all pointers outlive the
    // calls.
    unsafe {
        let create: CreateBlob = library.method(CREATE_BLOB_ON_HEAP);
        let source = Object::made(|to| create(library.0, text.as_ptr(), text.len() as u32, UTF8, to))?;
        let run: Compile = compiler.method(COMPILE);
        let none = ptr::null_mut();
        let outcome = Object::made(|to| {
            run(compiler.0, source.0, ptr::null(), entry.as_ptr(), profile.as_ptr(), ptr::null(), 0, ptr::null(), 0, none, to)
        })?;
        let mut status = -1;
        outcome.method::<Get<Status>>(STATUS)(outcome.0, &mut status);
        let part = |place| Object::made(|to| outcome.method::<Get<*mut c_void>>(place)(outcome.0, to));
        if status != 0 {
            return Err(part(ERRORS).map_or_else(|e| e, |b| String::from_utf8_lossy(b.bytes()).into_owned()));
        }
        if part(RESULT)?.bytes().starts_with(b"DXBC") { Ok(()) } else { Err("compiled to something that is no shader".into()) }
    }
}

fn check(path: OsString, files: &[OsString]) -> Result<usize, String> {
    // SAFETY: the caller names a DirectXShaderCompiler.
    let loaded = unsafe { Library::new(&path) }.map_err(|e| e.to_string())?;
    // SAFETY: as dxcapi.h has it.
    let create: Symbol<'_, CreateInstance> = unsafe { loaded.get(b"DxcCreateInstance\0") }.map_err(|e| e.to_string())?;
    let library = Object::made(|to| unsafe { create(&CLASS_LIBRARY, &LIBRARY, to) })?;
    let compiler = Object::made(|to| unsafe { create(&CLASS_COMPILER, &COMPILER, to) })?;
    let mut refused = 0;
    for file in files {
        let text = fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
        if let Err(why) = compile(&library, &compiler, &text) {
            println!("{}: {why}", file.display());
            refused += 1;
        }
    }
    Ok(refused)
}

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let Some(library) = arguments.next() else {
        eprintln!("which library? dxc-check LIBRARY FILE...");
        return ExitCode::FAILURE;
    };
    let files: Vec<OsString> = arguments.collect();
    match check(library, &files) {
        Ok(refused) => {
            println!("remark: {} files, {refused} refused", files.len());
            if refused == 0 && !files.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(e) => {
            eprintln!("the compiler cannot be used: {e}");
            ExitCode::FAILURE
        }
    }
}
