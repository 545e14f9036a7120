//! What somebody has to know to be let in. All of it is drawn anew each time a server starts.

use std::io;

use subtle::ConstantTimeEq as _;

/// Bytes of chance in each key.
const BYTES: usize = 24;

/// The keys of a server.
pub(super) struct Keys {
    /// Opens the pages, once it was in an address; scripts send it along with every request.
    token: String,
    /// In the cookie of a browser that was let in.
    session: String,
    /// In the pages, and in every request of theirs that changes something: another site can have a browser send the
    /// cookie, but cannot read this.
    form: String,
}

impl Keys {
    /// # Errors
    ///
    /// If the system has no randomness to give.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { token: random()?, session: random()?, form: random()? })
    }

    pub(super) fn token(&self) -> &str {
        &self.token
    }

    pub(super) fn session(&self) -> &str {
        &self.session
    }

    pub(super) fn form(&self) -> &str {
        &self.form
    }

    pub(super) fn is_token(&self, text: &str) -> bool {
        is_same(&self.token, text)
    }

    pub(super) fn is_session(&self, text: &str) -> bool {
        is_same(&self.session, text)
    }

    pub(super) fn is_form(&self, text: &str) -> bool {
        is_same(&self.form, text)
    }
}

/// Takes the same time wherever the two differ.
fn is_same(key: &str, text: &str) -> bool {
    key.as_bytes().ct_eq(text.as_bytes()).into()
}

fn random() -> io::Result<String> {
    let mut bytes = [0; BYTES];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
