//! The two directions of a question: who can do this, and what can they do?
//!
//! Answered for every request at once. A policy without conditions holds by its scope alone; with
//! conditions it may hold or not, and one that may fail in evaluation makes any answer conditional,
//! for a failure denies. `Yes` means the engine allows whatever the circumstances, `No` that it
//! denies; `tests/search.rs` holds both against it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use cedar_policy::Effect;
use serde::Serialize;
use serde_json::Value;

use crate::{
    clause,
    engine::Engine,
    explain,
    model::{
        caller::{Principal, Subject},
        name::{GroupName, OrgId, RoleName},
        query::PermissionId,
    },
    rights::Rights,
};

/// Operators and functions of Cedar that cannot fail once a policy has been validated strictly:
/// all but arithmetic and the shifting of dates, which may overflow. Constructors take literals
/// only, which the validator reads.
const SAFE: [&str; 34] = [
    "Value",
    "Var",
    "!",
    "==",
    "!=",
    "in",
    "<",
    "<=",
    ">",
    ">=",
    "&&",
    "||",
    "contains",
    "containsAll",
    "containsAny",
    "isEmpty",
    ".",
    "has",
    "like",
    "is",
    "if-then-else",
    "Set",
    "Record",
    "ip",
    "decimal",
    "datetime",
    "duration",
    "isIpv4",
    "isIpv6",
    "isLoopback",
    "isMulticast",
    "isInRange",
    "lessThan",
    "greaterThan",
];

/// Whether a subject may do something, whatever the circumstances.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "may", content = "by", rename_all = "snake_case")]
pub enum May {
    Yes,
    /// With the policies that forbid it whatever the circumstances.
    No(Vec<Arc<str>>),
    /// It depends on these.
    Conditional(Vec<Arc<Condition>>),
}

/// A written policy that may hold or not.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Condition {
    pub policy: Arc<str>,
    pub place: String,
    pub forbids: bool,
    /// Its `when` and `unless`, as they are written.
    pub text: String,
    /// Whether its evaluation may fail, which denies.
    pub may_fail: bool,
}

/// One of whom `who` speaks: a subject that stands for all like it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asker {
    pub name: String,
    pub subject: Subject,
}

/// A compiled snapshot, ready to be searched.
#[derive(Debug)]
pub struct Search<'a> {
    engine: &'a Engine,
    rights: Rights<'a>,
    conditions: BTreeMap<Arc<str>, Arc<Condition>>,
    named: Named,
}

/// The entities that written policies name.
#[derive(Debug, Default)]
struct Named {
    /// These, and those that have roles or groups of their own.
    orgs: BTreeSet<OrgId>,
    by_policies: BTreeSet<OrgId>,
    groups: BTreeSet<(OrgId, GroupName)>,
    principals: BTreeSet<Principal>,
}

impl<'a> Search<'a> {
    /// Prepare.
    ///
    /// # Errors
    ///
    /// When Cedar does not take a policy back, which it has given.
    pub fn new(engine: &'a Engine) -> Result<Self, String> {
        let rights = Rights::of(engine.snapshot())?;
        let mut named = Named::default();
        let mut conditions = BTreeMap::new();
        for written in engine.written() {
            let tree = written.policy.to_json().map_err(|error| error.to_string())?;
            named.note(&tree);
            if tree["conditions"].as_array().is_some_and(|list| !list.is_empty()) {
                let condition = Condition {
                    policy: Arc::clone(&written.id),
                    place: written.place.to_string(),
                    forbids: written.policy.effect() == Effect::Forbid,
                    text: clause::conditions(&explain::source(engine, written)),
                    may_fail: may_fail(&tree["conditions"]),
                };
                conditions.insert(Arc::clone(&written.id), Arc::new(condition));
            }
        }
        named.by_policies.clone_from(&named.orgs);
        named.orgs.extend(rights.roles.iter().filter_map(|role| role.org.clone()));
        named.orgs.extend(rights.groups.iter().filter_map(|group| group.org.clone()));
        Ok(Self { engine, rights, conditions, named })
    }

    /// Whether a subject may do something.
    ///
    /// # Errors
    ///
    /// When it is no permission of this engine.
    pub fn may(&self, subject: &Subject, permission: PermissionId) -> Result<May, String> {
        let held = self.engine.held(subject);
        let (mut permitted, holding) =
            self.engine.in_scope(&held, permission).ok_or("no such permission")?;
        let (mut forbidden, mut conditional) = (Vec::new(), Vec::new());
        for rule in holding {
            // A condition that is always true is none.
            let condition = rule.conditions.as_ref().and_then(|_| self.conditions.get(&rule.id));
            match (condition, rule.forbids) {
                (Some(condition), _) => conditional.push(Arc::clone(condition)),
                (None, true) => forbidden.push(Arc::clone(&rule.id)),
                (None, false) => permitted = true,
            }
        }
        forbidden.sort_unstable();
        conditional.sort_unstable_by(|a, b| a.policy.cmp(&b.policy));
        Ok(settle(forbidden, permitted, conditional))
    }

