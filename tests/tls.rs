//! TLS: clients at the gateway and the doors, upstreams behind it, and files that are exchanged while
//! it runs.

use std::{path::Path, time::Instant};

use futures_util::{SinkExt, StreamExt};
use reqwest::{Certificate, Client, ClientBuilder, Version};
use serde_json::Value;
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest};

use crate::harness::{PATIENCE, Postern, ca::Authority, upstream::Upstream};

const PATH: &str = "/v1/organizations";

/// A client that trusts that authority alone.
fn trusting(authority: &Authority) -> ClientBuilder {
    let certificate = Certificate::from_pem(authority.pem().as_bytes()).unwrap();
    Client::builder().no_proxy().timeout(PATIENCE).tls_certs_only([certificate])
}

fn listening(folder: &Path, authority: &Authority, more: &str, upstream: &Upstream) -> String {
    let pair = authority.files("localhost", folder);
    format!(
        "[proxy]\ntrusted_proxies = ['127.0.0.1']\n[proxy.tls]\ncertificate = '{}'\nkey = '{}'\n{more}\n\
         [[product]]\nname = 'midaz'\nupstream = 'http://{}'\n",
        pair.certificate.display(),
        pair.key.display(),
        upstream.address
    )
}

#[tokio::test]
async fn clients_speak_tls_with_the_gateway_and_another_certificate_needs_no_restart() {
    let folder = tempfile::tempdir().unwrap();
    let (authority, next) = (Authority::new(), Authority::new());
    let upstream = Upstream::start().await;
    let config = listening(folder.path(), &authority, "", &upstream);
    let postern = Postern::with(&config).await;
    let admin = postern.admin().await;
    let url = format!("https://localhost:{}{PATH}", postern.gateway.port());
    for (client, version) in [
        (trusting(&authority), Version::HTTP_2),
        (trusting(&authority).http1_only(), Version::HTTP_11),
    ] {
        let client = client.build().unwrap();
        let response = client.get(&url).bearer_auth(&admin).send().await.unwrap();
        assert_eq!((response.status().as_u16(), response.version()), (200, version));
        let seen: Value = response.json().await.unwrap();
        assert_eq!(seen["headers"]["x-forwarded-proto"][0], "https");
        let response = client.post(&url).bearer_auth(&admin).body("hello").send().await.unwrap();
        assert_eq!(response.json::<Value>().await.unwrap()["length"], 5);
        assert_eq!(client.get(&url).send().await.unwrap().status(), 401);
    }
    // Whoever speaks plainly, or trusts somebody else, gets no further.
    let stranger = trusting(&next).build().unwrap();
    assert!(stranger.get(&url).send().await.is_err());
    assert!(postern.get(PATH).send().await.is_err());

    // A pair that does not fit changes nothing; one that does is in force without a restart.
    let key = folder.path().join("localhost.key.pem");
    let kept = std::fs::read(&key).unwrap();
    std::fs::write(&key, next.issue("localhost").1.serialize_pem()).unwrap();
    postern.logged("does not hold; the one before stays").await;
    let client = trusting(&authority).build().unwrap();
    assert_eq!(client.get(&url).bearer_auth(&admin).send().await.unwrap().status(), 200);
    std::fs::write(&key, kept).unwrap();
    next.files("localhost", folder.path());
    let deadline = Instant::now() + PATIENCE;
    while trusting(&next).build().unwrap().get(&url).send().await.is_err() {
        assert!(Instant::now() < deadline, "the other certificate was never shown");
    }
}

#[tokio::test]
async fn whoever_has_no_certificate_is_turned_away_where_one_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let (authority, clients) = (Authority::new(), Authority::new());
    let upstream = Upstream::start().await;
    let ca = clients.file(folder.path(), "clients");
    let more = format!("client_ca = '{}'\non = ['gateway', 'doors']", ca.display());
    let config = listening(folder.path(), &authority, &more, &upstream);
    let postern = Postern::with(&config).await;
    let identified = |by: &Authority| {
        let (certificate, key) = by.issue("a client");
        let pem = certificate.pem() + &key.serialize_pem();
        let identity = reqwest::Identity::from_pem(pem.as_bytes()).unwrap();
        trusting(&authority).identity(identity).build().unwrap()
    };
    let known = identified(&clients);
    let doors = format!("https://localhost:{}", postern.doors.port());
    let sign_in = serde_json::json!({
        "grantType": "password", "username": "admin", "password": postern.password,
        "clientId": postern.client_id, "clientSecret": postern.client_secret,
    });
    let token: Value = known
        .post(format!("{doors}/v1/login/oauth/access_token"))
        .json(&sign_in)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    let token = token["accessToken"].as_str().unwrap();
    let url = format!("https://localhost:{}{PATH}", postern.gateway.port());
    assert_eq!(known.get(&url).bearer_auth(token).send().await.unwrap().status(), 200);
    for unknown in [trusting(&authority).build().unwrap(), identified(&Authority::new())] {
        assert!(unknown.get(&url).bearer_auth(token).send().await.is_err());
        assert!(unknown.get(format!("{doors}/health")).send().await.is_err());
    }
}

