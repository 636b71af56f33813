//! The keys of a service.

use super::Fate::{Harmless, Honoured, Partly, Refused};
use super::Table;

const NAMESPACE: &str = "the host's and other containers' namespaces are closed to workloads";
const TALK: &str = "Remove it; let services talk over their network";
const OWNER: &str = "the node's owner decides how the computer is shared";
const LIMITS: &str = "Remove it; set limits under `deploy: {resources: {limits: {…}}}`";
const HOOK: &str = "Lattice runs nothing beside a container's own process";

pub(crate) const SERVICE: Table = Table {
    at: "services.*",
    keys: &[
        ("annotations", Harmless("nothing on the node reads annotations; labels are kept")),
        ("attach", Harmless("services run in the background; `lattice logs -f` follows them")),
        ("blkio_config", Refused(OWNER, "Remove it; the disk is shared evenly")),
        (
            "build",
            Honoured(
                "built by `lattice deploy` with this machine's Docker, or on a node where none answers (not all of it: images.md), and uploaded to the server for the nodes that run it",
            ),
        ),
        (
            "cap_add",
            Partly(
                "the capabilities that every container has are fine; others need the consent of the node's owner (a warning); `ALL` is refused",
            ),
        ),
        ("cap_drop", Honoured("all but a small set are dropped already")),
        ("cgroup", Partly("`private` is so always; `host` is refused: it would show the owner's processes")),
        ("cgroup_parent", Refused(OWNER, LIMITS)),
        ("command", Honoured("a text is split into words; no shell reads it")),
        ("configs", Honoured("they travel with the deployment, mounted read-only")),
        (
            "container_name",
            Honoured("a further name by which other services reach it; Lattice names containers itself"),
        ),
        ("cpu_count", Honoured("as `cpus`")),
        ("cpu_percent", Refused("it is for Windows", "Write `cpus: \"0.5\"`")),
        ("cpu_period", Honoured("with `cpu_quota`, as `cpus`")),
        ("cpu_quota", Honoured("divided by `cpu_period` (100 ms unless set), as `cpus`")),
        ("cpu_rt_period", Refused(OWNER, "Remove it; write `cpus: \"0.5\"` for a limit")),
        ("cpu_rt_runtime", Refused(OWNER, "Remove it; write `cpus: \"0.5\"` for a limit")),
        (
            "cpu_shares",
            Harmless(
                "a relative weight says nothing across computers; `deploy.resources.reservations.cpus` sets processors aside",
            ),
        ),
        ("cpus", Honoured("as `deploy.resources.limits.cpus`")),
        (
            "cpuset",
            Refused(
                "the cores of a computer are its owner's to share out",
                "Write `cpus: \"2\"` for as much as two cores",
            ),
        ),
        ("credential_spec", Refused("it is for Windows accounts", "Pass credentials under `secrets`")),
        ("depends_on", Honoured("both forms, with `condition`, `required` and `restart`")),
        ("deploy", Honoured("see below")),
        ("develop", Harmless("it describes development on one machine; deploy again to bring changes")),
        (
            "device_cgroup_rules",
            Refused("the devices of a node belong to its owner", "Remove it; ask for a GPU by `gpus: all`"),
        ),
        (
            "devices",
            Refused(
                "the devices of a node belong to its owner",
                "Remove it; ask for a GPU by `gpus: all`, and pass data through a volume or the network",
            ),
        ),
        ("dns", Honoured("addresses of DNS servers")),
        ("dns_opt", Honoured("options of the resolver")),
        ("dns_search", Honoured("domains to look in")),
        ("domainname", Honoured("the domain of the container's host name")),
        ("entrypoint", Honoured("a text is split into words; an empty list clears the image's")),
        ("env_file", Honoured("one or several, with `required` and `format: raw`; read where you deploy")),
        ("environment", Honoured("both forms; a name alone takes the value of your shell or `.env`")),
        ("expose", Honoured("a note: services on one network reach every port of each other")),
        ("extends", Honoured("a service of this file or of another, merged by the specification's rules")),
        (
            "external_links",
            Refused(
                "containers outside of the stack are not reachable by name",
                "Put both services into one stack, or publish a port",
            ),
        ),
        (
            "extra_hosts",
            Partly(
                "names with an address; `host-gateway` is refused: the owner's computer and LAN are closed to containers",
            ),
        ),
        (
            "gpus",
            Honoured(
                "`all` that the node lends, or a list of one entry; placed where so many are lent and proven ([GPUs](gpu.md))",
            ),
        ),
        ("group_add", Honoured("by name or number")),
        ("healthcheck", Honoured("without `test` the image's own check is kept, with these times")),
        ("hostname", Honoured("what the container takes for its host's name")),
        ("image", Honoured("NAME, NAME:TAG or NAME@sha256:DIGEST")),
        ("init", Honoured("a small init reaps processes and passes signals on")),
        (
            "ipc",
            Partly("`private` and `shareable` are fine; `host`, `service:` and `container:` are refused"),
        ),
        ("isolation", Partly("`default` is fine; the others are for Windows")),
        ("label_file", Honoured("one or several; read where you deploy")),
        ("labels", Honoured("on the containers; the prefix `lattice.` is reserved")),
        ("links", Honoured("a dependency, and the alias as a further name of that service")),
        (
            "logging",
            Partly(
                "`json-file`, `local`, `journald` and `none`: Lattice keeps a bounded log, with `max-size` and `max-file`; drivers that send logs away are refused",
            ),
        ),
        (
            "mac_address",
            Refused("addresses are given by the node", "Remove it; let services find each other by name"),
        ),
        ("mem_limit", Honoured("as `deploy.resources.limits.memory`")),
        ("mem_reservation", Honoured("as `deploy.resources.reservations.memory`")),
        ("mem_swappiness", Harmless("containers get no swap")),
        ("memswap_limit", Harmless("containers get no swap; the memory limit is all they have")),
        ("models", Refused("Lattice runs no models by itself", "Run a model server as a service")),
        (
            "network_mode",
            Partly(
                "`none` is no network, `bridge` the stack's default one; `host`, `service:` and `container:` are refused",
            ),
        ),
        ("networks", Honoured("both forms, with `aliases`")),
        (
            "oom_kill_disable",
            Refused(
                "a container that cannot be killed can stop the whole computer",
                "Remove it, and raise the memory limit",
            ),
        ),
        ("oom_score_adj", Honoured("from -1000 to 1000; the node keeps its agent safer than any container")),
        ("pid", Refused(NAMESPACE, TALK)),
        ("pids_limit", Honoured("as `deploy.resources.limits.pids`")),
        ("platform", Honoured("nodes that run it are chosen: `linux/amd64`, `linux/arm64/v8` …")),
        (
            "ports",
            Honoured(
                "both forms, ranges, and \"one of a range\"; bound to loopback unless the node's owner allows more",
            ),
        ),
        (
            "post_start",
            Refused(HOOK, "Do it in the entrypoint, or in a service that runs once and waits for this one"),
        ),
        (
            "pre_start",
            Refused(
                HOOK,
                "Write a service of its own and wait for it: `depends_on: {prepare: {condition: service_completed_successfully}}`",
            ),
        ),
        ("pre_stop", Refused(HOOK, "Let the program act on the stop signal within `stop_grace_period`")),
        (
            "privileged",
            Refused(
                "a privileged container owns the computer that somebody lends",
                "Remove it; ask for single rights under `cap_add`, which the node's owner may allow",
            ),
        ),
        ("profiles", Honoured("chosen by `--profile` or COMPOSE_PROFILES")),
        (
            "provider",
            Refused("what runs outside of containers is not managed", "Run it as a service with an image"),
        ),
        (
            "pull_policy",
            Honoured(
                "`missing`, `always`, `never`, `build`; `daily`, `weekly`, `every_…` and `refresh` fetch before each new container",
            ),
        ),
        ("pull_refresh_after", Harmless("images are fetched when a container is made, not by the clock")),
        ("read_only", Honoured("the root file system")),
        (
            "restart",
            Honoured(
                "without it a service is started again always (Compose's default is `no`), unless another waits for its completion",
            ),
        ),
        (
            "runtime",
            Partly("`runc` is so; for `nvidia` write `gpus: all`; the node chooses how containers are run"),
        ),
        ("scale", Honoured("as `deploy.replicas`")),
        ("secrets", Honoured("both forms; files in memory")),
        (
            "security_opt",
            Partly("`no-new-privileges` is always on; whatever loosens or replaces a profile is refused"),
        ),
        ("shm_size", Honoured("the size of /dev/shm")),
        ("stdin_open", Honoured("standard input stays open")),
        ("stop_grace_period", Honoured("at most an hour")),
        ("stop_signal", Honoured("by name or number")),
        ("storage_opt", Refused(OWNER, "Remove it; keep data in a volume")),
        (
            "sysctls",
            Partly(
                "those of the container's own namespaces (`net.*`, `kernel.shm*`, `kernel.msg*`, `kernel.sem`, `fs.mqueue.*`); the others would change the whole computer",
            ),
        ),
        ("tmpfs", Honoured("one or several, with options `size`, `mode`, `uid`, `gid`, `exec`")),
        ("tty", Honoured("a terminal")),
        ("ulimits", Honoured("one number, or `soft` and `hard`")),
        (
            "use_api_socket",
            Refused(
                "the engine's socket gives away the whole computer",
                "Remove it; use Lattice's API with a token instead",
            ),
        ),
        ("user", Honoured("`user`, `user:group`, by name or number")),
        ("userns_mode", Refused(NAMESPACE, "Remove it")),
        ("uts", Refused(NAMESPACE, "Remove it; write `hostname` for a name of its own")),
        ("volumes", Honoured("named volumes, tmpfs, and files inside the project's folder; see below")),
        (
            "volumes_from",
            Refused(
                "mounts are not taken over from other services",
                "Name each volume under `volumes` of both services",
            ),
        ),
        ("working_dir", Honoured("an absolute path")),
        (
            "x-lattice",
            Honoured(
                "`pool`: the pool whose nodes may run it; `restart_on_secret`: whether a secret that changes replaces its containers",
            ),
        ),
    ],
};

