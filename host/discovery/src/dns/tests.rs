//! Names in a real name server, dnsmasq, and in one that is scripted for what a real one does not do on demand.

use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Instant;

use hickory_resolver::system_conf;
use witgate_exchange::contracts::discovery::{Difference, EndpointSpec, Refused};

use super::ask::{Client, Lack};
use super::*;

/// A dnsmasq that answers for its hosts file and for records given to it. It ends with this.
struct Dnsmasq {
    child: Child,
    address: SocketAddr,
    folder: tempfile::TempDir,
    arguments: Vec<String>,
}

impl Dnsmasq {
    /// A server with these further arguments. If another process takes the port meanwhile, another one is tried.
    fn start(arguments: &[&str]) -> Dnsmasq {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("hosts"), "").unwrap();
        let arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
        for _ in 0..20 {
            let address = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
            let mut child = spawn(folder.path(), address, &arguments);
            if is_up(&mut child, address) {
                return Dnsmasq { child, address, folder, arguments };
            }
            let _ = child.kill();
            let _ = child.wait();
        }
        panic!("no dnsmasq could be started; is it installed?");
    }

    fn hosts(&self) -> PathBuf {
        self.folder.path().join("hosts")
    }

    /// Replaces the hosts, and has the server read them.
    fn set_hosts(&self, text: &str) {
        std::fs::write(self.hosts(), text).unwrap();
        let process = i32::try_from(self.child.id()).unwrap();
        let pid = rustix::process::Pid::from_raw(process).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::HUP).unwrap();
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn start_again(&mut self) {
        self.child = spawn(self.folder.path(), self.address, &self.arguments);
        assert!(is_up(&mut self.child, self.address), "its port was free");
    }
}

impl Drop for Dnsmasq {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(folder: &Path, address: SocketAddr, arguments: &[String]) -> Child {
    let hosts = folder.join("hosts");
    Command::new("/usr/sbin/dnsmasq")
        .args([
            "--keep-in-foreground",
            "--no-resolv",
            "--no-hosts",
            "--bind-interfaces",
            "--conf-file=/dev/null",
        ])
        .args(["--listen-address=127.0.0.1", "--pid-file=", "--user=root", "--local=/test/", "--local-ttl=1"])
        .arg(format!("--port={}", address.port()))
        .arg(format!("--addn-hosts={}", hosts.display()))
        .args(arguments)
        .stderr(Stdio::null())
        .spawn()
        .expect("dnsmasq is installed")
}

/// Whether the server answers; false if it has ended.
fn is_up(child: &mut Child, address: SocketAddr) -> bool {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    // A query for the addresses of the root (RFC 1035 section 4.1).
    let query = [0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1];
    let deadline = Instant::now() + Duration::from_secs(10);
    while Instant::now() < deadline && child.try_wait().unwrap().is_none() {
        let _ = socket.send_to(&query, address);
        if socket.recv(&mut [0; 512]).is_ok() {
            return true;
        }
    }
    false
}

/// A name server that does with each query what the script says.
struct Scripted {
    address: SocketAddr,
    queries: Arc<AtomicUsize>,
    _stop: mpsc::SyncSender<()>,
}

impl Scripted {
    fn start(script: impl Fn(usize, &[u8]) -> Option<Vec<u8>> + Send + 'static) -> Scripted {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let address = socket.local_addr().unwrap();
        let (stop, stopped) = mpsc::sync_channel::<()>(1);
        let queries = Arc::<AtomicUsize>::default();
        let count = queries.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 1500];
            while stopped.try_recv() != Err(mpsc::TryRecvError::Disconnected) {
                let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
                let number = count.fetch_add(1, Ordering::SeqCst);
                if let Some(answer) = script(number, &buffer[..length]) {
                    let _ = socket.send_to(&answer, from);
                }
            }
        });
        Scripted { address, queries, _stop: stop }
    }
}

/// An answer with this code and no records.
fn coded(query: &[u8], code: u8) -> Vec<u8> {
    let mut answer = query[..question_end(query)].to_vec();
    (answer[2], answer[3]) = (0x81, 0x80 | code);
    answer[6..12].fill(0);
    answer
}

