//! `postern policy import` and `postern policy export`, by the real binary: on good sources and on
//! broken ones, what is written, what is told, and how it ends.

use std::{
    fmt::Write as _,
    fs,
    path::Path,
    process::{Command, Output},
};

use aws_lc_rs::{
    encoding::AsDer,
    rand::SystemRandom,
    signature::{Ed25519KeyPair, KeyPair},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

/// A folder to stand in, so that every path that is told is a short one.
struct Bench(tempfile::TempDir);

impl Bench {
    fn new(files: &[(&str, &str)]) -> Self {
        let bench = Self(tempfile::tempdir().unwrap());
        for (name, text) in files {
            bench.put(name, text);
        }
        bench
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn put(&self, name: &str, text: &str) {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path().join(name)).unwrap()
    }

    fn policy(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_postern"))
            .arg("policy")
            .args(arguments)
            .current_dir(self.path())
            .output()
            .unwrap()
    }

    /// Run it, and write down all that can be seen.
    fn seen(&self, arguments: &[&str]) -> String {
        seen(arguments, &self.policy(arguments))
    }

    fn holds(&self, arguments: &[&str]) -> String {
        let output = self.policy(arguments);
        assert_eq!(output.status.code(), Some(0), "{}", seen(arguments, &output));
        String::from_utf8(output.stdout).unwrap()
    }
}

fn seen(arguments: &[&str], output: &Output) -> String {
    let mut text = format!("$ postern policy {}\n", arguments.join(" "));
    for (name, bytes) in [("stdout", &output.stdout), ("stderr", &output.stderr)] {
        if !bytes.is_empty() {
            let _ = write!(text, "--- {name}\n{}", String::from_utf8_lossy(bytes));
        }
    }
    let _ = writeln!(text, "--- exit {}", output.status.code().unwrap());
    text
}

fn hold(name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("golden");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(format!("policy-{name}"), text));
}

