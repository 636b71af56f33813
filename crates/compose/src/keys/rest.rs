//! The keys outside of services, and the list of all tables.

use super::Fate::{Harmless, Honoured, Partly, Refused};
use super::{Table, service::*};

const REMOTE: &str = "the node keeps volumes on its own disk";

pub(crate) const TOP: Table = Table {
    at: "",
    keys: &[
        ("configs", Honoured("files that travel with the deployment")),
        ("include", Honoured("other files, with their own folders and variables")),
        ("models", Refused("Lattice runs no models by itself", "Run a model server as a service")),
        ("name", Honoured("the stack's name")),
        ("networks", Honoured("see below")),
        ("secrets", Honoured("see below")),
        ("services", Honoured("see below")),
        ("version", Harmless("it is obsolete, and Compose does not read it either")),
        ("volumes", Honoured("see below")),
        ("x-lattice", Honoured("no key of it is known here yet")),
    ],
};

pub(crate) const INCLUDE: Table = Table {
    at: "include[]",
    keys: &[
        (
            "env_file",
            Honoured("variables for the included files; `.env` in their folder where nothing is said"),
        ),
        ("path", Honoured("one file, or several that are merged")),
        ("project_directory", Honoured("what its paths are relative to")),
    ],
};

pub(crate) const VOLUME: Table = Table {
    at: "volumes.*",
    keys: &[
        ("driver", Partly("`local`; other drivers are refused: the node keeps volumes on its own disk")),
        (
            "driver_opts",
            Refused(
                REMOTE,
                "Remove it; for remote storage use a client inside a service, for memory `tmpfs` on the service",
            ),
        ),
        (
            "external",
            Refused(
                "a volume belongs to its stack, and one that exists elsewhere would be replaced by an empty one",
                "Remove it for a new volume, and bring the data in: `lattice exec -i SERVICE tar x < data.tar`",
            ),
        ),
        ("labels", Honoured("kept with the volume")),
        ("name", Harmless("a volume is called by its key, within its stack; no other stack shares it")),
    ],
};

pub(crate) const NETWORK: Table = Table {
    at: "networks.*",
    keys: &[
        ("attachable", Harmless("nothing outside of the stack attaches to its networks")),
        (
            "driver",
            Partly(
                "`bridge` and `overlay` are the stack's own network; `macvlan`, `ipvlan`, `host` reach into the owner's LAN and are refused",
            ),
        ),
        ("driver_opts", Harmless("the node builds the network")),
        ("enable_ipv4", Partly("`true`")),
        ("enable_ipv6", Harmless("services reach each other by name, over IPv4")),
        (
            "external",
            Refused(
                "a network belongs to its stack, so that no stack can reach into another",
                "Remove it, and put services that talk to each other into one stack (`include` brings other files in), or publish a port",
            ),
        ),
        ("internal", Honoured("no way out")),
        ("ipam", Harmless("the node picks free addresses")),
        ("labels", Honoured("kept with the network")),
        ("name", Harmless("a network is called by its key, within its stack")),
    ],
};

pub(crate) const SECRET: Table = Table {
    at: "secrets.*",
    keys: &[
        (
            "driver",
            Refused(
                "secrets are kept by Lattice alone",
                "Use `file` or `environment`, or `external: true` for one that was set by `lattice secret set`",
            ),
        ),
        (
            "driver_opts",
            Refused(
                "secrets are kept by Lattice alone",
                "Use `file` or `environment`, or `external: true` for one that was set by `lattice secret set`",
            ),
        ),
        ("environment", Honoured("the value of a variable where you deploy")),
        ("external", Honoured("set before by `lattice secret set NAME`")),
        ("file", Honoured("read where you deploy")),
        ("labels", Harmless("secrets have no labels")),
        (
            "name",
            Honoured(
                "its name in the project; `STACK_KEY` where nothing is said, the key for an external one",
            ),
        ),
        (
            "template_driver",
            Refused("values are delivered as they are", "Fill the template in before, and use `file`"),
        ),
    ],
};

pub(crate) const CONFIG: Table = Table {
    at: "configs.*",
    keys: &[
        ("content", Honoured("the text itself, variables expanded")),
        ("environment", Honoured("the value of a variable where you deploy")),
        (
            "external",
            Refused(
                "configs are not kept outside of a stack",
                "Give its text by `file` or `content`; what is confidential belongs under `secrets`",
            ),
        ),
        ("file", Honoured("a file or folder, read where you deploy")),
        ("labels", Harmless("configs have no labels")),
        ("name", Harmless("a config is called by its key, within its stack")),
        (
            "template_driver",
            Refused(
                "texts are delivered as they are",
                "Fill the template in before, and use `file` or `content`",
            ),
        ),
    ],
};

