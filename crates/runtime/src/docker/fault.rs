//! Docker's messages into kinds of errors. Docker answers most failures with status 500 and a
//! sentence, so the sentence is what there is; each that is matched here stands in the tests,
//! as engines from 20.10 to 29 and Podman write it.

use crate::error::RuntimeError;
use bollard::errors::Error;
use std::{error::Error as _, io};

/// What went wrong with a call about `what`.
pub(super) fn fault(error: Error, socket: &str, what: &str) -> RuntimeError {
    match error {
        Error::DockerResponseServerError { status_code, message } => answered(status_code, message, what),
        Error::DockerStreamError { error } => answered(500, error, what),
        Error::IOError { err } => unreachable(&err, socket),
        Error::HyperResponseError { err } => {
            let cause = err.source().map_or_else(|| err.to_string(), ToString::to_string);
            unreachable(&io::Error::other(cause), socket)
        }
        Error::JsonDataError { message, .. } => misunderstood(what, &message),
        Error::JsonSerdeError { err } => misunderstood(what, &err.to_string()),
        other => RuntimeError::Refused { what: what.to_owned(), message: other.to_string() },
    }
}

fn misunderstood(what: &str, message: &str) -> RuntimeError {
    RuntimeError::Refused {
        what: what.to_owned(),
        message: format!(
            "the engine's answer was not understood ({message}); is it a Docker engine from 20.10 on?"
        ),
    }
}

/// Nobody answers at the socket, or no longer.
pub(super) fn unreachable(error: &io::Error, socket: &str) -> RuntimeError {
    let hint = match error.kind() {
        io::ErrorKind::NotFound => "install a container engine, or name the socket of the one you have",
        io::ErrorKind::PermissionDenied => {
            "let this user use it: add it to the group `docker` and log in again"
        }
        io::ErrorKind::ConnectionRefused => "start it, e.g. with `systemctl start docker`",
        _ => "see whether it runs and what its log says",
    };
    RuntimeError::Unreachable { socket: socket.to_owned(), reason: error.to_string(), hint }
}

fn answered(status: u16, message: String, what: &str) -> RuntimeError {
    let lower = message.to_ascii_lowercase();
    let says = |needle: &str| lower.contains(needle);
    let what = what.to_owned();
    if is_disk_full(&lower) {
        RuntimeError::DiskFull { message }
    } else if says("port is already allocated") || says("address already in use") {
        RuntimeError::PortInUse { port: port_in(&message), message }
    } else if status == 404 && says("no such image") {
        let image = message.rsplit_once("mage: ").map_or(what, |(_, image)| image.trim().to_owned());
        RuntimeError::ImageMissing { image, message }
    } else if says("does not match the specified platform") {
        // It is there for another platform.
        let image = message.split_once("with reference ").and_then(|(_, rest)| rest.split(' ').next());
        let image = image.map_or(what, |image| image.trim_matches('"').to_owned());
        RuntimeError::ImageMissing { image, message }
    } else if status == 404 || says("is ambiguous") {
        // Two networks of one name, so neither is the one that is meant: the next listing leaves one.
        RuntimeError::NotFound { what, message }
    } else if status == 409 || (status == 403 && says("active endpoints")) || says("is already in use") {
        RuntimeError::Conflict { what, message }
    } else {
        RuntimeError::Refused { what, message }
    }
}

fn is_disk_full(lower: &str) -> bool {
    lower.contains("no space left on device") || lower.contains("disk quota exceeded")
}

/// What went wrong with fetching an image; the registry's words come through the engine.
pub(super) fn pull_fault(error: Error, socket: &str, image: &str) -> RuntimeError {
    let message = match error {
        Error::DockerResponseServerError { message, .. } | Error::DockerStreamError { error: message } => {
            message
        }
        other => return fault(other, socket, &format!("pulling {image}")),
    };
    let lower = message.to_ascii_lowercase();
    let says = |needles: &[&str]| needles.iter().any(|needle| lower.contains(needle));
    let image = image.to_owned();
    if is_disk_full(&lower) {
        RuntimeError::DiskFull { message }
    } else if says(&[
        "access denied",
        "unauthorized",
        "authentication required",
        "no basic auth",
        "denied:",
        "forbidden",
    ]) {
        RuntimeError::Unauthorised { image, message }
    } else if says(&[
        "manifest unknown",
        "not found",
        "no such image",
        "name unknown",
        "no matching manifest",
    ]) {
        RuntimeError::ImageMissing { image, message }
    } else if says(&[
        "dial tcp",
        "no such host",
        "connection refused",
        "i/o timeout",
        "tls handshake",
        "connection reset",
        "network is unreachable",
        "server gave http response",
        "x509:",
        "eof",
        "deadline exceeded",
        "request canceled",
        "toomanyrequests",
        "bad gateway",
        "service unavailable",
        "gateway timeout",
    ]) {
        RuntimeError::RegistryUnreachable { image, message }
    } else {
        RuntimeError::Refused { what: format!("pulling {image}"), message }
    }
}

