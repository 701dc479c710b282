//! The installation that the benches ask: the policy folder of this repository, a person in five of
//! its groups, and one question of that person's.

use std::{fmt::Write, path::Path, sync::Arc};

use policy::{
    catalog::Catalog,
    engine::Engine,
    folder,
    model::{
        caller::{Authentication, Principal, Subject},
        decision::Revision,
        grant::{Group, Role},
        query::{Facts, PermissionId},
    },
    snapshot::{Issuer, PolicyText, Snapshot},
};

/// Of five products, one of them the product that is asked about. `midaz-viewer-group` holds what
/// [`permission`] asks for; nothing else here does.
pub const GROUPS: [&str; 5] = [
    "fetcher-viewer-group",
    "flowker-editor-group",
    "matcher-analyst-group",
    "midaz-viewer-group",
    "plugin-fees-contributor-group",
];

/// Three policies with conditions, in scope of every question. None of them turns this person away,
/// so each of them is evaluated to its end.
pub const CONDITIONS: &str = r#"
@id("people-show-a-second-factor")
forbid (principal is User, action, resource)
unless { context.mfa };

@id("nobody-from-the-guest-network")
forbid (principal, action, resource)
when { context has client && context.client.isInRange(ip("192.0.2.0/24")) };

@id("accountants-read-accounts")
permit (principal is User, action == Midaz::Action::"accounts:get", resource)
when { context.organization == "lerian" && context.amr.contains("pwd") };
"#;

/// A snapshot of the policy folder, with policies written by hand beside it.
pub fn snapshot(written: &str, issuer: Option<Issuer>) -> Arc<Snapshot> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies");
    let Catalog { products, mut policies } =
        folder::read(&folder).expect("the policy folder holds");
    policies.push(PolicyText { file: "written.cedar".into(), product: None, text: written.into() });
    Arc::new(Snapshot {
        revision: Revision(1),
        products,
        roles: Vec::new(),
        groups: Vec::new(),
        policies,
        issuer,
        guests: Vec::new(),
    })
}

/// The person who asks.
pub fn subject() -> Subject {
    let name = "a user id is a name";
    Subject {
        principal: Principal::User {
            org: "lerian".parse().expect("an organization's name"),
            id: "0190e6f0-7d2c-7a44-9b6e-3a1f5c2d8e07".parse().expect(name),
        },
        groups: GROUPS.iter().map(|group| group.parse().expect("a group's name")).collect(),
        roles: Arc::default(),
    }
}

/// How the person signed in.
pub fn authentication() -> Authentication {
    Authentication {
        acr: None,
        amr: vec!["pwd".to_owned(), "otp".to_owned(), "mfa".to_owned()],
        auth_time: Some(1_760_000_000),
    }
}

/// What is known of the request, as the gateway knows it.
pub fn facts(authentication: &Authentication) -> Facts<'_> {
    Facts {
        client: Some([127, 0, 0, 1].into()),
        now: 1_760_000_100,
        authentication: Some(authentication),
        parameters: &[
            ("organization_id", "0190e6f0-7d2c-7a44-9b6e-3a1f5c2d8e08"),
            ("ledger_id", "0190e6f0-7d2c-7a44-9b6e-3a1f5c2d8e09"),
            ("id", "0190e6f0-7d2c-7a44-9b6e-3a1f5c2d8e0a"),
        ],
    }
}

/// May this person read an account?
pub fn permission(engine: &Engine) -> PermissionId {
    engine.permission("midaz", "accounts", "get").expect("the product declares it")
}

/// Ids of groups that exist nowhere else.
fn group(n: u32) -> String {
    format!("grown-{n}-group")
}

/// A policy a group, as many as that; the first five are [`grown_subject`]'s.
pub fn written(policies: u32) -> String {
    let mut text = String::new();
    for n in 0..policies {
        let _ = writeln!(
            text,
            "@id(\"grant-{n}\")\npermit (principal in Group::\"lerian/{}\", \
             action in Midaz::Action::\"accounts:*\", resource);",
            group(n)
        );
    }
    text
}

/// As many groups with a role each, of the organization's own.
pub fn with_roles(roles: u32) -> Arc<Snapshot> {
    let org = Some("lerian".parse().expect("an organization's name"));
    let name = |n: u32| format!("grown-{n}-role").parse().expect("a role's name");
    let own = |n: u32| Role {
        name: name(n),
        org: org.clone(),
        product: "midaz".parse().expect("a product's name"),
        title: String::new(),
        grants: vec![
            "accounts:get".parse().expect("a grant"),
            "ledgers:*".parse().expect("a grant"),
        ],
    };
    let holding = |n: u32| Group {
        name: group(n).parse().expect("a group's name"),
        org: org.clone(),
        title: String::new(),
        roles: vec![name(n)],
    };
    let snapshot = snapshot("", None);
    let (roles, groups) = ((0..roles).map(own).collect(), (0..roles).map(holding).collect());
    Arc::new(Snapshot { roles, groups, ..(*snapshot).clone() })
}

/// The person who asks, in five more groups.
pub fn grown_subject() -> Subject {
    let subject = subject();
    let grown = (0..5).map(|n| group(n).parse().expect("a group's name"));
    Subject { groups: subject.groups.iter().cloned().chain(grown).collect(), ..subject }
}