pub(crate) const BUILD: Table = Table {
    at: "services.*.build",
    keys: &[
        ("additional_contexts", Honoured("passed to the builder (BuildKit)")),
        ("args", Honoured("a name alone takes the value of your shell or `.env`")),
        ("cache_from", Honoured("passed to the builder")),
        ("cache_to", Honoured("passed to the builder (BuildKit)")),
        ("context", Honoured("a folder, or a URL that Docker fetches")),
        ("dockerfile", Honoured("a path inside the context")),
        ("dockerfile_inline", Honoured("the text itself")),
        ("entitlements", Refused("a build gets no rights over this computer", "Remove it")),
        ("extra_hosts", Honoured("passed to the builder")),
        ("isolation", Partly("`default` is fine; the others are for Windows")),
        ("labels", Honoured("on the image")),
        ("network", Honoured("passed to the builder")),
        ("no_cache", Honoured("everything is built anew")),
        ("no_cache_filter", Honoured("passed to the builder (BuildKit)")),
        ("platforms", Partly("one; an image for several comes from a registry")),
        ("privileged", Refused("a build gets no rights over this computer", "Remove it")),
        ("provenance", Harmless("the image does not leave this computer by a registry")),
        ("pull", Honoured("base images are fetched anew")),
        ("sbom", Harmless("the image does not leave this computer by a registry")),
        ("secrets", Honoured("from a file or a variable (BuildKit)")),
        ("shm_size", Honoured("of the builder's containers")),
        ("ssh", Honoured("passed to the builder (BuildKit)")),
        ("tags", Honoured("further tags in this machine's Docker")),
        ("target", Honoured("the stage that is built")),
        ("ulimits", Honoured("of the builder's containers")),
    ],
};

