//! What the handlers say of themselves, put together, with what is the same for all of them.
//!
//! A handler's own refusals stand in its `responses`: a status, and in its description the codes, each
//! in backticks before what it means, parted by `; `. Whoever reads the document by program finds the
//! codes as the `enum` of the body.

use std::{collections::BTreeSet, env, fs};

use serde_json::{Map, Value, json};

use crate::{admin::NEEDS, auth, http, oauth};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.json");
const AGAIN: &str = "POSTERN_WRITE_DOCS=1 cargo test -p postern-identity openapi";

const ABOUT: &str = "\
People, groups, roles, applications, and the tokens they sign in with.

Every answer has an `X-Request-Id`: the one that the request came with, or a new one. What is refused is \
told in one shape for each surface, `Problem` for `/v1` and `OAuthProblem` for `/oauth2`, with a code that \
does not change. `HEAD` answers as `GET` does, without a body; `OPTIONS` and 405 name the methods of a path \
in `Allow`. Members and parameters that are not described here are refused under `/v1`, and passed over \
under `/oauth2` as its standards have it.";

const TAGS: &[(&str, &str)] = &[
    ("users", "People of the organization."),
    ("mfa", "A person's own second factors."),
    ("groups", "Groups, which people are in and which hold roles."),
    ("guests", "People of other issuers, who have no account here."),
    ("roles", "Roles: named sets of permissions."),
    ("applications", "Machines with credentials of their own, and what people sign in through."),
    ("grants", "What an application may do."),
    ("credentials", "What an application proves itself with: secrets and public keys."),
    ("providers", "Ways to deliver codes, and which of them an application uses."),
    ("identity-providers", "Providers that people sign in through, and who they are there."),
    ("declarations", "What products publish of themselves."),
    ("sessions", "Who is signed in where."),
    ("access", "Who holds what, through which group and role, and when they last used it."),
    ("reviews", "Campaigns in which people decide whether what others hold stays."),
    ("settings", "What the organization has decided for itself."),
    ("audit", "Who did what, and when."),
    ("sign-in", "Tokens, log-out and who one is, in the spelling of the products' client library."),
    ("oauth", "OAuth 2.1 and OpenID Connect."),
    ("pages", "The pages of a sign-in, for a person's browser."),
    ("feed", "What proxies elsewhere follow."),
];
/// Told last.
const OPERATION: (&str, &str) = ("operation", "What runs here, and whether it does.");

/// The shapes in which refusals are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Surface {
    Api,
    SignIn,
    OAuth,
    Pages,
    Plain,
}

impl Surface {
    fn of(path: &str, tag: &str) -> Self {
        match tag {
            "pages" => Self::Pages,
            "operation" => Self::Plain,
            _ if oauth::owns(path) => Self::OAuth,
            _ if auth::owns(path) => Self::SignIn,
            _ => Self::Api,
        }
    }

    fn body(self) -> Value {
        match self {
            Self::Pages | Self::Plain => json!({"text/html": {"schema": {"type": "string"}}}),
            Self::OAuth => {
                json!({"application/json": {"schema": {"$ref": "#/components/schemas/OAuthProblem"}}})
            }
            _ => json!({"application/json": {"schema": {"$ref": "#/components/schemas/Problem"}}}),
        }
    }
}

