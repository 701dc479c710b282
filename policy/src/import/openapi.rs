//! An `OpenAPI` document (3.0, 3.1) → the routes of a product, and the resources and actions they
//! need.
//!
//! By convention an operation's action is its method, and its resource the collection that the path
//! ends in: of `/v1/ledgers/{id}/accounts/alias/{alias}` it is `accounts`, of
//! `/v1/rules/{id}/activate` it is `rules` ([`resource`]). Where the convention is wrong the document
//! says better, at the path or at the operation, which wins:
//!
//! ```yaml
//! x-postern-resource: billing          # instead of the path's
//! x-postern-action: calculate          # instead of the method
//! x-postern-permission: billing:read   # instead of both; `x-postern-permissions` is a list
//! x-postern-authenticated: true        # any valid token does
//! x-postern-public: true               # none is needed; so says `security: []`
//! ```

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Imported, Source,
    draft::{Draft, DraftGroup, DraftRole, Row},
    tree::{Node, Text, Value},
};
use crate::{
    complaint::{Complaint, Complaints, Place},
    model::{
        grant::{Grant, Permission},
        manifest::{Guard, Need, Route},
        name::ProductName,
    },
};

/// The methods that an operation can have, in the order of the specification.
const METHODS: [&str; 8] = ["get", "put", "post", "delete", "options", "head", "patch", "trace"];

/// First segments of a path that name no collection.
const PREFIXES: [&str; 7] =
    ["api", "rest", "internal", "public", "management", "admin", "external"];

/// Segments after a collection's item that are no collection of their own, though they sound like it.
const FACETS: [&str; 4] = ["settings", "status", "progress", "metrics"];

/// What is wanted beside the document.
#[derive(Debug, Clone)]
pub struct Options {
    pub product: ProductName,
    /// Make an editor, a contributor and a viewer, and groups that hold them.
    pub roles: bool,
    /// The route set's name; `None` takes the document's major version.
    pub set: Option<String>,
}

/// Read a document.
///
/// # Errors
///
/// Everything that makes it no document of the kind, or contradicts itself about who may call what.
pub fn import(source: &Source, options: &Options) -> Result<Imported, Complaints> {
    let root = Node::parse(source)?;
    let mut reader = Reader {
        root: &root,
        product: &options.product,
        imported: Imported::default(),
        complaints: Vec::new(),
        shapes: BTreeMap::new(),
    };
    reader.kind()?;
    let base = reader.base();
    let operations = reader.operations(&base);
    let collections = collections(operations.iter().map(|operation| &*operation.path));
    let mut draft = Draft::new(options.product.clone());
    let mut rows = Vec::new();
    for operation in &operations {
        let Some(needs) = reader.needs(operation, &collections) else { continue };
        if let Need::Permissions(guards) = &needs {
            let own = guards.iter().filter(|guard| guard.product == options.product);
            own.for_each(|guard| draft.declare(&guard.permission));
        }
        rows.extend(reader.row(operation, &needs));
    }
    if rows.is_empty() && reader.complaints.is_empty() {
        let cure = "it needs `paths` with operations";
        reader.complain(&root.place, format!("the document has no route: {cure}"));
    }
    let Reader { imported, complaints, .. } = reader;
    let mut imported = Complaints::unless(complaints, imported)?;
    describe(&root, source, options, &mut draft);
    draft.routes = Some((set(&root, options), rows));
    if options.roles {
        roles(&mut draft);
    }
    imported.files.insert(draft.file(), draft.text()?);
    Ok(imported.sorted())
}

/// One operation of the document.
struct Operation<'n> {
    method: String,
    /// With the base path before it, and parameters' names as a manifest may have them.
    path: String,
    /// The path as the document has it.
    said: &'n Text,
    item: &'n Node,
    node: &'n Node,
    place: &'n Place,
}

struct Reader<'n> {
    root: &'n Node,
    product: &'n ProductName,
    imported: Imported,
    complaints: Vec<Complaint>,
    /// Method and path with its parameters' names gone: what the gate would find twice.
    shapes: BTreeMap<(String, String), Place>,
}

