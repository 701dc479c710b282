//! Random products, roles, groups and hand-written policies (permit and forbid; any, one, listed and
//! grouped actions; conditions that hold, do not hold, and cannot be evaluated), and who asks.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    sync::Arc,
};

use policy::{
    catalog::Catalog,
    engine::Engine,
    model::{
        caller::{Authentication, Principal, Subject},
        decision::Revision,
        grant::{Group, Role},
        manifest::Manifest,
        query::Facts,
    },
    snapshot::{PolicyText, Snapshot},
};
use proptest::prelude::*;

pub const PRODUCTS: [&str; 3] = ["alpha", "beta", "plugin-gamma"];
const NAMESPACES: [&str; 3] = ["Alpha", "Beta", "PluginGamma"];
pub const RESOURCES: [&str; 3] = ["accounts", "rules", "notes"];
pub const ACTIONS: [&str; 3] = ["get", "patch", "rule:create"];
const ORGS: [&str; 2] = ["acme", "zeta"];
const GROUPS: usize = 4;

const SCOPES: [&str; 12] = [
    "principal",
    "principal is User",
    "principal is Application",
    "principal in Group::\"acme/g0\"",
    "principal in Role::\"r0\"",
    "principal in Role::\"acme/own\"",
    "principal == User::\"acme/u1\"",
    "principal is User in Organization::\"zeta\"",
    "principal in Organization::\"acme\"",
    "principal == Application::\"acme/a1\"",
    "principal is Application in Role::\"r1\"",
    "principal in User::\"zeta/u2\"",
];

/// Of the product in whose words the action is written.
const THINGS: [&str; 6] = [
    "resource",
    "resource",
    "resource is @::Resource",
    "resource == @::Resource::\"accounts\"",
    "resource in @::Resource::\"rules\"",
    "resource is @::Resource in @::Resource::\"notes\"",
];

/// Conditions of all outcomes. The last ones overflow: they pass validation and fail in evaluation.
const CONDITIONS: [&str; 23] = [
    "",
    "when { context.mfa }",
    "unless { context.mfa }",
    "when { context has client && context.client.isLoopback() }",
    "when { context.organization == \"acme\" }",
    "when { context.path has id && context.path.id like \"a*\" }",
    "when { context.amr.contains(\"pwd\") && principal in Group::\"acme/g1\" }",
    "when { principal in Role::\"r1\" || principal == User::\"acme/u0\" }",
    "when { Group::\"acme/g2\" in Role::\"r2\" }",
    "when { Group::\"acme/g0\" in Organization::\"acme\" }",
    "when { principal is User } unless { context.amr.containsAny([\"mfa\", \"otp\"]) }",
    "when { context.now > datetime(\"1970-01-01T00:30:00Z\") }",
    "when { context has authenticated && context.now.durationSince(context.authenticated) < duration(\"15m\") }",
    "when { context has client && context.client.isInRange(ip(\"10.0.0.0/8\")) }",
    "when { resource == @::Resource::\"accounts\" || action in @::Action::\"*:patch\" }",
    "when { {a: context}.a.mfa }",
    "when { context has path.id && context.path.id == \"abc\" }",
    "unless { context has client }",
    "when { if context has acr then context.acr == \"2\" else context[\"mfa\"] }",
    "when { context == context && [context.organization].contains(\"zeta\") }",
    "when { principal in [Group::\"acme/g0\", Group::\"acme/g1\"] }",
    "when { 9223372036854775807 + 1 == 0 }",
    "when { context.mfa && 9223372036854775807 + 1 == 0 }",
];

#[derive(Debug, Clone)]
struct Written {
    forbid: bool,
    scope: usize,
    action: usize,
    product: usize,
    thing: usize,
    condition: usize,
    /// Whether it is a template, where its scope names a principal, and a link of it.
    linked: bool,
}

