//! `postern policy import`: manifests and policies from what others have written.
//!
//! What could not be carried over is told on standard error, each with its place; the command then
//! ends with 1, unless `--allow-loss` says that this will do.

use std::{
    io::{Write, stderr, stdout},
    path::{Path, PathBuf},
};

use anyhow::{Result, anyhow};
use clap::{Args as ClapArgs, Subcommand};
use policy::{
    complaint::{Complaint, Complaints},
    import::{Imported, Source, casdoor, declarations, openapi},
    model::name::{OrgId, ProductName},
};
use serde_json::{Value, json};

use super::{Outcome, files};

#[derive(ClapArgs)]
#[command(after_help = "\
Example: postern policy import openapi openapi.yaml --product billing --roles --out policies
         postern policy import declarations permissions.yaml --out policies
         postern policy import casdoor init_data.json --out policies --allow-loss")]
pub struct Args {
    #[command(subcommand)]
    from: From,
}

#[derive(Subcommand)]
enum From {
    /// Routes, resources and actions from an `OpenAPI` document (3.0, 3.1; JSON or YAML)
    Openapi(Openapi),
    /// Products from the permission manifests that they carry (`permissions.yaml`)
    Declarations(Declarations),
    /// Roles, groups and rules from a Casdoor export (`init_data.json`) or casbin's CSV
    Casdoor(Casdoor),
}

#[derive(ClapArgs)]
#[command(after_help = "\
An operation's action is its method, its resource the collection that its path ends in. The document
says otherwise with `x-postern-resource`, `x-postern-action`, `x-postern-permission(s)`,
`x-postern-authenticated` and `x-postern-public`, at the path or at the operation.

Example: postern policy import openapi openapi.yaml --product billing --roles --out policies")]
struct Openapi {
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// The name of the product
    #[arg(long, value_name = "NAME")]
    product: ProductName,

    /// Make an editor, a contributor and a viewer, and a group for each
    #[arg(long)]
    roles: bool,

    /// The name of the route set [default: the document's major version, as in `v3`]
    #[arg(long, value_name = "NAME")]
    set: Option<String>,

    #[command(flatten)]
    output: Output,
}

#[derive(ClapArgs)]
#[command(after_help = "\
Example: postern policy import declarations permissions.yaml --out policies")]
struct Declarations {
    /// A manifest, or a folder of them
    #[arg(value_name = "FILE|FOLDER")]
    path: PathBuf,

    #[command(flatten)]
    output: Output,
}

#[derive(ClapArgs)]
#[command(after_help = "\
Example: postern policy import casdoor export --product other --organization lerian --out policies")]
struct Casdoor {
    /// An export, or a folder with one: `*.json`, `*.csv`, and a casbin model (`*.conf`)
    #[arg(value_name = "FILE|FOLDER")]
    path: PathBuf,

    /// The product of what names none
    #[arg(long, value_name = "NAME")]
    product: Option<ProductName>,

    /// Whose people, roles and rules to read [default: the only one there is]
    #[arg(long, value_name = "ID")]
    organization: Option<OrgId>,

    #[command(flatten)]
    output: Output,
}

#[derive(ClapArgs)]
struct Output {
    /// Write into this policy folder; `-` for standard output, which is the default
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// Write over files that are there already
    #[arg(long, requires = "out")]
    force: bool,

    /// End well though something was left out
    #[arg(long)]
    allow_loss: bool,

    /// Print files, what was left out and notes as JSON
    #[arg(long)]
    json: bool,
}

/// Read, write, and tell what is missing.
pub fn run(args: &Args) -> Result<Outcome> {
    let told = |complaints: Complaints| anyhow!("{complaints}");
    match &args.from {
        From::Openapi(args) => {
            let options = openapi::Options {
                product: args.product.clone(),
                roles: args.roles,
                set: args.set.clone(),
            };
            let source = Source::file(&args.file).map_err(told)?;
            args.output.give(&openapi::import(&source, &options).map_err(told)?)
        }
        From::Declarations(args) => {
            let sources = Source::all(&args.path, declarations::wanted).map_err(told)?;
            args.output.give(&declarations::import(&sources).map_err(told)?)
        }
        From::Casdoor(args) => {
            let options = casdoor::Options {
                product: args.product.clone(),
                organization: args.organization.clone(),
            };
            let sources = Source::all(&args.path, casdoor::wanted).map_err(told)?;
            args.output.give(&casdoor::import(&sources, &options).map_err(told)?)
        }
    }
}

impl Output {
    fn give(&self, imported: &Imported) -> Result<Outcome> {
        let folder = self.out.as_deref().filter(|out| *out != Path::new("-"));
        if let Some(folder) = folder {
            files::write(folder, &imported.files, self.force)?;
        }
        if self.json {
            writeln!(stdout().lock(), "{:#}", report(imported, folder))?;
        } else {
            match folder {
                Some(folder) => {
                    let mut out = stdout().lock();
                    for name in imported.files.keys() {
                        writeln!(out, "{}", folder.join(name).display())?;
                    }
                }
                None => files::print(&imported.files)?,
            }
            tell(imported)?;
        }
        let whole = imported.left_out.is_empty() || self.allow_loss;
        Ok(if whole { Outcome::Holds } else { Outcome::Fails })
    }
}

fn tell(imported: &Imported) -> Result<()> {
    let mut err = stderr().lock();
    for note in &imported.notes {
        writeln!(err, "note: {note}")?;
    }
    for left_out in &imported.left_out {
        writeln!(err, "left out: {left_out}")?;
    }
    Ok(())
}

fn report(imported: &Imported, folder: Option<&Path>) -> Value {
    let list = |complaints: &[Complaint]| -> Vec<Value> {
        complaints
            .iter()
            .map(|complaint| {
                let place = &complaint.place;
                json!({
                    "file": &*place.file,
                    "line": place.line,
                    "column": place.column,
                    "text": complaint.text,
                })
            })
            .collect()
    };
    let mut report = json!({
        "left_out": list(&imported.left_out),
        "notes": list(&imported.notes),
    });
    match folder {
        Some(folder) => {
            let paths = imported.files.keys().map(|name| folder.join(name).display().to_string());
            report["written"] = paths.collect();
        }
        None => report["files"] = json!(imported.files),
    }
    report
}
