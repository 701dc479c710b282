//! Questions to a store in AuthZEN's names: `user`, `document`, `can_read`, with properties.
//!
//! What the names stand for is said in the folder's `authzen.yaml`; without it, a type is the entity
//! type of that name, and an action the one of that id. What a question tells of somebody or
//! something is laid over what the store holds; what the schema has no place for is passed over, and
//! what does not fit its place leaves the question unasked.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::Bound,
    sync::Arc,
};

use cedar_policy::{EntityId, EntityTypeName, EntityUid, Request, Schema};
use cedar_policy_core::validator::{
    ValidatorEntityType, ValidatorEntityTypeKind, ValidatorSchema,
    types::{Attributes, Type},
};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use serde_saphyr::Spanned;

use super::{Store, Unasked, search};
use crate::{
    complaint::{Complaint, Complaints, Place, near},
    model::{decision::Decision, manifest::Entries},
    overlay::Overlay,
    snapshot::PolicyText,
    table,
};

/// The name of the file that says what AuthZEN's names stand for.
pub const NAMES: &str = "authzen.yaml";

/// The member of a context that takes what is said of the action, where no other is named.
const ACTION: &str = "action";

/// What complaints about it are coded as.
const CODE: &str = "authzen";

/// The members of an object.
type Members = Map<String, Value>;

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    subjects: Option<Entries<Spanned<String>>>,
    resources: Option<Entries<Spanned<String>>>,
    actions: Option<Entries<Spanned<String>>>,
    #[serde(default)]
    properties: Entries<Entries<Spanned<String>>>,
    #[serde(default)]
    context: Entries<Spanned<String>>,
    action_properties: Option<Spanned<String>>,
}

/// What AuthZEN's names stand for in a schema.
#[derive(Debug)]
pub struct Names {
    subjects: Kinds,
    resources: Kinds,
    actions: BTreeMap<Arc<str>, EntityUid>,
    /// By entity type: a property's name, and the attribute that it is.
    properties: HashMap<EntityTypeName, HashMap<String, String>>,
    /// A name in a question's context, and the member that it is.
    context: HashMap<String, String>,
    action_properties: String,
}

/// Types of AuthZEN, and the entity types that they are.
#[derive(Debug, Clone)]
struct Kinds {
    exact: BTreeMap<String, EntityTypeName>,
    /// Where none is of that very name: by the last part, in small letters, where it is only one's.
    loose: HashMap<String, Option<EntityTypeName>>,
}

impl Kinds {
    fn get(&self, name: &str) -> Option<&EntityTypeName> {
        let loose = || self.loose.get(&name.to_ascii_lowercase())?.as_ref();
        self.exact.get(name).or_else(loose)
    }

    /// Every type of a schema by its own name.
    fn of(schema: &Schema) -> Self {
        let mut kinds = Self { exact: BTreeMap::new(), loose: HashMap::new() };
        for kind in schema.entity_types() {
            kinds.exact.insert(kind.to_string(), kind.clone());
            let last = kind.basename().to_ascii_lowercase();
            let only = kinds.loose.entry(last).or_insert_with(|| Some(kind.clone()));
            if only.as_ref() != Some(kind) {
                *only = None;
            }
        }
        kinds
    }
}

impl Names {
    /// The names of a schema itself.
    pub(crate) fn of(schema: &Schema) -> Self {
        let kinds = Kinds::of(schema);
        Self {
            subjects: kinds.clone(),
            resources: kinds,
            actions: actions(schema),
            properties: HashMap::new(),
            context: HashMap::new(),
            action_properties: ACTION.to_owned(),
        }
    }

    /// Read what the folder says. A section that is there is the whole list of its kind.
    ///
    /// # Errors
    ///
    /// Everything in it that the schema does not have.
    pub(crate) fn read(text: &PolicyText, schema: &Schema) -> Result<Self, Complaints> {
        let raw: Raw = table::yaml(&text.file, &text.text, CODE)?;
        let mut reader = Reader { file: &text.file, schema, complaints: Vec::new() };
        let mut names = Self::of(schema);
        if let Some(raw) = &raw.subjects {
            names.subjects = reader.kinds(raw);
        }
        if let Some(raw) = &raw.resources {
            names.resources = reader.kinds(raw);
        }
        if let Some(raw) = &raw.actions {
            names.actions = reader.actions(raw, &names.actions);
        }
        names.properties = reader.properties(&raw.properties);
        names.context = reader.context(&raw.context);
        if let Some(name) = &raw.action_properties {
            reader.member(name);
            reader.record(name);
            names.action_properties.clone_from(&name.value);
        }
        Complaints::unless(reader.complaints, names)
    }
}

