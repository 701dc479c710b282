//! AuthZEN over plain Cedar stores: folders with a schema of their author's own, asked by name.
//!
//! They are read at the start, and what is wrong with one stops it; what is changed later takes its
//! place as a whole, if it holds. A store knows no organizations, so only who is named in its
//! configuration may ask.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use policy::{
    complaint::{Complaints, Place},
    folder::{self, Folder},
    model::{
        caller::Principal,
        decision::{Decision, OnError, PolicyError, Revision},
    },
    store::{
        Store,
        access::{Access, Asked as Put, Named, Words},
    },
};

use super::{
    Answer, DOOR, Heard, Point,
    question::{Entity, Question, Sought},
    told,
};
use crate::{
    audit::{Asked, DecisionId},
    config::StoreConfig,
};

/// Every store of the configuration.
#[derive(Debug, Default)]
pub struct Stores(BTreeMap<String, Open>);

/// A store that holds.
#[derive(Debug)]
struct Open {
    config: StoreConfig,
    /// What is in force: a request takes it once, and keeps it to its end.
    access: ArcSwap<Access>,
}

impl Stores {
    /// Read and compile them.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with any of them.
    pub fn open(configs: &[StoreConfig], on_error: OnError) -> Result<Self, Complaints> {
        let mut stores = BTreeMap::new();
        let mut complaints = Vec::new();
        for config in configs {
            if stores.contains_key(&config.name) {
                let told = format!("two stores are named `{}`; give one another name", config.name);
                let place = Place::file(config.folder.display().to_string());
                complaints.push(place.complain(told));
                continue;
            }
            match compile(&config.folder) {
                Ok(store) => {
                    let access = ArcSwap::from_pointee(Access::new(store.with_errors(on_error)));
                    stores.insert(config.name.clone(), Open { config: config.clone(), access });
                }
                Err(told) => complaints.extend(told.into_vec()),
            }
        }
        Complaints::unless(complaints, Self(stores))
    }

    /// Each with its folder.
    pub fn folders(&self) -> impl Iterator<Item = (&str, &Path)> {
        self.0.iter().map(|(name, open)| (name.as_str(), open.config.folder.as_path()))
    }

    /// Read one again; `sure` is asked once it has been read, and if it is not, nothing changes.
    /// Whether what was read is in force.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it. What was in force stays.
    pub fn reread(&self, name: &str, sure: impl FnOnce() -> bool) -> Result<bool, Complaints> {
        let Some(open) = self.0.get(name) else { return Ok(false) };
        let store = compile(&open.config.folder)?;
        if !sure() {
            return Ok(false);
        }
        let on_error = open.access.load().store().on_error();
        open.access.store(Arc::new(Access::new(store.with_errors(on_error))));
        Ok(true)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// The store of that name, for somebody who may ask it. Which there are is not told to others.
    pub(super) fn for_asker<'a>(
        &'a self,
        heard: Heard<'a>,
        name: &str,
        asker: &'a Principal,
    ) -> Option<OneStore<'a>> {
        let open = self.0.get(name).filter(|open| open.config.hears(asker))?;
        Some(OneStore { heard, config: &open.config, access: open.access.load_full(), asker })
    }
}

fn compile(folder: &Path) -> Result<Store, Complaints> {
    match folder::open(folder)? {
        Folder::Store(source) => Store::compile(&source),
        Folder::Catalog(_) => {
            let told = "the folder holds products, and no plain Cedar store with a `schema.cedarschema`; products are asked without a store's name";
            Err(Place::file(folder.display().to_string()).complain(told).into())
        }
    }
}

/// One store, as one sender asks it.
#[derive(Debug)]
pub(super) struct OneStore<'a> {
    heard: Heard<'a>,
    config: &'a StoreConfig,
    access: Arc<Access>,
    asker: &'a Principal,
}

