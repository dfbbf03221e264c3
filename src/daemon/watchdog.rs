//! What systemd is told of the daemon (sd_notify(3)).

use std::time::{Duration, Instant};

use sd_notify::NotifyState;

/// Messages to systemd; none are sent where nobody asked for them.
#[derive(Debug)]
pub struct Watchdog {
    interval: Option<Duration>,
    next: Option<Instant>,
}

impl Watchdog {
    /// Pings twice as often as systemd wants (`WATCHDOG_USEC`).
    pub fn new() -> Self {
        let interval = sd_notify::watchdog_enabled().map(|timeout| timeout / 2);
        Self { interval, next: interval.map(|interval| Instant::now() + interval) }
    }

    /// When the next ping is due.
    pub fn next(&self) -> Option<Instant> {
        self.next
    }

    /// Pings if it is time. Returns whether it was.
    pub fn ping(&mut self) -> bool {
        let is_due = self.next.is_some_and(|next| Instant::now() >= next);
        if is_due {
            self.next = self.interval.map(|interval| Instant::now() + interval);
            notify(&[NotifyState::Watchdog]);
        }
        is_due
    }

    /// Ready to do its work.
    pub fn ready(&self) {
        notify(&[NotifyState::Ready]);
    }

    /// What it is doing, in one line.
    pub fn status(&self, status: &str) {
        notify(&[NotifyState::Status(status)]);
    }

    /// Reads its configuration again; [`Watchdog::ready`] says when that is over.
    pub fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(since) => notify(&[NotifyState::Reloading, since]),
            Err(_) => notify(&[NotifyState::Reloading]),
        }
    }

    /// Ends.
    pub fn stopping(&self) {
        notify(&[NotifyState::Stopping]);
    }
}

fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        log::debug!("systemd cannot be told: {error}");
    }
}
