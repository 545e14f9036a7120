//! When a server wants to be asked again.

use std::time::{Duration, SystemTime};

#[cfg(feature = "fetch")]
use reqwest::header::{HeaderMap, RETRY_AFTER};

/// How long the server asks to be left alone, if it does.
#[cfg(feature = "fetch")]
pub(super) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    pause(headers.get(RETRY_AFTER)?.to_str().ok()?, now)
}

/// How long a pause is: a number of seconds, or a date at which it ends.
pub(super) fn pause(text: &str, now: SystemTime) -> Option<Duration> {
    let text = text.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_and_dates_are_understood() {
        let now = httpdate::parse_http_date("Wed, 21 Oct 2026 07:28:00 GMT").unwrap();
        let asked = |text: &str| pause(text, now).map(|pause| pause.as_secs());
        assert_eq!(asked("120"), Some(120));
        assert_eq!(asked("0"), Some(0));
        assert_eq!(asked("Wed, 21 Oct 2026 07:29:30 GMT"), Some(90));
        assert_eq!(asked("Wed, 21 Oct 2026 07:27:00 GMT"), Some(0));
        assert_eq!(asked("soon"), None);
        assert_eq!(asked("-5"), None);
    }
}
