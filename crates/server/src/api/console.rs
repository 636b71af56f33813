//! The web console: files that are part of the program, with what a browser is told about them.
//!
//! They are the same for everybody and hold no secret, so nobody has to be known. All paths are the API's but those of
//! the files and, for a browser that asks for a page, everything outside of `/v1`: the console finds its views itself.
//!
//! **The policy**: only files of this server, nothing written into the page, in nobody's frame. What has to be drawn
//! otherwise does it with style sheets made by a script (`adoptedStyleSheets`), which the policy leaves alone.

use axum::{
    body::Body,
    extract::Request,
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use flate2::read::GzDecoder;
use lattice_console::{File, INDEX, find, is_built, is_view};
use std::io::Read;

/// What a page of the console may load and do.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; \
                      connect-src 'self'; form-action 'none'; frame-ancestors 'none'; base-uri 'none'";
/// What no page of ours needs of a computer.
const PERMISSIONS: &str = "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()";
/// For names with a hash: what is there never changes.
const FOR_EVER: &str = "public, max-age=31536000, immutable";

/// The answer, where the request is for the console.
pub(crate) fn answer(request: &Request) -> Option<Response> {
    let path = request.uri().path();
    if ![Method::GET, Method::HEAD].contains(request.method()) || path == "/v1" || path.starts_with("/v1/") {
        return None;
    }
    let headers = request.headers();
    if let Some(file) = find(path) {
        return Some(serve(file, headers));
    }
    if !(is_view(path) && lists(headers, header::ACCEPT.as_str(), "text/html")) {
        return None;
    }
    Some(find(INDEX).map_or_else(not_built, |file| serve(file, headers)))
}

/// Whether a header lists a word (before its parameters, which may say that it is not wanted).
fn lists(headers: &HeaderMap, name: &str, word: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|part| {
        let (said, parameters) = part.split_once(';').unwrap_or((part, ""));
        let never =
            parameters.trim().strip_prefix("q=").is_some_and(|q| q.trim_matches(['0', '.']).is_empty());
        said.trim().eq_ignore_ascii_case(word) && !never
    })
}

fn serve(file: &'static File, asked: &HeaderMap) -> Response {
    let kept = if file.is_immutable() { FOR_EVER } else { "no-cache" };
    let mut headers = told();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(file.media_type));
    headers.insert(header::ETAG, HeaderValue::from_static(file.etag));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(kept));
    headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    if has(asked, file.etag) {
        return (StatusCode::NOT_MODIFIED, headers).into_response();
    }
    if lists(asked, header::ACCEPT_ENCODING.as_str(), "gzip") {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        return (headers, Body::from(file.gzip)).into_response();
    }
    // Every browser takes gzip; this is for people with simple tools.
    let mut bytes = Vec::with_capacity(file.size);
    match GzDecoder::new(file.gzip).read_to_end(&mut bytes) {
        Ok(_) => (headers, bytes).into_response(),
        Err(error) => {
            tracing::error!(%error, path = file.path, "a file of the console does not unpack");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// Whether the browser has this version. Tags are compared weakly (RFC 9110, 13.1.2).
fn has(asked: &HeaderMap, etag: &str) -> bool {
    let values = asked.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    values
        .flat_map(|value| value.split(','))
        .any(|tag| tag.trim() == "*" || tag.trim().trim_start_matches("W/") == etag)
}

/// What every page and file says to the browser.
fn told() -> HeaderMap {
    let all = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (header::HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (header::HeaderName::from_static("permissions-policy"), PERMISSIONS),
    ];
    all.into_iter().map(|(name, value)| (name, HeaderValue::from_static(value))).collect()
}

/// A program that was built without the console says so to whoever looks for it.
fn not_built() -> Response {
    debug_assert!(!is_built());
    let page = "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Lattice</title></head><body>\
                <h1>This server was built without its console</h1>\
                <p>Build it with <code>make up</code>, or run <code>scripts/console.sh build</code> before \
                <code>cargo build</code>. The <code>lattice</code> command does all of it meanwhile.</p></body></html>\n";
    let mut headers = told();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    (StatusCode::NOT_FOUND, headers, page).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(method: &str, path: &str, headers: &[(&str, &str)]) -> Option<Response> {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        answer(&request.body(Body::empty()).unwrap())
    }

    const PAGE: (&str, &str) = ("accept", "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8");

    #[test]
    fn the_api_keeps_its_paths_and_programs_get_no_pages() {
        for path in ["/v1", "/v1/nodes", "/v1/nothing"] {
            assert!(ask("GET", path, &[PAGE]).is_none(), "{path}");
        }
        assert!(ask("POST", "/", &[PAGE]).is_none() && ask("OPTIONS", "/", &[PAGE]).is_none());
        assert!(ask("GET", "/nodes", &[("accept", "application/json")]).is_none());
        assert!(ask("GET", "/nodes", &[]).is_none());
        assert!(ask("GET", "/nodes", &[("accept", "text/html;q=0, */*")]).is_none());
        assert!(ask("GET", "/assets/index-of-last-week.js", &[PAGE]).is_none(), "a script is no page");
    }

    #[test]
    fn views_begin_from_one_page_that_nobody_frames() {
        for path in ["/", "/nodes", "/nodes/elm.local", "/index.html", "/v10"] {
            let Some(response) = ask("GET", path, &[PAGE]) else {
                assert!(!is_built() && path == INDEX, "{path}");
                continue;
            };
            let status = if is_built() { StatusCode::OK } else { StatusCode::NOT_FOUND };
            assert_eq!(response.status(), status, "{path}");
            let policy = response.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
            assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"));
            assert!(!policy.contains("unsafe"), "{policy}");
        }
    }

    #[test]
    fn what_a_browser_has_is_not_sent_again() {
        let Some(file) = find(INDEX) else { return };
        let not_modified = |tag: &str| ask("GET", INDEX, &[("if-none-match", tag)]).unwrap().status();
        for tag in [file.etag, &format!("W/{}", file.etag), &format!("\"x\", {}", file.etag), "*"] {
            assert_eq!(not_modified(tag), StatusCode::NOT_MODIFIED, "{tag}");
        }
        assert_eq!(not_modified("\"x\""), StatusCode::OK);
    }
}
