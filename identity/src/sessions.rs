//! Rules of sign-ins: how one goes on, and how it ends.

use policy::{
    changes::{Fact, Standing},
    model::name::{OrgId, SessionId},
    token::{self, Kind},
};
use serde_json::json;

use crate::{
    app::App,
    asker::{self, Asker},
    clock,
    error::Error,
    grants::{self, Narrowing},
    mfa::{self, Need},
    model::{
        app::{Client, GrantType},
        event::{Actor, Change, Event},
        grant::Grant,
        session::{Methods, RefreshToken, Session},
        user::User,
    },
    store::Tx,
    tokens::{self, Issued, Told},
};

/// How long an answer that got lost can be asked for again, in seconds.
const RETRY: u64 = 60;

/// Start a sign-in of a person who has proved to know the password of that hash, and has nothing else
/// to show, or has a device that is `remembered`.
///
/// # Errors
///
/// When the person or the application is gone by now, the password is another one, or there is
/// something else to be shown by now.
pub async fn start(
    app: &App,
    (user, proved): (&User, &str),
    client: &Client,
    grant: Option<Grant>,
    remembered: bool,
) -> Result<Issued, Error> {
    let now = app.clock.now();
    let session = Session {
        id: session_id()?,
        user: user.id.clone(),
        app: client.id.clone(),
        auth_time: now,
        methods: Methods::password(),
        remembered,
        grant,
        browser: None,
    };
    let granted = session.grant.clone();
    let new = New::sign(app, user, session, client, (granted.as_ref(), None))?;
    let mut tx = app.store.begin_beside(&client.org).await?;
    // A reset ends the sign-ins that are there. This one was not there yet, and must not outlive it.
    if tx.password_hash(&user.id).await?.as_deref() != Some(proved) {
        return Err(Error::InvalidCredentials);
    }
    let Session { id, methods, .. } = &new.session;
    let with = json!({"session": id, "application": client.id, "methods": methods.list()});
    if !remembered && !matches!(mfa::need(&mut tx, user).await?, Need::Nothing) {
        return Err(Error::Conflict);
    }
    let issued = new.write(app, &mut tx).await?;
    app.audit(&mut tx, &user.id, Event::SignedIn, &user.id, Change::made(&with));
    app.commit(tx).await?;
    Ok(issued)
}

/// A sign-in whose tokens are signed, and which is yet to be written: nobody waits for their turn
/// behind a signature.
pub struct New {
    session: Session,
    refresh: Option<RefreshToken>,
    issued: Issued,
    /// Where the person is, where that is not where the request comes from.
    pub asker: Option<Asker>,
    /// When it is over if nothing more happens.
    end: u64,
}

impl New {
    /// Sign the tokens, for what was granted or a part of it. In OAuth's words there is a refresh
    /// token for clients that may use one.
    ///
    /// # Errors
    ///
    /// When no signature can be made.
    pub fn sign(
        app: &App,
        user: &User,
        session: Session,
        client: &Client,
        (grant, nonce): (Option<&Grant>, Option<&str>),
    ) -> Result<Self, Error> {
        let goes_on = session.grant.is_none() || client.may(GrantType::RefreshToken);
        let refresh = if goes_on { Some(note(app, &session.id, client)?) } else { None };
        let text = refresh
            .as_ref()
            .map(|note| tokens::refresh(app, note, &session, client))
            .transpose()?;
        let told = Told { grant, nonce, refresh: text };
        let issued = tokens::for_user(app, user, &session, client, told)?;
        let end = refresh.as_ref().map_or(0, |note| note.expires_at);
        let end = end.max(app.clock.now() + app.access_secs(client));
        Ok(Self { session, refresh, issued, asker: None, end })
    }

    /// Write it; the tokens, which are good once that is committed.
    ///
    /// # Errors
    ///
    /// When the person or the application is gone by now.
    pub async fn write(self, app: &App, tx: &mut Tx) -> Result<Issued, Error> {
        let Self { session, refresh, issued, asker, end } = self;
        tx.add_session(&session, end).await?;
        let asker = asker.unwrap_or_else(asker::here);
        tx.note_asker(&session.id, app.clock.now(), &asker).await?;
        if let (Some(note), Some(text)) = (&refresh, &issued.refresh) {
            tx.add_refresh_token(note, &tokens::refresh_hash(app, text)).await?;
        }
        Ok(issued)
    }
}