pub(crate) const HEALTHCHECK: Table = Table {
    at: "services.*.healthcheck",
    keys: &[
        ("disable", Honoured("the image's own check is switched off")),
        ("interval", Honoured("time between two checks")),
        ("retries", Honoured("failures in a row that make it unhealthy")),
        ("start_interval", Honoured("time between two checks at the start")),
        ("start_period", Honoured("a time at the start in which failures do not count")),
        ("test", Honoured("`[\"CMD\", …]`, `[\"CMD-SHELL\", …]`, `[\"NONE\"]` or a text for the shell")),
        ("timeout", Honoured("how long one check may take")),
    ],
};

pub(crate) const DEPLOY: Table = Table {
    at: "services.*.deploy",
    keys: &[
        ("endpoint_mode", Harmless("a service's name resolves to its replicas, `vip` or `dnsrr`")),
        ("labels", Honoured("on the containers, beside the service's own")),
        ("mode", Honoured("`replicated`, `global`; `replicated-job` and `global-job` run to their end")),
        ("placement", Honoured("see below; `x-lattice: {pool: NAME}` on the service names a pool")),
        ("replicas", Honoured("up to 1000")),
        ("resources", Honoured("see below")),
        ("restart_policy", Honoured("outranks `restart`")),
        ("rollback_config", Honoured("how the way back goes: as `update_config`, without `rollback`")),
        ("update_config", Honoured("see below")),
    ],
};

