//! `postern admin users`: people, when nobody can sign in to look after them.

use std::{io::Write, process::ExitCode};

use anyhow::{Error, Result};
use clap::{Args as ClapArgs, Subcommand};
use identity::operator::registry::NewPerson;
use policy::model::name::{GroupName, OrgId};
use secrecy::{ExposeSecret, SecretString};

#[derive(ClapArgs)]
pub struct Args {
    /// Whose people [default: the first organization's]
    #[arg(long, global = true, value_name = "ORGANIZATION")]
    org: Option<OrgId>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Show everybody, with their groups
    List,
    /// Make a person; the password is made up and shown once
    Create {
        username: String,
        #[arg(long)]
        email: String,
        #[arg(long, default_value = "")]
        first_name: String,
        #[arg(long, default_value = "")]
        last_name: String,
        /// A group; several are given one by one
        #[arg(long = "group")]
        groups: Vec<GroupName>,
    },
    /// Give a person another password, made up and shown once, and end every sign-in of theirs
    ResetPassword { username: String },
    /// Let nobody sign in as a person, and end every sign-in of theirs; groups and password stay
    Disable { username: String },
    /// Let a person who was disabled sign in again
    Enable { username: String },
    /// Remove a person; their tokens stop working
    Remove { username: String },
}

/// Carry it out.
pub fn run(admin: &super::Installation, args: Args) -> Result<ExitCode> {
    let Args { org, command } = args;
    let mut out = std::io::stdout().lock();
    let tell = |out: &mut dyn Write, username: &str, password: &SecretString| {
        let password = password.expose_secret();
        writeln!(out, "the password of {username}, shown this once: {password}")
    };
    match command {
        Command::List => {
            let users = admin.register(async |registry| {
                let org = org.as_ref().unwrap_or_else(|| registry.home());
                registry.users(org).await.map_err(Error::new)
            })?;
            writeln!(out, "{:24}  {:32}  {:8}  GROUPS", "USER", "E-MAIL", "STATE")?;
            for user in users {
                let state = if user.disabled { "disabled" } else { "active" };
                let groups: Vec<_> = user.groups.iter().map(GroupName::as_str).collect();
                let (name, email) = (user.username, user.email);
                writeln!(out, "{name:24}  {email:32}  {state:8}  {}", groups.join(" "))?;
            }
        }
        Command::Create { username, email, first_name, last_name, groups } => {
            let new =
                NewPerson { username: username.clone(), email, first_name, last_name, groups };
            let password = admin.register(async |registry| {
                let org = org.as_ref().unwrap_or_else(|| registry.home());
                registry.create_user(org, new).await.map_err(Error::new)
            })?;
            tell(&mut out, &username, &password)?;
        }
        Command::ResetPassword { username } => {
            let password = admin.register(async |registry| {
                let org = org.as_ref().unwrap_or_else(|| registry.home());
                registry.reset_password(org, &username).await.map_err(Error::new)
            })?;
            tell(&mut out, &username, &password)?;
        }
        Command::Disable { username } => {
            disable(admin, org.as_ref(), &username, true)?;
            writeln!(out, "{username} signs in no more")?;
        }
        Command::Enable { username } => {
            disable(admin, org.as_ref(), &username, false)?;
            writeln!(out, "{username} may sign in again")?;
        }
        Command::Remove { username } => {
            admin.register(async |registry| {
                let org = org.as_ref().unwrap_or_else(|| registry.home());
                registry.remove_user(org, &username).await.map_err(Error::new)
            })?;
            writeln!(out, "removed {username}")?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn disable(
    admin: &super::Installation,
    org: Option<&OrgId>,
    username: &str,
    disabled: bool,
) -> Result<()> {
    admin.register(async |registry| {
        let org = org.unwrap_or_else(|| registry.home());
        registry.set_disabled(org, username, disabled).await.map_err(Error::new)
    })
}
