//! Brings an uploaded image to the engine: its configuration first, then those layers that the engine
//! does not have under the same layers already, straight into an archive that the engine takes in.
//!
//! What is checked: the configuration against the image's id, here; each layer against the digest that
//! the configuration names, by the engine, which takes in no other; and in the end that the engine has
//! an image of that id, or, where it keeps images in containerd and calls them otherwise, of exactly
//! those layers.

use super::{Images, part::Coming, part::part};
use crate::{AgentError, error::Result, home::make_private};
use bytes::Bytes;
use futures::StreamExt as _;
use lattice_image::{Config, MAX_CONFIG, MAX_LAYER, Part, Pieces, archive, known_layers, loaded_name};
use lattice_link::{
    LinkError, Refusal,
    client::{BulkDialer, TreeReader},
    code,
    message::ImagePartRequest,
};
use lattice_model::spec::ImageDigest;
use lattice_runtime::{PullProgress, RuntimeError};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt as _,
    path::PathBuf,
    time::Duration,
};
use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};
use tracing::{info, warn};

/// How long the server may say nothing.
const IDLE: Duration = Duration::from_secs(30);
/// How often what broke off is taken up again before it counts as a failure.
const ATTEMPTS: u32 = 4;
/// Between two of these.
const PAUSE: Duration = Duration::from_millis(500);
/// How much of an archive waits for the engine, in pieces.
const PIECES: usize = 4;

impl Images {
    /// Brings an image, unless it is there; `name` is what people call it.
    ///
    /// # Errors
    /// [`AgentError`]: the server does not give it, or the engine does not take it.
    pub(crate) async fn fetch(
        &self,
        image: ImageDigest,
        name: &str,
        progress: watch::Sender<PullProgress>,
    ) -> Result<()> {
        if self.runtime.image(&image.to_string()).await?.is_some() {
            return Ok(());
        }
        let name = loaded_name(name, image);
        make_private(&self.folder)?;
        let json = self.config(image).await?;
        let config = Config::read(&json)?;
        if self.loaded(image, &name, &config).await? {
            return Ok(());
        }
        let chains: Vec<_> = self.runtime.images().await?.into_iter().map(|image| image.layers).collect();
        let known = known_layers(&config.layers, &chains);
        info!(%image, name, layers = config.layers.len(), known, "fetches an image from the server");
        self.note(&name, &image.to_string(), lattice_model::Bytes(0));
        let came = self.take_in(image, &name, &json, &config, known, progress).await;
        if came.is_err() {
            self.failed(&name).await;
        }
        came
    }

    async fn take_in(
        &self,
        image: ImageDigest,
        name: &str,
        json: &[u8],
        config: &Config,
        known: usize,
        progress: watch::Sender<PullProgress>,
    ) -> Result<()> {
        match self.bring(image, name, json, config, known, &progress).await {
            // An engine that keeps images in containerd wants all layers.
            Err(AgentError::Runtime(RuntimeError::Refused { what, message })) if known > 0 => {
                warn!(%image, what, message, "the engine wants all layers of an image");
                self.bring(image, name, json, config, 0, &progress)
                    .await
                    .inspect_err(|error| self.doubt(error, config))?;
            }
            other => other.inspect_err(|error| self.doubt(error, config))?,
        }
        if !self.loaded(image, name, config).await? {
            return Err(AgentError::Misfit { problem: "the engine took in an image and has another one" });
        }
        let size = self.runtime.image(name).await?.map_or(lattice_model::Bytes(0), |seen| seen.size);
        self.note(name, &image.to_string(), size);
        for layer in &config.layers {
            let _ = fs::remove_file(self.place(*layer));
        }
        Ok(())
    }

    fn place(&self, layer: ImageDigest) -> PathBuf {
        self.folder.join(format!("{}.zst", layer.hex()))
    }

