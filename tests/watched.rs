//! A policy file that is edited while requests come in: every answer is by the old set or by the new
//! one, and no half-written file is ever a smaller set.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinHandle;

use crate::harness::{Postern, Setup, client, copied, upstream::Upstream};

/// What a promise of one second may take on a machine that does much else.
const SLACK: Duration = Duration::from_secs(15);

/// Two organizations may not be looked at: this one, and the one that no set ever lets out.
fn closed(id: &str) -> String {
    format!(
        "@id(\"closed-{id}\")\n\
         forbid (principal, action == Midaz::Action::\"organizations:get\", resource)\n\
         when {{ context.path has id && context.path.id == \"{id}\" }};\n"
    )
}

/// Midaz at the gateway and at the nginx door, under policies of its own.
struct Watched {
    postern: Postern,
    admin: String,
    policies: PathBuf,
    upstream: Upstream,
    _folder: TempDir,
}

impl Watched {
    async fn start(extra: &str, config: &str) -> Self {
        let upstream = Upstream::start().await;
        let folder = tempfile::tempdir().unwrap();
        let policies = copied(folder.path());
        fs::write(policies.join("midaz/extra.cedar"), extra).unwrap();
        let config = format!(
            "{config}[[product]]\nname = 'midaz'\nupstream = 'http://{}'\n",
            upstream.address
        );
        let policies_folder = Some(policies.clone());
        let setup = Setup { config, policies: policies_folder, ..Setup::default() };
        let postern = Postern::set_up(setup).await;
        let admin = postern.admin().await;
        Self { postern, admin, policies, upstream, _folder: folder }
    }

    fn extra(&self) -> PathBuf {
        self.policies.join("midaz/extra.cedar")
    }

    async fn get(&self, id: &str) -> u16 {
        let request = self.postern.get(&format!("/v1/organizations/{id}"));
        request.bearer_auth(&self.admin).send().await.unwrap().status().as_u16()
    }

    async fn revision(&self) -> u64 {
        self.postern.policies().await["revision"].as_u64().unwrap()
    }

    /// The revision that a save leads to.
    async fn moved(&self, from: u64) -> Value {
        let started = Instant::now();
        let told = self
            .postern
            .policies_until(|told| told["revision"].as_u64().is_some_and(|now| now > from))
            .await;
        assert!(started.elapsed() < SLACK, "{:?}", started.elapsed());
        told
    }

    async fn refused(&self, times: u64) -> Value {
        self.postern.policies_until(|told| told["refused"] == times).await
    }
}

/// Clients that ask the gateway and the door about one organization, again and again.
struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    /// Whether only the new set may answer what is asked from now on.
    only_new: Arc<AtomicBool>,
    clients: Vec<JoinHandle<[usize; 2]>>,
}

impl Load {
    /// `old` and `new` are the two sets' answers.
    fn on(watched: &Watched, id: &str, old: u16, new: u16) -> Self {
        let flag = || Arc::new(AtomicBool::new(false));
        let (stop, only_new, answered) = (flag(), flag(), Arc::new(AtomicUsize::new(0)));
        let target = format!("/v1/organizations/{id}");
        let clients = (0..6).map(|n| {
            let (stop, only_new) = (Arc::clone(&stop), Arc::clone(&only_new));
            let (target, answered) = (target.clone(), Arc::clone(&answered));
            let (http, admin) = (client(), watched.admin.clone());
            let (gateway, doors) = (watched.postern.gateway, watched.postern.doors);
            tokio::spawn(async move {
                let mut seen = [0, 0];
                while !stop.load(Ordering::SeqCst) {
                    let must_be_new = only_new.load(Ordering::SeqCst);
                    let request = if n % 2 == 0 {
                        http.get(format!("http://{gateway}{target}"))
                    } else {
                        http.get(format!("http://{doors}/forward-auth/nginx/midaz"))
                            .header("x-original-method", "GET")
                            .header("x-original-uri", &target)
                    };
                    let response = request.bearer_auth(&admin).send().await.unwrap();
                    let status = response.status().as_u16();
                    assert!(response.headers().contains_key("x-postern-decision-id"));
                    assert!(status == new || status == old && !must_be_new, "{status}");
                    seen[usize::from(status == new)] += 1;
                    answered.fetch_add(1, Ordering::SeqCst);
                }
                seen
            })
        });
        let clients = clients.collect();
        Self { stop, answered, only_new, clients }
    }

