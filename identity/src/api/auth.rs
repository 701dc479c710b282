//! What a handler asks for in its signature: an admin, a name from the path, a body.

use std::str::FromStr;

use axum::extract::{FromRequest, FromRequestParts, MatchedPath, Path, Request};
use http::request::Parts;
use policy::model::name::{AppId, GroupName, RoleName, UserId};
use uuid::Uuid;

use super::problem::Problem;
use crate::{
    admin::Admin,
    app::App,
    bearer,
    body::{self, Fields},
    error::Error,
};

impl FromRequestParts<App> for Admin {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let bearer = bearer::authenticate(app, &parts.headers).await?;
        let path = parts.extensions.get::<MatchedPath>().map(MatchedPath::as_str);
        Ok(Self::admit(app, bearer, &parts.method, path.unwrap_or_default())?)
    }
}

/// A body of JSON, to be taken field by field.
pub struct Sent(pub Fields);

impl FromRequest<App> for Sent {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        Ok(Self(body::json(&app.config, &parts.headers, body).await?))
    }
}

/// A name that stands in a path.
pub trait Named: Sized {
    /// Read it.
    ///
    /// # Errors
    ///
    /// When it cannot be the name of anything.
    fn read(text: &str) -> Result<Self, Error>;
}

/// The name in the path.
pub struct Id<N>(pub N);

impl<N: Named> FromRequestParts<App> for Id<N> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let path = Path::<String>::from_request_parts(parts, app).await;
        let Path(text) = path.map_err(|_| Error::BadId("id"))?;
        Ok(Self(N::read(&text)?))
    }
}

/// The two names in the path.
pub struct Ids<A, B>(pub A, pub B);

impl<A: Named, B: Named> FromRequestParts<App> for Ids<A, B> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let path = Path::<(String, String)>::from_request_parts(parts, app).await;
        let Path((first, second)) = path.map_err(|_| Error::BadId("id"))?;
        Ok(Self(A::read(&first)?, B::read(&second)?))
    }
}

impl Named for Uuid {
    fn read(text: &str) -> Result<Self, Error> {
        uuid(text, "credential id")
    }
}

impl Named for UserId {
    fn read(text: &str) -> Result<Self, Error> {
        uuid(text, "user id")
    }
}

impl Named for AppId {
    fn read(text: &str) -> Result<Self, Error> {
        uuid(text, "application id")
    }
}

impl Named for GroupName {
    fn read(text: &str) -> Result<Self, Error> {
        text.parse().map_err(|_| Error::BadId("group id"))
    }
}

impl Named for RoleName {
    fn read(text: &str) -> Result<Self, Error> {
        text.parse().map_err(|_| Error::BadId("role id"))
    }
}

/// An id that is a UUID, in the one spelling that is stored.
fn uuid<N: FromStr>(text: &str, what: &'static str) -> Result<N, Error> {
    let uuid = Uuid::try_parse(text).map_err(|_| Error::BadId(what))?;
    uuid.to_string().parse().map_err(|_| Error::BadId(what))
}
