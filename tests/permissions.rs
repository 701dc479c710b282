//! Every route of Midaz × every built-in group, at every door with one answer: each dialect, real
//! servers, the gateway, and `/v1/authorize`; held against a table that a reviewer can read.
//!
//! A change of rights is a changed line in `golden/midaz-*.txt`; `INSTA_UPDATE=always` writes them.

use std::{collections::BTreeMap, fmt::Write, sync::Arc};

use futures_util::{StreamExt, stream};
use policy::{
    catalog::Catalog,
    folder,
    model::manifest::{Guard, Need},
};
use reqwest::Method;
use serde_json::json;

use crate::harness::{
    Person, Postern,
    doors::{DOORS, Question},
    front::{Front, Kind},
    policies,
    upstream::Upstream,
};

/// How many requests are under way at once.
const AT_ONCE: usize = 8;

struct Row {
    method: String,
    path: String,
    template: String,
    guards: Vec<Guard>,
}

fn rows(catalog: &Catalog, set: &str) -> Vec<Row> {
    let routes = catalog.routes("midaz", set).unwrap();
    let rows = routes.into_iter().map(|route| {
        let Need::Permissions(guards) = &route.needs else {
            panic!("{} asks for nothing", route.path)
        };
        Row {
            method: route.method.clone().unwrap_or_else(|| "GET".to_owned()),
            path: filled(&route.path),
            template: route.path.clone(),
            guards: guards.clone(),
        }
    });
    rows.collect()
}

/// The template with a value for each parameter.
fn filled(template: &str) -> String {
    let segment = |segment: &str| match segment.strip_prefix('{') {
        Some(_) => "0f8fad5b-d9cb-469f-a165-70867728950e".to_owned(),
        None => segment.to_owned(),
    };
    template.split('/').map(segment).collect::<Vec<_>>().join("/")
}

/// What the doors say to one person about one row, each by its name.
async fn ask(
    postern: &Postern,
    fronts: &[Front],
    person: &Person,
    row: &Row,
) -> Vec<(String, bool)> {
    let method = Method::from_bytes(row.method.as_bytes()).unwrap();
    let through = |at| postern.request(method.clone(), at, &row.path).bearer_auth(&person.token);
    let verdict = |status: u16| match status {
        200 => true,
        403 => false,
        other => panic!("{} {} answered {other}", row.method, row.path),
    };
    let mut said = Vec::new();
    let gateway = through(postern.gateway).send().await.unwrap();
    said.push(("gateway".to_owned(), verdict(gateway.status().as_u16())));
    for front in fronts {
        let answer = through(front.address).send().await.unwrap();
        said.push((format!("a real {:?}", front.kind), verdict(answer.status().as_u16())));
    }
    let question = Question {
        method: &row.method,
        target: &row.path,
        product: Some("midaz"),
        host: "ledger.example",
        token: Some(&person.token),
    };
    for door in DOORS {
        let answer = door.ask(postern, &question).await;
        said.push((format!("door {door:?}"), verdict(answer.status)));
    }
    let mut authorized = true;
    for Guard { product, permission } in &row.guards {
        let question = json!({
            "sub": format!("lerian/{}", person.id), "product": product,
            "resource": permission.resource, "action": permission.action,
        });
        let answer = postern.authorized(&person.token, &question).await;
        authorized &= answer["authorized"].as_bool().unwrap();
    }
    said.push(("authorize".to_owned(), authorized));
    said
}

async fn table(set: &str, kinds: &[Kind]) -> String {
    let catalog = folder::read(&policies()).unwrap();
    let upstream = Upstream::start().await;
    let postern = Postern::with(&format!(
        "[[product]]\nname = 'midaz'\nroutes = '{set}'\nupstream = 'http://{}'\n",
        upstream.address
    ))
    .await;
    let mut fronts = Vec::new();
    for kind in kinds {
        fronts.push(Front::start(*kind, &postern, upstream.address).await);
    }
    let admin = postern.admin().await;
    let mut people = BTreeMap::new();
    for group in catalog.groups() {
        let name = format!("p-{}", group.name);
        people.insert(
            group.name.to_string(),
            postern.person(&admin, &name, &[group.name.as_str()]).await,
        );
    }
    let rows: Vec<Arc<Row>> = rows(&catalog, set).into_iter().map(Arc::new).collect();
    let pairs =
        rows.iter().flat_map(|row| people.iter().map(move |(group, person)| (row, group, person)));
    let (postern, fronts) = (&postern, &fronts);
    let answers = stream::iter(pairs).map(|(row, group, person)| async move {
        let said = ask(postern, fronts, person, row).await;
        let (_, by_gateway) = said[0];
        let one = said.iter().all(|(_, verdict)| *verdict == by_gateway);
        assert!(one, "{group}: {} {}: the doors differ: {said:?}", row.method, row.path);
        (row, group, by_gateway)
    });
    let answers: Vec<_> = answers.buffered(AT_ONCE).collect().await;
    let mut allowed: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    for (row, group, yes) in &answers {
        let groups = allowed.entry((&row.template, &row.method)).or_default();
        if *yes {
            groups.push(group.strip_suffix("-group").unwrap_or(group));
        }
    }
    let mut text = String::new();
    for row in &rows {
        let guards: Vec<String> =
            row.guards.iter().map(|g| format!("{}::{}", g.product, g.permission)).collect();
        let groups = allowed[&(row.template.as_str(), row.method.as_str())].join(" ");
        writeln!(
            text,
            "{:6} {}\n       {}: {groups}",
            row.method,
            row.template,
            guards.join(" & ")
        )
        .unwrap();
    }
    text
}

fn hold(set: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("golden");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(format!("midaz-{set}"), text));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_of_midaz_v4_has_one_answer_at_every_door() {
    hold(
        "v4",
        &table("v4", &[Kind::Nginx, Kind::Caddy, Kind::Haproxy, Kind::Envoy, Kind::EnvoyGrpc])
            .await,
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_of_midaz_v3_8_has_one_answer_at_every_door() {
    hold("v3.8", &table("v3.8", &[Kind::Haproxy]).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_of_midaz_v3_5_has_one_answer_at_every_door() {
    hold("v3.5", &table("v3.5", &[Kind::EnvoyGrpc]).await);
}
