//! Ways out of the machine, and the errors of its own ports.

use super::Roots;

/// Whether anything leads out, by IPv4 or IPv6. `None` where the kernel does not tell.
pub(super) fn has_way_out(roots: &Roots) -> Option<bool> {
    let (v4, v6) = (roots.read("proc/net/route"), roots.read("proc/net/ipv6_route"));
    if v4.is_empty() && v6.is_empty() {
        return None;
    }
    let zero = |text: &str| text.bytes().all(|b| b == b'0');
    let by_v4 = v4.lines().skip(1).any(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        matches!(fields[..], [_, to, _, flags, _, _, _, mask, ..] if zero(to) && zero(mask) && is_up(flags))
    });
    let by_v6 = v6.lines().any(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        // The loopback device has a default route of its own, which refuses.
        matches!(fields[..], [to, "00", _, _, _, _, _, _, flags, device] if zero(to) && device != "lo" && is_up(flags))
    });
    Some(by_v4 || by_v6)
}

/// By which network the machine is on the internet: device and gateway of each default route, with the gateway's
/// hardware address, as there are many networks whose gateway is 192.168.1.1. Empty where there is none. `last` is
/// what was said before: neighbours are forgotten by the kernel after a while, and that is no other network.
pub(crate) fn default_ways(roots: &Roots, last: &str) -> String {
    let (v4, v6, arp) =
        (roots.read("proc/net/route"), roots.read("proc/net/ipv6_route"), roots.read("proc/net/arp"));
    let neighbour = |address: &str| {
        let line = arp.lines().find(|line| line.split_whitespace().next() == Some(address))?;
        let mac = line.split_whitespace().nth(3)?;
        (mac != "00:00:00:00:00:00").then(|| mac.to_owned())
    };
    let zero = |text: &str| text.bytes().all(|b| b == b'0');
    let mut ways = Vec::new();
    for line in v4.lines().skip(1) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [device, to, gateway, flags, _, _, _, mask, ..] = fields[..] else { continue };
        if !(zero(to) && zero(mask) && is_up(flags)) {
            continue;
        }
        // As the kernel keeps it in memory, which is the other way round on most machines.
        let address = u32::from_str_radix(gateway, 16).unwrap_or_default();
        let gateway = std::net::Ipv4Addr::from(address.to_ne_bytes()).to_string();
        let without = format!("{device} {gateway}");
        let mac = neighbour(&gateway);
        let known = last.split(", ").find(|way| way.starts_with(&format!("{without} ")));
        ways.push(match (mac, known) {
            (Some(mac), _) => format!("{without} {mac}"),
            (None, Some(known)) => known.to_owned(),
            (None, None) => without,
        });
    }
    for line in v6.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [to, "00", _, _, gateway, _, _, _, flags, device] = fields[..] else { continue };
        if zero(to) && device != "lo" && is_up(flags) {
            ways.push(format!("{device} {gateway}"));
        }
    }
    ways.sort();
    ways.dedup();
    ways.join(", ")
}

/// RTF_UP, and not RTF_REJECT.
fn is_up(flags: &str) -> bool {
    u32::from_str_radix(flags, 16).is_ok_and(|flags| flags & 1 == 1 && flags & 0x200 == 0)
}

/// Packets through the machine's own ports and those that came or went wrong, since boot.
pub(super) fn packets(roots: &Roots) -> (u64, u64) {
    let folder = "sys/class/net";
    let (mut all, mut wrong) = (0u64, 0u64);
    // Bridges and cables to containers have no device below them.
    for name in roots.names(folder).iter().filter(|name| roots.exists(&format!("{folder}/{name}/device"))) {
        let of = |what: &str| roots.number(&format!("{folder}/{name}/statistics/{what}")).unwrap_or(0);
        all = all.saturating_add(of("rx_packets")).saturating_add(of("tx_packets"));
        wrong = wrong.saturating_add(of("rx_errors")).saturating_add(of("tx_errors"));
    }
    (all, wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_known_again() {
        let folder = tempfile::tempdir().unwrap();
        let net = folder.path().join("proc/net");
        std::fs::create_dir_all(&net).unwrap();
        let roots = Roots::at(folder.path());
        assert_eq!(default_ways(&roots, ""), "");
        let header = "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n";
        let gateway = u32::from_ne_bytes([192, 168, 1, 1]);
        let route = format!(
            "{header}wlan0 00000000 {gateway:08X} 0003 0 0 600 00000000 0 0 0\nwlan0 0001A8C0 00000000 0001 0 0 600 00FFFFFF 0 0 0\n"
        );
        std::fs::write(net.join("route"), route).unwrap();
        assert_eq!(default_ways(&roots, ""), "wlan0 192.168.1.1");
        let arp = |mac: &str| {
            let text = format!(
                "IP address HW type Flags HW address Mask Device\n192.168.1.1 0x1 0x2 {mac} * wlan0\n"
            );
            std::fs::write(net.join("arp"), text).unwrap();
        };
        arp("aa:bb:cc:dd:ee:01");
        let home = default_ways(&roots, "");
        assert_eq!(home, "wlan0 192.168.1.1 aa:bb:cc:dd:ee:01");
        arp("00:00:00:00:00:00");
        assert_eq!(default_ways(&roots, &home), home, "the kernel forgot its neighbour");
        arp("aa:bb:cc:dd:ee:02");
        assert_ne!(default_ways(&roots, &home), home, "another router of the same address");
    }
}
