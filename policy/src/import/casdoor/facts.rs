//! What an export says, as it says it: names without their owner, rules without their meaning.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Told,
    model::{self, Model},
};
use crate::{
    complaint::{Complaint, Complaints, Place},
    import::{Imported, Source, listing, tree::Node},
    model::name::OrgId,
};

/// Everybody, as a rule's subject; any, as its object or action.
pub(super) const ANY: &str = "*";

/// A rule: who may, or may not, do what on what.
#[derive(Debug, Clone)]
pub(super) struct Rule {
    pub place: Place,
    pub subject: String,
    pub object: String,
    pub action: String,
    pub deny: bool,
    /// The name of the model it is read by; `None` takes the one there is.
    pub model: Option<String>,
}

/// A member, and what it is a member of.
#[derive(Debug, Clone)]
pub(super) struct Link {
    pub member: String,
    pub of: String,
}

#[derive(Debug, Clone)]
pub(super) struct Person {
    /// The id, where the export has one beside the name.
    pub id: Option<String>,
}

/// An application's roles, by the name of the permission that says so.
#[derive(Debug, Clone)]
pub(super) struct Machine {
    pub place: Place,
    pub name: String,
    pub roles: Vec<String>,
}

#[derive(Debug, Default)]
pub(super) struct Facts {
    pub organization: Option<OrgId>,
    pub rules: Vec<Rule>,
    pub links: Vec<Link>,
    /// Titles by name.
    pub roles: BTreeMap<String, String>,
    pub groups: BTreeMap<String, String>,
    pub people: BTreeMap<String, Person>,
    pub machines: Vec<Machine>,
    /// By name; that of a file has the empty one.
    pub models: BTreeMap<String, (Place, Result<Model, String>)>,
    pub imported: Imported,
    /// Rules that permissions say: in force where there is no rule table.
    permissions: Vec<Rule>,
    tables: bool,
    owners: BTreeMap<String, Place>,
    /// People, groups and roles that are switched off: their rules and memberships are none.
    gone: BTreeSet<String>,
}

/// Sections of an export that say nothing of who may do what.
const ELSEWHERE: [&str; 8] =
    ["applications", "providers", "certs", "ldaps", "syncers", "webhooks", "tokens", "resources"];

impl Facts {
    pub(super) fn conf(&mut self, source: &Source) {
        let place = Place::file(std::sync::Arc::clone(&source.file));
        self.models.insert(String::new(), (place, model::read(&source.text)));
    }

    /// Casbin's rules, a line each.
    pub(super) fn csv(&mut self, source: &Source) -> Told {
        let mut complaints = Vec::new();
        for (n, line) in (1..).zip(source.text.lines()) {
            let place = Place { file: std::sync::Arc::clone(&source.file), line: n, column: 1 };
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            match fields(line) {
                Ok(fields) => {
                    let mut fields = fields.iter().map(String::as_str);
                    let kind = fields.next().unwrap_or_default();
                    self.row(&place, kind, &fields.collect::<Vec<_>>(), &mut complaints);
                }
                Err(what) => complaints.push(place.complain(what)),
            }
        }
        self.tables = true;
        if complaints.is_empty() { Ok(()) } else { Err(complaints) }
    }

    /// A row of a rule table: `p` with subject, object, action; `g` with member and role.
    fn row(&mut self, place: &Place, kind: &str, rest: &[&str], complaints: &mut Vec<Complaint>) {
        let known = match (kind, rest) {
            ("p", [subject, object, action, effect @ ..]) => match *effect {
                [] | ["" | "allow", ..] => Some((subject, object, action, false)),
                ["deny", ..] => Some((subject, object, action, true)),
                [other, ..] => {
                    let text = format!("the fourth field `{other}` is neither `allow` nor `deny`");
                    self.imported.leave_out(place, text);
                    return;
                }
            },
            ("g", [member, of, rest @ ..]) => {
                if rest.iter().any(|field| !field.is_empty()) {
                    self.imported.leave_out(
                        place,
                        "a membership in one domain only: here it is in all or in none",
                    );
                    return;
                }
                if member.is_empty() || of.is_empty() {
                    complaints.push(place.complain("a membership needs a member and a role"));
                    return;
                }
                self.link(place, member, of);
                return;
            }
            ("p" | "g", _) => {
                let text = format!(
                    "`{kind}` needs {}",
                    if kind == "p" { "subject, object and action" } else { "a member and a role" }
                );
                complaints.push(place.complain(text));
                return;
            }
            _ if kind.starts_with(['p', 'g']) && kind.len() == 2 => {
                self.imported.leave_out(
                    place,
                    format!("`{kind}` is a second kind of rule: only `p` and `g` are read"),
                );
                return;
            }
            _ => None,
        };
        let Some((subject, object, action, deny)) = known else {
            let kind: String = kind.chars().take(32).collect();
            complaints.push(
                place.complain(format!("`{kind}` is no casbin rule: lines begin with `p` or `g`")),
            );
            return;
        };
        if subject.is_empty() || object.is_empty() || action.is_empty() {
            complaints.push(place.complain("a rule needs subject, object and action"));
            return;
        }
        let Some(subject) = self.own(place, subject) else { return };
        self.rules.push(Rule {
            place: place.clone(),
            subject,
            object: (*object).to_owned(),
            action: (*action).to_owned(),
            deny,
            model: None,
        });
    }

