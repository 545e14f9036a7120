//! Everything that can be wrong with a list of steps, found in one pass each.

use std::collections::BTreeMap;
use std::hash::BuildHasher as _;
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use indexmap::IndexSet;

use super::ById;
use super::order::{build_graph, cycles, plan_order};
use crate::counted::counted;
use crate::cut;
use crate::error::PlanError;
use crate::event::RunStart;
use crate::plan::{Step, StepId};
use crate::reference::{INPUTS, each_reference};
use crate::suggest::closest;
use crate::tool::ToolSpec;

/// How many problems of one plan are listed; the rest is only counted.
const LISTED_PROBLEMS: usize = 100;

/// How many names are compared in search of suggestions, over all problems of a plan.
const COMPARED_NAMES: usize = 100_000;

/// The most nodes and edges petgraph can count, which keeps the last number for itself.
pub(crate) const MAX_INDEX: u32 = u32::MAX - 1;

/// What a list of steps is checked against.
pub(crate) struct Rules<'a> {
    /// The run whose tools and inputs apply; without one, neither is checked.
    pub(crate) start: Option<&'a RunStart>,
    /// Whether an id that is not in the list may be depended on and may be the answer.
    pub(crate) external: &'a dyn Fn(&StepId) -> bool,
    /// The most steps the list may have.
    pub(crate) max_steps: u32,
    /// The most dependencies the list may have.
    pub(crate) max_edges: u32,
}

impl Rules<'_> {
    fn max_edges(&self) -> u32 {
        self.max_edges.min(MAX_INDEX)
    }
}

/// Checks a list of steps. `pools` are the sizes that apply; a pool that is not among them is unlimited.
///
/// # Errors
///
/// Everything that is wrong with the list, except that one over a limit is not looked into.
pub(crate) fn check_with(
    steps: &[Arc<Step>],
    answer: Option<&StepId>,
    pools: &BTreeMap<String, u32>,
    rules: &Rules<'_>,
) -> Result<Checked, Vec<PlanError>> {
    if steps.is_empty() {
        return Err(vec![PlanError::Empty]);
    }
    within("steps", steps.len(), rules.max_steps.min(MAX_INDEX))?;
    let mut problems = Problems::default();
    // One pass for all there is to a step: those of a large plan are not at hand, and to look at one is to wait for it.
    let mut edges = Edges::new(steps);
    let mut tools = rules.start.map(Tools::new);
    let mut declared = 0;
    for (index, step) in (0..).zip(steps) {
        declared += step.depends_on.len();
        if declared > rules.max_edges() as usize {
            within("dependencies", steps.iter().map(|step| step.depends_on.len()).sum(), rules.max_edges())?;
        }
        edges.add(index, step, rules, &mut problems);
        within("dependencies", edges.flat.len(), rules.max_edges())?;
        if let Some(tools) = &mut tools {
            tools.check(step, &mut problems);
        }
        if step.retry.is_some_and(|retry| retry.max_attempts == 0) {
            problems.push(|_| is_zero("max_attempts` of `retry", step));
        }
        if step.timeout_ms == Some(0) {
            problems.push(|_| is_zero("timeout_ms", step));
        }
        check_pools(step, pools, tools.as_ref(), &mut problems);
    }
    let answered = answer.and_then(|answer| edges.ids.find(answer.as_str()));
    if let Some(answer) = answer
        && answered.is_none()
        && !(rules.external)(answer)
    {
        problems.push(|names| PlanError::UnknownAnswer {
            answer: shown_id(answer),
            suggestion: names.closest(answer.as_str(), ids_of(steps)).map(StepId::from),
        });
    }

    let Edges { flat, starts, external, in_plan_order, .. } = edges;
    let order = if in_plan_order {
        (0..steps.len() as u32).collect()
    } else {
        let graph = build_graph(steps.len(), &flat, &starts);
        plan_order(&graph).unwrap_or_else(|| {
            for path in cycles(&graph) {
                let path = path.into_iter().map(|node| shown_id(&steps[node.index()].id)).collect();
                problems.push(|_| PlanError::Cycle { path });
            }
            Vec::new()
        })
    };
    problems.none()?;
    Ok(Checked { order, flat, starts, external: external.into_iter().collect(), answer: answered })
}

