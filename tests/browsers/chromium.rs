//! A real Chromium, driven over its own protocol.

use std::{
    io::{BufRead, BufReader},
    net::{SocketAddr, TcpListener},
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::Duration,
};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async, tungstenite::Message};

use crate::harness::{PATIENCE, Postern, Setup, browser::ISSUER, client, text, upstream::Upstream};

/// A running Chromium with one page; ended when dropped.
struct Chromium {
    child: Child,
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    last: u64,
    _profile: TempDir,
}

impl Chromium {
    /// One that finds these hosts there.
    async fn start(places: &[(&str, SocketAddr)]) -> Self {
        let profile = tempfile::tempdir().unwrap();
        let rules = places.iter().map(|(host, at)| format!("MAP {host} {at}"));
        let mut child = Command::new("chromium")
            .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run"])
            .args(["--disable-dev-shm-usage", "--remote-debugging-port=0", "--no-proxy-server"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg(format!("--host-resolver-rules={}", rules.collect::<Vec<_>>().join(", ")))
            .arg("about:blank")
            .env("HOME", profile.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("Chromium is installed by `tools/setup.sh test`");
        let (found, is_found) = mpsc::channel();
        let stderr = child.stderr.take().unwrap();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if let Some(at) = line.strip_prefix("DevTools listening on ws://") {
                    let _ = found.send(at.split('/').next().unwrap().to_owned());
                }
            }
        });
        let at = tokio::task::spawn_blocking(move || is_found.recv_timeout(PATIENCE));
        let at = at.await.unwrap().expect("Chromium did not start");
        let pages = client().get(format!("http://{at}/json/list")).send().await.unwrap();
        let pages: Value = pages.json().await.unwrap();
        let page = pages.as_array().unwrap().iter().find(|page| page["type"] == "page").unwrap();
        let (socket, _) = connect_async(text(page, "webSocketDebuggerUrl")).await.unwrap();
        Self { child, socket, last: 0, _profile: profile }
    }

    async fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.last += 1;
        let call = json!({"id": self.last, "method": method, "params": parameters});
        self.socket.send(Message::text(call.to_string())).await.unwrap();
        loop {
            let said = tokio::time::timeout(PATIENCE, self.socket.next()).await.unwrap().unwrap();
            let said: Value = serde_json::from_str(said.unwrap().to_text().unwrap()).unwrap();
            if said["id"] == self.last {
                return said["result"].clone();
            }
        }
    }

    /// The value of an expression in the page.
    async fn value(&mut self, expression: &str) -> Value {
        let parameters =
            json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        self.call("Runtime.evaluate", parameters).await["result"]["value"].clone()
    }

    /// Wait until the page is loaded and that holds in it.
    async fn until(&mut self, expression: &str) {
        let deadline = std::time::Instant::now() + PATIENCE;
        let holds = format!("document.readyState === 'complete' && Boolean({expression})");
        while self.value(&holds).await != true {
            let page = "location.href + ' ' + document.documentElement.innerText";
            assert!(
                std::time::Instant::now() < deadline,
                "never {expression}: {}",
                self.value(page).await
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn open(&mut self, url: &str) {
        self.call("Page.navigate", json!({ "url": url })).await;
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn a_real_browser_signs_in_keeps_its_session_and_signs_out() {
    let upstream = Upstream::start().await;
    let first = Postern::with("").await;
    let admin = first.admin().await;
    // Plain http on this machine, for which browsers keep `__Host-` cookies. Any free port will do: it
    // is a name, and not where anybody listens.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let origin = format!("http://localhost:{port}");
    let body = json!({
        "name": "Ledger", "description": "people", "public": true,
        "redirectUris": [format!("{origin}/.postern/callback")],
        "grantTypes": ["authorization_code", "refresh_token"],
    });
    let path = "/v1/applications";
    let app = first.manage(&admin, reqwest::Method::POST, path, Some(body), 201).await;
    let setup = Setup {
        config: format!(
            "[proxy]\nsign_in.keys = ['{}']\n[[product]]\nname = 'midaz'\nupstream = 'http://{}'\n\
             [product.sign_in]\norigins = ['{origin}']\nclient_id = '{}'\n",
            super::key(),
            upstream.address,
            text(&app, "clientId"),
        ),
        data: Some(first.data.clone()),
        password: Some(first.password.clone()),
        client_secret: Some(first.client_secret.clone()),
        ..Setup::default()
    };
    drop(first);
    let postern = Postern::set_up(setup).await;
    let issuer = ISSUER.strip_prefix("http://").unwrap();
    let product = origin.strip_prefix("http://").unwrap();
    let mut chromium =
        Chromium::start(&[(issuer, postern.doors), (product, postern.gateway)]).await;

    let wanted = format!("{origin}/v1/organizations?limit=1");
    chromium.open(&wanted).await;
    chromium.until("document.querySelector('input[name=password]')").await;
    let password = json!(postern.password);
    chromium
        .value(&format!(
            "document.querySelector('input[name=username]').value = 'admin';\
             document.querySelector('input[name=password]').value = {password};\
             document.querySelector('form[action=\"/oauth2/sign-in\"] button').click()"
        ))
        .await;
    chromium.until(&format!("location.href === '{wanted}'")).await;
    let shown = chromium.value("document.documentElement.innerText").await;
    assert!(shown.as_str().unwrap().contains("\"x-postern-name\":[\"admin\"]"), "{shown}");
    assert_eq!(chromium.value("document.cookie").await, "", "no script reads the session");

    // The product's own page may change things, with what the browser itself says of it.
    let posted = "fetch('/v1/organizations', {method: 'POST', body: 'a=b'}).then(r => r.status)";
    assert_eq!(chromium.value(posted).await, 200);
    let refreshed = "fetch('/.postern/refresh', {method: 'POST'}).then(r => r.json())";
    assert!(chromium.value(refreshed).await["expiresIn"].as_u64().unwrap() > 3000);
    // Another site's page may not: its form arrives, its cookie or not.
    let before = upstream.seen();
    let form = format!(
        "data:text/html,<form method=post action='{origin}/v1/organizations'><input name=a></form>\
         <script>document.forms[0].submit()</script>"
    );
    chromium.open(&form).await;
    chromium.until("location.protocol === 'http:'").await;
    let shown = chromium.value("document.documentElement.innerText").await;
    let shown = shown.as_str().unwrap();
    assert!(shown.contains("AUT-0006") || shown.contains("PST-0020"), "{shown}");
    assert_eq!(upstream.seen(), before);

    chromium.open(&wanted).await;
    chromium.until(&format!("location.href === '{wanted}'")).await;
    chromium.open(&format!("{origin}/.postern/sign-out")).await;
    chromium.until("location.pathname === '/oauth2/logout'").await;
    let asked = "document.querySelector('form').requestSubmit()";
    chromium.value(asked).await;
    chromium.until("!document.querySelector('form')").await;
    chromium.open(&wanted).await;
    chromium.until("document.querySelector('input[name=password]')").await;
}
