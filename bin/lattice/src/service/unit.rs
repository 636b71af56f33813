//! The texts: the unit, and a first configuration.

use std::{fmt::Write, path::Path};

/// The state of a server that is a service.
pub(super) const STATE: &str = "/var/lib/lattice";
/// The service's name.
pub(super) const UNIT: &str = "lattice-server.service";

/// What differs between machines.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    /// The program.
    pub(super) program: String,
    /// The configuration.
    pub(super) config: String,
    /// The user.
    pub(super) user: String,
    /// A port below 1024 is listened on.
    pub(super) low_port: bool,
    /// A folder outside of the state that backups go to.
    pub(super) backups: Option<String>,
}

/// A user's name that cannot break out of the unit.
pub(super) fn user(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    let good =
        (1..=31).contains(&text.len()) && text.chars().all(plain) && !text.starts_with(['-', '0', '1']);
    if good {
        Ok(text.to_owned())
    } else {
        Err(format!("{text:?} is not a user's name; write lower-case letters"))
    }
}

/// A path as a word of `ExecStart`.
fn word(path: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
    match path.chars().all(plain) {
        true => path.to_owned(),
        false => format!(
            "\"{}\"",
            path.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%").replace('$', "$$")
        ),
    }
}

/// The unit.
pub(super) fn unit(facts: &Facts) -> String {
    let Facts { program, config, user, low_port, backups } = facts;
    let mut text = format!(
        "[Unit]\n\
         Description=Lattice control plane\n\
         Wants=network-online.target\n\
         After=network-online.target\n\
         StartLimitIntervalSec=0\n\
         \n\
         [Service]\n\
         Type=exec\n\
         User={user}\n\
         Group={user}\n\
         Environment=LATTICE_HOME={STATE}\n\
         ExecStart={} server --config {}\n\
         Restart=always\n\
         RestartSec=2s\n\
         TimeoutStopSec=30s\n\
         StateDirectory=lattice\n\
         StateDirectoryMode=0700\n\
         UMask=0077\n\
         LimitNOFILE=65536\n\
         \n\
         # What it does not need it does not have.\n\
         NoNewPrivileges=yes\n\
         ProtectSystem=strict\n\
         ProtectHome=yes\n\
         PrivateTmp=yes\n\
         PrivateDevices=yes\n\
         ProtectClock=yes\n\
         ProtectControlGroups=yes\n\
         ProtectHostname=yes\n\
         ProtectKernelLogs=yes\n\
         ProtectKernelModules=yes\n\
         ProtectKernelTunables=yes\n\
         ProtectProc=invisible\n\
         LockPersonality=yes\n\
         MemoryDenyWriteExecute=yes\n\
         RemoveIPC=yes\n\
         RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX\n\
         RestrictNamespaces=yes\n\
         RestrictRealtime=yes\n\
         RestrictSUIDSGID=yes\n\
         SystemCallArchitectures=native\n\
         SystemCallFilter=@system-service\n\
         SystemCallErrorNumber=EPERM\n",
        word(program),
        word(config),
    );
    let capabilities = if *low_port { "CAP_NET_BIND_SERVICE" } else { "" };
    let _ = writeln!(text, "CapabilityBoundingSet={capabilities}");
    let _ = writeln!(text, "AmbientCapabilities={capabilities}");
    if let Some(folder) = backups {
        // With a dash: a disk that is not there must not keep the server from starting.
        let _ = writeln!(text, "ReadWritePaths=-{}", word(folder));
    }
    text.push_str("\n[Install]\nWantedBy=multi-user.target\n");
    text
}

/// A first configuration: everything as usual, the state where the unit has it.
pub(super) fn first_config() -> String {
    format!(
        "# The control plane of this machine; docs/server.md lists every key.\n\
         home = \"{STATE}/server\"\n\
         \n\
         [api]\n\
         listen = \"127.0.0.1:7400\"\n\
         \n\
         [agents]\n\
         listen = \"0.0.0.0:7443\"\n\
         # advertise = [\"lattice.example.org:7443\"]\n"
    )
}

/// Whether a folder is one that the unit has anyway.
pub(super) fn is_own(folder: &Path) -> bool {
    folder.starts_with(STATE)
}
