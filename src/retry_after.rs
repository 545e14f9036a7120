//! When a server wants to be asked again.

use std::time::SystemTime;

#[cfg(any(feature = "fetch", feature = "llm"))]
use reqwest::header::HeaderMap;

/// For how many milliseconds the server asks to be left alone, if it does.
#[cfg(any(feature = "fetch", feature = "llm"))]
pub(crate) fn pause_wanted(headers: &HeaderMap, now: SystemTime) -> Option<u64> {
    let text = |name: &str| headers.get(name)?.to_str().ok();
    // Servers of models have a finer one.
    let millis = text("retry-after-ms").and_then(|millis| count(millis.trim().parse().ok()?));
    millis.or_else(|| pause_ms(text("retry-after")?, now))
}

/// How many milliseconds a pause has: a number of seconds, or a date at which it ends.
pub(crate) fn pause_ms(text: &str, now: SystemTime) -> Option<u64> {
    let text = text.trim();
    if let Ok(seconds) = text.parse::<f64>() {
        return count(seconds * 1_000.0);
    }
    let pause = httpdate::parse_http_date(text).ok()?.duration_since(now).unwrap_or_default();
    u64::try_from(pause.as_micros().div_ceil(1_000)).ok()
}

/// Whoever is asked too early says no once more.
fn count(millis: f64) -> Option<u64> {
    (millis >= 0.0 && millis.is_finite()).then(|| millis.ceil() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_and_dates_are_understood() {
        let now = httpdate::parse_http_date("Wed, 21 Oct 2026 07:28:00 GMT").unwrap();
        let asked = |text: &str| pause_ms(text, now);
        assert_eq!(asked("120"), Some(120_000));
        assert_eq!(asked(" 0.25 "), Some(250));
        assert_eq!(asked("0"), Some(0));
        assert_eq!(asked("Wed, 21 Oct 2026 07:29:30 GMT"), Some(90_000));
        assert_eq!(asked("Wed, 21 Oct 2026 07:27:00 GMT"), Some(0));
        for nonsense in ["soon", "-5", "nan", "inf", ""] {
            assert_eq!(asked(nonsense), None, "{nonsense}");
        }
    }

    #[cfg(any(feature = "fetch", feature = "llm"))]
    #[test]
    fn milliseconds_go_before_seconds() {
        let now = SystemTime::now();
        let asked = |headers: &[(&'static str, &'static str)]| {
            let header = |(name, value): &(&'static str, &'static str)| (name.parse().unwrap(), value.parse().unwrap());
            pause_wanted(&headers.iter().map(header).collect(), now)
        };
        assert_eq!(asked(&[("retry-after-ms", "1500.5"), ("retry-after", "2")]), Some(1_501));
        assert_eq!(asked(&[("retry-after-ms", "soon"), ("retry-after", "2")]), Some(2_000));
        assert_eq!(asked(&[]), None);
    }
}
