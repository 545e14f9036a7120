//! Results on their way between a tool and the scheduler: bounded, kept in the journal if they are large, and
//! fetched and gathered again for the steps that need them.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use serde_json::{Number, Value};
use tokio::sync::OnceCell;

use crate::depth::{dismantle, is_deeper, is_too_deep};
use crate::error::{JournalError, StepError, StepErrorKind};
use crate::event::{Input, Output, StepNumber};
use crate::plan::{Plan, Step};
use crate::policy::Retry;
use crate::reference::MAX_DEPTH;
use crate::report::gather::Parts;
use crate::scheduler::Scheduler;

use super::attempt::{RunContext, aborted};
use super::kept::Kept;

/// Longer error messages are cut.
const MAX_MESSAGE_BYTES: usize = 16 * 1024;
/// Larger error details are dropped.
const MAX_DETAILS_BYTES: usize = 64 * 1024;

/// Why a value cannot be handed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Excess {
    Size,
    Depth,
}

/// How many bytes of JSON a value is, as it is written down without spaces; looks no further than `limit`.
fn measure(value: &Value, limit: usize) -> Result<usize, Excess> {
    let mut left = limit;
    subtract(value, MAX_DEPTH, &mut left)?;
    Ok(limit - left)
}

/// Takes the size of `value` from `left`. It recurses no deeper than `depth`.
fn subtract(value: &Value, depth: usize, left: &mut usize) -> Result<(), Excess> {
    let own = match value {
        Value::Null | Value::Bool(true) => 4,
        Value::Bool(false) => 5,
        Value::Number(number) => number_size(number),
        Value::String(text) => text_size(text, *left),
        // Two brackets, and what is between the items.
        Value::Array(items) => 2 + items.len().saturating_sub(1),
        Value::Object(fields) => 2 + fields.len().saturating_sub(1),
    };
    *left = left.checked_sub(own).ok_or(Excess::Size)?;
    match value {
        Value::Array(_) | Value::Object(_) if depth == 0 => Err(Excess::Depth),
        Value::Array(items) => items.iter().try_for_each(|item| subtract(item, depth - 1, left)),
        Value::Object(fields) => fields.iter().try_for_each(|(key, field)| {
            *left = left.checked_sub(text_size(key, *left) + 1).ok_or(Excess::Size)?;
            subtract(field, depth - 1, left)
        }),
        _ => Ok(()),
    }
}

fn number_size(number: &Number) -> usize {
    let digits = |number: u64| number.checked_ilog10().unwrap_or(0) as usize + 1;
    if let Some(number) = number.as_u64() {
        return digits(number);
    }
    number.as_i64().map_or_else(|| float_size(number), |negative| 1 + digits(negative.unsigned_abs()))
}

/// Apart, as the rest is done a million times a second.
#[cold]
fn float_size(number: &Number) -> usize {
    number.to_string().len()
}

/// The size of a text in quotes, everything escaped that has to be. One that is over `limit` as it is is not looked at.
fn text_size(text: &str, limit: usize) -> usize {
    let plain = text.len() + 2;
    if plain > limit { plain } else { plain + escapes(text) }
}

#[inline(never)]
fn escapes(text: &str) -> usize {
    match count(text, |byte| byte < b' ' || byte == b'"' || byte == b'\\') {
        0 => 0,
        // A backslash, but `\u001f` for what has no letter.
        escaped => escaped + 4 * count(text, |byte| byte < b' ' && !b"\x08\t\n\x0c\r".contains(&byte)),
    }
}

/// How many of the bytes are like that. Parts of this length are counted many bytes at a time.
fn count(text: &str, is_meant: impl Fn(u8) -> bool) -> usize {
    let parts = text.as_bytes().chunks(usize::from(u8::MAX));
    parts.map(|part| usize::from(part.iter().map(|byte| u8::from(is_meant(*byte))).sum::<u8>())).sum()
}

/// Gives back a value that is within bounds, or says why it is not.
fn bounded(value: Value, limit: usize) -> Result<(Value, usize), StepError> {
    match measure(&value, limit) {
        Ok(bytes) => Ok((value, bytes)),
        Err(excess) => Err(refused(value, excess, limit)),
    }
}