pub(crate) const LATTICE: Table = Table {
    at: "services.*.x-lattice",
    keys: &[
        (
            "array",
            Honoured(
                "the replicas of a job are its tasks, of which so many run at the same time (0: all); each is told its number ([jobs](jobs.md))",
            ),
        ),
        (
            "bandwidth",
            Honoured(
                "what of the node's network is set aside for each replica, each way: `50Mbit` ([where work goes](scheduling.md#disk-and-network))",
            ),
        ),
        (
            "disk",
            Honoured(
                "disk space that is set aside for what each replica writes: `20g` ([where work goes](scheduling.md#disk-and-network))",
            ),
        ),
        (
            "gang",
            Honoured(
                "`true`: replicas get their places together, or none of them does ([where work goes](scheduling.md#gangs))",
            ),
        ),
        (
            "gpu_share",
            Honoured(
                "`0.25` or `25%` of one GPU, whose rest others may have ([GPUs](gpu.md#a-share-of-one))",
            ),
        ),
        (
            "pool",
            Honoured(
                "the pool whose nodes may run it, or a list of pools, of which the first that has room does",
            ),
        ),
        (
            "priority",
            Honoured(
                "a whole number, 0 unless said: where there is no room, the lower makes way for the higher; on a node that is short of memory, the lowest goes first",
            ),
        ),
        ("rebalance", Honoured("`gentle`, or `off`: no replica moves only because they are unevenly spread")),
        (
            "rendezvous",
            Honoured(
                "`true`, or the port of the first replica: each is told its number, how many there are and where the first one is ([GPUs](gpu.md))",
            ),
        ),
        (
            "restart_on_secret",
            Honoured(
                "whether its containers are replaced, as at an update, when a secret that it mounts gets another value",
            ),
        ),
        (
            "prefer",
            Honoured(
                "constraints that make a node better where they hold: `node.labels.disk == ssd`, or `{node, weight}`",
            ),
        ),
        (
            "near",
            Honoured(
                "other work of the project that has to be, or with a weight is better, on the same node: a service, `STACK/SERVICE`, `LABEL=VALUE`, or `{service, over, weight}`",
            ),
        ),
        ("apart", Honoured("the same for what may not be there, or with a weight had better not be")),
        (
            "max_skew",
            Honoured(
                "by how many replicas one value of a `deploy.placement.preferences` may be ahead of another; more wait",
            ),
        ),
        (
            "lasts",
            Honoured(
                "how long it takes, of what ends: it is put where the node will probably stay so long ([availability](availability.md))",
            ),
        ),
        (
            "schedule",
            Honoured(
                "when a job runs by itself: `30 2 * * *`, `@daily`, or a mapping ([jobs](jobs.md#schedules)); see below",
            ),
        ),
        ("tolerations", Honoured("the taints of nodes that it bears: `KEY`, `KEY=VALUE`, or `{key, value}`")),
        (
            "update",
            Honoured(
                "whether a new version is tried beside the old one ([rollouts](rollouts.md)); see below",
            ),
        ),
    ],
};

pub(crate) const PREFER: Table = Table {
    at: "services.*.x-lattice.prefer[]",
    keys: &[
        ("node", Honoured("a constraint on nodes")),
        ("weight", Honoured("how much better, 1 to 100, 10 unless said; below 0, how much worse")),
    ],
};
pub(crate) const AFFINITY: Table = Table {
    at: "services.*.x-lattice.near[]",
    keys: &[
        ("service", Honoured("a service of the stack, `STACK/SERVICE`, or `LABEL=VALUE`")),
        ("over", Honoured("where an attribute has the same value (`node.region`), instead of on the node")),
        ("weight", Honoured("how much better, 1 to 100; required where it is left out")),
    ],
};
pub(crate) const TOLERATION: Table = Table {
    at: "services.*.x-lattice.tolerations[]",
    keys: &[
        ("key", Honoured("what the taint is called")),
        ("value", Honoured("which of that; any where it is left out")),
    ],
};
pub(crate) const LATTICE_UPDATE: Table = Table {
    at: "services.*.x-lattice.update",
    keys: &[
        ("bake", Honoured("how long what is tried has to serve, without a break; 1m unless said")),
        ("canary", Honoured("how many replicas are tried, or `20%` of them; 1 unless said")),
        (
            "deadline",
            Honoured("how long a replica of a new version may take until it serves; 10m unless said"),
        ),
        ("keep", Honoured("how long the old set of a `blue-green` update is kept, stopped; 10m unless said")),
        ("promote", Honoured("`auto`, or `manual`: `lattice rollout promote` lets it take over")),
        (
            "strategy",
            Honoured(
                "`rolling`, `canary`, `blue-green`; how a failure is met, `update_config` says, `rollback` unless said",
            ),
        ),
    ],
};
pub(crate) const LATTICE_SCHEDULE: Table = Table {
    at: "services.*.x-lattice.schedule",
    keys: &[
        (
            "catch_up",
            Honoured(
                "how late a run may begin that could not in time, up to `7d`; 10m unless said, and later than that is missed",
            ),
        ),
        (
            "cron",
            Honoured(
                "the times: minute, hour, day, month, weekday, and seconds before them where wanted; or `@hourly`, `@daily` …",
            ),
        ),
        (
            "overlap",
            Honoured(
                "when one is due while the one before goes on: `skip` lets that go on, `replace` stops it; there is no `allow`",
            ),
        ),
        ("suspended", Honoured("whether it waits until it is deployed otherwise")),
        ("zone", Honoured("the time zone of the times, as `Europe/Berlin`; `UTC` unless said")),
    ],
};
pub(crate) const LATTICE_ELSEWHERE: Table = Table { at: "x-lattice", keys: &[] };

