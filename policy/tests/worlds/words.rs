//! Random policies for a random schema, made by type, so that most of them validate.

use std::fmt::Write;

use serde_json::{Value, json};

use super::{
    plain::{DATETIMES, DECIMALS, DURATIONS, Field, IDS, IPS, Kind, LONGS, TEXTS, World},
    tape::Tape,
};

/// A policy or a template, with the links of it.
#[derive(Debug, Clone)]
pub struct Written {
    pub id: String,
    pub text: String,
    /// The name of each link, and what fills which slot.
    pub links: Vec<(String, Vec<(&'static str, String)>)>,
}

impl Written {
    pub fn links(&self) -> impl Iterator<Item = Value> + '_ {
        self.links.iter().map(|(id, args)| {
            let args: serde_json::Map<_, _> =
                args.iter().map(|(slot, uid)| ((*slot).to_owned(), json!(uid))).collect();
            json!({ "template_id": self.id, "link_id": id, "args": args })
        })
    }
}

/// What can be read, and what must hold before it is.
#[derive(Debug, Clone)]
struct Term {
    text: String,
    kind: Kind,
    guards: Vec<String>,
}

struct Author<'a, 't> {
    world: &'a World,
    tape: &'a mut Tape<'t>,
    terms: Vec<Term>,
}

/// The scope of a variable.
struct Scope {
    text: String,
    /// Whether it leaves one type only.
    typed: bool,
    slot: Option<&'static str>,
}

pub fn policy(world: &World, tape: &mut Tape<'_>, n: usize) -> Written {
    let action = tape.below(world.actions.len());
    let asked = &world.actions[action];
    let (principal, resource) = (*tape.pick(&asked.principals), *tape.pick(&asked.resources));
    let slots = tape.chance(30);
    let of = |tape: &mut Tape<'_>, name, kind| {
        let slot = slots && tape.chance(70);
        scope(world, tape, name, kind, slot)
    };
    let on = of(tape, "resource", resource);
    let by = of(tape, "principal", principal);
    let (action_scope, one) = action_scope(world, tape, action);
    let mut author = Author { world, tape, terms: Vec::new() };
    author.read("principal", &Kind::Entity(principal), &[], 3);
    author.read("resource", &Kind::Entity(resource), &[], 3);
    for field in &asked.context {
        author.member("context", field, &[], 3);
    }
    let literal = author.tape.below(world.types.len());
    let uid = world.uid(literal, author.tape.id(IDS));
    author.read(&uid, &Kind::Entity(literal), &[], 2);
    let mut known = Vec::new();
    if !one {
        known.push(format!("action == {}", world.action(action)));
    }
    if !by.typed {
        known.push(format!("principal is {}", world.type_name(principal)));
    }
    if !on.typed {
        known.push(format!("resource is {}", world.type_name(resource)));
    }
    let mut text = format!(
        "@id(\"p{n}\")\n{} ({}, {action_scope}, {})",
        if author.tape.chance(35) { "forbid" } else { "permit" },
        by.text,
        on.text
    );
    for _ in 0..author.tape.below(4) {
        let word = if author.tape.chance(30) { "unless" } else { "when" };
        let body = author.truth(3);
        // Seldom without what makes it valid.
        let body = if known.is_empty() || author.tape.chance(3) {
            body
        } else {
            format!("{} && ({body})", known.join(" && "))
        };
        let _ = write!(text, "\n{word} {{ {body} }}");
    }
    text.push(';');
    let slots: Vec<&str> = [by.slot, on.slot].into_iter().flatten().collect();
    let mut links = Vec::new();
    if !slots.is_empty() {
        for link in 0..=tape.below(3) {
            let fill = |tape: &mut Tape<'_>, slot: &'static str| {
                let kind = if slot == "?principal" { principal } else { resource };
                let kind = *tape.pick(&world.above(kind));
                (slot, world.uid(kind, tape.id(IDS)))
            };
            let args = [by.slot, on.slot].into_iter().flatten().map(|s| fill(tape, s)).collect();
            links.push((format!("p{n}-{link}"), args));
        }
    }
    Written { id: format!("p{n}"), text, links }
}

