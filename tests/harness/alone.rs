//! `postern proxy` on free ports: the enforcement side without an identity service.

use std::{
    net::SocketAddr,
    process::{Child, Command, ExitStatus, Stdio},
};

use tempfile::TempDir;

use super::{Log, PATIENCE, listen};

/// A running proxy; ended when dropped.
#[derive(Debug)]
pub struct Alone {
    child: Child,
    pub doors: SocketAddr,
    pub gateway: SocketAddr,
    pub health: SocketAddr,
    pub log: Log,
    folder: TempDir,
}

/// The command that starts it on free ports, and nothing else of this environment's `POSTERN_`
/// variables.
pub fn command(folder: &TempDir, config: &str, arguments: &[&str]) -> Command {
    let file = folder.path().join("postern.toml");
    std::fs::write(&file, config).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_postern"));
    command.arg("proxy").arg("--config").arg(&file).args(arguments).env_clear();
    for key in ["LISTEN", "GATEWAY", "EXT_AUTHZ", "HEALTH"] {
        command.env(format!("POSTERN_PROXY_{key}"), "127.0.0.1:0");
    }
    command.env("POSTERN_LOG_FORMAT", "json");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

impl Alone {
    /// Start it, and wait until it decides.
    pub async fn start(config: &str, arguments: &[&str]) -> Self {
        Self::start_in(config, arguments, &[]).await
    }

    /// The same, with more in its environment.
    pub async fn start_in(config: &str, arguments: &[&str], more: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command = command(&folder, config, arguments);
        let mut child = command.envs(more.iter().copied()).spawn().unwrap();
        let (log, ready) = listen(&mut child);
        let heard = tokio::task::spawn_blocking(move || ready.recv_timeout(PATIENCE)).await;
        let Ok(record) = heard.unwrap() else {
            let _ = child.kill();
            panic!("the proxy did not start:\n{}", log.text());
        };
        let address = |name: &str| record[name].as_str().unwrap().parse().unwrap();
        let (doors, gateway, health) = (address("doors"), address("gateway"), address("health"));
        Self { child, doors, gateway, health, log, folder }
    }

    /// The process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Leave a configuration behind for whoever is started next.
    pub fn spoil(&self, config: &str) {
        std::fs::write(self.folder.path().join("postern.toml"), config).unwrap();
    }

    /// Wait until it has ended.
    pub async fn ended(&mut self) -> ExitStatus {
        let deadline = std::time::Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(std::time::Instant::now() < deadline, "it goes on:\n{}", self.log.text());
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }

    /// Wait until a line of the log holds that text.
    pub async fn logged(&self, text: &str) -> String {
        self.log.line(text).await
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
