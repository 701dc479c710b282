//! Walks over the API's description, so that no route escapes them: who is turned away, that one
//! organization is nothing to another, and that what is described is what is taken.
//!
//! A route that a walk does not know how to call stops it; the tables below are where to say how.

use std::collections::{BTreeMap, BTreeSet};

use http::Method;
use serde_json::{Map, Value, json};

use super::{
    ON_POSTGRES,
    described::{DOCUMENT, resolved},
    harness::{Answer, Beside, PASSWORD, Service, access},
    issuer::{Issuer, open},
    tenants::stranger,
};

/// Operations that ask nobody for a name: what they give is for everybody, or they ask in their body.
const OPEN: &[&str] = &[
    "get /.well-known/jwks",
    "get /.well-known/jwks.json",
    "get /.well-known/oauth-authorization-server",
    "get /.well-known/openid-configuration",
    "get /docs",
    "get /health",
    "get /internal/idp-jwks-cache",
    "get /internal/v1/feed-key",
    "get /oauth2/authorize",
    "get /oauth2/forgotten-password",
    "get /oauth2/identities",
    "get /oauth2/logout",
    "get /oauth2/new-password",
    "get /oauth2/passkeys",
    "get /oauth2/sign-in/{provider}",
    "get /oauth2/sign-in/{provider}/callback",
    "get /openapi.json",
    "get /readyz",
    "get /version",
    "post /oauth2/authorize",
    "post /oauth2/forgotten-password",
    "post /oauth2/identities",
    "post /oauth2/introspect",
    "post /oauth2/logout",
    "post /oauth2/new-password",
    "post /oauth2/passkey",
    "post /oauth2/passkeys",
    "post /oauth2/revoke",
    "post /oauth2/second-factor",
    "post /oauth2/set-up",
    "post /oauth2/sign-in",
    "post /oauth2/token",
    "post /v1/login/mfa/challenge",
    "post /v1/login/mfa/verify",
    "post /v1/login/oauth/access_token",
    "post /v1/login/oauth/refresh_token",
    "post /v1/logout",
];
/// Permissions that everybody has.
const EVERYBODYS: &[&str] = &["update-password:patch"];
/// Operations for whoever is signed in.
const SIGNED_IN: &[&str] = &[
    "get /oauth2/userinfo",
    "get /v1/assigned-reviews",
    "get /v1/permissions",
    "get /v1/permissions/",
    "get /v1/sessions",
    "delete /v1/sessions",
    "get /v1/userinfo",
    "post /oauth2/userinfo",
];
/// Operations for the application alone that bears a service's name, whoever else asks.
const SERVICES: &[&str] = &["put /v1/declarations/{service}"];
/// Operations that make what is not there yet: of another organization's name, one of the caller's own.
const MAKES: &[&str] = &["put /v1/guests/{id}"];
/// Members of bodies that name nothing which belongs to an organization.
const PLAIN: &[&str] = &[
    "accessTokenSecs",
    "alertType",
    "appId",
    "audiences",
    "backchannelLogoutSessionRequired",
    "backchannelLogoutUri",
    "blocked",
    "canSignIn",
    "canSignUp",
    "canUnlink",
    "category",
    "claims",
    "clientId",
    "clientId2",
    "clientSecret",
    "clientSecret2",
    "composition",
    "content",
    "createUsers",
    "description",
    "disableSsl",
    "disabled",
    "domain",
    "dueAt",
    "email",
    "enabled",
    "endpoint",
    "expiresInSecs",
    "firstName",
    "grantTypes",
    "headers",
    "host",
    "id",
    "intranetEndpoint",
    "issuer",
    "jwk",
    "lastName",
    "method",
    "mfaAcr",
    "minLength",
    "name",
    "newPassword",
    "oldPassword",
    "overlapSecs",
    "password",
    "permissions",
    "port",
    "postLogoutRedirectUris",
    "product",
    "prompted",
    "public",
    "receiver",
    "recovery",
    "redirectUris",
    "refreshTokenSecs",
    "regionId",
    "required",
    "rule",
    "scopes",
    "signName",
    "signingAlgorithm",
    "strength",
    "subType",
    "subject",
    "templateCode",
    "title",
    "trustEmail",
    "trustMfa",
    "type",
    "undecided",
    "username",
];

/// Stands in everything that the one organization has and the other must not learn of.
pub const CANARY: &str = "zzcanary";

