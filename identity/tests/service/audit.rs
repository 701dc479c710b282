//! The audit log: every act has its record, nobody sees another's, and what was altered is found.

use std::{collections::BTreeSet, sync::Arc};

use http::{Method, StatusCode};
use identity::{Config, Ledger, Verified};
use serde_json::{Value, json};

use super::{
    harness::{ADMIN_PASSWORD, Beside, NOW, PASSWORD, Service, access, config, person},
    tenants::part,
};

/// The events of the log, oldest first.
async fn events(service: &Service, token: &str, query: &str) -> Vec<Value> {
    let path = format!("/v1/audit?limit=100{query}");
    let page = service.get(&path, token).await.expect(200);
    let mut items = page["items"].as_array().unwrap().clone();
    items.reverse();
    items
}

fn names(events: &[Value]) -> Vec<&str> {
    events.iter().map(|entry| entry["event"].as_str().unwrap()).collect()
}

/// Walk the home organization's chain, as the command line does.
async fn verify(service: &Service) -> Verified {
    let folder = service.folder.path();
    let ledger = Ledger::open(&config(folder).await, folder).await.unwrap();
    ledger.verify(&"lerian".parse().unwrap(), None).await.unwrap()
}

async fn holds(service: &Service) -> u64 {
    let found = verify(service).await;
    assert_eq!(found.broken, None);
    found.entries
}

/// What is wrong with the chain: the entry, and what of it.
async fn broken(service: &Service) -> (Option<u64>, String) {
    let broken = verify(service).await.broken.expect("the chain is broken");
    (broken.sequence, broken.what)
}

#[tokio::test]
async fn every_administrative_act_is_recorded_with_who_did_it_and_what_it_changed() {
    let service =
        Service::start_with(Config { retrievable_secrets: true, ..Config::default() }).await;
    let admin = service.admin().await;
    let me = service.get("/v1/userinfo", &admin).await.expect(200);
    let ana = service.person(&admin, "ana", &["demo-viewer-group"]).await;
    let path = format!("/v1/users/{ana}");
    service.patch(&path, &admin, json!({"groups": []})).await.expect(200);
    let new = json!({"newPassword": "Sturdy-Horse-2"});
    service.patch(&format!("{path}/reset-password"), &admin, new).await.expect(204);
    let role =
        json!({"id": "reader", "product": "demo", "name": "R", "permissions": ["parts:get"]});
    service.post("/v1/roles", &admin, role).await.expect(201);
    let group = json!({"id": "readers", "name": "Readers", "roles": ["reader"]});
    service.post("/v1/groups", &admin, group).await.expect(201);
    service.patch("/v1/groups/readers", &admin, json!({"roles": []})).await.expect(200);
    service.patch("/v1/roles/reader", &admin, json!({"name": "S"})).await.expect(200);
    service.delete("/v1/groups/readers", &admin).await.expect(204);
    service.delete("/v1/roles/reader", &admin).await.expect(204);
    let body = json!({"name": "demo", "description": "d"});
    let made = service.post("/v1/applications", &admin, body).await.expect(201);
    let app = format!("/v1/applications/{}", made["id"].as_str().unwrap());
    service.get(&app, &admin).await.expect(200);
    service.patch(&app, &admin, json!({"description": "e"})).await.expect(200);
    service.delete(&app, &admin).await.expect(204);
    service.delete(&path, &admin).await.expect(204);
    // What is refused has done nothing.
    service.delete(&path, &admin).await.refused(404, "IDE-1003");

    let all = events(&service, &admin, "").await;
    assert_eq!(
        names(&all),
        [
            "organization.created",
            "sign-in.succeeded",
            "user.created",
            "user.changed",
            "user.password-reset",
            "role.created",
            "group.created",
            "group.changed",
            "role.changed",
            "group.removed",
            "role.removed",
            "application.created",
            "application.secret-read",
            "application.changed",
            // What a change answers shows the secret, too.
            "application.secret-read",
            "application.removed",
            "user.removed",
        ]
    );
    assert_eq!(all[0]["actor"], json!({"type": "operator", "id": "operator"}));
    assert_eq!(all[1]["actor"], json!({"type": "user", "id": me["sub"]}));
    let changed = &all[3];
    assert_eq!(changed["target"], json!({"type": "user", "id": ana}));
    assert_eq!(changed["before"]["groups"], json!(["demo-viewer-group"]));
    assert_eq!(changed["after"]["groups"], json!([]));
    assert_eq!(changed["address"], "127.0.0.1");
    assert!(changed["requestId"].is_string());
    assert_eq!(all[7]["before"]["roles"], json!(["reader"]));
    assert_eq!(all[16]["before"]["username"], "ana");
    assert_eq!(all[16]["after"], Value::Null);
    // No secret is in any of it.
    let text = serde_json::to_string(&all).unwrap();
    let secret = made["clientSecret"].as_str().unwrap();
    let canaries =
        [PASSWORD, "Sturdy-Horse-2", ADMIN_PASSWORD, secret, &service.client_secret, &admin];
    for canary in canaries {
        assert!(!text.contains(canary), "{canary}");
    }
    assert!(!text.to_lowercase().contains("hash\":\"$") && !text.contains("sealed"), "{text}");
    assert_eq!(holds(&service).await, 17);
}

