//! `policy bench` by the command line: what it asks, what it finds, and what it cannot measure. The
//! figures themselves are the machine's.

use std::{
    fs,
    process::{Command, Output, Stdio},
};

use serde_json::{Value, json};
use tempfile::TempDir;

const PRODUCT: &str = "\
product: demo
resources:
  things: [get, put, purge]
  others: [get]
roles:
  demo-editor-role: {permissions: {things: [get, put]}}
  demo-viewer-role: {permissions: {things: [get]}}
groups:
  demo-editors: {roles: [demo-editor-role]}
  demo-viewers: {roles: [demo-viewer-role]}
";

const POLICIES: &str = r#"@id("from-inside")
forbid (principal is User, action, resource)
when { context has client && !context.client.isInRange(ip("10.0.0.0/8")) && resource == Demo::Resource::"things" };
"#;

const RULES: &str = r#"@id("put-with-mfa")
forbid (principal, action == Demo::Action::"things:put", resource)
unless { context.mfa };

@id("never-eve") forbid (principal == User::"acme/eve", action == Demo::Action::"others:get", resource);
"#;

const TABLE: &str = "\
principals: {ana: {user: acme/ana, groups: [demo-editors], amr: [mfa]}, eve: {user: acme/eve}}
cases:
  - {name: a, principals: [ana], allow: ['demo::things:put', 'demo::things:get']}
  - {name: b, principals: [ana, eve], deny: ['demo::others:get']}
";

struct Desk(TempDir);

impl Desk {
    fn new(files: &[(&str, &str)]) -> Self {
        let desk = Self(tempfile::tempdir().unwrap());
        for (path, text) in files {
            let path = desk.0.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        desk
    }

    fn output(&self, args: &str) -> Output {
        Command::new(env!("CARGO_BIN_EXE_postern"))
            .args(["policy", "bench"])
            .args(args.split_whitespace())
            .current_dir(self.0.path())
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    fn json(&self, args: &str) -> Value {
        let output = self.output(&format!("--seconds 0.2 --json {args}"));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn run(&self, args: &str) -> String {
        let output = self.output(args);
        let told = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
        let code = output.status.code().unwrap();
        format!("$ postern policy bench {args}\n{}{}=> {code}\n", told[0], told[1])
    }
}

/// Class → questions, of one product.
fn kinds(report: &Value, product: &Value) -> Value {
    let kinds = report["kinds"].as_array().unwrap().iter();
    let of = kinds.filter(|kind| kind["product"] == *product);
    of.map(|kind| (kind["class"].as_str().unwrap().to_owned(), kind["questions"].clone()))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

fn is_measured(cost: &Value) {
    let (median, least) = (cost["median"].as_f64().unwrap(), cost["least"].as_f64().unwrap());
    assert!(0.0 < least && least <= median, "{cost}");
    assert!(cost["samples"].as_u64().unwrap() > 0);
}

#[test]
fn groups_and_permissions_are_asked_where_there_are_no_tables() {
    let desk =
        Desk::new(&[("policies/demo/product.yaml", PRODUCT), ("policies/demo/rules.cedar", RULES)]);
    let report = desk.json("policies");
    // People without groups, and in each of two.
    assert_eq!(report["from"], "every group, every permission");
    assert_eq!(report["questions"], 3 * 4);
    // Every put has its condition evaluated; of the rest, two groups get things.
    let expected = json!({"roles": 2, "conditions": 3, "denied": 7});
    assert_eq!(kinds(&report, &json!("demo")), expected);
    assert_eq!(kinds(&report, &Value::Null), expected);
    for kind in report["kinds"].as_array().unwrap() {
        is_measured(&kind["engine"]);
        is_measured(&kind["cedar"]);
        assert!(kind["ratio"].as_f64().unwrap() > 0.0);
    }
    is_measured(&report["compile"]);
    assert!(report["decisions"].as_u64().unwrap() >= 12);
    assert_eq!(report["floor"], json!([]));
    let policies = report["policies"].as_array().unwrap();
    assert_eq!(policies.len(), 1);
    assert_eq!(
        (&policies[0]["policy"], &policies[0]["evaluated"]),
        (&json!("put-with-mfa"), &json!(3))
    );
    is_measured(&policies[0]["cost"]);
}

#[test]
fn tables_are_asked_where_there_are_some_and_the_floor_is_told() {
    let desk = Desk::new(&[
        ("policies/demo/product.yaml", PRODUCT),
        ("policies/demo/rules.cedar", RULES),
        ("policies/demo/tests/t.yaml", TABLE),
        ("policies/base.cedar", POLICIES),
        ("bare/demo/product.yaml", PRODUCT),
    ]);
    let report = desk.json("");
    assert_eq!((&report["from"], &report["questions"]), (&json!("decision tables"), &json!(4)));
    assert_eq!(kinds(&report, &json!("demo")), json!({"conditions": 4}));
    assert_eq!(report["floor"], json!(["from-inside"]));
    let evaluated = |policy: &str| {
        let policies = report["policies"].as_array().unwrap().iter();
        policies.clone().find(|weight| weight["policy"] == policy).unwrap()["evaluated"].clone()
    };
    assert_eq!((evaluated("from-inside"), evaluated("put-with-mfa")), (json!(4), json!(1)));
    assert!(report["floor_cost"].as_f64().unwrap() > 0.0);
    let report = desk.json("bare --tables policies");
    assert_eq!(kinds(&report, &json!("demo")), json!({"roles": 2, "denied": 2}));
    assert_eq!(report["policies"], json!([]));

    // For people; what is the machine's is left out.
    let told = desk.run("--seconds 0.2");
    let words: String = told.chars().filter(|c| !c.is_ascii_digit()).collect();
    for expected in [
        "hand-written policies\ncompiled in",
        "questions (decision tables)",
        "questions      median     least   plain Cedar    ratio",
        "demo                      conditions",
        "all                       conditions",
        "hottest policies, by what they take of all questions",
        "`from-inside` at policies/base.cedar::: evaluated for  of , . µs each",
        "cost floor: every question looks at `from-inside`, whose conditions take . µs",
    ] {
        assert!(words.contains(expected), "{expected}\n{words}");
    }
}

#[test]
fn what_cannot_be_measured_is_told() {
    let desk = Desk::new(&[
        ("policies/demo/product.yaml", PRODUCT),
        ("bad/demo/product.yaml", PRODUCT),
        ("bad/base.cedar", "permit (principal, action resource);"),
        ("wrong/demo/product.yaml", PRODUCT),
        ("wrong/demo/tests/t.yaml", "cases: {}\n"),
        ("empty/demo/product.yaml", "product: demo\nresources: {}\n"),
        ("store/schema.cedarschema", "entity A; action a appliesTo {principal: A, resource: A};"),
    ]);
    let told = [
        "bad",
        "wrong",
        "empty",
        "store",
        "nowhere",
        "--seconds 0",
        "--seconds much",
        "--tables bad --seconds 0.1",
        "--tables nowhere --seconds 0.1",
    ]
    .map(|args| desk.run(args));
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("golden");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!("policy-bench-refused", told.join("\n")));
}
