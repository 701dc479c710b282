//! `policy test` by the command line: tables that hold, that do not, and that cannot be read.

use std::{
    fs,
    io::{BufRead, BufReader, Lines},
    path::Path,
    process::{Child, ChildStdout, Command, Output, Stdio},
};

use tempfile::TempDir;

const PRODUCT: &str = "\
product: demo
resources:
  things: [get, put, purge]
roles:
  demo-editor-role: {permissions: {things: [get, put, purge]}}
  demo-viewer-role: {permissions: {things: [get]}}
groups:
  demo-editors: {roles: [demo-editor-role]}
  demo-viewers: {roles: [demo-viewer-role]}
routes: v1
route_sets: {v1: {table: ['GET /things/{id} -> things:get']}}
";

const POLICIES: &str = r#"@id("no-purging-without-a-second-factor")
forbid (principal, action == Demo::Action::"things:purge", resource) unless { context.mfa };

@id("machines-from-our-network")
forbid (principal is Application, action, resource)
unless { context has client && context.client.isInRange(ip("10.0.0.0/8")) };
"#;

const GOOD: &str = r#"principals:
  ana: {user: acme/ana, groups: [demo-editors], amr: [pwd, mfa]}
  ben: {user: acme/ben, groups: [demo-editors], amr: [pwd]}
  bot: {application: acme/bot, roles: [demo-editor-role]}
cases:
  - name: a second factor purges
    principals: [ana]
    allow: ["demo::things:purge"]
    context: {now: "2026-01-01T10:00:00Z", path: {id: abc}}
    policies: [role/demo-editor-role]
  - name: a password does not
    principals: [ben]
    allow: ["demo::things:put"]
    deny: ["demo::things:purge"]
  - name: a machine at home
    principals: [bot]
    allow: ["demo::things:get"]
    context: {client: 10.1.2.3}
  - name: a machine elsewhere
    principals: [bot]
    deny: ["demo::things:get"]
    context: {client: 192.0.2.1}
    policies: [machines-from-our-network]
matrices:
  - name: groups
    groups: [all]
    permissions: ["demo::things:get", "demo::things:put"]
    allow:
      demo-editors: ["demo::things:get", "demo::things:put"]
      demo-viewers: ["demo::things:get"]
"#;

const FAILING: &str = r#"principals:
  ana: {user: acme/ana, groups: [demo-viewers], amr: [mfa]}
cases:
  - name: a viewer <writes> & "reads"
    principals: [ana]
    allow:
      - demo::things:put
      - demo::things:get
    policies: [role/demo-editor-role]
matrices:
  - name: editors only look
    groups: [demo-editors]
    permissions: ["demo::*:*"]
    allow: {demo-editors: ["demo::things:get"]}
"#;

const BROKEN: &str = r#"principals:
  ana: {user: acme/ana, groups: [demo-viewer]}
  bot: {application: acme/bot, groups: [demo-viewers]}
  two: {user: acme/two, application: acme/two}
  bad: {user: nobody}
  ben: {user: acme/ben, auth_time: yesterday}
  eve: {user: acme/eve, groups: [demo-viewers]}
cases:
  - name: unknown names
    principals: [anna, eve]
    allow: ["demo::thing:get", "things:get", "other::*:*"]
    policies: [role/demo-editors-role]
    context: {path: {ident: x}}
  - name: bad context
    principals: [eve]
    deny: ["demo::things:get"]
    context: {client: here}
  - name: yes and no
    principals: [eve]
    allow: ["demo::*:*"]
    deny: ["demo::things:put"]
  - name: nothing
    principals: [eve]
matrices:
  - name: outside
    groups: [demo-viewers]
    permissions: ["demo::things:get"]
    allow: {demo-viewers: ["demo::things:put"], demo-editors: []}
"#;

/// A policy folder with one table, and `postern` run beside it.
struct Desk(TempDir);

impl Desk {
    fn new(table: &str) -> Self {
        let desk = Self(tempfile::tempdir().unwrap());
        desk.write("policies/demo/product.yaml", PRODUCT);
        desk.write("policies/demo/rules.cedar", POLICIES);
        desk.write("policies/demo/tests/table.yaml", table);
        desk
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn run(&self, args: &str) -> String {
        let output = postern(self.0.path(), args);
        let told = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
        format!("$ postern {args}\n{}{}=> {}\n", told[0], told[1], output.status.code().unwrap())
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.0.path().join(path)).unwrap()
    }
}

