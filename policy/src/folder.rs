//! A catalog from a folder of files.
//!
//! ```text
//! policies/
//!   base.cedar            policies for every product
//!   midaz/product.yaml    a manifest
//!   midaz/*.cedar         policies beside it
//!   midaz/*links.json     links of templates, there or at the top
//!   midaz/tests/*.yaml    decision tables
//! ```
//!
//! A folder with one product may have its `product.yaml` at the top. One with a
//! `schema.cedarschema` and no product is a plain Cedar [`store`]: `*.cedar`, `*links.json`,
//! `entities.json`, `tests/*.yaml`.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    catalog::Catalog,
    complaint::{Complaint, Complaints, Place},
    model::{manifest::Manifest, name::ProductName},
    snapshot::PolicyText,
    store, template,
};

/// The manifest's name in a product's folder.
pub const MANIFEST: &str = "product.yaml";

/// What a policy folder can be.
#[derive(Debug)]
pub enum Folder {
    /// Products with their manifests, and the policies beside them.
    Catalog(Catalog),
    /// Plain Cedar with a schema of its author's own.
    Store(store::Source),
}

/// What a folder holds, and everything that is wrong with reading it: for a check that tells all of
/// it in one go.
#[derive(Debug)]
pub enum Survey {
    /// Manifests that hold by themselves, not yet held against each other.
    Products { products: Vec<Arc<Manifest>>, policies: Vec<PolicyText>, complaints: Vec<Complaint> },
    /// A plain store; its schema is missing where it could not be read.
    Store {
        schema: Option<PolicyText>,
        policies: Vec<PolicyText>,
        entities: Option<PolicyText>,
        complaints: Vec<Complaint>,
    },
}

/// Look through a folder of either kind: one with a schema of its own and no product is a plain
/// store.
pub fn survey(folder: &Path) -> Survey {
    let schema = folder.join(store::SCHEMA);
    if !schema.exists() {
        return survey_products(folder);
    }
    let mut reading = Reading::default();
    reading.cedar(folder, None);
    let schema = reading.plain(&schema);
    let entities = folder.join(store::ENTITIES);
    let entities = if entities.exists() { reading.plain(&entities) } else { None };
    let Reading { policies, complaints, .. } = reading;
    Survey::Store { schema, policies, entities, complaints }
}

fn survey_products(folder: &Path) -> Survey {
    let mut reading = Reading::default();
    reading.products(folder);
    let Reading { products, policies, complaints } = reading;
    Survey::Products { products, policies, complaints }
}

/// Read a folder of either kind.
///
/// # Errors
///
/// As [`read`].
pub fn open(folder: &Path) -> Result<Folder, Complaints> {
    match survey(folder) {
        Survey::Products { products, policies, complaints } => {
            Complaints::unless(complaints, ())?;
            Catalog::new(products, policies).map(Folder::Catalog)
        }
        Survey::Store { schema, policies, entities, complaints } => {
            Complaints::unless(complaints, ())?;
            let Some(schema) = schema else {
                return Err(at(folder).complain("the schema cannot be read").into());
            };
            Ok(Folder::Store(store::Source { schema, policies, entities }))
        }
    }
}

/// Read a folder of products.
///
/// # Errors
///
/// Every file that cannot be read, parsed, or brought together with the others.
pub fn read(folder: &Path) -> Result<Catalog, Complaints> {
    let mut reading = Reading::default();
    reading.products(folder);
    Complaints::unless(reading.complaints, ())?;
    Catalog::new(reading.products, reading.policies)
}

#[derive(Default)]
struct Reading {
    products: Vec<Arc<Manifest>>,
    policies: Vec<PolicyText>,
    complaints: Vec<Complaint>,
}

impl Reading {
    fn products(&mut self, folder: &Path) {
        let alone = folder.join(MANIFEST);
        if alone.exists() {
            let product = self.manifest(&alone);
            self.cedar(folder, product.as_ref());
            return;
        }
        self.cedar(folder, None);
        for path in self.entries(folder) {
            let manifest = path.join(MANIFEST);
            if path.is_dir() && manifest.exists() {
                let product = self.manifest(&manifest);
                self.cedar(&path, product.as_ref());
            }
        }
        if self.products.is_empty() && self.complaints.is_empty() {
            let cure = format!("it needs a folder a product, each with a `{MANIFEST}`");
            let told = format!("the policy folder has no product: {cure}");
            self.complaints.push(at(folder).complain(told).coded("no-product"));
        }
    }

    fn plain(&mut self, path: &Path) -> Option<PolicyText> {
        let text = self.text(path)?.into();
        Some(PolicyText { file: path.display().to_string().into(), product: None, text })
    }

    fn manifest(&mut self, path: &Path) -> Option<ProductName> {
        let text = self.text(path)?;
        match Manifest::parse(&path.display().to_string(), &text) {
            Ok(manifest) => {
                let product = manifest.product.clone();
                self.products.push(Arc::new(manifest));
                Some(product)
            }
            Err(complaints) => {
                self.complaints.extend(complaints.into_vec());
                None
            }
        }
    }

    fn cedar(&mut self, folder: &Path, product: Option<&ProductName>) {
        for path in self.entries(folder) {
            if template::is_policy_file(&path) {
                let Some(text) = self.text(&path) else { continue };
                self.policies.push(PolicyText {
                    file: path.display().to_string().into(),
                    product: product.cloned(),
                    text: text.into(),
                });
            }
        }
    }

    /// What a folder holds, in the order of names: the same folder always reads the same.
    fn entries(&mut self, folder: &Path) -> Vec<PathBuf> {
        let read = || -> io::Result<Vec<PathBuf>> {
            let mut paths: Vec<PathBuf> =
                fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
            paths.sort();
            Ok(paths)
        };
        read().unwrap_or_else(|error| {
            let complaint = at(folder)
                .complain(format!("cannot read the policy folder: {error}"))
                .coded("unreadable");
            self.complaints.push(complaint);
            Vec::new()
        })
    }

    fn text(&mut self, path: &Path) -> Option<String> {
        fs::read_to_string(path)
            .inspect_err(|error| {
                let told = format!("cannot read the file: {error}");
                self.complaints.push(at(path).complain(told).coded("unreadable"));
            })
            .ok()
    }
}

fn at(path: &Path) -> Place {
    Place::file(path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_becomes_a_catalog() {
        let folder = tempfile::tempdir().unwrap();
        let product = folder.path().join("demo");
        fs::create_dir(&product).unwrap();
        fs::create_dir(folder.path().join("notes")).unwrap();
        fs::write(product.join(MANIFEST), "product: demo\nresources: {things: [get]}\n").unwrap();
        fs::write(product.join("extra.cedar"), "// nothing yet\n").unwrap();
        fs::write(folder.path().join("base.cedar"), "// nothing yet\n").unwrap();
        let catalog = read(folder.path()).unwrap();
        assert_eq!(catalog.products.len(), 1);
        let of: Vec<_> = catalog.policies.iter().map(|p| p.product.is_some()).collect();
        assert_eq!(of, [false, true]);
    }

    #[test]
    fn a_folder_that_is_not_there_or_empty_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let told = read(folder.path()).unwrap_err().to_string();
        assert!(told.contains("has no product"), "{told}");
        let told = read(&folder.path().join("nowhere")).unwrap_err().to_string();
        assert!(told.contains("nowhere: cannot read the policy folder"), "{told}");
    }
}
