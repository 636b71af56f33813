//! The process in which a GPU is measured: the agent's own program, which does nothing else ([`lattice_compute`]). What
//! breaks or hangs there is killed, and the agent goes on.

use lattice_compute::{COMPUTE_VARIABLE, Which};
use lattice_measure::{Ask, Told};
use std::{path::Path, process::Stdio, time::Duration};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

/// How long a driver has to start, and its compiler to build the work: a server waits a little longer.
const READY: Duration = Duration::from_secs(15);
/// How long a part may take. It ends by itself after half a second; this is for what does not.
const WORK: Duration = Duration::from_secs(5);
/// The longest answer: 128 passes of 64 sums.
const LONGEST: u64 = 192 << 10;

/// A GPU that is measured. Its process ends with this value.
pub(crate) struct Bench {
    _child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Bench {
    /// Starts the process and gets the GPU ready; gives the bytes of memory that can be asked for.
    ///
    /// # Errors
    /// Why it cannot be measured.
    pub(crate) async fn open(program: &Path, which: &Which) -> Result<(Self, u64), String> {
        let mut command = Command::new(program);
        command.env(COMPUTE_VARIABLE, "1").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        // What NVIDIA's driver builds for it is not to be kept in the owner's folder.
        command.env("CUDA_CACHE_DISABLE", "1").kill_on_drop(true);
        let mut child = command.spawn().map_err(|error| format!("its process cannot be started: {error}"))?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("its process has no input or output".into());
        };
        let mut bench = Self { _child: child, input, output: BufReader::new(output) };
        let line = serde_json::to_vec(which).unwrap_or_default();
        match bench.say(line, READY).await? {
            Told::GpuReady { bytes } => Ok((bench, bytes)),
            Told::GpuNot { why } => Err(why),
            _ => Err("its process answers what it was not asked".into()),
        }
    }

    /// Has the GPU work.
    ///
    /// # Errors
    /// Why it broke off; then the process is of no use any more.
    pub(crate) async fn ask(&mut self, ask: &Ask) -> Result<Told, String> {
        let told = self.say(serde_json::to_vec(ask).unwrap_or_default(), WORK).await?;
        match (ask, &told) {
            (Ask::Gpu { .. }, Told::Gpu { .. })
            | (Ask::GpuFill { .. }, Told::GpuFilled { .. })
            | (Ask::GpuPass { .. }, Told::GpuPassed { .. }) => Ok(told),
            (_, Told::GpuNot { why }) => Err(why.clone()),
            _ => Err("its process answers what it was not asked".into()),
        }
    }

    async fn say(&mut self, mut line: Vec<u8>, limit: Duration) -> Result<Told, String> {
        line.push(b'\n');
        let talk = async {
            self.input.write_all(&line).await?;
            let mut said = String::new();
            (&mut self.output).take(LONGEST).read_line(&mut said).await?;
            Ok::<_, std::io::Error>(said)
        };
        let said = match timeout(limit, talk).await {
            Ok(Ok(said)) => said,
            Ok(Err(error)) => return Err(format!("its process ended: {error}")),
            Err(_) => return Err(format!("it had not ended after {} s and was killed", limit.as_secs())),
        };
        serde_json::from_str(&said).map_err(|_| "its process ended, as a broken driver has it do".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lattice_compute::CPU_VARIABLE;
    use lattice_measure::{check_gpu, check_gpu_memory, gpu::BLOCKS};

    /// The agent's program, with a processor in the place of a GPU.
    fn program(folder: &Path, more: &str) -> std::path::PathBuf {
        let bin = std::env::var_os("LATTICE_BIN_DIR").map(std::path::PathBuf::from).unwrap_or_else(|| {
            std::env::current_exe().unwrap().parent().unwrap().parent().unwrap().to_owned()
        });
        let agent = bin.join("lattice-agent");
        assert!(agent.exists(), "{} is not built: cargo build -p lattice-agent", agent.display());
        let script = folder.join("agent");
        let text = format!(
            "#!/bin/sh\nexport POCL_CACHE_DIR={}\n{more}\nexec {}\n",
            folder.display(),
            agent.display()
        );
        std::fs::write(&script, text).unwrap();
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o700)).unwrap();
        script
    }

    #[tokio::test]
    async fn the_agents_own_program_measures_and_a_server_believes_it() {
        let folder = tempfile::tempdir().unwrap();
        let which = Which { id: "GPU-1".into(), ..Which::default() };
        let (mut bench, bytes) =
            Bench::open(&program(folder.path(), &format!("export {CPU_VARIABLE}=1")), &which)
                .await
                .expect("OpenCL runs on this processor; `make deps` installs it (pocl-opencl-icd)");
        assert!(BLOCKS.contains(&bytes) && bytes.is_power_of_two(), "{bytes}");
        let Told::Gpu { sums, .. } = bench.ask(&Ask::Gpu { seed: 3, rounds: 2, millis: 50 }).await.unwrap()
        else {
            panic!()
        };
        assert!(check_gpu(3, 2, &sums, 3, || 5).is_ok());
        assert_eq!(bench.ask(&Ask::GpuFill { seed: 9 }).await, Ok(Told::GpuFilled { bytes }));
        let Told::GpuPassed { sums, .. } = bench.ask(&Ask::GpuPass { key: 4, millis: 50 }).await.unwrap()
        else {
            panic!()
        };
        assert!(check_gpu_memory(9, bytes, 4, &sums, 11).is_ok());
        // Out of turn, it says why, and that was all.
        assert!(bench.ask(&Ask::GpuPass { key: 4, millis: 50 }).await.unwrap_err().contains("no sense"));
        assert!(bench.ask(&Ask::GpuFill { seed: 9 }).await.unwrap_err().contains("process ended"));
    }

    #[tokio::test]
    async fn what_is_no_gpu_or_breaks_or_hangs_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let which = Which { id: "GPU-1".into(), ..Which::default() };
        // A processor counts as none where nobody asks for it.
        let none = Bench::open(&program(folder.path(), &format!("unset {CPU_VARIABLE}")), &which).await;
        assert!(none.err().unwrap().contains("OpenCL"));
        let broken = Bench::open(&program(folder.path(), "kill -SEGV $$"), &which).await;
        assert!(broken.err().unwrap().contains("process ended"));
        let absent = Bench::open(&folder.path().join("nothing"), &which).await;
        assert!(absent.err().unwrap().contains("cannot be started"));
        tokio::time::pause();
        let hangs = Bench::open(&program(folder.path(), "sleep 600; exit"), &which).await;
        assert!(hangs.err().unwrap().contains("killed"));
    }
}
