//! What is closed, what is open, and the text that says so.

#![allow(clippy::unwrap_used)]

use lattice_lan::{
    Allow, Bridges, Facts, Hook, Interface, IpNet, LanError, Limits, Packet, Protocol, Route, Ruleset,
    Target, Verdict,
};
use proptest::prelude::*;
use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

const BRIDGE: &str = "lt00000abcdefgh";

fn bridges() -> Bridges {
    Bridges { prefix: "lt00000".into(), others: ["br-0123456789ab".to_owned()].into() }
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn allows(lines: &[&str]) -> BTreeSet<Allow> {
    lines.iter().map(|line| line.parse().unwrap()).collect()
}

fn ruleset(facts: &Facts, allow: &[&str]) -> Ruleset {
    Ruleset::new("lattice_test", bridges(), facts, &allows(allow)).unwrap()
}

/// A connection that a container begins.
fn tcp(destination: IpAddr, port: u16) -> Packet<'static> {
    Packet {
        hook: Hook::Forward,
        from: BRIDGE,
        to: Some("eth0"),
        destination,
        protocol: Protocol::Tcp,
        port: Some(port),
        reply: false,
        related: false,
        stays: false,
    }
}

fn home() -> Facts {
    Facts::read(
        r#"[{},{"ifname":"lo","addr_info":[{"local":"127.0.0.1","prefixlen":8},{"local":"::1","prefixlen":128}]},
        {"ifname":"eth0","addr_info":[{"local":"192.168.1.5","prefixlen":24},
          {"local":"2001:db8:1:203::5","prefixlen":64},{"local":"fe80::5","prefixlen":64}]},
        {"ifname":"lt00000xxxxxxxx","addr_info":[{"local":"172.20.0.1","prefixlen":16}]},
        {"ifname":"ppp0","addr_info":[{"local":"198.51.100.9","address":"198.51.100.1","prefixlen":32}]}]"#,
        r#"[{"dst":"default","gateway":"192.168.1.1","dev":"eth0"},
        {"dst":"192.168.1.0/24","dev":"eth0","protocol":"kernel","scope":"link"},
        {"dst":"203.0.113.0/26","dev":"tun0"},{"dst":"198.51.100.77","gateway":"192.168.1.1","dev":"eth0"},
        {"dst":"default","dev":"wg0","table":"51820"},{"dst":"2001:db8:77::/48","dev":"wg0","table":"51820"},
        {"type":"unreachable","dst":"1.2.3.0/24"},
        {"dst":"9.9.0.0/16","nexthops":[{"gateway":"192.168.1.2","dev":"eth0"},{"dev":"eth1"}]}]"#,
    )
    .unwrap()
}

#[test]
fn the_internet_is_open_and_the_lan_is_not() {
    let mut facts = home();
    facts.resolvers = [ip("192.168.1.1")].into();
    let rules = ruleset(&facts, &[]);
    let judge = |text: &str, port| rules.judge(&tcp(ip(text), port));
    for text in [
        "1.2.3.4",
        "8.8.8.8",
        "203.0.113.64",
        "172.15.0.1",
        "172.32.0.1",
        "192.169.0.1",
        "2606:4700::1111",
        "2001:db8:1:300::5",
        "64:ff9b::808:808",
        "2002:808:808::1",
    ] {
        assert_eq!(judge(text, 443), Verdict::Pass, "{text}");
    }
    for text in [
        "192.168.1.1",
        "192.168.1.5",
        "192.168.1.255",
        "192.168.7.1",
        "10.0.0.1",
        "172.16.0.1",
        "172.20.0.1",
        "100.100.100.200",
        "169.254.169.254",
        "168.63.129.16",
        "127.0.0.1",
        "0.0.0.0",
        "255.255.255.255",
        "224.0.0.251",
        // By its address, its other end, a pushed route, a route of one host, a policy's table, several ways.
        "198.51.100.9",
        "198.51.100.1",
        "203.0.113.1",
        "198.51.100.77",
        "2001:db8:77::1",
        "9.9.9.9",
        "fd00:ec2::254",
        "fe80::1",
        "ff02::1",
        "::1",
        "::",
        "::ffff:192.168.1.1",
        // On its link, and on the neighbouring one of the same home.
        "2001:db8:1:203::9",
        "2001:db8:1:204::9",
        // Translated.
        "64:ff9b::c0a8:101",
        "2002:c0a8:101::1",
        "64:ff9b::cb00:7101",
        "2001::1",
    ] {
        assert_eq!(judge(text, 443), Verdict::Refuse, "{text}");
    }
    assert_eq!(judge("192.168.1.1", 53), Verdict::Pass, "the resolver");
    assert_eq!(judge("192.168.1.2", 53), Verdict::Refuse, "another one");
    let old = Packet { from: "br-0123456789ab", ..tcp(ip("192.168.1.1"), 80) };
    assert_eq!(rules.judge(&old), Verdict::Refuse, "a network from before");
    let foreign = Packet { from: "docker0", ..tcp(ip("192.168.1.1"), 80) };
    assert_eq!(rules.judge(&foreign), Verdict::Pass, "others' containers are theirs");
    let other = Packet { to: Some("lt00000zzzzzzzz"), ..tcp(ip("172.21.0.2"), 80) };
    assert_eq!(rules.judge(&other), Verdict::Refuse, "another stack");
    let own = Packet { to: Some(BRIDGE), stays: true, ..tcp(ip("172.20.0.3"), 80) };
    assert_eq!(rules.judge(&own), Verdict::Pass, "its own stack");
    let spoken = Packet { to: Some(BRIDGE), ..tcp(ip("ff02::1:ff00:3"), 0) };
    assert_eq!(rules.judge(&spoken), Verdict::Pass, "its own stack's neighbours");
}

