//! A real nginx on a free port, with the example's configuration, in front of an unmodified product.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::Path,
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;

use super::PATIENCE;

/// A running nginx; ended when dropped.
#[derive(Debug)]
pub struct Nginx {
    child: Child,
    pub address: SocketAddr,
    _folder: TempDir,
}

/// The addresses in `examples/nginx/nginx.conf`, which a test replaces by its own.
const FRONT: &str = "127.0.0.1:8088";
const PRODUCT: &str = "127.0.0.1:3000";
const POSTERN: &str = "127.0.0.1:4000";

impl Nginx {
    /// In front of that product, asking that Postern.
    pub async fn start(postern: SocketAddr, product: SocketAddr) -> Self {
        // A port that was free a moment ago may be taken by now; then another one is tried.
        for _ in 0..10 {
            if let Some(nginx) = Self::attempt(postern, product).await {
                return nginx;
            }
        }
        panic!("nginx did not start");
    }

    async fn attempt(postern: SocketAddr, product: SocketAddr) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/nginx/nginx.conf");
        let example = fs::read_to_string(example).unwrap();
        for text in [FRONT, PRODUCT, POSTERN] {
            assert!(example.contains(text), "the example has no {text} any more");
        }
        // The example brings a product of its own, on the address that its upstream names.
        let unused = format!("listen unix:{}", folder.path().join("product.sock").display());
        let config = example
            .replace(&format!("listen {PRODUCT}"), &unused)
            .replace(FRONT, &address.to_string())
            .replace(PRODUCT, &product.to_string())
            .replace(POSTERN, &postern.to_string());
        fs::write(folder.path().join("nginx.conf"), config).unwrap();
        for name in ["data", "logs"] {
            let _ = fs::create_dir(folder.path().join(name));
        }
        let mut child = Command::new("nginx")
            .args([
                "-p",
                &folder.path().display().to_string(),
                "-c",
                "nginx.conf",
                "-g",
                "daemon off;",
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(folder.path().join("stderr")).unwrap())
            .spawn()
            .expect("nginx is installed by `make test`");
        let deadline = std::time::Instant::now() + PATIENCE;
        loop {
            if tokio::net::TcpStream::connect(address).await.is_ok() {
                return Some(Self { child, address, _folder: folder });
            }
            if child.try_wait().unwrap().is_some() {
                let told = fs::read_to_string(folder.path().join("stderr")).unwrap_or_default();
                assert!(told.contains("Address already in use"), "nginx: {told}");
                return None;
            }
            assert!(std::time::Instant::now() < deadline, "nginx does not listen");
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Its workers end with it when it is told to quit, and not when it is killed.
        let id = self.child.id().to_string();
        let _ = Command::new("kill").args(["-TERM", &id]).status();
        let _ = self.child.wait();
    }
}
