//! Carries out what the reconciler decided, each operation in a task of its own; the reconciler
//! bounds how many there are. A new container costs exactly one create and one start; the look at
//! it comes after. Nothing is decided here, and nothing is tried twice.

use crate::{
    AgentError,
    error::chain,
    event::{Event, Sight, Tickets},
    gpu::Gpus,
    images::Images,
    lan::Fence,
    last_words::LastWords,
    secrets::SecretsDir,
    trees::Trees,
};
use lattice_converge::{Failure, Operation, OperationId, Outcome};
use lattice_model::{
    Bytes, NodeId,
    container::{ContainerConfig, ContainerId, ContainerSeen, MountSource},
};
use lattice_runtime::{PullProgress, Runtime, RuntimeError};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{Notify, mpsc, watch},
    time::{Instant, sleep},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, info, warn};

/// Hands operations to the engine.
#[derive(Clone)]
pub(crate) struct Executor {
    pub(crate) node: NodeId,
    pub(crate) fence: Arc<Fence>,
    pub(crate) runtime: Arc<dyn Runtime>,
    /// `Err` says why there is no place for secrets.
    pub(crate) secrets: Arc<Result<SecretsDir, AgentError>>,
    pub(crate) trees: Arc<Trees>,
    pub(crate) images: Arc<Images>,
    pub(crate) gpus: Gpus,
    pub(crate) tickets: Tickets,
    pub(crate) events: mpsc::Sender<Event>,
    /// Asks for a listing, after something whose outcome is unknown.
    pub(crate) relist: Arc<Notify>,
    pub(crate) tasks: TaskTracker,
    pub(crate) stop: CancellationToken,
    pub(crate) words: LastWords,
}

/// How often it is looked how far an image is.
const TELL: Duration = Duration::from_secs(2);
/// How often that is told where it hardly moves.
const TELL_SLOWLY: Duration = Duration::from_secs(15);

type Ended = Result<(Outcome, Sight, u64), Failure>;

impl Executor {
    pub(crate) fn begin(&self, id: OperationId, operation: Operation) {
        let this = self.clone();
        self.tasks.spawn(async move {
            let stop = this.stop.clone();
            let work = async {
                let what = describe(&operation);
                info!(operation = id.0, what, "begins");
                let ended = this.carry_out(id, operation).await;
                match &ended {
                    Ok(_) => debug!(operation = id.0, what, "done"),
                    Err(failure) => warn!(operation = id.0, what, ?failure, "failed"),
                }
                if matches!(ended, Err(Failure::Unreachable(_) | Failure::Missing(_))) {
                    this.relist.notify_one();
                }
                let event = match ended {
                    Ok((outcome, seen, ticket)) => Event::Done { ticket, id, result: Ok(outcome), seen },
                    Err(failure) => {
                        Event::Done { ticket: this.tickets.take(), id, result: Err(failure), seen: None }
                    }
                };
                let _ = this.events.send(event).await;
            };
            tokio::select! {
                () = work => {}
                // The agent ends; what the engine was asked for, it does by itself.
                () = stop.cancelled() => {}
            }
        });
    }

