//! The values of outputs that are kept elsewhere or are made of others.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::error::JournalError;
use crate::event::{Output, StepNumber};
use crate::journal::{Journal, RunId};
use crate::scheduler::Scheduler;

/// The outputs that gathered ones are made of, by step.
#[derive(Clone, Debug, Default)]
pub(crate) struct Parts(BTreeMap<StepNumber, Output>);

impl Parts {
    /// Adds what `output` is made of, and what that is made of.
    pub(crate) fn add(&mut self, output: &Output, scheduler: &Scheduler) {
        let mut rest = vec![output];
        while let Some(output) = rest.pop() {
            let Output::Gathered(members) = output else { continue };
            for (_, number) in members.iter() {
                if let Some(part) = scheduler.output(*number)
                    && self.0.insert(*number, part.clone()).is_none()
                {
                    rest.push(part);
                }
            }
        }
    }

    /// The part that is the output of this step.
    pub(crate) fn of(&self, step: StepNumber) -> Option<&Output> {
        self.0.get(&step)
    }

    /// Reads the parts that are stored.
    pub(crate) async fn fetch(&mut self, journal: &dyn Journal, run: &RunId) -> Result<(), JournalError> {
        for part in self.0.values_mut() {
            fetch(part, journal, run).await?;
        }
        Ok(())
    }

    /// The value of `output`; none if it or a part of it is stored and was not read. It recurses as deep as
    /// expansions nest, which is bounded also in a history from outside: see [`Scheduler::replay`].
    pub(crate) fn value(&self, output: &Output) -> Option<Arc<Value>> {
        match output {
            Output::Inline(value) => Some(Arc::clone(value)),
            Output::Stored(_) => None,
            Output::Gathered(members) => {
                let member = |number: &StepNumber| match self.0.get(number) {
                    Some(part) => self.value(part).map(Arc::unwrap_or_clone),
                    None => Some(Value::Null),
                };
                let fields: Option<Map<_, _>> =
                    members.iter().map(|(id, number)| Some((id.to_string(), member(number)?))).collect();
                fields.map(|fields| Arc::new(Value::Object(fields)))
            }
        }
    }
}

/// Reads `output` if it is stored.
pub(crate) async fn fetch(output: &mut Output, journal: &dyn Journal, run: &RunId) -> Result<(), JournalError> {
    if let Output::Stored(stored) = output {
        *output = Output::Inline(journal.get_output(run, stored).await?);
    }
    Ok(())
}
