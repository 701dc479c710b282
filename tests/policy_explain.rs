//! The author's questions by the command line: `policy explain`, `who`, `what` and `diff`.

use std::{
    fs,
    process::{Command, Stdio},
};

use tempfile::TempDir;

const PRODUCT: &str = "\
product: demo
resources:
  things: [get, put, purge]
  others: [get]
roles:
  demo-editor-role: {permissions: {things: [get, put], others: [get]}}
  demo-viewer-role: {permissions: {things: [get]}}
groups:
  demo-editors: {roles: [demo-editor-role]}
  demo-viewers: {roles: [demo-viewer-role]}
everyone: {others: [get]}
routes: v1
route_sets:
  v1:
    table:
      - GET /v1/things/{id} -> things:get
      - PUT /v1/things/{id} -> things:put & others:get
      - GET /health -> public
";

const POLICIES: &str = r#"// What roles cannot say.
@id("purge-from-inside")
permit (principal is User in Group::"acme/demo-editors", action == Demo::Action::"things:purge", resource)
when {
    context has client && // no address, no purge
    context.client.isInRange(ip("10.0.0.0/8")) && context.mfa
};

@id("not-when-suspended") @reason("Your account is suspended.")
forbid (principal == User::"acme/eve", action, resource);

@id("put-with-mfa") @reason("Sign in with a second factor.")
forbid (principal, action == Demo::Action::"things:put", resource)
unless { context.mfa };
"#;

/// A folder of these files, and `postern` run in it.
struct Desk(TempDir);

impl Desk {
    fn new(files: &[(&str, &str)]) -> Self {
        let desk = Self(tempfile::tempdir().unwrap());
        for (path, text) in files {
            desk.write(path, text);
        }
        desk
    }

