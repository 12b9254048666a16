//! `offhook-directory`: the directory node.

use clap::Parser;
use offhook_bootstrap::cli::{self, Arguments};
use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    match cli::run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("offhook-directory: {error}");
            error.exit_code()
        }
    }
}
