//! This node's place in the cluster (design, section 7): the role follows from the node's name
//! and the master's, and from nothing else. Everything that begins asks it.

use std::time::Duration;

use super::Role;
use super::input::ClusterId;
use super::retry;

/// Who this node is, and who is master.
#[derive(Debug)]
pub struct Place {
    node: String,
    /// As far as is known.
    master: Option<String>,
    role: Role,
    /// The master was not to be known when that was asked last; when it is asked again.
    ask_at: Option<Duration>,
    /// Another node was master before that changed last.
    was_anothers: bool,
    /// The cluster, as it was told last.
    cluster: Option<ClusterId>,
}

impl Place {
    /// A node that has not heard of a master.
    pub fn new(node: String) -> Self {
        Self { node, master: None, role: Role::Standby, ask_at: None, was_anothers: false, cluster: None }
    }

    /// This node's name.
    pub fn node(&self) -> &str {
        &self.node
    }

    /// The master's name, if it is known.
    pub fn master(&self) -> Option<&str> {
        self.master.as_deref()
    }

    /// The cluster, if it is known.
    pub fn cluster(&self) -> Option<&ClusterId> {
        self.cluster.as_ref()
    }

    /// The cluster is this one. Where that cannot be read it is being destroyed, or is the one
    /// that it was.
    pub fn cluster_is(&mut self, cluster: Option<ClusterId>) {
        self.cluster = cluster.or_else(|| self.cluster.take());
    }

    /// What this node is.
    pub fn role(&self) -> Role {
        self.role
    }

    /// Whether this node is the master.
    pub fn is_master(&self) -> bool {
        self.role == Role::Master
    }

    /// Whether another node is known to be master. Where nobody is, it may be this one.
    pub fn is_anothers(&self) -> bool {
        !self.is_master() && self.master.is_some()
    }

    /// Whether another node was known to be master before that changed last.
    pub fn was_anothers(&self) -> bool {
        self.was_anothers
    }

    /// Whether nobody has been able to tell yet who is master, or which node this is: it may be
    /// this one's to act.
    pub fn is_untold(&self) -> bool {
        self.master.is_none() && !self.is_master() && self.ask_at.is_some()
    }

    /// Nobody can tell who is master just now: what was so stays so, and is asked again.
    pub fn is_unknown(&mut self, steady: Duration) {
        self.ask_at = Some(steady + retry::LOOK);
    }

    /// The cluster's files tell who is master.
    pub fn is_known_again(&mut self) {
        self.ask_at = None;
    }

    /// Whether this node is the master, and was so when that was asked last.
    pub fn is_surely_master(&self) -> bool {
        self.is_master() && self.ask_at.is_none()
    }

    /// Whether it is time to ask again.
    pub fn wants_to_ask(&mut self, steady: Duration) -> bool {
        let due = self.ask_at.is_some_and(|time| time <= steady);
        if due {
            self.ask_at = Some(steady + retry::LOOK);
        }
        due
    }

    /// When it is asked again.
    pub fn next_deadline(&self) -> Option<Duration> {
        self.ask_at
    }

    /// Hears who is master. Returns whether anything is different now.
    pub fn hear(&mut self, master: Option<String>) -> bool {
        // The cluster was destroyed under its master. Nobody else can run the hooks of its
        // last opcodes, so this node does.
        if master.is_none() && self.is_master() {
            return false;
        }
        self.settle(self.node.clone(), master)
    }

    /// The node has another name. Returns whether anything is different now.
    pub fn rename(&mut self, node: String) -> bool {
        self.settle(node, self.master.clone())
    }

    fn settle(&mut self, node: String, master: Option<String>) -> bool {
        let role = if master.as_deref() == Some(node.as_str()) { Role::Master } else { Role::Standby };
        let changed = (&self.node, &self.master, self.role) != (&node, &master, role);
        if changed {
            self.was_anothers = self.is_anothers();
        }
        (self.node, self.master, self.role) = (node, master, role);
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_role_follows_from_the_two_names() {
        let mut place = Place::new("a".to_owned());
        assert!(!place.is_master() && !place.is_anothers(), "nobody knows");
        assert!(place.hear(Some("b".to_owned())));
        assert!(!place.is_master() && place.is_anothers());
        assert!(place.hear(Some("a".to_owned())) && place.is_master());
        assert!(!place.hear(Some("a".to_owned())));
        assert!(place.rename("c".to_owned()) && place.is_anothers());
        assert!(place.hear(None) && !place.is_anothers());
    }

    #[test]
    fn what_cannot_be_told_is_asked_again() {
        let second = Duration::from_secs(1);
        let mut place = Place::new("a".to_owned());
        place.hear(Some("a".to_owned()));
        place.is_unknown(second);
        assert!(place.is_master() && !place.is_surely_master() && !place.is_untold());
        assert!(!place.wants_to_ask(second) && place.wants_to_ask(second * 2));
        assert_eq!(place.next_deadline(), Some(second * 3));
        place.is_known_again();
        assert_eq!((place.is_surely_master(), place.next_deadline()), (true, None));
    }

    #[test]
    fn until_somebody_tells_it_may_be_this_node() {
        let mut place = Place::new("a".to_owned());
        assert!(!place.is_untold(), "nobody has been asked");
        place.is_unknown(Duration::ZERO);
        assert!(place.is_untold());
        place.is_known_again();
        assert!(place.hear(Some("b".to_owned())) && !place.is_untold());
    }

    #[test]
    fn the_master_of_a_destroyed_cluster_stays_it() {
        let mut place = Place::new("a".to_owned());
        place.hear(Some("a".to_owned()));
        assert!(!place.hear(None));
        assert_eq!((place.is_master(), place.master()), (true, Some("a")));
        assert!(place.hear(Some("b".to_owned())) && place.is_anothers());
    }
}
