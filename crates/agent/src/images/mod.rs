//! Images: uploaded ones are fetched from the server and given to the engine, and what Lattice brought
//! is removed again when nothing uses it.
//!
//! - [`Images::fetch`] brings an uploaded image (`fetch`);
//! - [`Images::coming`], [`Images::pulled`] and [`Images::failed`] note what a pull brings;
//! - [`Images::collect`] removes what nothing uses: every now and then by [`Images::tend`], and by
//!   whoever sees the disk run full, as `collect(Want::pressure(bytes)).await`, which says what it freed.
//!
//! What was brought is in `images/brought.json` of the agent's folder, by name. An image that was on the
//! engine before, or that somebody else brings, is not in it and is never removed. It is noted before it is
//! asked for, with no bytes yet, so that an agent that is killed meanwhile leaves nothing that nobody knows of.

mod fetch;
mod part;

use crate::{
    AgentError, clock, error::Result, event::Event, facts::Machine, home::make_private, owner::Lent,
};
use lattice_converge::images::{Brought, Want, note_use, surplus};
use lattice_identity::keyfile;
use lattice_link::client::BulkDialer;
use lattice_model::{Bytes, spec::ImageDigest};
use lattice_runtime::{ImageSeen, Runtime, RuntimeError};
use parking_lot::Mutex;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::Duration,
};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tracing::{info, warn};

/// How often what nothing uses is looked for.
const TEND: Duration = Duration::from_secs(600);
/// How long after an image came the owner's cap is looked at: what is to use it has begun to by then.
const SETTLE: Duration = Duration::from_secs(5);

/// What a collection removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Collected {
    /// The images, by name.
    pub(crate) removed: Vec<String>,
    /// Their bytes; what they shared with others is counted and was not freed.
    pub(crate) bytes: Bytes,
}

/// The images of this node that are Lattice's affair.
pub(crate) struct Images {
    folder: PathBuf,
    runtime: Arc<dyn Runtime>,
    events: mpsc::Sender<Event>,
    bulk: OnceLock<BulkDialer>,
    brought: Mutex<Vec<Brought>>,
    /// What an engine that keeps images in containerd calls those that were loaded.
    engine_ids: Mutex<BTreeMap<ImageDigest, String>>,
    /// One collection at a time.
    collecting: tokio::sync::Mutex<()>,
    /// Something was brought.
    grown: Notify,
}

impl std::fmt::Debug for Images {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Images").field("folder", &self.folder).finish_non_exhaustive()
    }
}

impl Images {
    /// Reads what was brought.
    pub(crate) fn open(folder: PathBuf, runtime: Arc<dyn Runtime>, events: mpsc::Sender<Event>) -> Self {
        let brought = read_list(&folder);
        Self {
            folder,
            runtime,
            events,
            bulk: OnceLock::new(),
            brought: Mutex::new(brought),
            engine_ids: Mutex::default(),
            collecting: tokio::sync::Mutex::default(),
            grown: Notify::new(),
        }
    }

    /// Says how the server is reached.
    pub(crate) fn reach(&self, bulk: BulkDialer) {
        let _ = self.bulk.set(bulk);
    }

    /// Removes what fetches of an earlier agent left.
    pub(crate) fn clear_leftovers(&self) {
        clear(&self.folder);
    }

    /// What the engine calls an image that a container is to be made of.
    pub(crate) fn engine_name(&self, image: &str) -> String {
        let id = image.parse().ok().and_then(|id: ImageDigest| self.engine_ids.lock().get(&id).cloned());
        id.unwrap_or_else(|| image.to_owned())
    }

    async fn seen(&self, image: &str) -> Option<ImageSeen> {
        self.runtime.image(image).await.ok().flatten()
    }

    /// An image is about to be pulled. Gives what is there under its name; where that is nothing, what
    /// comes is Lattice's.
    ///
    /// # Errors
    /// [`AgentError::Runtime`]: an engine that does not answer says nothing about whose an image is.
    pub(crate) async fn coming(&self, image: &str) -> Result<Option<ImageSeen>> {
        let before = self.runtime.image(image).await?;
        if before.is_none() {
            self.note(image, image, Bytes(0));
        }
        Ok(before)
    }

