//! Browsers that somebody has signed in from, known by a cookie long after the sign-in has ended.
//!
//! The cookie opens nothing. It says that this person has been here, so that strangers' failures do
//! not hold them up, wherever they are now (OWASP, "Slow Down Online Guessing Attacks with Device
//! Cookies"). It is tied to one person, and guesses are counted for each by itself.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use policy::model::name::{OrgId, UserId};

use crate::{
    app::App,
    clock::{self, NoRandom},
};

/// How long a browser is known, in seconds: 90 days.
pub const LIFETIME: u64 = 90 * 24 * 3600;

/// A cookie for somebody who has signed in.
///
/// # Errors
///
/// When the system has no random bytes.
pub fn make(app: &App, org: &OrgId, user: &UserId) -> Result<String, NoRandom> {
    let name = BASE64_URL_SAFE_NO_PAD.encode(clock::random::<16>()?);
    let until = app.clock.now() + LIFETIME;
    let tag = app.device_hasher.hash(&bound(org, user, &name, until));
    Ok(format!("{name}.{until}.{}", BASE64_URL_SAFE_NO_PAD.encode(tag)))
}

/// The name of a browser, if its cookie is one that was made for that person.
pub fn name<'a>(app: &App, org: &OrgId, user: &UserId, cookie: &'a str) -> Option<&'a str> {
    let mut parts = cookie.split('.');
    let (name, until, tag) = (parts.next()?, parts.next()?, parts.next()?);
    let tag = BASE64_URL_SAFE_NO_PAD.decode(tag).ok()?;
    let until = until.parse().ok()?;
    let good = parts.next().is_none()
        && app.device_hasher.fits(&bound(org, user, name, until), &tag)
        && app.clock.now() < until;
    good.then_some(name)
}

fn bound(org: &OrgId, user: &UserId, name: &str, until: u64) -> String {
    // None of them has a line break.
    format!("{org}\n{user}\n{name}\n{until}")
}
