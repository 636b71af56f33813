//! Images that a node builds, for somebody who has no engine.
//!
//! The context is a tree of the project. The scheduler picks a node of the pool, which gets the archive down a stream
//! of its own and answers with output, then with the layers that the project lacks, each taken in as an upload of
//! whoever asked: checked, whole, within the quota. Closing the request ends the build, and so does the end of the
//! right to it.
//!
//! The same context with the same words is built once: the image of the first time is given again while the project
//! has it, or every deployment would replace its containers.
//!
//! One build at a time for each project, [`MOST`] in all; each lasts [`WHOLE`] at the most.
//!
//! Rejected: a build as a row that the planner places (nobody waits for one whose developer has gone away); an image
//! that goes from the node to the others without the server (what arrives is to be checked, and to stay).

use super::{
    error::{ApiError, invalid, not_found},
    extract::{Body as Json, Names},
    images::{lacking, take_image, take_layer, there, view},
    principal::Principal,
    projects,
};
use crate::{
    clock,
    gateway::streams::open,
    rows::{self, image_id, tree_id},
    state::{
        Core,
        open::{Needs, Place, cut_off},
    },
};
use axum::{
    body::{Body, Bytes},
    extract::{Extension, State},
    http::header,
    response::{IntoResponse, Response},
};
use futures::StreamExt as _;
use lattice_api::{BuildRecord, BuildStart, ErrorBody, ErrorCode, ImageView, MAX_IMAGE_CONFIG_BYTES};
use lattice_identity::{Object, Permission};
use lattice_image::Config;
use lattice_link::{
    BulkChannel, BulkReceiver, BulkSender, Refusal, code,
    message::{
        BUILD_TIME, BUILDS, BuildRequest, BuildSaid, BuildWants, BulkEnd, BulkFrame, StreamRequest, channel,
    },
};
use lattice_model::{
    Bytes as Size, Cpu, NodeId, NodeName, ProjectName,
    spec::{ImageDigest, TreeDigest, image_registry},
};
use lattice_planner::{BuildAsk, place_build};
use lattice_store::Transaction;
use parking_lot::Mutex;
use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    io,
    sync::Arc,
    time::Duration,
};
use tokio::sync::mpsc;

/// How many builds run at the same time.
const MOST: usize = 16;
/// All of one: what an agent takes, and finding it.
const WHOLE: Duration = BUILD_TIME.saturating_add(Duration::from_secs(120));
/// What has to be free on a node.
const FREE: (Cpu, Size) = (Cpu(500), Size::from_mib(512));
/// What its steps may use.
const USE: (Cpu, Size) = (Cpu(4000), Size::from_mib(2048));
/// How many nodes are asked, where one after the other refuses.
const TRIES: usize = 3;
/// Records that wait for a slow reader; behind them the build waits.
const RECORDS: usize = 16;
/// Frames of a layer that wait for the disk.
const FRAMES: usize = 4;
/// The most of an agent's word.
const MAX_WORD: usize = 32 << 10;
/// The most of the context, names and so on aside, that a request may say.
const MAX_NAMES: usize = 256;

/// Who builds now, on this server.
#[derive(Default)]
pub(crate) struct Builds(Mutex<BTreeMap<ProjectName, Option<NodeId>>>);

/// A project's place; dropping it gives it back.
struct Turn {
    core: Arc<Core>,
    project: ProjectName,
}

impl Turn {
    fn take(core: &Arc<Core>, project: &ProjectName) -> Result<Self, ErrorBody> {
        let mut all = core.live.builds.0.lock();
        let busy = |text: String| {
            let hint = "wait for it to end, then deploy again";
            Err(ErrorBody::new(ErrorCode::TooManyRequests, text, hint)
                .retry_after(lattice_model::Duration::from_secs(10)))
        };
        if all.contains_key(project) {
            return busy(format!(
                "an image of project {project} is being built already, and one is at a time"
            ));
        }
        if all.len() >= MOST {
            return busy(format!("{MOST} images are being built, which is the most"));
        }
        all.insert(project.clone(), None);
        Ok(Self { core: Arc::clone(core), project: project.clone() })
    }

