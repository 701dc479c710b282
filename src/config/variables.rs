//! Keys of the configuration that stand in the environment.

use anyhow::{Context, Result, anyhow, bail};
use serde::Deserialize;
use toml::{Table, Value};

use super::{Config, one_line};

/// What a variable's text is read as.
#[derive(Clone, Copy)]
pub enum Kind {
    Text,
    Number,
    /// With a point, perhaps.
    Share,
    Flag,
    /// Words with commas between.
    List,
}

/// Every key that a variable can set.
pub const KEYS: &[(&str, Kind)] = &[
    ("data_dir", Kind::Text),
    ("policies", Kind::Text),
    ("log.filter", Kind::Text),
    ("log.format", Kind::Text),
    ("log.decisions.to", Kind::Text),
    ("log.decisions.path", Kind::Text),
    ("log.decisions.sample_allows", Kind::Share),
    ("log.decisions.mask", Kind::List),
    ("log.decisions.mask_key", Kind::Text),
    ("log.decisions.mask_key_file", Kind::Text),
    ("log.decisions.access", Kind::Flag),
    ("log.decisions.buffer_bytes", Kind::Number),
    ("traces.endpoint", Kind::Text),
    ("traces.headers_file", Kind::Text),
    ("traces.sample", Kind::Share),
    ("traces.service_name", Kind::Text),
    ("traces.timeout_secs", Kind::Number),
    ("database.url", Kind::Text),
    ("database.url_file", Kind::Text),
    ("database.password", Kind::Text),
    ("database.password_file", Kind::Text),
    ("database.max_connections", Kind::Number),
    ("cache.url", Kind::Text),
    ("cache.url_file", Kind::Text),
    ("master_key.file", Kind::Text),
    ("master_key.value", Kind::Text),
    ("master_key.command", Kind::List),
    ("master_key.timeout_secs", Kind::Number),
    ("bootstrap.admin_password", Kind::Text),
    ("bootstrap.admin_password_file", Kind::Text),
    ("bootstrap.client_id", Kind::Text),
    ("bootstrap.client_secret", Kind::Text),
    ("bootstrap.client_secret_file", Kind::Text),
    ("decisions.errors", Kind::Text),
    ("issuer.url", Kind::Text),
    ("issuer.audience", Kind::Text),
    ("issuer.jwks", Kind::Text),
    ("issuer.jwks_url", Kind::Text),
    ("issuer.refresh_secs", Kind::Number),
    ("feed.url", Kind::Text),
    ("feed.client_id", Kind::Text),
    ("feed.client_secret", Kind::Text),
    ("feed.client_secret_file", Kind::Text),
    ("feed.keys", Kind::List),
    ("feed.spool", Kind::Text),
    ("feed.max_staleness_secs", Kind::Number),
    ("identity.listen", Kind::Text),
    ("identity.issuer", Kind::Text),
    ("identity.audience", Kind::Text),
    ("identity.access_token_secs", Kind::Number),
    ("identity.refresh_token_secs", Kind::Number),
    ("identity.longest_access_token_secs", Kind::Number),
    ("identity.longest_refresh_token_secs", Kind::Number),
    ("identity.max_own_roles", Kind::Number),
    ("identity.max_own_groups", Kind::Number),
    ("identity.signing_algorithm", Kind::Text),
    ("identity.retrievable_secrets", Kind::Flag),
    ("identity.audit_retention_days", Kind::Number),
    ("identity.max_body_bytes", Kind::Number),
    ("identity.max_connections", Kind::Number),
    ("identity.read_timeout_secs", Kind::Number),
    ("identity.shutdown_timeout_secs", Kind::Number),
    ("identity.outbound_networks", Kind::List),
    ("identity.trusted_proxies", Kind::List),
    ("identity.breached_passwords_file", Kind::Text),
    ("proxy.listen", Kind::Text),
    ("proxy.gateway", Kind::Text),
    ("proxy.ext_authz", Kind::Text),
    ("proxy.health", Kind::Text),
    ("proxy.trusted_proxies", Kind::List),
    ("proxy.identity_headers", Kind::List),
    ("proxy.identity_names", Kind::List),
    ("proxy.aliases", Kind::List),
    ("proxy.shadow.policies", Kind::Text),
    ("proxy.sign_in.keys", Kind::List),
    ("proxy.sign_in.keys_file", Kind::Text),
    ("proxy.remembered_tokens", Kind::Number),
    ("proxy.max_header_bytes", Kind::Number),
    ("proxy.max_body_bytes", Kind::Number),
    ("proxy.max_connections", Kind::Number),
    ("proxy.shared_rates", Kind::Flag),
    ("proxy.shutdown_secs", Kind::Number),
    ("proxy.identity", Kind::Text),
    ("authzen.url", Kind::Text),
    ("authzen.subject_tokens", Kind::Flag),
    ("authzen.max_evaluations", Kind::Number),
    ("authzen.page_size", Kind::Number),
    ("product.name", Kind::Text),
    ("product.upstream", Kind::List),
    ("product.hosts", Kind::List),
    ("product.prefix", Kind::Text),
    ("product.routes", Kind::Text),
    ("product.mode", Kind::Text),
    ("product.unmatched", Kind::Text),
    ("product.encoded_slash", Kind::Text),
    ("product.h2c", Kind::Flag),
    ("product.reasons", Kind::Text),
    ("product.assertion", Kind::Flag),
];

