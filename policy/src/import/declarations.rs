//! The permission manifests that newer products of the family carry: `permissions.yaml`, or the JSON
//! that they publish. Each becomes an isolated product.
//!
//! Composed names are the original's: a role is `{service}/{name}`, with what a name may not have
//! collapsed to `-`. A `deny` becomes a written `forbid`. What a manifest here has no word for, the
//! scope of a permission within an organization above all, is left out and told.

mod published;

use std::collections::{BTreeMap, BTreeSet};

pub use self::published::{Declared as PublishedPermission, Published, Role as PublishedRole};

use super::{
    Imported, Source,
    draft::{Draft, DraftRole, Written, comment, written},
    file_name, safe,
    tree::{Node, Text, Value},
};
use crate::{
    complaint::{Complaint, Complaints, Place},
    model::{
        grant::{Grant, Permission},
        name::{GroupName, ProductName, RoleName},
    },
    schema,
};

/// Whether a file of a folder may be such a manifest.
#[must_use]
pub fn wanted(name: &str) -> bool {
    [".yaml", ".yml", ".json"].iter().any(|ending| name.ends_with(ending))
}

/// Read the manifests of a family.
///
/// # Errors
///
/// Everything that makes one of them invalid.
pub fn import(sources: &[Source]) -> Result<Imported, Complaints> {
    let mut complaints = Vec::new();
    let mut declarations = Vec::new();
    for source in sources {
        match Node::parse(source) {
            Ok(root) => declarations.extend(Reader::default().read(&root, &mut complaints)),
            Err(told) => complaints.extend(told.into_vec()),
        }
    }
    let mut services = BTreeMap::new();
    for one in &declarations {
        if let Some(other) = services.insert(&one.product, &one.place) {
            let text = format!("service `{}` is declared at {other} already", one.product);
            complaints.push(one.place.complain(text));
        }
    }
    Complaints::unless(complaints, ())?;
    write(declarations)
}

/// What one manifest declares.
#[derive(Debug)]
struct Declaration {
    place: Place,
    product: ProductName,
    permissions: Vec<Declared>,
    /// By the name that the manifest uses.
    roles: BTreeMap<String, DeclaredRole>,
    /// The roles that an application of the service holds, if others may call it.
    exposed: Vec<RoleName>,
    needs: Vec<Text>,
    left_out: Vec<Complaint>,
    notes: Vec<Complaint>,
}

#[derive(Debug)]
struct Declared {
    permission: Permission,
    deny: bool,
    roles: Vec<String>,
    place: Place,
}

#[derive(Debug)]
struct DeclaredRole {
    name: RoleName,
    place: Place,
    groups: BTreeSet<GroupName>,
}

/// Reads one manifest, and gathers what is wrong with it.
#[derive(Default)]
struct Reader {
    complaints: Vec<Complaint>,
    left_out: Vec<Complaint>,
    notes: Vec<Complaint>,
    /// Whether a member that is not known is wrong: where what is read comes into force at once, it may
    /// have been meant to narrow something.
    strict: bool,
}

/// The members of a manifest.
const MEMBERS: [&str; 10] = [
    "service",
    "version",
    "permissions",
    "roles",
    "m2m",
    "scope",
    "routes",
    "partners",
    "integrations",
    "levels",
];

/// The members of a scope dimension.
const DIMENSION: [&str; 10] = [
    "name",
    "from",
    "param",
    "required",
    "multi",
    "collection",
    "covers",
    "label",
    "parent",
    "resolve",
];

impl Reader {
    fn read(mut self, root: &Node, complaints: &mut Vec<Complaint>) -> Option<Declaration> {
        let declaration = self.declaration(root);
        complaints.append(&mut self.complaints);
        declaration
    }

