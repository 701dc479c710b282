//! Signing in through a provider: the way there and back, who somebody is then, and everybody who
//! would like to be somebody else.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use policy::changes::Fact;
use serde_json::{Value, json};

use super::{
    code::{BACK, Browser, exchange, page, request, sent, web},
    factors::enrol,
    harness::{Answer, NOW, PASSWORD, Service, access, claims},
    issuer::{CLIENT, Issuer, Mood, Sent, near, open},
    oauth::{App, TOKEN, text},
    tenants::stranger,
};

/// Claims of somebody whom the provider vouches for.
const ANA: &str = "6f0c-ana";

fn whole(mut claims: Value, more: Value) -> Value {
    let Value::Object(more) = more else { panic!("{more}") };
    claims.as_object_mut().unwrap().extend(more);
    claims
}

/// Go to a provider from the sign-in page.
async fn go(browser: &Browser, service: &Service, provider: &str, at: &str) -> Sent {
    let (_, query) = at.split_once('?').unwrap();
    let answer = browser.get(service, &format!("/oauth2/sign-in/{provider}?{query}")).await;
    let location = answer.headers["location"].to_str().unwrap().to_owned();
    let parameters = sent(&answer, location.split('?').next().unwrap());
    Sent { location, parameters: parameters.into_iter().collect() }
}

/// Come back with these parameters.
async fn come(
    browser: &Browser,
    service: &Service,
    provider: &str,
    with: &[(&str, &str)],
) -> Answer {
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(with).finish();
    browser.get(service, &format!("/oauth2/sign-in/{provider}/callback?{query}")).await
}

/// All the way there and back as somebody, whose claims may be changed.
pub async fn through(
    (service, app): (&Service, &App),
    browser: &Browser,
    (issuer, provider): (&Issuer, &str),
    change: impl FnOnce(Value) -> Value,
) -> Answer {
    let there = go(browser, service, provider, &request(app, &[])).await;
    let code = issuer.code(&change(issuer.claims(&there, ANA)));
    let with = [("code", code.as_str()), ("state", there.of("state")), ("iss", &issuer.url)];
    come(browser, service, provider, &with).await
}

async fn tokens(service: &Service, app: &App, answer: &Answer) -> Value {
    let code = sent(answer, BACK)["code"].clone();
    app.ask(service, TOKEN, &exchange(&code)).await.expect(200)
}

fn ana() -> Value {
    json!({
        "preferred_username": "ana@corp.example", "email": "ana@corp.example",
        "email_verified": true, "given_name": "Ana", "family_name": "Maria",
        "groups": ["staff", "unknown"],
    })
}

fn mapped() -> Value {
    json!({
        "createUsers": true, "newUserGroups": ["helper-group"],
        "groupMap": {"staff": "demo-viewer-group", "bosses": "demo-editor-group"},
    })
}

