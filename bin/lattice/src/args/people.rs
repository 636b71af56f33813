//! Who signs in, and what they may do: logins, users, projects and their members, API tokens.

use crate::{args::IdsArgs, parse};
use clap::{Args, Subcommand};
use lattice_model::{Binding, Bytes, Cpu, Duration, ProjectName, Role, UserName};

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
