//! Campaigns: who decides about what others hold, and what follows.

use policy::changes::Fact;
use serde_json::{Value, json};

use super::{
    harness::{Answer, NOW, PASSWORD, Service, access},
    tenants::stranger,
};

async fn token(service: &Service, name: &str) -> String {
    access(&service.sign_in(name, PASSWORD).await)
}

/// Make a campaign; its id.
async fn review(service: &Service, admin: &str, body: Value) -> String {
    let made = service.post("/v1/reviews", admin, body).await.expect(201);
    made["id"].as_str().unwrap().to_owned()
}

async fn items(service: &Service, token: &str, path: &str) -> Vec<Value> {
    let (mut cursor, mut all) = (String::new(), Vec::new());
    loop {
        let page = service.get(&format!("{path}/items?limit=2{cursor}"), token).await.expect(200);
        all.extend(page["items"].as_array().unwrap().clone());
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return all,
        }
    }
}

/// What a reviewer may decide about in a campaign.
async fn mine(service: &Service, token: &str, id: &str) -> Vec<Value> {
    items(service, token, &format!("/v1/assigned-reviews/{id}")).await
}

/// The place of the item about that group or role of that name's holder.
fn item(all: &[Value], name: &str, of: &str) -> u64 {
    let is_it = |one: &&Value| one["name"] == name && (one["group"] == of || one["role"] == of);
    all.iter().find(is_it).unwrap_or_else(|| panic!("{name} {of}: {all:?}"))["number"]
        .as_u64()
        .unwrap()
}

async fn decide(service: &Service, token: &str, (id, item): (&str, u64), decision: &str) -> Answer {
    let body = json!({"decision": decision, "note": "as talked about"});
    let path = format!("/v1/assigned-reviews/{id}/items/{item}");
    service.call(http::Method::PUT, &path, token, body).await
}

async fn groups(service: &Service, admin: &str, id: &str) -> Value {
    service.get(&format!("/v1/users/{id}"), admin).await.expect(200)["groups"].clone()
}

