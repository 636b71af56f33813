//! Images that are built here for somebody who has no engine: the context comes down the stream that the server
//! opened, output and what is lacking of the image go up.
//!
//! 1. What the owner does not allow, and what this machine does not do now, is refused with the reason, whatever a
//!    server says.
//! 2. The context is checked against its digest and judged as a tree, in a file without a name.
//! 3. The Dockerfile is read: the images that it begins from are what the owner runs, and are fetched here, so that
//!    they are noted as brought and go when nothing uses them. Each stage gets a label by which its leftovers are found.
//! 4. Its steps run on a network of their own, behind the rules that close the owner's network: those match its
//!    bridge by the beginning of its name, and are looked at before the engine is asked for anything.
//! 5. The image is taken apart and goes to the server as far as the project lacks it; then all of it is removed here.
//!
//! One build at a time. What an agent that was killed left is removed before the first.
//!
//! Rejected: the context as a tree that the goal names (a build is no goal, and the archive is never unpacked here);
//! keeping the engine's cache (it would be disk of the owner's that nobody accounts for, and one project could tell
//! from it what another one built).

use crate::{
    error::chain,
    facts::Machine,
    images::Images,
    lan::Fence,
    owner::{Lent, OwnerStatus},
};
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use lattice_image::{
    Dockerfile, ImageError, MAX_DOCKERFILE, OWN_DOCKERFILE, Pieces, SavedLayer, compress, split,
    without_label,
};
use lattice_link::{
    BulkReceiver, BulkSender, LinkError, Refusal, code,
    message::{BUILD_TIME, BuildRequest, BuildSaid, BuildWants, BulkEnd, BulkFrame, channel},
};
use lattice_model::{
    NetworkId, NodeId,
    container::{LABEL_BUILD, LABEL_NETWORK, LABEL_NODE},
    spec::{ImageDigest, TreeDigest, image_registry},
};
use lattice_runtime::{BuildConfig, BuildNews, PullProgress, Runtime, RuntimeError};
use sha2::{Digest as _, Sha256};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{self, BufReader, Seek as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::sync::{Mutex, mpsc, watch};
use tokio_util::io::{StreamReader, SyncIoBridge};
use tracing::{info, warn};

/// How long the server may take to answer what it lacks.
const ANSWER: Duration = Duration::from_secs(60);
/// How much of an archive waits for the engine, in pieces.
const PIECES: usize = 4;
/// Processes of one step.
const PIDS: u32 = 2048;
/// Between two attempts to remove what is left, while the engine does not answer.
const AGAIN: Duration = Duration::from_secs(10);

/// Why there is no image.
enum Failed {
    /// It is told.
    Said(Refusal),
    /// Nobody is there to be told.
    Link(LinkError),
}

impl From<LinkError> for Failed {
    fn from(error: LinkError) -> Self {
        Self::Link(error)
    }
}

impl From<RuntimeError> for Failed {
    fn from(error: RuntimeError) -> Self {
        let code = match error {
            RuntimeError::Unreachable { .. } | RuntimeError::Timeout { .. } => "engine_unreachable",
            _ => "engine_refused",
        };
        said(code, chain(&error), "")
    }
}

impl From<ImageError> for Failed {
    fn from(error: ImageError) -> Self {
        said("build_refused", chain(&error), "")
    }
}

fn said(code: &'static str, message: impl Into<String>, hint: &str) -> Failed {
    Failed::Said(Refusal::new(code, message, hint))
}

/// Builds images.
pub(crate) struct Builds {
    pub(crate) node: NodeId,
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) fence: Arc<Fence>,
    pub(crate) images: Arc<Images>,
    pub(crate) lent: watch::Receiver<Arc<Lent>>,
    pub(crate) owner: watch::Receiver<OwnerStatus>,
    pub(crate) machine: watch::Receiver<Machine>,
    /// Where contexts are kept while they are used, as files without a name.
    pub(crate) folder: PathBuf,
    /// One at a time; and none before what was left is gone.
    pub(crate) place: Arc<Mutex<()>>,
}

