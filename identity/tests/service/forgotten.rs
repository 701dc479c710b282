//! Forgotten passwords: the link that sets one, and everything that is tried with it.

use std::sync::Arc;

use http::Method;
use serde_json::json;

use super::{
    code::{Browser, Page, page, request, web},
    factors::enrolled,
    harness::{ADMIN_PASSWORD, Answer, PASSWORD, Service, access},
    oauth::App,
    providers::{Sink, open, smtp},
    tenants::stranger,
};

pub const NEW: &str = "Falcon-River-82";
const ISSUER: &str = "http://localhost:4000";

/// A service that sends mail for an application.
pub async fn start() -> (Service, App, Sink, String) {
    let sink = Sink::smtp().await;
    let service = open().await;
    let app = web(&service).await;
    let admin = service.admin().await;
    let made = service.post("/v1/providers", &admin, smtp(&sink)).await.expect(201);
    let links = format!("/v1/applications/{}/providers", app.row);
    service.post(&links, &admin, json!({"providerId": made["id"]})).await.expect(201);
    (service, app, sink, admin)
}

/// The page that asks whose password is forgotten, as the sign-in page leads there.
pub async fn asking(browser: &Browser, service: &Service, app: &App) -> Page {
    let first = page(browser.get(service, &request(app, &[])).await, 200);
    let (_, rest) = first.html.split_once("href=\"/oauth2/forgotten-password?").unwrap();
    let query = rest.split('"').next().unwrap().replace("&#38;", "&");
    page(browser.get(service, &format!("/oauth2/forgotten-password?{query}")).await, 200)
}

pub async fn ask(browser: &Browser, service: &Service, form: &Page, name: &str) -> Answer {
    let (asked, csrf) = (form.field("request"), form.field("csrf"));
    let fields = [("request", asked.as_str()), ("csrf", &csrf), ("username", name)];
    browser.send(service, "/oauth2/forgotten-password", &fields).await
}

/// The next letter, without what quotes its lines.
pub async fn letter_of(sink: &mut Sink) -> String {
    sink.next().await.replace("=\r\n", "").replace("=3D", "=")
}

/// Where the link in a letter leads, below the issuer.
pub fn link(letter: &str) -> String {
    let (_, rest) = letter.split_once(ISSUER).unwrap_or_else(|| panic!("{letter}"));
    rest.split_whitespace().next().unwrap().to_owned()
}

/// A link for somebody.
async fn linked(service: &Service, app: &App, sink: &mut Sink, name: &str) -> String {
    let browser = Browser::default();
    let form = asking(&browser, service, app).await;
    page(ask(&browser, service, &form, name).await, 200);
    link(&letter_of(sink).await)
}

pub async fn set(browser: &Browser, service: &Service, form: &Page, new: (&str, &str)) -> Answer {
    let (token, csrf) = (form.field("token"), form.field("csrf"));
    let fields =
        [("token", token.as_str()), ("csrf", &csrf), ("password", new.0), ("again", new.1)];
    browser.send(service, "/oauth2/new-password", &fields).await
}

