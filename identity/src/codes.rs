//! Rules of authorization codes: one use, within a minute, by whom and from where they were given for.

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::json;

use crate::{
    app::App,
    clock,
    error::Error,
    grants::Narrowing,
    login,
    model::{
        app::{Client, GrantType},
        browser::Browser,
        code::Code,
        event::{Actor, Change, Event},
        grant::Grant,
        session::Session,
    },
    sessions::{self, New},
    store::Tx,
    tokens::Issued,
};

/// How long a code waits to be used, in seconds.
const LIFETIME: u64 = 60;

/// What a code is asked for with.
pub struct Ask {
    pub redirect_uri: String,
    pub challenge: String,
    pub nonce: Option<String>,
    pub grant: Grant,
}

/// What a code is used with.
pub struct Use<'a> {
    pub code: &'a str,
    pub redirect_uri: &'a str,
    pub verifier: &'a str,
    pub narrowing: Narrowing,
}

/// Give a code to whoever is signed in in a browser.
///
/// # Errors
///
/// When the browser was signed out in the meantime.
pub async fn give(
    app: &App,
    client: &Client,
    browser: &Browser,
    ask: Ask,
) -> Result<String, Error> {
    login::permitted(client, GrantType::AuthorizationCode)?;
    let now = app.clock.now();
    let text = BASE64_URL_SAFE_NO_PAD.encode(clock::random::<32>()?);
    let code = Code {
        app: client.id.clone(),
        user: browser.user.clone(),
        browser: browser.id.clone(),
        redirect_uri: ask.redirect_uri,
        challenge: ask.challenge,
        nonce: ask.nonce,
        grant: ask.grant,
        auth_time: browser.auth_time,
        methods: browser.methods.clone(),
        remembered: browser.remembered,
        expires_at: now + LIFETIME,
        consumed_at: None,
        session: None,
    };
    // To be recognized for as long as what it gives may be about.
    let longest = app.config.longest_access_secs().max(app.config.longest_refresh_secs());
    let mut tx = app.store.begin_beside(&client.org).await?;
    tx.hold_browser(&browser.id, now).await?.ok_or(Error::Conflict)?;
    tx.add_code(&code, &app.code_hasher.hash(&text), now + LIFETIME + longest).await?;
    app.commit(tx).await?;
    Ok(text)
}

/// Use a code. It is used up by whatever client shows it, for one that was shown by another has been
/// seen by others; and what it gave ends when it is shown again.
///
/// # Errors
///
/// When it cannot be used like this; why not, is not told.
pub async fn exchange(app: &App, client: &Client, with: &Use<'_>) -> Result<Issued, Error> {
    login::permitted(client, GrantType::AuthorizationCode)?;
    let now = app.clock.now();
    let hash = app.code_hasher.hash(with.code);
    let mut tx = app.store.read(&client.org).await?;
    let code = tx.code(&hash).await?.ok_or(Error::InvalidCode)?;
    let user = tx.user(&code.user).await?.ok_or(Error::InvalidCode)?;
    drop(tx);
    let id = sessions::session_id()?;
    let fits = code.app == client.id
        && code.redirect_uri == with.redirect_uri
        && proves(with.verifier, &code.challenge)
        && code.consumed_at.is_none()
        && code.expires_at > now;
    let new = if fits {
        let told = with.narrowing.of(app, client, &code.grant)?;
        let session = Session {
            id: id.clone(),
            user: user.id.clone(),
            app: client.id.clone(),
            auth_time: code.auth_time,
            methods: code.methods,
            remembered: code.remembered,
            grant: Some(code.grant),
            browser: Some(code.browser.clone()),
        };
        Some(New::sign(app, &user, session, client, (Some(&told), code.nonce.as_deref()))?)
    } else {
        None
    };

    let mut tx = app.store.begin_beside(&client.org).await?;
    if !tx.consume_code(&hash, &id, now).await? {
        return replayed(app, tx, &hash).await;
    }
    // Somebody who was signed out while the code was on its way stays that.
    let there = tx.hold_browser(&code.browser, now).await?.is_some();
    let Some(new) = new.filter(|_| there) else {
        app.commit(tx).await?;
        return Err(Error::InvalidCode);
    };
    let issued = new.write(app, &mut tx).await.map_err(|error| match error {
        Error::Conflict => Error::InvalidCode,
        other => other,
    })?;
    let with = json!({"application": client.id, "browser": code.browser});
    app.audit(&mut tx, &user.id, Event::SessionStarted, &id, Change::made(&with));
    app.commit(tx).await?;
    Ok(issued)
}

/// A code that cannot be used up: one that was, takes with it what it gave.
async fn replayed(app: &App, mut tx: Tx, hash: &[u8]) -> Result<Issued, Error> {
    let session = tx.code(hash).await?.and_then(|code| code.session);
    if let Some(session) = session {
        sessions::end_in(app, &mut tx, &session, (Actor::Nobody, Event::CodeReused)).await?;
        app.commit(tx).await?;
        tracing::warn!(session.id = %session, "a code was used twice; the sign-in is ended");
    }
    Err(Error::InvalidCode)
}

/// PKCE by S256 (RFC 7636, section 4.6).
fn proves(verifier: &str, challenge: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    (43..=128).contains(&verifier.len())
        && verifier.bytes().all(good)
        && BASE64_URL_SAFE_NO_PAD.encode(digest(&SHA256, verifier.as_bytes())) == challenge
}

#[cfg(test)]
mod tests {
    use super::proves;

    #[test]
    fn the_verifier_of_rfc_7636_proves_its_challenge_and_nothing_else_does() {
        let (verifier, challenge) = (
            "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
            "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM",
        );
        assert!(proves(verifier, challenge));
        for other in ["", challenge, &verifier[1..], "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjX "]
        {
            assert!(!proves(other, challenge), "{other}");
        }
        // `plain` is nobody's method.
        assert!(!proves(verifier, verifier));
    }
}
