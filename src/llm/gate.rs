//! The gate in front of a provider: nobody calls it before it may be called.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

/// The window in which calls and tokens are counted.
const MINUTE: Duration = Duration::from_secs(60);

/// How much a provider may be asked at a time. None: as much as the run wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RateLimits {
    /// Calls at once.
    pub concurrency: Option<u32>,
    /// Calls a minute.
    pub requests_per_minute: Option<u32>,
    /// Tokens a minute, in and out. What a call will take is guessed before it and corrected after it.
    pub tokens_per_minute: Option<u64>,
}

/// One for each provider and key, shared by all models there.
#[derive(Debug)]
pub(super) struct Gate {
    limits: RateLimits,
    slots: Option<Semaphore>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Closed until then, because the server said so.
    closed: Option<Instant>,
    /// The calls of the last minute and the tokens that each took.
    recent: VecDeque<(Instant, u64)>,
}

/// Leave for one call.
#[derive(Debug)]
pub(super) struct Pass<'a> {
    gate: &'a Gate,
    at: Instant,
    _slot: Option<SemaphorePermit<'a>>,
}

impl Gate {
    pub(super) fn new(limits: RateLimits) -> Self {
        let slots = limits.concurrency.map(|slots| Semaphore::new(slots.max(1) as usize));
        Self { limits, slots, state: Mutex::default() }
    }

    /// Waits until a call that will take about `tokens` may be made.
    pub(super) async fn pass(&self, tokens: u64) -> Pass<'_> {
        let slot = match &self.slots {
            // Nobody closes it.
            Some(slots) => slots.acquire().await.ok(),
            None => None,
        };
        loop {
            match self.admit(tokens) {
                Ok(at) => return Pass { gate: self, at, _slot: slot },
                Err(until) => tokio::time::sleep_until(until).await,
            }
        }
    }

    /// How long the server still wants to be left alone.
    pub(super) fn closed_for(&self) -> Option<Duration> {
        let closed = self.state().closed?;
        Some(closed.saturating_duration_since(Instant::now())).filter(|left| !left.is_zero())
    }

    /// The server wants no call for this long.
    pub(super) fn close(&self, pause: Duration) {
        let Some(until) = Instant::now().checked_add(pause) else { return };
        let mut state = self.state();
        state.closed = Some(state.closed.map_or(until, |closed| closed.max(until)));
    }

    /// Takes up a call, or says when to ask again.
    fn admit(&self, tokens: u64) -> Result<Instant, Instant> {
        let now = Instant::now();
        let mut state = self.state();
        if let Some(closed) = state.closed.filter(|closed| *closed > now) {
            return Err(closed);
        }
        if self.limits.requests_per_minute.is_none() && self.limits.tokens_per_minute.is_none() {
            return Ok(now);
        }
        while state.recent.front().is_some_and(|(at, _)| now.duration_since(*at) >= MINUTE) {
            state.recent.pop_front();
        }
        let over_calls =
            self.limits.requests_per_minute.is_some_and(|limit| state.recent.len() >= limit.max(1) as usize);
        let spent: u64 = state.recent.iter().map(|(_, tokens)| tokens).sum();
        // A call that is larger than the limit is made when nothing else was, or it never would be.
        let over_tokens = self
            .limits
            .tokens_per_minute
            .is_some_and(|limit| spent.saturating_add(tokens) > limit && !state.recent.is_empty());
        match state.recent.front() {
            Some((oldest, _)) if over_calls || over_tokens => Err(*oldest + MINUTE),
            _ => {
                state.recent.push_back((now, tokens));
                Ok(now)
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pass<'_> {
    /// Says what the call really took.
    pub(super) fn took(&self, tokens: u64) {
        let mut state = self.gate.state();
        if let Some((_, counted)) = state.recent.iter_mut().find(|(at, _)| *at == self.at) {
            *counted = tokens;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(requests: Option<u32>, tokens: Option<u64>) -> Gate {
        Gate::new(RateLimits { concurrency: None, requests_per_minute: requests, tokens_per_minute: tokens })
    }

    #[tokio::test(start_paused = true)]
    async fn a_closed_gate_opens_when_the_server_said_and_not_before() {
        let gate = gate(None, None);
        let start = Instant::now();
        gate.close(Duration::from_secs(7));
        gate.close(Duration::from_secs(3));
        assert_eq!(gate.closed_for(), Some(Duration::from_secs(7)));
        let _pass = gate.pass(1).await;
        assert!(start.elapsed() >= Duration::from_secs(7));
        assert_eq!(gate.closed_for(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn calls_a_minute_are_kept() {
        let gate = gate(Some(2), None);
        let start = Instant::now();
        for expected in [0, 0, 60, 60, 120] {
            let _pass = gate.pass(1).await;
            assert_eq!(start.elapsed().as_secs(), expected);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn tokens_a_minute_are_kept_as_they_turn_out_to_be() {
        let gate = gate(None, Some(100));
        let start = Instant::now();
        gate.pass(90).await.took(10);
        gate.pass(80).await.took(80);
        assert_eq!(start.elapsed().as_secs(), 0);
        gate.pass(20).await.took(20);
        assert_eq!(start.elapsed().as_secs(), 60);
        gate.pass(5_000).await.took(5_000);
        assert_eq!(start.elapsed().as_secs(), 120, "larger than the limit, and still made once");
    }

    #[tokio::test(start_paused = true)]
    async fn calls_at_once_are_kept() {
        let gate = Gate::new(RateLimits { concurrency: Some(2), ..RateLimits::default() });
        let (_one, _two) = (gate.pass(1).await, gate.pass(1).await);
        let third = tokio::time::timeout(Duration::from_secs(1), gate.pass(1)).await;
        assert!(third.is_err());
    }
}
