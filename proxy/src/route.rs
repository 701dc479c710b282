//! Host, path and method → a product and what its route needs.
//!
//! Compiled once per snapshot from the products' manifests and this installation's configuration.
//! Each method has a table of its own, so a path that is literal for one method is a parameter for
//! another, as in the products' own routers; a literal segment goes before a parameter whatever the
//! order of the rows. A row for any method stands in every table, and a `GET` row in that of `HEAD`
//! (RFC 9110, section 9.3.2: it is the same request without the content), except where the method has
//! a row for the very same paths.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use matchit::Router;
use policy::{
    complaint::{Complaint, Complaints, Place},
    engine::Engine,
    model::{
        manifest::{Guard, Need, Route},
        query::PermissionId,
    },
};
use smallvec::SmallVec;

use crate::{
    canonical::{self, NotCanonical, Path},
    config::{EncodedSlash, Mode, ProductConfig, Unmatched},
    refusal::Why,
};

/// A product as this installation runs it, its routes compiled.
#[derive(Debug)]
pub struct Product {
    pub name: Arc<str>,
    pub mode: Mode,
    /// Whether it is told who asks by a signed statement.
    pub assertion: bool,
    unmatched: Unmatched,
    encoded_slash: EncodedSlash,
    prefix: Option<String>,
    /// A table a method that some row names.
    methods: HashMap<String, Router<Row>>,
    /// For every other method.
    others: Router<Row>,
    /// The paths that some row guards, as a careless product reads them.
    guarded: Router<()>,
}

/// What a route asks of its caller, in the engine's terms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Needs {
    /// Nothing: no token is looked at.
    Public,
    /// A valid token.
    Authenticated,
    /// A valid token whose bearer may do every one of these.
    Permissions(Arc<[PermissionId]>),
}

/// A row, as it is found.
#[derive(Debug, Clone)]
struct Row {
    needs: Needs,
    /// Its template.
    route: Arc<str>,
}

/// A path's parameters: names and decoded values.
pub type Parameters = SmallVec<[(String, String); 4]>;

/// A request, routed.
#[derive(Debug, Clone)]
pub struct Target {
    pub product: Arc<Product>,
    /// As it is decided on and forwarded.
    pub path: Path,
    /// `None` where no row matches.
    pub needs: Option<Needs>,
    /// The template of the row that matches.
    pub route: Option<Arc<str>>,
    pub parameters: Parameters,
}

/// Every product of this installation.
#[derive(Debug, Default)]
pub struct Routes {
    products: Vec<Arc<Product>>,
    by_name: HashMap<String, usize>,
    by_host: HashMap<String, Vec<usize>>,
    anywhere: Vec<usize>,
}

impl Routes {
    /// Compile the routes of the configured products.
    ///
    /// # Errors
    ///
    /// A product without a manifest, a route set that it does not have, rows that contradict each
    /// other, products that cannot be told apart.
    pub fn compile(engine: &Engine, configured: &[ProductConfig]) -> Result<Self, Complaints> {
        let mut routes = Self::default();
        let mut complaints = Vec::new();
        for config in configured {
            match product(engine, config) {
                Ok(product) => routes.add(config, product, &mut complaints),
                Err(error) => complaints.extend(error.into_vec()),
            }
        }
        Complaints::unless(complaints, routes)
    }

    fn add(&mut self, config: &ProductConfig, product: Product, complaints: &mut Vec<Complaint>) {
        let n = self.products.len();
        let mut twin = |others: &[usize], at: String| {
            let same = others.iter().find(|o| self.products[**o].prefix == product.prefix);
            if let Some(other) = same {
                complaints.push(Place::file("configuration").complain(format!(
                    "products `{}` and `{}` are both reached {at}; give one a host or a prefix of its own",
                    self.products[*other].name, product.name
                )));
            }
        };
        if config.hosts.is_empty() {
            twin(&self.anywhere, "at any host".to_owned());
            self.anywhere.push(n);
        }
        for host in &config.hosts {
            let others = self.by_host.entry(host.clone()).or_default();
            twin(others, format!("at host `{host}`"));
            others.push(n);
        }
        if self.by_name.insert(product.name.to_string(), n).is_some() {
            complaints.push(
                Place::file("configuration")
                    .complain(format!("product `{}` is configured twice", product.name)),
            );
        }
        self.products.push(Arc::new(product));
    }