fn scope(world: &World, tape: &mut Tape<'_>, name: &'static str, kind: usize, slot: bool) -> Scope {
    let own = world.type_name(kind);
    let top = *tape.pick(&world.above(kind));
    let top = if slot { format!("?{name}") } else { world.uid(top, tape.id(IDS)) };
    let (text, typed, slot) = match tape.below(5) {
        0 if !slot => (name.to_owned(), false, false),
        1 if !slot => (format!("{name} is {own}"), true, false),
        2 => {
            let it = if slot { top } else { world.uid(kind, tape.id(IDS)) };
            (format!("{name} == {it}"), !slot, slot)
        }
        3 => (format!("{name} is {own} in {top}"), true, slot),
        _ => (format!("{name} in {top}"), false, slot),
    };
    let slot = slot.then_some(if name == "principal" { "?principal" } else { "?resource" });
    Scope { text, typed, slot }
}

/// The scope of an action that it is in, and whether it leaves no other.
fn action_scope(world: &World, tape: &mut Tape<'_>, action: usize) -> (String, bool) {
    let own = world.action(action);
    let groups = &world.actions[action].within;
    match tape.below(6) {
        0 => ("action".to_owned(), false),
        1 if !groups.is_empty() => {
            (format!("action in {}", world.group(*tape.pick(groups))), false)
        }
        2 => {
            let other = world.action(tape.below(world.actions.len()));
            let mut all = vec![own, other];
            all.extend((!world.groups.is_empty()).then(|| world.group(0)));
            (format!("action in [{}]", all.join(", ")), false)
        }
        3 if !world.groups.is_empty() && tape.chance(20) => {
            (format!("action == {}", world.group(0)), false)
        }
        _ => (format!("action == {own}"), true),
    }
}

impl Author<'_, '_> {
    /// Note what can be read from here, in so many steps.
    fn read(&mut self, text: &str, kind: &Kind, guards: &[String], steps: usize) {
        let term = Term { text: text.to_owned(), kind: kind.clone(), guards: guards.to_vec() };
        self.terms.push(term);
        if steps == 0 || self.terms.len() > 150 {
            return;
        }
        match kind {
            Kind::Entity(kind) => {
                let kind = &self.world.types[*kind];
                for field in &kind.fields {
                    self.member(text, field, guards, steps - 1);
                }
                if let Some(tags) = &kind.tags {
                    let mut guards = guards.to_vec();
                    guards.push(format!("{text}.hasTag(\"k0\")"));
                    self.read(&format!("{text}.getTag(\"k0\")"), tags, &guards, steps - 1);
                }
            }
            Kind::Record(fields) => {
                for field in fields {
                    self.member(text, field, guards, steps - 1);
                }
            }
            _ => {}
        }
    }

    fn member(&mut self, of: &str, field: &Field, guards: &[String], steps: usize) {
        let mut guards = guards.to_vec();
        if field.optional {
            guards.push(format!("{of} has {}", field.name));
        }
        self.read(&format!("{of}.{}", field.name), &field.kind, &guards, steps);
    }

    /// Something that is true or false.
    fn truth(&mut self, depth: usize) -> String {
        match self.tape.below(if depth == 0 { 9 } else { 14 }) {
            0 => "true".to_owned(),
            1 => format!("action in {}", self.world.action(0)),
            2 => self.has(),
            3..=8 => self.comparison(depth),
            9 => format!("!({})", self.truth(depth - 1)),
            10 | 11 => format!("({}) && ({})", self.truth(depth - 1), self.truth(depth - 1)),
            12 => format!("({}) || ({})", self.truth(depth - 1), self.truth(depth - 1)),
            _ => format!(
                "(if {} then {} else {})",
                self.truth(depth - 1),
                self.truth(depth - 1),
                self.truth(depth - 1)
            ),
        }
    }

