//! The sockets of the admin listener. The control plane binds them before it puts a change in service, so that an
//! address that cannot be bound refuses the whole change.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use witgate_config::Problem;
use witgate_config::model::Admin;

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
}

impl AdminSockets {
    /// Binds the sockets that differ from the settings in service.
    ///
    /// # Errors
    /// An address or a path that cannot be bound.
    pub(crate) fn bind(admin: &Arc<Admin>, in_force: Option<&Admin>) -> Result<AdminSockets, Problem> {
        let tcp = change(admin.address, in_force.map(|admin| admin.address), |address| bind_tcp(*address))?;
        let socket = change(admin.socket.clone(), in_force.map(|admin| admin.socket.clone()), |path| {
            bind_socket(path)
        })?;
        Ok(AdminSockets { admin: admin.clone(), tcp, socket })
    }

    /// The address of the TCP listener, if one was bound by this call.
    pub(crate) fn bound_address(&self) -> Option<SocketAddr> {
        match &self.tcp {
            SocketChange::Open(listener) => listener.local_addr().ok(),
            SocketChange::Keep | SocketChange::Close => None,
        }
    }
}

fn change<P: PartialEq, L>(
    wanted: Option<P>,
    in_force: Option<Option<P>>,
    bind: impl FnOnce(&P) -> Result<L, Problem>,
) -> Result<SocketChange<L>, Problem> {
    match (wanted, in_force) {
        (wanted, Some(in_force)) if wanted == in_force => Ok(SocketChange::Keep),
        (None, _) => Ok(SocketChange::Close),
        (Some(place), _) => bind(&place).map(SocketChange::Open),
    }
}

fn bind_tcp(address: SocketAddr) -> Result<TcpListener, Problem> {
    let bind = || -> io::Result<TcpListener> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    bind().map_err(|error| {
        problem("admin.address", format!("the admin address {address} cannot be bound: {error}"))
    })
}

fn bind_socket(path: &Path) -> Result<UnixListener, Problem> {
    refuse_foreign(path).and_then(|()| bind_private(path)).map_err(|error| {
        problem("admin.socket", format!("the admin socket {} cannot be bound: {error}", path.display()))
    })
}

/// Refuses a path if a process listens on its socket.
fn refuse_foreign(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            Err(io::Error::other("the path exists and is not a socket"))
        }
        Ok(_) if UnixStream::connect(path).is_ok() => Err(io::Error::from(io::ErrorKind::AddrInUse)),
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

fn problem(key: &str, message: String) -> Problem {
    Problem { message, key: key.to_owned(), ..Problem::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admin(socket: &Path) -> Arc<Admin> {
        let socket = Some(socket.to_owned());
        Arc::new(Admin { address: None, socket, token: None, hosts: Vec::new() })
    }

    #[test]
    fn the_socket_is_private_and_a_stale_one_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        drop(AdminSockets::bind(&admin(&path), None).unwrap());
        assert!(path.exists(), "a process that ends leaves its socket behind");

        let sockets = AdminSockets::bind(&admin(&path), None).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(UnixStream::connect(&path).is_ok());
        drop(sockets);
    }

    #[test]
    fn a_socket_in_use_and_a_file_in_its_place_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        let _held = AdminSockets::bind(&admin(&path), None).unwrap();
        assert!(AdminSockets::bind(&admin(&path), None).is_err_and(|problem| problem.key == "admin.socket"));

        let file = folder.path().join("file");
        fs::write(&file, "precious").unwrap();
        assert!(AdminSockets::bind(&admin(&file), None).is_err());
        assert_eq!(fs::read(&file).unwrap(), b"precious");
    }

    #[test]
    fn what_did_not_change_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let settings = admin(&folder.path().join("admin.sock"));
        let _held = AdminSockets::bind(&settings, None).unwrap();
        let again = AdminSockets::bind(&settings, Some(&settings)).unwrap();
        assert!(matches!(again.socket, SocketChange::Keep));
        assert!(matches!(again.tcp, SocketChange::Keep));
    }
}
