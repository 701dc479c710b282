//! The SQL of people and their memberships.

use std::collections::HashMap;

use policy::model::name::{GroupName, UserId};

use super::{StoreError, Tx, Window, count, names, sql};
use crate::{
    model::user::{Credentials, Headcount, NewUser, User},
    words::fold,
};

#[derive(sqlx::FromRow)]
struct Row {
    #[sqlx(try_from = "String")]
    id: UserId,
    username: String,
    email: String,
    first_name: String,
    last_name: String,
    disabled_at: Option<i64>,
    #[sqlx(try_from = "i64")]
    created_at: u64,
}

/// Somebody with their groups.
#[derive(sqlx::FromRow)]
struct Whole {
    #[sqlx(flatten)]
    row: Row,
    group_names: Option<String>,
}

#[derive(sqlx::FromRow)]
struct Membership {
    user_id: String,
    #[sqlx(try_from = "String")]
    group_name: GroupName,
}

#[derive(sqlx::FromRow)]
struct CredentialsRow {
    #[sqlx(try_from = "String")]
    id: UserId,
    password_hash: String,
}

/// Of somebody disabled, nothing that any password fits.
macro_rules! hash {
    ($columns:literal, $rest:literal) => {
        concat!(
            "SELECT ",
            $columns,
            "CASE WHEN disabled_at IS NULL THEN password_hash ELSE '' END AS password_hash ",
            "FROM users WHERE org_id = $1 AND ",
            $rest
        )
    };
}
const BY_EMAIL: &str = hash!("id, ", "email_key = $3 AND $2 <> ''");
const BY_NAME: &str = hash!("id, ", "username_key = $3 AND username = $2");

impl Row {
    fn with(self, groups: Vec<GroupName>) -> User {
        let Self { id, username, email, first_name, last_name, disabled_at, created_at } = self;
        let disabled = disabled_at.is_some();
        User { id, username, email, first_name, last_name, groups, disabled, created_at }
    }
}

impl Tx {
    /// A person.
    pub async fn user(&mut self, id: &UserId) -> Result<Option<User>, StoreError> {
        const SQL: &str = "SELECT id, username, email, first_name, last_name, disabled_at, \
                           created_at, (SELECT string_agg(m.group_name, ' ' ORDER BY m.group_name) \
                           FROM memberships m WHERE m.org_id = users.org_id \
                           AND m.user_id = users.id) AS group_names \
                           FROM users WHERE org_id = $1 AND id = $2";
        let row: Option<Whole> = on!(self.conn, |c| sqlx::query_as(SQL)
            .bind(self.org.as_str())
            .bind(id.as_str())
            .fetch_optional(c)
            .await?);
        row.map(|Whole { row, group_names }| Ok(row.with(names(group_names.as_deref())?)))
            .transpose()
    }

    /// People, in the order they were made.
    pub async fn users(&mut self, window: Window) -> Result<Vec<User>, StoreError> {
        self.users_after((0, ""), window).await
    }

    /// People after one, in the order they were made; after nobody where that is `(0, "")`.
    pub async fn users_after(
        &mut self,
        (created_at, id): (u64, &str),
        window: Window,
    ) -> Result<Vec<User>, StoreError> {
        const SQL: &str = "SELECT id, username, email, first_name, last_name, disabled_at, \
                           created_at FROM users WHERE org_id = $1 AND (created_at, id) > ($2, $3) \
                           ORDER BY created_at, id LIMIT $4 OFFSET $5";
        let rows: Vec<Row> = on!(self.conn, |c| sqlx::query_as(SQL)
            .bind(self.org.as_str())
            .bind(sql(created_at))
            .bind(id)
            .bind(sql(window.limit))
            .bind(sql(window.offset))
            .fetch_all(c)
            .await?);
        let mut groups = self.groups_between(rows.first(), rows.last()).await?;
        let with_groups = |row: Row| {
            let groups = groups.remove(row.id.as_str()).unwrap_or_default();
            row.with(groups)
        };
        Ok(rows.into_iter().map(with_groups).collect())
    }

