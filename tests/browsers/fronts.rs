//! The servers whose examples know no sign-in, with what `docs/browsers.md` adds to them; and all doors
//! asked directly.

use super::{ORIGIN, PATH, SESSION, Scene};
use crate::harness::{
    doors::{DOORS, Door, Question, Said, call, check, framed, read, said},
    front::{Front, Kind},
    raw,
};

const ROUTES: &str = "                      routes:\n";
const PASSED_ON: &str = "                          - exact: x-request-id\n";

/// The route that nothing is asked about.
fn unasked(cluster: &str) -> String {
    format!(
        "{ROUTES}                        - match: {{ prefix: \"/.postern/\" }}\n\
         \u{20}                         route: {{ cluster: {cluster} }}\n\
         \u{20}                         typed_per_filter_config:\n\
         \u{20}                           envoy.filters.http.ext_authz:\n\
         \u{20}                             \"@type\": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute\n\
         \u{20}                             disabled: true\n"
    )
}

async fn behind(kind: Kind) {
    let scene = Scene::set().await;
    // Marked, so that no example's port is found in it.
    let doors = scene.postern.doors.port().to_string();
    let doors: String = doors.chars().flat_map(|digit| [digit, '\0']).collect();
    let edit = |text: String| {
        match kind {
        Kind::Caddy => text
            .replace("\troute {\n", "\troute {\n\t\treverse_proxy /.postern/* 127.0.0.1:4000\n")
            .replace("X-Postern-Decision-Id\n", "X-Postern-Decision-Id Cookie\n"),
        Kind::Haproxy => text
            .replace(
                "    http-request lua.postern http://127.0.0.1:4000/forward-auth/haproxy/midaz\n",
                "    acl sign_in path_beg /.postern/\n    http-request lua.postern \
                 http://127.0.0.1:4000/forward-auth/haproxy/midaz unless sign_in\n",
            )
            .replace("    http-request deny deny_status 503 unless", "    http-request deny deny_status 503 unless sign_in or")
            .replace(
                "    default_backend product\n",
                "    use_backend postern if sign_in\n    default_backend product\n\n\
                 backend postern\n    server postern 127.0.0.1:4000\n",
            ),
        Kind::Envoy => {
            let names = "cookie accept origin sec-fetch-site sec-fetch-mode sec-fetch-dest \
                         x-requested-with sec-websocket-key";
            let names = names.split(' ').map(|name| PASSED_ON.replace("x-request-id", name));
            let all = format!("{PASSED_ON}{}", names.collect::<String>());
            let cookies = "allowed_upstream_headers: { patterns: [{ exact: cookie }, ";
            text.replace(ROUTES, &unasked("postern"))
                .replace(PASSED_ON, &all)
                .replace("allowed_upstream_headers: { patterns: [", cookies)
        }
        Kind::EnvoyGrpc => text.replace(ROUTES, &unasked("sign-in")).replace(
            "  clusters:\n",
            &format!(
                "  clusters:\n    - name: sign-in\n      type: STATIC\n      load_assignment:\n\
                 \u{20}       cluster_name: sign-in\n        endpoints:\n          - lb_endpoints:\n\
                 \u{20}             - endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, \
                 port_value: {doors} }} }} }}\n"
            ),
        ),
        _ => text,
    }
    };
    let front = Front::edited(kind, &scene.postern, scene.upstream.address, edit).await;
    let at = front.address;
    super::somebody_signs_in_comes_back_and_is_somebody_until_they_are_not(&scene, at).await;
}

#[tokio::test]
async fn behind_nginx() {
    behind(Kind::NginxSignIn).await;
}

#[tokio::test]
async fn behind_caddy() {
    behind(Kind::Caddy).await;
}

#[tokio::test]
async fn behind_haproxy() {
    behind(Kind::Haproxy).await;
}

#[tokio::test]
async fn behind_envoy() {
    behind(Kind::Envoy).await;
}

#[tokio::test]
async fn behind_envoy_over_grpc() {
    behind(Kind::EnvoyGrpc).await;
}

