//! Rules that several obey at once: each reads, decides and writes as if it were alone.

use std::{sync::Arc, time::Duration};

use http::Method;
use serde_json::{Value, json};

use super::harness::{ADMIN_PASSWORD, Answer, PASSWORD, Service, access, person};

/// Send all of them at once; the answers, in the order of the requests.
async fn at_once(
    service: &Arc<Service>,
    requests: Vec<(Method, String, String, Value)>,
) -> Vec<Answer> {
    let asked: Vec<_> = requests
        .into_iter()
        .map(|(method, path, token, body)| {
            let service = Arc::clone(service);
            tokio::spawn(async move { service.call(method, &path, &token, body).await })
        })
        .collect();
    let mut answers = Vec::new();
    for answer in asked {
        answers.push(answer.await.unwrap());
    }
    answers
}

fn statuses(answers: &[Answer]) -> Vec<u16> {
    let mut statuses: Vec<u16> = answers.iter().map(|answer| answer.status.as_u16()).collect();
    statuses.sort_unstable();
    statuses
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_things_made_at_once_under_one_name_there_is_one_and_the_others_are_told() {
    let service = Arc::new(Service::start().await);
    let admin = service.admin().await;
    let post = |path: &str, body| (Method::POST, path.to_owned(), admin.clone(), body);
    let named = |n: usize| {
        let mut user = person("ana", &[]);
        user["email"] = format!("ana{n}@example.com").into();
        user
    };
    let reached = |n: usize| {
        let mut user = person(&format!("eve{n}"), &[]);
        user["email"] = "eve@example.com".into();
        user
    };
    let group = |_| json!({"id": "readers", "name": "Readers", "roles": []});
    let role =
        |_| json!({"id": "reader", "product": "demo", "name": "R", "permissions": ["parts:get"]});
    let four = |of: fn(usize) -> Value| (0..4).map(of).collect::<Vec<_>>();
    for (path, bodies, code) in [
        ("/v1/users", four(named), "IDE-9004"),
        ("/v1/users", four(reached), "IDE-9005"),
        ("/v1/groups", four(group), "IDE-9006"),
        ("/v1/roles", four(role), "IDE-9007"),
    ] {
        let calls = bodies.into_iter().map(|body| post(path, body)).collect();
        let answers = at_once(&service, calls).await;
        assert_eq!(statuses(&answers), [201, 409, 409, 409], "{path} {code}");
        for answer in answers.into_iter().filter(|answer| answer.status == 409) {
            answer.refused(409, code);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn administrators_who_turn_on_each_other_at_once_leave_one() {
    let service = Arc::new(Service::start().await);
    let admin = service.admin().await;
    let users = service.get("/v1/users", &admin).await.expect(200);
    let first = users[0]["id"].as_str().unwrap().to_owned();
    for round in 0..4 {
        let name = format!("other{round}");
        let other = service.person(&admin, &name, &["admin-group"]).await;
        let token = access(&service.sign_in(&name, PASSWORD).await);
        let out = json!({"groups": []});
        let turns = vec![
            (Method::PATCH, format!("/v1/users/{first}"), token, out.clone()),
            (Method::PATCH, format!("/v1/users/{other}"), admin.clone(), out.clone()),
        ];
        let answers = at_once(&service, turns).await;
        // Whoever came second had no right left to do it.
        assert_eq!(statuses(&answers), [200, 403]);
        let query = "SELECT COUNT(*) FROM memberships WHERE group_name = 'admin-group'";
        let mut db = service.database().await;
        assert_eq!(db.number(query).await, 1);
        db.run("DELETE FROM memberships WHERE group_name = 'admin-group'").await;
        db.run(&format!(
            "INSERT INTO memberships (org_id, user_id, group_name) \
             VALUES ('lerian', '{first}', 'admin-group')"
        ))
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_in_a_group_and_no_group_holds_a_role_that_was_removed_at_the_same_time() {
    let service = Arc::new(Service::start().await);
    let admin = service.admin().await;
    let ana = service.person(&admin, "ana", &[]).await;
    for _ in 0..6 {
        let role =
            json!({"id": "reader", "product": "demo", "name": "R", "permissions": ["parts:get"]});
        service.post("/v1/roles", &admin, role).await.expect(201);
        let group = json!({"id": "readers", "name": "Readers", "roles": []});
        service.post("/v1/groups", &admin, group).await.expect(201);
        let calls = [
            (Method::PATCH, format!("/v1/users/{ana}"), json!({"groups": ["readers"]})),
            (Method::DELETE, "/v1/groups/readers".to_owned(), Value::Null),
            (Method::PATCH, "/v1/groups/readers".to_owned(), json!({"roles": ["reader"]})),
            (Method::DELETE, "/v1/roles/reader".to_owned(), Value::Null),
        ];
        let calls = calls.map(|(method, path, body)| (method, path, admin.clone(), body)).into();
        for answer in at_once(&service, calls).await {
            assert!(answer.status.as_u16() < 500, "{answer:?}");
        }
        let mut db = service.database().await;
        let dangling = [
            "SELECT COUNT(*) FROM memberships WHERE group_name = 'readers' \
             AND NOT EXISTS (SELECT 1 FROM groups WHERE name = 'readers')",
            "SELECT COUNT(*) FROM group_roles WHERE role_name = 'reader' \
             AND NOT EXISTS (SELECT 1 FROM roles WHERE name = 'reader')",
        ];
        for query in dangling {
            assert_eq!(db.number(query).await, 0, "{query}");
        }
        service.patch(&format!("/v1/users/{ana}"), &admin, json!({"groups": []})).await.expect(200);
        for path in ["/v1/groups/readers", "/v1/roles/reader"] {
            let status = service.delete(path, &admin).await.status.as_u16();
            assert!([204, 404].contains(&status), "{path}: {status}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refresh_token_that_is_used_many_times_at_once_has_one_successor() {
    let service = Arc::new(Service::start().await);
    for _ in 0..4 {
        let tokens = service.sign_in("admin", ADMIN_PASSWORD).await;
        let token = tokens["refreshToken"].as_str().unwrap().to_owned();
        let asked: Vec<_> = (0..8)
            .map(|_| {
                let (service, token) = (Arc::clone(&service), token.clone());
                tokio::spawn(async move { service.refresh(&token).await })
            })
            .collect();
        let mut successors = Vec::new();
        for answer in asked {
            let body = answer.await.unwrap().expect(200);
            successors.push(body["refreshToken"].as_str().unwrap().to_owned());
        }
        successors.dedup();
        assert_eq!(successors.len(), 1);
        let query = "SELECT COUNT(*) FROM refresh_tokens WHERE consumed_at IS NULL";
        assert_eq!(service.database().await.number(query).await, 1);
        // Somebody has used the successor: the first one is stolen now, and everything ends.
        let last = service.refresh(&successors[0]).await.expect(200);
        service.refresh(&token).await.refused(400, "AUT-1005");
        service.refresh(last["refreshToken"].as_str().unwrap()).await.refused(400, "AUT-1005");
        service.get("/v1/userinfo", &access(&last)).await.refused(401, "AUT-0007");
        service.database().await.run("DELETE FROM refresh_tokens").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_out_ends_a_refresh_that_is_going_on() {
    let service = Arc::new(Service::start().await);
    for _ in 0..6 {
        let tokens = service.sign_in("admin", ADMIN_PASSWORD).await;
        let refreshing = {
            let service = Arc::clone(&service);
            let token = tokens["refreshToken"].as_str().unwrap().to_owned();
            tokio::spawn(async move { service.refresh(&token).await })
        };
        let form = [("content-type", "application/x-www-form-urlencoded")];
        let hint = format!("id_token_hint={}", tokens["idToken"].as_str().unwrap());
        service.send(Method::POST, "/v1/logout", &form, hint).await.expect(204);
        let answer = refreshing.await.unwrap();
        if answer.status == 200 {
            let new = answer.json();
            service.get("/v1/userinfo", &access(&new)).await.refused(401, "AUT-0007");
            let token = new["refreshToken"].as_str().unwrap();
            service.refresh(token).await.refused(400, "AUT-1005");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_sign_in_with_the_old_password_outlives_a_reset_at_the_same_time() {
    let service = Arc::new(Service::start().await);
    let admin = service.admin().await;
    let ana = service.person(&admin, "ana", &[]).await;
    let passwords = [PASSWORD, "Another-Horse-2"];
    for round in 0..4 {
        let (old, new) = (passwords[round % 2], passwords[(round + 1) % 2]);
        let signing: Vec<_> = (0..3)
            .map(|_| {
                let service = Arc::clone(&service);
                tokio::spawn(async move {
                    let body = json!({"grantType": "password", "username": "ana", "password": old});
                    service.token(body).await.status
                })
            })
            .collect();
        let path = format!("/v1/users/{ana}/reset-password");
        service.patch(&path, &admin, json!({"newPassword": new})).await.expect(204);
        for status in signing {
            assert!(status.await.unwrap().as_u16() < 500);
        }
        let query =
            format!("SELECT COUNT(*) FROM sessions WHERE user_id = '{ana}' AND ended_at IS NULL");
        assert_eq!(service.database().await.number(&query).await, 0);
    }
}

#[tokio::test]
async fn what_no_database_can_keep_as_text_is_nobodys_name() {
    let service = Service::start().await;
    let body = json!({"grantType": "password", "username": "ana\0", "password": PASSWORD});
    service.token(body).await.refused(401, "AUT-1002");
    let body = json!({"grantType": "password", "username": "a\0@b.co", "password": PASSWORD});
    service.token(body).await.refused(401, "AUT-1002");
    let body = json!({"grantType": "client_credentials", "clientId": "a\0", "clientSecret": "b"});
    assert_eq!(service.token(body).await.status.as_u16(), 401);
    let admin = service.admin().await;
    for path in ["/v1/groups/a%00", "/v1/roles/a%00", "/v1/users/a%00", "/v1/applications/%00"] {
        let answer = tokio::time::timeout(Duration::from_secs(20), service.get(path, &admin));
        assert_eq!(answer.await.unwrap().status.as_u16(), 400, "{path}");
    }
    let mut user = person("ana", &[]);
    user["firstName"] = "a\0".into();
    service.post("/v1/users", &admin, user).await.expect(400);
}
