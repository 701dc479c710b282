//! Which client asks: by `client_secret_basic`, by `client_secret_post`, by `private_key_jwt`, or by its
//! id alone where it can keep no secret. One method a request (RFC 6749, section 2.3).

use base64::{Engine, prelude::BASE64_STANDARD};
use http::{HeaderMap, header::AUTHORIZATION};
use secrecy::SecretString;

use super::{assertion, form::Form, refusal::Refusal};
use crate::{
    app::App,
    error::Error,
    login::{self, ClientCredentials},
    model::app::Client,
    origin::Origin,
};

/// RFC 6749, section 2.3.
const TWICE: &str = "the client authenticates in more than one way; one is enough";

/// The client that asks.
///
/// # Errors
///
/// When it does not say who it is, says so twice, or is not who it says.
pub async fn identified(
    app: &App,
    origin: &Origin,
    headers: &HeaderMap,
    form: &Form,
) -> Result<Client, Refusal> {
    let asserted = assertion::of(form)?;
    if asserted.is_some() && form.get("client_secret").is_some() {
        return Err(Refusal::invalid_request(TWICE));
    }
    if let Some(said) = basic(headers)? {
        if asserted.is_some() {
            return Err(Refusal::invalid_request(TWICE));
        }
        if form.get("client_secret").is_some() {
            return Err(Refusal::invalid_request(TWICE));
        }
        if form.get("client_id").is_some_and(|id| id != said.id) {
            let what = "`client_id` is another one than in the header";
            return Err(Refusal::invalid_request(what));
        }
        return Ok(login::client(app, &said, origin).await?);
    }
    if let Some(asserted) = asserted {
        return Ok(assertion::client(app, asserted, form.get("client_id")).await?);
    }
    let id = form.get("client_id").ok_or(Error::InvalidClient)?.to_owned();
    if let Some(secret) = form.get("client_secret") {
        let secret = SecretString::from(secret);
        return Ok(login::client(app, &ClientCredentials { id, secret }, origin).await?);
    }
    let client = app.store.client(&id).await.map_err(Error::from)?;
    Ok(client.filter(|client| client.registration.public).ok_or(Error::InvalidClient)?)
}

/// The client that asks, and that has proved it.
///
/// # Errors
///
/// As [`identified`], and for one that has nothing to prove it with.
pub async fn authenticated(
    app: &App,
    origin: &Origin,
    headers: &HeaderMap,
    form: &Form,
) -> Result<Client, Refusal> {
    let client = identified(app, origin, headers, form).await?;
    if client.registration.public { Err(Error::InvalidClient.into()) } else { Ok(client) }
}

/// What the header says. Id and secret are encoded as in a form before they are joined (RFC 6749,
/// section 2.3.1).
fn basic(headers: &HeaderMap) -> Result<Option<ClientCredentials>, Refusal> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Refusal::invalid_request("`Authorization` stands twice"));
    }
    read(value.as_bytes()).map(Some).ok_or_else(|| Error::InvalidClient.into())
}

fn read(value: &[u8]) -> Option<ClientCredentials> {
    let (scheme, rest) = value.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return None;
    }
    let text = String::from_utf8(BASE64_STANDARD.decode(rest.trim_ascii()).ok()?).ok()?;
    let (id, secret) = text.split_once(':')?;
    Some(ClientCredentials { id: decode(id), secret: SecretString::from(decode(secret)) })
}

fn decode(text: &str) -> String {
    let text = text.replace('&', "%26").replace('=', "%3d");
    form_urlencoded::parse(text.as_bytes()).map(|(name, _)| name.into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn id_and_secret_are_decoded_as_a_form_is() {
        let of = |text: &str| {
            let said = read(format!("BASIC {}", BASE64_STANDARD.encode(text)).as_bytes())?;
            Some((said.id, said.secret.expose_secret().to_owned()))
        };
        for (text, id, secret) in [
            ("a:b", "a", "b"),
            ("a%3Ab:c%25d+e%2B", "a:b", "c%d e+"),
            ("a:b:c", "a", "b:c"),
            ("a:b&c=d", "a", "b&c=d"),
            ("a:", "a", ""),
        ] {
            assert_eq!(of(text), Some((id.to_owned(), secret.to_owned())), "{text}");
        }
        assert_eq!(of("ab"), None);
        for bad in [&b"Basic"[..], b"Basic ", b"Basic !", b"Bearer YTpi", b"", b"Basic YTpi YTpi"] {
            assert!(read(bad).is_none(), "{bad:?}");
        }
    }
}
