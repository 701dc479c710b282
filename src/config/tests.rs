use super::{
    variables::{KEYS, Kind, PREFIX},
    *,
};

fn load(text: &str, environment: &[(&str, &str)]) -> Result<Config> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("postern.toml");
    fs::write(&file, text).unwrap();
    let environment = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    Config::load(Some(&file), environment)
}

#[test]
fn the_environment_wins_over_the_file() {
    let config = load(
        "data_dir = 'a'\n[proxy]\nlisten = '127.0.0.1:1'\n[[product]]\nname = 'midaz'\n",
        &[
            ("POSTERN_DATA_DIR", "b"),
            ("POSTERN_PROXY_LISTEN", "127.0.0.1:0"),
            ("POSTERN_PROXY_TRUSTED_PROXIES", "127.0.0.1, 10.0.0.0/8"),
            ("POSTERN_PRODUCT_UPSTREAM", "http://127.0.0.1:3000"),
            ("POSTERN_IDENTITY_RETRIEVABLE_SECRETS", "true"),
            ("POSTERN_PORT_4000_TCP", "tcp://10.0.0.1:4000"),
            ("POSTERN_SERVICE_HOST", "10.0.0.1"),
            ("PATH", "x"),
        ],
    )
    .unwrap();
    assert_eq!(config.data_dir, Path::new("b"));
    assert_eq!(config.proxy.listen.port(), 0);
    assert_eq!(config.proxy.trusted_proxies.0.len(), 2);
    assert_eq!(config.products[0].upstream[0].port, 3000);
    assert!(config.identity.retrievable_secrets);
}

#[test]
fn what_is_wrong_is_told_in_one_line_with_its_place() {
    for (text, environment, expected) in [
        ("[proxy]\nlistn = 1\n", None, "postern.toml:2:1: unknown field `listn`"),
        ("[proxy]\nlisten = 'x'\n", None, "postern.toml:2:10: "),
        (
            "[proxy]\ntrusted_proxies = ['0.0.0.0/0']\n",
            None,
            "postern.toml:2:19: `0.0.0.0/0` is everybody",
        ),
        (
            "[[product]]\nname = 'midaz'\nupstream = 'midaz:80'\n",
            None,
            "postern.toml:3:12: `midaz:80` is no upstream",
        ),
        ("[[product]]\n", None, "postern.toml:1:1: missing field `name`"),
        ("a = ", None, "postern.toml:1:"),
        (
            "[proxy]\nmax_connections = 0\n",
            None,
            "`proxy.max_connections` is 0, and must be 1 at least",
        ),
        ("[identity]\nissuer = 'x'\n", None, "`identity.issuer` cannot be used"),
        ("[decisions]\nerrors = 'skip'\n", None, "postern.toml:2:10: unknown variant `skip`"),
        (
            "[proxy]\nidentity = '127.0.0.1:4001'\n",
            None,
            "postern.toml:2:12: `127.0.0.1:4001` is no upstream",
        ),
        (
            "",
            Some(("POSTERN_PRODUCT_UPSTREAM", "x")),
            "the environment variable `POSTERN_PRODUCT_UPSTREAM`: `x` is no upstream",
        ),
        ("", Some(("POSTERN_PROXY_LISTN", "x")), "`POSTERN_PROXY_LISTN` sets nothing"),
        (
            "",
            Some(("POSTERN_PROXY_LISTEN", "x")),
            "the environment variable `POSTERN_PROXY_LISTEN`: ",
        ),
        (
            "",
            Some(("POSTERN_PROXY_SHUTDOWN_SECS", "x")),
            "`POSTERN_PROXY_SHUTDOWN_SECS` is no number",
        ),
        (
            "",
            Some(("POSTERN_LOG_FORMAT", "xml")),
            "the environment variable `POSTERN_LOG_FORMAT`: unknown variant `xml`",
        ),
    ] {
        let environment: Vec<_> = environment.into_iter().collect();
        let told = format!("{:#}", load(text, &environment).unwrap_err());
        assert!(told.contains(expected), "{told}\nwants {expected}");
        assert!(!told.contains('\n'), "{told}");
    }
}

#[test]
fn what_a_policy_that_fails_does_is_told_to_both_services() {
    let config = load("", &[("POSTERN_DECISIONS_ERRORS", "cedar")]).unwrap();
    assert_eq!((config.proxy.on_error, config.identity.on_error), (OnError::Cedar, OnError::Cedar));
    let config = load("", &[]).unwrap();
    assert_eq!((config.proxy.on_error, config.identity.on_error), (OnError::Deny, OnError::Deny));
}

#[test]
fn what_serve_would_pass_over_is_refused() {
    for key in ["issuer.url", "issuer.jwks_url", "proxy.identity"] {
        let variable = format!("{PREFIX}{}", key.replace('.', "_").to_uppercase());
        let config = load("", &[(&variable, "http://a")]).unwrap();
        let told = config.check_serve().unwrap_err().to_string();
        assert!(told.contains(&format!("`{key}` is for `postern proxy`")), "{told}");
    }
    load("", &[]).unwrap().check_serve().unwrap();
}

#[test]
fn every_key_can_be_set_by_a_variable() {
    for (key, kind) in KEYS {
        let key = *key;
        let value = match kind {
            Kind::Number if key == "log.decisions.buffer_bytes" => "65536",
            Kind::Number if key == "traces.timeout_secs" => "10",
            Kind::Number => "2000",
            Kind::Share => "0.5",
            Kind::Flag => "true",
            _ if key.ends_with("listen")
                || key.ends_with("gateway")
                || key.ends_with("ext_authz")
                || key.ends_with("health") =>
            {
                "127.0.0.1:0"
            }
            _ if key == "log.format" => "json",
            _ if key == "log.decisions.to" => "stderr",
            _ if key == "log.decisions.mask" => "subject, client",
            _ if key == "log.decisions.mask_key" => "sixteen bytes or more",
            _ if key == "identity.signing_algorithm" => "ES256",
            _ if key == "proxy.sign_in.keys" => "0f, 0e",
            _ if key == "product.upstream" => "http://a",
            _ if key == "product.prefix" => "/a",
            _ if key == "product.mode" => "monitor",
            _ if key == "product.unmatched" => "authenticated",
            _ if key == "product.encoded_slash" => "keep",
            _ if key == "product.reasons" => "id",
            _ if key.ends_with(".trusted_proxies") || key.ends_with("_networks") => "127.0.0.1",
            _ if key == "proxy.identity_names" => "postern, remote",
            _ if key == "proxy.aliases" => "authelia, oauth2-proxy",
            _ if key == "identity.issuer" || key == "authzen.url" || key == "traces.endpoint" => {
                "https://a"
            }
            _ if key == "proxy.identity" => "http://a:4001",
            _ if key == "decisions.errors" => "cedar",
            _ => "a",
        };
        let variable = format!("{PREFIX}{}", key.replace('.', "_").to_uppercase());
        let text = "[[product]]\nname = 'midaz'\n";
        if let Err(error) = load(text, &[(&variable, value)]) {
            panic!("{variable}: {error:#}");
        }
    }
}

#[test]
fn a_secret_is_never_shown() {
    let secret = format!("s{}", std::process::id());
    let config = load("", &[("POSTERN_BOOTSTRAP_ADMIN_PASSWORD", &secret)]).unwrap();
    assert!(!format!("{config:?}").contains(&secret));
}
