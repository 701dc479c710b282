//! What each group may do: group × permission, a table a product.
//!
//! A cell is the answer of [`Search::may`] for somebody of that group alone whom no policy names, and
//! holds for every request. Nothing is evaluated here.

use std::sync::Arc;

use serde::Serialize;

use crate::{
    engine::Engine,
    model::{
        decision::Revision,
        grant::Permission,
        name::{GroupName, OrgId, ProductName, RoleName},
    },
    search::{Condition, May, Search},
};

mod page;

pub use page::page;

/// The table.
#[derive(Debug)]
pub struct Matrix {
    pub revision: Revision,
    /// The columns: first people without groups.
    pub groups: Vec<Column>,
    pub products: Vec<Section>,
    /// The persons and applications that policies name, whom no column is about.
    pub named: Vec<String>,
}

/// Those of whom one column speaks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Column {
    /// `None` for people without groups.
    pub group: Option<GroupName>,
    /// `None` for those of any organization that no policy names.
    pub organization: Option<OrgId>,
    pub title: String,
    pub roles: Vec<RoleName>,
}

impl Column {
    /// In one line.
    pub fn name(&self) -> String {
        let group = self.group.as_ref().map_or("people without groups", GroupName::as_str);
        match &self.organization {
            Some(org) => format!("{group} of {org}"),
            None => group.to_owned(),
        }
    }
}

/// The permissions of one product.
#[derive(Debug)]
pub struct Section {
    pub product: ProductName,
    pub title: String,
    pub rows: Vec<Row>,
}

/// One permission, with a cell a column.
#[derive(Debug)]
pub struct Row {
    pub permission: Permission,
    pub cells: Vec<May>,
}

/// What the table is of: everything, where a list is empty.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    pub products: Vec<ProductName>,
    /// Names of groups; `*` stands for any letters.
    pub groups: Vec<String>,
}

/// Make the table.
///
/// # Errors
///
/// A product or a group of the filter that there is none of; policies that cannot be searched.
pub fn matrix(engine: &Engine, filter: &Filter) -> Result<Matrix, String> {
    let search = Search::new(engine)?;
    let products = &engine.snapshot().products;
    if let Some(name) = filter.products.iter().find(|name| engine.product(name.as_str()).is_none())
    {
        let names: Vec<&str> = products.iter().map(|m| m.product.as_str()).collect();
        return Err(format!("no product `{name}`; there are `{}`", names.join("`, `")));
    }
    let mut columns = Vec::new();
    for (organization, asker) in search.people() {
        let column = column(engine, organization, asker.subject.groups.first());
        if filter.keeps(&column) {
            columns.push((column, asker.subject));
        }
    }
    for pattern in &filter.groups {
        let mut names = columns.iter().filter_map(|(column, _)| column.group.as_ref());
        if !names.any(|name| matches(pattern, name.as_str())) {
            return Err(format!("no group is named `{pattern}`"));
        }
    }
    let wanted = |name: &ProductName| filter.products.is_empty() || filter.products.contains(name);
    let mut sections = Vec::new();
    for manifest in products.iter().filter(|manifest| wanted(&manifest.product)) {
        let mut rows = Vec::new();
        for permission in manifest.permissions() {
            let (resource, action) = (permission.resource.as_str(), permission.action.as_str());
            let id = engine.permission(manifest.product.as_str(), resource, action);
            let id = id.ok_or_else(|| format!("no permission `{permission}`"))?;
            let cells = columns.iter().map(|(_, subject)| search.may(subject, id));
            rows.push(Row { cells: cells.collect::<Result<_, _>>()?, permission });
        }
        let (product, title) = (manifest.product.clone(), manifest.title.clone());
        sections.push(Section { product, title, rows });
    }
    let mut matrix = Matrix {
        revision: engine.revision(),
        groups: columns.into_iter().map(|(column, _)| column).collect(),
        products: sections,
        named: search.principals().map(ToString::to_string).collect(),
    };
    matrix.tell_once();
    Ok(matrix)
}

fn column(engine: &Engine, organization: Option<OrgId>, name: Option<&GroupName>) -> Column {
    let snapshot = engine.snapshot();
    let groups = || snapshot.products.iter().flat_map(|m| &m.groups).chain(&snapshot.groups);
    let of = |org: Option<&OrgId>| {
        groups().rfind(move |g| Some(&g.name) == name && g.org.as_ref() == org)
    };
    // An organization's own goes before a built-in one, as in the engine.
    let group = organization.as_ref().and_then(|org| of(Some(org))).or_else(|| of(None));
    Column {
        group: name.cloned(),
        organization,
        title: group.map(|group| group.title.clone()).unwrap_or_default(),
        roles: group.map(|group| group.roles.clone()).unwrap_or_default(),
    }
}

