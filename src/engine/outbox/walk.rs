//! An outbox goes through the events. What it needs of the world a [`Desk`] does for it.

use super::answer::Verdict;
use super::course::{Course, Header, Lot};
use crate::engine::input::Now;
use crate::engine::outbox_progress::{Gap, Span};

/// What is sent.
#[derive(Clone, Copy, Debug)]
pub enum Parcel<'a> {
    /// The event of this number.
    Event(i64),
    /// That events were not sent.
    Gap(&'a Gap),
}

/// What an outbox needs of the world.
pub trait Desk {
    /// Why the history cannot be read.
    type Error;

    /// What time it is.
    fn now(&self) -> Now;

    /// Any number.
    fn dice(&mut self) -> u64;

    /// What the history spans.
    ///
    /// # Errors
    /// When it cannot be read.
    fn span(&mut self) -> Result<Span, Self::Error>;

    /// An event; `None` when it is not in the history.
    ///
    /// # Errors
    /// When the history cannot be read.
    fn header(&mut self, seq: i64) -> Result<Option<Header>, Self::Error>;

    /// Some events after this one, in the order of their numbers; none when there are none.
    ///
    /// # Errors
    /// When the history cannot be read.
    fn headers_after(&mut self, seq: i64) -> Result<Vec<Header>, Self::Error>;

    /// Sends something, and tells what came of it; `None` when the event is not in the history any
    /// more.
    ///
    /// # Errors
    /// When the history cannot be read.
    fn send(&mut self, parcel: Parcel<'_>) -> Result<Option<Verdict>, Self::Error>;

    /// Whether the outbox is to go on. Asked after each thing that was read and before it counts,
    /// and after each that was sent.
    fn goes_on(&mut self, course: &Course) -> bool;
}

/// Why an outbox has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// There is nothing more to send for now.
    Idle,
    /// It is not to be tried before [`Course::next_try`], or not before somebody wants it.
    Waits,
    /// Something else is to be done first.
    Interrupted,
}

/// Sends what is to be sent now.
///
/// # Errors
/// When the history cannot be read.
pub fn walk<D: Desk>(course: &mut Course, desk: &mut D) -> Result<End, D::Error> {
    if !course.may_send(desk.now().steady) {
        return Ok(End::Waits);
    }
    let span = desk.span()?;
    course.is_in(span, desk.now());
    for seq in course.wanted() {
        if let Some(end) = send(course, desk, seq)? {
            return Ok(end);
        }
    }
    for seq in course.begin_pass() {
        let header = desk.header(seq)?;
        if !desk.goes_on(course) {
            return Ok(End::Interrupted);
        }
        match header {
            None => course.is_forgotten(seq, desk.now().time),
            Some(header) => {
                if let Some(end) = look(course, desk, &header)? {
                    return Ok(end);
                }
            }
        }
    }
    loop {
        let headers = desk.headers_after(course.progress().cursor)?;
        if !desk.goes_on(course) {
            return Ok(End::Interrupted);
        }
        if headers.is_empty() {
            break;
        }
        for header in headers {
            if let Some(end) = look(course, desk, &header)? {
                return Ok(end);
            }
        }
    }
    end(course, desk)
}

/// Nothing is left to be sent, but perhaps that something was not.
fn end<D: Desk>(course: &mut Course, desk: &mut D) -> Result<End, D::Error> {
    if let Some(end) = tell_gap(course, desk)? {
        return Ok(end);
    }
    course.end_pass();
    Ok(End::Idle)
}

/// Does what is to be done about an event. Returns why nothing more is to be done, if so.
fn look<D: Desk>(course: &mut Course, desk: &mut D, header: &Header) -> Result<Option<End>, D::Error> {
    match course.consider(header, desk.now().time) {
        Lot::Next => Ok(None),
        Lot::Full => end(course, desk).map(Some),
        Lot::Send => send(course, desk, header.seq),
    }
}

fn send<D: Desk>(course: &mut Course, desk: &mut D, seq: i64) -> Result<Option<End>, D::Error> {
    if let Some(end) = tell_gap(course, desk)? {
        return Ok(Some(end));
    }
    let Some(verdict) = desk.send(Parcel::Event(seq))? else {
        course.is_forgotten(seq, desk.now().time);
        return Ok(None);
    };
    Ok(answered(course, desk, Some(seq), verdict))
}

/// Tells the receiver what it will not be told, before anything else.
fn tell_gap<D: Desk>(course: &mut Course, desk: &mut D) -> Result<Option<End>, D::Error> {
    let Some(gap) = course.progress().gap.clone() else { return Ok(None) };
    let verdict = desk.send(Parcel::Gap(&gap))?;
    Ok(verdict.and_then(|verdict| answered(course, desk, None, verdict)))
}

fn answered<D: Desk>(course: &mut Course, desk: &mut D, seq: Option<i64>, verdict: Verdict) -> Option<End> {
    let (now, dice) = (desk.now(), desk.dice());
    if !course.answered(seq, verdict, now, dice) {
        return Some(End::Waits);
    }
    (!desk.goes_on(course)).then_some(End::Interrupted)
}
