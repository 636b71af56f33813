//! What brings work: stacks, jobs, their versions, and what they are given (secrets, logins for registries).

use crate::parse::{self, Publish};
use clap::{Args, Subcommand};
use lattice_model::{
    Bytes, Cpu, Duration, SecretName, StackName,
    spec::{Pools, RestartPolicy},
};
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub(crate) enum RolloutCommand {
    /// Show how the last deployment of a stack fares, and the versions that are kept.
    Status(RolloutStatusArgs),
    /// Deploy the version before, or another one that is kept.
    Undo(RolloutUndoArgs),
    /// Hold the rollouts of a stack where they are: nothing more is replaced, what fails is still mended.
    Pause(RolloutDecideArgs),
    /// Let paused rollouts go on.
    Resume(RolloutDecideArgs),
    /// Let a new version take over that is tried beside the old one (canary, blue-green).
    Promote(RolloutDecideArgs),
}

#[derive(Debug, Args)]
pub(crate) struct RolloutDecideArgs {
    /// The stack.
    pub(crate) stack: String,
    /// Of this service alone [default: all that it concerns].
    #[arg(long, value_name = "SERVICE")]
    pub(crate) service: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct RolloutStatusArgs {
    /// The stack.
    pub(crate) stack: String,
}

#[derive(Debug, Args)]
pub(crate) struct RolloutUndoArgs {
    /// The stack.
    pub(crate) stack: String,
    /// The version to go back to [default: the one before the present one].
    #[arg(long, value_name = "VERSION")]
    pub(crate) to: Option<u64>,
    /// Only say what would change.
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) wait: WaitArgs,
}

#[derive(Debug, Args)]
pub(crate) struct DeployArgs {
    #[command(flatten)]
    pub(crate) project: ProjectArgs,
    /// Build the images of services that have `build` (the default).
    #[arg(long, overrides_with = "no_build")]
    pub(crate) build: bool,
    /// Build nothing: take the `image` of each service.
    #[arg(long)]
    pub(crate) no_build: bool,
    /// Where images are built: `local`, with the Docker of this computer; `node`, on a node of the pool that
    /// runs the service; or on the node of this name. Unless said, local if a Docker answers here, else on a node.
    #[arg(long, value_name = "local|node|NODE", conflicts_with = "no_build")]
    pub(crate) build_on: Option<BuildOn>,
    /// Only say what would change.
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) wait: WaitArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// The Docker Compose project [default: list those of this machine's engine].
    #[arg(value_name = "COMPOSE_PROJECT")]
    pub(crate) from: Option<String>,
    /// What the stack is to be called [default: as the Compose project].
    #[arg(long = "as", value_name = "STACK")]
    pub(crate) stack: Option<StackName>,
    /// The Compose file, or several, each on top of the one before [default: those that the project was
    /// started with].
    #[arg(short, long = "file", value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// A file with variables [default: that of the project, else .env in its folder].
    #[arg(long = "env-file", value_name = "FILE")]
    pub(crate) env_files: Vec<PathBuf>,
    /// A profile whose services take part; `*` is all [default: COMPOSE_PROFILES].
    #[arg(long = "profile", value_name = "PROFILE")]
    pub(crate) profiles: Vec<String>,
    /// Build images anew, instead of taking those that the project's containers run.
    #[arg(long)]
    pub(crate) build: bool,
    /// Only say what would happen.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Do not ask.
    #[arg(short, long)]
    pub(crate) yes: bool,
    /// Take back an import that was interrupted: remove what it made, start what it stopped.
    #[arg(long, requires = "from", conflicts_with_all = ["dry_run", "build", "files", "stack"])]
    pub(crate) undo: bool,
    /// The socket of the Docker engine that has the project [default: DOCKER_HOST, else that of this
    /// machine's agent, else /var/run/docker.sock].
    #[arg(long, value_name = "SOCKET")]
    pub(crate) engine: Option<String>,
    /// How long the stack may take to be placed, and again until it runs; then all is taken back.
    #[arg(long, value_parser = parse::duration, default_value = "5m", value_name = "SPAN")]
    pub(crate) timeout: Duration,
}

