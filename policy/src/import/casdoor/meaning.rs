//! What the facts grant, product by product, and how a policy folder says it.
//!
//! A role becomes a manifest's role as far as that says exactly what the rules say. What it would
//! not say, or would say of too much, is written as a policy: a role's rights in other products, the
//! rights of a single person, and whatever is denied.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    sync::Arc,
};

use super::{
    Options,
    facts::{ANY, Facts, Rule},
    model::{self, Model},
};
use crate::{
    complaint::{Complaint, Complaints},
    import::{
        Imported,
        draft::{Draft, DraftGroup, DraftRole, Written, comment, quoted, written},
        file_name, listing, safe,
    },
    model::{
        grant::{Grant, Permission},
        name::{ActionName, GroupName, OrgId, ProductName, ResourceName, RoleName, UserId},
    },
    schema,
};

/// Permissions of products.
type Set = BTreeSet<(ProductName, Permission)>;

/// Work out what the facts mean, and write it down.
pub(super) fn write(
    mut facts: Facts,
    options: &Options,
    files: &[Arc<str>],
) -> Result<Imported, Complaints> {
    let mut imported = std::mem::take(&mut facts.imported);
    let nodes = Nodes::of(&facts);
    let rules = understood(&facts, &mut imported);
    let world = World::of(&rules, &facts, &nodes, options)?;
    let making =
        Making { facts: &facts, nodes: &nodes, world: &world, imported, complaints: Vec::new() };
    let rights = making.rights(&rules);
    making.folder(&rights, files)
}

/// What each name is.
struct Nodes {
    roles: BTreeSet<String>,
    groups: BTreeSet<String>,
    /// What each is a member of.
    above: BTreeMap<String, BTreeSet<String>>,
}

impl Nodes {
    fn of(facts: &Facts) -> Self {
        let mut above: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for link in &facts.links {
            above.entry(link.member.clone()).or_default().insert(link.of.clone());
        }
        let groups: BTreeSet<String> = facts.groups.keys().cloned().collect();
        let subjects: BTreeSet<&String> = facts.rules.iter().map(|rule| &rule.subject).collect();
        let named = |name: &&String| convention(name).is_some() || name.ends_with("-role");
        // Whatever has members is a role, unless it is known to be a group.
        let roles = (facts.roles.keys())
            .chain(facts.links.iter().map(|link| &link.of))
            .chain(subjects.into_iter().filter(named))
            .filter(|name| !groups.contains(*name) && !facts.people.contains_key(*name))
            .cloned()
            .collect();
        Self { roles, groups, above }
    }

    /// It, and everything that it is a member of, in however many steps.
    fn up(&self, name: &str) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let mut next = vec![name.to_owned()];
        while let Some(name) = next.pop() {
            if !found.contains(&name) {
                next.extend(self.above.get(&name).into_iter().flatten().cloned());
                found.insert(name);
            }
        }
        found
    }

    fn is_person(&self, name: &str) -> bool {
        !self.roles.contains(name) && !self.groups.contains(name)
    }
}

/// A rule whose model is understood and whose names can stand here.
struct Understood<'f> {
    rule: &'f Rule,
    /// The product that its object names.
    product: Option<ProductName>,
    /// `None` for any.
    resource: Option<ResourceName>,
    action: Option<ActionName>,
}

