//! Rules of what products publish of themselves at their start.
//!
//! A service speaks of itself alone, in its application's organization alone, and gives away only what is
//! its own: the permissions that it is the first to name, and of those that the policy folder names the ones
//! that it holds itself. What is decided with it is decided before the answer.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use policy::{
    catalog::Catalog,
    changes::{Fact, Standing},
    engine::Engine,
    import::declarations::{Published, PublishedPermission, PublishedRole},
    model::{
        caller::{Authentication, Principal, Subject},
        grant,
        name::{GroupName, OrgId, RoleName, UserId},
        query::Facts,
    },
};
use serde_json::{Map, Value, json};

use crate::{
    admin::person,
    app::App,
    bearer::{self, Bearer},
    clock,
    config::Config,
    declared::OURS,
    error::Error,
    holdings::Power,
    model::{
        declaration::{Declaration, DeclaredGrant, Vocabulary},
        event::{Change, Event},
        role::Role,
    },
    publish,
    store::Tx,
    words,
};

/// The most permissions that one product has, in all organizations together.
const MOST_WORDS: usize = 5000;

/// What became of a declaration.
#[derive(Debug)]
pub struct Outcome {
    pub published: Published,
    /// Whether it was another one than before.
    pub changed: bool,
}

/// Put what a service declares in the place of what it declared before.
pub async fn put(
    app: &App,
    by: &Bearer,
    service: &str,
    manifest: Map<String, Value>,
) -> Result<Outcome, Error> {
    let Principal::Application { org, id } = &by.caller.subject.principal else {
        return Err(Error::NotTheService("only an application publishes a declaration"));
    };
    let client = app.store.read(org).await?.client_of(id).await?.ok_or(Error::TokenInvalid)?;
    let said = manifest.get("service").and_then(Value::as_str).unwrap_or(service);
    if service != client.name || said != service {
        let rule = "an application declares the service that it is named after, and no other";
        return Err(Error::NotTheService(rule));
    }
    if OURS.contains(&service) {
        return Err(Error::NotTheService("this product is Postern's own, and the folder's to say"));
    }
    let published = Published::read(&Value::Object(manifest)).map_err(Error::Declaration)?;
    let mut tx = app.store.read(org).await?;
    let before = tx.declared_hash(service).await?;
    if before.as_ref() == Some(&published.hash) {
        return Ok(Outcome { published, changed: false });
    }
    let wanted = Wanted::check(app, &mut tx, org, &published).await?;
    drop(tx);
    wanted.stands(app, by).await?;

    let mut tx = app.store.begin(org).await?;
    // Whoever was removed or given another name while this was looked at declares nothing.
    if app.changes.standing(&by.caller) == Standing::Revoked {
        return Err(Error::TokenInvalid);
    }
    bearer::present(app, &mut tx, &by.caller).await?;
    tx.declare(&wanted.declaration, id, app.clock.now()).await?;
    for id in tx.applications_of(service).await? {
        let Some(client) = tx.client_of(&id).await? else { continue };
        let (groups, roles) = (Vec::new(), app.roles_of(&client));
        let principal = Principal::Application { org: org.clone(), id };
        app.record(&mut tx, Fact::Holds { principal, groups, roles }).await?;
    }
    let of = ("product", service);
    let told = json!({"version": published.version, "hash": published.hash});
    let change = Change { before: before.map(|hash| json!({"hash": hash})), after: Some(told) };
    app.audit(&mut tx, &by.caller.subject.principal, Event::Declared, of, change);
    tx.move_revision().await?;
    app.commit(tx).await?;
    tracing::info!(
        by = %by.caller.subject.principal, product = %service, version = published.version,
        "a product has declared itself anew"
    );
    for what in &published.left_out {
        tracing::warn!(product = %service, what, "a declaration says what means nothing here");
    }
    Ok(Outcome { published, changed: true })
}

/// A declaration that fits the organization, and is yet to be tried.
struct Wanted {
    org: OrgId,
    declaration: Declaration,
    /// The roles that it takes the place of.
    before: Vec<RoleName>,
    /// The words of the folder.
    folder: Arc<Catalog>,
}

