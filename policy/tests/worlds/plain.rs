//! Random plain stores: a schema of entity types, actions and contexts, entities in a hierarchy, and
//! questions, some of which are not what the schema says.

use std::fmt::Write;

use cedar_policy::{Context, EntityUid, Request};
use serde_json::{Map, Value, json};

use super::tape::Tape;

/// Of each type, `e0` and up; the last ones are never there.
pub const IDS: usize = 5;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    Bool,
    Long,
    Text,
    Ip,
    Decimal,
    Datetime,
    Duration,
    Entity(usize),
    Set(Box<Kind>),
    Record(Vec<Field>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    pub name: String,
    pub kind: Kind,
    pub optional: bool,
}

#[derive(Debug, Clone)]
pub struct EntityType {
    /// The types that one of this may be in.
    pub within: Vec<usize>,
    pub fields: Vec<Field>,
    pub tags: Option<Kind>,
}

#[derive(Debug, Clone)]
pub struct Action {
    pub within: Vec<usize>,
    pub principals: Vec<usize>,
    pub resources: Vec<usize>,
    pub context: Vec<Field>,
}

#[derive(Debug, Clone)]
pub struct World {
    pub prefix: &'static str,
    pub types: Vec<EntityType>,
    /// How many action groups there are, each in the ones before that it names.
    pub groups: Vec<Vec<usize>>,
    pub actions: Vec<Action>,
    pub things: Vec<Value>,
}

/// A question, and what it tells of entities.
#[derive(Debug, Clone)]
pub struct Question {
    pub request: Request,
    pub told: Vec<Value>,
}

pub const LONGS: [i64; 6] = [0, 1, -1, 7, i64::MAX, i64::MIN + 1];
pub const TEXTS: [&str; 5] = ["", "a", "abc", "b*c", "a\"b"];
pub const IPS: [&str; 5] = ["10.0.0.1", "127.0.0.1", "10.0.0.0/8", "::1", "ff00::2"];
pub const DECIMALS: [&str; 4] = ["0.0", "1.5", "-922337203685477.5808", "1.50"];
pub const DATETIMES: [&str; 3] = ["2024-01-01", "2024-10-15T11:35:00Z", "1970-01-01T00:00:00Z"];
pub const DURATIONS: [&str; 5] = ["0s", "1h", "-1d2h", "15m", "9223372036854775807ms"];

