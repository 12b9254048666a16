//! The demonstration, as people run it: `cargo xtask demo`.

use std::process::Command;

use offhook_tests::program::{binary, run};

use crate::{Outcome, exit};

/// What the demonstration itself takes for having been heard.
const HEARD: f64 = 0.7;

/// The fields of the last line, in their order.
const FIELDS: [&str; 5] = ["dial_to_ring_ms", "answer_to_audio_ms", "path", "heard_a", "heard_b"];

#[test]
fn the_demonstration_succeeds_and_says_so_in_its_last_line() -> Outcome {
    let output = run(Command::new(binary("offhook-demo")?), None, "")?;
    let (code, said) = exit(&output);
    let stdout = String::from_utf8(output.stdout)?;
    let line = stdout.lines().last().unwrap_or_default();
    let fields =
        line.strip_prefix("demo: ok ").ok_or_else(|| format!("the last line is not \"ok\":\n{said}"))?;
    let fields: Vec<(&str, &str)> = fields.split(' ').filter_map(|field| field.split_once('=')).collect();
    assert_eq!(fields.iter().map(|(name, _)| *name).collect::<Vec<_>>(), FIELDS, "{line}");
    let number = |at: usize| fields[at].1.parse::<f64>();
    assert!(number(0)? > 0.0 && number(1)? > 0.0, "{line}");
    assert_eq!(fields[2].1, "direct", "{line}");
    for at in [3, 4] {
        assert!((HEARD..=1.0).contains(&number(at)?), "{line}");
    }
    assert_eq!(code, 0, "{said}");
    Ok(())
}