    fn link(&mut self, place: &Place, member: &str, of: &str) {
        if let (Some(member), Some(of)) = (self.own(place, member), self.own(place, of)) {
            self.links.push(Link { member, of });
        }
    }

    /// A name without its owner, which is remembered: all must be of one organization.
    fn own(&mut self, place: &Place, name: &str) -> Option<String> {
        let Some((owner, name)) = name.split_once('/') else { return Some(name.to_owned()) };
        if owner.parse::<OrgId>().is_err() || name.is_empty() {
            let text = format!("`{owner}/{name}` is no name within an organization");
            self.imported.leave_out(place, text);
            return None;
        }
        self.owners.entry(owner.to_owned()).or_insert_with(|| place.clone());
        // With the owner, until it is known whose things are read.
        Some(format!("{owner}/{name}"))
    }

    /// An export, or a list of rules.
    pub(super) fn json(&mut self, root: &Node) {
        if !root.is_map() {
            self.table(root);
            return;
        }
        for (key, node) in root.entries() {
            match key.text.as_str() {
                "organizations" | "adapters" | "enforcers" => {}
                "models" => node.items().iter().for_each(|item| self.model(item)),
                "users" => node.items().iter().for_each(|item| self.person(item)),
                "groups" => node.items().iter().for_each(|item| self.group(item)),
                "roles" => node.items().iter().for_each(|item| self.role(item)),
                "permissions" => node.items().iter().for_each(|item| self.permission(item)),
                "policies" | "rules" => self.table(node),
                name if name.to_lowercase().ends_with("rule")
                    || name.to_lowercase().ends_with("rules") =>
                {
                    if name.contains("m2m") && !node.is_empty() {
                        let text = format!(
                            "`{name}`: rules over single applications; here an application holds roles"
                        );
                        self.imported.leave_out(&key.place, text);
                    } else {
                        self.table(node);
                    }
                }
                _ if node.is_empty() => {}
                name if ELSEWHERE.contains(&name) => {
                    self.imported
                        .note(&key.place, format!("`{name}` is no policy, and is not read"));
                }
                name => self.imported.leave_out(&key.place, format!("`{name}` is not known")),
            }
        }
    }

    /// A rule table: rows as objects (`ptype`, `v0`, …) or as lists.
    fn table(&mut self, node: &Node) {
        let mut complaints = Vec::new();
        for row in node.items() {
            let field = |names: &[&str]| {
                let named = |(key, _): &&(_, Node)| -> bool {
                    let key: &crate::import::tree::Text = key;
                    names.contains(&key.text.to_lowercase().as_str())
                };
                row.entries()
                    .iter()
                    .find(named)
                    .and_then(|(_, node)| node.text())
                    .unwrap_or_default()
            };
            let texts: Vec<&str> = if row.is_map() {
                let v: Vec<&str> = ["v0", "v1", "v2", "v3"].map(|name| field(&[name])).into();
                [&[field(&["ptype", "p_type"])], v.as_slice()].concat()
            } else {
                row.items().iter().filter_map(Node::text).collect()
            };
            let (kind, rest) = texts.split_first().map_or(("", [].as_slice()), |(k, r)| (*k, r));
            // A membership's third value is a domain; where a table has the column, it is empty.
            self.row(&row.place, kind, rest, &mut complaints);
        }
        self.tables |= !node.is_empty();
        self.imported.left_out.extend(complaints);
    }

    fn model(&mut self, node: &Node) {
        let text = node.get("modelText").and_then(Node::text).unwrap_or_default();
        self.models.insert(name(node), (node.place.clone(), model::read(text)));
    }

    fn person(&mut self, node: &Node) {
        let gone = ["isForbidden", "isDeleted"].iter().any(|flag| flagged(node, flag));
        let name = owned(node);
        let Some(own) = self.own(&node.place, &name) else { return };
        if gone {
            self.imported.note(
                &node.place,
                format!("person `{name}` is forbidden or deleted, and is not read"),
            );
            self.gone.insert(own);
            return;
        }
        if flagged(node, "isAdmin") {
            let text = format!("person `{name}` is an administrator there; here the groups decide");
            self.imported.note(&node.place, text);
        }
        let id = node.get("id").and_then(Node::text).filter(|id| !id.is_empty());
        self.people.insert(own, Person { id: id.map(str::to_owned) });
        for group in strings(node, "groups") {
            self.link(&node.place, &name, group);
        }
        for role in node.get("roles").map(Node::items).unwrap_or_default() {
            self.link(&role.place, &name, &owned(role));
        }
    }

