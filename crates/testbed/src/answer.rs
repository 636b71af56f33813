//! Somebody who answers: a web server that says one word on some ports, or as many bytes as it is asked for, and a name
//! server that knows one address.
//! What a neighbour, a router and the internet have to be, for whoever tests who can reach them.

use clap::Args;
use std::{
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, Ipv6Addr, TcpListener, TcpStream, UdpSocket},
    thread,
    time::Duration,
};

/// How long a caller has to ask.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug, Args)]
pub(crate) struct AnswerArgs {
    /// What it says.
    word: String,
    /// Where it says it, by TCP.
    #[arg(long = "port", required = true)]
    ports: Vec<u16>,
    /// The address that it gives for every name, by UDP on port 53; no name server where absent.
    #[arg(long)]
    names: Option<Ipv4Addr>,
}

/// Runs until it is killed.
pub(crate) fn run(args: &AnswerArgs) -> io::Result<()> {
    thread::scope(|scope| {
        for port in &args.ports {
            // Both versions of IP.
            let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, *port))?;
            scope.spawn(move || {
                for stream in listener.incoming().flatten() {
                    let word = args.word.clone();
                    thread::spawn(move || say(stream, &word));
                }
            });
        }
        if let Some(address) = args.names {
            let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 53))?;
            scope.spawn(move || {
                let mut buffer = [0; 512];
                while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                    if let Some(answer) = name(&buffer[..length], address) {
                        let _ = socket.send_to(&answer, from);
                    }
                }
            });
        }
        Ok(())
    })
}

/// Says the word; to `GET /bytes/N` so many bytes, and after a `PUT` once all has come.
fn say(mut stream: TcpStream, word: &str) {
    let _ = stream.set_read_timeout(Some(PATIENCE));
    let mut asked = [0; 4096];
    let length = stream.read(&mut asked).unwrap_or(0);
    let asked = String::from_utf8_lossy(&asked[..length]);
    let mut words = asked.split_whitespace();
    match (words.next(), words.next().and_then(|path| path.strip_prefix("/bytes/")?.parse().ok())) {
        // As many as that, for whoever measures how fast they come.
        (Some("GET"), Some(bytes)) => {
            let _ = write!(stream, "HTTP/1.0 200 OK\r\nContent-Length: {bytes}\r\n\r\n");
            let _ = io::copy(&mut io::repeat(b'.').take(bytes), &mut stream);
            return;
        }
        // All that comes until the other side is done.
        (Some("PUT"), _) => drop(io::copy(&mut stream, &mut io::sink())),
        _ => {}
    }
    let _ = write!(stream, "HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n{word}", word.len());
}

/// The answer to a question for an address of IPv4; to any other, that there is nothing (RFC 1035).
fn name(question: &[u8], address: Ipv4Addr) -> Option<Vec<u8>> {
    let (header, rest) = (question.get(..12)?, question.get(12..)?);
    // One name: labels with their lengths, nought at the end; then kind and class.
    let mut end = 0;
    while *rest.get(end)? != 0 {
        end += usize::from(*rest.get(end)?) + 1;
    }
    let asked = rest.get(..end + 5)?;
    let kind = u16::from_be_bytes([*asked.get(end + 1)?, *asked.get(end + 2)?]);
    let found = kind == 1;
    let mut answer = header[..2].to_vec();
    answer.extend([0x81, 0x80, 0, 1, 0, u8::from(found), 0, 0, 0, 0]);
    answer.extend(asked);
    if found {
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        answer.extend(address.octets());
    }
    Some(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_an_address() {
        let question = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01a\x04test\x00\x00\x01\x00\x01";
        let answer = name(question, Ipv4Addr::new(203, 0, 113, 10)).unwrap();
        assert!(answer.starts_with(b"\x12\x34\x81\x80\x00\x01\x00\x01"), "{answer:?}");
        assert!(answer.ends_with(&[0, 4, 203, 0, 113, 10]), "{answer:?}");
        assert_eq!(name(&question[..20], Ipv4Addr::LOCALHOST), None);
        assert_eq!(name(b"", Ipv4Addr::LOCALHOST), None);
    }
}