#[test]
fn the_owner_allows_exactly_what_is_written() {
    let rules = ruleset(
        &home(),
        &["192.168.1.20:5432/tcp", "10.1.0.0/16", "host:11434/tcp", "192.168.1.5:80", "[fd00::5]:53/udp"],
    );
    let judge = |packet: Packet<'_>| rules.judge(&packet);
    assert_eq!(judge(tcp(ip("192.168.1.20"), 5432)), Verdict::Pass);
    assert_eq!(judge(tcp(ip("192.168.1.20"), 5433)), Verdict::Refuse);
    assert_eq!(judge(Packet { protocol: Protocol::Udp, ..tcp(ip("192.168.1.20"), 5432) }), Verdict::Refuse);
    assert_eq!(judge(Packet { protocol: Protocol::Udp, ..tcp(ip("fd00::5"), 53) }), Verdict::Pass);
    let any = Packet { protocol: Protocol::Other, port: None, ..tcp(ip("10.1.2.3"), 0) };
    assert_eq!(judge(any), Verdict::Pass);
    let host = |address: &str, port| judge(Packet { hook: Hook::Input, to: None, ..tcp(ip(address), port) });
    assert_eq!(host("172.20.0.1", 11434), Verdict::Pass);
    assert_eq!(host("172.20.0.1", 22), Verdict::Refuse);
    assert_eq!(host("192.168.1.5", 80), Verdict::Pass);
    assert_eq!(host("192.168.1.5", 443), Verdict::Refuse);
    assert_eq!(
        judge(Packet { hook: Hook::Input, to: None, reply: true, ..tcp(ip("172.20.0.1"), 9) }),
        Verdict::Pass
    );
}

#[test]
fn a_tunnel_for_everything_stays_the_way_to_the_internet() {
    let route = |to: &str, device: &str| Route { to: net(to), devices: vec![device.into()], on_link: false };
    // OpenVPN's halves; all but the private ranges, as people write it for WireGuard.
    let halves = ["0.0.0.0/1", "128.0.0.0/1", "2000::/3"];
    let pieces = [
        "0.0.0.0/5",
        "8.0.0.0/7",
        "11.0.0.0/8",
        "12.0.0.0/6",
        "16.0.0.0/4",
        "32.0.0.0/3",
        "64.0.0.0/2",
        "128.0.0.0/3",
        "2000::/4",
        "3000::/4",
    ];
    for routes in [&halves[..], &pieces[..]] {
        let mut facts = Facts {
            interfaces: vec![Interface { name: "tun0".into(), addresses: vec![net("203.0.113.6/24")] }],
            ..Facts::default()
        };
        facts.routes = routes.iter().map(|to| route(to, "tun0")).collect();
        facts.routes.push(route("9.9.0.0/16", "tun1"));
        let rules = ruleset(&facts, &[]);
        for text in ["8.8.8.8", "100.1.1.1", "2606:4700::1111"] {
            assert_eq!(rules.judge(&tcp(ip(text), 443)), Verdict::Pass, "{text}");
        }
        for text in ["10.8.0.1", "203.0.113.1", "9.9.9.9", "fd00::1"] {
            assert_eq!(rules.judge(&tcp(ip(text), 443)), Verdict::Refuse, "{text}");
        }
    }
}

