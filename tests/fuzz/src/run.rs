//! Runs a target: first every case that is kept, then new inputs within the budget. What fails is made small and
//! written into the folder of the target's cases, and so stays for good.

use crate::{
    budget::Budget,
    draw::{Bytes, Draw},
    shrink::shrink,
};
use rustix::time::{ClockId, clock_gettime};
use serde::{Serialize, de::DeserializeOwned};
use std::{
    any::Any,
    fmt::Debug,
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{
        Mutex, Once,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// What is fuzzed: one kind of input, and what must hold for each.
pub trait Subject: Debug + Serialize + DeserializeOwned + 'static {
    /// Of the target, and of the folder of its cases.
    const NAME: &'static str;
    /// The most time of a processor that one input may take, in a debug build: refusing is quick.
    const MOST: Duration = Duration::from_secs(2);

    /// Makes one up.
    fn draw(draw: &mut dyn Draw) -> Self;

    /// Whether everything is as it must be.
    ///
    /// # Errors
    /// What is not.
    fn check(&self) -> Result<(), String>;
}

/// bolero's target before it knows what it is given.
pub type Target =
    bolero::TestTarget<bolero::ByteSliceGenerator, bolero::DefaultEngine, bolero::BorrowedInput>;

/// Replays the kept cases of a subject, then runs the target within [`Budget::of_environment`].
///
/// # Panics
/// With what was found, where it was saved, and the seed that finds it again.
#[allow(clippy::print_stdout, reason = "what a test says about itself")]
pub fn run<S: Subject>(target: Target) {
    watch_other_threads();
    let budget = Budget::of_environment();
    let kept = replay::<S>();
    let (began, tried) = (Instant::now(), AtomicU64::new(0));
    let fails = |choices: &[u8]| {
        let input = S::draw(&mut Bytes(choices));
        judge(&input).err().map(|problem| (input, problem))
    };
    target
        .with_test_time(budget.time)
        .with_iterations(budget.inputs)
        .with_shrink_time(Duration::ZERO)
        .for_each(|choices: &[u8]| {
            tried.fetch_add(1, Ordering::Relaxed);
            let Some(first) = fails(choices) else { return };
            let (input, problem) = fails(&shrink(choices, |fewer| fails(fewer).is_some())).unwrap_or(first);
            let path = keep(&input, &problem);
            panic!("{}: {problem}\nkept as {path}", S::NAME);
        });
    let (tried, took) = (tried.into_inner(), began.elapsed());
    println!("{}: {kept} kept cases, {tried} inputs in {:.1} s", S::NAME, took.as_secs_f64());
}

/// Whether an input passes: no panic in any thread, what the subject demands, and that within its time.
fn judge<S: Subject>(input: &S) -> Result<(), String> {
    let before = cpu();
    let outcome = catch_unwind(AssertUnwindSafe(|| input.check()));
    let took = cpu().saturating_sub(before);
    let elsewhere = ELSEWHERE.lock().map(|mut all| std::mem::take(&mut *all)).unwrap_or_default();
    match outcome {
        Err(panic) => return Err(format!("it panics: {}", said(&*panic))),
        Ok(outcome) => outcome?,
    }
    if let Some(first) = elsewhere.first() {
        return Err(format!("a thread beside it panics: {first}"));
    }
    if took > S::MOST {
        return Err(format!("it takes {took:?} of a processor, and {:?} are allowed", S::MOST));
    }
    Ok(())
}

/// Time of this thread on a processor: a loaded machine does not count.
fn cpu() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
}

fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("with something that is no text")
        .to_owned()
}

/// What panicked in other threads than a test's own: a runtime swallows such panics.
static ELSEWHERE: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn watch_other_threads() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let test = std::thread::current().id();
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if std::thread::current().id() != test
                && let Ok(mut all) = ELSEWHERE.lock()
                && all.len() < 16
            {
                all.push(panic.to_string());
            }
            before(panic);
        }));
    });
}

fn folder<S: Subject>() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("cases").join(S::NAME)
}

/// Judges every kept case; how many there are.
fn replay<S: Subject>() -> usize {
    let mut paths: Vec<PathBuf> = match fs::read_dir(folder::<S>()) {
        Ok(entries) => entries.filter_map(|entry| Some(entry.ok()?.path())).collect(),
        Err(_) => Vec::new(),
    };
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    paths.sort();
    for path in &paths {
        let text = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let case: Case<S> =
            serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        if let Err(problem) = judge(&case.input) {
            panic!("{}: {problem}\n(when it was found: {})", path.display(), case.problem);
        }
    }
    paths.len()
}

#[derive(Serialize, serde::Deserialize)]
struct Case<S> {
    /// What was wrong when it was found.
    problem: String,
    input: S,
}

/// Saves what was found, and says where.
fn keep<S: Subject>(input: &S, problem: &str) -> String {
    #[derive(Serialize)]
    struct Found<'a, S> {
        problem: &'a str,
        input: &'a S,
    }
    let path = folder::<S>().join(format!("found-{}.json", std::process::id()));
    let text = serde_json::to_string_pretty(&Found { problem, input }).unwrap_or_default();
    match fs::create_dir_all(folder::<S>()).and_then(|()| fs::write(&path, text + "\n")) {
        Ok(()) => path.display().to_string(),
        Err(error) => format!("nothing: {}: {error}", path.display()),
    }
}
