//! Data on its way: from the engine here, by the server, into a volume of the stack on whichever
//! node that is; then back again, to be compared. Nothing is held but a few parts of the archive.

use super::{
    manifest::Manifest,
    plan::{Copy, Source},
};
use crate::{
    commands::copy::{PART, PARTS, Parts, Place, fetch, send},
    context::Context,
    error::CliError,
    terminal::{self, note},
};
use futures::StreamExt as _;
use lattice_api::AllocationView;
use lattice_model::Bytes;
use lattice_runtime::docker::Projects;
use std::{
    io::IsTerminal,
    time::{Duration, Instant},
};
use tokio::sync::mpsc;

/// Between two drawings of the bar.
const DRAWING: Duration = Duration::from_millis(100);
/// Its width, in characters.
const WIDTH: u64 = 24;
/// The label of the container that carries data out of the engine here.
pub(super) const LABEL: &str = "lattice.import";

/// Copies a volume, reads it back and compares.
pub(crate) async fn carry(
    ctx: &Context,
    engine: &Projects,
    project: &str,
    copy: &Copy,
    allocation: &AllocationView,
) -> anyhow::Result<Manifest> {
    let place = Place::Volume(&copy.volume);
    let mut bar = Bar::new(&format!("{}: copied", copy.volume), copy.bytes);
    let (parts, archive) = mpsc::channel(PARTS);
    let (seen, scanned) = mpsc::channel(PARTS);
    let scan = tokio::task::spawn_blocking(move || Manifest::read(Parts::new(scanned)));
    let read = async {
        let label = (LABEL, project);
        let mut source = match &copy.source {
            Source::Volume(name) => engine.read(name, label).await?,
            Source::Folder(path) => engine.read_folder(&path.to_string_lossy(), label).await?,
        };
        while let Some(bytes) = source.next().await {
            let bytes = bytes?;
            for part in bytes.chunks(PART) {
                bar.add(part.len());
                // Who takes no more says why himself.
                if seen.send(part.to_vec()).await.is_err() || parts.send(part.to_vec()).await.is_err() {
                    return anyhow::Ok(());
                }
            }
        }
        drop((seen, parts));
        Ok(())
    };
    let (read, sent) = tokio::join!(read, send(ctx, allocation, place, archive));
    // What could not be read here is the cause where both failed.
    read?;
    sent?;
    let source = scan.await??;
    bar.end();

    let mut bar = Bar::new(&format!("{}: read back", copy.volume), copy.bytes);
    let (parts, mut archive) = mpsc::channel::<Vec<u8>>(PARTS);
    let (seen, scanned) = mpsc::channel(PARTS);
    let scan = tokio::task::spawn_blocking(move || Manifest::read(Parts::new(scanned)));
    let counted = async {
        while let Some(part) = archive.recv().await {
            bar.add(part.len());
            if seen.send(part).await.is_err() {
                break;
            }
        }
        drop(seen);
    };
    let (fetched, ()) = tokio::join!(fetch(ctx, allocation, place, parts), counted);
    fetched?;
    let there = scan.await??;
    bar.end();
    if let Some(difference) = source.difference(&there) {
        let text = format!(
            "what is in the volume {} of the stack is not what is in {}: {difference}. Does something else write to one of them?",
            copy.volume, copy.source
        );
        return Err(CliError::Failed(text).into());
    }
    note(&format!(
        "  {}: {} files with {} are the same on both sides ({} entries compared)",
        copy.volume,
        source.files,
        Bytes(source.bytes),
        source.entries
    ));
    Ok(source)
}

/// How far it is: one line that is drawn anew on a terminal, and nothing elsewhere.
struct Bar {
    what: String,
    done: u64,
    total: Option<u64>,
    began: Instant,
    drawn: Option<Instant>,
    live: bool,
}

impl Bar {
    fn new(what: &str, total: Option<u64>) -> Self {
        let live =
            std::io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        Self { what: what.to_owned(), done: 0, total, began: Instant::now(), drawn: None, live }
    }

    fn add(&mut self, bytes: usize) {
        self.done += bytes as u64;
        if self.live && self.drawn.is_none_or(|at| at.elapsed() >= DRAWING) {
            self.drawn = Some(Instant::now());
            let line = line(&self.what, self.done, self.total, self.began.elapsed());
            terminal::note_raw(format!("\r\x1b[K{line}").as_bytes());
        }
    }

    fn end(&mut self) {
        if self.drawn.take().is_some() {
            terminal::note_raw(b"\r\x1b[K");
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.end();
    }
}

/// `  data: copied [######      ] 12 MiB of 20 MiB, 40 MiB/s`; an archive is a little larger
/// than what is in it.
fn line(what: &str, done: u64, total: Option<u64>, took: Duration) -> String {
    let speed = u128::from(done) * 1000 / took.as_millis().max(1);
    let speed = Bytes(u64::try_from(speed).unwrap_or(u64::MAX));
    match total.filter(|total| *total > 0) {
        Some(total) => {
            let full = usize::try_from(done.min(total) * WIDTH / total).unwrap_or(0);
            let bar = format!("{:width$}", "#".repeat(full), width = usize::try_from(WIDTH).unwrap_or(0));
            format!("  {what} [{bar}] {} of {}, {speed}/s", Bytes(done.min(total)), Bytes(total))
        }
        None => format!("  {what} {}, {speed}/s", Bytes(done)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_shows_how_far_it_is() {
        let second = Duration::from_secs(1);
        let mib = |n: u64| n << 20;
        assert_eq!(
            line("data: copied", mib(10), Some(mib(20)), second),
            "  data: copied [############            ] 10 MiB of 20 MiB, 10 MiB/s"
        );
        assert!(line("d", mib(30), Some(mib(20)), second).contains("20 MiB of 20 MiB"));
        assert_eq!(line("d", mib(30), None, Duration::from_secs(2)), "  d 30 MiB, 15 MiB/s");
    }
}
