//! The products of an installation, checked against each other.
//!
//! What one manifest says of another is settled here: that a role exists, that a name means one
//! thing only, that an included route set is there. Nothing downstream meets a dangling name.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use crate::{
    complaint::{Complaint, Complaints},
    model::{
        grant::{Group, Role},
        manifest::{Include, Manifest, Need, Route},
        name::{GroupName, ProductName, RoleName},
    },
    schema,
    snapshot::PolicyText,
};

/// The code of complaints that leave no schema to validate with.
pub(crate) const NAMESPACE: &str = "namespace";

/// The products and the policies that people wrote beside them.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    /// In the order of their names.
    pub products: Vec<Arc<Manifest>>,
    pub policies: Vec<PolicyText>,
}

impl Catalog {
    /// Bring manifests and policies together.
    ///
    /// # Errors
    ///
    /// Every name that is declared twice, or used and declared nowhere.
    pub fn new(
        mut products: Vec<Arc<Manifest>>,
        mut policies: Vec<PolicyText>,
    ) -> Result<Self, Complaints> {
        products.sort_by(|a, b| a.product.cmp(&b.product));
        policies.sort_by(|a, b| a.file.cmp(&b.file));
        let catalog = Self { products, policies };
        let mut complaints = Vec::new();
        catalog.check_names(&mut complaints);
        catalog.check_uses(&mut complaints);
        let complaints =
            complaints.into_iter().map(|complaint| complaint.coded("catalog")).collect();
        Complaints::unless(complaints, catalog)
    }

    /// The manifest of a product.
    pub fn product(&self, name: &str) -> Option<&Arc<Manifest>> {
        self.products.iter().find(|manifest| manifest.product.as_str() == name)
    }

    /// Every built-in role.
    pub fn roles(&self) -> impl Iterator<Item = &Role> {
        self.products.iter().flat_map(|manifest| &manifest.roles)
    }

    /// A built-in role.
    pub fn role(&self, name: &RoleName) -> Option<&Role> {
        self.roles().find(|role| role.name == *name)
    }

    /// Every built-in group.
    pub fn groups(&self) -> impl Iterator<Item = &Group> {
        self.products.iter().flat_map(|manifest| &manifest.groups)
    }

    /// A built-in group.
    pub fn group(&self, name: &GroupName) -> Option<&Group> {
        self.groups().find(|group| group.name == *name)
    }

    /// The rows of one route set, those of the sets it includes first.
    ///
    /// # Errors
    ///
    /// The names of the product's sets, when it has none of that name.
    pub fn routes<'a>(&'a self, product: &str, set: &str) -> Result<Vec<&'a Route>, Vec<String>> {
        routes(&self.products, product, set)
    }

    fn check_names(&self, complaints: &mut Vec<Complaint>) {
        let mut products = BTreeMap::new();
        let mut roles: HashMap<&RoleName, &ProductName> = HashMap::new();
        let mut groups: HashMap<&GroupName, &ProductName> = HashMap::new();
        for manifest in &self.products {
            let (name, place) = (&manifest.product, &manifest.place);
            // Two names may share a namespace: `plugin-crm` and `plugincrm` do not, `a-b` and
            // `a--b` would.
            if let Some(other) = products.insert(schema::namespace(name), name) {
                complaints.push(place.complain(format!(
                    "product `{name}` and product `{other}` would share the Cedar namespace `{}`; rename one",
                    schema::namespace(name)
                )).coded(NAMESPACE));
            }
            if schema::RESERVED.contains(&schema::namespace(name).as_str()) {
                let told = format!("product `{name}` has a reserved name");
                complaints.push(place.complain(told).coded(NAMESPACE));
            }
            for role in &manifest.roles {
                if let Some(other) = roles.insert(&role.name, name) {
                    complaints.push(place.complain(format!(
                        "role `{}` is declared by product `{other}` already",
                        role.name
                    )));
                }
            }
            for group in &manifest.groups {
                if let Some(other) = groups.insert(&group.name, name) {
                    complaints.push(place.complain(format!(
                        "group `{}` is declared by product `{other}` already",
                        group.name
                    )));
                }
            }
        }
    }

    fn check_uses(&self, complaints: &mut Vec<Complaint>) {
        for manifest in &self.products {
            for (place, role, by) in &manifest.uses {
                if self.role(role).is_none() {
                    complaints.push(
                        place.complain(format!(
                            "{by} holds role `{role}`, which no product declares"
                        )),
                    );
                }
            }
            for set in manifest.route_sets.values() {
                set.include.iter().for_each(|include| self.check_include(include, complaints));
                set.table.iter().for_each(|route| self.check_route(route, complaints));
            }
        }
    }

    fn check_include(&self, include: &Include, complaints: &mut Vec<Complaint>) {
        let found = self
            .product(include.product.as_str())
            .is_some_and(|manifest| manifest.route_sets.contains_key(&include.set));
        if !found {
            complaints.push(
                include
                    .place
                    .complain(format!("no route set `{}/{}`", include.product, include.set)),
            );
        }
    }

    fn check_route(&self, route: &Route, complaints: &mut Vec<Complaint>) {
        let Need::Permissions(guards) = &route.needs else { return };
        for guard in guards {
            let declared = self
                .product(guard.product.as_str())
                .is_some_and(|manifest| manifest.declares(&guard.permission));
            if !declared {
                complaints.push(route.place.complain(format!(
                    "product `{}` declares no permission `{}`; add it under its `resources`",
                    guard.product, guard.permission
                )));
            }
        }
    }
}