/// One operation of the description.
struct Operation {
    method: Method,
    path: &'static str,
    told: &'static Value,
}

impl Operation {
    fn all() -> Vec<Self> {
        let paths = DOCUMENT["paths"].as_object().unwrap().iter();
        let each = paths.flat_map(|(path, item)| {
            item.as_object().unwrap().iter().map(move |(method, told)| {
                let method = method.to_uppercase().parse().unwrap();
                Self { method, path, told }
            })
        });
        let all: Vec<_> = each.collect();
        assert!(all.len() > 20, "the description is empty");
        all
    }

    fn name(&self) -> String {
        format!("{} {}", self.method.as_str().to_lowercase(), self.path)
    }

    fn takes(&self, scheme: &str) -> bool {
        let all = self.told["security"].as_array().unwrap();
        all.iter().any(|requirement| requirement.get(scheme).is_some())
    }

    fn permission(&self) -> Option<&'static str> {
        self.told["x-postern-permission"].as_str()
    }

    /// Whether it is about the caller alone, so that no permission is asked for.
    fn is_own(&self) -> bool {
        self.path.starts_with("/v1/users/{id}/") && self.permission().is_none()
    }

    /// The schema of its JSON body.
    fn body(&self) -> Option<&'static Map<String, Value>> {
        let schema = self.told["requestBody"].pointer("/content/application~1json/schema")?;
        resolved(schema).as_object()
    }

    /// A body as the description has it.
    fn good_body(&self) -> Value {
        let Some(schema) = self.body() else { return Value::Null };
        let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
            return json!({});
        };
        let needed = schema.get("required").and_then(Value::as_array).into_iter().flatten();
        let each = needed.map(|name| {
            let name = name.as_str().unwrap();
            (name.to_owned(), good(name, resolved(&properties[name])))
        });
        let mut body: Map<String, Value> = each.collect();
        if body.is_empty() {
            // Something has to change.
            let (name, property) = properties.iter().next().unwrap();
            body.insert(name.clone(), good(name, resolved(property)));
        }
        body.into()
    }

    /// The members of its body, those of members and all.
    fn members(&self) -> Vec<(Vec<&'static str>, &'static Value)> {
        let mut members = Vec::new();
        let mut left: Vec<_> = self.body().map(|schema| (Vec::new(), schema)).into_iter().collect();
        while let Some((above, schema)) = left.pop() {
            for (name, property) in schema.get("properties").and_then(Value::as_object).unwrap() {
                let name = [above.clone(), vec![name.as_str()]].concat();
                let property = resolved(property);
                match property.as_object() {
                    Some(inner) if inner.contains_key("properties") => left.push((name, inner)),
                    _ => members.push((name, property)),
                }
            }
        }
        members
    }

    async fn call(&self, service: &Service, path: &str, token: &str, body: &Value) -> Answer {
        service.call(self.method.clone(), path, token, body.clone()).await
    }
}

fn good(name: &str, schema: &Value) -> Value {
    if let Some(example) = schema.get("example") {
        return example.clone();
    }
    if name.to_lowercase().contains("password") {
        return PASSWORD.into();
    }
    let kind = match &schema["type"] {
        Value::Array(kinds) => kinds.iter().find(|kind| *kind != "null").unwrap(),
        kind => kind,
    };
    match kind.as_str() {
        Some("string") => "x".into(),
        Some("boolean") => true.into(),
        Some("integer" | "number") => schema["minimum"].as_u64().unwrap_or(1).into(),
        Some("array") => json!([]),
        Some("object") => json!({}),
        _ => panic!("no good value of `{name}`: give its schema an `example`"),
    }
}

/// A path with a name in it that nothing has.
fn unknown(template: &str) -> String {
    let name = match template {
        guests if guests.starts_with("/v1/guests/") => "sso:nobody",
        _ => "0191e1a0-0000-7000-8000-000000000000",
    };
    let mut path = template.replace("{id}", name).replace("{service}", "nothing");
    path = path.replace("{item}", "1");
    for place in ["{credential}", "{sid}", "{providerId}", "{passkey}", "{provider}"] {
        path = path.replace(place, name);
    }
    assert!(!path.contains('{'), "{template}: tell `unknown` of walks.rs what else it takes");
    path
}

