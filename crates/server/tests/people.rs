//! Users, logins, invitations, logins by code, and what ends them.

#![allow(clippy::unwrap_used)]

mod support;

use serde_json::{Value, json};
use support::*;

fn text(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap_or_else(|| panic!("no {name} in {value}")).to_owned()
}

#[tokio::test]
async fn an_invitation_makes_the_first_admin_once() {
    let world = World::new().await;
    let invite = json!({ "user": "ada", "roles": ["admin"] });
    let invite = world.ok("POST", "/v1/invites", Some(invite)).await;
    let code = text(&invite, "code");
    assert!(text(&invite, "url").ends_with(&format!("/invite?code={code}")));
    let take = |password: &str| json!({ "code": code, "password": password, "client": "laptop" });
    let (status, answer) = world.stranger("POST", "/v1/invites/accept", take("short")).await;
    assert_eq!((status, &answer["code"]), (400, &json!("invalid_request")), "{answer}");
    // Several open it at the same time; one has it.
    let (first, second) = tokio::join!(
        world.stranger("POST", "/v1/invites/accept", take(PASSWORD)),
        world.stranger("POST", "/v1/invites/accept", take(PASSWORD)),
    );
    let mut statuses = [first.0, second.0];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 401]);
    let session = if first.0 == 200 { first.1 } else { second.1 };
    let token = text(&session, "token");
    let (_, who) = world.as_bearer(&token, "GET", "/v1/whoami", None).await;
    assert_eq!(
        (&who["name"], &who["credential"], &who["roles"]),
        (&json!("ada"), &json!("session"), &json!(["admin"]))
    );
    assert_eq!(world.as_bearer(&token, "POST", "/v1/logout", None).await.0, 204);
    assert_eq!(world.as_bearer(&token, "GET", "/v1/whoami", None).await.0, 401);
    assert_eq!(world.login("ada", PASSWORD).await.0, 200);
    let audit = world.get("/v1/audit").await.to_string();
    for action in ["user.invite", "session.create", "session.delete"] {
        assert!(audit.contains(action), "{action}: {audit}");
    }
    assert!(!audit.contains(&code[10..30]) && !audit.contains(PASSWORD));
}

#[tokio::test]
async fn a_wrong_login_says_nothing_and_is_bounded() {
    let world = World::new().await;
    world.session("ada", "viewer").await;
    world.ok("POST", "/v1/users", Some(json!({ "name": "bob" }))).await;
    world.ok("POST", "/v1/users/bob/disable", None).await;
    let mut answers = Vec::new();
    for user in ["ada", "nobody", "bob", "no such name!"] {
        let (status, answer) = world.login(user, "wrong horse battery staple").await;
        assert_eq!(status, 401, "{user}: {answer}");
        answers.push(answer);
    }
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]), "{answers:?}");
    // A user's tries are counted, then the address's.
    let mut last = (0, Value::Null);
    for _ in 0..12 {
        last = world.login("ada", "wrong horse battery staple").await;
        if last.0 == 429 {
            break;
        }
    }
    assert_eq!((last.0, &last.1["code"]), (429, &json!("too_many_requests")), "{}", last.1);
    assert!(last.1["retry_after_ms"].as_u64().is_some_and(|wait| wait > 0));
    assert_eq!(world.login("ada", PASSWORD).await.0, 429, "the right one too, or a guess would show");
    // Whoever runs the server is not locked out, and signs in there.
    let right = json!({ "user": "ada", "password": PASSWORD });
    world.ok("POST", "/v1/login", Some(right)).await;
    // Collected in the audit log, without what was typed for a name.
    world.until("/v1/audit?limit=1000", |list| list.to_string().contains("session.failed")).await;
    let audit = world.get("/v1/audit?limit=1000").await;
    let failed: Vec<_> =
        audit["items"].as_array().unwrap().iter().filter(|e| e["action"] == "session.failed").collect();
    assert!(failed.len() <= 4, "{failed:?}");
    assert!(!audit.to_string().contains("no such name!"));
}

async fn start(world: &World) -> (String, String) {
    let (status, begun) = world.stranger("POST", "/v1/device-codes", json!({ "client": "laptop" })).await;
    assert_eq!(status, 200, "{begun}");
    assert!(text(&begun, "verification_uri").ends_with("/device"));
    (text(&begun, "device_code"), text(&begun, "user_code"))
}

