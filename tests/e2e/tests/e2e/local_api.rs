//! The API on loopback gives nothing to who cannot say who he is.

use lattice_e2e::{Cluster, http_with};
use std::net::TcpStream;

#[test]
fn loopback_has_no_ambient_authority() {
    let cluster = Cluster::start();
    let api = cluster.api();
    let get = |path: &str, headers: &[(&str, &str)]| http_with(api, "GET", path, headers).unwrap();
    let (status, body) = get("/v1/nodes", &[]);
    assert_eq!(status, 401, "{body}");
    assert!(body.contains("hint") && body.contains("api-token"), "{body}");
    let (status, _) = get("/v1/nodes", &[("Authorization", "Bearer lap1_nonsense")]);
    assert_eq!(status, 401);

    let full = cluster.lattice(&["api-token", "create", "robot", "--role", "admin"]).ok().text().to_owned();
    let look = cluster.lattice(&["api-token", "create", "viewer", "--role", "viewer"]).ok().text().to_owned();
    let bearer = |token: &str| format!("Bearer {token}");
    let (full, look) = (bearer(&full), bearer(&look));
    for token in [&full, &look] {
        assert_eq!(get("/v1/nodes", &[("Authorization", token)]).0, 200);
    }
    // Who may look may not change.
    let post =
        |token: &str| http_with(api, "POST", "/v1/nodes/x/cordon", &[("Authorization", token)]).unwrap();
    assert_eq!(post(&look).0, 403);
    assert_eq!(post(&full).0, 404);

    // A page elsewhere that has made its name point here, and one that has got hold of a token.
    let (status, body) = get("/v1/nodes", &[("Authorization", &full), ("Host", "evil.example")]);
    assert!((400..500).contains(&status), "{status} {body}");
    let (status, body) = get("/v1/nodes", &[("Authorization", &full), ("Origin", "https://evil.example")]);
    assert!((400..500).contains(&status), "{status} {body}");

    // The command line by a token, and without.
    let url = format!("http://{api}");
    let token = full.trim_start_matches("Bearer ").to_owned();
    let mut command = cluster.command(&["--server", &url, "node", "ls", "-o", "json"]);
    command.env("LATTICE_TOKEN", &token);
    let _ = lattice_e2e::Output::of(&command, b"").ok();
    let _ = cluster.lattice(&["--server", &url, "node", "ls"]).failed().says(&["token"]);

    // What was refused stands in the audit log; and the token is in no log at all.
    let audit = cluster.lattice(&["audit", "-o", "json"]).ok();
    assert!(audit.stdout.contains("denied"), "{audit}");
    let secret = &token[token.len() / 2..];
    assert!(!audit.stdout.contains(secret) && !cluster.server_log().contains(secret));
    // Deleted, it is worth nothing.
    let tokens: Vec<serde_json::Value> = cluster.lattice(&["api-token", "ls", "-o", "json"]).ok().json();
    let robot = tokens.iter().find(|token| token["name"] == "robot").unwrap();
    let _ = cluster.lattice(&["api-token", "rm", robot["id"].as_str().unwrap()]).ok();
    assert_eq!(get("/v1/nodes", &[("Authorization", &full)]).0, 401);
}

#[test]
fn noise_on_every_port() {
    use std::io::{Read, Write};
    let cluster = Cluster::start();
    let _agent = cluster.join("a");
    for address in [cluster.api(), cluster.link.address()] {
        for noise in [
            &b"\0\0\0\0\0\0\0\0\0\0\0"[..],
            b"GET / HTTP/1.1\r\n\r\n",
            &[0x16, 3, 1, 0xff, 0xff],
            &[0xff; 70_000],
        ] {
            let mut stream = TcpStream::connect(address).unwrap();
            let _ = stream.write_all(noise);
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let _ = stream.set_read_timeout(Some(std::time::Duration::from_secs(20)));
            let _ = stream.read_to_end(&mut Vec::new());
        }
    }
    let _ = cluster.lattice(&["node", "ls"]).ok().says(&["connected"]);
    assert!(!cluster.server_log().contains("panicked"), "{}", cluster.server_log());
}
