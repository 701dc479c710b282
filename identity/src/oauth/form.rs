//! The parameters of a request: each at most once (RFC 6749, section 3.1), but for `resource` (RFC
//! 8707, section 2). One that is empty is one that is not there; one that nobody knows is passed over.

use axum::body::Body;
use http::HeaderMap;

use super::refusal::Refusal;
use crate::{app::App, body, error::Error, grants::Narrowing, model::grant::Scope};

/// The one parameter of which there may be several.
const RESOURCE: &str = "resource";

/// Parameters of a query or a body.
#[derive(Debug, Default)]
pub struct Form(Vec<(String, String)>);

impl Form {
    /// Those of a query, repeated ones and all.
    pub fn of_query(query: &str) -> Self {
        Self(form_urlencoded::parse(query.as_bytes()).into_owned().collect())
    }

    /// Those of a body.
    ///
    /// # Errors
    ///
    /// When it is no form, or repeats a parameter.
    pub async fn of_body(app: &App, headers: &HeaderMap, body: Body) -> Result<Self, Refusal> {
        let form = Self(body::pairs(&app.config, headers, body).await?);
        if form.repeated().is_some() {
            return Err(Refusal::invalid_request("a parameter stands twice"));
        }
        Ok(form)
    }

    /// All of them, as a query.
    pub fn query(&self) -> String {
        form_urlencoded::Serializer::new(String::new()).extend_pairs(&self.0).finish()
    }

    /// The name of one that stands twice.
    pub fn repeated(&self) -> Option<&str> {
        let mut names: Vec<&str> = self.0.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        let twice = names.windows(2).find(|pair| pair[0] == pair[1] && pair[0] != RESOURCE)?;
        Some(twice[0])
    }

    /// Whether this one stands twice.
    pub fn repeats(&self, name: &str) -> bool {
        self.0.iter().filter(|(held, _)| held == name).count() > 1
    }

    /// The value of one.
    pub fn get(&self, name: &str) -> Option<&str> {
        let value = self.0.iter().find(|(held, _)| held == name)?.1.as_str();
        Some(value).filter(|value| !value.is_empty())
    }

    /// The value of one that must be there.
    ///
    /// # Errors
    ///
    /// When it is not.
    pub fn need(&self, name: &'static str) -> Result<&str, Refusal> {
        self.get(name).ok_or_else(|| Refusal::invalid_request(format!("`{name}` is missing")))
    }

    /// The scope that is asked for, if any is.
    ///
    /// # Errors
    ///
    /// When it cannot be one.
    pub fn scope(&self) -> Result<Option<Scope>, Error> {
        let scope = self.get("scope").map(Scope::read).transpose();
        scope.map_err(|_| Error::InvalidScope)
    }

    /// The resources that are named.
    pub fn resources(&self) -> Vec<String> {
        let named = self.0.iter().filter(|(name, value)| name == RESOURCE && !value.is_empty());
        named.map(|(_, value)| value.clone()).collect()
    }

    /// How much of what was granted is asked for.
    ///
    /// # Errors
    ///
    /// When the scope cannot be one.
    pub fn narrowing(&self) -> Result<Narrowing, Error> {
        Ok(Narrowing { scope: self.scope()?, resources: self.resources() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_stands_once_and_an_empty_one_is_none() {
        let form = Form::of_query("a=1&b=&resource=x&resource=y&c=%00+");
        assert_eq!(form.repeated(), None);
        assert_eq!((form.get("a"), form.get("b"), form.get("c")), (Some("1"), None, Some("\0 ")));
        assert_eq!(form.resources(), ["x", "y"]);
        for twice in ["a=1&a=1", "a=&a=1", "a=1&b=2&%61=3"] {
            assert_eq!(Form::of_query(twice).repeated(), Some("a"), "{twice}");
        }
    }
}
