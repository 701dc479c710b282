//! Which records there are, and what is left out of them.

use smallvec::SmallVec;

use super::{sink::tests as sinks, *};
use crate::config::Reasons;

/// An audit whose lines can be read.
pub fn readable(config: &DecisionLog) -> (Audit, sinks::Text) {
    let (sink, text) = sinks::readable();
    let mask = Mask::new(&config.mask, config.mask_key.as_ref()).unwrap();
    let share = share(config.sample_allows);
    (Audit { sink: Some(sink), share, mask, access: config.access }, text)
}

pub const ASKED: Asked<'_> = Asked {
    door: "gateway",
    method: "GET",
    path: "/v1/things/secret-thing",
    route: Some("/v1/things/{id}"),
    client: None,
    peer: None,
    request_id: "r",
    asker: None,
    about: None,
    took: Duration::ZERO,
};

pub fn subject(principal: &str) -> Subject {
    Subject { principal: principal.parse().unwrap(), groups: [].into(), roles: [].into() }
}

/// A check that was answered with yes.
pub fn check(audit: &Audit, asked: &Asked<'_>, subject: &Subject, id: DecisionId) {
    let parameters = [("id".to_owned(), "secret-thing".to_owned())];
    let authentication = Authentication { acr: None, amr: Vec::new(), auth_time: None };
    let question = Question {
        subject,
        authentication: &authentication,
        parameters: &parameters,
        now: 7,
        several: None,
    };
    let mut decision = Decision::deny(Revision(1));
    decision.policies = SmallVec::from_iter([Arc::from("p")]);
    audit.checked(asked, id, question, Some("demo"), "demo::things:get", &decision);
}

#[test]
fn d_a_sample_is_of_what_was_let_through_and_no_denial_is_left_out() {
    let refusal = |id| Refusal {
        why: Why::NoToken,
        id,
        revision: Revision(1),
        product: None,
        reasons: Reasons::Full,
        sign_in: None,
    };
    let ids: Vec<DecisionId> = (0..2000).map(|_| DecisionId::fresh()).collect();
    let mut before: Option<String> = None;
    for share in [0.0, 0.25, 0.75, 1.0] {
        let config = DecisionLog { sample_allows: share, ..DecisionLog::default() };
        let (audit, text) = readable(&config);
        let somebody = subject("user:acme/ana");
        for some in ids.chunks(500) {
            for id in some {
                check(&audit, &ASKED, &somebody, *id);
                audit.refused(&ASKED, &refusal(*id));
            }
            // There is room for these, and not for all.
            audit.flush();
        }
        let text = sinks::read(&text);
        let count = |verdict: &str| text.lines().filter(|line| line.contains(verdict)).count();
        assert_eq!(count("\"verdict\":\"deny\""), ids.len());
        let allows = u32::try_from(count("\"verdict\":\"allow\"")).unwrap();
        assert!((f64::from(allows) / 2000.0 - share).abs() < 0.1, "{share}: {allows}");
        // A larger share has all of a smaller one.
        let ids_in = |text: &str| -> std::collections::BTreeSet<String> {
            let allows = text.lines().filter(|line| line.contains("\"allow\""));
            allows.map(|line| line.split("\"id\":").nth(1).unwrap()[..38].to_owned()).collect()
        };
        if let Some(before) = &before {
            assert!(ids_in(&text).is_superset(&ids_in(before)), "{share}");
        }
        before = Some(text);
    }
}

#[test]
fn nothing_is_written_where_it_is_off() {
    let config = toml::from_str("to = 'off'").unwrap();
    let audit = Audit::open(&config, crate::metrics::Metrics::new().log).unwrap();
    assert!(audit.sink.is_none() && !audit.has_access());
    check(&audit, &ASKED, &subject("user:acme/ana"), DecisionId::fresh());
}

#[test]
fn a_mask_leaves_nothing_by_which_somebody_is_known() {
    let key = Some(format!("{}-{}", Uuid::now_v7(), Uuid::now_v7()).into());
    let all = toml::from_str("mask = ['subject', 'client', 'parameters']").unwrap();
    let all = DecisionLog { mask_key: key, ..all };
    let ana = subject("user:acme/secret-ana");
    let other: Principal = "user:acme/secret-asker".parse().unwrap();
    let asked = Asked {
        client: Some("203.0.113.77".parse().unwrap()),
        peer: Some("2001:db8:1:2:3:4:5:6".parse().unwrap()),
        asker: Some(&other),
        about: Some("user:secret-about"),
        ..ASKED
    };
    let lines = |config: &DecisionLog| {
        let (audit, text) = readable(config);
        check(&audit, &asked, &ana, DecisionId::fresh());
        check(&audit, &asked, &ana, DecisionId::fresh());
        check(&audit, &asked, &subject("user:other/secret-ana"), DecisionId::fresh());
        // Nothing is known of what no route matches.
        let unrouted = Asked { route: None, ..asked };
        check(&audit, &unrouted, &ana, DecisionId::fresh());
        audit.flush();
        sinks::read(&text)
    };
    let plain = lines(&DecisionLog::default());
    for known in ["secret-ana", "secret-asker", "secret-about", "secret-thing", ".77", "3:4:5:6"] {
        assert!(plain.contains(known), "{known}: {plain}");
    }
    let masked = lines(&all);
    for known in ["secret", ".77", "3:4:5:6"] {
        assert!(!masked.contains(known), "{known}: {masked}");
    }
    for left in ["203.0.113.0", "2001:db8:1::", "/v1/things/{id}", "user:acme/masked-"] {
        assert!(masked.contains(left), "{left}: {masked}");
    }
    let read = |line: &str| match record::read(line.as_bytes()) {
        record::Line::Asked(asked) => asked.subject.principal,
        other => panic!("{other:?}"),
    };
    let who: Vec<Principal> = masked.lines().map(read).collect();
    assert_eq!(who[0], who[1], "one is one");
    assert_ne!(who[0].id(), who[2].id(), "and not somebody of another organization");
    assert_eq!(lines(&all).lines().map(read).next(), Some(who[0].clone()), "by that key");
    let other_key = DecisionLog { mask_key: None, ..all };
    assert_ne!(lines(&other_key).lines().map(read).next(), Some(who[0].clone()));
}
