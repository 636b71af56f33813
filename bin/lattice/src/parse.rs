//! What people type in flags: spans, ports, policies.

use lattice_api::Untaint;
use lattice_model::{
    Duration,
    resource::Taint,
    spec::{ContainerPort, MAX_REPLICAS, PortSpec, Protocol, RestartPolicy},
};
use std::{collections::BTreeMap, net::IpAddr};

/// A port as `--publish` takes it.
pub(crate) type Publish = PortSpec;

/// `45s`, `10m`, `1h30m`, `2d`, `250ms`; a number alone is seconds.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let fail = || format!("{text:?} is not a span of time; write 45s, 10m, 1h30m or 2d");
    let mut total: u64 = 0;
    let mut rest = text;
    if rest.is_empty() {
        return Err(fail());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let number: u64 = rest[..digits].parse().map_err(|_| fail())?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let size = match &rest[..letters] {
            "ms" => 1,
            "s" => 1000,
            "" if digits == text.len() => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(fail()),
        };
        rest = &rest[letters..];
        total = number.checked_mul(size).and_then(|ms| total.checked_add(ms)).ok_or_else(fail)?;
    }
    Ok(Duration::from_millis(total))
}

/// What becomes of a taint: `KEY=VALUE:EFFECT` sets one, `KEY-` takes all of the key away, `KEY:EFFECT-` one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TaintChange {
    Set(Taint),
    Remove(Untaint),
}

impl std::str::FromStr for TaintChange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some(name) = text.strip_suffix('-') else {
            return text
                .parse()
                .map(Self::Set)
                .map_err(|error: lattice_model::taint::InvalidTaint| error.to_string());
        };
        let (name, effect) = match name.rsplit_once(':') {
            None => (name, None),
            Some((name, effect)) => {
                let wrong = || format!("{effect:?} is no effect of a taint; write refuse, avoid or evict");
                (name, Some(effect.parse().map_err(|_| wrong())?))
            }
        };
        // With its value, as the listing shows it.
        let key = name.split_once('=').map_or(name, |(key, _)| key);
        if key.is_empty() {
            return Err(format!("{text:?} names no taint; write KEY- or KEY:EFFECT-"));
        }
        Ok(Self::Remove(Untaint { key: key.to_owned(), effect }))
    }
}

/// A count from 1 on.
pub(crate) fn count(text: &str) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|count| *count > 0)
        .ok_or_else(|| format!("{text:?} is not a count; write 1 or more"))
}

/// `80`, `8080:80`, `127.0.0.1:8080:80`, `[::1]:8080:80/tcp`, `:80` with a port that the node chooses.
pub(crate) fn publish(text: &str) -> Result<Publish, String> {
    let fail =
        || format!("{text:?} is not a port; write [[ADDRESS:]PORT:]CONTAINER_PORT[/udp], such as 8080:80");
    let (ports, protocol) = match text.rsplit_once('/') {
        None => (text, Protocol::Tcp),
        Some((ports, "tcp")) => (ports, Protocol::Tcp),
        Some((ports, "udp")) => (ports, Protocol::Udp),
        Some(_) => return Err(fail()),
    };
    let port = |text: &str| text.parse::<u16>().ok().filter(|p| *p != 0).ok_or_else(fail);
    let (front, target) = ports.rsplit_once(':').unwrap_or(("", ports));
    let target = ContainerPort { port: port(target)?, protocol };
    let (address, published) = match front.rsplit_once(':') {
        Some((address, published)) => (address, published),
        None => ("", front),
    };
    let published = if published.is_empty() { None } else { Some(port(published)?) };
    let host_ip = match address.trim_start_matches('[').trim_end_matches(']') {
        "" => None,
        bare => Some(bare.parse::<IpAddr>().map_err(|_| fail())?),
    };
    Ok(PortSpec { target, published, published_to: None, host_ip })
}

