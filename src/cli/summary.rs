//! The end of a run: what it came to, where the time went, what to do next.

use plandag::counted;
use plandag::report::{Ending, ExitCode, StepOutcome, StepReport};
use plandag::{
    FailureReason, ModelProblem, OnFailure, PlanError, Rejection, RunReport, SkipReason, StepError, StepErrorKind,
    StopReason, Usage,
};
use serde::Serialize;
use serde_json::{Value, json};

use super::args::RunArgs;
use super::batch::Batch;
use super::console::{Console, json_text};
use super::failure::Failure;
use super::look::{unusable, unusable_answers};
use super::model;
use super::ndjson::{Fields, Line, add_spent};
use super::output::Output;
use super::progress::some_of;
use super::signals::Signal;
use super::style::{self, paint};
use super::text;
use super::timing::Timing;
use super::watch::{Watched, go_on, way_to_decide};

/// A longer objective is not repeated in a command, in characters.
const LONGEST_REPEATED: usize = 200;

/// A run that has ended, and how it was asked for.
pub(crate) struct Summary<'a> {
    pub(crate) watched: Watched,
    /// Whether the plan was made from an objective.
    pub(crate) is_objective: bool,
    /// Whether there is a record of it that it can be resumed from.
    pub(crate) is_kept: bool,
    pub(crate) args: &'a RunArgs,
    /// What its steps stand for, if it is many in one.
    pub(crate) batch: Option<Batch>,
}

