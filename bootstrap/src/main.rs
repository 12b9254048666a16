//! `offhook-directory`: the directory node. See [`offhook_bootstrap`].

use std::process::ExitCode;

fn main() -> ExitCode {
    offhook_bootstrap::main()
}
