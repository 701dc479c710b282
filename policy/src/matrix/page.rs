//! The table as one HTML page, to be read and printed: nothing outside it is loaded, nothing in it
//! runs, and no colour says what no word says.

use std::fmt::Write;

use super::{Column, Matrix, Section, lines, word};
use crate::{markup::escaped, search::May};

const STYLE: &str = include_str!("page.css");

/// Shades of the summary, from none to all.
const SHADES: usize = 5;

/// The page. `source` says in one line what the table was made of.
pub fn page(matrix: &Matrix, source: &str) -> String {
    let mut page = Page { matrix, notes: matrix.notes(), out: String::new() };
    page.whole(source);
    page.out
}

struct Page<'a> {
    matrix: &'a Matrix,
    notes: Vec<&'a May>,
    out: String,
}

impl Page<'_> {
    fn line(&mut self, text: &str) {
        self.out.push_str(text);
        self.out.push('\n');
    }

    fn whole(&mut self, source: &str) {
        let Matrix { revision, products, groups, .. } = self.matrix;
        let source = escaped(source);
        let title = format!("Group × permission: {source}, revision {revision}");
        self.line("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">");
        self.line("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">");
        self.line("<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">");
        self.line("<meta name=\"color-scheme\" content=\"light dark\">");
        self.line(&format!("<title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>"));
        self.line("<header>\n<h1>Who may do what</h1>");
        let (products, permissions) = (products.len(), self.matrix.rows().count());
        let named = groups.iter().filter(|column| column.group.is_some()).count();
        self.line(&format!(
            "<p><code>{source}</code>, revision {revision}. Products: {products}, permissions: {permissions}, groups: {named}.</p>"
        ));
        self.legend();
        self.named();
        self.line("</header>\n<main>");
        self.summary();
        for section in &self.matrix.products {
            self.section(section);
        }
        self.told();
        self.line("</main>\n</body>\n</html>");
    }

    fn legend(&mut self) {
        self.line("<dl class=\"legend\">");
        for (class, meaning) in [
            ("yes", "allowed, whatever the request"),
            ("no", "denied: nothing permits it"),
            ("conditional", "depends on the request; the note says on what"),
            ("forbidden", "denied by a policy, whatever else permits; the note says which"),
        ] {
            let shown = shown(class);
            self.line(&format!("<div><dt class=\"{class}\">{shown}</dt><dd>{meaning}</dd></div>"));
        }
        self.line("</dl>");
    }

    fn named(&mut self) {
        if self.matrix.named.is_empty() {
            return;
        }
        let names: Vec<String> = self.matrix.named.iter().map(|name| code(name)).collect();
        self.line(&format!(
            "<p>The table is of people whom no policy names. Policies name {}; ask about them with <code>postern policy what</code>.</p>",
            names.join(", ")
        ));
    }

    /// Group × product: how much of it.
    fn summary(&mut self) {
        let matrix = self.matrix;
        self.line("<section>\n<h2 id=\"summary\">In short</h2>");
        self.line("<p>How many of a product's permissions a group has. A star: some of them depend on the request.</p>");
        self.line("<div class=\"scroll\"><table class=\"summary\">\n<caption>Permissions of each group, by product</caption>\n<thead><tr><th scope=\"col\">Group</th>");
        for section in &matrix.products {
            let name = escaped(section.product.as_str());
            self.line(&format!(
                "<th scope=\"col\" class=\"turned\"><a href=\"#product-{name}\"><span>{name}</span></a></th>"
            ));
        }
        self.line("</tr></thead>\n<tbody>");
        for (n, column) in matrix.groups.iter().enumerate() {
            self.line(&format!("<tr><th scope=\"row\">{}</th>", heading(column)));
            for section in &matrix.products {
                self.share(section, n);
            }
            self.line("</tr>");
        }
        self.line("</tbody></table></div>\n</section>");
    }

    fn share(&mut self, section: &Section, n: usize) {
        let count = |class| section.rows.iter().filter(|r| word(&r.cells[n]) == class).count();
        let (yes, depends) = (count("yes"), count("conditional"));
        let (some, all) = (yes + depends, section.rows.len());
        let shade = if some == 0 { 0 } else { (some * SHADES).div_ceil(all) };
        let star = if depends > 0 { "*" } else { "" };
        let text = if some == 0 { "–".to_owned() } else { format!("{some}{star}") };
        self.line(&format!(
            "<td class=\"shade-{shade}\" title=\"{yes} always, {depends} conditionally, of {all}\">{text}</td>"
        ));
    }

    fn section(&mut self, section: &Section) {
        let name = escaped(section.product.as_str());
        let title = Some(escaped(&section.title)).filter(|title| !title.is_empty());
        let title = title.map(|title| format!(" <small>{title}</small>")).unwrap_or_default();
        self.line(&format!("<section>\n<h2 id=\"product-{name}\">{name}{title}</h2>"));
        let (shown, alike) = self.columns(section);
        if shown.is_empty() {
            self.line("<p>Nobody may do anything here.</p>\n</section>");
            return;
        }
        self.line(&format!(
            "<div class=\"scroll\"><table>\n<caption>Permissions of <code>{name}</code>, by group</caption>\n<thead><tr><th scope=\"col\">Permission</th>"
        ));
        for n in &shown {
            let column = &self.matrix.groups[*n];
            let (heading, about) = (heading(column), escaped(&about(column)));
            self.line(&format!(
                "<th scope=\"col\" class=\"turned\" title=\"{about}\"><span>{heading}</span></th>"
            ));
        }
        self.line("</tr></thead>");
        let mut resource = None;
        for row in &section.rows {
            if resource != Some(&row.permission.resource) {
                self.line(if resource.is_some() { "</tbody>\n<tbody>" } else { "<tbody>" });
                resource = Some(&row.permission.resource);
            }
            let permission = escaped(&row.permission.to_string());
            let _ = write!(self.out, "<tr><th scope=\"row\">{permission}</th>");
            for n in &shown {
                self.cell(&row.cells[*n]);
            }
            self.line("</tr>");
        }
        self.line("</tbody></table></div>");
        if !alike.is_empty() {
            let names = alike.iter().map(|n| heading(&self.matrix.groups[*n]));
            let (names, count) = (names.collect::<Vec<_>>().join(", "), alike.len());
            let what = if self.base().is_some() { "as people without groups" } else { "nothing" };
            self.line(&format!(
                "<details><summary>Groups that may do {what}: {count}</summary><p>{names}</p></details>"
            ));
        }
        self.line("</section>");
    }

    /// The columns that say something of a product, and those that say what people without groups
    /// may do, or nobody.
    fn columns(&self, section: &Section) -> (Vec<usize>, Vec<usize>) {
        let base = self.base();
        let nothing = |n: usize| section.rows.iter().all(|row| word(&row.cells[n]) == "no");
        let alike = |n: usize| match base {
            Some(base) if base == n => false,
            Some(base) => section.rows.iter().all(|row| row.cells[n] == row.cells[base]),
            None => nothing(n),
        };
        let all = 0..self.matrix.groups.len();
        if all.clone().all(nothing) {
            return (Vec::new(), Vec::new());
        }
        let (others, shown) = all.partition(|n| alike(*n));
        (shown, others)
    }

    /// The column of people without groups.
    fn base(&self) -> Option<usize> {
        let first = |column: &Column| column.group.is_none() && column.organization.is_none();
        self.matrix.groups.iter().position(first)
    }

    fn cell(&mut self, may: &May) {
        let class = word(may);
        let shown = shown(class);
        let note = self.notes.iter().position(|other| *other == may).map(|n| n + 1);
        let written = match note {
            None => write!(self.out, "<td class=\"{class}\">{shown}</td>"),
            Some(n) => {
                let title = escaped(&lines(may).join("\n"));
                write!(
                    self.out,
                    "<td class=\"{class}\" title=\"{title}\"><a href=\"#note-{n}\">{shown}<sup>{n}</sup></a></td>"
                )
            }
        };
        // Writing to text does not fail.
        let _ = written;
    }

    /// The notes.
    fn told(&mut self) {
        if self.notes.is_empty() {
            return;
        }
        self.line("<section>\n<h2 id=\"notes\">Notes</h2>\n<ol class=\"notes\">");
        for (n, may) in (1..).zip(self.notes.clone()) {
            self.line(&format!("<li id=\"note-{n}\">"));
            match may {
                May::Yes => {}
                May::No(by) => by.iter().for_each(|policy| {
                    self.line(&format!("<p>Forbidden by {}.</p>", code(policy)));
                }),
                May::Conditional(conditions) => conditions.iter().for_each(|condition| {
                    let effect = if condition.forbids { "forbids" } else { "permits" };
                    let fails = if condition.may_fail { " (denies where it fails)" } else { "" };
                    let (policy, place) = (code(&condition.policy), escaped(&condition.place));
                    let text = escaped(&condition.text);
                    self.line(&format!(
                        "<p>{policy} at {place} {effect}{fails}:</p>\n<pre>{text}</pre>"
                    ));
                }),
            }
            self.line("</li>");
        }
        self.line("</ol>\n</section>");
    }
}

fn code(text: &str) -> String {
    format!("<code>{}</code>", escaped(text))
}

/// A column's name.
fn heading(column: &Column) -> String {
    escaped(&column.name())
}

/// What there is to say of a column beside its name.
fn about(column: &Column) -> String {
    let roles: Vec<&str> = column.roles.iter().map(AsRef::as_ref).collect();
    let roles = if roles.is_empty() { "no roles".to_owned() } else { roles.join(", ") };
    if column.title.is_empty() { roles } else { format!("{}: {roles}", column.title) }
}

/// What a cell of that class shows.
fn shown(class: &str) -> &'static str {
    match class {
        "yes" => "yes",
        "conditional" => "if",
        "forbidden" => "never",
        _ => "no",
    }
}
