//! A plan as a model writes it: checked line by line, or object by object, while it is being written.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;

use super::json_format::JsonReader;
use super::line_format::LineReader;
use super::shown::{is_shown_alike, keep_unwritten};
use super::thinking::{Part, Thinking};
use crate::cut;
use crate::dag::{Dag, dependencies};
use crate::error::PlanError;
use crate::event::PlanReason;
use crate::plan::{OnFailure, Patch, Plan, Step, StepId};
use crate::planner::{FinishedStep, PlanRequest};
use crate::reference::{self, Reference};
use crate::suggest;

/// More offences than this are not collected: a planner that made so many starts anew.
const MAX_OFFENCES: usize = 20;
/// A longer plan is not read to its end.
pub(super) const MAX_BYTES: usize = 1024 * 1024;
/// In the place of a task: the step is not needed any more.
pub(super) const DROP: &str = "DROP";
/// In the place of a plan: nothing is missing.
pub(super) const DONE: &str = "DONE";

/// The form in which a model writes a plan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PlanTextFormat {
    /// A line for each step, such as `9. compare them <- 1-8`, and `END`: the shortest, so the soonest started.
    #[default]
    Lines,
    /// An object with a list of steps, for providers that hold a model to a schema better than it holds to a format.
    Json,
}

/// A step as it was written.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Written {
    pub(super) id: String,
    pub(super) content: Content,
    pub(super) depends_on: Vec<String>,
}

impl Written {
    pub(super) fn as_shown(id: &StepId) -> Self {
        Self { id: id.to_string(), content: Content::AsShown, depends_on: Vec::new() }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Content {
    /// For a model, in words.
    Task(String),
    /// A call of a tool.
    Call { tool: String, args: Value, description: String },
    /// The step is not needed any more.
    Drop,
    /// The step as it was shown.
    AsShown,
}

/// How a text ended.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum End {
    /// With its end mark.
    Whole,
    /// With the words for "nothing is missing".
    Done,
    /// With an answer instead of steps.
    Answer(String),
    /// Before its end.
    CutOff,
}

/// Reads one answer of a planner as it comes.
pub(super) struct PlanReader<'a> {
    thinking: Thinking,
    reader: Reader,
    draft: Draft<'a>,
    /// Whether steps were handed on, and whether that is over because they were part of a thought.
    handed: bool,
    quiet: bool,
}

enum Reader {
    Lines(LineReader),
    Json(JsonReader),
}

impl<'a> PlanReader<'a> {
    pub(super) fn new(format: PlanTextFormat, request: &'a PlanRequest) -> Self {
        let backward_only = format == PlanTextFormat::Lines;
        Self {
            thinking: Thinking::default(),
            reader: Reader::new(format, request),
            draft: Draft::new(request, backward_only, rejected(format, request)),
            handed: false,
            quiet: false,
        }
    }

    /// Takes up more of the text; `ready` is given every step that can be started before the text is whole.
    pub(super) fn push(&mut self, piece: &str, mut ready: impl FnMut(&Arc<Step>)) {
        let Self { thinking, reader, draft, handed, quiet } = self;
        thinking.push(piece, &mut |part| match part {
            Part::Anew => {
                reader.begin_anew();
                draft.begin_anew();
                *quiet = *handed;
            }
            // A short line may stand for many dependencies: those past a limit are not even read.
            Part::Text(text) => {
                for line in text.split_inclusive('\n') {
                    if draft.is_full {
                        return;
                    }
                    reader.push(line, &mut |written| {
                        if let Some(step) = draft.take(written).filter(|_| !*quiet) {
                            *handed = true;
                            ready(step);
                        }
                    });
                }
            }
        });
    }

    /// The text is over: how it ended, and what it came to.
    pub(super) fn finish(mut self) -> (End, Draft<'a>) {
        if self.draft.is_full {
            // That it is too large was said, and nobody knows how it ends.
            return (End::Whole, self.draft);
        }
        let draft = &mut self.draft;
        let end = match self.reader {
            Reader::Lines(reader) => reader.finish(),
            Reader::Json(reader) => reader.finish(&mut |written| {
                draft.take(written);
            }),
        };
        draft.check_forward();
        draft.check_tasks();
        draft.check_done();
        (end, self.draft)
    }
}

impl Reader {
    fn new(format: PlanTextFormat, request: &PlanRequest) -> Self {
        match format {
            PlanTextFormat::Lines => Self::Lines(LineReader::new(request)),
            PlanTextFormat::Json => Self::Json(JsonReader::new(request)),
        }
    }