impl Wanted {
    /// Look for what a name of it means here already.
    async fn check(
        app: &App,
        tx: &mut Tx,
        org: &OrgId,
        published: &Published,
    ) -> Result<Self, Error> {
        let folder = app.folder.load_full();
        let service = &published.product;
        let before = tx.declared_roles(service.as_str()).await?;
        let mut violations = Vec::new();
        for (n, declared) in published.permissions.iter().enumerate().filter(|(_, p)| p.deny) {
            violations.push(format!(
                "permissions[{n}]: `{}` denies, which is not taken here; leave the roles out",
                declared.permission
            ));
        }
        for role in &published.roles {
            let same =
                |other: &RoleName| words::fold(other.as_str()) == words::fold(role.name.as_str());
            let built_in = folder.roles().any(|other| same(&other.name));
            let taken = !before.contains(&role.name) && tx.role_taken(&role.name).await?;
            if built_in || taken {
                violations.push(format!(
                    "roles: `{}` would be `{}`, and there is another role of that name",
                    role.title, role.name
                ));
            }
        }
        let names: BTreeSet<&GroupName> = published.roles.iter().flat_map(|r| &r.groups).collect();
        let own = tx.own_groups().await?;
        let mut new_groups = Vec::new();
        for name in names {
            if folder.group(name).is_some() || own.iter().any(|own| own.name == *name) {
                continue;
            }
            let like = |name: &str, other: &str| words::fold(name) == words::fold(other);
            let imitates = folder.groups().any(|group| {
                like(name.as_str(), group.name.as_str()) || like(name.as_str(), &group.title)
            });
            if imitates || tx.group_taken(name).await? {
                violations.push(format!("roles: group `{name}` looks like one that there is"));
            }
            new_groups.push(name.clone());
        }
        let len = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        let kept = tx.own_role_count().await?.saturating_sub(len(before.len()));
        let Config { max_own_roles, max_own_groups, .. } = app.config;
        if kept + len(published.roles.len()) > max_own_roles {
            violations
                .push(format!("roles: the organization would have more than {max_own_roles}"));
        }
        if len(own.len()) + len(new_groups.len()) > max_own_groups {
            violations.push(format!("roles: there would be more than {max_own_groups} groups"));
        }
        if !violations.is_empty() {
            return Err(Error::Declaration(violations));
        }
        let now = app.clock.now();
        let role = |declared: &PublishedRole| {
            let held = |p: &&PublishedPermission| p.roles.contains(&declared.name);
            let permissions = published.permissions.iter().filter(held);
            let role = Role {
                name: declared.name.clone(),
                product: service.clone(),
                title: declared.title.clone(),
                permissions: permissions.map(|declared| declared.permission.clone()).collect(),
                created_at: now,
                declared: true,
            };
            (role, declared.machine)
        };
        let grants = |role: &PublishedRole| {
            let name = role.name.clone();
            role.groups.iter().map(move |group| (group.clone(), name.clone())).collect::<Vec<_>>()
        };
        let declaration = Declaration {
            service: service.clone(),
            version: published.version,
            hash: published.hash.clone(),
            manifest: published.canonical.clone(),
            permissions: published.permissions.iter().map(|p| p.permission.clone()).collect(),
            roles: published.roles.iter().map(role).collect(),
            grants: published.roles.iter().flat_map(grants).collect(),
            new_groups,
        };
        Ok(Self { org: org.clone(), declaration, before, folder })
    }