    fn on(&self, node: NodeId) {
        self.core.live.builds.0.lock().insert(self.project.clone(), Some(node));
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.core.live.builds.0.lock().remove(&self.project);
    }
}

fn check(start: &BuildStart) -> Result<(), ErrorBody> {
    let BuildStart { dockerfile, target, args, labels, platform, extra_hosts, bases, .. } = start;
    let inside = !dockerfile.is_empty()
        && dockerfile.len() <= 4096
        && !dockerfile.starts_with('/')
        && !dockerfile.contains('\0')
        && !dockerfile.split('/').any(|part| part == "..");
    if !inside {
        return Err(invalid(
            "the Dockerfile is not inside of what is built from",
            "name it by its path there",
        ));
    }
    let short = |text: &String| text.len() <= 256;
    let few = args.len().max(labels.len()).max(extra_hosts.len()).max(bases.len()) <= MAX_NAMES;
    if !few || !target.iter().chain(platform).all(short) {
        let text = format!(
            "the build says more than {MAX_NAMES} arguments, labels, hosts or images, or a name is too long"
        );
        return Err(invalid(text, "say less"));
    }
    if labels.keys().any(|label| label.starts_with("lattice.")) {
        return Err(invalid("labels that begin with lattice. are Lattice's own", "choose other names"));
    }
    Ok(())
}

/// The digest of all that an image depends on, as far as it is known before.
fn key(start: &BuildStart) -> String {
    let BuildStart {
        context,
        dockerfile,
        target,
        args,
        labels,
        platform,
        no_network,
        extra_hosts,
        shm_bytes,
        pull: _,
        no_cache: _,
        bases: _,
        pool,
        node: _,
    } = start;
    let all = serde_json::json!([
        context,
        dockerfile,
        target,
        args,
        labels,
        platform,
        no_network,
        extra_hosts,
        shm_bytes,
        pool.to_string()
    ]);
    TreeDigest::of(all.to_string().as_bytes()).to_string()
}

pub(crate) async fn build(
    State(core): State<Arc<Core>>,
    Extension(who): Extension<Principal>,
    parts: Names,
    Json(start): Json<BuildStart>,
) -> Result<Response, ApiError> {
    let project: ProjectName = parts.get("project")?;
    check(&start)?;
    let snapshot = core.snapshot();
    projects::must_exist(&snapshot, &project)?;
    let Some(tree) = snapshot.trees.get(&tree_id(&project, start.context)) else {
        return Err(not_found("tree", &start.context.to_string(), "lattice deploy").into());
    };
    let bytes = tree.bytes;
    let turn = Turn::take(&core, &project)?;
    let needs = Needs::Right(Permission::StackChange, Object::Project(project.clone()));
    let place = core.live.open.admit(&who, needs)?;
    let (records, receiver) = mpsc::channel::<BuildRecord>(RECORDS);
    tokio::spawn(async move {
        let job = Job { core, who, project, start, bytes, records: records.clone(), turn };
        let last = tokio::select! {
            () = records.closed() => return tracing::info!(project = %job.project, "a build is given up: whoever asked went away"),
            last = job.run(&place) => last,
        };
        let last = last.unwrap_or_else(|ApiError(error)| BuildRecord::Failed { error });
        let _ = records.send(last).await;
    });
    let body = futures::stream::unfold(receiver, |mut receiver| async move {
        let mut line = serde_json::to_vec(&receiver.recv().await?).unwrap_or_default();
        line.push(b'\n');
        Some((Ok::<_, Infallible>(Bytes::from(line)), receiver))
    });
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(body)).into_response())
}