impl Written {
    /// The entity that its scope names, where a slot can stand for it.
    fn slot(&self) -> Option<&'static str> {
        let named = SCOPES[self.scope].split(' ').next_back().filter(|end| end.contains('"'))?;
        self.linked.then_some(named)
    }

    fn link(&self, n: usize) -> Option<serde_json::Value> {
        let args = serde_json::json!({ "?principal": self.slot()? });
        Some(
            serde_json::json!({ "template_id": format!("t{n}"), "link_id": format!("p{n}"), "args": args }),
        )
    }

    fn text(&self, n: usize) -> String {
        let effect = if self.forbid { "forbid" } else { "permit" };
        let of = NAMESPACES[self.product];
        let action = match self.action {
            0 => "action".to_owned(),
            1 => format!("action == {of}::Action::\"accounts:get\""),
            2 => format!("action in {of}::Action::\"accounts:*\""),
            3 => format!("action in {of}::Action::\"*:get\""),
            4 => format!(
                "action in [{of}::Action::\"rules:rule:create\", {of}::Action::\"*:patch\"]"
            ),
            5 => format!("action == {of}::Action::\"accounts:*\""),
            _ => format!("action in {of}::Action::\"*:*\""),
        };
        let thing = THINGS[self.thing].replace('@', of);
        let (id, scope) = match self.slot() {
            Some(slot) => ("t", SCOPES[self.scope].replace(slot, "?principal")),
            None => ("p", SCOPES[self.scope].to_owned()),
        };
        let condition = CONDITIONS[self.condition].replace('@', of);
        format!("@id(\"{id}{n}\")\n{effect} ({scope}, {action}, {thing})\n{condition};\n")
    }
}

#[derive(Debug, Clone)]
pub struct World {
    isolated: [bool; 3],
    /// Grants of `r0`, `r1`, `r2`, one of each product; and of `acme`'s own role.
    grants: Vec<BTreeSet<(Option<usize>, Option<usize>)>>,
    /// The roles of each group.
    held: Vec<BTreeSet<usize>>,
    everyone: bool,
    written: Vec<Written>,
}

pub fn worlds() -> impl Strategy<Value = World> {
    let grant =
        (proptest::option::weighted(0.8, 0..3_usize), proptest::option::weighted(0.8, 0..3_usize));
    let grants = proptest::collection::vec(proptest::collection::btree_set(grant, 0..4), 4);
    let held = proptest::collection::vec(proptest::collection::btree_set(0..3_usize, 0..3), GROUPS);
    let written =
        (
            prop::bool::weighted(0.4),
            0..SCOPES.len(),
            0..7_usize,
            0..3_usize,
            0..THINGS.len(),
            prop_oneof![4 => 0..CONDITIONS.len() - 2, 1 => CONDITIONS.len() - 2..CONDITIONS.len()],
            prop::bool::weighted(0.3),
        )
            .prop_map(|(forbid, scope, action, product, thing, condition, linked)| {
                Written { forbid, scope, action, product, thing, condition, linked }
            });
    let written = proptest::collection::vec(written, 0..6);
    (any::<[bool; 3]>(), grants, held, any::<bool>(), written).prop_map(
        |(isolated, grants, held, everyone, written)| World {
            isolated,
            grants,
            held,
            everyone,
            written,
        },
    )
}

#[derive(Debug, Clone)]
pub struct Asker {
    user: bool,
    org: usize,
    id: usize,
    groups: BTreeSet<usize>,
    mfa: bool,
    client: Option<bool>,
    id_parameter: Option<bool>,
}

pub fn askers() -> impl Strategy<Value = Asker> {
    (
        any::<bool>(),
        0..2_usize,
        0..3_usize,
        proptest::collection::btree_set(0..GROUPS, 0..4),
        any::<bool>(),
        any::<Option<bool>>(),
        any::<Option<bool>>(),
    )
        .prop_map(|(user, org, id, groups, mfa, client, id_parameter)| Asker {
            user,
            org,
            id,
            groups,
            mfa,
            client,
            id_parameter,
        })
}