impl World {
    pub fn new(tape: &mut Tape<'_>) -> Self {
        let count = 2 + tape.below(4);
        let prefix = if tape.chance(40) { "N::" } else { "" };
        let types = (0..count)
            .map(|n| {
                // In a later type, or in its own.
                let within = tape.some(&(n..count).collect::<Vec<_>>(), 45);
                let fields = fields(tape, "a", count, 2);
                let tags = tape.chance(30).then(|| kind(tape, count, 1));
                EntityType { within, fields, tags }
            })
            .collect();
        let groups: Vec<Vec<usize>> =
            (0..tape.below(4)).map(|n| tape.some(&(0..n).collect::<Vec<_>>(), 50)).collect();
        let all: Vec<usize> = (0..count).collect();
        let all_groups: Vec<usize> = (0..groups.len()).collect();
        let actions = (0..2 + tape.below(3))
            .map(|_| {
                let of = |tape: &mut Tape<'_>| {
                    let mut kinds = tape.some(&all, 40);
                    if kinds.is_empty() {
                        kinds.push(tape.below(count));
                    }
                    kinds
                };
                let (principals, resources) = (of(tape), of(tape));
                let within = tape.some(&all_groups, 50);
                Action { within, principals, resources, context: fields(tape, "c", count, 2) }
            })
            .collect();
        let mut world = Self { prefix, types, groups, actions, things: Vec::new() };
        world.things = world.make_things(tape);
        world
    }

    fn make_things(&self, tape: &mut Tape<'_>) -> Vec<Value> {
        let mut things = Vec::new();
        for (n, kind) in self.types.iter().enumerate() {
            for id in 0..=tape.below(IDS - 1) {
                let parents: Vec<Value> = kind
                    .within
                    .iter()
                    // No circle: what is above is of a later type, or later of the same.
                    .flat_map(|top| (0..IDS).map(move |other| (*top, other)))
                    .filter(|top| *top > (n, id) && tape.chance(25))
                    .map(|(top, other)| self.named(top, other))
                    .collect();
                let tags = self.tags(tape, kind);
                let attrs = self.record(tape, &kind.fields);
                things.push(json!({
                    "uid": self.named(n, id), "attrs": attrs, "parents": parents, "tags": tags,
                }));
            }
        }
        things
    }

    fn tags(&self, tape: &mut Tape<'_>, kind: &EntityType) -> Value {
        let mut tags = Map::new();
        if let Some(kind) = &kind.tags {
            for name in tape.some(&["k0", "k1"], 60) {
                tags.insert(name.to_owned(), self.value(tape, kind));
            }
        }
        Value::Object(tags)
    }

    pub fn type_name(&self, kind: usize) -> String {
        format!("{}T{kind}", self.prefix)
    }

    pub fn uid(&self, kind: usize, id: usize) -> String {
        format!("{}::\"e{id}\"", self.type_name(kind))
    }

    pub fn action(&self, n: usize) -> String {
        format!("{}Action::\"a{n}\"", self.prefix)
    }

    pub fn group(&self, n: usize) -> String {
        format!("{}Action::\"g{n}\"", self.prefix)
    }

    fn named(&self, kind: usize, id: usize) -> Value {
        json!({ "type": self.type_name(kind), "id": format!("e{id}") })
    }

    /// The types that one of a type may be in at any depth, itself among them.
    pub fn above(&self, kind: usize) -> Vec<usize> {
        let mut above = vec![kind];
        let mut at = 0;
        while at < above.len() {
            let more = self.types[above[at]].within.clone();
            above.extend(more.into_iter().filter(|top| !above.contains(top)).collect::<Vec<_>>());
            at += 1;
        }
        above
    }

    pub fn schema(&self) -> String {
        let mut text = String::new();
        let name = |n: &usize| format!("T{n}");
        let list = |kinds: &[usize], name: &dyn Fn(&usize) -> String| {
            kinds.iter().map(name).collect::<Vec<_>>().join(", ")
        };
        for (n, kind) in self.types.iter().enumerate() {
            let _ = write!(text, "entity T{n}");
            if !kind.within.is_empty() {
                let _ = write!(text, " in [{}]", list(&kind.within, &name));
            }
            let _ = write!(text, " {{ {} }}", declared(&kind.fields));
            if let Some(tags) = &kind.tags {
                let _ = write!(text, " tags {}", declaration(tags));
            }
            text.push_str(";\n");
        }
        let group = |n: &usize| format!("\"g{n}\"");
        for (n, within) in self.groups.iter().enumerate() {
            let _ = writeln!(text, "action \"g{n}\" in [{}];", list(within, &group));
        }
        for (n, action) in self.actions.iter().enumerate() {
            let _ = writeln!(
                text,
                "action \"a{n}\" in [{}] appliesTo {{ principal: [{}], resource: [{}], context: {{ {} }} }};",
                list(&action.within, &group),
                list(&action.principals, &name),
                list(&action.resources, &name),
                declared(&action.context)
            );
        }
        let text = text.replace(" in []", "");
        if self.prefix.is_empty() { text } else { format!("namespace N {{\n{text}}}\n") }
    }

    /// A value as JSON says it.
    fn value(&self, tape: &mut Tape<'_>, kind: &Kind) -> Value {
        let call =
            |name: &str, argument: &str| json!({ "__extn": { "fn": name, "arg": argument } });
        match kind {
            Kind::Bool => json!(tape.chance(50)),
            Kind::Long => json!(tape.pick(&LONGS)),
            Kind::Text => json!(tape.pick(&TEXTS)),
            Kind::Ip => call("ip", tape.pick::<&str>(&IPS)),
            Kind::Decimal => call("decimal", tape.pick::<&str>(&DECIMALS)),
            Kind::Datetime => call("datetime", tape.pick::<&str>(&DATETIMES)),
            Kind::Duration => call("duration", tape.pick::<&str>(&DURATIONS)),
            Kind::Entity(kind) => json!({ "__entity": self.named(*kind, tape.id(IDS)) }),
            Kind::Set(kind) => (0..tape.below(4)).map(|_| self.value(tape, kind)).collect(),
            Kind::Record(fields) => self.record(tape, fields),
        }
    }

    fn record(&self, tape: &mut Tape<'_>, fields: &[Field]) -> Value {
        let mut record = Map::new();
        for field in fields {
            if !field.optional || tape.chance(60) {
                record.insert(field.name.clone(), self.value(tape, &field.kind));
            }
        }
        Value::Object(record)
    }

    pub fn question(&self, tape: &mut Tape<'_>) -> Question {
        let n = tape.below(self.actions.len());
        let action = &self.actions[n];
        let someone = |tape: &mut Tape<'_>, of: &[usize]| {
            let kind = if tape.chance(10) { tape.below(self.types.len()) } else { *tape.pick(of) };
            (kind, tape.id(IDS))
        };
        let principal = someone(tape, &action.principals);
        let resource = someone(tape, &action.resources);
        let mut context = self.record(tape, &action.context);
        if tape.chance(12) {
            self.spoil(tape, &mut context);
        }
        let asked = match tape.below(25) {
            24 => format!("{}Action::\"unknown\"", self.prefix),
            23 if !self.groups.is_empty() => self.group(tape.below(self.groups.len())),
            _ => self.action(n),
        };
        let told = if tape.chance(12) {
            let mut told = vec![self.told(tape, principal)];
            if resource != principal && tape.chance(50) {
                told.push(self.told(tape, resource));
            }
            let other = (tape.below(self.types.len()), tape.id(IDS));
            if other != principal && other != resource && tape.chance(40) {
                told.push(self.told(tape, other));
            }
            told
        } else {
            Vec::new()
        };
        let uid = |text: String| text.parse::<EntityUid>().unwrap();
        let entity = |(kind, id)| uid(self.uid(kind, id));
        let context = Context::from_json_value(context, None).unwrap();
        let request =
            Request::new(entity(principal), uid(asked), entity(resource), context, None).unwrap();
        Question { request, told }
    }

    /// Take something out of a context, or make it another thing.
    fn spoil(&self, tape: &mut Tape<'_>, context: &mut Value) {
        let other = kind(tape, self.types.len(), 1);
        let Some(fields) = context.as_object_mut() else { return };
        let names: Vec<String> = fields.keys().cloned().collect();
        if names.is_empty() {
            return;
        }
        let name = tape.pick(&names).clone();
        if tape.chance(50) {
            fields.insert(name, self.value(tape, &other));
        } else {
            fields.remove(&name);
        }
    }

    /// What a question may tell of an entity: some attributes, some parents; seldom what the schema
    /// does not know.
    fn told(&self, tape: &mut Tape<'_>, (n, id): (usize, usize)) -> Value {
        let kind = &self.types[n];
        let there = self.things.iter().any(|thing| thing["uid"] == self.named(n, id));
        let mut attrs = self.record(tape, &kind.fields);
        if there {
            let some = tape.some(&kind.fields, 50);
            let kept = attrs.as_object_mut().unwrap();
            kept.retain(|name, _| some.iter().any(|field| field.name == *name));
        }
        if tape.chance(4) {
            attrs["unknown"] = json!(true);
        }
        let mut parents = Vec::new();
        for top in &kind.within {
            if tape.chance(40) {
                parents.push(self.named(*top, tape.id(IDS)));
            }
        }
        let tags = self.tags(tape, kind);
        json!({ "uid": self.named(n, id), "attrs": attrs, "parents": parents, "tags": tags })
    }
}

