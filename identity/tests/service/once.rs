//! What may be used once, in every order and by several at once: refresh tokens and their families,
//! authorization codes, second factors. Sequences are made up, and a model says what has to come of them;
//! where several race, what may.

use std::{collections::BTreeMap, sync::Arc};

use identity::Config;
use proptest::{
    collection::vec,
    prelude::*,
    sample::{Index, select},
    test_runner::{Config as Cases, TestRunner},
};
use serde_json::{Value, json};
use tokio::{runtime::Runtime, task::JoinSet};

use super::{
    code::{Browser, exchange, web_named},
    factors::{Enrolled, challenged, enrolled, step},
    harness::{Answer, Service},
    oauth::{App, TOKEN, text},
};

/// Run it for many sequences, on one service. `few` of them, or a fiftieth of `PROPTEST_CASES` where
/// that is set: each has requests, hashes and commits in it.
fn always<S: Strategy>(
    few: u32,
    strategy: &S,
    config: Config,
    so: &impl AsyncFn(&Arc<Service>, S::Value),
) {
    let asked = Cases::default().cases;
    let cases = if asked == 256 { few } else { asked.div_ceil(50) };
    let runtime = Runtime::new().unwrap();
    let service = Arc::new(runtime.block_on(Service::start_with(config)));
    let config =
        Cases { cases, max_shrink_iters: 64, failure_persistence: None, ..Cases::default() };
    let ran = TestRunner::new(config).run(strategy, |value| {
        runtime.block_on(so(&service, value));
        Ok(())
    });
    if let Err(error) = ran {
        panic!("{error}");
    }
}

/// Send all of them at once; the answers, in the order of the requests.
async fn at_once<T: Send + 'static>(all: Vec<impl Future<Output = T> + Send + 'static>) -> Vec<T> {
    let mut running = JoinSet::new();
    for (place, one) in all.into_iter().enumerate() {
        running.spawn(async move { (place, one.await) });
    }
    let done: BTreeMap<_, _> = running.join_all().await.into_iter().collect();
    done.into_values().collect()
}

async fn public(service: &Service, name: &str) -> App {
    web_named(service, name, json!({"public": true})).await
}

async fn opens(service: &Service, tokens: &Value) -> bool {
    service.get("/oauth2/userinfo", text(tokens, "access_token")).await.status == 200
}

async fn refreshed(service: Arc<Service>, client: String, token: String) -> Answer {
    let fields =
        [("grant_type", "refresh_token"), ("refresh_token", &token), ("client_id", &client)];
    service.form(TOKEN, &[], &fields).await
}

// --- refresh tokens

const LIFETIME: u64 = 600;
const RETRY: u64 = 60;

/// Which token of a family.
#[derive(Debug, Clone, Copy)]
enum Which {
    Newest,
    OneBefore,
    Any(Index),
}

#[derive(Debug, Clone)]
enum Act {
    Use(Which),
    Revoke(Which),
    LogOut,
}

#[derive(Debug, Clone)]
enum Step {
    AtOnce(Vec<Act>),
    Pass(u64),
}