/// An answer with one address, for queries for IPv4 addresses; for others an answer without records.
fn with_address(query: &[u8], address: [u8; 4], ttl: u32) -> Vec<u8> {
    let mut answer = coded(query, 0);
    let end = question_end(query);
    if query[end - 4..end - 2] == [0, 1] {
        answer[7] = 1;
        answer.extend([0xc0, 12, 0, 1, 0, 1]);
        answer.extend(ttl.to_be_bytes());
        answer.extend([0, 4]);
        answer.extend(address);
    }
    answer
}

fn question_end(query: &[u8]) -> usize {
    12 + query[12..].iter().position(|byte| *byte == 0).unwrap() + 5
}

#[derive(Default)]
struct Heard {
    sets: Mutex<Vec<Vec<EndpointSpec>>>,
    failures: Mutex<Vec<String>>,
}

impl EndpointSink for Heard {
    fn whole(&self, endpoints: Vec<EndpointSpec>) -> Result<(), Refused> {
        self.sets.lock().unwrap().push(endpoints);
        Ok(())
    }

    fn difference(&self, _: Difference) -> Result<(), Refused> {
        Ok(())
    }

    fn confirm(&self) {}

    fn failed(&self, why: String) {
        self.failures.lock().unwrap().push(why);
    }
}

impl Heard {
    fn last(&self) -> Vec<String> {
        let sets = self.sets.lock().unwrap();
        let hosts = sets.last().into_iter().flatten().map(|spec| format!("{}:{}", spec.host, spec.port));
        hosts.collect()
    }

    fn sets(&self) -> usize {
        self.sets.lock().unwrap().len()
    }

    fn failure(&self) -> String {
        self.failures.lock().unwrap().last().cloned().unwrap_or_default()
    }
}

async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < deadline, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn lookup(server: SocketAddr) -> model::DnsLookup {
    let second = Duration::from_secs(1);
    model::DnsLookup { servers: vec![server], min_ttl: second, max_ttl: 2 * second }
}

fn dns(names: &[(&str, u16)], server: SocketAddr) -> model::DiscoverySource {
    let names = names.iter().map(|(name, port)| ((*name).to_owned(), *port)).collect();
    model::DiscoverySource::Dns(model::DnsSource { names, lookup: lookup(server) })
}

fn srv(name: &str, server: SocketAddr) -> model::DiscoverySource {
    model::DiscoverySource::Srv(model::SrvSource { names: vec![name.to_owned()], lookup: lookup(server) })
}

/// Runs a script beside a source.
fn beside(settings: &model::DiscoverySource, script: impl AsyncFnOnce(&Heard)) {
    let row = [DNS, SRV].into_iter().find(|row| row.kind == settings.kind()).unwrap();
    let Ok(mut source) = (row.build)(settings) else { panic!("a source") };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let heard = Heard::default();
        tokio::select! {
            ended = source.run(&heard) => panic!("it never ends: {ended:?}"),
            () = script(&heard) => {}
        }
    });
}

/// The answer to one question.
fn ask(asked: Kind, server: SocketAddr) -> Answer {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(thread::look_up(Question { asked, servers: vec![server] }))
}

fn addresses(name: &str) -> Kind {
    Kind::Addresses { name: name.to_owned(), port: 80 }
}

#[test]
fn addresses_of_both_families_and_of_aliases_follow_the_name_server() {
    let server = Dnsmasq::start(&["--cname=alias.test,users.test"]);
    server
        .set_hosts("10.0.0.1 users.test\n10.0.0.2 users.test\n2001:db8::1 users.test\n10.1.0.1 more.test\n");
    let names = [("alias.test", 80), ("more.test", 81), ("users.test", 80)];
    beside(&dns(&names, server.address), async |heard| {
        let all = ["10.0.0.1:80", "10.0.0.2:80", "10.1.0.1:81", "2001:db8::1:80"];
        eventually("all of them, each once", || heard.last() == all).await;
        server.set_hosts("10.0.0.2 users.test\n10.0.0.3 users.test\n10.1.0.1 more.test\n");
        eventually("one has come and two have left", || {
            heard.last() == ["10.0.0.2:80", "10.0.0.3:80", "10.1.0.1:81"]
        })
        .await;
    });
}

