//! What a plan is checked for, and what is known of one that passed.

#![expect(clippy::unwrap_used, reason = "what is missing here is a mistake of the test")]

use std::collections::BTreeSet;

use plandag::{Dag, Plan, PlanError, Policy, Retry, RunStart, Step, StepId, ToolSpec};
use proptest::prelude::*;
use serde_json::json;

fn start(tools: &[&str]) -> RunStart {
    RunStart {
        objective: "test".to_owned(),
        inputs: [("city".to_owned(), json!("Paris"))].into(),
        policy: Policy::default(),
        tools: tools.iter().map(|tool| ToolSpec::new(*tool, "")).collect(),
        default_tool: None,
        planner_server: String::new(),
        labels: Default::default(),
    }
}

fn problems(plan: &Plan) -> Vec<String> {
    Dag::check(plan, &start(&["search", "sum"])).unwrap_err().iter().map(PlanError::to_string).collect()
}

fn step(id: &str, dependencies: &[&str]) -> Step {
    Step::new(id, "search").depends_on(dependencies.iter().copied())
}

fn ids(dag: &Dag, steps: &[u32]) -> Vec<String> {
    steps.iter().map(|&step| dag.steps()[step as usize].id.to_string()).collect()
}

#[test]
fn references_imply_dependencies_after_the_declared_ones() {
    let plan = Plan::from_iter([
        step("a", &[]),
        step("b", &[]),
        step("c", &[]),
        step("d", &["b", "b"]).args(json!({ "x": ["${c.0} ${a}"], "y": "${b} ${inputs.city}" })).when("${a}"),
    ]);
    let dag = Dag::check(&plan, &start(&["search"])).unwrap();
    assert_eq!(dag.dependencies(3).map(StepId::as_str).collect::<Vec<_>>(), ["b", "c", "a"]);
    assert_eq!(dag.order(), [0, 1, 2, 3]);
    assert_eq!(dag.graph().edge_count(), 3);
    assert_eq!(dag.levels(), [vec![0, 1, 2], vec![3]]);
    assert_eq!(dag.width(), 3);
}

#[test]
fn the_order_is_plan_order_wherever_that_allows() {
    let plan = Plan::from_iter([step("c", &["b"]), step("a", &[]), step("z", &[]), step("b", &["a"]), step("d", &[])]);
    let dag = Dag::of(&plan).unwrap();
    assert_eq!(ids(&dag, dag.order()), ["a", "z", "b", "c", "d"]);
}

#[test]
fn the_critical_path_is_the_longest_by_estimate() {
    let plan = Plan::from_iter([
        step("a", &[]).estimate_ms(5),
        step("long", &[]).estimate_ms(100),
        step("b", &["a"]).estimate_ms(5),
        step("end", &["long", "b"]).estimate_ms(1),
    ]);
    let dag = Dag::of(&plan).unwrap();
    assert_eq!(ids(&dag, &dag.critical_path(|step| step.estimate_ms.unwrap_or(1))), ["long", "end"]);
    assert_eq!(ids(&dag, &dag.critical_path(|_| 1)), ["a", "b", "end"]);
}

#[test]
fn an_empty_plan_is_refused() {
    assert_eq!(problems(&Plan::new()), ["the plan has no steps"]);
}

