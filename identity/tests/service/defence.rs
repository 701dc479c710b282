//! Guessing: what it costs a stranger, and that it costs nobody else anything.

use http::{Method, header::RETRY_AFTER};
use identity::Config;
use policy::networks::Networks;
use secrecy::SecretString;
use serde_json::{Value, json};

use super::{
    code::{Browser, page, request, web},
    harness::{ADMIN_PASSWORD, Answer, PASSWORD, Service, catalog},
};

/// Behind a proxy on this machine, so that a test may come from anywhere.
fn behind_a_proxy() -> Config {
    let trusted_proxies = Networks(vec!["127.0.0.0/8".parse().unwrap()]);
    Config { trusted_proxies, ..Config::default() }
}

async fn start() -> Service {
    Service::start_with(behind_a_proxy()).await
}

/// Sign in by password from an address.
async fn from(service: &Service, address: &str, username: &str, password: &str) -> Answer {
    let headers = [("content-type", "application/json"), ("x-forwarded-for", address)];
    let body = json!({"grantType": "password", "username": username, "password": password});
    let path = "/v1/login/oauth/access_token";
    service.send(Method::POST, path, &headers, body.to_string()).await
}

/// Be wrong until that is no longer looked at.
async fn use_up(service: &Service, address: &str, username: &str) {
    for _ in 0..5 {
        from(service, address, username, "wrong").await.refused(401, "AUT-1002");
    }
}

/// What tells one refusal from another, beside the number of the request.
fn shown(answer: &Answer) -> (u16, Vec<(String, String)>, Value) {
    let unlike = ["x-request-id", "date"];
    let headers = answer.headers.iter().filter(|(name, _)| !unlike.contains(&name.as_str()));
    let headers = headers.map(|(n, v)| (n.to_string(), v.to_str().unwrap().to_owned())).collect();
    (answer.status.as_u16(), headers, answer.json())
}

#[tokio::test]
async fn e_after_five_failures_there_is_one_guess_after_each_wait_and_the_waits_double() {
    let service = start().await;
    let here = "192.0.2.1";
    use_up(&service, here, "admin").await;
    // The right one is not looked at either, or a guess would be worth making.
    from(&service, here, "admin", ADMIN_PASSWORD).await.refused(401, "AUT-1002");
    service.clock.advance(1);
    from(&service, here, "admin", ADMIN_PASSWORD).await.refused(401, "AUT-1002");
    service.clock.advance(1);
    from(&service, here, "admin", "wrong").await.refused(401, "AUT-1002");
    service.clock.advance(3);
    from(&service, here, "admin", ADMIN_PASSWORD).await.refused(401, "AUT-1002");
    service.clock.advance(1);
    from(&service, here, "admin", ADMIN_PASSWORD).await.expect(200);
    // That is forgotten now.
    use_up(&service, here, "admin").await;
    service.clock.advance(2);
    from(&service, here, "admin", ADMIN_PASSWORD).await.expect(200);
}

#[tokio::test]
async fn e_nobody_can_tell_a_wrong_password_from_nobody_or_from_a_wait() {
    let service = start().await;
    let wrong = shown(&from(&service, "192.0.2.1", "admin", "wrong").await);
    let nobody = shown(&from(&service, "192.0.2.1", "nobody", "wrong").await);
    use_up(&service, "192.0.2.2", "admin").await;
    use_up(&service, "192.0.2.3", "nobody").await;
    let waiting = shown(&from(&service, "192.0.2.2", "admin", "wrong").await);
    let right = shown(&from(&service, "192.0.2.2", "admin", ADMIN_PASSWORD).await);
    let nobody_waiting = shown(&from(&service, "192.0.2.3", "nobody", "wrong").await);
    for other in [nobody, waiting, right, nobody_waiting] {
        assert_eq!(other, wrong);
    }
}

