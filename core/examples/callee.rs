//! A complete callee: makes an account if there is none, goes on line, answers every call with a recording,
//! and writes down what it hears.
//!
//! ```text
//! cargo run --example callee -- HOME ENTRY SPEECH.wav HEARD.wav
//! ```

#![allow(clippy::wildcard_enum_match_arm, reason = "a short example looks at a few events only")]

use futures::StreamExt;
use offhook::api::Event;
use offhook::audio::DeviceSpec;
use offhook::phone::{CallState, Phone};
use offhook::storage::{Home, NewAccount, Password};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [home, entry, speech, heard] = args.as_slice() else {
        return Err("usage: callee HOME ENTRY SPEECH.wav HEARD.wav".into());
    };
    let accounts = Home::open(home)?;
    if accounts.accounts().await?.is_empty() {
        let password = Password::new("correct horse battery staple")?;
        accounts.create_account(NewAccount { id: "callee".parse()?, password }, |_tries| {}).await?;
    }
    let phone = Phone::builder(home)
        .entry([entry.clone()])
        .mic(DeviceSpec::File(speech.into()))
        .speaker(DeviceSpec::File(heard.into()))
        .build()
        .await?;
    let mut events = phone.events();
    let mut incoming = phone.incoming();
    loop {
        tokio::select! {
            Some(event) = events.next() => match event.event {
                Event::Online { number } => println!("my number is {number}"),
                Event::Text { from, body, .. } => println!("{from} writes: {body}"),
                Event::Ended { reason, duration_ms, .. } => {
                    println!("ended ({}) after {duration_ms} ms", reason.code());
                }
                _ => {}
            },
            Some(mut call) = incoming.next() => {
                println!("it rings");
                call.accept().await?;
                call.until(|s| *s == CallState::Active).await;
            }
            _ = tokio::signal::ctrl_c() => break,
        }
    }
    phone.shutdown().await;
    Ok(())
}