#[tokio::test]
async fn somebody_new_gets_an_account_and_the_groups_follow_the_claim() {
    let service = open().await;
    let (admin, app, issuer) = (service.admin().await, web(&service).await, Issuer::start().await);
    let provider = issuer.provide(&service, &admin, mapped()).await;
    let browser = Browser::default();
    let first = page(browser.get(&service, &request(&app, &[("login_hint", "ana")])).await, 200);
    assert!(first.html.contains("Sign in with Company"), "{}", first.html);
    assert!(first.html.contains(&format!("href=\"/oauth2/sign-in/{provider}?")), "{}", first.html);
    let there = go(&browser, &service, &provider, &request(&app, &[("login_hint", "ana")])).await;
    assert!(there.location.starts_with(&format!("{}/auth?tenant=1&", issuer.url)), "{there:?}");
    let back = format!("http://localhost:4000/oauth2/sign-in/{provider}/callback");
    for (name, value) in [
        ("response_type", "code"),
        ("client_id", CLIENT),
        ("redirect_uri", back.as_str()),
        ("scope", "openid profile email"),
        ("code_challenge_method", "S256"),
        ("login_hint", "ana"),
    ] {
        assert_eq!(there.of(name), value);
    }
    let code = issuer.code(&whole(issuer.claims(&there, ANA), ana()));
    let with = [("code", code.as_str()), ("state", there.of("state")), ("iss", &issuer.url)];
    let answer = come(&browser, &service, &provider, &with).await;
    let given = tokens(&service, &app, &answer).await;
    let said = claims(text(&given, "id_token"));
    assert_eq!((&said["amr"], &said["acr"]), (&json!(["fed"]), &json!("aal1")));
    assert_eq!(said["groups"], json!(["demo-viewer-group", "helper-group"]));
    {
        let knows = issuer.knows.lock().unwrap();
        let (authorization, form) = &knows.told[0];
        assert_eq!(*authorization, Issuer::basic());
        let verifier = &form["code_verifier"];
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, verifier.as_bytes());
        assert_eq!(BASE64_URL_SAFE_NO_PAD.encode(hash), there.of("code_challenge"));
        assert_eq!(form["redirect_uri"], back);
    }
    let id = text(&said, "sub").to_owned();
    let user = service.get(&format!("/v1/users/{id}"), &admin).await.expect(200);
    assert_eq!((&user["username"], &user["email"]), (&json!("ana"), &json!("ana@corp.example")));
    let identities = format!("/v1/users/{id}/identities");
    let linked = service.get(&identities, &admin).await.expect(200);
    assert_eq!((&linked[0]["subject"], &linked[0]["providerId"]), (&json!(ANA), &json!(provider)));
    // There is no password, so none is right; and the browser is signed in.
    let grant = json!({"grantType": "password", "username": "ana", "password": ""});
    assert_eq!(service.token(grant).await.status, 400);
    assert!(sent(&browser.get(&service, &request(&app, &[])).await, BACK).contains_key("code"));

    // What the mapping owns is given and taken; what it does not own stays.
    issuer.set(|knows| knows.userinfo = json!({"sub": ANA}));
    let told = service.facts().len();
    let bosses = json!({"groups": ["bosses"], "email": "other@corp.example"});
    let place = (&service, &app);
    let answer =
        through(place, &Browser::default(), (&issuer, &provider), |claims| whole(claims, bosses))
            .await;
    let said = claims(text(&tokens(&service, &app, &answer).await, "id_token"));
    assert_eq!(said["groups"], json!(["demo-editor-group", "helper-group"]));
    let held: Vec<_> = service.facts()[told..]
        .iter()
        .filter_map(|fact| match fact {
            Fact::Holds { groups, .. } => Some(groups.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(json!(held), json!([["demo-editor-group", "helper-group"]]));
    let none = through(place, &Browser::default(), (&issuer, &provider), |claims| claims).await;
    let said = claims(text(&tokens(&service, &app, &none).await, "id_token"));
    assert_eq!(said["groups"], json!(["helper-group"]));
    let user = service.get(&format!("/v1/users/{id}"), &admin).await.expect(200);
    assert_eq!(user["email"], "ana@corp.example", "an address is not followed");
    let log = service.get("/v1/audit?limit=100", &admin).await.expect(200).to_string();
    for event in ["identity-provider.created", "user.identity-linked", "sign-in.succeeded"] {
        assert!(log.contains(event), "{event} in {log}");
    }
    assert!(!log.contains("s3cret"), "{log}");
}

#[tokio::test]
async fn claims_that_the_id_token_lacks_come_from_the_user_info_of_the_same_person() {
    let service = open().await;
    let (admin, app, issuer) = (service.admin().await, web(&service).await, Issuer::start().await);
    let more = whole(mapped(), json!({"claims": {"groups": "realm.roles"}, "trustEmail": true}));
    let provider = issuer.provide(&service, &admin, more).await;
    let place = (&service, &app);
    issuer.set(|knows| {
        knows.userinfo = json!({"sub": "somebody", "email": "e@corp.example"});
    });
    let other = through(place, &Browser::default(), (&issuer, &provider), |claims| claims).await;
    page(other, 403);
    issuer.set(|knows| {
        let told = json!({"sub": ANA, "email": "e@corp.example", "realm": {"roles": "staff"}});
        knows.userinfo = told;
    });
    let answer = through(place, &Browser::default(), (&issuer, &provider), |claims| claims).await;
    let said = claims(text(&tokens(&service, &app, &answer).await, "id_token"));
    assert_eq!(said["groups"], json!(["demo-viewer-group", "helper-group"]));
}

#[tokio::test]
async fn t_an_id_token_that_does_not_hold_signs_nobody_in() {
    let service = open().await;
    let (admin, app, issuer) = (service.admin().await, web(&service).await, Issuer::start().await);
    let provider = issuer.provide(&service, &admin, mapped()).await;
    let jwk = issuer.knows.lock().unwrap().key.jwk("one");
    let forged = |head: Value, claims: &Value, signature: &[u8]| {
        let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&head), part(claims));
        (signed.clone(), format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature)))
    };
    let bad: Vec<(&str, Value)> = vec![
        ("nonce", json!({"nonce": "another"})),
        ("no nonce", json!({"nonce": null})),
        ("issuer", json!({"iss": "https://evil.example"})),
        ("audience", json!({"aud": "another-client"})),
        ("several audiences", json!({"aud": [CLIENT, "another-client"]})),
        ("azp", json!({"azp": "another-client"})),
        ("expired", json!({"exp": NOW - 60})),
        ("to come", json!({"iat": NOW + 600})),
        ("no sub", json!({"sub": ""})),
    ];
    for (what, change) in bad {
        let browser = Browser::default();
        let answer = through((&service, &app), &browser, (&issuer, &provider), |claims| {
            whole(whole(claims, ana()), change)
        });
        page(answer.await, 403);
        assert!(browser.cookie().is_none(), "{what}");
    }
    for what in ["none", "hs256", "another key", "at+jwt", "cut"] {
        let browser = Browser::default();
        let there = go(&browser, &service, &provider, &request(&app, &[])).await;
        let good = whole(issuer.claims(&there, ANA), ana());
        let token = match what {
            "none" => forged(json!({"alg": "none", "kid": "one"}), &good, b"").1,
            "hs256" => {
                // With the public key as the secret.
                let head = json!({"alg": "HS256", "typ": "JWT", "kid": "one"});
                let (signed, _) = forged(head.clone(), &good, b"");
                let secret = jwk.to_string();
                let secret =
                    aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, secret.as_bytes());
                forged(head, &good, aws_lc_rs::hmac::sign(&secret, signed.as_bytes()).as_ref()).1
            }
            "another key" => super::credentials::Key::ec().sign("one", &good),
            "at+jwt" => {
                let token = issuer.knows.lock().unwrap().key.sign("one", &good);
                let (_, rest) = token.split_once('.').unwrap();
                let head = json!({"alg": "ES256", "kid": "one", "typ": "at+jwt"});
                format!("{}.{rest}", BASE64_URL_SAFE_NO_PAD.encode(head.to_string()))
            }
            _ => "a.b".to_owned(),
        };
        let code = issuer.code_for(token);
        let with = [("code", code.as_str()), ("state", there.of("state")), ("iss", &issuer.url)];
        page(come(&browser, &service, &provider, &with).await, 403);
        assert!(browser.cookie().is_none(), "{what}");
    }
    assert_eq!(service.get("/v1/users", &admin).await.expect(200).as_array().unwrap().len(), 1);
    let log = service.get("/v1/audit?limit=100", &admin).await.expect(200).to_string();
    assert!(log.contains("sign-in.failed"), "{log}");
}

