//! Where the API server is, and as whom it is asked: from the configuration, or from the pod in which the gateway runs.

use std::path::{Path, PathBuf};

use witgate_config::file;
use witgate_config::model::{KubernetesSource, RegistryServers, UpstreamTls};

/// The folder in which a pod finds its service account.
pub(super) const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// The server, the namespace and the token.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ApiAccess {
    pub(super) servers: RegistryServers,
    pub(super) namespace: String,
    pub(super) token_file: Option<PathBuf>,
}

impl ApiAccess {
    /// `variable` reads an environment variable; `account` is the folder of the service account.
    ///
    /// # Errors
    /// Something is neither in the configuration nor given by a pod.
    pub(super) fn of(
        settings: &KubernetesSource,
        variable: &dyn Fn(&str) -> Option<String>,
        account: &Path,
    ) -> Result<ApiAccess, String> {
        let (servers, token_file) = match &settings.servers {
            Some(servers) => (servers.clone(), settings.token_file.clone()),
            None => {
                let token = settings.token_file.clone().unwrap_or_else(|| account.join("token"));
                (of_pod(variable, account)?, Some(token))
            }
        };
        let namespace = match &settings.namespace {
            Some(namespace) => namespace.clone(),
            None => namespace(&account.join("namespace"))?,
        };
        Ok(ApiAccess { servers, namespace, token_file })
    }
}

/// The server of which Kubernetes tells each pod.
fn of_pod(variable: &dyn Fn(&str) -> Option<String>, account: &Path) -> Result<RegistryServers, String> {
    let host = variable("KUBERNETES_SERVICE_HOST").filter(|host| !host.is_empty());
    let port = variable("KUBERNETES_SERVICE_PORT").and_then(|port| port.parse().ok());
    let (Some(host), Some(port)) = (host, port) else {
        return Err("the gateway runs in no pod (`KUBERNETES_SERVICE_HOST` and `KUBERNETES_SERVICE_PORT` are not set): \
                    name the API servers under `servers`"
            .to_owned());
    };
    let tls = UpstreamTls {
        server_name: None,
        ca: Some(account.join("ca.crt")),
        client_certificate: None,
        spiffe_ids: Vec::new(),
        insecure_skip_verify: false,
    };
    let host = host.trim_matches(['[', ']']).to_owned();
    Ok(RegistryServers { servers: vec![(host, port)], tls: Some(tls) })
}

fn namespace(path: &Path) -> Result<String, String> {
    let read = file::read_text(path, file::SECRET);
    let namespace = read.map_err(|_| "the gateway runs in no pod: set `namespace`".to_owned())?;
    let namespace = namespace.trim();
    let letters = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    match !namespace.is_empty() && namespace.bytes().all(letters) {
        true => Ok(namespace.to_owned()),
        false => Err(format!("`{}` holds no namespace", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> KubernetesSource {
        KubernetesSource {
            servers: None,
            service: "users".into(),
            namespace: None,
            port: None,
            zone: None,
            token_file: None,
        }
    }

    #[test]
    fn a_pod_finds_its_server_and_its_account() {
        let account = tempfile::tempdir().unwrap();
        std::fs::write(account.path().join("namespace"), "shop\n").unwrap();
        let variable = |name: &str| match name {
            "KUBERNETES_SERVICE_HOST" => Some("fd00::1".to_owned()),
            "KUBERNETES_SERVICE_PORT" => Some("443".to_owned()),
            _ => None,
        };
        let access = ApiAccess::of(&settings(), &variable, account.path()).unwrap();
        assert_eq!(access.servers.servers, [("fd00::1".to_owned(), 443)]);
        assert_eq!(access.servers.tls.unwrap().ca, Some(account.path().join("ca.crt")));
        assert_eq!(
            (access.namespace.as_str(), access.token_file),
            ("shop", Some(account.path().join("token")))
        );
        let other = KubernetesSource { namespace: Some("other".into()), ..settings() };
        assert_eq!(ApiAccess::of(&other, &variable, account.path()).unwrap().namespace, "other");
    }

    #[test]
    fn what_no_pod_gives_is_told() {
        let account = tempfile::tempdir().unwrap();
        let why = ApiAccess::of(&settings(), &|_| None, account.path()).unwrap_err();
        assert!(why.contains("runs in no pod") && why.contains("`servers`"), "{why}");
        let servers = RegistryServers { servers: vec![("a".into(), 1)], tls: None };
        let outside = KubernetesSource { servers: Some(servers), ..settings() };
        let why = ApiAccess::of(&outside, &|_| None, account.path()).unwrap_err();
        assert!(why.contains("set `namespace`"), "{why}");
        std::fs::write(account.path().join("namespace"), "../x").unwrap();
        assert!(ApiAccess::of(&outside, &|_| None, account.path()).unwrap_err().contains("no namespace"));
        let named = KubernetesSource { namespace: Some("n".into()), ..outside };
        assert_eq!(ApiAccess::of(&named, &|_| None, account.path()).unwrap().token_file, None);
    }
}
