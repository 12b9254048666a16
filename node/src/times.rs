//! Times of day on days of the week, as people type and read them.

use offhook::api::{Day, QuietTime};

const USAGE: &str = "Days and times, such as `mon-fri 22:00-7:00 sat,sun 23:30-9:00`, or `none`.";

/// Understands `mon-fri 22:00-7:00 sat,sun 23:30-9:00`, or `none`.
pub fn parse(typed: &str) -> Result<Vec<QuietTime>, String> {
    let words: Vec<String> = typed.split_whitespace().map(str::to_lowercase).collect();
    if words.len() == 1 && words[0] == "none" {
        return Ok(Vec::new());
    }
    if words.is_empty() || !words.len().is_multiple_of(2) {
        return Err(USAGE.into());
    }
    let pairs = words.chunks_exact(2);
    pairs.map(|pair| time(&pair[0], &pair[1])).collect::<Option<_>>().ok_or_else(|| USAGE.into())
}

/// The same way back.
pub fn shown(times: &[QuietTime]) -> String {
    if times.is_empty() {
        return "none".into();
    }
    times.iter().map(one).collect::<Vec<_>>().join(" ")
}

fn time(days: &str, hours: &str) -> Option<QuietTime> {
    let (from, to) = hours.split_once('-')?;
    Some(QuietTime { days: self::days(days)?, from: minute(from)?, to: minute(to)? })
}

fn days(typed: &str) -> Option<Vec<Day>> {
    if typed == "daily" {
        return Some(Day::ALL.to_vec());
    }
    let mut wanted = [false; 7];
    for part in typed.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let place = |name: &str| Day::ALL.iter().position(|day| day.code() == name);
        let (mut at, last) = (place(first)?, place(last)?);
        wanted[at] = true;
        while at != last {
            at = (at + 1) % 7;
            wanted[at] = true;
        }
    }
    Some(Day::ALL.into_iter().zip(wanted).filter(|(_, wanted)| *wanted).map(|(day, _)| day).collect())
}

/// `24:00` is the end of a day: midnight.
fn minute(typed: &str) -> Option<u16> {
    let (hour, minute) = typed.split_once(':').unwrap_or((typed, "0"));
    let (hour, minute): (u16, u16) = (hour.parse().ok()?, minute.parse().ok()?);
    let minutes = hour.checked_mul(60)?.checked_add(minute)?;
    (minute < 60 && minutes <= 24 * 60).then_some(minutes % (24 * 60))
}

fn one(time: &QuietTime) -> String {
    let clock = |minutes: u16| format!("{}:{:02}", minutes / 60, minutes % 60);
    format!("{} {}-{}", named(&time.days), clock(time.from), clock(time.to))
}

/// Three and more in a row as a range.
fn named(days: &[Day]) -> String {
    if Day::ALL.iter().all(|day| days.contains(day)) {
        return "daily".into();
    }
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for at in (0..7).filter(|at| days.contains(&Day::ALL[*at])) {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == at => *last = at,
            _ => runs.push((at, at)),
        }
    }
    let code = |at: usize| Day::ALL[at].code();
    let run = |(first, last): (usize, usize)| match last - first {
        0 => code(first).to_owned(),
        1 => format!("{},{}", code(first), code(last)),
        _ => format!("{}-{}", code(first), code(last)),
    };
    runs.into_iter().map(run).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_understood_and_shown_the_same_way() {
        for (typed, shown) in [
            ("daily 22:00-7:00", "daily 22:00-7:00"),
            ("Mon-Fri 22-7 sat,sun 23:30-9:00", "mon-fri 22:00-7:00 sat,sun 23:30-9:00"),
            ("sat-mon 0:00-24:00", "mon,sat,sun 0:00-0:00"),
            ("none", "none"),
        ] {
            assert_eq!(super::shown(&parse(typed).unwrap()), shown, "{typed}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for typed in
            ["", "daily", "22:00-7:00", "mon 25:00-7:00", "mon 22:60-7:00", "mo 1-2", "mon 1", "none 1-2"]
        {
            assert!(parse(typed).is_err(), "{typed}");
        }
    }
}
