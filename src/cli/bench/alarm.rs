//! Sleeps that are exact, however many there are.

use std::collections::BTreeMap;
use std::io;
use std::mem;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

/// One thread that wakes all who sleep. The timer of the runtime rounds up to the next millisecond or two, which would be
/// measured as if it were the scheduler's; the operating system's is exact to a tenth of one. A thread for each who sleeps
/// would cost more than what is measured.
#[derive(Clone)]
pub(super) struct Alarm(Arc<Shared>);

#[derive(Default)]
struct Shared {
    sleepers: Mutex<Sleepers>,
    /// Told when somebody wants to be woken before all others.
    earlier: Condvar,
}

#[derive(Default)]
struct Sleepers {
    /// By when they want to be woken, and by the order in which they came.
    by_end: BTreeMap<(Instant, u64), oneshot::Sender<()>>,
    come: u64,
}

impl Alarm {
    pub(super) fn start() -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let ringing = Arc::clone(&shared);
        thread::Builder::new().name("alarm".to_owned()).spawn(move || ringing.ring())?;
        Ok(Self(shared))
    }

    pub(super) async fn sleep(&self, time: Duration) {
        let (wake, woken) = oneshot::channel();
        self.0.add(Instant::now() + time, wake);
        // Whoever wakes goes on as long as the process.
        let _ = woken.await;
    }
}

impl Shared {
    fn add(&self, end: Instant, wake: oneshot::Sender<()>) {
        let mut sleepers = self.sleepers.lock().unwrap_or_else(PoisonError::into_inner);
        let number = sleepers.come;
        sleepers.come += 1;
        sleepers.by_end.insert((end, number), wake);
        if sleepers.by_end.first_key_value().is_some_and(|(first, _)| *first == (end, number)) {
            self.earlier.notify_one();
        }
    }

    fn ring(&self) {
        let mut sleepers = self.sleepers.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let Some((&(end, _), _)) = sleepers.by_end.first_key_value() else {
                sleepers = self.earlier.wait(sleepers).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let now = Instant::now();
            if now < end {
                sleepers = self.earlier.wait_timeout(sleepers, end - now).unwrap_or_else(PoisonError::into_inner).0;
                continue;
            }
            let later = sleepers.by_end.split_off(&(now, u64::MAX));
            let over = mem::replace(&mut sleepers.by_end, later);
            // Whoever wakes may want to sleep again at once.
            drop(sleepers);
            for wake in over.into_values() {
                // A run that is over may have left it.
                let _ = wake.send(());
            }
            sleepers = self.sleepers.lock().unwrap_or_else(PoisonError::into_inner);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures::future::{Either, join_all, select};

    use super::*;

    #[tokio::test]
    async fn all_are_woken_and_nobody_early() {
        let alarm = Alarm::start().unwrap();
        let sleep = async |millis| {
            let begun = Instant::now();
            alarm.sleep(Duration::from_millis(millis)).await;
            assert!(begun.elapsed() >= Duration::from_millis(millis));
        };
        // More than there could be threads.
        join_all((0..50_000).map(|number| sleep(number % 20))).await;
    }

    #[tokio::test]
    async fn who_comes_later_may_be_woken_first() {
        let alarm = Alarm::start().unwrap();
        let long = pin!(alarm.sleep(Duration::from_secs(1_000_000)));
        let short = pin!(alarm.sleep(Duration::from_millis(5)));
        assert!(matches!(select(long, short).await, Either::Right(_)));
        // Whoever has given up is not missed.
        alarm.sleep(Duration::from_millis(1)).await;
    }
}
