//! [`Cut`]: a TCP proxy that breaks connections at chosen moments.
//!
//! It looks for the statement `COMMIT` as it passes: PostgreSQL's protocol has statements as plain
//! text. Threads and not tasks, so that it goes on whatever a test does to its runtime.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

/// When a connection is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// A commit reaches the proxy, and does not reach the database.
    BeforeCommit,
    /// A commit reaches the database, and its answer does not come back.
    AfterCommit,
    /// The first statement of a transaction reaches the proxy.
    Begin,
}

#[derive(Debug)]
struct Shared {
    to: SocketAddr,
    /// What is still to be broken, in order.
    plan: Mutex<Vec<At>>,
    /// Both ends of every connection.
    open: Mutex<Vec<(TcpStream, TcpStream)>>,
    refusing: AtomicBool,
    cuts: AtomicUsize,
    over: AtomicBool,
}

/// The proxy; ends with its value.
#[derive(Debug)]
pub struct Cut {
    shared: Arc<Shared>,
    address: SocketAddr,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Cut {
    /// A proxy before `to`.
    ///
    /// # Panics
    /// When loopback has no port.
    pub fn before(to: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port on loopback");
        let address = listener.local_addr().expect("its address");
        let shared = Arc::new(Shared {
            to,
            plan: Mutex::default(),
            open: Mutex::default(),
            refusing: AtomicBool::new(false),
            cuts: AtomicUsize::new(0),
            over: AtomicBool::new(false),
        });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if accepting.over.load(Ordering::SeqCst) {
                    return;
                }
                if accepting.refusing.load(Ordering::SeqCst) {
                    continue;
                }
                let Ok(server) = TcpStream::connect(accepting.to) else { continue };
                accepting.carry(client, server);
            }
        });
        Self { shared, address }
    }

    /// Where to connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Breaks one connection at each of these moments, in this order.
    pub fn plan(&self, moments: &[At]) {
        lock(&self.shared.plan).extend(moments);
    }

    /// What of the plan has not happened yet.
    pub fn planned(&self) -> usize {
        lock(&self.shared.plan).len()
    }

    /// How many connections were broken at a planned moment.
    pub fn cuts(&self) -> usize {
        self.shared.cuts.load(Ordering::SeqCst)
    }

    /// Breaks all connections now.
    pub fn now(&self) {
        for (client, server) in lock(&self.shared.open).drain(..) {
            let _ = client.shutdown(Shutdown::Both);
            let _ = server.shutdown(Shutdown::Both);
        }
    }

    /// Whether new connections are refused; breaks those that are there.
    pub fn refuse(&self, refusing: bool) {
        self.shared.refusing.store(refusing, Ordering::SeqCst);
        if refusing {
            self.now();
        }
    }
}

impl Drop for Cut {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::SeqCst);
        self.now();
        // Wakes the accepting thread.
        let _ = TcpStream::connect_timeout(&self.address, Duration::from_secs(1));
    }
}

impl Shared {
    fn carry(self: &Arc<Self>, client: TcpStream, server: TcpStream) {
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        let clones = || Some((client.try_clone().ok()?, server.try_clone().ok()?));
        let (Some(kept), Some((client_read, server_write))) = (clones(), clones()) else { return };
        lock(&self.open).push(kept);
        let muted = Arc::new(AtomicBool::new(false));
        let (up, mute) = (Arc::clone(self), Arc::clone(&muted));
        thread::spawn(move || up.upward(client_read, server_write, &mute));
        thread::spawn(move || downward(server, client, &muted));
    }

    /// From the client to the database; breaks where the plan says so.
    fn upward(&self, mut client: TcpStream, mut server: TcpStream, muted: &AtomicBool) {
        let mut buffer = vec![0; 256 << 10];
        let has = |bytes: &[u8], word: &[u8]| bytes.windows(word.len()).any(|window| window == word);
        while let Ok(count @ 1..) = client.read(&mut buffer) {
            let bytes = &buffer[..count];
            let next = {
                let mut plan = lock(&self.plan);
                let hit = plan.first().copied().filter(|at| match at {
                    At::BeforeCommit | At::AfterCommit => has(bytes, b"COMMIT\0"),
                    At::Begin => has(bytes, b"BEGIN"),
                });
                if hit.is_some() {
                    plan.remove(0);
                }
                hit
            };
            if let Some(at) = next {
                self.cuts.fetch_add(1, Ordering::SeqCst);
                if at == At::AfterCommit {
                    muted.store(true, Ordering::SeqCst);
                    let _ = server.write_all(bytes);
                    // The database reads to the end of what was sent before it sees the end.
                    let _ = server.shutdown(Shutdown::Write);
                    let _ = client.shutdown(Shutdown::Both);
                    return;
                }
                break;
            }
            if server.write_all(bytes).is_err() {
                break;
            }
        }
        let _ = client.shutdown(Shutdown::Both);
        let _ = server.shutdown(Shutdown::Both);
    }
}

fn downward(mut server: TcpStream, mut client: TcpStream, muted: &AtomicBool) {
    let mut buffer = vec![0; 256 << 10];
    while let Ok(count @ 1..) = server.read(&mut buffer) {
        if !muted.load(Ordering::SeqCst) && client.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = client.shutdown(Shutdown::Both);
    let _ = server.shutdown(Shutdown::Both);
}
