//! What can be asked of a host about its network, and done to it.

use super::changes::Changes;
use async_trait::async_trait;
use lattice_lan::Facts;
use std::collections::BTreeSet;

/// A host's firewall, with what it knows of the network. An error is a sentence for people: what is wrong and what
/// to do.
#[async_trait]
pub trait Firewall: Send + Sync {
    /// What the host's network looks like, the engine's with it.
    async fn facts(&self) -> Result<Facts, String>;

    /// The interfaces that are where the rules hold.
    async fn interfaces(&self) -> Result<BTreeSet<String>, String>;

    /// Takes an interface away; one that is not there is fine.
    async fn remove_interface(&self, name: &str) -> Result<(), String>;

    /// A table as it is now, without counters; nothing where it is not there.
    async fn listing(&self, table: &str) -> Result<Option<String>, String>;

    /// Carries a text out, whole or not at all.
    async fn apply(&self, text: &str) -> Result<(), String>;

    /// Takes a table away; one that is not there is fine.
    async fn remove(&self, table: &str) -> Result<(), String>;

    /// What tells of changes.
    fn changes(&self) -> Changes;
}

/// Where containers' packets do not pass this system's own firewall.
#[derive(Clone, Debug)]
pub struct NoFirewall(
    /// Why not.
    pub String,
);

#[async_trait]
impl Firewall for NoFirewall {
    async fn facts(&self) -> Result<Facts, String> {
        Err(self.0.clone())
    }

    async fn interfaces(&self) -> Result<BTreeSet<String>, String> {
        Err(self.0.clone())
    }

    async fn remove_interface(&self, _: &str) -> Result<(), String> {
        Err(self.0.clone())
    }

    async fn listing(&self, _: &str) -> Result<Option<String>, String> {
        Ok(None)
    }

    async fn apply(&self, _: &str) -> Result<(), String> {
        Err(self.0.clone())
    }

    async fn remove(&self, _: &str) -> Result<(), String> {
        Ok(())
    }

    fn changes(&self) -> Changes {
        Changes::default()
    }
}

#[cfg(target_os = "linux")]
pub use linux::Nftables;

#[cfg(target_os = "linux")]
mod linux {
    use super::{Changes, Facts, Firewall, async_trait};
    use crate::lan::resolvers::resolvers;
    use std::{
        collections::BTreeSet,
        fs::{self, File},
        io,
        path::Path,
        process::Stdio,
        time::Duration,
    };
    use tokio::{io::AsyncWriteExt as _, net::UnixStream, process::Command, time::timeout};

    /// How long a program may take.
    const PATIENCE: Duration = Duration::from_secs(20);
    /// Where an ordinary search path does not lead.
    const PLACES: &str = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin";

    /// `nft` and `ip`, in the network namespace of the engine behind a socket.
    #[derive(Clone, Debug)]
    pub struct Nftables {
        socket: String,
    }

    impl Nftables {
        /// For the engine behind this socket, with or without `unix://`.
        pub fn new(socket: &str) -> Self {
            Self { socket: socket.strip_prefix("unix://").unwrap_or(socket).to_owned() }
        }

        /// The network namespace of the engine's process, where that is another than this one's; with its number.
        async fn elsewhere(&self) -> Option<(i32, File)> {
            let stream = UnixStream::connect(&self.socket).await.ok()?;
            // Of a socket that systemd opened it is systemd, which is here.
            let pid = stream.peer_cred().ok()?.pid().filter(|pid| *pid > 0)?;
            let path = format!("/proc/{pid}/ns/net");
            let (own, its) = (fs::read_link("/proc/self/ns/net").ok()?, fs::read_link(&path).ok()?);
            if own == its {
                return None;
            }
            Some((pid, File::open(path).ok()?))
        }

        async fn command(&self, program: &str, args: &[&str], here: bool) -> Command {
            let elsewhere = if here { None } else { self.elsewhere().await };
            let mut command = match elsewhere {
                None => Command::new(program),
                Some((pid, _)) => {
                    let mut command = Command::new("nsenter");
                    command.arg(format!("--net=/proc/{pid}/ns/net")).arg("--").arg(program);
                    command
                }
            };
            let path = std::env::var("PATH").unwrap_or_default();
            // Numbers and words that are the same in every language.
            command.args(args).env("PATH", format!("{path}:{PLACES}")).env("LC_ALL", "C");
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
            command
        }

