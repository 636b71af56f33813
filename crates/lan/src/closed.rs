//! Which addresses are not the internet: what is reserved, and what this host is attached to or has a route of its
//! own for.

use crate::{error::LanError, facts::Facts, ruleset::Bridges};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::collections::BTreeMap;

/// More than a machine has that is not a router of the internet.
const MOST: usize = 20_000;

/// What the registry of special addresses keeps from the internet (RFC 6890), where clouds answer their machines, and
/// what leads back into IPv4. Ranges for documentation are nobody's network and left out.
const RESERVED: [&str; 27] = [
    // This network; private; shared by carriers, and Tailscale's; loopback; link-local with the metadata service.
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    // Protocols, with Oracle's metadata; relays of 6to4; private; measurements, and proxies that invent addresses.
    "192.0.0.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    // Azure's metadata and resolver has a public address.
    "168.63.129.16/32",
    // Multicast; reserved, with broadcast.
    "224.0.0.0/4",
    "240.0.0.0/4",
    // Unspecified, loopback, IPv4 inside of IPv6: compatible, mapped, translated.
    "::/96",
    "::ffff:0:0/96",
    "::ffff:0:0:0/96",
    // Translators of one's own; discard.
    "64:ff9b:1::/48",
    "100::/64",
    // Teredo, and ORCHID.
    "2001::/32",
    "2001:10::/28",
    "2001:20::/28",
    // Unique local, with the metadata of Amazon and Google; link-local; site-local; multicast.
    "fc00::/7",
    "fe80::/10",
    "fec0::/10",
    "ff00::/8",
    // Segment routing.
    "5f00::/16",
    // Benchmarks.
    "2001:2::/48",
];

/// Addresses that are on somebody's link: of a home's prefix the neighbouring links belong to the home, too, and
/// providers give no less than this.
const HOME: u8 = 56;

/// An interface whose routes cover at least a quarter of all addresses is a way to the internet, in whatever pieces:
/// `0.0.0.0/1`, or all but the private ranges.
const WAY_OUT_4: u128 = 1 << 30;
/// The same, of the eighth that is given out.
const WAY_OUT_6: u128 = 1 << 123;

/// All of it, sorted and without overlaps.
pub(crate) fn closed(facts: &Facts, bridges: &Bridges) -> Result<Vec<IpNet>, LanError> {
    let mut nets: Vec<IpNet> = RESERVED.iter().filter_map(|net| net.parse().ok()).collect();
    let ours = |name: &str| bridges.has(name);
    for interface in facts.interfaces.iter().filter(|interface| !ours(&interface.name)) {
        for address in &interface.addresses {
            nets.push(IpNet::from(address.addr()));
            nets.push(match address {
                IpNet::V6(net) if is_global(net) && net.prefix_len() > HOME => {
                    Ipv6Net::new(net.addr(), HOME).map_or(*address, IpNet::V6)
                }
                other => *other,
            });
        }
    }
    let ways = ways_out(facts);
    for route in facts.routes.iter().filter(|route| !route.devices.iter().any(|name| ours(name))) {
        let is_way = |device: &String| ways.contains(&(device.as_str(), route.to.addr().is_ipv4()));
        if route.on_link || !route.devices.iter().any(is_way) {
            nets.push(route.to);
        }
    }
    nets.retain(|net| net.prefix_len() > 0);
    let mut nets = aggregated(nets);
    // The same by way of translators: NAT64's well-known prefix, and 6to4.
    let translated = nets.iter().filter_map(|net| match net {
        IpNet::V4(net) => Some([nat64(net), six_to_four(net)]),
        IpNet::V6(_) => None,
    });
    let translated: Vec<IpNet> = translated.flatten().flatten().collect();
    nets.extend(translated);
    let nets = aggregated(nets);
    if nets.len() > MOST {
        return Err(LanError::TooMany { found: nets.len(), most: MOST });
    }
    Ok(nets)
}

fn aggregated(nets: Vec<IpNet>) -> Vec<IpNet> {
    let nets: Vec<IpNet> = nets.iter().map(IpNet::trunc).collect();
    let mut nets = IpNet::aggregate(&nets);
    nets.sort_unstable();
    nets
}

fn is_global(net: &Ipv6Net) -> bool {
    net.addr().segments()[0] & 0xe000 == 0x2000
}

fn nat64(net: &Ipv4Net) -> Option<IpNet> {
    let [a, b, c, d] = net.network().octets().map(u16::from);
    let address = [0x64, 0xff9b, 0, 0, 0, 0, a << 8 | b, c << 8 | d];
    Ipv6Net::new(address.into(), 96 + net.prefix_len()).ok().map(IpNet::V6)
}

fn six_to_four(net: &Ipv4Net) -> Option<IpNet> {
    let [a, b, c, d] = net.network().octets().map(u16::from);
    let address = [0x2002, a << 8 | b, c << 8 | d, 0, 0, 0, 0, 0];
    Ipv6Net::new(address.into(), 16 + net.prefix_len()).ok().map(IpNet::V6)
}

/// Interfaces by which the internet is reached without a default route, with whether by IPv4.
fn ways_out(facts: &Facts) -> Vec<(&str, bool)> {
    let mut covered: BTreeMap<(&str, bool), u128> = BTreeMap::new();
    for route in &facts.routes {
        let size = 1u128 << (route.to.max_prefix_len() - route.to.prefix_len());
        for device in &route.devices {
            let sum = covered.entry((device.as_str(), route.to.addr().is_ipv4())).or_default();
            *sum = sum.saturating_add(size);
        }
    }
    let enough = |four: bool| if four { WAY_OUT_4 } else { WAY_OUT_6 };
    covered.into_iter().filter(|((_, four), sum)| *sum >= enough(*four)).map(|(way, _)| way).collect()
}
