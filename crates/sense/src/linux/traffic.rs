//! `/sys/class/net`: what the interfaces that lead out have carried. Those of the hardware count, or, in
//! a container or a namespace that has none, the one of the default route; what containers say to each
//! other over bridges does not, and what goes through a tunnel is counted once, outside of it.

use super::{entries, name, number};
use crate::Counters;
use lattice_rules::Reading;
use std::path::Path;

pub(crate) fn read(root: &Path) -> Reading<Counters> {
    let dir = root.join("sys/class/net");
    let interfaces = match entries(&dir) {
        Ok(interfaces) => interfaces,
        Err(error) => return Reading::unknown(format!("{} cannot be read: {error}", dir.display())),
    };
    let hardware = interfaces.iter().filter(|path| path.join("device").exists());
    let mut leading: Vec<_> = hardware.collect();
    if leading.is_empty() {
        let routes = std::fs::read_to_string(root.join("proc/net/route")).unwrap_or_default();
        let default = default_routes(&routes);
        leading = interfaces.iter().filter(|path| default.contains(&name(path))).collect();
    }
    let count = |path: &&std::path::PathBuf| {
        let of = |file: &str| number::<u64>(&path.join("statistics").join(file));
        Some((name(path), of("rx_bytes")?.saturating_add(of("tx_bytes")?)))
    };
    let counters: Counters = leading.iter().filter_map(count).collect();
    if counters.is_empty() { Reading::unknown("no interface leads out") } else { Reading::Known(counters) }
}

/// The interfaces of routes to everywhere (proc(5): columns of hexadecimal digits).
fn default_routes(routes: &str) -> Vec<String> {
    let columns = routes.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    columns
        .filter(|columns| columns.get(1) == Some(&"00000000") && columns.get(7) == Some(&"00000000"))
        .filter_map(|columns| columns.first().map(ToString::to_string))
        .collect()
}
