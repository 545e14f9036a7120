//! What somebody has to know to be let in. All of it is drawn anew each time a server starts.

use std::io;
use std::sync::{Mutex, PoisonError};

use subtle::ConstantTimeEq as _;

/// Bytes of chance in each key.
const BYTES: usize = 24;

/// The keys of a server.
pub(super) struct Keys {
    /// Opens the pages, once it was in an address; scripts send it along with every request.
    token: String,
    /// Opens the pages once: whatever is in the address that a browser is started with, every user of the machine can read.
    ticket: Mutex<Option<String>>,
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
        Ok(Self { token: random()?, ticket: Mutex::default(), session: random()?, form: random()? })
    }

    pub(super) fn token(&self) -> &str {
        &self.token
    }

    /// A ticket in the place of the one before, which is of no use any more.
    pub(super) fn new_ticket(&self) -> io::Result<String> {
        let ticket = random()?;
        *self.ticket.lock().unwrap_or_else(PoisonError::into_inner) = Some(ticket.clone());
        Ok(ticket)
    }

    /// Takes a ticket.
    pub(super) fn takes(&self, text: &str) -> bool {
        let mut ticket = self.ticket.lock().unwrap_or_else(PoisonError::into_inner);
        ticket.take_if(|ticket| is_same(ticket, text)).is_some()
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
