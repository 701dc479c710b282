//! A policy folder to start from, and the JSON Schemas by which editors check its YAML.
//!
//! What it makes holds, is laid out, and says by comments what to change.

use crate::{model::name::ProductName, schema};

/// What an editor checks a `product.yaml` by.
pub const MANIFEST_SCHEMA: &str = include_str!("../schemas/product.schema.json");

/// What an editor checks a decision table by.
pub const TABLE_SCHEMA: &str = include_str!("../schemas/table.schema.json");

/// A file of a new folder: its path below the folder, and its text.
pub type File = (&'static str, String);

/// A product with a manifest, a conditional policy, and a decision table that covers it.
///
/// # Errors
///
/// When policies know something else by that name.
pub fn product(name: &ProductName) -> Result<Vec<File>, String> {
    if schema::RESERVED.contains(&schema::namespace(name).as_str()) {
        return Err(format!("`{name}` has another meaning in policies; choose another name"));
    }
    let title = title(name);
    let fill = |text: &str| {
        text.replace("{product}", name.as_str())
            .replace("{title}", &title)
            .replace("{namespace}", &schema::namespace(name))
    };
    Ok(vec![
        ("product.yaml", fill(include_str!("start/product.yaml"))),
        ("approvals.cedar", fill(include_str!("start/approvals.cedar"))),
        ("tests/approvals.yaml", fill(include_str!("start/approvals.yaml"))),
        ("schemas/product.schema.json", MANIFEST_SCHEMA.to_owned()),
        ("schemas/table.schema.json", TABLE_SCHEMA.to_owned()),
    ])
}

/// A plain Cedar store.
pub fn plain() -> Vec<File> {
    vec![
        ("schema.cedarschema", include_str!("start/schema.cedarschema").to_owned()),
        ("documents.cedar", include_str!("start/documents.cedar").to_owned()),
        ("entities.json", include_str!("start/entities.json").to_owned()),
    ]
}

/// `plugin-crm` is `Plugin crm` to people.
fn title(name: &ProductName) -> String {
    let words = name.as_str().replace('-', " ");
    let words = words.trim();
    match words.split_at_checked(1) {
        Some((first, rest)) => format!("{}{rest}", first.to_ascii_uppercase()),
        None => words.to_owned(),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::{fs, path::Path};

    use serde_json::Value;

    use super::*;
    use crate::model::manifest::Manifest;

    /// What a schema has against a text.
    pub(crate) fn wrong(schema: &str, yaml: &str) -> Vec<String> {
        let schema: Value = serde_json::from_str(schema).unwrap();
        let instance: Value = serde_saphyr::from_str(yaml).unwrap();
        let validator = jsonschema::validator_for(&schema).unwrap();
        validator.iter_errors(&instance).map(|error| error.to_string()).collect()
    }

    #[test]
    fn every_manifest_here_is_what_the_schema_says() {
        let policies = Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies");
        let mut seen = 0;
        for entry in fs::read_dir(policies).unwrap() {
            let path = entry.unwrap().path().join("product.yaml");
            let Ok(text) = fs::read_to_string(&path) else { continue };
            let wrong = wrong(MANIFEST_SCHEMA, &text);
            assert!(wrong.is_empty(), "{}: {wrong:?}", path.display());
            seen += 1;
        }
        assert!(seen >= 11, "{seen}");
    }

    #[test]
    fn what_the_reader_of_manifests_refuses_the_schema_does_too() {
        let (_, good) = &product(&"billing".parse().unwrap()).unwrap()[0];
        assert!(wrong(MANIFEST_SCHEMA, good).is_empty());
        for (from, to) in [
            ("product: billing", "product: Billing"),
            ("product: billing", "produkt: billing"),
            ("title: Billing\n", "isolated: maybe\n"),
            ("title: Billing\n", "unknown: 1\n"),
            ("[read, write, approve]", "[]"),
            ("[read, write, approve]", "[read, 'wri te']"),
            ("[read, write, approve]", "read"),
            ("    permissions:\n      invoices: [read, write]", "    grants: {}"),
            ("GET  /invoices/{id}         -> invoices:read", "GET /invoices/{id} invoices:read"),
            ("GET  /invoices/{id} ", "get /invoices/{id} "),
            ("-> invoices:approve", "-> invoices"),
            ("applications: [", "applications: ['a b', "),
        ] {
            let broken = good.replacen(from, to, 1);
            assert_ne!(&broken, good, "`{from}` is not there");
            assert!(!wrong(MANIFEST_SCHEMA, &broken).is_empty(), "`{to}` passes the schema");
            assert!(Manifest::parse("m", &broken).is_err(), "`{to}` passes the reader");
        }
    }
}
