//! The kit itself: what the other tests rest on.

use lattice_e2e::{BUSYBOX, Engine, How, Link, eventually};
use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    thread,
    time::Duration,
};

#[test]
fn a_link_is_cut_and_restored() {
    let echo = TcpListener::bind("127.0.0.1:0").unwrap();
    let link = Link::to(echo.local_addr().unwrap());
    thread::spawn(move || {
        for stream in echo.incoming() {
            let mut stream = stream.unwrap();
            thread::spawn(move || {
                let mut buffer = [0; 64];
                while let Ok(count @ 1..) = stream.read(&mut buffer) {
                    let _ = stream.write_all(&buffer[..count]);
                }
            });
        }
    });
    let mut stream = TcpStream::connect(link.address()).unwrap();
    let mut answer = [0; 4];
    stream.write_all(b"once").unwrap();
    stream.read_exact(&mut answer).unwrap();
    link.cut(How::Silent);
    stream.write_all(b"held").unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    assert!(stream.read_exact(&mut answer).is_err(), "nothing passes a silent link");
    link.restore();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"held", "what was held back passes then");
    link.cut(How::Refused);
    assert!(matches!(stream.read(&mut answer), Ok(0) | Err(_)), "a refused link resets");
    let mut late = TcpStream::connect(link.address()).unwrap();
    assert!(matches!(late.read(&mut answer), Ok(0) | Err(_)), "and lets nobody through");
}

#[test]
fn a_private_engine_dies_and_comes_back() {
    let engine = Engine::private();
    let _ = engine
        .docker(&["run", "--detach", "--stop-signal", "KILL", "--name", "one", BUSYBOX, "sleep", "1000"])
        .ok();
    assert_eq!(engine.inspect("container", "one")["State"]["Running"], true);
    engine.kill();
    assert_ne!(engine.docker(&["ps"]).code, 0);
    engine.start();
    // An engine without live restore ends what ran before.
    eventually("what it had started is over", || {
        engine.inspect("container", "one")["State"]["Running"] == false
    });
}
