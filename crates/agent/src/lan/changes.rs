//! Hears of it when something about the network changes. What exactly is not read: it is looked anew.

use std::future::pending;
#[cfg(target_os = "linux")]
use std::{fs::File, os::fd::OwnedFd};
#[cfg(target_os = "linux")]
use tokio::net::UnixDatagram;

/// Sockets on which the kernel tells of changes; none where nobody tells, and then it is looked now and then.
#[derive(Debug, Default)]
pub struct Changes {
    /// They are netlink's: what is received from them is received alike.
    #[cfg(target_os = "linux")]
    sockets: Vec<UnixDatagram>,
}

#[cfg(target_os = "linux")]
mod groups {
    /// Links, addresses and routes of both versions of IP, and the rules that choose between tables of routes.
    pub(super) const ROUTES: u32 = 1 | 1 << 4 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 10 | 1 << 18;
    /// nftables: its group is the seventh.
    pub(super) const TABLES: u32 = 1 << 6;
}

#[cfg(target_os = "linux")]
impl Changes {
    /// Listens here and, where that is another one, in the network namespace of `there`. Whoever may not hear of
    /// the firewall still hears of routes.
    pub(super) fn listen(there: Option<&File>) -> Self {
        let mut sockets = open();
        if let Some(there) = there.and_then(|file| file.try_clone().ok()) {
            // A thread of its own goes there and ends; the sockets stay where they were made.
            let made = std::thread::spawn(move || {
                use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
                use std::os::fd::AsFd as _;
                let moved = move_into_link_name_space(there.as_fd(), Some(LinkNameSpaceType::Network));
                if moved.is_ok() { open() } else { Vec::new() }
            });
            sockets.extend(made.join().unwrap_or_default());
        }
        let sockets = sockets.into_iter().filter_map(|fd| UnixDatagram::from_std(fd.into()).ok());
        Self { sockets: sockets.collect() }
    }

    /// Returns when something has changed; never where nobody tells.
    pub(super) async fn next(&mut self) {
        if self.sockets.is_empty() {
            return pending().await;
        }
        let waits = self.sockets.iter().map(|socket| Box::pin(hear(socket)));
        futures::future::select_all(waits).await;
    }
}

#[cfg(not(target_os = "linux"))]
impl Changes {
    pub(super) async fn next(&mut self) {
        pending().await
    }
}

#[cfg(target_os = "linux")]
fn open() -> Vec<OwnedFd> {
    use rustix::net::{
        AddressFamily, SocketFlags, SocketType, bind, netlink, netlink::SocketAddrNetlink, socket_with,
    };
    // None is the protocol of routes, whose number is nought.
    let one = |protocol, groups| {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, protocol).ok()?;
        bind(&socket, &SocketAddrNetlink::new(0, groups)).ok()?;
        Some(socket)
    };
    [one(None, groups::ROUTES), one(Some(netlink::NETFILTER), groups::TABLES)].into_iter().flatten().collect()
}

/// Waits for a message and takes all that are there. One that was lost for want of room is a change, too.
#[cfg(target_os = "linux")]
async fn hear(socket: &UnixDatagram) {
    let mut buffer = vec![0u8; 16 << 10];
    match socket.recv(&mut buffer).await {
        Ok(0) => return pending().await,
        Ok(_) => {}
        Err(error) if lost(&error) => {}
        Err(_) => return pending().await,
    }
    loop {
        match socket.try_recv(&mut buffer) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if lost(&error) => {}
            Err(_) => return,
        }
    }
}

#[cfg(target_os = "linux")]
fn lost(error: &std::io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::NOBUFS.raw_os_error())
}