/// What the check has found out about a list of steps, in which they are spoken of by index.
#[derive(Clone, Debug)]
pub(crate) struct Checked {
    /// The steps in an order in which every dependency comes first; plan order wherever that allows.
    pub(crate) order: Vec<u32>,
    /// Flat dependency lists: those of step `i` are `flat[starts[i]..starts[i + 1]]`, first what it declares, then
    /// what it refers to. The number of steps plus `k` means `external[k]`.
    pub(crate) flat: Vec<u32>,
    pub(crate) starts: Vec<u32>,
    /// Ids that are not in the list but were allowed as dependencies.
    pub(crate) external: Vec<StepId>,
    /// The step that answers, if one was named and is in the list.
    pub(crate) answer: Option<u32>,
}

impl Checked {
    /// The dependencies of a step.
    pub(crate) fn dependencies(&self, step: usize) -> &[u32] {
        &self.flat[self.starts[step] as usize..self.starts[step + 1] as usize]
    }

    /// The id of a dependency that is not in the list.
    pub(crate) fn external_id(&self, dependency: u32) -> Option<&StepId> {
        self.external.get((dependency as usize).checked_sub(self.starts.len() - 1)?)
    }
}

/// How much of a name a problem holds, so that a hostile plan cannot make its problems larger than itself.
const SHOWN_CHARS: usize = 80;

fn shown(name: &str) -> String {
    cut::chars(name, SHOWN_CHARS).into_owned()
}

/// An id as problems name it: all of a valid one, the beginning of a very long one.
pub(crate) fn shown_id(id: &StepId) -> StepId {
    if id.as_str().len() <= SHOWN_CHARS { id.clone() } else { shown(id.as_str()).into() }
}

/// The problems found so far.
#[derive(Default)]
struct Problems {
    listed: Vec<PlanError>,
    /// How many there are beyond the listed ones.
    more: usize,
    names: Names,
}

impl Problems {
    /// Adds a problem, which is made only if it is listed.
    fn push(&mut self, problem: impl FnOnce(&mut Names) -> PlanError) {
        if self.listed.len() < LISTED_PROBLEMS {
            self.listed.push(problem(&mut self.names));
        } else {
            self.more += 1;
        }
    }

    fn none(mut self) -> Result<(), Vec<PlanError>> {
        if self.listed.is_empty() {
            return Ok(());
        }
        if self.more > 0 {
            self.listed.push(PlanError::Malformed { message: format!("and {}", counted(self.more, "more problem")) });
        }
        Err(self.listed)
    }
}

/// Finds suggestions, but no longer than is bearable: a hostile plan has many steps and many unknown names.
struct Names {
    left: usize,
}

impl Default for Names {
    fn default() -> Self {
        Self { left: COMPARED_NAMES }
    }
}

impl Names {
    fn closest<'a>(&mut self, name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
        let left = &mut self.left;
        closest(
            name,
            candidates.take_while(|_| {
                let go_on = *left > 0;
                *left = left.saturating_sub(1);
                go_on
            }),
        )
    }
}

fn within(what: &str, count: usize, limit: u32) -> Result<(), Vec<PlanError>> {
    if count <= limit as usize {
        return Ok(());
    }
    Err(vec![PlanError::TooLarge { what: what.to_owned(), count: count as u64, limit: limit.into() }])
}

fn ids_of(steps: &[Arc<Step>]) -> impl Iterator<Item = &str> {
    steps.iter().map(|step| step.id.as_str())
}

/// Where each id is in a list of steps.
///
/// A table of numbers and no more: in a large plan it is looked into at random, and what is small is soon found. Most
/// plans do without: while each id comes after the one before it none comes twice, and where ids are numbered without a
/// gap each says itself where it is.
struct Ids<'a> {
    steps: &'a [Arc<Step>],
    /// Empty until it is needed.
    table: HashTable<u32>,
    hasher: RandomState,
    /// How many steps were passed, from the first one on, and how many of them are in the table.
    passed: usize,
    known: usize,
    /// The number in the first id.
    first: u32,
    /// The second step of each id that comes more than once.
    doubled: BTreeMap<&'a str, u32>,
}

impl<'a> Ids<'a> {
    fn new(steps: &'a [Arc<Step>]) -> Self {
        Self {
            steps,
            table: HashTable::new(),
            hasher: RandomState::default(),
            passed: 0,
            known: 0,
            first: steps.first().map_or(0, |step| number_in(step.id.as_str())),
            doubled: BTreeMap::new(),
        }
    }

    /// Passes the next step.
    fn pass(&mut self) {
        let index = self.passed;
        self.passed += 1;
        let place = |index: usize| (self.steps[index].id.as_str().len(), self.steps[index].id.as_str());
        let is_ascending = self.known == 0 && (index == 0 || place(index - 1) < place(index));
        if !is_ascending {
            self.learn(self.passed);
        }
    }

