//! Images that are built on a node, for somebody who has no Docker: what comes of it runs on every machine, its steps
//! are behind the rules that close the owner's network, and nothing of it stays, however it ends.

use lattice_e2e::{BUSYBOX, Bed, Output, PATIENCE, Process, until};
use rustix::process::Signal;
use std::{fs, path::Path, process::Command};

const COMPOSE: &str = "services:\n  web:\n    build:\n      context: .\n      args: {WORD: from outside}\n    deploy:\n      replicas: REPLICAS\n      placement: {max_replicas_per_node: 1}\n      resources: {limits: {cpus: \"0.25\", memory: 32M}}\n";

fn project(folder: &Path, replicas: u8, steps: &str) {
    fs::write(folder.join("compose.yaml"), COMPOSE.replace("REPLICAS", &replicas.to_string())).unwrap();
    let text = format!("FROM {BUSYBOX}\nARG WORD\n{steps}\nCMD [\"sleep\", \"3600\"]\n");
    fs::write(folder.join("Dockerfile"), text).unwrap();
}

/// `lattice deploy` where no Docker answers.
fn deploy(bed: &Bed, folder: &Path) -> Command {
    let file = folder.join("compose.yaml").display().to_string();
    let mut command = bed.command(&["deploy", "--name", "boards", "-f", &file]);
    command.env("DOCKER_HOST", "unix:///nowhere/docker.sock");
    command
}

/// What builds left on a node.
fn left(bed: &Bed, node: &str) -> Result<(), String> {
    let label = ["--filter", "label=lattice.build"];
    let mut found = String::new();
    for what in [&["ps", "-aq"][..], &["images", "-aq"], &["network", "ls", "-q"]] {
        let said = bed.docker(node, &[what, &label[..]].concat());
        if !said.is_empty() {
            found.push_str(&format!("{what:?}: {said}\n"));
        }
    }
    if found.is_empty() { Ok(()) } else { Err(found) }
}