#[test]
fn services_have_ports_weights_and_priorities() {
    let server = Dnsmasq::start(&[
        "--srv-host=_http._tcp.users.test,one.test,8001,10,60",
        "--srv-host=_http._tcp.users.test,two.test,8002,10,0",
        "--srv-host=_http._tcp.users.test,two.test,8003,20,5",
        "--srv-host=_none._tcp.users.test",
    ]);
    server.set_hosts("10.0.0.1 one.test\n10.0.0.2 two.test\n");
    beside(&srv("_http._tcp.users.test", server.address), async |heard| {
        eventually("the targets", || heard.last().len() == 3).await;
        let sets = heard.sets.lock().unwrap();
        let told: Vec<_> = sets
            .last()
            .unwrap()
            .iter()
            .map(|spec| (spec.host.as_str(), spec.port, spec.weight, spec.priority))
            .collect();
        let expected = [("10.0.0.1", 8001, 600, 0), ("10.0.0.2", 8002, 1, 0), ("10.0.0.2", 8003, 50, 1)];
        assert_eq!(told, expected);
    });
    let none = ask(Kind::Services { name: "_none._tcp.users.test".into() }, server.address);
    assert!(matches!(&none, Answer::Absent(why) if why.contains("no such service")), "{none:?}");
}

#[test]
fn a_large_answer_comes_by_tcp_in_full() {
    let server = Dnsmasq::start(&[]);
    let hosts: String = (0..600).map(|n| format!("10.0.{}.{} many.test\n", n / 250, n % 250)).collect();
    server.set_hosts(&hosts);
    beside(&dns(&[("many.test", 80)], server.address), async |heard| {
        eventually("all of them", || heard.last().len() == 600).await;
    });
}

#[test]
fn a_server_that_is_killed_takes_nothing_away() {
    let mut server = Dnsmasq::start(&[]);
    server.set_hosts("10.0.0.1 users.test\n");
    beside(&dns(&[("users.test", 80)], server.address), async |heard| {
        eventually("the first set", || heard.last() == ["10.0.0.1:80"]).await;
        server.kill();
        eventually("the failure is told", || !heard.failure().is_empty()).await;
        assert_eq!(heard.last(), ["10.0.0.1:80"]);
        std::fs::write(server.hosts(), "10.0.0.2 users.test\n").unwrap();
        server.start_again();
        eventually("it is back", || heard.last() == ["10.0.0.2:80"]).await;
    });
}

#[test]
fn a_name_that_vanishes_is_believed_after_a_second_look() {
    let server = Dnsmasq::start(&[]);
    server.set_hosts("10.0.0.1 users.test\n");
    beside(&dns(&[("users.test", 80)], server.address), async |heard| {
        eventually("the first set", || heard.sets() > 0).await;
        server.set_hosts("");
        eventually("the first look", || heard.failure().contains("once more")).await;
        assert_eq!(heard.last(), ["10.0.0.1:80"]);
        eventually("the second look", || heard.last().is_empty()).await;
        assert!(heard.failure().contains("NXDOMAIN"), "{}", heard.failure());
        server.set_hosts("10.0.0.1 users.test\n");
        eventually("it is there again", || heard.last() == ["10.0.0.1:80"]).await;
    });
}

#[test]
fn errors_and_garbage_are_failures_and_never_an_empty_set() {
    for (name, script) in [
        ("servfail.test", (|_, query: &[u8]| Some(coded(query, 2))) as fn(usize, &[u8]) -> Option<Vec<u8>>),
        ("refused.test", |_, query| Some(coded(query, 5))),
        ("notimp.test", |_, query| Some(coded(query, 4))),
        ("garbage.test", |_, _| Some(vec![0xff; 40])),
        ("cut.test", |_, query| Some(query[..11].to_vec())),
        ("silent.test", |_, _| None),
        ("another-question.test", |_, query| {
            let mut answer = with_address(query, [10, 0, 0, 1], 60);
            answer[13] ^= 1;
            Some(answer)
        }),
        ("another-id.test", |_, query| {
            let mut answer = with_address(query, [10, 0, 0, 1], 60);
            answer[0] ^= 1;
            Some(answer)
        }),
    ] {
        let server = Scripted::start(script);
        let answer = ask(addresses(name), server.address);
        assert!(matches!(&answer, Answer::Failed(why) if !why.is_empty()), "{name}: {answer:?}");
        assert!(server.queries.load(Ordering::SeqCst) < 50, "{name}: it is not asked without end");
    }
}

