//! A manifest in the making, and its text: readable, stable, and read back before it is handed out.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
};

use crate::{
    complaint::Complaints,
    model::{
        grant::{Grant, Permission},
        manifest::Manifest,
        name::{ActionName, GroupName, ProductName, ResourceName, RoleName},
    },
    schema,
};

/// What will be a `product.yaml`.
#[derive(Debug, Clone)]
pub(super) struct Draft {
    /// The lines of the comment at its head.
    pub head: Vec<String>,
    pub product: ProductName,
    pub title: String,
    pub isolated: bool,
    pub resources: BTreeMap<ResourceName, BTreeSet<ActionName>>,
    pub roles: Vec<DraftRole>,
    pub groups: BTreeMap<GroupName, DraftGroup>,
    pub applications: Vec<RoleName>,
    pub everyone: BTreeSet<Grant>,
    /// The name of the one route set, and its rows.
    pub routes: Option<(String, Vec<Row>)>,
}

#[derive(Debug, Clone)]
pub(super) struct DraftRole {
    pub name: RoleName,
    pub title: String,
    /// Where it comes from.
    pub comment: String,
    pub grants: BTreeSet<Grant>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct DraftGroup {
    pub title: String,
    pub roles: BTreeSet<RoleName>,
}

/// A route, as the manifest writes it.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub method: String,
    pub path: String,
    pub needs: String,
    /// What it stands under: a comment is written where it changes.
    pub section: String,
}

impl Draft {
    pub(super) fn new(product: ProductName) -> Self {
        Self {
            head: Vec::new(),
            product,
            title: String::new(),
            isolated: true,
            resources: BTreeMap::new(),
            roles: Vec::new(),
            groups: BTreeMap::new(),
            applications: Vec::new(),
            everyone: BTreeSet::new(),
            routes: None,
        }
    }

    pub(super) fn declare(&mut self, permission: &Permission) {
        let actions = self.resources.entry(permission.resource.clone()).or_default();
        actions.insert(permission.action.clone());
    }

    /// The path of the file in a policy folder.
    pub(super) fn file(&self) -> String {
        format!("{}/{}", self.product, crate::folder::MANIFEST)
    }

    /// The manifest's text.
    ///
    /// # Errors
    ///
    /// When the manifest that is made does not hold: a name that means two things.
    pub(super) fn text(&self) -> Result<String, Complaints> {
        let text = self.write();
        Manifest::parse(&self.file(), &text)?;
        Ok(text)
    }

    fn write(&self) -> String {
        let mut out = String::new();
        for line in &self.head {
            out.push_str(&comment("#", line));
        }
        let _ = writeln!(out, "product: {}", quoted(self.product.as_str()));
        if !self.title.is_empty() {
            let _ = writeln!(out, "title: {}", quoted(&self.title));
        }
        if !self.isolated {
            out.push_str("isolated: false\n");
        }
        if self.resources.is_empty() {
            out.push_str("\nresources: {}\n");
        } else {
            out.push_str("\nresources:\n");
        }
        let rows = self.resources.iter().map(|(name, actions)| {
            (name.as_str(), actions.iter().map(ActionName::as_str).collect())
        });
        lists(&mut out, "  ", rows);
        self.write_roles(&mut out);
        self.write_groups(&mut out);
        if !self.applications.is_empty() {
            let names: Vec<&str> = self.applications.iter().map(RoleName::as_str).collect();
            let _ = writeln!(out, "\napplications: {}", list(&names));
        }
        if !self.everyone.is_empty() {
            out.push_str("\neveryone:\n");
            grants(&mut out, "  ", &self.everyone);
        }
        self.write_routes(&mut out);
        out
    }

    fn write_roles(&self, out: &mut String) {
        for (n, role) in self.roles.iter().enumerate() {
            out.push_str(if n == 0 { "\nroles:\n" } else { "\n" });
            if !role.comment.is_empty() {
                out.push_str(&comment("  #", &role.comment));
            }
            let _ = writeln!(out, "  {}:", quoted(role.name.as_str()));
            if !role.title.is_empty() {
                let _ = writeln!(out, "    title: {}", quoted(&role.title));
            }
            if role.grants.is_empty() {
                out.push_str("    permissions: {}\n");
            } else {
                out.push_str("    permissions:\n");
                grants(out, "      ", &role.grants);
            }
        }
    }

    fn write_groups(&self, out: &mut String) {
        if !self.groups.is_empty() {
            out.push_str("\ngroups:\n");
        }
        for (name, group) in &self.groups {
            let roles: Vec<&str> = group.roles.iter().map(RoleName::as_str).collect();
            let _ = writeln!(out, "  {}:", quoted(name.as_str()));
            if !group.title.is_empty() {
                let _ = writeln!(out, "    title: {}", quoted(&group.title));
            }
            let _ = writeln!(out, "    roles: {}", list(&roles));
        }
    }

    fn write_routes(&self, out: &mut String) {
        let Some((set, rows)) = &self.routes else { return };
        let set = quoted(set);
        let _ = write!(out, "\nroutes: {set}\nroute_sets:\n  {set}:\n    table:");
        if rows.is_empty() {
            out.push_str(" []");
        }
        out.push('\n');
        let method = rows.iter().map(|row| row.method.len()).max().unwrap_or(0);
        let mut section = "";
        for part in rows.chunk_by(|a, b| a.section == b.section) {
            let path = part.iter().map(|row| row.path.len()).max().unwrap_or(0);
            if part[0].section != section {
                if !out.ends_with("table:\n") {
                    out.push('\n');
                }
                section = &part[0].section;
                if !section.is_empty() {
                    out.push_str(&comment("      #", section));
                }
            }
            for row in part {
                let Row { method: m, path: p, needs, .. } = row;
                let row = format!("{m:method$} {p:path$} -> {needs}");
                // A path may end in a colon, which before a space is YAML's.
                let row = if row.contains(": ") { format!("'{row}'") } else { row };
                let _ = writeln!(out, "      - {row}");
            }
        }
    }
}

