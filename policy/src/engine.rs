//! A question → a decision, over one compiled snapshot. No lock, no clock, no I/O.
//!
//! A role's policy has no conditions: its scope is its meaning, so it is compiled to a set of bits
//! and never evaluated. Policies that people wrote are found by their scopes in an index, and only
//! the conditions of those whose scope holds are evaluated, by Cedar itself; what has no conditions
//! needs no evaluation. Leaving out policies whose scope is false changes neither the decision nor
//! the reasons nor the errors; `tests/exact.rs` holds this engine against plain Cedar over the whole
//! set, on all three.

use std::{
    borrow::Cow,
    collections::{BTreeSet, HashMap, HashSet},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use cedar_policy::{
    Entities, Entity, EntityUid, PolicySet, Request, Schema, entities_errors::EntitiesError,
};
use cedar_policy_core::{ast, entities::Entities as CoreEntities};
use smallvec::SmallVec;

use crate::{
    catalog, compile,
    complaint::{Complaints, Place},
    condition::{self, Answer, Asker, Needs, Rule},
    entities,
    generate::{self, Generated, Holder},
    held::{Around, Held},
    index::{self, Index, Node, Tables},
    model::{
        caller::Subject,
        decision::{Decision, OnError, PolicyError, Revision, Verdict},
        grant::{Permission, Role},
        manifest::{Manifest, Route},
        name::{GroupName, OrgId, ProductName, RoleName},
        query::{Facts, PermissionId, Query},
    },
    schema,
    snapshot::Snapshot,
};

mod weigh;

/// A compiled snapshot.
pub struct Engine {
    /// No two engines of a process have the same.
    number: u64,
    snapshot: Arc<Snapshot>,
    schema: Schema,
    products: Vec<Product>,
    permissions: Vec<Known>,
    by_product: HashMap<ProductName, HashMap<Permission, PermissionId>>,
    by_permission: HashMap<Permission, Vec<PermissionId>>,
    roles: Vec<CompiledRole>,
    built_in_roles: HashMap<RoleName, usize>,
    own_roles: HashMap<OrgId, HashMap<RoleName, usize>>,
    built_in_groups: HashMap<GroupName, Vec<usize>>,
    own_groups: HashMap<OrgId, HashMap<GroupName, Vec<usize>>>,
    /// What every person may do.
    everyone: Vec<u32>,
    /// The generated policies, in the order of their names.
    grants: Vec<(Arc<str>, Bits)>,
    /// The policies that people wrote, beside `written`, and where to find them.
    rules: Vec<Rule>,
    index: Index,
    reasons: HashMap<Arc<str>, Arc<str>>,
    written: Vec<compile::Authored>,
    /// Every policy in Cedar's terms; made when somebody asks for it.
    whole: OnceLock<PolicySet>,
    on_error: OnError,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("revision", &self.snapshot.revision)
            .field("permissions", &self.permissions.len())
            .field("roles", &self.roles.len())
            .finish_non_exhaustive()
    }
}

struct Product {
    manifest: Arc<Manifest>,
    parameters: BTreeSet<String>,
}

struct Known {
    product: usize,
    permission: Permission,
    /// `midaz::accounts:get`, as logs name it.
    label: Arc<str>,
    /// The action with the groups it is in: Cedar looks for them among the entities, and a policy
    /// over an action group would not hold without them.
    action: Entity,
    /// The same, with all its groups, as the evaluator takes it.
    shared_action: Arc<ast::Entity>,
    action_uid: Arc<ast::EntityUID>,
    resource: EntityUid,
    resource_uid: Arc<ast::EntityUID>,
    /// Where the written policies are that speak of it.
    tables: Tables,
}

/// A role, and the places of its grants.
struct CompiledRole {
    role: Role,
    /// What whoever holds the role may do.
    all: Option<u32>,
    /// What people who hold it may do beside that.
    people: Vec<u32>,
}

/// One bit a permission.
struct Bits(Box<[u64]>);

impl Bits {
    fn of(ids: impl Iterator<Item = PermissionId>, count: usize) -> Self {
        let mut words = vec![0_u64; count.div_ceil(64)];
        for PermissionId(n) in ids {
            words[n as usize / 64] |= 1 << (n % 64);
        }
        Self(words.into())
    }

