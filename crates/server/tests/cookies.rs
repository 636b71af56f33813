//! The session of a browser: where the cookie comes from, what it needs beside it, and what ends it.

#![allow(clippy::unwrap_used)]

mod support;

use serde_json::{Value, json};
use support::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A request whose answer is wanted with its head.
async fn raw(world: &World, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> String {
    let address = world.server().api_addr();
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    let all = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
    stream.write_all(all.as_bytes()).await.unwrap();
    let mut answer = String::new();
    soon("an answer", stream.read_to_string(&mut answer)).await.unwrap();
    answer
}

/// In milliseconds since 1970.
fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_millis()).unwrap()
}

struct Browser {
    cookie: String,
    csrf: String,
}

impl Browser {
    async fn sign_in(world: &World, user: &str) -> Self {
        let body = json!({ "user": user, "password": PASSWORD, "client": "browser", "cookie": true });
        let answer = raw(world, "POST", "/v1/login", &[], &body.to_string()).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        let set = answer.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap();
        for part in ["; Path=/", "; HttpOnly", "; SameSite=Strict", "; Max-Age="] {
            assert!(set.contains(part), "{set}");
        }
        assert!(!set.contains("Secure") && !set.contains("Domain"), "this is loopback without TLS: {set}");
        let cookie = set.split(';').next().unwrap().to_owned();
        assert!(cookie.starts_with(&format!("lattice-{}=las1_", world.server().api_addr().port())));
        assert!(answer.contains("cache-control: no-store"));
        let (_, text) = answer.split_once("\r\n\r\n").unwrap();
        let body: Value = serde_json::from_str(text).unwrap();
        assert!(body.get("token").is_none() && !text.contains("las1_"), "no script sees the token: {text}");
        Self { cookie, csrf: body["csrf"].as_str().unwrap().to_owned() }
    }

    async fn ask(
        &self,
        world: &World,
        method: &str,
        path: &str,
        more: &[(&str, &str)],
        body: &str,
    ) -> (u16, Value) {
        let mut headers = vec![("cookie", self.cookie.as_str())];
        headers.extend(more);
        world.tcp_body(method, path, &headers, body.to_owned()).await
    }
}

#[tokio::test]
async fn a_cookie_signs_in_and_changes_need_its_proof() {
    let world = World::new().await;
    world.session("ada", "admin").await;
    let browser = Browser::sign_in(&world, "ada").await;
    let (status, who) = browser.ask(&world, "GET", "/v1/whoami", &[], "").await;
    assert_eq!((status, &who["name"], &who["credential"]), (200, &json!("ada"), &json!("session")), "{who}");
    assert_eq!(who["csrf"], json!(browser.csrf), "a page that is loaded again finds its proof");
    let project = json!({ "name": "shop" }).to_string();
    let other = Browser::sign_in(&world, "ada").await;
    assert_ne!(other.csrf, browser.csrf);
    for bad in [&[][..], &[("x-lattice-csrf", other.csrf.as_str())], &[("x-lattice-csrf", "0")]] {
        let (status, answer) = browser.ask(&world, "POST", "/v1/projects", bad, &project).await;
        assert_eq!((status, &answer["code"]), (403, &json!("forbidden")), "{answer}");
        assert!(answer["message"].as_str().unwrap().contains("x-lattice-csrf"), "{answer}");
    }
    let good = ("x-lattice-csrf", browser.csrf.as_str());
    for foreign in [("sec-fetch-site", "cross-site"), ("sec-fetch-site", "same-site")] {
        assert_eq!(browser.ask(&world, "POST", "/v1/projects", &[good, foreign], &project).await.0, 403);
        assert_eq!(browser.ask(&world, "GET", "/v1/whoami", &[foreign], "").await.0, 403);
    }
    assert_eq!(
        browser.ask(&world, "GET", "/v1/whoami", &[("origin", "http://evil.example")], "").await.0,
        403
    );
    assert_eq!(world.tcp("GET", "/v1/projects/shop", &[("cookie", &browser.cookie)]).await.0, 404);
    let own = format!("http://{}", world.server().api_addr());
    let headers = [good, ("origin", own.as_str()), ("sec-fetch-site", "same-origin")];
    let (status, answer) = browser.ask(&world, "POST", "/v1/projects", &headers, &project).await;
    assert_eq!(status, 200, "{answer}");
}