#[test]
fn all_problems_are_reported_at_once() {
    let mut with_inputs = start(&["search", "sum"]);
    with_inputs.policy.pools.insert("gpu".to_owned(), 2);
    let plan = Plan::from_iter([
        step("search-qdrant", &[]),
        step("twice", &[]),
        step("twice", &[]),
        step("a.b", &[]),
        step("inputs", &[]),
        step("compare", &["serach-qdrant", "nothing-like-it"]),
        Step::new("tool", "serach"),
        Step::described("words", "do something"),
        step("bad", &[]).args(json!("${")),
        step("town", &[]).args(json!("${inputs.citi}")),
        step("gpu", &[]).uses("gpu", 3).uses("tpu", 2).uses("unlimited", 1_000),
        step("left", &["right"]),
        step("right", &["left"]),
        step("self", &["self"]),
    ])
    .pool("gpu", 100)
    .pool("tpu", 1)
    .answer("compaer");
    let problems: Vec<_> = Dag::check(&plan, &with_inputs).unwrap_err();
    let expected = [
        "two steps are called `twice`",
        "`a.b` is not a valid step id: use 1 to 64 of A-Z a-z 0-9 _ -, and not the reserved `inputs`",
        "`inputs` is not a valid step id: use 1 to 64 of A-Z a-z 0-9 _ -, and not the reserved `inputs`",
        "step `compare` depends on `serach-qdrant`, which is not in the plan",
        "step `compare` depends on `nothing-like-it`, which is not in the plan",
        "step `tool` uses the tool `serach`, which this run does not have",
        "step `words` names no tool, and this run has no model to do it",
        "step `bad` has a bad reference: `${` is not closed by a `}`; write `$${` for a literal `${`",
        "step `town` refers to the input `citi`, which was not given",
        "step `gpu` needs 3 of the pool `gpu`, which has 2",
        "step `gpu` needs 2 of the pool `tpu`, which has 1",
        "the answer should come from `compaer`, which is not in the plan",
        "the plan has a cycle: left -> right -> left",
        "the plan has a cycle: self -> self",
    ];
    assert_eq!(problems.iter().map(PlanError::to_string).collect::<Vec<_>>(), expected);
    let suggestions: Vec<_> = problems
        .iter()
        .filter_map(|problem| match problem {
            PlanError::UnknownDependency { suggestion, .. } | PlanError::UnknownAnswer { suggestion, .. } => {
                Some(suggestion.as_ref().map(StepId::to_string))
            }
            PlanError::UnknownTool { suggestion, .. } | PlanError::UnknownInput { suggestion, .. } => {
                Some(suggestion.clone())
            }
            _ => None,
        })
        .collect();
    let expected = [Some("search-qdrant"), None, Some("search"), Some("city"), Some("compare")];
    assert_eq!(suggestions, expected.map(|name| name.map(str::to_owned)));
}

#[test]
fn a_step_without_weights_takes_one_of_the_pool_of_its_tool() {
    let plan = Plan::from_iter([step("a", &[])]).pool("search", 0);
    assert_eq!(problems(&plan), ["step `a` needs 1 of the pool `search`, which has 0"]);
    assert!(Dag::of(&Plan::from_iter([step("a", &[])]).pool("search", 1)).is_ok());
}

#[test]
fn a_step_takes_of_the_pool_that_its_tool_names() {
    let mut start = start(&["search", "sum"]);
    start.tools[0].pool = "api".to_owned();
    start.default_tool = Some("search".to_owned());
    let plan = Plan::from_iter([step("a", &[]), Step::described("b", "do it"), Step::new("c", "sum")]).pool("api", 0);
    let said: Vec<_> = Dag::check(&plan, &start).unwrap_err().iter().map(PlanError::to_string).collect();
    assert_eq!(said, ["a", "b"].map(|id| format!("step `{id}` needs 1 of the pool `api`, which has 0")));
    let plan = Plan::from_iter([step("a", &[])]).pool("search", 0);
    assert!(Dag::check(&plan, &start).is_ok(), "it has another one");
}

/// What says so could not be read back.
#[test]
fn a_step_is_tried_once_at_least_and_has_some_time() {
    let never = Retry { max_attempts: 0, ..Retry::default() };
    let plan = Plan::from_iter([
        step("a", &[]).retry(never),
        step("b", &[]).retry(Retry::NEVER).timeout_ms(0),
        step("c", &[]).timeout_ms(1),
    ]);
    assert_eq!(
        problems(&plan),
        [
            "`max_attempts` of `retry` of step `a` should be at least 1, but is 0",
            "`timeout_ms` of step `b` should be at least 1, but is 0"
        ]
    );
    assert_eq!(Dag::of(&plan).unwrap_err()[0].code(), "plan.malformed");
}

#[test]
fn a_default_tool_does_the_steps_without_one() {
    let plan = Plan::from_iter([Step::described("a", "do it")]);
    let start = RunStart { default_tool: Some("sum".to_owned()), ..start(&["search", "sum"]) };
    assert!(Dag::check(&plan, &start).is_ok());
}

#[test]
fn limits_come_first() {
    let mut start = start(&[]);
    start.policy.limits.steps = 3;
    start.policy.limits.edges = 2;
    let check = |plan: &Plan| Dag::check(plan, &start).unwrap_err()[0].to_string();
    let many = Plan::from_iter((0..4).map(|_| step("same", &["nobody"])));
    assert_eq!(check(&many), "4 steps, over the limit of 3");
    let edges = Plan::from_iter([step("a", &[]), step("b", &["a", "a", "a"]), step("c", &["a"])]);
    assert_eq!(check(&edges), "4 dependencies, over the limit of 2");
    let implied = Plan::from_iter([step("a", &[]), step("b", &["a"]), step("c", &["a"]).args(json!("${a}${b}"))]);
    assert_eq!(check(&implied), "3 dependencies, over the limit of 2");
}

