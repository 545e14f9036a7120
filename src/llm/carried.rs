//! What an attempt has paid for, carried over to the next one at its step.

use crate::tool::StepContext;

/// How far an attempt has come.
pub(super) trait Progress: Default + Send + 'static {
    /// Whether another attempt would have to pay for it again.
    fn is_paid_for(&self) -> bool;
}

/// The progress of an attempt. If this one is put off, turned away or dropped, the next one goes on from it.
pub(super) struct Carried<'a, P: Progress> {
    cx: &'a StepContext,
    pub(super) progress: P,
    /// Whether there will be nothing to go on with.
    pub(super) is_over: bool,
}

impl<'a, P: Progress> Carried<'a, P> {
    /// From where the last attempt was, or else from the beginning.
    pub(super) fn from_last(cx: &'a StepContext, begin: impl FnOnce() -> P) -> Self {
        Self { cx, progress: cx.carried_over().unwrap_or_else(begin), is_over: false }
    }
}

impl<P: Progress> Drop for Carried<'_, P> {
    fn drop(&mut self) {
        if !self.is_over && self.progress.is_paid_for() {
            self.cx.carry_over(std::mem::take(&mut self.progress));
        }
    }
}