    /// The gateway's question: the product by host and prefix, the prefix removed.
    ///
    /// # Errors
    ///
    /// When no product is reached that way, or the path has no one meaning for it.
    pub fn at_gateway(&self, host: &str, method: &str, path: Path) -> Result<Target, Why> {
        let (product, below) = [self.by_host.get(host), Some(&self.anywhere)]
            .into_iter()
            .flatten()
            .find_map(|candidates| self.longest_prefix(candidates, &path))
            .ok_or(Why::NoProduct)?;
        target(product, method, below.unwrap_or(path))
    }

    /// A door's question: the product by name, or else by host. The path is as the product sees it,
    /// for the server at the door forwards it.
    ///
    /// # Errors
    ///
    /// When there is no such product, or the path has no one meaning for it.
    pub fn at_door(
        &self,
        name: Option<&str>,
        host: &str,
        method: &str,
        path: Path,
    ) -> Result<Target, Why> {
        let found = if let Some(name) = name {
            self.by_name.get(name)
        } else {
            let candidates = self.by_host.get(host).unwrap_or(&self.anywhere);
            // Two products behind one host differ by a prefix that only the gateway knows.
            candidates.first().filter(|_| candidates.len() == 1)
        };
        let product = found.map(|n| &self.products[*n]).ok_or(Why::NoProduct)?;
        // The server at the door forwards the bytes that it has, so nothing can be decoded here.
        if path.has_encoded_slash() && product.encoded_slash == EncodedSlash::Decode {
            return Err(Why::NotCanonical(NotCanonical::Slash));
        }
        target(product, method, path)
    }

    /// The candidate whose prefix is the longest that the path is below; and the path below it.
    fn longest_prefix(
        &self,
        candidates: &[usize],
        path: &Path,
    ) -> Option<(&Arc<Product>, Option<Path>)> {
        candidates
            .iter()
            .filter_map(|n| {
                let product = &self.products[*n];
                match &product.prefix {
                    None => Some((0, product, None)),
                    Some(prefix) => Some((prefix.len(), product, Some(path.below(prefix)?))),
                }
            })
            .max_by_key(|(length, ..)| *length)
            .map(|(_, product, below)| (product, below))
    }
}

fn target(product: &Arc<Product>, method: &str, path: Path) -> Result<Target, Why> {
    let path = match (path.has_encoded_slash(), product.encoded_slash) {
        (true, EncodedSlash::Refuse) => return Err(Why::NotCanonical(NotCanonical::Slash)),
        (true, EncodedSlash::Decode) => path.decode_slashes().map_err(Why::NotCanonical)?,
        _ => path,
    };
    let (needs, route, parameters) = match product.row(method, path.text()) {
        Some((Row { needs, route }, parameters)) => (Some(needs), Some(route), parameters),
        // A product may read `/V1/things/` as the `/v1/things` that a row guards.
        None if product.unmatched == Unmatched::Authenticated && !product.guards(&path) => {
            (Some(Needs::Authenticated), None, SmallVec::new())
        }
        None => (None, None, SmallVec::new()),
    };
    Ok(Target { product: Arc::clone(product), path, needs, route, parameters })
}

impl Product {
    fn row(&self, method: &str, path: &str) -> Option<(Row, Parameters)> {
        let found = self.methods.get(method).unwrap_or(&self.others).at(path).ok()?;
        let parameters = found
            .params
            .iter()
            .map(|(name, value)| (name.to_owned(), canonical::decoded(value).into_owned()))
            .collect();
        Some((found.value.clone(), parameters))
    }

    /// Whether some row guards the path in another spelling of it: in capitals, with a slash or a
    /// dot at its end, with parameters after `;`; under any method.
    fn guards(&self, path: &Path) -> bool {
        let plain = |segment: &str| {
            let name = segment.split(';').next().unwrap_or_default();
            name.trim_end_matches("%20").trim_end_matches('.').to_lowercase()
        };
        let segments: Vec<String> = path.text().split('/').map(plain).collect();
        let path = segments.join("/");
        let path = path.trim_end_matches('/');
        self.guarded.at(if path.is_empty() { "/" } else { path }).is_ok()
    }
}

