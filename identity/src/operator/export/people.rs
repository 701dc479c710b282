//! The people of an export, and what they prove themselves with.

use std::collections::HashMap;

use policy::{import::tree::Node, model::name::GroupName};

use super::{Password, Reader, User, clean, flag, items, text, texts};
use crate::{passwords::foreign, words};

/// What is said of people and has no meaning for access.
const OF_PEOPLE: &str = "createdTime updatedTime deletedTime type avatar avatarType permanentAvatar \
    emailVerified phone countryCode region location address affiliation title idCardType idCard realName \
    isVerified homepage bio tag language gender birthday education score karma ranking balance currency \
    isDefaultAvatar isOnline hash preHash registerType registerSource createdIp lastSigninTime \
    lastSigninIp signupApplication lastSigninWrongTime signinWrongTimes properties externalId \
    lastChangePasswordTime accessKey accessSecret permissions";
/// The longest password, in bytes.
const LONGEST: usize = 256;

impl Reader<'_> {
    pub(super) fn users(&mut self, root: &Node) {
        let mut seen: HashMap<(String, String), u32> = HashMap::new();
        for node in items(root, "users") {
            let (owner, username) = (text(node, "owner"), text(node, "name"));
            let place = node.place.clone();
            let Some(organization) = self.organization(&owner, &place) else { continue };
            let kind = organization.kind.clone();
            let what = format!("person `{}`", clean(&username));
            if flag(node, "isDeleted") == Some(true) {
                self.note(&place, format!("{what} is deleted there"));
                continue;
            }
            let email = text(node, "email");
            let mut first_name = text(node, "firstName");
            let last_name = text(node, "lastName");
            if first_name.is_empty() && last_name.is_empty() {
                first_name = text(node, "displayName");
            }
            let wrong = words::username(&username).err();
            let wrong = wrong.or_else(|| words::email(&email).err());
            let wrong = wrong.or_else(|| words::line(&first_name).err());
            if let Some(wrong) = wrong.or_else(|| words::line(&last_name).err()) {
                self.leave_out(&place, format!("{what}: {wrong}"));
                continue;
            }
            // An `@` tells them apart.
            let mut twice = None;
            for name in [&username, &email] {
                let key = (owner.clone(), words::fold(name));
                twice = twice.or(seen.get(&key).copied());
                seen.entry(key).or_insert(place.line);
            }
            if let Some(line) = twice {
                let told = format!("{what} has the user name or e-mail address of line {line}");
                self.leave_out(&place, told);
                continue;
            }
            let user = User {
                id: text(node, "id").parse().ok(),
                email,
                first_name,
                last_name,
                groups: self.memberships(node, &owner, &what),
                disabled: flag(node, "isForbidden") == Some(true),
                password: self.password(node, &what, &kind),
                place: place.clone(),
                username,
            };
            if flag(node, "isAdmin") == Some(true) {
                self.note(&place, format!("{what} is an administrator there; here groups decide"));
            }
            self.second_factors(node, &what);
            let used = [
                "owner",
                "name",
                "id",
                "password",
                "passwordType",
                "passwordSalt",
                "displayName",
                "firstName",
                "lastName",
                "email",
                "groups",
                "roles",
                "isForbidden",
                "isDeleted",
                "isAdmin",
                "totpSecret",
                "recoveryCodes",
                "mfaPhoneEnabled",
                "mfaEmailEnabled",
                "preferredMfaType",
                "webauthnCredentials",
                "multiFactorAuths",
                "mfaAccounts",
            ];
            self.fields("users", node, (&used, OF_PEOPLE));
            if let Some(organization) = self.organization(&owner, &place) {
                organization.users.push(user);
            }
        }
    }

    fn memberships(&mut self, node: &Node, owner: &str, what: &str) -> Vec<GroupName> {
        let mut groups = Vec::new();
        for group in texts(node, "groups") {
            let (of, name) = group.split_once('/').unwrap_or((owner, group));
            if of == owner {
                groups.extend(self.named::<GroupName>(name, "group", &node.place));
            } else {
                let told = format!("{what} is in a group of `{}`", clean(of));
                self.leave_out(&node.place, told);
            }
        }
        if node.get("roles").is_some_and(|roles| !roles.is_empty()) {
            let told =
                format!("{what} holds roles; here groups do, so put them into one that does");
            self.leave_out(&node.place, told);
        }
        groups.sort();
        groups.dedup();
        groups
    }

    /// The password: of the kind that is said, or, where none is, what it looks like.
    fn password(&mut self, node: &Node, what: &str, of_organization: &str) -> Password {
        let (text, kind) = (text(node, "password"), text(node, "passwordType"));
        if text.is_empty() {
            self.note(&node.place, format!("{what} has no password; an administrator gives one"));
            return Password::None;
        }
        let known = ["bcrypt", "argon2id", "argon2"];
        let hash = foreign::check(&text);
        let plain = kind == "plain" || kind.is_empty() && hash == Err(foreign::Unusable::Unknown);
        if plain {
            // What the original is given without a kind it takes for the password itself.
            if text.len() <= LONGEST {
                return Password::Plain(text.into());
            }
            let told = format!("{what}: the password has more than {LONGEST} bytes");
            self.leave_out(&node.place, told);
            return Password::None;
        }
        let hash = match hash {
            Ok(()) => return Password::Hash(text),
            Err(error) => error,
        };
        let kind = if kind.is_empty() { of_organization } else { &kind };
        let told = if known.contains(&kind) || kind.is_empty() {
            format!("{what}: the hash of the password {hash}; an administrator gives another one")
        } else {
            format!(
                "{what}: a password kept as `{}` cannot be compared here; an administrator gives \
                     another one",
                clean(kind)
            )
        };
        self.leave_out(&node.place, told);
        Password::None
    }

    fn second_factors(&mut self, node: &Node, what: &str) {
        let on = ["mfaPhoneEnabled", "mfaEmailEnabled"].iter().any(|f| flag(node, f) == Some(true));
        let held = ["totpSecret", "webauthnCredentials", "mfaAccounts"];
        if on || held.iter().any(|field| node.get(field).is_some_and(|held| !held.is_empty())) {
            self.leave_out(&node.place, format!("{what}: second factors are set up anew"));
        }
    }
}
