//! Panics: a defect of ours is the failure of the piece of work that it was met in, and of nothing
//! else. Whichever thread it was in, it is told as one line that says where it was.

use std::any::Any;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind, set_hook};
use std::thread;
use std::time::Duration;

use crate::ganeti::text::plain;

/// Bytes of what is told of one.
const LINE_MAX: usize = 4096;

/// Between two attempts at what must not be lost.
const PAUSE: Duration = Duration::from_millis(200);

/// From now on `tell` is told of each panic, also of those that are caught, by the thread that it
/// is in.
pub fn tell(tell: impl Fn(String) + Send + Sync + 'static) {
    set_hook(Box::new(move |panic| tell(line(panic))));
}

fn line(panic: &PanicHookInfo<'_>) -> String {
    let thread = thread::current();
    let name = thread.name().unwrap_or("without a name");
    let place = panic.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
    plain(&format!("thread {name} panicked at {place}: {}", text(panic.payload())), LINE_MAX)
}

fn text(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("it does not say what")
}

/// Does a piece of work.
///
/// # Errors
/// When it panics: that, as the end of a sentence.
pub fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work))
        .map_err(|panic| format!("a defect of ganeti-hookd: {}", plain(text(&*panic), LINE_MAX)))
}

/// Does what must not be lost: after a panic it is tried again, until it is done.
pub fn insist(mut work: impl FnMut()) {
    while caught(&mut work).is_err() {
        thread::sleep(PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_the_end_of_a_sentence() {
        assert_eq!(caught(|| 7), Ok(7));
        assert_eq!(
            caught(|| panic!("a\nb\u{1b}[31m")),
            Err::<(), _>("a defect of ganeti-hookd: a\\nb\\u{1b}[31m".to_owned())
        );
        assert_eq!(
            caught(|| std::panic::panic_any(7)),
            Err::<(), _>("a defect of ganeti-hookd: it does not say what".to_owned())
        );
    }

    #[test]
    fn what_must_not_be_lost_is_tried_until_it_is_done() {
        let mut tries = 0;
        insist(|| {
            tries += 1;
            assert!(tries == 3, "not yet");
        });
        assert_eq!(tries, 3);
    }
}
