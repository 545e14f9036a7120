//! Calls that are given up while they are made, and what they have used.

use std::fmt;
use std::sync::{Arc, Weak};

use super::gate::Pass;
use super::price::Price;
use super::trouble::tokens;
use crate::event::Usage;
use crate::planner::PlanSink;
use crate::tool::StepContext;

/// Is told what a call has used that was sent, and is dropped before it has an answer. Whoever made it is told nothing
/// any more, and servers want to be paid all the same.
#[derive(Clone, Default)]
pub struct WhenDropped(Option<Arc<dyn Fn(Usage) + Send + Sync>>);

impl WhenDropped {
    /// Has `tell` told.
    pub fn new(tell: impl Fn(Usage) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(tell)))
    }

    /// Counts it for the attempt, without keeping that from its end.
    pub(super) fn of_step(cx: &StepContext) -> Self {
        let caller = Arc::downgrade(&cx.caller.0);
        Self::new(move |usage| Weak::upgrade(&caller).into_iter().for_each(|caller| caller.add_usage(usage)))
    }

    /// Counts it for the planner's request.
    pub(super) fn of_planner(sink: &PlanSink) -> Self {
        let sink = sink.clone();
        Self::new(move |usage| sink.lost(usage))
    }

    /// Says what was used.
    pub fn tell(&self, usage: Usage) {
        self.0.iter().for_each(|tell| tell(usage));
    }
}

/// It is no part of what is asked.
impl PartialEq for WhenDropped {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl fmt::Debug for WhenDropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WhenDropped")
    }
}

/// A call that was sent. If it is dropped before it is over, it has used what was sent, and what has come by then.
pub(super) struct Sent<'a> {
    pub(super) pass: &'a Pass<'a>,
    pub(super) when_dropped: Option<WhenDropped>,
    pub(super) price: Option<&'a Price>,
    /// How much was sent.
    pub(super) input_tokens: u64,
    /// How many bytes of an answer have come.
    pub(super) received: usize,
}

impl Sent<'_> {
    /// It has an answer, or an error, which says what it has used.
    pub(super) fn over(mut self) {
        self.when_dropped = None;
    }
}

impl Drop for Sent<'_> {
    fn drop(&mut self) {
        let Some(when_dropped) = self.when_dropped.take() else { return };
        let Self { input_tokens, received, price, .. } = *self;
        let mut usage = Usage { input_tokens, output_tokens: tokens(received), calls: 1, ..Usage::default() };
        self.pass.took(usage.tokens());
        if let Some(price) = price {
            price.charge(&mut usage);
        }
        when_dropped.tell(usage);
    }
}

/// What an answer has cost so far, for the case that nobody waits for it any more.
pub(super) struct Owed<'a> {
    pub(super) sink: &'a PlanSink,
    pub(super) usage: Usage,
}

impl Drop for Owed<'_> {
    fn drop(&mut self) {
        self.sink.lost(self.usage);
    }
}

#[cfg(test)]
mod tests {
    use super::super::RateLimits;
    use super::super::gate::Gate;
    use super::*;

    #[test]
    fn what_has_come_of_a_call_that_is_given_up_counts_for_its_minute() {
        let gate = Gate::new(RateLimits { tokens_per_minute: Some(1_000), ..RateLimits::default() });
        for (received, has_room) in [(400, true), (40_000, false)] {
            let pass = gate.pass_now(10).unwrap();
            let when_dropped = Some(WhenDropped::default());
            drop(Sent { pass: &pass, when_dropped, price: None, input_tokens: 10, received });
            assert_eq!(gate.pass_now(500).is_ok(), has_room, "{received}");
        }
    }
}