#[tokio::test]
async fn t_what_was_sent_comes_back_once_to_the_browser_and_from_the_provider_it_was_sent_to() {
    let service = open().await;
    let (admin, app) = (service.admin().await, web(&service).await);
    let (issuer, evil) = (Issuer::start().await, Issuer::start().await);
    let provider = issuer.provide(&service, &admin, mapped()).await;
    let other = evil.provide(&service, &admin, json!({"name": "Evil"})).await;
    let browser = Browser::default();
    let there = go(&browser, &service, &provider, &request(&app, &[])).await;
    let code = issuer.code(&whole(issuer.claims(&there, ANA), ana()));
    let state = there.of("state");
    let with = [("code", code.as_str()), ("state", state), ("iss", &issuer.url)];
    // A stranger's browser, with a tie of its own or none.
    let thief = Browser::default();
    page(come(&thief, &service, &provider, &with).await, 400);
    thief.get(&service, &request(&app, &[])).await;
    page(come(&thief, &service, &provider, &with).await, 400);
    // Another provider's way back, and a state that nobody made.
    page(come(&browser, &service, &other, &with).await, 400);
    for state in ["", "lerian.x", "acme.x", "x", "a\0.b"] {
        page(come(&browser, &service, &provider, &[("code", "c"), ("state", state)]).await, 400);
    }
    let twice = [with[0], with[1], with[1], with[2]];
    page(come(&browser, &service, &provider, &twice).await, 400);
    assert_eq!(issuer.knows.lock().unwrap().told.len(), 0, "the code went nowhere");
    let answer = come(&browser, &service, &provider, &with).await;
    assert!(sent(&answer, BACK).contains_key("code"));
    // Once.
    page(come(&browser, &service, &provider, &with).await, 400);
    // An answer that says it is another's, or not whose where it always does (RFC 9207).
    for iss in [Some(evil.url.as_str()), None] {
        let browser = Browser::default();
        let there = go(&browser, &service, &provider, &request(&app, &[])).await;
        let code = issuer.code(&whole(issuer.claims(&there, ANA), ana()));
        let mut with = vec![("code", code.as_str()), ("state", there.of("state"))];
        with.extend(iss.map(|iss| ("iss", iss)));
        page(come(&browser, &service, &provider, &with).await, 403);
        assert!(browser.cookie().is_none());
    }
    // It waits ten minutes.
    let browser = Browser::default();
    let late = go(&browser, &service, &provider, &request(&app, &[])).await;
    service.clock.advance(600);
    let with = [("code", "c"), ("state", late.of("state")), ("iss", &issuer.url)];
    page(come(&browser, &service, &provider, &with).await, 400);
}

