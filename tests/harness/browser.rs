//! A person's browser: it knows places by their public names, keeps cookies for each, follows redirects
//! and fills in Postern's sign-in page.

use std::{collections::BTreeMap, net::SocketAddr};

use reqwest::{Client, Method, Response, Url};

use super::client;

/// What identity is told that it is called.
pub const ISSUER: &str = "http://localhost:4000";

/// A browser.
#[derive(Debug, Clone)]
pub struct Browser {
    /// Where each origin really listens.
    places: Vec<(String, SocketAddr)>,
    /// By origin and name.
    pub jar: BTreeMap<(String, String), String>,
    http: Client,
}

/// Where it came to rest.
#[derive(Debug)]
pub struct Page {
    pub url: Url,
    pub status: u16,
    pub html: String,
    /// The addresses on the way, the last one too.
    pub way: Vec<Url>,
}

impl Page {
    /// The value of a hidden field.
    pub fn field(&self, name: &str) -> String {
        let (_, rest) = self
            .html
            .split_once(&format!("name=\"{name}\" value=\""))
            .unwrap_or_else(|| panic!("no `{name}` at {}: {}", self.url, self.html));
        let mut value = rest.split('"').next().unwrap().to_owned();
        for (code, sign) in
            [("&#34;", "\""), ("&#39;", "'"), ("&#60;", "<"), ("&#62;", ">"), ("&#38;", "&")]
        {
            value = value.replace(code, sign);
        }
        value
    }
}

impl Browser {
    /// One that has been nowhere.
    pub fn new(places: &[(&str, SocketAddr)]) -> Self {
        let places = places.iter().map(|(origin, at)| ((*origin).to_owned(), *at)).collect();
        Self { places, jar: BTreeMap::new(), http: client() }
    }

    /// The cookies that it has for an origin, as it sends them.
    pub fn cookies(&self, origin: &str) -> String {
        let mine = self.jar.iter().filter(|((of, _), _)| of == origin);
        mine.map(|((_, name), value)| format!("{name}={value}")).collect::<Vec<_>>().join("; ")
    }

    /// The value of a cookie.
    pub fn cookie(&self, origin: &str, name: &str) -> Option<&str> {
        self.jar.get(&(origin.to_owned(), name.to_owned())).map(String::as_str)
    }

    /// Have a cookie.
    pub fn keep(&mut self, origin: &str, name: &str, value: &str) {
        self.jar.insert((origin.to_owned(), name.to_owned()), value.to_owned());
    }

    /// Send one request, and keep what it sets.
    pub async fn send(
        &mut self,
        method: Method,
        url: &Url,
        headers: &[(&str, &str)],
        body: Option<String>,
    ) -> Response {
        let origin = url.origin().ascii_serialization();
        let place = self.places.iter().find(|(known, _)| *known == origin);
        let (_, at) = place.unwrap_or_else(|| panic!("it was sent to {url}"));
        let host = origin.split_once("://").unwrap().1;
        let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
        let target = format!("{}{query}", url.path());
        let mut request = self.http.request(method, format!("http://{at}{target}"));
        request = request.header("host", host);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let cookies = self.cookies(&origin);
        if !cookies.is_empty() {
            request = request.header("cookie", cookies);
        }
        if let Some(body) = body {
            let form = "application/x-www-form-urlencoded";
            request = request.header("content-type", form).body(body);
        }
        let response = request.send().await.unwrap();
        for set in response.headers().get_all("set-cookie") {
            let set = set.to_str().unwrap();
            let (pair, attributes) = set.split_once("; ").unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            // What a browser asks of a cookie with this prefix, and what keeps scripts from it.
            for wanted in ["Path=/", "Secure", "HttpOnly", "SameSite=Lax"] {
                assert!(attributes.split("; ").any(|a| a == wanted), "{set}");
            }
            assert!(name.starts_with("__Host-") && !attributes.contains("Domain"), "{set}");
            assert!(set.len() < 4096, "a browser would not keep it: {}", set.len());
            let key = (origin.clone(), name.to_owned());
            if attributes.contains("Max-Age=0") {
                self.jar.remove(&key);
            } else {
                self.jar.insert(key, value.to_owned());
            }
        }
        response
    }

    /// Send one as a person who follows a link.
    pub async fn visit(&mut self, url: &Url) -> Response {
        self.send(Method::GET, url, &PERSON, None).await
    }

    /// Go there, and wherever that leads.
    pub async fn open(&mut self, url: &str) -> Page {
        let url = Url::parse(url).unwrap();
        let first = self.visit(&url).await;
        self.follow(url, first).await
    }

    async fn follow(&mut self, mut url: Url, mut response: Response) -> Page {
        let mut way = vec![url.clone()];
        while let Some(to) = response.headers().get("location").filter(|_| {
            // A 401 may have an address for its server.
            response.status().is_redirection()
        }) {
            url = url.join(to.to_str().unwrap()).unwrap();
            way.push(url.clone());
            assert!(way.len() < 12, "round and round: {way:?}");
            response = self.visit(&url).await;
        }
        let status = response.status().as_u16();
        Page { url, status, html: response.text().await.unwrap(), way }
    }

    /// Fill in the sign-in page, and follow.
    pub async fn sign_in(&mut self, page: &Page, username: &str, password: &str) -> Page {
        let (request, csrf) = (page.field("request"), page.field("csrf"));
        let form = [
            ("request", request.as_str()),
            ("csrf", &csrf),
            ("username", username),
            ("password", password),
        ];
        let mut body = Url::parse("http://a").unwrap();
        body.query_pairs_mut().extend_pairs(form);
        let url = page.url.join("/oauth2/sign-in").unwrap();
        let headers = [("accept", "text/html"), ("sec-fetch-site", "same-origin")];
        let body = Some(body.query().unwrap().to_owned());
        let response = self.send(Method::POST, &url, &headers, body).await;
        self.follow(url, response).await
    }
}

/// What a browser says of a link that somebody follows.
pub const PERSON: [(&str, &str); 3] = [
    ("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
    ("sec-fetch-mode", "navigate"),
    ("sec-fetch-dest", "document"),
];
