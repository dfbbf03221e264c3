//! This node's place in the cluster (design, section 7): the role follows from the node's name
//! and the master's, and from nothing else. Everything that begins asks it.

use super::Role;

/// Who this node is, and who is master.
#[derive(Debug)]
pub struct Place {
    node: String,
    /// As far as is known.
    master: Option<String>,
    role: Role,
}

impl Place {
    /// A node that has not heard of a master.
    pub fn new(node: String) -> Self {
        Self { node, master: None, role: Role::Standby }
    }

    /// This node's name.
    pub fn node(&self) -> &str {
        &self.node
    }

    /// The master's name, if it is known.
    pub fn master(&self) -> Option<&str> {
        self.master.as_deref()
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
        *self = Self { node, master, role };
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
    fn the_master_of_a_destroyed_cluster_stays_it() {
        let mut place = Place::new("a".to_owned());
        place.hear(Some("a".to_owned()));
        assert!(!place.hear(None));
        assert_eq!((place.is_master(), place.master()), (true, Some("a")));
        assert!(place.hear(Some("b".to_owned())) && place.is_anothers());
    }
}
