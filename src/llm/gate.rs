//! The gate in front of a provider: nobody calls it before it may be called.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

/// The window in which calls and tokens are counted.
const MINUTE: Duration = Duration::from_secs(60);

/// How soon, and how late at the latest, it is worth looking again whether one of the calls that are being made is over.
const LOOK_AGAIN: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(500));

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
    /// Since when as many calls are being made as may be at once.
    full: Option<Instant>,
    /// The calls of the last minute and the tokens that each took.
    recent: VecDeque<(Instant, u64)>,
}

/// No call may be made yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shut {
    pub(super) until: Instant,
    pub(super) why: Why,
}

/// What a call has to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// The server said so.
    Closed,
    /// So many calls are being made at once.
    Busy(u32),
    /// So many calls were made within a minute.
    Calls(u32),
    /// So many tokens were used within a minute.
    Tokens(u64),
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("it wants no call"),
            Self::Busy(1) => f.write_str("a call is being made, and only one may be at a time"),
            Self::Busy(limit) => write!(f, "{limit} calls are being made, and no more may be at a time"),
            Self::Calls(1) => f.write_str("its only request a minute is used up"),
            Self::Calls(limit) => write!(f, "its {limit} requests a minute are used up"),
            Self::Tokens(limit) => write!(f, "too much of its {limit} tokens a minute is used up"),
        }
    }
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
        let slot = self.slot().await;
        loop {
            match self.admit(tokens) {
                Ok(at) => return Pass { gate: self, at, _slot: slot },
                Err(shut) => tokio::time::sleep_until(shut.until).await,
            }
        }
    }

    /// As [`pass`](Self::pass), but waits for nothing.
    pub(super) fn pass_now(&self, tokens: u64) -> Result<Pass<'_>, Shut> {
        let slot = match &self.slots {
            Some(slots) => Some(slots.try_acquire().map_err(|_| self.busy())?),
            None => None,
        };
        let at = self.admit(tokens)?;
        self.note_full();
        Ok(Pass { gate: self, at, _slot: slot })
    }

    async fn slot(&self) -> Option<SemaphorePermit<'_>> {
        // Nobody closes it.
        let slot = self.slots.as_ref()?.acquire().await.ok();
        self.note_full();
        slot
    }

    fn note_full(&self) {
        if self.slots.as_ref().is_some_and(|slots| slots.available_permits() == 0) {
            self.state().full = Some(Instant::now());
        }
    }

    /// Nobody knows when the next of the calls ends: one that has gone on for longer is asked about less often.
    fn busy(&self) -> Shut {
        let now = Instant::now();
        let gone_on = self.state().full.map_or(Duration::ZERO, |full| now - full);
        let (soonest, latest) = LOOK_AGAIN;
        let limit = self.limits.concurrency.unwrap_or(1).max(1);
        Shut { until: now + (gone_on / 8).clamp(soonest, latest), why: Why::Busy(limit) }
    }

    /// The server wants no call for this long.
    pub(super) fn close(&self, pause: Duration) {
        let Some(until) = Instant::now().checked_add(pause) else { return };
        let mut state = self.state();
        state.closed = Some(state.closed.map_or(until, |closed| closed.max(until)));
    }

    /// Takes up a call, or says when to ask again.
    fn admit(&self, tokens: u64) -> Result<Instant, Shut> {
        let now = Instant::now();
        let mut state = self.state();
        if let Some(until) = state.closed.filter(|closed| *closed > now) {
            return Err(Shut { until, why: Why::Closed });
        }
        let RateLimits { requests_per_minute, tokens_per_minute, .. } = self.limits;
        if requests_per_minute.is_none() && tokens_per_minute.is_none() {
            return Ok(now);
        }
        while state.recent.front().is_some_and(|(at, _)| now.duration_since(*at) >= MINUTE) {
            state.recent.pop_front();
        }
        let calls = requests_per_minute.and_then(|limit| {
            let over = state.recent.len().checked_sub(limit.max(1) as usize)?;
            Some(Shut { until: state.recent.get(over)?.0 + MINUTE, why: Why::Calls(limit) })
        });
        let tokens_shut = tokens_per_minute.and_then(|limit| {
            // A server may count whatever it likes.
            let mut spent: u128 = state.recent.iter().map(|(_, tokens)| u128::from(*tokens)).sum();
            let mut until = None;
            for (at, taken) in &state.recent {
                // A call that is larger than the limit is made when nothing else was, or it never would be.
                if spent + u128::from(tokens) <= u128::from(limit) {
                    break;
                }
                spent -= u128::from(*taken);
                until = Some(*at + MINUTE);
            }
            Some(Shut { until: until?, why: Why::Tokens(limit) })
        });
        match calls.into_iter().chain(tokens_shut).max_by_key(|shut| shut.until) {
            Some(shut) => Err(shut),
            None => {
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
        let shut = gate.pass_now(1).unwrap_err();
        assert_eq!((shut.until, shut.why), (start + Duration::from_secs(7), Why::Closed));
        let _pass = gate.pass(1).await;
        assert!(start.elapsed() >= Duration::from_secs(7));
        assert!(gate.pass_now(1).is_ok());
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
    async fn who_does_not_wait_is_told_when_there_is_room() {
        let gate = gate(Some(3), Some(100));
        let start = Instant::now();
        for tokens in [40, 30, 20] {
            gate.pass_now(tokens).unwrap().took(tokens);
            tokio::time::advance(Duration::from_secs(5)).await;
        }
        for (tokens, seconds, why) in [
            (10, 60, Why::Calls(3)),
            (50, 60, Why::Tokens(100)),
            (80, 65, Why::Tokens(100)),
            (81, 70, Why::Tokens(100)),
            (500, 70, Why::Tokens(100)),
        ] {
            let shut = gate.pass_now(tokens).unwrap_err();
            assert_eq!((shut.until - start, shut.why), (Duration::from_secs(seconds), why), "{tokens} tokens");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn calls_at_once_are_kept() {
        let gate = Gate::new(RateLimits { concurrency: Some(2), ..RateLimits::default() });
        let (one, _two) = (gate.pass(1).await, gate.pass(1).await);
        let third = tokio::time::timeout(Duration::from_secs(1), gate.pass(1)).await;
        assert!(third.is_err());
        drop(one);
        assert!(gate.pass_now(1).is_ok(), "one is over");
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_wait_looks_less_often_the_longer_calls_take() {
        let gate = Gate::new(RateLimits { concurrency: Some(1), ..RateLimits::default() });
        let _one = gate.pass(1).await;
        let mut looks = 0;
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(20) {
            let shut = gate.pass_now(1).unwrap_err();
            let (pause, elapsed) = (shut.until - Instant::now(), start.elapsed());
            assert_eq!(shut.why, Why::Busy(1));
            assert!(
                pause <= Duration::from_millis(500) && pause <= elapsed.max(Duration::from_millis(50)),
                "{pause:?}"
            );
            tokio::time::sleep_until(shut.until).await;
            looks += 1;
        }
        assert!((40..80).contains(&looks), "{looks}");
    }
}