    fn declaration(&mut self, root: &Node) -> Option<Declaration> {
        if !root.is_map() {
            self.complain(&root.place, format!("the manifest is {}, not a mapping", root.kind()));
            return None;
        }
        let service = self.service(root);
        self.version(root);
        let roles = self.roles(root, service.as_ref());
        let permissions = self.permissions(root, &roles);
        let (exposed, needs) = self.machines(root, &roles);
        self.dimensions(root);
        self.rest(root);
        Some(Declaration {
            place: root.place.clone(),
            product: service?,
            permissions,
            roles,
            exposed,
            needs,
            left_out: std::mem::take(&mut self.left_out),
            notes: std::mem::take(&mut self.notes),
        })
    }

    fn service(&mut self, root: &Node) -> Option<ProductName> {
        let Some(node) = root.get("service") else {
            self.complain(&root.place, "service must not be empty");
            return None;
        };
        match node.text().map(str::trim) {
            None | Some("" | "." | "..") => {
                self.complain(&node.place, "service must be a name, and not empty, `.` or `..`");
                None
            }
            Some(name) => match name.parse() {
                Ok(name) => Some(name),
                Err(error) => {
                    self.complain(&node.place, format!("service: {error}"));
                    None
                }
            },
        }
    }

    fn version(&mut self, root: &Node) {
        match root.get("version") {
            Some(node) if node.number().is_some_and(|n| n >= 1) => {}
            Some(node) => self.complain(&node.place, "version must be a whole number from 1"),
            None => self.complain(&root.place, "version must be a whole number from 1"),
        }
    }

    fn roles(
        &mut self,
        root: &Node,
        service: Option<&ProductName>,
    ) -> BTreeMap<String, DeclaredRole> {
        let mut roles: BTreeMap<String, DeclaredRole> = BTreeMap::new();
        let mut names: BTreeMap<String, String> = BTreeMap::new();
        for (n, node) in self.list(root, "roles").iter().enumerate() {
            let at = format!("roles[{n}]");
            self.known(node, &at, &["name", "granted_to"]);
            let Some(name) = self.word(node, &at, "name") else { continue };
            // Without a service the names cannot be composed; that is told once, there.
            let own = service.map_or("service", ProductName::as_str);
            let composed = safe(&format!("{own}/{name}"));
            if safe(&name).is_empty() {
                self.complain(&node.place, format!("{at}: no name is left of `{name}`"));
                continue;
            }
            if let Some(other) = names.insert(composed.clone(), name.clone()) {
                let text = format!(
                    "{at}: role `{name}` collides with role `{other}`: both are `{composed}`"
                );
                self.complain(&node.place, text);
                continue;
            }
            let groups = self.groups(node, &at);
            match composed.parse() {
                Ok(composed) => {
                    let place = node.place.clone();
                    roles.insert(name, DeclaredRole { name: composed, place, groups });
                }
                Err(error) => self.complain(&node.place, format!("{at}: {error}")),
            }
        }
        roles
    }

    fn groups(&mut self, role: &Node, at: &str) -> BTreeSet<GroupName> {
        let mut groups = BTreeSet::new();
        for (n, node) in self.list(role, "granted_to").iter().enumerate() {
            let at = format!("{at}.granted_to[{n}]");
            self.known(node, &at, &["group"]);
            let Some(name) = self.word(node, &at, "group") else { continue };
            match safe(&name).parse() {
                Ok(group) => {
                    groups.insert(group);
                }
                Err(error) => self.complain(&node.place, format!("{at}: {error}")),
            }
        }
        groups
    }

