//! What an opcode is about: an instance, a node, a group, a network, or the cluster.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The kind of an object (Ganeti: `constants.HTYPE_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ObjectKind {
    /// An instance.
    Instance,
    /// A node.
    Node,
    /// The cluster itself.
    Cluster,
    /// A node group.
    Group,
    /// A network.
    Network,
}

impl ObjectKind {
    const ALL: [Self; 5] = [Self::Instance, Self::Node, Self::Cluster, Self::Group, Self::Network];

    /// `INSTANCE`, as in `GANETI_OBJECT_TYPE`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Instance => "INSTANCE",
            Self::Node => "NODE",
            Self::Cluster => "CLUSTER",
            Self::Group => "GROUP",
            Self::Network => "NETWORK",
        }
    }
}

/// A text that names no kind of object.
#[derive(Debug, thiserror::Error)]
#[error("an object is an instance, a node, a group, a network or the cluster")]
pub struct InvalidKind;

impl FromStr for ObjectKind {
    type Err = InvalidKind;

    /// Capital or small letters.
    fn from_str(text: &str) -> Result<Self, InvalidKind> {
        Self::ALL.into_iter().find(|kind| kind.as_str().eq_ignore_ascii_case(text)).ok_or(InvalidKind)
    }
}

/// One object, or several of a kind. Written `instance/web1.example.com`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Object {
    /// Its kind.
    #[serde(rename = "type")]
    pub kind: ObjectKind,
    /// Its name, as the job has it: any text. None where several objects are meant, and of a
    /// cluster whose name is not known.
    pub name: Option<String>,
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.kind.as_str().to_ascii_lowercase())?;
        self.name.as_ref().map_or(Ok(()), |name| write!(f, "/{name}"))
    }
}

/// Which objects are meant: `web1`, `instance/web1`, `instance/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectPattern {
    /// Only those of this kind.
    pub kind: Option<ObjectKind>,
    /// Only the one of this name, which may be the first labels of its full name.
    pub name: Option<String>,
}

/// A text that means no object.
#[derive(Debug, thiserror::Error)]
#[error(
    "an object is NAME, KIND/NAME or KIND/, where KIND is instance, node, cluster, group or network, in any case"
)]
pub struct InvalidPattern;

impl FromStr for ObjectPattern {
    type Err = InvalidPattern;

    fn from_str(text: &str) -> Result<Self, InvalidPattern> {
        let (kind, name) = match text.split_once('/') {
            Some((kind, name)) => (Some(kind.parse().map_err(|_| InvalidPattern)?), name),
            None => (None, text),
        };
        let name = Some(name.to_owned()).filter(|name| !name.is_empty());
        if kind.is_none() && name.is_none() { Err(InvalidPattern) } else { Ok(Self { kind, name }) }
    }
}

/// As it is given, and read again.
impl fmt::Display for ObjectPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(kind) = self.kind {
            write!(f, "{}/", kind.as_str().to_ascii_lowercase())?;
        }
        f.write_str(self.name.as_deref().unwrap_or_default())
    }
}

impl ObjectPattern {
    /// Whether this object is one of those.
    pub fn means(&self, object: &Object) -> bool {
        let is_named = |pattern: &String| {
            let rest = object.name.as_deref().and_then(|name| name.strip_prefix(pattern.as_str()));
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        self.kind.is_none_or(|kind| object.kind == kind) && self.name.as_ref().is_none_or(is_named)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn kinds_are_read_as_they_are_written() {
        for kind in ObjectKind::ALL {
            assert_eq!(kind.as_str().parse::<ObjectKind>().unwrap(), kind);
            assert_eq!(json!(kind), json!(kind.as_str()));
        }
        assert_eq!("node".parse::<ObjectKind>().unwrap(), ObjectKind::Node);
        assert!("nodes".parse::<ObjectKind>().is_err() && "".parse::<ObjectKind>().is_err());
    }

    #[test]
    fn objects_are_read_as_they_are_written() {
        let web1 = Object { kind: ObjectKind::Instance, name: Some("web1.example.com".to_owned()) };
        let cluster = Object { kind: ObjectKind::Cluster, name: None };
        for (object, shown, data) in [
            (web1, "instance/web1.example.com", json!({"type": "INSTANCE", "name": "web1.example.com"})),
            (cluster, "cluster", json!({"type": "CLUSTER", "name": null})),
        ] {
            assert_eq!((object.to_string().as_str(), json!(object)), (shown, data.clone()));
            assert_eq!(serde_json::from_value::<Object>(data).unwrap(), object);
        }
    }

    #[test]
    fn objects_are_meant_with_or_without_their_kind() {
        let parsed = |text: &str| text.parse::<ObjectPattern>().map(|o| (o.kind, o.name));
        let web1 = Some("web1".to_owned());
        assert_eq!(parsed("web1").unwrap(), (None, web1.clone()));
        assert_eq!(parsed("instance/web1").unwrap(), (Some(ObjectKind::Instance), web1.clone()));
        assert_eq!(parsed("INSTANCE/web1").unwrap(), (Some(ObjectKind::Instance), web1));
        assert_eq!(parsed("node/").unwrap(), (Some(ObjectKind::Node), None));
        for bad in ["", "/", "/web1", "disk/web1"] {
            assert!(parsed(bad).is_err(), "{bad}");
        }
        for text in ["web1", "instance/web1", "node/"] {
            assert_eq!(text.parse::<ObjectPattern>().unwrap().to_string(), text);
        }
    }
}