fn understood<'f>(facts: &'f Facts, imported: &mut Imported) -> Vec<Understood<'f>> {
    let known = known_products(facts);
    let mut rules = Vec::new();
    for rule in &facts.rules {
        let what = format!("the rule `{}` on `{}:{}`", rule.subject, rule.object, rule.action);
        let model = match model_of(rule, facts) {
            Ok(model) => model,
            Err(why) => {
                imported.leave_out(&rule.place, format!("{what}: {why}{}", open(rule.deny)));
                continue;
            }
        };
        if rule.deny && !model.denies {
            let text = format!("{what} denies, which has no effect under its model");
            imported.note(&rule.place, text);
            continue;
        }
        let any_object = rule.object == ANY && model.any_object;
        let any_action = rule.action == ANY && model.any_action;
        let (product, object) = match rule.object.split_once('/') {
            Some((product, object)) if known.contains(product) => (product.parse().ok(), object),
            _ => (None, rule.object.as_str()),
        };
        let resource = (!any_object).then(|| object.parse()).transpose();
        let action = (!any_action).then(|| rule.action.parse()).transpose();
        match (resource, action) {
            (Ok(resource), Ok(action)) => {
                // What nothing names is denied anyway.
                if !rule.deny && (any_object || any_action) {
                    let text = format!(
                        "{what}: `*` stands for what is named somewhere in the source, and for nothing else"
                    );
                    imported.leave_out(&rule.place, text);
                }
                rules.push(Understood { rule, product, resource, action });
            }
            (Err(error), _) | (_, Err(error)) => {
                imported.leave_out(&rule.place, format!("{what}: {error}"));
            }
        }
    }
    rules
}

/// What a reader must know of a rule that denies and is left out.
fn open(denies: bool) -> &'static str {
    if denies { "; it denies, and what it takes away may be open now" } else { "" }
}

fn model_of(rule: &Rule, facts: &Facts) -> Result<Model, String> {
    let named = |name: &str, read: &Result<Model, String>| {
        read.clone().map_err(|why| format!("its model `{name}` cannot be carried over: {why}"))
    };
    match &rule.model {
        Some(name) if name.is_empty() => Ok(model::DEFAULT),
        Some(name) => match facts.models.get(name) {
            Some((_, read)) => named(name, read),
            None => Err(format!("its model `{name}` is not among the sources")),
        },
        // A file of a model stands for all; without one, all there are must say the same.
        None => match (facts.models.get(""), facts.models.first_key_value()) {
            (Some((place, read)), _) => named(&place.file, read),
            (None, None) => Ok(model::ORIGINAL),
            (None, Some((name, (_, read)))) => {
                if facts.models.values().any(|(_, other)| other != read) {
                    return Err(
                        "there are several models, and the rules do not say which is theirs"
                            .to_owned(),
                    );
                }
                named(name, read)
            }
        },
    }
}

/// The product and level in `{product}-{level}-role`.
fn convention(role: &str) -> Option<ProductName> {
    let (product, level) = role.strip_suffix("-role")?.rsplit_once('-')?;
    let word = !level.is_empty() && level.chars().all(|c| c.is_ascii_lowercase());
    product.parse().ok().filter(|_| word)
}

/// The products that roles are named after: in `{product}-{level}-role`, or as the product of an
/// object `{product}/{resource}` that the role `{product}-…` has rights on.
fn known_products(facts: &Facts) -> BTreeSet<String> {
    let by_role = facts.roles.keys().chain(facts.rules.iter().map(|rule| &rule.subject));
    let named = by_role.filter_map(|role| convention(role)).map(|product| product.to_string());
    let prefixed = facts.rules.iter().filter_map(|rule| {
        let (product, _) = rule.object.split_once('/')?;
        product.parse::<ProductName>().ok()?;
        let own = rule.subject.strip_prefix(product)?.starts_with('-');
        own.then(|| product.to_owned())
    });
    named.chain(prefixed).collect()
}

/// Which product has what.
struct World {
    declared: BTreeMap<ProductName, BTreeSet<Permission>>,
    default: Option<ProductName>,
}

