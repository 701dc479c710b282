//! The convention of `import openapi`, held against the routes of the known products: a document
//! with their paths and methods and nothing else, and how many of its rows come out right.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends there")]

use std::{collections::BTreeMap, path::Path};

use policy::{
    folder,
    import::{
        Source,
        openapi::{self, Options},
    },
    model::manifest::{Manifest, Need, Route},
};
use serde_json::{Map, json};

/// An `OpenAPI` document with these paths.
fn document(routes: &[Route]) -> String {
    let mut paths: BTreeMap<&str, Map<String, serde_json::Value>> = BTreeMap::new();
    for route in routes {
        let method = route.method.as_deref().unwrap().to_lowercase();
        paths.entry(&route.path).or_default().insert(method, json!({ "responses": {} }));
    }
    json!({ "openapi": "3.1.0", "info": { "title": "T", "version": "1" }, "paths": paths })
        .to_string()
}

fn imported(product: &str, routes: &[Route]) -> Manifest {
    let source = Source { file: "openapi.json".into(), text: document(routes) };
    let options = Options { product: product.parse().unwrap(), roles: true, set: None };
    let imported = openapi::import(&source, &options).unwrap();
    assert!(imported.left_out.is_empty(), "{:?}", imported.left_out);
    let (file, text) = imported.files.first_key_value().unwrap();
    Manifest::parse(file, text).unwrap()
}

#[test]
fn the_convention_fits_the_known_products() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies");
    let catalog = folder::read(&folder).unwrap();
    let (mut right, mut all) = (0, 0);
    let mut wrong = Vec::new();
    // Matcher guards its routes in words that its paths do not have, and Postern's own service by what
    // each administers, as `applications` for all that belongs to one; no convention finds them.
    let told = ["matcher", "plugin-identity"];
    let guessable = catalog.products.iter().filter(|m| !told.contains(&m.product.as_str()));
    for manifest in guessable {
        for (set, table) in &manifest.route_sets {
            let rows: Vec<Route> = (table.table.iter())
                .filter(|route| {
                    route.method.is_some() && matches!(route.needs, Need::Permissions(_))
                })
                .cloned()
                .collect();
            if rows.is_empty() {
                continue;
            }
            let made = imported(manifest.product.as_str(), &rows);
            let made = &made.route_sets["v1"].table;
            assert_eq!(made.len(), rows.len());
            for row in &rows {
                let found = made.iter().find(|r| r.method == row.method && r.path == row.path);
                let (Need::Permissions(said), Need::Permissions(found)) =
                    (&row.needs, &found.unwrap().needs)
                else {
                    panic!("{row:?}");
                };
                all += 1;
                let (said, found) = (&said[0].permission, &found[0].permission);
                if said.resource == found.resource {
                    right += 1;
                } else {
                    let method = row.method.as_deref().unwrap();
                    wrong.push(format!(
                        "{}/{set}: {method} {}: {} for {}",
                        manifest.product, row.path, found.resource, said.resource
                    ));
                }
            }
        }
    }
    // What is wrong is said by `x-postern-resource` in a real document. A change of the convention
    // may only make this better.
    println!("{right} of {all}:\n{}", wrong.join("\n"));
    assert!(right * 100 >= all * 95, "{right} of {all}:\n{}", wrong.join("\n"));
}
