//! The sockets of the admin listener. The control plane binds them before it puts a change in service, so that an
//! address that cannot be bound refuses the whole change.

use std::fs;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::Access;
use witgate_config::Problem;
use witgate_config::model::Admin;
use witgate_proxy::listener::bind_hint;

/// The admin settings of a new version, with the sockets that were bound for it.
pub(crate) struct AdminSockets {
    /// The settings.
    pub(crate) admin: Arc<Admin>,
    /// The TCP listener.
    pub(crate) tcp: SocketChange<TcpListener>,
    /// The Unix socket.
    pub(crate) socket: SocketChange<UnixListener>,
}

/// What is done with one socket.
pub(crate) enum SocketChange<L> {
    /// It stays as it is.
    Keep,
    /// It is closed.
    Close,
    /// It is replaced by this one, which is non-blocking.
    Open(L),
    /// It is opened as soon as another process has released its address.
    Await(Awaited<L>),
}

/// A socket whose address is in use.
pub(crate) struct Awaited<L> {
    /// The address, for messages.
    pub(crate) place: String,
    /// Binds it.
    pub(crate) bind: Box<dyn Fn() -> io::Result<L> + Send>,
}

/// One of the two admin sockets, as it is configured.
struct Wanted<P, L> {
    /// The key of its address.
    key: &'static str,
    place: Option<P>,
    /// Its address in the settings in service; `None`: nothing is in service.
    in_force: Option<Option<P>>,
    /// The address, for messages.
    describe: fn(&P) -> String,
    bind: fn(&P) -> io::Result<L>,
    /// What to do if it cannot be bound.
    hint: fn(&P, &io::Error) -> String,
}

impl AdminSockets {
    /// Binds the sockets that differ from the settings in service. A `successor` has inherited its listeners from
    /// the supervisor of a gateway that may still run: what that one holds is bound once it has ended.
    ///
    /// # Errors
    /// An address or a path that cannot be bound.
    pub(crate) fn bind(
        admin: &Arc<Admin>,
        in_force: Option<&Admin>,
        successor: bool,
    ) -> Result<AdminSockets, Problem> {
        let tcp = Wanted {
            key: "admin.address",
            place: admin.address,
            in_force: in_force.map(|admin| admin.address),
            describe: |address| format!("the admin address {address}"),
            bind: bind_tcp,
            hint: |address, error| bind_hint(*address, error),
        };
        let socket = Wanted {
            key: "admin.socket",
            place: admin.socket.clone(),
            in_force: in_force.map(|admin| admin.socket.clone()),
            describe: |path| format!("the admin socket {}", path.display()),
            bind: |path| bind_socket(path),
            hint: |path, error| socket_hint(path, error),
        };
        Ok(AdminSockets {
            admin: admin.clone(),
            tcp: tcp.change(successor)?,
            socket: socket.change(successor)?,
        })
    }

    /// The address of the TCP listener, if this call has bound it or waits for it.
    pub(crate) fn bound_address(&self) -> Option<SocketAddr> {
        match &self.tcp {
            SocketChange::Open(listener) => listener.local_addr().ok(),
            SocketChange::Await(_) => self.admin.address,
            SocketChange::Keep | SocketChange::Close => None,
        }
    }
}

impl<P: PartialEq + Clone + Send + 'static, L: 'static> Wanted<P, L> {
    fn change(self, successor: bool) -> Result<SocketChange<L>, Problem> {
        let Wanted { key, place, in_force, describe, bind, hint } = self;
        let place = match (place, in_force) {
            (wanted, Some(in_force)) if wanted == in_force => return Ok(SocketChange::Keep),
            (None, _) => return Ok(SocketChange::Close),
            (Some(place), _) => place,
        };
        match bind(&place) {
            Ok(listener) => Ok(SocketChange::Open(listener)),
            Err(error) if successor && error.kind() == ErrorKind::AddrInUse => {
                let described = describe(&place);
                Ok(SocketChange::Await(Awaited { place: described, bind: Box::new(move || bind(&place)) }))
            }
            Err(error) => {
                let message = format!("{} cannot be bound: {error}", describe(&place));
                let problem = Problem::new(message).with_hint(hint(&place, &error));
                Err(Problem { key: key.to_owned(), ..problem })
            }
        }
    }
}

/// Checks that the admin socket could be bound if no other process holds it.
///
/// # Errors
/// Its folder does not exist or cannot be written to, its path is too long, or is that of another kind of file.
pub(crate) fn check(admin: &Admin) -> Result<(), Problem> {
    let Some(path) = &admin.socket else { return Ok(()) };
    could_bind(path).map_err(|error| {
        let message = format!("the admin socket {} cannot be bound: {error}", path.display());
        let problem = Problem::new(message).with_hint(socket_hint(path, &error));
        Problem { key: "admin.socket".to_owned(), ..problem }
    })
}

fn could_bind(path: &Path) -> io::Result<()> {
    std::os::unix::net::SocketAddr::from_pathname(aside(path))?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !fs::metadata(folder)?.is_dir() {
        return Err(io::Error::from(ErrorKind::NotADirectory));
    }
    rustix::fs::access(folder, Access::WRITE_OK | Access::EXEC_OK)?;
    match refuse_foreign(path) {
        Err(error) if error.kind() == ErrorKind::AddrInUse => Ok(()),
        outcome => outcome,
    }
}

