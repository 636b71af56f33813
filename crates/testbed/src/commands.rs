//! What each command does.

use crate::{Command, DirectionArgs, Format, Part, UpArgs, answer, status, wire};
use lattice_testbed::{
    Direction, Machine, Options, Testbed, TestbedError, Tie, folder, programs_folder, sweep,
};
use std::{
    fmt::Display,
    io::Write as _,
    process::{self, ExitCode},
    time::Instant,
};

/// The images of the tests; a node gets those that there are.
const TEST_IMAGES: [&str; 1] = ["lattice-test/busybox:1"];

/// Data, to standard output. A reader that went away is no error.
fn say(text: impl Display) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Everything else, to standard error.
pub(crate) fn note(text: impl Display) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Does it.
pub(crate) fn run(name: &str, command: Command) -> Result<ExitCode, TestbedError> {
    let open = || Testbed::open(name);
    match command {
        Command::Up(args) => up(name, args)?,
        Command::Status { output } => {
            let rows = status::look(&open()?)?;
            match output {
                Format::Table => say(status::table(&rows)),
                Format::Json => say(serde_json::to_string_pretty(&rows).unwrap_or_default()),
            }
        }
        Command::Env { node } => env(&open()?, node.as_deref())?,
        Command::Drop { node, direction: DirectionArgs { to, from, both: _ } } => {
            let direction = match (to, from) {
                (true, _) => Direction::In,
                (_, true) => Direction::Out,
                _ => Direction::Both,
            };
            open()?.node(&node)?.drop_packets(direction)?;
        }
        Command::Lose { node, percent } => open()?.node(&node)?.lose_packets(percent)?,
        Command::Delay { node, delay, jitter } => open()?.node(&node)?.delay_packets(delay, jitter)?,
        Command::Heal { nodes } => {
            let bed = open()?;
            for node in bed.nodes() {
                if nodes.is_empty() || nodes.iter().any(|name| name == node.name()) {
                    node.heal_network()?;
                    // A node that is off keeps its disk as it is.
                    let _ = node.unfill();
                }
            }
            // A name that is none's is told.
            nodes.iter().try_for_each(|name| bed.node(name).map(drop))?;
        }
        Command::Fill { node, leave } => open()?.node(&node)?.fill(leave)?,
        Command::Freeze { node } if node == "server" => open()?.server().machine().freeze()?,
        Command::Freeze { node } => open()?.node(&node)?.freeze()?,
        Command::Thaw { node } if node == "server" => open()?.server().machine().thaw()?,
        Command::Thaw { node } => open()?.node(&node)?.thaw()?,
        Command::Kill { node } if node == "server" => open()?.server().cut_power()?,
        Command::Kill { node } => open()?.node(&node)?.kill()?,
        Command::Revive { node } if node == "server" => open()?.server().boot()?,
        Command::Revive { node } => open()?.node(&node)?.revive()?,
        Command::Restart { node, what } => restart(&open()?, &node, what)?,
        Command::Exec { node, command } => {
            let bed = open()?;
            let mut process = machine(&bed, &node)?.command(&command[0])?;
            if let Ok(node) = bed.node(&node) {
                // So that `docker` there is this node's.
                process.env("DOCKER_HOST", format!("unix://{}", node.engine().socket().display()));
            }
            let status = process.args(&command[1..]).status().map_err(|error| TestbedError::Unfit {
                problem: format!("nsenter cannot be started: {error}"),
                hint: "install util-linux",
            })?;
            let code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(128);
            return Ok(ExitCode::from(code));
        }
        Command::Down => match open() {
            Ok(bed) => bed.down(),
            // One that was never whole, too.
            Err(error) if Testbed::names().iter().any(|there| there == name) => match error {
                TestbedError::Senseless(_) => return Err(error),
                _ => Testbed::remove(name),
            },
            Err(error) => return Err(error),
        },
        Command::Ls => Testbed::names().iter().for_each(say),
        Command::Answer(args) => {
            if let Err(error) = answer::run(&args) {
                note(format_args!("error: {error}"));
                return Ok(ExitCode::FAILURE);
            }
        }
        Command::Wire(args) => {
            if let Err(error) = wire::run(&args) {
                note(format_args!("error: {error}"));
                return Ok(ExitCode::FAILURE);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn machine<'a>(bed: &'a Testbed, name: &str) -> Result<&'a Machine, TestbedError> {
    match name {
        "server" => Ok(bed.server().machine()),
        "hub" => Ok(bed.hub()),
        _ => Ok(bed.node(name)?.machine()),
    }
}

fn restart(bed: &Testbed, name: &str, what: Option<Part>) -> Result<(), TestbedError> {
    match (name, what) {
        ("server", None) => {
            bed.server().stop()?;
            bed.server().start()
        }
        ("server", Some(_)) => {
            Err(TestbedError::Senseless("the server's machine has only the server".into()))
        }
        (_, Some(Part::Engine)) => bed.node(name)?.restart_engine(),
        (_, Some(Part::Agent)) => bed.node(name)?.restart_agent(),
        (_, None) => Err(TestbedError::Senseless("say what of it: engine or agent".into())),
    }
}

fn up(name: &str, args: UpArgs) -> Result<(), TestbedError> {
    for swept in sweep() {
        note(format_args!("removed what was left of testbed {swept}"));
    }
    let UpArgs { nodes, disk, mut images, set } = args;
    if images.is_empty() {
        images.extend(TEST_IMAGES.into_iter().filter(|image| is_there(image)).map(str::to_owned));
    }
    let begun = Instant::now();
    note(format_args!("starting a server and {nodes} nodes"));
    let options = Options {
        name: Some(name.to_owned()),
        nodes,
        disk_mib: Some(disk),
        images: images.clone(),
        server: set,
        agent: String::new(),
        tie: Tie::Free,
    };
    let bed = Testbed::up(&options)?;
    note(format_args!("up after {:.1} s", begun.elapsed().as_secs_f64()));
    say(status::table(&status::look(&bed)?));
    note(format_args!(
        "\nimages on the nodes: {}\nlogs: {}/*/log\n\nlook at it:      lattice-testbed status\nuse it:          eval \"$({own} env)\"; \
         lattice node ls\na node's engine: eval \"$({own} env n1)\"; docker ps\nhurt it:         \
         lattice-testbed drop|lose|delay|fill|freeze|kill n1, then heal|thaw|revive n1\nend it:          \
         lattice-testbed down",
        if images.is_empty() { "none".to_owned() } else { images.join(", ") },
        folder().join(name).display(),
        own = programs_folder().join("lattice-testbed").display(),
    ));
    Ok(())
}

fn is_there(image: &str) -> bool {
    let mut command = process::Command::new("docker");
    command.args(["image", "inspect", image]).stdout(process::Stdio::null()).stderr(process::Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn env(bed: &Testbed, node: Option<&str>) -> Result<(), TestbedError> {
    say(format_args!("export LATTICE_SERVER={}", bed.server().url()));
    // The programs of this build, and their environment, before others.
    say(format_args!(
        "case \":$PATH:\" in *:{0}:*) ;; *) PATH={0}:$PATH ;; esac",
        programs_folder().display()
    ));
    if let Some(node) = node {
        let socket = bed.node(node)?.engine().socket();
        say(format_args!("export DOCKER_HOST=unix://{}", socket.display()));
    }
    Ok(())
}
