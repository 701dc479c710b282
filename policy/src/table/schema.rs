//! The schema by which editors check a table, held against the reader.

use std::{collections::BTreeSet, fs, path::Path, sync::Arc};

use serde_json::Value;

use super::reader::{Known, parse};
use crate::{
    engine::Engine,
    model::{decision::Revision, manifest::Manifest},
    snapshot::Snapshot,
    start::{self, TABLE_SCHEMA, tests::wrong},
};

const GOOD: &str = "\
principals:
  ana: {user: acme/ana, groups: [billing-clerks], acr: '1', amr: [pwd], auth_time: 2026-01-01T10:00:00Z}
  bot: {application: acme/bot, roles: [billing-clerk-role]}
cases:
  - name: one
    principals: [ana, bot]
    allow: ['billing::invoices:read']
    deny: ['billing::*:approve']
    context: {client: 10.0.0.1, now: 2026-01-01T10:00:00Z, path: {id: 7}}
  - name: two
    principals: [ana]
    allow: ['billing::invoices:read']
    policies: [role/billing-clerk-role]
matrices:
  - name: three
    organization: acme
    groups: [billing-clerks]
    permissions: ['billing::invoices:*']
    allow: {billing-clerks: ['billing::invoices:read']}
";

fn engine() -> Engine {
    let (_, manifest) = &start::product(&"billing".parse().unwrap()).unwrap()[0];
    Engine::compile(Arc::new(Snapshot {
        revision: Revision(1),
        products: vec![Arc::new(Manifest::parse("m", manifest).unwrap())],
        roles: Vec::new(),
        groups: Vec::new(),
        policies: Vec::new(),
        issuer: None,
        guests: Vec::new(),
    }))
    .unwrap()
}

#[test]
fn every_member_that_is_read_is_in_the_schema() {
    let engine = engine();
    let known = Known::of(&engine);
    let schema: Value = serde_json::from_str(TABLE_SCHEMA).unwrap();
    for (object, at) in [
        ("", "{MORE}"),
        ("/definitions/principal", "principals: {ana: {MORE}}"),
        ("/definitions/case", "cases: [{MORE}]"),
        (
            "/definitions/case/properties/context",
            "cases: [{name: c, principals: [], context: {MORE}}]",
        ),
        ("/definitions/matrix", "matrices: [{MORE}]"),
    ] {
        let told = parse(&known, "t", &at.replace("MORE", "zz: 1")).unwrap_err().to_string();
        // The reader itself says what it would have taken.
        let (_, expected) = told.split_once("expected one of ").expect(&told);
        let (expected, _) = expected.split_once(" at line").unwrap_or((expected, ""));
        let read: BTreeSet<&str> = expected.split(", ").collect();
        let object = schema.pointer(object).unwrap();
        let said: BTreeSet<&str> =
            object["properties"].as_object().unwrap().keys().map(String::as_str).collect();
        assert!(read == said, "{told}: {read:?} are read, and the schema has {said:?}");
        assert_eq!(object["additionalProperties"], false);
    }
}

#[test]
fn every_table_here_is_what_the_schema_says() {
    let policies = Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies");
    let tables = crate::table::files(&policies).unwrap();
    assert!(tables.len() >= 11, "{tables:?}");
    for path in tables {
        let wrong = wrong(TABLE_SCHEMA, &fs::read_to_string(&path).unwrap());
        assert!(wrong.is_empty(), "{}: {wrong:?}", path.display());
    }
}

#[test]
fn what_the_reader_refuses_the_schema_does_too() {
    let engine = engine();
    let known = Known::of(&engine);
    let reads = |text: &str| parse(&known, "t", text);
    assert_eq!(wrong(TABLE_SCHEMA, GOOD), [""; 0]);
    assert_eq!(reads(GOOD).unwrap().len(), 3);
    for (from, to) in [
        ("principals:\n", "people:\n"),
        ("{user: acme/ana,", "{user: ana,"),
        ("{user: acme/ana,", "{user: Acme/ana,"),
        ("{user: acme/ana,", "{application: acme/ana,"),
        ("{user: acme/ana,", "{user: acme/ana, application: acme/ana,"),
        ("{user: acme/ana,", "{"),
        ("roles: [billing-clerk-role]", "groups: [billing-clerks]"),
        ("amr: [pwd]", "amr: pwd"),
        ("auth_time: 2026-01-01T10:00:00Z", "auth_time: yesterday"),
        ("    principals: [ana, bot]\n", ""),
        ("    principals: [ana, bot]\n", "    principals: []\n"),
        ("'billing::invoices:read'", "'invoices:read'"),
        ("'billing::*:approve'", "'billing::approve'"),
        ("client: 10.0.0.1", "client: here"),
        ("client: 10.0.0.1", "agent: 10.0.0.1"),
        ("now: 2026-01-01T10:00:00Z", "now: 10:00"),
        ("    allow: ['billing::invoices:read']\n    policies", "    policies"),
        ("organization: acme", "organization: ACME"),
        ("    groups: [billing-clerks]\n", ""),
        ("permissions: ['billing::invoices:*']", "permissions: []"),
        ("    allow: {billing", "    deny: {billing"),
    ] {
        let broken = GOOD.replacen(from, to, 1);
        assert_ne!(broken, GOOD, "`{from}` is not there");
        assert!(!wrong(TABLE_SCHEMA, &broken).is_empty(), "`{to}` passes the schema");
        assert!(reads(&broken).is_err(), "`{to}` passes the reader");
    }
    for empty in ["principals: {}", "cases: []", "{cases: [], matrices: []}"] {
        assert!(!wrong(TABLE_SCHEMA, empty).is_empty() && reads(empty).is_err(), "{empty}");
    }
}