#[tokio::test]
async fn e_a_stranger_cannot_lock_anybody_out() {
    let service = start().await;
    from(&service, "192.0.2.1", "admin", ADMIN_PASSWORD).await.expect(200);
    // From one place: that place alone waits.
    use_up(&service, "198.51.100.1", "admin").await;
    from(&service, "198.51.100.1", "admin", ADMIN_PASSWORD).await.refused(401, "AUT-1002");
    from(&service, "192.0.2.9", "admin", ADMIN_PASSWORD).await.expect(200);
    // From many: whoever is where they have been before goes on, for hours.
    for hour in 0..2 {
        for n in 0..60 {
            from(&service, &format!("198.51.100.{}", 100 + n), "admin", "wrong")
                .await
                .refused(401, "AUT-1002");
        }
        from(&service, "192.0.2.1", "admin", ADMIN_PASSWORD).await.expect(200);
        // The right password from elsewhere is no longer told from a wrong one.
        let elsewhere = format!("203.0.113.{hour}");
        from(&service, &elsewhere, "admin", ADMIN_PASSWORD).await.refused(401, "AUT-1002");
        // By the e-mail address it is the same account.
        from(&service, &elsewhere, "admin@midaz.tech", ADMIN_PASSWORD)
            .await
            .refused(401, "AUT-1002");
        service.clock.advance(3600);
    }
    from(&service, "203.0.113.7", "admin", ADMIN_PASSWORD).await.expect(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e_many_guesses_at_once_are_no_way_round() {
    let service = std::sync::Arc::new(start().await);
    // The sixth may slip in before the fifth has failed; none after it.
    let mut guesses = Vec::new();
    for n in 0..18 {
        let service = std::sync::Arc::clone(&service);
        guesses.push(tokio::spawn(async move {
            let password = format!("wrong-{n}");
            from(&service, "192.0.2.1", "admin", &password).await.refused(401, "AUT-1002");
        }));
    }
    for guess in guesses {
        guess.await.unwrap();
    }
    from(&service, "192.0.2.1", "admin", ADMIN_PASSWORD).await.refused(401, "AUT-1002");
    // What was not looked at has not been counted: the next wait is one of the first.
    service.clock.advance(4);
    from(&service, "192.0.2.1", "admin", ADMIN_PASSWORD).await.expect(200);
}

#[tokio::test]
async fn e_a_network_fails_twenty_times_a_minute_and_is_told_so() {
    let service = start().await;
    let admin = service.admin().await;
    service.person(&admin, "ana", &[]).await;
    from(&service, "192.0.2.1", "ana", PASSWORD).await.expect(200);
    // All of a /64 is one caller.
    for n in 0..20 {
        let address = format!("2001:db8:1:2::{n:x}");
        from(&service, &address, &format!("nobody{}", n % 4), "wrong").await.expect(401);
    }
    let told = from(&service, "2001:db8:1:2:9::1", "ana", PASSWORD).await;
    assert_eq!(told.headers[RETRY_AFTER], "60");
    told.refused(429, "AUT-9020");
    let form = [("grant_type", "password"), ("username", "ana"), ("password", PASSWORD)];
    let form =
        [&form[..], &[("client_id", &service.client_id), ("client_secret", "wrong")]].concat();
    let there = [("x-forwarded-for", "2001:db8:1:2::1")];
    let told = service.form("/oauth2/token", &there, &form).await;
    assert_eq!(told.headers[RETRY_AFTER], "60");
    told.refused_as(429, "temporarily_unavailable");
    from(&service, "2001:db8:1:3::1", "ana", PASSWORD).await.expect(200);
    service.clock.advance(60);
    from(&service, "2001:db8:1:2::1", "ana", PASSWORD).await.expect(200);

    // Sign-ins that succeed are as many as there are.
    for _ in 0..2 {
        for n in 0..12 {
            from(&service, "192.0.2.1", &format!("nobody{n}"), "wrong").await.expect(401);
            from(&service, "192.0.2.1", "ana", PASSWORD).await.expect(200);
        }
        service.clock.advance(60);
    }
}

#[tokio::test]
async fn e_one_password_tried_on_many_is_slowed_where_it_comes_from() {
    let service = start().await;
    let admin = service.admin().await;
    for name in ["ana", "bea"] {
        service.person(&admin, name, &[]).await;
    }
    let here = "192.0.2.1";
    from(&service, here, "ana", PASSWORD).await.expect(200);
    for n in 0..15 {
        from(&service, here, &format!("nobody{n}"), "Summer-2026!").await.expect(401);
        service.clock.advance(5);
    }
    from(&service, here, "nobody15", "Summer-2026!").await.refused(401, "AUT-1002");
    let slowed = from(&service, here, "bea", PASSWORD).await;
    assert_eq!(slowed.headers[RETRY_AFTER], "10");
    slowed.refused(429, "AUT-9020");
    // Who has been here before is not held up, nor is anybody elsewhere.
    from(&service, here, "ana", PASSWORD).await.expect(200);
    from(&service, "192.0.2.2", "bea", PASSWORD).await.expect(200);
    service.clock.advance(10);
    from(&service, here, "bea", PASSWORD).await.expect(200);
}

#[tokio::test]
async fn e_an_address_is_not_what_somebody_says() {
    // Nobody is trusted: all of this comes from one address, whatever the headers say.
    let service = Service::start().await;
    let spoofs = |n: usize| {
        [
            ("x-forwarded-for", format!("198.51.100.{n}")),
            ("x-real-ip", format!("198.51.100.{n}")),
            ("forwarded", format!("for=198.51.100.{n}")),
            ("x-postern-relay", String::new()),
        ]
    };
    let body = |password: &str| {
        json!({"grantType": "password", "username": "admin", "password": password}).to_string()
    };
    let attempt = async |n, password| {
        let spoofs = spoofs(n);
        let mut headers = vec![("content-type", "application/json")];
        headers.extend(spoofs.iter().map(|(name, value)| (*name, value.as_str())));
        let path = "/v1/login/oauth/access_token";
        service.send(Method::POST, path, &headers, body(password)).await
    };
    for n in 0..5 {
        attempt(n, "wrong").await.refused(401, "AUT-1002");
    }
    attempt(77, ADMIN_PASSWORD).await.refused(401, "AUT-1002");
    service.clock.advance(2);
    attempt(78, ADMIN_PASSWORD).await.expect(200);

    // The proxy of the same process is believed, by what it alone knows.
    let proof = "0123456789abcdef";
    let config = Config { relay: Some(SecretString::from(proof)), ..Config::default() };
    let service = service.restart_with(config).await;
    let relayed = async |proof: &str, address: &str, password: &str| {
        let headers = [
            ("content-type", "application/json"),
            ("x-postern-relay", proof),
            ("x-forwarded-for", address),
        ];
        service.send(Method::POST, "/v1/login/oauth/access_token", &headers, body(password)).await
    };
    for _ in 0..5 {
        relayed(proof, "198.51.100.1", "wrong").await.refused(401, "AUT-1002");
    }
    relayed(proof, "198.51.100.1", ADMIN_PASSWORD).await.refused(401, "AUT-1002");
    relayed(proof, "198.51.100.2", ADMIN_PASSWORD).await.expect(200);
    for _ in 0..5 {
        relayed("0123456789abcdee", "198.51.100.3", "wrong").await.refused(401, "AUT-1002");
    }
    relayed("", "198.51.100.4", ADMIN_PASSWORD).await.refused(401, "AUT-1002");
}

#[tokio::test]
async fn e_a_wrong_client_secret_is_a_guess_and_the_right_long_one_is_never_held_up() {
    let service = start().await;
    let ask = async |address: &str, secret: &str| {
        let headers = [("content-type", "application/json"), ("x-forwarded-for", address)];
        let body = json!({
            "grantType": "client_credentials",
            "clientId": service.client_id,
            "clientSecret": secret,
        });
        let path = "/v1/login/oauth/access_token";
        service.send(Method::POST, path, &headers, body.to_string()).await
    };
    for _ in 0..20 {
        ask("192.0.2.1", "wrong").await.refused(401, "AUT-1004");
    }
    let told = ask("192.0.2.1", "wrong").await;
    assert!(told.headers.contains_key(RETRY_AFTER));
    told.refused(429, "AUT-9020");
    ask("192.0.2.1", &service.client_secret).await.expect(200);
    ask("192.0.2.2", "wrong").await.refused(401, "AUT-1004");
}

#[tokio::test]
async fn e_a_browser_that_somebody_signed_in_with_is_held_up_by_nobody() {
    let service = start().await;
    let admin = service.admin().await;
    let app = web(&service).await;
    let sign_in = async |browser: &Browser, address: &str| {
        let page = page(browser.get(&service, &request(&app, &[("prompt", "login")])).await, 200);
        let cookies = browser.cookies();
        let headers = [
            ("cookie", cookies.as_str()),
            ("sec-fetch-site", "same-origin"),
            ("x-forwarded-for", address),
        ];
        let (asked, csrf) = (page.field("request"), page.field("csrf"));
        let fields = [
            ("request", asked.as_str()),
            ("csrf", &csrf),
            ("username", "admin"),
            ("password", ADMIN_PASSWORD),
        ];
        let answer = service.form("/oauth2/sign-in", &headers, &fields).await;
        browser.keep(&answer);
        answer
    };
    let browser = Browser::default();
    sign_in(&browser, "192.0.2.1").await.is(303);
    // Somewhere else, where strangers use up what there is: of this account, and of the network.
    let there = "198.51.100.1";
    for n in 0..20 {
        from(&service, there, if n < 10 { "admin" } else { "nobody" }, "wrong").await.expect(401);
    }
    from(&service, there, "admin", ADMIN_PASSWORD).await.refused(429, "AUT-9020");
    let told = sign_in(&Browser::default(), there).await;
    assert_eq!(told.headers[RETRY_AFTER], "60");
    page(told, 429);
    sign_in(&browser, there).await.is(303);
    // Another person's, or one with a sign changed, is none.
    let cookie = browser.get_cookie("__Host-postern-device");
    service.person(&admin, "ana", &[]).await;
    let with = async |cookie: &str, username: &str, password: &str| {
        let cookie = format!("__Host-postern-device={cookie}");
        let headers = [
            ("content-type", "application/json"),
            ("x-forwarded-for", there),
            ("cookie", cookie.as_str()),
        ];
        let body = json!({"grantType": "password", "username": username, "password": password});
        let path = "/v1/login/oauth/access_token";
        service.send(Method::POST, path, &headers, body.to_string()).await
    };
    with(&cookie, "ana", PASSWORD).await.refused(429, "AUT-9020");
    let elsewhere = "198.51.100.2";
    for _ in 0..20 {
        from(&service, elsewhere, "nobody", "wrong").await.expect(401);
    }
    let forged = cookie.replacen('.', ".9", 1);
    let headers = [
        ("content-type", "application/json"),
        ("x-forwarded-for", elsewhere),
        ("cookie", &format!("__Host-postern-device={forged}")),
    ];
    let body = json!({"grantType": "password", "username": "admin", "password": ADMIN_PASSWORD});
    let path = "/v1/login/oauth/access_token";
    service.send(Method::POST, path, &headers, body.to_string()).await.refused(429, "AUT-9020");
    with(&cookie, "admin", ADMIN_PASSWORD).await.expect(200);
    // It is no way to guess without end, either.
    for _ in 0..5 {
        with(&cookie, "admin", "wrong").await.refused(401, "AUT-1002");
    }
    with(&cookie, "admin", ADMIN_PASSWORD).await.refused(401, "AUT-1002");
}

#[tokio::test]
async fn where_somebody_has_been_is_known_after_a_restart_and_forgotten_in_the_end() {
    let service = start().await;
    from(&service, "192.0.2.1", "admin", ADMIN_PASSWORD).await.expect(200);
    let clock = service.clock.clone();
    let folder = service.stop().await;
    let service = Service::run(folder, clock, behind_a_proxy(), catalog()).await;
    let exhaust = async || {
        for n in 0..51 {
            from(&service, &format!("198.51.100.{n}"), "admin", "wrong").await.expect(401);
        }
    };
    exhaust().await;
    from(&service, "192.0.2.1", "admin", ADMIN_PASSWORD).await.expect(200);
    service.clock.advance(91 * 24 * 3600);
    exhaust().await;
    from(&service, "192.0.2.1", "admin", ADMIN_PASSWORD).await.refused(401, "AUT-1002");
}

#[tokio::test]
async fn e_a_stolen_token_is_no_way_to_guess_the_password_behind_it() {
    let service = Service::start().await;
    let admin = service.admin().await;
    let id = service.person(&admin, "ana", &[]).await;
    let token = super::harness::access(&service.sign_in("ana", PASSWORD).await);
    let path = format!("/v1/users/{id}/update-password");
    let change = async |old: &str| {
        let body = json!({"oldPassword": old, "newPassword": "Another-Horse-2"});
        service.patch(&path, &token, body).await
    };
    for _ in 0..5 {
        change("wrong").await.refused(400, "IDE-0007");
    }
    change(PASSWORD).await.refused(400, "IDE-0007");
    service.clock.advance(2);
    change(PASSWORD).await.expect(204);
}
