//! A shadow set: asked the same as what is in force, counted and told, and nobody's answer.

use std::{fs, time::Instant};

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{PATIENCE, Person, Postern, copied, upstream::Upstream};

const PATH: &str = "/v1/organizations";
const FORBID: &str = r#"@id("nobody-lists")
forbid (principal, action == Midaz::Action::"organizations:get", resource);
"#;

async fn status(postern: &Postern) -> Value {
    let request = postern.request(Method::GET, postern.health, "/internal/v1/status");
    let shown: Value = request.send().await.unwrap().json().await.unwrap();
    shown["shadow"].clone()
}

async fn until(postern: &Postern, so: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let shown = status(postern).await;
        if so(&shown) {
            return shown;
        }
        assert!(Instant::now() < deadline, "it never came to that: {shown}");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

/// How often it was decided like that, and would have been like that.
async fn counted(postern: &Postern, live: &str, shadow: &str) -> u64 {
    let request = postern.request(Method::GET, postern.health, "/metrics");
    let text = request.send().await.unwrap().text().await.unwrap();
    let name = format!(
        "postern_shadow_decisions_total{{live=\"{live}\",product=\"midaz\",shadow=\"{shadow}\"}} "
    );
    let line = text.lines().find_map(|line| line.strip_prefix(&name));
    line.map_or(0, |count| count.parse().unwrap())
}

/// The shadow stands on what is in force now.
async fn caught_up(postern: &Postern) {
    let revision = postern.policies().await["revision"].clone();
    until(postern, |shown| shown["revision"] == revision).await;
}

async fn lists(postern: &Postern, person: &Person, expected: u16) -> String {
    let response = postern.get(PATH).bearer_auth(&person.token).send().await.unwrap();
    assert_eq!(response.status(), expected);
    response.headers()["x-postern-decision-id"].to_str().unwrap().to_owned()
}

#[tokio::test]
async fn d_what_would_be_decided_is_counted_and_told_and_is_nobodys_answer() {
    let upstream = Upstream::start().await;
    let folder = tempfile::tempdir().unwrap();
    let beside = copied(folder.path());
    let written = beside.join("midaz/shadow.cedar");
    fs::write(&written, FORBID).unwrap();
    let config = format!(
        "[proxy]\ntrusted_proxies = ['127.0.0.1']\n[proxy.shadow]\npolicies = '{}'\n\
         [[product]]\nname = 'midaz'\nupstream = 'http://{}'\n",
        beside.display(),
        upstream.address
    );
    let postern = Postern::with(&config).await;
    let admin = postern.admin().await;
    let viewer = postern.person(&admin, "vera", &["midaz-viewer-group"]).await;
    caught_up(&postern).await;

    // Allowed, and would not be.
    let id = lists(&postern, &viewer, 200).await;
    assert_eq!(counted(&postern, "allow", "deny").await, 1);
    let told: Value = serde_json::from_str(&postern.logged("\"target\":\"shadow\"").await).unwrap();
    let expected = json!({
        "id": id, "door": "gateway", "product": "midaz", "method": "GET", "path": PATH,
        "live": "allow", "live_policies": "role/midaz-viewer-role",
        "shadow": "deny", "shadow_reason": "forbidden", "shadow_policies": "nobody-lists",
    });
    for (member, value) in expected.as_object().unwrap() {
        assert_eq!(&told[member], value, "{member}: {told}");
    }
    // At the doors too, and of a permission that is asked about.
    assert_eq!(postern.door("GET", PATH, &viewer.token).await.status(), 200);
    let question = json!({"resource": "organizations", "action": "get", "product": "midaz"});
    assert_eq!(postern.authorized(&viewer.token, &question).await["authorized"], true);
    assert_eq!(counted(&postern, "allow", "deny").await, 3);
    // Nothing is different of who is not known, or where nothing is.
    let nobody = postern.get(PATH).send().await.unwrap();
    assert_eq!(nobody.status(), 401);
    assert_eq!(
        postern.get("/v1/nothing").bearer_auth(&viewer.token).send().await.unwrap().status(),
        403
    );
    assert_eq!(counted(&postern, "deny", "deny").await, 0, "no product is named of either");
    assert_eq!(status(&postern).await["different"], 3);

    // One that does not hold is told; what was asked before is asked on.
    fs::write(&written, "permit (principal,").unwrap();
    let shown = until(&postern, |shown| shown["refused"] == 1).await;
    assert!(shown["lastError"]["error"].as_str().unwrap().contains("shadow.cedar"), "{shown}");
    lists(&postern, &viewer, 200).await;
    assert_eq!(counted(&postern, "allow", "deny").await, 4);

    // Denied, and would not be: one that lets more through lets nothing through.
    let permit = "@id(\"all-create\")\npermit (principal, action == Midaz::Action::\"organizations:post\", resource);\n";
    let since = status(&postern).await["policies"].clone();
    fs::write(&written, format!("{permit}{}", FORBID.replace("organizations:get", "ledgers:get")))
        .unwrap();
    until(&postern, |shown| shown["policies"] != since && shown["lastError"].is_null()).await;
    let create = postern.request(Method::POST, postern.gateway, PATH).bearer_auth(&viewer.token);
    assert_eq!(create.send().await.unwrap().status(), 403);
    assert_eq!(counted(&postern, "deny", "allow").await, 1);
    lists(&postern, &viewer, 200).await;
    assert_eq!(counted(&postern, "allow", "allow").await, 1);

    // What an organization makes of its own is known there as well.
    let role = json!({"id": "own-role", "product": "midaz", "name": "Own", "permissions": ["organizations:get"]});
    postern.manage(&admin, Method::POST, "/v1/roles", Some(role), 201).await;
    let group = json!({"id": "own", "name": "Own", "roles": ["own-role"]});
    postern.manage(&admin, Method::POST, "/v1/groups", Some(group), 201).await;
    let owner = postern.person(&admin, "olga", &["own"]).await;
    caught_up(&postern).await;
    lists(&postern, &owner, 200).await;
    assert_eq!(counted(&postern, "allow", "allow").await, 2);
}

#[tokio::test]
async fn a_shadow_that_is_not_there_is_told_and_disturbs_nothing() {
    let upstream = Upstream::start().await;
    let config = format!(
        "[proxy]\ntrusted_proxies = ['127.0.0.1']\n[proxy.shadow]\npolicies = '/nowhere/at/all'\n\
         [[product]]\nname = 'midaz'\nupstream = 'http://{}'\n",
        upstream.address
    );
    let postern = Postern::with(&config).await;
    let shown = until(&postern, |shown| shown["refused"] == 1).await;
    assert_eq!(shown["asked"], false);
    let admin = postern.admin().await;
    assert_eq!(postern.get(PATH).bearer_auth(&admin).send().await.unwrap().status(), 200);
    assert_eq!(counted(&postern, "allow", "deny").await, 0);
}
