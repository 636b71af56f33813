//! The way between agents and the server, which a test can cut.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

/// How often a connection that stands still looks whether it may go on.
const LOOK: Duration = Duration::from_millis(20);

const OPEN: u8 = 0;
const SILENT: u8 = 1;
const REFUSED: u8 = 2;
const GONE: u8 = 3;

/// How a link is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// Packets vanish: connections stay open and nothing passes, as when a cable is pulled.
    Silent,
    /// Connections are reset and new ones closed at once, as when a router says no.
    Refused,
}

/// A TCP forwarder.
#[derive(Debug)]
pub struct Link {
    address: SocketAddr,
    state: Arc<AtomicU8>,
    /// Who answers.
    target: Arc<Mutex<SocketAddr>>,
    /// Connections older than this number are to close.
    reset: Arc<AtomicU64>,
}

impl Link {
    /// Listens on loopback and passes everything on to `target`.
    ///
    /// # Panics
    /// When it cannot listen.
    pub fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("a port");
        let (state, reset) = (Arc::new(AtomicU8::new(OPEN)), Arc::new(AtomicU64::new(0)));
        let (its_state, its_reset) = (Arc::clone(&state), Arc::clone(&reset));
        let target = Arc::new(Mutex::new(target));
        let its_target = Arc::clone(&target);
        thread::spawn(move || {
            for near in listener.incoming() {
                let Ok(near) = near else { continue };
                let (state, reset) = (Arc::clone(&its_state), Arc::clone(&its_reset));
                match state.load(Ordering::SeqCst) {
                    GONE => return,
                    REFUSED => continue,
                    _ => {
                        let target = *its_target.lock().unwrap_or_else(PoisonError::into_inner);
                        thread::spawn(move || forward(near, target, &state, &reset))
                    }
                };
            }
        });
        Self { address, state, target, reset }
    }

    /// Where agents connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Nothing passes from now on.
    pub fn cut(&self, how: How) {
        match how {
            How::Silent => self.state.store(SILENT, Ordering::SeqCst),
            How::Refused => {
                self.state.store(REFUSED, Ordering::SeqCst);
                self.reset.fetch_add(1, Ordering::SeqCst);
            }
        }
    }

    /// Connections break, and new ones end somewhere else, as in a network with a sign-in page; gives who answered.
    pub fn lead_to(&self, target: SocketAddr) -> SocketAddr {
        let mut now = self.target.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *now, target);
        self.reset.fetch_add(1, Ordering::SeqCst);
        before
    }

    /// Everything passes again, also what was held back.
    pub fn restore(&self) {
        self.state.store(OPEN, Ordering::SeqCst);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.state.store(GONE, Ordering::SeqCst);
        self.reset.fetch_add(1, Ordering::SeqCst);
        // Wakes the listener, so that its thread and port go.
        let _ = TcpStream::connect(self.address);
    }
}

fn forward(near: TcpStream, target: SocketAddr, state: &Arc<AtomicU8>, reset: &Arc<AtomicU64>) {
    let born = reset.load(Ordering::SeqCst);
    // A silent link lets no connection through either: the near side's stands, and nobody answers.
    while state.load(Ordering::SeqCst) == SILENT {
        thread::sleep(LOOK);
    }
    let Ok(far) = TcpStream::connect(target) else { return };
    let _ = (near.set_nodelay(true), far.set_nodelay(true));
    let (Ok(near_too), Ok(far_too)) = (near.try_clone(), far.try_clone()) else { return };
    let (its_state, its_reset) = (Arc::clone(state), Arc::clone(reset));
    thread::spawn(move || pass(near_too, far_too, &its_state, &its_reset, born));
    pass(far, near, state, reset, born);
}

fn pass(mut from: TcpStream, mut to: TcpStream, state: &AtomicU8, reset: &AtomicU64, born: u64) {
    let _ = from.set_read_timeout(Some(LOOK));
    let mut buffer = vec![0; 64 << 10];
    loop {
        if reset.load(Ordering::SeqCst) != born {
            let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
            return;
        }
        if state.load(Ordering::SeqCst) == SILENT {
            thread::sleep(LOOK);
            continue;
        }
        match from.read(&mut buffer) {
            Ok(0) => {
                let _ = to.shutdown(Shutdown::Write);
                return;
            }
            Ok(count) => {
                // What was read just as the link was cut must not slip through.
                while state.load(Ordering::SeqCst) == SILENT && reset.load(Ordering::SeqCst) == born {
                    thread::sleep(LOOK);
                }
                if to.write_all(&buffer[..count]).is_err() {
                    let _ = from.shutdown(Shutdown::Both);
                    return;
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => {
                let _ = to.shutdown(Shutdown::Both);
                return;
            }
        }
    }
}
