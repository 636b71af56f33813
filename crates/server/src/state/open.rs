//! Streams that are open: watches, logs, commands in containers.
//!
//! Each belongs to somebody, of whom each has a bounded number; and each ends at once when they lose
//! the right to it: the token is deleted or expires, the user is disabled, a role is taken.

use super::Snapshot;
use crate::api::principal::{Principal, Proof};
use lattice_api::{ErrorBody, ErrorCode};
use lattice_identity::{Object, Permission};
use lattice_model::{Duration, Timestamp};
use parking_lot::Mutex;
use std::{collections::HashMap, sync::Arc};
use tokio_util::sync::CancellationToken;

/// How many streams there are at the same time.
const MOST: usize = 2048;
/// How many streams one credential has at the same time.
const MOST_EACH: usize = 64;
/// The same for whoever runs the server: they stand on its machine.
const MOST_LOCAL: usize = 512;

/// What a stream needs.
#[derive(Clone, Debug)]
pub(crate) enum Needs {
    /// It shows what its reader may see: when that changes, it begins anew.
    SameRights,
    /// One permission.
    Right(Permission, Object),
}

struct Open {
    who: Principal,
    needs: Needs,
    cut: CancellationToken,
}

/// Every open stream.
#[derive(Default)]
pub(crate) struct OpenStreams(Mutex<(u64, HashMap<u64, Open>)>);

/// A stream's place; dropping it gives the place back.
pub(crate) struct Place {
    number: u64,
    all: Arc<OpenStreams>,
    /// Cancelled when the right to the stream has ended.
    pub(crate) cut: CancellationToken,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.all.0.lock().1.remove(&self.number);
    }
}

impl OpenStreams {
    /// Takes a stream in.
    pub(crate) fn admit(self: &Arc<Self>, who: &Principal, needs: Needs) -> Result<Place, ErrorBody> {
        let mut all = self.0.lock();
        let most = if who.proof == Proof::Local { MOST_LOCAL } else { MOST_EACH };
        // Local ones do not count against the others: nobody else can fill their places.
        let (own, foreign) = all.1.values().fold((0, 0), |(own, foreign), open| {
            (
                own + usize::from(open.who.proof == who.proof && open.who.user == who.user),
                foreign + usize::from(open.who.proof != Proof::Local),
            )
        });
        if own >= most || who.proof != Proof::Local && foreign >= MOST {
            let text = format!("{} has {own} streams open, of {foreign} in all", who.name);
            let hint = "close some: watches, followed logs, commands in containers";
            let body = ErrorBody::new(ErrorCode::TooManyRequests, text, hint);
            return Err(body.retry_after(Duration::from_secs(5)));
        }
        all.0 += 1;
        let number = all.0;
        let cut = CancellationToken::new();
        all.1.insert(number, Open { who: who.clone(), needs, cut: cut.clone() });
        Ok(Place { number, all: Arc::clone(self), cut })
    }

    /// Ends each stream whose reader has no right to it any more.
    pub(crate) fn review(&self, snapshot: &Snapshot, now: Timestamp) {
        for open in self.0.lock().1.values() {
            let still = open.who.again(snapshot, now).is_some_and(|who| match &open.needs {
                Needs::SameRights => who.same_rights(&open.who),
                Needs::Right(permission, object) => who.may(*permission, object),
            });
            if !still && !open.cut.is_cancelled() {
                tracing::info!(who = open.who.name, "a stream is cut: the right to it has ended");
                open.cut.cancel();
            }
        }
    }
}

/// What a stream that is cut ends with.
pub(crate) fn cut_off() -> ErrorBody {
    ErrorBody::new(
        ErrorCode::Unauthenticated,
        "the stream ended: the credential is good no more, or allows something else now",
        "sign in again (`lattice login`), or ask for the right",
    )
}