fn rules(bed: &Bed, node: &str, change: &str) {
    let output = bed.node(node).agent_command(&["rules", "set", change]).unwrap().output().unwrap();
    assert!(output.status.success(), "{change}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn without_a_docker_a_node_builds_and_every_machine_runs_it() {
    let bed = Bed::up(2, &[]);
    let _house = bed.house();
    let folder = tempfile::tempdir().unwrap();
    let look = "RUN if timeout 5 wget -q -O - http://10.77.0.202/; then echo the neighbour answers; \
                else echo the neighbour is out of reach; fi; timeout 30 wget -q -O - http://203.0.113.10/ && \
                echo the internet answers\nCOPY . /all\nRUN echo $WORD > /word";
    project(folder.path(), 2, look);
    fs::write(folder.path().join("page"), "first").unwrap();
    fs::write(folder.path().join("private"), "x").unwrap();
    fs::write(folder.path().join(".dockerignore"), "*\n!page\n").unwrap();
    let deployed = || Output::of(&deploy(&bed, folder.path()), b"").ok();
    deployed().says(&[
        "no Docker answers here",
        "is built on n",
        "the neighbour is out of reach",
        "the internet answers",
        "goes to the server",
    ]);
    let both = |page: &str| {
        let page = page.to_owned();
        until("both machines run it", PATIENCE, || {
            let found = bed.running("boards");
            let read = |found: &lattice_e2e::Found| {
                let look = "cat /all/page /word; ls /all";
                bed.docker(&found.node, &["exec", &found.container, "sh", "-c", look])
            };
            let read: Vec<_> = found.iter().map(read).collect();
            match read == vec![format!("{page}from outside\npage"); 2] {
                true => Ok(()),
                false => Err(format!("{read:?}")),
            }
        });
    };
    both("first");
    for node in ["n1", "n2"] {
        left(&bed, node).unwrap();
    }
    // The image says nothing of who built it.
    let found = bed.running("boards").remove(0);
    let labels =
        bed.docker(&found.node, &["inspect", "--format", "{{json .Config.Labels}}", &found.container]);
    assert!(!labels.contains("lattice.build"), "{labels}");
    // The same again is not built, and nothing is replaced.
    let before = bed.running("boards");
    deployed().says(&["built of the same before"]);
    assert_eq!(bed.running("boards"), before);
    // The neighbour was there all the time.
    for node in ["n1", "n2"] {
        rules(&bed, node, "lan.access=open");
    }
    fs::write(folder.path().join("page"), "second").unwrap();
    until("the steps reach the neighbour of an open network", PATIENCE, || {
        let said = deployed();
        match said.stderr.contains("the neighbour answers") {
            true => Ok(()),
            false => {
                // Another context, or it is not built again.
                let page = fs::read_to_string(folder.path().join("page")).unwrap() + ".";
                fs::write(folder.path().join("page"), page).unwrap();
                Err(said.stderr)
            }
        }
    });
    both(&fs::read_to_string(folder.path().join("page")).unwrap());
    let _ = bed.lattice(&["rm", "-y", "boards"]).ok();
}

#[test]
fn a_build_that_fails_is_ended_or_loses_its_agent_leaves_nothing() {
    let bed = Bed::up(1, &[]);
    let folder = tempfile::tempdir().unwrap();
    let failed = || Output::of(&deploy(&bed, folder.path()), b"").failed();
    // A step of its own fails: its last words, its code, and what to do.
    project(folder.path(), 1, "RUN echo why it does not work; exit 3");
    failed().says(&["why it does not work", "ended with code 3", "correct it"]);
    left(&bed, "n1").unwrap();
    project(folder.path(), 1, "RUN --mount=type=cache,target=/x true");
    failed().says(&["BuildKit", "--build-on local"]);
    // The owner's word.
    project(folder.path(), 1, "RUN echo it began; sleep 600");
    rules(&bed, "n1", "consent.builds=false");
    failed().says(&["lets nobody build images here", "consent.builds"]);
    rules(&bed, "n1", "consent.builds=");
    rules(&bed, "n1", "consent.images=[\"docker.io/library/*\"]");
    failed().says(&["does not run the image", "consent.images"]);
    rules(&bed, "n1", "consent.images=");
    left(&bed, "n1").unwrap();
    let logs = tempfile::tempdir().unwrap();
    let begun = |name: &str| {
        let log = logs.path().join(name);
        let process = Process::start(name, &mut deploy(&bed, folder.path()), &log);
        until("the step runs", PATIENCE, || match process.log().contains("it began\n") {
            true => Ok(()),
            false => Err(process.log()),
        });
        process
    };
    // Ctrl-C.
    let mut process = begun("deploy-interrupted");
    process.signal(Signal::INT);
    assert_eq!(process.wait(PATIENCE).code(), Some(130), "{}", process.log());
    assert!(process.log().contains("the build was ended"), "{}", process.log());
    until("nothing of it is left", PATIENCE, || left(&bed, "n1"));
    // The owner pauses: it ends at once, with the reason.
    let mut process = begun("deploy-paused");
    let paused = bed.node("n1").agent_command(&["pause"]).unwrap().output().unwrap();
    assert!(paused.status.success());
    assert_eq!(process.wait(PATIENCE).code(), Some(1));
    assert!(process.log().contains("nothing is built on this machine now"), "{}", process.log());
    until("nothing of it is left", PATIENCE, || left(&bed, "n1"));
    assert!(bed.node("n1").agent_command(&["resume"]).unwrap().output().unwrap().status.success());
    until("it works again", PATIENCE, || {
        let said = bed.lattice(&["node", "ls"]).ok().stdout;
        if said.contains("suspended") { Err(said) } else { Ok(()) }
    });
    // Its agent is killed.
    let mut process = begun("deploy-killed");
    bed.node("n1").kill_agent().unwrap();
    assert_eq!(process.wait(PATIENCE).code(), Some(1));
    assert!(process.log().contains("the node that built was lost"), "{}", process.log());
    bed.node("n1").start_agent().unwrap();
    until("the next agent cleared up", PATIENCE, || left(&bed, "n1"));
    assert!(bed.docker("n1", &["images", "-q", BUSYBOX]).len() > 5, "what it began from stays");
    // There is no next agent: a reset takes it away.
    until("the node is back", PATIENCE, || {
        let said = bed.lattice(&["node", "ls"]).ok().stdout;
        if said.contains("connected") { Ok(()) } else { Err(said) }
    });
    let mut process = begun("deploy-reset");
    bed.node("n1").kill_agent().unwrap();
    assert_eq!(process.wait(PATIENCE).code(), Some(1));
    assert!(left(&bed, "n1").is_err(), "the network at least");
    let reset = bed.node("n1").agent_command(&["reset", "--yes"]).unwrap().output().unwrap();
    assert!(reset.status.success(), "{}", String::from_utf8_lossy(&reset.stderr));
    left(&bed, "n1").unwrap();
}
