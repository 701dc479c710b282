//! Host, path and method → a product and what its route needs.
//!
//! Compiled once per snapshot from the products' manifests and this installation's configuration.
//! Each method has a table of its own, so a path that is literal for one method is a parameter for
//! another, as in the products' own routers; a literal segment goes before a parameter whatever the
//! order of the rows. `HEAD` without a row of its own needs what `GET` does (RFC 9110, section
//! 9.3.2: it is the same request without the content).

use std::{collections::HashMap, sync::Arc};

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
    config::{EncodedSlash, Mode, ProductConfig, Unmatched, Upstream},
    refusal::Why,
};

/// A product as this installation runs it, its routes compiled.
#[derive(Debug)]
pub struct Product {
    pub name: Arc<str>,
    pub upstream: Option<Upstream>,
    pub mode: Mode,
    pub h2c: bool,
    unmatched: Unmatched,
    encoded_slash: EncodedSlash,
    prefix: Option<String>,
    methods: HashMap<String, Router<Row>>,
    any: Router<Row>,
}

#[derive(Debug, Clone)]
struct Row {
    needs: Needs,
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
    let (needs, parameters) = match product.row(method, path.text()) {
        Some((needs, parameters)) => (Some(needs), parameters),
        None if product.unmatched == Unmatched::Authenticated => {
            (Some(Needs::Authenticated), SmallVec::new())
        }
        None => (None, SmallVec::new()),
    };
    Ok(Target { product: Arc::clone(product), path, needs, parameters })
}

impl Product {
    fn row(&self, method: &str, path: &str) -> Option<(Needs, Parameters)> {
        let table = |method: &str| self.methods.get(method).and_then(|table| table.at(path).ok());
        let found = table(method)
            .or_else(|| if method == "HEAD" { table("GET") } else { None })
            .or_else(|| self.any.at(path).ok())?;
        let parameters = found
            .params
            .iter()
            .map(|(name, value)| (name.to_owned(), canonical::decoded(value).into_owned()))
            .collect();
        Some((found.value.needs.clone(), parameters))
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
    let mut product = Product {
        name: name.shared(),
        upstream: config.upstream.clone(),
        mode: config.mode,
        h2c: config.h2c,
        unmatched: config.unmatched,
        encoded_slash: config.encoded_slash,
        prefix: config.prefix.clone(),
        methods: HashMap::new(),
        any: Router::new(),
    };
    let mut complaints = Vec::new();
    for row in rows {
        let table = match &row.method {
            Some(method) => product.methods.entry(method.clone()).or_default(),
            None => &mut product.any,
        };
        let inserted = needs(engine, &row.needs)
            .ok_or_else(|| "it needs a permission that nobody declares".to_owned())
            .and_then(|needs| {
                table.insert(&row.path, Row { needs }).map_err(|error| error.to_string())
            });
        if let Err(error) = inserted {
            complaints.push(complaint(row, &error));
        }
    }
    Complaints::unless(complaints, product)
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