#[tokio::test]
async fn what_is_decided_is_done_at_once_and_kept_as_evidence() {
    let service = Service::start().await;
    let admin = service.admin().await;
    let ana = service.person(&admin, "ana", &[]).await;
    let bob = service.person(&admin, "bob", &["demo-viewer-group", "demo-editor-group"]).await;
    let body = json!({"name": "demo", "description": "d"});
    let app = service.post("/v1/applications", &admin, body).await.expect(201);
    let of_app = format!("/v1/applications/{}/grants", app["id"].as_str().unwrap());
    let due = "2030-01-01T00:00:00Z";
    let body = json!({"name": "Q1", "product": "demo", "reviewers": [ana], "dueAt": due});
    let made = service.post("/v1/reviews", &admin, body).await.expect(201);
    // The administrator's own group, both of bob's, and the application's role.
    let progress =
        json!({"items": 4, "kept": 0, "revoked": 0, "gone": 0, "failed": 0, "undecided": 4});
    assert_eq!((&made["progress"], &made["dueAt"]), (&progress, &json!(due)));
    let id = made["id"].as_str().unwrap();

    let anas = token(&service, "ana").await;
    let assigned = service.get("/v1/assigned-reviews", &anas).await.expect(200);
    assert_eq!((&assigned[0]["id"], &assigned[0]["left"]), (&json!(id), &json!(4)));
    let all = mine(&service, &anas, id).await;
    assert_eq!(all.len(), 4);
    let editor = item(&all, "bob", "demo-editor-group");
    let gives = &all.iter().find(|one| one["number"] == editor).unwrap()["gives"];
    assert_eq!((gives.as_array().unwrap().len(), &gives[0]["product"]), (3, &json!("demo")));
    let told = service.facts().len();
    let decided = decide(&service, &anas, (id, editor), "revoke").await.expect(200);
    assert_eq!(
        (&decided["outcome"], &decided["decidedByName"]),
        (&json!("revoked"), &json!("ana"))
    );
    // Every proxy knows by the time that it is answered.
    let news = service.facts().split_off(told);
    let [Fact::Holds { principal, groups: left, .. }] = &news[..] else { panic!("{news:?}") };
    assert_eq!((principal.id(), left.len()), (bob.as_str(), 1));
    assert_eq!(groups(&service, &admin, &bob).await, json!(["demo-viewer-group"]));
    let viewer = item(&all, "bob", "demo-viewer-group");
    decide(&service, &anas, (id, viewer), "revoke").await.expect(200);
    assert_eq!(groups(&service, &admin, &bob).await, json!([]));
    // What is taken away is not given back by another decision.
    decide(&service, &anas, (id, viewer), "keep").await.refused(409, "IDE-9066");
    let role = item(&all, "demo", "demo-editor-role");
    decide(&service, &anas, (id, role), "keep").await.expect(200);
    let kept = service.get(&of_app, &admin).await.expect(200);
    assert_eq!((&kept["roles"], &kept["byDefault"]), (&json!(["demo-editor-role"]), &json!(true)));
    decide(&service, &anas, (id, role), "revoke").await.expect(200);
    let left = service.get(&of_app, &admin).await.expect(200);
    assert_eq!((&left["roles"], &left["byDefault"]), (&json!([]), &json!(false)));

    let service = service.restart().await;
    let admin = service.admin().await;
    let path = format!("/v1/reviews/{id}");
    let progress = service.get(&path, &admin).await.expect(200)["progress"].clone();
    assert_eq!((&progress["revoked"], &progress["undecided"]), (&json!(3), &json!(1)));
    let closed = service.post(&format!("{path}/close"), &admin, Value::Null).await.expect(200);
    assert!(closed["closedAt"].is_string());
    assert_eq!(closed["progress"]["undecided"], 1);
    service.post(&format!("{path}/close"), &admin, Value::Null).await.refused(409, "IDE-9064");
    let anas = token(&service, "ana").await;
    assert_eq!(service.get("/v1/assigned-reviews", &anas).await.expect(200), json!([]));
    let own = item(&all, "admin", "admin-group");
    decide(&service, &anas, (id, own), "keep").await.refused(409, "IDE-9064");

    let evidence = items(&service, &admin, &path).await;
    let mut outcomes: Vec<_> =
        evidence.iter().map(|one| one["outcome"].as_str().unwrap()).collect();
    outcomes.sort_unstable();
    assert_eq!(outcomes, ["revoked", "revoked", "revoked", "undecided"]);
    let csv = service.get(&format!("{path}/items?format=csv"), &admin).await;
    let text = String::from_utf8(csv.bytes.to_vec()).unwrap();
    assert_eq!(text.lines().count(), 5);
    assert!(text.contains("revoke,revoked,as talked about,") && text.contains(",ana,"), "{text}");
    let log = service.get(&format!("/v1/audit?target={id}"), &admin).await.expect(200);
    let events: Vec<_> =
        log["items"].as_array().unwrap().iter().map(|one| one["event"].as_str().unwrap()).collect();
    assert_eq!(events[0], "review.closed");
    assert_eq!(events.iter().filter(|event| **event == "review.decided").count(), 4);
    assert_eq!(events.last(), Some(&"review.created"));
    let log = service.get(&format!("/v1/audit?target={bob}&event=user.changed"), &admin).await;
    assert_eq!(log.expect(200)["items"][0]["actor"]["id"], ana.as_str());
}

