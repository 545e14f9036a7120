//! What this process must not write anywhere: not on the terminal, not in a log, not in a journal.

use std::io;
use std::sync::LazyLock;

use plandag::Secrets;

/// The environment's secrets, and whatever is [added](Secrets::add) when a key is read from a file.
pub(crate) fn known() -> &'static Secrets {
    static KNOWN: LazyLock<Secrets> = LazyLock::new(Secrets::from_env);
    &KNOWN
}

/// Standard error, for a writer that knows no better. It takes out secrets that are written in one piece, as lines of a
/// log are.
pub(crate) struct RedactedStderr;

impl io::Write for RedactedStderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        io::stderr().lock().write_all(known().redact(&text).as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
