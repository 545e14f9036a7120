//! What steps hand on to each other.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, OnceLock};

use serde_json::Value;

use super::{Added, Graft, Output, StepNumber};
use crate::error::StepError;
use crate::plan::StepId;

/// To look through so many is as fast as to look one up.
const FEW: usize = 16;

/// The result of one dependency.
#[derive(Clone, Debug, PartialEq)]
pub struct Input {
    /// The id the step knows it by.
    pub id: StepId,
    /// Its number.
    pub number: StepNumber,
    /// Its output; none stands for a null.
    pub output: Option<Output>,
    /// Why there is none, if it failed and said `on_failure: continue`.
    pub error: Option<Arc<StepError>>,
}

/// The outputs of the steps that a step depends on, by the ids the step knows them by.
///
/// They are read where the run keeps them: whoever keeps this keeps all outputs of the same plan in memory.
#[derive(Clone)]
pub struct Inputs(Kept);

#[derive(Clone)]
enum Kept {
    Listed(Vec<Input>),
    /// All of one graft, without errors: they are read where they are.
    InPlace {
        grafted: Arc<Grafted>,
        step: StepNumber,
    },
}

impl Inputs {
    /// The outputs of all that `step` depends on, which `grafted` has added, too.
    pub(crate) fn in_place(grafted: Arc<Grafted>, step: StepNumber) -> Self {
        Self(Kept::InPlace { grafted, step })
    }

    /// The output of `id`: null if its condition was false, or if it failed under `on_failure: continue`.
    pub fn get(&self, id: &str) -> Option<&Value> {
        self.find(id).map(|given| value_of(given.output))
    }

    /// Why `id` failed, if it did and said `on_failure: continue`.
    pub fn error(&self, id: &str) -> Option<&StepError> {
        self.find(id)?.error.map(|error| &**error)
    }

    /// All outputs.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&StepId, &Value)> {
        (0..self.len()).map(|index| self.at(index)).map(|given| (given.id, value_of(given.output)))
    }

    /// All there is to them, in the order of [`Dag::dependencies`](crate::Dag::dependencies).
    pub fn to_vec(&self) -> Vec<Input> {
        (0..self.len()).map(|index| self.at(index).to_input()).collect()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        match &self.0 {
            Kept::Listed(inputs) => inputs.len(),
            Kept::InPlace { grafted, step } => grafted.added(*step).dependencies.len(),
        }
    }

    /// Whether the step depends on nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Those that may be anything but values that are at hand.
    pub(crate) fn listed(&self) -> &[Input] {
        match &self.0 {
            Kept::Listed(inputs) => inputs,
            Kept::InPlace { .. } => &[],
        }
    }

    pub(crate) fn listed_mut(&mut self) -> &mut [Input] {
        match &mut self.0 {
            Kept::Listed(inputs) => inputs,
            Kept::InPlace { .. } => &mut [],
        }
    }

    /// The output of `id`, shared, for somebody who asks for many of them. Whoever calls a tool has fetched and gathered
    /// everything before.
    pub(crate) fn shared(&self) -> impl Fn(&str) -> Option<Arc<Value>> {
        let places = OnceCell::new();
        let all = || (0..self.len()).map(|index| (self.at(index).id.as_str(), index)).collect::<HashMap<_, _>>();
        move |id| {
            let given = match self.len() {
                0..FEW => self.find(id)?,
                _ => self.at(*places.get_or_init(all).get(id)?),
            };
            Some(match given.output {
                Some(Output::Inline(value)) => Arc::clone(value),
                _ => Arc::default(),
            })
        }
    }

    fn find(&self, id: &str) -> Option<Given<'_>> {
        (0..self.len()).map(|index| self.at(index)).find(|given| *given.id == *id)
    }

    fn at(&self, index: usize) -> Given<'_> {
        match &self.0 {
            Kept::Listed(inputs) => {
                let Input { id, number, output, error } = &inputs[index];
                Given { id, number: *number, output: output.as_ref(), error: error.as_ref() }
            }
            Kept::InPlace { grafted, step } => {
                let number = grafted.added(*step).dependencies[index];
                Given { id: &grafted.added(number).step.id, number, output: grafted.output(number), error: None }
            }
        }
    }
}

/// One of [`Inputs`], wherever it is.
#[derive(Clone, Copy)]
struct Given<'a> {
    id: &'a StepId,
    number: StepNumber,
    output: Option<&'a Output>,
    error: Option<&'a Arc<StepError>>,
}

impl Given<'_> {
    fn to_input(self) -> Input {
        let Self { id, number, output, error } = self;
        Input { id: id.clone(), number, output: output.cloned(), error: error.cloned() }
    }
}

fn value_of(output: Option<&Output>) -> &Value {
    match output {
        Some(Output::Inline(value)) => value,
        _ => &Value::Null,
    }
}

impl Default for Inputs {
    fn default() -> Self {
        Self(Kept::Listed(Vec::new()))
    }
}

impl From<Vec<Input>> for Inputs {
    fn from(inputs: Vec<Input>) -> Self {
        Self(Kept::Listed(inputs))
    }
}

impl<I: Into<StepId>> FromIterator<(I, Value)> for Inputs {
    fn from_iter<T: IntoIterator<Item = (I, Value)>>(outputs: T) -> Self {
        let input = |(number, (id, value)): (u32, (I, Value))| Input {
            id: id.into(),
            number,
            output: Some(Output::inline(value)),
            error: None,
        };
        (0..).zip(outputs).map(input).collect::<Vec<_>>().into()
    }
}

impl PartialEq for Inputs {
    fn eq(&self, other: &Self) -> bool {
        self.to_vec() == other.to_vec()
    }
}

impl fmt::Debug for Inputs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.to_vec()).finish()
    }
}

/// A graft with the outputs of the steps that it has added.
///
/// The scheduler sets each once; the calls that need it read it here. If each was given its own, the counters of them
/// all would be much of what a cheap call costs.
#[derive(Clone, Debug)]
pub(crate) struct Grafted {
    pub(crate) graft: Arc<Graft>,
    outputs: Box<[OnceLock<Output>]>,
}

impl Grafted {
    pub(crate) fn new(graft: Arc<Graft>) -> Self {
        let outputs = graft.added.iter().map(|_| OnceLock::new()).collect();
        Self { graft, outputs }
    }

    /// A step as it was brought in.
    pub(crate) fn added(&self, number: StepNumber) -> &Added {
        &self.graft.added[(number - self.graft.first) as usize]
    }

    pub(crate) fn output(&self, number: StepNumber) -> Option<&Output> {
        self.outputs[(number - self.graft.first) as usize].get()
    }

    /// A step has one output for ever: another one is not taken.
    pub(crate) fn set_output(&self, number: StepNumber, output: Output) {
        let _ = self.outputs[(number - self.graft.first) as usize].set(output);
    }
}