impl Summary<'_> {
    /// Gives out the answer, tells how it went, and says how the command ends.
    pub(crate) fn finish(mut self, output: Output<'_>, console: &Console) -> Result<ExitCode, Failure> {
        let exit = self.exit();
        let failure = self.failure(exit);
        if !self.args.json {
            console.say(&self.render());
        }
        let written = match self.answer(output.is_file()) {
            Some(text) if output.is_file() || !self.args.json => output.write(&text),
            _ => Ok(()),
        };
        if self.args.json {
            // A file is there by now, if whoever reads this takes too long.
            console.json_rest(&mut self.watched.lines);
            let (exit, failure) = match written {
                Ok(()) => (exit, failure),
                Err(lost) => (lost.exit(), Some(lost)),
            };
            // Who does not read the end does not read that either.
            let _ = console.json(&self.last_line(exit, failure.as_ref()));
            return Ok(exit);
        }
        written?;
        failure.map_or(Ok(exit), Err)
    }

    /// What is given out; none if there is no answer.
    fn answer(&self, exact: bool) -> Option<String> {
        let report = &self.watched.report;
        let Some(batch) = &self.batch else { return report.answer().ok().map(|answer| answer_text(answer, exact)) };
        let part = |(title, answer): &(String, Value)| {
            let title = if exact { title.clone() } else { text::line(title).into_owned() };
            format!("# {title}\n\n{}", answer_text(answer, exact))
        };
        let parts: Vec<String> = batch.answers(report).iter().map(part).collect();
        (!parts.is_empty()).then(|| parts.join("\n"))
    }

    fn exit(&self) -> ExitCode {
        let has_refused = self.refused() > 0;
        match (ExitCode::of(&self.watched.report), self.watched.stopped_by) {
            (ExitCode::Interrupted, Some(signal)) => signal.exit(),
            (ExitCode::Success, _) if has_refused => ExitCode::StepsFailed,
            (exit, _) => exit,
        }
    }

    /// Why there is no answer, if there is none.
    fn failure(&self, exit: ExitCode) -> Option<Failure> {
        let report = &self.watched.report;
        if let (Some(batch), Ending::Succeeded | Ending::Failed(FailureReason::StepsFailed(_))) =
            (&self.batch, report.ending())
        {
            return batch.failure(report, exit);
        }
        let failure = match report.ending() {
            Ending::Succeeded => return None,
            Ending::Failed(FailureReason::StepsFailed(_)) => return Some(self.steps_failed(exit)),
            Ending::Failed(FailureReason::NoPlan(offences)) => {
                // Saying that there is no other plan says nothing about the one that there was.
                let answers = self.watched.rejections.iter().map(|rejection| rejection.offences.as_slice());
                let answers: Vec<&[PlanError]> = answers.filter(|it| !it.contains(&PlanError::Declined)).collect();
                let failure = if answers.len() > 1 { unusable_answers(&answers) } else { unusable(offences) };
                // What a plan began with may have been run before the plan was known to be none.
                let failure = if report.attempt_count() > 0 { failure.after_start() } else { failure };
                let has_text = self.watched.rejections.iter().any(|rejection| rejection.answer.is_some());
                return Some(match self.is_kept && has_text {
                    true => failure.help(format!("what it wrote: plandag show {} --planner-answers", report.run())),
                    false => failure,
                });
            }
            Ending::Failed(FailureReason::Stalled(steps)) => {
                let what = format!("the run stalled with {} not finished", counted(steps.len(), "step"));
                Failure::new("internal.stalled", exit, what)
                    .help("this is a bug in plandag: please report it, with the plan if you can share it")
            }
            Ending::Stopped(why) if self.is_kept => self.way_on(self.stopped(why, exit)),
            Ending::Stopped(why) => self.stopped(why, exit),
            _ => Failure::new("internal.panic", exit, "the run ended without an end"),
        };
        Some(self.kept(failure).after_start())
    }

    fn steps_failed(&self, exit: ExitCode) -> Failure {
        let report = &self.watched.report;
        let failed: Vec<StepReport<'_>> = report.steps().filter(is_fatal).collect();
        let kind = failed.iter().find_map(|step| step.error).map_or(StepErrorKind::Permanent, |error| error.kind);
        let max_replans = report.start().policy.max_replans;
        let is_exhausted = !self.watched.declined() && max_replans > 0 && report.replans() >= max_replans;
        let first = failed.iter().find_map(|step| step.error);
        let problem = first.filter(|_| exit != ExitCode::StepsFailed || !is_exhausted).and_then(ModelProblem::of);
        // Codes of the configuration and of providers have exit codes of their own.
        let fits = |problem: &ModelProblem| problem.code().starts_with("model.") == (exit == ExitCode::StepsFailed);
        let code = match problem.filter(fits) {
            Some(problem) => problem.code(),
            None if is_exhausted => "replan.exhausted",
            None => step_code(kind),
        };
        let message = match failed.as_slice() {
            [] => "the run has no answer".to_owned(),
            [step] => format!("step `{}` failed", step.id),
            [first, rest @ ..] => format!("step `{}` and {} failed", first.id, counted(rest.len(), "other")),
        };
        let message = if is_exhausted { format!("{message}, and {} used", all_replans(max_replans)) } else { message };
        let mut failure = Failure::new(code, exit, message);
        for step in failed.iter().take(MOST_STEPS) {
            failure = failure.note(cause(step));
        }
        if failed.len() > MOST_STEPS {
            failure = failure.note(format!("... and {} more", failed.len() - MOST_STEPS));
        }
        let skipped: Vec<String> = report
            .steps()
            .filter(|step| step.member && matches!(step.outcome, StepOutcome::Skipped(SkipReason::Failed(_))))
            .map(|step| step.id.to_string())
            .collect();
        if !skipped.is_empty() {
            failure = failure.note(format!("skipped because of it: {}", some_of(&skipped)));
        }
        let mut refusals: Vec<String> = self.watched.rejections.iter().filter_map(|it| refusal(it)).collect();
        refusals.dedup();
        for why in refusals {
            failure = failure.note(format!("another plan was refused: {}", text::cut(&why, 400)));
        }
        let failure = self.kept(failure);
        let failure = match problem {
            Some(problem) => model::advice(problem).iter().fold(failure, |failure, help| failure.help(*help)),
            None => failure.help(first.map_or(CORRECT, |error| advice(error))),
        };
        // What is finished need not be paid for twice. The same model at the same address is asked again.
        let may_be_mended = |problem| !matches!(problem, ModelProblem::UnknownModel | ModelProblem::NotAnApi);
        let failure = match self.is_kept && exit != ExitCode::StepsFailed && problem.is_some_and(may_be_mended) {
            true => failure.help(format!("then run what failed again: plandag retry {}", report.run())),
            false => failure,
        };
        failure.help(format!("more about it: plandag explain {code}")).after_start()
    }

    fn stopped(&self, why: StopReason, exit: ExitCode) -> Failure {
        let stopped = |code, message: &str| Failure::new(code, exit, message);
        let limit = |code| Failure::new(code, exit, why.to_string());
        match why {
            StopReason::Cancelled => match self.watched.stopped_by {
                Some(Signal::Terminate) => stopped("run.cancelled", "the run was stopped by SIGTERM"),
                Some(Signal::HangUp) => stopped("run.cancelled", "the run was stopped: its terminal was closed"),
                _ => stopped("run.cancelled", "the run was stopped by Ctrl-C"),
            },
            StopReason::Deadline => {
                let failure = stopped("limit.deadline", "the run reached its deadline");
                let failure = match &self.watched.waited {
                    Some(why) => failure.note(format!("the planner waited: {}", text::cut(why, 400))),
                    None => failure,
                };
                if self.is_kept { failure } else { failure.help("give it longer: --deadline TIME") }
            }
            StopReason::Attempts => limit("limit.attempts"),
            StopReason::Tokens => self.use_more(limit("limit.tokens"), "--max-tokens N"),
            StopReason::Money => self.use_more(limit("limit.money"), "--max-usd USD"),
            _ => {
                let report = &self.watched.report;
                let failure = limit("run.undecided");
                report.steps().fold(failure, |failure, step| match step.outcome {
                    StepOutcome::Unknown => {
                        let error = step.attempts.last().and_then(|attempt| attempt.error);
                        let why =
                            error.map(|error| format!(": {}", text::cut(&error.message, 400))).unwrap_or_default();
                        failure.note(format!("nobody knows whether `{}` took effect{why}", step.id))
                    }
                    StepOutcome::Unapproved => unapproved(failure, &step),
                    _ => failure,
                })
            }
        }
    }

    /// What lets a run go on that has used all it might.
    fn use_more(&self, failure: Failure, limit: &str) -> Failure {
        match self.is_kept {
            true => failure.help(format!("let it use more: plandag resume {} {limit}", self.watched.report.run())),
            false => failure,
        }
    }

    /// How a run that is kept goes on.
    fn way_on(&self, failure: Failure) -> Failure {
        let report = &self.watched.report;
        let run = report.run();
        let ways = report.steps().filter_map(|step| way_to_decide(run, step.id.as_str(), step.outcome));
        let failure = ways.fold(failure, Failure::help);
        match report.ending() {
            // It would stop again at once.
            Ending::Stopped(StopReason::Tokens | StopReason::Money) => failure,
            Ending::Stopped(StopReason::Deadline) => failure.help(format!("{} --deadline TIME", go_on(run))),
            _ => failure.help(go_on(run)),
        }
    }

    fn kept(&self, failure: Failure) -> Failure {
        let counts = Counts::of(&self.watched.report);
        match counts.succeeded {
            0 => failure,
            some => failure.note(format!("finished: {some} of {}", counted(counts.all, "step"))),
        }
    }
}

