//! Questions to the person at the terminal: whether a step may act on text from outside. The run goes on meanwhile.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, BufRead as _, IsTerminal as _};
use std::slice;
use std::sync::Arc;

use futures::channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use plandag::counted;
use plandag::{Added, Decision, Output, RunEvent, RunEventKind, RunHandle, Step, StepId, StepNumber};

use super::style::{self, paint};
use super::text;

/// How much of an argument or a result a question shows.
const SHOWN_COLUMNS: usize = 400;

/// Whether there is somebody to ask.
pub(crate) fn can_ask() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// What is to be asked, one question after the other.
pub(crate) struct Questions {
    can_ask: bool,
    steps: BTreeMap<StepNumber, Known>,
    /// Steps, and whose text has reached them.
    waiting: VecDeque<(StepNumber, StepNumber)>,
    /// Whether the first of them has been asked about.
    is_asked: bool,
    answers: UnboundedSender<Answer>,
}

/// What a question can say about a step.
struct Known {
    id: StepId,
    definition: Arc<Step>,
    dependencies: Vec<StepNumber>,
    output: Option<Output>,
}

/// What was typed; nothing if nobody can be asked any more.
pub(crate) struct Answer(Option<String>);

impl Questions {
    pub(crate) fn new() -> (Self, UnboundedReceiver<Answer>) {
        let (answers, receiver) = unbounded();
        (
            Self { can_ask: can_ask(), steps: BTreeMap::new(), waiting: VecDeque::new(), is_asked: false, answers },
            receiver,
        )
    }

    /// Whether there is somebody to ask.
    pub(crate) fn can_ask(&self) -> bool {
        self.can_ask
    }

    /// Takes up what is new in an event, and says what is to be asked now, if that is it, or that nobody needs to answer
    /// any more.
    pub(crate) fn take(&mut self, event: &RunEvent) -> Option<String> {
        let asked = self.waiting.front().filter(|_| self.is_asked).map(|(step, _)| *step);
        let is_decided = asked.is_some_and(|asked| decided(event).contains(&asked));
        self.learn(event);
        if is_decided {
            let id = asked.map_or("?", |step| self.id(step));
            return Some(format!(
                "   nobody has to decide about {} any more; press Enter to be asked about others",
                text::line(id)
            ));
        }
        self.ask()
    }

    /// Takes up what has happened before anybody was there to be asked.
    pub(crate) fn learn(&mut self, event: &RunEvent) {
        if !self.can_ask {
            return;
        }
        match &event.kind {
            RunEventKind::PlanAccepted { graft, .. }
            | RunEventKind::StepDrafted { graft, .. }
            | RunEventKind::StepExpanded { graft, .. } => {
                self.steps.extend((graft.first..).zip(graft.added.iter().map(Known::new)));
            }
            RunEventKind::StepSucceeded { step, output, .. } => {
                if let Some(known) = self.steps.get_mut(step) {
                    known.output = Some(output.clone());
                }
            }
            RunEventKind::ApprovalRequested { step, from } => self.waiting.push_back((*step, *from)),
            _ => {}
        }
        let decided = decided(event);
        if !decided.is_empty() {
            // What is typed next is an answer to the first one, and to no other.
            let asked = if self.is_asked { self.waiting.pop_front() } else { None };
            self.waiting.retain(|(step, _)| !decided.contains(step));
            if let Some(asked) = asked {
                self.waiting.push_front(asked);
            }
        }
    }