/// Exchange a refresh token for a new pair. `client` is who asks, where it said so; `narrowing` is how
/// much of what was granted it wants, in OAuth's words. What was granted in those words cannot be had
/// in the Auth API's, which knows neither scope nor audience.
///
/// # Errors
///
/// When the token is not one that can be used (any more).
pub async fn refresh(
    app: &App,
    text: &str,
    client: Option<&Client>,
    narrowing: Option<&Narrowing>,
) -> Result<Issued, Error> {
    let now = app.clock.now();
    let claims = app
        .ring
        .load()
        .verifier
        .verify(text, Kind::Refresh, now)
        .map_err(|_| Error::InvalidRefreshToken)?;
    let org = claims.organization.ok_or(Error::InvalidRefreshToken)?;
    let hash = tokens::refresh_hash(app, text);
    let (user, session, own) = going(app, &org, &hash).await?.ok_or(Error::InvalidRefreshToken)?;
    if client.is_some_and(|client| client.id != own.id) {
        return Err(Error::InvalidRefreshToken);
    }
    let grant = match (&session.grant, narrowing) {
        (None, None) => None,
        (Some(_), None) => return Err(Error::InvalidRefreshToken),
        (Some(granted), Some(narrowing)) => Some(narrowing.of(app, &own, granted)?),
        (None, Some(narrowing)) => Some(narrowing.of(app, &own, &grants::everything(app))?),
    };
    let told = |refresh| Told { grant: grant.as_ref(), nonce: None, refresh: Some(refresh) };
    // Signed before the turn to write comes: nobody waits behind a signature.
    let next = note(app, &session.id, &own)?;
    let next_text = tokens::refresh(app, &next, &session, &own)?;

    let mut tx = app.store.begin_beside(&org).await?;
    // Somebody may have ended it while we were signing. From here on nobody does: a token that is used
    // twice at once is used by one after the other.
    if tx.hold_session(&session.id, now).await?.is_none() {
        return Err(Error::InvalidRefreshToken);
    }
    if tx.consume_refresh_token(&hash, &next.id, now).await? {
        tx.add_refresh_token(&next, &tokens::refresh_hash(app, &next_text)).await?;
        tx.extend_session(&session.id, lifetime(app, &next, &own), now).await?;
        app.commit(tx).await?;
        return tokens::for_user(app, &user, &session, &own, told(next_text));
    }
    // Late is not stolen: clocks that disagree let a token through that has just run out.
    if tx.refresh_token(&hash).await?.is_none_or(|token| token.expires_at <= now) {
        return Err(Error::InvalidRefreshToken);
    }
    if let Some(successor) = lost_answer(&mut tx, &hash, now).await? {
        let text = tokens::refresh(app, &successor, &session, &own)?;
        return tokens::for_user(app, &user, &session, &own, told(text));
    }
    end_in(app, &mut tx, &session.id, (Actor::Nobody, Event::RefreshReused)).await?;
    app.commit(tx).await?;
    tracing::warn!(
        session.id = %session.id, user.id = %user.id,
        "a refresh token was used twice; the sign-in is ended"
    );
    Err(Error::InvalidRefreshToken)
}

/// A refresh token of a client and its sign-in, where that is still going. The token itself may have
/// been used or have run out.
///
/// # Errors
///
/// When the database fails.
pub async fn of_refresh(
    app: &App,
    client: &Client,
    text: &str,
) -> Result<Option<(RefreshToken, Session)>, Error> {
    let mut tx = app.store.read(&client.org).await?;
    let Some(token) = tx.refresh_token(&tokens::refresh_hash(app, text)).await? else {
        return Ok(None);
    };
    let session = tx.living_session(&token.session, app.clock.now()).await?;
    Ok(session.filter(|session| session.app == client.id).map(|session| (token, session)))
}

