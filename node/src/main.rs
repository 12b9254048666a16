//! `offhook`: the headless terminal. See [`offhook_node`].

use std::process::ExitCode;

fn main() -> ExitCode {
    offhook_node::main().into()
}
