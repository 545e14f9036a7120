//! `calculate`: arithmetic with units, exact where it can be.

use std::thread;
use std::time::{Duration, Instant};

use fend_core::Interrupt;
use futures::future::BoxFuture;
use serde_json::{Number, Value, json};
use tokio::sync::oneshot;

use super::arguments::Arguments;
use super::thread::Cancelled;
use crate::error::StepError;
use crate::tool::{StepContext, Tool, ToolOutput, ToolSpec};

/// The longest expression, in bytes.
const MAX_BYTES: usize = 4 * 1024;
/// How deep brackets may nest.
const MAX_DEPTH: usize = 100;
/// The parser recurses over the expression. Within the two limits above it needs a quarter of this in unoptimised
/// builds; pages of a stack that are not used cost nothing.
const STACK_BYTES: usize = 64 * 1024 * 1024;
/// How long an evaluation may take.
const MAX_TIME: Duration = Duration::from_secs(2);

/// Evaluates an expression: `2 * (3 + 4)`, `20% of 50`, `5 km to miles`, `sqrt 2`. Deterministic: no dice, no dates of
/// today, no exchange rates.
#[derive(Clone, Copy, Debug, Default)]
pub struct Calculate;

impl Calculate {
    /// The tool.
    pub fn new() -> Self {
        Self
    }
}

impl Tool for Calculate {
    fn spec(&self) -> ToolSpec {
        ToolSpec {
            arguments: json!({
                "type": "object",
                "properties": {
                    "expression": {
                        "type": "string",
                        "maxLength": MAX_BYTES,
                        "description": "for example `2 * (3 + 4)`, `20% of 50`, `5 km to miles`"
                    }
                },
                "required": ["expression"],
                "additionalProperties": false
            }),
            output: r#"{"expression": "1/4", "result": 0.25, "exact": true}; the result is text if it has a unit or more digits than a JSON number can hold"#.into(),
            ..ToolSpec::new("calculate", "Evaluates an arithmetic expression, with units if wanted.")
        }
    }

    fn call<'a>(&'a self, cx: StepContext) -> BoxFuture<'a, Result<ToolOutput, StepError>> {
        Box::pin(async move {
            let expression = Arguments::new(&cx.args, &["expression"])?.text("expression")?.trim().to_owned();
            check(&expression)?;
            let cancelled = Cancelled::default();
            let _cancel_on_drop = cancelled.on_drop();
            let (send, receive) = oneshot::channel();
            let work = move || {
                let _attempt = cx;
                // Nobody is waiting if this fails.
                let _ = send.send(evaluate(&expression, cancelled));
            };
            thread::Builder::new()
                .name("calculate".into())
                .stack_size(STACK_BYTES)
                .spawn(work)
                .map_err(|error| StepError::transient(format!("no thread to calculate on: {error}")))?;
            // A sender that is gone means a panic of the calculator.
            receive.await.unwrap_or_else(|_| Err(StepError::permanent("this expression is beyond the calculator")))
        })
    }
}

