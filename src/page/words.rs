//! How numbers and states are written on a page.

/// The sign of a state: its shape alone says what it is.
pub(super) fn sign(state: &str) -> &'static str {
    match state {
        "succeeded" => "✓",
        "failed" => "✗",
        "running" => "▸",
        "retrying" => "↻",
        "expanded" => "⊞",
        "skipped" => "⊘",
        "superseded" => "–",
        "unknown" | "unapproved" => "?",
        "interrupted" | "cancelled" | "stopped" => "■",
        _ => "○",
    }
}

/// A length of time: three digits are enough to compare.
pub(super) fn time(micros: u64) -> String {
    let seconds = micros as f64 / 1_000_000.0;
    match micros {
        0..1_000 => format!("{micros} µs"),
        1_000..100_000 => format!("{:.1} ms", micros as f64 / 1_000.0),
        100_000..1_000_000 => format!("{:.0} ms", micros as f64 / 1_000.0),
        1_000_000..10_000_000 => format!("{seconds:.2} s"),
        10_000_000..60_000_000 => format!("{seconds:.1} s"),
        60_000_000..3_600_000_000 => format!("{} min {:02} s", micros / 60_000_000, micros / 1_000_000 % 60),
        _ => format!("{} h {:02} min", micros / 3_600_000_000, micros / 60_000_000 % 60),
    }
}

/// An amount of money.
pub(super) fn money(micro_usd: u64) -> String {
    format!("${:.3}", micro_usd as f64 / 1_000_000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_three_digits() {
        let times = [7, 1_500, 250_400, 1_234_567, 12_345_678, 75_000_000, 7_260_000_000];
        let words = ["7 µs", "1.5 ms", "250 ms", "1.23 s", "12.3 s", "1 min 15 s", "2 h 01 min"];
        assert_eq!(times.map(time), words.map(str::to_owned));
    }
}
