//! Times and durations as people write and read them.

use std::str::FromStr;
use std::time::Duration;

use jiff::civil;
use jiff::tz::TimeZone;

use super::Failure;
use crate::ganeti::job::Timestamp;
use crate::world::clock;

/// In which time zone times are shown and read.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub struct Zone {
    /// Show times in UTC, not in the system's time zone; times that are given are UTC, too
    #[arg(long)]
    utc: bool,
}

impl Zone {
    /// A time as people read it.
    pub fn show(self, time: Timestamp) -> String {
        self.format(time, if self.utc { "%Y-%m-%d %H:%M:%SZ" } else { "%Y-%m-%d %H:%M:%S" })
    }

    /// A time without its year, where there is not much room.
    pub fn show_short(self, time: Timestamp) -> String {
        self.format(time, if self.utc { "%m-%d %H:%M:%SZ" } else { "%m-%d %H:%M:%S" })
    }

    /// Its day.
    pub fn show_day(self, time: Timestamp) -> String {
        self.format(time, "%Y-%m-%d")
    }

    /// A time as programs read it, as exactly as it is known (RFC 3339).
    pub fn show_exact(self, time: Timestamp) -> String {
        self.format(time, if self.utc { "%Y-%m-%dT%H:%M:%S%.6fZ" } else { "%Y-%m-%dT%H:%M:%S%.6f%:z" })
    }

    fn format(self, time: Timestamp, format: &str) -> String {
        match jiff::Timestamp::from_microsecond(time.as_micros()) {
            Ok(time) => time.to_zoned(self.time_zone()).strftime(format).to_string(),
            Err(_) => "?".to_owned(),
        }
    }

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

/// When events were noticed.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Period {
    /// Only events noticed then or later: 2h or 3d ago, "2026-11-28 14:00", or RFC 3339
    ///
    /// A time without a zone is in the system's, with --utc in UTC.
    #[arg(long, value_name = "TIME")]
    since: Option<Moment>,

    /// Only events noticed before then
    #[arg(long, value_name = "TIME")]
    until: Option<Moment>,
}

impl Period {
    /// Its beginning and its end, with times in this zone.
    ///
    /// # Errors
    /// When nothing lies in it.
    pub fn resolve(self, zone: Zone) -> Result<[Option<Timestamp>; 2], Failure> {
        let now = clock::now();
        let [since, until] = [self.since, self.until].map(|moment| moment.map(|m| m.resolve(zone, now)));
        if since.zip(until).is_some_and(|(since, until)| since >= until) {
            return Err(Failure::Usage("--since must be before --until".to_owned()));
        }
        Ok([since, until])
    }
}

/// A duration as people read it: `30ms`, `0.3s`, `12s`, `4m10s`.
pub fn duration(seconds: f64) -> String {
    if seconds < 0.0995 {
        return format!("{:.0}ms", seconds * 1e3);
    }
    if seconds < 9.95 {
        return format!("{seconds:.1}s");
    }
    let whole = Duration::from_secs(seconds.round() as u64);
    humantime::format_duration(whole).to_string().replace(' ', "")
}

#[cfg(test)]
mod tests {
    use super::*;

    const UTC: Zone = Zone { utc: true };

    #[test]
    fn a_moment_is_named_in_three_ways() {
        let now = Timestamp::from((1_795_867_200, 0)); // 2026-11-28T12:00:00Z
        for (text, then) in [
            ("2h", "2026-11-28 10:00:00Z"),
            ("3d", "2026-11-25 12:00:00Z"),
            ("1h 30m", "2026-11-28 10:30:00Z"),
            ("2026-11-28 14:00", "2026-11-28 14:00:00Z"),
            ("2026-11-28", "2026-11-28 00:00:00Z"),
            ("2026-11-28T14:00:05+01:00", "2026-11-28 13:00:05Z"),
            ("2026-11-28 14:00:05Z", "2026-11-28 14:00:05Z"),
        ] {
            let moment: Moment = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(UTC.show(moment.resolve(UTC, now)), then, "{text}");
        }
        let long_ago: Moment = "5000000years".parse().unwrap();
        assert!(long_ago.resolve(UTC, now) < now);
        for bad in ["", "2", "-2h", "yesterday", "14:00", "2026-13-01", "2026-11-28 25:00", "1e99y"] {
            assert!(bad.parse::<Moment>().is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_shown_can_be_given_back() {
        let time = Timestamp::from((1_795_867_261, 0));
        for zone in [UTC, Zone { utc: false }] {
            let shown: Moment = zone.show(time).parse().unwrap();
            assert_eq!(shown.resolve(zone, Timestamp::default()), time);
        }
        assert_eq!(UTC.show_short(time), "11-28 12:01:01Z");
        assert_eq!(
            (UTC.show_day(time), UTC.show_exact(time)),
            ("2026-11-28".to_owned(), "2026-11-28T12:01:01.000000Z".to_owned())
        );
        assert_eq!(UTC.show(Timestamp::from_micros(i64::MAX)), "?");
    }

    #[test]
    fn durations_are_short() {
        for (seconds, shown) in [
            (0.0, "0ms"),
            (0.0304, "30ms"),
            (0.0999, "0.1s"),
            (0.34, "0.3s"),
            (9.94, "9.9s"),
            (9.96, "10s"),
            (250.4, "4m10s"),
            (90_061.0, "1day1h1m1s"),
        ] {
            assert_eq!(duration(seconds), shown);
        }
    }
}
