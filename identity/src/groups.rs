//! Rules of groups. Those of the products are looked at here and changed nowhere.

use std::collections::HashMap;

use policy::model::name::{GroupName, RoleName};

use crate::{
    admin::{Admin, Foreseen},
    app::App,
    error::Error,
    holdings::Holdings,
    model::{
        event::{Change, Event},
        group::Group,
    },
    store::Window,
    words,
};

/// A group and the user names of its members.
pub type Populated = (Group, Vec<String>);

/// What is to be changed of a group; `None` stays as it is.
#[derive(Debug, Default)]
pub struct Patch {
    pub title: Option<String>,
    pub roles: Option<Vec<String>>,
}

/// Every group of the organization, with its members.
pub async fn list(app: &App, by: &Admin) -> Result<Vec<Populated>, Error> {
    let mut tx = app.store.read(by.org()).await?;
    let mut members: HashMap<String, Vec<String>> = tx.members().await?;
    let holdings = Holdings::read(app, &mut tx).await?;
    let populated = |group: &Group| {
        let members = members.remove(group.name.as_str()).unwrap_or_default();
        (holdings.whole(group), members)
    };
    Ok(holdings.groups().iter().map(populated).collect())
}

/// A group.
pub async fn get(app: &App, by: &Admin, name: &GroupName) -> Result<Populated, Error> {
    let mut tx = app.store.read(by.org()).await?;
    let holdings = Holdings::read(app, &mut tx).await?;
    let group = holdings.whole(holdings.group(name).ok_or(Error::NoSuchGroup)?);
    let members = tx.members_of(name).await?;
    Ok((group, members))
}

/// Make a group. Its roles may permit no more than the caller may do.
pub async fn create(
    app: &App,
    by: &Admin,
    name: GroupName,
    title: String,
    names: &[String],
) -> Result<Group, Error> {
    words::line(&title).map_err(|rule| Error::rule("name", rule))?;
    let roles = roles(names)?;
    let then = Foreseen::group(app, by.org(), &name, &roles, true).await?;
    let (mut tx, reach) = by.begin(app).await?;
    let holdings = Holdings::read(app, &mut tx).await?;
    if imitates(app, &name, &title) || tx.group_taken(&name).await? {
        return Err(Error::GroupTaken);
    }
    let most = app.config.max_own_groups;
    if tx.own_group_count().await? >= most {
        return Err(Error::Full { what: "groups of the organization's own", most });
    }
    reach.gives(&holdings.of_roles(&roles)?)?;
    reach.shapes(by.org(), &then)?;
    let group = Group { name, title, roles, built_in: false, created_at: app.clock.now() };
    tx.add_group(&group).await?;
    app.audit(&mut tx, by, Event::GroupCreated, &group.name, Change::made(&group));
    tx.move_revision().await?;
    app.commit(tx).await?;
    tracing::info!(by = %by.principal(), group.name = %group.name, "made group {}", group.name);
    Ok(group)
}

/// Change a group. Roles that are added may permit no more than the caller may do.
pub async fn patch(
    app: &App,
    by: &Admin,
    name: &GroupName,
    patch: Patch,
) -> Result<Populated, Error> {
    let wanted = patch.roles.as_deref().map(roles).transpose()?;
    let then = match &wanted {
        Some(roles) => Some(Foreseen::group(app, by.org(), name, roles, false).await?),
        None => None,
    };
    let (mut tx, reach) = by.begin(app).await?;
    let holdings = Holdings::read(app, &mut tx).await?;
    let mut group = own(&holdings, name)?;
    let was = group.clone();
    if let Some(title) = patch.title {
        words::line(&title).map_err(|rule| Error::rule("name", rule))?;
        if imitates(app, name, &title) {
            return Err(Error::GroupTaken);
        }
        group.title = title;
    }
    if let Some(mut wanted) = wanted {
        // What a product says that it holds is not for an administrator to give or to take.
        wanted.retain(|role| !holdings.declared(name).contains(role));
        let added: Vec<_> =
            wanted.iter().filter(|role| !group.roles.contains(role)).cloned().collect();
        reach.gives(&holdings.of_roles(&added)?)?;
        group.roles = wanted;
    }
    then.map_or(Ok(()), |then| reach.shapes(by.org(), &then))?;
    let before = holdings.administered(&mut tx).await?;
    let changed = (group.roles != was.roles).then(|| app.clock.now());
    tx.update_group(&group, changed).await?;
    holdings.still_administered(&mut tx, before).await?;
    tx.move_revision().await?;
    let members = tx.members_of(name).await?;
    app.audit(&mut tx, by, Event::GroupChanged, name, Change::between(&was, &group));
    app.commit(tx).await?;
    tracing::info!(by = %by.principal(), group.name = %name, "changed group {name}");
    Ok((holdings.whole(&group), members))
}

/// Remove a group that nobody is in.
pub async fn remove(app: &App, by: &Admin, name: &GroupName) -> Result<(), Error> {
    let (mut tx, _) = by.begin(app).await?;
    let holdings = Holdings::read(app, &mut tx).await?;
    let group = own(&holdings, name)?;
    if !holdings.declared(name).is_empty() {
        return Err(Error::BuiltIn);
    }
    if tx.member_count(name).await? > 0 {
        return Err(Error::GroupHasMembers);
    }
    // Or a later one of its name would have people in it whom nobody has put there.
    let providers = tx.identity_providers(Window::ALL).await?;
    if providers.iter().any(|provider| provider.details.gives().contains(name)) {
        return Err(Error::GroupMapped);
    }
    tx.remove_group(name).await?;
    app.audit(&mut tx, by, Event::GroupRemoved, name, Change::lost(&group));
    tx.move_revision().await?;
    app.commit(tx).await?;
    tracing::info!(by = %by.principal(), group.name = %name, "removed group {name}");
    Ok(())
}

fn own(holdings: &Holdings<'_>, name: &GroupName) -> Result<Group, Error> {
    match holdings.group(name) {
        None => Err(Error::NoSuchGroup),
        Some(group) if group.built_in => Err(Error::BuiltIn),
        Some(group) => Ok(group.clone()),
    }
}

/// Whether people could take a group for one of the products'.
fn imitates(app: &App, name: &GroupName, title: &str) -> bool {
    app.catalog().groups().any(|group| {
        words::fold(group.name.as_str()) == words::fold(name.as_str())
            || !group.title.is_empty() && words::fold(&group.title) == words::fold(title.trim())
    })
}

fn roles(names: &[String]) -> Result<Vec<RoleName>, Error> {
    let mut roles = Vec::new();
    for name in names {
        roles.push(name.parse::<RoleName>().map_err(|_| Error::NoSuchRole)?);
    }
    roles.sort();
    roles.dedup();
    Ok(roles)
}