    fn group(&mut self, node: &Node) {
        let Some(own) = self.own(&node.place, &owned(node)) else { return };
        if disabled(node) {
            self.imported.note(&node.place, format!("group `{own}` is disabled, and is not read"));
            self.gone.insert(own);
            return;
        }
        let above = ["parentId", "parent_id"].iter().find_map(|name| node.get(name)?.text());
        let top = node.get("owner").and_then(Node::text);
        if let Some(above) = above.filter(|above| !above.is_empty() && Some(*above) != top) {
            let text =
                format!("group `{own}` is below `{above}`; groups here lie beside each other");
            self.imported.leave_out(&node.place, text);
        }
        self.groups.insert(own, title(node));
    }

    fn role(&mut self, node: &Node) {
        let name = owned(node);
        let Some(own) = self.own(&node.place, &name) else { return };
        if disabled(node) {
            self.imported.note(&node.place, format!("role `{own}` is disabled, and is not read"));
            self.gone.insert(own);
            return;
        }
        if !strings(node, "domains").is_empty() {
            let text = format!(
                "role `{own}` is held in some domains only; here in the whole organization"
            );
            self.imported.leave_out(&node.place, text);
            return;
        }
        self.roles.insert(own, title(node));
        for kind in ["users", "groups", "roles"] {
            for member in strings(node, kind) {
                if member == ANY {
                    let text =
                        format!("role `{name}` is held by all `{kind}`; say it in `everyone`");
                    self.imported.leave_out(&node.place, text);
                } else {
                    self.link(&node.place, member, &name);
                }
            }
        }
    }

    /// A permission: each of its subjects may do each of its actions on each of its resources.
    fn permission(&mut self, node: &Node) {
        let name = name(node);
        let what = format!("permission `{name}`");
        if disabled(node)
            || node
                .get("state")
                .and_then(Node::text)
                .is_some_and(|s| s != "Approved" && !s.is_empty())
        {
            self.imported.note(&node.place, format!("{what} is not in force, and is not read"));
            return;
        }
        if !strings(node, "domains").is_empty() {
            self.imported.leave_out(&node.place, format!("{what} is for some domains only"));
            return;
        }
        let mut subjects = Vec::new();
        for kind in ["users", "groups", "roles"] {
            for subject in strings(node, kind) {
                if subject == ANY && kind != "users" {
                    self.imported.leave_out(&node.place, format!("{what} is for all `{kind}`"));
                    continue;
                }
                subjects.extend(self.own(&node.place, subject));
            }
        }
        if node.get("resourceType").and_then(Node::text) == Some("Application") {
            let roles = subjects;
            self.machines.push(Machine { place: node.place.clone(), name, roles });
            return;
        }
        let deny = match node.get("effect").and_then(Node::text).unwrap_or("Allow") {
            "Allow" | "allow" | "" => false,
            "Deny" | "deny" => true,
            other => {
                let text = format!("{what} has the effect `{other}`, which is not known");
                self.imported.leave_out(&node.place, text);
                return;
            }
        };
        // A model is named alone, or with its owner.
        let model = node.get("model").and_then(Node::text).unwrap_or_default();
        let model = model.rsplit('/').next().unwrap_or_default().to_owned();
        for subject in &subjects {
            for object in strings(node, "resources") {
                for action in strings(node, "actions") {
                    self.permissions.push(Rule {
                        place: node.place.clone(),
                        subject: subject.clone(),
                        object: object.to_owned(),
                        action: action.to_lowercase(),
                        deny,
                        model: Some(model.clone()),
                    });
                }
            }
        }
    }

    /// When all is read: which rules are in force, and whose.
    pub(super) fn settle(&mut self, wanted: Option<&OrgId>) -> Result<(), Complaints> {
        let permissions = std::mem::take(&mut self.permissions);
        if !self.tables {
            self.rules = permissions;
        } else if let Some(first) = permissions.first() {
            let text = "permissions are not read: the rule table beside them is what is in force";
            self.imported.note(&first.place, text);
        }
        let owners: Vec<&String> = self.owners.keys().collect();
        let organization = match (wanted, owners.as_slice()) {
            (Some(wanted), _) => Some(wanted.clone()),
            (None, []) => None,
            (None, [one]) => one.parse().ok(),
            (None, [first, ..]) => {
                let place = self.owners[*first].clone();
                let text = format!(
                    "there are several organizations, {}; choose one with `--organization`",
                    listing(owners)
                );
                return Err(place.complain(text).into());
            }
        };
        self.rules.retain(|rule| !self.gone.contains(&rule.subject));
        self.links
            .retain(|link| !self.gone.contains(&link.member) && !self.gone.contains(&link.of));
        self.keep(organization.as_ref());
        self.organization = organization;
        Ok(())
    }