    fn permissions(
        &mut self,
        root: &Node,
        roles: &BTreeMap<String, DeclaredRole>,
    ) -> Vec<Declared> {
        let mut permissions = Vec::new();
        let mut names: BTreeMap<String, String> = BTreeMap::new();
        for (n, node) in self.list(root, "permissions").iter().enumerate() {
            let at = format!("permissions[{n}]");
            self.known(node, &at, &["resource", "action", "effect", "roles", "level"]);
            let resource = self.word(node, &at, "resource");
            let action = self.word(node, &at, "action");
            let deny = self.effect(node, &at);
            let held = self.role_list(node, &at, roles);
            if held.is_empty() {
                self.complain(&node.place, format!("{at}: needs at least one role"));
            }
            let (Some(resource), Some(action)) = (resource, action) else { continue };
            let text = format!("{resource}:{action}");
            if let Some(other) = names.insert(safe(&text), text.clone()) {
                self.complain(&node.place, format!("{at}: `{text}` collides with `{other}`"));
                continue;
            }
            if safe(&resource).is_empty() || safe(&action).is_empty() {
                self.complain(&node.place, format!("{at}: no name is left of `{text}`"));
                continue;
            }
            self.level(node, &text);
            match (resource.parse(), action.parse()) {
                (Ok(resource), Ok(action)) => permissions.push(Declared {
                    permission: Permission { resource, action },
                    deny,
                    roles: held,
                    place: node.place.clone(),
                }),
                (Err(error), _) | (_, Err(error)) => {
                    self.leave_out(&node.place, format!("permission `{text}`: {error}"));
                }
            }
        }
        permissions
    }

    /// Whether it denies.
    fn effect(&mut self, permission: &Node, at: &str) -> bool {
        let said = permission.get("effect").map(|node| (node, node.text()));
        match said {
            Some((_, Some("allow"))) => false,
            Some((_, Some("deny"))) => true,
            Some((node, _)) => {
                let text = format!("{at}: effect must be \"allow\" or \"deny\"");
                self.complain(&node.place, text);
                false
            }
            None => {
                let text = format!("{at}: effect must be \"allow\" or \"deny\"");
                self.complain(&permission.place, text);
                false
            }
        }
    }

    /// The `roles` of something, each declared.
    fn role_list(
        &mut self,
        node: &Node,
        at: &str,
        roles: &BTreeMap<String, DeclaredRole>,
    ) -> Vec<String> {
        let mut held = Vec::new();
        for (n, item) in self.list(node, "roles").iter().enumerate() {
            let name = item.text().unwrap_or_default();
            if name.trim().is_empty() {
                let text = format!("{at}: roles[{n}]: role name must not be empty");
                self.complain(&item.place, text);
            } else if !roles.contains_key(name) {
                let text = format!("{at}: references undeclared role \"{name}\"");
                self.complain(&item.place, text);
            } else {
                held.push(name.to_owned());
            }
        }
        held
    }

    fn level(&mut self, permission: &Node, name: &str) {
        let Some(level) = permission.get("level") else { return };
        let said = level.text().unwrap_or_default();
        if said != "tenant" {
            let text = format!(
                "permission `{name}` is held per `{said}`; here it is held in the whole organization: write a policy for what is narrower"
            );
            self.leave_out(&level.place, text);
        }
    }

    /// `m2m`: the roles that an application made for the service holds, and whom it calls.
    fn machines(
        &mut self,
        root: &Node,
        roles: &BTreeMap<String, DeclaredRole>,
    ) -> (Vec<RoleName>, Vec<Text>) {
        let Some(m2m) = root.get("m2m") else { return (Vec::new(), Vec::new()) };
        self.unknown(m2m, "m2m", &["exposed", "needs", "roles"]);
        let exposed = self.flag(m2m, "m2m", "exposed");
        let named = self.role_list(m2m, "m2m", roles);
        if !named.is_empty() && !exposed {
            self.complain(&m2m.place, "m2m.roles requires m2m.exposed: true");
        }
        let mut seen = BTreeSet::new();
        for (n, name) in named.iter().enumerate() {
            if !seen.insert(name) {
                let text = format!("m2m.roles[{n}]: duplicate role \"{name}\"");
                self.complain(&m2m.place, text);
            }
        }
        let names: Vec<RoleName> = if !exposed {
            Vec::new()
        } else if named.is_empty() {
            roles.values().map(|role| role.name.clone()).collect()
        } else {
            named.iter().filter_map(|name| Some(roles.get(name)?.name.clone())).collect()
        };
        let mut needs = Vec::new();
        for (n, item) in self.list(m2m, "needs").iter().enumerate() {
            match item.text().map(str::trim).filter(|name| !name.is_empty()) {
                Some(name) => {
                    needs.push(Text { text: name.to_owned(), place: item.place.clone() });
                }
                None => self.complain(&item.place, format!("m2m.needs[{n}]: must not be empty")),
            }
        }
        (names, needs)
    }

