//! What a sound device calls runs before everything else, and is heard when it is late: it must not allocate, free, wait or log.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::path::Path;

use cpal::I24;
use offhook::audio::callbacks::callbacks;

/// Counts what the watched thread asks of the memory allocator.
struct Counting;

thread_local! {
    /// `None` while nobody watches.
    static COUNT: Cell<Option<usize>> = const { Cell::new(None) };
}

fn count() {
    // A thread that ends has nothing to be counted any more.
    let _ = COUNT.try_with(|count| count.set(count.get().map(|n| n + 1)));
}

// SAFETY: everything is the system allocator's; counting neither allocates nor touches the memory.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as promised to us.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        count();
        // SAFETY: as promised to us.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as promised to us.
        unsafe { System.realloc(memory, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How often `act` allocates, frees or moves memory.
fn watched(act: impl FnOnce()) -> usize {
    COUNT.with(|count| count.set(Some(0)));
    act();
    COUNT.with(|count| count.take().unwrap())
}

#[test]
fn q7_callbacks_of_sound_devices_touch_their_ring_and_nothing_else() {
    // The watch works.
    assert_eq!(watched(|| drop(vec![0u8; 100])), 2);
    assert_eq!(watched(|| ()), 0);
    // A device's life: it records and plays, finds the ring full and empty, stumbles and is lost.
    macro_rules! life {
        ($sample:ty, $value:expr) => {
            for channels in [1usize, 2, 6] {
                let (mut record, mut play, mut fail) = callbacks::<$sample>(channels, 960);
                let recorded = vec![$value; 480 * channels];
                let mut played = vec![$value; 480 * channels];
                let touched = watched(|| {
                    for _ in 0..4 {
                        record(&recorded, &());
                    }
                    for _ in 0..4 {
                        play(&mut played, &());
                    }
                    record(&recorded[..7 * channels], &());
                    play(&mut played, &());
                    fail(false);
                    fail(true);
                });
                assert_eq!(touched, 0, "{} on {channels} channels", stringify!($sample));
            }
        };
    }
    life!(f32, 0.5);
    life!(i16, 1_000);
    life!(I24, I24::new(100_000).unwrap());
    life!(i32, 1_000_000);
    life!(u8, 140);
}

#[test]
fn q7_callbacks_of_sound_devices_wait_for_nobody() {
    // What waits need not allocate, so this is read instead.
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/audio/device/ring.rs");
    let source = std::fs::read_to_string(source).unwrap();
    let code: Vec<&str> = source.lines().take_while(|line| !line.starts_with("#[cfg(test)]")).collect();
    assert!(code.len() > 40, "the callbacks are there");
    for word in
        ["Mutex", "RwLock", "Condvar", "mpsc", "lock(", "sleep", "tracing", "println", "std::fs", "SeqCst"]
    {
        let found: Vec<_> =
            code.iter().filter(|line| line.contains(word) && !line.trim_start().starts_with("//")).collect();
        assert!(found.is_empty(), "{word}: {found:?}");
    }
}
