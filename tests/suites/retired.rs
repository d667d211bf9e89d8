//! Everything that was swapped out is released: snapshots, instances, descriptors, connections, memory.
//!
//! CI runs hundreds of swaps. `WITGATE_SWAPS=2000` in the environment sets their number; the figures are printed.

use witgate_tests::{Gateway, Origin, Scratch, eventually, guest};

/// Number of swaps.
fn swaps(usual: usize) -> usize {
    std::env::var("WITGATE_SWAPS").ok().and_then(|number| number.parse().ok()).unwrap_or(usual)
}

/// The resources that a gateway holds.
#[derive(Debug, Clone, Copy, PartialEq)]
struct ResourceUse {
    instances: f64,
    retired: f64,
    descriptors: usize,
}

async fn held(gateway: &Gateway) -> ResourceUse {
    ResourceUse {
        instances: gateway.metric("witgate_plugin_instances", &[]).await,
        retired: gateway.metric("witgate_snapshots_retired", &[]).await,
        descriptors: gateway.descriptors(),
    }
}

/// Waits until the gateway holds no more than before.
async fn holds_no_more_than(gateway: &Gateway, before: ResourceUse) {
    let mut now = before;
    let begun = std::time::Instant::now();
    while begun.elapsed() < witgate_tests::DEADLINE {
        now = held(gateway).await;
        if now.retired == 0.0 && now.instances <= before.instances && now.descriptors <= before.descriptors {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("it held {before:?}, and now {now:?}");
}

async fn reload(gateway: &Gateway) {
    let reply = gateway.admin_post("/reload").await;
    assert_eq!(reply.status, 200, "{}", reply.text());
}

/// The component as a new file: a custom section at its end holds a number.
fn numbered(component: &[u8], number: usize) -> Vec<u8> {
    let mut bytes = component.to_vec();
    bytes.extend([0, 13, 4]);
    bytes.extend(b"swap");
    bytes.extend(format!("{number:08}").bytes());
    bytes
}

fn grown(what: &str, count: usize, before: u64, after: u64) {
    println!("{count} {what}: {} MiB resident, then {} MiB", before >> 20, after >> 20);
    assert!(after < before + (24 << 20), "{what}: {} MiB, then {} MiB", before >> 20, after >> 20);
}

#[tokio::test]
async fn nothing_is_held_of_plugins_that_were_swapped_out() {
    let versions = ["mark-one", "mark-two"].map(|name| std::fs::read(guest(name)).expect("a component"));
    let scratch = Scratch::new();
    scratch.install(&guest("mark-one"), "mark");
    let bound = "[telemetry]\naccess_log = \"off\"\n[gateway]\nplugins = [\"mark\"]\n[plugins.mark]\n[bindings.mark]\n\
                 [[routes]]\npath = \"/*\"\nrespond = { body = \"hello\" }\n";
    let gateway = Gateway::start(scratch, bound).await;
    let count = swaps(200);
    let mut warm = None;
    for swap in 1..=count {
        gateway.scratch.write("plugins/mark.wasm", numbered(&versions[swap % 2], swap));
        reload(&gateway).await;
        let reply = gateway.client().await.get("/", &[]).await;
        assert_eq!(reply.header("x-mark"), ["one", "two"][swap % 2], "swap {swap}");
        if swap == count / 4 / 2 * 2 {
            holds_no_more_than(
                &gateway,
                ResourceUse { instances: f64::MAX, retired: 0.0, descriptors: usize::MAX },
            )
            .await;
            warm = Some((held(&gateway).await, gateway.resident()));
        }
    }
    let (before, resident) = warm.expect("it was measured on the way");
    holds_no_more_than(&gateway, before).await;
    grown("swaps of a plugin", count, resident, gateway.resident());
}

#[tokio::test]
async fn nothing_is_held_of_configurations_and_upstreams_that_were_replaced() {
    let origins = [Origin::named("first").await, Origin::named("second").await];
    let config = |number: usize| {
        Gateway::completed(&format!(
            "[telemetry]\naccess_log = \"off\"\n[[routes]]\nname = \"all\"\ntimeout = \"{}ms\"\nupstream = \"u{number}\"\n\
             [upstreams.u{number}]\nkeep_alive = \"1h\"\nendpoints = [\"{}\"]\n",
            20_000 + number,
            origins[number % 2].address()
        ))
    };
    let gateway = Gateway::start_exactly(Scratch::new(), &config(0)).await;
    let count = swaps(200);
    let mut warm = None;
    for number in 1..=count {
        gateway.scratch.write("witgate.toml", config(number));
        reload(&gateway).await;
        let reply = gateway.client().await.get("/", &[]).await;
        assert!(reply.text().starts_with(["first", "second"][number % 2]), "{}", reply.text());
        if number == count / 4 {
            holds_no_more_than(
                &gateway,
                ResourceUse { instances: 0.0, retired: 0.0, descriptors: usize::MAX },
            )
            .await;
            // Connections of removed upstreams are closed within a second or two.
            let mut least = gateway.descriptors();
            eventually("connections to be closed", async || {
                let now = gateway.descriptors();
                let fewer = now < least;
                least = least.min(now);
                !fewer && now < 200
            })
            .await;
            warm = Some((held(&gateway).await, gateway.resident()));
        }
    }
    let (before, resident) = warm.expect("it was measured on the way");
    holds_no_more_than(&gateway, before).await;
    grown("reloads", count, resident, gateway.resident());
}

#[tokio::test]
async fn a_timeout_of_five_hundred_routes_that_changes_again_and_again_costs_no_memory() {
    let config = |number: usize| {
        let routes: String = (0..500)
            .map(|route| {
                format!(
                    "[[routes]]\nname = \"r{route}\"\npath = \"/r{route}/*\"\ntimeout = \"{}ms\"\nrespond = {{ body = \"{route}\" }}\n",
                    1000 + number
                )
            })
            .collect();
        Gateway::completed(&format!("[telemetry]\naccess_log = \"off\"\n{routes}"))
    };
    let gateway = Gateway::start_exactly(Scratch::new(), &config(0)).await;
    let count = swaps(60).min(300);
    let mut warm = 0;
    for number in 1..=count {
        gateway.scratch.write("witgate.toml", config(number));
        reload(&gateway).await;
        if number == count / 4 {
            warm = gateway.resident();
        }
    }
    let nothing = ResourceUse { instances: 0.0, retired: 0.0, descriptors: usize::MAX };
    holds_no_more_than(&gateway, nothing).await;
    grown("reloads of 500 routes", count, warm, gateway.resident());
}
