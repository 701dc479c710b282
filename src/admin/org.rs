//! `postern admin org`: tenants.

use std::{io::Write, process::ExitCode};

use anyhow::{Error, Result};
use clap::{Args as ClapArgs, Subcommand};
use identity::operator::registry::{NewOrganization, NewPerson};
use policy::model::name::{GroupName, OrgId};
use secrecy::ExposeSecret;

#[derive(ClapArgs)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Show every organization
    List,
    /// Make an organization, with the application that its people sign in through
    Create {
        /// Its id: lower case letters, digits and dashes
        id: OrgId,
        /// What people call it [default: the id]
        #[arg(long)]
        title: Option<String>,
        /// Make its first person, too
        #[arg(long, value_name = "USERNAME", requires = "email")]
        admin: Option<String>,
        /// That person's e-mail address
        #[arg(long, requires = "admin")]
        email: Option<String>,
        /// A group of that person; several are given one by one
        #[arg(long = "group", default_value = "admin-group", requires = "admin")]
        groups: Vec<GroupName>,
    },
}

/// Carry it out.
pub fn run(admin: &super::Installation, args: Args) -> Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    match args.command {
        Command::List => {
            let all = admin
                .register(async |registry| registry.organizations().await.map_err(Error::new))?;
            writeln!(out, "{:24}  {:20}  {:>7}  TITLE", "ORGANIZATION", "MADE", "PEOPLE")?;
            for org in all {
                let (id, made, people) = (org.id, org.created_at, org.people);
                writeln!(out, "{:24}  {made:20}  {people:>7}  {}", id.as_str(), org.title)?;
            }
        }
        Command::Create { id, title, admin: username, email, groups } => {
            let administrator = username.map(|username| NewPerson {
                username,
                email: email.unwrap_or_default(),
                first_name: String::new(),
                last_name: String::new(),
                groups,
            });
            let title = title.unwrap_or_else(|| id.to_string());
            let new = NewOrganization { id: id.clone(), title, administrator };
            let made = admin.register(async |registry| {
                registry.create_organization(new).await.map_err(Error::new)
            })?;
            writeln!(out, "made organization {id}. Keep these; they are not shown again:\n")?;
            writeln!(out, "  client id       {}", made.client_id)?;
            writeln!(out, "  client secret   {}", made.client_secret.expose_secret())?;
            if let Some(password) = made.password {
                writeln!(out, "  password        {}", password.expose_secret())?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