    fn has(&self, PermissionId(n): PermissionId) -> bool {
        self.0.get(n as usize / 64).is_some_and(|word| word >> (n % 64) & 1 == 1)
    }
}

impl Engine {
    /// Compile a snapshot.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with its policies. The snapshot must not come into force.
    #[expect(clippy::needless_pass_by_value, reason = "the engine keeps the snapshot")]
    pub fn compile(snapshot: Arc<Snapshot>) -> Result<Self, Complaints> {
        let whole_file = || Place::file(format!("snapshot {}", snapshot.revision));
        let schema = schema::build(&snapshot.products)
            .map_err(|error| whole_file().complain(format!("the schema does not hold: {error}")))?;
        let authored = compile::authored(&snapshot.policies, &schema, &snapshot.products)?;
        let roles: Vec<&Role> =
            snapshot.products.iter().flat_map(|m| &m.roles).chain(&snapshot.roles).collect();
        let generated = generate::policies(&snapshot.products, &roles)
            .map_err(|error| whole_file().complain(format!("a role does not hold: {error}")))?;
        let mut ids = HashSet::new();
        if let Some(twice) = generated.iter().find(|policy| !ids.insert(&policy.id)) {
            let told = format!("the role of policy `{}` stands twice", twice.id);
            return Err(whole_file().complain(told).into());
        }
        let build = Build { snapshot: Arc::clone(&snapshot), schema, roles, generated, authored };
        Ok(build.engine())
    }

    /// Compile a snapshot, for answers that treat a policy that cannot be evaluated like that.
    ///
    /// # Errors
    ///
    /// As [`Engine::compile`].
    pub fn compile_with(snapshot: Arc<Snapshot>, on_error: OnError) -> Result<Self, Complaints> {
        Self::compile(snapshot).map(|engine| Self { on_error, ..engine })
    }

    /// What a policy that cannot be evaluated does to the answer.
    pub fn on_error(&self) -> OnError {
        self.on_error
    }

    /// The revision of the snapshot.
    pub fn revision(&self) -> Revision {
        self.snapshot.revision
    }