#[tokio::test]
async fn a_link_sets_a_password_once_ends_every_sign_in_and_makes_none() {
    let (service, app, mut sink, admin) = start().await;
    let ana = enrolled(&service, &admin, "ana", &[]).await;
    let challenge = super::factors::challenged(&service, "ana").await;
    let body = json!({
        "mfaToken": challenge, "mfaType": "app", "passcode": ana.phone.next(&service),
        "rememberDevice": true,
    });
    let held = super::factors::step(&service, "verify", body).await.expect(200);
    // Whoever has forgotten it has tried.
    let wrong = json!({"grantType": "password", "username": "ana", "password": "wrong"});
    for _ in 0..5 {
        service.token(wrong.clone()).await.refused(401, "AUT-1002");
    }
    let (asker, browser) = (Browser::default(), Browser::default());
    let form = asking(&asker, &service, &app).await;
    let told = page(ask(&asker, &service, &form, "ana").await, 200);
    let letter = letter_of(&mut sink).await;
    assert!(
        letter.contains("To: ana@example.com") && letter.contains(" ana at Lerian"),
        "{letter}"
    );
    let at = link(&letter);
    let token = at.strip_prefix("/oauth2/new-password?token=").unwrap();
    assert!(!told.html.contains(token) && token.len() > 43, "{token}");
    let dump = format!("SELECT COUNT(*) FROM password_links WHERE hash = '{token}'");
    if !super::ON_POSTGRES {
        assert_eq!(service.database().await.number(&dump).await, 0);
    }
    // Mail programs look first.
    page(browser.get(&service, &at).await, 200);
    let form = page(browser.get(&service, &at).await, 200);
    assert_eq!(form.headers["referrer-policy"], "strict-origin");
    let weak = page(set(&browser, &service, &form, ("Ana-Maria-1!", "Ana-Maria-1!")).await, 403);
    assert!(weak.html.contains("This one cannot be taken"), "{}", weak.html);
    let other = page(set(&browser, &service, &weak, (NEW, PASSWORD)).await, 403);
    assert!(other.html.contains("not the same") && !other.html.contains(NEW), "{}", other.html);
    page(set(&browser, &service, &other, (NEW, NEW)).await, 200);
    assert!(browser.cookie().is_none());

    page(set(&browser, &service, &other, (NEW, NEW)).await, 403);
    page(browser.get(&service, &at).await, 403);
    service.get("/v1/userinfo", &access(&held)).await.refused(401, "AUT-0007");
    service.refresh(held["refreshToken"].as_str().unwrap()).await.refused(400, "AUT-1005");
    let mut grant = json!({
        "grantType": "password", "username": "ana", "password": NEW,
        "deviceToken": held["deviceToken"],
    });
    // Neither the waits of before, nor the device that was remembered: the factor is asked for.
    let asked = service.token(grant.clone()).await.expect(200);
    assert!(asked["mfaToken"].is_string() && asked.get("accessToken").is_none(), "{asked}");
    grant["password"] = json!(PASSWORD);
    service.token(grant).await.refused(401, "AUT-1002");
    let letter = letter_of(&mut sink).await;
    assert!(letter.contains("Subject: Your password was changed"), "{letter}");
    assert!(letter.contains("To: ana@example.com") && !letter.contains("token="), "{letter}");
    let kept = service.get("/v1/audit?limit=20", &admin).await.expect(200).to_string();
    for event in ["user.password-link-sent", "user.password-recovered"] {
        assert!(kept.contains(event), "{event}: {kept}");
    }
    assert!(!kept.contains(token) && !kept.contains(NEW), "{kept}");
}

#[tokio::test]
async fn the_answer_says_nothing_of_whom_there_is_and_few_letters_go_to_anybody() {
    let (service, app, mut sink, admin) = start().await;
    service.person(&admin, "ana", &[]).await;
    service.person(&admin, "bea", &[]).await;
    stranger(&service, &admin).await;
    let browser = Browser::default();
    let form = asking(&browser, &service, &app).await;
    let shown = |answer: &Answer| {
        let unlike = ["x-request-id", "date"];
        let headers = answer.headers.iter().filter(|(name, _)| !unlike.contains(&name.as_str()));
        (format!("{:?}", headers.collect::<Vec<_>>()), answer.status, answer.bytes.clone())
    };
    let known = ask(&browser, &service, &form, " ANA@example.com ").await;
    for nobody in ["nobody", "nobody@example.com", "eve", "a\0b", "", &"x".repeat(5000)] {
        let answer = ask(&browser, &service, &form, nobody).await;
        assert_eq!(shown(&answer), shown(&known), "{nobody}");
    }
    page(known, 200);
    assert!(letter_of(&mut sink).await.contains("To: ana@example.com"));
    for _ in 0..2 {
        page(ask(&browser, &service, &form, "ana").await, 200);
        assert!(letter_of(&mut sink).await.contains("To: ana@example.com"));
    }
    // Ana has had three within the hour. Somebody else has not.
    for name in ["ana", "ana@example.com", "bea"] {
        page(ask(&browser, &service, &form, name).await, 200);
    }
    assert!(letter_of(&mut sink).await.contains("To: bea@example.com"));
    service.clock.advance(3600);
    page(ask(&browser, &service, &form, "ana").await, 200);
    assert!(letter_of(&mut sink).await.contains("To: ana@example.com"));
    for _ in 0..29 {
        page(ask(&browser, &service, &form, "nobody").await, 200);
    }
    let refused = ask(&browser, &service, &form, "nobody").await;
    assert_eq!(refused.headers["retry-after"], "3600");
    page(refused, 429);
}

