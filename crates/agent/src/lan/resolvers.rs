//! Whom this host asks for names. Containers' questions go there, by way of the engine's own resolver, which asks
//! in the container's name: so these addresses are open to them on port 53, wherever they are.

use std::{collections::BTreeSet, fs, net::IpAddr, path::Path};

/// More than anybody's files list; what follows is not looked at.
const MOST: usize = 16;

/// As the engine finds them: those of the system, or those behind a local stub, and those of its own configuration.
pub(super) fn resolvers(root: &Path) -> BTreeSet<IpAddr> {
    let read = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_default();
    let mut found = names(&read("etc/resolv.conf"));
    // A stub on loopback is no container's to ask: the engine looks where systemd writes the real ones.
    if found.iter().all(IpAddr::is_loopback) {
        found.extend(names(&read("run/systemd/resolve/resolv.conf")));
    }
    let daemon: serde_json::Value = serde_json::from_str(&read("etc/docker/daemon.json")).unwrap_or_default();
    let own = daemon["dns"].as_array().into_iter().flatten();
    found.extend(own.filter_map(|value| value.as_str()?.parse::<IpAddr>().ok()));
    found
        .into_iter()
        .filter(|address| !address.is_loopback() && !address.is_unspecified())
        .take(MOST)
        .collect()
}

fn names(text: &str) -> Vec<IpAddr> {
    let lines = text.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
    // An address of a link has the link's name behind it.
    let address = |rest: &str| rest.split_whitespace().next()?.split('%').next()?.parse().ok();
    lines.filter_map(address).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolvers_are_found_where_the_engine_finds_them() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let found = || resolvers(root.path()).iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        assert_eq!(found(), "");
        write(
            "etc/resolv.conf",
            "# a\nnameserver 192.168.1.1\n nameserver fe80::1%eth0\noptions x\nnameserver x",
        );
        assert_eq!(found(), "192.168.1.1 fe80::1");
        write("run/systemd/resolve/resolv.conf", "nameserver 10.0.0.53\n");
        assert_eq!(found(), "192.168.1.1 fe80::1", "there is no stub");
        write("etc/resolv.conf", "nameserver 127.0.0.53\n");
        assert_eq!(found(), "10.0.0.53");
        write("etc/docker/daemon.json", "{\"dns\":[\"10.0.0.54\",\"nonsense\"]}");
        assert_eq!(found(), "10.0.0.53 10.0.0.54");
    }
}
