//! What clients may know of this issuer without asking anybody: its keys, its endpoints, and what is
//! built of the standards.

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, header::CACHE_CONTROL};
use serde_json::{Value, json};

use crate::{
    app::App,
    credentials,
    keys::Algorithm,
    model::{app::GrantType, grant::Scope},
    tokens::ACRS,
};

/// The key set (RFC 7517), for those who verify tokens themselves. They
/// may keep it for five minutes; a key is published a day before it signs.
#[utoipa::path(get, path = "/.well-known/jwks.json", tag = "oauth", security(()),
    responses((status = 200, body = Object, description = "The keys.",
        example = json!({"keys": [{"kty": "RSA", "use": "sig", "alg": "RS256", "kid": "…", "n": "…", "e": "AQAB"}]}))))]
pub async fn jwks(State(app): State<App>) -> Response {
    kept(&app.ring.load().jwks)
}

/// The issuer's metadata (OpenID Connect Discovery 1.0, section 3; RFC 8414, section 2). Both documents
/// are the same: what the one has more, readers of the other pass over.
#[utoipa::path(get, path = "/.well-known/openid-configuration", tag = "oauth", security(()),
    responses((status = 200, body = Object, description = "The metadata.")))]
pub async fn metadata(State(app): State<App>) -> Response {
    let at = |path: &str| format!("{}{path}", app.config.issuer.trim_end_matches('/'));
    let secrets = ["client_secret_basic", "client_secret_post", "private_key_jwt"];
    let all = ["client_secret_basic", "client_secret_post", "private_key_jwt", "none"];
    let signed = credentials::ALGORITHM_NAMES;
    let grants: Vec<&str> = GrantType::ALL.into_iter().map(GrantType::as_str).collect();
    kept(&json!({
        "issuer": app.config.issuer,
        "jwks_uri": at("/.well-known/jwks.json"),
        "authorization_endpoint": at("/oauth2/authorize"),
        "end_session_endpoint": at("/oauth2/logout"),
        "token_endpoint": at("/oauth2/token"),
        "userinfo_endpoint": at("/oauth2/userinfo"),
        "introspection_endpoint": at("/oauth2/introspect"),
        "revocation_endpoint": at("/oauth2/revoke"),
        "grant_types_supported": grants,
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "code_challenge_methods_supported": ["S256"],
        "authorization_response_iss_parameter_supported": true,
        "backchannel_logout_supported": true,
        "backchannel_logout_session_supported": true,
        "prompt_values_supported": ["none", "login", "select_account", "consent"],
        "request_parameter_supported": false,
        "request_uri_parameter_supported": false,
        "claims_parameter_supported": false,
        "acr_values_supported": ACRS,
        "token_endpoint_auth_methods_supported": all,
        "revocation_endpoint_auth_methods_supported": all,
        "introspection_endpoint_auth_methods_supported": secrets,
        "token_endpoint_auth_signing_alg_values_supported": signed,
        "revocation_endpoint_auth_signing_alg_values_supported": signed,
        "introspection_endpoint_auth_signing_alg_values_supported": signed,
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": algorithms(&app),
        "scopes_supported": Scope::KNOWN,
        "claims_supported": [
            "sub", "iss", "aud", "exp", "iat", "auth_time", "nonce", "acr", "amr", "azp", "at_hash",
            "sid", "groups", "name", "preferred_username", "given_name", "family_name", "email",
            "email_verified",
        ],
    }))
}

/// What the keys in use sign with, and that of the original's clients, which every issuer must offer
/// (OpenID Connect Discovery 1.0, section 3).
fn algorithms(app: &App) -> Vec<String> {
    let ring = app.ring.load();
    let keys = ring.jwks["keys"].as_array().into_iter().flatten();
    let mut algorithms: Vec<_> =
        keys.filter_map(|key| key["alg"].as_str().map(str::to_owned)).collect();
    algorithms.push(Algorithm::Rs256.as_str().to_owned());
    algorithms.sort();
    algorithms.dedup();
    algorithms
}

/// An answer that may be kept for a while: keys and endpoints outlast it.
fn kept(value: &Value) -> Response {
    let mut response = Json(value).into_response();
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=300"));
    response
}