fn product(engine: &Engine, config: &ProductConfig) -> Result<Product, Complaints> {
    let wrong = |text: String| Complaints::from(Place::file("configuration").complain(text));
    let name = &config.name;
    let manifest = engine.product(name.as_str()).ok_or_else(|| {
        wrong(format!("no manifest declares product `{name}`; add one to the policy folder"))
    })?;
    let set = config.routes.as_ref().or(manifest.routes.as_ref());
    let rows = match set {
        Some(set) => engine.routes(name.as_str(), set).map_err(|sets| {
            wrong(format!("product `{name}` has no route set `{set}`; it has {}", sets.join(", ")))
        })?,
        None => Vec::new(),
    };
    let tables = Tables::build(engine, &rows)?;
    Ok(Product {
        name: name.shared(),
        mode: config.mode,
        assertion: config.assertion,
        unmatched: config.unmatched,
        encoded_slash: config.encoded_slash,
        prefix: config.prefix.clone(),
        methods: tables.methods,
        others: tables.others,
        guarded: tables.guarded,
    })
}

/// The rows of a product, a table a method.
#[derive(Default)]
struct Tables {
    methods: HashMap<String, Router<Row>>,
    others: Router<Row>,
    guarded: Router<()>,
}

impl Tables {
    fn build(engine: &Engine, rows: &[&Route]) -> Result<Self, Complaints> {
        let mut complaints = Vec::new();
        let mut known = Vec::new();
        for row in rows {
            match needs(engine, &row.needs) {
                Some(needs) => known.push((*row, needs)),
                None => complaints.push(complaint(row, "it needs a permission nobody declares")),
            }
        }
        let mut methods: BTreeSet<&str> =
            known.iter().filter_map(|(row, _)| row.method.as_deref()).collect();
        if methods.contains("GET") {
            methods.insert("HEAD");
        }
        let mut tables = Self::default();
        for method in methods {
            let table = table(&known, Some(method), &mut complaints);
            tables.methods.insert(method.to_owned(), table);
        }
        tables.others = table(&known, None, &mut complaints);
        let mut seen = HashSet::new();
        for (row, _) in known.iter().filter(|(_, needs)| matches!(needs, Needs::Permissions(_))) {
            let path = shape(&row.path).to_lowercase();
            // Rows that clash here clash above, and are told there.
            if seen.insert(path.clone()) {
                let _ = tables.guarded.insert(path, ());
            }
        }
        Complaints::unless(complaints, tables)
    }
}

/// The table of one method, or of all that no row names: its own rows, then those it inherits.
fn table(
    known: &[(&Route, Needs)],
    method: Option<&str>,
    complaints: &mut Vec<Complaint>,
) -> Router<Row> {
    let mut router = Router::new();
    let mut taken: HashSet<String> = HashSet::new();
    let of = |wanted: Option<&'static str>| move |row: &Route| row.method.as_deref() == wanted;
    let own = |row: &Route| row.method.as_deref() == method;
    let as_get = |row: &Route| method == Some("HEAD") && of(Some("GET"))(row);
    let as_any = |row: &Route| method.is_some() && of(None)(row);
    let mut add = |wanted: &dyn Fn(&Route) -> bool, inherited: bool| {
        for (row, needs) in known.iter().filter(|(row, _)| wanted(row)) {
            let mine = taken.insert(shape(&row.path));
            if !mine && inherited {
                continue;
            }
            let found = Row { needs: needs.clone(), route: row.path.as_str().into() };
            if let Err(error) = router.insert(&row.path, found) {
                complaints.push(complaint(row, &error.to_string()));
            }
        }
    };
    add(&own, false);
    add(&as_get, true);
    add(&as_any, true);
    router
}

/// A template without the names of its parameters: two of one shape match the same paths.
fn shape(path: &str) -> String {
    let segments =
        path.split('/').enumerate().map(|(n, segment)| match segment.strip_prefix('{') {
            Some(name) if name.starts_with('*') => format!("{{*p{n}}}"),
            Some(_) => format!("{{p{n}}}"),
            None => segment.to_owned(),
        });
    segments.collect::<Vec<_>>().join("/")
}

fn complaint(row: &Route, error: &str) -> Complaint {
    let method = row.method.as_deref().unwrap_or("ANY");
    row.place.complain(format!("the route `{method} {}` cannot be used: {error}", row.path))
}

fn needs(engine: &Engine, need: &Need) -> Option<Needs> {
    let permission = |guard: &Guard| {
        let Guard { product, permission } = guard;
        engine.permission(
            product.as_str(),
            permission.resource.as_str(),
            permission.action.as_str(),
        )
    };
    match need {
        Need::Public => Some(Needs::Public),
        Need::Authenticated => Some(Needs::Authenticated),
        Need::Permissions(guards) => {
            guards.iter().map(permission).collect::<Option<_>>().map(Needs::Permissions)
        }
    }
}

