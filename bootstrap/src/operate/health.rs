//! `offhook-directory health`: for scripts and containers, which have no web client of their own.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::Value;

use super::{say, wrong};
use crate::cli::Failure;
use crate::settings::{AddrOrNone, Settings};

/// How long the directory may take to answer: longer than it waits for its database.
const ANSWER_TIME: Duration = Duration::from_secs(5);
/// How often one is asked that does not answer yet.
const EVERY: Duration = Duration::from_millis(200);
/// A longer answer tells nothing of health, bytes.
const MAX_ANSWER: u64 = 64 * 1024;

/// Who is asked, and how patiently.
#[derive(Args, Debug)]
pub(crate) struct HealthPlan {
    /// Where the directory serves /health [default: 127.0.0.1:9464]
    #[arg(long, env = "OFFHOOK_DIRECTORY_HTTP", value_name = "IP:PORT", hide_env_values = true)]
    http: Option<AddrOrNone>,

    /// Go on asking for so long, if it is not well or not there yet
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    wait: u64,

    /// Print what the directory says, as a JSON object
    #[arg(long)]
    json: bool,
}

impl HealthPlan {
    /// The settings that it is.
    pub(crate) fn settings(&self) -> Settings {
        Settings { http: self.http, ..Settings::default() }
    }
}

/// Asks until it is well or the time is over.
pub(crate) fn health(settings: &Settings, plan: &HealthPlan) -> Result<(), Failure> {
    let addr = settings.http.and_then(|http| http.0);
    let addr = addr.ok_or_else(|| wrong("/health is not served: `http` is \"none\" in the settings"))?;
    let end = Instant::now() + Duration::from_secs(plan.wait);
    let told = loop {
        match ask(addr) {
            Ok(told) => break told,
            Err(_) if Instant::now() < end => std::thread::sleep(EVERY),
            Err(sentence) => return Err(Failure { code: 1, sentence }),
        }
    };
    let number = |name: &str| told[name].as_u64().unwrap_or_default();
    let (peers, registered) = (number("peers"), number("registered"));
    say(plan.json, &format!("well: {peers} peers, {registered} terminals registered"), &told)
}

/// What it says of itself, if it is well.
fn ask(addr: SocketAddr) -> Result<Value, String> {
    let unreached = |error: std::io::Error| format!("nothing answers at http://{addr}/health: {error}");
    let mut stream = TcpStream::connect_timeout(&addr, ANSWER_TIME).map_err(unreached)?;
    stream.set_read_timeout(Some(ANSWER_TIME)).map_err(unreached)?;
    let request = format!("GET /health HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(unreached)?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut answer).map_err(unreached)?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    if head.split(' ').nth(1) == Some("200") {
        return serde_json::from_str(body.trim()).map_err(|_| format!("{addr} is no directory's"));
    }
    let line = head.lines().next().unwrap_or_default();
    Err(format!("it is not well: {line}: {}", body.trim()))
}