/// The host's port in Docker's sentence: the number after the first address.
fn port_in(message: &str) -> Option<u16> {
    const BEFORE: [&str; 6] =
        ["Bind for ", "host port for ", "host port ", "listen tcp", "listen udp", "address "];
    BEFORE.iter().filter_map(|before| message.split_once(before)).find_map(|(_, rest)| {
        // "listen tcp4 127.0.0.1:80: bind" has the rest of the protocol's name before the address.
        let token = rest.split_whitespace().find(|word| word.contains(':'))?;
        let after = match token.strip_prefix('[') {
            Some(six) => six.split_once("]:")?.1,
            None => token
                .trim_start_matches(':')
                .split_once(':')
                .map_or(token.trim_start_matches(':'), |(_, port)| port),
        };
        let digits: String = after.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(status_code: u16, message: &str) -> Error {
        Error::DockerResponseServerError { status_code, message: message.to_owned() }
    }

    #[test]
    fn a_taken_port_is_named() {
        for (text, port) in [
            (
                "driver failed programming external connectivity on endpoint lt2 (7418): Bind for 127.0.0.1:18080 failed: port is already allocated",
                18080,
            ),
            (
                "driver failed programming external connectivity on endpoint a (b): Error starting userland proxy: listen tcp4 127.0.0.1:18081: bind: address already in use",
                18081,
            ),
            (
                "failed to set up container networking: driver failed programming external connectivity on endpoint x (y): failed to bind host port for 127.0.0.1:8080:172.18.0.2:80/tcp: address already in use",
                8080,
            ),
            ("failed to bind host port 0.0.0.0:8081/tcp: address already in use", 8081),
            ("Bind for :::8082 failed: port is already allocated", 8082),
            ("listen tcp [::1]:8083: bind: address already in use", 8083),
            ("rootlessport listen tcp 127.0.0.1:8084: bind: address already in use", 8084),
        ] {
            match fault(said(500, text), "/s", "container a") {
                RuntimeError::PortInUse { port: found, .. } => assert_eq!(found, Some(port), "{text}"),
                other => panic!("{other:?} for {text}"),
            }
        }
    }

    #[test]
    fn sentences_become_kinds() {
        let kind = |status, text: &str| fault(said(status, text), "/s", "container a");
        assert!(
            matches!(kind(404, "No such image: a/b:1"), RuntimeError::ImageMissing { image, .. } if image == "a/b:1")
        );
        let other = "image with reference a/b:1 was found but does not match the specified platform: wanted linux/arm64, actual: linux/amd64";
        assert!(matches!(kind(404, other), RuntimeError::ImageMissing { image, .. } if image == "a/b:1"));
        assert!(matches!(kind(404, "No such container: x"), RuntimeError::NotFound { .. }));
        assert!(matches!(kind(404, "network nonet not found"), RuntimeError::NotFound { .. }));
        assert!(matches!(
            kind(409, "Conflict. The container name \"/lt6\" is already in use by container \"d35\"."),
            RuntimeError::Conflict { .. }
        ));
        assert!(matches!(
            kind(403, "error while removing network: network a id b has active endpoints"),
            RuntimeError::Conflict { .. }
        ));
        assert!(matches!(
            kind(500, "error creating overlay mount: no space left on device"),
            RuntimeError::DiskFull { .. }
        ));
        assert!(matches!(kind(400, "Minimum memory limit allowed is 6MB"), RuntimeError::Refused { .. }));
    }

    #[test]
    fn registries_are_told_apart() {
        let kind = |text: &str| pull_fault(said(500, text), "/s", "a/b:1");
        for text in [
            "manifest for a/b:1 not found: manifest unknown: manifest unknown",
            "no matching manifest for linux/arm64/v8 in the manifest list entries",
        ] {
            assert!(matches!(kind(text), RuntimeError::ImageMissing { .. }), "{text}");
        }
        for text in [
            "pull access denied for a/b, repository does not exist or may require 'docker login': denied: x",
            "unauthorized: authentication required",
            "Get \"https://r.example/v2/\": no basic auth credentials",
        ] {
            assert!(matches!(kind(text), RuntimeError::Unauthorised { .. }), "{text}");
        }
        for text in [
            "Get \"http://127.0.0.1:1/v2/\": dial tcp 127.0.0.1:1: connect: connection refused",
            "Get \"https://registry.example/v2/\": dial tcp: lookup registry.example on 10.0.0.1:53: no such host",
            "Get \"https://r.example/v2/\": net/http: request canceled while waiting for connection",
        ] {
            assert!(matches!(kind(text), RuntimeError::RegistryUnreachable { .. }), "{text}");
        }
        let full = "failed to register layer: write /x: no space left on device";
        assert!(matches!(kind(full), RuntimeError::DiskFull { .. }));
    }
}