/// One build.
struct Job {
    core: Arc<Core>,
    who: Principal,
    project: ProjectName,
    start: BuildStart,
    bytes: u64,
    records: mpsc::Sender<BuildRecord>,
    turn: Turn,
}

/// Why a node did not build.
enum Ended {
    /// Another one may.
    Refused(ErrorBody),
    Failed(ApiError),
}

impl<E: Into<ApiError>> From<E> for Ended {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

impl Job {
    async fn run(&self, place: &Place) -> Result<BuildRecord, ApiError> {
        let work = async {
            let key = key(&self.start);
            if let Some(image) = self.built_before(&key).await? {
                return Ok(BuildRecord::Done { image, reused: true });
            }
            let mut tried = BTreeSet::new();
            loop {
                let node = self.place(&tried).await?;
                tried.insert(node);
                self.turn.on(node);
                match self.on(node, &key).await {
                    Ok(image) => return Ok(BuildRecord::Done { image, reused: false }),
                    Err(Ended::Failed(error)) => return Err(error),
                    Err(Ended::Refused(error)) if tried.len() >= TRIES || self.start.node.is_some() => {
                        return Err(error.into());
                    }
                    Err(Ended::Refused(error)) => {
                        self.say(format!("{}; another node is asked\n", error.message)).await;
                    }
                }
            }
        };
        tokio::select! {
            ended = tokio::time::timeout(WHOLE, work) => ended.unwrap_or_else(|_| {
                let text = format!("the build took longer than {} minutes and was ended", WHOLE.as_secs() / 60);
                Err(ErrorBody::new(ErrorCode::Conflict, text, "make it shorter, or build elsewhere").into())
            }),
            () = place.cut.cancelled() => Err(cut_off().into()),
        }
    }

    async fn say(&self, text: String) {
        let _ = self.records.send(BuildRecord::Output { text }).await;
    }

    /// The image that was built of the same before, where the project has it wholly.
    async fn built_before(&self, key: &str) -> Result<Option<ImageView>, ErrorBody> {
        if self.start.pull || self.start.no_cache {
            return Ok(None);
        }
        let snapshot = self.core.snapshot();
        let same = |row: &&lattice_planner::Row<rows::ImageRow>| {
            row.project == self.project && row.built_of.as_deref() == Some(key)
        };
        let Some(row) = snapshot.images.values().filter(same).max_by_key(|row| row.uploaded_at) else {
            return Ok(None);
        };
        let whole = lacking(&self.core, &snapshot, row).await?.is_none();
        Ok(whole.then(|| view(&snapshot, row)))
    }

    /// Picks a node, says so and writes it down.
    async fn place(&self, tried: &BTreeSet<NodeId>) -> Result<NodeId, ApiError> {
        let snapshot = self.core.snapshot();
        let wanted = match &self.start.node {
            Some(name) => Some(self.named(name)?),
            None => None,
        };
        let busy: BTreeSet<NodeId> = self.core.live.builds.0.lock().values().flatten().copied().collect();
        let can = |id: &NodeId| self.core.live.session(*id).is_some_and(|session| session.can(BUILDS));
        let able = snapshot.cluster.nodes.keys().copied();
        let able = able.filter(|id| can(id) && !tried.contains(id) && !busy.contains(id)).collect();
        let (cpu, memory) = FREE;
        let ask = BuildAsk {
            project: self.project.clone(),
            pools: self.start.pool.clone(),
            node: wanted,
            platform: self.start.platform.clone(),
            cpu,
            memory,
            able,
        };
        let picked = place_build(
            &mut self.core.live.foresight.ledger(),
            &snapshot.cluster,
            &self.core.config.planning,
            clock::now(),
            &ask,
        );
        let (node, why) = picked.map_err(|(why, hint)| {
            ErrorBody::new(ErrorCode::Conflict, format!("no node builds the image: {why}"), hint)
        })?;
        let name = snapshot.cluster.nodes.get(&node).map(|row| row.name.clone());
        let name = name.ok_or_else(|| not_found("node", &node.to_string(), "lattice node ls"))?;
        let details = format!("{} of {} on {name}", self.start.dockerfile, self.start.context.short());
        let audit = self.who.audit("image.build", self.project.to_string(), &details);
        let written = self.core.store.apply(Transaction::new([rows::create(&audit)])).await;
        written.map_err(|error| crate::state::core::store_refusal(&error))?;
        let _ = self.records.send(BuildRecord::Placed { node: name, why }).await;
        Ok(node)
    }