pub(crate) const RESOURCES: Table = Table {
    at: "services.*.deploy.resources",
    keys: &[("limits", Honoured("the most")), ("reservations", Honoured("set aside on the node"))],
};

pub(crate) const LIMITS_TABLE: Table = Table {
    at: "services.*.deploy.resources.limits",
    keys: &[
        ("cpus", Honoured("cores")),
        ("memory", Honoured("at least 6 MiB, Docker's least; 1 GiB where nothing is said")),
        ("pids", Honoured("processes and threads")),
    ],
};

pub(crate) const RESERVATIONS: Table = Table {
    at: "services.*.deploy.resources.reservations",
    keys: &[
        ("cpus", Honoured("cores")),
        ("devices", Partly("GPUs, as `gpus`; other devices belong to the node's owner")),
        (
            "generic_resources",
            Refused(
                "nodes offer processors, memory and GPUs",
                "Write `gpus: all`, or choose nodes by `x-lattice: {pool: NAME}`",
            ),
        ),
        ("memory", Honoured("what the planner sets aside")),
    ],
};

pub(crate) const DEVICE: Table = Table {
    at: "services.*.deploy.resources.reservations.devices[]",
    keys: &[
        ("capabilities", Honoured("`gpu`, and what of it is used: `compute`, `utility` …")),
        ("count", Honoured("a number, or `all`")),
        ("device_ids", Honoured("as `lattice node show` names them, or by number")),
        ("driver", Honoured("`nvidia`, `amd`")),
        (
            "options",
            Partly("`model` and `memory`, as what a GPU has to have; others belong to the node's owner"),
        ),
    ],
};

pub(crate) const GPU: Table = Table {
    at: "services.*.gpus[]",
    keys: &[
        ("capabilities", Honoured("what of it is used: `compute`, `utility` …")),
        ("count", Honoured("a number, or `all`")),
        ("device_ids", Honoured("as `lattice node show` names them, or by number")),
        ("driver", Honoured("`nvidia`, `amd`")),
        (
            "options",
            Partly("`model` and `memory`, as what a GPU has to have; others belong to the node's owner"),
        ),
    ],
};

pub(crate) const PLACEMENT: Table = Table {
    at: "services.*.deploy.placement",
    keys: &[
        (
            "constraints",
            Partly(
                "node.id, node.hostname, node.platform.os, node.platform.arch, node.labels.*, and Lattice's node.pool, node.owner, node.lan and node.gpu.model, with == or !=; node.gpu.memory and node.gpu.count, with >= too; `node.role == worker` is always so, `manager` is refused: the control plane runs no workloads",
            ),
        ),
        ("max_replicas_per_node", Honoured("the most replicas on one node")),
        ("preferences", Honoured("`spread` over one of these attributes")),
    ],
};