        /// Runs a program to its end: what it said, or why it failed.
        async fn run(&self, program: &str, args: &[&str], input: &str, here: bool) -> Result<String, Failed> {
            let mut command = self.command(program, args, here).await;
            command.stdin(if input.is_empty() { Stdio::null() } else { Stdio::piped() });
            let work = async {
                let mut child = command.spawn()?;
                if let Some(mut stdin) = child.stdin.take() {
                    // One that ends before it has read all says why.
                    let _ = stdin.write_all(input.as_bytes()).await;
                }
                child.wait_with_output().await
            };
            let output = match timeout(PATIENCE, work).await {
                Err(_) => return Err(Failed::Other(format!("{program} does not end"))),
                Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => {
                    return Err(Failed::Other(match program {
                        "nft" => "the program nft is not installed; install the package nftables".into(),
                        _ => format!("the program {program} is not installed; install the package iproute2"),
                    }));
                }
                Ok(Err(error)) => return Err(Failed::Other(format!("{program} cannot be started: {error}"))),
                Ok(Ok(output)) => output,
            };
            if output.status.success() {
                return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
            }
            let words = String::from_utf8_lossy(&output.stderr).into_owned();
            let first =
                words.lines().find(|line| !line.trim().is_empty()).unwrap_or("no reason was given").trim();
            Err(if words.contains("Operation not permitted") || words.contains("Permission denied") {
                Failed::Other(
                    "this agent may not change the firewall; run it as root, or with the capability CAP_NET_ADMIN"
                        .into(),
                )
            } else if words.contains("No such file or directory") {
                Failed::Missing(format!("{program}: {first}"))
            } else {
                Failed::Other(format!("{program}: {first}"))
            })
        }
    }

    enum Failed {
        /// Something that was named is not there: the table, or what the kernel would need.
        Missing(String),
        Other(String),
    }

    impl Failed {
        fn words(self) -> String {
            match self {
                Self::Missing(words) => {
                    format!("{words} (the kernel may lack nf_tables, nft_fib_inet or nft_reject_inet)")
                }
                Self::Other(words) => words,
            }
        }
    }

    const ADDRESSES: [&str; 3] = ["-json", "address", "show"];
    const ROUTES: [&str; 5] = ["-json", "route", "show", "table", "all"];

    #[async_trait]
    impl Firewall for Nftables {
        async fn facts(&self) -> Result<Facts, String> {
            let mut facts = Facts::default();
            let mut places = vec![true];
            if self.elsewhere().await.is_some() {
                places.push(false);
            }
            for here in places {
                let addresses = self.run("ip", &ADDRESSES, "", here).await.map_err(Failed::words)?;
                facts.add(&addresses, "").map_err(|error| crate::error::chain(&error))?;
                for (family, needed) in [("-4", true), ("-6", false)] {
                    let args: Vec<&str> = std::iter::once(family).chain(ROUTES).collect();
                    match self.run("ip", &args, "", here).await {
                        Ok(routes) => facts.add("", &routes).map_err(|error| crate::error::chain(&error))?,
                        Err(failed) if needed => return Err(failed.words()),
                        // A kernel without IPv6 has no routes of it.
                        Err(_) => {}
                    }
                }
            }
            facts.resolvers = resolvers(Path::new("/"));
            Ok(facts)
        }

        async fn interfaces(&self) -> Result<BTreeSet<String>, String> {
            let path = match self.elsewhere().await {
                None => "/proc/self/net/dev".to_owned(),
                Some((pid, _)) => format!("/proc/{pid}/net/dev"),
            };
            let text =
                fs::read_to_string(&path).map_err(|error| format!("{path} cannot be read: {error}"))?;
            Ok(text.lines().filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned())).collect())
        }

        async fn remove_interface(&self, name: &str) -> Result<(), String> {
            match self.run("ip", &["link", "delete", "dev", name], "", false).await {
                Ok(_) => Ok(()),
                Err(_) if !self.interfaces().await?.contains(name) => Ok(()),
                Err(failed) => Err(failed.words()),
            }
        }

        async fn listing(&self, table: &str) -> Result<Option<String>, String> {
            match self.run("nft", &["--stateless", "list", "table", "inet", table], "", false).await {
                Ok(text) => Ok(Some(text)),
                Err(Failed::Missing(_)) => Ok(None),
                Err(failed) => Err(failed.words()),
            }
        }

        async fn apply(&self, text: &str) -> Result<(), String> {
            self.run("nft", &["--file", "-"], text, false).await.map(drop).map_err(Failed::words)
        }

        async fn remove(&self, table: &str) -> Result<(), String> {
            match self.run("nft", &["delete", "table", "inet", table], "", false).await {
                Ok(_) | Err(Failed::Missing(_)) => Ok(()),
                Err(failed) => Err(failed.words()),
            }
        }

        fn changes(&self) -> Changes {
            // The engine that answers now; one that comes up elsewhere later is looked at now and then.
            let there = std::os::unix::net::UnixStream::connect(&self.socket).ok().and_then(|stream| {
                let pid = rustix::net::sockopt::socket_peercred(&stream).ok()?.pid.as_raw_nonzero();
                let path = format!("/proc/{pid}/ns/net");
                let same = fs::read_link("/proc/self/ns/net").ok()? == fs::read_link(&path).ok()?;
                if same { None } else { File::open(path).ok() }
            });
            Changes::listen(there.as_ref())
        }
    }
}