    /// The snapshot this was compiled from.
    pub fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }

    /// The schema that every policy was validated against.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// Every policy, generated and written: what plain Cedar would be asked with. Made at the first
    /// call, for the engine itself has no use for it.
    pub fn policies(&self) -> &PolicySet {
        self.whole.get_or_init(|| {
            let roles: Vec<&Role> = self.roles.iter().map(|role| &role.role).collect();
            let generated = generate::policies(&self.snapshot.products, &roles)
                .expect("what was generated once is generated again");
            let all =
                generated.iter().map(|g| &g.policy).chain(self.written.iter().map(|w| &w.policy));
            PolicySet::from_policies(all.cloned()).expect("no two policies have one id")
        })
    }

    /// The policies that people wrote, in the order of files and lines.
    pub fn written(&self) -> &[compile::Authored] {
        &self.written
    }

    /// A permission by its names; `None` when the product does not declare it.
    pub fn permission(&self, product: &str, resource: &str, action: &str) -> Option<PermissionId> {
        let permission =
            Permission { resource: resource.parse().ok()?, action: action.parse().ok()? };
        self.by_product.get(product)?.get(&permission).copied()
    }

    /// The permissions of that name of every product, in the order of products.
    pub fn permissions_named(&self, resource: &str, action: &str) -> &[PermissionId] {
        let (Ok(resource), Ok(action)) = (resource.parse(), action.parse()) else { return &[] };
        let permission = Permission { resource, action };
        self.by_permission.get(&permission).map(Vec::as_slice).unwrap_or_default()
    }

    /// How many permissions there are.
    pub fn permission_count(&self) -> usize {
        self.permissions.len()
    }

    /// What an id stands for.
    pub fn name(&self, id: PermissionId) -> Option<(&ProductName, &Permission)> {
        let known = self.permissions.get(id.0 as usize)?;
        Some((&self.products[known.product].manifest.product, &known.permission))
    }

    /// What an id stands for, as logs name it: `midaz::accounts:get`.
    pub fn label(&self, id: PermissionId) -> Arc<str> {
        self.permissions.get(id.0 as usize).map_or_else(Arc::default, |k| Arc::clone(&k.label))
    }

    /// Whether a policy about a permission can read a path parameter of that name.
    pub fn reads(&self, id: PermissionId, parameter: &str) -> bool {
        let known = self.permissions.get(id.0 as usize);
        known.is_some_and(|known| self.products[known.product].parameters.contains(parameter))
    }

    /// The product whose manifest declares that name.
    pub fn product(&self, name: &str) -> Option<&Arc<Manifest>> {
        self.products.iter().map(|p| &p.manifest).find(|m| m.product.as_str() == name)
    }

    /// The rows of one route set of a product.
    ///
    /// # Errors
    ///
    /// The names of the product's sets, when it has none of that name.
    pub fn routes(&self, product: &str, set: &str) -> Result<Vec<&Route>, Vec<String>> {
        catalog::routes(&self.snapshot.products, product, set)
    }

    /// What the author of a policy tells whoever it turns away (`@reason`).
    pub fn reason(&self, policy: &str) -> Option<&Arc<str>> {
        self.reasons.get(policy)
    }

    /// What a subject holds, for as many decisions as it asks for.
    pub fn held(&self, subject: &Subject) -> Held {
        let mut grants: Vec<u32> = Vec::new();
        if subject.principal.is_user() {
            for role in self.roles_of_groups(subject) {
                grants.extend(self.roles[role].all.iter().chain(&self.roles[role].people));
            }
            grants.extend_from_slice(&self.everyone);
        } else {
            grants.extend(self.roles_of_application(subject).filter_map(|n| self.roles[n].all));
        }
        grants.sort_unstable();
        grants.dedup();
        let (subject, grants) = (subject.clone(), grants.into());
        Held { by: self.number, subject, grants, around: OnceLock::new() }
    }

    /// Whether that was worked out by this engine, and so need not be again.
    pub fn knows(&self, held: &Held) -> bool {
        held.by == self.number
    }

    /// Decide one question. Deny unless a policy permits and none forbids; what a policy that cannot
    /// be evaluated does is for [`OnError`] to say.
    pub fn decide(&self, query: &Query<'_>) -> Decision {
        self.decide_for(&self.held(query.subject), query.permission, query.facts)
    }

    /// Decide for whom what it holds has been worked out; the answer is that of [`Engine::decide`].
    pub fn decide_for(&self, held: &Held, permission: PermissionId, facts: &Facts<'_>) -> Decision {
        if !self.knows(held) {
            return self.decide_for(&self.held(&held.subject), permission, facts);
        }
        let mut decision = Decision::deny(self.revision());
        let Some(known) = self.permissions.get(permission.0 as usize) else {
            return decision;
        };
        let mut permits: SmallVec<[Arc<str>; 4]> =
            self.granting(held, permission).cloned().collect();
        if !known.tables.is_empty() {
            let answer = self.written_policies(held, known, facts);
            decision.errors = answer.errors;
            if !answer.forbids.is_empty() {
                decision.policies = answer.forbids;
                return decision;
            }
            if !answer.permits.is_empty() {
                permits.extend(answer.permits);
                permits.sort_unstable();
            }
        }
        if !self.on_error.denies(&decision.errors) && !permits.is_empty() {
            decision.policies = permits;
            decision.verdict = Verdict::Allow;
        }
        decision
    }

    /// Everything that a subject may do, under these circumstances, in the order of products,
    /// resources and actions.
    pub fn what_can(&self, subject: &Subject, facts: &Facts<'_>) -> Vec<(ProductName, Permission)> {
        let held = self.held(subject);
        let ids = (0..self.permissions.len()).filter_map(|n| u32::try_from(n).ok());
        ids.map(PermissionId)
            .filter(|permission| self.decide_for(&held, *permission, facts).allowed())
            .filter_map(|id| self.name(id))
            .map(|(product, permission)| (product.clone(), permission.clone()))
            .collect()
    }

    /// What has a part in an answer whatever the circumstances: whether roles permit, and the written
    /// policies whose scope holds.
    pub(crate) fn in_scope(
        &self,
        held: &Held,
        permission: PermissionId,
    ) -> Option<(bool, SmallVec<[&Rule; 8]>)> {
        let known = self.permissions.get(permission.0 as usize)?;
        let permits = self.granting(held, permission).next().is_some();
        Some((permits, self.candidates(self.around(held), known)))
    }

    /// The names of the generated policies that permit: the bits, read.
    fn granting<'a>(
        &'a self,
        held: &'a Held,
        permission: PermissionId,
    ) -> impl Iterator<Item = &'a Arc<str>> {
        let grants = held.grants.iter().filter_map(|n| self.grants.get(*n as usize));
        grants.filter(move |(_, bits)| bits.has(permission)).map(|(id, _)| id)
    }

    /// The roles of a group. An organization's own goes before a built-in one of the same name: no
    /// organization can make such a group, but a product that is added later may bring the name, and
    /// must not hand its rights to whoever happened to be there.
    fn group(&self, org: &OrgId, name: &GroupName) -> &[usize] {
        let own = self.own_groups.get(org).and_then(|groups| groups.get(name));
        own.or(self.built_in_groups.get(name)).map(Vec::as_slice).unwrap_or_default()
    }

    fn roles_of_groups<'a>(&'a self, subject: &'a Subject) -> impl Iterator<Item = usize> + 'a {
        let org = subject.principal.org();
        subject.groups.iter().flat_map(move |group| self.group(org, group)).copied()
    }

    fn roles_of_application<'a>(
        &'a self,
        subject: &'a Subject,
    ) -> impl Iterator<Item = usize> + 'a {
        let own = self.own_roles.get(subject.principal.org());
        subject.roles.iter().filter_map(move |name| {
            self.built_in_roles.get(name).or_else(|| own?.get(name)).copied()
        })
    }

    /// What the written policies say, those whose scope holds.
    fn written_policies(&self, held: &Held, known: &Known, facts: &Facts<'_>) -> Answer {
        let around = self.around(held);
        let candidates = self.candidates(around, known);
        let mut answer = Answer::default();
        for rule in candidates.iter().filter(|rule| rule.conditions.is_none()) {
            answer.take(rule);
        }
        let needs = needs_of(&candidates);
        if candidates.iter().all(|rule| rule.conditions.is_none()) {
            return answer.sorted();
        }
        let parameters = &self.products[known.product].parameters;
        let context = condition::context(&held.subject, facts, parameters, &needs);
        let entities = self.surroundings(held, around, known, &needs);
        match (context, entities) {
            (Ok(context), Ok(entities)) => {
                let uids = [&around.shared, &known.action_uid, &known.resource_uid];
                let asker = Asker::new(uids, context, entities.as_ref());
                candidates.iter().for_each(|rule| answer.ask(rule, &asker));
            }
            (Err(what), _) | (_, Err(what)) => {
                answer.errors.push(PolicyError { policy: PolicyError::REQUEST.into(), what });
            }
        }
        answer.sorted()
    }

    /// The written policies whose scope holds, in the order of files and lines.
    fn candidates(&self, around: &Around, known: &Known) -> SmallVec<[&Rule; 8]> {
        let principal = Node { uid: &around.principal, above: || &around.above };
        let resource = index::alone(&known.resource);
        let places = self.index.candidates(&known.tables, principal, resource);
        places
            .iter()
            .filter_map(|n| self.rules.get(*n as usize))
            .filter(|rule| rule.scope.holds(&around.principal, &known.resource))
            .collect()
    }

    /// The entities that conditions need.
    fn surroundings<'a>(
        &self,
        held: &Held,
        around: &'a Around,
        known: &Known,
        needs: &Needs,
    ) -> Result<Cow<'a, CoreEntities>, String> {
        if !needs.entities {
            return Ok(Cow::Owned(CoreEntities::new()));
        }
        let entities = around.entities.get_or_init(|| {
            let (groups, roles) = self.holding(&held.subject);
            entities::closed(&held.subject, groups, roles)
        });
        let entities = entities.as_ref().map_err(Clone::clone)?;
        if !needs.action {
            return Ok(Cow::Borrowed(entities));
        }
        entities::with_action(entities.clone(), Arc::clone(&known.shared_action)).map(Cow::Owned)
    }

    /// A subject in Cedar's terms.
    fn around<'a>(&self, held: &'a Held) -> &'a Around {
        held.around.get_or_init(|| {
            let principal = entities::principal(&held.subject);
            let (groups, roles) = self.holding(&held.subject);
            let shared = shared(&principal);
            let above = entities::above(&held.subject, groups, roles);
            Around { principal, shared, above, entities: OnceLock::new() }
        })
    }

    /// A person's groups with the roles of each, and an application's own roles.
    fn holding<'a>(
        &'a self,
        subject: &'a Subject,
    ) -> (impl Iterator<Item = (&'a GroupName, Vec<&'a Role>)>, impl Iterator<Item = &'a Role>)
    {
        let org = subject.principal.org();
        let user = subject.principal.is_user();
        let role = |n: &usize| &self.roles[*n].role;
        let groups = subject
            .groups
            .iter()
            .filter(move |_| user)
            .map(move |name| (name, self.group(org, name).iter().map(role).collect()));
        let roles =
            self.roles_of_application(subject).filter(move |_| !user).map(|n| &self.roles[n].role);
        (groups, roles)
    }

    fn request(&self, query: &Query<'_>, known: &Known) -> Result<Request, String> {
        let parameters = &self.products[known.product].parameters;
        let context = entities::context(query.subject, query.facts, parameters)?;
        let principal = entities::principal(query.subject);
        let (action, resource) = (known.action.uid(), known.resource.clone());
        Request::new(principal, action, resource, context, None).map_err(|error| error.to_string())
    }

    fn entities(&self, subject: &Subject, known: &Known) -> Result<Entities, Box<EntitiesError>> {
        let (groups, roles) = self.holding(subject);
        entities::around(subject, groups, roles, known.action.clone())
    }

    /// What plain Cedar is asked for a query: the reference that this engine is held against.
    ///
    /// # Errors
    ///
    /// When the request cannot be put in Cedar's terms.
    pub fn reference(&self, query: &Query<'_>) -> Result<(Request, Entities), String> {
        let known =
            self.permissions.get(query.permission.0 as usize).ok_or("no such permission")?;
        let entities = self.entities(query.subject, known).map_err(|error| error.to_string())?;
        Ok((self.request(query, known)?, entities))
    }
}

