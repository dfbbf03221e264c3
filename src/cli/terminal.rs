//! The terminal that standard output may be.

use std::env;
use std::io::{self, IsTerminal};

use rustix::termios::tcgetwinsize;

/// What may be printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terminal {
    /// How many characters a line has; none where it is no terminal.
    pub width: Option<usize>,
    /// Whether it has colours, and they are wanted.
    pub has_colours: bool,
}

/// The width of a terminal that does not know its own.
const USUAL_WIDTH: usize = 80;

impl Terminal {
    /// None: what is written goes elsewhere.
    pub const fn none() -> Self {
        Self { width: None, has_colours: false }
    }

    /// The one that standard output is.
    pub fn of_output() -> Self {
        let out = io::stdout();
        if !out.is_terminal() {
            return Self::none();
        }
        let width = tcgetwinsize(&out).map_or(0, |size| usize::from(size.ws_col));
        Self { width: Some(if width == 0 { USUAL_WIDTH } else { width }), has_colours: has_colours() }
    }

    /// Whether it is one.
    pub fn is_there(self) -> bool {
        self.width.is_some()
    }
}

/// By the name of the terminal, and what the user says (no-color.org).
fn has_colours() -> bool {
    let is_set = |name| env::var_os(name).filter(|value| !value.is_empty());
    is_set("TERM").is_some_and(|term| term != "dumb") && is_set("NO_COLOR").is_none()
}