pub const PREFIX: &str = "POSTERN_";

/// What Kubernetes sets for every pod beside a Service named `postern`. None of our keys starts so.
const KUBERNETES: [&str; 2] = ["PORT", "SERVICE_"];

/// Put what the environment says over what the file does.
///
/// # Errors
///
/// One sentence with the variable that is at fault.
pub fn overlay(
    table: &mut Table,
    environment: impl Iterator<Item = (String, String)>,
) -> Result<()> {
    for (variable, text) in environment {
        let Some(name) = variable.strip_prefix(PREFIX) else { continue };
        if KUBERNETES.iter().any(|prefix| name.starts_with(prefix)) {
            continue;
        }
        set(table, &variable, name, &text)?;
    }
    Ok(())
}

fn set(table: &mut Table, variable: &str, name: &str, text: &str) -> Result<()> {
    let found = KEYS.iter().find(|(key, _)| name == key.replace('.', "_").to_uppercase());
    let Some((key, kind)) = found else {
        bail!("the environment variable `{variable}` sets nothing; mend its name or remove it");
    };
    let wrong = |what: &str| anyhow!("the environment variable `{variable}` is no {what}");
    let value = match kind {
        Kind::Text => Value::String(text.to_owned()),
        Kind::Number => Value::Integer(text.trim().parse().map_err(|_| wrong("number"))?),
        Kind::Share => Value::Float(text.trim().parse().map_err(|_| wrong("number"))?),
        Kind::Flag => Value::Boolean(text.trim().parse().map_err(|_| wrong("`true` or `false`"))?),
        Kind::List => Value::Array(
            text.split(',')
                .map(str::trim)
                .filter(|word| !word.is_empty())
                .map(|word| Value::String(word.to_owned()))
                .collect(),
        ),
    };
    // On its own first, so that a complaint names the variable.
    let mut alone = Table::new();
    put(&mut alone, key, value.clone())?;
    if key.starts_with("product.") && *key != "product.name" {
        put(&mut alone, "product.name", Value::String("any".to_owned()))?;
    }
    Config::deserialize(alone).map_err(|error| {
        anyhow!("the environment variable `{variable}`: {}", one_line(error.message()))
    })?;
    put(table, key, value)
}

/// `a.b`: the member `b` of the table `a`. `product.b` is that of the one product.
fn put(table: &mut Table, key: &str, value: Value) -> Result<()> {
    let Some((section, key)) = key.split_once('.') else {
        table.insert(key.to_owned(), value);
        return Ok(());
    };
    let one_table = || Value::Table(Table::new());
    let inner = if section == "product" {
        let list = table.entry(section).or_insert_with(|| Value::Array(vec![one_table()]));
        match list.as_array_mut().map(Vec::as_mut_slice) {
            Some([product]) => Some(product),
            _ => bail!("`POSTERN_PRODUCT_…` is for one product; the file has several"),
        }
    } else {
        if section == "issuer" && table.get(section).is_some_and(Value::is_array) {
            bail!(
                "`POSTERN_ISSUER_…` is for the section `[issuer]`; the file has the list `[[issuer]]`"
            );
        }
        Some(table.entry(section).or_insert_with(one_table))
    };
    let inner = inner.and_then(Value::as_table_mut);
    let inner = inner.with_context(|| format!("`{section}` is no section"))?;
    put(inner, key, value)
}

/// The environment of this process.
#[expect(clippy::disallowed_methods, reason = "this is where the environment is read")]
pub fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars()
}

/// How this process was called: the program, and its arguments.
pub fn called() -> impl Iterator<Item = std::ffi::OsString> {
    std::env::args_os()
}
