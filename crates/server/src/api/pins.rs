//! Which image exactly a name stands for, found out at the deployment, so that all replicas run the
//! same one however long they take to fetch it and wherever the name points by then.
//!
//! A node of the pool asks the registry by its engine: it is the one that must reach it, with the
//! project's login where there is one. What cannot be found out is said, and each node then takes what
//! the name stands for when it fetches it; a service that is pinned already, and whose name did not
//! change, stays pinned to what it runs, so that a registry that is down replaces no container.
//! Rejected: asking from the server, which may be on another network; asking from the command line,
//! which would leave out every other client.

use crate::{
    gateway::streams,
    rows::secret_id,
    state::{Core, Snapshot},
};
use lattice_link::message::{
    BulkEnd, BulkFrame, ImageFound, LOCAL_IMAGE, RESOLVES, ResolveRequest, StreamRequest, channel,
};
use lattice_model::{
    NodeId, PoolName, ProjectName, StackKey,
    goal::RegistryLogin,
    resource::Approval,
    spec::{
        ImagePin, ImageSource, Pools, PullPolicy, StackSpec, WorkloadSpec, image_registry, registry_secret,
    },
};
use std::{collections::BTreeMap, time::Duration};

/// How long a node may take for one image; its engine gives a registry 20 s.
const PATIENCE: Duration = Duration::from_secs(25);
/// The most images that are asked for; more names than that in one stack are not pinned.
const MOST: usize = 50;
/// The most bytes of an answer.
const MAX_ANSWER: usize = 64 << 10;

/// What came of asking.
enum Answer {
    Found(ImageFound),
    /// It is on the node and came from no registry.
    Local,
    Failed(String),
}

/// Who fetches an image of a project, where somebody said it.
pub(crate) fn login(
    core: &Core,
    snapshot: &Snapshot,
    project: &ProjectName,
    image: &str,
) -> Option<RegistryLogin> {
    let name = registry_secret(image_registry(image))?;
    // Looked up first: an image without a login is the usual case.
    snapshot.secrets.get(&secret_id(project, &name))?;
    let value = core.secret(snapshot, project, &name)?;
    let login = serde_json::from_slice(value.reveal());
    if login.is_err() {
        tracing::warn!(%project, secret = %name, "a login for a registry cannot be read; `lattice registry login` sets it anew");
    }
    login.ok()
}

/// The stack with its images pinned, and what is to be said about it.
pub(crate) async fn pinned(core: &Core, key: &StackKey, spec: &StackSpec) -> (StackSpec, Vec<String>) {
    let snapshot = core.snapshot();
    let open = |workload: &&WorkloadSpec| {
        workload.pin.is_none() && workload.pull != PullPolicy::Never && !workload.image.contains('@')
    };
    let mut asked: BTreeMap<(String, Pools), Option<NodeId>> = BTreeMap::new();
    for workload in spec.workloads.values().filter(open).take(MOST) {
        let pools = workload.pool.clone();
        let node = pools.names().iter().find_map(|pool| able(core, &snapshot, pool));
        asked.insert((workload.image.clone(), pools), node);
    }
    let counted: BTreeMap<_, _> = asked.iter().map(|(what, node)| (what.clone(), node.is_some())).collect();
    let questions = asked.into_iter().filter_map(|(what, node)| Some((what, node?))).map(
        async |((image, pools), node)| {
            let login = login(core, &snapshot, &key.project, &image);
            let asking = ask(core, node, ResolveRequest { image: image.clone(), login });
            let answer = tokio::time::timeout(PATIENCE, asking).await;
            let silent = || Answer::Failed("the node that was asked did not answer in time".into());
            ((image, pools), answer.unwrap_or_else(|_| silent()))
        },
    );
    let answers: BTreeMap<_, _> = futures::future::join_all(questions).await.into_iter().collect();
    let (mut spec, mut warnings) = (spec.clone(), Vec::new());
    for (name, workload) in &mut spec.workloads {
        if !open(&&*workload) {
            continue;
        }
        let pools = workload.pool.clone();
        let before = snapshot.cluster.workloads().get(&key.workload(name.clone()));
        let before = before.filter(|row| row.spec.image == workload.image);
        let before =
            before.and_then(|row| row.spec.pin.clone()).filter(|pin| pin.from == ImageSource::Registry);
        let image = &workload.image;
        let unasked = match counted.get(&(image.clone(), pools.clone())) {
            Some(true) => None,
            Some(false) => Some(format!(
                "no node of {} that can ask for it is connected; deploy again when one is",
                pools.in_words()
            )),
            None => Some(format!("no more than {MOST} services are looked after at a time")),
        };
        workload.pin = match (answers.get(&(image.clone(), pools)), before) {
            (Some(Answer::Found(ImageFound { digest, platforms })), before) => {
                // The same digest is the same image, whatever another node could tell of it.
                let same = before.filter(|pin| pin.digest == *digest);
                let new =
                    ImagePin { from: ImageSource::Registry, digest: *digest, platforms: platforms.clone() };
                Some(same.unwrap_or(new))
            }
            (Some(Answer::Failed(why)), Some(before)) => {
                warnings.push(format!(
                    "what {image} stands for now could not be found out, so {name} stays with {}: {why}",
                    before.digest
                ));
                Some(before)
            }
            (None, Some(before)) => {
                let why = unasked.unwrap_or_default();
                warnings.push(format!(
                    "{name} stays with {}, whatever {image} stands for now: {why}",
                    before.digest
                ));
                Some(before)
            }
            (None, None) => {
                let why = unasked.unwrap_or_default();
                warnings.push(format!(
                    "{name} is not pinned to a digest, so each node takes what {image} stands for when it fetches it: {why}"
                ));
                None
            }
            (Some(Answer::Local), _) => None,
            (Some(Answer::Failed(why)), None) => {
                warnings.push(format!(
                    "{name} is not pinned to a digest, so each node takes what {image} stands for when it fetches it: {why}"
                ));
                None
            }
        };
    }
    (spec, warnings)
}

/// A node of the pool that can ask its engine.
fn able(core: &Core, snapshot: &Snapshot, pool: &PoolName) -> Option<NodeId> {
    let of_pool =
        snapshot.cluster.nodes.values().filter(|row| row.approval == Approval::Approved && row.pool == *pool);
    of_pool.map(|row| row.id).find(|id| core.live.session(*id).is_some_and(|session| session.can(RESOLVES)))
}

async fn ask(core: &Core, node: NodeId, request: ResolveRequest) -> Answer {
    let channel = match streams::open(core, node, StreamRequest::Resolve(request)).await {
        Ok(channel) => channel,
        Err(error) => return Answer::Failed(error.message),
    };
    // The sending half stays, or the stream would end with it.
    let (_send, mut recv) = channel.split();
    let mut text = Vec::new();
    loop {
        match recv.recv().await {
            Ok(Some(BulkFrame::Data { channel: channel::STDOUT, bytes }))
                if text.len() + bytes.len() <= MAX_ANSWER =>
            {
                text.extend_from_slice(&bytes);
            }
            Ok(Some(BulkFrame::Close(end))) => {
                return match end {
                    BulkEnd::Exit(LOCAL_IMAGE) => Answer::Local,
                    BulkEnd::Exit(_) | BulkEnd::Done => match serde_json::from_slice(&text) {
                        Ok(found) => Answer::Found(found),
                        Err(_) => Answer::Failed("the node's answer was not understood".into()),
                    },
                    BulkEnd::Failed(refusal) => Answer::Failed(refusal.message),
                };
            }
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => return Answer::Failed("the node that was asked lost its connection".into()),
        }
    }
}