    /// `scope.dimensions`: checked, and left out.
    fn dimensions(&mut self, root: &Node) {
        let Some(scope) = root.get("scope") else { return };
        self.unknown(scope, "scope", &["dimensions"]);
        let dimensions = self.list(scope, "dimensions").to_vec();
        let mut parents = BTreeMap::new();
        for (n, node) in dimensions.iter().enumerate() {
            let at = format!("scope.dimensions[{n}]");
            self.known(node, &at, &DIMENSION);
            let Some(name) = self.word(node, &at, "name") else { continue };
            self.word(node, &at, "param");
            if !matches!(self.word(node, &at, "from").as_deref(), Some("path" | "query" | "header"))
            {
                let text = format!("{at}: from must be `path`, `query` or `header`");
                self.complain(&node.place, text);
            }
            let collection = self.word(node, &at, "collection").unwrap_or_default();
            self.covers(node, &at, &collection);
            let parent = node.get("parent").and_then(Node::text).map(str::to_owned);
            if parents.insert(name.clone(), parent).is_some() {
                self.complain(&node.place, format!("{at}: duplicate dimension `{name}`"));
            }
            let text = format!(
                "scope dimension `{name}` (`{collection}`): permissions here are held in the whole organization; write a policy over `context.path` for what is narrower"
            );
            self.leave_out(&node.place, text);
        }
        for (n, node) in dimensions.iter().enumerate() {
            let Some(name) = node.get("name").and_then(Node::text) else { continue };
            self.parent(node, n, name, &parents);
        }
    }

    fn covers(&mut self, dimension: &Node, at: &str, collection: &str) {
        let mut seen = BTreeSet::from([collection.to_lowercase()]);
        for item in self.list(dimension, "covers").to_vec() {
            let name = item.text().unwrap_or_default().to_lowercase();
            if name.is_empty() || !seen.insert(name) {
                let text = format!("{at}: covers must be names, each once, and not the collection");
                self.complain(&item.place, text);
            }
        }
    }

    fn parent(
        &mut self,
        node: &Node,
        n: usize,
        name: &str,
        parents: &BTreeMap<String, Option<String>>,
    ) {
        let (mut at, mut steps) = (name, 0);
        while let Some(Some(parent)) = parents.get(at) {
            if !parents.contains_key(parent) {
                if at == name {
                    let text = format!("scope.dimensions[{n}]: undeclared parent `{parent}`");
                    self.complain(&node.place, text);
                }
                return;
            }
            steps += 1;
            if steps > parents.len() {
                let text = format!("scope.dimensions[{n}]: `{name}` is above itself");
                self.complain(&node.place, text);
                return;
            }
            at = parent;
        }
    }

