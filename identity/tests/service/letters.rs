//! Letters that nobody waits for: kept until they are sent, or good no more.

use std::time::Duration;

use serde_json::json;

use super::{
    code::{Browser, page},
    forgotten::{NEW, ask, asking, letter_of, link, set, start},
    harness::{ADMIN_PASSWORD, PASSWORD, Service, access},
    issuer::near,
    logouts::next,
    oauth::App,
    providers::{Sink, TURNED_AWAY},
};

async fn until(service: &Service, query: &str, so: impl Fn(i64) -> bool) {
    let mut db = service.database().await;
    let done = async {
        while !so(db.number(query).await) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let patience = Duration::from_secs(30);
    assert!(tokio::time::timeout(patience, done).await.is_ok(), "it never came to that: {query}");
}

/// Wait until there is nothing to be sent any more.
pub async fn all_sent(service: &Service) {
    until(service, "SELECT COUNT(*) FROM letters", |left| left == 0).await;
}

/// Wait until somebody has come to a mail server that is down.
pub async fn turned_away(sink: &mut Sink) {
    assert_eq!(next(sink).await, TURNED_AWAY);
}

async fn asked(service: &Service, app: &App, name: &str) {
    let browser = Browser::default();
    let form = asking(&browser, service, app).await;
    page(ask(&browser, service, &form, name).await, 200);
}

/// Nothing that could be told comes by that time.
async fn quiet(sink: &mut Sink, service: &Service) {
    all_sent(service).await;
    sink.heard_all();
}

#[tokio::test]
async fn a_mail_server_that_is_down_is_given_the_letter_later_and_a_start_forgets_nothing() {
    let (service, app, mut sink, admin) = start().await;
    service.person(&admin, "ana", &[]).await;
    sink.is_down(true);
    asked(&service, &app, "ana").await;
    turned_away(&mut sink).await;
    if !super::ON_POSTGRES {
        let clear = "SELECT COUNT(*) FROM letters WHERE instr(sealed, 'ana') > 0";
        assert_eq!(service.database().await.number(clear).await, 0);
    }
    let service = service.restart_with(near()).await;
    service.clock.advance(10);
    turned_away(&mut sink).await;
    sink.is_down(false);
    // It says how long the link is good for from then on.
    service.clock.advance(60);
    let letter = letter_of(&mut sink).await;
    assert!(letter.contains("To: ana@example.com"), "{letter}");
    assert!(letter.contains("good for 19 minutes"), "{letter}");
    quiet(&mut sink, &service).await;
    // What the person is told afterwards is kept by what it tells of.
    sink.is_down(true);
    let browser = Browser::default();
    let form = page(browser.get(&service, &link(&letter)).await, 200);
    page(set(&browser, &service, &form, (NEW, NEW)).await, 200);
    turned_away(&mut sink).await;
    let service = service.restart_with(near()).await;
    // To where the link went, whatever the address is by now.
    let admin = access(&service.sign_in("admin", ADMIN_PASSWORD).await);
    let all = service.get("/v1/users", &admin).await.expect(200);
    let ana = all.as_array().unwrap().iter().find(|user| user["username"] == "ana").unwrap();
    let path = format!("/v1/users/{}", ana["id"].as_str().unwrap());
    let moved = json!({"email": "elsewhere@example.com"});
    service.patch(&path, &admin, moved).await.expect(200);
    sink.is_down(false);
    service.clock.advance(3600);
    let letter = letter_of(&mut sink).await;
    assert!(letter.contains("was changed") && letter.contains("To: ana@example.com"), "{letter}");
    quiet(&mut sink, &service).await;
    service.sign_in("ana", NEW).await;
}

#[tokio::test]
async fn a_letter_that_is_good_no_more_is_dropped_and_that_is_recorded() {
    let (service, app, mut sink, admin) = start().await;
    let id = service.person(&admin, "ana", &[]).await;
    sink.is_down(true);
    asked(&service, &app, "ana").await;
    turned_away(&mut sink).await;
    service.clock.advance(1200);
    all_sent(&service).await;
    sink.is_down(false);
    let admin = service.admin().await;
    let log = service.get("/v1/audit?event=letter.unsent", &admin).await.expect(200);
    let entries = log.as_array().or(log["items"].as_array()).unwrap();
    assert_eq!(entries.len(), 1, "{log}");
    let said = &entries[0];
    assert_eq!(said["target"], json!({"type": "user", "id": id}), "{said}");
    assert_eq!(said["before"], json!({"letter": "password-link", "tries": 2}), "{said}");
    // Whoever it was for asks again.
    asked(&service, &app, "ana").await;
    assert!(letter_of(&mut sink).await.contains("To: ana@example.com"));
    quiet(&mut sink, &service).await;
}

#[tokio::test]
async fn a_link_that_is_void_meanwhile_is_sent_to_nobody() {
    let (service, app, mut sink, admin) = start().await;
    sink.is_down(true);
    for (name, what) in [("ana", "password"), ("bea", "removal"), ("cid", "address")] {
        let id = service.person(&admin, name, &[]).await;
        asked(&service, &app, name).await;
        turned_away(&mut sink).await;
        let path = format!("/v1/users/{id}");
        match what {
            "password" => {
                let body = json!({"newPassword": PASSWORD});
                let path = format!("{path}/reset-password");
                service.patch(&path, &admin, body).await.is(204);
            }
            "removal" => service.delete(&path, &admin).await.is(204),
            _ => {
                let moved = json!({"email": "mallory@example.com"});
                service.patch(&path, &admin, moved).await.is(200);
            }
        }
    }
    sink.is_down(false);
    service.clock.advance(60);
    quiet(&mut sink, &service).await;
    let log = service.get("/v1/audit?event=letter.unsent", &admin).await.expect(200).to_string();
    assert!(!log.contains("letter.unsent"), "{log}");
}

#[tokio::test]
async fn only_so_many_wait_and_whoever_asks_beyond_that_is_told_so_whoever_they_are() {
    let (service, app, mut sink, admin) = start().await;
    service.person(&admin, "ana", &[]).await;
    let mut db = service.database().await;
    let sealed = if super::ON_POSTGRES { "''::bytea" } else { "x''" };
    db.run(&format!(
        "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 1000) \
         INSERT INTO letters SELECT 'l' || n, 'lerian', id, {sealed}, 0, 9000000000, 9000000000 \
         FROM applications, n WHERE name = 'app-lerian'"
    ))
    .await;
    let browser = Browser::default();
    let form = asking(&browser, &service, &app).await;
    for name in ["ana", "nobody"] {
        page(ask(&browser, &service, &form, name).await, 503);
    }
    db.run("DELETE FROM letters WHERE id = 'l7'").await;
    page(ask(&browser, &service, &form, "ana").await, 200);
    assert!(letter_of(&mut sink).await.contains("To: ana@example.com"));
}