/// More failed steps than this are not listed one by one.
const MOST_STEPS: usize = 5;

fn all_replans(count: u32) -> String {
    match count {
        1 => "the only replan is".to_owned(),
        count => format!("all {count} replans are"),
    }
}

/// Whether a step failed that the plan cannot do without.
fn is_fatal(step: &StepReport<'_>) -> bool {
    step.outcome == StepOutcome::Failed && step.definition.on_failure == OnFailure::Fail && step.member
}

fn cause(step: &StepReport<'_>) -> String {
    let message = step.error.map(|error| text::cut(&error.message, 400).into_owned()).unwrap_or_default();
    match step.attempt_count() {
        0 | 1 => format!("{}: {message}", step.id),
        attempts => format!("{}: {message} ({attempts} attempts)", step.id),
    }
}

/// What was wrong with another plan, if there was one.
fn refusal(rejection: &Rejection) -> Option<String> {
    let offences = rejection.offences.iter().filter(|offence| **offence != PlanError::Declined);
    let why: Vec<String> = offences.map(PlanError::to_string).collect();
    (!why.is_empty()).then(|| why.join("; "))
}

/// The code of a step's error.
fn step_code(kind: StepErrorKind) -> &'static str {
    match kind {
        // What is put off does not fail.
        StepErrorKind::Transient | StepErrorKind::Deferred => "step.transient",
        StepErrorKind::Timeout => "step.timeout",
        StepErrorKind::Interrupted | StepErrorKind::Stopped => "step.interrupted",
        StepErrorKind::BadInput => "step.bad_input",
        StepErrorKind::BadReference => "step.bad_reference",
        StepErrorKind::Panicked => "step.panicked",
        StepErrorKind::BadOutput => "step.bad_output",
        StepErrorKind::InvalidPlan => "step.invalid_plan",
        StepErrorKind::Unexpected => "step.unexpected",
        StepErrorKind::ExpansionFailed => "step.expansion_failed",
        StepErrorKind::Aborted => "step.aborted",
        StepErrorKind::Denied => "step.denied",
        _ => "step.permanent",
    }
}