#[tokio::test]
async fn t_an_e_mail_address_makes_nobody_somebody_else() {
    let service = open().await;
    let (admin, app, issuer) = (service.admin().await, web(&service).await, Issuer::start().await);
    let provider = issuer.provide(&service, &admin, json!({"createUsers": true})).await;
    let place = (&service, &app);
    // Of an account that is there.
    let mine =
        json!({"email": "admin@midaz.tech", "preferred_username": "admin", "email_verified": true});
    let browser = Browser::default();
    let answer = through(place, &browser, (&issuer, &provider), |claims| whole(claims, mine)).await;
    let told = page(answer, 403);
    assert!(told.html.contains("There is an account with your e-mail address"), "{}", told.html);
    assert!(browser.cookie().is_none());
    // Of somebody who will have one some day: nobody vouches for it.
    for verified in [json!(false), json!("true"), Value::Null] {
        let later = whole(ana(), json!({"email": "boss@corp.example", "email_verified": verified}));
        let answer = through(place, &browser, (&issuer, &provider), |claims| whole(claims, later));
        page(answer.await, 403);
    }
    // A user name that is taken is another one.
    let same = whole(ana(), json!({"preferred_username": "admin"}));
    let answer = through(place, &browser, (&issuer, &provider), |claims| whole(claims, same)).await;
    let said = claims(text(&tokens(&service, &app, &answer).await, "id_token"));
    let user = service.get(&format!("/v1/users/{}", text(&said, "sub")), &admin).await.expect(200);
    assert!(user["username"].as_str().unwrap().starts_with("admin-"), "{user}");
    assert_eq!(user["groups"], json!([]));
}