/// Why a value is refused, which is dropped.
#[cold]
fn refused(value: Value, excess: Excess, limit: usize) -> StepError {
    dismantle(value);
    StepError::new(
        StepErrorKind::BadOutput,
        match excess {
            Excess::Size => format!("the result is larger than {limit} bytes"),
            Excess::Depth => format!("the result nests deeper than {MAX_DEPTH}"),
        },
    )
}

/// Makes an output of a tool's result. One that is too large for that, where there is a journal, is given back, to be
/// [stored](store).
pub(super) fn kept_inline(run: &RunContext, value: Value) -> Result<Result<Output, Arc<Value>>, StepError> {
    let (value, bytes) = bounded(value, run.max_output_bytes)?;
    let value = Arc::new(value);
    let is_large = run.journal.is_some() && bytes > Output::INLINE_BYTES;
    Ok(if is_large { Err(value) } else { Ok(Output::Inline(value)) })
}

/// Keeps a large value in the journal.
pub(super) async fn store(run: &RunContext, value: Arc<Value>) -> Result<Output, StepError> {
    let Some(kept) = &run.journal else { return Ok(Output::Inline(value)) };
    // Nobody wants it any more once the run is over.
    let held = kept.held().ok_or_else(aborted)?;
    let stored = run.ask_journal(async { kept.journal.put_output(&held.claim, value).await }).await?;
    Ok(Output::Stored(Arc::new(stored)))
}

/// Bounds an answer that did not come from a tool.
pub(super) fn bounded_answer(value: Value, limit: usize) -> Result<Value, StepError> {
    bounded(value, limit).map(|(value, _)| value)
}

/// A label, if it can be read back. A plan, or a list of plans, with the deepest arguments can be a part of one.
pub(super) fn bounded_label(value: Value) -> Option<Value> {
    const AROUND_ARGUMENTS: usize = 10;
    if !is_deeper(&value, MAX_DEPTH + AROUND_ARGUMENTS) {
        return Some(value);
    }
    dismantle(value);
    None
}

/// As [`bounded`], a value that others may have, too.
pub(crate) fn bounded_shared(value: Arc<Value>, limit: usize) -> Result<Arc<Value>, StepError> {
    match measure(&value, limit) {
        Ok(_) => Ok(value),
        Err(excess) => Err(refused(Arc::into_inner(value).unwrap_or_default(), excess, limit)),
    }
}

/// Gives back a plan whose arguments do not nest too deep.
pub(super) fn bounded_plan(plan: Plan) -> Result<Plan, StepError> {
    bounded_steps(plan.steps).map(|steps| Plan { steps, ..plan })
}

/// Gives back steps whose arguments do not nest too deep.
pub(super) fn bounded_steps(steps: Vec<Arc<Step>>) -> Result<Vec<Arc<Step>>, StepError> {
    let Some(deep) = steps.iter().find(|step| is_too_deep(&step.args)) else {
        return Ok(steps);
    };
    let message = format!("the arguments of step `{}` nest deeper than {MAX_DEPTH}", deep.id);
    steps.into_iter().filter_map(Arc::into_inner).for_each(|step| dismantle(step.args));
    Err(StepError::new(StepErrorKind::InvalidPlan, message))
}

/// Cuts an error to a size at which it can be recorded and shown, and what a server wants to what can be waited for.
pub(super) fn bounded_error(mut error: StepError) -> StepError {
    if error.message.len() > MAX_MESSAGE_BYTES {
        let all = error.message.len();
        let is_boundary = |index: &usize| error.message.is_char_boundary(*index);
        error.message.truncate((0..=MAX_MESSAGE_BYTES).rev().find(is_boundary).unwrap_or(0));
        error.message.push_str(&format!("... ({all} bytes in all)"));
    }
    error.retry_after_ms = error.retry_after_ms.map(|millis| millis.min(Retry::MAX_PAUSE_MS));
    error.details = error.details.and_then(|details| Some(bounded(details, MAX_DETAILS_BYTES).ok()?.0));
    error
}

/// The outputs that are being put together, by step. As many calls may need one as there are parts of it: those that are
/// made at one time share it, and with the last of them it goes.
#[derive(Debug, Default)]
pub(super) struct Gathering(HashMap<StepNumber, Weak<Gathered>>);

/// Those of one call, in the order of its inputs.
#[derive(Debug)]
pub(super) struct Gathers(Vec<Arc<Gathered>>);

