//! When permissions were last used: what proxies report, and what is said to be unused.

use std::sync::Arc;

use policy::{catalog::Catalog, model::manifest::Manifest};
use serde_json::{Value, json};

use super::{
    harness::{Answer, NOW, PASSWORD, Service, access, catalog},
    tenants::part,
    walks::state,
};
use identity::{Clock, Config};

const PROXY: &str = "\
product: postern-proxy
resources: {feed: [get]}
roles: {postern-proxy-feed-role: {permissions: {feed: [get]}}}
applications: [postern-proxy-feed-role]
";
const DAY: u64 = 86_400;
const REPORTS: &str = "/internal/v1/usage";

/// The products of the tests, and the one whose applications are proxies.
fn products() -> Catalog {
    let mut products = catalog().products;
    let identity = products.iter_mut().find(|one| one.product.as_str() == "plugin-identity");
    let identity = Arc::make_mut(identity.unwrap());
    let admins = identity.groups.iter_mut().find(|group| group.name.as_str() == "admin-group");
    admins.unwrap().roles.push("postern-proxy-feed-role".parse().unwrap());
    products.push(Arc::new(Manifest::parse("postern-proxy.yaml", PROXY).unwrap()));
    Catalog::new(products, Vec::new()).unwrap()
}

async fn start(config: Config) -> Service {
    let folder = Arc::new(tempfile::tempdir().unwrap());
    Service::run(folder, Clock::standing_at(NOW), config, products()).await
}

async fn restart(service: Service) -> Service {
    let clock = service.clock.clone();
    Service::run(service.stop().await, clock, Config::default(), products()).await
}

/// The token of an application made for a product.
async fn machine(service: &Service, admin: &str, product: &str) -> (Value, String) {
    let body = json!({"name": product, "description": "a test's"});
    let app = service.post("/v1/applications", admin, body).await.expect(201);
    let token = machine_of(service, &app).await;
    (app, token)
}

async fn machine_of(service: &Service, app: &Value) -> String {
    let grant = json!({
        "grantType": "client_credentials",
        "clientId": app["clientId"], "clientSecret": app["clientSecret"],
    });
    access(&service.token(grant).await.expect(200))
}

fn used(org: &str, user: &str, permission: &str, at: u64) -> Value {
    json!({
        "principal": {"user": {"org": org, "id": user}},
        "product": "demo", "permission": permission, "at": at,
    })
}

async fn report(service: &Service, token: &str, uses: &[Value]) -> Answer {
    let body = json!({"products": ["demo"], "uses": uses});
    service.post(REPORTS, token, body).await
}

fn taken(taken: u64, dropped: u64) -> Value {
    json!({"taken": taken, "dropped": dropped})
}

/// The ways by which somebody holds a permission.
async fn ways(service: &Service, admin: &str, query: &str, id: &str) -> Vec<Value> {
    let path = format!("/v1/access?limit=100{query}");
    let page = service.get(&path, admin).await.expect(200);
    let is_it = |one: &&Value| one["id"] == id;
    let items = page["items"].as_array().unwrap();
    items.iter().find(is_it).map_or(Vec::new(), |one| one["holds"].as_array().unwrap().clone())
}

#[tokio::test]
async fn what_a_proxy_has_seen_used_is_told_with_when_and_again_after_a_restart() {
    let service = start(Config::default()).await;
    let admin = service.admin().await;
    let ana = service.person(&admin, "ana", &["demo-editor-group"]).await;
    let (app, proxy) = machine(&service, &admin, "postern-proxy").await;
    let get = "&product=demo&permission=things:get";
    // Nobody has looked yet.
    let [way] = &ways(&service, &admin, get, &ana).await[..] else { panic!() };
    assert_eq!((&way["lastUsedAt"], &way["unusedSince"]), (&Value::Null, &Value::Null));

    report(&service, &proxy, &[]).await.expect(200);
    let [way] = &ways(&service, &admin, get, &ana).await[..] else { panic!() };
    assert_eq!((&way["lastUsedAt"], &way["unusedSince"]), (&Value::Null, &json!(at(NOW))));
    service.clock.advance(2 * 3600);
    let (admin, proxy) = (service.admin().await, machine_of(&service, &app).await);
    let now = NOW + 2 * 3600;
    let use_it = used("lerian", &ana, "things:get", now + 30);
    // The clocks of machines differ a little; and what comes twice is no more than once.
    for _ in 0..2 {
        let told = report(&service, &proxy, std::slice::from_ref(&use_it)).await.expect(200);
        assert_eq!(told, taken(1, 0));
    }
    report(&service, &proxy, &[used("lerian", &ana, "things:get", NOW)]).await.expect(200);
    let [way] = &ways(&service, &admin, get, &ana).await[..] else { panic!() };
    assert_eq!(way["lastUsedAt"], at(now));
    let post = "&product=demo&permission=things:post";
    assert_eq!(ways(&service, &admin, post, &ana).await[0]["lastUsedAt"], Value::Null);

    let service = restart(service).await;
    let admin = service.admin().await;
    let [way] = &ways(&service, &admin, get, &ana).await[..] else { panic!() };
    assert_eq!(way["lastUsedAt"], at(now));
    let csv = service.get("/v1/access?format=csv&permission=things:get", &admin).await;
    let text = String::from_utf8(csv.bytes.to_vec()).unwrap();
    assert!(text.lines().next().unwrap().ends_with("last_sign_in_at,last_used_at,unused_since"));
    let row = format!("things:get,demo-editor-group,demo-editor-role,,{0},{0}", at(now));
    assert!(text.contains(&row), "{text}");
    // With whom it was of goes what is known of it.
    service.delete(&format!("/v1/users/{ana}"), &admin).await.is(204);
    let mut db = service.database().await;
    let of = format!("SELECT COUNT(*) FROM user_uses WHERE user_id = '{ana}'");
    assert_eq!(db.number(&of).await, 0);
}