fn which() -> impl Strategy<Value = Which> {
    prop_oneof![
        4 => Just(Which::Newest),
        2 => Just(Which::OneBefore),
        1 => any::<Index>().prop_map(Which::Any),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let act = prop_oneof![
        8 => which().prop_map(Act::Use),
        1 => which().prop_map(Act::Revoke),
        1 => Just(Act::LogOut),
    ];
    let step = prop_oneof![
        // One token, by several: what comes of it is certain.
        6 => (which(), 1..6_usize).prop_map(|(which, n)| Step::AtOnce(vec![Act::Use(which); n])),
        2 => vec(act, 2..5).prop_map(Step::AtOnce),
        3 => select(vec![1, RETRY - 1, RETRY, RETRY + 1, LIFETIME - 1, LIFETIME]).prop_map(Step::Pass),
    ];
    vec(step, 1..10)
}

/// A refresh token, as it ought to be.
struct Token {
    text: String,
    expires_at: u64,
    /// When it was used, and for which.
    used: Option<(u64, usize)>,
}

/// What has to come of a use.
#[derive(Debug, PartialEq)]
enum Due {
    Refusal,
    /// And everything ends.
    End,
    Successor,
    /// The answer that it gave before.
    Again(usize),
}

struct Family {
    service: Arc<Service>,
    client: String,
    id: String,
    tokens: Vec<Token>,
    /// The last answer.
    last: Value,
    ended: bool,
}

impl Family {
    async fn start(service: &Arc<Service>, app: &App, browser: &Browser) -> Self {
        let code = browser.code(service, app).await;
        let mut fields = exchange(&code).to_vec();
        fields.push(("client_id", &app.id));
        let last = service.form(TOKEN, &[], &fields).await.expect(200);
        let id = super::harness::claims(text(&last, "access_token"))["sid"].clone();
        let mut family = Self {
            service: Arc::clone(service),
            client: app.id.clone(),
            id: id.as_str().unwrap().to_owned(),
            tokens: Vec::new(),
            last: Value::Null,
            ended: false,
        };
        family.note(last);
        family
    }

    fn now(&self) -> u64 {
        self.service.clock.now()
    }

    fn note(&mut self, tokens: Value) {
        let text = text(&tokens, "refresh_token").to_owned();
        self.tokens.push(Token { text, expires_at: self.now() + LIFETIME, used: None });
        self.last = tokens;
    }

    fn place(&self, which: Which) -> usize {
        match which {
            Which::Newest => self.tokens.len() - 1,
            Which::OneBefore => self.tokens.len().saturating_sub(2),
            Which::Any(index) => index.index(self.tokens.len()),
        }
    }

    fn due(&self, place: usize) -> Due {
        let (token, now) = (&self.tokens[place], self.now());
        // Late is not stolen.
        if self.ended || token.expires_at <= now {
            return Due::Refusal;
        }
        match token.used {
            None => Due::Successor,
            Some((at, next)) if now < at + RETRY && self.tokens[next].used.is_none() => {
                Due::Again(next)
            }
            Some(_) => Due::End,
        }
    }

    async fn act(&mut self, acts: Vec<Act>) {
        let used: Vec<Option<usize>> = acts
            .iter()
            .map(|act| match act {
                Act::Use(which) => Some(self.place(*which)),
                Act::Revoke(_) | Act::LogOut => None,
            })
            .collect();
        let same = used.iter().all(|place| place.is_some() && *place == used[0]);
        let due = used[0].filter(|_| same).map(|place| self.due(place));
        let gone = self.ended;
        let running = acts.into_iter().map(|act| self.one(act)).collect();
        let answers: Vec<Answer> = at_once(running).await;

        let mut db = self.service.database().await;
        let of = format!("session_id = '{}' AND consumed_at IS NULL", self.id);
        let leaves = format!("SELECT COUNT(*) FROM refresh_tokens WHERE {of}");
        assert!(db.number(&leaves).await <= 1, "two branches");
        let going =
            format!("SELECT COUNT(*) FROM sessions WHERE id = '{}' AND ended_at IS NULL", self.id);
        self.ended = db.number(&going).await == 0;

        let before = self.tokens.len();
        for (place, answer) in used.iter().zip(answers) {
            let Some(place) = *place else {
                assert!(answer.status.as_u16() < 500, "{answer:?}");
                continue;
            };
            if answer.status != 200 {
                answer.refused_as(400, "invalid_grant");
                assert_ne!(due, Some(Due::Successor), "nobody else was there");
                assert!(!matches!(due, Some(Due::Again(_))), "the answer is lost");
                continue;
            }
            assert!(!gone, "an ended sign-in goes on");
            let tokens = answer.json();
            let given = text(&tokens, "refresh_token");
            let known = self.tokens.iter().position(|token| token.text == given);
            let next = known.unwrap_or(before);
            if known.is_none() {
                assert_eq!(self.tokens.len(), before, "two successors");
                assert_eq!(self.tokens[place].used, None, "a used token has another successor");
                self.note(tokens);
                self.tokens[place].used = Some((self.now(), next));
            }
            // Whoever comes second is told what the first was.
            assert_eq!(self.tokens[place].used.map(|(_, next)| next), Some(next));
            match due {
                Some(Due::Successor) => assert_eq!(next, before),
                Some(Due::Again(known)) => assert_eq!(next, known),
                Some(Due::Refusal | Due::End) => panic!("it should have been {due:?}"),
                None => {}
            }
        }
        match due {
            Some(Due::End) => assert!(self.ended, "a stolen token was used"),
            Some(_) => assert_eq!(self.ended, gone, "it ended, or came back"),
            None => assert!(self.ended || !gone, "it came back"),
        }
        if self.ended {
            assert!(
                !opens(&self.service, &self.last).await,
                "an access token outlives its sign-in"
            );
        }
    }

    fn one(&self, act: Act) -> impl Future<Output = Answer> + Send + 'static {
        let (service, client) = (Arc::clone(&self.service), self.client.clone());
        let token = match &act {
            Act::Use(which) | Act::Revoke(which) => self.tokens[self.place(*which)].text.clone(),
            Act::LogOut => text(&self.last, "id_token").to_owned(),
        };
        async move {
            let fields = [("token", token.as_str()), ("client_id", &client)];
            match act {
                Act::Use(_) => refreshed(service, client, token).await,
                Act::Revoke(_) => service.form("/oauth2/revoke", &[], &fields).await,
                Act::LogOut => {
                    let fields = [("id_token_hint", token.as_str())];
                    service.form("/v1/logout", &[], &fields).await
                }
            }
        }
    }
}

