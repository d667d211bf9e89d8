//! Files and folders: what is read, what is watched, and where relative paths lead.

use std::path::Path;

use witgate_config::model::Action;
use witgate_config::{Failure, Loaded, load, proxy_config};

struct Folder(tempfile::TempDir);

impl Folder {
    fn with(files: &[(&str, &str)]) -> Self {
        let folder = Self(tempfile::tempdir().expect("a temporary folder"));
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            std::fs::write(path, text).expect("written");
        }
        folder
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn loaded(&self) -> Loaded {
        load(self.path()).unwrap_or_else(|failure| panic!("{}", failure.render(false)))
    }

    fn refused(&self) -> (Failure, String) {
        let failure = load(self.path()).expect_err("it is wrong");
        let told = failure.render(false).replace(&format!("{}/", self.path().display()), "");
        (failure, told)
    }
}

const USERS: &str = "[upstreams.users]\nendpoints = [\"127.0.0.1:9001\"]\n";

#[test]
fn a_folder_is_one_configuration() {
    let folder = Folder::with(&[
        (
            "10-gateway.toml",
            "[gateway]\nworkers = 3\n[[routes]]\nname = \"a\"\npath = \"/a\"\nupstream = \"users\"\n",
        ),
        ("20-users.toml", &format!("[[routes]]\nname = \"b\"\npath = \"/b\"\nupstream = \"users\"\n{USERS}")),
        (
            "30-orders.toml",
            "gateway.drain_delay = \"1s\"\n[upstreams.orders]\nendpoints = [\"127.0.0.1:9002\"]\n",
        ),
        (".hidden.toml", "this is not TOML"),
        ("notes.txt", "neither is this"),
    ]);
    let loaded = folder.loaded();
    assert_eq!(loaded.config.gateway.workers, 3);
    assert_eq!(loaded.config.gateway.drain_delay.as_secs(), 1);
    assert_eq!(loaded.config.routes.iter().map(|route| route.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(loaded.config.upstreams.len(), 2);
    assert_eq!(loaded.files.len(), 3);
}

#[test]
fn what_two_files_set_is_refused_with_both_places() {
    let folder = Folder::with(&[
        ("a.toml", &format!("[gateway]\nworkers = 3\n{USERS}")),
        ("b.toml", &format!("[gateway]\nworkers = 4\n{USERS}")),
    ]);
    let (_, told) = folder.refused();
    assert_eq!(
        told,
        "error: `workers` is set by two files\n --> b.toml:2:1\n  |\n2 | workers = 4\n  | ^^^^^^^\n  |\n  \
         = help: it is set first at a.toml:2:1: keep one of them\n\n\
         error: `users` is set by two files\n --> b.toml:3:12\n  |\n3 | [upstreams.users]\n  |            ^^^^^\n  |\n  \
         = help: it is set first at a.toml:3:12: keep one of them\n\n\
         The configuration has 2 problems."
    );
}

#[test]
fn a_mistake_is_told_with_the_file_it_is_in() {
    let folder =
        Folder::with(&[("a.toml", USERS), ("b.toml", "[[routes]]\npath = \"/b\"\nupstream = \"usres\"\n")]);
    let (failure, told) = folder.refused();
    assert!(told.contains("--> b.toml:3:12"), "{told}");
    assert_eq!(failure.problems[0].key, "routes[0].upstream");
}

#[test]
fn one_file_that_does_not_parse_hides_no_other() {
    let folder = Folder::with(&[("a.toml", "[gateway\n"), ("b.toml", "x = \n"), ("c.toml", "[nonsense]\n")]);
    let (failure, told) = folder.refused();
    assert!(told.contains("a.toml:1:9") && told.contains("b.toml:1:5"), "{told}");
    assert_eq!(failure.files.len(), 3, "all are watched: a change may put it right");
}

#[test]
fn relative_paths_lead_from_the_file_that_names_them() {
    let folder = Folder::with(&[
        (
            "witgate.toml",
            "[gateway]\nplugin_folder = \"../plugins\"\n[admin]\ntoken = \"${file:secrets/token}\"\nsocket = \"/run/admin.sock\"\n\
             [[listeners]]\naddress = \"127.0.0.1:0\"\ntls = { certificate = \"tls/a.pem\", key = \"tls/a.key\" }\n",
        ),
        ("secrets/token", "0123456789abcdef\n"),
        ("tls/a.pem", ""),
        ("tls/a.key", ""),
    ]);
    let loaded = load(&folder.path().join("witgate.toml")).expect("it is right");
    let path = |name: &str| folder.path().join(name);
    assert_eq!(loaded.config.gateway.plugin_folder, path("../plugins"));
    assert_eq!(loaded.config.admin.token.as_deref(), Some("0123456789abcdef"));
    assert_eq!(loaded.config.admin.socket.as_deref(), Some(Path::new("/run/admin.sock")));
    let watched = ["witgate.toml", "secrets/token", "tls/a.pem", "tls/a.key"].map(path);
    assert_eq!(loaded.files, watched, "what is read is watched");
    let shown = format!("{:?}", loaded.config);
    assert!(!shown.contains("0123456789abcdef"), "a token does not get into logs");
}

#[test]
fn what_cannot_be_read_is_told() {
    let nowhere = load(Path::new("no/such/file.toml")).expect_err("there is no such file");
    assert!(
        nowhere.render(false).starts_with("error: cannot read `no/such/file.toml`: "),
        "{}",
        nowhere.render(false)
    );
    let empty = Folder::with(&[]);
    assert!(empty.refused().1.starts_with("error: there is no *.toml file in `"));
    let binary = Folder::with(&[]);
    std::fs::write(binary.path().join("a.toml"), [0xff, 0xfe]).expect("written");
    assert!(binary.refused().1.starts_with("error: cannot read `a.toml`: "));
}

#[test]
fn an_empty_file_is_a_gateway_that_listens() {
    let folder = Folder::with(&[("witgate.toml", "")]);
    let config = folder.loaded().config;
    assert_eq!(config.listeners.len(), 1);
    assert_eq!(config.listeners[0].address, "0.0.0.0:8080".parse().expect("an address"));
}

#[test]
fn a_problem_found_later_is_placed_by_its_key() {
    let folder = Folder::with(&[(
        "witgate.toml",
        &format!("[[routes]]\npath = \"/a\"\nupstream = \"users\"\n{USERS}"),
    )]);
    let loaded = folder.loaded();
    let mut problem = witgate_config::Problem::new("this is too much");
    problem.key = "routes[0].path".to_owned();
    let told = witgate_config::render(std::slice::from_ref(&problem), &loaded.sources, false);
    assert!(told.contains("witgate.toml:2:8"), "{told}");
    problem.key = "routes[0].timeout".to_owned();
    let told = witgate_config::render(std::slice::from_ref(&problem), &loaded.sources, false);
    assert!(told.contains("witgate.toml:1:1"), "a key that was not written is placed at its table: {told}");
}

#[test]
fn a_proxy_needs_no_file() {
    let config = proxy_config(":0", "https://localhost").expect("two addresses");
    assert_eq!(config.listeners[0].address, "0.0.0.0:0".parse().expect("an address"));
    let upstream = &config.upstreams["to"];
    assert_eq!((upstream.endpoints[0].host.as_str(), upstream.endpoints[0].port), ("localhost", 443));
    assert!(upstream.tls.is_some());
    assert!(matches!(config.routes[0].action, Action::Forward(_)));
    assert_eq!(config.admin.address, None);

    let problems = proxy_config("\"here\"", "${HOME}").expect_err("neither is an address");
    let told: Vec<_> = problems.iter().map(|problem| problem.key.as_str()).collect();
    assert_eq!(told, ["--from", "--to"], "{problems:?}");
}

/// What is named like a part of the configuration is read or refused, never passed over, and never waited for.
#[test]
fn a_part_that_is_no_file_is_refused_at_once() {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    use std::os::unix::fs::symlink;
    type Make = fn(&Path);
    let make: [(&str, Make); 5] = [
        ("a named pipe", |path| {
            mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a pipe")
        }),
        ("a device", |path| symlink("/dev/zero", path).expect("linked")),
        ("a folder", |path| std::fs::create_dir(path).expect("made")),
        ("No such file", |path| symlink("missing", path).expect("linked")),
        ("at most 16 MiB are read", |path| {
            std::fs::File::create(path).and_then(|file| file.set_len(1 << 40)).expect("a sparse file");
        }),
    ];
    for (expected, make) in make {
        let folder = Folder::with(&[("a.toml", USERS)]);
        make(&folder.path().join("b.toml"));
        let (_, told) = folder.refused();
        assert!(told.contains("b.toml") && told.contains(expected), "{expected}: {told}");
    }
}

#[test]
fn secrets_and_certificates_that_are_no_files_are_refused_at_once() {
    for path in ["/dev/zero", "/"] {
        let folder = Folder::with(&[(
            "witgate.toml",
            &format!(
                "admin.token = \"${{file:{path}}}\"\n[[listeners]]\naddress = \"127.0.0.1:0\"\n\
                 tls = {{ certificate = \"{path}\", key = \"{path}\" }}\n"
            ),
        )]);
        let (_, told) = folder.refused();
        assert_eq!(told.matches("it must be a regular file").count(), 3, "{told}");
    }
}