    async fn carry_out(&self, id: OperationId, operation: Operation) -> Ended {
        let done = |this: &Self| Ok((Outcome::Done, None, this.tickets.take()));
        match operation {
            Operation::Pull { image, platform, login } => {
                let before = self.images.coming(&image).await.map_err(|error| match error {
                    AgentError::Runtime(error) => failure(error),
                    error => Failure::Other(chain(&error)),
                })?;
                let (progress, far) = watch::channel(PullProgress::default());
                let pull = self.runtime.pull(&image, platform.as_deref(), login.as_deref(), progress);
                let pulled = self.telling(id, far, pull).await;
                if pulled.is_err() {
                    self.images.failed(&image).await;
                }
                match pulled {
                    // An image that the registry lacks is not helped by another pull at once.
                    Err(error @ RuntimeError::ImageMissing { .. }) => Err(Failure::Other(chain(&error))),
                    other => {
                        other.map_err(failure)?;
                        self.images.pulled(&image, before).await;
                        done(self)
                    }
                }
            }
            Operation::FetchImage { image, name } => {
                let (progress, far) = watch::channel(PullProgress::default());
                let fetch = self.images.fetch(image, &name, progress);
                self.telling(id, far, fetch).await.map_err(|error| match error {
                    AgentError::Runtime(error) => failure(error),
                    error => Failure::Other(chain(&error)),
                })?;
                done(self)
            }
            Operation::CreateNetwork { name, internal, labels } => {
                let made = self.runtime.create_network(&name, internal, &labels).await;
                self.fence.network_made().await;
                made.map_err(failure)?;
                done(self)
            }
            Operation::RemoveNetwork { name } => {
                self.runtime.remove_network(self.node, &name).await.map_err(failure)?;
                done(self)
            }
            Operation::CreateVolume { name, labels } => {
                self.runtime.create_volume(&name, &labels).await.map_err(failure)?;
                done(self)
            }
            Operation::RemoveVolume { name } => {
                self.runtime.remove_volume(self.node, &name).await.map_err(failure)?;
                done(self)
            }
            Operation::FetchTree { tree } => {
                self.trees.fetch(tree).await.map_err(|error| Failure::Other(chain(&error)))?;
                done(self)
            }
            Operation::RemoveTree { tree } => {
                let trees = Arc::clone(&self.trees);
                let removed = tokio::task::spawn_blocking(move || trees.remove(tree)).await;
                match removed {
                    Ok(Ok(())) => done(self),
                    Ok(Err(error)) => Err(Failure::Other(chain(&error))),
                    Err(error) => Err(Failure::Other(chain(&error))),
                }
            }
            Operation::Create { allocation: _, mut config, files } => {
                self.write(&files)?;
                self.trees.mountable(&config).map_err(Failure::Other)?;
                config.image = self.images.engine_name(&config.image);
                if let Some(request) = &config.gpus {
                    config.gpu_access = Some(self.gpus.access(request).map_err(Failure::Other)?);
                }
                let id = self.runtime.create(&config).await.map_err(|error| unseen(&config, error))?;
                let ticket = self.tickets.take();
                let seen = ContainerSeen::just_created(id.clone(), *config);
                Ok((Outcome::Created(id.clone()), Some((id, Some(Box::new(seen)))), ticket))
            }
            Operation::Start { allocation: _, container, files } => {
                self.fence.gate().await.map_err(Failure::Other)?;
                self.write(&files)?;
                self.runtime.start(&container).await.map_err(failure)?;
                self.look(container).await
            }
            Operation::WriteSecrets { allocation: _, files } => {
                self.write(&files)?;
                done(self)
            }
            Operation::Stop { allocation: _, container, grace } => {
                self.runtime.stop(&container, grace).await.map_err(failure)?;
                self.look(container).await
            }
            Operation::Remove { allocation, container } => {
                self.runtime.remove(&container, false).await.map_err(failure)?;
                if let Ok(secrets) = &*self.secrets {
                    secrets.remove(allocation);
                }
                Ok((Outcome::Done, Some((container, None)), self.tickets.take()))
            }
        }
    }

    /// Carries out what tells how far it is, and passes that on: soon enough to be followed, and
    /// seldom enough that a report may be made of each word.
    async fn telling<T>(
        &self,
        id: OperationId,
        mut far: watch::Receiver<PullProgress>,
        work: impl Future<Output = T>,
    ) -> T {
        let tell = async {
            let (mut told, mut last) = (0u64, Instant::now());
            loop {
                sleep(TELL).await;
                let PullProgress { current, total, .. } = *far.borrow_and_update();
                let moved = current.abs_diff(told);
                let due = moved > total / 20 || (moved > 0 && last.elapsed() >= TELL_SLOWLY);
                if total > 0 && due {
                    (told, last) = (current, Instant::now());
                    // Where the main loop has enough to do, the next word will do.
                    let _ = self.events.try_send(Event::Progress {
                        id,
                        here: Bytes(current),
                        total: Bytes(total),
                    });
                }
            }
        };
        tokio::select! {
            done = work => done,
            never = tell => never,
        }
    }