pub(crate) const PREFERENCE: Table = Table {
    at: "services.*.deploy.placement.preferences[]",
    keys: &[("spread", Honoured("node.labels.KEY and the other attributes"))],
};

pub(crate) const RESTART_POLICY: Table = Table {
    at: "services.*.deploy.restart_policy",
    keys: &[
        ("condition", Honoured("`none`, `on-failure`, `any`")),
        ("delay", Honoured("the first wait; it grows with failures in a row")),
        ("max_attempts", Honoured("with `condition: on-failure`")),
        ("window", Honoured("how long it has to run for a start to count as good")),
    ],
};

pub(crate) const UPDATE_CONFIG: Table = Table { at: "services.*.deploy.update_config", keys: UPDATE_KEYS };
pub(crate) const ROLLBACK_CONFIG: Table =
    Table { at: "services.*.deploy.rollback_config", keys: UPDATE_KEYS };

const UPDATE_KEYS: &[(&str, super::Fate)] = &[
    ("delay", Honoured("the wait between two batches")),
    ("failure_action", Honoured("`pause`, `continue`, `rollback`: the former version comes back by itself")),
    ("max_failure_ratio", Honoured("from 0 to 1")),
    ("monitor", Honoured("how long a new one is watched")),
    ("order", Honoured("`stop-first`, `start-first`")),
    ("parallelism", Honoured("how many at a time; 0 is all at once")),
];

pub(crate) const PORT: Table = Table {
    at: "services.*.ports[]",
    keys: &[
        ("app_protocol", Harmless("it is a note for people")),
        ("host_ip", Honoured("an address of the node")),
        ("mode", Honoured("`host` or `ingress`: both publish on the node")),
        ("name", Harmless("it is a note for people")),
        ("protocol", Honoured("`tcp` or `udp`")),
        ("published", Honoured("a port of the node, or a range: one of it")),
        ("target", Honoured("the port inside the container")),
    ],
};

pub(crate) const MOUNT: Table = Table {
    at: "services.*.volumes[]",
    keys: &[
        ("bind", Partly("see below")),
        ("consistency", Harmless("it is for Docker Desktop")),
        (
            "image",
            Refused("images are not mounted", "Copy the files out of it in a build: `COPY --from=IMAGE …`"),
        ),
        ("read_only", Honoured("files of the project are read-only always")),
        ("source", Honoured("a volume's name, or a path inside the project's folder")),
        ("target", Honoured("an absolute path inside the container")),
        ("tmpfs", Honoured("see below")),
        (
            "type",
            Partly(
                "`volume`, `bind` inside the project's folder, `tmpfs`; `image`, `npipe` and `cluster` are refused",
            ),
        ),
        ("volume", Honoured("see below")),
    ],
};

pub(crate) const MOUNT_BIND: Table = Table {
    at: "services.*.volumes[].bind",
    keys: &[
        ("create_host_path", Honoured("`false`: a missing path is an error")),
        ("propagation", Partly("`private` and `rprivate` are so; the others reach into the host")),
        ("recursive", Harmless("the files travel as a copy")),
        ("selinux", Harmless("the files travel as a copy, labelled by the node")),
    ],
};

pub(crate) const MOUNT_VOLUME: Table = Table {
    at: "services.*.volumes[].volume",
    keys: &[
        ("labels", Refused("there is one place for it", "Write them under the top-level `volumes`")),
        ("nocopy", Partly("`false`; a new volume begins with what the image has there")),
        ("subpath", Refused("a volume is mounted as a whole", "Use a volume of its own for this folder")),
    ],
};

pub(crate) const MOUNT_TMPFS: Table = Table {
    at: "services.*.volumes[].tmpfs",
    keys: &[("mode", Honoured("permission bits, in octal")), ("size", Honoured("the most that it holds"))],
};

