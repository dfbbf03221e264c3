//! What the daemon tells its guard by a socket: a process to look after, and its pidfd.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

use super::slots::Slot;

/// A message: a process's ID, and its slot's index and turn. A descriptor comes with it: the process's, or
/// first of all that of the memory.
const SIZE: usize = 24;

/// What the daemon says.
#[derive(Debug)]
pub struct Message {
    /// The process's ID.
    pub pid: u32,
    /// Its slot.
    pub slot: Slot,
    /// The descriptor that came with it; `None` if there was no room for it.
    pub descriptor: Option<OwnedFd>,
}

/// Says it, and does not wait for the guard to take it.
///
/// # Errors
/// When the guard is gone, or does not take what it is told.
pub fn send(socket: &OwnedFd, numbers: [i64; 3], descriptor: BorrowedFd<'_>) -> rustix::io::Result<()> {
    let mut bytes = [0; SIZE];
    for (place, number) in bytes.chunks_exact_mut(8).zip(numbers) {
        place.copy_from_slice(&number.to_ne_bytes());
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let descriptors = [descriptor];
    ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    sendmsg(socket, &[IoSlice::new(&bytes)], &mut ancillary, flags)?;
    Ok(())
}

/// Waits until there is a message, or the daemon is gone; not for longer than this. Returns whether.
///
/// # Errors
/// What poll(2) says.
pub fn await_message(socket: BorrowedFd<'_>, patience: Option<Duration>) -> rustix::io::Result<bool> {
    let timeout = patience.and_then(|patience| Timespec::try_from(patience).ok());
    let mut fds = [PollFd::from_borrowed_fd(socket, PollFlags::IN)];
    Ok(poll(&mut fds, timeout.as_ref())? > 0)
}

/// The next message; `None` when the daemon is gone.
///
/// # Errors
/// What recvmsg(2) says.
pub fn receive(socket: BorrowedFd<'_>) -> rustix::io::Result<Option<Message>> {
    let mut bytes = [0; SIZE];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received =
        recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    if received.bytes < SIZE {
        return Ok(None);
    }
    let descriptor = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    let number =
        |range: std::ops::Range<usize>| bytes[range].try_into().map(i64::from_ne_bytes).unwrap_or_default();
    let small = |range| u16::try_from(number(range)).unwrap_or_default();
    let slot = Slot { index: small(8..16), turn: small(16..24) };
    Ok(Some(Message { pid: u32::try_from(number(0..8)).unwrap_or(0), slot, descriptor }))
}