    /// The groups of all from one person to another, by id.
    async fn groups_between(
        &mut self,
        first: Option<&Row>,
        last: Option<&Row>,
    ) -> Result<HashMap<String, Vec<GroupName>>, StoreError> {
        const SQL: &str = "SELECT m.user_id, m.group_name FROM users u \
                           JOIN memberships m ON m.org_id = u.org_id AND m.user_id = u.id \
                           WHERE u.org_id = $1 AND (u.created_at, u.id) >= ($2, $3) \
                           AND (u.created_at, u.id) <= ($4, $5) ORDER BY m.group_name";
        let mut groups: HashMap<String, Vec<GroupName>> = HashMap::new();
        let Some((first, last)) = first.zip(last) else { return Ok(groups) };
        let rows: Vec<Membership> = on!(self.conn, |c| sqlx::query_as(SQL)
            .bind(self.org.as_str())
            .bind(sql(first.created_at))
            .bind(first.id.as_str())
            .bind(sql(last.created_at))
            .bind(last.id.as_str())
            .fetch_all(c)
            .await?);
        for Membership { user_id, group_name } in rows {
            groups.entry(user_id).or_default().push(group_name);
        }
        Ok(groups)
    }

    /// How many people there are, and how often any came or went.
    pub async fn user_count(&mut self) -> Result<Headcount, StoreError> {
        const SQL: &str = "SELECT people, moves FROM user_counts WHERE org_id = $1";
        let row: Option<(i64, i64)> = on!(self.conn, |c| sqlx::query_as(SQL)
            .bind(self.org.as_str())
            .fetch_optional(c)
            .await?);
        let (people, moves) = row.unwrap_or_default();
        Ok(Headcount { people: count(people), moves: count(moves) })
    }

    /// Who signs in under that user name, or that e-mail address in any case. The two are never the
    /// same text: only one of them has an `@`. Each is looked up by its key alone: asked for both at
    /// once, the database would read every person for each guess.
    pub async fn credentials(&mut self, login: &str) -> Result<Option<Credentials>, StoreError> {
        // PostgreSQL has no text with a NUL in it.
        if login.contains('\0') {
            return Ok(None);
        }
        let statement = if login.contains('@') { BY_EMAIL } else { BY_NAME };
        let row: Option<CredentialsRow> = on!(self.conn, |c| sqlx::query_as(statement)
            .bind(self.org.as_str())
            .bind(login)
            .bind(fold(login))
            .fetch_optional(c)
            .await?);
        Ok(row.map(|row| Credentials { id: row.id, password_hash: row.password_hash }))
    }

    /// The hash of whoever comes at a place among all people or next after it, to do for nobody the work
    /// that is done for somebody.
    pub async fn hash_at(&mut self, place: &str) -> Result<Option<String>, StoreError> {
        const SQL: &str = hash!("", "id >= $2 ORDER BY id LIMIT 1");
        Ok(on!(self.conn, |c| sqlx::query_scalar(SQL)
            .bind(self.org.as_str())
            .bind(place)
            .fetch_optional(c)
            .await?))
    }

    /// The hash of a person's password; empty for somebody disabled.
    pub async fn password_hash(&mut self, id: &UserId) -> Result<Option<String>, StoreError> {
        const SQL: &str = hash!("", "id = $2");
        Ok(on!(self.conn, |c| sqlx::query_scalar(SQL)
            .bind(self.org.as_str())
            .bind(id.as_str())
            .fetch_optional(c)
            .await?))
    }

    /// Whether somebody has that user name, in any case.
    pub async fn username_taken(&mut self, username: &str) -> Result<bool, StoreError> {
        const SQL: &str = "SELECT COUNT(*) FROM users WHERE org_id = $1 AND username_key = $2";
        let number: i64 = on!(self.conn, |c| sqlx::query_scalar(SQL)
            .bind(self.org.as_str())
            .bind(fold(username))
            .fetch_one(c)
            .await?);
        Ok(number > 0)
    }

    /// Whether somebody but `except` has that e-mail address, in any case.
    pub async fn email_taken(
        &mut self,
        email: &str,
        except: Option<&UserId>,
    ) -> Result<bool, StoreError> {
        const SQL: &str =
            "SELECT COUNT(*) FROM users WHERE org_id = $1 AND email_key = $2 AND id <> $3";
        let number: i64 = on!(self.conn, |c| sqlx::query_scalar(SQL)
            .bind(self.org.as_str())
            .bind(fold(email))
            .bind(except.map_or("", UserId::as_str))
            .fetch_one(c)
            .await?);
        Ok(number > 0)
    }

    /// Make a person.
    pub async fn add_user(&mut self, user: &NewUser, now: u64) -> Result<(), StoreError> {
        const SQL: &str = "INSERT INTO users (org_id, id, username, username_key, email, \
                           email_key, first_name, last_name, password_hash, created_at) \
                           VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
        run!(
            self.conn,
            sqlx::query(SQL)
                .bind(self.org.as_str())
                .bind(user.id.as_str())
                .bind(&user.username)
                .bind(fold(&user.username))
                .bind(&user.email)
                .bind(fold(&user.email))
                .bind(&user.first_name)
                .bind(&user.last_name)
                .bind(&user.password_hash)
                .bind(sql(now))
        );
        self.set_groups(&user.id, &user.groups, now).await
    }