    fn write(&self, files: &[lattice_converge::SecretFile]) -> Result<(), Failure> {
        if files.is_empty() {
            return Ok(());
        }
        match &*self.secrets {
            Ok(secrets) => secrets.write(files).map_err(|error| Failure::Other(chain(&error))),
            Err(error) => Err(Failure::Other(chain(error))),
        }
    }

    async fn look(&self, container: ContainerId) -> Ended {
        let ticket = self.tickets.take();
        let mut seen = self.runtime.inspect(&container).await.map_err(failure)?.map(Box::new);
        if let Some(seen) = &mut seen {
            self.words.put(&*self.runtime, seen).await;
        }
        Ok((Outcome::Seen(seen.clone()), Some((container, seen)), ticket))
    }
}

/// An engine in a virtual machine, or with a view of the disk of its own, does not find files that
/// are there.
fn unseen(config: &ContainerConfig, error: RuntimeError) -> Failure {
    let trees = config.mounts.iter().filter_map(|mount| match &mount.source {
        MountSource::Tree(path) => Some(path),
        _ => None,
    });
    let text = chain(&error);
    let words =
        ["bind source path does not exist", "mounts denied", "no such file or directory", "not shared"];
    let lower = text.to_lowercase();
    match trees.into_iter().find(|path| text.contains(path.as_str())) {
        Some(path) if words.iter().any(|word| lower.contains(word)) => Failure::Other(format!(
            "the container engine does not see {path}, which is there: it runs in a virtual machine or has a view of the disk of its own; share the agent's folder with it, or give the agent a folder that it sees (LATTICE_HOME)"
        )),
        _ => failure(error),
    }
}

/// The kinds that the reconciler tells apart.
fn failure(error: RuntimeError) -> Failure {
    let mut text = chain(&error);
    if text.contains("exec format error") {
        text = format!(
            "its image is made for another kind of machine than this one: build it for this kind, or say which with `platform:` ({text})"
        );
    }
    match error {
        RuntimeError::Unreachable { .. } | RuntimeError::Timeout { .. } => Failure::Unreachable(text),
        RuntimeError::ImageMissing { .. } => Failure::ImageMissing,
        RuntimeError::PortInUse { .. } => Failure::PortInUse(text),
        RuntimeError::NotFound { .. } => Failure::Missing(text),
        _ => Failure::Other(text),
    }
}

/// For the log: never an environment or a secret.
fn describe(operation: &Operation) -> String {
    match operation {
        Operation::Pull { image, platform: None, login: _ } => format!("pull {image}"),
        Operation::Pull { image, platform: Some(platform), login: _ } => {
            format!("pull {image} for {platform}")
        }
        Operation::FetchImage { image, name } => format!("fetch image {name} ({})", image.short()),
        Operation::CreateNetwork { name, .. } => format!("create network {name}"),
        Operation::RemoveNetwork { name } => format!("remove network {name}"),
        Operation::CreateVolume { name, .. } => format!("create volume {name}"),
        Operation::RemoveVolume { name } => format!("remove volume {name}"),
        Operation::FetchTree { tree } => format!("fetch files {}", tree.short()),
        Operation::RemoveTree { tree } => format!("remove files {}", tree.short()),
        Operation::Create { config, .. } => format!("create {}", config.name),
        Operation::Start { allocation, .. } => format!("start {allocation}"),
        Operation::WriteSecrets { allocation, .. } => format!("write secrets of {allocation}"),
        Operation::Stop { allocation, .. } => format!("stop {allocation}"),
        Operation::Remove { allocation, .. } => format!("remove {allocation}"),
    }
}
