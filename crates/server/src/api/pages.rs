//! The two pages that the server makes itself, for people who have no console yet: a login by code is
//! approved, an invitation is taken.
//!
//! No script, no cookie, nothing from elsewhere. A form carries the password itself, so there is no
//! ambient authority that another site could use; the guard has refused foreign `Origin`s before.

use super::{
    guard::PeerInfo,
    login::{decide_device, origin, prove, take_invite},
};
use crate::state::Core;
use axum::{
    extract::{ConnectInfo, Form, Query, State},
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use lattice_api::{ErrorBody, Hidden, InviteAccept};
use lattice_identity::Fingerprint;
use serde::Deserialize;
use std::sync::{Arc, LazyLock};

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:26rem;margin:4rem auto;padding:0 1rem;\
color-scheme:light dark}label{display:block;margin:1rem 0 .25rem}input,button{font:inherit;padding:.5rem;\
width:100%;box-sizing:border-box}button{margin-top:1.5rem}.no{color:#c62828}";

/// Only this style, only our own form, in nobody's frame.
static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let hash = BASE64_STANDARD.encode(Fingerprint::of(STYLE.as_bytes()).as_bytes());
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{hash}'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    );
    HeaderValue::try_from(policy).unwrap_or(HeaderValue::from_static("default-src 'none'"))
});

/// What may stand in HTML.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

fn page(status: StatusCode, title: &str, body: &str) -> Response {
    let html = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>{title} · Lattice</title><style>{STYLE}</style></head><body><main><h1>{title}</h1>{body}</main></body></html>\n"
    );
    let headers: [(HeaderName, HeaderValue); 5] = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
        (header::CONTENT_SECURITY_POLICY, POLICY.clone()),
        // `no-referrer` would have browsers send the form with the Origin `null`.
        (header::REFERRER_POLICY, HeaderValue::from_static("same-origin")),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (status, headers, html).into_response()
}

fn refused(error: &ErrorBody) -> (StatusCode, String) {
    let status = StatusCode::from_u16(error.code.status()).unwrap_or(StatusCode::BAD_REQUEST);
    let text =
        format!("<p class=\"no\" role=\"alert\">{}. {}</p>", escape(&error.message), escape(&error.hint));
    (status, text)
}

fn device_form(status: StatusCode, above: &str, code: &str, user: &str) -> Response {
    let body = format!(
        "{above}<p>A program on another computer asks to sign in as you. Go on only if you started it yourself \
         and it shows this code.</p>\
         <form method=\"post\" action=\"/device\" autocomplete=\"off\">\
         <label for=\"code\">Code</label><input id=\"code\" name=\"code\" required maxlength=\"20\" value=\"{}\">\
         <label for=\"user\">User</label><input id=\"user\" name=\"user\" required maxlength=\"64\" autocomplete=\"username\" value=\"{}\">\
         <label for=\"password\">Password</label><input id=\"password\" name=\"password\" type=\"password\" required autocomplete=\"current-password\">\
         <button>Let it in</button></form>",
        escape(code),
        escape(user)
    );
    page(status, "Approve a login", &body)
}

/// What stands in the address.
#[derive(Deserialize)]
pub(crate) struct Coded {
    #[serde(default)]
    code: String,
}

pub(crate) async fn device(Query(Coded { code }): Query<Coded>) -> Response {
    device_form(StatusCode::OK, "", &code, "")
}

/// The form of the page for logins.
#[derive(Deserialize)]
pub(crate) struct DeviceForm {
    code: String,
    user: String,
    password: String,
}

pub(crate) async fn device_post(
    State(core): State<Arc<Core>>,
    ConnectInfo(peer): ConnectInfo<PeerInfo>,
    Form(DeviceForm { code, user, password }): Form<DeviceForm>,
) -> Response {
    let decided = async {
        let user = prove(&core, peer, &user, &Hidden(password)).await?;
        decide_device(&core, &user, &format!("{}, the page", origin(peer)), &code, false).await
    };
    match decided.await {
        Ok(decided) => {
            let body = format!(
                "<p>{} at {} is signed in as {}. You can close this page.</p>",
                escape(&decided.client),
                escape(&decided.address),
                escape(&user)
            );
            page(StatusCode::OK, "Let in", &body)
        }
        Err(error) => {
            let (status, text) = refused(&error);
            device_form(status, &text, &code, &user)
        }
    }
}

fn invite_form(status: StatusCode, above: &str, code: &str) -> Response {
    let body = format!(
        "{above}<p>You are invited. Choose a password of at least 12 characters; several words make a good one.</p>\
         <form method=\"post\" action=\"/invite\">\
         <label for=\"code\">Invitation</label><input id=\"code\" name=\"code\" required maxlength=\"200\" autocomplete=\"off\" value=\"{}\">\
         <label for=\"password\">Password</label><input id=\"password\" name=\"password\" type=\"password\" required minlength=\"12\" autocomplete=\"new-password\">\
         <label for=\"again\">The same again</label><input id=\"again\" name=\"again\" type=\"password\" required minlength=\"12\" autocomplete=\"new-password\">\
         <button>Set the password</button></form>",
        escape(code)
    );
    page(status, "Set your password", &body)
}

pub(crate) async fn invite(Query(Coded { code }): Query<Coded>) -> Response {
    invite_form(StatusCode::OK, "", &code)
}

/// The form of the page for invitations.
#[derive(Deserialize)]
pub(crate) struct InviteForm {
    code: String,
    password: String,
    again: String,
}

pub(crate) async fn invite_post(
    State(core): State<Arc<Core>>,
    ConnectInfo(peer): ConnectInfo<PeerInfo>,
    Form(InviteForm { code, password, again }): Form<InviteForm>,
) -> Response {
    if password != again {
        let differ = super::error::invalid("the two passwords differ", "Type the same one twice");
        let (status, text) = refused(&differ);
        return invite_form(status, &text, &code);
    }
    let request = InviteAccept {
        code: Hidden(code.clone()),
        password: Hidden(password),
        client: "the page".into(),
        cookie: false,
    };
    match take_invite(&core, peer, &request).await {
        Ok(mut session) => {
            let name = escape(session.user.as_ref().map_or("local", |user| user.as_str()));
            let body = format!(
                "<p>The password of {name} is set, and you are signed in here.</p><p><a href=\"/\">Open the console</a>, \
                 or sign in elsewhere with <code>lattice login</code>.</p>"
            );
            let mut page = page(StatusCode::OK, "Welcome", &body);
            if let Some(cookie) = super::cookie::given(&core, &mut session) {
                page.headers_mut().insert(header::SET_COOKIE, cookie);
            }
            page
        }
        Err(error) => {
            let (status, text) = refused(&error);
            invite_form(status, &text, &code)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_is_shown_is_html() {
        assert_eq!(escape("<script>\"&'\u{1b}"), "&lt;script&gt;&quot;&amp;&#39; ");
    }
}