    fn named(&self, name: &NodeName) -> Result<NodeId, ErrorBody> {
        let snapshot = self.core.snapshot();
        let row = snapshot.cluster.nodes.values().find(|row| row.name == *name);
        row.map(|row| row.id).ok_or_else(|| not_found("node", name.as_str(), "lattice node ls"))
    }

    fn request(&self) -> BuildRequest {
        let start = &self.start;
        let snapshot = self.core.snapshot();
        let login = |base: &String| {
            let login = super::pins::login(&self.core, &snapshot, &self.project, base)?;
            Some((image_registry(base).to_owned(), login))
        };
        let (cpu, memory) = USE;
        BuildRequest {
            project: self.project.clone(),
            context: start.context,
            bytes: self.bytes,
            dockerfile: start.dockerfile.clone(),
            target: start.target.clone(),
            args: start.args.clone(),
            labels: start.labels.clone(),
            platform: start.platform.clone(),
            network: !start.no_network,
            extra_hosts: start.extra_hosts.clone(),
            shm: start.shm_bytes.map(Size),
            pull: start.pull,
            cpu,
            memory,
            logins: start.bases.iter().filter_map(login).collect(),
        }
    }

    async fn on(&self, node: NodeId, key: &str) -> Result<ImageView, Ended> {
        let BulkChannel { send, mut recv } =
            open(&self.core, node, StreamRequest::Build(self.request())).await.map_err(Ended::Refused)?;
        let layers = {
            let given = self.give(&send);
            let output = self.output(&mut recv);
            tokio::pin!(given, output);
            // Both ways at once: a node that refuses takes no more of the context.
            tokio::select! {
                layers = &mut output => layers?,
                given = &mut given => {
                    given?;
                    output.await?
                }
            }
        };
        let mut wants = BTreeSet::new();
        for layer in &layers {
            let known = self.core.snapshot().layers.contains_key(&image_id(&self.project, *layer));
            if !known || !there(&self.core, *layer).await? {
                wants.insert(*layer);
            }
        }
        let words = serde_json::to_vec(&BuildWants { layers: wants.clone() }).unwrap_or_default();
        send.data(channel::CONTROL, words.into()).await.map_err(broken)?;
        self.take(&mut recv, &wants, key).await
    }

    /// Gives the node what it builds from.
    async fn give(&self, send: &BulkSender) -> Result<(), Ended> {
        let gone = |why: String| {
            let text = format!("the server does not have what is to be built from any more{why}");
            ErrorBody::new(ErrorCode::MissingTrees, text, "deploy again")
        };
        let read = self.core.blobs.read(self.start.context, 0).await;
        let (_, mut body) = match read {
            Ok(Some(found)) => found,
            Ok(None) => return Err(gone(String::new()).into()),
            Err(error) => return Err(gone(format!(" ({error})")).into()),
        };
        while let Some(bytes) = body.next().await {
            let bytes = bytes.map_err(|error| gone(format!(" ({error})")))?;
            // Who takes no more says why.
            if send.data(channel::STDIN, bytes).await.is_err() {
                return Ok(());
            }
        }
        let _ = send.end(channel::STDIN).await;
        Ok(())
    }

