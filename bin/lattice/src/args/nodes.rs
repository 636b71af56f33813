//! Computers: how they join, where they belong, and how they go.

use crate::parse;
use clap::{Args, Subcommand, ValueEnum};
use lattice_model::{
    Bytes, Cpu, Duration, NodeName, OwnerName, PoolName, ProjectName, pool::Rule, resource::Taint,
};

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
pub(crate) enum NodeCommand {
    /// List nodes.
    Ls,
    /// Show one node with all that is known of it.
    Show(NodeArgs),
    /// List nodes by how good they are: promises kept, measured speed, badges.
    Rank(RankArgs),
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
    /// Set taints of a node, which keep away work that does not tolerate them, or take them away.
    Taint(NodeTaintArgs),
    /// Empty nodes: they get no new work, and what can run elsewhere moves there.
    Drain(DrainArgs),
    /// Forget nodes that are emptied, lost, rejected or revoked.
    Rm(NodeRmArgs),
}

#[derive(Debug, Args)]
pub(crate) struct RankArgs {
    /// Of one class of hardware alone.
    #[arg(long)]
    pub(crate) class: Option<HardwareClass>,
}

/// A class of hardware.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum HardwareClass {
    /// It has a battery.
    Laptop,
    /// It has none, and is small.
    Desktop,
    /// It is large, or a virtual machine.
    Server,
    /// It lends a GPU that containers can use.
    Gpu,
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
    /// The pool that they belong to from now on; what may not run there moves away. `auto` leaves it to the rules of
    /// pools.
    #[arg(long)]
    pub(crate) pool: Option<PoolName>,
    /// A label to set, KEY=VALUE, or to take away, KEY.
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    pub(crate) label: Vec<String>,
    /// Only say what would have to move.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Args)]
pub(crate) struct NodeTaintArgs {
    /// A name, an id, or an id's first characters.
    pub(crate) node: String,
    /// KEY=VALUE:EFFECT or KEY:EFFECT sets one: `refuse` (nothing new), `avoid` (worse than other nodes), `evict` (what
    /// runs moves too). KEY- takes all of the key away, KEY:EFFECT- one.
    #[arg(required = true, value_name = "TAINT")]
    pub(crate) taints: Vec<parse::TaintChange>,
    /// Only say what would have to move.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PoolCommand {
    /// List pools.
    Ls,
    /// Show a pool: its rule, its members and why each is one, quotas and what is used.
    Show(PoolShowArgs),
    /// Make a pool.
    Create(PoolCreateArgs),
    /// Change a pool.
    Set(PoolSetArgs),
    /// Bound what each project may use in a pool, or a single one.
    Quota(PoolQuotaArgs),
    /// Remove pools that nothing uses.
    Rm(PoolRmArgs),
}

#[derive(Debug, Args)]
pub(crate) struct PoolShowArgs {
    /// Its name.
    pub(crate) name: PoolName,
}

#[derive(Debug, Args)]
pub(crate) struct PoolQuotaArgs {
    /// The pool.
    pub(crate) name: PoolName,
    /// The project; each that has no quota of its own there, where none is named.
    #[arg(long)]
    pub(crate) project: Option<ProjectName>,
    /// Processors that its replicas may ask for together: 0.5, 8.
    #[arg(long, value_name = "CPUS")]
    pub(crate) cpus: Option<Cpu>,
    /// Memory that its replicas may ask for together: 512m, 16g.
    #[arg(long, value_name = "BYTES")]
    pub(crate) memory: Option<Bytes>,
    /// GPUs that its replicas may ask for together.
    #[arg(long, value_name = "COUNT")]
    pub(crate) gpus: Option<u32>,
    /// Replicas of all its services.
    #[arg(long, value_name = "COUNT")]
    pub(crate) allocations: Option<u32>,
    /// Forget the bounds that there are; others that are given here count.
    #[arg(long)]
    pub(crate) none: bool,
}

/// Which nodes belong to a pool by themselves.
#[derive(Debug, Args)]
pub(crate) struct PoolRuleArgs {
    /// Nodes of which all of this holds belong to it, unless somebody put them elsewhere: constraints with `and` between
    /// them, as `node.gpu.memory >= 40g and node.region == eu`.
    #[arg(long)]
    pub(crate) rule: Option<Rule>,
    /// Of several rules that hold of a node that of the highest priority counts [default: 0].
    #[arg(long, allow_hyphen_values = true)]
    pub(crate) priority: Option<i16>,
    /// What nodes state themselves suffices for this rule, although the pool is trusted with volumes and secrets.
    #[arg(long)]
    pub(crate) trust_claims: bool,
    /// Processors that are promised of each node, in per cent of what it lends.
    #[arg(long, value_name = "PERCENT")]
    pub(crate) promise_cpu: Option<u16>,
    /// Memory that is promised of each node, in per cent of what it lends.
    #[arg(long, value_name = "PERCENT")]
    pub(crate) promise_memory: Option<u16>,
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
    /// A taint that its nodes have: KEY=VALUE:EFFECT; see `lattice node taint`.
    #[arg(long)]
    pub(crate) taint: Vec<Taint>,
    #[command(flatten)]
    pub(crate) rule: PoolRuleArgs,
    /// Only say which nodes would match and come, and what would have to move.
    #[arg(long)]
    pub(crate) dry_run: bool,
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
    /// A taint that its nodes have, KEY=VALUE:EFFECT, or have no more, KEY-; see `lattice node taint`.
    #[arg(long)]
    pub(crate) taint: Vec<parse::TaintChange>,
    #[command(flatten)]
    pub(crate) rule: PoolRuleArgs,
    /// No rule any more: its nodes go where they joined, unless somebody put them here.
    #[arg(long, conflicts_with_all = ["rule", "priority"])]
    pub(crate) no_rule: bool,
    /// Only say which nodes would match, come and go, and what would have to move.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PoolRmArgs {
    /// Their names.
    #[arg(required = true)]
    pub(crate) names: Vec<PoolName>,
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

#[derive(Debug, Subcommand)]
pub(crate) enum AlertCommand {
    /// List the alerts that fire, the worst first.
    Ls,
}