    /// What is left: told, for nothing here says it.
    fn rest(&mut self, root: &Node) {
        if let Some(node) = root.get("partners")
            && self.flag(root, "manifest", "partners")
        {
            self.leave_out(&node.place, "`partners`: there are no partners here");
        }
        let own = root.get("service").and_then(Node::text).unwrap_or_default().to_lowercase();
        let mut seen = BTreeSet::new();
        for (n, item) in self.list(root, "integrations").to_vec().iter().enumerate() {
            let name = item.text().unwrap_or_default().trim();
            let lower = name.to_lowercase();
            if name.is_empty() {
                self.complain(&item.place, format!("integrations[{n}]: must not be empty"));
            } else if lower == own {
                self.complain(&item.place, format!("integrations[{n}]: is the service itself"));
            } else if !seen.insert(lower) {
                let text = format!("integrations[{n}]: duplicate service \"{name}\"");
                self.complain(&item.place, text);
            } else {
                self.leave_out(&item.place, format!("integration `{name}`: there are none here"));
            }
        }
        for item in self.list(root, "levels").to_vec() {
            self.known(&item, "levels", &["resource", "action", "level"]);
            let of = |name| item.get(name).and_then(Node::text).unwrap_or_default();
            let name = format!("{}:{}", of("resource"), of("action"));
            self.level(&item, &name);
        }
        if let Some(node) = root.get("routes") {
            let text = "`routes` speaks to the product's own code; `import openapi` makes routes";
            self.leave_out(&node.place, text);
        }
        for (key, _) in root.entries().iter().filter(|(key, _)| !MEMBERS.contains(&&*key.text)) {
            self.stranger(&key.place, format!("`{}` is not known", key.text));
        }
    }

    fn unknown(&mut self, node: &Node, at: &str, known: &[&str]) {
        for (key, _) in node.entries().iter().filter(|(key, _)| !known.contains(&&*key.text)) {
            self.stranger(&key.place, format!("`{at}.{}` is not known", key.text));
        }
    }

    /// The members of something of which unknown ones are only told where that counts.
    fn known(&mut self, node: &Node, at: &str, known: &[&str]) {
        if self.strict {
            self.unknown(node, at, known);
        }
    }

    /// A member that nobody knows.
    fn stranger(&mut self, place: &Place, text: String) {
        if self.strict {
            let text: String = text.chars().take(128).flat_map(char::escape_debug).collect();
            self.complain(place, text);
        } else {
            self.leave_out(place, text);
        }
    }

    /// A list, or nothing.
    fn list<'n>(&mut self, node: &'n Node, name: &str) -> &'n [Node] {
        let Some(list) = node.get(name) else { return &[] };
        if !matches!(list.value, Value::List(_)) {
            self.complain(&list.place, format!("`{name}` is {}, not a list", list.kind()));
        }
        list.items()
    }

    /// A text that must be there and hold something.
    fn word(&mut self, node: &Node, at: &str, name: &str) -> Option<String> {
        let said = node.get(name);
        match said.and_then(Node::text).map(str::trim) {
            Some(text) if !text.is_empty() => Some(text.to_owned()),
            _ => {
                let place = said.map_or(&node.place, |said| &said.place);
                self.complain(place, format!("{at}: {name} must not be empty"));
                None
            }
        }
    }

    fn flag(&mut self, node: &Node, at: &str, name: &str) -> bool {
        let Some(said) = node.get(name) else { return false };
        said.bool().unwrap_or_else(|| {
            let text = format!("{at}: {name} must be true or false, not {}", said.kind());
            self.complain(&said.place, text);
            false
        })
    }

    fn complain(&mut self, place: &Place, text: impl Into<String>) {
        self.complaints.push(place.complain(text));
    }

    fn leave_out(&mut self, place: &Place, text: impl Into<String>) {
        self.left_out.push(place.complain(text));
    }
}

fn write(mut declarations: Vec<Declaration>) -> Result<Imported, Complaints> {
    declarations.sort_by(|a, b| a.product.cmp(&b.product));
    let mut imported = Imported::default();
    for one in &mut declarations {
        imported.left_out.append(&mut one.left_out);
        imported.notes.append(&mut one.notes);
    }
    let mut drafts: Vec<Draft> = declarations.iter().map(draft).collect();
    groups(&declarations, &mut drafts);
    applications(&declarations, &mut drafts, &mut imported);
    for (one, draft) in declarations.iter().zip(&drafts) {
        if one.permissions.is_empty() && one.roles.is_empty() {
            imported
                .leave_out(&one.place, format!("service `{}` declares no permission", one.product));
            continue;
        }
        imported.files.insert(draft.file(), draft.text()?);
        if let Some(text) = forbids(one) {
            imported.files.insert(format!("{}/denied.cedar", one.product), text);
        }
    }
    Ok(imported.sorted())
}