/// `resource: [action, …]` of each resource.
fn grants(out: &mut String, indent: &str, grants: &BTreeSet<Grant>) {
    let mut rows: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for grant in grants {
        let resource = grant.resource.as_ref().map_or("*", ResourceName::as_str);
        rows.entry(resource).or_default().push(grant.action.as_ref().map_or("*", |a| a.as_str()));
    }
    lists(out, indent, rows.into_iter());
}

fn lists<'a>(out: &mut String, indent: &str, rows: impl Iterator<Item = (&'a str, Vec<&'a str>)>) {
    let rows: Vec<(String, String)> =
        rows.map(|(name, items)| (format!("{}:", quoted(name)), list(&items))).collect();
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, items) in rows {
        let _ = writeln!(out, "{indent}{name:width$} {items}");
    }
}

fn list(items: &[&str]) -> String {
    let items: Vec<String> = items.iter().map(|item| quoted(item)).collect();
    format!("[{}]", items.join(", "))
}

/// One line of a comment, whatever the source had in it. `mark` is `#` or `//`, indented.
pub(super) fn comment(mark: &str, text: &str) -> String {
    let text = plain(text);
    if text.is_empty() { format!("{mark}\n") } else { format!("{mark} {text}\n") }
}

/// A policy that an import writes by hand, for want of a role that says it.
pub(super) struct Written<'a> {
    pub comment: String,
    pub id: String,
    pub forbid: bool,
    /// The principal's scope, with entities as Cedar prints them.
    pub principal: String,
    pub product: &'a ProductName,
    pub permissions: &'a [&'a Permission],
}

/// The policy's text, a blank line before it. What is pasted is a name, whose letters are known, or
/// was printed by Cedar.
pub(super) fn written(policy: &Written<'_>) -> String {
    let kind = format!("{}::Action", schema::namespace(policy.product));
    let actions: Vec<String> = (policy.permissions.iter())
        .map(|permission| schema::uid(&kind, &permission.to_string()).to_string())
        .collect();
    let action = match &*actions {
        [one] => format!("action == {one}"),
        many => format!("action in\n    [{}]", many.join(",\n     ")),
    };
    let effect = if policy.forbid { "forbid" } else { "permit" };
    format!(
        "\n{}@id({})\n{effect} (\n  {},\n  {action},\n  resource\n);\n",
        comment("//", &policy.comment),
        // It may hold a person's id, with any letters but control characters: JSON's quotes do.
        serde_json::Value::String(plain(&policy.id)),
        policy.principal,
    )
}

/// A text of one line: what is no letter to a reader becomes a space.
pub(super) fn plain(text: &str) -> String {
    let letter =
        |c: char| if c.is_control() || "\u{2028}\u{2029}\u{feff}".contains(c) { ' ' } else { c };
    text.chars().map(letter).collect::<String>().trim().to_owned()
}

/// A text as YAML has it: bare where that is certain to be a text, in quotes otherwise.
pub(super) fn quoted(text: &str) -> String {
    const WORDS: [&str; 11] =
        ["true", "false", "null", "yes", "no", "on", "off", "y", "n", "nan", "inf"];
    let bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '/' | ' ');
    let text = plain(text);
    let is_bare = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(bare)
        && !WORDS.contains(&text.to_ascii_lowercase().as_str());
    if is_bare { text } else { format!("'{}'", text.replace('\'', "''")) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_manifest_is_written_to_be_read() {
        let mut draft = Draft::new("billing".parse().unwrap());
        draft.head = vec!["From somewhere.\nproduct: other".to_owned()];
        draft.title = "Bill's: all #1".to_owned();
        for permission in ["invoices:get", "invoices:rule:create", "on:get", "1e3:no"] {
            draft.declare(&permission.parse().unwrap());
        }
        draft.everyone.insert("invoices:get".parse().unwrap());
        draft.roles.push(DraftRole {
            name: "clerk".parse().unwrap(),
            title: String::new(),
            comment: "line 1".to_owned(),
            grants: ["*:get", "invoices:*"].map(|g| g.parse().unwrap()).into(),
        });
        let text = draft.text().unwrap();
        let expected = "\
# From somewhere. product: other
product: billing
title: 'Bill''s: all #1'

resources:
  '1e3':    ['no']
  invoices: [get, 'rule:create']
  'on':     [get]

everyone:
  invoices: [get]
";
        let (head, tail) = expected.split_at(expected.find("\neveryone").unwrap());
        let roles = "\
\nroles:
  # line 1
  clerk:
    permissions:
      '*':      [get]
      invoices: ['*']
";
        assert_eq!(text, format!("{head}{roles}{tail}"));
    }

    proptest! {
        #[test]
        fn any_text_is_read_back(text in "\\PC{0,12}") {
            let yaml = format!("a: {}\n", quoted(&text));
            let read: BTreeMap<String, String> = serde_saphyr::from_str(&yaml).unwrap();
            prop_assert_eq!(&read["a"], &plain(&text));
        }
    }
}
