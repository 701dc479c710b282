//! One question, put wherever a question can be put: by every dialect, at the gateway, as the products'
//! library asks it, and in `AuthZEN`'s words. One answer, for one reason, and one record of it.

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    aliases,
    authzen::{EVALUATION, question},
    harness::{
        PATIENCE, Postern, Setup, copied,
        doors::{DOORS, Question},
        upstream::Upstream,
    },
};

const HOST: &str = "ledger.example";
const PATH: &str = "/v1/organizations";
const POLICY: &str = "@id(\"organizations-need-a-second-factor\")\n\
    @reason(\"Show a second factor.\")\n\
    forbid (principal is User, action == Midaz::Action::\"organizations:post\", resource)\n\
    unless { context.mfa };\n";

/// What was said somewhere.
struct Said {
    by: String,
    allowed: bool,
    id: String,
    /// Whether it was asked about a request, and not about a permission.
    request: bool,
}

async fn everywhere(postern: &Postern, token: &str, method: &str, who: &str) -> Vec<Said> {
    let mut said = Vec::new();
    let verdict = |status: u16| match status {
        200 => true,
        403 => false,
        other => panic!("answered {other}"),
    };
    let id = |response: &reqwest::Response| {
        response.headers()["x-postern-decision-id"].to_str().unwrap().to_owned()
    };
    for door in DOORS {
        for target in [PATH, "/v1/%6frganizations?a=b"] {
            for product in [Some("midaz"), None] {
                let token = Some(token);
                let question = Question { method, target, product, host: HOST, token };
                let answer = door.ask(postern, &question).await;
                said.push(Said {
                    by: format!("{door:?} {target}"),
                    allowed: verdict(answer.status),
                    id: answer.header("x-postern-decision-id").unwrap().to_owned(),
                    request: true,
                });
            }
        }
    }
    for (_, path, headers) in aliases::aliases(method) {
        let answer = aliases::ask(postern, method, &path, &headers, Some(token)).await;
        let allowed = verdict(answer.status().as_u16());
        said.push(Said { by: path, allowed, id: id(&answer), request: true });
    }
    for target in [PATH, "/v1/%6frganizations?a=b"] {
        let sent = Method::from_bytes(method.as_bytes()).unwrap();
        let request = postern.request(sent, postern.gateway, target).header("host", HOST);
        let answer = request.bearer_auth(token).send().await.unwrap();
        let by = format!("gateway {target}");
        let allowed = verdict(answer.status().as_u16());
        said.push(Said { by, allowed, id: id(&answer), request: true });
        if allowed {
            let seen: Value = answer.json().await.unwrap();
            let seen = seen["target"].as_str().unwrap();
            assert_eq!(seen.split('?').next(), Some(PATH), "what is decided on is forwarded");
        }
    }
    let action = method.to_lowercase();
    let check = json!({
        "sub": format!("lerian/{who}"), "resource": "organizations", "action": action,
        "product": "midaz",
    });
    let evaluation = question("user", who, &action, ("midaz:organizations", "7"));
    for (path, body, member) in
        [("/v1/authorize", check, "authorized"), (EVALUATION, evaluation, "decision")]
    {
        let request = postern.request(Method::POST, postern.doors, path).bearer_auth(token);
        let answer = request.json(&body).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
        let (by, id) = (path.to_owned(), id(&answer));
        let answer: Value = answer.json().await.unwrap();
        said.push(Said { by, allowed: answer[member] == true, id, request: false });
    }
    said
}

#[tokio::test]
async fn one_question_has_one_answer_and_one_record_wherever_it_is_put() {
    let upstream = Upstream::start().await;
    let folder = tempfile::tempdir().unwrap();
    let policies = copied(folder.path());
    let extra = policies.join("midaz/extra.cedar");
    let config = format!(
        "[proxy]\ntrusted_proxies = ['127.0.0.1']\naliases = ['authelia', 'oathkeeper', 'oauth2-proxy']\n\
         [[product]]\nname = 'midaz'\nhosts = ['{HOST}']\nupstream = 'http://{}'\n",
        upstream.address
    );
    let setup = Setup { config, policies: Some(policies), ..Setup::default() };
    let postern = Postern::set_up(setup).await;
    let admin = postern.admin().await;
    let viewer = postern.person(&admin, "vera", &["midaz-viewer-group"]).await;
    let editor = postern.person(&admin, "ed", &["midaz-editor-group"]).await;
    let nobody = postern.person(&admin, "tracy", &["tracer-viewer-group"]).await;
    // Written once they are there: nobody gives rights that need two factors, and shows one.
    std::fs::write(extra, POLICY).unwrap();
    let product = Some("midaz");
    let token = Some(editor.token.as_str());
    let asked = Question { method: "POST", target: PATH, product, host: HOST, token };
    let deadline = std::time::Instant::now() + PATIENCE;
    while DOORS[0].ask(&postern, &asked).await.status == 200 {
        assert!(std::time::Instant::now() < deadline, "the policy never came into force");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    for (person, method, reason, policy) in [
        (&viewer, "GET", Value::Null, Some("role/midaz-viewer-role")),
        (&viewer, "POST", json!("forbidden"), Some("organizations-need-a-second-factor")),
        (&nobody, "GET", json!("no-permit"), Some("")),
        (&editor, "GET", Value::Null, Some("role/midaz-editor-role")),
        (&editor, "POST", json!("forbidden"), Some("organizations-need-a-second-factor")),
    ] {
        let said = everywhere(&postern, &person.token, method, &person.id).await;
        let mut first: Option<(Value, Value)> = None;
        for Said { by, allowed, id, request } in said {
            assert_eq!(allowed, reason.is_null(), "{by} {method}");
            assert_eq!(uuid::Uuid::parse_str(&id).unwrap().get_version_num(), 7, "{by} {id}");
            let line = postern.logged(&id).await;
            let line: Value = serde_json::from_str(&line).unwrap();
            let of = |names: &[&str]| -> Value {
                names.iter().map(|name| line[*name].clone()).collect()
            };
            let common = of(&[
                "verdict",
                "reason",
                "revision",
                "product",
                "principal",
                "permission",
                "policies",
                "errors",
                "groups",
                "roles",
                "acr",
                "amr",
            ]);
            let asked = of(&["method", "path"]);
            assert_eq!(line["reason"], reason, "{by}: {line}");
            let named = line["policies"].as_str();
            assert_eq!(named, policy, "{by}: {line}");
            let (same, same_request) = first.get_or_insert_with(|| (common.clone(), asked.clone()));
            assert_eq!(common, *same, "{by}");
            if request {
                assert_eq!(asked, *same_request, "{by}");
                assert_eq!(asked, json!([method, PATH]), "{by}");
            }
        }
    }
}
