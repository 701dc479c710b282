//! Long lists, read a page at a time, from the front, from the back and all over the place.

use serde_json::Value;

use super::harness::{Service, person};

/// Every whole list is read anew, and the pages beside it must be its parts.
async fn pages_agree(service: &Service, admin: &str, seed: &mut u64) -> usize {
    let whole = service.get("/v1/users", admin).await.expect(200);
    let whole = whole.as_array().unwrap();
    for turn in 0..24_u64 {
        // Numbers that jump about: the next of a sequence with a long period (Knuth, MMIX).
        *seed =
            seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let limit = [1, 3, 7, 10, 100][usize::try_from(*seed >> 60).unwrap() % 5];
        let last = whole.len().div_ceil(limit) + 1;
        let page = match turn {
            0..6 => usize::try_from(turn).unwrap() + 1,
            6..9 => last.saturating_sub(usize::try_from(turn - 6).unwrap()).max(1),
            _ => usize::try_from((*seed >> 33) % u64::try_from(last).unwrap()).unwrap() + 1,
        };
        let path = format!("/v1/users?page={page}&limit={limit}");
        let part = service.get(&path, admin).await.expect(200);
        let expected: Vec<&Value> = whole.iter().skip((page - 1) * limit).take(limit).collect();
        assert_eq!(
            part["items"].as_array().unwrap().iter().collect::<Vec<_>>(),
            expected,
            "{path}"
        );
        assert_eq!(part["total"], whole.len(), "{path}");
    }
    whole.len()
}

#[tokio::test]
async fn a_page_is_that_part_of_the_whole_list_whoever_comes_or_goes() {
    let service = Service::start().await;
    let admin = service.admin().await;
    let mut seed = 1;
    let people: Vec<String> = (0..150_u64)
        // Several were made in the same second, and some before those who stand there already.
        .map(|n| {
            let id = format!(
                "{:08x}-0000-4000-8000-000000000000",
                n.wrapping_mul(0x9e37_79b9) & 0xffff_ffff
            );
            format!(
                "('{id}', 'lerian', 'p{n}', 'p{n}', 'p{n}@x.org', 'p{n}@x.org', '', '', '', {})",
                n / 4
            )
        })
        .collect();
    let mut db = service.database().await;
    db.run(&format!(
        "INSERT INTO users (id, org_id, username, username_key, email, email_key, first_name, \
         last_name, password_hash, created_at) VALUES {}; \
         INSERT INTO memberships (org_id, user_id, group_name) \
         SELECT org_id, id, 'demo-viewer-group' FROM users \
         WHERE username LIKE 'p%7'",
        people.join(", ")
    ))
    .await;
    let before = pages_agree(&service, &admin, &mut seed).await;
    assert_eq!(before, 151);
    // Somebody comes to the end, somebody goes from the middle, and more go at once.
    service.post("/v1/users", &admin, person("zoe", &["demo-viewer-group"])).await.expect(201);
    assert_eq!(pages_agree(&service, &admin, &mut seed).await, before + 1);
    let middle = service.get("/v1/users?page=140&limit=1", &admin).await.expect(200);
    let path = format!("/v1/users/{}", middle["items"][0]["id"].as_str().unwrap());
    service.delete(&path, &admin).await.expect(204);
    assert_eq!(pages_agree(&service, &admin, &mut seed).await, before);
    db.run("DELETE FROM users WHERE created_at < 20").await;
    assert_eq!(pages_agree(&service, &admin, &mut seed).await, before - 80);
}