#[tokio::test]
async fn who_has_no_account_needs_an_administrator_to_link_them() {
    let service = open().await;
    let (admin, app, issuer) = (service.admin().await, web(&service).await, Issuer::start().await);
    let provider = issuer.provide(&service, &admin, json!({})).await;
    let place = (&service, &app);
    let refused =
        through(place, &Browser::default(), (&issuer, &provider), |c| whole(c, ana())).await;
    assert!(page(refused, 403).html.contains("You have no account here"));
    let id = service.person(&admin, "ana", &["demo-viewer-group"]).await;
    let path = format!("/v1/users/{id}/identities/{provider}");
    let put = async |path: &str, by: &str, subject: &str| {
        service.call(http::Method::PUT, path, by, json!({"subject": subject})).await
    };
    put(&path, &admin, ANA).await.expect(201);
    put(&path, &admin, ANA).await.expect(200);
    let answer = through(place, &Browser::default(), (&issuer, &provider), |claims| claims).await;
    let said = claims(text(&tokens(&service, &app, &answer).await, "id_token"));
    assert_eq!((&said["sub"], &said["groups"]), (&json!(id), &json!(["demo-viewer-group"])));

    let bob = service.person(&admin, "bob", &[]).await;
    let other = format!("/v1/users/{bob}/identities/{provider}");
    put(&other, &admin, ANA).await.refused(409, "IDE-9053");
    put(&other, &admin, "").await.refused(400, "IDE-0001");
    let nowhere = format!("/v1/users/{bob}/identities/{id}");
    put(&nowhere, &admin, "x").await.refused(404, "IDE-9051");
    service.delete(&other, &admin).await.refused(404, "IDE-9052");
    // Whoever links a person could sign in as them.
    service.person(&admin, "helper", &["helper-group"]).await;
    let helper = access(&service.sign_in("helper", PASSWORD).await);
    let root = claims(&admin)["sub"].clone();
    let root = format!("/v1/users/{}/identities/{provider}", root.as_str().unwrap());
    put(&root, &helper, "mine").await.refused(403, "IDE-9002");
    put(&other, &helper, "bobs").await.expect(201);
    service.delete(&path, &admin).await.expect(204);
    let refused = through(place, &Browser::default(), (&issuer, &provider), |claims| claims).await;
    page(refused, 403);
    put(&path, &admin, ANA).await.expect(201);
    // Who is disabled stays out, and is given nothing meanwhile.
    let user = format!("/v1/users/{id}");
    service.patch(&user, &admin, json!({"disabled": true})).await.expect(200);
    let told = service.facts();
    let at = format!("/v1/identity-providers/{provider}");
    let map = json!({"groupMap": {"staff": "demo-editor-group"}});
    service.patch(&at, &admin, map).await.expect(200);
    let refused =
        through(place, &Browser::default(), (&issuer, &provider), |c| whole(c, ana())).await;
    assert!(page(refused, 403).html.contains("is disabled"));
    assert_eq!(service.facts(), told);
    let held = service.get(&user, &admin).await.expect(200);
    assert_eq!(held["groups"], json!(["demo-viewer-group"]));
    // And whoever is removed is nobody again.
    service.delete(&format!("/v1/users/{id}"), &admin).await.expect(204);
    page(through(place, &Browser::default(), (&issuer, &provider), |c| whole(c, ana())).await, 403);
}

#[tokio::test]
async fn a_second_factor_is_asked_for_unless_the_provider_is_trusted_to_have_done_so() {
    let service = open().await;
    let (admin, app, issuer) = (service.admin().await, web(&service).await, Issuer::start().await);
    let provider = issuer.provide(&service, &admin, json!({"mfaAcr": ["gold"]})).await;
    let id = service.person(&admin, "ana", &[]).await;
    let path = format!("/v1/users/{id}/identities/{provider}");
    service.call(http::Method::PUT, &path, &admin, json!({"subject": ANA})).await.expect(201);
    let token = access(&service.sign_in("ana", PASSWORD).await);
    let phone = enrol(&service, &id, &token).await.phone;
    let place = (&service, &app);
    let strong = json!({"amr": ["pwd", "otp", "mfa", "<x>"]});
    let browser = Browser::default();
    let answer = through(place, &browser, (&issuer, &provider), |c| whole(c, strong.clone())).await;
    let second = page(answer, 200);
    assert!(second.html.contains("one-time-code") && browser.cookie().is_none());
    let code = phone.next(&service);
    let fields = ["request", "csrf", "challenge"].map(|name| (name, second.field(name)));
    let mut fields: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
    fields.push(("code", &code));
    let answer = browser.send(&service, "/oauth2/second-factor", &fields).await;
    let said = claims(text(&tokens(&service, &app, &answer).await, "id_token"));
    assert_eq!((&said["amr"], &said["acr"]), (&json!(["fed", "otp", "mfa"]), &json!("aal2")));

    let path = format!("/v1/identity-providers/{provider}");
    service.patch(&path, &admin, json!({"trustMfa": true})).await.expect(200);
    let at = service.clock.now();
    let now = move |claims: Value, more: Value| {
        whole(whole(claims, json!({"iat": at, "exp": at + 300, "auth_time": at - 50})), more)
    };
    for (more, amr) in [
        (strong, json!(["fed", "mfa", "pwd", "otp"])),
        (json!({"acr": "gold"}), json!(["fed", "mfa"])),
    ] {
        let browser = Browser::default();
        let answer = through(place, &browser, (&issuer, &provider), |c| now(c, more)).await;
        let said = claims(text(&tokens(&service, &app, &answer).await, "id_token"));
        assert_eq!((&said["amr"], &said["acr"]), (&amr, &json!("aal2")));
        assert_eq!(said["auth_time"], at - 50);
    }
    for more in [json!({}), json!({"acr": "silver"}), json!({"amr": "mfa"})] {
        let browser = Browser::default();
        let answer = through(place, &browser, (&issuer, &provider), |c| now(c, more)).await;
        assert!(page(answer, 200).html.contains("one-time-code"));
    }
    // An application that wants somebody who has just signed in gets no other.
    let browser = Browser::default();
    let wants = request(&app, &[("max_age", "100"), ("prompt", "login")]);
    for (ago, status) in [(1000, 403), (10, 303)] {
        let there = go(&browser, &service, &provider, &wants).await;
        assert_eq!((there.of("max_age"), there.of("prompt")), ("100", "login"));
        let more = json!({"acr": "gold", "auth_time": at - ago});
        let code = issuer.code(&now(issuer.claims(&there, ANA), more));
        let with = [("code", code.as_str()), ("state", there.of("state")), ("iss", &issuer.url)];
        assert_eq!(come(&browser, &service, &provider, &with).await.status, status);
    }
}