/// Refuses what the evaluator's recursion could not survive.
fn check(expression: &str) -> Result<(), StepError> {
    if expression.is_empty() {
        return Err(StepError::bad_input("the expression is empty"));
    }
    if expression.len() > MAX_BYTES {
        let bytes = expression.len();
        return Err(StepError::bad_input(format!("the expression has {bytes} bytes; the limit is {MAX_BYTES}")));
    }
    // Functions of one's own can call themselves for ever.
    if expression.contains(['\\', ':']) || expression.contains("=>") {
        return Err(StepError::bad_input("expressions cannot define functions (`\\`, `:` and `=>`)"));
    }
    // They come to nothing without randomness, and one of many faces takes up all memory before anything else happens.
    if has_die(expression) {
        return Err(StepError::bad_input("expressions cannot roll dice (`2d6`)"));
    }
    // These two are worked out without a look at the time.
    if has_long_shift(expression) {
        return Err(StepError::bad_input(
            "a shift is by a number of at most three digits, as in `(5 << 3) + 1`: multiply by a power of 2 instead",
        ));
    }
    if expression.contains('@') && !is_short_sum(expression) || expression.contains("date") {
        return Err(StepError::bad_input(
            "a date stands at the beginning, with nothing but at most four digits of days, weeks, months or years after \
             it: `@2024-02-28 + 30 days`",
        ));
    }
    let mut depth = 0_usize;
    for character in expression.chars() {
        match character {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_DEPTH {
            return Err(StepError::bad_input(format!("brackets are nested deeper than {MAX_DEPTH}")));
        }
    }
    Ok(())
}

/// Whether some `d` before a digit may stand for a die, as it does on its own and after a number. It does not in a word
/// (`yd2`) and in hexadecimal numbers (`0xd2`).
fn has_die(expression: &str) -> bool {
    expression.match_indices('d').any(|(at, _)| {
        let (before, after) = (&expression[..at], &expression[at + 1..]);
        let word = &before[before.trim_end_matches(|c: char| c.is_ascii_alphanumeric() || c == '_').len()..];
        let is_number = word.starts_with("0b") || word.starts_with("0o");
        let is_in_word = word.ends_with(|c: char| c.is_ascii_alphabetic()) && !is_number;
        after.starts_with(|c: char| c.is_ascii_digit()) && !is_in_word && !word.starts_with("0x")
    })
}

/// Whether something is shifted to the left by what is not seen to be little.
fn has_long_shift(expression: &str) -> bool {
    expression.split("<<").skip(1).any(|after| {
        let after = after.trim();
        let rest = after.trim_start_matches(|c: char| c.is_ascii_digit());
        !matches!(after.len() - rest.len(), 1..=3)
            || !rest.trim_start().is_empty() && !rest.trim_start().starts_with(')')
    })
}

/// Whether this is a date, and time before or after it, and not much.
fn is_short_sum(expression: &str) -> bool {
    let mut words = expression.split_whitespace();
    let date = words.next().and_then(|word| word.strip_prefix('@')).unwrap_or_default();
    let is_number = |word: &str| word.len() <= 4 && word.bytes().all(|byte| byte.is_ascii_digit());
    let is_unit = |word: &str| matches!(word.trim_end_matches('s'), "day" | "week" | "month" | "year");
    let terms: Vec<&str> = words.collect();
    date.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-')
        && terms.chunks(3).all(|term| match term {
            [sign, number, unit] => matches!(*sign, "+" | "-") && is_number(number) && is_unit(unit),
            _ => false,
        })
}

struct Deadline {
    at: Instant,
    cancelled: Cancelled,
}

impl Interrupt for Deadline {
    fn should_interrupt(&self) -> bool {
        self.cancelled.is_set() || Instant::now() >= self.at
    }
}

fn evaluate(expression: &str, cancelled: Cancelled) -> Result<ToolOutput, StepError> {
    let deadline = Deadline { at: Instant::now() + MAX_TIME, cancelled };
    // A fresh context has neither a source of randomness nor a clock nor exchange rates.
    let result = fend_core::evaluate_with_interrupt(expression, &mut fend_core::Context::new(), &deadline).map_err(
        |message| match deadline.should_interrupt() {
            true => StepError::permanent(format!("not worked out within {} s", MAX_TIME.as_secs())),
            false => StepError::bad_input(format!("cannot calculate: {message}")),
        },
    )?;
    let text = result.get_main_result();
    if text.is_empty() {
        return Err(StepError::bad_input("the expression has no value"));
    }
    let (text, exact) = match text.strip_prefix("approx. ") {
        Some(text) => (text, false),
        None => (text, true),
    };
    Ok(json!({ "expression": expression, "result": number_or_text(text), "exact": exact }).into())
}

/// A JSON number, if that loses no digit.
fn number_or_text(text: &str) -> Value {
    let is_decimal = text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'-' | b'.'));
    let number = serde_json::from_str::<Number>(text).ok().filter(|_| is_decimal);
    match number.map(|number| (number.to_string(), number)) {
        Some((written, number)) if written == text => Value::Number(number),
        _ => text.into(),
    }
}
