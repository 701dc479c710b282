//! Row-level security: the wall behind the one in the code.

use serde_json::json;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use super::{
    harness::{Service, address},
    tenants::part,
};

/// Tables with rows of tenants.
const TENANTS: &[&str] = &[
    "organizations",
    "users",
    "user_counts",
    "memberships",
    "roles",
    "groups",
    "group_roles",
    "applications",
    "sessions",
    "refresh_tokens",
    "browsers",
    "codes",
    "credentials",
    "assertions",
    "application_roles",
    "application_permissions",
    "declarations",
    "declared_grants",
    "audit",
    "audit_heads",
    "audit_failures",
    "factors",
    "recovery_codes",
    "enrolments",
    "challenges",
    "devices",
    "factor_limits",
    "providers",
    "application_providers",
    "familiar_networks",
    "password_links",
    "passkeys",
    "spent_challenges",
    "guests",
    "owned",
    "guest_groups",
    "user_uses",
    "reviews",
    "review_items",
    "application_uses",
    "logouts",
    "letters",
    "identity_providers",
    "external_identities",
    "external_sign_ins",
];

/// How many rows of a table a transaction sees that has named `org`, or nothing.
async fn seen(conn: &mut PgConnection, table: &str, org: Option<&str>) -> i64 {
    let mut tx = conn.begin().await.unwrap();
    if let Some(org) = org {
        let name = sqlx::query("SELECT set_config('postern.org', $1, true)").bind(org);
        name.execute(&mut *tx).await.unwrap();
    }
    let count = AssertSqlSafe(format!("SELECT COUNT(*) FROM {table}"));
    sqlx::query_scalar(count).fetch_one(&mut *tx).await.unwrap()
}