#[test]
fn r_a_family_of_refresh_tokens_has_one_living_leaf_and_ends_with_the_first_reuse() {
    let config =
        Config { access_token_secs: 300, refresh_token_secs: LIFETIME, ..Config::default() };
    always(24, &steps(), config, &async |service, steps| {
        let app = public(service, "Families").await;
        let browser = Browser::default();
        let mut family = Family::start(service, &app, &browser).await;
        for step in steps {
            match step {
                Step::AtOnce(acts) => family.act(acts).await,
                Step::Pass(seconds) => {
                    family.service.clock.advance(seconds);
                }
            }
        }
        // Whatever was before: after this nothing goes on.
        family.act(vec![Act::Use(Which::Newest), Act::LogOut]).await;
        for place in 0..family.tokens.len() {
            let token = family.tokens[place].text.clone();
            let answer = refreshed(Arc::clone(service), app.id.clone(), token).await;
            answer.refused_as(400, "invalid_grant");
        }
    });
}

// --- authorization codes

/// How somebody tries a code.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Try {
    Right,
    OtherClient,
    OtherAddress,
    OtherVerifier,
}

#[test]
fn c_a_code_is_good_once_for_whom_it_is_and_a_second_use_ends_what_it_gave() {
    let one = prop_oneof![
        3 => Just(Try::Right),
        1 => select(vec![Try::OtherClient, Try::OtherAddress, Try::OtherVerifier]),
    ];
    let strategy = vec((select(vec![0, 1, 59, 60, 61]), vec(one, 1..5)), 1..4);
    always(12, &strategy, Config::default(), &async |service, rounds| {
        let (ours, other) = (public(service, "Ours").await, public(service, "Other").await);
        let code = Browser::default().code(service, &ours).await;
        let born = service.clock.now();
        let (mut used, mut given) = (false, None);
        for (wait, tries) in rounds {
            service.clock.advance(wait);
            let late = service.clock.now() >= born + 60;
            let running = tries.iter().map(|one| {
                let client = if *one == Try::OtherClient { &other } else { &ours };
                let (service, code, client) =
                    (Arc::clone(service), code.clone(), client.id.clone());
                let one = *one;
                async move {
                    let mut fields = exchange(&code);
                    let verifier = "x".repeat(43);
                    match one {
                        Try::OtherAddress => fields[2].1 = "https://app.example.com/",
                        Try::OtherVerifier => fields[3].1 = &verifier,
                        Try::Right | Try::OtherClient => {}
                    }
                    let fields = [&fields[..], &[("client_id", &*client)]].concat();
                    service.form(TOKEN, &[], &fields).await
                }
            });
            let mut good = Vec::new();
            for (one, answer) in tries.iter().zip(at_once(running.collect()).await) {
                if answer.status == 200 {
                    assert_eq!(*one, Try::Right);
                    good.push(answer.json());
                } else {
                    answer.refused_as(400, "invalid_grant");
                }
            }
            assert!(good.len() <= usize::from(!used && !late), "a code was good again, or late");
            if !used && !late && tries.iter().all(|one| *one == Try::Right) {
                assert_eq!(good.len(), 1, "nobody got in");
            }
            let again = used || tries.len() > 1;
            used |= !late;
            given = good.pop().or(given);
            if let Some(tokens) = &given {
                assert_eq!(opens(service, tokens).await, !again, "what a used code gave");
                if again {
                    let token = text(tokens, "refresh_token").to_owned();
                    let answer = refreshed(Arc::clone(service), ours.id.clone(), token).await;
                    answer.refused_as(400, "invalid_grant");
                }
            }
        }
    });
}

