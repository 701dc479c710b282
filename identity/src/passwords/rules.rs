//! What a password must have: an organization's own rules, and those that hold everywhere.

use thiserror::Error;
use zxcvbn::{feedback::Warning, zxcvbn};

use crate::{model::settings::Settings, words::fold};

/// The most bytes of one: more is an attack on our cores.
pub const LONGEST: usize = 256;
/// How long a word of one's own is that makes a password guessable, in characters.
const OWN: usize = 4;
/// How many characters a password has beside such words.
const BESIDE: usize = 8;

/// Why a password may not be chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum WeakPassword {
    #[error("a password has at least {0} characters")]
    TooShort(usize),
    #[error("a password has at most {LONGEST} bytes")]
    TooLong,
    #[error(
        "a password has at least one lower case letter, one upper case letter, one digit and one special character"
    )]
    Classes,
    #[error("a password has no two equal characters next to each other")]
    Repeats,
    #[error("the password is made of your own name or address; guessers try that first")]
    Own,
    #[error("the password is one of those that are used most, or nearly; choose another one")]
    Common,
    #[error("the password is known from a breach elsewhere; choose another one")]
    Breached,
    #[error(
        "the password is too easy to guess; make it longer, of words that do not belong together"
    )]
    Easy,
}

/// What passwords of an organization must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// The fewest characters.
    pub shortest: usize,
    /// Whether there must be characters of all classes, and no two equal neighbours.
    pub composition: bool,
    /// The least estimate of zxcvbn, 2 (more than a million guesses) to 4.
    pub strength: u8,
}

impl Rules {
    /// The original's.
    pub const ORIGINAL: Self = Self { shortest: 12, composition: true, strength: 2 };

    /// What an organization has decided. Where a second factor stands beside it, a password may be
    /// shorter (NIST SP 800-63B-4, section 3.1.1.2).
    pub fn of(settings: &Settings) -> Self {
        let rules = &settings.password;
        let shortest = rules.min_length.unwrap_or(if settings.mfa.required { 12 } else { 15 });
        let shortest = usize::try_from(shortest).unwrap_or(LONGEST);
        Self { shortest, composition: rules.composition, strength: rules.strength }
    }

    /// Whether a password may be chosen by somebody with these names. It is looked at as it came: no
    /// trimming, no normal form. Takes some milliseconds.
    ///
    /// # Errors
    ///
    /// The first rule that it breaks.
    pub fn check(&self, password: &str, own: &[String]) -> Result<(), WeakPassword> {
        self.shape(password)?;
        if of_own(password, own) {
            return Err(WeakPassword::Own);
        }
        let own: Vec<&str> = own.iter().map(String::as_str).collect();
        let estimate = zxcvbn(password, &own);
        let warning = estimate.feedback().and_then(zxcvbn::feedback::Feedback::warning);
        if let Some(
            Warning::ThisIsATop10Password
            | Warning::ThisIsATop100Password
            | Warning::ThisIsACommonPassword
            | Warning::ThisIsSimilarToACommonlyUsedPassword,
        ) = warning
        {
            return Err(WeakPassword::Common);
        }
        if u8::from(estimate.score()) < self.strength {
            return Err(WeakPassword::Easy);
        }
        Ok(())
    }

    /// Whether it has the length and the characters.
    ///
    /// # Errors
    ///
    /// The first rule that it breaks.
    pub fn shape(&self, password: &str) -> Result<(), WeakPassword> {
        if password.chars().count() < self.shortest {
            return Err(WeakPassword::TooShort(self.shortest));
        }
        if password.len() > LONGEST {
            return Err(WeakPassword::TooLong);
        }
        if !self.composition {
            return Ok(());
        }
        let has = |class: fn(char) -> bool| password.chars().any(class);
        let special = has(|c| !c.is_alphanumeric() && !c.is_whitespace());
        if !(has(char::is_lowercase) && has(char::is_uppercase) && has(char::is_numeric) && special)
        {
            return Err(WeakPassword::Classes);
        }
        if password.chars().zip(password.chars().skip(1)).any(|(a, b)| a == b) {
            return Err(WeakPassword::Repeats);
        }
        Ok(())
    }
}