/// `no`, `on-failure`, `on-failure:3`, `always`.
pub(crate) fn restart(text: &str) -> Result<RestartPolicy, String> {
    match text.split_once(':').unwrap_or((text, "")) {
        ("no" | "never", "") => Ok(RestartPolicy::Never),
        ("on-failure", "") => Ok(RestartPolicy::OnFailure { max_retries: None }),
        ("on-failure", times) if times.parse::<u32>().is_ok() => {
            Ok(RestartPolicy::OnFailure { max_retries: times.parse().ok() })
        }
        ("always" | "unless-stopped", "") => Ok(RestartPolicy::Always),
        _ => Err(format!("{text:?} is not a restart policy; write no, on-failure[:TIMES] or always")),
    }
}

/// `web=3`.
pub(crate) fn scale(text: &str) -> Result<(String, u32), String> {
    let fail =
        || format!("{text:?} is not SERVICE=REPLICAS with 0 to {MAX_REPLICAS} replicas, such as web=3");
    let (name, number) = text.split_once('=').ok_or_else(fail)?;
    let number = number.parse().ok().filter(|n| *n <= MAX_REPLICAS).ok_or_else(fail)?;
    if name.is_empty() { Err(fail()) } else { Ok((name.to_owned(), number)) }
}

/// `NAME=VALUE` or `NAME`, which takes the value from `shell`; a name that the shell does not
/// know is left out, as Docker does it.
pub(crate) fn environment(
    entries: &[String],
    shell: impl Fn(&str) -> Option<String>,
) -> Result<BTreeMap<String, String>, String> {
    let mut environment = BTreeMap::new();
    for entry in entries {
        let (name, value) = match entry.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (entry.as_str(), shell(entry)),
        };
        if name.is_empty() || name.contains('\0') {
            return Err(format!("{entry:?} is not a variable; write NAME=VALUE"));
        }
        if let Some(value) = value {
            environment.insert(name.to_owned(), value);
        }
    }
    Ok(environment)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans() {
        for (text, ms) in
            [("45s", 45_000), ("1h30m", 5_400_000), ("2d", 172_800_000), ("7", 7000), ("250ms", 250)]
        {
            assert_eq!(duration(text), Ok(Duration(ms)), "{text}");
        }
        for text in ["", "m", "1x", "1h30", "-1s", "1 h", "99999999999999999999s", "99999999999999999d"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn ports() {
        let port = |text: &str| {
            let spec = publish(text).unwrap();
            let ip = spec.host_ip.map(|ip| ip.to_string()).unwrap_or_default();
            (ip, spec.published, spec.target.port, spec.target.protocol.as_str())
        };
        assert_eq!(port("80"), (String::new(), None, 80, "tcp"));
        assert_eq!(port(":80"), (String::new(), None, 80, "tcp"));
        assert_eq!(port("8080:80/udp"), (String::new(), Some(8080), 80, "udp"));
        assert_eq!(port("127.0.0.1:8080:80"), ("127.0.0.1".into(), Some(8080), 80, "tcp"));
        assert_eq!(port("127.0.0.1::80"), ("127.0.0.1".into(), None, 80, "tcp"));
        assert_eq!(port("[::1]:8080:80"), ("::1".into(), Some(8080), 80, "tcp"));
        for text in ["", "0", "70000", "a:80", "80/sctp", "x:1:2", "1:2:3"] {
            assert!(publish(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_rest() {
        assert_eq!(restart("on-failure"), Ok(RestartPolicy::OnFailure { max_retries: None }));
        assert!(
            restart("on-failure:x").is_err() && restart("sometimes").is_err() && restart("no:1").is_err()
        );
        assert!(scale("web=1001").is_err() && scale("=1").is_err());
        let shell = |name: &str| (name == "HOME").then(|| "/root".to_owned());
        let entries = ["A=b=c", "HOME", "GONE"].map(str::to_owned);
        let environment = environment(&entries, shell).unwrap();
        assert_eq!(
            environment.into_iter().collect::<Vec<_>>(),
            [("A".into(), "b=c".into()), ("HOME".into(), "/root".into())]
        );
    }
}