impl World {
    fn of(
        rules: &[Understood<'_>],
        facts: &Facts,
        nodes: &Nodes,
        options: &Options,
    ) -> Result<Self, Complaints> {
        let own =
            |rule: &Understood<'_>| rule.product.clone().or_else(|| convention(&rule.rule.subject));
        let mut has: BTreeMap<&ResourceName, BTreeSet<ProductName>> = BTreeMap::new();
        for rule in rules {
            if let (Some(resource), Some(product)) = (&rule.resource, own(rule)) {
                has.entry(resource).or_default().insert(product);
            }
        }
        let mut complaints: Vec<Complaint> = Vec::new();
        for rule in rules {
            let Some(resource) = rule.resource.as_ref().filter(|r| !has.contains_key(r)) else {
                continue;
            };
            match &options.product {
                Some(product) => {
                    has.entry(resource).or_default().insert(product.clone());
                }
                None => complaints.push(rule.rule.place.complain(format!(
                    "nothing says of which product `{resource}` is; give one with `--product`"
                ))),
            }
        }
        Complaints::unless(complaints, ())?;
        let mut declared: BTreeMap<ProductName, BTreeSet<Permission>> = BTreeMap::new();
        let actions: BTreeSet<&ActionName> =
            rules.iter().filter_map(|rule| rule.action.as_ref()).collect();
        // Rules that name both first: they say where a permission is. Any other is put with the
        // first product that has the resource.
        let mut later = Vec::new();
        for rule in rules {
            match (&rule.resource, &rule.action, own(rule)) {
                (Some(resource), Some(action), Some(product)) => {
                    let permission =
                        Permission { resource: resource.clone(), action: action.clone() };
                    declared.entry(product).or_default().insert(permission);
                }
                _ => later.push(rule),
            }
        }
        for rule in later {
            for (resource, products) in &has {
                if rule.resource.as_ref().is_some_and(|wanted| wanted != *resource) {
                    continue;
                }
                for action in &actions {
                    if rule.action.as_ref().is_some_and(|wanted| wanted != *action) {
                        continue;
                    }
                    let permission =
                        Permission { resource: (*resource).clone(), action: (*action).clone() };
                    let here = own(rule).filter(|product| products.contains(product));
                    let somewhere = declared.values().any(|set| set.contains(&permission));
                    let first = here.or_else(|| products.first().cloned());
                    if let Some(product) = first.filter(|_| !somewhere) {
                        declared.entry(product).or_default().insert(permission);
                    }
                }
            }
        }
        // A role that may do nothing still is of its product.
        for role in nodes.roles.iter().filter(|role| facts.roles.contains_key(*role)) {
            if let Some(product) = convention(role) {
                declared.entry(product).or_default();
            }
        }
        Ok(Self { declared, default: options.product.clone() })
    }

    /// What a rule speaks of.
    fn covered(&self, rule: &Understood<'_>) -> Set {
        let mut set = Set::new();
        for (product, permissions) in &self.declared {
            if rule.product.as_ref().is_some_and(|own| own != product) {
                continue;
            }
            let fits = |p: &&Permission| {
                rule.resource.as_ref().is_none_or(|resource| *resource == p.resource)
                    && rule.action.as_ref().is_none_or(|action| *action == p.action)
            };
            set.extend(permissions.iter().filter(fits).map(|p| (product.clone(), p.clone())));
        }
        set
    }

    /// The other products that have the same permission.
    fn others<'w>(
        &'w self,
        product: &'w ProductName,
        permission: &'w Permission,
    ) -> impl Iterator<Item = &'w ProductName> {
        self.declared
            .iter()
            .filter(move |(other, set)| *other != product && set.contains(permission))
            .map(|(other, _)| other)
    }

    /// Whether none of its permissions is another's too: then its roles open nothing elsewhere, and
    /// the manifest says so.
    fn isolated(&self, product: &ProductName) -> bool {
        let mut own = self.declared[product].iter();
        own.all(|permission| self.others(product, permission).next().is_none())
    }

    /// What a manifest's grant opens for people: itself, and the same in products that share it.
    fn opened(&self, product: &ProductName, permission: &Permission) -> Set {
        let others = self.others(product, permission).cloned();
        others.chain([product.clone()]).map(|product| (product, permission.clone())).collect()
    }
}