/// What the conditions of these policies need together.
fn needs_of(rules: &[&Rule]) -> Needs {
    let mut needs = Needs::default();
    rules.iter().filter(|rule| rule.conditions.is_some()).for_each(|rule| needs.and(&rule.needs));
    needs
}

/// An engine in the making.
struct Build<'a> {
    snapshot: Arc<Snapshot>,
    schema: Schema,
    roles: Vec<&'a Role>,
    generated: Vec<Generated>,
    authored: Vec<compile::Authored>,
}

/// The number of the next engine.
static NEXT: AtomicU64 = AtomicU64::new(0);

impl Build<'_> {
    fn engine(self) -> Engine {
        let products: Vec<Product> = self
            .snapshot
            .products
            .iter()
            .map(|manifest| Product {
                manifest: Arc::clone(manifest),
                parameters: schema::parameters(manifest),
            })
            .collect();
        let index = Index::of(self.authored.iter().map(|written| &written.policy));
        let rules = self.authored.iter().map(|w| Rule::of(&w.id, &w.policy)).collect();
        let permissions = permissions(&products, &index);
        let mut by_product: HashMap<ProductName, HashMap<Permission, PermissionId>> =
            HashMap::new();
        let mut by_permission: HashMap<Permission, Vec<PermissionId>> = HashMap::new();
        for (n, known) in (0..).zip(&permissions) {
            let product = products[known.product].manifest.product.clone();
            by_product
                .entry(product)
                .or_default()
                .insert(known.permission.clone(), PermissionId(n));
            by_permission.entry(known.permission.clone()).or_default().push(PermissionId(n));
        }
        let mut generated: Vec<&Generated> = self.generated.iter().collect();
        generated.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        let bits = |generated: &Generated| {
            let ids = generated.permissions.iter().filter_map(|(product, permission)| {
                by_product.get(&products[*product].manifest.product)?.get(permission).copied()
            });
            (Arc::clone(&generated.id), Bits::of(ids, permissions.len()))
        };
        let mut roles: Vec<CompiledRole> = self
            .roles
            .iter()
            .map(|role| CompiledRole { role: (*role).clone(), all: None, people: Vec::new() })
            .collect();
        let mut everyone = Vec::new();
        for (n, generated) in (0..).zip(&generated) {
            match generated.holder {
                Holder::Role(role) => roles[role].all = Some(n),
                Holder::PeopleOf(role) => roles[role].people.push(n),
                Holder::Everyone => everyone.push(n),
            }
        }
        let grants = generated.iter().map(|generated| bits(generated)).collect();
        let (built_in_roles, own_roles) = by_owner(
            roles.iter().enumerate().map(|(n, r)| (r.role.org.as_ref(), r.role.name.clone(), n)),
        );
        let held = |org: Option<&OrgId>, names: &[RoleName]| -> Vec<usize> {
            let own = org.and_then(|org| own_roles.get(org));
            let find = |name| {
                own.and_then(|own| own.get(name)).or_else(|| built_in_roles.get(name)).copied()
            };
            names.iter().filter_map(find).collect()
        };
        let groups = self.snapshot.products.iter().flat_map(|m| &m.groups);
        let (built_in_groups, own_groups) =
            by_owner(groups.chain(&self.snapshot.groups).map(|group| {
                let roles = held(group.org.as_ref(), &group.roles);
                (group.org.as_ref(), group.name.clone(), roles)
            }));
        let reasons = self
            .authored
            .iter()
            .filter_map(|policy| Some((Arc::clone(&policy.id), policy.reason.clone()?)))
            .collect();
        Engine {
            number: NEXT.fetch_add(1, Ordering::Relaxed),
            snapshot: Arc::clone(&self.snapshot),
            schema: self.schema,
            products,
            permissions,
            by_product,
            by_permission,
            roles,
            built_in_roles,
            own_roles,
            built_in_groups,
            own_groups,
            everyone,
            grants,
            rules,
            index,
            reasons,
            written: self.authored,
            whole: OnceLock::new(),
            on_error: OnError::default(),
        }
    }
}