impl<'n> Reader<'n> {
    fn kind(&self) -> Result<(), Complaints> {
        let told = |text: &str| Err(self.root.place.complain(text).into());
        if self.root.get("swagger").is_some() {
            return told("this is Swagger 2.0; convert it to OpenAPI 3 first");
        }
        let version = match self.root.get("openapi").map(|node| &node.value) {
            Some(Value::Text(text) | Value::Number(text)) => text.as_str(),
            _ => return told("this is no OpenAPI document: it has no `openapi: 3.…`"),
        };
        let known = ["3.0", "3.1"].iter().any(|known| {
            version.strip_prefix(known).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        });
        if known { Ok(()) } else { told("this version of OpenAPI is not known; 3.0 and 3.1 are") }
    }

    /// The path that all servers share, without a `/` at its end.
    fn base(&mut self) -> String {
        let servers = self.root.get("servers").map(Node::items).unwrap_or_default();
        let mut paths = BTreeSet::new();
        for server in servers {
            let url = server.get("url").and_then(Node::text).unwrap_or_default();
            let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
            let path = if rest.len() == url.len() {
                rest
            } else {
                rest.split_once('/').map_or("", |(_, p)| p)
            };
            paths.insert(path.trim_matches('/').to_owned());
        }
        let one =
            if paths.len() == 1 { paths.pop_first().unwrap_or_default() } else { String::new() };
        let Some(first) = servers.first() else { return String::new() };
        if !paths.is_empty() || one.contains('{') {
            let text = "the servers have no one path in common; the routes are written without it";
            self.imported.leave_out(&first.place, text);
            return String::new();
        }
        if one.is_empty() { one } else { format!("/{one}") }
    }

