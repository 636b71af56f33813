//! The work by which a GPU is measured ([`lattice_measure::gpu`]), on the GPU, by OpenCL: the drivers of NVIDIA, AMD and
//! Intel all bring it, and it runs on a processor too, on which it is tested.
//!
//! It is done in a process of its own: the agent's program, started with [`COMPUTE_VARIABLE`], calls [`serve`]. A driver
//! that is broken ends that process and not the agent, and one that hangs is killed with it. It reads lines of JSON and
//! answers each with one: first [`Which`] GPU, then [`lattice_measure::Ask`]s about GPUs, each with its
//! [`lattice_measure::Told`]. Before a GPU is ready for work it has shown that it computes what a processor does: one
//! that rounds otherwise is not measured, rather than called a liar.
//!
//! | file | what |
//! |---|---|
//! | `which` | which of OpenCL's devices a GPU of the machine is |
//! | `bench` | the work, in terms of `raw` |
//! | `raw` | buffers, kernels and a queue; the one place with unsafe code |
//! | `serve` | the conversation |
//! | `work.cl` | what runs on the device |
//!
//! Rejected: CUDA (one maker, and nothing here to try it on); Vulkan (shaders may round as they like); the engine's
//! containers as for the proof (OpenCL needs files there that no toolkit brings, and what is measured is the GPU).

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod bench;
mod raw;
mod serve;
mod which;

pub use bench::Bench;
pub use raw::ComputeError;
pub use serve::serve;
pub use which::{CPU_VARIABLE, Kind, Which};

/// Set for the agent's program, it measures a GPU as it is told on its input, and ends with it.
pub const COMPUTE_VARIABLE: &str = "LATTICE_GPU_MEASURE";