/// Every action by its id, where it is only one's, or else by its whole name.
fn actions(schema: &Schema) -> BTreeMap<Arc<str>, EntityUid> {
    let all: Vec<&EntityUid> = schema.actions().collect();
    let name = |action: &EntityUid| -> Arc<str> {
        let id = action.id().unescaped();
        let of_id = all.iter().filter(|other| other.id().unescaped() == id).count();
        if of_id == 1 { id.into() } else { action.to_string().into() }
    };
    all.iter().map(|action| (name(action), (*action).clone())).collect()
}

struct Reader<'a> {
    file: &'a Arc<str>,
    schema: &'a Schema,
    complaints: Vec<Complaint>,
}

impl Reader<'_> {
    fn complain(&mut self, at: &Spanned<String>, told: String) {
        let place: Place = table::place(self.file, at);
        self.complaints.push(place.complain(told).coded(CODE));
    }

    fn kind(&mut self, name: &Spanned<String>) -> Option<EntityTypeName> {
        let found = self.schema.entity_types().find(|kind| kind.to_string() == name.value);
        if found.is_none() {
            let known: Vec<String> = self.schema.entity_types().map(ToString::to_string).collect();
            let near = near(&name.value, known.iter().map(String::as_str));
            self.complain(name, format!("the schema has no entity type `{}`{near}", name.value));
        }
        found.cloned()
    }

    fn kinds(&mut self, raw: &Entries<Spanned<String>>) -> Kinds {
        let mut exact = BTreeMap::new();
        for (name, kind) in &raw.0 {
            if let Some(kind) = self.kind(kind) {
                exact.insert(name.value.clone(), kind);
            }
        }
        Kinds { exact, loose: HashMap::new() }
    }

    fn actions(
        &mut self,
        raw: &Entries<Spanned<String>>,
        known: &BTreeMap<Arc<str>, EntityUid>,
    ) -> BTreeMap<Arc<str>, EntityUid> {
        let mut actions = BTreeMap::new();
        for (name, action) in &raw.0 {
            let whole = || known.values().find(|uid| uid.to_string() == action.value);
            if let Some(uid) = known.get(action.value.as_str()).or_else(whole) {
                actions.insert(Arc::from(&*name.value), uid.clone());
            } else {
                let near = near(&action.value, known.keys().map(|name| &**name));
                self.complain(action, format!("the schema has no action `{}`{near}", action.value));
            }
        }
        actions
    }

    fn properties(
        &mut self,
        raw: &Entries<Entries<Spanned<String>>>,
    ) -> HashMap<EntityTypeName, HashMap<String, String>> {
        let mut properties = HashMap::new();
        for (name, attributes) in &raw.0 {
            let Some(kind) = self.kind(name) else { continue };
            let known = attributes_of(self.schema, &kind);
            let mut of_kind = HashMap::new();
            for (property, attribute) in &attributes.0 {
                if known.is_none_or(|known| known.get_attr(&attribute.value).is_none()) {
                    let known = known.into_iter().flat_map(Attributes::iter);
                    let near = near(&attribute.value, known.map(|(name, _)| name.as_str()));
                    let told = format!("`{kind}` has no attribute `{}`{near}", attribute.value);
                    self.complain(attribute, told);
                }
                of_kind.insert(property.value.clone(), attribute.value.clone());
            }
            properties.insert(kind, of_kind);
        }
        properties
    }

    fn context(&mut self, raw: &Entries<Spanned<String>>) -> HashMap<String, String> {
        let mut context = HashMap::new();
        for (name, member) in &raw.0 {
            self.member(member);
            context.insert(name.value.clone(), member.value.clone());
        }
        context
    }

    /// A member that is a record wherever it is.
    fn record(&mut self, name: &Spanned<String>) {
        let contexts = self.schema.actions().filter_map(|action| members_of(self.schema, action));
        let mut kinds = contexts.filter_map(|members| members.get_attr(&name.value));
        if kinds.any(|kind| !matches!(&*kind.attr_type, Type::Record { .. })) {
            let told =
                format!("`{}` is no record, so it cannot take an action's properties", name.value);
            self.complain(name, told);
        }
    }

    /// A member that some action's context has.
    fn member(&mut self, name: &Spanned<String>) {
        let members: BTreeSet<&str> = self
            .schema
            .actions()
            .filter_map(|action| members_of(self.schema, action))
            .flat_map(Attributes::iter)
            .map(|(name, _)| name.as_str())
            .collect();
        if !members.contains(name.value.as_str()) {
            let near = near(&name.value, members.iter().copied());
            self.complain(name, format!("no action's context has `{}`{near}", name.value));
        }
    }
}