#[tokio::test]
async fn a_provider_that_is_down_slow_huge_or_leads_elsewhere_is_told_in_a_sentence() {
    let service = open().await;
    let (admin, app, issuer) = (service.admin().await, web(&service).await, Issuer::start().await);
    let provider = issuer.provide(&service, &admin, mapped()).await;
    for mood in [Mood::Down, Mood::Huge, Mood::Elsewhere, Mood::Silent] {
        issuer.set(|knows| knows.mood = Mood::Well);
        let browser = Browser::default();
        let there = go(&browser, &service, &provider, &request(&app, &[])).await;
        let code = issuer.code(&whole(issuer.claims(&there, ANA), ana()));
        issuer.set(|knows| knows.mood = mood);
        let with = [("code", code.as_str()), ("state", there.of("state")), ("iss", &issuer.url)];
        let told = page(come(&browser, &service, &provider, &with).await, 403);
        assert!(told.html.contains("cannot be reached"), "{mood:?}: {}", told.html);
    }
    // What it says of itself is asked for again after an hour; while it is down, not by everybody.
    service.clock.advance(3600);
    issuer.set(|knows| knows.mood = Mood::Down);
    let asked = || issuer.knows.lock().unwrap().asked["/.well-known/openid-configuration"];
    let before = asked();
    let query = request(&app, &[]).split_once('?').unwrap().1.to_owned();
    let path = format!("/oauth2/sign-in/{provider}?{query}");
    for _ in 0..3 {
        page(Browser::default().get(&service, &path).await, 403);
    }
    assert_eq!(asked(), before + 1);
    issuer.set(|knows| knows.mood = Mood::Well);
    service.clock.advance(5);
    go(&Browser::default(), &service, &provider, &request(&app, &[])).await;
}

#[tokio::test]
async fn a_provider_that_exchanges_its_key_is_asked_for_the_new_one_at_once() {
    let service = open().await;
    let (admin, app, issuer) = (service.admin().await, web(&service).await, Issuer::start().await);
    let provider = issuer.provide(&service, &admin, mapped()).await;
    let place = (&service, &app);
    let first =
        through(place, &Browser::default(), (&issuer, &provider), |c| whole(c, ana())).await;
    tokens(&service, &app, &first).await;
    let asked = || issuer.knows.lock().unwrap().asked["/keys"];
    assert_eq!(asked(), 1);
    issuer.set(|knows| {
        knows.key = super::credentials::Key::rsa();
        "two".clone_into(&mut knows.kid);
    });
    let second =
        through(place, &Browser::default(), (&issuer, &provider), |c| whole(c, ana())).await;
    tokens(&service, &app, &second).await;
    assert_eq!(asked(), 2);
    // One that it does not have either is asked for once a sign-in.
    let browser = Browser::default();
    let there = go(&browser, &service, &provider, &request(&app, &[])).await;
    let stray = super::credentials::Key::ec().sign("three", &issuer.claims(&there, ANA));
    let code = issuer.code_for(stray);
    let with = [("code", code.as_str()), ("state", there.of("state")), ("iss", &issuer.url)];
    page(come(&browser, &service, &provider, &with).await, 403);
    assert_eq!(asked(), 3);
}