/// The rows of one route set, those of the sets it includes first. A set that includes itself, in
/// however many steps, is read once.
///
/// # Errors
///
/// The names of the product's sets, when it has none of that name.
pub fn routes<'a>(
    products: &'a [Arc<Manifest>],
    product: &str,
    set: &str,
) -> Result<Vec<&'a Route>, Vec<String>> {
    let mut rows = Vec::new();
    gather(products, product, set, &mut BTreeSet::new(), &mut rows)?;
    Ok(rows)
}

fn gather<'a>(
    products: &'a [Arc<Manifest>],
    product: &str,
    set: &str,
    seen: &mut BTreeSet<(String, String)>,
    rows: &mut Vec<&'a Route>,
) -> Result<(), Vec<String>> {
    if !seen.insert((product.to_owned(), set.to_owned())) {
        return Ok(());
    }
    let manifest = products.iter().find(|manifest| manifest.product.as_str() == product);
    let sets = manifest.map(|manifest| &manifest.route_sets);
    let Some(found) = sets.and_then(|sets| sets.get(set)) else {
        return Err(sets.map(|sets| sets.keys().cloned().collect()).unwrap_or_default());
    };
    for include in &found.include {
        gather(products, include.product.as_str(), &include.set, seen, rows)?;
    }
    rows.extend(&found.table);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn catalog(texts: &[(&str, &str)]) -> Result<Catalog, Complaints> {
        let products = texts
            .iter()
            .map(|(file, text)| Manifest::parse(file, text).map(Arc::new))
            .collect::<Result<_, _>>()?;
        Catalog::new(products, Vec::new())
    }

    const A: &str = "\
product: a
resources: {things: [get]}
roles: {a-role: {permissions: {things: [get]}}}
groups: {a-group: {roles: [a-role]}}
route_sets: {v1: {include: [b/v1], table: [GET /a -> things:get]}}
";
    const B: &str = "\
product: b
resources: {others: [get]}
roles: {b-role: {permissions: {others: [get]}}}
groups: {b-group: {roles: [a-role, b-role]}}
route_sets: {v1: {include: [a/v1], table: [GET /b -> a::things:get & others:get]}}
";

    #[test]
    fn products_may_use_each_other() {
        let catalog = catalog(&[("b", B), ("a", A)]).unwrap();
        let paths = |product| -> Vec<&str> {
            catalog.routes(product, "v1").unwrap().iter().map(|r| r.path.as_str()).collect()
        };
        assert_eq!(paths("a"), ["/b", "/a"]);
        assert_eq!(paths("b"), ["/a", "/b"]);
        assert_eq!(catalog.routes("a", "v2").unwrap_err(), ["v1"]);
    }

    #[test]
    fn a_name_that_means_nothing_or_two_things_is_told() {
        for (a, b, expected) in [
            (
                A.to_owned(),
                B.replace("a-role, b-role", "c-role"),
                "b:4:28: group `b-group` holds role `c-role`, which no product declares",
            ),
            (A.to_owned(), B.replace("a/v1", "a/v9"), "no route set `a/v9`"),
            (
                A.to_owned(),
                B.replace("a::things:get", "a::things:put"),
                "product `a` declares no permission `things:put`",
            ),
            (
                A.to_owned(),
                B.replace("b-role", "a-role"),
                "role `a-role` is declared by product `a` already",
            ),
            (
                A.to_owned(),
                B.replace("b-group", "a-group"),
                "group `a-group` is declared by product `a` already",
            ),
            (
                A.replace("product: a", "product: a-b"),
                B.replace("product: b", "product: a--b"),
                "would share the Cedar namespace `AB`",
            ),
            (
                A.replace("product: a", "product: user"),
                B.to_owned(),
                "product `user` has a reserved name",
            ),
        ] {
            let told = catalog(&[("a", &a), ("b", &b)]).unwrap_err().to_string();
            assert!(told.contains(expected), "{told}\nwants {expected}");
        }
    }
}