    fn operations(&mut self, base: &str) -> Vec<Operation<'n>> {
        let mut operations = Vec::new();
        let paths = self.root.get("paths").map(Node::entries).unwrap_or_default();
        for (said, node) in paths.iter().filter(|(key, _)| !key.text.starts_with("x-")) {
            let Some(item) = self.resolved(node) else { continue };
            let Some(path) = self.path(base, said) else { continue };
            for (key, node) in item.entries() {
                let method = key.text.as_str();
                if METHODS.contains(&method) {
                    let (method, path) = (method.to_ascii_uppercase(), path.clone());
                    operations.push(Operation {
                        method,
                        path,
                        said,
                        item,
                        node,
                        place: &key.place,
                    });
                } else {
                    self.other_member(key);
                }
            }
        }
        operations
    }

    fn other_member(&mut self, key: &Text) {
        const KNOWN: [&str; 5] = ["$ref", "summary", "description", "parameters", "servers"];
        if key.text == "servers" {
            self.imported.leave_out(&key.place, "`servers` of one path: its host is not a route's");
        } else if !KNOWN.contains(&&*key.text) && !key.text.starts_with("x-") {
            self.imported.leave_out(&key.place, format!("`{}` is no method", key.text));
        }
    }

    /// A path item, or what its `$ref` means within the document.
    fn resolved(&mut self, node: &'n Node) -> Option<&'n Node> {
        let Some(reference) = node.get("$ref") else { return Some(node) };
        let text = reference.text().unwrap_or_default();
        let found = text.strip_prefix("#/").and_then(|pointer| {
            pointer
                .split('/')
                .try_fold(self.root, |at, part| at.get(&part.replace("~1", "/").replace("~0", "~")))
        });
        if found.is_none_or(|node| node.get("$ref").is_some()) {
            let text = format!("`{text}` lies outside this document, or leads nowhere");
            self.imported.leave_out(&reference.place, text);
            return None;
        }
        found
    }

    /// The path as a manifest may have it.
    fn path(&mut self, base: &str, said: &Text) -> Option<String> {
        let path = format!("{base}{}", said.text);
        let named: Vec<String> = path.split('/').map(segment).collect();
        let path = named.join("/");
        match Route::parse(self.product, &format!("GET {path} -> public"), &said.place) {
            Ok(_) if path.contains(char::is_whitespace) => None,
            Ok(_) => Some(path),
            Err(what) => {
                let text = format!("path `{}`: {what}; a parameter is a whole segment", said.text);
                self.imported.leave_out(&said.place, text);
                None
            }
        }
    }

    /// What an operation needs of its caller; `None` when that was complained of.
    fn needs(&mut self, operation: &Operation<'n>, collections: &BTreeSet<String>) -> Option<Need> {
        let mut said = Said::default();
        let before = self.complaints.len();
        for node in [operation.item, operation.node] {
            said = self.said(node).over(said);
        }
        if self.complaints.len() > before {
            return None;
        }
        self.security(operation, &mut said);
        if said.public == Some(true) {
            return Some(Need::Public);
        }
        if said.authenticated == Some(true) {
            return Some(Need::Authenticated);
        }
        if !said.permissions.is_empty() {
            return Some(Need::Permissions(said.permissions));
        }
        let resource = said.resource.or_else(|| resource(&operation.path, collections));
        let action = said.action.unwrap_or_else(|| operation.method.to_ascii_lowercase());
        let Some(resource) = resource else {
            let text = format!(
                "`{} {}` names no resource; say `x-postern-resource`, or `x-postern-public: true`",
                operation.method, operation.said.text
            );
            self.imported.leave_out(operation.place, text);
            return None;
        };
        match format!("{resource}:{action}").parse::<Permission>() {
            Ok(permission) => {
                let product = self.product.clone();
                Some(Need::Permissions(vec![Guard { product, permission }]))
            }
            Err(error) => {
                self.complain(operation.place, error.to_string());
                None
            }
        }
    }

    /// What the extensions at one place say.
    fn said(&mut self, node: &'n Node) -> Said {
        let mut said = Said::default();
        for (key, value) in node.entries() {
            let Some(name) = key.text.strip_prefix("x-postern-") else { continue };
            match (name, &value.value) {
                ("resource", Value::Text(text)) => said.resource = Some(text.clone()),
                ("action", Value::Text(text)) => said.action = Some(text.clone()),
                ("public", Value::Bool(yes)) => said.public = Some(*yes),
                ("authenticated", Value::Bool(yes)) => said.authenticated = Some(*yes),
                ("permission", Value::Text(text)) => self.guard(&mut said, value, text),
                ("permissions", Value::List(items)) => {
                    for item in items {
                        self.guard(&mut said, item, item.text().unwrap_or_default());
                    }
                    if items.is_empty() {
                        let text =
                            "`x-postern-permissions` is empty; say `x-postern-authenticated: true`";
                        self.complain(&value.place, text);
                    }
                }
                ("resource" | "action" | "permission", _) => {
                    self.complain(
                        &value.place,
                        format!("`{}` is {}, not a text", key.text, value.kind()),
                    );
                }
                ("public" | "authenticated", _) => {
                    let text = format!("`{}` is {}, not true or false", key.text, value.kind());
                    self.complain(&value.place, text);
                }
                ("permissions", _) => {
                    self.complain(
                        &value.place,
                        format!("`{}` is {}, not a list", key.text, value.kind()),
                    );
                }
                _ => self.complain(&key.place, format!("`{}` is not known here", key.text)),
            }
        }
        let ways = [
            said.public == Some(true),
            said.authenticated == Some(true),
            !said.permissions.is_empty(),
            said.resource.is_some() || said.action.is_some(),
        ];
        if ways.iter().filter(|way| **way).count() > 1 {
            let text = "`x-postern-…` says two things here: a route is public, or needs a token, or a permission";
            self.complain(&node.place, text);
        }
        said
    }

    fn guard(&mut self, said: &mut Said, at: &Node, text: &str) {
        let row = format!("GET / -> {text}");
        match Route::parse(self.product, &row, &at.place).map(|route| route.needs) {
            Ok(Need::Permissions(guards)) => said.permissions.extend(guards),
            Ok(_) => self.complain(&at.place, format!("`{text}` is no `resource:action`")),
            Err(what) => {
                self.complain(&at.place, format!("`{text}` is no `resource:action`: {what}"));
            }
        }
    }

    /// What the document's own `security` says: `[]` is public. Scopes are left out, unless the
    /// operation says what it needs.
    fn security(&mut self, operation: &Operation<'n>, said: &mut Said) {
        let Some(security) = member(operation.node, "security").or(member(self.root, "security"))
        else {
            return;
        };
        if security.items().is_empty() {
            if !said.decides() {
                said.public.get_or_insert(true);
            }
            return;
        }
        if said.decides() {
            return;
        }
        let name = format!("`{} {}`", operation.method, operation.said.text);
        if security.items().iter().any(Node::is_empty) {
            let text = format!("{name} may do without a token there; here it needs one");
            self.imported.leave_out(&security.place, text);
        }
        let scopes: BTreeSet<&str> = (security.items().iter())
            .flat_map(Node::entries)
            .flat_map(|(_, scopes)| scopes.items())
            .filter_map(Node::text)
            .collect();
        if !scopes.is_empty() {
            let scopes = super::listing(scopes);
            let text =
                format!("{name} asks for the scopes {scopes}; here it asks for its permission");
            self.imported.leave_out(&security.place, text);
        }
    }

    fn row(&mut self, operation: &Operation<'_>, needs: &Need) -> Option<Row> {
        let Operation { method, path, .. } = operation;
        let shape: Vec<&str> =
            path.split('/').map(|part| if part.starts_with('{') { "{}" } else { part }).collect();
        let shape = (method.clone(), shape.join("/"));
        if let Some(first) = self.shapes.get(&shape) {
            let text = format!("`{method} {path}` is the route at {first} by other names");
            self.imported.leave_out(operation.place, text);
            return None;
        }
        self.shapes.insert(shape, operation.place.clone());
        let needs = match needs {
            Need::Public => "public".to_owned(),
            Need::Authenticated => "authenticated".to_owned(),
            Need::Permissions(guards) => {
                let texts: Vec<String> =
                    guards.iter().map(|guard| self.guard_text(guard)).collect();
                texts.join(" & ")
            }
        };
        let tag = operation.node.get("tags").and_then(|tags| tags.items().first()?.text());
        let section = tag.unwrap_or_default().to_owned();
        Some(Row { method: method.clone(), path: path.clone(), needs, section })
    }

    fn guard_text(&self, guard: &Guard) -> String {
        if guard.product == *self.product {
            guard.permission.to_string()
        } else {
            format!("{}::{}", guard.product, guard.permission)
        }
    }

    fn complain(&mut self, place: &Place, text: impl Into<String>) {
        self.complaints.push(place.complain(text));
    }
}

