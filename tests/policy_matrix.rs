//! `policy matrix` by the command line: as text, as values, as a page; and what cannot be asked.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
};

use policy::{
    model::{
        decision::Revision,
        grant::{Group, Role},
        manifest::Manifest,
    },
    snapshot::{PolicyText, Snapshot},
};
use tempfile::TempDir;

const PRODUCT: &str = "\
product: demo
title: A <demo> & \"more\"
resources:
  things: [get, put, purge]
  others: [get]
roles:
  demo-editor-role: {permissions: {things: [get, put]}}
  demo-viewer-role: {permissions: {things: [get]}}
groups:
  demo-editors: {title: People who edit, roles: [demo-editor-role]}
  demo-viewers: {roles: [demo-viewer-role]}
everyone: {others: [get]}
";

const OTHER: &str = "product: other\nresources: {notes: [get]}\n";

const POLICIES: &str = r#"@id("purge-from-inside")
permit (principal is User in Group::"acme/demo-editors", action == Demo::Action::"things:purge", resource)
when { context has client && context.client.isInRange(ip("10.0.0.0/8")) && "<script>" != "</script>" };

@id("put-with-mfa, \"<always>\"")
forbid (principal, action == Demo::Action::"things:put", resource)
unless { context.mfa };

@id("viewers-never-purge")
forbid (principal in Role::"demo-viewer-role", action == Demo::Action::"things:purge", resource);

@id("not-when-suspended")
forbid (principal == User::"acme/eve", action, resource);

@id("always") permit (principal in Role::"demo-viewer-role", action == Demo::Action::"things:put", resource)
when { true };
"#;

struct Desk(TempDir);

impl Desk {
    fn new() -> Self {
        let desk = Self(tempfile::tempdir().unwrap());
        desk.write("policies/demo/product.yaml", PRODUCT);
        desk.write("policies/other/product.yaml", OTHER);
        desk.write("policies/base.cedar", POLICIES);
        desk
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// What each printed, and how it ended.
    fn run(&self, lines: &[&str]) -> String {
        let run = |line: &&str| {
            let output = Command::new(env!("CARGO_BIN_EXE_postern"))
                .args(["policy", "matrix"])
                .args(line.split_whitespace())
                .current_dir(self.0.path())
                .stdin(Stdio::null())
                .output()
                .unwrap();
            let told = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
            let code = output.status.code().unwrap();
            format!("$ postern policy matrix {line}\n{}{}=> {code}\n", told[0], told[1])
        };
        lines.iter().map(run).collect::<Vec<_>>().join("\n")
    }
}

fn golden(name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("golden");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(format!("policy-matrix-{name}"), text));
}

#[test]
fn a_table_for_people_and_for_programs() {
    let told = Desk::new().run(&[
        "policies",
        "--product demo --groups *-editors,demo-viewers",
        "--csv",
        "--json --product demo --groups demo-editors",
    ]);
    golden("good", &told);
}

#[test]
fn a_page_holds_nothing_that_is_not_escaped_and_loads_nothing() {
    let desk = Desk::new();
    assert!(desk.run(&["--html page.html"]).ends_with("page.html\n=> 0\n"));
    let page = fs::read_to_string(desk.0.path().join("page.html")).unwrap();
    for outside in ["<script", "http:", "https:", "url(", "@import", "<b>", "<demo>", "<always>"] {
        assert!(!page.contains(outside), "{outside}");
    }
    let style = page.find("<style>").unwrap()..page.find("</style>").unwrap();
    assert!(page[style.clone()].contains("@media print"));
    golden("page", &page.replace(&page[style], ""));
    let printed = desk.run(&["--html -"]);
    assert!(printed.contains(page.trim_end()));
}

/// Groups and roles of organizations' own come with a snapshot.
#[test]
fn the_groups_of_organizations_stand_in_the_table() {
    let desk = Desk::new();
    let acme = Some("acme".parse().unwrap());
    let snapshot = Snapshot {
        revision: Revision(7),
        products: vec![Arc::new(Manifest::parse("demo/product.yaml", PRODUCT).unwrap())],
        roles: vec![Role {
            name: "auditor-role".parse().unwrap(),
            org: acme.clone(),
            product: "demo".parse().unwrap(),
            title: String::new(),
            grants: vec!["*:get".parse().unwrap()],
        }],
        groups: vec![Group {
            name: "auditors".parse().unwrap(),
            org: acme,
            title: "Auditors".to_owned(),
            roles: vec!["auditor-role".parse().unwrap()],
        }],
        policies: vec![PolicyText {
            file: "base.cedar".into(),
            product: None,
            text: "@id(\"z\") forbid (principal in Organization::\"zeta\", action, resource);"
                .into(),
        }],
        issuer: None,
        guests: Vec::new(),
    };
    desk.write("snapshot.json", &serde_json::to_string(&snapshot).unwrap());
    golden("snapshot", &desk.run(&["snapshot.json", "snapshot.json --groups auditors --csv"]));
}

#[test]
fn what_cannot_be_asked_is_told() {
    let desk = Desk::new();
    desk.write(
        "store/schema.cedarschema",
        "entity A; action a appliesTo {principal: A, resource: A};",
    );
    desk.write("bad/demo/product.yaml", PRODUCT);
    desk.write("bad/base.cedar", "permit (principal, action resource);");
    let told = desk.run(&[
        "--product demu",
        "--groups demo-editor",
        "--csv --json",
        "--html nowhere/page.html",
        "store",
        "bad",
        "nowhere",
    ]);
    assert!(!Path::new("nowhere").exists());
    golden("refused", &told);
}
