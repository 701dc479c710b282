//! The author's tools by the command line, over a plain Cedar store: the one of the examples, and
//! broken ones.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use tempfile::TempDir;

/// A copy of the example store as `documents`, and `postern policy` run beside it.
struct Desk(TempDir);

impl Desk {
    fn new() -> Self {
        let desk = Self(tempfile::tempdir().unwrap());
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/documents");
        copy(&example, &desk.0.path().join("documents"));
        desk
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.0.path().join(path)).unwrap()
    }

    /// What each printed, and how it ended. Words are parted as a shell does.
    fn run(&self, lines: &[&str]) -> String {
        let run = |line: &&str| {
            let output = Command::new("sh")
                .args(["-c", &format!("exec \"$POSTERN\" policy {line}")])
                .env("POSTERN", env!("CARGO_BIN_EXE_postern"))
                .current_dir(self.0.path())
                .stdin(Stdio::null())
                .output()
                .unwrap();
            let told = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
            let code = output.status.code().unwrap();
            format!("$ postern policy {line}\n{}{}=> {code}\n", told[0], told[1])
        };
        lines.iter().map(run).collect::<Vec<_>>().join("\n")
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (path, name) = entry.map(|entry| (entry.path(), entry.file_name())).unwrap();
        if path.is_dir() {
            copy(&path, &to.join(name));
        } else {
            fs::copy(&path, to.join(name)).unwrap();
        }
    }
}

fn golden(name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("golden");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(format!("policy-store-{name}"), text));
}

const FAILING: &str = r#"principals: {ana: 'User::"ana"', bo: 'User::"bo"'}
cases:
  - name: an editor reads the plan
    principals: [ana]
    resources: ['Document::"plan"']
    allow: [read]
  - name: by the wrong policy
    principals: [bo]
    resources: ['Document::"plan"']
    allow: [read]
    policies: [editors-read]
  - name: nothing fails
    principals: [bo]
    resources: ['Document::"plan"']
    deny: [write]
    context: {mfa: true, added: 2000}
    errors: [too-large]
  - name: something fails
    principals: [bo]
    resources: ['Document::"plan"']
    deny: [write]
    context: {mfa: true, added: 9223372036854775807}
matrices:
  - name: all but one
    principals: [all]
    actions: ['*']
    resources: [all]
    context: {mfa: true, added: 0}
    allow: {}
"#;

const BROKEN: &str = r#"principals:
  ana: User::"ana"
  robot: Robot::"r"
  bad: ana
resources:
  plan: Document::"plan"
entities:
  - uid: User::"new"
cases:
  - name: unknown names
    principals: [anna, robot, 'Usr::"x"']
    resources: [plan, 'User::"ana"']
    allow: [reed, write, 'Action::"change"']
    policies: [owners-do-everythin]
    errors: [nothing]
  - name: bad context
    principals: [ana]
    resources: [plan]
    allow: [write]
    context:
      mfa: yes please
      added: 1
  - name: a member too many
    principals: [ana]
    resources: [plan]
    deny: [read]
    context: {client: 10.0.0.1}
  - name: a member is missing
    principals: [ana]
    resources: [plan]
    deny: [share]
  - name: yes and no
    principals: [ana]
    resources: [plan]
    allow: [read]
    deny: ['*']
  - name: nothing
    principals: [ana]
    resources: [plan]
matrices:
  - name: outside
    principals: [ana]
    actions: [read]
    resources: [plan]
    allow:
      ana: {plan: [share], 'Document::"trains"': [read]}
      'User::"bo"': {plan: [read]}
"#;

#[test]
fn the_example_is_checked_and_its_tables_reach_every_policy() {
    let desk = Desk::new();
    let told = desk.run(&[
        "check documents",
        "fmt --check documents",
        "test --coverage-required --junit report.xml documents",
    ]);
    golden("example", &(told + &desk.read("report.xml")));
}

#[test]
fn answers_that_are_not_expected_are_told_with_their_line() {
    let desk = Desk::new();
    desk.write("documents/tests/documents.yaml", FAILING);
    golden("test-failing", &desk.run(&["test documents", "test --json documents"]));
}

#[test]
fn tables_that_cannot_be_read() {
    let desk = Desk::new();
    desk.write("documents/tests/documents.yaml", BROKEN);
    let mut told = desk.run(&["test documents"]);
    for table in [
        "",
        "entities: [{uid: 'User::\"new\"'}]\ncases: [{name: a, principals: [], resources: []}]\n",
        "cases:\n  - name: a\n    principals: []\n    permission: x\n",
    ] {
        desk.write("documents/tests/documents.yaml", table);
        told = told + "\n" + &desk.run(&["test documents"]);
    }
    golden("test-broken", &told);
}

