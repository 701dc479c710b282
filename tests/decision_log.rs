//! The decision log: where it goes, what it holds of what, and what it does to nobody.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, time::Instant};

use reqwest::Method;
use serde_json::Value;

use crate::harness::{PATIENCE, Postern, upstream::Upstream};

const PATH: &str = "/v1/organizations";

/// The lines of a file, once there is one that holds the text.
async fn lines(file: &Path, text: &str) -> Vec<Value> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let all = fs::read_to_string(file).unwrap_or_default();
        if all.contains(text) && all.ends_with('\n') {
            return all.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        }
        assert!(Instant::now() < deadline, "`{text}` was never written:\n{all}");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

fn config(upstream: &Upstream, decisions: &str) -> String {
    format!(
        "[log.decisions]\n{decisions}\n[proxy]\ntrusted_proxies = ['127.0.0.1']\n\
         [[product]]\nname = 'midaz'\nupstream = 'http://{}'\n",
        upstream.address
    )
}

#[tokio::test]
async fn a_file_has_decisions_and_answers_is_followed_and_whole_after_a_stop() {
    let upstream = Upstream::start().await;
    let folder = tempfile::tempdir().unwrap();
    let (file, moved) = (folder.path().join("decisions.log"), folder.path().join("moved"));
    let decisions = format!("path = '{}'\naccess = true", file.display());
    let mut postern = Postern::with(&config(&upstream, &decisions)).await;
    let admin = postern.admin().await;
    let asked = |path: String, id: &str| {
        postern.get(&path).bearer_auth(&admin).header("x-request-id", id.to_owned()).send()
    };
    let allowed = asked(format!("{PATH}?secret=1"), "one").await.unwrap();
    let id = allowed.headers()["x-postern-decision-id"].to_str().unwrap().to_owned();
    let length = allowed.bytes().await.unwrap().len();
    assert_eq!(asked("/v1/nothing".to_owned(), "two").await.unwrap().status(), 403);
    let all = lines(&file, "\"status\":403").await;
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let of = |target: &str, request: &str| -> &Value {
        let of = |line: &&Value| line["target"] == target && line["request_id"] == request;
        all.iter().find(of).unwrap_or_else(|| panic!("{target} {request}: {all:#?}"))
    };
    let (decision, answer) = (of("decision", "one"), of("access", "one"));
    assert_eq!((&decision["id"], &decision["verdict"]), (&id.clone().into(), &"allow".into()));
    assert_eq!((&answer["id"], &answer["status"]), (&id.into(), &200.into()));
    assert_eq!(answer["path"], PATH, "without its query");
    assert_eq!(answer["sent"], length);
    assert_eq!(answer["upstream"], upstream.address.to_string());
    assert!(answer["upstream_micros"].as_u64().unwrap() <= answer["micros"].as_u64().unwrap());
    assert_eq!(answer["principal"], decision["principal"]);
    let (decision, answer) = (of("decision", "two"), of("access", "two"));
    assert_eq!((&decision["reason"], &answer["id"]), (&"no-route".into(), &decision["id"]));
    assert_eq!(answer["upstream"], Value::Null);
    assert!(!postern.log.text().contains("\"target\":\"decision\""), "they are elsewhere");

    // Moved away, and the signal that goes with it.
    fs::rename(&file, &moved).unwrap();
    postern.signal("-HUP");
    assert_eq!(asked(PATH.to_owned(), "three").await.unwrap().status(), 200);
    lines(&file, "three").await;
    assert!(!fs::read_to_string(&moved).unwrap().contains("three"));

    // What was answered before the stop is there after it.
    for n in 0..50 {
        assert_eq!(
            asked("/v1/nothing".to_owned(), &format!("last-{n}")).await.unwrap().status(),
            403
        );
    }
    assert!(postern.stop("-TERM").await.success());
    let all = fs::read_to_string(&file).unwrap();
    for n in 0..50 {
        assert_eq!(all.matches(&format!("\"last-{n}\"")).count(), 2, "{n}: {all}");
    }
}

#[tokio::test]
async fn a_full_disk_changes_no_answer_and_keeps_the_denials() {
    let upstream = Upstream::start().await;
    // A file to which nothing can be written (full(4)).
    let postern = Postern::with(&config(&upstream, "path = '/dev/full'")).await;
    let admin = postern.admin().await;
    for _ in 0..20 {
        assert_eq!(postern.get(PATH).bearer_auth(&admin).send().await.unwrap().status(), 200);
    }
    let denied = postern.get("/v1/nothing").bearer_auth(&admin).send().await.unwrap();
    assert_eq!(denied.status(), 403);
    let id = denied.headers()["x-postern-decision-id"].to_str().unwrap();
    // On standard error instead, as it is.
    let line: Value = serde_json::from_str(&postern.logged(id).await).unwrap();
    assert_eq!((&line["target"], &line["reason"]), (&"decision".into(), &"no-route".into()));
    postern.logged("the decision log cannot be written").await;
    let metrics = postern.request(Method::GET, postern.health, "/metrics").send().await.unwrap();
    let metrics = metrics.text().await.unwrap();
    let counted = |name: &str| {
        let line = metrics.lines().find(|line| line.starts_with(name)).unwrap();
        line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()
    };
    assert!(counted("postern_decision_log_dropped_total{why=\"failed\"}") >= 20.0, "{metrics}");
    assert!(counted("postern_decision_log_diverted_total") >= 1.0);
    assert!(counted("postern_decision_log_errors_total") >= 1.0);
    assert!(counted("postern_decision_log_dropped_total{why=\"lost\"}") < 1.0);
}

#[tokio::test]
async fn a_sample_and_a_mask_leave_out_what_they_say() {
    let upstream = Upstream::start().await;
    let decisions = "sample_allows = 0.0\naccess = true\nmask = ['subject', 'parameters']";
    let postern = Postern::with(&config(&upstream, decisions)).await;
    let admin = postern.admin().await;
    let viewer = postern.person(&admin, "vera", &["midaz-viewer-group"]).await;
    let path = format!("{PATH}/secret-organization");
    let get = postern.get(&path).bearer_auth(&viewer.token).header("x-request-id", "got");
    assert_eq!(get.send().await.unwrap().status(), 200);
    let remove = postern.request(Method::DELETE, postern.gateway, &path);
    let remove = remove.bearer_auth(&viewer.token).header("x-request-id", "removed");
    let denied = remove.send().await.unwrap();
    assert_eq!(denied.status(), 403);
    let id = denied.headers()["x-postern-decision-id"].to_str().unwrap();
    postern.logged("\"message\":\"answered\"").await;
    let log = postern.log.text();
    let line = log.lines().find(|line| line.contains(id)).unwrap();
    let line: Value = serde_json::from_str(line).unwrap();
    assert!(line["principal"].as_str().unwrap().starts_with("user:lerian/masked-"), "{line}");
    assert!(line["path"].as_str().unwrap().contains('{'), "{line}");
    assert!(!log.contains("\"got\""), "{log}");
    let told = log.lines().filter(|line| line.contains("\"removed\""));
    for line in told {
        assert!(!line.contains(&viewer.id) && !line.contains("secret-organization"), "{line}");
    }
}
