//! The session of a browser: a cookie that no script reads, and the proof that a request with it comes from a
//! page of this server.
//!
//! A browser adds the cookie to every request, whoever caused it. So a request with it counts only if
//! - `Origin`, where it is sent, is the very host and port that is asked, and it is sent with a WebSocket;
//! - `Sec-Fetch-Site`, where it is sent, says that the page is of the same origin, or that there is none;
//! - each method that changes something carries [`CSRF_HEADER`], which only a page of this server can read.
//!
//! Over TLS the name begins with `__Host-`, which browsers take from this host alone. Without it the server
//! listens on loopback only, where browsers do not all keep such a cookie; the name has the port instead, as
//! cookies are of a host and all its ports.

use crate::{clock, state::Core};
use axum::{
    Json,
    extract::Request,
    http::{HeaderMap, HeaderValue, Method, header},
    response::{IntoResponse, Response},
};
use lattice_api::{CSRF_HEADER, ErrorBody, ErrorCode, Hidden, SessionCreated};
use lattice_identity::SessionToken;

/// The proof that belongs to the cookie by which somebody is known; nothing where they are not.
#[derive(Clone)]
pub(crate) struct Csrf(pub(crate) Option<Hidden>);

fn name(core: &Core) -> String {
    match core.config.api_tls {
        Some(_) => "__Host-lattice".into(),
        None => format!("lattice-{}", core.api_port()),
    }
}

/// What the cookie of this server says, if it is there once. Two of a name are somebody's trick.
pub(crate) fn read<'a>(core: &Core, headers: &'a HeaderMap) -> Option<&'a str> {
    find(headers, &name(core))
}

fn find<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let all = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let pairs = all.flat_map(|text| text.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let mut own = pairs.filter(|(known, _)| *known == name).map(|(_, value)| value);
    match (own.next(), own.next()) {
        (Some(value), None) => Some(value),
        _ => None,
    }
}

/// Refuses a request with the cookie that is not a page's of this server.
pub(crate) fn own_page(token: &SessionToken, request: &Request) -> Result<(), ErrorBody> {
    let headers = request.headers();
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let refuse = |message: &str| {
        let hint = "use the console at this server's own address, or a bearer token";
        Err(ErrorBody::new(ErrorCode::Forbidden, message, hint))
    };
    if text("sec-fetch-site").is_some_and(|site| !["same-origin", "none"].contains(&site)) {
        return refuse("another site's page sent this request with the console's cookie");
    }
    let host = request.uri().authority().map(|authority| authority.as_str()).or_else(|| text("host"));
    let origin = text("origin").map(|origin| origin.split_once("://").map_or("?", |(_, rest)| rest));
    match (origin, host) {
        (Some(origin), Some(host)) if origin.eq_ignore_ascii_case(host) => {}
        (None, _) if !headers.contains_key(header::UPGRADE) => {}
        _ => return refuse("a page of another address sent this request with the console's cookie"),
    }
    let looks = [Method::GET, Method::HEAD].contains(request.method());
    if !looks && !text(CSRF_HEADER).is_some_and(|shown| token.is_csrf(shown)) {
        let message = format!("a change by cookie needs the header {CSRF_HEADER}");
        return refuse(&format!("{message}, and it is missing or not this session's"));
    }
    Ok(())
}

fn header_of(core: &Core, value: &str, seconds: i64) -> HeaderValue {
    let secure = if core.config.api_tls.is_some() { "; Secure" } else { "" };
    let text =
        format!("{}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}", name(core));
    // Names and tokens are letters and digits, so this is always a header.
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""))
}

/// What takes the cookie away.
pub(crate) fn gone(core: &Core) -> HeaderValue {
    header_of(core, "", 0)
}

/// What gives a session that began to the browser, and to nobody else: its token is in the answer no more.
pub(crate) fn given(core: &Core, created: &mut SessionCreated) -> Option<HeaderValue> {
    let Hidden(token) = created.token.take()?;
    created.csrf = SessionToken::parse(&token).ok().map(|token| Hidden(token.csrf()));
    let seconds = (created.expires_at.0 - clock::now().0) / 1000;
    Some(header_of(core, &token, seconds.max(0)))
}

/// A session that began, with its token in the answer or in a cookie.
pub(crate) fn answer(core: &Core, mut created: SessionCreated, cookie: bool) -> Response {
    if !cookie {
        return Json(created).into_response();
    }
    let Some(cookie) = given(core, &mut created) else { return Json(created).into_response() };
    let headers =
        [(header::SET_COOKIE, cookie), (header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    (headers, Json(created)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use lattice_identity::TokenSecret;
    use lattice_model::TokenId;

    fn token(n: u8) -> SessionToken {
        SessionToken::new(TokenId::from_random(1), TokenSecret::from_bytes([n; 32]))
    }

    fn judge(method: &str, headers: &[(&str, &str)]) -> bool {
        let mut request = Request::builder().method(method).uri("/v1/x").header("host", "127.0.0.1:7400");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        own_page(&token(1), &request.body(axum::body::Body::empty()).unwrap()).is_ok()
    }

    #[test]
    fn only_own_pages_change_something() {
        let (own, other) = (token(1).csrf(), token(2).csrf());
        let good = ("x-lattice-csrf", own.as_str());
        let here = ("origin", "http://127.0.0.1:7400");
        assert!(judge("POST", &[good]) && judge("DELETE", &[good, here, ("sec-fetch-site", "same-origin")]));
        for bad in ["", "00", other.as_str(), &own[1..]] {
            assert!(!judge("POST", &[("x-lattice-csrf", bad)]), "{bad}");
        }
        assert!(!judge("PUT", &[here]) && !judge("OPTIONS", &[]));
        assert!(!judge("POST", &[good, ("sec-fetch-site", "cross-site")]));
        assert!(!judge("GET", &[("sec-fetch-site", "same-site")]), "another port is another page");
        assert!(judge("GET", &[]) && judge("GET", &[("sec-fetch-site", "none")]) && judge("HEAD", &[here]));
        for origin in ["null", "http://127.0.0.1", "http://127.0.0.1:7401", "http://evil.example"] {
            assert!(!judge("GET", &[("origin", origin)]) && !judge("POST", &[good, ("origin", origin)]));
        }
        assert!(!judge("GET", &[("upgrade", "websocket")]), "a WebSocket has to say where it comes from");
        assert!(judge("GET", &[("upgrade", "websocket"), here]));
    }

    #[test]
    fn a_cookie_is_found_among_others_and_once() {
        let find = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::COOKIE, HeaderValue::from_str(value).unwrap());
            }
            find(&headers, "lattice-7400").map(str::to_owned)
        };
        assert_eq!(find(&["a=b; lattice-7400=x=y; c"]).as_deref(), Some("x=y"));
        assert_eq!(find(&["a=b", "lattice-7400=x"]).as_deref(), Some("x"));
        assert_eq!(find(&["lattice-7401=x; Lattice-7400=x; lattice-7400"]), None);
        assert_eq!(find(&["lattice-7400=x; lattice-7400=y"]), None);
        assert_eq!(find(&["lattice-7400=x", "lattice-7400=x"]), None);
    }
}