    /// Hands the output on until the image is there; its layers.
    async fn output(&self, recv: &mut BulkReceiver) -> Result<BTreeSet<ImageDigest>, Ended> {
        // A character may be cut in two.
        let mut rest = Vec::new();
        loop {
            match recv.recv().await.map_err(broken)? {
                Some(BulkFrame::Data { channel: channel::STDOUT, bytes }) => {
                    rest.extend_from_slice(&bytes);
                    let text = whole_text(&mut rest);
                    if !text.is_empty() {
                        self.say(text).await;
                    }
                }
                Some(BulkFrame::Data { channel: channel::CONTROL, bytes }) => match word(&bytes)? {
                    BuildSaid::Built { layers } if layers.len() <= lattice_image::MAX_LAYERS => {
                        return Ok(layers.into_iter().collect());
                    }
                    _ => return Err(misread("an image with too many layers").into()),
                },
                Some(BulkFrame::Close(end)) => return Err(ended(end)),
                None => return Err(broken("it ended without a word").into()),
                Some(_) => {}
            }
        }
    }

    /// Takes in the layers, then the image.
    async fn take(
        &self,
        recv: &mut BulkReceiver,
        wants: &BTreeSet<ImageDigest>,
        key: &str,
    ) -> Result<ImageView, Ended> {
        let (mut config, mut whole) = (Vec::new(), false);
        let (mut number, of) = (0, u32::try_from(wants.len()).unwrap_or(u32::MAX));
        loop {
            match recv.recv().await.map_err(broken)? {
                Some(BulkFrame::Data { channel: channel::CONTROL, bytes }) => match word(&bytes)? {
                    BuildSaid::Layer { digest } if wants.contains(&digest) => {
                        number += 1;
                        let _ = self.records.send(BuildRecord::Uploading { layer: number, of }).await;
                        self.layer(recv, digest).await?;
                    }
                    _ => return Err(misread("a layer that nobody asked for").into()),
                },
                Some(BulkFrame::Data { channel: channel::CONFIG, bytes }) => {
                    if config.len() + bytes.len() > MAX_IMAGE_CONFIG_BYTES {
                        return Err(misread("too large a configuration").into());
                    }
                    config.extend_from_slice(&bytes);
                }
                Some(BulkFrame::End(channel::CONFIG)) => whole = true,
                Some(BulkFrame::Close(BulkEnd::Exit(0))) if whole => break,
                Some(BulkFrame::Close(end)) => return Err(ended(end)),
                None => return Err(broken("it ended before all of the image was there").into()),
                Some(_) => {}
            }
        }
        let platform = Config::read(&config).map_err(|error| misread(&error.to_string()))?.platform;
        let wanted = self.start.platform.as_deref();
        if wanted.is_some_and(|wanted| wanted != platform && !platform.starts_with(&format!("{wanted}/"))) {
            return Err(misread(&format!("an image for {platform}")).into());
        }
        let id = ImageDigest::of(&config);
        Ok(take_image(&self.core, &self.who, &self.project, id, &config, Some(key.to_owned())).await?)
    }