    /// Who may do something: everyone of whom the answer is not that of all the others.
    ///
    /// # Errors
    ///
    /// As [`Search::may`].
    pub fn who(&self, permission: PermissionId) -> Result<Vec<(Asker, May)>, String> {
        let mut rows = Vec::new();
        let stranger = self.stranger();
        let mut anywhere = BTreeMap::new();
        for asker in self.of(&stranger, None) {
            let may = self.may(&asker.subject, permission)?;
            anywhere.insert(asker.name.clone(), may.clone());
            rows.push((asker, may));
        }
        for org in &self.named.orgs {
            for mut asker in self.of(org, Some(org)) {
                let may = self.may(&asker.subject, permission)?;
                // A built-in name is told again only where the organization makes a difference.
                if anywhere.get(&asker.name) != Some(&may) {
                    asker.name = format!("{} of organization `{org}`", asker.name);
                    rows.push((asker, may));
                }
            }
        }
        for principal in &self.named.principals {
            let subject = alone(principal.clone());
            let may = self.may(&subject, permission)?;
            rows.push((Asker { name: format!("{principal} alone"), subject }, may));
        }
        Ok(rows)
    }

    /// What a subject may do: all permissions but those it may not.
    ///
    /// # Errors
    ///
    /// As [`Search::may`].
    pub fn what(&self, subject: &Subject) -> Result<Vec<(PermissionId, May)>, String> {
        let mut rows = Vec::new();
        for product in &self.engine.snapshot().products {
            for permission in product.permissions() {
                let (resource, action) = (permission.resource.as_str(), permission.action.as_str());
                let id = self.engine.permission(product.product.as_str(), resource, action);
                let id = id.ok_or_else(|| format!("no permission `{permission}`"))?;
                match self.may(subject, id)? {
                    May::No(_) => {}
                    may => rows.push((id, may)),
                }
            }
        }
        Ok(rows)
    }

    /// Somebody of an organization that no policy, role or group names.
    pub fn somebody(&self) -> Principal {
        person(&self.stranger(), &self.unnamed())
    }

    /// An application of an organization that no policy, role or group names.
    pub fn some_application(&self) -> Principal {
        application(&self.stranger(), &self.unnamed())
    }

    /// The people of whom a table of groups speaks, each with the organization that it is about: of
    /// any, one without groups and one in each built-in group; of those that have groups of their own,
    /// one in each; of those that policies name, everybody once more.
    pub fn people(&self) -> Vec<(Option<OrgId>, Asker)> {
        let people =
            |askers: Vec<Asker>| askers.into_iter().filter(|a| a.subject.principal.is_user());
        let mut rows: Vec<_> = people(self.of(&self.stranger(), None)).map(|a| (None, a)).collect();
        for org in &self.named.orgs {
            let told = |asker: &Asker| {
                self.named.by_policies.contains(org)
                    || asker.subject.groups.iter().any(|name| self.is_own(org, name))
            };
            let of = people(self.of(org, Some(org))).filter(told);
            rows.extend(of.map(|asker| (Some(org.clone()), asker)));
        }
        rows
    }

    fn is_own(&self, org: &OrgId, name: &GroupName) -> bool {
        self.rights
            .groups
            .iter()
            .any(|group| group.org.as_ref() == Some(org) && group.name == *name)
    }

    /// The persons and applications that policies name, each by itself.
    pub fn principals(&self) -> impl Iterator<Item = &Principal> {
        self.named.principals.iter()
    }

    /// Those of one organization: everybody, who is in one group, what holds one role.
    fn of(&self, org: &OrgId, own: Option<&OrgId>) -> Vec<Asker> {
        let id = self.unnamed();
        let of_org = |of: Option<&OrgId>| of.is_none() || of == own;
        let mut askers = vec![Asker {
            name: "a person without groups".to_owned(),
            subject: alone(person(org, &id)),
        }];
        let groups: BTreeSet<&GroupName> = self
            .rights
            .groups
            .iter()
            .filter(|group| of_org(group.org.as_ref()))
            .map(|group| &group.name)
            .chain(self.named.groups.iter().filter(|(of, _)| of == org).map(|(_, name)| name))
            .collect();
        askers.extend(groups.into_iter().map(|group| Asker {
            name: format!("group `{group}`"),
            subject: Subject { groups: [group.clone()].into(), ..alone(person(org, &id)) },
        }));
        let roles: BTreeSet<&RoleName> = self
            .rights
            .roles
            .iter()
            .filter(|role| of_org(role.org.as_ref()))
            .map(|role| &role.name)
            .collect();
        askers.push(Asker {
            name: "an application without roles".to_owned(),
            subject: alone(application(org, &id)),
        });
        askers.extend(roles.into_iter().map(|role| Asker {
            name: format!("an application with role `{role}`"),
            subject: Subject { roles: [role.clone()].into(), ..alone(application(org, &id)) },
        }));
        askers
    }

