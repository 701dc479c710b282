//! Questions to a store, from the words that people write them in.

use std::{collections::BTreeMap, sync::Arc};

use cedar_policy::{Context, Entities, Entity, EntityUid, Request};
use cedar_policy_core::{
    entities::{
        SchemaType,
        conformance::{TypecheckError, typecheck_restricted_expr_against_schematype},
    },
    extensions::Extensions,
    validator::{ValidatorSchema, types::Type},
};
use serde_json::{Value, json};
use thiserror::Error;

use super::{Store, with_causes};
use crate::{complaint::near, model::decision::Decision, overlay::Overlay};

/// Why a question cannot be put to a store.
#[derive(Debug, Error)]
pub enum Unasked {
    #[error("no entity `{0}`: write its type and its id, as in `User::\"ana\"`")]
    NoUid(String),
    #[error("the schema has no entity type `{kind}`{near}")]
    NoType { kind: String, near: String },
    #[error("the schema has no action `{action}`{near}")]
    NoAction { action: String, near: String },
    #[error("`{id}` is more than one action: {actions}; write which")]
    TwoActions { id: String, actions: String },
    #[error("the context does not fit `{action}`: {what}")]
    Context {
        action: String,
        /// The member that does not fit, where it is one.
        member: Option<String>,
        what: String,
    },
    #[error("no such request: {0}")]
    Request(String),
    #[error("{0}")]
    Entity(String),
}

/// A question in words: uids as a policy names them, the rest in Cedar's JSON.
#[derive(Debug, Clone)]
pub struct Words<'a> {
    pub principal: &'a str,
    pub action: &'a str,
    pub resource: &'a str,
    pub context: Value,
    /// Laid over the folder's entities.
    pub entities: Vec<Value>,
}

/// A request, and what is told beside it.
#[derive(Debug, Clone)]
pub struct Question {
    pub request: Request,
    pub around: Arc<Around>,
}

/// The entities that a question is decided over: some are told, and laid over the folder's.
#[derive(Debug)]
pub struct Around {
    /// All of them.
    pub entities: Entities,
    /// What is told, in Cedar's JSON.
    words: Vec<Value>,
    told: Overlay,
}

impl Question {
    /// Who asks: `User::"ana"`.
    pub fn principal(&self) -> String {
        told(self.request.principal())
    }

    /// What for: `Action::"read"`.
    pub fn action(&self) -> String {
        told(self.request.action())
    }

    /// On what: `Document::"plan"`.
    pub fn resource(&self) -> String {
        told(self.request.resource())
    }

    /// The context, in Cedar's JSON.
    fn context(&self) -> Value {
        let context = self.request.context().and_then(|context| context.to_json_value().ok());
        context.unwrap_or_else(|| json!({}))
    }

    /// The same words, put to another store.
    ///
    /// # Errors
    ///
    /// What does not fit that one's schema.
    pub fn of(&self, store: &Store) -> Result<Self, Unasked> {
        store.question(Words {
            principal: &self.principal(),
            action: &self.action(),
            resource: &self.resource(),
            context: self.context(),
            entities: self.around.words.clone(),
        })
    }

    /// Everything that is asked, in words: the same for two that ask the same.
    pub(crate) fn key(&self) -> String {
        let (context, around) = (self.context(), json!(self.around.words));
        format!("{} {} {context} {around}", self.principal(), self.asked_for())
    }

    /// `Action::"read" on Document::"plan"`.
    pub fn asked_for(&self) -> String {
        format!("{} on {}", self.action(), self.resource())
    }
}

fn told(uid: Option<&EntityUid>) -> String {
    uid.map(ToString::to_string).unwrap_or_default()
}

impl Store {
    /// A question from its words.
    ///
    /// # Errors
    ///
    /// What does not fit the schema.
    pub fn question(&self, words: Words<'_>) -> Result<Question, Unasked> {
        let action = self.action(words.action)?;
        let context = self.context(&action, words.context)?;
        let (principal, resource) = (self.uid(words.principal)?, self.uid(words.resource)?);
        let request = self.request(principal, action, resource, context)?;
        let around = Arc::new(self.around(words.entities)?);
        Ok(Question { request, around })
    }

    /// Decide by what the question tells.
    pub fn put(&self, question: &Question) -> Decision {
        self.decide_over(&question.request, &question.around.told)
    }

    /// An entity's uid, of a type that the schema has.
    ///
    /// # Errors
    ///
    /// A text that is no uid, or an unknown type.
    pub fn uid(&self, text: &str) -> Result<EntityUid, Unasked> {
        let uid: EntityUid = text.parse().map_err(|_| Unasked::NoUid(text.to_owned()))?;
        if self.schema().entity_types().any(|kind| kind == uid.type_name()) {
            return Ok(uid);
        }
        let kind = uid.type_name().to_string();
        let known: Vec<String> = self.schema().entity_types().map(ToString::to_string).collect();
        let near = near(&kind, known.iter().map(String::as_str));
        Err(Unasked::NoType { kind, near })
    }

    /// An action's uid; its id alone will do where the schema has it once.
    ///
    /// # Errors
    ///
    /// An unknown action, or an id of several.
    pub fn action(&self, text: &str) -> Result<EntityUid, Unasked> {
        if let Ok(uid) = text.parse::<EntityUid>()
            && self.schema().actions().any(|action| *action == uid)
        {
            return Ok(uid);
        }
        let mut of_id: Vec<&EntityUid> =
            self.schema().actions().filter(|action| action.id().unescaped() == text).collect();
        of_id.sort();
        match of_id.as_slice() {
            [action] => Ok((*action).clone()),
            [] => {
                let known: Vec<String> = (self.schema().actions())
                    .flat_map(|action| [action.to_string(), action.id().unescaped().to_owned()])
                    .collect();
                let near = near(text, known.iter().map(String::as_str));
                Err(Unasked::NoAction { action: text.to_owned(), near })
            }
            several => {
                let actions: Vec<String> =
                    several.iter().map(|action| format!("`{action}`")).collect();
                Err(Unasked::TwoActions { id: text.to_owned(), actions: actions.join(", ") })
            }
        }
    }

