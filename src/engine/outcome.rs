//! What became of a run of a hook script.

/// How a run ended.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// The exit code, if the script exited.
    pub code: Option<i32>,
    /// The signal that ended the script, if one did.
    pub signal: Option<i32>,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// The beginning of standard output and standard error together; what is not UTF-8
    /// is replaced.
    pub output: String,
    /// Bytes of output that were dropped.
    pub dropped: u64,
    /// Why there is no exit code that counts: could not be started, ran too long.
    pub error: Option<String>,
    /// Whether it was ended because the daemon stops; it is run again after a restart.
    pub interrupted: bool,
    /// Whether it could not even begin, for want of something that may come back; it is to
    /// be run once more.
    pub postponed: bool,
}

impl Outcome {
    /// The outcome of a run that could not be.
    pub fn not_run(error: impl Into<String>) -> Self {
        Self { error: Some(error.into()), ..Self::default() }
    }

    /// Whether the script ran and exited with 0.
    pub fn succeeded(&self) -> bool {
        self.code == Some(0) && self.error.is_none()
    }

    /// What went wrong, in words.
    pub fn in_words(&self) -> String {
        match (&self.error, self.code, self.signal) {
            (Some(error), _, _) => error.clone(),
            (None, Some(code), _) => format!("exited with {code}"),
            (None, None, Some(signal)) => format!("was ended by signal {signal}"),
            (None, None, None) => "ended in an unknown way".to_owned(),
        }
    }
}
