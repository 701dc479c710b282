//! The author's tools by the command line: `policy check`, `fmt` and `new`, and what is made from the
//! command line itself.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    path::Path,
    process::{Command, Output, Stdio},
    thread,
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
  demo_viewer_role: {permissions: {things: [get]}}
groups: {demo-editors: {roles: [demo-editor-role]}}
";

/// A folder of these files, and `postern` run in it.
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
            .args(args.split_whitespace())
            .current_dir(self.0.path())
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// What it printed, and how it ended.
    fn run(&self, args: &str) -> String {
        let output = self.output(args);
        let told = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
        format!("$ postern {args}\n{}{}=> {}\n", told[0], told[1], output.status.code().unwrap())
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.0.path().join(path)).unwrap()
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
fn what_holds_and_cannot_be_meant_is_told_with_its_line() {
    let desk = Desk::new(&[
        ("policies/demo/product.yaml", PRODUCT),
        (
            "policies/base.cedar",
            r#"// Of all products; with a semicolon.
forbid (principal, action, resource) unless { context.mfa };

@id("no-purging")
forbid (principal, action == Demo::Action::"things:purge", resource);

  @id("some-purging") @reson("no")
  permit (principal in Role::"demo-editr-role", action == Demo::Action::"things:purge", resource);

@id("viewers-get")
permit (principal in Role::"demo-viewer-role", action == Demo::Action::"things:get", resource)
when { context.mfa };
"#,
        ),
    ]);
    let told = [
        "policy check",
        "policy check --json policies",
        "policy check --deny-warnings policies/demo",
    ];
    golden("check-lints", &told.map(|args| desk.run(args)).join("\n"));
}

#[test]
fn everything_that_is_wrong_is_told_in_one_go() {
    let desk = Desk::new(&[
        ("a/demo/product.yaml", PRODUCT),
        ("a/demo/one.cedar", "@id(\"x\")\npermit (principal,\n\taction\n\tresource);\n"),
        (
            "a/demo/two.cedar",
            "@id(\"x\") permit (principal, action == Demo::Action::\"things:gte\", resource);\n\
             @id(\"y\") permit (principal == ?principal, action, resource);\n\
             @id(\"x\") forbid (principal, action in [], resource);\n\
             @id(\"role/z\") forbid (principal, action, resource);\n",
        ),
        (
            "a/other/product.yaml",
            "product: other\nresources: {things: [get]}\ngroups: {g: {roles: [nobody]}}\n",
        ),
        ("b/one/product.yaml", "product: One\nresources: {things: []}\n"),
        ("b/two/product.yaml", "product: two\nresources: [\n"),
        ("b/two/x.cedar", "permit (principal, action, resource)\n"),
        ("store/schema.cedarschema", "entity User;\nentity Doc\naction read;\n"),
        ("store/p.cedar", "permit (principal, action, resource) when {\n"),
        ("store/entities.json", "[]"),
        (
            "store2/schema.cedarschema",
            "entity User;\naction read appliesTo { principal: User, resource: User };\n",
        ),
        ("store2/p.cedar", "@id(\"x\") permit (principal is Usr, action, resource);\n"),
        (
            "store2/entities.json",
            "[{\"uid\": {\"type\": \"Usr\", \"id\": \"a\"}, \"attrs\": {}, \"parents\": []}]",
        ),
        ("left-out/one/product.yaml", PRODUCT),
        ("left-out/one/empty.cedar", " \n"),
        ("left-out/two/stray.cedar", "forbid (principal, action, resource);\n"),
        ("snapshot.json", "{}"),
    ]);
    let told = ["a", "b", "left-out", "store", "store2", "snapshot.json", "nowhere"]
        .map(|w| desk.run(&format!("policy check {w}")));
    golden("check-broken", &told.join("\n"));
    let json: serde_json::Value =
        serde_json::from_slice(&desk.output("policy check --json a").stdout).unwrap();
    let findings = json.as_array().unwrap();
    assert!(findings.iter().all(|f| f["code"].is_string() && f["line"].is_u64()), "{json}");
    // Whatever opens a folder refuses it.
    for args in ["what left-out --role demo-viewer-role", "test left-out", "diff left-out left-out"]
    {
        let output = desk.output(&format!("policy {args}"));
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(told.contains("stray.cedar: no `product.yaml` stands beside it"), "{told}");
    }
}

#[test]
fn the_policies_of_this_repository_hold_without_a_warning() {
    let policies = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies");
    let desk = Desk::new(&[]);
    let told = desk.run(&format!("policy check --deny-warnings {}", policies.display()));
    assert!(told.ends_with("=> 0\n") && !told.contains("[warning]"), "{told}");
    let told = desk.run(&format!("policy fmt --check {}", policies.display()));
    assert!(told.ends_with("=> 0\n"), "{told}");
}