async fn poll(world: &World, device: &str) -> (u16, Value) {
    loop {
        let answer = world.stranger("POST", "/v1/device-codes/token", json!({ "device_code": device })).await;
        if answer.1["code"] != "slow_down" {
            return answer;
        }
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
}

#[tokio::test]
async fn a_login_by_code_is_approved_by_a_person() {
    let world = World::new().await;
    let ada = world.session("ada", "developer@project/default").await;
    let (device, code) = start(&world).await;
    let (status, answer) = poll(&world, &device).await;
    assert_eq!((status, &answer["code"]), (400, &json!("authorization_pending")), "{answer}");
    // A token of hers may not make itself a session, nor may the socket, which is nobody.
    let mine = json!({ "name": "ci", "roles": ["developer@project/default"] });
    let (_, token) = world.as_bearer(&ada, "POST", "/v1/api-tokens", Some(mine)).await;
    let decide = json!({ "user_code": code.to_lowercase().replace('-', " ") });
    let (status, _) = world
        .as_bearer(&text(&token, "token"), "POST", "/v1/device-codes/decision", Some(decide.clone()))
        .await;
    assert_eq!(status, 403);
    assert_eq!(world.ask("POST", "/v1/device-codes/decision", Some(decide.clone())).await.0, 403);
    let (status, decided) =
        world.as_bearer(&ada, "POST", "/v1/device-codes/decision", Some(decide.clone())).await;
    assert_eq!((status, &decided["client"]), (200, &json!("laptop")), "{decided}");
    assert_eq!(world.as_bearer(&ada, "POST", "/v1/device-codes/decision", Some(decide)).await.0, 404, "once");
    let (status, session) = poll(&world, &device).await;
    assert_eq!((status, &session["user"]), (200, &json!("ada")), "{session}");
    let (_, who) = world.as_bearer(&text(&session, "token"), "GET", "/v1/whoami", None).await;
    assert_eq!(who["name"], "ada");
    assert_eq!(poll(&world, &device).await.1["code"], "expired_token", "the secret is good once");

    let (device, code) = start(&world).await;
    let deny = json!({ "user_code": code, "deny": true });
    assert_eq!(world.as_bearer(&ada, "POST", "/v1/device-codes/decision", Some(deny)).await.0, 200);
    assert_eq!(poll(&world, &device).await.1["code"], "access_denied");
    let (_, answer) =
        world.stranger("POST", "/v1/device-codes/token", json!({ "device_code": "lad1_no" })).await;
    assert_eq!(answer["code"], "expired_token");
}

#[tokio::test]
async fn the_page_approves_and_nobody_elses_page_does() {
    let world = World::new().await;
    world.session("ada", "viewer").await;
    let (device, code) = start(&world).await;
    let (status, html) = world.tcp("GET", "/device?code=%22%3E%3Cscript%3E", &[]).await;
    assert_eq!(status, 200);
    assert!(!html.as_str().unwrap().contains("<script"), "{html}");
    let form = |password: &str| format!("code={code}&user=ada&password={}", password.replace(' ', "+"));
    let kind = ("content-type", "application/x-www-form-urlencoded");
    let foreign = [kind, ("origin", "https://evil.example")];
    assert_eq!(world.tcp_body("POST", "/device", &foreign, form(PASSWORD)).await.0, 403);
    assert_eq!(world.tcp_body("POST", "/device", &[kind], form("wrong")).await.0, 401);
    let (status, html) = world.tcp_body("POST", "/device", &[kind], form(PASSWORD)).await;
    assert_eq!(status, 200, "{html}");
    assert_eq!(poll(&world, &device).await.1["user"], "ada");

    let invite = world.ok("POST", "/v1/invites", Some(json!({ "user": "bob", "roles": ["viewer"] }))).await;
    let code = text(&invite, "code");
    assert_eq!(world.tcp("GET", &format!("/invite?code={code}"), &[]).await.0, 200);
    let form = |again: &str| format!("code={code}&password=a+long+enough+one&again={again}");
    assert_eq!(world.tcp_body("POST", "/invite", &[kind], form("another+long+one")).await.0, 400);
    assert_eq!(world.tcp_body("POST", "/invite", &[kind], form("a+long+enough+one")).await.0, 200);
    assert_eq!(world.login("bob", "a long enough one").await.0, 200);
}

#[tokio::test]
async fn a_token_never_can_more_than_its_owner() {
    let world = World::new().await;
    let ada = world.session("ada", "developer@project/default").await;
    let make = async |roles: &[&str]| {
        let body = json!({ "name": "ci", "roles": roles });
        world.as_bearer(&ada, "POST", "/v1/api-tokens", Some(body)).await
    };
    for more in ["admin", "developer", "viewer", "developer@project/other", "admin@project/default"] {
        assert_eq!(make(&[more]).await.0, 403, "{more}");
    }
    let (status, token) = make(&["developer@project/default"]).await;
    assert_eq!(status, 200, "{token}");
    let token = text(&token, "token");
    assert_eq!(world.as_bearer(&token, "PUT", SHOP, Some(web("nginx"))).await.0, 200);
    let more = json!({ "name": "child", "roles": ["viewer@project/default"] });
    assert_eq!(
        world.as_bearer(&token, "POST", "/v1/api-tokens", Some(more)).await.0,
        403,
        "no token of a token"
    );
    // Less for her is less for it, from the next request on, and for its streams at once.
    let watching = stream_as(&world, &token, "/v1/watch", |text| text.contains("event: error"));
    let demote = async {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        world.ok("POST", "/v1/users/ada/grant", Some(json!({ "roles": ["viewer@project/default"] }))).await;
        world
            .ok("POST", "/v1/users/ada/revoke", Some(json!({ "roles": ["developer@project/default"] })))
            .await
    };
    let ((status, cut), _) = tokio::join!(watching, demote);
    assert!(status == 200 && cut.contains("unauthenticated"), "{status} {cut}");
    assert_eq!(world.as_bearer(&token, "PUT", SHOP, Some(web("nginx"))).await.0, 403);
    assert_eq!(world.as_bearer(&token, "GET", SHOP, None).await.0, 200);
    // Nobody without their maker.
    let watching = stream_as(&world, &ada, "/v1/watch", |text| text.contains("event: error"));
    let disable = async {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        world.ok("POST", "/v1/users/ada/disable", None).await
    };
    let ((_, cut), _) = tokio::join!(watching, disable);
    assert!(cut.contains("unauthenticated"), "{cut}");
    for credential in [&token, &ada] {
        assert_eq!(world.as_bearer(credential, "GET", "/v1/status", None).await.0, 401);
    }
    assert_eq!(world.login("ada", PASSWORD).await.0, 401);
    // In again: by a new login, and the token is good again; removed: nothing of theirs is left.
    world.ok("POST", "/v1/users/ada/enable", None).await;
    assert_eq!(world.as_bearer(&token, "GET", "/v1/status", None).await.0, 200);
    assert_eq!(world.as_bearer(&ada, "GET", "/v1/status", None).await.0, 401);
    world.ok("DELETE", "/v1/users/ada", None).await;
    assert_eq!(world.as_bearer(&token, "GET", "/v1/status", None).await.0, 401);
    assert_eq!(world.get("/v1/api-tokens").await["items"], json!([]));
}

#[tokio::test]
async fn a_password_is_its_owners() {
    let world = World::new().await;
    let ada = world.session("ada", "viewer").await;
    let bob = world.session("bob", "viewer").await;
    let (_, other) = world.login("ada", PASSWORD).await;
    let other = text(&other, "token");
    let set = |current: Option<&str>| json!({ "password": "another long password", "current": current });
    let path = "/v1/users/ada/password";
    assert_eq!(world.as_bearer(&bob, "PUT", path, Some(set(Some(PASSWORD)))).await.0, 404);
    assert_eq!(world.as_bearer(&ada, "PUT", path, Some(set(None))).await.0, 400);
    assert_eq!(world.as_bearer(&ada, "PUT", path, Some(set(Some("wrong password")))).await.0, 401);
    assert_eq!(world.as_bearer(&ada, "PUT", path, Some(set(Some(PASSWORD)))).await.0, 204);
    assert_eq!(world.as_bearer(&ada, "GET", "/v1/whoami", None).await.0, 200, "this session stays");
    assert_eq!(world.as_bearer(&other, "GET", "/v1/whoami", None).await.0, 401, "the others do not");
    assert_eq!(world.login("ada", "another long password").await.0, 200);
    // An admin sets one without the present one.
    world.ok("PUT", path, Some(json!({ "password": PASSWORD }))).await;
    assert_eq!(world.as_bearer(&ada, "GET", "/v1/whoami", None).await.0, 401);
    world.ok("DELETE", "/v1/users/bob/sessions", None).await;
    assert_eq!(world.as_bearer(&bob, "GET", "/v1/whoami", None).await.0, 401);
}

#[tokio::test]
async fn an_admin_of_a_project_gives_roles_there_alone() {
    let world = World::new().await;
    world.ok("POST", "/v1/projects", Some(json!({ "name": "lab" }))).await;
    let chief = world.session("chief", "admin@project/lab").await;
    world.session("ada", "").await;
    let give = async |role: &str| {
        let body = json!({ "roles": [role] });
        world.as_bearer(&chief, "POST", "/v1/users/ada/grant", Some(body)).await.0
    };
    assert_eq!(give("developer@project/lab").await, 200);
    assert_eq!(give("admin@project/lab").await, 200);
    assert_eq!(give("developer@project/default").await, 404);
    assert_eq!(give("viewer").await, 403);
    assert_eq!(give("operator@pool/default").await, 404);
    let (_, lab) = world.as_bearer(&chief, "GET", "/v1/projects/lab", None).await;
    assert_eq!(lab["members"].as_array().unwrap().len(), 2, "{lab}");
    let quota = json!({ "quota": {} });
    assert_eq!(world.as_bearer(&chief, "PUT", "/v1/projects/lab/quota", Some(quota)).await.0, 403);
}
