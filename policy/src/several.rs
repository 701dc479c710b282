//! Questions about more than one permission: a route that needs several, and a check that names no
//! product, which any product's permission may answer.

use crate::{
    engine::Engine,
    held::Held,
    model::{
        decision::Decision,
        query::{Facts, PermissionId},
    },
};

impl Engine {
    /// Decide on permissions that are all needed. The first that is denied settles it, and stands
    /// beside the answer. An empty list holds nothing that could be granted, so it is denied.
    pub fn decide_all(
        &self,
        held: &Held,
        facts: &Facts<'_>,
        needed: &[PermissionId],
    ) -> (Decision, Option<PermissionId>) {
        let mut settled: Option<Decision> = None;
        for permission in needed {
            let decision = self.decide_for(held, *permission, facts);
            if !decision.allowed() {
                return (decision, Some(*permission));
            }
            settled = Some(match settled.take() {
                None => decision,
                Some(mut before) => {
                    before.errors.extend(decision.errors);
                    before.policies.extend(decision.policies);
                    before.policies.sort_unstable();
                    before.policies.dedup();
                    before
                }
            });
        }
        (settled.unwrap_or_else(|| Decision::deny(self.revision())), None)
    }

    /// Decide on permissions of which any may be meant: one of them must be allowed, and none
    /// forbidden or denied by a failing policy. Beside the answer stands the permission that settled
    /// it; none where the list is empty, which is denied.
    pub fn decide_any(
        &self,
        held: &Held,
        facts: &Facts<'_>,
        meant: &[PermissionId],
    ) -> (Decision, Option<PermissionId>) {
        let mut answer: Option<(Decision, PermissionId)> = None;
        for permission in meant {
            let decision = self.decide_for(held, *permission, facts);
            if decision.forbidden() || self.on_error().denies(&decision.errors) {
                return (decision, Some(*permission));
            }
            // The first that is allowed; where none is, the last.
            if !answer.as_ref().is_some_and(|(before, _)| before.allowed()) {
                answer = Some((decision, *permission));
            }
        }
        match answer {
            Some((decision, permission)) => (decision, Some(permission)),
            None => (Decision::deny(self.revision()), None),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        model::{
            caller::{Principal, Subject},
            decision::Revision,
            manifest::Manifest,
        },
        snapshot::{PolicyText, Snapshot},
    };

    const PRODUCTS: [&str; 3] = [
        "product: a\nresources: {things: [get, put]}\neveryone: {things: [get]}\n",
        "product: b\nresources: {things: [get, put]}\neveryone: {things: [get, put]}\n",
        "product: c\nresources: {things: [get, put]}\neveryone: {things: [put]}\n",
    ];

    fn engine(text: &str) -> Engine {
        let products = PRODUCTS.map(|text| Arc::new(Manifest::parse("m", text).unwrap()));
        let policies =
            vec![PolicyText { file: "p.cedar".into(), product: None, text: text.into() }];
        Engine::compile(Arc::new(Snapshot {
            revision: Revision(1),
            products: products.to_vec(),
            roles: Vec::new(),
            groups: Vec::new(),
            policies,
            issuer: None,
            guests: Vec::new(),
        }))
        .unwrap()
    }

    /// What all and any of these come to, each with the permission that settled it.
    fn asked(engine: &Engine, names: &[&str]) -> [(bool, Option<String>); 2] {
        let principal = Principal::User { org: "o".parse().unwrap(), id: "u".parse().unwrap() };
        let subject = Subject { principal, groups: [].into(), roles: [].into() };
        let ids: Vec<PermissionId> = names
            .iter()
            .map(|name| {
                let (product, action) = name.split_once('.').unwrap();
                engine.permission(product, "things", action).unwrap()
            })
            .collect();
        let (held, facts) = (engine.held(&subject), Facts::default());
        let all = engine.decide_all(&held, &facts, &ids);
        [all, engine.decide_any(&held, &facts, &ids)]
            .map(|(decision, by)| (decision.allowed(), by.map(|id| engine.label(id).to_string())))
    }

    fn label(product: &str, action: &str) -> String {
        format!("{product}::things:{action}")
    }

    #[test]
    fn all_are_needed_and_any_is_enough() {
        let engine = engine("");
        assert_eq!(asked(&engine, &[]), [(false, None), (false, None)]);
        assert_eq!(
            asked(&engine, &["a.get", "b.get"]),
            [(true, None), (true, Some(label("a", "get")))]
        );
        let some = asked(&engine, &["a.put", "b.put", "c.put"]);
        assert_eq!(some, [(false, Some(label("a", "put"))), (true, Some(label("b", "put")))]);
        let none = asked(&engine, &["a.put", "c.get"]);
        assert_eq!(none, [(false, Some(label("a", "put"))), (false, Some(label("c", "get")))]);
    }

    #[test]
    fn of_any_none_may_be_forbidden_or_fail() {
        for condition in ["", "when { 9223372036854775807 + 1 == 0 }"] {
            let engine = engine(&format!(
                "@id(\"f\") forbid (principal, action == C::Action::\"things:put\", resource) {condition};"
            ));
            let any = &asked(&engine, &["b.put", "c.put"])[1];
            assert_eq!(*any, (false, Some(label("c", "put"))), "{condition}");
        }
    }
}