#[test]
fn files_are_laid_out_whole_or_not_at_all() {
    let comments = "// nothing yet\n\n//   @id(\"x\")\n";
    let files = [
        ("p/base.cedar", comments),
        (
            "p/demo/a.cedar",
            "// head\n\n// why\n@id(\"a\") permit(principal,action,resource)// here\nwhen{context.mfa};\n",
        ),
        ("p/demo/b.cedar", "@id(\"b\")\nforbid (principal, action, resource);\n"),
        ("p/demo/c.cedar", "forbid (principal, action resource);\n"),
        ("p/.hidden/d.cedar", "forbid(principal,action,resource);"),
    ];
    let desk = Desk::new(&files);
    let checked = desk.run("policy fmt --check p");
    for (path, text) in files {
        assert_eq!(desk.read(path), text, "--check wrote {path}");
    }
    let a = desk.0.path().join("p/demo/a.cedar");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(&a, fs::Permissions::from_mode(0o640)).unwrap();
    }
    let done = desk.run("policy fmt p");
    let again = desk.run("policy fmt --check p/demo/a.cedar p/base.cedar");
    golden("fmt", &format!("{checked}\n{done}\n{again}\n{}", desk.read("p/demo/a.cedar")));
    for (path, text) in [files[0], files[3], files[4]] {
        assert_eq!(desk.read(path), text, "{path}");
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(fs::metadata(&a).unwrap().permissions().mode() & 0o777, 0o640);
    }
    assert_eq!(fs::read_dir(desk.0.path().join("p/demo")).unwrap().count(), 3, "left behind");
}

#[test]
fn a_new_folder_holds_and_is_laid_out() {
    let desk = Desk::new(&[("full/notes.txt", ""), ("file", "")]);
    for (make, folder) in [
        ("policy new billing", "billing"),
        ("policy new --product plugin-crm crm", "crm"),
        ("policy new --plain documents", "documents"),
    ] {
        let told = desk.run(make);
        assert!(told.ends_with("=> 0\n"), "{told}");
        for args in ["policy check --deny-warnings", "policy fmt --check"] {
            let told = desk.run(&format!("{args} {folder}"));
            assert!(told.ends_with("=> 0\n") && !told.contains('['), "{told}");
        }
    }
    for folder in ["billing", "crm"] {
        let told = desk.run(&format!("policy test --coverage-required {folder}"));
        assert!(told.ends_with("=> 0\n") && !told.contains("half covered"), "{told}");
        for (home, file) in [("", "product.yaml"), ("tests/", "approvals.yaml")] {
            let text = desk.read(&format!("{folder}/{home}{file}"));
            let first = text.lines().next().unwrap();
            let schema = first.strip_prefix("# yaml-language-server: $schema=").unwrap();
            assert!(desk.read(&format!("{folder}/{home}{schema}")).starts_with('{'));
        }
    }
    let refused = ["billing", "full", "file", "Capital", "user"];
    golden("new", &refused.map(|folder| desk.run(&format!("policy new {folder}"))).join("\n"));
}

/// Answer each connection alike, until the test ends.
fn serve(status: &'static str, body: String) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let (mut head, mut byte) = (Vec::new(), [0]);
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
                head.push(byte[0]);
            }
            let asked = String::from_utf8_lossy(&head).into_owned();
            let (status, body) = if asked.starts_with("GET /internal/v1/snapshot HTTP/1.1\r\n") {
                (status, body.as_str())
            } else {
                ("400 Bad Request", "")
            };
            let length = body.len();
            write!(
                stream,
                "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
            )
            .unwrap();
        }
    });
    address
}

#[test]
fn a_running_postern_is_looked_at_by_its_address() {
    let manifest = policy::model::manifest::Manifest::parse("demo/product.yaml", PRODUCT).unwrap();
    let snapshot = serde_json::to_string(&policy::snapshot::Snapshot {
        revision: policy::model::decision::Revision(7),
        products: vec![manifest.into()],
        roles: Vec::new(),
        groups: Vec::new(),
        policies: vec![policy::snapshot::PolicyText {
            file: "base.cedar".into(),
            product: None,
            text: "forbid (principal is User, action, resource) unless { context.mfa };\n".into(),
        }],
        issuer: None,
        guests: Vec::new(),
    });
    let desk = Desk::new(&[("policies/demo/product.yaml", PRODUCT)]);
    let check = |address: SocketAddr| {
        let told = desk.run(&format!("policy check --url http://{address}/"));
        told.replace(&address.to_string(), "<address>")
    };
    let gone = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    // As one of two that are compared, before or after.
    let compare = |args: &str| {
        let address = serve("200 OK", snapshot.as_ref().unwrap().clone()).to_string();
        desk.run(&args.replace("ADDRESS", &address)).replace(&address, "<address>")
    };
    let compared = [
        compare("policy diff --url http://ADDRESS policies"),
        compare("policy diff policies http://ADDRESS --fail-on loss"),
        compare("policy diff --url http://ADDRESS policies policies"),
        desk.run("policy diff policies"),
        desk.run("policy diff policies https://localhost:9090"),
    ];
    golden("diff-url", &compared.join("\n"));
    let told = [
        check(serve("200 OK", snapshot.unwrap())),
        check(serve("404 Not Found", String::new())),
        check(serve("503 Service Unavailable", String::new())),
        check(serve("500 Internal Server Error", String::new())),
        check(serve("200 OK", "<html>".to_owned())),
        check(gone),
        desk.run("policy check --url https://localhost:9090"),
        desk.run("policy check --url http://localhost:9090 policies"),
        Desk::new(&[]).run("policy check"),
    ];
    golden("check-url", &told.join("\n"));
}

#[test]
fn shells_and_man_know_every_command() {
    let desk = Desk::new(&[]);
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let told = desk.run(&format!("completions {shell}"));
        assert!(told.contains("deny-warnings") && told.ends_with("=> 0\n"), "{told}");
    }
    assert!(desk.run("man pages/man1").ends_with("=> 0\n"));
    let page = desk.read("pages/man1/postern-policy-check.1");
    assert!(page.contains("deny") && page.contains("Example"), "{page}");
    for command in ["postern", "postern-serve", "postern-policy", "postern-policy-fmt"] {
        desk.read(&format!("pages/man1/{command}.1"));
    }
}