/// The secret of a link that somebody on the server's machine made.
async fn link(world: &World) -> String {
    let link = world.ok("POST", "/v1/console-links", None).await;
    let own = format!("http://127.0.0.1:{}/#", world.server().api_addr().port());
    let url = link["url"].as_str().unwrap();
    assert!(url.starts_with(&own), "the secret is behind the #, which browsers do not send: {url}");
    url[own.len()..].to_owned()
}

#[tokio::test]
async fn a_link_signs_in_once_as_whoever_made_it() {
    let world = World::new().await;
    let code = link(&world).await;
    let body = json!({ "code": code, "client": "browser" }).to_string();
    let foreign = [("origin", "http://evil.example")];
    assert_eq!(world.tcp_body("POST", "/v1/console-links/use", &foreign, body.clone()).await.0, 403);
    let answer = raw(&world, "POST", "/v1/console-links/use", &[], &body).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("cache-control: no-store") && answer.contains("; HttpOnly"), "{answer}");
    let cookie = answer.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap();
    let cookie = cookie.split(';').next().unwrap();
    let (status, who) = world.tcp("GET", "/v1/whoami", &[("cookie", cookie)]).await;
    assert_eq!(
        (status, &who["name"], &who["credential"]),
        (200, &json!("local"), &json!("session")),
        "{who}"
    );
    let csrf = who["csrf"].as_str().unwrap();
    let project = json!({ "name": "shop" }).to_string();
    let headers = [("cookie", cookie), ("x-lattice-csrf", csrf)];
    assert_eq!(world.tcp_body("POST", "/v1/projects", &headers, project).await.0, 200, "{who}");
    let lasts = who["expires_at"].as_i64().unwrap() - now();
    assert!(
        (0..=12 * 3_600_000).contains(&lasts),
        "half a day at the most, and not a person's month: {lasts}"
    );

    let (status, answer) = world.tcp_body("POST", "/v1/console-links/use", &[], body).await;
    assert_eq!((status, &answer["code"]), (401, &json!("unauthenticated")), "it was used: {answer}");
    assert!(answer["hint"].as_str().unwrap().contains("lattice console"), "{answer}");
    for bad in ["", "lac1_", "lac1_AAAA", &code.replace("lac1_", "las1_"), &format!("{code}A")] {
        let body = json!({ "code": bad }).to_string();
        assert_eq!(world.tcp_body("POST", "/v1/console-links/use", &[], body).await.0, 401, "{bad}");
    }
    let audit = world.get("/v1/audit").await.to_string();
    assert!(audit.contains("console_link.create") && audit.contains("by link"), "{audit}");
    assert!(!audit.contains("lac1_"), "no secret is written down");
}

#[tokio::test]
async fn a_link_is_its_makers_and_no_program_makes_one() {
    let world = World::new().await;
    let ada = world.session("ada", "viewer").await;
    let (status, made) = world.as_bearer(&ada, "POST", "/v1/console-links", None).await;
    assert_eq!(status, 200, "{made}");
    let code = made["url"].as_str().unwrap().split_once('#').unwrap().1.to_owned();
    let program = world.api_token("admin").await;
    let (status, refused) = world.as_bearer(&program, "POST", "/v1/console-links", None).await;
    assert_eq!((status, &refused["code"]), (403, &json!("forbidden")), "{refused}");
    // Two at the same time: one of them is in.
    let body = json!({ "code": code }).to_string();
    let (one, other) = tokio::join!(
        raw(&world, "POST", "/v1/console-links/use", &[], &body),
        raw(&world, "POST", "/v1/console-links/use", &[], &body)
    );
    let good = [&one, &other].into_iter().filter(|answer| answer.starts_with("HTTP/1.1 200")).count();
    assert_eq!(good, 1, "{one}\n{other}");
    let (_, late) = world.as_bearer(&ada, "POST", "/v1/console-links", None).await;
    let code = late["url"].as_str().unwrap().split_once('#').unwrap().1.to_owned();
    world.ok("POST", "/v1/users/ada/disable", None).await;
    let body = json!({ "code": code }).to_string();
    assert_eq!(world.tcp_body("POST", "/v1/console-links/use", &[], body).await.0, 401);
}

