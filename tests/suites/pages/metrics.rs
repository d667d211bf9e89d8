//! The list of metrics, read from a gateway that has one of everything, so that a new metric appears in it.

use std::collections::BTreeSet;

use http::Response;
use http_body_util::Full;
use witgate_tests::{DEADLINE, Gateway, Origin, Scratch, guest};

use super::markdown::{code, table};
use super::{head, hold};

const PREAMBLE: &str = "\
`GET /metrics` on the admin listener returns the OpenMetrics text format, or the text format of Prometheus (0.0.4) where `Accept`
prefers `text/plain`, in which the type line of a counter has its name with `_total`. The names, the labels and their meaning
are a contract: within a major version none is renamed or removed; new ones may be added.

Counters count from the start of the process and survive a reload. A series appears with its first event, or as soon as
its listener, route, upstream or binding is in service, and goes when that is no longer configured; series about endpoints are those of
the configuration in service. There are at most 4,096 combinations of listener, route and upstream; further ones are counted under the name
`(others)`. A histogram has the samples `_bucket` (label `le`), `_sum` and `_count`. The label value `-` means that there
was none: no route matched, or no upstream was used.

";

/// A gateway with one of everything that is counted.
fn config(origin: &Origin, collector: &Origin, scratch: &Scratch) -> String {
    format!(
        "[brokers.b]\nkind = \"memory\"\n[consumers.c]\nbroker = \"b\"\nfrom = \"q\"\npath = \"/\"\ndead_letter = \"discard\"\n\
         [state.kept]\nkind = \"file\"\nfolder = \"{folder}\"\n\
         [telemetry]\naccess_log = \"access.log\"\n\
         [telemetry.otlp]\nupstream = \"collector\"\n\
         [[routes]]\nname = \"all\"\npath = \"/*\"\nupstream = \"counted\"\nplugins = [\"probe\"]\nauth = \"optional\"\n\
         [[routes]]\nname = \"stored\"\npath = \"/stored\"\nupstream = \"counted\"\ncache = {{}}\n\
         [[listeners]]\nname = \"raw\"\nprotocol = \"tcp\"\naddress = \"127.0.0.1:0\"\n\
         [[routes]]\nname = \"raw\"\nlisteners = \"raw\"\nupstream = \"raw\"\n\
         [upstreams.raw]\nprotocol = \"tcp\"\nendpoints = [\"{origin}\"]\n\
         [[routes]]\nname = \"failing\"\npath = \"/failing\"\nupstream = \"failing\"\n\
         filters = [{{ kind = \"fault\", delay = {{ time = \"1ms\" }} }}]\n\
         [upstreams.counted]\nendpoints = [\"{origin}\"]\nbalancer = \"peak-ewma\"\nmax_requests = 100\n\
         upstream_breaker = {{}}\nconcurrency = {{}}\nhealth = {{ tcp = {{}}, interval = \"50ms\" }}\n\
         hedge = {{ percentile = 0.95 }}\n\
         [upstreams.failing]\nendpoints = [\"127.0.0.1:1\"]\nhealth = {{ tcp = {{}}, interval = \"50ms\" }}\npanic_below = 0.0\n\
         fallback = {{ respond = {{ status = 503 }} }}\n\
         [upstreams.discovered]\ndiscover = {{ file = \"no-endpoints.toml\" }}\n\
         [upstreams.collector]\nendpoints = [\"{collector}\"]\n\
         [plugins.probe]\n[bindings.probe]\ngrants = {{ route_to = [\"counted\"], store = [\"counters\"] }}\n",
        folder = scratch.path().join("state").display(),
        origin = origin.address(),
        collector = collector.address(),
    )
}

/// The families of an exposition that have no sample.
fn without_samples(exposition: &str) -> Vec<String> {
    families(exposition).into_iter().filter(|family| !family.sampled).map(|family| family.name).collect()
}

#[tokio::test]
async fn the_list_of_metrics_is_current() {
    let origin = Origin::with(|_| Response::new(Full::default())).await;
    let collector = Origin::named("collector").await;
    let scratch = Scratch::new();
    scratch.install(&guest("probe"), "probe");
    let config = config(&origin, &collector, &scratch);
    let gateway = Gateway::start(scratch, &config).await;
    let _connection = tokio::net::TcpStream::connect(gateway.listener("raw")).await.expect("it is accepted");
    let mut client = gateway.client().await;
    client.get("/", &[("x-do", "metrics")]).await;
    client.get("/", &[("x-do", "store"), ("x-with", "increment counters visits")]).await;
    client.post("/", &[("content-type", "application/grpc-web")], "").await;
    let begun = std::time::Instant::now();
    loop {
        // The upstream uses its fallback once its endpoint is known to be down.
        client.get("/failing", &[]).await;
        let missing = without_samples(gateway.admin_get("/metrics").await.text());
        if missing.is_empty() {
            break;
        }
        assert!(begun.elapsed() < DEADLINE, "metrics whose labels nothing shows: {missing:?}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let shown = gateway.admin_get("/metrics").await;
    let rows = families(shown.text()).into_iter().map(|family| {
        let labels: Vec<String> = family.labels.iter().map(|label| code(label)).collect();
        [code(&family.name), family.kind, labels.join(", "), family.help]
    });
    let rows = table(["metric", "type", "labels", "meaning"], rows);
    let text = head("Metrics", "what `/metrics` of a gateway shows") + PREAMBLE + rows.trim_end() + "\n";
    hold("metrics.md", &text);
}

/// A family of an exposition.
struct Family {
    /// The name of its samples without the suffixes of histograms.
    name: String,
    kind: String,
    help: String,
    labels: BTreeSet<String>,
    sampled: bool,
}

/// The families of an exposition in the OpenMetrics text format, by name.
fn families(exposition: &str) -> Vec<Family> {
    let mut found: Vec<Family> = Vec::new();
    for line in exposition.lines() {
        if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            let help = help.trim_end_matches('.').to_owned();
            let (name, kind) = (name.to_owned(), String::new());
            found.push(Family { name, kind, help, labels: BTreeSet::new(), sampled: false });
        } else if let Some((_, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            let family = found.last_mut().expect("a type follows its help");
            family.kind = kind.to_owned();
            if kind == "counter" {
                family.name += "_total";
            }
        } else if !line.starts_with('#') {
            let family = found.last_mut().expect("a sample follows its type");
            assert!(line.starts_with(&family.name), "{line} stands under {}", family.name);
            family.sampled = true;
            let labels = line.split_once('{').and_then(|(_, rest)| rest.rsplit_once('}'));
            let labels = labels.map_or("", |(labels, _)| labels);
            // Label values have no commas here, because the names in the configuration above have none.
            let names = labels.split(',').filter_map(|label| label.split_once('=')).map(|(name, _)| name);
            family.labels.extend(names.filter(|name| *name != "le").map(str::to_owned));
        }
    }
    found.sort_by(|left, right| left.name.cmp(&right.name));
    found
}
