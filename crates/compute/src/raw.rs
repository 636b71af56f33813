//! Buffers, kernels and a queue of one device. The only place with unsafe code: to start a kernel is to trust that its
//! arguments are what its source says, which no compiler checks.

#![allow(unsafe_code, reason = "starting a kernel is unsafe in OpenCL, as in every interface to GPUs")]

use opencl3::{
    command_queue::CommandQueue,
    context::Context,
    device::Device,
    error_codes::ClError,
    kernel::{ExecuteKernel, Kernel},
    memory::{Buffer, CL_MEM_READ_WRITE},
    program::Program,
    types::CL_BLOCKING,
};
use std::ptr;

/// What runs on the device.
const SOURCE: &str = include_str!("work.cl");

/// Why a GPU is not measured.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ComputeError {
    /// There is no OpenCL.
    #[error("OpenCL does not answer: {0}; the driver of the GPU brings it, or a package of the system")]
    NoOpenCl(String),
    /// None of OpenCL's devices is that GPU.
    #[error("OpenCL does not know this GPU: {0}")]
    NoDevice(String),
    /// It cannot do the work.
    #[error("the GPU's compiler refuses the work: {0}")]
    Build(String),
    /// It computes other things than a processor does.
    #[error("the GPU computes something else than a processor does, so nothing of it could be checked")]
    Differs,
    /// It has too little memory.
    #[error("the GPU has too little memory to be measured")]
    Small,
    /// It broke off.
    #[error("the GPU did not do it: {0}")]
    Failed(String),
    /// It is asked for what makes no sense now.
    #[error("it is asked for what makes no sense now")]
    Turn,
}

impl From<ClError> for ComputeError {
    fn from(error: ClError) -> Self {
        Self::Failed(error.to_string())
    }
}

/// An argument of a kernel.
pub(crate) enum Arg<'a> {
    Words(&'a Words),
    Long(u64),
    Int(u32),
}

/// Words of 64 bits on the device.
pub(crate) struct Words(Buffer<u64>);

/// A device that is ready for work. Its parts go in the order in which they stand here.
pub(crate) struct Raw {
    kernels: Vec<(&'static str, Kernel)>,
    _program: Program,
    queue: CommandQueue,
    context: Context,
}

impl Raw {
    pub(crate) fn open(device: &Device, kernels: &[&'static str]) -> Result<Self, ComputeError> {
        let context = Context::from_device(device)?;
        let queue = CommandQueue::create_default(&context, 0)?;
        let program = Program::create_and_build_from_source(&context, SOURCE, "")
            .map_err(|log| ComputeError::Build(log.chars().take(300).collect()))?;
        let kernel = |name: &&'static str| Ok((*name, Kernel::create(&program, name)?));
        let kernels = kernels.iter().map(kernel).collect::<Result<_, ComputeError>>()?;
        Ok(Self { kernels, _program: program, queue, context })
    }

    pub(crate) fn words(&self, count: usize) -> Result<Words, ComputeError> {
        // SAFETY: no memory of this process is named, so the device allocates its own, of as many bytes as `u64`s take.
        let buffer = unsafe { Buffer::create(&self.context, CL_MEM_READ_WRITE, count, ptr::null_mut()) };
        Ok(Words(buffer?))
    }

    /// Puts a kernel into the queue, which works in order: `count` items, in groups of 64.
    pub(crate) fn start(&self, name: &str, count: usize, args: &[Arg<'_>]) -> Result<(), ComputeError> {
        let known = self.kernels.iter().find(|(known, _)| *known == name);
        let (_, kernel) = known.ok_or(ComputeError::Turn)?;
        let mut start = ExecuteKernel::new(kernel);
        for arg in args {
            // SAFETY: each kernel of `work.cl` is started in one place of `bench.rs`, with as many arguments as it has,
            // of the kinds that it declares: `ulong *` is `Words`, `ulong` is `Long`, `uint` is `Int`. Too many, and
            // sizes that differ, panic in `set_arg`.
            unsafe {
                match arg {
                    Arg::Words(words) => start.set_arg(&words.0),
                    Arg::Long(word) => start.set_arg(word),
                    Arg::Int(word) => start.set_arg(word),
                };
            }
        }
        start.set_global_work_size(count).set_local_work_size(count.min(64));
        // SAFETY: the arguments are as above, and `bench.rs` sizes buffers by the same constants that bound the items and
        // loops of the kernels. Buffers outlive their use: whoever starts something waits for the queue before it drops
        // them, and OpenCL itself holds those of kernels that are under way.
        unsafe { start.enqueue_nd_range(&self.queue)? };
        Ok(())
    }

    /// Waits until all that was started is done.
    pub(crate) fn finish(&self) -> Result<(), ComputeError> {
        Ok(self.queue.finish()?)
    }

    /// Reads the first words, when all that was started is done.
    pub(crate) fn read(&self, from: &Words, into: &mut [u64]) -> Result<(), ComputeError> {
        // SAFETY: it blocks until `into` is filled, and OpenCL refuses to read beyond the end of the buffer.
        unsafe { self.queue.enqueue_read_buffer(&from.0, CL_BLOCKING, 0, into, &[])? };
        Ok(())
    }

    /// Writes the first words.
    pub(crate) fn write(&self, into: &mut Words, from: &[u64]) -> Result<(), ComputeError> {
        // SAFETY: it blocks until `from` was read, and OpenCL refuses to write beyond the end of the buffer.
        unsafe { self.queue.enqueue_write_buffer(&mut into.0, CL_BLOCKING, 0, from, &[])? };
        Ok(())
    }
}
