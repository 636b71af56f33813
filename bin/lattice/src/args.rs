//! Every flag, once: it feeds the parser and the help.

use crate::{
    parse::{self, Publish},
    up::{ServerArgs, UpArgs},
};
use clap::{Args, Parser, Subcommand, ValueEnum};
use lattice_model::{
    Binding, Bytes, Cpu, Duration, NodeName, OwnerName, PoolName, ProjectName, Role, SecretName, StackName,
    TokenId, UserName, spec::RestartPolicy,
};
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

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct LoginArgs {
    /// Sign in as this user, by password: from a prompt, or a line of standard input.
    #[arg(long, value_name = "NAME", conflicts_with = "invite")]
    pub(crate) user: Option<String>,
    /// Take an invitation: asks for its code, and for a new password.
    #[arg(long)]
    pub(crate) invite: bool,
    #[command(subcommand)]
    pub(crate) command: Option<LoginCommand>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum LoginCommand {
    /// Let a login in that shows a code on another computer; only for your own.
    Approve(ApproveLoginArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ApproveLoginArgs {
    /// The code, as the other computer shows it.
    pub(crate) code: String,
    /// Turn it away instead.
    #[arg(long)]
    pub(crate) deny: bool,
}

#[derive(Debug, Args)]
pub(crate) struct LogoutArgs {
    /// End your sessions on every computer.
    #[arg(long)]
    pub(crate) all: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum UserCommand {
    /// List users.
    Ls,
    /// Make a user with a password, from a prompt or a line of standard input.
    Create(UserCreateArgs),
    /// Make a link with which somebody sets their own password, once; and the user where there is none.
    Invite(UserInviteArgs),
    /// Remove users with their sessions and API tokens.
    Rm(UsersArgs),
    /// Keep users out; their sessions and tokens end at once.
    Disable(UsersArgs),
    /// Let users in again.
    Enable(UsersArgs),
    /// Set a password: your own, or as an admin anybody's.
    Passwd(PasswdArgs),
    /// Give roles.
    Grant(UserRolesArgs),
    /// Take roles.
    Revoke(UserRolesArgs),
}

#[derive(Debug, Args)]
pub(crate) struct UserCreateArgs {
    /// What they are called.
    pub(crate) name: UserName,
    /// What they are: admin, operator, developer, owner or viewer, everywhere or at a place
    /// (developer@project/shop, operator@pool/lab); may be repeated.
    #[arg(long = "role", value_name = "ROLE[@PLACE]")]
    pub(crate) roles: Vec<Binding>,
    /// Without a password: only an invitation lets them in.
    #[arg(long)]
    pub(crate) no_password: bool,
}

#[derive(Debug, Args)]
pub(crate) struct UserInviteArgs {
    /// What they are called.
    pub(crate) name: UserName,
    /// What they become, besides what they are; may be repeated.
    #[arg(long = "role", value_name = "ROLE[@PLACE]")]
    pub(crate) roles: Vec<Binding>,
    /// How long it works: 30m, 1d.
    #[arg(long, value_parser = parse::duration, default_value = "1d", value_name = "SPAN")]
    pub(crate) ttl: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct UsersArgs {
    /// Their names.
    #[arg(required = true)]
    pub(crate) names: Vec<UserName>,
}

#[derive(Debug, Args)]
pub(crate) struct PasswdArgs {
    /// Whose [default: your own].
    pub(crate) name: Option<UserName>,
}

#[derive(Debug, Args)]
pub(crate) struct UserRolesArgs {
    /// Whose.
    pub(crate) name: UserName,
    /// Which: viewer, developer@project/shop, operator@pool/lab …
    #[arg(required = true, value_name = "ROLE[@PLACE]")]
    pub(crate) roles: Vec<Binding>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ProjectCommand {
    /// List projects with what they use and may use.
    Ls,
    /// Make a project.
    Create(ProjectCreateArgs),
    /// Remove projects in which nothing is left.
    Rm(ProjectsArgs),
    /// Show or change what a project may use at the most.
    Quota(ProjectQuotaArgs),
    /// Show or change who works in a project.
    Members(MembersArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ProjectCreateArgs {
    /// Its name.
    pub(crate) name: ProjectName,
    /// For people.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) description: String,
    #[command(flatten)]
    pub(crate) quota: QuotaArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ProjectsArgs {
    /// Their names.
    #[arg(required = true)]
    pub(crate) names: Vec<ProjectName>,
}

#[derive(Debug, Args)]
pub(crate) struct ProjectQuotaArgs {
    /// The project.
    pub(crate) name: ProjectName,
    #[command(flatten)]
    pub(crate) quota: QuotaArgs,
}

#[derive(Debug, Args)]
pub(crate) struct QuotaArgs {
    /// Processors that its replicas may ask for together: 0.5, 8.
    #[arg(long, value_name = "CPUS")]
    pub(crate) cpus: Option<Cpu>,
    /// Memory that its replicas may ask for together: 512m, 16g.
    #[arg(long, value_name = "BYTES")]
    pub(crate) memory: Option<Bytes>,
    /// Replicas of all its services.
    #[arg(long, value_name = "COUNT")]
    pub(crate) replicas: Option<u32>,
    /// Named volumes.
    #[arg(long, value_name = "COUNT")]
    pub(crate) volumes: Option<u32>,
    /// Stacks.
    #[arg(long, value_name = "COUNT")]
    pub(crate) stacks: Option<u32>,
    /// Forget the bounds that there are; others that are given here count.
    #[arg(long)]
    pub(crate) none: bool,
}

#[derive(Debug, Args)]
pub(crate) struct MembersArgs {
    /// The project.
    pub(crate) name: ProjectName,
    #[command(subcommand)]
    pub(crate) command: Option<MemberCommand>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum MemberCommand {
    /// Give somebody a role in the project.
    Add(MemberArgs),
    /// Take a role in the project from somebody.
    Rm(MemberArgs),
}

#[derive(Debug, Args)]
pub(crate) struct MemberArgs {
    /// Who.
    pub(crate) user: UserName,
    /// As what: admin, developer or viewer.
    #[arg(long, default_value = "developer")]
    pub(crate) role: Role,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a join token; it is shown this once, on stdout.
    Create(TokenCreateArgs),
    /// List join tokens without their secrets.
    Ls,
    /// Make join tokens useless. Nodes that have joined stay.
    Rm(IdsArgs),
}

#[derive(Debug, Args)]
pub(crate) struct TokenCreateArgs {
    /// The pool that nodes join [default: default].
    #[arg(long)]
    pub(crate) pool: Option<PoolName>,
    /// How long it works: 30m, 1h, 7d.
    #[arg(long, value_parser = parse::duration, default_value = "1h", value_name = "SPAN")]
    pub(crate) ttl: Duration,
    /// How many nodes may join with it.
    #[arg(long, default_value = "1", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) uses: u32,
    /// Approve whoever joins with it without asking. Keep such a token as you keep a key.
    #[arg(long)]
    pub(crate) auto_approve: bool,
    /// Who lends the computers that join with it [default: you].
    #[arg(long, value_name = "USER")]
    pub(crate) owner: Option<OwnerName>,
    /// What it is for.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) description: String,
}

#[derive(Debug, Args)]
pub(crate) struct IdsArgs {
    /// Ids, as the listing shows them; the first characters are enough.
    #[arg(required = true)]
    pub(crate) ids: Vec<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ApiTokenCommand {
    /// Make an API token; it is shown this once, on stdout.
    Create(ApiTokenCreateArgs),
    /// List API tokens without their secrets.
    Ls,
    /// Make API tokens useless.
    Rm(IdsArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ApiTokenCreateArgs {
    /// Who or what uses it; audit entries show this.
    pub(crate) name: String,
    /// What it may do, within what you may do: viewer, developer@project/shop, operator@pool/lab, admin;
    /// may be repeated [default: viewer].
    #[arg(long = "role", value_name = "ROLE[@PLACE]")]
    pub(crate) roles: Vec<Binding>,
    /// How long it works: 1h, 30d [default: for ever].
    #[arg(long, value_parser = parse::duration, value_name = "SPAN")]
    pub(crate) ttl: Option<Duration>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum NodeCommand {
    /// List nodes.
    Ls,
    /// Show one node with all that is known of it.
    Show(NodeArgs),
    /// Take nodes into the cluster that ask to join; shows what the decision rests on first.
    Approve(ApproveArgs),
    /// Turn away nodes that ask to join.
    Reject(ReasonArgs),
    /// Throw nodes out: their link is cut and their certificates are worth nothing.
    Revoke(ReasonArgs),
    /// Give nodes no new work; what runs stays.
    Cordon(NodesArgs),
    /// Give nodes new work again; ends a drain too.
    Uncordon(NodesArgs),
    /// Change the pool and the labels of nodes.
    Set(NodeSetArgs),
    /// Empty nodes: they get no new work, and what can run elsewhere moves there.
    Drain(DrainArgs),
    /// Forget nodes that are emptied, lost, rejected or revoked.
    Rm(NodeRmArgs),
}

#[derive(Debug, Args)]
pub(crate) struct NodeArgs {
    /// A name, an id, or an id's first characters.
    pub(crate) node: String,
}

#[derive(Debug, Args)]
pub(crate) struct NodesArgs {
    /// Names, ids, or first characters of ids.
    #[arg(required = true)]
    pub(crate) nodes: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct NodeSetArgs {
    /// Names, ids, or first characters of ids.
    #[arg(required = true)]
    pub(crate) nodes: Vec<String>,
    /// The pool that they belong to from now on; what may not run there moves away.
    #[arg(long)]
    pub(crate) pool: Option<PoolName>,
    /// A label to set, KEY=VALUE, or to take away, KEY.
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    pub(crate) label: Vec<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PoolCommand {
    /// List pools.
    Ls,
    /// Make a pool.
    Create(PoolCreateArgs),
    /// Change a pool.
    Set(PoolSetArgs),
    /// Remove pools that nothing uses.
    Rm(PoolRmArgs),
}

#[derive(Debug, Args)]
pub(crate) struct PoolCreateArgs {
    /// Its name.
    pub(crate) name: PoolName,
    /// Let volumes and secrets go to its nodes, whose owners can read them.
    #[arg(long)]
    pub(crate) trusted: bool,
    /// A project that may use it; all where none is named. May be given several times.
    #[arg(long = "allow-project", value_name = "NAME")]
    pub(crate) projects: Vec<ProjectName>,
    /// What it is for.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) description: String,
    /// A label: KEY=VALUE.
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub(crate) label: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct PoolSetArgs {
    /// Its name.
    pub(crate) name: PoolName,
    /// Whether volumes and secrets may go to its nodes. What is there stays.
    #[arg(long, value_name = "YES|NO", value_parser = clap::builder::BoolishValueParser::new())]
    pub(crate) trusted: Option<bool>,
    /// The projects that may use it from now on. May be given several times.
    #[arg(long = "allow-project", value_name = "NAME")]
    pub(crate) projects: Vec<ProjectName>,
    /// Let all projects use it.
    #[arg(long, conflicts_with = "projects")]
    pub(crate) all_projects: bool,
    /// What it is for.
    #[arg(long)]
    pub(crate) description: Option<String>,
    /// A label to set, KEY=VALUE, or to take away, KEY.
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    pub(crate) label: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct PoolRmArgs {
    /// Their names.
    #[arg(required = true)]
    pub(crate) names: Vec<PoolName>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RolloutCommand {
    /// Show how the last deployment of a stack fares, and the versions that are kept.
    Status(RolloutStatusArgs),
    /// Deploy the version before, or another one that is kept.
    Undo(RolloutUndoArgs),
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
pub(crate) struct DrainArgs {
    /// Names, ids, or first characters of ids.
    #[arg(required = true)]
    pub(crate) nodes: Vec<String>,
    /// After this, nothing waits for its turn or until its successor serves: 5m, 1h.
    #[arg(long, value_parser = parse::duration, value_name = "SPAN")]
    pub(crate) deadline: Option<Duration>,
    /// Follow until all has moved that can.
    #[arg(long)]
    pub(crate) wait: bool,
    /// How long to follow at the most; the drain itself goes on.
    #[arg(long, value_parser = parse::duration, default_value = "10m", value_name = "SPAN", requires = "wait")]
    pub(crate) timeout: Duration,
    /// Only say what would move where, what would stay, and why.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Args)]
pub(crate) struct NodeRmArgs {
    /// Names, ids, or first characters of ids.
    #[arg(required = true)]
    pub(crate) nodes: Vec<String>,
    /// Give up the volumes whose data is only there, for ever; asks for the node's name.
    #[arg(long)]
    pub(crate) lose_volumes: bool,
    /// Do not ask.
    #[arg(short, long)]
    pub(crate) yes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ApproveArgs {
    /// Names, ids, or first characters of ids.
    #[arg(required = true)]
    pub(crate) nodes: Vec<String>,
    /// Another name than the node proposed.
    #[arg(long)]
    pub(crate) name: Option<NodeName>,
    /// Another pool than its token says.
    #[arg(long)]
    pub(crate) pool: Option<PoolName>,
    /// The key's fingerprint as the owner reads it out; refused where the node has another.
    #[arg(long, value_name = "HEX")]
    pub(crate) fingerprint: Option<String>,
    /// Do not ask.
    #[arg(short, long)]
    pub(crate) yes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ReasonArgs {
    /// Names, ids, or first characters of ids.
    #[arg(required = true)]
    pub(crate) nodes: Vec<String>,
    /// Why; the owner sees it.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) reason: String,
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
    /// The pool whose nodes may run it.
    #[arg(long)]
    pub(crate) pool: Option<PoolName>,
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
    /// List jobs with their last run.
    Ls,
    /// Run an image once, to its end; ends with its exit code.
    Run(JobRunArgs),
    /// Run a job again.
    Rerun(RerunArgs),
    /// List the runs of a job with their exit codes, oldest first.
    History(HistoryArgs),
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
    /// The pool whose nodes may run it.
    #[arg(long)]
    pub(crate) pool: Option<PoolName>,
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
pub(crate) struct HistoryArgs {
    /// The job.
    pub(crate) service: String,
    /// How many of the last runs to show.
    #[arg(short = 'n', long, default_value = "50", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) limit: u32,
}

#[derive(Debug, Args)]
pub(crate) struct TopArgs {
    /// Show it once and end.
    #[arg(long)]
    pub(crate) once: bool,
    /// How long between two looks.
    #[arg(long, value_parser = parse::duration, default_value = "2s", value_name = "SPAN")]
    pub(crate) every: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct PsArgs {
    /// Also show what has ended or is on its way out.
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Only this stack.
    pub(crate) stack: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    /// Go on as more is written.
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Only the last so many lines of each replica.
    #[arg(short = 'n', long, value_name = "LINES")]
    pub(crate) tail: Option<u64>,
    /// Only what was written in the last: 10m, 2h.
    #[arg(long, value_parser = parse::duration, value_name = "SPAN")]
    pub(crate) since: Option<Duration>,
    /// Say when each line was written.
    #[arg(short, long)]
    pub(crate) timestamps: bool,
    /// A service, one replica of it, or an allocation.
    pub(crate) target: String,
}

#[derive(Debug, Args)]
pub(crate) struct ExecArgs {
    /// Pass standard input on.
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// Give the command a terminal.
    #[arg(short, long)]
    pub(crate) tty: bool,
    /// An environment variable: NAME=VALUE, or NAME to pass on this shell's.
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub(crate) env: Vec<String>,
    /// Run as another user than the container's: USER[:GROUP].
    #[arg(short, long)]
    pub(crate) user: Option<String>,
    /// Begin in another folder than the container's: an absolute path in it.
    #[arg(short, long, value_name = "FOLDER")]
    pub(crate) workdir: Option<String>,
    /// A service, one replica of it, or an allocation.
    pub(crate) target: String,
    /// The command and its arguments.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) command: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct CpArgs {
    /// From where: a file or folder here, SERVICE:/PATH in a container, or - for a tar archive on standard input.
    pub(crate) from: String,
    /// To where: SERVICE:/PATH in a container, a file or folder here, or - for a tar archive on standard output.
    pub(crate) to: String,
}

#[derive(Debug, Args)]
pub(crate) struct TargetsArgs {
    /// Services or stacks.
    #[arg(required = true)]
    pub(crate) targets: Vec<String>,
    /// Do not wait until it is so.
    #[arg(long)]
    pub(crate) no_wait: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ScaleArgs {
    /// How many: web=3.
    #[arg(required = true, value_parser = parse::scale, value_name = "SERVICE=REPLICAS")]
    pub(crate) targets: Vec<(String, u32)>,
    /// Do not wait until it is so.
    #[arg(long)]
    pub(crate) no_wait: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RmArgs {
    /// Stacks.
    #[arg(required = true)]
    pub(crate) stacks: Vec<String>,
    /// Delete the data of its volumes too, for ever.
    #[arg(long)]
    pub(crate) volumes: bool,
    /// Do not ask.
    #[arg(short, long)]
    pub(crate) yes: bool,
    /// Do not wait until it is gone.
    #[arg(long)]
    pub(crate) no_wait: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum VolumeCommand {
    /// List volumes.
    Ls,
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

#[derive(Debug, Args)]
pub(crate) struct EventsArgs {
    /// Go on as more happens; with `-o json` one event a line.
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// How many of the past to show.
    #[arg(short = 'n', long, default_value = "50", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) limit: u32,
    /// Only those of a stack.
    #[arg(long)]
    pub(crate) stack: Option<String>,
    /// Only those of a node.
    #[arg(long)]
    pub(crate) node: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct AuditArgs {
    /// How many of the past to show.
    #[arg(short = 'n', long, default_value = "50", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) limit: u32,
}

#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// The service.
    pub(crate) service: String,
}

#[derive(Debug, Subcommand)]
pub(crate) enum BackupCommand {
    /// Make a backup: of the server that runs, or of its folder when it is stopped.
    ///
    /// Without a place the server makes one where its configuration ([backup]) says.
    Create(BackupCreateArgs),
    /// List backups, and say which are whole.
    Ls(BackupLsArgs),
    /// Read all of a backup, and restore its rows into a scratch store.
    Verify(BackupReadArgs),
    /// Make an empty machine the server again. The server must not run.
    Restore(BackupRestoreArgs),
}

/// Where backups are.
#[derive(Debug, Args)]
pub(crate) struct PlaceArgs {
    /// A folder, or s3://BUCKET/PREFIX [default: url of [backup] in --config].
    #[arg(long, alias = "to", alias = "from", value_name = "PLACE")]
    pub(crate) place: Option<String>,
    /// The server's configuration: its [backup] names the place and the key.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// The address of an S3-compatible store that is not Amazon's [default: AWS_ENDPOINT_URL].
    #[arg(long, value_name = "URL")]
    pub(crate) s3_endpoint: Option<String>,
    /// The region of the bucket [default: AWS_REGION, else us-east-1].
    #[arg(long, value_name = "NAME")]
    pub(crate) s3_region: Option<String>,
    /// A file of AWS_ACCESS_KEY_ID=… and AWS_SECRET_ACCESS_KEY=… lines [default: the environment].
    #[arg(long, value_name = "FILE")]
    pub(crate) s3_credentials: Option<PathBuf>,
}

/// The key of a backup. Never on the command line itself.
#[derive(Debug, Args)]
pub(crate) struct KeyArgs {
    /// A file with the passphrase, `-` for standard input [default: asked for].
    #[arg(long, env = "LATTICE_BACKUP_PASSPHRASE_FILE", value_name = "FILE")]
    pub(crate) passphrase_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct BackupCreateArgs {
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
    #[command(flatten)]
    pub(crate) key: KeyArgs,
    /// Encrypt to this public key (age1…) instead of a passphrase; may be given several times.
    #[arg(long = "recipient", value_name = "KEY", conflicts_with = "passphrase_file")]
    pub(crate) recipients: Vec<String>,
    /// Where the state of a stopped server is [default: the platform's data folder].
    #[arg(long, env = "LATTICE_HOME", value_name = "FOLDER")]
    pub(crate) home: Option<PathBuf>,
    /// Remove this cluster's older backups and keep the newest so many.
    #[arg(long, value_name = "COUNT", value_parser = parse::count)]
    pub(crate) keep: Option<usize>,
}

#[derive(Debug, Args)]
pub(crate) struct BackupLsArgs {
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
}

#[derive(Debug, Args)]
pub(crate) struct BackupReadArgs {
    /// Which [default: the newest that is whole].
    pub(crate) name: Option<String>,
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
    #[command(flatten)]
    pub(crate) key: KeyArgs,
    /// A file with the secret key (AGE-SECRET-KEY-1…) of a recipient.
    #[arg(long, value_name = "FILE", conflicts_with = "passphrase_file")]
    pub(crate) identity: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct BackupRestoreArgs {
    /// Which [default: the newest that is whole].
    pub(crate) name: Option<String>,
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
    #[command(flatten)]
    pub(crate) key: KeyArgs,
    /// A file with the secret key (AGE-SECRET-KEY-1…) of a recipient.
    #[arg(long, value_name = "FILE", conflicts_with = "passphrase_file")]
    pub(crate) identity: Option<PathBuf>,
    /// Where the state is to be [default: the platform's data folder].
    #[arg(long, env = "LATTICE_HOME", value_name = "FOLDER")]
    pub(crate) home: Option<PathBuf>,
    /// Move aside what is there already; nothing is deleted.
    #[arg(long)]
    pub(crate) replace: bool,
}

#[derive(Debug, Args)]
pub(crate) struct MigrateArgs {
    /// The old store: a server's configuration (server.toml), or sqlite:PATH.
    #[arg(long, value_name = "STORE", requires = "to")]
    pub(crate) from: Option<String>,
    /// The new store, which is to be empty: likewise.
    #[arg(long, value_name = "STORE", requires = "from")]
    pub(crate) to: Option<String>,
    /// Take back that this store is marked as moved, so that servers start on it again.
    #[arg(long, value_name = "STORE", conflicts_with_all = ["from", "to"])]
    pub(crate) reopen: Option<String>,
    /// Where the state is, for a configuration that names no home [default: the platform's data folder].
    #[arg(long, env = "LATTICE_HOME", value_name = "FOLDER")]
    pub(crate) home: Option<PathBuf>,
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