    /// Takes in one layer, as an upload of whoever asked.
    async fn layer(&self, recv: &mut BulkReceiver, digest: ImageDigest) -> Result<(), Ended> {
        let (frames, queue) = mpsc::channel::<io::Result<Bytes>>(FRAMES);
        let body =
            futures::stream::unfold(queue, async |mut queue| queue.recv().await.map(|next| (next, queue)));
        let taken = take_layer(&self.core, &self.who, &self.project, digest, body.boxed());
        let fed = async {
            loop {
                match recv.recv().await.map_err(broken)? {
                    Some(BulkFrame::Data { channel: channel::LAYER, bytes }) => {
                        // Who takes no more says why.
                        if frames.send(Ok(bytes)).await.is_err() {
                            return Ok(());
                        }
                    }
                    Some(BulkFrame::End(channel::LAYER)) => break,
                    Some(BulkFrame::Close(end)) => return Err(ended(end)),
                    None => return Err(broken("it ended within a layer").into()),
                    Some(_) => {}
                }
            }
            drop(frames);
            Ok::<(), Ended>(())
        };
        let (taken, fed) = tokio::join!(taken, fed);
        taken?;
        fed
    }
}

/// What of the bytes is whole characters; what is none is replaced, and what may become one stays.
fn whole_text(bytes: &mut Vec<u8>) -> String {
    let cut = match std::str::from_utf8(bytes) {
        Err(error) if error.error_len().is_none() => error.valid_up_to(),
        _ => bytes.len(),
    };
    let text = String::from_utf8_lossy(&bytes[..cut]).into_owned();
    bytes.drain(..cut);
    text
}

fn word(bytes: &[u8]) -> Result<BuildSaid, ErrorBody> {
    let read = if bytes.len() <= MAX_WORD { serde_json::from_slice(bytes).ok() } else { None };
    read.ok_or_else(|| misread("a word that is not understood"))
}

fn misread(what: &str) -> ErrorBody {
    let text = format!("the node sent {what}");
    ErrorBody::new(ErrorCode::Mismatch, text, "update its agent, or build on another node")
}

fn broken(error: impl std::fmt::Display) -> ErrorBody {
    ErrorBody::new(
        ErrorCode::NodeOffline,
        format!("the node that built was lost: {error}"),
        "deploy again: what it had begun is cleared away there, and another node builds if it stays away",
    )
}

/// What a node said at the end, before all was there.
fn ended(end: BulkEnd) -> Ended {
    let Refusal { code, message, hint, .. } = match end {
        BulkEnd::Failed(refusal) => refusal,
        _ => return broken("it ended before all of the image was there").into(),
    };
    let error = |kind| ErrorBody::new(kind, message, hint);
    match &*code {
        code::BUSY | "owner_forbids" | "suspended" | "lan_not_closed" => {
            Ended::Refused(error(ErrorCode::Conflict))
        }
        "engine_unreachable" => Ended::Refused(error(ErrorCode::Unavailable)),
        "step_failed" | "build_failed" | "build_refused" => error(ErrorCode::InvalidSpec).into(),
        "too_large" => error(ErrorCode::TooLarge).into(),
        "mismatch" => error(ErrorCode::Mismatch).into(),
        _ => error(ErrorCode::Conflict).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_never_cut_within_a_character() {
        let mut rest = b"gr\xc3".to_vec();
        assert_eq!(whole_text(&mut rest), "gr");
        rest.extend_from_slice(b"\xbcn\xff.");
        assert_eq!(whole_text(&mut rest), "grün\u{fffd}.".strip_prefix("gr").unwrap());
        assert!(rest.is_empty());
    }

    #[test]
    fn the_same_is_known_for_the_same_and_a_path_that_leads_out_is_refused() {
        let start = |dockerfile: &str| BuildStart {
            context: TreeDigest::of(b"x"),
            dockerfile: dockerfile.into(),
            target: None,
            args: BTreeMap::new(),
            labels: BTreeMap::new(),
            platform: None,
            no_network: false,
            extra_hosts: Vec::new(),
            shm_bytes: None,
            pull: false,
            no_cache: false,
            bases: Vec::new(),
            pool: lattice_model::spec::Pools::default(),
            node: None,
        };
        let one = start("Dockerfile");
        let pulled = BuildStart { pull: true, bases: vec!["x".into()], ..one.clone() };
        assert_eq!(key(&one), key(&pulled));
        let other = BuildStart { args: [("A".into(), "1".into())].into(), ..one.clone() };
        assert_ne!(key(&one), key(&other));
        assert!(check(&one).is_ok());
        for wrong in ["", "/etc/passwd", "../Dockerfile", "a/../../b", "a\0"] {
            assert!(check(&start(wrong)).is_err(), "{wrong}");
        }
        let label = BuildStart { labels: [("lattice.build".into(), "x".into())].into(), ..one };
        assert!(check(&label).is_err());
    }
}
