//! How often something took how long: a fixed array of counts, which costs an addition.

/// The upper bounds of the buckets, in seconds: from 5 ms to 1 h. What took longer is in none of
/// them but counted.
pub const BOUNDS: [f64; 10] = [0.005, 0.025, 0.1, 0.5, 2.0, 10.0, 60.0, 300.0, 900.0, 3600.0];

/// How often something took how long.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Histogram {
    /// How often it took so long that it is in this bucket and in no lower one; the last is for what
    /// is in none.
    counts: [u64; BOUNDS.len() + 1],
    sum: f64,
}

impl Histogram {
    /// It took so many seconds. What is no time that can pass is not counted.
    pub fn observe(&mut self, seconds: f64) {
        if !seconds.is_finite() || seconds < 0.0 {
            return;
        }
        self.counts[BOUNDS.partition_point(|bound| *bound < seconds)] += 1;
        self.sum += seconds;
    }

    /// How often it took this long or less, for each bound.
    pub fn buckets(&self) -> impl Iterator<Item = (f64, u64)> {
        BOUNDS.iter().zip(&self.counts).scan(0, |sum, (bound, count)| {
            *sum += count;
            Some((*bound, *sum))
        })
    }

    /// How often it was.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// How long it took in all, in seconds.
    pub fn sum(&self) -> f64 {
        self.sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_is_in_its_own_bucket_and_what_took_longer_in_none() {
        let mut histogram = Histogram::default();
        for seconds in [0.0, 0.005, 0.0051, 3600.0, 3600.1, f64::MAX] {
            histogram.observe(seconds);
        }
        let buckets: Vec<(f64, u64)> = histogram.buckets().collect();
        assert_eq!((buckets[0], buckets[1], buckets[8]), ((0.005, 2), (0.025, 3), (900.0, 3)));
        assert_eq!((buckets[9], histogram.count()), ((3600.0, 4), 6));
    }

    #[test]
    fn what_is_no_time_is_not_counted() {
        let mut histogram = Histogram::default();
        for seconds in [-0.1, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            histogram.observe(seconds);
        }
        assert_eq!(histogram, Histogram::default());
        histogram.observe(1.5);
        histogram.observe(0.25);
        assert_eq!((histogram.count(), histogram.sum()), (2, 1.75));
    }
}