#[tokio::test]
async fn a_link_is_of_one_person_short_lived_and_void_once_anything_changes() {
    let (service, app, mut sink, admin) = start().await;
    let id = service.person(&admin, "ana", &[]).await;
    let browser = Browser::default();
    // What the request calls this host makes no difference to where the link leads.
    let form = asking(&browser, &service, &app).await;
    let (asked, csrf, cookies) = (form.field("request"), form.field("csrf"), browser.cookies());
    let headers = [
        ("host", "evil.example"),
        ("x-forwarded-host", "evil.example"),
        ("cookie", &cookies),
        ("sec-fetch-site", "same-origin"),
    ];
    let fields = [("request", asked.as_str()), ("csrf", &csrf), ("username", "ana")];
    page(service.form("/oauth2/forgotten-password", &headers, &fields).await, 200);
    let letter = letter_of(&mut sink).await;
    let at = link(&letter);
    assert!(!letter.contains("evil"), "{letter}");
    // A form of somebody else's, or from elsewhere, asks for nothing and sets nothing.
    page(ask(&Browser::default(), &service, &form, "ana").await, 400);
    let shown = page(browser.get(&service, &at).await, 200);
    page(set(&Browser::default(), &service, &shown, (NEW, NEW)).await, 400);
    let (token, csrf) = (shown.field("token"), shown.field("csrf"));
    let fields = [("token", token.as_str()), ("csrf", &csrf), ("password", NEW), ("again", NEW)];
    let headers = [("cookie", cookies.as_str()), ("sec-fetch-site", "cross-site")];
    page(service.form("/oauth2/new-password", &headers, &fields).await, 400);
    // Of another organization, or another person's, there is none like it.
    for other in ["", "x", "lerian.", &token.replace("lerian.", "acme."), &token[..token.len() - 1]]
    {
        page(browser.get(&service, &format!("/oauth2/new-password?token={other}")).await, 403);
    }
    service.clock.advance(1199);
    page(browser.get(&service, &at).await, 200);
    service.clock.advance(1);
    page(set(&browser, &service, &shown, (NEW, NEW)).await, 403);
    service.sign_in("ana", PASSWORD).await;

    let person = format!("/v1/users/{id}");
    let reset = format!("{person}/reset-password");
    for what in ["address", "password", "person"] {
        service.clock.advance(3600);
        // The address is another one once it was changed.
        let name = if what == "address" { "ana" } else { "ana2@example.com" };
        let at = linked(&service, &app, &mut sink, name).await;
        page(browser.get(&service, &at).await, 200);
        let admin = service.admin().await;
        match what {
            "address" => {
                let body = json!({"email": "ana2@example.com"});
                service.patch(&person, &admin, body).await.expect(200);
            }
            "password" => {
                let body = json!({"newPassword": "Sturdy-Horse-7"});
                service.patch(&reset, &admin, body).await.expect(204);
            }
            _ => drop(service.delete(&person, &admin).await.expect(204)),
        }
        page(browser.get(&service, &at).await, 403);
    }
}