#[tokio::test]
async fn a_provider_is_set_up_by_whoever_holds_what_it_gives_and_never_tells_its_secret() {
    let service = open().await;
    let (admin, issuer) = (service.admin().await, Issuer::start().await);
    let provider = issuer.provide(&service, &admin, mapped()).await;
    let path = format!("/v1/identity-providers/{provider}");
    let shown = service.get(&path, &admin).await.expect(200);
    assert_eq!((&shown["hasSecret"], &shown["enabled"]), (&json!(true), &json!(true)));
    assert_eq!(shown["claims"]["username"], "preferred_username");
    let all = service.get("/v1/identity-providers", &admin).await.expect(200);
    assert_eq!(all, json!([shown]));
    assert!(!all.to_string().contains("s3cret"));
    let held = "SELECT COUNT(*) FROM identity_providers WHERE details LIKE '%s3cret%'";
    assert_eq!(service.database().await.number(held).await, 0);
    let good = json!({"name": "X", "issuer": issuer.url, "clientId": "c"});
    for (change, status, code) in [
        (json!({"name": ""}), 400, "IDE-0001"),
        (json!({"issuer": "http://sso.example.com"}), 400, "IDE-0007"),
        (json!({"issuer": "http://10.0.0.1/"}), 400, "IDE-0007"),
        (json!({"issuer": format!("{}/other", issuer.url)}), 400, "IDE-0007"),
        (json!({"issuer": "nothing"}), 400, "IDE-0007"),
        (json!({"clientId": "a b"}), 400, "IDE-0007"),
        (json!({"scopes": ["profile"]}), 400, "IDE-0007"),
        (json!({"claims": {"name": "x"}}), 400, "IDE-0002"),
        (json!({"claims": {"groups": ""}}), 400, "IDE-0007"),
        (json!({"groupMap": {"a": 1}}), 400, "IDE-0002"),
        (json!({"groupMap": {"a": "nothing"}}), 404, "IDE-1006"),
        (json!({"newUserGroups": ["nothing"]}), 404, "IDE-1006"),
        (json!({"secret": "x"}), 400, "IDE-0004"),
    ] {
        let body = whole(good.clone(), change);
        service.post("/v1/identity-providers", &admin, body).await.refused(status, code);
    }
    service.patch(&path, &admin, json!({"issuer": "x"})).await.refused(400, "IDE-0010");
    // A lesser administrator gives nothing away, and touches nothing that gives more.
    service.person(&admin, "helper", &["helper-group"]).await;
    let helper = access(&service.sign_in("helper", PASSWORD).await);
    let more = whole(good.clone(), json!({"groupMap": {"a": "admin-group"}}));
    service.post("/v1/identity-providers", &helper, more).await.refused(403, "IDE-9002");
    let more = whole(good.clone(), json!({"newUserGroups": ["demo-viewer-group"]}));
    service.post("/v1/identity-providers", &helper, more).await.refused(403, "IDE-9002");
    for change in [json!({"groupMap": {}}), json!({"enabled": false}), json!({"trustMfa": true})] {
        service.patch(&path, &helper, change).await.refused(403, "IDE-9002");
    }
    let own = service.post("/v1/identity-providers", &helper, good).await.expect(201);
    let own = format!("/v1/identity-providers/{}", own["id"].as_str().unwrap());
    service.patch(&own, &helper, json!({"clientSecret": ""})).await.expect(200);
    let more = json!({"groupMap": {"a": "demo-editor-group"}});
    service.patch(&own, &helper, more).await.refused(403, "IDE-9002");
    service.delete(&own, &helper).await.refused(403, "IDE-9001");
    // In another organization there is none of it.
    let (_, eve) = stranger(&service, &admin).await;
    assert_eq!(service.get("/v1/identity-providers", &eve).await.expect(200), json!([]));
    for answer in [
        service.get(&path, &eve).await,
        service.patch(&path, &eve, json!({"enabled": false})).await,
        service.delete(&path, &eve).await,
    ] {
        answer.refused(404, "IDE-9051");
    }
    service.delete(&own, &admin).await.expect(204);
    service.get(&own, &admin).await.refused(404, "IDE-9051");
}

