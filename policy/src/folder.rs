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
//! `entities.json`, `authzen.yaml`, `tests/*.yaml`.
//!
//! What is half of what it is about to be, or would silently be left out, is refused: an empty file,
//! and policies that no manifest stands beside.

use std::{
    ffi::OsStr,
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
        names: Option<PolicyText>,
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
    let paths = reading.entries(folder);
    reading.cedar(&paths, None);
    let schema = reading.plain(&schema);
    let entities = folder.join(store::ENTITIES);
    let entities = if entities.exists() { reading.plain(&entities) } else { None };
    let names = folder.join(store::access::NAMES);
    let names = if names.exists() { reading.plain(&names) } else { None };
    let Reading { policies, complaints, .. } = reading;
    Survey::Store { schema, policies, entities, names, complaints }
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
        Survey::Store { schema, policies, entities, names, complaints } => {
            Complaints::unless(complaints, ())?;
            let Some(schema) = schema else {
                return Err(at(folder).complain("the schema cannot be read").into());
            };
            Ok(Folder::Store(store::Source { schema, policies, entities, names }))
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
        let paths = self.entries(folder);
        if let Some(alone) = manifest_of(&paths) {
            let product = self.manifest(alone);
            self.cedar(&paths, product.as_ref());
            return;
        }
        self.cedar(&paths, None);
        for path in paths.iter().filter(|path| path.is_dir()) {
            let paths = self.entries(path);
            if let Some(manifest) = manifest_of(&paths) {
                let product = self.manifest(manifest);
                self.cedar(&paths, product.as_ref());
            } else {
                self.stray(&paths);
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

    fn cedar(&mut self, paths: &[PathBuf], product: Option<&ProductName>) {
        for path in paths.iter().filter(|path| template::is_policy_file(path)) {
            let Some(text) = self.text(path) else { continue };
            self.policies.push(PolicyText {
                file: path.display().to_string().into(),
                product: product.cloned(),
                text: text.into(),
            });
        }
    }

    /// Policies that belong to no product: passed over, a forbid among them would be missing.
    fn stray(&mut self, paths: &[PathBuf]) {
        self.complaints.extend(paths.iter().filter(|path| template::is_policy_file(path)).map(
            |path| {
                let told = format!("no `{MANIFEST}` stands beside it, so it would not be in force");
                at(path).complain(format!("{told}; add one, or move the file")).coded("no-manifest")
            },
        ));
    }

    fn entries(&mut self, folder: &Path) -> Vec<PathBuf> {
        entries(folder).unwrap_or_else(|error| {
            let complaint = at(folder)
                .complain(format!("cannot read the policy folder: {error}"))
                .coded("unreadable");
            self.complaints.push(complaint);
            Vec::new()
        })
    }

    fn text(&mut self, path: &Path) -> Option<String> {
        let complaint = match fs::read_to_string(path) {
            Ok(text) if text.trim_ascii().is_empty() => {
                let told = "the file is empty, as one that is being written";
                let cure = "remove it, or leave a comment in it";
                at(path).complain(format!("{told}; {cure}")).coded("empty-file")
            }
            Ok(text) => return Some(text),
            Err(error) => {
                at(path).complain(format!("cannot read the file: {error}")).coded("unreadable")
            }
        };
        self.complaints.push(complaint);
        None
    }
}

/// What a folder holds, in the order of names: the same folder always reads the same.
///
/// # Errors
///
/// When it cannot be read.
pub fn entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let read = fs::read_dir(folder)?.map(|entry| Ok(entry?.path()));
    let mut paths = read.collect::<io::Result<Vec<_>>>()?;
    // Kubernetes keeps what its links lead to in folders that begin with two dots.
    paths.retain(|path| {
        path.file_name().is_none_or(|name| !name.as_encoded_bytes().starts_with(b".."))
    });
    paths.sort();
    Ok(paths)
}

/// The manifest among what a folder holds: one that cannot be read is one all the same.
fn manifest_of(paths: &[PathBuf]) -> Option<&PathBuf> {
    paths.iter().find(|path| path.file_name() == Some(OsStr::new(MANIFEST)))
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
    fn links_are_read_beside_the_policies() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(MANIFEST), "product: demo\nresources: {things: [get]}\n")
            .unwrap();
        for name in ["a.cedar", "links.json", "team.links.json", "other.json"] {
            fs::write(folder.path().join(name), "[]").unwrap();
        }
        let catalog = read(folder.path()).unwrap();
        let name = |text: &PolicyText| text.file.rsplit('/').next().unwrap_or_default().to_owned();
        let names: Vec<_> = catalog.policies.iter().map(name).collect();
        assert_eq!(names, ["a.cedar", "links.json", "team.links.json"]);
    }

    #[test]
    fn what_would_be_left_out_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let told = || {
            let complaints = read(folder.path()).unwrap_err();
            let codes = complaints.iter().map(|c| {
                let file = c.place.file.strip_prefix(folder.path().to_str().unwrap()).unwrap();
                format!("{file} {}", c.code)
            });
            codes.collect::<Vec<_>>()
        };
        write("demo/product.yaml", "product: demo\nresources: {things: [get]}\n");
        // What the links of a mounted ConfigMap lead to is nobody's product.
        write("..data/base.cedar", "// twice\n");
        assert!(read(folder.path()).is_ok());
        write("demo/a.cedar", " \n\t");
        write("lost/b.cedar", "// here\n");
        write("other/product.yaml", "");
        assert_eq!(
            told(),
            [
                "/demo/a.cedar empty-file",
                "/lost/b.cedar no-manifest",
                "/other/product.yaml empty-file"
            ]
        );
        #[cfg(unix)]
        {
            write("demo/a.cedar", "// there\n");
            fs::remove_dir_all(folder.path().join("lost")).unwrap();
            fs::remove_file(folder.path().join("other/product.yaml")).unwrap();
            std::os::unix::fs::symlink("no", folder.path().join("other/product.yaml")).unwrap();
            assert_eq!(told(), ["/other/product.yaml unreadable"]);
        }
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
