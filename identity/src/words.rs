//! What people may be called: the rules of names that no type carries.

/// The longest e-mail address (RFC 5321, section 4.5.3.1).
const LONGEST_EMAIL: usize = 254;

/// A user name.
///
/// # Errors
///
/// The rule that it breaks.
pub fn username(text: &str) -> Result<(), &'static str> {
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    if (1..=255).contains(&text.len()) && text.bytes().all(good) {
        return Ok(());
    }
    Err("a user name has 1 to 255 of a-z, A-Z, 0-9, `-`, `_`")
}

/// An e-mail address, as far as its shape goes: only a message to it proves more.
///
/// # Errors
///
/// The rule that it breaks.
pub fn email(text: &str) -> Result<(), &'static str> {
    let fault = Err("an e-mail address has the form `name@domain`");
    let Some((name, domain)) = text.split_once('@') else { return fault };
    let clean =
        |c: char| !c.is_whitespace() && !c.is_control() && !matches!(c, '<' | '>' | '"' | ',');
    let labels = domain
        .split('.')
        .all(|label| !label.is_empty() && label.chars().all(|c| c.is_alphanumeric() || c == '-'));
    if name.is_empty() || !name.chars().all(clean) || !labels || text.len() > LONGEST_EMAIL {
        return fault;
    }
    Ok(())
}

/// A first or last name, a title or a description: any text on one line.
///
/// # Errors
///
/// The rule that it breaks.
pub fn line(text: &str) -> Result<(), &'static str> {
    if text.chars().count() <= 255 && !text.chars().any(char::is_control) {
        return Ok(());
    }
    Err("a text has at most 255 characters and no control characters")
}

/// An application's client id.
///
/// # Errors
///
/// The rule that it breaks.
pub fn client_id(text: &str) -> Result<(), &'static str> {
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if (1..=128).contains(&text.len()) && text.bytes().all(good) {
        return Ok(());
    }
    Err("a client id has 1 to 128 of a-z, A-Z, 0-9, `-`, `_`, `.`")
}

/// The form under which names that differ by case alone are the same.
pub fn fold(text: &str) -> String {
    text.to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_the_characters_of_their_kind() {
        for good in ["admin", "Ana_Maria-2"] {
            assert!(username(good).is_ok(), "{good}");
        }
        for bad in ["", "a b", "a@b", "ä", "a/b"] {
            assert!(username(bad).is_err(), "{bad}");
        }
        for good in ["admin@midaz.tech", "a.b+c@x-y.co", "ö@ö.de"] {
            assert!(email(good).is_ok(), "{good}");
        }
        for bad in ["", "a", "@b", "a@", "a@b@c", "a b@c", "a@b..c", "a@b\n", "<a@b>"] {
            assert!(email(bad).is_err(), "{bad}");
        }
    }
}