/// An output that is made of others.
#[derive(Debug)]
struct Gathered {
    parts: Parts,
    /// Put together for the first who needs it.
    value: OnceCell<Option<Arc<Value>>>,
}

impl Gathering {
    /// What the gathered ones among `inputs` are made of, in their order; none if every input is a value as it is.
    pub(super) fn of(&mut self, scheduler: &Scheduler, inputs: &[Input]) -> Option<Box<Gathers>> {
        let outputs = || inputs.iter().filter_map(|input| Some((input.number, input.output.as_ref()?)));
        if outputs().all(|(_, output)| matches!(output, Output::Inline(_))) {
            return None;
        }
        let gathered = outputs().filter(|(_, output)| matches!(output, Output::Gathered(_)));
        Some(Box::new(Gathers(gathered.map(|(step, output)| self.shared(scheduler, step, output)).collect())))
    }

    fn shared(&mut self, scheduler: &Scheduler, step: StepNumber, output: &Output) -> Arc<Gathered> {
        let kept = self.0.entry(step).or_default();
        kept.upgrade().unwrap_or_else(|| {
            let mut parts = Parts::default();
            parts.add(output, scheduler);
            let gathered = Arc::new(Gathered { parts, value: OnceCell::new() });
            *kept = Arc::downgrade(&gathered);
            gathered
        })
    }
}

impl Gathered {
    /// The value of `output`; none if a part of it is in a journal that the run does not have.
    async fn value(&self, run: &RunContext, output: &Output) -> Result<Option<Arc<Value>>, JournalError> {
        let put_together = || async {
            let mut parts = self.parts.clone();
            if let Some(Kept { journal, .. }) = &run.journal {
                parts.fetch(&**journal, &run.id).await?;
            }
            Ok(parts.value(output))
        };
        self.value.get_or_try_init(put_together).await.cloned()
    }
}

/// Makes every input an inline value, the gathered ones of what is `gathered` of them.
pub(super) async fn make_inline(
    run: &RunContext,
    inputs: &mut [Input],
    Gathers(gathered): &Gathers,
) -> Result<(), StepError> {
    let mut gathered = gathered.iter();
    for input in inputs {
        let Some(output) = &mut input.output else { continue };
        let value = match (&*output, &run.journal) {
            (Output::Inline(_), _) => continue,
            (Output::Gathered(_), _) => match gathered.next() {
                Some(gathered) => run.ask_journal(gathered.value(run, output)).await?,
                None => None,
            },
            (Output::Stored(stored), Some(kept)) => {
                Some(run.ask_journal(async { kept.journal.get_output(&run.id, stored).await }).await?)
            }
            (Output::Stored(_), None) => None,
        };
        let Some(value) = value else {
            let message = format!("the output of `{}` is in a journal that this run does not have", input.id);
            return Err(StepError::permanent(message));
        };
        *output = Output::Inline(value);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_value_is_measured_as_it_is_written() {
        let mut texts: Vec<String> = (0..=0x300).filter_map(char::from_u32).map(String::from).collect();
        texts.extend(["", "plain", "\u{2028}\u{1f600}"].map(str::to_owned));
        texts.extend([254, 255, 256, 600].map(|length| "\n\u{1}\"".repeat(length)));
        let numbers = [0, 1, 9, 10, 99, 100, u64::MAX].map(|number| json!(number));
        let negative = [-1, -9, -10, i64::MIN].map(|number| json!(number));
        let floats = [0.0, -0.0, 1.0, 0.1 + 0.2, -1.5e-300, f64::MAX, f64::MIN_POSITIVE].map(|number| json!(number));
        let mut values = vec![json!(null), json!(true), json!(false), json!([]), json!({})];
        values.extend(texts.iter().map(|text| json!(text)));
        values.extend(numbers.into_iter().chain(negative).chain(floats));
        values.push(Value::Object(texts.into_iter().map(|key| (key, json!([1, []]))).collect()));
        values.push(json!(values));
        for value in values {
            let bytes = value.to_string().len();
            assert_eq!(measure(&value, usize::MAX), Ok(bytes), "{value}");
            assert_eq!(measure(&value, bytes), Ok(bytes));
            assert_eq!(measure(&value, bytes - 1), Err(Excess::Size), "{value}");
        }
    }
}