fn manifest(world: &World, n: usize) -> Arc<Manifest> {
    let mut text =
        format!("product: {}\nisolated: {}\nresources:\n", PRODUCTS[n], world.isolated[n]);
    for resource in RESOURCES {
        let _ = writeln!(text, "  {resource}: [get, patch, 'rule:create']");
    }
    if world.everyone && n == 0 {
        text.push_str("everyone: {notes: [get]}\n");
    }
    text.push_str("roles:\n");
    let _ = writeln!(text, "  r{n}:\n    permissions:");
    let mut by_resource: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (resource, action) in &world.grants[n] {
        let action = action.map_or("*", |a| ACTIONS[a]);
        let resource = resource.map_or("'*'", |r| RESOURCES[r]);
        by_resource.entry(resource).or_default().push(format!("'{action}'"));
    }
    if by_resource.is_empty() {
        text.truncate(text.trim_end().len());
        text.push_str(" {}\n");
    }
    for (resource, actions) in by_resource {
        let _ = writeln!(text, "      {resource}: [{}]", actions.join(", "));
    }
    text.push_str("route_sets: {v1: {table: ['GET /x/{id} -> accounts:get']}}\n");
    Arc::new(Manifest::parse("product.yaml", &text).unwrap_or_else(|e| panic!("{e}\n{text}")))
}

pub fn engine(world: &World) -> Engine {
    let products = (0..3).map(|n| manifest(world, n)).collect();
    let catalog = Catalog::new(products, Vec::new()).unwrap();
    let text: String = world.written.iter().enumerate().map(|(n, w)| w.text(n)).collect();
    let links: serde_json::Value =
        world.written.iter().enumerate().filter_map(|(n, w)| w.link(n)).collect();
    let file = |file: &str, text: String| PolicyText {
        file: file.into(),
        product: None,
        text: text.into(),
    };
    let grants = |n: usize| {
        world.grants[n]
            .iter()
            .map(|(r, a)| {
                let r = r.map_or("*", |r| RESOURCES[r]);
                let a = a.map_or("*", |a| ACTIONS[a]);
                format!("{r}:{a}").parse().unwrap()
            })
            .collect()
    };
    let own = Role {
        name: "own".parse().unwrap(),
        org: Some("acme".parse().unwrap()),
        product: PRODUCTS[0].parse().unwrap(),
        title: String::new(),
        grants: grants(3),
    };
    let groups = ORGS.iter().flat_map(|org| {
        (0..GROUPS).map(move |n| {
            let mut roles: Vec<_> =
                world.held[n].iter().map(|r| format!("r{r}").parse().unwrap()).collect();
            if n == 3 {
                roles.push("own".parse().unwrap());
            }
            Group {
                name: format!("g{n}").parse().unwrap(),
                org: Some(org.parse().unwrap()),
                title: String::new(),
                roles,
            }
        })
    });
    let snapshot = Snapshot {
        revision: Revision(7),
        products: catalog.products,
        roles: vec![own],
        groups: groups.collect(),
        policies: vec![file("p.cedar", text), file("links.json", links.to_string())],
        issuer: None,
        guests: Vec::new(),
    };
    Engine::compile(Arc::new(snapshot)).unwrap_or_else(|e| panic!("{e}"))
}

impl Asker {
    pub fn subject(&self) -> Subject {
        let org = ORGS[self.org].parse().unwrap();
        let principal = if self.user {
            Principal::User { org, id: format!("u{}", self.id).parse().unwrap() }
        } else {
            Principal::Application { org, id: format!("a{}", self.id).parse().unwrap() }
        };
        let named = |n: &usize| format!("g{n}").parse().unwrap();
        let role = |n: &usize| if *n == 3 { "own".parse() } else { format!("r{n}").parse() };
        Subject {
            principal,
            groups: self.groups.iter().map(named).collect(),
            roles: self.groups.iter().map(|n| role(n).unwrap()).collect(),
        }
    }

    /// Under this one's circumstances.
    pub fn with_facts<T>(&self, with: impl FnOnce(&Facts<'_>) -> T) -> T {
        let mut amr = vec!["pwd".to_owned()];
        amr.extend(self.mfa.then(|| "mfa".to_owned()));
        let authentication = Authentication { acr: None, amr, auth_time: Some(1_000) };
        let parameters: Vec<(&str, &str)> =
            self.id_parameter.iter().map(|a| ("id", if *a { "abc" } else { "xyz" })).collect();
        with(&Facts {
            client: self.client.map(|l| if l { "127.0.0.1" } else { "10.0.0.1" }.parse().unwrap()),
            now: 2_000,
            authentication: Some(&authentication),
            parameters: &parameters,
        })
    }
}

#[expect(clippy::disallowed_methods, reason = "a test reads how long it may take")]
pub fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(60)
}