/// What a step waits for that would act on text from outside.
fn unapproved(failure: Failure, step: &StepReport<'_>) -> Failure {
    let from = step.outside.map(|source| format!(" of `{source}`")).unwrap_or_default();
    failure
        .note(format!("`{}` waits for approval: `{}` acts, and text from outside{from} reaches it", step.id, step.tool))
        .help(format!("let it act without being asked: --allow {}; on a terminal you are asked", step.tool))
}

/// What can be done about most errors.
const CORRECT: &str = "correct the plan, or let it go on without the step: \"on_failure\": \"continue\"";

/// What can be done about a step that failed so.
fn advice(error: &StepError) -> &'static str {
    let mut offences = error.details.iter().filter_map(Value::as_array).flatten();
    match error.kind {
        StepErrorKind::InvalidPlan if offences.any(|offence| offence["code"] == "plan.too_large") => {
            "if you trust it, let the run be larger: --max-steps N"
        }
        StepErrorKind::Transient => "let it try more often, in the plan: \"retry\": {\"max_attempts\": 5}",
        StepErrorKind::Timeout => match error.details.as_ref().and_then(|details| details["setting"].as_str()) {
            Some("callTimeoutMs") => "give it longer: \"callTimeoutMs\" of the server in the file of MCP servers",
            Some("idleTimeoutMs") => {
                "let it be silent for longer: \"idleTimeoutMs\" of the server in the file of MCP servers"
            }
            _ => "give it longer: --timeout TIME, or \"timeout_ms\" in the plan",
        },
        StepErrorKind::BadInput => "correct its \"args\"; plandag tools shows what each tool takes",
        StepErrorKind::BadReference => {
            "correct the path after the step's id in the reference, or take less of what is there"
        }
        _ => CORRECT,
    }
}

/// How many steps of the last plan ended how. Steps of expansions count with the step that was expanded.
#[derive(Default, Serialize)]
struct Counts {
    all: usize,
    succeeded: usize,
    failed: usize,
    skipped: usize,
    unfinished: usize,
}

impl Counts {
    /// Whether every step was carried out, or was not to be.
    fn is_whole(&self) -> bool {
        self.failed + self.unfinished == 0
    }

    fn of(report: &RunReport) -> Self {
        let mut counts = Self::default();
        for step in report.steps().filter(|step| step.member && step.parent.is_none()) {
            counts.all += 1;
            match step.outcome {
                StepOutcome::Succeeded => counts.succeeded += 1,
                StepOutcome::Failed => counts.failed += 1,
                StepOutcome::Skipped(_) => counts.skipped += 1,
                _ => counts.unfinished += 1,
            }
        }
        counts
    }
}

