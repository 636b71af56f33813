//! Windows and macOS: asks that the computer does not fall asleep of its own accord, and lets the screen go dark.
//! Closing the lid and asking for sleep stay the owner's.
//!
//! keepawake asks the system from within this process (`SetThreadExecutionState`, `IOPMAssertionCreateWithName`), so
//! the system itself forgets the request when the agent ends, however it ends. Rejected: `caffeinate -i -w PID` as a
//! child, which may be killed by itself, unseen, and leaves a process behind to look after.

use crate::sleep::Hold;
use std::{
    sync::mpsc::{Sender, channel},
    thread,
};
use tokio::sync::oneshot;

/// Ends the thread when it is dropped, and the request with it.
struct Awake {
    _end: Sender<()>,
}

pub(crate) async fn keep_awake(why: &str) -> Result<Hold, String> {
    let why = why.to_owned();
    let (end, ended) = channel::<()>();
    let (asked, answer) = oneshot::channel();
    // Windows keeps such a request for the thread that made it, which therefore stays as long as the request.
    let thread = thread::Builder::new().name("keep-awake".into()).spawn(move || {
        let mut builder = keepawake::Builder::default();
        builder.display(false).idle(true).sleep(false).reason(why);
        builder.app_name("Lattice").app_reverse_domain("dev.lattice.agent");
        match builder.create() {
            Ok(_awake) => {
                let _ = asked.send(Ok(()));
                let _ = ended.recv();
            }
            Err(error) => {
                let _ = asked.send(Err(error.to_string()));
            }
        }
    });
    thread.map_err(|error| error.to_string())?;
    answer.await.map_err(|_| "the request was not answered".to_owned())??;
    Ok(Box::new(std::sync::Mutex::new(Awake { _end: end })))
}