/// A time as it is told.
fn at(seconds: u64) -> String {
    let time = time::OffsetDateTime::from_unix_timestamp(i64::try_from(seconds).unwrap()).unwrap();
    time.format(&time::format_description::well_known::Rfc3339).unwrap()
}

#[tokio::test]
async fn unused_is_said_only_of_what_was_held_and_watched_all_the_time() {
    let service = start(Config::default()).await;
    let admin = service.admin().await;
    let ana = service.person(&admin, "ana", &["demo-viewer-group"]).await;
    let (_, proxy) = machine(&service, &admin, "postern-proxy").await;
    report(&service, &proxy, &[]).await.expect(200);
    let unused = async |days: u64| {
        let admin = service.admin().await;
        let query = format!("&product=demo&unusedForDays={days}");
        ways(&service, &admin, &query, &ana).await.len()
    };
    // Time goes by; as long as no proxy speaks, nobody knows.
    service.clock.advance(90 * DAY);
    assert_eq!(unused(90).await, 0);
    let again = async || {
        let admin = service.admin().await;
        let all = service.get("/v1/applications", &admin).await.expect(200);
        let is_it = |app: &&Value| app["name"] == "postern-proxy";
        let app = all.as_array().unwrap().iter().find(is_it).unwrap().clone();
        let path = format!("/v1/applications/{}/credentials", app["id"].as_str().unwrap());
        let made = service.post(&path, &admin, json!({})).await.expect(201);
        let app = json!({"clientId": app["clientId"], "clientSecret": made["secret"]});
        let proxy = machine_of(&service, &app).await;
        report(&service, &proxy, &[]).await.expect(200);
    };
    again().await;
    assert_eq!((unused(90).await, unused(91).await), (1, 0));
    // What was given only now was not unused before.
    let admin = service.admin().await;
    let path = format!("/v1/users/{ana}");
    let into = |groups: &[&str]| json!({"groups": groups});
    let both = into(&["demo-viewer-group", "demo-editor-group"]);
    service.patch(&path, &admin, both).await.expect(200);
    assert_eq!((unused(90).await, unused(1).await), (1, 1));
    service.clock.advance(2 * DAY);
    again().await;
    // Three permissions by the one group, and the old one by the other.
    assert_eq!((unused(92).await, unused(2).await, unused(3).await), (1, 4, 1));
    // To be taken out and put in again begins anew.
    let admin = service.admin().await;
    for groups in [&["demo-editor-group"][..], &["demo-viewer-group", "demo-editor-group"]] {
        service.patch(&path, &admin, into(groups)).await.expect(200);
    }
    assert_eq!((unused(3).await, unused(2).await), (0, 3));
    // So does a role that permits more; a new title is nothing.
    let role = json!({"id": "r", "product": "demo", "name": "R", "permissions": ["parts:get"]});
    service.post("/v1/roles", &admin, role).await.expect(201);
    let group = json!({"id": "g", "name": "G", "roles": ["r"]});
    service.post("/v1/groups", &admin, group).await.expect(201);
    service.patch(&path, &admin, into(&["g"])).await.expect(200);
    service.clock.advance(DAY);
    again().await;
    assert_eq!(unused(1).await, 1);
    let admin = service.admin().await;
    service.patch("/v1/groups/g", &admin, json!({"name": "H"})).await.expect(200);
    service.patch("/v1/roles/r", &admin, json!({"name": "S"})).await.expect(200);
    assert_eq!(unused(1).await, 1);
    let more = json!({"permissions": ["parts:get", "things:get"]});
    service.patch("/v1/roles/r", &admin, more).await.expect(200);
    assert_eq!(unused(1).await, 0);
    for bad in ["unusedForDays=0", "unusedForDays=x", "unusedForDays=9999999"] {
        service.get(&format!("/v1/access?{bad}"), &admin).await.refused(400, "IDE-0005");
    }
}

