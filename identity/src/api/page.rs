//! Lists: whole as a bare array, or a page of them in an envelope, as the client asks.

use axum::{
    Json,
    extract::FromRequestParts,
    response::{IntoResponse, Response},
};
use http::request::Parts;
use serde::Serialize;
use utoipa::ToSchema;

use super::problem::Problem;
use crate::{app::App, error::Error, store::Window};

const LIMITS: std::ops::RangeInclusive<u64> = 1..=100;
const DEFAULT_LIMIT: u64 = 10;

/// What part of a list the client asks for; `None` for all of it, without an envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page(Option<Asked>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Asked {
    page: u64,
    limit: u64,
}

/// What part of a list is asked for, as the API's description has it.
#[expect(dead_code, reason = "describes what `Page` reads")]
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Paging {
    /// Which page, from 1 on. Without `page` and `limit` the answer is the whole list as a bare array.
    #[param(minimum = 1, maximum = 4_294_967_295_u64)]
    page: Option<u64>,
    /// How many on a page; 10 if only `page` is given.
    #[param(minimum = 1, maximum = 100)]
    limit: Option<u64>,
}

/// A list: bare and whole, or a page of it in an envelope.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub enum Listed<T> {
    /// All of it, where neither `page` nor `limit` was asked for.
    Whole(Vec<T>),
    Part(Part<T>),
}

/// A page of a list.
#[derive(Serialize, ToSchema)]
pub struct Part<T> {
    items: Vec<T>,
    /// Which one this is, from 1 on.
    page: u64,
    /// How many there are on a page.
    limit: u64,
    /// How many there are in all.
    total: u64,
}

impl FromRequestParts<App> for Page {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Problem> {
        Ok(Self::read(parts.uri.query().unwrap_or_default())?)
    }
}

impl Page {
    fn read(query: &str) -> Result<Self, Error> {
        let (mut page, mut limit) = (None, None);
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let place = match name.as_ref() {
                "page" => &mut page,
                "limit" => &mut limit,
                _ => continue,
            };
            let bad = Error::BadQuery("`page` is at least 1, `limit` is 1 to 100, each once");
            if place.is_some() {
                return Err(bad);
            }
            // Digits alone: no sign, no white space.
            let digits = value.bytes().all(|byte| byte.is_ascii_digit());
            let number = value.parse::<u32>().ok().filter(|number| digits && *number > 0);
            *place = Some(u64::from(number.ok_or(bad)?));
        }
        if limit.is_some_and(|limit| !LIMITS.contains(&limit)) {
            return Err(Error::BadQuery("`limit` is 1 to 100"));
        }
        let asked = page.is_some() || limit.is_some();
        Ok(Self(
            asked.then_some(Asked {
                page: page.unwrap_or(1),
                limit: limit.unwrap_or(DEFAULT_LIMIT),
            }),
        ))
    }

    /// What to read.
    pub fn window(self) -> Window {
        self.0.map_or(Window::ALL, |Asked { page, limit }| Window {
            offset: (page - 1) * limit,
            limit,
        })
    }

    /// Answer what was read.
    pub fn answer<T: Serialize>(self, items: Vec<T>, total: u64) -> Response {
        let list = match self.0 {
            None => Listed::Whole(items),
            Some(Asked { page, limit }) => Listed::Part(Part { items, page, limit, total }),
        };
        Json(list).into_response()
    }

    /// Answer a part of what was read whole.
    pub fn cut<T: Serialize>(self, all: Vec<T>) -> Response {
        let (window, total) = (self.window(), all.len());
        let small = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        let items = all.into_iter().skip(small(window.offset)).take(small(window.limit)).collect();
        self.answer(items, u64::try_from(total).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_whole_unless_a_part_is_asked_for() {
        assert_eq!(Page::read("").unwrap().window(), Window::ALL);
        assert_eq!(Page::read("sort=name").unwrap().window(), Window::ALL);
        assert_eq!(Page::read("page=3").unwrap().window(), Window { offset: 20, limit: 10 });
        assert_eq!(Page::read("limit=100").unwrap().window(), Window { offset: 0, limit: 100 });
        for bad in [
            "page=0",
            "limit=0",
            "limit=101",
            "page=-1",
            "page=a",
            "page=",
            "page=1&page=2",
            "page=+1",
            "page=99999999999",
        ] {
            assert!(Page::read(bad).is_err(), "{bad}");
        }
    }
}