/// Everything that an organization has in the database.
pub async fn state(db: &mut Beside, org: &str) -> String {
    let tables = if ON_POSTGRES {
        "SELECT string_agg(table_name::text, ' ' ORDER BY table_name) FROM information_schema.columns \
         WHERE table_schema = 'public' AND column_name = 'org_id'"
    } else {
        "SELECT group_concat(m.name, ' ') FROM sqlite_master m JOIN pragma_table_info(m.name) c \
         WHERE m.type = 'table' AND c.name = 'org_id'"
    };
    let tables = db.text(tables).await;
    assert!(tables.contains("users") && tables.contains("applications"), "{tables}");
    let mut all = String::new();
    for table in tables.split(' ') {
        let row = if ON_POSTGRES {
            "t::text".to_owned()
        } else {
            let columns = format!(
                "SELECT group_concat('quote(\"' || name || '\")', ' || '','' || ') \
                 FROM pragma_table_info('{table}')"
            );
            db.text(&columns).await
        };
        let sum = if ON_POSTGRES { "string_agg" } else { "group_concat" };
        let rows = format!(
            "SELECT coalesce({sum}(row, ';'), '') FROM (SELECT {row} AS row FROM {table} t \
             WHERE org_id = '{org}' ORDER BY 1) AS rows"
        );
        all.extend([table, ": ", &*db.text(&rows).await, "\n"]);
    }
    all
}

/// Two organizations: `lerian`, whose things all bear the canary, and `acme`, whose administrator
/// attacks.
pub struct Two {
    pub service: Service,
    pub admin: String,
    pub attacker: String,
    /// Names of the things of `lerian`, by the word before them in a path and by members of bodies.
    theirs: BTreeMap<&'static str, String>,
    pub db: Beside,
}

impl Two {
    pub async fn start() -> Self {
        let service = open().await;
        let admin = service.admin().await;
        let (_, attacker) = stranger(&service, &admin).await;

        let user = service.person(&admin, &format!("{CANARY}-ana"), &[]).await;
        let body = json!({"name": "demo", "description": CANARY});
        let app = service.post("/v1/applications", &admin, body).await.expect(201);
        let [role, group] = ["role", "group"].map(|kind| format!("{CANARY}-{kind}"));
        let body =
            json!({"id": role, "product": "demo", "name": CANARY, "permissions": ["parts:get"]});
        service.post("/v1/roles", &admin, body).await.expect(201);
        let body = json!({"id": group, "name": CANARY, "roles": [role]});
        service.post("/v1/groups", &admin, body).await.expect(201);
        let guest = format!("sso:{CANARY}");
        let body = json!({"title": CANARY, "groups": [group]});
        let path = format!("/v1/guests/{guest}");
        service.call(Method::PUT, &path, &admin, body).await.expect(201);
        let of_app = format!("/v1/applications/{}", app["id"].as_str().unwrap());
        let body = json!({"name": CANARY});
        let credential = service.post(&format!("{of_app}/credentials"), &admin, body).await;
        let credential = credential.expect(201);
        let body = json!({
            "category": "Email", "type": "SMTP", "name": CANARY, "host": CANARY,
        });
        let provider = service.post("/v1/providers", &admin, body).await.expect(201);
        let provider = provider["id"].as_str().unwrap().to_owned();
        let body = json!({"providerId": provider, "rule": CANARY});
        service.post(&format!("{of_app}/providers"), &admin, body).await.expect(201);
        let body = json!({"name": CANARY, "reviewers": [user], "groups": [group]});
        service
            .patch(&format!("/v1/users/{user}"), &admin, json!({"groups": [group]}))
            .await
            .is(200);
        let review = service.post("/v1/reviews", &admin, body).await.expect(201);
        let review = review["id"].as_str().unwrap().to_owned();
        let issuer = Issuer::start().await;
        let through = issuer.provide(&service, &admin, json!({"name": CANARY})).await;
        let path = format!("/v1/users/{user}/identities/{through}");
        service.call(Method::PUT, &path, &admin, json!({"subject": CANARY})).await.expect(201);
        service.sign_in(&format!("{CANARY}-ana"), PASSWORD).await;
        let sessions = service.get(&format!("/v1/users/{user}/sessions"), &admin).await.expect(200);
        let theirs = BTreeMap::from([
            ("reviewers", user.clone()),
            ("reviewerGroups", group.clone()),
            ("reviews", review.clone()),
            ("assigned-reviews", review),
            ("items", "1".to_owned()),
            ("users", user),
            ("applications", app["id"].as_str().unwrap().to_owned()),
            ("newUserGroups", group.clone()),
            ("groupMap", group.clone()),
            ("groups", group),
            ("roles", role),
            ("guests", guest),
            ("identity-providers", through.clone()),
            ("identities", through.clone()),
            ("sign-in", through),
            ("credentials", credential["id"].as_str().unwrap().to_owned()),
            ("sessions", sessions[0]["id"].as_str().unwrap().to_owned()),
            ("providers", provider.clone()),
            ("providerId", provider),
            ("declarations", "demo".to_owned()),
            // Only oneself may look for one.
            ("passkeys", uuid::Uuid::new_v4().to_string()),
        ]);
        let db = service.database().await;
        Self { service, admin, attacker, theirs, db }
    }

