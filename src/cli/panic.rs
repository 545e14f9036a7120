//! What happens when this program has a bug.

use std::panic::{self, UnwindSafe};
use std::sync::{Mutex, PoisonError};

use anstyle::Style;
use plandag::report::ExitCode;

use super::secrets;
use super::style::{self, paint};
use super::text;

/// What the last panic said. A panic in a tool is caught and becomes a failed step, so it is only shown if the whole
/// program goes down.
static LAST: Mutex<Option<String>> = Mutex::new(None);

/// Runs `command`; if it panics, says how to report that.
pub(crate) fn guard(command: impl FnOnce() -> ExitCode + UnwindSafe) -> ExitCode {
    panic::set_hook(Box::new(|info| {
        tracing::debug!("{info}");
        *LAST.lock().unwrap_or_else(PoisonError::into_inner) = Some(info.to_string());
    }));
    panic::catch_unwind(command).unwrap_or_else(|_| {
        report("internal.panic", &last().unwrap_or_default());
        ExitCode::Internal
    })
}

/// What the last panic said, if there was one.
pub(crate) fn last() -> Option<String> {
    LAST.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// What whoever reports a bug is asked for.
pub(crate) fn how_to_report() -> String {
    format!(
        "please report it, with the lines above, the command, and this: plandag {} on {} {}",
        env!("CARGO_PKG_VERSION"),
        std::env::consts::OS,
        std::env::consts::ARCH,
    )
}

/// Says that something is a bug, and how to report it.
pub(crate) fn report(code: &str, what: &str) {
    let error = paint(style::ERROR, &format!("error[{code}]"));
    let title = paint(Style::new().bold(), "this is a bug in plandag, not something you did");
    let what = secrets::known().redact(what);
    let what = text::lines(&what);
    let help = paint(style::HELP, "help");
    anstream::eprintln!(
        "{error}: {title}\n  {}\n  {help}: {}\n  {}",
        what.trim_end().replace('\n', "\n  "),
        how_to_report(),
        paint(style::FAINT, &format!("(exit {})", ExitCode::Internal.code())),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_exit_code() {
        assert_eq!(guard(|| panic!("boom")), ExitCode::Internal);
        assert!(last().is_some_and(|text| text.contains("boom")), "{:?}", last());
        assert_eq!(guard(|| ExitCode::Success), ExitCode::Success);
    }
}