    /// Try it: the policy must compile with it, and nobody may get by it what is not the service's to
    /// give. Roles tell only a part of that: other products may share its permissions, and a policy
    /// written by hand may permit more under a role's name.
    async fn stands(&self, app: &App, by: &Bearer) -> Result<(), Error> {
        let Declaration { service, permissions, roles, grants, new_groups, .. } = &self.declaration;
        let org = &self.org;
        let mut then = app.store.additions().await?;
        then.words.retain(|words| words.org != *org || words.service != *service);
        then.words.push(Vocabulary {
            org: org.clone(),
            service: service.clone(),
            permissions: permissions.clone(),
        });
        let of_service = then.words.iter().filter(|words| words.service == *service);
        let all: BTreeSet<_> = of_service.flat_map(|words| &words.permissions).collect();
        if all.len() > MOST_WORDS {
            let told = format!("permissions: the product would have more than {MOST_WORDS}");
            return Err(Error::Declaration(vec![told]));
        }
        let ours =
            |of: Option<&OrgId>, name: &RoleName| of == Some(org) && self.before.contains(name);
        then.roles.retain(|role| !ours(role.org.as_ref(), &role.name));
        then.grants.retain(|grant| !ours(Some(&grant.org), &grant.role));
        let role = |(role, _): &(Role, bool)| grant::Role {
            name: role.name.clone(),
            org: Some(org.clone()),
            product: role.product.clone(),
            title: role.title.clone(),
            grants: role.permissions.iter().map(exactly).collect(),
        };
        then.roles.extend(roles.iter().map(role));
        for name in new_groups {
            let (org, name, title) = (Some(org.clone()), name.clone(), String::new());
            then.groups.push(grant::Group { name, org, title, roles: Vec::new() });
        }
        let grant = |(group, role): &(GroupName, RoleName)| DeclaredGrant {
            org: org.clone(),
            group: group.clone(),
            role: role.clone(),
        };
        then.grants.extend(grants.iter().map(grant));
        // A group for each role, that holds nothing else.
        let mut holders = BTreeMap::new();
        for (role, _) in roles {
            let holder = clock::random_id()?.to_string();
            let holder: GroupName = holder.parse().map_err(|_| Error::BadId("group id"))?;
            then.groups.push(grant::Group {
                name: holder.clone(),
                org: Some(org.clone()),
                title: String::new(),
                roles: vec![role.name.clone()],
            });
            holders.insert(role.name.clone(), holder);
        }
        let snapshot = publish::foreseen(app, then, &self.folder);
        if !snapshot.products.iter().any(|product| product.product == *service) {
            let told = format!("service: `{service}` is too like the name of another product");
            return Err(Error::Declaration(vec![told]));
        }
        let on_error = app.config.on_error;
        let compile = move || Engine::compile_with(Arc::new(snapshot), on_error);
        let compiled = tokio::task::spawn_blocking(compile).await;
        let engine = compiled
            .map_err(|error| Error::Fault(Box::new(error)))?
            .map_err(|complaints| Error::Declaration(vec![complaints.to_string()]))?;
        let machine = roles.iter().filter(|(_, machine)| *machine);
        let somebody = clock::random_id()?.to_string();
        let trial = Trial {
            before: app.live.load_full(),
            then: Arc::new(engine),
            caller: by.caller.subject.clone(),
            somebody: somebody.parse().map_err(|_| Error::BadId("user id"))?,
            replaced: self.before.clone(),
            holders,
            machine: machine.map(|(role, _)| role.name.clone()).collect(),
            now: app.clock.now(),
        };
        let (service, folder) = (service.clone(), Arc::clone(&self.folder));
        let gained = tokio::task::spawn_blocking(move || trial.gains());
        let (held, gained) = gained.await.map_err(|error| Error::Fault(Box::new(error)))?;
        let manifest = folder.product(service.as_str());
        let given = |power: &&Power| {
            let (product, permission) = power;
            let known = manifest.is_some_and(|manifest| manifest.declares(permission));
            *product == service && (!known || held.contains(*power))
        };
        let beyond = gained.iter().filter(|power| !given(power));
        let told: Vec<String> = beyond
            .map(|(product, permission)| {
                format!(
                    "roles: they would open `{permission}` of `{product}`, which the service does not \
                     hold itself and so cannot give"
                )
            })
            .take(20)
            .collect();
        if told.is_empty() { Ok(()) } else { Err(Error::Declaration(told)) }
    }
}

fn exactly(permission: &grant::Permission) -> grant::Grant {
    let (resource, action) = (permission.resource.clone(), permission.action.clone());
    grant::Grant { resource: Some(resource), action: Some(action) }
}

/// The policy with and without a declaration.
struct Trial {
    before: Arc<Engine>,
    then: Arc<Engine>,
    caller: Subject,
    /// An id that nobody has.
    somebody: UserId,
    /// The roles that the declaration takes the place of.
    replaced: Vec<RoleName>,
    /// By role, the group that holds it and nothing else.
    holders: BTreeMap<RoleName, GroupName>,
    /// The roles that the service's own applications hold.
    machine: Vec<RoleName>,
    now: u64,
}

impl Trial {
    /// What the service's application may do now; and what anybody gets by a role of the declaration.
    fn gains(&self) -> (BTreeSet<Power>, BTreeSet<Power>) {
        let held = self.can(&self.before, &self.caller);
        let mut gained = BTreeSet::new();
        let org = self.caller.principal.org();
        let somebody = Principal::User { org: org.clone(), id: self.somebody.clone() };
        let outside = self.can(&self.then, &person(somebody.clone(), &[]));
        for holder in self.holders.values() {
            let inside = person(somebody.clone(), std::slice::from_ref(holder));
            gained.extend(self.can(&self.then, &inside).difference(&outside).cloned());
        }
        let without = self.caller.roles.iter().filter(|role| !self.replaced.contains(role));
        let with = without.clone().chain(&self.machine);
        let machine = |roles: Vec<RoleName>| {
            self.can(&self.then, &Subject { roles: roles.into(), ..self.caller.clone() })
        };
        let outside = machine(without.cloned().collect());
        gained.extend(machine(with.cloned().collect()).difference(&outside).cloned());
        (held, gained)
    }

    /// What a subject may do who has just signed in, with one factor or with more.
    fn can(&self, engine: &Engine, subject: &Subject) -> BTreeSet<Power> {
        let strong = Authentication {
            acr: Some("aal2".to_owned()),
            amr: vec!["pwd".to_owned(), "mfa".to_owned()],
            auth_time: Some(self.now),
        };
        let none = Facts { now: self.now, ..Facts::default() };
        let strong = Facts { authentication: Some(&strong), ..none.clone() };
        [none, strong].iter().flat_map(|facts| engine.what_can(subject, facts)).collect()
    }
}
