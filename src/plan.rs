//! Plans as plain data: what a planner writes, a file holds and a program builds.
//!
//! Nothing here is checked beyond its shape; [`Dag`](crate::Dag) is a plan that was.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use smol_str::{SmolStr, SmolStrBuilder, format_smolstr};

use crate::policy::Retry;
use crate::strict;

/// The name of a step, unique in its plan.
///
/// A valid id is 1 to 64 bytes of `[A-Za-z0-9_-]`; `/` appears only in the ids of steps that came from an
/// expansion (`parent/child`). [`Dag::check`](crate::Dag::check) enforces this, not the constructor, so that a bad
/// id can be reported together with everything else that is wrong with a plan.
///
/// ```
/// use plandag::StepId;
///
/// // Put together in place, without a text of its own.
/// assert_eq!(StepId::from(format_args!("part-{}", 7)), "part-7");
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
// Ids are cloned, hashed and compared all the time. One of up to 23 bytes is kept in place: nothing is allocated,
// counted or waited for.
pub struct StepId(#[cfg_attr(feature = "schema", schemars(with = "String"))] SmolStr);

impl StepId {
    /// The longest id, in bytes.
    pub const MAX_BYTES: usize = 64;

    /// Makes an id of any text.
    pub fn new(id: impl AsRef<str>) -> Self {
        Self(SmolStr::new(id))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id of `child` inside the expansion of `self`: `self/child`.
    pub(crate) fn child(&self, child: &Self) -> Self {
        Self(format_smolstr!("{self}/{child}"))
    }

    /// The ids of the steps whose expansions it is in, innermost first.
    pub(crate) fn parents(&self) -> impl Iterator<Item = &str> {
        self.0.rmatch_indices('/').map(|(end, _)| &self.0[..end])
    }

    /// Whether a plan may use this id: 1 to 64 bytes of `[A-Za-z0-9_-]`, and not the reserved `inputs`.
    pub fn is_valid(&self) -> bool {
        let bytes = self.0.as_bytes();
        (1..=Self::MAX_BYTES).contains(&bytes.len())
            && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
            && &*self.0 != "inputs"
    }
}

impl fmt::Display for StepId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for StepId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl Borrow<str> for StepId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for StepId {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl From<&str> for StepId {
    fn from(id: &str) -> Self {
        Self::new(id)
    }
}

impl From<String> for StepId {
    fn from(id: String) -> Self {
        Self::new(id)
    }
}

impl From<fmt::Arguments<'_>> for StepId {
    fn from(id: fmt::Arguments<'_>) -> Self {
        let mut text = SmolStrBuilder::new();
        // As with `format!`, an error can only be one that what is put together makes up.
        fmt::Write::write_fmt(&mut text, id).expect("what is put together is text");
        Self(text.finish())
    }
}

impl PartialEq<str> for StepId {
    fn eq(&self, other: &str) -> bool {
        &*self.0 == other
    }
}

impl PartialEq<&str> for StepId {
    fn eq(&self, other: &&str) -> bool {
        &*self.0 == *other
    }
}

/// What happens to the dependents of a step that failed for good.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum OnFailure {
    /// They are skipped, and the planner is asked for a revision.
    #[default]
    Fail,
    /// They run, and see a null with the error beside it.
    Continue,
}

/// What happens when an attempt of an acting step was interrupted, so that nobody knows whether it took effect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum OnInterrupt {
    /// The step is `unknown` until a person decides.
    #[default]
    Ask,
    /// It is safe to do it again.
    Retry,
}

