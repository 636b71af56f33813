//! Every flag, once: it feeds the parser and the help.
//!
//! The command line's grammar as a whole is here, and what each command takes in a file per subject.

mod deploy;
mod keep;
mod nodes;
mod people;
mod work;

pub(crate) use self::{deploy::*, keep::*, nodes::*, people::*, work::*};
use crate::up::{ServerArgs, UpArgs};
use clap::{Args, Parser, Subcommand, ValueEnum};
use lattice_model::{ProjectName, TokenId};
use std::path::PathBuf;

const AFTER_HELP: &str = "\
Names: `web` where it is unique, `shop/web` (stack/service), `default/shop/web` with the project, \
`web#2` for one replica, or the first characters of an allocation's id.

Exit codes: 0 done · 1 failed · 2 not understood · 3 no such thing · 4 the server cannot be reached · \
130 interrupted. `exec` ends with the command's own code.

Environment: LATTICE_HOME (state of the server on this machine), LATTICE_SERVER, LATTICE_TOKEN, \
LATTICE_TOKEN_FILE, LATTICE_CA_FILE, LATTICE_CONFIG (where logins are kept), LATTICE_PROJECT, LATTICE_LOG (what is logged), NO_COLOR.";

/// Your own cloud from the computers you have.
#[derive(Debug, Parser)]
#[command(name = "lattice", version, after_help = AFTER_HELP, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags of every command.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// The server: https://HOST, http://127.0.0.1:7400 or unix:/path; or the host of one that you signed in
    /// to [default: the one signed in to last, else the socket of this machine's server].
    #[arg(long, global = true, env = "LATTICE_SERVER", value_name = "URL", help_heading = "Global options")]
    pub(crate) server: Option<String>,
    /// Believe the authorities in this file (PEM) and no others, instead of the system's.
    #[arg(
        long,
        global = true,
        env = "LATTICE_CA_FILE",
        value_name = "FILE",
        help_heading = "Global options"
    )]
    pub(crate) ca_file: Option<PathBuf>,
    /// A file with an API token; the socket needs none.
    #[arg(
        long,
        global = true,
        env = "LATTICE_TOKEN_FILE",
        value_name = "FILE",
        help_heading = "Global options"
    )]
    pub(crate) token_file: Option<PathBuf>,
    /// The project. Listings show all projects where it is absent, everything else takes `default`.
    #[arg(
        long,
        global = true,
        env = "LATTICE_PROJECT",
        value_name = "NAME",
        help_heading = "Global options"
    )]
    pub(crate) project: Option<ProjectName>,
    /// How data is written: `json` is the API's own words.
    #[arg(
        short,
        long,
        global = true,
        value_enum,
        default_value = "table",
        value_name = "FORMAT",
        help_heading = "Global options"
    )]
    pub(crate) output: Format,
}

/// How data is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Table,
    /// For programs.
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the control plane and make this machine a node.
    Up(UpArgs),
    /// Run the control plane alone, or make it a service of this machine.
    Server(ServerArgs),
    /// Backups of the control plane: create, list, verify, restore.
    #[command(subcommand)]
    Backup(BackupCommand),
    /// Move a stopped installation to another store.
    Migrate(MigrateArgs),
    /// Sign in to a server: by a code that you approve elsewhere, or by password.
    Login(LoginArgs),
    /// Sign out of a server.
    Logout(LogoutArgs),
    /// Print a link that signs your browser in to the web console, once, within five minutes.
    Console,
    /// Show who the server takes you for, and what you may do.
    Whoami,
    /// People: who may sign in, and what they may do.
    #[command(subcommand)]
    User(UserCommand),
    /// Projects: whose stacks these are, who works there, and what they may use.
    #[command(subcommand)]
    Project(ProjectCommand),
    /// Show how the cluster is doing.
    Status,
    /// Join tokens: what a computer needs to ask to join.
    #[command(subcommand)]
    Token(TokenCommand),
    /// API tokens: what a person or a program needs to use the API from elsewhere.
    #[command(subcommand)]
    ApiToken(ApiTokenCommand),
    /// Computers of the cluster, and those that ask to join.
    #[command(subcommand)]
    Node(NodeCommand),
    /// Pools: groups of nodes.
    #[command(subcommand)]
    Pool(PoolCommand),
    /// Alerts: what deserves your attention now, and what to do about it.
    #[command(subcommand)]
    Alert(AlertCommand),
    /// How an update fares, and the way back to a former version.
    #[command(subcommand)]
    Rollout(RolloutCommand),
    /// Deploy a Compose file as a stack, and follow it until it runs.
    Deploy(DeployArgs),
    /// Bring a Docker Compose project of this machine here, with the data of its volumes.
    Import(ImportArgs),
    /// Show a Compose file as it is understood: files merged, variables filled in, secrets hidden.
    Config(ConfigArgs),
    /// Run one image as a stack of its own.
    Run(RunArgs),
    /// Jobs: services that end by themselves, and what their runs came to.
    #[command(subcommand)]
    Job(JobCommand),
    /// Show nodes and what runs on them, again and again.
    Top(TopArgs),
    /// List what runs, where, and on which ports.
    Ps(PsArgs),
    /// Show what containers wrote.
    Logs(LogsArgs),
    /// Run a command inside a container.
    Exec(ExecArgs),
    /// Copy files into a container, or out of it.
    Cp(CpArgs),
    /// Let stopped services or whole stacks run again.
    Start(TargetsArgs),
    /// Stop services or whole stacks, and keep their containers and data.
    Stop(TargetsArgs),
    /// Restart the containers of services or whole stacks.
    Restart(TargetsArgs),
    /// Change how many replicas of services run.
    Scale(ScaleArgs),
    /// Remove a stack; its volumes stay unless said.
    Rm(RmArgs),
    /// Volumes: data, and where it is.
    #[command(subcommand)]
    Volume(VolumeCommand),
    /// Logins for image registries, which nodes use that fetch a project's images.
    #[command(subcommand)]
    Registry(RegistryCommand),
    /// Secrets of a project; their values are never shown.
    #[command(subcommand)]
    Secret(SecretCommand),
    /// Show what happened.
    Events(EventsArgs),
    /// Show who changed what.
    Audit(AuditArgs),
    /// Say why a service is where it is, or why it does not run.
    Explain(ExplainArgs),
    /// Print what a shell needs to complete this program's words; source it from the shell's start-up file.
    Completion {
        /// Which shell.
        shell: clap_complete::Shell,
    },
    /// Print the manual page of a command, or write them all.
    Man(ManArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// Write the pages of all commands into this folder.
    #[arg(long, conflicts_with = "command")]
    pub(crate) dir: Option<PathBuf>,
    /// The command, such as `node approve` [default: the program itself].
    pub(crate) command: Vec<String>,
}

