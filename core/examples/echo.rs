//! Sound of a program's own, without any sound device: a callee that says what it hears again, a second later.
//!
//! ```text
//! offhook --home HOME account new echo
//! cargo run --example echo -- HOME ENTRY
//! ```

use offhook::audio::{BLOCK_LEN, Block, CustomDevice, DeviceSpec, Processing};
use offhook::phone::{AnswerMode, Phone};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

/// Blocks of 10 ms between hearing and saying.
const DELAY: usize = 100;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [home, entry] = args.as_slice() else { return Err("usage: echo HOME ENTRY".into()) };

    // One call at a time: what it heard and has not said yet.
    let heard: Arc<Mutex<VecDeque<Block>>> = Arc::default();
    let to_say = heard.clone();
    let mic = CustomDevice::microphone(move || {
        let to_say = to_say.clone();
        move |block: &mut Block| {
            let mut waiting = to_say.lock().unwrap_or_else(PoisonError::into_inner);
            let next = if waiting.len() > DELAY { waiting.pop_front() } else { None };
            *block = next.unwrap_or([0.0; BLOCK_LEN]);
        }
    });
    let speaker = CustomDevice::loudspeaker(move || {
        let heard = heard.clone();
        heard.lock().unwrap_or_else(PoisonError::into_inner).clear();
        move |block: &Block| heard.lock().unwrap_or_else(PoisonError::into_inner).push_back(*block)
    });

    let phone = Phone::builder(home)
        .entry([entry.clone()])
        .mic(DeviceSpec::Custom(mic))
        .speaker(DeviceSpec::Custom(speaker))
        // What is said here is an echo, which would be taken out of it.
        .processing(Processing::NONE)
        .ringer(DeviceSpec::None)
        .tones(false)
        .answer(AnswerMode::Auto)
        .build()
        .await?;
    phone.online().await?;
    println!("my number is {}", phone.number());
    tokio::signal::ctrl_c().await?;
    phone.shutdown().await;
    Ok(())
}