/// A Compose project.
#[derive(Debug, Args)]
pub(crate) struct ProjectArgs {
    /// The Compose file, or several, each on top of the one before [default: COMPOSE_FILE, else
    /// compose.yaml, compose.yml, docker-compose.yaml or docker-compose.yml in this folder or one
    /// above, with its override file]. `-` is standard input.
    #[arg(short, long = "file", value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// The stack's name [default: COMPOSE_PROJECT_NAME, else the file's `name`, else the folder's name].
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// A file with variables [default: .env in the project's folder].
    #[arg(long = "env-file", value_name = "FILE")]
    pub(crate) env_files: Vec<PathBuf>,
    /// A profile whose services take part; `*` is all [default: COMPOSE_PROFILES].
    #[arg(long = "profile", value_name = "PROFILE")]
    pub(crate) profiles: Vec<String>,
    /// The project's folder [default: that of the first Compose file].
    #[arg(long, value_name = "FOLDER")]
    pub(crate) project_directory: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    #[command(flatten)]
    pub(crate) project: ProjectArgs,
    /// Build nothing: take the `image` of each service.
    #[arg(long)]
    pub(crate) no_build: bool,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct WaitArgs {
    /// Follow until everything runs and is healthy, or one thing failed (the default).
    #[arg(long, overrides_with = "no_wait")]
    pub(crate) wait: bool,
    /// Do not follow.
    #[arg(long)]
    pub(crate) no_wait: bool,
    /// How long to follow at the most; the deployment itself goes on.
    #[arg(long, value_parser = parse::duration, default_value = "5m", value_name = "SPAN")]
    pub(crate) timeout: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// The stack's and service's name [default: the image's, with four digits].
    #[arg(long)]
    pub(crate) name: Option<StackName>,
    /// An environment variable: NAME=VALUE, or NAME to pass on this shell's.
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub(crate) env: Vec<String>,
    /// A port: [[ADDRESS:]PORT:]CONTAINER_PORT[/udp].
    #[arg(short, long, value_parser = parse::publish, value_name = "PORT")]
    pub(crate) publish: Vec<Publish>,
    /// What happens when it ends: no, on-failure[:TIMES] or always.
    #[arg(long, value_parser = parse::restart, default_value = "always", value_name = "POLICY")]
    pub(crate) restart: RestartPolicy,
    /// The most memory: 512m, 2g.
    #[arg(short, long)]
    pub(crate) memory: Option<Bytes>,
    /// The most processors: 0.5, 2.
    #[arg(long)]
    pub(crate) cpus: Option<Cpu>,
    /// The pool whose nodes may run it, or several in order of preference: eu,us.
    #[arg(long)]
    pub(crate) pool: Option<Pools>,
    #[command(flatten)]
    pub(crate) wait: WaitArgs,
    /// The image.
    pub(crate) image: String,
    /// The command and its arguments [default: the image's].
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) command: Vec<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum JobCommand {
    /// List jobs with their last run, and when they are due next.
    Ls,
    /// Run an image once, to its end; ends with its exit code.
    Run(JobRunArgs),
    /// Run a job again.
    Rerun(RerunArgs),
    /// List the runs of a job with their exit codes, oldest first, and when it was due and did not run.
    History(HistoryArgs),
    /// Hold the schedule of a job; a run that goes on goes on.
    Pause(ScheduleArgs),
    /// Let the schedule of a job go on; what was due meanwhile is not made up for.
    Resume(ScheduleArgs),
}

#[derive(Debug, Args)]
pub(crate) struct JobRunArgs {
    /// The job's name [default: the image's, with four digits].
    #[arg(long)]
    pub(crate) name: Option<StackName>,
    /// An environment variable: NAME=VALUE, or NAME to pass on this shell's.
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub(crate) env: Vec<String>,
    /// How often it is tried again when it fails.
    #[arg(long, default_value = "0", value_name = "TIMES")]
    pub(crate) retries: u32,
    /// The most memory: 512m, 2g.
    #[arg(short, long)]
    pub(crate) memory: Option<Bytes>,
    /// The most processors: 0.5, 2.
    #[arg(long)]
    pub(crate) cpus: Option<Cpu>,
    /// The pool whose nodes may run it, or several in order of preference: eu,us.
    #[arg(long)]
    pub(crate) pool: Option<Pools>,
    /// Keep it when it has ended, to run it again.
    #[arg(long)]
    pub(crate) keep: bool,
    /// Do not wait for its end; keeps it.
    #[arg(short, long)]
    pub(crate) detach: bool,
    /// The image.
    pub(crate) image: String,
    /// The command and its arguments [default: the image's].
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) command: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct RerunArgs {
    /// The job.
    pub(crate) service: String,
    /// Do not wait for its end.
    #[arg(long)]
    pub(crate) no_wait: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ScheduleArgs {
    /// The job.
    pub(crate) service: String,
}

#[derive(Debug, Args)]
pub(crate) struct HistoryArgs {
    /// The job.
    pub(crate) service: String,
    /// How many of the last runs to show.
    #[arg(short = 'n', long, default_value = "50", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) limit: u32,
    /// Only when it was due and did not run.
    #[arg(long)]
    pub(crate) missed: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SecretCommand {
    /// Set a secret from a file, standard input, or a prompt; never from the command line.
    Set(SecretSetArgs),
    /// List secrets without their values.
    Ls,
    /// List the versions of a secret, without their values.
    Versions(SecretVersionsArgs),
    /// Go back to the value of an earlier version; it becomes a new version.
    Rollback(SecretRollbackArgs),
    /// Delete secrets with all their versions.
    Rm(SecretRmArgs),
    /// Go over to a new key for what the server stores sealed, secrets and its authority.
    RotateKey,
}

#[derive(Debug, Args)]
pub(crate) struct SecretVersionsArgs {
    /// Its name within the project.
    pub(crate) name: SecretName,
}

#[derive(Debug, Args)]
pub(crate) struct SecretRollbackArgs {
    /// Its name within the project.
    pub(crate) name: SecretName,
    /// The version, as `lattice secret versions` lists it.
    pub(crate) version: u64,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RegistryCommand {
    /// Set the login for a registry; the password comes from standard input or a prompt.
    Login(RegistryLoginArgs),
    /// List the registries that the project has a login for.
    Ls,
    /// Delete the login for a registry.
    Logout(RegistryLogoutArgs),
}

#[derive(Debug, Args)]
pub(crate) struct RegistryLoginArgs {
    /// Its host, with a port where the images' names have one.
    #[arg(default_value = "docker.io")]
    pub(crate) host: String,
    /// Who logs in.
    #[arg(short, long)]
    pub(crate) username: String,
}

#[derive(Debug, Args)]
pub(crate) struct RegistryLogoutArgs {
    /// Its host.
    #[arg(default_value = "docker.io")]
    pub(crate) host: String,
}

#[derive(Debug, Args)]
pub(crate) struct SecretSetArgs {
    /// Its name within the project.
    pub(crate) name: SecretName,
    /// Take the value from here, byte by byte [default: standard input].
    #[arg(short, long = "from-file", visible_alias = "file")]
    pub(crate) file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct SecretRmArgs {
    /// Their names.
    #[arg(required = true)]
    pub(crate) names: Vec<SecretName>,
}

/// Where images are built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum BuildOn {
    /// With the Docker of this computer.
    Local,
    /// On a node of the pool.
    Node,
    /// On this one.
    Named(lattice_model::NodeName),
}

impl std::str::FromStr for BuildOn {
    type Err = lattice_model::InvalidName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "local" => Self::Local,
            "node" => Self::Node,
            name => Self::Named(name.parse()?),
        })
    }
}