#[tokio::test]
async fn t_a_report_is_taken_from_proxies_alone_and_of_what_there_is() {
    let service = start(Config::default()).await;
    let admin = service.admin().await;
    let ana = service.person(&admin, "ana", &["demo-viewer-group"]).await;
    let eve = service.person(&admin, "eve", &["admin-group"]).await;
    let (_, proxy) = machine(&service, &admin, "postern-proxy").await;
    let (_, product) = machine(&service, &admin, "demo").await;
    // A proxy's application, of another organization.
    let (theirs, _) = machine(&service, &admin, "postern-proxy").await;
    part(&service, &eve, theirs["id"].as_str().unwrap()).await;
    let stranger = machine_of(&service, &theirs).await;
    let mut db = service.database().await;
    let before = state(&mut db, "lerian").await;
    let good = used("lerian", &ana, "things:get", NOW);
    for token in [&admin, &product, &stranger] {
        let told = report(&service, token, std::slice::from_ref(&good)).await;
        told.refused(403, "IDE-9001");
    }
    service.send(http::Method::POST, REPORTS, &[], "{}").await.refused(401, "IDE-0008");
    for bad in [
        // Somebody's id under another organization's name, and the other way about.
        used("acme", &ana, "things:get", NOW),
        used("lerian", &eve, "things:get", NOW),
        used("nowhere", &ana, "things:get", NOW),
        used("lerian", "nobody", "things:get", NOW),
        used("lerian", &ana, "things:burn", NOW),
        used("lerian", &ana, "things:get", NOW + 3600),
        used("lerian", &ana, "things:get", u64::MAX),
        json!({"principal": {"application": {"org": "lerian", "id": ana}},
               "product": "demo", "permission": "things:get", "at": NOW}),
        json!({"principal": {"user": {"org": "lerian", "id": ana}},
               "product": "nothing", "permission": "things:get", "at": NOW}),
    ] {
        let told = report(&service, &proxy, std::slice::from_ref(&bad)).await.expect(200);
        assert_eq!(told, taken(0, 1), "{bad}");
    }
    assert_eq!(state(&mut db, "lerian").await, before);
    let many: Vec<_> = (0..501).map(|n| used("lerian", &ana, "things:get", NOW - n)).collect();
    report(&service, &proxy, &many).await.refused(400, "IDE-0007");
    for bad in [
        json!({"products": ["demo"]}),
        json!({"products": ["Demo!"], "uses": []}),
        json!({"products": [], "uses": [{"user": "x"}]}),
        json!({"products": [], "uses": [], "more": 1}),
        json!({"products": [], "uses": [used("'; --", &ana, "things:get", NOW)]}),
    ] {
        service.post(REPORTS, &proxy, bad).await.refused(400, "IDE-0007");
    }
    let large = format!("{{\"products\": [\"{}\"], \"uses\": []}}", "x".repeat(600_000));
    let authorization = format!("Bearer {proxy}");
    let headers = [("content-type", "application/json"), ("authorization", &*authorization)];
    let told = service.send(http::Method::POST, REPORTS, &headers, large).await;
    told.refused(413, "IDE-0007");
    assert_eq!(state(&mut db, "lerian").await, before);
    // What is right in a report is taken beside what is wrong.
    let nobody = used("lerian", "nobody", "things:get", NOW);
    let told = report(&service, &proxy, &[nobody, good]).await.expect(200);
    assert_eq!(told, taken(1, 1));
    // And a proxy that is one no more is not heard.
    let all = service.get("/v1/applications", &admin).await.expect(200);
    let is_it = |app: &&Value| app["name"] == "postern-proxy";
    let app = all.as_array().unwrap().iter().find(is_it).unwrap();
    let path = format!("/v1/applications/{}", app["id"].as_str().unwrap());
    service.delete(&path, &admin).await.is(204);
    report(&service, &proxy, &[]).await.refused(401, "IDE-0009");
}

#[tokio::test]
async fn what_an_administrator_does_here_is_use_too_and_what_is_old_is_forgotten() {
    let service = start(Config::default()).await;
    let admin = service.admin().await;
    let ana = service.person(&admin, "ana", &["admin-group"]).await;
    let token = access(&service.sign_in("ana", PASSWORD).await);
    service.get("/v1/groups", &token).await.expect(200);
    // A stop keeps what the last minute has seen.
    let service = restart(service).await;
    let admin = service.admin().await;
    let last = async |service: &Service, admin: &str, permission: &str| {
        let query = format!("&product=plugin-identity&permission={permission}");
        ways(service, admin, &query, &ana).await[0]["lastUsedAt"].clone()
    };
    assert_eq!(last(&service, &admin, "groups:get").await, at(NOW));
    assert_eq!(last(&service, &admin, "roles:get").await, Value::Null);

    service.clock.advance(3 * DAY);
    let config = Config { usage_retention_days: Some(2), ..Config::default() };
    let clock = service.clock.clone();
    let service = Service::run(service.stop().await, clock, config, products()).await;
    let admin = service.admin().await;
    let mut db = service.database().await;
    let of = format!("SELECT COUNT(*) FROM user_uses WHERE user_id = '{ana}'");
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while db.number(&of).await > 0 {
        assert!(std::time::Instant::now() < deadline, "it is never forgotten");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(last(&service, &admin, "groups:get").await, Value::Null);
    // Of the time before, nothing is said.
    let query = "&product=plugin-identity&permission=groups:get";
    assert_eq!(ways(&service, &admin, query, &ana).await[0]["unusedSince"], at(NOW + DAY));
}