    fn push(&mut self, text: &str, take: &mut dyn FnMut(Result<Written, PlanError>)) {
        match self {
            Self::Lines(reader) => reader.push(text, take),
            Self::Json(reader) => reader.push(text, take),
        }
    }

    /// Forgets what was read. That may be often, so nothing is asked of the request again.
    fn begin_anew(&mut self) {
        match self {
            Self::Lines(reader) => reader.begin_anew(),
            Self::Json(reader) => reader.begin_anew(),
        }
    }
}

/// The steps of the answer that could not be used.
fn rejected(format: PlanTextFormat, request: &PlanRequest) -> BTreeMap<StepId, Arc<Step>> {
    let (PlanReason::Rejected(_), Some(answer)) = (&request.reason, &request.rejected_answer) else {
        return BTreeMap::new();
    };
    let before = PlanRequest { rejected_answer: None, ..request.clone() };
    let mut reader = PlanReader::new(format, &before);
    reader.push(answer, |_| {});
    reader.push("\n", |_| {});
    reader.finish().1.steps.into_iter().map(|step| (step.id.clone(), step)).collect()
}

/// What was written so far.
pub(super) struct Draft<'a> {
    request: &'a PlanRequest,
    /// Whether a step can only depend on what stands before it.
    backward_only: bool,
    /// The steps of the plan that is being revised; none for a first plan.
    existing: BTreeMap<&'a str, &'a Arc<Step>>,
    /// The steps of an answer that could not be used.
    rejected: BTreeMap<StepId, Arc<Step>>,
    written: BTreeSet<StepId>,
    /// Steps that this text has in other words than the planner was shown, and those that need them.
    changed: BTreeSet<StepId>,
    /// The highest number of a new step.
    highest: u64,
    /// Steps, in the order in which they were written.
    pub(super) steps: Vec<Arc<Step>>,
    dropped: Vec<StepId>,
    /// What those steps depend on, in all.
    edges: usize,
    /// Whether a limit was passed: nothing more is taken up.
    is_full: bool,
    pub(super) offences: Vec<PlanError>,
}

impl<'a> Draft<'a> {
    fn new(request: &'a PlanRequest, backward_only: bool, rejected: BTreeMap<StepId, Arc<Step>>) -> Self {
        let existing = match request.revision {
            1 => BTreeMap::new(),
            _ => request.plan.steps.iter().map(|step| (step.id.as_str(), step)).collect(),
        };
        Self {
            request,
            backward_only,
            existing,
            rejected,
            written: BTreeSet::new(),
            changed: BTreeSet::new(),
            highest: 0,
            steps: Vec::new(),
            dropped: Vec::new(),
            edges: 0,
            is_full: false,
            offences: Vec::new(),
        }
    }

    fn begin_anew(&mut self) {
        self.written.clear();
        self.changed.clear();
        self.highest = 0;
        self.steps.clear();
        self.dropped.clear();
        (self.edges, self.is_full) = (0, false);
        self.offences.clear();
    }

    /// Takes up a step. Gives it back if it is new and nothing is wrong so far.
    fn take(&mut self, written: Result<Written, PlanError>) -> Option<&Arc<Step>> {
        if self.is_full || self.offences.len() >= MAX_OFFENCES {
            return None;
        }
        let before = self.offences.len();
        match written {
            Err(offence) => self.offences.push(offence),
            Ok(Written { id, content: Content::Drop, .. }) => self.drop(id),
            Ok(Written { id, content: Content::AsShown, .. }) => self.repeat(&id),
            Ok(written) => self.add(written),
        }
        if self.offences.len() > before || before > 0 {
            return None;
        }
        // What a task mentions may be a step that is still to come.
        let is_clear = |step: &Step| strays(step).is_empty() && !self.needs_changed(step);
        self.steps.last().filter(|step| !self.existing.contains_key(step.id.as_str()) && is_clear(step))
    }

    /// Whether a step needs one that is known in other words: what is there under that name is not its result.
    fn needs_changed(&self, step: &Step) -> bool {
        let is_changed = |id: &str| self.changed.contains(id);
        !self.changed.is_empty()
            && (step.depends_on.iter().any(|id| is_changed(id.as_str()))
                || reference::scan(step).is_ok_and(|referred| referred.into_iter().any(is_changed)))
    }

    fn drop(&mut self, id: String) {
        if !self.existing.contains_key(id.as_str()) {
            let message = format!("it drops step `{}`, which is not in the plan", cut(&id));
            self.offences.push(PlanError::Malformed { message });
        } else if !self.written.insert(StepId::from(id.as_str())) {
            self.offences.push(PlanError::DuplicateId { id: id.into() });
        } else {
            self.dropped.push(id.into());
        }
    }

