//! The metrics of the shared cache.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use witgate_cache::Cache;
use witgate_exchange::family::Family;

/// Collects the metrics of the cache in service, if there is one.
pub(super) struct CacheMetrics(pub(super) Arc<ArcSwapOption<Cache>>);

impl fmt::Debug for CacheMetrics {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("CacheMetrics")
    }
}

impl Collector for CacheMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let Some(cache) = self.0.load_full() else { return Ok(()) };
        let usage = cache.usage();
        let help = "Requests of routes with a cache, by what the cache did";
        let mut family = Family::counters(&mut encoder, "witgate_cache_requests", help)?;
        for (result, count) in usage.results {
            family.counter(&[("result", result.name())], count)?;
        }
        let help =
            "Bytes of the cache: of stored responses, of those that are being stored, and the limit of both";
        let mut family = Family::gauges(&mut encoder, "witgate_cache_bytes", help)?;
        for (kind, bytes) in
            [("stored", usage.bytes), ("filling", usage.filling_bytes), ("limit", usage.memory)]
        {
            family.gauge(&[("kind", kind)], i64::try_from(bytes).unwrap_or(i64::MAX))?;
        }
        let help = "Keys under which responses are stored";
        let mut family = Family::gauges(&mut encoder, "witgate_cache_resources", help)?;
        let none: [(&str, &str); 0] = [];
        family.gauge(&none, i64::try_from(usage.resources).unwrap_or(i64::MAX))
    }
}