#[cfg(test)]
mod tests {
    use policy::{
        catalog::Catalog,
        model::{decision::Revision, manifest::Manifest},
        snapshot::Snapshot,
    };

    use super::*;

    fn routes(table: &str, config: &str) -> Result<Routes, Complaints> {
        let text = format!(
            "product: demo\nresources: {{secrets: [get], things: [get]}}\nroutes: v1\n\
             route_sets:\n  v1:\n    table:\n{table}"
        );
        let manifest = Arc::new(Manifest::parse("demo.yaml", &text)?);
        let catalog = Catalog::new(vec![manifest], Vec::new())?;
        let snapshot = Snapshot {
            revision: Revision(1),
            products: catalog.products,
            roles: Vec::new(),
            groups: Vec::new(),
            policies: Vec::new(),
            issuer: None,
            guests: Vec::new(),
        };
        let engine = Engine::compile(Arc::new(snapshot))?;
        let config = toml::from_str(&format!("name = 'demo'\n{config}")).unwrap();
        Routes::compile(&engine, &[config])
    }

    fn asked(routes: &Routes, method: &str, path: &str) -> String {
        let path = canonical::path(path).unwrap();
        match routes.at_door(Some("demo"), "", method, path).unwrap().needs {
            None => "no route".to_owned(),
            Some(Needs::Public) => "public".to_owned(),
            Some(Needs::Authenticated) => "authenticated".to_owned(),
            Some(Needs::Permissions(ids)) => format!("{} permission", ids.len()),
        }
    }

    #[test]
    fn p_a_literal_goes_before_a_parameter_whatever_their_methods() {
        let routes = routes(
            "      - GET /x/{id} -> public\n      - ANY /x/admin -> secrets:get\n\
             \u{20}     - GET /w/{*rest} -> public\n      - ANY /w/a/b -> secrets:get\n\
             \u{20}     - GET /z/admin -> secrets:get\n      - HEAD /z/{id} -> public\n\
             \u{20}     - GET /y/{a} -> things:get\n      - ANY /y/{b} -> public\n",
            "",
        )
        .unwrap();
        for (method, path, expected) in [
            ("GET", "/x/admin", "1 permission"),
            ("POST", "/x/admin", "1 permission"),
            ("HEAD", "/x/admin", "1 permission"),
            ("GET", "/x/1", "public"),
            ("HEAD", "/x/1", "public"),
            ("POST", "/x/1", "no route"),
            ("GET", "/w/a/b", "1 permission"),
            ("GET", "/w/a/c", "public"),
            ("HEAD", "/z/admin", "1 permission"),
            ("HEAD", "/z/1", "public"),
            // The same paths: the method's own row counts.
            ("GET", "/y/1", "1 permission"),
            ("HEAD", "/y/1", "1 permission"),
            ("PUT", "/y/1", "public"),
            ("GET", "/x", "no route"),
            ("GET", "/x/", "no route"),
            ("GET", "/x/admin/", "no route"),
        ] {
            assert_eq!(asked(&routes, method, path), expected, "{method} {path}");
        }
    }

    #[test]
    fn p_what_a_row_guards_is_no_unmatched_path_in_another_spelling() {
        let table =
            "      - GET /v1/things/{id} -> things:get\n      - GET /v1/things -> things:get\n";
        let routes = routes(table, "unmatched = 'authenticated'").unwrap();
        for (method, path, expected) in [
            ("GET", "/v1/things", "1 permission"),
            ("GET", "/elsewhere", "authenticated"),
            ("GET", "/", "authenticated"),
            ("GET", "/V1/Things", "no route"),
            ("GET", "/v1/things/", "no route"),
            ("GET", "/v1/things;x", "no route"),
            ("GET", "/v1;x/things", "no route"),
            ("GET", "/v1/things.", "no route"),
            ("GET", "/v1/things%20", "no route"),
            ("GET", "/v1/THINGS/7", "no route"),
            ("POST", "/v1/things", "no route"),
            ("OPTIONS", "/v1/things/7", "no route"),
        ] {
            assert_eq!(asked(&routes, method, path), expected, "{method} {path}");
        }
    }

    #[test]
    fn rows_that_contradict_each_other_are_told_with_their_line() {
        let table = "      - GET /a/{x} -> public\n      - GET /a/{y} -> things:get\n";
        let told = routes(table, "").unwrap_err().to_string();
        assert!(told.starts_with("demo.yaml:8:9: the route `GET /a/{y}` cannot be used"), "{told}");
    }
}