/// Parts of refused or harmless keys: known, so that the walk over the specification is whole.
const REFUSED_WITH_PARENT: &[Table] = &[
    Table {
        at: "services.*.blkio_config",
        keys: &[
            ("device_read_bps", PARENT),
            ("device_read_iops", PARENT),
            ("device_write_bps", PARENT),
            ("device_write_iops", PARENT),
            ("weight", PARENT),
            ("weight_device", PARENT),
        ],
    },
    Table {
        at: "services.*.credential_spec",
        keys: &[("config", PARENT), ("file", PARENT), ("registry", PARENT)],
    },
    Table { at: "services.*.develop", keys: &[("watch", Harmless("as `develop`"))] },
    Table {
        at: "services.*.devices[]",
        keys: &[("permissions", PARENT), ("source", PARENT), ("target", PARENT)],
    },
    Table { at: "services.*.models.*", keys: &[("endpoint_var", PARENT), ("model_var", PARENT)] },
    Table { at: "secrets.*.external", keys: &[("name", Honoured("the old place of `name`"))] },
    Table { at: "services.*.provider", keys: &[("options", PARENT), ("type", PARENT)] },
    Table {
        at: "models.*",
        keys: &[("context_size", PARENT), ("model", PARENT), ("name", PARENT), ("runtime_flags", PARENT)],
    },
    Table {
        at: "networks.*.ipam",
        keys: &[
            ("config", Harmless("as `ipam`")),
            ("driver", Harmless("as `ipam`")),
            ("options", Harmless("as `ipam`")),
        ],
    },
];

const PARENT: super::Fate = Refused("it belongs to a key that is refused", "See there");

pub(crate) static TABLES: &[Table] = &[
    TOP,
    INCLUDE,
    SERVICE,
    BUILD,
    BUILD_SECRET,
    BUILD_ULIMIT,
    DEPENDENCY,
    DEPLOY,
    RESOURCES,
    LIMITS_TABLE,
    RESERVATIONS,
    DEVICE,
    PLACEMENT,
    PREFERENCE,
    RESTART_POLICY,
    UPDATE_CONFIG,
    ROLLBACK_CONFIG,
    ENV_FILE,
    EXTENDS,
    GPU,
    HEALTHCHECK,
    LOGGING,
    SERVICE_NETWORK,
    PORT,
    SERVICE_SECRET,
    SERVICE_CONFIG,
    ULIMIT,
    MOUNT,
    MOUNT_BIND,
    MOUNT_VOLUME,
    MOUNT_TMPFS,
    MOUNT_IMAGE,
    LATTICE,
    LATTICE_SCHEDULE,
    LATTICE_UPDATE,
    PREFER,
    AFFINITY,
    TOLERATION,
    VOLUME,
    NETWORK,
    SECRET,
    CONFIG,
    REFUSED_WITH_PARENT[0],
    REFUSED_WITH_PARENT[1],
    REFUSED_WITH_PARENT[2],
    REFUSED_WITH_PARENT[3],
    REFUSED_WITH_PARENT[4],
    REFUSED_WITH_PARENT[5],
    REFUSED_WITH_PARENT[6],
    REFUSED_WITH_PARENT[7],
    REFUSED_WITH_PARENT[8],
];