#[tokio::test]
async fn t_nobody_decides_about_their_own_or_in_what_is_not_theirs() {
    let service = Service::start().await;
    let admin = service.admin().await;
    let ana = service.person(&admin, "ana", &["demo-viewer-group"]).await;
    let bob = service.person(&admin, "bob", &["demo-viewer-group"]).await;
    service.person(&admin, "carl", &[]).await;
    let body = json!({"name": "demo", "description": "d"});
    let app = service.post("/v1/applications", &admin, body).await.expect(201);
    let all = service.get("/v1/users", &admin).await.expect(200);
    let own = all.as_array().unwrap().iter().find(|one| one["username"] == "admin").unwrap();
    // Those who view review who views; and the administrator.
    let body = json!({
        "name": "views", "product": "demo",
        "reviewers": [own["id"]], "reviewerGroups": ["demo-viewer-group"],
    });
    let id = review(&service, &admin, body).await;
    let whole = items(&service, &admin, &format!("/v1/reviews/{id}")).await;
    let [anas, bobs, carls] =
        [token(&service, "ana").await, token(&service, "bob").await, token(&service, "carl").await];
    let of_ana = item(&whole, "ana", "demo-viewer-group");
    let of_bob = item(&whole, "bob", "demo-viewer-group");
    for decision in ["keep", "revoke"] {
        decide(&service, &anas, (&id, of_ana), decision).await.refused(403, "IDE-9065");
    }
    let names: Vec<_> =
        mine(&service, &anas, &id).await.iter().map(|one| one["name"].clone()).collect();
    assert!(!names.contains(&json!("ana")) && names.contains(&json!("bob")), "{names:?}");
    // Nor does whoever made an application decide about it.
    let role = item(&whole, "demo", "demo-editor-role");
    assert_eq!(whole.iter().find(|one| one["number"] == role).unwrap()["madeBy"], own["id"]);
    decide(&service, &admin, (&id, role), "keep").await.refused(403, "IDE-9065");
    // Who is not named, an application, and another organization's administrator.
    let grant = json!({
        "grantType": "client_credentials",
        "clientId": app["clientId"], "clientSecret": app["clientSecret"],
    });
    let machine = access(&service.token(grant).await.expect(200));
    let (_, stranger) = stranger(&service, &admin).await;
    for (who, token) in [("carl", &carls), ("machine", &machine), ("stranger", &stranger)] {
        decide(&service, token, (&id, of_bob), "revoke").await.refused(404, "IDE-9063");
        let path = format!("/v1/assigned-reviews/{id}/items");
        service.get(&path, token).await.refused(404, "IDE-9063");
        assert_eq!(
            service.get("/v1/assigned-reviews", token).await.expect(200),
            json!([]),
            "{who}"
        );
    }
    for path in ["", "/items"] {
        let path = format!("/v1/reviews/{id}{path}");
        service.get(&path, &stranger).await.refused(404, "IDE-9063");
        service.get(&path, &anas).await.refused(403, "IDE-9001");
    }
    let close = format!("/v1/reviews/{id}/close");
    service.post(&close, &stranger, Value::Null).await.refused(404, "IDE-9063");
    service.post(&close, &anas, Value::Null).await.refused(403, "IDE-9001");
    assert_eq!(service.get("/v1/reviews", &stranger).await.expect(200), json!([]));
    // Who reviews by a group does so while in it: bob takes ana out, and she decides no more.
    decide(&service, &bobs, (&id, of_ana), "revoke").await.expect(200);
    assert_eq!(groups(&service, &admin, &ana).await, json!([]));
    decide(&service, &anas, (&id, of_bob), "revoke").await.refused(404, "IDE-9063");
    assert_eq!(groups(&service, &admin, &bob).await, json!(["demo-viewer-group"]));
    for item in [0, 99, u64::MAX] {
        decide(&service, &bobs, (&id, item), "keep").await.refused(404, "IDE-9063");
    }
    decide(&service, &bobs, (&id, of_ana), "perhaps").await.refused(400, "IDE-0007");
}

