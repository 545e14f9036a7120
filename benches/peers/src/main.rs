//! A step that does nothing, in other crates that run graphs, in one process and in turns with this one.
//!
//! What each of them does and does not do is in the README beside the figures: a ratio between crates that promise
//! different things is not a verdict.

#[path = "../../support/mod.rs"]
#[expect(dead_code, reason = "it uses a part of it")]
mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use support::plandag::{runner, whole};
use support::{Dependencies, SHAPES};
use tokio::runtime::Runtime;

/// Steps that each crate runs of a graph, over all rounds that are measured.
const STEPS: usize = 200_000;
/// As many rounds more come first, one in four: a process that has just begun is up to half slower for some ten
/// milliseconds, until the threads have found their cores.
const WARM_UP: usize = 4;

/// One way to run a graph; none if it cannot be expressed.
type Peer = (&'static str, fn(&Runtime, &Dependencies) -> Option<Duration>);

const PEERS: [Peer; 4] =
    [("dagrs 0.9.0", dagrs), ("dagx 0.3.1", dagx), ("graph-flow 0.8.1", graph_flow), ("async_dag 0.1.2", async_dag)];

fn main() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    println!("ns per step with the making of the graph, medians, and how often as much as plandag in the same round");
    print!("{:>8} {:>6} {:>8}", "shape", "steps", "plandag");
    PEERS.iter().for_each(|(name, _)| print!(" {name:>24}"));
    println!();
    for steps in [1_000, 10_000] {
        for (name, shape) in SHAPES {
            measure(&runtime, name, &shape(steps));
        }
    }
}

fn measure(runtime: &Runtime, name: &str, graph: &Dependencies) {
    let per_step = |time: Duration| time.as_nanos() as f64 / graph.len() as f64;
    let mut own = Vec::new();
    let mut others: [Vec<f64>; PEERS.len()] = Default::default();
    let mut ratios: [Vec<f64>; PEERS.len()] = Default::default();
    let rounds = STEPS / graph.len();
    let first = rounds / WARM_UP;
    for round in 0..first + rounds {
        let time = per_step(plandag(runtime, graph));
        let counts = round >= first;
        if counts {
            own.push(time);
        }
        for (place, (_, peer)) in PEERS.iter().enumerate() {
            if let Some(other) = peer(runtime, graph).map(per_step).filter(|_| counts) {
                others[place].push(other);
                ratios[place].push(other / time);
            }
        }
    }
    print!("{name:>8} {:>6} {:>8.0}", graph.len(), median(&mut own));
    for (times, ratios) in others.iter_mut().zip(&mut ratios) {
        match times.is_empty() {
            true => print!(" {:>24}", "-"),
            false => print!(" {:>24}", format!("{:.0} ({:.1}x)", median(times), median(ratios))),
        }
    }
    println!();
}

/// From the dependency lists to the last result, as for the others.
fn plandag(runtime: &Runtime, graph: &Dependencies) -> Duration {
    let started = Instant::now();
    let runner = runner(support::plan(graph));
    runtime.block_on(whole(&runner));
    drop(runner);
    started.elapsed()
}

fn median(figures: &mut [f64]) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// The most dependencies of one step, where a crate has a type for each number of them.
fn has_at_most(graph: &Dependencies, most: usize) -> bool {
    graph.iter().all(|dependencies| dependencies.len() <= most)
}

fn dagrs(runtime: &Runtime, graph: &Dependencies) -> Option<Duration> {
    use dagrs::{Action, Content, DefaultNode, EnvVar, Graph, InChannels, Node as _, NodeTable, OutChannels, Output};

    struct Next;

    #[async_trait]
    impl Action for Next {
        async fn run(&self, inputs: &mut InChannels, outputs: &mut OutChannels, _: Arc<EnvVar>) -> Output {
            let inputs = inputs.map(|input| input.ok().and_then(|content| content.into_inner::<i64>())).await;
            let next = inputs.first().and_then(|input| input.as_deref().copied()).unwrap_or(0) + 1;
            outputs.broadcast(Content::new(next)).await;
            Output::Out(Some(Content::new(next)))
        }
    }

    // It starts a task for each edge of a wide step, so ten thousand of them take minutes.
    if graph.len() > 1_000 && !has_at_most(graph, 100) {
        return None;
    }
    let started = Instant::now();
    let mut table = NodeTable::default();
    let nodes: Vec<DefaultNode> =
        (0..graph.len()).map(|step| DefaultNode::with_action(format!("s{step}"), Next, &mut table)).collect();
    let ids: Vec<_> = nodes.iter().map(|node| node.id()).collect();
    let mut dependents = vec![Vec::new(); graph.len()];
    for (step, dependencies) in graph.iter().enumerate() {
        dependencies.iter().for_each(|dependency| dependents[*dependency as usize].push(ids[step]));
    }
    let mut run = Graph::new();
    for node in nodes {
        run.add_node(node).expect("a node");
    }
    for (step, dependents) in dependents.into_iter().enumerate().filter(|(_, dependents)| !dependents.is_empty()) {
        run.add_edge(ids[step], dependents).expect("an edge");
    }
    run.set_env(EnvVar::new(table));
    runtime.block_on(run.async_start()).expect("a run");
    Some(started.elapsed())
}

