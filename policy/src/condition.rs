//! What a written policy asks beyond its scope, and what it needs to be asked.
//!
//! The index has found the scope to hold, so only the conditions are left to evaluate, by Cedar's own
//! evaluator. They are looked at once, when they are compiled: what they do not mention need not be
//! made for them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, LazyLock},
};

use cedar_policy::{Effect, Policy};
use cedar_policy_core::{
    ast::{
        self, Context, EntityUIDEntry, Expr, ExprKind, Literal, Name, PartialValue, Request, Value,
        ValueKind, Var,
    },
    entities::Entities,
    evaluator::Evaluator,
    extensions::Extensions,
};
use smallvec::SmallVec;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{
    index::Scope,
    model::{
        caller::{Authentication, Subject},
        decision::PolicyError,
        query::Facts,
    },
};

/// A written policy as the engine keeps it.
#[derive(Debug)]
pub(crate) struct Rule {
    pub id: Arc<str>,
    pub forbids: bool,
    pub scope: Scope,
    /// `None` where the scope is the whole meaning.
    pub conditions: Option<Arc<Expr>>,
    pub needs: Needs,
}

/// What conditions mention.
#[derive(Debug, Clone, Default)]
pub(crate) struct Needs {
    /// An entity: then all that are around the principal are there.
    pub entities: bool,
    /// The action among them, with the groups it is in.
    pub action: bool,
    context: Wanted,
}

#[derive(Debug, Clone, Default)]
enum Wanted {
    /// The context as a whole, so everything in it.
    All,
    #[default]
    Nothing,
    Only(BTreeSet<Arc<str>>),
}

impl Rule {
    pub(crate) fn of(id: &Arc<str>, policy: &Policy) -> Self {
        let core: &ast::Policy = policy.as_ref();
        let conditions = core.non_scope_constraints_arc().filter(|expr| !always(expr)).cloned();
        let needs = conditions.as_deref().map(Needs::of).unwrap_or_default();
        let forbids = policy.effect() == Effect::Forbid;
        Self { id: Arc::clone(id), forbids, scope: Scope::of(policy), conditions, needs }
    }
}

fn always(expr: &Expr) -> bool {
    matches!(expr.expr_kind(), ExprKind::Lit(Literal::Bool(true)))
}

impl Needs {
    fn of(conditions: &Expr) -> Self {
        let mut needs = Self::default();
        let (mut contexts, mut attributes) = (0, BTreeSet::new());
        let mut read = 0;
        let is_context = |expr: &Expr| matches!(expr.expr_kind(), ExprKind::Var(Var::Context));
        for expr in conditions.subexpressions() {
            let attribute = match expr.expr_kind() {
                ExprKind::Var(Var::Context) => {
                    contexts += 1;
                    continue;
                }
                ExprKind::Var(var) => {
                    needs.entities = true;
                    needs.action |= *var == Var::Action;
                    continue;
                }
                ExprKind::Lit(Literal::EntityUID(uid)) => {
                    needs.entities = true;
                    needs.action |= uid.entity_type().is_action();
                    continue;
                }
                ExprKind::GetAttr { expr, attr } | ExprKind::HasAttr { expr, attr } => (expr, attr),
                ExprKind::ExtHasAttr { expr, attrs } => (expr, attrs.first()),
                _ => continue,
            };
            if is_context(attribute.0) {
                read += 1;
                attributes.insert(Arc::from(attribute.1.as_str()));
            }
        }
        needs.context = match contexts {
            0 => Wanted::Nothing,
            n if n == read => Wanted::Only(attributes),
            _ => Wanted::All,
        };
        needs
    }

    /// What both need.
    pub(crate) fn and(&mut self, other: &Self) {
        self.entities |= other.entities;
        self.action |= other.action;
        match (&mut self.context, &other.context) {
            (Wanted::All, _) | (_, Wanted::Nothing) => {}
            (Wanted::Only(ours), Wanted::Only(theirs)) => ours.extend(theirs.iter().cloned()),
            (ours, theirs) => *ours = theirs.clone(),
        }
    }

    fn wants(&self, attribute: &str) -> bool {
        match &self.context {
            Wanted::All => true,
            Wanted::Nothing => false,
            Wanted::Only(attributes) => attributes.contains(attribute),
        }
    }
}

/// Evaluate conditions, one after the other.
pub(crate) struct Asker<'e> {
    evaluator: Evaluator<'e>,
}

impl<'e> Asker<'e> {
    /// For a principal, an action and a resource.
    pub(crate) fn new(
        uids: [&Arc<ast::EntityUID>; 3],
        context: Context,
        entities: &'e Entities,
    ) -> Self {
        let [principal, action, resource] =
            uids.map(|uid| EntityUIDEntry::Known { euid: Arc::clone(uid), loc: None });
        Self::of(Request::new_unchecked(principal, action, resource, Some(context)), entities)
    }