#[tokio::test]
async fn a_forged_cookie_is_nobody_and_a_bearer_token_comes_first() {
    let world = World::new().await;
    let token = world.session("ada", "viewer").await;
    let browser = Browser::sign_in(&world, "ada").await;
    let (name, value) = browser.cookie.split_once('=').unwrap();
    let swapped: String = value.chars().rev().collect();
    let twice = format!("{0}; {0}", browser.cookie);
    let elsewhere = format!("lattice-1={value}");
    for cookie in [format!("{name}="), format!("{name}={swapped}"), twice, elsewhere] {
        let (status, answer) = world.tcp("GET", "/v1/whoami", &[("cookie", &cookie)]).await;
        assert_eq!((status, &answer["code"]), (401, &json!("unauthenticated")), "{cookie}: {answer}");
    }
    // What a program sends needs no proof, and what is wrong there is not made good by a cookie.
    let bearer = format!("Bearer {token}");
    let both = [("authorization", bearer.as_str()), ("cookie", browser.cookie.as_str())];
    let (status, who) = world.tcp("GET", "/v1/whoami", &both).await;
    assert_eq!((status, who.get("csrf")), (200, None), "{who}");
    let wrong = [("authorization", "Bearer las1_x"), ("cookie", browser.cookie.as_str())];
    assert_eq!(world.tcp("GET", "/v1/whoami", &wrong).await.0, 401);
}

#[tokio::test]
async fn what_ends_a_session_ends_its_cookie() {
    let world = World::new().await;
    world.session("ada", "admin").await;
    let (one, two) = (Browser::sign_in(&world, "ada").await, Browser::sign_in(&world, "ada").await);
    assert_eq!(one.ask(&world, "POST", "/v1/logout", &[], "").await.0, 403, "nobody else signs her out");
    let headers = [("cookie", one.cookie.as_str()), ("x-lattice-csrf", one.csrf.as_str())];
    let answer = raw(&world, "POST", "/v1/logout", &headers, "").await;
    assert!(answer.starts_with("HTTP/1.1 204") && answer.contains("Max-Age=0"), "{answer}");
    assert_eq!(one.ask(&world, "GET", "/v1/whoami", &[], "").await.0, 401);
    assert_eq!(two.ask(&world, "GET", "/v1/whoami", &[], "").await.0, 200);
    // A stream by cookie ends with the user's right to it.
    let path = format!("GET /v1/watch?from=0 HTTP/1.1\r\nhost: {}\r\n", world.server().api_addr());
    let mut stream = tokio::net::TcpStream::connect(world.server().api_addr()).await.unwrap();
    stream.write_all(format!("{path}cookie: {}\r\n\r\n", two.cookie).as_bytes()).await.unwrap();
    let mut head = [0; 15];
    soon("an answer", stream.read_exact(&mut head)).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 200 OK");
    world.ok("POST", "/v1/users/ada/disable", None).await;
    let ended = async {
        let (mut text, mut part) = (String::new(), [0; 4096]);
        while !text.contains("unauthenticated") {
            let count = stream.read(&mut part).await.unwrap();
            assert_ne!(count, 0, "{text}");
            text.push_str(&String::from_utf8_lossy(&part[..count]));
        }
    };
    soon("the end of the stream", ended).await;
    assert_eq!(two.ask(&world, "GET", "/v1/whoami", &[], "").await.0, 401);
}
