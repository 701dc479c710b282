//! Real servers on free ports, with the examples' configurations, in front of an unmodified product.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;

use super::{PATIENCE, Postern};

/// A server that asks at a door.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Nginx,
    /// With people who sign in.
    NginxSignIn,
    Caddy,
    Haproxy,
    Envoy,
    EnvoyGrpc,
    /// Only where its binary is on the machine: no registry that the tests use has it.
    Traefik,
}

/// The ports in the examples, which a test replaces by its own.
const FRONT: &str = "8088";
const PRODUCT: &str = "3000";
const DOORS: &str = "4000";
const EXT_AUTHZ: &str = "9191";

impl Kind {
    /// Whether it can be started here.
    pub fn is_here(self) -> bool {
        self != Self::Traefik
            || Command::new("traefik")
                .arg("version")
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .is_ok_and(|status| status.success())
    }

    /// The folder in `examples`, and the file in it that the server reads.
    fn example(self) -> (&'static str, &'static str) {
        match self {
            Self::Nginx => ("nginx", "nginx.conf"),
            Self::NginxSignIn => ("nginx", "sign-in.conf"),
            Self::Caddy => ("caddy", "Caddyfile"),
            Self::Haproxy => ("haproxy", "haproxy.cfg"),
            Self::Envoy => ("envoy", "http.yaml"),
            Self::EnvoyGrpc => ("envoy", "grpc.yaml"),
            Self::Traefik => ("traefik", "traefik.yml"),
        }
    }

    /// The port of Postern's that it asks.
    fn asks(self) -> &'static str {
        if self == Self::EnvoyGrpc { EXT_AUTHZ } else { DOORS }
    }

    /// The command that runs it in the foreground, in the folder of its configuration.
    fn command(self) -> Command {
        let installed = root().join("target/servers/bin");
        let envoy = |file| -> (PathBuf, Vec<&str>) {
            let arguments = vec!["-c", file, "--disable-hot-restart", "--concurrency", "1"];
            (installed.join("envoy"), arguments)
        };
        let (program, arguments) = match self {
            Self::Nginx | Self::NginxSignIn => {
                let (_, file) = self.example();
                ("nginx".into(), vec!["-p", ".", "-c", file, "-g", "daemon off;"])
            }
            Self::Caddy => (installed.join("caddy"), vec!["run", "--config", "Caddyfile"]),
            Self::Haproxy => ("haproxy".into(), vec!["-db", "-f", "haproxy.cfg"]),
            Self::Envoy => envoy("http.yaml"),
            Self::EnvoyGrpc => envoy("grpc.yaml"),
            Self::Traefik => ("traefik".into(), vec!["--configFile=traefik.yml"]),
        };
        let mut command = Command::new(program);
        command.args(arguments);
        command
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A running server; ended when dropped.
#[derive(Debug)]
pub struct Front {
    child: Child,
    pub kind: Kind,
    pub address: SocketAddr,
    folder: TempDir,
}

impl Front {
    /// In front of that product, asking that Postern.
    pub async fn start(kind: Kind, postern: &Postern, product: SocketAddr) -> Self {
        Self::edited(kind, postern, product, |text| text).await
    }

    /// With the example's files as somebody has changed them.
    pub async fn edited(
        kind: Kind,
        postern: &Postern,
        product: SocketAddr,
        edit: impl Fn(String) -> String,
    ) -> Self {
        let asked = if kind == Kind::EnvoyGrpc { postern.ext_authz } else { postern.doors };
        // A port that was free a moment ago may be taken by now; then another one is tried.
        for _ in 0..10 {
            if let Some(front) = Self::attempt(kind, asked, product, &edit).await {
                return front;
            }
        }
        panic!("{kind:?} did not start");
    }

    async fn attempt(
        kind: Kind,
        asked: SocketAddr,
        product: SocketAddr,
        edit: &impl Fn(String) -> String,
    ) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let (example, _) = kind.example();
        let ports = [(FRONT, address), (PRODUCT, product), (kind.asks(), asked)];
        let mut met = Vec::new();
        for entry in fs::read_dir(root().join("examples").join(example)).unwrap() {
            let entry = entry.unwrap();
            if !entry.file_type().unwrap().is_file() {
                continue;
            }
            let mut text = edit(fs::read_to_string(entry.path()).unwrap());
            // nginx's example brings a product of its own, on the address that its upstream names.
            let unused = format!("listen unix:{}", folder.path().join("product.sock").display());
            text = text.replace(&format!("listen 127.0.0.1:{PRODUCT}"), &unused);
            for (port, own) in ports {
                if text.contains(port) {
                    met.push(port);
                }
                // Marked until all are replaced: one's own port may be another's in the example.
                let marked =
                    own.port().to_string().chars().flat_map(|c| [c, '\0']).collect::<String>();
                text = text.replace(port, &marked);
            }
            fs::write(folder.path().join(entry.file_name()), text.replace('\0', "")).unwrap();
        }
        for (port, _) in ports {
            assert!(met.contains(&port), "the example has no {port} any more");
        }
        for name in ["data", "logs"] {
            let _ = fs::create_dir(folder.path().join(name));
        }
        let mut child = kind
            .command()
            .current_dir(folder.path())
            .env("HOME", folder.path())
            .stdin(Stdio::null())
            .stdout(fs::File::create(folder.path().join("stdout")).unwrap())
            .stderr(fs::File::create(folder.path().join("stderr")).unwrap())
            .spawn()
            .unwrap_or_else(|error| panic!("{kind:?} is installed by `make test`: {error}"));
        let told = || fs::read_to_string(folder.path().join("stderr")).unwrap_or_default();
        let deadline = std::time::Instant::now() + PATIENCE;
        loop {
            if let Some(ended) = child.try_wait().unwrap() {
                let (told, text) = (told(), "address already in use");
                assert!(told.to_lowercase().contains(text), "{kind:?}: {ended}: {told}");
                return None;
            }
            if tokio::net::TcpStream::connect(address).await.is_ok() {
                return Some(Self { child, kind, address, folder });
            }
            assert!(std::time::Instant::now() < deadline, "{kind:?} does not listen: {}", told());
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }

    /// Wait until its log, on its standard output, holds that text.
    pub async fn logged(&self, text: &str) -> String {
        let deadline = std::time::Instant::now() + PATIENCE;
        loop {
            let log = fs::read_to_string(self.folder.path().join("stdout")).unwrap_or_default();
            if let Some(line) = log.lines().find(|line| line.contains(text)) {
                return line.to_owned();
            }
            assert!(std::time::Instant::now() < deadline, "`{text}` was never logged: {log}");
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }

    /// What it has said so far, for a test that fails.
    pub fn told(&self) -> String {
        fs::read_to_string(self.folder.path().join("stderr")).unwrap_or_default()
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        if matches!(self.kind, Kind::Nginx | Kind::NginxSignIn) {
            // Its workers end with it when it is told to quit, and not when it is killed.
            let id = self.child.id().to_string();
            let _ = Command::new("kill").args(["-TERM", &id]).status();
        } else {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}