#[tokio::test]
async fn no_lesser_administrator_has_somebodys_mail_sent_elsewhere() {
    let service = Service::start().await;
    let admin = service.admin().await;
    service.person(&admin, "hal", &["helper-group"]).await;
    let ana = service.person(&admin, "ana", &[]).await;
    let helper = access(&service.sign_in("hal", PASSWORD).await);
    let all = service.get("/v1/users", &helper).await.expect(200);
    let all = all.as_array().unwrap();
    let boss = all.iter().find(|user| user["username"] == "admin").unwrap()["id"].clone();
    let boss = format!("/v1/users/{}", boss.as_str().unwrap());
    let mine = json!({"email": "hal2@example.com"});
    service.patch(&boss, &helper, mine.clone()).await.refused(403, "IDE-9002");
    service.patch(&boss, &helper, json!({"firstName": "X"})).await.expect(200);
    service.patch(&format!("/v1/users/{ana}"), &helper, mine).await.expect(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_who_come_with_a_link_at_once_one_sets_the_password() {
    let (service, app, mut sink, admin) = start().await;
    service.person(&admin, "ana", &[]).await;
    let at = linked(&service, &app, &mut sink, "ana").await;
    let service = Arc::new(service);
    let mut setting = Vec::new();
    for new in ["Falcon-River-82", "Falcon-River-83"] {
        let (service, browser) = (Arc::clone(&service), Browser::default());
        let form = page(browser.get(&service, &at).await, 200);
        setting.push((service, browser, form, new));
    }
    let setting = setting.into_iter().map(|(service, browser, form, new)| {
        tokio::spawn(async move {
            (new, set(&browser, &service, &form, (new, new)).await.status.as_u16())
        })
    });
    let setting: Vec<_> = setting.collect();
    let mut done = Vec::new();
    for one in setting {
        done.push(one.await.unwrap());
    }
    done.sort_by_key(|(_, status)| *status);
    assert_eq!([done[0].1, done[1].1], [200, 403]);
    service.sign_in("ana", done[0].0).await;
}

#[tokio::test]
async fn links_are_offered_where_mail_is_sent_and_the_organization_does_not_forbid_it() {
    let service = open().await;
    let app = web(&service).await;
    let (browser, sink) = (Browser::default(), Sink::smtp().await);
    let at = request(&app, &[]);
    let elsewhere = at.replace("/oauth2/authorize", "/oauth2/forgotten-password");
    let first = page(browser.get(&service, &at).await, 200);
    assert!(!first.html.contains("forgotten"), "{}", first.html);
    page(browser.get(&service, &elsewhere).await, 403);
    let admin = service.admin().await;
    let made = service.post("/v1/providers", &admin, smtp(&sink)).await.expect(201);
    let links = format!("/v1/applications/{}/providers", app.row);
    service.post(&links, &admin, json!({"providerId": made["id"]})).await.expect(201);
    let form = asking(&browser, &service, &app).await;
    let never = json!({"password": {"recovery": false}});
    service.patch("/v1/settings", &admin, never).await.expect(200);
    let first = page(browser.get(&service, &at).await, 200);
    assert!(!first.html.contains("forgotten"), "{}", first.html);
    page(browser.get(&service, &elsewhere).await, 403);
    page(ask(&browser, &service, &form, "admin").await, 403);
    service.sign_in("admin", ADMIN_PASSWORD).await;
}

#[tokio::test]
async fn an_administrator_sends_a_link_within_bounds() {
    let (service, _, mut sink, admin) = start().await;
    let id = service.person(&admin, "ana", &[]).await;
    let at = format!("/v1/users/{id}/password-link");
    let send = async |token: &str| service.call(Method::POST, &at, token, json!(null)).await;
    // By the default application, which has no provider yet.
    send(&admin).await.refused(503, "IDE-0064");
    let apps = service.get("/v1/applications", &admin).await.expect(200);
    let home = apps.as_array().unwrap().iter().find(|app| app["name"] == "app-lerian").unwrap();
    let providers = service.get("/v1/providers", &admin).await.expect(200);
    let links = format!("/v1/applications/{}/providers", home["id"].as_str().unwrap());
    service.post(&links, &admin, json!({"providerId": providers[0]["id"]})).await.expect(201);
    send(&admin).await.expect(204);
    let letter = letter_of(&mut sink).await;
    assert!(letter.contains("An administrator has sent you this"), "{letter}");
    let browser = Browser::default();
    let form = page(browser.get(&service, &link(&letter)).await, 200);
    page(set(&browser, &service, &form, (NEW, NEW)).await, 200);
    service.sign_in("ana", NEW).await;
    assert!(letter_of(&mut sink).await.contains("was changed"));
    for _ in 0..4 {
        send(&admin).await.expect(204);
        sink.next().await;
    }
    send(&admin).await.refused(429, "IDE-9056");
    service.person(&admin, "bea", &[]).await;
    let bea = access(&service.sign_in("bea", PASSWORD).await);
    send(&bea).await.refused(403, "IDE-9001");
    let (_, eve) = stranger(&service, &admin).await;
    send(&eve).await.refused(404, "IDE-1003");
}