    /// A path of an operation with the names of `lerian` in it.
    fn path(&self, template: &str) -> String {
        let mut before = "";
        let parts = template.split('/').map(|part| {
            let name = if part.starts_with('{') {
                self.theirs.get(before).unwrap_or_else(|| {
                    panic!("{template}: make a thing of `{before}` in Two::start of walks.rs")
                })
            } else {
                part
            };
            before = part;
            name
        });
        parts.collect::<Vec<_>>().join("/")
    }

    /// Check that the attacker learned nothing from an answer, and that nothing of `lerian` is another.
    async fn unharmed(&mut self, what: &str, answer: &Answer, before: &str) {
        let told = format!("{:?}{}", answer.headers, String::from_utf8_lossy(&answer.bytes));
        // What is made under the same name has it.
        let told =
            if answer.status == 201 { told.replace(&self.theirs["guests"], "") } else { told };
        assert!(!told.contains(CANARY), "{what} tells of another organization: {told}");
        assert_eq!(
            state(&mut self.db, "lerian").await,
            before,
            "{what} changes another organization"
        );
    }
}

#[tokio::test]
async fn every_path_turns_away_the_nameless_and_the_unentitled() {
    let service = Service::start().await;
    let admin = service.admin().await;
    service.person(&admin, "nobody", &[]).await;
    let nobody = access(&service.sign_in("nobody", PASSWORD).await);
    let mut db = service.database().await;
    let before = state(&mut db, "lerian").await;
    let mut open = BTreeSet::new();
    for one in Operation::all() {
        let name = one.name();
        if !one.takes("bearer") {
            open.insert(name);
            continue;
        }
        let path = unknown(one.path);
        let json = ("content-type", "application/json");
        let shape = if one.path.starts_with("/oauth2/") { "error" } else { "code" };
        for headers in [vec![json], vec![json, ("authorization", "Bearer nothing")]] {
            let answer = service.send(one.method.clone(), &path, &headers, "{}").await;
            assert!(answer.headers.contains_key("www-authenticate"), "{name}");
            assert!(answer.expect(401)[shape].is_string(), "{name}");
        }
        let permission = one.permission().unwrap_or_default();
        if !EVERYBODYS.contains(&permission) && !SIGNED_IN.contains(&&*name) {
            // Where a permission is needed, nobody without it learns what a body should hold.
            let body = one.permission().map_or_else(|| one.good_body(), |_| json!({}));
            let answer = one.call(&service, &path, &nobody, &body).await;
            if one.is_own() {
                answer.refused(400, "IDE-0013");
                continue;
            }
            assert!(matches!(answer.status.as_u16(), 403 | 404), "{name}: {answer:?}");
            assert!(answer.json()[shape].is_string(), "{name}");
        }
    }
    let known: BTreeSet<_> = OPEN.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(open, known, "whatever asks for no name stands in OPEN of walks.rs");
    assert_eq!(state(&mut db, "lerian").await, before);
}

