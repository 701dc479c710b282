//! What a case asks, for whoever wants to ask it without its answers.

use super::Case;
use crate::bench::Question;

impl Case {
    /// Its questions.
    pub fn questions(&self) -> impl Iterator<Item = Question> + '_ {
        self.questions.iter().map(|question| Question {
            subject: question.asker.subject.clone(),
            permission: question.permission,
            authentication: question.asker.authentication.clone(),
            client: question.given.client,
            now: question.given.now,
            parameters: question.given.parameters.clone(),
        })
    }
}