impl Builds {
    /// Removes what builds of an earlier agent left, as soon as the engine answers.
    pub(crate) async fn clear_leftovers(self: Arc<Self>) {
        let _alone = self.place.lock().await;
        loop {
            let left = self.runtime.builds_left(self.node).await;
            let cleared = self.runtime.clear_builds(self.node).await;
            match (left, cleared) {
                (Ok(left), Ok(())) => {
                    if left != lattice_runtime::BuildLeft::default() {
                        let (containers, images) = (left.containers.len(), left.images.len());
                        info!(containers, images, "what a build left is removed");
                    }
                    return;
                }
                (Err(error), _) | (_, Err(error)) => {
                    warn!(error = chain(&error), "what builds left is not removed yet");
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    }

    /// Why nothing is built for anybody now.
    fn refusal(&self, request: &BuildRequest) -> Option<Refusal> {
        let lent = Arc::clone(&self.lent.borrow());
        if !lent.builds() {
            return Some(Refusal::new(
                "owner_forbids",
                "the owner of this machine lets nobody build images here",
                "ask the owner (consent.builds in rules.toml), or build on another node",
            ));
        }
        if let Some(refusal) = self.stands_still() {
            return Some(refusal);
        }
        let policy = lent.policy(&self.machine.borrow());
        let why = policy.refuse_build(&request.project, &BTreeSet::new())?;
        Some(Refusal::new("owner_forbids", why, "ask the owner, or build on another node"))
    }

    /// Why work does not run now, as the owner's rules and buttons say.
    fn stands_still(&self) -> Option<Refusal> {
        let standing = self.owner.borrow().standing.clone();
        if standing.takes_work() {
            return None;
        }
        let why = standing.why.unwrap_or_else(|| "its owner needs it".to_owned());
        let text = format!("nothing is built on this machine now: {why}");
        Some(Refusal::new("suspended", text, "wait, or build on another node"))
    }

    /// Answers one request.
    pub(crate) async fn answer(
        &self,
        request: BuildRequest,
        send: &BulkSender,
        recv: &mut BulkReceiver,
    ) -> Result<BulkEnd, LinkError> {
        if let Some(refusal) = self.refusal(&request) {
            return Ok(BulkEnd::Failed(refusal));
        }
        let Ok(_alone) = self.place.try_lock() else {
            let text = "this node builds another image now, or clears up after one";
            return Ok(BulkEnd::Failed(Refusal::new(code::BUSY, text, "try again in a while")));
        };
        info!(project = %request.project, context = %request.context, "an image is built");
        let mut owner = self.owner.clone();
        let ended = tokio::select! {
            ended = tokio::time::timeout(BUILD_TIME, self.build(&request, send, recv)) => {
                ended.unwrap_or_else(|_| {
                    let text = format!("the build took longer than {} minutes and was ended", BUILD_TIME.as_secs() / 60);
                    Err(said("build_too_long", text, "make it shorter: fewer steps, or a base image that has more"))
                })
            }
            // The owner's word outranks what has begun.
            _ = owner.wait_for(|owner| owner.standing.stands_still()) => {
                let refusal = self.stands_still();
                Err(refusal.map_or_else(|| said("suspended", "the owner needs this machine", ""), Failed::Said))
            }
        };
        // Whatever happened. What cannot be removed now is before the next build, or by the next agent.
        if let Err(error) = self.runtime.clear_builds(self.node).await {
            warn!(error = chain(&error), "what a build left is not removed yet");
        }
        self.fence.network_made().await;
        match ended {
            Ok(()) => Ok(BulkEnd::Exit(0)),
            Err(Failed::Said(refusal)) => {
                info!(code = %refusal.code, "no image came of a build");
                Ok(BulkEnd::Failed(refusal))
            }
            Err(Failed::Link(error)) => Err(error),
        }
    }

    async fn build(
        &self,
        request: &BuildRequest,
        send: &BulkSender,
        recv: &mut BulkReceiver,
    ) -> Result<(), Failed> {
        let context = self.context(request, recv).await?;
        let (context, dockerfile) = self.judged(request, context).await?;
        let policy = self.lent.borrow().policy(&self.machine.borrow());
        if let Some(why) = policy.refuse_build(&request.project, &dockerfile.bases) {
            return Err(said("owner_forbids", why, "ask the owner, or build on another node"));
        }
        // From here on whoever asked may go away at any moment, and then it ends.
        let built = tokio::select! {
            built = self.made(request, &dockerfile, context, send) => built?,
            gone = gone(recv) => return Err(gone),
        };
        let seen = self.runtime.image(&built).await?;
        let seen =
            seen.ok_or_else(|| said("engine_refused", "the engine built an image and has none", ""))?;
        let text = json(&BuildSaid::Built { layers: seen.layers })?;
        send.data(channel::CONTROL, text).await?;
        let wants = tokio::time::timeout(ANSWER, wants(recv)).await;
        let wants =
            wants.map_err(|_| said("server_silent", "the server did not say what it lacks", ""))??;
        tokio::select! {
            sent = self.hand_over(&built, wants, send) => sent,
            gone = gone(recv) => Err(gone),
        }
    }

    /// Takes in the context, up to its size, and no other.
    async fn context(&self, request: &BuildRequest, recv: &mut BulkReceiver) -> Result<fs::File, Failed> {
        let disk = |error: io::Error| {
            said("disk", format!("this machine cannot keep what the image is built from: {error}"), "")
        };
        let max = request.bytes.min(lattice_tree::MAX_BYTES);
        let mut file = nameless(&self.folder).map_err(disk)?;
        let (mut hash, mut came) = (Sha256::new(), 0);
        loop {
            match recv.recv().await? {
                Some(BulkFrame::Data { channel: channel::STDIN, bytes }) => {
                    came += bytes.len() as u64;
                    if came > max {
                        let text = format!("more came to build from than the {max} bytes that were said");
                        return Err(said("too_large", text, ""));
                    }
                    hash.update(&bytes);
                    file.write_all(&bytes).map_err(disk)?;
                }
                Some(BulkFrame::End(channel::STDIN)) => break,
                Some(BulkFrame::Close(_)) | None => return Err(ended()),
                Some(_) => {}
            }
        }
        if TreeDigest::from_sha256(hash.finalize().into()) != request.context {
            return Err(said("mismatch", "what came to build from is not what was named", "deploy again"));
        }
        file.rewind().map_err(disk)?;
        Ok(file)
    }

    /// Judges the archive, and reads its Dockerfile.
    async fn judged(
        &self,
        request: &BuildRequest,
        mut file: fs::File,
    ) -> Result<(fs::File, Dockerfile), Failed> {
        let (name, args, target) = (request.dockerfile.clone(), request.args.clone(), request.target.clone());
        let judging = tokio::task::spawn_blocking(move || {
            let path = Path::new(&name);
            let read = lattice_tree::read_file(BufReader::new(&file), path, MAX_DOCKERFILE);
            let text = read.map_err(|error| said("build_refused", chain(&error), ""))?;
            let text = text.ok_or_else(|| {
                said(
                    "build_refused",
                    format!("there is no {name} in what came to build from"),
                    "check its name",
                )
            })?;
            file.rewind().map_err(|error| said("disk", error.to_string(), ""))?;
            Ok((file, Dockerfile::read(&text, &args, target.as_deref())?))
        });
        judging.await.unwrap_or_else(|_| Err(said("build_refused", "reading the context ended early", "")))
    }

    /// Builds; what the engine calls the image.
    async fn made(
        &self,
        request: &BuildRequest,
        dockerfile: &Dockerfile,
        context: fs::File,
        send: &BulkSender,
    ) -> Result<String, Failed> {
        for base in &dockerfile.bases {
            self.bring(request, base, send).await?;
        }
        let network = match request.network {
            true => Some(self.network().await?),
            false => None,
        };
        self.fence.gate().await.map_err(|why| said("lan_not_closed", why, "build on another node"))?;
        let capacity = self.lent.borrow().capacity(&self.machine.borrow());
        let config = BuildConfig {
            node: self.node,
            dockerfile: OWN_DOCKERFILE.to_owned(),
            target: request.target.clone(),
            args: request.args.clone(),
            labels: request.labels.clone(),
            platform: request.platform.clone(),
            network,
            extra_hosts: request.extra_hosts.clone(),
            cpu: request.cpu.min(capacity.cpu),
            memory: request.memory.min(capacity.memory),
            pids: PIDS,
            shm: request.shm,
            no_cache: true,
        };
        let text = dockerfile.marked(LABEL_BUILD, &self.node.to_string());
        let parts = marked(context, text);
        let mut news = self.runtime.build(&config, parts).await?;
        while let Some(word) = news.next().await {
            match word? {
                BuildNews::Said(text) => send.data(channel::STDOUT, text).await?,
                BuildNews::Built(id) => return Ok(id),
                BuildNews::Failed { code: Some(code), message } => {
                    let text = format!("a step of the Dockerfile ended with code {code}: {message}");
                    return Err(said(
                        "step_failed",
                        text,
                        "what it said last is above; correct it, then deploy again",
                    ));
                }
                BuildNews::Failed { code: None, message } => {
                    let hint = match message.contains("BuildKit") {
                        true => {
                            "a node builds with the engine's own builder: leave that out, or build where a Docker with BuildKit is (`--build-on local`)"
                        }
                        false => "correct it, then deploy again",
                    };
                    return Err(said("build_failed", format!("the image was not built: {message}"), hint));
                }
            }
        }
        Err(said("engine_unreachable", "the engine ended the build without a word", "deploy again"))
    }

    /// An image that the Dockerfile begins from.
    async fn bring(&self, request: &BuildRequest, base: &str, send: &BulkSender) -> Result<(), Failed> {
        let platform = request.platform.as_deref();
        let there = self.runtime.image(base).await?;
        let fits =
            |seen: &lattice_runtime::ImageSeen| platform.is_none_or(|platform| seen.platform == platform);
        // What came from no registry is not there again for anybody who asks one.
        let own = there.as_ref().is_some_and(|seen| seen.digests.is_empty());
        if there.as_ref().is_some_and(fits) && (own || !request.pull) {
            return Ok(());
        }
        send.data(channel::STDOUT, format!("fetching {base} …\n").into()).await?;
        let before =
            self.images.coming(base).await.map_err(|error| said("engine_refused", chain(&error), ""))?;
        let login = request.logins.get(image_registry(base));
        let progress = watch::Sender::new(PullProgress::default());
        match self.runtime.pull(base, platform, login, progress).await {
            Ok(()) => {
                self.images.pulled(base, before).await;
                Ok(())
            }
            Err(error) => {
                self.images.failed(base).await;
                Err(error.into())
            }
        }
    }

    /// A network for the steps, on a bridge that the rules of the firewall match.
    async fn network(&self) -> Result<String, Failed> {
        let random = crate::clock::random_wide();
        let id = NetworkId::from_random(random);
        let labels = [
            (LABEL_NODE, self.node.to_string()),
            (LABEL_NETWORK, id.to_string()),
            (LABEL_BUILD, self.node.to_string()),
        ];
        let labels: BTreeMap<String, String> = labels.map(|(key, value)| (key.to_owned(), value)).into();
        let name = format!("lattice-build-{}", id.short());
        let made = self.runtime.create_network(&name, false, &labels).await;
        self.fence.network_made().await;
        made?;
        Ok(name)
    }

    /// Sends the layers that are wanted, then the configuration.
    async fn hand_over(
        &self,
        image: &str,
        wanted: BTreeSet<ImageDigest>,
        send: &BulkSender,
    ) -> Result<(), Failed> {
        let saved = self.runtime.save(image).await?;
        let reader = StreamReader::new(saved.map_err(|error| io::Error::other(chain(&error))).boxed());
        let (layers, mut queue) = mpsc::channel::<SavedLayer>(1);
        let bridge = SyncIoBridge::new(reader);
        let splitting = tokio::task::spawn_blocking(move || {
            let given_up = || ImageError::Missing { what: "reader any more".into() };
            split(bridge, &wanted, &mut |layer| layers.blocking_send(layer).map_err(|_| given_up()))
        });
        while let Some(SavedLayer { digest, size, file }) = queue.recv().await {
            send.data(channel::CONTROL, json(&BuildSaid::Layer { digest })?).await?;
            let (pieces, mut ready) = mpsc::channel::<io::Result<Bytes>>(PIECES);
            let packing = tokio::task::spawn_blocking(move || {
                let mut out = Pieces::new(|piece| pieces.blocking_send(piece).is_ok());
                compress(file, size, &mut out)
            });
            while let Some(piece) = ready.recv().await {
                let piece = piece.map_err(|error| said("engine_refused", error.to_string(), ""))?;
                send.data(channel::LAYER, piece).await?;
            }
            packing.await.map_err(|_| said("engine_refused", "compressing a layer ended early", ""))??;
            send.end(channel::LAYER).await?;
        }
        let saved =
            splitting.await.map_err(|_| said("engine_refused", "saving the image ended early", ""))??;
        let config = without_label(&saved.json, LABEL_BUILD)?;
        send.data(channel::CONFIG, config.into()).await?;
        send.end(channel::CONFIG).await?;
        Ok(())
    }
}

/// A file that goes when it is closed, or whoever has it open ends.
fn nameless(folder: &Path) -> io::Result<fs::File> {
    crate::home::make_private(folder).map_err(io::Error::other)?;
    let path = folder.join(format!("context-{:032x}", crate::clock::random_wide()));
    let file = fs::OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
    fs::remove_file(&path)?;
    Ok(file)
}

/// The context with the marked Dockerfile, which the engine leaves out of what is copied.
fn marked(context: fs::File, dockerfile: String) -> futures::stream::BoxStream<'static, io::Result<Bytes>> {
    let (pieces, queue) = mpsc::channel::<io::Result<Bytes>>(PIECES);
    tokio::task::spawn_blocking(move || {
        let mut out = Pieces::new(|piece| pieces.blocking_send(piece).is_ok());
        let done = (|| {
            let mut context = context;
            let ignore = Path::new(".dockerignore");
            let before = lattice_tree::read_file(BufReader::new(&context), ignore, MAX_DOCKERFILE)?;
            let rewound = context.rewind();
            rewound.map_err(lattice_tree::TreeError::Unreadable)?;
            let mut text = before.unwrap_or_else(|| b".dockerignore".to_vec());
            text.extend_from_slice(format!("\n{OWN_DOCKERFILE}\n").as_bytes());
            let files =
                [(PathBuf::from(OWN_DOCKERFILE), dockerfile.into_bytes()), (ignore.to_owned(), text)].into();
            lattice_tree::with_files(BufReader::new(context), &files, &mut out)
        })();
        if let Err(error) = done {
            // So that the engine takes what it has got for damaged.
            out.fail(chain(&error));
        }
    });
    futures::stream::unfold(queue, async |mut queue| queue.recv().await.map(|next| (next, queue))).boxed()
}

fn json(word: &BuildSaid) -> Result<Bytes, Failed> {
    let text = serde_json::to_vec(word).map_err(|error| said("engine_refused", error.to_string(), ""))?;
    Ok(text.into())
}

fn ended() -> Failed {
    Failed::Link(LinkError::Closed(lattice_link::CloseReason::ByPeer))
}

/// What the server lacks.
async fn wants(recv: &mut BulkReceiver) -> Result<BTreeSet<ImageDigest>, Failed> {
    loop {
        match recv.recv().await? {
            Some(BulkFrame::Data { channel: channel::CONTROL, bytes }) => {
                let BuildWants { layers } = serde_json::from_slice(&bytes).map_err(|error| {
                    said("malformed", format!("the server is not understood: {error}"), "")
                })?;
                return Ok(layers);
            }
            Some(BulkFrame::Close(_)) | None => return Err(ended()),
            Some(_) => {}
        }
    }
}

/// Waits until whoever asked goes away.
async fn gone(recv: &mut BulkReceiver) -> Failed {
    loop {
        match recv.recv().await {
            Ok(Some(BulkFrame::Close(_)) | None) => return ended(),
            Ok(Some(_)) => {}
            Err(error) => return error.into(),
        }
    }
}
