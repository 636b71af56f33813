//! The host's network as `ip -json` tells it: the same words on every distribution, and a text that tests can hold.

use crate::error::LanError;
use ipnet::IpNet;
use serde::Deserialize;
use std::{collections::BTreeSet, net::IpAddr};

/// An interface of the host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its addresses, each with the length of the prefix that is on its link.
    pub addresses: Vec<IpNet>,
}

/// A route that is not the default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// To where.
    pub to: IpNet,
    /// By which interfaces.
    pub devices: Vec<String>,
    /// Whether the kernel made it, for what is on a link.
    pub on_link: bool,
}

/// What the host's network looks like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Its interfaces.
    pub interfaces: Vec<Interface>,
    /// The routes of all tables, but for the defaults.
    pub routes: Vec<Route>,
    /// Whom it asks for names, loopback left out.
    pub resolvers: BTreeSet<IpAddr>,
}

#[derive(Deserialize)]
struct RawInterface {
    #[serde(default)]
    ifname: String,
    #[serde(default)]
    addr_info: Vec<RawAddress>,
}

#[derive(Deserialize)]
struct RawAddress {
    local: Option<IpAddr>,
    /// Of a point-to-point link: whoever is at its other end.
    address: Option<IpAddr>,
    #[serde(default)]
    prefixlen: u8,
}

#[derive(Deserialize)]
struct RawRoute {
    #[serde(default)]
    dst: String,
    #[serde(default)]
    dev: Option<String>,
    #[serde(default)]
    protocol: String,
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    nexthops: Vec<RawHop>,
}

#[derive(Deserialize)]
struct RawHop {
    #[serde(default)]
    dev: Option<String>,
}

impl Facts {
    /// Reads what `ip -json address show` and `ip -json route show table all` said.
    ///
    /// # Errors
    /// [`LanError::Unreadable`].
    pub fn read(addresses: &str, routes: &str) -> Result<Self, LanError> {
        let mut facts = Self::default();
        facts.add(addresses, routes)?;
        Ok(facts)
    }

    /// Adds what another look said: the engine may live in a network namespace of its own, and the host's own LAN
    /// is closed to it too.
    ///
    /// # Errors
    /// [`LanError::Unreadable`].
    pub fn add(&mut self, addresses: &str, routes: &str) -> Result<(), LanError> {
        let unreadable = |what| move |source| LanError::Unreadable { what, source };
        let interfaces: Vec<RawInterface> = list(addresses).map_err(unreadable("address show"))?;
        for RawInterface { ifname, addr_info } in interfaces {
            let addresses = addr_info.iter().flat_map(|raw| {
                let local = raw.local.map(|local| {
                    // Of a point-to-point link the length belongs to the other end.
                    let length = if raw.address.is_some() { None } else { Some(raw.prefixlen) };
                    length.and_then(|length| IpNet::new(local, length).ok()).unwrap_or(IpNet::from(local))
                });
                let peer = raw.address.and_then(|peer| IpNet::new(peer, raw.prefixlen).ok());
                [local, peer]
            });
            let addresses: Vec<IpNet> = addresses.flatten().collect();
            if !addresses.is_empty() {
                self.interfaces.push(Interface { name: ifname, addresses });
            }
        }
        let routes: Vec<RawRoute> = list(routes).map_err(unreadable("route show table all"))?;
        for RawRoute { dst, dev, protocol, kind, nexthops } in routes {
            // What is refused leads nowhere.
            if matches!(kind.as_str(), "unreachable" | "blackhole" | "prohibit" | "throw") {
                continue;
            }
            let to = match dst.parse::<IpAddr>() {
                Ok(address) => IpNet::from(address),
                Err(_) => match dst.parse::<IpNet>() {
                    Ok(net) if net.prefix_len() > 0 => net.trunc(),
                    // The default.
                    _ => continue,
                },
            };
            let devices = dev.into_iter().chain(nexthops.into_iter().filter_map(|hop| hop.dev)).collect();
            self.routes.push(Route { to, devices, on_link: protocol == "kernel" });
        }
        Ok(())
    }
}

/// `ip` says nothing at all where there is nothing to say.
fn list<T: for<'a> Deserialize<'a>>(text: &str) -> Result<Vec<T>, serde_json::Error> {
    if text.trim().is_empty() { Ok(Vec::new()) } else { serde_json::from_str(text) }
}
