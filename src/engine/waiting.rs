//! Opcodes that wait for their locks, as whoever asks is told of them.

use std::sync::Arc;

use crate::engine::input::ClusterId;
use crate::ganeti::event::Event;

/// Events that are to come. Their texts are still the engine's own: it copies none.
#[derive(Debug)]
pub struct Waiting {
    events: Vec<Event>,
    cluster: Option<ClusterId>,
}

impl Waiting {
    /// These, of this cluster.
    pub(in crate::engine) fn new(events: Vec<Event>, cluster: Option<ClusterId>) -> Self {
        Self { events, cluster }
    }

    /// The events, with the names that they will have. A copy of what is told of one is made when it is
    /// taken.
    pub fn events(self) -> impl Iterator<Item = Event> {
        let Self { events, cluster } = self;
        events.into_iter().map(move |mut event| {
            if let Some(ClusterId { uuid, name }) = &cluster {
                Arc::make_mut(&mut event.about).place_in(uuid, name);
            }
            event
        })
    }
}