/// What an operation is refused for, whatever it does: status and codes.
fn common(
    operation: &Value,
    surface: Surface,
    (path, method): (&str, &str),
) -> Vec<(&'static str, &'static str)> {
    let has = |place: &str| {
        let parameters = operation["parameters"].as_array().into_iter().flatten();
        parameters.clone().any(|parameter| parameter["in"] == place)
    };
    let secured = |scheme: &str| {
        let all = operation["security"].as_array().into_iter().flatten();
        all.clone().any(|requirement| requirement.get(scheme).is_some())
    };
    let needed = operation.get("x-postern-permission").is_some();
    let body = operation.get("requestBody").is_some();
    let all: &[(bool, &str, &str)] = match surface {
        Surface::Plain => &[],
        Surface::Pages => &[
            (body, "408", "The form did not come in time."),
            (body, "413", "The form is too large."),
            (true, "500", "A page that says that it is our fault."),
            (true, "503", "A page that asks to try again shortly."),
        ],
        Surface::Api => &[
            (has("path"), "400", "`IDE-0003` the path holds no valid id"),
            (has("query"), "400", "`IDE-0005` a query parameter is not valid"),
            (
                body,
                "400",
                "`IDE-0001` members are missing; `IDE-0002` members have the wrong type; `IDE-0004` \
                 members are not expected; `IDE-0007` the body is no JSON object, or breaks a rule",
            ),
            (
                secured("bearer"),
                "401",
                "`IDE-0008` the token is missing; `IDE-0009` it is not good",
            ),
            (needed, "403", "`IDE-9001` the permission is missing"),
            (needed && method != "get", "409", "`IDE-9012` somebody else changed the same thing"),
            (body, "408", "`IDE-0007` the body did not come in time"),
            (body, "413", "`IDE-0007` the body is too large"),
            (secured("bearer"), "500", "`IDE-0006` it is our fault"),
            (secured("bearer"), "503", "`IDE-0066` try again shortly"),
        ],
        Surface::SignIn => &[
            (
                body,
                "400",
                "`AUT-0001` members are missing; `AUT-0003` members are not expected; `AUT-0009` the \
                 body cannot be read, or members have the wrong type",
            ),
            (
                secured("bearer"),
                "401",
                "`AUT-0006` the token is missing; `AUT-0007` it is not good",
            ),
            (body, "408", "`AUT-0009` the body did not come in time"),
            (body, "413", "`AUT-0009` the body is too large"),
            (
                path.starts_with("/v1/login/"),
                "429",
                "`AUT-9020` too many sign-ins from there have failed",
            ),
            (body || secured("bearer"), "500", "`AUT-0005` it is our fault"),
            (body || secured("bearer"), "503", "`AUT-0033` try again shortly"),
        ],
        Surface::OAuth => &[
            (body, "400", "`invalid_request` the request cannot be understood"),
            (
                secured("bearer"),
                "401",
                "`invalid_request` the token is missing; `invalid_token` it is not good",
            ),
            (secured("client"), "401", "`invalid_client` the client id or secret is wrong"),
            (body, "408", "`invalid_request` the body did not come in time"),
            (body, "413", "`invalid_request` the body is too large"),
            (
                secured("client"),
                "429",
                "`temporarily_unavailable` too many sign-ins from there have failed",
            ),
            (true, "500", "`server_error` it is our fault"),
            (true, "503", "`temporarily_unavailable` try again shortly"),
        ],
    };
    all.iter().filter(|(holds, ..)| *holds).map(|(_, status, text)| (*status, *text)).collect()
}

/// The whole document.
fn document() -> Value {
    let (_, handlers) = http::routes().split_for_parts();
    let mut document = serde_json::to_value(handlers).unwrap();
    document["info"] = json!({
        "title": "Postern Identity",
        "version": env!("CARGO_PKG_VERSION"),
        "description": ABOUT,
        "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
    });
    document["servers"] = json!([{"url": "/"}]);
    let tags = TAGS.iter().chain([&OPERATION]);
    document["tags"] =
        tags.map(|(name, text)| json!({"name": name, "description": text})).collect();
    document["components"]["securitySchemes"] = json!({
        "bearer": {
            "type": "http", "scheme": "bearer", "bearerFormat": "JWT",
            "description": "An access token of this service.",
        },
        "client": {
            "type": "http", "scheme": "basic",
            "description": "Client id and secret, each encoded as in a form (RFC 6749, section 2.3.1). \
                            They may stand in the body instead; a public client has its id alone there.",
        },
    });
    let mut shared = Map::new();
    for (path, item) in document["paths"].as_object_mut().unwrap() {
        for (method, operation) in item.as_object_mut().unwrap() {
            complete(path, method, operation, &mut shared);
        }
    }
    document["components"]["responses"] = shared.into();
    sorted(document)
}

