//! Changes under load, and the directory killed at random moments: what it has acknowledged must be there.

use std::collections::BTreeSet;
use std::time::Duration;

use offhook_proto::list::{Audit, Change};
use offhook_proto::number::{ChosenNumber, Number};
use offhook_proto::request::{Action, Digest};
use reqwest::{Method, StatusCode};
use serde::Serialize;
use serde_json::json;
use tokio::runtime::Runtime;
use tokio::sync::watch;

use super::accounts::{Account, Api, bytes, text};
use super::{BenchError, other};
use crate::bench::progress;
use crate::draws::Draws;
use crate::people::KNOWN;
use crate::phone::{Directory, DirectoryPlan};
use crate::postgres::Postgres;

/// Kills on each database.
pub(super) const KILLS: u32 = 100;
/// Kills until another, empty directory takes its place: an account may change its backup only so often.
const IN_A_LIFE: u32 = 10;
/// When it is killed, counted from the first change that was acknowledged, ms.
const MOMENTS_MS: (f64, f64) = (0.0, 150.0);
const NAME: &str = "example.org";
/// Numbers that an account asks for; it may have 8.
const NUMBERS: usize = 6;

/// What was found.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Found {
    pub(super) kills: u32,
    pub(super) acknowledged: u64,
    pub(super) lost: u64,
}

/// What somebody has been told is kept.
struct Holder {
    account: Account,
    token: String,
    /// The version of his backup; he may have sent the next one, of which he was told nothing.
    version: u64,
    /// Numbers that were issued to him, and how many he has asked for.
    numbers: Vec<String>,
    asked: u32,
}

/// Kills on SQLite, then on PostgreSQL.
pub(super) fn measure() -> Result<Found, BenchError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let mut found = Found::default();
    let mut draws = Draws::new(5);
    let postgres = Postgres::start().map_err(other)?;
    for is_postgres in [false, true] {
        for _ in 0..KILLS / IN_A_LIFE {
            let url = if is_postgres { Some(postgres.database().map_err(other)?) } else { None };
            life(&runtime, url, &mut draws, &mut found)?;
        }
        let place = if is_postgres { "PostgreSQL" } else { "SQLite" };
        progress(&format!(
            "{} kills so far ({place}): {} changes, {} lost",
            found.kills, found.acknowledged, found.lost
        ));
    }
    Ok(found)
}

/// A directory from its first start until it has been killed [`IN_A_LIFE`] times.
fn life(
    runtime: &Runtime,
    database: Option<String>,
    draws: &mut Draws,
    found: &mut Found,
) -> Result<(), BenchError> {
    let mut extra = ["--site-proxy", "127.0.0.1", "--name", NAME].map(str::to_owned).to_vec();
    extra.extend(database.into_iter().flat_map(|url| ["--database".to_owned(), url]));
    let mut directory =
        Directory::start(None, DirectoryPlan { site: true, extra, ..DirectoryPlan::default() })?;
    let mut holders = runtime.block_on(sign_up(site(&directory)?))?;
    for _ in 0..IN_A_LIFE {
        let moment = Duration::from_secs_f64(draws.between(MOMENTS_MS.0, MOMENTS_MS.1) / 1e3);
        let api = runtime.block_on(Api::new(site(&directory)?))?;
        let (loads, mut acknowledged) = load(runtime, &api, holders);
        runtime
            .block_on(async { acknowledged.wait_for(|count| *count > 0).await.map(|_| ()) })
            .map_err(other)?;
        // The moment of the kill is what is drawn here; nothing more is waited for.
        std::thread::sleep(moment);
        directory.process.kill();
        holders = runtime.block_on(ended(loads))?;
        directory.restart(None)?;
        found.kills += 1;
        found.acknowledged += *acknowledged.borrow();
        let api = runtime.block_on(Api::new(site(&directory)?))?;
        found.lost += runtime.block_on(missing(&api, &mut holders))?;
    }
    Ok(())
}

fn site(directory: &Directory) -> Result<&str, BenchError> {
    directory.site().ok_or_else(|| other("no site"))
}

async fn sign_up(site: &str) -> Result<Vec<Holder>, BenchError> {
    let api = Api::new(site).await?;
    let mut holders = Vec::new();
    for n in 1..=KNOWN {
        let account = Account::new(n)?;
        let token = api.sign_up(&account).await?;
        holders.push(Holder { account, token, version: 1, numbers: Vec::new(), asked: 0 });
    }
    Ok(holders)
}

type Load = tokio::task::JoinHandle<Holder>;