/// Whether little is left of a password without somebody's own names.
fn of_own(password: &str, own: &[String]) -> bool {
    let whole = fold(password);
    let words = own.iter().flat_map(|text| {
        let text = fold(text);
        let parts: Vec<String> = text
            .split(|c: char| !c.is_alphanumeric())
            .filter(|part| part.chars().count() >= OWN)
            .map(str::to_owned)
            .collect();
        parts
    });
    let mut words: Vec<String> = words.collect();
    // The longest first: what is inside of another word goes with it.
    words.sort_by_key(|word| std::cmp::Reverse(word.len()));
    let mut left = whole.clone();
    for word in &words {
        left = left.replace(word.as_str(), "");
    }
    left != whole && left.chars().count() < BESIDE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_keeps_every_rule_or_is_refused_by_the_first_it_breaks() {
        let rules = Rules::ORIGINAL;
        for good in ["Lerian@1234x", "Ünïcode-Grüße-1", "Sturdy-Horse-1"] {
            assert_eq!(rules.check(good, &[]), Ok(()), "{good}");
        }
        let long = "aB1-".repeat(65);
        for (bad, why) in [
            ("Lerian@123", WeakPassword::TooShort(12)),
            (long.as_str(), WeakPassword::TooLong),
            ("lerian@1234x", WeakPassword::Classes),
            ("LERIAN@1234X", WeakPassword::Classes),
            ("Lerian@abcdefg", WeakPassword::Classes),
            ("Lerian1234xyz", WeakPassword::Classes),
            ("Lerian@1123xy", WeakPassword::Repeats),
            ("Iloveyou@2024", WeakPassword::Common),
            ("Qwertyuiop@1", WeakPassword::Common),
            ("Mar-Mar-Mar-1", WeakPassword::Easy),
        ] {
            assert_eq!(rules.check(bad, &[]), Err(why), "{bad}");
        }
    }

    #[test]
    fn without_composition_length_and_estimate_count() {
        let rules = Rules { shortest: 15, composition: false, strength: 3 };
        for good in [
            "correct horse battery staple",
            "ein grüner igel raucht",
            "四つの言葉がここに並んで歩いている夜",
        ] {
            assert_eq!(rules.check(good, &[]), Ok(()), "{good}");
        }
        for (bad, why) in [
            ("Xk3#pQ9!vL2@m", WeakPassword::TooShort(15)),
            ("passwordpassword", WeakPassword::Easy),
            ("abcdefghijklmnopqr", WeakPassword::Easy),
            ("password1234567", WeakPassword::Common),
        ] {
            assert_eq!(rules.check(bad, &[]), Err(why), "{bad}");
        }
    }

    #[test]
    fn a_password_is_not_made_of_ones_own_names() {
        let own = ["maria.gonzalez@example.com", "Maria", "Gonzalez"].map(str::to_owned);
        let rules = Rules::ORIGINAL;
        for bad in ["Gonzalez-Maria-1", "mariA@Example7", "Maria-Gonz4!!x"] {
            let told = rules.shape(bad).and_then(|()| rules.check(bad, &own));
            assert!(told.is_err(), "{bad}");
        }
        assert_eq!(rules.check("Gonzalez-Maria-1", &own), Err(WeakPassword::Own));
        assert_eq!(rules.check("Maria+9kTz!vQ2x", &own), Ok(()));
    }

    #[test]
    fn settings_say_what_is_asked_for() {
        let mut settings = Settings::default();
        assert_eq!(Rules::of(&settings), Rules { shortest: 15, composition: false, strength: 3 });
        settings.mfa.required = true;
        assert_eq!(Rules::of(&settings).shortest, 12);
        assert_eq!(Rules::of(&Settings::seeded()), Rules::ORIGINAL);
    }
}