/// A member as it stands, an empty list too.
fn member<'n>(node: &'n Node, name: &str) -> Option<&'n Node> {
    node.entries().iter().find(|(key, _)| key.text == name).map(|(_, node)| node)
}

/// What the extensions say.
#[derive(Default)]
struct Said {
    /// `false` takes back what the path says, or `security: []`.
    public: Option<bool>,
    authenticated: Option<bool>,
    permissions: Vec<Guard>,
    resource: Option<String>,
    action: Option<String>,
}

impl Said {
    /// Whether it says what the operation needs, rather than what it does not.
    fn decides(&self) -> bool {
        self.whole() || self.resource.is_some() || self.action.is_some()
    }

    /// Whether nothing is left to the convention.
    fn whole(&self) -> bool {
        self.public == Some(true)
            || self.authenticated == Some(true)
            || !self.permissions.is_empty()
    }

    /// The operation's word before its path's. A resource here leaves the path's action standing,
    /// and the other way round; both are no longer public because the path is.
    fn over(self, path: Self) -> Self {
        if self.whole() {
            return self;
        }
        let named = self.resource.is_some() || self.action.is_some();
        let flag =
            |here: Option<bool>, path: Option<bool>| here.or(path.filter(|yes| !(named && *yes)));
        Self {
            public: flag(self.public, path.public),
            authenticated: flag(self.authenticated, path.authenticated),
            permissions: if named { Vec::new() } else { path.permissions },
            resource: self.resource.or(path.resource),
            action: self.action.or(path.action),
        }
    }
}

/// A segment as a manifest may have it: a parameter's name has letters, digits, `_` and `-`.
fn segment(text: &str) -> String {
    let Some(name) = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')) else {
        return text.to_owned();
    };
    let good = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
    format!("{{{}}}", name.chars().map(good).collect::<String>())
}

/// The literals of a path, in runs that parameters part; a version or a prefix is no literal.
fn runs(path: &str) -> Vec<Vec<&str>> {
    let version = |part: &str| {
        part.strip_prefix('v').is_some_and(|rest| {
            rest.starts_with(|c: char| c.is_ascii_digit())
                && rest.chars().all(|c| c.is_ascii_alphanumeric() || c == '.')
        })
    };
    let mut runs = vec![Vec::new()];
    for (n, part) in path.split('/').filter(|part| !part.is_empty()).enumerate() {
        if part.starts_with('{') {
            runs.push(Vec::new());
        } else if let Some(run) = runs.last_mut() {
            let prefix = run.is_empty() && (version(part) || n < 3 && PREFIXES.contains(&part));
            if !prefix {
                run.push(part);
            }
        }
    }
    runs.retain(|run| !run.is_empty());
    runs
}