/// Every permission, each with where the policies are that speak of it.
fn permissions(products: &[Product], index: &Index) -> Vec<Known> {
    let mut known = Vec::new();
    for (n, product) in products.iter().enumerate() {
        let manifest = &product.manifest;
        for permission in manifest.permissions() {
            let action = schema::action(&manifest.product, &permission);
            let (uid, groups) = (action.uid(), index::groups(&action));
            let resource = schema::resource_uid(&manifest.product, &permission.resource);
            known.push(Known {
                product: n,
                label: format!("{}::{permission}", manifest.product).into(),
                tables: index.tables(&uid, &groups),
                action,
                shared_action: Arc::new(entities::below(&uid, &groups)),
                action_uid: shared(&uid),
                resource_uid: shared(&resource),
                resource,
                permission,
            });
        }
    }
    known
}

fn shared(uid: &EntityUid) -> Arc<ast::EntityUID> {
    let uid: &ast::EntityUID = uid.as_ref();
    Arc::new(uid.clone())
}

/// Split what is built in from what organizations own, both by name.
fn by_owner<'a, N: Eq + std::hash::Hash, T>(
    items: impl Iterator<Item = (Option<&'a OrgId>, N, T)>,
) -> (HashMap<N, T>, HashMap<OrgId, HashMap<N, T>>) {
    let mut built_in = HashMap::new();
    let mut own: HashMap<OrgId, HashMap<N, T>> = HashMap::new();
    for (org, name, item) in items {
        match org {
            None => built_in.insert(name, item),
            Some(org) => own.entry(org.clone()).or_default().insert(name, item),
        };
    }
    (built_in, own)
}