#[tokio::test]
async fn t_a_review_takes_nothing_that_its_owner_could_not_and_leaves_an_administrator() {
    let service = Service::start().await;
    let admin = service.admin().await;
    let role = json!({
        "id": "campaigner", "product": "plugin-identity", "name": "C",
        "permissions": ["reviews:get", "reviews:post", "reviews:patch", "users:patch"],
    });
    service.post("/v1/roles", &admin, role).await.expect(201);
    let group = json!({"id": "campaigners", "name": "C", "roles": ["campaigner"]});
    service.post("/v1/groups", &admin, group).await.expect(201);
    let lee = service.person(&admin, "lee", &["campaigners"]).await;
    let vic = service.person(&admin, "vic", &["demo-viewer-group"]).await;
    let lees = token(&service, "lee").await;
    // The lesser one has the stronger reviewed, by the lesser one.
    let body =
        json!({"name": "coup", "reviewers": [lee], "groups": ["admin-group", "demo-viewer-group"]});
    let id = review(&service, &lees, body).await;
    let all = mine(&service, &lees, &id).await;
    for (name, group) in [("admin", "admin-group"), ("vic", "demo-viewer-group")] {
        let told =
            decide(&service, &lees, (&id, item(&all, name, group)), "revoke").await.expect(200);
        assert_eq!(told["outcome"], "failed", "{told}");
        assert!(told["reason"].as_str().unwrap().contains("nobody gives what they do not hold"));
    }
    assert_eq!(groups(&service, &admin, &vic).await, json!(["demo-viewer-group"]));
    let close = format!("/v1/reviews/{id}/close");
    let closed = service.post(&close, &lees, Value::Null).await.expect(200);
    assert_eq!(closed["progress"]["failed"], 2);

    // The last administrator stays, until there is another one.
    let body = json!({"name": "admins", "reviewers": [lee], "groups": ["admin-group"]});
    let id = review(&service, &admin, body).await;
    let all = mine(&service, &lees, &id).await;
    let own = (&*id, item(&all, "admin", "admin-group"));
    let told = decide(&service, &lees, own, "revoke").await.expect(200);
    assert_eq!((&told["outcome"], &told["decision"]), (&json!("failed"), &json!("revoke")));
    assert!(told["reason"].as_str().unwrap().contains("nobody would be left"));
    let eva = service.person(&admin, "eva", &["admin-group"]).await;
    let told = decide(&service, &lees, own, "revoke").await.expect(200);
    assert_eq!((&told["outcome"], &told["reason"]), (&json!("revoked"), &Value::Null));
    service.get("/v1/users", &admin).await.refused(403, "IDE-9001");

    // What an owner may no more, a review of theirs does no more.
    let evas = token(&service, "eva").await;
    let body = json!({"name": "views", "reviewers": [lee], "groups": ["demo-viewer-group"]});
    let id = review(&service, &evas, body).await;
    let uma = service.person(&evas, "uma", &["admin-group"]).await;
    let umas = token(&service, "uma").await;
    let path = format!("/v1/users/{eva}");
    service.patch(&path, &umas, json!({"groups": []})).await.expect(200);
    let all = mine(&service, &lees, &id).await;
    let of_vic = (&*id, item(&all, "vic", "demo-viewer-group"));
    let told = decide(&service, &lees, of_vic, "revoke").await.expect(200);
    assert_eq!(told["outcome"], "failed");
    service.delete(&path, &umas).await.is(204);
    assert_eq!(decide(&service, &lees, of_vic, "revoke").await.expect(200)["outcome"], "failed");
    assert_eq!(groups(&service, &umas, &vic).await, json!(["demo-viewer-group"]));
    assert_ne!(uma, eva);
}

