//! `postern policy matrix`: what each group may do.

use std::{
    fmt::Write as _,
    fs,
    io::{Write, stdout},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, anyhow};
use clap::Args as ClapArgs;
use policy::{
    matrix::{self, Filter, Matrix, Section},
    model::name::ProductName,
    search::May,
};
use serde_json::{Value, json};

use super::{Outcome, source};

#[derive(ClapArgs)]
#[command(after_help = "\
Example: postern policy matrix policies --product midaz
         postern policy matrix --url http://127.0.0.1:9090 --html rights.html
         postern policy matrix --groups 'midaz-*' --csv > rights.csv")]
pub struct Args {
    #[command(flatten)]
    source: source::Where,
    /// This product alone; may be repeated
    #[arg(long, value_name = "PRODUCT")]
    product: Vec<ProductName>,
    /// These groups alone; `*` stands for any letters; may be repeated, or written with commas
    #[arg(long, value_name = "GROUP", value_delimiter = ',')]
    groups: Vec<String>,
    /// Print comma-separated values: a row a permission, a column a group
    #[arg(long, group = "form")]
    csv: bool,
    /// Print a JSON object: revision, groups, products, conditions
    #[arg(long, group = "form")]
    json: bool,
    /// Write one HTML page that needs nothing else; `-` prints it
    #[arg(long, group = "form", value_name = "FILE")]
    html: Option<PathBuf>,
}

/// Ask about every group and every permission.
pub fn run(args: &Args) -> Result<Outcome> {
    let engine = args.source.catalog()?;
    let filter = Filter { products: args.product.clone(), groups: args.groups.clone() };
    let matrix = matrix::matrix(&engine, &filter).map_err(|error| anyhow!(error))?;
    let text = match &args.html {
        Some(file) => {
            let page = matrix::page(&matrix, &args.source.name());
            if file.as_path() != Path::new("-") {
                fs::write(file, page)
                    .with_context(|| format!("cannot write `{}`", file.display()))?;
                return Ok(Outcome::Holds);
            }
            page
        }
        None if args.csv => csv(&matrix),
        None if args.json => serde_json::to_string_pretty(&as_json(&matrix))? + "\n",
        None => told(&matrix)?,
    };
    stdout().lock().write_all(text.as_bytes())?;
    Ok(Outcome::Holds)
}

/// A table a product: the columns by number, and below it what the cells depend on.
fn told(matrix: &Matrix) -> Result<String> {
    let mut out = String::new();
    let notes = matrix.notes();
    for section in &matrix.products {
        table(&mut out, matrix, section, &notes)?;
    }
    writeln!(out, "yes: always   .: no   if N, never N: conditional or forbidden, by note N")?;
    for (n, may) in (1..).zip(&notes) {
        for (line, text) in matrix::lines(may).iter().enumerate() {
            let head = if line == 0 { format!("{n:>3}") } else { "   ".to_owned() };
            writeln!(out, "{head}  {text}")?;
        }
    }
    if !matrix.named.is_empty() {
        let names = matrix.named.join("`, `");
        writeln!(out, "not in this table, for policies name them: `{names}`")?;
    }
    Ok(out)
}

fn table(out: &mut String, matrix: &Matrix, section: &Section, notes: &[&May]) -> Result<()> {
    let some = |n: &usize| section.rows.iter().any(|row| matrix::word(&row.cells[*n]) != "no");
    let columns: Vec<usize> = (0..matrix.groups.len()).filter(some).collect();
    writeln!(out, "{}, revision {}", section.product, matrix.revision)?;
    if columns.is_empty() {
        writeln!(out, "  nobody can do anything\n")?;
        return Ok(());
    }
    for (number, n) in (1..).zip(&columns) {
        writeln!(out, "  {number:>2}  {}", matrix.groups[*n].name())?;
    }
    let names: Vec<String> = section.rows.iter().map(|row| row.permission.to_string()).collect();
    let wide = names.iter().map(String::len).max().unwrap_or(0);
    let cells: Vec<Vec<String>> = section
        .rows
        .iter()
        .map(|row| columns.iter().map(|n| cell(&row.cells[*n], notes)).collect())
        .collect();
    let widths: Vec<usize> = (0..columns.len())
        .map(|n| cells.iter().map(|row| row[n].len()).max().unwrap_or(0).max(3))
        .collect();
    let mut line = |name: &str, cells: &mut dyn Iterator<Item = &str>| {
        let mut text = format!("  {name:wide$}");
        for (cell, width) in cells.zip(&widths) {
            let _ = write!(text, "  {cell:width$}");
        }
        writeln!(out, "{}", text.trim_end())
    };
    let numbers: Vec<String> = (1..=columns.len()).map(|n| n.to_string()).collect();
    line("", &mut numbers.iter().map(String::as_str))?;
    for (name, row) in names.iter().zip(&cells) {
        line(name, &mut row.iter().map(String::as_str))?;
    }
    writeln!(out)?;
    Ok(())
}

fn cell(may: &May, notes: &[&May]) -> String {
    let note = notes.iter().position(|other| *other == may).map_or(0, |n| n + 1);
    match matrix::word(may) {
        "conditional" => format!("if {note}"),
        "forbidden" => format!("never {note}"),
        "no" => ".".to_owned(),
        word => word.to_owned(),
    }
}

/// RFC 4180.
fn csv(matrix: &Matrix) -> String {
    let mut out = String::new();
    let mut line = |fields: Vec<String>| {
        let fields: Vec<String> = fields.iter().map(|field| quoted(field)).collect();
        out.push_str(&fields.join(","));
        out.push_str("\r\n");
    };
    let head = ["product".to_owned(), "permission".to_owned()];
    line(head.into_iter().chain(matrix.groups.iter().map(matrix::Column::name)).collect());
    for (section, row) in matrix.rows() {
        let cells = row.cells.iter().map(|may| {
            let by: Vec<&str> = matrix::by(may).into_iter().map(AsRef::as_ref).collect();
            let word = matrix::word(may);
            if by.is_empty() { word.to_owned() } else { format!("{word}: {}", by.join(" ")) }
        });
        let head = [section.product.to_string(), row.permission.to_string()];
        line(head.into_iter().chain(cells).collect());
    }
    out
}

fn quoted(field: &str) -> String {
    if field.contains(['"', ',', '\r', '\n']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_owned()
    }
}

fn as_json(matrix: &Matrix) -> Value {
    let section = |section: &Section| {
        let rows = section.rows.iter().map(|row| {
            let cells = row
                .cells
                .iter()
                .map(|may| json!({ "may": matrix::word(may), "by": matrix::by(may) }));
            json!({ "permission": row.permission, "cells": cells.collect::<Vec<_>>() })
        });
        json!({
            "product": section.product,
            "title": section.title,
            "permissions": rows.collect::<Vec<_>>(),
        })
    };
    json!({
        "revision": matrix.revision,
        "groups": matrix.groups,
        "products": matrix.products.iter().map(section).collect::<Vec<_>>(),
        "conditions": matrix.conditions(),
        "named": matrix.named,
    })
}