fn fields(tape: &mut Tape<'_>, prefix: &str, types: usize, depth: usize) -> Vec<Field> {
    (0..tape.below(5))
        .map(|n| {
            let kind = kind(tape, types, depth);
            Field { name: format!("{prefix}{n}"), kind, optional: tape.chance(35) }
        })
        .collect()
}

fn kind(tape: &mut Tape<'_>, types: usize, depth: usize) -> Kind {
    match tape.below(if depth == 0 { 9 } else { 13 }) {
        0 => Kind::Bool,
        1 => Kind::Long,
        2 => Kind::Text,
        3 => Kind::Ip,
        4 => Kind::Decimal,
        5 => Kind::Datetime,
        6 => Kind::Duration,
        7 | 8 => Kind::Entity(tape.below(types)),
        9 | 10 => Kind::Set(Box::new(kind(tape, types, depth - 1))),
        _ => Kind::Record(fields(tape, "r", types, depth - 1)),
    }
}

fn declared(fields: &[Field]) -> String {
    let declare = |field: &Field| {
        let optional = if field.optional { "?" } else { "" };
        format!("{}{optional}: {}", field.name, declaration(&field.kind))
    };
    fields.iter().map(declare).collect::<Vec<_>>().join(", ")
}

fn declaration(kind: &Kind) -> String {
    match kind {
        Kind::Bool => "Bool".to_owned(),
        Kind::Long => "Long".to_owned(),
        Kind::Text => "String".to_owned(),
        Kind::Ip => "ipaddr".to_owned(),
        Kind::Decimal => "decimal".to_owned(),
        Kind::Datetime => "datetime".to_owned(),
        Kind::Duration => "duration".to_owned(),
        Kind::Entity(kind) => format!("T{kind}"),
        Kind::Set(kind) => format!("Set<{}>", declaration(kind)),
        Kind::Record(fields) => format!("{{ {} }}", declared(fields)),
    }
}