fn draft(one: &Declaration) -> Draft {
    let mut draft = Draft::new(one.product.clone());
    draft.head = vec![
        format!(
            "From the permission manifest {}, by `postern policy import`.",
            file_name(&one.place.file)
        ),
        "Its roles are named `{service}/{role}` there; what a name may not have is a hyphen here."
            .to_owned(),
    ];
    for declared in &one.permissions {
        draft.declare(&declared.permission);
    }
    for (name, role) in &one.roles {
        let grants = one
            .permissions
            .iter()
            .filter(|declared| !declared.deny && declared.roles.contains(name))
            .map(|declared| exactly(&declared.permission));
        draft.roles.push(DraftRole {
            name: role.name.clone(),
            title: name.clone(),
            comment: format!("line {}", role.place.line),
            grants: grants.collect(),
        });
    }
    draft
}

fn exactly(permission: &Permission) -> Grant {
    Grant { resource: Some(permission.resource.clone()), action: Some(permission.action.clone()) }
}

/// A group is one for the whole installation: the first service that grants to it declares it, with
/// the roles of all.
fn groups(declarations: &[Declaration], drafts: &mut [Draft]) {
    let mut held: BTreeMap<&GroupName, (usize, BTreeSet<RoleName>)> = BTreeMap::new();
    for (n, one) in declarations.iter().enumerate() {
        for role in one.roles.values() {
            for group in &role.groups {
                held.entry(group).or_insert((n, BTreeSet::new())).1.insert(role.name.clone());
            }
        }
    }
    for (group, (n, roles)) in held {
        drafts[n].groups.entry(group.clone()).or_default().roles = roles;
    }
}

/// What an application made for a service holds: the service's exposed roles, and those of the
/// services it calls.
fn applications(declarations: &[Declaration], drafts: &mut [Draft], imported: &mut Imported) {
    for (one, draft) in declarations.iter().zip(drafts) {
        draft.applications.clone_from(&one.exposed);
        for need in &one.needs {
            let other = declarations.iter().find(|other| other.product.as_str() == need.text);
            match other {
                Some(other) if !other.exposed.is_empty() => {
                    draft.applications.extend(other.exposed.iter().cloned());
                }
                Some(_) => imported.leave_out(
                    &need.place,
                    format!("m2m.needs: service `{}` exposes no role", need.text),
                ),
                None => imported.leave_out(
                    &need.place,
                    format!(
                        "m2m.needs: service `{}` is not among the sources; import it too, or add its role to `applications`",
                        need.text
                    ),
                ),
            }
        }
        let mut seen = BTreeSet::new();
        draft.applications.retain(|role| seen.insert(role.clone()));
    }
}

/// The permissions that are denied: a `forbid` each, for the holders of its roles.
fn forbids(one: &Declaration) -> Option<String> {
    let mut text = comment(
        "//",
        &format!(
            "What the permission manifest {} denies, by `postern policy import`.",
            file_name(&one.place.file)
        ),
    );
    let head = text.len();
    for declared in one.permissions.iter().filter(|declared| declared.deny) {
        for role in declared.roles.iter().filter_map(|name| one.roles.get(name)) {
            let permission = &declared.permission;
            text.push_str(&written(&Written {
                comment: format!("line {}", declared.place.line),
                id: format!("{}/denied/{permission}/{}", one.product, role.name),
                forbid: true,
                principal: format!("principal in {}", schema::uid("Role", role.name.as_str())),
                product: &one.product,
                permissions: &[permission],
            }));
        }
    }
    (text.len() > head).then_some(text)
}
