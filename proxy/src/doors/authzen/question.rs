//! JSON → question: who, what, on what, under which circumstances (AuthZEN 1.0, sections 5 to 8).
//!
//! A question borrows from the body, so a thousand that share their defaults cost no thousand copies.
//! Members that are not known are passed over, as the specification demands; `null` is as absent.

use serde_json::{Map, Value};

/// The members of an object.
pub type Members = Map<String, Value>;

/// A subject or a resource.
#[derive(Debug, Clone, Copy)]
pub struct Entity<'a> {
    pub kind: &'a str,
    /// Empty where it is searched for.
    pub id: &'a str,
    pub properties: Option<&'a Members>,
}

/// An action.
#[derive(Debug, Clone, Copy)]
pub struct Action<'a> {
    /// Empty where it is searched for.
    pub name: &'a str,
    pub properties: Option<&'a Members>,
}

/// One question.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    pub subject: Entity<'a>,
    pub action: Action<'a>,
    pub resource: Entity<'a>,
    pub context: Option<&'a Members>,
}

/// What a search looks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sought {
    Subject,
    Resource,
    Action,
}

impl Sought {
    /// One word for records.
    pub fn word(self) -> &'static str {
        match self {
            Self::Subject => "subject",
            Self::Resource => "resource",
            Self::Action => "action",
        }
    }
}

impl<'a> Question<'a> {
    /// Read one whose members are given by name; what is sought may be missing.
    ///
    /// # Errors
    ///
    /// What is missing, or no text or object where it must be one.
    pub fn read(
        member: impl Fn(&str) -> Option<&'a Value>,
        sought: Option<Sought>,
    ) -> Result<Self, String> {
        let object = |name: &str| match member(name).filter(|value| !value.is_null()) {
            None => Err(format!("`{name}` is missing")),
            Some(Value::Object(members)) => Ok(members),
            Some(_) => Err(format!("`{name}` must be an object")),
        };
        let entity = |name: &str, this: Sought| {
            let members = object(name)?;
            let id = if sought == Some(this) { "" } else { text(members, name, "id")? };
            let kind = text(members, name, "type")?;
            Ok::<_, String>(Entity { kind, id, properties: properties(members, name)? })
        };
        let subject = entity("subject", Sought::Subject)?;
        let action = if sought == Some(Sought::Action) {
            Action { name: "", properties: None }
        } else {
            let members = object("action")?;
            let name = text(members, "action", "name")?;
            Action { name, properties: properties(members, "action")? }
        };
        let resource = entity("resource", Sought::Resource)?;
        let context = match member("context").filter(|value| !value.is_null()) {
            None => None,
            Some(Value::Object(members)) => Some(members),
            Some(_) => return Err("`context` must be an object".to_owned()),
        };
        Ok(Self { subject, action, resource, context })
    }

    /// The same, about one of those that are sought.
    #[must_use]
    pub fn about(self, sought: Sought, one: &'a str) -> Self {
        match sought {
            Sought::Subject => Self { subject: Entity { id: one, ..self.subject }, ..self },
            Sought::Resource => Self { resource: Entity { id: one, ..self.resource }, ..self },
            Sought::Action => Self { action: Action { name: one, ..self.action }, ..self },
        }
    }
}

fn text<'a>(members: &'a Members, of: &str, name: &str) -> Result<&'a str, String> {
    match members.get(name) {
        None | Some(Value::Null) => Err(format!("`{of}.{name}` is missing")),
        Some(Value::String(text)) => Ok(text),
        Some(_) => Err(format!("`{of}.{name}` must be text")),
    }
}

fn properties<'a>(members: &'a Members, of: &str) -> Result<Option<&'a Members>, String> {
    match members.get("properties") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(members)) => Ok(Some(members)),
        Some(_) => Err(format!("`{of}.properties` must be an object")),
    }
}

/// When a batch ends (section 7.1.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Semantic {
    ExecuteAll,
    DenyOnFirstDeny,
    PermitOnFirstPermit,
}

impl Semantic {
    /// Whether nothing is asked after that answer.
    pub fn ends(self, decision: bool) -> bool {
        match self {
            Self::ExecuteAll => false,
            Self::DenyOnFirstDeny => !decision,
            Self::PermitOnFirstPermit => decision,
        }
    }
}

/// What the sender wants beside the question (`options`).
#[derive(Debug, Clone, Copy)]
pub struct Options {
    pub semantic: Semantic,
    /// Whether answers tell why: our own option, `reasons`.
    pub reasons: bool,
}

impl Options {
    /// Read them.
    ///
    /// # Errors
    ///
    /// An option that is known and has another value than it can have.
    pub fn read(body: &Members) -> Result<Self, String> {
        let mut options = Self { semantic: Semantic::ExecuteAll, reasons: false };
        let members = match body.get("options") {
            None | Some(Value::Null) => return Ok(options),
            Some(Value::Object(members)) => members,
            Some(_) => return Err("`options` must be an object".to_owned()),
        };
        options.semantic = match members.get("evaluations_semantic") {
            None | Some(Value::Null) => Semantic::ExecuteAll,
            Some(Value::String(text)) => match text.as_str() {
                "execute_all" => Semantic::ExecuteAll,
                "deny_on_first_deny" => Semantic::DenyOnFirstDeny,
                "permit_on_first_permit" => Semantic::PermitOnFirstPermit,
                _ => return Err("`options.evaluations_semantic` must be `execute_all`, `deny_on_first_deny` or `permit_on_first_permit`".to_owned()),
            },
            Some(_) => return Err("`options.evaluations_semantic` must be text".to_owned()),
        };
        options.reasons = match members.get("reasons") {
            None | Some(Value::Null) => false,
            Some(Value::Bool(reasons)) => *reasons,
            Some(_) => return Err("`options.reasons` must be `true` or `false`".to_owned()),
        };
        Ok(options)
    }
}

/// The questions of a batch; `None` where the body is a single one: without `evaluations`, or with
/// none in it.
///
/// # Errors
///
/// When `evaluations` is no list, or too long a one.
pub fn batch(body: &Members, most: usize) -> Result<Option<&[Value]>, String> {
    match body.get("evaluations") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Array(items)) if items.is_empty() => Ok(None),
        Some(Value::Array(items)) if items.len() > most => {
            Err(format!("`evaluations` has {} items, and may have {most}", items.len()))
        }
        Some(Value::Array(items)) => Ok(Some(items)),
        Some(_) => Err("`evaluations` must be a list".to_owned()),
    }
}

/// One question of a batch: what it has itself goes before what stands at the top, as a whole.
///
/// # Errors
///
/// As [`Question::read`].
pub fn of_batch<'a>(body: &'a Members, item: &'a Value) -> Result<Question<'a>, String> {
    let Value::Object(own) = item else { return Err("it must be an object".to_owned()) };
    let member = |name: &str| own.get(name).filter(|value| !value.is_null()).or(body.get(name));
    Question::read(member, None)
}
