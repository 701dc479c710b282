//! `policy replay`: a server's own log against the policies that it decided by, and against others.

use std::{
    fmt::Write as _,
    fs,
    path::Path,
    process::{Command, Output, Stdio},
};

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Postern, Setup, copied, upstream::Upstream};

const PRODUCT: &str = "\
product: demo
resources:
  things: [get, put, purge]
  others: [get]
  notes: [get]
roles:
  demo-editor-role: {permissions: {things: [get, put], others: [get]}}
  demo-viewer-role: {permissions: {things: [get]}}
  demo-admin-role: {permissions: {things: [get, put], others: [get], notes: [get]}}
groups:
  demo-editors: {roles: [demo-editor-role]}
  demo-viewers: {roles: [demo-viewer-role]}
routes: v1
route_sets:
  v1:
    table:
      - GET /v1/things/{id} -> things:get
      - PUT /v1/things/{id} -> things:put & others:get
      - DELETE /v1/things/{id} -> things:purge
      - GET /v1/notes -> notes:get
      - GET /health -> public
";

const POLICIES: &str = r#"@id("one-thing-is-hidden")
forbid (principal, action == Demo::Action::"things:get", resource)
when { context.path has id && context.path.id == "a b&c=d" };

@id("from-here")
forbid (principal, action in Demo::Action::"*:*", resource)
when { context has client && !(context.client.isLoopback() && context.now > datetime("2020-01-01")) };

@id("password-purges")
permit (principal, action == Demo::Action::"things:purge", resource)
when { context.amr.contains("pwd") && !context.mfa };
"#;

fn postern(args: &[&str], folder: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_postern"))
        .args(["policy", "replay"])
        .args(args)
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn json_of(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)))
}

/// Of each: permission, how it changes, what would settle it, how often.
fn changes(replay: &Value) -> Vec<(String, String, String, u64)> {
    let text = |change: &Value, member: &str| change[member].as_str().unwrap().to_owned();
    let change = |change: &Value| {
        (
            text(change, "permission"),
            format!("{}>{}", text(change, "was"), text(change, "would_be")),
            text(change, "would_be_by"),
            change["times"].as_u64().unwrap(),
        )
    };
    replay["changes"].as_array().unwrap().iter().map(change).collect()
}

async fn talk(postern: &Postern) {
    let admin = postern.admin().await;
    let ana = postern.person(&admin, "ana", &["demo-editors"]).await;
    let ben = postern.person(&admin, "ben", &["demo-viewers", "plugin-crm-viewer-group"]).await;
    let role = json!({"id": "notes-role", "product": "demo", "name": "Notes",
        "permissions": ["notes:get"]});
    postern.manage(&admin, Method::POST, "/v1/roles", Some(role), 201).await;
    let group = json!({"id": "readers", "name": "Readers", "roles": ["notes-role"]});
    postern.manage(&admin, Method::POST, "/v1/groups", Some(group), 201).await;
    let eve = postern.person(&admin, "eve", &["readers"]).await;
    for (person, method, path, status) in [
        (&ana, "GET", "/v1/things/7", 200),
        (&ana, "GET", "/v1/things/7", 200),
        (&ana, "GET", "/v1/things/a%20b%26c%3Dd", 403),
        (&ana, "PUT", "/v1/things/7", 200),
        (&ben, "PUT", "/v1/things/7", 403),
        (&ben, "GET", "/v1/things/a%20b", 200),
        (&ana, "DELETE", "/v1/things/7", 200),
        (&ana, "GET", "/v1/nothing", 403),
        (&ana, "GET", "/health", 200),
        (&eve, "GET", "/v1/notes", 200),
    ] {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let request = postern.request(method, postern.gateway, path).bearer_auth(&person.token);
        assert_eq!(request.send().await.unwrap().status(), status, "{path}");
    }
    let away = json!({"resource": "things", "action": "put", "product": "demo",
        "clientIp": "192.0.2.1"});
    for (person, question, yes) in [
        // Whoever sends the check is at home; the client is not, or is not known.
        (&ana, away, false),
        (&ana, json!({"resource": "things", "action": "put", "product": "demo"}), true),
        (&ben, json!({"resource": "holders", "action": "get"}), true),
        (&ana, json!({"resource": "holders", "action": "get"}), false),
        (&ana, json!({"resource": "nothing", "action": "get"}), false),
    ] {
        assert_eq!(
            postern.authorized(&person.token, &question).await["authorized"],
            yes,
            "{question}"
        );
    }
    let last = postern.get("/v1/things/7").header("x-request-id", "the-last-one");
    assert_eq!(last.send().await.unwrap().status(), 401);
}