/// One step of a plan.
///
/// The *content* of a step (its tool, description, args, condition and dependencies) says what is done; the
/// *settings* (timeout, retry, `on_failure`, `on_interrupt`, `uses`, `estimate_ms`) say how. A revision may change
/// the settings of a step in place; other content makes it another step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
// In this order also in memory: what every run of every step looks at comes first, and is loaded together.
#[repr(C)]
pub struct Step {
    /// The step's name in the plan.
    pub id: StepId,
    /// The tool that does the step; without one, the run's default tool does it from the description.
    #[serde(default, deserialize_with = "strict::optional_text", skip_serializing_if = "Option::is_none")]
    pub tool: Option<Arc<str>>,
    /// What the step is for, in words.
    #[serde(default, deserialize_with = "strict::text", skip_serializing_if = "str::is_empty")]
    pub description: Arc<str>,
    /// The tool's arguments; strings in them may hold references such as `${step.path}`.
    #[serde(default, deserialize_with = "strict::value", skip_serializing_if = "Value::is_null")]
    pub args: Value,
    /// Steps that must be finished first. A reference in `args` or `when` implies its dependency.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub depends_on: Vec<StepId>,
    /// A reference, compared with `==` or `!=` to a JSON literal if wanted; false skips the step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<Arc<str>>,
    /// The longest an attempt may take, in milliseconds, at least 1; left out, the run's default.
    #[serde(default, deserialize_with = "strict::optional_at_least_one", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    pub timeout_ms: Option<u64>,
    /// What its failure means for its dependents.
    #[serde(default, skip_serializing_if = "is_default")]
    pub on_failure: OnFailure,
    /// What an interruption means if the step's tool acts.
    #[serde(default, skip_serializing_if = "is_default")]
    pub on_interrupt: OnInterrupt,
    /// How long the step is expected to take, in milliseconds: long chains of work are started first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimate_ms: Option<u64>,
    /// Weights taken from named pools while an attempt runs; left out, one from the pool named like the tool.
    #[serde(default, deserialize_with = "strict::map", skip_serializing_if = "BTreeMap::is_empty")]
    pub uses: BTreeMap<String, u32>,
    /// How often and how soon the step is tried again; left out, the run's default.
    #[serde(default, deserialize_with = "strict::optional_object", skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Step {
    /// A step that is done by `tool`.
    pub fn new(id: impl Into<StepId>, tool: impl Into<Arc<str>>) -> Self {
        Self { tool: Some(tool.into()), ..Self::described(id, Arc::default()) }
    }

    /// A step without a tool: the run's default tool does it from its description.
    pub fn described(id: impl Into<StepId>, description: impl Into<Arc<str>>) -> Self {
        Self {
            id: id.into(),
            tool: None,
            description: description.into(),
            args: Value::Null,
            depends_on: Vec::new(),
            when: None,
            timeout_ms: None,
            on_failure: OnFailure::Fail,
            on_interrupt: OnInterrupt::Ask,
            estimate_ms: None,
            uses: BTreeMap::new(),
            retry: None,
        }
    }

    /// Sets what the step is for, in words.
    #[must_use]
    pub fn description(mut self, description: impl Into<Arc<str>>) -> Self {
        self.description = description.into();
        self
    }

    /// Sets the tool's arguments.
    #[must_use]
    pub fn args(mut self, args: Value) -> Self {
        self.args = args;
        self
    }

    /// Adds steps that must be finished first.
    #[must_use]
    pub fn depends_on<I>(mut self, ids: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<StepId>,
    {
        let ids = ids.into_iter().map(Into::into);
        // Few steps ever get more: no room is kept for that.
        self.depends_on.reserve_exact(ids.size_hint().0);
        self.depends_on.extend(ids);
        self
    }

    /// Sets the condition under which the step runs.
    #[must_use]
    pub fn when(mut self, condition: impl Into<Arc<str>>) -> Self {
        self.when = Some(condition.into());
        self
    }

    /// Sets the longest an attempt may take, in milliseconds, at least 1.
    #[must_use]
    pub fn timeout_ms(mut self, timeout_ms: u64) -> Self {
        self.timeout_ms = Some(timeout_ms);
        self
    }

    /// Sets how often and how soon the step is tried again. A busy server is asked
    /// [more often](Retry::BUSY_ATTEMPTS).
    #[must_use]
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = Some(retry);
        self
    }

    /// Sets what the step's failure means for its dependents.
    #[must_use]
    pub fn on_failure(mut self, on_failure: OnFailure) -> Self {
        self.on_failure = on_failure;
        self
    }

    /// Sets what an interruption means if the step's tool acts.
    #[must_use]
    pub fn on_interrupt(mut self, on_interrupt: OnInterrupt) -> Self {
        self.on_interrupt = on_interrupt;
        self
    }

    /// Takes `weight` from `pool` while an attempt runs.
    #[must_use]
    pub fn uses(mut self, pool: impl Into<String>, weight: u32) -> Self {
        self.uses.insert(pool.into(), weight);
        self
    }

