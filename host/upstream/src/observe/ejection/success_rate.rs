//! Finds endpoints whose success rate is far below the mean of the upstream.

use witgate_config::model::SuccessRate;

/// The results of an endpoint within an interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Done {
    pub(crate) succeeded: u64,
    pub(crate) failed: u64,
}

/// An endpoint with a success rate far below the mean.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Outlier {
    /// Its index among the endpoints that were compared.
    pub(crate) index: usize,
    /// Its success rate.
    pub(crate) rate: f64,
    /// The mean success rate of all endpoints.
    pub(crate) mean: f64,
}

impl Done {
    fn total(self) -> u64 {
        self.succeeded + self.failed
    }

    fn rate(self) -> f64 {
        self.succeeded as f64 / self.total() as f64
    }
}

/// The outliers, the worst first. Endpoints with too few requests are neither part of the mean nor judged.
pub(crate) fn outliers(done: &[Done], settings: &SuccessRate) -> Vec<Outlier> {
    let enough = |done: &Done| done.total() >= settings.minimum_requests.max(1);
    let rates: Vec<(usize, f64)> = done
        .iter()
        .enumerate()
        .filter(|(_, done)| enough(done))
        .map(|(index, done)| (index, done.rate()))
        .collect();
    if rates.len() < settings.minimum_endpoints.max(1) {
        return Vec::new();
    }
    let count = rates.len() as f64;
    let mean = rates.iter().map(|(_, rate)| rate).sum::<f64>() / count;
    let variance = rates.iter().map(|(_, rate)| (rate - mean).powi(2)).sum::<f64>() / count;
    let bar = mean - (settings.deviations * variance.sqrt()).max(settings.margin);
    let mut outliers: Vec<Outlier> = rates
        .into_iter()
        .filter(|(_, rate)| *rate < bar)
        .map(|(index, rate)| Outlier { index, rate, mean })
        .collect();
    outliers.sort_by(|first, second| first.rate.total_cmp(&second.rate));
    outliers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(deviations: f64, margin: f64) -> SuccessRate {
        SuccessRate { deviations, margin, minimum_endpoints: 3, minimum_requests: 100 }
    }

    /// So many successes of a hundred each.
    fn of_hundred<const N: usize>(succeeded: [u64; N]) -> [Done; N] {
        succeeded.map(|succeeded| Done { succeeded, failed: 100 - succeeded })
    }

    fn indices(done: &[Done], settings: &SuccessRate) -> Vec<usize> {
        outliers(done, settings).iter().map(|outlier| outlier.index).collect()
    }

    #[test]
    fn the_bar_is_the_mean_less_deviations() {
        // Rates 1, 1, 1, 1, 0.5: mean 0.9, variance (4 × 0.01 + 0.16) / 5 = 0.04, deviation 0.2.
        let done = of_hundred([100, 100, 50, 100, 100]);
        // 0.9 - 1.9 × 0.2 = 0.52.
        let found = outliers(&done, &settings(1.9, 0.0));
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].index, found[0].rate), (2, 0.5));
        assert!((found[0].mean - 0.9).abs() < 1e-9);
        // 0.9 - 2.1 × 0.2 = 0.48: one among five is never more than 2 deviations away.
        assert!(indices(&done, &settings(2.1, 0.0)).is_empty());
    }

    #[test]
    fn a_difference_within_the_margin_is_none_however_few_deviations_it_is() {
        // Rates 1, 1, 0.99: mean 0.99667, deviation 0.0047; the last is 1.41 deviations below, but by 0.0067 only.
        let done = of_hundred([100, 100, 99]);
        assert_eq!(indices(&done, &settings(1.1, 0.0)), [2]);
        assert!(indices(&done, &settings(1.1, 0.1)).is_empty());
        assert_eq!(indices(&of_hundred([100, 100, 50]), &settings(1.1, 0.1)), [2]);
    }

    #[test]
    fn the_worst_come_first_and_equals_are_no_outliers() {
        // Rates 1 × 8, 0.2, 0: mean 0.82, variance (8 × 0.0324 + 0.3844 + 0.6724) / 10 = 0.1316, deviation 0.3628.
        let done = of_hundred([100, 20, 100, 100, 0, 100, 100, 100, 100, 100]);
        assert_eq!(indices(&done, &settings(1.5, 0.1)), [4, 1]);
        assert!(indices(&of_hundred([30, 30, 30, 30]), &settings(1.0, 0.0)).is_empty());
    }

    #[test]
    fn too_few_endpoints_or_requests_show_nothing() {
        assert!(indices(&of_hundred([100, 0]), &settings(0.5, 0.1)).is_empty());
        let mut done = of_hundred([100, 100, 100, 0]);
        done[3].failed = 99;
        assert!(indices(&done, &settings(1.1, 0.1)).is_empty(), "99 requests");
        assert!(indices(&[Done::default(); 4], &settings(1.1, 0.1)).is_empty());
    }
}