#[tokio::test]
async fn sign_ins_good_and_failed_are_recorded_and_a_flood_is_folded() {
    let service = Service::start().await;
    let admin = service.admin().await;
    let ana = service.person(&admin, "ana", &[]).await;
    let fail = async |name: &str| {
        let body = json!({"grantType": "password", "username": name, "password": "Wrong-Horse-1"});
        service.token(body).await.refused(401, "AUT-1002");
    };
    for _ in 0..4 {
        fail("ana").await;
    }
    for name in ["nobody1", "nobody2", "Wrong-Horse-1"] {
        fail(name).await;
    }
    let failed = "&event=sign-in.failed";
    let now = events(&service, &admin, failed).await;
    assert_eq!(now.len(), 2);
    assert_eq!(now[0]["target"], json!({"type": "user", "id": ana}));
    assert_eq!(now[0]["actor"], json!({"type": "nobody", "id": "nobody"}));
    // Whoever does not exist is one account, and what was typed is not kept.
    assert_eq!(now[1]["target"], Value::Null);
    service.clock.advance(60);
    fail("ana").await;
    let later = events(&service, &admin, failed).await;
    let times: Vec<_> = later.iter().map(|entry| entry["times"].as_u64().unwrap()).collect();
    assert_eq!(times, [1, 1, 3, 1]);
    let text = serde_json::to_string(&later).unwrap();
    assert!(!text.contains("nobody1") && !text.contains("Wrong-Horse"), "{text}");
    // What is left of the minute is told of at the end, however it ends.
    let service = service.restart().await;
    let admin = service.admin().await;
    let rest = events(&service, &admin, failed).await;
    assert_eq!(rest.iter().map(|entry| entry["times"].as_u64().unwrap()).sum::<u64>(), 8);

    // A wrong client secret costs no password hash, so a flood of it is counted in memory.
    let body = json!({
        "grantType": "client_credentials", "clientId": service.client_id, "clientSecret": "wrong",
    });
    for _ in 0..4 {
        service.token(body.clone()).await.refused(401, "AUT-1004");
    }
    assert_eq!(events(&service, &admin, "&event=application.refused").await.len(), 1);
    service.clock.advance(60);
    service.token(body).await.refused(401, "AUT-1004");
    let refused = events(&service, &admin, "&event=application.refused").await;
    let times: Vec<_> = refused.iter().map(|entry| entry["times"].as_u64().unwrap()).collect();
    assert_eq!(times, [1, 3, 1]);
    holds(&service).await;
}