fn attributes_of<'a>(schema: &'a Schema, kind: &EntityTypeName) -> Option<&'a Attributes> {
    let schema: &ValidatorSchema = schema.as_ref();
    schema.get_entity_type(kind.as_ref()).map(ValidatorEntityType::attributes)
}

fn members_of<'a>(schema: &'a Schema, action: &EntityUid) -> Option<&'a Attributes> {
    let schema: &ValidatorSchema = schema.as_ref();
    match schema.context_type(action.as_ref()) {
        Some(Type::Record { attrs, .. }) => Some(attrs),
        _ => None,
    }
}

/// Somebody or something, and what is told of it.
#[derive(Debug, Clone, Copy)]
pub struct Named<'a> {
    pub kind: &'a str,
    pub id: &'a str,
    pub properties: Option<&'a Members>,
}

/// A question in AuthZEN's names.
#[derive(Debug, Clone, Copy)]
pub struct Words<'a> {
    pub subject: Named<'a>,
    pub action: &'a str,
    pub action_properties: Option<&'a Members>,
    pub resource: Named<'a>,
    pub context: Option<&'a Members>,
}

/// A question in Cedar's terms, and in words: what a record keeps, and [`super::Words`] takes.
#[derive(Debug)]
pub struct Asked {
    request: Request,
    over: Overlay,
    pub principal: EntityUid,
    pub action: EntityUid,
    pub resource: EntityUid,
    pub context: Value,
    pub entities: Vec<Value>,
}

/// Ids or names, in order.
pub type Behind<'a> = Box<dyn Iterator<Item = Arc<str>> + 'a>;

fn range(after: Option<&str>) -> (Bound<&str>, Bound<&str>) {
    (after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded)
}

/// A store that is asked in AuthZEN's names.
#[derive(Debug)]
pub struct Access {
    store: Store,
    /// Those that are stored, or that a policy or another entity names, or that the schema lists.
    known: HashMap<EntityTypeName, BTreeSet<Arc<str>>>,
}

