//! The second factor on the page on which somebody signs in.

use serde_json::json;

use super::{
    code::{BACK, Browser, Page, exchange, page, request, sent, web},
    factors::{Enrolled, enrolled},
    harness::{Answer, PASSWORD, Service, claims},
    oauth::{App, TOKEN, text},
};

const PERSON: (&str, &str) = ("ana", PASSWORD);

/// Fill in the second page.
async fn show(browser: &Browser, service: &Service, page: &Page, code: &str, keep: bool) -> Answer {
    let fields = ["request", "csrf", "challenge"].map(|name| (name, page.field(name)));
    let mut fields: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
    fields.push(("code", code));
    if keep {
        fields.push(("remember", "yes"));
    }
    browser.send(service, "/oauth2/second-factor", &fields).await
}

/// The second page.
async fn asked(browser: &Browser, service: &Service, at: &str) -> Page {
    let first = page(browser.get(service, at).await, 200);
    let second = page(browser.sign_in(service, &first, PERSON).await, 200);
    assert!(second.html.contains("one-time-code") && browser.cookie().is_none(), "{}", second.html);
    second
}

async fn start() -> (Service, App, Enrolled) {
    let service = Service::start().await;
    let app = web(&service).await;
    let admin = service.admin().await;
    let ana = enrolled(&service, &admin, "ana", &["demo-viewer-group"]).await;
    (service, app, ana)
}

/// `amr` and `acr` of the tokens that a code gives.
async fn told(service: &Service, app: &App, answer: &Answer) -> serde_json::Value {
    let code = sent(answer, BACK)["code"].clone();
    let tokens = app.ask(service, TOKEN, &exchange(&code)).await.expect(200);
    let (id, access) = (claims(text(&tokens, "id_token")), claims(text(&tokens, "access_token")));
    assert_eq!((&id["amr"], &id["acr"]), (&access["amr"], &access["acr"]));
    json!([id["amr"], id["acr"]])
}

#[tokio::test]
async fn a_person_shows_a_code_on_the_second_page_and_may_be_remembered() {
    let (service, app, ana) = start().await;
    let browser = Browser::default();
    let second = asked(&browser, &service, &request(&app, &[])).await;
    let wrong = page(show(&browser, &service, &second, "000000", false).await, 403);
    assert!(browser.cookie().is_none());
    let code = ana.phone.next(&service);
    let answer = show(&browser, &service, &wrong, &code, true).await;
    let strong = json!([["pwd", "otp", "mfa"], "aal2"]);
    assert_eq!(told(&service, &app, &answer).await, strong);
    // The next application asks for nothing, nor is it told less.
    let answer = browser.get(&service, &request(&app, &[("acr_values", "aal2")])).await;
    assert_eq!(told(&service, &app, &answer).await, strong);

    // The device is remembered, and what it stands in for is not said to have been shown.
    let first = page(browser.get(&service, &request(&app, &[("prompt", "login")])).await, 200);
    let answer = browser.sign_in(&service, &first, PERSON).await;
    assert_eq!(told(&service, &app, &answer).await, json!([["pwd"], "aal1"]));
    // An application that asks for two factors gets them.
    let at = request(&app, &[("acr_values", "aal2")]);
    let first = page(browser.get(&service, &at).await, 200);
    let second = page(browser.sign_in(&service, &first, PERSON).await, 200);
    let answer = show(&browser, &service, &second, &ana.recovery[2], false).await;
    assert_eq!(told(&service, &app, &answer).await, strong);
    let other = Browser::default();
    asked(&other, &service, &request(&app, &[])).await;
}

#[tokio::test]
async fn the_second_page_is_of_one_browser_one_request_and_few_tries() {
    let (service, app, ana) = start().await;
    let browser = Browser::default();
    let second = asked(&browser, &service, &request(&app, &[])).await;
    let code = ana.phone.next(&service);
    let stranger = Browser::default();
    page(show(&stranger, &service, &second, &code, false).await, 400);
    // A form of the first page is none of the second.
    let first = page(browser.get(&service, &request(&app, &[])).await, 200);
    let challenge = second.field("challenge");
    let (asked_for, csrf) = (first.field("request"), first.field("csrf"));
    let fields = [
        ("request", asked_for.as_str()),
        ("csrf", &csrf),
        ("challenge", &challenge),
        ("code", &code),
    ];
    page(browser.send(&service, "/oauth2/second-factor", &fields).await, 400);
    for _ in 0..5 {
        page(show(&browser, &service, &second, "000000", false).await, 403);
    }
    let over = page(show(&browser, &service, &second, &code, false).await, 403);
    assert!(over.html.contains("name=\"password\"") && browser.cookie().is_none(), "{}", over.html);
    let second = page(browser.sign_in(&service, &over, PERSON).await, 200);
    for _ in 0..5 {
        page(show(&browser, &service, &second, "x", false).await, 403);
    }
    let second = page(browser.sign_in(&service, &over, PERSON).await, 200);
    page(show(&browser, &service, &second, &code, false).await, 429);
    assert!(browser.cookie().is_none());
}

#[tokio::test]
async fn a_browser_that_signed_in_without_a_factor_is_asked_once_one_is_needed() {
    let service = Service::start().await;
    let app = web(&service).await;
    let admin = service.admin().await;
    let id = service.person(&admin, "ana", &["demo-viewer-group"]).await;
    let browser = Browser::default();
    let first = page(browser.get(&service, &request(&app, &[])).await, 200);
    let answer = browser.sign_in(&service, &first, PERSON).await;
    assert_eq!(told(&service, &app, &answer).await, json!([["pwd"], "aal1"]));
    // No page sets one up: who must have one is told so, and is not let in.
    let groups = json!({"mfa": {"groups": ["demo-viewer-group"]}});
    service.patch("/v1/settings", &admin, groups).await.expect(200);
    let first = page(browser.get(&service, &request(&app, &[])).await, 200);
    let told_so = page(browser.sign_in(&service, &first, PERSON).await, 403);
    assert!(told_so.html.contains("A second factor is needed"), "{}", told_so.html);
    service.patch("/v1/settings", &admin, json!({"mfa": null})).await.expect(200);
    let token = service.sign_in("ana", PASSWORD).await;
    super::factors::enrol(&service, &id, token["accessToken"].as_str().unwrap()).await;
    let first = page(browser.get(&service, &request(&app, &[])).await, 200);
    page(browser.sign_in(&service, &first, PERSON).await, 200);
}
