//! Signals that arrive before a snapshot is in service.

use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use witgate_tests::{Gateway, Origin, Scratch, eventually, guest, slow_to_compile, witgate};

const CONFIG: &str = "[gateway]\nplugins = [\"slow\"]\ncache_folder = \"off\"\n[plugins.slow]\n[bindings.slow]\n\
                      [[routes]]\npath = \"/*\"\nrespond = { body = \"hello\" }\n";

/// A gateway that starts with a plugin which takes long to compile, returned once it compiles.
async fn compiling(size: u32) -> Gateway {
    let scratch = Scratch::new();
    let component = std::fs::read(guest("idle")).expect("a component");
    scratch.write("plugins/slow.wasm", slow_to_compile(&component, size));
    let gateway = Gateway::begin(scratch, CONFIG);
    eventually("a compilation", async || !gateway.children().is_empty()).await;
    gateway
}

fn is_alive(id: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    // The state follows the name, which is in parentheses. `Z` means that the process has ended and its status was
    // not collected.
    status.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

#[tokio::test]
async fn a_reload_that_is_asked_for_during_the_start_comes_after_it() {
    let mut gateway = compiling(2_000).await;
    (0..10).for_each(|_| gateway.signal(Signal::HUP));
    gateway.wait_until_ready().await;
    assert_eq!(gateway.client().await.get("/", &[]).await.text(), "hello");
    eventually("the reload", async || {
        let change = gateway.admin_get("/status").await.json()["last_change"].clone();
        change["applied"] == true && change["reason"].as_str().is_some_and(|reason| reason.contains("SIGHUP"))
    })
    .await;
    gateway.signal(Signal::TERM);
    assert_eq!(gateway.exit().await.code(), Some(0), "{}", gateway.output());
}

#[tokio::test]
async fn a_start_that_is_told_to_end_ends_at_once_and_so_does_what_it_compiles() {
    for signal in [Signal::TERM, Signal::INT, Signal::QUIT] {
        let mut gateway = compiling(20_000).await;
        let compilers = gateway.children();
        gateway.signal(signal);
        assert_eq!(gateway.exit().await.code(), Some(0), "{signal:?}: {}", gateway.output());
        assert!(gateway.output().contains("before anything was in service"), "{}", gateway.output());
        eventually("the compiler to end", async || !compilers.iter().any(|id| is_alive(*id))).await;
    }
}

/// A `witgate proxy`, which is ended when dropped.
struct Proxy(Child);

impl Drop for Proxy {
    fn drop(&mut self) {
        // The process may have ended already. Waiting for it collects its exit status.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Proxy {
    /// Starts the process and waits until it handles signals; before that, any of them would end it.
    async fn start(to: &str) -> Proxy {
        let child = Command::new(witgate())
            .args(["proxy", "--from", "127.0.0.1:0", "--to", to])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the gateway's binary can be run");
        let proxy = Proxy(child);
        eventually("signals to be followed", async || proxy.follows_signals()).await;
        proxy
    }

    /// Whether HUP, INT, QUIT and TERM are caught: bits of `SigCgt`, see proc_pid_status(5).
    fn follows_signals(&self) -> bool {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap_or_default();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        let caught = caught.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok()).unwrap_or_default();
        [Signal::HUP, Signal::INT, Signal::QUIT, Signal::TERM]
            .iter()
            .all(|signal| caught & (1 << (signal.as_raw() - 1)) != 0)
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).expect("the process is ours");
    }
}

#[tokio::test]
async fn a_proxy_follows_signals_from_its_very_beginning() {
    let origin = Origin::named("origin").await;
    for round in 0..20 {
        let mut proxy = Proxy::start(&origin.address().to_string()).await;
        (0..3).for_each(|_| proxy.signal(Signal::HUP));
        proxy.signal(if round % 2 == 0 { Signal::TERM } else { Signal::INT });
        let mut code = None;
        eventually("the proxy to end", async || {
            code = proxy.0.try_wait().expect("the process can be asked");
            code.is_some()
        })
        .await;
        assert_eq!(code.and_then(|status| status.code()), Some(0), "round {round}");
    }
}