#[tokio::test]
async fn a_server_s_own_log_is_answered_alike_and_a_changed_folder_tells_exactly_what_changes() {
    let upstream = Upstream::start().await;
    let folder = tempfile::tempdir().unwrap();
    let policies = copied(folder.path());
    fs::create_dir(policies.join("demo")).unwrap();
    fs::write(policies.join("demo/product.yaml"), PRODUCT).unwrap();
    fs::write(policies.join("demo/rules.cedar"), POLICIES).unwrap();
    // Nobody gives what they do not hold.
    let identity = policies.join("plugin-identity/product.yaml");
    let text = fs::read_to_string(&identity).unwrap();
    let role = "      - midaz-editor-role\n";
    assert!(text.contains(role));
    let more = format!("{role}      - demo-admin-role\n");
    fs::write(identity, text.replacen(role, &more, 1)).unwrap();
    let config = format!("[[product]]\nname = 'demo'\nupstream = 'http://{}'\n", upstream.address);
    let policies = Some(policies);
    let server = Postern::set_up(Setup { config, policies, ..Setup::default() }).await;
    talk(&server).await;
    server.logged("\"reason\":\"no-token\"").await;
    let log = server.log.text();
    fs::write(folder.path().join("log"), &log).unwrap();

    // What is in force, with the groups that organizations have of their own.
    let url = format!("http://{}", server.health);
    let output = postern(&["log", "--url", &url, "--json", "--fail-on", "any"], folder.path());
    let own = json_of(&output);
    assert!(output.status.success(), "{own:#}");
    assert_eq!(changes(&own), []);
    assert_eq!((&own["same"], &own["asked"]), (&own["asked"], &json!(12)), "{own:#}\n{log}");
    assert_eq!(own["settled_otherwise"], 0, "{own:#}");
    assert_eq!((&own["unknown"], &own["unasked"]), (&json!([]), &json!(3)));
    assert_eq!(own["lines"].as_u64().unwrap(), log.lines().count() as u64);
    let whys = own["reasons"].as_array().unwrap();
    assert_eq!(whys.len(), 1, "{own:#}");
    assert!(whys[0]["why"].as_str().unwrap().contains("`nothing:get` was no product's"));
    let line = usize::try_from(whys[0]["first_line"].as_u64().unwrap()).unwrap();
    assert!(log.lines().nth(line - 1).unwrap().contains("nothing:get"));

    // The folder lacks what the organization made for itself.
    let replay = postern(&["log", "policies"], folder.path());
    let told = String::from_utf8(replay.stdout).unwrap();
    assert!(told.contains("know no group `readers`"), "{told}");
    assert!(told.contains("demo::notes:get\n    was allow"), "{told}");

    // Viewers gain; whoever puts, and whoever asks for what is hidden, is answered otherwise.
    let product = PRODUCT.replace(
        "demo-viewer-role: {permissions: {things: [get]}}",
        "demo-viewer-role: {permissions: {things: [get, put], others: [get]}}",
    );
    let rules = POLICIES
        .replace("one-thing-is-hidden", "hidden")
        .replace("a b&c=d", "a b")
        .replace("!context.mfa", "context.mfa");
    fs::write(folder.path().join("policies/demo/product.yaml"), product).unwrap();
    fs::write(folder.path().join("policies/demo/rules.cedar"), rules).unwrap();
    let output = postern(&["log", "policies", "--json", "--fail-on", "gain"], folder.path());
    let other = json_of(&output);
    assert_eq!(output.status.code(), Some(1));
    let mut got = changes(&other);
    got.sort();
    let change =
        |what: &str, how: &str, by: &str| (what.to_owned(), how.to_owned(), by.to_owned(), 1);
    assert_eq!(
        got,
        [
            change("demo::notes:get", "allow>deny", ""),
            change("demo::things:get", "allow>deny", "hidden"),
            change("demo::things:get", "deny>allow", "role/demo-editor-role"),
            change("demo::things:purge", "allow>deny", ""),
            change("demo::things:put and demo::others:get", "deny>allow", "role/demo-viewer-role"),
        ],
        "{other:#}"
    );
    assert_eq!((&other["gained"], &other["lost"]), (&json!(2), &json!(3)));
    assert_eq!(postern(&["log", "policies"], folder.path()).status.code(), Some(0));
}

fn record(n: u32, permission: &str) -> String {
    let mut record = json!({
        "timestamp": "2026-01-01T10:00:00Z", "level": "INFO", "message": "denied",
        "verdict": "deny", "id": "x", "principal": format!("user:acme/u{}", n % 3),
        "permission": permission, "policies": "", "groups": "demo-viewers", "now": 1_767_261_600,
        "target": "decision",
    })
    .to_string();
    record.push('\n');
    record
}

#[test]
fn what_cannot_be_replayed_is_told_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("policies/demo")).unwrap();
    fs::write(folder.path().join("policies/demo/product.yaml"), PRODUCT).unwrap();
    let mut log = String::new();
    for n in 0..5 {
        log += &record(n, "demo::things:get");
    }
    log += "plain text\n\n{\"target\": \"postern\"}\n";
    log += &record(0, "demo::gone:get");
    log += &record(0, "demo::gone:get");
    log +=
        "{\"target\": \"decision\", \"verdict\": \"deny\", \"permission\": \"demo::things:get\"}\n";
    log += "{\"target\": \"decision\", \"verdict\": \"deny\", \"reason\": \"no-token\"}\n";
    // Longer than any line of ours, and the one after it still counts.
    let _ = writeln!(log, "{{\"target\": \"decision\", \"x\": \"{}\"}}", "x".repeat(3 << 20));
    log += record(1, "demo::things:get").trim_end();
    fs::write(folder.path().join("log"), log).unwrap();
    fs::write(folder.path().join("none"), "INFO decision: denied verdict=\"deny\"\n").unwrap();
    fs::write(folder.path().join("broken"), "permit (").unwrap();
    fs::create_dir_all(folder.path().join("store")).unwrap();
    let schema = "entity A; action a appliesTo {principal: A, resource: A};";
    fs::write(folder.path().join("store/schema.cedarschema"), schema).unwrap();
    let told: Vec<String> = [
        "log",
        "log policies --fail-on gain",
        "log policies --fail-on loss",
        "log --json",
        "none",
        "nowhere",
        "log nowhere",
        "log broken",
        "log store",
        "policies",
        "-",
    ]
    .iter()
    .map(|line| {
        let args: Vec<&str> = line.split_whitespace().collect();
        let output = postern(&args, folder.path());
        let told = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
        let code = output.status.code().unwrap();
        format!("$ postern policy replay {line}\n{}{}=> {code}\n", told[0], told[1])
    })
    .collect();
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("golden");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!("policy-replay", told.join("\n")));
}
