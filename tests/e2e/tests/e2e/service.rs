//! The server as a service: what is installed is what systemd takes, and it runs as its unit says.

use lattice_e2e::{Home, Output, PATIENCE, Process, as_root, free_port, http, program, until};
use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    process::{Command, Stdio},
};

/// Nobody: owns nothing.
const USER: &str = "65534";

fn lattice(args: &[&str]) -> Output {
    let mut command = Command::new(program("lattice"));
    command.args(args).env_remove("LATTICE_HOME").env("NO_COLOR", "1");
    Output::of(&command, b"")
}

#[test]
fn below_a_root_as_its_unit_says() {
    let root = Home::new();
    let below = root.path().to_str().unwrap();
    let dry = lattice(&["server", "install", "--root", below, "--dry-run"]).ok();
    let _ = dry.says(&["would write", "NoNewPrivileges=yes"]);
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0, "a dry run writes nothing");
    let _ = lattice(&["server", "install", "--root", below]).ok().says(&["nothing was started"]);
    let unit = fs::read_to_string(root.join("etc/systemd/system/lattice-server.service")).unwrap();
    let link = root.join("etc/systemd/system/multi-user.target.wants/lattice-server.service");
    assert_eq!(
        fs::read_link(&link).unwrap(),
        std::path::Path::new("/etc/systemd/system/lattice-server.service")
    );

    // systemd reads it, where it is installed; the program is not at its place on this machine.
    let copy = root.join("lattice-server.service");
    let installed = root.join("usr/local/bin/lattice");
    let checked =
        unit.replace("/usr/local/bin/lattice", installed.to_str().unwrap()).replace("=lattice\n", "=root\n");
    fs::write(&copy, checked).unwrap();
    match Command::new("systemd-analyze").arg("verify").arg("--man=no").arg(&copy).output() {
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            let about_us: Vec<_> = said.lines().filter(|line| line.contains("lattice-server")).collect();
            assert!(output.status.success() && about_us.is_empty(), "{said}");
        }
        Err(error) => eprintln!("systemd-analyze is not here, so nobody else reads the unit: {error}"),
    }

    // Its command, by hand, as a user who owns the state and nothing else.
    let loopback = || SocketAddr::from(([127, 0, 0, 1], free_port()));
    let (api, agents) = (loopback(), loopback());
    let config = root.join("etc/lattice/server.toml");
    let text = fs::read_to_string(&config).unwrap();
    let state = root.join("var/lib/lattice");
    let text = text
        .replace("127.0.0.1:7400", &api.to_string())
        .replace("0.0.0.0:7443", &agents.to_string())
        .replace("/var/lib/lattice", state.to_str().unwrap());
    fs::write(&config, text).unwrap();
    fs::set_permissions(&config, fs::Permissions::from_mode(0o644)).unwrap();
    fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let owned = as_root("chown").args(["-R", USER]).arg(&state).status();
    assert!(
        owned.is_ok_and(|status| status.success()),
        "this test needs root, or sudo that asks no password"
    );
    let start = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
    let words: Vec<String> = start
        .split(' ')
        .map(|word| if word.starts_with('/') { format!("{below}{word}") } else { word.to_owned() })
        .collect();
    let mut command = as_root("setpriv");
    command.args([
        "--reuid",
        USER,
        "--regid",
        USER,
        "--clear-groups",
        "--no-new-privs",
        "--pdeathsig",
        "KILL",
        "--",
    ]);
    command.args(&words).env("LATTICE_HOME", &state).stdin(Stdio::null());
    let server = Process::start("the service", &mut command, &root.join("server.log"));
    until("it serves", PATIENCE, || match http(api) {
        Ok((401, _)) => Ok(()),
        other => Err((other, server.log())),
    });
    drop(server);

    // Away again: what it made stays until somebody says its name.
    let _ = lattice(&["server", "uninstall", "--root", below]).ok().says(&["stay"]);
    assert!(!link.exists() && fs::symlink_metadata(&link).is_err() && config.exists() && state.exists());
    let purge = ["server", "uninstall", "--root", below, "--purge"];
    let _ =
        lattice(&[&purge[..], &["--confirm", "another"]].concat()).ended(2).says(&["not the cluster's name"]);
    assert!(state.exists());
    let given =
        as_root("chown").args(["-R", &rustix::process::getuid().as_raw().to_string()]).arg(&state).status();
    assert!(given.is_ok_and(|status| status.success()));
    let _ = lattice(&[&purge[..], &["--confirm", "lattice"]].concat()).ok();
    assert!(!state.exists() && !config.exists());
}
