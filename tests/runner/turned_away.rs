//! Servers that are called too much: how soon they are called again, and how often in vain.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use plandag::{Plan, RunReport, Runner, Step, StepError, tool_fn};
use tokio::time::{Instant, sleep};

/// A server that takes a token for each call, has so many of them at most, and gets so many a second. Without one it
/// says when to come back.
struct Bucket {
    size: f64,
    a_second: f64,
    tokens: f64,
    at: Instant,
    calls: u32,
    /// How many of them it did not take.
    turned_away: u32,
    /// Nobody comes before, but those who came with the one that was told so.
    closed: Option<(Instant, Instant)>,
    too_soon: u32,
    /// How many were not taken when that happened for the first time: they had come together.
    first: u32,
}

const PAUSE: Duration = Duration::from_secs(1);

impl Bucket {
    fn new(size: f64, a_second: f64) -> Arc<Mutex<Self>> {
        let at = Instant::now();
        let closed = None;
        Arc::new(Mutex::new(Self {
            size,
            a_second,
            tokens: size,
            at,
            calls: 0,
            turned_away: 0,
            closed,
            too_soon: 0,
            first: 0,
        }))
    }

    fn takes(&mut self) -> bool {
        let now = Instant::now();
        self.tokens = (self.tokens + (now - self.at).as_secs_f64() * self.a_second).min(self.size);
        self.at = now;
        self.calls += 1;
        self.too_soon += u32::from(self.closed.is_some_and(|(told, until)| told < now && now < until));
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return true;
        }
        self.turned_away += 1;
        self.first += u32::from(self.closed.is_none_or(|(told, _)| told == now) && self.first + 1 == self.turned_away);
        if self.closed.is_none_or(|(_, until)| until <= now) {
            self.closed = Some((now, now + PAUSE));
        }
        false
    }
}

async fn run(bucket: &Arc<Mutex<Bucket>>, steps: usize, at_once: u32, each: Duration) -> RunReport {
    let server = Arc::clone(bucket);
    let call = tool_fn(move |_| {
        let takes = server.lock().expect("nobody has panicked").takes();
        async move {
            if !takes {
                return Err(StepError::transient("too many calls").retry_after_ms(PAUSE.as_millis() as u64));
            }
            sleep(each).await;
            Ok(())
        }
    });
    let plan: Plan = (0..steps).map(|step| Step::new(format!("s{step}"), "call")).collect();
    Runner::new(plan).tool("call", call).max_parallel(at_once).run("call").await.expect("a report")
}

#[tokio::test(start_paused = true)]
async fn a_server_that_has_turned_calls_away_is_not_called_in_vain() {
    for (size, a_second, each) in [(50.0, 10.0, 300), (60.0, 20.0, 1_000), (48.0, 5.0, 2_000), (64.0, 1.0, 100)] {
        let bucket = Bucket::new(size, a_second);
        let begun = Instant::now();
        let report = run(&bucket, 200, 64, Duration::from_millis(each)).await;
        assert!(report.succeeded(), "each step has its call in the end");
        let bucket = bucket.lock().unwrap();
        let Bucket { calls, turned_away, first, too_soon, .. } = *bucket;
        let name =
            format!("{size} at once, {a_second} a second: {calls} calls, {turned_away} in vain, {first} at first");
        assert_eq!(too_soon, 0, "{name}");
        assert!(calls - first <= 240, "a fifth more than needed at most, but for those at first: {name}");
        // No slower than the server lets them by much.
        let least = (200.0 - size) / a_second;
        assert!(begun.elapsed().as_secs_f64() < 1.25 * least + 5.0, "{name}: {:?}", begun.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn one_call_that_is_turned_away_holds_nobody_back_for_long() {
    // The first one comes too soon, and then there is room for all.
    let bucket = Bucket::new(1_000.0, 1_000.0);
    bucket.lock().unwrap().tokens = 0.0;
    let begun = Instant::now();
    let report = run(&bucket, 64, 64, Duration::from_secs(1)).await;
    assert!(report.succeeded());
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

/// How long a server needs to answer so many calls of two seconds, of which it turns away some for as long as it says.
async fn answered(steps: usize, pause: Duration, mut turns_away: impl FnMut(Instant) -> bool + Send + 'static) -> f64 {
    let begun = Instant::now();
    let turns_away = Mutex::new(move || turns_away(begun));
    let call = tool_fn(move |_| {
        let is_turned_away = turns_away.lock().expect("nobody has panicked")();
        async move {
            if is_turned_away {
                return Err(StepError::transient("busy").retry_after_ms(pause.as_millis() as u64));
            }
            sleep(Duration::from_secs(2)).await;
            Ok(())
        }
    });
    let plan: Plan = (0..steps).map(|step| Step::new(format!("s{step}"), "call")).collect();
    let report = Runner::new(plan).tool("call", call).max_parallel(64).run("call").await.expect("a report");
    assert!(report.succeeded(), "each step has its call in the end");
    begun.elapsed().as_secs_f64()
}

#[tokio::test(start_paused = true)]
async fn a_server_that_turns_some_away_for_reasons_of_its_own_is_called_by_many_all_the_same() {
    for seed in 0..10 {
        let mut random = fastrand::Rng::with_seed(seed);
        // It would be 16 seconds without.
        let seconds = answered(500, Duration::from_secs(1), move |_| random.u8(..10) == 0).await;
        assert!(seconds < 120.0, "seed {seed}: {seconds}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_pause_that_says_little_of_what_the_server_takes_is_not_kept_for_long() {
    // Fifty calls a minute, and whoever comes too soon is told to come back in half a minute.
    let mut taken = std::collections::BTreeMap::new();
    let seconds = answered(100, Duration::from_secs(30), move |begun| {
        let calls: &mut u32 = taken.entry(begun.elapsed().as_secs() / 60).or_default();
        *calls += u32::from(*calls < 51);
        *calls > 50
    })
    .await;
    assert!(seconds < 300.0, "{seconds}");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_may_be_called_again_at_once_is() {
    // Every third call fails, however many there are.
    let calls = Arc::new(Mutex::new(0));
    let call = tool_fn(move |_| {
        let call = *calls.lock().expect("nobody has panicked");
        *calls.lock().expect("nobody has panicked") = call + 1;
        async move {
            sleep(Duration::from_secs(1)).await;
            if call % 3 == 0 { Err(StepError::transient("busy").retry_after_ms(0)) } else { Ok(()) }
        }
    });
    let plan: Plan = (0..64).map(|step| Step::new(format!("s{step}"), "call")).collect();
    let begun = Instant::now();
    let report = Runner::new(plan).tool("call", call).max_parallel(64).run("call").await.expect("a report");
    assert!(report.succeeded());
    assert!(begun.elapsed() < Duration::from_secs(12), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn nobody_is_left_alone_for_a_century() {
    let calls = Arc::new(AtomicU32::new(0));
    let call = tool_fn(move |_| {
        let call = calls.fetch_add(1, Ordering::Relaxed);
        async move { if call == 0 { Err(StepError::transient("no").retry_after_ms(u64::MAX)) } else { Ok(call) } }
    });
    let begun = Instant::now();
    let report = Runner::new(Plan::from_iter([Step::new("a", "call")])).tool("call", call).run("call").await;
    assert_eq!(report.expect("a report").answer().expect("an answer"), 1);
    let hour = Duration::from_secs(3_600);
    assert!((hour..hour + Duration::from_secs(1)).contains(&begun.elapsed()), "{:?}", begun.elapsed());
}