#[test]
fn an_answer_is_explained() {
    let desk = Desk::new();
    desk.write(
        "moved.json",
        r#"[{"uid": "Document::\"plan\"", "parents": ["Folder::\"travel\""],
             "attrs": {"owner": {"type": "User", "id": "bo"}, "public": false, "size": 12}}]"#,
    );
    desk.write("context.json", r#"{"mfa": true, "added": 9223372036854775807}"#);
    let told = desk.run(&[
        r#"explain documents --principal 'User::"bo"' --action read --resource 'Document::"plan"' --expect allow"#,
        r#"explain documents --principal 'User::"ana"' --action read --resource 'Document::"plan"' --expect allow"#,
        r#"explain documents --principal 'User::"ana"' --action read --resource 'Document::"plan"' --entities moved.json"#,
        r#"explain documents --principal 'User::"eve"' --action 'Action::"read"' --resource 'Document::"trains"'"#,
        r#"explain documents --principal 'User::"ana"' --action share --resource 'Document::"trains"' --context '{"mfa": false, "client": "10.0.0.1"}'"#,
        r#"explain documents --principal 'User::"ana"' --action write --resource 'Document::"trains"' --context @context.json"#,
        r#"explain documents --principal 'User::"guest"' --action read --resource 'Document::"trains"'"#,
        r#"explain documents --principal 'User::"ana"' --action read --resource 'Document::"plan"' --json"#,
    ]);
    golden("explain", &told);
}

#[test]
fn a_question_that_cannot_be_put_is_told() {
    let desk = Desk::new();
    desk.write("entities.json", r#"[{"uid": "User::\"x\""}]"#);
    desk.write("broken/schema.cedarschema", "entity User;\naction read;\n");
    desk.write("broken/p.cedar", "permit (principal, action == Action::\"raed\", resource);\n");
    let told = desk.run(&[
        "explain documents --permission documents::plan:read",
        "explain documents",
        "explain documents --principal ana --action read --resource x",
        r#"explain documents --principal 'User::"ana"' --action read"#,
        r#"explain documents --principal 'User::"ana"' --action reed --resource 'Document::"plan"'"#,
        r#"explain documents --principal 'User::"ana"' --action read --resource 'Documnt::"plan"'"#,
        r#"explain documents --principal 'Team::"editors"' --action read --resource 'Document::"plan"'"#,
        r#"explain documents --principal 'User::"ana"' --action change --resource 'Document::"plan"'"#,
        r#"explain documents --principal 'User::"ana"' --action share --resource 'Document::"plan"'"#,
        r#"explain documents --principal 'User::"ana"' --action share --resource 'Document::"plan"' --context '{"mfa": true, "cleint": "::1"}'"#,
        r#"explain documents --principal 'User::"ana"' --action share --resource 'Document::"plan"' --context '{"mfa": true, "client": "::1/"}'"#,
        r#"explain documents --principal 'User::"ana"' --action share --resource 'Document::"plan"' --context mfa"#,
        r#"explain documents --principal 'User::"ana"' --action share --resource 'Document::"plan"' --context @nowhere"#,
        r#"explain documents --principal 'User::"x"' --action read --resource 'Document::"plan"' --entities entities.json"#,
        r#"explain broken --principal 'User::"x"' --action read --resource 'User::"x"'"#,
    ]);
    golden("explain-refused", &told);
}

#[test]
fn both_directions_are_searched() {
    let desk = Desk::new();
    let told = desk.run(&[
        r#"who documents --action read --resource 'Document::"plan"'"#,
        r#"who documents --action read --resource 'Document::"plan"' --all"#,
        r#"who documents --action write --resource 'Document::"trains"'"#,
        r#"who documents --action share --resource 'Document::"plan"' --json"#,
        r#"who documents --action read --resource 'Document::"nowhere"'"#,
        r#"what documents --principal 'User::"ana"'"#,
        r#"what documents --principal 'User::"eve"'"#,
        r#"what documents --principal 'User::"bo"' --json"#,
        "who documents --permission documents::plan:read",
        "who documents --action read",
        r#"who documents --action read --resource 'User::"ana"'"#,
        r#"who documents --action reed --resource 'Document::"plan"'"#,
        "what documents",
        "what documents --principal ana",
        r#"what documents --principal 'Team::"editors"'"#,
    ]);
    golden("search", &told);
}

#[test]
fn two_stores_are_compared() {
    let desk = Desk::new();
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/documents");
    for folder in ["same", "changed", "other"] {
        copy(&example, &desk.0.path().join(folder));
    }
    let policies = desk.read("documents/documents.cedar");
    desk.write(
        "changed/documents.cedar",
        &policies
            .replace("when { resource.public }", "when { true }")
            .replace("when { context.mfa }", "when { context.mfa || resource.public }"),
    );
    let entities = desk.read("documents/entities.json");
    desk.write(
        "other/entities.json",
        &entities.replace("\"suspended\": true", "\"suspended\": false"),
    );
    desk.write("products/demo/product.yaml", "product: demo\nresources: {things: [get]}\n");
    desk.write("broken/schema.cedarschema", "entity User;\n");
    desk.write("broken/p.cedar", "permit (principal action, resource);\n");
    let told = desk.run(&[
        "diff documents same --fail-on any",
        "diff documents changed --fail-on gain",
        "diff changed documents --json",
        "diff documents other --fail-on loss",
        "diff documents products",
        "diff documents broken",
    ]);
    golden("diff", &told);
}

#[test]
fn a_store_is_written_as_files_and_in_json() {
    let desk = Desk::new();
    let told = desk.run(&[
        "export documents --out out --cedar-json",
        "export documents --out out",
        "export documents --out plain --json",
        "check plain",
        "diff documents plain --fail-on any",
        "export documents --snapshot -",
    ]);
    golden("export", &told);
    assert_eq!(desk.read("out/entities.json"), desk.read("documents/entities.json"));
}