/// Add to an operation what is the same for all. An answer that is, whole, is told once, in `shared`.
fn complete(path: &str, method: &str, operation: &mut Value, shared: &mut Map<String, Value>) {
    let tag = operation["tags"][0].as_str().unwrap().to_owned();
    assert!(
        TAGS.iter().chain([&OPERATION]).any(|(known, _)| *known == tag),
        "{method} {path}: tell what the tag `{tag}` is, in TAGS of openapi/describe.rs"
    );
    let id = format!("{tag}_{}", operation["operationId"].as_str().unwrap()).replace('-', "_");
    operation["operationId"] = id.into();
    if let Some((.., resource, action)) =
        NEEDS.iter().find(|(on, at, ..)| on.eq_ignore_ascii_case(method) && *at == path)
    {
        let permission = format!("{resource}:{action}");
        let told = operation["description"].as_str().map(|told| format!("{told}\n\n"));
        let told = told.unwrap_or_default();
        operation["description"] =
            format!("{told}Needs the permission `{permission}` of `plugin-identity`.").into();
        operation["security"] = json!([{"bearer": []}]);
        operation["x-postern-permission"] = permission.into();
    }
    assert!(
        operation.get("security").is_some(),
        "{method} {path}: it has no row in NEEDS of admin.rs, so its `#[utoipa::path]` says \
         `security((\"bearer\" = []))`, or `security(())` if anybody may call it"
    );
    let surface = Surface::of(path, &tag);
    let common = common(operation, surface, (path, method));
    let responses = operation["responses"].as_object_mut().unwrap();
    let own: BTreeSet<String> = responses.keys().cloned().collect();
    for (status, text) in common.into_iter().rev() {
        if let Some(held) = responses.get_mut(status) {
            let own = held["description"].as_str().unwrap();
            held["description"] = format!("{text}; {own}").into();
        } else {
            let response = json!({"description": text, "content": surface.body()});
            responses.insert(status.to_owned(), response);
        }
    }
    for (status, response) in responses {
        let refused = status.as_str() >= "400";
        if refused && surface != Surface::Pages && surface != Surface::Plain {
            narrow(&format!("{method} {path} {status}"), response);
        }
        let text = json!({"schema": {"type": "string"}});
        match status.as_str() {
            "303" => response["headers"]["Location"] = text,
            "401" => response["headers"]["WWW-Authenticate"] = text,
            "429" | "503" if surface != Surface::Plain => {
                response["headers"]["Retry-After"] = json!({"schema": {"type": "integer"}});
            }
            _ => {}
        }
        // What is wrong with a request depends on what it may have.
        if !own.contains(status) && status != "400" {
            // A status may be told in several ways, to clients and to bearers say.
            let names = (1..).map(|nth| match nth {
                1 => format!("{surface:?}{status}"),
                nth => format!("{surface:?}{status}_{nth}"),
            });
            let is_it = |name: &String| shared.get(name).is_none_or(|held| held == response);
            let name = names.into_iter().find(is_it).unwrap();
            let place = format!("#/components/responses/{name}");
            shared.insert(name, std::mem::replace(response, json!({"$ref": place})));
        }
    }
}

/// Let the body of a refusal have no codes but those that it is told with.
fn narrow(of: &str, response: &mut Value) {
    let codes: BTreeSet<&str> = response["description"]
        .as_str()
        .unwrap()
        .split("; ")
        .map(|clause| {
            let code = clause.strip_prefix('`').and_then(|rest| rest.split_once("` "));
            code.unwrap_or_else(|| panic!("{of}: `{clause}` does not begin with a code")).0
        })
        .collect();
    let shape = response["content"]["application/json"]["schema"].clone();
    let name = match shape["$ref"].as_str() {
        Some("#/components/schemas/Problem") => "code",
        Some("#/components/schemas/OAuthProblem") => "error",
        _ => panic!("{of}: a refusal is told as `body = Wrong`"),
    };
    let codes = json!({"properties": {name: {"enum": codes}}});
    response["content"]["application/json"]["schema"] = json!({"allOf": [shape, codes]});
}

/// The same, members in the order of their names, whatever order the parser keeps.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let mut members: Vec<_> = members.into_iter().collect();
            members.sort_by(|(a, _), (b, _)| a.cmp(b));
            Value::Object(
                members
                    .into_iter()
                    .map(|(name, value)| (name, sorted(value)))
                    .collect::<Map<_, _>>(),
            )
        }
        Value::Array(items) => items.into_iter().map(sorted).collect(),
        other => other,
    }
}

#[test]
fn the_file_is_what_the_handlers_say() {
    let said = format!("{:#}\n", document());
    if env::var_os("POSTERN_WRITE_DOCS").is_some() {
        fs::write(FILE, &said).unwrap();
    }
    assert!(
        said == fs::read_to_string(FILE).unwrap(),
        "the API has changed, and identity/openapi.json has not. Write it anew: {AGAIN}\n\
         (it takes a second run to serve it), and look at what has changed."
    );
}

#[test]
fn every_need_is_that_of_a_route_and_every_operation_has_a_name_of_its_own() {
    let document = document();
    for (method, path, ..) in NEEDS {
        let answers = document["paths"][path].get(method.to_lowercase()).is_some();
        assert!(answers, "NEEDS speaks of {method} {path}, and nothing answers there");
    }
    let items = document["paths"].as_object().unwrap().values();
    let operations: Vec<_> = items.flat_map(|item| item.as_object().unwrap().values()).collect();
    let ids: BTreeSet<_> =
        operations.iter().map(|one| one["operationId"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), operations.len(), "two handlers of one tag have the same name");
}