#[test]
fn a_list_of_problems_has_an_end() {
    let plan = Plan::from_iter((0..5_000).map(|index| step(&format!("s{index}"), &["s99999"])));
    let problems = problems(&plan);
    assert_eq!(problems.len(), 101);
    assert_eq!(problems[100], "and 4900 more problems");
}

/// Runs on the stack of a tokio worker thread.
fn on_a_small_stack(test: impl FnOnce() + Send + 'static) {
    std::thread::Builder::new().stack_size(2 << 20).spawn(test).unwrap().join().unwrap();
}

#[test]
fn a_chain_of_a_million_steps_needs_no_stack() {
    on_a_small_stack(|| {
        let count = 1_000_000;
        let id = |index: usize| StepId::from(index.to_string());
        let chain = |next: &dyn Fn(usize) -> Option<StepId>| {
            Plan::from_iter((0..count).map(|index| Step::new(id(index), "t").depends_on(next(index))))
        };
        let forwards = Dag::of(&chain(&|index| index.checked_sub(1).map(id))).unwrap();
        assert_eq!(forwards.levels().len(), count);
        assert_eq!(forwards.critical_path(|_| 1).len(), count);
        let backwards = Dag::of(&chain(&|index| (index + 1 < count).then(|| id(index + 1)))).unwrap();
        assert_eq!(backwards.order()[0] as usize, count - 1);
        let circular = Dag::of(&chain(&|index| Some(id((index + 1) % count)))).unwrap_err();
        let [PlanError::Cycle { path }] = &circular[..] else { panic!("{}", circular.len()) };
        assert_eq!(path.len(), count);
    });
}

#[test]
fn a_million_dependencies_of_one_step_take_linear_time() {
    let count = 1_000_000;
    let ids: Vec<_> = (0..count).map(|index| StepId::from(format!("s{index}"))).collect();
    let last = Step::new("last", "t").depends_on(ids.iter().chain(&ids).cloned());
    let plan = Plan::from_iter(ids.iter().map(|id| Step::new(id.clone(), "t")).chain([last]));
    let dag = Dag::of(&plan).unwrap();
    assert_eq!(dag.dependencies(count).len(), count);
}

/// A graph as a list of dependencies for each step, drawn from every order of steps and every density.
fn graphs() -> impl Strategy<Value = Vec<Vec<usize>>> {
    (1_usize..25).prop_flat_map(|count| {
        let dependencies = prop::collection::vec(0..count, 0..4);
        let any = prop::collection::vec(dependencies.clone(), count).boxed();
        // Random edges soon close a cycle; half of the graphs have only edges that cannot.
        let ranks = Just((0..count).collect::<Vec<_>>()).prop_shuffle();
        let acyclic = (prop::collection::vec(dependencies, count), ranks).prop_map(|(mut graph, ranks)| {
            for (step, dependencies) in graph.iter_mut().enumerate() {
                dependencies.retain(|&dependency| ranks[dependency] < ranks[step]);
            }
            graph
        });
        prop_oneof![any, acyclic]
    })
}

/// A plan of a graph: some dependencies are declared, others referred to.
fn plan_of(graph: &[Vec<usize>]) -> Plan {
    let id = |step: &usize| format!("s{step}");
    let steps = graph.iter().enumerate().map(|(step, dependencies)| {
        let (declared, referred) = dependencies.split_at(dependencies.len() / 2);
        let args: Vec<_> = referred.iter().map(|step| format!("see ${{{}.text}}", id(step))).collect();
        Step::new(id(&step), "search").depends_on(declared.iter().map(id)).args(json!(args))
    });
    steps.collect()
}

/// Takes steps away whose dependencies are all gone, until nothing changes: what is left has cycles.
fn is_acyclic(graph: &[Vec<usize>]) -> bool {
    let mut gone = vec![false; graph.len()];
    for _ in 0..graph.len() {
        for (step, dependencies) in graph.iter().enumerate() {
            gone[step] |= dependencies.iter().all(|&dependency| gone[dependency]);
        }
    }
    gone.into_iter().all(|gone| gone)
}

fn index(id: &StepId) -> usize {
    id.as_str()[1..].parse().unwrap()
}

/// Ids as planners write them: numbers in a row, with gaps, with zeros before them, after words; and words.
fn an_id() -> impl Strategy<Value = String> {
    (prop::sample::select(vec!["", "", "", "s", "t", "0", "step-", "a1b"]), 0_u32..12, prop::bool::weighted(0.9))
        .prop_map(|(prefix, number, is_numbered)| match is_numbered {
            true => format!("{prefix}{number}"),
            false => format!("{prefix}{number}x"),
        })
}