impl Summary<'_> {
    /// How it went, for people.
    fn render(&self) -> String {
        let report = &self.watched.report;
        let counts = Counts::of(report);
        let timing = Timing::of(report);
        let heading = |word: &str| paint(style::FAINT, &text::pad(word, 10));
        let (sign, steps) = match report.ending() {
            Ending::Succeeded if self.refused() == 0 => {
                // The planner may have answered without what the plan was for.
                let steps = match counts.is_whole() || !report.answered_by_planner() {
                    true => counted(counts.all, self.unit()),
                    false => self.done_of_all(&counts),
                };
                (paint(style::GOOD, "✓ succeeded"), steps)
            }
            Ending::Stopped(_) => (paint(style::RETRY, "■ stopped"), self.done_of_all(&counts)),
            _ => (paint(style::ERROR, "✗ failed"), self.done_of_all(&counts)),
        };
        let mut lines = vec![String::new()];
        if let Some(batch) = &self.batch {
            lines.extend(batch.table(report));
            lines.push(String::new());
        }
        lines.push(format!(" {sign}   {steps} {}", timing.headline()));
        lines.extend(timing.lines(report));
        lines.push(format!("   {}{}", heading("used"), used(report)));
        let is_spared = |step: &StepReport<'_>| step.outcome == StepOutcome::Failed && !is_fatal(step);
        // One that was run again under its own name did not go missing.
        let is_last =
            |step: &StepReport<'_>| report.step(step.id.as_str()).is_some_and(|last| last.number == step.number);
        for step in report.steps().filter(|step| is_spared(step) && is_last(step)).take(MOST_STEPS) {
            lines.push(format!("   {}{}; the plan went on without it", heading("failed"), text::line(&cause(&step))));
        }
        if report.answered_by_planner() {
            for step in report.steps().filter(is_fatal).take(MOST_STEPS) {
                lines.push(format!("   {}{}", heading("failed"), text::line(&cause(&step))));
            }
            let without = if counts.is_whole() { "" } else { ", without what is not done" };
            lines.push(format!("   {}the planner's own, from what is done{without}", heading("answer")));
        }
        for (because, what) in
            [(SkipReason::Condition, "whose condition is false"), (SkipReason::LeftOut, "left out of this fork")]
        {
            let skipped = report.steps().filter(|step| step.member && step.outcome == StepOutcome::Skipped(because));
            let skipped: Vec<String> = skipped.map(|step| step.id.to_string()).collect();
            if !skipped.is_empty() {
                lines.push(format!("   {}{}, {what}", heading("skipped"), text::line(&some_of(&skipped))));
            }
        }
        if let Some(why) = self.not_reviewed() {
            lines.push(format!("   {}none: {}", heading("review"), text::cut(&why, 400)));
        }
        if report.succeeded() {
            lines.push(format!("   {}{}", heading("next"), self.next()));
        }
        lines.join("\n")
    }

    /// Why the planner did not review what is done, if it was to.
    fn not_reviewed(&self) -> Option<String> {
        let report = &self.watched.report;
        if !report.start().policy.review || !report.succeeded() {
            return None;
        }
        match report.lacks_review() {
            true => Some("the run may not use more".to_owned()),
            false => self.watched.rejections.last().and_then(|rejection| refusal(rejection)),
        }
    }

    fn done_of_all(&self, counts: &Counts) -> String {
        format!("{} of {} done", counts.succeeded, counted(counts.all + self.refused(), self.unit()))
    }

    /// How many lines of a batch were no part of the run.
    fn refused(&self) -> usize {
        self.batch.as_ref().map_or(0, Batch::refused)
    }

    /// What the steps of the plan are called.
    fn unit(&self) -> &'static str {
        if self.batch.is_some() { "line" } else { "step" }
    }

    /// A command to try next.
    fn next(&self) -> String {
        let source = text::quoted(&self.args.source);
        let files = &self.args.settings.files;
        // What a model has planned it would plan in another way.
        let is_planned_anew = self.is_objective && self.watched.report.start().default_tool.is_some();
        let is_short = source.chars().count() <= LONGEST_REPEATED;
        let can_be_repeated = self.batch.is_none() && self.args.source != "-" && is_short && !is_planned_anew;
        match files {
            _ if !can_be_repeated && self.is_kept => format!("plandag show {}", self.watched.report.run()),
            _ if !can_be_repeated => "plandag help run".to_owned(),
            Some(files) if self.is_objective => {
                format!("plandag plan {source} --files {} -o plan.json", text::quoted(&files.to_string_lossy()))
            }
            _ => format!("plandag graph {source}"),
        }
    }

    /// The last line of `--json`.
    fn last_line(&self, exit: ExitCode, failure: Option<&Failure>) -> Line {
        let report = &self.watched.report;
        let timing = Timing::of(report);
        let counts = Counts::of(report);
        let (name, state) = match report.ending() {
            Ending::Succeeded => ("run.finished", "succeeded"),
            Ending::Failed(_) => ("run.finished", "failed"),
            _ => ("run.stopped", "stopped"),
        };
        let mut fields = Fields::from([
            ("state", json!(state)),
            ("exit", json!(exit.code())),
            ("answer", json!(report.answer().ok())),
            ("answered_by_planner", json!(report.answered_by_planner())),
            ("error", failure.map_or(Value::Null, |failure| json!(failure.fields()))),
        ]);
        fields.extend(timing.fields(report));
        fields.extend([
            ("steps", json!(counts)),
            ("attempts", json!(report.attempt_count())),
            ("put_off", json!(report.deferral_count())),
            ("replans", json!(report.replans())),
        ]);
        fields.extend(self.not_reviewed().map(|why| ("review_failed", json!(why))));
        add_spent(&mut fields, &report.usage());
        fields.extend(self.batch.iter().map(|batch| ("lines", batch.fields(report))));
        Line::new(report.run(), report.ended(), name, fields)
    }
}