// --- second factors

/// What somebody shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Shown {
    /// The code of the app as it is now.
    App,
    Recovery(usize),
    Wrong,
}

#[test]
fn m_a_challenge_a_step_of_time_and_a_recovery_code_are_each_good_once() {
    let shown = prop_oneof![
        3 => Just(Shown::App),
        3 => (1..4_usize).prop_map(Shown::Recovery),
        1 => Just(Shown::Wrong),
    ];
    // Tries of up to three challenges; few enough that nothing but use stops them.
    let round = vec((0..3_usize, shown), 1..5);
    let strategy = vec((any::<bool>(), round), 1..3);
    always(5, &strategy, Config::default(), &async |service, rounds| {
        let admin = service.admin().await;
        let name = format!("p{}", service.clock.now());
        service.clock.advance(3600);
        let Enrolled { phone, recovery, .. } = enrolled(service, &admin, &name, &[]).await;
        service.clock.advance(30);
        let asking = (0..3).map(|_| {
            let (service, name) = (Arc::clone(service), name.clone());
            async move { challenged(&service, &name).await }
        });
        let challenges = at_once(asking.collect()).await;
        let (mut met, mut spent, mut moment) = ([false; 3], Vec::new(), 0);
        for (next, tries) in rounds {
            if next {
                service.clock.advance(30);
                moment += 1;
            }
            let code = phone.code(service);
            let running = tries.iter().map(|(challenge, shown)| {
                let mut body = json!({"mfaToken": challenges[*challenge], "mfaType": "app"});
                match shown {
                    Shown::App => body["passcode"] = code.clone().into(),
                    Shown::Recovery(place) => {
                        body["recoveryCode"] = recovery[*place].clone().into();
                    }
                    Shown::Wrong => body["recoveryCode"] = "aaaaaa-aaaaaa".into(),
                }
                let service = Arc::clone(service);
                async move { step(&service, "verify", body).await }
            });
            let answers = at_once(running.collect()).await;
            let was = (met, spent.clone());
            for ((challenge, shown), answer) in tries.iter().zip(answers) {
                if answer.status != 200 {
                    let code = answer.expect(401)["code"].clone();
                    assert!(code == "AUT-1002" || code == "AUT-1003", "{code}");
                    continue;
                }
                assert_ne!(*shown, Shown::Wrong);
                assert!(
                    !std::mem::replace(&mut met[*challenge], true),
                    "a challenge was met twice"
                );
                // Recovery codes are for good, and a code of the app for its half minute.
                let what = (*shown, if *shown == Shown::App { moment } else { 0 });
                assert!(!spent.contains(&what), "{shown:?} was good twice");
                spent.push(what);
            }
            // Whoever had a chance, and was alone with it, has got in.
            if let [(challenge, shown)] = tries[..] {
                let what = (shown, if shown == Shown::App { moment } else { 0 });
                let good = shown != Shown::Wrong && !was.0[challenge] && !was.1.contains(&what);
                assert_eq!(met[challenge] && !was.0[challenge], good, "{shown:?}");
            }
        }
    });
}