fn plans() -> impl Strategy<Value = Vec<(String, Vec<String>)>> {
    let numbered = (0_u32..5, 1_usize..12)
        .prop_map(|(first, count)| (first..).take(count).map(|number| number.to_string()).collect::<Vec<_>>());
    let ids = prop_oneof![prop::collection::vec(an_id(), 1..8), numbered];
    let dependencies = prop::collection::vec(prop::collection::vec(an_id(), 0..3), 12);
    (ids, dependencies).prop_map(|(ids, dependencies)| ids.into_iter().zip(dependencies).collect())
}

proptest! {
    /// Found by looking through the whole plan.
    #[test]
    fn an_id_means_the_first_step_that_has_it(plan in plans()) {
        let place = |id: &String| plan.iter().position(|(other, _)| other == id);
        let mut expected: Vec<String> = Vec::new();
        for (index, (id, dependencies)) in plan.iter().enumerate() {
            if plan[..index].iter().filter(|(other, _)| other == id).count() == 1 {
                expected.push(format!("two steps are called `{id}`"));
            }
            let unknown: indexmap::IndexSet<_> = dependencies.iter().filter(|id| place(id).is_none()).collect();
            let unknown = unknown.into_iter().map(|dependency| {
                format!("step `{id}` depends on `{dependency}`, which is not in the plan")
            });
            expected.extend(unknown);
        }
        let steps = plan.iter().map(|(id, dependencies)| {
            Step::new(id.as_str(), "search").depends_on(dependencies.iter().map(String::as_str))
        });
        match Dag::of(&steps.collect()) {
            Ok(dag) => {
                prop_assert_eq!(expected, Vec::<String>::new());
                for (step, (_, dependencies)) in plan.iter().enumerate() {
                    let distinct: indexmap::IndexSet<_> = dependencies.iter().map(String::as_str).collect();
                    let found: Vec<_> = dag.dependencies(step).map(StepId::as_str).collect();
                    prop_assert_eq!(found, distinct.into_iter().collect::<Vec<_>>());
                }
            }
            Err(problems) => {
                let is_cycle = |problem: &&PlanError| matches!(problem, PlanError::Cycle { .. });
                let others = problems.iter().filter(|problem| !is_cycle(problem)).map(PlanError::to_string);
                prop_assert_eq!(others.collect::<Vec<_>>(), expected);
                prop_assert!(!problems.is_empty());
            }
        }
    }

    #[test]
    fn a_plan_passes_exactly_if_it_has_no_cycle(graph in graphs()) {
        match Dag::of(&plan_of(&graph)) {
            Ok(dag) => {
                prop_assert!(is_acyclic(&graph));
                let mut done = vec![false; graph.len()];
                for &step in dag.order() {
                    prop_assert!(graph[step as usize].iter().all(|&dependency| done[dependency]));
                    prop_assert!(!std::mem::replace(&mut done[step as usize], true));
                }
                prop_assert!(done.into_iter().all(|done| done));
                for (step, dependencies) in graph.iter().enumerate() {
                    let mut distinct = dependencies.clone();
                    let mut seen = BTreeSet::new();
                    distinct.retain(|&dependency| seen.insert(dependency));
                    prop_assert_eq!(dag.dependencies(step).map(index).collect::<Vec<_>>(), distinct);
                }
            }
            Err(problems) => {
                prop_assert!(!is_acyclic(&graph));
                for problem in problems {
                    let PlanError::Cycle { path } = problem else { panic!("{problem}") };
                    for (before, step) in path.iter().zip(path.iter().cycle().skip(1)) {
                        prop_assert!(graph[index(step)].contains(&index(before)), "{:?} is no cycle", path);
                    }
                    let distinct: BTreeSet<_> = path.iter().collect();
                    prop_assert_eq!(distinct.len(), path.len());
                }
            }
        }
    }

    /// Plan order wherever that allows: each step in turn is the earliest whose dependencies are all done.
    #[test]
    fn the_order_takes_the_earliest_step_that_is_ready(graph in graphs()) {
        if let Ok(dag) = Dag::of(&plan_of(&graph)) {
            let mut done = vec![false; graph.len()];
            for &step in dag.order() {
                let is_ready = |step: &usize| !done[*step] && graph[*step].iter().all(|&dependency| done[dependency]);
                prop_assert_eq!((0..graph.len()).find(is_ready), Some(step as usize));
                done[step as usize] = true;
            }
        }
    }
}