impl Access {
    /// Prepare.
    pub fn new(store: Store) -> Self {
        let mut known: HashMap<EntityTypeName, BTreeSet<Arc<str>>> = HashMap::new();
        for uid in search::known(&store) {
            let of_kind = known.entry(uid.type_name().clone()).or_default();
            of_kind.insert(uid.id().unescaped().into());
        }
        let schema: &ValidatorSchema = store.schema().as_ref();
        for kind in store.schema().entity_types() {
            let listed = schema.get_entity_type(kind.as_ref()).map(|kind| &kind.kind);
            if let Some(ValidatorEntityTypeKind::Enum(ids)) = listed {
                let ids = ids.iter().map(|id| Arc::from(AsRef::<str>::as_ref(id)));
                known.insert(kind.clone(), ids.collect());
            }
        }
        Self { store, known }
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The subjects of a type that are known, in order, behind `after`.
    pub fn subjects<'s>(&'s self, kind: &str, after: Option<&str>) -> Behind<'s> {
        self.known_of(self.store.names.subjects.get(kind), after)
    }

    /// The resources of a type that are known, in order, behind `after`.
    pub fn resources<'s>(&'s self, kind: &str, after: Option<&str>) -> Behind<'s> {
        self.known_of(self.store.names.resources.get(kind), after)
    }

    /// The names of actions, in order, behind `after`.
    pub fn actions<'s>(&'s self, after: Option<&str>) -> Behind<'s> {
        let behind = self.store.names.actions.range::<str, _>(range(after));
        Box::new(behind.map(|(name, _)| Arc::clone(name)))
    }

    fn known_of<'s>(&'s self, kind: Option<&EntityTypeName>, after: Option<&str>) -> Behind<'s> {
        match kind.and_then(|kind| self.known.get(kind)) {
            Some(ids) => Box::new(ids.range::<str, _>(range(after)).cloned()),
            None => Box::new(std::iter::empty()),
        }
    }

    /// Decide.
    pub fn decide(&self, asked: &Asked) -> Decision {
        self.store.decide_over(&asked.request, &asked.over)
    }

    /// Put a question in Cedar's terms.
    ///
    /// # Errors
    ///
    /// Names that stand for nothing, and what does not fit the schema.
    pub fn ask(&self, words: &Words<'_>) -> Result<Asked, Unasked> {
        let names = &self.store.names;
        let principal = uid(&names.subjects, &words.subject)?;
        let resource = uid(&names.resources, &words.resource)?;
        let action = names.actions.get(words.action).cloned().ok_or_else(|| Unasked::NoAction {
            action: words.action.to_owned(),
            near: String::new(),
        })?;
        let context = self.context(&action, words);
        let mut told: Vec<(&EntityUid, Members)> = Vec::new();
        for (uid, properties) in
            [(&principal, words.subject.properties), (&resource, words.resource.properties)]
        {
            let attributes = self.attributes(uid, properties);
            match told.iter_mut().find(|(other, _)| *other == uid) {
                // Of somebody who does something to themselves, both are told.
                Some((_, members)) => members.extend(attributes),
                None if attributes.is_empty() => {}
                None => told.push((uid, attributes)),
            }
        }
        let entities: Vec<Value> = told
            .into_iter()
            .map(|(uid, attributes)| {
                let (kind, id) = (uid.type_name().to_string(), uid.id().unescaped());
                json!({ "uid": { "type": kind, "id": id }, "attrs": attributes })
            })
            .collect();
        let over = entities.iter().map(|entity| self.store.entity(entity.clone()));
        let over = over.collect::<Result<Vec<_>, _>>()?;
        let over = self.store.overlay(over).map_err(Unasked::Entity)?;
        let fitted = self.store.context(&action, context.clone())?;
        let (of, on) = (principal.clone(), resource.clone());
        let request = self.store.request(of, action.clone(), on, fitted)?;
        Ok(Asked { request, over, principal, action, resource, context, entities })
    }

    /// What is told of somebody or something, as far as its type has attributes for it.
    fn attributes(&self, uid: &EntityUid, properties: Option<&Members>) -> Members {
        let kind = uid.type_name();
        let Some(known) = attributes_of(self.store.schema(), kind) else { return Members::new() };
        let names = self.store.names.properties.get(kind);
        fitting(properties, names, known)
    }

    /// What is told of the circumstances, as far as the action's context has members for it.
    fn context(&self, action: &EntityUid, words: &Words<'_>) -> Value {
        let names = &self.store.names;
        let Some(known) = members_of(self.store.schema(), action) else { return json!({}) };
        let mut context = fitting(words.context, Some(&names.context), known);
        let of_action = known.get_attr(&names.action_properties).map(|kind| &*kind.attr_type);
        if let Some(Type::Record { attrs, .. }) = of_action
            && let Some(properties) = words.action_properties
        {
            let told = fitting(Some(properties), None, attrs);
            context.insert(names.action_properties.clone(), Value::Object(told));
        }
        Value::Object(context)
    }
}

fn uid(kinds: &Kinds, named: &Named<'_>) -> Result<EntityUid, Unasked> {
    let kind = kinds.get(named.kind).cloned();
    let kind = kind.ok_or_else(|| {
        let near = near(named.kind, kinds.exact.keys().map(String::as_str));
        Unasked::NoType { kind: named.kind.to_owned(), near }
    })?;
    Ok(EntityUid::from_type_name_and_id(kind, EntityId::new(named.id)))
}

/// The members that are known, under the names they have there; what is null is not there.
fn fitting(
    members: Option<&Members>,
    names: Option<&HashMap<String, String>>,
    known: &Attributes,
) -> Members {
    let mut fitting = Members::new();
    for (name, value) in members.into_iter().flatten().filter(|(_, value)| !value.is_null()) {
        let renamed = names.and_then(|names| names.get(name));
        let own = renamed.unwrap_or(name);
        let Some(kind) = known.get_attr(own) else { continue };
        // What is named to be the attribute goes before what has its name by chance.
        if renamed.is_some() || !fitting.contains_key(own) {
            fitting.insert(own.clone(), trimmed(value, &kind.attr_type));
        }
    }
    fitting
}

/// A value without the members that its type has no place for.
fn trimmed(value: &Value, kind: &Type) -> Value {
    match (value, kind) {
        (Value::Object(members), Type::Record { attrs, .. }) => {
            Value::Object(fitting(Some(members), None, attrs))
        }
        (Value::Array(items), Type::Set { element_type: Some(kind) }) => {
            items.iter().map(|item| trimmed(item, kind)).collect()
        }
        _ => value.clone(),
    }
}