#[tokio::test]
async fn t_another_organizations_name_in_a_path_is_not_found_and_changes_nothing() {
    let mut two = Two::start().await;
    let before = state(&mut two.db, "lerian").await;
    let mut walked = 0;
    for one in Operation::all().iter().filter(|one| one.path.contains('{')) {
        let (name, path) = (one.name(), two.path(one.path));
        let answer = one.call(&two.service, &path, &two.attacker, &one.good_body()).await;
        // What only oneself may do is refused before anything is looked for.
        let everybodys = one.permission().is_some_and(|held| EVERYBODYS.contains(&held));
        let own = one.is_own() || everybodys;
        let status = answer.status.as_u16();
        let fine = match status {
            404 => true,
            // What asks for no name looks for nothing without a request.
            400 => !one.takes("bearer") || own && answer.json()["code"] == "IDE-0013",
            201 => MAKES.contains(&&*name),
            403 => SERVICES.contains(&&*name),
            _ => false,
        };
        assert!(fine, "{name}: {answer:?}");
        two.unharmed(&name, &answer, &before).await;
        walked += 1;
    }
    assert!(walked > 10, "{walked}");
}

#[tokio::test]
async fn t_another_organizations_name_in_a_body_is_not_found_and_changes_nothing() {
    let mut two = Two::start().await;
    // Things of the attacker's own, to be changed.
    let theirs = std::mem::take(&mut two.theirs);
    let role = json!({"id": "own", "product": "demo", "name": "R", "permissions": ["parts:get"]});
    two.service.post("/v1/roles", &two.attacker, role).await.expect(201);
    let group = json!({"id": "own", "name": "G", "roles": []});
    two.service.post("/v1/groups", &two.attacker, group).await.expect(201);
    let settings = json!({"password": {"minLength": 12}});
    two.service.patch("/v1/settings", &two.attacker, settings).await.expect(200);
    let user = two.service.person(&two.attacker, "own", &[]).await;
    let apps = two.service.get("/v1/applications", &two.attacker).await.expect(200);
    let issuer = Issuer::start().await;
    let through = issuer.provide(&two.service, &two.attacker, json!({})).await;
    two.theirs = BTreeMap::from([
        ("users", user),
        ("applications", apps[0]["id"].as_str().unwrap().to_owned()),
        ("groups", "own".to_owned()),
        ("roles", "own".to_owned()),
        ("guests", "sso:own".to_owned()),
        ("identity-providers", through),
    ]);
    let before = state(&mut two.db, "lerian").await;
    let mut walked = 0;
    for one in Operation::all().iter().filter(|one| one.permission().is_some()) {
        for (member, property) in one.members() {
            let last = *member.last().unwrap();
            if PLAIN.contains(&last) {
                continue;
            }
            let name = format!("{} with `{}`", one.name(), member.join("."));
            let foreign = theirs.get(last).unwrap_or_else(|| {
                panic!("{name}: say in walks.rs whose it is: in Two::start, or in PLAIN")
            });
            let mut body = one.good_body();
            let place = member.iter().fold(&mut body, |at, name| &mut at[*name]);
            *place = match good(last, property) {
                Value::Array(_) => json!([foreign]),
                Value::Object(_) => json!({"x": foreign}),
                _ => json!(foreign),
            };
            let answer = one.call(&two.service, &two.path(one.path), &two.attacker, &body).await;
            assert_eq!(answer.status, 404, "{name}: {answer:?}");
            two.unharmed(&name, &answer, &before).await;
            walked += 1;
        }
    }
    assert!(walked > 3, "{walked}");
}

#[tokio::test]
async fn t_no_query_header_or_cookie_chooses_another_organization() {
    let mut two = Two::start().await;
    let before = state(&mut two.db, "lerian").await;
    let authorization = format!("Bearer {}", two.attacker);
    let names =
        ["organization", "org", "orgId", "org_id", "owner", "tenant", "tenantId", "x-tenant-id"];
    let query: Vec<_> = names.iter().map(|name| format!("{name}=lerian")).collect();
    let (query, cookie) = (query.join("&"), query.join("; "));
    let mut headers = vec![("authorization", authorization.as_str()), ("cookie", &cookie)];
    headers.extend(names.map(|name| (name, "lerian")));
    headers.extend([("x-organization", "lerian"), ("md-tenant-id", "lerian"), ("host", "lerian")]);
    let mut walked = 0;
    for one in Operation::all() {
        if one.method == Method::DELETE {
            continue;
        }
        let listed = one.method == Method::GET && one.permission().is_some();
        if !listed && !SIGNED_IN.contains(&&*one.name()) || one.path.contains('{') {
            continue;
        }
        let plain = one.call(&two.service, one.path, &two.attacker, &Value::Null).await;
        let path = format!("{}?{query}", one.path);
        let answer = two.service.send(one.method.clone(), &path, &headers, "").await;
        two.unharmed(&one.name(), &answer, &before).await;
        // One that refuses what it does not know is as good.
        if answer.status != 400 {
            assert_eq!(answer.expect(200), plain.expect(200), "{}", one.name());
        }
        walked += 1;
    }
    assert!(walked > 5, "{walked}");
    // And there is something to see, for whom it belongs to.
    let seen = two.service.get("/v1/users", &two.admin).await;
    assert!(String::from_utf8_lossy(&seen.bytes).contains(CANARY));
}

