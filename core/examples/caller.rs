//! A complete caller: dials a number, plays a recording, writes down what it hears, sends a text, hangs up.
//!
//! ```text
//! cargo run --example caller -- HOME ENTRY NUMBER SPEECH.wav HEARD.wav
//! ```

use offhook::api::Command;
use offhook::audio::DeviceSpec;
use offhook::phone::{CallState, Phone};
use offhook::storage::{Home, NewAccount, Password};
use std::time::Duration;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [home, entry, number, speech, heard] = args.as_slice() else {
        return Err("usage: caller HOME ENTRY NUMBER SPEECH.wav HEARD.wav".into());
    };
    let accounts = Home::open(home)?;
    if accounts.accounts().await?.is_empty() {
        let password = Password::new("correct horse battery staple")?;
        accounts.create_account(NewAccount { id: "caller".parse()?, password }, |_tries| {}).await?;
    }
    let phone = Phone::builder(home)
        .entry([entry.clone()])
        .mic(DeviceSpec::File(speech.into()))
        .speaker(DeviceSpec::File(heard.into()))
        .build()
        .await?;
    let mut call = phone.dial(number).await?;
    println!("dialling {number}");
    if call.until(|s| *s == CallState::Active).await != CallState::Active {
        println!("no call: {}", call.ended().await.code());
        phone.shutdown().await;
        return Ok(());
    }
    println!("talking; control-C hangs up");
    phone.execute(Command::Text { number: number.clone(), body: "hello from the library".into() }).await?;
    tokio::select! {
        reason = call.ended() => println!("the call ended: {}", reason.code()),
        _ = tokio::signal::ctrl_c() => call.hang_up().await?,
        () = tokio::time::sleep(Duration::from_secs(30)) => call.hang_up().await?,
    }
    phone.shutdown().await;
    Ok(())
}
