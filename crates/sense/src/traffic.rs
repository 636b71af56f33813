//! Windows and macOS: what the interfaces that lead out have carried, as the system counts it by their names. What
//! containers and virtual machines say to each other does not count, and what goes through a tunnel is counted once,
//! outside of it.

#[cfg(any(windows, target_os = "macos"))]
use crate::Counters;
#[cfg(any(windows, target_os = "macos"))]
use lattice_rules::Reading;

#[cfg(any(windows, target_os = "macos"))]
pub(crate) fn read() -> Reading<Counters> {
    let networks = match sysinfo::Networks::new_with_refreshed_list() {
        Ok(networks) => networks,
        Err(error) => return Reading::unknown(format!("the interfaces cannot be read: {error}")),
    };
    #[cfg(windows)]
    let leads_out = windows_leads_out;
    #[cfg(target_os = "macos")]
    let leads_out = macos_leads_out;
    let counters: Counters = networks
        .iter()
        .map(|(name, data)| {
            let bytes = data.total_received().saturating_add(data.total_transmitted());
            (name.to_string_lossy().into_owned(), bytes)
        })
        .filter(|(name, _)| leads_out(name))
        .collect();
    if counters.is_empty() { Reading::unknown("no interface leads out") } else { Reading::Known(counters) }
}

/// By the alias that Windows gives it, or its owner.
#[cfg(any(test, windows))]
fn windows_leads_out(name: &str) -> bool {
    // Switches of Hyper-V, WSL and Docker Desktop, whose packets a real adapter carries on; filters that Windows shows
    // as adapters of their own and that count what is below them once more.
    let name = name.to_lowercase();
    let inside =
        ["vethernet", "loopback", "local area connection*", "npcap", "vmware", "virtualbox", "bluetooth"];
    let filters = ["-wfp ", "-qos packet", "-native ", "-virtual ", "-hyper-v "];
    let tunnels = ["teredo", "isatap", "6to4", "wireguard", "tailscale", "openvpn", "tap-", "wintun"];
    !inside.iter().chain(&tunnels).any(|start| name.starts_with(start))
        && !filters.iter().any(|part| name.contains(part))
}

/// By the name that the kernel gives it: Ethernet and Wi-Fi are `en`, modems `pdp_ip` and `ppp`. Bridges, `utun`,
/// `awdl`, `llw`, `ap`, `vmenet` and what else there is stay inside, or are carried by one of those.
#[cfg(any(test, target_os = "macos"))]
fn macos_leads_out(name: &str) -> bool {
    let number = |rest: &str| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit());
    ["en", "pdp_ip", "ppp"].iter().any(|kind| name.strip_prefix(kind).is_some_and(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_that_lead_out_are_told_from_others() {
        let windows = [
            "Ethernet",
            "Wi-Fi",
            "WLAN 2",
            "Mobilfunk",
            "Loopback Pseudo-Interface 1",
            "vEthernet (WSL (Hyper-V firewall))",
            "vEthernet (Default Switch)",
            "Local Area Connection* 3",
            "Ethernet-WFP Native MAC Layer LightWeight Filter-0000",
            "Wi-Fi-QoS Packet Scheduler-0000",
            "Teredo Tunneling Pseudo-Interface",
            "Tailscale",
        ];
        let out: Vec<_> = windows.into_iter().filter(|name| windows_leads_out(name)).collect();
        assert_eq!(out, ["Ethernet", "Wi-Fi", "WLAN 2", "Mobilfunk"]);
        let macos = [
            "lo0",
            "gif0",
            "stf0",
            "anpi1",
            "en0",
            "en10",
            "ap1",
            "awdl0",
            "bridge100",
            "utun3",
            "pdp_ip0",
            "en",
        ];
        let out: Vec<_> = macos.into_iter().filter(|name| macos_leads_out(name)).collect();
        assert_eq!(out, ["en0", "en10", "pdp_ip0"]);
    }
}
