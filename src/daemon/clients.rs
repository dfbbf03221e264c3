//! The clients of the API. The history and the queue are read by the API's own threads; only what
//! the engine knows is asked of the daemon's.

use crossbeam_channel::Sender;

use super::message::Message;
use crate::world::api::{Backend, Question};

/// The daemon behind its inbox.
pub struct Owner(pub Sender<Message>);

impl Backend for Owner {
    fn ask(&self, question: Question) -> bool {
        self.0.send(Message::Asked(question)).is_ok()
    }
}
