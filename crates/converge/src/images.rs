//! Which images to remove again: of those that Lattice brought, and of no others.
//!
//! An agent keeps a list of [`Brought`] images. Enter at [`surplus`]; the shell removes what it names,
//! and the engine has the last word: an image that a container uses stays. Rejected: the engine's own
//! prune, which takes what its owner built and did not start yet.

use lattice_model::{Bytes, Duration, Timestamp};
use serde::{Deserialize, Serialize};

/// How long an image stays that nothing uses: whoever goes back to it soon need not fetch it again.
pub const KEEP: Duration = Duration::from_secs(24 * 3600);

/// An image that was fetched for an allocation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Brought {
    /// The name by which the engine has it and by which it is removed.
    pub name: String,
    /// What allocations ask for; the id of an uploaded image.
    pub asked: String,
    /// Bytes on disk, those that others share counted too.
    pub bytes: Bytes,
    /// Since when no allocation uses it; `None` while one does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unused_since: Option<Timestamp>,
}

/// How much is to be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Want {
    /// What nothing used for so long goes in any case.
    pub keep: Duration,
    /// Besides that, the oldest of what nothing uses goes until so much is free: under pressure.
    pub free: Bytes,
    /// And until all that was brought takes no more than this: the owner's word.
    pub cap: Option<Bytes>,
}

impl Want {
    /// What is done every now and then.
    pub const fn routine(cap: Option<Bytes>) -> Self {
        Self { keep: KEEP, free: Bytes(0), cap }
    }

    /// What is done when the disk runs full.
    pub const fn pressure(free: Bytes) -> Self {
        Self { keep: KEEP, free, cap: None }
    }
}

/// Notes what is used now and what is not any more.
pub fn note_use(brought: &mut [Brought], used: &dyn Fn(&Brought) -> bool, now: Timestamp) {
    for image in brought {
        image.unused_since = if used(image) { None } else { image.unused_since.or(Some(now)) };
    }
}

/// What goes, what was unused longest first. Nothing that is in use, whatever is wanted.
pub fn surplus(brought: &[Brought], want: Want, now: Timestamp) -> Vec<String> {
    let all: u64 = brought.iter().map(|image| image.bytes.0).sum();
    let over = want.cap.map_or(0, |cap| all.saturating_sub(cap.0));
    let needed = want.free.0.max(over);
    let mut unused: Vec<(Timestamp, &Brought)> =
        brought.iter().filter_map(|image| Some((image.unused_since?, image))).collect();
    unused.sort_by(|(a, x), (b, y)| (a, &x.name).cmp(&(b, &y.name)));
    let mut freed = 0u64;
    let mut gone = Vec::new();
    for (since, image) in unused {
        if since + want.keep <= now || freed < needed {
            freed = freed.saturating_add(image.bytes.0);
            gone.push(image.name.clone());
        }
    }
    gone
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn image(number: u64, bytes: u64, unused: Option<i64>) -> Brought {
        let name = format!("image-{number:03}");
        Brought { asked: name.clone(), name, bytes: Bytes(bytes), unused_since: unused.map(Timestamp) }
    }

    #[test]
    fn the_oldest_goes_first_and_no_more_than_needed() {
        let day = i64::try_from(KEEP.0).unwrap();
        let now = Timestamp(10 * day);
        let all = [
            image(1, 100, Some(now.0 - 5)),
            image(2, 100, None),
            image(3, 100, Some(now.0 - day)),
            image(4, 100, Some(now.0 - 9)),
        ];
        assert_eq!(surplus(&all, Want::routine(None), now), ["image-003"]);
        assert_eq!(surplus(&all, Want::routine(Some(Bytes(250))), now), ["image-003", "image-004"]);
        assert_eq!(
            surplus(&all, Want::pressure(Bytes(u64::MAX)), now),
            ["image-003", "image-004", "image-001"]
        );
        let mut all = all.to_vec();
        note_use(&mut all, &|image| image.name == "image-003", now);
        assert_eq!(surplus(&all, Want::routine(None), now), [""; 0]);
        assert_eq!(all[1].unused_since, Some(now));
    }

    proptest! {
        #[test]
        fn what_is_used_stays_and_what_was_asked_for_is_freed_where_it_can_be(
            images in prop::collection::vec((1u64..1000, prop::option::of(0i64..1000)), 0..20),
            free in 0u64..20_000, keep in 0u64..1000, cap in prop::option::of(0u64..10_000),
        ) {
            let all: Vec<Brought> =
                images.iter().zip(0..).map(|((bytes, unused), n)| image(n, *bytes, *unused)).collect();
            let want = Want { keep: Duration(keep), free: Bytes(free), cap: cap.map(Bytes) };
            let gone = surplus(&all, want, Timestamp(1000));
            let went = |image: &&Brought| gone.contains(&image.name);
            prop_assert!(all.iter().filter(went).all(|image| image.unused_since.is_some()));
            let freed: u64 = all.iter().filter(went).map(|image| image.bytes.0).sum();
            let left: u64 = all.iter().map(|image| image.bytes.0).sum::<u64>() - freed;
            let unused_left = all.iter().any(|image| image.unused_since.is_some() && !gone.contains(&image.name));
            prop_assert!(freed >= free || !unused_left);
            prop_assert!(cap.is_none_or(|cap| left <= cap) || !unused_left);
            let stale = |image: &&Brought| image.unused_since.is_some_and(|since| since.0 + keep as i64 <= 1000);
            prop_assert!(all.iter().filter(stale).all(|image| gone.contains(&image.name)));
        }
    }
}