/// The person, the sign-in and the application of a refresh token, where all are still there.
async fn going(
    app: &App,
    org: &OrgId,
    hash: &[u8],
) -> Result<Option<(User, Session, Client)>, Error> {
    let mut tx = app.store.read(org).await?;
    let Some(token) = tx.refresh_token(hash).await? else { return Ok(None) };
    let now = app.clock.now();
    let Some(session) = tx.living_session(&token.session, now).await? else { return Ok(None) };
    let Some(user) = tx.user(&session.user).await? else { return Ok(None) };
    // What the organization asks for by now was not asked when it began.
    let shown = session.methods.several() || session.remembered;
    if !shown && mfa::required(&mut tx, &user).await? {
        return Ok(None);
    }
    let Some(client) = tx.client_of(&session.app).await? else { return Ok(None) };
    Ok(Some((user, session, client)))
}

/// The successor of a token that was used up a moment ago, where nobody has used the successor: the
/// answer got lost, and is given again. Anything else that comes twice has been stolen.
async fn lost_answer(tx: &mut Tx, hash: &[u8], now: u64) -> Result<Option<RefreshToken>, Error> {
    let Some(used) = tx.refresh_token(hash).await? else { return Ok(None) };
    let (Some(at), Some(successor)) = (used.consumed_at, used.successor) else { return Ok(None) };
    let successor = tx.refresh_token_by_id(&successor).await?;
    // A time that is still to come proves nothing of how long ago it was.
    let just_now = at <= now && now < at + RETRY;
    Ok(successor.filter(|next| just_now && next.consumed_at.is_none()))
}

/// Log out: whose token this is, an id token or an access token, is signed in no more. That it was
/// ended before is no fault.
///
/// # Errors
///
/// When it is no token of ours.
pub async fn log_out(app: &App, hint: &str) -> Result<(), Error> {
    let now = app.clock.now();
    let ring = app.ring.load_full();
    let claims = ring
        .verifier
        .verify(hint, Kind::Id, now)
        .or_else(|_| ring.verifier.verify(hint, Kind::Access, now))
        .map_err(|_| Error::BadHint)?;
    let caller = token::caller(&claims).map_err(|_| Error::BadHint)?;
    // Said again and again, it is noted once.
    if app.changes.standing(&caller) == Standing::Revoked {
        return Ok(());
    }
    let principal = &caller.subject.principal;
    let by = Actor::from(principal);
    let mut tx = app.store.begin_beside(principal.org()).await?;
    match (caller.session, caller.token_id) {
        (Some(session), _) => end_in(app, &mut tx, &session, (by, Event::SessionEnded)).await?,
        // An application has no sign-in to end, only this one token to give up.
        (None, Some(token_id)) => {
            let target = ("token", token_id.as_str());
            app.audit(&mut tx, by, Event::TokenRevoked, target, Change::none());
            app.record(&mut tx, Fact::TokenRevoked { token_id }).await?;
        }
        (None, None) => return Err(Error::BadHint),
    }
    app.commit(tx).await
}

/// End a sign-in in a transaction, if it is still going; `why` is who ends it, and as what that is
/// recorded.
///
/// # Errors
///
/// When the database fails.
pub async fn end_in(
    app: &App,
    tx: &mut Tx,
    id: &SessionId,
    (by, event): (Actor, Event),
) -> Result<(), Error> {
    if tx.end_session(id, app.clock.now()).await? {
        app.audit(tx, by, event, id, Change::none());
        app.record(tx, Fact::SessionEnded { session: id.clone() }).await?;
    }
    Ok(())
}

/// When the sign-in is over if nothing more happens: not before its last access token.
fn lifetime(app: &App, token: &RefreshToken, client: &Client) -> u64 {
    token.expires_at.max(token.issued_at + app.access_secs(client))
}

fn note(app: &App, session: &SessionId, client: &Client) -> Result<RefreshToken, Error> {
    let issued_at = app.clock.now();
    Ok(RefreshToken {
        id: clock::random_id()?.to_string(),
        session: session.clone(),
        issued_at,
        expires_at: issued_at + app.refresh_secs(client),
        consumed_at: None,
        successor: None,
    })
}

/// The id of a sign-in to be.
///
/// # Errors
///
/// When the system has no random bytes.
pub fn session_id() -> Result<SessionId, Error> {
    clock::random_id()?.to_string().parse().map_err(|_| Error::BadId("session id"))
}