#[tokio::test]
async fn the_end_of_a_sign_in_is_recorded_and_a_stolen_token_by_its_own_name() {
    let service = Service::start().await;
    let admin = service.admin().await;
    let tokens = service.sign_in("admin", ADMIN_PASSWORD).await;
    let hint = [("id_token_hint", tokens["idToken"].as_str().unwrap())];
    for _ in 0..2 {
        service.form("/v1/logout", &[], &hint).await.expect(204);
    }
    let tokens = service.sign_in("admin", ADMIN_PASSWORD).await;
    let token = tokens["refreshToken"].as_str().unwrap();
    let next = service.refresh(token).await.expect(200);
    service.refresh(next["refreshToken"].as_str().unwrap()).await.expect(200);
    service.refresh(token).await.refused(400, "AUT-1005");
    let all = events(&service, &admin, "").await;
    assert_eq!(
        names(&all)[2..],
        ["sign-in.succeeded", "session.ended", "sign-in.succeeded", "session.refresh-token-reused"]
    );
    let session = &all[4]["after"]["session"];
    assert_eq!(all[5]["target"], json!({"type": "session", "id": session}));
}

#[tokio::test]
async fn the_log_is_read_by_filter_page_and_export() {
    let service = Service::start().await;
    let admin = service.admin().await;
    let mut ids = Vec::new();
    for n in 0..5 {
        service.clock.advance(10);
        let mut body = person(&format!("u{n}"), &[]);
        body["firstName"] = "=HYPERLINK(\"x\")".into();
        ids.push(service.post("/v1/users", &admin, body).await.expect(201)["id"].clone());
    }
    let helper = service.person(&admin, "helper", &["helper-group"]).await;
    let token = access(&service.sign_in("helper", PASSWORD).await);
    service.get("/v1/audit", &token).await.refused(403, "IDE-9001");

    let id = ids[2].as_str().unwrap();
    let by_target = events(&service, &admin, &format!("&target={id}")).await;
    assert_eq!(names(&by_target), ["user.created"]);
    let by_actor = events(&service, &admin, &format!("&actor={helper}")).await;
    assert_eq!(names(&by_actor), ["sign-in.succeeded"]);
    let time = |at: u64| {
        let at = i64::try_from(at).unwrap();
        let form = &time::format_description::well_known::Rfc3339;
        time::OffsetDateTime::from_unix_timestamp(at).unwrap().format(form).unwrap()
    };
    let (since, until) = (time(NOW + 20), time(NOW + 40));
    let some = events(&service, &admin, &format!("&since={since}&until={until}")).await;
    assert_eq!(names(&some), ["user.created", "user.created"]);
    for bad in [
        "event=nothing",
        "actor=",
        "since=yesterday",
        "cursor=x",
        "limit=0",
        "limit=101",
        "who=x",
        "limit=1&limit=2",
        "format=xml",
        "format=csv&limit=5",
        "target=%00",
    ] {
        service.get(&format!("/v1/audit?{bad}"), &admin).await.refused(400, "IDE-0005");
    }

    // Page by page it is the whole, each once, the newest first.
    let (mut cursor, mut sequences) = (String::new(), Vec::new());
    loop {
        let page = service.get(&format!("/v1/audit?limit=3{cursor}"), &admin).await.expect(200);
        sequences.extend(page["items"].as_array().unwrap().iter().map(|e| e["sequence"].as_u64()));
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    let whole: Vec<_> = (1..=9).rev().map(Some).collect();
    assert_eq!(sequences, whole);

    let authorization = format!("Bearer {admin}");
    let headers = [("authorization", authorization.as_str()), ("accept", "application/jsonl")];
    let lines = service.send(Method::GET, "/v1/audit", &headers, "").await;
    assert_eq!(lines.headers["content-type"], "application/jsonl");
    let text = String::from_utf8(lines.bytes.to_vec()).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    // That it is taken away is recorded first.
    assert_eq!(lines.len(), 10);
    assert_eq!(lines[0]["event"], "audit.exported");
    // Each hangs on the next, and its hash is that of the line without it.
    for pair in lines.windows(2) {
        assert_eq!(pair[0]["previous"], pair[1]["hash"]);
    }
    let line = text.lines().next().unwrap();
    let hash = lines[0]["hash"].as_str().unwrap();
    let bare = line.replace(&format!("\"hash\":\"{hash}\","), "");
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bare.as_bytes());
    assert_eq!(hex::encode(digest.as_ref()), hash, "{bare}");
    let csv = service.get("/v1/audit?format=csv", &admin).await;
    assert_eq!(csv.status, StatusCode::OK);
    let text = String::from_utf8(csv.bytes.to_vec()).unwrap();
    assert!(text.starts_with("sequence,at,event,"), "{text}");
    assert_eq!(text.lines().count(), 12);
    for cell in text.split(',') {
        assert!(!cell.starts_with(['=', '+', '-', '@']), "{cell}");
    }
}