    /// Change what a person is called, and how they are reached.
    pub async fn update_user(&mut self, user: &User) -> Result<(), StoreError> {
        const SQL: &str = "UPDATE users SET first_name = $3, last_name = $4, email = $5, \
                           email_key = $6 WHERE org_id = $1 AND id = $2";
        run!(
            self.conn,
            sqlx::query(SQL)
                .bind(self.org.as_str())
                .bind(user.id.as_str())
                .bind(&user.first_name)
                .bind(&user.last_name)
                .bind(&user.email)
                .bind(fold(&user.email))
        );
        Ok(())
    }

    /// Give a person another password.
    pub async fn set_password_hash(&mut self, id: &UserId, hash: &str) -> Result<(), StoreError> {
        const SQL: &str = "UPDATE users SET password_hash = $3 WHERE org_id = $1 AND id = $2";
        run!(self.conn, sqlx::query(SQL).bind(self.org.as_str()).bind(id.as_str()).bind(hash));
        Ok(())
    }

    /// Let nobody sign in as a person from now on, or let them again.
    pub async fn set_disabled(
        &mut self,
        id: &UserId,
        disabled_at: Option<u64>,
    ) -> Result<(), StoreError> {
        const SQL: &str = "UPDATE users SET disabled_at = $3 WHERE org_id = $1 AND id = $2";
        run!(
            self.conn,
            sqlx::query(SQL).bind(self.org.as_str()).bind(id.as_str()).bind(disabled_at.map(sql))
        );
        Ok(())
    }

    /// Remove a person, their memberships and their sign-ins.
    pub async fn remove_user(&mut self, id: &UserId) -> Result<(), StoreError> {
        const SQL: &str = "DELETE FROM users WHERE org_id = $1 AND id = $2";
        run!(self.conn, sqlx::query(SQL).bind(self.org.as_str()).bind(id.as_str()));
        Ok(())
    }

    /// A person's groups, in the order of their names.
    pub async fn groups_of(&mut self, id: &UserId) -> Result<Vec<GroupName>, StoreError> {
        const SQL: &str = "SELECT user_id, group_name FROM memberships \
                           WHERE org_id = $1 AND user_id = $2 ORDER BY group_name";
        let rows: Vec<Membership> = on!(self.conn, |c| sqlx::query_as(SQL)
            .bind(self.org.as_str())
            .bind(id.as_str())
            .fetch_all(c)
            .await?);
        Ok(rows.into_iter().map(|row| row.group_name).collect())
    }

    /// Put a person into these groups, and into no other.
    pub async fn set_groups(
        &mut self,
        id: &UserId,
        groups: &[GroupName],
        now: u64,
    ) -> Result<(), StoreError> {
        const LEAVE: &str =
            "DELETE FROM memberships WHERE org_id = $1 AND user_id = $2 AND group_name = $3";
        const JOIN: &str = "INSERT INTO memberships (org_id, user_id, group_name, added_at) \
                            VALUES ($1, $2, $3, $4)";
        let before = self.groups_of(id).await?;
        let org = self.org.clone();
        for group in before.iter().filter(|group| !groups.contains(group)) {
            run!(
                self.conn,
                sqlx::query(LEAVE).bind(org.as_str()).bind(id.as_str()).bind(group.as_str())
            );
        }
        for group in groups.iter().filter(|group| !before.contains(group)) {
            run!(
                self.conn,
                sqlx::query(JOIN)
                    .bind(org.as_str())
                    .bind(id.as_str())
                    .bind(group.as_str())
                    .bind(sql(now))
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{
        super::{Access, Conn, Database, Store},
        *,
    };

    #[tokio::test]
    async fn a_sign_in_reads_one_person_however_many_there_are() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("people.db");
        fs::write(&file, "").unwrap();
        let (store, _) = Store::open(&Database::Sqlite(file), folder.path()).await.unwrap();
        let mut conn = store.whole(Access::Read).await.unwrap();
        for statement in [BY_EMAIL, BY_NAME] {
            let Conn::Sqlite(tx) = &mut conn else { panic!("a file is SQLite's") };
            let explain = sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {statement}"));
            let plan: Vec<(i64, i64, i64, String)> =
                sqlx::query_as(explain).fetch_all(&mut **tx).await.unwrap();
            let [(.., step)] = &plan[..] else { panic!("{plan:?}") };
            assert!(step.contains("_key=?"), "{step}");
        }
    }
}
