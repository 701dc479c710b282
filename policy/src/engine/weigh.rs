//! What of the written policies a question costs: for `bench`, which measures them one by one.

use super::{Engine, needs_of};
use crate::{
    condition::{Asker, Rule},
    entities,
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
        let principal = entities::principal(query.subject);
        let candidates = self.candidates(query.subject, &principal, known);
        let (context, entities) = self.surroundings(query, known, &needs_of(&candidates))?;
        let asker = Asker::new(&principal, &known.action_uid, &known.resource, context, &entities);
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
