//! CORS (the Fetch standard, section 3.3): what runs in a browser as a public client may ask from the
//! origins that people are sent back to, and no other page may.
//!
//! It keeps nobody from asking who is no browser, and opens nothing: no cookie counts at these paths, so
//! credentials are never let along.

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use http::{
    HeaderMap, HeaderValue, Method,
    header::{
        ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
        ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD,
        ORIGIN, VARY,
    },
};

use super::page;
use crate::{app::App, store::StoreError};

/// What a public client asks without a person's browser going there.
fn is_shared(path: &str) -> bool {
    matches!(path, "/oauth2/token" | "/oauth2/userinfo" | "/oauth2/revoke")
        || path.starts_with("/.well-known/")
}

/// Tell a browser which pages may read the answer.
pub async fn tell(State(app): State<App>, request: Request, next: Next) -> Response {
    if !is_shared(request.uri().path()) {
        return next.run(request).await;
    }
    let origin = origin(request.headers());
    let asks_first = *request.method() == Method::OPTIONS
        && request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD);
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.append(VARY, HeaderValue::from_static("Origin"));
    let Some((origin, text)) = origin else { return response };
    match is_known(&app, &text).await {
        Ok(true) => {}
        Ok(false) => return response,
        Err(error) => {
            tracing::warn!(%error, "the origin of a request could not be looked up");
            return response;
        }
    }
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    let told = if asks_first {
        &[
            (ACCESS_CONTROL_ALLOW_METHODS, "GET, POST"),
            (ACCESS_CONTROL_ALLOW_HEADERS, "authorization, content-type"),
            (ACCESS_CONTROL_MAX_AGE, "600"),
        ][..]
    } else {
        &[(ACCESS_CONTROL_EXPOSE_HEADERS, "www-authenticate, retry-after, x-request-id")]
    };
    for (name, value) in told {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Where the page is from, if that can be the origin of an address.
fn origin(headers: &HeaderMap) -> Option<(HeaderValue, String)> {
    let mut values = headers.get_all(ORIGIN).iter();
    let value = values.next().filter(|_| values.next().is_none())?;
    let text = value.to_str().ok()?;
    // What else there is in a LIKE means something.
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-.:/[]".contains(&byte);
    let whole = text.len() <= 255 && text.bytes().all(plain) && page::origin(text) == text;
    (whole && text.contains("://")).then(|| (value.clone(), text.to_owned()))
}

async fn is_known(app: &App, origin: &str) -> Result<bool, StoreError> {
    let held = app.store.public_redirects(origin).await?;
    Ok(held.iter().flat_map(|held| held.split(' ')).any(|uri| page::origin(uri) == origin))
}
