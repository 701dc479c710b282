//! An application's own tokens, ended at once.

use policy::{changes::Fact, model::caller::Principal};
use serde_json::{Value, json};

use super::harness::{PASSWORD, Service, access};

struct Machine {
    id: String,
    client_id: String,
    secret: String,
}

impl Machine {
    async fn make(service: &Service, admin: &str) -> Self {
        let body = json!({"name": "demo", "description": "a machine"});
        let made = service.post("/v1/applications", admin, body).await.expect(201);
        let text = |name: &str| made[name].as_str().unwrap().to_owned();
        Self { id: text("id"), client_id: text("clientId"), secret: text("clientSecret") }
    }

    fn asking(&self) -> Value {
        json!({
            "grantType": "client_credentials",
            "clientId": self.client_id,
            "clientSecret": self.secret,
        })
    }

    async fn token(&self, service: &Service) -> String {
        access(&service.token(self.asking()).await.expect(200))
    }

    fn path(&self, rest: &str) -> String {
        format!("/v1/applications/{}{rest}", self.id)
    }
}

/// What identity makes of it: known and not allowed, or nobody's.
async fn opens(service: &Service, token: &str) -> bool {
    match service.get("/v1/users", token).await.status.as_u16() {
        403 => true,
        401 => false,
        other => panic!("{other}"),
    }
}

async fn active(service: &Service, token: &str) -> bool {
    let form = [
        ("client_id", service.client_id.as_str()),
        ("client_secret", service.client_secret.as_str()),
        ("token", token),
    ];
    service.form("/oauth2/introspect", &[], &form).await.expect(200)["active"] == true
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r_what_an_application_has_for_itself_ends_at_once_and_it_goes_on_a_second_later() {
    let service = Service::start().await;
    let admin = service.admin().await;
    let (machine, other) =
        (Machine::make(&service, &admin).await, Machine::make(&service, &admin).await);
    let (old, beside) = (machine.token(&service).await, other.token(&service).await);
    assert!(opens(&service, &old).await && active(&service, &old).await);
    service.clock.advance(10);
    let late = machine.token(&service).await;
    service.delete(&machine.path("/sessions"), &admin).await.expect(204);
    // Every proxy is told before it is answered.
    let Some(Fact::TokensEnded { principal, made_through }) = service.facts().pop() else {
        panic!("{:?}", service.facts())
    };
    assert_eq!(made_through, service.clock.now());
    assert!(matches!(principal, Principal::Application { id, .. } if id.as_str() == machine.id));
    for token in [&old, &late] {
        assert!(!opens(&service, token).await && !active(&service, token).await);
    }
    assert!(opens(&service, &beside).await && active(&service, &beside).await);
    // One of this very second could not be told from those.
    let told = service.token(machine.asking()).await;
    assert_eq!((told.status.as_u16(), &told.headers["retry-after"]), (503, &"1".parse().unwrap()));
    service.clock.advance(1);
    let new = machine.token(&service).await;
    assert!(opens(&service, &new).await && !opens(&service, &late).await);
    // After a restart nothing comes back.
    let service = service.restart().await;
    assert!(opens(&service, &new).await && !opens(&service, &old).await);
    let log = service.get("/v1/audit?event=application.tokens-ended", &admin).await.expect(200);
    assert_eq!(log["items"][0]["target"]["id"], machine.id, "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r_a_secret_is_retired_with_the_tokens_or_without_them() {
    let service = Service::start().await;
    let admin = service.admin().await;
    let machine = Machine::make(&service, &admin).await;
    let token = machine.token(&service).await;
    let made = service.get(&machine.path("/credentials"), &admin).await.expect(200);
    let id = made[0]["id"].as_str().unwrap().to_owned();
    let retire = machine.path(&format!("/credentials/{id}/retire"));
    for wrong in ["?endTokens=yes", "?x=true"] {
        service.post(&format!("{retire}{wrong}"), &admin, Value::Null).await.is(400);
    }
    service.post(&retire, &admin, Value::Null).await.expect(200);
    assert!(opens(&service, &token).await, "it lives out");
    // Again, with them: that the secret has ended before is no fault.
    service.post(&format!("{retire}?endTokens=true"), &admin, Value::Null).await.expect(200);
    assert!(!opens(&service, &token).await && !active(&service, &token).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_ends_the_tokens_of_an_application_that_may_do_more() {
    let service = Service::start().await;
    let admin = service.admin().await;
    let machine = Machine::make(&service, &admin).await;
    let token = machine.token(&service).await;
    service.person(&admin, "eva", &["helper-group"]).await;
    let helper = access(&service.sign_in("eva", PASSWORD).await);
    service.delete(&machine.path("/sessions"), &helper).await.refused(403, "IDE-9002");
    assert!(opens(&service, &token).await);
}