/// Finds an id by its first characters.
pub(crate) fn by_prefix(ids: impl Iterator<Item = TokenId>, text: &str) -> Vec<TokenId> {
    let wanted = text.to_ascii_lowercase().replace('-', "");
    ids.filter(|id| !wanted.is_empty() && id.uuid().simple().to_string().starts_with(&wanted)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;
    use lattice_model::{Bytes, Duration, spec::RestartPolicy};

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split(' '))
    }

    #[test]
    fn every_command_has_help() {
        fn check(command: &mut clap::Command, path: &str) {
            let help = command.render_long_help().to_string();
            let about = command.get_about().map(ToString::to_string).unwrap_or_default();
            assert!(about.len() > 5 && help.contains("Usage:"), "{path} has no help");
            for arg in command.get_arguments().filter(|arg| !arg.is_hide_set()) {
                assert!(arg.get_help().is_some(), "{path}: {} has no help", arg.get_id());
            }
            for sub in command.get_subcommands_mut().filter(|sub| sub.get_name() != "help") {
                let path = format!("{path} {}", sub.get_name());
                check(sub, &path);
            }
        }
        let mut command = Cli::command();
        command.build();
        check(&mut command, "lattice");
    }

    #[test]
    fn definitions_are_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn commands_of_containers_keep_their_flags() {
        let Command::Exec(exec) = parse("lattice exec -it shop/web psql -U app -c x").unwrap().command else {
            panic!("another command")
        };
        assert!(exec.interactive && exec.tty);
        assert_eq!((exec.target.as_str(), exec.command.join(" ").as_str()), ("shop/web", "psql -U app -c x"));

        let line = "lattice run -p 8080:80 -e A=b --memory 64m --restart on-failure:3 nginx nginx -g x";
        let Command::Run(run) = parse(line).unwrap().command else { panic!("another command") };
        assert_eq!((run.image.as_str(), run.command.join(" ").as_str()), ("nginx", "nginx -g x"));
        assert_eq!(run.memory, Some(Bytes::from_mib(64)));
        assert_eq!(run.restart, RestartPolicy::OnFailure { max_retries: Some(3) });
    }

    #[test]
    fn flags_are_read() {
        let cli = parse("lattice ps -a -o json --project lab").unwrap();
        assert_eq!(
            (cli.global.output, cli.global.project.as_ref().map(|p| p.as_str())),
            (Format::Json, Some("lab"))
        );
        let Command::Deploy(deploy) =
            parse("lattice deploy -f a.yaml -f b.yaml --no-wait --timeout 90s").unwrap().command
        else {
            panic!("another command")
        };
        assert_eq!(
            (deploy.project.files.len(), deploy.wait.no_wait, deploy.wait.timeout),
            (2, true, Duration::from_secs(90))
        );
        let Command::Scale(scale) = parse("lattice scale shop/web=3 db=0").unwrap().command else {
            panic!("another command")
        };
        assert_eq!(scale.targets, [("shop/web".into(), 3), ("db".into(), 0)]);
        for wrong in [
            "lattice scale web",
            "lattice scale web=-1",
            "lattice token create --uses 0",
            "lattice token create --ttl soon",
            "lattice ps --project no/good",
            "lattice secret set name value",
            "lattice user grant ada king",
            "lattice user grant ada developer@pool/x",
            "lattice login --user ada --invite",
            "lattice",
        ] {
            assert_eq!(parse(wrong).unwrap_err().exit_code(), 2, "{wrong}");
        }
    }

    #[test]
    fn ids_are_found_by_their_beginning() {
        let ids = [TokenId::from_random(1 << 100), TokenId::from_random(0xabcd << 112)];
        let text = ids[1].to_string();
        assert_eq!(by_prefix(ids.into_iter(), &text[..6]), [ids[1]]);
        assert_eq!(by_prefix(ids.into_iter(), &text.to_uppercase()), [ids[1]]);
        assert_eq!(by_prefix(ids.into_iter(), ""), []);
    }
}
