//! Variables under construction.

use std::collections::BTreeMap;
use std::fmt::Display;

/// Variables of one view, added under a prefix.
#[derive(Debug, Default)]
pub(super) struct Environment {
    prefix: &'static str,
    variables: BTreeMap<String, String>,
}

impl Environment {
    pub(super) fn new(prefix: &'static str) -> Environment {
        Environment { prefix, variables: BTreeMap::new() }
    }

    /// Keeps what is there and adds under another prefix from now on.
    pub(super) fn prefixed(self, prefix: &'static str) -> Environment {
        Environment { prefix, ..self }
    }

    /// Sets a variable. A name or value that no environment can hold is dropped:
    /// parameter names come from job files.
    pub(super) fn set(&mut self, name: impl Display, value: impl Into<String>) {
        let (name, value) = (format!("{}{name}", self.prefix), value.into());
        if !name.contains(['=', '\0']) && !value.contains('\0') {
            self.variables.insert(name, value);
        }
    }

    /// Sets a variable whose value may not be known.
    pub(super) fn set_known(&mut self, name: impl Display, value: Option<impl Into<String>>) {
        if let Some(value) = value {
            self.set(name, value);
        }
    }

    pub(super) fn into_variables(self) -> BTreeMap<String, String> {
        self.variables
    }
}
