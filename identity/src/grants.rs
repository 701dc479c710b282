//! Rules of what a client is granted: scope, and the audiences of its tokens.

use crate::{
    app::App,
    error::Error,
    model::{
        app::Client,
        grant::{Grant, Scope},
    },
};

/// How much of what was granted is wanted.
#[derive(Debug, Default)]
pub struct Narrowing {
    /// `None`: all of it.
    pub scope: Option<Scope>,
    /// Resources (RFC 8707); none named is all of them.
    pub resources: Vec<String>,
}

/// What the Auth API grants everybody.
pub fn everything(app: &App) -> Grant {
    Grant { scope: Scope::everything(), audiences: vec![app.config.audience.clone()] }
}

/// The audiences of the resources that a client names. Without any, its tokens open the doors of this
/// installation; with some, those resources' alone.
///
/// # Errors
///
/// When one is neither this installation, by its issuer's name, nor registered for the client.
pub fn audiences(app: &App, client: &Client, resources: &[String]) -> Result<Vec<String>, Error> {
    if resources.is_empty() {
        return Ok(vec![app.config.audience.clone()]);
    }
    let mut audiences = Vec::new();
    for resource in resources {
        let audience = audience(app, resource);
        let known = audience == app.config.audience && *resource == app.config.issuer
            || client.registration.audiences.contains(resource);
        if !known {
            return Err(Error::InvalidTarget);
        }
        if !audiences.iter().any(|held| held == audience) {
            audiences.push(audience.to_owned());
        }
    }
    Ok(audiences)
}

fn audience<'a>(app: &'a App, resource: &'a str) -> &'a str {
    if resource == app.config.issuer { &app.config.audience } else { resource }
}

impl Narrowing {
    /// That part of what was granted which the client may still have.
    ///
    /// # Errors
    ///
    /// When it is more, or nothing is left.
    pub fn of(&self, app: &App, client: &Client, granted: &Grant) -> Result<Grant, Error> {
        let scope = self.scope.as_ref().unwrap_or(&granted.scope);
        if !granted.scope.covers(scope) {
            return Err(Error::InvalidScope);
        }
        let wanted: Vec<&str> = self.resources.iter().map(|name| audience(app, name)).collect();
        if wanted.iter().any(|name| !granted.audiences.iter().any(|held| held == name)) {
            return Err(Error::InvalidTarget);
        }
        let may = |name: &String| {
            *name == app.config.audience || client.registration.audiences.contains(name)
        };
        let kept =
            |name: &&String| may(name) && (wanted.is_empty() || wanted.contains(&name.as_str()));
        let audiences: Vec<String> = granted.audiences.iter().filter(kept).cloned().collect();
        if audiences.is_empty() {
            return Err(Error::InvalidTarget);
        }
        Ok(Grant { scope: scope.clone(), audiences })
    }
}
