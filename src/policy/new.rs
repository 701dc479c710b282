//! `postern policy new`: a policy folder to start from.

use std::{
    fs::{self, File},
    io::{ErrorKind, Write, stdout},
    path::{Path, PathBuf},
};

use anyhow::{Context, Error, Result, anyhow, bail};
use clap::Args as ClapArgs;
use policy::{model::name::ProductName, start};

use super::Outcome;

#[derive(ClapArgs)]
#[command(after_help = "\
Example: postern policy new policies/billing
         postern policy new --plain documents")]
pub struct Args {
    /// The folder to make; one that is there must be empty
    folder: PathBuf,
    /// The product's name [default: the folder's]
    #[arg(long, value_name = "NAME", conflicts_with = "plain")]
    product: Option<ProductName>,
    /// A Cedar store with a schema of its own, instead of a product with roles and routes
    #[arg(long)]
    plain: bool,
}

/// Make the folder, and say what to do next.
pub fn run(args: &Args) -> Result<Outcome> {
    let files = if args.plain {
        start::plain()
    } else {
        start::product(&name(args)?).map_err(Error::msg)?
    };
    empty(&args.folder)?;
    for (path, text) in &files {
        write(&args.folder.join(path), text)?;
    }
    let mut out = stdout().lock();
    let folder = args.folder.display();
    for (path, _) in &files {
        writeln!(out, "{folder}/{path}")?;
    }
    let and_test =
        if args.plain { String::new() } else { format!(" and `postern policy test {folder}`") };
    writeln!(
        out,
        "\nnext: change them to what you have, then `postern policy check {folder}`{and_test}"
    )?;
    Ok(Outcome::Holds)
}

fn name(args: &Args) -> Result<ProductName> {
    if let Some(name) = &args.product {
        return Ok(name.clone());
    }
    let name = args.folder.file_name().unwrap_or_default().to_string_lossy();
    name.parse().map_err(|error| anyhow!("{error}; name the product with `--product`"))
}

fn empty(folder: &Path) -> Result<()> {
    let here = folder.display();
    match fs::read_dir(folder) {
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(_) => bail!("`{here}` is not empty; name a folder that is not there yet"),
        },
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotADirectory => {
            bail!("`{here}` is a file; name a folder that is not there yet")
        }
        Err(error) => Err(error).with_context(|| format!("cannot look into `{here}`")),
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    let made = || -> std::io::Result<()> {
        path.parent().map_or(Ok(()), fs::create_dir_all)?;
        File::create_new(path)?.write_all(text.as_bytes())
    };
    made().with_context(|| format!("cannot write `{}`", path.display()))
}