pub(crate) const MOUNT_IMAGE: Table = Table {
    at: "services.*.volumes[].image",
    keys: &[(
        "subpath",
        Refused("images are not mounted", "Copy the files out of it in a build: `COPY --from=IMAGE …`"),
    )],
};

pub(crate) const SERVICE_NETWORK: Table = Table {
    at: "services.*.networks.*",
    keys: &[
        ("aliases", Honoured("further names on this network")),
        ("driver_opts", Harmless("the node builds the network")),
        ("gw_priority", Harmless("the node chooses the way out")),
        (
            "interface_name",
            Refused("the node names the interfaces", "Remove it; let the program listen on every address"),
        ),
        (
            "ipv4_address",
            Refused(
                "addresses are given by the node",
                "Let services find each other by name, or add `aliases`",
            ),
        ),
        (
            "ipv6_address",
            Refused(
                "addresses are given by the node",
                "Let services find each other by name, or add `aliases`",
            ),
        ),
        (
            "link_local_ips",
            Refused(
                "addresses are given by the node",
                "Let services find each other by name, or add `aliases`",
            ),
        ),
        (
            "mac_address",
            Refused("addresses are given by the node", "Remove it; let services find each other by name"),
        ),
        ("priority", Harmless("networks are joined together")),
    ],
};

pub(crate) const DEPENDENCY: Table = Table {
    at: "services.*.depends_on.*",
    keys: &[
        ("condition", Honoured("`service_started`, `service_healthy`, `service_completed_successfully`")),
        ("required", Honoured("`false`: its absence is a warning")),
        ("restart", Honoured("restarted with the other")),
    ],
};

pub(crate) const ENV_FILE: Table = Table {
    at: "services.*.env_file[]",
    keys: &[
        ("format", Honoured("`raw`: no quotes, no variables")),
        ("path", Honoured("relative to the file that names it")),
        ("required", Honoured("`false`: it may be missing")),
    ],
};

pub(crate) const EXTENDS: Table = Table {
    at: "services.*.extends",
    keys: &[("file", Honoured("relative to this file")), ("service", Honoured("the service in it"))],
};

pub(crate) const LOGGING: Table = Table {
    at: "services.*.logging",
    keys: &[
        ("driver", Partly("`json-file`, `local`, `journald`, `none`")),
        ("options", Honoured("`max-size` and `max-file`; the others have no effect")),
    ],
};

pub(crate) const SERVICE_SECRET: Table = Table { at: "services.*.secrets[]", keys: GRANT };
pub(crate) const SERVICE_CONFIG: Table = Table {
    at: "services.*.configs[]",
    keys: &[
        ("gid", Honoured("0; another is warned of: the file is root's, and every user may read it")),
        ("mode", Honoured("permission bits, in octal; every user may read it all the same")),
        ("source", Honoured("the key under the top-level one")),
        ("target", Honoured("a path, or a name in the usual folder")),
        ("uid", Honoured("0; another is warned of: the file is root's, and every user may read it")),
    ],
};
pub(crate) const BUILD_SECRET: Table = Table { at: "services.*.build.secrets[]", keys: GRANT };

const GRANT: &[(&str, super::Fate)] = &[
    ("gid", Honoured("the file's group")),
    ("mode", Honoured("permission bits, in octal")),
    ("source", Honoured("the key under the top-level one")),
    ("target", Honoured("a path, or a name in the usual folder")),
    ("uid", Honoured("the file's owner")),
];

pub(crate) const ULIMIT: Table = Table { at: "services.*.ulimits.*", keys: SOFT_AND_HARD };
pub(crate) const BUILD_ULIMIT: Table = Table { at: "services.*.build.ulimits.*", keys: SOFT_AND_HARD };

const SOFT_AND_HARD: &[(&str, super::Fate)] =
    &[("hard", Honoured("-1 is none")), ("soft", Honoured("-1 is none"))];
