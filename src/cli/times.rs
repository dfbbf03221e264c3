//! Times as people write them.

use std::str::FromStr;
use std::time::Duration;

use jiff::civil;
use jiff::tz::TimeZone;

use crate::ganeti::job::Timestamp;

/// In which time zone times are shown and read.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Zone {
    /// Times that are given are UTC, not in the system's time zone
    #[arg(long)]
    utc: bool,
}

impl Zone {
    fn time_zone(self) -> TimeZone {
        if self.utc { TimeZone::UTC } else { TimeZone::system() }
    }
}

/// A moment as somebody names it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Moment {
    /// So long ago.
    Ago(Duration),
    /// A date and a time in the zone that times are shown in.
    Local(civil::DateTime),
    /// A date and a time that say their zone.
    At(Timestamp),
}

/// A text that names no moment.
#[derive(Debug, thiserror::Error)]
#[error(
    "a time is how long ago (30m, 2h, 3d), a date with or without a time (2026-11-28, \"2026-11-28 14:00\"), or one with its zone (2026-11-28T14:00:00Z)"
)]
pub struct InvalidMoment;

impl FromStr for Moment {
    type Err = InvalidMoment;

    fn from_str(text: &str) -> Result<Self, InvalidMoment> {
        if let Ok(ago) = humantime::parse_duration(text) {
            return Ok(Self::Ago(ago));
        }
        if let Ok(time) = text.parse::<jiff::Timestamp>() {
            return Ok(Self::At(Timestamp::from_micros(time.as_microsecond())));
        }
        text.parse().map(Self::Local).map_err(|_| InvalidMoment)
    }
}

impl Moment {
    /// When it is.
    pub fn resolve(self, zone: Zone, now: Timestamp) -> Timestamp {
        match self {
            Self::Ago(ago) => {
                let micros = i64::try_from(ago.as_micros()).unwrap_or(i64::MAX);
                Timestamp::from_micros(now.as_micros().saturating_sub(micros))
            }
            Self::At(time) => time,
            // A time that is none, or is twice, where clocks are set, is taken as most programs do.
            Self::Local(time) => match time.to_zoned(zone.time_zone()) {
                Ok(time) => Timestamp::from_micros(time.timestamp().as_microsecond()),
                Err(_) => now,
            },
        }
    }
}
