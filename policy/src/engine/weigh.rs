//! What of the written policies a question costs: for `bench`, which measures them one by one.

use super::{Engine, needs_of};
use crate::{
    condition::{self, Asker, Rule},
    model::query::Query,
};

impl Engine {
    /// The written policies that no key of the index narrows: every question looks at them.
    pub(crate) fn floor(&self) -> impl Iterator<Item = &Rule> {
        self.index.floor().iter().filter_map(|n| self.rules.get(*n as usize))
    }

    /// Hand each written policy whose conditions a question has evaluated to `each`, with what
    /// evaluates them once.
    ///
    /// # Errors
    ///
    /// When the question cannot be put in Cedar's terms.
    pub(crate) fn weigh(
        &self,
        query: &Query<'_>,
        mut each: impl FnMut(&Rule, &mut dyn FnMut()),
    ) -> Result<(), String> {
        let known =
            self.permissions.get(query.permission.0 as usize).ok_or("no such permission")?;
        let held = self.held(query.subject);
        let around = self.around(&held);
        let candidates = self.candidates(around, known);
        let needs = needs_of(&candidates);
        let parameters = &self.products[known.product].parameters;
        let context = condition::context(&held.subject, query.facts, parameters, &needs)?;
        let entities = self.surroundings(&held, around, known, &needs)?;
        let uids = [&around.shared, &known.action_uid, &known.resource_uid];
        let asker = Asker::new(uids, context, entities.as_ref());
        for rule in candidates {
            if let Some(conditions) = &rule.conditions {
                each(rule, &mut || {
                    let _ = std::hint::black_box(asker.holds(conditions));
                });
            }
        }
        Ok(())
    }
}