    /// Hands an answer on to the run, and says what is to be asked next.
    pub(crate) fn answered(&mut self, Answer(answer): Answer, handle: &RunHandle) -> Option<String> {
        let (step, _) = self.waiting.pop_front()?;
        self.is_asked = false;
        let yes = answer.is_some_and(|answer| matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"));
        // Nothing is wrong with a yes or a no.
        let _ = handle.decide(step, if yes { Decision::Approve } else { Decision::Deny });
        self.ask()
    }

    fn ask(&mut self) -> Option<String> {
        let (step, from) = self.waiting.front().filter(|_| !self.is_asked)?;
        self.is_asked = true;
        let answers = self.answers.clone();
        // A thread of its own: a read from a terminal cannot be ended, and must not keep the command from ending.
        std::thread::spawn(move || {
            let mut line = String::new();
            let read = io::stdin().lock().read_line(&mut line);
            let answer = read.is_ok_and(|bytes| bytes > 0).then_some(line);
            // The run may be over.
            let _ = answers.unbounded_send(Answer(answer));
        });
        Some(self.question(*step, *from))
    }

    /// What would be done, with what, and whose text is in it.
    fn question(&self, step: StepNumber, from: StepNumber) -> String {
        let mut lines = vec![format!(
            " {} {} would act, and text from outside has reached it (from {}):",
            paint(style::RETRY, "?"),
            paint(style::STRONG, &text::line(self.id(step))),
            text::line(self.id(from))
        )];
        if let Some(known) = self.steps.get(&step) {
            let tool = known.definition.tool.as_deref().unwrap_or("the default tool");
            let args = known.definition.args.to_string();
            lines.push(format!("     {}  {}", text::line(tool), text::cut(&args, SHOWN_COLUMNS)));
            for (id, output) in known.dependencies.iter().filter_map(|number| self.output(*number)) {
                lines.push(format!("     {}  {}", text::line(id.as_str()), text::cut(&output, SHOWN_COLUMNS)));
            }
        }
        lines.push("   May it? [y/N]".to_owned());
        lines.join("\n")
    }

    fn id(&self, number: StepNumber) -> &str {
        self.steps.get(&number).map_or("?", |known| known.id.as_str())
    }

    fn output(&self, number: StepNumber) -> Option<(&StepId, String)> {
        let known = self.steps.get(&number)?;
        let output = match known.output.as_ref()? {
            Output::Inline(value) => format!("= {value}"),
            Output::Stored(stored) => format!("= {} ... ({} bytes)", stored.preview, stored.bytes),
            Output::Gathered(parts) => format!("= the results of {}", counted(parts.len(), "step")),
        };
        Some((&known.id, output))
    }
}

/// The steps about which an event says that they wait for nobody any more. Those that a revision drops are among them.
fn decided(event: &RunEvent) -> &[StepNumber] {
    match &event.kind {
        RunEventKind::StepApproved { step } | RunEventKind::StepFailed { step, .. } => slice::from_ref(step),
        RunEventKind::PlanAccepted { graft, .. }
        | RunEventKind::StepDrafted { graft, .. }
        | RunEventKind::StepExpanded { graft, .. } => &graft.closed,
        RunEventKind::PlanRejected { rejection, .. } => &rejection.closed,
        _ => &[],
    }
}

impl Known {
    fn new(added: &Added) -> Self {
        Self {
            id: added.id.as_ref().unwrap_or(&added.step.id).clone(),
            definition: Arc::clone(&added.step),
            dependencies: added.dependencies.to_vec(),
            output: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use plandag::{Graft, Rejection, Timestamp, Usage};
    use serde_json::{Value, from_value, json};

    use super::*;

    fn event(kind: RunEventKind) -> RunEvent {
        RunEvent { seq: 0, at: Timestamp::ZERO, kind }
    }

    fn plan(graft: Value) -> RunEvent {
        let graft: Arc<Graft> = Arc::new(from_value(graft).unwrap());
        event(RunEventKind::PlanAccepted { request: 1, revision: 1, graft, usage: Usage::default() })
    }

    /// The answer to such a question would be none.
    #[test]
    fn nobody_is_asked_about_a_step_that_was_dropped() {
        let (mut questions, _answers) = Questions::new();
        questions.can_ask = true;
        let added = ["letter", "reply", "post", "send"].map(|id| json!({ "step": { "id": id }, "dependencies": [] }));
        questions.learn(&plan(json!({ "first": 0, "added": added, "answer": "open" })));
        for step in [1, 2, 3] {
            questions.learn(&event(RunEventKind::ApprovalRequested { step, from: 0 }));
        }
        let other = plan(json!({ "first": 4, "added": [], "closed": [1], "answer": "open" }));
        let asked = questions.take(&other).unwrap();
        assert!(asked.contains("post") && !asked.contains("reply"), "{asked}");
        let rejection = Arc::new(Rejection { closed: vec![2], ..Rejection::default() });
        let rejected = event(RunEventKind::PlanRejected { request: 2, rejection, usage: Usage::default() });
        let taken_back = questions.take(&rejected).unwrap();
        assert!(taken_back.contains("about post any more; press Enter"), "{taken_back}");
    }
}