fn socket_hint(path: &Path, error: &io::Error) -> String {
    let folder = path.parent().unwrap_or(path).display();
    match error.kind() {
        ErrorKind::AddrInUse => format!(
            "another gateway listens there; `witgate status --admin unix:{}` shows which",
            path.display()
        ),
        ErrorKind::NotFound | ErrorKind::NotADirectory => {
            format!("create the folder `{folder}`, which only the gateway's user may write to")
        }
        ErrorKind::PermissionDenied => format!("let the gateway's user write to the folder `{folder}`"),
        ErrorKind::InvalidInput => {
            "the path of a Unix socket has at most 107 bytes, with some for the process id".to_owned()
        }
        _ => "name a path at which nothing else exists".to_owned(),
    }
}

fn bind_tcp(address: &SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn bind_socket(path: &Path) -> io::Result<UnixListener> {
    refuse_foreign(path)?;
    bind_private(path)
}

/// Refuses a path if a process listens on its socket.
fn refuse_foreign(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            Err(io::Error::other("the path exists and is not a socket"))
        }
        Ok(_) if UnixStream::connect(path).is_ok() => Err(io::Error::from(ErrorKind::AddrInUse)),
        Ok(_) => Ok(()),
    }
}

/// Binds under a temporary name, restricts the mode, then renames: at no time can another user connect.
fn bind_private(path: &Path) -> io::Result<UnixListener> {
    let aside = aside(path);
    let _ = fs::remove_file(&aside);
    let listener = UnixListener::bind(&aside)?;
    listener.set_nonblocking(true)?;
    fs::set_permissions(&aside, fs::Permissions::from_mode(0o600))?;
    fs::rename(&aside, path)?;
    Ok(listener)
}

fn aside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}", std::process::id()));
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admin(socket: &Path) -> Arc<Admin> {
        let socket = Some(socket.to_owned());
        Arc::new(Admin { address: None, socket, token: None, read_token: None, hosts: Vec::new() })
    }

    #[test]
    fn the_socket_is_private_and_a_stale_one_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        drop(AdminSockets::bind(&admin(&path), None, false).unwrap());
        assert!(path.exists(), "a process that ends leaves its socket behind");

        let sockets = AdminSockets::bind(&admin(&path), None, false).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(UnixStream::connect(&path).is_ok());
        drop(sockets);
    }

    #[test]
    fn a_socket_in_use_and_a_file_in_its_place_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        let _held = AdminSockets::bind(&admin(&path), None, false).unwrap();
        assert!(
            AdminSockets::bind(&admin(&path), None, false)
                .is_err_and(|problem| problem.key == "admin.socket")
        );

        let file = folder.path().join("file");
        fs::write(&file, "precious").unwrap();
        assert!(AdminSockets::bind(&admin(&file), None, false).is_err());
        assert_eq!(fs::read(&file).unwrap(), b"precious");
    }

    #[test]
    fn what_did_not_change_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let settings = admin(&folder.path().join("admin.sock"));
        let _held = AdminSockets::bind(&settings, None, false).unwrap();
        let again = AdminSockets::bind(&settings, Some(&settings), false).unwrap();
        assert!(matches!(again.socket, SocketChange::Keep));
        assert!(matches!(again.tcp, SocketChange::Keep));
    }

    #[test]
    fn a_successor_waits_for_what_its_predecessor_holds() {
        let folder = tempfile::tempdir().unwrap();
        let held = TcpListener::bind("127.0.0.1:0").unwrap();
        let settings = Admin {
            address: Some(held.local_addr().unwrap()),
            socket: Some(folder.path().join("admin.sock")),
            token: None,
            read_token: None,
            hosts: Vec::new(),
        };
        let settings = Arc::new(settings);
        let refused = AdminSockets::bind(&settings, None, false).err().expect("the address is in use");
        assert_eq!(refused.key, "admin.address");
        assert!(refused.hint.unwrap().contains("ss -ltnp"));

        let predecessor = AdminSockets::bind(&admin(&folder.path().join("admin.sock")), None, false).unwrap();
        let successor = AdminSockets::bind(&settings, None, true).unwrap();
        assert_eq!(successor.bound_address(), settings.address);
        let (SocketChange::Await(tcp), SocketChange::Await(socket)) = (successor.tcp, successor.socket)
        else {
            panic!("both are in use");
        };
        assert!((tcp.bind)().is_err() && (socket.bind)().is_err());
        drop((held, predecessor));
        assert_eq!((tcp.bind)().unwrap().local_addr().ok(), settings.address);
        let _socket = (socket.bind)().unwrap();
        UnixStream::connect(folder.path().join("admin.sock")).unwrap();
    }

    #[test]
    fn a_socket_that_could_not_be_bound_is_found_without_binding_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        check(&admin(&path)).unwrap();
        assert!(!path.exists());
        let _held = AdminSockets::bind(&admin(&path), None, false).unwrap();
        check(&admin(&path)).expect("a running gateway holds it");
        fs::write(folder.path().join("file"), "").unwrap();
        for (path, hint) in [
            (folder.path().join("missing/admin.sock"), "create the folder"),
            (folder.path().join("file/admin.sock"), "create the folder"),
            (folder.path().join("file"), "nothing else exists"),
            (folder.path().join("x".repeat(120)), "at most 107 bytes"),
        ] {
            let problem = check(&admin(&path)).expect_err("it could not be bound");
            assert!(problem.hint.as_deref().is_some_and(|told| told.contains(hint)), "{problem:?}");
            assert_eq!(problem.key, "admin.socket");
        }
    }
}