    fn good() -> Self {
        Self::new(&[("policies/demo/product.yaml", PRODUCT), ("policies/base.cedar", POLICIES)])
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn git(&self, args: &[&str]) {
        let mut git = Command::new("git");
        git.args(["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]);
        let output = git.args(args).current_dir(self.0.path()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }

    /// What each printed, and how it ended.
    fn run(&self, lines: &[&str]) -> String {
        let run = |line: &&str| {
            let output = Command::new(env!("CARGO_BIN_EXE_postern"))
                .arg("policy")
                .args(line.split_whitespace())
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

fn golden(name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("golden");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(format!("policy-{name}"), text));
}

#[test]
fn an_answer_is_explained() {
    let told = Desk::good().run(&[
        "explain --user acme/ana --group demo-viewers --permission demo::things:get --expect allow",
        "explain --user acme/ana --group demo-viewers --permission demo::things:put --mfa --expect allow",
        "explain --user acme/ana --group demo-editors --permission demo::things:put",
        "explain --user acme/ana --group demo-editors --permission demo::things:purge",
        "explain --user acme/ana --group demo-editors --permission demo::things:purge --client 192.0.2.1",
        "explain --user acme/ana --group demo-editors --permission demo::things:purge --client 10.0.0.7 --amr mfa",
        "explain --user acme/eve --group demo-editors --permission demo::things:get",
        "explain --application acme/billing --permission demo::others:get",
        "explain --user acme/ana --group demo-editors --product demo --method PUT --path /v1/things/7 --mfa",
        "explain --user acme/ana --product demo --method GET --path /health",
        "explain --user acme/ana --product demo --method GET --path /nothing",
        "explain --user acme/ana --permission demo::things:purge --json",
    ]);
    golden("explain", &told);
}

#[test]
fn a_question_that_cannot_be_put_is_told() {
    let desk = Desk::good();
    desk.write(
        "store/schema.cedarschema",
        "entity A; action a appliesTo {principal: A, resource: A};",
    );
    desk.write("store/p.cedar", "permit (principal, action, resource);");
    desk.write("bad/demo/product.yaml", PRODUCT);
    desk.write(
        "bad/base.cedar",
        "permit (principal, action == Demo::Action::\"things:gte\", resource);",
    );
    let told = desk.run(&[
        "explain --permission demo::things:get",
        "explain --user ana --permission demo::things:get",
        "explain --user acme/ana --group demo-viewer --permission demo::things:get",
        "explain --user acme/ana --permission demo::things:gt",
        "explain --user acme/ana --permission things",
        "explain --user acme/ana --product demo --method GET --path /v1/../things",
        "explain --user acme/ana --product dema --method GET --path /v1/things",
        "explain store --user acme/ana --permission demo::things:get",
        "who bad --permission demo::things:get",
        "diff policies nowhere",
        "diff policies main:policies",
    ]);
    // Git's own words differ by its version.
    let told: Vec<&str> =
        told.lines().map(|l| if l.contains("git says") { "(git says why)" } else { l }).collect();
    golden("explain-refused", &told.join("\n"));
}

#[test]
fn a_policy_that_fails_is_told_with_its_clause() {
    let failing = r#"
@id("early") permit (principal, action == Demo::Action::"things:purge", resource)
when { context has client && 9223372036854775807 + 1 == 0 };
"#;
    let desk =
        Desk::new(&[("policies/demo/product.yaml", PRODUCT), ("policies/base.cedar", failing)]);
    let told = desk.run(&[
        "explain --user acme/ana --permission demo::things:purge",
        "explain --user acme/ana --permission demo::things:purge --client 10.0.0.1",
        "who --permission demo::things:purge",
    ]);
    golden("explain-fails", &told);
}

#[test]
fn both_directions_are_searched() {
    let told = Desk::good().run(&[
        "who --permission demo::things:get",
        "who --permission demo::things:put",
        "who --permission demo::things:purge",
        "who --permission demo::things:purge --all",
        "what --group demo-editors",
        "what --user acme/ana --group demo-editors",
        "what --user acme/eve --group demo-editors",
        "what --role demo-viewer-role",
        "what --role demo-viewer-role --json",
    ]);
    golden("search", &told);
}

#[test]
fn two_revisions_are_compared() {
    let desk = Desk::good();
    desk.git(&["init", "-q", "-b", "main"]);
    desk.git(&["add", "."]);
    desk.git(&["commit", "-qm", "one"]);
    desk.write(
        "policies/demo/product.yaml",
        &PRODUCT
            .replace(
                "demo-viewer-role: {permissions: {things: [get]}}",
                "demo-viewer-role: {permissions: {things: [put]}}",
            )
            .replace("everyone: {others: [get]}\n", ""),
    );
    desk.write(
        "policies/base.cedar",
        &POLICIES
            .replace("unless { context.mfa }", "unless { context.amr.contains(\"mfa\") }")
            .replace("// no address, no purge", "")
            .replace("not-when-suspended", "suspended"),
    );
    desk.write("same/demo/product.yaml", PRODUCT);
    desk.write("same/base.cedar", &POLICIES.replace("// no address, no purge", ""));
    let told = desk.run(&[
        "diff main:policies policies",
        "diff main:policies policies --fail-on loss --json",
        "diff main:policies same --fail-on any",
        "diff main:policies main:policies --fail-on any",
    ]);
    golden("diff", &told);
}

const TABLE: &str = r#"principals:
  ana: {user: acme/ana, groups: [demo-editors], amr: [pwd]}
  ben: {user: acme/ben, groups: [demo-viewers], amr: [pwd, mfa]}
cases:
  - name: a password is not enough to put
    principals: [ana]
    allow: ["demo::things:get"]
    deny: ["demo::things:put"]
  - name: viewers look
    principals: [ben]
    allow: ["demo::things:get", "demo::others:get"]
    deny: ["demo::things:put"]
"#;

#[test]
fn a_changed_condition_is_told_by_the_requests_of_the_tests() {
    let desk = Desk::good();
    desk.write("policies/demo/tests/table.yaml", TABLE);
    desk.git(&["init", "-q", "-b", "main"]);
    desk.git(&["add", "."]);
    desk.git(&["commit", "-qm", "one"]);
    let everyone = "everyone: {others: [get]}\n";
    desk.write("policies/demo/product.yaml", &PRODUCT.replace(everyone, ""));
    let changed = POLICIES.replace("unless { context.mfa }", "when { context.amr.isEmpty() }");
    let changed = changed.replace("10.0.0.0/8", "10.0.0.0/16");
    desk.write("policies/base.cedar", &changed);
    // What only the later tests ask counts as well, and what both ask is told once.
    let more = r#"principals:
  ana: {user: acme/ana, groups: [demo-editors], amr: [pwd]}
  cyd: {user: acme/cyd, groups: [demo-editors], amr: [mfa]}
cases:
  - {name: asked twice, principals: [ana], allow: ["demo::things:put"]}
  - name: a second factor, from inside
    principals: [cyd]
    allow: ["demo::things:purge"]
    context: {client: 10.1.2.3}
"#;
    desk.write("policies/demo/tests/more.yaml", more);
    let told = desk
        .run(&["diff main:policies policies --fail-on gain", "diff main:policies policies --json"]);
    desk.write("policies/demo/tests/more.yaml", "cases: [{name: x, principals: [nobody]}]\n");
    desk.git(&["add", "."]);
    desk.git(&["commit", "-qm", "two"]);
    let broken = desk.run(&["diff main~1:policies main:policies"]);
    golden("diff-requests", &format!("{told}\n{broken}"));
}

/// The id of an object that git makes of a text.
fn object(desk: &Desk, args: &[&str], text: &[u8]) -> String {
    use std::io::Write;
    let mut git = Command::new("git")
        .args(args)
        .current_dir(desk.0.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    git.stdin.take().unwrap().write_all(text).unwrap();
    let output = git.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn no_name_of_git_is_an_option_or_leads_outside() {
    let desk = Desk::good();
    desk.write("-policies/demo/product.yaml", PRODUCT);
    desk.git(&["init", "-q", "-b", "main"]);
    desk.git(&["add", "."]);
    desk.git(&["commit", "-qm", "one"]);
    let blob = object(&desk, &["hash-object", "-w", "--stdin"], b"found\n");
    // `..` is a name that git itself would not make.
    let entry = |mode: &str, name: &str, id: &str| {
        let id = (0..id.len()).step_by(2).map(|n| u8::from_str_radix(&id[n..n + 2], 16).unwrap());
        [format!("{mode} {name}\0").as_bytes(), &id.collect::<Vec<_>>()].concat()
    };
    let tree = |entries: &[u8]| {
        object(&desk, &["hash-object", "-w", "-t", "tree", "--literally", "--stdin"], entries)
    };
    let outside = tree(&entry("100644", "found.cedar", &blob));
    let hostile = tree(&entry("40000", "..", &outside));
    let commit = object(
        &desk,
        &["-c", "user.name=a", "-c", "user.email=a@b", "commit-tree", &hostile],
        b"x",
    );
    let told = desk.run(&[&format!("diff {commit}: policies")]);
    assert!(told.contains("which lies outside of it") && told.ends_with("=> 2\n"), "{told}");
    for bad in [
        "main..main:policies",
        "--output=found:policies",
        "-- -p:policies",
        "--batch:policies",
        "^main:policies",
        "main:../policies",
        ":policies",
    ] {
        let told = desk.run(&[&format!("diff policies {bad}")]);
        assert!(told.ends_with("=> 2\n"), "{told}");
    }
    assert!(!desk.0.path().join("found").exists());
    // A path may begin with a dash: it stands behind its revision.
    assert!(desk.run(&["diff main:-policies main:-policies"]).ends_with("=> 0\n"));
}
