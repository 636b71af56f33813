//! The conversation of the process that measures with the agent that started it.

use crate::{Bench, ComputeError, Kind, Which};
use lattice_measure::{Ask, Told};
use std::{
    io::{self, BufRead, Write},
    time::Duration,
};

/// Answers lines until there are no more, or something fails; what fails is told first.
///
/// # Errors
/// What cannot be read or written: then the agent is gone.
pub fn serve(input: impl BufRead, mut output: impl Write) -> io::Result<()> {
    let mut tell = |told: &Told| -> io::Result<()> {
        serde_json::to_writer(&mut output, told)?;
        output.write_all(b"\n")?;
        output.flush()
    };
    let mut bench: Option<Bench> = None;
    for line in input.lines() {
        let told = answer(&mut bench, &line?);
        let ends = matches!(told, Told::GpuNot { .. });
        tell(&told)?;
        if ends {
            break;
        }
    }
    Ok(())
}

fn answer(bench: &mut Option<Bench>, line: &str) -> Told {
    let done = match bench {
        None => serde_json::from_str::<Which>(line).map_err(|_| ComputeError::Turn).and_then(|which| {
            let ready = bench.insert(Bench::open(&which, Kind::of_environment())?);
            Ok(Told::GpuReady { bytes: ready.bytes() })
        }),
        Some(bench) => match serde_json::from_str(line) {
            Ok(Ask::Gpu { seed, rounds, millis }) => {
                bench.compute(seed, rounds, Duration::from_millis(millis.into()))
            }
            Ok(Ask::GpuFill { seed }) => bench.fill(seed),
            Ok(Ask::GpuPass { key, millis }) => bench.pass(key, Duration::from_millis(millis.into())),
            Ok(_) | Err(_) => Err(ComputeError::Turn),
        },
    };
    done.unwrap_or_else(|error| Told::GpuNot { why: error.to_string() })
}