/// Midaz at a server that speaks TLS and is known by these.
async fn before(upstream: &Upstream, more: &str) -> Postern {
    let port = upstream.address.port();
    Postern::with(&format!(
        "[[product]]\nname = 'midaz'\nupstream = 'https://localhost:{port}'\n{more}\n"
    ))
    .await
}

#[tokio::test]
async fn an_upstream_proves_its_name_and_we_ours() {
    let folder = tempfile::tempdir().unwrap();
    let (authority, ours) = (Authority::new(), Authority::new());
    let upstream = Upstream::secured(authority.server("localhost", Some(&ours))).await;
    let ca = authority.file(folder.path(), "ca");
    let pair = ours.files("postern", folder.path());
    let known = |more: &str| {
        format!(
            "upstream_tls = {{ ca = '{}', certificate = '{}', key = '{}' {more} }}",
            ca.display(),
            pair.certificate.display(),
            pair.key.display()
        )
    };
    let good = before(&upstream, &known("")).await;
    let admin = good.admin().await;
    let response = good.get(PATH).bearer_auth(&admin).send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.json::<Value>().await.unwrap()["version"], "HTTP/1.1");

    // Another protocol goes over TLS, too.
    let mut request = format!("ws://{}{PATH}", good.gateway).into_client_request().unwrap();
    let bearer = format!("Bearer {admin}").parse().unwrap();
    request.headers_mut().insert("authorization", bearer);
    let (mut socket, _) = tokio_tungstenite::connect_async(request).await.unwrap();
    socket.send(Message::text("through")).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap().into_text().unwrap(), "through");

    let h2 = before(&upstream, &format!("{}\nhttp2 = true", known(""))).await;
    let admin = h2.admin().await;
    let response = h2.get(PATH).bearer_auth(&admin).send().await.unwrap();
    assert_eq!(response.json::<Value>().await.unwrap()["version"], "HTTP/2.0");

    // Somebody else's certificate, another name, none of ours: nothing is sent.
    let seen = upstream.seen();
    let stranger = Authority::new().file(folder.path(), "stranger");
    for more in [
        format!("upstream_tls = {{ ca = '{}' }}", stranger.display()),
        known(", server_name = 'elsewhere.example'"),
        format!("upstream_tls = {{ ca = '{}' }}", ca.display()),
        String::new(),
    ] {
        let postern = before(&upstream, &more).await;
        let admin = postern.admin().await;
        let response = postern.get(PATH).bearer_auth(&admin).send().await.unwrap();
        assert_eq!(response.status(), 502, "{more}");
    }
    assert_eq!(upstream.seen(), seen);
}

#[tokio::test]
async fn an_upstreams_authority_is_exchanged_while_it_runs() {
    let folder = tempfile::tempdir().unwrap();
    let (authority, next) = (Authority::new(), Authority::new());
    let upstream = Upstream::secured(authority.server("localhost", None)).await;
    let ca = authority.file(folder.path(), "ca");
    let postern = before(&upstream, &format!("upstream_tls = {{ ca = '{}' }}", ca.display())).await;
    let admin = postern.admin().await;
    let ask = async || postern.get(PATH).bearer_auth(&admin).send().await.unwrap().status();
    assert_eq!(ask().await, 200);
    next.file(folder.path(), "ca");
    postern.logged("the TLS files of its upstreams were read again").await;
    // The connection that was made under the old authority is used no more.
    let deadline = Instant::now() + PATIENCE;
    while ask().await != 502 {
        assert!(Instant::now() < deadline, "the old authority still counts");
    }
    upstream.end().await;
    let _upstream = Upstream::at(upstream.address, Some(next.server("localhost", None))).await;
    while ask().await != 200 {
        assert!(Instant::now() < deadline, "the other authority does not count");
    }
}

#[tokio::test]
async fn files_that_do_not_hold_stop_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let (authority, other) = (Authority::new(), Authority::new());
    let pair = authority.files("localhost", folder.path());
    let foreign = other.files("elsewhere", folder.path());
    let empty = folder.path().join("empty.pem");
    std::fs::write(&empty, "").unwrap();
    for (certificate, key, told) in [
        (&pair.certificate, &foreign.key, "localhost.certificate.pem: "),
        (&empty, &pair.key, "empty.pem: it has no certificate in PEM"),
        (&pair.certificate, &empty, "empty.pem: it has no private key in PEM"),
        (&folder.path().join("none.pem"), &pair.key, "none.pem: "),
    ] {
        let config = format!(
            "[proxy.tls]\ncertificate = '{}'\nkey = '{}'\n",
            certificate.display(),
            key.display()
        );
        let mut command =
            crate::harness::command(folder.path(), &config, &crate::harness::policies());
        let output = command.arg("--check-config").output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && error.contains(told), "{error}\nwants {told}");
        assert!(error.contains("[proxy.tls]") && !error.contains("BEGIN"), "{error}");
    }
}