#[tokio::test]
async fn t_nobody_signs_in_through_a_provider_that_is_off_gone_or_another_organizations() {
    let service = open().await;
    let (admin, app, issuer) = (service.admin().await, web(&service).await, Issuer::start().await);
    let provider = issuer.provide(&service, &admin, mapped()).await;
    let path = format!("/v1/identity-providers/{provider}");
    let query = request(&app, &[]).split_once('?').unwrap().1.to_owned();
    let at = |provider: &str, query: &str| format!("/oauth2/sign-in/{provider}?{query}");
    let browser = Browser::default();
    let there = go(&browser, &service, &provider, &request(&app, &[])).await;
    service.patch(&path, &admin, json!({"enabled": false})).await.expect(200);
    let code = issuer.code(&whole(issuer.claims(&there, ANA), ana()));
    let with = [("code", code.as_str()), ("state", there.of("state")), ("iss", &issuer.url)];
    let told = page(come(&browser, &service, &provider, &with).await, 403);
    assert!(told.html.contains("not offered any more") && !told.html.contains("Sign in with"));
    page(browser.get(&service, &at(&provider, &query)).await, 404);
    page(browser.get(&service, &at("nothing", &query)).await, 404);
    service.patch(&path, &admin, json!({"enabled": true})).await.expect(200);
    // Nor is anybody sent to where no application asks to.
    page(browser.get(&service, &at(&provider, "")).await, 400);
    let evil = request(&app, &[("redirect_uri", "https://evil.example/")]);
    page(browser.get(&service, &at(&provider, evil.split_once('?').unwrap().1)).await, 400);
    // An application of the other organization.
    let eve = service.person(&admin, "eve", &["admin-group"]).await;
    let theirs = json!({
        "name": "Theirs", "description": "x", "grantTypes": ["authorization_code"],
        "redirectUris": [BACK],
    });
    let theirs = App::register(&service, theirs).await;
    super::tenants::part(&service, &eve, &theirs.row).await;
    let mut db = service.database().await;
    db.run("UPDATE applications SET grant_types = 'authorization_code' WHERE org_id = 'acme'")
        .await;
    let asked = request(&theirs, &[]);
    let shown = page(browser.get(&service, &asked).await, 200);
    assert!(!shown.html.contains("Sign in with"), "{}", shown.html);
    page(browser.get(&service, &at(&provider, asked.split_once('?').unwrap().1)).await, 404);
}

#[tokio::test]
async fn two_first_sign_ins_at_once_make_one_account() {
    let service = open().await;
    let (admin, app, issuer) = (service.admin().await, web(&service).await, Issuer::start().await);
    let provider = issuer.provide(&service, &admin, mapped()).await;
    let (place, at) = ((&service, &app), (&issuer, provider.as_str()));
    let (one, other) = (Browser::default(), Browser::default());
    let both = tokio::join!(
        through(place, &one, at, |claims| whole(claims, ana())),
        through(place, &other, at, |claims| whole(claims, ana())),
    );
    for answer in [both.0, both.1] {
        assert!(sent(&answer, BACK).contains_key("code"));
    }
    assert_eq!(service.get("/v1/users", &admin).await.expect(200).as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn nobody_is_sent_to_a_private_network_that_is_not_listed() {
    let service = Service::start().await;
    let (admin, issuer) = (service.admin().await, Issuer::start().await);
    let body = json!({"name": "X", "issuer": issuer.url, "clientId": "c"});
    service.post("/v1/identity-providers", &admin, body).await.refused(400, "IDE-0007");
    // One that was made while it was.
    let service = service.restart_with(near()).await;
    let app = web(&service).await;
    let provider = issuer.provide(&service, &admin, mapped()).await;
    let service = service.restart().await;
    let query = request(&app, &[]).split_once('?').unwrap().1.to_owned();
    let path = format!("/oauth2/sign-in/{provider}?{query}");
    page(Browser::default().get(&service, &path).await, 403);
}
