//! Several processes on one database.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use identity::{Clock, Config, Database};
use policy::changes::Sequence;
use serde_json::json;

use super::{
    code::{Browser, page, web_named},
    forgotten,
    harness::{
        ADMIN_PASSWORD, NOW, PASSWORD, Service, access, catalog, config, database, on_server,
        open_with, password_of,
    },
    issuer::near,
    letters::{all_sent, turned_away},
    logouts::{all_told, next, out, signed_in},
    providers::Sink,
};
use crate::server::Server;

/// Another process on the same database, with a copy of the master key.
async fn replica(service: &Service) -> Service {
    replica_with(service, Config::default()).await
}

async fn replica_with(service: &Service, config: Config) -> Service {
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let key = identity::MASTER_KEY;
    std::fs::copy(service.folder.path().join(key), folder.path().join(key)).unwrap();
    let config = Config { database: database(service.folder.path()).await, ..config };
    Service::run(folder, service.clock.clone(), config, catalog()).await
}

/// Wait until the follower of a process has been told so many changes.
async fn told(service: &Service, changes: usize) {
    let enough = async {
        while service.told.lock().unwrap().changes.len() < changes {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), enough).await.expect("it was never told");
}

fn sequences(service: &Service) -> Vec<Sequence> {
    service.told.lock().unwrap().changes.iter().map(|change| change.sequence).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_commits_the_other_is_told_at_once() {
    const CHANGES: usize = 20;
    let one = Service::start().await;
    let other = replica(&one).await;
    let admin = one.admin().await;
    let mut ids = Vec::new();
    for n in 0..CHANGES {
        ids.push(one.person(&admin, &format!("eve{n}"), &[]).await);
    }
    // Each is waited for before the next: by looking every second, this would take one second each.
    let all = async {
        for (n, id) in ids.iter().enumerate() {
            one.delete(&format!("/v1/users/{id}"), &admin).await.expect(204);
            told(&other, n + 1).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(CHANGES as u64 / 2), all).await.expect("too late");
    // A group made here is in the policy there.
    let group = json!({"id": "readers", "name": "Readers", "roles": ["demo-viewer-role"]});
    one.post("/v1/groups", &admin, group).await.expect(201);
    other.get("/v1/groups/readers", &admin).await.expect(200);
    let ana = json!({"roles": ["demo-editor-role"]});
    other.patch("/v1/groups/readers", &admin, ana).await.expect(200);
    assert_eq!(other.snapshot().groups[0].roles[0].as_str(), "demo-editor-role");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_that_both_make_at_once_are_told_to_both_in_one_order_without_a_gap() {
    const EACH: usize = 12;
    let one = Arc::new(Service::start().await);
    let other = Arc::new(replica(&one).await);
    let admin = one.admin().await;
    let mut ids = Vec::new();
    for n in 0..2 * EACH {
        ids.push(one.person(&admin, &format!("eve{n}"), &[]).await);
    }
    let removing: Vec<_> = ids
        .into_iter()
        .enumerate()
        .map(|(n, id)| {
            let service = Arc::clone(if n % 2 == 0 { &one } else { &other });
            let admin = admin.clone();
            tokio::spawn(async move {
                service.delete(&format!("/v1/users/{id}"), &admin).await.expect(204);
            })
        })
        .collect();
    for removed in removing {
        removed.await.unwrap();
    }
    for service in [&one, &other] {
        told(service, 2 * EACH).await;
        let expected: Vec<_> = (1..=2 * EACH as u64).map(Sequence).collect();
        assert_eq!(sequences(service), expected);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_ended_at_one_is_ended_at_the_other() {
    let one = Service::start().await;
    let other = replica(&one).await;
    let admin = one.admin().await;
    let ana = one.person(&admin, "ana", &[]).await;
    let tokens = other.sign_in("ana", PASSWORD).await;
    one.get("/v1/userinfo", &access(&tokens)).await.expect(200);
    let path = format!("/v1/users/{ana}/reset-password");
    one.patch(&path, &admin, json!({"newPassword": "Another-Horse-2"})).await.expect(204);
    other.get("/v1/userinfo", &access(&tokens)).await.refused(401, "AUT-0007");
    let token = tokens["refreshToken"].as_str().unwrap();
    other.refresh(token).await.refused(400, "AUT-1005");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refresh_token_that_is_used_at_both_at_once_has_one_successor() {
    let one = Arc::new(Service::start().await);
    let other = Arc::new(replica(&one).await);
    for _ in 0..6 {
        let tokens = one.sign_in("admin", ADMIN_PASSWORD).await;
        let token = tokens["refreshToken"].as_str().unwrap().to_owned();
        let asked: Vec<_> = [&one, &other, &one, &other]
            .into_iter()
            .map(|service| {
                let (service, token) = (Arc::clone(service), token.clone());
                tokio::spawn(async move { service.refresh(&token).await.expect(200) })
            })
            .collect();
        let mut successors = Vec::new();
        for answer in asked {
            let body = answer.await.unwrap();
            successors.push(body["refreshToken"].as_str().unwrap().to_owned());
        }
        successors.dedup();
        assert_eq!(successors.len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_first_starts_at_the_same_time_one_makes_the_first_whatever_their_folders() {
    let shared = tempfile::tempdir().unwrap();
    let config = config(shared.path()).await;
    let Database::Postgres(_) = &config.database else { panic!("{config:?}") };
    let key = "5a".repeat(32);
    let starts: Vec<_> = (0..4)
        .map(|_| {
            let (config, folder) = (config.clone(), tempfile::tempdir().unwrap());
            let file = folder.path().join(identity::MASTER_KEY);
            std::fs::write(&file, &key).unwrap();
            std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600))
                .unwrap();
            tokio::spawn(async move {
                open_with(folder.path(), &Clock::standing_at(NOW), config).await.unwrap().1
            })
        })
        .collect();
    let mut firsts = Vec::new();
    for start in starts {
        firsts.extend(start.await.unwrap());
    }
    let [first] = &firsts[..] else { panic!("{firsts:?}") };
    assert_eq!(password_of(first), ADMIN_PASSWORD);
    // And one with another key, or none, is told so, and changes nothing.
    let folder = tempfile::tempdir().unwrap();
    let told = open_with(folder.path(), &Clock::standing_at(NOW), config).await;
    let told = told.map(drop).unwrap_err().to_string();
    assert!(told.contains("master.key is missing"), "{told}");
    assert!(!folder.path().join(identity::MASTER_KEY).exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_and_comes_back_brings_everything_back_and_nobody_in() {
    let server = Server::start();
    let config = |database: &str| Config { database: on_server(database), ..Config::default() };
    let database = server.database().await;
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let clock = Clock::standing_at(NOW);
    let one = Service::run(folder, clock.clone(), config(&database), catalog()).await;
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let key = identity::MASTER_KEY;
    std::fs::copy(one.folder.path().join(key), folder.path().join(key)).unwrap();
    let other = Service::run(folder, clock, config(&database), catalog()).await;

    let admin = one.admin().await;
    let eve = one.person(&admin, "eve", &["admin-group"]).await;
    let evil = one.sign_in("eve", PASSWORD).await;
    one.delete(&format!("/v1/users/{eve}"), &admin).await.expect(204);
    let (service, stop) = (Arc::new(one), Arc::new(AtomicBool::new(false)));
    let load: Vec<_> = (0..4)
        .map(|n| {
            let (service, stop) = (Arc::clone(&service), Arc::clone(&stop));
            let (admin, evil) = (admin.clone(), evil.clone());
            tokio::spawn(async move {
                let (mut good, mut busy) = (0, 0);
                while !stop.load(Ordering::Acquire) {
                    let status = if n % 2 == 0 {
                        service.get("/v1/users", &admin).await.status.as_u16()
                    } else {
                        let status = service.get("/v1/users", &access(&evil)).await.status;
                        assert_ne!(status, 200, "somebody who was removed got in");
                        let token = evil["refreshToken"].as_str().unwrap();
                        assert_ne!(service.refresh(token).await.status, 200);
                        200
                    };
                    match status {
                        200 => good += 1,
                        503 => busy += 1,
                        other => panic!("{other}"),
                    }
                }
                (good, busy)
            })
        })
        .collect();
    for _ in 0..2 {
        server.kill();
        let down = service.get("/v1/users", &admin).await;
        assert_eq!(down.status, 503, "{down:?}");
        server.start_again();
        let back = async {
            while service.get("/v1/users", &admin).await.status != 200 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), back).await.expect("it never came back");
    }
    stop.store(true, Ordering::Release);
    for load in load {
        let (good, _) = load.await.unwrap();
        assert!(good > 0);
    }
    // What is committed now is heard of by the other one, and what was before has stayed.
    let mallory = service.person(&admin, "mallory", &[]).await;
    service.delete(&format!("/v1/users/{mallory}"), &admin).await.expect(204);
    told(&other, 2).await;
    other.get("/v1/users", &access(&evil)).await.expect(401);
    service.sign_in("admin", ADMIN_PASSWORD).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_who_does_anything_at_either_waits_for_somebody_who_waits_for_them() {
    const ROUNDS: usize = 5;
    let one = Arc::new(Service::start().await);
    let both = [Arc::clone(&one), Arc::new(replica(&one).await)];
    let admin = one.admin().await;
    let mut at_work = Vec::new();
    for (n, service) in both.iter().enumerate() {
        let (at, token) = (Arc::clone(service), admin.clone());
        // Moves the revision.
        at_work.push(tokio::spawn(async move {
            let (role, group) = (format!("role{n}"), format!("group{n}"));
            for _ in 0..ROUNDS {
                let body = json!({"id": role, "product": "demo", "name": "R", "permissions": []});
                at.post("/v1/roles", &token, body).await.expect(201);
                let body = json!({"id": group, "name": group, "roles": [role]});
                at.post("/v1/groups", &token, body).await.expect(201);
                at.delete(&format!("/v1/groups/{group}"), &token).await.expect(204);
                at.delete(&format!("/v1/roles/{role}"), &token).await.expect(204);
            }
        }));
        let (at, token) = (Arc::clone(service), admin.clone());
        // Moves the sequence, and ends sign-ins with it.
        at_work.push(tokio::spawn(async move {
            for round in 0..ROUNDS {
                let name = format!("eve{n}-{round}");
                let id = at.person(&token, &name, &[]).await;
                at.sign_in(&name, PASSWORD).await;
                let path = format!("/v1/users/{id}");
                let into = json!({"groups": ["demo-viewer-group"]});
                at.patch(&path, &token, into).await.expect(200);
                at.delete(&path, &token).await.expect(204);
            }
        }));
        let at = Arc::clone(service);
        // Beside all of them.
        at_work.push(tokio::spawn(async move {
            for _ in 0..ROUNDS {
                let tokens = at.sign_in("admin", ADMIN_PASSWORD).await;
                let token = tokens["refreshToken"].as_str().unwrap();
                let next = at.refresh(token).await.expect(200);
                at.refresh(next["refreshToken"].as_str().unwrap()).await.expect(200);
                at.refresh(token).await.refused(400, "AUT-1005");
            }
        }));
    }
    for work in at_work {
        work.await.unwrap();
    }
    let query = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
    assert_eq!(one.database().await.number(query).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_one_tells_an_application_that_a_sign_in_has_ended() {
    let one = Service::start_with(near()).await;
    let other = replica_with(&one, near()).await;
    let admin = one.admin().await;
    let mut sink = Sink::http("200 OK").await;
    let app = web_named(&one, "Ledger", out(&sink)).await;
    let id = one.person(&admin, "ana", &[]).await;
    for service in [&one, &other] {
        signed_in(service, &app, &Browser::default()).await;
        let path = format!("/v1/users/{id}/sessions");
        service.delete(&path, &admin).await.expect(204);
        next(&mut sink).await;
        // The database is found by the folder of the first.
        all_told(&one).await;
    }
    sink.heard_all();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_one_sends_a_letter_whichever_was_asked_and_the_other_when_that_is_gone() {
    let (one, app, mut sink, admin) = forgotten::start().await;
    let other = replica_with(&one, near()).await;
    one.person(&admin, "ana", &[]).await;
    for service in [&one, &other, &one] {
        let browser = Browser::default();
        let form = forgotten::asking(&browser, service, &app).await;
        page(forgotten::ask(&browser, service, &form, "ana").await, 200);
        assert!(next(&mut sink).await.contains("To: ana@example.com"));
        all_sent(&one).await;
    }
    sink.heard_all();
    // The one that leads stops before it is sent.
    one.person(&admin, "bea", &[]).await;
    sink.is_down(true);
    let browser = Browser::default();
    let form = forgotten::asking(&browser, &one, &app).await;
    page(forgotten::ask(&browser, &one, &form, "bea").await, 200);
    turned_away(&mut sink).await;
    let _folder = one.stop().await;
    sink.is_down(false);
    other.clock.advance(20);
    assert!(next(&mut sink).await.contains("To: bea@example.com"));
    sink.heard_all();
}