    fn has(&mut self) -> String {
        let guarded: Vec<Term> =
            self.terms.iter().filter(|term| !term.guards.is_empty()).cloned().collect();
        if guarded.is_empty() {
            return "false".to_owned();
        }
        self.tape.pick(&guarded).guards.join(" && ")
    }

    /// A comparison, with what must hold before it is made.
    fn comparison(&mut self, depth: usize) -> String {
        let first = self.terms[self.tape.below(self.terms.len())].clone();
        let mut guards = first.guards.clone();
        let mut text = self.compared(&first, &mut guards, depth);
        if self.tape.chance(15) {
            // As often as not, more than a number can be.
            let more = self.term(&Kind::Long, &mut guards, 0);
            text = format!("{more} + {} != 0 && {text}", i64::MAX);
        }
        if guards.is_empty() || self.tape.chance(3) {
            return text;
        }
        format!("({} && {text})", guards.join(" && "))
    }

    fn compared(&mut self, first: &Term, guards: &mut Vec<String>, depth: usize) -> String {
        let it = &first.text;
        let mut other = |kind: &Kind| self.term(kind, guards, depth);
        match &first.kind {
            Kind::Bool => {
                let other = other(&Kind::Bool);
                let forms = [it.clone(), format!("{it} == {other}"), format!("!{it}")];
                self.tape.pick(&forms).clone()
            }
            Kind::Long => {
                let (left, right) = (other(&Kind::Long), other(&Kind::Long));
                let left = if self.tape.chance(50) { it.clone() } else { left };
                format!("{left} {} {right}", self.tape.pick(&["<", "<=", ">", ">=", "==", "!="]))
            }
            Kind::Text => {
                let other = other(&Kind::Text);
                let like = ["a*", "*", "b\\*c", "*b*", ""];
                let pattern = self.tape.pick(&like);
                let forms = [format!("{it} == {other}"), format!("{it} like \"{pattern}\"")];
                self.tape.pick(&forms).clone()
            }
            Kind::Ip => {
                let range = literal(self.world, self.tape, &Kind::Ip);
                let forms = [
                    format!("{it}.isInRange({range})"),
                    format!("{it} == {range}"),
                    format!("{it}.isIpv4()"),
                    format!("{it}.isIpv6()"),
                    format!("{it}.isLoopback()"),
                    format!("{it}.isMulticast()"),
                ];
                self.tape.pick(&forms).clone()
            }
            Kind::Decimal => {
                let other = other(&Kind::Decimal);
                let how = ["lessThan", "lessThanOrEqual", "greaterThan", "greaterThanOrEqual"];
                match self.tape.below(5) {
                    0 => format!("{it} == {other}"),
                    n => format!("{it}.{}({other})", how[n - 1]),
                }
            }
            Kind::Datetime | Kind::Duration => {
                let other = other(&first.kind);
                format!("{it} {} {other}", self.tape.pick(&["<", "<=", ">", ">=", "=="]))
            }
            Kind::Entity(kind) => {
                let top = *self.tape.pick(&self.world.above(*kind));
                let above = self.term(&Kind::Entity(top), guards, depth);
                let same = self.term(&Kind::Entity(*kind), guards, depth);
                let any = self.tape.below(self.world.types.len());
                let forms = [
                    format!("{it} == {same}"),
                    format!("{it} in {above}"),
                    format!("{it} in [{above}, {same}]"),
                    format!("{it} is {}", self.world.type_name(any)),
                    format!("{it} is {} in {above}", self.world.type_name(*kind)),
                ];
                self.tape.pick(&forms).clone()
            }
            Kind::Set(kind) => {
                let one = other(kind);
                let all = other(&first.kind);
                let mut forms = vec![
                    format!("{it}.contains({one})"),
                    format!("{it}.containsAll({all})"),
                    format!("{it}.containsAny({all})"),
                    format!("{it} == {all}"),
                    format!("{it}.isEmpty()"),
                ];
                if matches!(**kind, Kind::Entity(_)) {
                    forms.push(format!("{one} in {it}"));
                }
                self.tape.pick(&forms).clone()
            }
            Kind::Record(_) => format!("{it} == {}", other(&first.kind)),
        }
    }