#[tokio::test]
async fn what_a_body_may_have_is_what_is_described() {
    let service = Service::start().await;
    let admin = service.admin().await;
    for one in Operation::all().iter().filter(|one| one.permission().is_some()) {
        let Some(schema) = one.body() else { continue };
        let path = unknown(one.path);
        let name = one.name();
        let fields = |answer: Value| -> BTreeSet<String> {
            answer["fields"]
                .as_object()
                .into_iter()
                .flatten()
                .map(|(name, _)| name.clone())
                .collect()
        };
        let needed: BTreeSet<String> = schema
            .get("required")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .map(|name| name.as_str().unwrap().to_owned())
            .collect();
        if !needed.is_empty() {
            let answer = one.call(&service, &path, &admin, &json!({})).await;
            assert_eq!(fields(answer.refused(400, "IDE-0001")), needed, "{name}");
        }
        let all: BTreeSet<String> =
            schema["properties"].as_object().unwrap().keys().cloned().collect();
        // No member is what this is.
        let wrong = |name: &String| {
            let kind = &resolved(&schema["properties"][name])["type"];
            let kinds = kind.as_array().map_or(std::slice::from_ref(kind), Vec::as_slice);
            if kinds.iter().any(|kind| kind == "object") { json!([0]) } else { json!({"x": [0]}) }
        };
        let wrong: Map<String, Value> =
            all.iter().map(|name| (name.clone(), wrong(name))).collect();
        let answer = one.call(&service, &path, &admin, &wrong.into()).await;
        assert_eq!(fields(answer.refused(400, "IDE-0002")), all, "{name}");
        assert_eq!(
            schema["additionalProperties"], false,
            "{name}: `deny_unknown_fields` is missing"
        );
        let answer = one.call(&service, &path, &admin, &json!({"isAdmin": true})).await;
        assert_eq!(
            fields(answer.refused(400, "IDE-0004")),
            ["isAdmin".to_owned()].into(),
            "{name}"
        );
    }
}

#[tokio::test]
async fn every_path_names_its_methods_and_answers_head() {
    let service = Service::start().await;
    let admin = service.admin().await;
    let mut paths: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for one in Operation::all() {
        let methods = paths.entry(one.path).or_default();
        methods.insert(one.method.to_string());
        if one.method == Method::GET {
            methods.insert("HEAD".to_owned());
        }
    }
    for (path, methods) in paths {
        let path = unknown(path);
        let allowed = |answer: &Answer| -> BTreeSet<String> {
            let allow = answer.headers["allow"].to_str().unwrap();
            allow.split(',').map(|method| method.trim().to_owned()).collect()
        };
        let told = service.send(Method::OPTIONS, &path, &[], "").await;
        assert_eq!(allowed(&told), methods, "OPTIONS {path}");
        assert!(told.expect(204).is_null());
        for method in [Method::PUT, Method::TRACE, "PURGE".parse().unwrap()] {
            if methods.contains(method.as_str()) {
                continue;
            }
            let told = service.send(method, &path, &[], "").await;
            assert_eq!(allowed(&told), methods, "{path}");
            let shape = if path.starts_with("/oauth2/") { "error" } else { "code" };
            assert!(told.expect(405)[shape].is_string(), "{path}");
        }
        if methods.contains("HEAD") && !path.starts_with("/internal/v1/") {
            let token = format!("Bearer {admin}");
            let headers = [("authorization", token.as_str())];
            let whole = service.send(Method::GET, &path, &headers, "").await;
            let head = service.send(Method::HEAD, &path, &headers, "").await;
            assert_eq!(head.status, whole.status, "{path}");
            assert!(head.bytes.is_empty(), "{path}");
            assert_eq!(head.headers["content-length"], *whole.bytes.len().to_string(), "{path}");
        }
    }
}