    /// Whether the engine has it: by its id, or under its name with exactly its layers.
    async fn loaded(&self, image: ImageDigest, name: &str, config: &Config) -> Result<bool> {
        if self.runtime.image(&image.to_string()).await?.is_some() {
            return Ok(true);
        }
        match self.runtime.image(name).await? {
            Some(seen) if seen.layers == config.layers && !seen.layers.is_empty() => {
                self.engine_ids.lock().insert(image, seen.id);
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// What the engine did not take may be a layer that was gone on with from another upload's frame.
    fn doubt(&self, error: &AgentError, config: &Config) {
        if matches!(error, AgentError::Runtime(RuntimeError::Refused { .. })) {
            for layer in &config.layers {
                let _ = fs::remove_file(self.place(*layer));
            }
        }
    }

    fn dialer(&self) -> Result<&BulkDialer> {
        self.bulk.get().ok_or(AgentError::Misfit { problem: "an image is fetched before there is a link" })
    }

    async fn config(&self, image: ImageDigest) -> Result<Vec<u8>> {
        let request = ImagePartRequest { image, layer: None, offset: 0 };
        let mut reader =
            timeout(IDLE, self.dialer()?.fetch_image_part(request)).await.map_err(|_| silent())??;
        if reader.size() > MAX_CONFIG as u64 {
            return Err(AgentError::Misfit { problem: "an image with too large a configuration" });
        }
        let mut json = Vec::new();
        while let Some(bytes) = timeout(IDLE, reader.next()).await.map_err(|_| silent())?? {
            json.extend_from_slice(&bytes);
        }
        match ImageDigest::of(&json) == image {
            true => Ok(json),
            false => Err(AgentError::Misfit { problem: "an image with another digest than the goal names" }),
        }
    }

    /// Fetches what is lacking and gives it to the engine at the same time.
    async fn bring(
        &self,
        image: ImageDigest,
        name: &str,
        json: &[u8],
        config: &Config,
        known: usize,
        progress: &watch::Sender<PullProgress>,
    ) -> Result<()> {
        let lacking: BTreeSet<ImageDigest> = config.layers[known..].iter().copied().collect();
        let mut parts: BTreeMap<ImageDigest, Part> = BTreeMap::new();
        let mut coming = Vec::new();
        // Fetched in the order in which the archive has them.
        for layer in lacking {
            let path = self.place(layer);
            let (writer, reader) = part(path.clone());
            parts.insert(layer, Box::new(reader));
            coming.push((layer, path, writer));
        }
        let (pieces, queue) = mpsc::channel::<io::Result<Bytes>>(PIECES);
        let (json, layers, name) = (json.to_vec(), config.layers.clone(), name.to_owned());
        tokio::task::spawn_blocking(move || {
            let mut out = Pieces::new(|piece| pieces.blocking_send(piece).is_ok());
            if let Err(error) = archive(&json, &name, &layers, parts, &mut out) {
                // So that the engine takes what it has got for damaged.
                out.fail(error);
            }
        });
        let stream =
            futures::stream::unfold(queue, async |mut queue| queue.recv().await.map(|next| (next, queue)));
        let fetched = self.layers(image, coming, progress);
        let loaded = async { self.runtime.load(stream.boxed()).await.map_err(AgentError::from) };
        // Whichever fails ends the other.
        tokio::try_join!(fetched, loaded).map(|_| ())
    }

    async fn layers(
        &self,
        image: ImageDigest,
        coming: Vec<(ImageDigest, PathBuf, Coming)>,
        progress: &watch::Sender<PullProgress>,
    ) -> Result<()> {
        progress.send_modify(|far| far.layers = u32::try_from(coming.len()).unwrap_or(u32::MAX));
        for (layer, path, writer) in coming {
            let mut attempt = 1;
            let mut told = 0;
            loop {
                match self.receive(image, layer, &path, &writer, progress, &mut told).await {
                    Ok(()) => break,
                    Err(error) if attempt >= ATTEMPTS || !passing(&error) => return Err(error),
                    Err(error) => {
                        let error = crate::error::chain(&error);
                        warn!(%layer, attempt, error, "fetching a layer broke off; it goes on");
                    }
                }
                tokio::time::sleep(PAUSE * attempt).await;
                attempt += 1;
            }
            writer.whole();
            progress.send_modify(|far| far.layers_done += 1);
        }
        Ok(())
    }

    /// Fetches what is missing of a layer.
    async fn receive(
        &self,
        image: ImageDigest,
        layer: ImageDigest,
        path: &std::path::Path,
        writer: &Coming,
        progress: &watch::Sender<PullProgress>,
        told: &mut u64,
    ) -> Result<()> {
        let failed = |source| AgentError::file("write", path)(source);
        let mut file =
            fs::OpenOptions::new().append(true).create(true).mode(0o600).open(path).map_err(failed)?;
        let mut here = file.metadata().map_err(failed)?.len();
        let request = ImagePartRequest { image, layer: Some(layer), offset: here };
        let reader = timeout(IDLE, self.dialer()?.fetch_image_part(request)).await.map_err(|_| silent())?;
        let mut reader: TreeReader = match reader {
            Ok(reader) => reader,
            Err(error) => {
                // What is here may be of another upload, and longer.
                let _ = fs::remove_file(path);
                return Err(error.into());
            }
        };
        // A frame of what does not compress is a little larger than that.
        if reader.size() > MAX_LAYER + (MAX_LAYER >> 7) {
            return Err(AgentError::Misfit { problem: "a layer that is too large" });
        }
        let size = reader.size();
        progress.send_modify(|far| {
            far.total += size.saturating_sub(*told);
            far.current += here.saturating_sub(*told);
        });
        *told = size;
        writer.here(here);
        while let Some(bytes) = timeout(IDLE, reader.next()).await.map_err(|_| silent())?? {
            file.write_all(&bytes).map_err(failed)?;
            here += bytes.len() as u64;
            writer.here(here);
            progress.send_modify(|far| far.current = (far.current + bytes.len() as u64).min(far.total));
        }
        Ok(())
    }
}

fn silent() -> AgentError {
    LinkError::Closed(lattice_link::CloseReason::Silent).into()
}

/// Whether the next moment may be better.
fn passing(error: &AgentError) -> bool {
    match error {
        AgentError::Link(LinkError::Refused(Refusal { code, .. })) => code != code::IMAGE_UNKNOWN,
        AgentError::Link(_) => true,
        _ => false,
    }
}