/// A service with two organizations in it, each with rows in every table; and a connection as the
/// user that the service signs in as.
async fn two_tenants() -> (Service, PgConnection) {
    let service = Service::start().await;
    let admin = service.admin().await;
    let eve = service.person(&admin, "eve", &["admin-group"]).await;
    let body = json!({"name": "demo", "description": "of acme"});
    let app = service.post("/v1/applications", &admin, body).await.expect(201);
    part(&service, &eve, app["id"].as_str().unwrap()).await;
    let mut db = service.database().await;
    for (org, user, app) in [("lerian", "admin", "app-lerian"), ("acme", "eve", "demo")] {
        db.run(&format!(
            "INSERT INTO roles (org_id, name, name_key, product, title, permissions, created_at) VALUES ('{org}', 'r', 'r', 'demo', '', '[]', 0); \
             INSERT INTO groups (org_id, name, name_key, title, created_at) VALUES ('{org}', 'g', 'g', '', 0); \
             INSERT INTO group_roles VALUES ('{org}', 'g', 'r'); \
             INSERT INTO sessions SELECT 's-{org}', '{org}', u.id, a.id, 0, 9000000000, NULL \
             FROM users u, applications a WHERE u.username = '{user}' AND a.name = '{app}'; \
             INSERT INTO refresh_tokens VALUES \
             ('t-{org}', '{org}', 's-{org}', '{org}'::bytea, 0, 9000000000, NULL, NULL); \
             INSERT INTO browsers SELECT 'b-{org}', '{org}', id, '{org}'::bytea, 0, 9000000000 \
             FROM users WHERE username = '{user}'; \
             INSERT INTO familiar_networks SELECT 'n-{org}'::bytea, '{org}', id, 0, 9000000000 \
             FROM users WHERE username = '{user}'; \
             INSERT INTO guests VALUES ('{org}', 'sso:1', '', 0, 0); \
             INSERT INTO reviews VALUES ('r-{org}', '{org}', '{{}}', 0, NULL); \
             INSERT INTO review_items VALUES ('{org}', 'r-{org}', 1, '{{}}', NULL, NULL); \
             INSERT INTO user_uses SELECT '{org}', id, 'demo', 'things:get', 0 \
             FROM users WHERE username = '{user}'; \
             INSERT INTO application_uses SELECT '{org}', id, 'demo', 'things:get', 0 \
             FROM applications WHERE name = '{app}'; \
             INSERT INTO owned VALUES ('{org}', 'group', 'g', ''); \
             INSERT INTO identity_providers VALUES ('{org}', 'i-{org}', '', '', '', NULL, '{{}}', 1, 0); \
             INSERT INTO external_identities SELECT '{org}', 'i-{org}', 's', id, 0 \
             FROM users WHERE username = '{user}'; \
             INSERT INTO external_sign_ins VALUES \
             ('{org}'::bytea, '{org}', 'i-{org}', '{org}'::bytea, '', 9000000000); \
             INSERT INTO letters SELECT 'l-{org}', '{org}', id, ''::bytea, 0, 9000000000, 9000000000 \
             FROM applications WHERE org_id = '{org}' AND name = '{app}'; \
             INSERT INTO logouts SELECT 'o-{org}', '{org}', id, 'u', 0, 0, 9000000000 \
             FROM applications WHERE org_id = '{org}' AND name = '{app}'; \
             INSERT INTO guest_groups VALUES ('{org}', 'sso:1', 'g'); \
             INSERT INTO codes SELECT '{org}'::bytea, '{org}', a.id, u.id, 'b-{org}', '', '', NULL, \
             '', '', 0, 9000000000, 9000000000 \
             FROM users u, applications a WHERE u.username = '{user}' AND a.name = '{app}'; \
             INSERT INTO assertions SELECT '{org}'::bytea, '{org}', id, 9000000000 \
             FROM applications WHERE name = '{app}'; \
             INSERT INTO application_roles SELECT '{org}', id, 'r', 1 \
             FROM applications WHERE name = '{app}'; \
             INSERT INTO declarations VALUES ('{org}', 's', 1, '', '', '[]', 'a', 0); \
             INSERT INTO declared_grants VALUES ('{org}', 'g', 'r'); \
             INSERT INTO application_permissions SELECT '{org}', id, 'demo', 'things:get' \
             FROM applications WHERE name = '{app}'; \
             INSERT INTO audit SELECT '{org}', 1000, 0, 'e', 'user', 'u', '', '', NULL, NULL, NULL, \
             NULL, NULL, 1, '{org}'::bytea; \
             INSERT INTO audit_failures VALUES ('{org}', 'e', '', 0, 1); \
             INSERT INTO audit_heads VALUES ('{org}', 0, '', 0, '', '') ON CONFLICT DO NOTHING; \
             INSERT INTO factors SELECT '{org}', id, 'app', '', 0, 1, 0 \
             FROM users WHERE username = '{user}'; \
             INSERT INTO recovery_codes SELECT org_id, user_id, '' FROM factors WHERE org_id = '{org}'; \
             INSERT INTO enrolments SELECT 'e-{org}', org_id, user_id, 'app', '', '', NULL, 0, 0, 0, \
             9000000000 FROM factors WHERE org_id = '{org}'; \
             INSERT INTO challenges SELECT 'c-{org}', '{org}', u.id, a.id, 'sign-in', '{org}'::bytea, 0, \
             NULL, NULL, 0, 0, 0, 9000000000 \
             FROM users u, applications a WHERE u.username = '{user}' AND a.name = '{app}'; \
             INSERT INTO passkeys SELECT '{org}', 'k', id, '{org}'::bytea, '', '', 0, 0, NULL \
             FROM users WHERE username = '{user}'; \
             INSERT INTO spent_challenges VALUES ('{org}'::bytea, '{org}', 9000000000); \
             INSERT INTO password_links SELECT '{org}'::bytea, '{org}', u.id, a.id, 9000000000 \
             FROM users u, applications a WHERE u.username = '{user}' AND a.name = '{app}'; \
             INSERT INTO devices SELECT 'd-{org}', org_id, user_id, '{org}'::bytea, 0, 9000000000 \
             FROM factors WHERE org_id = '{org}'; \
             INSERT INTO factor_limits SELECT org_id, user_id, 'tries', 0, 0 \
             FROM factors WHERE org_id = '{org}'; \
             INSERT INTO providers VALUES \
             ('p-{org}', '{org}', '', 'Email', 'SMTP', '{{}}', NULL, 0); \
             INSERT INTO application_providers SELECT '{org}', id, 'p-{org}', '{{}}', 1, 0 \
             FROM applications WHERE org_id = '{org}' AND name = '{app}'"
        ))
        .await;
    }
    let address = address(service.folder.path()).await;
    let conn = PgConnection::connect(&address).await.unwrap();
    (service, conn)
}