#[tokio::test]
async fn another_organizations_entries_are_not_there() {
    let service = Service::start().await;
    let admin = service.admin().await;
    let eve = service.person(&admin, "eve", &["admin-group"]).await;
    let ana = service.person(&admin, "ana", &[]).await;
    let body = json!({"name": "demo", "description": "of acme"});
    let theirs = service.post("/v1/applications", &admin, body).await.expect(201);
    part(&service, &eve, theirs["id"].as_str().unwrap()).await;
    let grant = json!({
        "grantType": "password", "username": "eve", "password": PASSWORD,
        "clientId": theirs["clientId"], "clientSecret": theirs["clientSecret"],
    });
    let stranger = access(&service.token(grant).await.expect(200));
    let seen = events(&service, &stranger, "").await;
    assert_eq!(names(&seen), ["sign-in.succeeded"]);
    assert_eq!((&seen[0]["sequence"], &seen[0]["organization"]), (&json!(1), &json!("acme")));
    for query in [format!("&target={ana}"), format!("&cursor={}-1000", NOW + 9)] {
        assert!(events(&service, &stranger, &query).await.len() < 2);
    }
    let export = service.get("/v1/audit?format=jsonl", &stranger).await;
    assert!(!String::from_utf8_lossy(&export.bytes).contains("lerian"));
    holds(&service).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acts_at_once_leave_one_unbroken_chain() {
    let service = Arc::new(Service::start().await);
    let admin = service.admin().await;
    for n in 0..4 {
        service.person(&admin, &format!("p{n}"), &[]).await;
    }
    let acting: Vec<_> = (0..24)
        .map(|n| {
            let (service, admin) = (Arc::clone(&service), admin.clone());
            tokio::spawn(async move {
                match n % 3 {
                    0 => {
                        let tokens = service.sign_in(&format!("p{}", n % 4), PASSWORD).await;
                        let hint = [("id_token_hint", tokens["idToken"].as_str().unwrap())];
                        service.form("/v1/logout", &[], &hint).await.expect(204);
                    }
                    1 => drop(service.person(&admin, &format!("u{n}"), &[]).await),
                    _ => {
                        let group = json!({"id": format!("g{n}"), "name": "G", "roles": []});
                        service.post("/v1/groups", &admin, group).await.expect(201);
                    }
                }
            })
        })
        .collect();
    for act in acting {
        act.await.unwrap();
    }
    assert_eq!(holds(&service).await, 6 + 8 * 4);
    let all = events(&service, &admin, "").await;
    let sequences: BTreeSet<_> = all.iter().map(|e| e["sequence"].as_u64().unwrap()).collect();
    assert_eq!(sequences, (1..=38).collect());
}

#[tokio::test]
async fn what_was_altered_removed_added_or_put_in_another_order_is_found() {
    let service = Service::start().await;
    let admin = service.admin().await;
    for n in 0..4 {
        service.person(&admin, &format!("u{n}"), &[]).await;
    }
    assert_eq!(holds(&service).await, 6);
    let head = verify(&service).await.head.unwrap();
    let mut db = service.database().await;
    db.run("CREATE TABLE kept AS SELECT * FROM audit").await;
    db.run("CREATE TABLE kept_heads AS SELECT * FROM audit_heads").await;
    let altered = "it was altered, or follows upon another entry than it did";
    let missing = "entries before it are missing";
    let foreign = "the ends of the chain were not sealed by this installation";
    let swap = "UPDATE audit SET sequence = sequence + 100 WHERE sequence IN (3, 4); \
                UPDATE audit SET sequence = 7 - (sequence - 100) WHERE sequence > 100";
    for (tamper, sequence, what) in [
        ("UPDATE audit SET event = 'user.changed' WHERE sequence = 4", Some(4), altered),
        ("UPDATE audit SET actor_id = 'x' WHERE sequence = 3", Some(3), altered),
        ("UPDATE audit SET after = NULL WHERE sequence = 5", Some(5), altered),
        ("UPDATE audit SET at = at - 1 WHERE sequence = 1", Some(1), altered),
        ("UPDATE audit SET org_id = 'lerian', address = NULL WHERE sequence = 2", Some(2), altered),
        (swap, Some(3), altered),
        ("DELETE FROM audit WHERE sequence = 3", Some(4), missing),
        ("DELETE FROM audit WHERE sequence = 1", Some(2), missing),
        (
            "DELETE FROM audit WHERE sequence = 6",
            Some(6),
            "it and what follows it are missing, or were added",
        ),
        // With the head moved along, which only whoever has the master key can seal.
        (
            "DELETE FROM audit WHERE sequence = 6; UPDATE audit_heads SET sequence = 5, \
             hash = (SELECT hash FROM audit WHERE sequence = 5)",
            None,
            foreign,
        ),
        ("UPDATE audit_heads SET kept_after = 1", None, foreign),
        ("DELETE FROM audit_heads", None, "the ends of the chain are missing"),
        (
            "INSERT INTO audit SELECT org_id, 7, at, event, actor_kind, actor_id, target_kind, \
             target_id, before, after, request_id, address, agent, times, hash FROM audit \
             WHERE sequence = 6",
            Some(7),
            altered,
        ),
    ] {
        db.run(tamper).await;
        assert_eq!(broken(&service).await, (sequence, what.to_owned()), "{tamper}");
        db.run("DELETE FROM audit; INSERT INTO audit SELECT * FROM kept").await;
        db.run("DELETE FROM audit_heads; INSERT INTO audit_heads SELECT * FROM kept_heads").await;
    }
    assert_eq!(holds(&service).await, 6);
    // Put back whole, as from a backup: whoever noted the head knows.
    service.person(&admin, "late", &[]).await;
    let noted = verify(&service).await.head.unwrap();
    assert_ne!(noted, head);
    db.run("DELETE FROM audit; INSERT INTO audit SELECT * FROM kept").await;
    db.run("DELETE FROM audit_heads; INSERT INTO audit_heads SELECT * FROM kept_heads").await;
    let folder = service.folder.path();
    let ledger = Ledger::open(&config(folder).await, folder).await.unwrap();
    let org = "lerian".parse().unwrap();
    assert_eq!(ledger.verify(&org, Some(&head)).await.unwrap().broken, None);
    assert!(ledger.verify(&org, Some(&noted)).await.unwrap().broken.is_some());
}

#[tokio::test]
async fn what_is_kept_no_longer_leaves_a_chain_that_holds() {
    let keeping = || Config { audit_retention_days: Some(30), ..Config::default() };
    let service = Service::start_with(keeping()).await;
    let admin = service.admin().await;
    service.person(&admin, "ana", &[]).await;
    service.clock.advance(20 * 86_400);
    let admin = service.admin().await;
    service.person(&admin, "eve", &[]).await;
    let head = verify(&service).await.head.unwrap();
    service.clock.advance(15 * 86_400);
    // A start does at once what is done every minute after.
    let service = service.restart_with(keeping()).await;
    let trimmed = async |mut db: Beside| loop {
        if db.number("SELECT kept_after FROM audit_heads").await == 3 {
            break;
        }
        tokio::task::yield_now().await;
    };
    trimmed(service.database().await).await;
    let admin = service.admin().await;
    let all = events(&service, &admin, "").await;
    assert_eq!(
        names(&all),
        [
            "sign-in.succeeded",
            "user.created",
            "key.published",
            "audit.trimmed",
            "sign-in.succeeded",
        ]
    );
    assert_eq!(all[2]["actor"]["type"], "system");
    assert_eq!(all[3]["before"], json!({"entries": 3, "through": 3}));
    assert_eq!(holds(&service).await, 5);
    let folder = service.folder.path();
    let ledger = Ledger::open(&config(folder).await, folder).await.unwrap();
    let still = ledger.verify(&"lerian".parse().unwrap(), Some(&head)).await.unwrap();
    assert_eq!(still.broken, None);
    service.database().await.run("DELETE FROM audit WHERE sequence = 4").await;
    assert_eq!(broken(&service).await.0, Some(5));
}
