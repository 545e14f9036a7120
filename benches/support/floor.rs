//! The floor: the least that runs a graph in parallel on tokio.
//!
//! A counter of unmet dependencies for each step, one spawned task for each step that is ready, results in [`OnceLock`]
//! slots. It knows no caps, no retries, no events.

use std::hint::black_box;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::sync::Notify;

use super::{Dependencies, next};

struct Floor<W> {
    graph: Dependencies,
    dependents: Vec<Vec<u32>>,
    unmet: Vec<AtomicU32>,
    results: Vec<OnceLock<Arc<Value>>>,
    left: AtomicU32,
    done: Notify,
    work: W,
}

impl<W: Fn() + Send + Sync + 'static> Floor<W> {
    fn new(graph: Dependencies, work: W) -> Self {
        let mut dependents = vec![Vec::new(); graph.len()];
        for (step, dependencies) in graph.iter().enumerate() {
            dependencies.iter().for_each(|dependency| dependents[*dependency as usize].push(step as u32));
        }
        Self {
            unmet: graph.iter().map(|dependencies| AtomicU32::new(dependencies.len() as u32)).collect(),
            results: graph.iter().map(|_| OnceLock::new()).collect(),
            left: AtomicU32::new(graph.len() as u32),
            done: Notify::new(),
            work,
            dependents,
            graph,
        }
    }

    fn spawn(self: Arc<Self>, step: u32) {
        tokio::spawn(async move {
            (self.work)();
            let inputs = self.graph[step as usize].iter().filter_map(|input| self.results[*input as usize].get());
            let result = Arc::new(Value::from(next(inputs.map(|value| &**value))));
            self.results[step as usize].get_or_init(|| result);
            for dependent in &self.dependents[step as usize] {
                if self.unmet[*dependent as usize].fetch_sub(1, Ordering::AcqRel) == 1 {
                    Arc::clone(&self).spawn(*dependent);
                }
            }
            if self.left.fetch_sub(1, Ordering::AcqRel) == 1 {
                self.done.notify_one();
            }
        });
    }
}

pub(crate) async fn floor(graph: &Dependencies) -> Duration {
    floor_with(graph, || ()).await
}

/// The same, with steps that do something.
pub(crate) async fn floor_with<W: Fn() + Send + Sync + 'static>(graph: &Dependencies, work: W) -> Duration {
    let graph = graph.clone();
    let started = Instant::now();
    let run = Arc::new(Floor::new(graph, work));
    let first = Arc::clone(&run);
    tokio::spawn(async move {
        for step in (0..first.graph.len()).filter(|step| first.graph[*step].is_empty()) {
            Arc::clone(&first).spawn(step as u32);
        }
    });
    run.done.notified().await;
    black_box(run.results.last());
    drop(run);
    started.elapsed()
}
