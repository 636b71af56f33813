//! What building an image needs: a real engine with its own builder.

use super::Stage;
use crate::{BuildConfig, BuildNews, Runtime};
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use lattice_model::{
    NetworkId,
    container::{LABEL_BUILD, LABEL_NETWORK},
};
use std::{sync::Arc, time::Duration};

/// How long an engine may take to end what was given up.
const PATIENCE: Duration = Duration::from_secs(60);

/// A tar archive of small files.
fn archive(files: &[(&str, &str)]) -> Bytes {
    let mut out = Vec::new();
    for (name, text) in files {
        let mut header = [0u8; 512];
        let size = format!("{:011o}", text.len());
        let fields: [(usize, &[u8]); 7] = [
            (0, name.as_bytes()),
            (100, b"0000644"),
            (108, b"0000000"),
            (116, b"0000000"),
            (124, size.as_bytes()),
            (136, b"00000000000"),
            (257, b"ustar\x0000"),
        ];
        for (at, bytes) in fields {
            header[at..at + bytes.len()].copy_from_slice(bytes);
        }
        header[148..156].copy_from_slice(b"        ");
        header[156] = b'0';
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        out.extend_from_slice(&header);
        out.extend_from_slice(text.as_bytes());
        out.resize(out.len().next_multiple_of(512), 0);
    }
    out.resize(out.len() + 1024, 0);
    out.into()
}

/// A Dockerfile that is marked as its node's.
fn dockerfile(stage: &Stage, rest: &str) -> String {
    format!("FROM {}\nLABEL {LABEL_BUILD}={}\n{rest}\n", stage.image, stage.node)
}

async fn build(stage: &Stage, config: &BuildConfig, rest: &str) -> (String, BuildNews) {
    let context = archive(&[("File", &dockerfile(stage, rest)), ("own", "of the context")]);
    let parts = futures::stream::iter([Ok(context)]).boxed();
    let news = stage.runtime.build(config, parts).await.expect("it begins");
    let news: Vec<BuildNews> = news.try_collect().await.expect("news");
    let mut said = String::new();
    let mut last = None;
    for news in news {
        match news {
            BuildNews::Said(text) => said.push_str(&String::from_utf8_lossy(&text)),
            other => last = Some(other),
        }
    }
    (said, last.expect("how it ended"))
}

/// Built, saved, and nothing of it stays; its steps have limits and the network that they are given.
pub async fn an_image_is_built_and_leaves_nothing(runtime: Arc<dyn Runtime>, image: &str) {
    Stage::run(runtime, image, async |stage| {
        let runtime = &stage.runtime;
        let mut labels = stage.labels(stage.node);
        let network = NetworkId::from_random(super::stage::random());
        labels.insert(LABEL_NETWORK.to_owned(), network.to_string());
        labels.insert(LABEL_BUILD.to_owned(), "1".to_owned());
        let name = stage.name("builds");
        runtime.create_network(&name, false, &labels).await.unwrap();
        let config = BuildConfig {
            network: Some(name),
            args: [("WORD".to_owned(), "from outside".to_owned())].into(),
            labels: [("own".to_owned(), "label".to_owned())].into(),
            memory: lattice_model::Bytes::from_mib(64),
            pids: 77,
            ..BuildConfig::of(stage.node, "File")
        };
        let look = "ARG WORD\nCOPY own /own\nRUN echo $WORD; cat /own; ip addr show eth0; sleep 2; \
                    cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/pids/pids.max || \
                    cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/pids.max";
        let (said, ended) = build(stage, &config, look).await;
        for word in ["from outside", "of the context", "eth0", "\n67108864\n", "\n77\n"] {
            assert!(said.contains(word), "{word:?} in {said}");
        }
        let BuildNews::Built(id) = ended else { panic!("{ended:?}: {said}") };
        let seen = runtime.image(&id).await.unwrap().expect("the image");
        assert!(seen.tags.is_empty() && !seen.layers.is_empty());
        let saved: Vec<Bytes> = runtime.save(&id).await.unwrap().try_collect().await.unwrap();
        assert!(saved.iter().map(Bytes::len).sum::<usize>() > 1024);
        let left = runtime.builds_left(stage.node).await.unwrap();
        assert!(left.containers.is_empty() && left.images.len() >= 3, "{left:?}");
        assert_eq!(runtime.builds_left(stage.other).await.unwrap(), crate::BuildLeft::default());
        runtime.clear_builds(stage.node).await.unwrap();
        assert_eq!(runtime.builds_left(stage.node).await.unwrap(), crate::BuildLeft::default());
        assert_eq!(runtime.list_networks(stage.node).await.unwrap(), []);
        assert!(runtime.image(&id).await.unwrap().is_none());
        assert!(runtime.has_image(&stage.image).await.unwrap(), "what it was built of stays");
    })
    .await;
}

/// A step that fails is told with its code, a Dockerfile that is none with why.
pub async fn a_build_that_fails_says_why(runtime: Arc<dyn Runtime>, image: &str) {
    Stage::run(runtime, image, async |stage| {
        let config = BuildConfig::of(stage.node, "File");
        let (said, ended) = build(stage, &config, "RUN ip addr; echo the reason; exit 7").await;
        assert!(matches!(&ended, BuildNews::Failed { code: Some(7), .. }), "{ended:?}");
        assert!(said.contains("the reason") && !said.contains("eth0"), "{said}");
        let (_, ended) = build(stage, &config, "DANCE").await;
        let BuildNews::Failed { code: None, message } = ended else { panic!("{ended:?}") };
        assert!(message.contains("DANCE"), "{message}");
        stage.runtime.clear_builds(stage.node).await.unwrap();
    })
    .await;
}

/// Nobody listens any more: the step ends.
pub async fn a_build_that_is_dropped_ends(runtime: Arc<dyn Runtime>, image: &str) {
    Stage::run(runtime, image, async |stage| {
        let config = BuildConfig::of(stage.node, "File");
        let context = archive(&[("File", &dockerfile(stage, "RUN echo it began; sleep 600"))]);
        let parts = futures::stream::iter([Ok(context)]).boxed();
        let mut news = stage.runtime.build(&config, parts).await.unwrap();
        let mut said = Vec::new();
        while !said.windows(9).any(|part| part == b"it began\n") {
            match news.next().await.expect("it goes on").unwrap() {
                BuildNews::Said(text) => said.extend_from_slice(&text),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(stage.runtime.builds_left(stage.node).await.unwrap().containers.len(), 1);
        drop(news);
        let gone = async {
            while !stage.runtime.builds_left(stage.node).await.unwrap().containers.is_empty() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::time::timeout(PATIENCE, gone).await.expect("the step ends");
        stage.runtime.clear_builds(stage.node).await.unwrap();
        assert_eq!(stage.runtime.builds_left(stage.node).await.unwrap(), crate::BuildLeft::default());
    })
    .await;
}
