//! Families of metrics, as collectors write them.

use std::fmt;

use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabelSet, EncodeMetric, MetricEncoder, NoLabelSet,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// A metric family being written: one descriptor, then a sample for each set of labels.
///
/// Collectors of other crates use it too, because the encoder's own interface needs five lines for each sample.
pub struct Family<'a>(MetricEncoder<'a>);

impl<'a> Family<'a> {
    /// Begins a family of counters; `_total` is appended to the name.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn counters(
        encoder: &'a mut DescriptorEncoder,
        name: &'a str,
        help: &str,
    ) -> Result<Self, fmt::Error> {
        encoder.encode_descriptor(name, help, None, MetricType::Counter).map(Family)
    }

    /// Begins a family of gauges.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn gauges(encoder: &'a mut DescriptorEncoder, name: &'a str, help: &str) -> Result<Self, fmt::Error> {
        encoder.encode_descriptor(name, help, None, MetricType::Gauge).map(Family)
    }

    /// Begins a family of histograms.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn histograms(
        encoder: &'a mut DescriptorEncoder,
        name: &'a str,
        help: &str,
    ) -> Result<Self, fmt::Error> {
        encoder.encode_descriptor(name, help, None, MetricType::Histogram).map(Family)
    }

    /// A sample of a counter.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn counter(&mut self, labels: &impl EncodeLabelSet, value: u64) -> fmt::Result {
        ConstCounter::new(value).encode(self.0.encode_family(labels)?)
    }

    /// A sample of a gauge.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn gauge(&mut self, labels: &impl EncodeLabelSet, value: i64) -> fmt::Result {
        ConstGauge::new(value).encode(self.0.encode_family(labels)?)
    }

    /// A sample of a gauge that is not an integer.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn gauge_of(&mut self, labels: &impl EncodeLabelSet, value: f64) -> fmt::Result {
        ConstGauge::new(value).encode(self.0.encode_family(labels)?)
    }

    /// A sample of a histogram: the sum, the count, and the cumulative count below each bound.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn histogram(
        &mut self,
        labels: &impl EncodeLabelSet,
        read: (f64, u64, Vec<(f64, u64)>),
    ) -> fmt::Result {
        let (sum, count, buckets) = read;
        self.0.encode_family(labels)?.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }
}