    /// What is of the organization, by names without it; the rest is told once an owner.
    fn keep(&mut self, org: Option<&OrgId>) {
        let mut strangers: BTreeSet<&str> = BTreeSet::new();
        for (owner, place) in &self.owners {
            if org.is_none_or(|org| org.as_str() != owner) && strangers.insert(owner) {
                let text = format!("what is of organization `{owner}` is not read");
                self.imported.left_out.push(place.complain(text));
            }
        }
        let bare = |name: &str| match name.split_once('/') {
            Some((owner, rest)) => {
                org.is_some_and(|org| org.as_str() == owner).then(|| rest.to_owned())
            }
            None => Some(name.to_owned()),
        };
        let rules = std::mem::take(&mut self.rules);
        self.rules = (rules.into_iter())
            .filter_map(|rule| Some(Rule { subject: bare(&rule.subject)?, ..rule }))
            .collect();
        let links = std::mem::take(&mut self.links);
        self.links = (links.iter())
            .filter_map(|link| Some(Link { member: bare(&link.member)?, of: bare(&link.of)? }))
            .collect();
        for names in [&mut self.roles, &mut self.groups] {
            *names = std::mem::take(names)
                .into_iter()
                .filter_map(|(name, title)| Some((bare(&name)?, title)))
                .collect();
        }
        let people = std::mem::take(&mut self.people);
        self.people =
            people.into_iter().filter_map(|(name, id)| Some((bare(&name)?, id))).collect();
        for machine in &mut self.machines {
            machine.roles = machine.roles.iter().filter_map(|role| bare(role)).collect();
        }
    }
}

fn name(node: &Node) -> String {
    node.get("name").and_then(Node::text).unwrap_or_default().to_owned()
}

/// `owner/name`; a name alone where there is no owner.
fn owned(node: &Node) -> String {
    match node.get("owner").and_then(Node::text).filter(|owner| !owner.is_empty()) {
        Some(owner) => format!("{owner}/{}", name(node)),
        None => name(node),
    }
}

fn title(node: &Node) -> String {
    node.get("displayName").and_then(Node::text).unwrap_or_default().to_owned()
}

fn flagged(node: &Node, name: &str) -> bool {
    node.get(name).and_then(Node::bool) == Some(true)
}

fn disabled(node: &Node) -> bool {
    node.get("isEnabled").and_then(Node::bool) == Some(false)
}

fn strings<'n>(node: &'n Node, name: &str) -> Vec<&'n str> {
    node.get(name).map(Node::items).unwrap_or_default().iter().filter_map(Node::text).collect()
}

/// The fields of a line of CSV, white space around them gone.
fn fields(line: &str) -> Result<Vec<String>, String> {
    let mut fields = Vec::new();
    let mut rest = line;
    loop {
        rest = rest.trim_start();
        let (field, after) = if let Some(quoted) = rest.strip_prefix('"') {
            let (field, after) = closing(quoted).ok_or("a quote is not closed")?;
            let after = after.trim_start();
            if !after.is_empty() && !after.starts_with(',') {
                return Err("there is text after a closing quote".to_owned());
            }
            (field, after)
        } else {
            let end = rest.find(',').unwrap_or(rest.len());
            (rest[..end].trim().to_owned(), &rest[end..])
        };
        fields.push(field);
        match after.strip_prefix(',') {
            Some(after) => rest = after,
            None => return Ok(fields),
        }
    }
}

/// What stands before the closing quote, two quotes being one, and what after.
fn closing(text: &str) -> Option<(String, &str)> {
    let mut field = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        if c != '"' {
            field.push(c);
        } else if text[at + 1..].starts_with('"') {
            field.push('"');
            chars.next();
        } else {
            return Some((field, &text[at + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_its_fields() {
        for (line, expected) in [
            ("p, alice, data1, read", ["p", "alice", "data1", "read"].as_slice()),
            ("p,\"a, \"\"b\"\"\" , c,", &["p", "a, \"b\"", "c", ""]),
            ("g", &["g"]),
        ] {
            assert_eq!(fields(line).unwrap(), expected, "{line}");
        }
        for bad in ["p, \"a", "p, \"a\" b"] {
            assert!(fields(bad).is_err(), "{bad}");
        }
    }
}