#[test]
fn what_is_not_understood_is_refused() {
    assert!(matches!(Facts::read("nonsense", "[]"), Err(LanError::Unreadable { .. })));
    assert!(Facts::read("", "").is_ok(), "a machine without a network");
    let routes = (0..100_000u32).map(|n| Route {
        to: IpNet::new(Ipv4Addr::from(0x0100_0000 + n * 512).into(), 24).unwrap(),
        devices: vec!["eth0".into()],
        on_link: false,
    });
    let facts = Facts { routes: routes.collect(), ..Facts::default() };
    let many = Ruleset::new("t", bridges(), &facts, &BTreeSet::new());
    assert!(matches!(many, Err(LanError::TooMany { .. })), "unless it is the way out, as here: {many:?}");
}

#[test]
fn the_text_for_nftables() {
    let mut facts = home();
    facts.resolvers = [ip("192.168.1.1"), ip("fd00::53")].into();
    let allow = ["192.168.1.20:5432/tcp", "host:11434", "[fd00::/64]:5000-5100/udp", "10.9.0.0/16"];
    insta::assert_snapshot!(ruleset(&facts, &allow).nft());
}

#[test]
fn the_text_of_a_limit_of_speed() {
    let limits = Limits { up: Some(625_000), down: Some(2_500_000) };
    let open = Ruleset::open("lattice_test", bridges());
    assert!(open.is_empty());
    let open = open.limited(limits);
    insta::assert_snapshot!(open.nft());
    assert!(!open.is_empty() && !open.is_closed(ip("192.168.1.1")));
    assert_eq!(open.judge(&tcp(ip("192.168.1.1"), 80)), Verdict::Pass);
    // Beside what closes, which stays as it is, the same lines.
    let closed = ruleset(&home(), &[]);
    let both = closed.clone().limited(limits).nft();
    let (_, lines) =
        open.nft().split_once("\tchain speed {").map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    assert!(both.ends_with(&lines) && both.starts_with(closed.nft().trim_end_matches("}\n")), "{both}");
    let one = closed.limited(Limits { up: None, down: Some(1) }).nft();
    assert!(one.contains("speed_down") && !one.contains("speed_up"), "{one}");
}

fn address() -> impl Strategy<Value = IpAddr> {
    let special = || {
        prop::sample::select(vec![
            "10.0.0.0",
            "172.16.0.0",
            "192.168.0.0",
            "169.254.169.254",
            "100.64.0.0",
            "198.51.100.0",
            "203.0.113.0",
        ])
    };
    let four = prop_oneof![
        any::<u32>(),
        (special(), any::<u16>())
            .prop_map(|(base, low)| { u32::from(base.parse::<Ipv4Addr>().unwrap()) | u32::from(low) }),
    ];
    let special =
        || prop::sample::select(vec!["fd00::", "fe80::", "2001:db8::", "2606:4700::", "64:ff9b::", "2002::"]);
    let six = prop_oneof![
        any::<u128>(),
        (special(), any::<u32>())
            .prop_map(|(base, low)| { u128::from(base.parse::<Ipv6Addr>().unwrap()) | u128::from(low) }),
    ];
    prop_oneof![
        four.prop_map(|bits| IpAddr::from(Ipv4Addr::from(bits))),
        six.prop_map(|bits| IpAddr::from(Ipv6Addr::from(bits))),
    ]
}

fn prefix(shortest: u8) -> impl Strategy<Value = IpNet> {
    (address(), any::<u8>()).prop_map(move |(address, length)| {
        let most = if address.is_ipv4() { 32 } else { 128 };
        IpNet::new(address, shortest + length % (most - shortest + 1)).unwrap()
    })
}

prop_compose! {
    fn facts()(
        addresses in prop::collection::vec(prefix(16), 0..6),
        routes in prop::collection::vec((prefix(8), any::<bool>()), 0..8),
        resolvers in prop::collection::btree_set(address(), 0..3),
    ) -> Facts {
        let interface = |(n, address): (usize, IpNet)| Interface { name: format!("eth{n}"), addresses: vec![address] };
        let route = |(to, on_link): (IpNet, bool)| Route { to: to.trunc(), devices: vec!["eth0".into()], on_link };
        Facts {
            interfaces: addresses.into_iter().enumerate().map(interface).collect(),
            routes: routes.into_iter().map(route).collect(),
            resolvers,
        }
    }
}

fn allow() -> impl Strategy<Value = BTreeSet<Allow>> {
    let ports = prop::option::of((1u16..2000, 0u16..100).prop_map(|(first, more)| (first, first + more)));
    let one = (prop::option::of(prefix(8)), ports).prop_map(|(to, ports)| Allow {
        to: to.map_or(Target::Host, |net| Target::Net(net.trunc())),
        ports,
        transport: None,
    });
    prop::collection::btree_set(one, 0..4)
}

fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(four) => {
            let shared = net("100.64.0.0/10").contains(&address);
            four.is_private() || four.is_loopback() || four.is_link_local() || four.is_multicast() || shared
        }
        IpAddr::V6(six) => {
            six.is_unique_local() || six.is_unicast_link_local() || six.is_loopback() || six.is_multicast()
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Nothing of the LAN is reached unless somebody said so, wherever the host is attached.
    #[test]
    fn no_closed_address_is_reached(facts in facts(), allow in allow(), anywhere in address(), port in 1u16..3000, pick in any::<prop::sample::Index>()) {
        let rules = Ruleset::new("t", bridges(), &facts, &allow).unwrap();
        // An address anywhere, one of the host's links, one of its routes.
        let mut candidates = vec![anywhere];
        candidates.extend(facts.interfaces.iter().flat_map(|i| i.addresses.iter().flat_map(|a| [a.addr(), a.network(), a.broadcast()])));
        candidates.extend(facts.routes.iter().flat_map(|r| [r.to.network(), r.to.broadcast()]));
        let to = *pick.get(&candidates);
        let attached = facts.interfaces.iter().flat_map(|i| &i.addresses).any(|a| a.contains(&to));
        let kernel = facts.routes.iter().any(|r| r.on_link && r.to.contains(&to));
        let excepted = facts.resolvers.contains(&to) && port == 53;
        let allowed = |target: &Allow| {
            let ports = target.ports.is_none_or(|(first, last)| (first..=last).contains(&port));
            ports && matches!(target.to, Target::Net(net) if net.contains(&to))
        };
        let said = excepted || allow.iter().any(allowed);
        let verdict = rules.judge(&tcp(to, port));
        if said {
            prop_assert_eq!(verdict, Verdict::Pass);
        } else if is_private(to) || attached || kernel {
            prop_assert_eq!(verdict, Verdict::Refuse, "{}", to);
            prop_assert!(rules.is_closed(to));
        }
        // The host itself answers what was allowed, and nothing else.
        let own = allow.iter().any(|one| one.to == Target::Host && one.ports.is_none_or(|(first, last)| (first..=last).contains(&port)));
        let input = rules.judge(&Packet { hook: Hook::Input, to: None, ..tcp(to, port) });
        prop_assert_eq!(input == Verdict::Pass, said || own);
        // Others' packets are not ours to judge, and answers go where they were asked from.
        prop_assert_eq!(rules.judge(&Packet { from: "eth0", ..tcp(to, port) }), Verdict::Pass);
        prop_assert_eq!(rules.judge(&Packet { reply: true, ..tcp(to, port) }), Verdict::Pass);
        // Own stack: yes. Another bridge: never, whatever was allowed.
        prop_assert_eq!(rules.judge(&Packet { to: Some(BRIDGE), stays: true, ..tcp(to, port) }), Verdict::Pass);
        let link_only = ["224.0.0.0/24", "255.255.255.255/32", "fe80::/10", "ff02::/16"].iter().any(|n| net(n).contains(&to));
        let other = rules.judge(&Packet { to: Some("lt00000other000"), ..tcp(to, port) });
        prop_assert_eq!(other == Verdict::Pass, link_only);
    }

    /// What no interface and no route of the host is about, and nobody keeps from the internet, is open.
    #[test]
    fn the_internet_is_open(facts in facts(), bits in any::<u32>()) {
        let to = IpAddr::from(Ipv4Addr::from(0x0800_0000 | bits & 0x00ff_ffff));
        let about = facts.interfaces.iter().flat_map(|i| &i.addresses).any(|a| a.contains(&to))
            || facts.routes.iter().any(|r| r.to.contains(&to));
        prop_assume!(!about);
        let rules = Ruleset::new("t", bridges(), &facts, &BTreeSet::new()).unwrap();
        prop_assert_eq!(rules.judge(&tcp(to, 443)), Verdict::Pass);
    }

    /// Looking again at the same network writes the same text: nothing is applied in vain.
    #[test]
    fn the_text_is_the_same_in_any_order(facts in facts(), allow in allow()) {
        let mut turned = facts.clone();
        turned.interfaces.reverse();
        turned.routes.reverse();
        let text = |facts: &Facts| Ruleset::new("t", bridges(), facts, &allow).unwrap().nft();
        prop_assert_eq!(text(&facts), text(&turned));
    }

    #[test]
    fn exceptions_read_as_they_are_written(allow in allow()) {
        for one in allow {
            prop_assert_eq!(one.to_string().parse::<Allow>().unwrap(), one);
        }
    }

    #[test]
    fn nothing_that_is_written_panics(text in "\\PC{0,40}") {
        let _ = text.parse::<Allow>();
    }
}