    /// Takes in the steps before `end`.
    fn learn(&mut self, end: usize) {
        let Self { steps, table, hasher, .. } = self;
        let steps: &'a [Arc<Step>] = steps;
        let id = |index: u32| steps[index as usize].id.as_str();
        if self.known == 0 {
            *table = HashTable::with_capacity(steps.len());
        }
        for index in self.known as u32..end as u32 {
            let (is_id, hash) = (|other: &u32| id(*other) == id(index), |index: &u32| hasher.hash_one(id(*index)));
            match table.entry(hash(&index), is_id, hash) {
                Entry::Vacant(place) => drop(place.insert(index)),
                Entry::Occupied(_) => drop(self.doubled.entry(id(index)).or_insert(index)),
            }
        }
        self.known = self.known.max(end);
    }

    /// The first step that has this id, among those that are known.
    fn get(&self, id: &str) -> Option<u32> {
        self.table.find(self.hasher.hash_one(id), |index| self.steps[*index as usize].id == *id).copied()
    }

    /// The first step that has this id. Most often that is one before those that depend on it.
    fn find(&mut self, id: &str) -> Option<u32> {
        if self.known == 0 {
            if let Some(index) = self.numbered(id) {
                return Some(index);
            }
            self.learn(self.passed);
        }
        self.get(id).or_else(|| {
            let all = self.steps.len();
            if self.known == all {
                return None;
            }
            self.learn(all);
            self.get(id)
        })
    }

    /// The step that is where the number in this id puts it, if it has this id.
    fn numbered(&self, id: &str) -> Option<u32> {
        let index = number_in(id).wrapping_sub(self.first);
        self.steps.get(index as usize).is_some_and(|step| step.id == *id).then_some(index)
    }
}

/// The number at the end of an id, of which no more than the last nine digits count.
fn number_in(id: &str) -> u32 {
    let mut number = 0;
    let mut place = 1;
    for byte in id.bytes().rev().take(9).take_while(u8::is_ascii_digit) {
        number += u32::from(byte - b'0') * place;
        place *= 10;
    }
    number
}

/// That a number is 0 which must not be.
#[cold]
fn is_zero(field: &str, step: &Step) -> PlanError {
    let message = format!("`{field}` of step `{}` should be at least 1, but is 0", shown_id(&step.id));
    PlanError::Malformed { message }
}

/// The edges of a plan, as [`Dag`](super::Dag) keeps them.
struct Edges<'a> {
    ids: Ids<'a>,
    flat: Vec<u32>,
    starts: Vec<u32>,
    external: IndexSet<StepId>,
    /// Whether every dependency comes before its dependents in the plan.
    in_plan_order: bool,
    /// Which step had each dependency last, to leave out doubles without comparing a step's dependencies pairwise.
    last_dependent: Vec<u32>,
}

impl<'a> Edges<'a> {
    fn new(steps: &'a [Arc<Step>]) -> Self {
        let mut starts = Vec::with_capacity(steps.len() + 1);
        starts.push(0);
        Self {
            ids: Ids::new(steps),
            flat: Vec::new(),
            starts,
            external: IndexSet::new(),
            in_plan_order: true,
            last_dependent: vec![u32::MAX; steps.len()],
        }
    }