/// What a run used, for people.
pub(crate) fn used(report: &RunReport) -> String {
    let attempts = report.attempt_count() as usize;
    let mut parts = vec![counted(attempts, "attempt")];
    match report.retry_count() {
        0 => {}
        1 => parts.push("1 retry".to_owned()),
        retries => parts.push(format!("{retries} retries")),
    }
    match report.deferral_count() {
        0 => {}
        put_off => parts.push(format!("{put_off} put off")),
    }
    if report.replans() > 0 {
        parts.push(format!(
            "{} of {}",
            report.replans(),
            counted(report.start().policy.max_replans as usize, "replan")
        ));
    }
    parts.extend(spent(&report.usage()));
    parts.join(", ")
}

/// What models used: calls and tokens, where there were any, and money, as far as its price is known.
pub(crate) fn spent(usage: &Usage) -> Vec<String> {
    // Older records do not say how often models were asked.
    let calls = (usage.calls > 0).then(|| counted(usage.calls as usize, "model call"));
    let has_tokens = usage.input_tokens.max(usage.output_tokens) > 0;
    let tokens = has_tokens.then(|| format!("{} in / {} out tokens", usage.input_tokens, usage.output_tokens));
    let money = (usage.micro_usd > 0).then(|| format!("${:.3}", usage.micro_usd as f64 / 1_000_000.0));
    calls.into_iter().chain(tokens).chain(money).collect()
}

/// The answer as it is given out: text, or the `text` of an object that has one, as it is, anything else as JSON. A
/// file gets it byte for byte, a terminal what cannot do anything to it.
fn answer_text(answer: &Value, exact: bool) -> String {
    let mut text = match answer.get("text").unwrap_or(answer) {
        Value::String(text) if exact => text.clone(),
        Value::String(text) => text::lines(text).into_owned(),
        _ => json_text(&format!("{answer:#}")).into_owned(),
    };
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text
}