    fn stranger(&self) -> OrgId {
        fresh("any", |org: &OrgId| self.named.orgs.contains(org))
    }

    fn unnamed(&self) -> String {
        fresh("someone", |id: &String| self.named.principals.iter().any(|p| p.id() == id))
    }
}

/// A name that is not taken yet.
fn fresh<N: std::str::FromStr>(stem: &str, taken: impl Fn(&N) -> bool) -> N {
    let numbered = (1..usize::MAX).map(|n| format!("{stem}-{n}"));
    std::iter::once(stem.to_owned())
        .chain(numbered)
        .filter_map(|name| name.parse().ok())
        .find(|name| !taken(name))
        .expect("finitely many names are taken")
}

fn alone(principal: Principal) -> Subject {
    Subject { principal, groups: [].into(), roles: [].into() }
}

fn person(org: &OrgId, id: &str) -> Principal {
    Principal::User { org: org.clone(), id: id.parse().expect("an id of letters") }
}

fn application(org: &OrgId, id: &str) -> Principal {
    Principal::Application { org: org.clone(), id: id.parse().expect("an id of letters") }
}

/// The answer by policies that forbid for sure, permit for sure, and may do either.
pub(crate) fn settle(
    forbidden: Vec<Arc<str>>,
    permitted: bool,
    conditional: Vec<Arc<Condition>>,
) -> May {
    let may_permit = permitted || conditional.iter().any(|condition| !condition.forbids);
    if !forbidden.is_empty() || !may_permit {
        return May::No(forbidden);
    }
    let open: Vec<_> = conditional
        .into_iter()
        .filter(|condition| !permitted || condition.forbids || condition.may_fail)
        .collect();
    if open.is_empty() { May::Yes } else { May::Conditional(open) }
}

/// Whether an operator or function of a validated policy cannot fail.
pub(crate) fn is_safe(operator: &str) -> bool {
    SAFE.contains(&operator)
}

/// Whether an expression has an operator that may fail; one that is not known may.
pub(crate) fn may_fail(conditions: &Value) -> bool {
    let bodies = conditions.as_array().into_iter().flatten();
    bodies.map(|condition| &condition["body"]).any(expression_may_fail)
}

fn expression_may_fail(expression: &Value) -> bool {
    let Some((operator, operands)) = expression.as_object().and_then(|tree| tree.iter().next())
    else {
        return true;
    };
    if !is_safe(operator) {
        return true;
    }
    let operands: Vec<&Value> = match (operator.as_str(), operands) {
        ("Value" | "Var", _) => Vec::new(),
        ("Record", Value::Object(fields)) => fields.values().collect(),
        (_, Value::Array(list)) => list.iter().collect(),
        (_, Value::Object(fields)) => {
            let operand = ["left", "right", "arg", "if", "then", "else", "in"];
            operand.iter().filter_map(|name| fields.get(*name)).collect()
        }
        _ => return true,
    };
    // `is … in` holds a bare entity or an expression; neither fails more than the expression does.
    operands.into_iter().any(expression_may_fail)
}

impl Named {
    /// Note every entity that a policy's tree names.
    fn note(&mut self, tree: &Value) {
        match tree {
            Value::Array(list) => list.iter().for_each(|value| self.note(value)),
            Value::Object(fields) => {
                if let (Some(kind), Some(id)) = (fields.get("type"), fields.get("id")) {
                    self.entity(kind.as_str().unwrap_or_default(), id.as_str().unwrap_or_default());
                }
                fields.values().for_each(|value| self.note(value));
            }
            _ => {}
        }
    }

    fn entity(&mut self, kind: &str, id: &str) {
        let (org, rest) = id.split_once('/').unwrap_or((id, ""));
        let Ok(org) = org.parse::<OrgId>() else { return };
        match kind {
            "Organization" => self.orgs.extend([org]),
            "Group" => {
                if let Ok(name) = rest.parse() {
                    self.orgs.insert(org.clone());
                    self.groups.insert((org, name));
                }
            }
            "User" => {
                let id = rest.parse().ok();
                self.principals.extend(id.map(|id| Principal::User { org, id }));
            }
            "Application" => {
                let id = rest.parse().ok();
                self.principals.extend(id.map(|id| Principal::Application { org, id }));
            }
            _ => {}
        }
    }
}
