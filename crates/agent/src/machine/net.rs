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