#[tokio::test]
async fn what_has_changed_meanwhile_is_told_and_nothing_is_lost() {
    let service = Service::start().await;
    let admin = service.admin().await;
    let ana = service.person(&admin, "ana", &[]).await;
    let role = json!({"id": "r", "product": "demo", "name": "R", "permissions": ["parts:get"]});
    service.post("/v1/roles", &admin, role).await.expect(201);
    let group = json!({"id": "g", "name": "G", "roles": ["r"]});
    service.post("/v1/groups", &admin, group).await.expect(201);
    let bob = service.person(&admin, "bob", &["g"]).await;
    service.person(&admin, "carl", &["g"]).await;
    let body = json!({"name": "g", "reviewers": [ana], "groups": ["g"]});
    let id = review(&service, &admin, body).await;
    let anas = token(&service, "ana").await;
    let all = mine(&service, &anas, &id).await;
    let (of_bob, of_carl) = ((&*id, item(&all, "bob", "g")), (&*id, item(&all, "carl", "g")));
    decide(&service, &anas, of_carl, "keep").await.expect(200);
    // It gives more by now: nobody lets stay what they have not seen.
    let more = json!({"permissions": ["parts:get", "things:post"]});
    service.patch("/v1/roles/r", &admin, more).await.expect(200);
    decide(&service, &anas, of_bob, "keep").await.refused(409, "IDE-9067");
    let all = mine(&service, &anas, &id).await;
    let again = all.iter().find(|one| one["name"] == "bob").unwrap();
    assert_eq!(again["gives"].as_array().unwrap().len(), 2);
    assert_eq!(decide(&service, &anas, of_bob, "keep").await.expect(200)["outcome"], "kept");
    // It gives less, which is no reason to ask again; and then it is gone.
    service.patch("/v1/roles/r", &admin, json!({"permissions": []})).await.expect(200);
    assert_eq!(decide(&service, &anas, of_bob, "keep").await.expect(200)["outcome"], "kept");
    let path = format!("/v1/users/{bob}");
    service.patch(&path, &admin, json!({"groups": []})).await.expect(200);
    for decision in ["keep", "revoke"] {
        assert_eq!(decide(&service, &anas, of_bob, decision).await.expect(200)["outcome"], "gone");
    }
    service.delete(&path, &admin).await.is(204);
    let told = decide(&service, &anas, of_bob, "revoke").await.expect(200);
    assert_eq!((&told["outcome"], &told["name"]), (&json!("gone"), &json!("bob")));
}

#[tokio::test]
async fn several_at_once_come_to_one_end_and_what_is_taken_away_stays_away() {
    let service = Service::start().await;
    let admin = service.admin().await;
    let ana = service.person(&admin, "ana", &[]).await;
    let eva = service.person(&admin, "eva", &[]).await;
    let [anas, evas] = [token(&service, "ana").await, token(&service, "eva").await];
    let mut people = Vec::new();
    for n in 0..6 {
        people.push(service.person(&admin, &format!("p{n}"), &["demo-viewer-group"]).await);
    }
    let body = json!({"name": "n", "reviewers": [ana, eva], "groups": ["demo-viewer-group"]});
    let id = review(&service, &admin, body).await;
    let all = mine(&service, &anas, &id).await;
    for (n, person) in people.iter().enumerate() {
        let at = (&*id, item(&all, &format!("p{n}"), "demo-viewer-group"));
        let path = format!("/v1/users/{person}");
        let none = json!({"groups": []});
        let (one, other) = match n % 3 {
            // Two of two minds.
            0 => tokio::join!(
                decide(&service, &anas, at, "revoke"),
                decide(&service, &evas, at, "keep")
            ),
            // Two of one.
            1 => tokio::join!(
                decide(&service, &anas, at, "revoke"),
                decide(&service, &evas, at, "revoke")
            ),
            // And an administrator who does the same by hand.
            _ => tokio::join!(
                decide(&service, &anas, at, "revoke"),
                service.patch(&path, &admin, none)
            ),
        };
        let statuses = [one.status.as_u16(), other.status.as_u16()];
        assert!(statuses.iter().all(|status| [200, 409].contains(status)), "{statuses:?}");
        assert!(statuses.contains(&200), "{statuses:?}");
        assert_eq!(groups(&service, &admin, person).await, json!([]), "{n}");
        let now = mine(&service, &anas, &id).await;
        let outcome = &now.iter().find(|one| one["number"] == at.1).unwrap()["outcome"];
        assert!(outcome == "revoked" || n % 3 == 2 && outcome == "gone", "{n}: {outcome}");
    }
}