    /// Adds the edges to a step, which is the next one.
    fn add(&mut self, index: u32, step: &Step, rules: &Rules<'_>, problems: &mut Problems) {
        self.ids.pass();
        if !step.id.is_valid() {
            problems.push(|_| PlanError::InvalidId { id: shown(step.id.as_str()) });
        }
        if self.ids.doubled.get(step.id.as_str()) == Some(&index) {
            problems.push(|_| PlanError::DuplicateId { id: shown_id(&step.id) });
        }
        let mut unknown = Vec::new();
        let mut depend = |id: &str| {
            if !self.depend(index, id, rules) {
                unknown.push(StepId::from(id));
            }
        };
        step.depends_on.iter().for_each(|id| depend(id.as_str()));
        let mut inputs = Vec::new();
        let mut unreadable = Vec::new();
        each_reference(step, |reference| match reference {
            Ok(reference) if reference.id == INPUTS => inputs.extend(reference.input()),
            Ok(reference) => depend(reference.id),
            Err(message) => unreadable.push(message),
        });
        self.starts.push(self.flat.len() as u32);
        if !unknown.is_empty() {
            for dependency in unknown.into_iter().collect::<IndexSet<_>>() {
                problems.push(|names| PlanError::UnknownDependency {
                    step: shown_id(&step.id),
                    suggestion: names
                        .closest(dependency.as_str(), ids_of(self.ids.steps).filter(|&id| step.id != *id))
                        .map(StepId::from),
                    dependency: shown_id(&dependency),
                });
            }
        }
        for message in unreadable {
            problems.push(|_| PlanError::BadReference { step: shown_id(&step.id), message });
        }
        if let Some(start) = rules.start.filter(|_| !inputs.is_empty()) {
            let inputs: IndexSet<&str> = inputs.into_iter().collect();
            for input in inputs.into_iter().filter(|&input| !start.inputs.contains_key(input)) {
                problems.push(|names| PlanError::UnknownInput {
                    step: shown_id(&step.id),
                    input: shown(input),
                    suggestion: names.closest(input, start.inputs.keys().map(String::as_str)).map(str::to_owned),
                });
            }
        }
    }

    /// Adds an edge, unless it is there. False if the dependency is not known.
    fn depend(&mut self, index: u32, id: &str, rules: &Rules<'_>) -> bool {
        let steps = self.ids.steps.len();
        let dependency = if let Some(known) = self.ids.find(id) {
            known
        } else if let Some(known) = self.external.get_index_of(id) {
            (steps + known) as u32
        } else if (rules.external)(&StepId::from(id)) {
            self.external.insert(StepId::from(id));
            self.last_dependent.push(u32::MAX);
            (steps + self.external.len() - 1) as u32
        } else {
            return false;
        };
        if std::mem::replace(&mut self.last_dependent[dependency as usize], index) != index {
            self.in_plan_order &= dependency < index || dependency as usize >= steps;
            self.flat.push(dependency);
        }
        true
    }
}

/// The tools of a run.
struct Tools<'a> {
    /// The pool of each tool's steps that name none.
    pools: ById<&'a str, &'a str>,
    /// The tool of steps that name none.
    default: Option<&'a str>,
    /// Steps in a row often use the same tool, and share its name.
    last: Option<&'a Arc<str>>,
}

impl<'a> Tools<'a> {
    fn new(start: &'a RunStart) -> Self {
        let pool = |tool: &'a ToolSpec| if tool.pool.is_empty() { &*tool.name } else { &*tool.pool };
        let pools: ById<_, _> = start.tools.iter().map(|tool| (&*tool.name, pool(tool))).collect();
        let default = start.default_tool.as_deref().filter(|tool| pools.contains_key(tool));
        Self { pools, default, last: None }
    }

    /// Checks that the run has the tool of a step.
    fn check(&mut self, step: &'a Step, problems: &mut Problems) {
        match &step.tool {
            Some(tool) if self.last.is_some_and(|last| Arc::ptr_eq(tool, last)) => {}
            Some(tool) => match self.pools.contains_key(&**tool) {
                true => self.last = Some(tool),
                false => problems.push(|names| PlanError::UnknownTool {
                    step: shown_id(&step.id),
                    tool: shown(tool),
                    suggestion: names.closest(tool, self.pools.keys().copied()).map(str::to_owned),
                }),
            },
            None if self.default.is_some() => {}
            None => problems.push(|_| PlanError::NoExecutor { step: shown_id(&step.id) }),
        }
    }

    /// The pool of a step that names none.
    fn pool<'s>(&'s self, step: &'s Step) -> Option<&'s str> {
        let tool = step.tool.as_deref().or(self.default)?;
        Some(self.pools.get(tool).copied().unwrap_or(tool))
    }
}

/// Checks that a step fits into the pools it takes from.
fn check_pools(step: &Step, pools: &BTreeMap<String, u32>, tools: Option<&Tools<'_>>, problems: &mut Problems) {
    if pools.is_empty() {
        return;
    }
    let mut check = |pool: &str, weight| {
        if let Some(&size) = pools.get(pool)
            && size < weight
        {
            problems.push(|_| PlanError::OverPool { step: shown_id(&step.id), pool: shown(pool), weight, size });
        }
    };
    if step.uses.is_empty() {
        if let Some(pool) = tools.map_or(step.tool.as_deref(), |tools| tools.pool(step)) {
            check(pool, 1);
        }
    } else {
        step.uses.iter().for_each(|(pool, &weight)| check(pool, weight));
    }
}