/// Everybody changes something, until nobody answers; how much of it was acknowledged.
fn load(runtime: &Runtime, api: &Api, holders: Vec<Holder>) -> (Vec<Load>, watch::Receiver<u64>) {
    let (count, counted) = watch::channel(0);
    let each = |mut holder: Holder| {
        let (api, count) = (api.clone(), count.clone());
        runtime.spawn(async move {
            // A number, as long as he may have more, and backups.
            let mut is_on = holder.numbers.len() >= NUMBERS || holder.claim(&api, &count).await;
            while is_on {
                is_on = holder.keep(&api, &count).await;
            }
            holder
        })
    };
    (holders.into_iter().map(each).collect(), counted)
}

async fn ended(loads: Vec<Load>) -> Result<Vec<Holder>, BenchError> {
    let mut holders = Vec::new();
    for load in loads {
        holders.push(load.await.map_err(other)?);
    }
    Ok(holders)
}

impl Holder {
    /// Asks for a number; whether the directory has answered that it is his.
    async fn claim(&mut self, api: &Api, count: &watch::Sender<u64>) -> bool {
        let name = format!("{}x{}", self.account.id, self.asked);
        self.asked += 1;
        let Ok(number) = ChosenNumber::new(&name, Some(NAME)) else { return false };
        let action = Action::Claim { number: Number::Chosen(number), transfer: None };
        let body = json!({ "number": name, "signed": api.sign(&self.account, action) });
        let is_kept =
            self.ask(api, Method::POST, "/account/numbers", body).await == Some(StatusCode::CREATED);
        if is_kept {
            self.numbers.push(name);
            count.send_modify(|count| *count += 1);
        }
        is_kept
    }

    /// Sends a backup; whether the directory has answered that it keeps it.
    async fn keep(&mut self, api: &Api, count: &watch::Sender<u64>) -> bool {
        let version = self.version + 1;
        let Ok(backup) = self.account.backup(version) else { return false };
        let action = Action::Backup { version, backup: Digest::of(&backup) };
        let body =
            json!({ "version": version, "data": text(&backup), "signed": api.sign(&self.account, action) });
        let status = self.ask(api, Method::PUT, "/account/backup", body).await;
        let is_kept = status.is_some_and(|status| status.is_success());
        if is_kept {
            self.version = version;
            count.send_modify(|count| *count += 1);
        }
        is_kept
    }

    async fn ask(
        &self,
        api: &Api,
        method: Method,
        path: &str,
        body: serde_json::Value,
    ) -> Option<StatusCode> {
        let answer = api.ask(method, path, self.account.network, Some(&self.token), Some(body)).await;
        answer.ok().map(|(status, _)| status)
    }
}

/// How much of what was acknowledged is not there. The list has to be in order, too.
async fn missing(api: &Api, holders: &mut [Holder]) -> Result<u64, BenchError> {
    let mut lost = 0;
    let listed = listed(api).await?;
    for holder in holders {
        lost += holder.numbers.iter().filter(|name| !listed.contains(*name)).count() as u64;
        let (network, token) = (holder.account.network, Some(&*holder.token));
        let (status, answer) = api.ask(Method::GET, "/account/backup", network, token, None).await?;
        let version = answer["version"].as_u64().unwrap_or(0);
        // What was sent and not acknowledged may have been kept.
        let may_be = [holder.version, holder.version + 1].contains(&version);
        if !status.is_success() || !may_be || !is_backup(&bytes(&answer["data"]), version) {
            lost += 1;
        }
        holder.version = version;
    }
    Ok(lost)
}

fn is_backup(data: &[u8], version: u64) -> bool {
    offhook_proto::backup::SealedBackup::from_bytes(data).is_ok_and(|sealed| sealed.version() == version)
}

/// The names on the public list, after an audit of it.
async fn listed(api: &Api) -> Result<BTreeSet<String>, BenchError> {
    let mut audit = Audit::new(api.directory(), &[]);
    let mut names = BTreeSet::new();
    loop {
        let path = format!("/list?from={}", audit.length());
        let (_, page) = api.ask(Method::GET, &path, 250, None, None).await?;
        let entries = page["entries"].as_array().cloned().unwrap_or_default();
        for entry in &entries {
            let entry =
                audit.take(&bytes(entry)).map_err(|finding| other(format!("the list: {finding:?}")))?;
            if let (Change::Issued { .. }, Number::Chosen(number)) = (&entry.change, entry.change.number()) {
                names.insert(number.name().to_owned());
            }
        }
        if entries.is_empty() {
            return Ok(names);
        }
    }
}
