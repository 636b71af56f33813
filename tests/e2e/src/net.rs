//! Ports, plain HTTP, a greeting in PostgreSQL's protocol, and a registry without images.

use std::{
    collections::BTreeSet,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// Where ports are looked for: below those that agents choose from and that the kernel gives out.
const PORTS: std::ops::Range<u32> = 10_000..19_900;
const WAIT: Duration = Duration::from_secs(5);

/// A port on loopback that nobody listens on, and that this process has not given out before.
///
/// # Panics
/// When there is none.
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    // Test processes run beside each other: each begins somewhere else.
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |span| span.subsec_nanos());
    let seed = std::process::id().wrapping_mul(7919).wrapping_add(nanos);
    for _ in 0..1000 {
        let step = NEXT.fetch_add(1, Ordering::SeqCst).wrapping_mul(127);
        let port = PORTS.start + seed.wrapping_add(step) % (PORTS.end - PORTS.start);
        let port = u16::try_from(port).expect("a port");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() && GIVEN.lock().unwrap().insert(port) {
            return port;
        }
    }
    panic!("no free port");
}

/// `GET /`: the status and the body, or what went wrong.
///
/// # Errors
/// What the connection said.
pub fn http(address: SocketAddr) -> Result<(u16, String), String> {
    http_with(address, "GET", "/", &[])
}

/// A request with headers of one's own; `Host` is the address unless given.
///
/// # Errors
/// What the connection said.
pub fn http_with(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> Result<(u16, String), String> {
    let say = |error: std::io::Error| error.to_string();
    let mut stream = TcpStream::connect_timeout(&address, WAIT).map_err(say)?;
    stream.set_read_timeout(Some(WAIT)).map_err(say)?;
    let mut request = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\nContent-Length: 0\r\n");
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        request.push_str(&format!("Host: {address}\r\n"));
    }
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    stream.write_all(format!("{request}\r\n").as_bytes()).map_err(say)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).map_err(say)?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok());
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body).to_owned();
    status.map(|status| (status, body)).ok_or_else(|| format!("not HTTP: {answer:?}"))
}

/// Whether PostgreSQL answers there: an SSLRequest gets one byte, `S` or `N`.
pub fn speaks_postgres(address: SocketAddr) -> bool {
    let ask = || -> std::io::Result<u8> {
        let mut stream = TcpStream::connect_timeout(&address, WAIT)?;
        stream.set_read_timeout(Some(WAIT))?;
        stream.write_all(&[0, 0, 0, 8, 4, 210, 22, 47])?;
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        Ok(byte[0])
    };
    matches!(ask(), Ok(b'S' | b'N'))
}

/// An image registry that has no image: it answers, and says so.
#[derive(Debug)]
pub struct Registry(SocketAddr);

impl Registry {
    /// Listens on loopback, which engines take without TLS.
    ///
    /// # Panics
    /// When it cannot listen.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("a port");
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { continue };
                thread::spawn(move || {
                    let mut buffer = [0; 8192];
                    while let Ok(count) = stream.read(&mut buffer) {
                        if count == 0 {
                            return;
                        }
                        let request = String::from_utf8_lossy(&buffer[..count]).into_owned();
                        let root = request.starts_with("GET /v2/ ");
                        let (status, body) = match root {
                            true => ("200 OK", "{}"),
                            false => {
                                let body = r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#;
                                ("404 Not Found", body)
                            }
                        };
                        let body = if request.starts_with("HEAD") { "" } else { body };
                        let answer = format!(
                            "HTTP/1.1 {status}\r\nDocker-Distribution-Api-Version: registry/2.0\r\n\
                             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                            body.len()
                        );
                        if stream.write_all(answer.as_bytes()).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Self(address)
    }

    /// An image that is not there.
    pub fn missing_image(&self) -> String {
        format!("{}/nobody/nothing:1", self.0)
    }
}
