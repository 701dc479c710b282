//! What a product declares: resources, actions, roles, groups, routes.
//!
//! One `product.yaml` a product. It is checked against itself here; what it says of other products
//! (a group that holds their roles, a route guarded by their permissions) is checked by `catalog`,
//! which sees them all. `docs/manifest.md` describes the format for its authors.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    marker::PhantomData,
    str::FromStr,
    sync::Arc,
};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{MapAccess, Visitor},
};
use serde_saphyr::Spanned;

use super::{
    grant::{Grant, Group, Permission, Role},
    name::{ActionName, GroupName, ProductName, ResourceName, RoleName},
};
use crate::complaint::{Complaint, Complaints, Place};

/// A product, as its manifest declares it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Manifest {
    pub product: ProductName,
    pub title: String,
    /// Whether its permissions are its own. Those of a product that is not isolated also open the
    /// same resource and action of any other product that is not, for people: the way the first
    /// products of the family have always been granted.
    pub isolated: bool,
    /// Resources of a product that is not isolated whose grants open nothing elsewhere.
    pub keeps: BTreeSet<ResourceName>,
    pub resources: BTreeMap<ResourceName, BTreeSet<ActionName>>,
    pub roles: Vec<Role>,
    pub groups: Vec<Group>,
    /// The roles that an application made for this product holds.
    pub applications: Vec<RoleName>,
    /// What every person of every organization may do.
    pub everyone: Vec<Grant>,
    /// The route set in force where the installation names none.
    pub routes: Option<String>,
    pub route_sets: BTreeMap<String, RouteSet>,
    #[serde(skip, default = "nowhere")]
    pub place: Place,
    /// Where roles are named that another manifest may declare: place, role, and by what.
    #[serde(skip)]
    pub uses: Vec<(Place, RoleName, String)>,
    /// Where it declares what: for complaints. Empty unless read from a file.
    #[serde(skip)]
    pub places: Places,
}

/// Where a manifest declares what.
#[derive(Debug, Clone, Default)]
pub struct Places {
    pub permissions: BTreeMap<Permission, Place>,
    pub roles: BTreeMap<RoleName, Place>,
    pub groups: BTreeMap<GroupName, Place>,
}

/// The routes of one release of a product.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct RouteSet {
    /// Sets of other products that are served by the same process.
    pub include: Vec<Include>,
    pub table: Vec<Route>,
}

/// `product/set`: routes that another manifest declares.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Include {
    pub product: ProductName,
    pub set: String,
    #[serde(skip, default = "nowhere")]
    pub place: Place,
}

/// One row: a method and a path template, and what they need.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Route {
    /// `None` stands for any method.
    pub method: Option<String>,
    /// As in `/v1/organizations/{id}`; a last segment `{*rest}` takes everything below.
    pub path: String,
    pub needs: Need,
    #[serde(skip, default = "nowhere")]
    pub place: Place,
}

/// What a route asks of its caller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Need {
    /// Nothing: no token is looked at.
    Public,
    /// A valid token, whatever it may do.
    Authenticated,
    /// A valid token whose bearer holds every one of these.
    Permissions(Vec<Guard>),
}

/// A permission of this product, or of another one that it names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guard {
    pub product: ProductName,
    pub permission: Permission,
}

fn nowhere() -> Place {
    Place::file("")
}

impl Route {
    /// Read a row: `METHOD /path -> needs`.
    pub(crate) fn parse(product: &ProductName, row: &str, place: &Place) -> Result<Self, String> {
        route(product, row, place.clone())
    }
}

impl Manifest {
    /// Read a manifest.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with the text, each with its line.
    pub fn parse(file: &str, text: &str) -> Result<Self, Complaints> {
        let file: Arc<str> = file.into();
        let raw: Raw = serde_saphyr::from_str(text).map_err(|error| {
            let place = error.location().map_or(Place::file(Arc::clone(&file)), |at| Place {
                file: Arc::clone(&file),
                line: u32::try_from(at.line()).unwrap_or(0),
                column: u32::try_from(at.column()).unwrap_or(0),
            });
            Complaints::from(place.complain(plain(&error)).coded("manifest"))
        })?;
        let places = Places::default();
        Reader { file, complaints: Vec::new(), uses: Vec::new(), places }.read(raw)
    }