#[tokio::test]
async fn at_the_close_what_nobody_decided_goes_if_that_was_said() {
    let service = Service::start().await;
    let admin = service.admin().await;
    let ana = service.person(&admin, "ana", &[]).await;
    let bob = service.person(&admin, "bob", &["demo-viewer-group"]).await;
    let carl = service.person(&admin, "carl", &["demo-viewer-group"]).await;
    let body = json!({
        "name": "all", "reviewers": [ana], "undecided": "revoke",
        "groups": ["demo-viewer-group", "admin-group"],
    });
    let id = review(&service, &admin, body).await;
    let anas = token(&service, "ana").await;
    let all = mine(&service, &anas, &id).await;
    let of_carl = (&*id, item(&all, "carl", "demo-viewer-group"));
    decide(&service, &anas, of_carl, "keep").await.expect(200);
    let close = format!("/v1/reviews/{id}/close");
    let closed = service.post(&close, &admin, Value::Null).await.expect(200);
    let progress =
        json!({"items": 3, "kept": 1, "revoked": 1, "gone": 0, "failed": 1, "undecided": 0});
    assert_eq!(closed["progress"], progress);
    assert_eq!(groups(&service, &admin, &bob).await, json!([]));
    assert_eq!(groups(&service, &admin, &carl).await, json!(["demo-viewer-group"]));
}

#[tokio::test]
async fn what_makes_no_review_is_told() {
    let service = Service::start().await;
    let admin = service.admin().await;
    let ana = service.person(&admin, "ana", &[]).await;
    let nobody = "0191e1a0-0000-7000-8000-000000000000";
    for (body, status, code) in [
        (json!({"reviewers": [ana]}), 400, "IDE-0001"),
        (json!({"name": "n"}), 400, "IDE-0007"),
        (json!({"name": "n", "reviewers": [nobody]}), 404, "IDE-1003"),
        (json!({"name": "n", "reviewers": ["x'--"]}), 404, "IDE-1003"),
        (json!({"name": "n", "reviewerGroups": ["none"]}), 404, "IDE-1006"),
        (json!({"name": "n", "reviewers": [ana], "groups": ["none"]}), 404, "IDE-1006"),
        (json!({"name": "n", "reviewers": [ana], "roles": ["none"]}), 404, "IDE-9003"),
        (json!({"name": "n", "reviewers": [ana], "product": "none"}), 400, "IDE-0007"),
        (json!({"name": "n", "reviewers": [ana], "undecided": "maybe"}), 400, "IDE-0007"),
        (json!({"name": "n", "reviewers": [ana], "dueAt": "soon"}), 400, "IDE-0007"),
        (
            json!({"name": "n", "reviewers": [ana], "dueAt": "2001-01-01T00:00:00Z"}),
            400,
            "IDE-0007",
        ),
        (
            json!({"name": "n", "reviewers": [ana], "groups": ["demo-viewer-group"]}),
            400,
            "IDE-0007",
        ),
        (json!({"name": "n\u{7}", "reviewers": [ana]}), 400, "IDE-0007"),
    ] {
        service.post("/v1/reviews", &admin, body).await.refused(status, code);
    }
    assert_eq!(service.get("/v1/reviews", &admin).await.expect(200), json!([]));
    // One that is late stays open, and says so.
    let at = NOW + 60;
    let time = time::OffsetDateTime::from_unix_timestamp(i64::try_from(at).unwrap()).unwrap();
    let due = time.format(&time::format_description::well_known::Rfc3339).unwrap();
    let body = json!({"name": "n", "reviewers": [ana], "dueAt": due});
    let id = review(&service, &admin, body).await;
    service.clock.advance(60);
    let shown = service.get(&format!("/v1/reviews/{id}"), &admin).await.expect(200);
    assert_eq!((&shown["overdue"], &shown["closedAt"]), (&json!(true), &Value::Null));
}