/// The literals that begin a run which a parameter ends somewhere: what has items is a collection.
fn collections<'a>(paths: impl Iterator<Item = &'a str>) -> BTreeSet<String> {
    paths
        .flat_map(|path| {
            let parts: Vec<&str> = path.split('/').collect();
            let ends = |at: usize| parts.get(at).is_some_and(|part| part.starts_with('{'));
            let with_items: Vec<String> = (0..parts.len())
                .filter(|at| !parts[*at].starts_with('{') && ends(at + 1))
                .map(|at| parts[at].to_owned())
                .collect();
            runs(path)
                .into_iter()
                .filter_map(|run| run.first().map(|first| (*first).to_owned()))
                .filter(move |first| with_items.contains(first))
                .collect::<Vec<_>>()
        })
        .collect()
}

/// The resource of a path: where its last run begins, if that is a collection, or sounds like one;
/// otherwise the run is something done to the item before it, and the run before it decides.
fn resource(path: &str, collections: &BTreeSet<String>) -> Option<String> {
    let runs = runs(path);
    let (first, later) = runs.split_first()?;
    let sounds =
        |name: &str| name.ends_with('s') && !name.ends_with("ss") && !FACETS.contains(&name);
    let found = later
        .iter()
        .rev()
        .find(|run| collections.contains(run[0]) || run.len() > 1 || sounds(run[0]));
    found.unwrap_or(first).first().map(|name| (*name).to_owned())
}

fn describe(root: &Node, source: &Source, options: &Options, draft: &mut Draft) {
    let text = |name: &str| root.get("info")?.get(name);
    let title = text("title").and_then(Node::text).unwrap_or(options.product.as_str()).to_owned();
    let version = match text("version").map(|node| &node.value) {
        Some(Value::Text(version) | Value::Number(version)) => format!(" {version}"),
        _ => String::new(),
    };
    draft.head = vec![
        format!(
            "From the OpenAPI document {} ({title}{version}), by `postern policy import`.",
            super::file_name(&source.file)
        ),
        "Where the document says nothing else, a resource is the collection its path ends in, and"
            .to_owned(),
        "an action is the method.".to_owned(),
    ];
    draft.title = title;
}

/// `v3` of a document at version 3.8.1.
fn set(root: &Node, options: &Options) -> String {
    let version = root.get("info").and_then(|info| info.get("version")).map(|node| &node.value);
    let major = match version {
        Some(Value::Text(text) | Value::Number(text)) => {
            text.trim_start_matches('v').split('.').next().unwrap_or_default().to_owned()
        }
        _ => String::new(),
    };
    let known = !major.is_empty() && major != "0" && major.chars().all(|c| c.is_ascii_digit());
    options.set.clone().unwrap_or_else(|| format!("v{}", if known { &major } else { "1" }))
}

/// By the levels of the family: an editor may do everything, a contributor everything but delete, a
/// viewer only read.
fn roles(draft: &mut Draft) {
    type May = fn(&str) -> bool;
    let product = draft.product.clone();
    let levels: [(&str, &str, May); 3] = [
        ("editor", "everything", |_| true),
        ("contributor", "everything but delete", |action| action != "delete"),
        ("viewer", "only reading", |action| matches!(action, "get" | "head" | "read" | "list")),
    ];
    for (level, comment, may) in levels {
        let grants = draft.resources.iter().flat_map(|(resource, actions)| {
            actions.iter().filter(|action| may(action.as_str())).map(|action| Grant {
                resource: Some(resource.clone()),
                action: Some(action.clone()),
            })
        });
        let grants = grants.collect();
        let (Ok(role), Ok(group)) =
            (format!("{product}-{level}-role").parse(), format!("{product}-{level}-group").parse())
        else {
            continue;
        };
        let mut letters = level.chars();
        let capital = letters.next().map(|c| c.to_ascii_uppercase());
        let title = format!("{} {}{}", draft.title, capital.unwrap_or_default(), letters.as_str());
        draft.groups.insert(
            group,
            DraftGroup { title: title.clone(), roles: BTreeSet::from([Clone::clone(&role)]) },
        );
        if level == "editor" {
            draft.applications.push(Clone::clone(&role));
        }
        let comment = comment.to_owned();
        draft.roles.push(DraftRole { name: role, title, comment, grants });
    }
}