    /// Whether the product declares that permission.
    pub fn declares(&self, permission: &Permission) -> bool {
        self.resources
            .get(&permission.resource)
            .is_some_and(|actions| actions.contains(&permission.action))
    }

    /// Every permission that the product declares, in order.
    pub fn permissions(&self) -> impl Iterator<Item = Permission> + '_ {
        self.resources.iter().flat_map(|(resource, actions)| {
            actions
                .iter()
                .map(|action| Permission { resource: resource.clone(), action: action.clone() })
        })
    }
}

/// The error without the picture that the reader draws beside it: a complaint is one line.
pub(crate) fn plain(error: &serde_saphyr::Error) -> String {
    let text = error.without_snippet().to_string();
    let line = text.lines().find(|line| !line.trim().is_empty()).unwrap_or("not valid YAML");
    line.trim().to_owned()
}

/// A mapping in the order of the file, its keys with their places.
pub(crate) struct Entries<V>(pub(crate) Vec<(Spanned<String>, V)>);

impl<V> Default for Entries<V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Entries<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder<V>(PhantomData<V>);

        impl<'de, V: Deserialize<'de>> Visitor<'de> for InOrder<V> {
            type Value = Entries<V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries<V>, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }

        deserializer.deserialize_map(InOrder(PhantomData))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    product: Spanned<String>,
    #[serde(default)]
    title: String,
    #[serde(default = "yes")]
    isolated: bool,
    #[serde(default)]
    keeps: Vec<Spanned<String>>,
    resources: Entries<Vec<Spanned<String>>>,
    #[serde(default)]
    roles: Entries<RawRole>,
    #[serde(default)]
    groups: Entries<RawGroup>,
    #[serde(default)]
    applications: Vec<Spanned<String>>,
    #[serde(default)]
    everyone: Entries<Vec<Spanned<String>>>,
    #[serde(default)]
    routes: Option<Spanned<String>>,
    #[serde(default)]
    route_sets: Entries<RawRouteSet>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRole {
    #[serde(default)]
    title: String,
    permissions: Entries<Vec<Spanned<String>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawGroup {
    #[serde(default)]
    title: String,
    roles: Vec<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRouteSet {
    #[serde(default)]
    include: Vec<Spanned<String>>,
    #[serde(default)]
    table: Vec<Spanned<String>>,
}

fn yes() -> bool {
    true
}

/// Turns what the file says into what it means, and remembers what it does not.
struct Reader {
    file: Arc<str>,
    complaints: Vec<Complaint>,
    uses: Vec<(Place, RoleName, String)>,
    places: Places,
}

impl Reader {
    fn read(mut self, raw: Raw) -> Result<Manifest, Complaints> {
        let place = self.place(&raw.product);
        let Some(product) = self.name::<ProductName>(&raw.product) else {
            return Err(Complaints::unless(self.complaints, ()).expect_err("a bad name was noted"));
        };
        let resources = self.resources(raw.resources);
        let keeps = self.keeps(&resources, &raw.keeps);
        let roles = self.roles(&product, &resources, raw.roles);
        let groups = self.groups(raw.groups);
        let applications = self.role_names(&raw.applications, "`applications`");
        let everyone = self.grants(&resources, raw.everyone);
        let route_sets = self.route_sets(&product, raw.route_sets);
        if let Some(routes) = &raw.routes
            && !route_sets.contains_key(&routes.value)
        {
            let known = list(route_sets.keys());
            self.complain(routes, format!("no route set `{}`: {known}", routes.value));
        }
        let manifest = Manifest {
            product,
            title: raw.title,
            isolated: raw.isolated,
            keeps,
            resources,
            roles,
            groups,
            applications,
            everyone,
            routes: raw.routes.map(|routes| routes.value),
            route_sets,
            place,
            uses: std::mem::take(&mut self.uses),
            places: std::mem::take(&mut self.places),
        };
        Complaints::unless(self.complaints, manifest)
    }

    fn resources(
        &mut self,
        raw: Entries<Vec<Spanned<String>>>,
    ) -> BTreeMap<ResourceName, BTreeSet<ActionName>> {
        let mut resources = BTreeMap::new();
        for (name, actions) in raw.0 {
            if actions.is_empty() {
                self.complain(&name, format!("resource `{}` has no action", name.value));
            }
            let at = actions.iter().map(|action| self.place(action)).collect::<Vec<_>>();
            let names: Vec<Option<ActionName>> =
                actions.iter().map(|action| self.name(action)).collect();
            if let Some(resource) = self.name::<ResourceName>(&name) {
                for (action, at) in names.iter().zip(at) {
                    let Some(action) = action.clone() else { continue };
                    let permission = Permission { resource: resource.clone(), action };
                    self.places.permissions.insert(permission, at);
                }
                resources.insert(resource, names.into_iter().flatten().collect());
            }
        }
        resources
    }

    fn keeps(
        &mut self,
        resources: &BTreeMap<ResourceName, BTreeSet<ActionName>>,
        raw: &[Spanned<String>],
    ) -> BTreeSet<ResourceName> {
        let mut keeps = BTreeSet::new();
        for text in raw {
            match self.name::<ResourceName>(text) {
                Some(name) if resources.contains_key(&name) => {
                    keeps.insert(name);
                }
                Some(name) => {
                    let known = list(resources.keys());
                    self.complain(text, format!("no resource `{name}` here: {known}"));
                }
                None => {}
            }
        }
        keeps
    }

    fn roles(
        &mut self,
        product: &ProductName,
        resources: &BTreeMap<ResourceName, BTreeSet<ActionName>>,
        raw: Entries<RawRole>,
    ) -> Vec<Role> {
        let mut roles = Vec::new();
        for (name, role) in raw.0 {
            let grants = self.grants(resources, role.permissions);
            let at = self.place(&name);
            if let Some(name) = self.name::<RoleName>(&name) {
                self.places.roles.insert(name.clone(), at);
                let product = product.clone();
                roles.push(Role { name, org: None, product, title: role.title, grants });
            }
        }
        roles
    }

    /// `resource: [action, …]`, either side perhaps `*`; each must be declared.
    fn grants(
        &mut self,
        resources: &BTreeMap<ResourceName, BTreeSet<ActionName>>,
        raw: Entries<Vec<Spanned<String>>>,
    ) -> Vec<Grant> {
        let mut grants = Vec::new();
        for (resource, actions) in raw.0 {
            for action in actions {
                let text = format!("{}:{}", resource.value, action.value);
                let grant = match text.parse::<Grant>() {
                    Ok(grant) => grant,
                    Err(error) => {
                        self.complain(&action, error.to_string());
                        continue;
                    }
                };
                if let Some(name) = &grant.resource
                    && !resources.contains_key(name)
                {
                    let known = list(resources.keys());
                    self.complain(&resource, format!("no resource `{name}` here: {known}"));
                    break;
                }
                let some = resources.iter().any(|(resource, actions)| {
                    actions.iter().any(|action| {
                        grant.covers(&Permission {
                            resource: resource.clone(),
                            action: action.clone(),
                        })
                    })
                });
                if some {
                    grants.push(grant);
                } else {
                    let cure = "add the action under `resources`, or mend its spelling";
                    self.complain(&action, format!("no permission `{text}` here: {cure}"));
                }
            }
        }
        grants
    }

    fn groups(&mut self, raw: Entries<RawGroup>) -> Vec<Group> {
        let mut groups = Vec::new();
        for (name, group) in raw.0 {
            let roles = self.role_names(&group.roles, &format!("group `{}`", name.value));
            let at = self.place(&name);
            if let Some(name) = self.name::<GroupName>(&name) {
                self.places.groups.insert(name.clone(), at);
                groups.push(Group { name, org: None, title: group.title, roles });
            }
        }
        groups
    }

    fn role_names(&mut self, raw: &[Spanned<String>], by: &str) -> Vec<RoleName> {
        let mut names = Vec::new();
        for text in raw {
            if let Some(name) = self.name::<RoleName>(text) {
                self.uses.push((self.place(text), name.clone(), by.to_owned()));
                names.push(name);
            }
        }
        names
    }

    fn route_sets(
        &mut self,
        product: &ProductName,
        raw: Entries<RawRouteSet>,
    ) -> BTreeMap<String, RouteSet> {
        let mut sets = BTreeMap::new();
        for (name, set) in raw.0 {
            let include = set.include.iter().filter_map(|text| self.include(text)).collect();
            let table = set.table.iter().filter_map(|row| self.route(product, row)).collect();
            sets.insert(name.value, RouteSet { include, table });
        }
        sets
    }

    fn include(&mut self, text: &Spanned<String>) -> Option<Include> {
        let place = self.place(text);
        let parsed = text.value.split_once('/').map(|(product, set)| {
            product.parse().map(|product| Include { product, set: set.to_owned(), place })
        });
        match parsed {
            Some(Ok(include)) => Some(include),
            Some(Err(error)) => {
                self.complain(text, error.to_string());
                None
            }
            None => {
                self.complain(text, format!("`{}` is no `product/set`", text.value));
                None
            }
        }
    }

    fn route(&mut self, product: &ProductName, row: &Spanned<String>) -> Option<Route> {
        let place = self.place(row);
        match route(product, &row.value, place) {
            Ok(route) => Some(route),
            Err(what) => {
                self.complain(row, format!("{what} in the route `{}`", row.value));
                None
            }
        }
    }

    fn name<N: FromStr<Err: fmt::Display>>(&mut self, text: &Spanned<String>) -> Option<N> {
        match text.value.parse() {
            Ok(name) => Some(name),
            Err(error) => {
                self.complain(text, error.to_string());
                None
            }
        }
    }

    fn place<T>(&self, at: &Spanned<T>) -> Place {
        Place {
            file: Arc::clone(&self.file),
            line: u32::try_from(at.referenced.line()).unwrap_or(0),
            column: u32::try_from(at.referenced.column()).unwrap_or(0),
        }
    }

    fn complain<T>(&mut self, at: &Spanned<T>, text: String) {
        let place = self.place(at);
        self.complaints.push(place.complain(text).coded("manifest"));
    }
}

/// `METHOD /path -> needs`.
fn route(product: &ProductName, row: &str, place: Place) -> Result<Route, String> {
    let (ask, needs) = row.split_once("->").ok_or("no `->`")?;
    let mut words = ask.split_whitespace();
    let (Some(method), Some(path), None) = (words.next(), words.next(), words.next()) else {
        return Err("no `METHOD /path` before the `->`".to_owned());
    };
    if !method.chars().all(|c| c.is_ascii_uppercase()) {
        return Err(format!("the method `{method}` is not in capitals"));
    }
    let needs = match needs.trim() {
        "public" => Need::Public,
        "authenticated" => Need::Authenticated,
        guards => Need::Permissions(
            guards.split('&').map(|text| guard(product, text.trim())).collect::<Result<_, _>>()?,
        ),
    };
    Ok(Route {
        method: (method != "ANY").then(|| method.to_owned()),
        path: template(path)?,
        needs,
        place,
    })
}

/// `resource:action`, or `product::resource:action`.
fn guard(product: &ProductName, text: &str) -> Result<Guard, String> {
    let (product, permission) = match text.split_once("::") {
        Some((other, permission)) => (other.parse().map_err(|e| format!("{e}"))?, permission),
        None => (product.clone(), text),
    };
    Ok(Guard { product, permission: permission.parse().map_err(|e| format!("{e}"))? })
}

fn template(path: &str) -> Result<String, String> {
    let Some(rest) = path.strip_prefix('/') else {
        return Err(format!("the path `{path}` does not start with `/`"));
    };
    let segments: Vec<&str> = rest.split('/').collect();
    let last = segments.len() - 1;
    let mut seen = BTreeSet::new();
    for (n, segment) in segments.iter().enumerate() {
        let parameter = segment.strip_prefix('{').and_then(|s| s.strip_suffix('}'));
        let name = match parameter {
            Some(name) => name.strip_prefix('*').filter(|_| n == last).unwrap_or(name),
            None => segment,
        };
        let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        let literal = |c: char| good(c) || matches!(c, '.' | '~' | ':' | '@' | '$');
        if parameter.is_some() && (name.is_empty() || !name.chars().all(good)) {
            return Err(format!("`{segment}` is no `{{parameter}}`"));
        }
        if parameter.is_some() && !seen.insert(name) {
            return Err(format!("the parameter `{name}` stands twice"));
        }
        if parameter.is_none() && !name.chars().all(literal) {
            return Err(format!("`{segment}` is no path segment"));
        }
        if parameter.is_none() && (matches!(name, "." | "..") || name.is_empty() && n != last) {
            return Err("the path has an empty or dot segment".to_owned());
        }
    }
    Ok(path.to_owned())
}

fn list<T: fmt::Display>(names: impl Iterator<Item = T>) -> String {
    let names: Vec<String> = names.map(|name| format!("`{name}`")).collect();
    match names.len() {
        0 => "none is declared".to_owned(),
        _ => format!("declared are {}", names.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "\
product: midaz
title: Midaz ledger
isolated: false
resources:
  accounts: [get, patch]
  rules: [get, 'rule:create']
roles:
  midaz-editor-role:
    title: Editor
    permissions:
      accounts: [get, patch]
      '*': [get]
groups:
  midaz-editor-group: {title: Editors, roles: [midaz-editor-role]}
applications: [midaz-editor-role]
everyone:
  accounts: [get]
routes: v4
route_sets:
  v4:
    include: [routing/v4]
    table:
      - GET /v1/accounts/{id} -> accounts:get
      - ANY /hooks/{*rest} -> routing::hooks:execute & rules:rule:create
      - GET /health -> public
";

    fn complaints(text: &str) -> String {
        Manifest::parse("product.yaml", text).unwrap_err().to_string()
    }

    #[test]
    fn a_manifest_says_what_a_product_has() {
        let m = Manifest::parse("product.yaml", GOOD).unwrap();
        assert_eq!(
            m.permissions().map(|p| p.to_string()).collect::<Vec<_>>(),
            ["accounts:get", "accounts:patch", "rules:get", "rules:rule:create"]
        );
        let table = &m.route_sets["v4"].table;
        assert_eq!(table[0].place.to_string(), "product.yaml:23:9");
        assert_eq!(table[1].method, None);
        let Need::Permissions(guards) = &table[1].needs else { panic!("{table:?}") };
        assert_eq!(guards[0].product.as_str(), "routing");
        assert_eq!(guards[1].permission.to_string(), "rules:rule:create");
        assert_eq!(table[2].needs, Need::Public);
        assert_eq!(m.roles[0].grants.len(), 3);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        for (from, to, expected) in [
            (
                "accounts: [get, patch]\n      '*'",
                "accounts: [get, put]\n      '*'",
                "product.yaml:11:23: no permission `accounts:put` here",
            ),
            (
                "      '*': [get]",
                "      ledgers: [get]",
                "product.yaml:12:7: no resource `ledgers` here: declared are `accounts`, `rules`",
            ),
            ("product: midaz", "product: Midaz", "product.yaml:1:10: `Midaz` is no product"),
            ("routes: v4", "routes: v5", "product.yaml:18:9: no route set `v5`: declared are `v4`"),
            (
                "GET /v1/accounts/{id} ->",
                "GET /v1/../{id} ->",
                "product.yaml:23:9: the path has an empty or dot segment",
            ),
            (
                "GET /v1/accounts/{id} -> accounts:get",
                "GET /v1/accounts",
                "product.yaml:23:9: no `->` in the route",
            ),
            ("GET /v1", "get /v1", "the method `get` is not in capitals"),
            ("[routing/v4]", "[routing]", "product.yaml:21:15: `routing` is no `product/set`"),
            ("isolated: false", "isolatd: false", "product.yaml:3:1:"),
            ("isolated: false", "isolated: maybe", "product.yaml:3:11:"),
            ("title: Midaz ledger", "product: again", "product.yaml:2:1:"),
            ("routes: v4", "routes: [", "product.yaml:"),
        ] {
            let text = GOOD.replacen(from, to, 1);
            assert_ne!(text, GOOD, "the case `{from}` changes nothing");
            let told = complaints(&text);
            assert!(told.contains(expected), "`{from}` -> `{to}`:\n{told}\nwants {expected}");
            assert!(told.lines().all(|line| line.starts_with("product.yaml:")), "{told}");
        }
    }
}