    fn add(&mut self, written: Written) {
        let id = StepId::from(written.id);
        if !id.is_valid() {
            return self.offences.push(PlanError::InvalidId { id: cut(id.as_str()) });
        }
        if !self.has_room(written.depends_on.len()) {
            return;
        }
        if self.backward_only {
            self.check_upward(&id);
            self.check_backward(&id, written.depends_on.iter().map(String::as_str));
        }
        if !self.written.insert(id.clone()) {
            return self.offences.push(PlanError::DuplicateId { id });
        }
        let step = match written.content {
            Content::Task(task) => Step::described(id, task),
            Content::Call { tool, args, description } => {
                self.check_tool(&id, &tool);
                Step::new(id, tool).args(args).description(description)
            }
            Content::Drop | Content::AsShown => return,
        };
        let mut step = step.depends_on(written.depends_on);
        if let Some(was) = self.existing.get(step.id.as_str()) {
            keep_unwritten(was, &mut step);
        }
        if self.backward_only
            && let Ok(referred) = reference::scan(&step)
        {
            // One with a slash is to a step of what another step has become, which is not in the plan.
            let is_new = |id: &&str| !id.contains('/') && !step.depends_on.iter().any(|known| known.as_str() == *id);
            self.check_backward(&step.id, referred.into_iter().filter(is_new));
        }
        // They are as they are, also where the planner was shown other words in the place of some that it must not read.
        let known = [self.rejected.get(&step.id), self.existing.get(step.id.as_str()).copied()];
        let mut known = known.into_iter().flatten().peekable();
        let is_known = known.peek().is_some();
        let was = known.find(|was| is_shown_alike(was, &step)).cloned();
        if was.is_none() && is_known || self.needs_changed(&step) {
            self.changed.insert(step.id.clone());
        }
        self.steps.push(was.unwrap_or_else(|| Arc::new(step)));
    }

    /// Takes up a step of the plan as it is.
    fn repeat(&mut self, id: &str) {
        let Some(&step) = self.existing.get(id) else { return };
        if !self.has_room(step.depends_on.len()) {
            return;
        }
        if !self.written.insert(step.id.clone()) {
            return self.offences.push(PlanError::DuplicateId { id: step.id.clone() });
        }
        if self.needs_changed(step) {
            self.changed.insert(step.id.clone());
        }
        self.steps.push(Arc::clone(step));
    }

    /// Makes room for one more step, if a plan may be that large.
    fn has_room(&mut self, edges: usize) -> bool {
        let edges = self.edges + edges;
        for (what, count, limit) in
            [("steps", self.steps.len() + 1, self.request.max_steps), ("dependencies", edges, self.request.max_edges)]
        {
            if count as u64 > u64::from(limit) {
                self.is_full = true;
                let (count, limit) = (count as u64, limit.into());
                self.offences.push(PlanError::TooLarge { what: what.into(), count, limit });
                return false;
            }
        }
        self.edges = edges;
        true
    }

    /// In lines, new steps are numbered upwards.
    fn check_upward(&mut self, id: &StepId) {
        let Some(number) = id.as_str().parse::<u64>().ok().filter(|_| !self.existing.contains_key(id.as_str())) else {
            return;
        };
        if number < self.highest {
            let message = format!("step {id} comes after step {}: number them upwards", self.highest);
            self.offences.push(PlanError::Malformed { message });
        }
        self.highest = self.highest.max(number);
    }

