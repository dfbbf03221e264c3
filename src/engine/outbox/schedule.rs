//! When a receiver that failed is tried again (Standard Webhooks, "Deliverability and reliability").

use std::time::Duration;

/// How long after the first, second, ... failure in a row, in seconds; after more as after the last.
const DELAYS: [u64; 9] = [5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400];

/// What `Retry-After` asks for is obeyed between these, in seconds.
const SHORTEST: u64 = 1;
const LONGEST: u64 = 86_400;

/// How long to wait after so many failures in a row, at least 1, where the receiver asks for
/// `after` if it does. Up to a fifth longer, by chance (`dice`, any number): many senders that
/// failed together do not come together again.
pub fn delay(failures: u32, after: Option<Duration>, dice: u64) -> Duration {
    let nth = usize::try_from(failures.saturating_sub(1)).unwrap_or(usize::MAX).min(DELAYS.len() - 1);
    let asked = after.map(|after| after.as_secs().clamp(SHORTEST, LONGEST));
    let base = Duration::from_secs(asked.unwrap_or(DELAYS[nth]));
    base + base.mul_f64(0.2 * (dice % 1_000) as f64 / 1_000.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_schedule_is_that_of_the_standard() {
        let begins: Vec<u64> = (1..=10)
            .scan(0, |since, failures| {
                *since += delay(failures, None, 0).as_secs();
                Some(*since)
            })
            .collect();
        let minutes = |hours: u64, minutes: u64| hours * 3600 + minutes * 60 + 5;
        let standard = [(0, 5), (0, 35), (2, 35), (7, 35), (17, 35), (31, 35), (51, 35), (75, 35), (99, 35)];
        let expected: Vec<u64> = [5].into_iter().chain(standard.map(|(h, m)| minutes(h, m))).collect();
        assert_eq!(begins, expected);
    }

    proptest! {
        #[test]
        fn chance_makes_it_a_little_longer(failures in any::<u32>(), after in prop::option::of(any::<u64>()), dice in any::<u64>()) {
            let after = after.map(Duration::from_secs);
            let (shortest, by_chance) = (delay(failures, after, 0), delay(failures, after, dice));
            prop_assert!(shortest <= by_chance && by_chance <= shortest.mul_f64(1.2));
            prop_assert!((1..=86_400).contains(&shortest.as_secs()));
            let asked = after.map(|after| after.as_secs()).filter(|asked| (1..=86_400).contains(asked));
            prop_assert!(asked.is_none_or(|asked| asked == shortest.as_secs()));
        }
    }
}
