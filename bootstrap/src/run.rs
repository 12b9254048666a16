//! `offhook-directory run` and `config`.

use std::collections::BTreeSet;
use std::io::{IsTerminal, Write};

use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info};
use tracing_subscriber::EnvFilter;

use crate::cli::Failure;
use crate::directory::{Directory, DirectoryError};
use crate::front::FrontError;
use crate::key::KeyError;
use crate::settings::{LogFormat, Settings};
use crate::web::SiteError;

/// Prints the settings in effect.
pub(crate) fn print_config(settings: &Settings) -> Result<(), Failure> {
    let text = toml::to_string(settings).map_err(|error| failed(&error))?;
    print!("{text}");
    Ok(())
}

/// Runs a directory until it is told to stop.
pub(crate) fn run(settings: &Settings, json: bool) -> Result<(), Failure> {
    start_log(settings)?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|error| failed(&error))?;
    runtime.block_on(serve(settings, json))
}

async fn serve(settings: &Settings, json: bool) -> Result<(), Failure> {
    // Before anything is bound, so that an early signal is not missed.
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| failed(&error))?;
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| failed(&error))?;
    let mut hangup = signal(SignalKind::hangup()).map_err(|error| failed(&error))?;
    let directory = Directory::bind(settings).await.map_err(|error| refused(&error))?;
    info!(peer_id = directory.id().to_peer_id(), "directory");
    print_ready(&directory, json);
    let printer = tokio::spawn(print_addresses(directory.watch(), json));
    loop {
        tokio::select! {
            _ = interrupt.recv() => break info!("interrupted"),
            _ = terminate.recv() => break info!("terminated"),
            _ = hangup.recv() => reload(&directory),
        }
    }
    printer.abort();
    tokio::select! {
        () = directory.shutdown() => {}
        // Whoever asks twice is in a hurry.
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}

/// What SIGHUP asks for: whoever has renewed a certificate need not restart the directory.
fn reload(directory: &Directory) {
    match directory.reload() {
        Ok(true) => info!("the front shows the certificate that is in its files now"),
        Ok(false) => info!("no certificate is configured: there is nothing to read again"),
        Err(error) => {
            error!(%error, "the certificate could not be read again; the front shows the one before")
        }
    }
}

/// Prints each address once, as soon as it is there.
async fn print_addresses(mut watch: tokio::sync::watch::Receiver<offhook::net::NetStatus>, json: bool) {
    let mut printed = BTreeSet::new();
    loop {
        let addresses = watch.borrow_and_update().addresses.clone();
        for addr in addresses {
            if printed.insert(addr.clone()) {
                print_line(&if json {
                    json!({ "event": "listening", "addr": addr.as_str() }).to_string()
                } else {
                    addr.to_string()
                });
            }
        }
        if watch.changed().await.is_err() {
            return;
        }
    }
}

fn print_ready(directory: &Directory, json: bool) {
    let (http, stun) = (directory.http_addr(), directory.stun_addr());
    let (turn, front) = (directory.turn_addr(), directory.front_addr());
    let site = directory.site_addr();
    let id = directory.id().to_peer_id();
    if json {
        let ready = json!({
            "event": "ready", "peer_id": id, "http": http, "stun": stun, "turn": turn, "front": front,
            "site": site,
        });
        print_line(&ready.to_string());
        return;
    }
    print_line(&format!("directory {id}"));
    if let Some(http) = http {
        print_line(&format!("metrics http://{http}/metrics"));
    }
    if let Some(stun) = stun {
        print_line(&format!("stun {stun}"));
    }
    if let Some(turn) = turn {
        print_line(&format!("turn {turn}"));
    }
    if let Some(front) = front {
        print_line(&format!("front {front}"));
    }
    if let Some(site) = site {
        print_line(&format!("site http://{site}"));
    }
}

/// A reader that has gone is no reason to stop serving.
fn print_line(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

fn start_log(settings: &Settings) -> Result<(), Failure> {
    let filter = settings.log.clone().unwrap_or_default();
    let filter = EnvFilter::builder()
        .parse(&filter)
        .map_err(|error| Failure { code: 2, sentence: format!("\"{filter}\" is no log filter: {error}") })?;
    // It logs addresses of clients and their peers at every level.
    let silent = "turn_server_proto=off".parse().expect("a directive");
    let filter = filter.add_directive(silent);
    let colours = std::io::stderr().is_terminal();
    let log =
        tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr);
    match settings.log_format.unwrap_or_default() {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
    Ok(())
}

fn failed(error: &dyn std::error::Error) -> Failure {
    Failure { code: 1, sentence: error.to_string() }
}

fn refused(error: &DirectoryError) -> Failure {
    let hint = match error {
        DirectoryError::Http(_) => "; choose another address with --http, or \"none\"",
        DirectoryError::Relay(_) => "; without it: --relay=false",
        DirectoryError::Front(FrontError::Listen { .. }) => "; without it: --front none",
        DirectoryError::Site(SiteError::Listen { .. }) => "; choose another address with --site, or \"none\"",
        DirectoryError::Net(_)
        | DirectoryError::Key(_)
        | DirectoryError::Front(_)
        | DirectoryError::Site(_) => "",
    };
    Failure { code: code_of(error), sentence: format!("{error}{hint}") }
}

/// Wrong addresses and keys are the operator's to correct, and starting again does not help; the rest is the system's.
fn code_of(error: &DirectoryError) -> u8 {
    use crate::store::StoreError;
    use offhook::net::NetError;
    use offhook::relay::RelayError;
    match error {
        DirectoryError::Net(NetError::Addr { .. })
        | DirectoryError::Relay(RelayError::NoPorts(..))
        | DirectoryError::Front(
            FrontError::Half
            | FrontError::Key(KeyError::Exposed { .. } | KeyError::Damaged { .. }),
        )
        | DirectoryError::Key(KeyError::Exposed { .. } | KeyError::Damaged { .. })
        | DirectoryError::Site(
            SiteError::Key(KeyError::Exposed { .. } | KeyError::Damaged { .. })
            | SiteError::OpaqueKey(_)
            | SiteError::Url(_)
            | SiteError::Name(_)
            | SiteError::Store(
                StoreError::NoDatabase(_)
                | StoreError::NoBlobPlace(_)
                | StoreError::Foreign(_)
                | StoreError::NewerVersion,
            ),
        ) => 2,
        DirectoryError::Net(
            NetError::Listen { .. }
            | NetError::Stun { .. }
            | NetError::Store(_)
            | NetError::Mdns(_)
            | NetError::Transport(_),
        )
        | DirectoryError::Key(KeyError::Io { .. })
        | DirectoryError::Relay(RelayError::Listen { .. } | RelayError::NoAddress)
        | DirectoryError::Front(
            FrontError::Listen { .. }
            | FrontError::Read { .. }
            // Mostly a pair of which one half is not renewed yet: a moment later it fits.
            | FrontError::Identity { .. }
            | FrontError::Key(KeyError::Io { .. }),
        )
        | DirectoryError::Http(_)
        | DirectoryError::Site(
            SiteError::Listen { .. }
            | SiteError::Key(KeyError::Io { .. })
            | SiteError::Store(
                StoreError::Refused(_)
                | StoreError::Database(_)
                | StoreError::Migration(_)
                | StoreError::Io { .. }
                | StoreError::Blobs(_)
                | StoreError::Damaged(_)
                | StoreError::OtherTools
                | StoreError::Closed,
            ),
        ) => 1,
    }
}