    /// Sets how long the step is expected to take, in milliseconds.
    #[must_use]
    pub fn estimate_ms(mut self, estimate_ms: u64) -> Self {
        self.estimate_ms = Some(estimate_ms);
        self
    }

    /// Whether two steps do the same thing, dependencies apart: same tool, description, args and condition.
    pub(crate) fn same_content(&self, other: &Self) -> bool {
        self.tool == other.tool
            && self.description == other.description
            && self.args == other.args
            && self.when == other.when
    }

    /// Whether two steps of the same content are also done the same way.
    pub(crate) fn same_settings(&self, other: &Self) -> bool {
        self.timeout_ms == other.timeout_ms
            && self.retry == other.retry
            && self.on_failure == other.on_failure
            && self.on_interrupt == other.on_interrupt
            && self.uses == other.uses
            && self.estimate_ms == other.estimate_ms
    }
}

/// Steps and what they depend on.
///
/// Steps are shared, so a plan is cheap to clone and a run keeps no second copy of them.
///
/// ```
/// use plandag::{Plan, Step};
/// use serde_json::json;
///
/// let plan = Plan::from_iter([
///     Step::new("paris", "weather").args(json!({ "city": "Paris" })),
///     Step::new("oslo", "weather").args(json!({ "city": "Oslo" })),
///     Step::new("compare", "warmest").args(json!({ "a": "${paris}", "b": "${oslo}" })),
/// ]);
/// assert_eq!(plan.steps.len(), 3);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Plan {
    /// What the plan is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objective: Option<String>,
    /// The step whose output is the answer; left out, the only step without dependents, or an object of all such.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<StepId>,
    /// Sizes of named pools. A size that the run's own policy names wins.
    #[serde(default, deserialize_with = "strict::map", skip_serializing_if = "BTreeMap::is_empty")]
    pub pools: BTreeMap<String, u32>,
    /// The steps, in the order in which ties are broken.
    #[serde(deserialize_with = "strict::objects")]
    pub steps: Vec<Arc<Step>>,
}

impl Plan {
    /// An empty plan.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a step.
    pub fn push(&mut self, mut step: Step) {
        // Steps in a row often use the same tool: they share its name.
        if let (Some(last), Some(tool)) = (self.steps.last().and_then(|last| last.tool.as_ref()), &mut step.tool)
            && !Arc::ptr_eq(last, tool)
            && last == tool
        {
            tool.clone_from(last);
        }
        self.steps.push(Arc::new(step));
    }

    /// Sets what the plan is for.
    #[must_use]
    pub fn objective(mut self, objective: impl Into<String>) -> Self {
        self.objective = Some(objective.into());
        self
    }

    /// Names the step whose output is the answer.
    #[must_use]
    pub fn answer(mut self, id: impl Into<StepId>) -> Self {
        self.answer = Some(id.into());
        self
    }

    /// Sets the size of a named pool.
    #[must_use]
    pub fn pool(mut self, name: impl Into<String>, size: u32) -> Self {
        self.pools.insert(name.into(), size);
        self
    }
}

impl FromIterator<Step> for Plan {
    fn from_iter<I: IntoIterator<Item = Step>>(steps: I) -> Self {
        let mut plan = Self::default();
        plan.extend(steps);
        plan
    }
}

impl Extend<Step> for Plan {
    fn extend<I: IntoIterator<Item = Step>>(&mut self, steps: I) {
        let steps = steps.into_iter();
        self.steps.reserve(steps.size_hint().0);
        steps.for_each(|step| self.push(step));
    }
}

/// A change to the plan that a run is following: what to add, change and drop. The rest stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Patch {
    /// Steps that are not in the plan yet.
    #[serde(default, deserialize_with = "strict::objects", skip_serializing_if = "Vec::is_empty")]
    pub add: Vec<Arc<Step>>,
    /// New definitions of steps that are in the plan.
    #[serde(default, deserialize_with = "strict::objects", skip_serializing_if = "Vec::is_empty")]
    pub change: Vec<Arc<Step>>,
    /// Steps to leave out from now on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drop: Vec<StepId>,
    /// The step whose output is the answer from now on; left out, as before if that step is still there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<StepId>,
}