    /// It did not come. What an engine may still finish stays noted.
    pub(crate) async fn failed(&self, image: &str) {
        if let Ok(None) = self.runtime.image(image).await {
            self.forget(image);
        }
    }

    fn forget(&self, name: &str) {
        let mut brought = self.brought.lock();
        brought.retain(|image| image.name != name);
        self.save(&brought);
    }

    /// Notes what a pull brought.
    pub(crate) async fn pulled(&self, image: &str, before: Option<ImageSeen>) {
        let Some(after) = self.seen(image).await else { return };
        match before {
            None => self.note(image, image, after.size),
            Some(before) if before.id != after.id && self.knows(image) => {
                // Its name went to the new one.
                self.note(&before.id, &before.id, before.size);
                self.note(image, image, after.size);
            }
            Some(_) => {}
        }
    }

    fn knows(&self, name: &str) -> bool {
        self.brought.lock().iter().any(|image| image.name == name)
    }

    fn note(&self, name: &str, asked: &str, bytes: Bytes) {
        let image = Brought { name: name.to_owned(), asked: asked.to_owned(), bytes, unused_since: None };
        let mut brought = self.brought.lock();
        brought.retain(|known| known.name != image.name);
        brought.push(image);
        self.save(&brought);
        self.grown.notify_one();
    }

    fn save(&self, brought: &[Brought]) {
        let write = || -> Result<()> {
            make_private(&self.folder)?;
            let json = serde_json::to_vec(brought).unwrap_or_default();
            Ok(keyfile::replace(&self.folder.join(LIST), &json)?)
        };
        if let Err(error) = write() {
            warn!(error = crate::error::chain(&error), "the list of images that were brought is not kept");
        }
    }

    /// Removes images every now and then; at once where they take more than the owner lends for them, since one
    /// came or since he lends less.
    pub(crate) async fn tend(
        self: Arc<Self>,
        mut lent: watch::Receiver<Arc<Lent>>,
        machine: watch::Receiver<Machine>,
    ) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(TEND) => {}
                // Many come together, and the last one of them has to be in use before it is judged.
                () = self.grown.notified() => {
                    tokio::time::sleep(SETTLE).await;
                    if !over(lent.borrow().disk(&machine.borrow()), &self.brought.lock()) {
                        continue;
                    }
                }
                changed = lent.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let cap = lent.borrow().disk(&machine.borrow());
                    if !over(cap, &self.brought.lock()) {
                        continue;
                    }
                }
            }
            let cap = lent.borrow().disk(&machine.borrow());
            if let Err(error) = self.collect(Want::routine(cap)).await {
                warn!(error = crate::error::chain(&error), "images that nothing uses were not removed");
            }
        }
    }

    /// Removes images that Lattice brought and that no allocation uses, what was unused longest first.
    /// What a container still uses stays, whatever the goal says.
    ///
    /// # Errors
    /// [`AgentError`] when the engine does not answer, or the agent ends.
    pub(crate) async fn collect(&self, want: Want) -> Result<Collected> {
        let _one = self.collecting.lock().await;
        self.weigh().await?;
        let used = self.in_use().await?;
        let gone = {
            let mut brought = self.brought.lock();
            let before = brought.clone();
            note_use(&mut brought, &|image| used.contains(&image.asked), clock::now());
            if *brought != before {
                self.save(&brought);
            }
            surplus(&brought, want, clock::now())
        };
        let mut collected = Collected::default();
        for name in gone {
            if !remove(&*self.runtime, &name).await? {
                continue;
            }
            let bytes = {
                let brought = self.brought.lock();
                brought.iter().find(|image| image.name == name).map_or(Bytes(0), |image| image.bytes)
            };
            self.forget(&name);
            info!(image = name, %bytes, "an image that nothing uses is removed");
            collected.bytes = Bytes(collected.bytes.0 + bytes.0);
            collected.removed.push(name);
        }
        Ok(collected)
    }

    /// Of what an agent that was killed had asked for, nobody knows yet how large it is.
    async fn weigh(&self) -> Result<()> {
        let unknown = |image: &&Brought| image.bytes == Bytes(0);
        let names: Vec<_> = self.brought.lock().iter().filter(unknown).map(|i| i.name.clone()).collect();
        for name in names {
            let Some(seen) = self.runtime.image(&name).await? else { continue };
            let mut brought = self.brought.lock();
            for image in brought.iter_mut().filter(|image| image.name == name) {
                image.bytes = seen.size;
            }
            self.save(&brought);
        }
        Ok(())
    }

    /// The images that allocations ask for.
    async fn in_use(&self) -> Result<BTreeSet<String>> {
        let ended = || AgentError::Misfit { problem: "the agent ends" };
        let (answer, used) = oneshot::channel();
        self.events.send(Event::ImagesInUse(answer)).await.map_err(|_| ended())?;
        used.await.map_err(|_| ended())
    }
}

