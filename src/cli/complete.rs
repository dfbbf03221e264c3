//! `ganeti-hookd complete`: words of the history for the shells' completions.

use std::io::{self, Write};
use std::path::Path;

use super::Failure;
use crate::daemon::read_settings;
use crate::world::journal::{History, Word};

/// Print words of the history
///
/// One a line, newest first, of the last few hundred events. Who may not read the history is told
/// nothing: nobody who types wants to hear of it.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What the words name
    kind: Kind,

    /// What they begin with
    #[arg(default_value = "", hide_default_value = true)]
    beginning: String,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Kind {
    Job,
    Event,
    Opcode,
    Object,
    Script,
    /// A job or an object.
    Subject,
}

impl Kind {
    fn words(self) -> &'static [Word] {
        match self {
            Self::Job => &[Word::Job],
            Self::Event => &[Word::Event],
            Self::Opcode => &[Word::OpCode],
            Self::Object => &[Word::Object],
            Self::Script => &[Word::Script],
            Self::Subject => &[Word::Job, Word::Object],
        }
    }
}

impl Args {
    pub(super) fn run(&self, config: &Path) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        for word in self.words(config).unwrap_or_default() {
            if word.starts_with(&self.beginning) {
                writeln!(out, "{word}")?;
            }
        }
        Ok(())
    }

    fn words(&self, config: &Path) -> Option<Vec<String>> {
        let settings = read_settings(config).ok()?;
        let history = History::open(&settings.paths.state_dir).ok()??;
        let words = self.kind.words().iter().filter_map(|word| history.words(*word).ok());
        Some(words.flatten().collect())
    }
}