impl Filter {
    fn keeps(&self, column: &Column) -> bool {
        self.groups.is_empty()
            || column.group.as_ref().is_some_and(|name| {
                self.groups.iter().any(|pattern| matches(pattern, name.as_str()))
            })
    }
}

/// Whether a name is as a pattern says: `*` stands for any letters.
fn matches(pattern: &str, name: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(name) = name.strip_prefix(head) else { return false };
    name.char_indices().map(|(n, _)| n).chain([name.len()]).any(|n| matches(rest, &name[n..]))
}

impl Matrix {
    /// Leave out the columns of organizations that are those of any: the organization makes no
    /// difference to them.
    fn tell_once(&mut self) {
        let keep: Vec<bool> = (0..self.groups.len()).map(|n| self.differs(n)).collect();
        let mut kept = keep.iter();
        self.groups.retain(|_| kept.next() == Some(&true));
        for row in self.products.iter_mut().flat_map(|section| &mut section.rows) {
            let mut kept = keep.iter();
            row.cells.retain(|_| kept.next() == Some(&true));
        }
    }

    fn differs(&self, n: usize) -> bool {
        let column = &self.groups[n];
        let same = |other: &Column| other.organization.is_none() && other.group == column.group;
        let twin = self.groups.iter().position(same).filter(|_| column.organization.is_some());
        let Some(twin) = twin else { return true };
        self.rows().any(|(_, row)| row.cells[n] != row.cells[twin])
    }

    /// Every row, in order.
    pub fn rows(&self) -> impl Iterator<Item = (&Section, &Row)> {
        self.products.iter().flat_map(|section| section.rows.iter().map(move |row| (section, row)))
    }

    /// The cells that need words, each once, in the order of rows: those that depend on the request,
    /// and those that are forbidden.
    pub fn notes(&self) -> Vec<&May> {
        let mut notes: Vec<&May> = Vec::new();
        for may in self.rows().flat_map(|(_, row)| &row.cells) {
            if is_noted(may) && !notes.contains(&may) {
                notes.push(may);
            }
        }
        notes
    }

    /// The policies that some cell depends on, each once, in the order of their names.
    pub fn conditions(&self) -> Vec<&Arc<Condition>> {
        let mut found: Vec<&Arc<Condition>> = self
            .rows()
            .flat_map(|(_, row)| &row.cells)
            .filter_map(|may| match may {
                May::Conditional(conditions) => Some(conditions),
                _ => None,
            })
            .flatten()
            .collect();
        found.sort_unstable_by(|a, b| a.policy.cmp(&b.policy));
        found.dedup();
        found
    }
}

fn is_noted(may: &May) -> bool {
    match may {
        May::Yes => false,
        May::No(by) => !by.is_empty(),
        May::Conditional(_) => true,
    }
}

/// The word for a cell: `yes`, `no`, `conditional` or `forbidden`.
pub fn word(may: &May) -> &'static str {
    match may {
        May::Yes => "yes",
        May::No(by) if by.is_empty() => "no",
        May::No(_) => "forbidden",
        May::Conditional(_) => "conditional",
    }
}

/// The policies of a cell.
pub fn by(may: &May) -> Vec<&Arc<str>> {
    match may {
        May::Yes => Vec::new(),
        May::No(by) => by.iter().collect(),
        May::Conditional(conditions) => conditions.iter().map(|c| &c.policy).collect(),
    }
}

/// What a note says, a line a policy.
pub fn lines(may: &May) -> Vec<String> {
    match may {
        May::Yes => Vec::new(),
        May::No(by) => by.iter().map(|policy| format!("forbidden by `{policy}`")).collect(),
        May::Conditional(conditions) => conditions.iter().map(|c| line(c)).collect(),
    }
}

fn line(condition: &Condition) -> String {
    let effect = if condition.forbids { "forbids" } else { "permits" };
    let fails = if condition.may_fail { " (denies where it fails)" } else { "" };
    let Condition { policy, place, text, .. } = condition;
    format!("`{policy}` at {place} {effect}{fails}: {text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_letters() {
        for (pattern, name, expected) in [
            ("midaz-*", "midaz-viewers", true),
            ("*-viewers", "midaz-viewers", true),
            ("*", "", true),
            ("m*z*s", "midaz-viewers", true),
            ("midaz", "midaz-viewers", false),
            ("*x*", "midaz", false),
            ("a*a", "a", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