    /// Wait until each client has asked some more.
    async fn go_on(&self) {
        let from = self.answered.load(Ordering::SeqCst);
        let deadline = Instant::now() + SLACK;
        while self.answered.load(Ordering::SeqCst) < from + 60 {
            assert!(Instant::now() < deadline, "the clients are stuck");
            assert!(!self.clients.iter().any(JoinHandle::is_finished), "a client gave up");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// How often each set answered.
    async fn end(self) -> [usize; 2] {
        self.stop.store(true, Ordering::SeqCst);
        let mut seen = [0, 0];
        for client in self.clients {
            let [old, new] = client.await.unwrap();
            seen = [seen[0] + old, seen[1] + new];
        }
        seen
    }
}

fn by_rename(file: &Path, text: &str) {
    let new = file.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::rename(&new, file).unwrap();
}

#[tokio::test]
async fn a_file_edited_under_load_is_in_force_without_an_error() {
    let watched = Watched::start(&closed("secret"), "").await;
    let mut revision = watched.revision().await;
    let (mut old, mut new) = (200, 403);
    for round in 0..4 {
        let load = Load::on(&watched, "open", old, new);
        load.go_on().await;
        let text = if new == 403 { closed("secret") + &closed("open") } else { closed("secret") };
        if round % 2 == 0 {
            by_rename(&watched.extra(), &text);
        } else {
            fs::write(watched.extra(), &text).unwrap();
        }
        let saved = Instant::now();
        let told = watched.moved(revision).await;
        println!("saved to in force, under load: {:?}", saved.elapsed());
        revision = told["revision"].as_u64().unwrap();
        // Announced: from here on an answer by the old set fails its client.
        load.only_new.store(true, Ordering::SeqCst);
        load.go_on().await;
        let seen = load.end().await;
        assert!(seen[0] > 0 && seen[1] > 0, "{seen:?}");
        assert_eq!(told["onDiskInForce"], true);
        assert_eq!(told["policies"], if new == 403 { 2 } else { 1 });
        (old, new) = (new, old);
    }
    assert_eq!(watched.get("secret").await, 403);
    assert_eq!(watched.postern.policies().await["refused"], 0);
    let line = watched.postern.logged("the changed policy folder is in force").await;
    assert!(line.contains("\"revision\":"), "{line}");
}

#[tokio::test]
async fn a_file_that_is_truncated_and_written_again_never_lets_anybody_by() {
    let watched = Watched::start(&closed("secret"), "").await;
    let revision = watched.revision().await;
    let load = Load::on(&watched, "secret", 403, 403);
    for _ in 0..3 {
        // Empty, then half: one whole policy, which is not the one that counts.
        let mut file = fs::File::create(watched.extra()).unwrap();
        load.go_on().await;
        file.write_all(closed("other").as_bytes()).unwrap();
        file.flush().unwrap();
        load.go_on().await;
        file.write_all(closed("secret").as_bytes()).unwrap();
        drop(file);
        // Gone, then there again.
        fs::remove_file(watched.extra()).unwrap();
        load.go_on().await;
        fs::write(watched.extra(), closed("other") + &closed("secret")).unwrap();
    }
    let told = watched.moved(revision).await;
    assert_eq!(told["policies"], 2);
    // Closed while it is empty: that is no set.
    fs::write(watched.extra(), "").unwrap();
    let told = watched.postern.policies_until(|told| told["onDiskInForce"] == false).await;
    let complaint = &told["lastRefusal"]["complaints"][0];
    assert!(complaint["message"].as_str().unwrap().contains("the file is empty"), "{told}");
    load.go_on().await;
    load.end().await;
    assert_eq!(watched.upstream.seen(), 0, "nobody came through");
}

#[tokio::test]
async fn a_set_that_does_not_hold_changes_nothing_and_is_told() {
    let watched = Watched::start(&closed("secret"), "").await;
    let before = watched.postern.policies().await;
    assert_eq!(before["onDiskInForce"], true);
    assert_eq!(before["lastRefusal"], Value::Null);
    assert_eq!(before["folder"], watched.policies.to_str().unwrap());
    let load = Load::on(&watched, "secret", 403, 403);
    // It would let everybody by, were it not for its last line.
    let bad =
        "permit (principal, action in Midaz::Action::\"*:*\", resource);\nforbid (\n  nobody);\n";
    fs::write(watched.extra(), bad).unwrap();
    let told = watched.refused(1).await;
    assert_eq!(told["onDiskInForce"], false);
    for member in ["revision", "since", "policies"] {
        assert_eq!(told[member], before[member], "{member}");
    }
    let complaint = &told["lastRefusal"]["complaints"][0];
    assert_eq!(complaint["file"], watched.extra().to_str().unwrap());
    assert_eq!(complaint["line"], 3, "{complaint}");
    assert_eq!(complaint["column"], 3, "{complaint}");
    assert!(told["lastRefusal"]["time"].as_str().unwrap().ends_with('Z'), "{told}");
    assert_eq!(complaint["code"], "syntax", "{complaint}");
    let line = watched.postern.logged("extra.cedar:3:3").await;
    assert!(line.contains("\"level\":\"ERROR\"") && line.contains("\"line\":3"), "{line}");
    let shown = "\\n3 |   nobody);\\n  |   ^ syntax\"";
    assert!(line.contains(shown) && line.contains("\"column\":3"), "{line}");
    let metrics = async || {
        let request = watched.postern.request(Method::GET, watched.postern.health, "/metrics");
        request.send().await.unwrap().text().await.unwrap()
    };
    let text = metrics().await;
    assert!(text.contains("\npostern_policy_folder_differs 1\n"), "{text}");
    assert!(text.contains("\npostern_policy_sets_refused_total 1\n"), "{text}");

    // A product that the configuration names cannot go, and nor can the folder.
    by_rename(&watched.extra(), &closed("secret"));
    watched.postern.policies_until(|told| told["onDiskInForce"] == true).await;
    let away = watched.policies.with_extension("away");
    fs::rename(watched.policies.join("midaz"), &away).unwrap();
    let told = watched.refused(2).await;
    assert!(told["lastRefusal"].to_string().contains("midaz"), "{told}");
    fs::rename(&away, watched.policies.join("midaz")).unwrap();
    watched.postern.policies_until(|told| told["onDiskInForce"] == true).await;
    fs::rename(&watched.policies, &away).unwrap();
    watched.refused(3).await;
    fs::rename(&away, &watched.policies).unwrap();
    let told = watched.postern.policies_until(|told| told["onDiskInForce"] == true).await;
    assert_eq!(told["revision"], before["revision"], "it is what was in force all along");
    assert!(metrics().await.contains("\npostern_policy_folder_differs 0\n"));
    load.go_on().await;
    load.end().await;
    assert_eq!(watched.upstream.seen(), 0);
}

#[tokio::test]
async fn a_changed_manifest_counts_for_decisions_and_administration_alike() {
    let mut watched = Watched::start(&closed("secret"), "").await;
    let admin = watched.admin.clone();
    let ana = watched.postern.person(&admin, "ana", &["midaz-viewer-group"]).await;
    let revision = watched.revision().await;
    let product = "product: demo\nresources: {things: [get]}\n\
        roles: {demo-role: {permissions: {things: [get]}}}\n\
        groups: {demo-group: {title: Demo, roles: [demo-role]}}\n";
    let admins = watched.policies.join("plugin-identity/product.yaml");
    let before = fs::read_to_string(&admins).unwrap();
    fs::create_dir(watched.policies.join("demo")).unwrap();
    by_rename(&watched.policies.join("demo/product.yaml"), product);
    let told = watched.moved(revision).await;
    let revision = told["revision"].as_u64().unwrap();
    let path = "/v1/groups/demo-group";
    let group = watched.postern.manage(&admin, Method::GET, path, None, 200).await;
    assert_eq!(group["roles"], json!(["demo-role"]), "{group}");
    let question = json!({"resource": "things", "action": "get", "product": "demo"});
    assert_eq!(watched.postern.authorized(&ana.token, &question).await["authorized"], false);
    // A group of the organization's own that holds the product's role.
    let own = json!({"id": "own", "name": "Own", "roles": ["midaz-viewer-role"]});
    watched.postern.manage(&admin, Method::POST, "/v1/groups", Some(own), 201).await;
    let own = watched.revision().await;
    assert!(own > revision, "an organization's change goes on from there");

    // The viewers' group is gone: whoever is in it keeps the account and loses the rights.
    assert_eq!(watched.postern.door("GET", "/v1/organizations", &ana.token).await.status(), 200);
    let midaz = watched.policies.join("midaz/product.yaml");
    let text = fs::read_to_string(&midaz).unwrap();
    let without = |line: &&str| !line.contains("midaz-viewer-group:");
    by_rename(&midaz, &text.split_inclusive('\n').filter(without).collect::<String>());
    watched.moved(own).await;
    assert_eq!(watched.postern.door("GET", "/v1/organizations", &ana.token).await.status(), 403);
    let path = "/v1/groups/midaz-viewer-group";
    watched.postern.manage(&admin, Method::GET, path, None, 404).await;
    let path = format!("/v1/users/{}", ana.id);
    watched.postern.manage(&admin, Method::GET, &path, None, 200).await;

    // What nobody could administer is refused, as the start would.
    let revision = watched.revision().await;
    fs::remove_dir_all(watched.policies.join("plugin-identity")).unwrap();
    let told = watched.refused(1).await;
    assert!(told["lastRefusal"].to_string().contains("admin-group"), "{told}");
    fs::create_dir(watched.policies.join("plugin-identity")).unwrap();
    fs::write(&admins, &before).unwrap();
    watched.postern.policies_until(|told| told["onDiskInForce"] == true).await;
    assert_eq!(watched.revision().await, revision);

    // After a restart the number rises, for the folder may be another one.
    watched.postern.stop("-TERM").await;
    let again = Postern::set_up(Setup {
        policies: Some(watched.policies.clone()),
        data: Some(watched.postern.data.clone()),
        password: Some(watched.postern.password.clone()),
        client_secret: Some(watched.postern.client_secret.clone()),
        ..Setup::default()
    })
    .await;
    assert!(again.policies().await["revision"].as_u64().unwrap() > revision);
}

#[tokio::test]
async fn the_snapshot_in_force_can_be_read_by_its_revision() {
    let watched = Watched::start(&closed("secret"), "").await;
    let read = async |tag: Option<String>| {
        let path = "/internal/v1/snapshot";
        let mut request = watched.postern.request(Method::GET, watched.postern.health, path);
        if let Some(tag) = tag {
            request = request.header("if-none-match", tag);
        }
        request.send().await.unwrap()
    };
    let response = read(None).await;
    assert_eq!(response.headers()["content-type"], "application/json");
    let tag = response.headers()["etag"].to_str().unwrap().to_owned();
    let bytes = response.bytes().await.unwrap();
    let snapshot: policy::snapshot::Snapshot = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(tag, format!("\"{}\"", snapshot.revision));
    assert_eq!(snapshot.revision.0, watched.revision().await);
    let engine = policy::engine::Engine::compile(Arc::new(snapshot)).unwrap();
    assert_eq!(engine.written().len(), 1);
    let keys = &serde_json::from_slice::<Value>(&bytes).unwrap()["issuer"]["jwks"]["keys"];
    for secret in ["d", "p", "q", "dp", "dq", "qi", "k"] {
        assert!(keys[0].get(secret).is_none(), "{secret} is no part of a public key");
    }
    let again = read(Some(tag.clone())).await;
    assert_eq!(again.status(), 304);
    let revision = watched.revision().await;
    by_rename(&watched.extra(), &closed("other"));
    watched.moved(revision).await;
    let other = read(Some(tag.clone())).await;
    assert_eq!(other.status(), 200);
    assert_ne!(other.headers()["etag"].to_str().unwrap(), tag);
}

/// A forbid that cannot be evaluated, and one that can.
const OVERFLOWS: &str = "@id(\"overflows\")\n\
    forbid (principal, action == Midaz::Action::\"organizations:get\", resource)\n\
    when { 9223372036854775807 + 1 == 0 };\n";

#[tokio::test]
async fn d_a_policy_that_cannot_be_evaluated_is_passed_over_where_the_operator_says_so() {
    let extra = OVERFLOWS.to_owned() + &closed("secret");
    let watched = Watched::start(&extra, "[decisions]\nerrors = 'cedar'\n").await;
    for _ in 0..50 {
        assert_eq!(watched.get("open").await, 200);
    }
    assert_eq!(watched.get("secret").await, 403);
    let question = json!({"resource": "organizations", "action": "get", "product": "midaz"});
    let answer = watched.postern.authorized(&watched.admin, &question).await;
    assert_eq!(answer["authorized"], true);
    let told = watched.postern.policies().await;
    assert_eq!(told["errors"], "cedar");
    assert_eq!(told["policyErrors"], json!({"overflows": 52}));
    let line = watched.postern.logged("policy overflows failed").await;
    assert!(line.contains("\"policy\":\"overflows\""), "{line}");
    let times = watched.postern.log.text().matches("policy overflows failed").count();
    assert!(times < 10, "{times} lines for 52 failures");
    let line = watched.postern.logged("\"reason\":\"forbidden\"").await;
    assert!(line.contains("closed-secret"), "{line}");
    // With the policy goes its count.
    let revision = watched.revision().await;
    by_rename(&watched.extra(), &closed("secret"));
    assert_eq!(watched.moved(revision).await["policyErrors"], json!({}));
    let metrics = watched.postern.request(Method::GET, watched.postern.health, "/metrics");
    let metrics = metrics.send().await.unwrap().text().await.unwrap();
    assert!(!metrics.contains("overflows"), "{metrics}");
}
