//! A real Chromium without a window, spoken to in the `DevTools` protocol, with a virtual authenticator.

use std::{
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    process::{Child, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::PATIENCE;

/// Commands go in by one pipe and answers come out by the other, each ended by a zero.
pub struct Chromium {
    child: Child,
    from: BufReader<ChildStdout>,
    page: String,
    asked: u64,
    _profile: TempDir,
}

impl Chromium {
    /// One for which `name` (a host and a port) is at that address.
    pub fn start(name: &str, at: SocketAddr) -> Self {
        let profile = tempfile::tempdir().unwrap();
        let chromium = "exec chromium --headless=new --no-sandbox --disable-gpu --no-first-run \
                        --disable-dev-shm-usage --remote-debugging-pipe --no-proxy-server \
                        --user-data-dir=\"$1\" --host-resolver-rules=\"$2\" about:blank \
                        3<&0 4>&1 </dev/null >/dev/null";
        let child = Command::new("sh")
            .args(["-c", chromium, "sh"])
            .arg(profile.path())
            .arg(format!("MAP {name} {at}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let mut child = child.unwrap();
        let from = BufReader::new(child.stdout.take().unwrap());
        let mut browser = Self { child, from, page: String::new(), asked: 0, _profile: profile };
        let made = browser.call("Target.createTarget", &json!({"url": "about:blank"}));
        let to = json!({"targetId": made["targetId"], "flatten": true});
        let attached = browser.call("Target.attachToTarget", &to);
        attached["sessionId"].as_str().unwrap().clone_into(&mut browser.page);
        browser.call("WebAuthn.enable", &json!({}));
        let authenticator = json!({"options": {
            "protocol": "ctap2", "transport": "internal", "hasResidentKey": true,
            "hasUserVerification": true, "isUserVerified": true, "automaticPresenceSimulation": true,
        }});
        browser.call("WebAuthn.addVirtualAuthenticator", &authenticator);
        browser
    }

    /// Give a command; its result.
    pub fn call(&mut self, method: &str, parameters: &Value) -> Value {
        let said = self.say(method, parameters);
        assert!(said.get("error").is_none(), "{method}: {said}");
        said["result"].clone()
    }

    fn say(&mut self, method: &str, parameters: &Value) -> Value {
        self.asked += 1;
        let mut order = json!({"id": self.asked, "method": method, "params": parameters});
        if !self.page.is_empty() {
            order["sessionId"] = self.page.as_str().into();
        }
        let to = self.child.stdin.as_mut().unwrap();
        to.write_all(format!("{order}\0").as_bytes()).unwrap();
        to.flush().unwrap();
        loop {
            let mut said = Vec::new();
            self.from.read_until(0, &mut said).unwrap();
            assert_eq!(said.pop(), Some(0), "the browser is gone");
            let said: Value = serde_json::from_slice(&said).unwrap();
            if said["id"] == self.asked {
                return said;
            }
        }
    }

    /// Go somewhere.
    pub fn open(&mut self, url: &str) {
        let gone = self.call("Page.navigate", &json!({"url": url}));
        assert!(gone.get("errorText").is_none(), "{url}: {gone}");
        self.until("document.readyState === 'complete'");
    }

    /// What an expression is in the page; nothing while it goes from one to the next.
    fn value(&mut self, expression: &str) -> Value {
        let how = json!({"expression": expression, "returnByValue": true});
        self.say("Runtime.evaluate", &how)["result"]["result"]["value"].clone()
    }

    /// Wait until that is so in the page.
    pub fn until(&mut self, so: &str) {
        let deadline = Instant::now() + PATIENCE;
        while self.value(so) != true {
            if Instant::now() > deadline {
                let page = self.value("location.href + '\\n' + document.documentElement.outerHTML");
                panic!("it never came to `{so}`: {}", page.as_str().unwrap_or_default());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Write into a field of the page.
    pub fn write(&mut self, field: &str, text: &str) {
        self.until(&format!("(document.querySelector('{field}').value = {}, true)", json!(text)));
    }

    /// Press something, which must be there to be seen.
    pub fn press(&mut self, button: &str) {
        self.until(&format!("document.querySelector('{button}').checkVisibility()"));
        self.until(&format!("(document.querySelector('{button}').click(), true)"));
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