fn postern(folder: &Path, args: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_postern"))
        .args(args.split_whitespace())
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn golden(name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("golden");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(format!("policy-test-{name}"), text));
}

#[test]
fn a_table_that_holds() {
    let desk = Desk::new(GOOD);
    let told = [
        desk.run("policy test"),
        desk.run("policy test --coverage-required policies"),
        desk.run("policy check policies"),
    ];
    golden("good", &told.concat());
}

#[test]
fn answers_that_are_not_expected_are_told_with_their_line() {
    let desk = Desk::new(FAILING);
    let told = [
        desk.run("policy test --junit report.xml policies"),
        desk.run("policy test --json policies"),
        desk.read("report.xml"),
    ];
    golden("failing", &told.concat());
}

#[test]
fn what_no_case_reaches_is_told_and_may_fail() {
    let table = "principals: {ana: {user: acme/ana}}\n\
                 cases: [{name: c, principals: [ana], deny: ['demo::things:get']}]\n";
    let desk = Desk::new(table);
    let told =
        [desk.run("policy test policies"), desk.run("policy test --coverage-required policies")];
    golden("unreached", &told.concat());
}

#[test]
fn tables_that_cannot_be_read() {
    let desk = Desk::new(BROKEN);
    let mut told = desk.run("policy test policies");
    for table in ["", "cases: {}\n", "cases:\n  - name: a\n    principal: [x]\n", "a: [\n"] {
        desk.write("policies/demo/tests/table.yaml", table);
        told += &desk.run("policy test policies");
    }
    fs::remove_file(desk.0.path().join("policies/demo/tests/table.yaml")).unwrap();
    told += &desk.run("policy test policies");
    desk.write(
        "store/schema.cedarschema",
        "entity User; action view appliesTo {principal: User, resource: User};",
    );
    told += &desk.run("policy test store");
    golden("broken", &told);
}

/// The policies of the repository mean what their tables say, and each product has tables.
#[test]
fn the_tables_of_the_repository_hold() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = postern(root, "policy test --coverage-required policies");
    let told = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    assert!(output.status.success(), "{}{}", told[0], told[1]);
    for product in fs::read_dir(root.join("policies")).unwrap() {
        let product = product.unwrap().path();
        if product.join("product.yaml").exists() {
            assert!(product.join("tests").is_dir(), "{} has no tables", product.display());
        }
    }
}

/// `postern policy test --watch`, and what it prints.
struct Watching {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Watching {
    fn at(desk: &Desk) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_postern"))
            .args(["policy", "test", "--watch", "policies"])
            .current_dir(desk.0.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// What it tells of one run, to its last line.
    fn next(&mut self) -> String {
        let mut told = String::new();
        for line in &mut self.lines {
            let line = line.unwrap();
            told.push_str(&line);
            told.push('\n');
            if line.starts_with("the tables ") {
                return told;
            }
        }
        panic!("it ended:\n{told}");
    }

    fn stop(mut self, signal: &str) -> Option<i32> {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
        assert!(self.lines.next().is_none(), "nothing is told at the end");
        self.child.wait().unwrap().code()
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        // It has ended already, unless the test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_watched_folder_is_tested_again_when_it_changes() {
    let desk = Desk::new(GOOD);
    let mut watching = Watching::at(&desk);
    let mut told = vec![watching.next()];
    // A condition that is gone, one more line above what fails still, a policy that does not parse,
    // and all of it back.
    desk.write("policies/demo/rules.cedar", &POLICIES.replace("unless { context.mfa }", ""));
    told.push(watching.next());
    desk.write("policies/demo/tests/table.yaml", &format!("# One line more.\n{GOOD}"));
    told.push(watching.next());
    desk.write("policies/demo/rules.cedar", &POLICIES.replace(", resource", " resource"));
    told.push(watching.next());
    desk.write("policies/demo/rules.cedar", POLICIES);
    told.push(watching.next());
    desk.write("policies/demo/tests/more.yaml", "cases: []\n");
    told.push(watching.next());
    golden("watch", &told.concat());
    assert_eq!(watching.stop("-INT"), Some(0));
    let mut watching = Watching::at(&desk);
    watching.next();
    assert_eq!(watching.stop("-TERM"), Some(0));
    let told = desk.run("policy test --watch nowhere");
    assert!(
        told.contains("only a policy folder can be watched") && told.ends_with("=> 2\n"),
        "{told}"
    );
}