#[tokio::test]
async fn a_query_sees_the_rows_of_the_organization_it_has_named_and_no_others() {
    let (_service, mut conn) = two_tenants().await;
    for table in TENANTS {
        let all = seen(&mut conn, table, Some("*")).await;
        let parts = [
            seen(&mut conn, table, Some("lerian")).await,
            seen(&mut conn, table, Some("acme")).await,
        ];
        assert!(parts.iter().all(|part| *part > 0), "{table}: {parts:?}");
        assert_eq!(parts.iter().sum::<i64>(), all, "{table}");
        for nobody in [None, Some(""), Some("nobody"), Some("%"), Some("lerian,acme")] {
            assert_eq!(seen(&mut conn, table, nobody).await, 0, "{table} {nobody:?}");
        }
    }
}

#[tokio::test]
async fn nothing_is_written_into_another_organization() {
    let (_service, mut conn) = two_tenants().await;
    let change = "UPDATE users SET first_name = 'X' WHERE org_id = 'acme'";
    let remove = "DELETE FROM sessions WHERE org_id = 'acme'";
    let give = "UPDATE groups SET org_id = 'acme', name = 'h', name_key = 'h' WHERE name = 'g'";
    let make = "INSERT INTO memberships SELECT 'acme', 'x', 'admin-group'";
    for named in [Some("lerian"), None] {
        for statement in [change, remove, give, make] {
            let mut tx = conn.begin().await.unwrap();
            if let Some(org) = named {
                let name = sqlx::query("SELECT set_config('postern.org', $1, true)").bind(org);
                name.execute(&mut *tx).await.unwrap();
            }
            match tx.execute(statement).await {
                Ok(done) => assert_eq!(done.rows_affected(), 0, "{statement}"),
                Err(error) => {
                    let told = error.to_string();
                    assert!(told.contains("row-level security"), "{statement}: {told}");
                }
            }
        }
    }
}

#[tokio::test]
async fn every_table_with_an_organization_has_its_wall() {
    let (_service, mut conn) = two_tenants().await;
    let with_org: Vec<String> = sqlx::query_scalar(
        "SELECT table_name::text FROM information_schema.columns \
         WHERE table_schema = 'public' AND column_name = 'org_id'",
    )
    .fetch_all(&mut conn)
    .await
    .unwrap();
    let walled: Vec<String> = sqlx::query_scalar(
        "SELECT relname::text FROM pg_class WHERE relrowsecurity AND relforcerowsecurity",
    )
    .fetch_all(&mut conn)
    .await
    .unwrap();
    assert!(with_org.len() == TENANTS.len() - 1, "{with_org:?}");
    for table in with_org.iter().map(String::as_str).chain(["organizations"]) {
        assert!(walled.iter().any(|walled| walled == table), "{table}");
        assert!(TENANTS.contains(&table), "{table}");
    }
    // And the service's own user is one that they bind.
    let unbound: bool = sqlx::query_scalar(
        "SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user",
    )
    .fetch_one(&mut conn)
    .await
    .unwrap();
    assert!(!unbound);
}