    /// Something of a type; `guards` gets what must hold before it is read.
    fn term(&mut self, kind: &Kind, guards: &mut Vec<String>, depth: usize) -> String {
        if depth > 0 && self.tape.chance(50) {
            return self.computed(kind, guards, depth - 1);
        }
        let fitting: Vec<Term> =
            self.terms.iter().filter(|term| term.kind == *kind).cloned().collect();
        if fitting.is_empty() || self.tape.chance(40) {
            return literal(self.world, self.tape, kind);
        }
        let term = self.tape.pick(&fitting);
        guards.extend(term.guards.iter().cloned());
        term.text.clone()
    }

    /// Something that must be worked out, and may fail.
    fn computed(&mut self, kind: &Kind, guards: &mut Vec<String>, depth: usize) -> String {
        let one = self.term(kind, guards, depth);
        let two = self.term(kind, guards, depth);
        match (kind, self.tape.below(4)) {
            (_, 0) => format!("(if {} then {one} else {two})", self.truth(depth)),
            (_, 1) => format!("{{x: {one}, y: {two}}}.x"),
            (Kind::Long, 2) => format!("({one} {} {two})", self.tape.pick(&["+", "-", "*"])),
            (Kind::Long, _) => {
                let lasts = self.term(&Kind::Duration, guards, depth);
                let unit = self.tape.pick(&["Milliseconds", "Seconds", "Days"]);
                let forms = [format!("(-{one})"), format!("{lasts}.to{unit}()")];
                self.tape.pick(&forms).clone()
            }
            (Kind::Datetime, 2) => {
                format!("{one}.offset({})", self.term(&Kind::Duration, guards, depth))
            }
            (Kind::Datetime, _) => format!("{one}.toDate()"),
            (Kind::Duration, 2) => {
                let at = self.term(&Kind::Datetime, guards, depth);
                format!("{at}.durationSince({})", self.term(&Kind::Datetime, guards, depth))
            }
            (Kind::Duration, _) => {
                format!("{}.toTime()", self.term(&Kind::Datetime, guards, depth))
            }
            (Kind::Bool, _) => format!("({})", self.truth(depth)),
            _ => one,
        }
    }
}

/// A value as Cedar says it.
fn literal(world: &World, tape: &mut Tape<'_>, kind: &Kind) -> String {
    match kind {
        Kind::Bool => tape.pick(&["true", "false"]).to_string(),
        Kind::Long => tape.pick(&LONGS).to_string(),
        Kind::Text => format!("{:?}", tape.pick(&TEXTS)),
        Kind::Ip => format!("ip({:?})", tape.pick(&IPS)),
        Kind::Decimal => format!("decimal({:?})", tape.pick(&DECIMALS)),
        Kind::Datetime => format!("datetime({:?})", tape.pick(&DATETIMES)),
        Kind::Duration => format!("duration({:?})", tape.pick(&DURATIONS)),
        Kind::Entity(kind) => world.uid(*kind, tape.id(IDS)),
        Kind::Set(kind) => {
            let items: Vec<String> =
                (0..=tape.below(2)).map(|_| literal(world, tape, kind)).collect();
            format!("[{}]", items.join(", "))
        }
        Kind::Record(fields) => {
            let fields: Vec<String> = fields
                .iter()
                .map(|field| format!("{}: {}", field.name, literal(world, tape, &field.kind)))
                .collect();
            format!("{{{}}}", fields.join(", "))
        }
    }
}