mod dagx_tasks {
    use dagx::{Task, task};

    pub(crate) struct None;
    #[task]
    impl None {
        async fn run() -> i64 {
            1
        }
    }

    pub(crate) struct One;
    #[task]
    impl One {
        async fn run(a: &i64) -> i64 {
            a + 1
        }
    }

    pub(crate) struct Two;
    #[task]
    impl Two {
        async fn run(a: &i64, _b: &i64) -> i64 {
            a + 1
        }
    }

    pub(crate) struct Three;
    #[task]
    impl Three {
        async fn run(a: &i64, _b: &i64, _c: &i64) -> i64 {
            a + 1
        }
    }
}

fn dagx(runtime: &Runtime, graph: &Dependencies) -> Option<Duration> {
    use dagx::{DagRunner, TaskHandle};

    // A task has eight dependencies at most.
    if !has_at_most(graph, 3) {
        return None;
    }
    let started = Instant::now();
    let dag = DagRunner::new();
    let mut handles: Vec<TaskHandle<i64>> = Vec::with_capacity(graph.len());
    for dependencies in graph {
        let on = |place: usize| &handles[dependencies[place] as usize];
        let handle = match dependencies.len() {
            0 => dag.add_task(dagx_tasks::None).into(),
            1 => dag.add_task(dagx_tasks::One).depends_on(on(0)),
            2 => dag.add_task(dagx_tasks::Two).depends_on((on(0), on(1))),
            _ => dag.add_task(dagx_tasks::Three).depends_on((on(0), on(1), on(2))),
        };
        handles.push(handle);
    }
    runtime
        .block_on(dag.run(|task| {
            tokio::spawn(task);
        }))
        .expect("a run");
    Some(started.elapsed())
}

fn graph_flow(runtime: &Runtime, graph: &Dependencies) -> Option<Duration> {
    use graph_flow::{Context, GraphBuilder, NextAction, Session, Task, TaskResult};

    struct Next(String, bool);

    #[async_trait]
    impl Task for Next {
        fn id(&self) -> &str {
            &self.0
        }

        async fn run(&self, context: Context) -> graph_flow::Result<TaskResult> {
            let next = context.get::<i64>("value").unwrap_or(0) + 1;
            context.set("value", next)?;
            Ok(TaskResult::new(None, if self.1 { NextAction::End } else { NextAction::ContinueAndExecute }))
        }
    }

    // It follows one edge at a time.
    if !has_at_most(graph, 1) {
        return None;
    }
    let started = Instant::now();
    let mut builder = GraphBuilder::new("chain");
    for step in 0..graph.len() {
        builder = builder.add_task(Arc::new(Next(format!("s{step}"), step + 1 == graph.len())));
        if let Some(before) = step.checked_sub(1) {
            builder = builder.add_edge(format!("s{before}"), format!("s{step}"));
        }
    }
    let run = builder.set_start_task("s0").build().expect("a graph");
    let mut session = Session::new_from_task("session".to_owned(), "s0");
    runtime.block_on(run.execute_session(&mut session)).expect("a run");
    Some(started.elapsed())
}

fn async_dag(runtime: &Runtime, graph: &Dependencies) -> Option<Duration> {
    use async_dag::Graph;

    // A task is a function, with as many dependencies as it has arguments.
    if !has_at_most(graph, 3) {
        return None;
    }
    let started = Instant::now();
    let mut run = Graph::new();
    let mut nodes = Vec::with_capacity(graph.len());
    for dependencies in graph {
        let node = match dependencies.len() {
            0 => run.add_task(|| async { 1_i64 }),
            1 => run.add_task(|a: i64| async move { a + 1 }),
            2 => run.add_task(|a: i64, _: i64| async move { a + 1 }),
            _ => run.add_task(|a: i64, _: i64, _: i64| async move { a + 1 }),
        };
        for (place, dependency) in dependencies.iter().enumerate() {
            run.update_dependency(nodes[*dependency as usize], node, place as u8).expect("an edge");
        }
        nodes.push(node);
    }
    runtime.block_on(run.run());
    Some(started.elapsed())
}