    /// For a question that is put in Cedar's terms already.
    pub(crate) fn of(request: Request, entities: &'e Entities) -> Self {
        Self { evaluator: Evaluator::new(request, entities, Extensions::all_available()) }
    }

    /// Whether the conditions hold.
    pub(crate) fn holds(&self, conditions: &Expr) -> Result<bool, String> {
        let none = std::collections::HashMap::new();
        let value = self.evaluator.interpret(conditions, &none).map_err(|e| e.to_string())?;
        match value.value_kind() {
            ValueKind::Lit(Literal::Bool(holds)) => Ok(*holds),
            _ => Err("type error: the conditions are no bool".to_owned()),
        }
    }
}

/// What written policies say.
#[derive(Default)]
pub(crate) struct Answer {
    pub permits: SmallVec<[Arc<str>; 4]>,
    pub forbids: SmallVec<[Arc<str>; 4]>,
    pub errors: Vec<PolicyError>,
}

impl Answer {
    /// A policy that holds.
    pub(crate) fn take(&mut self, rule: &Rule) {
        let said = if rule.forbids { &mut self.forbids } else { &mut self.permits };
        said.push(Arc::clone(&rule.id));
    }

    /// Ask a policy with conditions; one without has been taken.
    pub(crate) fn ask(&mut self, rule: &Rule, asker: &Asker<'_>) {
        let Some(conditions) = &rule.conditions else { return };
        match asker.holds(conditions) {
            Ok(true) => self.take(rule),
            Ok(false) => {}
            Err(error) => {
                let what = format!("error while evaluating policy `{}`: {error}", rule.id);
                self.errors.push(PolicyError { policy: Arc::clone(&rule.id), what });
            }
        }
    }

    pub(crate) fn sorted(mut self) -> Self {
        self.permits.sort_unstable();
        self.forbids.sort_unstable();
        self
    }
}

/// The context of a question, as far as it is needed, in the shape that `schema` gives it. Of the
/// path's parameters only those in `known`, for a policy can read no other.
pub(crate) fn context(
    subject: &Subject,
    facts: &Facts<'_>,
    known: &BTreeSet<String>,
    needs: &Needs,
) -> Result<Context, String> {
    let mut fields = BTreeMap::new();
    let mut put = |name: &str, value: Value| {
        fields.insert(name.into(), value);
    };
    let authentication = facts.authentication;
    if needs.wants("organization") {
        put("organization", text(subject.principal.org().as_str()));
    }
    if needs.wants("now") {
        put("now", moment(facts.now)?);
    }
    if needs.wants("path") {
        let parameters = facts.parameters.iter().filter(|(name, _)| known.contains(*name));
        // As in a list of pairs, a name that stands twice would have two readings.
        let mut record = BTreeMap::new();
        for (name, value) in parameters {
            if record.insert((*name).into(), text(value)).is_some() {
                return Err(format!("the path parameter `{name}` stands twice"));
            }
        }
        put("path", Value::record_arc(Arc::new(record), None));
    }
    if let Some(client) = facts.client.filter(|_| needs.wants("client")) {
        put("client", call(&IP, &client.to_string())?);
    }
    if needs.wants("mfa") {
        let mfa = authentication.is_some_and(Authentication::mfa);
        put("mfa", Value::new(Literal::Bool(mfa), None));
    }
    if needs.wants("amr") {
        let amr = authentication.map(|a| a.amr.as_slice()).unwrap_or_default();
        put("amr", Value::set(amr.iter().map(|method| text(method)), None));
    }
    if let Some(acr) = authentication.and_then(|a| a.acr.as_deref()).filter(|_| needs.wants("acr"))
    {
        put("acr", text(acr));
    }
    if let Some(at) = authentication.and_then(|a| a.auth_time)
        && needs.wants("authenticated")
    {
        put("authenticated", moment(at)?);
    }
    Ok(Context::Value(Arc::new(fields)))
}

static IP: LazyLock<Name> = LazyLock::new(|| "ip".parse().expect("a name"));
static DATETIME: LazyLock<Name> = LazyLock::new(|| "datetime".parse().expect("a name"));

fn text(text: &str) -> Value {
    Value::new(Literal::from(text), None)
}

/// A value of one of Cedar's extension types.
fn call(constructor: &Name, argument: &str) -> Result<Value, String> {
    let function = Extensions::all_available().func(constructor).map_err(|e| e.to_string())?;
    match function.call(&[text(argument)]).map_err(|error| error.to_string())? {
        PartialValue::Value(value) => Ok(value),
        PartialValue::Residual(_) => Err(format!("`{constructor}` gave no value")),
    }
}

fn moment(seconds: u64) -> Result<Value, String> {
    let seconds = i64::try_from(seconds).map_err(|error| error.to_string())?;
    let text = OffsetDateTime::from_unix_timestamp(seconds)
        .map_err(|error| error.to_string())?
        .format(&Rfc3339)
        .map_err(|error| error.to_string())?;
    call(&DATETIME, &text)
}