    /// A context in Cedar's JSON, of the shape that the schema gives an action's.
    ///
    /// # Errors
    ///
    /// What does not fit.
    pub fn context(&self, action: &EntityUid, context: Value) -> Result<Context, Unasked> {
        let wrong = |member: Option<&str>, what: String| Unasked::Context {
            action: action.to_string(),
            member: member.map(str::to_owned),
            what,
        };
        let members = self.context_members(action);
        let mut given = context.as_object().into_iter().flat_map(serde_json::Map::keys);
        if let Some(name) = given.find(|name| !members.contains_key(name.as_str())) {
            let near = near(name, members.keys().map(String::as_str));
            return Err(wrong(Some(name), format!("it has no `{name}`{near}")));
        }
        let context = Context::from_json_value(context, Some((self.schema(), action)))
            .map_err(|error| wrong(None, with_causes(&error)))?;
        for (name, value) in context.clone() {
            // Cedar would say of the context as a whole that it does not fit.
            let Some(Some(kind)) = members.get(&name) else { continue };
            let value: &cedar_policy_core::ast::RestrictedExpr = value.as_ref();
            typecheck_restricted_expr_against_schematype(
                value.as_borrowed(),
                kind,
                Extensions::all_available(),
            )
            .map_err(|error: TypecheckError| wrong(Some(&name), format!("`{name}`: {error}")))?;
        }
        Ok(context)
    }

    /// What an action's context can have, by name, with its type where Cedar can tell it.
    pub(crate) fn context_members(
        &self,
        action: &EntityUid,
    ) -> BTreeMap<String, Option<SchemaType>> {
        let schema: &ValidatorSchema = self.schema().as_ref();
        let Some(Type::Record { attrs, .. }) = schema.context_type(action.as_ref()) else {
            return BTreeMap::new();
        };
        let of = |kind: &Type| SchemaType::try_from(kind.clone()).ok();
        attrs.iter().map(|(name, kind)| (name.to_string(), of(&kind.attr_type))).collect()
    }

    /// A question that the schema allows.
    ///
    /// # Errors
    ///
    /// An action that does not apply to them, or a context of another shape.
    pub fn request(
        &self,
        principal: EntityUid,
        action: EntityUid,
        resource: EntityUid,
        context: Context,
    ) -> Result<Request, Unasked> {
        Request::new(principal, action, resource, context, Some(self.schema()))
            .map_err(|error| Unasked::Request(with_causes(&error)))
    }

    /// An entity in Cedar's JSON, laid over the folder's own of its uid: attributes and tags stand in
    /// for those of the same name, parents are added. A uid may be written as in a policy.
    ///
    /// # Errors
    ///
    /// What does not fit the schema.
    pub fn entity(&self, mut told: Value) -> Result<Entity, Unasked> {
        let mut whole = json!({ "attrs": {}, "parents": [] });
        if let Some(members) = told.as_object_mut() {
            members.get_mut("uid").into_iter().for_each(spell_out);
            let parents = members.get_mut("parents").and_then(Value::as_array_mut);
            parents.into_iter().flatten().for_each(spell_out);
            if let Some(own) = members.get("uid").and_then(|uid| self.stored(uid)) {
                whole = own.to_json_value().map_err(|error| Unasked::Entity(error.to_string()))?;
            }
            for (name, value) in std::mem::take(members) {
                lay(&mut whole[name.as_str()], value);
            }
        } else {
            whole = told;
        }
        Entity::from_json_value(whole, Some(self.schema()))
            .map_err(|error| Unasked::Entity(with_causes(&error)))
    }

    fn stored(&self, uid: &Value) -> Option<&Entity> {
        let uid = EntityUid::from_json(uid.clone()).ok()?;
        self.entities().get(&uid)
    }

    /// What is told of entities, laid over the folder's.
    ///
    /// # Errors
    ///
    /// Entities that do not fit together.
    pub fn around(&self, words: Vec<Value>) -> Result<Around, Unasked> {
        let told = words.iter().map(|entity| self.entity(entity.clone()));
        let told = told.collect::<Result<Vec<Entity>, _>>()?;
        let entities = self.entities().clone();
        let entities = if told.is_empty() {
            entities
        } else {
            entities
                .upsert_entities(told.clone(), Some(self.schema()))
                .map_err(|error| Unasked::Entity(with_causes(&error)))?
        };
        Ok(Around { entities, words, told: self.overlay(told).map_err(Unasked::Entity)? })
    }
}

/// One value over another: members of an object over those of the same name, items of a list beside
/// the others.
fn lay(below: &mut Value, over: Value) {
    match (below, over) {
        (Value::Object(below), Value::Object(over)) => below.extend(over),
        (Value::Array(below), Value::Array(over)) => below.extend(over),
        (below, over) => *below = over,
    }
}

/// `User::"ana"` as Cedar's JSON has it.
fn spell_out(uid: &mut Value) {
    if let Some(parsed) = uid.as_str().and_then(|text| text.parse::<EntityUid>().ok()) {
        *uid = json!({
            "type": parsed.type_name().to_string(),
            "id": parsed.id().unescaped(),
        });
    }
}
