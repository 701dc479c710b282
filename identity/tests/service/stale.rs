//! What nobody uses to prove themselves any more.

use serde_json::{Value, json};

use super::{
    harness::{NOW, PASSWORD, Service, access},
    tenants::stranger,
};
use identity::Config;

const DAY: u64 = 86_400;

async fn whole(service: &Service, token: &str, query: &str) -> Vec<Value> {
    let (mut cursor, mut all) = (String::new(), Vec::new());
    loop {
        let path = format!("/v1/access/stale?limit=2{query}{cursor}");
        let page = service.get(&path, token).await.expect(200);
        all.extend(page["items"].as_array().unwrap().clone());
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return all,
        }
    }
}

/// What is told of one, each as what and why.
fn of(all: &[Value], id: &str) -> Vec<(String, Vec<String>)> {
    let texts = |list: &Value| -> Vec<String> {
        list.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
    };
    let told = |one: &Value| (one["what"].as_str().unwrap().to_owned(), texts(&one["why"]));
    all.iter().filter(|one| one["id"] == id).map(told).collect()
}

fn one(what: &str, why: &[&str]) -> (String, Vec<String>) {
    (what.to_owned(), why.iter().map(|why| (*why).to_owned()).collect())
}

#[tokio::test]
async fn people_sessions_and_credentials_that_nobody_uses_are_told_with_why() {
    // Sessions that may stand idle for long.
    let config = Config { refresh_token_secs: 300 * DAY, ..Config::default() };
    let service = Service::start_with(config).await;
    let admin = service.admin().await;
    let ana = service.person(&admin, "ana", &[]).await;
    let bob = service.person(&admin, "bob", &[]).await;
    let eve = service.person(&admin, "-eve", &[]).await;
    let session = service.sign_in("ana", PASSWORD).await;
    let body = json!({"name": "demo", "description": "d"});
    let app = service.post("/v1/applications", &admin, body).await.expect(201);
    let id = app["id"].as_str().unwrap();
    let at = format!("/v1/applications/{id}/credentials");
    let ends = json!({"name": "ends", "expiresInSecs": 100 * DAY});
    service.post(&at, &admin, ends).await.expect(201);
    let grant = |app: &Value| {
        json!({
            "grantType": "client_credentials",
            "clientId": app["clientId"], "clientSecret": app["clientSecret"],
        })
    };
    assert!(of(&whole(&service, &admin, "").await, &ana).is_empty());

    service.clock.advance(80 * DAY);
    service.token(grant(&app)).await.expect(200);
    let admin = service.admin().await;
    service.sign_in("bob", PASSWORD).await;
    // Nothing is unused for 90 days yet, and one ends within 30.
    let all = whole(&service, &admin, "").await;
    assert_eq!(of(&all, id), [one("secret", &["expiring"])]);
    assert!(of(&all, &ana).is_empty());
    assert!(of(&whole(&service, &admin, "&expiringInDays=10").await, id).is_empty());
    let all = whole(&service, &admin, "&unusedForDays=80").await;
    assert_eq!(of(&all, id), [one("secret", &["unused", "expiring"])]);
    assert_eq!(of(&all, &ana), [one("account", &["unused"]), one("session", &["unused"])]);
    assert!(of(&all, &bob).is_empty());
    let never = all.iter().find(|one| one["id"] == eve.as_str()).unwrap();
    assert_eq!((&never["lastUsedAt"], &never["unusedSince"]), (&Value::Null, &json!(rfc(NOW))));

    // To go on is use of the session, and no sign-in.
    service.refresh(session["refreshToken"].as_str().unwrap()).await.expect(200);
    service.clock.advance(21 * DAY);
    let admin = service.admin().await;
    let all = whole(&service, &admin, "&unusedForDays=90").await;
    assert_eq!(of(&all, &ana), [one("account", &["unused"])]);
    assert_eq!(of(&all, id), [one("secret", &["expired"])]);

    let csv = service.get("/v1/access/stale?format=csv", &admin).await;
    assert_eq!(csv.headers["content-type"], "text/csv; charset=utf-8");
    let text = String::from_utf8(csv.bytes.to_vec()).unwrap();
    assert!(text.contains(",secret,") && text.contains(",ends,expired,"), "{text}");
    assert!(text.contains(&format!("user,{eve},'-eve,account")), "{text}");
    for bad in [
        "unusedForDays=0",
        "expiringInDays=-1",
        "limit=0",
        "cursor=x",
        "who=x",
        "format=csv&limit=2",
    ] {
        service.get(&format!("/v1/access/stale?{bad}"), &admin).await.refused(400, "IDE-0005");
    }
}

fn rfc(seconds: u64) -> String {
    let time = time::OffsetDateTime::from_unix_timestamp(i64::try_from(seconds).unwrap()).unwrap();
    time.format(&time::format_description::well_known::Rfc3339).unwrap()
}

#[tokio::test]
async fn of_what_the_log_has_forgotten_nothing_is_said() {
    let config = Config { audit_retention_days: Some(30), ..Config::default() };
    let service = Service::start_with(config).await;
    let admin = service.admin().await;
    let ana = service.person(&admin, "ana", &[]).await;
    service.clock.advance(100 * DAY);
    let admin = service.admin().await;
    assert!(of(&whole(&service, &admin, "&unusedForDays=31").await, &ana).is_empty());
    let all = whole(&service, &admin, "&unusedForDays=30").await;
    assert_eq!(of(&all, &ana), [one("account", &["unused"])]);
}

#[tokio::test]
async fn t_what_is_stale_is_told_to_whom_it_belongs() {
    let service = Service::start().await;
    let admin = service.admin().await;
    service.person(&admin, "helper", &["helper-group"]).await;
    let helper = access(&service.sign_in("helper", PASSWORD).await);
    service.get("/v1/access/stale", &helper).await.refused(403, "IDE-9001");
    let (_, stranger) = stranger(&service, &admin).await;
    let seen = whole(&service, &stranger, "&expiringInDays=3650").await;
    assert!(seen.iter().all(|one| one["name"] == "eve" || one["name"] == "demo"), "{seen:?}");
}
