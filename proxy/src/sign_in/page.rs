//! What a person sees of the sign-in here, which is nothing unless something went wrong.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};

use crate::answer::{self, Code};

pub const CROSS_SITE: Code = answer::CROSS_SITE;
pub const OVER: Code = Code("PST-0021", "This Sign-In Is Over", StatusCode::BAD_REQUEST);
pub const REFUSED: Code = Code("PST-0022", "Sign-In Refused", StatusCode::FORBIDDEN);
pub const FAILED: Code = Code("PST-0023", "Sign-In Failed", StatusCode::BAD_GATEWAY);
pub const TOO_LARGE: Code =
    Code("PST-0024", "Session Too Large", StatusCode::INTERNAL_SERVER_ERROR);
pub const NOT_PASSED_ON: Code =
    Code("PST-0025", "Cookies Are Not Passed On", StatusCode::INTERNAL_SERVER_ERROR);
pub const NO_SESSION: Code = Code("PST-0026", "No Session", StatusCode::UNAUTHORIZED);

/// Tell somebody that it did not work: a page for people, and the error for programs.
pub fn told(headers: &HeaderMap, code: Code, text: &str) -> Response<Bytes> {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    if !accept.is_some_and(|accept| accept.to_ascii_lowercase().contains("text/html")) {
        return answer::error(code, text);
    }
    let Code(number, title, status) = code;
    html(status, title, &format!("{text} ({number})"))
}

/// A page that says that something is so. Nothing in it comes from outside.
pub fn html(status: StatusCode, title: &str, text: &str) -> Response<Bytes> {
    let page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>{title}</title>\n\
         <h1>{title}</h1>\n<p>{text}</p>\n<p><a href=\"/\">Try again</a></p>\n</html>\n"
    );
    let mut response = plain(status);
    *response.body_mut() = Bytes::from(page);
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
        ),
        (header::X_FRAME_OPTIONS, "DENY"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Send somebody on, with these cookies.
pub fn send(to: &str, cookies: impl IntoIterator<Item = HeaderValue>) -> Response<Bytes> {
    let mut response = plain(StatusCode::SEE_OTHER);
    match HeaderValue::try_from(to) {
        Ok(to) => {
            response.headers_mut().insert(header::LOCATION, to);
        }
        Err(_) => return answer::error(FAILED, "The address to go on to cannot be used."),
    }
    with(response, cookies)
}

/// The same answer, with these cookies.
pub fn with(
    mut response: Response<Bytes>,
    cookies: impl IntoIterator<Item = HeaderValue>,
) -> Response<Bytes> {
    for cookie in cookies {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    response
}

/// An answer that nobody may keep, and that tells nobody where it stood: a code may be in the address.
fn plain(status: StatusCode) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}