const OPENAPI: &str = "\
openapi: 3.1.0
info: {title: 'Billing: all of it', version: 2.1.0}
servers: [{url: https://billing.example/api}]
paths:
  /v1/invoices:
    get: {tags: [Invoices], responses: {200: {description: ok}}}
    post: {tags: [Invoices], x-postern-permission: 'invoices:write'}
  /v1/invoices/{invoice id}:
    get: {tags: [Invoices]}
    delete: {tags: [Invoices]}
  /v1/invoices/{id}/approve:
    x-postern-action: approve
    post: {tags: [Invoices], x-postern-permissions: ['invoices:approve', 'ledger::accounts:get']}
    put: {tags: [Invoices]}
  /v1/clock:
    x-postern-public: true
    get: {tags: [Other]}
    put: {tags: [Other], x-postern-public: false}
  /v1/me: {$ref: '#/components/pathItems/me'}
  /health:
    get: {tags: [Other], security: []}
components:
  pathItems:
    me: {get: {tags: [Other], x-postern-authenticated: true}}
";

#[test]
fn a_document_becomes_routes_and_roles() {
    let bench = Bench::new(&[("openapi.yaml", OPENAPI)]);
    let import = ["import", "openapi", "openapi.yaml", "--product", "billing", "--roles"];
    hold("import-openapi", &bench.seen(&import));
    // The same document as JSON gives the same rows.
    bench.put("openapi.json", &openapi_json().to_string());
    let json = ["import", "openapi", "openapi.json", "--product", "billing", "--roles"];
    let tables = [bench.holds(&import), bench.holds(&json)];
    let rows = tables.map(|text| {
        let mut rows: Vec<String> =
            text.lines().filter(|line| line.contains(" -> ")).map(str::to_owned).collect();
        rows.sort();
        rows
    });
    assert_eq!(rows[0], rows[1]);
}

/// The document above, as JSON.
fn openapi_json() -> Value {
    json!({
        "openapi": "3.1.0",
        "info": { "title": "Billing: all of it", "version": "2.1.0" },
        "servers": [{ "url": "https://billing.example/api" }],
        "paths": {
            "/v1/invoices": {
                "get": { "tags": ["Invoices"], "responses": { "200": { "description": "ok" } } },
                "post": { "tags": ["Invoices"], "x-postern-permission": "invoices:write" },
            },
            "/v1/invoices/{invoice id}": {
                "get": { "tags": ["Invoices"] },
                "delete": { "tags": ["Invoices"] },
            },
            "/v1/invoices/{id}/approve": {
                "x-postern-action": "approve",
                "post": {
                    "tags": ["Invoices"],
                    "x-postern-permissions": ["invoices:approve", "ledger::accounts:get"],
                },
                "put": { "tags": ["Invoices"] },
            },
            "/v1/clock": {
                "x-postern-public": true,
                "get": { "tags": ["Other"] },
                "put": { "tags": ["Other"], "x-postern-public": false },
            },
            "/v1/me": { "$ref": "#/components/pathItems/me" },
            "/health": { "get": { "tags": ["Other"], "security": [] } },
        },
        "components": {
            "pathItems": { "me": { "get": { "tags": ["Other"], "x-postern-authenticated": true } } },
        },
    })
}

#[test]
fn what_a_document_says_and_a_manifest_cannot_is_told() {
    let bench = Bench::new(&[(
        "openapi.yaml",
        "\
openapi: 3.0.3
info: {title: Files}
security: [{oauth: [files.read]}]
paths:
  /files/{name}.pdf:
    get: {}
  /files/{a}:
    get: {security: [{}, {oauth: []}]}
    copy: {}
  /files/{b}:
    get: {}
  /elsewhere: {$ref: 'other.yaml#/x'}
  /:
    get: {}
",
    )]);
    let import = ["import", "openapi", "openapi.yaml", "--product", "files"];
    let mut text = bench.seen(&import);
    text += &bench.seen(&[&import[..], &["--json", "--out", "made"]].concat());
    text += &bench.seen(&[&import[..], &["--allow-loss", "--out", "made"]].concat());
    text += &bench.seen(&[&import[..], &["--allow-loss", "--out", "made", "--force"]].concat());
    hold("import-openapi-losses", &text);
}

#[test]
fn a_document_that_is_none_or_contradicts_itself_is_refused() {
    let bench = Bench::new(&[
        ("swagger.json", "{\"swagger\": \"2.0\", \"paths\": {}}"),
        ("new.yaml", "openapi: 3.2.0\npaths: {}\n"),
        ("none.yaml", "openapi: 3.1.0\npaths: {}\n"),
        ("twice.yaml", "openapi: 3.1.0\npaths: {}\npaths: {}\n"),
        (
            "wrong.yaml",
            "\
openapi: 3.1.0
paths:
  /a:
    x-postern-public: 'yes'
    get: {x-postern-permission: reads}
    put: {x-postern-public: true, x-postern-permission: 'a:put'}
    post: {x-postern-publik: true}
    patch: {x-postern-permissions: []}
    delete: {x-postern-action: 'a b'}
",
        ),
    ]);
    let mut text = String::new();
    for file in ["swagger.json", "new.yaml", "none.yaml", "twice.yaml", "wrong.yaml", "not.there"] {
        text += &bench.seen(&["import", "openapi", file, "--product", "a"]);
    }
    hold("import-openapi-broken", &text);
}

const FEES: &str = "\
service: plugin-fees
version: 3
permissions:
  - {resource: billing-packages, action: create, effect: allow, roles: [fees/editor]}
  - {resource: billing-packages, action: read, effect: allow, roles: [fees/editor, fees/viewer], level: tenant}
  - {resource: billing-packages, action: delete, effect: deny, roles: [fees/viewer]}
roles:
  - {name: fees/editor, granted_to: [{group: fees-admins}]}
  - {name: fees/viewer, granted_to: [{group: fees-viewers}]}
m2m: {exposed: true, needs: [midaz]}
";

const MIDAZ: &str = "\
{\"service\": \"midaz\", \"version\": 1,
 \"permissions\": [{\"resource\": \"accounts\", \"action\": \"get\", \"effect\": \"allow\", \"roles\": [\"viewer\"]}],
 \"roles\": [{\"name\": \"viewer\", \"granted_to\": [{\"group\": \"fees-viewers\"}]}],
 \"m2m\": {\"exposed\": true, \"roles\": [\"viewer\"]}}
";

#[test]
fn a_family_of_manifests_becomes_products_that_hold() {
    let bench = Bench::new(&[("in/fees/permissions.yaml", FEES), ("in/midaz.json", MIDAZ)]);
    let text = bench.seen(&["import", "declarations", "in"]);
    hold("import-declarations", &text);
    bench.holds(&["import", "declarations", "in", "--out", "made"]);
    bench.holds(&["check", "made"]);
}

#[test]
fn what_a_permission_manifest_says_beyond_is_told() {
    let more = "\
scope:
  dimensions:
    - {name: organizationId, from: path, param: organization_id, collection: organizations}
partners: true
integrations: [midaz]
routes: []
surprise: 1
";
    let text = FEES.replace("level: tenant", "level: organizationId") + more;
    let scope = format!("service: scoped\nversion: 1\n{more}");
    let bench = Bench::new(&[("permissions.yaml", &text), ("scope.yaml", &scope)]);
    let mut text = bench.seen(&["import", "declarations", "permissions.yaml", "--out", "made"]);
    text += &bench.seen(&["import", "declarations", "scope.yaml"]);
    hold("import-declarations-losses", &text);
}

#[test]
fn every_violation_of_a_permission_manifest_is_told() {
    let bench = Bench::new(&[(
        "permissions.yaml",
        "\
service: ..
version: 0
permissions:
  - {resource: '', action: get, effect: allow, roles: [viewer]}
  - {resource: a, action: get, effect: maybe, roles: [viewer]}
  - {resource: a, action: put, effect: allow, roles: [nobody]}
  - {resource: a, action: post, effect: allow, roles: []}
  - {resource: a-b, action: get, effect: allow, roles: [viewer]}
  - {resource: a--b, action: get, effect: allow, roles: [viewer]}
roles:
  - {name: viewer}
  - {name: fees/x}
  - {name: fees-x}
  - {name: '//'}
m2m: {exposed: false, roles: [viewer, viewer, '']}
scope:
  dimensions:
    - {name: a, from: body, param: p, collection: c, covers: [C], parent: b}
    - {name: b, from: path, param: p, collection: d, parent: a}
    - {name: e, from: path, param: p, collection: d, parent: nowhere}
integrations: ['', X, x, ..]
",
    )]);
    let mut text = bench.seen(&["import", "declarations", "permissions.yaml"]);
    bench.put("list.yaml", "[1]\n");
    text += &bench.seen(&["import", "declarations", "list.yaml"]);
    bench.put("two/a.yaml", FEES);
    bench.put("two/b.yaml", FEES);
    text += &bench.seen(&["import", "declarations", "two"]);
    bench.put("empty/notes.txt", "nothing");
    text += &bench.seen(&["import", "declarations", "empty"]);
    hold("import-declarations-broken", &text);
}

/// An export like the one that the original is seeded with, in small.
fn export() -> Value {
    let role = |name: &str, groups: &[&str]| {
        json!({ "owner": "acme", "name": name, "displayName": format!("The {name}"), "isEnabled": true,
            "users": [], "roles": [], "groups": groups })
    };
    let permission = |name: &str, who: Value, resources: &[&str], actions: &[&str]| {
        let mut permission = json!({ "owner": "acme", "name": name, "isEnabled": true,
            "model": "api-model", "users": [], "roles": [], "resourceType": "Custom",
            "resources": resources, "actions": actions, "domains": [], "effect": "Allow",
            "state": "Approved" });
        for (key, value) in who.as_object().unwrap() {
            permission[key] = value.clone();
        }
        permission
    };
    let mut machines = permission(
        "ledger-m2m-permission",
        json!({ "roles": ["acme/ledger-editor-role"] }),
        &[],
        &["get", "post"],
    );
    machines["resourceType"] = json!("Application");
    let mut off = permission("off", json!({ "users": ["acme/eve"] }), &["accounts"], &["get"]);
    off["isEnabled"] = json!(false);
    json!({
        "organizations": [{ "owner": "admin", "name": "acme" }],
        "applications": [{ "owner": "admin", "name": "app", "clientSecret": "not to be seen" }],
        "users": [
            { "owner": "acme", "name": "admin", "password": "not to be seen", "isAdmin": true,
              "groups": ["acme/admin-group"] },
            { "owner": "acme", "name": "ana", "id": "6f0c2f4e-0000-4000-8000-000000000001",
              "groups": ["acme/ledger-viewer-group"] },
        ],
        "models": [{ "owner": "acme", "name": "api-model", "modelText": "[request_definition]\nr = sub, obj, act\n\n[policy_definition]\np = sub, obj, act\n\n[role_definition]\ng = _, _\n\n[policy_effect]\ne = some(where (p.eft == allow))\n\n[matchers]\nm = g(r.sub, p.sub) && ( r.obj == p.obj || p.obj == '*' ) && (r.act == p.act || p.act == '*')" }],
        "permissions": [
            permission("everybody", json!({ "users": ["*"] }), &["update-password"], &["patch"]),
            permission("identity", json!({ "roles": ["acme/identity-editor-role"] }), &["users", "update-password"], &["get", "patch"]),
            permission("ledger-editor", json!({ "roles": ["acme/ledger-editor-role"] }), &["accounts", "balances"], &["get", "post"]),
            permission("ledger-viewer", json!({ "roles": ["acme/ledger-viewer-role"] }), &["accounts", "balances"], &["GET"]),
            permission("one-person", json!({ "users": ["acme/ana"] }), &["accounts"], &["post"]),
            machines,
            off,
        ],
        "roles": [
            role("identity-editor-role", &["acme/admin-group"]),
            role("ledger-editor-role", &["acme/admin-group"]),
            role("ledger-viewer-role", &["acme/ledger-viewer-group"]),
        ],
        "groups": [
            { "owner": "acme", "name": "admin-group", "displayName": "Administrators", "isEnabled": true },
            { "owner": "acme", "name": "ledger-viewer-group", "displayName": "Viewers", "isEnabled": true },
        ],
        "adapters": [],
        "enforcers": [],
    })
}

#[test]
fn an_export_becomes_products_groups_and_a_list_of_members() {
    let text = serde_json::to_string_pretty(&export()).unwrap();
    let bench = Bench::new(&[("init_data.json", &text)]);
    let text = bench.seen(&["import", "casdoor", "init_data.json"]);
    assert!(!text.contains("not to be seen"), "{text}");
    hold("import-casdoor", &text);
    bench.holds(&["import", "casdoor", "init_data.json", "--out", "made"]);
    bench.holds(&["check", "made"]);
}

#[test]
fn a_rule_table_beside_an_export_is_what_is_in_force() {
    let text = serde_json::to_string_pretty(&export()).unwrap();
    let rules = "\
# The rows of the enforcer's table.
p, acme/ledger-editor-role, accounts, get
p, acme/ledger-editor-role, accounts, post, allow
p, acme/ledger-viewer-role, ledger/accounts, get
p, acme/auditor, *, get
g, acme/ana, acme/auditor
p, acme/*, accounts, head
";
    let bench = Bench::new(&[("in/init_data.json", &text), ("in/rules.csv", rules)]);
    let text = bench.seen(&["import", "casdoor", "in"]);
    hold("import-casdoor-rules", &text);
}

#[test]
fn what_has_no_exact_meaning_here_is_left_out() {
    let model = "\
[request_definition]
r = sub, obj, act
[policy_definition]
p = sub, obj, act
[role_definition]
g = _, _
[policy_effect]
e = some(where (p.eft == allow))
[matchers]
m = g(r.sub, p.sub) && keyMatch(r.obj, p.obj) && r.act == p.act
";
    let rules = "\
p, api-reader-role, things, get
g, ana, api-reader-role
g2, things, kind
p, api-reader-role, things, get, acme
g, ana, api-reader-role, acme
p, api-reader-role, all things, get
p, ana, things, post
p, api-reader-role, things, put, deny
";
    let bench = Bench::new(&[("rules.csv", rules), ("custom/rules.csv", rules)]);
    bench.put("custom/model.conf", model);
    bench.put(
        "ignored/rules.csv",
        "p, api-reader-role, things, get\np, api-reader-role, things, put, deny\n",
    );
    bench.put("ignored/model.conf", &model.replace("keyMatch(r.obj, p.obj)", "r.obj == p.obj"));
    let mut text = bench.seen(&["import", "casdoor", "rules.csv"]);
    text += &bench.seen(&["import", "casdoor", "rules.csv", "--organization", "acme"]);
    text += &bench.seen(&["import", "casdoor", "custom"]);
    text += &bench.seen(&["import", "casdoor", "ignored"]);
    hold("import-casdoor-losses", &text);
}

#[test]
fn an_export_that_is_none_is_refused() {
    let bench = Bench::new(&[
        ("bad.csv", "p, a, b\nq, a, b, c\np, \"a, b, c\ng, a\np, , b, c\n"),
        ("bad.json", "{\"roles\": ["),
        ("empty.json", "{}"),
        ("two.csv", "p, a/x-y-role, b, get\np, c/x-y-role, b, get\n"),
        ("whose.csv", "p, someone, things, get\n"),
    ]);
    let mut text = String::new();
    for file in ["bad.csv", "bad.json", "empty.json", "two.csv", "whose.csv", "nowhere"] {
        text += &bench.seen(&["import", "casdoor", file]);
    }
    text += &bench.seen(&["import", "casdoor", "two.csv", "--organization", "a"]);
    text += &bench.seen(&["import", "casdoor", "bad.csv", "--product", "A B"]);
    hold("import-casdoor-broken", &text);
}

const PRODUCT: &str = "\
product: demo
resources: {things: [get, put]}
roles: {demo-role: {permissions: {things: [get]}}}
groups: {demo-group: {roles: [demo-role]}}
everyone: {things: [put]}
route_sets: {v1: {table: ['GET /things/{id} -> things:get']}}
";

const WRITTEN: &str = "\
// Kept as it is.
@id(\"not-at-night\")
forbid (principal, action in Demo::Action::\"*:put\", resource)
unless { context.path has id };
";

fn demo() -> Bench {
    Bench::new(&[("policies/demo/product.yaml", PRODUCT), ("policies/demo/own.cedar", WRITTEN)])
}

#[test]
fn what_is_in_force_is_written_as_plain_cedar() {
    let bench = demo();
    let mut text = bench.seen(&["export", "--out", "cedar"]);
    for name in ["schema.cedarschema", "role.demo-role.cedar", "everyone.demo.cedar"] {
        let _ = write!(text, "=== {name}\n{}", bench.read(&format!("cedar/{name}")));
    }
    assert_eq!(bench.read("cedar/demo.own.cedar"), WRITTEN);
    text += &bench.seen(&["check", "cedar"]);
    text += &bench.seen(&["export", "--out", "cedar"]);
    text += &bench.seen(&["export", "--out", "cedar", "--force", "--json"]);
    bench.put("cedar/other.cedar", "permit (principal, action, resource);");
    text += &bench.seen(&["export", "--out", "cedar", "--force"]);
    text += &bench.seen(&["export", "cedar", "--out", "again"]);
    hold("export", &text);
}

/// A key pair, in files.
fn keys(bench: &Bench, name: &str) {
    let pem = |label: &str, der: &[u8]| {
        let body = BASE64_STANDARD.encode(der);
        format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
    };
    let private = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
    let pair = Ed25519KeyPair::from_pkcs8(private.as_ref()).unwrap();
    let public = pair.public_key().as_der().unwrap();
    bench.put(&format!("{name}.pem"), &pem("PRIVATE KEY", private.as_ref()));
    bench.put(&format!("{name}.pub.pem"), &pem("PUBLIC KEY", public.as_ref()));
}

#[test]
fn a_signed_snapshot_is_taken_by_its_own_key_alone() {
    let bench = demo();
    keys(&bench, "ours");
    keys(&bench, "theirs");
    let export = ["export", "--snapshot", "signed.json", "--key", "ours.pem", "--key-id", "k1"];
    let mut text = bench.seen(&[&export[..], &["--revision", "7"]].concat());
    text += &bench.seen(&["export", "--snapshot", "plain.json"]);
    text += &bench.seen(&["check", "signed.json", "--verify-key", "ours.pub.pem"]);
    text += &bench.seen(&["check", "signed.json"]);
    text += &bench.seen(&["check", "plain.json"]);
    text += &bench.seen(&["check", "signed.json", "--verify-key", "theirs.pub.pem"]);
    text += &bench.seen(&["check", "plain.json", "--verify-key", "ours.pub.pem"]);
    text += &bench.seen(&["check", "signed.json", "--verify-key", "ours.pem"]);
    text += &bench.seen(&["check", "policies", "--verify-key", "ours.pub.pem"]);
    text += &bench.seen(&["export", "--snapshot", "x.json", "--key", "ours.pub.pem"]);
    // Somebody else's snapshot under our signature.
    let mut file: Value = serde_json::from_str(&bench.read("signed.json")).unwrap();
    let forged = file["snapshot"].as_str().unwrap().replace("things", "thongs");
    file["snapshot"] = json!(forged);
    bench.put("forged.json", &file.to_string());
    text += &bench.seen(&["check", "forged.json", "--verify-key", "ours.pub.pem"]);
    hold("export-signed", &text);
}
