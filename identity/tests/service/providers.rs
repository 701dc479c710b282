//! Providers, the applications that use them, and codes on their way through real sockets.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use identity::Config;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpListener,
    sync::mpsc,
};

use super::{
    factors::{challenged, step},
    harness::{PASSWORD, Service, access, claims},
    tenants::part,
};

/// What a mail server that is down tells of.
pub const TURNED_AWAY: &str = "somebody was turned away";

/// A server that takes whatever comes: the port, and what it was told.
pub struct Sink {
    port: u16,
    pub told: mpsc::UnboundedReceiver<String>,
    down: Arc<AtomicBool>,
}

impl Sink {
    /// Whether it is down from now on, and tells of whoever comes that they were turned away. Only mail
    /// servers ever are.
    pub fn is_down(&self, down: bool) {
        self.down.store(down, Ordering::Release);
    }

    /// A mail server: what it is told is each letter.
    pub async fn smtp() -> Self {
        let down = Arc::new(AtomicBool::new(false));
        let now = Arc::clone(&down);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (tell, told) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let tell = tell.clone();
                let down = now.load(Ordering::Acquire);
                tokio::spawn(async move {
                    let mut stream = BufReader::new(stream);
                    if down {
                        let _ = stream.write_all(b"421 down\r\n").await;
                        return tell.send(TURNED_AWAY.to_owned()).unwrap_or_default();
                    }
                    stream.write_all(b"220 sink\r\n").await.unwrap();
                    let (mut line, mut letter) = (String::new(), None::<String>);
                    while stream.read_line(&mut line).await.unwrap_or(0) > 0 {
                        let said = std::mem::take(&mut line);
                        let answer = match (&mut letter, said.as_str()) {
                            (Some(text), ".\r\n") => {
                                tell.send(std::mem::take(text)).unwrap();
                                letter = None;
                                "250 taken\r\n"
                            }
                            (Some(text), more) => {
                                text.push_str(more);
                                continue;
                            }
                            (None, "DATA\r\n") => {
                                letter = Some(String::new());
                                "354 go on\r\n"
                            }
                            (None, hello) if hello.starts_with("EHLO") => {
                                "250-sink\r\n250 AUTH PLAIN LOGIN\r\n"
                            }
                            (None, auth) if auth.starts_with("AUTH") => "235 fine\r\n",
                            _ => "250 fine\r\n",
                        };
                        if stream.write_all(answer.as_bytes()).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Self { port, told, down }
    }

    /// A gateway: what it is told is each request, head and body; it answers with `status`.
    pub async fn http(status: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (tell, told) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut bytes = Vec::new();
                let whole = loop {
                    let mut more = [0; 4096];
                    let read = stream.read(&mut more).await.unwrap();
                    bytes.extend_from_slice(&more[..read]);
                    let text = String::from_utf8_lossy(&bytes).into_owned();
                    let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
                    let length = head.to_ascii_lowercase();
                    let length = length.split("content-length: ").nth(1).unwrap_or("0");
                    let length: usize = length.split("\r\n").next().unwrap().parse().unwrap();
                    if body.len() >= length || read == 0 {
                        break text;
                    }
                };
                tell.send(whole).unwrap();
                let answer = format!(
                    "HTTP/1.1 {status}\r\nlocation: http://127.0.0.1:{port}/x\r\n\
                     content-length: 0\r\nconnection: close\r\n\r\n"
                );
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        Self { port, told, down: Arc::default() }
    }

    pub async fn next(&mut self) -> String {
        self.told.recv().await.unwrap()
    }

    /// That it was told nothing more.
    pub fn heard_all(&mut self) {
        assert!(self.told.try_recv().is_err());
    }

    pub fn at(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }
}

/// A service that may send to this machine.
pub async fn open() -> Service {
    let outbound_networks = serde_json::from_value(json!(["127.0.0.0/8"])).unwrap();
    Service::start_with(Config { outbound_networks, ..Config::default() }).await
}

/// The first eight digits in a row.
pub fn code(text: &str) -> String {
    let found = text.split(|c: char| !c.is_ascii_digit()).find(|digits| digits.len() == 8);
    found.unwrap_or_else(|| panic!("no code in {text}")).to_owned()
}

/// The default application, and a provider that it uses.
async fn provided(service: &Service, admin: &str, body: Value) -> (String, String) {
    let made = service.post("/v1/providers", admin, body).await.expect(201);
    let apps = service.get("/v1/applications", admin).await.expect(200);
    let app = apps[0]["id"].as_str().unwrap().to_owned();
    let id = made["id"].as_str().unwrap().to_owned();
    let path = format!("/v1/applications/{app}/providers");
    service.post(&path, admin, json!({"providerId": id})).await.expect(201);
    (app, id)
}

pub fn smtp(sink: &Sink) -> Value {
    json!({
        "name": "mail", "category": "Email", "type": "SMTP", "host": "127.0.0.1",
        "port": sink.port, "disableSsl": true, "clientId": "postern@example.com",
        "clientSecret": "canary-of-the-mail-server", "title": "Code", "content": "It is %s.",
    })
}

/// Set a factor up whose codes are sent.
pub async fn enrol_sent(service: &Service, id: &str, token: &str, body: Value, sink: &mut Sink) {
    let at = |step: &str| format!("/v1/users/{id}/mfa/{step}");
    let kind = body["mfaType"].clone();
    let made = service.post(&at("setup"), token, body).await.expect(200);
    assert!(made.get("secret").is_none() && made["recoveryCodes"][9].is_string(), "{made}");
    let wrong = json!({"mfaType": kind, "passcode": "00000000"});
    service.post(&at("verify"), token, wrong).await.refused(400, "IDE-0007");
    let body = json!({"mfaType": kind, "passcode": code(&sink.next().await), "countryCode": "BR"});
    service.post(&at("verify"), token, body).await.expect(200);
    let body = json!({"mfaType": kind, "recoveryCode": made["recoveryCodes"][0]});
    service.post(&at("enable"), token, body).await.expect(200);
}

#[tokio::test]
async fn providers_are_made_changed_linked_and_removed_and_their_secrets_never_told() {
    let service = Service::start().await;
    let admin = service.admin().await;
    let body = json!({
        "name": "sms", "category": "SMS", "type": "Twilio", "clientId": "AC1",
        "clientSecret": "canary-1", "clientSecret2": "canary-2", "appId": "+15550100",
    });
    let made = service.post("/v1/providers", &admin, body).await.expect(201);
    let id = made["id"].as_str().unwrap();
    assert_eq!((&made["disableSsl"], made.get("host")), (&json!(false), None));
    let path = format!("/v1/providers/{id}");
    let changed = json!({"name": "text", "regionId": "x", "port": 25});
    let changed = service.patch(&path, &admin, changed).await.expect(200);
    assert_eq!(
        (&changed["name"], &changed["port"], &changed["clientId"]),
        (&json!("text"), &json!(25), &json!("AC1"))
    );
    assert_eq!(service.get(&path, &admin).await.expect(200), changed);
    let all = service.get("/v1/providers", &admin).await.expect(200);
    assert_eq!(all, json!([changed]));
    assert!(!format!("{made}{changed}{all}").contains("canary"), "a secret is told");
    let dump = "SELECT COUNT(*) FROM providers WHERE details LIKE '%canary%'";
    assert_eq!(service.database().await.number(dump).await, 0);
    for (body, status, code) in [
        (json!({"name": "x", "category": "SMS"}), 400, "IDE-0001"),
        (json!({"name": "x", "category": "Pigeon", "type": "Twilio"}), 400, "IDE-0007"),
        (json!({"name": "x", "category": "SMS", "type": "SMTP"}), 400, "IDE-0007"),
        (
            json!({"name": "x", "category": "SMS", "type": "Twilio", "isAdmin": true}),
            400,
            "IDE-0004",
        ),
        (
            json!({"name": "x", "category": "SMS", "type": "Twilio", "port": 70_000}),
            400,
            "IDE-0007",
        ),
        (
            json!({"name": "x", "category": "SMS", "type": "HTTP", "method": "TRACE"}),
            400,
            "IDE-0007",
        ),
        (
            json!({"name": "x", "category": "SMS", "type": "HTTP", "headers": ["a b"]}),
            400,
            "IDE-0007",
        ),
        (
            json!({"name": "x", "category": "SMS", "type": "HTTP", "endpoint": "file:///etc/passwd"}),
            400,
            "IDE-0007",
        ),
        (
            json!({"name": "x", "category": "SMS", "type": "HTTP", "endpoint": "http://127.0.0.1/"}),
            400,
            "IDE-0007",
        ),
        (
            json!({"name": "x", "category": "SMS", "type": "HTTP", "endpoint": "http://[::ffff:10.0.0.1]/"}),
            400,
            "IDE-0007",
        ),
        (
            json!({"name": "x", "category": "SMS", "type": "HTTP", "endpoint": "http://169.254.169.254/"}),
            400,
            "IDE-0007",
        ),
        (
            json!({"name": "x", "category": "SMS", "type": "HTTP", "endpoint": "http://0x7f.1/"}),
            400,
            "IDE-0007",
        ),
    ] {
        service.post("/v1/providers", &admin, body).await.refused(status, code);
    }
    let kind = json!({"type": "HTTP"});
    service.patch(&path, &admin, kind).await.refused(400, "IDE-0011");
    service.delete(&path, &admin).await.expect(204);
    service.get(&path, &admin).await.refused(404, "IDE-1012");
}

#[tokio::test]
async fn an_application_uses_providers_of_its_own_organization_until_they_are_gone() {
    let service = Service::start().await;
    let admin = service.admin().await;
    let body = json!({"name": "sms", "category": "SMS", "type": "Twilio", "clientId": "AC1"});
    let made = service.post("/v1/providers", &admin, body).await.expect(201);
    let id = made["id"].as_str().unwrap();
    let path = format!("/v1/providers/{id}");
    let apps = service.get("/v1/applications", &admin).await.expect(200);
    let app = apps[0]["id"].as_str().unwrap();
    let links = format!("/v1/applications/{app}/providers");
    let link = service.post(&links, &admin, json!({"providerId": id, "prompted": true})).await;
    let link = link.expect(201);
    assert_eq!(
        link,
        json!({
            "providerId": id, "category": "SMS", "type": "Twilio", "canSignIn": true, "canSignUp": true,
            "canUnlink": false, "prompted": true, "alertType": "", "rule": "", "isDefault": false,
        })
    );
    service.post(&links, &admin, json!({"providerId": id})).await.refused(409, "IDE-9012");
    let one = format!("{links}/{id}");
    let relinked = service.patch(&one, &admin, json!({"rule": "all"})).await.expect(200);
    assert_eq!((&relinked["rule"], &relinked["prompted"]), (&json!("all"), &json!(true)));
    let chosen = service.patch(&format!("{one}/default"), &admin, json!({})).await.expect(200);
    assert_eq!(chosen["isDefault"], true);
    assert_eq!(service.get(&links, &admin).await.expect(200), json!([chosen]));

    // Another organization's are not there.
    let eve = service.person(&admin, "eve", &["admin-group"]).await;
    let body = json!({"name": "demo", "description": "of acme"});
    let theirs = service.post("/v1/applications", &admin, body).await.expect(201);
    part(&service, &eve, theirs["id"].as_str().unwrap()).await;
    let grant = json!({
        "grantType": "password", "username": "eve", "password": PASSWORD,
        "clientId": theirs["clientId"], "clientSecret": theirs["clientSecret"],
    });
    let stranger = access(&service.token(grant).await.expect(200));
    assert_eq!(service.get("/v1/providers", &stranger).await.expect(200), json!([]));
    service.get(&path, &stranger).await.refused(404, "IDE-1012");
    service.patch(&path, &stranger, json!({"name": "x"})).await.refused(404, "IDE-1012");
    service.delete(&path, &stranger).await.refused(404, "IDE-1012");
    service.get(&links, &stranger).await.refused(404, "IDE-1001");
    let own = format!("/v1/applications/{}/providers", theirs["id"].as_str().unwrap());
    service.post(&own, &stranger, json!({"providerId": id})).await.refused(404, "IDE-1012");
    service.delete(&one, &stranger).await.refused(404, "IDE-1001");

    service.delete(&one, &admin).await.expect(204);
    service.delete(&one, &admin).await.refused(404, "IDE-1012");
    service.post(&links, &admin, json!({"providerId": id})).await.expect(201);
    service.delete(&path, &admin).await.expect(204);
    assert_eq!(service.get(&links, &admin).await.expect(200), json!([]));
    service.get(&path, &admin).await.refused(404, "IDE-1012");
}

#[tokio::test]
async fn a_code_comes_by_mail_is_good_once_for_its_challenge_and_few_are_sent() {
    let mut sink = Sink::smtp().await;
    let service = open().await;
    let admin = service.admin().await;
    provided(&service, &admin, smtp(&sink)).await;
    let id = service.person(&admin, "ana", &[]).await;
    let token = access(&service.sign_in("ana", PASSWORD).await);
    enrol_sent(&service, &id, &token, json!({"mfaType": "email"}), &mut sink).await;

    let mfa = challenged(&service, "ana").await;
    let other = challenged(&service, "ana").await;
    let choose = json!({"mfaToken": mfa, "mfaType": "email"});
    step(&service, "challenge", choose.clone()).await.expect(200);
    let letter = sink.next().await;
    assert!(letter.contains("To: ana@example.com") && letter.contains("It is "), "{letter}");
    let first = code(&letter);
    step(&service, "challenge", choose.clone()).await.refused(429, "AUT-9044");
    // Of this challenge, and of the last that was sent.
    let show =
        |mfa: &str, code: &str| json!({"mfaToken": mfa, "mfaType": "email", "passcode": code});
    step(&service, "verify", show(&other, &first)).await.refused(401, "AUT-1002");
    service.clock.advance(60);
    step(&service, "challenge", choose).await.expect(200);
    let second = code(&sink.next().await);
    step(&service, "verify", show(&mfa, &first)).await.refused(401, "AUT-1002");
    let tokens = step(&service, "verify", show(&mfa, &second)).await.expect(200);
    let said = claims(&access(&tokens));
    assert_eq!((&said["amr"], &said["acr"]), (&json!(["pwd", "email", "mfa"]), &json!("aal1")));
    step(&service, "verify", show(&mfa, &second)).await.refused(401, "AUT-1003");
    step(&service, "verify", show(&other, &second)).await.refused(401, "AUT-1002");

    // Five a day, over all challenges; and a code ends before its challenge's successor begins.
    for _ in 0..2 {
        service.clock.advance(60);
        let mfa = challenged(&service, "ana").await;
        let choose = json!({"mfaToken": mfa, "mfaType": "email"});
        step(&service, "challenge", choose).await.expect(200);
        sink.next().await;
    }
    service.clock.advance(60);
    let mfa = challenged(&service, "ana").await;
    let choose = json!({"mfaToken": mfa, "mfaType": "email"});
    step(&service, "challenge", choose).await.refused(429, "AUT-9044");
    service.clock.advance(86_400);
    let token = {
        let mfa = challenged(&service, "ana").await;
        let choose = json!({"mfaToken": mfa, "mfaType": "email"});
        step(&service, "challenge", choose).await.expect(200);
        let code = code(&sink.next().await);
        access(&step(&service, "verify", show(&mfa, &code)).await.expect(200))
    };
    // Turning it off asks for a code of its own.
    let at = |step: &str| format!("/v1/users/{id}/mfa/{step}");
    service.post(&at("disable/challenge"), &token, json!({"mfaType": "email"})).await.expect(200);
    let off = code(&sink.next().await);
    let body = |code: &str| json!({"mfaType": "email", "passcode": code});
    service.post(&at("disable"), &token, body("00000000")).await.refused(400, "IDE-0060");
    service.post(&at("disable"), &token, body(&off)).await.expect(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_who_show_a_code_that_was_sent_at_once_one_gets_in() {
    let mut sink = Sink::smtp().await;
    let service = Arc::new(open().await);
    let admin = service.admin().await;
    provided(&service, &admin, smtp(&sink)).await;
    let id = service.person(&admin, "ana", &[]).await;
    let token = access(&service.sign_in("ana", PASSWORD).await);
    enrol_sent(&service, &id, &token, json!({"mfaType": "email"}), &mut sink).await;
    let mfa = challenged(&service, "ana").await;
    let choose = json!({"mfaToken": mfa, "mfaType": "email"});
    // Asked for at once, it is sent once.
    let asking: Vec<_> = (0..4)
        .map(|_| {
            let (service, choose) = (Arc::clone(&service), choose.clone());
            tokio::spawn(async move { step(&service, "challenge", choose).await.status.as_u16() })
        })
        .collect();
    let mut asked = Vec::new();
    for answer in asking {
        asked.push(answer.await.unwrap());
    }
    asked.sort_unstable();
    assert_eq!(asked, [200, 429, 429, 429]);
    let body = json!({"mfaToken": mfa, "mfaType": "email", "passcode": code(&sink.next().await)});
    let showing: Vec<_> = (0..5)
        .map(|_| {
            let (service, body) = (Arc::clone(&service), body.clone());
            tokio::spawn(async move { step(&service, "verify", body).await.status.as_u16() })
        })
        .collect();
    let mut shown = Vec::new();
    for answer in showing {
        shown.push(answer.await.unwrap());
    }
    shown.sort_unstable();
    assert_eq!(shown, [200, 401, 401, 401, 401]);
}

#[tokio::test]
async fn a_gateway_is_asked_as_its_template_says_and_led_nowhere_else() {
    let mut sink = Sink::http("200 OK").await;
    let service = open().await;
    let admin = service.admin().await;
    let (app, _) = provided(&service, &admin, json!({
        "name": "t", "category": "SMS", "type": "Twilio", "clientId": "AC1", "clientSecret": "s",
        "appId": "+15550100", "endpoint": sink.at("/Accounts/{clientId}/Messages.json"),
    })).await;
    let id = service.person(&admin, "ana", &[]).await;
    let token = access(&service.sign_in("ana", PASSWORD).await);
    let at = format!("/v1/users/{id}/mfa/setup");
    for phone in [json!(null), json!("5511"), json!("+55 11"), json!("+1\r\nX: y"), json!("ana")] {
        let body = json!({"mfaType": "sms", "phone": phone});
        service.post(&at, &token, body).await.refused(400, "IDE-0007");
    }
    let body = json!({"mfaType": "sms", "phone": "+5511987654321"});
    service.post(&at, &token, body.clone()).await.expect(200);
    let asked = sink.next().await;
    assert!(asked.starts_with("POST /Accounts/AC1/Messages.json"), "{asked}");
    assert!(asked.contains("authorization: Basic QUMxOnM="), "{asked}");
    assert!(asked.contains("To=%2B5511987654321&From=%2B15550100&Body=Your+code+is+"), "{asked}");

    // Another one, by default from now on; what values say is no template, nor ends their place.
    let hook = json!({
        "name": "h", "category": "SMS", "type": "HTTP", "endpoint": sink.at("/sms?to={to}"),
        "method": "PUT", "headers": ["Content-Type: application/json", "X-Key: {clientSecret}"],
        "clientSecret": "k{code}", "content": "\"{code}\"", "templateCode": "{\"say\":\"{text}\",\"x\":{}}",
    });
    let made = service.post("/v1/providers", &admin, hook).await.expect(201);
    let hook = made["id"].as_str().unwrap();
    let links = format!("/v1/applications/{app}/providers");
    service.post(&links, &admin, json!({"providerId": hook})).await.expect(201);
    service.patch(&format!("{links}/{hook}/default"), &admin, json!({})).await.expect(200);
    service.clock.advance(60);
    service.post(&at, &token, body.clone()).await.expect(200);
    let asked = sink.next().await;
    assert!(asked.starts_with("PUT /sms?to=%2B5511987654321 "), "{asked}");
    assert!(asked.contains("x-key: k{code}\r\n"), "{asked}");
    let told: Value = serde_json::from_str(asked.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    assert_eq!(told["say"].as_str().unwrap().len(), 10, "{told}");

    // A gateway that leads elsewhere, fails or is not there delivers nothing, and that is told.
    for status in ["302 Found", "500 No"] {
        let mut broken = Sink::http(status).await;
        let endpoint = json!({"endpoint": broken.at("/")});
        service.patch(&format!("/v1/providers/{hook}"), &admin, endpoint).await.expect(200);
        service.clock.advance(60);
        service.post(&at, &token, body.clone()).await.refused(503, "IDE-0064");
        broken.next().await;
        assert!(broken.told.try_recv().is_err(), "somebody followed");
    }
    // No more than five, whatever became of them.
    service.clock.advance(60);
    service.post(&at, &token, body.clone()).await.refused(503, "IDE-0064");
    service.clock.advance(60);
    service.post(&at, &token, body).await.refused(429, "IDE-9044");
}

#[tokio::test]
async fn nothing_is_sent_into_a_network_that_the_operator_has_not_listed() {
    let mut sink = Sink::http("200 OK").await;
    let mut mail = Sink::smtp().await;
    let service = Service::start().await;
    let admin = service.admin().await;
    let id = service.person(&admin, "ana", &[]).await;
    let token = access(&service.sign_in("ana", PASSWORD).await);
    let at = format!("/v1/users/{id}/mfa/setup");
    service.post(&at, &token, json!({"mfaType": "email"})).await.refused(503, "IDE-0064");
    // By a name, which shows only when it is looked up.
    let endpoint = format!("http://localhost:{}/", sink.port);
    let body = json!({"name": "x", "category": "SMS", "type": "Webhook", "endpoint": endpoint});
    provided(&service, &admin, body).await;
    let body = json!({"mfaType": "sms", "phone": "+5511987654321"});
    service.post(&at, &token, body).await.refused(503, "IDE-0064");
    provided(&service, &admin, smtp(&mail)).await;
    service.post(&at, &token, json!({"mfaType": "email"})).await.refused(503, "IDE-0064");
    assert!(sink.told.try_recv().is_err() && mail.told.try_recv().is_err());
}