/// Removes everything that was brought and that nothing uses, for who leaves; nobody else has the list open.
/// What something uses stays in the list.
pub(crate) async fn remove_brought(folder: &Path, runtime: &dyn Runtime) -> Result<()> {
    for image in brought(folder) {
        if remove(runtime, &image.name).await? {
            strike(folder, &image.name)?;
        }
    }
    Ok(())
}

/// What was brought, for who looks while no agent has the list open, or does not change it.
pub(crate) fn brought(folder: &Path) -> Vec<Brought> {
    read_list(folder)
}

/// Takes one that is gone from the list.
pub(crate) fn strike(folder: &Path, name: &str) -> Result<()> {
    let mut brought = read_list(folder);
    brought.retain(|image| image.name != name);
    let json = serde_json::to_vec(&brought).unwrap_or_default();
    Ok(keyfile::replace(&folder.join(LIST), &json)?)
}

/// Removes what is no list: layers on their way.
pub(crate) fn clear(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_name() != LIST {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Without a name of its own an image may have got somebody else's, and is not Lattice's to take then.
pub(crate) fn is_ours(name: &str, seen: &ImageSeen) -> bool {
    name.parse::<ImageDigest>().is_err() || seen.tags.is_empty()
}

/// Removes one; whether it is gone, or nothing of Lattice's any more.
pub(crate) async fn remove(runtime: &dyn Runtime, name: &str) -> Result<bool> {
    if let Some(seen) = runtime.image(name).await?
        && !is_ours(name, &seen)
    {
        return Ok(true);
    }
    match runtime.remove_image(name).await {
        Ok(_) => Ok(true),
        Err(RuntimeError::Conflict { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Whether images take more than the owner lends.
fn over(cap: Option<Bytes>, images: &[Brought]) -> bool {
    cap.is_some_and(|cap| images.iter().map(|image| image.bytes.0).sum::<u64>() > cap.0)
}

/// The list of what was brought.
const LIST: &str = "brought.json";

/// One that cannot be read is begun anew, and its images then stay.
fn read_list(folder: &Path) -> Vec<Brought> {
    let file = folder.join(LIST);
    match keyfile::load(&file) {
        Ok(Some(bytes)) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
            warn!(file = %file.display(), %error, "the list of images that were brought is begun anew");
            Vec::new()
        }),
        Ok(None) => Vec::new(),
        Err(error) => {
            warn!(%error, "the list of images that were brought cannot be read");
            Vec::new()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lattice_model::Timestamp;
    use lattice_runtime::{
        PullProgress,
        simulated::{Program, Settings, Simulated},
    };

    #[tokio::test]
    async fn what_was_brought_goes_when_nothing_uses_it_and_nothing_else_does() {
        let mut settings = Settings::new(1, Timestamp(0)).with_image("own:1", Program::deaf());
        settings.any_image = Some(Arc::new(Program::deaf()));
        let engine: Arc<dyn Runtime> = Arc::new(Simulated::new(settings));
        let (events, mut inbox) = mpsc::channel(4);
        tokio::spawn(async move {
            while let Some(Event::ImagesInUse(answer)) = inbox.recv().await {
                let _ = answer.send(["web:1".to_owned()].into());
            }
        });
        let home = tempfile::tempdir().unwrap();
        let open = || Images::open(home.path().join("images"), Arc::clone(&engine), events.clone());
        let images = open();
        for name in ["web:1", "db:1", "own:1"] {
            let before = images.coming(name).await.unwrap();
            engine.pull(name, None, None, watch::channel(PullProgress::default()).0).await.unwrap();
            images.pulled(name, before).await;
        }
        // Nothing is unused for long; under pressure what is unused goes, and no more.
        assert_eq!(images.collect(Want::routine(None)).await.unwrap(), Collected::default());
        let collected = images.collect(Want::pressure(Bytes(u64::MAX))).await.unwrap();
        assert_eq!((collected.removed, collected.bytes), (vec!["db:1".to_owned()], Bytes::from_mib(1)));
        for (name, there) in [("web:1", true), ("db:1", false), ("own:1", true)] {
            assert_eq!(engine.has_image(name).await.unwrap(), there, "{name}");
        }
        // What does not come is not noted; what an agent asked for and did not live to see is.
        assert!(images.coming("none:1").await.unwrap().is_none() && images.knows("none:1"));
        images.failed("none:1").await;
        assert!(!images.knows("none:1"));
        assert!(images.coming("late:1").await.unwrap().is_none());
        engine.pull("late:1", None, None, watch::channel(PullProgress::default()).0).await.unwrap();
        drop(images);
        let images = open();
        let late = images.collect(Want::pressure(Bytes(u64::MAX))).await.unwrap();
        assert_eq!((late.removed, late.bytes), (vec!["late:1".to_owned()], Bytes::from_mib(1)));
        // The next agent knows what the former one brought.
        drop(images);
        let images = open();
        images.clear_leftovers();
        assert!(images.knows("web:1") && !images.knows("db:1") && !images.knows("own:1"));
        remove_brought(&home.path().join("images"), &*engine).await.unwrap();
        assert!(!engine.has_image("web:1").await.unwrap() && engine.has_image("own:1").await.unwrap());
        assert_eq!(brought(&home.path().join("images")), []);
    }

    #[tokio::test]
    async fn what_takes_more_than_the_owner_lends_goes_at_once_and_what_is_used_stays() {
        let mut settings = Settings::new(1, Timestamp(0));
        settings.any_image = Some(Arc::new(Program::deaf()));
        let engine: Arc<dyn Runtime> = Arc::new(Simulated::new(settings));
        let (events, mut inbox) = mpsc::channel(4);
        tokio::spawn(async move {
            while let Some(Event::ImagesInUse(answer)) = inbox.recv().await {
                let _ = answer.send(["web:1".to_owned()].into());
            }
        });
        let home = tempfile::tempdir().unwrap();
        let images = Arc::new(Images::open(home.path().join("images"), Arc::clone(&engine), events));
        for name in ["web:1", "db:1"] {
            let before = images.coming(name).await.unwrap();
            engine.pull(name, None, None, watch::channel(PullProgress::default()).0).await.unwrap();
            images.pulled(name, before).await;
        }
        let lent = |text: &str| {
            let rules = lattice_rules::Rules::parse(text).unwrap().check(None).unwrap();
            let word = lattice_rules::Word::Rules(Box::new(rules));
            Arc::new(Lent::new(crate::AgentConfig::default(), &word))
        };
        let (lends, lent_now) = watch::channel(lent(""));
        let (_machine, machine) = watch::channel(Machine::default());
        let tending = tokio::spawn(Arc::clone(&images).tend(lent_now, machine));
        lends.send_replace(lent("[caps]\ndisk = \"1m\""));
        let gone = async {
            while engine.has_image("db:1").await.unwrap() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), gone).await.unwrap();
        assert!(engine.has_image("web:1").await.unwrap() && images.knows("web:1"));
        tending.abort();
    }
}