impl OneStore<'_> {
    /// What is denied because it cannot be asked has no words in Cedar.
    fn settle(&self, question: &Question<'_>) -> (Decision, Result<Put, String>) {
        let put = self.access.ask(&words(question)).map_err(|unasked| unasked.to_string());
        let decision = match &put {
            Ok(put) => self.access.decide(put),
            Err(_) => Decision::deny(Revision::default()),
        };
        (decision, put)
    }

    /// Which metrics and records count as.
    fn label(&self) -> String {
        format!("store/{}", self.config.name)
    }

    fn asked<'s>(&'s self, about: Option<&'s str>, took: Duration) -> Asked<'s> {
        Asked {
            door: DOOR,
            method: "-",
            path: "-",
            route: None,
            client: None,
            peer: Some(self.heard.peer),
            request_id: self.heard.request_id,
            asker: Some(self.asker),
            about,
            took,
        }
    }

    /// Why it is denied: a word, and a sentence.
    fn why(&self, decision: &Decision, put: &Result<Put, String>) -> (&'static str, String) {
        let store = self.access.store();
        let reason = || {
            let policies = store.policies().iter();
            let mut forbid = policies.filter(|policy| decision.policies.contains(&policy.id));
            forbid.find_map(|policy| policy.reason.as_deref().map(str::to_owned))
        };
        let denied = || "You are not allowed to do this.".to_owned();
        match put {
            Err(what) => ("no-question", format!("This cannot be asked: {what}.")),
            Ok(_) if store.on_error().denies(&decision.errors) => ("policy-error", denied()),
            Ok(_) if decision.forbidden() => ("forbidden", reason().unwrap_or_else(denied)),
            Ok(_) => ("no-permit", denied()),
        }
    }
}

impl Point for OneStore<'_> {
    fn decide(&self, question: &Question<'_>, reasons: bool) -> (DecisionId, Answer) {
        let started = Instant::now();
        let id = DecisionId::fresh();
        let (decision, put) = self.settle(question);
        let allowed = decision.allowed();
        let why = (!allowed).then(|| self.why(&decision, &put));
        let word = why.as_ref().map(|(word, _)| *word);
        let took = started.elapsed();
        let (verdict, label) = (if allowed { "allow" } else { "deny" }, self.label());
        self.heard.gate.metrics.decided(DOOR, &label, verdict, word.unwrap_or(""), took);
        for PolicyError { policy, .. } in &decision.errors {
            self.heard.gate.metrics.policy_failed(&format!("{label}/{policy}"));
        }
        let about = put.is_err().then(|| {
            let Question { subject, action, resource, .. } = question;
            let of = |entity: &Entity<'_>| format!("{}:{}", entity.kind, entity.id);
            let about = format!("{} {} {}", of(subject), action.name, of(resource));
            about.chars().take(384).collect::<String>()
        });
        let asked = self.asked(about.as_deref(), took);
        let put = put.as_ref().ok();
        self.heard.gate.audit.of_store(&asked, id, &self.config.name, put, &decision, word);
        let context = reasons.then(|| told(self.config.reasons, id, &decision, why));
        (id, Answer { decision: allowed, context: context.flatten() })
    }

    fn allows(&self, question: &Question<'_>) -> bool {
        self.settle(question).0.allowed()
    }

    fn candidates<'s>(
        &'s self,
        sought: Sought,
        question: &Question<'_>,
        after: Option<&str>,
    ) -> Box<dyn Iterator<Item = Arc<str>> + 's> {
        let access = &self.access;
        match sought {
            Sought::Subject => access.subjects(question.subject.kind, after),
            Sought::Resource => access.resources(question.resource.kind, after),
            Sought::Action => access.actions(after),
        }
    }

    fn searched(
        &self,
        sought: Sought,
        question: &Question<'_>,
        found: usize,
        took: Duration,
    ) -> DecisionId {
        let id = DecisionId::fresh();
        let label = self.label();
        self.heard.gate.metrics.decided(DOOR, &label, "searched", "", took);
        let what = format!("{label}: {}:{}", question.resource.kind, question.action.name);
        let who = format!("{}:{}", question.subject.kind, question.subject.id);
        let asked = self.asked(Some(&who), took);
        let sought = (sought.word(), what.as_str());
        self.heard.gate.audit.searched(&asked, id, Revision::default(), sought, found);
        id
    }
}

fn words<'a>(question: &Question<'a>) -> Words<'a> {
    let named = |entity: Entity<'a>| {
        let Entity { kind, id, properties } = entity;
        Named { kind, id, properties }
    };
    Words {
        subject: named(question.subject),
        action: question.action.name,
        action_properties: question.action.properties,
        resource: named(question.resource),
        context: question.context,
    }
}
