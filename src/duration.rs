//! Durations as people write and read them.

use std::time::Duration;

/// The longest duration that is taken: longer ones are mistakes, and would overflow the run's clock.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// Reads `500ms`, `30s`, `1m30s`, `1.5h`.
///
/// # Errors
///
/// What is wrong with the text, in words for whoever wrote it. Also if it is shorter than a millisecond or longer than
/// a year.
pub fn parse(text: &str) -> Result<Duration, String> {
    let hint = || format!("`{text}` is not a time: write it like 500ms, 30s, 1m30s or 2h");
    let mut rest = text.trim();
    let mut total = 0.0;
    if rest.is_empty() {
        return Err(hint());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let number: f64 = rest[..digits].parse().map_err(|_| hint())?;
        let after = rest[digits..].trim_start();
        let letters = after.find(|c: char| !c.is_alphabetic()).unwrap_or(after.len());
        let seconds = match &after[..letters] {
            "ms" => 0.001,
            "s" | "sec" | "secs" => 1.0,
            "m" | "min" | "mins" => 60.0,
            "h" | "hour" | "hours" => 3600.0,
            "d" | "day" | "days" => 24.0 * 3600.0,
            "" => return Err(format!("`{text}` has no unit: did you mean {text}s, or {text}ms?")),
            _ => return Err(hint()),
        };
        total += number * seconds;
        rest = after[letters..].trim_start();
    }
    match Duration::try_from_secs_f64(total) {
        Ok(duration) if duration.as_millis() == 0 => Err("the shortest time is 1ms".to_owned()),
        Ok(duration) if duration <= LONGEST => Ok(duration),
        _ => Err("the longest time is 365d".to_owned()),
    }
}

/// Writes a duration with about three digits: `12ms`, `2.1s`, `1m 12s`, `3h 05m`.
pub fn human(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    match seconds {
        ..0.000_001 => "0ms".to_owned(),
        ..0.001 => format!("{}us", duration.as_micros()),
        // Rounding must not yield `1000ms`.
        ..0.999_5 => format!("{:.0}ms", seconds * 1_000.0),
        ..9.995 => format!("{seconds:.2}s"),
        ..59.95 => format!("{seconds:.1}s"),
        ..3_599.5 => {
            let seconds = seconds.round() as u64;
            format!("{}m {:02}s", seconds / 60, seconds % 60)
        }
        _ => {
            let minutes = (seconds / 60.0).round() as u64;
            format!("{}h {:02}m", minutes / 60, minutes % 60)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_write() {
        for (text, millis) in [
            ("500ms", 500),
            ("30s", 30_000),
            ("1m30s", 90_000),
            ("1.5h", 5_400_000),
            (" 2 min ", 120_000),
            ("1d", 86_400_000),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn refuses_what_it_cannot_be_sure_of() {
        for text in ["", "30", "s", "1.2.3s", "-1s", "5 parsecs", "0s", "0.0001ms", "1e9h", "999999d", "٣s", "1s ü"] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert_eq!(parse("30"), Err("`30` has no unit: did you mean 30s, or 30ms?".to_owned()));
    }

    #[test]
    fn writes_about_three_digits() {
        for (micros, text) in [
            (0, "0ms"),
            (250, "250us"),
            (12_000, "12ms"),
            (999_400, "999ms"),
            (999_600, "1.00s"),
            (2_104_000, "2.10s"),
            (27_430_000, "27.4s"),
            (59_960_000, "1m 00s"),
            (72_000_000, "1m 12s"),
            (11_100_000_000, "3h 05m"),
        ] {
            assert_eq!(human(Duration::from_micros(micros)), text);
        }
    }
}
