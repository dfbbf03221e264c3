//! What a receiver's answer means (Standard Webhooks, "Delivery success and failure").

use std::time::Duration;

/// What came of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A whole answer.
    Status {
        /// 200, ...
        code: u16,
        /// What `Retry-After` asks for.
        retry_after: Option<Duration>,
        /// The beginning of what was answered.
        text: String,
    },
    /// None, and why; or it could not be asked.
    Nothing(String),
}

/// What follows from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The receiver has it.
    Taken,
    /// It may work later: why it has not, and how long the receiver wants to be left alone.
    Failed(String, Option<Duration>),
    /// The receiver does not want this event, and why.
    Refused(String),
    /// It wants no event any more.
    Over(String),
}

impl Answer {
    /// What follows from it. Redirects are not followed: whoever is master sends to the place that
    /// its administrator has named, and to no other.
    pub fn verdict(&self) -> Verdict {
        let Self::Status { code, retry_after, .. } = self else {
            let Self::Nothing(why) = self else { return Verdict::Taken };
            return Verdict::Failed(why.clone(), None);
        };
        let what = self.to_string();
        match code {
            200..=299 => Verdict::Taken,
            300..=399 => {
                Verdict::Failed(format!("{what}; redirects are not followed, set url"), *retry_after)
            }
            410 => Verdict::Over(what),
            408 | 429 => Verdict::Failed(what, *retry_after),
            400..=499 => Verdict::Refused(what),
            _ => Verdict::Failed(what, *retry_after),
        }
    }
}

/// In a few words.
impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Status { code, .. } => write!(f, "the receiver answers {code}{}", meaning(*code)),
            Self::Nothing(why) => f.write_str(why),
        }
    }
}

/// What those are called that people meet.
fn meaning(code: u16) -> &'static str {
    match code {
        301 | 302 | 303 | 307 | 308 => " (redirect)",
        400 => " (bad request)",
        401 => " (unauthorized)",
        403 => " (forbidden)",
        404 => " (not found)",
        408 => " (request timeout)",
        410 => " (gone)",
        413 => " (content too large)",
        429 => " (too many requests)",
        500 => " (internal server error)",
        502 => " (bad gateway)",
        503 => " (service unavailable)",
        504 => " (gateway timeout)",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_one_meaning() {
        let after = Some(Duration::from_secs(7));
        for code in 100..=999 {
            let verdict = Answer::Status { code, retry_after: after, text: String::new() }.verdict();
            let is_as_expected = match code {
                200..=299 => verdict == Verdict::Taken,
                410 => matches!(verdict, Verdict::Over(_)),
                408 | 429 => matches!(verdict, Verdict::Failed(_, wait) if wait == after),
                400..=499 => matches!(verdict, Verdict::Refused(_)),
                _ => matches!(verdict, Verdict::Failed(_, wait) if wait == after),
            };
            assert!(is_as_expected, "{code}: {verdict:?}");
        }
        let nothing = Answer::Nothing("timeout".to_owned());
        assert_eq!(nothing.verdict(), Verdict::Failed("timeout".to_owned(), None));
    }

    #[test]
    fn what_people_meet_is_said_in_words() {
        let what = |code| match (Answer::Status { code, retry_after: None, text: String::new() }).verdict() {
            Verdict::Taken => String::new(),
            Verdict::Failed(what, _) | Verdict::Refused(what) | Verdict::Over(what) => what,
        };
        let said: Vec<String> = (100..=999).map(what).filter(|what| what.contains('(')).collect();
        insta::assert_snapshot!(said.join("\n"), @"
        the receiver answers 301 (redirect); redirects are not followed, set url
        the receiver answers 302 (redirect); redirects are not followed, set url
        the receiver answers 303 (redirect); redirects are not followed, set url
        the receiver answers 307 (redirect); redirects are not followed, set url
        the receiver answers 308 (redirect); redirects are not followed, set url
        the receiver answers 400 (bad request)
        the receiver answers 401 (unauthorized)
        the receiver answers 403 (forbidden)
        the receiver answers 404 (not found)
        the receiver answers 408 (request timeout)
        the receiver answers 410 (gone)
        the receiver answers 413 (content too large)
        the receiver answers 429 (too many requests)
        the receiver answers 500 (internal server error)
        the receiver answers 502 (bad gateway)
        the receiver answers 503 (service unavailable)
        the receiver answers 504 (gateway timeout)
        ");
        assert_eq!(what(418), "the receiver answers 418");
        assert_eq!(what(304), "the receiver answers 304; redirects are not followed, set url");
    }
}
