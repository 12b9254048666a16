//! Dial pad, mute, hold and volume, by ear.

use offhook::api::{Command, Event, Reply, Volumes};
use offhook::audio::SAMPLE_RATE;
use offhook::storage::Home;

use crate::scene::{HUMS, directory, end, person, start, talk};

/// ITU-T Q.23: the key 5 is 770 and 1336 Hz.
const FIVE: (f64, f64) = (770.0, 1_336.0);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn q13_a_pressed_key_is_heard_at_both_ends_and_told() {
    let dir = directory().await;
    let ada = person(0, &dir, |builder| builder).await;
    let mut bob = person(1, &dir, |builder| builder).await;
    let call = talk(&ada, &mut bob, [HUMS[0], HUMS[1]]).await;
    call.dtmf("5").await.unwrap();
    ada.ear.heard_keys("one's own key, quieter", FIVE, 0.025).await;
    bob.ear.heard_keys("the other end's key", FIVE, 0.07).await;
    let digit = bob
        .sees("the key", |event| match event {
            Event::Dtmf { digit, .. } => Some(*digit),
            _ => None,
        })
        .await;
    assert_eq!(digit, '5');
    bob.ear.hears("the voice again", HUMS[0]).await;
    end([ada, bob], dir).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn q13_whoever_is_on_hold_hears_music_and_mute_survives_it() {
    let dir = directory().await;
    let mut ada = person(0, &dir, |builder| builder).await;
    let mut bob = person(1, &dir, |builder| builder).await;
    let call = talk(&ada, &mut bob, [HUMS[0], HUMS[1]]).await;
    call.mute(true).await.unwrap();
    bob.ear.hears_nothing("a muted microphone").await;
    bob.shows("muted by the other end", call.id(), |call| call.keys.remote_muted).await;
    call.hold(true).await.unwrap();
    bob.ear.hears_music().await;
    ada.ear.is_closed("who holds lets go of the loudspeaker").await;
    assert!(ada.call(call.id()).await.keys.held && ada.call(call.id()).await.keys.muted);
    bob.shows("put on hold", call.id(), |call| call.keys.remote_held && !call.keys.held).await;
    ada.sees("the hold", |event| matches!(event, Event::Hold { on: true, .. }).then_some(())).await;

    // Both at once; each takes back its own.
    bob.hold(call.id(), true).await;
    ada.shows("held by both", call.id(), |call| call.keys.held && call.keys.remote_held).await;
    bob.ear.is_closed("both let go").await;
    call.hold(false).await.unwrap();
    bob.shows("held here alone", call.id(), |call| call.keys.held && !call.keys.remote_held).await;
    ada.ear.hears_music().await;
    bob.hold(call.id(), false).await;
    ada.ear.hears("the voice again", HUMS[1]).await;
    bob.ear.hears_nothing("still muted").await;
    call.mute(false).await.unwrap();
    bob.ear.hears("and no longer", HUMS[0]).await;
    end([ada, bob], dir).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn q13_music_of_the_accounts_own_plays_and_the_music_box_comes_back() {
    let dir = directory().await;
    let ada = person(0, &dir, |builder| builder).await;
    let mut bob = person(1, &dir, |builder| builder).await;
    ada.phone.shutdown().await;
    let wav = ada.home.path().join("whistle.wav");
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: SAMPLE_RATE,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut writer = hound::WavWriter::create(&wav, spec).unwrap();
    for n in 0..SAMPLE_RATE {
        let turns = f64::from(n) * 1_500.0 / f64::from(SAMPLE_RATE);
        writer.write_sample(((turns * std::f64::consts::TAU).sin() * 6_000.0) as i16).unwrap();
    }
    writer.finalize().unwrap();
    let home = Home::open(ada.home.path()).unwrap();
    let id = "ada".parse().unwrap();
    home.set_hold_music(&id, Some(&wav)).await.unwrap();
    std::fs::remove_file(&wav).unwrap();
    let ada = start(0, &dir, ada.home, |builder| builder).await;
    let call = talk(&ada, &mut bob, [HUMS[0], HUMS[1]]).await;
    call.hold(true).await.unwrap();
    bob.ear.hears("the account's own music", 1_500.0).await;
    ada.phone.shutdown().await;
    home.set_hold_music(&id, None).await.unwrap();
    let ada = start(0, &dir, ada.home, |builder| builder).await;
    let call = talk(&ada, &mut bob, [HUMS[0], HUMS[1]]).await;
    call.hold(true).await.unwrap();
    bob.ear.hears_music().await;
    assert!(bob.ear.amount(1_500.0).unwrap() < 0.05);
    end([ada, bob], dir).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn q13_the_volume_is_heard_at_once_and_remembered() {
    let dir = directory().await;
    let ada = person(0, &dir, |builder| builder).await;
    let mut bob = person(1, &dir, |builder| builder).await;
    let volume = |call: Option<&str>, percent, ringer| Command::Volume {
        call: call.map(str::to_owned),
        percent: Some(percent),
        ringer,
    };
    let call = talk(&ada, &mut bob, [HUMS[0], HUMS[1]]).await;
    let level = async |low: f64, high: f64| {
        let heard = || ada.ear.amount(HUMS[1]).is_some_and(|amount| (low..high).contains(&amount));
        crate::scene::until(&format!("a level of {low} to {high}"), heard).await;
    };
    level(0.2, 0.3).await;
    ada.does(volume(None, 50, false)).await;
    level(0.1, 0.15).await;
    ada.does(volume(Some(call.id()), 200, false)).await;
    level(0.4, 0.6).await;
    assert_eq!(ada.call(call.id()).await.keys.volume, 200);
    ada.does(volume(None, 30, true)).await;
    let too_loud = ada.phone.execute(volume(None, 201, false)).await.unwrap_err();
    assert_eq!(too_loud.code, offhook::api::ErrorCode::BadInput);
    call.hang_up().await.unwrap();
    call.ended().await;
    ada.phone.shutdown().await;

    let ada = start(0, &dir, ada.home, |builder| builder).await;
    let told = ada.does(Command::Volume { call: None, percent: None, ringer: false }).await;
    assert_eq!(told, Reply::Volumes(Volumes { speaker: 50, ringer: 30 }));
    let call = talk(&ada, &mut bob, [HUMS[0], HUMS[1]]).await;
    assert_eq!(ada.call(call.id()).await.keys.volume, 50);
    let heard = || ada.ear.amount(HUMS[1]).is_some_and(|amount| (0.1..0.15).contains(&amount));
    crate::scene::until("the volume of the last run", heard).await;
    end([ada, bob], dir).await;
}
