//! A cable that holds packets back: two interfaces, and whatever frame comes out of one goes into the other after its
//! time. It is what tc's netem does, for kernels that have none, and both ways from one place.
//!
//! Frames keep their order: jitter is a longer wait of all that stands behind. A direction holds [`MOST`] frames; what
//! comes when it is full is lost, as in any cable's buffer.

use clap::Args;
use rand::RngExt as _;
use std::{
    io,
    sync::{
        Arc,
        mpsc::{Receiver, TrySendError, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};
use tun_rs::{DeviceBuilder, Layer, SyncDevice};

/// How many frames wait in one direction.
const MOST: usize = 10_000;
/// A frame with the largest payload of these interfaces, and room for a tag.
const FRAME: usize = 2048;

#[derive(Debug, Args)]
pub(crate) struct WireArgs {
    /// The names of the interfaces.
    near: String,
    /// The other one's.
    far: String,
    /// Milliseconds that each frame waits.
    #[arg(long)]
    delay: u64,
    /// Milliseconds that it waits besides, at most.
    #[arg(long)]
    jitter: u64,
}

/// Runs until it is killed, or an interface goes away.
pub(crate) fn run(args: &WireArgs) -> io::Result<()> {
    let open = |name: &str| {
        let device = DeviceBuilder::new().name(name).layer(Layer::L2).enable(true).build_sync();
        device.map(Arc::new)
    };
    let (near, far) = (open(&args.near)?, open(&args.far)?);
    let (delay, jitter) = (Duration::from_millis(args.delay), args.jitter);
    let back = (Arc::clone(&far), Arc::clone(&near));
    thread::spawn(move || carry(&back.0, &back.1, delay, jitter));
    carry(&near, &far, delay, jitter)
}

fn carry(from: &SyncDevice, to: &Arc<SyncDevice>, delay: Duration, jitter: u64) -> io::Result<()> {
    // Bounded by `MOST`; a frame that finds it full is dropped below.
    let (sender, receiver) = sync_channel::<(Instant, Vec<u8>)>(MOST);
    let to = Arc::clone(to);
    thread::spawn(move || deliver(&receiver, &to));
    let mut buffer = [0; FRAME];
    loop {
        let count = from.recv(&mut buffer)?;
        let more = Duration::from_millis(rand::rng().random_range(0..=jitter));
        match sender.try_send((Instant::now() + delay + more, buffer[..count].to_vec())) {
            Ok(()) | Err(TrySendError::Full(_)) => {}
            Err(TrySendError::Disconnected(_)) => {
                return Err(io::Error::other("the other interface is gone"));
            }
        }
    }
}

fn deliver(receiver: &Receiver<(Instant, Vec<u8>)>, to: &SyncDevice) {
    while let Ok((at, frame)) = receiver.recv() {
        thread::sleep(at.saturating_duration_since(Instant::now()));
        // An interface that is down takes nothing, and loses it as a cable does.
        let _ = to.send(&frame);
    }
}
