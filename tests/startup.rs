//! What stops a start: one clear sentence on stderr, a failure as exit code, nothing half-started.

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use crate::harness::{PATIENCE, Postern, command, copied, policies};

/// Start it, and return what it said before it gave up.
pub fn refused(
    folder: &Path,
    config: &str,
    policies: &Path,
    environment: &[(&str, &str)],
) -> String {
    let mut command = command(folder, config, policies);
    command.envs(environment.iter().copied()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let deadline = Instant::now() + PATIENCE;
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!("it started after all: {config} {environment:?}");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let output = child.wait_with_output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(output.stdout.is_empty(), "it greeted before it failed");
    told
}

#[test]
fn a_configuration_that_is_wrong_is_told_with_its_line() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for (config, environment, expected) in [
        ("[proxy]\nlistn = 'x'\n", None, "postern.toml:2:1: unknown field `listn`"),
        ("nonsense = 1\n", None, "postern.toml:1:1: unknown field `nonsense`"),
        (
            "[proxy]\ntrusted_proxies = ['0.0.0.0/0']\n",
            None,
            "postern.toml:2:19: `0.0.0.0/0` is everybody",
        ),
        ("[[product]]\nname = 'nothing'\n", None, "no manifest declares product `nothing`"),
        (
            "[[product]]\nname = 'midaz'\nroutes = 'v9'\n",
            None,
            "product `midaz` has no route set `v9`; it has v3.5, v3.8, v4",
        ),
        (
            "[[product]]\nname = 'midaz'\n[[product]]\nname = 'tracer'\n",
            None,
            "products `midaz` and `tracer` are both reached at any host",
        ),
        ("", Some(("POSTERN_NONSENSE", "1")), "`POSTERN_NONSENSE` sets nothing"),
        (
            "",
            Some(("POSTERN_PROXY_GATEWAY", taken.as_str())),
            "proxy.gateway): another process does",
        ),
        (
            "",
            Some(("POSTERN_IDENTITY_LISTEN", taken.as_str())),
            "identity.listen): another process does",
        ),
        (
            "",
            Some(("POSTERN_PROXY_HEALTH", "192.0.2.1:1")),
            "cannot listen on 192.0.2.1:1 (proxy.health)",
        ),
        (
            "",
            Some(("POSTERN_BOOTSTRAP_CLIENT_SECRET_FILE", "/nowhere")),
            "`bootstrap.client_secret_file` (/nowhere)",
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let environment: Vec<_> = environment.into_iter().collect();
        let told = refused(folder.path(), config, &policies(), &environment);
        assert!(
            told.starts_with("postern: ") && told.contains(expected),
            "{told}\nwants {expected}"
        );
        assert_eq!(told.lines().count(), 1, "{told}");
        assert!(!folder.path().join("data").exists(), "{expected}: something was made");
    }
}

#[test]
fn a_policy_that_is_wrong_is_told_with_its_line() {
    let whole = "roles: [midaz-viewer-role]";
    for (file, from, to, expected) in [
        (
            "midaz/product.yaml",
            whole,
            "roles: [midaz-reader-role]",
            "holds role `midaz-reader-role`, which no product declares",
        ),
        ("midaz/product.yaml", "routes: v4", "routes: v4\nrotues: v4", "product.yaml:"),
        (
            "midaz/product.yaml",
            "-> accounts:post",
            "-> accounts:pots",
            "product `midaz` declares no permission `accounts:pots`",
        ),
        (
            "midaz/new.cedar",
            "",
            "permit (principal, action == Midaz::Action::\"accounts:gte\", resource);",
            "new.cedar:1:30: ",
        ),
        ("midaz/new.cedar", "", "permit (principal,\n  action\n  resource);", "new.cedar:3:3: "),
        ("midaz/new.cedar", "", "forbid (principal, action, resource);", "also speaks of product"),
        (
            "base.cedar",
            "",
            "@id(\"role/x\")\nforbid (principal, action, resource);",
            "base.cedar:1:1: the id `role/x` looks like a generated policy's",
        ),
        (
            "base.cedar",
            "",
            "forbid (principal, action, resource) when { context.nothing };",
            "base.cedar:1:",
        ),
        (
            "links.json",
            "",
            "[{\"template_id\": \"none\", \"link_id\": \"x\", \"args\": {}}]",
            "links.json:1:2: link `x`: there is no template `none`",
        ),
        ("links.json", "", "{}", "no list of links"),
        ("bootstrap.yaml", "[admin-group]", "[no-such-group]", "no-such-group"),
        ("bootstrap.yaml", "\norganization:", "\norganisation:", "bootstrap.yaml:"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let policies = copied(folder.path());
        let path = policies.join(file);
        let text = if from.is_empty() {
            to.to_owned()
        } else {
            let text = fs::read_to_string(&path).unwrap();
            assert!(text.contains(from), "{file} has no `{from}`");
            text.replacen(from, to, 1)
        };
        fs::write(&path, text).unwrap();
        let told = refused(folder.path(), "", &policies, &[]);
        assert!(told.contains(expected), "{told}\nwants {expected}");
        let database = folder.path().join("data/postern.db");
        assert!(!database.exists(), "{file} {to}: a database was made");
    }
    let folder = tempfile::tempdir().unwrap();
    let told = refused(folder.path(), "", &folder.path().join("nowhere"), &[]);
    assert!(told.contains("nowhere: cannot read the policy folder"), "{told}");
}

#[tokio::test]
async fn data_that_does_not_fit_is_told_and_left_as_it_is() {
    let mut postern = Postern::with("").await;
    let mut other = Postern::with("").await;
    assert!(postern.stop("-TERM").await.success() && other.stop("-TERM").await.success());
    let good = postern.data.path().join("data");
    let key = other.data.path().join("data/master.key");
    let place = |change: &dyn Fn(&Path)| {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let copied = std::process::Command::new("cp").arg("-rp").arg(&good).arg(&data).status();
        assert!(copied.unwrap().success());
        change(&data);
        folder
    };
    let damaged =
        place(&|data| fs::write(data.join("postern.db"), b"this is no database at all").unwrap());
    let foreign = place(&|data| {
        fs::copy(&key, data.join("master.key")).unwrap();
    });
    let garbled = place(&|data| fs::write(data.join("master.key"), "short").unwrap());
    let open = place(&|data| {
        let file = data.join("master.key");
        fs::set_permissions(file, fs::Permissions::from_mode(0o644)).unwrap();
    });
    let lost = place(&|data| fs::remove_file(data.join("master.key")).unwrap());
    let file = tempfile::tempdir().unwrap();
    fs::write(file.path().join("data"), "a file").unwrap();
    for (folder, expected) in [
        (&damaged, "postern.db is damaged or no database"),
        (&foreign, "master.key does not fit"),
        (&garbled, "master.key"),
        (&open, "master.key"),
        (&lost, "master.key"),
        (&file, "cannot be written"),
    ] {
        let before = fs::read(folder.path().join("data/postern.db")).unwrap_or_default();
        let told = refused(folder.path(), "", &policies(), &[]);
        assert!(told.contains(expected), "{told}\nwants {expected}");
        assert_eq!(told.lines().count(), 1, "{told}");
        let after = fs::read(folder.path().join("data/postern.db")).unwrap_or_default();
        assert!(before == after, "{expected}: the database was touched");
    }
}

#[test]
fn a_check_starts_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = command(folder.path(), "[[product]]\nname = 'midaz'\n", &policies());
    let output = command.arg("--check-config").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "configuration and policies hold\n");
    assert!(!folder.path().join("data").exists());
}