/// Ask a door about a request that has these headers, too.
async fn ask(scene: &Scene, door: Door, method: &str, more: &[(&str, &str)]) -> Said {
    let question = Question {
        method,
        target: PATH,
        product: Some("midaz"),
        host: "ledger.example",
        token: None,
    };
    if door == Door::ExtAuthz {
        let mut check = check(&question);
        let request = check.attributes.as_mut().unwrap().request.as_mut().unwrap();
        let headers = &mut request.http.as_mut().unwrap().headers;
        headers.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let answer = call(&scene.postern, framed(&prost::Message::encode_to_vec(&check))).await;
        let mut told = read(&answer);
        if let Some(proxy::doors::ext_authz::wire::Http::Ok(ok)) = &answer.http {
            let removed = ok.headers_to_remove.join(",");
            told.headers.push(("x-envoy-auth-headers-to-remove".to_owned(), removed));
        }
        return told;
    }
    let lines = more.iter().map(|(name, value)| format!("{name}: {value}\r\n"));
    let lines = lines.collect::<Vec<_>>().concat();
    let request = door.request(&question);
    let request = request.replace("connection: close", &format!("{lines}connection: close"));
    said(&raw(scene.postern.doors, request.as_bytes()).await)
}

#[tokio::test]
async fn every_door_sends_a_persons_browser_to_one_place_and_knows_its_session() {
    let scene = Scene::set().await;
    let gateway = scene.postern.gateway;
    let (browser, _) = scene.signed_in(gateway, "admin", &scene.postern.password).await;
    let session = format!("{SESSION}={}", browser.cookie(ORIGIN, SESSION).unwrap());
    let html = ("accept", "text/html");
    let there = format!("{ORIGIN}/.postern/sign-in?to=");
    for door in DOORS {
        let sent = ask(&scene, door, "GET", &[html]).await;
        assert_eq!(sent.status, if door == Door::Nginx { 401 } else { 302 }, "{door:?} {sent:?}");
        assert!(sent.header("location").unwrap().starts_with(&there), "{door:?} {sent:?}");
        let id = sent.header("x-postern-decision-id").unwrap();
        assert!(scene.postern.logged(id).await.contains("no-token"), "{door:?}");
        for more in [&[][..], &[html, ("sec-fetch-mode", "cors")]] {
            let told = ask(&scene, door, "GET", more).await;
            assert_eq!((told.status, told.header("location")), (401, None), "{door:?} {told:?}");
        }
        let with = format!("theme=dark; {session}; a=b");
        let passed = ask(&scene, door, "GET", &[("cookie", &with)]).await;
        assert_eq!(passed.status, 200, "{door:?} {passed:?}");
        assert_eq!(passed.header("x-postern-name"), Some("admin"), "{door:?}");
        assert_eq!(passed.header("cookie"), Some("theme=dark; a=b"), "{door:?} {passed:?}");
        let alone = ask(&scene, door, "GET", &[("cookie", &session)]).await;
        let hidden = if matches!(door, Door::Envoy | Door::ExtAuthz) {
            let removed = alone.header("x-envoy-auth-headers-to-remove").unwrap();
            removed.split(',').any(|name| name == "cookie") && alone.header("cookie").is_none()
        } else {
            alone.header("cookie").is_some_and(|left| left.trim().is_empty())
        };
        assert!(hidden, "{door:?} {alone:?}");
        for (origin, expected) in [(ORIGIN, 200), ("https://evil.example", 403)] {
            let more = [("cookie", session.as_str()), ("origin", origin)];
            let posted = ask(&scene, door, "POST", &more).await;
            assert_eq!(posted.status, expected, "{door:?} {posted:?}");
        }
        // A token goes before a session, and a bad one is not mended by it.
        let more = [("cookie", session.as_str()), ("authorization", "Bearer a.b.c"), html];
        assert_eq!(ask(&scene, door, "GET", &more).await.status, 401, "{door:?}");
    }
}