/// Who may do what, and who may not.
#[derive(Default)]
struct Rights {
    allowed: BTreeMap<String, Set>,
    denied: BTreeMap<String, Set>,
}

struct Making<'f> {
    facts: &'f Facts,
    nodes: &'f Nodes,
    world: &'f World,
    imported: Imported,
    complaints: Vec<Complaint>,
}

impl Making<'_> {
    fn rights(&self, rules: &[Understood<'_>]) -> Rights {
        let mut rights = Rights::default();
        for rule in rules {
            let set = if rule.rule.deny { &mut rights.denied } else { &mut rights.allowed };
            set.entry(rule.rule.subject.clone()).or_default().extend(self.world.covered(rule));
        }
        rights
    }

    fn folder(mut self, rights: &Rights, files: &[Arc<str>]) -> Result<Imported, Complaints> {
        let mut drafts = self.drafts(files);
        let mut policies = Policies::default();
        let homes = self.roles(rights, &mut drafts, &mut policies);
        let members = self.groups(&homes, &mut drafts);
        Self::everyone(rights, &mut drafts, &mut policies);
        self.groups_themselves(rights, &mut policies);
        self.people(rights, &mut policies);
        self.machines(&homes, &mut drafts);
        Complaints::unless(std::mem::take(&mut self.complaints), ())?;
        for draft in drafts.values() {
            if draft.resources.is_empty() && draft.roles.is_empty() {
                continue;
            }
            self.imported.files.insert(draft.file(), draft.text()?);
        }
        let from = from(files);
        if let Some(text) = policies.text(&from) {
            self.imported.files.insert("imported.cedar".to_owned(), text);
        }
        if let Some(text) = self.members(&members, &from) {
            self.imported.files.insert("members.yaml".to_owned(), text);
        }
        if self.imported.files.is_empty() {
            let place = crate::complaint::Place::file(files.first().cloned().unwrap_or_default());
            let text =
                "there is no rule in it that names both a resource and an action, and no role";
            let mut told = self.imported.left_out;
            told.push(place.complain(text));
            return Complaints::unless(told, Imported::default());
        }
        Ok(self.imported.sorted())
    }

    fn drafts(&self, files: &[Arc<str>]) -> BTreeMap<ProductName, Draft> {
        let draft = |(product, permissions): (&ProductName, &BTreeSet<Permission>)| {
            let mut draft = Draft::new(product.clone());
            draft.head = vec![format!("From {}, by `postern policy import`.", from(files))];
            draft.isolated = self.world.isolated(product);
            if !draft.isolated {
                draft.head.push(
                    "Rules there name no product: what another product has too, either's roles open."
                        .to_owned(),
                );
            }
            for permission in permissions {
                draft.declare(permission);
            }
            (product.clone(), draft)
        };
        self.world.declared.iter().map(draft).collect()
    }

    /// Declare the roles; the product and name of each.
    fn roles(
        &mut self,
        rights: &Rights,
        drafts: &mut BTreeMap<ProductName, Draft>,
        policies: &mut Policies,
    ) -> BTreeMap<String, (ProductName, RoleName)> {
        let mut homes = BTreeMap::new();
        let mut taken: BTreeMap<RoleName, &String> = BTreeMap::new();
        let nodes = self.nodes;
        for role in &nodes.roles {
            let above = nodes.up(role);
            let all = |of: &BTreeMap<String, Set>| -> Set {
                above.iter().filter_map(|name| of.get(name)).flatten().cloned().collect()
            };
            let (allowed, denied) = (all(&rights.allowed), all(&rights.denied));
            let place = self.place_of(role);
            let name: RoleName = match safe(role).parse() {
                Ok(name) => name,
                Err(error) => {
                    let denies = open(!denied.is_empty());
                    self.imported.leave_out(&place, format!("{error}{denies}"));
                    continue;
                }
            };
            if let Some(other) = taken.insert(Clone::clone(&name), role) {
                let denies = open(!denied.is_empty());
                let text =
                    format!("role `{role}` and role `{other}` are both `{name}` here{denies}");
                self.imported.leave_out(&place, text);
                continue;
            }
            let Some(home) = self.home(role, &allowed, &denied) else {
                let text = format!("role `{role}` grants nothing, and names no product");
                self.imported.note(&place, text);
                continue;
            };
            let mut kept = BTreeSet::new();
            let mut said = Set::new();
            for (_, permission) in allowed.iter().filter(|(product, _)| *product == home) {
                let opened = self.world.opened(&home, permission);
                if opened.is_subset(&allowed) {
                    said.extend(opened);
                    kept.insert(exactly(permission));
                }
            }
            let principal = format!("principal in {}", schema::uid("Role", name.as_str()));
            let rest: Set = allowed.difference(&said).cloned().collect();
            policies.add(
                &format!("role {role}"),
                &format!("imported/role/{name}"),
                false,
                &principal,
                &rest,
            );
            policies.add(
                &format!("role {role}, denied"),
                &format!("imported/denied/{name}"),
                true,
                &principal,
                &denied,
            );
            let Some(draft) = drafts.get_mut(&home) else { continue };
            let title = self.facts.roles.get(role).cloned().unwrap_or_default();
            let inherited: Vec<String> =
                above.iter().filter(|name| *name != role).cloned().collect();
            let comment = if inherited.is_empty() {
                String::new()
            } else {
                format!("With what it has by {}.", listing(inherited))
            };
            draft.roles.push(DraftRole { name: Clone::clone(&name), title, comment, grants: kept });
            homes.insert(role.clone(), (home, name));
        }
        homes
    }

    /// The product whose manifest declares a role.
    fn home(&self, role: &str, allowed: &Set, denied: &Set) -> Option<ProductName> {
        let named = convention(role).filter(|product| self.world.declared.contains_key(product));
        let first = || allowed.first().or(denied.first()).map(|(product, _)| product.clone());
        let default =
            || self.world.default.clone().filter(|name| self.world.declared.contains_key(name));
        named.or_else(first).or_else(default)
    }

    fn place_of(&self, name: &str) -> crate::complaint::Place {
        let by_rule = self.facts.rules.iter().find(|rule| rule.subject == name);
        by_rule.map_or_else(|| crate::complaint::Place::file("roles"), |rule| rule.place.clone())
    }

    /// Declare the groups that hold roles; the groups of each person.
    fn groups(
        &mut self,
        homes: &BTreeMap<String, (ProductName, RoleName)>,
        drafts: &mut BTreeMap<ProductName, Draft>,
    ) -> BTreeMap<String, BTreeSet<GroupName>> {
        let nodes = self.nodes;
        let mut held: BTreeMap<GroupName, (String, BTreeSet<RoleName>, ProductName)> =
            BTreeMap::new();
        let mut names: BTreeMap<&String, GroupName> = BTreeMap::new();
        for group in &nodes.groups {
            let place = self.place_of(group);
            let name: GroupName = match safe(group).parse() {
                Ok(name) => name,
                Err(error) => {
                    self.imported.leave_out(&place, error.to_string());
                    continue;
                }
            };
            let roles: Vec<&(ProductName, RoleName)> =
                nodes.up(group).iter().filter_map(|above| homes.get(above)).collect();
            let home = roles.iter().map(|(product, _)| product.clone()).min();
            let home = home.or_else(|| self.world.declared.keys().next().cloned());
            let Some(home) = home else { continue };
            let title = self.facts.groups.get(group).cloned().unwrap_or_default();
            let roles = roles.into_iter().map(|(_, role)| Clone::clone(role)).collect();
            if held.insert(Clone::clone(&name), (title, roles, home)).is_some() {
                let text = format!("another group is `{name}` here, like group `{group}`");
                self.imported.leave_out(&place, text);
                continue;
            }
            names.insert(group, name);
        }
        // A role that people hold directly gets a group of its own for them.
        let mut members: BTreeMap<String, BTreeSet<GroupName>> = BTreeMap::new();
        let people = nodes.above.keys().chain(self.facts.people.keys());
        for person in people.filter(|name| nodes.is_person(name)) {
            let groups = members.entry(person.clone()).or_default();
            for above in nodes.above.get(person).into_iter().flatten() {
                if let Some(name) = names.get(above) {
                    groups.insert(Clone::clone(name));
                } else if let Some((home, role)) = homes.get(above) {
                    let Ok(name) = format!("{role}-members").parse::<GroupName>() else { continue };
                    let title = format!("Who holds {above}");
                    let roles = BTreeSet::from([Clone::clone(role)]);
                    held.entry(Clone::clone(&name)).or_insert((title, roles, home.clone()));
                    groups.insert(name);
                }
            }
        }
        for (name, (title, roles, home)) in held {
            if let Some(draft) = drafts.get_mut(&home) {
                draft.groups.insert(name, DraftGroup { title, roles });
            }
        }
        members
    }

    /// What everybody may do, and may not.
    fn everyone(
        rights: &Rights,
        drafts: &mut BTreeMap<ProductName, Draft>,
        policies: &mut Policies,
    ) {
        for (product, permission) in rights.allowed.get(ANY).into_iter().flatten() {
            if let Some(draft) = drafts.get_mut(product) {
                draft.everyone.insert(exactly(permission));
            }
        }
        if let Some(denied) = rights.denied.get(ANY) {
            policies.add(
                "everybody, denied",
                "imported/denied/everybody",
                true,
                "principal is User",
                denied,
            );
        }
    }

    /// Rules over a group itself: policies, for a manifest grants to roles alone.
    fn groups_themselves(&mut self, rights: &Rights, policies: &mut Policies) {
        for group in &self.nodes.groups {
            for (of, forbid) in [(&rights.allowed, false), (&rights.denied, true)] {
                let above = self.nodes.up(group);
                // What it has by roles is the roles'.
                let own = above.iter().filter(|name| self.nodes.groups.contains(*name));
                let set: Set = own.filter_map(|name| of.get(name)).flatten().cloned().collect();
                if set.is_empty() {
                    continue;
                }
                let Some(org) = self.organization(group) else { continue };
                let uid = schema::uid("Group", &format!("{org}/{}", safe(group)));
                let kind = if forbid { "denied" } else { "group" };
                policies.add(
                    &format!("group {group}"),
                    &format!("imported/{kind}/group/{group}"),
                    forbid,
                    &format!("principal in {uid}"),
                    &set,
                );
            }
        }
    }

    /// The organization, which the id of somebody with rules of their own needs.
    fn organization(&mut self, of: &str) -> Option<OrgId> {
        if self.facts.organization.is_none() {
            let text =
                format!("the rules of `{of}` need the organization; give it with `--organization`");
            self.complaints.push(self.place_of(of).complain(text));
        }
        self.facts.organization.clone()
    }

    /// Rules over one person: policies by the person's id.
    fn people(&mut self, rights: &Rights, policies: &mut Policies) {
        let subjects: BTreeSet<&String> =
            rights.allowed.keys().chain(rights.denied.keys()).collect();
        for person in subjects.into_iter().filter(|n| *n != ANY && self.nodes.is_person(n)) {
            let place = self.place_of(person);
            let Some(org) = self.organization(person) else { continue };
            let known = self.facts.people.get(person).and_then(|person| person.id.as_ref());
            let id = match known.unwrap_or(person).parse::<UserId>() {
                Ok(id) => id,
                Err(error) => {
                    let denies = open(rights.denied.contains_key(person));
                    self.imported.leave_out(&place, format!("{error}{denies}"));
                    continue;
                }
            };
            let text = format!(
                "`{person}` has rules of their own; the policy knows them by the id `{id}`, which must be theirs here too"
            );
            self.imported.note(&place, text);
            let principal = format!("principal == {}", schema::uid("User", &format!("{org}/{id}")));
            for (of, forbid, kind) in
                [(&rights.allowed, false, "user"), (&rights.denied, true, "denied/user")]
            {
                if let Some(set) = of.get(person) {
                    policies.add(
                        &format!("person {person}"),
                        &format!("imported/{kind}/{id}"),
                        forbid,
                        &principal,
                        set,
                    );
                }
            }
        }
    }

    /// The roles of applications, by the product that `{product}-m2m-permission` names.
    fn machines(
        &mut self,
        homes: &BTreeMap<String, (ProductName, RoleName)>,
        drafts: &mut BTreeMap<ProductName, Draft>,
    ) {
        for machine in &self.facts.machines {
            let named = machine.name.strip_suffix("-m2m-permission").and_then(|p| p.parse().ok());
            let roles: Vec<&(ProductName, RoleName)> =
                machine.roles.iter().filter_map(|role| homes.get(role)).collect();
            let product: Option<ProductName> =
                named.or_else(|| roles.first().map(|(product, _)| product.clone()));
            let draft = product.and_then(|product| drafts.get_mut(&product));
            let Some(draft) = draft.filter(|_| !roles.is_empty()) else {
                let text = format!(
                    "permission `{}` is for applications of no known product",
                    machine.name
                );
                self.imported.leave_out(&machine.place, text);
                continue;
            };
            for (_, role) in roles {
                if !draft.applications.contains(role) {
                    draft.applications.push(Clone::clone(role));
                }
            }
            let text = format!(
                "permission `{}`: applications hold its roles, and may do what these may",
                machine.name
            );
            self.imported.note(&machine.place, text);
        }
    }

    fn members(
        &self,
        members: &BTreeMap<String, BTreeSet<GroupName>>,
        from: &str,
    ) -> Option<String> {
        let rows: Vec<_> = members.iter().filter(|(_, groups)| !groups.is_empty()).collect();
        if rows.is_empty() {
            return None;
        }
        let mut text = comment(
            "#",
            &format!("Who is in which group, from {from}, by `postern policy import`."),
        );
        text.push_str("#\n# No policy: people are kept by the identity service. A list to put them there by.\n");
        if let Some(org) = &self.facts.organization {
            let _ = writeln!(text, "organization: {}", quoted(org.as_str()));
        }
        text.push_str("members:\n");
        for (person, groups) in rows {
            let groups: Vec<String> = groups.iter().map(|group| quoted(group.as_str())).collect();
            let _ = writeln!(text, "  {}: [{}]", quoted(person), groups.join(", "));
        }
        Some(text)
    }
}

fn exactly(permission: &Permission) -> Grant {
    Grant { resource: Some(permission.resource.clone()), action: Some(permission.action.clone()) }
}

fn from(files: &[Arc<str>]) -> String {
    files.iter().map(|file| file_name(file)).collect::<Vec<_>>().join(", ")
}

/// The policies that are written by hand.
#[derive(Default)]
struct Policies(String);

impl Policies {
    /// One policy a product: actions of two cannot stand in one list.
    fn add(&mut self, comment: &str, id: &str, forbid: bool, principal: &str, set: &Set) {
        let mut products: BTreeMap<&ProductName, Vec<&Permission>> = BTreeMap::new();
        for (product, permission) in set {
            products.entry(product).or_default().push(permission);
        }
        for (product, permissions) in products {
            self.0.push_str(&written(&Written {
                comment: comment.to_owned(),
                id: format!("{id}/{product}"),
                forbid,
                principal: principal.to_owned(),
                product,
                permissions: &permissions,
            }));
        }
    }

    fn text(&self, from: &str) -> Option<String> {
        let head = comment(
            "//",
            &format!("From {from}, by `postern policy import`: what no manifest says."),
        );
        (!self.0.is_empty()).then(|| format!("{head}{}", self.0))
    }
}