#[test]
fn the_time_to_live_is_that_of_the_answer_and_nothing_is_cached_beside_it() {
    let server = Scripted::start(|number, query| {
        Some(with_address(query, [10, 0, 0, (number / 2) as u8], if number < 2 { 0 } else { 3600 }))
    });
    for (last, ttl) in [(0, 0), (1, 3600), (2, 3600)] {
        let Answer::Found { endpoints, valid_for, .. } = ask(addresses("users.test"), server.address) else {
            panic!("an address")
        };
        assert_eq!((endpoints[0].host.as_str(), valid_for.as_secs()), (&*format!("10.0.0.{last}"), ttl));
    }
}

#[test]
fn the_floor_bounds_how_often_a_name_is_asked_for() {
    let server = Scripted::start(|_, query| Some(with_address(query, [10, 0, 0, 1], 0)));
    beside(&dns(&[("users.test", 80)], server.address), async |heard| {
        let begun = Instant::now();
        eventually("four looks", || heard.sets() >= 4).await;
        assert!(begun.elapsed() >= Duration::from_millis(2700), "with a TTL of 0: {:?}", begun.elapsed());
    });
}

#[test]
fn hosts_of_this_machine_need_no_name_server() {
    let nobody = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for name in ["localhost", "LOCALHOST.", "a.localhost"] {
        let Answer::Found { endpoints, .. } = ask(addresses(name), nobody) else { panic!("{name}") };
        assert!(endpoints.iter().any(|spec| spec.host == "127.0.0.1"), "{name}: {endpoints:?}");
    }
}

/// The name that a query asks for.
fn asked_name(query: &[u8]) -> String {
    let (mut labels, mut at) = (Vec::new(), 12);
    while query[at] > 0 {
        let end = at + 1 + usize::from(query[at]);
        labels.push(String::from_utf8_lossy(&query[at + 1..end]).into_owned());
        at = end;
    }
    labels.join(".")
}

#[test]
fn search_domains_and_dots_decide_which_names_are_asked_for() {
    let asked = Arc::<Mutex<Vec<String>>>::default();
    let log = asked.clone();
    let server = Scripted::start(move |_, query| {
        let name = asked_name(query);
        if !log.lock().unwrap().contains(&name) {
            log.lock().unwrap().push(name.clone());
        }
        Some(match name.as_str() {
            "users.b.test" | "x.y" | "db.prod.a.test" => with_address(query, [10, 0, 0, 1], 60),
            "broken.a.test" => coded(query, 2),
            _ => coded(query, 3),
        })
    });
    let system = "nameserver 10.255.255.1\nsearch a.test b.test\noptions ndots:2\n";
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for (name, found, names) in [
        ("users", true, vec!["users.a.test", "users.b.test"]),
        ("users.b.test.", true, vec!["users.b.test"]),
        ("db.prod", true, vec!["db.prod.a.test"]),
        ("x.y", true, vec!["x.y.a.test", "x.y.b.test", "x.y"]),
        ("a.b.c", false, vec!["a.b.c", "a.b.c.a.test", "a.b.c.b.test"]),
        ("nobody.", false, vec!["nobody"]),
    ] {
        asked.lock().unwrap().clear();
        let system = system_conf::parse_resolv_conf(system).map_err(|error| error.to_string());
        let client = Client::new(&[server.address], system, None);
        let outcome = runtime.block_on(client.addresses(name));
        assert_eq!(outcome.is_ok(), found, "{name}");
        assert!(found || matches!(outcome, Err(Lack::Absent(_))), "{name}");
        assert_eq!(*asked.lock().unwrap(), names, "{name}");
    }
    // That one name does not exist says nothing about another that could not be asked for.
    let system = system_conf::parse_resolv_conf(system).map_err(|error| error.to_string());
    let client = Client::new(&[server.address], system, None);
    let outcome = runtime.block_on(client.addresses("broken"));
    assert!(matches!(outcome, Err(Lack::Failed(why)) if why.contains("SERVFAIL")));
}