    fn check_backward<'s>(&mut self, id: &StepId, depends_on: impl Iterator<Item = &'s str>) {
        for dependency in depends_on {
            if self.offences.len() >= MAX_OFFENCES {
                return;
            }
            if *id == dependency {
                self.offences.push(PlanError::Cycle { path: vec![id.clone()] });
            } else if !self.written.contains(dependency) && !self.existing.contains_key(dependency) {
                let (step, dependency) = (id.clone(), StepId::from(dependency));
                self.offences.push(PlanError::UnknownDependency { step, dependency, suggestion: None });
            }
        }
    }

    /// What a step depends on may have been written after it: now that all is there, it can be said what is wrong with that.
    fn check_forward(&mut self) {
        let written = &self.written;
        let is_forward = |dependency: &StepId| written.contains(dependency);
        let forward = |offence: &PlanError| match offence {
            PlanError::UnknownDependency { step, dependency, .. } if is_forward(dependency) => {
                Some((step.clone(), dependency.clone()))
            }
            _ => None,
        };
        if !self.offences.iter().any(|offence| forward(offence).is_some()) {
            return;
        }
        let problems = Dag::of(&Plan { steps: self.steps.clone(), ..Plan::default() }).err().unwrap_or_default();
        let is_cycle = |problem: &PlanError| matches!(problem, PlanError::Cycle { path } if path.len() > 1);
        let cycles: Vec<PlanError> = problems.into_iter().filter(is_cycle).collect();
        let is_in_cycle = |one: &StepId, other: &StepId| {
            let has_both = |path: &[StepId]| path.contains(one) && path.contains(other);
            cycles.iter().any(|cycle| matches!(cycle, PlanError::Cycle { path } if has_both(path)))
        };
        self.offences.retain_mut(|offence| {
            let Some((step, dependency)) = forward(offence) else { return true };
            let message = format!(
                "step `{step}` depends on `{dependency}`, which comes after it: a step can only depend on those before it"
            );
            *offence = PlanError::Malformed { message };
            !is_in_cycle(&step, &dependency)
        });
        self.offences.splice(0..0, cycles);
    }

    fn check_tool(&mut self, id: &StepId, tool: &str) {
        let names = || self.request.tools.iter().map(|tool| tool.name.as_str());
        if !names().any(|name| name == tool) {
            let suggestion = suggest::closest(tool, names()).map(str::to_owned);
            self.offences.push(PlanError::UnknownTool { step: id.clone(), tool: cut(tool), suggestion });
        }
    }

    /// A reference in a task is not filled: whoever does the step has to see the result in another way.
    fn check_tasks(&mut self) {
        for step in &self.steps {
            let strays = strays(step);
            // One that somebody else wrote, repeated word for word, may say what it likes.
            if strays.is_empty() || self.request.plan.steps.contains(step) {
                continue;
            }
            for stray in strays {
                let Reference { text, id } = stray;
                let is_input = stray.input().is_some_and(|input| self.request.inputs.contains_key(input));
                let is_step = self.written.contains(id) || self.existing.contains_key(id);
                let is_number = id.bytes().all(|byte| byte.is_ascii_digit());
                if !is_step && !is_number && !is_input || self.offences.len() >= MAX_OFFENCES {
                    continue;
                }
                let what = match self.backward_only {
                    _ if is_input => "which nothing takes the place of there: write what is meant".to_owned(),
                    _ if !is_step || step.id == *id => "which is no other step of the plan".to_owned(),
                    true => format!("and does not depend on it: write `<- {id}`"),
                    false => format!("and does not depend on it: write \"{id}\" in `depends_on`"),
                };
                let reference = cut(text);
                let message =
                    format!("its task says `${{{reference}}}`, {what}; a task sees the results of what it depends on");
                self.offences.push(PlanError::BadReference { step: step.id.clone(), message });
            }
        }
    }

    /// What is done and acts would act again as another step, and so it would if a step is another one that it depends on.
    fn check_done(&mut self) {
        let is_rewritten = |step: &&Arc<Step>| self.existing.get(step.id.as_str()).is_some_and(|was| was != step);
        let rewritten: BTreeSet<&StepId> = self.steps.iter().filter(is_rewritten).map(|step| &step.id).collect();
        if rewritten.is_empty() {
            return;
        }
        let mut again = BTreeSet::new();
        let dropped: BTreeSet<&StepId> = self.dropped.iter().collect();
        // Each comes after those that it depends on.
        for FinishedStep { id, step, output } in &self.request.finished {
            let because = dependencies(step).into_iter().find(|dependency| again.contains(dependency));
            if dropped.contains(id) || !rewritten.contains(id) && because.is_none() {
                continue;
            }
            again.insert(id.clone());
            // One whose condition was false has done nothing.
            let has_run = output.is_some() || step.on_failure == OnFailure::Continue;
            if has_run && self.acts_once(step) && self.offences.len() < MAX_OFFENCES {
                let (what, if_so) = match because.filter(|_| !rewritten.contains(id)) {
                    Some(because) => ("that", format!(" if `{because}` were done otherwise")),
                    None => ("it", String::new()),
                };
                let message = format!(
                    "step `{id}` is done and would act again{if_so}: leave {what} out, and give what is to be done beside it \
                     a new number"
                );
                self.offences.push(PlanError::Malformed { message });
            }
        }
    }

    /// Whether what the step does must not be done twice. Of a plan that it became, nobody knows.
    fn acts_once(&self, step: &Step) -> bool {
        let tool = step.tool.as_deref().or(self.request.default_tool.as_deref());
        let spec = self.request.tools.iter().find(|spec| Some(spec.name.as_str()) == tool);
        spec.is_some_and(|spec| spec.acts_once() || spec.replans)
    }

    /// The first plan.
    pub(super) fn into_plan(self) -> Plan {
        Plan { answer: self.answer(), steps: self.steps, ..Plan::default() }
    }

    /// The step that was written last is the answer, if it puts others together.
    fn answer(&self) -> Option<StepId> {
        let last = self.steps.last()?;
        let refers = |step: &Step| reference::scan(step).is_ok_and(|referred| referred.contains(&last.id.as_str()));
        let is_used = |step: &Arc<Step>| step.depends_on.contains(&last.id) || refers(step);
        (!last.depends_on.is_empty() && !self.steps.iter().any(is_used)).then(|| last.id.clone())
    }

    /// The new step that is the answer from now on. After a failure it is only there to make up for that, unless what the
    /// answer came from goes into it, or is given up.
    fn new_answer(&self) -> Option<StepId> {
        let answer = self.answer().filter(|id| !self.existing.contains_key(id.as_str()))?;
        let Self { request, written, dropped, .. } = self;
        if request.failed.is_empty() {
            return Some(answer);
        }
        let is_unmentioned = |id: &str| !written.contains(id) && request.failed.iter().any(|failed| failed.id == *id);
        let is_given_up = |id: &str| is_unmentioned(id) || dropped.iter().any(|dropped| *dropped == *id);
        let into = self.needed_by(&answer);
        self.answered_from().into_iter().all(|id| into.contains(id) || is_given_up(id)).then_some(answer)
    }

    /// What the plan that is being revised has its answer from: a step, or all that nothing depends on.
    fn answered_from(&self) -> Vec<&str> {
        if let Some(answer) = self.request.plan.answer.as_ref().filter(|_| self.request.revision > 1) {
            return vec![answer.as_str()];
        }
        let needed: BTreeSet<StepId> = self.existing.values().flat_map(|step| dependencies(step)).collect();
        self.existing.keys().copied().filter(|id| !needed.contains(*id)).collect()
    }

    /// All that a step depends on, and what that depends on in turn.
    fn needed_by(&self, step: &StepId) -> BTreeSet<StepId> {
        let written: BTreeMap<&str, &Arc<Step>> = self.steps.iter().map(|step| (step.id.as_str(), step)).collect();
        let mut needed = BTreeSet::new();
        let mut next = vec![step.clone()];
        while let Some(id) = next.pop() {
            let step = written.get(id.as_str()).or_else(|| self.existing.get(id.as_str()));
            let new = step.into_iter().flat_map(|step| dependencies(step)).filter(|id| needed.insert(id.clone()));
            next.extend(new);
        }
        needed
    }

    /// Has the step that answers done by this tool, unless it names one.
    pub(super) fn answer_with(&mut self, tool: &Arc<str>) {
        let before = self.request.plan.answer.as_ref().filter(|_| self.request.revision > 1);
        let Some(answer) = self.new_answer().or_else(|| before.cloned()) else { return };
        if let Some(step) = self.steps.iter_mut().find(|step| step.id == answer && step.tool.is_none()) {
            Arc::make_mut(step).tool = Some(Arc::clone(tool));
        }
    }

    /// The change to the plan: lines that say what is there already change nothing, unless the step has failed.
    pub(super) fn into_patch(self) -> Patch {
        let failed = |id: &StepId| self.request.failed.iter().any(|failed| failed.id == *id);
        let mut patch = Patch { drop: self.dropped.clone(), answer: self.new_answer(), ..Patch::default() };
        for step in &self.steps {
            match self.existing.get(step.id.as_str()) {
                None => patch.add.push(Arc::clone(step)),
                Some(&current) if current == step && !failed(&step.id) => {}
                Some(_) => patch.change.push(Arc::clone(step)),
            }
        }
        patch
    }
}

/// What the task of a step refers to without depending on it.
fn strays(step: &Step) -> Vec<Reference<'_>> {
    let mut mentioned: Vec<_> = reference::mentions(&step.description).collect();
    if !mentioned.is_empty() {
        let mut known: BTreeSet<&str> = step.depends_on.iter().map(StepId::as_str).collect();
        known.extend(reference::scan(step).unwrap_or_default());
        mentioned.retain(|reference| known.insert(reference.input().map_or(reference.id, |_| reference.text)));
    }
    mentioned
}

/// What a planner wrote, short enough to be repeated in an error.
pub(super) fn cut(text: &str) -> String {
    const MOST: usize = 80;
    cut::chars(text, MOST).into_owned()
}
